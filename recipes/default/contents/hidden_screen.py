"""Programs of the system, and a screen that nobody sees for those that need a window."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .content import MissingSource


GAMES = Path("/usr/games")  # Debian's place for them, often not in PATH


@contextmanager
def hidden_screen(size: tuple[int, int]) -> Iterator[dict[str, str]]:
    """An X server without a screen; gives the environment of programs that are to draw on it."""
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", f"{size[0]}x{size[1]}x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=(writing,), stderr=subprocess.DEVNULL)
    os.close(writing)
    try:
        with os.fdopen(reading) as pipe:
            number = pipe.readline().strip()
        yield {**os.environ, "DISPLAY": f":{number}", "LIBGL_ALWAYS_SOFTWARE": "1", "LP_NUM_THREADS": "1"}
    finally:
        server.terminate()
        server.wait()


def require_programs(**packages: str) -> None:
    """Checks that programs are installed, each given with the Debian package that holds it.

    Raises:
        MissingSource: one is not.
    """
    for program, package in packages.items():
        if not (shutil.which(program) or (GAMES / program).exists()):
            raise MissingSource(f"The program {program} is not installed: apt-get install {package}.")
