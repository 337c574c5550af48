"""Questions with choices: what is asked, what counts as right, and a preference for a letter that is found out."""

import json

import numpy as np
import pytest
from conftest import tiny_pair, write_clip
from test_chat import scorer_of

from lmmvqa.checkpoints.export import save_checkpoint
from lmmvqa.evaluation.multiple_choice import (
    ChoiceQuestion,
    evaluate_multiple_choice,
    figures,
    read_choice_questions,
    wilson_interval,
)
from lmmvqa.training.feature_cache import FeatureCache


COLOURS = ("red", "green", "blue")


def test_each_choice_stands_first_once():
    question = ChoiceQuestion("1", "a.mp4", "Which colour?", COLOURS, 2, "colour")
    asked = question.rotations()
    assert asked[1] == (
        "Which colour?\nA. green\nB. blue\nC. red\nAnswer with the letter of the right choice.",
        ["A", "B", "C"],
        [1, 2, 0],
    )
    assert [order[0] for _, _, order in asked] == [0, 1, 2]
    assert question.rotations(in_words=True) == [("Which colour?\nAnswer briefly.", list(COLOURS), [0, 1, 2])]
    question = ChoiceQuestion("1", "a.mp4", "Is it red?", ("No", "Yes"), 1, "colour")
    assert question.rotations() == [("Is it red?\nAnswer with yes or no.", ["No", "Yes"], [0, 1])]


def test_records_of_q_bench_and_of_ours(tmp_path):
    records = [
        {
            "video": "a.mp4",
            "question": "Which?",
            "candidates": ["red", "blue"],
            "correct_ans": "blue",
            "kind": "colour",
        },
        {"img_path": "a.png", "question": "Which?", "candidates": ["red", "blue"], "correct_ans": "B", "type": 2},
        {"video_name": "a", "question": "Sharp?", "options": ["Yes", "No"], "answer": "Yes"},
    ]
    (tmp_path / "q.json").write_text(json.dumps(records))
    read = read_choice_questions(tmp_path / "q.json")
    assert [(question.video, question.answer, question.kind) for question in read] == [
        *(("a.mp4", 1, "colour"), ("a.png", 1, "2"), ("a", 0, "all"))
    ]
    for wrong, reason in [
        ({"correct_ans": "green"}, "answer 'green' to the choices"),
        ({"candidates": ["blue"]}, "expected one of two or more"),
        ({"candidates": ["blue", "blue"]}, "different choices"),
        ({"candidates": "red, blue"}, "expected video, question, candidates"),
        ({"video": None}, "expected video, question, candidates"),
    ]:
        (tmp_path / "q.json").write_text(json.dumps([records[1], records[0] | wrong]))
        with pytest.raises(ValueError, match=f"record 2 has .*{reason}"):
            read_choice_questions(tmp_path / "q.json")


def line(choices, answer: int, log_probabilities, kind="colour") -> dict:
    return {"choices": list(choices), "answer": answer, "log_probabilities": log_probabilities, "kind": kind}


def test_a_model_that_always_takes_the_first_letter_is_found_out():
    # Of each rotation the choice that stands first, and a little more for the second one
    always_first = [[-0.1, -2.0, -3.0], [-3.0, -0.1, -2.0], [-2.0, -3.0, -0.1]]
    knows = [[-3.0, -2.9, -0.1]] * 3
    of_all = figures([line(COLOURS, 2, always_first), line(COLOURS, 2, knows)])["kinds"]["all"]
    assert of_all["accuracy_of_a_rotation"] == pytest.approx((1 / 3 + 1) / 2)
    assert of_all["same_in_all_rotations"] == 0.5 and of_all["chance"] == pytest.approx(1 / 3)
    first = figures([line(COLOURS, 2, always_first)])["kinds"]["all"]
    assert first["letters"] == {"A": 1.0}
    even = figures([line(COLOURS, 2, knows)])["kinds"]["all"]
    assert even["letters"] == {letter: pytest.approx(1 / 3) for letter in "ABC"} and even["accuracy"] == 1


