"""Videos a second that train.py learns from: from pixels, while it fills a cache of features, and from the cache.

`python benchmarks/training_videos.py CLIP ... --out benchmarks/results/training_videos.json` trains the embedded default's
projectors on the clips with made-up labels, a score question each: one epoch from pixels, then `--epochs` from a cache, which
is filled first. Time is that of the training loop or of filling: not that of imports, loading and saving. CPU seconds are of all threads, which
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


def time_calls(owner: type, name: str, spent: dict[str, tuple[float, float]]) -> None:
    """From here on, `spent` has wall and CPU seconds of the newest call of a method."""
    function = getattr(owner, name)

    def timed(*arguments, **options):
        started, cpu_started = time.perf_counter(), time.process_time()
        result = function(*arguments, **options)
        spent[name] = time.perf_counter() - started, time.process_time() - cpu_started
        return result

    setattr(owner, name, timed)


def videos_a_second(videos: int, seconds: float, cpu: float) -> dict:
    rates = {"videos_per_second": round(videos / seconds, 2), "cpu_s_per_video": round(cpu / videos, 4)}
    return {"videos": videos} | rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", metavar="CLIP")
    parser.add_argument("--epochs", type=int, default=10, help="from the cache")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--out", help="JSON file for the figures")
    arguments = parser.parse_args()
    figures, spent = {}, {}
    time_calls(train.FeatureCache, "build", spent)
    time_calls(train.LmmVqaTrainer, "train", spent)
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
        runs = {"pixels": (1, []), "cache": (arguments.epochs, cached)}
        for name, (epochs, options) in runs.items():
            own = ["--output_dir", f"{folder}/{name}", "--num_train_epochs", str(epochs), *options]
            train.main([*shared, *own])
            figures[name] = videos_a_second(epochs * len(rows), *spent["train"])
        figures["filling the cache"] = videos_a_second(len(rows), *spent["build"])
        print(json.dumps(figures, indent=1), flush=True)
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
