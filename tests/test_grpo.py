"""GRPO on rationales: what is rewarded, what moves, and that scores get better."""

import math

import pytest
import torch
from conftest import moved, tiny_pair
from safetensors.torch import load_file
from test_score_losses import BESIDE, batch_of

from lmmvqa.checkpoints.export import save_checkpoint
from lmmvqa.datasets_scripts.rows import save_rows
from lmmvqa.scoring.scorer import load_scorer
from lmmvqa.training.qa_pairs import EXPLAIN, QaPairs
from lmmvqa.training.trained_parts import train_only


pytest.importorskip("trl")
from trl import GRPOConfig  # noqa: E402

from lmmvqa.recipes.grpo import GrpoArguments, form_reward, score_reward, train_grpo  # noqa: E402


def test_form_and_score_are_rewarded():
    texts = [
        "It suffers heavily from blur. Score: 23.",
        "Score: 23.",
        "It is fine. Score: 23. Or 24.",
        " Fine. Score: 90.\n",
    ]
    assert form_reward(texts) == [1, 0, 0, 1]
    assert score_reward(texts, mos=[25.0, 23.0, 23.0, 84.9], tolerance=5.0) == [1, 0, 0, 0]


@pytest.fixture
def explaining(clips, tmp_path):
    """A folder of a tiny model that explains, but doubts the score of each clip, and rows with another MOS for each."""
    model, processor = tiny_pair()
    train_only(model, ["spatial_projector", "temporal_projector", "language_model"])
    videos = processor.video_processor.encode(clips, model)
    rows = [
        {"video": video, "mos": mos, "dataset": "tiny", "damage": {"blur": 4.0}}
        for video in videos
        for mos in (20.0, 80.0)
    ]
    pairs = QaPairs(rows, (EXPLAIN,), {}, inference_share=1.0)
    inputs = {name: value for name, value in batch_of(processor, pairs).items() if name not in BESIDE}
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=5e-3)
    for _ in range(120):
        model(**inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    save_checkpoint(model, processor, tmp_path / "explains", torch.float32)
    rated = [
        {"video": clip, "mos": 80.0, "dataset": "tiny", "split": "train", "group": str(index)}
        for index, clip in enumerate(clips)
    ]
    save_rows(rated, [], "tiny", tmp_path / "rated")
    return tmp_path


@pytest.mark.slow
def test_scores_come_within_the_tolerance_and_the_decoder_alone_moves(explaining, clips):
    config = GRPOConfig(
        output_dir=str(explaining / "run"),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=24,
        num_generations=8,
        max_completion_length=48,
        max_steps=8,
        learning_rate=2e-3,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = train_grpo(
        GrpoArguments(str(explaining / "explains"), str(explaining / "rated"), str(explaining / "out")), config
    )
    logged = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(logged) == 8 and not any(math.isnan(entry["reward"]) for entry in logged)

    def share(entries: list[dict]) -> float:
        """Of the rationales of the right form those with a score within the tolerance."""
        form, score = (
            sum(entry[f"rewards/{name}/mean"] for entry in entries) for name in ("form_reward", "score_reward")
        )
        return score / form

    assert share(logged[-3:]) > share(logged[:2]) + 0.1
    before, after = (load_file(explaining / name / "model.safetensors") for name in ("explains", "out"))
    changed = moved(before, after)
    assert changed and all(name.startswith("model.language_model.layers") for name in changed)
    assert 0 < load_scorer(str(explaining / "out"), "cpu")(clips[0])["score"] < 100
