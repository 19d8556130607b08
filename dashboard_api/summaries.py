"""What pages show at a glance and the API does not: sparklines, newest values, failing tests, first reasons.

Every function reads one snapshot and bounds what it returns. Measurements and tests meet their run on (seq, run): the
chunks of one run share its id. Runs that repeat another (`duplicate_of`) count nowhere. What is compared says how
complete its runs are: in one that is not, a test that is not there is neither gone nor fixed.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from dashboard_api import chunks
from dashboard_api.database import Snapshot
from dashboard_api.paging import rows_of
from dashboard_api.resources import Row
from schemas.records import Problem

SPARK_VALUES = 40
ACTIVITY_DAYS = 30
_MAX_SUITES = 20
_COMPARED = 13  # the newest run of a suite, and the dozen before it
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
    completeness: list[str]
    """Of the run of each value."""
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
    """One kind of run with tests (same title, format and environment): its newest run, and an older one to compare it
    with, the newest that is complete, if any of the last dozen is."""

    title: str
    format: str
    environment_title: str
    run: str
    commit: str | None
    at: datetime
    tests: int
    passed: int
    failed: int
    completeness: str
    chunks_present: int | None
    chunks_expected: int | None
    previous: str | None
    previous_completeness: str | None


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
    completeness: str
    """Of the whole run, where this is one chunk of it."""
    chunk: int | None
    chunks_present: int | None
    chunks_expected: int | None
    received: datetime


class Progress(Row, frozen=True, kw_only=True):
    """When a submission was announced, and when its outcome was written."""

    announced: datetime
    finished: datetime | None


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


def progress(snapshot: Snapshot, seq: int) -> Progress:
    """The times of the submission `seq`, which is in the log."""
    table = snapshot.arrow("SELECT announced, finished FROM submission_states WHERE seq = ?", [seq])
    return rows_of(table, Progress)[0]


def runs_of_submission(snapshot: Snapshot, seq: int, limit: int) -> list[RunLine]:
    """In the order of its file; of a chunk only what itself brought."""
    others = {"completeness": chunks.column("completeness"), "chunk": "c.chunk"}
    others |= {name: f"w.{name}" for name in ("chunks_present", "chunks_expected")}
    columns = ", ".join(others.get(name, f'r."{name}"') for name in RunLine.__struct_fields__)
    table = snapshot.arrow(
        f"""
        WITH page AS MATERIALIZED (SELECT * FROM runs WHERE seq = $seq ORDER BY ordinal LIMIT $limit),
        {chunks.whole("SELECT run FROM page")}
        SELECT {columns} FROM page r LEFT JOIN whole_runs w ON w.run = r.run
        LEFT JOIN run_chunks c ON c.seq = r.seq AND c.run = r.run ORDER BY r.ordinal
        """,
        {"seq": seq, "limit": limit},
    )
    return rows_of(table, RunLine)


def recent(snapshot: Snapshot, series: Sequence[str], values: int = SPARK_VALUES) -> dict[str, Recent]:
    """The newest values of each of `series` that has any."""
    order = '"at", seq, ordinal, place'
    table = snapshot.arrow(
        f"""
        WITH newest AS MATERIALIZED (
            SELECT m.series, m.value, m.run, r."commit", {_AT} AS "at", m.seq, r.ordinal, m.rowid AS place
            FROM measurements m JOIN runs r ON r.seq = m.seq AND r.run = m.run
            WHERE m.series IN (SELECT unnest($series::VARCHAR[])) AND r.duplicate_of IS NULL
            QUALIFY row_number() OVER (
                PARTITION BY m.series ORDER BY "at" DESC, m.seq DESC, r.ordinal DESC, m.rowid DESC
            ) <= $values
        ), {chunks.whole("SELECT run FROM newest")},
        told AS (
            SELECT n.*, coalesce(w.completeness, 'complete') AS completeness
            FROM newest n LEFT JOIN whole_runs w ON w.run = n.run
        )
        SELECT series, list(value ORDER BY {order}) AS values, last(run ORDER BY {order}) AS run,
            list(completeness ORDER BY {order}) AS completeness,
            last("commit" ORDER BY {order}) AS commit, max("at") AS "at"
        FROM told GROUP BY series
        """,
        {"series": list(series), "values": values},
    )
    return {one.series: one for one in rows_of(table, Recent)}


def environments(snapshot: Snapshot, project: str) -> list[Environment]:
    """The environments that a project's series were measured in."""
    table = snapshot.arrow(
        """
        SELECT environment AS id, arg_min(environment_title, (first_seq, series)) AS title
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
        WITH sent AS (
            SELECT *, row_number() OVER (PARTITION BY run, digest ORDER BY seq) > 1 AS repeats
            FROM runs WHERE project = $project AND tests > 0
        ), tested AS (
            SELECT r.run, coalesce(arg_min(r.title, r.seq), '') AS title, arg_min(r.format, r.seq) AS format,
                arg_min(r.environment, r.seq) AS environment, arg_min(r.environment_title, r.seq) AS environment_title,
                arg_min(r."commit", r.seq) AS commit, max({_AT}) AS "at", max(r.seq) AS seq,
                max(r.ordinal) AS ordinal, sum(r.tests)::BIGINT AS tests, sum(r.passed)::BIGINT AS passed,
                sum(r.failed)::BIGINT AS failed
            FROM sent r WHERE NOT r.repeats GROUP BY r.run HAVING bool_or(r.duplicate_of IS NULL)
        ), placed AS MATERIALIZED (
            SELECT *, row_number() OVER newest_first AS place FROM tested
            WINDOW newest_first AS (
                PARTITION BY title, format, environment ORDER BY "at" DESC, seq DESC, ordinal DESC, run
            )
            QUALIFY place <= {_COMPARED}
        ), {chunks.whole("SELECT run FROM placed")},
        told AS (
            SELECT p.*, {chunks.column("completeness")}, w.chunks_present, w.chunks_expected
            FROM placed p LEFT JOIN whole_runs w ON w.run = p.run
        ), compared AS (
            SELECT *, coalesce(
                    min(CASE WHEN completeness = 'complete' THEN place END) OVER before, min(place) OVER before
                ) AS previous_place
            FROM told
            WINDOW before AS (PARTITION BY title, format, environment ORDER BY place
                ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING)
        )
        SELECT n.title, n.format, n.environment_title, n.run, n."commit", n."at", n.tests, n.passed, n.failed,
            n.completeness, n.chunks_present, n.chunks_expected, o.run AS previous,
            o.completeness AS previous_completeness
        FROM compared n LEFT JOIN told o ON o.title = n.title AND o.format = n.format
            AND o.environment = n.environment AND o.place = n.previous_place
        WHERE n.place = 1 ORDER BY n."at" DESC, n.seq DESC, n.ordinal DESC, n.run LIMIT $suites
        """,
        {"project": project, "suites": _MAX_SUITES},
    )
    return rows_of(table, Suite)


