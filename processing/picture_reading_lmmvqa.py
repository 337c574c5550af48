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
"""Arrays and pictures to frames with their times."""

from collections.abc import Iterator

import av
import numpy as np
import torch
from PIL import Image, ImageOps
from transformers.utils import logging

from .video_source_lmmvqa import VideoSource


logger = logging.get_logger(__name__)

DEFAULT_ARRAY_FPS = 30.0


def read_pictures(source: VideoSource, fps: float | None) -> Iterator[tuple[float, float, av.VideoFrame]]:
    """Yields (time in seconds, duration in seconds, frame) of an array or of pictures."""
    if fps is None:
        fps = DEFAULT_ARRAY_FPS
        logger.warning_once(f"No frame rate is known for frames given as an array: {fps:g} per second is assumed.")
    for index, picture in enumerate(_pictures(source)):
        yield index / fps, 1 / fps, av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")


def _pictures(source: np.ndarray | torch.Tensor | Image.Image | list[Image.Image]) -> Iterator[np.ndarray]:
    """Yields (height, width, 3) uint8."""
    if isinstance(source, Image.Image):
        source = [source]
    if isinstance(source, list | tuple) and all(isinstance(picture, Image.Image) for picture in source):
        yield from (np.asarray(ImageOps.exif_transpose(picture).convert("RGB")) for picture in source)
        return
    if not isinstance(source, np.ndarray | torch.Tensor):
        raise TypeError(
            f"got a video of type {type(source).__name__}, expected a path, a file object, a numpy or torch array, a "
            "PIL picture or a list of them"
        )
    array = np.asarray(source)
    if array.ndim == 3:
        array = array[None]
    if array.ndim == 4 and array.shape[-1] != 3 and array.shape[1] == 3:
        array = array.transpose(0, 2, 3, 1)
    if array.ndim != 4 or array.shape[-1] != 3 or 0 in array.shape[1:] or array.dtype != np.uint8:
        raise ValueError(
            f"got a video array of shape {tuple(source.shape)} and type {array.dtype}, expected uint8 and (frames, "
            "height, width, 3) or (frames, 3, height, width)"
        )
    yield from array


__all__ = ["DEFAULT_ARRAY_FPS", "read_pictures"]
