"""Questions and answers: how many, which, and that no question contradicts its task."""

import json
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, AutoTokenizer

from lmmvqa.processing.answers_lmmvqa import DAMAGE_ANSWERS, DAMAGES, LEVELS
from lmmvqa.processing.processing_lmmvqa import SYSTEM_PROMPT
from lmmvqa.scoring.scorer import default_checkpoint
from lmmvqa.training.qa_pairs import (
    PAPER_TASKS,
    TASKS,
    QaPairs,
    damage_frequencies,
    draw_damage,
    level_thresholds,
    question_templates,
)
from recipes.default.small_model import TEMPLATE_SIZES, small_model


# templates

OTHER_LEVELS = (
    r"\b(excellent|bad|acceptable|average|mediocre|moderate|medium|terrible|awful|great|perfect|decent|satisfactory|"
    r"high|low|worse|better|superb)\b"
)
OTHER_SCALES = r"\d+|percent|%|decimal|stars?|(one|two|three|four|five|six|seven|eight|nine|ten)[- ](star|point)"
EXPLANATIONS = r"\b(describe|explain|justify|because|reasons?|why|in detail)\b"


def contradictions(task: str, text: str) -> list[str]:
    """What in a question (with its system prompt) does not fit the answers of its task."""
    text = text.lower()
    # "how good" asks, and does not answer
    levels = re.findall(rf"(?<!how )\b({'|'.join(LEVELS)})\b", text)
    other = re.findall(OTHER_LEVELS, text)
    scales = [match.group() for match in re.finditer(OTHER_SCALES, text)]
    found = [f"explanation: {match}" for match in re.findall(EXPLANATIONS, text)]
    if task == "score":
        found += [f"level: {word}" for word in levels + re.findall(r"\b(?:levels?|class\w*|category|grade)\b", text)]
        # "higher means better" says which end is which
        found += [f"level: {word}" for word in other if word != "better"]
        found += [f"scale: {scale}" for scale in scales if scale not in {"0", "100"}]
        if {"0", "100"} - {*scales}:
            found.append(f"range: {scales}")
        if not re.search(r"\b(number|score|integer|value)\b", text):
            found.append("no word for a number")
    elif task == "damage":
        kinds = re.findall("|".join(DAMAGE_ANSWERS.values()), text)
        if kinds != list(DAMAGE_ANSWERS.values()):
            found.append(f"damages: {kinds}")
        found += [f"scale: {scale}" for scale in scales]
        found += [f"level: {word}" for word in levels + other if word != "low"]
        found += [f"number: {word}" for word in re.findall(r"\b(?:number|scores?|integer|rating from)\b", text)]
    else:
        found += [f"scale: {scale}" for scale in scales]
        found += [f"level: {word}" for word in other]
        found += [f"number: {word}" for word in re.findall(r"\b(?:number|scores?|integer|rating from)\b", text)]
        if levels != LEVELS:
            found.append(f"levels: {levels}")
    return found


@pytest.mark.parametrize("task", TASKS)
def test_two_thousand_templates_that_differ_by_more_than_punctuation(task):
    templates = question_templates(task)
    assert len(templates) == 10 * 24 * 12 >= 2000
    words = {" ".join(re.findall(r"\w+", " ".join(template).lower())) for template in templates}
    assert len(words) == len(templates)
    assert len({template.question for template in templates}) == 24 * 12


@pytest.mark.parametrize("task", TASKS)
def test_no_template_contradicts_its_task(task):
    found = {template: contradictions(task, " ".join(template)) for template in question_templates(task)}
    assert not {template: reasons for template, reasons in found.items() if reasons}


@pytest.mark.parametrize("task", TASKS)
def test_templates_are_whole_sentences(task):
    for template in question_templates(task):
        for text in template:
            assert re.fullmatch(r"[A-Z][^.?]*[.?]( [A-Z][^.?]*\.)?", text) and "  " not in text


def test_the_tasks_share_no_question():
    of_tasks = [{template.question for template in question_templates(task)} for task in TASKS]
    assert len(set.union(*of_tasks)) == sum(map(len, of_tasks))


