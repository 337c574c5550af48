"""What stands in the files of results: described predictions, figures of them, and how they are written."""

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ..datasets_scripts.degraded import chained_clips, degraded_clips
from ..datasets_scripts.rows import label_mos, video_id
from ..scoring.report import printable
from ..training.qa_pairs import mos_level
from .degradations import content_figures, degradation_figures, is_content_set, is_degraded_set
from .leak_check import full_name
from .metrics import agreement, coverage, level_report


PREDICTIONS_FILE, METRICS_FILE, TABLE_FILE = "predictions.jsonl", "metrics.json", "table.md"
FOLD_FIGURES = ("srcc", "krcc", "plcc", "rmse", "plcc_fitted", "rmse_fitted")


def described(row: dict, mos_range: tuple[float, float], thresholds: Sequence[float]) -> dict:
    """
    A row as it stands in `predictions.jsonl`: its name, its MOS on the label file's scale and on 0-100, its level, and of
    a clip that was degraded on purpose, how.
    """
    columns = ("dataset", "split", "group", *degraded_clips.COLUMNS, *chained_clips.COLUMNS)
    return {name: row[name] for name in columns if name in row} | {
        "id": video_id(row),
        "video": row["video"],
        "label_mos": label_mos(row["mos"], mos_range),
        "mos": row["mos"],
        "level": mos_level(row["mos"], thresholds),
    }


def figures_of(
    predictions: list[dict],
    tasks: Sequence[str],
    thresholds: Sequence[float] | dict[str, Sequence[float]] | None = None,
    thresholds_of: str | None = None,
    own_scale: bool = False,
) -> dict:
    """
    What can be said of predictions; in place of figures that cannot be, as of two videos, `error` says why.

    Args:
        predictions: described rows with what `predict_batch` gives.
        tasks: "score" for `agreement`, `coverage` and for degraded clips `degradation_figures` or `content_figures`;
            "level" for `level_report`.
        thresholds, thresholds_of: the MOS that divide the levels, and the videos whose thirds they divide.
        own_scale: scores are on a scale of their own, not on 0-100.
    """
    figures = {"videos": len(predictions)}

    def column(name: str) -> list:
        return [prediction[name] for prediction in predictions]

    def or_error(name: str, function: Callable[[], dict]) -> dict:
        try:
            return function()
        except ValueError as error:
            num_answered = sum(answer is not None for answer in column(name))
            return {"n": num_answered, "failures": len(predictions) - num_answered, "error": str(error)}

    if "score" in tasks:
        figures["score"] = or_error("score", partial(agreement, column("score"), column("mos")))
        figures["coverage"] = coverage(column("score"), column("score_std"), column("mos"))
        if is_degraded_set(predictions):
            figures["degradations"] = or_error("score", partial(degradation_figures, predictions))
        if is_content_set(predictions):
            figures["contents"] = content_figures(predictions, own_scale)
    if "level" in tasks:
        report = or_error("level_answer", partial(level_report, column("level_answer"), column("level"), thresholds))
        figures["level"] = report | {"thresholds_of": thresholds_of}
    return figures


def figures_of_folds(of_folds: list[list[dict]], num_train: list[int]) -> dict:
    """
    Figures of each fold, and their mean and median; None where a fold lacks the figure.

    Args:
        of_folds: predictions of each fold.
        num_train: videos that were trained on for each fold.
    """
    scores = [figures_of(predicted, ["score"])["score"] for predicted in of_folds]
    folds = [{"n_train": of_training} | of_fold for of_training, of_fold in zip(num_train, scores, strict=True)]
    figures = {"folds": folds}
    for name, summary in (("mean", np.mean), ("median", np.median)):
        values = {figure: [fold.get(figure) for fold in folds] for figure in FOLD_FIGURES}
        figures[name] = {
            figure: None if None in of_all else float(summary(of_all)) for figure, of_all in values.items()
        }
    return figures


def write_results(out: Path, metrics: dict, table: str, predictions: list[dict]) -> None:
    """Writes figures and table, and names every failed video on stderr."""
    (out / METRICS_FILE).write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    (out / TABLE_FILE).write_text(table, encoding="utf-8")
    for prediction in predictions:
        if prediction["error"]:
            print(printable(f"failed: {full_name(prediction)}: {prediction['error']}"), file=sys.stderr)
