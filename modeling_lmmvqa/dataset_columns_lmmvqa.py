# Copyright 2026 The LMM-VQA authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Columns of a batch of `datasets` to videos, and results to columns."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import repeat
from typing import Any


# `map` takes the type of a column from the first rows it gets, and a column of None alone has none: so no value is None
NUMBERS = ("score", "score_std", "percentile_5", "worst_start", "worst_end", "worst_score")
FACT_NUMBERS = ("duration", "expected_duration", "fps")
COUNTS = ("frames", "damaged_frames", "lost_frames", "width", "height")
TEXTS = ("level", "answer", "hdr", "error")
JSON_TEXTS = ("problems", "outside")


def batch_videos(batch: Mapping, column: str, start: str | None, end: str | None, part_of: Any) -> Iterator[Any]:
    """
    What `make_video_list` takes, for each row of a batch, read when it is asked for.

    Args:
        batch: what `dataset.map(function, batched=True)` gives the function.
        column: the videos.
        start, end: columns of seconds, where a video is a part of a file.
        part_of: `stored_part` of `video_inputs_lmmvqa`.

    Raises:
        ValueError: no such column, or a row in place of a batch.
    """
    for name in filter(None, (column, start, end)):
        if name not in batch:
            raise ValueError(f"got no column {name!r}, expected one of {', '.join(batch)}")
    videos = _stored(batch, column)
    if start is None and end is None:
        yield from videos
        return
    starts, ends = (repeat(None) if name is None else map(_seconds, batch[name]) for name in (start, end))
    for video, first, last in zip(videos, starts, ends, strict=False):
        yield part_of(video, first, last)


def _stored(batch: Mapping, column: str) -> Iterable:
    """
    A column as its file has it. Opened by `datasets` it would need torchcodec, and one video that cannot be opened would
    end the whole `map`.
    """
    # By name, since datasets need not be installed. A function before this one may have put another column in its place
    if type(batch).__name__ == "LazyBatch" and column in batch.keys_to_format:
        stored = batch.pa_table[column]
        names = {stored.type.field(index).name for index in range(stored.type.num_fields)}
        if names == {"bytes", "path"}:
            return (value.as_py() for value in stored)
    videos = batch[column]
    if isinstance(videos, str | bytes | Mapping):
        raise ValueError(f"got one {column}, expected a batch of them; call map with batched=True")
    return videos


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)


def result_columns(rows: list[dict], answer_names: dict[str, list[str]], prefix: str = "") -> dict[str, list]:
    """
    Args:
        rows: the pipeline's results with `on_error="row"`.
        answer_names: `LmmVqaProcessor.answer_names`.

    Returns:
        {name: a value for each row}, of the same types whatever the rows are: a number that is not known is NaN, a count 0, a
        text empty. `problems` and `outside` are JSON texts. `percentile_5` and `worst_score` of a video that was judged as
        a whole are its score.
    """
    flat = [_with_worst(row) for row in rows]
    columns = {name: [_number(row.get(name)) for row in flat] for name in NUMBERS + FACT_NUMBERS}
    columns |= {name: [row.get(name) or 0 for row in flat] for name in COUNTS}
    columns |= {name: [row.get(name) or "" for row in flat] for name in TEXTS}
    columns |= {name: ["" if row.get(name) is None else json.dumps(row[name]) for row in flat] for name in JSON_TEXTS}
    for column, names in answer_names.items():
        columns[column] = [{name: _number((row.get(column) or {}).get(name)) for name in names} for row in flat]
    return {f"{prefix}{name}": values for name, values in columns.items()}


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _with_worst(row: dict) -> dict:
    if "error" in row:
        return row
    whole = {"start": 0.0, "end": row["duration"], "score": row["score"]}
    worst = {f"worst_{name}": value for name, value in (row["worst_window"] or whole).items()}
    return row | worst | {"percentile_5": row["score"] if row["percentile_5"] is None else row["percentile_5"]}


__all__ = ["batch_videos", "result_columns"]
