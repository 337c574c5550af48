"""Games that a program steps frame by frame: Doom with Freedoom's levels (ViZDoom), and Atari (ALE).

They give every frame whatever the machine's load. Their players follow a seed.
"""

import contextlib
import importlib.util
import math
import random
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from .content import SECONDS, Content, MissingSource, chosen
from .storing import store


DOOM_TICS = 35  # a second
DOOM_LEVELS = {
    "freedoom1": [f"e{episode}m{level}" for episode in range(1, 5) for level in range(1, 10)],
    "freedoom2": [f"map{level:02d}" for level in range(1, 33)],
}
DOOM_WINDOWS = ("RES_1280X720", "RES_1280X720", "RES_1920X1080", "RES_800X600", "RES_640X360")
PARTS_OF_A_LEVEL = 2
TICS_BETWEEN = 350

ATARI_SCALE = (5, 3)  # whole times wider and higher: its pixels stay pixels, and are wide as on a television


def require(module: str, package: str) -> None:
    """
    Raises:
        MissingSource: a Python package is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise MissingSource(f"The Python package {package} is not installed: pip install 'lmmvqa[contents]'.")


def plan_doom(shared: Path) -> list[Content]:
    """Parts of each level, a group a level."""
    require("vizdoom", "vizdoom")
    return [
        Content(
            f"doom-{wad}-{level}-{k}",
            f"{wad}_{level}",
            "game",
            f"vizdoom 1.3 (PyPI): {wad} {level}",
            "MIT (ViZDoom), BSD-3-Clause (Freedoom)",
            partial(record_doom, wad, level, k),
            motion=0.6,
        )
        for wad, levels in DOOM_LEVELS.items()
        for level in levels
        for k in range(PARTS_OF_A_LEVEL)
    ]


class Walker:
    """A player who walks to where the level is open: turns smoothly to the deeper side, looks around, and shoots."""

    def __init__(self, rng: random.Random):
        self.rng, self.turning, self.glance, self.tic = rng, 0.0, 0.0, 0

    def action(self, depth: np.ndarray) -> list[float]:
        """[turning in degrees, ahead, aside, attack, use] for a depth buffer, uint8 (height, width), larger is farther."""
        rows = depth[depth.shape[0] * 2 // 5 : depth.shape[0] * 3 // 5].astype(np.float32)
        left, middle, right = (part.mean() for part in np.array_split(rows, 3, axis=1))
        if self.tic % 40 == 0:
            self.glance = self.rng.choice((0.0, self.rng.uniform(-0.6, 0.6)))
        aim = float(np.clip((right - left) / 20, -1, 1)) + self.glance
        blocked = middle < 8
        if blocked:
            aim = math.copysign(1.5, self.turning or 1)
        self.turning += 0.15 * (aim - self.turning)
        self.tic += 1
        return [4 * self.turning, float(not blocked), 0.0, float(self.tic % 90 < 6), float(blocked)]


def record_doom(wad: str, level: str, part: int, output: Path) -> None:
    """Stores a part of a walk through a level, from a place that differs from the other parts' by ten seconds."""
    path = output.resolve()
    # the engine leaves a folder of its own where it runs
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        play_doom(wad, level, part, path)


def play_doom(wad: str, level: str, part: int, output: Path) -> None:
    import vizdoom  # its library is loaded where it is used: not every kind of content needs it

    rng = random.Random(f"doom:{wad}:{level}")
    game = vizdoom.DoomGame()
    game.set_doom_game_path(str(Path(vizdoom.__file__).parent / f"{wad}.wad"))
    game.set_doom_map(level)
    window = random.Random(f"{wad}:{level}:{part}").choice(DOOM_WINDOWS)
    game.set_screen_resolution(getattr(vizdoom.ScreenResolution, window))
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_depth_buffer_enabled(True)
    game.set_window_visible(False)
    game.set_render_hud(rng.random() < 0.5)
    game.set_seed(rng.randrange(1 << 30))
    game.set_episode_timeout(0)
    game.set_mode(vizdoom.Mode.PLAYER)
    button = vizdoom.Button
    game.set_available_buttons(
        [button.TURN_LEFT_RIGHT_DELTA, button.MOVE_FORWARD, button.MOVE_RIGHT, button.ATTACK, button.USE]
    )
    game.init()
    try:
        game.send_game_command("god")
        walker = Walker(rng)

        def step() -> None:
            game.make_action(walker.action(game.get_state().depth_buffer))
            if game.is_episode_finished():
                raise RuntimeError(f"{wad} {level} ended while it was played.")

        for _ in range(35 + TICS_BETWEEN * part):
            step()

        def frames() -> Iterator[np.ndarray]:
            for _ in range(round(SECONDS * DOOM_TICS)):
                step()
                yield game.get_state().screen_buffer

        store(frames(), (game.get_screen_width(), game.get_screen_height()), str(DOOM_TICS), output)
    finally:
        game.close()


def plan_atari(shared: Path) -> list[Content]:
    require("ale_py", "ale-py")
    return [
        Content(
            f"atari-{game}",
            f"atari_{game}",
            "pixel-game",
            f"ale-py 0.12 (PyPI): {game}",
            "GPL-2.0 (ALE); the games are their owners', used for data only",
            partial(play_atari, game),
            motion=0.2,
        )
        for game in chosen("atari")
    ]


def play_atari(game: str, output: Path) -> None:
    """Stores a part of a game that a random player plays, enlarged a whole number of times."""
    from ale_py import ALEInterface, LoggerMode, roms

    ALEInterface.setLoggerMode(LoggerMode.Error)
    ale, rng = ALEInterface(), random.Random(f"atari:{game}")
    ale.setInt("random_seed", 1)
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(roms.get_rom_path(game))
    actions, action = ale.getMinimalActionSet(), 0

    def step(frame: int) -> None:
        nonlocal action
        if frame % 12 == 0:
            action = rng.choice(actions)
        ale.act(action)
        if ale.game_over():
            ale.reset_game()

    for frame in range(rng.randint(300, 900)):
        step(frame)

    def frames() -> Iterator[np.ndarray]:
        for frame in range(round(SECONDS * 60)):
            step(frame)
            yield ale.getScreenRGB().repeat(ATARI_SCALE[1], axis=0).repeat(ATARI_SCALE[0], axis=1)

    height, width = ale.getScreenDims()
    store(frames(), (width * ATARI_SCALE[0], height * ATARI_SCALE[1]), "60", output)
