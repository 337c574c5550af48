"""Drawn animation -> contents: clip art that moves over drawn landscapes, as in cut-out films and cartoons."""

import hashlib
import math
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from .content import SECONDS, Content
from .still_pans import installed_files
from .storing import store


SCENES = 80
FOLDERS = ("animals", "buildings", "food", "people", "plants", "recreation", "transportation", "tools")
SMALLEST_FILE = 40_000  # bytes: below it clip art is an icon
WINDOWS = ((1280, 720), (1280, 720), (960, 540), (854, 480), (720, 1280), (640, 480))
RATES = (24, 25, 30, 12)  # drawn films often show each drawing twice, at 24 frames a second
POOLS = 10
SPLIT_OF_POOL = {0: "test", 1: "validation"}  # a drawing must not be in two splits either
SMOOTHING = 2  # drawn so many times larger, then shrunk


def clipart() -> list[Path]:
    """The pictures of openclipart-png that are large enough, sorted by name.

    Raises:
        MissingSource: the package is not installed.
    """
    root = Path("/usr/share/openclipart/png")
    return sorted(
        path
        for path in installed_files("openclipart-png")
        if path.suffix == ".png"
        and path.is_relative_to(root)
        and path.relative_to(root).parts[0] in FOLDERS
        and path.stat().st_size >= SMALLEST_FILE
    )


def plan(shared: Path) -> list[Content]:
    """Scenes, a group for those that draw from the same pool of pictures."""
    pools: list[list[Path]] = [[] for _ in range(POOLS)]
    for path in clipart():
        pools[hashlib.sha256(path.name.encode()).digest()[0] % POOLS].append(path)
    return [
        Content(
            f"drawn-{k:03d}",
            f"drawn_pool_{k % POOLS}",
            "animation",
            "scene of this recipe, pictures of openclipart-png 0.18 (Debian)",
            "CC0-1.0 (public domain)",
            partial(render, k, pools[k % POOLS]),
            split=SPLIT_OF_POOL.get(k % POOLS, "train"),
            motion=0.3,
        )
        for k in range(SCENES)
    ]


def landscape(rng: random.Random, size: tuple[int, int]) -> list[tuple[Image.Image, float]]:
    """Sky and two or three rows of hills, each a picture with transparency and how fast it passes, 0 to 1."""
    width, height = size[0] * 3 // 2, size[1]

    def colour(low: int = 40, high: int = 245) -> tuple[int, int, int]:
        return tuple(rng.randint(low, high) for _ in range(3))

    night = rng.random() < 0.25
    high, low = (colour(5, 50), colour(20, 90)) if night else (colour(90), colour(150))
    sky = Image.fromarray(np.array([[high], [low]], np.uint8)).resize((width, height), Image.Resampling.BILINEAR)
    layers = [(sky.convert("RGBA"), 0.0)]
    for depth in range(rng.randint(2, 3)):
        large = Image.new("RGBA", (width * SMOOTHING, height * SMOOTHING))
        waves = [(rng.uniform(0.005, 0.05), rng.uniform(1, 9), rng.random()) for _ in range(4)]
        horizon = 0.45 + 0.2 * depth
        ridge = [
            (
                x,
                SMOOTHING
                * height
                * (horizon + sum(a * math.sin(6.28 * (f * x / large.width + p)) for a, f, p in waves)),
            )
            for x in range(0, large.width + 8, 8)
        ]
        fill = colour(10, 70) if night else colour()
        draw = ImageDraw.Draw(large)
        draw.polygon([(0, large.height), *ridge, (large.width, large.height)], (*fill, 255))
        if rng.random() < 0.5:
            draw.line(ridge, (0, 0, 0, 255), rng.randint(2, 8))
        layers.append((large.reduce(SMOOTHING), 0.3 + 0.3 * depth))
    return layers


def sprite(path: Path, height: int) -> Image.Image:
    with Image.open(path) as file:
        picture = file.convert("RGBA")
    picture = picture.crop(picture.getbbox())
    width = max(1, round(picture.width * height / picture.height))
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def lay(canvas: Image.Image, picture: Image.Image, x: float, y: float, turn: float) -> None:
    """Puts a picture's middle at (x, y), in fractional pixels, turned by `turn` radians."""
    side = math.ceil(math.hypot(picture.width, picture.height)) + 2
    left, top = math.floor(x - side / 2), math.floor(y - side / 2)
    cos, sin = math.cos(turn), math.sin(turn)
    # the affine map leads from a place in the box to one in the picture
    dx, dy = x - left, y - top
    matrix = (cos, sin, picture.width / 2 - cos * dx - sin * dy, -sin, cos, picture.height / 2 + sin * dx - cos * dy)
    turned = picture.transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    canvas.paste(turned, (left, top), turned)


def render(index: int, pictures: list[Path], output: Path) -> None:
    """Stores one scene: a landscape that passes by, and pictures that glide, bob and swing over it."""
    rng = random.Random(f"drawn:{index}")
    size, rate = rng.choice(WINDOWS), rng.choice(RATES)
    line_art = rng.random() < 0.2
    layers = landscape(rng, size)
    pace = rng.choice((-1, 1)) * rng.uniform(0.02, 0.3) * size[0]  # pixels a second
    actors = []
    for path in rng.sample(pictures, rng.randint(4, 9)):
        picture = sprite(path, round(size[1] * rng.uniform(0.15, 0.5)))
        if line_art:
            grey = picture.convert("LA")
            picture = grey.convert("RGBA")
        place = rng.uniform(0, size[0]), rng.uniform(0.3, 0.9) * size[1]
        speed = rng.uniform(-0.2, 0.2) * size[0], rng.uniform(-0.05, 0.05) * size[1]
        swing = rng.uniform(0, 0.25), rng.uniform(0, 0.04) * size[1], rng.uniform(0.5, 2.5), rng.random()
        actors.append((picture, place, speed, swing))
    actors.sort(key=lambda actor: actor[0].height)

    def frames() -> Iterator[np.ndarray]:
        for k in range(round(SECONDS * rate)):
            seconds = k / rate
            canvas = Image.new("RGBA", size, (250, 248, 240, 255))
            for picture, nearness in [] if line_art else layers:
                left = (picture.width - size[0]) / 2 - nearness * pace * (seconds - SECONDS / 2)
                canvas.alpha_composite(
                    picture.transform(size, Image.Transform.AFFINE, (1, 0, left, 0, 1, 0), Image.Resampling.BILINEAR)
                    if nearness
                    else picture.crop((0, 0, *size))
                )
            for picture, place, speed, (angle, bob, pulse, phase) in actors:
                wave = math.sin(2 * math.pi * (pulse * seconds + phase))
                lay(
                    canvas,
                    picture,
                    place[0] + speed[0] * seconds,
                    place[1] + speed[1] * seconds + bob * wave,
                    angle * wave,
                )
            yield np.asarray(canvas.convert("RGB"))

    store(frames(), size, str(rate), output)
