"""How far features of full-size towers move in half precision, from those in float32.

    python benchmarks/tower_precision.py --videos ../shared/clips_real

CLIP ViT-L/14 and SlowFast R50 in their real layouts. Their weights are random, BatchNorm's statistics those of the
videos; public weights, which have other activations, are given by `--vision` and `--temporal`. The error is the length
of the features' difference over that of the features. Beside it stands the distance between two videos in the same
units: what an error has to be small against. Key frames and chunks are of the first second of each video. Writes
`--out`.
"""

import argparse
import copy
import itertools
import json
import statistics
from pathlib import Path

import torch
from transformers import CLIPVisionModel

from lmmvqa.checkpoints.convert_weights import slowfast_state_dict
from lmmvqa.modeling_lmmvqa import LmmVqaConfig, LmmVqaSlowFastModel, LmmVqaVideoProcessor
from lmmvqa.scoring.video_files import find_videos


# What weights are stored in, and what is computed in
MODES = {
    "stored in float16, run in float32": (torch.float16, torch.float32),
    "stored in bfloat16, run in float32": (torch.bfloat16, torch.float32),
    "bfloat16": (torch.bfloat16, torch.bfloat16),
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--videos", nargs="+", required=True, help="files or folders")
    parser.add_argument("--num_videos", type=int, default=6)
    parser.add_argument("--vision", help="folder of CLIP ViT-L/14 (default: random weights)")
    parser.add_argument("--temporal", help="SLOWFAST_8x8_R50.pyth (default: random weights)")
    parser.add_argument("--out", default="benchmarks/results/tower_precision.json")
    arguments = parser.parse_args(argv)

    files = find_videos(arguments.videos).videos
    files = files[:: max(1, len(files) // arguments.num_videos)][: arguments.num_videos]
    processor = LmmVqaVideoProcessor(keep_incomplete_second=True)
    inputs = [processor(file) for file in files]
    key_frames = torch.cat([of_video["pixel_values"][:1] for of_video in inputs])
    chunks = torch.cat([of_video["pixel_values_videos"][:1] for of_video in inputs])

    config = LmmVqaConfig()
    torch.manual_seed(0)
    vision = (
        CLIPVisionModel.from_pretrained(arguments.vision)
        if arguments.vision
        else CLIPVisionModel(config.vision_config)
    )
    temporal = LmmVqaSlowFastModel(config.temporal_config)
    if arguments.temporal:
        temporal.load_state_dict(slowfast_state_dict(arguments.temporal))
    else:
        fit_statistics(temporal, chunks)
    result = {
        "torch": torch.__version__,
        "videos": [Path(file).name for file in files],
        "vision": compare(vision.eval(), key_frames, lambda tower, pixels: key_frame_features(tower, pixels, config)),
        "temporal": compare(temporal.eval(), chunks, lambda tower, pixels: tower(pixels).pooler_output),
    }
    for tower, source in (("vision", arguments.vision), ("temporal", arguments.temporal)):
        result[tower]["weights"] = Path(source).name if source else "random"
    Path(arguments.out).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def key_frame_features(tower: torch.nn.Module, pixels: torch.Tensor, config: LmmVqaConfig) -> torch.Tensor:
    return tower(pixels, output_hidden_states=True).hidden_states[config.vision_feature_layer][:, 1:].flatten(1)


@torch.no_grad()
def fit_statistics(tower: torch.nn.Module, chunks: torch.Tensor) -> None:
    """BatchNorm's statistics become those of the chunks, as training would have made them."""
    for module in tower.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.momentum = None  # the mean of all batches
    tower.train()
    tower(chunks)


@torch.no_grad()
def compare(tower: torch.nn.Module, pixels: torch.Tensor, features) -> dict:
    """Mean relative error of each mode, and mean relative distance between two videos."""
    expected = torch.cat([features(tower, one[None]) for one in pixels]).float()  # (videos, features)
    lengths = expected.norm(dim=1)
    pairs = itertools.combinations(range(len(expected)), 2)
    distances = [float((expected[a] - expected[b]).norm() / lengths[a]) for a, b in pairs]
    result = {"distance_between_videos": statistics.mean(distances), "modes": {}}
    for name, (stored, run) in MODES.items():
        changed = copy.deepcopy(tower).to(stored).to(run)
        got = torch.cat([features(changed, one[None].to(run)) for one in pixels]).float()
        errors = ((got - expected).norm(dim=1) / lengths).tolist()
        result["modes"][name] = {"mean_error": statistics.mean(errors), "max_error": max(errors)}
        print(name, result["modes"][name], flush=True)
    result["modes"]["features rounded to float16, as in the feature cache"] = {
        "mean_error": float(((expected.half().float() - expected).norm(dim=1) / lengths).mean())
    }
    return result


if __name__ == "__main__":
    main()
