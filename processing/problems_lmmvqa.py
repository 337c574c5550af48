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
"""Named problems of a video with their times, from FFmpeg's filters on the frames that are decoded anyway."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np

from .frame_scaler_lmmvqa import drop_unknown_colours, filter_graph
from .video_reading_lmmvqa import VideoFrames


@dataclass(frozen=True)
class Rule:
    """When a measure of frames is a problem.

    Attributes:
        threshold: of the measure, from which a frame counts.
        seconds: that a problem lasts at least.
        gap: seconds in between that do not count, and end nothing.
    """

    threshold: float
    seconds: float
    gap: float


# Measures: black and interlacing 1 or 0 (blackdetect; idet over several frames), blank the evenness of the picture, that is
# 1 for one colour, letterbox the share of the picture that bars cover, flashing the frame's badness of photosensitivity,
# blocking and blur those of blockdetect and blurdetect
RULES = {
    "black": Rule(1, 0.1, 0.1),
    "blank": Rule(0.5, 0.2, 0.2),
    "letterbox": Rule(0.05, 1.0, 5.0),
    "flashing": Rule(0.5, 0.5, 0.4),
    "interlacing": Rule(1, 0.5, 0.5),
    "blocking": Rule(6, 0.5, 1.0),
    "blur": Rule(10, 0.5, 1.0),
}
# Those of pictures that stand still: `_Holds`
HELD_KINDS = ("freeze", "dropped_frames", "judder")
KINDS = (*RULES, *HELD_KINDS)

# Time is watched in small, as (width, height), with all of the picture in it
SMALL = (160, 90)
# Of the small picture in levels from 0 to 255: no row of a bar is brighter, and the first one inside is on average
BAR_LEVEL, PICTURE_LEVEL = 24, 16
BAR_EDGES = 4 / SMALL[1]
BLANK_DEVIATION = 2.0
# Blocking and blur need the pixels as they are: the middle of so much, so many times a second, since they take time
DETAIL, DETAIL_STEP = (640, 360), 0.2
# Blocks without anything in them are endlessly blocky
MOST_BLOCKY = 100.0

# Seconds for which a picture stands at least: a frozen one, and one of which it is seen that others are missing
FREEZE, STALL = 0.5, 0.045
# Of the usual step between frames
STALL_STEPS = 1.5
# Of the largest of `BLOCKS` (rows, columns) of the small picture, in levels: frames that differ less are the same, by
# themselves or beside the usual difference; after a stall the picture jumps by as much, and by more than it moved meanwhile
BLOCKS = (9, 10)
SAME, SAME_SHARE, JUMP, JUMP_TIMES = 0.25, 0.1, 1.0, 3.0
# Frames whose steps and differences are the usual ones
RECENT = 15
# Stalls so many seconds apart belong together: from so many on that take such a share of the time they are judder
STALLS_APART, JUDDER_STALLS, JUDDER_SHARE = 0.5, 4, 0.3


class WatchedFrames:
    """
    Frames of a video as they come, which are looked at on their way: with the last one, `facts.problems` is there.

    It is a list of {"kind", "start", "end", "strength"}, in order of their starts: one of `KINDS`, seconds from the first
    frame, and how bad it is on average: the measure's own number, see `RULES`; for "freeze" and "dropped_frames" the
    seconds for which pictures stood too long, for "judder" their share of the time.

    What FFmpeg's filters see (in PyAV's wheels, which have no cropdetect): blackdetect, photosensitivity, idet,
    blockdetect, blurdetect. Still pictures are found by differences between frames, which say where one is a repeat.
    """

    def __init__(self, frames: VideoFrames):
        self._frames = frames
        self.facts = frames.facts

    def __iter__(self) -> Iterator[tuple[float, float, av.VideoFrame]]:
        finder = _Finder()
        for seconds, duration, frame in self._frames:
            finder.see(seconds, duration, frame)
            yield seconds, duration, frame
        self.facts.problems = finder.problems()


class _Finder:
    """All measures of frames, and the problems that they make."""

    def __init__(self):
        self._layout = None
        self._spans = {kind: _Spans(rule) for kind, rule in RULES.items()}
        self._holds = _Holds()
        self._waiting = deque()  # times of the frames that idet has not told of yet
        self._is_black, self._is_first = False, True
        self._next_detail, self._end = 0.0, 0.0

    def see(self, seconds: float, duration: float, frame: av.VideoFrame) -> None:
        drop_unknown_colours(frame)
        layout = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if layout != self._layout:  # some streams change on the way
            self._configure(frame)
            self._layout = layout
        end = self._end = seconds + duration
        (small,) = _through(self._small, frame)
        picture = small.to_ndarray().astype(np.int16)  # (height, width)
        bars = _bars(picture), _bars(picture.T)
        is_shown = self._see_picture(seconds, end, picture, max(bars), small.metadata)
        self._holds.add(seconds, end, picture, is_shown)

        self._waiting.append((seconds, end))
        for of_frame in _through(self._fields, frame):
            is_interlaced = of_frame.metadata["lavfi.idet.multiple.current_frame"] in ("tff", "bff")
            self._spans["interlacing"].add(*self._waiting.popleft(), float(is_interlaced))

        if seconds >= self._next_detail:
            self._next_detail = seconds + DETAIL_STEP
            blocking, blur = _blocking_and_blur(frame, *bars)
            end = max(end, seconds + DETAIL_STEP)
            self._spans["blocking"].add(seconds, end, blocking)
            self._spans["blur"].add(seconds, end, blur)

    def _configure(self, frame: av.VideoFrame) -> None:
        self._small = filter_graph(
            frame,
            ("scale", f"{SMALL[0]}:{SMALL[1]}:flags=area"),
            ("format", "yuv420p"),
            ("blackdetect", "d=0"),
            ("format", "rgb24"),
            ("photosensitivity", "bypass=1"),
            ("format", "gray"),
        )
        self._fields = filter_graph(frame, ("idet", "intl_thres=1.5"))
        self._is_black, self._is_first = False, True  # the first frame is a flash to photosensitivity
        self._waiting.clear()

    def _see_picture(
        self, seconds: float, end: float, picture: np.ndarray, bars: float, metadata: dict[str, str]
    ) -> bool:
        """Whether there is a picture, neither black nor of one colour."""
        if "lavfi.black_start" in metadata:
            self._is_black = True
        elif "lavfi.black_end" in metadata:
            self._is_black = False
        is_shown = not self._is_black
        found = {
            "black": float(self._is_black),
            "blank": is_shown / (1 + picture.std() / BLANK_DEVIATION),
            "letterbox": is_shown * bars,
            "flashing": float(metadata["lavfi.photosensitivity.frame-badness"]) * (not self._is_first),
        }
        for kind, value in found.items():
            self._spans[kind].add(seconds, end, value)
        self._is_first = False
        return is_shown and found["blank"] < RULES["blank"].threshold

    def problems(self) -> list[dict]:
        found = [
            (kind, start, min(end, self._end), strength)
            for kind, spans in self._spans.items()
            for start, end, strength in spans.finish()
        ]
        problems = []
        for kind, *numbers in found + self._holds.finish():
            start, end, strength = (round(float(number), 3) for number in numbers)
            problems.append({"kind": kind, "start": start, "end": end, "strength": strength})
        return sorted(problems, key=lambda problem: (problem["start"], problem["kind"]))


def _through(graph: av.filter.Graph, frame: av.VideoFrame) -> list[av.VideoFrame]:
    """What a graph gives for a frame; some filters hold frames back until the next one comes."""
    graph.push(frame)
    found = []
    while True:
        try:
            found.append(graph.pull())
        except BlockingIOError:
            return found


def _blocking_and_blur(frame: av.VideoFrame, rows: float, columns: float) -> tuple[float, float]:
    """
    Those of the middle of a frame; 0 where there are no edges to tell by.

    Args:
        rows, columns: shares that bars cover, whose edges are no picture's.
    """
    height, width = (
        min(most, int(side * (1 - share - BAR_EDGES * (share > 0))))
        for most, side, share in zip(DETAIL[::-1], (frame.height, frame.width), (rows, columns), strict=True)
    )
    # A graph a frame: what blockdetect says is the mean of all that it has seen
    steps = ("crop", f"{width}:{height}"), ("format", "gray"), ("blockdetect", ""), ("blurdetect", "")
    (detail,) = _through(filter_graph(frame, *steps), frame)
    blocking, blur = (float(detail.metadata[name]) for name in ("lavfi.block", "lavfi.blur"))
    return min(np.nan_to_num(blocking, posinf=MOST_BLOCKY), MOST_BLOCKY), np.nan_to_num(blur)


def _bars(picture: np.ndarray) -> float:
    """The share of a picture's rows in two black bars of one size, above and below; 0 where there are none."""
    is_bar = picture.max(1) <= BAR_LEVEL
    if is_bar.all():
        return 0.0
    first, last = np.flatnonzero(~is_bar)[[0, -1]]
    top, bottom = first, len(picture) - 1 - last
    # The row at the edge may be half bar. Next to it, a bar ends at once where dark surroundings do not
    inside = picture[[min(first + 1, last), max(last - 1, first)]].mean(1)
    if abs(top - bottom) > 1 or (inside < PICTURE_LEVEL).any():
        return 0.0
    return (top + bottom) / len(picture)


