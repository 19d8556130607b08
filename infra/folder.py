"""A bucket in a folder: one file per object, for one machine.

A write goes to a temporary file, is fsynced, then linked (create) or renamed (swap) into place, and the directory is
fsynced, so a confirmed object survives power loss and a half-written one is never seen. Compare-and-swap holds a file
lock, so it is safe across processes. Names that start with a dot are ours and are no keys:

    .tmp/     objects on their way in; what a killed process left there is swept after a week
    .locks/   256 lock files, shared by all keys
    .types/   content types other than the one that the key implies, one file per version of an object

The etag is the modification time, which every write sets itself, and the size; so copy a bucket with tools that keep
times to the nanosecond (`cp -a`, `tar`, `rsync -a`).

Works on local Linux and macOS file systems with hard links; not on network shares, whose locks and links lie.
"""

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import secrets
import stat
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from infra.bucket import Head, checked_key, checked_prefix, checked_range, is_key
from schemas import keys
from schemas.errors import StorageFull, SwapLost, Unavailable

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_WEEK_SECONDS = 7 * 24 * 3600
_FOLDERS_REMEMBERED = 10_000
_LINKS_SHARED = 30_000  # ext4 allows 65,000 names of a file, others fewer


class FolderBucket:
    """Implements `infra.bucket.Bucket` below `root`, which is created if need be."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._temporary = self.root / ".tmp"
        self._locks = self.root / ".locks"
        self._types = self.root / ".types"
        self._durable_folders: set[Path] = set()
        self._shared: tuple[Path, str] | None = None
        self._empty_lock = threading.Lock()
        self._name = secrets.token_hex(12)
        self._numbers = itertools.count()
        with storage_errors(str(root)):
            _make_root(self.root)
            for folder in (self._temporary, self._locks, self._types):
                self._make_folder(folder)
            self._file_mode = stat.S_IMODE(os.stat(self.root).st_mode) & 0o666
            _sweep(self._temporary, older_than_seconds=_WEEK_SECONDS)

    def create(self, key: str, body: bytes | Path, *, content_type: str | None = None) -> str:
        path = self._path(key)
        with storage_errors(key):
            if isinstance(body, Path) and path.exists():
                self._refuse_existing(key, path)
            with self._empty() if body == b"" else self._written(body) as (temporary, etag):
                self._write_type(key, etag, content_type)
                try:
                    self._link(temporary, path)
                except FileExistsError:
                    self._type_file(key, etag).unlink(missing_ok=True)
                    self._refuse_existing(key, path)
            _sync_folder(path.parent)
            return etag

    def _link(self, temporary: Path, path: Path) -> None:
        if path.parent in self._durable_folders:
            try:
                os.link(temporary, path)
            except FileNotFoundError:  # somebody removed the folder
                self._durable_folders.discard(path.parent)
            else:
                return
        self._make_folder(path.parent)
        os.link(temporary, path)

    def _refuse_existing(self, key: str, path: Path) -> NoReturn:
        """FileExistsError, by when the object that is there is as durable as ours would have been."""
        if path.is_dir():
            raise ValueError(f"{key} is a folder, so it cannot be an object")
        _sync_folder(path.parent)  # whoever made it may not have come to its own fsync yet
        raise FileExistsError(key)

    def swap(self, key: str, body: bytes, *, etag: str | None, content_type: str | None = None) -> str:
        if etag is None:
            try:
                return self.create(key, body, content_type=content_type)
            except FileExistsError as error:
                raise SwapLost(f"{key}: expected no object, found one") from error
        path = self._path(key)
        with storage_errors(key), self._locked(key.rpartition("/")[0]):
            current = _version(path)
            if current is None or current.etag != etag:
                raise SwapLost(f"{key}: expected etag {etag}, found {current.etag if current else 'no object'}")
            with self._written(body, later_than_ns=current.modified_ns) as (temporary, new):
                self._write_type(key, new, content_type)
                os.replace(temporary, path)
                _sync_folder(path.parent)
            self._type_file(key, etag).unlink(missing_ok=True)
            return new

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        checked_range(start, length)
        with storage_errors(key), open(self._path(key), "rb") as file:
            file.seek(start)
            return file.read() if length is None else file.read(length)

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        with storage_errors(key), open(self._path(key), "rb") as file:
            return file.read(), _Version(os.fstat(file.fileno())).etag

    def head(self, key: str) -> Head:
        with storage_errors(key):
            version = _version(self._path(key))
            if version is None:
                raise FileNotFoundError(key)
            try:
                content_type = self._type_file(key, version.etag).read_text()
            except FileNotFoundError:
                content_type = keys.content_type(key)
        modified = datetime.fromtimestamp(version.modified_ns / 1e9, UTC)
        return Head(version.size_bytes, version.etag, modified, content_type)

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        folder, _, _ = checked_prefix(prefix).rpartition("/")
        return _walk(self.root, folder, prefix, checked_prefix(after))

    def delete(self, *keys: str) -> None:
        for folder, paths in _by_folder(keys).items():
            with contextlib.suppress(FileNotFoundError), storage_errors(folder), self._locked(folder):
                for key in paths:
                    path = self._path(key)
                    version = _version(path)
                    if version is not None:
                        path.unlink(missing_ok=True)
                        self._type_file(key, version.etag).unlink(missing_ok=True)
                _sync_folder(self.root / folder)  # also for absent ones: whoever removed them may not have come so far

    @contextlib.contextmanager
    def local_path(self, key: str) -> Iterator[Path]:
        path = self._path(key)
        if not path.is_file():
            raise FileNotFoundError(key)
        yield path

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)

    def _make_folder(self, folder: Path) -> None:
        """Make `folder` and those above it, and know that they are on the disk, whoever made them."""
        if folder == self.root or (folder in self._durable_folders and folder.is_dir()):
            return
        self._make_folder(folder.parent)
        try:
            folder.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise ValueError(f"{folder.relative_to(self.root)} is an object, so it cannot be a folder") from error
        _sync_folder(folder.parent)
        if len(self._durable_folders) >= _FOLDERS_REMEMBERED:
            self._durable_folders.clear()
        self._durable_folders.add(folder)

    @contextlib.contextmanager
    def _empty(self) -> Iterator[tuple[Path, str]]:
        """A file that all empty objects share, and its etag. A marker is then a name and nothing else: no inode to
        allocate, to sync and to free, which is most of what the kernel does for one."""
        with self._empty_lock:
            if self._shared is None or not 0 < _links(self._shared[0]) < _LINKS_SHARED:
                with self._written(b"") as (temporary, etag):
                    shared = temporary.with_name(f"{temporary.name}-empty")
                    os.link(temporary, shared)
                if self._shared is not None:
                    self._shared[0].unlink(missing_ok=True)
                self._shared = shared, etag
            shared_now = self._shared
        yield shared_now

    @contextlib.contextmanager
    def _written(self, body: bytes | Path, later_than_ns: int = 0) -> Iterator[tuple[Path, str]]:
        """A synced temporary file that holds `body`, and its etag; removed afterwards unless renamed."""
        temporary = self._temporary / f"{self._name}-{os.getpid():x}-{next(self._numbers):x}"
        try:
            descriptor = self._open_temporary(temporary, body)
            try:
                # The kernel's own clock ticks every few milliseconds, in which two versions could look the same.
                modified_ns = max(time.time_ns(), later_than_ns + 1)
                os.utime(descriptor, ns=(modified_ns, modified_ns))
                _sync(descriptor)
                version = _Version(os.fstat(descriptor))
            finally:
                os.close(descriptor)
            if version.modified_ns <= later_than_ns:
                raise Unavailable(f"the file system of {self.root} keeps times too coarsely to tell versions apart")
            yield temporary, version.etag
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)

    def _open_temporary(self, temporary: Path, body: bytes | Path) -> int:
        """A descriptor of a new file that holds `body`; few system calls, since each upload makes three of these."""
        if isinstance(body, Path) and _link_own(body, temporary):
            os.chmod(temporary, self._file_mode)
            return os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            if isinstance(body, Path):
                with open(body, "rb") as source:
                    while piece := source.read(1 << 20):
                        _write_all(descriptor, piece)
            else:
                _write_all(descriptor, body)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _type_file(self, key: str, etag: str) -> Path:
        return self._types / _sha256(f"{key}:{etag}")

    def _write_type(self, key: str, etag: str, content_type: str | None) -> None:
        """Before the object is seen, so that it is never seen with a wrong type."""
        if content_type is not None and content_type != keys.content_type(key):
            with self._written(content_type.encode()) as (temporary, _):
                os.replace(temporary, self._type_file(key, etag))
                _sync_folder(self._types)

    @contextlib.contextmanager
    def _locked(self, folder: str) -> Iterator[None]:
        """Alone with the objects of `folder`, among this process's threads and all processes of this machine."""
        with open(self._locks / _sha256(folder)[:2], "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class _Version:
    """One version of an object, as the file system tells it from others."""

    def __init__(self, found: os.stat_result) -> None:
        self.modified_ns = found.st_mtime_ns
        self.size_bytes = found.st_size
        self.etag = f"{found.st_mtime_ns:x}-{found.st_size:x}"


def _links(path: Path) -> int:
    """Names of the file at `path`; 0 if somebody removed it."""
    try:
        return os.stat(path).st_nlink
    except FileNotFoundError:
        return 0


def _by_folder(keys: Iterable[str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for key in keys:
        grouped.setdefault(checked_key(key).rpartition("/")[0], []).append(key)
    return grouped


def _version(path: Path) -> _Version | None:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _Version(found) if stat.S_ISREG(found.st_mode) else None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _link_own(body: Path, temporary: Path) -> bool:
    """Link `body` if it is a file of ours under one name only; nobody else's times and modes are touched."""
    found = os.lstat(body)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
        return False
    try:
        os.link(body, temporary)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise
        return False
    return True


def _write_all(descriptor: int, body: bytes) -> None:
    view = memoryview(body)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":
        with contextlib.suppress(OSError):  # not every file system there can
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _make_root(root: Path) -> None:
    if not root.is_dir():
        _make_root(root.parent)
        root.mkdir(exist_ok=True)
        _sync_folder(root.parent)


def _sweep(folder: Path, older_than_seconds: float) -> None:
    """Remove what no living writer holds. By change time: a linked file keeps its old modification time at first."""
    oldest = time.time() - older_than_seconds
    with os.scandir(folder) as found:
        for entry in found:
            with contextlib.suppress(FileNotFoundError, PermissionError):
                if entry.stat(follow_symlinks=False).st_ctime < oldest:
                    os.unlink(entry.path)


def _walk(root: Path, folder: str, prefix: str, after: str) -> Iterator[str]:
    """Keys below `folder` in key order. A folder sorts as its name with `/`, as its keys do."""
    base = f"{folder}/" if folder else ""
    try:
        with storage_errors(folder), os.scandir(root / folder) as found:
            names = sorted(
                entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name
                for entry in found
                if is_key(entry.name)
            )
    except FileNotFoundError:
        return
    for name in names:
        key = base + name
        if name.endswith("/"):
            wanted = key.startswith(prefix) or prefix.startswith(key)
            if wanted and (key > after or after.startswith(key)):
                yield from _walk(root, key[:-1], prefix, after)
        elif key > after and key.startswith(prefix):
            yield key


@contextlib.contextmanager
def storage_errors(key: str) -> Iterator[None]:
    """The operating system's errors as ours; absent and present stay what they are, without our paths."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise FileNotFoundError(key) from error
    except FileExistsError as error:
        raise FileExistsError(key) from error
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(f"{key}: no room left: {error.strerror}") from error
        raise Unavailable(f"{key}: the folder bucket failed: {error}") from error
