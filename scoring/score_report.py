"""The page about many scored videos: one HTML file that needs nothing else, and runs no script."""

import math
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..processing.answers_lmmvqa import LEVELS, NO_DAMAGE
from .addresses import is_address
from .report import (
    decoded_in_part,
    lowest_first,
    mark_text,
    named_damages,
    pooled,
    printable,
    score_text,
    visible_damages,
)
from .table_files import window_rows
from .thumbnails import VideoPictures


# So many videos have a timeline and pictures, which makes some 5 MB; of more, those in the middle are a line each
MAX_SHOWN = 1000
# Of these, the lowest have up to three pictures of their lowest windows, the others one
MAX_DETAILED, PICTURES_OF_DETAILED = 60, 3
# Width and height of a picture in pixels at most
PICTURE_SIZE = (208, 156)
# Videos in each of the sections of the lowest and of the highest scores
MAX_CARDS = 8
NUM_BINS = 20
# Steps of a timeline that a screen can show; beyond, each is the lowest of several windows
MAX_STEPS = 120
# Width and height of drawings of scores over time: whole numbers, which are short
DRAWING = (1000, 200)


def shown(rows: Sequence[dict]) -> list[tuple[int, dict]]:
    """
    The rows that the page shows with a timeline and pictures, and their ranks from 1, the lowest score first. Failures are
    none of them, and of more than `MAX_SHOWN` those between the lowest and the highest ones.
    """
    ranked = list(enumerate((row for row in lowest_first(rows) if row["error"] is None), 1))
    return ranked if len(ranked) <= MAX_SHOWN else ranked[: MAX_SHOWN - MAX_CARDS] + ranked[-MAX_CARDS:]


def picture_moments(rows: Sequence[dict]) -> dict[str, list[float]]:
    """
    Of which moments the page of these rows has pictures: the middles of the lowest windows.

    Returns:
        {video: seconds}, the lowest score first.
    """
    return {
        row["video"]: [middle(window, row) for window in lowest_windows(row, _most_pictures(rank))]
        for rank, row in shown(rows)
    }


def _most_pictures(rank: int) -> int:
    return PICTURES_OF_DETAILED if rank <= MAX_DETAILED else 1


