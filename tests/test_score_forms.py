"""Scores as the expected value of five words, beside the numbers 0 to 100: questions, answers, readout, training."""

import re

import pytest
import torch
from conftest import run, tiny_pair
from test_score_losses import BESIDE, batch_of
from transformers import AutoProcessor

from lmmvqa.processing.answers_lmmvqa import CATEGORIES, AnswerParsingError, score_answer
from lmmvqa.scoring.scorer import load_scorer
from lmmvqa.training.qa_pairs import QaPairs, question_templates
from lmmvqa.training.score_losses import ScoreLoss
from lmmvqa.training.trained_parts import train_only


MOS = [14.0, 50.0, 83.0]


@pytest.fixture
def pair():
    """A model and a processor that asks for categories."""
    model, processor = tiny_pair()
    processor.score_form = "categories"
    processor.score_question = question_templates("score", score_form="categories")[0].question
    return model, processor


def test_every_question_names_the_five_words_and_no_number():
    templates = question_templates("score", score_form="categories")
    assert len({template.question for template in templates}) == 24 * 12
    for template in templates:
        words = re.findall("|".join(CATEGORIES), template.question)
        assert words[-5:] == list(CATEGORIES) and not re.search(r"\d|\bnumber|\bthree", template.question), (
            template.question
        )


@pytest.mark.parametrize(
    ("mos", "answer"),
    [(-3, "bad"), (19.9, "bad"), (20, "poor"), (50, "fair"), (79.9, "good"), (80, "excellent"), (104, "excellent")],
)
def test_a_mos_is_answered_by_the_word_of_its_fifth(mos, answer):
    assert score_answer(mos, "categories") == answer


def test_the_score_is_the_expected_value_of_the_words(pair):
    probabilities = torch.tensor([[0.1, 0.2, 0.4, 0.2, 0.1], [0.0, 0.0, 0.25, 0.75, 0.0]], dtype=torch.float64)
    results = pair[1].post_process_scores(probabilities.log())
    assert [result.score for result in results] == pytest.approx([50.0, 65.0])
    assert [result.score_std for result in results] == pytest.approx([480**0.5, 75**0.5])
    assert [result.answer for result in results] == ["fair", "good"]
    assert [result.level for result in results] == ["fair", "good"]
    assert results[0].level_probabilities == pytest.approx({"poor": 0.3, "fair": 0.4, "good": 0.3})


def test_a_written_word_is_a_score(pair):
    assert pair[1].post_process_answer("Excellent.").score == 90.0
    with pytest.raises(AnswerParsingError, match="'63', expected exactly one of bad, poor, fair, good, excellent"):
        pair[1].post_process_answer("63")


def test_another_form_is_refused(pair):
    with pytest.raises(ValueError, match="got score_form='stars', expected one of numbers, categories"):
        type(pair[1])(pair[1].video_processor, pair[1].tokenizer, score_form="stars")


def test_soft_labels_too_narrow_for_the_words_are_refused():
    with pytest.raises(ValueError, match="got soft_label_std=5 for answers 20 MOS apart, expected at least 10"):
        ScoreLoss([[1], [2]], [10.0, 30.0], soft_label_std=5)


@pytest.mark.parametrize("options", [{}, {"soft_label_std": 10.0}])
def test_a_tiny_model_learns_the_words(pair, clips, options):
    model, processor = pair
    train_only(model, ["spatial_projector", "temporal_projector", "language_model"])
    videos = processor.video_processor.encode(clips, model)
    rows = [{"video": video, "mos": mos, "dataset": "tiny"} for video, mos in zip(videos, MOS, strict=True)]
    pairs = QaPairs(rows, ("score",), {}, inference_share=1.0, score_form="categories")
    assert [pairs[index]["answer"] for index in range(3)] == ["bad", "fair", "excellent"]
    batch = batch_of(processor, pairs)
    beside = [batch.pop(of_row) for of_row in BESIDE]
    loss = ScoreLoss(processor.score_answer_ids, [*CATEGORIES.values()], **options)
    inputs = loss.with_answer_nodes(batch, model.dtype)
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=6e-3)
    for _ in range(40):
        output = model(**inputs)
        added = sum(loss(loss.log_probabilities(output.logits, batch["labels"]), *beside))
        (added if options else output.loss).backward()
        optimizer.step()
        optimizer.zero_grad()
    got = [result.score for result in model.rate_videos(processor, clips)]
    # One answer is the middle of a fifth; a mean over several can be any MOS
    expected = MOS if options else [10.0, 50.0, 90.0]
    assert got == pytest.approx(expected, abs=4)


def test_a_checkpoint_that_learned_words_scores_by_them(train, monkeypatch, arguments, rows, tmp_path):
    run(train, monkeypatch, arguments, "--score_form", "categories")
    processor = AutoProcessor.from_pretrained(tmp_path / "mine")
    assert processor.score_form == "categories" and "excellent" in processor.score_question
    result = load_scorer(str(tmp_path / "mine"), "cpu")(str(rows / "0.mp4"))
    assert 10 < result["score"] < 90 and result["answer"] in CATEGORIES
    further = ["--model", tmp_path / "mine", "--output_dir", tmp_path / "more", "--export_dir", tmp_path / "further"]
    run(train, monkeypatch, [*arguments, *further])
    assert AutoProcessor.from_pretrained(tmp_path / "further").score_form == "categories"
