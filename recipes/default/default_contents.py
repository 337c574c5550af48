"""Gathers the clean clips, the contents, that the clips for the embedded default are made from.

`python -m recipes.default.default_contents --out DIR --shared ../shared` writes OUT/contents.csv, one line a content (see
`contents.content.Content`), its clip in OUT/clips, and OUT/left_out.csv with what was made and thrown away, and why.

A content is made in a process of its own: one that crashes or never ends takes no other with it. Its clip and then its
record (OUT/records) appear only when they are complete, so that a build that was stopped goes on where it was. A content
that failed is tried again by the next run; one that was thrown away is not.
"""

import contextlib
import csv
import dataclasses
import json
import multiprocessing
import multiprocessing.connection
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers.hf_argparser import HfArg, HfArgumentParser

from .contents import (
    drawn_scenes,
    file_trees,
    pages,
    physics_scenes,
    real_clips,
    recorded_games,
    rendered_screens,
    slides,
    stepped_games,
    still_pans,
)
from .contents.checks import DARK, SAME, fault, measure, pattern
from .contents.content import COLUMNS, Content, MissingSource, split_of


# What gives the contents of a kind, given the folder of `--shared`, or raises MissingSource
SOURCES = {
    "real_clips": real_clips.plan,
    "wallpapers": still_pans.plan_wallpapers,
    "photographs": still_pans.plan_photographs,
    "stills": still_pans.plan_stills,
    "doom": stepped_games.plan_doom,
    "atari": stepped_games.plan_atari,
    "openarena": recorded_games.plan_openarena,
    "drawn": drawn_scenes.plan,
    "pages": pages.plan,
    "slides": slides.plan,
    "screens": rendered_screens.plan,
    "raytraced": still_pans.plan_scenes,
    "trees": file_trees.plan,
    "mujoco": physics_scenes.plan_mujoco,
    "pybullet": physics_scenes.plan_pybullet,
}
LONGEST = 3600  # seconds that one content may take, on a machine that has much else to do
MOST_WORK = 300  # seconds of processor time of any one of its processes
TABLE_EVERY = 25  # contents


@dataclass
class ContentsArguments:
    out: str = HfArg(help="Folder for the clips and their table.")
    shared: str = HfArg(help="Folder with clips/, clips_real/ and images/.", default="../shared")
    kinds: list[str] | None = HfArg(help=f"Of {', '.join(SOURCES)}; all without it.", default=None)
    workers: int = HfArg(help="Contents made at once.", default=2)


def make(content: Content, out: Path) -> None:
    """Makes, measures and records one content. The parts are renamed last: what has a record is complete."""
    clip, record = out / "clips" / f"{content.name}.mkv", out / "records" / f"{content.name}.json"
    # a maker that outlived a killed build writes a part of its own
    part = out / "parts" / f"{content.name}-{os.getpid()}.mkv"
    content.make(part)
    measures = measure(part)
    reason = fault(measures, content.motion)
    if reason:
        part.unlink()
    else:
        part.replace(clip)
    # processor time: what a busy machine takes besides says nothing about the content
    made = {"dark": int(measures.luma < DARK), "fault": reason, "cpu_seconds": round(sum(os.times()[:4]), 2)}
    described = describe(content) | dataclasses.asdict(measures) | made
    part.with_suffix(".json").write_text(json.dumps(described, indent=1), encoding="utf-8")
    part.with_suffix(".json").replace(record)


def describe(content: Content) -> dict:
    """What the table says of a content besides its measures."""
    fields = {column: getattr(content, column) for column in COLUMNS if hasattr(content, column)}
    return fields | {
        "content": content.name,
        "path": f"clips/{content.name}.mkv",
        "is_real": int(content.is_real),
        "split": content.split or split_of(content.group),
    }


def make_or_explain(content: Content, out: Path) -> None:
    os.setsid()  # with the programs that it starts it can be ended as one
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_WORK, MOST_WORK))
    try:
        make(content, out)
    except Exception:
        sys.exit(f"{content.name} failed:\n{traceback.format_exc(limit=-3)}")


