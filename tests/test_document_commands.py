"""Commands that documents show and no test runs: their options and files are there."""

import argparse
import itertools
import re
import shlex
from pathlib import Path

import pytest

from lmmvqa.commands import command_line


ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    path for name in ("*.md", "docs/*.md", "benchmarks/*.md") for path in sorted(ROOT.glob(name)) if path.is_file()
]
PROGRAM = re.compile(r"^(?:\$ )?(?:\w+=\S+ )*((?:python|lmmvqa|make|recipes/\S+\.sh)\b.*)$")


def commands(document: Path):
    """Words of each command in blocks of text or bash and between backticks, without what a pipe leads to."""
    text = document.read_text(encoding="utf-8")
    lines = [
        line
        for block in re.findall(r"^```(?:text|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for line in re.sub(r"\\\n\s*", "", block).splitlines()
    ]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    for line in lines:
        for part in re.split(r" && | \| | \|\| | & ?$", line):
            if found := PROGRAM.match(part.strip()):
                words = shlex.split(found[1], comments=True)
                if len(words) > 1 and "..." not in words[1]:
                    yield words


def parser_of(words: list[str]) -> argparse.ArgumentParser:
    """The parser of a command, and of `lmmvqa prepare` the one of its data set."""
    parser = command_line._parser()
    for word in words:
        choices = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not choices or word not in choices[0]:
            break
        parser = choices[0][word]
    return parser


def missing(words: list[str]) -> set[str]:
    """What a command names that is not there: targets, files, modules, options."""
    program, *rest = words
    # Behind these stand options of train.py, which has those of transformers too
    ours = list(itertools.takewhile(lambda word: word not in ("--", "--train_options"), rest))
    options = {word.partition("=")[0] for word in ours if re.match("--[a-z]", word)}
    if program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        return {word for word in rest if "=" not in word and not re.search(rf"^{word}:", makefile, re.MULTILINE)}
    if program == "lmmvqa" and rest[0] != "train":
        known = {option for action in parser_of(rest)._actions for option in action.option_strings}
        return {option for option in options if not {option, option.replace("-", "_")} & known}
    if rest[:1] == ["-m"] and rest[1].startswith(("lmmvqa.", "recipes.")):
        path = ROOT / rest[1].removeprefix("lmmvqa.").replace(".", "/")
        return set() if path.is_dir() or path.with_suffix(".py").is_file() else {rest[1]}
    script = program if program.endswith(".sh") else rest[0]
    if not script.startswith(("benchmarks/", "recipes/")):
        return set()
    if not (ROOT / script).is_file():
        return {script}
    source = (ROOT / script).read_text(encoding="utf-8")
    # an argparse option, or the field of a dataclass that HfArgumentParser reads
    return {option for option in options if option not in source and f"    {option[2:]}: " not in source}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_options_are_there(document):
    found = {" ".join(words): missing(words) for words in commands(document)}
    assert not {command: what for command, what in found.items() if what}


@pytest.mark.parametrize("document", sorted(ROOT.glob("docs/*.md")), ids=lambda path: path.name)
def test_an_extra_leaves_the_development_install_as_it_is(document):
    """`pip install '.[serve]'` in a checkout puts a copy in the place of its links, and edits are not seen any more."""
    installs = re.findall(r"pip install [^\n`]*", document.read_text(encoding="utf-8"))
    assert not [
        command for command in installs if re.search(r" '?\.(\[|'| |$)", command) and "--editable" not in command
    ]
