"""Growing trees of files that gource draws -> contents."""

import random
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from .content import SECONDS, Content
from .hidden_screen import hidden_screen, require_programs
from .random_text import words
from .storing import store


TREES = 6


def plan(shared: Path) -> list[Content]:
    """Growing trees of files that gource draws of a history made up by a seed, each its own group."""
    require_programs(gource="gource", Xvfb="xvfb")
    return [
        Content(
            f"gource-{k}",
            f"gource_{k}",
            "animation",
            "gource 0.54 (Debian): a history made up by this recipe",
            "GPL-3+ (gource); own history",
            partial(record_tree, k),
        )
        for k in range(TREES)
    ]


def history(rng: random.Random) -> str:
    """A project's history in gource's own format: time, user, what was done and to which file."""
    folders = ["", *("/".join(words(rng, "latin", rng.randint(1, 3)).split()) + "/" for _ in range(25))]
    files = [f"{rng.choice(folders)}{words(rng, 'latin', 1)}.{rng.choice(('py', 'c', 'h', 'md'))}" for _ in range(400)]
    users = [words(rng, "latin", 1) for _ in range(6)]
    return "".join(f"{1500000000 + 4000 * k}|{rng.choice(users)}|A|{name}\n" for k, name in enumerate(files))


def record_tree(index: int, output: Path) -> None:
    """Stores two seconds of a history, after some of it has gone by."""
    rng = random.Random(f"gource:{index}")
    size, rate, skipped = rng.choice(((1280, 720), (960, 540))), rng.choice((25, 30)), rng.randint(80, 260)
    frame_bytes = size[0] * size[1] * 3
    with tempfile.TemporaryDirectory() as folder, hidden_screen(size) as environment:
        log = Path(folder) / "history.log"
        log.write_text(history(rng), encoding="utf-8")
        options = f"--log-format custom -{size[0]}x{size[1]} --seconds-per-day 0.8 --bloom-multiplier 0.8 -r {rate}"
        gource = subprocess.Popen(
            ["gource", str(log), *options.split(), "-o", "-"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

        def frames() -> Iterator[np.ndarray]:
            for k in range(skipped + round(SECONDS * rate)):
                # a PPM picture: three short lines, then its pixels
                for _ in range(3):
                    gource.stdout.readline()
                pixels = gource.stdout.read(frame_bytes)
                if k >= skipped:
                    yield np.frombuffer(pixels, np.uint8).reshape(size[1], size[0], 3)

        try:
            store(frames(), size, str(rate), output)
        finally:
            gource.kill()
            gource.wait()
