"""Named problems found in clips that have them and in clips that do not, and what looking for them costs.

    python benchmarks/problems.py --clips ../shared/clips ../shared/clips_real --work DIR --out benchmarks/results/problems.json

Of some clips, evenly spread over the list, the first seconds are stored near-losslessly, at most 360 lines high, and once
more with each fault: those of the project's own distortions that are among the problems, at several strengths, and others
that are drawn over the picture or lie in the order of frames. A fault is found where a problem of its kind covers a part of
its seconds. Whether a fault can be seen depends on the clip: frames that are missed are none where nothing moves.

False alarms are of all clips as they are: the share in which a kind is found at all. Nobody looked at them, so that some are
true: clips with blocks, slides that stand.

The cost is the processor time of scoring clips, with problems and without, in turn.
"""

import argparse
import json
import statistics
import sys
import time
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import torch
from tqdm import tqdm

from lmmvqa.checkpoints.checkpoint_digest import weights_digest
from lmmvqa.datasets_scripts.degraded.distortions import degrade
from lmmvqa.datasets_scripts.degraded.ffmpeg_process import NEAR_LOSSLESS, TO_YUV420, encode
from lmmvqa.processing.problems_lmmvqa import KINDS, WatchedFrames
from lmmvqa.processing.video_reading_lmmvqa import VideoFrames, read_frames
from lmmvqa.scoring.scorer import default_checkpoint, load_scorer
from lmmvqa.scoring.video_files import find_videos


SECONDS, LINES = 3, 360
# Of `distortions.py`: the problems that each is. A short freeze is a few frames missing, a long hold of "drop" a freeze
DISTORTIONS = {
    "freeze": {"freeze", "dropped_frames"},
    "drop": {"judder", "dropped_frames", "freeze"},
    "blur": {"blur"},
    "downscale": {"blur"},
    "mpeg2": {"blocking"},
    "mpeg4": {"blocking"},
    "pixelation": {"blocking"},
}
BARS = "drawbox={first}:color=black:t=fill,drawbox={second}:color=black:t=fill"
# Kind, and FFmpeg's filters
DRAWN = {
    "black for a second": ("black", "drawbox=color=black:t=fill:enable='between(t,1,2)'"),
    "one colour for a second": ("blank", "drawbox=color=0x4060a0:t=fill:enable='between(t,1,2)'"),
    "bars above and below": ("letterbox", BARS.format(first="h=ih/8", second="y=ih-ih/8:h=ih/8")),
    "bars left and right": ("letterbox", BARS.format(first="w=iw/8", second="x=iw-iw/8:w=iw/8")),
    "4 flashes a second": ("flashing", "drawbox=color=white@0.7:t=fill:enable='between(t,1,3)*lt(mod(t,0.25),0.1)'"),
    "fields woven": ("interlacing", "tinterlace=mode=interleave_top"),
    "2 of 30 frames missing": ("dropped_frames", "select='not(between(mod(n,30),20,21))'"),
    "film in 60 frames": ("judder", "fps=24:round=near,fps=60:round=near"),
}


def find(video: Path, seconds: float | None = None) -> list[dict]:
    """Problems of a video, or of its first seconds."""

    def watch(frames: VideoFrames) -> list[dict]:
        watched = WatchedFrames(_Start(frames, seconds))
        for _ in watched:
            pass
        return watched.facts.problems

    return read_frames(str(video), watch)


class _Start:
    """The first seconds of a video's frames."""

    def __init__(self, frames: VideoFrames, seconds: float | None):
        self._frames, self._seconds, self.facts = frames, seconds, frames.facts

    def __iter__(self):
        for frame in self._frames:
            if self._seconds is not None and frame[0] >= self._seconds:
                return
            yield frame


def faulty_clips(source: str, strengths: list[int], folder: Path):
    """Yields (fault, strength, its kinds of problem, path) of a clip; the first one is without fault."""

    def path(fault: str, strength: int | None = None) -> Path:
        return (
            folder / f"{Path(source).stem}-{fault.replace(' ', '_')}{'' if strength is None else f'-{strength}'}.mkv"
        )

    reference = path("none")
    size = f"scale=-2:min({LINES}\\,trunc(ih/2)*2)"
    cut = ["-threads", "1", "-t", str(SECONDS), "-i", source, "-vf", f"{size},{TO_YUV420}"]
    if not reference.exists():
        encode(cut, reference, NEAR_LOSSLESS)
    yield "none", None, set(), reference
    for kind, problems in DISTORTIONS.items():
        for strength in strengths:
            clip = path(kind, strength)
            if not clip.exists():
                degrade(reference, kind, strength, Path(source).stem, clip)
            yield kind, strength, problems, clip
    for fault, (problem, filters) in DRAWN.items():
        clip = path(fault)
        if not clip.exists():
            encode(["-threads", "1", "-i", str(reference), "-vf", f"{filters},{TO_YUV420}"], clip, NEAR_LOSSLESS)
        yield fault, None, {problem}, clip


