"""Protocols as data: folders of rows -> rated sets -> parts, each with all that the loop of `results` must know of it."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..datasets_scripts.rows import SPLITS, load_report, load_rows
from ..training.qa_pairs import level_thresholds


TEST_SPLITS = ("test", "test_1080p")
# Whose thirds the levels are
OF_TRAINING, OF_EVALUATED, OF_OTHER_FOLDS = "its training set", "the evaluated videos", "the other folds"
# Its test parts are columns of every published table, also of models that never saw its train part
LSVQ = "lsvq"


@dataclass
class RatedSet:
    """
    Attributes:
        rows: of all splits.
        mos_range: ends of the label file's scale, which are 0 and 100 in the rows.
        left_out: split -> videos that `lmmvqa prepare` left out, such as missing ones.
    """

    dataset: str
    rows: list[dict]
    mos_range: tuple[float, float]
    left_out: dict[str, int]


@dataclass
class EvaluatedPart:
    """
    What one column of a table, or one fold, stands on.

    Attributes:
        part: the split or the fold, None for the whole set.
        protocol: "in_sample" where the model was trained on this data set, "fine_tuning" where it is trained on the other
            folds, "zero_shot" of a method that was trained on no ratings, else "out_of_distribution".
        left_out: videos of this part that `lmmvqa prepare` left out, such as missing ones.
        thresholds: MOS that divide the levels, of a set in folds {fold: MOS}; by default the thirds of these rows.
        thresholds_of: the videos whose thirds they are.
        other_folds: rows that the model is trained on first.
    """

    dataset: str
    part: str | None
    protocol: str
    rows: list[dict]
    mos_range: tuple[float, float]
    left_out: int
    thresholds: Sequence[float] | dict[str, Sequence[float]] | None = None
    thresholds_of: str = OF_EVALUATED
    other_folds: list[dict] = field(default_factory=list)

    def __post_init__(self):
        if self.thresholds is None:
            self.thresholds = level_thresholds(self.rows)[self.dataset]

    @property
    def facts(self) -> dict:
        """What `metrics.json` says of it beside figures."""
        return {name: getattr(self, name) for name in ("dataset", "part", "protocol", "mos_range", "left_out")}


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
    for dataset, rated_rows in rows.items():
        unrated = sum(row["mos"] is None for row in rated_rows)
        if unrated:
            raise ValueError(f"got {unrated} rows of {dataset} without MOS, expected rated videos; leave them out")
        video, count = Counter(row["video"] for row in rated_rows).most_common(1)[0]
        if count > 1:
            raise ValueError(f"got {video} {count} times in {dataset}, expected it once; name each folder once")
    return [RatedSet(name, rated_rows, mos_ranges[name], dict(left_out[name])) for name, rated_rows in rows.items()]


def evaluated_parts(
    rated: RatedSet,
    trained_on: Collection[str],
    protocol: str | None = None,
    thresholds: Mapping[str, Sequence[float]] | None = None,
) -> list[EvaluatedPart]:
    """
    The parts of a set that are evaluated: each of its test splits where the model was trained on the set (section IV-A:
    in-sample), and of LSVQ for any model; else the whole set, all splits (out-of-distribution).

    Args:
        trained_on: names of the data sets that the model was trained on.
        protocol: "in_sample" or "out_of_distribution" whatever the model was trained on.
        thresholds: data set -> MOS that divide the levels which the model was trained on.

    Raises:
        ValueError: the set has no test split.
    """
    stated = protocol or ("in_sample" if rated.dataset in trained_on else "out_of_distribution")
    if stated == "out_of_distribution" and not (protocol is None and rated.dataset == LSVQ):
        parts = {None: (rated.rows, sum(rated.left_out.values()))}
    else:
        parts = {
            split: (rows, rated.left_out.get(split, 0))
            for split in TEST_SPLITS
            if (rows := [row for row in rated.rows if row["split"] == split])
        }
    if not parts:
        splits = [split for split in SPLITS if any(row["split"] == split for row in rated.rows)]
        raise ValueError(
            f"got {rated.dataset} with the splits {', '.join(splits)}, expected {' or '.join(TEST_SPLITS)}, since the "
            "model was trained on this data set or --protocol in_sample was given; prepare its test videos"
        )
    learned = (thresholds or {}).get(rated.dataset)
    levels = (learned, OF_EVALUATED if learned is None else OF_TRAINING)
    return [
        EvaluatedPart(rated.dataset, part, stated, rows, rated.mos_range, left_out, *levels)
        for part, (rows, left_out) in parts.items()
    ]


def fold_parts(rated: RatedSet, folds: list[int], can_train: list[bool]) -> list[EvaluatedPart]:
    """
    Args:
        folds, can_train: of each row its fold, and whether its video can be trained on.

    Raises:
        ValueError: beside a fold there is no video to train on.
    """
    of_row = list(zip(rated.rows, folds, can_train, strict=True))
    parts = []
    for fold in sorted(set(folds)):
        held_out = [{"fold": fold} | row for row, its_fold, _ in of_row if its_fold == fold]
        others = [row for row, its_fold, is_readable in of_row if its_fold != fold and is_readable]
        if not others:
            raise ValueError(
                f"got no video of {rated.dataset} outside fold {fold} that can be read, expected some to train on; see whether "
                f"they are where the rows say, as {rated.rows[0]['video']}"
            )
        levels = (level_thresholds(others)[rated.dataset], OF_OTHER_FOLDS)
        parts.append(
            EvaluatedPart(
                rated.dataset, f"fold_{fold}", "fine_tuning", held_out, rated.mos_range, 0, *levels, other_folds=others
            )
        )
    return parts
