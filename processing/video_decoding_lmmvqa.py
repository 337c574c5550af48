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
"""A video in any form to key frames and chunks, in one streaming pass (section III-C, Eq. 2-3)."""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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

# Which frames `decode_video` takes, as its docstring says. Raise it with any change of them: what is stored of videos
# under another number is not theirs any more
CHUNK_RULE = 1

T = TypeVar("T")


class VideoDecodingError(ValueError):
    """A source of which no frame can be read; the message names it and the reason."""


class _DamagedVideo(Exception):
    """A stream that does not decode cleanly was met while frames are decoded in parallel."""


@dataclass
class DecodedVideo:
    """What both towers need of one video, and nothing of full resolution.

    Attributes:
        key_frames: (chunks, key_frame_size, key_frame_size, 3) uint8 RGB, the first frame of each one-second chunk.
        chunks: (chunks, chunk_frames, chunk_size, chunk_size, 3) uint8 RGB, consecutive frames from the key frame on.
        seconds: (chunks,) the second of the stream that each chunk starts; not 0, 1, 2 ... where no frame starts in one.
        duration: seconds, from the first frame's time stamp to the end of the last frame decoded.
        num_frames: frames decoded.
    """

    key_frames: np.ndarray
    chunks: np.ndarray
    seconds: np.ndarray
    duration: float
    num_frames: int

    def part(self, first: int, end: int) -> "DecodedVideo":
        """The chunks from `first` to before `end`."""
        return replace(
            self,
            key_frames=self.key_frames[first:end],
            chunks=self.chunks[first:end],
            seconds=self.seconds[first:end],
        )


@dataclass
class EncodedVideo:
    """One video as the decoder's projectors see it: the towers' features in place of pixels.

    Attributes:
        vision_features: (chunks, tokens, vision hidden_size), see `LmmVqaModel.encode_key_frames`.
        temporal_features: (chunks, temporal feature_size), see `LmmVqaModel.encode_chunks`; None with `chunks`, and
            for a model without temporal tower.
        chunks: as in `DecodedVideo`, where the temporal tower is being trained; None with `temporal_features`.
        seconds: as in `DecodedVideo`; 0, 1, 2 ... by default.
    """

    vision_features: torch.Tensor
    temporal_features: torch.Tensor | None = None
    chunks: np.ndarray | None = None
    seconds: np.ndarray | None = None

    def __post_init__(self):
        if self.seconds is None:
            self.seconds = np.arange(len(self.vision_features))

    def part(self, first: int, end: int) -> "EncodedVideo":
        """The chunks from `first` to before `end`."""
        parts = {name: value[first:end] for name, value in vars(self).items() if value is not None}
        return EncodedVideo(**parts)


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


def decode_video(
    source: VideoSource,
    key_frame_size: int,
    chunk_size: int,
    chunk_frames: int,
    key_frame_fragments: int = 1,
    chunk_fragments: int = 1,
    fps: float | None = None,
) -> DecodedVideo:
    """Reads a video once and keeps what the towers need.

    Chunk k starts with the first frame at or after second k of the stream's own time stamps and holds `chunk_frames`
    consecutive frames (at low frame rates they run into the next second, as in the SlowFast features of SimpleVQA and
    its kin); the last frame is repeated where the video ends. A last second that is not complete gives no chunk
    (K = floor(N / tau)), unless it is the only one. A second in which no frame starts gives none either.

    Args:
        source: see `VideoSource`; a picture is a video of one frame.
        key_frame_size: side of the key frames in pixels.
        chunk_size: side of the chunks' frames in pixels.
        chunk_frames: frames a chunk.
        key_frame_fragments, chunk_fragments: 1 squeezes frames into their square, more cuts them into patches, see
            `FrameScaler`.
        fps: frame rate of an array or a list of pictures; files carry their own time stamps.

    Raises:
        VideoDecodingError: no frame can be read.
        FileNotFoundError: the path does not exist.
    """
    sizes = (key_frame_size, chunk_size, chunk_frames, key_frame_fragments, chunk_fragments)
    (video,) = decode_portions(source, lambda video: video, None, *sizes, fps)
    return video


def decode_portions(
    source: VideoSource,
    function: Callable[[DecodedVideo], T],
    portion: int | None,
    key_frame_size: int,
    chunk_size: int,
    chunk_frames: int,
    key_frame_fragments: int = 1,
    chunk_fragments: int = 1,
    fps: float | None = None,
) -> list[T]:
    """As `decode_video`, but what is decoded is handed on while reading, so that memory does not grow with the video.

    Args:
        function: called with each portion in order. It must keep nothing but its result: where damage is met, reading
            starts over, and results so far are dropped.
        portion: chunks a portion, the last one has what is left; None for the whole video at once.

    Returns:
        What `function` returned, in order.
    """
    sizes = (portion, key_frame_size, chunk_size, chunk_frames, key_frame_fragments, chunk_fragments)
    return read_frames(source, lambda frames: [function(part) for part in _cut(frames, source, *sizes)], fps)


