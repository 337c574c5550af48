"""A content: one clean clip that degraded clips are made from, where it comes from, and which split it belongs to."""

import csv
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path


SECONDS = 2.4  # of a rendered content: two seconds and room for a shift
REAL_CLIPS = Path(__file__).with_name("real_clips.csv")
CHOSEN = Path(__file__).with_name("chosen.csv")
VALIDATION, TEST = 0.08, 0.12  # shares of the groups that the hash decides
COLUMNS = (
    *("content", "group", "kind", "is_real", "role", "source", "licence", "path"),
    *("width", "height", "fps", "seconds", "bits_per_pixel", "cleanliness", "dark", "split"),
)


class MissingSource(Exception):
    """A program, package or folder that a kind of content is made with is not there; the message says what to do."""


@dataclass(frozen=True)
class Content:
    """One content before it is made.

    Attributes:
        name: unique; its file is NAME.mkv.
        group: contents of one scene, film, level or photograph; a group lies in one split.
        kind: `camera`, `faces`, `game`, ... as the tables by kind name it.
        source, licence: the file or package it comes from, and the licence it is under.
        make: writes the clip to the path it is given, which ends in `.mkv`.
        is_real: a camera recorded it moving.
        role: `pristine`, or `soft`: compressed so much that a label must refer to a halved copy of it.
        cleanliness: of a real clip, judged by eye, 1 (poor) to 5.
        bits_per_pixel: of the compressed file it comes from.
        split: where something else has decided it; the split of the group otherwise.
        motion: the smallest share of frames that must differ from the one before.
    """

    name: str
    group: str
    kind: str
    source: str
    licence: str
    make: Callable[[Path], None]
    is_real: bool = False
    role: str = "pristine"
    cleanliness: int | None = None
    bits_per_pixel: float | None = None
    split: str | None = None
    motion: float = 0.9


def numbered(
    prefix: str, count: int, kind: str, source: str, licence: str, make: Callable, *given, **others
) -> list[Content]:
    """So many contents, each its own group; `make` gets the number, what else is `given`, and the path."""
    return [
        Content(f"{prefix}-{k:03d}", f"{prefix}_{k:03d}", kind, source, licence, partial(make, k, *given), **others)
        for k in range(count)
    ]


@cache
def clip_splits() -> dict[str, str]:
    """Group -> split, as decided by eye in real_clips.csv so that every split has all kinds and sizes."""
    with open(REAL_CLIPS, encoding="utf-8", newline="") as file:
        return {line["group"]: line["split"] for line in csv.DictReader(file)}


def split_of(group: str) -> str:
    """The split of a group: what real_clips.csv says, else a hash of its name, which no other group can move."""
    if group in clip_splits():
        return clip_splits()[group]
    place = int.from_bytes(hashlib.sha256(f"contents:{group}".encode()).digest()[:8]) / 2**64
    if place < TEST:
        return "test"
    return "validation" if place < TEST + VALIDATION else "train"


def chosen(source: str) -> list[str]:
    """The games, levels or scenes of a source that were looked at and kept: those on black or hardly moving were not."""
    with open(CHOSEN, encoding="utf-8", newline="") as file:
        return [line["name"] for line in csv.DictReader(file) if line["source"] == source]