def lowest_windows(row: dict, most: int) -> list[dict]:
    """The lowest windows of a video in order of time, no more than half of them; a video that needs none is one."""
    windows = sorted(window_rows([row]), key=lambda window: window["score"])
    return sorted(windows[: max(1, min(most, len(windows) // 2))], key=lambda window: window["start"])


def middle(window: dict, row: dict) -> float:
    """Seconds, of the part of a window that the video fills."""
    return (window["start"] + min(window["end"], row["duration"])) / 2


def score_page(
    rows: Sequence[dict],
    pictures: Mapping[str, VideoPictures],
    path: str | Path,
    scale: Sequence[float],
    thresholds: Sequence[float],
    model: str,
    limits: Sequence[str] = (),
) -> str:
    """
    Args:
        rows: of `score_videos`, failures among them.
        pictures: {video: of its `picture_moments`}.
        path: where the page will lie, from where it links to the videos.
        scale: lowest and highest score.
        thresholds: scores from which a video is fair and good.
        model: what the scores are of.
        limits: what the model does not know, a paragraph each.

    Returns:
        HTML.
    """
    scores = [row["score"] for row in rows if row["error"] is None]
    folder = common_folder([row["video"] for row in rows])
    videos = [
        _line(row, path, folder) | _of_time(row, rank, pictures[row["video"]], scale) for rank, row in shown(rows)
    ]
    between = lowest_first(rows)[MAX_SHOWN - MAX_CARDS : len(scores) - MAX_CARDS] if len(scores) > MAX_SHOWN else []
    num_lowest = min(MAX_CARDS, math.ceil(len(videos) / 2))
    num_highest = min(MAX_CARDS, len(videos) - num_lowest)
    mean, lowest = pooled(scores) if scores else (None, None)
    digests = {row["model_digest"] for row in rows if "model_digest" in row}
    return render(
        "score_report.html.jinja",
        rows=rows,
        num_scored=len(scores),
        mean=mean,
        lowest=lowest,
        levels=Counter(row["level"] for row in rows if row["error"] is None),
        histogram=_histogram(scores, scale),
        borders=[(name, place(score, scale)) for name, score in zip(LEVELS[1:], thresholds, strict=True)],
        thresholds=thresholds,
        scale=scale,
        damages=_damages(rows),
        problems=_problems(rows),
        videos=videos,
        lowest_videos=videos[:num_lowest],
        highest_videos=videos[len(videos) - num_highest :][::-1],
        between=[_line(row, path, folder) for row in between],
        failures=[_line(row, path, folder) for row in rows if row["error"] is not None],
        outside=Counter(name for row in rows for name in row["outside"] or ()),
        with_windows=any("windows" in row for row in rows),
        with_deviation=any(row["score_std"] is not None for row in rows),
        max_steps=MAX_STEPS,
        max_detailed=MAX_DETAILED,
        folder=printable(folder),
        model=printable(model),
        digest=next(iter(digests), None),
        limits=limits,
    )


def render(template: str, scale: Sequence[float], **content) -> str:
    """A page of a template in this folder; texts are escaped, and the filters `score` and `mark` write scores of the scale."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"score": partial(score_text, scale=scale), "mark": partial(mark_text, scale=scale)}
    made = f"{datetime.now(UTC):%F %H:%M} UTC"
    return environment.get_template(template).render(made=made, version=version("lmmvqa"), scale=scale, **content)


def link(video: str, page: str | Path) -> str | None:
    """Where a page finds a video: relative to its folder, or at its address; None where browsers open no such address."""
    if is_address(video):
        return video if video.lower().startswith("http") else None
    return quote(os.path.relpath(os.fsencode(video), os.fsencode(os.path.dirname(page) or ".")))


def common_folder(videos: Sequence[str]) -> str:
    """The folder, with its last slash, that all of these paths begin with; empty where there is none."""
    prefix = os.path.commonprefix([video[: video.rfind("/") + 1] for video in videos])
    return prefix[: prefix.rfind("/") + 1]


def timeline(row: dict, most: int, pictures: VideoPictures, scale: Sequence[float]) -> dict:
    """
    What a page draws of a video over its seconds.

    Args:
        most: of lowest windows that are marked, as in `lowest_windows`.

    Returns:
        `end` in seconds, paths in a `DRAWING` of the `scores` and of the `band` of one deviation around them (None without
        deviations), the marked windows, and the row's problems by kind; their places and widths are percentages.
    """
    windows = list(window_rows([row]))
    end = max(windows[-1]["end"], row["duration"])

    def span(part: dict) -> dict:
        left, right = (100 * min(max(part[side] / end, 0), 1) for side in ("start", "end"))
        return part | {"left": round(left, 2), "width": round(max(right - left, 0.4), 2)}

    steps = _steps(windows)
    borders = [round(DRAWING[0] * step["start"] / end) for step in steps] + [DRAWING[0]]
    band = None
    if all(step["score_std"] is not None for step in steps):
        low, high = ([_height(step["score"] + sign * step["score_std"], scale) for step in steps] for sign in (-1, 1))
        band = f"M{_stairs(borders, high)}L{_stairs(borders[::-1], low[::-1])}z"
    marked = [span(window) for window in lowest_windows(row, most)]
    thumbnails = pictures.thumbnails or [None] * len(marked)
    kinds = defaultdict(list)
    for problem in row["problems"] or ():
        kinds[problem["kind"]].append(span(problem))
    return {
        "end": end,
        "scores": "M" + _stairs(borders, [_height(step["score"], scale) for step in steps]),
        "band": band,
        "lowest": min(windows, key=lambda window: window["score"]),
        "highest": max(windows, key=lambda window: window["score"]),
        "num_windows": len(windows),
        "marked": [window | {"picture": thumbnail} for window, thumbnail in zip(marked, thumbnails, strict=False)],
        "problems": kinds,
    }


def _of_time(row: dict, rank: int, pictures: VideoPictures, scale: Sequence[float]) -> dict:
    of_time = timeline(row, _most_pictures(rank), pictures, scale)
    lowest = min(of_time["marked"], key=lambda window: window["score"])
    damage = row["damage"] or {}
    return {
        "rank": rank,
        "row": row,
        "damages": [f"{kind.replace('_', ' ')} {damage[kind]:.0%}" for kind in visible_damages(damage)],
        "in_part": decoded_in_part(row),
        "timeline": of_time,
        "picture": lowest["picture"],
        "no_picture": None if pictures.error is None else printable(pictures.error),
    }


def _line(row: dict, path: str | Path, folder: str) -> dict:
    return {name: row[name] for name in ("score", "score_std", "level")} | {
        "name": printable(row["video"].removeprefix(folder)),
        "link": link(row["video"], path),
        "error": None if row["error"] is None else printable(row["error"]),
    }


def _damages(rows: Sequence[dict]) -> list[tuple[str, int]] | None:
    """In how many videos each kind of damage is named, the most frequent first; None where the model does not say."""
    asked = [row["damage"] for row in rows if row["damage"] is not None]
    if not asked:
        return None
    counts = Counter(kind for damage in asked for kind in named_damages(damage) if kind != NO_DAMAGE)
    return [(kind.replace("_", " "), number) for kind, number in counts.most_common()]


def _problems(rows: Sequence[dict]) -> list[tuple[str, int, float]] | None:
    """Each kind of problem with the number of videos and the seconds in all; None where nobody looked for them."""
    asked = [row["problems"] for row in rows if row["problems"] is not None]
    if not asked:
        return None
    videos, seconds = Counter(), Counter()
    for problems in asked:
        videos.update({problem["kind"] for problem in problems})
        for problem in problems:
            seconds[problem["kind"]] += problem["end"] - problem["start"]
    return [(kind.replace("_", " "), number, seconds[kind]) for kind, number in videos.most_common()]


def _histogram(scores: Sequence[float], scale: Sequence[float]) -> list[dict]:
    """`NUM_BINS` bins of equal width, each with its borders and `count`."""
    low, high = scale
    width = (high - low) / NUM_BINS
    counts = Counter(min(max(int((score - low) / width), 0), NUM_BINS - 1) for score in scores)
    return [
        {"from": low + width * place, "to": low + width * (place + 1), "count": counts[place]}
        for place in range(NUM_BINS)
    ]


def _steps(windows: list[dict]) -> list[dict]:
    """The windows, or groups of neighbours with the answer of their lowest."""
    size = math.ceil(len(windows) / MAX_STEPS)
    groups = [windows[first : first + size] for first in range(0, len(windows), size)]
    return [min(group, key=lambda window: window["score"]) | {"start": group[0]["start"]} for group in groups]


def place(score: float, scale: Sequence[float]) -> float:
    """Percent of the way from the lowest to the highest score."""
    low, high = scale
    return 100 * min(max((score - low) / (high - low), 0), 1)


def _height(score: float, scale: Sequence[float]) -> int:
    """In a `DRAWING`, from above."""
    return round(DRAWING[1] * (1 - place(score, scale) / 100))


def _stairs(borders: Sequence[int], heights: Sequence[int]) -> str:
    """A path from its first point on: to each border at a height, and from there to the next height."""
    steps = f"{borders[0]} {heights[0]}h{borders[1] - borders[0]}"
    for index in range(1, len(heights)):
        if up := heights[index] - heights[index - 1]:
            steps += f"v{up}"
        steps += f"h{borders[index + 1] - borders[index]}"
    return steps
