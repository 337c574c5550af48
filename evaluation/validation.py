"""Validation of a run after each of its epochs."""

import json
from dataclasses import dataclass

from accelerate.utils import gather_object
from torch.distributed.fsdp import register_fsdp_forward_method
from transformers import TrainerCallback

from ..training.feature_cache import FeatureCache
from ..training.trainer import LmmVqaTrainer
from .metrics import correlations
from .predictions import predict_scores


@dataclass
class Validation(TrainerCallback):
    """Validates after each epoch, by the readout that users get. For the log alone: no epoch is picked by it."""

    trainer: LmmVqaTrainer
    processor: object
    rows: list[dict]
    cache: FeatureCache | None

    def on_train_begin(self, *args, **kwargs):
        for method in ("encode_pixels", "answer_log_probabilities"):  # what FSDP has sharded is gathered for them too
            register_fsdp_forward_method(self.trainer.model, method)

    def on_epoch_end(self, args, state, control, **kwargs):
        metrics = self.metrics()
        if state.is_world_process_zero:
            print(json.dumps({"epoch": state.epoch, **metrics}), flush=True)

    def metrics(self) -> dict[str, dict[str, float]]:
        """Correlations with MOS for each data set among the rows, or why there are none; in all processes."""
        accelerator = self.trainer.accelerator
        own = [row["video"] for row in self.rows]
        # Processes that shard weights meet in every forward pass, of which there are more for a longer video
        if not (self.trainer.is_fsdp_enabled or self.trainer.is_deepspeed_enabled):
            own = own[accelerator.process_index :: accelerator.num_processes]
        with accelerator.autocast():
            results = predict_scores(self.trainer.model, self.processor, own, cache=self.cache)
        scores = dict(gather_object([(video, result.score) for video, result in zip(own, results, strict=True)]))
        metrics = {}
        for dataset in sorted({row["dataset"] for row in self.rows}):
            pairs = [(scores[row["video"]], row["mos"]) for row in self.rows if row["dataset"] == dataset]
            try:
                metrics[dataset] = correlations(*zip(*pairs, strict=True))
            except ValueError as error:  # two videos, or the same answer to all: no reason to stop training
                metrics[dataset] = {"n": len(pairs), "error": str(error)}
        return metrics
