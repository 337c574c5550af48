"""kill -9 at random moments of training, evaluating, preparing and caching: the same command again ends as if unbroken.

`python benchmarks/kill_and_resume.py --what train evaluate prepare cache --kills 20 --seed 0 --out FILE`

A tiny random model and clips of moving gratings, made here. Each kind runs unbroken. Then it is begun in a new folder,
killed one to three times at moments drawn from the time that the unbroken run took, half of them put off until something
is being written, and run to its end; what is there must be that of the unbroken run, byte by byte but for times. Runs are
forked from a process that has imported everything, so that moments fall into the work.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image


ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from conftest import tiny_pair, write_clip  # noqa: E402

import train  # noqa: E402
from lmmvqa.checkpoints.export import save_checkpoint  # noqa: E402
from lmmvqa.datasets_scripts.prepare import prepare  # noqa: E402
from lmmvqa.datasets_scripts.rows import load_rows, save_rows  # noqa: E402
from lmmvqa.evaluation.options import EvaluationOptions  # noqa: E402
from lmmvqa.evaluation.protocols import evaluate  # noqa: E402
from lmmvqa.training.feature_cache import FeatureCache  # noqa: E402


FORK = multiprocessing.get_context("fork")
NUM_VIDEOS = 24
TIMES = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos")


@dataclass(frozen=True)
class Kind:
    """
    Attributes:
        work: what is killed and run again, given the folder with its inputs and a folder of its own.
        result: what it made, by name, given the same: digests or figures.
        writing: pattern of what is there while something is written, for half of the kills to wait for.
    """

    work: Callable[[Path, Path], None]
    result: Callable[[Path, Path], dict]
    writing: str


def make_inputs(inputs: Path) -> None:
    """A checkpoint, rated rows, photographs and a clip to degrade."""
    save_checkpoint(*tiny_pair(projector_dropout=0.2), inputs / "checkpoint", torch.float32)
    videos = inputs / "rows"
    videos.mkdir()
    rows = []
    for index in range(NUM_VIDEOS):
        write_clip(videos / f"{index}.mp4", num_frames=30, seed=index)
        split = ("train", "train", "validation", "test")[index % 4]
        row = {"video": f"{index}.mp4", "mos": 100.0 * index / NUM_VIDEOS, "dataset": "tiny", "split": split}
        rows.append(row | {"group": str(index)})
    save_rows(rows, [], "tiny", videos)
    lines = [f"{row['video']},{row['mos']},{row['split']}" for row in rows]
    (videos / "labels.csv").write_text("\n".join(["video,mos,split", *lines]) + "\n")

    (inputs / "photographs").mkdir()
    (inputs / "clips").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    for index, pixels in enumerate(noise):
        Image.fromarray(pixels).resize((512, 512)).save(inputs / "photographs" / f"{index}.png")
    (inputs / "photographs" / "mos.csv").write_text("file,mos\n0.png,80\n1.png,90\n")
    write_clip(inputs / "clips" / "a.mp4", num_frames=55, fps=25, size=(320, 240))


def digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def run_train(inputs: Path, own: Path) -> None:
    options = ["--max_steps", 12, "--save_steps", 1, "--save_total_limit", 2, "--logging_steps", 1, "--score_noise", 5]
    options += ["--per_device_train_batch_size", 4, "--readout_weight", 1, "--use_cpu", "--disable_tqdm", "True"]
    places = ["--output_dir", own / "run", "--export_dir", own / "export", "--feature_cache", own / "cache"]
    train.main([*map(str, ["--model", inputs / "checkpoint", "--data", inputs / "rows", *places, *options])])


def train_result(inputs: Path, own: Path) -> dict:
    history = json.loads((own / "run" / "checkpoint-12" / "trainer_state.json").read_text())["log_history"]
    metrics = json.loads((own / "run" / "train_results.json").read_text())
    return {
        "exported weights": digest(own / "export" / "model.safetensors"),
        "model card": digest(own / "export" / "README.md"),
        "training videos": digest(own / "export" / "training_videos.parquet"),
        "exported files": sorted(path.name for path in (own / "export").iterdir()),
        "files of the run": sorted(path.name for path in (own / "run").iterdir()),
        "loss, gradient and rate of each step": [
            [row[name] for name in ("step", "loss", "grad_norm", "learning_rate")] for row in history
        ],
        "validation": {name: value for name, value in metrics.items() if name not in TIMES},
    }


def run_evaluate(inputs: Path, own: Path) -> None:
    evaluate(
        EvaluationOptions(
            data=[str(inputs / "rows")],
            out=str(own),
            model=str(inputs / "checkpoint"),
            protocol="in_sample",
            batch_size=2,
            device="cpu",
        )
    )


def evaluate_result(inputs: Path, own: Path) -> dict:
    return {name: digest(own / name) for name in ("predictions.jsonl", "metrics.json", "table.md", "settings.json")}


def run_prepare(inputs: Path, own: Path) -> None:
    own.mkdir(exist_ok=True)
    prepare("csv", inputs / "rows" / "labels.csv", own / "csv")
    photographs = inputs / "photographs" / "mos.csv"
    counts = {"photographs": 2, "variants": 3}
    prepare("degraded_clips", photographs, own / "degraded", inputs / "clips", **counts)


def prepare_result(inputs: Path, own: Path) -> dict:
    rows = [
        [split, row | {"video": os.path.relpath(row["video"], own)}]
        for folder in (own / "csv", own / "degraded" / "dataset")
        for split, of_split in load_rows(folder).items()
        for row in of_split
    ]
    reports = [own / "csv" / "report.json", own / "degraded" / "dataset" / "report.json"]
    clips = sorted((own / "degraded" / "clips").glob("*.mkv"))
    return {
        "rows": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
        "number of rows": len(rows),
        "reports": digest(*reports),
        "clips": [clip.name for clip in clips],
        "content of the clips": digest(*clips),
    }


def open_cache(inputs: Path, own: Path) -> tuple[FeatureCache, list[str]]:
    model, processor = tiny_pair(projector_dropout=0.2)
    videos = [str(inputs / "rows" / f"{index}.mp4") for index in range(NUM_VIDEOS)]
    return FeatureCache(own, model.eval().requires_grad_(False), processor), videos


def run_cache(inputs: Path, own: Path) -> None:
    cache, videos = open_cache(inputs, own)
    cache.build(videos)


def cache_result(inputs: Path, own: Path) -> dict:
    cache, videos = open_cache(inputs, own)
    cache._compute = None  # what is not stored is not made here
    features = hashlib.sha256()
    for video in videos:
        encoded = cache[video]
        for array in (encoded.seconds, encoded.vision_features.numpy(), encoded.temporal_features.numpy()):
            features.update(array.tobytes())
    return {"features": features.hexdigest(), "videos": len(videos)}


KINDS = {
    "train": Kind(run_train, train_result, "run/partial/checkpoint-*"),
    "evaluate": Kind(run_evaluate, evaluate_result, "predictions.jsonl"),
    "prepare": Kind(run_prepare, prepare_result, "degraded/clips/*.part"),
    "cache": Kind(run_cache, cache_result, "*/shard-*"),
}


def start(function: Callable, *arguments, log: Path) -> multiprocessing.Process:
    def run() -> None:
        with open(log, "ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        function(*arguments)

    process = FORK.Process(target=run)
    process.start()
    return process


def finish(process: multiprocessing.Process, log: Path) -> None:
    """
    Raises:
        RuntimeError: the process ended with an error.
    """
    process.join()
    if process.exitcode:
        raise RuntimeError(f"exit status {process.exitcode}, the last of {log}:\n{log.read_text()[-3000:]}")


def result_of(kind: Kind, inputs: Path, own: Path, log: Path) -> dict:
    """In a process of its own: this one has to stay fit for forking."""
    file = log.with_suffix(".result")
    finish(start(lambda: file.write_text(json.dumps(kind.result(inputs, own))), log=log), log)
    return json.loads(file.read_text())


def measure(kind: Kind, inputs: Path, work: Path, num_kills: int, rng: random.Random) -> dict:
    log = work / "log"
    for name in ("first", "whole"):  # the first one warms the caches of the machine
        begun = time.perf_counter()
        finish(start(kind.work, inputs, work / name, log=log), log)
        seconds = time.perf_counter() - begun
    expected = result_of(kind, inputs, work / "whole", log)
    trials, kills = [], 0
    while kills < num_kills:
        own = work / "killed"
        trial = {"killed_after_seconds": [], "while_writing": [], "differs": []}
        for _ in range(min(rng.randint(1, 3), num_kills - kills)):
            begun = time.perf_counter()
            process = start(kind.work, inputs, own, log=log)
            moment, waits = rng.uniform(0, seconds), rng.random() < 0.5
            process.join(moment)
            while waits and process.is_alive() and not any(own.glob(kind.writing)):
                time.sleep(0.001)
            process.join(rng.uniform(0, 0.02))
            if process.exitcode is not None:  # it was faster than the unbroken one, or went on near its end
                finish(process, log)
                break
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            trial["killed_after_seconds"].append(round(time.perf_counter() - begun, 2))
            trial["while_writing"].append(waits)
        kills += len(trial["killed_after_seconds"])
        if not trial["killed_after_seconds"]:
            shutil.rmtree(own)
            continue
        try:
            finish(start(kind.work, inputs, own, log=log), log)
            result = result_of(kind, inputs, own, log)
            trial["differs"] = [name for name in expected if result[name] != expected[name]]
        except RuntimeError as error:
            trial["differs"] = [str(error)]
        trials.append(trial)
        print(json.dumps(trial), file=sys.stderr, flush=True)
        shutil.rmtree(own)
    return {
        "unbroken_seconds": round(seconds, 2),
        "kills": kills,
        "trials": trials,
        "identical": sum(not trial["differs"] for trial in trials),
        "half_checkpoints_removed": log.read_text(errors="replace").count("which is not whole"),
        "compared": expected,
    }


def main(argv: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--kills", type=int, default=20, help="of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", help="where everything lies for the time of the run (default: temporary)")
    parser.add_argument("--out", help="JSON file for the result")
    arguments = parser.parse_args(argv)
    report = {
        "command": " ".join(["python", "benchmarks/kill_and_resume.py", *(sys.argv[1:] if argv is None else argv)]),
        "versions": {name: version(name) for name in ("lmmvqa", "torch", "transformers", "datasets", "av")},
        "seed": arguments.seed,
        "results": {},
    }
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        inputs = Path(folder) / "inputs"
        inputs.mkdir()
        finish(start(make_inputs, inputs, log=Path(folder) / "log"), Path(folder) / "log")
        for name in arguments.what:
            work = Path(folder) / name
            work.mkdir()
            rng = random.Random(f"{arguments.seed}:{name}")
            report["results"][name] = measure(KINDS[name], inputs, work, arguments.kills, rng)
            print(name, json.dumps({**report["results"][name], "compared": "..."}), flush=True)
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


if __name__ == "__main__":
    found = main()
    sys.exit(any(result["identical"] < len(result["trials"]) for result in found["results"].values()))
