"""What a withdrawal takes away. It names a blob by its digest, and every submission of that blob is withdrawn: those
that the log has, and those that follow, whatever an outcome says of them.

Rows go in the transaction that loads the withdrawal's entry, or, if that came first, the outcome's: what is shown of a
data version does not depend on the order. The revision of the outcome, which comes later, finds nothing left to take.
"""

from collections.abc import Sequence
from typing import Any

import duckdb

from dashboard_api import derived
from schemas.records import Entry, Outcome
from schemas.tables import TABLES

_NOTE = """
INSERT INTO withdrawals SELECT $seq, $sha256, $reason, $withdrawn
WHERE NOT EXISTS (FROM withdrawals WHERE sha256 = $sha256)
"""
# All submissions of what is withdrawn now, and those of new entries or outcomes that were withdrawn before.
_WITHDRAWN = """
SELECT seq, title <> '' AS titled FROM submissions WHERE sha256 IN (SELECT unnest($digests::VARCHAR[]))
UNION SELECT s.seq, s.title <> '' FROM submissions s SEMI JOIN withdrawals w USING (sha256)
WHERE s.seq BETWEEN $first AND $last
"""
_SHOWN = (
    "SELECT seq FROM outcomes WHERE seq IN (SELECT unnest($seqs::BIGINT[])) AND verdict <> 'withdrawn' ORDER BY seq"
)
_EMPTY_OUTCOMES = """
UPDATE outcomes SET verdict = 'withdrawn', problems = [], problems_total = 0, runs = 0, measurements = 0, tests = 0,
    unread = MAP {} WHERE seq IN (SELECT unnest($seqs::BIGINT[]))
"""
_FORGET_PARTS = """
DELETE FROM tests_in_place p WHERE p.first <= $last AND p.last >= $first
AND NOT EXISTS (FROM submissions s ANTI JOIN withdrawals w USING (sha256) WHERE s.seq BETWEEN p.first AND p.last)
"""


def note(writer: duckdb.DuckDBPyConnection, entries: Sequence[Entry]) -> int:
    """Remember what `entries` withdraw; of several that withdraw one blob, the first. Returns the last one's seq, or 0
    if they withdraw nothing."""
    last = 0
    for entry in entries:
        if entry.withdraws:
            last = entry.seq
            writer.execute(
                _NOTE,
                {
                    "seq": entry.seq,
                    "sha256": entry.withdraws,
                    "reason": entry.summary,
                    "withdrawn": entry.published,
                },
            )
    return last


def take_away(
    writer: duckdb.DuckDBPyConnection, taken: derived.Taken, entries: Sequence[Entry], outcomes: Sequence[Outcome]
) -> None:
    """Remove what the file shows of withdrawn submissions, and note in `taken` what must be looked at without it.

    `entries` and `outcomes` are those that were inserted since the last time.
    """
    if writer.execute("SELECT count(*) FROM withdrawals").fetchall() == [(0,)]:
        return
    seqs = [entry.seq for entry in entries]
    seqs += [seq for outcome in outcomes for seq in (outcome.first, outcome.last)]
    found: list[tuple[Any, ...]] = writer.execute(
        _WITHDRAWN,
        {
            "digests": [entry.withdraws for entry in entries if entry.withdraws],
            "first": min(seqs, default=0),
            "last": max(seqs, default=-1),
        },
    ).fetchall()
    # Titles are made of what the sender wrote.
    titled = [seq for seq, has_title in found if has_title]
    writer.execute("UPDATE submissions SET title = '' WHERE seq IN (SELECT unnest(?::BIGINT[]))", [titled])
    shown = [seq for (seq,) in writer.execute(_SHOWN, {"seqs": [seq for seq, _ in found]}).fetchall()]
    for seq in shown:
        derived.take_away(writer, taken, seq, seq)
    for table in TABLES if shown else ():
        writer.execute(f"DELETE FROM {table} WHERE seq IN (SELECT unnest(?::BIGINT[]))", [shown])
    writer.execute(_EMPTY_OUTCOMES, {"seqs": shown})
    if shown:
        writer.execute(_FORGET_PARTS, {"first": shown[0], "last": shown[-1]})
