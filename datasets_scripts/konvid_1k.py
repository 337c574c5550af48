"""KoNViD-1k (Hosu et al., QoMEX 2017), MOS 1-5: `KoNViD_1k_mos.csv` (`flickr_id,mos`, 1,200 videos) -> rated videos.

Files are named by two generations: `<id>.mp4` now, `<id>_original_centercrop_960x540_8s.mp4` or
`<id>_cut_centercrop_960x540_8s.mp4` before; label files of others use either. All name the video by its Flickr id.
"""

import re
from pathlib import Path

from .label_files import read_labels
from .rated_videos import RatedVideo


MOS_RANGE = (1, 5)
_SUFFIXES = (".mp4", "_original_centercrop_960x540_8s.mp4", "_cut_centercrop_960x540_8s.mp4")


def read_videos(labels: str | Path) -> list[RatedVideo]:
    """All videos, in `test`.

    Raises:
        ValueError: a name holds no Flickr id, as where a spreadsheet has turned it into 3.34e+09.
    """
    videos = []
    for line in read_labels(labels):
        match = re.fullmatch(r"(\d+)(\.0)?(_\w+)?(\.mp4)?", line["name"].split("/")[-1])
        if match is None:
            raise ValueError(f"{labels} has the name {line['name']!r}, expected a Flickr id: save ids as text.")
        flickr_id = match[1]
        videos.append(RatedVideo(tuple(flickr_id + suffix for suffix in _SUFFIXES), line["mos"], "test", flickr_id))
    return videos
