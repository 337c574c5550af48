"""What is trained: whole parts of the model, or low-rank adapters beside the decoder's weights; the rest is frozen."""

from torch import nn
from transformers import PreTrainedModel
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.utils import is_peft_available


PARTS = ("spatial_projector", "temporal_projector", "vision_tower", "temporal_tower", "language_model")


def train_only(model: PreTrainedModel, parts: list[str]) -> None:
    """Freezes everything but the named parts, whose weights become float32: in bfloat16 most updates would round to none.

    Raises:
        ValueError: the model has no such part.
    """
    children = dict(model.model.named_children())
    own_parts = [part for part in PARTS if part in children]
    for part in parts:
        if part not in own_parts:
            raise ValueError(f"got the part {part!r} in train_parts, expected some of {', '.join(own_parts)}")
    model.requires_grad_(False)
    for part in parts:
        model.model.get_submodule(part).requires_grad_(True)
    model.lm_head.requires_grad_("language_model" in parts)
    if not is_deepspeed_zero3_enabled():  # which keeps float32 copies of its own
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()


def add_lora(model: PreTrainedModel, rank: int, parts: list[str]) -> nn.Module:
    """
    LoRA on every linear layer of the decoder; the named parts are trained as a whole and saved with the adapter.

    Returns:
        `PeftModel` around the model, which is changed in place.

    Raises:
        ImportError: peft is not installed.
        ValueError: the decoder is to be trained as a whole as well.
    """
    if not is_peft_available():
        raise ImportError("got a lora_rank without peft, expected it installed; run pip install 'lmmvqa[peft]'")
    if "language_model" in parts:
        raise ValueError(
            f"got lora_rank={rank} with language_model in train_parts, expected one of the two; leave one out"
        )
    from peft import LoraConfig, get_peft_model

    decoder = model.model.language_model
    layers = {name.rpartition(".")[2] for name, module in decoder.named_modules() if isinstance(module, nn.Linear)}
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        # With their path: the bare names are those of CLIP's attention as well
        target_modules=rf"model\.language_model\..*\.({'|'.join(sorted(layers))})",
        modules_to_save=parts,
    )
    return get_peft_model(model, config)


def trained_state(model: nn.Module) -> set[str]:
    """Names of what training changes: trained parameters, tied ones once, and the BatchNorm statistics beside them."""
    parameters = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    modules = {name.rpartition(".")[0] for name in parameters}
    return parameters | {name for name, _ in model.named_buffers() if name.rpartition(".")[0] in modules}
