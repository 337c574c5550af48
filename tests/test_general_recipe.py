"""Rendered scenes: their answers are what the pixels show, and a first frame tells nothing about motion and order."""

import json
import sys

import numpy as np
import pytest
import torch
from conftest import tiny_pair

from lmmvqa.datasets_scripts.prepare import prepare
from lmmvqa.datasets_scripts.rows import load_rows
from lmmvqa.evaluation.multiple_choice import read_choice_questions
from lmmvqa.evaluation.vcgbench import read_questions
from lmmvqa.processing.answers_lmmvqa import DAMAGES
from recipes.general import render_scenes
from recipes.general.damage_questions import damage_questions
from recipes.general.render_scenes import COLOURS, DIRECTIONS, background, conversation, rated_scene, render_scene
from recipes.general.small_general import answer_words, least_squares, whitening


def disc_of(frame: np.ndarray) -> tuple[float, float, str] | None:
    """Middle and colour of what is coloured in a frame, or None."""
    coloured = np.ptp(frame.astype(int), axis=-1) > 100
    if not coloured.any():
        return None
    rows, columns = np.nonzero(coloured)
    mean = frame[coloured].mean(0)
    colour = min(COLOURS, key=lambda name: np.abs(mean - COLOURS[name]).sum())
    return columns.mean(), rows.mean(), colour


def scenes(kind: str, count: int = 12):
    for seed in range(count):
        scene = render_scene(kind, background(seed), np.random.default_rng(seed))
        assert scene.frames.shape == (24, 112, 112, 3) and scene.frames.dtype == np.uint8
        yield scene


def test_motion_goes_where_the_answer_says():
    answers = set()
    for scene in scenes("motion"):
        (x, y, colour), (last_x, last_y, _) = disc_of(scene.frames[0]), disc_of(scene.frames[-1])
        _, choices, right, in_words = scene.questions["motion"]
        moved = np.array([last_x - x, last_y - y])
        assert np.abs(moved).max() > 20 and in_words == f"The disc moves {right}."
        assert choices == tuple(DIRECTIONS) and np.sign(moved.round()).tolist() == list(DIRECTIONS[right])
        assert scene.questions["colour"][2] == colour
        assert 40 < x < 72 and 40 < y < 72  # where it starts says nothing
        answers.add(right)
    assert answers == set(DIRECTIONS)


def test_order_is_that_of_the_frames():
    for scene in scenes("order"):
        seen = [disc[2] for disc in map(disc_of, scene.frames) if disc is not None]
        order = list(dict.fromkeys(seen))
        assert disc_of(scene.frames[0]) is None and len(order) == 2
        assert scene.questions["order"][2:] == (order[0], f"First {order[0]} appears, then {order[1]}.")


@pytest.mark.parametrize("kind", ["count", "colour"])
def test_still_scenes_show_their_answer_in_the_first_frame(kind):
    for scene in scenes(kind):
        assert (scene.frames == scene.frames[0]).all()
        _, choices, right, _ = scene.questions[kind]
        assert right in choices
        if kind == "colour":
            assert disc_of(scene.frames[0])[2] == right
        else:
            area = (np.ptp(scene.frames[0].astype(int), axis=-1) > 60).sum()
            assert round(area / (np.pi * 9**2)) == int(right)


def test_damage_is_what_the_answer_says():
    seen = set()
    for seed in range(30):
        ground = background(seed)
        scene = render_scene("damage", ground, np.random.default_rng(seed))
        (_, choices, damage, _), (_, _, level, _) = scene.questions["damage"], scene.questions["strength"]
        assert choices == tuple(render_scenes.DAMAGES)
        frames, is_strong = scene.frames.astype(float), level == "strong"
        assert ((frames[0] != frames[-1]).any()) == (damage == "noise")
        corner = np.s_[:, :16, :16]
        if damage == "darkness":
            assert (frames[corner].mean() < 0.6 * ground[:16, :16].mean()) == is_strong
        elif damage == "noise":
            assert (np.diff(frames, axis=0)[corner].std() > 40) == is_strong
        else:
            side = 1 + np.flatnonzero((frames[0, 0, 1:] != frames[0, 0, 0]).any(-1))[0]
            assert (side >= 8) == is_strong and side > 3
        seen.add((damage, level))
    assert len(seen) == 6


def test_the_worse_half_is_the_one_that_was_damaged():
    seen = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        scene = render_scene("half", background(seed), rng)
        _, choices, right, in_words = scene.questions["half"]
        assert choices == ("left", "right") and in_words == f"The {right} half looks worse."
        untouched = render_scenes.HALVES["right" if right == "left" else "left"]
        damaged = render_scenes.HALVES[right]
        # What stands in both halves of the ground, the disc aside
        off = [np.abs(scene.frames[half] - background(seed)[half[1:]].round()).mean() for half in (untouched, damaged)]
        assert off[0] < off[1]
        seen.add(right)
    assert seen == {"left", "right"}


