"""Pictures -> contents: a camera moves over a wallpaper, a rated photograph or a ray-traced picture, or one stands still.

The camera's window is fractional, so motion is as smooth as in a real clip, and it never enlarges the picture.
"""

import math
import random
import re
import subprocess
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from lmmvqa.datasets_scripts.degraded.chain_draws import draw
from lmmvqa.datasets_scripts.rated_images import read_image_mos, split_images

from .content import SECONDS, Content, MissingSource, chosen
from .hidden_screen import require_programs
from .storing import store


Image.MAX_IMAGE_PIXELS = None  # wallpapers are larger than what Pillow expects of a stranger's file

WALLPAPERS = {  # Debian package -> licence
    "plasma-workspace-wallpapers": "LGPL-3, CC-BY-SA-4.0",
    "mate-backgrounds": "GPL-2+, CC-BY-SA-4.0",
    "ukui-wallpapers": "CC-BY-SA-3.0",
    "lomiri-wallpapers-16.04": "CC-BY-4.0, CC-BY-SA-3.0, CC-BY-SA-4.0, CC0-1.0",
    "lomiri-wallpapers-20.04": "CC-BY-4.0, CC-BY-SA-3.0, CC-BY-SA-4.0, CC0-1.0",
    "gnome-backgrounds": "CC-BY-SA-3.0",
}
PICTURES = (".jpg", ".png", ".webp")
SMALLEST_FILE = 150_000  # bytes: below it a wallpaper is hardly more than a gradient
PANS_PER_PICTURE = ((2500, 2), (0, 1))  # (long side in pixels from, pans): more show nothing new
# (width, height): how often it is drawn
WINDOWS = {(1920, 1080): 7, (1280, 720): 6, (720, 1280): 2, (1080, 1920): 1, (960, 540): 2, (854, 480): 2}
RATES = {24: 2, 25: 3, 30: 5, 50: 1, 60: 2}
MOST_PIXELS_A_SECOND = 1920 * 1080 * 30
NO_ENLARGEMENT = 1.1  # source pixels for each stored one, at least
DARK_SHARE = 0.25

PHOTOGRAPHS = 300
LOWEST_MOS = 80  # 0-100
PHOTOGRAPH_WINDOWS = {(448, 256): 3, (384, 288): 3, (288, 384): 2, (400, 400): 1}
STILLS = 600
LOWEST_MOS_OF_STILLS = 75
STILL_FRAMES = 3  # of one second: what a vision tower learns from, at a tenth of the cost of a clip
LICENCE_OF_PHOTOGRAPHS = "research data without a licence file (BIQ2021)"

SCENES = Path("/usr/share/doc/povray/examples")
SCENE_SIZE = (1440, 1080)
LONGEST_SCENE = 600  # seconds; the chosen ones take less than one minute of processor time

MOTIONS = ("steady", "eased", "stopping", "handheld", "handheld", "zooming")


def plan_wallpapers(shared: Path) -> list[Content]:
    """Several pans over every wallpaper that is large enough."""
    contents = []
    for package, licence in WALLPAPERS.items():
        for group, path in largest_pictures(package).items():
            with Image.open(path) as picture:
                width, height = picture.size
            pans = next(count for side, count in PANS_PER_PICTURE if max(width, height) >= side)
            contents += [
                plan_pan(f"{group}-{k}", group, path, (width, height), f"{package} (Debian): {path.name}", licence)
                for k in range(pans)
            ]
    return [content for content in contents if content]


def installed_files(package: str) -> list[Path]:
    """The files of an installed Debian package.

    Raises:
        MissingSource: it is not installed.
    """
    listed = subprocess.run(["dpkg-query", "-L", package], capture_output=True, text=True)
    if listed.returncode:
        raise MissingSource(f"The Debian package {package} is not installed: apt-get install {package}.")
    return [Path(line) for line in listed.stdout.splitlines()]


