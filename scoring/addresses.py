"""Videos behind addresses, read by fsspec, copied to a temporary file that is gone whenever the process ends."""

import math
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import fsspec

from .report import failure_line


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


def write_whole_block(file: BinaryIO, block: bytes) -> None:
    """
    All of a block to an unbuffered file, which may take a part at a time, as where the disk is nearly full.

    Raises:
        OSError: the disk is full.
    """
    rest = memoryview(block)
    while rest:
        rest = rest[file.write(rest) :]


def _blocks(address: str) -> Iterator[bytes]:
    """
    Raises:
        ValueError: whatever a store raises, in one sentence.
    """
    try:
        store, path, settings = _open_store(address)
        with store.open(path, "rb", **settings) as remote:
            while block := remote.read(BLOCK):
                yield block
    except Exception as error:
        raise ValueError(
            f"Could not read {address}: {_why(error)}; expected a whole file that the store gives; check the address, or try "
            "again"
        ) from error


def _why(error: Exception) -> str:
    import aiohttp

    # fsspec calls all that it meets at an HTTP server a missing file; what it met is the cause
    cause = error.__cause__ or error
    is_answer = isinstance(cause, aiohttp.ClientResponseError)
    if isinstance(error, aiohttp.ClientPayloadError) or isinstance(cause, aiohttp.ClientPayloadError):
        return "the transfer was cut"
    if isinstance(cause, FileNotFoundError) or (is_answer and cause.status == 404):
        return "there is no such file"
    if is_answer:
        return f"the server answers {cause.status} {cause.message}"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return failure_line(cause)


@contextmanager
def downloaded(address: str, max_bytes: float, max_seconds: float = math.inf) -> Iterator[BinaryIO]:
    """
    A file without a name on disk, which calls itself by the address.

    Raises:
        ValueError: more than `max_bytes` bytes came, or the store does not give the file.
        TimeoutError: it takes more than `max_seconds`.
        OSError: the disk of temporary files is full.
    """
    deadline = time.monotonic() + max_seconds
    with tempfile.TemporaryFile(buffering=0) as file:
        for block in _blocks(address):
            if file.tell() + len(block) > max_bytes:
                raise ValueError(
                    f"Could not read {address}: it is larger than {max_bytes:g} bytes, expected no more; download it, "
                    "or raise max_download"
                )
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"got {address}, which takes more than {max_seconds:g} s, expected less; download it"
                )
            try:
                write_whole_block(file, block)
            except OSError as error:
                raise OSError(
                    f"Could not read {address}: {error.strerror} in {tempfile.gettempdir()}, expected space for a temporary "
                    "file; make some, or name another folder in TMPDIR"
                ) from error
        file.seek(0)
        file.name = address  # what messages call it
        yield file
