"""The traps of pytest-benchmark, Google Benchmark and github-action-benchmark that golden pairs do not make plain."""

import json
from typing import Any

import pytest

from processor.formats.registry import FORMATS
from processor.reading.shape import shape_of
from processor.transform import Transformed
from tests.golden import rows_of, transformed


def pytest_file(*benchmarks: Any, **facts: Any) -> bytes:
    return json.dumps({"machine_info": {}, "commit_info": {}, **facts, "benchmarks": benchmarks}).encode()


def google_file(*benchmarks: Any, **context: Any) -> bytes:
    return json.dumps({"context": context, "benchmarks": benchmarks}).encode()


def google_row(name: str, real_time: float, **more: Any) -> dict[str, Any]:
    return {"name": name, "run_name": name, "run_type": "iteration", "real_time": real_time, "time_unit": "ns", **more}


def history(*entries: Any, suite: str = "suite") -> bytes:
    return json.dumps({"lastUpdate": 1, "repoUrl": "", "entries": {suite: entries}}).encode()


def entry(value: Any = 1, unit: Any = "ns", **more: Any) -> dict[str, Any]:
    return {
        "commit": {"id": "c1"},
        "date": 1,
        "tool": "go",
        "benches": [{"name": "b", "value": value, "unit": unit}],
        **more,
    }


def measured(result: Transformed) -> list[dict[str, Any]]:
    assert result.outcome.verdict == "accepted", result.outcome.problems
    return rows_of(result, "measurements")


def run_of(result: Transformed) -> dict[str, Any]:
    (run,) = rows_of(result, "runs")
    return run


def problems(result: Transformed) -> list[str]:
    return [str(problem) for problem in result.outcome.problems]


