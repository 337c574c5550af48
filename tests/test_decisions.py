"""Typed questions about a video or a picture: the distributions of the result, by transformers' pipeline and by our own."""

import base64
import io
import json
from pathlib import Path

import pytest
from conftest import tiny_pair
from PIL import Image
from transformers import AutoModelForDecision, pipeline

from lmmvqa.checkpoints.export import save_checkpoint


QUESTIONS = {
    "quality": {"type": "score", "criteria": ["bad", "poor", "fair", "good", "excellent"]},
    "level": {"type": "choice", "criteria": {"good": None, "poor": "Hard to watch", "fair": None}},
    "wrong": {"type": "choice", "criteria": dict.fromkeys(["blur", "noise", "none"])},
}


@pytest.fixture(scope="module")
def scorer():
    model, processor = tiny_pair()
    processor.damage_question = "What is wrong with this video? Answer with one of these: blur, noise, none."
    processor.score_std_scale = 1.3
    return pipeline("video-quality-assessment", model=model, processor=processor)


@pytest.fixture(scope="module")
def checkpoint(scorer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(scorer.model, scorer.processor, folder)
    return str(folder)


@pytest.fixture(scope="module")
def decide(checkpoint):
    return pipeline("decision", model=checkpoint)


def request(video, questions=QUESTIONS) -> dict:
    return {"state": "clip", "assets": {"clip": video}, "questions": questions}


def asset(data: bytes) -> dict:
    return {"type": "video", "format": "mp4", "data_base64": base64.b64encode(data).decode()}


@pytest.fixture(scope="module")
def picture():
    return Image.effect_noise((64, 48), 80).convert("RGB")


def assert_same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, answer in expected.items():
        assert found[name]["type"] == answer["type"]
        assert found[name]["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-5)


def test_probabilities_are_those_of_the_result(scorer, clips):
    answers, result = scorer.decide(request(clips[0])), scorer(clips[0])
    assert answers["level"]["probabilities"] == pytest.approx(result["level_probabilities"])
    asked = {kind: result["damage"][kind] for kind in ("blur", "noise", "none")}
    conditional = {kind: value / sum(asked.values()) for kind, value in asked.items()}
    assert answers["wrong"]["probabilities"] == pytest.approx(conditional)
    assert answers["wrong"]["choice"] == max(asked, key=asked.get)
    quality = answers["quality"]
    assert sum(quality["probabilities"].values()) == pytest.approx(1)
    assert quality["legend"] == {"0": "bad", "1": "poor", "2": "fair", "3": "good", "4": "excellent"}
    above_60 = quality["probabilities"]["3"] + quality["probabilities"]["4"]
    assert above_60 == pytest.approx(result["level_probabilities"]["good"])  # from 60 on, too


def test_a_level_for_each_score_is_the_score(scorer, clips):
    levels = {"scores": {"type": "score", "criteria": [str(score) for score in range(101)]}}
    scale, scorer.processor.score_std_scale = scorer.processor.score_std_scale, 1.0
    try:
        answer, result = scorer.decide(request(clips[0], levels))["scores"], scorer(clips[0])
    finally:
        scorer.processor.score_std_scale = scale
    assert answer["score"] == pytest.approx(result["score"], abs=0.01)


@pytest.mark.parametrize("num_levels", [1, 2, 5, 26])
def test_calibration_moves_levels_as_it_moves_scores(scorer, clips, num_levels):
    levels = {"quality": {"type": "score", "criteria": ["level"] * num_levels}}
    before = scorer.decide(request(clips[0], levels))["quality"]["probabilities"]
    scorer.processor.score_map = [1 + score / 25 for score in range(101)]
    scorer.processor.score_std_scale, scale = scorer.processor.score_std_scale / 25, scorer.processor.score_std_scale
    try:
        after = scorer.decide(request(clips[0], levels))["quality"]["probabilities"]
    finally:
        scorer.processor.score_map, scorer.processor.score_std_scale = None, scale
    assert len(before) == num_levels and after == pytest.approx(before, abs=1e-6)


def test_windows_of_a_long_video_are_mixed(scorer, clips, monkeypatch):
    monkeypatch.setattr(scorer.processor, "max_window_seconds", 1)
    answers, result = scorer.decide(request(clips[2])), scorer(clips[2])
    assert len(result["windows"]) == 3
    assert answers["level"]["probabilities"] == pytest.approx(result["level_probabilities"])


def test_the_pipeline_of_transformers_answers_the_same(scorer, decide, clips, picture):
    data = Path(clips[1]).read_bytes()
    for video in (clips[1], asset(data), picture):
        assert_same(decide(request(video)), scorer.decide(request(video)))
    assert_same(decide(request(asset(data))), scorer.decide(request(clips[1])))
    assert_same(scorer.decide(json.dumps(request(asset(data)))), scorer.decide(request(clips[1])))
    both = decide([request(clips[0]), request(picture)])
    assert_same(both[1], scorer.decide(request(picture)))


def test_a_picture_asset(scorer, decide, picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    shown = {"type": "image", "format": "png", "data_base64": base64.b64encode(file.getvalue()).decode()}
    assert_same(decide(request(shown)), scorer.decide(request(picture)))


def test_it_is_the_model_that_answers_in_words_too(checkpoint, scorer):
    model = AutoModelForDecision.from_pretrained(checkpoint)
    assert type(model).__name__ == "LmmVqaForDecision" and not model.training
    for name, parameter in scorer.model.named_parameters():
        assert parameter.equal(model.get_parameter(name))


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"state": "a clip of a dog"}, "got the state 'a clip of a dog' and the assets clip, expected one asset"),
        ({"state": {"clip": "clip"}}, "expected one asset, and its name as the state"),
        ({"assets": {}}, "and the assets none, expected one asset"),
        ({"assets": {"clip": "a.mp4", "other": "b.mp4"}}, "the assets clip, other, expected one asset"),
        ({"assets": {"clip": ["a.mp4", "b.mp4"]}}, "got an asset of 2 videos, expected one"),
        ({"assets": {"clip": {"path": "/etc/passwd"}}}, "got an asset with path, expected a file in it"),
        ({"assets": {"clip": {"data_base64": "?"}}}, "got data_base64 that is no base64"),
        ({"assets": {"clip": asset(b"no video")}}, "Could not read the given BytesIO"),
        ({"questions": {}}, "with at least one question"),
        (
            {"questions": {"cat": {"type": "noul", "instructions": "Is it a cat?"}}},
            "got the noul question 'cat' about true, false, expected score with levels, the lowest first, or choice between",
        ),
        (
            {"questions": {"tone": {"type": "choice", "criteria": {"calm": None, "loud": None}}}},
            "got the choice question 'tone' about calm, loud, .* some of poor, fair, good or .*: the model has learned nothing",
        ),
        (
            {
                "questions": {
                    "urgent": {"type": "score", "instructions": "How urgent is it?", "criteria": ["no", "yes"]}
                }
            },
            "'urgent' with instructions 'How urgent is it\\?', expected none or 'How good is the visual quality",
        ),
    ],
)
def test_what_the_model_has_not_learned_is_refused(decide, clips, changed, message):
    with pytest.raises(ValueError, match=message):
        decide(request(clips[0]) | changed)


def test_what_is_no_request_is_refused(scorer):
    with pytest.raises(ValueError, match="got a request of type dict, expected"):
        scorer.decide({"questions": QUESTIONS})


def test_a_model_without_damage_is_not_asked_for_it(clips):
    scorer = pipeline("video-quality-assessment", model=(pair := tiny_pair())[0], processor=pair[1])
    answers = scorer.decide(request(clips[0], {"level": QUESTIONS["level"]}))
    assert answers.keys() == {"level"}
    with pytest.raises(ValueError, match="the model has learned nothing else"):
        scorer.decide(request(clips[0], {"wrong": QUESTIONS["wrong"]}))


def test_the_own_words_of_a_question_may_be_given(scorer, clips):
    asked = {"quality": QUESTIONS["quality"] | {"instructions": scorer.processor.score_question}}
    assert_same(
        scorer.decide(request(clips[0], asked)), scorer.decide(request(clips[0], {"quality": QUESTIONS["quality"]}))
    )
