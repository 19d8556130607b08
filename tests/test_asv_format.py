"""asv: both versions, alone and as a folder; what makes a run, a series and a digest; what fails or is skipped."""

import gzip
import io
import json
import tarfile
import time
import zipfile
from datetime import UTC, datetime
from typing import Any

import pytest

from processor.transform import Transformed
from schemas.records import Commit, Machine
from tests.golden import rows_of, transformed

COLUMNS = ["result", "params", "version", "started_at", "duration"]
COLUMNS += [f"stats_{name}" for name in ("ci_99_a", "ci_99_b", "q_25", "q_75", "number", "repeat")] + [
    "samples",
    "profile",
]
COMMIT = "8d3c1d0c8a6a9f2b6d0c5e3f4a1b2c3d4e5f6a7b"
MACHINE = {
    "machine": "m1",
    "cpu": "CPU 1",
    "num_cpu": "8",
    "ram": "16777216000",
    "os": "Linux 6.1.0-13",
    "arch": "x86_64",
}
FULL = [[0.5], [], "v1", 1767610000000, 2.0, [0.4], [0.6], [0.45], [0.55], [10], [3], [[0.4, 0.5, 0.6]]]


def document(results: dict[str, Any], **changes: Any) -> dict[str, Any]:
    fields = {
        "version": 2,
        "commit_hash": COMMIT,
        "env_name": "virtualenv-py3.12",
        "date": 1767607200000,
        "params": MACHINE | {"python": "3.12"},
        "python": "3.12",
        "requirements": {},
        "env_vars": {},
        "result_columns": COLUMNS,
        "results": results,
        "durations": {},
    }
    return {key: value for key, value in (fields | changes).items() if value != "absent"}


def old_document(results: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return document(results, **({"version": 1, "result_columns": "absent", "env_name": "absent"} | changes))


def sent(content: Any, **context: Any) -> Transformed:
    return transformed(json.dumps(content).encode(), **context)


def as_zip(files: dict[str, Any]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content if isinstance(content, str) else json.dumps(content))
    return made.getvalue()


def as_tar_gz(files: dict[str, Any]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            text = (content if isinstance(content, str) else json.dumps(content)).encode()
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))
    return gzip.compress(made.getvalue())


def folder(**more: Any) -> dict[str, Any]:
    """A results folder with one result; `more` are results by commit."""
    files = {"results/benchmarks.json": {"version": 2}, "results/m1/machine.json": MACHINE | {"version": 1}}
    results = {COMMIT: document({"a.time_x": FULL}), **more}
    return files | {f"results/m1/{commit[:8]}-virtualenv-py3.12.json": result for commit, result in results.items()}


def rows(result: Transformed) -> list[dict[str, Any]]:
    assert result.outcome.verdict == "accepted", result.outcome.problems
    return rows_of(result, "measurements")


def only_row(result: Transformed) -> dict[str, Any]:
    (row,) = rows(result)
    return row


def problems_of(result: Transformed) -> list[str]:
    return [str(problem) for problem in result.outcome.problems]


# --- one result ---


def test_a_result_with_all_columns_gives_a_row_with_every_sample() -> None:
    row = only_row(sent(document({"a.time_x": FULL})))
    assert (row["benchmark"], row["params"], row["benchmark_version"]) == ("a.time_x", "", "v1")
    assert (row["metric"], row["unit"], row["better"]) == ("time", "s", "lower")
    assert (row["value"], row["samples"], row["n"]) == (0.5, [0.4, 0.5, 0.6], 3)
    assert (row["min"], row["max"], row["mean"], row["median"]) == (0.4, 0.6, 0.5, 0.5)
    assert (row["q1"], row["q3"]) == (0.45, 0.55)
    extra = {"ci_99": [0.4, 0.6], "number": 10, "started_at": 1767610000000, "duration": 2.0}
    assert json.loads(row["extra"]) == extra


@pytest.mark.parametrize("length", range(1, len(FULL) + 1))
def test_columns_may_be_missing_at_the_end(length: int) -> None:
    row = only_row(sent(document({"a.time_x": FULL[:length]})))
    assert row["value"] == 0.5
    assert row["n"] == (3 if length > 10 else None)
    assert (row["samples"] is None) == (length < len(FULL))


