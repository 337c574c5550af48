"""Degradation chains to clips, by FFmpeg."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from .chain_steps import KINDS, TIME_KINDS
from .ffmpeg_process import encode


STORE = ["-c:v", "libx264", "-preset", "superfast", "-crf", "10"]  # a chain whose last step is no codec
PRISTINE = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "6"]


@dataclass(frozen=True)
class Source:
    """What a chain begins from: `frames` frames of a file from `first` on, at (width, height) and `rate`."""

    path: Path
    first: int
    frames: int
    size: tuple[int, int]
    rate: Fraction

    @property
    def cut(self) -> list[str]:
        return [f"trim=start_frame={self.first}:end_frame={self.first + self.frames},setpts=PTS-STARTPTS"]


def filters_of(a_step: dict, source: Source, size: tuple[int, int]) -> str:
    """The FFmpeg filters of a step that is no codec, on frames of (width, height) `size`."""
    fields = dict(a_step) | {"width": size[0], "height": size[1], "rate": source.rate, "frames": source.frames}
    kind = a_step["kind"]
    if kind in TIME_KINDS:
        fields["kept"] = kept_frames(a_step, source.frames, float(source.rate))
    elif kind == "shake":
        turn = 2 * math.pi * a_step["hertz"] / float(source.rate)
        fields |= {
            "pixels": max(2, 2 * round(a_step["value"] * min(size) / 2)),
            "slow": round(turn, 4),
            "fast": round(2.3 * turn, 4),
            "phase_y": round(a_step["phase"] + 1.7, 2),
        }
    return KINDS[kind].filters.format(**fields)


def kept_frames(a_step: dict, frames: int, rate: float) -> str:
    """The frames that a step in time shows, as an expression of FFmpeg's `select`; the others show the one before."""
    kind, value = a_step["kind"], a_step["value"]
    if kind == "stutter":
        return f"not(mod(n,{max(2, round(value * rate))}))"
    if kind == "freeze":
        frozen = min(frames, max(2, round(value * frames)))
        first = round(a_step["start"] * (frames - frozen))
        return f"not(between(n,{first + 1},{first + frozen - 1}))"
    # drop: of every second group of frames the first alone is shown
    group = a_step.get("group") or max(2, round(value * rate))
    shift = 0 if "group" in a_step else round(a_step["start"] * 2 * group)
    return f"not(n)+lte(mod(n+{shift},{2 * group}),{group})"


def plan_passes(chain: Iterable[dict], source: Source, display: tuple[int, int]) -> list[tuple[list[str], list[str]]]:
    """FFmpeg's runs for a chain, each as (filters, encoder): a codec ends a run."""
    passes, filters, size = [], list(source.cut), source.size
    for a_step in chain:
        kind = KINDS[a_step["kind"]]
        if kind.encoder is None:
            size = display if a_step["kind"] == "shrink" else size
            filters.append(filters_of(a_step, source, size))
            continue
        smaller = a_step.get("smaller", 1)
        coded = tuple(max(16, round(side / smaller / 2) * 2) for side in size)
        if coded != size:
            filters.append(f"scale={coded[0]}:{coded[1]}:flags=area")
        bitrate = max(1000, round(a_step["value"] * coded[0] * coded[1] * source.rate))
        passes.append((filters, kind.encoder.format(**a_step, bitrate=bitrate).split()))
        filters = [f"scale={size[0]}:{size[1]}:flags=bicubic"] if coded != size else []
    if filters or not passes:
        passes.append((filters, STORE))
    return passes


def render(chain: Iterable[dict], source: Source, display: tuple[int, int], output: Path) -> None:
    """Writes the clip that a chain makes of a source, at the display's size; it appears only when complete.

    A codec that ends the chain keeps its own bitstream; else the clip is stored near-losslessly.

    Raises:
        RuntimeError: FFmpeg failed.
    """
    passes = plan_passes(chain, source, display)
    before = source.path
    for k, (filters, encoder) in enumerate(passes):
        last = k == len(passes) - 1
        target = output if last else output.with_suffix(f".{k}.mkv")
        encode(["-threads", "1", "-i", str(before), "-vf", ",".join(filters) or "null"], target, encoder)
        if before != source.path:
            before.unlink()
        before = target
