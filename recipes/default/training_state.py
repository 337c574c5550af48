"""Where a run of the tower recipes stands: stored whole after a validation, restored by the run that goes on."""

from pathlib import Path

import torch


def store(parts: dict, step: int, file: Path) -> None:
    """Stores the states of modules, optimizer and schedule after this step; the file appears only when complete."""
    partial = file.with_suffix(".partial")
    torch.save({"step": step} | {name: part.state_dict() for name, part in parts.items()}, partial)
    partial.replace(file)


def restore(parts: dict, file: Path) -> int:
    """Restores `parts` where the file is there; gives the step after which they were stored, 0 without."""
    if not file.exists():
        return 0
    stored = torch.load(file, weights_only=True)
    step = stored.pop("step")
    for name, values in stored.items():
        parts[name].load_state_dict(values)
    return step
