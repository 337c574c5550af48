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
"""LMM-VQA: key frames and chunks of a video become tokens beside a question, and a decoder answers (Fig. 2)."""

import inspect
import math
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModel, GenerationMixin, PreTrainedModel, ViTConfig
from transformers import initialization as init
from transformers.configuration_utils import PreTrainedConfig
from transformers.decision import DecisionConfig, Question
from transformers.decision.modeling_utils import DecisionMixin
from transformers.generation.utils import ALL_CACHE_NAMES
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    BaseModelOutputWithPooling,
    CausalLMOutputWithPast,
    ModelOutput,
)
from transformers.modeling_utils import slice_logits_to_keep
from transformers.models.vit.modeling_vit import ViTLayer
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, auto_docstring
from transformers.utils.generic import can_return_tuple, maybe_autocast

from .answer_tree_lmmvqa import AnswerTree, additive_mask
from .configuration_lmmvqa import LmmVqaConfig
from .decisions_lmmvqa import LmmVqaDecisionConfig
from .mmca_lmmvqa import MMCA, mmca_mask, visual_keys
from .modeling_efficientnet_lite import LmmVqaEfficientNetLiteModel
from .modeling_slowfast import LmmVqaSlowFastModel

# Saving a model copies the files that this one imports: the pipeline's is among them
from .pipeline_lmmvqa import choose_answers, choose_options


# What decoders and their outputs call the keys and values of what they have read: `past_key_values`, and `cache` since
# transformers 5.24
CACHE = ALL_CACHE_NAMES[0]

# An accelerator's tower sees at most so many one-second chunks at a time, so that memory does not grow with the video
TOWER_BATCH_SIZE = 16
# Of every method that takes what the towers see
VISUAL_ARGS = r"""
    pixel_values (`torch.Tensor` of shape `(chunks of the batch * key_frame_views, channels, height, width)`):
        Key frames, the first frame of each chunk in its views, video after video.
    pixel_values_videos (`torch.Tensor` of shape `(clips of the batch, frames, channels, height, width)`):
        Clips of the chunks, video after video.
    num_chunks (`torch.LongTensor` of shape `(num_videos,)`):
        How many chunks each video has.
    num_clips (`torch.LongTensor` of shape `(chunks of the batch,)`, *optional*):
        How many clips each chunk has; by default a clip is a chunk.
    num_frames (`torch.LongTensor` of shape `(clips of the batch,)`, *optional*):
        How many frames of each clip are its own.
    vision_features (`torch.Tensor` of shape `(chunks of the batch, tokens, vision hidden_size)`, *optional*):
        What `LmmVqaModel.encode_key_frames` gives, instead of `pixel_values`; or, with the decoder's hidden_size, what
        the spatial projector made of it, see `encode_pixels`.
    temporal_features (`torch.Tensor` of shape `(chunks of the batch, temporal feature_size)`, *optional*):
        What `LmmVqaModel.encode_chunks` gives, instead of `pixel_values_videos`.
"""


@auto_docstring(custom_intro="Base class for LMM-VQA outputs, with hidden states and attentions.")
@dataclass
class LmmVqaModelOutputWithPast(BaseModelOutputWithPast):
    r"""
    image_hidden_states (`torch.Tensor` of shape `(key-frame tokens of the batch, hidden_size)`, *optional*):
        Key-frame tokens in the decoder's width.
    video_hidden_states (`torch.Tensor` of shape `(temporal tokens of the batch, hidden_size)`, *optional*):
        Temporal tokens in the decoder's width.
    """

    image_hidden_states: torch.Tensor | None = None
    video_hidden_states: torch.Tensor | None = None


@auto_docstring(custom_intro="Base class for LMM-VQA causal language model outputs.")
@dataclass
class LmmVqaCausalLMOutputWithPast(CausalLMOutputWithPast):
    r"""
    image_hidden_states (`torch.Tensor` of shape `(key-frame tokens of the batch, hidden_size)`, *optional*):
        Key-frame tokens in the decoder's width.
    video_hidden_states (`torch.Tensor` of shape `(temporal tokens of the batch, hidden_size)`, *optional*):
        Temporal tokens in the decoder's width.
    """

    image_hidden_states: torch.Tensor | None = None
    video_hidden_states: torch.Tensor | None = None


class LmmVqaViewEmbedding(nn.Module):
    """Tells the views of a key frame apart: a learned vector is added to all tokens of each."""

    def __init__(self, config: LmmVqaConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(config.key_frame_views, config.vision_config.hidden_size))
        # The temporal token that stands behind a key frame's own is of no view
        self.num_others = int(config.use_temporal_tokens and config.temporal_fusion == "vision")

    def forward(self, features: torch.Tensor) -> torch.Tensor:  # (frames, tokens, vision_size), the same
        own = features[:, : features.shape[1] - self.num_others].unflatten(1, (len(self.weight), -1))
        own = (own + self.weight[:, None]).flatten(1, 2)
        return torch.cat([own, features[:, own.shape[1] :]], dim=1)


