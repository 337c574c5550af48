"""`lmmvqa score --out`: a run that is stopped at any moment goes on, and ends with what an unbroken one ends with."""

import csv
import io
import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import pyarrow.parquet
import pytest
from conftest import full_disk, write_clip
from tqdm import tqdm

from lmmvqa.commands.command_line import main
from lmmvqa.scoring import scorer as scorer_module
from lmmvqa.scoring.journal import Journal, video_version
from lmmvqa.scoring.report import FACT_KEYS, lowest_first, summary_line
from lmmvqa.scoring.table_files import VIDEO_COLUMNS, WINDOW_COLUMNS


SUFFIXES = ("csv", "jsonl", "parquet")
FACTS = dict(zip(FACT_KEYS, [2.0, 2.0, 60, 0, 0, 96, 64, 30.0, None, None], strict=True)) | {"outside": []}


class Scorer:
    """A pipeline that scores a file by its size, counts, and raises what stands for a name."""

    def __init__(self, processor, seconds=0.0):
        self.processor, self.seconds = processor, seconds
        self.scored, self.failures = [], {}

    def __call__(self, video, readout, problems):
        time.sleep(self.seconds)
        if failure := self.failures.get(Path(video).name):
            raise failure
        self.scored.append(Path(video).name)
        score = float(os.path.getsize(video) % 101)
        result = {"score": score, "score_std": 5.0, "level": "fair", "answer": f"{score:.0f}", "damage": None}
        result |= {"level_probabilities": {"poor": 0.0, "fair": 1.0, "good": 0.0}}
        if score > 90:
            parts = [result | {"start": 0, "end": 1, "score": score - 9}, result | {"start": 1, "end": 2}]
            worst = {"start": 0, "end": 1, "score": score - 9}
            return result | FACTS | {"percentile_5": score - 9, "worst_window": worst, "windows": parts}
        return result | FACTS


@pytest.fixture
def scorer(monkeypatch, tiny):
    scorer = Scorer(tiny[1])
    monkeypatch.setattr(scorer_module, "load_scorer", lambda *arguments, **options: scorer)
    return scorer


