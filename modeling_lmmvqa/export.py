"""One step that writes a complete checkpoint folder: it loads here, and elsewhere with `trust_remote_code=True`."""

import json
from pathlib import Path

import torch
from transformers import pipeline

from ..processing.processing_lmmvqa import LmmVqaProcessor
from ..processing.video_processing_lmmvqa import LmmVqaVideoProcessor
from .configuration_lmmvqa import LmmVqaConfig
from .modeling_lmmvqa import LmmVqaForConditionalGeneration


def save_checkpoint(
    model: LmmVqaForConditionalGeneration, processor: LmmVqaProcessor, folder: str | Path, dtype: torch.dtype
) -> None:
    """
    Weights (safetensors), configuration, generation configuration, processor and tokenizer, for where LMM-VQA is
    installed.

    Args:
        dtype: of the stored weights. Loading gives the model's own dtype back, so that scores are computed as before.
    """
    folder = Path(folder)
    weights = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()
    }
    model.save_pretrained(folder, state_dict=weights)
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
) -> None:
    """
    A complete repository: what `save_checkpoint` writes, the code files for machines without LMM-VQA, the pipeline,
    and the model card.

    Args:
        model_card: text of README.md.
        dtype: of the stored weights; the model's own by default.
    """
    LmmVqaConfig.register_for_auto_class("AutoConfig")
    LmmVqaForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")
    LmmVqaVideoProcessor.register_for_auto_class("AutoVideoProcessor")
    LmmVqaProcessor.register_for_auto_class("AutoProcessor")
    # A class registers for one Auto class only; these are for the others
    model.config.auto_map = {
        "AutoModel": "modeling_lmmvqa.LmmVqaModel",
        "AutoModelForMultimodalLM": "modeling_lmmvqa.LmmVqaForConditionalGeneration",
    }
    folder = Path(folder)
    # Writes the pipeline's code and its entry in config.json, which the next steps keep
    pipeline("video-quality-assessment", model=model, processor=processor).save_pretrained(folder)
    save_checkpoint(model, processor, folder, dtype or model.dtype)
    (folder / "README.md").write_text(model_card, encoding="utf-8")
