"""Folds of a rated set by content group, and the checkpoint that train.py makes of all folds but one."""

import json
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..datasets_scripts.degraded.chained_clips import DAMAGE_COLUMN
from ..datasets_scripts.rated_videos import COLUMNS
from ..datasets_scripts.rows import save_rows, split_by_group, video_id
from ..processing.processing_lmmvqa import LmmVqaProcessor
from .leak_check import full_name, some
from .rated_sets import EvaluatedPart


TRAIN_PY = Path(__file__).resolve().parents[1] / "train.py"
FOLDS_FILE = "folds.json"


def assign_folds(rows: list[dict], num_folds: int, seed: int) -> list[int]:
    """
    The fold of each row: all of one group in one fold, groups drawn by seed, whatever order they come in.

    Raises:
        ValueError: there are fewer groups than folds.
    """
    groups = {row["group"] for row in rows}
    if num_folds < 2 or len(groups) < num_folds:
        raise ValueError(
            f"got {num_folds} folds for {len(groups)} content groups, expected 2 folds or more, and a group for each"
        )
    fold_of = split_by_group(groups, {str(fold): 1 / num_folds for fold in range(num_folds)}, seed)
    return [int(fold_of[row["group"]]) for row in rows]


def write_folds(path: Path, rows: list[dict], folds: list[int], seed: int) -> None:
    """Ids of the videos of each fold, and where they stand among the rows."""
    members = defaultdict(lambda: {"indices": [], "ids": []})
    for index, (row, fold) in enumerate(zip(rows, folds, strict=True)):
        members[fold]["indices"].append(index)
        members[fold]["ids"].append(video_id(row))
    path.parent.mkdir(exist_ok=True)
    content = {"seed": seed, "folds": [members[fold] for fold in sorted(members)]}
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def shared_between_folds(rows: list[dict], digest_of: dict[str, str | None], folds: list[int]) -> list[str]:
    """
    Videos whose content, byte by byte, stands in another fold too: trained on and tested.

    Args:
        digest_of: of each video's content; None where it cannot be read.
    """
    folds_of = defaultdict(set)
    for row, fold in zip(rows, folds, strict=True):
        folds_of[digest_of[row["video"]]].add(fold)
    digests = [(row, digest_of[row["video"]]) for row in rows]
    return [full_name(row) for row, digest in digests if digest and len(folds_of[digest]) > 1]


def refuse_shared(shared: list[str]) -> None:
    """
    Raises:
        ValueError: the same content stands in several folds.
    """
    if shared:
        raise ValueError(
            f"got {len(shared)} videos whose file is the same as one of another fold ({some(shared)}), expected "
            "equal files in one group; give them one group, or --allow_training_videos"
        )


def readable(rows: list[dict], processor: LmmVqaProcessor) -> list[bool]:
    """Whether each video can be decoded; train.py stops at one that cannot."""

    def is_readable(row: dict) -> bool:
        try:
            processor.video_processor.decode_portions(row["video"], lambda decoded: None)
        except Exception:  # it is a failed row of its own fold, which says why
            return False
        return True

    with ThreadPoolExecutor() as pool:
        return list(pool.map(is_readable, rows))


def train_on_other_folds(part: EvaluatedPart, start: str, folder: Path, options: list[str]) -> Path:
    """
    Runs train.py, its output in `folder`/train.log, and returns the complete checkpoint. What is there already is not
    trained again; a run that was stopped goes on.

    Args:
        start: checkpoint to train from.
        options: of train.py, beside model, data and folders. By default it saves once an epoch, to be resumed.

    Raises:
        ValueError: train.py stopped with an error.
    """
    checkpoint = folder / "checkpoint"
    if checkpoint.is_dir():
        return checkpoint
    names = ("video", "mos", "dataset", "group", *DAMAGE_COLUMN)
    rows = [
        {name: row[name] for name in names if name in row} | {"split": "train", "id": video_id(row)}
        for row in part.other_folds
    ]
    columns = COLUMNS | (DAMAGE_COLUMN if any("damage" in row for row in rows) else {})
    save_rows(rows, [], part.dataset, folder / "rows", columns, part.mos_range)
    exported = folder / "exported"
    command = [sys.executable, TRAIN_PY, "--model", start, "--data", folder / "rows", "--output_dir", folder / "run"]
    command += ["--export_dir", exported, "--save_strategy", "epoch", "--save_total_limit", "1"]
    with open(folder / "train.log", "a", encoding="utf-8") as log:
        done = subprocess.run([*map(str, command), *options], stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        last = (folder / "train.log").read_text(encoding="utf-8", errors="replace").splitlines()[-1:]
        raise ValueError(
            f"got exit status {done.returncode} of train.py, expected 0: {' '.join(last)} (all of it in "
            f"{folder / 'train.log'}); mend it and run the same command again"
        )
    exported.rename(checkpoint)  # only now is it complete
    return checkpoint
