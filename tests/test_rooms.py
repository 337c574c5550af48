"""The rooms: each imports from those before it alone, so that imports form no circle; and how long files and functions are."""

import ast
import configparser
import re
import sys
from importlib.metadata import packages_distributions
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
# What extras add is imported where it is needed, and by these files, which are then imported there
OF_EXTRAS = {
    "evaluation/comparison_figure.py",
    "scoring/inspection.py",
    "scoring/inspection_figure.py",
    "scoring/ray_engine.py",
    "serving/api.py",
    "serving/metrics.py",
    "serving/page.py",
    "serving/server.py",
}


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


def imported_first(file: Path) -> tuple[set[str], set[Path]]:
    """Packages and files of ours that a file imports as soon as it is imported itself."""
    packages, files = set(), set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            packages |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            packages.add(node.module.partition(".")[0])
        elif isinstance(node, ast.ImportFrom):
            folder = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            files |= {folder.with_suffix(".py"), *(folder / f"{alias.name}.py" for alias in node.names)}
    return packages, {file for file in files if file.is_file()}


def test_what_extras_add_is_imported_where_it_is_needed():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    required = {re.split(r"[<>=\[]", line)[0] for line in setup["options"]["install_requires"].split("\n") if line}
    distributions = packages_distributions()

    def is_of_an_extra(package: str) -> bool:
        if package in sys.stdlib_module_names or package == "lmmvqa":
            return False
        names = {name.lower().replace("_", "-") for name in distributions.get(package, [package])}
        return not names & {name.replace("_", "-") for name in required}

    files = [ROOT / "train.py", *(file for room in ROOMS[:-1] for file in (ROOT / room).rglob("*.py"))]
    wrong = {}
    for file in files:
        name = str(file.relative_to(ROOT))
        packages, ours = imported_first(file)
        if name not in OF_EXTRAS:
            found = {package for package in packages if is_of_an_extra(package)}
            found |= {str(other.relative_to(ROOT)) for other in ours} & OF_EXTRAS
            wrong |= {name: sorted(found)} if found else {}
    assert not wrong
