"""Rows on their way into parts: gathered as columns, from many submissions, and turned into record batches in bulk.

Making a record batch costs as much as reading a small file, so small files share one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from schemas.tables import TABLES

BATCH_ROWS = 50_000

Columns = dict[str, list[Any]]

_NAMES = {table: tuple(schema.names) for table, schema in TABLES.items()}


class Rows:
    """Rows of all lake tables, in the order in which they came."""

    def __init__(self) -> None:
        self.size_bytes = 0
        """Of the record batches made so far."""
        self._columns: dict[str, Columns] = {}
        self._batches: dict[str, list[pa.RecordBatch]] = {name: [] for name in TABLES}

    def append(self, table: str, row: Mapping[str, Any]) -> None:
        """One row; `row` has every column of the table."""
        columns = self._columns.get(table)
        if columns is None:
            self._columns[table] = {name: [row[name]] for name in _NAMES[table]}
        else:
            for name, values in columns.items():
                values.append(row[name])

    def extend(self, table: str, columns: Columns) -> None:
        """Many rows, as columns of one length, which must not be used any more."""
        held = self._columns.get(table)
        if held is None:
            held = self._columns[table] = {name: columns[name] for name in _NAMES[table]}
        else:
            for name, values in held.items():
                values.extend(columns[name])
        if len(held["seq"]) >= BATCH_ROWS:
            self._make_batch(table)

    def add(self, table: str, batches: Sequence[pa.RecordBatch]) -> None:
        """Rows that are record batches already."""
        if batches:
            self._make_batch(table)
            self._batches[table] += batches
            self.size_bytes += sum(batch.nbytes for batch in batches)

    def take(self, other: "Rows") -> None:
        """All rows of `other`, which must not be used any more."""
        for table in TABLES:
            self.add(table, other._batches[table])
            if table in other._columns:
                self.extend(table, other._columns[table])

    def batches(self) -> dict[str, list[pa.RecordBatch]]:
        """Everything as record batches, per table."""
        for table in TABLES:
            self._make_batch(table)
        return self._batches

    def _make_batch(self, table: str) -> None:
        columns = self._columns.pop(table, None)
        if columns is not None:
            batch = pa.RecordBatch.from_pydict(columns, schema=TABLES[table])
            self._batches[table].append(batch)
            self.size_bytes += batch.nbytes
