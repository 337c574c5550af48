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

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import av
from av.container import Flags as ContainerFlags
from av.container import InputContainer
from av.format import Flags as FormatFlags
from av.stream import Discard
from transformers.utils import logging

from .frame_scaler_lmmvqa import HDR_TRANSFERS, drop_unknown_colours
from .picture_reading_lmmvqa import DEFAULT_ARRAY_FPS, read_pictures
from .reading_limits_lmmvqa import DEFAULT_LIMITS, WHOLE_MACHINE, Pace, ReadingLimits, ReadingShare
from .time_stamps_lmmvqa import LARGEST_STEP, Clock, Losses
from .video_opening_lmmvqa import (
    ENCRYPTED,
    NoVideo,
    Refusal,
    Restart,
    allocated_pixels,
    announced_seconds,
    can_restart,
    check_path,
    check_pixels,
    choose_stream,
    naming_errors,
    open_video,
)
from .video_source_lmmvqa import NEAR, VideoDecodingError, VideoPart, VideoSource, source_name


logger = logging.get_logger(__name__)

# In formats made to be joined (transport streams, Ogg) a leap of more seconds is no gap; FFmpeg's own tool has 10 too
LARGEST_GAP = 10.0
# Frames of which whole files may fall short of what they announce, and seconds of sound that end them
FRAMES_SHORT, SECONDS_SHORT = 1.5, 0.1

# Of so many frames, all may be in flight in as many threads
FEW_FRAMES = 16

# Of these codecs each packet holds a frame: one that gives none is lost, although their decoders do not always say so
ONE_FRAME_A_PACKET = {"av1", "h264", "hevc"}

T = TypeVar("T")


class _DamagedVideo(Restart):
    """A stream that does not decode cleanly was met while frames are decoded in parallel."""


class _MissedPart(Restart):
    """Where seeking led to, the part cannot be decoded as a whole."""


@dataclass
class VideoFacts:
    """What was seen of a video.

    Attributes:
        duration: seconds, from the first frame's time stamp to the end of the last frame decoded.
        expected_duration: seconds that the file announces; None where it announces none (transport streams), where
            another track is what lasts so long (sound), and for arrays and pictures.
        frames: how many were decoded.
        damaged_frames: those of them with parts missing or made up by the decoder, and lost ones; of `frames` + `lost_frames`.
        lost_frames: packets that gave no frame.
        width, height: pixels of the first frame, as it is shown upright.
        fps: frames a second, of what was decoded; None for one frame.
        hdr: "pq" or "hlg" where the pictures were mapped to standard range, else None.
        problems: what is wrong and when, see `WatchedFrames`; None where that was not asked.
    """

    duration: float = 0.0
    expected_duration: float | None = None
    frames: int = 0
    damaged_frames: int = 0
    lost_frames: int = 0
    width: int = 0
    height: int = 0
    fps: float | None = None
    hdr: str | None = None
    problems: list[dict] | None = None


class VideoFrames:
    """The frames of a video in order, once: (time in seconds, duration in seconds, frame).

    The first time is 0 and each is later than the one before, whatever the time stamps of a file say (see `Clock`). Warnings
    call the video by `name`.

    Attributes:
        facts: what was seen so far; of the whole video once the last frame is out.
    """

    def __init__(self, frames: Iterator[tuple[float, float, av.VideoFrame]], facts: VideoFacts, name: str):
        self._frames, self._name = frames, name
        self.facts = facts

    def __iter__(self) -> Iterator[tuple[float, float, av.VideoFrame]]:
        facts, start = self.facts, None
        for seconds, duration, frame in self._frames:
            if start is None:
                start = seconds
                facts.hdr = HDR_TRANSFERS.get(frame.color_trc)
                facts.width, facts.height = frame.width, frame.height
                if frame.rotation % 180:
                    facts.width, facts.height = facts.height, facts.width
            drop_unknown_colours(frame, self._name)
            facts.frames += 1
            facts.duration = seconds - start + duration
            if facts.frames > 1:
                facts.fps = facts.frames / facts.duration
            yield seconds - start, duration, frame


