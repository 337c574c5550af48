"""Figures of a checkpoint on what it never saw: degraded clips of unseen sources and unseen photographs.

`python -m lmmvqa.evaluation.held_out --degraded_clips DIR --rated_images DIR` prints the table of the model card and,
with `--out FILE`, writes it as JSON together with every prediction.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import transformers
from tqdm import tqdm
from transformers import HfArgumentParser

from ..datasets_scripts.qa_pairs import mos_level
from ..datasets_scripts.rows import load_rows
from ..processing.feature_cache import FeatureCache
from ..scoring.scorer import load_scorer
from .metrics import agreement, correlations, coverage, level_report
from .predictions import predict_batch


BATCH_SIZE = 16


@dataclass
class HeldOutArguments:
    degraded_clips: str = field(metadata={"help": "Rows that datasets_scripts/degraded_clips.py wrote."})
    rated_images: str = field(metadata={"help": "Rows that datasets_scripts/rated_images.py wrote."})
    model: str | None = field(default=None, metadata={"help": "Checkpoint folder or repository; default: embedded."})
    split: str = field(default="test", metadata={"help": "validation while choosing, test once at the end."})
    feature_cache: str = field(default="data/feature_cache", metadata={"help": "Folder for the towers' features."})
    out: str | None = field(default=None, metadata={"help": "JSON file for figures and predictions."})


def reference_of(row: dict) -> str:
    """The reference that a degraded clip was made from; one source gives up to three of them."""
    return Path(row["video"]).stem.removesuffix(f"-{row['distortion']}{row['strength']}")


def ordered_pairs(rows: list[dict], scores: list[float]) -> dict[str, dict]:
    """Share of references whose untouched clip scores above their degraded one, for each distortion at any strength."""
    untouched = {
        reference_of(row): score for row, score in zip(rows, scores, strict=True) if row["distortion"] == "none"
    }
    shares = {}
    for kind in sorted({row["distortion"] for row in rows} - {"none"}):
        wins = [
            score < untouched[reference_of(row)]
            for row, score in zip(rows, scores, strict=True)
            if row["distortion"] == kind
        ]
        shares[kind] = {"n": len(wins), "share": float(np.mean(wins))}
    strongest = [
        score < untouched[reference_of(row)]
        for row, score in zip(rows, scores, strict=True)
        if row["distortion"] == "h264" and row["strength"] == 5
    ]
    shares["h264 at its strongest"] = {"n": len(strongest), "share": float(np.mean(strongest))}
    return shares


def source_of(row: dict) -> str:
    """The clip or photograph that a degraded clip was made from."""
    return row["source"]


def within(part_of: Callable[[dict], str], rows: list[dict], scores: list[float], truth: str) -> dict:
    """Mean over parts, such as all versions of one reference or of one source, of the SRCC inside a part."""
    parts = {}
    for row, score in zip(rows, scores, strict=True):
        parts.setdefault(part_of(row), []).append((score, row[truth]))
    values = [correlations(*zip(*pairs, strict=True))["srcc"] for pairs in parts.values()]
    return {"n": len(values), "srcc": float(np.mean(values))}


def main() -> None:
    (arguments,) = HfArgumentParser(HeldOutArguments).parse_args_into_dataclasses()
    scorer = load_scorer(arguments.model)
    clips = list(load_rows(arguments.degraded_clips)[arguments.split])
    images = list(load_rows(arguments.rated_images)[arguments.split])
    rows = clips + images
    scorer.model.requires_grad_(False)
    cache = FeatureCache(arguments.feature_cache, scorer.model, scorer.processor)
    predictions = []
    for start in tqdm(range(0, len(rows), BATCH_SIZE), desc="batches", mininterval=5):
        videos = [row["video"] for row in rows[start : start + BATCH_SIZE]]
        predictions += predict_batch(scorer, videos, cache=cache)
    errors = [prediction["error"] for prediction in predictions if prediction["error"]]
    if errors:
        raise ValueError(f"got {len(errors)} clips without score, expected none: {errors[0]}; build them again")

    scores, deviations = ([prediction[name] for prediction in predictions] for name in ("score", "score_std"))
    of_clips, of_images = slice(len(clips)), slice(len(clips), None)
    clip_scores, image_scores = scores[of_clips], scores[of_images]
    truths = {name: [row[name] for row in clips] for name in ("vmaf", "mos")}
    image_mos = [row["mos"] for row in images]
    thresholds = scorer.processor.level_answer_thresholds
    levels = [mos_level(row["mos"], thresholds[row["dataset"]]) for row in rows]
    figures = {
        "degraded clips, with VMAF": agreement(clip_scores, truths["vmaf"]),
        "degraded clips, with label": agreement(clip_scores, truths["mos"]),
        "degraded clips, within a reference, with label": within(reference_of, clips, clip_scores, "mos"),
        "degraded clips, within a source, with label": within(source_of, clips, clip_scores, "mos"),
        "photographs, with MOS": agreement(image_scores, image_mos),
        "untouched above degraded": ordered_pairs(clips, clip_scores),
        "truths inside 1.96 standard deviations of the score": {
            "degraded clips, VMAF": coverage(clip_scores, deviations[of_clips], truths["vmaf"]),
            "degraded clips, label": coverage(clip_scores, deviations[of_clips], truths["mos"]),
            "photographs, MOS": coverage(image_scores, deviations[of_images], image_mos),
        },
        "level answers, thirds of the training set": level_report(
            [prediction["level_answer"] for prediction in predictions], levels, thresholds
        ),
    }
    print(json.dumps(figures, indent=2))
    if arguments.out:
        report = {
            "model": arguments.model or "embedded default",
            "split": arguments.split,
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            "figures": figures,
            "predictions": [
                {"video": Path(row["video"]).name, "dataset": row["dataset"], "mos": row["mos"]}
                | {name: prediction[name] for name in ("score", "score_std")}
                for row, prediction in zip(rows, predictions, strict=True)
            ],
        }
        Path(arguments.out).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
