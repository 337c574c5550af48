"""The figures that README, model card and docs give for the embedded default are those that are stored."""

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
        correlations(
            "the same contents in ten common versions, with the label", parts["real clips, ten set versions"]
        ),
        correlations("the same ten, with VMAF alone", parts["real clips, ten set versions, with VMAF"]),
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


def stored(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def calibration_pieces():
    called = next(row for row in stored("default_calibration")["pairs, by probability"] if row["from"] == 0.85)
    yield "docs/compare_encodes.md", f"90 % was right for {percent(called['share'])} of {called['n']}"
    report = stored("default_calibration")
    widened = f"widened {report['score_std_scale']:.2f} times: {percent(report['after']['share'])} of its validation"
    yield "docs/results.md", widened


def reward_pieces():
    for steps in stored("reward_hacking")["clips"].values():
        for step, what in ((steps[0], "as encoded"), (steps[-1], "as rewarded")):
            yield (
                "docs/guard_a_pipeline.md",
                f"| {what} | {step['score']:.1f} | {step['vmaf']:.1f} | {step['psnr']:.1f} |",
            )


def engine_pieces():
    modes = stored("precision_default")["models"]["default_checkpoint"]
    yield "docs/results.md", f"move by {modes['bfloat16']['max_difference']:.2f} at most in bfloat16"
    page = stored("browser")
    words = f"{page['mean difference']:.2f} on average and {page['largest difference']:.2f} at most".replace("0.", ".")
    yield "docs/onnx_and_browser.md", words
    for engine in stored("onnx")["engines"].values():
        seconds = f"| {engine['cpu seconds a second of video']:.3f} |".replace("0.", ".")
        yield "docs/onnx_and_browser.md", seconds


@pytest.mark.parametrize(
    "pieces", [calibration_pieces, reward_pieces, engine_pieces], ids=lambda pieces: pieces.__name__
)
def test_docs_have_the_figures(pieces):
    assert not [piece for document, piece in pieces() if missing(document, [piece])]


def test_results_of_other_weights_say_so():
    current = json.loads((ROOT / "default_checkpoint" / "selfcheck.json").read_text(encoding="utf-8"))["weights"]
    readme = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8").splitlines()
    for path in RESULTS.glob("*.json"):
        weights = json.loads(path.read_text(encoding="utf-8")).get("weights")
        if weights not in (None, current):
            (row,) = [line for line in readme if line.startswith(f"| `results/{path.name}`")]
            assert f"weights {weights[:8]}" in row, path.name
