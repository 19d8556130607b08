"""Criterion.rs: lines and folder give the same numbers, every sample, and a reason for what gives no row."""

import io
import json
import math
import time
import zipfile
from typing import Any

import pytest

from processor.transform import Transformed
from tests.golden import rows_of, transformed

ITERATIONS = [10, 20, 30]
TIMES = [260.0, 500.0, 750.0]
SAMPLES = [26.0, 25.0, 25.0]


def message(**changes: Any) -> dict[str, Any]:
    number = {"estimate": 25.1, "lower_bound": 24.0, "upper_bound": 26.0, "unit": "ns"}
    fields = {
        "reason": "benchmark-complete",
        "id": "fib/20",
        "iteration_count": ITERATIONS,
        "measured_values": TIMES,
        "unit": "ns",
        "throughput": [],
        "typical": number,
        "mean": number | {"estimate": 25.3},
        "median": number | {"estimate": 25.0},
        "median_abs_dev": number | {"estimate": 0.5},
        "slope": number,
        "change": None,
    }
    return {key: value for key, value in (fields | changes).items() if value != "absent"}


def lines(*messages: dict[str, Any] | str) -> bytes:
    return "\n".join(one if isinstance(one, str) else json.dumps(one) for one in messages).encode() + b"\n"


def folder(files: dict[str, Any]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"target/criterion/{name}", content if isinstance(content, str) else json.dumps(content))
    return made.getvalue()


def estimate(point: float | None) -> dict[str, Any]:
    interval = {"confidence_level": 0.95, "lower_bound": 24.0, "upper_bound": 26.0}
    return {"point_estimate": point, "standard_error": 0.1, "confidence_interval": interval}


ESTIMATES = {
    name: estimate(25.0 + n) for n, name in enumerate(("mean", "median", "median_abs_dev", "slope", "std_dev"))
}
ID = {"group_id": "fib", "function_id": "loop", "value_str": "20", "throughput": {"Bytes": 8}, "full_id": "fib/loop/20"}
SAMPLE = {"sampling_mode": "Linear", "iters": [10.0, 20.0, 30.0], "times": TIMES}


def only_row(result: Transformed) -> dict[str, Any]:
    assert result.outcome.verdict == "accepted", result.outcome.problems
    (row,) = rows_of(result, "measurements")
    return row


def extra_of(row: dict[str, Any]) -> dict[str, Any]:
    return json.loads(row["extra"])


def problems_of(result: Transformed) -> list[str]:
    return [str(problem) for problem in result.outcome.problems]


# --- lines ---


def test_a_sample_is_measured_by_iterations_and_all_are_kept() -> None:
    row = only_row(transformed(lines(message())))
    assert row["samples"] == SAMPLES
    assert (row["n"], row["min"], row["max"]) == (3, 25.0, 26.0)
    assert row["stddev"] == pytest.approx(math.sqrt(1 / 3))
    assert extra_of(row)["iterations"] == ITERATIONS


def test_the_value_is_what_the_tool_calls_typical_and_every_interval_is_in_extra() -> None:
    row = only_row(transformed(lines(message())))
    assert (row["value"], row["mean"], row["median"]) == (25.1, 25.3, 25.0)
    assert (row["metric"], row["unit"], row["better"]) == ("time", "ns", "lower")
    for name in ("typical", "mean", "median", "median_abs_dev", "slope"):
        assert (extra_of(row)[name]["lower_bound"], extra_of(row)[name]["upper_bound"]) == (24.0, 26.0)


def test_flat_sampling_has_no_slope() -> None:
    for slope in (None, "absent"):
        row = only_row(transformed(lines(message(slope=slope))))
        assert row["value"] == 25.1
        assert "slope" not in extra_of(row)


def test_a_measurement_of_the_users_own_is_no_time_but_lower_is_better() -> None:
    number = {"estimate": 25.0, "unit": "cycles"}
    data = message(unit="cycles", typical=number, mean=None, median=None, median_abs_dev=None, slope=None)
    row = only_row(transformed(lines(data)))
    assert (row["metric"], row["unit"], row["better"]) == ("value", "cycles", "lower")


def test_throughput_and_change_are_kept_and_the_runners_path_is_not() -> None:
    result = transformed(
        lines(
            message(
                throughput=[{"per_iteration": 8, "unit": "bytes"}],
                change={"change": "Improved"},
                report_directory="/home/x",
            )
        )
    )
    extra = extra_of(only_row(result))
    assert extra["throughput"] == [{"per_iteration": 8, "unit": "bytes"}]
    assert extra["change"] == {"change": "Improved"}
    assert result.outcome.unread == {"/*/report_directory": 1}
    assert "/home/x" not in json.dumps(rows_of(result, "measurements"))


