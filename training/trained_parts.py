"""What is trained: whole parts of the model, or low-rank adapters beside their weights; the rest is frozen."""

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.utils import is_peft_available


EMBEDDINGS = "language_model.embed_tokens"
PARTS = ("spatial_projector", "temporal_projector", "vision_tower", "temporal_tower", "language_model", EMBEDDINGS)
LORA_PARTS = ("language_model", "vision_tower", "temporal_tower")


def tower_blocks(model: PreTrainedModel) -> list[nn.Module]:
    """The vision tower's blocks, in order, up to the one whose output is used (`vision_feature_layer`)."""
    lists = [module for module in model.model.vision_tower.modules() if isinstance(module, nn.ModuleList)]
    blocks = list(max(lists, key=len))
    layer = model.config.vision_feature_layer  # of the hidden states, the first of which is no block's
    return blocks[: layer if layer >= 0 else len(blocks) + 1 + layer]


def train_only(model: PreTrainedModel, parts: list[str]) -> None:
    """Freezes everything but the named parts, whose weights become float32: in bfloat16 most updates would round to none.

    Args:
        parts: some of `PARTS`; `vision_tower:2` are the last two blocks of the vision tower that are used. Embeddings that
            are the head's too are trained as both.

    Raises:
        ValueError: the model has no such part.
    """
    children = dict(model.model.named_children())
    own_parts = [part for part in PARTS if part.partition(".")[0] in children]
    model.requires_grad_(False)
    for part in parts:
        name, _, count = part.partition(":")
        if name not in own_parts or (count and name != "vision_tower"):
            raise ValueError(
                f"got the part {part!r} in train_parts, expected some of {', '.join(own_parts)}, or vision_tower:2 for "
                "the last two blocks of the vision tower"
            )
        if not count:
            model.model.get_submodule(name).requires_grad_(True)
            continue
        blocks = tower_blocks(model)
        if not count.isdecimal() or not 1 <= int(count) <= len(blocks):
            raise ValueError(
                f"got {part!r} in train_parts, expected a number from 1 to the {len(blocks)} blocks of this vision tower "
                "that are used"
            )
        for block in blocks[-int(count) :]:
            block.requires_grad_(True)
    if "language_model" in parts:
        model.lm_head.requires_grad_(True)
    if not is_deepspeed_zero3_enabled():  # which keeps float32 copies of its own
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()


def add_lora(
    model: PreTrainedModel, rank: int, parts: list[str], lora_parts: Sequence[str] = ("language_model",)
) -> nn.Module:
    """
    LoRA on every linear layer of `lora_parts`; the other named parts are trained as a whole and saved with the adapter.

    Args:
        parts: `train_parts`.
        lora_parts: some of `LORA_PARTS`.

    Returns:
        `PeftModel` around the model, which is changed in place.

    Raises:
        ImportError: peft is not installed.
        ValueError: a part has no linear layers, or is to be trained as a whole as well; or single blocks are.
    """
    if not is_peft_available():
        raise ImportError("got a lora_rank without peft, expected it installed; run pip install 'lmmvqa[peft]'")
    from peft import LoraConfig, get_peft_model

    targets = []
    for part in lora_parts:
        if part in parts:
            raise ValueError(
                f"got lora_rank={rank} with {part} in train_parts, expected one of the two; leave one out"
            )
        named = model.model.get_submodule(part).named_modules() if part in LORA_PARTS else ()
        layers = {name.rpartition(".")[2] for name, module in named if isinstance(module, nn.Linear)}
        if not layers:
            raise ValueError(
                f"got {part!r} in lora_parts, which has no linear layers, expected some of {', '.join(LORA_PARTS)} that "
                "have; train it with train_parts"
            )
        targets.append(rf"{part}\.(.*\.)?({'|'.join(sorted(layers))})")
    if blocks := [part for part in parts if ":" in part]:
        raise ValueError(
            f"got lora_rank={rank} with {', '.join(blocks)} in train_parts, expected whole parts beside adapters; adapt "
            "the tower with --lora_parts vision_tower"
        )
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        # With their path: the bare names may be those of another part's layers as well
        target_modules=rf"model\.({'|'.join(targets)})",
        modules_to_save=parts,
    )
    return get_peft_model(model, config)


def trained_state(model: nn.Module) -> set[str]:
    """Names of what training changes: trained parameters, tied ones once, and the BatchNorm statistics beside them."""
    parameters = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    modules = {name.rpartition(".")[0] for name in parameters}
    return parameters | {name for name, _ in model.named_buffers() if name.rpartition(".")[0] in modules}
