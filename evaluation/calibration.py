"""A model's scores to a user's own scale of opinions: the map and the deviation that fit ratings best, and what is gained."""

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.optimize import least_squares
from scipy.special import expit
from tqdm import tqdm

from ..datasets_scripts.label_files import read_labels
from ..modeling_lmmvqa import LmmVqaProcessor, VideoQualityAssessmentPipeline
from ..scoring.scorer import score_videos
from .comparison import fit_pair_std_scale, pairs_of_contents, reliability
from .metrics import INTERVAL, coverage


MIN_RATINGS = 8
# The logistic's four parameters, fitted to 20 ratings and preferred, at times missed other videos by the whole scale
MIN_RATINGS_FOR_LOGISTIC = 30
FOLDS = 10
SHARE = 0.95  # of truths inside score +- 1.96 std, as of a normal distribution
REPORT_NAME = "calibration.json"

Fit = Callable[[np.ndarray, np.ndarray], np.ndarray]


def read_ratings(path: str | Path) -> dict[str, float]:
    """
    A table of videos and opinions, see `label_files.read_labels`, to {path of the video: mos}. Videos lie relative to
    the table's folder.

    Raises:
        ValueError: the table cannot be read, a MOS is no finite number, or a video is listed twice.
        OSError: no such table.
    """
    ratings = {}
    for line in read_labels(path):
        video = str(Path(path).parent / line["name"])
        try:
            mos = float(line["mos"])
        except ValueError:
            mos = np.nan
        if not np.isfinite(mos):
            raise ValueError(
                f"got mos {line['mos']!r} of {line['name']} in {path}, expected a number; correct the line"
            )
        if video in ratings:
            raise ValueError(f"got {line['name']} twice in {path}, expected one line a video; keep one, or their mean")
        ratings[video] = mos
    return ratings


def read_contents(path: str | Path) -> dict[str, str] | None:
    """
    The column `content` of a table of ratings, {path of the video: what it shows}, which versions of one content share; None
    for a table without it. A video whose cell is empty shares its content with none.

    Raises:
        ValueError: the table cannot be read.
        OSError: no such table.
    """
    lines = read_labels(path)
    if "content" not in lines[0]:
        return None
    return {str(Path(path).parent / line["name"]): line["content"] for line in lines if line["content"]}


def fit_line(scores: np.ndarray, mos: np.ndarray) -> np.ndarray:
    """The straight line of least squares, as MOS of the scores 0 to 100."""
    return np.polyval(np.polyfit(scores, mos, 1), np.arange(101))


