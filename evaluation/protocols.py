"""The paper's protocols on folders of rows, to predictions, figures and a table; `lmmvqa evaluate` runs them.

`evaluate_checkpoint` is in-sample and out-of-distribution evaluation, `cross_validate` fine-tuning; levels are part of
both. Videos go through the one preprocessing path, and what was stopped goes on where it was.
"""

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from transformers import AutoProcessor

from ..datasets_scripts.qa_pairs import TASKS, level_thresholds, mos_level
from ..datasets_scripts.rows import label_mos, video_id
from ..processing.feature_cache import FeatureCache
from ..scoring.scorer import default_checkpoint, load_scorer
from ..training.training_videos import content_digests, load_training_videos
from .cross_validation import (
    FOLDS_FILE,
    assign_folds,
    readable,
    refuse_shared,
    shared_between_folds,
    train_without_fold,
    write_folds,
)
from .leak_check import check_leaks, full_name, leak_notes, refuse_leaks
from .metrics import agreement, coverage, level_report
from .prediction_file import checkpoint_digest, fix_settings, predict_to_file, rows_digest
from .predictions import predict_batch
from .rated_sets import RatedSet, evaluated_parts, load_rated_sets
from .tables import checkpoint_tables, cross_validation_tables


PREDICTIONS_FILE, METRICS_FILE, TABLE_FILE = "predictions.jsonl", "metrics.json", "table.md"
FOLD_FIGURES = ("srcc", "krcc", "plcc", "rmse", "plcc_fitted", "rmse_fitted")
# Which videos' thirds are the levels
OF_TRAINING, OF_EVALUATED, OF_OTHER_FOLDS = "its training set", "the evaluated videos", "the other folds"


@dataclass
class EvaluationOptions:
    """
    Attributes:
        data: folders of rows that `lmmvqa prepare` wrote.
        out: folder for the results.
        model: checkpoint folder or repository; the embedded one by default.
        tasks: questions that are asked, "score", "level" or both.
        readout: "score" or "generate", see `predict_batch`.
        batch_size: videos that go through the decoder together.
        device, dtype: as in `load_scorer`.
        feature_cache: folder for the towers' features.
        allow_training_videos: evaluate on videos that the checkpoint was trained on, too.
    """

    data: list[str]
    out: str
    model: str | None = None
    tasks: Sequence[str] = TASKS
    readout: str = "score"
    batch_size: int = 16
    device: str | None = None
    dtype: str = "auto"
    feature_cache: str | None = None
    allow_training_videos: bool = False

    @property
    def checkpoint(self) -> str:
        return self.model or default_checkpoint()


def evaluate_checkpoint(options: EvaluationOptions, protocol: str | None = None) -> dict:
    """
    Evaluates a checkpoint as it is, on the parts that `evaluated_parts` names.

    Args:
        protocol: "in_sample" or "out_of_distribution"; by default each set's own.

    Returns:
        What `metrics.json` holds. Predictions and a table lie beside it.

    Raises:
        ValueError: of the data or the model, of videos that the checkpoint was trained on, or of a folder that was
            begun under other settings.
    """
    rated_sets = load_rated_sets(options.data)
    predict, processor = _predictor(options, options.checkpoint)
    trained_thresholds = processor.level_answer_thresholds or {}
    listed = load_training_videos(options.checkpoint)
    trained_on = {*trained_thresholds, *(video.dataset for video in (listed.videos if listed else ()))}
    parts = [part for rated in rated_sets for part in evaluated_parts(rated, trained_on, protocol)]
    rows = [row for part in parts for row in part.rows]
    leaks = check_leaks(rows, content_digests(row["video"] for row in rows), listed)
    if not options.allow_training_videos:
        refuse_leaks(leaks)
    out = Path(options.out)
    fix_settings(out, _settings(options, rows) | {"protocol": protocol})

    described, thresholds, thresholds_of = [], [], []
    for part in parts:
        is_known = part.dataset in trained_thresholds
        thresholds.append((trained_thresholds if is_known else level_thresholds(part.rows))[part.dataset])
        thresholds_of.append(OF_TRAINING if is_known else OF_EVALUATED)
        described += [_described(row, part.mos_range, thresholds[-1]) for row in part.rows]
    predictions = predict_to_file(out / PREDICTIONS_FILE, described, predict, options.batch_size)

    sets, start = [], 0
    for part, of_part, origin in zip(parts, thresholds, thresholds_of, strict=True):
        facts = {name: value for name, value in vars(part).items() if name != "rows"}
        predicted = predictions[start : start + len(part.rows)]
        sets.append(facts | _figures(predicted, options.tasks, of_part, origin))
        start += len(part.rows)
    metrics = _head(options, predictions) | {"leaks": asdict(leaks), "notes": leak_notes(leaks), "sets": sets}
    _write(out, metrics, checkpoint_tables(metrics), predictions)
    return metrics


