"""A tokenizer for small decoders that are trained from scratch on questions about video quality."""

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast


KEY_FRAME_TOKEN = "<|key_frame|>"
VIDEO_TOKEN = "<|video|>"

# Content is text, or blocks as `apply_chat_template` and pipeline("image-text-to-text") write them
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for block in message['content'] %}"
    "{% if block['type'] == 'video' %}" + VIDEO_TOKEN + "{{ '\\n' }}{% else %}{{ block['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def small_tokenizer(
    texts: Iterable[str], vocab_size: int, whole_answers: Iterable[str] = ()
) -> PreTrainedTokenizerFast:
    """
    Byte-level BPE on the given texts; any text can be written. Up to three digits are one piece, as in Llama-3, and
    every number from 0 to 100 is one token, so that a score needs no decoding step.

    Args:
        texts: to learn merges from.
        vocab_size: most tokens, beside `whole_answers`.
        whole_answers: words, or several, that are to be one token each wherever they stand, as in the question that names
            them.

    Raises:
        ValueError: the vocabulary is too small to hold every number from 0 to 100.
    """
    tokenizer = Tokenizer(models.BPE())
    digits_or_words = Regex(r"\p{N}{1,3}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(digits_or_words, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special_tokens = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", KEY_FRAME_TOKEN, VIDEO_TOKEN]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = list(texts)
    numbers = [str(number) for number in range(101)]
    # Merges go by frequency: numbers must be as frequent as the commonest words
    tokenizer.train_from_iterator(texts + numbers * (10 * len(texts)), trainer)
    missing = [number for number in numbers if tokenizer.token_to_id(number) is None]
    if missing:
        raise ValueError(
            f"got vocab_size={vocab_size}, which leaves no token for {', '.join(missing)}; expected room for 256 "
            f"bytes, {len(special_tokens)} special tokens and 91 numbers; choose a larger vocabulary"
        )
    tokenizer.add_tokens([AddedToken(answer, single_word=True, normalized=False) for answer in whole_answers])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        extra_special_tokens=special_tokens[2:],
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
    )
