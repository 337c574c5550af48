"""Rows of results as a table for people, as JSON lines and as CSV for programs."""

import contextlib
import csv
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path


# What was seen of a video, see `VideoFacts`
FACT_KEYS = (
    *("duration", "expected_duration", "frames", "damaged_frames", "lost_frames"),
    *("width", "height", "fps", "hdr", "problems"),
)
ROW_KEYS = (
    *("video", "score", "score_std", "level", "level_probabilities", "answer", "damage"),
    *FACT_KEYS,
    *("outside", "error", "seconds"),
)

# Probability from which a kind of damage is named, and how many the table names
NAMED_PROBABILITY, MAX_NAMED = 0.25, 2
# How many problems the table names
MAX_PROBLEMS = 3
OUTSIDE_NOTE = (
    "outside: no model here was trained on HDR (hdr), a shorter side above 1080 pixels (resolution) or more than 60 "
    "frames a second (frame_rate); such a score is a guess"
)

# Seconds: what whole files lack of what they announce, as the last frame's, is less
LEAST_SHORTFALL = 0.2

# Control characters, ends of lines, marks that turn the direction of writing, and bytes of a file's name that are not
# UTF-8 (which Python holds as surrogates): what makes a name look like another, or a line like two
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]")
# With these a spreadsheet begins a formula; the last four are their wide forms
FORMULA_STARTS = tuple("=+-@\uff1d\uff0b\uff0d\uff20")


