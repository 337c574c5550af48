"""Public checkpoints of a vision tower, a temporal tower and a decoder -> one LMM-VQA checkpoint with new projectors.

Weights are mapped from their files and written shard by shard: no second copy of a part is ever in memory.
"""

import json
from pathlib import Path

import torch
from transformers import AutoModel, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils import cached_file

from ..modeling_lmmvqa.answer_tree_lmmvqa import AnswerTree
from ..modeling_lmmvqa.configuration_lmmvqa import LmmVqaConfig
from ..modeling_lmmvqa.mmca_lmmvqa import MMCA
from ..modeling_lmmvqa.modeling_lmmvqa import LmmVqaForConditionalGeneration
from ..processing.context_lmmvqa import TOKEN_LAYOUT
from ..processing.processing_lmmvqa import LmmVqaProcessor
from ..processing.video_processing_lmmvqa import SETTINGS, LmmVqaVideoProcessor
from .base_models import (
    load_decoder,
    load_temporal_tower,
    load_vision_tower,
    read_decoder_config,
    read_temporal_config,
    read_tokenizer,
    read_vision_config,
    temporal_settings,
)
from .decoder_tokenizer import fix_chat, reserve_tokens
from .export import save_checkpoint
from .model_card import model_card


# The paper's model, its fast setting, that of general video understanding (section IV-D) and its ablations (Table VII)
PAPER = {"chunk_sampling": "second", "keep_incomplete_second": False}  # K = floor(N / tau) chunks, Eq. 2
PRESETS = {
    "paper": PAPER,
    "paper-64": PAPER | {"spatial_grid_size": 8},
    "general": PAPER | {"spatial_grid_size": 8, "temporal_reduction": "none"},  # 64 + 1 tokens a frame
    # VQA2's order of tokens, and a norm behind the projection
    "interleaved": PAPER
    | {"temporal_reduction": "none", "temporal_placement": "interleaved", "temporal_projector_norm": True},
    # Code of the paper's group, as far as it can be read; docs/paper.md says what it does otherwise
    "circulating": PAPER
    | {
        "key_frame_resize": "crop",
        "chunk_sampling": "first_frames",
        "vision_feature_layer": -1,
        "spatial_reduction": "mean_features",
        "spatial_projector_norm": True,
        "temporal_fusion": "vision",
        "temporal_projector_norm": True,
        "decoder_attention": "mmca",
    },
    "wo-temporal": PAPER | {"use_temporal_tokens": False},
    "llama-2": PAPER,
}
DEFAULT_VISION = "openai/clip-vit-large-patch14"
DEFAULT_DECODERS = dict.fromkeys(PRESETS, "meta-llama/Meta-Llama-3-8B-Instruct") | {
    "llama-2": "meta-llama/Llama-2-7b-chat-hf"
}

# What `options` may set: every choice of LmmVqaConfig, and how videos are scaled
OPTIONS = {
    name: getattr(LmmVqaConfig, name)
    for name in LmmVqaConfig.__annotations__
    if not name.endswith(("_config", "_token_id"))
    and name not in ("tie_word_embeddings", "base_models", "key_frame_views")
} | {name: getattr(LmmVqaVideoProcessor, name) for name in SETTINGS}


def parse_option(text: str) -> tuple[str, object]:
    """
    `spatial_grid_size=8` to a name and a value of the type that the option has; lists as JSON.

    Raises:
        ValueError: there is no such option, or the value cannot be read.
    """
    name, _, value = text.partition("=")
    _refuse_unknown([name])
    if isinstance(OPTIONS[name], str):
        return name, value
    try:
        read = json.loads(value)
        return name, float(read) if isinstance(OPTIONS[name], float) and type(read) is int else read
    except json.JSONDecodeError as error:
        raise ValueError(
            f"got {name}={value}, expected a value in JSON: a number, true or false, or a list such as [1, 4]"
        ) from error


