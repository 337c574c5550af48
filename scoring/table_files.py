"""Rows of many videos to one file: tables as CSV, JSON lines and Parquet, timelines as JSON, CSV and a figure."""

import json
import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from ..processing.answers_lmmvqa import ANSWER_FIELDS, DAMAGE_ANSWERS, LEVELS
from .report import ROW_KEYS, csv_file, json_line, printable, utf8
from .video_files import suffix_of


# Of a row in a table of videos
MODEL_KEYS = ("model", "model_digest")
VERSION_KEYS = ("size", "modified")
POOLED_KEYS = ("percentile_5", "worst_start", "worst_end", "worst_score")
VIDEO_COLUMNS = (*ROW_KEYS, *POOLED_KEYS, *VERSION_KEYS, *MODEL_KEYS)
WINDOW_COLUMNS = ("video", "start", "end", *ANSWER_FIELDS)
TIMELINE_COLUMNS = ("video", "start", "end", "score", "score_std", "level")


def window_rows(rows: list[dict]) -> Iterator[dict]:
    """A row a window, in order; a video that needs none is one of its whole length. Videos without score have none."""
    for row in rows:
        if row["error"] is None:
            whole = {"start": 0, "end": row["duration"]} | {name: row[name] for name in ANSWER_FIELDS}
            for window in row.get("windows") or [whole]:
                yield {"video": row["video"], **window}


def table_writer(path: str, rows: list[dict], columns: tuple[str, ...]) -> Callable[[Path], None]:
    """
    Args:
        path: its suffix, one of `TABLE_SUFFIXES`, says the format. JSON lines hold all of a row, whatever the columns.

    Returns:
        What writes the table to a path.
    """

    def flat(row: dict) -> dict:
        worst = row.get("worst_window") or {}
        return row | {f"worst_{name}": worst.get(name) for name in ("start", "end", "score")}

    def write_csv(to: Path) -> None:
        with csv_file(str(to), columns) as write:
            for row in rows:
                write(flat(row))

    def write_json_lines(to: Path) -> None:
        with open(to, "w", encoding="utf-8") as file:
            file.writelines(f"{json_line(row)}\n" for row in rows)

    def write_parquet(to: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        schema = pa.schema([(name, _parquet_type(name)) for name in columns])
        texts = [{name: utf8(value) for name, value in row.items() if isinstance(value, str)} for row in rows]
        of_rows = [flat(row) | of_row for row, of_row in zip(rows, texts, strict=True)]
        parquet.write_table(pa.Table.from_pylist(of_rows, schema), to)

    return {".csv": write_csv, ".jsonl": write_json_lines, ".parquet": write_parquet}[suffix_of(path)]


def _parquet_type(column: str):
    """The same whatever the rows are, so that tables can be joined."""
    import pyarrow as pa

    if column in ("frames", "damaged_frames", "lost_frames", "width", "height", "size"):
        return pa.int64()
    if column == "outside":
        return pa.list_(pa.string())
    if column in ("level_probabilities", "damage"):
        names = LEVELS if column == "level_probabilities" else DAMAGE_ANSWERS
        return pa.struct([(name, pa.float64()) for name in names])
    if column == "problems":
        numbers = [(name, pa.float64()) for name in ("start", "end", "strength")]
        return pa.list_(pa.struct([("kind", pa.string()), *numbers]))
    is_text = column in ("video", "level", "answer", "hdr", "error", "modified", *MODEL_KEYS)
    return pa.string() if is_text else pa.float64()


def timeline_writer(path: str, rows: list[dict]) -> Callable[[Path], None]:
    """
    Scores over the seconds of each video, see `window_rows`.

    Args:
        path: its suffix, one of `TIMELINE_SUFFIXES`, says the format.

    Returns:
        What writes the timeline to a path.
    """
    if suffix_of(path) == ".csv":
        return table_writer(path, list(window_rows(rows)), TIMELINE_COLUMNS)
    if suffix_of(path) == ".json":
        return lambda to: to.write_text(json.dumps(_timelines(rows), indent=1) + "\n", encoding="utf-8")
    return lambda to: _draw(_timelines(rows), to)


def _timelines(rows: list[dict]) -> list[dict]:
    names = ("video", "error", "duration", "score", "percentile_5", "worst_window")
    return [
        {name: utf8(value) if isinstance(value := row.get(name), str) else value for name in names}
        | {"windows": [{name: part[name] for name in TIMELINE_COLUMNS[1:]} for part in window_rows([row])]}
        for row in rows
    ]


def _draw(timelines: list[dict], to: Path) -> None:
    """A panel for each video: the score of each window, its deviation, and the worst window."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 0.6 + 1.8 * len(timelines)), layout="constrained")
    for axes, timeline in zip(figure.subplots(len(timelines), squeeze=False)[:, 0], timelines, strict=True):
        windows = timeline["windows"]
        axes.set_title(printable(os.path.basename(timeline["video"])), loc="left", fontsize="small", parse_math=False)
        axes.set_ylabel("score")
        if not windows:
            axes.text(0.5, 0.5, "no score", transform=axes.transAxes, ha="center")
            continue
        borders = [windows[0]["start"], *(window["end"] for window in windows)]
        scores = [window["score"] for window in windows]
        axes.stairs(scores, borders, baseline=None, linewidth=2)
        if all(window["score_std"] is not None for window in windows):
            for (start, end), window in zip(pairwise(borders), windows, strict=True):
                low, high = window["score"] - window["score_std"], window["score"] + window["score_std"]
                axes.fill_between([start, end], low, high, color="tab:blue", alpha=0.15, linewidth=0)
        if worst := timeline["worst_window"]:
            axes.axvspan(worst["start"], worst["end"], color="tab:red", alpha=0.2, linewidth=0)
        axes.axhline(timeline["score"], color="grey", linestyle="--", linewidth=1)
        axes.set_xlim(borders[0], borders[-1])
    axes.set_xlabel("seconds (dashed: score of the whole video; shaded: one standard deviation; red: worst window)")
    figure.savefig(to, format="png", dpi=110)
