"""A trained checkpoint to the embedded default: weights as float16, no code files, since the package holds the code.

`python -m lmmvqa.recipes.embed_checkpoint --model DIR --out default_checkpoint`
"""

from dataclasses import dataclass, field

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, HfArgumentParser

from ..modeling_lmmvqa.export import save_checkpoint


@dataclass
class EmbedArguments:
    model: str = field(metadata={"help": "Trained checkpoint folder."})
    out: str = field(metadata={"help": "Folder of the embedded default."})


def main() -> None:
    (arguments,) = HfArgumentParser(EmbedArguments).parse_args_into_dataclasses()
    model = AutoModelForImageTextToText.from_pretrained(arguments.model)
    processor = AutoProcessor.from_pretrained(arguments.model)
    save_checkpoint(model, processor, arguments.out, torch.float16)


if __name__ == "__main__":
    main()