def _refuse_unknown(names) -> None:
    unknown = sorted(set(names) - OPTIONS.keys())
    if unknown:
        raise ValueError(f"got the options {', '.join(unknown)}, expected some of {', '.join(sorted(OPTIONS))}")


def preset_options(preset: str) -> dict:
    """
    Raises:
        ValueError: there is no such preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"got the preset {preset!r}, expected one of {', '.join(PRESETS)}")
    return PRESETS[preset]


def composite_config(
    vision_config: PreTrainedConfig, temporal_config: PreTrainedConfig, decoder_config: PreTrainedConfig, **options
) -> LmmVqaConfig:
    """
    Args:
        options: some of `OPTIONS`; those of the video processor are left out here.

    Raises:
        ValueError: an option is unknown.
    """
    _refuse_unknown(options)
    choices = {name: value for name, value in options.items() if name not in SETTINGS}
    if isinstance(fragments := options.get("key_frame_fragments"), list):
        choices["key_frame_views"] = len(fragments)
    parts = {"vision_config": vision_config, "temporal_config": temporal_config, "text_config": decoder_config}
    # Without the place on this machine that a configuration was read from
    dicts = {name: {**part.to_dict(), "_name_or_path": ""} for name, part in parts.items()}
    return LmmVqaConfig(**dicts, **choices)


def meta_model(config: LmmVqaConfig, key_frame_size: int) -> LmmVqaForConditionalGeneration:
    """
    The model without memory for its weights.

    Raises:
        ValueError: the vision tower does not take key frames of this size, or its tokens do not make the grid that the
            configuration asks for; or a decoder ties its head to embeddings of another name than Llama's.
    """
    with torch.device("meta"):
        language_model = AutoModel.from_config(config.text_config)
        if config.tie_word_embeddings and "embed_tokens" not in dict(language_model.named_children()):
            raise ValueError(
                f"got a {type(language_model).__name__}, which ties its head to other embeddings than `embed_tokens`, "
                "expected a decoder such as Llama, Qwen or SmolLM2"
            )
        model = LmmVqaForConditionalGeneration(config).eval()
        try:
            model.model.encode_key_frames(torch.empty(config.key_frame_views, 3, key_frame_size, key_frame_size))
        except (RuntimeError, IndexError) as error:
            raise ValueError(
                f"got key_frame_size={key_frame_size} for a {type(model.model.vision_tower).__name__}, expected a tower that "
                f"makes tokens of such key frames ({error}); leave the option out, or take a tower such as CLIP"
            ) from error
    return model


def _check_chunks(model: LmmVqaForConditionalGeneration, video_processor: LmmVqaVideoProcessor) -> None:
    """
    Raises:
        ValueError: the temporal tower does not take chunks of the video processor's settings.
    """
    frames, size = video_processor.chunk_frames, video_processor.chunk_size
    tower = model.model.temporal_tower
    try:
        with torch.device("meta"):
            features = model.model.encode_chunks(torch.empty(1, frames, 3, size, size))
        fits = features.shape == (1, model.config.temporal_feature_size)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"got chunk_frames={frames} and chunk_size={size} for a {type(tower).__name__}, expected what it takes ({error}); "
            "leave both out, or set those of its configuration"
        ) from error
    if not fits:
        raise ValueError(
            f"got features {tuple(features.shape)} of one clip from a {type(tower).__name__}, expected (1, "
            f"{model.config.temporal_feature_size}); take a video model that gives (clips, tokens, channels)"
        )


def key_frame_size(vision_config: PreTrainedConfig, options: dict) -> int:
    """
    Side of the key frames in pixels: the option, or what the vision tower was trained on.

    Raises:
        ValueError: neither is known.
    """
    size = options.get("key_frame_size", vision_config.to_dict().get("image_size"))
    if size is None:
        raise ValueError(
            f"got a {vision_config.model_type} whose configuration names no image_size, expected key_frame_size among "
            "the options"
        )
    return size


def _video_processor(
    vision: str, vision_config: PreTrainedConfig, options: dict, temporal_settings: dict
) -> LmmVqaVideoProcessor:
    settings = temporal_settings | {"key_frame_size": key_frame_size(vision_config, options)}
    file = cached_file(vision, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
    if file is not None:
        preprocessor = json.loads(Path(file).read_text(encoding="utf-8"))
        settings |= {name: preprocessor[name] for name in ("image_mean", "image_std")}
    elif not vision_config.model_type.startswith("clip") and not {"image_mean", "image_std"} <= options.keys():
        raise ValueError(
            f"got {vision} without preprocessor_config.json, expected it to say how pictures are normalised; add the "
            "file, or image_mean and image_std to the options"
        )
    return LmmVqaVideoProcessor(**settings | {name: options[name] for name in SETTINGS if name in options})


def _fill(model: LmmVqaForConditionalGeneration, decoder: PreTrainedModel, towers: dict[str, PreTrainedModel]) -> None:
    """Puts the parts in their places and draws the projectors' weights, in the decoder's dtype, from a fixed seed."""
    for name, part in {"language_model": decoder.base_model, **towers}.items():
        expected = type(model.model.get_submodule(name))
        if type(part) is not expected:
            raise ValueError(f"got a {type(part).__name__} for the {name}, expected a {expected.__name__}")
        setattr(model.model, name, part)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, module in model.model.named_children():
            if name.endswith("_projector"):
                module.to_empty(device="cpu").apply(model._init_weights).to(decoder.base_model.dtype)
    model.lm_head.weight = decoder.get_output_embeddings().weight


def _check_decoder(model: LmmVqaForConditionalGeneration, decoder: PreTrainedModel, input_ids: list[int]) -> None:
    text = torch.tensor([input_ids])
    with torch.no_grad():
        expected = decoder.eval()(input_ids=text).logits
        hidden = model.model.language_model(inputs_embeds=model.get_input_embeddings()(text)).last_hidden_state
        if not torch.equal(model.lm_head(hidden), expected):
            raise ValueError(
                f"got a {type(decoder).__name__} whose logits are not those of a plain linear head (a bias, a scale or "
                "a cap), expected a decoder such as Llama, Qwen or SmolLM2"
            )


def _generation_config(decoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """The decoder's own, which also stops at the end of a turn."""
    config = decoder.generation_config
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    config.eos_token_id = sorted({*ends, tokenizer.eos_token_id} - {None})
    config.pad_token_id = tokenizer.pad_token_id
    return config


