# Copyright 2026 The LMM-VQA authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Decoded frames to squares of RGB pixels: upright, in standard dynamic range, on black."""

import functools

import av
import numpy as np
from transformers.utils import logging


logger = logging.get_logger(__name__)

# Transfer functions of HDR by their code in ITU-T H.273
HDR_TRANSFERS = {16: "pq", 18: "hlg"}

# What swscale takes of H.273's codes for YUV: BT.709, none named, FCC, BT.601 (two names), SMPTE 240M, BT.2020; and
# range none named, limited, full
_MATRICES = frozenset([1, 2, 4, 5, 6, 7, 9])
_RANGES = frozenset([0, 1, 2])
_UNSPECIFIED = 2

# Nits. White of paper and graphics in HDR (ITU-R BT.2408), which becomes the white of standard range
_WHITE = 203.0
# Nominal peak of HLG, and of most gradings in PQ; what is brighter turns white
_PEAK = 1000.0
# SMPTE ST 2084
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
# Linear light of BT.2020's primaries to that of BT.709's (ITU-R BT.2087, with the sign of its annex)
_BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
_BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)

# Longest side, in sides of the least that fragments need, up to which frames are enlarged for them
_MOST_ENLARGED = 16


class FrameScaler:
    """
    Frames to squares of RGB pixels while they are decoded, whatever their size and format.

    They stand upright and are mirrored as the display matrix says. What is transparent shows black, as in players. PQ
    and HLG become BT.709 in standard range: up to 92 nits nothing changes, up to 1000 nits are rolled off to the white
    of 203 nits by the curve of ITU-R BT.2390 (5.4.1) on the largest channel. This comes after scaling, which is in
    gamma space anyway. Matrices that FFmpeg cannot convert from are read as if none were named, with a warning.

    Args:
        size: side of the square in pixels; None keeps the frame's own width and height.
        fragments: 1 shows the frame as `resize` says. With more, the square is a mosaic of patches at the frame's own
            resolution, the middle of each cell of a grid with so many cells a side: squeezing hides compression (the
            sampling of FAST-VQA, arXiv 2207.02595); a divisor of the size.
        resize: "squeeze" fits the whole frame into the square and changes its aspect; "crop" fits its short side and
            keeps the middle, as CLIP's own preprocessing does. Section III-C says the square's size alone.
        small_frames: of sides shorter than the square's, fragments "overlap", and only frames shorter than a patch are
            enlarged; or such frames are enlarged to the square ("enlarge"), which makes all that is in them coarser. Of
            very long ones the short side alone is enlarged.
    """

    def __init__(self, size: int | None, fragments: int = 1, resize: str = "squeeze", small_frames: str = "overlap"):
        self.size, self.fragments = size, fragments
        self.crops = resize == "crop" and fragments == 1
        # Of a frame that is cut into patches
        self._shortest = size // fragments if fragments > 1 and small_frames == "overlap" else size
        self._layout = None

    def _configure(self, frame: av.VideoFrame, is_hdr: bool) -> None:
        width, height = self._scaled_size(frame.width, frame.height)
        pixel_format = ("format", "rgb48" if is_hdr else "rgb24")
        steps = [("scale", f"{width}:{height}:flags=bicubic"), pixel_format]
        if any(component.is_alpha for component in frame.format.components):
            # Before scaling, which would smear hidden colours over edges; `premultiply` is off by one in 8 bits
            steps = [("format", "gbrap16"), ("premultiply", "inplace=1"), pixel_format, *steps]
        self._graph = filter_graph(frame, *steps)

    def _scaled_size(self, width: int, height: int) -> tuple[int, int]:
        if self.size is None:
            return width, height
        if self.crops:
            return tuple(side * self.size // min(width, height) for side in (width, height))
        if self.fragments == 1:
            return self.size, self.size
        enlargement = max(1.0, self._shortest / min(width, height))
        most = _MOST_ENLARGED * self._shortest
        return tuple(max(self._shortest, side, min(round(side * enlargement), most)) for side in (width, height))

    def _mosaic(self, picture: np.ndarray) -> np.ndarray:  # (height, width, 3) -> (size, size, 3)
        patch = self.size // self.fragments
        tops, lefts = (self._patch_starts(side, patch) for side in picture.shape[:2])
        rows = [[picture[top : top + patch, left : left + patch] for left in lefts] for top in tops]
        return np.concatenate([np.concatenate(row, axis=1) for row in rows])

    def _patch_starts(self, side: int, patch: int) -> np.ndarray:  # (fragments,) int
        if side < self.size:  # from edge to edge, and they overlap
            return np.linspace(0, side - patch, self.fragments).round().astype(int)
        middles = (np.arange(self.fragments) + 0.5) / self.fragments
        return (middles * side - patch / 2).round().astype(int)

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:  # (size, size, 3) uint8
        transfer = HDR_TRANSFERS.get(frame.color_trc)
        drop_unknown_colours(frame)
        # Some streams change on the way
        layout = (
            frame.width,
            frame.height,
            frame.format.name,
            frame.colorspace,
            frame.color_range,
            transfer,
            frame.rotation,
        )
        if layout != self._layout:
            self._configure(frame, transfer is not None)
            self._orientation = _orientation(frame)
            self._layout = layout
        self._graph.push(frame)
        picture = self._graph.pull().to_ndarray()
        if self.fragments > 1:
            picture = self._mosaic(picture)
        elif self.crops:
            top, left = ((side - self.size) // 2 for side in picture.shape[:2])
            picture = picture[top : top + self.size, left : left + self.size]
        if transfer is not None:
            picture = _to_standard_range(picture, transfer)
        # After scaling: a square is the same turned before or after, and turning it is cheap
        turned, down, across = self._orientation
        upright = (picture.swapaxes(0, 1) if turned else picture)[::down, ::across]
        return np.ascontiguousarray(upright)


def filter_graph(frame: av.VideoFrame, *filters: tuple[str, str]) -> av.filter.Graph:
    """
    Args:
        frame: of the size and format that the graph takes.
        filters: name and options of each, in order.
    """
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    graph.link_nodes(source, *(graph.add(*step) for step in filters), graph.add("buffersink")).configure()
    return graph


def drop_unknown_colours(frame: av.VideoFrame, name: str = "a given frame") -> None:
    """
    Takes colour properties that FFmpeg cannot convert from off a frame: it refuses the whole frame for one of them.

    Args:
        name: of the video, for the warning.
    """
    is_rgb = frame.colorspace == 0 and (frame.format.is_rgb or len(frame.format.components) < 3)
    if frame.colorspace not in _MATRICES and not is_rgb:
        logger.warning_once(
            f"{name}: stored with matrix {frame.colorspace} of ITU-T H.273, which FFmpeg cannot convert from; it is read as "
            "if none was named, and colours may be off."
        )
        frame.colorspace = _UNSPECIFIED
    if frame.color_range not in _RANGES:
        frame.color_range = 0
    # Neither is converted from, but where HDR is
    if frame.color_trc not in HDR_TRANSFERS:
        frame.color_trc = _UNSPECIFIED
    frame.color_primaries = _UNSPECIFIED


def _orientation(frame: av.VideoFrame) -> tuple[bool, int, int]:
    """
    Whether rows become columns, and then the steps down and across, 1 or -1: what the frame's display matrix says, to the
    next of the eight ways that keep a rectangle.

    Not for every frame: PyAV's side data and its frame hold each other, so that its memory would wait for Python's collector.
    """
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV lists no side data at all where it does not know a kind of them (EXIF, stereo views), only the rotation
        return ((False, 1, 1), (True, -1, 1), (False, -1, -1), (True, 1, -1))[round(frame.rotation / 90) % 4]
    if matrix is None:
        return False, 1, 1
    # Pixel (x, y) is shown at (ax + cy, bx + dy)
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    turned = abs(b) + abs(c) > abs(a) + abs(d)
    if turned:
        a, d = c, b
    return turned, -1 if d < 0 else 1, -1 if a < 0 else 1


def _to_standard_range(picture: np.ndarray, transfer: str) -> np.ndarray:
    """HDR pictures to standard range, see `FrameScaler`: (height, width, 3) uint16 to uint8."""
    light = _code_values(transfer)[picture]
    if transfer == "hlg":  # from light in the scene to that of a display with `_PEAK` (ITU-R BT.2100)
        light *= _PEAK * (light @ _BT2020_LUMA)[..., None] ** 0.2
    brightest = np.maximum(light.max(axis=-1, keepdims=True), 1e-3)
    light *= _roll_off(brightest) / brightest
    light = np.clip(light @ _BT2020_TO_BT709.T / _WHITE, 0, 1)
    return (255 * light ** (1 / 2.4) + 0.5).astype(np.uint8)  # as a display turns it into light (ITU-R BT.1886)


@functools.cache
def _code_values(transfer: str) -> np.ndarray:
    """(65536,) what each value of a channel stands for: nits in PQ, light in the scene up to 1 in HLG."""
    signal = np.minimum(np.arange(1 << 16) / (255 << 8), 1)  # swscale's white in 16 bits
    if transfer == "pq":
        return _pq_to_nits(signal).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)


def _pq_to_nits(signal: np.ndarray) -> np.ndarray:
    root = signal ** (1 / _M2)
    return 10_000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)


def _nits_to_pq(nits: np.ndarray | float) -> np.ndarray | float:
    power = (nits / 10_000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def _roll_off(nits: np.ndarray) -> np.ndarray:
    """Up to `_PEAK` to up to `_WHITE` (ITU-R BT.2390, 5.4.1)."""
    peak = _nits_to_pq(_PEAK)
    most = _nits_to_pq(_WHITE) / peak
    knee = 1.5 * most - 0.5
    level = np.minimum(_nits_to_pq(nits) / peak, 1)
    t = np.maximum((level - knee) / (1 - knee), 0)
    bent = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    return _pq_to_nits(np.where(level < knee, level, bent) * peak)


__all__ = ["HDR_TRANSFERS", "FrameScaler", "drop_unknown_colours", "filter_graph"]
