"""A few frames of a video at their own size: what image models and classical measures look at."""

import math
from collections.abc import Iterator

import av
import numpy as np

from ..processing.frame_scaler_lmmvqa import FrameScaler
from ..processing.video_reading_lmmvqa import read_frames


def key_frames(video: str, per_second: float = 1.0, most: int = 8) -> list[np.ndarray]:
    """
    The first frame at or after each 1 / `per_second` of a video, upright. Of a long video they lie further apart, by
    doublings, so that there are at most `most`; a picture is one frame.

    Returns:
        (height, width, 3) uint8 RGB each.

    Raises:
        VideoDecodingError: no frame can be read.
        FileNotFoundError: the path does not exist.
    """
    return read_frames(video, lambda frames: _spread(frames, per_second, most))


def _spread(frames: Iterator[tuple[float, float, av.VideoFrame]], per_second: float, most: int) -> list[np.ndarray]:
    kept, interval, to_rgb = {}, 1 / per_second, FrameScaler(None)
    for time, _, frame in frames:
        number = math.floor(time / interval + 1e-6)
        if kept and number <= max(kept):
            continue
        kept[number] = to_rgb(frame)
        while len(kept) > most:
            interval *= 2
            thinned = {}
            for number, picture in kept.items():
                thinned.setdefault(number // 2, picture)
            kept = thinned
    return list(kept.values())
