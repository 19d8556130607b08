"""What comes of one file, decided here and now: the transform that a server runs, and its result as text or JSON. Pure.

Much of what is shown comes from strangers, so everything passes `plain`, which leaves a terminal nothing to obey.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from processor.reading.decode import Buffer, DecodeLimits
from processor.transform import Transformed, quarantined, transform
from schemas import keys
from schemas.records import Benchmark, Blob, Problem, Submission, SubmissionOutcome

_UNPRINTABLE = re.compile(r"[^\S ]|[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_INDENT = "  "
_MOST_CHARACTERS = 60
"""Of a cell in a table of text."""

_OF_THE_PUSH = {"seq", "run", "submission", "project", "received", "trust", "environment", "series", "digest"}
"""Columns that nobody knows before the file is pushed."""

COLUMNS = {
    "runs": ("title", "commit", "started", "environment_title", "measurements", "tests", "passed", "failed"),
    "measurements": ("benchmark", "params", "metric", "value", "unit", "better", "n", "benchmark_version"),
    "tests": ("test", "subtest", "status", "status_text", "duration_seconds", "message"),
}
"""What the tables show, in this order; a column without a value is left out."""


@dataclass(frozen=True)
class Checked:
    """One file's outcome, and the first rows of each table."""

    name: str
    outcome: SubmissionOutcome
    rows: Mapping[str, Sequence[Mapping[str, Any]]]

    def exit_status(self, *, strict: bool) -> int:
        """0 accepted, 1 rejected (strict: or a problem that was kept), 3 we failed."""
        if self.outcome.verdict == "quarantined":
            return 3
        return int(self.outcome.verdict == "rejected" or (strict and self.outcome.problems_total > 0))


def checked(
    name: str, data: Buffer, *, format: str, rows: int, now: datetime, benchmark: Benchmark | None = None
) -> Checked:
    """What a server would make of `data`, which are results of `benchmark` if that is given; never raises for them."""
    if benchmark:
        format = keys.benchmark_format(benchmark.name, benchmark.version)
    submission = Submission(
        id="0" * 64,
        nonce="0" * 32,
        project="check",
        format=format,
        blob=Blob(sha256="0" * 64, size_bytes=len(data)),
        received=now,
    )
    try:
        result = transform(data, submission, 1, DecodeLimits(), benchmark)
        return Checked(name, result.outcome, _first_rows(result, rows))
    except Exception as error:  # noqa: BLE001 - as the worker does: a bug is ours, and other files are still to check
        reason = f"{type(error).__name__}: {error}"
        return Checked(name, quarantined(submission.id, 1, reason).outcome, {})


def _first_rows(result: Transformed, count: int) -> dict[str, list[dict[str, Any]]]:
    if result.tables is None:
        return {}
    found = {}
    for table, batches in result.tables.batches.items():
        rows: list[dict[str, Any]] = []
        for batch in batches:
            rows += batch.slice(0, count - len(rows)).to_pylist()
        if rows:
            found[table] = [{name: value for name, value in row.items() if name not in _OF_THE_PUSH} for row in rows]
    return found


# --- text ---


def plain(text: object, limit: int = 1000) -> str:
    """`text` on one line without control characters; with an ellipsis where it is longer than `limit`."""
    line = _UNPRINTABLE.sub(" ", str(text)).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def verdict_line(checked: Checked) -> str:
    """File, verdict, format and counts."""
    outcome = checked.outcome
    counts = [
        f"{number:,} {noun}{'' if number == 1 else 's'}"
        for number, noun in ((outcome.runs, "run"), (outcome.measurements, "measurement"), (outcome.tests, "test"))
        if number
    ]
    said = ", ".join([outcome.format or "no format", *counts])
    return f"{plain(checked.name)}: {outcome.verdict} ({said})"


def report_lines(checked: Checked) -> Iterator[str]:
    """Every problem, what refused something first; then what the file says and no column holds."""
    outcome = checked.outcome
    if outcome.problems:
        yield f"{_INDENT}problems"
    beside = "noted" if outcome.verdict == "rejected" else "kept"  # of a rejected file nothing is kept
    for problem in _refused_first(outcome.problems):
        yield f"{_INDENT * 2}{beside if problem.effect == 'kept' else 'refused':<7}  {plain(problem)}"
    if (more := outcome.problems_total - len(outcome.problems)) > 0:
        yield f"{_INDENT * 2}and {more:,} more"
    if outcome.verdict == "rejected":
        yield f"{_INDENT}see: runfeed formats {outcome.format}".rstrip()
    if outcome.unread:
        yield f"{_INDENT}in no column (how often)"
        width = max(len(f"{count:,}") for count in outcome.unread.values())
        for name, count in outcome.unread.items():
            yield f"{_INDENT * 2}{count:>{width},}  {plain(name)}"


def _refused_first(problems: Sequence[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: problem.effect == "kept")


def shown_tables(checked: Checked) -> list[str]:
    """The tables with something to show."""
    return [table for table in COLUMNS if cells(checked, table)[0]]


def cells(checked: Checked, table: str) -> tuple[list[str], list[list[str]]]:
    """The names of a table's columns that hold something, and its first rows as text."""
    rows = checked.rows.get(table, ())
    nothing = (None, "", 0, "unknown") if table == "runs" else (None, "")
    columns = [name for name in COLUMNS[table] if any(row[name] not in nothing for row in rows)]
    return columns, [[_cell(row[name]) for name in columns] for row in rows]


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else plain(value, _MOST_CHARACTERS)


def table_title(checked: Checked, table: str) -> str:
    """The table's name, and of how many rows the first are shown."""
    shown, total = len(checked.rows[table]), getattr(checked.outcome, table)
    return table if shown == total else f"{table}, the first {shown:,} of {total:,}"


def table_lines(checked: Checked, table: str) -> Iterator[str]:
    """A table as aligned text."""
    columns, rows = cells(checked, table)
    widths = [max(len(row[at]) for row in [columns, *rows]) for at in range(len(columns))]
    yield f"{_INDENT}{table_title(checked, table)}"
    for row in [columns, *rows]:
        yield (_INDENT * 2 + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))).rstrip()


# --- JSON ---


def as_json(checked: Checked, exit_status: int) -> str:
    """One line of JSON: the outcome, and the first rows with all columns that the file decides."""
    outcome = checked.outcome
    said = msgspec.json.encode(
        {
            "file": plain(checked.name),
            "exit_status": exit_status,
            "verdict": outcome.verdict,
            "format": outcome.format,
            "runs": outcome.runs,
            "measurements": outcome.measurements,
            "tests": outcome.tests,
            "problems": [
                {name: getattr(problem, name) for name in ("where", "expected", "found", "effect")}
                for problem in _refused_first(outcome.problems)
            ],
            "problems_total": outcome.problems_total,
            "unread": outcome.unread,
            "rows": {table: [_jsonable(row) for row in rows] for table, rows in checked.rows.items()},
        }
    )
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", said.decode())


def _jsonable(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: dict(value) if name == "labels" else value for name, value in row.items() if value not in (None, "", [])
    }
