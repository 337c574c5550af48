"""What a run will take: counted on fake tensors, and held against what real ones keep."""

import json
import shutil
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run, tiny_pair, write_clip
from transformers import AutoModelForImageTextToText

from lmmvqa.checkpoints.export import save_checkpoint
from lmmvqa.datasets_scripts.rows import load_rows
from lmmvqa.training import training_plan
from lmmvqa.training.data_collator import LmmVqaDataCollator
from lmmvqa.training.feature_cache import FeatureCache
from lmmvqa.training.trained_parts import add_lora, train_only
from lmmvqa.training.training_plan import TrainingMemory, cache_bytes_a_chunk, training_memory, video_seconds


PROJECTORS = ["spatial_projector", "temporal_projector"]


def options(folder, **changed):
    named = {"train_parts": PROJECTORS, "lora_rank": 0, "lora_parts": ["language_model"], "bf16": False, "fp16": False}
    named |= {"activation_checkpointing": False, "gradient_checkpointing": False}
    return Namespace(model=str(folder), **named | changed)


def kept_bytes(model, batch, dtype):
    """What a real training step's forward pass keeps for the backward pass, without weights."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    del batch["scores"], batch["contents"], batch["data_sets"]
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16),
    ):
        model(**batch, use_cache=False)
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize(
    ("vision", "changed"),
    [
        ("lite", {}),
        ("clip", {"bf16": True}),
        ("clip", {"lora_rank": 2}),
        ("clip", {"train_parts": ["spatial_projector", "vision_tower"]}),
        ("lite", {"train_parts": [*PROJECTORS, "language_model"], "bf16": True}),
    ],
)
def test_activations_are_those_of_a_real_step(vision, changed, tmp_path):
    pytest.importorskip("peft")
    model, processor = tiny_pair(vision=vision)
    given = options(tmp_path, **changed)
    dtype = torch.bfloat16 if given.bf16 else torch.float32
    save_checkpoint(model.to(dtype), processor, tmp_path)
    memory = training_memory(given, given, num_chunks=3)

    model = AutoModelForImageTextToText.from_pretrained(tmp_path)
    train_only(model, given.train_parts)
    real = add_lora(model, given.lora_rank, given.train_parts) if given.lora_rank else model
    real.train()
    clip = write_clip(tmp_path / "clip.mp4", num_frames=90)
    questions = [processor.score_question, "How?"]  # so that one is padded, and attention takes a mask
    rows = [{"video": clip, "question": question, "answer": "100", "score": 100} for question in questions]
    batch = LmmVqaDataCollator(processor, 4096)(rows)
    assert memory.tokens == batch["input_ids"].shape[1]
    logits = memory.tokens * model.config.text_config.vocab_size * (6 if given.bf16 else 8)
    counted = memory.copies + 2 * (memory.activations - logits)
    assert counted == pytest.approx(kept_bytes(real, batch, dtype), rel=0.03)
    size = {True: 0, False: 0}
    for parameter in real.parameters():
        size[parameter.requires_grad] += parameter.numel() * parameter.element_size()
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in real.buffers())
    assert (memory.gradients, memory.moments) == (size[True], 2 * size[True])
    assert sum(memory.weights.values()) == pytest.approx(size[True] + size[False] + buffers, rel=0.01)


def test_checkpointing_keeps_less_and_nothing_of_frozen_towers(tmp_path):
    model, processor = tiny_pair(vision="clip")
    save_checkpoint(model, processor, tmp_path)
    plain, checkpointed = (
        training_memory(given, given, 3)
        for given in (options(tmp_path), options(tmp_path, activation_checkpointing=True))
    )
    assert checkpointed.activations < plain.activations
    train_only(model, PROJECTORS)
    model.train().activation_checkpointing_enable()
    assert not model.model.encode_key_frames(torch.randn(2, 3, 32, 32)).requires_grad
    assert not model.model.encode_chunks(torch.randn(2, 8, 3, 32, 32)).requires_grad
    pixels = torch.randn(2, 3, 32, 32, requires_grad=True)  # what a picture owes its score to can still be asked
    assert model.model.encode_key_frames(pixels).requires_grad


def test_the_cache_takes_what_is_said(checkpoint, tmp_path):
    model, processor = tiny_pair()
    clip = write_clip(tmp_path / "clip.mp4", num_frames=90)
    cached = FeatureCache(tmp_path / "cache", model.requires_grad_(False), processor)[clip]
    stored = 2 * (cached.vision_features.numel() + cached.temporal_features.numel())
    assert 3 * cache_bytes_a_chunk(options(checkpoint)) == stored


def test_lengths_are_those_of_videos(clips, tmp_path):
    (tmp_path / "damaged.mp4").write_text("no video")
    assert video_seconds([*clips, str(tmp_path / "damaged.mp4")]) == pytest.approx(np.array([1, 2, 3, 0]), abs=0.05)


def test_a_video_that_is_not_there_has_no_length(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.mp4, which is not there"):
        video_seconds([str(tmp_path / "gone.mp4")])


def test_the_largest_batch_that_fits(monkeypatch):
    memory = TrainingMemory({torch.float32: 10}, 5, 7, 3, 3, 7)
    monkeypatch.setattr(training_plan, "FILLED", 1)
    for room, batch_size in ((25 + 32 * 3, 32), (25 + 31 * 3, 16), (25 + 3, 1), (0, 1)):
        monkeypatch.setattr(training_plan, "DEVICE_BYTES", room)
        assert memory.largest_batch(32) == batch_size


def test_a_dry_run_trains_nothing(train, monkeypatch, arguments, rows, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments), "--dry_run"])
    train.main()
    text = capsys.readouterr().out
    assert "batch: 4 a device x 1 accumulated x 1 processes = 4; 12 questions, 2 steps" in text
    assert "feature cache: about 0.00 GB for 9 videos" in text and "hours: not known" in text
    assert not (tmp_path / "run").exists() and not (tmp_path / "mine").exists()


def test_the_default_batch_is_32_however_little_fits(train, monkeypatch, arguments, checkpoint, rows, capsys):
    at = arguments.index("--per_device_train_batch_size")
    del arguments[at : at + 2]
    given = options(checkpoint, gradient_accumulation_steps=1)
    memory = training_memory(given, given, 2)
    monkeypatch.setattr(training_plan, "FILLED", 1)
    for fits in (32, 8):
        monkeypatch.setattr(training_plan, "DEVICE_BYTES", memory.total(fits))
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments), "--dry_run"])
        train.main()
        assert f"batch: {fits} a device x {32 // fits} accumulated x 1 processes = 32;" in capsys.readouterr().out
    train_rows = load_rows(rows)["train"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    options_ = training_plan.default_batch(given, [dict(row) for row in train_rows])
    assert options_ == ["--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "2"]


@pytest.mark.parametrize(
    "more, message",
    [
        (["--train_parts", "head"], "got the part 'head' in train_parts"),
        (["--lora_rank", 2, "--train_parts", "language_model"], "got lora_rank=2 with language_model"),
        (["--tasks", "levels"], "got the task 'levels', expected some of"),
        (["--within_weight", 1], "got within_weight=1.0 without readout_weight"),
        (["--soft_label_std", 0.1], "got soft_label_std=0.1 for answers 1 MOS apart"),
        (["--train_parts", "vision_tower", "--feature_cache", "cache"], "got a vision tower that is being trained"),
    ],
)
def test_a_dry_run_refuses_what_the_run_refuses(train, monkeypatch, arguments, tmp_path, capsys, more, message):
    pytest.importorskip("peft")
    errors = []
    for dry_run in ([], ["--dry_run"]):
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, [*arguments, *more, *dry_run])])
        with pytest.raises(SystemExit) as stop:
            train.main()
        assert stop.value.code == 2
        errors.append(capsys.readouterr().err.splitlines()[-1])
    assert errors[0] == errors[1] and message in errors[0]
    assert not (tmp_path / "run").exists() and not Path("cache").exists()


def test_a_dry_run_refuses_a_processor_of_another_layout(train, monkeypatch, arguments, checkpoint, tmp_path, capsys):
    shutil.copytree(checkpoint, tmp_path / "edited")
    file = tmp_path / "edited" / "processor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"spatial_grid_size": 1}))
    given = [*arguments, "--model", tmp_path / "edited", "--dry_run"]
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, given)])
    with pytest.raises(SystemExit) as stop:
        train.main()
    assert (
        stop.value.code == 2 and "got a processor with spatial_grid_size=1 beside a model" in capsys.readouterr().err
    )


def test_a_dry_run_in_a_folder_in_use_is_refused_or_says_that_it_is_finished(train, monkeypatch, arguments, capsys):
    run(train, monkeypatch, arguments)
    for more in ([], ["--learning_rate", 0.01]):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, [*arguments, *more, "--dry_run"])])
        if more:
            with pytest.raises(SystemExit):
                train.main()
            assert "which was begun with learning_rate 0.001 (now 0.01)" in capsys.readouterr().err
        else:
            train.main()
            said = capsys.readouterr().out
            assert "holds this run, finished: nothing is trained again" in said and "memory" not in said
