"""Videos a second that train.py learns from: from pixels, while it fills a cache of features, and from the cache.

`python benchmarks/training_videos.py CLIP ... --out benchmarks/results/training_videos.json` trains the embedded default's
projectors on the clips with made-up labels, a score question each, in three runs of one epoch (the last of `--epochs`). Time
is that of the training loop: not that of imports and loading, nor of saving the model. CPU seconds are of all threads, which
other processes on the machine lengthen less.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import torch
import transformers

import lmmvqa.train as train
from lmmvqa.datasets_scripts.rows import save_rows
from lmmvqa.scoring.scorer import default_checkpoint


def timed(trainer: type, figures: dict) -> type:
    class TimedTrainer(trainer):
        def train(self, *arguments, **options):
            started, cpu_started = time.perf_counter(), time.process_time()
            result = super().train(*arguments, **options)
            figures["seconds"], figures["cpu"] = time.perf_counter() - started, time.process_time() - cpu_started
            return result

    return TimedTrainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", metavar="CLIP")
    parser.add_argument("--epochs", type=int, default=10, help="from the cache")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--out", help="JSON file for the figures")
    arguments = parser.parse_args()
    figures, trainer = {}, train.LmmVqaTrainer
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            {"video": os.path.abspath(clip), "mos": 100.0 * index / len(arguments.clips), "dataset": "speed"}
            | {"split": "train", "group": str(index)}
            for index, clip in enumerate(arguments.clips)
        ]
        save_rows(rows, [], "speed", Path(folder) / "rows")
        shared = ["--model", default_checkpoint(), "--data", f"{folder}/rows", "--tasks", "score", "--use_cpu"]
        shared += ["--per_device_train_batch_size", str(arguments.batch_size), "--gradient_accumulation_steps", "1"]
        shared += ["--save_strategy", "no", "--report_to", "none", "--disable_tqdm", "True"]
        cached = ["--feature_cache", f"{folder}/cache"]
        runs = {"pixels": (1, []), "filling the cache": (1, cached), "cache": (arguments.epochs, cached)}
        for name, (epochs, options) in runs.items():
            of_run = {}
            train.LmmVqaTrainer = timed(trainer, of_run)
            own = ["--output_dir", f"{folder}/{name}", "--num_train_epochs", str(epochs), *options]
            train.main([*shared, *own])
            videos = epochs * len(rows)
            figures[name] = {
                "videos": videos,
                "videos_per_second": round(videos / of_run["seconds"], 2),
                "cpu_s_per_video": round(of_run["cpu"] / videos, 4),
            }
            print(name, json.dumps(figures[name]), flush=True)
    if arguments.out:
        report = {
            "model": "embedded default, its projectors are trained",
            "clips": [Path(clip).name for clip in arguments.clips],
            "batch_size": arguments.batch_size,
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
            "load average": os.getloadavg()[0],
            "figures": figures,
        }
        Path(arguments.out).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
