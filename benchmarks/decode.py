"""Time of decoding for the model, beside FFmpeg's own and that of other decoders.

`python benchmarks/decode.py FILE... --out benchmarks/results/decode.json` prints a JSON line a file. `ours_s` is both
tensors in the paper's setting (key frames and every frame of every second at 224 x 224, normalised), `frames_s` of that what
comes before normalisation, `default_s` both tensors as the embedded default takes them, `ffmpeg_s` what `ffmpeg -threads N -vf
scale=224:224 -pix_fmt rgb24 -f null -` (imageio-ffmpeg) takes, with the start of its process. They take turns, and the
least wall time of `--repeats` rounds counts; `cpu` has the least CPU seconds of all threads, which other processes on the
machine lengthen less. `ratio` is ours_s / ffmpeg_s, `cpu_ratio` the same of CPU seconds.

`--peers` adds OpenCV, decord and torchcodec where they are installed: every frame at 224 x 224 in RGB. `failures` says which of
them could not read the file: fewer frames than there are, or an error.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import av
import imageio_ffmpeg
import torch

from lmmvqa.modeling_lmmvqa import LmmVqaVideoProcessor
from lmmvqa.scoring.scorer import default_checkpoint


SIZE = 224


def opencv(path: str) -> int:
    import cv2

    capture, num_frames = cv2.VideoCapture(path), 0
    while True:
        is_there, frame = capture.read()
        if not is_there:
            return num_frames
        cv2.cvtColor(cv2.resize(frame, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC), cv2.COLOR_BGR2RGB)
        num_frames += 1


def decord(path: str) -> int:
    from decord import VideoReader

    return sum(1 for frame in VideoReader(path, width=SIZE, height=SIZE) if frame.asnumpy().size)


def torchcodec(path: str) -> int:
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    return sum(1 for _ in VideoDecoder(path, num_ffmpeg_threads=0, transforms=[Resize((SIZE, SIZE))]))


def failure(decode: Callable[[str], int], path: str, num_frames: int) -> str | None:
    """Why a peer is not measured on a file."""
    try:
        count = decode(path)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return None if count == num_frames else f"it gives {count} of {num_frames} frames"


PEERS = {"cv2": opencv, "decord": decord, "torchcodec": torchcodec}


def ffmpeg(path: str, threads: int) -> None:
    source = ["-threads", str(threads), "-i", path, "-an"]
    scale = ["-vf", f"scale={SIZE}:{SIZE}", "-pix_fmt", "rgb24", "-f", "null", "-"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", *source, *scale]
    subprocess.run(command, check=True)


def cpu_seconds() -> float:
    usages = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(functions: dict[str, Callable[[], None]], repeats: int) -> tuple[dict, dict]:
    """Least wall and CPU seconds of each, in turn."""
    wall, cpu = ({name: [] for name in functions} for _ in range(2))
    for _ in range(repeats):
        for name, function in functions.items():
            started, cpu_started = time.perf_counter(), cpu_seconds()
            function()
            wall[name].append(time.perf_counter() - started)
            cpu[name].append(cpu_seconds() - cpu_started)
    return tuple({name: round(min(times), 3) for name, times in of.items()} for of in (wall, cpu))


def facts(path: str) -> dict:
    with av.open(path) as container:
        stream = container.streams.video[0]
        context, num_frames = stream.codec_context, sum(1 for _ in container.decode(stream))
        names = {"width": context.width, "height": context.height, "codec": context.name}
        return {"file": Path(path).name, **names, "fps": float(stream.average_rate), "frames": num_frames}


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of FFmpeg (default: as many as cores)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", action="store_true", help="other decoders too, where they are installed")
    parser.add_argument("--out", help="JSON file for the figures")
    arguments = parser.parse_args()
    paper, default = LmmVqaVideoProcessor(), LmmVqaVideoProcessor.from_pretrained(default_checkpoint())
    peers = {name: decode for name, decode in PEERS.items() if arguments.peers and find_spec(name)}
    lines = []
    for path in arguments.files:
        line = facts(path)
        failures = {name: failure(decode, path, line["frames"]) for name, decode in peers.items()}
        functions = {
            "ours": lambda: paper(path),  # noqa: B023, called before the loop goes on
            "ffmpeg": lambda: ffmpeg(path, arguments.threads),  # noqa: B023
            "frames": lambda: paper.decode(path),  # noqa: B023
            "default": lambda: default(path),  # noqa: B023
            **{name: lambda decode=peers[name]: decode(path) for name in peers if not failures[name]},  # noqa: B023
        }
        wall, cpu = measure(functions, arguments.repeats)
        ratios = {"ratio": wall["ours"] / wall["ffmpeg"], "cpu_ratio": cpu["ours"] / cpu["ffmpeg"]}
        line |= {f"{name}_s": seconds for name, seconds in wall.items()}
        line |= {name: round(ratio, 2) for name, ratio in ratios.items()} | {"cpu": cpu}
        if any(failures.values()):
            line["failures"] = {name: reason for name, reason in failures.items() if reason}
        lines.append(line)
        print(json.dumps(line), flush=True)
    if arguments.out:
        packages = ("av", "torch", "numpy", "imageio-ffmpeg", "opencv-python-headless", "decord", "torchcodec")
        report = {
            "versions": {name: version for name in packages if (version := installed(name))},
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "threads": {"ffmpeg": arguments.threads, "torch": torch.get_num_threads()},
            "load average": os.getloadavg()[0],
            "repeats": arguments.repeats,
            "files": lines,
        }
        Path(arguments.out).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
