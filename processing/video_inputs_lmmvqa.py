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
"""What a caller gives as videos or pictures to a flat list of videos, and each of them to what the reader takes.

The rule is that of transformers' `VideoInput`, written down and closed: nothing is dropped, nothing is guessed from the
first item alone.

| given | is |
|---|---|
| path, file object, bytes of a file, {"path", "bytes"} of a datasets column, torchcodec's VideoDecoder | one video |
| {"path", "bytes", "start", "end"}: seconds in a file; what is missing or None is its beginning or end | one video |
| array of 4 dimensions: (frames, H, W, C) or (frames, C, H, W), C = 1, 3 or 4 | one video |
| array of 3 dimensions, the last or else the first of them 1, 3 or 4; of 2 dimensions; PIL picture | one video of one frame |
| array of 3 dimensions otherwise: (frames, H, W) | one grey video |
| list of pictures (PIL, arrays of 2 or 3 dimensions) | one video, its frames in order |
| (one of these, `VideoMetadata` or dict of its fields), as `load_video` returns | one video with its frame rate |
| array of 5 dimensions | a video for each of the first |
| any other list, of paths for instance, nested or mixed; generator, dataset, column of a dataset | the videos of each item |

A tuple is a list. An empty list holds no video. Paths are never frames of one video. Pictures (`images`) are a video of
one frame each, in lists and arrays of 4 dimensions too.
"""

import base64
import io
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.video_utils import VideoMetadata

from .video_source_lmmvqa import VideoPart, VideoSource, source_name


CHANNELS = (1, 3, 4)  # grey, RGB, RGBA
METADATA = [field.name for field in fields(VideoMetadata)]


@dataclass
class InputVideo:
    """One video as it was given.

    Attributes:
        source: any "one video" of the table above, or what was decoded or encoded before.
        fps: frames a second of an array or a list of pictures, where it was said; None for what has time stamps.
    """

    source: Any
    fps: float | None = None


def is_stream(videos: Any) -> bool:
    """Whether it hands out videos one after another, as generators, datasets and their columns do."""
    one_or_list = str | bytes | bytearray | memoryview | np.ndarray | torch.Tensor | Mapping | list | tuple
    if isinstance(videos, one_or_list) or _is_file_object(videos) or _is_torchcodec_decoder(videos):
        return False
    return isinstance(videos, Iterable | torch.utils.data.Dataset)


def is_batch(videos: Any) -> bool:
    """Whether it holds videos, of whatever number, and is not one itself."""
    if isinstance(videos, np.ndarray | torch.Tensor):
        return videos.ndim == 5
    if isinstance(videos, list | tuple):
        return not (_is_pair(videos) or (videos and all(map(_is_frame, videos))))
    return is_stream(videos)


def make_video_list(
    videos: Any, video_metadata: Mapping | list | None = None, fps: float | None = None
) -> list[InputVideo]:
    """
    Args:
        videos: any form of the table above.
        video_metadata: a `VideoMetadata` or a dict of its fields for one video; for several a list of them, None for
            those about which nothing is known. What counts is `fps`, and `frames_indices` where frames were sampled.
        fps: of all the videos, which must be arrays or lists of pictures.

    Raises:
        ValueError: metadata for another number of videos or with other fields, or a frame rate that is not positive, or
            for a video that has one.
    """
    flat = _with_metadata(_flatten(videos), video_metadata)
    return flat if fps is None else [_with_fps(video, fps) for video in flat]


def make_image_list(images: Any) -> list[InputVideo]:
    """Pictures, each in any form that a video of one frame has, and lists and arrays of them: a video of each."""
    if isinstance(images, InputVideo):
        return [images]
    is_array = isinstance(images, np.ndarray | torch.Tensor)
    if (is_array and images.ndim > 3) or isinstance(images, list | tuple) or is_stream(images):
        return [image for item in images for image in make_image_list(item)]
    return [InputVideo(images)]


