"""The bucket protocol: seven verbs over named bytes, and the only door to storage.

Implementations: `infra.folder.FolderBucket` (a directory) and `infra.s3.S3Bucket` (any S3 API with conditional
writes). One contract suite, `tests/test_bucket.py`, runs over both.

Keys are relative, `/`-separated, of `A-Z a-z 0-9 . _ -`; `checked_key` refuses anything else, so no path is ever built
from input. An etag is an opaque string that changes with every write.
"""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

_KEY = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*")


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
    failure of the store Unavailable.
    """

    def create(self, key: str, body: bytes | Path, *, content_type: str | None = None) -> str:
        """Write a new object whole or not at all and return its etag; exactly one of several writers wins, the others
        get FileExistsError, by then with the winner's object as durable as their own would be.

        A Path is a local file on its way into the bucket; it may be linked rather than copied, so never write to it
        again. `content_type` defaults to what the key's ending implies.
        """
        ...

    def swap(self, key: str, body: bytes, *, etag: str | None, content_type: str | None = None) -> str:
        """Replace the object whose etag is `etag` (None: it does not exist) and return the new etag, or SwapLost."""
        ...

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """The object's bytes from `start`, at most `length`."""
        ...

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        """The object's bytes and the etag of exactly these bytes."""
        ...

    def head(self, key: str) -> Head:
        """Size, etag, time and type."""
        ...

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        """Keys that start with `prefix` and are greater than `after`, in ascending order."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; an absent one is fine."""
        ...

    def local_path(self, key: str) -> AbstractContextManager[Path]:
        """The object as a local file for the time of the context: itself, or a copy fetched for it. Read only."""
        ...


def checked_key(key: str) -> str:
    """`key` if it is well-formed, else ValueError: keys come from `schemas.keys`, so this is a bug or an attack."""
    if len(key) > 900 or not _KEY.fullmatch(key):
        raise ValueError(f"not a key: {key[:80]!r}")
    return key


@dataclass(frozen=True)
class Buckets:
    """The two buckets: what everybody may read, and what nobody may."""

    public: Bucket
    private: Bucket