def failing(snapshot: Snapshot, suites: Sequence[Suite], limit: int) -> list[TestLine]:
    """Tests that fail in the newest runs without being expected to; those that newly fail first."""
    pairs = [(one.run, one.previous, True) for one in suites]
    sql = f"""
        SELECT f.run, f.test, f.subtest, f.status, o.status AS before, left(f.message, 600) AS message
        {_FAILURES_WITH_OTHERS}
        ORDER BY coalesce(o.status, '') IN {_FAILED}, f.test, f.subtest NULLS FIRST, f.seq, f.place LIMIT $limit
    """
    return _test_lines(snapshot, sql, pairs, limit)


def fixed(snapshot: Snapshot, suites: Sequence[Suite], limit: int) -> list[TestLine]:
    """Tests that failed in the run before and do not in the newest. One that is not in the newest counts only if that
    run is complete."""
    pairs = [(one.previous, one.run, one.completeness == "complete") for one in suites if one.previous]
    sql = f"""
        SELECT f.other_run AS run, f.test, f.subtest, o.status, f.status AS before, NULL::VARCHAR AS message
        {_FAILURES_WITH_OTHERS}
        WHERE coalesce(o.status, '') NOT IN {_FAILED} AND (o.status IS NOT NULL OR f.absence_counts)
        ORDER BY f.test, f.subtest NULLS FIRST, f.seq, f.place LIMIT $limit
    """
    return _test_lines(snapshot, sql, pairs, limit)


_FAILURES_WITH_OTHERS = f"""
    FROM (
        SELECT p.run, p.other_run, p.absence_counts, t.test, t.subtest, t.status, t.message, t.seq, t.place
        FROM counting t JOIN pairs p ON p.run = t.run
        WHERE t.status IN {_FAILED} AND (t.expected IS NULL OR t.expected <> t.status)
    ) f LEFT JOIN (
        SELECT t.run, t.test, t.subtest, last(t.status ORDER BY t.seq, t.place) AS status
        FROM counting t WHERE t.run IN (SELECT other_run FROM pairs) GROUP BY ALL
    ) o ON o.run = f.other_run AND o.test = f.test AND o.subtest IS NOT DISTINCT FROM f.subtest
"""


def _test_lines(
    snapshot: Snapshot, sql: str, pairs: Sequence[tuple[str | None, str | None, bool]], limit: int
) -> list[TestLine]:
    """`sql` over pairs of (run whose failures are meant, run to compare with, whether what is not in that one is gone).
    The range of seqs spares DuckDB all other rows."""
    if not pairs:
        return []
    meant = list({run for run, *_ in pairs} | {other for _, other, _ in pairs} - {None})
    seqs = [
        row["seq"] for row in snapshot.rows("SELECT seq FROM runs WHERE run IN (SELECT unnest(?::VARCHAR[]))", [meant])
    ]
    table = snapshot.arrow(
        f"""
        WITH pairs AS (
            SELECT unnest($runs::VARCHAR[]) AS run, unnest($others::VARCHAR[]) AS other_run,
                unnest($absences::BOOLEAN[]) AS absence_counts
        ), counting AS (
            SELECT t.* FROM {snapshot.tests_of(seqs)} t
            ANTI JOIN ({chunks.repeating("SELECT unnest($meant::VARCHAR[])")}) USING (seq, run)
            WHERE t.seq BETWEEN $first AND $last
        )
        {sql}
        """,
        {
            "runs": [run for run, _, _ in pairs],
            "others": [other for _, other, _ in pairs],
            "absences": [counts for _, _, counts in pairs],
            "meant": meant,
            "first": min(seqs, default=None),
            "last": max(seqs, default=None),
            "limit": limit,
        },
    )
    return rows_of(table, TestLine)


def test_counts(snapshot: Snapshot, run: str) -> dict[str, int]:
    """A run's tests per status, over all of its chunks; the most frequent status first."""
    seqs = chunks.counting_seqs(snapshot, run)
    rows = snapshot.rows(
        f"""
        SELECT t.status, count(*) AS tests FROM {snapshot.tests_of(seqs)} t
        WHERE t.run = $run AND t.seq BETWEEN $first AND $last AND t.seq IN (SELECT unnest($seqs::BIGINT[]))
        GROUP BY t.status ORDER BY tests DESC, t.status
        """,
        {"run": run, "seqs": seqs, "first": min(seqs, default=None), "last": max(seqs, default=None)},
    )
    return {row["status"]: row["tests"] for row in rows}
