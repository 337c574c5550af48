"""The row every builder writes, the split by content group, and how rows are saved and loaded.

A row is `{video, mos, dataset, split, group}`: a path (never pixels), a mean opinion score on 0-100, the name of the
data set, one of `SPLITS`, and the content the item shows. A builder may add columns of its own, such as `id`, see
`video_id`.

A row that instructs has no `mos` but a conversation, `CONVERSATION_FEATURES` beside the columns above: `conversations` are
its turns {role, content}, of a user and an assistant, perhaps after one of the system; `media` are the videos and
pictures that it is about, in the order in which `VIDEO_MARK` stands for them in the user's turns. `video` is the first of
them. A row may be rated and instruct at once.
"""

import hashlib
import json
import math
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from datasets import Dataset, DatasetDict, Features, List, Value, load_from_disk

from .folder_seal import CHECKPOINT_FILES, ROWS_FILE, SEAL_FILE, check_free_of


SPLITS = ("train", "validation", "test", "test_1080p")  # the last is LSVQ's
SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
ROW_FEATURES = {
    "video": Value("string"),
    "mos": Value("float64"),
    "dataset": Value("string"),
    "split": Value("string"),
    "group": Value("string"),
}
CONVERSATION_FEATURES = {
    "media": List(Value("string")),
    "conversations": List({"role": Value("string"), "content": Value("string")}),
}
LEFT_OUT_FILE = "left_out.jsonl"
REPORT_FILE = "report.json"
PARTIAL_FOLDER = ".partial"