def test_conversations_are_in_words_or_with_choices():
    question = ("Which?", ("red", "blue"), "blue", "It is blue.")
    given = set()
    for seed in range(40):
        (asked, answered) = conversation([question], np.random.default_rng(seed))
        text, answer = asked["value"], answered["value"]
        given.add(answer)
        if answer in ("A", "B"):
            assert f"{answer}. blue" in text
        else:
            assert text == ("Which?" if answer == "It is blue." else "Which?\nAnswer briefly.")
    assert given == {"It is blue.", "blue", "A", "B"}
    unlettered = [conversation([question], np.random.default_rng(seed), 0.0)[1]["value"] for seed in range(40)]
    assert set(unlettered) == {"It is blue.", "blue"}


def test_the_rating_falls_with_the_noise():
    pairs = [rated_scene(background(0), np.random.default_rng(seed)) for seed in range(6)]
    noise = [np.diff(frames.astype(float), axis=0)[:, :16, :16].std() for frames, _ in pairs]
    assert np.argsort(noise).tolist() == np.argsort([-mos for _, mos in pairs]).tolist()


def test_the_command_splits_by_background(tmp_path, monkeypatch):
    out = tmp_path / "scenes"
    monkeypatch.setattr(
        sys,
        "argv",
        [
            *("render", "--out", str(out), "--num_clips", "48", "--num_rated", "12"),
            *("--num_backgrounds", "10", "--seed", "3"),
        ],
    )
    render_scenes.main()
    train = json.loads((out / "train.json").read_text())
    test = read_choice_questions(out / "test.json")
    assert {of.video for of in read_questions([out / "generic_qa.json"])} <= {
        question.video.removesuffix(".mp4") for question in test
    }
    of_test = {question.video for question in test}
    assert len(train) + len(of_test) == 48 and of_test.isdisjoint(record["video"] for record in train)
    assert {question.kind for question in test} == {*render_scenes.KINDS, "strength"}
    (report,) = prepare("instruction_json", out / "train.json", tmp_path / "rows")
    assert (report["n"], report["missing"]) == (len(train), 0)
    (of_train, of_validation) = prepare("csv", out / "rated.csv", tmp_path / "rated")
    assert of_train["n"] + of_validation["n"] == 12 and of_validation["split"] == "validation"
    row = load_rows(tmp_path / "rows")["train"][0]
    assert row["conversations"][0]["content"].startswith("<video>\n")


def test_damage_is_asked_about_where_it_is_clear():
    nothing = dict.fromkeys(DAMAGES, 0.0)
    rng = np.random.default_rng(0)
    clear = damage_questions(nothing | {DAMAGES[0]: 4.0}, rng)
    text, choices, right, _ = clear["damage"]
    assert text == "What is wrong with this video?" and right in choices and len(set(choices)) == 4
    assert damage_questions(nothing, rng)["damage"][2] == "none"
    assert "damage" not in damage_questions(nothing | {DAMAGES[0]: 1.0}, rng)
    assert "damage" not in damage_questions(nothing | {DAMAGES[0]: 4.0, DAMAGES[1]: 3.0}, rng)
    answers = {damage_questions(dict.fromkeys(DAMAGES, strength), rng)["whether"][2] for strength in (0.0, 3.0)}
    assert answers == {"No", "Yes"}
    assert "whether" not in damage_questions(dict.fromkeys(DAMAGES, 1.0), rng)


def test_features_are_whitened_and_words_are_found_in_them():
    torch.manual_seed(0)
    drawn = torch.randn(4000, 6) * torch.tensor([100.0, 10.0, 5.0, 1.0, 1.0, 1.0])
    features = drawn @ torch.linalg.qr(torch.randn(6, 6))[0] + 50
    white, shift = whitening(features)
    covariance = torch.cov((features @ white.T + shift).T)
    eigenvalues = torch.linalg.eigvalsh(covariance)
    # The least directions stay small
    torch.testing.assert_close(eigenvalues[-1], torch.tensor(1.0), rtol=0.05, atol=0)
    assert eigenvalues[0] < 0.1
    targets = drawn[:, :1] @ torch.randn(1, 3) + 2
    weight, bias = least_squares(features @ white.T + shift, targets)
    given = (features @ white.T + shift) @ weight.T + bias
    torch.testing.assert_close(given.mean(0), targets.mean(0))
    for of_given, of_target in zip(given.T, targets.T, strict=True):
        assert torch.corrcoef(torch.stack([of_given, of_target]))[0, 1] > 0.99


def test_rare_words_of_answers_count_most():
    model, processor = tiny_pair()

    def words(*answers: str) -> torch.Tensor:
        turns = [[{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}] for answer in answers]
        return answer_words(model, processor, turns)

    assert not words("fair", "fair").any()  # what all say says nothing
    often, same, rare = words("good", "good", "17")
    torch.testing.assert_close(often, same)
    only, *_ = words("good", "17", "17")
    torch.testing.assert_close(only, often * np.log(3) / np.log(3 / 2))  # no token of one is in the other
    assert rare.any()
