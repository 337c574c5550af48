"""The page about compared versions: one HTML file with what `lmmvqa compare` found, and the same moments side by side."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..scoring.report import OUTSIDE_NOTE, notes_of, printable
from ..scoring.score_report import common_folder, link, lowest_windows, middle, place, render, timeline
from ..scoring.table_files import window_rows
from ..scoring.thumbnails import VideoPictures
from .comparison import front


# Moments of which every version has a picture, and of how many versions at most; of more there is one moment
MOMENTS, MAX_VERSIONS = 3, 12
# Width and height in pixels at most, and WebP's quality: what is compared must not be lost in it
PICTURE_SIZE, PICTURE_QUALITY = (480, 360), 80


def compared_moments(versions: Sequence[Mapping], rows: Mapping[str, dict]) -> list[float]:
    """
    Seconds at which the page shows all versions: the middles of the lowest windows of the lowest version.

    Args:
        versions: as `lmmvqa compare` orders them, the best first.
        rows: {video: its row of `score_videos`}.
    """
    row = rows[versions[-1]["video"]]
    return [middle(window, row) for window in lowest_windows(row, MOMENTS if len(versions) <= MAX_VERSIONS else 1)]


def comparison_page(
    comparison: Mapping,
    rows: Mapping[str, dict],
    ladders: Mapping[str, Sequence[dict]],
    pictures: Mapping[str, VideoPictures],
    path: str | Path,
    scale: Sequence[float],
    model: str,
    limits: Sequence[str] = (),
    within: float | None = None,
) -> str:
    """
    Args:
        comparison: what `lmmvqa compare --json` prints.
        rows: {video: its row of `score_videos`} of its versions.
        ladders: name and versions of each, without pictures.
        pictures: {video: of the `compared_moments`}.
        path: where the page will lie, from where it links to the videos.
        scale: lowest and highest score.
        model: what the scores are of.
        limits: what the model does not know, a paragraph each.
        within: points of the best within which the smallest file is named.

    Returns:
        HTML.
    """
    versions, moments = comparison["versions"], compared_moments(comparison["versions"], rows)
    folder = common_folder([version["video"] for version in [*versions, *comparison["failures"]]])
    of_page = [
        {
            "number": number,
            "name": _name(version["video"], folder),
            "link": link(version["video"], path),
            "version": version,
            "notes": notes_of(version),
            "better": [None if other is version else version["better"][other["video"]] for other in versions],
            **_looks(rows[version["video"]], pictures[version["video"]], moments, scale),
        }
        for number, version in enumerate(versions, 1)
    ]
    names = {version["version"]["video"]: version for version in of_page}
    smallest = comparison.get("smallest_within")
    return render(
        "comparison_report.html.jinja",
        versions=of_page,
        failures=[
            {"name": _name(failure["video"], folder), "error": printable(failure["error"])}
            for failure in comparison["failures"]
        ],
        moments=moments,
        plot=_plot(ladders, names, scale) if any(ladders.values()) else None,
        smallest=None if smallest is None else names[smallest]["name"],
        within=within,
        bd_rate=comparison.get("bd_rate"),
        scale=scale,
        folder=printable(folder),
        model=printable(model),
        limits=limits,
        outside=OUTSIDE_NOTE.partition(": ")[2] if any(version["outside"] for version in versions) else None,
    )


def _looks(row: dict, pictures: VideoPictures, moments: Sequence[float], scale: Sequence[float]) -> dict:
    """What the page shows of a version's scores over time, and of itself at the moments."""
    return {
        "row": row,
        "timeline": timeline(row, 1, VideoPictures(), scale),
        "pictures": pictures.thumbnails,
        "at_moments": [_window_at(row, moment) for moment in moments],
        "no_picture": printable(pictures.error or "") or None,
    }


def _window_at(row: dict, seconds: float) -> dict:
    """The window of a moment; after the end of a version that is shorter, its last."""
    *earlier, last = window_rows([row])
    return next((window for window in earlier if seconds < window["end"]), last)


def _name(video: str, folder: str) -> str:
    return printable(video.removeprefix(folder))


def _plot(ladders: Mapping[str, Sequence[dict]], of_page: Mapping[str, dict], scale: Sequence[float]) -> dict:
    """
    Score against the logarithm of the bit rate: places in percent from the left and from above, with a margin.

    Returns:
        `ladders`: of each its name, `points` with their versions' numbers, and the `path` through those that are better than
        all cheaper ones; and the marks of both axes, pairs of a number and its place.
    """
    versions = [version for ladder in ladders.values() for version in ladder]
    rates = _widened([math.log10(version["kbps"]) for version in versions], least=0.1)
    scores = _widened([version["score"] for version in versions], least=0.02 * (scale[1] - scale[0]))

    def point(version: Mapping) -> dict:
        x, y = place(math.log10(version["kbps"]), rates), 100 - place(version["score"], scores)
        return {"x": round(x, 2), "y": round(y, 2), "number": of_page[version["video"]]["number"]}

    drawn = []
    for name, ladder in ladders.items():
        points = [point(version) for version in ladder]
        on_front = front(*([version[key] for version in ladder] for key in ("kbps", "score")))
        path = "M" + " ".join(f"{points[index]['x']} {points[index]['y']}" for index in on_front)
        drawn.append({"name": name, "points": points, "path": path})
    exponents = range(math.floor(rates[0]), math.ceil(rates[1]) + 1)
    marks = [digit * 10.0**exponent for exponent in exponents for digit in (1, 2, 5)]
    return {
        "ladders": drawn,
        "rates": [
            (mark, place(math.log10(mark), rates)) for mark in marks if rates[0] <= math.log10(mark) <= rates[1]
        ],
        "scores": [(score, 100 - place(score, scores)) for score in _round_numbers(*scores)],
    }


def _widened(values: Sequence[float], least: float) -> tuple[float, float]:
    margin = max(0.08 * (max(values) - min(values)), least)
    return min(values) - margin, max(values) + margin


def _round_numbers(low: float, high: float) -> list[float]:
    """Three to eight of them between two numbers."""
    step = next(
        digit * 10.0**exponent
        for exponent in range(math.floor(math.log10(high - low)) - 1, 4)
        for digit in (1, 2, 5)
        if (high - low) / (digit * 10.0**exponent) <= 8
    )
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
