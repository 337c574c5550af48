"""Correlations against values worked out by hand."""

import math

import pytest

from lmmvqa.evaluation.metrics import correlations


def test_hand_computed_values():
    # Ranks differ by one swap: srcc = 1 - 6 * 2 / (4 * 15) = 0.8, krcc = (5 - 1) / 6
    # Deviations -1.5 -0.5 0.5 1.5 and -1.5 0.5 -0.5 1.5: plcc = 4 / 5; rmse = sqrt((0 + 1 + 1 + 0) / 4)
    assert correlations([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(
        {"n": 4, "srcc": 0.8, "krcc": 2 / 3, "plcc": 0.8, "rmse": math.sqrt(0.5)}
    )


def test_plcc_is_of_raw_predictions_and_srcc_of_their_order():
    metrics = correlations([1, 10, 100], [20, 40, 60])
    assert metrics["srcc"] == metrics["krcc"] == pytest.approx(1)
    # Deviations -36 -27 63 and -20 0 20: 1980 / sqrt(5994 * 800)
    assert metrics["plcc"] == pytest.approx(1980 / math.sqrt(5994 * 800))
    assert metrics["rmse"] == pytest.approx(math.sqrt((19**2 + 30**2 + 40**2) / 3))


def test_a_reversed_order_is_minus_one():
    metrics = correlations([3, 2, 1], [10, 20, 30])
    assert [metrics[name] for name in ("srcc", "krcc", "plcc")] == pytest.approx([-1, -1, -1])


def test_ties_share_their_mean_rank():
    # Ranks 1.5 1.5 3 and 1 2 3: deviations -0.5 -0.5 1 and -1 0 1, so 1.5 / sqrt(1.5 * 2)
    # Kendall's tau-b: two of three pairs agree, one is tied: 2 / sqrt(2 * 3)
    metrics = correlations([5, 5, 9], [10, 20, 30])
    assert metrics["srcc"] == pytest.approx(1.5 / math.sqrt(3))
    assert metrics["krcc"] == pytest.approx(2 / math.sqrt(6))


@pytest.mark.parametrize(
    "predictions, mos, message",
    [
        ([1, 2], [1, 2], "3 or more"),
        ([], [], "3 or more"),
        ([1, 2, 3], [1, 2, 3, 4], r"\(3,\) predictions for \(4,\) MOS"),
        ([1, 2, math.nan], [1, 2, 3], "got 1 predictions that are not finite"),
        ([1, 2, 3], [math.inf, 2, math.nan], "got 2 mos that are not finite"),
        ([50, 50, 50], [1, 2, 3], "got 3 predictions that are all 50"),
        ([1, 2, 3], [7, 7, 7], "got 3 mos that are all 7"),
    ],
)
def test_what_has_no_correlation_raises(predictions, mos, message):
    with pytest.raises(ValueError, match=message):
        correlations(predictions, mos)