def test_a_benchmark_knows_its_group_though_that_comes_later() -> None:
    group = {"reason": "group-complete", "group_name": "fib", "benchmarks": ["fib/20"], "report_directory": ""}
    assert extra_of(only_row(transformed(lines(message(), group))))["group"] == "fib"


def test_other_lines_before_and_between_are_counted_and_cost_nothing() -> None:
    cargo = '{"reason":"compiler-artifact","package_id":"x"}'
    result = transformed(lines("   Compiling x v0.1.0", message(), "", cargo, "Gnuplot not found", message(id="b")))
    assert [row["benchmark"] for row in rows_of(result, "measurements")] == ["fib/20", "b"]
    assert result.outcome.unread == {"line: other output": 3}
    result = transformed(lines(cargo, message()))
    assert (result.outcome.format, result.outcome.measurements) == ("criterion", 1)


def test_lines_of_cargo_alone_are_not_claimed() -> None:
    finished = lines('{"reason":"build-finished","success":true}')
    assert transformed(finished).outcome.format == ""
    assert "a line with reason benchmark-complete" in transformed(finished, "criterion").outcome.problems[0].expected


def test_a_run_without_benchmarks_is_accepted_empty() -> None:
    outcome = transformed(lines({"reason": "group-complete", "group_name": "g", "benchmarks": []})).outcome
    assert (outcome.verdict, outcome.runs, outcome.measurements) == ("accepted", 1, 0)


def test_rows_in_two_units_or_without_a_number_are_left_out_and_flagged() -> None:
    for data in (message(unit="us"), message(typical={"estimate": None})):
        result = transformed(lines(data, message(id="good")))
        assert only_row(result)["benchmark"] == "good"
        assert [problem.effect for problem in result.outcome.problems] == ["kept"]


def test_null_in_a_statistic_that_is_no_number_is_only_left_out() -> None:
    row = only_row(transformed(lines(message(median_abs_dev={"estimate": None, "unit": "ns"}, median=None))))
    assert row["median"] == 25.0


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"id": None}, "line 2/id"),
        ({"id": "absent"}, "line 2"),
        ({"measured_values": None}, "line 2/measured_values"),
        ({"measured_values": [1, "2", 3]}, "line 2/measured_values/1"),
        ({"measured_values": [1.0]}, "line 2"),
        ({"iteration_count": [0, 1, 2]}, "line 2 sample 0"),
        ({"iteration_count": [1, -1, 2]}, "line 2 sample 1"),
        ({"iteration_count": [5e-324, 1, 2]}, "line 2 sample 0"),
        ({"measured_values": [10**400, 1, 2]}, "line 2/measured_values/0"),
        ({"typical": 5}, "line 2/typical"),
        ({"typical": {"estimate": "NaN"}}, "line 2/typical/estimate"),
    ],
)
def test_a_message_that_is_none_refuses_the_run_and_says_where(changes: dict[str, Any], where: str) -> None:
    outcome = transformed(lines(message(), message(**changes))).outcome
    assert outcome.verdict == "rejected"
    assert outcome.problems[0].where == where


def test_a_line_that_is_cut_off_refuses_the_run() -> None:
    outcome = transformed(lines(message(), json.dumps(message())[:100])).outcome
    assert outcome.verdict == "rejected"
    assert outcome.problems[0].where == "line 2"


def test_every_message_is_checked() -> None:
    problems = problems_of(transformed(lines(message(id=1), message(), message(unit=None), message(id=2))))
    assert [problem.partition(":")[0] for problem in problems] == ["line 1/id", "line 3/unit", "line 4/id"]


