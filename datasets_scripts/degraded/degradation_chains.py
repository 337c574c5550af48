"""Degradation chains: what happens to a clip on its way from the camera over edit and upload to the display.

A chain is a list of steps, plain dictionaries {kind, strength, value, ...} that JSON keeps. `strength` is 0-5, where 0 is
nothing and 5 is as bad as clips in use get; `value` is the filter's or codec's own number (`KINDS`). A seed draws chains,
and FFmpeg renders them.
"""

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from ...processing.answers_lmmvqa import DAMAGES
from .ffmpeg_process import TO_YUV420, encode


STAGES = ("camera", "edit", "upload", "display")
# Frames of 1280 x 720 and more take the fastest presets of a codec alone.
LARGE = 1280 * 720
STORE = ["-c:v", "libx264", "-preset", "superfast", "-crf", "10"]  # a chain whose last step is no codec
PRISTINE = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "6"]


@dataclass(frozen=True)
class Kind:
    """One kind of step.

    Attributes:
        values: its number at strengths 0-5, interpolated in between; it rises or falls throughout.
        damage: what people see of it; None for an edit that has no name as a damage.
        filters: FFmpeg filters, or `encoder`: FFmpeg options of a codec, with fields for the step's own entries and for
            `width`, `height`, `rate`, `frames`.
        presets: of the codec, from fast to slow, or other texts, of which a draw takes one as `{preset}`.
        decimals: of the number.
        most: that the codec takes, at which its picture is not as bad yet as that of others at strength 5.
    """

    values: tuple[float, float, float, float, float, float]
    damage: str | None
    filters: str | None = None
    encoder: str | None = None
    presets: tuple[str, ...] = ()
    decimals: int = 2
    most: float = math.inf


X265 = "-x265-params pools=none:frame-threads=1:log-level=error"
EXPOSE = "lutrgb=" + ":".join(rf"{c}=clip(val*{{value}}\,0\,255)" for c in "rgb") + f",{TO_YUV420}"
EVEN = "scale=trunc(iw/{value}/2)*2:trunc(ih/{value}/2)*2:flags=area"
# Frames that are not kept are replaced by the one before them: `fps` fills the holes that `select` leaves.
HOLD = "select='{kept}',fps={rate}:start_time=0,tpad=stop_mode=clone:stop={frames},trim=end_frame={frames}"
SWING = r"(0.6*sin(n*{fast}+{phase})+0.4*sin(n*{slow}+2*{phase}))"
SHAKE = (
    "scale=iw+2*{pixels}:ih+2*{pixels}:flags=bicubic,crop={width}:{height}"
    f":x='{{pixels}}*(1+{SWING})':y='{{pixels}}*(1+{SWING.replace('{phase}', '{phase_y}')})'"
)

