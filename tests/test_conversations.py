"""Conversations: every answer is learned, media keep their places, and what is too long is cut by rule."""

import math

import pytest
import torch
from conftest import tiny_config, tiny_processor, tiny_tokenizer

from lmmvqa.datasets_scripts.rows import CONVERSATION_FEATURES, load_rows, row_media, rows_digest, save_rows
from lmmvqa.processing.video_decoding_lmmvqa import EncodedVideo
from lmmvqa.training.conversations import fit_conversations
from lmmvqa.training.data_collator import LmmVqaDataCollator
from lmmvqa.training.qa_pairs import QaPairs, level_thresholds
from lmmvqa.training.stages import HUMAN_ASSISTANT, check_rows, set_chat_template, stage_options


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


TURNS = [user("<video>\nHow good?"), assistant("63"), user("A word?"), assistant("poor")]


@pytest.fixture
def processor():
    tokenizer = tiny_tokenizer()
    return tiny_processor(tiny_config(tokenizer, spatial_reduction="mean"), tokenizer)


def conversation(media: list, turns: list[dict]) -> dict:
    return {"video": media[0], "mos": None, "dataset": "talk", "media": media, "conversations": turns}


# labels


def test_every_answer_is_learned_and_nothing_else(processor, clips):
    row = conversation([clips[1]], TURNS)
    batch = LmmVqaDataCollator(processor, 4096)([row])
    chat = (
        "<|user|><|key_frame|><|key_frame|><|key_frame|><|key_frame|><|video|>\nHow good?<|end|>"
        "<|assistant|>63<|end|><|user|>A word?<|end|><|assistant|>poor<|end|>"
    )
    assert processor.batch_decode(batch["input_ids"]) == [chat]
    learned = batch["labels"][0] != -100
    assert torch.equal(batch["labels"][0][learned], batch["input_ids"][0][learned])
    assert batch["labels"][0][learned].tolist() == [316, 1, 373, 88, 1]  # "63", the end, "poo", "r", the end
    assert math.isnan(batch["scores"])


def test_rated_and_instructing_rows_in_one_batch(processor, clips):
    rated = {"video": clips[0], "mos": 63.2, "dataset": "tiny"}
    pairs = QaPairs([rated, conversation([clips[1]], TURNS)], ("score",), level_thresholds([rated]))
    batch = LmmVqaDataCollator(processor, 4096)(list(pairs))
    assert [batch["labels"][index][batch["labels"][index] != -100].tolist() for index in (0, 1)] == [
        [316, 1],
        [316, 1, 373, 88, 1],
    ]
    assert batch["num_chunks"].tolist() == [1, 2]
    torch.testing.assert_close(batch["scores"], torch.tensor([63.2, math.nan]), equal_nan=True)


def test_several_media_keep_their_places(processor, clips):
    turns = [user("<video> or\n<video>?"), assistant("63"), user("Or <video>?"), assistant("poor")]
    batch = LmmVqaDataCollator(processor, 4096)([conversation([clips[2], clips[0], clips[1]], turns)])
    assert batch["num_chunks"].tolist() == [3, 1, 2]
    shown = "<|key_frame|>" * 4 + "<|video|>"
    assert processor.batch_decode(batch["input_ids"])[0].startswith(f"<|user|>{shown} or\n{shown}?<|end|>")
    assert (batch["labels"] != -100).sum() == 5


def test_a_placeholder_in_a_text_is_refused(processor, clips):
    with pytest.raises(ValueError, match="got a turn with <|video|>"):
        LmmVqaDataCollator(processor, 4096)([conversation([clips[0]], [user("<|video|>?"), assistant("63")])])


def test_the_papers_template(processor, clips):
    set_chat_template(processor, HUMAN_ASSISTANT)
    row = conversation([clips[0]], [user("How good?<video>"), assistant("good"), *TURNS[2:]])
    batch = LmmVqaDataCollator(processor, 4096)([row])
    assert processor.batch_decode(batch["input_ids"]) == [
        "Human: How good?<|key_frame|><|key_frame|><|key_frame|><|key_frame|><|video|>, Assistant: good<|end|>"
        "Human: A word?, Assistant: poor<|end|>"
    ]
    learned = batch["labels"][0][batch["labels"][0] != -100]
    assert processor.tokenizer.decode(learned) == " good<|end|> poor<|end|>"
    assert processor.prompt("How good?").endswith("<|video|>\nHow good?, Assistant:")
    assert processor.prompt("How good?").startswith("You are an expert in video quality assessment.\nHuman: ")


# lengths


def encoded(num_chunks: int) -> EncodedVideo:
    return EncodedVideo(torch.arange(float(num_chunks))[:, None, None].expand(-1, 4, 8))


