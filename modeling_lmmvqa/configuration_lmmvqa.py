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
"""Configurations: SlowFast (motion), EfficientNet-Lite (compact key-frame tower), and LMM-VQA around them."""

from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig
from transformers.configuration_utils import PreTrainedConfig, SubConfigSpec
from transformers.utils import auto_docstring


@auto_docstring
@strict
class LmmVqaSlowFastConfig(PreTrainedConfig):
    r"""
    slow_stem_channels (`int`, *optional*, defaults to 64):
        Channels of the slow pathway after its stem. Stage `s` has `slow_stem_channels * 2**s` inner channels.
    fast_stem_channels (`int`, *optional*, defaults to 8):
        The same for the fast pathway; the reference network has an eighth of the slow pathway's.
    depths (`list[int]`, *optional*, defaults to `(3, 4, 6, 3)`):
        Residual blocks of each stage (res2 to res5), the same in both pathways.
    bottleneck_expansion (`int`, *optional*, defaults to 4):
        Output channels of a residual block over its inner channels.
    spatial_strides (`list[int]`, *optional*, defaults to `(1, 2, 2, 2)`):
        Spatial stride of the first block of each stage. No block strides in time.
    slow_temporal_kernel_sizes (`list[int]`, *optional*, defaults to `(1, 1, 3, 3)`):
        Temporal kernel of the first convolution of the slow pathway's blocks, for each stage; odd.
    fast_temporal_kernel_sizes (`list[int]`, *optional*, defaults to `(3, 3, 3, 3)`):
        The same for the fast pathway.
    stem_kernel_size (`int`, *optional*, defaults to 7):
        Spatial kernel of both stems; odd.
    slow_stem_temporal_kernel_size (`int`, *optional*, defaults to 1):
        Temporal kernel of the slow pathway's stem; odd.
    fast_stem_temporal_kernel_size (`int`, *optional*, defaults to 5):
        Temporal kernel of the fast pathway's stem; odd.
    alpha (`int`, *optional*, defaults to 4):
        Frames of the fast pathway over frames of the slow pathway.
    fusion_ratio (`int`, *optional*, defaults to 2):
        Channels that a lateral connection hands to the slow pathway over the fast pathway's channels it reads.
    fusion_kernel_size (`int`, *optional*, defaults to 7):
        Temporal kernel of the lateral connections; odd.
    pathway (`str`, *optional*, defaults to `"both"`):
        What the pooled features hold: `"both"` (slow, then fast), `"slow"` or `"fast"`. The parameters are the same
        for all three; with `"fast"` the slow pathway is not run.
    batch_norm_eps (`float`, *optional*, defaults to 1e-5):
        Added to the variance in every batch normalisation.
    batch_norm_momentum (`float`, *optional*, defaults to 0.1):
        Weight of the new batch in the running statistics (PyTorch's meaning).

    The defaults are SlowFast 8x8 R50 ([Feichtenhofer et al., 2019](https://huggingface.co/papers/1812.03982)) without
    its classification head.
    """

    model_type = "lmmvqa_slowfast"

    num_channels: int = 3
    slow_stem_channels: int = 64
    fast_stem_channels: int = 8
    depths: list[int] | tuple[int, ...] = (3, 4, 6, 3)
    bottleneck_expansion: int = 4
    spatial_strides: list[int] | tuple[int, ...] = (1, 2, 2, 2)
    slow_temporal_kernel_sizes: list[int] | tuple[int, ...] = (1, 1, 3, 3)
    fast_temporal_kernel_sizes: list[int] | tuple[int, ...] = (3, 3, 3, 3)
    stem_kernel_size: int = 7
    slow_stem_temporal_kernel_size: int = 1
    fast_stem_temporal_kernel_size: int = 5
    alpha: int = 4
    fusion_ratio: int = 2
    fusion_kernel_size: int = 7
    pathway: str = "both"
    batch_norm_eps: float = 1e-5
    batch_norm_momentum: float = 0.1

    @property
    def feature_size(self) -> int:
        """Length of the pooled feature vector of one clip: 2304, or 2048 (slow) or 256 (fast), by default."""
        widths = {"slow": self.slow_stem_channels, "fast": self.fast_stem_channels}
        stems = sum(widths.values()) if self.pathway == "both" else widths[self.pathway]
        return stems * 2 ** (len(self.depths) - 1) * self.bottleneck_expansion

    def validate_pathway(self):
        """Only the three pathways of the paper exist."""
        if self.pathway not in ("both", "slow", "fast"):
            raise ValueError(f"`pathway` must be 'both', 'slow' or 'fast', got {self.pathway!r}.")

    def validate_stages(self):
        """Every per-stage list has one entry for each stage."""
        for name in ("spatial_strides", "slow_temporal_kernel_sizes", "fast_temporal_kernel_sizes"):
            if len(getattr(self, name)) != len(self.depths):
                raise ValueError(
                    f"`{name}` must have one entry for each of the {len(self.depths)} stages in `depths`, "
                    f"got {len(getattr(self, name))}: {getattr(self, name)}."
                )


