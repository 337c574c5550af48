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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self, get_args

import numpy as np
import torch

from .frame_scaler_lmmvqa import FrameScaler
from .problems_lmmvqa import WatchedFrames
from .reading_limits_lmmvqa import DEFAULT_LIMITS, WHOLE_MACHINE, ReadingLimits, ReadingShare
from .video_reading_lmmvqa import T, VideoDecodingError, VideoFacts, VideoFrames, VideoSource, read_frames, source_name


# Which frames `decode_video` takes, as `FrameSettings` says. Raise it with any change of them: what is stored of videos
# under another number is not theirs any more
CHUNK_RULE = 2

# A second of more than so many clips is thinned out evenly: with 32 frames a clip, one of more than 128 frames
MAX_CLIPS = 4

# A last second that is not complete gives a chunk if it is as long, else its frames belong to the chunk before
SHORTEST_CHUNK = 0.5


def _is_count(value: object) -> bool:
    """Whether it is a whole number from 1 on, as JSON has them: `True` is none."""
    return type(value) is int and value > 0


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        known = ", ".join(map(repr, choices[:-1]))
        raise ValueError(f"got {name}={value!r}, expected {known} or {choices[-1]!r}")


@dataclass(frozen=True)
class FrameSettings:
    """Which frames the towers see of a video, and at what size.

    With `chunk_sampling="second"` a chunk is its second: all the frames whose time stamps lie in it (Eq. 2). The
    temporal tower sees them as clips of at most `chunk_frames` frames, whose features are averaged, weighted by their
    frames. There are C clips, 1, 2 or 4, the fewest that will do, and clip j holds the frames j, j + C, j + 2C ... So a
    video of 60 frames a second is seen as two of 30, each of them as fast as the temporal tower knows videos, and
    where frames are doubled each clip stands there twice: nothing changes at all (`benchmarks/chunk_rules.py`). Up to
    `MAX_CLIPS * chunk_frames` frames a second each frame is seen; of more every second, fourth ... one.

    With `chunk_sampling="first_frames"` a chunk is the `chunk_frames` consecutive frames from its key frame on, as in
    the SlowFast features of SimpleVQA and its kin: at high frame rates the rest of the second is never seen, at low
    ones chunks run into the next second.

    With `chunk_sampling="even"` a chunk is its second, too, and one clip: `chunk_frames` of its frames, evenly spread, and
    where it has fewer some of them twice. It is for towers that take a fixed number of frames, as VideoMAE does.

    Attributes:
        key_frame_size: side of the key frames in pixels.
        chunk_size: side of the chunks' frames in pixels.
        chunk_frames: frames of a clip.
        key_frame_fragments, chunk_fragments: 1 shows frames as a whole, more cuts them into patches, see
            `FrameScaler`. Several numbers give several views of each key frame: (1, 6) the whole frame, and a mosaic at
            its own resolution.
        chunk_sampling: see above.
        key_frame_resize: "squeeze" fits whole key frames into their square, "crop" their short side, and keeps the middle;
            of fragments nothing is resized. The paper says the size alone. Frames of chunks are squeezed.
        small_frames: "overlap" or "enlarge", of frames smaller than the mosaic of their fragments, see `FrameScaler`.
        keep_incomplete_second: a last second that is not complete counts: of half a second and more it gives a chunk,
            a shorter one adds its frames to the chunk before. False leaves it out, K = floor(N / tau) as in Eq. 2,
            unless it is the only one.
    """

    key_frame_size: int
    chunk_size: int
    chunk_frames: int
    key_frame_fragments: int | Sequence[int] = 1
    chunk_fragments: int = 1
    chunk_sampling: Literal["second", "first_frames", "even"] = "second"
    keep_incomplete_second: bool = True
    key_frame_resize: Literal["squeeze", "crop"] = "squeeze"
    small_frames: Literal["overlap", "enlarge"] = "overlap"

    def __post_init__(self):
        """
        Raises:
            ValueError: a setting that no frame can be shown by, wherever it comes from.
        """
        for name in ("chunk_sampling", "key_frame_resize", "small_frames"):
            _check_choice(name, getattr(self, name), get_args(type(self).__annotations__[name]))
        if not isinstance(self.keep_incomplete_second, bool):
            raise ValueError(f"got keep_incomplete_second={self.keep_incomplete_second!r}, expected true or false")
        for name in ("key_frame_size", "chunk_size", "chunk_frames"):
            if not _is_count(getattr(self, name)):
                raise ValueError(f"got {name}={getattr(self, name)!r}, expected a whole number from 1 on")
        is_list = isinstance(self.key_frame_fragments, Sequence) and len(self.key_frame_fragments) > 0
        of_views = self.key_frame_fragments if is_list else [self.key_frame_fragments]
        sizes = {"key_frame": (self.key_frame_size, of_views), "chunk": (self.chunk_size, [self.chunk_fragments])}
        for of, (size, fragments) in sizes.items():
            if not all(_is_count(count) and size % count == 0 for count in fragments):
                several = ", or a list of such" if of == "key_frame" else ""
                raise ValueError(
                    f"got {of}_fragments={getattr(self, f'{of}_fragments')!r} for {of}_size={size}, expected a divisor of "
                    f"{size}{several}"
                )

    @property
    def key_frame_views(self) -> list[int]:
        """`key_frame_fragments` of each view of a key frame."""
        fragments = self.key_frame_fragments
        return [fragments] if isinstance(fragments, int) else list(fragments)


