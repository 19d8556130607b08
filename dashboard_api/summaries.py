"""What pages show at a glance and the API does not: sparklines, newest values, failing tests, first reasons.

Every function reads one snapshot and bounds what it returns. Measurements and tests meet their run on (seq, run): the
chunks of one run share its id. Runs that repeat another (`duplicate_of`) count nowhere.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from dashboard_api.database import Snapshot
from dashboard_api.paging import rows_of
from dashboard_api.resources import Row
from schemas.records import Problem

SPARK_VALUES = 40
ACTIVITY_DAYS = 30
_MAX_SUITES = 20
_FAILED = "('assert', 'fail', 'error', 'timeout', 'crash')"
_AT = "coalesce(r.commit_time, r.started, r.received)"


class Refusal(Row, frozen=True, kw_only=True):
    """A submission that gave no rows, with the first reason."""

    id: str
    project: str
    state: str
    format: str | None
    received: datetime
    problems_total: int
    problem: Problem | None


class Recent(Row, frozen=True, kw_only=True):
    """The newest values of a series, oldest first, and where the last one comes from."""

    series: str
    values: list[float]
    run: str
    commit: str | None
    at: datetime


class Environment(Row, frozen=True, kw_only=True):
    """Where a project measures."""

    id: str
    title: str


class Elsewhere(Row, frozen=True, kw_only=True):
    """A series like another, of another environment."""

    series: str
    environment_title: str


class Suite(Row, frozen=True, kw_only=True):
    """One kind of run with tests (same title, format and environment): its newest run and the one before."""

    title: str
    format: str
    environment_title: str
    run: str
    commit: str | None
    at: datetime
    tests: int
    passed: int
    failed: int
    previous: str | None


class TestLine(Row, frozen=True, kw_only=True):
    """A test that fails in the newest run of its suite, or that did in the run before and no longer does."""

    run: str
    """The newest."""
    test: str
    subtest: str | None
    status: str | None
    """In the newest run; None if the test is not in it."""
    before: str | None
    """In the run before; None if it was not in that one."""
    message: str | None


class RunLine(Row, frozen=True, kw_only=True):
    """What a list shows of a run."""

    run: str
    project: str
    title: str | None
    format: str
    duplicate_of: str | None
    commit: str | None
    commit_subject: str | None
    branch: str | None
    environment_title: str
    measurements: int
    tests: int
    passed: int
    failed: int
    received: datetime


class Progress(Row, frozen=True, kw_only=True):
    """When a submission was announced, and when its outcome was written."""

    announced: datetime
    finished: datetime | None


class Chunks(msgspec.Struct, frozen=True):
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
    """Runs received per project and day, over the last days until its last run (not until now: a page of one data
    version stays the same page)."""
    rows = snapshot.rows(
        """
        WITH counted AS (
            SELECT project, run, min(received)::DATE AS day FROM runs WHERE duplicate_of IS NULL GROUP BY ALL
        ), aged AS (SELECT project, max(day) OVER (PARTITION BY project) - day AS ago FROM counted)
        SELECT project, ago, count(*) AS runs FROM aged WHERE ago < $days::INTEGER GROUP BY ALL
        """,
        {"days": ACTIVITY_DAYS},
    )
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["project"], [0.0] * ACTIVITY_DAYS)[ACTIVITY_DAYS - 1 - row["ago"]] = float(row["runs"])
    return found


def refusals(snapshot: Snapshot, project: str | None, limit: int) -> list[Refusal]:
    """The newest submissions that were rejected or quarantined."""
    table = snapshot.arrow(
        """
        SELECT id, project, state, format, received, problems_total, problems[1] AS problem FROM submission_states
        WHERE state IN ('rejected', 'quarantined') AND ($project IS NULL OR project = $project)
        ORDER BY seq DESC LIMIT $limit
        """,
        {"project": project, "limit": limit},
    )
    found = rows_of(table, Refusal)
    return [msgspec.structs.replace(one, problem=msgspec.convert(one.problem, Problem | None)) for one in found]


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


def progress(snapshot: Snapshot, seq: int) -> Progress:
    """The times of the submission `seq`, which is in the log."""
    table = snapshot.arrow("SELECT announced, finished FROM submission_states WHERE seq = ?", [seq])
    return rows_of(table, Progress)[0]


def runs_of_submission(snapshot: Snapshot, seq: int, limit: int) -> list[RunLine]:
    """In the order of its file."""
    columns = ", ".join(f'"{name}"' for name in RunLine.__struct_fields__)
    table = snapshot.arrow(f"SELECT {columns} FROM runs WHERE seq = ? ORDER BY ordinal LIMIT ?", [seq, limit])
    return rows_of(table, RunLine)


def recent(snapshot: Snapshot, series: Sequence[str], values: int = SPARK_VALUES) -> dict[str, Recent]:
    """The newest values of each of `series` that has any."""
    order = '"at", seq, ordinal'
    table = snapshot.arrow(
        f"""
        WITH newest AS (
            SELECT m.series, m.value, m.run, r."commit", {_AT} AS "at", m.seq, r.ordinal
            FROM measurements m JOIN runs r ON r.seq = m.seq AND r.run = m.run
            WHERE m.series IN (SELECT unnest($series::VARCHAR[])) AND r.duplicate_of IS NULL
            QUALIFY row_number() OVER (PARTITION BY m.series ORDER BY "at" DESC, m.seq DESC, r.ordinal DESC) <= $values
        )
        SELECT series, list(value ORDER BY {order}) AS values, last(run ORDER BY {order}) AS run,
            last("commit" ORDER BY {order}) AS commit, max("at") AS "at"
        FROM newest GROUP BY series
        """,
        {"series": list(series), "values": values},
    )
    return {one.series: one for one in rows_of(table, Recent)}


def environments(snapshot: Snapshot, project: str) -> list[Environment]:
    """The environments that a project's series were measured in."""
    table = snapshot.arrow(
        """
        SELECT environment AS id, any_value(environment_title) AS title
        FROM series WHERE project = ? GROUP BY environment ORDER BY title, id
        """,
        [project],
    )
    return rows_of(table, Environment)


