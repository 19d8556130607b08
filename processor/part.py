"""A part: rows of one table as a Parquet file, ready to be written into the lake. Pure: same rows, same bytes."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.tables import TABLES

ROW_GROUP_ROWS = 122_880
"""DuckDB's own row group, so that one is loaded as it is."""

_PRUNED_BY = ("seq", "run", "test", "benchmark")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one table as a Parquet file."""

    table: str
    body: bytes
    rows: int


def make_parts(batches: Mapping[str, Sequence[pa.RecordBatch]]) -> list[Part]:
    """A part per table that has rows."""
    parts = []
    for table, of_table in batches.items():
        if rows := sum(batch.num_rows for batch in of_table):
            parts.append(Part(table=table, body=parquet_bytes(table, of_table), rows=rows))
    return parts


def parquet_bytes(table: str, batches: Sequence[pa.RecordBatch]) -> bytes:
    """One table's rows as a Parquet file."""
    rows = pa.Table.from_batches(batches, schema=TABLES[table]).unify_dictionaries()
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, row_group_size=ROW_GROUP_ROWS, **parquet_options(table, _PRUNED_BY))
    return bytes(sink.getvalue())


def parquet_options(table: str, pruned_by: Sequence[str]) -> dict[str, Any]:
    """How `table` is written: zstd, repeating text dictionary-encoded, other text as what differs from the text before
    it, since neighbours are alike. Only columns that queries prune by have statistics.
    """
    schema = TABLES[table]
    return {
        "compression": "zstd",
        "write_page_index": False,
        "use_dictionary": ["seq", *(field.name for field in schema if pa.types.is_dictionary(field.type))],
        "column_encoding": {field.name: "DELTA_BYTE_ARRAY" for field in schema if pa.types.is_string(field.type)},
        "write_statistics": [name for name in pruned_by if name in schema.names],
    }