def view_embedding(config: LmmVqaConfig) -> nn.Module:
    """What a projector begins with; of one view, nothing."""
    return LmmVqaViewEmbedding(config) if config.key_frame_views > 1 else nn.Identity()


def output_norm(config: LmmVqaConfig) -> nn.Module:
    """What a projector ends with: nothing, or the LayerNorm that the configuration wants."""
    return nn.LayerNorm(config.text_config.hidden_size) if config.spatial_projector_norm else nn.Identity()


class LmmVqaVitProjector(nn.Module):
    """One ViT layer and one linear layer (Eq. 6)."""

    def __init__(self, config: LmmVqaConfig):
        super().__init__()
        vit_config = ViTConfig(
            hidden_size=config.vision_config.hidden_size,
            num_attention_heads=config.spatial_projector_num_attention_heads,
            intermediate_size=config.spatial_projector_intermediate_size,
            hidden_dropout_prob=config.projector_dropout,
            attn_implementation=config._attn_implementation,
        )
        self.view_embedding = view_embedding(config)
        self.layer = ViTLayer(vit_config)
        self.linear = nn.Linear(config.vision_config.hidden_size, config.text_config.hidden_size)
        self.output_norm = output_norm(config)

    def forward(self, features: torch.Tensor) -> torch.Tensor:  # (frames, tokens, vision_size)
        hidden = self.linear(self.layer(self.view_embedding(features)))
        return self.output_norm(hidden)  # (frames, tokens, hidden_size)


class LmmVqaMlpProjector(nn.Module):
    """Two linear layers with a GELU between them, as in LLaVA-1.5 (Table VIII a)."""

    def __init__(self, config: LmmVqaConfig):
        super().__init__()
        self.view_embedding = view_embedding(config)
        self.linear_1 = nn.Linear(config.vision_config.hidden_size, config.spatial_projector_intermediate_size)
        self.act = nn.GELU()
        self.linear_2 = nn.Linear(config.spatial_projector_intermediate_size, config.text_config.hidden_size)
        self.output_norm = output_norm(config)

    def forward(self, features: torch.Tensor) -> torch.Tensor:  # (frames, tokens, vision_size)
        hidden = self.linear_1(self.view_embedding(features))
        return self.output_norm(self.linear_2(self.act(hidden)))  # (frames, tokens, hidden_size)


class LmmVqaPerceiverProjector(nn.Module):
    """Learned queries, as many as there are tokens, attend to a frame's tokens; then one linear layer (Table VIII a)."""

    def __init__(self, config: LmmVqaConfig):
        super().__init__()
        width, num_heads = config.vision_config.hidden_size, config.spatial_projector_num_attention_heads
        if width % num_heads:
            raise ValueError(
                f"got spatial_projector_num_attention_heads={num_heads} for features of {width}, expected a divisor of "
                f"{width}; set one"
            )
        num_queries = config.key_frame_views * config.spatial_grid_size**2
        num_queries += config.use_temporal_tokens and config.temporal_fusion == "vision"
        self.view_embedding = view_embedding(config)
        self.queries = nn.Parameter(torch.zeros(num_queries, width))
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.linear = nn.Linear(width, config.text_config.hidden_size)
        self.output_norm = output_norm(config)

    def forward(self, features: torch.Tensor) -> torch.Tensor:  # (frames, tokens, vision_size)
        queries = self.queries.expand(features.shape[0], -1, -1)  # (frames, queries, vision_size)
        features = self.norm(self.view_embedding(features))
        attended, _ = self.attention(queries, features, features, need_weights=False)
        return self.output_norm(self.linear(queries + attended))  # (frames, queries, hidden_size)


def keeps_tokens(config: LmmVqaConfig) -> bool:
    """Whether a key frame is smaller behind its projector than before it, and its tokens hang on no other frame or chunk."""
    is_alone = config.spatial_reduction != "mean_features" and config.temporal_fusion == "decoder"
    return is_alone and config.text_config.hidden_size < config.vision_config.hidden_size


SPATIAL_PROJECTORS = {"vit": LmmVqaVitProjector, "mlp": LmmVqaMlpProjector, "perceiver": LmmVqaPerceiverProjector}


class LmmVqaTemporalProjector(nn.Linear):
    """One linear layer (Eq. 7), and a LayerNorm behind it where the configuration wants one."""

    def __init__(self, config: LmmVqaConfig):
        joins_vision = config.temporal_fusion == "vision"
        width = config.vision_config.hidden_size if joins_vision else config.text_config.hidden_size
        super().__init__(config.temporal_feature_size, width)
        self.norm = nn.LayerNorm(width) if config.temporal_projector_norm else nn.Identity()

    def forward(self, features: torch.Tensor) -> torch.Tensor:  # (chunks, feature_size), to (chunks, width)
        return self.norm(super().forward(features))