@auto_docstring
@strict
class LmmVqaEfficientNetLiteConfig(PreTrainedConfig):
    r"""
    stem_channels (`int`, *optional*, defaults to 32):
        Channels after the stem.
    stem_kernel_size (`int`, *optional*, defaults to 3):
        Kernel of the stem's convolution.
    stem_stride (`int`, *optional*, defaults to 2):
        Stride of the stem's convolution.
    expand_ratios (`list[int]`, *optional*, defaults to `(1, 6, 6, 6, 6, 6, 6)`):
        Inner channels over input channels of the blocks of each stage; 1 leaves the expansion out.
    kernel_sizes (`list[int]`, *optional*, defaults to `(3, 3, 5, 3, 5, 5, 3)`):
        Kernel of the depthwise convolutions of each stage; odd.
    strides (`list[int]`, *optional*, defaults to `(1, 2, 2, 2, 1, 2, 1)`):
        Stride of the first block of each stage.
    out_channels (`list[int]`, *optional*, defaults to `(16, 24, 40, 80, 112, 192, 320)`):
        Channels after each stage.
    num_block_repeats (`list[int]`, *optional*, defaults to `(1, 2, 2, 3, 3, 4, 1)`):
        Blocks of each stage.
    out_blocks (`list[int]`, *optional*, defaults to `(2, 4, 10, 15)`):
        Blocks, counted from 0 through all stages, whose output maps are pooled into tokens. Blocks after the last of
        them are not built.
    grid_size (`int`, *optional*, defaults to 4):
        Side of the square grid of cells over the picture; each cell gives one token.
    batch_norm_eps (`float`, *optional*, defaults to 1e-3):
        Added to the variance in every batch normalisation.
    batch_norm_momentum (`float`, *optional*, defaults to 0.01):
        Weight of the new batch in the running statistics (PyTorch's meaning).

    The defaults are EfficientNet-Lite0 ([Tan and Le, 2019](https://huggingface.co/papers/1905.11946), without
    squeeze-and-excitation and with ReLU6) up to its last block.
    """

    model_type = "lmmvqa_efficientnet_lite"

    num_channels: int = 3
    stem_channels: int = 32
    stem_kernel_size: int = 3
    stem_stride: int = 2
    expand_ratios: list[int] | tuple[int, ...] = (1, 6, 6, 6, 6, 6, 6)
    kernel_sizes: list[int] | tuple[int, ...] = (3, 3, 5, 3, 5, 5, 3)
    strides: list[int] | tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
    out_channels: list[int] | tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)
    num_block_repeats: list[int] | tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
    out_blocks: list[int] | tuple[int, ...] = (2, 4, 10, 15)
    grid_size: int = 4
    batch_norm_eps: float = 1e-3
    batch_norm_momentum: float = 0.01

    @property
    def block_channels(self) -> list[int]:
        """Output channels of every block, counted through all stages."""
        return [
            channels
            for channels, repeats in zip(self.out_channels, self.num_block_repeats, strict=True)
            for _ in range(repeats)
        ]

    @property
    def hidden_size(self) -> int:
        """Length of one token: a mean and a standard deviation per channel of each block in `out_blocks`; 992."""
        return 2 * sum(self.block_channels[block] for block in self.out_blocks)

    def validate_stages(self):
        """Every per-stage list has one entry for each stage."""
        for name in ("expand_ratios", "kernel_sizes", "strides", "num_block_repeats"):
            if len(getattr(self, name)) != len(self.out_channels):
                raise ValueError(
                    f"`{name}` must have one entry for each of the {len(self.out_channels)} stages in "
                    f"`out_channels`, got {len(getattr(self, name))}: {getattr(self, name)}."
                )

    def validate_out_blocks(self):
        """`out_blocks` names existing blocks in rising order."""
        blocks, total = list(self.out_blocks), sum(self.num_block_repeats)
        if not blocks or blocks != sorted(set(blocks)) or blocks[0] < 0 or blocks[-1] >= total:
            raise ValueError(f"`out_blocks` must be rising block indices from 0 to {total - 1}, got {blocks}.")


