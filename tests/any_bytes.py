"""What must hold of whatever comes of any bytes: tables or named problems, within bounds, and nothing else."""

import json
from collections.abc import Iterator
from typing import Any, NoReturn

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from processor.part import make_parts
from processor.tables import MAX_PROBLEM_CHARACTERS, MAX_PROBLEMS, MAX_UNREAD_NAMES
from processor.transform import Transformed
from schemas.errors import Rejected
from schemas.records import Benchmark, SubmissionOutcome
from schemas.tables import BETTER, STATUSES, TABLES
from tests.golden import rows_of, transformed

_JSON_COLUMNS = {"runs": ("machine",), "measurements": ("params", "extra"), "tests": ("extra",)}


def assert_tables_or_named_problems(data: bytes, declared: str, benchmark: Benchmark | None = None) -> Transformed:
    """Transform `data` as results of the format `declared` (or of `benchmark`), and check what comes of it."""
    result = transformed(data, declared, benchmark=benchmark)
    _assert_bounded(result.outcome)
    if result.outcome.verdict == "rejected":
        assert any(problem.effect == "refused" for problem in result.outcome.problems)
        assert result.tables is None
    else:
        _assert_tables(result)
    return result


def assert_the_same_again(data: bytes, declared: str, first: Transformed, benchmark: Benchmark | None = None) -> None:
    """The same bytes give the same once more, also where the format that was found is declared; rows fit into parts."""
    found = first.outcome.format
    if benchmark is None and declared == "auto" and found and first.tables is not None:
        declared = found
    again = transformed(data, declared, benchmark=benchmark)
    assert again.outcome == first.outcome
    for table in TABLES:
        assert rows_of(again, table) == rows_of(first, table)
    if first.tables is not None:
        make_parts(first.tables.batches)


def assert_named(refusal: Rejected) -> None:
    """A refusal says where, what was expected, and what was found."""
    assert refusal.problems
    assert all(problem.where and problem.expected and problem.found for problem in refusal.problems)


def _assert_bounded(outcome: SubmissionOutcome) -> None:
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=SubmissionOutcome) == outcome
    assert len(outcome.problems) <= MAX_PROBLEMS
    assert len(outcome.problems) <= outcome.problems_total
    for problem in outcome.problems:
        for text in (problem.where, problem.expected, problem.found):
            assert text.strip()
            assert len(text) <= MAX_PROBLEM_CHARACTERS
    assert len(outcome.unread) <= MAX_UNREAD_NAMES + 1
    assert all(name and count > 0 for name, count in outcome.unread.items())
    assert all(len(name) <= MAX_PROBLEM_CHARACTERS for name in outcome.unread)


def _assert_tables(result: Transformed) -> None:
    outcome = result.outcome
    assert outcome.verdict == "accepted"
    assert result.tables is not None
    tables = {}
    for name, batches in result.tables.batches.items():
        tables[name] = table = pa.Table.from_batches(batches, schema=TABLES[name])
        table.validate(full=True)
        for column in _JSON_COLUMNS.get(name, ()):
            for text in _words(table[column]):
                assert isinstance(json.loads(text, parse_constant=_no_json), dict)
    assert tables["measurements"].num_rows == outcome.measurements
    assert tables["tests"].num_rows == outcome.tests
    assert tables["runs"].num_rows == outcome.runs
    assert tables["measurements"]["value"].null_count == 0
    assert pc.all(pc.is_finite(tables["measurements"]["value"])).as_py() is not False
    assert set(_words(tables["measurements"]["better"], empty=True)) <= {*BETTER}
    assert set(_words(tables["tests"]["status"], empty=True)) <= {*STATUSES}
    assert tables["tests"]["test"].null_count == tables["measurements"]["benchmark"].null_count == 0
    assert outcome.measurements == sum(row["measurements"] for row in rows_of(result, "runs"))
    assert outcome.tests == sum(row["tests"] for row in rows_of(result, "runs"))


def _words(column: pa.ChunkedArray, *, empty: bool = False) -> Iterator[str]:
    """The texts in a column, each once a chunk."""
    for chunk in column.chunks:
        for text in pc.unique(chunk).to_pylist():
            if text is not None and (text or empty):
                yield text


def _no_json(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no JSON")


def is_json(data: bytes) -> bool:
    """Whether Python reads `data` as JSON, NaN and Infinity included."""
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def json_of(data: bytes) -> bytes:
    """`data` without what stands around its JSON object: an assignment and a semicolon."""
    return data[data.find(b"{") : data.rfind(b"}") + 1] if data.startswith(b"window.") else data


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key or index) of every value inside `value`."""
    left = [value]
    while left:
        container = left.pop()
        for key in container if isinstance(container, dict) else range(len(container)):
            yield container, key
            if isinstance(container[key], dict | list):
                left.append(container[key])
