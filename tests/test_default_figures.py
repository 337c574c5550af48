"""The figures that README and model card give for the embedded default are those that `lmmvqa evaluate` stored."""

import json
from pathlib import Path

import pytest

from lmmvqa.checkpoints.training_videos import load_training_videos


ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


@pytest.fixture(scope="module")
def sets():
    report = json.loads((RESULTS / "default_evaluation.json").read_text(encoding="utf-8"))
    return {figures["dataset"]: figures for figures in report["sets"]}


@pytest.fixture(scope="module")
def screens():
    (figures,) = json.loads((RESULTS / "default_screens.json").read_text(encoding="utf-8"))["sets"]
    return figures


@pytest.fixture(scope="module")
def camera_clips():
    (figures,) = json.loads((RESULTS / "default_real_clips.json").read_text(encoding="utf-8"))["sets"]
    return figures


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
def test_both_have_the_correlations(document, sets, screens):
    clips, photographs = sets["degraded_clips"], sets["rated_images"]
    degradations = clips["degradations"]
    strongest = degradations["untouched_above"]["h264 5"]
    pieces = [
        correlations("photographs never trained on, with MOS", photographs["score"]),
        correlations("degraded clips of contents never trained on, with VMAF", degradations["vmaf"]),
        correlations("the same, with the label trained on", clips["score"]),
        correlations("rendered screens never trained on, with the label", screens["score"]),
        *(
            f"| versions of one {one}, with the label: mean over {one}s | {degradations[key]['n']} | "
            f"{degradations[key]['srcc']:.3f} | |"
            for one, key in (("source", "within_source"), ("reference", "within_reference"))
        ),
        f"strongest H.264 compression for {percent(strongest['share'])} of {strongest['n']} references.",
        f"{percent(photographs['coverage']['share'])} of the photographs and "
        f"{percent(clips['coverage']['share'])} of the clips "
        f"({percent(degradations['vmaf_coverage']['share'])} where VMAF is taken for the truth)",
    ]
    assert not missing(document, pieces)


def test_the_model_card_has_the_rest(sets):
    clips, photographs = sets["degraded_clips"], sets["rated_images"]
    pieces = [
        f"| {kind} | {figures['n']} | {percent(figures['share'])} |"
        for kind, figures in clips["degradations"]["untouched_above"].items()
    ]
    for figures, what in ((clips, "clips"), (photographs, "photographs")):
        level = figures["level"]
        pieces.append(f"{percent(level['share'])} of the {level['n']} {what}")
    calibration = json.loads((RESULTS / "default_calibration.json").read_text(encoding="utf-8"))
    pieces.append(f"multiplied by {calibration['score_std_scale']:.3f}")
    pieces.append(f"All {len(load_training_videos(ROOT / 'default_checkpoint').videos):,} training videos")
    assert not missing("model_card.md", pieces)


@pytest.mark.parametrize(
    ("document", "coverage"), [("README.md", "but for {} of the camera"), ("model_card.md", "{} of their labels")]
)
def test_both_lead_with_camera_clips(camera_clips, document, coverage):
    figures = camera_clips["contents"]["contents"]["real clips"]
    low, high = figures["intervals"]["within"]
    pieces = [
        correlations("camera clips, 27 contents in 41 versions, with the label", figures),
        f"order inside one | 27 | {figures['within']:.3f} ({low:.3f}-{high:.3f}) | |",
        coverage.format(percent(camera_clips["coverage"]["share"])),
    ]
    assert not missing(document, pieces)