@auto_docstring
class LmmVqaPreTrainedModel(PreTrainedModel):
    config: LmmVqaConfig
    base_model_prefix = "model"
    input_modalities = ("image", "video", "text")
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = [CACHE]

    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # In bfloat16 features of SlowFast and CLIP move by some percent of their length, and scores of the compact vision
    # tower, which measures deviations of a few bits, by up to 9 of 100
    _keep_in_fp32_modules_strict = ["vision_tower", "temporal_tower"]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """
        Raises:
            OSError: there are no such weights, or their file is damaged or cut.
        """
        try:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except SafetensorError as error:
            raise OSError(
                f"got weights in {pretrained_model_name_or_path} that are damaged or cut ({error}), expected whole "
                "safetensors files; copy or download them again"
            ) from error

    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, LmmVqaPerceiverProjector):
            init.normal_(module.queries, std=self.config.get_text_config().initializer_range)
        elif isinstance(module, LmmVqaViewEmbedding):
            init.zeros_(module.weight)

    @property
    def dtype(self) -> torch.dtype:
        """The decoder's and the projectors'; towers stay in float32."""
        return self.get_input_embeddings().weight.dtype


def _portions(pixels: torch.Tensor, tower: nn.Module) -> tuple[torch.Tensor, ...]:
    """Splits what a tower shall see, first dimension chunks, into what it sees at a time."""
    # BatchNorm's statistics are of the whole batch, ZeRO-3 gathers weights in as many passes on every device, and a graph
    # takes batches of any size
    if tower.training or is_deepspeed_zero3_enabled() or torch.compiler.is_compiling():
        return (pixels,)
    if pixels.device.type != "cpu":
        return pixels.split(TOWER_BATCH_SIZE)
    # A CPU's cache holds the maps of few key frames, one for each of two threads; portions of one or eight take a fifth
    # longer. Of single chunks PyTorch computes most 3-D convolutions by a slow path
    return pixels.split(2 if pixels.ndim == 4 else 4)


def _auto_tower(config: PreTrainedConfig) -> PreTrainedModel:
    """A tower of transformers, in float32."""
    attention = config._attn_implementation
    if attention and "flash" in attention:  # which takes half precision alone
        attention = "sdpa"
    return AutoModel.from_config(config, dtype=torch.float32, attn_implementation=attention)


def _run_tower(tower: nn.Module, pixels: torch.Tensor, **inputs) -> ModelOutput:
    """In the precision of the tower's weights, in mixed precision too; of a frozen one nothing is kept for gradients."""
    # Activation checkpointing makes embeddings require gradients, those of a frozen tower as well
    is_trained = pixels.requires_grad or any(parameter.requires_grad for parameter in tower.parameters())
    with (
        maybe_autocast(pixels.device.type, enabled=False),
        torch.set_grad_enabled(torch.is_grad_enabled() and is_trained),
    ):
        return tower(pixels, **inputs)


def _hidden_state(output: ModelOutput, config: LmmVqaConfig) -> torch.Tensor:
    """
    (frames, tokens, vision_size) of the layer that the configuration asks for.

    Raises:
        ValueError: the vision tower has no such layer.
    """
    layer, count = config.vision_feature_layer, len(output.hidden_states)
    if not -count <= layer < count:
        raise ValueError(
            f"got vision_feature_layer={layer} of a vision tower with {count} hidden states, expected {-count} to "
            f"{count - 1}; set one of these"
        )
    return output.hidden_states[layer]


def _grid_side(num_tokens: int, num_others: int, size: int, config: LmmVqaConfig) -> int:
    """
    Side of the grid that the selected tokens make.

    Args:
        num_others: tokens before those of patches, where the tower has them.
        size: side of the key frames in pixels.

    Raises:
        ValueError: they make none that can be pooled; it says what would.
    """
    side, wanted = math.isqrt(num_tokens), config.spatial_grid_size
    if side**2 != num_tokens:
        drops = config.vision_feature_select_strategy == "default"
        other, count = ("full", num_tokens + num_others) if drops else ("default", num_tokens - num_others)
        if count > 0 and math.isqrt(count) ** 2 == count:
            advice = f"set vision_feature_select_strategy={other}"
        else:
            advice = (
                "take a tower whose tokens are patches of a square, with CLS and register tokens before them or none"
            )
        raise ValueError(
            f"got {num_tokens} tokens a key frame from the vision tower, expected a square grid; {advice}"
        )
    if side % wanted:
        sizes = ", ".join(str(divisor) for divisor in range(side, 0, -1) if side % divisor == 0)
        raise ValueError(
            f"got a grid of {side} x {side} tokens a key frame from the vision tower, expected a side that "
            f"spatial_grid_size={wanted} divides; set spatial_grid_size to one of {sizes}, or key_frame_size to a multiple "
            f"of {size // side * wanted}"
        )
    return side


