"""Time and memory of scoring short and long videos with the embedded default.

`python benchmarks/long_video.py --out benchmarks/results/long_video_720p.json` writes clips of noise and motion, of 10
seconds, 20 minutes and an hour, and scores each in a process of its own. `decoded` is the memory that the pixels of the whole video would take,
which scoring never holds at once: the peak is of the whole process, PyTorch and weights included.

`--features` leaves out decoding and towers, which hold one portion at a time: blank portions of as many seconds go the way
of every other, with random features in place of the towers'. It is what memory grows by, for a tenth of the time.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
import transformers


FPS = 30
# Of long clips: their packets come again and again, since encoding an hour takes longer than scoring it
ENCODED_SECONDS = 10


def write_clip(path: Path, seconds: int, fps: int, width: int, height: int) -> None:
    rng = np.random.default_rng(0)
    pictures = [
        av.VideoFrame.from_ndarray(rng.integers(0, 256, (height, width, 3), np.uint8), "rgb24") for _ in range(7)
    ]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=fps, options={"preset": "ultrafast", "crf": "40", "threads": "1"}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        packets = []
        for index in range(min(seconds, ENCODED_SECONDS) * fps):
            frame = pictures[index % 7]
            frame.pts, frame.time_base = index, Fraction(1, fps)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for index in range(seconds * fps):
            packet = packets[index % len(packets)]
            packet.time_base = Fraction(1, fps)  # muxing changes it
            packet.pts = packet.dts = index  # ultrafast has no B-frames
            packet.duration = 1
            container.mux(packet)


def peak() -> int:
    """Kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def random_features(scorer, seconds: int):
    """An encoded video, put together of portions as scoring does."""
    from lmmvqa.processing.video_processing_lmmvqa import PORTION

    model, video_processor = scorer.model.model, scorer.processor.video_processor
    (blank,) = video_processor.decode([np.zeros((FPS * min(seconds, PORTION), 90, 160, 3), np.uint8)], fps=FPS)
    pixels = video_processor(blank.part(0, 1))
    vision = model.encode_key_frames(pixels["pixel_values"]).shape[1:]
    temporal = model.encode_chunks(
        *(pixels[name] for name in ("pixel_values_videos", "num_clips", "num_frames"))
    ).shape[1:]
    model.encode_key_frames = lambda frames: torch.randn(len(frames) // model.config.key_frame_views, *vision)
    model.encode_chunks = lambda clips, num_clips, num_frames: torch.randn(len(num_clips), *temporal)
    parts = []
    for first in range(0, seconds, PORTION):
        chunks = np.arange(first, min(first + PORTION, seconds))
        portion = replace(blank.part(0, len(chunks)), seconds=chunks)
        parts.append(video_processor.encode_portion(portion, scorer.model))
    return video_processor.join_portions(parts)


def score(path: str, seconds: int | None) -> dict:
    """In a process of its own: its peak memory is that of this one video, or of features of so many seconds."""
    from lmmvqa.scoring.scorer import load_scorer

    scorer = load_scorer(device="cpu")
    before = peak()
    start, cpu_start = time.perf_counter(), time.process_time()
    video = path if seconds is None else random_features(scorer, seconds)
    joined = peak()
    result = scorer(video)
    wall, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return {
        "score": round(result["score"], 3),
        "windows": len(result["windows"] or []),
        "seconds": round(wall, 1),
        "CPU seconds": round(cpu_seconds, 1),
        "MB before": round(before / 1024),
        **({} if seconds is None else {"MB with features": round(joined / 1024)}),
        "MB at the peak": round(peak() / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, nargs="+", default=[10, 1200, 3600])
    parser.add_argument("--size", type=int, nargs=2, default=[1280, 720], metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--fps", type=int, default=FPS, help="frames a second")
    parser.add_argument("--out", help="JSON file for the figures")
    parser.add_argument("--features", action="store_true", help="random features in place of clips")
    parser.add_argument("--score", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.score:
        print(json.dumps(score(arguments.score, arguments.seconds[0] if arguments.features else None)))
        return
    from transformers import AutoProcessor

    import lmmvqa.modeling_lmmvqa  # noqa: F401, the Auto classes know it
    from lmmvqa.scoring.scorer import default_checkpoint

    pixels = AutoProcessor.from_pretrained(default_checkpoint()).video_processor
    decoded = 3 * (pixels.key_frame_size**2 + pixels.chunk_frames * pixels.chunk_size**2)  # bytes a second
    figures = {}
    for seconds in arguments.seconds:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--score", str(Path(folder) / "clip.mp4")]
            if arguments.features:
                command += ["--features", "--seconds", str(seconds)]
            else:
                write_clip(Path(folder) / "clip.mp4", seconds, arguments.fps, *arguments.size)
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        figures[f"{seconds} s"] = {"MB decoded": round(seconds * decoded / 2**20), **json.loads(done.stdout)}
        print(seconds, "s", json.dumps(figures[f"{seconds} s"]), flush=True)
    if arguments.out:
        report = {
            "model": "embedded default",
            "clips": "random features"
            if arguments.features
            else f"{arguments.size[0]}x{arguments.size[1]}, {arguments.fps} frames a second, H.264",
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "figures": figures,
        }
        Path(arguments.out).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
