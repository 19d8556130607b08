"""Many Parquet files of one table as few, sorted and bounded in size. Same files in, same files out.

DuckDB sorts, on the disk where memory does not suffice; pyarrow writes, in the lake's own schema.
"""

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.dataset import dataset

from processor.part import ROW_GROUP_ROWS, parquet_options
from schemas.errors import Refused
from schemas.tables import TABLES

SORTED_BY = {
    "runs": ("seq", "ordinal"),
    "run_chunks": ("seq",),
    "measurements": ("series", "seq"),
    "tests": ("seq", "run"),
}
"""What the rows of a merged file are sorted by; rows that agree in these keep their order."""

FILE_BYTES = 128 << 20
"""A merged file that has reached this is full."""

FILE_ROWS = 5_000_000

_GROUP_BYTES = 64 << 20
_BATCH_ROWS = 20_480

Range = tuple[int, int]
"""First and last seq of a batch."""


@dataclass(frozen=True)
class Input:
    """A file to merge. Of one that is `outdated`, the rows of the ranges that have been replaced stay out.

    One alone keeps the order of its rows.
    """

    path: Path
    outdated: bool = False


@dataclass
class Merged:
    """A file that `merge` has made."""

    path: Path
    rows: int = 0
    first: int = 0
    last: int = 0
    lowest: dict[str, str] = field(default_factory=dict)
    highest: dict[str, str] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def merge(
    table: str,
    inputs: Sequence[Input],
    replaced: Sequence[Range],
    folder: Path,
    *,
    memory_limit: str,
    file_bytes: int = FILE_BYTES,
) -> Iterator[Merged]:
    """Files in `folder` that hold the inputs' rows, one after another as they get full; none if there are no rows.

    Raises Refused where an input has a column that this release does not know, and MemoryError where the rows are too
    large: DuckDB holds thousands of them at once.
    """
    with duckdb.connect(
        config={"memory_limit": memory_limit, "threads": 2, "temp_directory": str(folder / "overflow")}
    ) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        try:
            yield from _written(table, _sorted_rows(connection, table, inputs, replaced), folder, file_bytes)
        except duckdb.OutOfMemoryException as error:
            raise MemoryError(f"merge of {len(inputs)} files of {table}: {error}") from error


def outdated_rows(inputs: Sequence[Input], replaced: Sequence[Range]) -> int:
    """How many rows of the inputs stay out, as Parquet's own library counts them."""
    ranges = [(pc.field("seq") >= first) & (pc.field("seq") <= last) for first, last in replaced]
    paths = [one.path for one in inputs if one.outdated]
    if not ranges or not paths:
        return 0
    return int(dataset(paths, format="parquet").count_rows(filter=reduce(or_, ranges)))


def _sorted_rows(
    connection: duckdb.DuckDBPyConnection, table: str, inputs: Sequence[Input], replaced: Sequence[Range]
) -> Iterator[pa.Table]:
    """The rows, a row group at a time."""
    schema = TABLES[table]
    connection.register("no_rows", schema.empty_table())  # has all columns: parts of an earlier release may lack some
    paths = [str(one.path) for one in inputs]
    source = "read_parquet($paths, union_by_name = true, filename = true, file_row_number = true)"
    known = {*schema.names, "filename", "file_row_number"}
    described = connection.execute(f"DESCRIBE FROM {source}", {"paths": paths}).fetchall()
    if unknown := {name for name, *_ in described} - known:
        raise Refused(table, "columns that this release knows", f"{', '.join(sorted(unknown))}, of a newer one")
    columns = ", ".join(f'"{name}"' for name in schema.names)
    query = f"""
        WITH inputs AS (
            SELECT unnest($paths) AS filename, unnest($outdated::BOOLEAN[]) AS outdated,
                generate_subscripts($paths, 1) AS input
        ), replaced AS (SELECT unnest($firsts::BIGINT[]) AS first, unnest($lasts::BIGINT[]) AS last)
        SELECT {columns} FROM (
            SELECT *, NULL AS input, NULL AS file_row_number FROM no_rows
            UNION ALL BY NAME
            SELECT t.* EXCLUDE (filename), input FROM {source} t JOIN inputs USING (filename)
            WHERE NOT (outdated AND EXISTS (FROM replaced r WHERE t.seq BETWEEN r.first AND r.last))
        )
    """
    if len(inputs) > 1:
        query += f"ORDER BY {', '.join(SORTED_BY[table])}, input, file_row_number"
    found = connection.execute(
        query,
        {
            "paths": paths,
            "outdated": [one.outdated for one in inputs],
            "firsts": [first for first, _ in replaced],
            "lasts": [last for _, last in replaced],
        },
    ).to_arrow_reader(_BATCH_ROWS)
    for batches in _grouped(found):
        yield pa.Table.from_batches(batches).cast(schema)


def _grouped(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """As many as make a row group; fewer where rows are large."""
    group: list[pa.RecordBatch] = []
    for batch in batches:
        group.append(batch)
        if sum(one.num_rows for one in group) >= ROW_GROUP_ROWS or sum(one.nbytes for one in group) >= _GROUP_BYTES:
            yield group
            group = []
    if any(batch.num_rows for batch in group):
        yield group


def _written(table: str, groups: Iterable[pa.Table], folder: Path, file_bytes: int) -> Iterator[Merged]:
    sorted_by = SORTED_BY[table]
    options = parquet_options(table, ("seq", *sorted_by, "run"))
    made: Merged | None = None
    writer: Any = None
    numbers = itertools.count()
    for group in groups:
        if made is None:
            made = Merged(folder / f"{next(numbers)}.parquet")  # a name of its own: a bucket may have linked the last
            writer = pq.ParquetWriter(made.path, TABLES[table], **options)
        writer.write_table(group.unify_dictionaries(), row_group_size=group.num_rows)
        _note(made, group, sorted_by)
        if os.path.getsize(made.path) >= file_bytes or made.rows >= FILE_ROWS:
            writer.close()
            yield made
            made = None
    if made is not None:
        writer.close()
        yield made


def _note(made: Merged, rows: pa.Table, sorted_by: Sequence[str]) -> None:
    """What the file now holds."""
    seqs = pc.min_max(rows["seq"]).as_py()
    made.first = min(made.first or seqs["min"], seqs["min"])
    made.last = max(made.last, seqs["max"])
    made.rows += rows.num_rows
    if sorted_by[0] != "seq":
        found = pc.min_max(rows[sorted_by[0]]).as_py()
        made.lowest = {sorted_by[0]: min(made.lowest.get(sorted_by[0], found["min"]), found["min"])}
        made.highest = {sorted_by[0]: max(made.highest.get(sorted_by[0], found["max"]), found["max"])}
