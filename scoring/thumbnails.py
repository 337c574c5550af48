"""Small pictures of chosen moments of a video, for pages that show its score."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from ..processing.frame_scaler_lmmvqa import FrameScaler
from ..processing.reading_limits_lmmvqa import ReadingLimits
from ..processing.video_reading_lmmvqa import VideoFrames, read_frames
from .addresses import is_address
from .report import failure_line


# WebP's scale of 0 to 100
QUALITY = 60


@dataclass
class Thumbnail:
    """
    Attributes:
        seconds: from the first frame, the moment that was asked for.
        width, height: pixels.
        source: a `data:` address that holds the picture.
    """

    seconds: float
    width: int
    height: int
    source: str


@dataclass
class VideoPictures:
    """
    Attributes:
        thumbnails: in order of time.
        error: why there is none, in one line.
    """

    thumbnails: list[Thumbnail] = field(default_factory=list)
    error: str | None = None


def video_pictures(
    video: str, moments: Sequence[float], most: tuple[int, int], limits: ReadingLimits, quality: int = QUALITY
) -> VideoPictures:
    """
    What a video shows at some moments, upright and in standard range. It is decoded from its start to the last of them, in
    the way in which it is scored, so that moments are those of its score whatever its time stamps say.

    Args:
        moments: seconds from the first frame. What lies after the end shows the last frame.
        most: width and height in pixels; pictures keep their aspect and are not enlarged.
        limits: under which the video was scored.
        quality: of WebP, 0 to 100.
    """
    if is_address(video):
        return VideoPictures(error="it lies at an address, and is not downloaded a second time")
    waiting = sorted(moments)
    to_rgb = FrameScaler(None)

    def walk(frames: VideoFrames) -> list[Thumbnail]:
        found = []
        for seconds, duration, frame in frames:
            while len(found) < len(waiting) and seconds + duration > waiting[len(found)]:
                found.append(_thumbnail(waiting[len(found)], Image.fromarray(to_rgb(frame)), most, quality))
            if len(found) == len(waiting):
                return found
        last = Image.fromarray(to_rgb(frame))
        return found + [_thumbnail(moment, last.copy(), most, quality) for moment in waiting[len(found) :]]

    try:
        return VideoPictures(read_frames(video, walk, limits=limits))
    except Exception as failure:  # whatever it is: the score stands, and the page says why it has no picture
        return VideoPictures(error=failure_line(failure))


def _thumbnail(seconds: float, picture: Image.Image, most: tuple[int, int], quality: int) -> Thumbnail:
    picture.thumbnail(most)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality)
    source = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    return Thumbnail(seconds, *picture.size, source)
