"""How a method judges clips that were degraded on purpose: against VMAF, within one source, and beside the untouched clip."""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Hashable
from pathlib import Path

import numpy as np

from ..datasets_scripts.degraded import chained_clips
from ..datasets_scripts.degraded.chain_draws import FIXED, FROZEN
from ..datasets_scripts.degraded.chained_clips import UNTOUCHED
from ..datasets_scripts.degraded.degraded_clips import COLUMNS, UNSEEN
from ..processing.answers_lmmvqa import DAMAGE_ANSWERS, NO_DAMAGE
from ..scoring.report import named_damages
from ..training.qa_pairs import SEEN_STRENGTH
from .metrics import agreement, bootstrap_intervals, correlations, coverage


# Contents that no camera recorded, by what they show; those of other kinds are rendered.
REAL, RENDERED = "real clips", "renders and games"
SHOWN = {"photograph-pan": "pans", "small-photograph-pan": "pans", "screen": "screens", "slides": "screens"}
WELL_ORDERED = 0.8  # SRCC within a content
SET_VERSIONS = (UNTOUCHED, *FIXED, FROZEN)  # common damage at common strengths; the others weigh every kind alike
DRAWN = ("ladder", "alone", "chain")  # first words of versions that a seed drew
ALL = "all clips"
STRONG = 2.0  # of a damage, 0-5: one that must be named
RISE = 0.02  # of the scale, by which a stronger compression may score higher
SCALE = 100.0  # points


def is_degraded_set(rows: list[dict]) -> bool:
    """Whether these are rows of `lmmvqa prepare degraded_clips`."""
    return COLUMNS.keys() <= rows[0].keys()


def is_content_set(rows: list[dict]) -> bool:
    """Whether these are rows of `lmmvqa prepare degraded_contents` or `ladders`."""
    return chained_clips.COLUMNS.keys() <= rows[0].keys()


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


def place(row: dict) -> tuple[str, str, int]:
    """The group, the content and the size that a clip's versions share."""
    return row["group"], row["content"], min(row["width"], row["height"])


def ranks_inside(rows: list[dict], part_of: Callable[[dict], Hashable] = place) -> dict[Hashable, float]:
    """
    Part, such as the versions of one content or of one source -> SRCC of score and label over its rows, where there are
    three or more that differ.
    """
    parts = defaultdict(list)
    for row in rows:
        parts[part_of(row)].append((row["score"], row["mos"]))
    values = {}
    for part, pairs in parts.items():
        with contextlib.suppress(ValueError):  # fewer than three clips, or the same score or label for all
            values[part] = correlations(*zip(*pairs, strict=True))["srcc"]
    return values


def within(part_of: Callable[[dict], Hashable], rows: list[dict]) -> dict[str, int | float | None]:
    """The mean of `ranks_inside` over `n` parts: contents that score alike or not play no part in it."""
    values = list(ranks_inside(rows, part_of).values())
    return {"n": len(values), "srcc": _mean(values)}


def untouched_above(rows: list[dict]) -> dict[str, dict[str, int | float | None]]:
    """`shares_above` of each distortion, at any strength. `h264 5` is H.264 at its strongest."""

    def kinds(row: dict) -> list[str]:
        is_strongest = (row["distortion"], row["strength"]) == ("h264", 5)
        return [row["distortion"], *(["h264 5"] if is_strongest else [])]

    return shares_above(rows, reference_of, lambda row: row["distortion"] == "none", kinds)


def versions_below(rows: list[dict]) -> dict[str, dict[str, int | float | None]]:
    """`shares_above` of each version; chains, steps alone and ladders that were drawn count as one version each."""

    def kinds(row: dict) -> list[str]:
        first, *_ = row["version"].split()
        return [first if first in DRAWN else row["version"]]

    return shares_above(rows, place, lambda row: row["version"] == UNTOUCHED, kinds)


