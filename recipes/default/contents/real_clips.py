"""Clips of shared/clips and shared/clips_real -> contents, cut to three seconds at most.

real_clips.csv holds what was judged by eye, one line a file: the group, the kind, the cleanliness, the split, and the
use. `whole` is clean as it is, `halved` is clean at half its size, and `soft` is not clean at any size worth having. A
file that is halved gives its full size too, as a soft content: a source that was compressed before, as uploads are.
"""

import csv
from fractions import Fraction
from functools import partial
from pathlib import Path

from lmmvqa.datasets_scripts.degraded.ffmpeg_process import encode
from lmmvqa.datasets_scripts.degraded.reference_clips import probe, segment

from .content import REAL_CLIPS, Content, MissingSource


LONGEST = 3.0  # seconds of a segment
MOST_SEGMENTS = 6
FOLDERS = ("clips", "clips_real")
LOSSLESS = ["-c:v", "libx264", "-preset", "superfast", "-qp", "0"]


def plan(shared: Path) -> list[Content]:
    """The contents of every file that real_clips.csv lists."""
    manifests = read_manifests(shared)
    with open(REAL_CLIPS, encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    missing = [line["file"] for line in lines if line["file"] not in manifests]
    if missing:
        raise MissingSource(f"{shared} lacks {len(missing)} clips, {missing[0]} first: give the folder with --shared.")
    return [content for line in lines for content in plan_clip(line, *manifests[line["file"]])]


def read_manifests(shared: Path) -> dict[str, tuple[Path, str, str]]:
    """File name -> (path, source, licence) of every clip that is there."""
    clips = {}
    for manifest in (shared / "MANIFEST.csv", *(shared / folder / "MANIFEST.csv" for folder in FOLDERS)):
        if not manifest.is_file():
            continue
        with open(manifest, encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                # the manifest of all names files from shared/ on, that of a folder from the folder on
                path = (shared if "/" in line["file"] else manifest.parent) / line["file"]
                if path.parent.name in FOLDERS and path.is_file():
                    clips[path.name] = path, line["source"], line["licence"]
    return clips


def plan_clip(line: dict[str, str], path: Path, source: str, licence: str) -> list[Content]:
    """The segments of one file, at each size that its use asks for."""
    clip = probe(path)
    count = max(1, min(MOST_SEGMENTS, int(clip.seconds // LONGEST)))
    seconds = min(LONGEST, clip.seconds)
    sizes = {"whole": [(1, "pristine")], "halved": [(2, "pristine"), (1, "soft")], "soft": [(1, "soft")]}[line["use"]]
    contents = []
    for k in range(count):
        start = round((k + 0.5) * clip.seconds / count - seconds / 2, 3)
        for divisor, role in sizes:
            size = tuple(round(side / divisor / 2) * 2 for side in (clip.width, clip.height))
            frames = round(seconds * clip.rate)
            contents.append(
                Content(
                    f"{path.name.replace('.', '_')}-{k}" + ("-soft" if role == "soft" else ""),
                    line["group"],
                    line["kind"],
                    source,
                    licence,
                    partial(cut, path, start, size, clip.rate, frames),
                    is_real=line["is_real"] == "1",
                    role=role,
                    cleanliness=int(line["cleanliness"]),
                    bits_per_pixel=round(clip.bits_per_pixel, 3),
                    motion=0.0,
                )
            )
    return contents


def cut(clip: Path, start: float, size: tuple[int, int], rate: Fraction, frames: int, output: Path) -> None:
    """Stores a segment without loss at this (width, height), at a constant frame rate."""
    encode(segment(clip, max(0.0, start), size, rate, frames), output, LOSSLESS)
