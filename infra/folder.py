"""A bucket in a folder: one file per object, for one machine.

A write goes to a temporary file, is fsynced, then linked (create) or renamed (swap) into place, and the directory is
fsynced, so a confirmed object survives power loss and a half-written one is never seen. Compare-and-swap holds a file
lock, so it is safe across processes. A content type other than the one its key implies is kept in a sidecar under
`.types/`. Names that start with a dot are ours and are no keys.

Works on local Linux and macOS file systems with hard links; not on network shares, whose locks and links lie.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from infra.bucket import Head, checked_key
from schemas import keys
from schemas.errors import StorageFull, SwapLost, Unavailable

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class FolderBucket:
    """Implements `infra.bucket.Bucket` below `root`, which is created if need be."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._temporary = self.root / ".tmp"
        self._locks = self.root / ".locks"
        self._types = self.root / ".types"
        self._known_folders: set[str] = set()
        self._thread_lock = threading.Lock()
        with _storage_errors():
            for folder in (self._temporary, self._locks, self._types):
                folder.mkdir(parents=True, exist_ok=True)

    def create(self, key: str, body: bytes | Path, *, content_type: str | None = None) -> str:
        path = self._path(key)
        with _storage_errors():
            self._make_folder(path.parent)
            if content_type is not None and content_type != keys.content_type(key):
                return self._create_typed(key, path, body, content_type)
            return self._create(path, body)

    def _create(self, path: Path, body: bytes | Path) -> str:
        temporary = self._write_temporary(body)
        try:
            etag = _etag(os.stat(temporary))
            try:
                os.link(temporary, path)
            except FileExistsError:
                _sync_folder(path.parent)  # the winner may not have come to its own fsync yet
                raise
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
        return etag

    def _create_typed(self, key: str, path: Path, body: bytes | Path, content_type: str) -> str:
        with self._locked(key):
            if path.exists():
                raise FileExistsError(key)
            self._write_type(key, content_type)
            return self._create(path, body)

    def swap(self, key: str, body: bytes, *, etag: str | None, content_type: str | None = None) -> str:
        path = self._path(key)
        with _storage_errors(), self._locked(key):
            try:
                current: str | None = _etag(os.stat(path))
            except FileNotFoundError:
                current = None
            if current != etag:
                raise SwapLost(f"{key}: expected etag {etag}, found {current}")
            self._make_folder(path.parent)
            temporary = self._write_temporary(body)
            try:
                if content_type is not None and content_type != keys.content_type(key):
                    self._write_type(key, content_type)
                new = _etag(os.stat(temporary))
                os.replace(temporary, path)
                _sync_folder(path.parent)
            finally:
                temporary.unlink(missing_ok=True)
            return new

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        with _storage_errors(), open(self._path(key), "rb") as file:
            if start:
                file.seek(start)
            return file.read() if length is None else file.read(length)

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        with _storage_errors(), open(self._path(key), "rb") as file:
            return file.read(), _etag(os.fstat(file.fileno()))

    def head(self, key: str) -> Head:
        path = self._path(key)
        with _storage_errors():
            stat = os.stat(path)
            if not os.path.isfile(path):
                raise FileNotFoundError(key)
            try:
                content_type = (self._types / _lock_name(key)).read_text()
            except FileNotFoundError:
                content_type = keys.content_type(key)
        return Head(stat.st_size, _etag(stat), datetime.fromtimestamp(stat.st_mtime, UTC), content_type)

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        folder, _, _ = prefix.rpartition("/")
        yield from _walk(self.root, folder, prefix, after)

    def delete(self, key: str) -> None:
        with _storage_errors():
            self._path(key).unlink(missing_ok=True)
            (self._types / _lock_name(key)).unlink(missing_ok=True)

    @contextlib.contextmanager
    def local_path(self, key: str) -> Iterator[Path]:
        path = self._path(key)
        if not path.is_file():
            raise FileNotFoundError(key)
        yield path

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)

    def _make_folder(self, folder: Path) -> None:
        name = str(folder)
        if name in self._known_folders and folder.is_dir():
            return
        missing = []
        at = folder
        while not at.is_dir():
            missing.append(at)
            at = at.parent
        for at in reversed(missing):
            with contextlib.suppress(FileExistsError):
                at.mkdir()
            _sync_folder(at.parent)
        self._known_folders.add(name)

    def _write_temporary(self, body: bytes | Path) -> Path:
        """A synced file in the bucket's own file system that holds `body`."""
        temporary = self._temporary / secrets.token_hex(12)
        if isinstance(body, Path):
            try:
                os.link(body, temporary)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                    raise
            else:
                with open(temporary, "rb") as file:
                    os.fsync(file.fileno())
                return temporary
        try:
            with open(temporary, "xb") as file:
                if isinstance(body, Path):
                    with open(body, "rb") as source:
                        while piece := source.read(1 << 20):
                            file.write(piece)
                else:
                    file.write(body)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return temporary

    def _write_type(self, key: str, content_type: str) -> None:
        sidecar = self._types / _lock_name(key)
        temporary = self._write_temporary(content_type.encode())
        os.replace(temporary, sidecar)
        _sync_folder(self._types)

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Alone with `key`, among this process's threads and all processes of this machine."""
        with open(self._locks / _lock_name(key), "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _lock_name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _etag(stat: os.stat_result) -> str:
    """Every write makes a new file, so inode, time and size together name one version."""
    return f"{stat.st_ino:x}-{stat.st_mtime_ns:x}-{stat.st_size:x}"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _walk(root: Path, folder: str, prefix: str, after: str) -> Iterator[str]:
    """Keys below `folder` in key order. A folder sorts as its name with `/`, as its keys do."""
    try:
        with os.scandir(root / folder) as found:
            names = sorted(
                entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name
                for entry in found
                if not entry.name.startswith(".")
            )
    except (FileNotFoundError, NotADirectoryError):
        return
    base = f"{folder}/" if folder else ""
    for name in names:
        key = base + name
        if name.endswith("/"):
            wanted = key.startswith(prefix) or prefix.startswith(key)
            if wanted and (key > after or after.startswith(key)):
                yield from _walk(root, key[:-1], prefix, after)
        elif key.startswith(prefix) and key > after:
            yield key


@contextlib.contextmanager
def _storage_errors() -> Iterator[None]:
    """The operating system's errors as ours; absent and present stay what they are."""
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except IsADirectoryError as error:
        raise FileNotFoundError(str(error)) from error
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(f"no room left: {error}") from error
        raise Unavailable(f"the folder bucket failed: {error}") from error
