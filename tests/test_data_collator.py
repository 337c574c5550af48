"""Labels as literal tensors: the answer and its end of turn, nothing else."""

import math

import pytest
import torch
from conftest import tiny_config, tiny_processor, tiny_tokenizer

from lmmvqa.training.data_collator import LmmVqaDataCollator


# Token ids of the tiny tokenizer: "63" 316, "poo" 373, "r" 88, " good" 362, "<|end|>" 1
NOT_A_LABEL = -100


@pytest.fixture
def processor():
    tokenizer = tiny_tokenizer()
    processor = tiny_processor(tiny_config(tokenizer, spatial_reduction="mean"), tokenizer)
    processor.system_prompt = "You are an expert."
    return processor


def test_labels_of_a_score_and_a_level(processor, clips):
    rows = [
        {"video": clips[0], "question": "How good?", "answer": "63", "score": 63.4},
        {"video": clips[1], "question": "poor, fair or good?", "answer": "poor", "score": math.nan},
    ]
    batch = LmmVqaDataCollator(processor, 4096)(rows)
    assert processor.batch_decode(batch["input_ids"]) == [
        "<|pad|>"
        * 5
        + "<|system|>You are an expert.<|end|><|user|><|key_frame|><|key_frame|><|key_frame|><|key_frame|><|video|>\n"
        "How good?<|end|><|assistant|>63<|end|>",
        "<|system|>You are an expert.<|end|><|user|><|key_frame|><|key_frame|><|key_frame|><|key_frame|><|video|>\n"
        "poor, fair or good?<|end|><|assistant|>poor<|end|>",
    ]
    expected = torch.tensor([[NOT_A_LABEL] * 24 + [316, 1], [NOT_A_LABEL] * 23 + [373, 88, 1]])
    assert torch.equal(batch["labels"], expected)
    is_label = expected != NOT_A_LABEL
    assert torch.equal(batch["input_ids"][is_label], expected[is_label])
    torch.testing.assert_close(batch["scores"], torch.tensor([63.4, math.nan]), equal_nan=True)
    assert batch["num_chunks"].tolist() == [1, 2] and len(batch["pixel_values"]) == 3


def test_a_row_may_bring_its_own_system_prompt(processor, clips):
    row = {"video": clips[0], "question": "How good?", "answer": "63", "score": 63.4}
    batch = LmmVqaDataCollator(processor, 4096)([row | {"system_prompt": "You are an optician."}, row])
    chats = processor.batch_decode(batch["input_ids"])
    assert "<|system|>You are an optician.<|end|>" in chats[0] and "<|system|>You are an expert.<|end|>" in chats[1]
    assert batch["labels"][:, -2:].tolist() == [[316, 1], [316, 1]]
    assert (batch["labels"] != NOT_A_LABEL).sum() == 4


@pytest.mark.parametrize("position, second", [(0.0, 0), (0.49, 0), (0.5, 1), (0.99, 1)])
def test_one_second_of_a_video(processor, clips, position, second):
    row = {"video": clips[1], "question": "How good?", "answer": "63", "score": 63.4, "position": position}
    whole, part = (LmmVqaDataCollator(processor, 4096)([row | {"one_second": one}]) for one in (False, True))
    assert whole["num_chunks"].tolist() == [2] and part["num_chunks"].tolist() == [1]
    assert torch.equal(part["pixel_values"], whole["pixel_values"][second : second + 1])
    of_second = slice(4 * second, 4 * (second + 1))  # thirty frames in clips of eight
    for name in ("pixel_values_videos", "num_frames"):
        assert torch.equal(part[name], whole[name][of_second])


def test_answers_are_tokenised_in_their_place(processor, clips):
    """Alone "good" is "g", "o", "o", "d"; after a space it is one token."""
    processor.chat_template = (
        "{% for message in messages %}{% if message['role'] == 'assistant' %} {{ message['content'] }}<|end|>"
        "{% else %}{{ message['content'] }}<|assistant|>{% endif %}{% endfor %}"
    )
    batch = LmmVqaDataCollator(processor, 4096)(
        [{"video": clips[0], "question": "How?", "answer": "good", "score": math.nan}]
    )
    assert batch["labels"][0, -3:].tolist() == [NOT_A_LABEL, 362, 1]
    assert len(processor.tokenizer("good")["input_ids"]) > 1


def test_what_the_template_adds_after_the_turn_is_not_learnt(processor, clips):
    processor.chat_template = processor.chat_template.replace("<|end|>", "<|end|>\n")  # ChatML ends turns like this
    batch = LmmVqaDataCollator(processor, 4096)(
        [{"video": clips[0], "question": "How good?", "answer": "63", "score": 63.4}]
    )
    assert batch["labels"][0, -4:].tolist() == [NOT_A_LABEL, 316, 1, NOT_A_LABEL]


def test_labels_where_padding_is_the_end_token_and_the_tokenizer_pads_right(processor, clips):
    """As Llama's tokenizers come."""
    processor.tokenizer.pad_token = processor.tokenizer.eos_token
    processor.tokenizer.padding_side = "right"
    rows = [
        {"video": clips[0], "question": "How good?", "answer": "63", "score": 63.4},
        {"video": clips[0], "question": "How good is the quality of this video?", "answer": "63", "score": 63.4},
    ]
    batch = LmmVqaDataCollator(processor, 4096)(rows)
    is_label = batch["labels"] != NOT_A_LABEL
    assert batch["labels"][is_label].tolist() == batch["input_ids"][is_label].tolist() == [316, 1, 316, 1]
