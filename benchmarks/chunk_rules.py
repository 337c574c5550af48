"""What the temporal tower makes of seconds with more frames than a chunk: four rules compared.

    python benchmarks/chunk_rules.py --clips ../shared/clips --out benchmarks/results/chunk_rules.json

- `first`: the first `chunk_frames` frames, the rest unseen (SimpleVQA and its kin).
- `whole`: all N frames of the second in one clip; the tower is convolutional and pools over time.
- `interleaved`: C = ceil(N / chunk_frames) clips, clip j of the frames j, j + C, j + 2C ...; their features' mean, weighted by
  frames.
- `interleaved, 2^k`: the same with C rounded up to a power of two.

For the embedded default's tower (mosaics of 112 pixels, chunks of 24 frames as it was trained, and of 32) and for a SlowFast
R50 of random weights (224 pixels, 32 frames, three clips), over the first two seconds of each clip: by how much the second's
features move, ||new - old|| / ||old||, when every frame is doubled, and when a clip of 60 frames a second loses every second
one; beside how far one second of a clip is from its next. And the CPU time of one second of 24 to 120 frames, on one thread.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import av
import numpy as np
import torch
from torch import nn

from lmmvqa.modeling_lmmvqa import LmmVqaSlowFastConfig, LmmVqaSlowFastModel
from lmmvqa.processing.frame_scaler_lmmvqa import FrameScaler
from lmmvqa.scoring.scorer import load_scorer


# Of 23.976 to 30 frames a second, then of 60
CLIPS = [
    "scikitvideo__carphone_pristine.mp4",
    "psychopy__testMovie.mp4",
    "gradio__b.mp4",
    "shared-assets__bug_video_640.mp4",
    "scikitvideo__bikes.mp4",
    "shared-assets__friday.mp4",
    "sam2__bedroom.mp4",
    "shared-assets__flower.mp4",
    "scikitvideo__bigbuckbunny.mp4",
    "moviepy__example2.mp4",
]
CLIPS_60 = ["gen__gaming_freedoom2_map11_360p60.webm", "exoplayer__sample_with_increasing_timestamps_320w_240h.mp4"]
# So many of the first, for the tower that takes a second a chunk
R50_CLIPS = 3
RATES = (24, 25, 30, 60, 120)

# (clips, frames, size, size, 3) uint8, and how many frames of each clip are its own, to (clips, feature_size)
Tower = Callable[[np.ndarray, list[int] | None], torch.Tensor]


def filled_up(frames: np.ndarray, length: int) -> np.ndarray:
    return np.concatenate([frames, frames[-1:].repeat(length - len(frames), axis=0)])


def first(tower: Tower, frames: np.ndarray, chunk_frames: int) -> torch.Tensor:
    return tower(filled_up(frames[:chunk_frames], chunk_frames)[None], None)[0]


def whole(tower: Tower, frames: np.ndarray, chunk_frames: int) -> torch.Tensor:
    return tower(frames[None], None)[0]


def in_clips(tower: Tower, frames: np.ndarray, chunk_frames: int, count: int) -> torch.Tensor:
    """As `DecodedVideo` holds clips and `LmmVqaModel.encode_chunks` averages them."""
    clips = [frames[start::count] for start in range(count)]
    lengths = [len(clip) for clip in clips]
    features = tower(np.stack([filled_up(clip, chunk_frames) for clip in clips]), lengths)
    return (features * torch.tensor(lengths)[:, None]).sum(0) / len(frames)


def interleaved(tower: Tower, frames: np.ndarray, chunk_frames: int) -> torch.Tensor:
    return in_clips(tower, frames, chunk_frames, math.ceil(len(frames) / chunk_frames))


def interleaved_by_powers(tower: Tower, frames: np.ndarray, chunk_frames: int) -> torch.Tensor:
    return in_clips(tower, frames, chunk_frames, 2 ** math.ceil(math.log2(max(1, len(frames) / chunk_frames))))


RULES = {"first": first, "whole": whole, "interleaved": interleaved, "interleaved, 2^k": interleaved_by_powers}


def features_of(model: nn.Module) -> Tower:
    @torch.no_grad()
    def tower(clips: np.ndarray, num_frames: list[int] | None) -> torch.Tensor:
        pixels = (torch.from_numpy(clips).movedim(-1, 2).float() / 255 - 0.45) / 0.225
        own = None if num_frames is None else torch.tensor(num_frames)
        return model(pixels, num_frames=own).pooler_output

    return tower


def two_seconds(path: Path, scale: FrameScaler) -> list[np.ndarray]:
    """The frames of the first two seconds, (frames, size, size, 3) uint8 each."""
    seconds = [[], []]
    with av.open(str(path)) as read:
        start = None
        for frame in read.decode(video=0):
            start = frame.time if start is None else start
            if frame.time - start >= 2:
                break
            seconds[int(frame.time - start + 1e-6)].append(scale(frame))
    return [np.stack(frames) for frames in seconds]


def change(new: torch.Tensor, old: torch.Tensor) -> float:
    return float((new - old).norm() / old.norm())


def changes(rule: Callable, tower: Tower, chunk_frames: int, slow: list, fast: list) -> dict:
    """Relative changes of features, mean and largest over seconds."""

    def features(frames: np.ndarray) -> torch.Tensor:
        return rule(tower, frames, chunk_frames)

    moved = {"frames doubled": [], "60 halved": [], "next second": []}
    for one, other in slow:
        before = features(one)
        moved["frames doubled"].append(change(features(one.repeat(2, axis=0)), before))
        moved["next second"].append(change(features(other), before))
    moved["60 halved"] = [change(features(frames[::2]), features(frames)) for seconds in fast for frames in seconds]
    return {name: {"mean": statistics.mean(values), "largest": max(values)} for name, values in moved.items()}


def cpu_seconds(rule: Callable, tower: Tower, chunk_frames: int, frames: np.ndarray, repeats: int) -> dict[int, float]:
    """Least of some repeats, by frames a second."""
    seconds = {}
    for rate in RATES:
        of_rate = frames[np.arange(rate) % len(frames)]
        times = []
        for _ in range(repeats):
            start = time.process_time()
            rule(tower, of_rate, chunk_frames)
            times.append(time.process_time() - start)
        seconds[rate] = round(min(times), 3)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, default=Path("../shared/clips"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    scorer = load_scorer(device="cpu")
    pixels = scorer.processor.video_processor
    default = (scorer.model.model.temporal_tower, FrameScaler(pixels.chunk_size, pixels.chunk_fragments))
    r50 = (LmmVqaSlowFastModel(LmmVqaSlowFastConfig()).eval(), FrameScaler(224))
    runs = {
        f"embedded default, {pixels.chunk_frames} frames": (*default, pixels.chunk_frames, CLIPS),
        "embedded default, 32 frames": (*default, 32, CLIPS),
        "SlowFast R50 of random weights, 32 frames": (*r50, 32, CLIPS[:R50_CLIPS]),
    }
    figures = {}
    for name, (model, scale, chunk_frames, clips) in runs.items():
        tower = features_of(model)
        slow = [two_seconds(arguments.clips / clip, scale) for clip in clips]
        fast = [two_seconds(arguments.clips / clip, scale) for clip in CLIPS_60]
        figures[name] = {}
        for rule_name, rule in RULES.items():
            figures[name][rule_name] = {
                **changes(rule, tower, chunk_frames, slow, fast),
                "CPU seconds": cpu_seconds(rule, tower, chunk_frames, slow[0][0], arguments.repeats),
            }
            print(name, rule_name, json.dumps(figures[name][rule_name]), file=sys.stderr, flush=True)
    report = {
        "command": " ".join(["python", *sys.argv]),
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "clips": CLIPS + CLIPS_60,
        "figures": figures,
    }
    print(json.dumps(report, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
