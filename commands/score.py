"""`lmmvqa score`: videos and pictures to scores."""

import argparse
import contextlib
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Literal

from tqdm import tqdm

from ..scoring.report import OUTSIDE_NOTE, Table, csv_file, json_line
from ..scoring.video_files import find_videos, is_media_name, refuse_to_overwrite
from .model_options import ModelOptions, load
from .output import print_line, warn


HELP = "score videos and pictures"
DESCRIPTION = "Scores each video or picture. One that cannot be scored is reported, and the exit status is 1."


def limit(text: str) -> float:
    """A number of the command line that bounds something."""
    number = float(text)
    if not number >= 0:
        raise argparse.ArgumentTypeError(f"got {text}, expected 0 or more, or inf")
    return number


def reading_limit(what: str) -> float | None:
    settings = {"help": what, "type": limit, "metavar": "NUMBER", "group": "limits"}
    return field(default=None, metadata=settings)


READING_LIMITS = ("max_pixels", "max_seconds", "max_fps", "max_wall_seconds", "min_decoded_share", "min_whole_share")


@dataclass(kw_only=True)
class Options(ModelOptions):
    paths: list[str] = field(
        metadata={
            "help": "file, pattern, or folder with all below it but what is hidden",
            "positional": True,
            "metavar": "PATH",
        }
    )
    json: bool = field(
        default=False,
        metadata={"help": "print one JSON object a line instead of a table, with the windows of long videos"},
    )
    csv: str | None = field(
        default=None, metadata={"help": "write a new CSV file as well, a row a video", "metavar": "FILE"}
    )
    readout: Literal["score", "generate"] = field(
        default="score",
        metadata={
            "help": "expected value of the model's distribution over scores (default), or the answer that it writes"
        },
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = field(
        default="auto", metadata={"help": "of weights and computation (default: the checkpoint's)"}
    )
    quantization: Literal["int8", "4bit"] | None = field(
        default=None,
        metadata={"help": "the decoder's weights in 8 bits (torchao) or 4 bits (bitsandbytes, on a GPU)"},
    )
    # A file beyond one of them has no score but an error; the attributes of `ReadingLimits`
    max_pixels: float | None = reading_limit("of a frame (default: 200 million)")
    max_seconds: float | None = reading_limit("of a video (default: 43200, half a day)")
    max_fps: float | None = reading_limit("frames in one second (default: 1000)")
    max_wall_seconds: float | None = reading_limit("that a file may take, reading and encoding (default: no limit)")
    min_decoded_share: float | None = reading_limit("of the seconds that a file announces (default: 0.25)")
    min_whole_share: float | None = reading_limit("of frames without damage (default: 0.25)")


def run(options: Options) -> int:
    found = find_videos(options.paths)
    if found.skipped:
        counts = ", ".join(f"{kind} ({number})" for kind, number in Counter(found.skipped.values()).items())
        warn(f"skipped {counts}; name what is to be scored all the same")
    if not found.videos:
        names = ", ".join(found.without_videos)
        raise ValueError(f"got no video in {names}, expected files, or folders that hold any")
    for path in found.without_videos:
        warn(f"warning: no video in {path}")
    if options.csv:
        if is_media_name(options.csv):
            raise ValueError(f"got --csv {options.csv}, expected a name that is no video's, such as rows.csv")
        refuse_to_overwrite(options.csv, found.videos)

    scorer, _ = load(options, dtype=options.dtype, quantization=options.quantization)
    from ..scoring.scorer import score_videos

    limits = {name: getattr(options, name) for name in READING_LIMITS}
    given = {name: limit for name, limit in limits.items() if limit is not None}
    video_processor = scorer.processor.video_processor
    video_processor.limits = replace(video_processor.limits, **given)
    with contextlib.ExitStack() as stack:
        write_csv = stack.enter_context(csv_file(options.csv)) if options.csv else None
        table = Table(found.videos, scorer.processor.damage_question is not None and options.readout == "score")
        if not options.json:
            print_line(table.header)
        rows = score_videos(scorer, found.videos, options.readout)
        num_errors = num_outside = 0
        for row in tqdm(rows, total=len(found.videos), unit="video", delay=3, disable=not sys.stderr.isatty()):
            print_line(json_line(row) if options.json else table.line(row))
            if write_csv:
                write_csv(row)
            num_errors += row["error"] is not None
            num_outside += bool(row["outside"])
        if num_outside and not options.json:
            warn(OUTSIDE_NOTE)
    return 1 if num_errors else 0
