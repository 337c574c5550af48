"""Arrays on disk by key, in shards that many processes read and write at the same time without waiting for another."""

import json
import math
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np


VIDEOS_PER_SHARD = 1000


class SharedLog:
    """Lines of JSON that many processes write and read: each appends to a file of its own, and all are read.

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
            self._owner, self._own_name = os.getpid(), f"{self.name}-{uuid.uuid4().hex[:16]}.jsonl"
        return self.folder / self._own_name

    def append(self, entry: dict) -> None:
        with open(self.own_path, "ab") as file:
            file.write(json.dumps(entry).encode() + b"\n")

    def new_entries(self) -> Iterator[dict]:
        """What was appended by any process since the last call, or at all."""
        for path in sorted(self.folder.glob(f"{self.name}-*.jsonl")):
            start = self._num_read.get(path, 0)
            with open(path, "rb") as file:
                file.seek(start)
                data = file.read()
            # A line without its end is being written, or was when its writer was killed
            complete = data[: data.rfind(b"\n") + 1]
            self._num_read[path] = start + len(complete)
            yield from map(json.loads, complete.splitlines())


class FeatureShards:
    """Arrays of one type by key, appended to `shard-*.bin` files of `VIDEOS_PER_SHARD` arrays each.

    A shard holds the arrays' bytes one after the other, `index-*.jsonl` where each of them is: {"key", "shard",
    "offset", "shape"}. An array is on disk before its line is, and the line is one write: a process that is stopped
    loses the array that it was writing and nothing else. Several processes may add at the same time, each to files of
    its own; of a key that two of them add, either array is read.

    Args:
        folder: where the shards lie; made where it does not exist.
        settings: all that the arrays depend on, kept as `settings.json`.
        dtype: of the arrays.

    Raises:
        ValueError: the folder holds arrays made under other settings.
    """

    def __init__(self, folder: Path, settings: dict, dtype: type[np.generic]):
        self.folder, self.dtype = folder, np.dtype(dtype)
        folder.mkdir(parents=True, exist_ok=True)
        self._check_settings(settings | {"dtype": self.dtype.name})
        self._log = SharedLog(folder, "index")
        self._entries = {}  # key -> (shard, offset, shape)
        self._readers = {}  # shard -> its bytes, mapped to memory
        self._writer, self._num_written = None, 0
        self.refresh()

    def _check_settings(self, settings: dict) -> None:
        settings = json.loads(json.dumps(settings))  # as it would be read
        file = self.folder / "settings.json"
        if not file.exists():
            partial = file.with_suffix(f".{uuid.uuid4().hex}.partial")
            partial.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
            partial.replace(file)
        stored = json.loads(file.read_text(encoding="utf-8"))
        for name in sorted(stored.keys() | settings.keys()):
            if stored.get(name) != settings.get(name):
                raise ValueError(
                    f"got features in {self.folder} that were made with {name} {stored.get(name)!r}, expected "
                    f"{settings.get(name)!r}; remove the folder, or name another one for the cache"
                )

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_readers": {}, "_writer": None}  # pickled, a map is all its bytes

    def refresh(self) -> None:
        """Takes notice of what other processes added."""
        for entry in self._log.new_entries():
            self._entries[entry["key"]] = (entry["shard"], entry["offset"], entry["shape"])

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __getitem__(self, key: str) -> np.ndarray:
        """
        An array that is mapped from the disk: reading it reads the disk, writing to it does not reach the disk.

        Raises:
            KeyError: no such array, as far as known since the last `refresh`.
            ValueError: the shard is shorter than its index says.
        """
        shard, offset, shape = self._entries[key]
        end = offset + math.prod(shape) * self.dtype.itemsize
        if shard not in self._readers or len(self._readers[shard]) < end:  # it may have grown
            # Copy-on-write: PyTorch wants writable memory, and nothing gets into the file
            self._readers[shard] = np.memmap(self.folder / shard, np.uint8, mode="c")
        data = self._readers[shard][offset:end]
        if len(data) < end - offset:
            raise ValueError(
                f"got {self.folder / shard} of {len(self._readers[shard])} bytes, expected at least {end}; remove the "
                "folder, it is made again"
            )
        return np.asarray(data).view(self.dtype).reshape(shape)

    def add(self, key: str, array: np.ndarray) -> None:
        """Stores an array; where a key is added twice the later one is read."""
        number = self._num_written // VIDEOS_PER_SHARD
        name = f"{self._log.own_path.stem.replace('index', 'shard')}-{number:04d}.bin"
        if self._writer is None or Path(self._writer.name).name != name:
            self._writer = open(self.folder / name, "xb")  # noqa: SIM115, kept open
        offset = self._writer.tell()
        self._writer.write(np.ascontiguousarray(array, self.dtype))
        self._writer.flush()
        os.fsync(self._writer.fileno())
        self._log.append({"key": key, "shard": name, "offset": offset, "shape": array.shape})
        self._num_written += 1
        self._entries[key] = (name, offset, array.shape)