def shares_above(
    rows: list[dict],
    part_of: Callable[[dict], Hashable],
    is_untouched: Callable[[dict], bool],
    kinds_of: Callable[[dict], list[str]],
) -> dict[str, dict[str, int | float | None]]:
    """
    For each kind the `share` of `n` clips whose untouched clip, of the same part, scores higher. Clips whose label lies
    less than a point below that of the untouched clip are `unchanged` and not counted: a freeze of a still picture is not
    there.
    """
    untouched = {part_of(row): row for row in rows if is_untouched(row)}
    orders, unchanged = defaultdict(list), defaultdict(int)
    for row in rows:
        clean = untouched.get(part_of(row))
        if is_untouched(row) or clean is None:
            continue
        for kind in kinds_of(row):
            if row["mos"] > clean["mos"] - UNSEEN:
                unchanged[kind] += 1
            else:
                orders[kind].append(row["score"] < clean["score"])
    return {
        kind: {"n": len(orders[kind]), "share": _mean(orders[kind]), "unchanged": unchanged[kind]}
        for kind in sorted({*orders, *unchanged})
    }


def content_figures(predictions: list[dict], own_scale: bool = False, samples: int = 1000, seed: int = 0) -> dict:
    """
    Args:
        predictions: rows of `lmmvqa prepare degraded_contents` or `ladders` with `score`, None where a clip has none.
        own_scale: the scores' scale is their range here, not 0-100.
        samples: resamples of the intervals, drawn by `seed`.

    Returns:
        `contents`, {part: what `of_contents` returns} of real clips, their ten `SET_VERSIONS` with the label and with VMAF,
        each kind of them, pans, renders and games, screens;
        `untouched_above` of real clips, see `versions_below`; `ladders`, see `ladder_rises`; and, where the model says what
        is wrong, `damage` of real clips and of all, see `damages_named`.
    """
    scored = [prediction for prediction in predictions if prediction["score"] is not None]
    parts = defaultdict(list)
    for row in predictions:
        parts[part_shown(row)].append(row)
    for row in parts[REAL]:
        parts[f"{REAL}: {row['kind']}"].append(row)
    set_versions = [row for row in parts[REAL] if row["version"] in SET_VERSIONS]
    if any(row["version"] != UNTOUCHED for row in set_versions):
        parts[f"{REAL}, ten set versions"] = set_versions
        parts[f"{REAL}, ten set versions, with VMAF"] = [row | {"mos": row["vmaf"]} for row in set_versions]
    real_first = sorted(parts.items(), key=lambda item: (not item[0].startswith(REAL), item[0]))
    scores = [row["score"] for row in scored]
    scale = max(scores, default=0.0) - min(scores, default=0.0) if own_scale else SCALE
    of_damage = [row for row in scored if row.get("damage_answer") is not None]
    figures = {
        "contents": {part: of_contents(rows, samples, seed) for part, rows in real_first if rows},
        "untouched_above": versions_below([row for row in parts[REAL] if row["score"] is not None]),
        "ladders": ladder_rises(scored, RISE * scale),
    }
    if of_damage:
        real = [row for row in of_damage if row["is_real"]]
        figures["damage"] = {REAL: damages_named(real), ALL: damages_named(of_damage)}
    return figures


