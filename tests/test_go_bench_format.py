"""go test -bench: identity of benchmarks and runs, directions, failures, dialects, and hostile text."""

import time
from typing import Any

import pytest

from schemas.records import Commit, Machine
from tests.golden import rows_of, transformed

HEAD = "goos: linux\ngoarch: amd64\npkg: example.com/p\n"


def measurements(text: str) -> list[dict[str, Any]]:
    return rows_of(transformed(text.encode(), "go-bench"), "measurements")


def identity(name: str) -> tuple[str, str]:
    (row,) = measurements(f"{name} 100 5 ns/op\n")
    return row["benchmark"], row["params"]


def direction(unit: str, head: str = "") -> str:
    (row,) = measurements(f"{head}BenchmarkA 100 5 {unit}\n")
    return str(row["better"])


# --- identity ---


@pytest.mark.parametrize(
    ("name", "expected", "params"),
    [
        ("BenchmarkDecode", "Decode", ""),
        ("BenchmarkDecode-8", "Decode", '{"gomaxprocs":8}'),
        ("Benchmark-8", "Benchmark", '{"gomaxprocs":8}'),
        ("Benchmark_x_-_20", "_x_-_20", ""),
        ("BenchmarkA/b/c-2", "A/b/c", '{"gomaxprocs":2}'),
        ("BenchmarkA/size=1kB/align=0-2", "A", '{"align":"0","gomaxprocs":2,"size":"1kB"}'),
        ("BenchmarkA/k=1/x", "A/k/x", '{"k":"1"}'),
        ("BenchmarkA/k=1/k=2", "A/k/k=2", '{"k":"1"}'),
        ("BenchmarkA/=1/x=", "A/=1", '{"x":""}'),
        ("BenchmarkA/gomaxprocs=1-4", "A/gomaxprocs=1", '{"gomaxprocs":4}'),
        ("BenchmarkA-" + "9" * 5000, "A-" + "9" * 5000, ""),
    ],
)
def test_a_name_is_a_benchmark_and_params(name: str, expected: str, params: str) -> None:
    assert identity(name) == (expected, params)


def test_benchmarks_of_the_same_name_in_two_packages_are_two() -> None:
    rows = measurements("pkg: a\nBenchmarkX 1 5 ns/op\npkg: b\nBenchmarkX 1 6 ns/op\n")
    assert [(row["benchmark"], row["samples"]) for row in rows] == [("a.X", [5.0]), ("b.X", [6.0])]


def test_repeated_lines_are_samples_also_where_other_lines_and_units_come_between() -> None:
    lines = ["BenchmarkX 1 5 ns/op", "BenchmarkY 1 1 ns/op", "goos: linux", "BenchmarkX 2 9 ns/op 3 B/op", "PASS"]
    rows = measurements("\n".join(["goos: linux", *lines, "BenchmarkX 4 6 ns/op"]))
    assert [(row["benchmark"], row["unit"], row["value"], row["samples"], row["extra"]) for row in rows] == [
        ("X", "ns/op", 6.0, [5.0, 6.0, 9.0], '{"iterations":[1,4,2]}'),
        ("X", "B/op", 3.0, [3.0], '{"iterations":[2]}'),
        ("Y", "ns/op", 1.0, [1.0], '{"iterations":[1]}'),
    ]


def test_a_key_that_varies_is_a_param_and_one_that_does_not_a_label() -> None:
    text = (
        "suite: s\nnote: before\nBenchmarkX 1 5 ns/op\nnote: after\nBenchmarkX 1 6 ns/op\nnote:\nBenchmarkX 1 7 ns/op\n"
    )
    result = transformed(text.encode())
    assert [row["params"] for row in rows_of(result, "measurements")] == ['{"note":"before"}', '{"note":"after"}', ""]
    assert rows_of(result, "runs")[0]["labels"] == [("suite", "s")]


def test_a_key_of_the_name_and_one_of_the_file_do_not_meet() -> None:
    rows = measurements("note: a\nBenchmarkX/note=1 1 5 ns/op\nnote: b\nBenchmarkX/note=1 1 6 ns/op\n")
    assert [row["params"] for row in rows] == ['{"note":"1","note:":"a"}', '{"note":"1","note:":"b"}']


# --- runs ---


