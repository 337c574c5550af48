"""Predictions on disk, a line a video as they are made, so that a stopped run goes on where it was."""

import json
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm


def predict_to_file(
    path: Path, rows: list[dict], predict: Callable[[list[str]], list[dict]], batch_size: int
) -> list[dict]:
    """
    Appends a line of a row and its prediction for each row that has none yet, and returns all of them. What is not known
    of a video, None, leaves the row's own column, such as its width, as it is.

    Args:
        path: JSON lines; its lines are those of the first rows, the last one may be cut.
        predict: predictions of a batch of videos. Batches are the same in a run that was stopped, so that its results
            are too: one that was written in part is computed again.
    """
    lines = _complete_lines(path)
    with open(path, "a", encoding="utf-8") as file:
        for start in tqdm(range(0, len(rows), batch_size), desc="batches", delay=3, disable=None):
            batch = rows[start : start + batch_size]
            done = len(lines) - start
            if done >= len(batch):
                continue
            predictions = predict([row["video"] for row in batch])
            for row, prediction in list(zip(batch, predictions, strict=True))[done:]:
                unknown = {name for name, value in prediction.items() if value is None} & row.keys()
                lines.append(row | {name: value for name, value in prediction.items() if name not in unknown})
                file.write(json.dumps(lines[-1], allow_nan=False) + "\n")
                file.flush()
    return lines


def _complete_lines(path: Path) -> list[dict]:
    if not path.exists():
        return []
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    with open(path, "r+b") as file:
        file.truncate(end)
    return [json.loads(line) for line in data[:end].splitlines()]
