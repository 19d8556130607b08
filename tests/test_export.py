"""Runs as files of other formats: what they carry comes back, what they cannot is said, and rows go as they come."""

import csv
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from litestar import Litestar
from litestar.testing import TestClient
from lxml import etree

from dashboard_api import export, export_cli, in_place, queries, resources
from dashboard_api.api import api_routes, openapi_config
from dashboard_api.export_source import Source
from infra.web import exception_handlers
from processor.formats.registry import FORMATS
from processor.tables import RunFacts, RunRows, Tables
from runfeed import cli
from schemas.errors import Refused, Unavailable
from schemas.records import Chunk, Context, Machine
from tests import golden, sample_dashboard
from tests.browser import served
from tests.chain import Chain, load
from tests.sample_dashboard import START, Sample

MACHINE = Machine(cpu="Example CPU", cores=8, ram_gib=16, os="Debian 12", runtime="CPython 3.12")
MEASURED = ("benchmark", "params", "metric", "unit", "better", "value", "samples")
STATISTICS = ("n", "min", "max", "mean", "median", "stddev", "q1", "q3")
TESTED = ("test", "subtest", "status", "duration_seconds", "message")
HOSTILE = "\x1b[2J\r\nX-Injected: 1 \u2028 💥 </testcase>\x00\ufffe"


@pytest.fixture
def sample(tmp_path: Path) -> Iterator[Sample]:
    made = sample_dashboard.empty(tmp_path)
    yield made
    made.opened.close()


def app_of(sample: Any) -> Litestar:
    return Litestar(
        api_routes(sample),
        openapi_config=openapi_config(),
        exception_handlers=exception_handlers,
        logging_config=None,
    )


def add(sample: Sample, fill: Callable[[RunRows], None], *, format: str = "runfeed", **context: Any) -> str:
    """The id of a run that `fill` fills."""
    facts = RunFacts(title="suite", commit=sample_dashboard.commit(1), started=START, machine=MACHINE)
    runs: list[str] = []

    def fill_tables(tables: Tables) -> None:
        run = tables.run(facts)
        runs.append(run.id)
        fill(run)

    sample.submit("p", fill_tables, received=START + timedelta(days=1), context=Context(**context), format=format)
    sample.finish()
    return runs[0]


def add_file(sample: Sample, path: Path, format: str) -> str:
    """The id of the run that a file gives."""
    before = sample.seq
    sample.submit("p", lambda tables: FORMATS[format].read(path.read_bytes(), tables), received=START, format=format)
    sample.finish()
    return sample.one("SELECT run FROM runs WHERE seq > ? ORDER BY ordinal LIMIT 1", before)


def exported(sample: Sample, run: str, target: str, table: str = "") -> tuple[bytes, export.Exported]:
    with sample.opened.snapshot() as snapshot:
        made = export.export(snapshot, export.find_run(snapshot, run), export.TARGETS[target], table)
    body = b"".join(made)
    assert len(body) == made.size_bytes
    return body, made


def read_back(body: bytes, format: str, table: str) -> list[dict[str, Any]]:
    """What Runfeed makes of the export, recognised by itself, without a problem."""
    found = golden.transformed(body)
    assert found.outcome.verdict == "accepted", found.outcome.problems
    assert found.outcome.format == format
    assert found.outcome.problems == []
    return golden.rows_of(found, table)


def stored(sample: Sample, run: str, table: str) -> list[dict[str, Any]]:
    with sample.opened.snapshot() as snapshot:
        return snapshot.rows(f"SELECT * FROM {table} WHERE run = ? ORDER BY seq, rowid", [run])


def of(rows: list[dict[str, Any]], *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in columns) for row in rows]


def inputs(format: str, *names: str) -> list[Path]:
    found = [path for id, path, _ in golden.pairs() if id == format and path.name in names]
    assert len(found) == len(names)
    return found


# --- measurements, there and back ---


