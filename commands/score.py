"""`lmmvqa score`: videos and pictures to scores."""

import contextlib
import os
import sys
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from ..scoring.addresses import check_readers
from ..scoring.journal import Journal, video_version
from ..scoring.options import option
from ..scoring.report import (
    OUTSIDE_NOTE,
    Table,
    csv_file,
    json_line,
    lowest_first,
    profile_line,
    summary_line,
    writing,
)
from ..scoring.video_files import (
    REPORT_SUFFIXES,
    TABLE_SUFFIXES,
    TIMELINE_SUFFIXES,
    check_suffix,
    is_media_name,
    read_names,
    refuse_to_overwrite,
    suffix_of,
)
from .model_options import ModelOptions, load
from .options import count, limit
from .output import find_and_warn, print_line, quiet_libraries, warn


HELP = "score videos and pictures"
DESCRIPTION = (
    "Scores each video or picture. Exit status 1: one could not be scored, and was reported; 3: all were, and one is below "
    "--fail_under."
)
BELOW = 3
# Of `--engine ray`: tasks that decode for an actor, and the table in a folder
RAY_WORKERS = 4
TABLE_FILE = "scores.parquet"


reading_limit = partial(option, default=None, type=limit, metavar="NUMBER", group="limits")
READING_LIMITS = ("max_pixels", "max_seconds", "max_fps", "max_wall_seconds", "min_decoded_share", "min_whole_share")


@dataclass(kw_only=True)
class Options(ModelOptions):
    paths: list[str] = option(
        "file, pattern, folder with all below it but what is hidden, address (http, https, s3, gs, hf), or - "
        "for names on standard input",
        positional=True,
        metavar="PATH",
    )
    json: bool = option(
        "print one JSON object a line instead of a table, with the windows of long videos", default=False
    )
    csv: str | None = option(
        "write a new CSV file as well, a row a video", default=None, metavar="FILE", output="file"
    )
    out: str | None = option(
        "write a row a video to a .csv, .jsonl or .parquet file, or to scores.parquet in a folder; the same command "
        "again goes on where it was stopped (FILE.journal), tries failures again, and scores no video anew that has not "
        "changed",
        default=None,
        metavar="FILE",
        output="file",
    )
    windows: str | None = option(
        "write a row a window of long videos to a .csv, .jsonl or .parquet file",
        default=None,
        metavar="FILE",
        output="file",
    )
    timeline: str | None = option(
        "write scores over time to a .json, .csv or .png file", default=None, metavar="FILE", output="file"
    )
    report: str | None = option(
        "write a page to look at, a .html file that needs nothing else: distribution, the worst and the best, "
        "timelines with pictures",
        default=None,
        metavar="FILE",
        output="file",
    )
    sort: bool = option("print at the end, the lowest score first", default=False)
    worst: int | None = option("print the N lowest scores alone, and failures", default=None, type=count, metavar="N")
    fail_under: float | None = option("exit status 3 where a score is lower", default=None, metavar="SCORE")
    exclude: list[str] = option(
        "leave out files and folders that match, such as '*_draft.mp4'; may be given several times",
        default=[],
        metavar="GLOB",
        action="append",
        nargs=None,
    )
    max_download: float = option("bytes of an address (default: 2e9)", default=2e9, type=limit, metavar="NUMBER")
    workers: int = option(
        "threads that download and decode videos ahead of the model (default: none); with --engine ray tasks of a "
        f"core that do so for each actor (default: {RAY_WORKERS})",
        default=0,
        type=count,
        metavar="N",
    )
    engine: Literal["local", "ray"] = option(
        "this process (default), or a Ray cluster: the one of RAY_ADDRESS, else one on this machine; rows come in "
        "the order in which videos are done",
        default="local",
    )
    actors: int = option(
        "with --engine ray, processes with the model (default: one a GPU, or one a node where there is none)",
        default=0,
        type=count,
        metavar="N",
    )
    profile: bool = option("say at the end how long each stage took", default=False)
    progress: bool = option("show rate and time left where no terminal is, too", default=False)
    readout: Literal["score", "generate"] = option(
        "expected value of the model's distribution over scores (default), or the answer that it writes",
        default="score",
    )
    problems: bool = option(
        "look at every frame for freezes, black, blocking, blur, interlacing, flashes and others, with their times",
        default=False,
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "of weights and computation (default: the checkpoint's)", default="auto"
    )
    quantization: Literal["int8", "4bit"] | None = option(
        "the decoder's weights in 8 bits (torchao) or 4 bits (bitsandbytes, on a GPU)", default=None
    )
    # A file beyond one of them has no score but an error; the attributes of `ReadingLimits`
    max_pixels: float | None = reading_limit("of a frame (default: 200 million)")
    max_seconds: float | None = reading_limit("of a video (default: 43200, half a day)")
    max_fps: float | None = reading_limit("frames in one second (default: 1000)")
    max_wall_seconds: float | None = reading_limit("that a file may take, reading and encoding (default: no limit)")
    min_decoded_share: float | None = reading_limit("of the seconds that a file announces (default: 0.25)")
    min_whole_share: float | None = reading_limit("of frames without damage (default: 0.25)")

    def __post_init__(self):
        if not self.out:
            return
        if os.path.basename(self.out) in TABLE_SUFFIXES:
            raise ValueError(
                f"got --out {self.out}, expected a name before the suffix; is a variable without a value?"
            )
        suffix = suffix_of(self.out)
        if not suffix or (os.path.isdir(self.out) and suffix not in TABLE_SUFFIXES):
            self.out = os.path.join(self.out, TABLE_FILE)


