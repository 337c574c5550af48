"""Draws the bundled clip: `python -m lmmvqa.scoring.render_selfcheck_clip`. A new clip needs new references."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from .selfcheck import CLIP


WIDTH, HEIGHT, FPS, NUM_FRAMES = 480, 270, 30, 90


def draw_frame(time: float) -> np.ndarray:
    """A sky-like gradient, a panning grating, a page of glyph-like blocks that scrolls, and two moving discs."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    picture = np.stack([90 + 100 * y / HEIGHT, 120 + 60 * x / WIDTH, 200 - 80 * y / HEIGHT], -1)
    grating = 60 * np.sin((x + 80 * time) / 3.0) * np.sin(y / 4.0)
    picture[180:] += grating[180:, :, None]
    glyphs = np.random.default_rng(0).integers(0, 2, (100, 40)) * 200.0
    page = np.kron(glyphs, np.ones((4, 4)))[round(40 * time) :][:140]
    picture[20:160, 300:460] = np.where(page[..., None] > 0, 230, 30)
    for radius, colour, phase in ((35, (220, 60, 40), 0.0), (22, (250, 230, 90), 2.0)):
        centre_x, centre_y = 150 + 90 * np.cos(2 * time + phase), 120 + 60 * np.sin(3 * time + phase)
        picture[(x - centre_x) ** 2 + (y - centre_y) ** 2 < radius**2] = colour
    return picture.clip(0, 255).round().astype(np.uint8)


def render_clip(path: str | Path) -> None:
    """Three seconds of 480x270 H.264, visibly but not heavily compressed, the same bytes on every run."""
    with av.open(str(path), "w", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "30", "threads": "1", "flags": "+bitexact"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(NUM_FRAMES):
            frame = av.VideoFrame.from_ndarray(draw_frame(index / FPS), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    render_clip(CLIP)
