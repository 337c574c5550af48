"""Simulated scenes -> contents: bodies that fall, roll and collide (MuJoCo, PyBullet) while a camera moves around them."""

import math
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from .content import SECONDS, Content, numbered
from .stepped_games import require
from .storing import store


MUJOCO_SCENES, PYBULLET_SCENES = 40, 24
MUJOCO_WINDOWS = ((1280, 720), (1280, 720), (960, 540), (1920, 1080), (720, 1280))
PYBULLET_WINDOW = (960, 540)
RATES = (25, 30, 30, 50)
SHAPES = ("box", "sphere", "capsule", "cylinder", "ellipsoid")
PATTERNS = ("checker", "gradient", "flat")

# of pybullet_data, with a scale that makes them about half a metre high
BODIES = {
    "duck_vhacd.urdf": 8,
    "teddy_vhacd.urdf": 4,
    "r2d2.urdf": 0.5,
    "soccerball.urdf": 0.5,
    "racecar/racecar.urdf": 1.2,
    "husky/husky.urdf": 0.7,
    "humanoid/humanoid.urdf": 0.15,
    "laikago/laikago_toes.urdf": 0.8,
    "kuka_iiwa/model.urdf": 0.6,
    "franka_panda/panda.urdf": 0.6,
    "a1/a1.urdf": 0.9,
    "mini_cheetah/mini_cheetah.urdf": 1,
    "lego/lego.urdf": 6,
    "jenga/jenga.urdf": 3,
    "domino/domino.urdf": 8,
    "objects/mug.urdf": 3,
    "table/table.urdf": 0.5,
    "tray/traybox.urdf": 0.8,
}
FURTHER_BODIES = "random_urdfs"  # a folder of small objects, 000 to 999
FLOORS = ("plane.urdf", "plane100.urdf", "samurai.urdf")


def plan_mujoco(shared: Path) -> list[Content]:
    """Scenes of bodies drawn by a seed, each its own group."""
    require("mujoco", "mujoco")
    return numbered(
        "mujoco",
        MUJOCO_SCENES,
        "render",
        "mujoco 4.0 (PyPI): scene of this recipe",
        "Apache-2.0 (MuJoCo); own scene",
        render_mujoco,
    )


def mujoco_scene(rng: random.Random, window: tuple[int, int], dark: bool) -> str:
    """A scene as MuJoCo's XML: a patterned floor, walls, lights with shadows, and bodies above the floor."""

    def colour() -> str:
        return " ".join(f"{rng.uniform(0.05, 1):.2f}" for _ in range(3))

    def texture(name: str) -> str:
        size, mark = rng.choice((128, 256, 512)), rng.choice(("none", "edge", "cross", "random"))
        return (
            f'<texture name="{name}" type="2d" builtin="{rng.choice(PATTERNS)}" rgb1="{colour()}" rgb2="{colour()}" '
            f'mark="{mark}" markrgb="{colour()}" random="0.2" width="{size}" height="{size}"/>'
            f'<material name="{name}" texture="{name}" texrepeat="{rng.randint(1, 9)} {rng.randint(1, 9)}" '
            f'reflectance="{rng.choice((0, 0, 0.2, 0.4))}" specular="{rng.random():.2f}" '
            f'shininess="{rng.random():.2f}"/>'
        )

    materials = [f"material{k}" for k in range(8)]
    bodies = []
    for _ in range(rng.randint(12, 40)):
        sizes = " ".join(f"{rng.uniform(0.08, 0.3):.3f}" for _ in range(3))
        place = f"{rng.uniform(-1.6, 1.6):.2f} {rng.uniform(-1.6, 1.6):.2f} {rng.uniform(0.3, 2.5):.2f}"
        turn = " ".join(str(rng.randint(0, 359)) for _ in range(3))
        bodies.append(
            f'<body pos="{place}" euler="{turn}"><freejoint/>'
            f'<geom type="{rng.choice(SHAPES)}" size="{sizes}" material="{rng.choice(materials)}"/></body>'
        )
    level = rng.uniform(0.15, 0.3) if dark else rng.uniform(0.5, 0.8)
    lights = "".join(
        f'<light pos="{rng.uniform(-3, 3):.1f} {rng.uniform(-3, 3):.1f} {rng.uniform(3, 5):.1f}" dir="0 0 -1" '
        f'diffuse="{level:.2f} {level:.2f} {level:.2f}" castshadow="{str(k == 0).lower()}"/>'
        for k in range(rng.randint(1, 3))
    )
    walls = "".join(
        f'<geom type="box" pos="{x} {y} 1" size="{a} {b} 1" material="{rng.choice(materials)}"/>'
        for x, y, a, b in ((4, 0, 0.1, 4), (-4, 0, 0.1, 4), (0, 4, 4, 0.1), (0, -4, 4, 0.1))
        if rng.random() < 0.6
    )
    return (
        f'<mujoco><visual><global offwidth="{window[0]}" offheight="{window[1]}"/><quality shadowsize="2048" '
        f'offsamples="4"/><headlight ambient="{level / 3:.2f} {level / 3:.2f} {level / 3:.2f}"/></visual>'
        f'<asset><texture type="skybox" builtin="gradient" rgb1="{colour()}" rgb2="{colour()}" width="256" '
        f'height="256"/>{"".join(map(texture, materials))}</asset><worldbody>{lights}'
        f'<geom type="plane" size="8 8 .1" material="{rng.choice(materials)}"/>{walls}{"".join(bodies)}'
        "</worldbody></mujoco>"
    )


