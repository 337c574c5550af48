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
"""SlowFast: the temporal tower. A clip of consecutive frames becomes one vector of motion features.

[SlowFast Networks for Video Recognition](https://huggingface.co/papers/1812.03982) (Feichtenhofer et al., 2019). The
slow pathway sees every fourth frame with many channels, the fast pathway every frame with few; after the stem and
after each stage but the last, a lateral connection hands fast features to the slow pathway.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, auto_docstring
from transformers.utils.generic import can_return_tuple

from .configuration_lmmvqa import LmmVqaSlowFastConfig


@auto_docstring(custom_intro="Output of the SlowFast tower.")
@dataclass
class LmmVqaSlowFastModelOutput(ModelOutput):
    r"""
    pooler_output (`torch.FloatTensor` of shape `(num_clips, feature_size)`):
        Mean of the maps over time and space: slow, then fast, or the one that `config.pathway` names.
    slow_maps (`torch.FloatTensor` of shape `(num_clips, slow_channels, max(1, num_frames // alpha), height / 32, width / 32)`, *optional*):
        Output of the slow pathway's last stage (res5). `None` when `config.pathway` is `"fast"`.
    fast_maps (`torch.FloatTensor` of shape `(num_clips, fast_channels, num_frames, height / 32, width / 32)`):
        Output of the fast pathway's last stage (res5).
    """

    pooler_output: torch.FloatTensor | None = None
    slow_maps: torch.FloatTensor | None = None
    fast_maps: torch.FloatTensor | None = None


class LmmVqaSlowFastConvLayer(nn.Module):
    """Bias-free 3-D convolution padded to half its kernel, and batch normalisation."""

    def __init__(
        self,
        config: LmmVqaSlowFastConfig,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int, int],
        stride: tuple[int, int, int] = (1, 1, 1),
    ):
        super().__init__()
        padding = tuple(size // 2 for size in kernel_size)
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.norm = nn.BatchNorm3d(out_channels, config.batch_norm_eps, config.batch_norm_momentum)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(hidden_states))


class LmmVqaSlowFastBlock(nn.Module):
    """Residual bottleneck: (t, 1, 1), then (1, 3, 3) with the spatial stride, then (1, 1, 1)."""

    def __init__(
        self,
        config: LmmVqaSlowFastConfig,
        in_channels: int,
        inner_channels: int,
        temporal_kernel_size: int,
        spatial_stride: int,
        has_projection: bool,
    ):
        super().__init__()
        out_channels = inner_channels * config.bottleneck_expansion
        stride = (1, spatial_stride, spatial_stride)
        self.conv_a = LmmVqaSlowFastConvLayer(config, in_channels, inner_channels, (temporal_kernel_size, 1, 1))
        self.conv_b = LmmVqaSlowFastConvLayer(config, inner_channels, inner_channels, (1, 3, 3), stride)
        self.conv_c = LmmVqaSlowFastConvLayer(config, inner_channels, out_channels, (1, 1, 1))
        self.shortcut = (
            LmmVqaSlowFastConvLayer(config, in_channels, out_channels, (1, 1, 1), stride)
            if has_projection
            else nn.Identity()
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        residual = self.shortcut(hidden_states)
        hidden_states = self.activation(self.conv_a(hidden_states))
        hidden_states = self.activation(self.conv_b(hidden_states))
        return self.activation(self.conv_c(hidden_states) + residual)


class LmmVqaSlowFastLateral(nn.Module):
    """Hands fast features to the slow pathway: a convolution in time with stride alpha, then concatenation."""

    def __init__(self, config: LmmVqaSlowFastConfig, fast_channels: int):
        super().__init__()
        self.fast_to_slow = LmmVqaSlowFastConvLayer(
            config,
            fast_channels,
            fast_channels * config.fusion_ratio,
            (config.fusion_kernel_size, 1, 1),
            (config.alpha, 1, 1),
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, slow: torch.Tensor, fast: torch.Tensor) -> torch.Tensor:
        fused = self.activation(self.fast_to_slow(fast))  # (N, ratio * Cf, ceil(T / alpha), h, w)
        # one frame too many when alpha does not divide the number of frames
        return torch.cat([slow, fused[:, :, : slow.shape[2]]], dim=1)  # (N, Cs + ratio * Cf, T // alpha, h, w)


class LmmVqaSlowFastStem(nn.Module):
    """Strided convolution and max pooling of each pathway: frames to a quarter of their height and width."""

    def __init__(self, config: LmmVqaSlowFastConfig):
        super().__init__()
        size = config.stem_kernel_size
        slow_kernel = (config.slow_stem_temporal_kernel_size, size, size)
        fast_kernel = (config.fast_stem_temporal_kernel_size, size, size)
        self.slow = LmmVqaSlowFastConvLayer(
            config, config.num_channels, config.slow_stem_channels, slow_kernel, (1, 2, 2)
        )
        self.fast = LmmVqaSlowFastConvLayer(
            config, config.num_channels, config.fast_stem_channels, fast_kernel, (1, 2, 2)
        )
        self.activation = nn.ReLU(inplace=True)
        self.pooler = nn.MaxPool3d(kernel_size=(1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.lateral = LmmVqaSlowFastLateral(config, config.fast_stem_channels)

    def forward(self, slow: torch.Tensor | None, fast: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        fast = self.pooler(self.activation(self.fast(fast)))
        if slow is not None:
            slow = self.pooler(self.activation(self.slow(slow)))
            slow = self.lateral(slow, fast)
        return slow, fast


class LmmVqaSlowFastStage(nn.Module):
    """One residual stage of both pathways, and the lateral connection after it unless it is the last."""

    def __init__(self, config: LmmVqaSlowFastConfig, stage: int):
        super().__init__()
        slow_inner = config.slow_stem_channels * 2**stage
        fast_inner = config.fast_stem_channels * 2**stage
        # the stem's output for the first stage, the previous stage's (half as wide, times the expansion) for the others
        slow_in = config.slow_stem_channels if stage == 0 else slow_inner // 2 * config.bottleneck_expansion
        fast_in = config.fast_stem_channels if stage == 0 else fast_inner // 2 * config.bottleneck_expansion
        slow_in += fast_in * config.fusion_ratio
        depth, stride = config.depths[stage], config.spatial_strides[stage]

        def pathway(in_channels: int, inner_channels: int, temporal_kernel_size: int) -> nn.ModuleList:
            out_channels = inner_channels * config.bottleneck_expansion
            return nn.ModuleList(
                LmmVqaSlowFastBlock(
                    config,
                    in_channels if block == 0 else out_channels,
                    inner_channels,
                    temporal_kernel_size,
                    stride if block == 0 else 1,
                    has_projection=block == 0,
                )
                for block in range(depth)
            )

        self.slow = pathway(slow_in, slow_inner, config.slow_temporal_kernel_sizes[stage])
        self.fast = pathway(fast_in, fast_inner, config.fast_temporal_kernel_sizes[stage])
        is_last = stage == len(config.depths) - 1
        self.lateral = None if is_last else LmmVqaSlowFastLateral(config, fast_inner * config.bottleneck_expansion)

    def forward(self, slow: torch.Tensor | None, fast: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        for block in self.fast:
            fast = block(fast)
        if slow is not None:
            for block in self.slow:
                slow = block(slow)
            if self.lateral is not None:
                slow = self.lateral(slow, fast)
        return slow, fast


@auto_docstring
class LmmVqaSlowFastPreTrainedModel(PreTrainedModel):
    config: LmmVqaSlowFastConfig
    base_model_prefix = "temporal_tower"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video",)
    _no_split_modules = ["LmmVqaSlowFastStem", "LmmVqaSlowFastStage"]
    # no attention in here: any implementation asked of the whole model is fine
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, nn.Conv3d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


@auto_docstring(custom_intro="SlowFast without a head: clips to one vector of motion features each.")
class LmmVqaSlowFastModel(LmmVqaSlowFastPreTrainedModel):
    def __init__(self, config: LmmVqaSlowFastConfig):
        super().__init__(config)
        self.stem = LmmVqaSlowFastStem(config)
        self.stages = nn.ModuleList(LmmVqaSlowFastStage(config, stage) for stage in range(len(config.depths)))
        self.post_init()

    def slow_frame_indices(self, num_frames: int, device: torch.device | None = None) -> torch.LongTensor:
        """The frames that the slow pathway sees: `linspace(0, num_frames - 1, max(1, num_frames // alpha))`, truncated.

        32 frames give 0, 4, 8, 13, 17, 22, 26, 31 (PySlowFast, `pack_pathway_output`). In integers, because a float
        `linspace` lands just below some of the whole numbers (first at 95 frames).
        """
        count = max(1, num_frames // self.config.alpha)
        return torch.arange(count, device=device) * (num_frames - 1) // max(1, count - 1)

    def _mean_of_own_frames(self, maps: torch.Tensor, length: int, num_frames: torch.LongTensor) -> torch.Tensor:
        """(N, C, positions, h, w) of clips so long to (N, C), the mean over the positions of each clip's own frames."""
        frames = torch.arange(length, device=maps.device)
        if maps.shape[2] < length:
            frames = self.slow_frame_indices(length, maps.device)
        is_own = (frames < num_frames.to(maps.device)[:, None]).to(maps.dtype)  # (N, positions)
        weights = is_own / is_own.sum(1, keepdim=True)
        return (maps.mean((3, 4)) * weights[:, None]).sum(2)

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        pixel_values_videos: torch.FloatTensor,
        num_frames: torch.LongTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> LmmVqaSlowFastModelOutput:
        r"""
        pixel_values_videos (`torch.FloatTensor` of shape `(num_clips, num_frames, num_channels, height, width)`):
            Consecutive frames, RGB / 255, then mean 0.45 and standard deviation 0.225 on every channel. The Kinetics
            weights were trained on 32 frames of 224 x 224; any number of frames and any size will run.
        num_frames (`torch.LongTensor` of shape `(num_clips,)`, *optional*):
            How many frames of each clip are its own; what follows fills it up and is left out where features are
            averaged over time. By default all are.
        """
        pixel_values_videos = pixel_values_videos.to(self.dtype)
        fast = pixel_values_videos.transpose(1, 2)  # (N, T, C, H, W) -> (N, C, T, H, W)
        slow = None
        if self.config.pathway != "fast":
            slow = fast[:, :, self.slow_frame_indices(fast.shape[2], fast.device)]  # (N, C, T // alpha, H, W)

        slow, fast = self.stem(slow, fast)  # (N, 80, T // alpha, H / 4, W / 4), (N, 8, T, H / 4, W / 4)
        for stage in self.stages:
            slow, fast = stage(slow, fast)  # at last (N, 2048, T // alpha, H / 32, W / 32), (N, 256, T, ...)

        maps = {"slow": [slow], "fast": [fast], "both": [slow, fast]}[self.config.pathway]
        if num_frames is None:
            pooled = [features.mean((2, 3, 4)) for features in maps]
        else:
            pooled = [
                self._mean_of_own_frames(features, pixel_values_videos.shape[1], num_frames) for features in maps
            ]
        return LmmVqaSlowFastModelOutput(
            pooler_output=torch.cat(pooled, dim=-1),  # (N, feature_size)
            slow_maps=slow,
            fast_maps=fast,
        )


__all__ = ["LmmVqaSlowFastModel", "LmmVqaSlowFastModelOutput", "LmmVqaSlowFastPreTrainedModel"]