class _Spans:
    """Frames that count, joined to spans of time."""

    def __init__(self, rule: Rule):
        self._rule = rule
        self._found = []
        self._start = self._end = None
        self._sum, self._count = 0.0, 0  # up to `_end`
        self._sum_behind, self._count_behind = 0.0, 0

    def add(self, start: float, end: float, value: float) -> None:
        if self._start is not None and start - self._end > self._rule.gap:
            self._close()
        self._sum_behind += value
        self._count_behind += 1
        if value < self._rule.threshold:
            return
        if self._start is None:
            self._start = start
            self._sum, self._count, self._sum_behind, self._count_behind = 0.0, 0, value, 1
        self._end = end
        self._sum += self._sum_behind
        self._count += self._count_behind
        self._sum_behind, self._count_behind = 0.0, 0

    def _close(self) -> None:
        if self._end - self._start >= self._rule.seconds - 1e-6:
            self._found.append((self._start, self._end, self._sum / self._count))
        self._start = None

    def finish(self) -> list[tuple[float, float, float]]:
        """(start, end, mean value) of each span."""
        if self._start is not None:
            self._close()
        return self._found


class _Holds:
    """Pictures that stand longer than the usual step: freezes; stalls, which are dropped frames; and, in a row, judder.

    A picture stands where frames repeat it, and where the next frame's time stamp says so.
    """

    def __init__(self):
        self._found = []
        self._steps, self._differences = deque(maxlen=RECENT), deque(maxlen=RECENT)
        self._picture = self._time = self._end = None
        self._start, self._moved = 0.0, 0.0  # of the picture that stands, and what moved in it
        self._in_motion = False  # it came at the usual step from another
        self._stalls = []  # (start, end, in motion) that belong together

    def add(self, seconds: float, end: float, picture: np.ndarray, is_shown: bool) -> None:
        if not is_shown:  # where there is no picture, none stands
            self._start, self._moved, self._in_motion = end, 0.0, False
        elif self._picture is not None:
            difference = _difference(self._picture, picture)
            usual = float(np.median(self._differences)) if self._differences else 0.0
            self._differences.append(difference)
            self._steps.append(seconds - self._time)
            if difference <= max(SAME, SAME_SHARE * usual):
                self._moved = max(self._moved, difference)
            else:
                self._change(seconds, difference)
        self._picture, self._time, self._end = picture, seconds, end

    def _change(self, seconds: float, difference: float) -> None:
        length = seconds - self._start
        jumps = difference >= JUMP_TIMES * self._moved
        is_stall = length > max(STALL, STALL_STEPS * float(np.median(self._steps)))
        if length >= FREEZE and jumps:
            self._found.append(("freeze", self._start, seconds, length))
        elif is_stall and jumps and difference >= JUMP:
            if self._stalls and self._start - self._stalls[-1][1] > STALLS_APART:
                self._close_stalls()
            self._stalls.append((self._start, seconds, self._in_motion))
        self._in_motion = not is_stall and difference >= JUMP
        self._start, self._moved = seconds, 0.0

    def _close_stalls(self) -> None:
        start, end = self._stalls[0][0], self._stalls[-1][1]
        held = sum(end - start for start, end, _ in self._stalls)
        if len(self._stalls) >= JUDDER_STALLS and held >= JUDDER_SHARE * (end - start):
            self._found.append(("judder", start, end, held / (end - start)))
        elif any(in_motion for *_, in_motion in self._stalls):
            self._found.append(("dropped_frames", start, end, held))
        self._stalls = []

    def finish(self) -> list[tuple[str, float, float, float]]:
        """(kind, start, end, strength) of each problem."""
        if (
            self._time is not None and self._time > self._start and self._end - self._start >= FREEZE
        ):  # in several frames
            self._found.append(("freeze", self._start, self._end, self._end - self._start))
        if self._stalls:
            self._close_stalls()
        return self._found


def _difference(before: np.ndarray, after: np.ndarray) -> float:
    """Mean absolute difference of two small pictures in the block where it is largest."""
    (rows, columns), (height, width) = BLOCKS, before.shape
    blocks = np.abs(after - before).reshape(rows, height // rows, columns, width // columns)
    return float(blocks.mean((1, 3)).max())


__all__ = ["KINDS", "RULES", "WatchedFrames"]
