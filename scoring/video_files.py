"""What the user names on the command line to the files that are scored, and where results may be written."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import PurePath
from typing import BinaryIO

from .addresses import is_address


# What FFmpeg reads, as PyAV's wheels build it: not JPEG XL
VIDEO_SUFFIXES = frozenset(
    [
        *(".264", ".265", ".h263", ".h264", ".h265", ".hevc", ".ivf", ".obu", ".y4m"),  # streams without container
        *(".3g2", ".3gp", ".f4v", ".m4v", ".mj2", ".mov", ".mp4", ".qt"),
        *(".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".mpe", ".mpeg", ".mpg", ".mts"),
        *(".tod", ".tp", ".trp", ".ts", ".vob"),
        *(".amv", ".asf", ".avi", ".divx", ".dv", ".flv", ".gif", ".gxf", ".mjpeg", ".mjpg", ".mk3d", ".mkv", ".mxf"),
        *(".nut", ".ogv", ".rm", ".rmvb", ".webm", ".wmv", ".wtv"),
    ]
)
PICTURE_SUFFIXES = frozenset(
    [
        *(".apng", ".avif", ".bmp", ".heic", ".heif", ".hif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".png"),
        *(".tif", ".tiff", ".webp"),
    ]
)

TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")
TIMELINE_SUFFIXES = (".json", ".csv", ".png")
REPORT_SUFFIXES = (".html", ".htm")
# Of a figure that can still be read
MAX_PANELS = 40


@dataclass
class FoundVideos:
    """
    Attributes:
        videos: files, each once.
        without_videos: folders that gave none; and patterns without matches, where nothing else was found.
        skipped: what was left out below the named folders, and what kind it is of.
        excluded: how many the caller's patterns left out.
        unused: of these patterns those that left out nothing.
    """

    videos: list[str] = field(default_factory=list)
    without_videos: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    excluded: int = 0
    unused: list[str] = field(default_factory=list)


def read_names(file: BinaryIO) -> list[str]:
    """Names, one a line (of Windows too), or with zero bytes between them as `find -print0` writes them; empty ones are none."""
    data = file.read()
    names = data.split(b"\0") if b"\0" in data else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return [os.fsdecode(name) for name in names if name]


def find_videos(paths: list[str], exclude: Sequence[str] = (), names: Sequence[str] | None = None) -> FoundVideos:
    """
    Files, folders, patterns and addresses to files and addresses.

    A file is taken whatever its suffix and its kind. A folder gives, sorted, every file in it and below whose suffix is
    a known one, links to files among them, also those that lead nowhere: they are reported as other files that cannot
    be read. Left out and counted are hidden files and folders (a leading dot, so `._*` of macOS too), links to folders,
    which may lead to anywhere or in circles, files of other kinds, and folders that cannot be opened; what is named
    itself is taken, hidden or a link. A pattern (`*`, `?`, `[...]`, `**`) gives, sorted, what a shell would have put in
    its place; a name with such characters that exists is no pattern. A name that does not exist is kept, so that it is
    reported too, and so is a pattern that matches nothing while there are other videos. An address is taken as it is.

    Args:
        exclude: patterns. What matches one from its right end, such as `*_draft.mp4` and `raw/*`, and what lies in a folder
            that does, is left out and counted, however it was named.
        names: of files and folders, none of them a pattern, which stand in the place of `-`; without them that is a name too.

    Raises:
        ValueError: a pattern is empty.
    """
    if "" in exclude:
        raise ValueError("got an empty --exclude, expected a pattern; is a variable without a value?")
    found, unmatched = FoundVideos(), []
    for path, matches in _matched(paths, names):
        if not matches:
            unmatched.append(path)
        of_path = [
            video
            for name in matches or [path]
            for video in (_videos_below(name, found.skipped) if os.path.isdir(name) else [name])
        ]
        found.videos += of_path
        if not of_path:
            found.without_videos.append(path)
    if found.videos == unmatched:
        found.videos, found.without_videos = [], found.without_videos + unmatched
    videos = {}
    for video in found.videos:
        videos.setdefault(plain_name(video), video)
    by_pattern = {pattern: {video for video in videos.values() if _is_excluded(video, pattern)} for pattern in exclude}
    excluded = set().union(*by_pattern.values())
    found.unused = [pattern for pattern, of_pattern in by_pattern.items() if not of_pattern]
    found.excluded = len(excluded)
    found.videos = [video for video in videos.values() if video not in excluded]
    return found


def _matched(paths: list[str], names: Sequence[str] | None) -> Iterator[tuple[str, list[str]]]:
    """Paths, with `names` in the place of `-`, and what each matches: a name itself, whether it exists or not."""
    for path in paths:
        if path == "-" and names is not None:
            yield from ((name, [name]) for name in names)
        elif is_address(path) or os.path.lexists(path) or not glob.has_magic(path):
            yield path, [path]
        else:
            yield path, sorted(glob.glob(path, recursive=True))


def plain_name(video: str) -> str:
    """`a/b.mp4` of `./a//b.mp4`. What `..` leads to hangs on links."""
    is_plain = is_address(video) or not ("./" in video or "//" in video)
    return video if is_plain else str(PurePath(video))


def _is_excluded(video: str, pattern: str) -> bool:
    path = PurePath(video)
    return any(part.match(pattern) for part in (path, *path.parents))


def _videos_below(folder: str, skipped: dict[str, str]) -> list[str]:
    videos, folders = [], [folder]
    while folders:
        parent = folders.pop()
        try:
            entries = list(os.scandir(parent))
        except OSError:
            skipped[parent] = "folders that cannot be opened"
            continue
        for entry in entries:
            if entry.name.startswith("."):
                skipped[entry.path] = "hidden files and folders"
            elif entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif entry.is_symlink() and os.path.isdir(entry.path):
                skipped[entry.path] = "links to folders"
            elif not is_media_name(entry.name) or _is_special(entry):
                skipped[entry.path] = "files of other kinds"
            else:
                videos.append(entry.path)
    return sorted(videos)


def suffix_of(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def is_media_name(name: str) -> bool:
    """Whether a file's suffix is that of a video or a picture."""
    suffix = suffix_of(name)
    return suffix in VIDEO_SUFFIXES or suffix in PICTURE_SUFFIXES


