"""One thread that scores what is waiting, several videos together."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import BinaryIO

from ..modeling_lmmvqa import VideoQualityAssessmentPipeline
from ..scoring.report import failure_line, finite
from ..scoring.scorer import result_row


# Of how long a video takes, for clients that are told when to come back: each one moves the mean by this share
NEWEST_SHARE = 0.2


@dataclass
class _Job:
    file: BinaryIO
    problems: bool
    future: Future = field(default_factory=Future)
    submitted: float = field(default_factory=time.perf_counter)


class Batcher:
    """
    Videos in the order they came to rows of `score_videos`, on a thread of its own, up to `max_batch` together.

    Args:
        scorer: decodes them one after another; the decoder's part is one call for all.
        max_batch: videos at most in one call. Those that look for problems and those that do not are not mixed.
        on_batch: called with the number of videos of each call.

    Attributes:
        seconds_per_video: mean of the latest, which is 0 before the first.
    """

    def __init__(
        self,
        scorer: VideoQualityAssessmentPipeline,
        max_batch: int,
        on_batch: Callable[[int], None] = lambda num_videos: None,
    ):
        self._scorer, self._max_batch, self._on_batch = scorer, max_batch, on_batch
        self._jobs, self._changed, self._is_closed = deque(), threading.Condition(), False
        self._thread = threading.Thread(target=self._work, name="scoring", daemon=True)
        self.seconds_per_video = 0.0

    def __enter__(self) -> "Batcher":
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        """Ends after the call that is running; what waits is cancelled."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()
        for job in self._jobs:
            job.future.cancel()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, file: BinaryIO, problems: bool) -> Future:
        """
        Args:
            file: a video or picture, open until the future is done; its `name` is what the row calls it.

        Returns:
            The row to come. A future that is cancelled before its turn is never read.
        """
        job = _Job(file, problems)
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def _work(self) -> None:
        while batch := self._next_batch():
            self._on_batch(len(batch))
            started = time.perf_counter()
            outcomes = self._score([job.file for job in batch], batch[0].problems)
            now = time.perf_counter()
            share = NEWEST_SHARE if self.seconds_per_video else 1.0
            self.seconds_per_video += share * ((now - started) / len(batch) - self.seconds_per_video)
            for job, (result, error) in zip(batch, outcomes, strict=True):
                job.future.set_result(result_row(job.file.name, result, error, round(now - job.submitted, 3)))

    def _next_batch(self) -> list[_Job]:
        """Waits for videos; none where the batcher is closed."""
        batch = []
        with self._changed:
            while not batch:
                self._changed.wait_for(lambda: self._jobs or self._is_closed)
                if self._is_closed:
                    return []
                while self._jobs and len(batch) < self._max_batch:
                    if batch and self._jobs[0].problems != batch[0].problems:
                        break
                    job = self._jobs.popleft()
                    if job.future.set_running_or_notify_cancel():
                        batch.append(job)
        return batch

    def _score(self, files: list[BinaryIO], problems: bool) -> list[tuple[dict, str | None]]:
        """A result and no error for each file, or no result and its error."""
        try:
            rows = self._scorer(files, batch_size=len(files), problems=problems, on_error="row")
        except Exception as failure:
            if len(files) == 1:
                return [({}, failure_line(failure))]
            # The pipeline makes rows of the errors it knows; any other, as of memory, is one file's and not the others'
            return [outcome for file in files for outcome in self._score([file], problems)]
        return [_outcome(row) for row in rows]


def _outcome(row: dict) -> tuple[dict, str | None]:
    if "error" in row:
        return {}, row["error"]
    try:
        return finite(row), None
    except ValueError as failure:
        return {}, failure_line(failure)
