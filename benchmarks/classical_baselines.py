"""NIQE, BRISQUE, PIQE, two small networks and VMAF on test splits, as peers of the embedded model.

    pip install 'lmmvqa[classical,peers,data]' --constraint constraints.txt && pip install --no-deps nvs-sqa==0.1.1
    python benchmarks/classical_baselines.py --degraded_clips ROWS... --rated_images ROWS --num_videos N --work DIR \
        --ours DIR

`--ours` is the folder of `lmmvqa evaluate` on the same rows: the embedded model's figures on the same videos. After new
weights, `--methods` with nothing behind it makes ours anew and leaves the peers' stored figures.
Photographs and every kind of clip (real clips, pans, screens, renders and games) have figures of their own, in which
videos without a score are counted as failures. efficientnet-svr is fitted on the photographs' train split.
VMAF sees the reference, and the clips' labels are made from it: it is no peer but says how far labels and VMAF agree.
Every method's predictions and table lie under DIR; a stopped run goes on. Writes
benchmarks/results/classical_baselines.json, with the seconds that each method took, loading and fitting included; of
a run that went on they are those of the rest.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from datasets import disable_progress_bars

from lmmvqa.datasets_scripts.rows import load_rows
from lmmvqa.evaluation.baselines import evaluate_baseline, sample_rows
from lmmvqa.evaluation.classical_baselines import PACKAGES, check_installed
from lmmvqa.evaluation.options import BaselineOptions
from lmmvqa.evaluation.results import METRICS_FILE, PREDICTIONS_FILE, figures_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--degraded_clips",
        nargs="+",
        required=True,
        help="rows of `lmmvqa prepare degraded_contents`, ladders and degraded_clips",
    )
    parser.add_argument("--rated_images", required=True, help="rows of `lmmvqa prepare rated_images`")
    parser.add_argument("--methods", nargs="*", default=list(PACKAGES))
    parser.add_argument("--num_videos", type=int, help="of each set, a sample by seed (default: all)")
    parser.add_argument("--max_frames", type=int, default=4, help="most frames of a video that peers see (default: 4)")
    parser.add_argument("--processes", type=int, default=2, help="methods at a time, of one thread each (default: 2)")
    parser.add_argument("--ours", type=Path, required=True, help="folder of `lmmvqa evaluate` on the same rows")
    parser.add_argument("--work", type=Path, required=True, help="folder for predictions")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/classical_baselines.json"))
    arguments = parser.parse_args()
    disable_progress_bars()

    result = {"command": " ".join(["python", *sys.argv]), "num_videos": arguments.num_videos}
    result |= {"max_frames": arguments.max_frames, "methods": {}}
    if not arguments.methods:
        result = json.loads(arguments.out.read_text(encoding="utf-8"))
    tests = [list(load_rows(folder)["test"]) for folder in [*arguments.degraded_clips, arguments.rated_images]]
    seen = {row["video"] for rows in tests for row in sample_rows(rows, result["num_videos"])}
    predictions = (arguments.ours / PREDICTIONS_FILE).read_text(encoding="utf-8").splitlines()
    ours = [prediction for prediction in map(json.loads, predictions) if prediction["video"] in seen]
    if len(ours) < len(seen):
        parser.error(
            f"got {len(ours)} of {len(seen)} videos in {arguments.ours}, expected all; evaluate the same rows"
        )
    for method in arguments.methods:
        check_installed(method)

    every = [
        BaselineOptions(
            data=arguments.degraded_clips + ([] if method == "vmaf" else [arguments.rated_images]),
            out=str(arguments.work / method),
            method=method,
            fit_on=arguments.rated_images if method == "efficientnet-svr" else None,
            test_splits=True,
            max_frames=arguments.max_frames,
            num_videos=arguments.num_videos,
        )
        for method in arguments.methods
    ]
    with ProcessPoolExecutor(arguments.processes, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        for method, of_method in zip(arguments.methods, pool.map(measured, every), strict=True):
            result["methods"][method] = of_method
            write(arguments.out, result, method)

    parts = defaultdict(list)
    for prediction in ours:
        parts[prediction["dataset"], prediction["split"]].append(prediction)
    sets = [
        {"dataset": dataset, "part": split} | figures_of(of_part, ["score"])
        for (dataset, split), of_part in parts.items()
    ]
    versions = json.loads((arguments.ours / METRICS_FILE).read_text(encoding="utf-8"))["versions"]
    failures = sum(prediction["error"] is not None for prediction in ours)
    of_ours = {"versions": versions, "failures": failures, "figures": by_title(sets)}
    result["methods"]["embedded model"] = of_ours
    write(arguments.out, result, "embedded model")


def measured(options: BaselineOptions) -> dict:
    disable_progress_bars()
    start, cpu_start = time.perf_counter(), time.process_time()
    metrics = evaluate_baseline(options)
    return {
        "versions": metrics["versions"],
        "failures": metrics["failures"],
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu_start,
        "figures": by_title(metrics["sets"]),
    }


def by_title(sets: list[dict]) -> dict[str, dict]:
    figures = {}
    for part in sets:
        title = f"{part['dataset']} {part['part']}"
        figures[f"{title}, with MOS or label"] = part["score"]
        for name, of_part in part.get("degradations", {}).items():
            figures[f"{title}, {name}"] = of_part
        contents = part.get("contents", {"contents": {}})
        for name, of_part in contents["contents"].items():
            figures[f"{title}, {name}"] = of_part
        for name in sorted(contents.keys() - {"contents"}):
            figures[f"{title}, {name}"] = contents[name]
    return figures


def write(out: Path, result: dict, method: str) -> None:
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    figures = result["methods"][method]["figures"]
    print(method, json.dumps({name: of["srcc"] for name, of in figures.items() if "srcc" in of}), flush=True)


if __name__ == "__main__":
    main()
