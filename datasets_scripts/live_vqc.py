"""LIVE-VQC (Sinno and Bovik, TIP 2019), MOS 0-100: `data.mat` (`video_list`, `mos`, 585 videos) -> rated videos.

The videos are `Video/A001.mp4` and so on, beside `data.mat`.
"""

from pathlib import Path

from .label_files import read_labels
from .rated_videos import RatedVideo


MOS_RANGE = (0, 100)


def read_videos(labels: str | Path) -> list[RatedVideo]:
    """All videos, in `test`."""
    videos = []
    for line in read_labels(labels):
        video = line["name"].split("/")[-1].removesuffix(".mp4")
        videos.append(RatedVideo((f"{video}.mp4", f"Video/{video}.mp4"), line["mos"], "test", video))
    return videos