@pytest.mark.parametrize(
    "task, text, reason",
    [
        ("score", "How good is it? Answer poor, fair or good.", "level: poor"),
        ("score", "Which level fits? Give a number from 0 to 100.", "level: level"),
        ("score", "Is it excellent? Give a number from 0 to 100.", "level: excellent"),
        ("score", "Give a number from 1 to 100.", "scale: 1"),
        ("score", "Give a number from 0 to 10.", "scale: 10"),
        ("score", "Give a five-point score from 0 to 100.", "scale: five-point"),
        ("score", "Give a number.", "range: []"),
        ("score", "How good is it? From 0 to 100.", "no word for a number"),
        ("score", "Describe the video and give a number from 0 to 100.", "explanation: describe"),
        ("level", "Answer poor, fair, good or excellent.", "level: excellent"),
        ("level", "Answer poor or good.", "levels: ['poor', 'good']"),
        ("level", "How good is it? Answer with one word.", "levels: []"),
        ("level", "Answer poor, fair or good, from 0 to 100.", "scale: 0"),
        ("level", "Give a score: poor, fair or good.", "number: score"),
        ("damage", "What is wrong? Answer with blur or noise.", "damages: ['blur', 'noise']"),
        ("damage", "How much noise, from 0 to 5?", "scale: 0"),
        ("damage", "Is it poor?", "level: poor"),
        ("damage", "Give a score.", "number: score"),
        ("damage", "Describe what is wrong.", "explanation: describe"),
    ],
)
def test_the_check_finds_contradictions(task, text, reason):
    assert reason in contradictions(task, text)


def test_inference_asks_the_first_template(tiny):
    stored = json.loads((Path(default_checkpoint()) / "processor_config.json").read_text())
    for task, name in zip(PAPER_TASKS, ("score_question", "level_question"), strict=True):
        first = question_templates(task)[0]
        assert first == question_templates(task, TEMPLATE_SIZES)[0]
        assert first.question == getattr(tiny[1], name) == stored[name]
        assert first.system_prompt == SYSTEM_PROMPT == stored["system_prompt"]


def test_fewer_templates_are_the_first_of_each_part():
    templates = question_templates("score", (2, 3, 1))
    assert len(templates) == 6 and set(templates) < set(question_templates("score"))
    assert len({template.system_prompt for template in templates}) == 2
    assert len({template.question for template in templates}) == 3


@pytest.mark.parametrize("sizes", [(0, 8, 5), (11, 8, 5), (1, 8), (1, 8, 5, 1)])
def test_sizes_that_do_not_exist_are_refused(sizes):
    with pytest.raises(ValueError, match=r"got the sizes \[.*up to \[10, 24, 12\]"):
        question_templates("level", sizes)


def test_the_recipe_of_the_default_still_makes_its_tokenizer():
    if AutoProcessor.from_pretrained(default_checkpoint()).damage_question is None:
        pytest.skip("the embedded default was made before the recipe knew the damage question")
    tokenizer = small_model(key_frame_size=64)[1].tokenizer
    assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(default_checkpoint()).get_vocab()


# pairs

RATED = [{"video": f"{mos}.mp4", "mos": float(mos), "dataset": "tiny"} for mos in range(5, 95, 10)]  # 5, 15 ... 85


def test_rare_damage_counts_as_often_as_it_comes_and_once_more():
    clear = dict.fromkeys(DAMAGES, 0.0)
    rows = [{"damage": clear | {"blur": 2.0, "noise": 1.0}}, {"damage": clear}, {"damage": None}, {}]
    found = dict(zip(DAMAGE_ANSWERS, damage_frequencies(rows), strict=True))
    assert sum(found.values()) == pytest.approx(1)
    counts = {kind: frequency / found["freeze"] for kind, frequency in found.items()}
    assert counts == pytest.approx(dict.fromkeys(DAMAGE_ANSWERS, 1.0) | {"blur": 1.8, "noise": 1.2, "none": 2.0})