@pytest.fixture
def folder(tmp_path):
    """Ten files of different sizes."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for index in range(10):
        (folder / f"{index}.mp4").write_bytes(bytes(10 * index + 7))
    return folder


@pytest.fixture
def run(model, folder, tmp_path, scorer):
    """Scores the folder to results of a suffix."""

    def run(suffix, *options, out="results"):
        return main(["score", str(folder), "--model", model, "--out", str(tmp_path / f"{out}.{suffix}"), *options])

    return run


def read_table(path: Path) -> list[dict]:
    """The rows without what is different on every run."""
    if path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    elif path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    for row in rows:
        assert row.pop("seconds") is not None
    return rows


def names_of(rows):
    return [Path(row["video"]).name for row in rows]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_say_of_which_file_and_model_they_are(run, tmp_path, folder, model, suffix, capsys):
    assert run(suffix) == 0
    rows = read_table(tmp_path / f"results.{suffix}")
    assert names_of(rows) == [f"{index}.mp4" for index in range(10)]
    assert [float(row["score"]) for row in rows] == [10 * index + 7 for index in range(10)]
    facts = (folder / "3.mp4").stat()
    assert int(rows[3]["size"]) == facts.st_size == 37
    assert rows[3]["modified"].endswith(f".{facts.st_mtime_ns % 10**9:09d}Z")
    assert {row["model"] for row in rows} == {model}
    assert {len(row["model_digest"]) for row in rows} == {64}
    if suffix == "jsonl":
        assert rows[9]["worst_window"] == {"start": 0, "end": 1, "score": 88.0} and "windows" not in rows[3]
    else:
        assert [*rows[9]] == [name for name in VIDEO_COLUMNS if name != "seconds"]
        worst = [rows[9][name] for name in ("percentile_5", "worst_start", "worst_end", "worst_score")]
        assert [float(value) for value in worst] == [88, 0, 1, 88]
        assert rows[3]["percentile_5"] in (None, "")
    assert capsys.readouterr().err.startswith("10 videos, 0 without a score, mean 52.0, lowest 5 % up to 7.0, ")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_command_goes_on_wherever_it_was_cut(run, tmp_path, scorer, suffix, monkeypatch):
    assert run(suffix, out="whole") == 0
    whole = read_table(tmp_path / f"whole.{suffix}")
    journal = (tmp_path / f"whole.{suffix}.journal").read_bytes()
    rng = random.Random(0)
    for end in [0, 1, len(journal), *(rng.randrange(len(journal)) for _ in range(12))]:
        (tmp_path / f"cut.{suffix}").unlink(missing_ok=True)
        (tmp_path / f"cut.{suffix}.journal").write_bytes(journal[:end])
        (tmp_path / f"cut.{suffix}.partial").write_bytes(b"half")
        scorer.scored.clear()
        assert run(suffix, out="cut") == 0
        assert read_table(tmp_path / f"cut.{suffix}") == whole
        num_kept = sum(b'{"row"' in line and line.endswith(b"\n") for line in journal[:end].splitlines(True))
        assert len(scorer.scored) == 10 - num_kept  # none is scored twice
        assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_kill_9_at_random_moments(run, tmp_path, scorer, suffix):
    assert run(suffix, out="whole") == 0
    scorer.seconds = 0.004
    rng = random.Random(suffix)
    killed = 0

    def run_alone() -> None:
        tqdm.set_lock(threading.RLock())  # tqdm's own is shared with forks, and a killed one would keep it
        run(suffix, "--json")

    for _ in range(8):
        process = multiprocessing.get_context("fork").Process(target=run_alone)
        process.start()
        process.join(rng.uniform(0.01, 0.1))
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        killed += process.exitcode == -signal.SIGKILL
    assert killed
    assert run(suffix) == 0
    assert read_table(tmp_path / f"results.{suffix}") == read_table(tmp_path / f"whole.{suffix}")
    rows = [json.loads(line) for line in (tmp_path / f"results.{suffix}.journal").read_text().splitlines()]
    assert sum("row" in line for line in rows) == 10  # none was scored twice


def test_what_changed_and_what_failed_is_scored_anew(run, tmp_path, folder, scorer):
    scorer.failures = {"2.mp4": OSError("the network is down"), "5.mp4": MemoryError()}
    assert run("csv") == 1
    rows = read_table(tmp_path / "results.csv")
    assert [row["error"] for row in rows[2:6]] == ["the network is down", "", "", "MemoryError"]
    scorer.failures = {"5.mp4": MemoryError()}
    scorer.scored.clear()
    (folder / "7.mp4").write_bytes(bytes(50))
    os.utime(folder / "8.mp4", ns=(1, 1))
    (folder / "new.mp4").write_bytes(bytes(3))
    (folder / "0.mp4").unlink()
    assert run("csv") == 1
    assert scorer.scored == ["2.mp4", "7.mp4", "8.mp4", "new.mp4"]
    rows = read_table(tmp_path / "results.csv")
    # What is no longer there keeps its row; a video has one row, in the place of its first
    assert names_of(rows) == [*(f"{index}.mp4" for index in range(10)), "new.mp4"]
    assert [rows[index]["score"] for index in (2, 5, 7, 10)] == ["27.0", "", "50.0", "3.0"]


def test_a_file_that_is_gone_and_named_again_keeps_its_row(tmp_path, folder, model, scorer, capsys):
    """Its failure is said, and is no row of the table."""
    names = [str(folder / "3.mp4"), str(folder / "4.mp4")]
    command = ["score", *names, "--model", model, "--json", "--out", str(tmp_path / "results.csv")]
    assert main(command) == 0
    (folder / "3.mp4").unlink()
    scorer.failures = {"3.mp4": FileNotFoundError("no such file")}
    capsys.readouterr()
    assert main(command) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[0])["error"] == "no such file"
    assert [row["score"] for row in read_table(tmp_path / "results.csv")] == ["37.0", "47.0"]
    (folder / "4.mp4").write_text("changed, and broken")
    scorer.failures["4.mp4"] = ValueError("broken")
    assert main(command) == 1
    assert [row["error"] for row in read_table(tmp_path / "results.csv")] == ["", "broken"]


def test_relative_names_of_two_folders_are_not_taken_for_the_same_videos(tmp_path, model, scorer, monkeypatch, capsys):
    for number, name in enumerate(("p", "q"), 1):
        (tmp_path / name).mkdir()
        (tmp_path / name / "clip.mp4").write_bytes(bytes(10 * number))
    command = ["score", "--model", model, "--out", "../all.csv"]
    journal = tmp_path / "all.csv.journal"
    monkeypatch.chdir(tmp_path / "p")
    assert main([*command, "clip.mp4"]) == 0
    # One of an earlier version, which does not say the folder, goes on, and then says it
    lines = journal.read_text().splitlines(True)
    journal.write_text("".join(line for line in lines if "folder" not in json.loads(line)))
    assert main([*command, "clip.mp4"]) == 0 and '"folder"' in journal.read_text()
    (tmp_path / "p/other.mp4").write_bytes(bytes(5))
    assert main([*command, "clip.mp4", "other.mp4"]) == 0
    assert scorer.scored == ["clip.mp4", "other.mp4"]
    monkeypatch.chdir(tmp_path / "q")
    with pytest.raises(SystemExit):
        main([*command, "clip.mp4"])
    assert "got relative names from ../q, where ../all.csv.journal has such names from ../p" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "q/clip.mp4")]) == 0
    assert [row["score"] for row in read_table(tmp_path / "all.csv")] == ["10.0", "5.0", "20.0"]
    # The table alone is moved: the videos stand where they were
    monkeypatch.chdir(tmp_path / "p")
    (tmp_path / "tables").mkdir()
    for name in ("all.csv", "all.csv.journal"):
        (tmp_path / name).rename(tmp_path / "tables" / name)
    assert main(["score", "--model", model, "--out", "../tables/all.csv", "./clip.mp4"]) == 0
    assert len(scorer.scored) == 3
    for name in ("all.csv", "all.csv.journal"):
        (tmp_path / "tables" / name).rename(tmp_path / name)
    # Moved together, they are found again
    (tmp_path / "moved").mkdir()
    for name in ("p", "all.csv", "all.csv.journal"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    monkeypatch.chdir(tmp_path / "moved/p")
    assert main([*command, "clip.mp4"]) == 0 and len(scorer.scored) == 3


@pytest.mark.parametrize("options", [["--readout", "generate"], ["--max_seconds", "9"], ["--dtype", "bfloat16"]])
def test_other_settings_are_refused(run, tmp_path, capsys, options):
    assert run("csv") == 0
    before = {path.name: path.read_bytes() for path in tmp_path.glob("results*")}
    with pytest.raises(SystemExit) as exit_:
        run("csv", *options)
    assert exit_.value.code == 2
    name, value = options[0].removeprefix("--"), options[1]
    error = capsys.readouterr().err
    assert f"begun with {name} " in error and f"(now {value})" in error and "name another file" in error
    assert {path.name: path.read_bytes() for path in tmp_path.glob("results*")} == before


def test_another_checkpoint_is_refused(run, tmp_path, model, capsys):
    assert run("csv") == 0
    journal = tmp_path / "results.csv.journal"
    settings, *rows = journal.read_text().splitlines()
    other = json.loads(settings)
    other["settings"]["model_digest"] = "0" * 64
    journal.write_text("\n".join([json.dumps(other), *rows]) + "\n")
    with pytest.raises(SystemExit):
        run("csv")
    assert f"begun with model_digest {'0' * 64} (now " in capsys.readouterr().err


def test_what_is_not_its_own_is_not_overwritten(run, tmp_path, capsys):
    path = tmp_path / "results.csv"
    path.write_text("my own notes")
    for _ in range(2):
        with pytest.raises(SystemExit):
            run("csv")
        assert "exists already" in capsys.readouterr().err
        assert path.read_text() == "my own notes" and not list(tmp_path.glob("*.journal*"))
    path.unlink()
    assert run("csv") == 0
    path.write_text(path.read_text() + "a note\n")
    with pytest.raises(SystemExit):
        run("csv")
    assert "exists already" in capsys.readouterr().err and path.read_text().endswith("a note\n")
    path.unlink()  # a table that is gone is made again
    assert run("csv") == 0 and len(read_table(path)) == 10


def test_what_is_no_journal_is_left_alone(run, tmp_path, capsys):
    settings = '{"settings": {}}\n'
    of_later_lines = [settings + line for line in ('{"row": 1}\n', '{"row": {}}\n', '{"other": 1}\n', "[1]\n", "1\n")]
    of_later_lines += [settings + line for line in ('{"folder": 4}\n', '{"row": {"video": 3, "error": null}}\n')]
    for text in ("not json\nand no end", '{"row": 1}\n', "[1]\n", *of_later_lines):
        (tmp_path / "results.csv.journal").write_text(text)
        with pytest.raises(SystemExit):
            run("csv")
        assert "which is no journal" in capsys.readouterr().err
        assert (tmp_path / "results.csv.journal").read_text() == text


def test_a_table_behind_a_link_is_written_there(run, tmp_path, folder, scorer):
    assert run("jsonl") == 0
    file, link = tmp_path / "kept.jsonl", tmp_path / "results.jsonl"
    link.rename(file)
    link.symlink_to(file)
    (folder / "10.mp4").write_bytes(bytes(7))
    assert run("jsonl") == 0
    assert link.is_symlink() and len(file.read_text().splitlines()) == 11


def test_two_processes_do_not_write_one_journal(run, tmp_path, capsys):
    with Journal(str(tmp_path / "results.csv"), {}):
        with pytest.raises(SystemExit):
            run("csv")
        assert "which another process writes" in capsys.readouterr().err
    assert run("csv") == 0


def test_a_full_disk_costs_no_row(run, tmp_path, scorer, capsys):
    assert run("csv", out="whole") == 0
    with full_disk(6000), pytest.raises(SystemExit) as exit_:
        run("csv")
    assert exit_.value.code == 2
    assert f"got the output {tmp_path}/results.csv.journal, expected a file to write to" in capsys.readouterr().err
    assert (tmp_path / "results.csv.journal").stat().st_size == 6000 and not (tmp_path / "results.csv").exists()
    num_scored = len(scorer.scored)
    assert run("csv") == 0
    assert len(scorer.scored) == 21 > num_scored  # the one whose row was cut is scored twice
    assert read_table(tmp_path / "results.csv") == read_table(tmp_path / "whole.csv")


def test_names_that_are_no_utf_8_are_known_again(run, folder, scorer, tmp_path):
    name = os.fsdecode(b"latin-\xe9\n.mp4")
    (folder / name).write_bytes(bytes(5))
    for suffix in SUFFIXES:
        assert run(suffix) == 0
        scorer.scored.clear()
        assert run(suffix) == 0
        assert scorer.scored == []
        assert r"latin-\udce9" in read_table(tmp_path / f"results.{suffix}")[-1]["video"]


def test_a_version_of_a_file(tmp_path):
    assert video_version(str(tmp_path / "missing.mp4")) == {"size": None, "modified": None}
    path = tmp_path / "a.mp4"
    path.write_bytes(b"12345")
    os.utime(path, ns=(0, 1_700_000_000_000_000_001))
    assert video_version(str(path)) == {"size": 5, "modified": "2023-11-14T22:13:20.000000001Z"}


# windows and timelines


def test_windows_are_a_flat_table_that_goes_on_too(run, tmp_path, folder, scorer):
    for suffix in SUFFIXES:
        path = tmp_path / f"windows.{suffix}"
        for _ in range(2):
            assert run(suffix, "--windows", str(path)) == 0
        if suffix == "jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
        elif suffix == "csv":
            rows = list(csv.DictReader(path.open(newline="", encoding="utf-8")))
        else:
            rows = pyarrow.parquet.read_table(path).to_pylist()
        assert len(rows) == 11 and set(rows[0]) == set(WINDOW_COLUMNS)
        # A video that needs no windows is one, of its whole length
        assert [(float(row["start"]), float(row["end"])) for row in rows[8:]] == [(0, 2), (0, 1), (1, 2)]
        assert [float(row["score"]) for row in rows[8:]] == [87, 88, 97]


def test_timelines(run, tmp_path, folder, scorer, capsys, model):
    scorer.failures = {"0.mp4": MemoryError()}
    command = ["score", str(folder), "--model", model, "--timeline"]
    assert main([*command, str(tmp_path / "timeline.json")]) == 1
    timelines = json.loads((tmp_path / "timeline.json").read_text())
    assert timelines[0]["error"] == "MemoryError" and timelines[0]["windows"] == []
    assert timelines[9]["percentile_5"] == 88 and timelines[9]["worst_window"]["end"] == 1
    assert [part["score"] for part in timelines[9]["windows"]] == [88, 97]
    assert main([*command, str(tmp_path / "timeline.csv")]) == 1
    assert len((tmp_path / "timeline.csv").read_text().splitlines()) == 11
    assert main([*command, str(tmp_path / "timeline.png")]) == 1
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")
    (folder / "$5_{ and $6.mp4").touch()  # which Matplotlib would take for a formula
    assert main([*command, str(tmp_path / "of_names.png")]) == 1
    capsys.readouterr()
    for index in range(41):
        (folder / f"more{index}.mp4").touch()
    with pytest.raises(SystemExit):
        main([*command, str(tmp_path / "other.png")])
    assert "for 52 videos, expected at most 40 in a figure" in capsys.readouterr().err


# what is printed


def test_the_lowest_scores_and_the_exit_status(folder, model, scorer, capsys):
    command = ["score", str(folder), "--model", model]
    scorer.failures = {"4.mp4": MemoryError()}
    assert main([*command, "--worst", "2"]) == 1
    captured = capsys.readouterr()
    names = [Path(line.split("  ")[0]).name for line in captured.out.splitlines()[1:]]
    assert names == ["0.mp4", "1.mp4", "4.mp4"]  # a failure is never left out
    assert captured.err.startswith("10 videos, 1 without a score, mean ")
    assert main([*command, "--sort", "--json", "--fail-under", "50"]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert names_of(rows) == names_of(lowest_first(rows)) and len(rows) == 10 and rows[-1]["error"]
    scorer.failures = {}
    assert main([*command, "--fail_under", "7.5"]) == 3
    assert main([*command, "--fail_under", "7"]) == 0
    assert main([*command, "--worst", "0", "--json"]) == 0


def test_files_go_to_new_folders_and_rows_are_printed_before_they_fail(folder, model, scorer, tmp_path, capsys):
    command = ["score", str(folder), "--model", model]
    new = tmp_path / "new"
    outputs = ["--windows", str(new / "w.csv"), "--timeline", str(new / "of/t.json"), "--csv", str(new / "rows.csv")]
    assert main([*command, *outputs]) == 0
    assert sorted(path.name for path in new.iterdir()) == ["of", "rows.csv", "w.csv"]
    (tmp_path / "scores.v2").mkdir()
    assert main([*command, "--out", str(tmp_path / "scores.v2")]) == 0
    assert len(read_table(tmp_path / "scores.v2/scores.parquet")) == 10
    capsys.readouterr()
    with full_disk(100), pytest.raises(SystemExit):
        main([*command, "--sort", "--windows", str(new / "full.csv")])
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 11
    assert f"got the output {new}/full.csv, expected a file to write to: File too large" in printed.err


def test_names_on_standard_input(folder, model, scorer, monkeypatch, capsys):
    names = "\n".join(f"{folder}/{index}.mp4" for index in (3, 1))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(names.encode())))
    assert main(["score", "-", f"{folder}/2.mp4", "--exclude", "1.*", "--model", model, "--json"]) == 0
    captured = capsys.readouterr()
    assert names_of(map(json.loads, captured.out.splitlines())) == ["3.mp4", "2.mp4"]
    assert captured.err.startswith("excluded 1 of 3\n")
    assert main(["score", f"{folder}/2.mp4", "--exclude", "*_draft*", "--model", model, "--json"]) == 0
    assert "warning: --exclude *_draft* leaves nothing out" in capsys.readouterr().err


def test_what_is_not_there_is_a_row_whatever_it_is_called(folder, model, scorer, monkeypatch, capsys):
    names = [f"{folder}/[3].mp4", f"{folder}/*.mp4"]  # of standard input, where 3.mp4 is what a pattern would match
    scorer.failures = dict.fromkeys(["[3].mp4", "*.mp4", "*.mkv"], FileNotFoundError("no such file"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(names).encode())))
    assert main(["score", f"{folder}/1.mp4", "-", f"{folder}/*.mkv", "--model", model, "--json"]) == 1
    captured = capsys.readouterr()
    rows = list(map(json.loads, captured.out.splitlines()))
    assert names_of(rows) == ["1.mp4", "[3].mp4", "*.mp4", "*.mkv"]
    assert [row["error"] for row in rows] == [None, *["no such file"] * 3]
    assert captured.err.startswith("4 videos, 3 without a score")


def test_the_summary():
    rows = [{"score": float(score), "error": None} for score in range(100)] + [{"score": None, "error": "no"}]
    line = "101 videos, 1 without a score, mean 49.5, lowest 5 % up to 4.0, 2.5 s"
    assert summary_line(rows, 2.5) == line
    assert summary_line([rows[-1]] * 2, 0) == "2 videos, 2 without a score, 0.0 s"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "rows.txt"], "got --out rows.txt, expected a name that ends in .csv, .jsonl, .parquet"),
        (["--windows", "clip.mp4"], "got --windows clip.mp4, expected a name that ends in .csv"),
        (["--timeline", "a.jpg"], "got --timeline a.jpg, expected a name that ends in .json, .csv, .png"),
        (["--csv", "a.csv", "--windows", "./a.csv"], "got the outputs a.csv, ./a.csv, expected a file for each"),
        (["--worst", "-1"], "argument --worst"),
        (["--exclude", "*"], "got no video in a.mp4"),
        (["--out", ""], "got an empty --out, expected a name"),
        (["--exclude", ""], "got an empty --exclude, expected a pattern"),
        (["--windows", ""], "got an empty --windows, expected a name"),
        (["--out", ".csv"], "got --out .csv, expected a name before the suffix"),
        (["--out", "dir.csv"], "got --out dir.csv, which is a folder, expected a file"),
        (["--report", "dir.csv"], "got --report dir.csv, which is a folder, expected a file"),
        (["--out", "a.mp4"], "expected a name that ends in .csv"),
        (["--out", "plain"], "expected it in a folder that can be written to, which "),
        (["--timeline", "plain/new/t.csv"], "got --timeline plain/new/t.csv, expected it in a folder"),
        (["--windows", "dir.csv/scores.parquet", "--out", "v.2"], "got --out v.2, expected a name that ends"),
        (["--windows", "dir.v2/scores.parquet", "--out", "dir.v2"], "got the outputs dir.v2/scores.parquet, "),
    ],
)
def test_wrong_use(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "plain"):
        Path(name).touch()
    for name in ("dir.csv", "dir.v2"):
        Path(name).mkdir()
    with pytest.raises(SystemExit) as exit_:
        main(["score", "a.mp4", *arguments])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_the_embedded_form_of_a_row_of_windows(model, tiny, tmp_path, capsys):
    """The tiny model itself, once."""
    clip = write_clip(tmp_path / "a.mp4", num_frames=90)
    tiny_folder = tmp_path / "model"
    for part in tiny:
        part.save_pretrained(tiny_folder)
    settings = json.loads((tiny_folder / "processor_config.json").read_text())
    (tiny_folder / "processor_config.json").write_text(json.dumps(settings | {"max_window_seconds": 1}))
    out = tmp_path / "rows.jsonl"
    for _ in range(2):
        assert main(["score", clip, "--model", str(tiny_folder), "--device", "cpu", "--out", str(out)]) == 0
        (line,) = capsys.readouterr().out.splitlines()[1:]
        assert "(3 windows, worst " in line
    (row,) = read_table(out)
    assert row["worst_window"]["score"] == min(window["score"] for window in row["windows"]) == row["percentile_5"]