def measure_recall(sources: list[str], strengths: list[int], folder: Path) -> list[dict]:
    """For each fault and strength: clips, in how many it is found, and what else is, less what the clip has without it."""
    tables = {}
    for source in tqdm(sources, desc="clips with faults", disable=None):
        for fault, strength, problems, clip in faulty_clips(source, strengths, folder):
            kinds = {problem["kind"] for problem in find(clip)}
            if fault == "none":
                own = kinds
                continue
            row = tables.setdefault(
                (fault, strength),
                {
                    "fault": fault,
                    "strength": strength,
                    "kinds": sorted(problems),
                    "clips": 0,
                    "found": 0,
                    "beside": {},
                },
            )
            row["clips"] += 1
            row["found"] += bool(kinds & problems)
            for kind in kinds - own - problems:
                row["beside"][kind] = row["beside"].get(kind, 0) + 1
    return list(tables.values())


def measure_false_alarms(sources: list[str]) -> dict:
    """For each kind the clips in which it is found as they are."""
    found = {kind: [] for kind in KINDS}
    for source in tqdm(sources, desc="clips as they are", disable=None):
        for problem in find(Path(source), SECONDS):
            if Path(source).name not in found[problem["kind"]]:
                found[problem["kind"]].append(Path(source).name)
    return {"clips": len(sources), "found": found}


def measure_cost(model: str | None, sources: list[str], repeats: int) -> list[dict]:
    """Processor seconds of scoring each clip, the least of the repeats."""
    scorer = load_scorer(model, "cpu")
    rows = []
    for source in tqdm(sources, desc="cost", disable=None):
        seconds = {False: [], True: []}
        for _ in range(repeats + 1):  # the first one warms up
            for problems in seconds:
                start = time.process_time()
                result = scorer(source, problems=problems)
                seconds[problems].append(time.process_time() - start)
        without, with_problems = (min(of[1:]) for of in seconds.values())
        rows.append(
            {
                "clip": Path(source).name,
                **{name: result[name] for name in ("width", "height", "frames", "duration")},
                "without": without,
                "with": with_problems,
                "more": with_problems / without - 1,
            }
        )
    return rows


def table(report: dict) -> str:
    lines = [
        "| fault | strength | problem | found | other kinds found, that the clip had not before |",
        "|---|---|---|---|---|",
    ]
    for row in report["recall"]:
        others = ", ".join(f"{kind} {count}" for kind, count in sorted(row["beside"].items()))
        lines.append(
            f"| {row['fault']} | {row['strength'] or ''} | {' or '.join(row['kinds'])} | {row['found']} of {row['clips']} | "
            f"{others} |"
        )
    alarms = report["as they are"]
    lines += ["", "| kind | found in clips as they are |", "|---|---|"]
    lines += [f"| {kind} | {len(clips)} of {alarms['clips']} |" for kind, clips in alarms["found"].items()]
    lines += ["", "| clip | size | frames | CPU s | with problems | more |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row['clip']} | {row['width']} x {row['height']} | {row['frames']} | {row['without']:.2f} | {row['with']:.2f} | "
        f"{row['more']:+.0%} |"
        for row in report["cost"]
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", nargs="+", required=True, help="folders or files")
    parser.add_argument("--model", help="for the cost: checkpoint folder or repository (default: embedded)")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for clips with faults; those that are there are used"
    )
    parser.add_argument(
        "--sources", nargs="+", help="files that faults are put into (default: 40 of the clips, evenly)"
    )
    parser.add_argument("--as_they_are", type=int, help="clips for false alarms (default: all)")
    parser.add_argument("--strengths", type=int, nargs="+", default=[1, 3, 5], help="of the distortions, 1 to 5")
    parser.add_argument("--timed", type=int, default=4, help="clips whose cost is measured")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--out", type=Path, required=True, help="JSON file for the figures; its tables go beside it, as Markdown"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    sources = find_videos(arguments.clips).videos

    def spread(count: int) -> list[str]:
        return list(islice(sources, 0, None, max(1, len(sources) // count)))[:count]

    report = {
        "command": " ".join(["python", *sys.argv]),
        "versions": {name: version(name) for name in ("av", "torch", "transformers")},
        "model of the cost": arguments.model or "embedded default",
        "weights": weights_digest(arguments.model or default_checkpoint()),
        "recall": measure_recall(arguments.sources or spread(40), arguments.strengths, arguments.work),
        "as they are": measure_false_alarms(spread(arguments.as_they_are or len(sources))),
        "cost": measure_cost(arguments.model, spread(arguments.timed), arguments.repeats),
    }
    report["mean cost"] = statistics.mean(row["more"] for row in report["cost"])
    arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    arguments.out.with_suffix(".md").write_text(table(report) + "\n", encoding="utf-8")
    print(table(report))


if __name__ == "__main__":
    main()
