"""JSON lines that grow while a run lasts."""

import json
from pathlib import Path


def complete_lines(path: Path) -> list[dict]:
    """
    What stands in the lines of a file, where there is one; a last line that was cut is taken from it.

    Raises:
        ValueError: another line is damaged.
    """
    if not path.exists():
        return []
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    lines = []
    for number, line in enumerate(data[:end].splitlines(), start=1):
        try:
            lines.append(json.loads(line))
        except ValueError as error:
            raise ValueError(
                f"got {path}, whose line {number} is damaged, expected a JSON object in each; take it and all below it out, and "
                "they are made again"
            ) from error
    with open(path, "r+b") as file:
        file.truncate(end)
    return lines
