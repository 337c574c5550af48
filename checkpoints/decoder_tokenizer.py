"""What a decoder's tokenizer needs before it can serve LMM-VQA: placeholders, a padding token, the end of a turn."""

import re

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ..processing.processing_lmmvqa import SYSTEM_PROMPT


# Trained with the model but without a meaning: Llama-3's and SmolLM3's, Gemma's, Phi-3's
RESERVED_TOKEN = re.compile(r"<\|reserved_special_token_\d+\|>|<unused\d+>|<\|placeholder\d+\|>")
# Qwen's text models know the placeholders of its vision models
VISION_PADS = ["<|image_pad|>", "<|video_pad|>"]
PADDING_TOKEN = "<|finetune_right_pad_id|>"  # Llama-3.1 and later name one, but do not set it
ADDED_TOKENS = ["<|key_frame|>", "<|video|>", "<|pad|>"]

ANSWER = "63"


def reserve_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """
    Finds two placeholder tokens, and a padding token where the tokenizer sets none: reserved ones where there are any,
    so that no embedding grows, and added ones for the rest.

    A padding token is never the end-of-turn token unless the tokenizer says so itself: whoever masks padding by its id
    would mask the end of every answer.

    Returns:
        the placeholders of one key-frame token and of one temporal token.
    """
    known = tokenizer.get_added_vocab()
    reserved = sorted(filter(RESERVED_TOKEN.fullmatch, known), key=known.get)
    if all(token in known for token in VISION_PADS):
        reserved = VISION_PADS + reserved
    key_frame_token, video_token, *spare = reserved if len(reserved) > 1 else ADDED_TOKENS
    tokenizer.add_tokens([key_frame_token, video_token], special_tokens=True)
    if tokenizer.pad_token is None:
        if PADDING_TOKEN in known:
            spare = [PADDING_TOKEN]
        padding_token = spare[0] if spare else ADDED_TOKENS[-1]
        tokenizer.add_tokens([padding_token], special_tokens=True)
        tokenizer.pad_token = padding_token
    return key_frame_token, video_token


def fix_chat(tokenizer: PreTrainedTokenizerBase) -> bool:
    """
    Makes the chat template and the tokenizer agree on how a turn ends: `eos_token` becomes the token that the template
    writes after an answer, such as Llama-3's `<|eot_id|>` or Gemma's `<end_of_turn>`. A template that writes today's
    date gets a fixed one, or scores would change overnight.

    Returns:
        whether the template takes a system message.

    Raises:
        ValueError: there is no chat template, it hides the answer, or no token ends a turn.
    """
    if tokenizer.chat_template is None:
        raise ValueError(
            f"got the decoder {tokenizer.name_or_path!r} without a chat template, expected one that was trained to "
            "chat; choose its instruct version, or set the tokenizer's chat_template and save it"
        )
    tokenizer.chat_template = tokenizer.get_chat_template()  # the default, where there are several
    if "strftime_now" in tokenizer.chat_template:
        fixed_date = "{%- macro strftime_now(format) %}26 Jul 2024{% endmacro -%}\n"
        tokenizer.chat_template = fixed_date + tokenizer.chat_template

    chat = [{"role": "user", "content": "How good is it?"}, {"role": "assistant", "content": ANSWER}]
    _, found, after = tokenizer.apply_chat_template(chat, tokenize=False).rpartition(ANSWER)
    if not found:
        raise ValueError(f"got a chat template that hides the answer {ANSWER!r}, expected one that writes every turn")
    special = set(tokenizer.get_added_vocab().values())
    ends = [token for token in tokenizer(after, add_special_tokens=False)["input_ids"] if token in special]
    if not ends:
        raise ValueError(
            f"got a chat template that writes {after!r} after an answer, expected a special token that ends the turn"
        )
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])

    try:
        rendered = tokenizer.apply_chat_template(
            [{"role": "system", "content": SYSTEM_PROMPT}, chat[0]], tokenize=False
        )
    except TemplateError:  # Gemma's raises
        return False
    return SYSTEM_PROMPT in rendered
