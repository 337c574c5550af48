"""Videos behind addresses, read by fsspec, copied to a temporary file that is gone whenever the process ends."""

import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import fsspec


ADDRESS = re.compile(r"(https?|s3|gs|hf)://", re.IGNORECASE)
# Where the stores say which version of a file they have
VERSION_NAMES = ("ETag", "etag", "blob_id", "Last-Modified")
BLOCK = 1 << 20


def is_address(name: str) -> bool:
    """Whether it is one of http(s), S3, Google Cloud Storage or the Hub."""
    return ADDRESS.match(name) is not None


def check_readers(names: Iterable[str]) -> None:
    """
    Raises:
        ValueError: what fsspec needs for some of these addresses is not installed.
    """
    for scheme in sorted({found[1].lower() for found in map(ADDRESS.match, names) if found}):
        try:
            fsspec.get_filesystem_class(scheme)
        except ImportError as error:
            raise ValueError(f"got an address {scheme}://, expected what reads it to be installed: {error}") from error


def _open_store(address: str) -> tuple[fsspec.AbstractFileSystem, str, dict]:
    """The store, the file's path there, and how it is opened to be read once from its beginning."""
    if not address.lower().startswith("http"):
        return *fsspec.url_to_fs(address), {}
    import aiohttp

    # Without a limit for the whole file, which depends on its size
    settings = {"trust_env": True, "timeout": aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)}
    return *fsspec.url_to_fs(address, client_kwargs=settings), {"block_size": 0}


def address_version(address: str) -> dict:
    """
    `size` in bytes and `modified`, what the store names a version by; None where it does not say.

    Raises:
        Exception: of the store, as where there is no such file.
    """
    store, path, _ = _open_store(address)
    facts = store.info(path)
    versions = (str(facts[name]).strip('"') for name in VERSION_NAMES if facts.get(name))
    return {"size": facts.get("size"), "modified": next(versions, None)}


@contextmanager
def downloaded(address: str, max_bytes: float) -> Iterator[BinaryIO]:
    """
    A file without a name on disk, which calls itself by the address.

    Raises:
        ValueError: more than `max_bytes` bytes came.
        Exception: of the store.
    """
    store, path, settings = _open_store(address)
    with tempfile.TemporaryFile(buffering=0) as file:
        with store.open(path, "rb", **settings) as remote:
            while block := remote.read(BLOCK):
                if file.tell() + len(block) > max_bytes:
                    raise ValueError(
                        f"Could not read {address}: it is larger than {max_bytes:g} bytes, expected no more; download it, "
                        "or raise max_download"
                    )
                file.write(block)
        file.seek(0)
        file.name = address  # what messages call it
        yield file
