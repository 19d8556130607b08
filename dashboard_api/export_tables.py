"""All columns of a run's rows, as CSV and as Parquet. Pure.

CSV is written as everywhere in the API: null is empty, lists are JSON text. Parquet's metadata has the run under the
key `runfeed.run`, and under `runfeed.parts` how much of a run in chunks this is; CSV has no place for either.
"""

import csv
import io
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from dashboard_api.answers import csv_cell
from dashboard_api.export_source import TABLES, Source

_WORDS = {"run", "benchmark", "metric", "unit", "better", "params", "benchmark_version", "status", "status_text"}
"""Columns whose text repeats."""

_GROUP_ROWS = 100_000


def write_csv(source: Source) -> Iterator[bytes]:
    columns = TABLES[source.table].__struct_fields__
    yield _lines([columns])
    for batch in source.batches:
        cells = [[csv_cell(value) for value in column.to_pylist()] for column in batch.select(list(columns)).columns]
        yield _lines(zip(*cells, strict=True))


def _lines(rows: Any) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


class _Pieces(io.RawIOBase):
    """A file that is taken away as it is written."""

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._held.append(piece)
        self._written += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._written

    def taken(self) -> bytes:
        held, self._held = self._held, []
        return b"".join(held)


def write_parquet(source: Source) -> Iterator[bytes]:
    pieces = _Pieces()
    writer: pq.ParquetWriter | None = None
    waiting: list[pa.RecordBatch] = []
    for batch in source.batches:
        if writer is None:
            about = {"runfeed.run": msgspec.json.encode(source.run), "runfeed.parts": source.parts}
            schema = batch.schema.with_metadata({name: value for name, value in about.items() if value})
            words = [name for name in schema.names if name in _WORDS]
            writer = pq.ParquetWriter(pieces, schema, compression="zstd", use_dictionary=words)
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= _GROUP_ROWS:
            writer.write_table(pa.Table.from_batches(waiting, writer.schema))
            waiting = []
            yield pieces.taken()
    if writer is not None:
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting, writer.schema))
        writer.close()
    yield pieces.taken()
