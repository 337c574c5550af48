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

from lmmvqa.datasets_scripts.rows import load_rows, video_id
from lmmvqa.evaluation.baselines import BaselineOptions, evaluate_baseline
from lmmvqa.evaluation.held_out import reference_of, source_of, within
from lmmvqa.evaluation.metrics import agreement
from lmmvqa.evaluation.results import PREDICTIONS_FILE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--degraded_clips", required=True, help="rows of `lmmvqa prepare degraded_clips`")
    parser.add_argument("--rated_images", required=True, help="rows of `lmmvqa prepare rated_images`")
    parser.add_argument("--methods", nargs="+", default=["niqe", "brisque", "piqe", "vmaf"])
    parser.add_argument("--work", type=Path, required=True, help="folder for predictions")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/classical_baselines.json"))
    arguments = parser.parse_args()
    disable_progress_bars()

    clips = {video_id(row): row for row in load_rows(arguments.degraded_clips)["test"]}
    result = {"command": " ".join(["python", *sys.argv]), "methods": {}}
    for method in arguments.methods:
        data = [arguments.degraded_clips] + ([] if method == "vmaf" else [arguments.rated_images])
        out = arguments.work / method
        metrics = evaluate_baseline(BaselineOptions(data=data, out=str(out), method=method, test_splits=True))
        lines = (out / PREDICTIONS_FILE).read_text().splitlines()
        scored = {row["id"]: row["score"] for row in map(json.loads, lines) if row["score"] is not None}
        rows = [row for name, row in clips.items() if name in scored]
        scores = [scored[video_id(row)] for row in rows]
        figures = {f"{part['dataset']} {part['part']}, with MOS or label": part["score"] for part in metrics["sets"]}
        figures["degraded_clips test, within a reference, with label"] = within(reference_of, rows, scores, "mos")
        figures["degraded_clips test, within a source, with label"] = within(source_of, rows, scores, "mos")
        if method != "vmaf":
            figures["degraded_clips test, with VMAF"] = agreement(scores, [row["vmaf"] for row in rows])
        result["methods"][method] = {"versions": metrics["versions"], "figures": figures}
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(method, json.dumps({name: values["srcc"] for name, values in figures.items()}), flush=True)


if __name__ == "__main__":
    main()