# A checkpoint names its towers in its config.json, and as remote code nobody else could tell AutoConfig of these two
AutoConfig.register(LmmVqaEfficientNetLiteConfig.model_type, LmmVqaEfficientNetLiteConfig, exist_ok=True)
AutoConfig.register(LmmVqaSlowFastConfig.model_type, LmmVqaSlowFastConfig, exist_ok=True)


@auto_docstring
@strict
class LmmVqaConfig(PreTrainedConfig):
    r"""
    Configuration of LMM-VQA (arXiv 2408.14008): a vision tower for key frames, a temporal tower for chunks of
    consecutive frames, one projector each, and a decoder. The defaults are the paper's full-size model.

    vision_config (`PreTrainedConfig` or `dict`, *optional*):
        Any vision model of `AutoModel` that yields (num_frames, tokens, channels); CLIP ViT-L/14 by default.
    temporal_config (`PreTrainedConfig` or `dict`, *optional*):
        SlowFast R50 by default; its `pathway` (slow, fast, both) chooses what the temporal tokens see. Or any video model of
        `AutoModel` that takes (clips, frames, channels, height, width) and gives (clips, tokens, channels), whose mean is
        taken, or (clips, channels), such as VideoMAE and V-JEPA 2.
    text_config (`PreTrainedConfig` or `dict`, *optional*):
        Any decoder of `AutoModelForCausalLM`; Llama by default.
    image_token_id (`int`): Placeholder of one key-frame token in `input_ids`.
    video_token_id (`int`): Placeholder of one temporal token in `input_ids`.
    vision_feature_layer (`int`): Hidden state of the vision tower that is used, as in LLaVA.
    vision_feature_select_strategy (`str`):
        `"default"` drops the first (CLS) token, and registers behind it, `"full"` keeps every token, as in LLaVA.
    spatial_projector_type (`str`):
        `"vit"` (Eq. 6: one ViT layer + linear), `"mlp"` or `"perceiver"` (Table VIII a).
    spatial_projector_num_attention_heads (`int`): Heads of the ViT layer or of the perceiver.
    spatial_projector_intermediate_size (`int`): Hidden width of the ViT layer's MLP or of the mlp projector.
    projector_dropout (`float`): Dropout on the inputs of the projectors and inside the ViT layer.
    spatial_grid_size (`int`):
        Side of the grid to which each key frame's tokens are pooled: 16, 8, 4 or 2 for CLIP (N_t = 256 ... 4).
    key_frame_views (`int`):
        Pictures that the vision tower sees of each key frame, see `key_frame_fragments` of the video processor. Their
        tokens stand side by side before the projector, each with a learned vector of its view.
    spatial_reduction (`str`):
        `"none"` keeps the tokens of every key frame (Eq. 4), `"mean"` averages over key frames (Algorithm 1),
        `"mean_features"` does so before the projector.
    temporal_reduction (`str`):
        `"mean"` gives one temporal token a video (Eq. 7), `"none"` one a chunk (section IV-D).
    temporal_fusion (`str`):
        `"decoder"` joins temporal tokens in the decoder's width (Eq. 8), `"vision"` puts each chunk's token beside
        its key frame's tokens before the ViT layer.
    temporal_placement (`str`):
        `"after"` puts temporal tokens behind all key frames' (Eq. 8), `"interleaved"` each chunk's behind its key frame's, as
        VQA2 does (arXiv 2411.03795); with `temporal_reduction` and `spatial_reduction` "none".
    temporal_projector_norm (`bool`): A LayerNorm behind the temporal projector.
    spatial_projector_norm (`bool`): A LayerNorm behind the spatial projector.
    decoder_attention (`str`):
        `"causal"` is the decoder's own, `"mmca"` weighs visual tokens and text apart (arXiv 2309.14327), see `mmca_lmmvqa`.
    use_temporal_tokens (`bool`): False gives the model without temporal tower (ablation "wo temporal").
    base_models (`dict[str, str]`, *optional*):
        Where the weights of each part came from, by the part's name: `owner/name` of a Hub repository, or the bare
        name of a file or folder. For the model card.
    """

    model_type = "lmmvqa"
    sub_configs_defaults = {
        "vision_config": SubConfigSpec(
            config_class=AutoConfig,
            model_type="clip_vision_model",
            init_kwargs={
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "patch_size": 14,
                "image_size": 224,
                "projection_dim": 768,
            },
        ),
        "temporal_config": SubConfigSpec(config_class=AutoConfig, model_type=LmmVqaSlowFastConfig.model_type),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
    }
    # Trainer must not gather what evaluation never reads
    keys_to_ignore_at_inference = ["past_key_values", "cache", "image_hidden_states", "video_hidden_states"]

    vision_config: dict | PreTrainedConfig | None = None
    temporal_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    image_token_id: int = 128002
    video_token_id: int = 128003
    vision_feature_layer: int = -2
    vision_feature_select_strategy: Literal["default", "full"] = "default"
    spatial_projector_type: Literal["vit", "mlp", "perceiver"] = "vit"
    spatial_projector_num_attention_heads: int = 16
    spatial_projector_intermediate_size: int = 4096
    projector_dropout: float = 0.0
    spatial_grid_size: int = 16
    key_frame_views: int = 1
    spatial_reduction: Literal["none", "mean", "mean_features"] = "none"
    temporal_reduction: Literal["mean", "none"] = "mean"
    temporal_fusion: Literal["decoder", "vision"] = "decoder"
    temporal_placement: Literal["after", "interleaved"] = "after"
    temporal_projector_norm: bool = False
    spatial_projector_norm: bool = False
    decoder_attention: Literal["causal", "mmca"] = "causal"
    use_temporal_tokens: bool = True
    base_models: dict[str, str] | None = None
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        # The decoder decides: `tie_weights` reads the flag of the composite configuration only
        self.tie_word_embeddings = self.text_config.tie_word_embeddings

    def validate_sizes(self):
        """Numbers that no projector and no grid can have."""
        counts = ("spatial_grid_size", "key_frame_views")
        counts += tuple(f"spatial_projector_{name}" for name in ("num_attention_heads", "intermediate_size"))
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"got {name}={getattr(self, name)}, expected a whole number from 1 on.")
        if not 0 <= self.projector_dropout < 1:
            raise ValueError(f"got projector_dropout={self.projector_dropout}, expected a share from 0 to below 1.")

    def validate_temporal_placement(self):
        """Interleaved tokens are each key frame's and each chunk's own."""
        reductions = self.spatial_reduction, self.temporal_reduction
        if self.temporal_placement == "interleaved" and (
            reductions != ("none", "none") or self.temporal_fusion != "decoder"
        ):
            raise ValueError(
                f"got temporal_placement='interleaved' with spatial_reduction, temporal_reduction={reductions} and "
                f"temporal_fusion={self.temporal_fusion!r}, expected ('none', 'none') and 'decoder'; set these too."
            )

    @property
    def temporal_feature_size(self) -> int:
        """Length of the temporal tower's features of one chunk."""
        config = self.temporal_config
        return config.feature_size if config.model_type == LmmVqaSlowFastConfig.model_type else config.hidden_size


__all__ = ["LmmVqaConfig", "LmmVqaEfficientNetLiteConfig", "LmmVqaSlowFastConfig"]
