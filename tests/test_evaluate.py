"""`lmmvqa evaluate`: what is evaluated, what is refused, what fails, and that a stopped run ends as one that was not."""

import json
import shutil
import sys
from contextlib import redirect_stderr
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import tiny_pair, write_clip
from transformers import pipeline

from lmmvqa.checkpoints.export import save_checkpoint
from lmmvqa.checkpoints.training_videos import (
    TrainingVideo,
    TrainingVideos,
    load_training_videos,
    save_training_videos,
)
from lmmvqa.commands.command_line import main
from lmmvqa.datasets_scripts.degraded import chained_clips
from lmmvqa.datasets_scripts.prepare import prepare
from lmmvqa.datasets_scripts.rows import REPORT_FILE, load_rows, save_rows, video_digest
from lmmvqa.evaluation import cross_validation, protocols
from lmmvqa.evaluation.cross_validation import assign_folds, write_folds
from lmmvqa.evaluation.leak_check import check_leaks, leak_notes
from lmmvqa.evaluation.metrics import coverage
from lmmvqa.evaluation.predictions import PREDICTION_KEYS, predict_batch
from lmmvqa.evaluation.rated_sets import RatedSet, evaluated_parts, fold_parts, load_rated_sets
from lmmvqa.evaluation.results import predict_to_file
from lmmvqa.evaluation.tables import checkpoint_tables, published_results
from lmmvqa.processing.answers_lmmvqa import DAMAGES
from lmmvqa.scoring.scorer import load_scorer


LEVELS_1_5 = (1, 5)
NOTES = Path(__file__).parents[2] / "shared" / "notes" / "paper.md"


def make_rows(folder, num_videos, dataset="konvid_1k", splits=("test",), broken=(), mos_range=LEVELS_1_5):
    """Short clips, each its own group, and their rows."""
    folder.mkdir()
    for index in range(num_videos):
        write_clip(folder / f"{index}.mp4", num_frames=6, fps=6, seed=index)
    for index in broken:
        (folder / f"{index}.mp4").write_text("no video")
    rows = [
        {
            "video": f"{index}.mp4",
            "mos": 100.0 * index / num_videos,
            "dataset": dataset,
            "split": splits[index % len(splits)],
            "group": f"g{index}",
        }
        for index in range(num_videos)
    ]
    save_rows(
        rows, [{"file": "gone.mp4", "split": splits[0], "reason": "no such file"}], dataset, folder, None, mos_range
    )
    return folder


@pytest.fixture(scope="module")
def konvid(tmp_path_factory):
    """Nine rows out of the test split, of which the fifth is broken."""
    return make_rows(tmp_path_factory.mktemp("data") / "konvid", 9, broken=[4])


def evaluate(model, data, out, *more) -> int:
    data = data if isinstance(data, list) else [data]
    arguments = ["--model", model, "--data", *data, "--out", out, "--device", "cpu", "--batch_size", 2, *more]
    return main(["evaluate", *map(str, arguments)])


def results(out):
    metrics = json.loads((out / "metrics.json").read_text())
    predictions = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    return metrics, predictions