@pytest.mark.parametrize("path", inputs("pytest-benchmark", "whole.json", "old.json"), ids=lambda path: path.stem)
def test_a_pytest_benchmark_file_comes_back_as_it_was(sample: Sample, path: Path) -> None:
    run = add_file(sample, path, "pytest-benchmark")
    body, made = exported(sample, run, "pytest-benchmark")
    again = read_back(body, "pytest-benchmark", "measurements")
    assert of(again, *MEASURED, "n", "min", "max") == of(
        stored(sample, run, "measurements"), *MEASURED, "n", "min", "max"
    )
    assert made.left_out == ""


def test_times_of_every_unit_become_seconds_and_keep_their_identity(sample: Sample) -> None:
    def fill(run: RunRows) -> None:
        for unit, value in (("ns", 183_529.0), ("us", 2.5), ("µs", 2.5), ("ms", 12.25), ("s", 3.0), ("min", 2.0)):
            run.measurement(
                where="/", benchmark=f"parse {unit}", metric="time", unit=unit, better="lower", value=value,
                params={"size": 3, "kind": "a-b", "deep": False}, samples=[value, value * 2, value * 1.5],
                stddev=value / 2, median=value,
            )  # fmt: skip
        run.measurement(where="/", benchmark="per op", metric="time", unit="ns/op", better="lower", value=5.0)
        run.measurement(where="/", benchmark="b[0]", metric="cpu_time", unit="ns", better="lower", value=5.0, n=7)

    body, made = exported(sample, add(sample, fill), "pytest-benchmark")
    again = read_back(body, "pytest-benchmark", "measurements")
    assert {(row["unit"], row["better"], row["metric"]) for row in again} == {("s", "lower", "time")}
    assert of(again, "benchmark", "value") == [
        ("parse ns", 0.000183529),
        ("parse us", 2.5e-6),
        ("parse µs", 2.5e-6),
        ("parse ms", 0.01225),
        ("parse s", 3.0),
        ("parse min", 120.0),
        ("per op", 5e-9),
        ("b[0] cpu_time", 5e-9),
    ]
    assert again[0]["samples"] == [0.000183529, 0.000367058, 0.0002752935]
    assert {row["params"] for row in again[:6]} == {'{"deep":false,"kind":"a-b","size":3}'}
    assert [row["n"] for row in again[-2:]] == [1, 7]
    assert made.left_out == ""


def test_what_is_no_time_is_left_out_of_pytest_benchmark_and_named(sample: Sample) -> None:
    def fill(run: RunRows) -> None:
        run.measurement(where="/", benchmark="a", metric="time", unit="s", better="lower", value=1.0)
        run.measurement(where="/", benchmark="a", metric="memory", unit="B", better="lower", value=1.0)
        run.measurement(where="/", benchmark="a", metric="uptime", unit="s", better="higher", value=1.0)
        run.measurement(where="/", benchmark=HOSTILE, metric="rate", value=1.0)

    run = add(sample, fill)
    body, _ = exported(sample, run, "pytest-benchmark")
    assert len(json.loads(body)["benchmarks"]) == 1
    with TestClient(app_of(sample)) as client:
        answer = client.get(f"/api/v1/runs/{run}/export", params={"as": "pytest-benchmark"})
    assert answer.status_code == 200
    said = answer.headers["x-runfeed-left-out"]
    assert said.startswith("3 measurements that are no times (a memory in B, a uptime in s, ")
    assert said.isascii()
    assert said.isprintable()
    assert "x-injected" not in answer.headers


