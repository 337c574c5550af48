"""`lmmvqa export`: a checkpoint as a complete repository, or as graphs for ONNX Runtime and browsers."""

import os
import shutil
from dataclasses import dataclass
from typing import Literal

from ..scoring.options import option


HELP = "write a checkpoint that loads without LMM-VQA installed, and push it to the Hub; or ONNX graphs"
DESCRIPTION = (
    "Writes weights, processor, code files and model card to one folder, a complete Hub repository; or with --onnx the "
    "model as graphs for ONNX Runtime and for the page in browser/."
)


@dataclass(kw_only=True)
class Options:
    model: str | None = option("checkpoint folder or Hub repository (default: the embedded model)", default=None)
    out: str = option("folder for the export", metavar="DIR", output="folder")
    card: str | None = option("model card (default: README.md of the checkpoint folder)", default=None, metavar="FILE")
    results: str | None = option(
        "metrics.json of `lmmvqa evaluate`: into the card's metadata and .eval_results/, beside what the "
        "checkpoint folder has there",
        default=None,
        metavar="FILE",
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = option("of the stored weights", default=None)
    push: str | None = option("upload the folder to this Hub repository", default=None, metavar="OWNER/NAME")
    private: bool = option("make a new repository private", default=False)
    onnx: bool = option("write ONNX graphs, of models built as the embedded one, and nothing else", default=False)


def run(options: Options) -> int:
    import torch
    from transformers import AutoProcessor

    from ..checkpoints.export import (
        check_export_folder,
        export_checkpoint,
        load_checkpoint,
        push_checkpoint,
    )
    from ..checkpoints.hub_connection import check_obtainable
    from ..checkpoints.model_card import (
        EVAL_RESULTS,
        evaluation_figures,
        read_model_card,
        with_results,
        write_eval_results,
    )
    from ..checkpoints.onnx_export import check_packages, export_onnx
    from ..checkpoints.training_videos import carry_training_videos
    from ..scoring.scorer import default_checkpoint

    name = options.model or default_checkpoint()
    check_obtainable(name)
    card = options.card or os.path.join(name, "README.md")
    if options.onnx:
        check_packages()
        given = {name: getattr(options, name) for name in ("card", "dtype", "push", "private", "results")}
        if unused := [f"--{name}" for name, value in given.items() if value]:
            raise ValueError(f"got {', '.join(unused)} with --onnx, expected none of a repository; leave them out")
    elif options.private and not options.push:
        raise ValueError("got --private without --push, expected a repository; name it, or leave --private out")
    else:
        check_export_folder(options.out, name)
        text = read_model_card(card)
    try:
        model = load_checkpoint(name)
    except ImportError as error:  # adapters without peft
        raise ValueError(str(error)) from error
    processor = AutoProcessor.from_pretrained(name)
    if options.onnx:
        export_onnx(model.eval(), processor, options.out)
        print(f"wrote {options.out}")
        return 0
    dtype = getattr(torch, options.dtype) if options.dtype else None
    figures = evaluation_figures(options.results, name) if options.results else []
    if figures:
        text = with_results(text, options.push or os.path.basename(options.out), figures)
    export_checkpoint(model, processor, options.out, text, dtype, name=options.push)
    stored, exported = os.path.join(name, EVAL_RESULTS), os.path.join(options.out, EVAL_RESULTS)
    if os.path.isdir(stored):
        shutil.copytree(stored, exported)
    write_eval_results(options.out, figures)
    carry_training_videos(name, options.out)
    print(f"wrote {options.out}")
    if options.push:
        print(f"pushed to {push_checkpoint(options.out, options.push, options.private)}")
    return 0
