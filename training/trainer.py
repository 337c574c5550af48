"""transformers' Trainer with LMM-VQA's loss, whole checkpoints of what is trained, and a stop at the first NaN."""

import json
import shutil
import sys
import zipfile
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel, Trainer, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint, rotate_checkpoints
from transformers.utils import SAFE_WEIGHTS_NAME

from .non_finite import first_non_finite
from .score_losses import ScoreLoss
from .trained_parts import trained_state
from .version_sampler import VersionSampler


# In the output folder: where a checkpoint is until it is whole
PARTIAL_FOLDER = "partial"
TORCH_SUFFIXES = (".pt", ".pth", ".bin")  # of what torch.save writes: zip archives, whose table is their end


class LmmVqaTrainer(Trainer):
    """Trains on batches of `LmmVqaDataCollator`.

    The loss is the paper's, and beside it what `ScoreLoss` adds. Cross-entropy does not know that 64 is close to 63. A
    pretrained decoder does; one that starts from nothing learns many times faster when the expected score itself is pulled
    to the MOS. All terms are means over all answers of an optimizer step, however these are divided into accumulated
    batches and processes; what compares rows of a batch sees those of one accumulated batch alone.

    With `versions_a_batch`, versions of one content come together (`VersionSampler`), so that differences between them can
    be learned.

    A `checkpoint-N` folder holds what training changes, to resume from; adapters as peft saves them. Under FSDP and
    DeepSpeed it holds their own complete shards as well. It appears when it is whole, and only then are older ones
    removed. `save_model` writes a whole model.

    Args:
        score_loss: what is added to the cross-entropy.
        versions_a_batch: versions of one content that come together; 0: rows come in any order.
    """

    def __init__(self, *args, score_loss: ScoreLoss, versions_a_batch: int = 0, **kwargs):
        super().__init__(*args, **kwargs)
        self._is_saving_checkpoint = False
        self.score_loss, self.versions_a_batch = score_loss, versions_a_batch
        self.add_callback(_EpochCallback())

    def _get_train_sampler(self, train_dataset=None):
        if not self.versions_a_batch:
            return super()._get_train_sampler(train_dataset)
        return VersionSampler(self.train_dataset.contents, self.versions_a_batch, self.args.seed)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The batches of one optimizer step in this process, and how many answer tokens all processes have in it."""
        self.step_batches, num_items_in_batch = super().get_batch_samples(epoch_iterator, num_batches, device)
        num_scores = sum((~batch["scores"].isnan()).sum() for batch in self.step_batches)
        self.num_scores = self.accelerator.reduce(torch.as_tensor(num_scores, device=device), "sum")
        return self.step_batches, num_items_in_batch

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        scores, contents, data_sets = (inputs.pop(name) for name in ("scores", "contents", "data_sets"))
        if not self.score_loss.is_used:
            if self.label_smoother is None:  # which wants all logits
                # Of a large vocabulary, those of what is not learned would take most of the memory
                next_labels = nn.functional.pad(inputs["labels"], (0, 1), value=-100)[:, 1:]
                is_learned = next_labels != -100
                inputs |= {"logits_to_keep": is_learned, "shift_labels": next_labels[is_learned]}
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs["labels"]
        inputs = self.score_loss.with_answer_nodes(inputs, self.accelerator.unwrap_model(model).dtype)
        inputs["labels"] = self.score_loss.hard_labels(inputs["labels"], scores)
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        log_probabilities = self.score_loss.log_probabilities(outputs.logits, labels)
        errors, soft = self.score_loss(log_probabilities, scores, contents, data_sets)
        if num_items_in_batch is None:  # this batch alone, as the cross-entropy
            num_scores = (~scores.isnan()).sum().clamp(min=1)
            loss = loss + (errors + soft) / num_scores
        else:  # gradients are averaged over processes; soft labels take the place of tokens
            of_scores = errors / self.num_scores.clamp(min=1) + soft / num_items_in_batch
            loss = loss + of_scores * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def _get_grad_norm(self, model, grad_norm=None):
        """
        Stops before weights are updated with a NaN, so that the last checkpoint is good and the batch can be run again.

        The one wait for the device in an optimizer step; `logging_nan_inf_filter` would wait in each of its batches.

        Raises:
            FloatingPointError: the loss or the gradient is not finite.
        """
        grad_norm = super()._get_grad_norm(model, grad_norm)
        if self.accelerator.scaler is not None:  # float16's scaler meets infinities on purpose, and skips the update
            return grad_norm
        # Reduced, so that all processes of a sharded model run the passes below together
        if not bool(torch.isfinite(self.accelerator.reduce(self._tr_loss, "sum") + grad_norm)):
            where = first_non_finite(
                self.model,
                [partial(self.compute_loss, self.model, self._prepare_inputs(batch)) for batch in self.step_batches],
            )
            raise FloatingPointError(
                f"got a non-finite loss or gradient at step {self.state.global_step + 1}, first in "
                f"{where or 'another process, or not again when repeated'}; expected finite numbers: lower "
                "learning_rate, or look at the weights and videos that were loaded"
            )
        return grad_norm

    def newest_checkpoint(self) -> str | None:
        """
        The newest `checkpoint-N` folder, or None; in all processes.

        What a run was stopped in the middle of writing, or of removing, is removed here, and named on stderr.

        Raises:
            ValueError: a file of it is damaged, as where the power went.
        """
        output = Path(self.args.output_dir)
        if self.args.should_save:
            for folder in (output / PARTIAL_FOLDER, *output.glob(f"{PREFIX_CHECKPOINT_DIR}-*")):
                if folder.is_dir() and not (folder / TRAINER_STATE_NAME).is_file():  # which is written last
                    print(f"removed {folder}, which is not whole: a run was stopped there", file=sys.stderr)
                    shutil.rmtree(folder)
        self.accelerator.wait_for_everyone()
        newest = get_last_checkpoint(output)
        if newest and (damaged := first_damaged(Path(newest))):
            raise ValueError(
                f"got {damaged}, which is damaged or cut, expected a whole checkpoint; remove {newest} to go on from the one "
                "before it"
            )
        return newest

    def _save_checkpoint(self, model, trial):
        self._is_saving_checkpoint = True
        super()._save_checkpoint(model, trial)
        self._is_saving_checkpoint = False
        self.accelerator.wait_for_everyone()  # each writes its random state
        if self.args.should_save:
            output = Path(self._get_output_dir(trial))
            name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            shutil.rmtree(output / name, ignore_errors=True)  # what announces one that SIGTERM asks for
            (output / PARTIAL_FOLDER / name).rename(output / name)
            (output / PARTIAL_FOLDER).rmdir()
            rotate_checkpoints(str(output), self.args.save_total_limit)

    def _get_output_dir(self, trial):
        output = super()._get_output_dir(trial)
        return str(Path(output) / PARTIAL_FOLDER) if self._is_saving_checkpoint else output

    def _save(self, output_dir=None, state_dict=None):
        is_checkpoint = Path(output_dir).name.startswith(PREFIX_CHECKPOINT_DIR)
        if not is_checkpoint or not isinstance(self.accelerator.unwrap_model(self.model), PreTrainedModel):
            own_class = self.model.__class__
            if isinstance(self.model, FSDPModule):  # FSDP's code would be copied as the model's; it derives so itself
                self.model.__class__ = own_class.__mro__[2]
            super()._save(output_dir, state_dict)
            self.model.__class__ = own_class
        elif self.args.should_save:
            # Without config.json: nobody shall load it as a model, with random weights for all that is frozen
            state_dict = self.model.state_dict() if state_dict is None else state_dict
            weights = {name: state_dict[name].contiguous() for name in trained_state(self.model) & state_dict.keys()}
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            save_file(weights, Path(output_dir) / SAFE_WEIGHTS_NAME, metadata={"format": "pt"})

    def _issue_warnings_after_load(self, load_result):
        """
        Raises:
            ValueError: a checkpoint does not hold what is trained, or holds more.
        """
        differences = [*(trained_state(self.model) & set(load_result.missing_keys)), *load_result.unexpected_keys]
        if differences:
            raise ValueError(
                f"got a checkpoint that differs from what is trained in {len(differences)} tensors, such as "
                f"{min(differences)}, expected the same train_parts and lora_rank; resume with those that the run was "
                "started with, or choose another output_dir"
            )


def first_damaged(checkpoint: Path) -> Path | None:
    """The first file of a `checkpoint-N` folder that does not hold what its suffix says, or is cut; by its beginning and end."""
    for file in sorted(path for path in checkpoint.iterdir() if path.is_file()):
        try:
            if file.suffix == ".json":
                json.loads(file.read_text(encoding="utf-8"))
            elif file.suffix == ".safetensors":
                with safe_open(file, "pt"):
                    pass
            elif file.suffix in TORCH_SUFFIXES and not zipfile.is_zipfile(file):
                return file
        except (ValueError, SafetensorError):
            return file
    return None


class _EpochCallback(TrainerCallback):
    """Tells the data set its epoch: accelerate's loaders do so in a single process only."""

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        train_dataloader.dataset.set_epoch(int(state.epoch or 0))
