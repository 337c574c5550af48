"""Label files that name videos or pictures by path: DOVER or FAST-VQA text, and Q-Align JSON.

Their scale is not written anywhere: the same benchmark is found with MOS 1-5 in one, with 20 times that in another.
"""

from pathlib import Path

from .label_files import read_labels
from .rated_videos import RatedVideo


MOS_RANGE = None


def read_videos(labels: str | Path, split: str = "test") -> list[RatedVideo]:
    """All videos, in one split."""
    return [RatedVideo((line["name"],), line["mos"], split, line["name"]) for line in read_labels(labels)]
