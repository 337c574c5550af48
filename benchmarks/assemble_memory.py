"""Peak memory of `lmmvqa assemble` at about a billion parameters: random weights on disk, one process watched.

    python -m benchmarks.assemble_memory --work DIR --out benchmarks/results/assemble_memory.json

Resident memory counts pages of mapped weight files, which the system takes back when it needs room; anonymous memory is
what the process cannot give back. Linux only. DIR takes 6 GB and is emptied.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM
from transformers.hf_argparser import HfArg, HfArgumentParser

from lmmvqa.modeling_lmmvqa import LmmVqaSlowFastConfig, LmmVqaSlowFastModel
from recipes.default.small_tokenizer import small_tokenizer


@dataclass
class MemoryArguments:
    work: str = HfArg(help="Folder with room for 6 GB.")
    out: str = HfArg(help="JSON file for the figures.")


def write_parts(folder: Path) -> None:
    """The paper's towers and Llama-3.2-1B's sizes, all random, in bfloat16."""
    torch.set_default_dtype(torch.bfloat16)
    CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14
        )
    ).save_pretrained(folder / "clip")
    LmmVqaSlowFastModel(LmmVqaSlowFastConfig()).save_pretrained(folder / "slowfast")
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=128_256,
            hidden_size=2048,
            intermediate_size=8192,
            num_hidden_layers=16,
            num_attention_heads=32,
            num_key_value_heads=8,
            max_position_embeddings=8192,
            tie_word_embeddings=True,
        )
    ).save_pretrained(folder / "llama", max_shard_size="1GB")
    small_tokenizer(["How good is the quality of this video?"], vocab_size=400).save_pretrained(folder / "llama")


def watch(command: list[str]) -> dict[str, int]:
    """Peaks of resident, anonymous and file-backed memory of a process in bytes, looked at every 5 ms."""
    peaks = {"VmHWM": 0, "RssAnon": 0, "RssFile": 0}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        for name, kilobytes in re.findall(r"(VmHWM|RssAnon|RssFile):\s+(\d+) kB", status):
            peaks[name] = max(peaks[name], 1024 * int(kilobytes))
        time.sleep(0.005)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {
        "peak_rss_bytes": peaks["VmHWM"],
        "peak_anonymous_bytes": peaks["RssAnon"],
        "peak_file_bytes": peaks["RssFile"],
    }


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def main() -> None:
    (arguments,) = HfArgumentParser(MemoryArguments).parse_args_into_dataclasses()
    with tempfile.TemporaryDirectory(dir=arguments.work) as work:
        folder = Path(work)
        write_parts(folder)
        options = ["--vision", "clip", "--temporal", "slowfast", "--decoder", "llama", "--out", "assembled"]
        paths = [option if option.startswith("--") else str(folder / option) for option in options]
        baseline = watch([sys.executable, "-c", "import lmmvqa.checkpoints.assemble"])
        measured = watch([sys.executable, "-m", "lmmvqa.commands", "assemble", *paths])
        decoder_bytes, total_bytes = size(folder / "llama"), size(folder / "assembled")
    result = {
        "command": f"lmmvqa assemble {' '.join(options)}",
        "versions": {name: version(name) for name in ("torch", "transformers", "safetensors")},
        "decoder_bytes": decoder_bytes,
        "total_weight_bytes": total_bytes,
        **measured,
        "baseline": baseline,
        "rss_over_baseline_per_weight_byte": round(
            (measured["peak_rss_bytes"] - baseline["peak_rss_bytes"]) / total_bytes, 3
        ),
        "anonymous_over_baseline_per_weight_byte": round(
            (measured["peak_anonymous_bytes"] - baseline["peak_anonymous_bytes"]) / total_bytes, 3
        ),
    }
    Path(arguments.out).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
