"""YouTube-UGC (Wang et al., MMSP 2019), MOS 1-5: `original_videos_MOS_for_YouTube_UGC_dataset.xlsx` -> rated videos.

Sheet `MOS` has `vid`, `category`, `MOS full` and the MOS of chunks, which may be empty; 1,380 videos are rated. The usual
files are `<vid>_crf_10_ss_00_t_20.0.mp4`, the originals `Animation/1080P/<vid>.mkv`. Videos vanish from YouTube's bucket:
published figures are over 1,020 to 1,147 of them, so give n with every figure.
"""

from pathlib import Path

from .label_files import read_labels
from .rated_videos import RatedVideo


MOS_RANGE = (1, 5)
_ENCODED = "_crf_10_ss_00_t_20.0"


def read_videos(labels: str | Path) -> list[RatedVideo]:
    """All rated videos, in `test`."""
    videos = []
    for line in read_labels(labels):
        vid = line["name"].split("/")[-1].removesuffix(".mp4").removesuffix(_ENCODED)
        folder = vid.split("-")[0].replace("_", "/")  # Animation_1080P-05f8 -> Animation/1080P
        files = (f"{vid}{_ENCODED}.mp4", f"{vid}.mp4", f"{vid}.mkv", f"{folder}/{vid}.mkv")
        videos.append(RatedVideo(files, line["mos"], "test", vid))
    return videos
