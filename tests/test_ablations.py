"""The paper's ablations on a tiny model: every run of the tables, resuming, what is equal for all and what is not."""

import importlib
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import TRAIN_PY, tiny_pair
from safetensors.torch import load_file
from transformers import AutoProcessor

from lmmvqa.checkpoints.export import save_checkpoint
from lmmvqa.datasets_scripts.rows import load_rows, save_rows


@pytest.fixture
def ablations(train, monkeypatch):
    """benchmarks/ablations.py, with train.py in this process; `ablations.trained` has its options, run after run."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    module = importlib.import_module("ablations")
    module.trained = []

    def run_here(command, check):
        assert check and command[:2] == [sys.executable, TRAIN_PY]
        module.trained.append(command[2:])
        monkeypatch.setattr(sys, "argv", ["train.py", *command[2:]])
        train.main()

    monkeypatch.setattr(subprocess, "run", run_here)
    for name in ("agreement", "difference"):  # a thousand resamples of six videos take a second
        monkeypatch.setattr(module, name, partial(getattr(module, name), samples=20))
    return module


@pytest.fixture(scope="module")
def rated(tmp_path_factory, rows):
    """Eight contents to train on and six videos of three contents to compare on."""
    folder = tmp_path_factory.mktemp("rated")
    videos = [row["video"] for split in load_rows(rows).values() for row in split]
    places = [("train", str(index)) for index in range(8)] + [("test", f"t{index // 2}") for index in range(6)]
    save_rows(
        [
            {"video": videos[index % 9], "mos": 5.0 + 7 * index, "dataset": "tiny", "split": split, "group": group}
            for index, (split, group) in enumerate(places)
        ],
        [],
        "tiny",
        folder,
    )
    return folder


@pytest.fixture
def arguments(checkpoint, rated, tmp_path):
    return [
        *("--model", checkpoint, "--data", rated, "--work", tmp_path / "work", "--out", tmp_path / "ablations.json"),
        *("--feature_cache", rated / "cache", "--timed_videos", 2, "--device", "cpu"),
    ]


TRAIN_OPTIONS = ["--", "--max_steps", 1, "--per_device_train_batch_size", 4, "--use_cpu", "--save_strategy", "no"]
# The tiny checkpoint's own options
BASE = ["spatial_projector_type=vit", "spatial_grid_size=2", "spatial_reduction=none", "key_frame_fragments=1"]
# Runs that differ from others by a number alone
LEFT_OUT = ["spatial_grid_size=16", "data_share=0.25", "data_share=0.75", "key_frame_fragments=4"]
# ... or are parts of the one that has all of the code in circulation
LEFT_OUT += ["spatial_reduction=mean_features", "spatial_projector_norm=True", "decoder_attention=mmca"]
LEFT_OUT += ["temporal_reduction=none"]


def run(ablations, arguments, *more, options=TRAIN_OPTIONS) -> dict:
    ablations.main([*map(str, [*arguments, *more, *options])])
    return json.loads(Path(arguments[arguments.index("--out") + 1]).read_text())


def test_every_run_of_the_tables_is_trained_alike_and_compared_on_the_same_videos(
    ablations, arguments, tmp_path, capsys
):
    save_checkpoint(*tiny_pair(seed=1), tmp_path / "decoder_b", torch.float32)
    arguments = [*arguments, "--decoder_b", tmp_path / "decoder_b"]
    arguments += ["--leave_out", *LEFT_OUT]
    result = run(ablations, arguments)
    runs = {row["run"]: row for row in result["runs"]}
    base = result["base_options"]
    expected = {
        ablations.run_name({name: value for name, value in row.items() if base.get(name) != value and row != {}})
        for table in ablations.TABLES.values()
        for row in table.values()
    }
    assert runs.keys() == expected - {*LEFT_OUT} and len(runs) == 20 and not runs.keys() & {*BASE}
    for name in ablations.LEARNED:  # in a run of its own
        assert sum(f"--{name}" in options for options in ablations.trained) == 1
    # A tower that is trained has features that are no other run's
    assert sum("--feature_cache" not in options for options in ablations.trained) == 1
    for options in ablations.trained:
        assert options[options.index("--max_steps") + 1] == "1" and options[options.index("--seed") + 1] == "0"
    trained = {name: row["seeds"]["0"]["training_videos"] for name, row in runs.items()}
    assert trained["data_share=0.5"] == 4 and trained["base"] == 8
    tokens = {name: row["seeds"]["0"]["key_frame_tokens"] for name, row in runs.items()}
    assert [tokens[f"spatial_grid_size={side}"] for side in (4, 8)] == [16, 64] and tokens["base"] == 4
    assert tokens["key_frame_fragments=[1,4]"] == 8
    assert runs["use_temporal_tokens=False"]["seeds"]["0"]["temporal_tokens"] == 0
    for row in runs.values():
        (figures,) = row["figures"].values()
        assert figures["seeds"]["0"]["n"] == 6 and ("less_base" in figures) == (row["run"] != "base")
        assert row["seeds"]["0"]["training"]["cpu_seconds"] >= 0 < row["seeds"]["0"]["scoring"]["seconds"]
    # Nothing is left of a finished run but its result
    folders = [path for path in (tmp_path / "work" / "runs").rglob("*") if path.is_file()]
    assert {path.name for path in folders} == {"result.json"}

    number = len(ablations.trained)
    assert run(ablations, arguments)["runs"] == result["runs"] and len(ablations.trained) == number
    table = (tmp_path / "ablations.md").read_text()
    assert capsys.readouterr().out.endswith(table)
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith(("|  ", "| ---"))]
    assert len(rows) == sum(map(len, ablations.TABLES.values()))
    assert sum("not run" in line for line in rows) == len(LEFT_OUT)


def test_a_stopped_ablation_goes_on_and_the_tables_say_what_was_not_run(ablations, arguments, tmp_path, monkeypatch):
    few = ["--only", "base", "tasks=score"]
    measured = ablations.predict_scores

    def stop(*arguments, **options):
        if len(ablations.trained) == 2:
            raise KeyboardInterrupt
        return measured(*arguments, **options)

    monkeypatch.setattr(ablations, "predict_scores", stop)
    with pytest.raises(KeyboardInterrupt):
        run(ablations, arguments, *few)
    monkeypatch.setattr(ablations, "predict_scores", measured)
    result = run(ablations, arguments, *few)
    assert [row["run"] for row in result["runs"]] == ["base", "tasks=score"]
    tasks = [options[options.index("--tasks") + 1 : options.index("--seed")] for options in ablations.trained]
    assert tasks == [["score", "level"], ["score"], ["score"]]  # the base not again
    lines = (tmp_path / "ablations.md").read_text().splitlines()
    (mlp,) = [line for line in lines if line.startswith("| MLP |")]
    assert "not run" in mlp
    vit, base = (next(line for line in lines if line.startswith(f"| {label} |")) for label in ("ViT", "100 %"))
    assert vit.partition("| ")[2].partition(" | ")[2] == base.partition("| ")[2].partition(" | ")[2]
    with pytest.raises(
        ValueError, match=r"was begun with train_options .* \(now .*learning_rate.* name another folder"
    ):
        run(ablations, arguments, *few, options=[*TRAIN_OPTIONS, "--learning_rate", 0.1])


def test_seeds_are_averaged_and_compared_pair_by_pair(ablations, arguments, tmp_path):
    few = ["--only", "base", "use_temporal_tokens=False", "--seeds", 0, 1]
    result = run(ablations, arguments, *few)
    without = next(row for row in result["runs"] if row["run"] != "base")
    (figures,) = without["figures"].values()
    assert figures["less_base"]["seeds"] == [0, 1] and figures["less_base"]["contents"] == 3
    parts = [options[options.index("--train_parts") + 1 : options.index("--tasks")] for options in ablations.trained]
    assert parts == 2 * [["spatial_projector", "temporal_projector"], ["spatial_projector"]]


def prediction(group: str, mos: float, score: float) -> dict:
    return {"group": group, "mos": mos, "score": score}


def test_the_difference_is_of_the_same_videos_over_contents(ablations):
    mos = [10.0, 20, 30, 40, 50, 60, 70, 80]
    base = [prediction(str(index // 2), truth, -truth) for index, truth in enumerate(mos)]
    perfect = [row | {"score": row["mos"]} for row in base]
    same = ablations.difference({0: base}, {0: base, 1: perfect}, samples=50)
    assert (same["srcc"], same["interval"], same["contents"], same["seeds"]) == (0, [0, 0], 4, [0])
    better = ablations.difference({0: perfect}, {0: base}, samples=50)
    assert better["srcc"] == 2 and better["interval"] == pytest.approx([2, 2])
    mixed = ablations.difference({0: perfect, 1: base}, {0: base, 1: base}, samples=50)
    assert mixed["srcc"] == 1


def test_a_run_starts_from_the_base_but_for_the_projectors_that_it_changes(ablations, checkpoint, tmp_path):
    starts = []
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        ablations.write_start(checkpoint, {"spatial_projector_type": "mlp"}, seed, tmp_path / name)
        starts.append(load_file(tmp_path / name / "model.safetensors"))
    base, (one, same, other) = load_file(checkpoint / "model.safetensors"), starts
    kept = {name for name in one if name in base and torch.equal(one[name], base[name])}
    assert {name for name in one if "spatial_projector" not in name} == kept
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(
        one["model.spatial_projector.linear_1.weight"], other["model.spatial_projector.linear_1.weight"]
    )
    ablations.write_start(checkpoint, {"spatial_grid_size": 4}, 0, tmp_path / "grid")
    assert AutoProcessor.from_pretrained(tmp_path / "grid").spatial_grid_size == 4


def test_a_smaller_share_is_part_of_a_larger_one(ablations, rated, tmp_path):
    groups = []
    for share in (0.25, 0.5, 1.0):
        ablations.write_share(rated, share, tmp_path / str(share))
        splits = load_rows(tmp_path / str(share))
        assert splits.keys() == {"train"}
        groups.append({*splits["train"]["group"]})
    assert [len(of_share) for of_share in groups] == [2, 4, 8] and groups[0] < groups[1] < groups[2]


def test_what_cannot_be_run_is_said_before_anything_is(ablations, arguments, tmp_path):
    save_checkpoint(*tiny_pair(vision="clip"), tmp_path / "clip", torch.float32)  # 4 x 4 tokens a key frame
    with pytest.raises(ValueError, match="add --leave_out spatial_grid_size=8: got a grid of 4 x 4 tokens"):
        run(ablations, [*arguments, "--model", tmp_path / "clip"])
    with pytest.raises(ValueError, match="got the runs grid, expected some of base, use_temporal_tokens=False"):
        run(ablations, arguments, "--leave_out", "grid")
    with pytest.raises(ValueError, match="got no rows in the splits test_1080p"):
        run(ablations, arguments, "--splits", "test_1080p")
    tested = list(load_rows(arguments[3])["test"])
    save_rows(tested, [], "tiny", tmp_path / "tested")
    with pytest.raises(ValueError, match="tested with the splits test, expected a split train"):
        run(ablations, [*arguments, "--data", tmp_path / "tested"])
    assert not ablations.trained
