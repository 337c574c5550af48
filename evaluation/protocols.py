"""The paper's protocols on folders of rows, to predictions, figures and a table; `lmmvqa evaluate` runs them.

`evaluate_checkpoint` is in-sample and out-of-distribution evaluation, `cross_validate` fine-tuning; levels are part of
both. Videos go through the one preprocessing path, and what was stopped goes on where it was.
"""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path

import torch
from transformers import AutoProcessor

from ..checkpoints.checkpoint_digest import checkpoint_digest, weights_digest
from ..checkpoints.training_videos import content_digests, load_training_videos
from ..datasets_scripts.folder_seal import seal_folder
from ..datasets_scripts.rows import rows_digest
from ..processing.processing_lmmvqa import LmmVqaProcessor
from ..scoring.scorer import default_checkpoint, load_scorer
from ..training.feature_cache import FeatureCache
from .cross_validation import (
    FOLDS_FILE,
    assign_folds,
    check_train_options,
    readable,
    refuse_shared,
    shared_between_folds,
    train_on_other_folds,
    write_folds,
)
from .leak_check import check_leaks, leak_notes, refuse_leaks
from .options import EvaluationOptions
from .predictions import predict_batch
from .rated_sets import OF_OTHER_FOLDS, EvaluatedPart, RatedSet, evaluated_parts, fold_parts, load_rated_sets
from .results import (
    PREDICTIONS_FILE,
    Predict,
    evaluate_parts,
    figures_of,
    figures_of_folds,
    versions_of,
    write_results,
)
from .tables import checkpoint_tables, cross_validation_tables


# Of either protocol, for `seal_folder`
RESULTS = (PREDICTIONS_FILE, f"*/{FOLDS_FILE}")
FOLD_OPTIONS = ("folds", "seed", "keep_checkpoints", "train_options")


def evaluate(options: EvaluationOptions) -> dict:
    """
    Runs the protocol of the options: `cross_validate` or `evaluate_checkpoint`, and returns what it does.

    Raises:
        ValueError: a batch of no video, or options of folds without folds; and what the protocol raises.
    """
    if options.batch_size < 1:
        raise ValueError(f"got a batch_size of {options.batch_size}, expected 1 or more")
    if options.protocol == "fine_tuning":
        return cross_validate(options)
    given = [name for name in FOLD_OPTIONS if getattr(options, name) != getattr(EvaluationOptions, name)]
    if given:
        raise ValueError(
            f"got {', '.join(given)}, expected --protocol fine_tuning with them; add it or leave them out"
        )
    return evaluate_checkpoint(options)


def evaluate_checkpoint(options: EvaluationOptions) -> dict:
    """
    Evaluates a checkpoint as it is, on the parts that `evaluated_parts` names; the protocol "in_sample" or
    "out_of_distribution" is of all sets, None each set's own.

    Returns:
        What `metrics.json` holds. Predictions and a table lie beside it.

    Raises:
        ValueError: of the data or the model, of videos that the checkpoint was trained on, or of a folder that was
            begun under other settings.
    """
    rated_sets = load_rated_sets(options.data)
    predict, processor, notes = load_predictor(options, options.model or default_checkpoint())
    tasks = learned_tasks(options.tasks, processor)
    thresholds = processor.level_answer_thresholds or {}
    listed = load_training_videos(options.model or default_checkpoint())
    trained_on = {*thresholds, *(video.dataset for video in (listed.videos if listed else ()))}
    parts = [part for rated in rated_sets for part in evaluated_parts(rated, trained_on, options.protocol, thresholds)]
    rows = [row for part in parts for row in part.rows]
    leaks = check_leaks(rows, content_digests(row["video"] for row in rows), listed)
    if not options.allow_training_videos:
        refuse_leaks(leaks)
    out = Path(options.out)
    seal_folder(out, _settings(options, rows) | {"protocol": options.protocol}, RESULTS)

    predictions, sets = evaluate_parts(parts, predict, out, tasks, options.batch_size)
    facts = {"leaks": asdict(leaks), "notes": leak_notes(leaks) + notes, "sets": sets}
    facts["not_learned"] = [task for task in options.tasks if task not in tasks]
    return write_results(out, _head(options), facts, predictions, checkpoint_tables)


