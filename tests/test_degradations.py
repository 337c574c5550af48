"""How degraded clips are judged, on rows small enough to count by hand."""

import pytest

from lmmvqa.evaluation.degradations import (
    content_figures,
    damages_named,
    degradation_figures,
    is_content_set,
    is_degraded_set,
    reference_of,
    source_of,
    untouched_above,
    within,
)
from lmmvqa.evaluation.results import described, figures_of
from lmmvqa.evaluation.tables import checkpoint_tables
from lmmvqa.processing.answers_lmmvqa import DAMAGE_ANSWERS, DAMAGES


def row(reference: str, distortion: str, strength: int, mos: float, score: float | None) -> dict:
    return {
        "video": f"{reference}-{distortion}{strength}.mkv",
        "source": "clip.mp4",
        "distortion": distortion,
        "strength": strength,
        "mos": mos,
        "vmaf": mos + 1,
        "score": score,
        "score_std": 10.0,
    }


ROWS = [
    row("clip-0", "none", 0, 98.0, 90.0),
    row("clip-0", "h264", 5, 10.0, 80.0),
    row("clip-0", "h264", 1, 80.0, 95.0),
    row("clip-0", "freeze", 1, 97.5, 99.0),
    row("clip-1", "none", 0, 97.0, 60.0),
    row("clip-1", "h264", 5, 12.0, 50.0),
    row("clip-1", "blur", 2, 50.0, 70.0),
    row("clip-1", "noise", 2, 50.5, None),
]
SCORED = ROWS[:-1]


def test_each_degraded_clip_is_compared_with_its_own_reference():
    assert untouched_above(SCORED) == {
        "blur": {"n": 1, "share": 0.0, "unchanged": 0},
        "freeze": {"n": 0, "share": None, "unchanged": 1},  # half a point of VMAF is no freeze that can be seen
        "h264": {"n": 3, "share": pytest.approx(2 / 3), "unchanged": 0},
        "h264 5": {"n": 2, "share": 1.0, "unchanged": 0},
    }


def test_a_reference_without_score_has_no_pairs():
    assert untouched_above(SCORED[1:4]) == {}


def test_correlation_within_a_reference_is_averaged_over_references():
    figures = within(reference_of, [of_row for of_row in SCORED if of_row["distortion"] != "freeze"])
    # Ranks 2, 1, 3 of scores against 3, 1, 2 in the first; 2, 1, 3 against 3, 1, 2 in the second
    assert figures == {"n": 2, "srcc": pytest.approx(0.5)}
    assert within(source_of, SCORED)["n"] == 1


def test_parts_too_small_to_rank_are_not_counted():
    assert within(reference_of, ROWS[:2]) == {"n": 0, "srcc": None}


def test_a_clip_without_score_is_a_failure():
    figures = degradation_figures(ROWS)
    assert (figures["vmaf"]["n"], figures["vmaf"]["failures"]) == (7, 1)
    assert "noise" not in figures["untouched_above"]
    assert figures["vmaf_coverage"] == {"n": 7, "share": pytest.approx(4 / 7)}  # 90, 95, 99 and 70 of 99, 81, 98.5, 51


def predicted(rows: list[dict], *names: str) -> list[dict]:
    """Rows as they stand in `predictions.jsonl`."""
    facts = {"dataset": "degraded_clips", "split": "test", "group": "g", "id": "0"}
    return [
        described(facts | row, (0, 100), (40, 60)) | {name: row[name] for name in ("score", "score_std", *names)}
        for row in rows
    ]


def table_of(predictions: list[dict]) -> str:
    entry = {"dataset": predictions[0]["dataset"], "part": "test", "protocol": "in_sample", "left_out": 0}
    head = {"model": "m", "readout": "score", "versions": {}, "notes": []}
    return checkpoint_tables(head | {"sets": [entry | figures_of(predictions, ["score"])]})