def _public_names(**sources: str | None) -> dict[str, str]:
    """Without the folders of this machine."""
    return {part: Path(source).name if Path(source).exists() else source for part, source in sources.items() if source}


def build_processor(
    tokenizer: PreTrainedTokenizerBase, config: LmmVqaConfig, video_processor: LmmVqaVideoProcessor | None = None
) -> LmmVqaProcessor:
    """
    Prepares the decoder's tokenizer, in place, and makes the processor; writes the placeholders' ids and the size of
    the vocabulary into the configuration.

    Raises:
        ValueError: the chat template is missing or does not suit questions and answers.
    """
    key_frame_token, video_token = reserve_tokens(tokenizer)
    processor = LmmVqaProcessor(
        video_processor or LmmVqaVideoProcessor(),
        tokenizer,
        system_role=fix_chat(tokenizer),
        level_question=None,  # until it is trained on
        key_frame_token=key_frame_token,
        video_token=video_token,
        **{name: getattr(config, name) for name in TOKEN_LAYOUT},
    )
    config.image_token_id, config.video_token_id = tokenizer.convert_tokens_to_ids([key_frame_token, video_token])
    # Some decoders have more rows than their tokenizer has tokens
    config.text_config.vocab_size = max(config.text_config.vocab_size, len(tokenizer))
    return processor


