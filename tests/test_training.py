"""Training from saved rows to a loadable checkpoint: what moves, what is cached, what resumes."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import TRAIN_PY, moved, run, tiny_pair, write_clip
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from lmmvqa.checkpoints.export import save_checkpoint
from lmmvqa.checkpoints.training_videos import load_training_videos
from lmmvqa.datasets_scripts.degraded.chained_clips import DAMAGE_COLUMN
from lmmvqa.datasets_scripts.rows import load_rows, save_rows
from lmmvqa.evaluation.predictions import predict_scores
from lmmvqa.processing.answers_lmmvqa import DAMAGE_ANSWERS, DAMAGES
from lmmvqa.scoring.scorer import load_scorer
from lmmvqa.training.data_collator import LmmVqaDataCollator
from lmmvqa.training.feature_cache import FeatureCache
from lmmvqa.training.qa_pairs import QaPairs, question_templates
from lmmvqa.training.run_settings import read_rows


# train.py


def test_the_command_trains_the_projectors_alone_and_exports(arguments, checkpoint, rows, tmp_path):
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, TRAIN_PY, *arguments]
    finished = subprocess.run([*map(str, command)], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert '"tiny": {"n": 3, "srcc":' in finished.stdout  # validation, by the readout that users get

    before, after = load_file(checkpoint / "model.safetensors"), load_file(tmp_path / "mine" / "model.safetensors")
    trained = {name for name in before if name.startswith(("model.spatial_projector", "model.temporal_projector"))}
    assert len(trained) > 10 and moved(before, after) == trained

    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "mine")
    processor = AutoProcessor.from_pretrained(tmp_path / "mine")
    assert processor.level_answer_thresholds == {"tiny": pytest.approx([80 / 3, 130 / 3])}  # of 10, 20 ... 60
    (result,) = predict_scores(model, processor, [str(rows / "0.mp4")])
    assert 0 < result.score < 100
    card = (tmp_path / "mine" / "README.md").read_text()
    assert "| tiny | 6 |" in card and "spatial_projector, temporal_projector" in card


def test_what_is_trained_further_is_not_calibrated_any_more(train, monkeypatch, arguments, checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "calibrated")
    processor = AutoProcessor.from_pretrained(checkpoint)
    processor.score_map, processor.score_std_scale = [1 + score / 25 for score in range(101)], 0.06
    processor.pair_std_scale = 0.5
    processor.save_pretrained(tmp_path / "calibrated")
    run(train, monkeypatch, arguments, "--model", tmp_path / "calibrated")
    trained = AutoProcessor.from_pretrained(tmp_path / "mine")
    assert (trained.score_map, trained.score_std_scale, trained.pair_std_scale) == (None, 1, 1)


def test_a_model_knows_whether_it_learned_levels(train, monkeypatch, arguments, checkpoint, tmp_path):
    def level_question(start, name, *tasks):
        more = ["--max_steps", 1, "--output_dir", tmp_path / f"run_{name}", "--export_dir", tmp_path / name]
        given = [*arguments, "--model", start, *more, "--tasks", *tasks]
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, given)])
        train.main()
        return AutoProcessor.from_pretrained(tmp_path / name).level_question

    question = AutoProcessor.from_pretrained(checkpoint).level_question
    assert level_question(checkpoint, "score_alone", "score") is None
    assert level_question(tmp_path / "score_alone", "still", "score") is None
    assert level_question(tmp_path / "score_alone", "both", "score", "level") == question
    assert level_question(tmp_path / "both", "further", "score") == question


def test_a_model_that_learned_what_is_wrong_says_it(train, monkeypatch, arguments, rows, tmp_path):
    of_damage = [dict(row) for split in load_rows(rows).values() for row in split]
    for index, row in enumerate(of_damage):
        row["damage"] = dict.fromkeys(DAMAGES, 0.0) | {"blur": float(index % 5)}
    save_rows(of_damage, [], "tiny", tmp_path / "damaged", DAMAGE_COLUMN)
    data = ["--data", rows, tmp_path / "damaged"]
    run(train, monkeypatch, arguments, *data, "--tasks", "score", "level", "damage")
    processor = AutoProcessor.from_pretrained(tmp_path / "mine")
    assert processor.damage_question == question_templates("damage")[0].question
    frequencies = dict(zip(DAMAGE_ANSWERS, processor.damage_frequencies, strict=True))
    assert sum(frequencies.values()) == pytest.approx(1)
    assert frequencies["blur"] > frequencies["none"] > frequencies["noise"] > 0
    assert "what is wrong" in (tmp_path / "mine" / "README.md").read_text()
    result = load_scorer(str(tmp_path / "mine"), "cpu")(str(rows / "0.mp4"))
    assert sum(result["damage"].values()) == pytest.approx(1)
    # Rows of another damage are other rows
    of_damage[0]["damage"]["blur"] = 5.0
    save_rows(of_damage, [], "tiny", tmp_path / "damaged", DAMAGE_COLUMN)
    with pytest.raises(SystemExit):
        run(train, monkeypatch, arguments, *data, "--tasks", "score", "level", "damage")
    run(train, monkeypatch, [*arguments, "--output_dir", tmp_path / "other", "--export_dir", tmp_path / "paper"])
    assert AutoProcessor.from_pretrained(tmp_path / "paper").damage_question is None


def test_push_to_hub_uploads_the_complete_export(train, monkeypatch, arguments, tmp_path):
    pushed = {}

    def push(folder, repo_id, private, token):
        pushed[repo_id] = {"private": private, "files": {path.name for path in Path(folder).iterdir()}}
        pushed[repo_id]["card"] = (Path(folder) / "README.md").read_text()
        return f"https://huggingface.co/{repo_id}"

    monkeypatch.setattr(train, "push_checkpoint", push)
    run(train, monkeypatch, arguments, "--push_to_hub", "--hub_model_id", "me/mine", "--hub_private_repo", "True")
    ((name, upload),) = pushed.items()
    assert (name, upload["private"]) == ("me/mine", True)
    assert {"config.json", "model.safetensors", "pipeline_lmmvqa.py", "processor_config.json"} <= upload["files"]
    assert 'model="me/mine"' in upload["card"] and "Results" in upload["card"]


@pytest.mark.parametrize("cache", [False, True])
def test_a_trained_tower_and_decoder_move_and_nothing_else(train, monkeypatch, arguments, checkpoint, tmp_path, cache):
    more = ["--train_parts", "temporal_tower", "language_model"]
    if cache:
        more += ["--feature_cache", tmp_path / "cache"]
    after = run(train, monkeypatch, arguments, *more)
    before = load_file(checkpoint / "model.safetensors")
    expected = {name for name in before if name.startswith(("model.temporal_tower", "model.language_model"))}
    assert any("running_mean" in name for name in expected)
    assert moved(before, after) == expected
    assert torch.equal(
        AutoModelForImageTextToText.from_pretrained(tmp_path / "mine").lm_head.weight,
        after["model.language_model.embed_tokens.weight"],
    )


def test_a_batch_equals_its_halves_accumulated(train, monkeypatch, arguments):
    arguments = [*arguments, "--optim", "sgd", "--readout_weight", 2]
    one = run(train, monkeypatch, arguments)
    halves = ["--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 2]
    halves += ["--output_dir", arguments[5].with_name("halves")]
    torch.testing.assert_close(one, run(train, monkeypatch, arguments, *halves))


def test_an_export_over_the_start_model_or_over_rows_is_refused_before_training(
    train, monkeypatch, arguments, checkpoint, rows, tmp_path, capsys
):
    (tmp_path / "file").write_text("")
    cases = {
        checkpoint: "holds the model itself",
        rows: "holds dataset_dict.json",
        tmp_path / "file": "file is not; name another one",
    }
    for folder, message in cases.items():
        with pytest.raises(SystemExit) as stop:
            run(train, monkeypatch, arguments, "--export_dir", folder)
        assert stop.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "more, message",
    [
        (["--fidelity_weight", "-1"], "got fidelity_weight=-1.0, expected a number from 0 on"),
        (["--readout_weight", "nan"], "got readout_weight=nan, expected a number from 0 on"),
        (["--versions_a_batch", "-1"], "got versions_a_batch=-1, expected a number from 0 on"),
        (["--inference_share", "2"], "got inference_share=2.0, expected a share from 0 to 1"),
        (["--tasks", "level", "--soft_label_std", "5"], "got soft_label_std with the tasks level"),
        (["--tasks", "level", "--score_form", "categories"], "got score_form with the tasks level"),
        (["--fidelity_weight", "1", "--per_device_train_batch_size", "1"], "expected 2 or more"),
        (
            ["--resume_from_checkpoint", "checkpoint-1"],
            "got resume_from_checkpoint=checkpoint-1, expected none of them",
        ),
        (["--eval_strategy", "epoch"], "got eval_strategy=epoch, expected none of them"),
        (["--eval_on_start"], "got eval_on_start=True, expected none of them"),
        (["--load_best_model_at_end"], "got load_best_model_at_end=True, expected none of them"),
        (["--save_strategy", "best"], "got save_strategy=best, expected none of them"),
        (["--use_liger_kernel"], "got use_liger_kernel=True, expected none of them"),
        (
            ["--gradient_accumulation_steps", "3", "--per_device_train_batch_size", "0"],
            "got gradient_accumulation_steps=3 in 1 processes, expected numbers that divide the paper's batch of 32",
        ),
        (["--remove_unused_columns", "True"], "got remove_unused_columns=True, expected none of them"),
        (
            ["--train_sampling_strategy", "group_by_length"],
            "got train_sampling_strategy=group_by_length, expected none",
        ),
        (["--learning_rate", "nan"], "got learning_rate=nan, expected a number from 0 on"),
        (["--gradient_accumulation_steps", "0"], "got gradient_accumulation_steps=0, expected a number from 1 on"),
        (["--per_device_train_batch_size", "-1"], "got per_device_train_batch_size=-1, expected a number from 0 on"),
        (["--lora_rank", "-1"], "got lora_rank=-1, expected a number from 0 on"),
    ],
)
def test_options_that_cannot_work_are_refused(train, monkeypatch, arguments, tmp_path, capsys, more, message):
    with pytest.raises(SystemExit) as stop:
        run(train, monkeypatch, arguments, *more)
    assert stop.value.code == 2 and message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_float16_of_a_model_stored_in_bfloat16_is_refused(train, monkeypatch, arguments, tmp_path, capsys):
    model, processor = tiny_pair()
    save_checkpoint(model.to(torch.bfloat16), processor, tmp_path / "half")
    with pytest.raises(SystemExit) as stop:
        run(train, monkeypatch, arguments, "--model", tmp_path / "half", "--fp16")
    error = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2 and "got fp16 for a model stored in bfloat16" in error and "take --bf16" in error


@pytest.mark.parametrize("more", [[], ["--dry_run"], ["--per_device_train_batch_size", 0]])
def test_rows_whose_files_are_gone_are_refused_before_training(
    train, monkeypatch, arguments, rows, tmp_path, capsys, more
):
    (rows / "0.mp4").rename(tmp_path / "0.mp4")
    try:
        with pytest.raises(SystemExit) as stop:
            run(train, monkeypatch, arguments, *more)
    finally:
        (tmp_path / "0.mp4").rename(rows / "0.mp4")
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "files that are not there, such as" in error and "0.mp4" in error


def test_a_set_that_trains_on_what_another_validates_is_refused(train, monkeypatch, arguments, rows, tmp_path, capsys):
    of_split = load_rows(rows)
    turned = [row | {"split": "train"} for row in of_split["validation"]]
    save_rows(turned, [], "turned", tmp_path / "turned")
    with pytest.raises(SystemExit) as stop:
        run(train, monkeypatch, arguments, "--data", rows, tmp_path / "turned")
    assert stop.value.code == 2 and "in a split train and in a split validation" in capsys.readouterr().err


def test_a_folder_named_twice_counts_twice_and_is_validated_once(rows):
    of_split = read_rows([rows, rows])
    assert (len(of_split["train"]), len(of_split["validation"])) == (12, 3)


def test_several_gpus_in_one_process_are_refused(train, monkeypatch, arguments, capsys):
    monkeypatch.setattr(train.LmmVqaTrainingArguments, "n_gpu", 2)
    with pytest.raises(SystemExit):
        run(train, monkeypatch, arguments)
    message = "error: got 2 GPUs in one process, expected one process a GPU; start with torchrun"
    assert message in capsys.readouterr().err


def test_unknown_parts_are_refused(train):
    model, _ = tiny_pair()
    with pytest.raises(
        ValueError, match="got the part 'projector' in train_parts, expected some of spatial_projector"
    ):
        train.train_only(model, ["projector"])
    model, _ = tiny_pair(use_temporal_tokens=False)
    with pytest.raises(ValueError, match="got the part 'temporal_projector' in train_parts, expected some of spatial"):
        train.train_only(model, ["spatial_projector", "temporal_projector"])


# the feature cache


@pytest.fixture
def frozen(train):
    model, processor = tiny_pair()
    train.train_only(model, ["spatial_projector", "temporal_projector"])
    return model, processor


def count_encodings(model, monkeypatch) -> list[str]:
    calls = []
    for name in ("encode_key_frames", "encode_chunks"):
        method = getattr(model.model, name)
        monkeypatch.setattr(
            model.model, name, lambda *given, name=name, method=method: (calls.append(name), method(*given))[1]
        )
    return calls


def test_a_second_build_computes_nothing(frozen, clips, tmp_path, monkeypatch):
    calls = count_encodings(frozen[0], monkeypatch)
    FeatureCache(tmp_path, *frozen).build([*clips, *clips])
    assert calls == ["encode_key_frames", "encode_chunks"] * 3
    again = FeatureCache(tmp_path, *frozen)
    again.build(clips)
    assert again[clips[1]].vision_features.shape == (2, 4, 28)
    assert len(calls) == 6


def test_a_changed_clip_is_computed_again(frozen, tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "clip.mp4")
    cache = FeatureCache(tmp_path / "cache", *frozen)
    before = cache[clip]
    write_clip(clip, num_frames=60, seed=1)
    assert (len(before.vision_features), len(cache[clip].vision_features)) == (1, 2)


def test_a_folder_for_everything_that_features_depend_on(frozen, tmp_path):
    model, processor = frozen

    def folder():
        return tuple(shards.folder for shards in FeatureCache(tmp_path, model, processor).shards.values())

    first = folder()
    model.model.spatial_projector.linear.weight.data += 1  # what is trained on top of the features
    assert folder() == first
    folders = [first]
    model.model.temporal_tower.stem.fast.conv.weight.data += 1
    folders.append(folder())
    next(buffer for name, buffer in model.model.vision_tower.named_buffers() if "running_mean" in name).add_(1)
    folders.append(folder())
    for name, value in {"chunk_std": [1.0, 1.0, 1.0], "do_normalize": False}.items():
        setattr(processor.video_processor, name, value)
        folders.append(folder())
    for name, value in {
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "spatial_projector_type": "perceiver",
        "spatial_grid_size": 4,
    }.items():
        setattr(model.config, name, value)
        folders.append(folder())
    model.model.temporal_tower.requires_grad_(True)
    folders.append(folder())
    assert len(set(folders)) == 10
    names = ["seconds", "facts", "vision", "clips", "num_clips", "num_frames"]
    assert [folder.name.split("-")[0] for folder in folders[-1]] == names


@pytest.mark.parametrize("is_tower_trained", [False, True])
def test_the_cached_loss_is_that_of_pixels(frozen, clips, tmp_path, is_tower_trained):
    model, processor = frozen
    model.model.temporal_tower.requires_grad_(is_tower_trained)
    rows = [{"video": clip, "mos": 30.0 * index, "dataset": "tiny"} for index, clip in enumerate(clips)]
    losses = []
    for cache in (None, FeatureCache(tmp_path, model, processor)):
        pairs = QaPairs(rows, ("score", "level"), {"tiny": (20.0, 50.0)}, cache=cache)
        batch = LmmVqaDataCollator(processor, 4096)(list(pairs))
        assert ("vision_features" in batch) == (cache is not None)
        assert ("pixel_values_videos" in batch) == (cache is None or is_tower_trained)
        losses.append(model(**batch).loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-3) and losses[0] > 1


def test_predictions_from_features(frozen, clips, tmp_path):
    model, processor = frozen
    model.train()
    pixels = predict_scores(model, processor, clips, batch_size=2)
    features = predict_scores(model, processor, clips, batch_size=2, cache=FeatureCache(tmp_path, model, processor))
    assert [result.score for result in features] == pytest.approx([result.score for result in pixels], abs=0.05)
    assert model.training


def test_a_trained_vision_tower_is_refused(frozen, tmp_path):
    frozen[0].model.vision_tower.requires_grad_(True)
    with pytest.raises(ValueError, match="got a vision tower that is being trained"):
        FeatureCache(tmp_path, *frozen)


# stages


@pytest.mark.parametrize(
    ("stage", "parts"),
    [
        ("align", {"spatial_projector", "temporal_projector"}),
        ("instruct", {"spatial_projector", "temporal_projector", "language_model"}),
    ],
)
def test_a_stage_trains_its_parts_on_conversations(
    train, monkeypatch, arguments, checkpoint, talk, tmp_path, stage, parts
):
    before = load_file(checkpoint / "model.safetensors")
    after = run(train, monkeypatch, arguments, "--stage", stage, "--data", talk)
    assert {name.split(".")[1] for name in moved(before, after)} == parts
    results = json.loads((tmp_path / "run" / "train_results.json").read_text())
    assert math.isfinite(results["validation_loss"]) and "validation" not in results
    listed = load_training_videos(tmp_path / "mine").videos
    assert {(video.dataset, video.id) for video in listed} == {("talk", f"{index}s") for index in (1, 2, 3)}
    assert "| talk | 4 | - | - |" in (tmp_path / "mine" / "README.md").read_text()


def test_mixed_rows_in_one_run(train, monkeypatch, arguments, rows, talk, tmp_path, capsys):
    more = ["--mix", talk, "--feature_cache", tmp_path / "cache", "--lora_rank", 2]
    run(train, monkeypatch, arguments, *more)
    results = json.loads((tmp_path / "run" / "train_results.json").read_text())
    assert results["validation"]["tiny"]["n"] == 3 and math.isfinite(results["validation_loss"])
    run(train, monkeypatch, arguments, *more, "--dry_run", "--output_dir", tmp_path / "dry")
    assert f"{6 * 2 + 4} questions" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run(train, monkeypatch, arguments, "--stage", "instruct", "--output_dir", tmp_path / "other")
    assert "rows without conversations in --data" in capsys.readouterr().err
