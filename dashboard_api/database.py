"""The dashboard's own DuckDB file: its tables, and consistent snapshots for readers.

One process owns the file. The loader writes through `Database.writer`; each reader gets a cursor in a transaction of
its own, so an answer is one consistent data version and nobody waits for the loader.

Nothing here comes from anywhere but the public bucket, so a copy of the file may be published (`snapshots`).

Besides the lake's tables (`schemas.tables`), which gain `runs.duplicate_of`, there are:

- `submissions`: a row per entry of the submissions log that announces one
- `withdrawals`: a row per entry that withdraws a blob (`withdrawn`)
- `outcomes`: a row per submission that has one (verdict, problems, counts)
- `series`: a row per series that any measurement belongs to, as the first one in the submissions log says
- `repeated_tests`: a row per run in chunks that has a test in two of them (`repeats`)
- `tests_in_place`: which parts of `tests` are read where they are (`in_place`); `tests` gains `place`, the row's in its
  batch, and `runs` gains `digest_number`, by which equal digests are found quickly
- `cursors`: how far each log has been loaded, and the rest of the data version (`WITHDRAWALS`, `GONE`)
- `gone_outcomes`: outcomes that are gone, since a later revision replaced them that is not loaded yet
- `authorities`: what the Atom id of a log has besides its name
"""

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from dashboard_api import in_place
from infra.bucket import Bucket
from schemas import keys
from schemas.errors import StorageFull
from schemas.tables import TABLE_VERSION, TABLES

FILE_VERSION = 4
"""Of the tables below. A file of another version, or with other columns of the lake's, is made anew from the lake."""

WITHDRAWALS, GONE = "withdrawals", "gone"
"""Names of what is no log in `cursors`: the last withdrawal's seq, and a number that stands for `gone_outcomes`."""

_BESIDE = "100MB"
"""DuckDB's memory for a file that is opened for a moment beside the one that serves."""

_TYPES: dict[pa.DataType, str] = {
    pa.int64(): "BIGINT",
    pa.int32(): "INTEGER",
    pa.bool_(): "BOOLEAN",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ",
    pa.list_(pa.string()): "VARCHAR[]",
    pa.list_(pa.float64()): "DOUBLE[]",
    pa.map_(pa.string(), pa.string()): "MAP(VARCHAR, VARCHAR)",
    pa.dictionary(pa.int32(), pa.string()): "VARCHAR",
}

_MORE_COLUMNS = {"runs": ["duplicate_of VARCHAR", "digest_number UBIGINT"], "tests": ["place BIGINT"]}

_OWN_TABLES = f"""
{in_place.TABLES_SQL}
CREATE TABLE meta (file_version INTEGER, table_version INTEGER, lake_version INTEGER);
CREATE TABLE cursors (log VARCHAR, seq BIGINT);
CREATE TABLE gone_outcomes (first BIGINT, revision INTEGER);
CREATE TABLE authorities (log VARCHAR, authority VARCHAR);
CREATE TABLE submissions (seq BIGINT, batch BIGINT, id VARCHAR, project VARCHAR, sha256 VARCHAR, size_bytes BIGINT,
    media_type VARCHAR, title VARCHAR, received TIMESTAMPTZ, announced TIMESTAMPTZ);
CREATE TABLE withdrawals (seq BIGINT, sha256 VARCHAR, reason VARCHAR, withdrawn TIMESTAMPTZ);
CREATE TABLE outcomes (seq BIGINT, verdict VARCHAR, format VARCHAR, revision INTEGER, transform_version INTEGER,
    finished TIMESTAMPTZ, problems STRUCT("where" VARCHAR, expected VARCHAR, found VARCHAR, effect VARCHAR)[],
    problems_total BIGINT, runs BIGINT, measurements BIGINT, tests BIGINT, unread MAP(VARCHAR, BIGINT));
CREATE TABLE repeated_tests (run VARCHAR, total BIGINT, examples STRUCT(test VARCHAR, subtest VARCHAR,
    statuses VARCHAR[], submissions VARCHAR[])[]);
CREATE TABLE series (series VARCHAR, project VARCHAR, benchmark VARCHAR, params VARCHAR, metric VARCHAR, unit VARCHAR,
    better VARCHAR, benchmark_version VARCHAR, environment VARCHAR, environment_title VARCHAR, derived BOOLEAN,
    first_seq BIGINT);
CREATE VIEW submission_states AS
    SELECT s.*, CASE WHEN w.seq IS NULL THEN coalesce(o.verdict, 'announced') ELSE 'withdrawn' END AS state,
        o.format, o.revision, o.transform_version, o.finished, CASE WHEN w.seq IS NULL THEN o.problems END AS problems,
        CASE WHEN w.seq IS NULL THEN coalesce(o.problems_total, 0) ELSE 0 END AS problems_total,
        coalesce(o.runs, 0) AS runs, coalesce(o.measurements, 0) AS measurements, coalesce(o.tests, 0) AS tests,
        o.unread, w.reason, w.withdrawn
    FROM submissions s LEFT JOIN outcomes o USING (seq) LEFT JOIN withdrawals w ON w.sha256 = s.sha256;
"""


