"""LIVE-YT-Gaming (Yu et al., 2022), MOS 0-100: a .mat (`video_list`, `MOS`) or CSV (`name,mos`) -> 600 rated videos.

Names have no suffix, files are `<name>.mp4`. A name is a game and a number; published splits are by video, not by game, so
the group is the video.
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
        videos.append(RatedVideo((f"{video}.mp4",), line["mos"], "test", video))
    return videos
