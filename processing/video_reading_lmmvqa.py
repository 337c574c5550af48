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
"""A video in any form to its frames with their times: what FFmpeg opens, arrays and pictures."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import av
import numpy as np
import torch
from av.stream import Disposition
from PIL import Image, ImageOps
from transformers.utils import logging


logger = logging.get_logger(__name__)

# One path, one file object, one array (frames, height, width, 3) or (frames, 3, height, width), one picture, or a list
# of pictures in order
VideoSource = str | os.PathLike | BinaryIO | np.ndarray | torch.Tensor | Image.Image | list[Image.Image]

DEFAULT_ARRAY_FPS = 30.0

T = TypeVar("T")


class VideoDecodingError(ValueError):
    """A source of which no frame can be read; the message names it and the reason."""


class _DamagedVideo(Exception):
    """A stream that does not decode cleanly was met while frames are decoded in parallel."""


@dataclass
class VideoFacts:
    """What was seen of a video.

    Attributes:
        duration: seconds, from the first frame's time stamp to the end of the last frame decoded.
        expected_duration: seconds that the file announces; None where it announces none, and for arrays and pictures.
        frames: how many were decoded.
        damaged_frames: of these, with parts missing or made up by the decoder, and packets that gave none.
        width, height: pixels of the first frame, as it is shown upright.
        fps: frames a second, of what was decoded; None for one frame.
        hdr: "pq" or "hlg" where the pictures were mapped to standard range, else None.
    """

    duration: float = 0.0
    expected_duration: float | None = None
    frames: int = 0
    damaged_frames: int = 0
    width: int = 0
    height: int = 0
    fps: float | None = None
    hdr: str | None = None


class VideoFrames:
    """The frames of a video in order, once: (time in seconds, duration in seconds, frame).

    Attributes:
        facts: what was seen so far; of the whole video once the last frame is out.
    """

    def __init__(self, frames: Iterator[tuple[float, float, av.VideoFrame]]):
        self._frames = frames
        self.facts = VideoFacts()

    def __iter__(self) -> Iterator[tuple[float, float, av.VideoFrame]]:
        facts, start = self.facts, None
        for time, duration, frame in self._frames:
            if start is None:
                start = time
                facts.width, facts.height = frame.width, frame.height
                if frame.rotation % 180:
                    facts.width, facts.height = facts.height, facts.width
            facts.frames += 1
            facts.duration = max(facts.duration, time - start + duration)
            if facts.frames > 1:
                facts.fps = facts.frames / facts.duration
            yield time - start, duration, frame


def read_frames(source: VideoSource, function: Callable[[VideoFrames], T], fps: float | None = None) -> T:
    """
    What `function` returns for the frames of a video.

    Args:
        source: see `VideoSource`.
        function: it must keep nothing but its result: where damage is met, it is called anew with the video from its
            start, and the result so far is dropped.
        fps: frame rate of an array or a list of pictures.

    Raises:
        VideoDecodingError: the source cannot be read.
        FileNotFoundError: the path does not exist.
    """
    if not _is_file(source):
        return function(VideoFrames(_read_pictures(source, fps)))
    is_path = isinstance(source, str | os.PathLike)
    can_restart = is_path or source.seekable()
    start = source.tell() if can_restart and not is_path else None
    try:
        return function(VideoFrames(_read_file(source, parallel=can_restart)))
    except _DamagedVideo:
        # What damaged frames look like then depends on timing: once more in order, for the same result on every run
        if not is_path:
            source.seek(start)
        return function(VideoFrames(_read_file(source, parallel=False)))


def source_name(source: VideoSource) -> str:
    """What messages call a video: its path, or its type."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return getattr(source, "name", None) or f"the given {type(source).__name__}"


def _is_file(source: VideoSource) -> bool:
    return isinstance(source, str | os.PathLike) or callable(getattr(source, "read", None))


def _read_pictures(source: VideoSource, fps: float | None) -> Iterator[tuple[float, float, av.VideoFrame]]:
    """Yields (time in seconds, duration in seconds, frame) of an array or of pictures."""
    if fps is None:
        fps = DEFAULT_ARRAY_FPS
        logger.warning_once(f"No frame rate is known for frames given as an array: {fps:g} per second is assumed.")
    for index, picture in enumerate(_pictures(source)):
        yield index / fps, 1 / fps, av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")


def _read_file(source: str | os.PathLike | BinaryIO, parallel: bool) -> Iterator[tuple[float, float, av.VideoFrame]]:
    """Yields (time in seconds, duration in seconds, frame); `parallel` decoding stops with `_DamagedVideo`."""
    if isinstance(source, str | os.PathLike):
        if not os.path.exists(source):
            raise FileNotFoundError(f"Could not read {source_name(source)}: no such file; check the path")
        # The prefix keeps FFmpeg from reading a name with a colon as an address
        target = f"file:{os.fspath(source)}"
    else:
        target = source
    try:
        container = av.open(target, metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or error
        raise VideoDecodingError(
            f"Could not read {source_name(source)}: {reason}; expected a video or picture that FFmpeg can open"
        ) from error
    num_frames = broken_packets = corrupt_frames = 0
    with container:
        streams = [s for s in container.streams.video if Disposition.attached_pic not in s.disposition]
        if not streams:  # but for the cover of a song
            raise VideoDecodingError(f"Could not read {source_name(source)}: it has no video stream; check the file")
        stream = streams[0]
        stream.thread_type = "AUTO" if parallel else "NONE"
        frame_duration = 1 / float(stream.average_rate or stream.guessed_rate or DEFAULT_ARRAY_FPS)
        time = -frame_duration  # of the frame before the first, for streams without time stamps
        first_time = 0.0
        packets = container.demux(stream)
        while True:
            # A broken packet costs its own frames only: what decodes is scored, and the loss is said below
            try:
                frames = next(packets).decode()
            except StopIteration:
                break
            except av.FFmpegError as error:
                if parallel:
                    raise _DamagedVideo from error
                broken_packets += 1
                reason = error.strerror
                if not isinstance(error, av.InvalidDataError):
                    break
                continue
            for frame in frames:
                if parallel and frame.is_corrupt:
                    raise _DamagedVideo
                num_frames += 1
                corrupt_frames += frame.is_corrupt
                time = time + frame_duration if frame.time is None else frame.time
                first_time = time if num_frames == 1 else first_time
                duration = float(frame.duration * frame.time_base) if frame.duration else frame_duration
                yield time, duration, frame
    if broken_packets and not num_frames:
        raise VideoDecodingError(f"Could not read {source_name(source)}: no frame decodes ({reason}); check the file")
    if broken_packets or corrupt_frames:
        logger.warning(
            f"{source_name(source)}: {broken_packets} packets do not decode and {corrupt_frames} of {num_frames} frames are "
            "damaged; the score is of what can be seen."
        )
    announced = float((stream.duration or 0) * stream.time_base)
    if num_frames and announced > time - first_time + 1:
        if parallel:
            raise _DamagedVideo
        logger.warning(
            f"{source_name(source)}: the file announces {announced:.1f} s and holds {time - first_time:.1f} s; the score is of "
            "what can be seen."
        )


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


__all__ = ["VideoDecodingError", "VideoFacts", "VideoFrames", "VideoSource", "read_frames"]
