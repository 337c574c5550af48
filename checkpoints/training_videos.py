"""The videos that a checkpoint was trained on, by name and by content: a file that travels with it.

`train.py` writes it. To a checkpoint that has none, trained on the train split of these rows, it is added by
`python -m lmmvqa.checkpoints.training_videos --checkpoint DIR --data ROWS_DIR [ROWS_DIR ...]`.
"""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import AutoProcessor
from transformers.hf_argparser import HfArg, HfArgumentParser
from transformers.utils import cached_file

from ..datasets_scripts.rows import load_rows, row_media, video_digest, video_id


TRAINING_VIDEOS_FILE = "training_videos.parquet"
EARLIER_FILE = "training_videos.json"  # of checkpoints that were made before there was a table
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
        rows: what was trained on.
        start: checkpoint folder or repository that training started from, whose own list is taken over.
        digest_of: `FeatureCache.digest` remembers them, so that files are not read again.
    """
    earlier = load_training_videos(start)
    if earlier is None:
        was_trained = AutoProcessor.from_pretrained(start).level_answer_thresholds is not None
        earlier = TrainingVideos([], [Path(start).name] if was_trained else [])
    return TrainingVideos(list(dict.fromkeys(earlier.videos + _listed(rows, digest_of))), earlier.unlisted)


def _listed(rows: list[dict], digest_of: Callable[[str], str] = video_digest) -> list[TrainingVideo]:
    # Once each: there may be many conversations about one video
    files = list(dict.fromkeys(file for row in rows for file in row_media(row)))
    digests = dict(zip(files, content_digests(files, digest_of), strict=True))
    listed = [
        TrainingVideo(row["dataset"], video_id({**row, "video": file}), row["group"], digests[file])
        for row in rows
        for file in row_media(row)
    ]
    return list(dict.fromkeys(listed))


def save_training_videos(listed: TrainingVideos, folder: str | Path) -> None:
    """Writes the list to a checkpoint folder as one table, `unlisted` in its metadata."""
    types = {name: pa.string() for name in TrainingVideo._fields} | {
        "digest": pa.binary()
    }  # half the bytes of its text
    schema = pa.schema(types.items(), metadata={"unlisted": json.dumps(listed.unlisted)})
    rows = [video._asdict() | {"digest": video.digest and bytes.fromhex(video.digest)} for video in listed.videos]
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table, Path(folder) / TRAINING_VIDEOS_FILE, compression="zstd", compression_level=19)


def load_training_videos(model: str | Path) -> TrainingVideos | None:
    """The list of a checkpoint folder or repository; None where it has none."""
    path, earlier = (
        cached_file(str(model), name, _raise_exceptions_for_missing_entries=False)
        for name in (TRAINING_VIDEOS_FILE, EARLIER_FILE)
    )
    if path is not None:
        table = pq.read_table(path)
        unlisted = json.loads(table.schema.metadata[b"unlisted"])
        return TrainingVideos([_training_video(**row) for row in table.to_pylist()], unlisted)
    if earlier is None:
        return None
    content = json.loads(Path(earlier).read_text(encoding="utf-8"))
    return TrainingVideos([TrainingVideo(*video) for video in content["videos"]], content["unlisted"])


def _training_video(digest: bytes | None, **columns: str) -> TrainingVideo:
    return TrainingVideo(digest=digest and digest.hex(), **columns)


def carry_training_videos(model: str | Path, folder: str | Path) -> None:
    """Writes the list of a checkpoint folder or repository to a folder made from it; without one, none stays there."""
    if (listed := load_training_videos(model)) is not None:
        save_training_videos(listed, folder)
        return
    for name in (TRAINING_VIDEOS_FILE, EARLIER_FILE):
        (Path(folder) / name).unlink(missing_ok=True)


@dataclass
class TrainingVideosArguments:
    checkpoint: str = HfArg(help="Checkpoint folder to which the list is written.")
    data: list[str] = HfArg(help="Folders of rows whose train split it was trained on.")


def main() -> None:
    (arguments,) = HfArgumentParser(TrainingVideosArguments).parse_args_into_dataclasses()
    rows = [row for folder in arguments.data for row in load_rows(folder)["train"]]
    save_training_videos(TrainingVideos(_listed(rows), []), arguments.checkpoint)
    print(f"{len(rows)} videos listed in {Path(arguments.checkpoint) / TRAINING_VIDEOS_FILE}")


if __name__ == "__main__":
    main()