def test_values_follow_the_product_of_the_params() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    made = rows(sent(document({"a.time_x": [values, [["10", "20"], ["'a'", "'b'", "'c'"]]]})))
    assert [(json.loads(row["params"]), row["value"]) for row in made] == [
        ({"param1": n, "param2": c}, value)
        for (n, c), value in zip([(n, c) for n in ("10", "20") for c in ("'a'", "'b'", "'c'")], values, strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "metric", "unit", "better"),
    [
        ("a.b.Suite.time_x", "time", "s", "lower"),
        ("a.timeraw_x", "time", "s", "lower"),
        ("a.TimeSort", "time", "s", "lower"),
        ("time_module.mem_x", "memory", "bytes", "lower"),
        ("a.peakmem_x", "peakmemory", "bytes", "lower"),
        ("a.track_x", "track", "", ""),
        ("time_module.other", "value", "", ""),
        ("a.timeout", "value", "", ""),
        ("", "value", "", ""),
    ],
)
def test_the_name_says_what_is_measured(name: str, metric: str, unit: str, better: str) -> None:
    row = only_row(sent(document({name: [[1.0], []]})))
    assert (row["metric"], row["unit"], row["better"]) == (metric, unit, better)


def test_what_failed_or_was_skipped_gives_no_row_and_one_flag_a_benchmark() -> None:
    results = {
        "a.time_all": [None, [["1", "2"]]],
        "a.time_short": [],
        "a.time_some": [[None, 1.0, float("nan"), float("inf")], [["1", "2", "3", "4"]]],
    }
    result = sent(document(results))
    assert [row["params"] for row in rows(result)] == ['{"param1":"2"}']
    assert problems_of(result) == [
        "/results/a.time_all: expected a number, found null: it failed",
        "/results/a.time_short: expected a number, found null: it failed",
        "/results/a.time_some: expected a number, found 1 failed (null), 1 skipped (NaN), 1 infinite",
    ]
    assert {problem.effect for problem in result.outcome.problems} == {"kept"}


def test_more_or_fewer_values_than_combinations_are_flagged() -> None:
    for values, count in (([1.0], 1), ([1.0, 2.0, 3.0], 2)):
        result = sent(document({"a.time_x": [values, [["1", "2"]]]}))
        assert len(rows(result)) == count
        assert "2 results, one per combination" in problems_of(result)[0]


def test_what_no_column_holds_is_counted() -> None:
    columns = [*COLUMNS, "mood"]
    row = [*FULL, "profiled", "good", "and more"]
    result = sent(document({"a.time_x": row}, result_columns=columns, durations={"<build>": 1.0}, odd=1))
    unread = {
        "/results/*/profile": 1,
        "/results/*/mood": 1,
        "/results/*/more than result_columns": 1,
        "/durations": 1,
        "/odd": 1,
    }
    assert result.outcome.unread == unread
    assert result.outcome.problems == []


def test_commit_and_times_are_the_files_own() -> None:
    later = [[1.0], [], "v1", 1767610100000, 30.5]
    result = sent(document({"a.time_x": FULL, "a.time_y": later}))
    (run,) = rows_of(result, "runs")
    assert (run["commit"], run["commit_time"]) == (COMMIT, datetime(2026, 1, 5, 10, tzinfo=UTC))
    assert run["started"] == datetime.fromtimestamp(1767610000, UTC)
    assert run["finished"] == datetime.fromtimestamp(1767610130.5, UTC)
    assert dict(run["labels"]) == {"tool": "asv", "machine": "m1", "env_name": "virtualenv-py3.12"}


# --- version 1 ---


def test_the_older_version_gives_the_same_row() -> None:
    stats = {"ci_99": [0.4, 0.6], "q_25": 0.45, "q_75": 0.55, "number": 10, "repeat": 3}
    beside = {
        "benchmark_version": {"a.time_x": "v1"},
        "started_at": {"a.time_x": 1767610000000},
        "duration": {"a.time_x": 2.0},
        "env_name": "virtualenv-py3.12",
    }
    for old in (
        {"result": 0.5, "stats": stats, "samples": [0.4, 0.5, 0.6]},
        {"result": [0.5], "stats": [stats], "samples": [[0.4, 0.5, 0.6]], "params": []},
    ):
        results = [sent(document({"a.time_x": FULL})), sent(old_document({"a.time_x": old}, **beside))]
        assert rows(results[0]) == rows(results[1])
        digests = [rows_of(result, "runs")[0]["digest"] for result in results]
        assert digests[0] == digests[1]