def test_two_pairs_a_video_and_equal_thirds():
    thresholds = level_thresholds(RATED)
    assert thresholds == {"tiny": pytest.approx([95 / 3, 175 / 3])}
    pairs = list(QaPairs(RATED, ("score", "level"), thresholds))
    assert [pair["video"] for pair in pairs] == [row["video"] for row in RATED] * 2
    assert [pair["answer"] for pair in pairs[:9]] == ["5", "15", "25", "35", "45", "55", "65", "75", "85"]
    assert [pair["answer"] for pair in pairs[9:]] == ["poor"] * 3 + ["fair"] * 3 + ["good"] * 3
    for task, of_task in (("score", pairs[:9]), ("level", pairs[9:])):
        asked = {(pair["system_prompt"], pair["question"]) for pair in of_task}
        assert asked <= set(question_templates(task))
    assert len(QaPairs(RATED, ("score",), thresholds)) == 9


def test_each_data_set_has_thirds_of_its_own():
    """Joined, all of the second would be poor."""
    second = [row | {"mos": row["mos"] / 100, "dataset": "second"} for row in RATED]
    thresholds = level_thresholds([*RATED, *second])
    assert thresholds == {"second": pytest.approx([0.95 / 3, 1.75 / 3]), "tiny": pytest.approx([95 / 3, 175 / 3])}
    answers = [pair["answer"] for pair in QaPairs([*RATED, *second], ("level",), thresholds)]
    assert answers == (["poor"] * 3 + ["fair"] * 3 + ["good"] * 3) * 2


def test_questions_depend_on_the_seed_alone():
    def asked(seed, noise=0.0):
        pairs = QaPairs(RATED * 20, ("score", "level"), {"tiny": (30, 60)}, noise, seed=seed)
        return [(pair["system_prompt"], pair["question"]) for pair in pairs]

    drawn = asked(0)
    assert drawn == asked(0) == asked(0, noise=5.0)
    assert drawn != asked(1)
    assert Counter(drawn[:180])[question_templates("score")[0]] / 180 == pytest.approx(0.5, abs=0.1)
    assert len(set(drawn)) > 150  # about half of 360, hardly any twice
    assert len({system_prompt for system_prompt, _ in drawn}) == 10


def test_how_often_inference_is_rehearsed_and_of_how_many_templates():
    def asked(**options):
        pairs = QaPairs(RATED * 50, ("score",), {}, **options)
        return Counter((pair["system_prompt"], pair["question"]) for pair in pairs)

    first = question_templates("score")[0]
    assert asked(inference_share=1.0) == {first: 450}
    evenly = asked(inference_share=0.0)
    assert evenly[first] < 5 and len(evenly) > 350
    few = asked(template_sizes=TEMPLATE_SIZES)
    assert set(few) == set(question_templates("score", (1, 8, 5))) and few[first] > 200


def test_answers_stay_on_the_scale():
    pairs = QaPairs([], ("score",), {"tiny": (30, 60)})

    def answers(task, *mos):
        return [pairs.answer(task, {"mos": value, "dataset": "tiny"}) for value in mos]

    assert answers("score", -3, 0.4, 62.5, 63.5, 104) == ["0", "0", "62", "64", "100"]
    assert answers("level", 29.9, 30, 60) == ["poor", "fair", "good"]


def test_noise_is_drawn_anew_each_epoch_and_spares_levels():
    rows = [{"video": "a.mp4", "mos": 50.0, "dataset": "tiny"}] * 500
    pairs = QaPairs(rows, ("score", "level"), {"tiny": (50, 60)}, score_noise=5.0)
    answers = [pair["answer"] for pair in pairs]
    assert answers == [pair["answer"] for pair in pairs]
    positions = [pair["position"] for pair in pairs]
    assert min(positions) < 0.1 and max(positions) > 0.9 and max(positions) < 1
    pairs.set_epoch(1)
    assert answers != [pair["answer"] for pair in pairs] and positions != [pair["position"] for pair in pairs]
    drawn = torch.tensor([float(answer) for answer in answers[:500]])
    assert drawn.mean() == pytest.approx(50, abs=1) and drawn.std() == pytest.approx(5, abs=1)
    assert set(answers[500:]) == {"fair"}


