"""Every format has golden pairs, and each input still gives exactly the rows and problems beside it."""

import json
from pathlib import Path

import pytest

from processor.formats.registry import FORMATS
from tests.golden import as_golden, benchmark_of, pairs, transformed


@pytest.mark.parametrize(
    ("format", "source", "expectation"), [pytest.param(*pair, id=f"{pair[0]}/{pair[1].name}") for pair in pairs()]
)
def test_an_input_gives_the_rows_beside_it(format: str, source: Path, expectation: Path) -> None:
    made = as_golden(transformed(source.read_bytes(), benchmark=benchmark_of(format)))
    assert made == json.loads(expectation.read_text())
    assert made["format"] in (format, "")


def test_every_format_has_a_golden_pair() -> None:
    assert {pair[0] for pair in pairs()} == set(FORMATS)


@pytest.mark.parametrize("id", FORMATS)
def test_the_example_of_a_format_is_found_to_be_of_it_and_gives_a_row(id: str) -> None:
    outcome = transformed(FORMATS[id].example.encode(), benchmark=benchmark_of(id)).outcome
    assert (outcome.verdict, outcome.format) == ("accepted", id), outcome.problems
    assert outcome.measurements + outcome.tests > 0
    assert outcome.problems == []
    assert outcome.unread == {}