def test_a_bare_number_or_null_is_a_result_of_the_older_version() -> None:
    result = sent(old_document({"a.time_x": 1, "a.time_y": None, "a.time_z": float("nan")}))
    assert only_row(result)["value"] == 1.0
    assert [problem.partition(":")[0] for problem in problems_of(result)] == ["/results/a.time_y", "/results/a.time_z"]


def test_statistics_of_the_older_version_are_taken_where_there_are_no_samples() -> None:
    stats = {
        "min": 1.0,
        "max": 3.0,
        "mean": 2.0,
        "std": 0.5,
        "n": 7,
        "ci_99": [1, "Infinity"],
        "sem": 0.25,
        "deep": [[1]],
    }
    row = only_row(sent(old_document({"a.time_x": {"result": [2.0], "stats": [stats]}})))
    assert (row["min"], row["max"], row["mean"], row["stddev"], row["n"]) == (1.0, 3.0, 2.0, 0.5, 7)
    assert json.loads(row["extra"])["sem"] == 0.25


def test_without_env_name_it_is_spelt_as_asv_does() -> None:
    result = sent(old_document({"a.time_x": 1}, requirements={"numpy": "1.8", "Cython": None}))
    assert rows_of(result, "runs")[0]["title"] == "py3.12-Cython-numpy1.8"


# --- environment ---


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, ("CPU 1", 8, 16, "Linux 6", "CPython 3.12")),
        ({"params": {"machine": "m1"}}, ("m1", None, None, None, "CPython 3.12")),
        ({"params": {"ram": "8.2G", "cpu": "Old (4 cores)"}}, ("Old (4 cores)", 4, 8, None, "CPython 3.12")),
        ({"params": {"cpu": "c", "ram": "16331872"}}, ("c", None, 16, None, "CPython 3.12")),
        ({"params": {"cpu": "c", "ram": 8589934592, "num_cpu": 2}}, ("c", 2, 8, None, "CPython 3.12")),
        ({"params": {"cpu": "c", "ram": "16331872 kB", "num_cpu": "0"}}, ("c", None, 16, None, "CPython 3.12")),
        ({"params": {"cpu": "c", "os": "Darwin 23.1.0", "ram": "lots"}}, ("c", None, None, "macOS 14", "CPython 3.12")),
        ({"params": {"cpu": "c", "os": "Linux (Fedora 20)"}}, ("c", None, None, "Linux (Fedora 20)", "CPython 3.12")),
        ({"params": {"cpu": "c"}, "python": "pypy3.10"}, ("c", None, None, None, "PyPy 3.10")),
        ({"params": {"cpu": "c"}, "python": "3.13t"}, ("c", None, None, None, "CPython 3.13")),
        ({"params": {"cpu": "c", "python": "3.9"}, "python": None}, ("c", None, None, None, "CPython 3.9")),
        (
            {"params": {"cpu": "c"}, "requirements": {"scipy": "", "numpy": "1.26"}, "env_vars": {"OMP": "1"}},
            ("c", None, None, None, "CPython 3.12, numpy 1.26, scipy, OMP=1"),
        ),
    ],
)
def test_the_environment_is_what_asv_compares_within(changes: dict[str, Any], parts: tuple[Any, ...]) -> None:
    result = transformed(
        as_zip(folder(**{COMMIT: document({"a.time_x": FULL}, **changes)}) | {"results/m1/machine.json": "{}"})
    )
    (run,) = rows_of(result, "runs")
    assert tuple(run[part] for part in ("cpu", "cores", "ram_gib", "os", "runtime")) == parts


