"""`dataset.map(scorer.score_batch, batched=True)`: columns beside the rows, whatever can be read of them."""

import json
import math
import random
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
from conftest import write_clip


@pytest.fixture(scope="module")
def files(clips, tmp_path_factory):
    """Two videos that can be read, and between them three that cannot; the last one was in memory."""
    broken = tmp_path_factory.mktemp("files") / "broken.mp4"
    broken.write_text("this is not a video\n" * 50)
    return [
        {"path": clips[0], "bytes": None},
        {"path": str(broken), "bytes": None},
        {"path": "missing.mp4", "bytes": None},
        None,
        {"path": None, "bytes": Path(clips[1]).read_bytes()},
    ]


@pytest.fixture
def dataset(files, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    features = datasets.Features({"video": datasets.Video(decode=False), "name": datasets.Value("string")})
    return datasets.Dataset.from_dict({"video": files, "name": list("abcde")}, features=features)


def scored(scorer, dataset, **options):
    """A name for the cache is given: to find one, `map` looks at every weight."""
    name = "".join(random.choices("0123456789abcdef", k=16))
    return dataset.map(scorer.score_batch, batched=True, new_fingerprint=name, **options)


def assert_scored(rows: list[dict], expected: list[dict]) -> None:
    """Of the five files."""
    assert [row["name"] for row in rows] == list("abcde")
    for row, result in zip((rows[0], rows[4]), expected, strict=True):
        assert row["error"] == "" and row["score"] == pytest.approx(result["score"], abs=1e-3)
        assert row["level_probabilities"] == pytest.approx(result["level_probabilities"], abs=1e-4)
        assert (row["frames"], row["duration"]) == (result["frames"], result["duration"])
    for row, reason in zip(rows[1:4], ("broken.mp4", "missing.mp4: no such file", "NoneType"), strict=True):
        assert math.isnan(row["score"]) and reason in row["error"] and row["frames"] == 0


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_rows_that_fail_keep_their_place(scorer, clips, dataset, decode, batch_size):
    """With batches of one the first ones lack errors, problems and numbers: columns keep their types all the same."""
    dataset = dataset.cast_column("video", datasets.Video(decode=decode))
    found = scored(scorer, dataset, batch_size=batch_size)
    assert found.features["video"] == datasets.Video(decode=decode)  # which was not opened by `datasets`
    assert_scored(found.remove_columns("video").to_list(), [scorer(clip) for clip in clips[:2]])
    kept = found.filter(lambda score: score >= 0, input_columns="score")
    assert kept["name"] == ["a", "e"]


@pytest.mark.parametrize("order", [[1, 2, 3, 0, 4], [0, 4, 1, 2, 3]])
def test_columns_have_their_types_whatever_comes_first(scorer, dataset, order):
    found = scored(scorer, dataset.select(order), batch_size=2, fn_kwargs={"problems": True})
    types = {name: feature for name, feature in found.features.items() if name not in ("video", "name")}
    probabilities = {"poor": datasets.Value("float64")}.keys()
    assert types.pop("level_probabilities").keys() >= probabilities and len(types.pop("damage")) == 11
    dtypes = {name: feature.dtype for name, feature in types.items()}
    texts = {"level", "answer", "hdr", "error", "problems", "outside"}
    assert {name for name, dtype in dtypes.items() if dtype == "string"} == texts
    counts = {"frames", "damaged_frames", "lost_frames", "width", "height"}
    assert {name for name, dtype in dtypes.items() if dtype == "int64"} == counts
    assert {dtype for name, dtype in dtypes.items() if name not in texts | counts} == {"float64"}
    problems = {row["name"]: row["problems"] for row in found.remove_columns("video")}
    assert problems["b"] == "" and isinstance(json.loads(problems["a"]), list)


def test_a_streamed_data_set(scorer, clips, dataset):
    stream = dataset.to_iterable_dataset().map(scorer.score_batch, batched=True, batch_size=2)
    assert_scored(list(stream), [scorer(clip) for clip in clips[:2]])


def test_paths_pictures_frames_and_decoders(scorer, clips, dataset):
    frames = np.random.default_rng(0).integers(0, 256, (30, 24, 32, 3), dtype=np.uint8)
    VideoDecoder = type("VideoDecoder", (SimpleNamespace,), {"__module__": "torchcodec.decoders"})
    decoder = VideoDecoder(_hf_encoded={"path": clips[2], "bytes": None})
    given = [clips[0], frames, frames[0], decoder]
    scores = scorer.score_batch({"clip": given}, column="clip")["score"]
    assert scores == pytest.approx([scorer(video)["score"] for video in (clips[0], frames, frames[0], clips[2])])


def test_parts_of_one_file(scorer, tmp_path, monkeypatch):
    """As LeRobot has episodes: each is scored as if it were a file of its own."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    path = write_clip(tmp_path / "file-000.mp4", num_frames=120)
    rows = {"video": [path] * 4, "from_timestamp": [0.0, 1.0, 2.5, 9.0], "to_timestamp": [1.0, 2.5, None, 9.5]}
    dataset = datasets.Dataset.from_dict(rows)
    columns = {"start": "from_timestamp", "end": "to_timestamp"}
    found = scored(scorer, dataset, batch_size=2, fn_kwargs=columns)
    assert found["frames"] == [30, 45, 45, 0]
    assert found["duration"][:3] == pytest.approx([1, 1.5, 1.5], abs=1e-3)
    expected = [scorer({"path": path, "start": start, "end": end}) for start, end in ((0, 1), (1, 2.5), (2.5, None))]
    assert found["score"][:3] == pytest.approx([result["score"] for result in expected], abs=1e-3)
    assert "file-000.mp4 from 9 s to 9.5 s: it holds no frame" in found["error"][3]
    decoded = dataset.cast_column("video", datasets.Video())
    assert scored(scorer, decoded, fn_kwargs=columns)["score"][:3] == found["score"][:3]


def test_the_lowest_seconds_of_long_and_of_short_videos(scorer, clips, monkeypatch):
    monkeypatch.setattr(scorer.processor, "max_window_seconds", 1)
    columns = scorer.score_batch({"video": [clips[0], clips[2]]})
    whole, long = scorer(clips[0]), scorer(clips[2])
    assert columns["percentile_5"] == pytest.approx([whole["score"], long["percentile_5"]])
    assert columns["worst_score"] == pytest.approx([whole["score"], long["worst_window"]["score"]])
    assert columns["worst_start"] == [0, long["worst_window"]["start"]]
    assert columns["worst_end"] == pytest.approx([whole["duration"], long["worst_window"]["end"]])


def test_a_column_that_is_there_is_not_lost(scorer, dataset):
    dataset = dataset.rename_column("name", "fps")
    with pytest.raises(ValueError, match="got a data set with columns fps, .*; rename them, or set prefix"):
        scored(scorer, dataset)
    found = scored(scorer, dataset, fn_kwargs={"prefix": "quality_"})
    assert found["fps"] == list("abcde") and found["quality_fps"][0] == pytest.approx(30)


def test_what_is_no_batch_is_refused(scorer, dataset):
    with pytest.raises(ValueError, match="got no column 'clip', expected one of video, name"):
        scored(scorer, dataset, fn_kwargs={"column": "clip"})
    with pytest.raises(ValueError, match="got one video, expected a batch of them; call map with batched=True"):
        dataset.map(scorer.score_batch, new_fingerprint="0")