class TestPytestBenchmark:
    def test_every_wrong_field_of_every_benchmark_is_named_with_its_place(self) -> None:
        stats = {"min": "a", "max": True, "mean": 1}
        result = transformed(
            pytest_file({"fullname": "f", "stats": stats}, {"fullname": 5, "stats": {"data": [1, "x"]}})
        )
        assert result.outcome.verdict == "rejected"
        assert problems(result) == [
            "/benchmarks/0/stats/min: expected float | null, found str",
            "/benchmarks/0/stats/max: expected float | null, found bool",
            "/benchmarks/1/fullname: expected str, found int",
            "/benchmarks/1/stats/data/1: expected float, found str",
        ]

    def test_tests_that_pytest_tells_apart_are_different_series(self) -> None:
        """Same arguments under two ids, and arguments that cannot be written down."""
        benchmarks = [
            {"fullname": f"a.py::t[{id}]", "name": f"t[{id}]", "param": id, "params": params, "stats": {"median": 1}}
            for id, params in [
                ("x", {"n": 1}),
                ("y", {"n": 1}),
                ("1", {"n": 1}),
                ("f0", {"f": "UNSERIALIZABLE[<f at 0x1>]"}),
                ("f1", {"f": "UNSERIALIZABLE[<f at 0x1>]"}),
            ]
        ]
        rows = measured(transformed(pytest_file(*benchmarks)))
        assert {row["benchmark"] for row in rows} == {"a.py::t"}
        assert len({row["series"] for row in rows}) == 5
        assert rows[2]["params"] == '{"n":1}'

    def test_an_address_in_memory_starts_no_new_series(self) -> None:
        def series(address: str) -> str:
            params = {"f": f"UNSERIALIZABLE[<function f at {address}>]"}
            item = {"fullname": "t[f0]", "name": "t[f0]", "param": "f0", "params": params, "stats": {"median": 1}}
            return str(measured(transformed(pytest_file(item)))[0]["series"])

        assert series("0x7f01") == series("0x7f02")

    def test_value_is_the_median_else_the_mean_else_the_minimum(self) -> None:
        for stats, value in [({"min": 1, "mean": 2, "median": 3}, 3), ({"min": 1, "mean": 2}, 2), ({"min": 1}, 1)]:
            assert measured(transformed(pytest_file({"fullname": "f", "stats": stats})))[0]["value"] == value

    def test_a_user_in_machine_info_and_an_author_in_commit_info_come_into_no_row(self) -> None:
        result = transformed(
            pytest_file(machine_info={"user": "Jo Doe", "node": "n1"}, commit_info={"id": "c", "author": "Jo Doe"})
        )
        assert "Jo Doe" not in str(rows_of(result, "runs"))
        assert run_of(result)["machine"] == '{"node":"n1"}'

    @pytest.mark.parametrize("id", ["unversioned", "unknown"])
    def test_a_commit_that_the_tool_did_not_find_leaves_the_pushed_one(self, id: str) -> None:
        assert run_of(transformed(pytest_file(commit_info={"id": id})))["commit"] == "c" * 40

    @pytest.mark.parametrize(
        ("system", "release", "os"),
        [
            ("Linux", "6.1.0-13-amd64", "Linux 6"),
            ("Darwin", "24.1.0", "macOS 15"),
            ("Darwin", "25.0.0", "macOS 26"),
            ("Darwin", "19.6.0", "macOS 10"),
            ("Windows", "11", "Windows 11"),
        ],
    )
    def test_the_environment_takes_the_system_by_its_own_name_and_major_version(
        self, system: str, release: str, os: str
    ) -> None:
        assert run_of(transformed(pytest_file(machine_info={"system": system, "release": release})))["os"] == os

    def test_a_file_without_benchmarks_is_accepted_empty(self) -> None:
        outcome = transformed(pytest_file()).outcome
        assert (outcome.verdict, outcome.runs, outcome.measurements) == ("accepted", 1, 0)

    def test_a_time_without_offset_is_utc_and_one_with_offset_is_brought_to_it(self) -> None:
        for text in ("2026-01-02T03:04:05", "2026-01-02T04:04:05+01:00"):
            started = run_of(transformed(pytest_file(datetime=text)))["started"]
            assert started.isoformat() == "2026-01-02T03:04:05+00:00"

    def test_what_reaches_no_column_is_in_the_loss_report(self) -> None:
        item = {
            "fullname": "f",
            "cprofile": [{"function_name": "f", "cumtime": 1.0}],
            "stats": {"median": 1, "iqr_outliers": 2, "stddev_outliers": 3, "skew": 0.5},
            "plugin": 1,
        }
        result = transformed(
            pytest_file(
                item,
                item,
                machine_info={"user": "jo", "username": "jo", "node": "n"},
                commit_info={"id": "c", "author": "Jo Doe", "message": "Say hello\n\nat length", "a/b": 1},
                foo="bar",
            )
        )
        assert result.outcome.unread == {
            "/benchmarks/*/cprofile": 2,
            "/benchmarks/*/plugin": 2,
            "/benchmarks/*/stats/skew": 2,
            "/commit_info/a~1b": 1,
            "/commit_info/author": 1,
            "/foo": 1,
            "/machine_info/user": 1,
            "/machine_info/username": 1,
        }
        assert json.loads(measured(result)[0]["extra"]) == {"iqr_outliers": 2, "stddev_outliers": 3}
        assert run_of(result)["commit_subject"] == "Say hello"

    def test_a_field_that_nobody_knows_changes_no_row(self) -> None:
        """A file with nothing unknown in it is decoded at once, others one benchmark after the other."""
        item = {
            "fullname": "t[1]",
            "name": "t[1]",
            "param": "1",
            "params": {"n": 1},
            "group": "g",
            "options": {"timer": "perf_counter"},
            "extra_info": {"a": [1]},
            "stats": {"min": 1, "median": 2, "rounds": 2, "data": [1, 3], "outliers": "0;0", "ops": 0.5},
        }
        facts = {"machine_info": {"cpu": {"count": 4}}, "datetime": "2026-01-02T03:04:05", "version": "5.0.0"}
        known, unknown = pytest_file(item, item, **facts), pytest_file(item, {**item, "x": 1}, **facts)
        for table in ("runs", "measurements"):
            assert rows_of(transformed(known), table) == rows_of(transformed(unknown), table)


