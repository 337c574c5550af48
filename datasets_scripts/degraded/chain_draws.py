"""Which degradation chains a clip goes through: drawn by a seed to train on, and set ones to measure with."""

import random
from fractions import Fraction

from .chain_steps import CODECS, KINDS, step, step_of_value


# Frames of 1280 x 720 and more take the fastest presets of a codec alone.
LARGE = 1280 * 720
# How often a draw takes each kind of a stage. `low_light` is an underexposed picture with noise.
WEIGHTS = {
    "camera": {
        "noise": 3,
        "lens_blur": 2,
        "motion_blur": 1.5,
        "defocus": 1,
        "low_light": 2,
        "overexposure": 1.5,
        "underexposure": 1,
    },
    "edit": {
        "downscale": 3,
        "sharpen": 1,
        "contrast": 0.7,
        "washed_out": 0.7,
        "banding": 1.5,
        "stutter": 1.5,
        "freeze": 1.5,
        "drop": 1,
        "shake": 1.5,
    },
    "upload": {
        "h264": 4,
        "h264_bitrate": 2,
        "hevc": 2,
        "hevc_bitrate": 1,
        "vp9": 1.5,
        "av1": 1.5,
        "mpeg2": 2,
        "mpeg4": 1.5,
    },
    "display": {"pixelation": 2, "downscale": 2, "h264": 2, "vp9": 1, "mpeg4": 1},
}
STEP_KINDS = tuple(dict.fromkeys(kind for stage in WEIGHTS.values() for kind in stage))
ALONE = {"camera": 0.4, "edit": 0.42, "display": 0.18}  # stages of steps alone; codecs have their ladders
CHAINS = {  # stages of chains
    ("camera", "upload"): 4,
    ("edit", "upload"): 4,
    ("upload", "display"): 3,
    ("camera", "edit"): 1,
    ("camera", "edit", "upload"): 3,
    ("camera", "upload", "display"): 2,
    ("edit", "upload", "display"): 2,
}
LOWEST, HIGHEST = 0.5, 5.0  # strengths drawn
MILDER = 1.5  # power that makes mild steps commoner in a chain, where faults add up
UPLOADED_SMALLER = 0.2  # share of the uploads in chains that are encoded at a smaller size
FROM_STORED = 0.3  # share of the chains that begin at the content's stored size where that is larger
STORED_LARGER = 1.3  # than the display by so much
# Versions that real clips are measured in, beside those drawn
FIXED = {
    "h264 crf 30": ("h264", 30),
    "h264 crf 38": ("h264", 38),
    "h264 crf 46": ("h264", 46),
    "hevc crf 42": ("hevc", 42),
    "mpeg2 q 24": ("mpeg2", 24),
    "noise 30": ("noise", 30),
    "down 4x": ("downscale", 4),
    "blur 3": ("lens_blur", 3),
}
FROZEN = "6 of 12 frames frozen"
MEDIUM = 3.0
LADDER_CRFS = range(18, 49, 3)


def draw_step(rng: random.Random, kind: str, strength: float, pixels: int) -> list[dict]:
    """The step or, for `low_light`, steps of a kind, with what else it needs drawn; `pixels` a frame bound the presets."""
    if kind == "low_light":
        noise = draw_step(rng, "noise", strength, pixels)
        return [step("underexposure", max(LOWEST, 0.7 * strength)), *noise]
    entries = {}
    presets = KINDS[kind].presets
    if presets:
        entries["preset"] = rng.choice(presets[:2] if kind in CODECS and pixels >= LARGE else presets)
    if kind == "motion_blur":
        entries["angle"] = rng.randrange(180)
    elif kind == "noise":
        entries["seed"] = rng.randrange(2**31)
    elif kind in ("freeze", "drop"):
        entries["start"] = round(rng.random(), 3)
    elif kind == "shake":
        entries |= {"hertz": round(rng.uniform(1.5, 5), 2), "phase": round(rng.uniform(0, 6.28), 2)}
    return [step(kind, strength, **entries)]


def draw(rng: random.Random, weights: dict) -> object:
    return rng.choices(list(weights), list(weights.values()))[0]