def split_by_group(
    groups: Iterable[str], shares: Mapping[str, float] = SHARES, seed: int = 0, strata: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Gives every content group one split, in the given shares of the groups of each stratum.

    The groups are ranked by a hash of seed and name, so neither the order they come in nor how often one is repeated
    changes anything. `strata` maps a group to its stratum; without it all groups are one stratum.

    Raises:
        ValueError: the shares do not add up to 1, or a group has no stratum.
    """
    if not math.isclose(sum(shares.values()), 1.0):
        raise ValueError(f"The shares must add up to 1, got {dict(shares)}: rescale them.")
    members: dict[str, list[str]] = {}
    for group in set(groups):
        if strata is not None and group not in strata:
            raise ValueError(f"Group {group!r} has no stratum: give one for every group, or no strata at all.")
        members.setdefault(strata[group] if strata is not None else "", []).append(group)

    splits = {}
    for names in members.values():
        names.sort(key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
        for rank, name in enumerate(names):
            edge = 0.0
            for split, share in shares.items():
                edge += share
                # half a step: one group alone goes to the largest share, not to the first one by accident
                if rank + 0.5 < edge * len(names) + 1e-9:
                    splits[name] = split
                    break
    return splits


def percent_mos(text: str, mos_range: tuple[float, float], where: str) -> float:
    """Maps a MOS linearly from `mos_range` (lowest, highest) to 0-100.

    Raises:
        ValueError: the text is not a number, or the number lies outside the range.
    """
    if len(mos_range) != 2 or not -math.inf < mos_range[0] < mos_range[1] < math.inf:
        raise ValueError(
            f"The MOS range is {mos_range}, expected two finite numbers that rise: the lowest and the highest MOS."
        )
    low, high = mos_range
    try:
        mos = float(text)
    except ValueError:
        raise ValueError(f"{where} has MOS {text!r}, expected a number: fill it in or take the line out.") from None
    if not low <= mos <= high:
        raise ValueError(f"{where} has MOS {text!r}, expected {low:g} to {high:g}: correct it or set --mos_range.")
    return 100 * (mos - low) / (high - low)


def label_mos(percent: float, mos_range: tuple[float, float]) -> float:
    """Maps a MOS from 0-100 back to the label file's scale, to six decimals."""
    low, high = mos_range
    return round(low + percent * (high - low) / 100, 6)


def video_digest(video: str) -> str:
    """SHA-256 of a file's content, as `sha256sum` prints it: what a video is known by, wherever it lies."""
    with open(video, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rows_digest(rows: Iterable[dict]) -> str:
    """Of which videos there are, in which order, with which MOS, damage and conversation; not of where they lie."""
    digest = hashlib.sha256()
    for row in rows:
        identity = [row["dataset"], row["split"], row["group"], video_id(row), row["mos"]]
        identity += [row[column] for column in ("damage", "conversations") if row.get(column)]
        digest.update(json.dumps(identity).encode() + b"\n")
    return digest.hexdigest()


def check_rows_folder(folder: str | Path, dataset: str) -> None:
    """
    Args:
        folder: where the rows of a data set are to be saved, over its earlier ones or anew.

    Raises:
        ValueError: it holds rows of another data set, a checkpoint or a run, or is a file.
    """
    folder = Path(folder)
    expected = f"a new folder or that of earlier rows of {dataset}"
    check_free_of(folder, (*CHECKPOINT_FILES, SEAL_FILE), expected)
    is_reported = all((folder / name).is_file() for name in (REPORT_FILE, LEFT_OUT_FILE))
    datasets = {report["dataset"] for report in load_report(folder)} if is_reported else set()
    if datasets - {dataset} or (not is_reported and (folder / ROWS_FILE).is_file()):
        raise ValueError(
            f"got {folder} as the folder to write, which holds rows of {', '.join(datasets) or 'an unknown data set'}, "
            f"expected {expected}"
        )


def save_rows(
    rows: list[dict],
    left_out: list[dict],
    dataset: str,
    folder: str | Path,
    extra_features: Mapping[str, Value] | None = None,
    mos_range: tuple[float, float] = (0, 100),
) -> list[dict]:
    """Saves rows as a `DatasetDict`; gives {dataset, split, n, missing, mos_min, mos_max, mos_range} of every split.

    `mos_min` and `mos_max` are on the label file's own scale, as publications state them. The ends of that scale,
    `mos_range`, are 0 and 100 in the rows.

    `left_out` names what gave no row, {file, split, reason}: it is printed to stderr, kept in `left_out.jsonl` beside
    the data and counted as `missing`. A relative `video` is relative to `folder`, so that clips and rows can be moved
    together; `load_rows` resolves it. What is returned is kept in `report.json`, for `load_report`.

    Raises:
        ValueError: there is no row at all; or as `check_rows_folder`.
    """
    check_rows_folder(folder, dataset)
    for item in left_out:
        print(f"left out: {item['file']} ({item['split']}): {item['reason']}", file=sys.stderr)
    if not rows:
        raise ValueError(f"{dataset} has no usable item and {len(left_out)} left out (listed above): check the paths.")
    features = Features({**ROW_FEATURES, **(extra_features or {})})
    table = {split: [row for row in rows if row["split"] == split] for split in SPLITS}
    # an empty split is not written: a Trainer given an empty Dataset fails late and unclearly
    data = DatasetDict({split: Dataset.from_list(part, features=features) for split, part in table.items() if part})
    reports = []
    for split, part in table.items():
        missing = sum(item["split"] == split for item in left_out)
        mos = [label_mos(row["mos"], mos_range) for row in part if row["mos"] is not None]
        if part or missing:
            reports.append(
                {
                    "dataset": dataset,
                    "split": split,
                    "n": len(part),
                    "missing": missing,
                    "mos_min": min(mos, default=None),
                    "mos_max": max(mos, default=None),
                    "mos_range": list(mos_range),
                }
            )
    texts = {
        LEFT_OUT_FILE: "".join(json.dumps(item) + "\n" for item in left_out),
        REPORT_FILE: json.dumps(reports, indent=1) + "\n",
    }
    _save_whole(data, Path(folder), texts)
    return reports


def _save_whole(data: DatasetDict, folder: Path, texts: Mapping[str, str]) -> None:
    """
    `save_to_disk`, and text files by name, in a folder that may hold other files and earlier rows.

    A process that is stopped leaves the earlier rows as they were, or a folder that does not load: `dataset_dict.json`,
    which names the splits, goes first and comes last.
    """
    partial = folder / PARTIAL_FOLDER
    shutil.rmtree(partial, ignore_errors=True)  # of one that was stopped
    data.save_to_disk(str(partial))
    for name, text in texts.items():
        (partial / name).write_text(text, encoding="utf-8")
    (folder / ROWS_FILE).unlink(missing_ok=True)
    files = [path for path in partial.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: path.name == ROWS_FILE):
        target = folder / path.relative_to(partial)
        target.parent.mkdir(exist_ok=True)
        path.replace(target)
    shutil.rmtree(partial)


def load_rows(folder: str | Path) -> DatasetDict:
    """
    Loads what `save_rows` saved, with every `video` and all `media` as absolute paths.

    Raises:
        FileNotFoundError: there is no such folder, or it holds no rows, or `save_rows` was stopped there.
        ValueError: a file of the rows is damaged.
    """
    folder = Path(folder).resolve()
    if not (folder / ROWS_FILE).is_file():
        raise FileNotFoundError(
            f"got {folder} without {ROWS_FILE}, expected a folder of rows that `lmmvqa prepare` finished "
            "writing; prepare the data set there, once more where it was stopped"
        )

    def with_absolute_paths(row: dict) -> dict:
        paths = {"video": str((folder / row["video"]).resolve())}
        if row.get("media"):
            paths["media"] = [str((folder / file).resolve()) for file in row["media"]]
        return paths

    with _damage_named(folder):
        # in memory: a cache file written beside the data would fail on a read-only folder
        return load_from_disk(str(folder)).map(with_absolute_paths, keep_in_memory=True)


def load_report(folder: str | Path) -> list[dict]:
    """What `save_rows` returned: the counts, the label file's scale and what was left out, a split each.

    Raises:
        ValueError: the folder has none, or it is damaged.
    """
    path = Path(folder) / REPORT_FILE
    if not path.is_file():
        raise ValueError(f"{folder} has no {REPORT_FILE}, which `lmmvqa prepare` writes: prepare the data set again.")
    with _damage_named(folder):
        return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def _damage_named(folder: str | Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(
            f"got rows in {folder} that are damaged or cut, expected those that `lmmvqa prepare` wrote; remove the folder and "
            f"prepare the data set again: {error}"
        ) from error


def video_id(row: dict) -> str:
    """The name that a data set gives a video, on every machine: its `id`, or the file's name without suffix."""
    return row.get("id") or Path(row["video"]).stem


def row_media(row: dict) -> list[str]:
    """All videos and pictures of a row, in order."""
    return row.get("media") or [row["video"]]
