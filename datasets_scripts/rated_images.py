"""Rated photographs on disk (a CSV `file,mos` and a folder) -> rows; every photograph is its own content group."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from transformers import HfArgumentParser

from .rows import percent_mos, read_csv, save_rows, split_by_group


@dataclass
class RatedImagesArguments:
    mos_csv: str = field(metadata={"help": "CSV with the columns file and mos."})
    images: str = field(metadata={"help": "Folder that holds the files."})
    out: str = field(metadata={"help": "Folder the rows are saved to."})
    mos_range: list[float] = field(default_factory=lambda: [0.0, 100.0], metadata={"help": "Lowest and highest MOS."})
    name: str = field(default="rated_images", metadata={"help": "The name in the column `dataset`."})
    seed: int = field(default=0, metadata={"help": "Of the split."})


def read_image_mos(mos_csv: str | Path, mos_range: tuple[float, float]) -> dict[str, float]:
    """File name -> MOS on 0-100.

    Raises:
        ValueError: a MOS lies outside the range, or a file is listed twice.
    """
    table = read_csv(mos_csv, required=("file", "mos"))
    mos = {line["file"]: percent_mos(line["mos"], mos_range, f"{mos_csv}: {line['file']}") for line in table}
    if len(mos) < len(table):
        raise ValueError(f"{mos_csv} has {len(table)} lines for {len(mos)} files: keep one line for each file.")
    return mos


def split_images(files: Iterable[str], seed: int = 0) -> dict[str, str]:
    """File name -> split. The one place that splits photographs: pans over them must follow it.

    Stratified over the name before the first underscore, which in the usual sets names the collection: collections
    differ so much in quality that an unlucky draw would move every figure.
    """
    files = list(files)
    return split_by_group(files, seed=seed, strata={file: file.split("_")[0] for file in files})


def build_rows(
    mos_csv: str | Path, images: str | Path, mos_range: tuple[float, float], name: str, seed: int
) -> tuple[list[dict], list[dict]]:
    """Gives the rows, and what is left out as {file, split, reason}."""
    mos = read_image_mos(mos_csv, mos_range)
    # all listed files are split, present or not: a file that comes back later moves no other
    splits = split_images(mos, seed)
    rows, left_out = [], []
    for file in sorted(mos):
        path = Path(images).resolve() / file
        reason = why_unreadable(path)
        if reason:
            left_out.append({"file": str(path), "split": splits[file], "reason": reason})
        else:
            row = {"video": str(path), "mos": mos[file], "dataset": name, "split": splits[file], "group": file}
            rows.append(row)
    return rows, left_out


def why_unreadable(path: Path) -> str | None:
    """Says why a file is no image, or None."""
    if not path.is_file():
        return "no such file"
    try:
        with Image.open(path) as image:
            image.verify()
    except (UnidentifiedImageError, OSError, SyntaxError) as error:  # what PIL raises for a broken file
        return f"not an image: {error}"
    return None


def main() -> None:
    (arguments,) = HfArgumentParser(RatedImagesArguments).parse_args_into_dataclasses()
    rows, left_out = build_rows(
        arguments.mos_csv, arguments.images, tuple(arguments.mos_range), arguments.name, arguments.seed
    )
    for report in save_rows(rows, left_out, arguments.name, arguments.out):
        print(json.dumps(report))


if __name__ == "__main__":
    main()
