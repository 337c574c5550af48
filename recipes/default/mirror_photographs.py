"""Mirrors the training photographs: the same opinions about twice as many pictures.

`python -m recipes.default.mirror_photographs --photographs ROWS --out DIR` writes lossless copies to DIR/pictures and
their rows, all of the training split, to DIR/rows; copies that are there are not made again.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps
from tqdm import tqdm
from transformers.hf_argparser import HfArg, HfArgumentParser

from lmmvqa.datasets_scripts.rows import ROW_FEATURES, load_rows, save_rows


@dataclass
class MirrorArguments:
    photographs: str = HfArg(help="Rows of photographs.")
    out: str = HfArg(help="Folder for mirrored pictures and their rows.")


def mirror(photograph: str, output: Path) -> None:
    """Writes a photograph mirrored left to right, as a PNG file that appears only when complete."""
    if output.exists():
        return
    part = output.with_suffix(".part")
    with Image.open(photograph) as picture:
        ImageOps.mirror(picture.convert("RGB")).save(part, "PNG", compress_level=1)
    part.replace(output)


def main() -> None:
    (arguments,) = HfArgumentParser(MirrorArguments).parse_args_into_dataclasses()
    out = Path(arguments.out)
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    photographs = list(load_rows(arguments.photographs)["train"])
    names = [f"{Path(row['video']).stem}-mirrored.png" for row in photographs]
    with ThreadPoolExecutor(2) as pool:
        tasks = pool.map(mirror, (row["video"] for row in photographs), (out / "pictures" / name for name in names))
        for _ in tqdm(tasks, total=len(names), desc="mirrored", mininterval=5):
            pass
    rows = [
        {column: row[column] for column in ROW_FEATURES} | {"video": os.path.join("..", "pictures", name)}
        for row, name in zip(photographs, names, strict=True)
    ]
    save_rows(rows, [], photographs[0]["dataset"], out / "rows")


if __name__ == "__main__":
    main()