def fit_logistic(scores: np.ndarray, mos: np.ndarray) -> np.ndarray:
    """
    The field's 4-parameter logistic of least squares, as MOS of the scores 0 to 100.

    Other than in `evaluation.metrics.logistic_fit`, which describes given videos, the map is for videos to come: it
    rises, has its middle on the scale and is no step. Free parameters go wild between and beyond few ratings.
    """
    middle, spread = mos.mean(), mos.std()

    def logistic(parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
        low, height, turning_point, width = parameters
        return middle + spread * (low + height * expit((x - turning_point) / width))

    found = least_squares(
        lambda parameters: (logistic(parameters, scores) - mos) / spread,
        x0=(-2, 4, np.clip(scores.mean(), 1, 99), np.clip(scores.std(), 6, 50)),
        bounds=([-np.inf, 0, 0, 5], [np.inf, np.inf, 100, 1000]),
        x_scale=(1, 1, 10, 10),
    )
    return logistic(found.x, np.arange(101))


FITS: dict[str, Fit] = {"line": fit_line, "logistic": fit_logistic}


def folds_of(count: int) -> np.ndarray:
    """The fold of each video, (count,) from 0 to `FOLDS` - 1, the same on every run."""
    return np.random.default_rng(0).permutation(count) % FOLDS


def unseen(fit: Fit, scores: np.ndarray, mos: np.ndarray) -> np.ndarray:
    """MOS of each video by the map that is fitted to the other folds; (n,)."""
    folds, predicted = folds_of(len(mos)), np.empty(len(mos))
    for fold in np.unique(folds):
        held_out = folds == fold
        predicted[held_out] = np.interp(scores[held_out], np.arange(101), fit(scores[~held_out], mos[~held_out]))
    return predicted


def fit_std_scale(residuals: np.ndarray, stds: np.ndarray) -> tuple[float, float]:
    """
    The factor on the deviations that puts `SHARE` of the truths inside the interval.

    Args:
        residuals: truth less score of videos that the map was not fitted to.
        stds: deviations of the model's own distributions.

    Returns:
        The factor, and the share of truths inside where the factor is fitted to the other folds.
    """
    needed = np.abs(residuals) / (INTERVAL * stds)
    folds, inside = folds_of(len(needed)), []
    for fold in np.unique(folds):
        inside += (needed[folds == fold] <= np.quantile(needed[folds != fold], SHARE)).tolist()
    return float(np.quantile(needed, SHARE)), float(np.mean(inside))


def calibrate(
    scorer: VideoQualityAssessmentPipeline,
    ratings: dict[str, float],
    std_only: bool = False,
    contents: dict[str, str] | None = None,
) -> dict:
    """
    Fits `score_map`, `score_std_scale` and `pair_std_scale` of the scorer's processor to ratings, and sets them.

    The map is a line or, from `MIN_RATINGS_FOR_LOGISTIC` on, a logistic, whichever has the smaller squared error on videos
    that it was not fitted to. An earlier calibration is replaced.

    Args:
        ratings: {path of the video: mos}, on any scale on which more is better.
        std_only: the scores stay as they are, and ratings are on their scale.
        contents: {path of the video: what it shows}, of those that share it; without it nothing is known of pairs, and
            `pair_std_scale` is 1.

    Returns:
        What `lmmvqa calibrate` reports: errors before, after, and after on videos that nothing was fitted to.

    Raises:
        ValueError: fewer than `MIN_RATINGS` videos, or pairs of one content where contents are given; ratings or scores that
            are all the same, or ratings that fall as scores rise. What ratings alone tell is told before a video is scored.
    """
    _check_ratings(ratings, contents)
    processor = scorer.processor
    map_before, std_scale_before = processor.score_map, processor.score_std_scale
    processor.score_std_scale = 1.0
    if not std_only:
        processor.score_map = None
    scored, failed = _score(scorer, ratings)
    scores, stds = (np.array([row[name] for row in scored]) for name in ("score", "score_std"))
    mos = np.array([ratings[row["video"]] for row in scored])
    which = f" with a score of {len(ratings)}" + (f" (without: {failed[0]['error']})" if failed else "")
    _check_ratings({row["video"]: ratings[row["video"]] for row in scored}, contents, which)
    _check_scores(scores, stds)

    before = scores if map_before is None or std_only else np.interp(scores, np.arange(101), map_before)
    after, expected, maps = (scores, scores, {}) if std_only else _fit_map(processor, scores, mos)
    processor.score_std_scale, share_unseen = fit_std_scale(mos - expected, stds)
    processor.pair_std_scale, of_pairs = 1.0, {}
    if contents is not None:
        of_videos = _contents_of((row["video"] for row in scored), contents)
        of_pairs = _fit_pairs(processor, pairs_of_contents(after, stds * processor.score_std_scale, mos, of_videos))
    return {
        "n": len(mos),
        "failures": [{"video": row["video"], "error": row["error"]} for row in failed],
        "mos_min": mos.min(),
        "mos_max": mos.max(),
        "mos_std": mos.std(),
        "scale": processor.scale,
        "score_std_scale": processor.score_std_scale,
        **maps,
        **of_pairs,
        "before": _agreement(before, mos, stds * std_scale_before),
        "after": _agreement(after, mos, stds * processor.score_std_scale),
        "unseen": {**_errors(expected, mos), "share": share_unseen},
    }


def _score(scorer: VideoQualityAssessmentPipeline, videos: Collection[str]) -> tuple[list[dict], list[dict]]:
    """The rows of `score_videos` with a score, and those without."""
    rows = list(tqdm(score_videos(scorer, videos), total=len(videos), unit="video", delay=3, disable=None))
    return [row for row in rows if row["error"] is None], [row for row in rows if row["error"] is not None]


def _fit_pairs(processor: LmmVqaProcessor, pairs: dict) -> dict:
    """Sets `pair_std_scale`; returns what is reported of these pairs, `pairs_of_contents`."""
    processor.pair_std_scale = fit_pair_std_scale(pairs)
    return {
        "pairs": sum(map(len, pairs.values())),
        "pair_std_scale": processor.pair_std_scale,
        "pairs, by probability": reliability(pairs, processor.pair_std_scale),
    }


def _fit_map(processor: LmmVqaProcessor, scores: np.ndarray, mos: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict]:
    """
    Sets the processor's `score_map`.

    Returns:
        MOS of each video by the map, MOS by maps that were not fitted to the video, and what the report says of it.
    """
    fits = FITS if len(mos) >= MIN_RATINGS_FOR_LOGISTIC else {"line": fit_line}
    predicted = {name: unseen(fit, scores, mos) for name, fit in fits.items()}
    errors = {name: _errors(values, mos) for name, values in predicted.items()}
    chosen = min(errors, key=lambda name: errors[name]["rmse"])
    processor.score_map = FITS[chosen](scores, mos).tolist()
    if not (np.diff(processor.score_map) > 0).all():
        raise ValueError(
            f"got ratings of {len(mos)} videos that do not rise with the scores (SRCC "
            f"{stats.spearmanr(scores, mos).statistic:.2f}), expected higher ratings for better videos; check the "
            "column mos"
        )
    after = np.array(processor.calibrated(scores.tolist()))
    return after, predicted[chosen], {"map": chosen, "maps, unseen": errors}


def write_report(report: dict, folder: str | Path) -> None:
    """The report as `calibration.json` beside the calibrated checkpoint."""
    (Path(folder) / REPORT_NAME).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def report_lines(report: dict) -> list[str]:
    lines = [
        f"{report['n']} videos, {len(report['failures'])} without score; MOS {report['mos_min']:g} to "
        f"{report['mos_max']:g}, deviation {report['mos_std']:.3g}",
        f"{'':24}{'RMSE':>8}{'MAE':>8}{'SRCC':>8}  truths inside score ± 1.96 std",
    ]
    names = {"before": "before", "after": "after", "unseen": "after, videos left out"}
    for key, name in names.items():
        figures = report[key]
        srcc = f"{figures['srcc']:8.3f}" if "srcc" in figures else " " * 8
        lines.append(f"{name:24}{figures['rmse']:8.3f}{figures['mae']:8.3f}{srcc}  {figures['share']:.1%}")
    if "map" in report:
        errors = ", ".join(f"{name} {figures['rmse']:.3f}" for name, figures in report["maps, unseen"].items())
        lowest, highest = report["scale"]
        lines.append(f"map: {report['map']} (RMSE on videos left out: {errors}); scores {lowest:.4g} to {highest:.4g}")
    lines.append(f"std: {report['score_std_scale']:.4g} for each point that the answers deviate")
    if "pairs" in report:
        lines.append(
            f"pairs: {report['pairs']} of one content; deviation of a difference {report['pair_std_scale']:.4g} of two"
        )
        lines += [
            f"  called better with {row['probability']:.0%}: right in {row['share']:.0%} of {row['n']}"
            for row in report["pairs, by probability"]
        ]
    return lines


def _contents_of(videos: Iterable[str], contents: dict[str, str]) -> list[str]:
    return [contents.get(video, video) for video in videos]


def _check_ratings(ratings: dict[str, float], contents: dict[str, str] | None, which: str = "") -> None:
    if len(ratings) < MIN_RATINGS:
        raise ValueError(f"got {len(ratings)} rated videos{which}, expected at least {MIN_RATINGS}; rate more videos")
    mos = list(ratings.values())
    _check_spread("ratings", mos)
    if contents is None:
        return
    count = sum(map(len, pairs_of_contents(mos, mos, mos, _contents_of(ratings, contents)).values()))
    if count < MIN_RATINGS:
        raise ValueError(
            f"got {count} pairs of videos{which} with one content and different ratings, expected at least {MIN_RATINGS}; "
            "rate more versions of a content, or leave the column content out"
        )


def _check_spread(name: str, values: Sequence[float]) -> None:
    if np.ptp(values) == 0:
        raise ValueError(f"got {len(values)} {name} that are all {values[0]:g}, expected some that differ; add videos")


def _check_scores(scores: np.ndarray, stds: np.ndarray) -> None:
    _check_spread("scores", scores)
    if not (stds > 0).all():
        raise ValueError(
            f"got {(stds == 0).sum()} scores without any deviation, expected a model that is less than certain; check it "
            "with `lmmvqa score`"
        )


def _errors(predicted: np.ndarray, mos: np.ndarray) -> dict[str, float]:
    errors = predicted - mos
    return {"rmse": float(np.sqrt(np.mean(errors**2))), "mae": float(np.abs(errors).mean())}


def _agreement(scores: np.ndarray, mos: np.ndarray, stds: np.ndarray) -> dict[str, float]:
    share = coverage(scores, stds, mos)["share"]
    srcc = stats.spearmanr(scores, mos).statistic
    return {**_errors(scores, mos), "srcc": float(srcc), "share": float(share)}