@pytest.mark.parametrize(
    "hostile", ["\n", " " * 70 + "\n", '{"reason"', '{"reason":"benchmark-complete"\n', "{" * 50 + "\n", "\t"]
)
def test_the_look_for_a_line_takes_no_time(hostile: str) -> None:
    began = time.process_time()
    transformed(b"text\n" + hostile.encode() * (2_000_000 // len(hostile)))
    assert time.process_time() - began < 10


# --- the folder ---


def test_of_a_folder_only_new_is_read_and_the_rest_is_counted() -> None:
    new = {"benchmark.json": ID, "estimates.json": ESTIMATES, "sample.json": SAMPLE, "tukey.json": [1, 2, 3, 4]}
    files: dict[str, Any] = {f"fib/loop/20/new/{name}": content for name, content in new.items()}
    files |= {f"fib/loop/20/base/{name}": "not even JSON" for name in new}
    files |= {
        "fib/loop/20/report/index.html": "<html>",
        "report/index.html": "<html>",
        "fib/loop/20/main/sample.json": "{",
    }
    files["fib/loop/20/change/estimates.json"] = {"mean": estimate(0.02)}
    result = transformed(folder(files))
    row = only_row(result)
    assert (row["benchmark"], row["params"], row["unit"]) == ("fib/loop", '{"value":"20"}', "ns")
    assert row["samples"] == SAMPLES
    extra = extra_of(row)
    assert extra["change"]["mean"]["point_estimate"] == 0.02
    assert extra["tukey"] == [1, 2, 3, 4]
    assert extra["slope"]["confidence_interval"]["confidence_level"] == 0.95
    assert (extra["group"], extra["function"], extra["throughput"]) == ("fib", "loop", {"Bytes": 8})
    assert result.outcome.unread == {"*/base/*": 4, "*/report/*": 2, "(other files)": 1}
    assert result.outcome.problems == []


def test_the_value_is_the_slope_and_in_flat_sampling_the_mean() -> None:
    row = only_row(transformed(folder({"a/new/estimates.json": ESTIMATES, "a/new/benchmark.json": ID})))
    assert (row["value"], row["mean"], row["median"], row["stddev"]) == (28.0, 25.0, 26.0, 29.0)
    for flat in (ESTIMATES | {"slope": None}, {"mean": estimate(25.0)}, ESTIMATES | {"slope": estimate(None)}):
        assert only_row(transformed(folder({"a/new/estimates.json": flat})))["value"] == 25.0
    result = transformed(folder({"a/new/estimates.json": {"median": estimate(1.0)}}))
    assert result.outcome.measurements == 0
    assert "slope or mean, to make a row, found median" in problems_of(result)[-1]


def test_the_old_spelling_gives_the_same_row() -> None:
    names = {
        "median_abs_dev": "MedianAbsDev",
        "std_dev": "StdDev",
        "mean": "Mean",
        "median": "Median",
        "slope": "Slope",
    }
    old = {names[name]: value for name, value in ESTIMATES.items()}
    rows = [
        only_row(
            transformed(
                folder({"a/new/estimates.json": estimates, "a/new/sample.json": sample, "a/new/benchmark.json": ID})
            )
        )
        for estimates, sample in ((ESTIMATES, SAMPLE), (old, [SAMPLE["iters"], SAMPLE["times"]]))
    ]
    extras = [extra_of(row) for row in rows]
    assert extras[0].pop("sampling_mode") == "Linear"
    assert extras[0] == extras[1]
    assert (rows[0] | {"extra": ""}) == (rows[1] | {"extra": ""})


@pytest.mark.parametrize(
    ("id", "name", "params"),
    [
        ({"group_id": "g"}, "g", ""),
        ({"group_id": "g", "function_id": "f/h"}, "g/f/h", ""),
        ({"group_id": "g", "value_str": "1"}, "g", '{"value":"1"}'),
        ({"group_id": "g", "function_id": "", "value_str": ""}, "g/", '{"value":""}'),
        ({"group_id": "g", "full_id": "g", "title": "g #2"}, "g #2", ""),
        ({"group_id": "g #2", "full_id": "g #2", "title": "g #2"}, "g #2", ""),
    ],
)
def test_group_function_and_value_are_the_identity(id: dict[str, Any], name: str, params: str) -> None:
    row = only_row(transformed(folder({"a/new/estimates.json": ESTIMATES, "a/new/benchmark.json": id})))
    assert (row["benchmark"], row["params"]) == (name, params)


def test_without_benchmark_json_the_next_best_says_which_benchmark_it_is() -> None:
    csv = "group,function,value,sample_time_nanos,iteration_count\nfib,loop,20,250,10\n"
    base = {"a/new/estimates.json": ESTIMATES}
    row = only_row(transformed(folder(base | {"a/base/benchmark.json": ID, "a/new/raw.csv": csv.replace("fib", "x")})))
    assert (row["benchmark"], row["params"]) == ("fib/loop", '{"value":"20"}')
    row = only_row(transformed(folder(base | {"a/new/raw.csv": csv})))
    assert (row["benchmark"], row["params"]) == ("fib/loop", '{"value":"20"}')
    result = transformed(folder(base))
    assert only_row(result)["benchmark"] == "target/criterion/a"
    assert "the path is taken" in problems_of(result)[0]


def test_estimates_that_are_missing_are_computed_as_the_tool_does() -> None:
    files = {"a/new/benchmark.json": ID, "a/new/sample.json": SAMPLE}
    result = transformed(folder(files))
    row = only_row(result)
    products = sum(iters * time for iters, time in zip(ITERATIONS, TIMES, strict=True))
    assert row["value"] == pytest.approx(products / sum(iters * iters for iters in ITERATIONS))
    assert row["mean"] == pytest.approx(sum(SAMPLES) / 3)
    assert "computed from the samples" in problems_of(result)[0]
    flat = transformed(folder(files | {"a/new/sample.json": SAMPLE | {"sampling_mode": "Flat"}}))
    assert only_row(flat)["value"] == pytest.approx(sum(SAMPLES) / 3)


@pytest.mark.parametrize(
    ("header", "unit", "metric"),
    [
        ("group,function,value,sample_time_nanos,iteration_count\n,,,{},{}\n", "ns", "time"),
        (
            "group,function,value,throughput_num,throughput_type,sample_measured_value,unit,iteration_count\n,,,,,{},cycles,{}\n",
            "cycles",
            "value",
        ),
    ],
)
def test_raw_csv_names_the_unit_if_its_numbers_are_the_samples(header: str, unit: str, metric: str) -> None:
    head, line = header.splitlines(keepends=True)
    rows = [line.format(measured, iterations) for measured, iterations in zip(TIMES, ITERATIONS, strict=True)]
    files = {"a/new/benchmark.json": ID, "a/new/estimates.json": ESTIMATES, "a/new/raw.csv": head + "".join(rows)}
    row = only_row(transformed(folder(files)))
    assert (row["unit"], row["metric"], row["samples"]) == (unit, metric, SAMPLES)
    row = only_row(transformed(folder(files | {"a/new/sample.json": SAMPLE})))
    assert (row["unit"], row["metric"]) == (unit, metric)
    scaled = only_row(transformed(folder(files | {"a/new/sample.json": SAMPLE | {"times": [1.0, 2.0, 3.0]}})))
    assert (scaled["unit"], scaled["metric"]) == ("", "value")


def test_a_benchmark_without_numbers_gives_no_row_and_a_flag() -> None:
    result = transformed(folder({"a/new/benchmark.json": ID, "b/new/estimates.json": ESTIMATES}))
    assert result.outcome.measurements == 1
    assert (
        "a/new: expected estimates.json or sample.json, to make a row, found benchmark.json" in problems_of(result)[0]
    )


@pytest.mark.parametrize(
    ("file", "content", "where"),
    [
        ("estimates.json", "{", "estimates.json"),
        ("estimates.json", "[]", "estimates.json"),
        ("estimates.json", {"mean": 5}, "estimates.json/mean"),
        ("estimates.json", {"slope": {"point_estimate": "x"}}, "estimates.json/slope/point_estimate"),
        ("sample.json", {"iters": [1], "times": [1, 2]}, "sample.json"),
        ("sample.json", {"iters": [0], "times": [1]}, "sample.json sample 0"),
        ("sample.json", [[1], [1], [1]], "sample.json"),
        ("sample.json", [[1e300, 1e300], [1e300, -1e308], 5], "sample.json"),
        ("sample.json", {"iters": [1]}, "sample.json"),
        ("raw.csv", "a,b\n1,2\n", "raw.csv"),
        ("raw.csv", 'group,function,value,sample_time_nanos,iteration_count\n"', "raw.csv"),
        ("raw.csv", "sample_time_nanos,iteration_count\n1\n", "raw.csv"),
        ("raw.csv", "sample_time_nanos,iteration_count\nx,1\n", "raw.csv"),
        ("benchmark.json", {"group_id": 5}, "benchmark.json/group_id"),
        ("benchmark.json", {}, "benchmark.json"),
    ],
)
def test_a_broken_file_of_the_folder_refuses_the_run_and_is_named(file: str, content: Any, where: str) -> None:
    new = {"benchmark.json": ID, "estimates.json": ESTIMATES, "sample.json": SAMPLE} | {file: content}
    result = transformed(
        folder({f"a/new/{name}": text for name, text in new.items()} | {"b/new/estimates.json": ESTIMATES})
    )
    assert result.outcome.verdict == "rejected"
    refused = [problem for problem in result.outcome.problems if problem.effect == "refused"]
    assert refused[0].where.startswith(f"target/criterion/a/new/{where}")


def test_numbers_beyond_all_bounds_are_no_crash() -> None:
    huge = {"sampling_mode": "Linear", "iters": [1e200, 1e200, 1.0], "times": [1e300, -1e300, 1.0]}
    assert only_row(transformed(folder({"a/new/sample.json": huge})))["value"] == pytest.approx(1 / 3)
    big = {"sampling_mode": "Linear", "iters": [1, 1], "times": [1.7e308, 1.7e308]}
    result = transformed(folder({"a/new/sample.json": big}))
    assert result.outcome.measurements == 0
    assert "slope or mean, to make a row" in problems_of(result)[-1]


def test_an_archive_without_a_run_is_refused_if_criterion_is_declared() -> None:
    result = transformed(folder({"a/base/estimates.json": ESTIMATES}), "criterion")
    assert result.outcome.verdict == "rejected"
    assert "a folder new/" in result.outcome.problems[0].expected
