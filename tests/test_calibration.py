"""Calibration: what it does to results, what is fitted to ratings, and `lmmvqa calibrate`."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_pair, write_clip
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

from lmmvqa.checkpoints.model_card import known_limits
from lmmvqa.checkpoints.training_videos import (
    TrainingVideo,
    TrainingVideos,
    load_training_videos,
    save_training_videos,
)
from lmmvqa.commands.command_line import main
from lmmvqa.evaluation import calibration
from lmmvqa.evaluation.calibration import fit_line, fit_logistic, fit_std_scale, read_ratings, unseen
from lmmvqa.modeling_lmmvqa import LmmVqaProcessor
from lmmvqa.processing.answers_lmmvqa import LEVELS, VideoWindow
from lmmvqa.scoring.scorer import load_scorer
from lmmvqa.training.trained_parts import add_lora


# Opinions of 1 to 5, more of them used up at the upper end
SCORE_MAP = [1 + 4 * (score / 100) ** 2 for score in range(101)]
STD_SCALE = 0.06


@pytest.fixture(scope="module")
def processor():
    processor = tiny_pair()[1]
    processor.score_map, processor.score_std_scale = SCORE_MAP, STD_SCALE
    return processor


@pytest.fixture(scope="module")
def distributions():
    torch.manual_seed(0)
    centres, widths = torch.rand(200, 1) * 100, 2 + torch.rand(200, 1) * 20
    return (-(((torch.arange(101) - centres) / widths) ** 2) / 2 + torch.randn(200, 101) / 5).log_softmax(-1)


# results


def test_without_calibration_results_are_those_of_the_answers(tiny, distributions):
    results = tiny[1].post_process_scores(distributions)
    probabilities, answers = distributions.double().exp(), torch.arange(101, dtype=torch.float64)
    means = probabilities @ answers
    stds = ((answers - means[:, None]) ** 2 * probabilities).sum(-1).sqrt()
    assert [result.score for result in results] == means.tolist()
    assert [result.score_std for result in results] == stds.tolist()
    assert {result.scale for result in results} == {None}
    for result, row in zip(results, probabilities, strict=True):
        masses = [row[:40].sum(), row[40:60].sum(), row[60:].sum()]
        assert list(result.level_probabilities.values()) == pytest.approx([float(mass) for mass in masses])


def test_order_and_levels_stay(tiny, processor, distributions):
    before, after = (of.post_process_scores(distributions) for of in (tiny[1], processor))
    assert [result.level for result in after] == [result.level for result in before]
    assert {result.level for result in after} == set(LEVELS)
    assert [result.answer for result in after] == [result.answer for result in before]
    orders = [np.argsort([result.score for result in results]).tolist() for results in (before, after)]
    assert orders[0] == orders[1]
    assert [result.scale for result in after] == [[1, 5]] * len(after)


def test_the_result_is_of_one_distribution(processor, distributions):
    for result, row in zip(processor.post_process_scores(distributions), distributions.double().exp(), strict=True):
        mean = float(row @ torch.arange(101.0).double())
        values = result.score + STD_SCALE * (torch.arange(101).double() - mean)
        assert result.score == pytest.approx(np.interp(mean, range(101), SCORE_MAP))
        assert float(row @ values) == pytest.approx(result.score)
        assert math.sqrt(float(row @ (values - result.score) ** 2)) == pytest.approx(result.score_std)
        fair, good = SCORE_MAP[40], SCORE_MAP[60]
        masses = [row[values < fair].sum(), row[(values >= fair) & (values < good)].sum(), row[values >= good].sum()]
        assert list(result.level_probabilities.values()) == pytest.approx([float(mass) for mass in masses])
        assert result.level == LEVELS[(result.score >= fair) + (result.score >= good)]


def test_wider_deviations_alone_leave_scores(tiny, distributions):
    wide = tiny_pair()[1]
    wide.score_std_scale = 2.0
    for before, after in zip(*(of.post_process_scores(distributions) for of in (tiny[1], wide)), strict=True):
        assert (after.score, after.level, after.score_std) == (before.score, before.level, 2 * before.score_std)
        assert after.scale is None


def test_windows_and_generated_answers_are_calibrated(processor, distributions):
    windows = [VideoWindow(0, 3, 0, 3), VideoWindow(3, 4, 3, 4)]
    result = processor.post_process_window_scores(windows, distributions[:2])
    means = distributions[:2].double().exp() @ torch.arange(101.0).double()
    expected = [np.interp(mean, range(101), SCORE_MAP) for mean in (0.75 * means[0] + 0.25 * means[1], *means)]
    assert [result.score, *(window["score"] for window in result.windows)] == pytest.approx(expected)
    assert result.scale == [1, 5] and "scale" not in result.windows[0]

    generated = processor.post_process_window_answers(windows, ["40", "80"])
    assert (generated.score, generated.level, generated.scale) == (pytest.approx(2), "fair", [1, 5])
    assert [window["score"] for window in generated.windows] == pytest.approx([SCORE_MAP[40], SCORE_MAP[80]])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"score_map": [1.0, 2.0]}, "got a score_map of 2 values"),
        ({"score_map": [1.0] * 101}, "expected 101 that rise strictly"),
        ({"score_std_scale": 0.0}, "got score_std_scale=0.0"),
        ({"score_std_scale": float("nan")}, "got score_std_scale=nan"),
    ],
)
def test_a_calibration_that_cannot_be_is_refused(tiny, options, message):
    with pytest.raises(ValueError, match=message):
        LmmVqaProcessor(tiny[1].video_processor, tiny[1].tokenizer, **options)


# fits


def test_fits_find_what_ratings_were_made_from():
    scores = np.linspace(15, 85, 60)
    np.testing.assert_allclose(fit_line(scores, 1 + scores / 25), 1 + np.arange(101) / 25)
    logistic = 1 + 4 / (1 + np.exp(-(np.arange(101) - 45) / 12))
    np.testing.assert_allclose(fit_logistic(scores, np.interp(scores, range(101), logistic)), logistic, atol=0.01)
    assert (np.diff(fit_logistic(scores, -scores)) >= 0).all()


def test_unseen_videos_are_not_fitted_to():
    scores, mos = np.linspace(10, 90, 40), np.linspace(1, 5, 40)
    mos[7] = 100
    predicted = unseen(fit_line, scores, mos)
    others = np.arange(40) != 7
    assert predicted[7] == pytest.approx(np.interp(scores[7], scores[others], mos[others]))


def test_the_deviation_puts_95_percent_inside():
    rng = np.random.default_rng(0)
    stds = rng.uniform(1, 10, 5000)
    factor, share = fit_std_scale(3 * stds * rng.normal(size=5000), stds)
    assert factor == pytest.approx(3, rel=0.05) and share == pytest.approx(0.95, abs=0.01)


# the command


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """A model folder, and a folder of clips with the model's scores of them."""
    folder, model_folder = tmp_path_factory.mktemp("rated"), tmp_path_factory.mktemp("model")
    model, processor = tiny_pair()
    for part in (model, processor):
        part.save_pretrained(model_folder)
    scorer = pipeline("video-quality-assessment", model=model, processor=processor, device="cpu")
    clips = [write_clip(folder / f"{seed}.mp4", num_frames=8, seed=seed) for seed in range(12)]
    return str(model_folder), folder, {clip: scorer(clip) for clip in clips}


