"""Other methods under the protocol of `lmmvqa evaluate`: predictions, figures and a table of the same form (Table I)."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ..checkpoints.checkpoint_digest import checkpoint_digest
from ..datasets_scripts.degraded.chained_clips import UNTOUCHED
from ..datasets_scripts.folder_seal import seal_folder
from ..datasets_scripts.rows import rows_digest
from ..scoring.report import failure_line, finite
from ..training.qa_pairs import level_thresholds
from .classical_baselines import PACKAGES, check_installed, score_function
from .degradations import is_content_set, place
from .options import BaselineOptions
from .prediction_file import predict_to_file
from .predictions import PREDICTION_KEYS
from .rated_sets import evaluated_parts, load_rated_sets
from .results import PREDICTIONS_FILE, described, figures_of, write_results
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
    fitted_sets = {row["dataset"] for row in fitted}
    parts = [
        replace(part, rows=sample_rows(part.rows, options.num_videos, options.seed))
        for rated in load_rated_sets(options.data)
        for part in evaluated_parts(rated, fitted_sets, "in_sample" if options.test_splits else None)
    ]
    rows = [row for part in parts for row in part.rows]
    predict, versions = _predictor(options, {row["video"]: row for row in rows}, fitted)
    out = Path(options.out)
    settings = {
        name: value for name, value in asdict(options).items() if name not in ("out", "data", "model", "fit_on")
    }
    model = options.model and checkpoint_digest(options.model)
    settings |= {
        "model": model,
        "data": rows_digest(rows),
        "fit_on": rows_digest(fitted),
        "tasks": tasks,
        "versions": versions,
    }
    seal_folder(out, settings, [PREDICTIONS_FILE])

    thresholds = [level_thresholds(part.rows)[part.dataset] for part in parts]
    rows_of_file = [
        described(row, part.mos_range, of_part)
        for part, of_part in zip(parts, thresholds, strict=True)
        for row in part.rows
    ]
    predictions = predict_to_file(
        out / PREDICTIONS_FILE, rows_of_file, lambda videos: [_predicted(predict, video) for video in videos], 1
    )
    sets, start = [], 0
    for part, of_part in zip(parts, thresholds, strict=True):
        protocol = ("in_sample" if part.dataset in fitted_sets else "out_of_distribution") if fitted else "zero_shot"
        facts = {name: value for name, value in vars(part).items() if name != "rows"} | {"protocol": protocol}
        predicted = predictions[start : start + len(part.rows)]
        sets.append(facts | figures_of(predicted, tasks, of_part, "the evaluated videos", options.model is None))
        start += len(part.rows)
    metrics = {
        "model": options.model or options.method,
        "readout": "answers, written and parsed" if options.model else "the measure's own scale, higher is better",
        "tasks": tasks,
        "versions": versions,
        "failures": sum(prediction["error"] is not None for prediction in predictions),
        "notes": [] if options.method == "vmaf" else [f"At most {options.max_frames} frames of a video are looked at"],
        "sets": sets,
    }
    write_results(out, metrics, checkpoint_tables(metrics), predictions)
    return metrics


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
        packages = {name: version(name) for name in ("lmmvqa", "torch", "transformers", "av")}
        return lambda video: baseline.predict(video, tuple(options.tasks)), packages

    check_installed(options.method)
    score = score_function(options.method, options.max_frames, fitted)
    packages, _ = PACKAGES[options.method]

    def predict(video: str) -> dict:
        return {"score": score(row_of[video]), "error": None}

    return predict, {name: version(name) for name in ("lmmvqa", *packages.values(), "numpy", "av")}


def _predicted(predict: Callable[[str], dict], video: str) -> dict:
    """A prediction with all columns that LMM-VQA's have; where there is none, `error` is one line."""
    result = dict.fromkeys(PREDICTION_KEYS)
    try:
        return finite(result | predict(video))
    except Exception as failure:
        return result | {"error": failure_line(failure)}