def damages_named(rows: list[dict]) -> dict:
    """
    How well a model says what is wrong, on clips whose strongest damage has a strength of 2 or more, or with no damage of
    .5: mild ones are left out. True is each kind of 2 or more, else "none"; named is the most probable kind, and each
    other of a probability of .25 or more.

    Args:
        rows: with `damage`, {kind: strength}, and `damage_answer`, {kind: probability}.

    Returns:
        `n` clips; `kinds`, {kind: {`n` clips that have it, `recall`, `named` clips, `precision`}}; and `macro_recall`, the mean
        over the kinds that some clip has. None where there is no clip to say it of.
    """
    pairs = []
    for row in rows:
        strongest = max(row["damage"].values())
        if strongest >= STRONG:
            true = {kind for kind, strength in row["damage"].items() if strength >= STRONG}
        elif strongest < SEEN_STRENGTH:
            true = {NO_DAMAGE}
        else:
            continue
        answer = row["damage_answer"]
        pairs.append((true, {max(answer, key=answer.__getitem__), *named_damages(answer)}))
    kinds = {}
    for kind in DAMAGE_ANSWERS:
        recalled = [kind in named for true, named in pairs if kind in true]
        right = [kind in true for true, named in pairs if kind in named]
        kinds[kind] = {"n": len(recalled), "recall": _mean(recalled), "named": len(right), "precision": _mean(right)}
    recalls = [of_kind["recall"] for of_kind in kinds.values() if of_kind["n"]]
    return {"n": len(pairs), "kinds": kinds, "macro_recall": _mean(recalls)}


def _mean(values: list) -> float | None:
    return float(np.mean(values)) if values else None


def part_shown(row: dict) -> str:
    """What a clip shows, as tables tell it apart."""
    return REAL if row["is_real"] else SHOWN.get(row["kind"], RENDERED)


def of_contents(rows: list[dict], samples: int, seed: int) -> dict:
    """
    Figures of clips of some contents. Their 95 % intervals are over groups of contents drawn with replacement.

    Returns:
        `n` clips of so many `groups`, and the `failures`, clips without a score, which `n` does not count; `srcc` and `plcc`
        of score and label over all, None where too few clips differ; `within`, the mean SRCC inside a content at one size,
        the `share_well_ordered` of those above .8 and the `lowest`; and `intervals`.
    """
    failures = sum(row["score"] is None for row in rows)
    rows = [row for row in rows if row["score"] is not None]
    groups = [row["group"] for row in rows]
    figures = {
        "n": len(rows),
        "failures": failures,
        "groups": len(set(groups)),
        "srcc": None,
        "plcc": None,
        "intervals": {},
    }
    scores, mos = ([row[name] for row in rows] for name in ("score", "mos"))
    try:
        figures |= {name: value for name, value in correlations(scores, mos).items() if name in ("srcc", "plcc")}
        if figures["groups"] > 1:
            figures |= bootstrap_intervals(scores, mos, samples=samples, seed=seed, groups=groups)
    except ValueError as error:
        figures["error"] = str(error)
    inside = defaultdict(list)
    for (group, *_), value in ranks_inside(rows).items():
        inside[group].append(value)
    ranks = [value for values in inside.values() for value in values]
    figures |= {
        "within": _mean(ranks),
        "share_well_ordered": float(np.mean(np.array(ranks) > WELL_ORDERED)) if ranks else None,
        "lowest": min(ranks, default=None),
    }
    if len(inside) > 1:
        values = list(inside.values())
        draws = np.random.default_rng(seed).integers(len(values), size=(samples, len(values)))
        means = [np.mean([value for index in draw for value in values[index]]) for draw in draws]
        figures["intervals"]["within"] = tuple(np.quantile(means, [0.025, 0.975]).tolist())
    return figures


def ladder_rises(rows: list[dict], allowed: float) -> dict[str, int | float | None]:
    """
    Of the `steps` between neighbouring rate factors of H.264 ladders, the number of `rises`: the stronger compression
    scores more than `allowed` points higher. `largest` is the largest rise, in points.
    """
    ladders = defaultdict(list)
    for row in rows:
        if row["dataset"] == "ladders" and row["version"] != UNTOUCHED:
            ladders[place(row)].append((int(row["version"].split()[-1]), row["score"]))
    rises = [rise for ladder in ladders.values() for rise in np.diff([score for _, score in sorted(ladder)])]
    return {
        "ladders": len(ladders),
        "steps": len(rises),
        "allowed": allowed,
        "rises": int(np.sum(np.array(rises) > allowed)),
        "largest": float(max(rises)) if rises else None,
    }
