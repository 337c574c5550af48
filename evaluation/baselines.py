"""Other methods under the protocol of `lmmvqa evaluate`: predictions, figures and a table of the same form (Table I)."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ..checkpoints.checkpoint_digest import checkpoint_digest
from ..datasets_scripts.degraded.chained_clips import UNTOUCHED
from ..datasets_scripts.folder_seal import seal_folder
from ..datasets_scripts.rows import rows_digest
from ..scoring.report import failure_line, finite
from .classical_baselines import PACKAGES, check_installed, score_function
from .degradations import is_content_set, place
from .options import BaselineOptions
from .predictions import PREDICTION_KEYS
from .rated_sets import EvaluatedPart, evaluated_parts, load_rated_sets
from .results import PREDICTIONS_FILE, evaluate_parts, versions_of, write_results
from .tables import checkpoint_tables


# Of a content in a sample; a whole ladder
VERSIONS = 12


def evaluate_baseline(options: BaselineOptions) -> dict:
    """
    Returns:
        What `metrics.json` holds, as `evaluate_checkpoint` does. Predictions and a table lie beside it. Scores of
        classical methods are on scales of their own, so that of their figures only correlations and what is fitted say
        something.

    Raises:
        ValueError: of the data or the model, a package that is missing, or a folder begun under other settings.
    """
    tasks = list(options.tasks) if options.model else ["score"]
    fitted = [row for rated in load_rated_sets([options.fit_on] if options.fit_on else []) for row in rated.rows]
    fitted = [row for row in fitted if row["split"] == "train"]
    parts = _parts(options, {row["dataset"] for row in fitted})
    rows = [row for part in parts for row in part.rows]
    predict, versions = _predictor(options, {row["video"]: row for row in rows}, fitted)
    out = Path(options.out)
    settings = asdict(options) | {
        "model": options.model and checkpoint_digest(options.model),
        "data": rows_digest(rows),
        "fit_on": rows_digest(fitted),
        "tasks": tasks,
        "versions": versions,
    }
    del settings["out"]
    seal_folder(out, settings, [PREDICTIONS_FILE])

    predictions, sets = evaluate_parts(
        parts, lambda videos: [_predicted(predict, video) for video in videos], out, tasks, 1, options.model is None
    )
    head = {
        "model": options.model or options.method,
        "readout": "answers, written and parsed" if options.model else "the measure's own scale, higher is better",
        "tasks": tasks,
        "versions": versions,
    }
    notes = [] if options.method == "vmaf" else [f"At most {options.max_frames} frames of a video are looked at"]
    return write_results(out, head, {"notes": notes, "sets": sets}, predictions, checkpoint_tables)


def _parts(options: BaselineOptions, fitted_sets: set[str]) -> list[EvaluatedPart]:
    """What is evaluated, or a sample of it."""
    parts = []
    for rated in load_rated_sets(options.data):
        trained = "in_sample" if rated.dataset in fitted_sets else "out_of_distribution"
        for part in evaluated_parts(rated, fitted_sets, "in_sample" if options.test_splits else None):
            rows = sample_rows(part.rows, options.num_videos, options.seed)
            parts.append(replace(part, rows=rows, protocol=trained if fitted_sets else "zero_shot", thresholds=None))
    return parts


def sample_rows(rows: list[dict], num_videos: int | None, seed: int = 0) -> list[dict]:
    """
    So many rows, drawn by seed and in their order; all of them where there are no more, or for None.

    Of `lmmvqa prepare degraded_contents` and `ladders`, at most so many: one content after the other, drawn, those that
    a camera recorded first, each with its untouched clip and at most `VERSIONS - 1` drawn versions.
    """
    if num_videos is None or num_videos >= len(rows):
        return rows
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(rows), len(rows) if is_content_set(rows) else num_videos, replace=False)
    if is_content_set(rows):
        places = defaultdict(list)
        for index in drawn:
            places[place(rows[index])].append(index)
        drawn = []
        for indices in sorted(places.values(), key=lambda indices: not rows[indices[0]]["is_real"]):
            drawn += sorted(indices, key=lambda index: rows[index]["version"] != UNTOUCHED)[:VERSIONS]
    return [rows[index] for index in sorted(drawn[:num_videos])]


def _predictor(
    options: BaselineOptions, row_of: dict[str, dict], fitted: list[dict]
) -> tuple[Callable[[str], dict], dict[str, str]]:
    """A function of a video, and the versions of what it hangs on."""
    if (options.model is None) == (options.method is None):
        raise ValueError("got both or none of model and method, expected one of them")
    if (options.method == "efficientnet-svr") != bool(fitted):
        raise ValueError(
            f"got {options.method or options.model} with {len(fitted)} rows to fit on, expected the train split of rated "
            "photographs for the method efficientnet-svr and none for others; see --fit_on"
        )
    if options.model:
        from .lmm_baseline import LmmBaseline

        baseline = LmmBaseline(options.model, options.device, options.dtype, options.max_frames, options.frames_as)
        return lambda video: baseline.predict(video, tuple(options.tasks)), versions_of("torch", "transformers", "av")

    check_installed(options.method)
    score = score_function(options.method, options.max_frames, fitted)
    packages, _ = PACKAGES[options.method]

    def predict(video: str) -> dict:
        return {"score": score(row_of[video]), "error": None}

    return predict, versions_of(*packages.values(), "numpy", "av")


def _predicted(predict: Callable[[str], dict], video: str) -> dict:
    """A prediction with all columns that LMM-VQA's have; where there is none, `error` is one line."""
    result = dict.fromkeys(PREDICTION_KEYS)
    try:
        return finite(result | predict(video))
    except Exception as failure:
        return result | {"error": failure_line(failure)}
