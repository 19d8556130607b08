"""What rows of several submissions say together, kept level with each load: which of equal runs counts, and what
describes a series.

Both depend on the rows alone, not on the order in which they came: of equal runs the first in the submissions log
counts, and a series is described by its first measurement there.
"""

from dataclasses import dataclass, field

import duckdb

# Numbers of digests that more than one run has, some of these runs being new.
_REPEATED_DIGESTS = """
SELECT digest_number FROM runs
WHERE digest_number IN (SELECT digest_number FROM runs WHERE seq BETWEEN $first AND $last)
GROUP BY digest_number HAVING count(*) > 1
"""
_COUNT_EACH_DIGEST_ONCE = """
UPDATE runs SET duplicate_of = counted.duplicate_of
FROM (
    SELECT seq, run, CASE WHEN row_number() OVER same > 1 THEN first_value(run) OVER same END AS duplicate_of
    FROM runs WHERE digest_number IN (SELECT unnest($numbers::UBIGINT[]))
    WINDOW same AS (PARTITION BY project, digest ORDER BY seq, ordinal)
) AS counted
WHERE runs.seq = counted.seq AND runs.run = counted.run AND runs.duplicate_of IS DISTINCT FROM counted.duplicate_of
"""
# The measurement that comes first in the submissions log speaks for its series.
_EARLIER_SERIES = """
CREATE OR REPLACE TEMP TABLE earlier_series AS
SELECT m.series, m.seq FROM (
    SELECT series, min(seq) AS seq FROM measurements WHERE seq BETWEEN $first AND $last GROUP BY series
    UNION ALL
    SELECT series, min(seq) AS seq FROM measurements WHERE series IN (SELECT unnest($lost::VARCHAR[])) GROUP BY series
) m ANTI JOIN series s ON s.series = m.series AND s.first_seq <= m.seq
"""
_EARLIER_SPAN = "SELECT min(seq) AS first, max(seq) AS last FROM earlier_series"
_REMOVE_EARLIER_SERIES = "DELETE FROM series WHERE series IN (SELECT series FROM earlier_series)"
_INSERT_EARLIER_SERIES = """
INSERT INTO series BY NAME
SELECT DISTINCT ON (m.series) m.series, r.project, m.benchmark, m.params, m.metric, m.unit, m.better,
    m.benchmark_version, r.environment, r.environment_title, m.derived, m.seq AS first_seq
FROM measurements m JOIN earlier_series e ON e.series = m.series AND e.seq = m.seq
JOIN runs r ON r.seq = m.seq AND r.run = m.run
WHERE m.seq BETWEEN $first AND $last AND r.seq BETWEEN $first AND $last
ORDER BY m.series, m.seq, r.ordinal, m.rowid
"""


@dataclass
class Taken:
    """What revisions have taken rows from: digests of which another run may count now, series of which another
    measurement speaks."""

    anything: bool = False
    digest_numbers: list[int] = field(default_factory=list)
    series: list[str] = field(default_factory=list)


def take_away(writer: duckdb.DuckDBPyConnection, taken: Taken, first: int, last: int) -> None:
    """To be called before the rows of the submissions `first` to `last` are removed."""
    span = [first, last]
    numbers = writer.execute("SELECT digest_number FROM runs WHERE seq BETWEEN ? AND ?", span).fetchall()
    series = writer.execute("DELETE FROM series WHERE first_seq BETWEEN ? AND ? RETURNING series", span).fetchall()
    taken.anything = True
    taken.digest_numbers += [number for (number,) in numbers]
    taken.series += [one for (one,) in series]


def count_each_digest_once(writer: duckdb.DuckDBPyConnection, taken: Taken, *, first: int, last: int) -> None:
    """Renew `runs.duplicate_of` after rows of the submissions `first` to `last` have come."""
    repeated = writer.execute(_REPEATED_DIGESTS, {"first": first, "last": last}).fetchall()
    numbers = [number for (number,) in repeated] + taken.digest_numbers
    if numbers:
        writer.execute(_COUNT_EACH_DIGEST_ONCE, {"numbers": numbers})


def describe_series(writer: duckdb.DuckDBPyConnection, taken: Taken, *, first: int, last: int) -> None:
    """Renew `series` after measurements of the submissions `first` to `last` have come."""
    writer.execute(_EARLIER_SERIES, {"first": first, "last": last, "lost": taken.series})
    earliest, latest = writer.execute(_EARLIER_SPAN).fetchall()[0]
    if earliest is not None:
        writer.execute(_REMOVE_EARLIER_SERIES)
        writer.execute(_INSERT_EARLIER_SERIES, {"first": earliest, "last": latest})
