"""Trains LMM-VQA on rated videos and writes a complete checkpoint (section IV-A).

    python train.py --model DIR --data ROWS_DIR [ROWS_DIR ...] --output_dir runs/mine --export_dir mine

`--model` is a checkpoint folder or repository, `--data` folders that the builders in `datasets_scripts/` wrote. The
output folder holds checkpoints to resume from and at last the trained model, for use where LMM-VQA is installed; the
export folder is complete, code included. Every option of transformers' TrainingArguments works too. The defaults are
the paper's: both questions for each video, towers and decoder frozen, learning rate 1e-3, batch 32, 6 epochs.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    HfArgumentParser,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from lmmvqa.datasets_scripts.qa_pairs import TASKS, QaPairs, level_thresholds
from lmmvqa.datasets_scripts.rows import load_rows
from lmmvqa.evaluation.metrics import correlations
from lmmvqa.evaluation.predictions import predict_scores
from lmmvqa.modeling_lmmvqa.export import export_checkpoint
from lmmvqa.modeling_lmmvqa.model_card import training_model_card
from lmmvqa.processing.data_collator import LmmVqaDataCollator
from lmmvqa.processing.feature_cache import FeatureCache


PARTS = ("spatial_projector", "temporal_projector", "vision_tower", "temporal_tower", "language_model")


@dataclass
class ModelArguments:
    model: str = field(metadata={"help": "Checkpoint folder or repository to start from."})
    train_parts: list[str] = field(
        default_factory=lambda: ["spatial_projector", "temporal_projector"],
        metadata={"help": f"What is trained, of {', '.join(PARTS)}; the rest is frozen."},
    )
    export_dir: str | None = field(default=None, metadata={"help": "Folder for the complete trained checkpoint."})
    license: str | None = field(default=None, metadata={"help": "Of the trained weights, for the model card."})


@dataclass
class DataArguments:
    data: list[str] = field(metadata={"help": "Folders of rows {video, mos, dataset, split, group}."})
    tasks: list[str] = field(
        default_factory=lambda: list(TASKS), metadata={"help": "Questions for each video: score, level or both."}
    )
    template_sizes: list[int] | None = field(
        default=None,
        metadata={"help": "How many system prompts, instructions and restrictions to combine; default: all."},
    )
    inference_share: float = field(
        default=0.5, metadata={"help": "Share of the question that inference asks; 0: all drawn evenly."}
    )
    score_noise: float = field(
        default=0.0, metadata={"help": "Standard deviation (MOS) of the noise on each score answer."}
    )
    readout_weight: float = field(
        default=0.0, metadata={"help": "Weight of the squared error of the expected score beside the cross-entropy."}
    )
    feature_cache: str | None = field(
        default=None, metadata={"help": "Folder for the frozen towers' features, computed once a video."}
    )


@dataclass
class LmmVqaTrainingArguments(TrainingArguments):
    learning_rate: float = 1e-3
    per_device_train_batch_size: int = 32
    num_train_epochs: float = 6.0
    remove_unused_columns: bool = False
    label_names: list[str] | None = field(default_factory=lambda: ["labels"])


class LmmVqaTrainer(Trainer):
    """Adds to the paper's loss what the score readout misses, in squared units of 25 MOS.

    Cross-entropy does not know that 64 is close to 63. A pretrained decoder does; one that starts from nothing learns
    many times faster when the expected score itself is pulled to the MOS.
    """

    def __init__(self, *args, readout_weight: float, score_answer_ids: list[list[int]], **kwargs):
        super().__init__(*args, **kwargs)
        self.readout_weight = readout_weight
        if readout_weight and any(len(ids) > 1 for ids in score_answer_ids):
            raise ValueError(
                "got a readout_weight for a tokenizer that splits numbers, expected one token for each of 0 to 100; "
                "set readout_weight to 0"
            )
        self.score_token_ids = [ids[0] for ids in score_answer_ids]

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        scores = inputs.pop("scores")
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        asked = ~scores.isnan()
        if self.readout_weight and asked.any():
            # The logits that decide the first answer token stand one place before it
            before = (inputs["labels"] != -100).int().argmax(-1) - 1  # (batch,)
            logits = outputs.logits[torch.arange(len(before)), before][:, self.score_token_ids]  # (batch, 101)
            expected = logits.float().softmax(-1) @ torch.arange(101.0, device=logits.device)
            loss = loss + self.readout_weight * (((expected - scores)[asked] / 25) ** 2).mean()
        return (loss, outputs) if return_outputs else loss


def train_only(model: PreTrainedModel, parts: list[str]) -> None:
    """Freezes everything but the named parts.

    Raises:
        ValueError: a part does not exist.
    """
    for part in parts:
        if part not in PARTS:
            raise ValueError(f"got the part {part!r} in train_parts, expected some of {', '.join(PARTS)}")
    model.requires_grad_(False)
    for part in parts:
        model.model.get_submodule(part).requires_grad_(True)
    model.lm_head.requires_grad_("language_model" in parts)


def evaluate(model, processor, rows: list[dict], cache: FeatureCache | None) -> dict[str, dict[str, float]]:
    """Correlations with MOS for each data set among the rows, or why there are none."""
    results = predict_scores(model, processor, [row["video"] for row in rows], cache=cache)
    metrics = {}
    for dataset in sorted({row["dataset"] for row in rows}):
        pairs = [
            (result.score, row["mos"]) for result, row in zip(results, rows, strict=True) if row["dataset"] == dataset
        ]
        try:
            metrics[dataset] = correlations(*zip(*pairs, strict=True))
        except ValueError as error:  # two videos, or a model that answers the same to all: no reason to stop training
            metrics[dataset] = {"n": len(pairs), "error": str(error)}
    return metrics


@dataclass
class ValidationCallback(TrainerCallback):
    """Validates after each epoch, by the readout that users get. For the log alone: no epoch is picked by it."""

    processor: object
    rows: list[dict]
    cache: FeatureCache | None

    def on_epoch_end(self, args, state, control, model=None, **kwargs):
        if state.is_world_process_zero:
            print(
                json.dumps({"epoch": state.epoch, **evaluate(model, self.processor, self.rows, self.cache)}),
                flush=True,
            )


def main() -> None:
    parser = HfArgumentParser((ModelArguments, DataArguments, LmmVqaTrainingArguments))
    model_args, data_args, training_args = parser.parse_args_into_dataclasses()
    set_seed(training_args.seed)

    splits = [load_rows(folder) for folder in data_args.data]
    train_rows = [row for split in splits for row in split["train"]]
    validation_rows = [row for split in splits if "validation" in split for row in split["validation"]]

    model = AutoModelForImageTextToText.from_pretrained(model_args.model).to(training_args.device)
    processor = AutoProcessor.from_pretrained(model_args.model)
    processor.level_answer_thresholds = level_thresholds(train_rows)
    train_only(model, model_args.train_parts)

    cache = None
    if data_args.feature_cache:
        cache = FeatureCache(data_args.feature_cache, model.eval(), processor)
        cache.build([row["video"] for row in train_rows + validation_rows])

    trainer = LmmVqaTrainer(
        readout_weight=data_args.readout_weight,
        score_answer_ids=processor.score_answer_ids,
        model=model,
        args=training_args,
        train_dataset=QaPairs(
            train_rows,
            tuple(data_args.tasks),
            processor.level_answer_thresholds,
            data_args.score_noise,
            cache,
            training_args.seed,
            template_sizes=data_args.template_sizes,
            inference_share=data_args.inference_share,
        ),
        data_collator=LmmVqaDataCollator(processor),
        processing_class=processor,
        callbacks=[ValidationCallback(processor, validation_rows, cache)] if validation_rows else None,
    )
    output = Path(training_args.output_dir)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(output) if output.is_dir() else None)
    trainer.save_model()

    metrics = {"train_loss": trainer.state.log_history[-1].get("train_loss")}
    if validation_rows:
        metrics["validation"] = evaluate(model, processor, validation_rows, cache)
    trainer.save_metrics("train", metrics)
    if model_args.export_dir and trainer.is_world_process_zero():
        name = Path(model_args.export_dir).name
        card = training_model_card(model, name, model_args, data_args, training_args, train_rows, metrics)
        export_checkpoint(model, processor, model_args.export_dir, card)


if __name__ == "__main__":
    main()
