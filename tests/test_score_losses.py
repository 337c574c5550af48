"""Losses of the distribution over score answers: what they are, for any tokenizer, and that they teach."""

import pytest
import torch
from conftest import tiny_pair
from test_modeling_lmmvqa import with_split_digits

from lmmvqa.training.data_collator import LmmVqaDataCollator
from lmmvqa.training.qa_pairs import QaPairs
from lmmvqa.training.score_losses import ScoreLoss
from lmmvqa.training.trained_parts import train_only


@pytest.fixture(scope="module")
def videos(clips):
    """What frozen towers make of the clips."""
    model, processor = tiny_pair()
    return processor.video_processor.encode(clips, model)


@pytest.fixture(params=["merged", "split"])
def pair(request):
    """A model and its processor, of which one number is one token, or each digit."""
    model, processor = tiny_pair()
    train_only(model, ["spatial_projector", "temporal_projector", "language_model"])
    return model, processor if request.param == "merged" else with_split_digits(model)


def rated(videos, contents=()) -> QaPairs:
    rows = [{"video": video, "mos": 30.0 * index, "dataset": "tiny"} for index, video in enumerate(videos)]
    for row, content in zip(rows, contents or (), strict=bool(contents)):
        row["content"] = content
    return QaPairs(rows, ("score", "level"), {"tiny": (20.0, 50.0)})


def batch_of(processor, pairs: QaPairs) -> dict[str, torch.Tensor]:
    return LmmVqaDataCollator(processor, 4096)([pairs[index] for index in range(len(pairs))])


def readout(model, processor, pairs: QaPairs, videos) -> torch.Tensor:
    """(videos, 101) log probabilities that scoring reads, to the questions that were drawn."""
    questions = [
        processor.prompt(pairs[index]["question"], system_prompt=pairs[index]["system_prompt"])
        for index in range(len(videos))
    ]
    return model.answer_log_probabilities(processor.score_answer_ids, **processor(videos, text=questions))


def loss_of(train, folder, model, processor, batch, **options) -> torch.Tensor:
    trainer = train.LmmVqaTrainer(
        model,
        train.TrainingArguments(folder, use_cpu=True),
        score_loss=ScoreLoss(processor.score_answer_ids, **options),
    )
    return trainer.compute_loss(model.eval(), dict(batch))


def added(train, folder, model, processor, batch, **options) -> torch.Tensor:
    """What the options add to the cross-entropy."""
    losses = [loss_of(train, folder, model, processor, batch, **given) for given in ({}, options)]
    return losses[1] - losses[0]


def test_the_readout_loss_is_the_squared_error_of_the_expected_score(train, pair, videos, tmp_path):
    model, processor = pair
    pairs = rated(videos)
    scores = readout(model, processor, pairs, videos).exp() @ torch.arange(101.0)
    expected = 2 * ((scores - torch.tensor([0.0, 30.0, 60.0])) / 25).square().mean()
    batch = batch_of(processor, pairs)
    got = added(train, tmp_path, model, processor, batch, readout_weight=2.0)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("contents", "counted"), [("aaa", 3), ("aab", 2), ("abc", 0), (None, 0)])
def test_the_loss_within_a_content_leaves_out_what_its_versions_share(
    contents, counted, train, pair, videos, tmp_path
):
    model, processor = pair
    pairs = rated(videos, contents)
    scores = readout(model, processor, pairs, videos).exp() @ torch.arange(101.0)
    errors = (scores - torch.tensor([0.0, 30.0, 60.0])) / 25
    of_one = errors[:counted]
    expected = errors.square().mean()
    if counted:
        expected = expected + 3 * (of_one - of_one.mean()).square().sum() / 3
    batch = batch_of(processor, pairs)
    got = added(train, tmp_path, model, processor, batch, readout_weight=1.0, within_weight=3.0)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_nodes_of_answers_change_nothing_of_the_chat(pair, videos):
    model, processor = pair
    batch = batch_of(processor, rated(videos))
    inputs = {name: value for name, value in batch.items() if name not in ("scores", "contents")}
    extended = ScoreLoss(processor.score_answer_ids).with_answer_nodes(inputs, model.dtype)
    length, is_text = inputs["input_ids"].shape[1], inputs["attention_mask"].bool()
    with torch.no_grad():
        plain, beside = model(**inputs), model(**extended)
    torch.testing.assert_close(beside.logits[:, :length][is_text], plain.logits[is_text], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(beside.loss, plain.loss)


@pytest.mark.parametrize("options", [{"readout_weight": 1.0}])
def test_each_loss_alone_teaches_the_scores(options, pair, videos):
    model, processor = pair
    pairs = rated(videos)
    batch, loss = batch_of(processor, pairs), ScoreLoss(processor.score_answer_ids, **options)
    scores, contents = batch.pop("scores"), batch.pop("contents")
    inputs = loss.with_answer_nodes(batch, model.dtype)
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=3e-3)
    for _ in range(60):
        log_probabilities = loss.log_probabilities(model(**inputs).logits, batch["labels"])
        loss(log_probabilities, scores, contents).backward()
        optimizer.step()
        optimizer.zero_grad()
    learned = readout(model, processor, pairs, videos).exp() @ torch.arange(101.0)
    torch.testing.assert_close(learned, torch.tensor([0.0, 30.0, 60.0]), atol=8.0, rtol=0)
