"""What a name costs `lmmvqa score`, for a model that takes no time.

`python benchmarks/many_names.py --out benchmarks/results/many_names.json` gives 10,000, 100,000 and a million names on standard
input to `lmmvqa score - --json`, each in a process of its own, with a model that answers at once and a file that is not
read: microseconds and bytes of memory a name, for all that is not decoding and model. `--journal` adds `--out`: each row is then
on disk before the next, at the speed of the disk.
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace


def score(num_names: int, out: str | None) -> dict:
    """In a process of its own: its peak memory is that of so many names."""
    from lmmvqa.commands import score as command
    from lmmvqa.modeling_lmmvqa import LmmVqaVideoProcessor
    from lmmvqa.scoring.report import FACT_KEYS
    from lmmvqa.scoring.scorer import default_checkpoint

    facts = dict(zip(FACT_KEYS, [8.0, 8.0, 240, 0, 0, 1280, 720, 30.0, None, None], strict=True))
    levels = {"poor": 0.1, "fair": 0.2, "good": 0.7}
    result = {
        "score": 71.5,
        "score_std": 9.25,
        "level": "good",
        "level_probabilities": levels,
        "answer": "72",
        "damage": None,
    }
    processor = SimpleNamespace(
        video_processor=LmmVqaVideoProcessor(), score_question="", damage_question=None, max_window_seconds=None
    )

    class Model:
        def __call__(self, video, readout, problems):
            return result | facts | {"level_probabilities": dict(levels), "outside": []}

    model = Model()
    model.processor = processor
    command.load = lambda options, **settings: (model, default_checkpoint())
    names = "\n".join(f"videos/2026/11/{index:07d}.mp4" for index in range(num_names))
    sys.stdin = SimpleNamespace(buffer=io.BytesIO(names.encode()))
    options = command.Options(paths=["-"], json=True, out=out)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, cpu_started = time.perf_counter(), time.process_time()
    command.run(options)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    memory = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return {
        "us_per_name": round(1e6 * seconds / num_names, 1),
        "cpu_us_per_name": round(1e6 * cpu / num_names, 1),
        "bytes_per_name": round(memory / num_names),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--journal", action="store_true", help="with --out rows.jsonl")
    parser.add_argument("--out", help="JSON file for the figures")
    parser.add_argument("--score", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.score:
        (num_names,) = arguments.names
        figures = score(num_names, f"{arguments.score}/rows.jsonl" if arguments.journal else None)
        Path(arguments.score, "figures.json").write_text(json.dumps(figures), encoding="utf-8")
        return
    figures = {}
    for num_names in arguments.names:
        with tempfile.TemporaryDirectory() as folder:
            journal = ["--journal"] if arguments.journal else []
            command = [sys.executable, __file__, "--names", str(num_names), *journal, "--score", folder]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            figures[num_names] = json.loads(Path(folder, "figures.json").read_text(encoding="utf-8"))
        print(num_names, json.dumps(figures[num_names]), flush=True)
    if arguments.out:
        report = {
            "python": sys.version.partition(" ")[0],
            "cores": os.cpu_count(),
            "load average": os.getloadavg()[0],
            "journal": arguments.journal,
            "names": figures,
        }
        Path(arguments.out).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
