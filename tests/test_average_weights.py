"""Averaged weights: each parameter's mean, tied ones once, and a list of all that was trained on."""

import sys

import torch
from conftest import tiny_pair
from transformers import AutoModelForImageTextToText, AutoProcessor

from lmmvqa.checkpoints.export import save_checkpoint
from lmmvqa.checkpoints.training_videos import (
    TrainingVideo,
    TrainingVideos,
    load_training_videos,
    save_training_videos,
)
from recipes.default import average_weights


def test_an_average_is_the_mean_of_each_parameter_and_knows_all_training_videos(monkeypatch, tmp_path):
    both, own = TrainingVideo("a", "1.mp4", "1", "00"), [TrainingVideo("a", f"{k}.mp4", "2", None) for k in (2, 3)]
    folders, expected = [], {}
    for seed in (0, 1):
        model, processor = tiny_pair(seed)
        assert model.lm_head.weight is model.get_input_embeddings().weight
        folders.append(str(tmp_path / str(seed)))
        save_checkpoint(model, processor, folders[-1])
        save_training_videos(TrainingVideos([both, own[seed]], ["earlier"]), folders[-1])
        for name, parameter in model.named_parameters():
            expected[name] = expected.get(name, 0) + parameter.detach() / 2
    monkeypatch.setattr(sys, "argv", ["average", "--models", *folders, "--out", str(tmp_path / "average")])

    average_weights.main()

    average = AutoModelForImageTextToText.from_pretrained(tmp_path / "average")
    torch.testing.assert_close(dict(average.named_parameters()), expected)
    first, averaged = (AutoProcessor.from_pretrained(folder) for folder in (folders[0], tmp_path / "average"))
    assert averaged.to_dict() == first.to_dict()
    assert load_training_videos(tmp_path / "average") == TrainingVideos([both, *own], ["earlier"])
