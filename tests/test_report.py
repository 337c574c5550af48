"""Rows of results as a table, JSON and CSV: what strangers name their files ends no line and runs nowhere."""

import csv
import dataclasses
import json
import os

import pytest

from lmmvqa.processing.video_reading_lmmvqa import VideoFacts
from lmmvqa.scoring.report import (
    FACT_KEYS,
    ROW_KEYS,
    Table,
    csv_file,
    failure_line,
    finite,
    json_line,
    mark_text,
    printable,
    summary_line,
)


NAMES = [
    "plain, name.mp4",
    'say "cheese".mp4',
    "line\nbreak\r\n.mp4",
    "\rcr.mp4",
    "\ttab.mp4",
    "bell\x07 and \x1b[31mred\x7f\x85.mp4",
    "invoice\u202efdp.mp4",
    "\u2066hidden\u2069\u200f\u061c.mp4",
    "paragraph\u2028\u2029.mp4",
    "=HYPERLINK(1).mp4",
    "+1.mp4",
    "-1.mp4",
    "@SUM(1).mp4",
    "\uff1dwide.mp4",
    os.fsdecode(b"latin-\xe9.mp4"),
    "日本語　\U0001f600 نمونه\u200c.mp4",
]


def row(video, **values):
    scored = {"score": 61.5, "score_std": 7.25, "level": "good", "level_probabilities": {"good": 1.0}, "answer": "61"}
    return dict.fromkeys(ROW_KEYS) | {"video": video, "seconds": 0.5} | scored | values


def failed(video, error):
    return dict.fromkeys(ROW_KEYS) | {"video": video, "seconds": 0.5, "error": error}


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_name_is_one_row_of_csv_that_starts_no_formula(tmp_path):
    path = tmp_path / "rows.csv"
    with csv_file(str(path)) as write:
        for name in NAMES:
            write(row(name, score=-3.5))
            write(failed(name, f"Could not read {name}: no such file"))
    assert path.read_bytes().count(b"\n") == len(path.read_text(encoding="utf-8").splitlines()) == 1 + 2 * len(NAMES)
    rows = read_csv(path)
    assert [of_file["video"] for of_file in rows[::2]] == [of_file["video"] for of_file in rows[1::2]]
    for name, of_file in zip(NAMES, rows[::2], strict=True):
        assert None not in of_file and None not in of_file.values()
        assert not of_file["video"].startswith(tuple("=+-@\t\r\uff1d"))
        assert of_file["video"].removeprefix("'") == printable(name)
        assert of_file["score"] == "-3.5"  # a number is no formula
        assert json.loads(of_file["level_probabilities"]) == {"good": 1.0}
    assert [of_file["video"] for of_file in rows[::2]][-1] == NAMES[-1]


def test_a_printable_name_can_be_turned_back():
    for name in NAMES:
        assert printable(name).encode("ascii", "backslashreplace").decode("unicode_escape") == name
    assert printable(os.fsdecode(b"latin-\xe9.mp4")) == r"latin-\udce9.mp4"
    assert printable("a\nb\x1b\u202e") == r"a\nb\x1b\u202e"


def test_json_is_strict_and_keeps_every_name():
    for name in NAMES:
        line = json_line(failed(name, f"Could not read {name}"))
        assert line.isascii() and "\n" not in line
        read = json.loads(line, parse_constant=pytest.fail)
        assert list(read) == list(ROW_KEYS)
        if name.isprintable() or not any("\ud800" <= character <= "\udfff" for character in name):
            assert read["video"] == name
        else:  # a lone surrogate, which not every reader takes
            assert read["video"].encode("utf-8") and read["video"] == printable(name)
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_line(row("a.mp4", fps=float("nan")))


def test_the_table_has_one_line_a_row_and_equal_columns():
    table = Table(NAMES[:-1])
    column = table.header.index("score")
    for name in NAMES[:-1]:
        for line in (table.line(row(name)), table.line(failed(name, f"Could not read {name}"))):
            assert line == printable(line) and line.startswith(printable(name))
            assert line[column - 1] == " " != line[column + 1]


@pytest.mark.parametrize(
    ("facts", "hint"),
    [
        ({}, ""),
        ({"duration": 1.0, "expected_duration": 1.5, "damaged_frames": 0, "frames": 25}, "  (1.0 of 1.5 s)"),
        ({"duration": 24.0, "expected_duration": 24.07, "damaged_frames": 0, "frames": 600}, ""),
        ({"duration": 12.0, "expected_duration": 24.0, "damaged_frames": 0, "frames": 300}, "  (12.0 of 24.0 s)"),
        (
            {"duration": 0.4, "expected_duration": 1.0, "damaged_frames": 20, "lost_frames": 20, "frames": 10},
            "  (0.4 of 1.0 s)  (20 of 30 frames damaged or lost)",
        ),
        (
            {"duration": 12.0, "expected_duration": None, "damaged_frames": 2, "lost_frames": 0, "frames": 300},
            "  (2 of 300 frames damaged or lost)",
        ),
    ],
)
def test_the_table_says_where_a_part_was_decoded(facts, hint):
    assert Table(["a.mp4"]).line(row("a.mp4", **facts)).endswith(f"good{hint}")


