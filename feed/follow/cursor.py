"""How far a follower has come: a small file that says so after each entry.

It is written in place, since to replace a file takes a journalling file system a millisecond or two, and replaced as a
whole each time that it is brought to the disk. A killed process loses nothing of it. That is once a second and whenever
the follower waits, so a power cut may take back the last second: those entries come again.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec

from schemas.errors import Refused
from schemas.records import Checkpoint, Record

_DURABLE_SECONDS = 1.0
_RECORD_BYTES = 2048
"""A cursor's bytes, filled up with blanks: one that is written over another takes its place at once."""


class Cursor(Record, frozen=True, kw_only=True, omit_defaults=False):
    """A place in one log. `chain` is "" where it is not known: in a log of a release before there were chains."""

    feed: str
    """The log's Atom id; "" before the first look."""
    seq: int
    """The last entry that was handled."""
    chain: str = ""
    """The chain digest after it."""
    key: str = ""
    """The public key that has signed so far; "" if none has."""
    checkpoint: Checkpoint | None = None
    """The last one that was checked: the log must extend it, whoever signs another past."""
    schema_version: int = 1


class CursorFile:
    """The file at `path`, held by one process at a time by a lock file beside it; a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.new")
        self._written = 0.0
        self._durable = True
        self._last: Cursor | None = None
        self._lock: int | None = None
        self._file: int | None = None

    def __enter__(self) -> Self:
        try:
            self._lock = os.open(self._path.with_name(f".{self._path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise Refused("cursor", "a file that can be written", f"{self._path}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise Refused("cursor", "a cursor of this process alone", f"another follower with {self._path}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        if self._lock is not None:
            os.close(self._lock)

    def read(self) -> Cursor | None:
        """What the file says; None if there is none. Refused if it is damaged."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Cursor)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Refused("cursor", "a file that can be read", f"{self._path}: {error.strerror}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused("cursor", "a cursor that a follower has written", f"{self._path}: {error}") from error

    def write(self, cursor: Cursor) -> None:
        """Let the file say this, if it says something else."""
        if cursor is self._last:
            return
        body = msgspec.json.encode(cursor).ljust(_RECORD_BYTES - 1) + b"\n"
        self._durable = time.monotonic() - self._written >= _DURABLE_SECONDS
        with _named(self._path):
            if self._durable or self._file is None or len(body) != _RECORD_BYTES:
                self._replace(body)
            else:
                os.pwrite(self._file, body, 0)
        self._last = cursor

    def _replace(self, body: bytes) -> None:
        """With a new file, on the disk if it is time for that, which goes on being written in place."""
        self._close()
        self._file = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        os.write(self._file, body)
        if self._durable:
            os.fsync(self._file)
            self._written = time.monotonic()
        os.replace(self._temporary, self._path)

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def settle(self) -> None:
        """See to it that what was written last survives a power cut."""
        if self._durable:
            return
        with _named(self._path):
            for place in (self._path, self._path.parent):
                descriptor = os.open(place, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        self._durable = True


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Refused("cursor", "a file that can be written", f"{path}: {error.strerror}") from error
