"""Lines to standard output and to standard error, and the quiet of libraries."""

import logging
import os
import sys
from collections import Counter
from collections.abc import Sequence

from tqdm import tqdm

from ..scoring.report import printable
from ..scoring.video_files import FoundVideos, find_videos


def print_line(line: str) -> None:
    # Names of files may hold what the terminal, or UTF-8, cannot show
    encoding = sys.stdout.encoding or "utf-8"
    try:
        tqdm.write(line.encode(encoding, "backslashreplace").decode(encoding), file=sys.stdout)
        sys.stdout.flush()
    except OSError as error:
        error.filename = "standard output"
        raise


def open_closed_streams() -> None:
    """Standard streams that the caller closed (`>&-`) are None in Python: what is written to them is for nobody."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))


def drop_unwritten_output() -> None:
    """The interpreter ends with another status where it cannot write what is left."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(line: str) -> None:
    tqdm.write(printable(line), file=sys.stderr)


def find_and_warn(paths: list[str], exclude: Sequence[str] = (), names: Sequence[str] | None = None) -> FoundVideos:
    """What `find_videos` finds; says what was left out without being asked, and which folders gave nothing beside others."""
    found = find_videos(paths, exclude, names)
    if found.skipped:
        counts = ", ".join(f"{kind} ({number})" for kind, number in Counter(found.skipped.values()).items())
        warn(f"skipped {counts}; name what is to be scored all the same")
    if found.videos:
        for path in found.without_videos:
            warn(f"warning: no video in {path}")
    return found


def quiet_libraries() -> None:
    # Importing transformers imports the libraries of quantisation that are installed, and they warn of GPU kernels
    for library in ("bitsandbytes", "torch.utils._pytree", "torchao"):
        logging.getLogger(library).setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def print_table(out: str, metrics: dict) -> int:
    """Prints the table that evaluation wrote and returns the exit status: 1 where a video has no answer."""
    from ..evaluation.results import TABLE_FILE

    with open(os.path.join(out, TABLE_FILE), encoding="utf-8") as file:
        print(file.read(), end="")
    return 1 if metrics["failures"] else 0
