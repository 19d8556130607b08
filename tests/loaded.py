"""A Database filled by hand: what the loader would have made of submissions that never existed."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from dashboard_api import repeats
from dashboard_api.database import Database
from infra.folder import FolderBucket
from schemas import identity
from schemas.tables import MEASUREMENTS, RUN_CHUNKS, RUNS, TESTS

START = datetime(2026, 3, 1, tzinfo=UTC)
SCHEMAS = {"runs": RUNS.append(pa.field("duplicate_of", pa.string()))} | {
    "run_chunks": RUN_CHUNKS,
    "measurements": MEASUREMENTS,
    "tests": TESTS.append(pa.field("place", pa.int64())),
}
_RUN = {
    "project": "engine",
    "format": "runfeed",
    "title": "suite",
    "commit_parents": [],
    "environment": "e" * 24,
    "environment_title": "lab",
    "labels": {},
    "trust": "local",
    "measurements": 0,
    "tests": 0,
    "passed": 0,
    "failed": 0,
}


class Source:
    """A DashboardSource over one Database, which a test may swap."""

    def __init__(self, folder: Path) -> None:
        self.public = FolderBucket(folder / "public")
        self.current = Database(folder / "v1.duckdb", 1)

    def database(self) -> Database:
        return self.current


def submission_id(seq: int) -> str:
    return f"{seq:064x}"


def add_submission(
    database: Database,
    seq: int,
    runs: Sequence[dict[str, Any]] = (),
    *,
    project: str = "engine",
    received: datetime | None = None,
    verdict: str | None = "accepted",
    problems: Sequence[dict[str, str]] = (),
    unread: dict[str, int] | None = None,
    title: str = "",
    sha256: str = "b" * 64,
) -> None:
    """Load submission `seq`, with its outcome unless `verdict` is None, in one transaction with the cursors.

    A run may name any column of `runs`, besides `values` ({benchmark: value} or rows of measurements), `results` (rows
    of tests) and `chunk` (i, n).
    """
    at = received or START + timedelta(minutes=seq)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in SCHEMAS}
    for ordinal, given in enumerate(runs):
        _add_run(rows, seq, ordinal, {"project": project, "received": at, **given})
    writer = database.writer
    writer.begin()
    for table, made in rows.items():
        _insert(database, table, pa.Table.from_pylist(made, schema=SCHEMAS[table]))
    writer.execute(
        "INSERT INTO submissions VALUES (?, ?, ?, ?, ?, 10, 'text/plain', ?, ?, ?)",
        [seq, seq, submission_id(seq), project, sha256, title, at, at],
    )
    if verdict:
        counts = [len(rows[table]) for table in ("runs", "measurements", "tests")]
        writer.execute(
            "INSERT INTO outcomes VALUES (?, ?, 'runfeed', 0, 1, ?, ?, ?, ?, ?, ?, ?)",
            [seq, verdict, at, list(problems) or None, len(problems), *counts, unread],
        )
        _move_cursor(database, "outcomes-v1", seq)
    _move_cursor(database, "submissions", seq)
    _add_series(database)
    repeats.find(writer, database.parts, first=seq, last=seq, revised=False)
    writer.commit()


def _add_run(rows: dict[str, list[dict[str, Any]]], seq: int, ordinal: int, given: dict[str, Any]) -> None:
    values, results, chunk = given.pop("values", {}), given.pop("results", []), given.pop("chunk", None)
    run = (
        _RUN
        | {"run": f"run-{seq}-{ordinal}", "seq": seq, "ordinal": ordinal, "submission": submission_id(seq)}
        | {"digest": f"digest of {seq}-{ordinal}"}
        | given
    )
    place = {"seq": seq, "run": run["run"]}
    if isinstance(values, dict):
        values = [{"benchmark": name, "value": value} for name, value in values.items()]
    for value in values:
        row = {
            "params": "",
            "metric": "time",
            "unit": "s",
            "better": "lower",
            "benchmark_version": "",
            "derived": False,
        }
        row |= place | value
        row["series"] = identity.series_id(
            project=run["project"],
            environment=run["environment"],
            **{name: row[name] for name in ("benchmark", "params", "metric", "unit", "better", "benchmark_version")},
        )
        rows["measurements"].append(row)
    rows["tests"] += [place | {"place": len(rows["tests"]) + n} | result for n, result in enumerate(results)]
    if chunk:
        rows["run_chunks"].append(
            {**place, "submission": run["submission"], "run_group": "g", "chunk": chunk[0], "chunks": chunk[1]}
        )
    run |= {"measurements": len(values), "tests": len(results), "labels": list(run["labels"].items())}
    rows["runs"].append(run)


def _insert(database: Database, table: str, rows: pa.Table) -> None:
    database.writer.register("given", rows)
    database.writer.execute(f"INSERT INTO {table} BY NAME SELECT * FROM given")
    database.writer.unregister("given")


def _move_cursor(database: Database, log: str, seq: int) -> None:
    database.writer.execute("DELETE FROM cursors WHERE log = ?", [log])
    database.writer.execute("INSERT INTO cursors VALUES (?, ?)", [log, seq])


def _add_series(database: Database) -> None:
    database.writer.execute("""
        INSERT INTO series BY NAME
        SELECT DISTINCT ON (m.series) m.series, r.project, m.benchmark, m.params, m.metric, m.unit, m.better,
            m.benchmark_version, r.environment, r.environment_title, m.derived
        FROM measurements m JOIN runs r ON r.seq = m.seq AND r.run = m.run
        WHERE m.series NOT IN (SELECT series FROM series)
    """)