def write_ratings(folder, ratings) -> str:
    path = folder / "ratings.csv"
    lines = [f"{name.removeprefix(f'{folder}/')},{mos}" for name, mos in ratings]
    path.write_text("\n".join(["video,mos", *lines]) + "\n")
    return str(path)


def test_an_adapter_is_merged(rated, tmp_path):
    model, folder, results = rated
    adapter = tmp_path / "adapter"
    with_lora = add_lora(AutoModelForImageTextToText.from_pretrained(model), 2, ["spatial_projector"])
    with_lora.peft_config["default"].base_model_name_or_path = model
    for part in (with_lora, AutoProcessor.from_pretrained(model)):
        part.save_pretrained(adapter)
    table = write_ratings(folder, [(clip, 1 + result["score"] / 25) for clip, result in results.items()])
    out = tmp_path / "mine"
    assert main(["calibrate", "--model", str(adapter), "--device", "cpu", "--csv", table, "--out", str(out)]) == 0
    clip, result = next(iter(results.items()))
    assert load_scorer(str(out), "cpu")(clip)["score"] == pytest.approx(1 + result["score"] / 25, abs=0.05)


def test_the_command(rated, tmp_path, capsys):
    model, folder, results = rated
    noise = np.random.default_rng(0).normal(scale=0.001, size=len(results))
    ratings = {clip: 1 + result["score"] / 25 + n for (clip, result), n in zip(results.items(), noise, strict=True)}
    table = write_ratings(folder, [*ratings.items(), ("missing.mp4", 3)])
    out = tmp_path / "mine"
    listed = TrainingVideos([TrainingVideo("mine", "one", "one", "0123456789abcdef")], [])
    save_training_videos(listed, model)
    card = "# A\n\n## Limits\n\n- It knows little.\n"
    (Path(model) / "README.md").write_text(card)
    assert main(["calibrate", "--model", model, "--device", "cpu", "--csv", table, "--out", str(out)]) == 1
    assert load_training_videos(out) == listed
    carried = (out / "README.md").read_text()
    assert carried.startswith(card) and "fitted to 12 ratings of 3.08 to 3.1" in carried
    assert known_limits(str(out)) == ["It knows little."]
    captured = capsys.readouterr()
    assert "warning: no score, left out: " in captured.err and "missing.mp4" in captured.err
    assert captured.err.startswith("scoring 13 videos\n")
    report = json.loads(captured.out.splitlines()[-1])
    assert json.loads((out / calibration.REPORT_NAME).read_text()) == report
    assert (report["n"], len(report["failures"]), report["map"]) == (12, 1, "line")
    assert report["before"]["rmse"] > 20 and report["unseen"]["rmse"] < 0.1 > report["after"]["rmse"]
    assert report["after"]["srcc"] == report["before"]["srcc"]
    assert report["after"]["share"] >= 0.9
    lowest, highest = report["scale"]

    rows_csv = tmp_path / "rows.csv"
    assert main(["score", "--model", str(out), "--device", "cpu", "--json", "--csv", str(rows_csv), *ratings]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for row in rows:
        before = results[row["video"]]
        assert row["scale"] == [lowest, highest]
        assert row["score"] == pytest.approx(lowest + (highest - lowest) * before["score"] / 100)
        assert row["score_std"] == pytest.approx(report["score_std_scale"] * before["score_std"])
        assert row["level"] == before["level"]
    errors = [row["score"] - ratings[row["video"]] for row in rows]
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(report["after"]["rmse"])
    with open(rows_csv, newline="") as file:
        assert [line["score"] for line in csv.DictReader(file)] == [str(row["score"]) for row in rows]

    assert main(["selfcheck", "--model", str(out), "--device", "cpu"]) == 0
    reference = json.loads((out / "selfcheck.json").read_text())
    assert reference["tolerance"] == pytest.approx(0.05 * (highest - lowest) / 100, abs=1e-6)
    capsys.readouterr()

    # Deviations alone; and what is calibrated can be calibrated again
    again = tmp_path / "again"
    command = ["calibrate", "--device", "cpu", "--csv", table]
    assert main([*command, "--model", str(out), "--out", str(again), "--std_only"]) == 1
    second = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert second["scale"] == report["scale"] and "map" not in second
    assert second["before"]["rmse"] == second["after"]["rmse"] == pytest.approx(report["after"]["rmse"])
    assert second["before"]["share"] == report["after"]["share"]
    afresh = tmp_path / "afresh"
    assert main([*command, "--model", str(out), "--out", str(afresh)]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["after"] == pytest.approx(report["after"])


@pytest.mark.parametrize(
    "mos, message",
    [
        (lambda index, score: -score, "do not rise with the scores (SRCC -1.00)"),
        (lambda index, score: "nan" if index == 2 else score, "got mos '' of 2.mp4"),
        (lambda index, score: "good" if index == 2 else score, "got mos 'good' of 2.mp4"),
    ],
)
def test_ratings_that_cannot_be_fitted_are_refused(rated, tmp_path, capsys, mos, message):
    model, folder, results = rated
    ratings = [(clip, mos(index, result["score"])) for index, (clip, result) in enumerate(results.items())]
    table = write_ratings(folder, [(clip, value) for clip, value in ratings if value is not None])
    with pytest.raises(SystemExit) as exit_:
        main(["calibrate", "--model", model, "--device", "cpu", "--csv", table, "--out", str(tmp_path / "mine")])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    "mos, contents, message",
    [
        ([1, 2, 3, 4, 5, 6, 7], None, "got 7 rated videos, expected at least 8"),
        ([3] * 12, None, "got 12 ratings that are all 3, expected some that differ"),
        (
            [*range(12)],
            "aabbccddeeff",
            "got 6 pairs of videos with one content and different ratings, expected at least 8",
        ),
        ([3] * 11 + [4], "a" * 6 + "b" * 6, "got 5 pairs of videos with one content"),
    ],
)
def test_what_rows_alone_tell_is_refused_before_a_video_is_scored(
    rated, tmp_path, capsys, monkeypatch, mos, contents, message
):
    monkeypatch.setattr(calibration, "score_videos", lambda *arguments: pytest.fail("scored"))
    lines = [
        f"{index}.mp4,{of},{content}"
        for index, (of, content) in enumerate(zip(mos, contents or "-" * 12, strict=False))
    ]
    table = tmp_path / "ratings.csv"
    table.write_text("\n".join([f"video,mos,{'content' if contents else 'remark'}", *lines]) + "\n")
    with pytest.raises(SystemExit) as exit_:
        main(["calibrate", "--model", rated[0], "--csv", str(table), "--out", str(tmp_path / "mine")])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_too_few_ratings_with_a_score_are_refused(rated, tmp_path, capsys):
    model, folder, results = rated
    ratings = [(clip, result["score"]) for clip, result in list(results.items())[:7]]
    table = write_ratings(folder, [*ratings, ("gone.mp4", 3)])
    with pytest.raises(SystemExit):
        main(["calibrate", "--model", model, "--device", "cpu", "--csv", table, "--out", str(tmp_path / "mine")])
    error = capsys.readouterr().err
    assert "got 7 rated videos with a score of 8 (without: Could not read" in error and "expected at least 8" in error


def test_a_video_listed_twice_is_refused(tmp_path):
    table = write_ratings(tmp_path, [("a.mp4", 1), ("a.mp4", 2)])
    with pytest.raises(ValueError, match="got a.mp4 twice"):
        read_ratings(table)


def test_an_existing_folder_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["calibrate", "--csv", "ratings.csv", "--out", str(tmp_path)])
    assert "which exists already" in capsys.readouterr().err
