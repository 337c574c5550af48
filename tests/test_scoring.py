"""The command line, in-process and once as the installed script, on a tiny random model."""

import csv
import dataclasses
import errno
import io
import json
import math
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny_pair, write_clip
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

from lmmvqa.commands import score
from lmmvqa.commands.command_line import main
from lmmvqa.processing import FrameSettings, decode_video
from lmmvqa.processing.answers_lmmvqa import DAMAGE_ANSWERS
from lmmvqa.processing.reading_limits_lmmvqa import ReadingLimits
from lmmvqa.scoring import scorer as scorer_module
from lmmvqa.scoring import selfcheck
from lmmvqa.scoring.report import FACT_KEYS, OUTSIDE_NOTE
from lmmvqa.scoring.scorer import load_scorer, quantization_config, score_videos


RESULT_KEYS = ["score", "score_std", "level", "level_probabilities", "answer", "damage"]
KEYS = ["video", *RESULT_KEYS, *FACT_KEYS, "outside", "error", "seconds"]
UNSEEN_KEYS = [*RESULT_KEYS, *FACT_KEYS, "outside"]  # of a video that cannot be scored


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
        assert [row[key] for key in UNSEEN_KEYS] == [None] * len(UNSEEN_KEYS)

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


RESULT = {"score": 61.5, "score_std": 7.25, "level": "good", "level_probabilities": {"good": 1.0}, "answer": "61"}
FACTS = dict(zip(FACT_KEYS, [12.0, 24.0, 300, 0, 0, 96, 64, 25.0, None, None], strict=True))


class StubScorer:
    """A pipeline that gives `RESULT`, or raises what stands for a video."""

    def __init__(self, **failures):
        self.failures = failures
        video_processor = SimpleNamespace(limits=ReadingLimits())
        self.processor = SimpleNamespace(video_processor=video_processor, damage_question=None)

    def __call__(self, video, readout, problems):
        result = self.failures.get(Path(video).stem, RESULT | FACTS)
        if isinstance(result, BaseException):
            raise result
        return result


@pytest.fixture
def stub(monkeypatch):
    scorer = StubScorer()
    monkeypatch.setattr(scorer_module, "load_scorer", lambda *arguments, **options: scorer)
    return scorer


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (MemoryError(), "MemoryError"),
        (
            torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate"),
            "OutOfMemoryError: CUDA out of memory. Tried",
        ),
        (RuntimeError("DataLoader worker"), "RuntimeError: DataLoader worker"),
        (IndexError("list index out of range"), "IndexError: list index out of range"),
        (KeyError("frames"), "KeyError: 'frames'"),
        (RESULT | {"score": float("nan"), "level": "poor"}, "got the score nan"),
        (RESULT | {"score_std": float("inf")}, "got the score 61.5 ± inf"),
    ],
)
def test_whatever_a_video_raises_is_its_row_and_the_batch_goes_on(capsys, stub, failure, error):
    stub.failures = {"b": failure}
    status, (before, failed, after) = score_json(capsys, "a.mp4", "b.mp4", "c.mp4")
    assert status == 1
    assert failed["error"].startswith(error) and "\n" not in failed["error"]
    assert list(failed) == KEYS and [failed[key] for key in UNSEEN_KEYS] == [None] * len(UNSEEN_KEYS)
    for row in (before, after):
        assert row["error"] is None and {**row, **RESULT, **FACTS} == row


def test_weights_that_are_not_finite_give_an_error_and_status_1(capsys, clips, tmp_path):
    model, processor = tiny_pair()
    torch.nn.init.constant_(model.get_output_embeddings().weight, torch.nan)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    status, (row,) = score_json(capsys, "--model", str(tmp_path), "--device", "cpu", clips[0])
    assert status == 1
    assert "expected finite" in row["error"] and row["score"] is row["level"] is None


