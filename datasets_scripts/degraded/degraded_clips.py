"""Real clips and photographs -> degraded clips labelled with VMAF; a build that is stopped goes on where it was.

OUT/clips holds the clips, OUT/labels one JSON file for each finished clip, OUT/dataset the rows, see `lmmvqa prepare`.
The rows' paths are relative to OUT/dataset, so OUT can be moved as a whole; read them with `rows.load_rows`.

`vmaf` is what FFmpeg measures against the reference, for every clip. `mos` is `vmaf` too, except where VMAF does not
see what people see: overexposure, stutter, freeze and shake are bounded by the strength that was applied, and
underexposure is half VMAF, half the strength (`label`).
These are labels of a rule, not opinions of people.
"""

import json
import os
import random
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
from datasets import Value
from tqdm import tqdm

from ..folder_seal import seal_folder, write_whole
from ..label_files import read_csv
from ..rated_images import read_image_mos, split_images
from ..rows import split_by_group
from .distortions import KINDS, TEMPORAL_KINDS, degrade
from .ffmpeg_process import DISK_ERRORS, check_installed, measure_vmaf
from .reference_clips import cut_segment, probe, reference_size, render_pan, segment_starts


DATASET = "degraded_clips"
CLIP_GROUPS = Path(__file__).with_name("clip_groups.csv")
COLUMNS = {
    "source": Value("string"),
    "distortion": Value("string"),
    "strength": Value("int32"),
    "vmaf": Value("float64"),
}
STRONGEST = ("h264", 5)  # always among a reference's variants
# The highest MOS at strengths 1-5, by judgement: people were not asked. VMAF is nearly blind to clipped highlights, and
# sees a stutter only as far as the picture moves.
EXPOSURE_CAPS = (85, 68, 50, 32, 15)
TEMPORAL_CAPS = (82, 66, 50, 35, 22)
UNSEEN = 1.0  # VMAF points below the untouched clip: a stutter of a still picture is not there


@dataclass(frozen=True)
class Reference:
    """One clean clip: where it comes from, how to make it (`start` in seconds; None for a pan), how many to make of it."""

    name: str
    source: Path
    group: str
    split: str
    start: float | None
    variants: int


def plan_segments(clips: Path, groups: dict[str, str], variants: int, seed: int) -> tuple[list[Reference], list[dict]]:
    """The segments of every clip that is clean enough, and the files left out as {file, split, reason}."""
    starts, reasons = {}, {}
    for path in sorted(clips.iterdir()):
        try:
            source = probe(path)
            reference_size(source)
            starts[path] = segment_starts(source.seconds)
        except (av.error.FFmpegError, ValueError) as error:
            reasons[path] = str(error)
    group_of = {path: groups.get(path.name, path.name) for path in [*starts, *reasons]}
    used = {group_of[path] for path in starts}
    # two strata: what is left out has a split to be counted under, and takes no share of the rest
    strata = {group: "used" if group in used else "left out" for group in group_of.values()}
    splits = split_by_group(strata, seed=seed, strata=strata)
    references = [
        Reference(f"{path.name.replace('.', '_')}-{k}", path, group_of[path], splits[group_of[path]], start, variants)
        for path, times in starts.items()
        for k, start in enumerate(times)
    ]
    left_out = [
        {"file": str(path), "split": splits[group_of[path]], "reason": reason} for path, reason in reasons.items()
    ]
    return references, left_out


def plan_pans(
    images: Path,
    mos: dict[str, float],
    lowest_mos: float,
    counts: tuple[int, int],
    variants: tuple[int, int],
    seed: int,
) -> list[Reference]:
    """Pans over photographs of high MOS, each in the split that `rated_images` gives its photograph.

    Args:
        images: folder of the photographs.
        mos: of every photograph, 0-100.
        lowest_mos: that a photograph needs for a pan.
        counts: pans over photographs of all splits, and over further ones of the training split.
        variants: degraded clips for each of either.
        seed: of the splits and the draw.

    Raises:
        ValueError: too few photographs have this MOS.
    """
    good = sorted(file for file, value in mos.items() if value >= lowest_mos)
    splits = split_images(mos, seed)
    # a sample of all, cut: larger counts keep the photographs of smaller ones
    drawn = random.Random(f"{seed}:photographs").sample(good, len(good))
    further = [file for file in drawn[counts[0] :] if splits[file] == "train"]
    if len(drawn) < counts[0] or len(further) < counts[1]:
        raise ValueError(
            f"{images} has {len(drawn)} photographs of MOS {lowest_mos:g} or more, expected {counts[0]}, and beyond "
            f"these {len(further)} of the training split, expected {counts[1]}; lower the counts or the MOS"
        )
    chosen = dict.fromkeys(drawn[: counts[0]], variants[0]) | dict.fromkeys(further[: counts[1]], variants[1])
    return [
        Reference(f"{file.replace('.', '_')}-pan", images / file, file, splits[file], None, count)
        for file, count in sorted(chosen.items())
    ]


def draw_variants(reference: str, count: int, seed: int) -> list[tuple[str, int]]:
    """The (kind, strength) pairs of one reference: the strongest compression, and others of as many kinds."""
    rng = random.Random(f"{seed}:{reference}:variants")
    kinds = rng.sample(KINDS, count - 1)
    # h264 may be drawn again: then one of the strengths it does not have yet
    others = [(kind, rng.randint(1, 4 if kind == STRONGEST[0] else 5)) for kind in kinds]
    return [STRONGEST, *others]


