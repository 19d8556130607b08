"""What pages show at a glance and the API does not: sparklines, newest values, failing tests, first reasons.

Every function reads one snapshot and bounds what it returns. Measurements and tests meet their run on (seq, run): the
chunks of one run share its id. Runs that repeat another (`duplicate_of`) count nowhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dashboard_api.database import Snapshot

SPARK_VALUES = 40
ACTIVITY_DAYS = 30
_MAX_SUITES = 20
_FAILED = "('assert', 'fail', 'error', 'timeout', 'crash')"
_AT = "coalesce(r.commit_time, r.started, r.received)"


@dataclass(frozen=True)
class Recent:
    """The newest values of a series, oldest first, and the run of the last one."""

    values: list[float]
    run: str
    commit: str
    at: datetime


@dataclass(frozen=True)
class Suite:
    """One kind of run with tests (same title, format and environment): its newest run and the one before."""

    title: str
    format: str
    environment_title: str
    run: str
    commit: str
    at: datetime
    tests: int
    failed: int
    previous: str | None


@dataclass(frozen=True)
class TestLine:
    """A test that fails in the newest run of its suite, or whose verdict differs from the run before."""

    run: str
    test: str
    subtest: str | None
    status: str
    before: str | None
    """Its status in the run before; None if it was not there."""
    message: str


@dataclass(frozen=True)
class Chunks:
    """How much of a run that came in parts is here."""

    group: str
    total: int
    present: dict[int, list[str]]
    """Chunk number: the submissions that brought it."""
    totals: list[int]
    """Every total that was said; more than one is a conflict."""

    @property
    def missing(self) -> list[int]:
        return [chunk for chunk in range(1, min(self.total, 10_000) + 1) if chunk not in self.present]

    @property
    def repeated(self) -> list[int]:
        return sorted(chunk for chunk, submissions in self.present.items() if len(submissions) > 1)


def activity(snapshot: Snapshot) -> dict[str, list[float]]:
    """Runs received per project and day, over the last days of the data (not of the clock: a page of one data version
    stays the same page)."""
    rows = snapshot.rows(
        """
        WITH counted AS (SELECT project, run, min(received)::DATE AS day FROM runs WHERE duplicate_of IS NULL GROUP BY ALL),
            last AS (SELECT max(day) AS day FROM counted)
        SELECT project, date_diff('day', counted.day, last.day) AS ago, count(*) AS runs
        FROM counted, last WHERE counted.day > last.day - $days GROUP BY ALL
        """,
        {"days": ACTIVITY_DAYS},
    )
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["project"], [0.0] * ACTIVITY_DAYS)[ACTIVITY_DAYS - 1 - row["ago"]] = float(row["runs"])
    return found


def refusals(snapshot: Snapshot, project: str | None, limit: int) -> list[dict[str, Any]]:
    """The newest submissions that were rejected or quarantined, each with its first problem."""
    return snapshot.rows(
        """
        SELECT id, project, state, format, received, problems_total, problems[1] AS problem FROM submission_states
        WHERE state IN ('rejected', 'quarantined') AND ($project IS NULL OR project = $project)
        ORDER BY seq DESC LIMIT $limit
        """,
        {"project": project, "limit": limit},
    )


def state_counts(snapshot: Snapshot, project: str | None) -> dict[str, int]:
    """Submissions per state."""
    rows = snapshot.rows(
        """
        SELECT state, count(*) AS submissions FROM submission_states
        WHERE ($project IS NULL OR project = $project) GROUP BY state
        """,
        {"project": project},
    )
    return {row["state"]: row["submissions"] for row in rows}


def recent(snapshot: Snapshot, series: Sequence[str], values: int = SPARK_VALUES) -> dict[str, Recent]:
    """The newest values of each of `series` that has any."""
    rows = snapshot.rows(
        f"""
        WITH newest AS (
            SELECT m.series, m.value, m.run, r.commit, {_AT} AS at, m.seq, r.ordinal
            FROM measurements m JOIN runs r ON r.seq = m.seq AND r.run = m.run
            WHERE m.series IN (SELECT unnest($series)) AND r.duplicate_of IS NULL
            QUALIFY row_number() OVER (PARTITION BY m.series ORDER BY at DESC, m.seq DESC, r.ordinal DESC) <= $values
        )
        SELECT series, list(value ORDER BY at, seq, ordinal) AS values, last(run ORDER BY at, seq, ordinal) AS run,
            last(commit ORDER BY at, seq, ordinal) AS commit, max(at) AS at
        FROM newest GROUP BY series
        """,
        {"series": list(series), "values": values},
    )
    return {row["series"]: Recent(row["values"], row["run"], row["commit"] or "", row["at"]) for row in rows}


def environments(snapshot: Snapshot, project: str) -> list[dict[str, Any]]:
    """The environments that a project's series were measured in: id and title."""
    return snapshot.rows(
        """
        SELECT environment AS id, any_value(environment_title) AS title, count(*) AS series
        FROM series WHERE project = ? GROUP BY environment ORDER BY title, id
        """,
        [project],
    )


def elsewhere(snapshot: Snapshot, series: str, limit: int) -> list[dict[str, Any]]:
    """The same measurement in other environments."""
    return snapshot.rows(
        """
        SELECT other.series, other.environment_title FROM series one JOIN series other USING
            (project, benchmark, params, metric, unit, better, benchmark_version)
        WHERE one.series = $series AND other.series <> $series ORDER BY other.environment_title, other.series
        LIMIT $limit
        """,
        {"series": series, "limit": limit},
    )


