"""Answers on disk, a JSON line each as soon as it is known: a run that was stopped goes on with what is missing."""

import json
from pathlib import Path

from ..scoring.json_lines import complete_lines


class AnswerLines:
    """What a file of JSON lines holds, by their `id`."""

    def __init__(self, path: Path):
        self.path = path
        self.lines = {line["id"]: line for line in complete_lines(path)}

    def add(self, line: dict) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
        self.lines[line["id"]] = line
