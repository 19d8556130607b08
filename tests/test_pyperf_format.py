"""The traps of pyperf's JSON that golden pairs do not make plain."""

import gzip
import json
from typing import Any

import pytest

from processor.formats.registry import FORMATS
from processor.reading.shape import shape_of
from processor.transform import Transformed
from tests.golden import rows_of, transformed


def suite(*benchmarks: Any, version: Any = "1.0", **metadata: Any) -> bytes:
    return json.dumps({"version": version, "metadata": metadata, "benchmarks": benchmarks}).encode()


def benchmark(*values: Any, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "b", **metadata}, "runs": [{"values": list(values)}]}


def measured(data: bytes) -> list[dict[str, Any]]:
    result = transformed(data)
    assert result.outcome.verdict == "accepted", result.outcome.problems
    return rows_of(result, "measurements")


def run_of(data: bytes) -> dict[str, Any]:
    (run,) = rows_of(transformed(data), "runs")
    return run


def problems(result: Transformed) -> list[str]:
    return [str(problem) for problem in result.outcome.problems]


class TestMeasurements:
    def test_samples_are_the_values_of_all_runs_in_order_and_value_is_their_mean(self) -> None:
        runs = [{"warmups": [[8, 9.0]]}, {"values": [1.0, 2.0], "warmups": [[8, 5.0]]}, {"values": [6]}]
        (row,) = measured(suite({"metadata": {"name": "b", "loops": 8}, "runs": runs}))
        assert (row["samples"], row["n"], row["value"], row["median"]) == ([1, 2, 6], 3, 3, 2)
        extra = json.loads(row["extra"])
        assert extra["loops"] == 8
        assert [(run["values"], run.get("warmups")) for run in extra["runs"]] == [
            (0, [[8, 9]]),
            (2, [[8, 5]]),
            (1, None),
        ]

    @pytest.mark.parametrize(
        ("unit", "expected"),
        [
            ({}, ("time", "s", "lower")),
            ({"unit": "second"}, ("time", "s", "lower")),
            ({"unit": "byte"}, ("memory", "B", "lower")),
            ({"unit": "integer"}, ("value", "", "")),
            ({"unit": "joule"}, ("value", "joule", "")),
        ],
    )
    def test_metric_unit_and_direction_follow_the_unit(self, unit: dict[str, str], expected: tuple[str, ...]) -> None:
        (row,) = measured(suite(benchmark(1, **unit)))
        assert (row["metric"], row["unit"], row["better"]) == expected

    def test_metadata_is_inherited_from_the_suite_and_the_nearest_wins(self) -> None:
        nearest = {"metadata": {"unit": "byte"}, "runs": [{"values": [1], "metadata": {"name": "near", "loops": 2}}]}
        (row,) = measured(suite(nearest, name="far", unit="second", loops=1))
        assert (row["benchmark"], row["unit"]) == ("near", "B")

    def test_statements_that_share_the_name_timeit_are_different_series(self) -> None:
        rows = measured(
            suite(
                benchmark(1, timeit_stmt="'a'"),
                benchmark(1, timeit_stmt="'b'"),
                benchmark(1, timeit_stmt="'b'", timeit_setup="'import c'"),
                benchmark(1, command="ls"),
            )
        )
        assert len({row["series"] for row in rows}) == 4

    def test_a_setup_that_does_nothing_and_calibrated_loops_start_no_new_series(self) -> None:
        rows = measured(
            suite(
                benchmark(1, timeit_stmt="'a'", loops=1),
                benchmark(1, timeit_stmt="'a'", loops=64, timeit_setup="'pass'", timeit_teardown="'pass'"),
            )
        )
        assert rows[0]["series"] == rows[1]["series"]

    @pytest.mark.parametrize(("version", "warmup"), [("1.0", 8), (6, 0.5)])
    def test_raw_warmups_of_older_versions_are_divided_by_their_loops(self, version: Any, warmup: float) -> None:
        runs = [{"values": [1], "warmups": [[4, 8]], "metadata": {"inner_loops": 4}}]
        (row,) = measured(suite({"metadata": {"name": "b"}, "runs": runs}, version=version))
        assert json.loads(row["extra"])["runs"][0]["warmups"] == [[4, warmup]]


