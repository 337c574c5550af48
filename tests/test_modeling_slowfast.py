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
import ast
import copy
from pathlib import Path

import pytest
import torch
from deterministic import fill, wave
from torch import nn

from lmmvqa.checkpoints.convert_weights import SLOWFAST_HEAD, SLOWFAST_RENAMES, _renamed
from lmmvqa.modeling_lmmvqa.configuration_lmmvqa import LmmVqaSlowFastConfig
from lmmvqa.modeling_lmmvqa.modeling_slowfast import LmmVqaSlowFastModel


NOTES = Path(__file__).resolve().parents[2] / "shared" / "notes"
KINETICS_HEAD_PARAMETERS = 400 * 2304 + 400


def tiny_config(**kwargs) -> LmmVqaSlowFastConfig:
    return LmmVqaSlowFastConfig(**{"slow_stem_channels": 8, "fast_stem_channels": 4, "depths": [1, 2, 1, 1], **kwargs})


@pytest.fixture(scope="module")
def model() -> LmmVqaSlowFastModel:
    return fill(LmmVqaSlowFastModel(tiny_config()))


def clip(num_clips: int = 1, num_frames: int = 8, size: int = 32) -> torch.Tensor:
    return 2 * wave((num_clips, num_frames, 3, size, size))


def test_default_is_slowfast_8x8_r50():
    with torch.device("meta"):
        model = LmmVqaSlowFastModel(LmmVqaSlowFastConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 34_566_488 - KINETICS_HEAD_PARAMETERS
    assert len(model.state_dict()) == 660
    assert model.config.feature_size == 2304


@pytest.mark.parametrize("listing", ["slowfast_r50_keys.txt", "pyslowfast_8x8_r50_keys.txt"])
def test_keys_and_shapes_are_those_of_the_public_checkpoints(listing):
    if not (NOTES / listing).exists():
        pytest.skip(f"{listing} is not beside the checkout")
    rows = [line.split("\t") for line in (NOTES / listing).read_text().splitlines() if not line.startswith("#")]
    public = {row[0]: torch.empty(ast.literal_eval(row[1]), device="meta") for row in rows}
    with torch.device("meta"):
        ours = LmmVqaSlowFastModel(LmmVqaSlowFastConfig()).state_dict()
    renamed = _renamed(public, SLOWFAST_RENAMES, SLOWFAST_HEAD, listing)
    assert len(renamed) == len(public) - 2
    assert {key: tensor.shape for key, tensor in renamed.items()} == {key: t.shape for key, t in ours.items()}


def test_slow_frame_indices(model):
    assert model.slow_frame_indices(32).tolist() == [0, 4, 8, 13, 17, 22, 26, 31]
    for num_frames in range(1, 95):  # up to where float32 first truncates a whole number to the one below
        expected = torch.linspace(0, num_frames - 1, max(1, num_frames // 4)).long()
        assert torch.equal(model.slow_frame_indices(num_frames), expected)


def test_golden_output(model):
    with torch.no_grad():
        output = model(clip(num_frames=32, size=40))
    assert output.slow_maps.shape == (1, 256, 8, 2, 2)
    assert output.fast_maps.shape == (1, 128, 32, 2, 2)
    torch.testing.assert_close(output.pooler_output[0, ::29], torch.tensor(GOLDEN), rtol=1e-3, atol=1e-4)


def test_pooler_output_is_the_mean_of_the_maps_slow_first(model):
    with torch.no_grad():
        output = model(clip(2))
    expected = torch.cat([output.slow_maps.mean((2, 3, 4)), output.fast_maps.mean((2, 3, 4))], dim=1)
    torch.testing.assert_close(output.pooler_output, expected)
    assert output.pooler_output.shape == (2, model.config.feature_size)


@pytest.mark.parametrize("pathway, columns", [("slow", slice(0, 256)), ("fast", slice(256, None))])
def test_pathway_selects_the_pooled_features(model, pathway, columns):
    one = LmmVqaSlowFastModel(tiny_config(pathway=pathway)).eval()
    one.load_state_dict(model.state_dict())
    with torch.no_grad():
        expected, got = model(clip()).pooler_output[:, columns], one(clip()).pooler_output
    assert got.shape[1] == one.config.feature_size
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("num_frames", [1, 3, 4, 7, 30, 33])
def test_any_number_of_frames(model, num_frames):
    with torch.no_grad():
        output = model(clip(num_frames=num_frames))
    assert output.slow_maps.shape[2] == max(1, num_frames // 4)
    assert output.fast_maps.shape[2] == num_frames
    assert output.pooler_output.isfinite().all()


def test_order_of_frames_matters_unless_they_are_equal(model):
    moving, still = clip(), clip(num_frames=1).expand(-1, 8, -1, -1, -1)
    with torch.no_grad():
        assert not torch.allclose(model(moving).pooler_output, model(moving.flip(1)).pooler_output, atol=1e-4)
        torch.testing.assert_close(model(still).pooler_output, model(still.flip(1)).pooler_output)


def test_batch_row_equals_single(model):
    batch = clip(3)
    with torch.no_grad():
        torch.testing.assert_close(model(batch).pooler_output[1:2], model(batch[1:2]).pooler_output)


@pytest.mark.parametrize("pathway", ["both", "slow", "fast"])
def test_frames_that_fill_a_clip_up_are_not_averaged(model, pathway):
    model = copy.deepcopy(model)
    model.config.pathway = pathway
    clips = wave((3, 12, 3, 32, 32))
    num_frames = torch.tensor([12, 7, 1])
    with torch.no_grad():
        outputs, whole = model(clips, num_frames=num_frames), model(clips)
    torch.testing.assert_close(outputs.pooler_output[0], whole.pooler_output[0])
    slow_frames = model.slow_frame_indices(12).tolist()
    for index, count in enumerate(num_frames.tolist()):
        positions = {"slow": sum(frame < count for frame in slow_frames), "fast": count}
        maps = {"slow": outputs.slow_maps, "fast": outputs.fast_maps}
        names = ["slow", "fast"] if pathway == "both" else [pathway]
        expected = torch.cat([maps[name][index, :, : positions[name]].mean((1, 2, 3)) for name in names])
        torch.testing.assert_close(outputs.pooler_output[index], expected)


def test_reload_gives_identical_output(model, tmp_path):
    model.save_pretrained(tmp_path)
    reloaded, info = LmmVqaSlowFastModel.from_pretrained(
        tmp_path, attn_implementation="sdpa", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    with torch.no_grad():
        assert torch.equal(reloaded(clip()).pooler_output, model(clip()).pooler_output)


def test_every_parameter_gets_a_gradient(model):
    model = copy.deepcopy(model)
    model(clip(2)).pooler_output.square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []


def test_frozen_tower_keeps_its_statistics_and_a_training_one_moves_them(model):
    model = copy.deepcopy(model)
    before = copy.deepcopy(model.state_dict())
    model(clip(2))
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    model.train()(clip(2))
    assert not any(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items() if "running" in key)


def test_initialisation_keeps_activations_alive():
    model = LmmVqaSlowFastModel(tiny_config())
    assert all(
        module.weight.std() > 0.5 * (2 / (module.weight[:, 0].numel())) ** 0.5
        for module in model.modules()
        if isinstance(module, nn.Conv3d)
    )
    assert model(clip(2)).pooler_output.std() > 0.1


def test_wrong_config_is_refused():
    with pytest.raises(Exception, match="'both', 'slow' or 'fast', got 'middle'"):
        tiny_config(pathway="middle")
    with pytest.raises(Exception, match="`spatial_strides` must have one entry for each of the 4 stages"):
        tiny_config(spatial_strides=[1, 2])


GOLDEN = [
    1.70998,
    7.41019,
    0.09459,
    0.04899,
    1.25822,
    1.95532,
    0.01898,
    0.56503,
    0.62403,
    2.22644,
    0.0,
    0.0,
    4.63427,
    2.62733,
]
