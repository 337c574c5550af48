"""NIQE, BRISQUE, PIQE and VMAF on the test splits of photographs and degraded clips, as peers of the embedded model.

    pip install -e '.[classical,data]'
    python benchmarks/classical_baselines.py --degraded_clips ROWS --rated_images ROWS --num_videos N --work DIR \
        --ours DIR

`--ours` is the folder of `lmmvqa evaluate` on the same rows: the embedded model's figures on the same videos. After new
weights, `--methods` with nothing behind it makes ours anew and leaves the peers' stored figures.
VMAF sees the reference, and the clips' labels are made from it: it is no peer but says how far labels and VMAF agree.
Every method's predictions and table lie under DIR; a stopped run goes on. Writes
benchmarks/results/classical_baselines.json.
"""

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

from datasets import disable_progress_bars

from lmmvqa.datasets_scripts.rows import load_rows
from lmmvqa.evaluation.baselines import BaselineOptions, evaluate_baseline, sample_rows
from lmmvqa.evaluation.results import METRICS_FILE, PREDICTIONS_FILE, figures_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--degraded_clips", required=True, help="rows of `lmmvqa prepare degraded_clips`")
    parser.add_argument("--rated_images", required=True, help="rows of `lmmvqa prepare rated_images`")
    parser.add_argument("--methods", nargs="*", default=["niqe", "brisque", "piqe", "vmaf"])
    parser.add_argument("--num_videos", type=int, help="of each set, a sample by seed (default: all)")
    parser.add_argument("--ours", type=Path, required=True, help="folder of `lmmvqa evaluate` on the same rows")
    parser.add_argument("--work", type=Path, required=True, help="folder for predictions")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/classical_baselines.json"))
    arguments = parser.parse_args()
    disable_progress_bars()

    result = {"command": " ".join(["python", *sys.argv]), "num_videos": arguments.num_videos, "methods": {}}
    if not arguments.methods:
        result = json.loads(arguments.out.read_text(encoding="utf-8"))
    for method in arguments.methods:
        data = [arguments.degraded_clips] + ([] if method == "vmaf" else [arguments.rated_images])
        out = str(arguments.work / method)
        options = BaselineOptions(data=data, out=out, method=method, test_splits=True, num_videos=arguments.num_videos)
        metrics = evaluate_baseline(options)
        result["methods"][method] = {"versions": metrics["versions"], "figures": by_title(metrics["sets"])}
        write(arguments.out, result, method)

    tests = [list(load_rows(folder)["test"]) for folder in (arguments.degraded_clips, arguments.rated_images)]
    seen = {row["video"] for rows in tests for row in sample_rows(rows, result["num_videos"])}
    predictions = (arguments.ours / PREDICTIONS_FILE).read_text(encoding="utf-8").splitlines()
    ours = [prediction for prediction in map(json.loads, predictions) if prediction["video"] in seen]
    parts = defaultdict(list)
    for prediction in ours:
        parts[prediction["dataset"], prediction["split"]].append(prediction)
    sets = [
        {"dataset": dataset, "part": split} | figures_of(of_part, ["score"])
        for (dataset, split), of_part in parts.items()
    ]
    versions = json.loads((arguments.ours / METRICS_FILE).read_text(encoding="utf-8"))["versions"]
    result["methods"]["embedded model"] = {"versions": versions, "figures": by_title(sets)}
    write(arguments.out, result, "embedded model")


def by_title(sets: list[dict]) -> dict[str, dict]:
    figures = {}
    for part in sets:
        title = f"{part['dataset']} {part['part']}"
        figures[f"{title}, with MOS or label"] = part["score"]
        for name, of_part in part.get("degradations", {}).items():
            figures[f"{title}, {name}"] = of_part
    return figures


def write(out: Path, result: dict, method: str) -> None:
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    figures = result["methods"][method]["figures"]
    print(method, json.dumps({name: of["srcc"] for name, of in figures.items() if "srcc" in of}), flush=True)


if __name__ == "__main__":
    main()