def read_frames(
    source: VideoSource,
    function: Callable[[VideoFrames], T],
    fps: float | None = None,
    limits: ReadingLimits = DEFAULT_LIMITS,
    share: ReadingShare = WHOLE_MACHINE,
) -> T:
    """
    What `function` returns for the frames of a video.

    No address is opened, nor another file that the source names. Of a part what lies before is left out by seeking, where the
    file allows it.

    Args:
        source: see `VideoSource`. File objects are read from their beginning; those that cannot seek, once.
        function: it must keep nothing but its result: where damage is met, it is called anew with the video from its
            start, and the result so far is dropped. Errors of FFmpeg in it count as the video's, all others pass.
        fps: frame rate of an array or a list of pictures.
        limits: see `ReadingLimits`; damage is that of files.
        share: see `ReadingShare`.

    Raises:
        VideoDecodingError: the source cannot be read, or it is beyond `limits`.
        FileNotFoundError: the path does not exist.
    """
    deadline = share.clock() + limits.max_wall_seconds
    part = source if isinstance(source, VideoPart) else VideoPart(source)
    pictures = read_pictures(part.source, fps, limits.max_pixels)
    if pictures is not None:
        pictures = _paced(pictures, part, Pace(limits, deadline, share.clock))
        return _call(function, VideoFrames(pictures, VideoFacts(), source_name(part)), part)
    if isinstance(part.source, str | os.PathLike):
        check_path(part.source)
    with naming_errors(part):
        restarts = can_restart(part.source)

    def read(threads: int, seek: bool) -> T:
        facts, pace = VideoFacts(), Pace(limits, deadline, share.clock)
        frames = VideoFrames(_read_file(part, threads, seek, pace, facts), facts, source_name(part))
        return _call(function, frames, part)

    def read_undamaged(seek: bool) -> T:
        # Outside of the handler, where the error would hold the first decoder and its frames
        with contextlib.suppress(_DamagedVideo):
            return read(share.threads if restarts else 1, seek)
        # What damaged frames look like in parallel depends on timing: once more in order, for the same result on every run
        return read(1, seek)

    with contextlib.suppress(_MissedPart):
        return read_undamaged(seek=restarts and part.start > 0)
    return read_undamaged(seek=False)


def _call(function: Callable[[VideoFrames], T], frames: VideoFrames, source: VideoPart) -> T:
    try:
        return function(frames)
    except av.FFmpegError as error:
        raise VideoDecodingError(
            f"Could not read {source_name(source)}: its frames of {frames.facts.width} x {frames.facts.height} pixels "
            f"cannot be scaled ({error.strerror}); check the file"
        ) from error


def _paced(
    pictures: Iterator[tuple[float, float, av.VideoFrame]], source: VideoPart, pace: Pace
) -> Iterator[tuple[float, float, av.VideoFrame]]:
    """The frames of a part of an animation, as long as they are within the limits."""
    for seconds, duration, frame in pictures:
        if source.place(seconds, duration):
            continue
        with naming_errors(source):
            pace.goes_on()
            pace.came(seconds)
        yield seconds, duration, frame


def _read_file(
    part: VideoPart, threads: int, seek: bool, pace: Pace, facts: VideoFacts
) -> Iterator[tuple[float, float, av.VideoFrame]]:
    """Yields (time in seconds, duration in seconds, frame); see `_Reading`."""
    with naming_errors(part), open_video(part.source, pace.limits.max_pixels) as container:
        reading = _Reading(container, part, threads, pace, facts)
        if seek:
            reading.seek()
        yield from reading.frames()
        reading.finish()