def _split_videos(tokens: torch.Tensor, num_chunks: torch.LongTensor | None) -> tuple[torch.Tensor, ...]:
    """Tokens of the batch, first dimension chunks, to those of each video."""
    if num_chunks is None:
        raise ValueError("got chunks without num_chunks, expected how many chunks each video has; pass it on")
    return tokens.split(num_chunks.tolist())


@auto_docstring(custom_intro="The two towers, their projectors and the decoder, without language modeling head.")
class LmmVqaModel(LmmVqaPreTrainedModel):
    def __init__(self, config: LmmVqaConfig):
        super().__init__(config)
        # By name: as remote code our config classes exist once per entry file, so no Auto class can know them
        if config.vision_config.model_type == "lmmvqa_efficientnet_lite":
            self.vision_tower = LmmVqaEfficientNetLiteModel._from_config(config.vision_config, dtype=torch.float32)
        else:
            self.vision_tower = _auto_tower(config.vision_config)
        parameters = inspect.signature(self.vision_tower.forward).parameters
        needed = [
            name
            for name, parameter in parameters.items()
            if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        ]
        if needed not in ([], ["pixel_values"]):
            raise ValueError(
                f"got a {type(self.vision_tower).__name__}, which wants {', '.join(needed)}, expected a vision tower of "
                "square pictures alone, as CLIP, SigLIP and DINO are; of models for any aspect (NaFlex) take the version of "
                "a fixed resolution"
            )
        self._vision_options = {"output_hidden_states": True}
        if "interpolate_pos_encoding" in parameters:  # which changes nothing at the tower's own size
            self._vision_options["interpolate_pos_encoding"] = True
        self.spatial_projector = SPATIAL_PROJECTORS[config.spatial_projector_type](config)
        if config.use_temporal_tokens:
            self._is_slowfast = config.temporal_config.model_type == "lmmvqa_slowfast"
            if self._is_slowfast:
                self.temporal_tower = LmmVqaSlowFastModel._from_config(config.temporal_config, dtype=torch.float32)
            else:
                self.temporal_tower = _auto_tower(config.temporal_config)
            # V-JEPA 2 predicts what it sees beside encoding it
            skips = "skip_predictor" in inspect.signature(self.temporal_tower.forward).parameters
            self._temporal_options = {"skip_predictor": True} if skips else {}
            self.temporal_projector = LmmVqaTemporalProjector(config)
        self.dropout = nn.Dropout(config.projector_dropout)
        attention = {"attn_implementation": MMCA} if config.decoder_attention == "mmca" else {}
        self.language_model = AutoModel.from_config(config.text_config, **attention)
        self.post_init()

    def train(self, mode: bool = True):
        """
        As `nn.Module.train`, but what is frozen of a tower stays in eval mode: statistics of BatchNorm move only beside
        weights that are trained, with which they are saved.
        """
        super().train(mode)
        for name, tower in self.named_children():
            for module in tower.modules() if name.endswith("_tower") else ():
                is_trained = any(parameter.requires_grad for parameter in module.parameters())
                if not is_trained and any(True for _ in (*module.parameters(), *module.buffers())):
                    module.eval()
        return self

    def encode_key_frames(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """
        Features of the vision tower before the projector: what a feature cache stores.

        Args:
            pixel_values: (key frames * key_frame_views, channels, height, width).

        Returns:
            (key frames, key_frame_views * spatial_grid_size**2, vision hidden_size); every token for the perceiver, which
            pools itself.
        """
        features = torch.cat(
            [
                _hidden_state(_run_tower(self.vision_tower, frames, **self._vision_options), self.config)
                for frames in _portions(pixel_values, self.vision_tower)
            ]
        )  # (frames, tokens, vision_size)
        others = 1 + self.config.vision_config.to_dict().get("num_register_tokens", 0)
        if self.config.vision_feature_select_strategy == "default":
            features = features[:, others:]
        if self.config.spatial_projector_type == "perceiver":
            return self._join_views(features)
        side = _grid_side(features.shape[1], others, pixel_values.shape[-1], self.config)
        grid = features.transpose(1, 2).unflatten(2, (side, side))  # (frames, vision_size, side, side)
        grid = nn.functional.avg_pool2d(grid, side // self.config.spatial_grid_size)
        return self._join_views(grid.flatten(2).transpose(1, 2))

    def _join_views(self, features: torch.Tensor) -> torch.Tensor:
        """(key frames * views, tokens, vision_size) to (key frames, views * tokens, vision_size)."""
        views = self.config.key_frame_views
        if features.shape[0] % views:
            raise ValueError(
                f"got {features.shape[0]} pictures for the vision tower, expected a multiple of key_frame_views={views}; give "
                "the video processor as many key_frame_fragments"
            )
        return features.unflatten(0, (-1, views)).flatten(1, 2)

    def encode_chunks(
        self,
        pixel_values_videos: torch.Tensor,
        num_clips: torch.LongTensor | None = None,
        num_frames: torch.LongTensor | None = None,
    ) -> torch.Tensor:
        """
        Features of the temporal tower before the projector: what a feature cache stores.

        Args:
            pixel_values_videos: (clips, frames, channels, height, width).
            num_clips: (chunks,) clips of each chunk; by default a clip is a chunk, and all of its frames are its own.
            num_frames: (clips,) frames of each clip that are its own.

        Returns:
            (chunks, temporal feature_size), the mean of each chunk's clips, weighted by their frames.
        """
        portions = _portions(pixel_values_videos, self.temporal_tower)
        if num_clips is None:
            return torch.cat([self.encode_clips(clips) for clips in portions])
        sizes = [len(clips) for clips in portions]
        features = torch.cat(
            [self.encode_clips(clips, own) for clips, own in zip(portions, num_frames.split(sizes), strict=True)]
        )  # (clips, feature_size)
        weights = num_frames.to(features)[:, None]
        chunks = zip((features * weights).split(num_clips.tolist()), weights.split(num_clips.tolist()), strict=True)
        return torch.stack([weighted.sum(0) / of_chunk.sum() for weighted, of_chunk in chunks])

    def encode_clips(self, clips: torch.Tensor, num_frames: torch.LongTensor | None = None) -> torch.Tensor:
        """(clips, frames, channels, height, width) to (clips, temporal feature_size); SlowFast alone leaves frames out."""
        if self._is_slowfast:
            return _run_tower(self.temporal_tower, clips, num_frames=num_frames).pooler_output
        features = _run_tower(self.temporal_tower, clips, **self._temporal_options).last_hidden_state
        return features.mean(1) if features.ndim == 3 else features

    @can_return_tuple
    @auto_docstring(
        custom_intro='Key frames to tokens in the decoder\'s width (Eq. 4 and 6); clips join with `temporal_fusion="vision"`.',
        custom_args=VISUAL_ARGS,
    )
    def get_image_features(
        self,
        pixel_values: torch.Tensor | None = None,
        num_chunks: torch.LongTensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        num_clips: torch.LongTensor | None = None,
        num_frames: torch.LongTensor | None = None,
        vision_features: torch.Tensor | None = None,
        temporal_features: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | BaseModelOutputWithPooling:
        if vision_features is None:
            vision_features = self.encode_key_frames(pixel_values)
        tokens = self.dropout(vision_features.to(self.dtype))  # (chunks, tokens, vision_size)
        if self.config.use_temporal_tokens and self.config.temporal_fusion == "vision":
            if temporal_features is None:
                temporal_features = self.encode_chunks(pixel_values_videos, num_clips, num_frames)
            temporal_tokens = self.temporal_projector(self.dropout(temporal_features.to(self.dtype)))
            tokens = torch.cat([tokens, temporal_tokens.unsqueeze(1)], dim=1)
        if self.config.spatial_reduction == "mean_features":
            tokens = torch.stack([frames.mean(0) for frames in _split_videos(tokens, num_chunks)])
            num_chunks = torch.ones(len(tokens), dtype=torch.long)
        if not (keeps_tokens(self.config) and tokens.shape[-1] == self.config.text_config.hidden_size):
            tokens = self.spatial_projector(tokens)  # (chunks, tokens, hidden_size)
        videos = _split_videos(tokens, num_chunks)
        if self.config.spatial_reduction == "mean":
            videos = [frames.mean(0, keepdim=True) for frames in videos]
        return BaseModelOutputWithPooling(
            last_hidden_state=vision_features, pooler_output=[frames.flatten(0, 1) for frames in videos]
        )

    @can_return_tuple
    @auto_docstring(
        custom_intro="Chunks to temporal tokens in the decoder's width (Eq. 5 and 7).", custom_args=VISUAL_ARGS
    )
    def get_video_features(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        num_chunks: torch.LongTensor | None = None,
        num_clips: torch.LongTensor | None = None,
        num_frames: torch.LongTensor | None = None,
        temporal_features: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | BaseModelOutputWithPooling | None:
        if not self.config.use_temporal_tokens or self.config.temporal_fusion == "vision":
            return None  # no temporal tokens, or they are among the key-frame tokens already
        if temporal_features is None:
            temporal_features = self.encode_chunks(pixel_values_videos, num_clips, num_frames)
        tokens = self.temporal_projector(self.dropout(temporal_features.to(self.dtype)))  # (chunks, hidden_size)
        videos = _split_videos(tokens, num_chunks)
        if self.config.temporal_reduction == "mean":
            videos = [chunks.mean(0, keepdim=True) for chunks in videos]
        return BaseModelOutputWithPooling(last_hidden_state=temporal_features, pooler_output=list(videos))

    def visual_outputs(self, **inputs) -> dict[str, BaseModelOutputWithPooling | None]:
        """All that the processor gives to what `forward` and `generate` take as `mm_encoder_outputs`."""
        return {
            "image": self.get_image_features(**inputs, return_dict=True),
            "video": self.get_video_features(**inputs, return_dict=True),
        }

    def get_placeholder_mask(
        self,
        input_ids: torch.LongTensor | None,
        inputs_embeds: torch.Tensor,
        features: torch.Tensor | None,
        token_id: int,
    ) -> torch.Tensor:
        """
        Where the placeholders of one modality are.

        Args:
            input_ids: (batch, sequence), or None where only `inputs_embeds` (batch, sequence, hidden_size) is known.
            features: (tokens of the batch, hidden_size) that will take the places, None for none.
            token_id: the modality's placeholder.

        Returns:
            (batch, sequence, 1) bool.

        Raises:
            ValueError: the number of placeholders and of features differ.
        """
        if input_ids is None:
            embedding = self.get_input_embeddings()(torch.tensor(token_id, device=inputs_embeds.device))
            mask = (inputs_embeds == embedding).all(-1)
        else:
            mask = input_ids == token_id
        expected = 0 if features is None else features.shape[0]
        if mask.sum() != expected:
            raise ValueError(
                f"got {int(mask.sum())} placeholders with token id {token_id} in the prompts for {expected} visual "
                "tokens, expected equal numbers; build the prompts with LmmVqaProcessor under the model's own settings"
            )
        return mask.unsqueeze(-1)

    def _scatter(
        self,
        visual: dict[str, BaseModelOutputWithPooling | None],
        input_ids: torch.LongTensor | None,
        inputs_embeds: torch.Tensor,
        is_prefill: bool,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """
        Visual tokens in the places of their placeholders, whose numbers are compared even where there are none of the one.

        Args:
            visual: outputs of `get_image_features` ("image") and `get_video_features` ("video").

        Returns:
            (batch, sequence, hidden_size), (tokens of the batch, hidden_size) of each modality, and (batch, sequence) bool
            where they are.
        """
        placed = {}
        is_visual = torch.zeros(inputs_embeds.shape[:2], dtype=torch.bool, device=inputs_embeds.device)
        for modality, token_id in (("image", self.config.image_token_id), ("video", self.config.video_token_id)):
            if visual.get(modality) is not None:
                placed[modality] = torch.cat(list(visual[modality].pooler_output)).to(inputs_embeds)
            if modality in placed or is_prefill:
                mask = self.get_placeholder_mask(input_ids, inputs_embeds, placed.get(modality), token_id)
                is_visual = is_visual | mask.squeeze(-1)
            if modality in placed:
                inputs_embeds = inputs_embeds.masked_scatter(mask, placed[modality])
        return inputs_embeds, placed, is_visual

    def _decode(
        self, is_visual: torch.Tensor, attention_mask: torch.Tensor | None, inputs_embeds: torch.Tensor, **kwargs
    ) -> BaseModelOutputWithPast:
        """
        The decoder, with its own attention or the one that must know which tokens are visual.

        Args:
            is_visual: (batch, sequence) bool.
            inputs_embeds: (batch, sequence, hidden_size).
        """
        weighs_apart = self.config.decoder_attention == "mmca"
        if weighs_apart:
            keys = visual_keys(is_visual, kwargs.get(CACHE))
            seen = torch.ones_like(keys) if attention_mask is None else attention_mask
            attention_mask = mmca_mask(seen, keys, inputs_embeds.shape[1], inputs_embeds.dtype)
        outputs = self.language_model(attention_mask=attention_mask, inputs_embeds=inputs_embeds, **kwargs)
        if weighs_apart and outputs.get(CACHE) is not None:  # for the attention of what follows
            outputs[CACHE].visual_keys = keys
        return outputs

    @can_return_tuple
    @auto_docstring(custom_args=VISUAL_ARGS)
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        num_chunks: torch.LongTensor | None = None,
        num_clips: torch.LongTensor | None = None,
        num_frames: torch.LongTensor | None = None,
        vision_features: torch.Tensor | None = None,
        temporal_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | LmmVqaModelOutputWithPast:
        r"""
        mm_encoder_outputs (`dict`, *optional*):
            Outputs of `get_image_features` ("image") and `get_video_features` ("video"), as `generate` prepares them.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("got both or none of input_ids and inputs_embeds, expected exactly one of them")
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)  # (batch, sequence, hidden_size)

        visual = dict(mm_encoder_outputs or {})
        if pixel_values is not None or vision_features is not None:
            visual["image"] = self.get_image_features(
                pixel_values,
                num_chunks,
                pixel_values_videos,
                num_clips,
                num_frames,
                vision_features,
                temporal_features,
                return_dict=True,
            )
        if pixel_values_videos is not None or temporal_features is not None:
            visual["video"] = self.get_video_features(
                pixel_values_videos, num_chunks, num_clips, num_frames, temporal_features, return_dict=True
            )

        cache = kwargs.get(CACHE)
        is_prefill = cache is None or cache.get_seq_length() == 0
        inputs_embeds, placed, is_visual = self._scatter(visual, input_ids, inputs_embeds, is_prefill)
        outputs = self._decode(is_visual, attention_mask, inputs_embeds, position_ids=position_ids, **kwargs)
        return LmmVqaModelOutputWithPast(
            **outputs, image_hidden_states=placed.get("image"), video_hidden_states=placed.get("video")
        )


@auto_docstring(custom_intro="LMM-VQA with a language modeling head: answers questions on the quality of a video.")
class LmmVqaForConditionalGeneration(LmmVqaPreTrainedModel, GenerationMixin):
    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}

    def __init__(self, config: LmmVqaConfig):
        super().__init__(config)
        self.model = LmmVqaModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    @can_return_tuple
    @auto_docstring(custom_args=VISUAL_ARGS)
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        num_chunks: torch.LongTensor | None = None,
        num_clips: torch.LongTensor | None = None,
        num_frames: torch.LongTensor | None = None,
        vision_features: torch.Tensor | None = None,
        temporal_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | LmmVqaCausalLMOutputWithPast:
        r"""
        mm_encoder_outputs (`dict`, *optional*):
            Outputs of `get_image_features` ("image") and `get_video_features` ("video"), as `generate` prepares them.
        """
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            pixel_values_videos=pixel_values_videos,
            num_chunks=num_chunks,
            num_clips=num_clips,
            num_frames=num_frames,
            vision_features=vision_features,
            temporal_features=temporal_features,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            mm_encoder_outputs=mm_encoder_outputs,
            **kwargs,
        )
        logits = self.lm_head(slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.text_config.vocab_size, **kwargs
            )
        others = {name: value for name, value in outputs.items() if name != "last_hidden_state"}
        return LmmVqaCausalLMOutputWithPast(loss=loss, logits=logits, **others)

    @torch.no_grad()
    def encode_pixels(
        self,
        pixel_values: torch.Tensor,
        pixel_values_videos: torch.Tensor,
        num_clips: torch.LongTensor | None = None,
        num_frames: torch.LongTensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        What is kept of a video while the rest of it is read, to be given to `forward` in place of pixels: both towers'
        features, and in place of a key frame's its tokens in the decoder's width where those are smaller (`keeps_tokens`).

        Args:
            pixel_values: (chunks * key_frame_views, channels, height, width).
            pixel_values_videos: (clips, frames, channels, height, width).
            num_clips, num_frames: see `LmmVqaModel.encode_chunks`.

        Returns:
            (chunks, tokens, vision hidden_size or hidden_size) and (chunks, temporal feature_size), or None without temporal
            tower; in the model's dtype, as the projectors take features.
        """
        temporal_features = None
        if self.config.use_temporal_tokens:
            temporal_features = self.model.encode_chunks(pixel_values_videos, num_clips, num_frames).to(self.dtype)
        vision_features = self.model.encode_key_frames(pixel_values).to(self.dtype)
        if keeps_tokens(self.config):
            vision_features = self.model.spatial_projector(vision_features)
        return vision_features, temporal_features

    @torch.no_grad()
    def rate_videos(
        self, processor, videos, video_metadata=None, fps: float | None = None, on_error: str = "raise"
    ) -> list:
        """
        Scores videos of any length, as the pipeline does: the towers see each video once, one that is longer than the
        processor's `max_window_seconds` or the decoder's context is judged in windows, and their answers are mixed.

        Args:
            processor: the model's `LmmVqaProcessor`.
            videos: one video or a list, in any form of `video_inputs_lmmvqa.make_video_list`; they are asked about
                together.
            video_metadata, fps: the frame rates of arrays and lists of pictures, see there.
            on_error: with "row" a video that cannot be read gives `{"error": one line}` in its place, as in the pipeline,
                and the others are rated.

        Returns:
            A `QualityResult` for each video.

        Raises:
            VideoDecodingError: with `on_error="raise"`, a video of which no frame can be read.
            ValueError: another `on_error`.
        """
        if on_error not in ("raise", "row"):
            raise ValueError(f"got on_error={on_error!r}, expected 'raise' or 'row'")
        rows, encoded = [], []
        for video in processor.video_processor.make_video_list(videos, video_metadata, fps):
            row = None
            try:
                encoded += processor.video_processor.encode([video], self)
            except (ValueError, TypeError, OSError) as error:
                if on_error == "raise":
                    raise
                row = {"error": " ".join(str(error).split())}
            rows.append(row)
        answered = choose_answers(self, processor, encoded, processor.result_questions)
        results = (
            processor.post_process_window_scores(windows, scores, facts, *damages)
            for windows, (scores, *damages), facts in answered
        )
        return [row or next(results) for row in rows]

    @torch.no_grad()
    def answer_log_probabilities(
        self, answer_ids: list[list[int]], input_ids: torch.LongTensor, attention_mask: torch.Tensor, **inputs
    ) -> torch.Tensor:
        """
        The model's own distribution over the given answers: deterministic, and at most one short forward pass beyond
        the prefill, none where every answer is one token.

        Args:
            answer_ids: token ids of each answer in its context, without end-of-turn token; see
                `LmmVqaProcessor.score_answer_ids`, `level_answer_ids` and `damage_answer_ids` there.
            input_ids: (batch, sequence) prompts, padded on the left.
            attention_mask: (batch, sequence), 0 on padding.
            **inputs: the processor's other outputs, passed to `forward`.

        Returns:
            (batch, number of answers) float32 log probabilities, normalised over the answers.

        Raises:
            ValueError: the prompts are padded on the right, or longer than the decoder's context; or the distribution is
                not finite.
        """
        tree = AnswerTree(answer_ids)
        self._check_prompts(attention_mask, tree)
        outputs = self(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=(attention_mask.cumsum(-1) - 1).clamp(min=0),
            use_cache=bool(tree.token_ids),
            logits_to_keep=1,
            **inputs,
        )
        logits = outputs.logits  # (batch, 1, vocabulary)
        if tree.token_ids:
            if "flash" in self.config._attn_implementation:
                raise ValueError(
                    f"got attn_implementation={self.config._attn_implementation!r}, expected one that takes masks, since "
                    "this tokenizer splits answers into several tokens; load the model with attn_implementation='sdpa'"
                )
            node_ids, positions, seen = tree.nodes_behind(attention_mask.bool())
            nodes = self(
                input_ids=node_ids,
                attention_mask=additive_mask(seen[:, None], logits.dtype),
                position_ids=positions,
                **{CACHE: outputs[CACHE]},
            )
            logits = torch.cat([logits, nodes.logits], dim=1)  # (batch, 1 + nodes, vocabulary)
        log_probabilities = tree.log_probabilities(logits)
        num_finite = int(log_probabilities.isfinite().all(-1).sum())
        if num_finite < len(input_ids):
            raise ValueError(
                f"got NaN or infinite answer probabilities for {len(input_ids) - num_finite} of {len(input_ids)} prompts, "
                "expected finite ones; the weights are damaged, or the dtype is too narrow for them: see `lmmvqa "
                "selfcheck`"
            )
        return log_probabilities

    def _check_prompts(self, attention_mask: torch.Tensor, tree: AnswerTree) -> None:
        if not attention_mask[:, -1].all():
            raise ValueError("got prompts padded on the right, expected the left; set tokenizer.padding_side='left'")
        num_positions = attention_mask.shape[1] + max(tree.depths, default=0)
        max_positions = self.config.get_text_config().max_position_embeddings
        if num_positions > max_positions:
            raise ValueError(
                f"got a prompt that needs {num_positions} positions with its answers, expected at most the decoder's "
                f"{max_positions}; score long videos with `rate_videos` or the pipeline, which cut them into windows"
            )


@auto_docstring(
    custom_intro="""
    LMM-VQA that answers typed questions about a video or picture with a probability for every option, as
    `pipeline("decision")` and `/v1/systemone` of `transformers serve` ask them; see `decisions_lmmvqa`.
    """
)
class LmmVqaForDecision(DecisionMixin, LmmVqaForConditionalGeneration):
    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        # The mixin's looks for the weights of a head, and there is none
        return super(DecisionMixin, cls).from_pretrained(*args, **kwargs)

    def post_init(self):
        super().post_init()
        self.decision_config = LmmVqaDecisionConfig()

    @torch.no_grad()
    def decide(
        self,
        input_ids: torch.LongTensor,
        video,
        processor,
        decision_questions: list[Question],
        decision_config: DecisionConfig | None = None,
    ) -> list[torch.Tensor]:
        """
        Args:
            input_ids: (1, sequence_length), the prompt without visual tokens, by which callers count; it is made anew with
                the video.
            video: what is asked about, in any form of `video_inputs_lmmvqa.make_video_list`.
            processor: the model's `LmmVqaProcessor`.
            decision_questions: of `LmmVqaDecisionConfig.prepare_inputs`.
            decision_config: changes nothing.

        Returns:
            (options,) log probabilities for each question.

        Raises:
            VideoDecodingError: a video of which no frame can be read.
        """
        return choose_options(self, processor, video, decision_questions)


__all__ = ["LmmVqaForConditionalGeneration", "LmmVqaForDecision", "LmmVqaModel", "LmmVqaPreTrainedModel"]
