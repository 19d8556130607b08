"""What an export is made from: one run, its rows as they come from the database, and what the target cannot carry.

The rows are a stream of record batches: a run may have millions, and only a batch of them is Python objects at a time.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pyarrow as pa

from dashboard_api import chunks
from dashboard_api.database import Snapshot
from dashboard_api.paging import rows_of
from dashboard_api.resources import Measurement, Run, Test

BATCH_ROWS = 10_000
NAMED = 10
"""Names of what was left out, per reason; the rest is counted."""

TABLES = {"measurements": Measurement, "tests": Test}


@dataclass
class LeftOut:
    """What the target cannot carry, by reason. Complete once the export has been written."""

    reasons: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str, name: str = "", count: int = 1) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + count
        names = self.reasons.setdefault(reason, [])
        if name and len(names) < NAMED and name not in names:
            names.append(name)

    def __str__(self) -> str:
        """`3 measurements that are no times (index/size entries, …)`; empty if nothing was left out."""
        return "; ".join(
            f"{count} {reason}" + (f" ({', '.join(self.reasons[reason])})" if self.reasons[reason] else "")
            for reason, count in self.counts.items()
        )


@dataclass(frozen=True)
class Source:
    """One run on its way into a file of another format."""

    run: Run
    table: str
    batches: Iterable[pa.RecordBatch]
    """Of the columns of `TABLES[table]`, in the order that the target asked for."""
    statuses: Mapping[str, int] = field(default_factory=dict)
    """Tests by status."""
    left_out: LeftOut = field(default_factory=LeftOut)

    def rows(self) -> Iterator[Any]:
        """The rows as Structs of `TABLES[table]`."""
        for batch in self.batches:
            yield from rows_of(pa.Table.from_batches([batch]), TABLES[self.table])

    @property
    def parts(self) -> str:
        """How much of the run this is, if it came in chunks: `partial: 2 of 4 chunks`."""
        run = self.run
        if run.chunks_expected is None:
            return ""
        return f"{run.completeness}: {run.chunks_present} of {run.chunks_expected} chunks"


def read_batches(snapshot: Snapshot, run: str, table: str, order: str = "") -> Iterator[pa.RecordBatch]:
    """The run's rows in `table`, in the order of its files unless `order` (columns) says otherwise.

    The snapshot can answer nothing else until the last batch has come.
    """
    columns = ", ".join(f'"{name}"' for name in TABLES[table].__struct_fields__)
    seqs = chunks.counting_seqs(snapshot, run)
    place = "place" if table == "tests" else "rowid"
    for some in [seqs] if order else [[seq] for seq in seqs]:
        rows = snapshot.tests_of(some) if table == "tests" else table
        sql = f"""
            SELECT {columns} FROM {rows}
            WHERE run = $run AND seq BETWEEN $first AND $last AND seq IN (SELECT unnest($seqs::BIGINT[]))
            ORDER BY {f"{order}, seq, {place}" if order else place}
        """
        given = {"run": run, "seqs": some, "first": min(some), "last": max(some)}
        yield from snapshot.cursor.execute(sql, given).to_arrow_reader(BATCH_ROWS)


def encoded(value: Any) -> bytes:
    """JSON."""
    return msgspec.json.encode(value)


def decoded(text: str | None) -> dict[str, Any]:
    """A column that holds a JSON object, as a dict; empty if it holds none."""
    if not text:
        return {}
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def joined(head: bytes, items: Iterable[bytes], tail: bytes, separator: bytes = b",\n") -> Iterator[bytes]:
    """`head`, the items with `separator` between them, and `tail`."""
    yield head
    first = True
    for item in items:
        yield item if first else separator + item
        first = False
    yield tail


Write = Callable[[Source], Iterator[bytes]]
"""A target: the run's rows in, the file's bytes out, a piece at a time. Pure."""
