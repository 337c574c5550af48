"""kill -9 in a loop: `lmmvqa score --out` of 300 files, killed 20 times at random moments, ends as an unbroken run does.

`python benchmarks/kill_loop.py --suffixes csv jsonl parquet --kills 20 --seed 0 --out FILE`

A tiny random model, clips of moving gratings and a few files that are no videos, made here. For each format the same
command runs unbroken, and is then begun anew, killed and begun again until it comes to its end. Its table must be that of
the unbroken run in all but `seconds`, and its journal must hold one row of each clip. Runs are forked from a
process that has imported everything, so that moments fall into the work.
"""

import argparse
import csv
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path

import torch
from kill_and_resume import finish, start
from pyarrow import parquet
from tqdm import tqdm


ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from conftest import tiny_pair, write_clip  # noqa: E402

from lmmvqa.checkpoints.export import save_checkpoint  # noqa: E402
from lmmvqa.commands.command_line import main as lmmvqa  # noqa: E402


NO_VIDEOS = 5


def make_inputs(folder: Path, num_files: int) -> None:
    save_checkpoint(*tiny_pair(), folder / "checkpoint", torch.float32)
    (folder / "videos").mkdir()
    for index in range(num_files - NO_VIDEOS):
        write_clip(folder / "videos" / f"{index:03}.mp4", num_frames=5 + index % 20, seed=index)
    for index in range(NO_VIDEOS):
        (folder / "videos" / f"{60 * index:03}_text.mp4").write_text("no video")


def score(folder: Path, out: Path) -> None:
    """
    Raises:
        RuntimeError: the exit status is not 1, as it is where there are files that are no videos.
    """
    tqdm.set_lock(threading.RLock())  # tqdm's own is shared with forks, and a killed one would keep it
    options = ["--model", folder / "checkpoint", "--device", "cpu", "--out", out]
    status = lmmvqa(["score", str(folder / "videos"), *map(str, options)])
    if status != 1:
        raise RuntimeError(f"exit status {status}")


def read_table(path: Path) -> list[dict]:
    if path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    elif path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    else:
        rows = parquet.read_table(path).to_pylist()
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def scored_in(journal: Path) -> list[str]:
    """The videos of the journal's rows that have a score, one for each time that it was scored."""
    whole = journal.read_text(encoding="utf-8").rpartition("\n")[0] if journal.exists() else ""
    rows = [row for line in whole.splitlines() if (row := json.loads(line).get("row"))]
    return [row["video"] for row in rows if row["error"] is None]


def num_lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def measure(folder: Path, suffix: str, num_kills: int, rng: random.Random) -> dict:
    log, whole, killed = (folder / name for name in ("log", f"whole.{suffix}", f"killed.{suffix}"))
    begun = time.perf_counter()
    finish(start(score, folder, whole, log=log), log)
    seconds = time.perf_counter() - begun
    expected = read_table(whole)
    journal = Path(f"{killed}.journal")
    kills, differing, scored_twice = [], 0, 0
    while len(kills) < num_kills:
        process = start(score, folder, killed, log=log)
        moment = num_lines(journal) + rng.uniform(0, 2 * len(expected) / num_kills)
        while process.is_alive() and num_lines(journal) < moment:
            process.join(0.005)
        process.join(rng.uniform(0, 0.02))
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            data = journal.read_bytes() if journal.exists() else b""
            kills.append({"scored": len(scored_in(journal)), "cut": data[-1:] not in (b"", b"\n")})
            if len(kills) < num_kills:
                continue
            process = start(score, folder, killed, log=log)
        finish(process, log)  # to its end, and anew while there are kills left
        differing += read_table(killed) != expected
        scored = scored_in(journal)
        scored_twice += len(scored) - len(set(scored))
        killed.unlink()
        journal.unlink()
    return {
        "unbroken_seconds": round(seconds, 2),
        "kills": kills,
        "rows": len(expected),
        "rows_with_an_error": sum(row["error"] not in (None, "") for row in expected),
        "scored_twice": scored_twice,
        "identical": not differing,
    }


def main(argv: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--suffixes", nargs="+", choices=("csv", "jsonl", "parquet"), default=["csv", "jsonl", "parquet"]
    )
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--kills", type=int, default=20, help="of each format")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", help="JSON file for the result")
    arguments = parser.parse_args(argv)
    report = {
        "command": " ".join(["python", "benchmarks/kill_loop.py", *(sys.argv[1:] if argv is None else argv)]),
        "versions": {name: version(name) for name in ("lmmvqa", "torch", "transformers", "av", "pyarrow")},
        "files": arguments.files,
        "seed": arguments.seed,
        "results": {},
    }
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        finish(start(make_inputs, folder, arguments.files, log=folder / "log"), folder / "log")
        for suffix in arguments.suffixes:
            rng = random.Random(f"{arguments.seed}:{suffix}")
            report["results"][suffix] = measure(folder, suffix, arguments.kills, rng)
            print(suffix, json.dumps({**report["results"][suffix], "kills": arguments.kills}), flush=True)
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


if __name__ == "__main__":
    found = main()
    sys.exit(any(not result["identical"] or result["scored_twice"] for result in found["results"].values()))
