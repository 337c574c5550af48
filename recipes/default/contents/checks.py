"""What a finished clip must show: a picture that is neither black nor empty, that moves, and that no other one shows."""

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np


SIDE = 160  # width, in pixels, at which frames are compared
SHORTEST = 0.9  # seconds
DARKEST, DARK = 12, 50  # mean luma, 0-255
LEAST_DETAIL = 7  # standard deviation of luma within a frame
LEAST_CHANGE = 0.02  # mean absolute difference of luma that counts as another picture
THUMBNAIL = (16, 9)
SAME = 0.985  # correlation of thumbnails


@dataclass(frozen=True)
class Measures:
    """What a stored clip is: size in pixels, frames per second, seconds, mean luma (0-255), detail (standard deviation
    of luma), `moving` (share of frames that differ from the one before) and a grey thumbnail, 16 x 9 bytes in hex.
    """

    width: int
    height: int
    fps: float
    seconds: float
    luma: float
    detail: float
    moving: float
    thumbnail: str


def measure(path: Path) -> Measures:
    """Measures a stored clip.

    Raises:
        ValueError: it holds fewer than two frames.
    """
    small = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        fps = float(stream.average_rate)
        for frame in container.decode(stream):
            height = max(2, round(SIDE * frame.height / frame.width))
            small.append(frame.reformat(SIDE, height, "gray", interpolation="AREA").to_ndarray())
        width, height = frame.width, frame.height
    if len(small) < 2:
        raise ValueError(f"holds {len(small)} frames, expected two or more")
    frames = np.stack(small).astype(np.float32)
    changes = np.abs(np.diff(frames, axis=0)).mean((1, 2))
    middle = av.VideoFrame.from_ndarray(small[len(small) // 2], "gray").reformat(*THUMBNAIL, interpolation="AREA")
    return Measures(
        width,
        height,
        round(fps, 3),
        round(len(small) / fps, 3),
        round(float(frames.mean()), 2),
        round(float(frames.std((1, 2)).mean()), 2),
        round(float((changes > LEAST_CHANGE).mean()), 3),
        middle.to_ndarray().tobytes().hex(),
    )


def fault(measures: Measures, least_motion: float) -> str | None:
    """Why a clip is no content, or None."""
    if measures.seconds < SHORTEST:
        return f"lasts {measures.seconds:g} s, expected {SHORTEST:g} or more"
    if measures.luma < DARKEST:
        return f"is black: mean luma {measures.luma:g}, expected {DARKEST} or more"
    if measures.detail < LEAST_DETAIL:
        return f"is empty: luma deviates by {measures.detail:g}, expected {LEAST_DETAIL} or more"
    if measures.moving < least_motion:
        return f"stands still: {measures.moving:.0%} of its frames change, expected {least_motion:.0%}"
    return None


def pattern(thumbnail: str) -> np.ndarray:
    """A thumbnail with mean 0 and length 1: the product of two of them is their correlation."""
    values = np.frombuffer(bytes.fromhex(thumbnail), np.uint8).astype(np.float64)
    values -= values.mean()
    return values / max(1.0, np.linalg.norm(values))
