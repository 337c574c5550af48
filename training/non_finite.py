"""Where in a model the first NaN or infinity arises: for the one batch after which training must stop."""

from collections.abc import Callable, Iterable

import torch
from torch import nn


def first_non_finite(model: nn.Module, losses: Iterable[Callable[[], torch.Tensor]]) -> str | None:
    """
    Runs forward and backward passes under hooks. Gradients are lost.

    Args:
        model: that computes the losses.
        losses: functions that compute one each.

    Returns:
        The first non-finite value, such as "the output of model.language_model.layers.3.mlp"; None if all are finite.
    """
    found = []

    def note(what: str, tensor: torch.Tensor) -> None:
        if not tensor.isfinite().all():
            found.append(what)

    def watch(name: str) -> Callable:
        def hook(module, inputs, outputs):
            for output in outputs if isinstance(outputs, tuple) else (outputs,):
                if isinstance(output, torch.Tensor) and output.is_floating_point():
                    note(f"the output of {name}", output)
                    if output.requires_grad:
                        output.register_hook(lambda gradient: note(f"the gradient at the output of {name}", gradient))

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    try:
        for compute_loss in losses:
            model.zero_grad()
            loss = compute_loss()
            note("the loss", loss.detach())
            if not found:
                loss.backward()
            if found:
                return found[0]
    finally:
        for handle in handles:
            handle.remove()
    return None