def test_the_table_tells_how_degraded_clips_are_judged():
    predictions = predicted(ROWS)
    assert is_degraded_set(predictions) and not is_degraded_set([{"video": "a.mp4", "mos": 1.0}])
    table = table_of(predictions)
    assert "## degraded_clips test: degradations" in table
    assert "| h264 | 67 % | 3 | 0 |" in table and "| freeze |  | 0 | 1 |" in table
    assert "degraded_clips test, degradations: got" in table_of(predictions[:2])


# clips of many contents


def chained(content: str, version: str, mos: float, score: float | None, **facts) -> dict:
    of_row = {"group": content, "kind": "people", "is_real": True, "dataset": "degraded_contents", "width": 640}
    of_row |= {"video": f"{content}-{version}.mkv", "content": content, "version": version, "mos": mos, "score": score}
    return of_row | {"chain": "[]", "damage": {}, "vmaf": mos, "height": 360, "fps": 25.0, "score_std": 10.0} | facts


def content_rows(content: str, scores: list[float], **facts) -> list[dict]:
    versions = [("untouched", 99.0), ("medium blur", 70.0), ("chain 0", 40.0), ("chain 1", 98.5)]
    return [chained(content, *of, score, **facts) for of, score in zip(versions, scores, strict=True)]


CONTENT_ROWS = [
    *content_rows("street", [90.0, 70.0, 50.0, 80.0]),
    *content_rows("room", [60.0, 80.0, 20.0, 50.0]),
    *content_rows("wall", [60.0, 50.0, 40.0, 55.0], kind="photograph-pan", is_real=False),
    *content_rows("doom", [60.0, 50.0, 40.0, None], kind="game", is_real=False),
]


def test_common_damage_at_set_strengths_has_rows_of_its_own_with_the_label_and_with_vmaf():
    rows = CONTENT_ROWS[:4] + [
        chained("street", "h264 crf 30", 80.0, 75.0, vmaf=95.0),
        chained("street", "h264 crf 46", 20.0, 10.0, vmaf=97.0),
        chained("doom", "h264 crf 46", 20.0, 10.0, kind="game", is_real=False),
    ]
    parts = content_figures(rows, samples=50)["contents"]
    assert parts["real clips"]["n"] == 6
    for part, srcc in (("ten set versions", 1.0), ("ten set versions, with VMAF", 0.5)):
        assert (parts[f"real clips, {part}"]["n"], parts[f"real clips, {part}"]["within"]) == (3, pytest.approx(srcc))


def test_figures_of_contents_are_told_apart_by_what_they_show():
    figures = content_figures(CONTENT_ROWS, samples=50)
    parts = figures["contents"]
    assert list(parts) == ["real clips", "real clips: people", "pans", "renders and games"]
    real = parts["real clips"]
    assert (real["n"], real["groups"]) == (8, 2)
    # 1 in the street; labels 4 2 1 3 against scores 3 4 1 2 in the room
    assert real["within"] == pytest.approx((1 + 0.4) / 2)
    assert (real["lowest"], real["share_well_ordered"]) == (pytest.approx(0.4), 0.5)
    # groups are drawn whole: the interval reaches from one content alone to the other
    assert real["intervals"]["within"] == pytest.approx((0.4, 1.0))
    assert real["intervals"]["srcc"][0] < real["srcc"] < real["intervals"]["srcc"][1]
    assert (parts["renders and games"]["n"], parts["renders and games"]["failures"]) == (3, 1)
    rendered = [row | {"score": None} for row in CONTENT_ROWS if row["kind"] == "game"]
    of_failed = content_figures(rendered, samples=50)["contents"]["renders and games"]
    assert (of_failed["n"], of_failed["failures"], of_failed["srcc"], of_failed["lowest"]) == (0, 4, None, None)


def test_untouched_clips_are_compared_with_each_version_of_real_ones():
    assert content_figures(CONTENT_ROWS, samples=50)["untouched_above"] == {
        "chain": {"n": 2, "share": 1.0, "unchanged": 2},
        "medium blur": {"n": 2, "share": 0.5, "unchanged": 0},
    }


