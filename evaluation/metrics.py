"""How well predictions agree with opinions: correlations, raw and fitted, their intervals, and levels answered rightly."""

import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.special import expit

from ..processing.answers_lmmvqa import LEVELS


# Standard deviations on either side of its mean that hold 95 % of a normal distribution
INTERVAL = 1.96


class FitError(ValueError):
    """The logistic does not fit: what was measured after it would mean nothing."""


def correlations(predictions: list[float], mos: list[float]) -> dict[str, float]:
    """
    Args:
        predictions: predicted scores, any scale.
        mos: mean opinion scores of the same videos.

    Returns:
        `n`, `srcc` (Spearman), `krcc` (Kendall's tau-b), `plcc` (Pearson) and `rmse`, all on raw predictions.

    Raises:
        ValueError: fewer than three pairs, lists of different length, values that are not finite, or a constant list,
            for which no correlation exists.
    """
    predictions, mos = _checked(predictions, mos, at_least=3)
    return {
        "n": len(mos),
        "srcc": float(stats.spearmanr(predictions, mos).statistic),
        "krcc": float(stats.kendalltau(predictions, mos).statistic),
        "plcc": float(stats.pearsonr(predictions, mos).statistic),
        "rmse": _rmse(predictions, mos),
    }


def logistic_fit(predictions: list[float], mos: list[float]) -> np.ndarray:
    """
    Predictions mapped onto the MOS by the field's monotonic function, `b2 + (b1 - b2) / (1 + exp(-(x - b3) / |b4|))`,
    least squares from b1 = highest MOS, b2 = lowest MOS, b3 = mean prediction, b4 = 0.5. That start is a step for
    predictions on 0-100 and the search at times stops there, with more error than a straight line, which the function
    can come as close to as one likes; then it starts again from b4 = standard deviation of the predictions.

    It may turn the order of predictions round (b1 < b2), so read what is measured after it beside the SRCC.

    Returns:
        (n,) fitted predictions, on the scale of the MOS.

    Raises:
        FitError: neither start leads to an error as small as a straight line's.
        ValueError: as in `correlations`, but fewer than four pairs, which four parameters meet exactly.
    """
    predictions, mos = _checked(predictions, mos, at_least=4)
    line = _rmse(np.polyval(np.polyfit(predictions, mos, 1), predictions), mos)

    def logistic(x, b1, b2, b3, b4):
        return b2 + (b1 - b2) * expit((x - b3) / abs(b4))

    errors = []
    for width in (0.5, predictions.std()):
        start = (mos.max(), mos.min(), predictions.mean(), width)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", OptimizeWarning)  # the parameters' covariance, which nobody reads
                parameters, _ = curve_fit(logistic, predictions, mos, start, maxfev=10_000)
        except RuntimeError as error:
            errors.append(f"from b4 = {width:.4g} it does not converge ({error})")
            continue
        fitted = logistic(predictions, *parameters)
        rounding = 1e-6 * np.ptp(mos)
        if _rmse(fitted, mos) <= 1.001 * line + rounding and np.ptp(fitted) > rounding:
            return fitted
        errors.append(f"from b4 = {width:.4g} it stops at an RMSE of {_rmse(fitted, mos):.4g}")
    raise FitError(
        f"got {len(mos)} videos that the 4-parameter logistic does not fit ({'; '.join(errors)}), expected an RMSE of "
        f"{line:.4g} as of a straight line; trust the raw figures"
    )


def agreement(
    predictions: list[float | None], mos: list[float], samples: int = 1000, seed: int = 0
) -> dict[str, int | float | str | dict | None]:
    """
    Everything that a table of results says about one data set.

    Args:
        predictions: predicted scores, None for a video that has none.
        mos: mean opinion scores of the same videos.
        samples: resamples of the intervals, drawn by `seed`.

    Returns:
        `n` and `failures`, the videos with and without a score; `srcc`, `krcc`, `plcc` and `rmse` of the raw
        predictions; `plcc_fitted` and `rmse_fitted` after `logistic_fit`, or None, and `fit_error` says why; and what
        `bootstrap_intervals` returns.

    Raises:
        ValueError: as in `logistic_fit`.
    """
    scored, scored_mos = _scored(predictions, mos)
    fitted, fit_error = None, None
    try:
        fitted = logistic_fit(scored, scored_mos)
    except FitError as error:
        fit_error = str(error)
    return {
        **correlations(scored, scored_mos),
        "failures": len(mos) - len(scored),
        "plcc_fitted": None if fitted is None else float(stats.pearsonr(fitted, scored_mos).statistic),
        "rmse_fitted": None if fitted is None else _rmse(fitted, np.asarray(scored_mos)),
        "fit_error": fit_error,
        **bootstrap_intervals(scored, scored_mos, fitted, samples, seed),
    }


