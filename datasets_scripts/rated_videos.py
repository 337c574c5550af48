"""Rated videos, as a label file names them, to rows: the one path on which files are found, opened and counted."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import av
from av.stream import Disposition
from datasets import Value
from tqdm import tqdm

from .rows import percent_mos


COLUMNS = {"id": Value("string")}


@dataclass(frozen=True)
class RatedVideo:
    """One line of a label file.

    Attributes:
        files: where its file may lie, relative to the folder of videos; the first that exists is taken. The first of
            all, without suffix, is the video's id: the same one whatever the files at hand are called.
        mos: as the label file writes it; "" where the video was not rated.
        split: one of `rows.SPLITS`.
        group: the content it shows.
    """

    files: tuple[str, ...]
    mos: str
    split: str
    group: str


@dataclass(frozen=True)
class Found:
    """What lies on disk; `reason` says why it is of no use, `fps` and `seconds` are None where the file says nothing."""

    path: str
    reason: str | None = None
    fps: float | None = None
    seconds: float | None = None


def build_rows(
    videos: Iterable[RatedVideo],
    folder: str | Path,
    mos_range: tuple[float, float],
    dataset: str,
    labels_only: bool = False,
) -> tuple[list[dict], list[dict], list[Found]]:
    """The rows, what is left out as {file, split, reason}, and what was found for each row.

    With `labels_only` nothing is looked for, and `video` is where the file is looked for first, relative to the folder.

    Raises:
        ValueError: a MOS lies outside the range, or a video is listed twice with different entries.
    """
    videos, left_out = _rated_once(videos, Path(folder))
    mos = [percent_mos(video.mos, mos_range, video.files[0]) for video in videos]
    if labels_only:
        found = [Found(video.files[0]) for video in videos]
    else:
        found = find_files([video.files for video in videos], folder)
    rows = []
    for video, value, file in zip(videos, mos, found, strict=True):
        if file.reason:
            left_out.append({"file": file.path, "split": video.split, "reason": file.reason})
        else:
            row = {"video": file.path, "mos": value, "dataset": dataset, "split": video.split, "group": video.group}
            rows.append(row | {"id": str(PurePosixPath(video.files[0]).with_suffix(""))})
    return rows, left_out, [file for file in found if not file.reason]


def find_files(files: list[tuple[str, ...]], folder: str | Path) -> list[Found]:
    """Looks for one file each, and opens it without decoding."""
    folder = Path(folder).resolve()
    with ThreadPoolExecutor() as pool:  # a disk across a network answers slowly, but many at once
        found = pool.map(lambda names: _find(names, folder), files)
        return list(tqdm(found, total=len(files), unit="file", delay=3, disable=None))


def _rated_once(videos: Iterable[RatedVideo], folder: Path) -> tuple[list[RatedVideo], list[dict]]:
    first: dict[str, RatedVideo] = {}
    left_out = []
    for video in videos:
        path = os.path.normpath(folder / video.files[0])
        if first.setdefault(path, video) is video:
            if not video.mos:
                left_out.append({"file": path, "split": video.split, "reason": "the label file gives no MOS"})
        elif first[path] == video:
            left_out.append({"file": path, "split": video.split, "reason": "listed again, with the same MOS"})
        else:
            raise ValueError(f"{path} is listed as {first[path]} and as {video}: keep one of the lines.")
    return [video for video in first.values() if video.mos], left_out


def _find(files: tuple[str, ...], folder: Path) -> Found:
    paths = [os.path.normpath(folder / file) for file in files]
    path = next((path for path in paths if os.path.isfile(path)), None)
    if path is None:
        others = "".join(f", nor {file}" for file in files[1:])
        return Found(paths[0], reason=f"no such file{others}")
    try:
        # The prefix keeps FFmpeg from reading a name with a colon as an address
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            streams = [s for s in container.streams.video if Disposition.attached_pic not in s.disposition]
            if not streams:
                return Found(path, reason="holds no video stream")
            if not streams[0].width:  # FFmpeg takes any file with a picture's suffix for a picture
                return Found(path, reason="not a video or picture: no size can be read")
            if container.format.name == "image2" or container.format.name.endswith("_pipe"):
                return Found(path)  # a picture: the rate that FFmpeg gives it says nothing
            fps = float(streams[0].average_rate) if streams[0].average_rate else None
            seconds = container.duration / av.time_base if container.duration else None
    except (av.error.FFmpegError, OSError) as error:
        return Found(path, reason=f"not a video or picture: {error.strerror or error}")
    return Found(path, fps=fps, seconds=seconds)
