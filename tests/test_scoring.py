"""The command line, in-process and once as the installed script, on a tiny random model."""

import csv
import json
import subprocess
import sysconfig
from pathlib import Path

import pytest
import torch
from conftest import write_clip
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

from lmmvqa.processing import FrameSettings, decode_video
from lmmvqa.scoring import scorer as scorer_module
from lmmvqa.scoring import selfcheck
from lmmvqa.scoring.cli import main
from lmmvqa.scoring.report import FACT_KEYS
from lmmvqa.scoring.scorer import load_scorer, quantization_config
from lmmvqa.scoring.video_files import find_videos


RESULT_KEYS = ["score", "score_std", "level", "level_probabilities", "answer"]
KEYS = ["video", *RESULT_KEYS, *FACT_KEYS, "error", "seconds"]


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    for part in tiny:
        part.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_text("this is not a video")
    return str(path)


def score_json(capsys, *arguments):
    """Exit status, and the rows on stdout."""
    status = main(["score", "--json", *arguments])
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_json_rows(capsys, model, clips):
    status, rows = score_json(capsys, "--model", model, *clips)
    assert status == 0
    assert [row["video"] for row in rows] == clips
    for row in rows:
        assert list(row) == KEYS
        assert 0 <= row["score"] <= 100
        assert row["score_std"] > 0
        assert row["level"] in ("poor", "fair", "good")
        assert sum(row["level_probabilities"].values()) == pytest.approx(1)
        assert row["error"] is None
        assert row["seconds"] > 0


def test_a_failing_file_is_an_error_row_and_the_others_are_scored(capsys, model, clips, broken, tmp_path):
    csv_path, missing = tmp_path / "rows.csv", str(tmp_path / "missing.mp4")
    videos = [clips[0], broken, missing, clips[1]]
    status, rows = score_json(capsys, "--model", model, "--csv", str(csv_path), *videos)
    assert status == 1
    assert [row["error"] is None for row in rows] == [True, False, False, True]
    assert [row["score"] is None for row in rows] == [False, True, True, False]
    for row in rows[1:3]:
        assert list(row) == KEYS
        assert row["video"] in row["error"]
        assert "\n" not in row["error"]
        assert [row[key] for key in (*RESULT_KEYS, *FACT_KEYS)] == [None] * 13

    with open(csv_path, newline="", encoding="utf-8") as file:
        csv_rows = list(csv.DictReader(file))
    assert list(csv_rows[0]) == KEYS
    for row, csv_row in zip(rows, csv_rows, strict=True):
        assert csv_row["error"] == (row["error"] or "")
        assert csv_row["score"] == ("" if row["score"] is None else str(row["score"]))
        levels = csv_row["level_probabilities"]
        assert (json.loads(levels) if levels else None) == row["level_probabilities"]


def test_the_table_is_aligned(capsys, model, clips, broken):
    assert main(["score", "--model", model, clips[0], broken]) == 1
    header, scored, failed = capsys.readouterr().out.splitlines()
    column = header.index("score")
    assert scored[: column - 1].rstrip() == clips[0]
    assert "±" in scored[column:]
    assert failed[column:].startswith("error: Could not read")


def test_a_generated_answer_without_a_score_is_an_error_row(capsys, model, clips):
    status, (row,) = score_json(capsys, "--model", model, "--readout", "generate", clips[0])
    assert status == 1
    assert row["error"].startswith("got the answer ")
    assert row["score"] is None


def test_command_line_pipeline_and_model_give_the_same_score(capsys, model, clips):
    _, (row,) = score_json(capsys, "--model", model, clips[1])
    from_pipeline = pipeline("video-quality-assessment", model=model, device="cpu")(clips[1])

    network, processor = AutoModelForImageTextToText.from_pretrained(model), AutoProcessor.from_pretrained(model)
    log_probabilities = network.answer_log_probabilities(processor.score_answer_ids, **processor(clips[1]))
    (from_model,) = processor.post_process_scores(log_probabilities)

    assert row["score"] == pytest.approx(from_pipeline["score"], abs=0.01)
    assert row["score"] == pytest.approx(from_model.score, abs=0.01)


def test_a_batch_gives_the_scores_of_its_videos_alone(model, clips, tmp_path):
    scorer = pipeline("video-quality-assessment", model=model, device="cpu")
    others = [write_clip(tmp_path / f"{seed}.mp4", num_frames=25 * seed, seed=seed) for seed in range(4, 9)]
    videos = [*clips, *others]
    alone = [scorer(video)["score"] for video in videos]
    together = [result["score"] for result in scorer(videos, batch_size=8)]
    assert together == pytest.approx(alone, abs=0.01)
    assert max(alone) - min(alone) > 0.01


def test_scoring_in_bfloat16(capsys, model, clips):
    scorer = load_scorer(model, "cpu", dtype="bfloat16")
    assert scorer.model.dtype == scorer.model.model.temporal_tower.dtype == torch.bfloat16
    _, (row,) = score_json(capsys, "--model", model, "--device", "cpu", "--dtype", "bfloat16", clips[1])
    _, (expected,) = score_json(capsys, "--model", model, "--device", "cpu", clips[1])
    assert row["score"] == scorer(clips[1])["score"] != expected["score"]
    assert row["score"] == pytest.approx(expected["score"], abs=5)