class TestRuns:
    @pytest.mark.parametrize(
        ("metadata", "os", "runtime"),
        [
            ({"platform": "Linux-6.1.0-13-amd64-x86_64-with-glibc2.36"}, "Linux 6", "CPython 3.12"),
            ({"platform": "Darwin-24.1.0-arm64-arm-64bit"}, "macOS 15", "CPython 3.12"),
            ({"platform": "macOS-15.1-arm64-arm-64bit"}, "macOS 15", "CPython 3.12"),
            ({"platform": "Windows-11-10.0.22631-SP0"}, "Windows 11", "CPython 3.12"),
            ({"python_implementation": "cpython", "python_version": "3.13.1 (64-bit)"}, "Debian 12", "CPython 3.13"),
            (
                {"python_implementation": "pypy", "python_version": "PyPy 7.3.1 (Python 3.10.9) (64-bit) revision 1"},
                "Debian 12",
                "PyPy 3.10",
            ),
        ],
    )
    def test_os_and_runtime_are_called_as_in_other_formats(self, metadata: Any, os: str, runtime: str) -> None:
        run = run_of(suite(benchmark(1), **metadata))
        assert (run["os"], run["runtime"]) == (os, runtime)

    def test_benchmarks_of_different_machines_are_never_pooled_into_one_run(self) -> None:
        benchmarks = [benchmark(1, cpu_model_name=cpu) for cpu in ("A", "B", "A")]
        result = transformed(suite(*benchmarks))
        assert [(run["cpu"], run["measurements"]) for run in rows_of(result, "runs")] == [("A", 2), ("B", 1)]

    def test_a_run_lasts_from_its_first_process_to_the_end_of_its_last(self) -> None:
        runs = [
            {"values": [1], "metadata": {"date": f"2026-01-02 03:04:{second}", "duration": 2.5}}
            for second in ("10", "05")
        ]
        run = run_of(suite({"metadata": {"name": "b"}, "runs": runs}))
        assert (run["started"].second, run["finished"].second) == (5, 12)

    @pytest.mark.parametrize("duration", [10**30, -(10**12), "long", None])
    def test_a_duration_out_of_the_calendar_ends_the_run_where_it_began(self, duration: Any) -> None:
        item = {
            "metadata": {"name": "b"},
            "runs": [{"values": [1], "metadata": {"date": "2026-01-02", "duration": duration}}],
        }
        run = run_of(suite(item))
        assert run["started"] == run["finished"]

    def test_the_commit_that_pyperformance_measured_is_the_runs(self) -> None:
        run = run_of(
            suite(benchmark(1), commit_id="d" * 40, commit_branch="3.14", commit_date="2026-01-02T00:00:00+00:00")
        )
        assert (run["commit"], run["branch"], run["commit_time"].year) == ("d" * 40, "3.14", 2026)

    def test_paths_that_may_name_a_person_are_counted_and_not_kept(self) -> None:
        result = transformed(suite(benchmark(1, python_executable="/home/jo/python"), python_config_args="/home/jo"))
        assert result.outcome.unread == {"metadata/python_config_args": 1, "metadata/python_executable": 1}
        assert "/home" not in str([rows_of(result, table) for table in ("runs", "measurements")])


class TestFailures:
    def test_a_benchmark_that_was_only_calibrated_gives_no_row_and_leaves_the_others(self) -> None:
        result = transformed(suite({"metadata": {"name": "c"}, "runs": [{"warmups": [[1, 1.0]]}]}, benchmark(1)))
        assert result.outcome.measurements == 1
        assert [problem.effect for problem in result.outcome.problems] == ["kept"]

    @pytest.mark.parametrize("version", ["2.0", 4, None, 1.0])
    def test_a_version_that_pyperf_does_not_read_is_rejected_with_the_ones_it_does(self, version: Any) -> None:
        result = transformed(suite(benchmark(1), version=version))
        assert result.outcome.verdict == "rejected"
        assert result.outcome.problems[0].where == "/version"

    def test_every_wrong_run_of_every_benchmark_is_named_with_its_place(self) -> None:
        wrong = {"metadata": {"name": "b"}, "runs": [{"values": ["x"], "warmups": [[1]]}, 5]}
        assert problems(transformed(suite(wrong, {"runs": None}, benchmark(1)))) == [
            "/benchmarks/0/runs/0/values/0: expected float, found str",
            "/benchmarks/0/runs/0/warmups/0: expected a valid value, found Expected array of length 2",
            "/benchmarks/0/runs/1: expected object, found int",
            "/benchmarks/1/runs: expected array, found null",
        ]

    @pytest.mark.parametrize("name", [None, "", 5, " "])
    def test_a_benchmark_without_a_name_is_refused(self, name: Any) -> None:
        result = transformed(suite({"metadata": {"name": name}, "runs": [{"values": [1]}]}))
        assert result.outcome.problems[0].where == "/benchmarks/0/metadata/name"

    def test_values_of_two_units_are_never_pooled(self) -> None:
        runs = [{"values": [1]}, {"values": [1], "metadata": {"unit": "byte"}}]
        result = transformed(suite({"metadata": {"name": "b", "unit": "second"}, "runs": runs}))
        assert problems(result) == ["/benchmarks/0/runs/1/metadata/unit: expected 'second', found 'byte'"]


def test_a_file_that_pyperf_has_compressed_is_the_same() -> None:
    assert measured(gzip.compress(suite(benchmark(1, 2)))) == measured(suite(benchmark(1, 2)))


@pytest.mark.parametrize(
    "data",
    [
        b'{"benchmarks": [{"runs": []}], "machine_info": {}}',
        b'{"benchmarks": [{"runs": [], "real_time": 1}]}',
        b'{"version": "1.0", "benchmarks": []}',
        b'{"version": "1.0", "benchmarks": [5]}',
        b'{"runs": []}',
    ],
)
def test_what_only_looks_alike_is_not_claimed(data: bytes) -> None:
    assert not FORMATS["pyperf"].claims(shape_of(data))