def reader_source(video: InputVideo) -> tuple[VideoSource, float | None]:
    """
    What the reader takes, and the frame rate. Arrays become uint8 RGB or RGBA; what was decoded or encoded before, and what is no video, is handed on.

    Raises:
        ValueError: an array of another shape or with values of an unknown range, or a dict without path and bytes.
    """
    source = video.source
    if _is_torchcodec_decoder(source):
        # What datasets opened is read as any file: with its own time stamps, and never in memory as a whole
        encoded = _encoded(source)
        if encoded["bytes"] is None and not os.path.exists(encoded["path"] or ""):
            return _rgb(source.get_frames_in_range(0, len(source)).data), source.metadata.average_fps
        source = encoded
    if isinstance(source, Mapping):
        return _stored_part(source), None
    if isinstance(source, str) and source.startswith("data:"):
        source = base64.b64decode(source.partition(";base64,")[2])
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source), None
    if isinstance(source, np.ndarray | torch.Tensor):
        return _rgb(source), video.fps
    if isinstance(source, list | tuple):
        return _frames(source), video.fps
    return source, video.fps


def _flatten(videos: Any) -> list[InputVideo]:
    if isinstance(videos, InputVideo):
        return [videos]
    if _is_pair(videos):
        return _with_metadata(_flatten(videos[0]), videos[1])
    if not is_batch(videos):
        return [InputVideo(videos)]
    return [video for item in videos for video in _flatten(item)]


def _is_file_object(video: Any) -> bool:
    return callable(getattr(video, "read", None))


def _is_torchcodec_decoder(video: Any) -> bool:
    # By name, since torchcodec need not be installed
    return (type(video).__module__.partition(".")[0], type(video).__name__) == ("torchcodec", "VideoDecoder")


def _is_frame(item: Any) -> bool:
    return isinstance(item, Image.Image) or (isinstance(item, np.ndarray | torch.Tensor) and item.ndim in (2, 3))


def _is_pair(videos: Any) -> bool:
    if not isinstance(videos, list | tuple) or len(videos) != 2 or not isinstance(videos[1], Mapping):
        return False
    return len(videos[1]) > 0 and set(videos[1]) <= set(METADATA)


def _with_metadata(videos: list[InputVideo], video_metadata: Mapping | list | None) -> list[InputVideo]:
    if video_metadata is None:
        return videos
    given = [video_metadata] if isinstance(video_metadata, Mapping) else video_metadata
    metadata = [entry for item in given for entry in (item if isinstance(item, list | tuple) else [item])]
    if len(metadata) != len(videos):
        raise ValueError(
            f"got video_metadata for {len(metadata)} videos, expected {len(videos)}; give one entry a video, None where "
            "nothing is known"
        )
    rates = map(_frame_rate, metadata)
    return [video if fps is None else _with_fps(video, fps) for video, fps in zip(videos, rates, strict=True)]


def _frame_rate(metadata: Mapping | None) -> float | None:
    """Of the frames that were kept, where `frames_indices` says which those were."""
    if metadata is None:
        return None
    if unknown := set(metadata) - set(METADATA):
        raise ValueError(
            f"got video_metadata with {', '.join(sorted(map(str, unknown)))}, expected some of {', '.join(METADATA)}"
        )
    fps, indices = metadata.get("fps"), metadata.get("frames_indices")
    if fps is None or indices is None or len(indices) < 2 or indices[-1] <= indices[0]:
        return fps
    return fps * (len(indices) - 1) / int(indices[-1] - indices[0])


def _with_fps(video: InputVideo, fps: float) -> InputVideo:
    if not isinstance(fps, Real) or not 0 < fps < math.inf:
        raise ValueError(f"got fps={fps!r}, expected a positive number: the frames a second of arrays and pictures")
    if not isinstance(video.source, np.ndarray | torch.Tensor | Image.Image | list | tuple):
        raise ValueError(
            f"got fps={fps} for {source_name(video.source)}, expected it for arrays and lists of pictures: anything else has "
            "time stamps of its own; leave it out, or give video_metadata with None for this video"
        )
    if video.fps not in (None, float(fps)):
        raise ValueError(f"got the frame rates {video.fps} and {fps} for one video, expected one; leave one out")
    return replace(video, fps=float(fps))


def stored_part(video: Any, start: float | None, end: float | None) -> dict:
    """
    A part of what a column of a data set holds, as `make_video_list` takes it; `reader_source` refuses what is no file.

    Args:
        video: path, bytes of a file, {"path", "bytes"}, or a file that torchcodec opened for `datasets`.
        start, end: in seconds; None for where the file begins or ends.
    """
    if _is_torchcodec_decoder(video):
        video = _encoded(video)
    elif isinstance(video, bytes | bytearray | memoryview):
        video = {"bytes": video}
    elif not isinstance(video, Mapping):
        video = {"path": video}
    return {**video, "start": start, "end": end}