def test_a_row_that_does_not_say_what_was_lost_is_read():
    old = row("a.mp4", duration=0.4, damaged_frames=20, frames=10)
    del old["lost_frames"]
    assert Table(["a.mp4"]).line(old).endswith("good  (20 frames damaged or lost)")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"blur": 0.2, "noise": 0.5, "none": 0.3}, "noise"),
        ({"blur": 0.25, "low_resolution": 0.65, "none": 0.1}, "low resolution, blur"),
        ({"blur": 0.3, "noise": 0.34, "freeze": 0.36}, "freeze, noise"),
        ({"blur": 0.2, "noise": 0.1, "none": 0.7}, "-"),
        ({"blur": 0.2, "noise": 0.2, "freeze": 0.2, "shake": 0.2, "none": 0.2}, "-"),
    ],
)
def test_the_table_names_what_is_wrong(damage, words):
    table = Table(["a.mp4"], with_damage=True)
    windows = {"windows": [{}, {}], "worst_window": {"start": 12, "end": 14, "score": 41.04}}
    line = table.line(row("a.mp4", level="fair", damage=damage, **windows))
    assert line[table.header.index("damage") :] == f"{words}  (2 windows, worst 12-14 s: 41.0)"
    assert "damage" not in Table(["a.mp4"]).header
    windows["worst_window"] |= {"start": 12, "end": 13.5135}
    assert table.line(row("a.mp4", damage=damage, **windows)).endswith("worst 12-13.5 s: 41.0)")


def test_damage_and_what_is_outside_are_in_every_form_of_a_row(tmp_path):
    seen = {"damage": {"blur": 0.75, "none": 0.25}, "outside": ["hdr", "frame_rate"]}
    with csv_file(str(tmp_path / "rows.csv")) as write:
        for values in (seen, {"outside": []}, {}):
            write(row("a.mp4", **values))
    first, second, third = read_csv(tmp_path / "rows.csv")
    assert {name: json.loads(first[name]) for name in seen} == seen
    assert (second["damage"], second["outside"], third["outside"]) == ("", "[]", "")
    assert {name: json.loads(json_line(row("a.mp4", **seen)))[name] for name in seen} == seen
    table = Table(["a.mp4"])
    assert table.line(row("a.mp4", outside=["hdr", "frame_rate"])).endswith("good  (outside: hdr, frame_rate)")
    assert table.line(row("a.mp4", outside=[])).endswith("good")


def test_facts_are_columns(tmp_path):
    assert tuple(field.name for field in dataclasses.fields(VideoFacts)) == FACT_KEYS
    facts = dict(zip(FACT_KEYS, [1.0, 2.0, 25, 3, 2, 96, 64, 25.0, "pq", []], strict=True))
    with csv_file(str(tmp_path / "rows.csv")) as write:
        write(row("a.mp4", **facts))
    (read,) = read_csv(tmp_path / "rows.csv")
    assert [read[name] for name in FACT_KEYS] == ["1.0", "2.0", "25", "3", "2", "96", "64", "25.0", "pq", "[]"]
    assert {name: json.loads(json_line(row("a.mp4", **facts)))[name] for name in FACT_KEYS} == facts


def test_rows_are_on_disk_as_they_come(tmp_path):
    path = tmp_path / "rows.csv"
    with csv_file(str(path)) as write:
        assert len(path.read_text().splitlines()) == 1
        write(row("a.mp4"))
        assert len(read_csv(path)) == 1


@pytest.mark.parametrize(
    ("scale", "score", "std", "mark"),
    [
        (None, "49.2", "4.9", "0.5"),
        ([0, 100], "49.2", "4.9", "0.5"),
        ([0.96, 5.1], "0.49", "0.05", "0.5"),
        ([0.0213, 1.0473], "0.492", "0.049", "0.5"),
        ([-200, 1000], "49.2", "4.9", "0.5"),
    ],
)
def test_scores_have_the_decimals_of_their_scale(scale, score, std, mark):
    factor = 100 if scale is None or scale[1] >= 100 else 1
    result = row("a.mp4", score=0.492 * factor, score_std=0.049 * factor) | ({"scale": scale} if scale else {})
    assert f" {score} ± {std} " in Table(["a.mp4"]).line(result)
    windows = {"windows": [{}], "worst_window": {"start": 0, "end": 2, "score": 0.492 * factor}}
    assert f"worst 0-2 s: {score})" in Table(["a.mp4"]).line(result | windows)
    assert f"mean {score}, lowest 5 % up to {score}, " in summary_line([result] * 2, 1)
    assert mark_text(0.5, scale) == mark


def test_a_file_that_appeared_meanwhile_is_not_overwritten(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("older")
    with pytest.raises(OSError, match="expected a file to write to: File exists"), csv_file(str(path)):
        pytest.fail("opened")
    assert path.read_text() == "older"


def test_a_full_disk_is_said_with_the_name_of_the_file():
    with pytest.raises(OSError, match="/dev/full, expected a file to write to: No space left"), csv_file("/dev/full"):
        pytest.fail("opened")


class OutOfMemoryError(RuntimeError):
    pass


@pytest.mark.parametrize(
    ("failure", "line"),
    [
        (ValueError("Could not read a.mp4:\n no video"), "Could not read a.mp4: no video"),
        (ValueError("no video in two  spaces.mp4"), "no video in two  spaces.mp4"),
        (
            FileNotFoundError(2, "No such file", "a.mp4"),
            "Could not use a.mp4: No such file; check names, who may read and write, and the space that is left",
        ),
        (MemoryError(), "MemoryError"),
        (OutOfMemoryError("CUDA out of memory.\nTried"), "OutOfMemoryError: CUDA out of memory. Tried"),
        (KeyError("frames"), "KeyError: 'frames'"),
        (ValueError(), "ValueError"),
    ],
)
def test_a_failure_in_one_line(failure, line):
    assert failure_line(failure) == line


@pytest.mark.parametrize("values", [{"score": float("nan")}, {"score": float("inf")}, {"score_std": float("nan")}])
def test_a_result_that_is_not_finite_is_refused(values):
    with pytest.raises(ValueError, match="expected finite numbers"):
        finite(row("a.mp4", **values))
    assert finite(row("a.mp4", score_std=None))["score"] == 61.5
