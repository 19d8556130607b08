"""The least that anybody must do with a wptreport: decode it, write its rows as Parquet, load them into DuckDB.

Prints the seconds of the three steps. No validation, no identities, no counts, no problems: the floor to compare with.
"""

import sys
import time
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq


class Subtest(msgspec.Struct, gc=False):
    name: str
    status: str
    message: str | None = None


class Result(msgspec.Struct, gc=False):
    test: str
    status: str
    message: str | None = None
    duration: float | None = None
    subtests: list[Subtest] = []


class Report(msgspec.Struct):
    results: list[Result]


def main(report: Path, folder: Path) -> None:
    data = report.read_bytes()
    started = time.perf_counter()
    results = msgspec.json.decode(data, type=Report).results
    decode = time.perf_counter() - started

    tests, subtests, statuses, messages = [], [], [], []
    for result in results:
        tests += [result.test] * (len(result.subtests) + 1)
        subtests += [None, *(subtest.name for subtest in result.subtests)]
        statuses += [result.status, *(subtest.status for subtest in result.subtests)]
        messages += [result.message, *(subtest.message for subtest in result.subtests)]
    table = pa.table(
        {
            "test": pa.array(tests).dictionary_encode(),
            "subtest": subtests,
            "status": pa.array(statuses).dictionary_encode(),
            "message": messages,
        }
    )
    parquet_path = folder / "plain.parquet"
    started = time.perf_counter()
    pq.write_table(table, parquet_path, compression="zstd")
    parquet = time.perf_counter() - started

    database = folder / "plain.duckdb"
    started = time.perf_counter()
    with duckdb.connect(str(database), config={"threads": 2}) as connection:
        connection.execute("CREATE TABLE tests AS SELECT * FROM read_parquet(?)", [str(parquet_path)])
    load = time.perf_counter() - started
    database.unlink()
    parquet_path.unlink()
    print(decode, parquet, load)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