def cross_validate(options: EvaluationOptions) -> dict:
    """
    Fine-tunes a checkpoint on all folds but one of a set, whatever its splits, and evaluates it on that one, for each
    fold of each set; `folds.json` has the folds. No epoch is picked: what is evaluated is what train.py ends with. A video
    that cannot be read is left out of training, and a failure of the fold that it is in.

    Returns:
        What `metrics.json` holds.

    Raises:
        ValueError: as in `evaluate_checkpoint`; of equal files in two folds; of train.py.
    """
    train_options = _train_options(options)
    rated_sets = load_rated_sets(options.data)
    folds_of = {rated.dataset: assign_folds(rated.rows, options.folds, options.seed) for rated in rated_sets}
    for rated in rated_sets:
        check_train_options(rated, options.model or default_checkpoint(), train_options)
    rows = [row for rated in rated_sets for row in rated.rows]
    digests = content_digests(row["video"] for row in rows)
    leaks = check_leaks(rows, digests, load_training_videos(options.model or default_checkpoint()))
    digest_of = {row["video"]: digest for row, digest in zip(rows, digests, strict=True)}
    shared = []
    for rated in rated_sets:
        shared += shared_between_folds(rated.rows, digest_of, folds_of[rated.dataset])
    if not options.allow_training_videos:
        refuse_leaks(leaks)
        refuse_shared(shared)
    out = Path(options.out)
    fold_settings = {"folds": options.folds, "seed": options.seed, "train_options": train_options}
    seal_folder(out, _settings(options, rows) | {"protocol": options.protocol} | fold_settings, RESULTS)
    for rated in rated_sets:
        write_folds(out / rated.dataset / FOLDS_FILE, rated.rows, folds_of[rated.dataset], options.seed)

    predictions, sets = [], []
    for rated in rated_sets:
        predicted, figures = _cross_validate_set(
            options, rated, folds_of[rated.dataset], out / rated.dataset, train_options
        )
        predictions += predicted
        sets.append(figures)
    notes = leak_notes(leaks)
    if shared:
        notes.append(f"{len(shared)} videos have a file that stands in another fold too; they were allowed.")
    facts = fold_settings | {"leaks": asdict(leaks), "notes": notes, "sets": sets}
    return write_results(out, _head(options), facts, predictions, cross_validation_tables)


def _cross_validate_set(
    options: EvaluationOptions, rated: RatedSet, folds: list[int], folder: Path, train_options: list[str]
) -> tuple[list[dict], dict]:
    """The predictions of all folds, and the set's figures."""
    processor = AutoProcessor.from_pretrained(options.model or default_checkpoint())
    parts = fold_parts(rated, folds, readable(rated.rows, processor))
    score, level = ([task for task in options.tasks if task == wanted] for wanted in ("score", "level"))
    predictions, of_folds = [], []
    for part in parts:
        print(f"{rated.dataset}: {part.part}", file=sys.stderr)
        fold_folder = folder / part.part
        fold_folder.mkdir(exist_ok=True)
        predict = _trained_predictor(options, part, fold_folder, train_options)
        predicted, (figures,) = evaluate_parts([part], predict, fold_folder, score, options.batch_size)
        predictions += predicted
        of_folds.append(figures)
        if not options.keep_checkpoints:
            for trained in ("run", "checkpoint"):
                shutil.rmtree(fold_folder / trained, ignore_errors=True)

    # Levels of all folds together, each by its own thresholds
    thresholds = {part.part: part.thresholds for part in parts}
    left_out = sum(rated.left_out.values())
    whole = EvaluatedPart(
        rated.dataset, None, "fine_tuning", rated.rows, rated.mos_range, left_out, thresholds, OF_OTHER_FOLDS
    )
    figures = whole.facts | figures_of(predictions, level, thresholds, OF_OTHER_FOLDS)
    if score:
        figures |= figures_of_folds([fold["score"] for fold in of_folds], [len(part.other_folds) for part in parts])
    return predictions, figures


