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
"""Decoded frames to squares of RGB pixels."""

import av
import numpy as np


class FrameScaler:
    """
    Frames to squares of RGB pixels while they are decoded, upright, whatever their size and format.

    Args:
        size: side of the square in pixels.
        fragments: 1 squeezes the whole frame into the square, as in section III-C. With more, the square is a mosaic
            of patches at the frame's own resolution, the middle of each cell of a grid with so many cells a side:
            squeezing hides compression (the sampling of FAST-VQA, arXiv 2207.02595). Frames smaller than the square
            are enlarged first.
    """

    def __init__(self, size: int, fragments: int = 1):
        if size % fragments:
            raise ValueError(f"got {fragments} fragments a side for {size} pixels, expected a divisor of {size}")
        self.size, self.fragments = size, fragments
        self._layout = None

    def _configure(self, frame: av.VideoFrame) -> None:
        self._graph = av.filter.Graph()
        source = self._graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        width = height = self.size
        if self.fragments > 1:
            enlargement = max(1.0, self.size / min(frame.width, frame.height))
            width, height = round(frame.width * enlargement), round(frame.height * enlargement)
        scale = self._graph.add("scale", f"{width}:{height}:flags=bicubic")
        pixel_format = self._graph.add("format", "rgb24")
        self._graph.link_nodes(source, scale, pixel_format, self._graph.add("buffersink")).configure()

    def _mosaic(self, picture: np.ndarray) -> np.ndarray:  # (height, width, 3) -> (size, size, 3)
        patch = self.size // self.fragments
        middles = (np.arange(self.fragments) + 0.5) / self.fragments
        tops, lefts = ((middles * side - patch / 2).round().astype(int) for side in picture.shape[:2])
        rows = [[picture[top : top + patch, left : left + patch] for left in lefts] for top in tops]
        return np.concatenate([np.concatenate(row, axis=1) for row in rows])

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:  # (size, size, 3) uint8
        layout = (frame.width, frame.height, frame.format.name)
        if layout != self._layout:  # some streams change their size on the way
            self._configure(frame)
            self._layout = layout
        self._graph.push(frame)
        picture = self._graph.pull().to_ndarray()
        if self.fragments > 1:
            picture = self._mosaic(picture)
        # The picture is square, so turning it after scaling is the same as before, and cheap
        return np.ascontiguousarray(np.rot90(picture, k=round(frame.rotation / 90)))


__all__ = ["FrameScaler"]
