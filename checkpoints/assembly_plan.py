"""What an assembled model will weigh and how much video it will take, from configurations alone."""

from pathlib import Path

from torch import nn

from ..modeling_lmmvqa.configuration_lmmvqa import LmmVqaConfig
from ..processing.context_lmmvqa import visual_token_counts
from ..processing.processing_lmmvqa import LmmVqaProcessor
from .assemble import checked_model


def part_parameters(model: nn.Module) -> dict[str, int]:
    """Parameters of each part of a `LmmVqaForConditionalGeneration`; the head belongs to the decoder."""
    parts = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in model.model.named_children()
        if name.endswith(("_tower", "_projector"))
    }
    decoder = {id(p): p.numel() for part in (model.model.language_model, model.lm_head) for p in part.parameters()}
    return parts | {"decoder": sum(decoder.values())}


def quantisable_parameters(model: nn.Module) -> int:
    """Weights of the decoder's linear layers: what int8 and 4-bit loading packs; towers, projectors and head stay."""
    layers = [module for module in model.model.language_model.modules() if isinstance(module, nn.Linear)]
    return sum(layer.weight.numel() for layer in layers)


def seconds_in_context(config: LmmVqaConfig, text_tokens: int) -> int | None:
    """
    Longest video, in whole seconds, that fits the decoder's positions beside so many tokens of text; None where its
    length does not matter.
    """
    (one, two) = (sum(visual_token_counts(config, chunks)) for chunks in (1, 2))
    if one == two:
        return None
    return (config.text_config.max_position_embeddings - text_tokens - 2 * one + two) // (two - one)


def text_tokens(processor: LmmVqaProcessor) -> tuple[int, int]:
    """Tokens of the score question's chat without its video, and of the longest answer with its end-of-turn token."""
    prompt = processor.tokenizer(processor.prompt(), add_special_tokens=False)["input_ids"]
    return len(prompt) - 1, max(map(len, processor.score_answer_ids)) + 1


def assembly_plan(vision: str, temporal: str | None, decoder: str, **options) -> str:
    """
    The plan of `assemble` with the same arguments, as text; it refuses what `assemble` refuses before weights are read.
    A folder without a tokenizer will do for the decoder: the prompt is not counted then. Where no temporal tower is named,
    SlowFast R50 is counted.

    Raises:
        ValueError: a part or an option does not fit.
    """
    has_tokenizer = not Path(decoder).is_dir() or any(Path(decoder).glob("tokenizer*"))
    model, processor = checked_model(vision, temporal, decoder, has_tokenizer, **options)
    config = model.config
    prompt, answer = text_tokens(processor) if has_tokenizer else (0, 0)

    parts = part_parameters(model)
    total, packed = sum(parts.values()), quantisable_parameters(model)
    # Towers stay in float32
    half = {name: (4 if name.endswith("_tower") else 2) * count for name, count in parts.items()}
    half["total"] = sum(half.values())
    lines = [f"{'part':<20}{'parameters':>16}{'float32':>12}{'bfloat16':>12}"]
    for name, count in (parts | {"total": total}).items():
        sizes = f"{_gigabytes(4 * count):>12}{_gigabytes(half[name]):>12}"
        lines.append(f"{name.replace('_', ' '):<20}{count:>16,}{sizes}")
    if temporal is None and config.use_temporal_tokens:
        lines.append("temporal tower: none was named, SlowFast 8x8 R50 is counted; assembling needs it")
    lines.append("bfloat16: of decoder and projectors; towers are stored and run in float32")
    for name, bits in (("int8", 8), ("4 bits", 4)):
        size = half["total"] - 2 * packed + packed * bits // 8
        lines.append(f"decoder's linear layers in {name}, the rest as there: {_gigabytes(size)} without scales")

    (one, two) = (visual_token_counts(config, chunks) for chunks in (1, 2))
    per_second = sum(two) - sum(one)
    lines.append(f"visual tokens: {per_second} a second of video, and {sum(one) - per_second} a video")
    if has_tokenizer:
        lines.append(f"text tokens: {prompt} of the score question's chat, at most {answer} of an answer")
    else:
        lines.append(f"text tokens: not counted, no tokenizer in {decoder}")
    seconds = seconds_in_context(config, prompt + answer)
    positions = f"{config.text_config.max_position_embeddings:,} positions"
    limit = "video of any length" if seconds is None else f"{seconds} s of video"
    lines.append(f"context: {positions}, {'' if has_tokenizer else 'at most '}{limit}")
    return "\n".join(lines)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
