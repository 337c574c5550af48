"""Whether two commits give the same figures to the last digit: scores, losses of training, the table of an evaluation.

    OMP_NUM_THREADS=1 python benchmarks/same_figures.py --shared ../shared --work runs/before --out before.json
    OMP_NUM_THREADS=1 python benchmarks/same_figures.py --shared ../shared --work runs/after --expected before.json

Once in each checkout, on one machine. Scores are the embedded model's for all of shared/clips and 100 photographs;
the losses are of 20 steps that train it further on some of them, and what it is then is evaluated on others. Exit
status 1: figures differ, and the first of each kind that does is printed.
"""

import argparse
import csv
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path

import torch

from lmmvqa.datasets_scripts.rows import save_rows
from lmmvqa.scoring.scorer import default_checkpoint, load_scorer


NUM_PHOTOGRAPHS = 100
STEPS = 20
CLIPS_TO_TRAIN = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shared", type=Path, required=True, help="the folder of clips/ and images/")
    parser.add_argument("--work", type=Path, required=True, help="folder for rows, runs and tables, made anew")
    parser.add_argument("--out", type=Path, help="file for the figures")
    parser.add_argument("--expected", type=Path, help="figures of another commit")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order

    clips = sorted((arguments.shared / "clips").iterdir())
    with (arguments.shared / "images" / "mos.csv").open(encoding="utf-8", newline="") as file:
        rated = sorted((row["file"], 100 * float(row["mos"])) for row in csv.DictReader(file))
    rated = rated[:: len(rated) // NUM_PHOTOGRAPHS][:NUM_PHOTOGRAPHS]
    mos = {arguments.shared / "images" / name: score for name, score in rated}
    shutil.rmtree(arguments.work, ignore_errors=True)
    scores = score_all([*clips, *mos])
    smallest = sorted(clips, key=lambda clip: clip.stat().st_size)[:CLIPS_TO_TRAIN]
    # Nobody rated the clips: any number is as good to train on
    rows = save_splits({clip: 10.0 * index for index, clip in enumerate(smallest)} | mos, arguments.work / "rows")
    figures = {"scores": scores, "losses": losses(rows, arguments.work), **tables(rows, arguments.work)}

    packages = ("torch", "transformers", "av", "numpy")
    report = {"versions": {name: version(name) for name in packages}, "machine": platform.machine(), **figures}
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print({kind: len(of_kind) for kind, of_kind in figures.items()})
    if arguments.expected:
        expected = json.loads(arguments.expected.read_text(encoding="utf-8"))
        differ = [kind for kind in figures if figures[kind] != expected[kind]]
        for kind in differ:
            print(kind, *first_difference(figures[kind], expected[kind]), sep="\n")
        sys.exit(bool(differ))


def score_all(files: list[Path]) -> dict[str, float]:
    scorer = load_scorer(device="cpu")
    return {file.name: scorer(str(file))["score"] for file in files}


def save_splits(mos: dict[Path, float], folder: Path) -> Path:
    """Every third video to test on, of the others every fourth to validate with."""
    rows = []
    for index, (file, score) in enumerate(mos.items()):
        split = "test" if index % 3 == 2 else "validation" if index % 4 == 3 else "train"
        rows.append(
            {"video": str(file.resolve()), "mos": score, "dataset": "same", "split": split, "group": file.name}
        )
    save_rows(rows, [], "same", folder)
    return folder


def command(*words: object) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-m", "lmmvqa.commands", *map(str, words)], check=True, env=environment)


def losses(rows: Path, work: Path) -> list[float]:
    options = ["--tasks", "score", "level", "--readout_weight", 1, "--score_noise", 5, "--learning_rate", 1e-4]
    options += ["--train_parts", "spatial_projector", "temporal_projector", "language_model"]
    options += ["--feature_cache", work / "cache", "--per_device_train_batch_size", 8, "--max_steps", STEPS]
    options += ["--logging_steps", 1, "--save_strategy", "steps", "--save_steps", STEPS, "--use_cpu"]
    options += ["--output_dir", work / "run", "--export_dir", work / "trained"]
    command("train", "--model", default_checkpoint(), "--data", rows, *options)
    state = work / "run" / f"checkpoint-{STEPS}" / "trainer_state.json"
    log = json.loads(state.read_text(encoding="utf-8"))["log_history"]
    return [line["loss"] for line in log if "loss" in line]


def tables(rows: Path, work: Path) -> dict[str, list]:
    out = work / "evaluation"
    options = ["--protocol", "in_sample", "--allow_training_videos", "--device", "cpu", "--dtype", "float32"]
    command("evaluate", "--model", work / "trained", "--data", rows, "--out", out, *options)
    # Without the folder, which is another one in each run
    texts = {
        name: (out / name).read_text(encoding="utf-8").replace(str(work), "WORK")
        for name in ("table.md", "metrics.json", "predictions.jsonl")
    }
    return {
        "table": texts["table.md"].splitlines(),
        "metrics": json.loads(texts["metrics.json"]),
        "predictions": [json.loads(line) for line in texts["predictions.jsonl"].splitlines()],
    }


def first_difference(figures, expected) -> tuple:
    if isinstance(figures, dict):
        figures, expected = list(figures.items()), list(expected.items())
    pairs = zip_longest(figures, expected)
    return next((one, other) for one, other in pairs if one != other)


if __name__ == "__main__":
    main()
