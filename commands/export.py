"""`lmmvqa export`: a checkpoint as a complete repository."""

import os
from dataclasses import dataclass, field
from typing import Literal


HELP = "write a checkpoint that loads without LMM-VQA installed, and push it to the Hub"
DESCRIPTION = "Writes weights, processor, code files and model card to one folder, a complete Hub repository."


@dataclass(kw_only=True)
class Options:
    model: str = field(metadata={"help": "checkpoint folder or Hub repository"})
    out: str = field(metadata={"help": "folder for the export", "metavar": "DIR"})
    card: str | None = field(
        default=None, metadata={"help": "model card (default: README.md of the checkpoint folder)", "metavar": "FILE"}
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = field(
        default=None, metadata={"help": "of the stored weights"}
    )
    push: str | None = field(
        default=None, metadata={"help": "upload the folder to this Hub repository", "metavar": "OWNER/NAME"}
    )
    private: bool = field(default=False, metadata={"help": "make a new repository private"})


def run(options: Options) -> int:
    import torch
    from transformers import AutoProcessor

    from ..checkpoints.export import check_whole, export_checkpoint, load_checkpoint, push_checkpoint
    from ..checkpoints.training_videos import carry_training_videos

    check_whole(options.model)
    card = options.card or os.path.join(options.model, "README.md")
    if not os.path.isfile(card):
        raise ValueError(f"got no model card at {card}; write one and name it with --card")
    try:
        model = load_checkpoint(options.model)
    except ImportError as error:  # adapters without peft
        raise ValueError(str(error)) from error
    processor = AutoProcessor.from_pretrained(options.model)
    with open(card, encoding="utf-8") as file:
        text = file.read()
    dtype = getattr(torch, options.dtype) if options.dtype else None
    export_checkpoint(model, processor, options.out, text, dtype, name=options.push)
    carry_training_videos(options.model, options.out)
    print(f"wrote {options.out}")
    if options.push:
        print(f"pushed to {push_checkpoint(options.out, options.push, options.private)}")
    return 0
