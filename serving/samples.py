"""Clips to try the server with, drawn and encoded when they are first asked for."""

import functools
import io
from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np


WIDTH, HEIGHT, FPS, NUM_FRAMES = 480, 270, 30, 90


def _with_faults(index: int) -> int | None:
    """Which drawn frame a frame shows: one picture for most of a second, black at the end."""
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
    clouds, file = _clouds(), io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(NUM_FRAMES):
            drawn = shown(index)
            picture = np.zeros_like(clouds) if drawn is None else _draw(clouds, drawn)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def _clouds() -> np.ndarray:
    """A texture whose amplitudes fall with frequency as those of photographs do, (HEIGHT, WIDTH, 3) uint8; it tiles."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.fftfreq(WIDTH))
    frequency[0, 0] = np.inf
    spectrum = np.fft.fft2(rng.standard_normal((HEIGHT, WIDTH))) / frequency
    light = np.fft.ifft2(spectrum).real
    light = 135 + 45 * light / light.std()
    return np.stack([0.85 * light, 0.95 * light, light + 20], -1).clip(0, 255).astype(np.uint8)


def _draw(clouds: np.ndarray, index: int) -> np.ndarray:
    """Clouds that drift behind a ball that swings."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    picture = np.roll(clouds, -2 * index, axis=1)
    centre_x, centre_y = WIDTH / 2 + 150 * np.sin(index / 15), HEIGHT / 2 + 60 * np.cos(index / 11)
    picture[(x - centre_x) ** 2 + (y - centre_y) ** 2 < 45**2] = (205, 70, 45)
    return picture
