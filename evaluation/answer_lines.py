"""Answers on disk, a JSON line each as soon as it is known: a run that was stopped goes on with what is missing."""

import json
from pathlib import Path


class AnswerLines:
    """
    What a file of JSON lines holds, by their `id`.

    Args:
        path: its last line may be cut; it is removed.
    """

    def __init__(self, path: Path):
        self.path = path
        self.lines: dict[str, dict] = {}
        if path.exists():
            data = path.read_bytes()
            end = data.rfind(b"\n") + 1
            with open(path, "r+b") as file:
                file.truncate(end)
            for text in data[:end].splitlines():
                line = json.loads(text)
                self.lines[line["id"]] = line

    def add(self, line: dict) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
        self.lines[line["id"]] = line