@dataclass(frozen=True)
class Snapshot:
    """One consistent view of the data, for one answer. Use it in the thread that took it."""

    cursor: duckdb.DuckDBPyConnection
    parts: in_place.Parts
    lake_version: int
    submissions_seq: int
    outcomes_seq: int
    withdrawals_seq: int = 0
    """Of the last withdrawal that is loaded; 0 if none is. Rows go as soon as it is."""
    gone: int = 0
    """Stands for the set of `gone_outcomes`; 0 if there are none."""

    @property
    def version(self) -> str:
        """The data version of runs, measurements, tests and series: the same on every replica."""
        withdrawals = f"-w{self.withdrawals_seq}" if self.withdrawals_seq else ""
        gone = f"-g{self.gone:x}" if self.gone else ""
        return f"v{self.lake_version}-{self.outcomes_seq}{withdrawals}{gone}"

    @property
    def submissions_version(self) -> str:
        """The data version of answers that also show submissions still under way."""
        return f"{self.version}-{self.submissions_seq}"

    def tests_of(self, seqs: Sequence[int]) -> str:
        """SQL of a relation that has all tests of these submissions, as `in_place.tests_of`.

        Raises Unavailable if a part that is read in place cannot be fetched.
        """
        return in_place.tests_of(self.cursor, self.parts, seqs)

    def rows(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[dict[str, Any]]:
        """The result as a dict per row."""
        self.cursor.execute(sql, parameters)
        names = [column[0] for column in self.cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in self.cursor.fetchall()]

    def arrow(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> pa.Table:
        """The result as an Arrow table."""
        return self.cursor.execute(sql, parameters).to_arrow_table()


class Database:
    """The open file of one lake version. `bucket` is where parts are fetched from that are read in place."""

    def __init__(
        self, path: Path, lake_version: int, *, memory_limit: str = "400MB", bucket: Bucket | None = None
    ) -> None:
        self.path = path
        self.lake_version = lake_version
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = _opened(path, lake_version, memory_limit)
        self.parts = in_place.Parts(path, bucket)
        self.parts.sweep(in_place.named(self._connection))
        self.writer = self._connection.cursor()
        self.writing = threading.Lock()
        """Held while anything is written through `writer`."""
        self.closed = False
        self._retired = False
        self._readers = 0
        self._readers_lock = threading.Lock()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """A reader's transaction: sees one data version from its first to its last query.

        Raises duckdb.ConnectionException if the database is closed or retired: another one answers by then.
        """
        with self._readers_lock:
            if self._retired:
                raise duckdb.ConnectionException(f"{self.path} answers no more")
            cursor = self._connection.cursor()
            self._readers += 1
        try:
            cursor.begin()
            cursors = dict(cursor.execute("SELECT log, seq FROM cursors").fetchall())
            yield Snapshot(
                cursor,
                self.parts,
                self.lake_version,
                cursors.get(keys.SUBMISSIONS_LOG, 0),
                cursors.get(keys.outcomes_log(self.lake_version), 0),
                cursors.get(WITHDRAWALS, 0),
                cursors.get(GONE, 0),
            )
        finally:
            cursor.close()
            with self._readers_lock:
                self._readers -= 1
                self._close_if_left()

    def copy(self, target: Path) -> dict[str, int]:
        """Write a file to `target` that holds one data version, while readers go on; returns how far each log is
        loaded in it.

        The loader waits while bytes are copied, not longer: the file and DuckDB's log beside it are together what a
        crash would leave, and DuckDB makes a whole file of that. (Its CHECKPOINT needs a moment without any reader.)
        Once anything was withdrawn, only rows are copied: DuckDB's file may still have what was deleted from it.
        """
        with self.snapshot(), self.writing:  # as a reader, so that the file is not closed meanwhile
            shutil.copyfile(self.path, target)
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(_log_of(self.path), _log_of(target))
        with _connected(target, _BESIDE) as copied:
            copied.execute("CHECKPOINT")
            cursors = dict(copied.execute("SELECT log, seq FROM cursors").fetchall())
            if copied.execute("SELECT count(*) FROM withdrawals").fetchall() == [(0,)]:
                return cursors
            rows = target.with_name(target.name + ".rows")
            [(name,)] = copied.execute("SELECT current_database()").fetchall()
            copied.execute(f'ATTACH {in_place.quoted(rows)} AS rows; COPY FROM DATABASE "{name}" TO rows; DETACH rows')
        os.replace(rows, target)
        return cursors

    def close(self) -> None:
        """Checkpoint and close; readers that still hold a snapshot finish theirs first, and nobody gets another."""
        with self._readers_lock:
            self._retired = True
            self._close_if_left()

    def _close_if_left(self) -> None:
        """Closing DuckDB's connection takes the readers' cursors with it, so the last reader closes."""
        if self._retired and not self._readers and not self.closed:
            self.closed = True
            self.writer.close()
            self._connection.close()


def layout() -> str:
    """What a file must agree in to be opened by this release: versions of our own tables and of the lake's."""
    return f"{FILE_VERSION}.{TABLE_VERSION}"


def fits(path: Path, lake_version: int) -> bool:
    """Whether the file at `path`, which nobody has open, is a database of this release and lake version."""
    try:
        with _connected(path, _BESIDE) as connection:
            return _is_current(connection, lake_version)
    except duckdb.Error:
        return False


def remove_file(path: Path) -> None:
    """Remove a database's file, what DuckDB keeps beside it, and the parts it reads in place."""
    shutil.rmtree(in_place.folder_of(path), ignore_errors=True)
    path.unlink(missing_ok=True)
    _log_of(path).unlink(missing_ok=True)


def replace_file(path: Path, coming: Path) -> None:
    """Put the closed database file `coming` in the place of the one at `path`, whose parts stay."""
    _log_of(path).unlink(missing_ok=True)  # it would be taken for the new file's; without it the old one is only older
    os.replace(coming, path)


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + ".wal")


_NO_ROOM = ("No space left", "File too large", "quota exceeded")


def _opened(path: Path, lake_version: int, memory_limit: str) -> duckdb.DuckDBPyConnection:
    """The file at `path`, made anew if it is absent, damaged, or of another version: the lake has everything.

    StorageFull if there is no room to open it, which says nothing against the file.
    """
    if path.exists():
        try:
            connection = _connected(path, memory_limit)
        except duckdb.Error as error:
            if "Could not set lock" in str(error):  # it is whole, and another process has it
                raise
        else:
            if _is_current(connection, lake_version):
                return connection
            connection.close()
        remove_file(path)
    connection = _connected(path, memory_limit)
    connection.begin()
    for name, schema in TABLES.items():
        columns = [f'"{field.name}" {_TYPES[field.type]}' for field in schema]
        columns += _MORE_COLUMNS.get(name, [])
        connection.execute(f"CREATE TABLE {name} ({', '.join(columns)})")
    connection.execute(_OWN_TABLES)
    connection.execute("INSERT INTO meta VALUES (?, ?, ?)", [FILE_VERSION, TABLE_VERSION, lake_version])
    connection.commit()
    return connection


def _connected(path: Path, memory_limit: str) -> duckdb.DuckDBPyConnection:
    """The open file. StorageFull, and no reason to make the file anew, if the disk has no room to open it."""
    try:
        connection = duckdb.connect(
            str(path),
            config={
                "memory_limit": memory_limit,
                "threads": 2,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
    except duckdb.IOException as error:
        if any(text in str(error) for text in _NO_ROOM):
            raise StorageFull(f"{path}: no room on the disk: {error}") from error
        raise
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    return connection


def _is_current(connection: duckdb.DuckDBPyConnection, lake_version: int) -> bool:
    wanted = (FILE_VERSION, TABLE_VERSION, lake_version)
    try:
        return connection.execute("SELECT file_version, table_version, lake_version FROM meta").fetchone() == wanted
    except duckdb.Error:
        return False
