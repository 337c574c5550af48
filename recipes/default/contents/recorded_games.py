"""Games with a window, played on a screen that nobody sees (Xvfb) and drawn by the processor.

OpenArena is asked for a fixed step of game time a frame and a screenshot of every frame, so that no frame is dropped or
late however slow the machine is. A spectator follows one of the bots that play.
"""

import random
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from .content import SECONDS, Content, chosen
from .hidden_screen import GAMES, hidden_screen, require_programs
from .storing import store


BOTS = ("sarge", "kyonshi", "grism", "merman", "skelebot", "gargoyle", "major", "angelyss")
WINDOWS = ((1280, 720), (1280, 720), (960, 540), (854, 480))
STEPS = (40, 40, 20)  # milliseconds of game time a frame
LONGEST_GAME = 800  # seconds


def plan_openarena(shared: Path) -> list[Content]:
    """A part of a match in every arena, a group each."""
    require_programs(Xvfb="xvfb", openarena="openarena")
    return [
        Content(
            f"openarena-{arena}",
            f"openarena_{arena}",
            "game",
            f"openarena 0.8.8 (Debian): {arena}",
            "GPL-2+ (OpenArena and its data)",
            partial(record_openarena, arena),
        )
        for arena in chosen("openarena")
    ]


def record_openarena(arena: str, output: Path) -> None:
    """Stores what one bot of a match sees.

    Raises:
        RuntimeError: the game ended, or took too long, before all frames were there.
    """
    rng = random.Random(f"openarena:{arena}")
    window, step = rng.choice(WINDOWS), rng.choice(STEPS)
    frames = round(SECONDS * 1000 / step)
    # two waits are a frame: the game runs its commands twice in each
    script = [
        'set shot "screenshot silent; wait 1; vstr shot"',
        "wait 20",
        *(f"addbot {bot} 4" for bot in rng.sample(BOTS, 5)),
        "set fixedtime 200",
        "wait 40",
        "team spectator",
        f"wait {2 * rng.randint(20, 60)}",
        "follownext",
        f"set fixedtime {step}",
        "wait 50",
        "vstr shot",
    ]
    settings = {
        "r_mode": -1,
        "r_customwidth": window[0],
        "r_customheight": window[1],
        "r_fullscreen": 0,
        "cl_renderer": "opengl1",
        "com_introplayed": 1,
        "com_maxfps": 0,
        "s_initsound": 0,
        "r_ignorehwgamma": 1,  # else an X server without a screen leaves every arena dark
        "r_gamma": round(rng.uniform(1.1, 1.9), 2),
        "cg_draw2D": rng.choice((0, 1)),
        "sv_pure": 0,
        "fixedtime": 100,
    }
    with tempfile.TemporaryDirectory() as home, hidden_screen(window) as environment:
        pictures = Path(home) / "baseoa" / "screenshots"
        pictures.parent.mkdir()
        (pictures.parent / "record.cfg").write_text("\n".join(script) + "\n", encoding="utf-8")
        options = [str(part) for name, value in settings.items() for part in ("+set", name, value)]
        command = [str(GAMES / "openarena"), "+set", "fs_homepath", home, *options, "+devmap", arena]
        game = subprocess.Popen(
            [*command, "+exec", "record.cfg"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            # one more than is stored: the last file may be half written
            shots = wait_for_files(game, pictures, frames + 1)[:frames]
        finally:
            game.kill()
            game.wait()
        store((read_picture(shot) for shot in shots), window, str(1000 // step), output)


def read_picture(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def wait_for_files(game: subprocess.Popen, folder: Path, count: int) -> list[Path]:
    """The files of a folder in the order of their names, once there are `count`.

    Raises:
        RuntimeError: the game ended, or took too long, before.
    """
    deadline = time.monotonic() + LONGEST_GAME
    files: list[Path] = []
    while len(files) < count:
        if game.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"The game gave {len(files)} of {count} frames: it ended, or the machine is too slow.")
        time.sleep(0.5)
        files = sorted(folder.glob("*.tga")) if folder.is_dir() else []
    return files