def cross_validate(
    options: EvaluationOptions,
    num_folds: int = 5,
    seed: int = 0,
    keep_checkpoints: bool = False,
    train_options: Sequence[str] = (),
) -> dict:
    """
    Fine-tunes a checkpoint on all folds but one of a set, whatever its splits, and evaluates it on that one, for each
    fold of each set. No epoch is picked: what is evaluated is what train.py ends with. A video that cannot be read is
    left out of training, and a failure of the fold that it is in.

    Args:
        num_folds, seed: of the folds, which are written to `folds.json`.
        keep_checkpoints: of all folds; otherwise they are deleted once they are evaluated.
        train_options: of train.py.

    Returns:
        What `metrics.json` holds.

    Raises:
        ValueError: as in `evaluate_checkpoint`; of equal files in two folds; of train.py.
    """
    rated_sets = load_rated_sets(options.data)
    rows = [row for rated in rated_sets for row in rated.rows]
    digests = content_digests(row["video"] for row in rows)
    leaks = check_leaks(rows, digests, load_training_videos(options.checkpoint))
    digest_of = {row["video"]: digest for row, digest in zip(rows, digests, strict=True)}
    folds_of, shared = {}, []
    for rated in rated_sets:
        folds = folds_of[rated.dataset] = assign_folds(rated.rows, num_folds, seed)
        shared += shared_between_folds(rated.rows, [digest_of[row["video"]] for row in rated.rows], folds)
    if not options.allow_training_videos:
        refuse_leaks(leaks)
        refuse_shared(shared)
    train_options = [
        *(["--feature_cache", options.feature_cache] if options.feature_cache else []),
        *(["--use_cpu"] if options.device == "cpu" else []),
        *train_options,
    ]
    out = Path(options.out)
    fold_settings = {"folds": num_folds, "seed": seed, "train_options": train_options}
    fix_settings(out, _settings(options, rows) | {"protocol": "fine_tuning"} | fold_settings)

    processor = AutoProcessor.from_pretrained(options.checkpoint)
    sets, predictions = [], []
    for rated in rated_sets:
        folder, folds = out / rated.dataset, folds_of[rated.dataset]
        folder.mkdir(exist_ok=True)
        write_folds(folder / FOLDS_FILE, rated.rows, folds, seed)
        can_train = readable(rated.rows, processor)
        of_folds, num_train, thresholds = [], [], {}
        for fold in range(num_folds):
            others = [
                row
                for row, of_row, is_readable in zip(rated.rows, folds, can_train, strict=True)
                if of_row != fold and is_readable
            ]
            thresholds[f"fold {fold}"] = level_thresholds(others)[rated.dataset]
            held_out = [
                {"fold": fold} | _described(row, rated.mos_range, thresholds[f"fold {fold}"])
                for row, of_row in zip(rated.rows, folds, strict=True)
                if of_row == fold
            ]
            print(f"{rated.dataset}: fold {fold} of {num_folds}", file=sys.stderr)
            of_fold = folder / f"fold_{fold}"
            of_folds.append(_predict_fold(options, rated, others, held_out, of_fold, train_options))
            num_train.append(len(others))
            if not keep_checkpoints:
                for name in ("run", "checkpoint"):
                    shutil.rmtree(of_fold / name, ignore_errors=True)
        sets.append(_fold_figures(options, rated, of_folds, num_train, thresholds))
        predictions += sum(of_folds, [])
    notes = leak_notes(leaks)
    if shared:
        notes.append(f"{len(shared)} videos have a file that stands in another fold too; they were allowed.")
    metrics = _head(options, predictions) | fold_settings | {"leaks": asdict(leaks), "notes": notes, "sets": sets}
    _write(out, metrics, cross_validation_tables(metrics), predictions)
    return metrics