def printable(text: str) -> str:
    r"""
    A text from strangers, such as a file's name, in one line that shows what it holds: line breaks, control characters,
    marks of writing direction and undecodable bytes as Python writes them, `\n`, `\x1b`, `\u202e`, `\udcff`.

    `text.encode("ascii", "backslashreplace").decode("unicode_escape")` undoes it, but for a text with backslashes.
    """
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def said_by(error: Exception) -> str:
    """The message of an error in one line; of what the system says alone, such as `[Errno 2] ...`, a sentence is made."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        what = "go on" if error.filename is None else f"use {error.filename}"
        message = (
            f"Could not {what}: {error.strerror}; check names, who may read and write, and the space that is left"
        )
    return re.sub(r"\s*[\r\n]+\s*", " ", message).strip()  # other spaces may be of a file's name


def failure_line(failure: Exception) -> str:
    """
    Why a video has no answer, in one line. What reading and scoring raise on purpose are ValueErrors and OSErrors, whose
    messages are for users; of anything else, such as a MemoryError, the kind is named as well.
    """
    message, kind = said_by(failure), type(failure).__name__
    if isinstance(failure, (ValueError, OSError)):
        return message or kind
    return f"{kind}: {message}" if message else kind


def finite(result: dict) -> dict:
    """
    The result as it is.

    Raises:
        ValueError: its score, or the deviation, is NaN or infinite.
    """
    score, std = result["score"], result["score_std"]
    if not all(math.isfinite(number) for number in (score, std) if number is not None):
        raise ValueError(f"got the score {score} ± {std}, expected finite numbers; see `lmmvqa selfcheck`")
    return result


def score_text(score: float, scale: Sequence[float] | None = None) -> str:
    """
    A score, or a difference of scores, with as many decimals as tell about a thousandth of the scale: 63.2, 3.41, 0.572.

    Args:
        scale: lowest and highest score; None is 0 to 100, as in all that takes one here.
    """
    return f"{score:.{decimals(scale)}f}"


def mark_text(score: float, scale: Sequence[float] | None = None) -> str:
    """As `score_text`, without zeros at the end: an end of a scale, or a threshold."""
    return f"{round(score, decimals(scale)):.15g}"


def span_text(window: dict) -> str:
    """The seconds of a window, such as 2-4 s."""
    return f"{window['start']}-{end_text(window)}"


def end_text(window: dict) -> str:
    """Where a window ends, such as 4 s; the last one may end between two."""
    return f"{round(window['end'], 1):.15g} s"


def decimals(scale: Sequence[float] | None) -> int:
    """Of a score on a scale, see `score_text`."""
    low, high = scale or (0, 100)
    return max(1, round(3 - math.log10(high - low)))


def named_damages(probabilities: dict[str, float]) -> list[str]:
    """The kinds that are probable enough to be named, "none" among them, the most probable first."""
    ordered = sorted(probabilities, key=probabilities.__getitem__, reverse=True)
    return [kind for kind in ordered if probabilities[kind] >= NAMED_PROBABILITY]


def visible_damages(probabilities: dict[str, float]) -> list[str]:
    """Of `named_damages` the first `MAX_NAMED` that are damages."""
    return [kind for kind in named_damages(probabilities) if kind != "none"][:MAX_NAMED]


class Table:
    """Lines of equal columns: video, score ± standard deviation, level, what is wrong where the model says it, how much was
    decoded where that is not all, what no model was trained on, the number of windows if there are several, and problems
    where they were looked for; or the error of a video without score.

    Args:
        videos: whose lines there will be.
        with_damage: whether the model says what is wrong.
    """

    def __init__(self, videos: list[str], with_damage: bool = False):
        self._width = max(len(printable(video)) for video in [*videos, "video"])
        self.header = f"{'video':<{self._width}}  {'score':<12}  level{'  damage' if with_damage else ''}"

    def line(self, row: dict) -> str:
        video = f"{printable(row['video']):<{self._width}}"
        if row["error"] is not None:
            return f"{video}  error: {printable(row['error'])}"
        scale = row.get("scale")
        std = "" if row["score_std"] is None else f" ± {score_text(row['score_std'], scale)}"
        score = f"{score_text(row['score'], scale):>5}{std}"
        level = row["level"] if row["damage"] is None else f"{row['level']:<5}  {_damage_words(row['damage'])}"
        notes = "".join(f"  ({note})" for note in notes_of(row))
        return f"{video}  {score:<12}  {level}{notes}{_worst_window(row)}{_problem_words(row)}"


def _damage_words(probabilities: dict[str, float]) -> str:
    return ", ".join(kind.replace("_", " ") for kind in visible_damages(probabilities)) or "-"


def _worst_window(row: dict) -> str:
    if "windows" not in row:
        return ""
    worst = row["worst_window"]
    score = score_text(worst["score"], row.get("scale"))
    return f"  ({len(row['windows'])} windows, worst {span_text(worst)}: {score})"


def _problem_words(row: dict) -> str:
    if row["problems"] is None:
        return ""
    words = [
        f"{problem['kind'].replace('_', ' ')} {problem['start']:.1f}-{problem['end']:.1f} s"
        for problem in row["problems"][:MAX_PROBLEMS]
    ]
    if (others := len(row["problems"]) - len(words)) > 0:
        words.append(f"{others} more")
    return f"  ({', '.join(words) or 'no problems'})"


def decoded_in_part(row: dict) -> list[str]:
    """How much of a video was seen, where that is not all of it."""
    notes = []
    if row["expected_duration"] is not None and row["expected_duration"] > row["duration"] + LEAST_SHORTFALL:
        notes.append(f"{row['duration']:.1f} of {row['expected_duration']:.1f} s")
    if row["damaged_frames"]:
        # Rows of journals that were begun before do not have the whole
        whole = f" of {row['frames'] + row['lost_frames']}" if "lost_frames" in row else ""
        notes.append(f"{row['damaged_frames']}{whole} frames damaged or lost")
    return notes


def notes_of(row: dict) -> list[str]:
    """What is to be said beside a score: see `decoded_in_part`, and what no model was trained on."""
    outside = [f"outside: {', '.join(row['outside'])}"] if row["outside"] else []
    return decoded_in_part(row) + outside


def lowest_first(rows: list[dict]) -> list[dict]:
    """The rows with a score, the lowest first, and then those without."""
    scored = [row for row in rows if row["error"] is None]
    return sorted(scored, key=lambda row: row["score"]) + [row for row in rows if row["error"] is not None]


def summary_line(rows: list[dict], seconds: float) -> str:
    """What many rows say in one line: how many, without score, the mean, and what 5 % of the scores do not exceed."""
    scored = [row for row in rows if row["error"] is None]
    scores = [row["score"] for row in scored]
    line = f"{len(rows)} videos, {len(rows) - len(scores)} without a score"
    if scores:
        mean, lowest = (score_text(score, scored[0].get("scale")) for score in pooled(scores))
        line += f", mean {mean}, lowest 5 % up to {lowest}"
    return f"{line}, {seconds:.1f} s"


def pooled(scores: Sequence[float]) -> tuple[float, float]:
    """The mean of scores, and what 5 % of them do not exceed."""
    return sum(scores) / len(scores), sorted(scores)[math.ceil(len(scores) / 20) - 1]


def profile_line(stages: dict[str, float], seconds: float, cpu_seconds: float) -> str:
    """
    Args:
        stages: seconds of each, in all threads together.
        seconds: that passed.
        cpu_seconds: for which cores were busy with it.
    """
    parts = ", ".join(f"{stage} {time:.1f} s ({time / sum(stages.values()):.0%})" for stage, time in stages.items())
    return f"{parts or 'nothing was scored'}; {cpu_seconds / seconds:.2f} of {os.cpu_count()} cores busy"


def json_line(row: dict) -> str:
    r"""
    A row as one line of JSON in ASCII. JSON has no NaN and no infinity, and not every reader takes a lone surrogate: bytes
    of a name that are not UTF-8 stand as text such as `\udcff`.
    """
    return json.dumps(row | {name: utf8(text) for name, text in row.items() if isinstance(text, str)}, allow_nan=False)


def utf8(text: str) -> str:
    r"""With bytes of a file's name that are not UTF-8, which Python holds as surrogates, as text such as `\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode()


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """
    Around what writes a file: makes its folder.

    Raises:
        OSError: it cannot be written, as where the disk is full; the message names it, which the system does not.
    """
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        yield
    except OSError as error:
        # of another file, raised where rows are made
        if error.filename not in (None, str(path)) or error.errno is None:
            raise
        why = os.strerror(error.errno)
        raise OSError(
            f"got the output {path}, expected a file to write to: {why}; make space, or name another one"
        ) from error


@contextlib.contextmanager
def csv_file(path: str, columns: Sequence[str] = ROW_KEYS) -> Iterator[Callable[[dict], None]]:
    """
    Opens a new CSV file of these columns, or a pipe or device, and gives the function that adds a row, on disk at once.

    Dictionaries and lists, such as `level_probabilities`, are JSON in their cells, and None is an empty cell, as is what a
    row lacks. Texts are `printable`, so that a row is a line, and one with which a spreadsheet would begin a formula has an
    apostrophe before it. A long video's windows stand in JSON rows and in a table of their own only.

    Raises:
        OSError: the file exists, or cannot be written to, as where the disk is full.
    """
    is_special = os.path.exists(path) and not os.path.isfile(path)
    with writing(path), open(path, "w" if is_special else "x", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")

        def write(cells: list) -> None:
            writer.writerow(cells)
            file.flush()

        write(columns)
        yield lambda row: write([_cell(row.get(name)) for name in columns])


def _cell(value: str | float | dict | list | None) -> str | float | None:
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