def draw_versions(
    name: str, count: int, seed: int, display: tuple[int, int], stored: tuple[int, int], soft: bool
) -> dict[str, list[dict]]:
    """Version -> chain: a ladder of one codec, steps alone, and chains of two and three steps.

    Each content draws from a seed of its own, so that other contents change nothing.

    Args:
        name: of the content.
        count: versions beside the untouched one.
        seed: of the whole set.
        display: (width, height) that the clip is watched in.
        stored: (width, height) of the content, in which a chain may begin.
        soft: the content is clean at the display size only, so that each chain begins at the stored size.
    """
    rng = random.Random(f"{seed}:{name}:versions")
    pixels = display[0] * display[1]
    num_ladder = max(2, round(0.28 * count))
    num_alone = round(0.34 * count)
    versions = {}
    codec = draw(rng, WEIGHTS["upload"])
    first = draw_step(rng, codec, MEDIUM, pixels)[0]
    highest = step(codec, HIGHEST)["strength"]
    for k in range(num_ladder):
        strength = LOWEST + (highest - LOWEST) * (k + rng.random()) / num_ladder
        versions[f"ladder {k}"] = [step(codec, strength, **({"preset": first["preset"]} if "preset" in first else {}))]
    kinds = set()
    while len(kinds) < num_alone:
        kind = draw(rng, WEIGHTS[draw(rng, ALONE)])
        if kind not in kinds and kind not in CODECS:
            versions[f"alone {len(kinds)}"] = draw_step(rng, kind, rng.uniform(LOWEST, HIGHEST), pixels)
            kinds.add(kind)
    for k in range(count - len(versions)):
        versions[f"chain {k}"] = draw_chain(rng, pixels)
    larger = min(stored) >= STORED_LARGER * min(display) and stored[0] * stored[1] <= LARGE
    for version, chain in versions.items():
        from_stored = version.startswith("chain") and larger and rng.random() < FROM_STORED
        if soft or from_stored:
            versions[version] = shrunk(chain)
    return versions


def versions_of_each_kind(name: str, seed: int, display: tuple[int, int], soft: bool) -> dict[str, list[dict]]:
    """Version -> chain of one step: every kind once, at a drawn strength; arguments as in `draw_versions`.

    `draw_versions` takes codecs often and each other kind seldom, as uploads do; a model learns too little of rare
    kinds from it.
    """
    rng = random.Random(f"{seed}:{name}:each")
    pixels = display[0] * display[1]
    versions = {f"each {kind}": draw_step(rng, kind, rng.uniform(LOWEST, HIGHEST), pixels) for kind in STEP_KINDS}
    return {version: shrunk(chain) if soft else chain for version, chain in versions.items()}


def draw_chain(rng: random.Random, pixels: int) -> list[dict]:
    chain = []
    stages = draw(rng, CHAINS)
    for stage in stages:
        strength = LOWEST + (HIGHEST - LOWEST) * rng.random() ** MILDER
        steps = draw_step(rng, draw(rng, WEIGHTS[stage]), strength, pixels)
        if stage == "upload" and rng.random() < UPLOADED_SMALLER:
            steps[0]["smaller"] = rng.choice((1.33, 1.5, 2, 3))
        chain += [{"stage": stage, **of_stage} for of_stage in steps]
    return chain


def shrunk(chain: list[dict]) -> list[dict]:
    """The chain from the stored size on, which is scaled to the display before what the display does."""
    at = next((k for k, a_step in enumerate(chain) if a_step.get("stage") == "display"), len(chain))
    return [*chain[:at], {"kind": "shrink", "strength": 0.0, "value": 0}, *chain[at:]]


def measured_versions(
    name: str, chains: int, seed: int, display: tuple[int, int], rate: Fraction
) -> dict[str, list[dict]]:
    """Version -> chain for measuring: each kind alone at medium strength, `FIXED`, and some chains.

    Args:
        name, seed, display: as in `draw_versions`.
        chains: how many of these.
        rate: frames per second.
    """
    rng = random.Random(f"{seed}:{name}:test")
    pixels = display[0] * display[1]
    versions = {f"medium {kind}": draw_step(rng, kind, MEDIUM, pixels) for kind in STEP_KINDS}
    versions |= {version: [step_of_value(kind, value)] for version, (kind, value) in FIXED.items()}
    versions["noise 30"][0] |= {"preset": "alls", "seed": 0}
    versions[FROZEN] = [step_of_value("drop", round(6 / float(rate), 4), start=0, group=6)]
    return versions | {f"chain {k}": draw_chain(rng, pixels) for k in range(chains)}


def ladder() -> dict[str, list[dict]]:
    """Version -> chain of one H.264 ladder."""
    return {f"h264 crf {crf}": [step_of_value("h264", crf)] for crf in LADDER_CRFS}