def test_what_a_configuration_does_not_say_of_the_machine_the_others_say() -> None:
    """Samples before the first `cpu:` line are of the same machine, if the file names only one."""
    result = transformed(
        f"BenchmarkX 1 5 ns/op\n{HEAD}cpu: C\nBenchmarkX 1 6 ns/op\npkg:\nBenchmarkX 1 7 ns/op".encode()
    )
    (run,) = rows_of(result, "runs")
    assert (run["cpu"], run["runtime"], run["os"]) == ("C", "Go linux/amd64", "Debian 12")
    assert [row["samples"] for row in rows_of(result, "measurements")] == [[5.0, 7.0], [6.0]]


def test_two_machines_are_two_runs_of_two_environments() -> None:
    runs = rows_of(transformed(b"cpu: A\nBenchmarkX 1 5 ns/op\ncpu: B\nBenchmarkX 1 6 ns/op\n"), "runs")
    assert [run["cpu"] for run in runs] == ["A", "B"]
    assert runs[0]["environment"] != runs[1]["environment"]
    assert {run["commit"] for run in runs} == {"c" * 40}


def test_runs_of_a_file_with_several_commits_take_nothing_from_the_push() -> None:
    text = b"commit: aaaaaaa\nBenchmarkX 1 5 ns/op\ncommit: bbbbbbb\nBenchmarkX 1 6 ns/op\n"
    runs = rows_of(transformed(text, commit=Commit(id="a" * 40)), "runs")
    assert [(run["commit"], run["cpu"]) for run in runs] == [("aaaaaaa", None), ("bbbbbbb", None)]


def test_a_commit_that_is_no_hash_is_a_label() -> None:
    (run,) = rows_of(transformed(b"commit: my change\nBenchmarkX 1 5 ns/op\n"), "runs")
    assert (run["commit"], run["labels"]) == ("c" * 40, [("commit", "my change")])


@pytest.mark.parametrize(
    ("memory", "gib"), [("16 GB", 16), ("16384 MiB", 16), ("1T", 1024), ("lots", 32), ("0 GB", 32)]
)
def test_memory_is_read_where_it_is_a_size(memory: str, gib: int) -> None:
    """Elsewhere the push is asked, which says 32."""
    result = transformed(f"mem: {memory}\nBenchmarkX 1 5 ns/op\n".encode(), machine=Machine(ram_gib=32))
    assert rows_of(result, "runs")[0]["ram_gib"] == gib


# --- direction ---


@pytest.mark.parametrize(
    ("unit", "better"),
    [
        *(
            (unit, "lower")
            for unit in ("ns/op", "sec/op", "B/op", "allocs/op", "p99-ns", "build-real-ns/op", "gc-ns/GC")
        ),
        *((unit, "lower") for unit in ("heap-B/op", "x-sec")),
        *((unit, "higher") for unit in ("MB/s", "B/s", "req/sec", "items/s")),
        *((unit, "") for unit in ("widgets", "total-bytes", "hits/op", "%", "op/")),
    ],
)
def test_a_unit_has_the_direction_that_its_definition_gives(unit: str, better: str) -> None:
    assert direction(unit) == better


@pytest.mark.parametrize(
    ("unit", "line", "better"),
    [
        ("ns/op", "Unit sec/op better=higher", "higher"),
        ("MB/s", "Unit B/s better=lower", "lower"),
        ("x-MB", "Unit x-B better=lower", "lower"),
        ("widgets", "Unit widgets better=higher assume=exact", "higher"),
        ("ns/op", "Unit ns/op better=sideways", "lower"),
        ("widgets", "Unit widgets", ""),
    ],
)
def test_a_unit_line_outranks_it_wherever_it_stands(unit: str, line: str, better: str) -> None:
    assert direction(unit, f"{line}\n") == better
    (row,) = measurements(f"BenchmarkA 100 5 {unit}\n{line}\n")
    assert row["better"] == better


# --- failures and losses ---


def test_a_benchmark_that_began_and_gave_nothing_is_flagged_and_its_parents_are_not() -> None:
    lines = [
        "BenchmarkA",
        "BenchmarkA/x",
        "BenchmarkA/x-8 1 5 ns/op",
        "BenchmarkB",
        "BenchmarkAB",
        "BenchmarkC-8 \tlog",
    ]
    problems = transformed("\n".join(lines).encode()).outcome.problems
    assert [(problem.where, problem.expected) for problem in problems] == [
        ("line 4", "a result of BenchmarkB"),
        ("line 5", "a result of BenchmarkAB"),
        ("line 6", "a result of BenchmarkC-8"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "BenchmarkB-8 \t--- FAIL: BenchmarkB-8",
        "--- SKIP: BenchmarkB",
        "FAIL\tp [build failed]",
        "panic: x",
        "fatal error: x",
    ],
)
def test_failures_are_flagged_and_cost_no_other_row(line: str) -> None:
    result = transformed(f"BenchmarkA 1 5 ns/op\n{line}\n".encode())
    assert [problem.where for problem in result.outcome.problems] == ["line 2"]
    assert result.outcome.measurements == 1


