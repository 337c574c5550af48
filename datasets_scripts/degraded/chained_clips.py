"""Clean clips of many contents -> clips that went through degradation chains, and ladders of one codec at several sizes.

A table of contents names clean clips, their groups and their splits. Of each, `prepare_chains` makes the pristine clip at
the size that it is watched in, and versions of it (`chain_draws`), labelled as `chain_labels` says: OUT/clips,
OUT/labels with one JSON file for each finished clip, OUT/dataset with rows whose paths are relative to it. A build that
is stopped goes on where it was. A label is used again only if it is of the same chain: other options or a changed table
make no row wrong.
"""

import json
import os
import random
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from datasets import Value

from ...processing.answers_lmmvqa import DAMAGES
from ..folder_seal import write_whole
from ..label_files import read_csv
from .chain_draws import LARGE, draw, draw_versions, ladder, measured_versions, versions_of_each_kind
from .chain_labels import label, measure, seen_damage
from .chain_rendering import PRISTINE, Source, render
from .degraded_clips import run_all
from .ffmpeg_process import check_installed, count_frames, encode
from .reference_clips import probe


DAMAGE_COLUMN = {"damage": {name: Value("float32") for name in DAMAGES}}
COLUMNS = {
    "content": Value("string"),
    "kind": Value("string"),
    "is_real": Value("bool"),
    "version": Value("string"),
    "chain": Value("string"),
    **DAMAGE_COLUMN,
    "vmaf": Value("float64"),
    "width": Value("int32"),
    "height": Value("int32"),
    "fps": Value("float64"),
}
UNTOUCHED = "untouched"
# Short sides in pixels that clips are watched at, and how often one of them is drawn where a content has them all.
SIZES = {180: 0.04, 360: 0.3, 480: 0.22, 540: 0.18, 720: 0.13, 1080: 0.1}
OWN_SIZE = 0.35  # weight of the content's own size, whatever it is
NEAR = 0.9  # a size that comes this near to the content's own gives way to it
SMALLEST_SHORT_SIDE = 170
SECONDS = (1.2, 1.7)
SECONDS_LARGE = 1.2  # of clips of many pixels or frames a second
MANY_FRAMES = 40
LADDER_SHORT_SIDES = (180, 360, 540, 1080)


@dataclass(frozen=True)
class Content:
    """One line of the table of contents, what its clip stores, and what is made of it.

    Attributes:
        display: (width, height) of the pristine clip and of every version.
        source: the stored clip, cut.
        soft: the stored clip is compressed so much that a label must refer to a halved copy of it.
        versions: version -> chain, the untouched one first.
        name: of the files.
    """

    content: str
    name: str
    group: str
    kind: str
    is_real: bool
    split: str
    soft: bool
    source: Source
    display: tuple[int, int] = (0, 0)
    versions: dict[str, list[dict]] = field(default_factory=dict)

    @property
    def facts(self) -> dict:
        """What a label must agree with to be of this clip."""
        return {"first": self.source.first, "frames": self.source.frames, "display": list(self.display)}


def read_contents(table: Path, seed: int) -> tuple[list[Content], list[dict]]:
    """The contents whose clips are there, and what is left out as {file, split, reason}.

    Raises:
        ValueError: a column is missing.
    """
    columns = ("content", "group", "kind", "is_real", "role", "path", "split")
    contents, left_out = [], []
    for line in read_csv(table, required=columns):
        path = table.parent / line["path"]
        if not path.is_file():
            left_out.append({"file": str(path), "split": line["split"], "reason": "is not there"})
            continue
        clip = probe(path)
        rng = random.Random(f"{seed}:{line['content']}:cut")
        many = clip.width * clip.height > LARGE or clip.rate > MANY_FRAMES
        seconds = SECONDS_LARGE if many else rng.uniform(*SECONDS)
        frames = min(clip.frames, round(seconds * clip.rate))
        source = Source(path, rng.randint(0, clip.frames - frames), frames, (clip.width, clip.height), clip.rate)
        facts = {name: line[name] for name in ("content", "group", "kind", "split")}
        is_real, soft = line["is_real"] == "1", line["role"] == "soft"
        contents.append(Content(**facts, name=line["content"], is_real=is_real, soft=soft, source=source))
    return contents, left_out


