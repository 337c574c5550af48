"""Weights that are cut, that are no numbers, or that are not those of the reference: said, and never scored."""

import json
import os
import shutil

import pytest
from safetensors.torch import load_file, save_file

from lmmvqa.checkpoints.checkpoint_digest import checkpoint_digest
from lmmvqa.commands.command_line import main
from lmmvqa.scoring import selfcheck


@pytest.fixture
def own_model(checkpoint, tmp_path):
    """A copy of the checkpoint, to be damaged."""
    shutil.copytree(checkpoint, tmp_path / "own")
    return tmp_path / "own"


@pytest.mark.parametrize(
    "command", [["score", "clip.mp4"], ["selfcheck"], ["selfcheck", "--update"], ["export", "--out", "out"]]
)
def test_cut_weights_are_one_line(capsys, own_model, command):
    os.truncate(own_model / "model.safetensors", 10_000)
    (own_model / "README.md").write_text("# A card")
    with pytest.raises(SystemExit) as exit_:
        main([*command, "--model", str(own_model)])
    error = capsys.readouterr().err.splitlines()[-1]
    assert exit_.value.code == 2 and f"got weights in {own_model} that are damaged or cut" in error


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_give_no_score(capsys, own_model, clips, value):
    file = own_model / "model.safetensors"
    weights = load_file(file)
    weights["model.language_model.norm.weight"][0] = value
    save_file(weights, file, metadata={"format": "pt"})
    assert main(["score", "--json", "--model", str(own_model), clips[0]]) == 1
    row = json.loads(capsys.readouterr().out)
    assert row["score"] is row["level"] is None
    assert row["error"].startswith("got NaN or infinite answer probabilities for 1 of 1 prompts")
    with pytest.raises(SystemExit) as exit_:
        main(["selfcheck", "--update", "--model", str(own_model)])
    assert exit_.value.code == 2 and not (own_model / selfcheck.REFERENCE_NAME).exists()


def test_selfcheck_finds_other_weights_of_the_same_score(capsys, own_model):
    assert main(["selfcheck", "--model", str(own_model), "--update"]) == 0
    file = own_model / "model.safetensors"
    weights = load_file(file)
    weights["model.vision_tower.stem.conv.weight"] *= 1 + 1e-6
    save_file(weights, file, metadata={"format": "pt"})
    assert main(["selfcheck", "--model", str(own_model)]) == 1
    out = capsys.readouterr().out
    assert "FAILED: not those of the reference" in out and out.endswith(": ok\n")

    reference = own_model / selfcheck.REFERENCE_NAME
    stored = json.loads(reference.read_text())
    del stored["weights"]
    reference.write_text(json.dumps(stored))  # as it was before weights were compared
    assert main(["selfcheck", "--model", str(own_model)]) == 0
    assert "weights    not compared" in capsys.readouterr().out


def test_a_run_of_an_adapter_has_a_digest(tmp_path):
    """It has no config.json, and `score --out` asks what its rows are of."""
    weights = tmp_path / "adapter_model.safetensors"
    (tmp_path / "adapter_config.json").write_text("{}")
    weights.write_bytes(b"before")
    before = checkpoint_digest(str(tmp_path))
    weights.write_bytes(b"after")
    assert checkpoint_digest(str(tmp_path)) != before
