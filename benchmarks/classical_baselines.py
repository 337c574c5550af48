"""NIQE, BRISQUE, PIQE and VMAF on the test splits of photographs and degraded clips, as peers of the embedded model.

    pip install -e '.[classical,data]'
    python benchmarks/classical_baselines.py --degraded_clips ROWS --rated_images ROWS --work DIR

VMAF sees the reference, and the clips' labels are made from it: it is no peer but says how far labels and VMAF agree.
Every method's predictions and table lie under DIR; a stopped run goes on. Writes
benchmarks/results/classical_baselines.json.
"""

import argparse
import json
import sys
from pathlib import Path

from datasets import disable_progress_bars

from lmmvqa.evaluation.baselines import BaselineOptions, evaluate_baseline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--degraded_clips", required=True, help="rows of `lmmvqa prepare degraded_clips`")
    parser.add_argument("--rated_images", required=True, help="rows of `lmmvqa prepare rated_images`")
    parser.add_argument("--methods", nargs="+", default=["niqe", "brisque", "piqe", "vmaf"])
    parser.add_argument("--work", type=Path, required=True, help="folder for predictions")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/classical_baselines.json"))
    arguments = parser.parse_args()
    disable_progress_bars()

    result = {"command": " ".join(["python", *sys.argv]), "methods": {}}
    for method in arguments.methods:
        data = [arguments.degraded_clips] + ([] if method == "vmaf" else [arguments.rated_images])
        out = str(arguments.work / method)
        metrics = evaluate_baseline(BaselineOptions(data=data, out=out, method=method, test_splits=True))
        figures = {}
        for part in metrics["sets"]:
            title = f"{part['dataset']} {part['part']}"
            figures[f"{title}, with MOS or label"] = part["score"]
            for name, of_part in part.get("degradations", {}).items():
                figures[f"{title}, {name}"] = of_part
        result["methods"][method] = {"versions": metrics["versions"], "figures": figures}
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(
            method,
            json.dumps({name: values["srcc"] for name, values in figures.items() if "srcc" in values}),
            flush=True,
        )


if __name__ == "__main__":
    main()
