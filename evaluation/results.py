"""The loop of every evaluation, of a checkpoint, a fold or a baseline: parts of rated sets to predictions, figures, tables."""

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..datasets_scripts.degraded import chained_clips, degraded_clips
from ..datasets_scripts.rows import label_mos, video_id
from ..scoring.json_lines import complete_lines
from ..scoring.report import printable
from ..training.qa_pairs import mos_level
from .degradations import content_figures, degradation_figures, is_content_set, is_degraded_set
from .leak_check import full_name
from .metrics import agreement, coverage, level_report
from .rated_sets import EvaluatedPart


PREDICTIONS_FILE, METRICS_FILE, TABLE_FILE = "predictions.jsonl", "metrics.json", "table.md"
FOLD_FIGURES = ("srcc", "krcc", "plcc", "rmse", "plcc_fitted", "rmse_fitted")

Predict = Callable[[list[str]], list[dict]]


def evaluate_parts(
    parts: list[EvaluatedPart],
    predict: Predict,
    folder: Path,
    tasks: Sequence[str],
    batch_size: int,
    own_scale: bool = False,
) -> tuple[list[dict], list[dict]]:
    """
    Args:
        predict: a batch of videos to a prediction each, as `predict_batch` gives them.
        folder: of `predictions.jsonl`, which goes on where it was.
        tasks, own_scale: as in `figures_of`.

    Returns:
        All predictions, and for each part what `metrics.json` says of it.
    """
    rows = [described(row, part.mos_range, part.thresholds) for part in parts for row in part.rows]
    predictions = predict_to_file(folder / PREDICTIONS_FILE, rows, predict, batch_size)
    following = iter(predictions)
    figures = []
    for part in parts:
        of_part = list(islice(following, len(part.rows)))
        figures.append(part.facts | figures_of(of_part, tasks, part.thresholds, part.thresholds_of, own_scale))
    return predictions, figures


def described(row: dict, mos_range: tuple[float, float], thresholds: Sequence[float]) -> dict:
    """
    A row as it stands in `predictions.jsonl`: its name, its MOS on the label file's scale and on 0-100, its level, and of
    a clip that was degraded on purpose, how.
    """
    columns = ("fold", "dataset", "split", "group", *degraded_clips.COLUMNS, *chained_clips.COLUMNS)
    return {name: row[name] for name in columns if name in row} | {
        "id": video_id(row),
        "video": row["video"],
        "label_mos": label_mos(row["mos"], mos_range),
        "mos": row["mos"],
        "level": mos_level(row["mos"], thresholds),
    }


def predict_to_file(path: Path, rows: list[dict], predict: Predict, batch_size: int) -> list[dict]:
    """
    Appends a line of a row and its prediction for each row that has none yet, as they are made, and returns all of them.
    What is not known of a video, None, leaves the row's own column, such as its width, as it is.

    Args:
        path: JSON lines; its lines are those of the first rows, the last one may be cut.
        predict: predictions of a batch of videos. Batches are the same in a run that was stopped, so that its results
            are too: one that was written in part is computed again.
    """
    lines = complete_lines(path)
    with open(path, "a", encoding="utf-8") as file:
        for start in tqdm(range(0, len(rows), batch_size), desc="batches", delay=3, disable=None):
            batch = rows[start : start + batch_size]
            done = len(lines) - start
            if done >= len(batch):
                continue
            predictions = predict([row["video"] for row in batch])
            for row, prediction in list(zip(batch, predictions, strict=True))[done:]:
                unknown = {name for name, value in prediction.items() if value is None} & row.keys()
                lines.append(row | {name: value for name, value in prediction.items() if name not in unknown})
                file.write(json.dumps(lines[-1], allow_nan=False) + "\n")
                file.flush()
    return lines


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


def figures_of_folds(scores: list[dict], num_train: list[int]) -> dict:
    """
    Figures of each fold, and their mean and median; None where a fold lacks the figure.

    Args:
        scores: `agreement` of each fold.
        num_train: videos that were trained on for each fold.
    """
    folds = [{"n_train": of_training} | of_fold for of_training, of_fold in zip(num_train, scores, strict=True)]
    figures = {"folds": folds}
    for name, summary in (("mean", np.mean), ("median", np.median)):
        values = {figure: [fold.get(figure) for fold in folds] for figure in FOLD_FIGURES}
        figures[name] = {
            figure: None if None in of_folds else float(summary(of_folds)) for figure, of_folds in values.items()
        }
    return figures


def write_results(
    out: Path, head: dict, facts: dict, predictions: list[dict], to_table: Callable[[dict], str]
) -> dict:
    """
    Writes `metrics.json` and `table.md`, names every failed video on stderr, and returns the metrics.

    Args:
        head, facts: what stands in the metrics before and after the number of failures.
    """
    failed = [prediction for prediction in predictions if prediction["error"] is not None]
    metrics = head | {"failures": len(failed)} | facts
    (out / METRICS_FILE).write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    (out / TABLE_FILE).write_text(to_table(metrics), encoding="utf-8")
    for prediction in failed:
        print(printable(f"failed: {full_name(prediction)}: {prediction['error']}"), file=sys.stderr)
    return metrics


def versions_of(*packages: str) -> dict[str, str]:
    return {name: version(name) for name in ("lmmvqa", *packages)}
