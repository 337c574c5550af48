"""Labels of degradation chains: VMAF where it sees what people see, and rules where it does not.

A chain's steps are of two sorts. VMAF judges what is lost of the picture: blur, scaling, pixelation, codecs. It is no guide
to exposure, contrast, sharpening and changes in time, the rule steps: VMAF is measured with them in the reference too, so
that frames and brightness agree, and each then keeps its `retained` share of the label. Noise is judged by VMAF and by a
share of what VMAF gives the chain without it, whichever is lower, since VMAF overrates it. Banding is seen by VMAF in part
and keeps a share besides: CAMBI, libvmaf's measure of it, falls where bands are coarser than it looks for. Shares are
multiplied: two faults are worse than either. These are labels of a rule, not opinions of people.
"""

import itertools
from pathlib import Path

import av
import numpy as np

from .chain_draws import LARGE
from .chain_rendering import Source, filters_of, plan_passes, render
from .chain_steps import damage
from .ffmpeg_process import luma_change, luma_difference, measure_vmaf


# What a rule step takes from the label at strengths 0-5 where all of it is seen, by judgement: people were not asked.
LOSSES = {
    "overexposure": (0, 0.16, 0.4, 0.62, 0.8, 0.95),
    "underexposure": (0, 0.1, 0.24, 0.42, 0.62, 0.85),
    "contrast": (0, 0.05, 0.14, 0.26, 0.4, 0.6),
    "washed_out": (0, 0.06, 0.15, 0.28, 0.44, 0.64),
    "banding": (0, 0.07, 0.18, 0.32, 0.5, 0.7),
    "sharpen": (0, 0.02, 0.06, 0.13, 0.24, 0.42),
    "stutter": (0, 0.18, 0.36, 0.54, 0.7, 0.85),
    "drop": (0, 0.18, 0.36, 0.54, 0.7, 0.85),
    "freeze": (0, 0.2, 0.38, 0.56, 0.72, 0.88),
    "shake": (0, 0.14, 0.3, 0.48, 0.66, 0.82),
}
# The change of luma (root mean square, of 255) of which half is seen: a freeze of a still picture is not there.
HALF_SEEN = {
    "overexposure": 12.0,
    "underexposure": 0.5,  # a dark picture loses more than a bright one, though it changes less
    "contrast": 4.0,
    "washed_out": 4.0,
    "banding": 1.5,
    "sharpen": 4.0,
    "stutter": 1.5,
    "drop": 1.5,
    "freeze": 1.5,
    "shake": 1.5,
}
# A gain does harm by what it clips: the change is measured after the gain is taken back. A dim picture made brighter is
# not worse.
TAKEN_BACK = ("overexposure", "contrast")
# Noise as luma's root mean square of 255, less what the content's own texture hides -> share retained
NOISE = (0, 1.5, 3, 6, 10, 15, 22, 35, 60)
NOISE_RETAINED = (1, 0.97, 0.9, 0.76, 0.62, 0.5, 0.38, 0.24, 0.1)
HIDING_TEXTURE = 12.0  # deviation of luma in a block that hides 3 dB of noise
BLOCK = 8  # pixels
TEXTURE_FRAMES = 4
MANY_FRAMES = 50
PICTURE_DAMAGES = ("compression", "blur", "noise", "blocking", "low_resolution")
SEEN_LABELS = (97, 90, 80, 65, 42, 15)  # about what a picture has with one damage at strengths 0-5
UNSEEN = 0.99  # share retained: less is lost than can be seen


def retained(kind: str, strength: float, change: float) -> float:
    """Share of the label, 0-1, that a clip keeps after a rule step that changes its luma by `change` (rms of 255)."""
    return 1 - float(np.interp(strength, range(6), LOSSES[kind])) * change / (change + HALF_SEEN[kind])


def noise_retained(noise: float, bareness: float) -> float:
    """Share of the label, 0-1, that a clip keeps under noise (rms of luma of 255) on a content of this `bareness`."""
    return float(np.interp(noise * bareness, NOISE, NOISE_RETAINED))


def bareness(clip: Path) -> float:
    """The share of noise, 0-1, that a clean clip does not hide: near 1 for flat pictures, less where texture is."""
    with av.open(str(clip)) as container:
        frames = container.decode(video=0)
        luma = [frame.to_ndarray(format="gray") for frame in itertools.islice(frames, TEXTURE_FRAMES)]
    pixels = np.stack(luma).astype(np.float32)
    count, height, width = pixels.shape
    rows, columns = height // BLOCK, width // BLOCK
    blocks = pixels[:, : rows * BLOCK, : columns * BLOCK].reshape(count, rows, BLOCK, columns, BLOCK)
    return float(np.mean(1 / np.sqrt(1 + (blocks.std(axis=(2, 4)) / HIDING_TEXTURE) ** 2)))


