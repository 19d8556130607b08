"""The bucket protocol: eight verbs over named bytes, and the only door to storage.

Implementations: `infra.folder.FolderBucket` (a directory) and `infra.s3.S3Bucket` (any S3 API with conditional
writes). One contract suite, `tests/test_bucket.py`, runs over both.

Keys are relative, `/`-separated, of `A-Z a-z 0-9 . _ -`, no segment starts with a dot; `checked_key` refuses anything
else, so no path is ever built from input. No key is also the folder of another (`a` beside `a/b`): a file system
cannot hold both. An etag is an opaque string that changes whenever the object does.
"""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

_SEGMENT = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}"
_KEY = re.compile(rf"(?:{_SEGMENT}/)*{_SEGMENT}")
_PREFIX = re.compile(rf"(?:{_SEGMENT}/)*(?:{_SEGMENT})?")
_LONGEST = 900


@dataclass(frozen=True)
class Head:
    """What a bucket knows of an object without reading it."""

    size_bytes: int
    etag: str
    modified: datetime
    content_type: str


class Bucket(Protocol):
    """Storage that keeps what it has confirmed, also through a power loss.

    Absent objects raise FileNotFoundError, existing ones FileExistsError; a full store raises StorageFull, any other
    failure of the store Unavailable. Safe to use from many threads.
    """

    def create(self, key: str, body: bytes | Path, *, content_type: str | None = None) -> str:
        """Write a new object whole or not at all and return its etag; exactly one of several writers wins, the others
        get FileExistsError, by then with the winner's object as durable as their own would be.

        A Path is a local file on its way into the bucket; it may be linked rather than copied, so never write to it
        again. `content_type` defaults to what the key's ending implies.
        """
        ...

    def swap(self, key: str, body: bytes, *, etag: str | None, content_type: str | None = None) -> str:
        """Replace the object whose etag is `etag` (None: it does not exist) and return the new etag, or SwapLost.

        Over a network an answer may get lost after the write was made, so SwapLost, and FileExistsError of `create`,
        may also mean that this very call was the winner: read again, decide again.
        `content_type` defaults as in `create`, whatever type the old object had.
        """
        ...

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """The object's bytes from `start`, at most `length`; none at or after its end."""
        ...

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        """The object's bytes and the etag of exactly these bytes."""
        ...

    def head(self, key: str) -> Head:
        """Size, etag, time and type."""
        ...

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        """Keys that start with `prefix` and are greater than `after`, in ascending order, as strings compare.

        `prefix` and `after` are keys or beginnings of keys. What is created or deleted meanwhile may or may not show.
        """
        ...

    def delete(self, *keys: str) -> None:
        """Remove the objects, for good when this returns; absent ones are fine."""
        ...

    def local_path(self, key: str) -> AbstractContextManager[Path]:
        """The object as a local file for the time of the context: itself, or a copy fetched for it. Read only."""
        ...


def exists(bucket: Bucket, key: str) -> bool:
    """Whether the object is there at this moment."""
    try:
        bucket.head(key)
    except FileNotFoundError:
        return False
    return True


def is_key(text: str) -> bool:
    return len(text) <= _LONGEST and _KEY.fullmatch(text) is not None


def checked_key(key: str) -> str:
    """`key` if it is well-formed, else ValueError: keys come from `schemas.keys`, so this is a bug or an attack."""
    if not is_key(key):
        raise ValueError(f"not a key: {key[:80]!r}")
    return key


def checked_prefix(text: str) -> str:
    """`text` if a key could begin with it, else ValueError. The empty text begins every key."""
    if len(text) > _LONGEST or not _PREFIX.fullmatch(text):
        raise ValueError(f"not the beginning of a key: {text[:80]!r}")
    return text


def checked_range(start: int, length: int | None) -> None:
    """ValueError for a negative start or length, which storage would read as "from the end"."""
    if start < 0 or (length is not None and length < 0):
        raise ValueError(f"not a range: start {start}, length {length}")


@dataclass(frozen=True)
class Buckets:
    """The two buckets: what everybody may read, and what nobody may."""

    public: Bucket
    private: Bucket
