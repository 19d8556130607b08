"""The traps of Bencher Metric Format that golden pairs do not make plain."""

import json
from typing import Any

import pytest

from processor.formats.registry import FORMATS
from processor.reading.shape import shape_of
from processor.transform import Transformed
from tests.golden import rows_of, transformed


def read(**benchmarks: Any) -> Transformed:
    return transformed(json.dumps(benchmarks).encode())


def measured(**benchmarks: Any) -> list[dict[str, Any]]:
    result = read(**benchmarks)
    assert result.outcome.verdict == "accepted", result.outcome.problems
    return rows_of(result, "measurements")


def problems(result: Transformed) -> list[str]:
    return [str(problem) for problem in result.outcome.problems]


@pytest.mark.parametrize(
    ("measure", "unit", "better"),
    [
        ("latency", "ns", "lower"),
        ("Latency", "ns", "lower"),
        ("throughput", "ops/s", "higher"),
        ("build-time", "s", "lower"),
        ("File Size", "B", "lower"),
        ("instructions", "instructions", ""),
        ("At t-gmax bytes", "B", ""),
        ("accuracy", "", ""),
        ("d1a0a6b4-0000-4000-8000-000000000000", "", ""),
    ],
)
def test_only_measures_that_bencher_defines_have_a_unit_or_a_direction(measure: str, unit: str, better: str) -> None:
    (row,) = measured(b={measure: {"value": 1}})
    assert (row["metric"], row["unit"], row["better"]) == (measure, unit, better)


def test_bounds_are_kept_as_what_they_are_called() -> None:
    (row,) = measured(b={"latency": {"value": 5, "lower_value": 4, "upper_value": 6.5}})
    assert json.loads(row["extra"]) == {"lower_value": 4, "upper_value": 6.5}
    assert (row["min"], row["max"], row["samples"]) == (None, None, None)


@pytest.mark.parametrize("name", ["parse-bencher-ignore", "parse_bencher_ignore", "parseBencherIgnore"])
def test_the_suffix_that_silences_alerts_starts_no_new_series(name: str) -> None:
    rows = measured(**{"parse": {"latency": {"value": 1}}, name: {"latency": {"value": 1}}})
    assert rows[0]["series"] == rows[1]["series"]
    assert json.loads(rows[1]["extra"]) == {"ignore": True}


class TestVersion1:
    def test_sets_of_parameters_are_different_series_and_no_parameters_are_none(self) -> None:
        entries = [{"parameters": {"n": n}, "measures": {"latency": {"value": 1}}} for n in (16, 32)]
        bare = [{"measures": {"latency": {"value": 1}}}, {"parameters": {}, "measures": {"latency": {"value": 1}}}]
        rows = measured(b=entries + bare)
        assert [row["params"] for row in rows] == ['{"n":16}', '{"n":32}', "", ""]
        assert len({row["series"] for row in rows}) == 3

    def test_every_name_of_a_number_is_a_measurement_with_the_unit_of_its_measure(self) -> None:
        rows = measured(b=[{"measures": {"latency": {"value": 1, "lower_value": 0.5, "p99": 9}, "misses": {"max": 3}}}])
        assert [(row["metric"], row["value"], row["unit"]) for row in rows] == [
            ("latency", 1, "ns"),
            ("latency p99", 9, "ns"),
            ("misses max", 3, ""),
        ]

    def test_every_wrong_entry_is_named_with_its_place(self) -> None:
        entries = [
            {"measures": {"latency": {"value": 1}}},
            {"measures": {"a": {"p9": "x"}, "b": []}},
            {"parameters": 5},
        ]
        assert problems(transformed(json.dumps({"b": entries}).encode(), "bmf")) == [
            "/b/1/measures/a/p9: expected a number, found 'x'",
            "/b/1/measures/b: expected object, found array",
            "/b/2: expected a field 'measures', found none",
            "/b/2/parameters: expected object | null, found int",
        ]


class TestFailures:
    def test_a_value_that_was_not_measured_gives_no_row_and_leaves_the_others(self) -> None:
        result = transformed(
            b'{"a": {"latency": {"value": 1}}, "b": {"latency": {"value": NaN}, "c": {"value": null}}}'
        )
        assert result.outcome.measurements == 1
        assert [(problem.where, problem.effect) for problem in result.outcome.problems] == [
            ("/b/latency/value", "kept"),
            ("/b/c/value", "kept"),
        ]

    def test_every_wrong_measure_is_named_with_its_place(self) -> None:
        wrong = {"latency": {"value": "fast", "lower_value": []}, "x/y": {"upper_value": 1}, "z": {"value": "2"}}
        result = read(good={"latency": {"value": 1}}, bad=wrong, worse={"latency": 5})
        assert result.outcome.verdict == "rejected"
        assert problems(result) == [
            "/bad/latency/lower_value: expected float | str | null, found array",
            "/bad/x~1y: expected a field 'value', found none",
            "/bad/z/value: expected a number, found '2'",
            "/worse/latency: expected object, found int",
        ]

    def test_fields_that_the_format_does_not_have_are_in_the_loss_report(self) -> None:
        result = read(a={"latency": {"value": 1}}, b={"latency": {"value": 1, "note": "x"}})
        assert result.outcome.unread == {"/*/*/note": 1}


@pytest.mark.parametrize(
    ("data", "claimed"),
    [
        (b'{"a": {"b": {"value": 1}}}', True),
        (b'{\n  "a": {},\n  "b": {\n    "c": {"value": 1, "upper_value": 2}}}', True),
        (b'{"a": [], "b": [{"measures": {"c": {"p50": 1}}}]}', True),
        (b"{}", False),
        (b'{"a": {}}', False),
        (b'{"a": {"b": {"value": "1"}}}', False),
        (b'{"a": {"b": {"value": 1, "unit": "s"}}}', False),
        (b'{"a": {"b": {"value": 1}}, "version": 1}', False),
        (b'{"a": {"b": {"value": 1}}, "c": []}', False),
        (b'{"a": {"b": {"lower_value": 1}}}', False),
        (b'{"a": {"b": 1}}', False),
        (b'{"a": [{"measures": {}}]}', False),
        (b'{"a": [{"measures": {"b": {}}}]}', False),
        (b'{"metrics": {"vus": {"value": 1, "min": 1, "max": 1}}, "root_group": {}}', False),
    ],
)
def test_only_what_has_nothing_but_measures_is_claimed(data: bytes, claimed: bool) -> None:
    assert FORMATS["bmf"].claims(shape_of(data)) == claimed