class TestGoogleBenchmark:
    def test_repetitions_are_samples_of_one_measurement_also_when_interleaved(self) -> None:
        rows = measured(transformed(google_file(google_row("a", 1), google_row("b", 9), google_row("a", 3))))
        assert [(row["benchmark"], row["value"], row["samples"]) for row in rows] == [("a", 2, [1, 3]), ("b", 9, None)]

    def test_time_units_are_never_pooled(self) -> None:
        rows = measured(transformed(google_file(google_row("a", 1), google_row("a", 1, time_unit="ms"))))
        assert [(row["unit"], row["n"]) for row in rows] == [("ns", 1), ("ms", 1)]

    @pytest.mark.parametrize("bad", [{"error_occurred": True, "error_message": "no GPU"}, {"skipped": True}])
    def test_a_failed_or_skipped_repetition_is_never_averaged_in(self, bad: dict[str, Any]) -> None:
        result = transformed(google_file(google_row("a", 4), google_row("a", 0, **bad), google_row("a", 6)))
        (row,) = measured(result)
        assert row["samples"] == [4, 6]
        assert result.outcome.problems[0].where == "/benchmarks/1"
        assert result.outcome.problems[0].effect == "kept"

    def test_aggregates_yield_to_the_samples_and_custom_ones_are_kept_as_derived(self) -> None:
        def aggregate(name: str, value: float) -> dict[str, Any]:
            return {
                "name": f"a_{name}",
                "run_name": "a",
                "run_type": "aggregate",
                "aggregate_name": name,
                "real_time": value,
            }

        rows = measured(
            transformed(google_file(google_row("a", 1), *map(aggregate, ["mean", "stddev", "p99"], [1, 0, 5])))
        )
        assert [(row["metric"], row["derived"]) for row in rows] == [("real_time", False), ("real_time_p99", True)]

    def test_aggregates_alone_are_one_derived_measurement(self) -> None:
        rows = [
            {
                **google_row(f"a_{name}", value),
                "run_name": "a",
                "run_type": "aggregate",
                "aggregate_name": name,
                "iterations": 5,
            }
            for name, value in [("mean", 10), ("median", 9), ("stddev", 2)]
        ]
        (row,) = measured(transformed(google_file(*rows)))
        assert row["derived"]
        assert (row["value"], row["mean"], row["median"], row["stddev"], row["n"]) == (9, 10, 9, 2, 5)

    def test_a_counter_called_name_does_not_take_the_benchmarks_name(self) -> None:
        """The tool writes both; last-wins parsers would call the benchmark NaN."""
        text = (
            b'{"context":{},"benchmarks":[{"name":"a","run_name":"a","run_type":"iteration","real_time":1,"name":NaN}]}'
        )
        result = transformed(text)
        assert measured(result)[0]["benchmark"] == "a"
        assert problems(result) == [
            "/benchmarks/0/name: expected each key once, found 'name' again (a counter of this name), left out"
        ]

    def test_a_number_as_name_is_a_named_problem_and_run_name_steps_in(self) -> None:
        result = transformed(google_file({**google_row("a", 1), "name": 2.5}))
        assert measured(result)[0]["benchmark"] == "a"
        assert problems(result)[0].startswith("/benchmarks/0/name: expected text, found 2.5")
        without = transformed(google_file({"name": 2.5, "real_time": 1}))
        assert without.outcome.verdict == "rejected"
        assert problems(without) == ["/benchmarks/0/name: expected str, found float"]

    def test_a_counter_that_is_not_a_number_costs_only_itself(self) -> None:
        text = google_file(google_row("a", 1, good=2, bad=float("nan"), worse=float("-inf")))
        result = transformed(text)
        assert [(row["metric"], row["value"]) for row in measured(result)] == [("real_time", 1), ("good", 2)]
        assert [problem.where for problem in result.outcome.problems] == ["/benchmarks/0/bad", "/benchmarks/0/worse"]

    @pytest.mark.parametrize(
        ("name", "stem", "params"),
        [
            ("BM_x", "BM_x", ""),
            ("BM_x/8", "BM_x/8", ""),
            ("BM_x/n:8/m:0.5/threads:4", "BM_x", '{"m":0.5,"n":8,"threads":4}'),
            ("BM_x/8/real_time/threads:4", "BM_x/8/real_time", '{"threads":4}'),
            ("BM_x/n:04", "BM_x", '{"n":"04"}'),
            ("BM_x/n:1/n:2", "BM_x/n:1", '{"n":2}'),
            ("BM_x<a::b>/std::less", "BM_x<a::b>/std::less", ""),
            ("n:1", "n:1", ""),
        ],
    )
    def test_params_are_what_the_name_spells_at_its_end(self, name: str, stem: str, params: str) -> None:
        (row,) = measured(transformed(google_file(google_row(name, 1))))
        assert (row["benchmark"], row["params"]) == (stem, params)

    def test_complexity_is_derived_and_has_no_time(self) -> None:
        big_o = {"name": "a_BigO", "run_name": "a", "run_type": "aggregate", "aggregate_name": "BigO", "big_o": "N^2"}
        (row,) = measured(transformed(google_file({**big_o, "cpu_coefficient": 4.5, "time_unit": "us"})))
        assert (row["metric"], row["unit"], row["derived"]) == ("cpu_coefficient", "us", True)
        assert row["params"] == '{"big_o":"N^2"}'

    def test_a_missing_context_is_fine(self) -> None:
        result = transformed(json.dumps({"benchmarks": [google_row("a", 1)]}).encode())
        assert (result.outcome.format, len(measured(result))) == ("google-benchmark", 1)

    def test_what_reaches_no_column_is_in_the_loss_report(self) -> None:
        aggregates = [
            {**google_row(f"a_{name}", 1), "run_name": "a", "run_type": "aggregate", "aggregate_name": name}
            for name in ("mean", "cv", "p99")
        ]
        row = google_row("a", 1, family_index=3, repetition_index=0, text="kept", nested={"kept": True})
        document = json.loads(google_file(row, *aggregates, num_cpus="many", host_name="h"))
        result = transformed(json.dumps({**document, "footer": 1}).encode())
        assert result.outcome.unread == {"/benchmarks/*_cv": 1, "/benchmarks/*_mean": 1, "/footer": 1}
        extra = {"family_index": 3, "repetition_index": 0, "text": "kept", "nested": {"kept": True}}
        assert json.loads(measured(result)[0]["extra"]) == extra
        assert json.loads(run_of(result)["machine"]) == {"host_name": "h", "num_cpus": "many"}