def refused(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as exit_:
        evaluate(*arguments)
    assert exit_.value.code == 2
    return capsys.readouterr().err


def copy_with_list(checkpoint, folder, videos, unlisted=()):
    shutil.copytree(checkpoint, folder)
    save_training_videos(TrainingVideos([TrainingVideo(*video) for video in videos], list(unlisted)), folder)
    return folder


# predictions, figures, failures


@pytest.fixture(scope="module")
def evaluated(checkpoint, konvid, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated") / "out"
    assert evaluate(checkpoint, konvid, out) == 1
    return out


def test_a_broken_video_is_a_failed_row_and_n_is_reduced(checkpoint, konvid, evaluated, tmp_path, capsys):
    metrics, predictions = results(evaluated)
    assert [prediction["id"] for prediction in predictions] == [str(index) for index in range(9)]
    failed = predictions[4]
    assert failed["error"].startswith("Could not read") and failed["score"] is failed["level_answer"] is None
    (of_set,) = metrics["sets"]
    assert (of_set["score"]["n"], of_set["score"]["failures"], of_set["videos"], of_set["left_out"]) == (8, 1, 9, 1)
    assert (of_set["level"]["n"], of_set["level"]["failures"], metrics["failures"]) == (8, 1, 1)
    assert of_set["protocol"] == "out_of_distribution" and of_set["part"] is None
    assert of_set["level"]["thresholds_of"] == "the evaluated videos"
    scored = predictions[5]
    assert (scored["label_mos"], scored["mos"]) == (pytest.approx(1 + 4 * 5 / 9), pytest.approx(500 / 9))
    assert 0 < scored["score"] < 100 and scored["score_std"] > 0 and scored["level_answer"] in ("poor", "fair", "good")
    assert evaluate(checkpoint, konvid, evaluated) == 1  # nothing is left to do
    captured = capsys.readouterr()
    assert captured.out == (evaluated / "table.md").read_text()
    assert captured.err.startswith("failed: konvid_1k/4: Could not read")


def test_scores_are_those_of_scoring(checkpoint, konvid, evaluated):
    scorer = load_scorer(str(checkpoint), "cpu")
    for prediction in results(evaluated)[1][:2]:
        assert prediction["score"] == pytest.approx(scorer(str(konvid / f"{prediction['id']}.mp4"))["score"], abs=1e-3)


def test_a_model_on_its_own_scale_is_compared_on_that_of_the_rows(konvid, evaluated, tmp_path):
    model, processor = tiny_pair()
    processor.score_map, processor.score_std_scale = np.linspace(1, 5, 101).tolist(), 0.04
    save_checkpoint(model, processor, tmp_path / "own", torch.float32)
    assert evaluate(tmp_path / "own", konvid, tmp_path / "out") == 1
    (metrics, predictions), (expected, others) = results(tmp_path / "out"), results(evaluated)
    for name in ("score", "score_std"):
        assert [one[name] for one in predictions] == [one[name] and pytest.approx(one[name]) for one in others]
    assert metrics["sets"] == expected["sets"]
    assert (
        "mapped this model's scores to 1 to 5; here they are on 0-100" in (tmp_path / "out" / "table.md").read_text()
    )


def test_predictions_say_what_is_wrong_beside_what_is_true(tmp_path):
    model, processor = tiny_pair()
    processor.damage_question = "What is wrong?"
    save_checkpoint(model, processor, tmp_path / "model", torch.float32)
    rows = [dict(row) for row in load_rows(make_rows(tmp_path / "made", 4))["test"]]
    for index, row in enumerate(rows):
        row |= {"content": row["group"], "kind": "people", "is_real": True, "version": f"chain {index}", "chain": "[]"}
        row |= {"damage": dict.fromkeys(DAMAGES, 0.0) | {"blur": 4.0}, "vmaf": 50.0}
        row |= {"width": 96, "height": 64, "fps": 6.0}
    save_rows(rows, [], "konvid_1k", tmp_path / "rows", chained_clips.COLUMNS)
    assert evaluate(tmp_path / "model", tmp_path / "rows", tmp_path / "out") == 0
    metrics, predictions = results(tmp_path / "out")
    for prediction in predictions:
        assert prediction["damage"]["blur"] == 4.0 and "none" not in prediction["damage"]
        assert sum(prediction["damage_answer"].values()) == pytest.approx(1)
        expected = load_scorer(str(tmp_path / "model"), "cpu")(prediction["video"])["damage"]
        assert prediction["damage_answer"] == pytest.approx(expected, abs=1e-4)
    figures = metrics["sets"][0]["contents"]["damage"]
    assert figures["real clips"] == figures["all clips"] and figures["all clips"]["n"] == 4
    assert "| mean | 4 |" in (tmp_path / "out" / "table.md").read_text()


def test_a_model_that_never_learned_levels_is_not_asked(konvid, tmp_path, capsys):
    model, processor = tiny_pair()
    processor.level_question = None
    save_checkpoint(model, processor, tmp_path / "model", torch.float32)
    assert evaluate(tmp_path / "model", konvid, tmp_path / "out") == 1
    metrics, predictions = results(tmp_path / "out")
    assert metrics["not_learned"] == ["level"] and "level" not in metrics["sets"][0]
    assert metrics["sets"][0]["score"]["n"] == 8
    assert {prediction["level_answer"] for prediction in predictions} == {None}
    table = capsys.readouterr().out
    assert "## Levels\n\nThe model never learned the level question, so it was not asked.\n" in table
    message = refused(capsys, tmp_path / "model", konvid, tmp_path / "other", "--tasks", "level")
    assert "never learned the level question" in message and not (tmp_path / "other").exists()


@pytest.mark.parametrize("kept", [0.2, 0.7])
def test_a_stopped_run_resumes_to_the_same_files(checkpoint, konvid, evaluated, tmp_path, monkeypatch, kept):
    out = tmp_path / "out"
    shutil.copytree(evaluated, out)
    whole = (evaluated / "predictions.jsonl").read_bytes()
    (out / "predictions.jsonl").write_bytes(whole[: int(kept * len(whole))])
    (out / "table.md").unlink()
    asked = []

    def counted(scorer, videos, **options):
        asked.append(len(videos))
        return predict_batch(scorer, videos, **options)

    monkeypatch.setattr(protocols, "predict_batch", counted)
    assert evaluate(checkpoint, konvid, out) == 1
    for name in ("predictions.jsonl", "metrics.json", "table.md"):
        assert (out / name).read_bytes() == (evaluated / name).read_bytes(), name
    # Batches are those of a run that was not stopped
    complete = whole[: int(kept * len(whole))].count(b"\n")
    assert asked == [2, 2, 2, 2, 1][complete // 2 :]


@pytest.mark.parametrize(
    ("more", "name"),
    [(["--readout", "generate"], "readout"), (["--tasks", "score"], "tasks"), (["--batch_size", "3"], "batch_size")],
)
def test_resuming_under_other_settings_is_refused(checkpoint, konvid, evaluated, capsys, more, name):
    message = refused(capsys, checkpoint, konvid, evaluated, *more)
    assert f"was begun with {name} " in message and "name another folder" in message


@pytest.mark.parametrize("size", ["0", "-1"])
def test_a_batch_of_no_video_is_refused(checkpoint, konvid, tmp_path, capsys, size):
    message = refused(capsys, checkpoint, konvid, tmp_path / "out", "--batch_size", size)
    assert f"got a batch_size of {size}, expected 1 or more" in message


def test_resuming_with_another_model_or_other_data_is_refused(checkpoint, konvid, evaluated, tmp_path, capsys):
    save_checkpoint(*tiny_pair(seed=1), tmp_path / "other", torch.float32)
    assert "was begun with model " in refused(capsys, tmp_path / "other", konvid, evaluated)
    other = make_rows(tmp_path / "rows", 4)
    assert "was begun with data " in refused(capsys, checkpoint, other, evaluated)
    # The same checkpoint elsewhere is the same, and what is said about it changes no answer
    copy = copy_with_list(checkpoint, tmp_path / "copy", [])
    shutil.copytree(evaluated, tmp_path / "out")
    assert evaluate(copy, konvid, tmp_path / "out") == 1


def test_written_answers_that_hold_no_score_are_failures(checkpoint, tmp_path, monkeypatch):
    rows = make_rows(tmp_path / "rows", 5)
    answers = iter(["60", "no idea", "41.5", "12", "0"] + ["good", "poor", "fair or good", "The level is fair.", ""])

    def write(self, inputs, **options):
        return [next(answers) for _ in inputs["input_ids"]]

    monkeypatch.setattr(protocols.load_scorer.__globals__["VideoQualityAssessmentPipeline"], "generate_answers", write)
    assert evaluate(checkpoint, rows, tmp_path / "out", "--readout", "generate", "--batch_size", 5) == 1
    metrics, predictions = results(tmp_path / "out")
    assert [prediction["score"] for prediction in predictions] == [60, None, 41.5, 12, 0]
    assert [prediction["level_answer"] for prediction in predictions] == ["good", "poor", None, "fair", None]
    assert [bool(prediction["error"]) for prediction in predictions] == [False, True, True, False, True]
    assert (metrics["sets"][0]["score"]["n"], metrics["sets"][0]["score"]["failures"]) == (4, 1)
    assert metrics["sets"][0]["level"]["failures"] == 2 and metrics["failures"] == 3


def test_the_level_written_for_most_seconds(clips, monkeypatch):
    model, processor = tiny_pair()
    chat = processor.tokenizer(processor.prompt(processor.level_question), add_special_tokens=False)["input_ids"]
    model.config.text_config.max_position_embeddings = len(chat) + 2 * 4 + 16  # two seconds a window
    scorer = pipeline("video-quality-assessment", model=model, processor=processor)
    answers = iter(["poor", "good"])
    monkeypatch.setattr(scorer, "generate_answers", lambda inputs, **options: [next(answers)])
    (result,) = predict_batch(scorer, [clips[2]], ["level"], "generate")
    assert result["level_answer"] == "good"  # of seconds 1 to 3, poor of the first


def answers_of(result):
    return {name: result[name] for name in ("score", "score_std", "answer", "level_answer")}


def test_a_video_that_cannot_be_judged_takes_no_other_with_it(scorer, clips, monkeypatch):
    alone = [predict_batch(scorer, [clip])[0] for clip in clips]
    answer_log_probabilities = type(scorer.model).answer_log_probabilities

    def fail_for_three_seconds(self, answer_ids, num_chunks, **inputs):
        if max(num_chunks) == 3:
            raise RuntimeError("out of\nmemory")
        return answer_log_probabilities(self, answer_ids, num_chunks=num_chunks, **inputs)

    monkeypatch.setattr(type(scorer.model), "answer_log_probabilities", fail_for_three_seconds)
    *answered, failed = predict_batch(scorer, clips)
    assert [answers_of(result) for result in answered] == [answers_of(result) for result in alone[:2]]
    assert all(result["error"] is None for result in answered)
    assert set(answers_of(failed).values()) == {None} and failed["error"] == "RuntimeError: out of memory"


def test_a_batch_that_does_not_fit_the_memory_is_asked_one_by_one(scorer, clips, monkeypatch):
    alone = [predict_batch(scorer, [clip])[0] for clip in clips]
    answer_log_probabilities = type(scorer.model).answer_log_probabilities

    def fail_for_two(self, answer_ids, num_chunks, **inputs):
        if len(num_chunks) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answer_log_probabilities(self, answer_ids, num_chunks=num_chunks, **inputs)

    monkeypatch.setattr(type(scorer.model), "answer_log_probabilities", fail_for_two)
    assert predict_batch(scorer, clips) == alone


@pytest.mark.parametrize("cached", [False, True])
def test_whatever_reading_raises_is_a_failed_row(scorer, clips, monkeypatch, cached):
    encode = scorer.preprocess

    def fail_for_the_second(videos):
        if clips[1] in videos:
            raise MemoryError
        return encode(videos)

    class Cache:
        def __getitem__(self, video):
            return fail_for_the_second([video])[0]

    monkeypatch.setattr(scorer, "preprocess", fail_for_the_second)
    before, failed, after = predict_batch(scorer, clips, cache=Cache() if cached else None)
    assert failed == dict.fromkeys(PREDICTION_KEYS) | {"error": "MemoryError"}
    assert before["error"] is after["error"] is None and None not in answers_of(after).values()


def test_a_score_that_is_not_finite_is_a_failed_row(scorer, clips, monkeypatch):
    postprocess = scorer.postprocess
    monkeypatch.setattr(scorer, "postprocess", lambda outputs: postprocess(outputs) | {"score": float("nan")})
    (failed,) = predict_batch(scorer, clips[:1], tasks=["score"])
    assert failed["error"].startswith("got the score nan") and set(answers_of(failed).values()) == {None}


@pytest.mark.parametrize(("dtype", "tolerance"), [("auto", 0.05), ("bfloat16", 1.0)])
def test_features_in_place_of_videos(checkpoint, konvid, evaluated, tmp_path, dtype, tolerance):
    options = ["--feature_cache", tmp_path / "cache", "--dtype", dtype]
    assert evaluate(checkpoint, konvid, tmp_path / "out", *options) == 1
    for cached, decoded in zip(results(tmp_path / "out")[1], results(evaluated)[1], strict=True):
        assert cached["score"] == (decoded["score"] and pytest.approx(decoded["score"], abs=tolerance))


def test_coverage_counts_truths_inside_the_interval():
    report = coverage([50.0, 50.0, None, 50.0], [10.0, 10.0, None, None], [69.0, 70.0, 50.0, 50.0])
    assert report == {"n": 2, "share": 0.5}
    assert coverage([None], [None], [1.0]) == {"n": 0, "share": None}


# which part of a set


def test_test_splits_in_sample_and_whole_sets_out_of_distribution(tmp_path):
    splits = ("train", "validation", "test", "test_1080p")
    (lsvq,) = load_rated_sets([make_rows(tmp_path / "lsvq", 8, "lsvq", splits, mos_range=(0, 100))])
    (mine,) = load_rated_sets([make_rows(tmp_path / "mine", 6, "mine", splits[:3])])

    def chosen(rated, *arguments):
        return [(part.part, part.protocol, len(part.rows)) for part in evaluated_parts(rated, *arguments)]

    assert chosen(mine, {"lsvq"}) == [(None, "out_of_distribution", 6)]
    assert chosen(mine, {"mine"}) == [("test", "in_sample", 2)]
    assert chosen(mine, set(), "in_sample") == [("test", "in_sample", 2)]
    assert chosen(lsvq, {"lsvq"}) == [("test", "in_sample", 2), ("test_1080p", "in_sample", 2)]
    # The columns of the table, though the model was not trained on LSVQ
    assert chosen(lsvq, set()) == [("test", "out_of_distribution", 2), ("test_1080p", "out_of_distribution", 2)]
    assert chosen(lsvq, set(), "out_of_distribution") == [(None, "out_of_distribution", 8)]
    assert [part.left_out for part in evaluated_parts(lsvq, set())] == [0, 0]
    mine.rows = [row for row in mine.rows if row["split"] == "train"]
    with pytest.raises(ValueError, match="got mine with the splits train, expected test or test_1080p"):
        evaluated_parts(mine, {"mine"})


def test_folders_that_do_not_go_together_are_refused(tmp_path, konvid):
    with pytest.raises(ValueError, match="2 times in konvid_1k, expected it once"):
        load_rated_sets([konvid, konvid])
    other = make_rows(tmp_path / "other", 2, mos_range=(0, 100))
    with pytest.raises(ValueError, match="expected one; prepare them with the same --mos_range"):
        load_rated_sets([konvid, other])
    (other / REPORT_FILE).unlink()
    with pytest.raises(ValueError, match=f"has no {REPORT_FILE}, .* prepare the data set again"):
        load_rated_sets([other])


# the leak check


def test_training_videos_are_refused_by_name_and_by_content(checkpoint, konvid, tmp_path, capsys):
    by_name = copy_with_list(checkpoint, tmp_path / "name", [("konvid_1k", "3", "g3", None)])
    message = refused(capsys, by_name, konvid, tmp_path / "out")
    assert "got 1 videos that the checkpoint was trained on (1 by name, 0 by content: konvid_1k/3)" in message
    digest = video_digest(konvid / "2.mp4")[:16]
    by_content = copy_with_list(checkpoint, tmp_path / "content", [("mine", "x", "x", digest)])
    message = refused(capsys, by_content, konvid, tmp_path / "out")
    assert "(0 by name, 1 by content: konvid_1k/2)" in message and "--allow_training_videos" in message
    assert not (tmp_path / "out").exists()
    assert evaluate(by_content, konvid, tmp_path / "out", "--allow_training_videos") == 1
    assert "1 of the videos are training videos of the checkpoint" in (tmp_path / "out" / "table.md").read_text()
    assert results(tmp_path / "out")[0]["leaks"]["by_content"] == ["konvid_1k/2"]


def test_an_upload_on_both_sides_of_an_official_split_is_evaluated_and_said():
    row = {"video": "/x/ia-batch1/clip.mp4", "id": "ia-batch1/clip", "dataset": "lsvq", "group": "clip"}
    listed = TrainingVideos([TrainingVideo("lsvq", "ia-batch24/clip", "clip", "0" * 16)], [])
    report = check_leaks([row], ["1" * 16], listed)
    assert (report.trained, report.by_group) == ([], ["lsvq/ia-batch1/clip"])
    assert leak_notes(report) == [
        "1 of the videos show content that the checkpoint was trained on in another cut or version "
        "(lsvq/ia-batch1/clip); they are evaluated, as the official splits are."
    ]
    # Another data set may give the same name to something else
    assert check_leaks([row | {"dataset": "mine"}], ["1" * 16], listed).by_group == []


def test_a_checkpoint_without_list_says_so(evaluated):
    assert "whether it saw these videos could not be checked" in (evaluated / "table.md").read_text()


def test_training_lists_its_videos_and_those_of_its_start(train, monkeypatch, arguments, checkpoint, rows, tmp_path):
    earlier = ("lsvq", "batch/0", "0", "0" * 16)
    arguments[1] = copy_with_list(checkpoint, tmp_path / "start", [earlier], ["older"])
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
    train.main()
    listed = load_training_videos(tmp_path / "mine")
    train_rows = load_rows(rows)["train"]
    expected = [
        ("tiny", str(index), str(index), video_digest(row["video"])[:16]) for index, row in enumerate(train_rows)
    ]
    assert listed.videos == [earlier, *expected] and listed.unlisted == ["older"]
    assert load_training_videos(tmp_path / "run") == listed
    assert "training_videos.parquet" in (tmp_path / "mine" / "README.md").read_text()
    # It travels on, and a start that was trained and lists nothing is named
    assert main(["export", "--model", str(tmp_path / "mine"), "--out", str(tmp_path / "again")]) == 0
    assert load_training_videos(tmp_path / "again") == listed
    (tmp_path / "again" / "training_videos.parquet").unlink()
    arguments[1], arguments[5], arguments[7] = tmp_path / "again", tmp_path / "run2", tmp_path / "mine2"
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
    train.main()
    listed = load_training_videos(tmp_path / "mine2")
    assert (len(listed.videos), listed.unlisted) == (6, ["again"])
    # The set that was trained on is now in-sample, and has no test part
    (tiny_set,) = load_rated_sets([rows])
    with pytest.raises(ValueError, match="expected test or test_1080p"):
        evaluated_parts(tiny_set, {video.dataset for video in listed.videos})


def test_ids_are_those_of_the_label_file_whatever_the_files_are_called(tmp_path):
    write_clip(tmp_path / "11_original_centercrop_960x540_8s.mp4", num_frames=2)
    (tmp_path / "mos.csv").write_text('"flickr_id","mos"\n"11","2.00"\n')
    prepare("konvid_1k", tmp_path / "mos.csv", tmp_path / "rows", tmp_path)
    assert load_rows(tmp_path / "rows")["test"]["id"] == ["11"]


# fine-tuning


def test_folds_hang_on_groups_and_seed_alone():
    rows = [{"group": f"g{index // 3}"} for index in range(60)]
    folds = assign_folds(rows, 5, seed=0)
    assert [folds.count(fold) for fold in range(5)] == [12] * 5
    assert all(len(set(folds[start : start + 3])) == 1 for start in range(0, 60, 3))
    assert assign_folds(rows[::-1], 5, seed=0) == folds[::-1]
    assert assign_folds(rows, 5, seed=1) != folds
    with pytest.raises(ValueError, match="got 5 folds for 4 content groups"):
        assign_folds(rows[:12], 5, seed=0)


@pytest.fixture
def trainings(train, monkeypatch):
    """Runs train.py in this process and keeps what it was told, where it was told to train."""
    commands = []

    def run(command, stdout, **options):
        commands.extend([] if "--dry_run" in command else [command])
        monkeypatch.setattr(sys, "argv", command[1:])
        try:
            with redirect_stderr(stdout):
                train.main()
        except SystemExit as stop:
            return SimpleNamespace(returncode=stop.code)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(cross_validation.subprocess, "run", run)
    return commands


def test_a_fold_beside_which_nothing_can_be_read_is_refused():
    rows = [{"video": f"{name}.mp4", "mos": 50.0, "dataset": "moved", "group": name} for name in "ab"]
    rated = RatedSet("moved", rows, (0, 100), {})
    with pytest.raises(ValueError, match=r"got no video of moved outside fold 0 .* as a\.mp4"):
        fold_parts(rated, [0, 1], [False, False])


def test_cross_validation_trains_on_the_other_folds(checkpoint, tmp_path, trainings, capsys):
    rows = make_rows(tmp_path / "rows", 11, broken=[6])
    out = tmp_path / "out"
    train_options = ["--max_steps", "1", "--learning_rate", "0.1"]
    arguments = ["--protocol", "fine_tuning", "--folds", 2, "--train_options", *train_options]
    assert evaluate(checkpoint, rows, out, *arguments) == 1
    folds = json.loads((out / "konvid_1k" / "folds.json").read_text())
    held_out = [fold["ids"] for fold in folds["folds"]]
    assert folds["seed"] == 0 and sorted(sum(held_out, []), key=int) == [str(index) for index in range(11)]
    assert [command[-8:] for command in trainings] == [["--use_cpu", "--tasks", "score", "level", *train_options]] * 2
    scores = {}
    for fold, ids in enumerate(held_out):
        folder = out / "konvid_1k" / f"fold_{fold}"
        trained = load_rows(folder / "rows")["train"]
        assert {*trained["id"]} == {str(index) for index in range(11)} - {*ids} - {"6"}
        predictions = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
        assert [prediction["id"] for prediction in predictions] == ids
        scores |= {prediction["id"]: prediction["score"] for prediction in predictions}
        assert not (folder / "checkpoint").exists() and not (folder / "run").exists()
    assert [video for video, score in scores.items() if score is None] == ["6"]
    metrics = json.loads((out / "metrics.json").read_text())
    (of_set,) = metrics["sets"]
    srcc = [fold["srcc"] for fold in of_set["folds"]]
    assert of_set["mean"]["srcc"] == of_set["median"]["srcc"] == pytest.approx(sum(srcc) / 2)
    assert [fold["n"] + fold["failures"] for fold in of_set["folds"]] == [len(ids) for ids in held_out]
    assert sum(fold["n_train"] for fold in of_set["folds"]) == 10 and of_set["level"]["n"] == 10
    assert of_set["level"]["thresholds"].keys() == {"fold_0", "fold_1"}
    table = (out / "table.md").read_text()
    assert capsys.readouterr().out.endswith(table)
    assert "fine-tuned: mean of 2 folds (measured here)" in table and "| KoNViD-1k | median |" in table

    # Stopped in the second fold: the first one is not trained again, and the table is the same
    second = out / "konvid_1k" / "fold_1" / "predictions.jsonl"
    second.write_text("".join(second.read_text().splitlines(keepends=True)[:1]))
    assert evaluate(checkpoint, rows, out, *arguments) == 1
    assert len(trainings) == 3
    assert (out / "table.md").read_text() == table


def test_damage_is_trained_on_in_folds_too(checkpoint, tmp_path, trainings):
    rows = [dict(row) for row in load_rows(make_rows(tmp_path / "made", 4))["test"]]
    for row in rows:
        row["damage"] = dict.fromkeys(DAMAGES, 0.0) | {"noise": 3.0}
    save_rows(rows, [], "konvid_1k", tmp_path / "rows", chained_clips.DAMAGE_COLUMN)
    options = ["--tasks", "score", "--protocol", "fine_tuning", "--folds", 2, "--keep_checkpoints"]
    options += ["--train_options", "--max_steps", "1", "--tasks", "score", "damage"]
    assert evaluate(checkpoint, tmp_path / "rows", tmp_path / "out", *options) == 0
    assert len(trainings) == 2
    for path in (tmp_path / "out" / "konvid_1k").glob("fold_*/predictions.jsonl"):
        for prediction in map(json.loads, path.read_text().splitlines()):
            assert sum(prediction["damage_answer"].values()) == pytest.approx(1)


def test_folds_of_a_set_with_the_name_of_a_repository(tmp_path):
    rows = [{"video": f"{name}.mp4"} for name in "ab"]
    write_folds(tmp_path / "me" / "set" / "folds.json", rows, [0, 1], seed=0)
    assert json.loads((tmp_path / "me" / "set" / "folds.json").read_text())["folds"][1]["ids"] == ["b"]


def test_equal_files_in_two_folds_are_refused(checkpoint, tmp_path, trainings, capsys):
    rows = make_rows(tmp_path / "rows", 6)
    folds = assign_folds([{"group": f"g{index}"} for index in range(6)], 2, 0)
    first, second = folds.index(0), folds.index(1)
    shutil.copy(rows / f"{first}.mp4", rows / f"{second}.mp4")
    message = refused(capsys, checkpoint, rows, tmp_path / "out", "--protocol", "fine_tuning", "--folds", 2)
    assert "got 2 videos whose file is the same as one of another fold" in message and not trainings


@pytest.mark.parametrize(
    "more", [["--folds", 3], ["--seed", 1], ["--keep_checkpoints"], ["--train_options", "--bf16"]]
)
def test_options_of_folds_need_folds(checkpoint, konvid, tmp_path, capsys, more):
    message = refused(capsys, checkpoint, konvid, tmp_path / "out", *more)
    assert f"got {more[0][2:]}, expected --protocol fine_tuning with" in message


@pytest.mark.parametrize(
    "more, message",
    [
        (["--max_stepz", 1], "of train.py, expected 0: train.py: error: unrecognized arguments: --max_stepz 1; mend"),
        (["--train_parts", "head"], "error: got the part 'head' in train_parts"),
        (["--output_dir", "mine"], "got train_options with --output_dir, expected none that say what is trained"),
    ],
)
def test_options_that_train_py_refuses_leave_nothing(checkpoint, konvid, tmp_path, trainings, capsys, more, message):
    arguments = [checkpoint, konvid, tmp_path / "out", "--protocol", "fine_tuning", "--folds", 2, "--train_options"]
    assert message in refused(capsys, *arguments, *more)
    assert not trainings and not (tmp_path / "out").exists()


def test_train_py_that_stops_is_told(checkpoint, tmp_path, monkeypatch, capsys):
    rows = make_rows(tmp_path / "rows", 4)

    def fail(command, stdout, **options):
        stdout.write("first\nCUDA out of memory\n")
        return SimpleNamespace(returncode=0 if "--dry_run" in command else 3)

    monkeypatch.setattr(cross_validation.subprocess, "run", fail)
    message = refused(capsys, checkpoint, rows, tmp_path / "out", "--protocol", "fine_tuning", "--folds", 2)
    assert "got exit status 3 of train.py, expected 0: CUDA out of memory (all of it in" in message


# the table


def test_the_table_is_the_papers_with_published_rows_beside_ours():
    figures = {"srcc": 0.5, "plcc": -0.25, "n": 10, "failures": 2, "krcc": 0.4, "rmse": 12.345}
    of_set = {"protocol": "in_sample", "left_out": 3, "mos_range": [0, 100], "coverage": {"n": 10, "share": 0.9}}
    metrics = {
        "model": "mine",
        "readout": "score",
        "versions": {},
        "notes": [],
        "sets": [
            of_set | {"dataset": "lsvq", "part": "test_1080p", "score": figures},
            of_set | {"dataset": "my_set", "part": None, "score": figures},
            of_set | {"dataset": "live_vqc", "part": None, "score": {"n": 2, "failures": 0, "error": "too few"}},
        ],
    }
    lines = checkpoint_tables(metrics).splitlines()
    cells = {
        line.split(" | ")[0].strip("| "): [cell.strip() for cell in line.strip("|").split("|")[1:]] for line in lines
    }
    assert cells["SRCC / PLCC"] == [
        "LSVQ test", "LSVQ 1080p", "KoNViD-1k", "YouTube-UGC", "LIVE-VQC", "LIVE-YT-Gaming", "my_set",
    ]  # fmt: skip
    assert cells["mine (measured here)"] == ["", ".500 / -.250", "", "", "", "", ".500 / -.250"]
    assert cells["LMM-VQA, w/multi-task (published)"] == [
        ".916 / .919", ".891 / .899", ".901 / .902", ".748 / .761", ".767 / .805", ".816 / .801", "",
    ]  # fmt: skip
    assert cells["LMM-VQA, fine-tuned (5-fold) (published)"][:3] == ["", "", ".929 / .930"]
    assert [name for name in cells if name.endswith("(published)")] == [
        "LMM-VQA, wo/multi-task (published)",
        "LMM-VQA, w/multi-task (published)",
        "LMM-VQA, fine-tuned (5-fold) (published)",
        "DOVER (published)",
        "Q-Align (published)",
        "FAST-VQA (published)",
        "TLVQM (published)",
    ]
    assert cells["TLVQM (published)"] == ["", "", "", "", "", ".740 / .775", ""]
    assert cells["LSVQ 1080p"][:4] == ["in sample", "10", "2", "3"]
    assert "- LIVE-VQC, score: too few." in lines


def test_a_published_row_names_one_method_and_its_source():
    published = published_results()
    for row in published["rows"]:
        assert row["source"] and len(row["srcc_plcc"]) == len(published["columns"])
        assert all(pair is None or 0 < min(pair) <= max(pair) < 1 for pair in row["srcc_plcc"])
    assert len({row["model"] for row in published["rows"]}) == len(published["rows"])


@pytest.mark.skipif(not NOTES.is_file(), reason="../shared/notes is not here")
def test_published_figures_are_those_of_the_paper():
    text = NOTES.read_text(encoding="utf-8").partition("## Published figures")[2]
    for row in published_results()["rows"]:
        own_row = text.partition(f"| paper, {row['model'].removeprefix('LMM-VQA, ')} |")[2].partition("\n")[0]
        for srcc, plcc in filter(None, row["srcc_plcc"]):
            pair = f"{srcc:.3f}/{plcc:.3f}".replace("0.", ".")
            assert pair in own_row or f"{row['model']} {pair}" in text


def test_a_line_that_was_cut_is_written_again(tmp_path):
    rows = [{"video": str(index)} for index in range(5)]
    path = tmp_path / "predictions.jsonl"

    def predict(videos: list[str]) -> list[dict]:
        return [{"score": float(video)} for video in videos]

    whole = predict_to_file(path, rows, predict, 2)
    text = path.read_text()
    path.write_text(text[:-4])
    assert predict_to_file(path, rows, predict, 2) == whole
    assert path.read_text() == text
    path.write_text("no line\n" + text)
    with pytest.raises(ValueError, match=f"got {path}, whose line 1 is damaged, expected a JSON object in each"):
        predict_to_file(path, rows, predict, 2)