def _encoded(decoder: Any) -> Mapping:
    """What `datasets` decoded; of another VideoDecoder nothing is known."""
    return vars(decoder).get("_hf_encoded") or {"path": None, "bytes": None}


def _stored_part(column: Mapping) -> VideoSource:
    start, end = (column.get(name) for name in ("start", "end"))
    file = _stored_file({name: value for name, value in column.items() if name not in ("start", "end")})
    if start is None and end is None:
        return file
    return VideoPart(file, 0.0 if start is None else start, math.inf if end is None else end)


def _stored_file(column: Mapping) -> str | io.BytesIO:
    """A video or picture of `datasets` that is not decoded; the path beside bytes is where they came from."""
    path, data = column.get("path"), column.get("bytes")
    if not set(column) <= {"path", "bytes"} or (path is None and data is None):
        raise ValueError(
            f"got a dict with {', '.join(map(str, column)) or 'nothing in it'}, expected a path or bytes under these names; "
            "of a dataset name the column, as in KeyDataset(dataset, 'video')"
        )
    if data is None:
        return path
    file = io.BytesIO(data)
    if path is not None:
        file.name = os.fspath(path)
    return file


def _frames(given: list | tuple) -> np.ndarray | list[Image.Image]:
    """An array where all are arrays of one size, pictures otherwise."""
    frames = [frame if isinstance(frame, Image.Image) else _rgb(frame) for frame in given]
    for frame, of_caller in zip(frames, given, strict=True):
        if isinstance(frame, np.ndarray) and frame.ndim != 3:
            raise ValueError(
                f"got a frame of shape {tuple(of_caller.shape)} in a list, expected (height, width), (height, width, "
                "channels) or (channels, height, width) with 1, 3 or 4 channels"
            )
    if all(isinstance(frame, np.ndarray) for frame in frames) and len({frame.shape for frame in frames}) == 1:
        return np.stack(frames)
    return [
        frame if isinstance(frame, Image.Image) else Image.fromarray(np.ascontiguousarray(frame)) for frame in frames
    ]


def _rgb(given: np.ndarray | torch.Tensor) -> np.ndarray:
    """One picture or frames to ([frames,] height, width, 3 or 4) uint8, by views where it can be."""
    array = given
    if isinstance(given, torch.Tensor):  # NumPy has no bfloat16
        array = (given.float() if given.is_floating_point() else given).numpy(force=True)
    shape = array.shape
    has_channels_last = array.ndim > 2 and shape[-1] in CHANNELS
    has_channels_first = array.ndim > 2 and shape[-3] in CHANNELS
    if not has_channels_last:
        if has_channels_first:
            array = np.moveaxis(array, -3, -1)
        elif array.ndim in (2, 3):
            array = array[..., None]
    if array.ndim not in (3, 4) or array.shape[-1] not in CHANNELS:
        raise ValueError(
            f"got a video array of shape {tuple(shape)}, expected (frames, height, width, channels) or (frames, channels, "
            "height, width) with 1, 3 or 4 channels, or one frame of them"
        )
    if array.dtype != np.uint8:
        # Frame by frame, so that no second array of floats is made
        array = np.stack([_as_uint8(frame) for frame in array]) if array.size else array.astype(np.uint8)
    return np.broadcast_to(array, (*array.shape[:-1], max(3, array.shape[-1])))


def _as_uint8(array: np.ndarray) -> np.ndarray:
    is_float, is_integer = array.dtype.kind == "f", array.dtype.kind in "iu"
    if not is_float and not is_integer:
        raise ValueError(
            f"got a video array of type {array.dtype}, expected integers from 0 to 255 or floats from 0 to 1"
        )
    highest = 1 if is_float else 255
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= highest):  # NaN as well
        raise ValueError(
            f"got a video array of {array.dtype} with values from {low:g} to {high:g}, expected "
            + (
                "floats from 0 to 1; clip them, or give 0 to 255 as uint8"
                if is_float
                else "0 to 255; scale them to uint8"
            )
        )
    return np.rint(array * np.float32(255)).astype(np.uint8) if is_float else array.astype(np.uint8)


__all__ = ["InputVideo", "is_batch", "is_stream", "make_image_list", "make_video_list", "reader_source", "stored_part"]