def test_long_videos_are_shown_by_evenly_spread_seconds():
    tokenizer = tiny_tokenizer()
    processor = tiny_processor(tiny_config(tokenizer, temporal_reduction="none"), tokenizer)
    chat = processor.conversation_prompt([user("<video><video><video>\nHow good?"), assistant("63")])
    num_text_tokens = len(tokenizer(chat)["input_ids"]) - 3
    videos = [encoded(10), encoded(1), encoded(3)]
    for room, expected in {
        70: [10, 1, 3],  # 4 + 1 tokens a second
        69: [9, 1, 3],
        50: [6, 1, 3],
        44: [4, 1, 3],
        15: [1, 1, 1],
    }.items():
        fitted = processor.fit_videos(videos, chat, num_text_tokens + room)
        assert [len(video.seconds) for video in fitted] == expected
    assert processor.fit_videos(videos, chat, num_text_tokens + 45)[0].seconds.tolist() == [1, 3, 5, 7, 9]
    assert processor.fit_videos(videos, chat, num_text_tokens + 44)[0].vision_features[:, 0, 0].tolist() == [
        1,
        3,
        6,
        8,
    ]
    with pytest.raises(ValueError, match=f"needs {num_text_tokens + 15} positions .* expected at most the decoder's"):
        processor.fit_videos(videos, chat, num_text_tokens + 14)


@pytest.mark.parametrize("of_pixels", [True, False])
def test_spread_seconds_are_those_of_the_video(processor, clips, of_pixels, tiny):
    whole = processor.video_processor.decode(clips[2])[0]
    if not of_pixels:
        (whole,) = processor.video_processor.encode(clips[2], tiny[0])
    spread = whole.spread(2)
    first, last = whole.part(0, 1), whole.part(2, 3)
    assert spread.seconds.tolist() == [0, 2]
    for name in ("key_frames", "clips", "num_clips", "num_frames") if of_pixels else ("vision_features",):
        joined = [value for part in (first, last) for value in getattr(part, name)]
        assert len(getattr(spread, name)) == len(joined)
        assert all((one == other).all() for one, other in zip(getattr(spread, name), joined, strict=True))


def test_a_long_conversation_keeps_its_first_turns(processor):
    row = conversation(["a.mp4", "b.mp4"], [*TURNS, user("And <video>?"), assistant("63")])
    short = conversation(["c.mp4"], TURNS[:2])
    rated = {"video": "d.mp4", "mos": 50.0, "dataset": "tiny"}
    (of_all,), notes = fit_conversations([row], processor, 4096)
    assert of_all == row and not notes
    num_tokens = len(processor.expanded_token_ids(processor.conversation_prompt(row["conversations"]), 1))
    assert fit_conversations([row], processor, num_tokens) == ([row], [])
    (cut, *others), notes = fit_conversations([row, short, rated], processor, num_tokens - 1)
    assert cut["conversations"] == TURNS and cut["media"] == ["a.mp4"] and others == [short, rated]
    assert notes == ["cut: the last 2 of 6 turns about a.mp4"]
    with pytest.raises(ValueError, match="about a.mp4 whose first answer ends beyond 12 positions"):
        fit_conversations([row], processor, 12)
    with pytest.raises(ValueError, match="with 2 <video> in the user's turns for 1 media"):
        fit_conversations([row | {"media": ["a.mp4"]}], processor, 4096)


# stages


def test_a_stage_takes_rows_of_its_kind():
    rated, instructing = {"video": "a.mp4", "mos": 50.0}, conversation(["b.mp4"], TURNS)
    check_rows("quality", [rated], [instructing])
    check_rows("align", [instructing], [])
    check_rows("instruct", [instructing], [rated])
    with pytest.raises(ValueError, match="got 1 rows without conversations in --data, such as a.mp4"):
        check_rows("instruct", [rated, instructing], [])
    with pytest.raises(ValueError, match="got 1 rows without mos in --mix, such as b.mp4"):
        check_rows("align", [instructing], [instructing])


def test_what_a_stage_sets():
    assert stage_options("instruct", 0, True)[:5] == [
        "--train_parts",
        *("spatial_projector", "temporal_projector", "language_model"),
        "--learning_rate",
    ]
    assert "language_model" not in stage_options("instruct", 8, True)
    assert "temporal_projector" not in stage_options("quality", 0, False)
    with pytest.raises(ValueError, match="expected one of align, instruct, quality"):
        stage_options("chat", 0, True)


# rows on disk


def test_rows_keep_relative_media_and_are_known_by_what_is_said(tmp_path):
    row = conversation(["clips/a.mp4", "clips/b.mp4"], [user("<video><video>?"), assistant("63")])
    row |= {"split": "train", "group": "a"}
    save_rows([row], [], "talk", tmp_path, CONVERSATION_FEATURES)
    (loaded,) = load_rows(tmp_path)["train"]
    assert loaded["media"] == [str(tmp_path / "clips" / name) for name in ("a.mp4", "b.mp4")] == row_media(loaded)
    assert loaded["video"] == loaded["media"][0] and loaded["conversations"] == row["conversations"]
    assert row_media({"video": "a.mp4", "media": None}) == ["a.mp4"]
    other = row | {"conversations": [row["conversations"][0], assistant("64")]}
    assert rows_digest([row]) == rows_digest([loaded]) != rows_digest([other])