def bootstrap_intervals(
    predictions: list[float],
    mos: list[float],
    fitted: np.ndarray | None = None,
    samples: int = 1000,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> dict[str, dict | int]:
    """
    The 95 % intervals of the figures of `correlations` over videos drawn with replacement.

    Args:
        groups: the content of each video: contents are drawn in place of videos, each with all of its videos.
        fitted: predictions after `logistic_fit`, for the intervals of `plcc_fitted` and `rmse_fitted`; the fit is made
            once, not anew on each resample.

    Returns:
        `intervals`, {figure: (lower, upper)}, and `resamples`, the number that they rest on: `samples` less those in
        which every prediction or every MOS is the same, as happens with a handful of videos.

    Raises:
        ValueError: as in `correlations`, or no resample is left.
    """
    predictions, mos = _checked(predictions, mos, at_least=3)
    scales = [("", predictions)] if fitted is None else [("", predictions), ("_fitted", fitted)]
    (_, prediction_order), (_, mos_order) = (np.unique(of, return_inverse=True) for of in (predictions, mos))
    values = defaultdict(list)
    members = [[index] for index in range(len(mos))] if groups is None else _members(groups)
    for units in np.random.default_rng(seed).integers(len(members), size=(samples, len(members))):
        draw = np.concatenate([members[unit] for unit in units])
        drawn = mos[draw]
        if any(np.ptp(scale[draw]) == 0 for _, scale in [*scales, ("", mos)]):
            continue
        values["srcc"].append(_pearson(_ranks(prediction_order[draw]), _ranks(mos_order[draw])))
        values["krcc"].append(stats.kendalltau(predictions[draw], drawn, method="asymptotic").statistic)
        for suffix, scale in scales:
            values[f"plcc{suffix}"].append(_pearson(scale[draw], drawn))
            values[f"rmse{suffix}"].append(_rmse(scale[draw], drawn))
    if not values:
        raise ValueError(
            f"got {len(mos)} videos, and in none of {samples} resamples do both predictions and MOS vary; expected "
            "some that do; add videos"
        )
    intervals = {name: tuple(np.quantile(drawn, [0.025, 0.975]).tolist()) for name, drawn in values.items()}
    return {"intervals": intervals, "resamples": len(values["srcc"])}


def _members(groups: Sequence[str]) -> list[list[int]]:
    members = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    return list(members.values())


def coverage(
    predictions: list[float | None], deviations: list[float | None], mos: list[float]
) -> dict[str, int | float | None]:
    """
    How far a model's own standard deviations can be trusted: 0.95 if it errs by a normal distribution of these.

    Args:
        predictions, deviations: scores and their standard deviations, None for a video that has none.

    Returns:
        `n`, and the `share` of these videos whose MOS lies inside the score plus or minus 1.96 standard deviations.
    """
    scored = [triple for triple in zip(predictions, deviations, mos, strict=True) if None not in triple[:2]]
    inside = [abs(truth - score) <= INTERVAL * deviation for score, deviation, truth in scored]
    return {"n": len(inside), "share": sum(inside) / len(inside) if inside else None}


def level_report(
    predictions: list[str | None], levels: list[str], thresholds: Sequence[float] | Mapping[str, Sequence[float]]
) -> dict:
    """
    Args:
        predictions: predicted levels, None for a video that has none.
        levels: true levels of the same videos.
        thresholds: MOS that divide true levels, of one data set or by data set: to be printed beside the figures.

    Returns:
        `n` and `failures`, the videos with and without a prediction; `share` answered rightly of all n; `recall`,
        {level: {n, recall}} by true level, the recall of an absent level being None; `confusion`, {true level:
        {predicted level: videos}}; and `thresholds`.

    Raises:
        ValueError: lists of different length, a word that is no level, or no prediction at all.
    """
    predicted, true = _scored(predictions, levels)
    unknown = {*predicted, *levels} - {*LEVELS}
    if unknown or not predicted:
        raise ValueError(
            f"got {len(predicted)} predicted levels and among all levels {sorted(map(repr, unknown))}, expected at least "
            f"one and only {', '.join(LEVELS)}"
        )
    pairs = Counter(zip(true, predicted, strict=True))
    confusion = {level: {answer: pairs[level, answer] for answer in LEVELS} for level in LEVELS}
    recall = {}
    for level, answers in confusion.items():
        of_level = sum(answers.values())
        recall[level] = {"n": of_level, "recall": answers[level] / of_level if of_level else None}
    return {
        "n": len(predicted),
        "failures": len(levels) - len(predicted),
        "share": sum(confusion[level][level] for level in LEVELS) / len(predicted),
        "recall": recall,
        "confusion": confusion,
        "thresholds": thresholds,
    }


def _scored(predictions: list, truths: list) -> tuple[list, list]:
    if len(predictions) != len(truths):
        raise ValueError(
            f"got {len(predictions)} predictions for {len(truths)} videos, expected one each; give None where there is "
            "none"
        )
    pairs = [pair for pair in zip(predictions, truths, strict=True) if pair[0] is not None]
    return [prediction for prediction, _ in pairs], [truth for _, truth in pairs]


def _checked(predictions: list[float], mos: list[float], at_least: int) -> tuple[np.ndarray, np.ndarray]:
    predictions, mos = np.asarray(predictions, dtype=float), np.asarray(mos, dtype=float)
    if predictions.shape != mos.shape or predictions.ndim != 1 or len(mos) < at_least:
        raise ValueError(
            f"got {predictions.shape} predictions for {mos.shape} MOS, expected two lists of one length of {at_least} "
            "or more"
        )
    for name, values in (("predictions", predictions), ("mos", mos)):
        if not np.isfinite(values).all():
            raise ValueError(f"got {(~np.isfinite(values)).sum()} {name} that are not finite; leave failed videos out")
        if np.ptp(values) == 0:
            raise ValueError(f"got {len(values)} {name} that are all {values[0]:g}; correlation needs some variation")
    return predictions, mos


def _rmse(predictions: np.ndarray, mos: np.ndarray) -> float:
    return float(np.sqrt(np.mean((predictions - mos) ** 2)))


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def _ranks(order: np.ndarray) -> np.ndarray:
    """Mean ranks of values that are small whole numbers already: counting them is faster than sorting again."""
    counts = np.bincount(order)
    return (counts.cumsum() - (counts - 1) / 2)[order]