def test_another_requirement_variable_or_machine_is_another_series() -> None:
    params = {"machine": "m1", "python": "3.12"}
    documents = [
        document({"a.time_x": FULL}, params=params),
        document({"a.time_x": FULL}, params=params | {"machine": "m2"}),
        document({"a.time_x": FULL}, params=params, requirements={"numpy": "1.26"}),
        document({"a.time_x": FULL}, params=params, requirements={"numpy": "2.0"}),
        document({"a.time_x": FULL}, params=params, env_vars={"OMP_NUM_THREADS": "1"}),
        document({"a.time_x": [*FULL[:2], "v2"]}, params=params),
        document({"a.time_x": FULL}, params=params, python="3.13"),
    ]
    assert len({only_row(sent(one))["series"] for one in documents}) == len(documents)


def test_a_file_sent_alone_takes_from_the_push_what_it_does_not_say_and_a_folder_nothing() -> None:
    context = {"machine": Machine(cpu="Pusher's", cores=64, ram_gib=256), "commit": Commit(id=COMMIT, branch="main")}
    one = document({"a.time_x": FULL}, params={"machine": "m1", "cpu": "CPU 1"})
    (run,) = rows_of(sent(one, **context), "runs")
    assert (run["cpu"], run["cores"], run["branch"]) == ("CPU 1", 64, "main")
    files = {"m1/aaaaaaaa-x.json": one, "m1/machine.json": {"machine": "m1"}}
    (run,) = rows_of(transformed(as_zip(files), **context), "runs")
    assert (run["cpu"], run["cores"], run["branch"] or "") == ("CPU 1", None, "")


# --- the folder ---


def test_a_folder_is_a_run_per_result_file_in_zip_and_tar() -> None:
    files = folder(**{"b" * 40: document({"a.time_x": FULL}, commit_hash="b" * 40)})
    for made in (as_zip, as_tar_gz):
        result = transformed(made(files))
        assert result.outcome.problems == []
        assert [run["commit"] for run in rows_of(result, "runs")] == [COMMIT, "b" * 40]
        assert [run["measurements"] for run in rows_of(result, "runs")] == [1, 1]


def test_a_folder_sent_again_with_a_run_more_adds_one_digest() -> None:
    first = folder(**{"b" * 40: document({"a.time_x": FULL, "a.time_p": [[1.0], [["1"]]]}, commit_hash="b" * 40)})
    first["results/benchmarks.json"] = {"a.time_p": {"param_names": ["n"], "version": "v1", "code": "1"}, "version": 2}
    again = {"results/m1/00000000-first.json": document({"a.time_x": [[9.0], []]}, commit_hash="0" * 40)} | first
    again["results/benchmarks.json"] = {
        "a.time_p": {"param_names": ["n"], "version": "v2", "code": "2"},
        "a.time_new": {"param_names": [], "version": "v1"},
        "version": 2,
    }
    digests = [
        [run["digest"] for run in rows_of(transformed(made(files), **context), "runs")]
        for made, files, context in (
            (as_zip, first, {}),
            (as_tar_gz, again, {"commit": Commit(id="d" * 40), "machine": Machine(cpu="Another")}),
        )
    ]
    assert len(set(digests[0])) == 2
    assert len(set(digests[1])) == 3
    assert set(digests[0]) < set(digests[1])


def test_one_bad_result_is_refused_alone() -> None:
    files = folder(
        **{
            "b" * 40: "{ no JSON",
            "c" * 40: [],
            "d" * 40: document({"a.time_x": "fast"}),
            "e" * 40: document({"a.time_x": [["fast"], []]}),
            "0" * 40: document({"a.time_x": FULL}, commit_hash="0" * 40),
        }
    )
    result = transformed(as_zip(files))
    assert [run["commit"] for run in rows_of(result, "runs")] == [COMMIT, "0" * 40]
    assert {problem.effect for problem in result.outcome.problems} == {"refused"}
    where = [problem.where.split(" ")[0] for problem in result.outcome.problems]
    assert where == [f"results/m1/{commit * 8}-virtualenv-py3.12.json" for commit in "bcde"]


@pytest.mark.parametrize("levels", [1, 500, 900, *range(960, 1000), 2000, 20_000])
def test_nesting_costs_at_most_its_own_run(levels: int) -> None:
    text = json.dumps(document({"a.time_x": FULL}, params="DEEP"))
    text = text.replace('"DEEP"', '{"machine": "m1", "a":' + "[" * levels + "]" * levels + "}")
    outcome = transformed(as_zip(folder(**{"f" * 40: text}))).outcome
    assert outcome.verdict == "accepted"
    if outcome.runs == 2:
        assert outcome.unread == {"/params/*": 1}
        assert levels < 2000
    else:
        assert (outcome.runs, len(outcome.problems)) == (1, 1)
        assert "nesting" in outcome.problems[0].expected
        assert levels > 900


