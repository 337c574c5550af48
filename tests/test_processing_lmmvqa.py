"""The processor: placeholders and prompts, answers to results, saving and loading."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import tiny_config, tiny_pair, tiny_processor, tiny_tokenizer
from transformers import AutoProcessor

from lmmvqa.modeling_lmmvqa import LmmVqaProcessor, LmmVqaVideoProcessor
from lmmvqa.processing import VideoDecodingError
from lmmvqa.processing.answers_lmmvqa import (
    DAMAGE_ANSWERS,
    LEVELS,
    SCORE_ANSWERS,
    AnswerParsingError,
    outside_training,
)
from lmmvqa.processing.video_reading_lmmvqa import VideoFacts


def log_probabilities(*rows: dict[int, float]) -> torch.Tensor:
    """Distributions over the answers 0 to 100, as {score: probability}."""
    table = torch.zeros(len(rows), 101)
    for index, row in enumerate(rows):
        table[index, list(row)] = torch.tensor(list(row.values()))
    return table.log()


# settings of the video processor


def test_settings_of_one_call(tiny, clips):
    processor = tiny[1]
    inputs = processor(clips[0], key_frame_size=48, chunk_frames=5)
    assert inputs["pixel_values"].shape == (1, 3, 48, 48)
    assert inputs["pixel_values_videos"].shape == (4, 5, 3, 32, 32)
    inputs = processor(clips[0], chunk_frames=5, chunk_sampling="first_frames")
    assert inputs["pixel_values_videos"].shape == (1, 5, 3, 32, 32)
    assert "num_clips" not in inputs and "num_frames" not in inputs
    assert processor(clips[0])["pixel_values"].shape == (1, 3, 32, 32)


def test_limits_of_reading_hold_on_every_way_and_are_not_saved(clips, tmp_path):
    model, processor = tiny_pair()
    video_processor = processor.video_processor
    video_processor.limits = replace(video_processor.limits, max_seconds=2)
    for read in (
        lambda: processor(clips[2]),
        lambda: processor(clips[2], key_frame_size=48),
        lambda: model.rate_videos(processor, clips[2]),
    ):
        with pytest.raises(
            VideoDecodingError, match="it lasts 3 s or more, expected at most 2 s; .* raise max_seconds"
        ):
            read()
    processor(clips[0])
    processor.save_pretrained(tmp_path)
    assert AutoProcessor.from_pretrained(tmp_path)(clips[2])["num_chunks"].tolist() == [3]


def test_rescaling_and_normalisation_can_be_left_out(tiny, clips):
    video_processor = tiny[1].video_processor
    (decoded,) = video_processor.decode(clips[0])
    values = torch.from_numpy(decoded.key_frames).movedim(-1, -3).float()  # 0 to 255
    mean, std = (
        torch.tensor(channel)[:, None, None] for channel in (video_processor.image_mean, video_processor.image_std)
    )
    for settings, expected in [
        ({}, (values / 255 - mean) / std),
        ({"do_rescale": False}, (values - mean) / std),
        ({"do_normalize": False}, values / 255),
        ({"rescale_factor": 0.5}, (values / 2 - mean) / std),
        ({"do_rescale": False, "do_normalize": False}, values),
    ]:
        torch.testing.assert_close(video_processor(clips[0], **settings)["pixel_values"], expected)
        torch.testing.assert_close(
            LmmVqaVideoProcessor(**video_processor.to_dict() | settings)(decoded)["pixel_values"], expected
        )


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("key_frame_resize", "stretch", "'squeeze' or 'crop'"),
        ("chunk_sampling", "evn", "'second', 'first_frames' or 'even'"),
        ("chunk_sampling", 1, "'second', 'first_frames' or 'even'"),
        ("keep_incomplete_second", 1, "true or false"),
        ("keep_incomplete_second", "False", "true or false"),
        ("key_frame_size", 0, "a whole number from 1 on"),
        ("chunk_size", 32.0, "a whole number from 1 on"),
        ("chunk_frames", True, "a whole number from 1 on"),
        ("chunk_frames", None, "a whole number from 1 on"),
        ("key_frame_fragments", 3, "a divisor of 32, or a list of such"),
        ("key_frame_fragments", [1, 3], "a divisor of 32, or a list of such"),
        ("key_frame_fragments", [], "a divisor of 32, or a list of such"),
        ("key_frame_fragments", 0, "a divisor of 32, or a list of such"),
        ("chunk_fragments", 3, "a divisor of 32"),
        ("chunk_fragments", [1], "a divisor of 32"),
        ("image_mean", 0.5, "three numbers, one a channel"),
        ("image_mean", [0.5, 0.5], "three numbers, one a channel"),
        ("chunk_mean", [0.5, 0.5, math.nan], "three numbers, one a channel"),
        ("image_std", [0, 0, 0], "three numbers above 0"),
        ("chunk_std", [0.5, 0.5, "0.5"], "three numbers above 0"),
        ("do_rescale", "yes", "true or false"),
        ("do_normalize", 0, "true or false"),
        ("rescale_factor", 0, "a number above 0"),
        ("rescale_factor", math.inf, "a number above 0"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_when_made_and_when_read(tiny, tmp_path, name, value, expected):
    tiny[1].save_pretrained(tmp_path)
    file = tmp_path / "processor_config.json"
    saved = json.loads(file.read_text())
    saved["video_processor"][name] = value
    message = rf"got {name}=.*, expected {expected}"
    with pytest.raises(ValueError, match=message):
        LmmVqaVideoProcessor(**saved["video_processor"])
    file.write_text(json.dumps(saved))
    with pytest.raises(ValueError, match=message):
        AutoProcessor.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_frames": 2, "do_sample_frames": True}, "got do_sample_frames=True, num_frames=2, expected no sampling"),
        ({"num_frames": 2}, "got num_frames=2, expected no sampling"),
    ],
)
def test_sampling_is_refused(tiny, clips, options, message):
    with pytest.raises(ValueError, match=message):
        tiny[1](clips[0], **options)


# prompts and placeholders


@pytest.mark.parametrize(
    "options, key_frame_tokens, temporal_tokens",
    [
        ({}, 12, 1),  # three key frames of 2 x 2 tokens
        ({"spatial_grid_size": 4}, 48, 1),
        ({"spatial_reduction": "mean"}, 4, 1),
        ({"temporal_reduction": "none"}, 12, 3),
        ({"temporal_fusion": "vision"}, 15, 0),
        ({"temporal_fusion": "vision", "temporal_reduction": "none"}, 15, 0),
        ({"temporal_fusion": "vision", "spatial_reduction": "mean"}, 5, 0),
        ({"use_temporal_tokens": False}, 12, 0),
        ({"use_temporal_tokens": False, "temporal_fusion": "vision"}, 12, 0),
    ],
)
def test_placeholders_of_a_three_second_clip(clips, options, key_frame_tokens, temporal_tokens):
    tokenizer = tiny_tokenizer()
    config = tiny_config(tokenizer, **options)
    input_ids = tiny_processor(config, tokenizer)(clips[2])["input_ids"][0].tolist()
    assert input_ids.count(config.image_token_id) == key_frame_tokens
    assert input_ids.count(config.video_token_id) == temporal_tokens


def test_the_video_stands_before_the_question(tiny, clips):
    processor = tiny[1]
    inputs = processor(clips[:2])
    expected = [
        "<|system|>You are an expert in video quality assessment.<|end|><|user|>"
        + "<|key_frame|>" * (4 * seconds)
        + f"<|video|>\n{processor.score_question}<|end|><|assistant|>"
        for seconds in (1, 2)
    ]
    pad = "<|pad|>" * 4
    assert processor.batch_decode(inputs["input_ids"]) == [pad + expected[0], expected[1]]
    assert inputs["attention_mask"][0].tolist() == [0] * 4 + [1] * (inputs["input_ids"].shape[1] - 4)
    assert inputs["num_chunks"].tolist() == [1, 2]
    assert inputs["pixel_values"].shape == (3, 3, 32, 32)
    assert inputs["pixel_values_videos"].shape == (12, 8, 3, 32, 32)
    assert inputs["num_clips"].tolist() == [4] * 3 and inputs["num_frames"].tolist() == [8, 8, 7, 7] * 3


def test_a_question_and_an_answer_of_ones_own(tiny, clips):
    processor = tiny[1]
    assert processor.prompt("Is it sharp?").endswith("<|user|><|video|>\nIs it sharp?<|end|><|assistant|>")
    assert processor.prompt("Is it sharp?", "yes").endswith("Is it sharp?<|end|><|assistant|>yes<|end|>")
    assert processor.prompt("Sharp?", "yes", "You look.").startswith("<|system|>You look.<|end|><|user|>")
    text = processor.decode(processor(clips[0], text=processor.prompt("Is it sharp?"))["input_ids"][0])
    assert text.endswith("<|key_frame|><|video|>\nIs it sharp?<|end|><|assistant|>")


def test_without_text_the_score_question_is_asked(tiny, clips):
    processor = tiny[1]
    given = processor(clips, text=[processor.prompt(processor.score_question)] * 3)
    assert torch.equal(processor(clips, text=None)["input_ids"], given["input_ids"])


def test_no_input_raises(tiny):
    with pytest.raises(ValueError, match="got neither videos nor images nor text"):
        tiny[1]()


def test_text_without_videos(tiny):
    assert set(tiny[1](text=["How?", "How good?"])) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize("text", ["no placeholder", ["<|video|> <|video|>", "<|video|> <|video|>"]])
def test_as_many_placeholders_as_videos(tiny, clips, text):
    with pytest.raises(ValueError, match=r"got [04] <\|video\|> in the chats for 3 videos"):
        tiny[1](clips, text=text)


def test_the_tokenizers_options_reach_the_tokenizer(tiny, clips):
    inputs = tiny[1](clips[0], padding="max_length", max_length=128, return_tensors="np")
    assert inputs["input_ids"].shape == (1, 128) and isinstance(inputs["pixel_values"], np.ndarray)


def test_chat_template_with_the_placeholder_in_the_text(tiny, clips):
    processor = tiny[1]
    messages = [
        {"role": "system", "content": processor.system_prompt},
        {"role": "user", "content": f"<|video|>\n{processor.score_question}"},
    ]
    chat = processor.apply_chat_template(messages, add_generation_prompt=True)
    assert chat == processor.prompt()
    assert torch.equal(processor(clips[0], text=chat)["input_ids"], processor(clips[0])["input_ids"])


# answers


def test_answers_are_tokenised_in_their_place(tiny):
    processor = tiny[1]
    vocabulary = processor.tokenizer.get_vocab()
    assert processor.score_answer_ids == [[vocabulary[answer]] for answer in SCORE_ANSWERS]
    assert processor.answer_token_ids("How good?", "63") == [vocabulary["63"], vocabulary["<|end|>"]]
    assert [processor.decode(ids) for ids in processor.level_answer_ids] == LEVELS


def test_damage_is_named_as_if_all_kinds_were_equally_frequent():
    processor = tiny_pair()[1]
    scores = torch.full((1, 101), 1 / 101).log()
    common = torch.full((1, len(DAMAGE_ANSWERS)), 0.02)
    common[0, 0], common[0, 3] = 0.6, 0.22
    (own,) = processor.post_process_scores(scores, common.log())
    assert own.damage["compression"] == pytest.approx(0.6)
    processor.damage_frequencies = [0.5, *[0.05] * 10]
    (adjusted,) = processor.post_process_scores(scores, common.log())
    weights = common[0] / torch.tensor(processor.damage_frequencies)
    assert list(adjusted.damage.values()) == pytest.approx((weights / weights.sum()).tolist())
    assert max(adjusted.damage, key=adjusted.damage.get) == "blocking"
    assert (adjusted.score, adjusted.score_std) == (own.score, own.score_std)


def test_only_a_processor_with_the_damage_question_asks_it(tiny, tmp_path):
    processor = tiny_processor(tiny[0].config, tiny_tokenizer())
    assert [question for question, _ in processor.result_questions] == [processor.score_question]
    processor.damage_question = "What is wrong?"
    assert [processor.decode(ids) for ids in processor.damage_answer_ids] == list(DAMAGE_ANSWERS.values())
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert loaded.result_questions == processor.result_questions
    assert [question for question, _ in loaded.result_questions] == [processor.score_question, "What is wrong?"]
    settings = json.loads((tmp_path / "processor_config.json").read_text())
    del settings["damage_question"]  # as it was saved before there was one
    (tmp_path / "processor_config.json").write_text(json.dumps(settings))
    assert AutoProcessor.from_pretrained(tmp_path).damage_question is None


@pytest.mark.parametrize(
    ("facts", "outside"),
    [
        ({}, []),
        ({"width": 1920, "height": 1080, "fps": 60.02}, []),
        ({"width": 1080, "height": 2400, "fps": 60.5}, []),
        ({"width": 1920, "height": 1088}, ["resolution"]),
        ({"width": 2160, "height": 3840, "fps": 119.88, "hdr": "hlg"}, ["hdr", "resolution", "frame_rate"]),
        ({"width": 96, "height": 64, "fps": 61.0}, ["frame_rate"]),
        ({"hdr": "pq"}, ["hdr"]),
    ],
)
def test_what_no_model_was_trained_on(facts, outside):
    assert outside_training(VideoFacts(**facts)) == outside


def test_a_template_that_hides_the_answer_is_refused(tiny):
    model, _ = tiny
    processor = tiny_processor(model.config, tiny_tokenizer())
    processor.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    with pytest.raises(ValueError, match="ends turns with the tokenizer's eos_token"):
        processor.answer_token_ids("How good?", "63")


def test_mean_and_deviation_of_the_distribution(tiny):
    certain, even = tiny[1].post_process_scores(log_probabilities({73: 1.0}, {20: 0.5, 80: 0.25, 100: 0.25}))
    assert (certain.score, certain.score_std, certain.level, certain.answer) == (73, 0, "good", "73")
    assert certain.level_probabilities == {"poor": 0, "fair": 0, "good": 1}
    # Mean 10 + 20 + 25 = 55; variance 35^2 / 2 + 25^2 / 4 + 45^2 / 4 = 1275
    assert even.score == pytest.approx(55)
    assert even.score_std == pytest.approx(math.sqrt(1275))
    assert (even.level, even.answer) == ("fair", "20")
    assert even.level_probabilities == pytest.approx({"poor": 0.5, "fair": 0, "good": 0.5})


@pytest.mark.parametrize(
    "score, level", [(0, "poor"), (39, "poor"), (40, "fair"), (59, "fair"), (60, "good"), (100, "good")]
)
def test_levels_at_the_cut_points(tiny, score, level):
    processor = tiny[1]
    (result,) = processor.post_process_scores(log_probabilities({score: 1.0}))
    assert result.level == level
    assert result.level_probabilities == {name: float(name == level) for name in LEVELS}
    assert processor.post_process_answer(str(score)).level == level


def test_the_level_is_that_of_the_mean_between_whole_scores(tiny):
    below, above = tiny[1].post_process_scores(log_probabilities({39: 0.6, 40: 0.4}, {59: 0.4, 61: 0.6}))
    assert (below.level, above.level) == ("poor", "good")  # 39.4 and 60.2
    assert below.level_probabilities == pytest.approx({"poor": 0.6, "fair": 0.4, "good": 0})


def test_level_probabilities_add_up(tiny):
    torch.manual_seed(0)
    distributions = torch.randn(5, 101).log_softmax(-1)
    for row, result in zip(distributions.exp(), tiny[1].post_process_scores(distributions), strict=True):
        assert sum(result.level_probabilities.values()) == pytest.approx(1)
        expected = [row[:40].sum(), row[40:60].sum(), row[60:].sum()]
        assert list(result.level_probabilities.values()) == pytest.approx([float(mass) for mass in expected], abs=1e-6)


@pytest.mark.parametrize(
    "answer, score", [("63", 63), ("63.5", 63.5), ("The score is 7.", 7), ("0", 0), ("100%", 100)]
)
def test_a_generated_score(tiny, answer, score):
    result = tiny[1].post_process_answer(answer)
    assert (result.score, result.answer) == (score, answer)
    assert result.score_std is None and result.level_probabilities is None


@pytest.mark.parametrize(
    "answer",
    ["", "good", "nan", "sixty", "-5", "101", "100.5", "1e2", "63/100", "6 3", "40-60", "1.2.3", ".5", "63, or 64"],
)
def test_an_answer_without_one_score_raises(tiny, answer):
    with pytest.raises(AnswerParsingError, match="expected exactly one number from 0 to 100") as error:
        tiny[1].post_process_answer(answer)
    assert repr(answer) in str(error.value)


@pytest.mark.parametrize("answer, level", [("good", "good"), ("Fair.", "fair"), ("It is POOR", "poor")])
def test_a_generated_level(tiny, answer, level):
    assert tiny[1].post_process_level_answer(answer) == level


@pytest.mark.parametrize("answer", ["", "63", "goodness", "fair or good", "poorly"])
def test_an_answer_without_one_level_raises(tiny, answer):
    with pytest.raises(AnswerParsingError, match="expected exactly one of poor, fair, good"):
        tiny[1].post_process_level_answer(answer)


# saving and loading


def test_the_round_trip_keeps_every_setting(tmp_path, clips):
    tokenizer = tiny_tokenizer()
    settings = {
        "spatial_grid_size": 4,
        "spatial_reduction": "mean",
        "temporal_reduction": "none",
        "temporal_fusion": "vision",
        "use_temporal_tokens": False,
        "system_prompt": "You rate videos.",
        "score_question": "How good?",
        "level_question": "Which level?",
        "level_thresholds": (30.0, 70.0),
        "level_answer_thresholds": {"lsvq": [55.51, 65.05]},
        "key_frame_token": "<|video|>",
        "video_token": "<|key_frame|>",
        "chat_template": "{% for message in messages %}{{ message['content'] }}<|end|>{% endfor %}",
    }
    pixels = {
        "key_frame_size": 48,
        "chunk_size": 40,
        "chunk_frames": 5,
        "key_frame_resize": "crop",
        "chunk_sampling": "first_frames",
        "keep_incomplete_second": False,
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.4, 0.5, 0.6],
        "chunk_mean": [0.7, 0.8, 0.9],
        "chunk_std": [1.1, 1.2, 1.3],
    }
    processor = LmmVqaProcessor(LmmVqaVideoProcessor(**pixels), tokenizer, **settings)
    processor.save_pretrained(tmp_path)
    for loaded in (LmmVqaProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert type(loaded) is LmmVqaProcessor
        assert {name: getattr(loaded, name) for name in settings} == settings
        assert {name: getattr(loaded.video_processor, name) for name in pixels} == pixels
        inputs, expected = loaded(clips), processor(clips)
        assert all(torch.equal(inputs[name], expected[name]) for name in expected)


def test_defaults_stand_in_the_saved_file(tmp_path):
    """A default that changes one day must not change the scores of a checkpoint saved before."""
    LmmVqaProcessor(LmmVqaVideoProcessor(), tiny_tokenizer()).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert saved["level_thresholds"] == [40, 60]
    video = saved["video_processor"]
    assert (video["key_frame_size"], video["chunk_size"], video["chunk_frames"]) == (224, 224, 32)
    assert (video["chunk_sampling"], video["keep_incomplete_second"]) == ("second", True)
    assert video["image_mean"] == [0.48145466, 0.4578275, 0.40821073]
    assert video["chunk_std"] == [0.225, 0.225, 0.225]


def test_a_file_saved_before_there_was_a_choice_keeps_its_frames(tmp_path):
    LmmVqaVideoProcessor(chunk_frames=24).save_pretrained(tmp_path)
    file = tmp_path / "video_preprocessor_config.json"
    saved = json.loads(file.read_text())
    assert LmmVqaVideoProcessor.from_pretrained(tmp_path).chunk_sampling == "second"
    file.write_text(
        json.dumps({n: v for n, v in saved.items() if n not in ("chunk_sampling", "keep_incomplete_second")})
    )
    loaded = LmmVqaVideoProcessor.from_pretrained(tmp_path)
    assert (loaded.chunk_frames, loaded.chunk_sampling, loaded.keep_incomplete_second) == (24, "first_frames", False)


@pytest.mark.parametrize("spatial_projector_type", ["vit", "mlp", "perceiver"])
def test_two_views_of_each_key_frame(clips, spatial_projector_type):
    model, processor = tiny_pair(key_frame_views=2, spatial_projector_type=spatial_projector_type)
    processor.video_processor.key_frame_fragments = 1
    with pytest.raises(
        ValueError, match="got 3 pictures for the vision tower, expected a multiple of key_frame_views=2"
    ):
        model(**processor(clips[:2]))
    processor.video_processor.key_frame_fragments = [1, 2]
    inputs = processor(clips[:2])
    assert inputs["pixel_values"].shape == (6, 3, 32, 32)
    assert (inputs["input_ids"] == processor.image_token_ids[0]).sum(1).tolist() == [8, 16]
    with torch.no_grad():
        logits = model(**inputs, logits_to_keep=1).logits
        torch.testing.assert_close(model(**processor(clips[0]), logits_to_keep=1).logits[0], logits[0])
        (features,) = processor.video_processor.encode(clips[1], model)
    assert features.vision_features.shape[:2] == (2, 8)


def test_a_processor_of_other_views_than_its_video_processor_is_refused():
    with pytest.raises(ValueError, match=r"got key_frame_views=1 and .* key_frame_fragments=\[1, 2\], expected"):
        LmmVqaProcessor(LmmVqaVideoProcessor(key_frame_fragments=[1, 2]), tiny_tokenizer())


def test_only_a_video_processor_of_our_kind_is_taken():
    with pytest.raises(TypeError, match="got a video_processor of type dict"):
        LmmVqaProcessor({}, tiny_tokenizer())


def test_the_model_has_what_the_processor_counts(clips):
    """Both settings from one configuration: the seam holds for a layout other than the default."""
    model, processor = tiny_pair(spatial_reduction="mean", temporal_reduction="none")
    with torch.no_grad():
        outputs = model(**processor(clips))
    assert (len(outputs.image_hidden_states), len(outputs.video_hidden_states)) == (12, 6)
