"""Follows both logs into DuckDB: each outcome's rows exactly once, with the cursor, in one transaction.

An outcome's parts replace the rows of its range, so that a revision, or a load that comes twice, changes nothing that
it should not. The files are read where they are (`Bucket.local_path`), which for remote storage means copies of one
load's at a time. What a load costs depends on what it brings; of the rows already there it looks at one short column
of `runs` and the names of the series.

What is in the tables after a load depends on the logs alone, not on how they were cut into loads or on the order in
which outcomes came: replicas of one data version give the same answers.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import msgspec
import pyarrow as pa

from dashboard_api import derived, in_place, repeats
from dashboard_api.database import Database
from feed.log import LogReader
from infra.bucket import Bucket
from schemas import keys
from schemas.errors import Unavailable
from schemas.records import Entry, Outcome, PartRef
from schemas.tables import TABLES

OUTCOMES_PER_LOAD = 200
"""Bounds a transaction's size and how long a reader sees the old version."""

BYTES_PER_LOAD = 128 << 20
"""Of parts: what a load needs of the disk where storage is remote. One outcome may have more."""

FILES_AT_ONCE = 100
"""That DuckDB reads in one statement: it holds memory for each, and 800 small ones are too much for 400 MB."""

REQUESTS_AT_ONCE = 16
"""To storage, to hide its latency."""

_READ_AHEAD = 40

T = TypeVar("T")
R = TypeVar("R")

_SUBMISSIONS = pa.schema(
    [
        ("seq", pa.int64()),
        ("batch", pa.int64()),
        ("id", pa.string()),
        ("project", pa.string()),
        ("sha256", pa.string()),
        ("size_bytes", pa.int64()),
        ("media_type", pa.string()),
        ("received", pa.timestamp("us", tz="UTC")),
        ("announced", pa.timestamp("us", tz="UTC")),
    ]
)
_PROBLEM = pa.struct(
    [("where", pa.string()), ("expected", pa.string()), ("found", pa.string()), ("effect", pa.string())]
)
_OUTCOMES = pa.schema(
    [
        ("seq", pa.int64()),
        ("verdict", pa.string()),
        ("format", pa.string()),
        ("revision", pa.int32()),
        ("transform_version", pa.int32()),
        ("finished", pa.timestamp("us", tz="UTC")),
        ("problems", pa.list_(_PROBLEM)),
        ("problems_total", pa.int64()),
        ("runs", pa.int64()),
        ("measurements", pa.int64()),
        ("tests", pa.int64()),
        ("unread", pa.map_(pa.string(), pa.int64())),
    ]
)

_REVISIONS = """
SELECT DISTINCT seq, revision FROM outcomes
WHERE seq BETWEEN $first AND $last AND seq IN (SELECT unnest($seqs::BIGINT[]))
"""
_INSERT_RUNS = """
INSERT INTO runs BY NAME
SELECT *, md5_number_lower(digest) AS digest_number FROM read_parquet($paths, union_by_name = true)
"""
_INSERT_TESTS = """
INSERT INTO tests BY NAME
SELECT t.* EXCLUDE (filename, file_row_number), t.file_row_number + p.base AS place
FROM read_parquet($paths, union_by_name = true, filename = true, file_row_number = true) t
JOIN (SELECT unnest($paths) AS filename, unnest($bases::BIGINT[]) AS base) p USING (filename)
"""


