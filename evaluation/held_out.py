"""Figures of a checkpoint on what it never saw: degraded clips of unseen sources and unseen photographs.

`python -m lmmvqa.evaluation.held_out --degraded_clips DIR --rated_images DIR` prints the table of the model card and,
with `--out FILE`, writes it as JSON together with every prediction.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoModelForImageTextToText, AutoProcessor, HfArgumentParser

from ..datasets_scripts.qa_pairs import mos_level
from ..datasets_scripts.rows import load_rows
from ..processing.feature_cache import FeatureCache
from ..scoring.scorer import default_checkpoint
from .metrics import agreement, correlations, level_report
from .predictions import predict_levels, predict_scores


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


def within_reference(rows: list[dict], scores: list[float], truth: str) -> dict:
    """Mean over references of the SRCC among the variants of one reference."""
    by_reference = {}
    for row, score in zip(rows, scores, strict=True):
        by_reference.setdefault(reference_of(row), []).append((score, row[truth]))
    values = [correlations(*zip(*pairs, strict=True))["srcc"] for pairs in by_reference.values()]
    return {"n": len(values), "srcc": float(np.mean(values))}


def main() -> None:
    (arguments,) = HfArgumentParser(HeldOutArguments).parse_args_into_dataclasses()
    checkpoint = arguments.model or default_checkpoint()
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    processor = AutoProcessor.from_pretrained(checkpoint)
    clips = list(load_rows(arguments.degraded_clips)[arguments.split])
    images = list(load_rows(arguments.rated_images)[arguments.split])
    rows = clips + images
    # Two questions on the same videos: the towers see each video once
    model.requires_grad_(False)
    cache = FeatureCache(arguments.feature_cache, model, processor)
    videos = [row["video"] for row in rows]
    scores = [result.score for result in predict_scores(model, processor, videos, cache=cache)]
    clip_scores, image_scores = scores[: len(clips)], scores[len(clips) :]
    thresholds = processor.level_answer_thresholds
    levels = [mos_level(row["mos"], thresholds[row["dataset"]]) for row in rows]

    figures = {
        "degraded clips, with VMAF": agreement(clip_scores, [row["vmaf"] for row in clips]),
        "degraded clips, with label": agreement(clip_scores, [row["mos"] for row in clips]),
        "degraded clips, within a reference, with label": within_reference(clips, clip_scores, "mos"),
        "photographs, with MOS": agreement(image_scores, [row["mos"] for row in images]),
        "untouched above degraded": ordered_pairs(clips, clip_scores),
        "level answers, thirds of the training set": level_report(
            predict_levels(model, processor, videos, cache=cache), levels, thresholds
        ),
    }
    print(json.dumps(figures, indent=2))
    if arguments.out:
        scored = zip(rows, scores, strict=True)
        report = {
            "model": arguments.model or "embedded default",
            "split": arguments.split,
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            "figures": figures,
            "predictions": [
                {"video": Path(row["video"]).name, "dataset": row["dataset"], "mos": row["mos"], "score": score}
                for row, score in scored
            ],
        }
        Path(arguments.out).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
