"""Figures against values worked out by hand and against scipy."""

import json
import math
from pathlib import Path

import evaluate
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import curve_fit

from lmmvqa.evaluation.metrics import (
    FitError,
    agreement,
    bootstrap_intervals,
    correlations,
    level_report,
    logistic_fit,
)
from lmmvqa.evaluation.video_quality_metric import VideoQualityMetric


def rated(n: int, correlation: float, seed: int = 0) -> tuple[list[float], list[float]]:
    """Predictions and MOS on 0-100 that correlate so, with ties."""
    rng = np.random.default_rng(seed)
    opinions, noise = rng.normal(size=(2, n))
    predictions = correlation * opinions + math.sqrt(1 - correlation**2) * noise
    return (60 + 10 * predictions).round().tolist(), (60 + 10 * opinions).round().tolist()


# raw


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


# after the logistic


def logistic(x, b1, b2, b3, b4):
    return b2 + (b1 - b2) / (1 + np.exp(-(x - b3) / abs(b4)))


def test_the_fit_finds_the_function_that_made_the_mos():
    predictions = np.linspace(0, 100, 50)
    mos = logistic(predictions, 90, 10, 40, 12)
    np.testing.assert_allclose(logistic_fit(predictions, mos), mos, atol=1e-6)
    figures = agreement(predictions.tolist(), mos.tolist(), samples=10)
    assert figures["plcc"] < 0.98 and figures["rmse"] > 5
    assert figures["plcc_fitted"] == pytest.approx(1) and figures["rmse_fitted"] == pytest.approx(0, abs=1e-6)
    assert figures["fit_error"] is None
    assert [figures["srcc"], figures["krcc"]] == pytest.approx([1, 1])


def test_the_fit_is_that_of_published_tables():
    predictions, mos = map(np.array, rated(300, 0.8))
    start = [mos.max(), mos.min(), predictions.mean(), 0.5]
    parameters, _ = curve_fit(logistic, predictions, mos, p0=start, maxfev=100_000)
    np.testing.assert_allclose(logistic_fit(predictions, mos), logistic(predictions, *parameters), rtol=1e-4)


@pytest.mark.parametrize("scale", [1, 1e-2, 1e4])
def test_the_fit_beats_a_straight_line_on_any_scale(scale):
    for seed in range(10):
        predictions, mos = map(np.array, rated(100, 0.5, seed))
        line = np.polyval(np.polyfit(predictions, mos, 1), predictions)
        fitted = logistic_fit(scale * predictions, mos)
        assert np.mean((fitted - mos) ** 2) <= 1.002 * np.mean((line - mos) ** 2)


def test_a_fit_that_does_not_converge_is_said():
    step = [10, 20, 30, 40], [10, 10, 10, 80]  # ever steeper is ever better
    with pytest.raises(FitError, match="got 4 videos that the 4-parameter logistic does not fit.*does not converge"):
        logistic_fit(*step)
    figures = agreement(*step)
    assert (figures["plcc_fitted"], figures["rmse_fitted"]) == (None, None)
    assert "does not converge" in figures["fit_error"]
    assert figures["srcc"] == pytest.approx(stats.spearmanr(*step).statistic)
    assert figures["intervals"].keys() == {"srcc", "krcc", "plcc", "rmse"}


def test_three_pairs_are_too_few_for_four_parameters():
    assert correlations([1, 2, 3], [1, 3, 2])["n"] == 3
    for figures in (logistic_fit, agreement, VideoQualityMetric()._compute):
        with pytest.raises(ValueError, match=r"got \(3,\) predictions.*length of 4 or more"):
            figures([1, 2, 3], [1, 3, 2])


# intervals


def test_intervals_are_quantiles_of_scipys_figures_over_resamples():
    predictions, mos = map(np.array, rated(40, 0.6))
    assert len(set(predictions)) < 40 and len(set(mos)) < 40  # ties beside those of drawing twice
    fitted = logistic_fit(predictions, mos)
    draws = np.random.default_rng(3).integers(40, size=(50, 40))
    figures = {
        "srcc": [stats.spearmanr(predictions[draw], mos[draw]).statistic for draw in draws],
        "krcc": [stats.kendalltau(predictions[draw], mos[draw]).statistic for draw in draws],
        "plcc": [stats.pearsonr(predictions[draw], mos[draw]).statistic for draw in draws],
        "rmse": [math.sqrt(((predictions[draw] - mos[draw]) ** 2).mean()) for draw in draws],
        "plcc_fitted": [stats.pearsonr(fitted[draw], mos[draw]).statistic for draw in draws],
        "rmse_fitted": [math.sqrt(((fitted[draw] - mos[draw]) ** 2).mean()) for draw in draws],
    }
    bootstrap = bootstrap_intervals(predictions, mos, fitted, samples=50, seed=3)
    assert bootstrap["resamples"] == 50
    assert bootstrap["intervals"].keys() == figures.keys()
    for name, values in figures.items():
        assert bootstrap["intervals"][name] == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=1e-12)