class _Chunks:
    """What a video is cut by, whatever its fields hold of each chunk."""

    def part(self, first: int, end: int) -> Self:
        """The chunks from `first` to before `end`."""
        return self._of(slice(first, end))

    def spread(self, count: int) -> Self:
        """So many of its chunks, evenly spread: the middle one of each of so many equal parts."""
        num_chunks = len(self.seconds)
        return self._of([(2 * index + 1) * num_chunks // (2 * count) for index in range(count)])

    def _of(self, chunks: slice | list[int]) -> Self:
        known = {name: value for name, value in vars(self).items() if value is not None}
        names = known.keys() & {"seconds", "num_clips", "vision_features", "temporal_features"}
        parts = {name: known[name][chunks] for name in names}
        chosen = np.zeros(len(self.seconds), dtype=bool)
        chosen[chunks] = True
        if "clips" in known:
            of_chunks = np.repeat(chosen, self.num_clips)
            parts |= {"clips": self.clips[of_chunks], "num_frames": self.num_frames[of_chunks]}
        if "key_frames" in known:
            parts["key_frames"] = self.key_frames[np.repeat(chosen, len(self.key_frames) // len(chosen))]
        return replace(self, **parts)


@dataclass
class DecodedVideo(_Chunks):
    """What both towers need of one video, and nothing of full resolution.

    Attributes:
        key_frames: (chunks * views, key_frame_size, key_frame_size, 3) uint8 RGB, the first frame of each one-second
            chunk, in each of its views.
        clips: (clips, chunk_frames, chunk_size, chunk_size, 3) uint8 RGB, the frames of each chunk, see
            `FrameSettings`; a clip of fewer frames repeats its last one.
        num_clips: (chunks,) clips of each chunk.
        num_frames: (clips,) frames of each clip, without repetition. With "first_frames" and "even" all count.
        seconds: (chunks,) the second of the stream that each chunk starts; not 0, 1, 2 ... where no frame starts in one.
        facts: what was seen of the video, up to these chunks.
    """

    key_frames: np.ndarray
    clips: np.ndarray
    num_clips: np.ndarray
    num_frames: np.ndarray
    seconds: np.ndarray
    facts: VideoFacts


@dataclass
class EncodedVideo(_Chunks):
    """One video as the decoder's projectors see it: the towers' features in place of pixels.

    Attributes:
        vision_features: (chunks, tokens, vision hidden_size), see `LmmVqaModel.encode_key_frames`; or (chunks, tokens,
            hidden_size), behind the projector already, see `LmmVqaForConditionalGeneration.encode_pixels`.
        temporal_features: (chunks, temporal feature_size), see `LmmVqaModel.encode_chunks`; None with `clips`, and
            for a model without temporal tower.
        clips, num_clips, num_frames: as in `DecodedVideo`, where the temporal tower is being trained; None with
            `temporal_features`.
        seconds: as in `DecodedVideo`; 0, 1, 2 ... by default.
        facts: as in `DecodedVideo`; None where features alone are known.
    """

    vision_features: torch.Tensor
    temporal_features: torch.Tensor | None = None
    clips: np.ndarray | None = None
    num_clips: np.ndarray | None = None
    num_frames: np.ndarray | None = None
    seconds: np.ndarray | None = None
    facts: VideoFacts | None = None

    def __post_init__(self):
        if self.seconds is None:
            self.seconds = np.arange(len(self.vision_features))


def decode_video(
    source: VideoSource, settings: FrameSettings, fps: float | None = None, limits: ReadingLimits = DEFAULT_LIMITS
) -> DecodedVideo:
    """Reads a video once and keeps what the towers need.

    Second k holds the frames from second k of the stream's own time stamps on. A second in which no frame starts gives
    no chunk.

    Args:
        source: see `VideoSource`; a picture is a video of one frame.
        settings: which frames, and how large.
        fps: frame rate of an array or a list of pictures; files carry their own time stamps.
        limits: how much is read of a file.

    Raises:
        VideoDecodingError: it cannot be read, too little of it decodes, or it is beyond the limits.
        FileNotFoundError: the path does not exist.
    """
    (video,) = decode_portions(source, lambda video: video, None, settings, fps, limits)
    return video


def decode_portions(
    source: VideoSource,
    function: Callable[[DecodedVideo], T],
    portion: int | None,
    settings: FrameSettings,
    fps: float | None = None,
    limits: ReadingLimits = DEFAULT_LIMITS,
    problems: bool = False,
    share: ReadingShare = WHOLE_MACHINE,
) -> list[T]:
    """As `decode_video`, but what is decoded is handed on while reading, so that memory does not grow with the video.

    Args:
        function: called with each portion in order. It must keep nothing but its result: where damage is met, reading
            starts over, and results so far are dropped.
        portion: chunks a portion, the last one has what is left; None for the whole video at once.
        problems: whether every frame is looked at for problems: `facts.problems` of the last portion, see `WatchedFrames`.
        share: see `ReadingShare`.

    Returns:
        What `function` returned, in order.
    """

    def decode(frames: VideoFrames) -> list[T]:
        watched = WatchedFrames(frames) if problems else frames
        return [function(part) for part in _cut(watched, source, portion, settings)]

    return read_frames(source, decode, fps, limits, share)


@dataclass
class _Chunk:
    """A chunk while its frames come in, those of the chunks' size."""

    second: int
    key_frame: list[np.ndarray]  # its views
    frames: list[np.ndarray] = field(default_factory=list)
    frames_behind: list[np.ndarray] = field(default_factory=list)  # of an incomplete second
    stride: int = 1  # one of so many frames is kept
    num_met: int = 0

    def takes_next(self) -> bool:
        self.num_met += 1
        return (self.num_met - 1) % self.stride == 0

    def add(self, picture: np.ndarray, most: int) -> None:
        self.frames.append(picture)
        if len(self.frames) > most:
            self.frames = self.frames[::2]
            self.stride *= 2

    def spread(self, count: int) -> list[np.ndarray]:
        """So many frames of the second and of a short one behind it, evenly."""
        frames = [*self.frames, *self.frames_behind]
        return [frames[place] for place in np.linspace(0, len(frames) - 1, count).round().astype(int)]

    def clips(self, most: int) -> list[list[np.ndarray]]:
        """In clips of at most so many frames, each spread over the whole second; those of a short second behind it too."""
        # A power of two: twice the frames are then twice the clips
        longest = max(len(self.frames), len(self.frames_behind))
        count = 2 ** math.ceil(math.log2(max(1, longest / most)))
        clips = [frames[first::count] for frames in (self.frames, self.frames_behind) for first in range(count)]
        return [clip for clip in clips if clip]


def _cut(
    frames: VideoFrames | WatchedFrames, source: VideoSource, portion: int | None, settings: FrameSettings
) -> Iterator[DecodedVideo]:
    """Frames to key frames and chunks, `portion` of them at a time."""
    small = settings.small_frames
    of_key_frames = [
        (settings.key_frame_size, fragments, settings.key_frame_resize, small)
        for fragments in settings.key_frame_views
    ]
    of_chunks = settings.chunk_size, settings.chunk_fragments, "squeeze", small
    scale = {of: FrameScaler(*of) for of in (*of_key_frames, of_chunks)}  # what both towers see alike is scaled once
    takes_first = settings.chunk_sampling == "first_frames"
    chunks, growing = [], []  # those that are not handed on yet, and of them those that may take the next frame
    for time, _, frame in frames:
        second, scaled = math.floor(time + 1e-6), {}
        if not chunks or second > chunks[-1].second:
            # One chunk stays back: it may have to take the frames of a short second behind it
            if portion is not None and len(chunks) - max(1, len(growing)) >= portion:
                yield _decoded(chunks[:portion], settings, frames.facts)
                del chunks[:portion]
            scaled = {of: scale[of](frame) for of in scale}  # its first frame is the chunk's too
            chunks.append(_Chunk(second, [scaled[of] for of in of_key_frames]))
            growing = [*growing, chunks[-1]] if takes_first else [chunks[-1]]
        takers = [chunk for chunk in growing if chunk.takes_next()]
        if takers:
            picture = scaled[of_chunks] if scaled else scale[of_chunks](frame)
        for chunk in takers:
            chunk.add(picture, MAX_CLIPS * settings.chunk_frames)
        if takes_first:
            growing = [chunk for chunk in growing if len(chunk.frames) < settings.chunk_frames]
    if not chunks:
        raise VideoDecodingError(
            f"Could not read {source_name(source)}: it holds no frame; check that the file is complete"
        )
    _end_with_whole_chunks(chunks, settings, frames.facts)
    portion = portion or len(chunks)
    for first in range(0, len(chunks), portion):
        yield _decoded(chunks[first : first + portion], settings, frames.facts)


def _end_with_whole_chunks(chunks: list[_Chunk], settings: FrameSettings, facts: VideoFacts) -> None:
    """A last second that is not complete stays, joins the chunk before, or goes, as the settings say."""
    half_a_frame = facts.duration / facts.frames / 2
    length = facts.duration - chunks[-1].second + half_a_frame
    shortest = SHORTEST_CHUNK if settings.keep_incomplete_second else 1.0
    if len(chunks) > 1 and length < shortest:
        last = chunks.pop()
        if settings.keep_incomplete_second and settings.chunk_sampling != "first_frames":
            chunks[-1].frames_behind = last.frames[:: max(1, chunks[-1].stride // last.stride)]


def _decoded(chunks: list[_Chunk], settings: FrameSettings, facts: VideoFacts) -> DecodedVideo:
    if settings.chunk_sampling == "even":
        clips = [[chunk.spread(settings.chunk_frames)] for chunk in chunks]
    else:
        clips = [chunk.clips(settings.chunk_frames) for chunk in chunks]
    whole = [clip + [clip[-1]] * (settings.chunk_frames - len(clip)) for of_chunk in clips for clip in of_chunk]
    num_frames = [len(clip) for of_chunk in clips for clip in of_chunk]
    if settings.chunk_sampling == "first_frames":
        num_frames = [settings.chunk_frames] * len(chunks)
    in_place = np.empty((len(whole), settings.chunk_frames, *whole[0][0].shape), np.uint8)
    for clip, frames in zip(in_place, whole, strict=True):
        np.stack(frames, out=clip)
    return DecodedVideo(
        key_frames=np.stack([view for chunk in chunks for view in chunk.key_frame]),
        clips=in_place,
        num_clips=np.array([len(of_chunk) for of_chunk in clips]),
        num_frames=np.array(num_frames),
        seconds=np.array([chunk.second for chunk in chunks]),
        facts=replace(facts),
    )


__all__ = ["DecodedVideo", "EncodedVideo", "FrameSettings", "decode_portions", "decode_video"]