def largest_pictures(package: str) -> dict[str, Path]:
    """Group -> its largest picture file. Day and night, sizes and formats of one wallpaper are one group."""
    groups: dict[str, list[Path]] = {}
    for path in installed_files(package):
        if path.suffix in PICTURES and path.is_file() and path.stat().st_size >= SMALLEST_FILE:
            named = path.parents[2] if path.parent.name in ("images", "images_dark") else path
            if path.stem == "screenshot":
                continue
            stem = re.sub(r"(_\d+x\d+|-[dl]|-(Cold|Dark|Light|Warm|Radioactive)(-no-logo)?)$", "", named.stem)
            groups.setdefault(f"{package}_" + re.sub(r"\W+", "_", stem).lower(), []).append(path)
    return {group: max(paths, key=lambda path: path.stat().st_size) for group, paths in sorted(groups.items())}


def plan_pan(
    name: str, group: str, path: Path, size: tuple[int, int], source: str, licence: str, kind: str = "photograph-pan"
) -> Content | None:
    """One pan over a large picture of this (width, height); None where the picture is too small for any window."""
    rng = random.Random(name)
    fitting = {
        window: weight
        for window, weight in WINDOWS.items()
        if min(size[0] / window[0], size[1] / window[1]) >= NO_ENLARGEMENT
    }
    if not fitting:
        return None
    window = draw(rng, fitting)
    rates = {rate: n for rate, n in RATES.items() if rate * window[0] * window[1] <= MOST_PIXELS_A_SECOND}
    dark = rng.random() < DARK_SHARE
    make = partial(pan, path, window, draw(rng, rates), name, dark)
    return Content(name, group, "dark" if dark else kind, source, licence, make, motion=0.4)


def good_photographs(images: Path, lowest_mos: float) -> dict[str, str]:
    """Rated photograph of this MOS or more -> its split, sorted by name.

    Raises:
        MissingSource: there is no table of their MOS.
    """
    if not (images / "mos.csv").is_file():
        raise MissingSource(f"{images} holds no mos.csv: give the folder with --shared.")
    mos = read_image_mos(images / "mos.csv", (0, 1))
    splits = split_images(mos)
    good = sorted(file for file, value in mos.items() if value >= lowest_mos and (images / file).is_file())
    return {file: splits[file] for file in good}


def plan_photographs(shared: Path) -> list[Content]:
    """A pan over each of the rated photographs of high MOS that a seed draws, in the split of its photograph."""
    images = shared / "images"
    splits = good_photographs(images, LOWEST_MOS)
    contents = []
    for file in random.Random("photographs").sample(sorted(splits), min(PHOTOGRAPHS, len(splits))):
        name = f"photograph-{Path(file).stem}"
        rng = random.Random(name)
        make = partial(pan, images / file, draw(rng, PHOTOGRAPH_WINDOWS), draw(rng, RATES), name, False)
        contents.append(
            Content(
                name,
                file,
                "small-photograph-pan",
                f"BIQ2021: {file}",
                LICENCE_OF_PHOTOGRAPHS,
                make,
                split=splits[file],
                motion=0.4,
            )
        )
    return contents


def plan_stills(shared: Path) -> list[Content]:
    """Photographs of high MOS that stand still, as many as a seed draws of the training ones that no pan shows."""
    images = shared / "images"
    panned = {content.group for content in plan_photographs(shared)}
    good = [
        file
        for file, split in good_photographs(images, LOWEST_MOS_OF_STILLS).items()
        if split == "train" and file not in panned
    ]
    return [
        Content(
            f"still-{Path(file).stem}",
            file,
            "small-photograph",
            f"BIQ2021: {file}",
            LICENCE_OF_PHOTOGRAPHS,
            partial(stand_still, images / file),
            split="train",
            motion=0,
        )
        for file in random.Random("stills").sample(good, min(STILLS, len(good)))
    ]


def plan_scenes(shared: Path) -> list[Content]:
    """A pan over each ray-traced picture that was chosen among POV-Ray's examples, a group each."""
    require_programs(povray="povray povray-includes")
    installed_files("povray-examples")
    contents = []
    for scene in chosen("povray"):
        name = "povray-" + scene.replace("/", "-")
        source, licence = f"povray-examples 3.7 (Debian): {scene}", "CC-BY-SA-3.0"
        content = plan_pan(name, name, SCENES / f"{scene}.pov", SCENE_SIZE, source, licence, "render")
        contents.append(replace(content, make=partial(trace, SCENES / f"{scene}.pov", content.make)))
    return contents


