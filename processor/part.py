"""A part: rows of one table as a Parquet file, ready to be written into the lake. Pure: same rows, same bytes."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
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


def part_without(table: str, path: Path, seqs: Collection[int]) -> Part | None:
    """The part in the file `path` without the rows of these submissions; None if it has none of theirs.

    Nothing of those rows is left in the file, not even in a column's dictionary. A part without rows has no bytes.
    """
    with pq.ParquetFile(path) as file:
        rows = file.read()
    kept = rows.filter(pc.invert(_is_of(rows, seqs)))
    if kept.num_rows == rows.num_rows:
        return None
    if not kept.num_rows:
        return Part(table=table, body=b"", rows=0)
    columns = [_encoded_anew(kept[name]) for name in kept.column_names]
    kept = pa.Table.from_arrays(columns, schema=kept.schema)
    sink = pa.BufferOutputStream()
    pq.write_table(kept, sink, row_group_size=ROW_GROUP_ROWS, **parquet_options(table, _PRUNED_BY))
    return Part(table=table, body=bytes(sink.getvalue()), rows=kept.num_rows)


def part_holds(path: Path, seqs: Collection[int]) -> bool:
    """Whether the part in the file `path` has rows of any of these submissions."""
    with pq.ParquetFile(path) as file:
        return any(pc.any(_is_of(rows, seqs)).as_py() for rows in file.iter_batches(columns=["seq"]))


def _is_of(rows: pa.Table | pa.RecordBatch, seqs: Collection[int]) -> Any:
    """Of each row whether it is of one of these submissions."""
    return pc.is_in(rows["seq"], pa.array(list(seqs), pa.int64()))


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _encoded_anew(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A filter keeps the dictionary of all rows, and a file would hold it too."""
    if not pa.types.is_dictionary(column.type):
        return column
    return _decoded(column).combine_chunks().dictionary_encode().cast(column.type)


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
