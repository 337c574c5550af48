"""What a run of train.py hangs on, for the seal of its output folder, and what is refused before any work."""

import os
from argparse import Namespace
from fnmatch import fnmatchcase

import torch
from transformers import AutoConfig, TrainingArguments
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.integrations.integration_utils import get_reporting_integration_callbacks

from ..checkpoints.checkpoint_digest import checkpoint_digest
from ..checkpoints.hub_connection import check_obtainable
from ..datasets_scripts.rows import load_rows, row_media, rows_digest
from ..modeling_lmmvqa import LmmVqaConfig
from .score_losses import SCORE_LOSS_WEIGHTS


# Patterns of arguments that change no weight of the trained model: where things lie, what is logged and kept, on what
# it is computed, and what happens to the finished model
FREE_ARGUMENTS = (
    *("dry_run", "output_dir", "export_dir", "license", "push_to_hub", "hub_*"),
    *("log_*", "logging_*", "disable_tqdm", "report_to", "run_name", "project", "trackio_*", "skip_memory_metrics"),
    *("save_*", "enable_jit_checkpoint", "resume_from_checkpoint", "do_*", "*eval*"),
    *("use_cpu", "local_rank", "ddp_*", "torch_empty_cache_steps", "activation_checkpointing*"),
    *("gradient_checkpointing*", "dataloader_num_workers", "dataloader_p*", "dataloader_multiprocessing_context"),
)


def run_settings(model_args, data_args, training_args: TrainingArguments, rows: dict[str, list[dict]]) -> dict:
    """
    All that the trained model hangs on, by name.

    Args:
        model_args, data_args: the dataclasses of `train.py`.
        rows: by split.
    """
    arguments = {**vars(model_args), **vars(data_args), **training_args.to_dict()}
    settings = {
        name: value
        for name, value in arguments.items()
        if not any(fnmatchcase(name, pattern) for pattern in FREE_ARGUMENTS)
    }
    del settings["data"], settings["mix"]
    settings |= {
        "model": checkpoint_digest(model_args.model),
        "feature_cache": data_args.feature_cache is not None,  # which rounds to float16
        "world_size": training_args.world_size,
    }
    return settings | {f"{split}_rows": rows_digest(of_split) for split, of_split in rows.items()}


# What train.py decides itself, and transformers' options that would say otherwise: the only value of each
DECIDED = {
    "resume_from_checkpoint": None,
    "eval_strategy": "no",
    "eval_on_start": False,
    "load_best_model_at_end": False,
    "metric_for_best_model": None,
    "remove_unused_columns": False,
}
# Values of theirs that cannot work with what train.py does
REFUSED = {"save_strategy": "best", "train_sampling_strategy": "group_by_length", "use_liger_kernel": True}
LOWEST = {"learning_rate": 0, "gradient_accumulation_steps": 1, "per_device_train_batch_size": 0, "lora_rank": 0}


def check_decided(options: Namespace, config: LmmVqaConfig) -> None:
    """
    Args:
        options: of train.py, as given: transformers would change some of them.
        config: of the model to start from.

    Raises:
        ValueError: they ask for what train.py does in its own way, for a precision that does not hold the weights, or are
            numbers that cannot be.
    """
    given = [f"{name}={value}" for name, only in DECIDED.items() if (value := getattr(options, name)) != only]
    given += [f"{name}={value}" for name, value in REFUSED.items() if getattr(options, name) == value]
    if given:
        raise ValueError(
            f"got {', '.join(given)}, expected none of them: train.py reads and orders rows itself, validates rated videos after "
            "each epoch for the log alone, keeps the last weights and resumes from the newest checkpoint in output_dir, and Liger "
            "has no kernels for this model; leave them out"
        )
    for name, lowest in LOWEST.items():
        if not getattr(options, name) >= lowest:  # NaN neither
            raise ValueError(f"got {name}={getattr(options, name)}, expected a number from {lowest} on")
    if options.fp16 and config.dtype == torch.bfloat16:
        raise ValueError(
            "got fp16 for a model stored in bfloat16, whose numbers may be larger than float16 holds, expected the same; "
            "take --bf16, or neither to train in float32"
        )