def trace(scene: Path, pan_over: partial, output: Path) -> None:
    """Draws a scene, then stores the pan over it, which `pan_over` says but for the picture's path."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "scene.png"
        command = f"povray +W{SCENE_SIZE[0]} +H{SCENE_SIZE[1]} +A0.3 -D +WT1 +L/usr/share/povray-3.7/include".split()
        # the scenes include files beside them
        command += [f"+I{scene.name}", f"+O{picture}"]
        subprocess.run(command, cwd=scene.parent, check=True, capture_output=True, timeout=LONGEST_SCENE)
        pan(picture, *pan_over.args[1:], output)


def camera_path(
    rng: random.Random, motion: str, frames: int, rate: float, window: tuple[int, int], picture: tuple[int, int]
) -> np.ndarray:
    """The window's (left, top, right, bottom) in the picture, in pixels, float (frames, 4)."""
    widest = min(picture[0] / window[0], picture[1] / window[1])
    zooms = [rng.uniform(1, widest), rng.uniform(1, widest)]
    if motion != "zooming":
        zooms[1] = zooms[0] * rng.uniform(0.97, 1.03)
    time = np.linspace(0, 1, frames)
    if motion in ("eased", "stopping"):
        time = np.clip((time - 0.2) / 0.5, 0, 1) if motion == "stopping" else time
        time = time * time * (3 - 2 * time)
    zoom = np.clip(zooms[0] * (zooms[1] / zooms[0]) ** time, 1, widest)

    # from 0.01 to 0.25 window widths a second: slower than the eye loses it, fast enough to be seen
    pace = window[0] * math.exp(rng.uniform(math.log(0.01), math.log(0.25))) * frames / rate
    heading = rng.uniform(0, 2 * math.pi)
    way = np.array([math.cos(heading), math.sin(heading)]) * pace * zoom.mean()
    room = np.array(picture) - np.array(window) * zoom.max()
    # a start from which the way stays inside; a way longer than the room is cut
    way = np.clip(way, -room, room)
    start = [rng.uniform(max(0, -step), min(space, space - step)) for step, space in zip(way, room, strict=True)]
    place = np.array(start) + np.array(window) * zoom.max() / 2 + np.outer(time, way)
    if motion == "handheld":
        seconds = np.arange(frames) / rate
        for axis in (0, 1):
            for _ in range(4):
                frequency = rng.uniform(0.3, 3)  # a hand sways far slowly, and little fast
                amplitude = window[0] * rng.uniform(0.001, 0.004) / max(1, frequency)
                place[:, axis] += amplitude * np.sin(2 * math.pi * (frequency * seconds + rng.random()))
    half = np.outer(zoom, window) / 2
    place = np.clip(place, half, np.array(picture) - half)
    return np.concatenate([place - half, place + half], axis=1)


def night(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Graded as a scene at night: darker, steeper and a little blue or orange."""
    gamma, gain = rng.uniform(1.2, 1.8), rng.uniform(0.35, 0.6)
    tint = rng.choice(((0.8, 0.95, 1.15), (1.15, 0.95, 0.75), (1, 1, 1)))
    levels = [min(255, round(255 * gain * share * (level / 255) ** gamma)) for share in tint for level in range(256)]
    return picture.point(levels)


def stand_still(path: Path, output: Path) -> None:
    with Image.open(path) as file:
        picture = file.convert("RGB")
    size = tuple(side // 2 * 2 for side in picture.size)
    store([np.asarray(picture.crop((0, 0, *size)))] * STILL_FRAMES, size, str(STILL_FRAMES), output)


def pan(path: Path, window: tuple[int, int], rate: int, seed: str, dark: bool, output: Path) -> None:
    rng = random.Random(seed)
    with Image.open(path) as file:
        picture = file.convert("RGB")
    if dark:
        picture = night(picture, rng)
    frames = round(SECONDS * rate)
    boxes = camera_path(rng, rng.choice(MOTIONS), frames, rate, window, picture.size)
    store(
        (np.asarray(picture.resize(window, Image.Resampling.LANCZOS, box=tuple(box))) for box in boxes),
        window,
        str(rate),
        output,
    )