@pytest.mark.parametrize("failure", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_is_no_row(failure):
    with pytest.raises(failure):
        list(score_videos(StubScorer(a=failure()), ["a.mp4"]))


def test_what_was_seen_is_in_every_form_of_a_row(capsys, stub, tmp_path):
    (row,) = score_videos(stub, ["a.mp4"])
    assert {**row, **FACTS} == row
    assert main(["score", "--csv", str(tmp_path / "rows.csv"), "a.mp4"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("good  (12.0 of 24.0 s)")
    (csv_row,) = csv.DictReader((tmp_path / "rows.csv").open(newline="", encoding="utf-8"))
    assert list(csv_row) == KEYS
    assert {name: csv_row[name] for name in FACTS} == {
        name: "" if value is None else str(value) for name, value in FACTS.items()
    }


def test_what_no_model_was_trained_on_is_explained_once(capsys, stub):
    stub.failures = {name: RESULT | FACTS | {"outside": ["hdr"]} for name in ("b", "c")}
    assert main(["score", "a.mp4", "b.mp4", "c.mp4"]) == 0
    captured = capsys.readouterr()
    assert [line.endswith("(outside: hdr)") for line in captured.out.splitlines()] == [False, False, True, True]
    assert captured.err.startswith(f"{OUTSIDE_NOTE}\n3 videos, 0 without a score, ")
    assert main(["score", "--json", "b.mp4"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["outside"] == ["hdr"] and captured.err == ""


def test_what_is_wrong_is_scored_from_the_command_line(capsys, clips, tmp_path):
    model, processor = tiny_pair()
    processor.damage_question = "What is wrong?"
    for part in (model, processor):
        part.save_pretrained(tmp_path)
    command = ["score", "--model", str(tmp_path), "--device", "cpu", clips[0]]
    assert main([*command, "--json", "--csv", str(tmp_path / "rows.csv")]) == 0
    row = json.loads(capsys.readouterr().out)
    assert list(row["damage"]) == list(DAMAGE_ANSWERS) and sum(row["damage"].values()) == pytest.approx(1)
    (csv_row,) = csv.DictReader((tmp_path / "rows.csv").open(newline="", encoding="utf-8"))
    assert json.loads(csv_row["damage"]) == row["damage"]
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("level  damage")


def test_a_second_run_keeps_the_results_of_the_first(capsys, stub, tmp_path):
    path = tmp_path / "rows.csv"
    assert main(["score", "--csv", str(path), "a.mp4"]) == 0
    rows = path.read_bytes()
    with pytest.raises(SystemExit) as exit_:
        main(["score", "--csv", str(path), "b.mp4"])
    assert exit_.value.code == 2 and "name another one, or move that one away" in capsys.readouterr().err
    assert path.read_bytes() == rows


def test_what_a_folder_leaves_out_is_said_in_one_line(capsys, stub, tmp_path):
    for name in ("a.mp4", ".b.mp4", "._a.mp4", "notes.txt"):
        (tmp_path / name).touch()
    assert main(["score", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert captured.err == (
        "skipped hidden files and folders (2), files of other kinds (1); name what is to be scored all the same\n"
    )
    assert len(captured.out.splitlines()) == 2


def test_names_from_strangers_end_no_line_of_the_output(capsys, stub, tmp_path):
    (tmp_path / "folder\n").mkdir()
    assert main(["score", "a\n\x1bc\u202e.mp4", str(tmp_path / "folder\n")]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1].startswith(r"a\n\x1bc\u202e.mp4  ")
    assert captured.err == f"warning: no video in {tmp_path}/folder\\n\n"


class FailingOutput(io.StringIO):
    encoding = "utf-8"

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_full_disk_behind_standard_output_is_one_line(capsys, monkeypatch, stub, options):
    monkeypatch.setattr(sys, "stdout", FailingOutput(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(SystemExit) as exit_:
        main(["score", *options, "a.mp4"])
    assert exit_.value.code == 2
    error = "lmmvqa score: error: Could not use standard output: No space left on device; check names"
    assert capsys.readouterr().err.startswith(error)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
@pytest.mark.parametrize("arguments", [["--csv", "/dev/full"], ["--json"]])
def test_a_full_disk_leaves_no_traceback(arguments, model, clips):
    script = Path(sysconfig.get_path("scripts")) / "lmmvqa"
    command = [script, "score", *arguments, "--model", model, "--device", "cpu", clips[0]]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode in (1, 2)
    assert done.stderr.count("\n") == 1 and "No space left on device" in done.stderr


@pytest.mark.parametrize("closed", [["stdout"], ["stderr"], ["stdout", "stderr"]])
def test_streams_that_the_caller_closed_are_for_nobody(monkeypatch, stub, closed):
    stub.failures = {"b": MemoryError()}
    for name in closed:
        monkeypatch.setattr(sys, name, None)
    assert main(["score", "a.mp4", "b.mp4"]) == 1


def test_a_reader_that_has_enough_ends_the_command_without_a_traceback(capsys, monkeypatch, stub):
    monkeypatch.setattr(sys, "stdout", FailingOutput(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    assert main(["score", "a.mp4", "b.mp4"]) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", [["score"], ["calibrate", "--csv", "a.csv", "--out", "new"], ["inspect"]])
def test_a_model_that_is_nowhere_is_said_at_once_without_a_connection(capsys, monkeypatch, command):
    def head(address):
        raise OSError("no route")

    monkeypatch.setattr("lmmvqa.checkpoints.hub_connection.get_session", lambda: SimpleNamespace(head=head))
    monkeypatch.setattr(scorer_module, "AutoModelForImageTextToText", None)  # which would try for minutes
    with pytest.raises(SystemExit) as exit_:
        main([*command, "--model", "nobody", *(["a.mp4"] if command[0] != "calibrate" else [])])
    assert exit_.value.code == 2
    assert "got model 'nobody', which is no folder here" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["score", "a.mp4"],
        ["calibrate", "--csv", "a.csv", "--out", "new"],
        ["inspect", "a.mp4"],
        ["chat", "a.mp4", "What is seen?"],
        ["selfcheck"],
        ["export", "--out", "new"],
        ["serve"],
    ],
)
def test_a_folder_with_a_part_of_a_model_is_said_to_be_one(capsys, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint-5").mkdir()
    (tmp_path / "checkpoint-5" / "trainer_state.json").write_text("{}")
    with pytest.raises(SystemExit) as exit_:
        main([*command, "--model", "checkpoint-5"])
    error = capsys.readouterr().err.splitlines()[-1]
    assert (
        exit_.value.code == 2 and "got checkpoint-5 without config.json, expected the folder of a whole model" in error
    )
    assert not (tmp_path / "new").exists()


def test_limits_of_reading_are_options(capsys, model, clips):
    defaults = {field.name: field.default for field in dataclasses.fields(ReadingLimits)}
    options = dataclasses.fields(score.Options)
    helps = {option.name: option.metadata["help"] for option in options if option.metadata.get("group") == "limits"}
    assert defaults.keys() == helps.keys() == set(score.READING_LIMITS)
    said = {"max_pixels": "200 million", "max_wall_seconds": "no limit"}
    assert (defaults["max_pixels"], defaults["max_wall_seconds"]) == (200e6, math.inf)
    for name, default in defaults.items():
        assert f"default: {said.get(name, f'{default:g}')}" in helps[name]

    status, rows = score_json(capsys, "--model", model, "--max_seconds", "1.5", *clips)
    assert status == 1
    assert [row["error"] is None for row in rows] == [True, False, False]
    assert "expected at most 1.5 s" in rows[1]["error"] and "max_seconds" in rows[1]["error"]


@pytest.mark.parametrize("limit", ["-1", "nan", "many"])
def test_a_limit_that_is_none_is_wrong_use(capsys, limit):
    with pytest.raises(SystemExit) as exit_:
        main(["score", f"--max_seconds={limit}", "a.mp4"])
    assert exit_.value.code == 2 and "argument --max_seconds" in capsys.readouterr().err


def failing(failure):
    def fail(*arguments, **options):
        raise failure

    return fail


@pytest.mark.parametrize(
    "failure",
    [ValueError("wrong\nuse"), OSError("wrong use"), SafetensorError("wrong use"), UnicodeError("wrong use")],
)
@pytest.mark.parametrize("command", [["score"], ["inspect", "--out", "{folder}/a.png"]])
def test_what_ends_a_command_is_one_line(capsys, monkeypatch, tmp_path, command, failure):
    monkeypatch.setattr(scorer_module, "load_scorer", failing(failure))
    with pytest.raises(SystemExit) as exit_:
        main([*(argument.format(folder=tmp_path) for argument in command), "a.mp4"])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == f"lmmvqa {command[0]}: error: wrong use\n"


def test_a_bug_ends_in_a_traceback(monkeypatch):
    monkeypatch.setattr(scorer_module, "load_scorer", failing(TypeError("a bug")))
    with pytest.raises(TypeError, match="a bug"):
        main(["score", "a.mp4"])


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
    assert (scorer.model.dtype, scorer.model.model.temporal_tower.dtype) == (torch.bfloat16, torch.float32)
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


@pytest.mark.parametrize("option, value", [("spatial_grid_size", 1), ("use_temporal_tokens", False)])
def test_a_processor_of_another_model_is_refused_before_any_video(tiny, tmp_path, option, value):
    model, processor = tiny
    for part in (model, processor):
        part.save_pretrained(tmp_path)
    file = tmp_path / "processor_config.json"
    settings = json.loads(file.read_text())
    assert settings[option] != value
    file.write_text(json.dumps(settings | {option: value}))
    with pytest.raises(ValueError, match=f"got a processor with {option}={value} beside a model with {option}="):
        load_scorer(str(tmp_path), "cpu")


@pytest.mark.parametrize("command", ["score", "train"])
def test_a_configuration_that_cannot_be_is_one_line(tiny, tmp_path, capsys, command):
    tiny[0].save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"spatial_grid_size": 0}))
    capsys.readouterr()
    options = {"score": ["clip.mp4"], "train": ["--data", "rows", "--output_dir", str(tmp_path / "run")]}
    with pytest.raises(SystemExit) as exit_:
        main([command, "--model", str(tmp_path), *options[command]])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert "got spatial_grid_size=0, expected a whole number from 1 on" in error and error.count("\n") == 1


def test_an_unknown_dtype(model):
    with pytest.raises(ValueError, match="got dtype 'float99', expected auto or one of PyTorch"):
        load_scorer(model, dtype="float99")


def test_an_unknown_quantisation():
    with pytest.raises(ValueError, match="got quantization='3bit', expected 'int8' or '4bit'"):
        quantization_config("3bit")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["score"], "PATH"),
        (["score", "{folder}"], "got no video in {folder}"),
        (["score", "{folder}/*.mp4"], "got no video in {folder}/*.mp4"),
        (["score", "--model", "{folder}", "clip.mp4"], "got {folder} without config.json"),
        (["score", "--model", "{folder}/missing", "clip.mp4"], "got model '{folder}/missing'"),
        (["score", "--model", "{model}", "--device", "abacus", "clip.mp4"], "got device 'abacus'"),
        (["score", "--model", "{model}", "--csv", "{model}/config.json/a.csv", "clip.mp4"], "expected it in a folder"),
        (
            ["score", "--csv", "{folder}/other.mp4", "clip.mp4"],
            "got --csv {folder}/other.mp4, expected a name that is no",
        ),
        (["score", "--csv", "rows.csv", "rows.csv"], "got the output rows.csv, which is an input too"),
        (
            ["score", "--csv", "{model}/config.json", "clip.mp4"],
            "got the output {model}/config.json, which exists already",
        ),
        (["inspect", "{model}/config.json", "--out", "{model}/config.json"], "which is an input too"),
        (
            ["calibrate", "--model", "{model}", "--csv", "{folder}/no.csv", "--out", "{folder}/new"],
            "Could not use {folder}/no.csv: No such file or directory; check names",
        ),
        (
            ["score", "--fail_under", "nan", "a.mp4"],
            "argument --fail_under/--fail-under: got 'nan', expected a number",
        ),
        (
            ["score", "--fail_under", "abc", "a.mp4"],
            "argument --fail_under/--fail-under: got 'abc', expected a number",
        ),
        (["score", "--max_seconds", "nan", "a.mp4"], "--max-seconds: got 'nan', expected a number"),
        (["serve", "--max_pixels", "nan"], "--max-pixels: got 'nan', expected a number"),
        (["serve", "--port", "99999"], "argument --port: got 99999, expected a port from 0 to 65535"),
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
    assert done.stderr.startswith("2 videos, 1 without a score, ") and done.stderr.count("\n") == 1
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


@pytest.mark.parametrize(
    "command",
    [
        ["calibrate", "--csv", "ratings.csv"],
        ["export"],
        ["assemble"],
        ["evaluate", "--data", "rows"],
        ["baseline", "--data", "rows"],
        ["vcgbench", "--questions", "a.json", "--videos", "videos"],
        ["multiple_choice", "--questions", "a.json", "--videos", "videos"],
        ["inspect", "a.mp4"],
        ["prepare", "csv", "--labels", "labels.csv"],
    ],
)
def test_every_command_looks_at_its_output_first(tmp_path, capsys, command):
    (tmp_path / "file").touch()
    for out, message in (
        ("", "got an empty --out"),
        (f"{tmp_path}/file/new.png", "folder that can be written to, which "),
    ):
        with pytest.raises(SystemExit):
            main([*command, "--out", out])
        assert message in capsys.readouterr().err
