"""Runs that came in chunks, read as one run: which parts are here, and in what they contradict each other.

Chunks share the run id; each is a row of `runs` with its own `seq`. Nothing is rewritten when one arrives: what the
whole run is, and whether it may be trusted as one, are questions, answered here.

- A run is `partial` while a number from 1 to the largest total that was named is missing.
- It is a `conflict` when submissions contradict each other: one chunk number with different contents, different totals,
  a fact or label of the run that differs (silence contradicts nothing, and a build's or chunk's own number may differ),
  or one test in two chunks (`repeats`).
- The same content sent again is no conflict: its rows count once. Conflicting contents all count, since nobody can say
  which is right.
- `started` is the first chunk's, `finished` the last's; all other facts are those of the chunk first in the log.
"""

from dashboard_api.database import Snapshot
from dashboard_api.paging import Listing, Seq, parse_cursor, rows_of
from dashboard_api.resources import ChunkRow, Completeness, Conflict

MISSING_LISTED = 100
CONFLICTS_LISTED = 100
"""Of one run, tests in two chunks besides."""

_SAID_AT_MOST = 10  # different values of one conflict
_OWN_LABEL = r"(^|[_.\-])(build|buildid|job|jobid|chunk|shard|worker|attempt)([_.\-]?(id|no|number|index|url|name))?$"
_FACTS = {
    "title": "title",
    "commit": '"commit"',
    "branch": "branch",
    "environment": "environment_title || ' (' || environment || ')'",
    "format": "format",
}

SHOWN = ("completeness", "chunks_present", "chunks_expected")
"""What lists show of each run; `joined` gives them."""


def whole(of: str) -> str:
    """CTEs about those runs in chunks whose ids the query `of` gives.

    `pieces` has a row per chunk that was sent, `conflicts` one per contradiction, `whole_runs` one per run. A run that
    came in one file is in none of them.
    """
    said = "\n    UNION ALL ".join(
        f"SELECT run, '{kind}' AS kind, '' AS name, {value} AS value, submission, seq FROM pieces"
        for kind, value in {"total": "chunks::VARCHAR", **_FACTS}.items()
    )
    return f"""
pieces AS MATERIALIZED (
    SELECT c.run, c.run_group, c.chunk, c.chunks, r.* EXCLUDE (run),
        row_number() OVER (PARTITION BY c.run, r.digest ORDER BY c.seq) > 1 AS repeats
    FROM run_chunks c JOIN runs r ON r.seq = c.seq AND r.run = c.run WHERE c.run IN ({of})
), said AS (
    SELECT run, 'chunk' AS kind, chunk::VARCHAR AS name, digest AS value, submission, seq FROM pieces
    UNION ALL {said}
    UNION ALL SELECT run, 'label' AS kind, label.key AS name, label.value, submission, seq
        FROM (SELECT run, unnest(map_entries(labels)) AS label, submission, seq FROM pieces)
        WHERE NOT regexp_matches(lower(label.key), '{_OWN_LABEL}')
), conflicts AS MATERIALIZED (
    SELECT run, kind, name, list(value ORDER BY seq)[:{_SAID_AT_MOST}] AS values,
        list(submission ORDER BY seq)[:{_SAID_AT_MOST}] AS submissions
    FROM (
        SELECT run, kind, name, value, arg_min(submission, seq) AS submission, min(seq) AS seq
        FROM said WHERE value <> '' GROUP BY run, kind, name, value
    ) GROUP BY run, kind, name HAVING count(*) > 1
), counted AS (
    SELECT run, arg_min(run_group, seq) AS run_group, min(started) AS started, max(finished) AS finished,
        coalesce(sum(measurements) FILTER (NOT repeats), 0)::BIGINT AS measurements,
        coalesce(sum(tests) FILTER (NOT repeats), 0)::BIGINT AS tests,
        coalesce(sum(passed) FILTER (NOT repeats), 0)::BIGINT AS passed,
        coalesce(sum(failed) FILTER (NOT repeats), 0)::BIGINT AS failed,
        CASE WHEN bool_and(coalesce(duplicate_of <> run, false)) THEN arg_min(duplicate_of, seq) END AS duplicate_of,
        count(DISTINCT chunk)::INTEGER AS chunks_present, max(chunks) AS chunks_expected
    FROM pieces GROUP BY run
), missing AS (
    SELECT run, list(chunk ORDER BY chunk)[:{MISSING_LISTED}] AS chunks_missing
    FROM (
        SELECT run, unnest(range(1, least(chunks_expected, chunks_present + {MISSING_LISTED}) + 1))::INTEGER AS chunk
        FROM counted
    ) ANTI JOIN pieces USING (run, chunk) GROUP BY run
), whole_runs AS MATERIALIZED (
    SELECT c.*, coalesce(m.chunks_missing, []) AS chunks_missing,
        CASE WHEN c.run IN (SELECT run FROM conflicts UNION ALL SELECT run FROM repeated_tests) THEN 'conflict'
            WHEN c.chunks_present < c.chunks_expected THEN 'partial' ELSE 'complete' END AS completeness
    FROM counted c LEFT JOIN missing m ON m.run = c.run
)"""


