"""`lmmvqa NAME`: the commands' parser, what they share in warnings and errors, and the exit status.

Exit status: 0 all went well; 1 a video has no score, or the self-check failed; 2 wrong use, or what ends a command, such
as a full disk: then the last line on stderr says what. Only a bug ends in a traceback.
"""

import argparse
import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version

from safetensors import SafetensorError

from ..scoring.report import printable, said_by
from . import (
    assemble,
    baseline,
    calibrate,
    chat,
    compare,
    evaluate,
    export,
    inspect,
    multiple_choice,
    prepare,
    score,
    selfcheck,
    serve,
    train,
    vcgbench,
)
from .options import add_options, check_outputs, read_options
from .output import drop_unwritten_output, open_closed_streams, warn


# Importing transformers takes seconds, so what needs it is imported where it is used: help and wrong use answer at once


# By name, in the order of `lmmvqa --help`
COMMANDS = {
    "score": score,
    "compare": compare,
    "serve": serve,
    "chat": chat,
    "selfcheck": selfcheck,
    "prepare": prepare,
    "train": train,
    "evaluate": evaluate,
    "vcgbench": vcgbench,
    "multiple_choice": multiple_choice,
    "baseline": baseline,
    "assemble": assemble,
    "calibrate": calibrate,
    "inspect": inspect,
    "export": export,
}


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit status; wrong use raises SystemExit(2), as argparse does."""
    open_closed_streams()
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["train"]:  # its options are transformers' too: its own parser reads them
        return train.run(argv[1:])
    arguments = _parser().parse_args(argv)
    try:
        with _warnings_on_stderr():
            status = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has enough, as `head` does
        drop_unwritten_output()
        return 1
    except Exception as error:
        told = _of_inputs(error)
        if told is None:
            raise
        drop_unwritten_output()
        arguments.command.exit(2, f"{arguments.command.prog}: error: {printable(said_by(told))}\n")


def _of_inputs(error: Exception) -> BaseException | None:
    """
    What this package raises about its inputs, or the system says of files; None of anything else, a bug to be traced.
    SafetensorError is either: damaged weights, or a disk that is full where they are written. StrictDataclassError is of a
    model's configuration.
    """
    from huggingface_hub.errors import StrictDataclassError  # takes as long as all else here

    if isinstance(error, StrictDataclassError):
        return error.__cause__ or error  # which says it without the validator's name
    return error if isinstance(error, (ValueError, OSError, SafetensorError)) else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lmmvqa", description="Perceived quality of videos, from 0 to 100.")
    parser.add_argument("--version", action="version", version=f"lmmvqa {version('lmmvqa')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP, description=module.DESCRIPTION)
        if module is prepare:  # a command of commands, one a data set
            prepare.add_data_sets(command)
        elif module is not train:
            add_options(command, module.Options)
            command.set_defaults(run=_runner(module), command=command)
    return parser


def _runner(module):
    def run(arguments: argparse.Namespace) -> int:
        options = read_options(module.Options, arguments)
        check_outputs(options)
        return module.run(options)

    return run


class _WarningHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # where nobody reads warnings, they are no failure of the video
            warn(f"warning: {record.getMessage()}")


@contextlib.contextmanager
def _warnings_on_stderr() -> Iterator[None]:
    """Our own warnings, such as packets that do not decode, as one line each; none of Python's."""
    handler = _WarningHandler(logging.WARNING)
    logger = logging.getLogger("lmmvqa")
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeHandler(handler)
