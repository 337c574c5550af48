"""The videos that a checkpoint was trained on, by name and by content: a file that travels with it.

`train.py` writes it. To a checkpoint that has none, trained on the train split of these rows, it is added by
`python -m lmmvqa.checkpoints.training_videos --checkpoint DIR --data ROWS_DIR [ROWS_DIR ...]`.
"""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from transformers import AutoProcessor, HfArgumentParser
from transformers.utils import cached_file

from ..datasets_scripts.rows import load_rows, video_digest, video_id


TRAINING_VIDEOS_FILE = "training_videos.json"
# Of the SHA-256: that two of a hundred thousand videos share them by chance has odds of one to four billion
DIGEST_DIGITS = 16


class TrainingVideo(NamedTuple):
    """
    Attributes:
        dataset, id, group: of its row, see `rows.video_id`.
        digest: the first digits of `video_digest`; None where the file could not be read.
    """

    dataset: str
    id: str
    group: str
    digest: str | None


@dataclass
class TrainingVideos:
    """
    Attributes:
        videos: what the checkpoint, and those that it was trained from, were trained on; without validation.
        unlisted: trained checkpoints among those that list nothing themselves.
    """

    videos: list[TrainingVideo]
    unlisted: list[str]


def content_digests(videos: Iterable[str], digest_of: Callable[[str], str] = video_digest) -> list[str | None]:
    """The first digits of each video's digest, None for a file that cannot be read."""

    def digest(video: str) -> str | None:
        try:
            return digest_of(video)[:DIGEST_DIGITS]
        except OSError:
            return None

    with ThreadPoolExecutor() as pool:
        return list(pool.map(digest, videos))


def list_training_videos(
    rows: list[dict], start: str, digest_of: Callable[[str], str] = video_digest
) -> TrainingVideos:
    """
    Args:
        rows: rated videos that were trained on.
        start: checkpoint folder or repository that training started from, whose own list is taken over.
        digest_of: `FeatureCache.digest` remembers them, so that files are not read again.
    """
    earlier = load_training_videos(start)
    if earlier is None:
        was_trained = AutoProcessor.from_pretrained(start).level_answer_thresholds is not None
        earlier = TrainingVideos([], [Path(start).name] if was_trained else [])
    return TrainingVideos(list(dict.fromkeys(earlier.videos + _listed(rows, digest_of))), earlier.unlisted)


def _listed(rows: list[dict], digest_of: Callable[[str], str] = video_digest) -> list[TrainingVideo]:
    digests = content_digests([row["video"] for row in rows], digest_of)
    return [
        TrainingVideo(row["dataset"], video_id(row), row["group"], digest)
        for row, digest in zip(rows, digests, strict=True)
    ]


def save_training_videos(listed: TrainingVideos, folder: str | Path) -> None:
    """Writes the list to a checkpoint folder, a video a line."""
    lines = ",\n".join(json.dumps(video) for video in listed.videos)
    text = (
        f'{{"columns": {json.dumps(TrainingVideo._fields)},\n"digest": "sha256, first {DIGEST_DIGITS} digits",\n'
        f'"unlisted": {json.dumps(listed.unlisted)},\n"videos": [\n{lines}\n]}}\n'
    )
    (Path(folder) / TRAINING_VIDEOS_FILE).write_text(text, encoding="utf-8")


def load_training_videos(model: str | Path) -> TrainingVideos | None:
    """The list of a checkpoint folder or repository; None where it has none."""
    path = cached_file(str(model), TRAINING_VIDEOS_FILE, _raise_exceptions_for_missing_entries=False)
    if path is None:
        return None
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    return TrainingVideos([TrainingVideo(*video) for video in content["videos"]], content["unlisted"])


def carry_training_videos(model: str | Path, folder: str | Path) -> None:
    """Writes the list of a checkpoint folder or repository, where it has one, to a folder made from it."""
    if (listed := load_training_videos(model)) is not None:
        save_training_videos(listed, folder)


@dataclass
class TrainingVideosArguments:
    checkpoint: str = field(metadata={"help": "Checkpoint folder to which the list is written."})
    data: list[str] = field(metadata={"help": "Folders of rows whose train split it was trained on."})


def main() -> None:
    (arguments,) = HfArgumentParser(TrainingVideosArguments).parse_args_into_dataclasses()
    rows = [row for folder in arguments.data for row in load_rows(folder)["train"]]
    save_training_videos(TrainingVideos(_listed(rows), []), arguments.checkpoint)
    print(f"{len(rows)} videos listed in {Path(arguments.checkpoint) / TRAINING_VIDEOS_FILE}")


if __name__ == "__main__":
    main()
