"""The paper's protocols on folders of rows, to predictions, figures and a table; `lmmvqa evaluate` runs them.

`evaluate_checkpoint` is in-sample and out-of-distribution evaluation, `cross_validate` fine-tuning; levels are part of
both. Videos go through the one preprocessing path, and what was stopped goes on where it was.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import AutoProcessor

from ..checkpoints.checkpoint_digest import checkpoint_digest
from ..checkpoints.training_videos import content_digests, load_training_videos
from ..datasets_scripts.folder_seal import seal_folder
from ..datasets_scripts.rows import rows_digest
from ..scoring.scorer import default_checkpoint, load_scorer
from ..training.feature_cache import FeatureCache
from ..training.qa_pairs import level_thresholds
from .cross_validation import (
    FOLDS_FILE,
    assign_folds,
    readable,
    refuse_shared,
    shared_between_folds,
    train_without_fold,
    write_folds,
)
from .leak_check import check_leaks, leak_notes, refuse_leaks
from .options import EvaluationOptions
from .prediction_file import predict_to_file
from .predictions import predict_batch
from .rated_sets import RatedSet, evaluated_parts, load_rated_sets
from .results import PREDICTIONS_FILE, described, figures_of, figures_of_folds, write_results
from .tables import checkpoint_tables, cross_validation_tables


# Of either protocol, for `seal_folder`
RESULTS = (PREDICTIONS_FILE, f"*/{FOLDS_FILE}")
# Which videos' thirds are the levels
OF_TRAINING, OF_EVALUATED, OF_OTHER_FOLDS = "its training set", "the evaluated videos", "the other folds"


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
    predict, processor = _predictor(options, options.model or default_checkpoint())
    tasks = _learned(options.tasks, processor)
    trained_thresholds = processor.level_answer_thresholds or {}
    listed = load_training_videos(options.model or default_checkpoint())
    trained_on = {*trained_thresholds, *(video.dataset for video in (listed.videos if listed else ()))}
    parts = [part for rated in rated_sets for part in evaluated_parts(rated, trained_on, protocol)]
    rows = [row for part in parts for row in part.rows]
    leaks = check_leaks(rows, content_digests(row["video"] for row in rows), listed)
    if not options.allow_training_videos:
        refuse_leaks(leaks)
    out = Path(options.out)
    seal_folder(out, _settings(options, rows) | {"protocol": protocol}, RESULTS)

    rows_of_file, thresholds, thresholds_of = [], [], []
    for part in parts:
        is_known = part.dataset in trained_thresholds
        thresholds.append((trained_thresholds if is_known else level_thresholds(part.rows))[part.dataset])
        thresholds_of.append(OF_TRAINING if is_known else OF_EVALUATED)
        rows_of_file += [described(row, part.mos_range, thresholds[-1]) for row in part.rows]
    predictions = predict_to_file(out / PREDICTIONS_FILE, rows_of_file, predict, options.batch_size)

    sets, start = [], 0
    for part, of_part, origin in zip(parts, thresholds, thresholds_of, strict=True):
        facts = {name: value for name, value in vars(part).items() if name != "rows"}
        predicted = predictions[start : start + len(part.rows)]
        sets.append(facts | figures_of(predicted, tasks, of_part, origin))
        start += len(part.rows)
    metrics = _head(options, predictions) | {"leaks": asdict(leaks), "notes": leak_notes(leaks), "sets": sets}
    metrics["not_learned"] = [task for task in options.tasks if task not in tasks]
    write_results(out, metrics, checkpoint_tables(metrics), predictions)
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
        train_options: of train.py, which trains on the questions of `options.tasks` unless they say otherwise.

    Returns:
        What `metrics.json` holds.

    Raises:
        ValueError: as in `evaluate_checkpoint`; of equal files in two folds; of train.py.
    """
    if "level" in options.tasks and "--tasks" in train_options and "level" not in train_options:
        raise ValueError(
            "got train_options with --tasks and no level, expected the questions that are evaluated; give --tasks score "
            "before --train_options, which is what is trained on, too"
        )
    rated_sets = load_rated_sets(options.data)
    rows = [row for rated in rated_sets for row in rated.rows]
    digests = content_digests(row["video"] for row in rows)
    leaks = check_leaks(rows, digests, load_training_videos(options.model or default_checkpoint()))
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
        *("--tasks", *options.tasks),
        *train_options,
    ]
    out = Path(options.out)
    fold_settings = {"folds": num_folds, "seed": seed, "train_options": train_options}
    seal_folder(out, _settings(options, rows) | {"protocol": "fine_tuning"} | fold_settings, RESULTS)
    for rated in rated_sets:
        write_folds(out / rated.dataset / FOLDS_FILE, rated.rows, folds_of[rated.dataset], seed)

    sets, predictions = [], []
    for rated in rated_sets:
        of_folds, figures = _cross_validate_set(
            options, rated, folds_of[rated.dataset], out / rated.dataset, keep_checkpoints, train_options
        )
        predictions += sum(of_folds, [])
        sets.append(figures)
    notes = leak_notes(leaks)
    if shared:
        notes.append(f"{len(shared)} videos have a file that stands in another fold too; they were allowed.")
    metrics = _head(options, predictions) | fold_settings | {"leaks": asdict(leaks), "notes": notes, "sets": sets}
    write_results(out, metrics, cross_validation_tables(metrics), predictions)
    return metrics


