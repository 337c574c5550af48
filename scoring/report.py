"""Rows of results as a table for people, as JSON lines and as CSV for programs."""

import contextlib
import csv
import json
from collections.abc import Callable, Iterator


ROW_KEYS = ("video", "score", "score_std", "level", "level_probabilities", "answer", "error", "seconds")


class Table:
    """Lines of equal columns: video, score ± standard deviation, level and number of windows if there are several, or the
    error of a video without score."""

    def __init__(self, videos: list[str]):
        self._width = max(map(len, [*videos, "video"]))
        self.header = f"{'video':<{self._width}}  {'score':<12}  level"

    def line(self, row: dict) -> str:
        if row["error"] is not None:
            return f"{row['video']:<{self._width}}  error: {row['error']}"
        std = "" if row["score_std"] is None else f" ± {row['score_std']:.1f}"
        score = f"{row['score']:5.1f}{std}"
        windows = f"  ({len(row['windows'])} windows)" if "windows" in row else ""
        return f"{row['video']:<{self._width}}  {score:<12}  {row['level']}{windows}"


def json_line(row: dict) -> str:
    """A row as one line of JSON."""
    return json.dumps(row)


@contextlib.contextmanager
def csv_file(path: str) -> Iterator[Callable[[dict], None]]:
    """
    Opens a CSV file of `ROW_KEYS` and gives the function that adds a row, on disk at once. `level_probabilities` is
    JSON in its cell, and None is an empty cell. A long video's windows stand in JSON rows only.
    """
    with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, ROW_KEYS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()

        def write(row: dict) -> None:
            levels = row["level_probabilities"]
            writer.writerow(row | {"level_probabilities": None if levels is None else json.dumps(levels)})
            file.flush()

        yield write
