"""Folds of a rated set by content group, and the checkpoint that train.py makes of all folds but one."""

import json
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from ..datasets_scripts.degraded.chained_clips import DAMAGE_COLUMN
from ..datasets_scripts.rated_videos import COLUMNS
from ..datasets_scripts.rows import save_rows, split_by_group, video_id
from ..processing.processing_lmmvqa import LmmVqaProcessor
from .leak_check import full_name, some
from .rated_sets import EvaluatedPart, RatedSet


TRAIN_PY = Path(__file__).resolve().parents[1] / "train.py"
FOLDS_FILE = "folds.json"
LOG_FILE = "train.log"
# Of train.py, which are given it here
OWN_OPTIONS = ("--model", "--data", "--output_dir", "--export_dir", "--dry_run")


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
    path.parent.mkdir(parents=True, exist_ok=True)  # data sets may have names such as owner/name
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


def check_train_options(rated: RatedSet, start: str, options: list[str]) -> None:
    """
    Lets train.py plan what is to be trained, and writes nothing that stays.

    Args:
        start, options: as in `train_on_other_folds`.

    Raises:
        ValueError: options that are not left to the caller; or train.py refuses the options, or the set under them.
    """
    if given := [option for option in OWN_OPTIONS if option in options]:
        raise ValueError(
            f"got train_options with {', '.join(given)}, expected none that say what is trained and where"
        )
    with TemporaryDirectory() as folder:
        _save_training_rows(rated.rows, rated, Path(folder))
        failed = _train(start, Path(folder), [*options, "--dry_run"])
    if failed:
        raise ValueError(f"{failed}; mend the train_options {' '.join(options)}")


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
    _save_training_rows(part.other_folds, part, folder)
    if failed := _train(start, folder, options):
        raise ValueError(f"{failed} (all of it in {folder / LOG_FILE}); mend it and run the same command again")
    (folder / "exported").rename(checkpoint)  # only now is it complete
    return checkpoint


def _save_training_rows(rows: list[dict], of: RatedSet | EvaluatedPart, folder: Path) -> None:
    names = ("video", "mos", "dataset", "group", *DAMAGE_COLUMN)
    rows = [
        {name: row[name] for name in names if name in row} | {"split": "train", "id": video_id(row)} for row in rows
    ]
    columns = COLUMNS | (DAMAGE_COLUMN if any("damage" in row for row in rows) else {})
    save_rows(rows, [], of.dataset, folder / "rows", columns, of.mos_range)


def _train(start: str, folder: Path, options: list[str]) -> str | None:
    """Runs train.py on the rows in `folder`; returns how it failed, if it did."""
    command = [sys.executable, TRAIN_PY, "--model", start, "--data", folder / "rows", "--output_dir", folder / "run"]
    command += ["--export_dir", folder / "exported", "--save_strategy", "epoch", "--save_total_limit", "1"]
    with open(folder / LOG_FILE, "a", encoding="utf-8") as log:
        done = subprocess.run([*map(str, command), *options], stdout=log, stderr=subprocess.STDOUT)
    if not done.returncode:
        return None
    said = (folder / LOG_FILE).read_text(encoding="utf-8", errors="replace").splitlines()[-1:]
    return f"got exit status {done.returncode} of train.py, expected 0: {' '.join(said)}"