def _cross_validate_set(
    options: EvaluationOptions,
    rated: RatedSet,
    folds: list[int],
    folder: Path,
    keep_checkpoints: bool,
    train_options: list[str],
) -> tuple[list[list[dict]], dict]:
    """The predictions of each fold, and the set's figures."""
    processor = AutoProcessor.from_pretrained(options.model or default_checkpoint())
    can_train = readable(rated.rows, processor)
    of_folds, num_train, thresholds = [], [], {}
    for fold in sorted(set(folds)):
        of_row = list(zip(rated.rows, folds, can_train, strict=True))
        others = [row for row, its_fold, is_readable in of_row if its_fold != fold and is_readable]
        name = f"fold_{fold}"
        thresholds[name] = level_thresholds(others)[rated.dataset]
        held_out = [
            {"fold": fold} | described(row, rated.mos_range, thresholds[name])
            for row, its_fold, _ in of_row
            if its_fold == fold
        ]
        print(f"{rated.dataset}: {name}", file=sys.stderr)
        of_folds.append(_predict_fold(options, rated, others, held_out, folder / name, train_options))
        num_train.append(len(others))
        if not keep_checkpoints:
            for trained in ("run", "checkpoint"):
                shutil.rmtree(folder / name / trained, ignore_errors=True)

    figures = {"dataset": rated.dataset, "part": None, "protocol": "fine_tuning", "mos_range": rated.mos_range}
    figures["left_out"] = sum(rated.left_out.values())
    # Levels of all folds together, each by its own thresholds
    levels = [task for task in options.tasks if task == "level"]
    figures |= figures_of(sum(of_folds, []), levels, thresholds, OF_OTHER_FOLDS)
    if "score" in options.tasks:
        figures |= figures_of_folds(of_folds, num_train)
    return of_folds, figures


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
        checkpoint = train_without_fold(rated, others, (options.model or default_checkpoint()), folder, train_options)
        return _predictor(options, str(checkpoint))[0]

    # Where all predictions are there, nothing is trained
    path = folder / PREDICTIONS_FILE
    return predict_to_file(path, held_out, lambda videos: predictor()(videos), options.batch_size)


def _predictor(options: EvaluationOptions, checkpoint: str) -> tuple[Callable[[list[str]], list[dict]], object]:
    """A function of a batch of videos, and the processor."""
    scorer = load_scorer(checkpoint, options.device, options.dtype)
    features = None
    if options.feature_cache:
        scorer.model.requires_grad_(False)
        features = FeatureCache(options.feature_cache, scorer.model, scorer.processor)
    tasks = _learned(options.tasks, scorer.processor)
    predict = partial(predict_batch, scorer, tasks=tasks, readout=options.readout, cache=features)
    return predict, scorer.processor


def _learned(tasks: Sequence[str], processor) -> list[str]:
    """
    Raises:
        ValueError: the model has learned none of them.
    """
    learned = [task for task in tasks if task != "level" or processor.level_question is not None]
    if not learned:
        raise ValueError(
            "got --tasks level for a model that never learned the level question, expected one trained with --tasks "
            "score level; ask for the score alone"
        )
    return learned


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("lmmvqa", "torch", "transformers", "av")}


def _settings(options: EvaluationOptions, rows: list[dict]) -> dict:
    """All that predictions hang on."""
    return {
        "model": checkpoint_digest(options.model or default_checkpoint()),
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
