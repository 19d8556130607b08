"""hyperfine: both versions of its JSON, repeated and failed commands, and what must not be claimed."""

import json
from typing import Any

import pytest

from tests.golden import rows_of, transformed


def result(**changes: Any) -> dict[str, Any]:
    """A result of version 1."""
    return {"command": "true", "mean": 2.0, "times": [1.0, 3.0], "exit_codes": [0, 0], **changes}


def read(*results: dict[str, Any], **document: Any) -> Any:
    return transformed(json.dumps({"results": list(results), **document}).encode())


def measurements(*results: dict[str, Any], **document: Any) -> list[dict[str, Any]]:
    return rows_of(read(*results, **document), "measurements")


def version_2(**seconds: float) -> dict[str, Any]:
    quantities = {name: {"value": value, "unit": "second"} for name, value in seconds.items()}
    return {"command": "true", "measurements": [{**quantities, "exit_code": 0}]}


def test_a_series_goes_on_when_hyperfine_is_updated_to_version_2() -> None:
    (before,) = measurements(result())
    (after,) = measurements(version_2(time_wall_clock=2.5), schema_version=2, primary_metric="time_wall_clock")
    assert before["series"] == after["series"]
    assert (before["value"], after["value"]) == (2.0, 2.5)


def test_samples_of_a_command_that_was_given_twice_are_not_pooled() -> None:
    first, second, third = measurements(result(), result(times=[5.0], mean=5.0), result())
    assert [row["samples"] for row in (first, second, third)] == [[1.0, 3.0], [5.0], [1.0, 3.0]]
    assert len({row["series"] for row in (first, second, third)}) == 3


def test_a_repeat_is_distinct_even_from_a_parameter_of_the_same_name() -> None:
    rows = measurements(result(parameters={"[repeat]": 2}), result(), result())
    assert len({row["series"] for row in rows}) == 3


def test_parameters_tell_measurements_of_one_command_apart() -> None:
    one, two = measurements(result(parameters={"n": "1"}), result(parameters={"n": {"value": "2"}}))
    assert (one["params"], two["params"]) == ('{"n":"1"}', '{"n":"2"}')
    assert read(result(parameters={"n": "1"}), result(parameters={"n": "2"})).outcome.problems == []


def test_exit_codes_other_than_0_are_kept_and_flagged() -> None:
    read_one = read(result(exit_codes=[0, None]), result(command="false", exit_codes=[1, 1]))
    assert [row["extra"] for row in rows_of(read_one, "measurements")] == [
        '{"exit_codes":[0,null]}',
        '{"exit_codes":[1,1]}',
    ]
    assert [problem.found for problem in read_one.outcome.problems] == [
        "killed by a signal (1 of 2 runs)",
        "1 (2 of 2 runs)",
    ]


def test_a_result_without_numbers_gives_no_row_and_is_flagged() -> None:
    read_one = read(result(), result(command="broken", mean=None, times=[]))
    assert read_one.outcome.measurements == 1
    assert [str(problem) for problem in read_one.outcome.problems] == [
        "/results/1: expected a mean or times, found neither"
    ]


def test_statistics_are_computed_where_only_samples_are_given() -> None:
    (row,) = measurements(result(mean=None))
    assert (row["value"], row["median"], row["min"], row["max"], row["n"]) == (2.0, 2.0, 1.0, 3.0, 2)


def test_quantities_that_are_not_known_keep_their_name_and_have_a_direction_only_if_their_unit_gives_one() -> None:
    run = {"page_faults": {"value": 3, "unit": "count"}, "time_idle": {"value": 1, "unit": "second"}}
    rows = measurements({"command": "true", "measurements": [run]})
    assert [(row["metric"], row["unit"], row["better"]) for row in rows] == [
        ("page_faults", "count", ""),
        ("time_idle", "s", "lower"),
    ]


def test_runs_that_disagree_about_a_unit_give_no_row() -> None:
    runs = [{"time_cpu": {"value": 1, "unit": unit}} for unit in ("second", "millisecond")]
    read_one = read(version_2(time_wall_clock=1.0), {"command": "x", "measurements": runs})
    assert read_one.outcome.measurements == 1
    assert "expected one unit of time_cpu, found 'millisecond', 'second'" in str(read_one.outcome.problems[0])


def test_fields_that_are_not_known_are_in_the_loss_report() -> None:
    read_one = read(result(host={"load": 3}), result(command="b", host=1), note="x")
    assert read_one.outcome.unread == {"/note": 1, "/results/*/host": 2}


def test_every_problem_of_a_refused_file_is_listed() -> None:
    read_one = read(result(mean="fast", times=[None]), result(command=7))
    assert [problem.where for problem in read_one.outcome.problems] == [
        "/results/0/mean",
        "/results/0/times/0",
        "/results/1/command",
    ]
    assert read_one.outcome.verdict == "rejected"


@pytest.mark.parametrize(
    "document",
    [{"results": []}, {"results": {"a": 1}}, {"results": [{"name": "a", "mean": 1}]}, {"results": [{"command": "a"}]}],
)
def test_other_objects_with_results_are_not_claimed(document: dict[str, Any]) -> None:
    assert transformed(json.dumps(document).encode()).outcome.format != "hyperfine"


@pytest.mark.parametrize("number", ["1e999", "1" + "0" * 400, "-1" + "0" * 5000])
def test_numbers_beyond_all_bounds_are_named_problems(number: str) -> None:
    for field in ("mean", "times", "exit_codes", "memory_usage_byte"):
        value = f"[{number}]" if field != "mean" else number
        data = f'{{"results": [{{"command": "a", "times": [1], "{field}": {value}}}]}}'
        assert transformed(data.encode(), "hyperfine").outcome.verdict == "rejected"
