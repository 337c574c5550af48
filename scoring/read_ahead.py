"""Videos that threads decode ahead of the model, which gets them in order."""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from ..processing.video_decoding_lmmvqa import DecodedVideo


class _GivenUpError(Exception):
    """Nobody waits for the rest of the video."""


class Reading:
    """
    One video while a thread decodes it: one portion waits for the model, and the thread makes the next.

    Attributes:
        video: its path or address.
        seconds: for which its thread worked on it, once its portions are out.
    """

    def __init__(self, video: str):
        self.video, self.seconds = video, 0.0
        self._portions, self._room = queue.SimpleQueue(), threading.Semaphore(1)
        self._seconds_waiting, self._failure, self._is_given_up = 0.0, None, False

    def clock(self) -> float:
        """Seconds, without those for which the thread waited for the model; see `ReadingShare`."""
        if self._is_given_up:
            raise _GivenUpError
        return time.perf_counter() - self._seconds_waiting

    def hand_on(self, portion: DecodedVideo) -> None:
        start = self.clock()
        self._room.acquire()
        self._seconds_waiting += time.perf_counter() - self._seconds_waiting - start
        self._portions.put(portion)

    def run(self, read: Callable[["Reading"], None]) -> None:
        start = time.perf_counter()
        try:
            read(self)
        except Exception as failure:  # of the model's thread, where it is raised
            self._failure = failure
        self.seconds = time.perf_counter() - start - self._seconds_waiting
        self._portions.put(None)

    def portions(self) -> Iterator[DecodedVideo]:
        """
        Yields the portions as they come.

        Raises:
            Exception: what reading raised.
        """
        while (portion := self._portions.get()) is not None:
            self._room.release()
            yield portion
        if self._failure is not None:
            raise self._failure

    def give_up(self) -> None:
        """Lets the thread go, wherever it is."""
        self._is_given_up = True
        self._room.release()


def read_ahead(read: Callable[[Reading], None], videos: Iterable[str], workers: int) -> Iterator[Reading]:
    """
    Yields the reading of each video, in order; its portions are to be taken before the next one. At most twice as many
    videos as there are workers have been begun, the yielded one among them, so that memory does not grow with their number.

    Args:
        read: decodes the video of a reading and hands on its portions; called in one of `workers` threads.
    """
    ahead, names = deque(), iter(videos)
    with ThreadPoolExecutor(workers, "reading") as pool:
        try:
            while True:
                for video in islice(names, 2 * workers - len(ahead)):
                    ahead.append(Reading(video))
                    pool.submit(ahead[-1].run, read)
                if not ahead:
                    return
                yield ahead[0]
                ahead.popleft().give_up()
        finally:
            for reading in ahead:
                reading.give_up()
