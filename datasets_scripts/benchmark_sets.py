"""Label files that give each video a name and a MOS and no split -> rated videos, all in `test`; a function a benchmark.

| set | label file | MOS | videos |
|---|---|---|---|
| KoNViD-1k (Hosu et al., QoMEX 2017) | `KoNViD_1k_mos.csv` (`flickr_id,mos`) | 1-5 | 1,200 |
| LIVE-VQC (Sinno and Bovik, TIP 2019) | `data.mat` (`video_list`, `mos`) | 0-100 | 585 |
| YouTube-UGC (Wang et al., MMSP 2019) | `original_videos_MOS_for_YouTube_UGC_dataset.xlsx`, sheet `MOS` (`vid`, `MOS full`) | 1-5 | 1,380 |
| LIVE-YT-Gaming (Yu et al., 2022) | a .mat (`video_list`, `MOS`) or CSV (`name,mos`) | 0-100 | 600 |
| DOVER or FAST-VQA text, Q-Align JSON | names are paths | not written: 1-5 in one, 20 times that in another | |
"""

import re
from pathlib import Path

from .label_files import read_labels
from .rated_videos import RatedVideo


KONVID_SUFFIXES = (".mp4", "_original_centercrop_960x540_8s.mp4", "_cut_centercrop_960x540_8s.mp4")
YOUTUBE_SUFFIX = "_crf_10_ss_00_t_20.0"


def konvid_1k(labels: str | Path) -> list[RatedVideo]:
    """
    Files are named by two generations: `<id>.mp4` now, `KONVID_SUFFIXES` before; label files of others use either. All
    name the video by its Flickr id.

    Raises:
        ValueError: a name holds no Flickr id, as where a spreadsheet has turned it into 3.34e+09.
    """
    videos = []
    for line in read_labels(labels):
        match = re.fullmatch(r"(\d+)(\.0)?(_\w+)?(\.mp4)?", line["name"].split("/")[-1])
        if match is None:
            raise ValueError(f"{labels} has the name {line['name']!r}, expected a Flickr id: save ids as text.")
        files = tuple(match[1] + suffix for suffix in KONVID_SUFFIXES)
        videos.append(RatedVideo(files, line["mos"], "test", match[1]))
    return videos


def live_vqc(labels: str | Path) -> list[RatedVideo]:
    """The videos are `Video/A001.mp4` and so on, beside `data.mat`."""
    return [
        RatedVideo((f"{name}.mp4", f"Video/{name}.mp4"), mos, "test", name) for name, mos in _names_and_mos(labels)
    ]


def youtube_ugc(labels: str | Path) -> list[RatedVideo]:
    """
    The usual files are `<vid>_crf_10_ss_00_t_20.0.mp4`, the originals `Animation/1080P/<vid>.mkv`. Videos vanish from
    YouTube's bucket: published figures are over 1,020 to 1,147 of them, so give n with every figure.
    """
    videos = []
    for name, mos in _names_and_mos(labels):
        vid = name.removesuffix(YOUTUBE_SUFFIX)
        folder = vid.split("-")[0].replace("_", "/")  # Animation_1080P-05f8 -> Animation/1080P
        files = (f"{vid}{YOUTUBE_SUFFIX}.mp4", f"{vid}.mp4", f"{vid}.mkv", f"{folder}/{vid}.mkv")
        videos.append(RatedVideo(files, mos, "test", vid))
    return videos


def live_yt_gaming(labels: str | Path) -> list[RatedVideo]:
    """A name is a game and a number; published splits are by video, not by game, so the group is the video."""
    return [RatedVideo((f"{name}.mp4",), mos, "test", name) for name, mos in _names_and_mos(labels)]


def listed_videos(labels: str | Path, split: str = "test") -> list[RatedVideo]:
    """DOVER or FAST-VQA text, and Q-Align JSON: all videos or pictures in one split."""
    return [RatedVideo((line["name"],), line["mos"], split, line["name"]) for line in read_labels(labels)]


def _names_and_mos(labels: str | Path) -> list[tuple[str, str]]:
    return [(line["name"].split("/")[-1].removesuffix(".mp4"), line["mos"]) for line in read_labels(labels)]
