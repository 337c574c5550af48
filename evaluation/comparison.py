"""Versions of one content: which looks better and how surely, and what that costs in bits."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import minimize_scalar
from scipy.stats import norm


# How far `fit_pair_std_scale` searches
SMALLEST_SCALE, LARGEST_SCALE = 0.05, 20.0
# Probabilities are bounded by this where their logarithm is taken: one pair, wrong by a mile, must not decide all
LEAST_PROBABILITY = 1e-6
# Borders of the probabilities that `reliability` tells apart; .85 to .95 is what is called .9
PROBABILITY_BORDERS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.95, 0.99, 1.0)
# Of a ladder, for a Bjøntegaard delta
MIN_RUNGS = 3


def probability_better(
    scores: np.ndarray, stds: np.ndarray, other_scores: np.ndarray, other_stds: np.ndarray, pair_std_scale: float = 1.0
) -> np.ndarray:
    """
    How probable it is that one version looks better than another of the same content: the probability that a normal
    distribution about the difference of their scores is above 0.

    Its deviation is that of two independent answers, the root of the sum of both variances, times `pair_std_scale`. Errors
    that both versions share, as where the model likes or dislikes what they show, make it less than 1.

    Args:
        scores, stds, other_scores, other_stds: of the answers' distributions, which broadcast.
        pair_std_scale: of the processor, see `LmmVqaProcessor`.
    """
    difference = np.subtract(scores, other_scores)
    return norm.cdf(difference / (pair_std_scale * np.hypot(stds, other_stds)))


def pairs_of_contents(
    scores: Sequence[float], stds: Sequence[float], mos: Sequence[float], contents: Sequence[str]
) -> dict[str, np.ndarray]:
    """
    All pairs of versions whose opinions differ, by content.

    Returns:
        {content: (pairs, 5)}: score and deviation of one, those of the other, and MOS of the one less that of the other.
    """
    members = {}
    for version in zip(scores, stds, mos, contents, strict=True):
        members.setdefault(version[-1], []).append(version)
    pairs = {
        content: [
            (score, std, other_score, other_std, opinion - other)
            for (score, std, opinion, _), (other_score, other_std, other, _) in combinations(versions, 2)
            if opinion != other
        ]
        for content, versions in members.items()
    }
    return {content: np.array(of_content) for content, of_content in pairs.items() if of_content}


def fit_pair_std_scale(pairs: Mapping[str, np.ndarray]) -> float:
    """
    The `pair_std_scale` that makes most likely which of two versions has the higher opinion. Each content counts the same.

    Args:
        pairs: see `pairs_of_contents`.
    """

    def loss(logarithm: float) -> float:
        scale = float(np.exp(logarithm))
        of_contents = []
        for of_content in pairs.values():
            *versions, difference = of_content.T
            probabilities = probability_better(*versions, scale)
            right = np.where(difference > 0, probabilities, 1 - probabilities)
            of_contents.append(-np.log(np.maximum(right, LEAST_PROBABILITY)).mean())
        return float(np.mean(of_contents))

    borders = np.log([SMALLEST_SCALE, LARGEST_SCALE])
    return float(np.exp(minimize_scalar(loss, bounds=borders, method="bounded").x))


def reliability(pairs: Mapping[str, np.ndarray], pair_std_scale: float) -> list[dict]:
    """
    How often the version that is called better has the higher opinion, by how surely it is called so.

    Args:
        pairs: see `pairs_of_contents`.

    Returns:
        For each range of `PROBABILITY_BORDERS` in which there are pairs: `from` and `to`, their number `n`, the mean
        `probability` said, and the `share` that is right.
    """
    *versions, difference = np.concatenate(list(pairs.values())).T
    probabilities = probability_better(*versions, pair_std_scale)
    surely = np.maximum(probabilities, 1 - probabilities)
    is_right = (probabilities >= 0.5) == (difference > 0)
    places = np.digitize(surely, PROBABILITY_BORDERS[1:-1])
    return [
        {
            "from": PROBABILITY_BORDERS[place],
            "to": PROBABILITY_BORDERS[place + 1],
            "n": int((places == place).sum()),
            "probability": float(surely[places == place].mean()),
            "share": float(is_right[places == place].mean()),
        }
        for place in np.unique(places).tolist()
    ]


def front(rates: Sequence[float], qualities: Sequence[float]) -> list[int]:
    """The places of the versions that are better than all cheaper ones, by rising rate; of equal rates the best."""
    order = sorted(range(len(rates)), key=lambda place: (rates[place], -qualities[place]))
    kept = []
    for place in order:
        if not kept or qualities[place] > qualities[kept[-1]]:
            kept.append(place)
    return kept


def bd_rate(
    rates: Sequence[float], qualities: Sequence[float], other_rates: Sequence[float], other_qualities: Sequence[float]
) -> float:
    """
    Bjøntegaard's delta: how much more bits the other ladder takes for the same quality, in percent of the first one's;
    below 0 it takes less. The mean over the qualities that both reach of the difference in log rate (VCEG-M33), between
    curves by PCHIP, as in VCEG-AE07 and JVET's common test conditions.

    Of each ladder the versions count that are better than all cheaper ones, see `front`: the others lie on no curve.

    Raises:
        ValueError: fewer than `MIN_RUNGS` such versions in a ladder, or no quality that both ladders reach.
    """
    curves = []
    for name, of_rates, of_qualities in (("first", rates, qualities), ("other", other_rates, other_qualities)):
        places = front(of_rates, of_qualities)
        if len(places) < MIN_RUNGS:
            raise ValueError(
                f"got {len(places)} of {len(of_rates)} versions in the {name} ladder that are better than all cheaper ones, "
                f"expected at least {MIN_RUNGS}; add versions at other bit rates"
            )
        x, y = (np.array(values, dtype=float)[places] for values in (of_qualities, of_rates))
        curves.append((x, PchipInterpolator(x, np.log(y))))
    lowest = max(x[0] for x, _ in curves)
    highest = min(x[-1] for x, _ in curves)
    if not lowest < highest:
        (first, _), (other, _) = curves
        raise ValueError(
            f"got ladders of qualities {first[0]:.3g} to {first[-1]:.3g} and {other[0]:.3g} to {other[-1]:.3g}, expected some "
            "that both reach; add versions at other bit rates"
        )
    first, other = (curve.integrate(lowest, highest) / (highest - lowest) for _, curve in curves)
    return float(100 * (np.exp(other - first) - 1))
