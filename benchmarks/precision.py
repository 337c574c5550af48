"""How far scores move in bfloat16 and with quantised decoders, from those in float32.

    pip install 'lmmvqa[quantization]' --constraint constraints.txt
    python benchmarks/precision.py --models smollm2 --videos data/degraded_clips/clips

`smollm2` is the folder that `benchmarks/overfit_smollm2.py` exports: SmolLM2-135M behind small towers. Videos are
spread evenly over the sorted files. Each is decoded once; seconds are those of the model alone, a video at a time.
Writes `--out`, benchmarks/results/precision.json; benchmarks/README.md has the command for the embedded default.
"""

import argparse
import json
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import torch
from scipy.stats import spearmanr
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from lmmvqa.scoring.scorer import load_scorer
from lmmvqa.scoring.video_files import find_videos


MODES = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "float16": {"dtype": "float16"},
    "int8": {"dtype": "float32", "quantization": "int8"},
    "int8 in bfloat16": {"dtype": "bfloat16", "quantization": "int8"},
    "4bit": {"dtype": "float32", "quantization": "4bit"},
    "4bit in bfloat16": {"dtype": "bfloat16", "quantization": "4bit"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", required=True, help="checkpoint folders or repositories")
    parser.add_argument("--videos", nargs="+", required=True, help="files or folders")
    parser.add_argument("--num_videos", type=int, default=30)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", default="benchmarks/results/precision.json")
    arguments = parser.parse_args()

    files = find_videos(arguments.videos).videos
    step = max(1, len(files) // arguments.num_videos)
    files = files[::step][: arguments.num_videos]
    result = {
        "versions": {name: version(name) for name in ("torch", "transformers", "torchao", "bitsandbytes")},
        "device": arguments.device,
        "threads": torch.get_num_threads(),
        "models": {},
        "videos": [Path(file).name for file in files],
    }
    for model in arguments.models:
        result["models"][Path(model).name] = compare(model, files, arguments.device)
        Path(arguments.out).write_text(json.dumps(result, indent=1) + "\n")


def compare(model: str, files: list[str], device: str) -> dict:
    """Each mode's scores against those in float32."""
    modes, decoded = {}, None
    for mode, options in MODES.items():
        scorer = load_scorer(model, device, **options)
        decoded = decoded or scorer.processor.video_processor.decode(files)
        scorer(decoded[0])  # warms up
        start = time.perf_counter()
        scores = [scorer(video)["score"] for video in decoded]
        seconds = (time.perf_counter() - start) / len(files)
        expected = modes["float32"]["scores"] if modes else scores
        differences = [abs(one - other) for one, other in zip(scores, expected, strict=True)]
        modes[mode] = {
            "n": len(scores),
            "max_difference": max(differences),
            "mean_difference": statistics.mean(differences),
            "srcc_with_float32": float(spearmanr(scores, expected).statistic),
            "seconds_a_video": seconds,
            "decoder_mib": decoder_bytes(scorer.model) / 2**20,
            "scores": scores,
        }
        print(model, mode, {name: value for name, value in modes[mode].items() if name != "scores"}, flush=True)
    return modes


def decoder_bytes(model) -> int:
    """Bytes of the decoder's weights, embeddings included, as they lie in memory."""
    total = 0
    for parameter in model.model.language_model.parameters():
        # A quantised tensor of torchao says the size that it stands for; what it holds are its inner tensors
        inner = [parameter]
        if is_traceable_wrapper_subclass(parameter):
            inner = [getattr(parameter, name) for name in parameter.__tensor_flatten__()[0]]
        total += sum(tensor.numel() * tensor.element_size() for tensor in inner)
    return total


if __name__ == "__main__":
    main()