KINDS = {
    # camera; blur in pixels, noise in FFmpeg's units (deviation times the root of 3), exposure as a factor
    "lens_blur": Kind((0, 0.45, 0.75, 1.15, 1.8, 3), "blur", "gblur=sigma={value}"),
    "defocus": Kind((0.5, 0.8, 1.4, 2, 3, 5), "blur", "boxblur=luma_radius={value}:luma_power=1", decimals=0),
    "motion_blur": Kind((0, 0.6, 1.1, 1.8, 3, 5), "blur", "dblur=angle={angle}:radius={value}"),
    "noise": Kind(
        (0, 5, 11, 20, 33, 55),
        "noise",
        "noise={preset}={value}:allf=t:all_seed={seed}",
        presets=("alls", "alls", "c0s"),
        decimals=0,
    ),
    "overexposure": Kind((1, 1.2, 1.45, 1.8, 2.3, 3.2), "exposure", EXPOSE),
    "underexposure": Kind((1, 0.78, 0.58, 0.42, 0.29, 0.17), "exposure", EXPOSE),
    # edit; shares of the clip, seconds, and for shake shares of the picture's shorter side
    "downscale": Kind(
        (1, 1.4, 1.9, 2.6, 3.7, 6),
        "low_resolution",
        EVEN + ",scale={width}:{height}:flags={preset}",
        presets=("bicubic", "bilinear", "lanczos"),
    ),
    "sharpen": Kind((0, 0.5, 1, 1.7, 2.6, 4), None, "unsharp=5:5:{value}:5:5:0"),
    "contrast": Kind((1, 1.15, 1.3, 1.5, 1.8, 2.3), "exposure", "eq=contrast={value}"),
    "washed_out": Kind((1, 0.86, 0.73, 0.6, 0.46, 0.32), "exposure", "eq=contrast={value}:saturation={value}"),
    "banding": Kind(
        (1, 4, 7, 11, 17, 28),
        "banding",
        r"lutyuv=y=clip(round(val/{value})*{value}\,16\,235)"
        + "".join(rf":{c}=128+round((val-128)/{{value}})*{{value}}" for c in "uv"),
        decimals=0,
    ),
    "stutter": Kind((0, 1 / 15, 1 / 10, 1 / 7, 1 / 5, 1 / 3), "stutter", HOLD, decimals=4),
    "freeze": Kind((0, 0.12, 0.22, 0.36, 0.55, 0.8), "freeze", HOLD, decimals=3),
    "drop": Kind((0, 0.08, 0.15, 0.24, 0.36, 0.55), "stutter", HOLD, decimals=4),
    "shake": Kind((0, 0.004, 0.008, 0.014, 0.022, 0.035), "shake", SHAKE, decimals=4),
    # upload; rate factors, quantisers, and bits per pixel
    "h264": Kind(
        (17, 25, 31, 36, 42, 50),
        "compression",
        encoder="-c:v libx264 -preset {preset} -crf {value}",
        presets=("ultrafast", "veryfast", "veryfast", "medium"),
        decimals=0,
    ),
    "h264_bitrate": Kind(
        (0.5, 0.16, 0.085, 0.045, 0.022, 0.01),
        "compression",
        encoder="-c:v libx264 -preset {preset} -b:v {bitrate} -maxrate {bitrate} -bufsize {bitrate}",
        presets=("ultrafast", "veryfast", "veryfast", "medium"),
        decimals=4,
    ),
    "hevc": Kind(
        (18, 27, 33, 38, 43, 51),
        "compression",
        encoder=f"-c:v libx265 -preset {{preset}} {X265} -crf {{value}}",
        presets=("ultrafast", "ultrafast", "veryfast"),
        decimals=0,
    ),
    "hevc_bitrate": Kind(
        (0.5, 0.12, 0.06, 0.03, 0.014, 0.006),
        "compression",
        encoder=f"-c:v libx265 -preset {{preset}} {X265} -b:v {{bitrate}}",
        presets=("ultrafast", "ultrafast", "veryfast"),
        decimals=4,
    ),
    "vp9": Kind(
        (15, 40, 50, 60, 70, 80),
        "compression",
        encoder="-c:v libvpx-vp9 -deadline realtime -cpu-used {preset} -b:v 0 -crf {value}",
        presets=("8", "6"),
        decimals=0,
        most=63,
    ),
    "av1": Kind(
        (15, 40, 50, 60, 70, 80),
        "compression",
        encoder="-c:v libsvtav1 -preset {preset} -svtav1-params lp=1 -crf {value}",
        presets=("12", "10"),
        decimals=0,
        most=63,
    ),
    # unofficial: MPEG-2 knows no 12.5 or 35 frames per second; its own rate is then approximate, the time stamps hold
    "mpeg2": Kind(
        (2, 9, 16, 23, 30, 37),
        "compression",
        encoder="-c:v mpeg2video -strict unofficial -q:v {value}",
        decimals=0,
        most=31,
    ),
    "mpeg4": Kind((2, 9, 16, 23, 30, 37), "compression", encoder="-c:v mpeg4 -q:v {value}", decimals=0, most=31),
    # display
    "pixelation": Kind((1, 1.6, 2.3, 3.2, 4.6, 7), "blocking", EVEN + ",scale={width}:{height}:flags=neighbor"),
    # from the size that the clip was made and uploaded in down to the one it is watched in: no damage
    "shrink": Kind((0, 1, 2, 3, 4, 5), None, "scale={width}:{height}:flags=area"),
}
CODECS = tuple(name for name, kind in KINDS.items() if kind.encoder)
TIME_KINDS = ("stutter", "freeze", "drop")
BLOCKY = ("mpeg2", "mpeg4")  # codecs without a deblocking filter
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
# The versions whose figures on real clips have been published from the start, beside those drawn.
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
MEDIUM = 3.0
LADDER_CRFS = range(18, 49, 3)


@dataclass(frozen=True)
class Source:
    """What a chain begins from: `frames` frames of a file from `first` on, at (width, height) and `rate`."""

    path: Path
    first: int
    frames: int
    size: tuple[int, int]
    rate: Fraction

    @property
    def cut(self) -> list[str]:
        return [f"trim=start_frame={self.first}:end_frame={self.first + self.frames},setpts=PTS-STARTPTS"]


def step(kind: str, strength: float, **entries) -> dict:
    """One step at a strength of 0-5; the strength kept is that of the rounded number."""
    values, decimals = KINDS[kind].values, KINDS[kind].decimals
    value = min(KINDS[kind].most, round(float(np.interp(strength, range(6), values)), decimals))
    return step_of_value(kind, int(value) if decimals == 0 else value, **entries)


def step_of_value(kind: str, value: float, **entries) -> dict:
    """One step by its own number, such as a codec's rate factor."""
    order = 1 if KINDS[kind].values[0] < KINDS[kind].values[-1] else -1
    strength = float(np.interp(value, KINDS[kind].values[::order], range(6)[::order]))
    # h264 and others have a preset that a version of a table does not name
    presets = {"preset": KINDS[kind].presets[-2]} if len(KINDS[kind].presets) > 1 else {}
    return {"kind": kind, "strength": round(strength, 2), "value": value, **presets, **entries}


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
    at = next((k for k, of_chain in enumerate(chain) if of_chain.get("stage") == "display"), len(chain))
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
    versions = {
        f"medium {kind}": draw_step(rng, kind, MEDIUM, pixels)
        for kind in dict.fromkeys(kind for stage in WEIGHTS.values() for kind in stage)
    }
    versions |= {version: [step_of_value(kind, value)] for version, (kind, value) in FIXED.items()}
    versions["noise 30"][0] |= {"preset": "alls", "seed": 0}
    versions["6 of 12 frames frozen"] = [step_of_value("drop", round(6 / float(rate), 4), start=0, group=6)]
    return versions | {f"chain {k}": draw_chain(rng, pixels) for k in range(chains)}


