"""Time of one video's features from the cache's shards, beside a safetensors file for each video and tower.

`python benchmarks/feature_cache.py --out benchmarks/results/feature_cache.json` writes random features both ways, a
video after the other, and reads them in one random order, a video after the other: first from the disk (the kernel is
asked to forget the files), then from its cache. The second layout is that of version 0.1.0. Reading from shards includes
comparing checksums, the time of which is given on its own as well.
"""

import argparse
import hashlib
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from xxhash import xxh3_64_hexdigest

from lmmvqa.training.feature_shards import FeatureShards


# (key-frame tokens, their width, temporal width) of one-second chunks
MODELS = {"embedded default": (16, 992, 384), "paper": (256, 1024, 2304)}


class FilePerVideo:
    """As in version 0.1.0: the file's name is a digest of the video's path, size and time of change."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("vision_features", "temporal_features"):
            (folder / name).mkdir(parents=True)

    def _file(self, name: str, video: Path) -> Path:
        stat = os.stat(video)
        digest = hashlib.sha256(f"{os.path.abspath(video)}:{stat.st_size}:{stat.st_mtime_ns}".encode()).hexdigest()
        return self.folder / name / f"{digest[:32]}.safetensors"

    def write(self, video: Path, arrays: dict[str, np.ndarray]) -> None:
        for name, array in arrays.items():
            partial = self._file(name, video).with_suffix(f".{os.getpid()}.partial")
            save_file({name: torch.from_numpy(array)}, partial)
            partial.replace(self._file(name, video))

    def read(self, video: Path) -> dict[str, torch.Tensor]:
        files = {name: self._file(name, video) for name in ("vision_features", "temporal_features")}
        if not all(file.exists() for file in files.values()):
            raise FileNotFoundError(video)
        return {name: load_file(file)[name].float() for name, file in files.items()}


class Shards:
    """What `FeatureCache` does once a video's digest is known."""

    def __init__(self, folder: Path):
        self.shards = {
            name: FeatureShards(folder / name, {}, dtype)
            for name, dtype in (
                ("seconds", np.int32),
                ("vision_features", np.float16),
                ("temporal_features", np.float16),
            )
        }
        self.digests = {}

    def _key(self, video: Path) -> tuple:
        stat = os.stat(video)
        return os.path.abspath(video), stat.st_size, stat.st_mtime_ns

    def write(self, video: Path, arrays: dict[str, np.ndarray]) -> None:
        self.digests[self._key(video)] = video.name
        for name, array in arrays.items():
            self.shards[name].add(video.name, array)
        self.shards["seconds"].add(video.name, np.arange(len(arrays["vision_features"])))

    def read(self, video: Path) -> dict[str, torch.Tensor]:
        digest = self.digests[self._key(video)]
        return {
            name: torch.from_numpy(array).float() if array.dtype == np.float16 else array
            for name, array in ((name, shards.get(digest)) for name, shards in self.shards.items())
        }


def forget(folder: Path) -> None:
    """Asks the kernel to drop a folder's files from its cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(folder: Path, num_videos: int, num_chunks: int, tokens: int, width: int, temporal_width: int) -> dict:
    rng = np.random.default_rng(0)
    videos = [folder / f"{index}.mp4" for index in range(num_videos)]
    layouts = {"file per video": FilePerVideo(folder / "files"), "shards": Shards(folder / "shards")}
    writing, from_disk, from_cache = ({name: [] for name in layouts} for _ in range(3))
    checking = []
    for video in videos:
        video.touch()
        arrays = {
            "vision_features": rng.random((num_chunks, tokens, width), np.float32).astype(np.float16),
            "temporal_features": rng.random((num_chunks, temporal_width), np.float32).astype(np.float16),
        }
        for name, layout in layouts.items():
            start = time.perf_counter()
            layout.write(video, arrays)
            writing[name].append(time.perf_counter() - start)
        start = time.perf_counter()
        for array in arrays.values():
            xxh3_64_hexdigest(array)
        checking.append(time.perf_counter() - start)
    forget(folder)
    order = rng.permutation(num_videos)
    for times in (from_disk, from_cache):
        for position, index in enumerate(order):
            # The first of a pair pays for what both share, so they take turns
            for name in sorted(layouts, reverse=position % 2 == 1):
                start = time.perf_counter()
                layouts[name].read(videos[index])
                times[name].append(time.perf_counter() - start)
    return {
        "videos": num_videos,
        "bytes a video": 2 * num_chunks * (tokens * width + temporal_width),
        **{
            f"median ms, {label}": {name: round(1000 * statistics.median(t), 3) for name, t in times.items()}
            for label, times in (("write", writing), ("read, disk", from_disk), ("read, page cache", from_cache))
        },
        "median ms, checksums": round(1000 * statistics.median(checking), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=400)
    parser.add_argument("--seconds", type=int, default=8, help="length of the videos (default 8)")
    parser.add_argument("--folder", help="where features are written for the time of the run (default: temporary)")
    parser.add_argument("--out", help="JSON file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures = {}
    for name, sizes in MODELS.items():
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            figures[name] = measure(Path(folder), arguments.videos, arguments.seconds, *sizes)
        print(name, json.dumps(figures[name], indent=1), flush=True)
    if arguments.out:
        report = {
            "torch": torch.__version__,
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "figures": figures,
        }
        Path(arguments.out).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
