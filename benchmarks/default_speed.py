"""Time of scoring an 8-second 960 x 540 clip, or another one, with the embedded default, stage by stage.

`python benchmarks/default_speed.py --clip ../shared/clips/sam2__04_coffee.mp4 --out benchmarks/results/default_speed.json`
scales the first 8 seconds of a clip (`--seconds`, `--size`; a shorter clip is played again), scores it once to warm up, then times `--repeats` rounds in one process: medians of
the wall time, which other processes on the machine lengthen, and of the CPU time of all threads, which they hardly do
with OMP_WAIT_POLICY=passive (threads that wait for one another spin otherwise).
Loading the model and Python's imports are not counted.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import torch
import transformers

from lmmvqa.checkpoints.checkpoint_digest import weights_digest
from lmmvqa.modeling_lmmvqa import VideoQualityAssessmentPipeline
from lmmvqa.modeling_lmmvqa.pipeline_lmmvqa import choose_answers
from lmmvqa.processing.video_decoding_lmmvqa import EncodedVideo
from lmmvqa.scoring.scorer import default_checkpoint, load_scorer


FPS = 30
MODEL_STAGES = ("key-frame tower", "temporal tower", "projectors and prefill", "readout")


def decoded_frames(source: str) -> Iterator[av.VideoFrame]:
    """Of a clip, again and again."""
    while True:
        with av.open(source) as container:
            yield from container.decode(video=0)


def write_clip(source: str, path: Path, seconds: int, width: int, height: int) -> None:
    """The first seconds of a clip of about `FPS`, scaled, as H.264 of the usual quality."""
    with av.open(str(path), "w") as written:
        stream = written.add_stream("libx264", rate=FPS, options={"crf": "23", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        frames = decoded_frames(source)
        for index in range(seconds * FPS):
            frame = next(frames).reformat(width, height, "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            written.mux(stream.encode(frame))
        written.mux(stream.encode(None))


class Stopwatch:
    """Wall and CPU seconds of each stage, a list with one entry a round."""

    def __init__(self):
        self.wall, self.cpu = defaultdict(list), defaultdict(list)

    def time(self, stage: str, function: Callable, *arguments, **options):
        wall, cpu = time.perf_counter(), time.process_time()
        result = function(*arguments, **options)
        self.wall[stage].append(time.perf_counter() - wall)
        self.cpu[stage].append(time.process_time() - cpu)
        return result

    def medians(self) -> dict[str, dict[str, float]]:
        return {
            stage: {
                "wall": round(statistics.median(self.wall[stage]), 4),
                "least wall": round(min(self.wall[stage]), 4),
                "cpu": round(statistics.median(self.cpu[stage]), 4),
            }
            for stage in self.wall
        }


@torch.no_grad()
def time_stages(scorer: VideoQualityAssessmentPipeline, clip: str, stopwatch: Stopwatch) -> float:
    """What the pipeline does to a short video, step after step; returns the score."""
    processor, model = scorer.processor, scorer.model
    questions = processor.result_questions
    (decoded,) = stopwatch.time("decoding and scaling", processor.video_processor.decode, clip)
    pixels = stopwatch.time("normalisation", processor.video_processor, decoded)
    key_frames = stopwatch.time("key-frame tower", model.model.encode_key_frames, pixels["pixel_values"])
    clips = (pixels.get(name) for name in ("pixel_values_videos", "num_clips", "num_frames"))
    chunks = stopwatch.time("temporal tower", model.model.encode_chunks, *clips)

    videos = [EncodedVideo(key_frames, chunks, seconds=decoded.seconds)]
    answered = stopwatch.time("projectors and prefill", choose_answers, model, processor, videos, questions)
    ((windows, (scores, *damages), _),) = answered
    return stopwatch.time("readout", processor.post_process_window_scores, windows, scores, None, *damages).score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", required=True, help="about 30 frames a second")
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--size", type=int, nargs=2, default=[960, 540], metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--model", help="checkpoint folder or repository (default: embedded)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", help="JSON file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    scorer = load_scorer(arguments.model, "cpu")
    stopwatch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(arguments.clip, path, arguments.seconds, *arguments.size)
        expected = scorer(str(path))["score"]
        for _ in range(arguments.repeats):
            stopwatch.time("whole", scorer, str(path))
            score = time_stages(scorer, str(path), stopwatch)
            if abs(score - expected) > 1e-3:
                raise ValueError(f"got {score} from the stages, expected the pipeline's {expected}: they differ")
    seconds = stopwatch.medians()
    for measure in ("wall", "least wall", "cpu"):
        model_part = sum(seconds[stage][measure] for stage in MODEL_STAGES)
        seconds.setdefault("model part", {})[measure] = round(model_part, 4)
    report = {
        "model": arguments.model or "embedded default",
        "weights": weights_digest(arguments.model or default_checkpoint()),
        "clip": f"{Path(arguments.clip).name}, {arguments.seconds} s, {'x'.join(map(str, arguments.size))}, {FPS} frames a "
        "second, H.264",
        "score": round(expected, 3),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "av": av.__version__},
        "cores": os.cpu_count(),
        "threads": arguments.threads,
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
        "load average": os.getloadavg()[0],
        "repeats": arguments.repeats,
        "seconds": seconds,
    }
    print(json.dumps(report, indent=1))
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
