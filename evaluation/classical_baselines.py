"""Measures without a language model as baselines: NIQE, BRISQUE and PIQE of frames, VMAF against a reference.

Their packages are optional: `pip install 'lmmvqa[classical]'`, and `[data]` for VMAF. NIQE is scikit-video's, in the
release that runs on numpy 2 (absolutely-not-scikit-video); each package brings its model.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from .key_frames import key_frames


# Method -> the module that computes it, the package it is in, and the extra that installs it
PACKAGES = {
    "niqe": ("skvideo", "absolutely-not-scikit-video", "classical"),
    "brisque": ("brisque", "brisque", "classical"),
    "piqe": ("pypiqe", "pypiqe", "classical"),
    "vmaf": ("imageio_ffmpeg", "imageio-ffmpeg", "data"),
}
# Of a two-second clip, eight
FRAMES_PER_SECOND = 4
# The smallest side that NIQE's 96-pixel patches take, at two scales
NIQE_SIDE = 194


def check_installed(method: str) -> None:
    """
    Raises:
        ValueError: the method's package is not installed.
    """
    module, package, extra = PACKAGES[method]
    if find_spec(module) is None:
        raise ValueError(f"got {method} without the package {package}; pip install 'lmmvqa[{extra}]'")


def niqe(frame: np.ndarray) -> float:
    """NIQE of a frame (height, width, 3) uint8; lower is better.

    Raises:
        ValueError: the frame is too small.
    """
    from skvideo.measure import niqe

    if min(frame.shape[:2]) < NIQE_SIDE:
        raise ValueError(f"got a frame of {frame.shape[1]} x {frame.shape[0]} pixels, NIQE needs {NIQE_SIDE} a side")
    return float(niqe(np.asarray(Image.fromarray(frame).convert("L"))[None])[0])


def brisque(frame: np.ndarray) -> float:
    """BRISQUE of a frame (height, width, 3) uint8; lower is better."""
    return _brisque().score(frame)


@cache
def _brisque():
    from brisque import BRISQUE

    class Brisque(BRISQUE):
        def scale_features(self, features):
            # Some of them are arrays of one number, which numpy 2.4 does not take for numbers any more
            return super().scale_features([np.ravel(feature)[0] for feature in features])

    return Brisque()


def piqe(frame: np.ndarray) -> float:
    """PIQE of a frame (height, width, 3) uint8; lower is better."""
    from pypiqe import piqe

    return float(piqe(frame[..., ::-1].copy())[0])  # it takes BGR


FRAME_METHODS: dict[str, Callable[[np.ndarray], float]] = {"niqe": niqe, "brisque": brisque, "piqe": piqe}


def classical_score(method: str, row: dict, max_frames: int = 8) -> float:
    """
    A score of one video, higher is better: VMAF; or the mean over at most `max_frames` frames with its sign turned.

    Args:
        method: one of `PACKAGES`.
        row: a rated video. VMAF is its column `vmaf` where it has one, or is measured against its column `reference`, a
            path, relative to the video's folder.

    Raises:
        ValueError: the method gives no number for a frame; a row without reference, or with one that FFmpeg refuses.
        VideoDecodingError, FileNotFoundError: the video cannot be read.
    """
    if method == "vmaf":
        return _vmaf(row)
    values = [FRAME_METHODS[method](frame) for frame in key_frames(row["video"], FRAMES_PER_SECOND, max_frames)]
    if not np.isfinite(values).all():
        raise ValueError(
            f"got no number from {method} for {(~np.isfinite(values)).sum()} of {len(values)} frames, such as of a "
            "frame of one colour"
        )
    return -float(np.mean(values))


def _vmaf(row: dict) -> float:
    if row.get("vmaf") is not None:
        return row["vmaf"]
    if row.get("reference") is None:
        raise ValueError("got a video without the column vmaf or reference, expected one of them for VMAF")
    from ..datasets_scripts.ffmpeg_process import measure_vmaf

    video = Path(row["video"])
    try:
        return measure_vmaf(video, video.parent / row["reference"])
    except RuntimeError as error:  # of FFmpeg, whose last lines it holds
        raise ValueError(str(error)) from error
