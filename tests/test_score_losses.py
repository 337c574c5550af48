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


MOS = torch.tensor([0.0, 30.0, 60.0])
WHOLE_NUMBERS = list(map(float, range(101)))
BESIDE = ("scores", "contents", "data_sets")  # what the model does not take


def rated(videos, contents=(), data_sets=("tiny", "tiny", "tiny")) -> QaPairs:
    rows = [
        {"video": video, "mos": mos, "dataset": data_set}
        for video, mos, data_set in zip(videos, MOS.tolist(), data_sets, strict=True)
    ]
    for row, content in zip(rows, contents or (), strict=bool(contents)):
        row["content"] = content
    return QaPairs(rows, ("score", "level"), dict.fromkeys(data_sets, (20.0, 50.0)))


def batch_of(processor, pairs: QaPairs) -> dict[str, torch.Tensor]:
    return LmmVqaDataCollator(processor, 4096)([pairs[index] for index in range(len(pairs))])


def learn(model, batch: dict[str, torch.Tensor], steps: int, learning_rate: float = 6e-3) -> None:
    """Trains what is not frozen with the model's own loss of this batch."""
    inputs = {name: value for name, value in batch.items() if name not in BESIDE}
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=learning_rate)
    for _ in range(steps):
        model(**inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


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
        score_loss=ScoreLoss(processor.score_answer_ids, WHOLE_NUMBERS, **options),
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
    expected = 2 * ((scores - MOS) / 25).square().mean()
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
    errors = (scores - MOS) / 25
    of_one = errors[:counted]
    expected = errors.square().mean()
    if counted:
        expected = expected + 3 * (of_one - of_one.mean()).square().sum() / 3
    batch = batch_of(processor, pairs)
    got = added(train, tmp_path, model, processor, batch, readout_weight=1.0, within_weight=3.0)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_differences_without_the_error_they_are_measured_in_are_refused():
    with pytest.raises(ValueError, match="got within_weight=2.0 without readout_weight, expected both"):
        ScoreLoss([[1], [2]], [0.0, 1.0], within_weight=2.0)


def test_nodes_of_answers_change_nothing_of_the_chat(pair, videos):
    model, processor = pair
    batch = batch_of(processor, rated(videos))
    inputs = {name: value for name, value in batch.items() if name not in BESIDE}
    extended = ScoreLoss(processor.score_answer_ids, WHOLE_NUMBERS).with_answer_nodes(inputs, model.dtype)
    length, is_text = inputs["input_ids"].shape[1], inputs["attention_mask"].bool()
    with torch.no_grad():
        plain, beside = model(**inputs), model(**extended)
    torch.testing.assert_close(beside.logits[:, :length][is_text], plain.logits[is_text], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(beside.loss, plain.loss)


@pytest.mark.parametrize(("data_sets", "partners"), [("aaa", [[1, 2], [0, 2], [0, 1]]), ("aab", [[1], [0], []])])
def test_the_fidelity_loss_compares_videos_of_one_data_set(data_sets, partners, train, pair, videos, tmp_path):
    model, processor = pair
    pairs = rated(videos, data_sets=tuple(data_sets))
    probabilities = readout(model, processor, pairs, videos).exp().double()
    answers = torch.arange(101.0, dtype=torch.float64)
    means = probabilities @ answers
    variances = (probabilities * (answers - means[:, None]).square()).sum(-1)
    expected, normal = 0.0, torch.distributions.Normal(0.0, 1.0)
    for row, others in enumerate(partners):
        for other in others:
            p = normal.cdf((means[row] - means[other]) / (variances[row] + variances[other] + 1 / 6).sqrt())
            q = normal.cdf((MOS[row] - MOS[other]) / (2 * 20.0**2 + 1 / 6) ** 0.5)
            expected += (1 - (p * q).sqrt() - ((1 - p) * (1 - q)).sqrt()) / len(others) / 3
    options = {"fidelity_weight": 2.0, "soft_label_std": 20.0}
    batch = batch_of(processor, pairs)
    got = loss_of(train, tmp_path, model, processor, batch, **options)
    got = got - loss_of(train, tmp_path, model, processor, batch, soft_label_std=20.0)
    torch.testing.assert_close(got.double(), 2 * expected, rtol=1e-3, atol=1e-5)


def test_soft_labels_take_the_place_of_the_answers(train, pair, videos, tmp_path):
    model, processor = pair
    pairs = rated(videos)
    batch = batch_of(processor, pairs)
    log_probabilities = readout(model, processor, pairs, videos)
    normal = torch.stack([torch.distributions.Normal(mos, 5.0).log_prob(torch.arange(101.0)).exp() for mos in MOS])
    soft = -(normal / normal.sum(-1, keepdim=True) * log_probabilities).sum(-1)
    labels = batch["labels"].clone()
    for row in labels[:3]:  # those that ask the score
        row[(row != -100).nonzero()[:-1, 0]] = -100  # but for the end of the turn
    of_tokens = model(**{name: value for name, value in batch.items() if name not in BESIDE} | {"labels": labels}).loss
    got = loss_of(train, tmp_path, model, processor, batch, soft_label_std=5.0)
    torch.testing.assert_close(got, of_tokens + soft.mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["readout_weight", "fidelity_weight", "soft_label_std"])
def test_each_loss_alone_teaches(name, pair, videos):
    model, processor = pair
    pairs = rated(videos)
    batch, loss = batch_of(processor, pairs), ScoreLoss(processor.score_answer_ids, WHOLE_NUMBERS, **{name: 1.0})
    beside = [batch.pop(of_row) for of_row in BESIDE]
    inputs = loss.with_answer_nodes(batch, model.dtype)
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=6e-3)
    for _ in range(30):
        sum(loss(loss.log_probabilities(model(**inputs).logits, batch["labels"]), *beside)).backward()
        optimizer.step()
        optimizer.zero_grad()
    learned = readout(model, processor, pairs, videos).exp() @ torch.arange(101.0)
    if name == "fidelity_weight":  # which knows the order alone
        assert learned[1] - learned[0] > 3 and learned[2] - learned[1] > 3
    else:
        torch.testing.assert_close(learned, MOS, atol=8.0, rtol=0)
