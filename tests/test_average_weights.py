"""The mean of a trained checkpoint and of what it went on from."""

import sys

import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from lmmvqa.checkpoints.export import save_checkpoint
from lmmvqa.checkpoints.training_videos import (
    TrainingVideo,
    TrainingVideos,
    load_training_videos,
    save_training_videos,
)
from recipes.default import average_weights


def test_weights_are_averaged_and_the_rest_is_the_trained_ones(monkeypatch, tmp_path, checkpoint):
    model, processor = (
        AutoModelForImageTextToText.from_pretrained(checkpoint),
        AutoProcessor.from_pretrained(checkpoint),
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight))
    processor.score_std_scale = 1.5
    save_checkpoint(model, processor, tmp_path / "trained")
    save_training_videos(TrainingVideos([TrainingVideo("tiny", "0", "0", "a" * 16)], []), tmp_path / "trained")
    folders = ["--start", str(checkpoint), "--model", str(tmp_path / "trained"), "--out", str(tmp_path / "mean")]
    monkeypatch.setattr(sys, "argv", ["average_weights", *folders, "--share", "0.25"])

    average_weights.main()

    start, trained, mean = (
        load_file(folder / "model.safetensors") for folder in (checkpoint, tmp_path / "trained", tmp_path / "mean")
    )
    assert mean.keys() == trained.keys()
    for name, weight in mean.items():
        between = 0.75 * start[name] + 0.25 * trained[name]
        torch.testing.assert_close(weight, between.to(weight.dtype))  # the count of batches is one number
    assert AutoProcessor.from_pretrained(tmp_path / "mean").score_std_scale == 1.5
    assert load_training_videos(tmp_path / "mean") == load_training_videos(tmp_path / "trained")