def run(options: Options) -> int:
    videos = _find(options)
    _check_outputs(options, videos)
    stages = Counter() if options.profile else None
    processor, model, score = (_on_ray if options.engine == "ray" else _here)(options, stages)

    started, cpu_started, rows = time.perf_counter(), time.process_time(), []
    is_late = options.sort or options.worst is not None
    table = Table(videos, processor.damage_question is not None and options.readout == "score")
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(_journal(options, processor, model, videos)) if options.out else None
        if journal:
            for path in filter(None, (options.out, options.windows, options.timeline, options.report)):
                journal.refuse_foreign(path, videos)
        write_csv = stack.enter_context(csv_file(options.csv)) if options.csv else None
        if not options.json:
            print_line(table.header)
        for row in _rows(options, score, videos, journal):
            rows.append(row)
            if not is_late:
                print_line(json_line(row) if options.json else table.line(row))
            if write_csv:
                write_csv(row)
        try:
            for row in _chosen(options, rows) if is_late else ():
                print_line(json_line(row) if options.json else table.line(row))
        finally:  # also where nobody reads on, as `head` does
            _write_files(options, rows, journal, processor)
    if not options.json and any(row["outside"] for row in rows):
        warn(OUTSIDE_NOTE)
    if len(rows) > 1:
        warn(summary_line(rows, time.perf_counter() - started))
    if options.profile:
        busy = time.process_time() - cpu_started
        warn(profile_line(stages, time.perf_counter() - started, busy))
    if any(row["error"] is not None for row in rows):
        return 1
    is_below = options.fail_under is not None and any(row["score"] < options.fail_under for row in rows)
    return BELOW if is_below else 0


def _find(options: Options) -> list[str]:
    names = read_names(sys.stdin.buffer) if "-" in options.paths else None
    found = find_and_warn(options.paths, options.exclude, names)
    for pattern in found.unused:
        warn(f"warning: --exclude {pattern} leaves nothing out")
    if found.excluded:
        warn(f"excluded {found.excluded} of {found.excluded + len(found.videos)}")
    if not found.videos:
        where = ", ".join(found.without_videos or options.paths)
        raise ValueError(f"got no video in {where}, expected files, or folders that hold any")
    return found.videos


def _check_outputs(options: Options, videos: list[str]) -> None:
    check_readers(videos)
    if options.csv:
        if is_media_name(options.csv):
            raise ValueError(f"got --csv {options.csv}, expected a name that is no video's, such as rows.csv")
        refuse_to_overwrite(options.csv, videos)
    of_outputs = {
        "out": TABLE_SUFFIXES,
        "windows": TABLE_SUFFIXES,
        "timeline": TIMELINE_SUFFIXES,
        "report": REPORT_SUFFIXES,
    }
    for name, suffixes in of_outputs.items():
        if path := getattr(options, name):
            check_suffix(name, path, suffixes, len(videos))
            if not options.out:  # else its journal knows which files are its own
                refuse_to_overwrite(path, videos)


def _here(options: Options, stages: Counter | None) -> tuple:
    """The processor, the folder or repository that it comes from, and what makes rows of videos."""
    scorer, model = load(options, dtype=options.dtype, quantization=options.quantization)
    from ..scoring.scorer import score_videos

    _limit_reading(options, scorer.processor)
    of_rows = (options.readout, options.max_download, options.problems, options.workers, stages)
    return scorer.processor, model, lambda videos: score_videos(scorer, videos, *of_rows)


