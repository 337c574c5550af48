# Copyright 2026 The LMM-VQA authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""What FFmpeg opens: no address, no other file that the source names, no text; and the stream that is read."""

import contextlib
import functools
import os
import re
import stat
from collections.abc import Iterator
from typing import BinaryIO

import av
from av.container import InputContainer
from av.format import ContainerFormat
from av.format import Flags as FormatFlags
from av.stream import Disposition

from .video_source_lmmvqa import VideoDecodingError, VideoSource, failure_reason, source_name


# Demuxers that open what a file names instead of the file, and those that make a video of any text
REFUSED_FORMATS = {"concat", "hls", "lavfi", "rtp", "rtsp", "sap", "sdp"} | {"adf", "bin", "idf", "tty", "xbin"}
# What is no video, by its first bytes, and the way out
NOT_VIDEOS = {
    rb"\s*#EXTM3U": "it is a playlist (M3U8); give the media files it names",
    rb"\s*(<\?xml[^>]*>\s*)?<MPD": "it is a playlist (DASH); give the media files it names",
    rb"\s*ffconcat version": "it is a list of files (FFmpeg's concat); give the media files it names",
    rb"v=0\s+o=": "it describes a network stream (SDP); record the stream to a file first",
}

ENCRYPTED = "it is encrypted; decrypt it first"


class Refusal(Exception):
    """The reason why a source is not read, and the way out; `VideoDecodingError` names the source too."""


class NoVideo(Refusal):
    """A refusal of which the reason may be that FFmpeg cannot go back in the source."""


class Restart(Exception):
    """Nothing is wrong with the source: it is to be read in another way."""


@contextlib.contextmanager
def naming_errors(source: VideoSource) -> Iterator[None]:
    """The one seam for what Pillow, PyAV, FFmpeg, the system and a file object raise: all of it becomes `VideoDecodingError`."""
    try:
        yield
    except (Restart, VideoDecodingError):
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, Refusal) else failure_reason(error)
        if isinstance(error, NoVideo) and not can_restart(source.source):
            reason += "; it comes through a pipe, where MP4 and others cannot be read: save it to a file first"
        raise VideoDecodingError(f"Could not read {source_name(source)}: {reason}") from error


def check_pixels(width: int, height: int, max_pixels: float) -> None:
    if width * height > max_pixels:
        raise Refusal(
            f"its frames have {width} x {height} pixels, expected at most {max_pixels:,.0f} in all; scale it down or raise "
            "max_pixels"
        )


def check_path(path: str | os.PathLike) -> None:
    if os.path.exists(path):
        return
    if re.match(r"[A-Za-z][\w+.-]+:/", os.fsdecode(path)):
        raise VideoDecodingError(
            f"Could not read {source_name(path)}: it is an address, expected the path of a file; download it first"
        )
    reason = (
        "it is a link that leads nowhere; check where it points"
        if os.path.islink(path)
        else "no such file; check the path"
    )
    raise FileNotFoundError(f"Could not read {source_name(path)}: {reason}")


def can_restart(source: str | os.PathLike | BinaryIO) -> bool:
    """Whether a file can be read twice, as a pipe cannot."""
    if isinstance(source, str | os.PathLike):
        return stat.S_ISREG(os.stat(source).st_mode)
    return source.seekable()


@functools.cache
def _allowed_formats() -> str:
    names = set()
    for name in av.formats_available:
        try:
            names.add(ContainerFormat(name, "r").name)
        except ValueError:  # FFmpeg only writes it
            continue
    return ",".join(sorted(names - REFUSED_FORMATS))


def open_video(source: str | os.PathLike | BinaryIO, max_pixels: float) -> InputContainer:
    is_path, restarts = isinstance(source, str | os.PathLike), can_restart(source)
    if restarts and not is_path:
        source.seek(0)
    options = {
        "protocol_whitelist": "file" if is_path else "",
        "format_whitelist": _allowed_formats(),
        "pattern_type": "none",  # `%d` in the name of a picture stands for itself
        "max_pixels": allocated_pixels(max_pixels),
    }
    # The prefix keeps FFmpeg from reading a name with a colon as an address
    target = f"file:{os.fsdecode(source)}" if is_path else source
    try:
        return av.open(target, mode="r", options=options, metadata_errors="replace")
    except (av.InvalidDataError, av.ArgumentError, av.PatchWelcomeError) as error:
        is_raw = isinstance(error, av.ArgumentError)
        reason = "it is raw video, which does not say its size, or no video" if is_raw else error.strerror
        what_else = _what_else(source) if restarts else None
        raise NoVideo(what_else or f"{reason}; expected a video or picture that FFmpeg can open") from error


def allocated_pixels(max_pixels: float) -> str:
    """What FFmpeg's decoders may allocate for a frame: they round its sides up first."""
    return str(int(min(2 * max_pixels, 2**31 - 1)))


def _what_else(source: str | os.PathLike | BinaryIO) -> str | None:
    """What a source is that is no video, and the way out."""
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            start = file.read(1000)
    else:
        source.seek(0)
        start = source.read(1000)
    return next((text for pattern, text in NOT_VIDEOS.items() if re.match(pattern, start)), None)


def choose_stream(container: InputContainer) -> av.VideoStream:
    """FFmpeg's own choice, but no cover of a song."""
    streams = [stream for stream in container.streams.video if Disposition.attached_pic not in stream.disposition]
    if not container.streams:
        raise Refusal("FFmpeg knows nothing that is in it, as in HEIF pictures without compression; convert it")
    if not streams:
        raise Refusal("it has no video stream; check the file")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if "enc_key_id" in stream.metadata:  # of Matroska; MP4 says it in each packet
        raise Refusal(ENCRYPTED)
    if stream.codec_context is None:
        raise Refusal("FFmpeg has no decoder for its video; convert it to another codec")
    return stream


def announced_seconds(container: InputContainer, stream: av.VideoStream) -> tuple[float | None, bool]:
    """How long the file says that it is, and whether it says so of this stream rather than of all tracks together."""
    # What FFmpeg gives for these formats it derives from time stamps and bit rates
    if container.format.flags & (FormatFlags.ts_discont.value | FormatFlags.no_timestamps.value):
        return None, False
    if container.format.name == "avi" and stream.frames:  # FFmpeg shortens the durations of such files that are cut
        return float(stream.frames * stream.time_base), True
    if stream.duration:
        return float(stream.duration * stream.time_base), True
    return container.duration / av.time_base if container.duration else None, False


__all__ = [
    "ENCRYPTED",
    "NoVideo",
    "Refusal",
    "Restart",
    "allocated_pixels",
    "announced_seconds",
    "can_restart",
    "check_path",
    "check_pixels",
    "choose_stream",
    "naming_errors",
    "open_video",
]