class _Reading:
    """One pass through an open file: the frames of a part of it with their times, then what is to be said of it.

    Args:
        container: the file.
        part: which frames, all by default.
        threads: that decode frames, 0 for as many as FFmpeg takes; with more than one, damage stops with `_DamagedVideo`.
        pace: what is refused.
        facts: gets what is announced and what is damaged; `VideoFrames` counts the rest in it.
    """

    def __init__(self, container: InputContainer, part: VideoPart, threads: int, pace: Pace, facts: VideoFacts):
        self._container, self._part, self._parallel = container, part, threads != 1
        self._has_sought, self._places = False, {}
        self._limits, self._pace, self._facts = pace.limits, pace, facts
        self._stream = stream = choose_stream(container)
        context = stream.codec_context
        check_pixels(context.width, context.height, self._limits.max_pixels)
        # Threads do not tell of every damage, and less of the last frames in flight: they stop at any doubt instead, and
        # what is short needs none
        has_threads = self._parallel and not 0 < stream.frames <= FEW_FRAMES
        context.thread_type = "AUTO" if has_threads else "NONE"
        context.thread_count = threads if has_threads else 1
        options = {"max_pixels": allocated_pixels(self._limits.max_pixels)}
        context.options = options | {"err_detect": "explode"} if has_threads else options
        facts.expected_duration, self._is_of_stream = announced_seconds(container, stream)
        if part.end < math.inf:
            facts.expected_duration, self._is_of_stream = part.end - part.start, True
        elif not part.is_whole:
            facts.expected_duration = max(0.0, facts.expected_duration - part.start) if self._is_of_stream else None
        self._expected = math.inf if facts.expected_duration is None else facts.expected_duration
        if self._expected < math.inf:
            self._pace.lasts(self._expected)
        # FFmpeg makes up time stamps for B-frames that have none, in an order that is not theirs
        container.flags &= ~ContainerFlags.gen_pts.value
        self._others = [other for other in container.streams if other.index != stream.index]
        if self._is_of_stream or self._expected == math.inf:  # else it is seen which of the tracks lasts so long
            for other in self._others:
                other.discard = Discard.all
            self._others = []
        self._ends = {}  # of the other tracks, in units of their time bases

        rate = stream.average_rate or stream.guessed_rate or DEFAULT_ARRAY_FPS
        can_be_joined = container.format.flags & FormatFlags.ts_discont.value
        self._clock = Clock(1 / float(rate), LARGEST_GAP if can_be_joined else math.inf, self._expected)
        self._losses = Losses(context.codec.canonical_name in ONE_FRAME_A_PACKET)
        self._tick, self._step = float(stream.time_base), 1 / float(rate)

    def seek(self) -> None:
        """Leaves out what lies before the key frame before the part, where the format can."""
        border = int((self._part.start - NEAR) / self._tick) + (self._stream.start_time or 0)
        with contextlib.suppress(av.FFmpegError):  # of formats that cannot
            self._container.seek(border, stream=self._stream)
            self._has_sought = True

    def frames(self) -> Iterator[tuple[float, float, av.VideoFrame]]:
        """Yields (time in seconds, duration in seconds, frame)."""
        packets = self._packets()
        last = av.Packet()  # without data, so that the decoder gives the frames that it holds back
        last.stream, last.time_base = self._stream, self._stream.time_base
        packet, is_counted = None, True
        while packet is not last:
            self._pace.goes_on()
            try:
                packet = next(packets, last)
                if not self._parallel and packet.has_sidedata("encryption_info"):
                    raise Refusal(ENCRYPTED)
                is_counted = self._place(packet) == 0
                if is_counted:
                    self._losses.sent(packet)
                frames = self._stream.decode(packet)
            except av.FFmpegError as error:
                # A broken packet costs its own frames only: what decodes is scored, and the loss is said in the end
                if self._parallel:
                    raise _DamagedVideo from error
                if is_counted:
                    self._losses.failed(error)
                continue
            for frame in frames:
                place = self._place(frame)
                if place > 0:
                    return
                if place < 0:
                    continue
                if frame.is_corrupt:
                    if self._parallel:
                        raise _DamagedVideo
                    self._facts.damaged_frames += 1
                self._losses.came(frame)
                check_pixels(frame.width, frame.height, self._limits.max_pixels)
                seconds, duration = self._times(frame)
                self._pace.came(seconds)
                yield seconds, duration, frame

    def _packets(self) -> Iterator[av.Packet]:
        """
        Yields the packets of the stream.

        Raises:
            _MissedPart: seeking led to a packet that decoding cannot begin with, or behind the part's start.
        """
        packets, has_begun = self._container.demux(self._stream, *self._others), not self._has_sought
        while True:
            try:
                packet = next(packets)
            except (StopIteration, IndexError):
                # IndexError: at its end PyAV looks for streams that appeared after opening, and does not know them
                return
            index = packet.stream_index
            if index != self._stream.index:
                end = (packet.pts or 0) + (packet.duration or 0)
                self._ends[index] = max(end, self._ends.get(index, 0))
            elif packet.size:  # after one without data decoders take no more
                if not has_begun:
                    stamp = packet.dts if packet.pts is None else packet.pts
                    if stamp is None or not packet.is_keyframe or self._seconds(stamp) > self._part.start + NEAR:
                        raise _MissedPart
                    has_begun = True
                yield packet

    def _place(self, item: av.Packet | av.VideoFrame) -> int:
        """-1 before the part, 0 in it, 1 behind it; without a time stamp it is where the one before is."""
        if self._part.is_whole:
            return 0
        stamp = item.dts if item.pts is None else item.pts
        if stamp is not None:
            self._places[type(item)] = self._part.place(self._seconds(stamp), self._step)
        elif type(item) not in self._places:
            raise Refusal("its frames have no time stamps, by which a part of it could be found; convert it")
        return self._places[type(item)]

    def _seconds(self, stamp: int) -> float:
        """From the file's first frame on."""
        return (stamp - (self._stream.start_time or 0)) * self._tick

    def _times(self, frame: av.VideoFrame) -> tuple[float, float]:
        if frame.pts is None:  # AVI has decoding times only, and those of frames with B-frames are in their order
            seconds = self._clock(None if frame.dts is None else frame.dts * self._tick)
            return seconds, self._clock.step
        seconds = self._clock(frame.time)
        duration = frame.duration * self._tick
        # Files that give none, a tick, or that of the decoding order are no rarity
        return seconds, duration if duration > self._clock.step / 3 else self._clock.step

    def finish(self) -> None:
        """Refuses a file of which too little decodes, and says what is missing of another."""
        facts, limits = self._facts, self._limits
        facts.lost_frames = self._losses.count()
        facts.damaged_frames += facts.lost_frames
        held, is_cut = self._compare_durations()
        if self._parallel and (facts.damaged_frames or is_cut):
            raise _DamagedVideo
        if not facts.frames:
            reason = f"no frame decodes ({self._losses.reason})" if self._losses.reason else "it holds no frame"
            size = "" if self._stream.width else f", of at most {limits.max_pixels:,.0f} pixels a frame"
            raise NoVideo(f"{reason}; check that the file is complete{size}")
        if is_cut:
            announced = "the file announces" if self._part.end == math.inf else "the part is of"
            cut = f"{announced} {self._expected:.1f} s and holds {held:.1f} s"
            if held < limits.min_decoded_share * self._expected:
                raise Refusal(f"{cut}; get the whole file, or lower min_decoded_share")
            logger.warning(f"{source_name(self._part)}: {cut}; the score is of what can be seen.")
        if facts.damaged_frames:
            num_frames = facts.frames + facts.lost_frames
            damage = f"{facts.damaged_frames} of {num_frames} frames are damaged or lost"
            if num_frames - facts.damaged_frames < limits.min_whole_share * num_frames:
                raise Refusal(f"{damage}; get a whole file, or lower min_whole_share")
            logger.warning(f"{source_name(self._part)}: {damage}; the score is of what can be seen.")

    def _compare_durations(self) -> tuple[float, bool]:
        """How many seconds the file holds of those it announces, and whether some are missing."""
        facts = self._facts
        if facts.expected_duration is None:
            return facts.duration, False
        held, tolerance = facts.duration, min(FRAMES_SHORT * self._clock.step, LARGEST_STEP)
        if not self._is_of_stream:  # but of the file, from 0 on
            held += max(self._pace.start or 0.0, 0.0)
            tolerance = max(tolerance, SECONDS_SHORT)
            ends = (end * float(self._container.streams[index].time_base) for index, end in self._ends.items())
            if held < facts.expected_duration - tolerance <= max(ends, default=0.0):  # another track lasts so long
                facts.expected_duration = None
                return held, False
        return held, held < facts.expected_duration - tolerance


__all__ = ["VideoDecodingError", "VideoFacts", "VideoFrames", "VideoSource", "read_frames"]
