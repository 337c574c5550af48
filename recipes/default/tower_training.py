"""The steps of the tower recipes: stored whole after each validation, so that a run that was stopped goes on."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn


def train_tower(
    tower: nn.Module,
    head: nn.Module,
    loss_of: Callable[[int], torch.Tensor],
    validate: Callable[[], dict[str, float]],
    arguments,
    stop_step: int | None = None,
) -> None:
    """
    Trains both in place, by AdamW and one cycle of learning rates.

    Args:
        loss_of: the loss of a step by its number, from 1 on; it draws the same for the same number.
        validate: figures, to be printed.
        arguments: of the recipe: `steps` of the cycle, `log_steps` from validation to validation, `learning_rate`, and
            `work`, the folder of the state to go on from.
        stop_step: last step; by default that of the cycle.
    """
    parameters = [p for p in (*tower.parameters(), *head.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=arguments.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, arguments.learning_rate, total_steps=arguments.steps, pct_start=0.1
    )
    parts = {"tower": tower, "head": head, "optimizer": optimizer, "schedule": schedule}
    state = Path(arguments.work) / "state.pt"
    first, losses = _restore(parts, state), []
    for step in range(first + 1, (stop_step or arguments.steps) + 1):
        loss = loss_of(step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % arguments.log_steps == 0 or step == arguments.steps:
            print(json.dumps({"step": step, "loss": float(np.mean(losses)), **validate()}), flush=True)
            losses.clear()
            _store(parts, step, state)


def _store(parts: dict, step: int, file: Path) -> None:
    """The states of the parts after this step; the file appears only when complete."""
    partial = file.with_suffix(".partial")
    torch.save({"step": step} | {name: part.state_dict() for name, part in parts.items()}, partial)
    partial.replace(file)


def _restore(parts: dict, file: Path) -> int:
    """The step after which the parts were stored, whose states they get; 0 where nothing is stored."""
    if not file.exists():
        return 0
    stored = torch.load(file, weights_only=True)
    step = stored.pop("step")
    for name, values in stored.items():
        parts[name].load_state_dict(values)
    return step
