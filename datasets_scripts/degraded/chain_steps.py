"""Degradation chains: what happens to a clip on its way from the camera over edit and upload to the display.

A chain is a list of steps, plain dictionaries {kind, strength, value, ...} that JSON keeps. `strength` is 0-5, where 0 is
nothing and 5 is as bad as clips in use get; `value` is the filter's or codec's own number (`KINDS`). `chain_draws` draws
chains by seed, and `chain_rendering` renders them.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ...processing.answers_lmmvqa import DAMAGES
from .ffmpeg_process import TO_YUV420


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


def damage(chain: Iterable[dict]) -> dict[str, float]:
    """Kind of damage -> strength of 0-5, the largest of the chain's steps; all of them 0 is `none`."""
    strengths = dict.fromkeys(DAMAGES, 0.0)

    def add(name: str | None, strength: float) -> None:
        if name:
            strengths[name] = round(max(strengths[name], strength), 2)

    for a_step in chain:
        kind, strength = a_step["kind"], a_step["strength"]
        add(KINDS[kind].damage, strength)
        if kind in BLOCKY:
            add("blocking", max(0.0, strength - 1))
        if "smaller" in a_step:
            add("low_resolution", step_of_value("downscale", a_step["smaller"])["strength"])
    return strengths
