"""How runs of train.py go on, stop, are divided and are kept small: resuming, adapters, NaN guard, several processes."""

import contextlib
import importlib
import json
import math
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import TRAIN_PY, moved, run, tiny_pair
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor, CLIPVisionConfig, CLIPVisionModel

from lmmvqa.checkpoints.export import save_checkpoint
from lmmvqa.commands.command_line import main
from lmmvqa.datasets_scripts.rows import load_rows, save_rows
from lmmvqa.evaluation.predictions import predict_scores


HALVES = ["--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 2]
EACH_STEP = ["--logging_steps", 1, "--save_strategy", "steps", "--save_steps", 1]


def log(folder) -> list[dict]:
    """What was logged at each step until a checkpoint was written, but for times."""
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [{name: row[name] for name in ("step", "loss", "grad_norm", "learning_rate")} for row in history]


# resuming


@pytest.mark.parametrize(
    ("vision", "options"),
    [
        ("lite", ["--train_parts", "spatial_projector", "temporal_projector", "temporal_tower", "language_model"]),
        ("clip", ["--train_parts", "spatial_projector", "vision_tower", *HALVES]),
        ("lite", ["--lora_rank", 2, "--train_parts", "temporal_projector", "temporal_tower"]),
    ],
)
def test_a_run_resumed_from_any_checkpoint_goes_on_with_the_identical_loss(
    train, monkeypatch, arguments, tmp_path, vision, options
):
    save_checkpoint(*tiny_pair(vision=vision, projector_dropout=0.2), tmp_path / "start", torch.float32)
    arguments = [*arguments, "--model", tmp_path / "start", *EACH_STEP, "--readout_weight", 1, *options]
    arguments += ["--score_noise", 5, "--max_steps", 5]
    whole = run(train, monkeypatch, arguments)
    expected = log(tmp_path / "run" / "checkpoint-5")
    assert [row["step"] for row in expected] == [1, 2, 3, 4, 5] and len({row["loss"] for row in expected}) == 5
    for step in (2, 3):  # of 3 in an epoch
        other = tmp_path / f"from-{step}"
        shutil.copytree(tmp_path / "run" / f"checkpoint-{step}", other / f"checkpoint-{step}")
        shutil.copy(tmp_path / "run" / "settings.json", other)
        resumed = run(train, monkeypatch, arguments, "--output_dir", other)
        assert log(other / "checkpoint-5") == expected
        assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_checkpoint_holds_what_is_trained(train, monkeypatch, arguments, tmp_path):
    parts = ["--train_parts", "temporal_projector", "temporal_tower", "language_model"]
    whole = run(train, monkeypatch, arguments, *EACH_STEP, *parts)
    stored = load_file(tmp_path / "run" / "checkpoint-2" / "model.safetensors")
    trained = ("model.temporal_projector", "model.temporal_tower", "model.language_model")
    assert set(stored) == {name for name in whole if name.startswith(trained)}
    assert any("running_var" in name for name in stored) and "lm_head.weight" not in stored
    assert all(torch.equal(stored[name], whole[name]) for name in stored)
    with pytest.raises(ValueError, match="model_type"):  # it is no model
        AutoModelForImageTextToText.from_pretrained(tmp_path / "run" / "checkpoint-2")
    assert set(load_file(tmp_path / "run" / "model.safetensors")) == set(whole)
    (tmp_path / "run" / "train_results.json").unlink()  # as if it had been stopped
    settings = tmp_path / "run" / "settings.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"train_parts": ["spatial_projector"]}))
    with pytest.raises(ValueError, match="expected the same train_parts and lora_rank"):
        run(train, monkeypatch, arguments, "--train_parts", "spatial_projector")


@pytest.mark.parametrize("half", ["partial/checkpoint-3", "checkpoint-3"])  # the latter of an earlier version
def test_a_run_killed_while_it_wrote_a_checkpoint_goes_on_from_the_one_before(
    train, monkeypatch, arguments, tmp_path, capsys, half
):
    arguments = [*arguments, *EACH_STEP, "--score_noise", 5, "--max_steps", 4]
    whole = run(train, monkeypatch, arguments)
    output, expected = tmp_path / "run", log(tmp_path / "run" / "checkpoint-4")
    (output / "train_results.json").unlink()
    shutil.rmtree(output / "checkpoint-4")
    (output / half).parent.mkdir(exist_ok=True)
    (output / "checkpoint-3").rename(output / half)
    (output / half / "trainer_state.json").unlink()
    os.truncate(output / half / "optimizer.pt", 1000)
    capsys.readouterr()
    resumed = run(train, monkeypatch, arguments)
    assert (
        f"removed {output / half.partition('/')[0]}, which is not whole: a run was stopped there"
        in capsys.readouterr().err
    )
    assert log(output / "checkpoint-4") == expected
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert {path.name for path in output.glob("*")} >= {f"checkpoint-{step}" for step in (1, 2, 3, 4)}
    assert not (output / "partial").exists()


def test_a_damaged_checkpoint_is_named(train, monkeypatch, arguments, tmp_path, capsys):
    arguments = [*arguments, *EACH_STEP]
    run(train, monkeypatch, arguments)
    (tmp_path / "run" / "train_results.json").unlink()
    newest = tmp_path / "run" / "checkpoint-2"
    for name in ("trainer_state.json", "model.safetensors", "optimizer.pt"):
        whole = (newest / name).read_bytes()
        os.truncate(newest / name, len(whole) // 2)
        error = refused(train, monkeypatch, capsys, arguments)
        assert (
            f"got {newest / name}, which is damaged or cut, expected a whole checkpoint; remove {newest} to" in error
        )
        (newest / name).write_bytes(whole)
    run(train, monkeypatch, arguments)


def test_a_checkpoint_appears_whole_and_only_then_are_older_ones_removed(train, monkeypatch, arguments, tmp_path):
    output, seen = tmp_path / "run", []
    rotate = train.LmmVqaTrainer.__init__.__globals__["rotate_checkpoints"]

    def checkpoints() -> dict[str, set[str]]:
        return {folder.name: {path.name for path in folder.iterdir()} for folder in output.glob("checkpoint-*")}

    def look(name):
        function = getattr(train.LmmVqaTrainer, name)
        monkeypatch.setattr(
            train.LmmVqaTrainer, name, lambda *arguments: (function(*arguments), seen.append(checkpoints()))[0]
        )

    for name in ("_save", "_save_optimizer_and_scheduler", "_save_rng_state"):
        look(name)
    monkeypatch.setitem(
        train.LmmVqaTrainer.__init__.__globals__,
        "rotate_checkpoints",
        lambda *arguments: (seen.append(checkpoints()), rotate(*arguments)),
    )
    run(train, monkeypatch, arguments, *EACH_STEP, "--max_steps", 3, "--save_total_limit", 1)
    names = [sorted(of_moment) for of_moment in seen[:-1]]  # the last one saves the whole model
    one, two, three = ["checkpoint-1"], ["checkpoint-2"], ["checkpoint-3"]
    assert names == [[]] * 3 + [one] * 4 + [one + two] + [two] * 3 + [two + three]
    files = {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"}
    assert all(files <= of_checkpoint for of_moment in seen for of_checkpoint in of_moment.values())
    assert sorted(checkpoints()) == three


# the folder of a run


def refused(train, monkeypatch, capsys, arguments, *more) -> str:
    """The one line in which train.py refuses these arguments."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(train, monkeypatch, arguments, *more)
    assert stop.value.code == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    return error


def test_a_used_folder_is_refused_for_other_data_options_or_weights(
    train, monkeypatch, arguments, rows, tmp_path, capsys
):
    run(train, monkeypatch, arguments)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    save_checkpoint(*tiny_pair(seed=1), tmp_path / "other", torch.float32)
    others = [dict(row) for split in load_rows(rows).values() for row in split]
    others[0]["mos"] += 1
    save_rows(others, [], "tiny", tmp_path / "rows")
    for more, names in [
        (["--model", tmp_path / "other"], ["model"]),
        (["--data", tmp_path / "rows"], ["train_rows"]),
        (["--max_steps", 3, "--learning_rate", 0.01], ["max_steps", "learning_rate"]),
        (["--train_parts", "spatial_projector"], ["train_parts"]),
        (["--feature_cache", tmp_path / "cache"], ["feature_cache"]),
        (["--tasks", "score"], ["tasks"]),
    ]:
        error = refused(train, monkeypatch, capsys, arguments, *more)
        assert f"got {tmp_path / 'run'}, which was begun with" in error and "name another folder" in error
        assert all(f"{name} " in error and "(now " in error for name in names)
    assert all(path.read_bytes() == content for path, content in before.items())

    (tmp_path / "run" / "settings.json").unlink()  # as of a run from before there was a seal
    assert "results without a readable settings.json" in refused(train, monkeypatch, capsys, arguments)


def test_a_finished_run_trains_nothing_and_exports_the_same(train, monkeypatch, arguments, tmp_path, capsys):
    exported = run(train, monkeypatch, arguments, "--score_noise", 5)
    monkeypatch.setattr(train.LmmVqaTrainer, "train", None)
    # What changes no weight may change; and the rows and the model may have moved
    more = ["--score_noise", 5, "--logging_steps", 1, "--save_strategy", "steps", "--export_dir", tmp_path / "again"]
    shutil.copytree(arguments[1], tmp_path / "moved")
    again = run(train, monkeypatch, arguments, *more)
    assert f"{tmp_path / 'run'} holds this run, finished" in capsys.readouterr().out
    run(train, monkeypatch, arguments, *more, "--model", tmp_path / "moved")
    assert again.keys() == exported.keys()
    names = {str(path.relative_to(tmp_path / "mine")) for path in (tmp_path / "mine").rglob("*") if path.is_file()}
    assert "training_videos.parquet" in names
    for name in names - {"README.md"}:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "mine" / name).read_bytes(), name


def test_a_run_that_failed_at_once_may_begin_with_other_options(train, monkeypatch, arguments, tmp_path):
    model, processor = tiny_pair()
    model.model.language_model.layers[1].mlp.up_proj.weight.data[0, 0] = math.inf
    save_checkpoint(model, processor, tmp_path / "start", torch.float32)
    with pytest.raises(FloatingPointError):
        run(train, monkeypatch, arguments, "--model", tmp_path / "start")
    run(train, monkeypatch, arguments, "--learning_rate", 0.01)


@pytest.mark.parametrize(
    "more, message",
    [
        (["--model", "{folder}/gone"], "got model '{folder}/gone', expected a folder that exists, or a repository"),
        (
            ["--model", "{folder}/test_rows"],
            "got {folder}/test_rows without config.json, expected the folder of a whole model",
        ),
        (["--model", "{folder}/clip"], "got model '{folder}/clip' of type clip_vision_model, expected"),
        (["--model", "{folder}/cut"], "got weights in {folder}/cut that are damaged or cut"),
        (["--data", "{folder}/gone"], "got {folder}/gone without dataset_dict.json"),
        (["--data", "{folder}/test_rows"], "got {folder}/test_rows with the splits test, expected a split train"),
        (["--report_to", "wandb"], "requires wandb to be installed"),
        (["--report_to", "nothing"], "nothing is not supported"),
        (["--modle", "a"], "unrecognized arguments: --modle a"),
        (["--learning_rate", "fast"], "invalid float value: 'fast'"),
        (["--train_parts", "head"], "got the part 'head' in train_parts"),
        (["--lora_rank", "2", "--train_parts", "language_model"], "got lora_rank=2 with language_model"),
        (["--tasks", "score", "damage"], "got the task 'damage' and no row with the column damage, expected"),
        (["--tasks", "levels"], "got the task 'levels', expected some of score, level, damage"),
    ],
)
def test_what_cannot_be_trained_is_one_line_before_any_work(
    train, monkeypatch, arguments, checkpoint, rows, tmp_path, capsys, more, message
):
    monkeypatch.setattr("transformers.integrations.integration_utils.is_wandb_available", lambda: False)
    CLIPVisionModel(CLIPVisionConfig(hidden_size=8, num_attention_heads=1, num_hidden_layers=1)).save_pretrained(
        tmp_path / "clip"
    )
    shutil.copytree(checkpoint, tmp_path / "cut")
    os.truncate(tmp_path / "cut" / "model.safetensors", 1000)
    test_rows = [row | {"split": "test"} for row in load_rows(rows)["train"]]
    save_rows(test_rows, [], "tiny", tmp_path / "test_rows")
    monkeypatch.setattr(train.FeatureCache, "build", None)
    more = [word.format(folder=tmp_path) for word in more]
    error = refused(train, monkeypatch, capsys, arguments, "--feature_cache", tmp_path / "cache", *more)
    assert message.format(folder=tmp_path) in error
    assert not any((tmp_path / "run").glob("*")) and not (tmp_path / "mine").exists()


def test_missing_arguments_are_two_lines(train, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", "--model", "a"])
    with pytest.raises(SystemExit) as exit_:
        train.main()
    assert exit_.value.code == 2
    usage, error = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: train.py --model DIR --data") and "are required: --data" in error


# the loss in parts


@pytest.mark.parametrize(
    "options", [[], ["--lora_rank", 2], ["--train_parts", "vision_tower", "temporal_tower", "spatial_projector"]]
)
def test_activation_checkpointing_changes_no_gradient(train, monkeypatch, arguments, tmp_path, options):
    train_only, calls = train.train_only, []

    def count_calls(model, parts):
        train_only(model, parts)
        model.model.language_model.layers[0].self_attn.register_forward_hook(lambda *call: calls.append(call))

    monkeypatch.setattr(train, "train_only", count_calls)
    options = [*options, *EACH_STEP, "--optim", "sgd", "--model", tmp_path / "start"]
    save_checkpoint(*tiny_pair(vision="clip"), tmp_path / "start", torch.float32)
    stored = run(train, monkeypatch, arguments, *options)
    num_calls = len(calls)
    other = ["--output_dir", tmp_path / "other", "--activation_checkpointing"]
    computed_again = run(train, monkeypatch, arguments, *options, *other)
    assert len(calls) == 2 * num_calls + 2  # once more in each of two steps
    torch.testing.assert_close(computed_again, stored)
    logs = [log(tmp_path / name / "checkpoint-2") for name in ("run", "other")]
    for kept, again in zip(*logs, strict=True):
        assert again == pytest.approx(kept, rel=1e-5) and kept["grad_norm"] > 0


def test_bfloat16_trains_float32_weights_beside_frozen_bfloat16(train, monkeypatch, arguments, tmp_path):
    model, processor = tiny_pair()
    save_checkpoint(model.bfloat16(), processor, tmp_path / "start", torch.bfloat16)
    arguments = [*arguments, "--model", tmp_path / "start", *EACH_STEP]
    run(train, monkeypatch, arguments)
    exported = run(train, monkeypatch, arguments, "--bf16", "--output_dir", tmp_path / "mixed")
    precise, mixed = (log(tmp_path / name / "checkpoint-2") for name in ("run", "mixed"))
    assert [row["loss"] for row in mixed] == pytest.approx([row["loss"] for row in precise], rel=0.02)
    assert mixed != precise
    stored = load_file(tmp_path / "mixed" / "checkpoint-2" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}
    types = {name.split(".")[1]: tensor.dtype for name, tensor in exported.items() if tensor.is_floating_point()}
    assert types.pop("vision_tower") == types.pop("temporal_tower") == torch.float32
    assert set(types.values()) == {torch.bfloat16}


@pytest.mark.parametrize(("stage", "options"), [("align", []), ("instruct", []), ("instruct", ["--lora_rank", 2])])
def test_a_stage_on_conversations_resumes_and_learns_from_cached_features(
    train, monkeypatch, arguments, tmp_path, talk, stage, options
):
    arguments = [*arguments, "--stage", stage, "--data", talk, *options, *EACH_STEP, "--learning_rate", 0.01]
    arguments += ["--max_steps", 4, "--per_device_train_batch_size", 2, "--chat_template", "human_assistant"]
    run(train, monkeypatch, arguments, "--output_dir", tmp_path / "pixels")
    arguments += ["--feature_cache", tmp_path / "cache"]
    whole = run(train, monkeypatch, arguments)
    expected, of_pixels = (log(tmp_path / name / "checkpoint-4") for name in ("run", "pixels"))
    assert [row["loss"] for row in expected] == pytest.approx([row["loss"] for row in of_pixels], rel=5e-3)
    shutil.copytree(tmp_path / "run" / "checkpoint-1", tmp_path / "other" / "checkpoint-1")
    shutil.copy(tmp_path / "run" / "settings.json", tmp_path / "other")
    resumed = run(train, monkeypatch, arguments, "--output_dir", tmp_path / "other")
    assert log(tmp_path / "other" / "checkpoint-4") == expected
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert "Human: " in AutoProcessor.from_pretrained(tmp_path / "mine").prompt("How good?")


# LoRA


@pytest.fixture(scope="module")
def adapter(train, rows, tmp_path_factory):
    """A start whose CLIP has layers of the decoder's names, `run` with its adapter, and `mine` with the merged model."""
    folder = tmp_path_factory.mktemp("adapter")
    save_checkpoint(*tiny_pair(vision="clip"), folder / "start", torch.float32)
    arguments = ["--model", folder / "start", "--data", rows, "--output_dir", folder / "run", "--use_cpu"]
    arguments += ["--export_dir", folder / "mine", "--max_steps", 3, "--learning_rate", 0.01, "--lora_rank", 2]
    with pytest.MonkeyPatch.context() as monkeypatch:
        run(train, monkeypatch, arguments)
    return folder


def test_an_adapter_is_of_the_decoder_and_the_projectors(adapter):
    stored = load_file(adapter / "run" / "adapter_model.safetensors")
    assert not (adapter / "run" / "model.safetensors").exists()
    lora = {name for name in stored if "lora" in name}
    assert len(lora) == 2 * 7 * 2 and all("model.language_model.layers" in name for name in lora)
    assert all("_projector." in name for name in stored.keys() - lora) and len(stored) > len(lora)
    changed = moved(
        load_file(adapter / "start" / "model.safetensors"), load_file(adapter / "mine" / "model.safetensors")
    )
    adapted = {name.removeprefix("base_model.model.").partition(".lora")[0] for name in lora}
    assert {f"{name}.weight" for name in adapted} == {name for name in changed if "language_model" in name}
    assert not any("tower" in name or "embed" in name for name in changed)


def test_an_adapter_scores_as_the_merged_model(adapter, rows):
    videos = [str(rows / "0.mp4"), str(rows / "1.mp4")]
    processor = AutoProcessor.from_pretrained(adapter / "run")

    def scores(model):
        return [result.score for result in predict_scores(model, processor, videos)]

    def load(name):
        return AutoModelForImageTextToText.from_pretrained(adapter / name)

    model = PeftModel.from_pretrained(load("start"), adapter / "run")
    adapted = scores(model)
    assert adapted != pytest.approx(scores(load("start")), abs=0.1)
    for same in (load("run"), model.merge_and_unload(), load("mine")):
        assert scores(same) == pytest.approx(adapted, abs=1e-3)


@pytest.mark.parametrize("lora", [False, True])
def test_every_folder_of_a_run_is_exported_or_says_why_not(train, monkeypatch, arguments, tmp_path, capsys, lora):
    more = ["--save_strategy", "steps", "--save_steps", 1] + (["--lora_rank", 2] if lora else [])
    expected = run(train, monkeypatch, [*arguments, *more])

    def export(folder):
        return main(["export", "--model", str(tmp_path / folder), "--out", str(tmp_path / "out" / folder)])

    assert export("run") == export("mine") == 0
    for folder in ("run", "mine"):
        exported = load_file(tmp_path / "out" / folder / "model.safetensors")
        assert exported.keys() == expected.keys()
        assert all(torch.equal(exported[name], expected[name]) for name in expected)
        assert "| tiny | 6 |" in (tmp_path / "out" / folder / "README.md").read_text()
        assert (tmp_path / "out" / folder / "training_videos.parquet").is_file()
        for model in (tmp_path / folder, tmp_path / "out" / folder):
            assert main(["selfcheck", "--model", str(model), "--update", "--device", "cpu"]) == 0
            assert main(["selfcheck", "--model", str(model), "--device", "cpu"]) == 0
    if lora:  # adapters of any step can be merged
        assert export("run/checkpoint-1") == 0
    else:
        capsys.readouterr()
        with pytest.raises(SystemExit):
            export("run/checkpoint-1")
        error = capsys.readouterr().err
        assert "holds what training changes alone" in error and error.count("\n") == 1


class FakeHub:
    """Takes what is pushed into a folder in the layout of the Hub's download cache."""

    def __init__(self, folder):
        self.folder = folder

    def create_repo(self, repo_id, **options):
        return SimpleNamespace(repo_id=repo_id)

    def create_commit(self, repo_id, operations, **options):
        repository = self.folder / f"models--{repo_id.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0" * 40)
        for operation in operations:
            file = repository / "snapshots" / ("0" * 40) / operation.path_in_repo
            file.parent.mkdir(parents=True, exist_ok=True)
            with operation.as_file() as content:
                file.write_bytes(content.read())


def test_an_adapter_is_pushed_and_pulled(adapter, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("transformers.utils.hub._hf_api", FakeHub(tmp_path))
    base = AutoModelForImageTextToText.from_pretrained(adapter / "start")
    pushed = PeftModel.from_pretrained(base, adapter / "run")
    pushed.push_to_hub("me/adapter")
    base = AutoModelForImageTextToText.from_pretrained(adapter / "start")
    pulled = PeftModel.from_pretrained(base, "me/adapter", cache_dir=tmp_path).state_dict()
    assert all(torch.equal(pulled[name], tensor) for name, tensor in pushed.state_dict().items())
    assert any(tensor.any() for name, tensor in pulled.items() if "lora_B" in name)


def test_lora_and_full_training_of_the_decoder_exclude_each_other(train):
    model, _ = tiny_pair()
    with pytest.raises(
        ValueError, match="got lora_rank=4 with language_model in train_parts, expected one of the two"
    ):
        train.add_lora(model, 4, ["language_model"])


# the NaN guard


@pytest.mark.parametrize("options", [[], ["--gradient_accumulation_steps", 2, "--lora_rank", 2]])
def test_a_non_finite_loss_stops_training_and_names_the_module(train, monkeypatch, arguments, tmp_path, options):
    model, processor = tiny_pair()
    model.model.language_model.layers[1].mlp.up_proj.weight.data[0, 0] = math.inf
    save_checkpoint(model, processor, tmp_path / "start", torch.float32)
    with pytest.raises(FloatingPointError, match=r"at step 1, first in the output of \S*layers\.1\.mlp\.up_proj"):
        run(train, monkeypatch, arguments, "--model", tmp_path / "start", *options)
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_non_finite_gradient_stops_training_before_the_update(train, monkeypatch, arguments, tmp_path):
    add_only = train.train_only

    def spoil(model, parts):
        add_only(model, parts)
        count = iter(range(100))
        # Finite itself, at step 3 without a finite derivative
        model.model.language_model.layers[0].register_forward_hook(
            lambda module, inputs, output: output if next(count) < 2 else output + (output * 0).sqrt()
        )

    monkeypatch.setattr(train, "train_only", spoil)
    with pytest.raises(
        FloatingPointError, match=r"at step 3, first in the gradient at the output of model.language_model"
    ):
        run(train, monkeypatch, arguments, *EACH_STEP, "--max_steps", 4)
    assert not (tmp_path / "run" / "checkpoint-3").exists()
    stored = load_file(tmp_path / "run" / "checkpoint-2" / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in stored.values())


# several processes

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]


def launch(launcher: list, arguments: list, **environment: str) -> str:
    environment = os.environ | {"HF_HUB_OFFLINE": "1"} | environment
    command = [sys.executable, *launcher, TRAIN_PY, *arguments]
    finished = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-5000:]
    return finished.stdout


def rank(number: int, port: int, output: Path, arguments: list) -> None:
    """One of two processes, as launchers start them."""
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with open(output, "w") as file, contextlib.redirect_stdout(file):
        importlib.import_module("lmmvqa.train").main(arguments)


def fork(output: Path, arguments: list) -> str:
    """As `launch`, of a process that has imported everything: launchers import it all again in each of their three."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lmmvqa.train"])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    outputs = [output.with_name(f"{output.name}-{number}.txt") for number in (0, 1)]
    ranks = [context.Process(target=rank, args=(number, port, outputs[number], arguments)) for number in (0, 1)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0, 0]
    return outputs[0].read_text()


def stop_after(output: Path, step: int) -> None:
    """As if a run had been stopped while it wrote the checkpoint after this one."""
    for folder in output.glob("checkpoint-*"):
        if int(folder.name.partition("-")[2]) > step:
            shutil.rmtree(folder)
    (output / "train_results.json").unlink()
    (output / "partial" / f"checkpoint-{step + 1}").mkdir(parents=True)


def validations(output: str) -> list[dict]:
    return [json.loads(line)["tiny"] for line in output.splitlines() if line.startswith('{"epoch"')]


@pytest.mark.parametrize("stage", ["quality", "mixed", "instruct", pytest.param("align", marks=pytest.mark.slow)])
def test_two_processes_equal_one_that_accumulates_twice_as_much(
    train, monkeypatch, arguments, tmp_path, capsys, talk, stage
):
    of_talk = ["--stage", stage, "--data", talk, "--feature_cache", tmp_path / "cache"]
    of_stages = {"quality": [], "mixed": ["--mix", talk], "align": of_talk, "instruct": [*of_talk, "--lora_rank", 2]}
    arguments += of_stages[stage]
    options = ["--readout_weight", 1, "--score_noise", 5, "--optim", "sgd", "--lr_scheduler_type", "constant"]
    arguments = [*arguments, *options, *EACH_STEP, "--per_device_train_batch_size", 2]
    one = run(train, monkeypatch, arguments, "--gradient_accumulation_steps", 2, "--max_steps", 4)
    expected = validations(capsys.readouterr().out)
    # Two epochs of 12 questions, or one of 16
    assert [of["n"] for of in expected] == {"quality": [3, 3], "mixed": [3]}.get(stage, [])

    arguments += ["--output_dir", tmp_path / "two", "--max_steps", 4]
    if stage == "quality":
        launch(TORCHRUN, arguments)
        stop_after(tmp_path / "two", 2)
        output = launch(ACCELERATE, arguments, ACCELERATE_USE_CPU="true")  # which resumes
    else:
        fork(tmp_path / "first", arguments)
        stop_after(tmp_path / "two", 2)
        output = fork(tmp_path / "second", arguments)
    # Correlations of three scores that are nearly equal magnify the rounding of sums in another order
    for same, row in zip(validations(output)[-1:], expected[-1:], strict=True):
        assert same == pytest.approx(row, rel=1e-4, abs=1e-3)
    if stage != "quality":
        losses = [json.loads((tmp_path / name / "train_results.json").read_text()) for name in ("run", "two")]
        assert losses[1]["validation_loss"] == pytest.approx(losses[0]["validation_loss"], rel=1e-5)
    for step in (2, 4):
        ranks = (tmp_path / "two" / f"checkpoint-{step}").glob("rng_state_*.pth")
        assert {file.name for file in ranks} == {"rng_state_0.pth", "rng_state_1.pth"}
    for row, same in zip(log(tmp_path / "run" / "checkpoint-4"), log(tmp_path / "two" / "checkpoint-4"), strict=True):
        assert same == pytest.approx(row, rel=1e-5)
    torch.testing.assert_close(load_file(tmp_path / "mine" / "model.safetensors"), one)


ROOT = TRAIN_PY.parent
FSDP = [
    "-m",
    "accelerate.commands.launch",
    "--config_file",
    ROOT / "recipes" / "fsdp2.yaml",
    "--mixed_precision",
    "no",
]


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["fsdp2", "zero3"])
@pytest.mark.parametrize("options", [[], ["--lora_rank", 2], ["--train_parts", "spatial_projector", "language_model"]])
def test_sharded_weights_train_as_whole_ones(
    train, monkeypatch, arguments, checkpoint, tmp_path, capsys, sharding, options
):
    launcher, more = FSDP, []
    if sharding == "zero3":
        pytest.importorskip("deepspeed")
        launcher, more = TORCHRUN, ["--deepspeed", ROOT / "recipes" / "zero3.json"]
    arguments.remove("--use_cpu")
    options = [*options, "--readout_weight", 1, "--lr_scheduler_type", "constant"]
    arguments = [*arguments, *EACH_STEP, *options, "--per_device_train_batch_size", 2]
    one = run(train, monkeypatch, arguments, "--use_cpu", "--gradient_accumulation_steps", 2, "--max_steps", 3)
    expected = validations(capsys.readouterr().out)

    arguments += ["--output_dir", tmp_path / "two", *more]
    arguments += ["--max_steps", 3]
    launch([*launcher, ROOT / "tests" / "ranks_on_cpu.py"], arguments)
    stop_after(tmp_path / "two", 2)
    output = launch([*launcher, ROOT / "tests" / "ranks_on_cpu.py"], arguments)  # which resumes
    assert (tmp_path / "two" / "checkpoint-3" / "rng_state_1.pth").exists()
    losses, same = ([row["loss"] for row in log(tmp_path / name / "checkpoint-3")] for name in ("run", "two"))
    assert same == pytest.approx(losses, rel=1e-3)
    assert validations(output)[-1] == pytest.approx(expected[-1], rel=1e-2)
    assert not list((tmp_path / "two").glob("*fsdp*.py"))  # its code is no part of the model's
    if sharding == "fsdp2":  # DeepSpeed draws other adapters, and names weights otherwise
        start, two = (load_file(folder / "model.safetensors") for folder in (checkpoint, tmp_path / "mine"))
        update = torch.cat([(one[name] - start[name]).flatten() for name in start])
        difference = torch.cat([(one[name] - two[name]).flatten() for name in start])
        assert difference.norm() < 0.05 * update.norm()