def _trained_predictor(
    options: EvaluationOptions, part: EvaluatedPart, folder: Path, train_options: list[str]
) -> Predict:
    @cache
    def predictor() -> Predict:
        checkpoint = train_on_other_folds(part, options.model or default_checkpoint(), folder, train_options)
        return load_predictor(options, str(checkpoint))[0]

    # Where all predictions are there, it is never called, and nothing is trained
    return lambda videos: predictor()(videos)


def _train_options(options: EvaluationOptions) -> list[str]:
    """What train.py is given: the questions that are evaluated, unless the options say otherwise."""
    given = list(options.train_options)
    if "level" in options.tasks and "--tasks" in given and "level" not in given:
        raise ValueError(
            "got train_options with --tasks and no level, expected the questions that are evaluated; give --tasks score "
            "before --train_options, which is what is trained on, too"
        )
    cache_options = ["--feature_cache", options.feature_cache] if options.feature_cache else []
    return [*cache_options, *(["--use_cpu"] if options.device == "cpu" else []), "--tasks", *options.tasks, *given]


def load_predictor(options: EvaluationOptions, checkpoint: str) -> tuple[Predict, LmmVqaProcessor, list[str]]:
    """A function of a batch of videos, the checkpoint's processor, and what is to be said of the scores."""
    scorer = load_scorer(checkpoint, options.device, options.dtype)
    notes = leave_own_scale(scorer.processor)
    features = None
    if options.feature_cache:
        scorer.model.requires_grad_(False)
        features = FeatureCache(options.feature_cache, scorer.model, scorer.processor)
    tasks = learned_tasks(options.tasks, scorer.processor)
    predict = partial(predict_batch, scorer, tasks=tasks, readout=options.readout, cache=features)
    return predict, scorer.processor, notes


def leave_own_scale(processor: LmmVqaProcessor) -> list[str]:
    """
    Brings scores and deviations to 0-100, the scale of MOS in rows, where `lmmvqa calibrate` has mapped them to another.

    The map is taken away, not stretched to 0-100: its ends are where it takes the scores 0 and 100, not the ends of the
    scale of anybody's ratings.

    Returns:
        What is to be said of it, if anything.
    """
    if processor.scale is None:
        return []
    lowest, highest = processor.scale
    processor.score_map = None
    processor.score_std_scale *= 100 / (highest - lowest)
    return [
        f"`lmmvqa calibrate` mapped this model's scores to {lowest:.4g} to {highest:.4g}; here they are on 0-100, as MOS in rows "
        "are, and as they were before. Their order and the levels are the same on both scales."
    ]


def learned_tasks(tasks: Sequence[str], processor: LmmVqaProcessor) -> list[str]:
    """
    The questions that a model has learned.

    Raises:
        ValueError: it has learned none of them.
    """
    learned = [task for task in tasks if task != "level" or processor.level_question is not None]
    if not learned:
        raise ValueError(
            "got --tasks level for a model that never learned the level question, expected one trained with --tasks "
            "score level; ask for the score alone"
        )
    return learned


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
        "versions": versions_of("torch", "transformers", "av"),
    }


def _head(options: EvaluationOptions) -> dict:
    return {
        "model": options.model or "embedded default",
        "weights": weights_digest(options.model or default_checkpoint()),
        "readout": options.readout,
        "tasks": list(options.tasks),
        "versions": versions_of("torch", "transformers", "av"),
    }
