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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from .frame_scaler_lmmvqa import FrameScaler
from .video_reading_lmmvqa import T, VideoDecodingError, VideoFacts, VideoFrames, VideoSource, read_frames, source_name


# Which frames `decode_video` takes, as its docstring says. Raise it with any change of them: what is stored of videos
# under another number is not theirs any more
CHUNK_RULE = 1


@dataclass
class DecodedVideo:
    """What both towers need of one video, and nothing of full resolution.

    Attributes:
        key_frames: (chunks, key_frame_size, key_frame_size, 3) uint8 RGB, the first frame of each one-second chunk.
        chunks: (chunks, chunk_frames, chunk_size, chunk_size, 3) uint8 RGB, consecutive frames from the key frame on.
        seconds: (chunks,) the second of the stream that each chunk starts; not 0, 1, 2 ... where no frame starts in one.
        facts: what was seen of the video, up to these chunks.
    """

    key_frames: np.ndarray
    chunks: np.ndarray
    seconds: np.ndarray
    facts: VideoFacts

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


def _cut(
    frames: VideoFrames,
    source: VideoSource,
    portion: int | None,
    key_frame_size: int,
    chunk_size: int,
    chunk_frames: int,
    key_frame_fragments: int,
    chunk_fragments: int,
) -> Iterator[DecodedVideo]:
    """Frames to key frames and chunks, `portion` of them at a time."""
    scale_key_frame = FrameScaler(key_frame_size, key_frame_fragments)
    scale_chunk_frame = FrameScaler(chunk_size, chunk_fragments)
    are_same = (chunk_size, chunk_fragments) == (key_frame_size, key_frame_fragments)
    key_frames, chunks, seconds = [], [], []  # of what is not handed on yet
    growing = []  # those of the chunks that lack frames: they fill up in order
    num_chunks = 0

    def hand_on(count: int) -> DecodedVideo:
        video = DecodedVideo(
            np.stack(key_frames[:count]),
            np.stack([np.stack(chunk) for chunk in chunks[:count]]),
            np.array(seconds[:count]),
            replace(frames.facts),
        )
        del key_frames[:count], chunks[:count], seconds[:count]
        return video

    for time, _, frame in frames:
        second = math.floor(time + 1e-6)
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
    if not num_chunks:
        raise VideoDecodingError(
            f"Could not read {source_name(source)}: it holds no frame; check that the file is complete"
        )
    facts = frames.facts
    half_a_frame = facts.duration / facts.frames / 2
    if num_chunks > 1 and facts.duration < seconds[-1] + 1 - half_a_frame:
        key_frames.pop()
        chunks.pop()
        seconds.pop()
    for chunk in chunks:
        chunk += [chunk[-1]] * (chunk_frames - len(chunk))
    while chunks:
        yield hand_on(portion or len(chunks))


__all__ = ["DecodedVideo", "EncodedVideo", "decode_portions", "decode_video"]