def test_benchmarks_json_gives_names_of_params_and_units_of_what_is_tracked() -> None:
    results = {"a.track_x": [[7.0], [["1"]], "v1"], "a.track_y": [[1.0], []], "a.time_x": [[1.0], [["1"], ["2"]]]}
    files = folder(**{COMMIT: document(results)})
    files["results/benchmarks.json"] = {
        "a.track_x": {"param_names": ["n"], "unit": "lines", "version": "v9", "type": "track"},
        "a.track_y": {"unit": "unit"},
        "a.time_x": {"param_names": ["same", "same"], "unit": "seconds", "code": "def time_x(): pass"},
        "version": 2,
    }
    result = transformed(as_zip(files))
    made = {row["benchmark"]: (row["params"], row["unit"]) for row in rows(result)}
    assert made["a.track_x"] == ('{"n":"1"}', "lines")
    assert made["a.track_y"] == ("", "")
    assert made["a.time_x"] == ('{"param1":"1","param2":"2"}', "s")
    assert result.outcome.unread["benchmarks.json/*/code"] == 1


def test_benchmarks_json_of_the_nearest_folder_above_counts() -> None:
    files = {
        f"{root}{name}": content
        for root, unit in (("", "none"), ("x/", "outer"), ("x/y/", "inner"))
        for name, content in (
            ("benchmarks.json", {"a.track_x": {"unit": unit}}),
            ("m1/machine.json", MACHINE),
            (f"m1/{COMMIT[:8]}-e.json", document({"a.track_x": [[1.0], []]})),
        )
    }
    assert [row["unit"] for row in rows(transformed(as_zip(files)))] == ["none", "outer", "inner"]


@pytest.mark.parametrize("broken", ["{", "[]", '{"a.time_x": 5}', '{"a.time_x": {"param_names": 5}}'])
def test_a_broken_benchmarks_json_or_machine_json_is_flagged_and_costs_no_run(broken: str) -> None:
    result = transformed(as_zip(folder() | {"results/benchmarks.json": broken}))
    assert len(rows(result)) == 1
    assert problems_of(result)[0].startswith("results/benchmarks.json /")
    result = transformed(as_zip(folder() | {"results/m1/machine.json": broken[:2]}))
    assert len(rows(result)) == 1
    assert problems_of(result)[0].startswith("results/m1/machine.json /") or broken[:2] != "[]"


def test_machine_json_fills_what_the_result_leaves_out_and_must_name_the_same_machine() -> None:
    files = folder(**{COMMIT: document({"a.time_x": FULL}, params={"machine": "m1", "cpu": "CPU 2"})})
    (run,) = rows_of(transformed(as_zip(files)), "runs")
    assert (run["cpu"], run["cores"]) == ("CPU 2", 8)
    result = transformed(as_zip(files | {"results/m1/machine.json": {"machine": "m2"}}))
    assert "expected the machine of machine.json, found 'm1' and 'm2'" in problems_of(result)[0]


def test_other_files_of_the_archive_are_counted() -> None:
    files = folder() | {
        "asv.conf.json": "{}",
        "html/graphs/summary.json": "[]",
        "results/m1/notes.txt": "x",
        "results/m1/._x.json": "x",
    }
    result = transformed(as_zip(files))
    assert result.outcome.problems == []
    assert result.outcome.unread == {"(other files)": 4}


def test_results_without_machine_json_are_known_by_their_names() -> None:
    files = folder()
    del files["results/m1/machine.json"]
    assert len(rows(transformed(as_zip(files)))) == 1


def test_a_folder_without_results_is_empty_or_if_there_is_nothing_of_asv_refused() -> None:
    outcome = transformed(as_zip({"results/benchmarks.json": {"version": 2}})).outcome
    assert (outcome.verdict, outcome.runs) == ("accepted", 0)
    assert transformed(as_zip({"x.txt": ""}), "asv").outcome.verdict == "rejected"


