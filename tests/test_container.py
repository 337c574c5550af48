"""The Dockerfile and the Space of `lmmvqa serve`, as far as a machine without Docker can tell: what they name is there."""

import json
import re
import runpy
import shlex
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

from lmmvqa.commands import command_line
from lmmvqa.commands.serve import Options


ROOT = Path(__file__).parents[1]
SPACE = ROOT / "recipes" / "space"


@pytest.fixture(scope="module")
def instructions():
    """(name, arguments) of each instruction of the Dockerfile."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [tuple(line.split(" ", 1)) for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def ignored():
    return (ROOT / ".dockerignore").read_text(encoding="utf-8").split()


def of(instructions, wanted):
    return [arguments for name, arguments in instructions if name == wanted]


def test_what_is_copied_is_there(instructions, ignored):
    sources = [source for arguments in of(instructions, "COPY") for source in arguments.split()[:-1]]
    assert sources == ["constraints.txt", "."]
    assert all((ROOT / source).exists() and source not in ignored for source in sources)


def test_what_git_ignores_is_not_copied(ignored):
    names = {line.strip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").split()}
    assert {name.removeprefix("**/") for name in ignored} >= names | {".git"}


def test_what_is_installed_is_declared(instructions):
    extras = ConfigParser()
    extras.read(ROOT / "setup.cfg", encoding="utf-8")
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    torch, package = (shlex.split(line) for line in of(instructions, "RUN") if line.startswith("pip install"))
    assert torch[-1] == "torch" and re.search(r"^torch==", constraints, re.MULTILINE)
    assert "--no-deps" in torch and "--no-deps" not in package
    for extra in re.fullmatch(r"\.\[(.+)\]", package[-1])[1].split(","):
        assert extra in extras["options.extras_require"]


def test_what_runs_is_a_command_at_the_port_that_is_open(instructions):
    (command,), (check,), (port,) = (of(instructions, name) for name in ("CMD", "HEALTHCHECK", "EXPOSE"))
    program, *arguments = json.loads(command)
    parsed = command_line._parser().parse_args(arguments)
    assert program == "lmmvqa" and parsed.host == "0.0.0.0"
    assert parsed.port == int(port)
    python, option, code = json.loads(check.partition("CMD ")[2])
    compile(code, "HEALTHCHECK", "exec")
    assert (python, option) == ("python", "-c") and f"http://127.0.0.1:{port}/health" in code


def front_matter(text: str) -> dict:
    return yaml.safe_load(re.search(r"^---\n(.*?)^---$", text, re.MULTILINE | re.DOTALL)[1])


def test_the_space_runs_the_server(monkeypatch):
    matter = front_matter((SPACE / "README.md").read_text(encoding="utf-8"))
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert f"gradio=={matter['sdk_version']}" in constraints
    assert (
        matter["python_version"]
        == re.search(r"python:(\S+)-slim", (ROOT / "Dockerfile").read_text(encoding="utf-8"))[1]
    )
    ran = []
    monkeypatch.setattr(command_line, "main", lambda argv: ran.append(argv) or 0)
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(SPACE / matter["app_file"]), run_name="__main__")
    (argv,) = ran
    # A Space of Gradio's SDK looks for port 7860 too
    assert command_line._parser().parse_args(argv).port == Options.port == 7860


def test_the_space_of_docs_is_at_the_same_port(instructions):
    matter = front_matter((ROOT / "docs" / "serve.md").read_text(encoding="utf-8"))
    assert matter["sdk"] == "docker" and matter["app_port"] == int(of(instructions, "EXPOSE")[0])
