"""How the throughput of `lmmvqa score` grows with `--workers`, for a model that takes a fixed time.

`python benchmarks/workers.py --out benchmarks/results/workers.json` scores `--videos` short clips with 0, 1, 2, 4, 8 and 16
workers. The model is simulated: it sleeps `--model_ms` a video. So is a slow store: each video is there `--store_ms` after
it was asked for, which costs no core, and then is decoded really; so throughput can grow beyond the cores of this machine.
`share_of_model` is the share of the time in which the model is at work.

`python benchmarks/workers.py --clips CLIP ... --workers 0 1 2 4 --out benchmarks/results/workers_real.json` scores real clips
with the embedded default in place of that. `cores_busy` is CPU seconds a second, which other processes on the machine
lessen; `share_of_cores_wanted` is what they do not touch: how many of our threads were running or ready to run, at most
one a core, as a share of the cores, looked at every 10 ms. On a machine of its own it is the share of cores that is busy.
`OMP_WAIT_POLICY=passive` keeps threads that wait for each other from counting.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import torch

from lmmvqa.modeling_lmmvqa import LmmVqaVideoProcessor
from lmmvqa.processing.video_decoding_lmmvqa import EncodedVideo
from lmmvqa.scoring import scorer as scorer_module


def write_clip(path: Path, num_frames: int = 10) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 160, 90, "yuv420p"
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.full((90, 160, 3), 20 * index, np.uint8), "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class SimulatedModel:
    """A pipeline that takes a fixed time for each video and counts it."""

    def __init__(self, seconds: float):
        video_processor = LmmVqaVideoProcessor(key_frame_size=32, chunk_size=32)
        video_processor.encode_portion = lambda decoded, model: EncodedVideo(
            torch.zeros(len(decoded.seconds), 1, 1), seconds=decoded.seconds, facts=decoded.facts
        )
        self.processor, self.model = SimpleNamespace(video_processor=video_processor), None
        self.seconds, self.at_work = seconds, 0.0

    def __call__(self, video, readout: str, problems: bool = False) -> dict:
        if not isinstance(video, EncodedVideo):
            self.processor.video_processor.decode(video)
        started = time.perf_counter()
        time.sleep(self.seconds)
        self.at_work += time.perf_counter() - started
        return {"score": 50.0, "score_std": 1.0}


def measure(path: str, workers: int, num_videos: int, model_seconds: float, store_seconds: float) -> dict:
    @contextmanager
    def slow_store(video: str, max_download: float | None):
        time.sleep(store_seconds)
        yield video

    scorer_module._opened = slow_store
    model = SimulatedModel(model_seconds)
    started, cpu_started = time.perf_counter(), time.process_time()
    rows = list(scorer_module.score_videos(model, [path] * num_videos, workers=workers))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    if errors := [row["error"] for row in rows if row["error"] is not None]:
        raise RuntimeError(errors[0])
    return {
        "videos_per_second": round(num_videos / seconds, 2),
        "share_of_model": round(model.at_work / seconds, 3),
        "cpu_ms_per_video": round(1000 * cpu / num_videos, 2),
    }


class WantedCores(threading.Thread):
    """Looks at this process's threads until it is stopped: the share of the machine's cores that they could use."""

    def __init__(self):
        super().__init__(daemon=True)
        self.shares, self._is_stopped = [], threading.Event()

    def run(self) -> None:
        own, cores = str(threading.get_native_id()), os.cpu_count()
        while not self._is_stopped.wait(0.01):
            wanted = sum(_is_runnable(task) for task in os.listdir("/proc/self/task") if task != own)
            self.shares.append(min(wanted, cores) / cores)

    def stop(self) -> float:
        self._is_stopped.set()
        self.join()
        return sum(self.shares) / len(self.shares)


def _is_runnable(task: str) -> bool:
    try:
        state = Path(f"/proc/self/task/{task}/stat").read_text().rpartition(")")[2]
    except OSError:  # it ended meanwhile
        return False
    return state.split()[0] == "R"


def measure_real(scorer, clips: list[str], workers: int) -> dict:
    wanted = WantedCores()
    wanted.start()
    started, cpu_started = time.perf_counter(), time.process_time()
    rows = list(scorer_module.score_videos(scorer, clips, workers=workers))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    if errors := [row["error"] for row in rows if row["error"] is not None]:
        raise RuntimeError(errors[0])
    return {
        "videos_per_second": round(len(clips) / seconds, 3),
        "cpu_s_per_video": round(cpu / len(clips), 3),
        "cores_busy": round(cpu / seconds, 2),
        "share_of_cores_wanted": round(wanted.stop(), 3),
        "scores": [round(row["score"], 4) for row in rows],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4, 8, 16])
    parser.add_argument("--videos", type=int, default=64)
    parser.add_argument("--model_ms", type=float, default=50)
    parser.add_argument("--store_ms", type=float, default=1000)
    parser.add_argument("--clips", nargs="+", metavar="CLIP", help="score these with the embedded default")
    parser.add_argument("--out", help="JSON file for the figures")
    arguments = parser.parse_args()
    figures, settings = {}, {"videos": arguments.videos}
    with tempfile.TemporaryDirectory() as folder:
        if arguments.clips:
            scorer = scorer_module.load_scorer(device="cpu")
            list(scorer_module.score_videos(scorer, arguments.clips[:1]))  # to warm up
            settings = {"clips": [Path(clip).name for clip in arguments.clips], "threads": torch.get_num_threads()}
        else:
            path = Path(folder) / "clip.mp4"
            write_clip(path)
            times = arguments.model_ms / 1000, arguments.store_ms / 1000
            settings |= {name: getattr(arguments, name) for name in ("model_ms", "store_ms")}
        for workers in arguments.workers:
            if arguments.clips:
                figures[workers] = measure_real(scorer, arguments.clips, workers)
            else:
                figures[workers] = measure(str(path), workers, arguments.videos, *times)
            print(workers, json.dumps(figures[workers]), flush=True)
    if arguments.out:
        report = {
            "versions": {"torch": torch.__version__, "av": av.__version__},
            "cores": os.cpu_count(),
            "load average": os.getloadavg()[0],
            **settings,
            "workers": figures,
        }
        Path(arguments.out).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
