"""The fuzzing of benchmarks/fuzz.py makes the same files on every run, judges rows rightly, and finds nothing in a few."""

import importlib
from collections import Counter
from pathlib import Path

import pytest
from conftest import write_clip

from lmmvqa.modeling_lmmvqa import VideoQualityAssessmentPipeline
from lmmvqa.scoring.scorer import score_videos


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    return importlib.import_module("fuzz")


@pytest.fixture
def sources(fuzz, tmp_path):
    paths = [
        write_clip(tmp_path / "h264.mp4"),
        write_clip(tmp_path / "mpeg4.avi", codec="mpeg4"),
        write_clip(tmp_path / "vp8.webm", codec="libvpx"),
        write_clip(tmp_path / "h264.ts", seed=1),
    ]
    return [fuzz.Source(Path(path), fuzz.decode(path)) for path in paths]


def test_what_ffmpeg_says_of_whole_files(sources):
    assert [source.facts["codec"] for source in sources] == ["h264", "mpeg4", "vp8", "h264"]
    for source in sources:
        assert (source.facts["frames"], source.facts["corrupt"], source.facts["read_errors"]) == (30, 0, 0)
        assert source.facts["seconds"] == pytest.approx(1, abs=0.01)
        assert source.facts["missing_seconds"] == pytest.approx(0, abs=0.01)


def test_a_seed_and_an_index_give_the_same_file_again(fuzz, sources, tmp_path):
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    pairs = [[fuzz.mutate(sources, 0, index, folder)[0] for folder in folders] for index in range(150)]
    assert all(one.sha256 == other.sha256 and one.done == other.done for one, other in pairs)
    mutations = [*fuzz.BYTE_MUTATIONS, *fuzz.PACKET_MUTATIONS]
    assert {one.mutation for one, _ in pairs} == {*fuzz.FILE_MUTATIONS, *(each.__name__ for each in mutations)}
    assert len({one.sha256 for one, _ in pairs}) > 130


ROW = {"error": None, "score": 50.0, "frames": 30, "damaged_frames": 0, "duration": 1.0, "expected_duration": 1.0}
FACTS = {"frames": 30, "packets": 30, "corrupt": 0, "packet_errors": 0, "read_errors": 0, "log": []}
FACTS |= {"seconds": 1.0, "missing_seconds": 0.0}
HALF = {"frames": 15, "seconds": 0.5}


@pytest.mark.parametrize(
    ("row", "facts", "expected"),
    [
        ({}, {}, (None, None)),
        ({"score": None}, {}, ("rows", None)),
        ({"score": float("nan")}, {}, ("rows", None)),
        ({"error": "Could not read x.mp4: no"}, {}, ("rows", None)),
        ({"error": "Could not read x.mp4: no", "score": None}, {"frames": 3}, (None, None)),
        ({"error": "MemoryError", "score": None}, {}, (None, "an error of scoring")),
        ({"frames": 29}, {}, ("frames dropped", None)),
        ({}, {"corrupt": 1}, ("partial, unseen", None)),
        ({}, {"read_errors": 1}, ("partial, unseen", None)),
        ({}, HALF | {"missing_seconds": 0.6}, ("partial, unseen", None)),
        ({}, HALF | {"packets": 30}, ("partial, unseen", None)),
        ({"damaged_frames": 1}, {"corrupt": 1}, (None, "partial, seen")),
        ({"expected_duration": 1.6}, HALF | {"missing_seconds": 0.6}, (None, "partial, seen")),
        ({"expected_duration": 3.0}, HALF | {"missing_seconds": 9.0}, ("partial, unseen", None)),
        ({}, HALF | {"packets": 15}, (None, "fewer frames, unknowable")),
        ({}, {"frames": 15, "packets": 15}, (None, "fewer frames, shown by fps")),
        ({}, {"log": ["h264: odd"]}, (None, "only in the log")),
    ],
)
def test_what_is_missing_has_to_stand_in_the_row(fuzz, row, facts, expected):
    assert fuzz.judge(ROW | row, FACTS | facts, FACTS) == expected


def test_damaged_files_give_one_row_each_that_shows_what_is_missing(fuzz, sources, tiny, tmp_path):
    scorer = VideoQualityAssessmentPipeline(model=tiny[0], processor=tiny[1], device="cpu")
    made = [fuzz.mutate(sources, 1, index, tmp_path) for index in range(40)]
    rows = list(score_videos(scorer, [str(mutated.path) for mutated, _ in made]))
    assert len(rows) == len(made)
    failures = {
        (mutated.index, mutated.mutation): failure
        for row, (mutated, source) in zip(rows, made, strict=True)
        if (failure := fuzz.judge(row, fuzz.decode(str(mutated.path)), source.facts)[0])
    }
    assert failures == {}


def test_a_summary_counts_errors_by_their_reason(fuzz):
    error = {"score": None, "error": "Could not read /a/x.mp4: 4 errors", "video": "/a/x.mp4"}
    found = [
        {"seed": 0, "index": index, "seconds": 1.0, "failure": None, "note": None, "row": row}
        for index, row in enumerate([ROW, error, error | {"error": "Could not read /a/x.mp4: 12 errors"}])
    ]
    counted = fuzz.summary([*found, {"seed": 0, "index": 3, "failure": "crash: SIGSEGV", "note": None}])
    assert (counted["files"], counted["scored"], counted["errors"]) == (4, 1, 2)
    assert counted["reasons"] == {"Could not read FILE: N errors": 2}
    assert counted["failures"] == Counter({"crash: SIGSEGV": 1})
