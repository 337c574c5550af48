"""The tokenizer of small decoders: one token a score, and no text that it cannot write."""

import pytest
from conftest import tiny_tokenizer
from transformers import AutoTokenizer

from recipes.default.small_tokenizer import KEY_FRAME_TOKEN, VIDEO_TOKEN, small_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def test_every_score_is_one_token(tokenizer):
    ids = [tokenizer(str(number))["input_ids"] for number in range(101)]
    assert {len(number) for number in ids} == {1}
    assert len({number[0] for number in ids}) == 101


@pytest.mark.parametrize(
    "text",
    [
        "How good is the quality of this video? poor, fair or good.",
        "  two  spaces,\ttabs\nand\n\nline breaks ",
        "Größe, 画質, качество, 🎬 and \x00",
        "1234567 and 63.5 and v2x4k",
        "",
    ],
)
def test_any_text_survives_the_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize("text", ["Is it blur, low resolution or none?", "blurred, nonesuch", "low  resolution"])
def test_whole_answers_are_one_token_as_words_alone(tmp_path, text):
    answers = ["blur", "low resolution", "none"]
    small_tokenizer(["Is it?"], 400, answers).save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert [len(loaded(answer)["input_ids"]) for answer in answers] == [1, 1, 1]
    ids = loaded(text)["input_ids"]
    assert loaded.decode(ids) == text
    named = [loaded.decode([token]) for token in ids if loaded.decode([token]) in answers]
    assert named == (answers if text.startswith("Is") else [])


def test_special_tokens_are_one_token_and_skipped_on_request(tokenizer):
    chat = f"<|system|>a<|end|><|user|>{KEY_FRAME_TOKEN}{VIDEO_TOKEN}b<|end|><|assistant|>63<|end|>"
    ids = tokenizer(chat)["input_ids"]
    assert len(ids) == 11
    assert tokenizer.decode(ids) == chat
    assert tokenizer.decode(ids, skip_special_tokens=True) == "ab63"


def test_template_and_sides(tokenizer, tmp_path):
    messages = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    tokenizer.save_pretrained(tmp_path)
    for tested in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        assert tested.apply_chat_template(messages, tokenize=False) == "<|user|>Q<|end|><|assistant|>A<|end|>"
        prompt = tested.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
        assert prompt == "<|user|>Q<|end|><|assistant|>"
        assert tested.padding_side == "left"
        assert (tested.pad_token, tested.eos_token) == ("<|pad|>", "<|end|>")


def test_a_vocabulary_without_room_for_the_scores_is_refused():
    with pytest.raises(ValueError, match="got vocab_size=300, which leaves no token for"):
        small_tokenizer(["good"], vocab_size=300)
