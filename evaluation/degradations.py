"""How a method judges clips that were degraded on purpose: against VMAF, within one source, and beside the untouched clip."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..datasets_scripts.degraded_clips import COLUMNS, UNSEEN
from .metrics import agreement, correlations, coverage


def is_degraded_set(rows: list[dict]) -> bool:
    """Whether these are rows of `lmmvqa prepare degraded_clips`."""
    return COLUMNS.keys() <= rows[0].keys()


def degradation_figures(predictions: list[dict]) -> dict:
    """
    Args:
        predictions: rows {video, mos, source, distortion, strength, vmaf} with `score` and `score_std`, None where a
            clip has none.

    Returns:
        `vmaf`, the agreement with VMAF, and `vmaf_coverage`, in which the label of a rule plays no part;
        `within_reference` and `within_source`, see `within`; and `untouched_above`, see `untouched_above`.

    Raises:
        ValueError: as in `agreement`.
    """
    scores, vmaf = ([prediction[name] for prediction in predictions] for name in ("score", "vmaf"))
    deviations = [prediction["score_std"] for prediction in predictions]
    scored = [prediction for prediction in predictions if prediction["score"] is not None]
    return {
        "vmaf": agreement(scores, vmaf),
        "vmaf_coverage": coverage(scores, deviations, vmaf),
        "within_reference": within(reference_of, scored),
        "within_source": within(source_of, scored),
        "untouched_above": untouched_above(scored),
    }


def reference_of(row: dict) -> str:
    """The reference that a degraded clip was made from; one source gives up to three of them."""
    return Path(row["video"]).stem.removesuffix(f"-{row['distortion']}{row['strength']}")


def source_of(row: dict) -> str:
    """The clip or photograph that a degraded clip was made from."""
    return row["source"]


def within(part_of: Callable[[dict], str], rows: list[dict]) -> dict[str, int | float | None]:
    """
    Mean over parts, such as all versions of one reference or of one source, of the SRCC of score and label inside a
    part: contents that score alike or not play no part. `n` parts have one, others are too small.
    """
    parts = defaultdict(list)
    for row in rows:
        parts[part_of(row)].append((row["score"], row["mos"]))
    values = []
    for pairs in parts.values():
        try:
            values.append(correlations(*zip(*pairs, strict=True))["srcc"])
        except ValueError:  # fewer than three clips, or the same score or label for all
            continue
    return {"n": len(values), "srcc": float(np.mean(values)) if values else None}


def untouched_above(rows: list[dict]) -> dict[str, dict[str, int | float | None]]:
    """
    For each distortion, at any strength, the `share` of `n` clips whose untouched clip scores higher. Clips whose label
    lies less than a point below that of the untouched clip are `unchanged` and not counted: a freeze of a still picture
    is not there. `h264 5` is H.264 at its strongest.
    """
    untouched = {reference_of(row): row for row in rows if row["distortion"] == "none"}
    orders, unchanged = defaultdict(list), defaultdict(int)
    for row in rows:
        clean = untouched.get(reference_of(row))
        if row["distortion"] == "none" or clean is None:
            continue
        kinds = [row["distortion"]] + (["h264 5"] if (row["distortion"], row["strength"]) == ("h264", 5) else [])
        for kind in kinds:
            if row["mos"] > clean["mos"] - UNSEEN:
                unchanged[kind] += 1
            else:
                orders[kind].append(row["score"] < clean["score"])
    return {
        kind: {
            "n": len(orders[kind]),
            "share": float(np.mean(orders[kind])) if orders[kind] else None,
            "unchanged": unchanged[kind],
        }
        for kind in sorted({*orders, *unchanged})
    }
