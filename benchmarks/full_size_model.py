"""The paper's full-size model with random weights, its inputs and a clock, for the benchmarks that need a GPU.

PyTorch and transformers suffice: the package's `__init__` files, which import the processor and with it PyAV, are not
run.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
import transformers
from transformers import CLIPVisionConfig, LlamaConfig, PreTrainedModel


ROOT = Path(__file__).resolve().parent.parent
if "lmmvqa" not in sys.modules:
    for name, folder in (("lmmvqa", ROOT), ("lmmvqa.modeling_lmmvqa", ROOT / "modeling_lmmvqa")):
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [str(folder)]

from lmmvqa.modeling_lmmvqa.configuration_lmmvqa import LmmVqaConfig, LmmVqaSlowFastConfig  # noqa: E402
from lmmvqa.modeling_lmmvqa.modeling_lmmvqa import LmmVqaForConditionalGeneration  # noqa: E402


# The options that the runs differ in; the weights are the same for all
PRESETS = {
    "grid 16": {"spatial_grid_size": 16, "spatial_reduction": "none"},
    "grid 8": {"spatial_grid_size": 8, "spatial_reduction": "none"},
    "mean": {"spatial_grid_size": 16, "spatial_reduction": "mean"},
}
TEXT_TOKENS = 64  # system prompt, question and what the chat template adds
FIRST_NUMBER = 15  # token of "0" in Llama-3's vocabulary

# Llama-3 gives each number from 0 to 100 a token of its own, Llama-2 and Qwen each digit
MERGED_DIGITS = [[FIRST_NUMBER + number] for number in range(101)]
SPLIT_DIGITS = [[FIRST_NUMBER + int(digit) for digit in str(number)] for number in range(101)]


def full_size_config(tiny: bool) -> LmmVqaConfig:
    """CLIP ViT-L/14, SlowFast R50 and Llama-3-8B; `tiny` has the same parts and a thousandth of the size."""
    if not tiny:
        text_config = LlamaConfig(
            vocab_size=128_256,
            hidden_size=4096,
            intermediate_size=14_336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            max_position_embeddings=8192,
            tie_word_embeddings=False,
        )
        return LmmVqaConfig(text_config=text_config.to_dict())
    text_config = LlamaConfig(
        vocab_size=256,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
    )
    vision_config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=64,
        patch_size=4,  # 16 x 16 patches, as in CLIP ViT-L/14
    )
    return LmmVqaConfig(
        vision_config=vision_config.to_dict(),
        temporal_config=LmmVqaSlowFastConfig(
            slow_stem_channels=4, fast_stem_channels=4, depths=[1, 1, 1, 1]
        ).to_dict(),
        text_config=text_config.to_dict(),
        spatial_projector_num_attention_heads=4,
        spatial_projector_intermediate_size=48,
        image_token_id=250,
        video_token_id=251,
    )


def build_model(device: str, tiny: bool) -> LmmVqaForConditionalGeneration:
    """Random weights, bfloat16 and of the towers float32, made on the device itself, in eval mode."""
    torch.manual_seed(0)
    with torch.device(device):
        model = LmmVqaForConditionalGeneration._from_config(full_size_config(tiny), dtype=torch.bfloat16)
    return model.eval()


def random_pixels(model: PreTrainedModel, batch_size: int, seconds: int, tiny: bool) -> dict[str, torch.Tensor]:
    """
    What the processor gives for videos of so many seconds, on the host: float32 `pixel_values` (chunks, 3, side, side),
    `pixel_values_videos` (chunks, frames, 3, side, side) and `num_chunks` (batch_size,).
    """
    chunks, side, frames = batch_size * seconds, model.config.vision_config.image_size, 8 if tiny else 32
    return {
        "pixel_values": torch.randn(chunks, 3, side, side),
        "pixel_values_videos": torch.randn(chunks, frames, 3, side, side),
        "num_chunks": torch.full((batch_size,), seconds),
    }


def random_prompts(model: PreTrainedModel, batch_size: int, seconds: int) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` (batch_size, sequence) on the model's device: placeholders before random text."""
    config = model.config
    key_frame_tokens = config.spatial_grid_size**2 * (seconds if config.spatial_reduction == "none" else 1)
    text = torch.randint(FIRST_NUMBER, 200, (batch_size, TEXT_TOKENS))
    image_tokens = torch.full((batch_size, key_frame_tokens), config.image_token_id)
    video_token = torch.full((batch_size, 1), config.video_token_id)
    input_ids = torch.cat([image_tokens, video_token, text], dim=1).to(model.device)
    return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}


def parse(parser: argparse.ArgumentParser, argv: list[str] | None, full: dict, tiny: dict) -> argparse.Namespace:
    """Arguments; those of `full`, or with `--tiny` of `tiny`, stand for what is not given."""
    parser.set_defaults(**dict.fromkeys(full))
    arguments = parser.parse_args(argv)
    for name, value in (tiny if arguments.tiny else full).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    return arguments


def synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def median_seconds(function: Callable[[], object], device: str, repeats: int) -> tuple[float, object]:
    """Median wall time of a function that has run once before, the device waited for, and what it returned."""
    result = function()
    times = []
    for _ in range(repeats):
        result = None  # so that two results are never held
        synchronise(device)
        start = time.perf_counter()
        result = function()
        synchronise(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times), result


def peak_gib(device: str) -> float | None:
    """GiB that tensors took at most since `torch.cuda.reset_peak_memory_stats`; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.startswith("cuda") else None


def environment(device: str, model: PreTrainedModel, script: str) -> dict:
    """What a result was measured with."""
    is_cuda = device.startswith("cuda")
    parts = {name: part for name, part in model.model.named_children() if any(True for _ in part.parameters())}
    return {
        "command": " ".join(["python", f"benchmarks/{Path(script).name}", *sys.argv[1:]]),
        "device": torch.cuda.get_device_name(device) if is_cuda else "cpu",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "transformers": transformers.__version__,
        "attention": model.config.text_config._attn_implementation,
        "parameters": {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()},
        "weights_gib": sum(p.numel() * p.element_size() for p in model.parameters()) / 2**30,
    }


def write_result(path: str, result: dict) -> None:
    Path(path).write_text(json.dumps(result, indent=1) + "\n")
