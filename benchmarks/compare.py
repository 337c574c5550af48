"""How often the version that is called better is better, and BD-rates by score beside those by VMAF.

    lmmvqa evaluate --protocol in_sample --data ROWS --out runs/default/evaluation_clips
    python benchmarks/compare.py --predictions runs/default/evaluation_clips/predictions.jsonl --out benchmarks/results/compare.json

The test split of degraded contents says how often what is called better with a probability has the higher label, with the
model's `pair_std_scale`, which was fitted to the validation split, and with 1. Pairs are counted as they are: one content in n versions gives
n (n - 1) / 2, among them many that hardly differ. Then clips of the test split that nothing was done to are encoded as a
ladder of x264 and one of x265, and the BD-rate of the second against the first is that of the score and of VMAF.
"""

import argparse
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from lmmvqa.checkpoints.checkpoint_digest import weights_digest
from lmmvqa.datasets_scripts.degraded.chain_steps import X265
from lmmvqa.datasets_scripts.degraded.ffmpeg_process import encode, measure_vmaf
from lmmvqa.evaluation.comparison import bd_rate, pairs_of_contents, reliability
from lmmvqa.modeling_lmmvqa import VideoQualityAssessmentPipeline
from lmmvqa.scoring.scorer import default_checkpoint, load_scorer


LADDERS = {
    "x264": ("-c:v libx264 -preset veryfast -crf {}", (22, 27, 32, 37, 42, 47)),
    "x265": (f"-c:v libx265 -preset veryfast {X265} -crf {{}}", (24, 29, 34, 39, 44, 49)),
}


def read_test_rows(paths: list[str]) -> list[dict]:
    """The rows of degraded contents in the test split with a score, from files that `lmmvqa evaluate` writes."""
    rows = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for row in map(json.loads, file):
                if (row["dataset"], row["split"], row["error"]) == ("degraded_contents", "test", None):
                    rows[row["video"]] = row
    return list(rows.values())


def measure_pairs(rows: list[dict], pair_std_scale: float) -> dict:
    pairs = pairs_of_contents(*([row[name] for row in rows] for name in ("score", "score_std", "mos", "content")))
    (score, _, other, _, opinion) = np.concatenate(list(pairs.values())).T
    return {
        "pair_std_scale": pair_std_scale,
        "contents": len(pairs),
        "pairs": len(opinion),
        "right": float(((score > other) == (opinion > 0)).mean()),
        "fitted": reliability(pairs, pair_std_scale),
        "independent": reliability(pairs, 1.0),
    }


def measure_ladders(scorer: VideoQualityAssessmentPipeline, clips: list[str]) -> list[dict]:
    rows = []
    for clip in tqdm(clips, desc="ladders", disable=None):
        ladders = {}
        with tempfile.TemporaryDirectory() as folder:
            for name, (encoder, factors) in LADDERS.items():
                ladders[name] = []
                for factor in factors:
                    path = Path(folder) / f"{name}-{factor}.mkv"
                    encode(["-threads", "1", "-i", clip], path, encoder.format(factor).split())
                    result = scorer(str(path))
                    ladders[name].append(
                        {
                            "crf": factor,
                            "kbps": 8 * path.stat().st_size / result["duration"] / 1000,
                            "score": result["score"],
                            "vmaf": measure_vmaf(path, Path(clip)),
                        }
                    )
        row = {"clip": Path(clip).name, "ladders": ladders}
        for measure in ("score", "vmaf"):
            curves = [[rung[key] for rung in ladder] for ladder in ladders.values() for key in ("kbps", measure)]
            try:
                row[f"bd_rate, {measure}"] = bd_rate(*curves)
            except ValueError as error:  # there are contents on which the score does not rise with the rate
                row[f"bd_rate, {measure}"], row[f"why not, {measure}"] = None, str(error)
        rows.append(row)
    return rows


def tables(report: dict) -> str:
    pairs = report["pairs"]
    lines = [
        f"`pair_std_scale` {pairs['pair_std_scale']:.3f}, fitted to the validation split. "
        f"Model: {report['model']}, weights {report['weights'][:16]}.",
        "",
        "| probability said | test pairs | mean said | right | with 1 in its place: mean said | right |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    columns = (pairs["fitted"], pairs["independent"])
    by_range = [{row["from"]: row for row in column} for column in columns]
    for start, row in by_range[0].items():
        cells = [f"{row['from']:g} to {row['to']:g}", f"{row['n']:,}"]
        for column in by_range:
            of_range = column.get(start)
            cells += [f"{of_range[key]:.1%}" if of_range else "" for key in ("probability", "share")]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"All {pairs['pairs']:,} test pairs of {pairs['contents']} contents: {pairs['right']:.1%} right.",
        "",
        "| clip | BD-rate of x265 against x264, by score | by VMAF |",
        "|---|---:|---:|",
    ]
    for row in report["ladders"]:
        rates = [row["bd_rate, score"], row["bd_rate, vmaf"]]
        cells = ["none: too few rungs rise" if rate is None else f"{rate:+.1f} %" for rate in rates]
        lines.append(f"| {row['clip']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", nargs="+", required=True, help="of `lmmvqa evaluate`, JSON lines")
    parser.add_argument("--model", help="that made them: checkpoint folder or repository (default: embedded)")
    parser.add_argument("--ladders", type=int, default=8, help="clips that are encoded as ladders, the smallest first")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--out", type=Path, required=True, help="JSON file for the figures; tables go beside it, as Markdown"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = read_test_rows(arguments.predictions)
    scorer = load_scorer(arguments.model, "cpu")
    untouched = [row for row in rows if row["version"] == "untouched"]
    smallest = sorted(untouched, key=lambda row: row["width"] * row["height"] * row["frames"])[: arguments.ladders]
    report = {
        "command": " ".join(["python", *map(str, sys.argv)]),
        "model": arguments.model or "embedded default",
        "weights": weights_digest(arguments.model or default_checkpoint()),
        "versions": {name: version(name) for name in ("av", "torch", "transformers")},
        "pairs": measure_pairs(rows, scorer.processor.pair_std_scale),
        "ladders": measure_ladders(scorer, [row["video"] for row in smallest]),
    }
    arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    arguments.out.with_suffix(".md").write_text(tables(report) + "\n", encoding="utf-8")
    print(tables(report))


if __name__ == "__main__":
    main()
