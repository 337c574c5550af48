"""The feature cache on disk: what finds its features again, several processes at once, stops, stale folders."""

import json
import multiprocessing
import os
import pickle
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_pair, write_clip

from lmmvqa.training import feature_cache, feature_shards
from lmmvqa.training.feature_cache import FeatureCache
from lmmvqa.training.feature_shards import FeatureShards


FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def frozen():
    model, processor = tiny_pair()
    model.requires_grad_(False)
    return model, processor


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return [write_clip(folder / f"{seed}.mp4", num_frames=30 + 30 * (seed % 2), seed=seed) for seed in range(6)]


def index_lines(folder: Path) -> dict[str, list[str]]:
    """Digests in the index of each kind of features."""
    kinds = [path for path in folder.iterdir() if path.is_dir()]
    return {
        kind.name.split("-")[0]: [
            json.loads(line.partition(" ")[2])["key"]
            for path in kind.glob("index-*")
            for line in path.read_text().splitlines()
        ]
        for kind in kinds
    }


def in_processes(function, *arguments_of_each) -> list[int]:
    processes = [FORK.Process(target=function, args=arguments) for arguments in arguments_of_each]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


# what is found again


def test_features_are_those_of_the_towers_as_float16(frozen, videos, tmp_path):
    model, processor = frozen
    cache = FeatureCache(tmp_path, model, processor)
    assert cache.build(videos) == 6
    for video, encoded in zip(videos, processor.video_processor.encode(videos, model), strict=True):
        assert torch.equal(cache[video].vision_features, encoded.vision_features.half().float())
        assert torch.equal(cache[video].temporal_features, encoded.temporal_features.half().float())
        assert np.array_equal(cache[video].seconds, encoded.seconds)


def test_a_moved_video_finds_its_features(frozen, videos, tmp_path, monkeypatch):
    cache = FeatureCache(tmp_path / "cache", *frozen)
    cache.build(videos[:2])
    expected = cache[videos[0]]
    shutil.copy(videos[0], tmp_path / "moved.mp4")
    again = FeatureCache(tmp_path / "cache", *frozen)
    monkeypatch.setattr(again.encoder, "encode_key_frames", None)  # nothing is computed
    assert torch.equal(again[str(tmp_path / "moved.mp4")].vision_features, expected.vision_features)
    monkeypatch.setattr(feature_cache.hashlib, "file_digest", None)  # and files whose digest is known are not read
    last = FeatureCache(tmp_path / "cache", *frozen)
    assert last.build([videos[1], str(tmp_path / "moved.mp4")]) == 0


def test_another_rule_for_chunks_finds_another_folder(frozen, videos, tmp_path, monkeypatch):
    FeatureCache(tmp_path, *frozen).build(videos[:1])
    with monkeypatch.context() as patch:
        patch.setattr(feature_cache, "CHUNK_RULE", feature_cache.CHUNK_RULE + 1)
        assert FeatureCache(tmp_path, *frozen).build(videos[:1]) == 1
    assert FeatureCache(tmp_path, *frozen).build(videos[:1]) == 0  # what was there is not lost


def test_cropped_key_frames_find_another_folder(frozen, videos, tmp_path, monkeypatch):
    FeatureCache(tmp_path, *frozen).build(videos[:1])
    with monkeypatch.context() as patch:
        patch.setattr(frozen[1].video_processor, "key_frame_resize", "crop")
        cropped = FeatureCache(tmp_path, *frozen)
        assert cropped.build(videos[:1]) == 1
    assert not torch.equal(
        cropped[videos[0]].vision_features, FeatureCache(tmp_path, *frozen)[videos[0]].vision_features
    )


def test_a_folder_of_other_features_is_refused(frozen, videos, tmp_path):
    cache = FeatureCache(tmp_path, *frozen)
    cache.build(videos[:1])
    settings = cache.shards["temporal_features"].folder / "settings.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"chunk_frames": 16}))
    with pytest.raises(ValueError, match=r"got .*temporal.* was begun with chunk_frames 16 \(now 8\)"):
        FeatureCache(tmp_path, *frozen)


def test_features_beyond_float16_are_refused(frozen, videos, tmp_path, monkeypatch):
    cache = FeatureCache(tmp_path, *frozen)
    monkeypatch.setattr(cache.encoder, "encode_chunks", lambda *clips: torch.full((1, 2), 1e5))
    with pytest.raises(ValueError, match=rf"got features up to 100000 from {videos[0]}"):
        cache.build(videos[:1])
    assert index_lines(tmp_path) == {"seconds": [], "facts": [], "vision": [], "temporal": []}


# several processes, and stops


def test_two_processes_build_one_cache(frozen, videos, tmp_path):
    def build():
        FeatureCache(tmp_path / "shared", *frozen).build(videos)

    assert in_processes(build, (), ()) == [0, 0]
    for keys in index_lines(tmp_path / "shared").values():
        assert len(set(keys)) == 6 and len(keys) <= 12  # each video once or, where both were at it, twice
    shared, alone = FeatureCache(tmp_path / "shared", *frozen), FeatureCache(tmp_path / "alone", *frozen)
    assert shared.build(videos) == 0
    for video in videos:
        assert torch.equal(shared[video].vision_features, alone[video].vision_features)
        assert torch.equal(shared[video].temporal_features, alone[video].temporal_features)