def check_new_folder(out: Path) -> None:
    """
    Raises:
        ValueError: it holds something.
    """
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"got the folder {out}, which is not empty, expected a new one")


def checked_model(
    vision: str, temporal: str | None, decoder: str, reads_tokenizer: bool = True, **options
) -> tuple[LmmVqaForConditionalGeneration, LmmVqaProcessor | None]:
    """
    The model without memory for its weights, and its processor, where the tokenizer is read: what `assemble` fills and
    what its plan counts, so that one refuses what the other does.

    Args:
        options: some of `OPTIONS`.

    Raises:
        ValueError: a part or an option does not fit.
    """
    vision_config, temporal_config = read_vision_config(vision), read_temporal_config(temporal)
    config = composite_config(vision_config, temporal_config, read_decoder_config(decoder), **options)
    if temporal is not None and not config.use_temporal_tokens:
        raise ValueError(
            f"got the temporal tower {temporal} with use_temporal_tokens=False, expected none; leave it out, or take "
            "another preset than wo-temporal"
        )
    video_processor = _video_processor(vision, vision_config, options, temporal_settings(temporal, temporal_config))
    processor = None
    if reads_tokenizer:
        processor = build_processor(read_tokenizer(decoder), config, video_processor)
        for answer_ids in (processor.score_answer_ids, processor.level_answer_ids):
            AnswerTree(answer_ids)  # refuses a template under which answers look alike
    model = meta_model(config, video_processor.key_frame_size)
    if config.use_temporal_tokens:
        _check_chunks(model, video_processor)
    return model, processor


def assemble(
    vision: str,
    temporal: str | None,
    decoder: str,
    out: str | Path,
    dtype: torch.dtype | None = None,
    max_shard_size: str = "5GB",
    **options,
) -> None:
    """
    Writes a complete checkpoint folder with the parts' weights and random projectors, the same ones every time.

    Args:
        vision: folder or repository of a vision model, or of an image-text model whose vision tower is taken.
        temporal: public SlowFast R50 (`.pyth`), our own SlowFast (folder or `.safetensors`), or folder or repository of a video
            model of AutoModel, such as VideoMAE and V-JEPA 2; None without.
        decoder: folder, repository or `.gguf` file of a model of AutoModelForCausalLM that was trained to chat.
        out: new folder.
        dtype: of the decoder and the projectors; by default what the decoder is stored in, bfloat16 for GGUF. Towers
            are stored in float32 in any case.
        max_shard_size: of one file of weights.
        options: some of `OPTIONS`.

    Raises:
        ValueError: a part's keys are missing or unexpected, an option does not fit, the chat template or the decoder's
            head does not suit, or `out` is not empty.
    """
    out = Path(out)
    check_new_folder(out)
    model, processor = checked_model(vision, temporal, decoder, **options)
    config = model.config
    if temporal is None and config.use_temporal_tokens:
        raise ValueError(
            "got no temporal tower with use_temporal_tokens=True, expected one; name it, or take the preset wo-temporal"
        )
    tokenizer = processor.tokenizer

    language_model = load_decoder(decoder, config.text_config.vocab_size, dtype)
    towers = {"vision_tower": load_vision_tower(vision, config.vision_config)}
    if temporal is not None:
        towers["temporal_tower"] = load_temporal_tower(temporal, config.temporal_config).float()
    _fill(model, language_model, towers)
    _check_decoder(model.eval(), language_model, tokenizer(processor.score_question)["input_ids"])
    if config.decoder_attention == "mmca":
        language_model.set_attn_implementation(MMCA)

    model.generation_config = _generation_config(language_model, tokenizer)
    model.config.base_models = _public_names(vision_tower=vision, temporal_tower=temporal, language_model=decoder)
    save_checkpoint(model, processor, out, max_shard_size=max_shard_size)
    (out / "README.md").write_text(model_card(model, out.name), encoding="utf-8")
