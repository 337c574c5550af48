"""What the user names on the command line to the files that are scored."""

import glob
import os


VIDEO_SUFFIXES = frozenset(
    [
        ".3g2",
        ".3gp",
        ".264",
        ".265",
        ".asf",
        ".avi",
        ".f4v",
        ".flv",
        ".gif",
        ".h264",
        ".h265",
        ".hevc",
        ".ivf",
        ".m2ts",
        ".m2v",
        ".m4v",
        ".mjpeg",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".mxf",
        ".obu",
        ".ogv",
        ".ts",
        ".vob",
        ".webm",
        ".wmv",
        ".y4m",
    ]
)
PICTURE_SUFFIXES = frozenset([".avif", ".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"])


def find_videos(paths: list[str]) -> tuple[list[str], list[str]]:
    """
    Files, folders and patterns to files, each once.

    A file is taken whatever its suffix. A folder gives every file in it and below whose suffix is a known one, sorted.
    A pattern (`*`, `?`, `[...]`, `**`) gives, sorted, what a shell would have put in its place; a name with such
    characters that exists is no pattern. A name that does not exist is kept, so that it is reported like other files
    that cannot be read.

    Returns:
        The files, and those of `paths` that gave none: folders without videos and patterns without matches.
    """
    videos, without_videos = [], []
    for path in paths:
        if os.path.lexists(path) or not glob.has_magic(path):
            names = [path]
        else:
            names = sorted(glob.glob(path, recursive=True))
        found = [video for name in names for video in (_videos_below(name) if os.path.isdir(name) else [name])]
        videos += found
        if not found:
            without_videos.append(path)
    return list(dict.fromkeys(videos)), without_videos


def _videos_below(folder: str) -> list[str]:
    files = (os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)
    known = VIDEO_SUFFIXES | PICTURE_SUFFIXES
    return sorted(file for file in files if os.path.splitext(file)[1].lower() in known and os.path.isfile(file))
