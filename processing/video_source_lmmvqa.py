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

import os
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image


# One path, one file object, one array (frames, height, width, 3 or 4) or (frames, 3, height, width), one picture, or a
# list of pictures in order
VideoSource = str | os.PathLike | BinaryIO | np.ndarray | torch.Tensor | Image.Image | list[Image.Image]


class VideoDecodingError(ValueError):
    """A source that cannot be read, or too little of it; the message names it, the reason and the way out."""


def source_name(source: VideoSource) -> str:
    """What messages call a video: its path, or its type."""
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    return str(getattr(source, "name", None) or f"the given {type(source).__name__}")


def failure_reason(error: Exception) -> str:
    """What messages say of an error that a library or the system raised while a source was read."""
    if isinstance(error, MemoryError):
        return "it needs more memory than there is; scale it down"
    return f"{getattr(error, 'strerror', None) or f'{type(error).__name__}: {error}'}; check the file"


__all__ = ["VideoDecodingError", "VideoSource", "failure_reason", "source_name"]
