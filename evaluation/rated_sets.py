"""Folders of rows -> rated sets, and the part of each that a protocol evaluates."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..datasets_scripts.rows import SPLITS, load_report, load_rows


TEST_SPLITS = ("test", "test_1080p")
# Its test parts are columns of every published table, also of models that never saw its train part
LSVQ = "lsvq"


@dataclass
class RatedSet:
    """
    Attributes:
        rows: of all splits.
        mos_range: ends of the label file's scale, which are 0 and 100 in the rows.
        left_out: split -> videos that `lmmvqa prepare` found no use for, such as missing ones.
    """

    dataset: str
    rows: list[dict]
    mos_range: tuple[float, float]
    left_out: dict[str, int]


@dataclass
class EvaluatedPart:
    """
    What one column of a table stands on.

    Attributes:
        part: the split, None for the whole set.
        protocol: "in_sample" where the model was trained on this data set, else "out_of_distribution".
        left_out: videos of this part that `lmmvqa prepare` found no use for.
    """

    dataset: str
    part: str | None
    protocol: str
    rows: list[dict]
    mos_range: tuple[float, float]
    left_out: int


def load_rated_sets(folders: Iterable[str | Path]) -> list[RatedSet]:
    """
    Rated sets by name, in the order of the folders; several folders may hold parts of one.

    Raises:
        ValueError: rows without MOS, a video that is listed twice, or folders that were not made by `lmmvqa prepare`.
    """
    rows, mos_ranges, left_out = defaultdict(list), {}, defaultdict(Counter)
    for folder in folders:
        splits = load_rows(folder)
        for report in load_report(folder):
            dataset, mos_range = report["dataset"], tuple(report["mos_range"])
            if mos_ranges.setdefault(dataset, mos_range) != mos_range:
                raise ValueError(
                    f"got {dataset} with a MOS range of {mos_ranges[dataset]} and in {folder} of {mos_range}, expected "
                    "one; prepare them with the same --mos_range, or give one of them another --name"
                )
            left_out[dataset][report["split"]] += report["missing"]
            if report["split"] in splits:
                rows[dataset] += list(splits[report["split"]])
    for dataset, of_set in rows.items():
        unrated = sum(row["mos"] is None for row in of_set)
        if unrated:
            raise ValueError(f"got {unrated} rows of {dataset} without MOS, expected rated videos; leave them out")
        video, count = Counter(row["video"] for row in of_set).most_common(1)[0]
        if count > 1:
            raise ValueError(f"got {video} {count} times in {dataset}, expected it once; name each folder once")
    return [RatedSet(name, of_set, mos_ranges[name], dict(left_out[name])) for name, of_set in rows.items()]


def evaluated_parts(rated: RatedSet, trained_on: Collection[str], protocol: str | None = None) -> list[EvaluatedPart]:
    """
    The parts of a set that are evaluated: each of its test splits where the model was trained on the set (section IV-A:
    in-sample), and of LSVQ for any model; else the whole set, all splits (out-of-distribution).

    Args:
        trained_on: names of the data sets that the model was trained on.
        protocol: "in_sample" or "out_of_distribution" whatever the model was trained on.

    Raises:
        ValueError: the set has no test split.
    """
    stated = protocol or ("in_sample" if rated.dataset in trained_on else "out_of_distribution")
    if stated == "out_of_distribution" and not (protocol is None and rated.dataset == LSVQ):
        left_out = sum(rated.left_out.values())
        return [EvaluatedPart(rated.dataset, None, stated, rated.rows, rated.mos_range, left_out)]
    parts = {split: [row for row in rated.rows if row["split"] == split] for split in TEST_SPLITS}
    if not any(parts.values()):
        splits = [split for split in SPLITS if any(row["split"] == split for row in rated.rows)]
        raise ValueError(
            f"got {rated.dataset} with the splits {', '.join(splits)}, expected {' or '.join(TEST_SPLITS)}, since the "
            "model was trained on this data set or --protocol in_sample was given; prepare its test videos"
        )
    return [
        EvaluatedPart(rated.dataset, split, stated, rows, rated.mos_range, rated.left_out.get(split, 0))
        for split, rows in parts.items()
        if rows
    ]
