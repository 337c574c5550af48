"""Rated photographs (a CSV `file,mos`) -> rated videos of one frame; every photograph is its own content group."""

from collections.abc import Iterable
from pathlib import Path

from .label_files import read_labels
from .rated_videos import RatedVideo
from .rows import percent_mos, split_by_group


def read_videos(labels: str | Path, seed: int = 0) -> list[RatedVideo]:
    """All photographs, sorted by name.

    Raises:
        ValueError: a file is listed twice.
    """
    mos = _read_mos(labels)
    # all listed files are split, present or not: a file that comes back later moves no other
    splits = split_images(mos, seed)
    return [RatedVideo((file,), mos[file], splits[file], file) for file in sorted(mos)]


def read_image_mos(labels: str | Path, mos_range: tuple[float, float]) -> dict[str, float]:
    """File name -> MOS on 0-100.

    Raises:
        ValueError: a MOS lies outside the range, or a file is listed twice.
    """
    return {file: percent_mos(mos, mos_range, f"{labels}: {file}") for file, mos in _read_mos(labels).items()}


def split_images(files: Iterable[str], seed: int = 0) -> dict[str, str]:
    """File name -> split. The one place that splits photographs: pans over them must follow it.

    Stratified over the name before the first underscore, which in the usual sets names the collection: collections
    differ so much in quality that an unlucky draw would move every figure. Names without underscore are one collection.
    """
    files = list(files)
    return split_by_group(files, seed=seed, strata={file: file[: max(file.find("_"), 0)] for file in files})


def _read_mos(labels: str | Path) -> dict[str, str]:
    lines = read_labels(labels)
    mos = {line["name"]: line["mos"] for line in lines}
    if len(mos) < len(lines):
        raise ValueError(f"{labels} has {len(lines)} lines for {len(mos)} files: keep one line for each file.")
    return mos
