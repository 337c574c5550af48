"""The whole protocol of the paper by its documented commands, on stand-ins for the five data sets.

`python benchmarks/stand_in_protocol.py --shared ../shared --work DIR --out benchmarks/results/stand_in_protocol.md`
builds the stand-ins (see `stand_in_sets.py`: NO FIGURE IS ONE OF THE REAL DATA SETS), prepares them, trains on the
stand-in for LSVQ, evaluates in-sample and out-of-distribution, levels by written answers, fine-tunes on five folds of
each of the others, and tries what must be refused. Every command and its exit status go into the report.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import stand_in_sets
from stand_in_sets import SETS


TRAIN_PY = Path(__file__).resolve().parents[1] / "train.py"
BUDGET = "--num_train_epochs 2 --per_device_train_batch_size 8 --learning_rate 1e-4 --use_cpu"
OTHERS = " ".join(f"data/{name}" for name in SETS[1:])
LABELS = {
    "lsvq": "labels_train_test.csv stand_ins/lsvq/labels_test_1080p.csv --split_name unverified",
    "konvid_1k": "KoNViD_1k_mos.csv --videos stand_ins/konvid_1k/KoNViD_1k_videos",
    "youtube_ugc": "original_videos_MOS_for_YouTube_UGC_dataset.xlsx",
    "live_vqc": "data.mat",
    "live_yt_gaming": "LIVEYTGaming.mat",
}
# Commands with the exit status that they must have: the stand-in for KoNViD-1k holds a video that does not decode
COMMANDS = [
    *((f"lmmvqa prepare {name} --labels stand_ins/{name}/{LABELS[name]} --out data/{name}", 0) for name in SETS),
    (
        f"python train.py --model MODEL --data data/lsvq --output_dir run --export_dir trained --feature_cache cache {BUDGET}",
        0,
    ),
    (f"lmmvqa evaluate --model trained --data data/lsvq {OTHERS} --feature_cache cache --out evaluated", 1),
    ("lmmvqa evaluate --model trained --data data/lsvq --tasks level --readout generate --out levels", 0),
    (
        f"lmmvqa evaluate --model trained --data {OTHERS} --protocol fine_tuning --feature_cache cache --out fine_tuned "
        f"--train_options {BUDGET}",
        1,
    ),
    ("lmmvqa evaluate --model trained --data data/lsvq --protocol out_of_distribution --out refused", 2),
    (f"lmmvqa evaluate --model trained --data data/lsvq {OTHERS} --readout generate --out evaluated", 2),
]


def run(command: str, model: str, work: Path) -> tuple[int, str, str]:
    """Exit status, stdout and stderr, without this machine's folders."""
    words = command.replace("MODEL", model).split()
    programs = {"python": [sys.executable], "lmmvqa": [sys.executable, "-m", "lmmvqa.commands"]}
    words = [*programs[words[0]], *(str(TRAIN_PY) if word == "train.py" else word for word in words[1:])]
    done = subprocess.run(words, cwd=work, capture_output=True, text=True)
    return done.returncode, *(text.replace(f"{work}/", "") for text in (done.stdout, done.stderr))


def report_of(command: str, status: int, stdout: str, stderr: str) -> str:
    """The command, what it said, and its tables below the report's own headings."""
    messages = [line for line in stderr.splitlines() if line.strip() and not re.search(r"it/s\]|examples/s\]", line)]
    parts = [f"```text\n$ {command}\n" + "".join(f"{line}\n" for line in messages) + f"exit status {status}\n```\n"]
    if command.startswith("lmmvqa prepare"):
        parts = [parts[0].replace("exit status", f"{stdout}exit status")]
    elif stdout.startswith("#"):
        tables = stdout.replace("(measured here)", "(measured on STAND-INS, not on these data sets)")
        parts.append(re.sub(r"^#(.*)", r"###\1 (stand-ins)", tables, flags=re.MULTILINE))
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder with clips/, images/ and edge/")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--model", default="default_checkpoint", help="checkpoint to start from")
    parser.add_argument("--photographs", type=int, default=10, help="pans a set")
    parser.add_argument("--segments", type=int, default=4, help="segments a set, each in four versions")
    parser.add_argument("--out", type=Path, help="the report")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    stand_in_sets.build(arguments.shared.resolve(), work, arguments.photographs, arguments.segments)
    model = os.path.abspath(arguments.model) if os.path.isdir(arguments.model) else arguments.model
    sections = [
        "# The protocol on stand-in data sets\n",
        "NO FIGURE HERE IS ONE OF LSVQ, KoNViD-1k, YouTube-UGC, LIVE-VQC OR LIVE-YT-Gaming. The folders and label files "
        "have the official layouts of these data sets; the videos in them are pans over photographs, and segments of "
        f"clips whose MOS is made up, {arguments.photographs + 4 * arguments.segments} a set. The published rows stand in "
        "the tables because the tables print them, not because anything here compares with them; the embedded default, from which training starts, has seen most of "
        "these clips and photographs before. "
        "Made by `python benchmarks/stand_in_protocol.py --shared ../shared --work DIR --out "
        "benchmarks/results/stand_in_protocol.md`.\n",
    ]
    for command, expected in COMMANDS:
        status, stdout, stderr = run(command, model, work)
        print(f"{command}: {status}", flush=True)
        sections.append(report_of(command.replace("MODEL", arguments.model), status, stdout, stderr))
        if status != expected:
            sys.exit(f"{stderr}\n{command}: got exit status {status}, expected {expected}")
    if arguments.out:
        arguments.out.write_text("\n".join(sections), encoding="utf-8")


if __name__ == "__main__":
    main()
