"""The kinds of distortion, each at strengths 1-5: a reference clip in, a degraded clip of as many frames out."""

import random
from pathlib import Path

import av
import numpy as np

from .ffmpeg_process import NEAR_LOSSLESS, TO_YUV420, encode, encode_frames


# Compression keeps the codec's own bitstream; the number per strength is the quantiser or rate factor.
ENCODERS = {
    "h264": ("-c:v libx264 -preset veryfast -crf {}", (27, 33, 38, 43, 51)),
    "hevc": (
        "-c:v libx265 -preset veryfast -x265-params pools=none:frame-threads=1:log-level=error -crf {}",
        (28, 34, 39, 44, 51),
    ),
    "vp9": ("-c:v libvpx-vp9 -deadline realtime -cpu-used 6 -b:v 0 -crf {}", (40, 49, 56, 60, 63)),
    # unofficial: MPEG-2 knows no 12.5 or 35 frames per second; its own rate is then approximate, the time stamps hold
    "mpeg2": ("-c:v mpeg2video -strict unofficial -q:v {}", (5, 9, 15, 22, 31)),
    "mpeg4": ("-c:v mpeg4 -q:v {}", (5, 9, 15, 22, 31)),
}
# Changes of the picture, stored near-losslessly.
FILTERS = {
    "downscale": (
        "scale=trunc(iw/{0}/2)*2:trunc(ih/{0}/2)*2:flags=area,scale={width}:{height}:flags=bicubic",
        (1.5, 2, 3, 4, 6),
    ),
    # one colour for so many by so many pixels
    "pixelation": (
        "scale=trunc(iw/{0}/2)*2:trunc(ih/{0}/2)*2:flags=area,scale={width}:{height}:flags=neighbor",
        (2, 3, 4, 6, 8),
    ),
    "blur": ("gblur=sigma={0}", (0.7, 1.2, 2, 3.2, 5)),
    "noise": ("noise=alls={0}:allf=t:all_seed={seed}", (8, 15, 25, 40, 60)),
    "overexposure": (
        "lutrgb=r=clip(val*{0}\\,0\\,255):g=clip(val*{0}\\,0\\,255):b=clip(val*{0}\\,0\\,255)",
        (1.25, 1.5, 1.9, 2.4, 3.2),
    ),
    "underexposure": ("lutrgb=r=val*{0}:g=val*{0}:b=val*{0}", (0.75, 0.55, 0.4, 0.27, 0.16)),
}
# Changes in time, stored near-losslessly.
HELD_FRAMES = (2, 3, 5, 8, 12)  # drop: each frame that is kept is shown this many times
FROZEN_SHARE = (0.15, 0.25, 0.4, 0.6, 0.8)  # freeze: this share of the clip shows one frame, then time jumps on
SHAKE_PIXELS = (2, 4, 6, 10, 16)  # jitter: largest shift of the picture
SHAKEN_SHARE = (0.1, 0.25, 0.5, 0.75, 1.0)  # jitter: share of the frames shifted

TEMPORAL_KINDS = ("drop", "freeze", "jitter")
KINDS = (*ENCODERS, *FILTERS, *TEMPORAL_KINDS)


def degrade(reference: Path, kind: str, strength: int, seed: str, output: Path) -> None:
    """Writes `reference` degraded by one kind at strength 1-5; `seed` fixes noise, freeze and shake."""
    if kind in ENCODERS:
        template, values = ENCODERS[kind]
        encode(["-threads", "1", "-i", str(reference)], output, template.format(values[strength - 1]).split())
    elif kind in FILTERS:
        template, values = FILTERS[kind]
        with av.open(str(reference)) as container:
            size = container.streams.video[0]
            filters = template.format(
                values[strength - 1], width=size.width, height=size.height, seed=random.Random(seed).randrange(2**31)
            )
        source = ["-threads", "1", "-i", str(reference), "-vf", f"{filters},{TO_YUV420}"]
        encode(source, output, NEAR_LOSSLESS)
    else:
        frames, size, rate = read_frames(reference)
        change = {"drop": drop_frames, "freeze": freeze_frames, "jitter": shake_frames}[kind]
        encode_frames(change(frames, strength, random.Random(seed)), "yuv420p", size, rate, output)


def read_frames(path: Path) -> tuple[np.ndarray, tuple[int, int], str]:
    """Decodes a yuv420p clip to (T, H * 3 / 2, W), with its (width, height) and its frame rate."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = np.stack([frame.to_ndarray() for frame in container.decode(stream)])
        return frames, (stream.width, stream.height), str(stream.average_rate)


def drop_frames(frames: np.ndarray, strength: int, rng: random.Random) -> np.ndarray:
    """Stutter: keeps one frame of several and repeats it."""
    held = HELD_FRAMES[strength - 1]
    return frames[np.arange(len(frames)) // held * held]


def freeze_frames(frames: np.ndarray, strength: int, rng: random.Random) -> np.ndarray:
    """Freeze: one frame stands for a share of the clip, and what it hides is lost."""
    frozen = max(2, round(FROZEN_SHARE[strength - 1] * len(frames)))
    first = rng.randrange(len(frames) - frozen + 1)
    order = np.arange(len(frames))
    order[first : first + frozen] = first
    return frames[order]


def shake_frames(frames: np.ndarray, strength: int, rng: random.Random) -> np.ndarray:
    """Jitter: shifts the picture of some frames at random, repeating the border."""
    height, width = frames.shape[1] * 2 // 3, frames.shape[2]
    reach = SHAKE_PIXELS[strength - 1] // 2
    shaken = frames.copy()
    for frame in rng.sample(range(len(frames)), max(1, round(SHAKEN_SHARE[strength - 1] * len(frames)))):
        # even shifts of the luma plane are whole shifts of the chroma planes
        down, right = rng.randint(-reach, reach), rng.randint(-reach, reach)
        pixels = shaken[frame].reshape(-1)
        start = 0
        for rows, columns, step in ((height, width, 2), (height // 2, width // 2, 1), (height // 2, width // 2, 1)):
            plane = pixels[start : start + rows * columns].reshape(rows, columns)
            padded = np.pad(plane, reach * step, mode="edge")
            top, left = (reach + down) * step, (reach + right) * step
            plane[:] = padded[top : top + rows, left : left + columns]
            start += rows * columns
    return shaken
