"""Builders of rows: splits, labels, missing files and resuming. Clips are written by PyAV, images by PIL."""

import csv
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from lmmvqa.datasets_scripts import rated_images
from lmmvqa.datasets_scripts.degraded import degraded_clips
from lmmvqa.datasets_scripts.degraded.distortions import KINDS, degrade
from lmmvqa.datasets_scripts.degraded.ffmpeg_process import count_frames, encode_frames, measure_vmaf
from lmmvqa.datasets_scripts.degraded.reference_clips import render_pan, segment_starts
from lmmvqa.datasets_scripts.rows import load_rows, percent_mos, save_rows, split_by_group


SHARED_IMAGES = Path(__file__).resolve().parents[2] / "shared" / "images"


def texture(height: int, width: int) -> np.ndarray:
    """A smooth random picture, (H, W, 3): it has detail to lose at every scale."""
    rng = np.random.default_rng(0)
    layers = [
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).resize((width, height), 3)
        for side in (4, 16, 64)
    ]
    return np.mean([np.asarray(layer) for layer in layers], axis=0).astype(np.uint8)


def moving_frames(count: int, height: int, width: int) -> np.ndarray:
    """(T, H, W, 3) frames of a window that slides over the texture."""
    picture = texture(height, width + 2 * count)
    return np.stack([picture[:, 2 * k : 2 * k + width] for k in range(count)])


