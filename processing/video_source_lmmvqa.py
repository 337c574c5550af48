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
"""What a video may be given as, what messages call it, and the error where it cannot be read."""

import math
import os
from dataclasses import dataclass
from numbers import Real
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image


# Borders of a part are often rounded: a frame so many seconds away, and half a frame's time at most, is on them
NEAR = 0.02


@dataclass(frozen=True)
class VideoPart:
    """
    A part of a video, such as an episode among others in one file: the frames that begin in it.

    A frame within `NEAR` of a border, or half its own time where that is less, counts as being on it. Of two parts, one of
    which ends where the other starts, no frame belongs to both or to none.

    Attributes:
        source: any other `VideoSource`.
        start: in seconds from the first frame of the source.
        end: in seconds; infinite where the part goes on to the end of the source.

    Raises:
        ValueError: these are no seconds, or the part does not end after its start.
    """

    source: Any
    start: float = 0.0
    end: float = math.inf

    def __post_init__(self):
        are_numbers = all(isinstance(seconds, Real) for seconds in (self.start, self.end))
        if not are_numbers or not 0 <= self.start < self.end or self.start == math.inf:  # nor NaN
            raise ValueError(
                f"got a part from {self.start!r} to {self.end!r} s, expected a start of 0 or more and a later end"
            )

    @property
    def is_whole(self) -> bool:
        return (self.start, self.end) == (0, math.inf)

    def place(self, seconds: float, step: float) -> int:
        """
        Args:
            seconds: time of a frame.
            step: how long it is shown.

        Returns:
            -1 before the part, 0 in it, 1 behind it.
        """
        near = min(step / 2, NEAR)
        if seconds >= self.end - near:
            return 1
        return 0 if self.start == 0 or seconds >= self.start - near else -1


# One path, one file object, one array (frames, height, width, 3 or 4) or (frames, 3, height, width), one picture, or a
# list of pictures in order, or a part of one of these
VideoSource = VideoPart | str | os.PathLike | BinaryIO | np.ndarray | torch.Tensor | Image.Image | list[Image.Image]


class VideoDecodingError(ValueError):
    """A source that cannot be read, or too little of it; the message names it, the reason and the way out."""


def source_name(source: VideoSource) -> str:
    """What messages call a video: its path, or its type, and which part it is."""
    if isinstance(source, VideoPart):
        name = source_name(source.source)
        if source.is_whole:
            return name
        return f"{name} from {source.start:g} s to {'its end' if source.end == math.inf else f'{source.end:g} s'}"
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    return str(getattr(source, "name", None) or f"the given {type(source).__name__}")


def failure_reason(error: Exception) -> str:
    """What messages say of an error that a library or the system raised while a source was read."""
    if isinstance(error, MemoryError):
        return "it needs more memory than there is; scale it down"
    return f"{getattr(error, 'strerror', None) or f'{type(error).__name__}: {error}'}; check the file"


__all__ = ["NEAR", "VideoDecodingError", "VideoPart", "VideoSource", "failure_reason", "source_name"]
