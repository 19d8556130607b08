"""Tests that stand in two chunks of one run: found once, when a chunk is loaded, since it takes a look at all of its
run's tests. What else chunks disagree in is cheap to ask, and asked when it is wanted (`chunks`).

A test that a single chunk holds several times (retries) is none of these, nor is one that two submissions of the same
chunk number hold: that chunk itself is the conflict then.
"""

import duckdb

from dashboard_api import in_place
from schemas.errors import Unavailable

EXAMPLES = 50
"""Tests named per run; all are counted."""

_AFFECTED = """
SELECT c.run, list(DISTINCT o.seq ORDER BY o.seq) FILTER (o.seq IS NOT NULL) AS seqs FROM (
    SELECT DISTINCT run FROM run_chunks WHERE seq BETWEEN $first AND $last
    UNION SELECT run FROM repeated_tests WHERE $revised
) c LEFT JOIN run_chunks o ON o.run = c.run GROUP BY c.run
"""
# By the names' hash: a run may have millions of long names, and of repeated ones only some are shown.
_REPEATED = """
WITH chunk_tests AS (
    SELECT hash(t.test, t.subtest) AS name_hash, c.chunk, c.submission, t.test, t.subtest, t.status, t.seq,
        t.place
    FROM {tests} t JOIN run_chunks c ON c.seq = t.seq AND c.run = t.run
    WHERE t.run = $run AND t.seq BETWEEN $first AND $last
), repeated AS MATERIALIZED (
    SELECT name_hash, min((seq, place)) AS place FROM chunk_tests GROUP BY name_hash HAVING min(chunk) < max(chunk)
), shown AS (
    SELECT r.place, any_value(t.test) AS test, any_value(t.subtest) AS subtest,
        list(t.status ORDER BY t.seq, t.place) AS statuses, list(t.submission ORDER BY t.seq, t.place) AS submissions
    FROM chunk_tests t JOIN (SELECT * FROM repeated ORDER BY place LIMIT $examples) r USING (name_hash)
    GROUP BY r.place
)
SELECT (SELECT count(*) FROM repeated) AS total, list({{'test': test, 'subtest': subtest, 'statuses': statuses[:10],
    'submissions': submissions[:10]}} ORDER BY place) AS examples
FROM shown HAVING count(*) > 0
"""


def find(writer: duckdb.DuckDBPyConnection, parts: in_place.Parts, *, first: int, last: int, revised: bool) -> None:
    """Renew `repeated_tests` for the runs of which a chunk lies in the submissions `first` to `last`.

    `parts` are those that are read in place. `revised`: some submissions replaced others, which may have
    taken a repetition away.
    """
    affected = writer.execute(_AFFECTED, {"first": first, "last": last, "revised": revised}).fetchall()
    for run, seqs in affected:
        writer.execute("DELETE FROM repeated_tests WHERE run = ?", [run])
        if len(seqs or ()) > 1:
            try:
                tests = in_place.tests_of(writer, parts, seqs)
            except Unavailable as error:
                if isinstance(error.__cause__, FileNotFoundError):
                    continue  # until the revision comes for which the part went
                raise
            sql = _REPEATED.format(tests=tests)
            span = {"run": run, "first": seqs[0], "last": seqs[-1], "examples": EXAMPLES}
            writer.execute(f"INSERT INTO repeated_tests SELECT $run, * FROM ({sql})", span)
