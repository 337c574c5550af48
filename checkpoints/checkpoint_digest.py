"""What tells one checkpoint from another: a digest of all that its answers hang on."""

import hashlib
from pathlib import Path

from transformers.utils import cached_file

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
    folder = Path(cached_file(model, "config.json")).parent
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in CHECKPOINT_SUFFIXES and path.name not in UNREAD_FILES:
            with open(path, "rb") as file:
                digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
