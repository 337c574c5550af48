"""`lmmvqa assemble`: a checkpoint from public parts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..scoring.options import option


HELP = "make a checkpoint from public parts, to be trained"
DESCRIPTION = "Joins a vision tower, a temporal tower and a decoder with new random projectors, for train.py."


@dataclass(kw_only=True)
class Options:
    vision: str | None = option(
        "vision or image-text model (default: CLIP ViT-L/14)", default=None, metavar="DIR_OR_REPO"
    )
    temporal: str | None = option(
        "SlowFast: our folder or .safetensors, or a public .pyth such as https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/SLOWFAST_8x8_R50.pyth; or a video model such as VideoMAE",
        default=None,
        metavar="FILE_OR_REPO",
    )
    decoder: str | None = option(
        "chat model, or .gguf file (default: the preset's)", default=None, metavar="DIR_OR_REPO"
    )
    out: str | None = option("new folder for the checkpoint", default=None, metavar="DIR", output="folder")
    preset: str = option(
        "paper (default), paper-64, general, interleaved, circulating, wo-temporal or llama-2", default="paper"
    )
    set: list[str] = option(
        "an option of the model or the video processor over the preset's, such as spatial_grid_size=4",
        default=[],
        metavar="NAME=VALUE",
        action="append",
        nargs=None,
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = option(
        "of decoder and projectors (default: what the decoder is stored in); towers are stored in float32",
        default=None,
    )
    dry_run: bool = option("print sizes and token counts; read no weights", default=False)


def run(options: Options) -> int:
    if options.out is None and not options.dry_run:
        raise ValueError("got no --out, expected a new folder; or --dry-run")
    import torch
    from transformers.utils import logging as transformers_logging

    from ..checkpoints import assemble as parts
    from ..checkpoints.assembly_plan import assembly_plan

    transformers_logging.set_verbosity_error()
    if options.out is not None:
        parts.check_new_folder(Path(options.out))
    choices = parts.preset_options(options.preset) | dict(map(parts.parse_option, options.set))
    vision = options.vision or parts.DEFAULT_VISION
    decoder = options.decoder or parts.DEFAULT_DECODERS[options.preset]
    if options.dry_run:
        print(assembly_plan(vision, options.temporal, decoder, **choices))
        return 0
    dtype = options.dtype and getattr(torch, options.dtype)
    parts.assemble(vision, options.temporal, decoder, options.out, dtype, **choices)
    print(f"wrote {options.out}; its projectors are random, train them with train.py --model {options.out}")
    return 0
