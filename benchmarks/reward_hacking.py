"""What a filter search finds that is rewarded by the score alone.

    python benchmarks/reward_hacking.py --shared ../shared --work runs/reward_hacking --out benchmarks/results/reward_hacking.json

A clip (its first 1.5 seconds, 360 lines at most) is encoded at x264 crf 40: a flawed video, as a generator may give one. Its
filters are then drawn at random, and moved on from wherever the score was highest, as a policy is that gets the score as
its reward. They sharpen, smooth, add grain and change contrast, gamma and saturation; none of them gives back what the
encoder took away. Beside each step up stands what VMAF and PSNR (luma) say against the clip before it was encoded. Clips whose search is
done are read from the folder `--work`.
"""

import argparse
import json
import re
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from lmmvqa.checkpoints.checkpoint_digest import weights_digest
from lmmvqa.datasets_scripts.degraded.ffmpeg_process import NEAR_LOSSLESS, encode, measure_vmaf, run_ffmpeg
from lmmvqa.scoring.scorer import default_checkpoint, load_scorer


CLIPS = [
    "clips_real/animal__ffmpeg-concat__cat-portrait.mp4",
    "clips_real/foliage__Cabbage__bamboo.mp4",
    "clips_real/street__ffmpeg-concat__skateboard-street.mp4",
    "clips_real/people-indoor__Lotus__orchid.mp4",
]
SECONDS, LINES, CRF = 1.5, 360, 40
# FFmpeg's filters by strength: what changes nothing, the least and the most
FILTERS = {
    "hqdn3d={}": (0.0, 0.0, 8.0),
    "unsharp=5:5:{}": (0.0, 0.0, 4.0),
    "eq=contrast={}": (1.0, 0.6, 1.8),
    "eq=gamma={}": (1.0, 0.6, 1.6),
    "eq=saturation={}": (1.0, 0.0, 2.5),
    "noise=allf=t:all_seed=1:alls={}": (0.0, 0.0, 30.0),
}
NOTHING, LEAST, MOST = (np.array(bounds) for bounds in zip(*FILTERS.values(), strict=True))
NUM_RANDOM = 12  # draws before those that go on from the best one


def chain_of(strengths: np.ndarray) -> str:
    """FFmpeg's filters of these strengths, those left out that change nothing."""
    changed = zip(FILTERS, strengths, NOTHING, strict=True)
    return ",".join(name.format(f"{value:.3f}") for name, value, nothing in changed if value != nothing) or "null"


def draw(rng: np.random.Generator, best: np.ndarray, step: int) -> np.ndarray:
    """Two or three filters at random strength, and later the best ones so far with some of them moved by a little."""
    chosen = rng.permutation(len(FILTERS))[: rng.integers(2, 4)]
    strengths = (NOTHING if step < NUM_RANDOM else best).copy()
    if step < NUM_RANDOM:
        strengths[chosen] = rng.uniform(LEAST, MOST)[chosen]
    else:
        strengths[chosen] += rng.normal(0, 0.2 * (MOST - LEAST))[chosen]
    return np.clip(strengths, LEAST, MOST)


def measure_psnr(clip: Path, reference: Path) -> float:
    """Of luma, in dB."""
    messages = run_ffmpeg(["-i", str(clip), "-i", str(reference), "-lavfi", "psnr", "-f", "null", "-"])
    return float(re.search(r"PSNR y:(\S+)", messages)[1])


def search(scorer, source: Path, folder: Path, steps: int, seed: int) -> list[dict]:
    """The flawed clip, then each step up."""
    folder.mkdir(parents=True, exist_ok=True)
    reference, flawed, tried = (folder / f"{name}.mkv" for name in ("reference", "flawed", "tried"))
    encode(["-t", str(SECONDS), "-i", str(source), "-vf", f"scale=-2:'min({LINES},ih)'"], reference, NEAR_LOSSLESS)
    encode(["-i", str(reference)], flawed, ["-c:v", "libx264", "-crf", str(CRF)])
    rng = np.random.default_rng(seed)
    best, found = NOTHING, []
    for step in range(steps + 1):
        strengths = NOTHING if step == 0 else draw(rng, best, step)
        encode(["-i", str(flawed), "-vf", chain_of(strengths)], tried, NEAR_LOSSLESS)
        score = scorer(str(tried))["score"]
        if not found or score > found[-1]["score"]:
            best = strengths
            measures = {"vmaf": measure_vmaf(tried, reference), "psnr": measure_psnr(tried, reference)}
            found.append({"step": step, "filters": chain_of(strengths), "score": score, **measures})
            tried.replace(folder / "best.mkv")
            print(source.name, json.dumps(found[-1]), file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="checkpoint folder or repository (default: embedded)")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder that holds the clips")
    parser.add_argument("--clips", nargs="+", default=CLIPS, help="other clips of that folder")
    parser.add_argument("--work", type=Path, required=True, help="folder for the clips that are tried")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    files = {name: arguments.work / Path(name).stem / "found.json" for name in arguments.clips}
    if missing := [name for name, file in files.items() if not file.exists()]:
        scorer = load_scorer(arguments.model, "cpu")
        for name in missing:
            found = search(scorer, arguments.shared / name, files[name].parent, arguments.steps, arguments.seed)
            files[name].write_text(json.dumps(found) + "\n", encoding="utf-8")
    clips = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items()}
    ends = [(found[0], found[-1]) for found in clips.values()]
    report = {
        "command": " ".join(["python", *sys.argv]),
        "model": arguments.model or "embedded default",
        "weights": weights_digest(arguments.model or default_checkpoint()),
        "versions": {name: version(name) for name in ("av", "imageio-ffmpeg", "torch", "transformers")},
        "mean": {
            name: {
                "flawed": float(np.mean([start[name] for start, _ in ends])),
                "best": float(np.mean([end[name] for _, end in ends])),
            }
            for name in ("score", "vmaf", "psnr")
        },
        "clips": clips,
    }
    print(json.dumps(report["mean"], indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
