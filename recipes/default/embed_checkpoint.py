"""A trained checkpoint to the embedded default: weights as float16, no code files, since the package holds the code.

`python -m recipes.default.embed_checkpoint --model DIR --out default_checkpoint`
"""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.hf_argparser import HfArg, HfArgumentParser

from lmmvqa.checkpoints.export import save_checkpoint
from lmmvqa.checkpoints.training_videos import carry_training_videos


@dataclass
class EmbedArguments:
    model: str = HfArg(help="Trained checkpoint folder.")
    out: str = HfArg(help="Folder of the embedded default.")


def without_code(settings: dict) -> dict:
    """The settings without the entries that point to code files, at any depth."""
    return {
        name: without_code(value) if isinstance(value, dict) else value
        for name, value in settings.items()
        if name not in ("auto_map", "custom_pipelines")
    }


def main() -> None:
    (arguments,) = HfArgumentParser(EmbedArguments).parse_args_into_dataclasses()
    model = AutoModelForImageTextToText.from_pretrained(arguments.model)
    processor = AutoProcessor.from_pretrained(arguments.model)
    with tempfile.TemporaryDirectory() as complete:
        save_checkpoint(model, processor, complete, torch.float16)
        for file in Path(complete).iterdir():
            if file.suffix != ".py":
                shutil.copyfile(file, Path(arguments.out) / file.name)
    carry_training_videos(arguments.model, arguments.out)
    for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
        file = Path(arguments.out) / name
        settings = without_code(json.loads(file.read_text(encoding="utf-8")))
        file.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
