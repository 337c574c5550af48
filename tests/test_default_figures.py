"""The figures that README and model card give for the embedded default are those that `lmmvqa evaluate` stored."""

import json
from pathlib import Path

import pytest

from lmmvqa.checkpoints.training_videos import load_training_videos


ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


@pytest.fixture(scope="module")
def sets():
    report = json.loads((RESULTS / "default_clips.json").read_text(encoding="utf-8"))
    return {figures["dataset"]: figures for figures in report["sets"]}


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def correlations(what: str, figures: dict) -> str:
    cells = []
    for name in ("srcc", "plcc"):
        low, high = figures["intervals"][name]
        cells.append(f"{figures[name]:.3f} ({low:.3f}-{high:.3f})")
    return f"| {what} | {figures['n']} | {' | '.join(cells)} |"


def missing(document: str, pieces: list[str]) -> list[str]:
    text = " ".join((ROOT / document).read_text(encoding="utf-8").split())
    return [piece for piece in pieces if piece not in text]


@pytest.mark.parametrize("document", ["README.md", "model_card.md"])
def test_both_have_the_correlations(document, sets):
    parts = sets["degraded_contents"]["contents"]["contents"]
    real = parts["real clips"]
    low, high = real["intervals"]["within"]
    pieces = [
        correlations("real clips, 20 contents in 41 versions, with the label", real),
        f"order inside one | 20 | {real['within']:.3f} ({low:.3f}-{high:.3f}) | |",
        *(correlations(f"{part}, with the label", parts[part]) for part in ("renders and games", "screens", "pans")),
        correlations("photographs, with MOS", sets["rated_images"]["score"]),
        f"{percent(sets['rated_images']['coverage']['share'])} of the photographs and "
        f"{percent(sets['degraded_contents']['coverage']['share'])} of the clips",
    ]
    assert not missing(document, pieces)


def test_the_model_card_has_the_rest(sets):
    of_contents = sets["degraded_contents"]["contents"]
    pieces = [
        f"| {version} | {figures['n']} | {percent(figures['share'])} |"
        for version, figures in of_contents["untouched_above"].items()
    ]
    pieces += [
        f"| {kind} | {figures['n']} | {percent(figures['recall'])} | {percent(figures['precision'])} |"
        for kind, figures in of_contents["damage"]["real clips"]["kinds"].items()
        if figures["n"] and figures["named"]
    ]
    calibration = json.loads((RESULTS / "default_calibration.json").read_text(encoding="utf-8"))
    pieces.append(f"multiplied by {calibration['score_std_scale']:.3f}")
    pieces.append(f"All {len(load_training_videos(ROOT / 'default_checkpoint').videos):,} training videos")
    assert not missing("model_card.md", pieces)
