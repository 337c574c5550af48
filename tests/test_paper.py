"""What docs/paper.md cites exists, and the projectors are the paper's equations, written out in plain PyTorch."""

import ast
import re
from pathlib import Path

import pytest
import torch
from conftest import tiny_pair
from torch import nn

from lmmvqa.checkpoints.assemble import OPTIONS, PRESETS


ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
# `folder/file`, `folder/file.py::name` and `train.py::name`
CITED = sorted(set(re.findall(r"`((?:[\w-]+/)*[\w-]+\.(?:py|json|md))(?:::([\w.]+))?`", PAGE)))
NAMES_OF_OPTIONS = {name for name, _ in re.findall(r"`([a-z]+_[a-z_]+)(=\w+)?`", PAGE)}
LINES = re.findall(r"`--(\w+)", PAGE)


def names_in(file: Path) -> set[str]:
    """Of functions, classes and assigned names at the top of a module, and of what classes hold, after their name."""

    def of_body(body: list[ast.stmt], prefix: str) -> set[str]:
        names = set()
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                names |= of_body(node.body, f"{prefix}{node.name}.")
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names |= {prefix + target.id for target in targets if isinstance(target, ast.Name)}
        return names

    return of_body(ast.parse(file.read_text(encoding="utf-8")).body, "")


def test_the_page_cites_much():
    assert len(CITED) > 60 and ("train.py", "ModelArguments") in CITED


@pytest.mark.parametrize(("file", "name"), [cited for cited in CITED if "/" in cited[0] or cited[1]])
def test_what_the_page_cites_exists(file, name):
    assert (ROOT / file).is_file()
    assert not name or name in names_in(ROOT / file)


def test_options_of_the_page_exist(train):
    assert "spatial_grid_size" in NAMES_OF_OPTIONS and OPTIONS.keys() >= NAMES_OF_OPTIONS
    assert "`paper`" in PAGE and "paper" in PRESETS
    of_training = {name for of in (train.ModelArguments, train.DataArguments) for name in of.__dataclass_fields__}
    assert set(LINES) <= of_training | {"readout"}


# the equations


@torch.no_grad()
def test_the_spatial_projector_is_one_pre_norm_layer_and_one_linear():
    projector = tiny_pair(vision="clip")[0].model.spatial_projector
    layer, width = projector.layer, projector.linear.in_features
    plain = nn.TransformerEncoderLayer(
        width, 4, layer.mlp.fc1.out_features, 0.0, "gelu", layer_norm_eps=1e-12, batch_first=True, norm_first=True
    ).eval()
    attention = layer.attention
    of_input = (attention.q_proj, attention.k_proj, attention.v_proj)
    plain.self_attn.in_proj_weight.copy_(torch.cat([linear.weight for linear in of_input]))
    plain.self_attn.in_proj_bias.copy_(torch.cat([linear.bias for linear in of_input]))
    pairs = {
        plain.self_attn.out_proj: attention.o_proj,
        plain.norm1: layer.layernorm_before,
        plain.norm2: layer.layernorm_after,
        plain.linear1: layer.mlp.fc1,
        plain.linear2: layer.mlp.fc2,
    }
    for ours, theirs in pairs.items():
        ours.load_state_dict(theirs.state_dict())
    features = torch.randn(2, 4, width)
    torch.testing.assert_close(projector(features), projector.linear(plain(features)))


@torch.no_grad()
def test_the_temporal_token_is_the_mean_of_projected_chunks():
    model = tiny_pair()[0].model
    features = torch.randn(5, model.temporal_projector.in_features)
    tokens = model.get_video_features(num_chunks=torch.tensor([2, 3]), temporal_features=features).pooler_output
    weight, bias = model.temporal_projector.weight, model.temporal_projector.bias
    for token, chunks in zip(tokens, features.split([2, 3]), strict=True):
        torch.testing.assert_close(token, (chunks @ weight.T + bias).mean(0, keepdim=True))