def label(chain: list[dict], measures: dict) -> float:
    """The label, 0-100, of what `measure` has measured of a chain's clip."""
    picture = picture_label(measures)
    for a_step, change in zip(rule_steps(chain), measures["changes"], strict=True):
        picture *= retained(a_step["kind"], a_step["strength"], change)
    return picture


def picture_label(measures: dict) -> float:
    """The label before the rule steps take from it."""
    if "noise" not in measures:
        return measures["vmaf_aligned"]
    share = noise_retained(measures["noise"], measures["bareness"])
    return min(measures["vmaf_aligned"], measures["vmaf_without_noise"] * share)


def rule_steps(chain: list[dict]) -> list[dict]:
    """The steps that keep a share of the label by their strength."""
    return [a_step for a_step in chain if a_step["kind"] in LOSSES]


def measure(
    clip: Path, chain: list[dict], source: Source, pristine: Source, display: tuple[int, int], work: Path
) -> dict:
    """What labels are made of.

    Args:
        clip: what the chain made.
        source, display: as in `chain_rendering.render`.
        pristine: the clip that labels refer to, at the display's size.
        work: path that a clip may take while this runs.

    Returns:
        `vmaf` against the pristine clip; `vmaf_aligned` against it after the rule steps; `changes`, one a rule step
        (rms of luma of 255); with noise `vmaf_without_noise`, `noise` (rms of luma) and `bareness`.
    """
    # an odd number: every second frame is of one kind in many codecs' patterns
    subsample = 3 if pristine.frames > MANY_FRAMES or display[0] * display[1] >= LARGE else 1
    in_reference = [a_step for a_step in rule_steps(chain) if a_step["kind"] != "banding"]

    def aligned(path: Path) -> float:
        if not in_reference:
            return measure_vmaf(path, pristine.path, subsample=subsample)
        kept = [a_step for a_step in chain if a_step in in_reference or a_step["kind"] == "shrink"]
        ((filters, _),) = plan_passes(kept, source, display)
        return measure_vmaf(path, source.path, ",".join(filters), source.frames, subsample)

    measures = {"vmaf_aligned": aligned(clip)}
    measures["vmaf"] = (
        measure_vmaf(clip, pristine.path, subsample=subsample) if in_reference else measures["vmaf_aligned"]
    )
    measures["changes"] = [
        luma_change(pristine.path, ",".join(filters_of(part, pristine, display) for part in judged(a_step)))
        for a_step in rule_steps(chain)
    ]
    if any(a_step["kind"] == "noise" for a_step in chain):
        without = [a_step for a_step in chain if a_step["kind"] != "noise"]
        if without:
            render(without, source, display, work)
        clean = work if without else pristine.path
        measures["vmaf_without_noise"] = aligned(clean)
        measures["noise"] = luma_difference(clip, clean)
        measures["bareness"] = bareness(pristine.path)
        work.unlink(missing_ok=True)
    return {name: np.round(value, 3).tolist() for name, value in measures.items()}


def judged(a_step: dict) -> list[dict]:
    """The steps whose change of the pristine clip says how much of a rule step is seen."""
    if a_step["kind"] in TAKEN_BACK:
        return [a_step, a_step | {"value": 1 / a_step["value"]}]
    return [a_step]


def seen_damage(chain: list[dict], measures: dict) -> dict[str, float]:
    """
    `chain_steps.damage` of what is seen: no damage of the picture is stronger than what the picture has lost, since
    one bitrate is nothing to a slide and much to a forest, and much is lost from sight where a clip is scaled down.
    """
    strengths = damage(seen(chain, measures))
    most = float(np.interp(picture_label(measures), SEEN_LABELS[::-1], range(6)[::-1]))
    return {
        name: round(min(strength, most), 2) if name in PICTURE_DAMAGES else strength
        for name, strength in strengths.items()
    }


def seen(chain: list[dict], measures: dict) -> list[dict]:
    """The chain without what changes nothing to be seen, such as a freeze of a still picture."""
    unseen = [
        a_step
        for a_step, change in zip(rule_steps(chain), measures["changes"], strict=True)
        if retained(a_step["kind"], a_step["strength"], change) > UNSEEN
    ]
    return [a_step for a_step in chain if a_step not in unseen]