def test_figures_of_each_kind():
    lines = [line(COLOURS, 2, [[-3.0, -2.9, -0.1]] * 3), line(("no", "yes"), 1, [[-0.1, -2.0]], "sharpness")]
    kinds = figures(lines)["kinds"]
    assert {kind: (of["n"], of["accuracy"], of["chance"]) for kind, of in kinds.items()} == {
        "all": (2, 0.5, pytest.approx((1 / 3 + 1 / 2) / 2)),
        "colour": (1, 1.0, pytest.approx(1 / 3)),
        "sharpness": (1, 0.0, 0.5),
    }
    assert kinds["sharpness"]["letters"] == {}


def test_wilson_interval():
    assert wilson_interval(8, 10) == pytest.approx([0.4902, 0.9433], abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx([0, 0.2775], abs=1e-4)


def test_a_run_goes_on_where_it_was(tmp_path, monkeypatch):
    model, processor = tiny_pair()
    save_checkpoint(model, processor, tmp_path / "model")
    write_clip(tmp_path / "a.mp4")
    records = [
        {"video": "a.mp4", "question": "Which?", "candidates": list(COLOURS), "correct_ans": "blue"},
        {"video": "gone.mp4", "question": "Which?", "candidates": list(COLOURS), "correct_ans": "blue"},
        {"video": "a.mp4", "question": "Sharp?", "candidates": ["Yes", "No"], "correct_ans": "No"},
    ]
    (tmp_path / "q.json").write_text(json.dumps(records))
    given = str(tmp_path / "model"), str(tmp_path / "q.json"), str(tmp_path), str(tmp_path / "out")
    scorer = scorer_of(model, processor)
    metrics = evaluate_multiple_choice(scorer, *given)
    assert metrics["kinds"]["all"]["n"] == 2 and list(metrics["failures"]) == ["2"]
    assert "no such file" in metrics["failures"]["2"]
    file = tmp_path / "out" / "answers.jsonl"
    whole = file.read_text()
    assert [len(json.loads(text)["log_probabilities"]) for text in whole.splitlines()] == [3, 1]
    file.write_text(whole[: len(whole) // 2 + 40])  # stopped in the middle of the second line
    assert evaluate_multiple_choice(scorer, *given) == metrics and file.read_text() == whole
    in_words = evaluate_multiple_choice(scorer, *given[:3], str(tmp_path / "words"), in_words=True)
    (of_words,) = {
        tuple(map(len, json.loads(text)["log_probabilities"]))
        for text in (tmp_path / "words" / "answers.jsonl").read_text().splitlines()
        if len(json.loads(text)["choices"]) == 3
    }
    assert of_words == (3,) and in_words["kinds"]["all"]["letters"] == {}
    with pytest.raises(ValueError, match="in_words"):
        evaluate_multiple_choice(scorer, *given, in_words=True)
    cache = FeatureCache(tmp_path / "cache", model.requires_grad_(False), processor)
    from_cache = evaluate_multiple_choice(scorer, *given[:3], str(tmp_path / "cached"), cache=cache)
    assert from_cache["kinds"].keys() == metrics["kinds"].keys() and list(from_cache["failures"]) == ["2"]
    stored, computed = (
        [
            json.loads(text)["log_probabilities"]
            for text in (tmp_path / name / "answers.jsonl").read_text().splitlines()
        ]
        for name in ("cached", "out")
    )
    for of_stored, of_computed in zip(stored, computed, strict=True):
        np.testing.assert_allclose(of_stored, of_computed, atol=0.01)  # float16
    monkeypatch.setattr(scorer.model, "answer_log_probabilities", None)  # nothing is asked again
    assert evaluate_multiple_choice(scorer, *given) == metrics