def _on_ray(options: Options, stages: Counter | None) -> tuple:
    """As `_here`; this process does not load the model."""
    if stages is not None:
        raise ValueError(
            "got --profile with --engine ray, expected one of them: Ray's dashboard shows what its tasks do"
        )
    if find_spec("ray") is None:
        raise ValueError("got --engine ray without ray, expected it to be installed; pip install 'lmmvqa[ray]'")
    quiet_libraries()
    from ..scoring.ray_engine import score_on_ray
    from ..scoring.scorer import default_checkpoint, load_processor

    model = options.model or default_checkpoint()
    processor = load_processor(model)
    _limit_reading(options, processor)
    names = ("device", "dtype", "quantization", "readout", "max_download", "problems", "actors")
    settings = {name: getattr(options, name) for name in names} | {"limits": processor.video_processor.limits}
    workers = options.workers or RAY_WORKERS
    return processor, model, lambda videos: score_on_ray(videos, model=model, workers=workers, **settings)


def _limit_reading(options: Options, processor) -> None:
    limits = {name: getattr(options, name) for name in READING_LIMITS}
    given = {name: limit for name, limit in limits.items() if limit is not None}
    processor.video_processor.limits = replace(processor.video_processor.limits, **given)


def _journal(options: Options, processor, model: str, videos: list[str]) -> Journal:
    from ..checkpoints.checkpoint_digest import checkpoint_digest
    from ..scoring.scorer import scoring_settings

    digest = checkpoint_digest(model)
    own = {name: getattr(options, name) for name in ("readout", "dtype", "quantization", "problems")}
    return Journal(options.out, {"model_digest": digest} | scoring_settings(processor, **own), videos)


def _rows(
    options: Options, score: Callable[[Iterable[str]], Iterator[dict]], videos: list[str], journal: Journal | None
) -> Iterator[dict]:
    """The row of each video, from the journal where it stands there, in the order of `score`."""
    # By video, its version and, where the journal has it, its row: names are taken ahead of rows
    looked_up = OrderedDict()

    def unknown() -> Iterator[str]:
        for video in videos:
            version = video_version(video) if journal else {}
            row = journal.known(video, version) if journal else None
            looked_up[video] = version, row
            if row is None:
                yield video

    with _progress(options, len(videos), "video") as bar:

        def known() -> Iterator[dict]:
            while looked_up and next(iter(looked_up.values()))[1] is not None:
                bar.total -= 1
                yield looked_up.popitem(last=False)[1][1]

        for row in score(unknown()):
            yield from known()
            version, _ = looked_up.pop(row["video"])
            if journal:
                row |= version | {
                    "model": options.model or "default",
                    "model_digest": journal.settings["model_digest"],
                }
                journal.add(row)
            yield row
            bar.update()
        yield from known()


def _progress(options: Options, total: int, unit: str) -> tqdm:
    return tqdm(total=total, unit=unit, delay=3, disable=not (options.progress or sys.stderr.isatty()))


def _write_files(options: Options, rows: list[dict], journal: Journal | None, processor) -> None:
    from ..scoring.table_files import VIDEO_COLUMNS, WINDOW_COLUMNS, table_writer, timeline_writer, window_rows

    # What the journal has of other videos is not taken out of its tables
    of_tables = list(journal.rows.values()) if journal else rows
    writers = {}
    if options.out:
        writers[options.out] = table_writer(options.out, of_tables, VIDEO_COLUMNS)
    if options.windows:
        writers[options.windows] = table_writer(options.windows, list(window_rows(of_tables)), WINDOW_COLUMNS)
    if options.timeline:
        writers[options.timeline] = timeline_writer(options.timeline, rows)
    if options.report:
        # The last one: its pictures take time, and tables are whole before
        writers[options.report] = lambda to: to.write_text(_report(options, rows, processor), encoding="utf-8")
    for path, write in writers.items():
        if journal:
            journal.write(path, write)
        else:
            with writing(path):
                write(Path(path))


def _report(options: Options, rows: list[dict], processor) -> str:
    from ..checkpoints.model_card import known_limits
    from ..scoring.score_report import PICTURE_SIZE, picture_moments, score_page
    from ..scoring.thumbnails import video_pictures

    pictures = {}
    moments = picture_moments(rows)
    with _progress(options, len(moments), "picture") as bar:
        for video, of_video in moments.items():
            pictures[video] = video_pictures(video, of_video, PICTURE_SIZE, processor.video_processor.limits)
            bar.update()
    return score_page(
        rows,
        pictures,
        options.report,
        scale=processor.scale or [0, 100],
        thresholds=processor.calibrated(list(processor.level_thresholds)),
        model=options.model or "default",
        limits=known_limits(options.model),
    )


def _chosen(options: Options, rows: list[dict]) -> list[dict]:
    ordered = lowest_first(rows)
    num_scored = sum(row["error"] is None for row in rows)
    return ordered if options.worst is None else ordered[:num_scored][: options.worst] + ordered[num_scored:]
