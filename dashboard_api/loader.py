"""Follows both logs into DuckDB: each outcome's rows exactly once, with the cursor, in one transaction.

An outcome's parts replace the rows of its range, so that a revision, or a load that comes twice, changes nothing that
it should not. The files are read where they are (`Bucket.local_path`).
"""

import contextlib
from datetime import datetime
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from dashboard_api import in_place, repeats
from dashboard_api.database import Database
from feed.log import LogReader
from infra.bucket import Bucket
from schemas import keys
from schemas.records import Entry, Outcome
from schemas.tables import TABLES

OUTCOMES_PER_LOAD = 200
"""Bounds a transaction's size and how long a reader sees the old version."""

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

_REVISIONS = "SELECT seq, revision FROM outcomes WHERE seq IN (SELECT unnest(?))"
# A revision may take away the run that counted, so then (`$all`) every digest is looked at.
_COUNT_EACH_DIGEST_ONCE = """
UPDATE runs SET duplicate_of = counted.duplicate_of
FROM (
    SELECT seq, run, CASE WHEN row_number() OVER same > 1 THEN first_value(run) OVER same END AS duplicate_of
    FROM runs
    WHERE $all OR digest IN (SELECT digest FROM runs WHERE seq BETWEEN $first AND $last)
    WINDOW same AS (PARTITION BY project, digest ORDER BY seq, ordinal)
) AS counted
WHERE runs.seq = counted.seq AND runs.run = counted.run AND runs.duplicate_of IS DISTINCT FROM counted.duplicate_of
"""
_ADD_NEW_SERIES = """
INSERT INTO series BY NAME
SELECT m.series, any_value(r.project) AS project, any_value(m.benchmark) AS benchmark, any_value(m.params) AS params,
    any_value(m.metric) AS metric, any_value(m.unit) AS unit, any_value(m.better) AS better,
    any_value(m.benchmark_version) AS benchmark_version, any_value(r.environment) AS environment,
    any_value(r.environment_title) AS environment_title, bool_and(m.derived) AS derived
FROM measurements m JOIN runs r ON r.seq = m.seq AND r.run = m.run
WHERE m.seq BETWEEN $first AND $last AND r.seq BETWEEN $first AND $last
    AND m.series NOT IN (SELECT series FROM series)
GROUP BY m.series
"""
_INSERT_TESTS = """
INSERT INTO tests BY NAME
SELECT t.* EXCLUDE (filename, file_row_number), t.file_row_number + p.base AS place
FROM read_parquet($paths, union_by_name = true, filename = true, file_row_number = true) t
JOIN (SELECT unnest($paths) AS filename, unnest($bases::BIGINT[]) AS base) p USING (filename)
"""
_DROP_EMPTY_SERIES = "DELETE FROM series WHERE series NOT IN (SELECT series FROM measurements)"


class Loader:
    """Brings one Database level with the logs. Only one thread may call `load`."""

    def __init__(self, database: Database, bucket: Bucket, submissions: LogReader, outcomes: LogReader) -> None:
        self._database = database
        self._bucket = bucket
        self._submissions = submissions
        self._outcomes = outcomes

    def load(self) -> int:
        """Load what is new, in one transaction; returns how many log entries that was (0: level)."""
        with self._database.snapshot() as snapshot:
            submissions_seq, outcomes_seq = snapshot.submissions_seq, snapshot.outcomes_seq
        # Outcomes first: whatever they speak of is in the submissions log by now.
        outcome_entries = self._outcomes.entries_after(outcomes_seq, OUTCOMES_PER_LOAD)
        outcomes = [msgspec.json.decode(self._bucket.read(entry.key), type=Outcome) for entry in outcome_entries]
        needed = max((outcome.last for outcome in outcomes), default=0)
        submission_entries = self._submissions.entries_after(submissions_seq)
        while submission_entries and submission_entries[-1].seq < needed:
            submission_entries += self._submissions.entries_after(submission_entries[-1].seq)
        if not outcomes and not submission_entries:
            return 0
        writer = self._database.writer
        writer.begin()
        try:
            self._insert_submissions(submission_entries)
            self._insert_outcomes(outcomes)
            if submission_entries:
                self._move_cursor(keys.SUBMISSIONS_LOG, submission_entries[-1].seq)
            if outcome_entries:
                self._move_cursor(keys.outcomes_log(self._database.lake_version), outcome_entries[-1].seq)
            writer.commit()
        except BaseException:
            with contextlib.suppress(duckdb.TransactionException):  # the commit itself failed, and has rolled back
                writer.rollback()
            raise
        return len(outcome_entries) + len(submission_entries)

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

    def _insert_outcomes(self, outcomes: list[Outcome]) -> None:
        if not outcomes:
            return
        writer = self._database.writer
        loaded = dict(writer.execute(_REVISIONS, [[outcome.first for outcome in outcomes]]).fetchall())
        newest: dict[int, Outcome] = {}  # revisions may be announced in any order; an older one changes nothing
        for outcome in sorted(outcomes, key=lambda outcome: outcome.revision):
            if outcome.revision > loaded.get(outcome.first, -1):
                newest[outcome.first] = outcome
        replaced = [outcome for outcome in newest.values() if outcome.first in loaded]
        for outcome in replaced:
            for table in (*TABLES, "outcomes"):
                writer.execute(f"DELETE FROM {table} WHERE seq BETWEEN ? AND ?", [outcome.first, outcome.last])
            writer.execute("DELETE FROM tests_in_place WHERE first BETWEEN ? AND ?", [outcome.first, outcome.last])
        if not newest:
            return
        self._insert_parts(list(newest.values()))
        rows = [row for outcome in newest.values() for row in _outcome_rows(outcome)]
        self._insert("outcomes", pa.Table.from_pylist(rows, schema=_OUTCOMES))
        span = {"first": min(newest), "last": max(outcome.last for outcome in newest.values())}
        writer.execute(_COUNT_EACH_DIGEST_ONCE, span | {"all": bool(replaced)})
        writer.execute(_ADD_NEW_SERIES, span)
        repeats.find(writer, in_place.folder_of(self._database.path), **span, revised=bool(replaced))
        if replaced:
            writer.execute(_DROP_EMPTY_SERIES)

    def _insert_parts(self, outcomes: list[Outcome]) -> None:
        for table in TABLES:
            with contextlib.ExitStack() as files:
                paths, bases = [], []
                for outcome in outcomes:
                    base = 0
                    for part in outcome.parts:
                        if part.table != table:
                            continue
                        if table == "tests" and part.rows > in_place.LARGEST_LOADED:
                            file = in_place.keep(self._bucket, part, in_place.folder_of(self._database.path))
                            in_place.remember(self._database.writer, outcome.first, outcome.last, file, base)
                        else:
                            paths.append(str(files.enter_context(self._bucket.local_path(part.key))))
                            bases.append(base)
                        base += part.rows
                if paths and table == "tests":
                    self._database.writer.execute(_INSERT_TESTS, {"paths": paths, "bases": bases})
                elif paths:
                    self._database.writer.execute(
                        f"INSERT INTO {table} BY NAME SELECT * FROM read_parquet(?, union_by_name = true)", [paths]
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
