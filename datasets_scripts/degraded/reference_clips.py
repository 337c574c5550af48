"""Clean two-second reference clips: segments of real clips, and slow pans over photographs."""

import random
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from .ffmpeg_process import count_frames, encode, encode_frames


SECONDS = 2.0
SEGMENTS_PER_CLIP = 3
LARGEST_SIZE = (960, 540)
HALVED_SHORT_SIDE = 720
SMALLEST_SHORT_SIDE = 240
CLEAN_BITS_PER_PIXEL = 0.15
REFERENCE_ENCODER = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "3"]

PAN_RATE = 25
PAN_SIZES = ((384, 288), (448, 256), (288, 384), (320, 320))  # (width, height), all inside 512 x 512
PHOTOGRAPH_SIDE = 640  # larger photographs are shrunk to this first: the motion stays slow


@dataclass(frozen=True)
class Source:
    """What a real clip stores: size in pixels, frames per second, frames, and bits per pixel of its video."""

    width: int
    height: int
    rate: Fraction
    frames: int
    bits_per_pixel: float

    @property
    def seconds(self) -> float:
        return float(self.frames / self.rate)


def probe(path: Path) -> Source:
    """Reads a clip's size, rate and bits per pixel from its packets, without decoding.

    Raises:
        av.error.FFmpegError: the file cannot be opened.
        ValueError: the file holds no video with a frame rate.
    """
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError("holds no video stream")
        stream = container.streams.video[0]
        sizes = [packet.size for packet in container.demux(stream) if packet.size]
        if not sizes or not stream.average_rate:
            raise ValueError("holds no video frame with a frame rate")
        rate = Fraction(stream.average_rate).limit_denominator(1001)
        bits_per_pixel = 8 * sum(sizes) / (len(sizes) * stream.width * stream.height)
        return Source(stream.width, stream.height, rate, len(sizes), bits_per_pixel)


def reference_size(source: Source) -> tuple[int, int]:
    """The (width, height) at which a clip is clean enough to be a reference.

    A short side of 720 or more is halved, which hides most of its own compression. A smaller clip is taken as it is
    from 0.15 bits per pixel and a short side of 240 up, or halved if only that gets it there.

    Raises:
        ValueError: the clip is too short, too small or too compressed; the message says which.
    """
    short_side = min(source.width, source.height)
    if source.seconds < SECONDS:
        raise ValueError(f"lasts {source.seconds:.2f} s, expected {SECONDS:g} s or more")
    if short_side < SMALLEST_SHORT_SIDE:
        raise ValueError(f"has a short side of {short_side} pixels, expected {SMALLEST_SHORT_SIDE} or more")
    if short_side >= HALVED_SHORT_SIDE:
        factor = 0.5
    elif source.bits_per_pixel >= CLEAN_BITS_PER_PIXEL:
        factor = 1.0
    elif short_side >= 2 * SMALLEST_SHORT_SIDE and 4 * source.bits_per_pixel >= CLEAN_BITS_PER_PIXEL:
        factor = 0.5
    else:
        raise ValueError(
            f"has {source.bits_per_pixel:.3f} bits per pixel at {source.width} x {source.height}, "
            f"expected {CLEAN_BITS_PER_PIXEL:g} at this size or at half of it"
        )
    long_side = max(source.width, source.height)
    factor = min(factor, max(LARGEST_SIZE) / long_side, min(LARGEST_SIZE) / short_side)
    return tuple(round(side * factor / 2) * 2 for side in (source.width, source.height))


def segment_starts(seconds: float) -> list[float]:
    """Start times, in seconds, of up to three segments that do not overlap, spread over a clip."""
    count = min(SEGMENTS_PER_CLIP, int(seconds // SECONDS))
    return [round((k + 0.5) * seconds / count - SECONDS / 2, 3) for k in range(count)]


def cut_segment(clip: Path, source: Source, start: float, output: Path) -> None:
    """Stores one segment at its reference size, visually lossless, at a constant frame rate.

    Raises:
        RuntimeError: the clip cannot be decoded there, or gives less than nine tenths of the frames.
    """
    frames = round(SECONDS * source.rate)
    cut = output.with_suffix(".cut")
    encode(segment(clip, start, reference_size(source), source.rate, frames), cut, REFERENCE_ENCODER)
    count = count_frames(cut)
    if count < 0.9 * frames:
        cut.unlink()
        raise RuntimeError(f"gives {count} of {frames} frames from {start:g} s on")
    cut.replace(output)


def segment(clip: Path, start: float, size: tuple[int, int], rate: Fraction, frames: int) -> list[str]:
    """FFmpeg's arguments for so many frames from `start` (seconds) on, at (width, height) `size` and a constant rate."""
    scale = f"scale={size[0]}:{size[1]}:flags=lanczos:out_color_matrix=bt709:out_range=tv,setsar=1,format=yuv420p"
    cut = ["-threads", "1", "-ss", str(start), "-i", str(clip), "-vf", f"fps={rate},{scale}"]
    return [*cut, "-frames:v", str(frames)]


def render_pan(photograph: Path, seed: str, output: Path) -> None:
    """Stores a slow pan and zoom over a photograph; the window never enlarges it.

    Raises:
        ValueError: the photograph is smaller than the window.
    """
    rng = random.Random(seed)
    width, height = rng.choice(PAN_SIZES)
    with Image.open(photograph) as file:
        picture = file.convert("RGB")
    picture.thumbnail((PHOTOGRAPH_SIDE, PHOTOGRAPH_SIDE), Image.Resampling.LANCZOS)
    widest = min(picture.width / width, picture.height / height)
    if widest < 1:
        raise ValueError(f"is {picture.width} x {picture.height}, expected at least {width} x {height}")

    ends = []
    for _ in range(2):
        zoom = rng.uniform(1, widest)
        left = rng.uniform(0, picture.width - zoom * width)
        top = rng.uniform(0, picture.height - zoom * height)
        ends.append(np.array([left, top, left + zoom * width, top + zoom * height]))
    frames = [
        # the box is fractional: motion of whole pixels would stutter
        np.asarray(
            picture.resize((width, height), Image.Resampling.LANCZOS, box=tuple((1 - t) * ends[0] + t * ends[1]))
        )
        for t in np.linspace(0, 1, round(SECONDS * PAN_RATE))
    ]
    encode_frames(np.stack(frames), "rgb24", (width, height), str(PAN_RATE), output)