def test_ladders_count_steps_that_rise():
    def ladder(content: str, scores: list[float], **facts) -> list[dict]:
        crfs = zip((18, 21, 24), scores, strict=True)
        return [
            chained(content, f"h264 crf {crf}", 90 - crf, score, dataset="ladders", **facts) for crf, score in crfs
        ]

    rows = [*ladder("street", [90.0, 91.0, 80.0]), *ladder("street", [50.0, 57.5, 40.0], width=320, height=180)]
    counts = {"ladders": 2, "steps": 4, "largest": 7.5}
    assert content_figures(rows, samples=50)["ladders"] == counts | {"allowed": 2.0, "rises": 1}
    # 2 % of the range from 40 to 91
    own = content_figures(rows, own_scale=True, samples=50)["ladders"]
    assert own == counts | {"allowed": pytest.approx(1.02), "rises": 1}
    for row in rows:
        row["score"] /= 100
    assert content_figures(rows, own_scale=True, samples=50)["ladders"]["rises"] == 1


def damaged(strengths: dict[str, float], probabilities: dict[str, float] | None, **facts) -> dict:
    answer = probabilities and dict.fromkeys(DAMAGE_ANSWERS, 0.0) | probabilities
    of_row = chained("street", "chain 0", 50.0, 60.0, damage=dict.fromkeys(DAMAGES, 0.0) | strengths, **facts)
    return of_row | {"damage_answer": answer}


DAMAGED_ROWS = [
    damaged({"blur": 4.0, "noise": 1.9}, {"blur": 0.6, "noise": 0.4}),
    damaged({"blur": 2.0, "noise": 3.0}, {"none": 0.6, "noise": 0.25, "blur": 0.15}),
    damaged({"blur": 1.9, "noise": 0.5}, {"shake": 1.0}),  # mild
    damaged({"blur": 0.49}, {"none": 0.2, "noise": 0.1}, is_real=False, kind="game"),  # named though improbable
    damaged({"freeze": 5.0}, {"freeze": 1.0}, is_real=False, kind="game"),
]


def test_recall_and_precision_of_what_is_named():
    figures = damages_named(DAMAGED_ROWS)
    kinds = figures["kinds"]
    assert list(kinds) == list(DAMAGE_ANSWERS) and figures["n"] == 4
    assert kinds["blur"] == {"n": 2, "recall": 0.5, "named": 1, "precision": 1.0}
    assert kinds["noise"] == {"n": 1, "recall": 1.0, "named": 2, "precision": 0.5}
    assert kinds["none"] == {"n": 1, "recall": 1.0, "named": 2, "precision": 0.5}
    assert kinds["freeze"] == {"n": 1, "recall": 1.0, "named": 1, "precision": 1.0}
    assert kinds["shake"] == {"n": 0, "recall": None, "named": 0, "precision": None}
    assert figures["macro_recall"] == pytest.approx((0.5 + 1 + 1 + 1) / 4)
    assert damages_named([])["macro_recall"] is None


def test_damage_has_figures_where_the_model_was_asked():
    figures = content_figures([*DAMAGED_ROWS, *CONTENT_ROWS], samples=50)["damage"]
    assert {part: of_part["n"] for part, of_part in figures.items()} == {"real clips": 2, "all clips": 4}
    assert "damage" not in content_figures(CONTENT_ROWS, samples=50)


def test_the_table_tells_how_well_damage_is_named():
    table = table_of(predicted(DAMAGED_ROWS, "damage_answer"))
    assert "| blur | 2 | 50 % | 1 | 100 % | 2 | 50 % | 1 | 100 % |" in table
    assert "| low resolution | 0 |  | 0 |  | 0 |  | 0 |  |" in table
    assert "| mean | 2 | 75 % |  |  | 4 | 88 % |  |  |" in table


def test_the_table_has_a_line_for_each_kind_of_content():
    predictions = predicted(CONTENT_ROWS)
    assert is_content_set(predictions) and not is_content_set([{"video": "a.mp4", "mos": 1.0}])
    table = table_of(predictions)
    assert "## degraded_contents test: contents" in table
    assert "| real clips | 8 | 0 | 2 |" in table and "| renders and games | 3 | 1 | 1 |" in table
    assert "| medium blur | 50 % | 2 | 0 |" in table and "Ladders" not in table
