"""Pictures and texts as webdataset shards or a data set of the Hub has them, streamed -> rows that instruct, not rated.

A source that ends in .tar, .tar.gz or .tgz is a shard, here or at an address: files of one name up to the first dot are a
record, a picture or a video and beside it a `.txt` with its caption or a `.json` as `instruction_json` takes it. Any other
source is a data set of the Hub, or a folder of one, with a column of pictures and one of texts. Nothing but what gives a
row is stored: files in the folder `media` beside the rows, which can be moved together.
"""

import io
import json
import re
import tarfile
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

import datasets
import fsspec
import PIL.Image

from .instruction_json import read_conversation
from .rated_videos import Found, find_files


MEDIA_FOLDER = "media"
SHARD = re.compile(r"\.(tar|tar\.gz|tgz)$")
SUFFIXES = (
    *("avif", "bmp", "gif", "heic", "jpeg", "jpg", "png", "tif", "tiff", "webp"),
    *("avi", "mkv", "mov", "mp4", "webm"),
)
# Columns of texts; the first that is there is taken
TEXT_COLUMNS = ("conversations", "caption", "text", "txt")


def build_rows(
    sources: list[str], out: str | Path, dataset: str, split: str = "train", limit: int | None = None
) -> tuple[list[dict], list[dict], list[Found]]:
    """
    The rows, what is left out as {file, split, reason}, and what was found for each row; files are written to the folder
    `media` in `out`. A wrong record is left out and named by its shard and key, or its data set and number.

    Args:
        sources: shards, data sets of the Hub or folders of one.
        split: of a data set of the Hub, and of the rows.
        limit: take so many records of each source, the first ones.

    Raises:
        ValueError: a data set without a column of pictures, or a source that is named twice.
    """
    if len(set(sources)) < len(sources):
        twice = next(source for source in sources if sources.count(source) > 1)
        raise ValueError(f"got the source {twice} twice, expected each once; leave it out")
    media = Path(out) / MEDIA_FOLDER
    media.mkdir(parents=True, exist_ok=True)
    pairs, left_out = [], []
    for source in sources:
        is_shard = SHARD.search(source)
        records, read = (
            (_shard_records(source), _read_files) if is_shard else (_data_set_records(source, split), _read_columns)
        )
        for where, record, problem in islice(records, limit):
            try:
                if problem:
                    raise ValueError(problem)
                suffix, content, text = read(record)
                name = f"{len(pairs):08d}.{suffix}"
                _, turns = read_conversation({"image": name} | text)
            except ValueError as error:
                left_out.append({"file": where, "split": split, "reason": str(error)})
            else:
                (media / name).write_bytes(content)
                pairs.append((where, f"{MEDIA_FOLDER}/{name}", turns))
    rows, found = [], find_files([(path,) for _, path, _ in pairs], out)
    for (where, path, turns), file in zip(pairs, found, strict=True):
        if file.reason:
            left_out.append({"file": where, "split": split, "reason": file.reason})
            Path(file.path).unlink()
        else:
            row = {"video": path, "mos": None, "dataset": dataset, "split": split, "group": where}
            rows.append(row | {"media": [path], "conversations": turns})
    return rows, left_out, [file for file in found if not file.reason]


def _shard_records(shard: str) -> Iterator[tuple[str, dict[str, bytes], str | None]]:
    """Name, files by suffix and what is wrong with it, of each record of a shard; a shard that is cut is named at its end."""
    key, files = None, {}
    try:
        with fsspec.open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                stem, _, suffix = PurePosixPath(member.name).name.partition(".")
                of_file = str(PurePosixPath(member.name).with_name(stem))
                if files and of_file != key:
                    yield f"{shard} {key}", files, None
                    files = {}
                key = of_file
                files[suffix.lower()] = archive.extractfile(member).read()
            # Of an archive that was cut between two files tarfile says nothing
            if archive.fileobj.tell() - archive.offset < tarfile.BLOCKSIZE:
                raise EOFError("it ends without the block that closes it")
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        yield shard, {}, f"cannot be read after {key or 'its beginning'}: {error}"
    if files:
        yield f"{shard} {key}", files, None


def _read_files(files: dict[str, bytes]) -> tuple[str, bytes, dict]:
    """
    Suffix, content and text of a shard's record.

    Raises:
        ValueError: it lacks one of them, or its text cannot be read.
    """
    suffix = next((suffix for suffix in files if suffix in SUFFIXES), None)
    if suffix is None or not {"json", "txt"} & files.keys():
        raise ValueError(f"has {', '.join(sorted(files))}, expected a picture or a video, and txt or json")
    record = {"caption": files["txt"].decode()} if "txt" in files else json.loads(files["json"])
    if not isinstance(record, dict):
        raise ValueError(f"has a {type(record).__name__} in its json, expected an object")
    return suffix, files[suffix], _text(record)


def _data_set_records(source: str, split: str) -> Iterator[tuple[str, dict, None]]:
    """
    Raises:
        ValueError: no column of pictures.
    """
    data = datasets.load_dataset(source, split=split, streaming=True)
    features = data.features or {}
    column = next((name for name, feature in features.items() if isinstance(feature, datasets.Image)), None)
    if column is None:
        raise ValueError(
            f"got the data set {source} with the columns {', '.join(features) or 'unknown'}, expected one of pictures; name "
            "a data set that holds its pictures"
        )
    for number, record in enumerate(data.cast_column(column, datasets.Image(decode=False)), start=1):
        yield f"{source} record {number}", record | {"picture": record[column]}, None


def _read_columns(record: dict) -> tuple[str, bytes, dict]:
    """
    Suffix, content and text of a data set's record.

    Raises:
        ValueError: it lacks one of them.
    """
    content = (record["picture"] or {}).get("bytes")
    if not content:
        raise ValueError("holds no picture")
    try:
        with PIL.Image.open(io.BytesIO(content)) as picture:
            return picture.format.lower(), content, _text(record)
    except OSError as error:
        raise ValueError(f"holds no picture: {error}") from error


def _text(record: dict) -> dict:
    """
    What `read_conversation` reads beside the file.

    Raises:
        ValueError: there is no text.
    """
    name = next((name for name in TEXT_COLUMNS if record.get(name)), None)
    if name is None:
        raise ValueError(f"has {', '.join(record)}, expected text in one of {', '.join(TEXT_COLUMNS)}")
    return {"conversations" if name == "conversations" else "caption": record[name]}
