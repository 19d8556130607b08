"""Tests of very large runs stay in their parts, which queries read where they are.

Loading millions of names into DuckDB takes longer than everything before it, and nobody looks at most of them. Parquet
answers what a page asks of one run: which status, which text, the next thousand. The file keeps parts that are smaller,
and, in `tests_in_place`, the keys of the others. They are fetched when somebody asks: linked where the bucket is a
folder beside the file, else copied, and of copies only those last used are kept.
"""

import contextlib
import os
import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb

from infra.bucket import Bucket
from infra.folder import storage_errors
from schemas.errors import Unavailable

LARGEST_LOADED = 50_000
"""Rows of a part of `tests` that is loaded; a larger one stays where it is."""

KEPT_BYTES = 4 << 30
"""Of parts that were copied from remote storage, beside one database file."""

TABLES_SQL = "CREATE TABLE tests_in_place (first BIGINT, last BIGINT, key VARCHAR, base BIGINT);"

_FETCHED_AT_ONCE = 4


class Parts:
    """The parts of one database file that were fetched, in a folder beside it. Any number of threads may ask.

    A part may go between the answer of `paths` and its being read, when others need the room; whoever then finds it
    gone asks once more.
    """

    def __init__(self, database: Path, bucket: Bucket | None = None, *, kept_bytes: int = KEPT_BYTES) -> None:
        self._folder = folder_of(database)
        self._bucket = bucket
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._fetching: dict[str, threading.Lock] = {}
        self._sizes: OrderedDict[str, int] = OrderedDict()  # of the copies, the least recently used first
        for path in self._files():
            if path.name.endswith(".coming"):
                path.unlink(missing_ok=True)
            else:
                self._sizes[path.name] = _copied_bytes(path)

    def paths(self, keys: Sequence[str]) -> list[Path]:
        """These parts as local files, fetched if they are not here. Unavailable if one cannot be had."""
        if len(keys) < 2:
            return [self._path(key) for key in keys]
        with ThreadPoolExecutor(min(_FETCHED_AT_ONCE, len(keys))) as pool:
            return list(pool.map(self._path, keys))

    def sweep(self, named: set[str]) -> None:
        """Remove all but the parts `named` (keys)."""
        names = {_name(key) for key in named}
        for path in self._files():
            if path.name not in names:
                path.unlink(missing_ok=True)
                with self._lock:
                    self._sizes.pop(path.name, None)

    def _path(self, key: str) -> Path:
        name = _name(key)
        path = self._folder / name
        with self._lock:
            lock = self._fetching.setdefault(name, threading.Lock())
        with lock:  # of many who want a part that is not here, one fetches it
            if not path.exists():
                self._fetch(key, path)
            self._use(name, path)
        return path

    def _fetch(self, key: str, path: Path) -> None:
        if self._bucket is None:
            raise Unavailable(f"{key}: not beside the database, and there is no bucket to fetch it from")
        coming = path.with_name(f"{path.name}.{secrets.token_hex(4)}.coming")
        try:
            with self._bucket.local_path(key) as found, storage_errors(key):
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(found, coming)
                except OSError:  # another file system, or one without links
                    shutil.copyfile(found, coming)
                    with open(coming, "rb") as copied:
                        os.fsync(copied.fileno())  # a name without its bytes would pass for a whole part later on
                os.replace(coming, path)
        except FileNotFoundError as error:
            raise Unavailable(f"{key}: an outcome names this part, but it is not there") from error
        finally:
            coming.unlink(missing_ok=True)

    def _use(self, name: str, path: Path) -> None:
        """It is the last used now; those used before it go as far as there are too many bytes."""
        with self._lock:
            self._sizes[name] = _copied_bytes(path)
            self._sizes.move_to_end(name)
            total = sum(self._sizes.values())
            for other in [other for other in self._sizes if other != name]:
                if total <= self._kept_bytes:
                    break
                (self._folder / other).unlink(missing_ok=True)
                total -= self._sizes.pop(other)

    def _files(self) -> list[Path]:
        with contextlib.suppress(FileNotFoundError):
            return sorted(self._folder.iterdir())
        return []


def folder_of(database: Path) -> Path:
    """Where the parts lie that were fetched for a database file."""
    return database.with_suffix(".parts")


def remember(writer: duckdb.DuckDBPyConnection, first: int, last: int, key: str, base: int) -> None:
    """The part `key` holds tests of the submissions `first` to `last`, `base` rows after the batch's first."""
    writer.execute("INSERT INTO tests_in_place VALUES (?, ?, ?, ?)", [first, last, key, base])


def tests_of(cursor: duckdb.DuckDBPyConnection, parts: Parts, seqs: Sequence[int]) -> str:
    """The SQL of a relation with all tests of the submissions `seqs`, loaded or in place, and perhaps of others.

    It has the columns of `tests`; `place` orders a submission's rows as its file did.
    """
    found = cursor.execute(
        "SELECT key, base FROM tests_in_place WHERE EXISTS "
        "(SELECT 1 FROM (SELECT unnest($seqs::BIGINT[]) AS seq) WHERE seq BETWEEN first AND last) ORDER BY first, base",
        {"seqs": list(seqs)},
    ).fetchall()
    if not found:
        return "tests"
    paths = parts.paths([key for key, _ in found])
    in_place = [
        f"SELECT * EXCLUDE (file_row_number), file_row_number + {base} AS place "
        f"FROM read_parquet({quoted(path)}, file_row_number = true)"
        for path, (_, base) in zip(paths, found, strict=True)
    ]
    # By name: parts of an earlier table version have fewer columns.
    return f"({' UNION ALL BY NAME '.join(['FROM tests', *in_place])})"


def named(cursor: duckdb.DuckDBPyConnection) -> set[str]:
    """The keys of all parts that are read in place."""
    return {key for (key,) in cursor.execute("SELECT key FROM tests_in_place").fetchall()}


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def _copied_bytes(path: Path) -> int:
    """What the file costs: nothing where it is another name of the bucket's own."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0
    return found.st_size if found.st_nlink == 1 else 0


def quoted(path: Path) -> str:
    """As a string of SQL."""
    return "'" + str(path).replace("'", "''") + "'"
