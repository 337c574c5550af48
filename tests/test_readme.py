"""Every code block of README.md and docs/ runs as it stands, in a folder with clip.mp4 and ratings.csv beside the checkout's."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_clip

from lmmvqa.commands.command_line import main


ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    (document, *block)
    for document in DOCUMENTS
    for block in re.findall(r"^```(\w+)\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
]
COMMANDS = {  # each once, in the document that has it first
    line: document
    for document, kind, text in reversed(BLOCKS)
    if kind == "bash"
    for line in reversed(text.splitlines())
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    for path in ROOT.iterdir():
        if path.name not in {"data", "runs", ".git"}:
            (folder / path.name).symlink_to(path)
    names = [f"{index}.mp4" for index in range(8)]
    for seed, name in enumerate(["clip.mp4", *names]):
        write_clip(folder / name, seed=seed)
    lines = [
        f"{name},{mos},{'train' if mos < 60 else 'validation'}\n"
        for name, mos in zip(names, range(10, 90, 10), strict=True)
    ]
    (folder / "ratings.csv").write_text("video,mos,split\n" + "".join(lines), encoding="utf-8")
    return folder


def run(command: list[str], folder: Path) -> str:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_kinds_of_blocks():
    assert {kind for _, kind, _ in BLOCKS} == {"bash", "python", "text"}


@pytest.mark.parametrize("text", [text for _, kind, text in BLOCKS if kind == "python"])
def test_python_block(text, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    exec(compile(text, "block", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip()


def test_first_block_in_an_interpreter_of_its_own(folder):
    first = next(text for _, kind, text in BLOCKS if kind == "python")
    assert run([sys.executable, "-c", first], folder).strip()


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if document in COMMANDS.values()])
def test_bash_blocks(document, folder, monkeypatch):
    monkeypatch.chdir(folder)
    for command in [line for line, of in reversed(COMMANDS.items()) if of == document]:
        if command.startswith("make"):
            # Asking make what it would do: installing and testing are what runs this test
            run(["make", "--dry-run", *command.split()[1:]], folder)
        elif command.startswith("lmmvqa") and not set("|&;<>$") & set(command):
            # Here, where what every command imports first is there
            assert main(shlex.split(command)[1:]) == 0
        else:
            run(["bash", "-c", command], folder)