def test_a_share_of_answers_is_learned_from_one_second():
    rows = [{"video": "a.mp4", "mos": 50.0, "dataset": "tiny"}] * 500
    assert not any(pair["one_second"] for pair in QaPairs(rows, ("score",), {"tiny": (50, 60)}))
    pairs = QaPairs(rows, ("score",), {"tiny": (50, 60)}, one_second_share=0.2)
    drawn = [pair["one_second"] for pair in pairs]
    assert 70 < sum(drawn) < 130
    pairs.set_epoch(1)
    assert drawn != [pair["one_second"] for pair in pairs]


# what is wrong


def strengths(**seen) -> dict[str, float]:
    return dict.fromkeys(DAMAGES, 0.0) | seen


DAMAGED = [
    {"video": "a.mp4", "mos": 50.0, "dataset": "tiny", "damage": strengths(blur=4.0, noise=2.0, freeze=0.49)},
    {"video": "b.mp4", "mos": 98.0, "dataset": "tiny", "damage": strengths(low_resolution=0.4)},
    {"video": "c.mp4", "mos": 70.0, "dataset": "tiny", "damage": strengths(low_resolution=0.5)},
    {"video": "d.jpg", "mos": 70.0, "dataset": "photographs"},
    {"video": "e.mp4", "mos": 70.0, "dataset": "tiny", "damage": None},
]


def test_damage_is_drawn_by_squared_strength():
    rng = np.random.default_rng(0)
    drawn = Counter(draw_damage(DAMAGED[0]["damage"], rng) for _ in range(2000))
    assert set(drawn) == {"blur", "noise"} and drawn["blur"] / 2000 == pytest.approx(16 / 20, abs=0.03)
    assert {draw_damage(DAMAGED[1]["damage"], rng) for _ in range(50)} == {"none"}
    assert {draw_damage(DAMAGED[2]["damage"], rng) for _ in range(50)} == {"low resolution"}


def test_rows_without_damage_are_asked_the_other_questions_alone():
    thresholds = level_thresholds(DAMAGED)
    of_paper = QaPairs(DAMAGED * 40, PAPER_TASKS, thresholds, score_noise=5.0, seed=3)
    pairs = QaPairs(DAMAGED * 40, TASKS, thresholds, score_noise=5.0, seed=3)
    assert len(of_paper) == 2 * 200 and len(pairs) == 2 * 200 + 3 * 40
    pairs.set_epoch(2), of_paper.set_epoch(2)
    for index in range(400):  # the paper's questions and answers stay as they were
        same = zip(pairs[index].items(), of_paper[index].items(), strict=True)
        assert all(ours == theirs or ours[0] == "score" for ours, theirs in same)
    damages = [pairs[index] for index in range(400, 520)]
    assert {pair["video"] for pair in damages} == {"a.mp4", "b.mp4", "c.mp4"}
    asked = {(pair["system_prompt"], pair["question"]) for pair in damages}
    assert asked <= set(question_templates("damage")) and len(asked) > 40
    assert all(math.isnan(pair["score"]) for pair in damages)


def test_damage_is_drawn_anew_each_epoch_and_the_same_in_a_resumed_run():
    def answers(seed, epoch):
        pairs = QaPairs(DAMAGED[:1] * 100, ("damage",), {}, seed=seed)
        pairs.set_epoch(epoch)
        return [pair["answer"] for pair in pairs]

    assert answers(0, 1) == answers(0, 1)
    assert answers(0, 1) != answers(0, 2) and answers(0, 1) != answers(1, 1)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("damage", "got the task 'damage' and no row with the column damage, expected some of `lmmvqa prepare"),
        ("damages", "got the task 'damages', expected some of score, level, damage"),
    ],
)
def test_tasks_that_cannot_be_asked_are_refused(task, message):
    with pytest.raises(ValueError, match=message):
        QaPairs(DAMAGED[3:], ("score", task), {})