def test_int8_changes_the_decoder_alone(capsys, model, clips):
    pytest.importorskip("torchao")
    plain, quantised = load_scorer(model, "cpu").model, load_scorer(model, "cpu", quantization="int8").model
    for name, parameter in quantised.named_parameters():
        in_decoder_layer = "language_model.layers" in name and name.endswith("proj.weight")
        assert (type(parameter) is torch.nn.Parameter) != in_decoder_layer, name
        assert in_decoder_layer or torch.equal(parameter, plain.get_parameter(name)), name
    _, (row,) = score_json(capsys, "--model", model, "--device", "cpu", "--quantization", "int8", clips[1])
    _, (expected,) = score_json(capsys, "--model", model, "--device", "cpu", clips[1])
    assert row["score"] != expected["score"]
    assert row["score"] == pytest.approx(expected["score"], abs=2)


@pytest.mark.parametrize("quantization, library", [("int8", "torchao"), ("4bit", "bitsandbytes")])
def test_quantisation_without_its_library(capsys, monkeypatch, model, clips, quantization, library):
    monkeypatch.setattr(scorer_module, f"is_{library}_available", lambda: False)
    with pytest.raises(SystemExit) as exit_:
        main(["score", "--model", model, "--quantization", quantization, clips[0]])
    assert exit_.value.code == 2
    assert f"without {library}, expected it to be installed; pip install" in capsys.readouterr().err


def test_an_unknown_quantisation():
    with pytest.raises(ValueError, match="got quantization='3bit', expected 'int8' or '4bit'"):
        quantization_config("3bit")


def test_files_folders_and_patterns(tmp_path):
    names = ["b.mp4", "a.MKV", "notes.txt", "deep/er/c.webm", "deep/d.png", "odd[1].mp4", "odd1.mp4"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.mp4").mkdir()

    def find(*paths):
        videos, without_videos = find_videos([f"{tmp_path}/{path}" for path in paths])
        return [str(Path(video).relative_to(tmp_path)) for video in videos], len(without_videos)

    everything = ["a.MKV", "b.mp4", "deep/d.png", "deep/er/c.webm", "odd1.mp4", "odd[1].mp4"]
    assert find("") == (everything, 0)
    assert find("deep", "b.mp4") == (["deep/d.png", "deep/er/c.webm", "b.mp4"], 0)
    assert find("notes.txt", "missing.mp4") == (["notes.txt", "missing.mp4"], 0)
    assert find("[ab].*") == (["a.MKV", "b.mp4"], 0)
    assert find("**/*.webm", "b.mp4", "*.mp4") == (["deep/er/c.webm", "b.mp4", "odd1.mp4", "odd[1].mp4"], 0)
    assert find("odd[1].mp4") == (["odd[1].mp4"], 0)
    assert find("odd?.mp4") == (["odd1.mp4"], 0)
    assert find("b.mp4", "*.avi", "folder.mp4") == (["b.mp4"], 2)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["score"], "PATH"),
        (["score", "{folder}"], "got no video in {folder}"),
        (["score", "{folder}/*.mp4"], "got no video in {folder}/*.mp4"),
        (["score", "--model", "{folder}", "clip.mp4"], "got model '{folder}'"),
        (["score", "--model", "{folder}/missing", "clip.mp4"], "got model '{folder}/missing'"),
        (["score", "--model", "{model}", "--device", "abacus", "clip.mp4"], "got device 'abacus'"),
        (["score", "--model", "{model}", "--csv", "{folder}/missing/rows.csv", "clip.mp4"], "got --csv"),
        (["selfcheck", "--model", "{model}"], "got no selfcheck.json"),
        (["selfcheck", "--model", "some/repository", "--update"], "got --update"),
    ],
)
def test_wrong_use_is_one_sentence_and_status_2(capsys, tmp_path, model, arguments, message):
    names = {"folder": str(tmp_path), "model": model}
    with pytest.raises(SystemExit) as exit_:
        main([argument.format(**names) for argument in arguments])
    assert exit_.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message.format(**names) in captured.err.splitlines()[-1]


def test_the_installed_script(model, clips, broken):
    script = Path(sysconfig.get_path("scripts")) / "lmmvqa"
    command = [script, "score", "--json", "--model", model, "--device", "cpu", clips[0], broken]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == ""
    assert [json.loads(line)["video"] for line in done.stdout.splitlines()] == [clips[0], broken]


def test_version(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith("lmmvqa ")


def test_the_bundled_clip():
    assert selfcheck.CLIP.stat().st_size < 400_000
    video = decode_video(selfcheck.CLIP, FrameSettings(key_frame_size=64, chunk_size=32, chunk_frames=32))
    assert video.facts.frames == 90
    assert video.clips.shape == (3, 32, 32, 32, 3)


def test_selfcheck_finds_another_score(capsys, tiny, tmp_path):
    for part in tiny:
        part.save_pretrained(tmp_path)
    assert main(["selfcheck", "--model", str(tmp_path), "--update"]) == 0
    assert main(["selfcheck", "--model", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith(": ok\n")

    reference = tmp_path / selfcheck.REFERENCE_NAME
    stored = json.loads(reference.read_text())
    reference.write_text(json.dumps(stored | {"score": stored["score"] + 1}))
    assert main(["selfcheck", "--model", str(tmp_path)]) == 1
    assert capsys.readouterr().out.endswith(": FAILED\n")