def write_clip(path: Path, seconds: float = 2.2, size: tuple[int, int] = (320, 240), rate: int = 10) -> Path:
    """A clip with far more than 0.15 bits per pixel."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "8", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for frame in moving_frames(round(seconds * rate), size[1], size[0]):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())
    return path


def write_csv(path: Path, header: str, *lines: str) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """Twenty frames as the builder stores a reference."""
    path = tmp_path_factory.mktemp("reference") / "reference.mkv"
    encode_frames(moving_frames(20, 240, 320), "rgb24", (320, 240), "30", path)
    return path


# rows


def test_split_does_not_depend_on_order_or_repetition():
    groups = [f"content {k}" for k in range(100)]
    splits = split_by_group(groups, seed=3)
    assert split_by_group(groups[::-1] + groups, seed=3) == splits
    assert split_by_group(groups, seed=4) != splits
    assert Counter(splits.values()) == {"train": 70, "validation": 10, "test": 20}


def test_split_keeps_its_shares_in_every_stratum():
    strata = {f"{name}_{k}": name for name, size in (("a", 20), ("b", 50), ("c", 1)) for k in range(size)}
    splits = split_by_group(strata, strata=strata)
    assert Counter((strata[group], split) for group, split in splits.items()) == {
        ("a", "train"): 14, ("a", "validation"): 2, ("a", "test"): 4,
        ("b", "train"): 35, ("b", "validation"): 5, ("b", "test"): 10,
        ("c", "train"): 1,
    }  # fmt: skip


def test_split_refuses_shares_that_do_not_add_up():
    with pytest.raises(ValueError, match="add up to 1"):
        split_by_group(["a"], shares={"train": 0.5, "test": 0.2})


def test_mos_is_mapped_to_percent_and_refused_outside_its_range():
    assert percent_mos("3", (1, 5), "x") == 50
    for text in ("5.1", "0.9", "nan", "", "good"):
        with pytest.raises(ValueError, match="clip 7 has MOS"):
            percent_mos(text, (1, 5), "clip 7")
    for mos_range in ((5, 1), (1, 1), (1, float("inf"))):
        with pytest.raises(ValueError, match="two finite numbers that rise"):
            percent_mos("3", mos_range, "x")


# rated images


def test_photographs_are_split_within_their_collections():
    prefixes = ("ss01_", "ss02_", "1000")  # the last without a collection in its names
    files = [f"{prefix}{k}.jpg" for prefix in prefixes for k in range(10)]
    splits = rated_images.split_images(files)
    for prefix in prefixes:
        counts = Counter(splits[file] for file in files if file.startswith(prefix))
        assert counts == {"train": 7, "validation": 1, "test": 2}


def test_rated_images_refuse_a_mos_outside_the_range(tmp_path):
    with pytest.raises(ValueError, match=r"a.jpg has MOS '1.2', expected 0 to 1"):
        rated_images.read_image_mos(write_csv(tmp_path / "mos.csv", "file,mos", "a.jpg,1.2"), (0, 1))


@pytest.mark.skipif(not SHARED_IMAGES.is_dir(), reason="the real photographs are not beside this checkout")
def test_real_photographs_are_all_split_within_their_collections():
    mos = rated_images.read_image_mos(SHARED_IMAGES / "mos.csv", (0, 1))
    splits = rated_images.split_images(mos)
    assert len(splits) == len(mos) > 4000
    for prefix in ("ss01", "ss02", "ss03"):
        collection = [split for file, split in splits.items() if file.startswith(prefix)]
        assert collection.count("test") / len(collection) == pytest.approx(0.2, abs=0.002)


# degraded clips


@pytest.mark.parametrize("kind", KINDS)
def test_every_distortion_keeps_size_and_frame_count(kind, reference, tmp_path):
    output = tmp_path / "degraded.mkv"
    degrade(reference, kind, 4, "seed", output)
    assert count_frames(output) == count_frames(reference) == 20
    with av.open(str(output)) as container:
        stream = container.streams.video[0]
        frames = np.stack([frame.to_ndarray(format="gray") for frame in container.decode(stream)])
        assert float(stream.average_rate) == pytest.approx(30, abs=0.1)
    assert frames.shape == (20, 240, 320)
    with av.open(str(reference)) as container:
        clean = np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])
    assert np.abs(frames.astype(float) - clean).mean() > 1


def test_vmaf_falls_as_compression_grows(reference, tmp_path):
    scores = [measure_vmaf(reference, reference)]
    for strength in (1, 3, 5):
        degrade(reference, "h264", strength, "seed", tmp_path / "degraded.mkv")
        scores.append(measure_vmaf(tmp_path / "degraded.mkv", reference))
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 90 and scores[-1] < 40


def test_vmaf_refuses_clips_of_different_length(reference, tmp_path):
    encode_frames(moving_frames(19, 240, 320), "rgb24", (320, 240), "30", tmp_path / "short.mkv")
    with pytest.raises(ValueError, match="has 19 frames, its reference 20"):
        measure_vmaf(tmp_path / "short.mkv", reference)


def test_segments_do_not_overlap():
    assert segment_starts(2.0) == [0]
    assert segment_starts(5.0) == [0.25, 2.75]
    assert segment_starts(30.0) == [4, 14, 24]


def test_clips_of_one_content_share_a_split_and_bad_clips_are_listed(tmp_path, clip):
    for k in range(12):
        shutil.copy(clip, tmp_path / f"{k}.mp4")
    write_clip(tmp_path / "short.mp4", seconds=1)
    write_clip(tmp_path / "small.mp4", size=(160, 120))
    (tmp_path / "text.mp4").write_text("not a video")
    groups = {f"{k}.mp4": "same room" for k in range(6)}

    references, left_out = degraded_clips.plan_segments(tmp_path, groups, variants=2, seed=0)

    assert len(references) == 12
    assert len({reference.split for reference in references if reference.group == "same room"}) == 1
    assert {reference.group for reference in references} == {"same room", *(f"{k}.mp4" for k in range(6, 12))}
    reasons = {Path(item["file"]).name: item["reason"] for item in left_out}
    assert reasons.keys() == {"short.mp4", "small.mp4", "text.mp4"}
    assert "1.00 s" in reasons["short.mp4"] and "120 pixels" in reasons["small.mp4"]


def test_pans_follow_the_split_of_their_photograph(tmp_path):
    mos = {f"ss0{k % 3}_{k}.jpg": float(k) for k in range(100)}
    splits = rated_images.split_images(mos, seed=5)

    def plan(*counts):
        return degraded_clips.plan_pans(tmp_path, mos, 40, counts, variants=(8, 4), seed=5)

    pans = plan(30, 0)
    assert len({pan.group for pan in pans}) == 30
    assert all(pan.split == splits[pan.group] and mos[pan.group] >= 40 for pan in pans)
    assert {pan.split for pan in pans} == {"train", "validation", "test"}
    more = plan(30, 10)
    assert set(pans) < set(more) and len(more) == 40
    assert all((pan.split, pan.variants) == ("train", 4) for pan in set(more) - set(pans))
    with pytest.raises(ValueError, match="has 60 photographs"):
        plan(61, 0)
    with pytest.raises(ValueError, match="of the training split, expected 40"):
        plan(30, 40)


def test_pan_does_not_enlarge_a_photograph(tmp_path):
    Image.fromarray(texture(200, 200)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match="is 200 x 200"):
        render_pan(tmp_path / "small.png", "seed", tmp_path / "pan.mkv")


def test_variants_are_distinct_and_hold_the_strongest_compression():
    for reference in "abcdefghij":
        variants = degraded_clips.draw_variants(reference, 8, seed=0)
        assert len(set(variants)) == 8 and ("h264", 5) in variants
        assert variants == degraded_clips.draw_variants(reference, 8, seed=0)


def test_label_is_vmaf_unless_vmaf_is_no_guide():
    assert degraded_clips.label("blur", 3, 61.5, 99) == 61.5
    assert degraded_clips.label("overexposure", 3, 100, 99) == 50  # not seen by VMAF
    assert degraded_clips.label("underexposure", 2, 4, 99) == 36  # 4 is too harsh
    assert degraded_clips.label("freeze", 5, 90, 99) == 22
    assert degraded_clips.label("freeze", 5, 98.5, 99) == 98.5  # a still picture: nothing to see


def test_a_stopped_build_goes_on_and_gives_the_same_rows(tmp_path, clip, monkeypatch):
    Image.fromarray(texture(512, 512)).save(tmp_path / "photo.png")
    references = [
        degraded_clips.Reference("clip-0", clip, "room", "train", 0.0, 2),
        degraded_clips.Reference("photo-pan", tmp_path / "photo.png", "photo.png", "test", None, 2),
        degraded_clips.Reference("gone-0", tmp_path / "gone.mp4", "gone", "test", 0.0, 2),
    ]
    out = tmp_path / "built"
    rows, left_out = degraded_clips.build_rows(references, out, workers=2, seed=0)
    reports = save_rows(rows, left_out, "degraded_clips", out / "dataset", degraded_clips.COLUMNS)

    assert [row["distortion"] for row in rows][:2] == ["none", "h264"]
    assert {report["split"]: report["missing"] for report in reports} == {"train": 0, "test": 1}
    # the folder moves as a whole
    shutil.move(out, tmp_path / "moved")
    out = tmp_path / "moved"
    stored = [row for part in load_rows(out / "dataset").values() for row in part]
    assert len(stored) == 6 and all(Path(row["video"]).is_file() for row in stored)

    made = []

    def count_and_degrade(clean, kind, strength, seed, output):
        made.append(output.name)
        degrade(clean, kind, strength, seed, output)

    monkeypatch.setattr(degraded_clips, "degrade", count_and_degrade)
    (out / "labels" / "clip-0-h2645.json").unlink()  # as if it was stopped there
    assert degraded_clips.build_rows(references, out, workers=2, seed=0) == (rows, left_out)
    assert made == ["clip-0-h2645.mkv"]

    with pytest.raises(ValueError, match=r"begun with seed 0 \(now 1\)"):
        degraded_clips.build_rows(references, out, workers=2, seed=1)


def test_a_full_disk_ends_a_build_and_leaves_no_reference_out(tmp_path, clip, monkeypatch):
    references = [degraded_clips.Reference("clip-0", clip, "room", "train", 0.0, 2)]
    message = b"Error submitting a packet to the muxer: No space left on device\n1\n2\n3\n4\nConversion failed!"
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left on device.*clip-0-none0"):
        patch.setattr("subprocess.run", lambda *command, **options: SimpleNamespace(returncode=1, stderr=message))
        degraded_clips.build_rows(references, tmp_path, workers=1, seed=0)
    rows, left_out = degraded_clips.build_rows(references, tmp_path, workers=1, seed=0)
    assert len(rows) == 3 and not left_out


def test_a_reference_with_too_few_frames_never_appears(tmp_path, clip, monkeypatch):
    """A build that is stopped there must not take it for a whole one."""
    monkeypatch.setattr("lmmvqa.datasets_scripts.degraded.reference_clips.count_frames", lambda path: 3)
    reference = degraded_clips.Reference("clip-0", clip, "room", "train", 0.0, 2)
    (tmp_path / "clips").mkdir()
    assert degraded_clips.make_reference(reference, tmp_path, seed=0).startswith("gives 3 of ")
    assert not any((tmp_path / "clips").iterdir())


def test_the_table_of_clip_groups_lists_every_file_once():
    path = Path(degraded_clips.__file__).with_name("clip_groups.csv")
    with open(path, newline="") as file:
        files = [line["file"] for line in csv.DictReader(file)]
    assert len(files) == len(set(files)) > 0