class Loader:
    """Brings one Database level with the logs. Only one thread may call `load`."""

    def __init__(self, database: Database, bucket: Bucket, submissions: LogReader, outcomes: LogReader) -> None:
        self._database = database
        self._bucket = bucket
        self._submissions = submissions
        self._outcomes = outcomes
        self.behind: int | None = None
        """How many outcomes were announced and not loaded after the last load that worked; None before the first."""

    def load(self) -> int:
        """Load what is new, in one transaction; returns how many log entries that was (0: level).

        Raises Unavailable, and has loaded nothing, while storage fails or lacks what a log or an outcome names.
        """
        with self._database.snapshot() as snapshot:
            submissions_seq, outcomes_seq = snapshot.submissions_seq, snapshot.outcomes_seq
        # Outcomes first: whatever they speak of is in the submissions log by now.
        outcome_entries = self._outcomes.entries_after(outcomes_seq, OUTCOMES_PER_LOAD)
        found = len(outcome_entries)
        outcomes = self._read_outcomes(outcome_entries)
        outcome_entries = outcome_entries[: len(outcomes)]
        needed = max((outcome.last for outcome in outcomes), default=0)
        submission_entries = self._submissions.entries_after(submissions_seq)
        while submission_entries and submission_entries[-1].seq < needed:
            submission_entries += self._submissions.entries_after(submission_entries[-1].seq)
        if not outcomes and not submission_entries:
            self.behind = 0
            return 0
        with self._fetched(outcomes) as paths, self._database.writing, self._transaction():
            self._insert_submissions(submission_entries)
            self._insert_outcomes(outcomes, paths)
            if submission_entries:
                self._move_cursor(keys.SUBMISSIONS_LOG, submission_entries[-1].seq)
            if outcome_entries:
                self._move_cursor(keys.outcomes_log(self._database.lake_version), outcome_entries[-1].seq)
        is_all = len(outcome_entries) == found < OUTCOMES_PER_LOAD
        self.behind = 0 if is_all else self._outcomes.last_seq() - outcome_entries[-1].seq
        return len(outcome_entries) + len(submission_entries)

    def _read_outcomes(self, entries: Sequence[Entry]) -> list[Outcome]:
        """As many of them, from the first, as one load may hold."""
        outcomes: list[Outcome] = []
        size = 0
        for at in range(0, len(entries), _READ_AHEAD):
            for outcome in _each(self._read_outcome, entries[at : at + _READ_AHEAD]):
                size += sum(part.size_bytes for part in outcome.parts if not _in_place(part))
                if outcomes and size > BYTES_PER_LOAD:
                    return outcomes
                outcomes.append(outcome)
        return outcomes

    def _read_outcome(self, entry: Entry) -> Outcome:
        try:
            body = self._bucket.read(entry.key)
        except FileNotFoundError as error:
            raise Unavailable(f"{entry.key}: announced, but not there") from error
        if hashlib.sha256(body).hexdigest() != entry.sha256:
            raise Unavailable(f"{entry.key}: expected the digest that was announced, found another")
        return msgspec.json.decode(body, type=Outcome)

    @contextlib.contextmanager
    def _fetched(self, outcomes: list[Outcome]) -> Iterator[dict[str, str]]:
        """The parts that are loaded, as local files: path by key."""
        with contextlib.ExitStack() as files:

            def fetch(part: PartRef) -> tuple[str, str]:
                try:
                    path: Path = files.enter_context(self._bucket.local_path(part.key))
                    found = path.stat().st_size
                except FileNotFoundError as error:
                    raise Unavailable(f"{part.key}: an outcome names this part, but it is not there") from error
                if found != part.size_bytes:
                    raise Unavailable(f"{part.key}: expected {part.size_bytes:,} bytes, found {found:,}")
                return part.key, str(path)

            yield dict(_each(fetch, [part for outcome in outcomes for part in outcome.parts if not _in_place(part)]))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        writer = self._database.writer
        writer.begin()
        try:
            yield
            writer.commit()
        except BaseException:
            with contextlib.suppress(duckdb.TransactionException):  # the commit itself failed, and has rolled back
                writer.rollback()
            raise

    def _insert_submissions(self, entries: list[Entry]) -> None:
        if not entries:
            return
        rows = [
            {
                "seq": entry.seq,
                "batch": entry.batch,
                "id": entry.id,
                "project": entry.project,
                "sha256": entry.sha256,
                "size_bytes": entry.size_bytes,
                "media_type": entry.media_type,
                "received": entry.published,
                "announced": entry.updated,
            }
            for entry in entries
        ]
        self._insert("submissions", pa.Table.from_pylist(rows, schema=_SUBMISSIONS))

    def _insert_outcomes(self, outcomes: list[Outcome], paths: dict[str, str]) -> None:
        """`paths` are the local files of their parts."""
        if not outcomes:
            return
        writer = self._database.writer
        firsts = [outcome.first for outcome in outcomes]
        span = {"first": min(firsts), "last": max(firsts)}
        loaded = dict(writer.execute(_REVISIONS, span | {"seqs": firsts}).fetchall())
        newest: dict[int, Outcome] = {}  # revisions may be announced in any order; an older one changes nothing
        for outcome in sorted(outcomes, key=lambda outcome: outcome.revision):
            if outcome.revision > loaded.get(outcome.first, -1):
                newest[outcome.first] = outcome
        if not newest:
            return
        taken = derived.Taken()
        for outcome in newest.values():
            if outcome.first in loaded:
                self._take_away(outcome, taken)
        self._insert_parts([newest[first] for first in sorted(newest)], paths)
        rows = [row for outcome in newest.values() for row in _outcome_rows(outcome)]
        self._insert("outcomes", pa.Table.from_pylist(rows, schema=_OUTCOMES))
        span = {"first": min(newest), "last": max(outcome.last for outcome in newest.values())}
        derived.count_each_digest_once(writer, taken, **span)
        derived.describe_series(writer, taken, **span)
        repeats.find(writer, self._database.parts, **span, revised=taken.anything)

    def _take_away(self, outcome: Outcome, taken: derived.Taken) -> None:
        """Remove the rows that an earlier revision gave, and note in `taken` what must be looked at without them."""
        writer, span = self._database.writer, [outcome.first, outcome.last]
        derived.take_away(writer, taken, *span)
        for table in (*TABLES, "outcomes"):
            writer.execute(f"DELETE FROM {table} WHERE seq BETWEEN ? AND ?", span)
        writer.execute("DELETE FROM tests_in_place WHERE first BETWEEN ? AND ?", span)

    def _insert_parts(self, outcomes: list[Outcome], paths: dict[str, str]) -> None:
        writer = self._database.writer
        for table in TABLES:
            some, bases = [], []
            for outcome in outcomes:
                base = 0
                for part in outcome.parts:
                    if part.table != table:
                        continue
                    if _in_place(part):
                        in_place.remember(writer, outcome.first, outcome.last, part.key, base)
                    else:
                        some.append(paths[part.key])
                        bases.append(base)
                    base += part.rows
            for at in range(0, len(some), FILES_AT_ONCE):
                files = some[at : at + FILES_AT_ONCE]
                if table == "tests":
                    writer.execute(_INSERT_TESTS, {"paths": files, "bases": bases[at : at + FILES_AT_ONCE]})
                elif table == "runs":
                    writer.execute(_INSERT_RUNS, {"paths": files})
                else:
                    writer.execute(
                        f"INSERT INTO {table} BY NAME SELECT * FROM read_parquet(?, union_by_name = true)", [files]
                    )

    def _insert(self, table: str, rows: pa.Table) -> None:
        self._database.writer.register("incoming", rows)
        try:
            self._database.writer.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")
        finally:
            self._database.writer.unregister("incoming")

    def _move_cursor(self, log: str, seq: int) -> None:
        writer = self._database.writer
        writer.execute("DELETE FROM cursors WHERE log = ?", [log])
        writer.execute("INSERT INTO cursors VALUES (?, ?)", [log, seq])


def _in_place(part: PartRef) -> bool:
    return part.table == "tests" and part.rows > in_place.LARGEST_LOADED


def _each(call: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`call` of each item, several at a time, in order. When this returns or raises, none is still under way."""
    if len(items) < 2:
        return [call(item) for item in items]
    with ThreadPoolExecutor(min(REQUESTS_AT_ONCE, len(items)), "load") as pool:
        return list(pool.map(call, items))


def _outcome_rows(outcome: Outcome) -> list[dict[str, Any]]:
    finished: datetime = outcome.finished
    return [
        {
            "seq": one.seq,
            "verdict": one.verdict,
            "format": one.format,
            "revision": outcome.revision,
            "transform_version": outcome.transform_version,
            "finished": finished,
            "problems": [msgspec.to_builtins(problem) | {"effect": problem.effect} for problem in one.problems],
            "problems_total": one.problems_total,
            "runs": one.runs,
            "measurements": one.measurements,
            "tests": one.tests,
            "unread": list(one.unread.items()),
        }
        for one in outcome.submissions
    ]
