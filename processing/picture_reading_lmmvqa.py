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
"""
Pictures and arrays to frames with their times.

Files are told apart by how they begin. Pillow reads what begins as a picture: it puts the tiles of HEIC and AVIF
together, decodes animated WebP, and knows from the header how large a picture and its metadata are, none of which
FFmpeg does. But plain JPEG and still WebP are left to FFmpeg, as videos are: it interpolates chroma in another way
(a third of a point of score and more), and what begins as JPEG may be Motion JPEG.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import BinaryIO

import av
import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile
from transformers.utils import logging

from .video_opening_lmmvqa import Refusal, check_pixels, naming_errors
from .video_source_lmmvqa import VideoSource, source_name


logger = logging.get_logger(__name__)

DEFAULT_ARRAY_FPS = 30.0

# Pixels of a picture: the largest photographs of phones have 200 million
MAX_PICTURE_PIXELS = 200_000_000
# Longer side over the shorter one: panoramas have 10, pages cut from a screen 50
MAX_ASPECT_RATIO = 100

# Seconds that a still picture lasts, as FFmpeg has it
STILL_DURATION = 0.04

# A frame that is to be shown no longer is shown so long: what browsers do, and FFmpeg for GIF (seconds)
SHORTEST_FRAME, DEFAULT_FRAME = 0.01, 0.1

_MIRRORED = (2, 4, 5, 7)  # of EXIF's orientations


def read_pictures(
    source: VideoSource, fps: float | None = None, max_pixels: float = MAX_PICTURE_PIXELS
) -> Iterator[tuple[float, float, av.VideoFrame]] | None:
    """
    The frames of an array, of PIL pictures or of a picture file; None for files that FFmpeg reads.

    An animated picture has the times that it names; of a file with several pictures that are no animation the first
    one is read. EXIF orientation is applied. 16-bit grey keeps its depth, transparency is kept for `FrameScaler`.

    Args:
        source: see `VideoSource`. File objects are read from their beginning; those that cannot seek are FFmpeg's.
        fps: frame rate of an array or a list of pictures.
        max_pixels: of a picture; what is larger is refused before it is decoded.

    Returns:
        Yields (time in seconds, duration in seconds, frame).

    Raises:
        VideoDecodingError: a picture that cannot be read, is too large, or more than `MAX_ASPECT_RATIO` times as long
            as it is wide; at once or while frames are read.
        TypeError, ValueError: no such source, or an array of another shape or type.
    """
    if isinstance(source, str | os.PathLike) or callable(getattr(source, "read", None)):
        with naming_errors(source):
            image = _open(source, max_pixels)
        if image is not None:
            return _read_file(image, source)
        _rewind(source)
        return None
    if isinstance(source, Image.Image):
        with naming_errors(source):
            _check_size(*source.size, max_pixels)
        return _read_image(source, source)
    return _read_sequence(source, fps, max_pixels)


def _check_size(width: int, height: int, max_pixels: float) -> None:
    check_pixels(width, height, max_pixels)
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise Refusal(
            f"its frames have {width} x {height} pixels, expected one side at most {MAX_ASPECT_RATIO} times the other; cut "
            "it into pieces"
        )


def _open_heif(source: str | os.PathLike | BinaryIO) -> Image.Image:
    try:
        from pi_heif import HeifImageFile
    except ImportError as error:
        raise Refusal("HEIC pictures need pi-heif; pip install pi-heif") from error
    return HeifImageFile(source)


# By how files begin. The brand of AVIF and HEIC may be that of all pictures of their kind, mif1
_OPENERS = {
    rb"\x89PNG\r\n\x1a\n": PngImageFile,
    rb"GIF8[79]a": GifImageFile,
    rb"BM": BmpImageFile,
    rb"II\*\0|MM\0\*|II\+\0|MM\0\+": TiffImageFile,
    rb"RIFF.{4}WEBP": WebPImageFile,
    rb"\xff\xd8\xff": JpegImageFile,
    rb".{4}ftyp(avi[fs]|mif1.*avif)": AvifImageFile,
    rb".{4}ftyp(hei[cmsx]|mif1)": _open_heif,
}


def _open(source: str | os.PathLike | BinaryIO, max_pixels: float) -> Image.Image | None:
    """The picture in a file, its header read only; None for files that FFmpeg reads."""
    start = _first_bytes(source)
    opener = next((opener for pattern, opener in _OPENERS.items() if re.match(pattern, start, re.DOTALL)), None)
    if opener is None:
        return None
    try:
        image = opener(source)
    except SyntaxError as error:  # how Pillow says that a file is not of the format
        if opener is JpegImageFile:  # FFmpeg knows further kinds, such as JPEG-LS
            return None
        raise Refusal(f"{error}; expected a whole picture that Pillow can open") from error
    _check_size(*image.size, max_pixels)
    is_plain = opener is JpegImageFile and "mp" not in image.info  # with this, FFmpeg takes further views for frames
    is_still = opener is WebPImageFile and image.n_frames == 1
    # FFmpeg mirrors too, but PyAV does not say so
    if (is_plain or is_still) and _orientation(image) not in _MIRRORED:
        with image:  # closes what Pillow opened
            if is_plain:  # FFmpeg makes up what is missing of one that was cut, and does not say so
                image.draft("L", (1, 1))  # in an eighth of the size, which is fast
                image.load()
            return None
    return image


def _first_bytes(source: str | os.PathLike | BinaryIO) -> bytes:
    """None of what can be read once only, such as a pipe."""
    if isinstance(source, str | os.PathLike):
        if not os.path.isfile(source):
            return b""
        with open(source, "rb") as file:
            return file.read(64)
    if not source.seekable():
        return b""
    source.seek(0)
    start = source.read(64)
    source.seek(0)
    return start


def _rewind(source: str | os.PathLike | BinaryIO) -> None:
    if not isinstance(source, str | os.PathLike) and source.seekable():
        source.seek(0)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # whatever Pillow raises for broken EXIF: the picture is whole without it
        return 1


def _read_file(
    image: Image.Image, source: str | os.PathLike | BinaryIO
) -> Iterator[tuple[float, float, av.VideoFrame]]:
    transfer = _transfer(source) if image.format in ("AVIF", "HEIF") else None
    with image:
        for time, duration, frame in _read_image(image, source):
            if transfer is not None:
                frame.color_trc = transfer
            yield time, duration, frame


def _transfer(source: str | os.PathLike | BinaryIO) -> int | None:
    """The transfer function of an AVIF or HEIC file by its code in ITU-T H.273: Pillow decodes HDR, but does not tell."""
    _rewind(source)
    is_path = isinstance(source, str | os.PathLike)
    target = f"file:{os.fspath(source)}" if is_path else source
    options = {"protocol_whitelist": "file" if is_path else ""}
    with contextlib.suppress(av.FFmpegError), av.open(target, mode="r", format="mov", options=options) as container:
        contexts = (stream.codec_context for stream in container.streams.video)
        return next((context.color_trc for context in contexts if context is not None), None)
    return None


def _read_image(image: Image.Image, source: VideoSource) -> Iterator[tuple[float, float, av.VideoFrame]]:
    """Yields (time in seconds, duration in seconds, frame) of a picture, animated or not."""
    count = getattr(image, "n_frames", 1)  # classes of formats with a single picture do not have it
    if count > 1 and image.format not in ("AVIF", "GIF", "PNG", "WEBP"):
        logger.warning_once(
            f"{source_name(source)}: of several pictures in a {image.format} file the first one is read."
        )
        count = 1
    if count == 1:
        with naming_errors(source):
            frame = _to_frame(image)
        yield 0.0, STILL_DURATION, frame
        return
    time, shown = 0.0, image.tell()
    # A PNG may begin with a picture for programs that show no animations
    for index in range(1 if image.info.get("default_image") else 0, count):
        with naming_errors(source):
            image.seek(index)
            frame = _to_frame(image)
        duration = image.info.get("duration", 0) / 1000
        if duration <= SHORTEST_FRAME:
            duration = DEFAULT_FRAME
        yield time, duration, frame
        time += duration
    image.seek(shown)


def _read_sequence(
    source: np.ndarray | torch.Tensor | list[Image.Image], fps: float | None, max_pixels: float
) -> Iterator[tuple[float, float, av.VideoFrame]]:
    is_list = isinstance(source, list | tuple) and all(isinstance(picture, Image.Image) for picture in source)
    pictures = source if is_list else _checked_array(source)
    if fps is None:
        fps = DEFAULT_ARRAY_FPS
        if len(pictures) > 1:
            logger.warning_once(f"No frame rate is known for frames given as an array: {fps:g} per second is assumed.")
    for index, picture in enumerate(pictures):
        with naming_errors(source):
            frame = _to_frame(picture) if is_list else _array_frame(picture)
            _check_size(frame.width, frame.height, max_pixels)
        yield index / fps, 1 / fps, frame


def _checked_array(source: np.ndarray | torch.Tensor) -> np.ndarray:
    """(frames, height, width, 3 or 4) uint8."""
    if not isinstance(source, np.ndarray | torch.Tensor):
        raise TypeError(
            f"got a video of type {type(source).__name__}, expected a path, a file object, a numpy or torch array, a "
            "PIL picture or a list of them"
        )
    array = np.asarray(source)
    if array.ndim == 3:
        array = array[None]
    if array.ndim == 4 and array.shape[-1] != 3 and array.shape[1] == 3:
        array = array.transpose(0, 2, 3, 1)
    if array.ndim != 4 or array.shape[-1] not in (3, 4) or 0 in array.shape[1:] or array.dtype != np.uint8:
        raise ValueError(
            f"got a video array of shape {tuple(source.shape)} and type {array.dtype}, expected uint8 and (frames, "
            "height, width, 3 or 4) or (frames, 3, height, width)"
        )
    return array


def _array_frame(picture: np.ndarray) -> av.VideoFrame:  # (height, width, 3 or 4)
    pixel_format = "rgb24" if picture.shape[-1] == 3 else "rgba"
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=pixel_format)


def _to_frame(image: Image.Image) -> av.VideoFrame:
    """
    A PIL picture, upright, to a frame that keeps the depth of 16-bit grey and transparency.

    Raises:
        Refusal: a picture whose white is not known.
    """
    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F"):
        least, most = image.getextrema()
        if image.mode == "F" or least < 0 or most > 65_535:  # Pillow has 16-bit grey of some formats in mode I
            raise Refusal(
                f"its mode is {image.mode} with values from {least:g} to {most:g}, expected I from 0 to 65535, or a mode "
                "whose white is known; convert it to L or RGB"
            )
    if image.mode.startswith("I"):
        return av.VideoFrame.from_ndarray(np.asarray(image).astype("<u2"), format="gray16le")
    return _array_frame(np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB")))


__all__ = ["DEFAULT_ARRAY_FPS", "MAX_ASPECT_RATIO", "MAX_PICTURE_PIXELS", "read_pictures"]
