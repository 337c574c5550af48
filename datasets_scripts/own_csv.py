"""Your own rated videos, a CSV `video,mos` with optional `split` and `group` -> rated videos."""

import os
from pathlib import Path

from .label_files import read_labels
from .rated_videos import RatedVideo
from .rows import SPLITS, split_by_group


def read_videos(labels: str | Path, seed: int = 0) -> list[RatedVideo]:
    """All videos, in the splits that the CSV gives; without a column `split`, 70 % train, 10 % validation, 20 % test.

    Raises:
        ValueError: a split is unknown, or a group has two splits.
    """
    lines = read_labels(labels)
    for line in lines:
        line["name"] = os.path.normpath(line["name"])
        line["group"] = line.get("group") or line["name"]
    if "split" in lines[0]:
        splits = _given_splits(lines, labels)
    else:
        splits = split_by_group((line["group"] for line in lines), seed=seed)
    return [RatedVideo((line["name"],), line["mos"], splits[line["group"]], line["group"]) for line in lines]


def _given_splits(lines: list[dict], labels: str | Path) -> dict[str, str]:
    splits: dict[str, str] = {}
    for line in lines:
        group, split = line["group"], line["split"]
        if split not in SPLITS:
            raise ValueError(f"{labels} puts {line['name']} in split {split!r}, expected one of {SPLITS}: rename it.")
        if splits.setdefault(group, split) != split:
            raise ValueError(
                f"{labels} has group {group!r} in {splits[group]} and in {split}: "
                "put a group in one split, or the test knows the content."
            )
    return splits
