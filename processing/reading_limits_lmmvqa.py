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
"""How much is read of a file, and what reading has of the machine."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from .video_opening_lmmvqa import Refusal


@dataclass(frozen=True)
class ReadingLimits:
    """How much is read of a file at most, and must be read at least; beyond a limit there is a `VideoDecodingError`.

    `math.inf` sets no maximum, 0 no minimum.

    Attributes:
        max_pixels: of a frame. 8K video has 33 million, the largest photographs of phones have 200 million.
        max_seconds: of a video, announced or decoded; half a day.
        max_fps: frames that start in one second.
        max_wall_seconds: from opening the file until its last frame, with all that is done with the frames meanwhile.
            There is no maximum, since it depends on machine, model and video.
        min_decoded_share: of the seconds that the file announces. Less of it may show something else than the video.
        min_whole_share: frames without damage, of all. With less, the repairs of the decoder are seen, not the video.
    """

    max_pixels: float = 200_000_000
    max_seconds: float = 43_200
    max_fps: float = 1_000
    max_wall_seconds: float = math.inf
    min_decoded_share: float = 0.25
    min_whole_share: float = 0.25

    def __post_init__(self):
        for name, value in vars(self).items():
            most = 1 if name.endswith("_share") else math.inf
            if not 0 <= value <= most:  # nor NaN
                raise ValueError(f"got {name}={value}, expected a number from 0 to {most}")


DEFAULT_LIMITS = ReadingLimits()


@dataclass(frozen=True)
class ReadingShare:
    """What a file has of the machine while others are read beside it.

    Attributes:
        threads: that decode its frames; 0 for as many as FFmpeg takes, one more than there are cores.
        clock: seconds that `max_wall_seconds` bounds; one for files that wait for others stands still meanwhile. What it
            raises ends the reading.
    """

    threads: int = 0
    clock: Callable[[], float] = time.monotonic


WHOLE_MACHINE = ReadingShare()


class Pace:
    """Refuses a file that lasts too long, or has too many frames in a second.

    Args:
        limits: what is refused.
        deadline: of the clock.
        clock: see `ReadingShare`.

    Attributes:
        limits: as given.
        start: time of the first frame, once it came.
    """

    def __init__(self, limits: ReadingLimits, deadline: float, clock: Callable[[], float]):
        self.limits, self._deadline, self._clock = limits, deadline, clock
        self.start = None
        self._second = self._frames_in_second = 0

    def goes_on(self) -> None:
        if self._clock() > self._deadline:
            raise Refusal(f"it takes more than {self.limits.max_wall_seconds:g} s; raise max_wall_seconds")

    def came(self, seconds: float) -> None:
        """A frame, at its time."""
        if self.start is None:
            self.start = seconds
        seconds -= self.start
        self.lasts(seconds)
        if int(seconds) > self._second:
            self._second, self._frames_in_second = int(seconds), 0
        self._frames_in_second += 1
        if self._frames_in_second > self.limits.max_fps:
            raise Refusal(f"it has more than {self.limits.max_fps:g} frames in one second; raise max_fps")

    def lasts(self, seconds: float) -> None:
        if seconds > self.limits.max_seconds:
            raise Refusal(
                f"it lasts {seconds:,.0f} s or more, expected at most {self.limits.max_seconds:,g} s; cut it or raise "
                "max_seconds"
            )


__all__ = ["DEFAULT_LIMITS", "WHOLE_MACHINE", "Pace", "ReadingLimits", "ReadingShare"]