def elsewhere(snapshot: Snapshot, series: str, limit: int) -> list[Elsewhere]:
    """The same measurement in other environments."""
    table = snapshot.arrow(
        """
        SELECT other.series, other.environment_title FROM series one JOIN series other USING
            (project, benchmark, params, metric, unit, better, benchmark_version)
        WHERE one.series = $series AND other.series <> $series ORDER BY other.environment_title, other.series
        LIMIT $limit
        """,
        {"series": series, "limit": limit},
    )
    return rows_of(table, Elsewhere)


def branches(snapshot: Snapshot, series: str, limit: int) -> list[str]:
    """The branches that a series was measured on."""
    rows = snapshot.rows(
        """
        SELECT DISTINCT r.branch FROM measurements m JOIN runs r ON r.seq = m.seq AND r.run = m.run
        WHERE m.series = ? AND r.duplicate_of IS NULL AND r.branch <> '' ORDER BY r.branch LIMIT ?
        """,
        [series, limit],
    )
    return [row["branch"] for row in rows]


def suites(snapshot: Snapshot, project: str) -> list[Suite]:
    """The project's kinds of runs with tests, the latest first."""
    table = snapshot.arrow(
        f"""
        WITH counted AS (
            SELECT r.run, coalesce(any_value(r.title), '') AS title, any_value(r.format) AS format,
                any_value(r.environment) AS environment, any_value(r.environment_title) AS environment_title,
                any_value(r."commit") AS commit, max({_AT}) AS "at", max(r.seq) AS seq, max(r.ordinal) AS ordinal,
                sum(r.tests)::BIGINT AS tests, sum(r.passed)::BIGINT AS passed, sum(r.failed)::BIGINT AS failed
            FROM runs r WHERE r.project = $project AND r.duplicate_of IS NULL AND r.tests > 0 GROUP BY r.run
        ), placed AS (
            SELECT *, lead(run) OVER newest_first AS previous, row_number() OVER newest_first AS place
            FROM counted
            WINDOW newest_first AS (PARTITION BY title, format, environment ORDER BY "at" DESC, seq DESC, ordinal DESC)
        )
        SELECT title, format, environment_title, run, "commit", "at", tests, passed, failed, previous
        FROM placed WHERE place = 1 ORDER BY "at" DESC, seq DESC LIMIT $suites
        """,
        {"project": project, "suites": _MAX_SUITES},
    )
    return rows_of(table, Suite)


