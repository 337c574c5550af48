"""What tells one checkpoint from another: digests of all that its answers hang on, and of its weights."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from transformers.utils import cached_file

from ..datasets_scripts.rows import video_digest
from .training_videos import EARLIER_FILE


# What a checkpoint's answers hang on; not what is said about them
CHECKPOINT_SUFFIXES = (".safetensors", ".bin", ".json", ".jinja")
UNREAD_FILES = (EARLIER_FILE, "selfcheck.json")


def checkpoint_digest(model: str) -> str:
    """
    Of all that a checkpoint's answers hang on: weights, configuration, processor and tokenizer.

    Args:
        model: folder, or repository that has been loaded.
    """
    return _digest(model, lambda file: file.suffix in CHECKPOINT_SUFFIXES and file.name not in UNREAD_FILES)


def weights_digest(model: str) -> str:
    """Of the weights alone, also those of an adapter; `model` as in `checkpoint_digest`."""
    return _digest(model, lambda file: file.suffix == ".safetensors")


def _digest(model: str, is_counted: Callable[[Path], bool]) -> str:
    """SHA-256 of the names of these files, in order, and of their own SHA-256."""
    # A folder of an adapter has no config.json
    folder = Path(model) if Path(model).is_dir() else Path(cached_file(model, "config.json")).parent
    digest = hashlib.sha256()
    for path in sorted(filter(is_counted, folder.iterdir())):
        digest.update(f"{path.name} {video_digest(path)}\n".encode())
    return digest.hexdigest()
