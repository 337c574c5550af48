"""Writes complete checkpoint folders: they load here, and elsewhere with `trust_remote_code=True`."""

import json
import shutil
from pathlib import Path

import torch
from huggingface_hub import create_repo, upload_folder
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText

from ..datasets_scripts.folder_seal import ROWS_FILE, SEAL_FILE, check_free_of
from ..modeling_lmmvqa.modeling_lmmvqa import LmmVqaForConditionalGeneration
from ..modeling_lmmvqa.pipeline_lmmvqa import VideoQualityAssessmentPipeline
from ..processing.processing_lmmvqa import LmmVqaProcessor
from .hub_connection import check_obtainable
from .model_card import EVAL_RESULTS, complete_model_card


# Of one model's weights, in its folder: `lmmvqa selfcheck` and `lmmvqa calibrate` write them
MEASURED_FILES = ("selfcheck.json", "calibration.json")

# What `pipeline(model=...)` reads of config.json; the class's file travels with the model's code
CUSTOM_PIPELINES = {
    "video-quality-assessment": {
        "impl": f"pipeline_lmmvqa.{VideoQualityAssessmentPipeline.__name__}",
        "pt": ["AutoModelForImageTextToText"],
        "type": "multimodal",
    }
}
# A class registers for one Auto class only; these are for the others
FURTHER_AUTO_CLASSES = {
    "AutoModel": "modeling_lmmvqa.LmmVqaModel",
    "AutoModelForDecision": "modeling_lmmvqa.LmmVqaForDecision",
    "AutoModelForMultimodalLM": "modeling_lmmvqa.LmmVqaForConditionalGeneration",
}


def is_adapter(model: str | Path) -> bool:
    """Whether a folder is what `train.py --lora_rank` writes."""
    return (Path(model) / "adapter_config.json").is_file()


def load_checkpoint(model: str | Path, base: str | None = None) -> LmmVqaForConditionalGeneration:
    """
    A whole model. Of the adapter that `train.py --lora_rank` writes it is what was trained from, with the adapter merged.

    Args:
        model: a folder or a repository.
        base: what an adapter was trained from; by default what it names itself.

    Raises:
        OSError: there is no such model.
        ValueError: a folder that holds a part of a model.
    """
    check_obtainable(model)
    if not is_adapter(model):
        return AutoModelForImageTextToText.from_pretrained(model)
    from peft import PeftConfig, PeftModel

    base = base or PeftConfig.from_pretrained(model).base_model_name_or_path
    start = AutoModelForImageTextToText.from_pretrained(base)
    return PeftModel.from_pretrained(start, model).merge_and_unload()


def save_checkpoint(
    model: LmmVqaForConditionalGeneration,
    processor: LmmVqaProcessor,
    folder: str | Path,
    dtype: torch.dtype | None = None,
    max_shard_size: str = "5GB",
) -> None:
    """
    Weights (safetensors), configuration, generation configuration, processor, tokenizer, and the code files and the
    pipeline for machines without LMM-VQA.

    Args:
        dtype: of the stored weights, the model's own by default. Towers are stored in float32 beside bfloat16, to which
            their features are not robust (`benchmarks/tower_precision.py`). Loading gives the model's own dtype back in
            any case, so that scores are computed as before. Another dtype needs memory for a second copy.
        max_shard_size: of one weights file.

    Raises:
        OSError: the folder cannot be written, or its disk is full.
    """
    folder = Path(folder)
    model.config.custom_pipelines = CUSTOM_PIPELINES
    model.config.auto_map = dict(FURTHER_AUTO_CLASSES)  # saving adds the registered ones, and copies the code
    state_dict = None
    if dtype not in (None, model.dtype):
        state_dict = {
            name: tensor
            if not tensor.is_floating_point() or (dtype == torch.bfloat16 and "_tower." in name)
            else tensor.to(dtype)
            for name, tensor in model.state_dict().items()
        }
    try:
        model.save_pretrained(folder, state_dict=state_dict, max_shard_size=max_shard_size)
    except SafetensorError as error:  # which is what it makes of a full disk
        raise OSError(f"got {folder}, to which weights cannot be written, expected room for them: {error}") from error
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["dtype"] = str(model.dtype).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    processor.save_pretrained(folder)


def export_checkpoint(
    model: LmmVqaForConditionalGeneration,
    processor: LmmVqaProcessor,
    folder: str | Path,
    model_card: str,
    dtype: torch.dtype | None = None,
    name: str | None = None,
) -> None:
    """
    A complete repository: what `save_checkpoint` writes, and the model card, see `complete_model_card`, as README.md. What a
    folder says that was measured of an earlier export there goes.

    Args:
        model_card: its text.
        name: of the repository, the folder's by default.
    """
    for measured in MEASURED_FILES:
        (Path(folder) / measured).unlink(missing_ok=True)
    shutil.rmtree(Path(folder) / EVAL_RESULTS, ignore_errors=True)
    save_checkpoint(model, processor, folder, dtype)
    card = complete_model_card(model_card, name or Path(folder).name)
    (Path(folder) / "README.md").write_text(card, encoding="utf-8")


def check_export_folder(folder: str | Path, model: str) -> None:
    """
    Args:
        folder: where a checkpoint is to be written, over an earlier one or anew.
        model: what it is made from.

    Raises:
        ValueError: it is a file, or holds the model itself, rows or a run.
    """
    folder = Path(folder)
    if folder.is_dir() and Path(model).is_dir() and folder.samefile(model):
        raise ValueError(f"got {folder} as the folder to write, which holds the model itself, expected another one")
    check_free_of(folder, (ROWS_FILE, SEAL_FILE), "a new folder or that of an earlier export")


def push_checkpoint(folder: str | Path, repo_id: str, private: bool = False, token: str | None = None) -> str:
    """
    Uploads a complete repository folder to the Hub, makes the repository where it is not there, gives its address.

    Raises:
        OSError: the Hub cannot be reached, or refuses; the folder is as it was.
        ValueError: the repository's name is none.
    """
    try:
        address = create_repo(repo_id, private=private, exist_ok=True, token=token)
        upload_folder(
            repo_id=address.repo_id, folder_path=folder, commit_message="Upload LMM-VQA checkpoint", token=token
        )
    except HfHubHTTPError.__bases__ as error:  # OSError, and what the HTTP library raises without a connection
        raise OSError(
            f"got no upload of {folder} to {repo_id}, expected a connection to the Hub and a token that may write there; "
            f"the folder is complete, push it again: {error}"
        ) from error
    return address.url