def failing(snapshot: Snapshot, suites: Sequence[Suite], limit: int) -> list[TestLine]:
    """Tests that fail in the newest runs without being expected to; those that newly fail first."""
    pairs = [(one.run, one.previous) for one in suites]
    sql = f"""
        SELECT f.run, f.test, f.subtest, f.status, o.status AS before, left(f.message, 600) AS message
        {_FAILURES_WITH_OTHERS}
        ORDER BY coalesce(o.status, '') IN {_FAILED}, f.test, f.subtest NULLS FIRST LIMIT $limit
    """
    return _test_lines(snapshot, sql, pairs, limit)


def fixed(snapshot: Snapshot, suites: Sequence[Suite], limit: int) -> list[TestLine]:
    """Tests that failed in the run before and do not in the newest."""
    pairs = [(one.previous, one.run) for one in suites if one.previous]
    sql = f"""
        SELECT f.other_run AS run, f.test, f.subtest, o.status, f.status AS before, NULL::VARCHAR AS message
        {_FAILURES_WITH_OTHERS}
        WHERE coalesce(o.status, '') NOT IN {_FAILED}
        ORDER BY f.test, f.subtest NULLS FIRST LIMIT $limit
    """
    return _test_lines(snapshot, sql, pairs, limit)


_FAILURES_WITH_OTHERS = f"""
    FROM (
        SELECT p.run, p.other_run, t.test, t.subtest, t.status, t.message
        FROM tests t JOIN pairs p ON p.run = t.run
        WHERE t.status IN {_FAILED} AND (t.expected IS NULL OR t.expected <> t.status)
            AND t.seq BETWEEN (SELECT first FROM span) AND (SELECT last FROM span)
    ) f LEFT JOIN (
        SELECT t.run, t.test, t.subtest, arg_max(t.status, t.seq) AS status
        FROM tests t WHERE t.run IN (SELECT other_run FROM pairs)
            AND t.seq BETWEEN (SELECT first FROM span) AND (SELECT last FROM span) GROUP BY ALL
    ) o ON o.run = f.other_run AND o.test = f.test AND o.subtest IS NOT DISTINCT FROM f.subtest
"""


def _test_lines(
    snapshot: Snapshot, sql: str, pairs: Sequence[tuple[str | None, str | None]], limit: int
) -> list[TestLine]:
    """`sql` over pairs of (run whose failures are meant, run to compare with). `span` spares DuckDB all other rows."""
    if not pairs:
        return []
    table = snapshot.arrow(
        f"""
        WITH pairs AS (SELECT unnest($runs::VARCHAR[]) AS run, unnest($others::VARCHAR[]) AS other_run),
            span AS (
                SELECT min(seq) AS first, max(seq) AS last FROM runs
                WHERE run IN (SELECT run FROM pairs UNION ALL SELECT other_run FROM pairs)
            )
        {sql}
        """,
        {"runs": [run for run, _ in pairs], "others": [other for _, other in pairs], "limit": limit},
    )
    return rows_of(table, TestLine)


def test_counts(snapshot: Snapshot, run: str) -> dict[str, int]:
    """A run's tests per status, over all of its chunks; the most frequent status first."""
    rows = snapshot.rows(
        """
        SELECT t.status, count(*) AS tests FROM tests t
        WHERE t.run = $run AND t.seq BETWEEN (SELECT min(seq) FROM runs WHERE run = $run)
            AND (SELECT max(seq) FROM runs WHERE run = $run)
        GROUP BY t.status ORDER BY tests DESC, t.status
        """,
        {"run": run},
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