def suites(snapshot: Snapshot, project: str) -> list[Suite]:
    """The project's kinds of runs with tests, the latest first, each with its newest run and the one before."""
    rows = snapshot.rows(
        f"""
        WITH counted AS (
            SELECT r.run, coalesce(any_value(r.title), '') AS title, any_value(r.format) AS format,
                any_value(r.environment) AS environment, any_value(r.environment_title) AS environment_title,
                any_value(r.commit) AS commit, max({_AT}) AS at, max(r.seq) AS seq, max(r.ordinal) AS ordinal,
                sum(r.tests)::BIGINT AS tests, sum(r.failed)::BIGINT AS failed
            FROM runs r WHERE r.project = $project AND r.duplicate_of IS NULL AND r.tests > 0 GROUP BY r.run
        ), placed AS (
            SELECT *, lead(run) OVER newest_first AS previous, row_number() OVER newest_first AS place
            FROM counted
            WINDOW newest_first AS (PARTITION BY title, format, environment ORDER BY at DESC, seq DESC, ordinal DESC)
        )
        SELECT title, format, environment_title, run, coalesce(commit, '') AS commit, at, tests, failed, previous
        FROM placed WHERE place = 1 ORDER BY at DESC, seq DESC LIMIT $suites
        """,
        {"project": project, "suites": _MAX_SUITES},
    )
    return [Suite(**row) for row in rows]


def failing(snapshot: Snapshot, suites: Sequence[Suite], limit: int) -> list[TestLine]:
    """Tests that fail in the newest runs without being expected to; those that newly fail first."""
    return _test_lines(snapshot, suites, limit, now=True)


def fixed(snapshot: Snapshot, suites: Sequence[Suite], limit: int) -> list[TestLine]:
    """Tests that failed in the run before and no longer do; `status` is `gone` where the test itself is."""
    return _test_lines(snapshot, suites, limit, now=False)


def _test_lines(snapshot: Snapshot, suites: Sequence[Suite], limit: int, *, now: bool) -> list[TestLine]:
    """Failures of one run of each suite, with the status in its other run: failing now, or (`now` false) before."""
    pairs = [(suite.run, suite.previous) for suite in suites if now or suite.previous]
    failed_runs = [newest if now else previous for newest, previous in pairs]
    other_runs = [previous if now else newest for newest, previous in pairs]
    if not pairs:
        return []
    kept = "true" if now else f"coalesce(other_status, 'gone') NOT IN {_FAILED}"
    rows = snapshot.rows(
        f"""
        WITH pairs AS (SELECT unnest($failed_runs::VARCHAR[]) AS run, unnest($other_runs::VARCHAR[]) AS other_run),
        failures AS (
            SELECT p.run, p.other_run, t.test, t.subtest, t.status, t.message, t.seq
            FROM tests t JOIN runs r ON r.seq = t.seq AND r.run = t.run JOIN pairs p ON p.run = t.run
            WHERE t.status IN {_FAILED} AND (t.expected IS NULL OR t.expected <> t.status) AND r.duplicate_of IS NULL
        ), others AS (
            SELECT t.run, t.test, t.subtest, arg_max(t.status, t.seq) AS other_status
            FROM tests t WHERE t.run IN (SELECT other_run FROM pairs)
                AND t.test IN (SELECT test FROM failures) GROUP BY ALL
        )
        SELECT f.run, f.other_run, f.test, f.subtest, f.status, o.other_status, left(f.message, 600) AS message
        FROM failures f LEFT JOIN others o
            ON o.run = f.other_run AND o.test = f.test AND o.subtest IS NOT DISTINCT FROM f.subtest
        WHERE {kept}
        ORDER BY coalesce(other_status, '') IN {_FAILED}, f.test, f.subtest NULLS FIRST LIMIT $limit
        """,
        {"failed_runs": failed_runs, "other_runs": other_runs, "limit": limit},
    )
    if now:
        return [
            TestLine(
                row["run"], row["test"], row["subtest"], row["status"], row["other_status"], row["message"] or ""
            )
            for row in rows
        ]
    return [
        TestLine(row["other_run"], row["test"], row["subtest"], row["other_status"] or "gone", row["status"], "")
        for row in rows
    ]


def test_counts(snapshot: Snapshot, run: str) -> dict[str, int]:
    """A run's tests per status, over all of its chunks."""
    rows = snapshot.rows(
        """
        SELECT t.status, count(*) AS tests FROM tests t JOIN runs r ON r.seq = t.seq AND r.run = t.run
        WHERE r.run = ? GROUP BY t.status ORDER BY tests DESC, t.status
        """,
        [run],
    )
    return {row["status"]: row["tests"] for row in rows}


def chunks(snapshot: Snapshot, run: str) -> Chunks | None:
    """Which parts of the run are here; None if it came whole."""
    rows = snapshot.rows(
        "SELECT run_group, chunk, chunks, submission FROM run_chunks WHERE run = ? ORDER BY chunk, seq", [run]
    )
    if not rows:
        return None
    present: dict[int, list[str]] = {}
    for row in rows:
        present.setdefault(row["chunk"], []).append(row["submission"])
    totals = sorted({row["chunks"] for row in rows})
    return Chunks(rows[0]["run_group"], totals[-1], present, totals)