def test_the_tool_itself_reads_what_is_exported_for_it(sample: Sample, tmp_path: Path) -> None:
    def fill(run: RunRows) -> None:
        run.measurement(where="/", benchmark="one", metric="time", unit="ms", better="lower", value=1.0)
        run.measurement(
            where="/", benchmark="two", metric="time", unit="s", better="lower", value=2.0, samples=[1.0, 2.0, 3.0],
            params={"n": 3},
        )  # fmt: skip

    body, _ = exported(sample, add(sample, fill), "pytest-benchmark")
    file = tmp_path / "run.json"
    file.write_bytes(body)
    compared = subprocess.run(
        [Path(sys.executable).with_name("py.test-benchmark"), "compare", file],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert compared.returncode == 0, compared.stderr
    assert "two[3]" in compared.stdout


@pytest.mark.parametrize("path", inputs("bmf", "whole.json"), ids=lambda path: path.stem)
def test_a_bmf_file_comes_back_as_it_was(sample: Sample, path: Path) -> None:
    run = add_file(sample, path, "bmf")
    body, _ = exported(sample, run, "bmf")
    again = golden.rows_of(golden.transformed(body), "measurements")
    assert sorted(of(again, *MEASURED, "extra"), key=str) == sorted(
        of(stored(sample, run, "measurements"), *MEASURED, "extra"), key=str
    )


def test_bmf_has_times_as_latency_in_nanoseconds_and_parameters_in_the_name(sample: Sample) -> None:
    def fill(run: RunRows) -> None:
        for n in (10, 3):
            run.measurement(
                where="/", benchmark="sort", metric="time", unit="ms", better="lower", value=1.5, params={"n": n},
                min=1.0, max=2.0,
            )  # fmt: skip
        run.measurement(where="/", benchmark="z", metric="throughput", unit="MB/s", better="higher", value=7.0)
        run.measurement(
            where="/", benchmark="sort", metric="memory", unit="B", value=64.0, params={"n": 10}, benchmark_version="2"
        )
        run.measurement(where="/", benchmark="sort", metric="memory", unit="B", value=32.0, params={"n": 10})
        run.measurement(where="/", benchmark="sort", metric="memory", unit="B", value=33.0, params={"n": 10})

    body, made = exported(sample, add(sample, fill), "bmf")
    assert json.loads(body) == {
        "sort[n=10]": {
            "memory": {"value": 32.0},
            "latency": {"value": 1.5e6, "lower_value": 1e6, "upper_value": 2e6},
        },
        "sort[n=10] v2": {"memory": {"value": 64.0}},
        "sort[n=3]": {"latency": {"value": 1.5e6, "lower_value": 1e6, "upper_value": 2e6}},
        "z": {"throughput (MB/s)": {"value": 7.0}},
    }
    assert made.left_out == "1 more values of one benchmark and measure (sort[n=10] memory)"
    units = {row["metric"]: row["unit"] for row in read_back(body, "bmf", "measurements")}
    assert units["latency"] == "ns"


# --- tests, there and back ---


@pytest.mark.parametrize(
    "path",
    inputs("junit", "pytest.xml", "surefire_retries.xml", "dialects.xml", "bare_testcase.xml"),
    ids=lambda path: path.stem,
)
def test_a_junit_file_comes_back_with_its_names_results_and_messages(sample: Sample, path: Path) -> None:
    run = add_file(sample, path, "junit")
    body, _ = exported(sample, run, "junit")
    again = read_back(body, "junit", "tests")
    columns = [name for name in TESTED if name != "message"]
    known = [
        (*row[:2], "error" if row[2] == "unknown" else row[2], *row[3:])
        for row in of(stored(sample, run, "tests"), *columns)
    ]
    assert of(again, *columns) == known
    for before, after in zip(stored(sample, run, "tests"), again, strict=True):
        if before["status"] in ("fail", "error", "skip"):
            assert after["message"] == before["message"]
        assert after["known_intermittent"] == before["known_intermittent"]


@pytest.mark.parametrize(
    "path", inputs("ctrf", "every_field.json", "pytest_json_ctrf.json", "before_1_0.json"), ids=lambda path: path.stem
)
def test_a_ctrf_file_comes_back_with_its_names_results_and_messages(sample: Sample, path: Path) -> None:
    run = add_file(sample, path, "ctrf")
    before = [row | {"duration_seconds": row["duration_seconds"] or 0.0} for row in stored(sample, run, "tests")]
    body, _ = exported(sample, run, "ctrf")
    again = read_back(body, "ctrf", "tests")
    assert of(again, "test", "status", "message", "known_intermittent") == of(
        before, "test", "status", "message", "known_intermittent"
    )
    for old, new in zip(before, again, strict=True):
        assert new["duration_seconds"] == pytest.approx(old["duration_seconds"], abs=0.0005)


LADDER = {
    "pass": (None, "passed"),
    "ok": (None, "passed"),
    "skip": ("skipped", "skipped"),
    "notrun": ("skipped", "pending"),
    "precondition_failed": ("skipped", "skipped"),
    "assert": ("failure", "failed"),
    "fail": ("failure", "failed"),
    "error": ("error", "failed"),
    "timeout": ("error", "failed"),
    "crash": ("error", "failed"),
    "unknown": ("error", "other"),
}


def every_status(run: RunRows) -> None:
    for status in LADDER:
        word = "odd" if status == "unknown" else None
        run.test(where="/", test=f"a > b.C#{status}", status=status, status_text=word, expected="pass")


def test_each_status_has_its_place_in_junit_and_an_unknown_one_never_passes(sample: Sample) -> None:
    body, _ = exported(sample, add(sample, every_status), "junit")
    root = etree.fromstring(body)
    outcomes = {
        case.get("name"): [child.tag for child in case if child.tag != "properties"] for case in root.iter("testcase")
    }
    assert outcomes == {status: [element] if element else [] for status, (element, _) in LADDER.items()}
    assert [root.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["11", "2", "4", "3"]
    assert {suite.get("name") for suite in root.iter("testsuite")} == {"a"}
    assert {case.get("classname") for case in root.iter("testcase")} == {"b.C"}
    assert [row["test"] for row in read_back(body, "junit", "tests")] == [f"a > b.C#{status}" for status in LADDER]


def test_each_status_has_its_place_in_ctrf_with_the_word_that_it_was(sample: Sample) -> None:
    body, _ = exported(sample, add(sample, every_status), "ctrf")
    results = json.loads(body)["results"]
    tests = {test["name"]: test for test in results["tests"]}
    assert {name: test["status"] for name, test in tests.items()} == {name: ctrf for name, (_, ctrf) in LADDER.items()}
    assert tests["timeout"]["rawStatus"] == "timeout"
    assert tests["unknown"]["rawStatus"] == "odd"
    assert tests["pass"]["suite"] == ["a", "b.C"]
    assert tests["crash"]["extra"] == {"expected": "pass"}
    summary = results["summary"]
    assert (
        summary["tests"]
        == len(tests)
        == sum(summary[name] for name in ("passed", "failed", "skipped", "pending", "other"))
    )
    assert [row["test"] for row in read_back(body, "ctrf", "tests")] == [f"a > b.C#{status}" for status in LADDER]


def test_a_subtest_is_a_case_of_its_test(sample: Sample) -> None:
    def fill(run: RunRows) -> None:
        run.test(where="/", test="/dom/a.html?x", status="ok", duration_seconds=0.0625)
        run.test(where="/", test="/dom/a.html?x", subtest="parses", status="fail", message="no\n  at 3")

    run = add(sample, fill)
    whole, case = etree.fromstring(exported(sample, run, "junit")[0]).iter("testcase")
    assert (whole.get("classname"), whole.get("name"), whole.get("time")) == (None, "/dom/a.html?x", "0.0625")
    assert (case.get("classname"), case.get("name")) == ("/dom/a.html?x", "parses")
    failure = case.find("failure")
    assert failure is not None
    assert (failure.get("message"), failure.text) == ("no", "no\n  at 3")
    document = json.loads(exported(sample, run, "ctrf")[0])
    assert document["results"]["tests"] == [
        {
            "name": "/dom/a.html?x", "status": "passed", "duration": 62, "rawStatus": "ok",
            "extra": {"duration_seconds": 0.0625},
        },
        {"name": "parses", "status": "failed", "duration": 0, "suite": ["/dom/a.html?x"], "message": "no\n  at 3"},
    ]  # fmt: skip


def one_test(name: str, subtest: str | None, message: str | None, extra: str | None = None) -> Source:
    """A source of one failing test, without a database."""
    facts: dict[str, Any] = dict.fromkeys(resources.Run.__struct_fields__)
    facts |= {"run": "r", "project": "p", "format": "f", "labels": {}, "measurements": 0, "tests": 1}
    row = dict.fromkeys(resources.Test.__struct_fields__) | {"run": "r", "seq": 1, "test": name, "subtest": subtest}
    row |= {"status": "fail", "message": message, "extra": extra}
    batch = pa.RecordBatch.from_pylist([row])
    return Source(resources.Run(**facts), "tests", [batch], {"fail": 1})


texts = st.text(st.characters(codec="utf-8"), max_size=40)


@given(texts, st.none() | texts, st.none() | texts, st.dictionaries(texts, texts, max_size=2))
def test_whatever_a_test_is_called_or_says_the_files_are_well_formed(
    name: str, subtest: str | None, message: str | None, extra: dict[str, str]
) -> None:
    for target in ("junit", "ctrf"):
        body = b"".join(export.TARGETS[target].write(one_test(name, subtest, message, json.dumps(extra))))
        rows = golden.rows_of(golden.transformed(body), "tests")
        assert [row["status"] for row in rows] == ["fail"]
    assert etree.fromstring(b"".join(export.TARGETS["junit"].write(one_test(name, subtest, message)))) is not None


def test_characters_that_xml_cannot_hold_are_spelt_out() -> None:
    body = b"".join(export.TARGETS["junit"].write(one_test("a\x00b", None, "red \x1b[31m\x85\ufffe <end>\r\n")))
    case = next(etree.fromstring(body).iter("testcase"))
    assert case.get("name") == "a\\x00b"
    assert case[0].text == "red \\x1b[31m\x85\\ufffe <end>\r\n"


# --- tables ---


def test_csv_and_parquet_hold_every_row_and_column_of_the_api(sample: Sample) -> None:
    def fill(run: RunRows) -> None:
        for n in range(30):
            run.measurement(
                where="/", benchmark=f"b{n}", metric="m", value=float(n), samples=[1.0, n], extra={"a": HOSTILE[4:]}
            )
            run.test(where="/", test=f'=t,"{n}"\r\n', status="pass", known_intermittent=["fail"] if n == 3 else None)

    run = add(sample, fill)
    with sample.opened.snapshot() as snapshot:
        measurements = queries.run_measurements(snapshot, run, 100, samples=True).items
        tests = queries.run_tests(snapshot, run, 100).items
    for table, items in (("measurements", measurements), ("tests", tests)):
        rows = [msgspec.to_builtins(item) for item in items]
        file = pq.ParquetFile(io.BytesIO(exported(sample, run, "parquet", table)[0]))
        assert file.read().to_pylist() == rows
        facts = json.loads((file.schema_arrow.metadata or {})[b"runfeed.run"])
        assert (facts["run"], facts["completeness"]) == (run, "complete")
        written = list(csv.DictReader(io.StringIO(exported(sample, run, "csv", table)[0].decode(), newline="")))
        assert [row["run"] for row in written] == [run] * 30
        assert list(written[0]) == list(rows[0])
    assert [row["test"] for row in written] == [item.test for item in tests]
    assert written[3]["known_intermittent"] == '["fail"]'


# --- what fits, and what is not whole ---


def test_a_target_that_fits_nothing_of_the_run_names_those_that_do(sample: Sample) -> None:
    measured = add(sample, lambda run: run.measurement(where="/", benchmark="a", metric="m", value=1.0))
    tested = add(sample, lambda run: run.test(where="/", test="a", status="pass"))
    nothing = add(sample, lambda run: None)
    with TestClient(app_of(sample)) as client:

        def refusal(run: str, **query: str) -> tuple[int, str, str]:
            answer = client.get(f"/api/v1/runs/{run}/export", params=query)
            return answer.status_code, answer.json().get("where", ""), answer.json().get("expected", "")

        fits_tests = "a format for what the run has (junit, ctrf, csv, parquet)"
        assert refusal(tested, **{"as": "pytest-benchmark"}) == (422, "as", fits_tests)
        assert refusal(tested, **{"as": "bmf"}) == (422, "as", fits_tests)
        assert refusal(tested, **{"as": "csv", "table": "measurements"}) == (422, "as", fits_tests)
        fits_measurements = "a format for what the run has (pytest-benchmark, bmf, csv, parquet)"
        assert refusal(measured, **{"as": "junit"}) == (422, "as", fits_measurements)
        assert refusal(measured, **{"as": "ctrf"}) == (422, "as", fits_measurements)
        assert refusal(measured, **{"as": "bmf", "table": "tests"})[:2] == (422, "table")
        assert refusal(measured, **{"as": "pytest-benchmark"}) == (
            422, "as", "a format that can carry the run (bmf, csv, parquet)",
        )  # fmt: skip
        assert refusal(nothing, **{"as": "csv"})[:2] == (422, "as")
        assert refusal(measured, **{"as": "xlsx"}) == (
            400, "as", "one of pytest-benchmark, bmf, junit, ctrf, csv, parquet",
        )  # fmt: skip
        assert refusal(measured, **{"as": "csv", "table": "runs"}) == (400, "table", "one of measurements, tests")
        assert refusal(measured)[0] == 400
        assert refusal("nobody", **{"as": "csv"})[0] == 404


def test_a_run_with_both_tables_asks_which_and_tells_what_a_format_of_tests_leaves_out(sample: Sample) -> None:
    def fill(run: RunRows) -> None:
        run.measurement(where="/", benchmark="a", metric="m", value=1.0)
        run.test(where="/", test="a", status="pass")

    run = add(sample, fill)
    with pytest.raises(Refused, match="measurements or tests"):
        exported(sample, run, "csv")
    assert exported(sample, run, "csv", "tests")[0].count(b"\r\n") == 2
    body, made = exported(sample, run, "junit")
    assert made.left_out == "1 measurements"
    assert b'<property name="left_out" value="1 measurements"/>' in body
    assert json.loads(exported(sample, run, "ctrf")[0])["results"]["extra"]["left_out"] == "1 measurements"


def test_an_export_of_a_partial_run_says_that_it_is_one(sample: Sample) -> None:
    for index in (1, 3):
        chunk = Chunk(group="g", index=index, total=3)
        run = add(sample, lambda run, n=index: run.test(where="/", test=f"t{n}", status="pass"), chunk=chunk)
    body, made = exported(sample, run, "junit")
    assert made.parts == "partial: 2 of 3 chunks"
    assert b'<property name="completeness" value="partial: 2 of 3 chunks"/>' in body
    assert b"t1" in body
    assert b"t3" in body
    with TestClient(app_of(sample)) as client:
        answer = client.get(f"/api/v1/runs/{run}/export?as=ctrf")
    assert answer.headers["x-runfeed-parts"] == "partial: 2 of 3 chunks"
    assert answer.json()["results"]["extra"]["completeness"] == "partial: 2 of 3 chunks"


# --- the answer ---


def test_an_export_is_an_attachment_of_its_type_and_version(sample: Sample) -> None:
    run = add(sample, lambda run: run.test(where="/", test="a", status="pass"))
    with TestClient(app_of(sample)) as client:
        for target in ("junit", "ctrf", "csv", "parquet"):
            answer = client.get(f"/api/v1/runs/{run}/export", params={"as": target}, headers={"Accept": "image/png"})
            assert answer.status_code == 200
            assert answer.headers["content-type"].split(";")[0] == export.TARGETS[target].media_type
            assert (
                answer.headers["content-disposition"] == f'attachment; filename="{run}.{export.TARGETS[target].suffix}"'
            )
            assert answer.headers["content-length"] == str(len(answer.content))
            etag = answer.headers["etag"]
            assert etag == f'"v1-1-{target}"'
            again = client.get(f"/api/v1/runs/{run}/export", params={"as": target}, headers={"If-None-Match": etag})
            assert (again.status_code, again.content) == (304, b"")
            other = client.get(f"/api/v1/runs/{run}/export?as=bmf", headers={"If-None-Match": etag})
            assert other.status_code == 422


def test_rows_are_written_as_they_come(sample: Sample) -> None:
    """Each batch is asked for only when the one before it has been written."""
    row = one_test("t", None, None).batches
    asked = []

    def batches() -> Iterator[pa.RecordBatch]:
        for number in range(3):
            asked.append(number)
            yield from row

    for target in ("ctrf", "csv"):
        asked.clear()
        facts = one_test("t", None, None).run
        written = export.TARGETS[target].write(Source(facts, "tests", batches(), {"fail": 3}))
        seen = b""
        while b"fail" not in seen.replace(b'"failed"', b""):
            seen += next(written)
            if b'"name":"t"' in seen or b"r,1,t" in seen:
                break
        assert len(asked) == 1
        rest = b"".join(written)
        assert (seen + rest).count(b'"t"' if target == "ctrf" else b"r,1,t") == 3


def test_too_many_exports_at_once_wait_and_then_give_up(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    run = add(sample, lambda run: run.test(where="/", test="a", status="pass"))
    monkeypatch.setattr(export, "WAIT_SECONDS", 0.01)
    for _ in range(export.AT_ONCE):
        assert export._turns.acquire(timeout=1)
    try:
        with pytest.raises(Unavailable):
            exported(sample, run, "csv")
    finally:
        for _ in range(export.AT_ONCE):
            export._turns.release()
    assert exported(sample, run, "csv")[0]


def test_without_room_for_its_file_an_export_is_unavailable(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(28, "No space left on device")

    run = add(sample, lambda run: run.test(where="/", test="a", status="pass"))
    with monkeypatch.context() as patched:
        patched.setattr("dashboard_api.export.tempfile.TemporaryFile", lambda **_: Full())
        with pytest.raises(Unavailable, match="No space left"):
            exported(sample, run, "csv")
    assert exported(sample, run, "csv")[0]


def test_exports_that_wait_leave_threads_to_everybody_else(sample: Sample) -> None:
    """Each that waits holds one of the few threads that answer, so those beyond the first give up at once."""
    run = add(sample, lambda run: run.test(where="/", test="a", status="pass"))
    for _ in range(export.AT_ONCE):
        assert export._turns.acquire(timeout=1)
    for _ in range(export.WAITING_AT_ONCE):
        assert export._places_to_wait.acquire(timeout=1)
    began = time.monotonic()
    try:
        with pytest.raises(Unavailable):
            exported(sample, run, "csv")
    finally:
        for _ in range(export.AT_ONCE):
            export._turns.release()
        for _ in range(export.WAITING_AT_ONCE):
            export._places_to_wait.release()
    assert time.monotonic() - began < export.WAIT_SECONDS / 3
    assert exported(sample, run, "csv")[0]


# --- the command ---


def test_the_command_knows_the_servers_formats() -> None:
    assert set(export_cli.FORMATS) == set(export.TARGETS)


def test_the_command_imports_neither_the_database_nor_the_server() -> None:
    heavy = "{'duckdb', 'pyarrow', 'litestar', 'httpx'}"
    code = f"import runfeed, dashboard_api.export_cli, sys; sys.exit(', '.join({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.stderr.strip() == ""


def run_cli(*arguments: str) -> tuple[int, bytes, str, BaseException | None]:
    shown = CliRunner().invoke(cli, ["export", *arguments])
    return shown.exit_code, shown.stdout_bytes, shown.stderr, shown.exception


def test_the_command_downloads_a_run_and_tells_what_is_left_out(sample: Sample, tmp_path: Path) -> None:
    def fill(run: RunRows) -> None:
        run.measurement(where="/", benchmark="a", metric="m", value=1.0)
        run.test(where="/", test="a", status="pass")

    run = add(sample, fill)
    body, _ = exported(sample, run, "junit")
    output = tmp_path / "results.xml"
    output.write_text("old")
    with served(app_of(sample)) as url:
        code, out, err, error = run_cli(run, "--as", "junit", "--from", url, "-o", str(output))
        assert (code, out, err, error) == (0, b"", "left out: 1 measurements\n", None)
        assert output.read_bytes() == body
        assert [path.name for path in tmp_path.glob(".results*")] == []
        code, out, _, _ = run_cli(f"{url}/runs/{run}", "--as", "csv", "--table", "tests")
        assert (code, out) == (0, exported(sample, run, "csv", "tests")[0])
        *_, error = run_cli(run, "--as", "csv", "--from", url)
        assert isinstance(error, Refused)
        assert "expected measurements or tests" in str(error)
        *_, error = run_cli("absent", "--as", "csv", "--from", url, "-o", str(tmp_path / "none"))
        assert "expected a known run, found 'absent'" in str(error)
        assert not (tmp_path / "none").exists()
        *_, error = run_cli(run, "--as", "junit", "--from", url, "-o", str(tmp_path / "no folder" / "x"))
        assert "a file that can be written" in str(error)
    *_, error = run_cli(run, "--as", "csv", "--from", url)
    assert isinstance(error, Unavailable), "nobody answers any more"


def test_the_command_refuses_an_address_that_is_none() -> None:
    for address in ("ftp://x", "http://", "http://x:port", "http://x/?q"):
        *_, error = run_cli("r", "--as", "csv", "--from", address)
        assert isinstance(error, Refused), address


# --- a run's whole life ---


def report(chunk: int, *, started: int, tests: list[str] | None = None, status: str = "PASS") -> bytes:
    names = tests or [f"/dom/{chunk}/{n}.html" for n in range(3)]
    results = [{"test": name, "status": "OK", "subtests": [{"name": "s", "status": status}]} for name in names]
    info = {"product": "firefox", "os": "linux", "revision": "a" * 40}
    return json.dumps({"run_info": info, "time_start": started, "time_end": started + 500, "results": results}).encode()


@pytest.mark.parametrize("largest_loaded", [50_000, 2], ids=["loaded", "in place"])
def test_a_report_in_chunks_is_partial_then_complete_then_in_conflict_and_one_run_all_the_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest_loaded: int
) -> None:
    """From the pushes of four runners to the answers, and out again; also where tests are read from their parts."""
    monkeypatch.setattr(in_place, "LARGEST_LOADED", largest_loaded)
    chain = Chain(tmp_path)
    start = 1_700_000_000_000

    def send(chunk: int, body: bytes) -> None:
        chain.push(body, Context(chunk=Chunk(group="nightly", index=chunk, total=4)))
        batch = chain.announce()
        assert chain.process(batch)
        chain.announce_outcomes()
        load(dashboard)

    with chain.dashboard() as dashboard, TestClient(app_of(dashboard)) as client:

        def one() -> dict[str, Any]:
            [item] = client.get("/api/v1/runs").json()["items"]
            assert client.get(f"/api/v1/runs/{item['run']}").json()["items"] == [item]
            return dict(item)

        for chunk in (4, 1, 2):
            send(chunk, report(chunk, started=start + chunk * 1000))
        partial = one()
        assert (partial["completeness"], partial["chunks_missing"], partial["tests"]) == ("partial", [3], 18)
        send(3, report(3, started=start + 3000))
        whole = one()
        assert (whole["completeness"], whole["chunks_present"], whole["tests"], whole["passed"]) == (
            "complete",
            4,
            24,
            24,
        )
        assert (whole["started"], whole["finished"]) == ("2023-11-14T22:13:21Z", "2023-11-14T22:13:24.500000Z")
        run = whole["run"]
        listed = client.get(f"/api/v1/runs/{run}/tests").json()["items"]
        assert len({(test["test"], test["subtest"]) for test in listed}) == 24
        sent = client.get(f"/api/v1/runs/{run}/chunks").json()["items"]
        assert [(chunk["chunk"], chunk["tests"]) for chunk in sent] == [(n, 6) for n in (1, 2, 3, 4)]
        junit = client.get(f"/api/v1/runs/{run}/export?as=junit").content
        assert len(read_back(junit, "junit", "tests")) == 24
        send(3, report(3, started=start + 3000, tests=["/dom/1/0.html"], status="FAIL"))
        assert one()["completeness"] == "conflict"
        told = client.get(f"/api/v1/runs/{run}/completeness").json()
        assert [(conflict["kind"], conflict["name"], conflict["subtest"]) for conflict in told["conflicts"]] == [
            ("chunk", "3", None),
            ("test", "/dom/1/0.html", None),
            ("test", "/dom/1/0.html", "s"),
        ]
        assert all(len(conflict["submissions"]) == 2 for conflict in told["conflicts"])