def test_intervals_depend_on_the_seed_alone_and_narrow_with_n():
    few, many = rated(50, 0.8), rated(1000, 0.8)
    first = bootstrap_intervals(*few, samples=100)
    assert first == bootstrap_intervals(*few, samples=100)
    assert first != bootstrap_intervals(*few, samples=100, seed=1)
    widths = [np.ptp(bootstrap_intervals(*pairs, samples=100)["intervals"]["srcc"]) for pairs in (few, many)]
    assert widths[1] < widths[0] / 2


def test_resamples_without_variation_are_counted_out():
    # Of four videos a resample is the same one four times once in 64, and lacks the odd one (3/4)^4 of the time
    assert 970 <= bootstrap_intervals([1, 2, 3, 4], [1, 3, 2, 4])["resamples"] <= 995
    assert 630 <= bootstrap_intervals([5, 5, 5, 9], [1, 3, 2, 4])["resamples"] <= 735


# failures, and the whole


def test_failures_are_counted_and_left_out_of_n():
    predictions, mos = rated(20, 0.7)
    figures = agreement(predictions, mos, samples=20)
    with_failures = agreement([None, *predictions, None], [5.0, *mos, 95.0], samples=20)
    assert (figures.pop("failures"), with_failures.pop("failures")) == (0, 2)
    assert with_failures == figures and figures["n"] == 20


@pytest.mark.parametrize(
    "predictions, mos, message",
    [
        ([1, 2, math.nan, 4, 5], [1, 2, 3, 4, 5], "got 1 predictions that are not finite"),
        ([1, 2, 3, 4, 5], [1, 2, math.nan, math.inf, 5], "got 2 mos that are not finite"),
        ([7, 7, 7, 7, None], [1, 2, 3, 4, 5], "got 4 predictions that are all 7"),
        ([None] * 5, [1, 2, 3, 4, 5], r"got \(0,\) predictions"),
        ([1, 2, 3, 4], [1, 2, 3, 4, 5], "got 4 predictions for 5 videos"),
    ],
)
def test_what_has_no_figures_raises(predictions, mos, message):
    with pytest.raises(ValueError, match=message):
        agreement(predictions, mos)


def test_the_metric_of_the_evaluate_library(monkeypatch, tmp_path):
    path = Path(__file__).parents[1] / "evaluation" / "video_quality_metric.py"
    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
    predictions, mos = rated(30, 0.7)
    predictions[3] = None
    expected = agreement(predictions, mos, samples=50, seed=1)
    for metric in (VideoQualityMetric(cache_dir=tmp_path), evaluate.load(str(path), cache_dir=tmp_path)):
        figures = metric.compute(predictions=predictions, references=mos, samples=50, seed=1)
        assert figures == expected and (figures["n"], figures["failures"]) == (29, 1)
        assert json.loads(json.dumps(figures))["intervals"]["srcc"] == list(expected["intervals"]["srcc"])
        metric.add_batch(predictions=predictions[:10], references=mos[:10])
        metric.add_batch(predictions=predictions[10:], references=mos[10:])
        assert metric.compute(samples=50, seed=1) == expected
        with pytest.raises(ValueError, match="not finite"):
            metric.compute(predictions=[1, 2, math.nan, 4], references=[1, 2, 3, 4])


# levels


def test_levels_are_counted_by_true_and_predicted():
    predictions = ["poor", "good", "good", "good", None, "fair", "poor"]
    levels = ["poor", "poor", "good", "good", "good", "good", "poor"]
    assert level_report(predictions, levels, (40, 60)) == {
        "n": 6,
        "failures": 1,
        "share": 4 / 6,
        "recall": {
            "poor": {"n": 3, "recall": 2 / 3},
            "fair": {"n": 0, "recall": None},
            "good": {"n": 3, "recall": 2 / 3},
        },
        "confusion": {
            "poor": {"poor": 2, "fair": 0, "good": 1},
            "fair": {"poor": 0, "fair": 0, "good": 0},
            "good": {"poor": 0, "fair": 1, "good": 2},
        },
        "thresholds": (40, 60),
    }


@pytest.mark.parametrize(
    "predictions, levels, message",
    [
        (["poor"], ["poor", "good"], "got 1 predictions for 2 videos"),
        (["bad"], ["poor"], r"among all levels \[\"'bad'\"\], expected at least one and only poor, fair, good"),
        (["poor", "fair"], ["poor", None], "among all levels"),
        ([None], ["poor"], "got 0 predicted levels"),
        ([], [], "got 0 predicted levels"),
    ],
)
def test_levels_without_figures_raise(predictions, levels, message):
    with pytest.raises(ValueError, match=message):
        level_report(predictions, levels, (40, 60))
