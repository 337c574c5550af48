"""Rationales by rule: what they say, the stage that learns them, and that a tiny model does."""

import re

import pytest
import torch
from conftest import moved, run, tiny_pair
from safetensors.torch import load_file
from test_score_losses import batch_of, learn

from lmmvqa.datasets_scripts.degraded.chained_clips import DAMAGE_COLUMN
from lmmvqa.datasets_scripts.rows import load_rows, save_rows
from lmmvqa.modeling_lmmvqa import VideoQualityAssessmentPipeline
from lmmvqa.processing.answers_lmmvqa import DAMAGES, parse_score
from lmmvqa.training.qa_pairs import EXPLAIN, QaPairs, question_templates
from lmmvqa.training.rationales import rationale
from lmmvqa.training.stages import stage_options
from lmmvqa.training.trained_parts import train_only


NOTHING = dict.fromkeys(DAMAGES, 0.0)
SEEN = [
    (NOTHING | {"noise": 0.4}, 92.0, "It suffers from no damage that is seen. Score: 92."),
    (NOTHING | {"noise": 1.0, "blur": 3.5}, 23.4, "It suffers heavily from blur and slightly from noise. Score: 23."),
    (
        NOTHING | {"shake": 2.0, "banding": 0.6, "freeze": 4.0, "noise": 0.5},
        8.0,
        "It suffers heavily from freeze, clearly from shake and slightly from banding. Score: 8.",
    ),
]


@pytest.mark.parametrize(("damage", "mos", "text"), SEEN)
def test_rationales_name_the_strongest_damage_first_and_end_with_the_score(damage, mos, text):
    assert rationale(damage, mos) == text and parse_score(text) == round(mos)


def test_every_question_asks_for_faults_and_a_score():
    templates = question_templates(EXPLAIN)
    assert len({" ".join(template) for template in templates}) == 10 * 24 * 12
    for template in templates:
        assert re.findall(r"\d+", template.question) == ["0", "100"]
        assert re.fullmatch(r"[A-Z][^.?]*[.?] [A-Z][^.?]*\.", template.question) and "  " not in template.question


def test_the_stage_asks_for_scores_and_rationales_and_trains_the_decoder():
    assert stage_options("explain", 0, True) == [
        *("--train_parts", "spatial_projector", "temporal_projector", "language_model"),
        *("--learning_rate", "2e-05", "--num_train_epochs", "1", "--tasks", "score", "explain"),
    ]
    assert "language_model" not in stage_options("explain", 16, True)


def test_rows_that_do_not_say_what_was_done_are_refused(train, monkeypatch, arguments, capsys):
    with pytest.raises(SystemExit):
        run(train, monkeypatch, arguments, "--stage", "explain")
    assert "got the task 'explain' and no row with the column damage" in capsys.readouterr().err


def test_the_command_learns_rationales(train, monkeypatch, arguments, checkpoint, rows, tmp_path):
    damaged = [dict(row) for split in load_rows(rows).values() for row in split]
    for index, row in enumerate(damaged):
        row["damage"] = NOTHING | {"blur": float(index % 5)}
    save_rows(damaged, [], "tiny", tmp_path / "damaged", DAMAGE_COLUMN)
    before = load_file(checkpoint / "model.safetensors")
    after = run(train, monkeypatch, arguments, "--stage", "explain", "--data", tmp_path / "damaged", "--max_steps", 1)
    assert {name.split(".")[1] for name in moved(before, after)} == {
        *("spatial_projector", "temporal_projector", "language_model")
    }


def test_a_tiny_model_learns_to_explain(clips):
    model, processor = tiny_pair()
    train_only(model, ["spatial_projector", "temporal_projector", "language_model"])
    videos = processor.video_processor.encode(clips, model)
    rows = [
        {"video": video, "mos": mos, "dataset": "tiny", "damage": damage}
        for video, (damage, mos, _) in zip(videos, SEEN, strict=True)
    ]
    pairs = QaPairs(rows, ("score", EXPLAIN), {}, inference_share=1.0)
    batch = batch_of(processor, pairs)
    learn(model, batch, 80, 5e-3)
    scorer = VideoQualityAssessmentPipeline(model=model, processor=processor)
    prompts = [processor.prompt(question_templates(EXPLAIN)[0].question)] * len(videos)
    with torch.no_grad():
        texts = scorer.generate_answers(processor(videos, text=prompts), max_new_tokens=100, do_sample=False)
    assert texts == [text for _, _, text in SEEN]
    assert [result["score"] for result in scorer(clips)] == pytest.approx([92, 23, 8], abs=3)