def make_all(contents: list[Content], out: Path, workers: int) -> list[str]:
    """Makes contents, several at once, each in a process of its own; gives the names of those that failed."""
    processes, failed, waiting = {}, [], list(reversed(contents))
    # a forked process has every module already; nothing is running here that a fork could cut in two
    context = multiprocessing.get_context("fork")
    done = 0
    while waiting or processes:
        while waiting and len(processes) < workers:
            content = waiting.pop()
            process = context.Process(target=make_or_explain, args=(content, out), name=content.name)
            process.start()
            processes[process] = time.monotonic() + LONGEST
        multiprocessing.connection.wait([process.sentinel for process in processes], timeout=5)
        for process, deadline in list(processes.items()):
            if process.is_alive() and time.monotonic() < deadline:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.join()
            del processes[process]
            done += 1
            if process.exitcode:
                failed.append(process.name)
                print(f"{process.name} ended with status {process.exitcode}", file=sys.stderr, flush=True)
            if done % TABLE_EVERY == 0:
                write_tables(out)
                print(f"{done} of {len(contents)}, {len(failed)} failed", file=sys.stderr, flush=True)
    return failed


def write_tables(out: Path) -> list[dict]:
    """Writes contents.csv and left_out.csv of all that has a record, sorted by name; gives the former's lines.

    A rendered content that looks like one before it is left out. Clips that were judged by eye are not.
    """
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((out / "records").glob("*.json"))]
    patterns = np.array([pattern(record["thumbnail"]) for record in records])
    kept, left_out = [], []
    for k, record in enumerate(records):
        reason = record["fault"]
        if not reason and record["cleanliness"] is None:
            alike = np.flatnonzero(patterns[kept] @ patterns[k] > SAME)
            reason = f"looks like {records[kept[alike[0]]]['content']}" if len(alike) else None
        if reason:
            left_out.append({"content": record["content"], "kind": record["kind"], "reason": reason})
        else:
            kept.append(k)
    lines = [{column: records[k][column] for column in COLUMNS} for k in kept]
    write_csv(out / "contents.csv", COLUMNS, lines)
    write_csv(out / "left_out.csv", ("content", "kind", "reason"), left_out)
    return lines


def write_csv(path: Path, columns: tuple[str, ...], lines: list[dict]) -> None:
    part = path.with_suffix(".part")
    with open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    part.replace(path)


def plan_all(shared: Path, kinds: list[str]) -> tuple[list[Content], list[str]]:
    """All contents of these kinds, and a sentence for each kind whose source is missing."""
    contents, missing = [], []
    for kind in kinds:
        try:
            contents += SOURCES[kind](shared)
        except MissingSource as error:
            missing.append(f"{kind}: {error}")
    twice = [name for name, count in Counter(content.name for content in contents).items() if count > 1]
    if twice:
        raise ValueError(f"{len(twice)} contents have a name that another one has, {twice[0]} first: rename them.")
    return contents, missing


def main() -> None:
    (arguments,) = HfArgumentParser(ContentsArguments).parse_args_into_dataclasses()
    out, kinds = Path(arguments.out), arguments.kinds or list(SOURCES)
    unknown = set(kinds) - set(SOURCES)
    if unknown:
        sys.exit(f"--kinds has {', '.join(sorted(unknown))}, expected some of {', '.join(SOURCES)}.")
    shutil.rmtree(out / "parts", ignore_errors=True)
    for folder in ("clips", "records", "parts"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    contents, missing = plan_all(Path(arguments.shared), kinds)
    waiting = [content for content in contents if not (out / "records" / f"{content.name}.json").exists()]
    failed = make_all(waiting, out, arguments.workers)
    lines = write_tables(out)
    print(json.dumps({"contents": len(lines), **Counter(line["split"] for line in lines)}))
    for sentence in missing:
        print(sentence, file=sys.stderr)
    if failed:
        print(f"{len(failed)} contents failed, {failed[0]} first: run it again.", file=sys.stderr)
    if missing or failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