def _is_special(entry: os.DirEntry) -> bool:
    """A pipe, a socket or a device, or a link to one."""
    is_file = entry.is_file(follow_symlinks=False) or os.path.isfile(entry.path)
    return not is_file and os.path.exists(entry.path)


def refuse_to_overwrite(path: str, videos: list[str]) -> None:
    """
    Raises:
        ValueError: a file that is written to this path would cost one of the videos, by whatever name, or a file that
            is there. A pipe or a device costs nothing.
    """
    if os.path.exists(path):
        output = os.stat(path)
        is_video = any(os.path.samestat(output, os.stat(video)) for video in videos if os.path.exists(video))
    else:
        is_video = os.path.abspath(path) in map(os.path.abspath, videos)
    if is_video:
        raise ValueError(f"got the output {path}, which is an input too, expected a new file; name another one")
    if os.path.isfile(path) or (os.path.islink(path) and not os.path.exists(path)):
        raise ValueError(
            f"got the output {path}, which exists already, expected a new file, since nothing is overwritten; name "
            "another one, or move that one away"
        )


def check_output(option: str, path: str, is_folder: bool = False) -> None:
    """
    Before there is anything to lose.

    Raises:
        ValueError: nothing can be written there: the name is empty, or a folder's where a file is expected or the other way
            round, or its folder cannot be written to or made.
    """
    if not path:
        raise ValueError(f"got an empty --{option}, expected a name; is a variable without a value?")
    if os.path.isdir(path) and not is_folder:
        raise ValueError(f"got --{option} {path}, which is a folder, expected a file; name one in it")
    if not is_folder and os.path.exists(path) and not os.path.isfile(path):  # a pipe or a device
        return
    folder = os.path.abspath(path if is_folder else os.path.dirname(path))
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(
            f"got --{option} {path}, expected it in a folder that can be written to, which {folder} is not; name another one"
        )


def check_suffix(option: str, path: str, suffixes: tuple[str, ...], num_videos: int = 1) -> None:
    """
    Raises:
        ValueError: the suffix names no format; what draws figures is not installed, or there are too many videos for one.
    """
    suffix = suffix_of(path)
    if suffix not in suffixes:
        raise ValueError(f"got --{option} {path}, expected a name that ends in {', '.join(suffixes)}")
    if suffix == ".png" and num_videos > MAX_PANELS:
        raise ValueError(
            f"got --{option} {path} for {num_videos} videos, expected at most {MAX_PANELS} in a figure; name fewer, or a file "
            "that ends in .json or .csv"
        )
    if suffix == ".png" and find_spec("matplotlib") is None:
        raise ValueError("got no matplotlib, expected it to be installed; pip install 'lmmvqa[inspect]'")
