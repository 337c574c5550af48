"""Files of a vision tower, a temporal tower and a decoder -> their configurations, tokenizer and weights.

What a file lacks or has too much is refused by name.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils import cached_file

from ..modeling_lmmvqa.configuration_lmmvqa import LmmVqaSlowFastConfig
from ..modeling_lmmvqa.modeling_slowfast import LmmVqaSlowFastModel
from .convert_weights import slowfast_state_dict
from .hub_connection import check_obtainable


# Parts of image-text and classification checkpoints that stand beside the vision tower
BESIDE_THE_TOWER = re.compile(r"(text_model|text_projection|visual_projection|logit_scale|logit_bias|classifier)\b")
# The same of video models
BESIDE_THE_VIDEO_MODEL = re.compile(r"(classifier|pooler|fc_norm|mask_token|encoder_to_decoder|decoder)\b")


@contextmanager
def _read(source: str) -> Iterator[None]:
    """
    What a library raises on a damaged file, which can be anything, is a ValueError that names the file. A repository that
    is not here is an OSError where the Hub cannot be reached, at once: the Hub's client would try for a minute.
    """
    try:
        check_obtainable(source)
        yield
    except OSError:
        raise
    except Exception as error:
        raise ValueError(
            f"got {source}, which cannot be read, expected a model's whole files; copy or download them again: "
            f"{type(error).__name__} {error}"
        ) from error


def _check_takes(source: str, config: PreTrainedConfig, wanted: str, such_as: str) -> None:
    """
    Args:
        wanted: "image" or "video".

    Raises:
        ValueError: the model takes something else.
    """
    kind = type(config)
    if kind in MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING:  # TimeSformer calls its videos images
        takes = "video"
    else:
        takes = MODEL_MAPPING[kind].input_modalities if kind in MODEL_MAPPING else ()
    takes = [takes] if isinstance(takes, str) else takes
    if wanted not in takes:
        raise ValueError(
            f"got {source} of type {config.model_type}, which takes {' and '.join(takes) or 'neither'}, expected a model that "
            f"takes {wanted}, such as {such_as}; name another one"
        )


def read_vision_config(vision: str) -> PreTrainedConfig:
    """
    Configuration of a vision model, or of the vision half of an image-text model such as CLIP.

    Raises:
        ValueError: it is damaged, or another kind of model.
    """
    with _read(vision):
        config = AutoConfig.from_pretrained(vision)
    config = config.vision_config if "vision_config" in config.sub_configs else config
    _check_takes(vision, config, "image", "CLIP, SigLIP and DINOv2")
    if sizes := config.to_dict().get("hidden_sizes"):
        raise ValueError(
            f"got {vision} of type {config.model_type}, whose stages are {sizes} wide, expected a tower of one width, such as "
            "CLIP, SigLIP and DINOv2; name another one"
        )
    return config


def read_temporal_config(temporal: str | None) -> PreTrainedConfig:
    """
    Of our own SlowFast or another video model, beside its weights; public `.pyth` files are SlowFast 8x8 R50.

    Raises:
        ValueError: a file is not there, or damaged, or the model of another kind.
    """
    if temporal is None:
        return LmmVqaSlowFastConfig()
    if temporal.endswith((".pyth", ".safetensors")) and not Path(temporal).is_file():
        raise ValueError(f"got {temporal}, expected a file that is here; mend its name, or download it first")
    if temporal.endswith(".pyth"):
        return LmmVqaSlowFastConfig()
    folder = str(Path(temporal).parent) if temporal.endswith(".safetensors") else temporal
    with _read(folder):
        config = AutoConfig.from_pretrained(folder)
    _check_takes(temporal, config, "video", "SlowFast, VideoMAE and V-JEPA 2")
    return config


def temporal_settings(temporal: str | None, config: PreTrainedConfig) -> dict:
    """
    How many frames a video model of transformers takes, how large, and how they are normalised, as options; nothing of
    SlowFast, which the defaults suit.

    Raises:
        ValueError: its folder does not say how frames are normalised.
    """
    if isinstance(config, LmmVqaSlowFastConfig):
        return {}
    values = config.to_dict()
    # As VideoMAE and ViViT name them, and as V-JEPA 2 does
    named = {"num_frames": "chunk_frames", "frames_per_clip": "chunk_frames"}
    named |= {"image_size": "chunk_size", "crop_size": "chunk_size"}
    settings = {ours: values[theirs] for theirs, ours in named.items() if theirs in values}
    for name in ("video_preprocessor_config.json", "preprocessor_config.json"):
        file = cached_file(temporal, name, _raise_exceptions_for_missing_entries=False)
        if file is not None:
            preprocessor = json.loads(Path(file).read_text(encoding="utf-8"))
            return settings | {f"chunk_{name}": preprocessor[f"image_{name}"] for name in ("mean", "std")}
    raise ValueError(
        f"got {temporal} without preprocessor_config.json, expected it to say how frames are normalised; add the file"
    )


def decoder_source(decoder: str) -> tuple[str, dict[str, str]]:
    """
    What `from_pretrained` takes for a folder, a repository or a GGUF file.

    Raises:
        ValueError: a GGUF file, where the package that reads it is missing.
    """
    if not decoder.endswith(".gguf"):
        return decoder, {}
    if find_spec("gguf") is None:
        raise ValueError(f"got {decoder}, which the package gguf reads; pip install 'lmmvqa[gguf]'")
    return str(Path(decoder).parent), {"gguf_file": Path(decoder).name}


def read_decoder_config(decoder: str) -> PreTrainedConfig:
    """
    Raises:
        ValueError: a damaged file, no decoder, or a GGUF file of another architecture than Llama.
    """
    source, gguf = decoder_source(decoder)
    with _read(decoder):
        config = AutoConfig.from_pretrained(source, **gguf)
    if gguf and config.model_type != "llama":
        raise ValueError(
            f"got {decoder} of architecture {config.model_type}, expected llama; take the decoder's safetensors"
        )
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(
            f"got {decoder} of type {config.model_type}, which writes no text, expected a chat model such as Llama, Qwen or "
            "SmolLM2; name another one"
        )
    return config


def read_tokenizer(decoder: str) -> PreTrainedTokenizerBase:
    source, gguf = decoder_source(decoder)
    with _read(decoder):
        return AutoTokenizer.from_pretrained(source, **gguf)


def _loaded(auto_class, source: str, ignored: re.Pattern | None = None, **options) -> PreTrainedModel:
    """`from_pretrained`, but missing and unexpected keys are refused by name."""
    with _read(source):
        model, info = auto_class.from_pretrained(source, output_loading_info=True, **options)
    unexpected = [key for key in info["unexpected_keys"] if ignored is None or not ignored.match(key)]
    problems = {"missing": sorted(info["missing_keys"]), "unexpected": sorted(unexpected)}
    if any(problems.values()):
        listing = "; ".join(f"{what}: {', '.join(keys)}" for what, keys in problems.items() if keys)
        raise ValueError(f"{source} does not fill {type(model).__name__}. {listing}.")
    return model


def load_vision_tower(vision: str, config: PreTrainedConfig) -> PreTrainedModel:
    return _loaded(AutoModel, vision, BESIDE_THE_TOWER, config=config, dtype=torch.float32)


def load_temporal_tower(temporal: str, config: PreTrainedConfig) -> PreTrainedModel:
    if not isinstance(config, LmmVqaSlowFastConfig):
        return _loaded(AutoModel, temporal, BESIDE_THE_VIDEO_MODEL, config=config, dtype=torch.float32)
    file = Path(temporal) / "model.safetensors" if Path(temporal).is_dir() else Path(temporal)
    with torch.device("meta"):
        tower = LmmVqaSlowFastModel(config)
    tower.load_state_dict(slowfast_state_dict(file, config), assign=True)
    return tower


def load_decoder(decoder: str, vocab_size: int, dtype: torch.dtype | None) -> PreTrainedModel:
    source, options = decoder_source(decoder)
    if options:
        # GGUF's own types are none of PyTorch's
        options |= {"quantization_config": GgufConfig(dequantize=True)}
        dtype = dtype or torch.bfloat16
    model = _loaded(AutoModelForCausalLM, source, dtype=dtype or "auto", **options)
    old_size = model.config.vocab_size
    if vocab_size > old_size:
        model.resize_token_embeddings(vocab_size, mean_resizing=False)
        with torch.no_grad():
            # The mean of all tokens is never the likeliest: the decoder will not write a placeholder
            for layer in {model.get_input_embeddings(), model.get_output_embeddings()}:
                layer.weight[old_size:] = layer.weight[:old_size].mean(0)
    return model
