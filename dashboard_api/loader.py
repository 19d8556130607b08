"""Follows both logs into DuckDB: each outcome's rows exactly once, with the cursor, in one transaction.

An outcome's parts replace the rows of its range, so that a revision, or a load that comes twice, changes nothing that
it should not. A withdrawal takes rows away as soon as it is loaded (`withdrawn`), and makes objects go that logs and
older outcomes name: an outcome that a later revision has replaced may be gone, and is passed over then. The files are
read where they are (`Bucket.local_path`), which for remote storage means copies of one
load's at a time. What a load costs depends on what it brings; of the rows already there it looks at one short column
of `runs` and the names of the series.

What is in the tables after a load depends on the logs alone, not on how they were cut into loads or on the order in
which outcomes came: replicas of one data version give the same answers.
"""

import contextlib
import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import msgspec
import pyarrow as pa

from dashboard_api import derived, in_place, repeats, withdrawn
from dashboard_api.database import GONE, WITHDRAWALS, Database
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
        ("title", pa.string()),
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
SELECT b.first, max(o.revision)
FROM (SELECT unnest($firsts::BIGINT[]) AS first, unnest($lasts::BIGINT[]) AS last) b
JOIN outcomes o ON o.seq BETWEEN b.first AND b.last WHERE o.seq BETWEEN $first AND $last GROUP BY b.first
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
        announced = self._read_outcomes(outcome_entries)
        outcome_entries = outcome_entries[: len(announced)]
        read = [one for one in announced if isinstance(one, Outcome)]
        # A revision goes with what it has taken into account: a withdrawal.
        needed = max((outcome.through if outcome.revision else outcome.last for outcome in read), default=0)
        submission_entries = self._submissions.entries_after(submissions_seq)
        while submission_entries and submission_entries[-1].seq < needed:
            more = self._submissions.entries_after(submission_entries[-1].seq)
            if not more:
                break
            submission_entries += more
        if not announced and not submission_entries:
            self.behind = 0
            return 0
        authority = self._submissions.head().document.authority if submission_entries else ""
        with self._fetched(read) as paths, self._database.writing, self._transaction():
            outcomes = [outcome for outcome in read if _is_whole(outcome, paths)]
            gone = [one for one in announced if isinstance(one, _Gone)]
            gone += [_Gone(one.first, one.revision) for one in read if not _is_whole(one, paths)]
            self._insert_submissions(submission_entries, authority)
            self._insert_outcomes(outcomes, paths, gone, submission_entries)
            if submission_entries:
                self._move_cursor(keys.SUBMISSIONS_LOG, submission_entries[-1].seq)
            if outcome_entries:
                self._move_cursor(keys.outcomes_log(self._database.lake_version), outcome_entries[-1].seq)
        is_all = len(outcome_entries) == found < OUTCOMES_PER_LOAD
        self.behind = 0 if is_all else self._outcomes.last_seq() - outcome_entries[-1].seq
        return len(outcome_entries) + len(submission_entries)

    def _read_outcomes(self, entries: Sequence[Entry]) -> list["Outcome | _Gone"]:
        """As many of them, from the first, as one load may hold."""
        outcomes: list[Outcome | _Gone] = []
        size = 0
        for at in range(0, len(entries), _READ_AHEAD):
            for outcome in _each(self._read_outcome, entries[at : at + _READ_AHEAD]):
                if isinstance(outcome, Outcome):
                    size += sum(part.size_bytes for part in outcome.parts if not _in_place(part))
                if outcomes and size > BYTES_PER_LOAD:
                    return outcomes
                outcomes.append(outcome)
        return outcomes

    def _read_outcome(self, entry: Entry) -> "Outcome | _Gone":
        try:
            body = self._bucket.read(entry.key)
        except FileNotFoundError as error:
            named = keys.parse_outcome(entry.key)
            if named is None or not self._is_replaced(*named[1:]):
                raise Unavailable(f"{entry.key}: announced, but not there") from error
            return _Gone(*named[1:])
        if hashlib.sha256(body).hexdigest() != entry.sha256:
            raise Unavailable(f"{entry.key}: expected the digest that was announced, found another")
        return msgspec.json.decode(body, type=Outcome)

    def _is_replaced(self, first: int, revision: int) -> bool:
        """Whether a later revision of a batch's outcome exists."""
        key = keys.outcome(self._database.lake_version, first, revision)
        later = self._bucket.list(key[: key.rfind("/") + 1], after=key)
        return any(keys.parse_outcome(one) for one in later)

    @contextlib.contextmanager
    def _fetched(self, outcomes: list[Outcome]) -> Iterator[dict[str, str]]:
        """Where the parts are, by key: as local files those that are loaded, "" for the others. Parts that are gone,
        as their outcome was replaced, are left out."""
        with contextlib.ExitStack() as files:

            def fetch(named: tuple[Outcome, PartRef]) -> tuple[str, str | None]:
                outcome, part = named
                try:
                    if _in_place(part):
                        self._bucket.head(part.key)
                        return part.key, ""
                    path: Path = files.enter_context(self._bucket.local_path(part.key))
                    found = path.stat().st_size
                except FileNotFoundError as error:
                    if self._is_replaced(outcome.first, outcome.revision):
                        return part.key, None
                    raise Unavailable(f"{part.key}: an outcome names this part, but it is not there") from error
                if found != part.size_bytes:
                    raise Unavailable(f"{part.key}: expected {part.size_bytes:,} bytes, found {found:,}")
                return part.key, str(path)

            fetched = _each(fetch, [(outcome, part) for outcome in outcomes for part in outcome.parts])
            yield {key: path for key, path in fetched if path is not None}

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

    def _insert_submissions(self, entries: list[Entry], authority: str) -> None:
        if not entries:
            return
        writer = self._database.writer
        writer.execute("DELETE FROM authorities WHERE log = ?", [keys.SUBMISSIONS_LOG])
        writer.execute("INSERT INTO authorities VALUES (?, ?)", [keys.SUBMISSIONS_LOG, authority])
        if last := withdrawn.note(writer, entries):
            self._move_cursor(WITHDRAWALS, last)
        rows = [
            {
                "seq": entry.seq,
                "batch": entry.batch,
                "id": entry.id,
                "project": entry.project,
                "sha256": entry.sha256,
                "size_bytes": entry.size_bytes,
                "media_type": entry.media_type,
                "title": entry.title,
                "received": entry.published,
                "announced": entry.updated,
            }
            for entry in entries
            if not entry.withdraws
        ]
        self._insert("submissions", pa.Table.from_pylist(rows, schema=_SUBMISSIONS))

    def _insert_outcomes(
        self, outcomes: list[Outcome], paths: dict[str, str], gone: "list[_Gone]", entries: list[Entry]
    ) -> None:
        """`paths` are the local files of their parts, `entries` what was announced beside them."""
        writer = self._database.writer
        firsts = [outcome.first for outcome in outcomes] + [one.first for one in gone]
        lasts = [outcome.last for outcome in outcomes] + [one.first for one in gone]
        span = {"first": min(firsts, default=0), "last": max(lasts, default=-1)}
        # By any of a batch: its first entry may be a withdrawal, which has no outcome.
        loaded = dict(writer.execute(_REVISIONS, span | {"firsts": firsts, "lasts": lasts}).fetchall())
        newest: dict[int, Outcome] = {}  # revisions may be announced in any order; an older one changes nothing
        for outcome in sorted(outcomes, key=lambda outcome: outcome.revision):
            if outcome.revision > loaded.get(outcome.first, -1):
                newest[outcome.first] = outcome
        taken = derived.Taken()
        for outcome in newest.values():
            if outcome.first in loaded:
                self._take_away(outcome, taken)
        self._insert_parts([newest[first] for first in sorted(newest)], paths)
        rows = [row for outcome in newest.values() for row in _outcome_rows(outcome)]
        self._insert("outcomes", pa.Table.from_pylist(rows, schema=_OUTCOMES))
        have = loaded | {first: outcome.revision for first, outcome in newest.items()}
        self._note_gone([one for one in gone if one.revision > have.get(one.first, -1)], newest)
        withdrawn.take_away(writer, taken, entries, list(newest.values()))
        if not newest and not taken.anything:
            return
        span = {
            "first": min(newest, default=0),
            "last": max((outcome.last for outcome in newest.values()), default=-1),
        }
        derived.count_each_digest_once(writer, taken, **span)
        derived.describe_series(writer, taken, **span)
        repeats.find(writer, self._database.parts, **span, revised=taken.anything)

    def _note_gone(self, gone: "list[_Gone]", newest: dict[int, Outcome]) -> None:
        writer = self._database.writer
        for outcome in newest.values():
            if outcome.revision:
                writer.execute("DELETE FROM gone_outcomes WHERE first = ?", [outcome.first])
        for one in gone:
            writer.execute("DELETE FROM gone_outcomes WHERE first = ?", [one.first])
            writer.execute("INSERT INTO gone_outcomes VALUES (?, ?)", [one.first, one.revision])
        told = writer.execute("SELECT first, revision FROM gone_outcomes ORDER BY first").fetchall()
        self._move_cursor(GONE, zlib.crc32(repr(told).encode()) if told else 0)

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
        if seq:
            writer.execute("INSERT INTO cursors VALUES (?, ?)", [log, seq])


@dataclass(frozen=True)
class _Gone:
    """An outcome of which nothing can be loaded, since a later revision replaced it."""

    first: int
    revision: int


def _is_whole(outcome: Outcome, paths: dict[str, str]) -> bool:
    return all(part.key in paths for part in outcome.parts)


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
