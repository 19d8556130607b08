"""The inbox in a data folder: files dropped into `private/inbox/<runner>/`.

A file may still be written to while we look, so one is taken only when it has been left alone for `SETTLED_SECONDS`,
and its bytes pass through ingest, which keeps a copy. Whoever writes longer gives it a name that begins with a dot and
renames it at the end: hidden files are not seen, neither are links.
"""

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import anyio

from infra.folder import storage_errors
from infra.inbox import PREFIX, Arrival, Inbox
from schemas.errors import SwapLost, Unavailable

SETTLED_SECONDS = 2.0
_PIECE_BYTES = 1 << 20


@contextlib.asynccontextmanager
async def open_folder_inbox(private: Path) -> AsyncIterator[Inbox]:
    """The inbox in the folder of the private bucket."""
    yield FolderInbox(private)


class FolderInbox:
    """Implements `infra.inbox.Inbox`."""

    def __init__(self, root: Path, settled_seconds: float = SETTLED_SECONDS) -> None:
        self.copies = False
        self._root = root.absolute()
        self._settled_seconds = settled_seconds

    async def folders(self) -> list[str]:
        try:
            with storage_errors(PREFIX), os.scandir(self._root / PREFIX) as found:
                return sorted(one.name for one in found if one.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    async def list(self, prefix: str) -> AsyncIterator[Arrival]:
        for arrival in await anyio.to_thread.run_sync(lambda: list(self._walk(prefix))):
            yield arrival

    def _walk(self, prefix: str) -> Iterator[Arrival]:
        settled = time.time() - self._settled_seconds
        folder = self._root / prefix[: prefix.rfind("/") + 1]
        for parent, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(parent, name)
                with contextlib.suppress(OSError, UnicodeEncodeError):
                    name.encode()  # what is not UTF-8 could not be named in a record
                    found = os.lstat(path)
                    key = path.relative_to(self._root).as_posix()
                    if not name.startswith(".") and stat.S_ISREG(found.st_mode) and found.st_mtime <= settled:
                        yield _arrival(key, found)

    @contextlib.asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[tuple[Arrival, AsyncIterator[bytes]]]:
        try:
            with storage_errors(key):
                descriptor = os.open(self._path(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except Unavailable as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENAMETOOLONG, errno.ELOOP):
                raise FileNotFoundError(key) from error  # there can be none of that name, or it is a link
            raise
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise FileNotFoundError(key)
            yield _arrival(key, found), _pieces(key, descriptor)
        finally:
            os.close(descriptor)

    async def copy(self, arrival: Arrival, key: str) -> None:
        raise NotImplementedError("a folder does not copy: `copies` is False")

    async def remove(self, arrival: Arrival) -> None:
        """Renamed first, so that nothing which came meanwhile under this name can be removed with it."""
        path = self._path(arrival.key)
        held = path.with_name(f".removed-{secrets.token_hex(8)}")
        with contextlib.suppress(FileNotFoundError), storage_errors(arrival.key):
            os.rename(path, held)
            if _arrival(arrival.key, os.lstat(held)).etag != arrival.etag:
                with contextlib.suppress(FileExistsError):  # a still newer one has replaced that, as its owner wanted
                    os.link(held, path)
            os.unlink(held)

    def _path(self, key: str) -> Path:
        if ".." in key.split("/") or "\0" in key:
            raise FileNotFoundError(key)
        return self._root / key


def _arrival(key: str, found: os.stat_result) -> Arrival:
    etag = f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"
    return Arrival(key, found.st_size, etag, datetime.fromtimestamp(int(found.st_mtime), UTC))


async def _pieces(key: str, descriptor: int) -> AsyncIterator[bytes]:
    before = os.fstat(descriptor)
    while True:
        with storage_errors(key):
            piece = await anyio.to_thread.run_sync(os.read, descriptor, _PIECE_BYTES)
        if not piece:
            break
        yield piece
    if _arrival(key, os.fstat(descriptor)).etag != _arrival(key, before).etag:
        raise SwapLost(f"{key}: written to meanwhile")
