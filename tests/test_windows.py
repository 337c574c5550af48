"""Videos longer than the decoder's context: windows, their scores and the video's, in scoring and in training."""

import csv
import json
import math
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import tiny_pair, write_clip
from transformers import pipeline

from lmmvqa.commands.command_line import main
from lmmvqa.evaluation.predictions import predict_levels, predict_scores
from lmmvqa.modeling_lmmvqa import VideoQualityAssessmentPipeline, pipeline_lmmvqa
from lmmvqa.processing import video_reading_lmmvqa
from lmmvqa.processing.answers_lmmvqa import ANSWER_FIELDS, DAMAGE_ANSWERS, QualityResult, VideoWindow, result_of_video
from lmmvqa.processing.processing_lmmvqa import LmmVqaProcessor
from lmmvqa.processing.video_decoding_lmmvqa import EncodedVideo
from lmmvqa.processing.video_reading_lmmvqa import VideoFacts
from lmmvqa.scoring.report import ROW_KEYS
from lmmvqa.training.data_collator import LmmVqaDataCollator
from lmmvqa.training.feature_cache import FeatureCache


@pytest.fixture(scope="module")
def frames():
    """Six seconds whose quality changes: (180, 48, 64, 3)."""
    rng = np.random.default_rng(0)
    second, y, x = np.mgrid[:180, :48, :64]
    picture = 127 + (100 - second // 2) * np.sin(x / 3 + second / 9) * np.cos(y / (2 + second // 30))
    return np.clip(picture[..., None] + rng.normal(0, 1 + second[..., None] / 4, (180, 48, 64, 3)), 0, 255).astype(
        np.uint8
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("windows") / "6s.mp4", num_frames=180, seed=3)


@pytest.fixture(scope="module")
def unlimited(tiny):
    return pipeline("video-quality-assessment", model=tiny[0], processor=tiny[1])


def limited_pair(num_chunks: int, num_answer_tokens: int = 1, **options):
    """The tiny model, whose decoder holds so many seconds of video."""
    model, processor = tiny_pair(**options)
    chat = processor.tokenizer(processor.prompt(), add_special_tokens=False)["input_ids"]
    # The video's one token becomes four a second and one
    model.config.text_config.max_position_embeddings = len(chat) + 4 * num_chunks + num_answer_tokens
    return model, processor


def limited_scorer(num_chunks: int, **options) -> VideoQualityAssessmentPipeline:
    model, processor = limited_pair(num_chunks, **options)
    return pipeline("video-quality-assessment", model=model, processor=processor)


# where a video is cut


def test_fewest_windows_of_equal_length(tiny):
    model, processor = limited_pair(3)
    limit = model.config.text_config.max_position_embeddings
    for num_chunks in range(1, 30):
        windows = processor.windows(np.arange(num_chunks), processor.prompt(), limit, 1)
        lengths = [window.end_chunk - window.first_chunk for window in windows]
        assert len(windows) == math.ceil(num_chunks / 3)
        assert sum(lengths) == num_chunks and max(lengths) <= 3 and max(lengths) - min(lengths) <= 1
        assert [window.first_chunk for window in windows[1:]] == [window.end_chunk for window in windows[:-1]]
        assert [(window.start, window.end) for window in windows] == [
            (window.first_chunk, window.end_chunk) for window in windows
        ]


def test_windows_last_as_long_as_their_part_of_the_video():
    """No frame starts in seconds 2 to 8: the picture stands still."""
    model, processor = limited_pair(2)
    limit = model.config.text_config.max_position_embeddings
    windows = processor.windows(np.array([0, 1, 9, 10]), processor.prompt(), limit, 1)
    assert [(window.start, window.end) for window in windows] == [(0, 9), (9, 11)]
    certain = torch.full((2, 101), -torch.inf)
    certain[0, 20] = certain[1, 75] = 0
    assert processor.post_process_window_scores(windows, certain).score == pytest.approx((9 * 20 + 2 * 75) / 11)


def test_tokens_that_do_not_grow_with_the_video_need_no_windows():
    model, processor = limited_pair(1, spatial_reduction="mean")
    limit = model.config.text_config.max_position_embeddings
    assert len(processor.windows(np.arange(5000), processor.prompt(), limit, 1)) == 1


def test_a_model_of_short_videos_judges_long_ones_in_parts(frames, unlimited):
    model, processor = tiny_pair()
    processor.max_window_seconds = 2
    limit = model.config.text_config.max_position_embeddings
    windows = processor.windows(np.arange(5), processor.prompt(), limit, 1)
    assert [(window.first_chunk, window.end_chunk) for window in windows] == [(0, 1), (1, 3), (3, 5)]
    scorer = pipeline("video-quality-assessment", model=model, processor=processor)
    scores = [unlimited(frames[start : start + 60])["score"] for start in (0, 60, 120)]
    assert scorer(frames)["score"] == pytest.approx(np.mean(scores), abs=1e-4)
    assert scorer(frames[:60])["windows"] is None


def test_a_window_shorter_than_a_second_is_refused():
    _, processor = tiny_pair()
    with pytest.raises(ValueError, match="got max_window_seconds=0, expected at least 1"):
        LmmVqaProcessor(processor.video_processor, processor.tokenizer, max_window_seconds=0)


def test_a_context_without_room_for_a_second_is_refused(frames):
    with pytest.raises(ValueError, match="expected at least .* for the prompt, the answer and one second of video"):
        limited_scorer(0)(frames)


# scores


def test_the_score_is_the_mean_of_the_parts_weighted_by_duration(frames, unlimited):
    result = limited_scorer(2)(frames)
    parts = [unlimited(frames[start : start + 60]) for start in (0, 60, 120)]
    assert [(window["start"], window["end"]) for window in result["windows"]] == [(0, 2), (2, 4), (4, 6)]
    for window, part in zip(result["windows"], parts, strict=True):
        assert set(window) == {"start", "end", *ANSWER_FIELDS} and window["damage"] is None
        assert (window["level"], window["answer"]) == (part["level"], part["answer"])
        for name in ("score", "score_std", "level_probabilities"):  # sums run in another order on other processors
            assert window[name] == pytest.approx(part[name], abs=1e-4)
    scores = [part["score"] for part in parts]
    assert max(scores) - min(scores) > 0.01
    assert result["score"] == pytest.approx(np.mean(scores), abs=1e-4)
    # Variance of a mixture: mean of the variances and variance of the means
    variance = np.mean([part["score_std"] ** 2 for part in parts]) + np.var(scores)
    assert result["score_std"] == pytest.approx(math.sqrt(variance), abs=1e-3)
    worst = min(result["windows"], key=lambda window: window["score"])
    assert result["worst_window"] == {name: worst[name] for name in ("start", "end", "score")}
    assert result["percentile_5"] == worst["score"]
    for level, mass in result["level_probabilities"].items():
        assert mass == pytest.approx(np.mean([part["level_probabilities"][level] for part in parts]), abs=1e-5)


def test_windows_of_different_length(frames, unlimited):
    result = limited_scorer(2)(frames[:150])
    lengths = [window["end"] - window["start"] for window in result["windows"]]
    assert lengths == [1, 2, 2]
    scores = [unlimited(frames[start:end])["score"] for start, end in ((0, 30), (30, 90), (90, 150))]
    assert result["score"] == pytest.approx(np.average(scores, weights=lengths), abs=1e-4)


@pytest.mark.parametrize(("num_frames", "end"), [(75, 2.5), (80, 80 / 30), (95, 3)])
def test_no_window_ends_after_the_video(frames, unlimited, num_frames, end):
    result = limited_scorer(2)(frames[:num_frames])
    assert [(window["start"], window["end"]) for window in result["windows"]] == [(0, 1), (1, pytest.approx(end))]
    assert result["worst_window"]["end"] in (1, result["windows"][-1]["end"])
    # Weights are of whole seconds
    scores = [window["score"] for window in result["windows"]]
    assert result["score"] == pytest.approx(np.average(scores, weights=[1, 2]), abs=1e-4)


def test_a_video_that_fits_has_the_result_of_the_model_bit_for_bit(frames, clips, tiny):
    model, processor = tiny
    scorer = limited_scorer(6)
    for video in (frames, clips[2]):
        log_probabilities = model.answer_log_probabilities(processor.score_answer_ids, **processor(video))
        (expected,) = processor.post_process_scores(log_probabilities)
        facts = vars(processor.video_processor.decode(video)[0].facts)
        assert scorer(video) == vars(expected) | facts | {"outside": []}
        assert expected.windows is None


def test_one_decoding_and_no_prompt_beyond_the_context(clip, monkeypatch):
    scorer, read = limited_scorer(2), []
    read_file = video_reading_lmmvqa._read_file
    monkeypatch.setattr(
        video_reading_lmmvqa,
        "_read_file",
        lambda *given, **options: read.append(given) or read_file(*given, **options),
    )
    lengths, chunks = [], []
    scorer.model.model.language_model.register_forward_pre_hook(
        lambda _, given, named: lengths.append(named["inputs_embeds"].shape[1]), with_kwargs=True
    )
    scorer.model.model.vision_tower.register_forward_hook(lambda _, given, output: chunks.append(len(given[0])))
    assert len(scorer(clip)["windows"]) == 3
    assert len(read) == 1 and chunks == [2] * 3
    assert lengths == [scorer.model.config.text_config.max_position_embeddings - 1] * 3


@pytest.mark.parametrize("max_window_seconds", [None, 4, 1])
def test_tokens_give_the_scores_of_features(clip, max_window_seconds):
    model, processor = damage_pair(hidden_size=16)
    processor.max_window_seconds = max_window_seconds
    scorer = pipeline("video-quality-assessment", model=model, processor=processor)
    pixels = processor.video_processor(clip)
    temporal_features = model.model.encode_chunks(
        *(pixels[name] for name in ("pixel_values_videos", "num_clips", "num_frames"))
    )
    features = EncodedVideo(model.model.encode_key_frames(pixels["pixel_values"]), temporal_features)
    of_tokens, of_features = scorer(clip), scorer(features)
    assert scorer.preprocess(clip)[0].vision_features.shape == (6, 4, 16) and features.vision_features.shape == (
        6,
        4,
        28,
    )
    assert of_tokens["score"] == pytest.approx(of_features["score"], abs=1e-4)
    assert of_tokens["damage"] == pytest.approx(of_features["damage"], abs=1e-6)
    assert len(of_tokens["windows"] or []) == {None: 0, 4: 2, 1: 6}[max_window_seconds]


def test_so_many_windows_are_asked_about_together(clip, monkeypatch):
    model, processor = tiny_pair()
    processor.max_window_seconds = 1
    scorer = pipeline("video-quality-assessment", model=model, processor=processor)
    batches = []
    model.model.language_model.register_forward_pre_hook(
        lambda _, given, named: batches.append(len(named["inputs_embeds"])), with_kwargs=True
    )
    expected = scorer(clip)["score"]
    monkeypatch.setattr(pipeline_lmmvqa, "WINDOWS_TOGETHER", 4)
    assert scorer(clip)["score"] == pytest.approx(expected, abs=1e-4)
    assert batches == [6, 4, 2]


def test_long_and_short_videos_in_a_batch(clip, clips):
    scorer = limited_scorer(2)
    videos = [clips[0], clip, clips[1], clips[2]]
    together, alone = scorer(videos, batch_size=4), [scorer(video) for video in videos]
    assert [result["windows"] and len(result["windows"]) for result in together] == [None, 3, None, 2]
    assert [result["score"] for result in together] == pytest.approx([result["score"] for result in alone], abs=0.01)


def test_predictions_are_those_of_the_pipeline(clip, clips, tmp_path):
    model, processor = limited_pair(2)
    model.requires_grad_(False)
    videos = [*clips, clip]
    expected = [limited_scorer(2)(video) for video in videos]
    cache = FeatureCache(tmp_path, model, processor)
    for options, tolerance in (({}, 0.01), ({"cache": cache}, 0.05)):
        results = predict_scores(model, processor, videos, batch_size=4, **options)
        assert [result.score for result in results] == pytest.approx([e["score"] for e in expected], abs=tolerance)
        assert [len(result.windows or []) for result in results] == [0, 0, 2, 3]
        assert [window["start"] for window in results[3].windows] == [0, 2, 4]
    assert len(predict_levels(model, processor, videos)) == 4


def test_generated_answers_of_windows(frames, monkeypatch):
    model, processor = limited_pair(2, num_answer_tokens=16)
    scorer = pipeline("video-quality-assessment", model=model, processor=processor)
    answers = iter(["20", "The score is 50.", "62"])
    generated = []

    def decode(ids, **options):
        generated.append(ids.shape)
        return [next(answers)]

    monkeypatch.setattr(scorer.processor, "batch_decode", decode)
    result = scorer(frames, readout="generate")
    assert result["score"] == pytest.approx(44) and result["level"] == "fair"
    assert result["answer"] == "20; The score is 50.; 62"
    assert result["score_std"] is None and result["level_probabilities"] is None
    assert [window["score"] for window in result["windows"]] == [20, 50, 62]
    assert len(generated) == 3 and all(shape[0] == 1 and 1 <= shape[1] <= 16 for shape in generated)


@pytest.mark.parametrize("hidden_size", [32, 16])
def test_features_generate_what_pixels_do(clips, hidden_size, monkeypatch):
    model, processor = tiny_pair(hidden_size=hidden_size)
    scorer, decoded = pipeline("video-quality-assessment", model=model, processor=processor), []
    monkeypatch.setattr(scorer.processor, "batch_decode", lambda ids, **_: decoded.append(ids) or ["50"] * len(ids))
    options = {"max_new_tokens": 6, "eos_token_id": None, "num_beams": 2}
    scorer(clips, readout="generate", batch_size=3, **options)
    inputs = processor(clips)
    expected = model.generate(**inputs, **options, do_sample=False)
    assert torch.equal(decoded[0], expected[:, inputs["input_ids"].shape[1] :])


def test_a_prompt_beyond_the_context_is_refused(clip):
    model, processor = limited_pair(2)
    with pytest.raises(ValueError, match="score long videos with `rate_videos`"):
        model.answer_log_probabilities(processor.score_answer_ids, **processor(clip))


def test_more_than_a_window_in_one_prompt_is_refused(clip):
    _, processor = tiny_pair()
    processor.max_window_seconds = 5
    with pytest.raises(ValueError, match="got a video of 6 one-second chunks, expected at most 5.*model.rate_videos"):
        processor(clip)
    processor.max_window_seconds = 6
    assert processor(clip)["num_chunks"].tolist() == [6]


DAMAGE_QUESTION = "What is wrong with this video? Answer with a kind of damage, or with none where there is none."


def damage_pair(num_chunks: int | None = None, **options):
    """A tiny model that is asked what is wrong, with a longer question than the others."""
    model, processor = tiny_pair(**options)
    processor.damage_question = DAMAGE_QUESTION
    if num_chunks is not None:
        chat = processor.tokenizer(processor.prompt(DAMAGE_QUESTION), add_special_tokens=False)["input_ids"]
        num_answer_tokens = max(map(len, processor.damage_answer_ids))
        model.config.text_config.max_position_embeddings = len(chat) + 4 * num_chunks + num_answer_tokens
    return model, processor


def test_damages_of_windows_are_mixed_by_duration(frames):
    model, processor = damage_pair(2)
    processor.damage_frequencies = np.linspace(1, 3, len(DAMAGE_ANSWERS)).tolist()
    limit = model.config.text_config.max_position_embeddings
    # The score question alone would leave more room
    assert len(processor.windows(np.arange(5), processor.prompt(), limit, 1)) < 3
    scorer = pipeline("video-quality-assessment", model=model, processor=processor)
    chunks = []
    model.model.vision_tower.register_forward_hook(lambda _, given, output: chunks.append(len(given[0])))
    result = scorer(frames[:150])
    assert sum(chunks) == 5  # for both questions
    windows = result["windows"]
    assert [window["end"] - window["start"] for window in windows] == [1, 2, 2]
    for of_part in (result, *windows):
        assert list(of_part["damage"]) == list(DAMAGE_ANSWERS)
        assert sum(of_part["damage"].values()) == pytest.approx(1)
    for kind, probability in result["damage"].items():
        mixed = np.average([window["damage"][kind] for window in windows], weights=[1, 2, 2])
        assert probability == pytest.approx(mixed, abs=1e-6)
    parts = [scorer(frames[start:end])["damage"] for start, end in ((0, 30), (30, 90), (90, 150))]
    for window, part in zip(windows, parts, strict=True):
        assert window["damage"] == pytest.approx(part, abs=1e-5)
    assert max(part["blur"] for part in parts) - min(part["blur"] for part in parts) > 1e-4


def test_the_damage_question_changes_no_score_and_is_the_same_everywhere(clip, clips, tmp_path):
    model, processor = damage_pair()
    model.requires_grad_(False)
    processor.max_window_seconds = 2
    videos = [*clips, clip]
    scorer = pipeline("video-quality-assessment", model=model, processor=processor)
    results = scorer(videos, batch_size=4)
    assert [asdict(result) for result in model.rate_videos(processor, videos)] == results
    assert [asdict(result) for result in predict_scores(model, processor, videos)] == results
    cached = predict_scores(model, processor, videos, cache=FeatureCache(tmp_path, model, processor))
    for result, of_cache in zip(results, cached, strict=True):
        assert of_cache.damage == pytest.approx(result["damage"], abs=1e-3)  # features are float16
    processor.damage_question = None
    alone = pipeline("video-quality-assessment", model=model, processor=processor)(videos, batch_size=4)
    assert [result["score"] for result in alone] == [result["score"] for result in results]
    assert all(result["damage"] is None for result in alone)


def test_what_is_written_names_no_damage(clip, monkeypatch):
    model, processor = damage_pair()
    scorer = pipeline("video-quality-assessment", model=model, processor=processor)
    monkeypatch.setattr(scorer.processor, "batch_decode", lambda ids, **options: ["50"])
    assert scorer(clip, readout="generate")["damage"] is None


@pytest.mark.parametrize("max_window_seconds", [None, 2])
def test_the_model_rates_as_the_pipeline_does(clip, clips, max_window_seconds):
    model, processor = tiny_pair()
    processor.max_window_seconds = max_window_seconds
    scorer = pipeline("video-quality-assessment", model=model, processor=processor)
    videos = [clip, *clips]
    for result, expected in zip(model.rate_videos(processor, videos), scorer(videos, batch_size=4), strict=True):
        assert asdict(result) == expected
    assert (model.rate_videos(processor, clip)[0].windows is None) == (max_window_seconds is None)


def test_what_was_seen_is_part_of_the_result(clip, tmp_path):
    model, processor = tiny_pair()
    model.requires_grad_(False)
    (facts,) = (vars(video.facts) for video in processor.video_processor.decode(clip))
    assert (facts["frames"], facts["width"], facts["height"], facts["fps"]) == (180, 96, 64, 30)
    scorer = pipeline("video-quality-assessment", model=model, processor=processor)
    cache = FeatureCache(tmp_path, model, processor)
    for result in (scorer(clip), asdict(predict_scores(model, processor, [clip], cache=cache)[0])):
        assert {name: result[name] for name in facts} == facts
    scorer.processor.max_window_seconds = 2
    result = scorer(clip)
    assert {name: result[name] for name in facts} == facts
    assert not facts.keys() & result["windows"][0].keys()


def test_doubled_frames_do_not_change_the_score():
    model, processor = tiny_pair()
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (50, 48, 64, 3), dtype=np.uint8)
    processor.video_processor.chunk_frames = 32
    scores = []
    for fps, frames in ((25, pictures), (50, pictures.repeat(2, axis=0)), (25, pictures[::-1])):
        videos = processor.video_processor.decode(np.ascontiguousarray(frames), [{"fps": fps}])
        scores.append(model.rate_videos(processor, videos)[0].score)
    assert scores[1] == pytest.approx(scores[0], abs=1e-3)
    assert abs(scores[2] - scores[0]) > 1e-3  # what is shown does