@pytest.mark.parametrize("rest", ["100 5", "100 x ns/op", "100 5 ns/op 6", "100", "100 ns/op"])
def test_a_line_that_is_no_result_is_flagged_and_cost_no_other_row(rest: str) -> None:
    for lines in (["BenchmarkA 1 5 ns/op", f"BenchmarkA {rest}"], [f"BenchmarkA {rest}", "BenchmarkA 1 5 ns/op"]):
        result = transformed("\n".join(lines).encode())
        assert [row["samples"] for row in rows_of(result, "measurements")] == [[5.0]]
        assert [problem.effect for problem in result.outcome.problems] == ["kept"]


def test_values_that_are_not_finite_are_left_out_and_flagged() -> None:
    result = transformed(b"BenchmarkA 1 NaN x 1 y\nBenchmarkA 2 5 x +Inf y\nBenchmarkB 1 1e999 x\n")
    assert [(row["unit"], row["samples"]) for row in rows_of(result, "measurements")] == [("x", [5.0]), ("y", [1.0])]
    assert [problem.where for problem in result.outcome.problems] == ["line 1", "line 1", "line 3"]


def test_logs_are_no_keys_and_persons_are_not_kept() -> None:
    text = "by: Ada\nerror: one\nBenchmarkA 1 5 ns/op\nerror: two\nBenchmarkA 1 6 ns/op\nmain.go:12: x\nok  \tp\t0.1s\n"
    result = transformed(text.encode())
    assert [row["samples"] for row in rows_of(result, "measurements")] == [[5.0, 6.0]]
    assert result.outcome.unread == {"line: other output": 3, "line: person": 1, "line: time of a package": 1}


# --- dialects and hostile text ---


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-8"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_encodings_and_ends_of_lines_make_no_difference(encoding: str, newline: str) -> None:
    text = f"{HEAD}cpu: C\x1b[0m\n\x1b[32mBenchmarkÄ-8\x1b[0m 1 5 ns/op\nPASS".replace("\n", newline)
    result = transformed(text.encode(encoding))
    (row,) = rows_of(result, "measurements")
    assert (row["benchmark"], row["value"]) == ("example.com/p.Ä", 5.0)
    assert rows_of(result, "runs")[0]["cpu"] == "C"
    assert result.outcome.unread == {}


def test_lines_longer_than_a_block_and_blocks_of_many_lines_are_read() -> None:
    text = f"{'x' * 3_000_000}\n{HEAD}" + "BenchmarkA-8   1   5 ns/op\n" * 100_000
    (row,) = rows_of(transformed(text.encode()), "measurements")
    assert row["n"] == 100_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PASS\n",
        "ok  \tp\t0.1s\n",
        "the Benchmark 1 5 ns/op\n",
        "BenchmarkA\n",
        "TAP version 14\nBenchmarkA 1 5 x\n",
    ],
)
def test_text_without_a_result_is_not_claimed(text: str) -> None:
    assert transformed(text.encode()).outcome.format != "go-bench"


@pytest.mark.parametrize(
    "text",
    [
        "Benchmark" * 200_000,
        "Benchmark\n" * 100_000,
        "Benchmark" + "/a" * 500_000 + " 1 5 ns/op\nBenchmarkA" + "/a" * 500_000 + "\n",
        "BenchmarkA 1" + " 5 u" * 100_000,
        "BenchmarkA 1" + "".join(f" 5 u{n}" for n in range(50_000)),
        "".join(f"k{n}: v\nBenchmarkA 1 5 x\n" for n in range(20_000)),
        "a: " + "x" * 1_000_000 + "\nBenchmarkA 1 5 x\n" * 10_000,
        "\x1b[" * 200_000 + "BenchmarkA" + "-1" * 200_000,
        "BenchmarkA" + " " * 500_000 + "1",
    ],
)
def test_the_time_for_hostile_text_grows_with_its_size_only(text: str) -> None:
    """Each of these takes minutes with a quadratic step."""
    start = time.process_time()
    for format in ("auto", "go-bench"):
        assert transformed(text.encode(), format).outcome.verdict in ("accepted", "rejected")
    assert time.process_time() - start < 20
