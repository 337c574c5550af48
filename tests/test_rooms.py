"""The rooms: each imports from those before it alone, so that imports form no circle; and how long files and functions are."""

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
    "serving",
    "evaluation",
    "commands",
    "recipes",
)
MOST_LINES_OF_A_FUNCTION, MOST_LINES_OF_A_FILE = 60, 450
LONG_FOR_ITS_DOCSTRINGS = "modeling_lmmvqa/modeling_lmmvqa.py"


def imported_rooms(file: Path) -> set[str]:
    """The rooms that a file imports from, in its functions too."""
    depth = len(file.relative_to(ROOT).parts)  # dots that lead from the file to where the rooms stand
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = {0: "", depth: "lmmvqa."}.get(node.level)
            if start is not None:
                names |= {f"{start}{node.module or ''}.{alias.name}".replace("..", ".") for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("lmmvqa.")}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_those_before_it(room):
    files = list((ROOT / room).rglob("*.py"))
    assert files
    later = set(ROOMS[ROOMS.index(room) + 1 :])
    found = {str(file.relative_to(ROOT)): sorted(imported_rooms(file) & later) for file in files}
    assert not {name: rooms for name, rooms in found.items() if rooms}
    others = {name for file in files for name in imported_rooms(file) - set(ROOMS)}
    # the embedded weights are a package of their own, and train.py is what one command runs
    assert others <= {"default_checkpoint", *(["train"] if room == "commands" else [])}


def test_no_function_and_no_file_is_long():
    files = [ROOT / "train.py", *(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))]
    texts = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in files}
    functions = {
        f"{name}: {node.name}": node.end_lineno - node.lineno + 1
        for name, text in texts.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not {name: lines for name, lines in functions.items() if lines > MOST_LINES_OF_A_FUNCTION}
    lines = {name: text.count("\n") for name, text in texts.items() if name != LONG_FOR_ITS_DOCSTRINGS}
    assert not {name: number for name, number in lines.items() if number > MOST_LINES_OF_A_FILE}
