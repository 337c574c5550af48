"""`score_videos` on a Ray cluster: Ray Data hands names to a pool of model actors, and tasks on any node decode for them.

An actor takes the portions of a video as `score_videos` does with `workers`, from a task in place of a thread: a video is
never in memory as a whole, one portion waits for the model, and all portions of a video meet in one actor.
"""

import json
import logging
import os
from collections.abc import Iterable, Iterator
from functools import partial

import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayError, RayTaskError

from ..processing.reading_limits_lmmvqa import ReadingLimits, ReadingShare
from ..processing.video_decoding_lmmvqa import DecodedVideo
from ..processing.video_source_lmmvqa import VideoDecodingError
from .read_ahead import Reading, read_ahead
from .scorer import load_scorer, read_portions, score_videos


# Of more videos than this an actor's task has more than one
MAX_TASKS = 10_000
# Decodings of a video that end with their process: beyond these it is the video, not the machine
MAX_DEATHS = 3


# A decoding that died is begun anew by the actor, which has to know: where damage is met depends on timing, so that Ray's own
# retry, which leaves out what was taken already, could leave out the wrong portions
@ray.remote(max_retries=0, num_returns="streaming", _generator_backpressure_num_objects=1)
def decode(video_processor, video: str, max_download: float | None, problems: bool) -> Iterator[DecodedVideo]:
    """Yields the portions of a video, in one thread."""

    def read(reading: Reading) -> None:
        share = ReadingShare(1, reading.clock)
        read_portions(video_processor, video, reading.hand_on, max_download, problems, share)

    for reading in read_ahead(read, [video], workers=1):
        yield from reading.portions()


class ModelActor:
    """
    A process with the model, which scores the videos of rows.

    Args:
        model, device, dtype, quantization: see `load_scorer`.
        limits: see `ReadingLimits`.
        readout, max_download, problems: see `score_videos`.
    """

    def __init__(
        self,
        model: str,
        device: str | None,
        dtype: str,
        quantization: str | None,
        limits: ReadingLimits,
        readout: str,
        max_download: float | None,
        problems: bool,
    ):
        self._scorer = load_scorer(model, device, dtype, quantization)
        self._video_processor = self._scorer.processor.video_processor
        self._video_processor.limits = limits
        self._of_reading = max_download, problems
        self._score = partial(score_videos, readout=readout, max_download=max_download, problems=problems)

    def __call__(self, row: dict) -> dict:
        video = os.fsdecode(row["video"])
        (scored,) = self._score(self._scorer, [video], workers=1, reader=self._read)
        return {"row": json.dumps(scored)}

    def _read(self, reading: Reading) -> None:
        for _ in range(MAX_DEATHS):
            portions = decode.remote(self._video_processor, reading.video, *self._of_reading)
            try:
                for portion in portions:
                    reading.hand_on(ray.get(portion))
                return
            except RayTaskError as error:  # what decoding raised
                raise error.cause from None
            except RayError as error:  # of a process, a node or its memory
                death = error
            finally:
                ray.cancel(portions)
        raise VideoDecodingError(
            f"Could not read {reading.video}: its decoding ended {MAX_DEATHS} times with its process "
            f"({type(death).__name__}); look at the file, or give tasks more memory"
        )


def score_on_ray(
    videos: Iterable[str], workers: int, actors: int, model: str, device: str | None = None, **settings
) -> Iterator[dict]:
    """
    Yields the rows of `score_videos`, in the order in which videos are done. What an actor or a node that died was working
    on is done again by others. `seconds` has the wait for a free core in it.

    The cluster is that of `RAY_ADDRESS`, else one of this machine. All of its nodes must find the videos and the model
    under the names given here.

    Args:
        workers: videos that are decoded for each actor at a time, by as many tasks of one core.
        actors: with the model; 0 for one a GPU, or one a node where there is none.
        model, device, settings: of `ModelActor`.

    Raises:
        ValueError: the cluster cannot be reached, or an actor cannot load the model.
    """
    try:
        ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
        yield from map(json.loads, _scored(videos, workers, actors, model=model, device=device, **settings))
    except (RayError, ConnectionError) as error:
        lines = str(error).strip().splitlines()
        raise ValueError(
            f"got an error of Ray, expected a cluster whose nodes can load {model}: {lines[-1]}"
        ) from error


def _scored(videos: Iterable[str], workers: int, actors: int, **settings) -> Iterator[str]:
    names = [{"video": os.fsencode(video)} for video in videos]
    if not names:
        return
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # a row is handed on once it is there
    num_gpus = int(ray.cluster_resources().get("GPU", 0)) if settings["device"] in (None, "cuda") else 0
    num_nodes = sum(bool(node["Alive"] and node["Resources"].get("CPU")) for node in ray.nodes())
    rows = ray.data.from_items(names, override_num_blocks=min(len(names), MAX_TASKS)).map(
        ModelActor,
        fn_constructor_kwargs=settings,
        compute=ActorPoolStrategy(
            size=actors or num_gpus or num_nodes,
            max_tasks_in_flight_per_actor=workers,
            max_concurrent_calls_per_actor=workers,
            enable_true_multi_threading=True,
        ),
        # Cores are for decoding alone: a cluster that lost nodes would wait for ever if its actors had taken the last ones
        num_cpus=0,
        num_gpus=1 if num_gpus else 0,
    )
    for batch in rows.iter_batches(batch_size=None, prefetch_batches=0):
        yield from batch["row"].tolist()
