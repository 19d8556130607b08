"""The questions that the API and the pages ask, each answered from one Snapshot.

`list_…` gives a Listing, for whoever wants Arrow; the function of the plain name gives its rows as Structs. Rows of
measurements and tests belong to runs by (seq, run), since chunks of one run share its id; `chunks` tells how they make
one. Runs that are duplicates count in no series and no total.

A cursor never holds a row id of DuckDB's: those change when the file is rebuilt. It holds the row's place within its
submission, which depends on the bytes alone.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from dashboard_api import chunks
from dashboard_api.database import Snapshot
from dashboard_api.filters import EVERY_SUBMISSION, RunFilter, SubmissionFilter
from dashboard_api.paging import Listing, Seq, parse_cursor, rows_of
from dashboard_api.resources import (
    Measurement,
    Page,
    Point,
    ProjectSummary,
    Run,
    Series,
    SubmissionRow,
    Test,
)
from schemas import keys
from schemas.errors import Refused
from schemas.records import Problem, SubmissionStatus
from schemas.tables import STATUSES

STATES = ("announced", "accepted", "rejected", "quarantined", "withdrawn")
"""What a submission in the log can be."""

MIN_COMMIT_PREFIX = 4
_MAX_RUNS_OF_SUBMISSION = 1000

_TIME = "coalesce(r.commit_time, r.started, r.received)"
_RUN = ", ".join(map(chunks.column, Run.__struct_fields__))
_MEASUREMENT = ", ".join(f'm."{name}"' for name in Measurement.__struct_fields__ if name != "samples")
_TEST = ", ".join(f't."{name}"' for name in Test.__struct_fields__)
_SERIES = ", ".join(f's."{name}"' for name in Series.__struct_fields__[:11])
_SERIES_ORDER = "(s.project, s.benchmark, s.params, s.metric, s.unit, s.series)"


# --- projects ---

_PROJECTS = """
SELECT s.name, coalesce(r.runs, 0) AS runs, coalesce(e.series, 0) AS series,
    coalesce(r.measurements, 0)::BIGINT AS measurements, coalesce(r.tests, 0)::BIGINT AS tests,
    s.submissions, s.announced, s.accepted, s.rejected, s.quarantined, s.withdrawn, s.last_received
