"""CPU seconds of each stage of decoding, beside FFmpeg's: where the time between `decode.py`'s two goes.

`python benchmarks/decode_stages.py FILE... --out benchmarks/results/decode_stages.json` takes the stages of each file in turns;
the least of `--repeats` rounds counts, in user and system time of all threads. Each PyAV stage has those before it in it, but
for the last three, which begin with decoded frames or tensors.
"""

import argparse
import json
import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import torch

from lmmvqa.modeling_lmmvqa import LmmVqaVideoProcessor
from lmmvqa.processing.frame_scaler_lmmvqa import FrameScaler


def ffmpeg(path: str, *filters: str) -> None:
    source = ["-nostdin", "-v", "error", "-threads", "2", "-i", path, "-an"]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), *source, *filters, "-f", "null", "-"], check=True)


def decode(path: str, kind: str, threads: int, each: Callable[[av.VideoFrame], object] = id) -> None:
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = kind, threads
        for frame in container.decode(stream):
            each(frame)


def stages(path: str, processor: LmmVqaVideoProcessor) -> dict[str, Callable[[], object]]:
    (decoded,) = processor.decode(path)
    pictures = decoded.clips.reshape(-1, *decoded.clips.shape[2:])
    clips = [[*clip] for clip in decoded.clips]
    kept = np.empty((len(pictures), 3, *pictures.shape[1:3]), np.float32)

    def normalise(into: np.ndarray) -> None:
        scale, shift = (np.float32([value] * 3)[:, None, None] for value in (1 / (255 * 0.225), 2.0))
        for picture, channels in zip(pictures, into, strict=True):
            np.multiply(picture.transpose(2, 0, 1), scale, out=channels)
            channels -= shift

    def in_place() -> None:
        together = np.empty_like(decoded.clips)
        for clip, frames in zip(together, clips, strict=True):
            np.stack(frames, out=clip)

    return {
        "FFmpeg, decoding": lambda: ffmpeg(path),
        "FFmpeg, scaling": lambda: ffmpeg(path, "-vf", "scale=224:224", "-pix_fmt", "rgb24"),
        "decoding, 3 threads": lambda: decode(path, "AUTO", 0),
        "decoding, 2 threads": lambda: decode(path, "AUTO", 2),
        "decoding, 1 thread": lambda: decode(path, "NONE", 1),
        "and scaling, 3 threads": lambda: decode(path, "AUTO", 0, FrameScaler(224)),
        "frames of both tensors": lambda: processor.decode(path),
        "putting clips together": in_place,
        "putting clips together, twice": lambda: np.stack([np.stack(clip) for clip in clips]),
        "normalising into new memory": lambda: normalise(np.empty_like(kept)),
        "normalising into kept memory": lambda: normalise(kept),
    }


def seconds() -> np.ndarray:
    usages = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([(usage.ru_utime, usage.ru_stime) for usage in usages]).sum(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", help="JSON file for the figures")
    arguments = parser.parse_args()
    processor, figures = LmmVqaVideoProcessor(), {}
    for path in arguments.files:
        functions = stages(path, processor)
        spent = {name: [] for name in functions}
        for _ in range(arguments.repeats):
            for name, function in functions.items():
                started = seconds()
                function()
                spent[name].append(seconds() - started)
        figures[Path(path).name] = {
            name: dict(zip(("user", "system"), min(times, key=sum).round(4).tolist(), strict=True))
            for name, times in spent.items()
        }
        print(path, json.dumps(figures[Path(path).name], indent=1), flush=True)
    if arguments.out:
        report = {
            "versions": {"av": av.__version__, "torch": torch.__version__, "numpy": np.__version__},
            "cores": os.cpu_count(),
            "load average": os.getloadavg()[0],
            "repeats": arguments.repeats,
            "figures": figures,
        }
        Path(arguments.out).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