def test_a_cache_opened_before_a_fork_is_filled_and_read_by_both(frozen, videos, tmp_path):
    """As by a loader's workers."""
    cache = FeatureCache(tmp_path, *frozen)
    cache.build(videos[:2])
    expected = cache[videos[0]].vision_features

    def read_and_build(missing):
        assert torch.equal(cache[videos[0]].vision_features, expected)
        cache.build(missing)

    assert in_processes(read_and_build, (videos[2:4],), (videos[4:],)) == [0, 0]
    assert cache.build(videos) == 0
    assert len(cache[videos[5]].vision_features) == 2
    assert {len(keys) for keys in index_lines(tmp_path).values()} == {6}


@pytest.mark.parametrize("moment", ["before the line", "within the line"])
def test_a_killed_build_loses_one_video(frozen, videos, tmp_path, monkeypatch, moment):
    def build_and_die():
        append = feature_shards.SharedLog.append

        def die_at_the_third_video(log, entry):
            append(log, entry)
            if (
                entry.get("offset")
                and log.folder.name.startswith("vision")
                and len(index_lines(tmp_path)["vision"]) == 3
            ):
                path = log.own_path
                lines = path.read_bytes().splitlines(keepends=True)
                path.write_bytes(b"".join(lines[:2]) + (lines[2][:30] if moment == "within the line" else b""))
                os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(feature_shards.SharedLog, "append", die_at_the_third_video)
        FeatureCache(tmp_path, *frozen).build(videos)

    assert in_processes(build_and_die, ()) == [-signal.SIGKILL]
    cache = FeatureCache(tmp_path, *frozen)
    assert cache.build(videos) == 4
    assert [len(cache[video].temporal_features) for video in videos] == [1, 2] * 3


# shards


def test_arrays_in_shards_by_key(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_shards, "VIDEOS_PER_SHARD", 2)
    rng = np.random.default_rng(0)
    arrays = {f"video {index}": rng.random((index + 1, 3)).astype(np.float16) for index in range(5)}
    shards = FeatureShards(tmp_path, {"tower": "a"}, np.float16)
    reader = FeatureShards(tmp_path, {"tower": "a"}, np.float16)
    for key, array in arrays.items():
        shards.add(key, array)
    assert len(list(tmp_path.glob("shard-*.bin"))) == 3
    assert "video 0" not in reader
    reader.refresh()
    for opened in (shards, reader, pickle.loads(pickle.dumps(reader))):
        for key in sorted(arrays, reverse=True):
            assert np.array_equal(opened.get(key), arrays[key])
    copied = pickle.loads(pickle.dumps(shards))
    copied.add("another", arrays["video 0"])
    assert np.array_equal(copied.get("another"), arrays["video 0"])
    assert reader.get("another") is None


# damage


def flip(file: Path, start: int, count: int = 1) -> None:
    with open(file, "r+b") as opened:
        opened.seek(start)
        data = opened.read(count)
        opened.seek(start)
        opened.write(bytes(byte ^ 0xFF for byte in data))


DAMAGES = {
    "flipped bytes": lambda shard: flip(shard, 40, 2),
    "cut": lambda shard: os.truncate(shard, 40),
    "empty": lambda shard: os.truncate(shard, 0),
    "gone": os.remove,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_named_and_made_again(frozen, videos, tmp_path, caplog, damage):
    """Its arrays alone, once, and for all processes."""
    whole = FeatureCache(tmp_path, *frozen)
    whole.build(videos[:3])
    expected = [whole[video] for video in videos[:3]]
    folder = whole.shards["vision_features"].folder
    (shard,) = folder.glob("shard-*")
    DAMAGES[damage](shard)
    first, second = FeatureCache(tmp_path, *frozen), FeatureCache(tmp_path, *frozen)

    def is_named(cache: FeatureCache) -> bool:
        caplog.clear()
        for video, encoded in zip(videos[:3], expected, strict=True):
            assert torch.equal(cache[video].vision_features, encoded.vision_features)
            assert torch.equal(cache[video].temporal_features, encoded.temporal_features)
        return any(f"{shard} is damaged" in record.getMessage() for record in caplog.records)

    assert is_named(first) and is_named(second)  # which was opened before the damage was known
    assert not is_named(first) and not is_named(FeatureCache(tmp_path, *frozen))
    assert len(list(folder.glob("shard-*"))) == (1 if damage == "gone" else 2)
    assert {kind: len(set(keys)) for kind, keys in index_lines(tmp_path).items()} == dict.fromkeys(
        ("seconds", "facts", "vision", "temporal"), 3
    )


def test_a_damaged_index_line_is_left_out(tmp_path, caplog):
    """At any byte, the line's end included."""
    shards = FeatureShards(tmp_path / "whole", {}, np.float16)
    arrays = {name: np.arange(3.0) + index for index, name in enumerate("abc")}
    for name, array in arrays.items():
        shards.add(name, array)
    (index,) = (tmp_path / "whole").glob("index-*")
    for position in range(index.stat().st_size):
        copy = tmp_path / str(position)
        shutil.copytree(tmp_path / "whole", copy)
        flip(copy / index.name, position)
        read = {name: FeatureShards(copy, {}, np.float16).get(name) for name in arrays}
        known = [name for name, array in read.items() if array is not None]
        assert 1 <= len(known) <= 2 and all(np.array_equal(read[name], arrays[name]) for name in known)
        shutil.rmtree(copy)


def test_a_cache_from_before_checksums_is_not_looked_at(frozen, videos, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(feature_cache, "CHECKSUM", None)
        FeatureCache(tmp_path, *frozen).build(videos[:1])
    assert FeatureCache(tmp_path, *frozen).build(videos[:1]) == 1
