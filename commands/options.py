"""A dataclass of options as a command line: each option is declared once, and programs can give it too."""

import argparse
import math
import os
import types
from dataclasses import MISSING, Field, fields
from typing import Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..scoring.video_files import check_output


T = TypeVar("T")


def number(text: str) -> float:
    """A number of the command line; not NaN, which no comparison is true of."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number")
    return value


def limit(text: str) -> float:
    value = number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"got {text}, expected 0 or more, or inf")
    return value


def count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text}, expected a whole number, 0 or more")
    return int(text)


def port(text: str) -> int:
    """Of TCP; 0 is any that is free."""
    if count(text) > 65535:
        raise argparse.ArgumentTypeError(f"got {text}, expected a port from 0 to 65535")
    return int(text)


def add_options(parser: argparse.ArgumentParser, options: type) -> None:
    """
    Adds an argument for each field of a dataclass of `option`, named `--field_name` and `--field-name`. A `bool` is a
    switch, a list takes one value or more, a `Literal` is a choice.
    """
    hints = get_type_hints(options)
    groups = {}
    for field in fields(options):
        settings = dict(field.metadata)
        settings.pop("output", None)
        title = settings.pop("group", None)
        if title not in groups:
            groups[title] = parser.add_argument_group(title) if title else parser
        is_positional = settings.pop("positional", False)
        names = (
            [field.name] if is_positional else dict.fromkeys((f"--{field.name}", f"--{field.name.replace('_', '-')}"))
        )
        if not is_positional:
            settings["required"] = _is_required(field)
        groups[title].add_argument(*names, **(_of_type(hints[field.name]) | _default(field) | settings))


def read_options(options: type[T], arguments: argparse.Namespace) -> T:
    """The dataclass of what was given."""
    return options(**{field.name: getattr(arguments, field.name) for field in fields(options)})


def check_outputs(options: object) -> None:
    """
    Looks at what the options name to be written to: the fields whose metadata say `output`, "file" or "folder".

    Raises:
        ValueError: one of them cannot be written, see `check_output`, or two are one file.
    """
    files = []
    for option in fields(options):
        path, kind = getattr(options, option.name), option.metadata.get("output")
        if kind and path is not None:
            check_output(option.name, path, kind == "folder")
            files += [path] if kind == "file" else []
    if len({*map(os.path.abspath, files)}) < len(files):
        raise ValueError(f"got the outputs {', '.join(files)}, expected a file for each; name another one")


def _is_required(field: Field) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _default(field: Field) -> dict:
    if _is_required(field):
        return {}
    return {"default": field.default_factory() if field.default is MISSING else field.default}


def _of_type(hint: object) -> dict:
    """What `add_argument` takes for a type."""
    if get_origin(hint) in (types.UnionType, Union):  # X | None
        (hint,) = [part for part in get_args(hint) if part is not type(None)]
    if hint is bool:
        return {"action": "store_true"}
    if get_origin(hint) is list:
        return {"nargs": "+"} | _of_type(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    return {} if hint is str else {"type": number if hint is float else hint}
