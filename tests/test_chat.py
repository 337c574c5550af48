"""Conversations with a model: the text of plain generation, what is read once, and the measured score beside words."""

import io
import os
import subprocess
import sys

import pytest
import torch
from conftest import tiny_pair
from transformers import TextStreamer, pipeline

from lmmvqa.checkpoints.export import export_checkpoint, save_checkpoint
from lmmvqa.commands.command_line import main
from lmmvqa.modeling_lmmvqa import VideoQualityAssessmentPipeline
from lmmvqa.scoring.chat import Chat, is_about_quality
from lmmvqa.scoring.scorer import load_scorer
from lmmvqa.training.stages import HUMAN_ASSISTANT, set_chat_template


def scorer_of(model, processor) -> VideoQualityAssessmentPipeline:
    return pipeline(
        "video-quality-assessment",
        model=model,
        processor=processor,
        pipeline_class=VideoQualityAssessmentPipeline,
        device="cpu",
    )


@pytest.fixture
def scorer():
    model, processor = tiny_pair(temporal_reduction="none")
    processor.level_answer_thresholds = {"tiny": [30.0, 60.0]}
    return scorer_of(model, processor)


def blocks(clips: list[str], question: str) -> list[dict]:
    shown = [{"type": "video", "path": clip} for clip in clips]
    return [{"role": "user", "content": [*shown, {"type": "text", "text": question}]}]


def generated(scorer, chat: list[dict]) -> str:
    answer = pipeline("image-text-to-text", model=scorer.model, processor=scorer.processor)
    return answer(text=chat, max_new_tokens=12, return_full_text=False)[0]["generated_text"].strip()


def test_the_text_is_that_of_the_standard_pipeline_in_every_turn(scorer, clips, monkeypatch):
    read = []
    forward = scorer.model.model.language_model.forward

    def counting(**inputs):
        read.append(inputs["inputs_embeds"].shape[1])
        return forward(**inputs)

    chat = Chat(scorer, clips, max_new_tokens=12)
    monkeypatch.setattr(scorer.model.model.language_model, "forward", counting)
    towers = []
    monkeypatch.setattr(scorer.model, "encode_pixels", lambda **_: towers.append(1))
    first = chat.ask("What moves?")
    num_first = read[0]
    read.clear()
    second = chat.ask("Where to?")
    assert read[0] < num_first / 2 and not towers  # of the second turn nothing but what is new is read
    monkeypatch.undo()
    asked = blocks(clips, "What moves?")
    assert first and first == generated(scorer, asked)
    asked += [{"role": "assistant", "content": first}, {"role": "user", "content": "Where to?"}]
    assert second == generated(scorer, asked)


def test_an_answer_that_is_tokenised_otherwise_is_read_again(scorer, clips):
    chat = Chat(scorer, [clips[0]], max_new_tokens=12)
    first = chat.ask("What moves?")
    chat.turns[-1]["content"] = "good"  # as if it had been written of other pieces
    second = chat.ask("Where to?")
    asked = blocks([clips[0]], "What moves?")
    asked += [{"role": "assistant", "content": "good"}, {"role": "user", "content": "Where to?"}]
    assert first != "good" and second == generated(scorer, asked)


def test_answers_are_streamed(scorer, clips, capsys):
    chat = Chat(scorer, [clips[0]], max_new_tokens=12)
    answer = chat.ask(
        "What moves?", TextStreamer(scorer.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
    )
    assert capsys.readouterr().out.strip() == answer


def test_a_long_video_leaves_room_and_a_full_context_is_refused(clips):
    model, processor = tiny_pair(temporal_reduction="none")
    processor.level_answer_thresholds = None
    num_tokens = len(
        processor.expanded_token_ids(
            processor.conversation_prompt([{"role": "user", "content": "<video>\nWhat moves?"}], True), 2
        )
    )
    model.config.text_config.max_position_embeddings = num_tokens + 12
    chat = Chat(scorer_of(model, processor), [clips[2]], max_new_tokens=12)
    chat.ask("What moves?")
    assert len(chat._shown[0].seconds) == 2 and chat.measured is None
    with pytest.raises(ValueError, match="begin a new one"):
        for _ in range(12):
            chat.ask("And then?")


# Runs without this package: the code comes out of the exported folder
ELSEWHERE = """
import sys
sys.modules["lmmvqa"] = None  # as if it were not installed
from transformers import AutoModelForImageTextToText, AutoProcessor, TextStreamer
folder, clip = sys.argv[1:]
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)
blocks = [{"type": "video", "path": clip}, {"type": "text", "text": "What moves?"}]
inputs = processor.apply_chat_template(
    [{"role": "user", "content": blocks}], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
)
streamer = TextStreamer(processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
model.generate(**inputs, max_new_tokens=12, do_sample=False, streamer=streamer)
"""


def test_an_exported_model_streams_the_same_text_in_a_clean_process(clips, tmp_path):
    model, processor = tiny_pair(temporal_reduction="none")
    set_chat_template(processor, HUMAN_ASSISTANT)
    export_checkpoint(model, processor, tmp_path / "mine", "# Mine")
    expected = Chat(load_scorer(str(tmp_path / "mine"), "cpu"), [clips[1]], max_new_tokens=12).ask("What moves?")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path / "mine"), clips[1]]
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert expected and finished.stdout.strip() == expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How good is the quality?", True),
        ("Is it blurry?", True),
        ("Rate this.", True),
        ("Do you see noise?", True),
        ("What does the man hold?", False),
        ("Which way does it rotate?", False),
    ],
)
def test_which_questions_are_about_quality(question, expected):
    assert is_about_quality(question) is expected


def test_the_command(clips, tmp_path, capsys, monkeypatch):
    model, processor = tiny_pair()
    processor.level_answer_thresholds = {"tiny": [30.0, 60.0]}
    save_checkpoint(model, processor, tmp_path / "model", torch.float32)
    command = ["chat", clips[0], "--model", str(tmp_path / "model"), "--max_new_tokens", "8", "--device", "cpu"]
    assert main([*command[:2], "How good is the quality?", *command[2:], "--image", clips[1]]) == 0
    lines = capsys.readouterr().out.splitlines()
    scorer = load_scorer(str(tmp_path / "model"))
    expected = [f"[measured: {clip} {scorer(clip)['score']:.1f} ± " for clip in clips[:2]]
    assert [line.startswith(start) for line, start in zip(lines[-2:], expected, strict=True)] == [True, True]

    monkeypatch.setattr("sys.stdin", io.StringIO("What moves?\nWhere to?\n"))
    assert main(command) == 0
    assert "measured" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["chat", str(tmp_path / "gone.mp4"), "What?", "--model", str(tmp_path / "model")])
