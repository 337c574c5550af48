"""The screens of render_screens.py, at their whole size -> contents."""

import random
from pathlib import Path

import numpy as np

from ..render_screens import RATES, SCREENS, SIZES, paste_layers
from .content import SECONDS, Content, numbered
from .storing import store


RENDERED = 80


def plan(shared: Path) -> list[Content]:
    """The screens of render_screens.py at their whole size, each its own group."""
    return numbered(
        "screen", RENDERED, "screen", "render_screens.py of this project", "own work", record_rendered, motion=0.0
    )


def record_rendered(index: int, output: Path) -> None:
    rng = random.Random(f"contents:screen-{index}")
    size, rate = rng.choice(SIZES), rng.choice(RATES)
    layers = SCREENS[index % len(SCREENS)](rng, *size)
    times = np.linspace(0, 1, round(SECONDS * rate))
    store((np.asarray(paste_layers(layers, size, time)) for time in times), size, str(rate), output)
