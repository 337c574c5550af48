"""Varies the training clips where quality stays as it is: mirrored, some frames later, cropped by some pixels.

`python -m recipes.default.vary_clips --clips ROWS [ROWS ...] --out DIR` writes a varied copy of each training clip to
DIR/clips and their rows, with the label of the original, to DIR/rows. They keep the content's name, so that
`train.py --versions_a_batch` brings a clip and its copy together and what it says of them comes to agree. Copies are
stored near-losslessly; those that are there are not made again.
"""

import os
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm
from transformers import HfArgumentParser

from lmmvqa.datasets_scripts.degraded.chain_rendering import STORE
from lmmvqa.datasets_scripts.degraded.chained_clips import COLUMNS
from lmmvqa.datasets_scripts.degraded.ffmpeg_process import encode
from lmmvqa.datasets_scripts.rows import ROW_FEATURES, load_rows, save_rows


MOST_FRAMES = 4  # left out at the beginning, at most
MOST_PIXELS = 8  # cropped in each direction, at most


@dataclass
class VaryArguments:
    clips: list[str] = field(metadata={"help": "Folders of rows of `lmmvqa prepare degraded_contents`."})
    out: str = field(metadata={"help": "Folder for varied clips and their rows."})
    share: float = field(default=1.0, metadata={"help": "Share of the training clips that get a copy."})
    seed: int = field(default=0, metadata={"help": "Of the variations, and of the clips where not all get a copy."})
    workers: int = field(default=2, metadata={"help": "FFmpeg processes at a time."})


def filters(rng: random.Random) -> str:
    """FFmpeg's filters of one variation. Sides stay even, as 4:2:0 needs them."""
    columns, rows = (2 * rng.randint(0, MOST_PIXELS // 2) for _ in range(2))
    left, top = rng.randint(0, columns), rng.randint(0, rows)
    return (
        f"trim=start_frame={rng.randint(0, MOST_FRAMES)},setpts=PTS-STARTPTS,"
        f"crop=iw-{columns}:ih-{rows}:{left}:{top}:exact=1,hflip"
    )


def vary(clip: str, output: Path, seed: int) -> None:
    """Writes one varied clip, which appears only when complete."""
    if not output.exists():
        encode(["-threads", "1", "-i", clip, "-vf", filters(random.Random(f"{seed}:{output.name}"))], output, STORE)


def main() -> None:
    (arguments,) = HfArgumentParser(VaryArguments).parse_args_into_dataclasses()
    out = Path(arguments.out)
    (out / "clips").mkdir(parents=True, exist_ok=True)
    clips = [row for folder in arguments.clips for row in load_rows(folder)["train"]]
    drawn = random.Random(arguments.seed).sample(range(len(clips)), round(arguments.share * len(clips)))
    clips = [clips[index] for index in sorted(drawn)]
    names = [f"{Path(row['video']).stem}-varied.mkv" for row in clips]
    with ThreadPoolExecutor(arguments.workers) as pool:
        outputs = (out / "clips" / name for name in names)
        tasks = pool.map(vary, (row["video"] for row in clips), outputs, [arguments.seed] * len(clips))
        for _ in tqdm(tasks, total=len(names), desc="varied", mininterval=5):
            pass
    rows = [
        {column: row[column] for column in (*ROW_FEATURES, *COLUMNS)} | {"video": os.path.join("..", "clips", name)}
        for row, name in zip(clips, names, strict=True)
    ]
    save_rows(rows, [], clips[0]["dataset"], out / "rows", COLUMNS)


if __name__ == "__main__":
    main()