def check_options(data_args, training_args: TrainingArguments) -> None:
    """
    Raises:
        ValueError: the options do not go together, or with this machine.
        ImportError, RuntimeError: a library of `report_to` is not installed.
    """
    if training_args.n_gpu > 1:  # DataParallel would cut a batch's chunks apart from its videos
        raise ValueError(
            f"got {training_args.n_gpu} GPUs in one process, expected one process a GPU; start with torchrun or "
            "accelerate launch, or set CUDA_VISIBLE_DEVICES=0"
        )
    if data_args.feature_cache and is_deepspeed_zero3_enabled():
        raise ValueError(
            "got a feature_cache under ZeRO-3, which shards the towers before they can fill it, expected whole towers; "
            "take recipes/fsdp2.yaml, or leave the cache out"
        )
    of_scores = ("score_noise", "soft_label_std", "score_form", *SCORE_LOSS_WEIGHTS)
    if "score" not in data_args.tasks and (given := [name for name in of_scores if getattr(data_args, name)]):
        raise ValueError(
            f"got {', '.join(given)} with the tasks {', '.join(data_args.tasks)}, expected the task score, whose answers they "
            "are about; add it or leave them out"
        )
    if data_args.fidelity_weight and training_args.per_device_train_batch_size == 1:
        raise ValueError(
            "got fidelity_weight with per_device_train_batch_size=1, expected 2 or more: it compares the videos of a batch"
        )
    for callback in get_reporting_integration_callbacks(training_args.report_to):
        callback()


def read_model_config(model: str) -> LmmVqaConfig:
    """
    Raises:
        OSError: the Hub, where the model may be, cannot be reached.
        ValueError: there is no such model, or it is another kind of model.
    """
    expected = "expected a checkpoint folder or a Hub repository of an LMM-VQA model"
    check_obtainable(model)
    try:
        config = AutoConfig.from_pretrained(model)
    except (ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"got model {model!r}, {expected}: {reason}") from error
    if config.model_type != LmmVqaConfig.model_type:
        raise ValueError(
            f"got model {model!r} of type {config.model_type}, {expected}; make one with `lmmvqa assemble`"
        )
    return config


def read_rows(folders: list[str]) -> dict[str, list[dict]]:
    """
    The rows of the splits "train" and "validation", of all folders; see `stages.check_rows` for their kinds. What a folder
    that is named twice trains on counts twice; it is validated once.

    Raises:
        FileNotFoundError, ValueError: a folder holds no rows, or none to train on, or one trains on what another validates.
    """
    rows = {"train": [], "validation": []}
    for index, folder in enumerate(folders):
        splits = load_rows(folder)
        if "train" not in splits:
            raise ValueError(f"got {folder} with the splits {', '.join(splits)}, expected a split train to train on")
        rows["train"] += splits["train"]
        if folder not in folders[:index]:
            rows["validation"] += splits.get("validation", [])
    train, validation = ({row["video"] for row in of_split if row["mos"] is not None} for of_split in rows.values())
    if both := sorted(train & validation):
        raise ValueError(
            f"got {len(both)} rated videos in a split train and in a split validation of {', '.join(folders)}, such as {both[0]}, "
            "expected each in one: split the sets together, or leave one out"
        )
    return rows


def check_media(rows: dict[str, list[dict]]) -> None:
    """
    Raises:
        ValueError: a file of the rows is not there.
    """
    files = {file for of_split in rows.values() for row in of_split for file in row_media(row)}
    if missing := sorted(file for file in files if not os.path.exists(file)):
        raise ValueError(
            f"got {len(missing)} of {len(files)} files that are not there, such as {missing[0]}, expected all of them; put "
            "them back, or prepare the rows again"
        )
