"""Scored rows on disk as they come, so that a run that was stopped goes on where it was, and the tables made of them."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ..datasets_scripts.folder_seal import refuse_differences
from .addresses import address_version, is_address
from .json_lines import complete_lines
from .report import writing
from .video_files import plain_name, refuse_to_overwrite


# What a line is, by its first key
LINES = {"settings", "row", "folder", "table"}


def video_version(video: str) -> dict:
    """
    What tells a file from another of its name: `size` in bytes and `modified`, the time of its last change (UTC). Of an
    address it is what its store says, see `address_version`. Both are None where there is no such file.
    """
    try:
        if is_address(video):
            return address_version(video)
        facts = os.stat(video)
    except Exception:  # scoring meets the same, and says it
        return {"size": None, "modified": None}
    seconds, nanoseconds = divmod(facts.st_mtime_ns, 10**9)
    return {"size": facts.st_size, "modified": f"{datetime.fromtimestamp(seconds, UTC):%FT%T}.{nanoseconds:09d}Z"}


class Journal:
    """
    JSON lines beside a table, `results.csv.journal` beside `results.csv`, each on disk before the next video is scored:
    first the settings that all rows were made under, then a row a video, the folder that relative names begin in, and digests
    of the tables made of them. A last line that was cut is made anew. One process at a time writes it. Use it as a context.

    Attributes:
        path: of the journal.
        settings: as given.
        rows: {video: its newest row}, in the order in which videos first came.

    Args:
        table: path of the table.
        settings: all that the rows hang on but the videos, by name, as JSON can hold it.
        videos: that are to be scored.

    Raises:
        ValueError: when it is entered: its rows were made under other settings, or names of it and of `videos` are relative
            to two folders; it is no journal; another process writes it.
        OSError: it cannot be written, as where the disk is full.
    """

    def __init__(self, table: str, settings: dict, videos: Iterable[str] = ()):
        self.path = Path(f"{table}.journal")
        # From the table's folder, so that both may be moved together
        is_relative = any(not is_address(video) and not os.path.isabs(video) for video in videos)
        self._folder = os.path.relpath(os.getcwd(), os.path.realpath(self.path.parent)) if is_relative else None
        self._has_folder = False
        self.settings = settings
        self.rows: dict[str, dict] = {}
        self._tables: set[str] = set()  # digests of what was written
        self._file = None
        self._lock = FileLock(f"{self.path}.lock", timeout=0)

    def __enter__(self) -> "Journal":
        try:
            self._lock.acquire()
        except Timeout as error:
            raise ValueError(
                f"got {self.path}, which another process writes, expected one at a time; wait, or name another file"
            ) from error
        try:
            self._read()
        except ValueError:
            self._unlock()
            raise
        return self

    def __exit__(self, *error) -> None:
        if self._file:
            with contextlib.suppress(OSError):  # the line that could not be written, which was said already
                self._file.close()
        self._unlock()

    def _unlock(self) -> None:
        os.unlink(self._lock.lock_file)  # whoever opened it meanwhile notices that it is gone, and makes another
        self._lock.release()

    def _read(self) -> None:
        try:
            lines = complete_lines(self.path)
            begun = [line["settings"] for line in lines[:1]]
            if not all(map(_is_line, lines)):
                raise ValueError("a line of another kind")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"got {self.path}, which is no journal of scored videos or is damaged, expected one; move it away, or name "
                "another file"
            ) from error
        for settings in begun:
            refuse_differences(self.path, settings, self.settings)
        for line in lines[1:]:
            if "row" in line:
                self.rows[plain_name(line["row"]["video"])] = line["row"]
            elif "folder" in line:
                self._check_folder(line)
            else:
                self._tables.add(line["table"])

    def _check_folder(self, line: dict) -> None:
        begun = line["folder"]
        if self._folder not in (None, begun) and line.get("at") != os.getcwd():
            here, there = (os.path.normpath(self.path.parent / folder) for folder in (self._folder, begun))
            raise ValueError(
                f"got relative names from {here}, where {self.path} has such names from {there}, expected those of one folder; "
                "go there, or name another file"
            )
        self._has_folder = True

    def _append(self, line: dict) -> None:
        with writing(self.path):
            if self._file is None:  # not before there is something to keep
                self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115
                if self._file.tell() == 0:
                    self._append({"settings": self.settings})
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def known(self, video: str, version: dict) -> dict | None:
        """The row of a video that was scored and has not changed since; failures are tried again."""
        row = self.rows.get(plain_name(video))
        if row is None or row["error"] is not None or {**row, **version} != row:
            return None
        self._keep_folder()
        return row

    def add(self, row: dict) -> None:
        """Keeps a row, but for the failure of a file that is gone where it has a score."""
        is_gone = row["error"] is not None and row["size"] is None and row["modified"] is None
        name = plain_name(row["video"])
        if is_gone and self.rows.get(name, row)["error"] is None:
            return
        self._keep_folder()
        self._append({"row": row})
        self.rows[name] = row

    def _keep_folder(self) -> None:
        if self._folder is not None and not self._has_folder:
            # The whole path too, for a table that is moved while the videos stay
            self._append({"folder": self._folder, "at": os.getcwd()})
            self._has_folder = True

    def refuse_foreign(self, path: str, videos: list[str]) -> None:
        """
        Raises:
            ValueError: a file is there that was not written from this journal, or was changed since; or it is a video.
        """
        if not (os.path.isfile(path) and _digest(Path(path)) in self._tables):
            refuse_to_overwrite(path, videos)

    def write(self, path: str, write: Callable[[Path], None]) -> None:
        """Writes a whole file in the place of an earlier one, by a function that writes to the path that it is given."""
        file = Path(path).resolve()  # a link stays one
        partial = Path(f"{file}.partial")
        with writing(partial):
            partial.unlink(missing_ok=True)  # of a run that was killed here
            write(partial)
        digest = _digest(partial)
        if digest not in self._tables:  # first, so that a file in its place is never a foreign one
            self._append({"table": digest})
            self._tables.add(digest)
        partial.replace(file)


def _is_line(line: dict) -> bool:
    row = line.get("row", {"video": "", "error": None})
    are_names = all(isinstance(line.get(name, ""), str) for name in ("folder", "table"))
    return bool(line.keys() & LINES) and are_names and isinstance(row["video"], str) and "error" in row


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