def display_sizes(size: tuple[int, int], soft: bool) -> dict[int, float]:
    """Short side in pixels -> weight of the sizes that a content of (width, height) `size` can be watched in.

    A soft content is clean at half its size and below.
    """
    own = min(size) // (2 if soft else 1)
    if own < SMALLEST_SHORT_SIDE:
        return {}
    return {short: weight for short, weight in SIZES.items() if short < NEAR * own} | {own: OWN_SIZE}


def scaled(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """(width, height) of the same shape, both even."""
    return tuple(2 * round(side * short_side / min(size) / 2) for side in size)


def plan_chains(
    contents: list[Content], versions: int, real_versions: int, test_chains: int, each_kind: bool, seed: int
) -> tuple[list[Content], list[dict]]:
    """Contents with their display sizes and versions, and those left out as {file, split, reason}."""
    planned, left_out = [], []
    for content in contents:
        size, measured = content.source.size, content.is_real and content.split != "train"
        sizes = display_sizes(size, content.soft)
        reason = None
        if not sizes:
            reason = f"has {size[0]} x {size[1]} pixels, too few" + (" to be halved" if content.soft else "")
        elif content.soft and measured:
            reason = "is compressed already: validation and test begin from clean clips alone"
        if reason:
            left_out.append({"file": str(content.source.path), "split": content.split, "reason": reason})
            continue
        rng = random.Random(f"{seed}:{content.content}:size")
        display = scaled(size, draw(rng, sizes))
        if measured:
            drawn = measured_versions(content.content, test_chains, seed, display, content.source.rate)
        elif each_kind:
            drawn = versions_of_each_kind(content.content, seed, display, content.soft)
        else:
            count = real_versions if content.is_real else versions
            drawn = draw_versions(content.content, count, seed, display, size, content.soft)
        planned.append(with_versions(content, content.content, display, drawn))
    return planned, left_out


def plan_ladders(contents: list[Content], count: int, seed: int) -> tuple[list[Content], list[dict]]:
    """One H.264 ladder at each size of `count` real contents of the test split, of one a group, large ones first."""
    of_groups = {}
    for content in contents:
        if content.is_real and content.split == "test" and not content.soft:
            of_groups.setdefault(content.group, content)
    order = list(of_groups.values())
    random.Random(f"{seed}:ladders").shuffle(order)
    order.sort(key=lambda content: -min(content.source.size))
    planned = []
    for content in order[:count]:
        own = min(content.source.size)
        for short_side in LADDER_SHORT_SIDES:
            if short_side <= own:
                display = scaled(content.source.size, short_side)
                planned.append(with_versions(content, f"{content.content}-{short_side}", display, ladder()))
    return planned, []


def with_versions(content: Content, name: str, display: tuple[int, int], versions: dict) -> Content:
    return replace(content, name=name, display=display, versions={UNTOUCHED: [], **versions})


def pristine_of(content: Content, out: Path) -> Source:
    """The pristine clip, which is also the untouched version."""
    source = content.source
    return Source(clip_path(content, UNTOUCHED, out), 0, source.frames, content.display, source.rate)


def clip_path(content: Content, version: str, out: Path) -> Path:
    return out / "clips" / f"{content.name}-{version.replace(' ', '_')}.mkv"


def read_label(content: Content, version: str, out: Path) -> dict | None:
    """A clip's label if it is there and of the same chain."""
    file = label_path(content, version, out)
    if not file.exists():
        return None
    found = json.loads(file.read_text())
    same = found["facts"] == content.facts and found["chain"] == content.versions[version]
    return found if same else None


def label_path(content: Content, version: str, out: Path) -> Path:
    return out / "labels" / clip_path(content, version, out).with_suffix(".json").name


def make_pristine(content: Content, out: Path) -> str | None:
    """Makes and labels a pristine clip unless its label is there, and says why it cannot be made, or None."""
    if read_label(content, UNTOUCHED, out):
        return None
    source, path = content.source, clip_path(content, UNTOUCHED, out)
    width, height = content.display
    filters = [*source.cut, *([f"scale={width}:{height}:flags=lanczos"] if source.size != content.display else [])]
    try:
        encode(["-threads", "1", "-i", str(source.path), "-vf", ",".join(filters)], path, PRISTINE)
        if count_frames(path) != source.frames:
            raise RuntimeError(f"gives {count_frames(path)} of {source.frames} frames")
    except RuntimeError as error:
        return str(error)
    made = make_version(content, UNTOUCHED, out)
    return made if isinstance(made, str) else None


def make_version(content: Content, version: str, out: Path) -> dict | str:
    """Makes and measures one clip unless its label is there; gives the label, or says why it cannot be made."""
    found = read_label(content, version, out)
    if found:
        return found
    chain, pristine, clip = content.versions[version], pristine_of(content, out), clip_path(content, version, out)
    from_stored = any(a_step["kind"] == "shrink" for a_step in chain)
    source = content.source if from_stored else pristine
    try:
        if chain:
            render(chain, source, content.display, clip)
        measures = measure(clip, chain, source, pristine, content.display, clip.with_suffix(".work.mkv"))
    except (RuntimeError, ValueError) as error:
        return str(error)
    result = {"facts": content.facts, "chain": chain, "measures": measures}
    # the label appears last and whole: it is what says that the clip is finished
    write_whole(label_path(content, version, out), json.dumps(result))
    return result


def build_rows(contents: list[Content], dataset: str, out: Path, workers: int) -> tuple[list[dict], list[dict]]:
    """Makes every clip and gives the rows, and the clips that could not be made as {file, split, reason}."""
    for folder in ("clips", "labels"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    rows, left_out, tasks = [], [], []
    reasons = run_all(make_pristine, [(content, out) for content in contents], workers, "pristine clips")
    for content, reason in zip(contents, reasons, strict=True):
        if reason:
            left_out.append({"file": str(content.source.path), "split": content.split, "reason": reason})
        else:
            tasks += [(content, version, out) for version in content.versions]
    for (content, version, _), result in zip(tasks, run_all(make_version, tasks, workers, "versions"), strict=True):
        clip = clip_path(content, version, out)
        if isinstance(result, str):
            left_out.append({"file": str(clip), "split": content.split, "reason": result})
            continue
        chain, measures = result["chain"], result["measures"]
        rows.append(
            {
                "video": os.path.join("..", "clips", clip.name),
                "mos": round(label(chain, measures), 3),
                "dataset": dataset,
                **{name: getattr(content, name) for name in ("split", "group", "content", "kind", "is_real")},
                "version": version,
                "chain": json.dumps(chain),
                "damage": seen_damage(chain, measures),
                "vmaf": measures["vmaf"],
                "width": content.display[0],
                "height": content.display[1],
                "fps": round(float(content.source.rate), 3),
            }
        )
    return rows, left_out


def prepare_chains(
    table: str | Path,
    out: str | Path,
    seed: int = 0,
    versions: int = 7,
    real_versions: int = 11,
    test_chains: int = 6,
    each_kind: bool = False,
    workers: int = 2,
) -> tuple[list[dict], list[dict]]:
    """Gives the rows of all clips made, and what is left out as {file, split, reason}.

    Args:
        table: CSV of contents, with paths relative to it.
        out: folder for clips and labels.
        seed: of cuts, sizes and chains. The contents of another seed than 0 have it in their names.
        versions: of each content, beside the untouched one.
        real_versions: the same, of contents that a camera recorded.
        test_chains: chains of each real content of the validation and the test split, beside the versions that
            these have for measuring (`chain_draws.measured_versions`).
        each_kind: in place of `versions` and `real_versions` drawn ones, one version of each kind of step alone
            (`chain_draws.versions_of_each_kind`).
        workers: FFmpeg processes at a time.
    """
    contents, left_out = read_contents(Path(table), seed)
    planned, unplanned = plan_chains(contents, versions, real_versions, test_chains, each_kind, seed)
    if seed:  # another cut and size of a clip: its versions are not to be compared with those of the first
        planned = [replace(content, content=f"{content.content} {seed}") for content in planned]
    return _build(planned, left_out + unplanned, "degraded_contents", Path(out), workers)


def prepare_ladders(
    table: str | Path, out: str | Path, seed: int = 0, num_contents: int = 20, workers: int = 2
) -> tuple[list[dict], list[dict]]:
    """As `prepare_chains`, for H.264 ladders of `num_contents` real contents of the test split at each size they have."""
    found, left_out = read_contents(Path(table), seed)
    planned, _ = plan_ladders(found, num_contents, seed)
    return _build(planned, [item for item in left_out if item["split"] == "test"], "ladders", Path(out), workers)


def _build(planned: list[Content], left_out: list[dict], dataset: str, out: Path, workers: int) -> tuple:
    check_installed()
    count = sum(len(content.versions) for content in planned)
    print(f"{len(planned)} contents, {count} clips, {len(left_out)} contents left out", file=sys.stderr)
    rows, unmade = build_rows(planned, dataset, out, workers)
    return rows, left_out + unmade