def label(kind: str, strength: int, vmaf: float, untouched_vmaf: float) -> float:
    """The MOS (0-100) of a clip from its VMAF and, where VMAF is no guide, from the strength applied."""
    if kind == "underexposure":
        # VMAF takes lost contrast for lost detail: it gives a dim but clear picture (strength 2) less than 10
        return (vmaf + EXPOSURE_CAPS[strength - 1]) / 2
    if kind == "overexposure":
        return min(vmaf, EXPOSURE_CAPS[strength - 1])
    if kind in TEMPORAL_KINDS and vmaf < untouched_vmaf - UNSEEN:
        return min(vmaf, TEMPORAL_CAPS[strength - 1])
    return vmaf


def reference_path(reference: Reference, out: Path) -> Path:
    """The reference's file, which is also its untouched clip."""
    return out / "clips" / f"{reference.name}-none0.mkv"


def make_reference(reference: Reference, out: Path, seed: int) -> str | None:
    """
    Makes a reference unless it is there, and says why it cannot be made, or None.

    Raises:
        OSError: one of `DISK_ERRORS`.
    """
    path = reference_path(reference, out)
    if path.exists():
        return None
    try:
        if reference.start is None:
            render_pan(reference.source, f"{seed}:{reference.name}", path)
        else:
            cut_segment(reference.source, probe(reference.source), reference.start, path)
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        return str(error)
    return None


def make_clip(reference: Reference, kind: str, strength: int, out: Path, seed: int) -> dict:
    """Makes and measures one clip unless its label is there, and gives the label {clip, vmaf}."""
    name = f"{reference.name}-{kind}{strength}"
    clip, file = out / "clips" / f"{name}.mkv", out / "labels" / f"{name}.json"
    if file.exists():
        return json.loads(file.read_text())
    clean = reference_path(reference, out)
    if kind != "none":
        degrade(clean, kind, strength, f"{seed}:{name}", clip)
    result = {"clip": clip.name, "vmaf": round(measure_vmaf(clip, clean), 3)}
    # the label appears last and whole: it is what says that the clip is finished
    write_whole(file, json.dumps(result))
    return result


def run_all(work: Callable, tasks: list[tuple], workers: int, what: str) -> list:
    """Runs `work(*task)` for every task, `workers` at a time, and gives the results in the tasks' order."""
    # threads: the work is in FFmpeg's processes
    with ThreadPoolExecutor(workers) as pool:
        return list(tqdm(pool.map(lambda task: work(*task), tasks), total=len(tasks), desc=what, mininterval=5))


def build_rows(references: list[Reference], out: Path, workers: int, seed: int) -> tuple[list[dict], list[dict]]:
    """
    Makes every clip and gives the rows, and the references that could not be made as {file, split, reason}.

    Raises:
        ValueError: the folder was begun with another seed.
    """
    seal_folder(out, {"seed": seed}, ["clips/*"])
    for folder in ("clips", "labels"):
        (out / folder).mkdir(exist_ok=True)
    rows, left_out, tasks = [], [], []
    reasons = run_all(make_reference, [(reference, out, seed) for reference in references], workers, "references")
    for reference, reason in zip(references, reasons, strict=True):
        if reason:
            left_out.append({"file": str(reference.source), "split": reference.split, "reason": reason})
        else:
            variants = [("none", 0), *draw_variants(reference.name, reference.variants, seed)]
            tasks += [(reference, kind, strength, out, seed) for kind, strength in variants]
    results = run_all(make_clip, tasks, workers, "clips")
    for (reference, kind, strength, _, _), result in zip(tasks, results, strict=True):
        if kind == "none":
            untouched = result["vmaf"]
        rows.append(
            {
                "video": os.path.join("..", "clips", result["clip"]),
                "mos": label(kind, strength, result["vmaf"], untouched),
                "dataset": DATASET,
                "split": reference.split,
                "group": reference.group,
                "source": reference.source.name,
                "distortion": kind,
                "strength": strength,
                "vmaf": result["vmaf"],
            }
        )
    return rows, left_out


def prepare_clips(
    labels: str | Path,
    videos: str | Path,
    out: str | Path,
    mos_range: tuple[float, float],
    seed: int = 0,
    groups: str | Path = CLIP_GROUPS,
    photographs: int = 110,
    training_photographs: int = 0,
    lowest_mos: float = 75.0,
    variants: int = 8,
    training_variants: int = 4,
    workers: int = 2,
) -> tuple[list[dict], list[dict]]:
    """Gives the rows of all clips made, and what is left out as {file, split, reason}.

    Args:
        labels: CSV `file,mos` of the photographs beside it, over which a pan is made.
        videos: folder of real clips.
        out: folder for clips and labels.
        mos_range: of the photographs' MOS.
        groups: CSV `file,group`, clips that show the same content. A clip not in it is its own group.
        photographs: how many photographs to pan over.
        training_photographs: how many more of the training split: contents teach more than versions of one content.
        lowest_mos: MOS (0-100) that a photograph needs for a pan.
        variants: degraded clips a reference, beside the untouched one.
        training_variants: the same, of `training_photographs`.
        workers: FFmpeg processes at a time.
    """
    check_installed()
    groups = {line["file"]: line["group"] for line in read_csv(groups, required=("file", "group"))}
    segments, left_out = plan_segments(Path(videos), groups, variants, seed)
    mos = read_image_mos(labels, mos_range)
    counts = photographs, training_photographs
    pans = plan_pans(Path(labels).parent, mos, lowest_mos, counts, (variants, training_variants), seed)
    print(f"{len(segments)} segments, {len(pans)} pans, {len(left_out)} clips left out", file=sys.stderr)
    rows, unmade = build_rows(segments + pans, Path(out), workers, seed)
    return rows, left_out + unmade