def test_the_command_line_shows_windows(capsys, clip, clips, tmp_path):
    for part in limited_pair(2):
        part.save_pretrained(tmp_path)
    command = ["score", "--model", str(tmp_path), "--device", "cpu", clips[0], clip]
    assert main([*command, "--json", "--csv", str(tmp_path / "rows.csv")]) == 0
    short, long = map(json.loads, capsys.readouterr().out.splitlines())
    assert "windows" not in short
    assert list(long) == [*short, "percentile_5", "worst_window", "windows"]
    assert [window["end"] for window in long["windows"]] == [2, 4, 6]
    weighted = np.mean([window["score"] for window in long["windows"]])
    assert long["score"] == pytest.approx(weighted, abs=1e-4)

    with open(tmp_path / "rows.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[1]) == [name for name in short if name in ROW_KEYS]
    assert rows[1]["score"] == str(long["score"])

    assert main(command) == 0
    _, short_line, long_line = capsys.readouterr().out.splitlines()
    assert "  (3 windows, worst " in long_line and "windows" not in short_line


def test_what_windows_pool_to():
    facts = VideoFacts(duration=100.0, frames=100, width=96, height=64)
    ends = [2, *range(10, 101, 2)]
    windows = [VideoWindow(0, 0, start, end) for start, end in pairwise([0, *ends])]
    scores = [40.0, 99.0, 20.0, *(60.0 + index for index in range(len(windows) - 3))]
    results = [QualityResult(score, 5.0, "fair", {}, "") for score in scores]
    result = result_of_video(results[0], windows, results, facts)
    # 20 for 2 seconds of 100, 40 for 2 more, and 60 where the fifth second lies
    assert result.percentile_5 == 60
    assert result.worst_window == {"start": 10, "end": 12, "score": 20.0}
    assert result_of_video(results[0], windows[:1], results[:1], facts).worst_window is None


# training


def test_training_takes_the_window_at_the_position_of_the_row(clip, tmp_path):
    model, processor = limited_pair(3)
    model.requires_grad_(False)
    limit = model.config.text_config.max_position_embeddings
    collate = LmmVqaDataCollator(processor, limit)
    cached = FeatureCache(tmp_path, model, processor)[clip]
    for video, name, whole in (
        (clip, "pixel_values", processor(clip)["pixel_values"]),
        (cached, "vision_features", cached.vision_features),
    ):
        row = {"video": video, "question": processor.score_question, "answer": "63", "score": 63.0}
        starts = []
        for position in ({}, {"position": 0.0}, {"position": 0.34}, {"position": 0.999}):
            batch = collate([row | position])
            assert batch["input_ids"].shape[1] <= limit
            assert (batch["labels"] != -100).sum() == 2
            first = next(index for index in range(6) if torch.equal(batch[name][0], whole[index]))
            assert torch.equal(batch[name], whole[first : first + 2])  # "63" and its end take the place of a chunk
            starts.append(first)
        assert starts == [0, 0, 2, 4]


def test_what_fits_is_trained_on_whole(clips):
    model, processor = limited_pair(4)
    row = {"video": clips[2], "question": processor.score_question, "answer": "63", "score": 63.0}
    batch = LmmVqaDataCollator(processor, model.config.text_config.max_position_embeddings)([row])
    assert batch["num_chunks"].tolist() == [3]