def read_frames(
    source: VideoSource,
    function: Callable[[Iterator[tuple[float, float, av.VideoFrame]]], T],
    fps: float | None = None,
) -> T:
    """
    What `function` returns for the frames of a video, an iterator of (time in seconds, duration in seconds, frame).

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
        return function(_read_pictures(source, fps))
    is_path = isinstance(source, str | os.PathLike)
    can_restart = is_path or source.seekable()
    start = source.tell() if can_restart and not is_path else None
    try:
        return function(_read_file(source, parallel=can_restart))
    except _DamagedVideo:
        # What damaged frames look like then depends on timing: once more in order, for the same result on every run
        if not is_path:
            source.seek(start)
        return function(_read_file(source, parallel=False))


def _cut(
    frames: Iterator[tuple[float, float, av.VideoFrame]],
    source: VideoSource,
    portion: int | None,
    key_frame_size: int,
    chunk_size: int,
    chunk_frames: int,
    key_frame_fragments: int,
    chunk_fragments: int,
) -> Iterator[DecodedVideo]:
    """(time in seconds, duration in seconds, frame) to key frames and chunks, `portion` of them at a time."""
    scale_key_frame = FrameScaler(key_frame_size, key_frame_fragments)
    scale_chunk_frame = FrameScaler(chunk_size, chunk_fragments)
    are_same = (chunk_size, chunk_fragments) == (key_frame_size, key_frame_fragments)
    key_frames, chunks, seconds = [], [], []  # of what is not handed on yet
    growing = []  # those of the chunks that lack frames: they fill up in order
    start = end = num_frames = num_chunks = 0

    def hand_on(count: int) -> DecodedVideo:
        video = DecodedVideo(
            np.stack(key_frames[:count]),
            np.stack([np.stack(chunk) for chunk in chunks[:count]]),
            np.array(seconds[:count]),
            float(end),
            num_frames,
        )
        del key_frames[:count], chunks[:count], seconds[:count]
        return video

    for time, duration, frame in frames:
        if not num_frames:
            start = time
        num_frames += 1
        end = max(end, time - start + duration)
        second = math.floor(time - start + 1e-6)
        picture = None
        if not seconds or second > seconds[-1]:
            # Not before: only a frame of a later second shows that the second of the last chunk is complete
            if portion is not None and len(chunks) - len(growing) >= portion:
                yield hand_on(portion)
            picture = scale_key_frame(frame)
            key_frames.append(picture)
            chunks.append([])
            seconds.append(second)
            growing.append(chunks[-1])
            num_chunks += 1
        if growing:
            if picture is None or not are_same:
                picture = scale_chunk_frame(frame)
            for chunk in growing:
                chunk.append(picture)
            growing = [chunk for chunk in growing if len(chunk) < chunk_frames]
    if not num_frames:
        raise VideoDecodingError(f"Could not read {_name(source)}: it holds no frame; check that the file is complete")
    half_a_frame = end / num_frames / 2
    if num_chunks > 1 and end < seconds[-1] + 1 - half_a_frame:
        key_frames.pop()
        chunks.pop()
        seconds.pop()
    for chunk in chunks:
        chunk += [chunk[-1]] * (chunk_frames - len(chunk))
    while chunks:
        yield hand_on(portion or len(chunks))


def _name(source: VideoSource) -> str:
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
            raise FileNotFoundError(f"Could not read {_name(source)}: no such file; check the path")
        # The prefix keeps FFmpeg from reading a name with a colon as an address
        target = f"file:{os.fspath(source)}"
    else:
        target = source
    try:
        container = av.open(target, metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or error
        raise VideoDecodingError(
            f"Could not read {_name(source)}: {reason}; expected a video or picture that FFmpeg can open"
        ) from error
    num_frames = broken_packets = corrupt_frames = 0
    with container:
        streams = [s for s in container.streams.video if Disposition.attached_pic not in s.disposition]
        if not streams:  # but for the cover of a song
            raise VideoDecodingError(f"Could not read {_name(source)}: it has no video stream; check the file")
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
        raise VideoDecodingError(f"Could not read {_name(source)}: no frame decodes ({reason}); check the file")
    if broken_packets or corrupt_frames:
        logger.warning(
            f"{_name(source)}: {broken_packets} packets do not decode and {corrupt_frames} of {num_frames} frames are "
            "damaged; the score is of what can be seen."
        )
    announced = float((stream.duration or 0) * stream.time_base)
    if num_frames and announced > time - first_time + 1:
        if parallel:
            raise _DamagedVideo
        logger.warning(
            f"{_name(source)}: the file announces {announced:.1f} s and holds {time - first_time:.1f} s; the score is of "
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


__all__ = [
    "DecodedVideo",
    "EncodedVideo",
    "VideoDecodingError",
    "VideoSource",
    "decode_portions",
    "decode_video",
    "read_frames",
]
