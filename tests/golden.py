"""The golden pairs: an input of a format beside the rows and problems that it must give.

`tests/formats/<format id>/<name>.<any ending>` is an input, `<name>.expected.json` beside it what comes of it. Inputs
are recognised by themselves; where a folder has a `benchmark.record.json`, they are declared as results of that
benchmark. After a deliberate change: `python -m tests.golden` rewrites all expectations; read the diff before you
commit it.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from processor.reading.decode import DecodeLimits
from processor.transform import Transformed, transform
from schemas import keys
from schemas.records import Benchmark, Blob, Commit, Context, Machine, Submission

FOLDER = Path(__file__).parent / "formats"
RECORD = "benchmark.record.json"
LEFT_OUT = {"seq", "run", "submission", "received", "series", "environment", "digest", "project", "trust"}
"""Columns that say who sent the file rather than what is in it."""


def make_submission(format: str = "auto", **context: Any) -> Submission:
    """A submission as `runfeed push` would make it, with fixed facts."""
    context.setdefault("commit", Commit(id="c" * 40, branch="main", time=datetime(2026, 1, 2, tzinfo=UTC)))
    context.setdefault(
        "machine", Machine(cpu="Example CPU", cores=8, ram_gib=16, os="Debian 12", runtime="CPython 3.12")
    )
    return Submission(
        id="a" * 64,
        nonce="0" * 32,
        project="golden",
        format=format,
        blob=Blob(sha256="b" * 64, size_bytes=0),
        context=Context(**context),
        received=datetime(2026, 1, 3, tzinfo=UTC),
    )


def transformed(
    data: bytes, format: str = "auto", *, benchmark: Benchmark | None = None, **context: Any
) -> Transformed:
    if benchmark:
        format = keys.benchmark_format(benchmark.name, benchmark.version)
    return transform(data, make_submission(format, **context), 7, DecodeLimits(), benchmark)


def benchmark_of(format: str) -> Benchmark | None:
    """The registered benchmark whose results a format's golden inputs are; None for formats that need none."""
    record = FOLDER / format / RECORD
    return msgspec.json.decode(record.read_bytes(), type=Benchmark) if record.exists() else None


def rows_of(result: Transformed, table: str) -> list[dict[str, Any]]:
    """The rows of one table as Python values."""
    if result.tables is None:
        return []
    return [row for batch in result.tables.batches[table] for row in batch.to_pylist()]


def as_golden(result: Transformed) -> dict[str, Any]:
    """What a golden file holds: verdict, format, problems, and each table's rows without empty values."""
    outcome = result.outcome
    tables = {} if result.tables is None else {name: rows_of(result, name) for name in result.tables.batches}
    shown = {
        name: [
            {key: _shown(value) for key, value in row.items() if key not in LEFT_OUT and value not in (None, "", [])}
            for row in rows
        ]
        for name, rows in tables.items()
        if rows
    }
    return {
        "verdict": outcome.verdict,
        "format": outcome.format,
        "problems": [f"{problem} ({problem.effect})" for problem in outcome.problems],
        "problems_total": outcome.problems_total,
        **({"unread": outcome.unread} if outcome.unread else {}),
        **shown,
    }


def pairs() -> list[tuple[str, Path, Path]]:
    """(format id, input, expectation) of every golden pair, found or to be made."""
    found = []
    for folder in sorted(FOLDER.iterdir()):
        for path in sorted(folder.iterdir()):
            if not path.name.endswith((".expected.json", RECORD)):
                found.append((folder.name, path, folder / f"{path.name.split('.')[0]}.expected.json"))
    return found


def _shown(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list):
        return [_shown(item) for item in value]
    if isinstance(value, tuple):
        return [_shown(item) for item in value]
    return value


if __name__ == "__main__":
    for format, source, expectation in pairs():
        made = as_golden(transformed(source.read_bytes(), benchmark=benchmark_of(format)))
        expectation.write_text(json.dumps(made, indent=1, ensure_ascii=True) + "\n")
        print(f"{source.relative_to(FOLDER)}: {made['verdict']}, {made['format']}")
    pa.default_memory_pool().release_unused()
