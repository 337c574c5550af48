"""What one server takes on at most."""

import math
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..processing.reading_limits_lmmvqa import DEFAULT_LIMITS, ReadingLimits


@dataclass(frozen=True)
class ServerLimits:
    """
    Attributes:
        max_bytes: of an upload, and of what an address gives.
        max_upload_seconds: that an upload may take, and what an address gives.
        max_requests: videos that are uploaded, wait and are scored at one time; one more is told to come back. So no
            more than `max_requests` times `max_bytes` bytes lie on disk.
        max_batch: videos that are scored together.
        max_seconds: of a video.
        max_pixels: of a frame; 8K video has 33 million.
        max_wall_seconds: that reading and encoding a video may take.
        allow_urls: stores whose addresses may be given in place of a file, each a scheme and a host, such as
            "https://media.example.org" or "s3://bucket"; none by default. Redirects of such a host are followed.

    Raises:
        ValueError: a number below its least, or a store that is none.
    """

    max_bytes: float = 200e6
    max_upload_seconds: float = 120
    max_requests: int = 32
    max_batch: int = 4
    max_seconds: float = 60
    max_pixels: float = 34e6
    max_wall_seconds: float = 120
    allow_urls: tuple[str, ...] = ()

    def __post_init__(self):
        for name in ("max_requests", "max_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"got {name}={getattr(self, name)}, expected at least 1")
        for name in ("max_bytes", "max_upload_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"got {name}={getattr(self, name)}, expected a positive number")
        for store in self.allow_urls:
            if store_of(store) != store:
                raise ValueError(
                    f"got allow_urls {store}, expected a scheme and a host alone, such as https://media.example.org"
                )

    @property
    def reading(self) -> ReadingLimits:
        """Of a file, once it is here."""
        return ReadingLimits(
            max_pixels=self.max_pixels,
            max_seconds=self.max_seconds,
            max_fps=DEFAULT_LIMITS.max_fps,
            max_wall_seconds=self.max_wall_seconds,
        )


def store_of(address: str) -> str:
    """The scheme and host of an address, with the port and user that it names: what `allow_urls` is compared with."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"
