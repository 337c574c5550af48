"""Arrays on disk by key, in shards that many processes read and write at the same time without waiting for another."""

import json
import logging
import math
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from xxhash import xxh3_64_hexdigest

from ..datasets_scripts.folder_seal import seal_folder


logger = logging.getLogger(__name__)

VIDEOS_PER_SHARD = 1000
CHECKSUM = "xxh3_64"


class SharedLog:
    """Lines of JSON that many processes write and read: each appends to a file of its own, and all are read.

    Before each line stands its checksum. A line that was damaged, or glued to one that a full disk cut, is left out with
    a warning.

    Args:
        folder: where the files lie.
        name: what their names begin with.
    """

    def __init__(self, folder: Path, name: str):
        self.folder, self.name = folder, name
        self._owner = None
        self._num_read = {}  # bytes of each file

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_owner": None}  # a copy writes to a file of its own

    @property
    def own_path(self) -> Path:
        """The file of this process; a forked process has another one than its parent."""
        if self._owner != os.getpid():
            self._owner, self._own_name = os.getpid(), f"{self.name}-{uuid.uuid4().hex[:16]}.log"
        return self.folder / self._own_name

    def append(self, entry: dict) -> None:
        line = json.dumps(entry).encode()
        with open(self.own_path, "ab") as file:
            file.write(xxh3_64_hexdigest(line).encode() + b" " + line + b"\n")

    def new_entries(self) -> Iterator[dict]:
        """What was appended by any process since the last call, or at all."""
        for path in sorted(self.folder.glob(f"{self.name}-*.log")):
            start = self._num_read.get(path, 0)
            with open(path, "rb") as file:
                file.seek(start)
                data = file.read()
            # A line without its end is being written, or was when its writer was killed
            complete = data[: data.rfind(b"\n") + 1]
            self._num_read[path] = start + len(complete)
            for line in complete.split(b"\n")[:-1]:
                checksum, _, text = line.partition(b" ")
                if checksum == xxh3_64_hexdigest(text).encode():
                    yield json.loads(text)
                else:
                    logger.warning("%s is damaged: what one of its lines says is made again", path)


class FeatureShards:
    """Arrays of one type by key, appended to `shard-*.bin` files of `VIDEOS_PER_SHARD` arrays each.

    A shard holds the arrays' bytes one after the other, `index-*.log` where each of them is and what its bytes are
    checked by: {"key", "shard", "offset", "shape", "checksum"}. An array is on disk before its line is, and the line is
    one write: a process that is stopped loses the array that it was writing and nothing else. Several processes may add
    at the same time, each to files of its own; of a key that two of them add, either array is read. Where an array is
    found damaged, a line {"key", "shard", "offset", "damaged"} says so to all, and it is as if it had not been stored.

    Args:
        folder: where the shards lie; made where it does not exist.
        settings: all that the arrays depend on, kept as `settings.json`.
        dtype: of the arrays.

    Raises:
        ValueError: the folder holds arrays made under other settings.
    """

    def __init__(self, folder: Path, settings: dict, dtype: type[np.generic]):
        self.folder, self.dtype = folder, np.dtype(dtype)
        seal_folder(folder, settings | {"dtype": self.dtype.name, "checksum": CHECKSUM}, ["shard-*"])
        self._log = SharedLog(folder, "index")
        self._entries = {}  # key -> (shard, offset, shape, checksum)
        self._damaged = set()  # (shard, offset)
        self._writer, self._num_written = None, 0
        self.refresh()

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_writer": None}

    def refresh(self) -> None:
        """Takes notice of what other processes added, and found damaged."""
        for entry in self._log.new_entries():
            place = entry["shard"], entry["offset"]
            if "damaged" in entry:
                self._forget(entry["key"], place)
            elif place not in self._damaged:
                self._entries[entry["key"]] = (*place, entry["shape"], entry["checksum"])

    def _forget(self, key: str, place: tuple[str, int]) -> None:
        self._damaged.add(place)
        if self._entries.get(key, ())[:2] == place:
            del self._entries[key]

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def get(self, key: str) -> np.ndarray | None:
        """
        The array, read into memory; None where there is none, as far as known since the last `refresh`.

        Of one whose bytes are not those that were stored, because its shard was damaged, cut or removed, a warning names
        the shard, and there is none from then on.
        """
        if key not in self._entries:
            return None
        shard, offset, shape, checksum = self._entries[key]
        path, num_bytes = self.folder / shard, math.prod(shape) * self.dtype.itemsize
        data = np.fromfile(path, np.uint8, num_bytes, offset=offset) if path.exists() else np.empty(0, np.uint8)
        if len(data) < num_bytes or xxh3_64_hexdigest(data) != checksum:
            logger.warning("%s is damaged %d bytes from its start: what was stored there is made again", path, offset)
            self._log.append({"key": key, "shard": shard, "offset": offset, "damaged": True})
            self._forget(key, (shard, offset))
            return None
        return data.view(self.dtype).reshape(shape)

    def add(self, key: str, array: np.ndarray) -> None:
        """Stores an array; where a key is added twice the later one is read."""
        number = self._num_written // VIDEOS_PER_SHARD
        name = f"{self._log.own_path.stem.replace('index', 'shard')}-{number:04d}.bin"
        if self._writer is None or Path(self._writer.name).name != name:
            self._writer = open(self.folder / name, "xb")  # noqa: SIM115, kept open
        offset = self._writer.tell()
        array = np.ascontiguousarray(array, self.dtype)
        self._writer.write(array)
        self._writer.flush()
        os.fsync(self._writer.fileno())
        entry = {"key": key, "shard": name, "offset": offset, "shape": array.shape}
        entry["checksum"] = xxh3_64_hexdigest(array)
        self._log.append(entry)
        self._num_written += 1
        self._entries[key] = (name, offset, array.shape, entry["checksum"])