# --- hostile ---


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"commit_hash": None}, "/commit_hash"),
        ({"results": []}, "/results"),
        ({"params": None}, "/params"),
        ({"date": "yesterday"}, "/date"),
        ({"date": float("nan")}, "/date"),
        ({"requirements": []}, "/requirements"),
        ({"result_columns": "result"}, "/result_columns"),
        ({"results": {"a/b~c": {}}}, "/results/a~1b~0c"),
        ({"results": {"x": [[1.0], [["1", []]]]}}, "/results/x/1/0/1"),
        ({"results": {"x": [[1.0], [], [1]]}}, "/results/x/2"),
        ({"results": {"x": [[1.0], [], "v", None, None, 5]}}, "/results/x/5"),
        ({"results": {"x": [[10**400], []]}}, "/results/x result 0"),
        ({"results": {"x": [[{}], []]}}, "/results/x result 0"),
        ({"results": {"x": ["text", []]}}, "/results/x result 0"),
        ({"version": {}}, "/version"),
        ({"results": {"x": [*FULL[:11], [[1, 10**400]]]}}, "/results/x/samples/0/1"),
        ({"results": {"x": [*FULL[:11], [[float("inf")]]]}}, "/results/x/samples/0/0"),
        ({"results": {"x": [[1.0], [["1"]] * 101]}}, "/results/x"),
    ],
)
def test_what_cannot_be_a_result_refuses_the_run_and_says_where(changes: dict[str, Any], where: str) -> None:
    outcome = sent(document({"a.time_x": FULL}) | changes).outcome
    assert outcome.verdict == "rejected"
    assert outcome.problems[0].where == where


@pytest.mark.parametrize("levels", [1, 900, *range(950, 1000), 20_000])
def test_a_value_that_nests_refuses_the_run_however_deep(levels: int) -> None:
    text = json.dumps(document({"a.time_x": [[1.0, "DEEP"], [["1", "2"]]]}))
    outcome = transformed(text.replace('"DEEP"', "[" * levels + "]" * levels).encode(), "asv").outcome
    assert outcome.verdict == "rejected"
    assert "an array or object" in outcome.problems[0].found or "nesting" in outcome.problems[0].expected


def test_odd_values_beside_the_results_are_no_crash() -> None:
    odd = {
        "version": 3,
        "date": 1e300,
        "python": {"a": 1},
        "env_vars": {"A": [1], "B": 10**400},
        "requirements": {"x": 5},
    }
    odd["params"] = {"machine": ["m"], "cpu": 5, "num_cpu": True, "ram": {}, "os": None}
    result = sent(document({"a.time_x": [[1.0], [], 5.5, "soon", "long"]}, **odd))
    assert only_row(result)["benchmark_version"] == "5.5"
    assert [problem.partition(":")[0] for problem in problems_of(result)] == ["/version", "/date"]
    old = {
        "started_at": {"a.time_x": 10**400},
        "duration": {"a.time_x": 10**400},
        "benchmark_version": {"a.time_x": [1]},
    }
    assert only_row(sent(old_document({"a.time_x": 1}, **old)))["value"] == 1.0
    late = {"started_at": {"a.time_x": 1767610000000}, "duration": {"a.time_x": 1e308}}
    assert rows_of(sent(old_document({"a.time_x": 1}, **late)), "runs")[0]["finished"] is None


def test_params_whose_combinations_are_beyond_count_cost_nothing() -> None:
    began = time.process_time()
    many = [[str(number) for number in range(1000)]] * 100
    result = sent(document({"a.time_x": [[1.0, 2.0], many]}))
    assert len(rows(result)) == 2
    assert time.process_time() - began < 2


def test_a_small_file_that_spells_gigabytes_is_refused() -> None:
    began = time.process_time()
    values = [1.0] * 100_000
    for results in (
        {"a.time_x": [values, [["x" * 1_000_000], [str(number) for number in range(100_000)]]]},
        {"a.time_" + "x" * 1_000_000: [values, [[str(number) for number in range(100_000)]]]},
    ):
        outcome = sent(document(results)).outcome
        assert outcome.verdict == "rejected"
        assert "names and params that make at most" in outcome.problems[0].expected
    assert time.process_time() - began < 5
