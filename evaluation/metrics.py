"""How well predictions agree with opinions: SRCC, KRCC, PLCC and RMSE, and level accuracy."""

import numpy as np
from scipy import stats


def correlations(predictions: list[float], mos: list[float]) -> dict[str, float]:
    """
    Args:
        predictions: predicted scores, any scale.
        mos: mean opinion scores of the same videos.

    Returns:
        `n`, `srcc` (Spearman), `krcc` (Kendall), `plcc` (Pearson) and `rmse`, all on raw predictions.

    Raises:
        ValueError: fewer than three pairs, lists of different length, values that are not finite, or a constant list,
            for which no correlation exists.
    """
    predictions, mos = np.asarray(predictions, dtype=float), np.asarray(mos, dtype=float)
    if predictions.shape != mos.shape or predictions.ndim != 1 or len(mos) < 3:
        raise ValueError(
            f"got {predictions.shape} predictions for {mos.shape} MOS, expected two lists of one length of 3 or more"
        )
    for name, values in (("predictions", predictions), ("mos", mos)):
        if not np.isfinite(values).all():
            raise ValueError(f"got {(~np.isfinite(values)).sum()} {name} that are not finite; leave failed videos out")
        if np.ptp(values) == 0:
            raise ValueError(f"got {len(values)} {name} that are all {values[0]:g}; correlation needs some variation")
    return {
        "n": len(mos),
        "srcc": float(stats.spearmanr(predictions, mos).statistic),
        "krcc": float(stats.kendalltau(predictions, mos).statistic),
        "plcc": float(stats.pearsonr(predictions, mos).statistic),
        "rmse": float(np.sqrt(np.mean((predictions - mos) ** 2))),
    }


def level_accuracy(predictions: list[str], levels: list[str]) -> dict:
    """
    Args:
        predictions: predicted levels.
        levels: true levels of the same videos.

    Returns:
        `n` and `share` answered rightly overall, and under each true level `n` and `recall`.
    """
    right = np.asarray(predictions) == np.asarray(levels)
    recalls = {
        level: {"n": levels.count(level), "recall": float(right[np.asarray(levels) == level].mean())}
        for level in dict.fromkeys(levels)
    }
    return {"n": len(levels), "share": float(right.mean()), **recalls}


def bootstrap_interval(
    predictions: list[float], mos: list[float], name: str, samples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """
    The 95 % interval of a figure of `correlations` over videos drawn with replacement.

    Args:
        name: key of `correlations`, such as "srcc".
    """
    predictions, mos = np.asarray(predictions, dtype=float), np.asarray(mos, dtype=float)
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(mos), size=len(mos)) for _ in range(samples))
    values = [correlations(predictions[draw], mos[draw])[name] for draw in draws]
    lower, upper = np.quantile(values, [0.025, 0.975])
    return float(lower), float(upper)