def ladder() -> dict[str, list[dict]]:
    """Version -> chain of one H.264 ladder."""
    return {f"h264 crf {crf}": [step_of_value("h264", crf)] for crf in LADDER_CRFS}


def damage(chain: Iterable[dict]) -> dict[str, float]:
    """Kind of damage -> strength of 0-5, the largest of the chain's steps; all of them 0 is `none`."""
    strengths = dict.fromkeys(DAMAGES, 0.0)

    def add(name: str | None, strength: float) -> None:
        if name:
            strengths[name] = round(max(strengths[name], strength), 2)

    for of_chain in chain:
        kind, strength = of_chain["kind"], of_chain["strength"]
        add(KINDS[kind].damage, strength)
        if kind in BLOCKY:
            add("blocking", max(0.0, strength - 1))
        if "smaller" in of_chain:
            add("low_resolution", step_of_value("downscale", of_chain["smaller"])["strength"])
    return strengths


def filters_of(of_chain: dict, source: Source, size: tuple[int, int]) -> str:
    """The FFmpeg filters of a step that is no codec, on frames of (width, height) `size`."""
    fields = dict(of_chain) | {"width": size[0], "height": size[1], "rate": source.rate, "frames": source.frames}
    kind = of_chain["kind"]
    if kind in TIME_KINDS:
        fields["kept"] = kept_frames(of_chain, source.frames, float(source.rate))
    elif kind == "shake":
        turn = 2 * math.pi * of_chain["hertz"] / float(source.rate)
        fields |= {
            "pixels": max(2, 2 * round(of_chain["value"] * min(size) / 2)),
            "slow": round(turn, 4),
            "fast": round(2.3 * turn, 4),
            "phase_y": round(of_chain["phase"] + 1.7, 2),
        }
    return KINDS[kind].filters.format(**fields)


def kept_frames(of_chain: dict, frames: int, rate: float) -> str:
    """The frames that a step in time shows, as an expression of FFmpeg's `select`; the others show the one before."""
    kind, value = of_chain["kind"], of_chain["value"]
    if kind == "stutter":
        return f"not(mod(n,{max(2, round(value * rate))}))"
    if kind == "freeze":
        frozen = min(frames, max(2, round(value * frames)))
        first = round(of_chain["start"] * (frames - frozen))
        return f"not(between(n,{first + 1},{first + frozen - 1}))"
    # drop: of every second group of frames the first alone is shown
    group = of_chain.get("group") or max(2, round(value * rate))
    shift = 0 if "group" in of_chain else round(of_chain["start"] * 2 * group)
    return f"not(n)+lte(mod(n+{shift},{2 * group}),{group})"


def plan_passes(chain: Iterable[dict], source: Source, display: tuple[int, int]) -> list[tuple[list[str], list[str]]]:
    """FFmpeg's runs for a chain, each as (filters, encoder): a codec ends a run."""
    passes, filters, size = [], list(source.cut), source.size
    for of_chain in chain:
        kind = KINDS[of_chain["kind"]]
        if kind.encoder is None:
            size = display if of_chain["kind"] == "shrink" else size
            filters.append(filters_of(of_chain, source, size))
            continue
        smaller = of_chain.get("smaller", 1)
        coded = tuple(max(16, round(side / smaller / 2) * 2) for side in size)
        if coded != size:
            filters.append(f"scale={coded[0]}:{coded[1]}:flags=area")
        bitrate = max(1000, round(of_chain["value"] * coded[0] * coded[1] * source.rate))
        passes.append((filters, kind.encoder.format(**of_chain, bitrate=bitrate).split()))
        filters = [f"scale={size[0]}:{size[1]}:flags=bicubic"] if coded != size else []
    if filters or not passes:
        passes.append((filters, STORE))
    return passes


def render(chain: Iterable[dict], source: Source, display: tuple[int, int], output: Path) -> None:
    """Writes the clip that a chain makes of a source, at the display's size; it appears only when complete.

    A codec that ends the chain keeps its own bitstream; else the clip is stored near-losslessly.

    Raises:
        RuntimeError: FFmpeg failed.
    """
    passes = plan_passes(chain, source, display)
    before = source.path
    for k, (filters, encoder) in enumerate(passes):
        last = k == len(passes) - 1
        target = output if last else output.with_suffix(f".{k}.mkv")
        encode(["-threads", "1", "-i", str(before), "-vf", ",".join(filters) or "null"], target, encoder)
        if before != source.path:
            before.unlink()
        before = target
