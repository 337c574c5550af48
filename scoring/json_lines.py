"""JSON lines that grow while a run lasts."""

import json
from pathlib import Path


def complete_lines(path: Path) -> list[dict]:
    """What stands in the lines of a file, where there is one; a last line that was cut is taken from it."""
    if not path.exists():
        return []
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    lines = [json.loads(line) for line in data[:end].splitlines()]
    with open(path, "r+b") as file:
        file.truncate(end)
    return lines