def _predict_fold(
    options: EvaluationOptions,
    rated: RatedSet,
    others: list[dict],
    held_out: list[dict],
    folder: Path,
    train_options: list[str],
) -> list[dict]:
    folder.mkdir(exist_ok=True)

    @cache
    def predictor() -> Callable[[list[str]], list[dict]]:
        checkpoint = train_without_fold(rated, others, options.checkpoint, folder, train_options)
        return _predictor(options, str(checkpoint))[0]

    # Where all predictions are there, nothing is trained
    path = folder / PREDICTIONS_FILE
    return predict_to_file(path, held_out, lambda videos: predictor()(videos), options.batch_size)


def _fold_figures(
    options: EvaluationOptions,
    rated: RatedSet,
    of_folds: list[list[dict]],
    num_train: list[int],
    thresholds: dict[str, list[float]],
) -> dict:
    """Figures of each fold, their mean and median, and the levels of all folds together, each by its own thresholds."""
    predictions = sum(of_folds, [])
    figures = {
        "dataset": rated.dataset,
        "part": None,
        "protocol": "fine_tuning",
        "mos_range": rated.mos_range,
        "left_out": sum(rated.left_out.values()),
    }
    figures |= _figures(predictions, [task for task in options.tasks if task == "level"], thresholds, OF_OTHER_FOLDS)
    if "score" in options.tasks:
        folds = [_figures(predicted, ["score"])["score"] for predicted in of_folds]
        figures["folds"] = [
            {"n_train": of_training} | of_fold for of_training, of_fold in zip(num_train, folds, strict=True)
        ]
        for name, summary in (("mean", np.mean), ("median", np.median)):
            values = {figure: [of_fold.get(figure) for of_fold in folds] for figure in FOLD_FIGURES}
            figures[name] = {
                figure: None if None in of_folds else float(summary(of_folds)) for figure, of_folds in values.items()
            }
    return figures


def _figures(predictions: list[dict], tasks: Sequence[str], thresholds=None, thresholds_of: str | None = None) -> dict:
    """What can be said of predictions; in place of figures that cannot be, as of two videos, `error` says why."""
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
    if "level" in tasks:
        report = or_error("level_answer", partial(level_report, column("level_answer"), column("level"), thresholds))
        figures["level"] = report | {"thresholds_of": thresholds_of}
    return figures


def _predictor(options: EvaluationOptions, checkpoint: str) -> tuple[Callable[[list[str]], list[dict]], object]:
    """A function of a batch of videos, and the processor."""
    scorer = load_scorer(checkpoint, options.device, options.dtype)
    features = None
    if options.feature_cache:
        scorer.model.requires_grad_(False)
        features = FeatureCache(options.feature_cache, scorer.model, scorer.processor)
    predict = partial(predict_batch, scorer, tasks=options.tasks, readout=options.readout, cache=features)
    return predict, scorer.processor


def _described(row: dict, mos_range: tuple[float, float], thresholds: Sequence[float]) -> dict:
    return {name: row[name] for name in ("dataset", "split", "group")} | {
        "id": video_id(row),
        "video": row["video"],
        "label_mos": label_mos(row["mos"], mos_range),
        "mos": row["mos"],
        "level": mos_level(row["mos"], thresholds),
    }


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("lmmvqa", "torch", "transformers", "av")}


def _settings(options: EvaluationOptions, rows: list[dict]) -> dict:
    """All that predictions hang on."""
    return {
        "model": checkpoint_digest(options.checkpoint),
        "data": rows_digest(rows),
        "tasks": list(options.tasks),
        "readout": options.readout,
        "batch_size": options.batch_size,
        "device": options.device or str(torch.accelerator.current_accelerator() or "cpu"),
        "dtype": options.dtype,
        "feature_cache": options.feature_cache is not None,
        "versions": _versions(),
    }


def _head(options: EvaluationOptions, predictions: list[dict]) -> dict:
    return {
        "model": options.model or "embedded default",
        "readout": options.readout,
        "tasks": list(options.tasks),
        "versions": _versions(),
        "failures": sum(prediction["error"] is not None for prediction in predictions),
    }


def _write(out: Path, metrics: dict, table: str, predictions: list[dict]) -> None:
    (out / METRICS_FILE).write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    (out / TABLE_FILE).write_text(table, encoding="utf-8")
    for prediction in predictions:
        if prediction["error"]:
            print(f"failed: {full_name(prediction)}: {prediction['error']}", file=sys.stderr)
