"""Clips to try the server with, drawn and encoded when they are first asked for."""

import functools
import io
from collections.abc import Callable
from fractions import Fraction

import av

from ..scoring.render_selfcheck_clip import FPS, HEIGHT, NUM_FRAMES, WIDTH, draw_frame


def _with_faults(index: int) -> int | None:
    """Which drawn frame a frame shows: a freeze in the first half, black near the end."""
    if 30 <= index < 55:
        return 30
    return None if index >= 80 else index


# The quantiser of H.264 (18 looks untouched, 48 bad), and which drawn frame each frame shows, None for black
SAMPLES: dict[str, tuple[int, Callable[[int], int | None]]] = {
    "clean": (18, lambda index: index),
    "compressed": (48, lambda index: index),
    "faulty": (18, _with_faults),
}


@functools.cache
def render_sample(name: str) -> bytes:
    """Three seconds of 480x270 as an MP4 file; `name` is one of `SAMPLES`."""
    crf, shown = SAMPLES[name]
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(NUM_FRAMES):
            drawn = shown(index)
            picture = draw_frame(0.0) * 0 if drawn is None else draw_frame(drawn / FPS)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
