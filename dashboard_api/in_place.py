"""Tests of very large runs stay in their parts, which queries read where they are.

Loading millions of names into DuckDB takes longer than everything before it, and nobody looks at most of them. Parquet
answers what a page asks of one run: which status, which text, the next thousand. The file keeps parts that are smaller,
and, in `tests_in_place`, where the others lie: in a folder beside it, linked or copied from the bucket.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import duckdb

from infra.bucket import Bucket
from schemas.records import PartRef

LARGEST_LOADED = 50_000
"""Rows of a part of `tests` that is loaded; a larger one stays where it is."""

TABLES_SQL = "CREATE TABLE tests_in_place (first BIGINT, last BIGINT, file VARCHAR, base BIGINT);"


def folder_of(database: Path) -> Path:
    """Where the parts lie that belong to a database file."""
    return database.with_suffix(".parts")


def keep(bucket: Bucket, part: PartRef, folder: Path) -> str:
    """Have the part as a file in `folder`; its name there."""
    name = part.key.rpartition("/")[2]
    if (folder / name).exists():
        return name
    folder.mkdir(parents=True, exist_ok=True)
    coming = folder / f"{name}.coming"
    coming.unlink(missing_ok=True)
    with bucket.local_path(part.key) as path:
        try:
            os.link(path, coming)
        except OSError:  # another file system, or one without links
            shutil.copyfile(path, coming)
            with open(coming, "rb") as copied:
                os.fsync(copied.fileno())  # a name without its bytes would pass for a whole part after a power cut
    os.replace(coming, folder / name)
    return name


def remember(writer: duckdb.DuckDBPyConnection, first: int, last: int, file: str, base: int) -> None:
    """`file` holds tests of the submissions `first` to `last`, `base` rows after the batch's first."""
    writer.execute("INSERT INTO tests_in_place VALUES (?, ?, ?, ?)", [first, last, file, base])


def tests_of(cursor: duckdb.DuckDBPyConnection, folder: Path, seqs: Sequence[int]) -> str:
    """The SQL of a relation with all tests of the submissions `seqs`, loaded or in place, and perhaps of others.

    It has the columns of `tests`; `place` orders a submission's rows as its file did.
    """
    found = cursor.execute(
        "SELECT file, base FROM tests_in_place WHERE EXISTS "
        "(SELECT 1 FROM (SELECT unnest($seqs::BIGINT[]) AS seq) WHERE seq BETWEEN first AND last) ORDER BY first, base",
        {"seqs": list(seqs)},
    ).fetchall()
    if not found:
        return "tests"
    in_place = [
        f"SELECT * EXCLUDE (file_row_number), file_row_number + {base} AS place "
        f"FROM read_parquet({_quoted(folder / file)}, file_row_number = true)"
        for file, base in found
    ]
    # By name: parts of an earlier table version have fewer columns.
    return f"({' UNION ALL BY NAME '.join(['FROM tests', *in_place])})"


def sweep(cursor: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Remove files that no row names: of revised outcomes, and of loads that failed."""
    named = {file for (file,) in cursor.execute("SELECT file FROM tests_in_place").fetchall()}
    for path in _files(folder):
        if path.name not in named:
            path.unlink(missing_ok=True)


def missing(cursor: duckdb.DuckDBPyConnection, folder: Path) -> bool:
    """Whether somebody has removed a part; then the database must be made anew."""
    there = {path.name for path in _files(folder)}
    return any(file not in there for (file,) in cursor.execute("SELECT file FROM tests_in_place").fetchall())


def _files(folder: Path) -> Iterable[Path]:
    with contextlib.suppress(FileNotFoundError):
        return list(folder.iterdir())
    return []


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
