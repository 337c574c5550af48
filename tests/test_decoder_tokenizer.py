"""Decoders' tokenizers and chat templates as they are published, on tiny vocabularies."""

import pytest
from tokenizers import SentencePieceBPETokenizer, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoProcessor, PreTrainedTokenizerFast

from lmmvqa.checkpoints.decoder_tokenizer import fix_chat, reserve_tokens
from lmmvqa.modeling_lmmvqa.answer_tree_lmmvqa import AnswerTree
from lmmvqa.processing.processing_lmmvqa import SYSTEM_PROMPT, LmmVqaProcessor
from lmmvqa.processing.video_processing_lmmvqa import LmmVqaVideoProcessor
from lmmvqa.training.data_collator import LmmVqaDataCollator


LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA_3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"
    "+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
LLAMA_3_2 = (
    "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    '{%- set date_string = strftime_now("%d %b %Y") %}{%- else %}{%- set date_string = "26 Jul 2024" %}'
    "{%- endif %}{%- endif %}{{ 'Today Date: ' + date_string + '\\n\\n' }}" + LLAMA_3
)
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
RESERVED = [f"<|reserved_special_token_{index}|>" for index in range(4)]
LLAMA_3_TOKENS = [
    *("<|begin_of_text|>", "<|end_of_text|>", *RESERVED[:2]),
    *("<|start_header_id|>", "<|end_header_id|>", RESERVED[2], "<|eot_id|>", RESERVED[3]),
]


def decoder_tokenizer(special_tokens, chat_template, **options):
    """Bytes, and the special tokens of a published tokenizer."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special_tokens)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=chat_template, **options)


def llama_2():
    tokenizer = SentencePieceBPETokenizer()
    special_tokens = ["<unk>", "<s>", "</s>"]
    texts = ["".join(map(chr, range(32, 127))), "▁[INST] <<SYS>>\n[/INST]"]
    tokenizer.train_from_iterator(texts, vocab_size=150, special_tokens=special_tokens, show_progress=False)
    names = dict(zip(("unk_token", "bos_token", "eos_token"), special_tokens, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, chat_template=LLAMA_2, **names)


def llama_3(chat_template=LLAMA_3, special_tokens=LLAMA_3_TOKENS):
    # As first published: the end of a turn is not the tokenizer's own eos_token
    return decoder_tokenizer(special_tokens, chat_template, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>")


def qwen():
    special_tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|video_pad|>"]
    return decoder_tokenizer(special_tokens, CHATML, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def smollm2():
    special_tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>"]
    return decoder_tokenizer(special_tokens, CHATML, eos_token="<|im_end|>", pad_token="<|im_end|>")


def gemma():
    special_tokens = ["<pad>", "<eos>", "<bos>", "<unused0>", "<unused1>", "<start_of_turn>", "<end_of_turn>"]
    return decoder_tokenizer(special_tokens, GEMMA, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")


def prepared(tokenizer) -> LmmVqaProcessor:
    key_frame_token, video_token = reserve_tokens(tokenizer)
    return LmmVqaProcessor(
        LmmVqaVideoProcessor(key_frame_size=32, chunk_size=32, chunk_frames=8),
        tokenizer,
        key_frame_token=key_frame_token,
        video_token=video_token,
        system_role=fix_chat(tokenizer),
        spatial_grid_size=2,
    )


@pytest.mark.parametrize(
    "make, placeholders, padding, end_of_turn, added",
    [
        (llama_3, RESERVED[:2], RESERVED[2], "<|eot_id|>", 0),
        (llama_2, ["<|key_frame|>", "<|video|>"], "<|pad|>", "</s>", 3),
        (qwen, ["<|image_pad|>", "<|video_pad|>"], "<|endoftext|>", "<|im_end|>", 0),
        (smollm2, ["<|key_frame|>", "<|video|>"], "<|im_end|>", "<|im_end|>", 2),
        (gemma, ["<unused0>", "<unused1>"], "<pad>", "<end_of_turn>", 0),
    ],
)
def test_published_tokenizers(make, placeholders, padding, end_of_turn, added, clips, tmp_path):
    before = len(make())
    processor = prepared(make())
    tokenizer = processor.tokenizer
    assert [processor.key_frame_token, processor.video_token] == placeholders
    assert (tokenizer.pad_token, tokenizer.eos_token) == (padding, end_of_turn)
    assert len(tokenizer) == before + added

    # Every answer can be told from every other, and ends its turn
    for answer_ids in (processor.score_answer_ids, processor.level_answer_ids):
        AnswerTree(answer_ids)
    answer = processor.answer_token_ids(processor.score_question, "63")
    assert tokenizer.decode(answer).strip().removesuffix(end_of_turn).strip() == "63"

    rows = [{"video": clip, "question": "How good?", "answer": "7", "score": 7.0} for clip in clips[:2]]
    batch = LmmVqaDataCollator(processor, max_positions=8192)(rows)
    for input_ids, labels, seconds in zip(batch["input_ids"], batch["labels"], (1, 2), strict=True):
        assert (input_ids == processor.image_token_ids[0]).sum() == 4 * seconds
        assert (input_ids == processor.video_token_id).sum() == 1
        text = tokenizer.decode(labels[labels != -100])
        assert text.strip().removesuffix(end_of_turn).strip() == "7"

    processor.save_pretrained(tmp_path)
    reloaded = AutoProcessor.from_pretrained(tmp_path)
    assert reloaded.prompt("How?", "63") == processor.prompt("How?", "63")
    assert reloaded.score_answer_ids == processor.score_answer_ids
    assert reloaded(clips[0])["input_ids"].tolist() == processor(clips[0])["input_ids"].tolist()


def test_llama_3_chat():
    assert prepared(llama_3()).prompt("How?", "63") == (
        f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{SYSTEM_PROMPT}<|eot_id|>"
        f"<|start_header_id|>user<|end_header_id|>\n\n{RESERVED[1]}\nHow?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n63<|eot_id|>"
    )


def test_without_a_system_role_the_users_turn_opens_with_the_system_prompt():
    processor = prepared(gemma())
    assert processor.prompt("How?") == (
        f"<bos><start_of_turn>user\n{SYSTEM_PROMPT}\n<unused1>\nHow?<end_of_turn>\n<start_of_turn>model\n"
    )


def test_a_template_that_drops_the_system_message_has_no_system_role():
    silent = (
        "{% for message in messages if message['role'] != 'system' %}{{ message['content'] }}<|eot_id|>{% endfor %}"
    )
    assert fix_chat(llama_3(silent)) is False
    assert fix_chat(llama_3()) is True


def test_llama_3_1_names_its_padding_token():
    tokenizer = llama_3(special_tokens=[*LLAMA_3_TOKENS, "<|finetune_right_pad_id|>"])
    reserve_tokens(tokenizer)
    assert tokenizer.pad_token == "<|finetune_right_pad_id|>"


def test_todays_date_is_fixed():
    tokenizer = llama_3(LLAMA_3_2)
    assert fix_chat(tokenizer)
    assert prepared(tokenizer).prompt().startswith("Today Date: 26 Jul 2024\n\n<|begin_of_text|>")


@pytest.mark.parametrize(
    "chat_template, message",
    [
        (None, "without a chat template.*choose its instruct version"),
        ("{% for message in messages %}{{ message['content'] }}\n{% endfor %}", "writes '\\\\n' after an answer"),
        ("{{ messages[0]['content'] }}<|eot_id|>", "hides the answer '63'"),
    ],
)
def test_templates_that_do_not_suit(chat_template, message):
    with pytest.raises(ValueError, match=message):
        fix_chat(llama_3(chat_template))
