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
"""Time stamps of a file, which may leap, go back or be missing, to times that go on and to the packets without a frame."""

from collections import Counter

import av


# A time stamp that moves by more seconds has leapt; by less, it has gone on to the next frame, or is out of order
LARGEST_STEP = 1.0


class Clock:
    """Time stamps to times that go on from frame to frame, in seconds.

    A stamp after the last frame's time is the time; what lies between is a gap, in which that frame is shown on (slide
    shows, variable frame rate). Where the stamp is missing, the time is one step after it; the step is that between
    the last two stamps. A stamp that goes back by more than `LARGEST_STEP` starts over: it is one step after the last
    frame, and the stamps that follow go on from there. So do those after a leap of more than `largest_gap`, or to more
    than twice the announced length. One that goes back by less is out of order, and waits for the others to catch up.

    Args:
        step: seconds from frame to frame, on average.
        largest_gap: seconds.
        length: seconds that the file announces; with B-frames and long steps the last stamps may be later.
    """

    def __init__(self, step: float, largest_gap: float, length: float):
        self.step, self._average_step, self._largest_gap, self._length = step, step, largest_gap, length
        self._time = self._stamp = self._end = None
        self._shift = 0.0  # from stamps to times

    def __call__(self, stamp: float | None) -> float:
        last_stamp, self._stamp = self._stamp, stamp
        if self._time is None:
            self._time = stamp or 0.0
            self._end = self._time + 2 * self._length
            return self._time
        if stamp is not None and last_stamp is not None and 0 < stamp - last_stamp <= LARGEST_STEP:
            self.step = stamp - last_stamp
        next_time = self._time + self.step
        seconds = next_time if stamp is None else stamp + self._shift
        ahead = seconds - self._time
        is_leap = ahead > self._largest_gap or (ahead > LARGEST_STEP and seconds > self._end)
        if is_leap or ahead < -LARGEST_STEP:
            self._shift += next_time - seconds
            seconds = next_time
        self._time = seconds if seconds > self._time else self._time + min(self.step, self._average_step)
        return self._time


class Losses:
    """Finds the packets that gave no frame.

    Args:
        one_frame_a_packet: else some packets rightly give none, and only the last one's frame is missed.
    """

    def __init__(self, one_frame_a_packet: bool):
        self._one_frame_a_packet = one_frame_a_packet
        self._waiting = Counter()  # packets whose frame is not out, by their time stamps, which may stand still
        self._first = self._newest = None
        self._has_fields = False
        self.num_failed, self.reason = 0, None

    def sent(self, packet: av.Packet) -> None:
        if packet.pts is not None and not packet.is_discard:
            self._waiting[packet.pts] += 1
            self._newest = packet.pts if self._newest is None else max(self._newest, packet.pts)

    def failed(self, error: av.FFmpegError) -> None:
        self.num_failed += 1
        self.reason = error.strerror

    def came(self, frame: av.VideoFrame) -> None:
        if self._waiting[frame.pts]:
            self._waiting[frame.pts] -= 1
        if self._first is None:
            self._first = frame.pts
        self._has_fields |= frame.interlaced_frame  # then two packets may be one frame

    def count(self) -> int:
        """How many frames are lost, once all are out."""
        if self._has_fields or self._first is None:
            return self.num_failed
        # Recordings that start in the middle of a broadcast begin with their first whole picture
        lost = sum(count for pts, count in self._waiting.items() if pts > self._first)
        if not self._one_frame_a_packet:
            lost = min(1, self._waiting[self._newest])
        return max(self.num_failed, lost)


__all__ = ["LARGEST_STEP", "Clock", "Losses"]
