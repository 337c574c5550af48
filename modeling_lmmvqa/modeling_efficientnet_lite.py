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
"""EfficientNet-Lite: a compact vision tower. A key frame of any size becomes a grid of tokens.

[EfficientNet](https://huggingface.co/papers/1905.11946) (Tan and Le, 2019) in its Lite form: no squeeze-and-excitation,
ReLU6, TensorFlow's "SAME" padding. Quality lives in local statistics at several depths, so a token holds the mean and
the standard deviation of several blocks' outputs over one cell of the picture, not only the last block's output.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, auto_docstring
from transformers.utils.generic import can_return_tuple

from .configuration_lmmvqa import LmmVqaEfficientNetLiteConfig


# Below this a variance is rounding error, and the square root has no useful gradient.
MIN_VARIANCE = 1e-8


class LmmVqaEfficientNetLiteConvLayer(nn.Module):
    """Bias-free convolution with TensorFlow's "SAME" padding, and batch normalisation.

    "SAME" gives ceil(size / stride) outputs and puts the odd pixel of padding at the bottom and right, so a strided
    convolution is padded by the size of its input; with stride 1 it is the usual half kernel.
    """

    def __init__(
        self,
        config: LmmVqaEfficientNetLiteConfig,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
    ):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, config.batch_norm_eps, config.batch_norm_momentum)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        # outputs = ceil(size / stride), the last of them starts at (outputs - 1) * stride
        height, width = (
            max((size - 1) // self.stride * self.stride + self.kernel_size - size, 0)
            for size in hidden_states.shape[-2:]
        )
        # ZeRO-3 gathers weights for the layer that is called
        if self.norm.training or is_deepspeed_zero3_enabled():
            padding = (width // 2, width - width // 2, height // 2, height - height // 2)
            return self.norm(self.conv(F.pad(hidden_states, padding)))
        weight, bias = self.conv.weight, self.conv.bias
        if isinstance(self.norm, nn.BatchNorm2d):  # a recipe trains towers whose norms are folded for good
            # With fixed statistics both are one convolution, which takes a CPU a sixth less time
            scale = self.norm.weight.float() * (self.norm.running_var.float() + self.norm.eps).rsqrt()
            weight = (weight * scale[:, None, None, None]).to(hidden_states.dtype)
            bias = (self.norm.bias - self.norm.running_mean * scale).to(hidden_states.dtype)
        # Padding beforehand copies the whole map. A convolution pads both sides alike: where the end needs a pixel more,
        # one stride more on both sides gives the same outputs after a first one, which is cut off
        padding = [total // 2 + total % 2 * self.stride for total in (height, width)]
        hidden_states = F.conv2d(hidden_states, weight, bias, self.stride, padding, 1, self.conv.groups)
        return hidden_states[:, :, height % 2 :, width % 2 :]


class LmmVqaEfficientNetLiteBlock(nn.Module):
    """Inverted residual: 1 x 1 expansion, depthwise convolution, 1 x 1 projection without activation."""

    def __init__(
        self,
        config: LmmVqaEfficientNetLiteConfig,
        in_channels: int,
        out_channels: int,
        expand_ratio: int,
        kernel_size: int,
        stride: int,
    ):
        super().__init__()
        inner = in_channels * expand_ratio
        self.expand = LmmVqaEfficientNetLiteConvLayer(config, in_channels, inner) if expand_ratio != 1 else None
        self.depthwise = LmmVqaEfficientNetLiteConvLayer(config, inner, inner, kernel_size, stride, groups=inner)
        self.project = LmmVqaEfficientNetLiteConvLayer(config, inner, out_channels)
        self.activation = nn.ReLU6(inplace=True)
        self.has_residual = stride == 1 and in_channels == out_channels

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        residual = hidden_states
        if self.expand is not None:
            hidden_states = self.activation(self.expand(hidden_states))
        hidden_states = self.activation(self.depthwise(hidden_states))
        hidden_states = self.project(hidden_states)
        return hidden_states + residual if self.has_residual else hidden_states


@auto_docstring
class LmmVqaEfficientNetLitePreTrainedModel(PreTrainedModel):
    config: LmmVqaEfficientNetLiteConfig
    base_model_prefix = "vision_tower"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _no_split_modules = ["LmmVqaEfficientNetLiteBlock"]
    # no attention in here: any implementation asked of the whole model is fine
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


@auto_docstring(custom_intro="EfficientNet-Lite without a head: key frames to a grid of tokens each.")
class LmmVqaEfficientNetLiteModel(LmmVqaEfficientNetLitePreTrainedModel):
    def __init__(self, config: LmmVqaEfficientNetLiteConfig):
        super().__init__(config)
        self.stem = LmmVqaEfficientNetLiteConvLayer(
            config, config.num_channels, config.stem_channels, config.stem_kernel_size, config.stem_stride
        )
        self.activation = nn.ReLU6(inplace=True)
        self.blocks = nn.ModuleList()
        in_channels = config.stem_channels
        for stage, repeats in enumerate(config.num_block_repeats):
            for repeat in range(repeats):
                stride = config.strides[stage] if repeat == 0 else 1
                self.blocks.append(
                    LmmVqaEfficientNetLiteBlock(
                        config,
                        in_channels,
                        config.out_channels[stage],
                        config.expand_ratios[stage],
                        config.kernel_sizes[stage],
                        stride,
                    )
                )
                in_channels = config.out_channels[stage]
        del self.blocks[config.out_blocks[-1] + 1 :]  # nothing reads what comes after
        # Channels of different depths differ by orders of magnitude; whoever uses the tower frozen sets the statistics
        self.token_norm = nn.BatchNorm1d(config.hidden_size, config.batch_norm_eps, affine=False)
        self.post_init()

    def pool_cells(self, features: torch.Tensor) -> torch.Tensor:
        """Mean and (population) standard deviation of each channel over each cell of the grid.

        Cells are those of adaptive pooling: where the map does not divide by the grid they overlap by a pixel, and a
        map smaller than the grid is repeated. float32 throughout, centred first so that nothing cancels.

        Args:
            features: `(N, C, h, w)`.

        Returns:
            `(N, grid_size**2, 2 * C)` in the dtype of `features`, cells in reading order, means before deviations.
        """
        values = features.float()
        centre = values.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
        offsets = values - centre
        mean = F.adaptive_avg_pool2d(offsets, self.config.grid_size)  # (N, C, grid, grid)
        variance = F.adaptive_avg_pool2d(offsets**2, self.config.grid_size) - mean**2
        deviation = variance.clamp(min=MIN_VARIANCE).sqrt()
        cells = torch.cat([mean + centre, deviation], dim=1)  # (N, 2 * C, grid, grid)
        return cells.flatten(2).transpose(1, 2).to(features.dtype)

    @can_return_tuple
    @auto_docstring
    def forward(
        self, pixel_values: torch.FloatTensor, **kwargs: Unpack[TransformersKwargs]
    ) -> BaseModelOutputWithPooling:
        r"""
        pixel_values (`torch.FloatTensor` of shape `(num_images, num_channels, height, width)`):
            RGB pictures of any size as `(x - 127) / 128` for x in 0..255, the range that the public weights were
            trained with.

        Returns:
            `last_hidden_state` of shape `(num_images, grid_size**2, hidden_size)`, cells in reading order; in a token,
            for each of `config.out_blocks`, its channels' means, then their standard deviations, standardised by
            `token_norm` (the identity until its statistics are set). `pooler_output` of
            shape `(num_images, hidden_size)` is the mean of the tokens. `hidden_states`, when asked for, holds
            `last_hidden_state` alone.
        """
        # Depthwise convolutions are a third faster with channels last
        pixel_values = pixel_values.to(self.dtype, memory_format=torch.channels_last)
        hidden_states = self.activation(self.stem(pixel_values))  # (N, 32, H / 2, W / 2)
        tokens = []
        for index, block in enumerate(self.blocks):
            hidden_states = block(hidden_states)  # at last (N, 320, H / 32, W / 32)
            if index in self.config.out_blocks:
                tokens.append(self.pool_cells(hidden_states))
        tokens = torch.cat(tokens, dim=-1)  # (N, grid_size**2, hidden_size)
        tokens = self.token_norm(tokens.transpose(1, 2)).transpose(1, 2)
        return BaseModelOutputWithPooling(
            last_hidden_state=tokens,
            pooler_output=tokens.mean(dim=1),  # (N, hidden_size)
            hidden_states=(tokens,) if kwargs.get("output_hidden_states", self.config.output_hidden_states) else None,
        )


__all__ = ["LmmVqaEfficientNetLiteModel", "LmmVqaEfficientNetLitePreTrainedModel"]