def column(name: str, alias: str = "r") -> str:
    """The column `name` of a row of `runs` joined with its `whole_runs w`: the whole run's where it came in chunks."""
    if name == "completeness":
        return "coalesce(w.completeness, 'complete') AS completeness"
    if name in ("run_group", "chunks_present", "chunks_expected", "chunks_missing"):
        return f"w.{name}"
    if name in ("started", "finished", "measurements", "tests", "passed", "failed", "duplicate_of"):
        return f"CASE WHEN w.run IS NULL THEN {alias}.{name} ELSE w.{name} END AS {name}"
    return f'{alias}."{name}"'


LATER = """
SELECT seq, run FROM run_chunks QUALIFY row_number() OVER (PARTITION BY run ORDER BY seq) > 1
"""
"""All chunks but the first of each run in the log, which stands for the run in lists."""


def repeating(of: str) -> str:
    """Chunks (seq, run) of the runs in the query `of` that bring what an earlier one of the same run brought."""
    return f"""
        SELECT c.seq, c.run FROM run_chunks c JOIN runs r ON r.seq = c.seq AND r.run = c.run WHERE c.run IN ({of})
        QUALIFY row_number() OVER (PARTITION BY c.run, r.digest ORDER BY c.seq) > 1
    """


def counting_seqs(snapshot: Snapshot, run: str) -> list[int]:
    """The submissions whose rows are the run's, in the order of the log: one, or one per chunk and content."""
    table = snapshot.arrow(
        """
        SELECT seq FROM (
            SELECT seq, row_number() OVER (PARTITION BY digest ORDER BY seq) AS place FROM runs WHERE run = $run
        ) WHERE place = 1 ORDER BY seq
        """,
        {"run": run},
    )
    seqs: list[int] = table["seq"].to_pylist()
    return seqs


def list_chunks(run: str, limit: int, after: str | None = None) -> Listing[ChunkRow]:
    """Everything that was sent of the run's chunks, by number, then in the order of the log."""
    cursor = parse_cursor(after, tuple[Seq, Seq], "after")
    condition, parameters = "", {"run": run}
    if cursor is not None:
        condition = "WHERE (chunk, seq) > ($at_chunk, $at_seq)"
        parameters |= {"at_chunk": cursor[0], "at_seq": cursor[1]}  # type: ignore[dict-item]
    columns = ", ".join(f'"{name}"' for name in ChunkRow.__struct_fields__)
    sql = f"WITH {whole('SELECT $run')} SELECT {columns} FROM pieces {condition} ORDER BY chunk, seq"
    return Listing(sql, parameters, ChunkRow, ("chunk", "seq"), limit)


def chunks(snapshot: Snapshot, run: str, limit: int) -> list[ChunkRow]:
    return list_chunks(run, limit).page(snapshot).items


def completeness(snapshot: Snapshot, run: str) -> Completeness:
    """How much of a run is here and what contradicts what; `complete` for one that came in one file."""
    found = snapshot.rows(
        f"""
        WITH {whole("SELECT $run")}
        SELECT run, completeness, run_group, chunks_present, chunks_expected, chunks_missing,
            (SELECT count(*) FROM conflicts) AS total, r.total AS tests_total, r.examples
        FROM whole_runs LEFT JOIN repeated_tests r USING (run)
        """,
        {"run": run},
    )
    if not found:
        return Completeness(run=run, completeness="complete")
    row = found[0]
    table = snapshot.arrow(
        f"""
        WITH {whole("SELECT $run")}
        SELECT kind, name, NULL::VARCHAR AS subtest, values, submissions FROM conflicts
        ORDER BY kind <> 'chunk', kind, try_cast(name AS INTEGER) NULLS LAST, name LIMIT {CONFLICTS_LISTED}
        """,
        {"run": run},
    )
    tests = [
        Conflict(
            kind="test",
            name=one["test"],
            subtest=one["subtest"],
            values=one["statuses"],
            submissions=one["submissions"],
        )
        for one in row["examples"] or []
    ]
    return Completeness(
        run=run,
        completeness=row["completeness"],
        run_group=row["run_group"],
        chunks_present=row["chunks_present"],
        chunks_expected=row["chunks_expected"],
        chunks_missing=row["chunks_missing"],
        conflicts=[*rows_of(table, Conflict), *tests],
        conflicts_total=row["total"] + (row["tests_total"] or 0),
    )
