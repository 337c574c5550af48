"""`lmmvqa score --workers`: decoding ahead of the model changes when things happen, and nothing else."""

import os
import threading
from collections import Counter

import numpy as np
import pytest
from conftest import write_clip
from PIL import Image

from lmmvqa.commands.command_line import main
from lmmvqa.processing.reading_limits_lmmvqa import ReadingLimits
from lmmvqa.scoring import read_ahead as read_ahead_module
from lmmvqa.scoring.read_ahead import Reading, read_ahead
from lmmvqa.scoring.scorer import STAGES, load_scorer, score_videos


@pytest.fixture(scope="module")
def scorer(model):
    return load_scorer(model, "cpu")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Long enough for two portions, short, no video, gone, a picture, and one with damage in its second portion."""
    folder = tmp_path_factory.mktemp("videos")
    long = write_clip(folder / "long.mkv", num_frames=20 * 8, fps=8)
    short = write_clip(folder / "short.mp4", num_frames=8, fps=8, seed=1)
    (folder / "text.mp4").write_text("this is not a video")
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(folder / "picture.png")
    damaged = bytearray((folder / "long.mkv").read_bytes())
    middle = len(damaged) * 8 // 10
    damaged[middle : middle + 200] = bytes(200)
    (folder / "damaged.mkv").write_bytes(damaged)
    names = ["text.mp4", "gone.mp4", "picture.png", "damaged.mkv"]
    return [long, short, *(str(folder / name) for name in names), short.replace("short", "./short")]


def without_seconds(rows):
    return [row | {"seconds": None} for row in rows]


@pytest.fixture(scope="module")
def expected(scorer, videos):
    rows = without_seconds(score_videos(scorer, videos))
    assert [row["error"] is None for row in rows] == [True, True, False, False, True, True, True]
    assert rows[5]["damaged_frames"] > 0 and rows[0]["duration"] == 20
    return rows


@pytest.mark.parametrize(("workers", "cores"), [(1, 1), (1, 4), (2, 4), (16, 4)])
def test_rows_are_those_without_workers(scorer, videos, expected, workers, cores, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert without_seconds(score_videos(scorer, videos, workers=workers)) == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_stages_are_counted_and_change_nothing(scorer, videos, expected, workers):
    stages = Counter()
    assert without_seconds(score_videos(scorer, videos, workers=workers, stages=stages)) == expected
    assert set(stages) == set(STAGES if workers else STAGES[:-1])
    assert all(seconds > 0 for seconds in stages.values())


def test_what_the_model_raises_is_the_row_of_its_video(scorer, videos, expected, monkeypatch):
    encode = scorer.model.encode_pixels
    calls = []

    def fail_first(**inputs):
        calls.append(inputs)
        if len(calls) == 1:
            raise MemoryError
        return encode(**inputs)

    monkeypatch.setattr(scorer.model, "encode_pixels", fail_first)
    first, *others = without_seconds(score_videos(scorer, videos, workers=2))
    assert first["error"] == "MemoryError"
    assert others == expected[1:]


class Reader:
    """Hands on so many numbers for each video, and knows which were begun."""

    def __init__(self, portions=1):
        self.portions, self.begun, self.handed_on, self.done = portions, [], Counter(), threading.Semaphore(0)

    def __call__(self, reading):
        self.begun.append(reading.video)
        for number in range(self.portions):
            reading.hand_on(number)
            self.handed_on[reading.video] += 1
        self.done.release()


def test_no_more_than_twice_the_workers_are_ahead():
    reader, names = Reader(), iter(range(100))
    readings = read_ahead(reader, names, 3)
    for place in range(5):
        reading = next(readings)
        for _ in range(6 if place == 0 else 1):
            reader.done.acquire()
        assert reading.video == place and list(reading.portions()) == [0]
        assert sorted(reader.begun) == list(range(place + 6))
    readings.close()
    assert next(names) == 10


def test_one_portion_waits_for_the_model():
    reader = Reader(portions=5)
    readings = read_ahead(reader, ["a", "b"], 2)
    portions = next(readings).portions()
    assert next(portions) == 0
    assert reader.handed_on["a"] <= 2 and reader.handed_on["b"] <= 1
    assert list(portions) == [1, 2, 3, 4]
    assert list(next(readings).portions()) == [0, 1, 2, 3, 4]
    assert list(readings) == []


@pytest.mark.parametrize("num_taken", [0, 1, 3])
def test_nobody_waits_once_the_rows_are_not_wanted(num_taken):
    readings = read_ahead(Reader(portions=5), range(100), 4)
    portions = next(readings).portions()
    for _ in range(num_taken):
        next(portions)
    next(readings)
    readings.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reading")]


def test_waits_do_not_count_for_the_limit_of_time(monkeypatch):
    class Clock:
        now = 0.0

    class SlowModel:
        def acquire(self):
            Clock.now += 100

    monkeypatch.setattr(read_ahead_module.time, "perf_counter", lambda: Clock.now)
    reading = Reading("a")
    reading._room = SlowModel()

    def read(reading):
        Clock.now += 2
        reading.hand_on("portion")
        assert reading.clock() == 2

    reading.run(read)
    assert reading.seconds == 2


def test_the_limit_of_time_holds_with_workers(scorer, videos, monkeypatch):
    monkeypatch.setattr(scorer.processor.video_processor, "limits", ReadingLimits(max_wall_seconds=0))
    (row,) = score_videos(scorer, videos[:1], workers=1)
    assert "it takes more than 0 s" in row["error"]


@pytest.mark.parametrize("readout", ["score", "generate"])
def test_the_command_gives_the_same_table_and_goes_on(model, videos, tmp_path, capsys, readout):
    def run(name, paths, *options):
        out = tmp_path / name
        assert main(["score", *paths, "--model", model, "--readout", readout, "--out", str(out), *options]) == 1
        lines = capsys.readouterr()
        return [line.rsplit(",", 5)[0] for line in out.read_text().splitlines()], lines.out, lines.err

    table, printed, _ = run("none.csv", videos)
    run("two.csv", videos[3:5], "--workers", "2")  # a failure and a picture, that the next call finds done
    again, printed_again, err = run("two.csv", videos, "--workers", "2", "--profile")
    assert sorted(cells(again)) == sorted(cells(table))
    assert printed_again == printed
    assert "reading " in err and f"of {os.cpu_count()} cores busy" in err


def cells(table):
    """Lines of the table without the column of seconds."""
    column = table[0].split(",").index("error")
    return [",".join(line.split(",")[:column]) for line in table]
