"""LSVQ (Ying et al., CVPR 2021), MOS 0-100: its label files -> rated videos in one of the three splits in circulation.

Three lists of train, test and 1080p videos go by the same names, and papers compare across them:

| split_name | train | test | 1080p | used by | where its lists are |
|---|---:|---:|---:|---|---|
| `paper` | 28,013 | 7,220 | 3,561 | LMM-VQA, SimpleVQA, MinimalisticVQA | `LSVQ_TRAIN_metadata.csv`, `LSVQ_whole_test.csv`, `LSVQ_whole_test_1080p.csv` of SimpleVQA |
| `official` | 28,056 | 7,182 | 3,573 | the authors, VQA2, VQAThinker | `labels_train_test.csv` (column `is_test`), `labels_test_1080p.csv` |
| `dover` | 28,056 | 7,186 | 3,573 | DOVER, FAST-VQA, Q-Align | `train_labels.txt`, `labels_test.txt`, `labels_1080p.txt` of DOVER |

No split can be computed from another one's files: `paper`'s train and 1080p lists lie inside the official ones, but 46 of
its test videos are not in the official files, nor in DOVER's. So the user gives the label files, and their lists of
names must have the known checksum. The official train list was not at hand: its checksum is that of DOVER's list, which
has as many videos. Any part may be left out, as long as what is given is a part.

Names are `batch/name`. Some end in `.mp4` already, and their file is then `name.mp4.mp4`; the last part alone is not
unique: 343 of them stand in two batches, cut from one upload, in `paper` 98 times one in train and one in test.
So the upload is the group, and validation shares none with train.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from .label_files import read_labels
from .rated_videos import RatedVideo
from .rows import split_by_group


VALIDATION_SHARE = 0.1  # section IV-A
UNVERIFIED = "unverified"

_OFFICIAL_TRAIN = (28_056, "752319258e467963a9ea4a93fcd6b22c2641113717ba83206a85d62e533edc62")
_OFFICIAL_1080P = (3_573, "17ea75156afdfc44b3d458ded5bd52cbcabc3bad35102ccf453b97fa7a267317")
# split name -> part -> (videos, `list_checksum` of their names)
NAMED_SPLITS = {
    "paper": {
        "train": (28_013, "38f9e232eb343a58cd9215a7faa5f638e0158468c445bda896a66db78664e34d"),
        "test": (7_220, "29bf9758d911fa439d0220c0f8d18e4b9d89f67980d3ed8b3fc8d6c56dcd499d"),
        "test_1080p": (3_561, "5d235945f0d7e1d8dd4b083ae13d7b46d5b06ad7c135cb1d1187d5ee0d050bd6"),
    },
    "official": {
        "train": _OFFICIAL_TRAIN,
        "test": (7_182, "0c4f40cfbc52197636204d5f5634eaea611cd72833a586ae2a9399b9e6c1f85b"),
        "test_1080p": _OFFICIAL_1080P,
    },
    "dover": {
        "train": _OFFICIAL_TRAIN,
        "test": (7_186, "eeaffe773ea76ea1da4c35a2d81172b58c8ad46b8bdfade665a428d19379d576"),
        "test_1080p": _OFFICIAL_1080P,
    },
}


def read_videos(labels: Iterable[str | Path], split_name: str = "paper", seed: int = 0) -> list[RatedVideo]:
    """The videos of the given label files, a tenth of train in `validation`.

    `unverified` takes any list of videos: the column `is_test` says train or test; a table of the layout of
    `LSVQ_TRAIN_metadata.csv` (`vid`) is train, one of `labels_test_1080p.csv` (`is_valid` alone) is 1080p.

    Raises:
        ValueError: a file holds no part of the named split, or one that another file holds too.
    """
    parts: list[tuple[str, list[dict]]] = []
    file_of: dict[str, str | Path] = {}
    for path in labels:
        lines = read_labels(path)
        of_file = _unverified_parts(path, lines) if split_name == UNVERIFIED else _parts(path, lines, split_name)
        for _, part_lines in of_file:
            checksum = _checksum(part_lines)
            if checksum in file_of:
                raise ValueError(
                    f"{path} lists the same videos as {file_of[checksum]}, expected each once: leave it out."
                )
            file_of[checksum] = path
        parts += of_file
    train_groups = {_upload(line["name"]) for part, lines in parts if part == "train" for line in lines}
    shares = {"train": 1 - VALIDATION_SHARE, "validation": VALIDATION_SHARE}
    train_splits = split_by_group(train_groups, shares, seed)
    videos = []
    for part, lines in parts:
        for line in lines:
            video, upload = _video_id(line["name"]), _upload(line["name"])
            split = train_splits[upload] if part == "train" else part
            videos.append(RatedVideo((f"{video}.mp4", f"{video}.mp4.mp4"), line["mos"], split, upload))
    return videos


def list_checksum(names: Iterable[str]) -> str:
    """sha256 of the names without `.mp4`, sorted, one a line."""
    return hashlib.sha256("\n".join(sorted(map(_video_id, names))).encode()).hexdigest()


def _video_id(name: str) -> str:
    while name.endswith(".mp4"):
        name = name.removesuffix(".mp4")
    return name


def _upload(name: str) -> str:
    return _video_id(name).split("/")[-1]


def _parts(path: str | Path, lines: list[dict], split_name: str) -> list[tuple[str, list[dict]]]:
    known = {checksum: part for part, (_, checksum) in NAMED_SPLITS[split_name].items()}
    lists = list(_by_is_test(lines).values()) if "is_test" in lines[0] else [lines]
    if all(_checksum(part) in known for part in lists):
        return [(known[_checksum(part)], part) for part in lists]

    expected = ", ".join(f"{part} {count}" for part, (count, _) in NAMED_SPLITS[split_name].items())
    raise ValueError(
        f"{path} lists {' and '.join(map(_known_as, lists))}, expected parts of the LSVQ split {split_name!r} "
        f"({expected}): give that split's label files, another --split_name, or --split_name {UNVERIFIED} to take the "
        "list as it is."
    )


def _checksum(lines: list[dict]) -> str:
    return list_checksum(line["name"] for line in lines)


def _known_as(lines: list[dict]) -> str:
    checksum = _checksum(lines)
    names = [
        f"{part} of {split_name!r}"
        for split_name, split in NAMED_SPLITS.items()
        for part, (_, known) in split.items()
        if known == checksum
    ]
    return f"{len(lines)} videos ({', '.join(names) or 'no known list'})"


def _by_is_test(lines: list[dict]) -> dict[str, list[dict]]:
    parts: dict[str, list[dict]] = {}
    for line in lines:
        parts.setdefault(line["is_test"].lower(), []).append(line)
    return parts


def _unverified_parts(path: str | Path, lines: list[dict]) -> list[tuple[str, list[dict]]]:
    if "is_test" in lines[0]:
        parts = _by_is_test(lines)
        if not parts.keys() <= {"true", "false"}:
            raise ValueError(f"{path} has is_test {sorted(parts)}, expected True or False.")
        return [("test" if value == "true" else "train", part) for value, part in parts.items()]
    if "vid" in lines[0]:
        return [("train", lines)]
    if "is_valid" in lines[0]:
        return [("test_1080p", lines)]
    raise ValueError(
        f"{path} says nothing of train and test, expected the column is_test, vid or is_valid: "
        "give the CSV files, or name the split with --split_name."
    )