def render_mujoco(index: int, output: Path) -> None:
    """Stores one scene, drawn off screen by EGL."""
    os.environ["MUJOCO_GL"] = "egl"  # read when mujoco is imported: it is imported here, in a process of its own
    import mujoco

    rng = random.Random(f"mujoco:{index}")
    window, rate, dark = rng.choice(MUJOCO_WINDOWS), rng.choice(RATES[:3]), rng.random() < 0.2
    model = mujoco.MjModel.from_xml_string(mujoco_scene(rng, window, dark))
    data, camera = mujoco.MjData(model), mujoco.MjvCamera()
    start, turn = rng.uniform(0, 360), rng.choice((-1, 1)) * rng.uniform(5, 40)
    near, closer = rng.uniform(2.2, 4.5), rng.uniform(-0.4, 0.4)
    height, rise = rng.uniform(-50, -12), rng.uniform(-6, 6)

    def frames(renderer: object) -> Iterator[np.ndarray]:
        for k in range(round(SECONDS * rate)):
            while data.time < k / rate:
                mujoco.mj_step(model, data)
            seconds = k / rate
            camera.lookat[:] = 0, 0, 0.4
            camera.azimuth = start + turn * seconds
            camera.distance = near + closer * seconds
            camera.elevation = height + rise * seconds
            renderer.update_scene(data, camera)
            yield renderer.render()

    with mujoco.Renderer(model, window[1], window[0]) as renderer:
        store(frames(renderer), window, str(rate), output)


def plan_pybullet(shared: Path) -> list[Content]:
    """Scenes of pybullet_data's bodies, each its own group."""
    require("pybullet", "pybullet")
    return numbered(
        "pybullet",
        PYBULLET_SCENES,
        "render",
        "pybullet 3.2 (PyPI): bodies of pybullet_data",
        "Zlib (PyBullet); bodies under their own free licences (pybullet_data)",
        render_pybullet,
    )


def render_pybullet(index: int, output: Path) -> None:
    """Stores one scene, drawn by PyBullet's own renderer; every second scene is halved, which smooths its edges."""
    import pybullet
    import pybullet_data

    rng = random.Random(f"pybullet:{index}")
    rate, halved = rng.choice(RATES[:3]), index % 2
    pybullet.connect(pybullet.DIRECT)
    pybullet.setAdditionalSearchPath(pybullet_data.getDataPath())
    pybullet.setGravity(0, 0, -9.8)
    pybullet.loadURDF(FLOORS[index % len(FLOORS)], useFixedBase=True)
    named = rng.sample(sorted(BODIES), rng.randint(4, 8))
    further = [f"{FURTHER_BODIES}/{k:03d}/{k:03d}.urdf" for k in rng.sample(range(1000), rng.randint(4, 12))]
    for body in [*named, *further]:
        place = rng.uniform(-1.2, 1.2), rng.uniform(-1.2, 1.2), rng.uniform(0.1, 1)
        turn = pybullet.getQuaternionFromEuler([0, 0, rng.uniform(0, 2 * math.pi)])
        pybullet.loadURDF(body, place, turn, globalScaling=BODIES.get(body, 3))
    start, turn = rng.uniform(0, 360), rng.choice((-1, 1)) * rng.uniform(5, 30)
    near, height = rng.uniform(1.6, 3), rng.uniform(-45, -15)
    light = [rng.uniform(-2, 2), rng.uniform(-2, 2), rng.uniform(1, 3)]
    width, lines = PYBULLET_WINDOW
    projection = pybullet.computeProjectionMatrixFOV(50, width / lines, 0.05, 60)

    def frames() -> Iterator[np.ndarray]:
        for k in range(round(SECONDS * rate)):
            for _ in range(240 // rate):  # PyBullet's step is 1/240 s
                pybullet.stepSimulation()
            view = pybullet.computeViewMatrixFromYawPitchRoll(
                [0, 0, 0.3], near, start + turn * k / rate, height, 0, upAxisIndex=2
            )
            _, _, pixels, _, _ = pybullet.getCameraImage(
                width, lines, view, projection, lightDirection=light, shadow=1, renderer=pybullet.ER_TINY_RENDERER
            )
            picture = np.reshape(pixels, (lines, width, 4))[..., :3].astype(np.uint8)
            yield np.asarray(Image.fromarray(picture).reduce(2)) if halved else picture

    size = (width // 2, lines // 2) if halved else (width, lines)
    store(frames(), size, str(rate), output)
    pybullet.disconnect()
