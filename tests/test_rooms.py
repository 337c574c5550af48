"""The order of the rooms: each imports from those before it alone, so that imports form no circle."""

import ast
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]
# Lowest first
ROOMS = (
    "processing",
    "modeling_lmmvqa",
    "datasets_scripts",
    "checkpoints",
    "training",
    "scoring",
    "evaluation",
    "commands",
    "recipes",
)


def imported_rooms(file: Path) -> set[str]:
    """The rooms that a file imports from, in its functions too."""
    depth = len(file.relative_to(ROOT).parts)  # dots that lead from the file to where the rooms stand
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            rooms |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module.startswith("lmmvqa"):
            rooms.add(node.module.split(".")[1])
    return rooms


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_those_before_it(room):
    files = list((ROOT / room).rglob("*.py"))
    assert files
    later = set(ROOMS[ROOMS.index(room) + 1 :])
    found = {str(file.relative_to(ROOT)): sorted(imported_rooms(file) & later) for file in files}
    assert not {name: rooms for name, rooms in found.items() if rooms}
    assert all(imported_rooms(file) <= set(ROOMS) for file in files)