class TestGithubActionBenchmark:
    @pytest.mark.parametrize(
        ("before", "after"), [(b"", b""), (b"window.BENCHMARK_DATA = ", b""), (b"\nwindow.BENCHMARK_DATA=", b";\n")]
    )
    def test_the_assignment_around_a_history_changes_nothing(self, before: bytes, after: bytes) -> None:
        result = transformed(before + history(entry(), entry()) + after)
        assert (result.outcome.format, result.outcome.runs) == ("github-action-benchmark", 2)

    def test_a_bad_run_is_refused_alone_and_keeps_its_place_in_the_count(self) -> None:
        result = transformed(history(entry(1), entry("fast"), {"benches": None}, entry(4)))
        assert [run["ordinal"] for run in rows_of(result, "runs")] == [0, 3]
        assert result.tables is not None
        assert result.tables.runs_refused == 2
        assert problems(result) == [
            "/entries/suite/1/benches/0/value: expected a number, found 'fast'",
            "/entries/suite/2/benches: expected array, found null",
        ]

    def test_nothing_left_is_rejected(self) -> None:
        assert transformed(history(entry("fast"), entry(True))).outcome.verdict == "rejected"

    def test_a_null_value_gives_no_row_and_leaves_its_run(self) -> None:
        result = transformed(history(entry(None)))
        assert measured(result) == []
        assert result.outcome.problems[0].effect == "kept"

    def test_dates_in_seconds_and_milliseconds_stand_in_one_array(self) -> None:
        runs = rows_of(transformed(history(entry(date=1574927127), entry(date=1574927127000))), "runs")
        assert runs[0]["started"] == runs[1]["started"]
        assert runs[0]["started"].year == 2019

    def test_a_run_of_a_history_takes_nothing_from_the_push(self) -> None:
        run = run_of(transformed(history(entry(commit=None))))
        assert (run["commit"], run["branch"], run["cpu"]) == (None, None, None)

    def test_persons_come_into_no_row(self) -> None:
        commit = {"id": "c", "message": "Say hello\n\nSigned-off-by: Jo Doe", "author": {"name": "Jo Doe"}}
        result = transformed(history(entry(commit=commit)))
        assert run_of(result)["commit_subject"] == "Say hello"
        assert "Jo Doe" not in str([rows_of(result, table) for table in ("runs", "measurements")])

    @pytest.mark.parametrize(
        ("tool", "unit", "better"),
        [
            ("customBiggerIsBetter", "s", "higher"),
            ("customSmallerIsBetter", "req/s", "lower"),
            ("cargo", "ns/iter", "lower"),
            ("benchmarkjs", "ops/sec", "higher"),
            ("pytest", "iter/sec", "higher"),
            ("jmh", "ops/ms", "higher"),
            ("jmh", "ms/op", "lower"),
            ("go", "ns/op", "lower"),
            ("go", "MB/s", "higher"),
            ("go", "hits/op", ""),
            ("a-tool-of-tomorrow", "ops/s", ""),
        ],
    )
    def test_direction_is_the_tools_and_the_units(self, tool: str, unit: str, better: str) -> None:
        assert measured(transformed(history(entry(1, unit, tool=tool))))[0]["better"] == better

    @pytest.mark.parametrize(
        ("text", "value"), [("12", 12), ("-0.5", -0.5), ("1,234.5", 1234.5), (" 1e3 ", 1000), (".5", 0.5)]
    )
    def test_a_string_that_spells_a_number_is_one(self, text: str, value: float) -> None:
        assert measured(transformed(history(entry(text))))[0]["value"] == value

    @pytest.mark.parametrize("text", ["1,23", "1_000", "12 ms", "-", "1" * 400, "inf", "0x10"])
    def test_any_other_string_refuses_its_run(self, text: str) -> None:
        assert transformed(history(entry(text))).outcome.verdict == "rejected"

    def test_the_rest_of_gos_line_becomes_measurements_unless_the_file_has_them(self) -> None:
        line = {"name": "B", "value": 40, "unit": "ns/op\t 120 B/op\t 2 allocs/op"}
        own = {"name": "B - B/op", "value": 121, "unit": "B/op"}
        rows = measured(transformed(history(entry(benches=[line, own]))))
        assert [(row["benchmark"], row["value"], row["unit"]) for row in rows] == [
            ("B", 40, "ns/op"),
            ("B - allocs/op", 2, "allocs/op"),
            ("B - B/op", 121, "B/op"),
        ]

    def test_suites_are_never_pooled(self) -> None:
        entries = {"one": [entry()], "two": [entry()]}
        rows = measured(transformed(json.dumps({"lastUpdate": 1, "entries": entries}).encode()))
        assert len({row["series"] for row in rows}) == 2

    def test_the_bare_array_is_one_run_that_the_push_describes(self) -> None:
        result = transformed(b'[{"name": "a", "unit": "s", "value": 1}]')
        assert run_of(result)["commit"] == "c" * 40
        assert measured(result)[0]["better"] == ""

    def test_what_reaches_no_column_is_in_the_loss_report(self) -> None:
        person = {"name": "Jo Doe"}
        commit = {"id": "c", "message": "a\n\nb", "author": person, "committer": {}, "distinct": True, "tree_id": "t"}
        urls = ["https://example.org/r/commit/c", "https://example.org/r/c"]
        entries = [entry(commit={**commit, "url": url, "sponsor": 1}) for url in urls]
        entries += [
            entry(benches=[{"name": "a", "value": 1, "os": "x"}, {"name": "b", "value": 2, "os": ""}], by=person)
        ]
        document = {"entries": {"s": entries}, "repoUrl": "https://example.org/r", "lastUpdate": 1, "x": {}, "y": 1}
        result = transformed(json.dumps(document).encode())
        assert result.outcome.unread == {
            "/entries/*/*/benches/*/os": 1,
            "/entries/*/*/by": 1,
            "/entries/*/*/commit/author": 2,
            "/entries/*/*/commit/distinct": 2,
            "/entries/*/*/commit/message (beyond its first line)": 2,
            "/entries/*/*/commit/sponsor": 2,
            "/entries/*/*/commit/tree_id": 2,
            "/entries/*/*/commit/url": 1,
            "/lastUpdate": 1,
            "/y": 1,
        }
        assert [dict(run["labels"])["repository"] for run in rows_of(result, "runs")] == ["https://example.org/r"] * 3

    def test_an_address_of_the_repository_that_is_no_text_is_counted(self) -> None:
        result = transformed(json.dumps({"entries": {"s": [entry()]}, "repoUrl": ["a"]}).encode())
        assert (result.outcome.runs, result.outcome.unread["/repoUrl"]) == (1, 1)

    def test_an_unknown_field_of_a_bare_array_is_counted_and_its_row_is_the_same(self) -> None:
        plain, more = (
            transformed(json.dumps([{"name": "a", "unit": "s", "value": 1, **x}]).encode()) for x in ({}, {"p": 1})
        )
        assert (plain.outcome.unread, more.outcome.unread) == ({}, {"/*/p": 1})
        assert rows_of(plain, "measurements") == rows_of(more, "measurements")

    def test_a_suite_with_a_slash_is_escaped_in_the_pointer(self) -> None:
        assert transformed(history(5, suite="a/b~c")).outcome.problems[0].where == "/entries/a~1b~0c/0"


@pytest.mark.parametrize(
    "data",
    [
        b'{"version": "1", "metadata": {}, "benchmarks": [{"metadata": {"name": "x"}, "runs": []}]}',
        b'{"benchmarks": []}',
        b'{"benchmarks": 5}',
        b'{"entries": {}}',
        b'[{"name": "a", "status": "passed"}]',
        b"var BENCHMARK_DATA = {}",
    ],
)
def test_what_only_looks_alike_is_claimed_by_none_of_the_three(data: bytes) -> None:
    shape = shape_of(data)
    three = ("pytest-benchmark", "google-benchmark", "github-action-benchmark")
    assert [id for id in three if FORMATS[id].claims(shape)] == []