FROM (
    SELECT project AS name, count(*) AS submissions, max(received) AS last_received,
        count(*) FILTER (state = 'announced') AS announced, count(*) FILTER (state = 'accepted') AS accepted,
        count(*) FILTER (state = 'rejected') AS rejected, count(*) FILTER (state = 'quarantined') AS quarantined,
        count(*) FILTER (state = 'withdrawn') AS withdrawn
    FROM submission_states GROUP BY project
) s
LEFT JOIN (
    SELECT project AS name, count(DISTINCT run) AS runs, sum(measurements) AS measurements, sum(tests) AS tests
    FROM runs WHERE duplicate_of IS NULL GROUP BY project
) r USING (name)
LEFT JOIN (SELECT project AS name, count(*) AS series FROM series GROUP BY project) e USING (name)
"""


def list_projects(limit: int, after: str | None = None) -> Listing[ProjectSummary]:
    """By name."""
    where, parameters = _where()
    if (name := parse_cursor(after, tuple[str], "after")) is not None:
        where, parameters = _where(("s.name > $after", {"after": name[0]}))
    return Listing(f"{_PROJECTS} {where} ORDER BY s.name", parameters, ProjectSummary, ("name",), limit)


def projects(snapshot: Snapshot) -> list[ProjectSummary]:
    """All projects that anything was submitted to, by name."""
    return rows_of(snapshot.arrow(f"{_PROJECTS} ORDER BY s.name"), ProjectSummary)


def project(snapshot: Snapshot, name: str) -> ProjectSummary | None:
    found = rows_of(snapshot.arrow(f"{_PROJECTS} WHERE s.name = $name", {"name": name}), ProjectSummary)
    return found[0] if found else None


# --- runs ---


def list_runs(filter: RunFilter, limit: int, before: str | None = None) -> Listing[Run]:
    """Newest first, by when they (or the first of their chunks) were received.

    Raises Refused 400 for a commit prefix that is too short.
    """
    if filter.commit is not None and len(filter.commit) < MIN_COMMIT_PREFIX:
        raise Refused("commit", f"at least {MIN_COMMIT_PREFIX} characters", repr(filter.commit))
    cursor = parse_cursor(before, tuple[datetime, Seq, Seq], "before")
    where, parameters = _where(
        filter.project is not None and ("project = $project", {"project": filter.project}),
        filter.commit is not None and ('starts_with("commit", $commit)', {"commit": filter.commit}),
        filter.branch is not None and ("branch = $branch", {"branch": filter.branch}),
        filter.environment is not None and _environment(filter.environment),
        filter.since is not None and ("received >= $since", {"since": filter.since}),
        filter.until is not None and ("received < $until", {"until": filter.until}),
        filter.format is not None and ("format = $format", {"format": filter.format}),
        not filter.duplicates
        and (
            "(duplicate_of IS NULL OR run IN (SELECT run FROM run_chunks JOIN runs USING (seq, run) "
            "WHERE duplicate_of IS NULL))",
            {},
        ),
        filter.series is not None
        and (
            "run IN (SELECT run FROM measurements WHERE series = $series)",
            {"series": filter.series},
        ),
        *_labelled(filter.labels),
        cursor is not None
        and (
            "received <= $at AND (received, seq, ordinal) < ($at, $at_seq, $at_ordinal)",
            {"at": cursor[0], "at_seq": cursor[1], "at_ordinal": cursor[2]},
        ),
    )
    return _list_whole_runs(where, parameters, limit)


def _list_whole_runs(where: str, parameters: dict[str, Any], limit: int) -> Listing[Run]:
    """Those runs of whose rows (of chunks, the first in the log) the condition holds."""
    # First only where the page's rows are, then their many columns: DuckDB does this by itself for 50 rows at most.
    sql = f"""
        WITH page AS MATERIALIZED (
            SELECT r.rowid AS place, r.run FROM runs r
            ANTI JOIN ({chunks.LATER}) l ON l.seq = r.seq AND l.run = r.run
            {where} ORDER BY received DESC, seq DESC, ordinal DESC LIMIT {limit + 1}
        ), {chunks.whole("SELECT run FROM page")}
        SELECT {_RUN} FROM page p JOIN runs r ON r.rowid = p.place LEFT JOIN whole_runs w ON w.run = r.run
        ORDER BY r.received DESC, r.seq DESC, r.ordinal DESC
    """
    return Listing(sql, parameters, Run, ("received", "seq", "ordinal"), limit)


def runs(snapshot: Snapshot, filter: RunFilter, limit: int, before: str | None = None) -> Page[Run]:
    return list_runs(filter, limit, before).page(snapshot)


def list_run(run_id: str) -> Listing[Run]:
    """The run alone."""
    return _list_whole_runs("WHERE run = $run", {"run": run_id}, 1)


def run(snapshot: Snapshot, run_id: str) -> Run | None:
    found = list_run(run_id).page(snapshot).items
    return found[0] if found else None


def list_run_measurements(
    snapshot: Snapshot, run_id: str, limit: int, after: str | None = None, *, samples: bool = False
) -> Listing[Measurement]:
    """In the order of the file. `samples` are left out unless asked for: there may be many."""
    columns = f"{_MEASUREMENT}, {'m.samples' if samples else 'NULL::DOUBLE[] AS samples'}"
    sql, parameters = _rows_of_run(snapshot, run_id, after, table="measurements", alias="m", columns=columns)
    return Listing(sql, parameters, Measurement, ("seq", "place"), limit)


def run_measurements(
    snapshot: Snapshot, run_id: str, limit: int, after: str | None = None, *, samples: bool = False
) -> Page[Measurement]:
    return list_run_measurements(snapshot, run_id, limit, after, samples=samples).page(snapshot)


def list_run_tests(
    snapshot: Snapshot,
    run_id: str,
    limit: int,
    after: str | None = None,
    *,
    status: Sequence[str] | None = None,
    text: str | None = None,
) -> Listing[Test]:
    """In the order of the file. `text` is looked for in test, subtest and message, whatever its case."""
    for one in status or ():
        if one not in STATUSES:
            raise Refused("status", "one of " + ", ".join(STATUSES), repr(one[:80]))
    sought = "concat_ws(chr(10), t.test, t.subtest, t.message)"
    sql, parameters = _rows_of_run(
        snapshot,
        run_id,
        after,
        bool(status) and ("list_contains($status, t.status)", {"status": list(status or ())}),
        bool(text) and (f"contains(lower({sought}), lower($text))", {"text": text}),
        table="tests",
        alias="t",
        columns=_TEST,
    )
    return Listing(sql, parameters, Test, ("seq", "place"), limit)


def run_tests(
    snapshot: Snapshot,
    run_id: str,
    limit: int,
    after: str | None = None,
    *,
    status: Sequence[str] | None = None,
    text: str | None = None,
) -> Page[Test]:
    return list_run_tests(snapshot, run_id, limit, after, status=status, text=text).page(snapshot)


# --- series ---


def list_series(
    snapshot: Snapshot,
    *,
    project: str | None = None,
    text: str | None = None,
    benchmark: str | None = None,
    metric: str | None = None,
    unit: str | None = None,
    environment: str | None = None,
    series: str | None = None,
    limit: int,
    after: str | None = None,
) -> Listing[Series]:
    """By project, benchmark, parameters, metric and unit. All words of `text` must occur, whatever their case."""
    cursor = parse_cursor(after, tuple[str], "after")
    if cursor and not snapshot.arrow("SELECT 1 FROM series WHERE series = $after", {"after": cursor[0]}).num_rows:
        raise Refused("after", "a cursor from an answer's next", repr(cursor[0][:80]))
    words = {f"word{i}": word for i, word in enumerate((text or "").lower().split())}
    sought = "lower(concat_ws(chr(10), benchmark, params, metric, environment_title))"
    where, parameters = _where(
        project is not None and ("project = $project", {"project": project}),
        benchmark is not None and ("benchmark = $benchmark", {"benchmark": benchmark}),
        metric is not None and ("metric = $metric", {"metric": metric}),
        unit is not None and ("unit = $unit", {"unit": unit}),
        environment is not None and _environment(environment),
        series is not None and ("series = $series", {"series": series}),
        *((f"contains({sought}, ${name})", {name: word}) for name, word in words.items()),
        cursor is not None
        and (
            f"{_SERIES_ORDER} > (SELECT {_SERIES_ORDER} FROM series s WHERE series = $after)",
            {"after": cursor[0]},
        ),
    )
    sql = f"""
        WITH page AS MATERIALIZED (SELECT * FROM series s {where} ORDER BY {_SERIES_ORDER} LIMIT {limit + 1}),
        ends AS (
            SELECT m.series, count(*) AS points, min({_TIME}) AS first_time, max({_TIME}) AS last_time,
                max({{'time': {_TIME}, 'seq': r.seq, 'ordinal': r.ordinal, 'value': m.value,
                    'commit': r."commit", 'run': r.run}}) AS newest
            FROM measurements m JOIN runs r ON r.seq = m.seq AND r.run = m.run
            WHERE m.series IN (SELECT series FROM page) AND r.duplicate_of IS NULL
            GROUP BY m.series
        ), {chunks.whole("SELECT newest.run FROM ends")}
        SELECT {_SERIES}, coalesce(e.points, 0) AS points, e.first_time, e.last_time,
            e.newest.value AS last_value, e.newest."commit" AS last_commit, e.newest.run AS last_run,
            CASE WHEN e.series IS NOT NULL THEN coalesce(w.completeness, 'complete') END AS last_completeness
        FROM page s LEFT JOIN ends e ON e.series = s.series LEFT JOIN whole_runs w ON w.run = e.newest.run
        ORDER BY {_SERIES_ORDER}
    """
    return Listing(sql, parameters, Series, ("series",), limit)


def find_series(
    snapshot: Snapshot,
    project: str | None = None,
    *,
    text: str | None = None,
    benchmark: str | None = None,
    metric: str | None = None,
    unit: str | None = None,
    environment: str | None = None,
    limit: int = 100,
    after: str | None = None,
) -> Page[Series]:
    return list_series(
        snapshot,
        project=project,
        text=text,
        benchmark=benchmark,
        metric=metric,
        unit=unit,
        environment=environment,
        limit=limit,
        after=after,
    ).page(snapshot)


def series(snapshot: Snapshot, series_id: str) -> Series | None:
    found = list_series(snapshot, series=series_id, limit=1).page(snapshot).items
    return found[0] if found else None


def list_points(
    series_id: str,
    *,
    branch: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int,
    before: str | None = None,
) -> Listing[Point]:
    """The newest `limit` points before the cursor, oldest first. `since` (inclusive) and `until` are of `time`."""
    cursor = parse_cursor(before, tuple[datetime, Seq, Seq, Seq], "before")
    where, parameters = _where(
        branch is not None and ("branch = $branch", {"branch": branch}),
        since is not None and ("time >= $since", {"since": since}),
        until is not None and ("time < $until", {"until": until}),
        cursor is not None
        and (
            "(time, seq, ordinal, place) < ($at, $at_seq, $at_ordinal, $at_place)",
            {"at": cursor[0], "at_seq": cursor[1], "at_ordinal": cursor[2], "at_place": cursor[3]},
        ),
    )
    sql = f"""
        WITH {chunks.whole("SELECT run FROM measurements WHERE series = $series")}
        SELECT * FROM (
            SELECT coalesce(r.commit_time, w.started, r.started, r.received) AS time, m.value, m.min, m.max, m.median,
                m.stddev, m.n, r."commit", r.commit_subject, r.branch, r.run,
                coalesce(w.completeness, 'complete') AS completeness, r.submission, r.seq, r.ordinal,
                row_number() OVER (PARTITION BY m.seq, m.run ORDER BY m.rowid) AS place
            FROM measurements m JOIN runs r ON r.seq = m.seq AND r.run = m.run
            LEFT JOIN whole_runs w ON w.run = m.run
            WHERE m.series = $series AND r.duplicate_of IS NULL
        ) {where} ORDER BY time DESC, seq DESC, ordinal DESC, place DESC
    """
    order = ("time", "seq", "ordinal", "place")
    return Listing(sql, parameters | {"series": series_id}, Point, order, limit, turned=True)


def points(
    snapshot: Snapshot,
    series_id: str,
    *,
    branch: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 1000,
) -> list[Point]:
    """The newest `limit` points, oldest first."""
    return list_points(series_id, branch=branch, since=since, until=until, limit=limit).page(snapshot).items


# --- submissions ---


def list_submissions(filter: SubmissionFilter, *, limit: int, before: str | None = None) -> Listing[SubmissionRow]:
    """Newest entry of the log first."""
    for one in filter.states:
        if one not in STATES:
            raise Refused("state", "one of " + ", ".join(STATES), repr(one[:80]))
    cursor = parse_cursor(before, tuple[Seq], "before")
    where, parameters = _where(
        *_of_any_state(filter),
        bool(filter.states) and ("list_contains($state, state)", {"state": list(filter.states)}),
        cursor is not None and ("seq < $before", {"before": cursor[0]}),
    )
    columns = ", ".join(SubmissionRow.__struct_fields__)
    sql = f"SELECT {columns} FROM submission_states {where} ORDER BY seq DESC"
    return Listing(sql, parameters, SubmissionRow, ("seq",), limit)


def submissions(
    snapshot: Snapshot, filter: SubmissionFilter, limit: int = 100, before: str | None = None
) -> Page[SubmissionRow]:
    return list_submissions(filter, limit=limit, before=before).page(snapshot)


def submission(snapshot: Snapshot, submission_id: str) -> SubmissionStatus | None:
    """Where it stands and why, or None if the log has not announced it as far as it is loaded."""
    sql = """
        SELECT id, state, project, coalesce(format, '') AS format, sha256, size_bytes, media_type, received, seq,
            problems, problems_total, measurements, tests, unread, withdrawn, coalesce(reason, '') AS reason
        FROM submission_states WHERE id = $id ORDER BY seq DESC LIMIT 1
    """
    found: list[dict[str, Any]] = rows_of(snapshot.arrow(sql, {"id": submission_id}), dict)
    if not found:
        return None
    row = found[0]
    listed = snapshot.arrow(
        f"SELECT run FROM runs WHERE seq = $seq ORDER BY ordinal LIMIT {_MAX_RUNS_OF_SUBMISSION}", {"seq": row["seq"]}
    )
    row["problems"] = msgspec.convert(row["problems"] or [], list[Problem])
    row["unread"] = row["unread"] or {}
    return with_urls(SubmissionStatus(**row, runs=listed["run"].to_pylist()))


def with_urls(status: SubmissionStatus) -> SubmissionStatus:
    """With the address of the file, or of what says that it is withdrawn."""
    if status.state == "withdrawn":
        return msgspec.structs.replace(status, withdrawal_url="/" + keys.withdrawal(status.sha256))
    return msgspec.structs.replace(status, blob_url="/" + keys.blob(status.sha256))


def states(snapshot: Snapshot, filter: SubmissionFilter = EVERY_SUBMISSION) -> dict[str, int]:
    """How many submissions are in each state, whichever the filter names."""
    where, parameters = _where(*_of_any_state(filter))
    sql = f"SELECT state, count(*) AS submissions FROM submission_states {where} GROUP BY state"
    found = snapshot.arrow(sql, parameters).to_pylist()
    return dict.fromkeys(STATES, 0) | {row["state"]: row["submissions"] for row in found}


# --- parts of queries ---

_Condition = tuple[str, dict[str, Any]]


def _where(*conditions: _Condition | bool | None) -> tuple[str, dict[str, Any]]:
    """The WHERE clause of those conditions that apply, and all their parameters."""
    applying = [condition for condition in conditions if isinstance(condition, tuple) and condition]
    parameters = {name: value for _, given in applying for name, value in given.items()}
    return ("WHERE " + " AND ".join(sql for sql, _ in applying) if applying else ""), parameters


def _of_any_state(filter: SubmissionFilter) -> list[_Condition | bool]:
    of_runs, labels = _where(*_labelled(filter.labels))
    return [
        filter.project is not None and ("project = $project", {"project": filter.project}),
        filter.format is not None and ("format = $format", {"format": filter.format}),
        bool(of_runs) and (f"seq IN (SELECT seq FROM runs {of_runs})", labels),
    ]


def _labelled(labels: Mapping[str, str]) -> list[_Condition]:
    """A run that has all of them."""
    return [
        (f"labels[$label{n}] = $label{n}_value", {f"label{n}": key, f"label{n}_value": value})
        for n, (key, value) in enumerate(labels.items())
    ]


def _environment(environment: str) -> _Condition:
    return "$environment IN (environment, environment_title)", {"environment": environment}


def _rows_of_run(
    snapshot: Snapshot,
    run_id: str,
    after: str | None,
    *conditions: _Condition | bool,
    table: str,
    alias: str,
    columns: str,
) -> tuple[str, dict[str, Any]]:
    """The query of a run's rows in `table`, by submission and in the order of the file; what was sent again, once.

    Tests know their `place` themselves. Measurements of a submission are inserted together and never singly removed, so
    theirs is counted from the first. The range of seqs, known beforehand, lets DuckDB skip all other row groups.
    """
    seqs = chunks.counting_seqs(snapshot, run_id)
    span = {"seqs": seqs, "first": seqs[0] if seqs else None, "last": seqs[-1] if seqs else None}
    cursor = parse_cursor(after, tuple[Seq, Seq], "after")
    rows, place = f"{snapshot.tests_of(seqs)} {alias}", f"{alias}.place"
    if table != "tests":
        place = f"{alias}.rowid - b.base"
        rows = f"""{table} {alias} JOIN (
            SELECT seq, min(rowid) AS base FROM {table} WHERE seq BETWEEN $first AND $last GROUP BY seq
        ) b ON b.seq = {alias}.seq"""
    where, parameters = _where(
        (
            f"{alias}.run = $run AND {alias}.seq BETWEEN $first AND $last"
            f" AND {alias}.seq IN (SELECT unnest($seqs::BIGINT[]))",
            {"run": run_id, **span},
        ),
        *conditions,
        cursor is not None
        and (
            f"({alias}.seq > $at_seq OR ({alias}.seq = $at_seq AND {place} > $at_place))",
            {"at_seq": cursor[0], "at_place": cursor[1]},
        ),
    )
    sql = f"SELECT {columns}, {place} AS place FROM {rows} {where} ORDER BY {alias}.seq, {place}"
    return sql, parameters
