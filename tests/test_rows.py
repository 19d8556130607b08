"""Rows come one by one or many at once, as columns; in the lake nobody can tell."""

import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import processor.rows
import processor.tables
from processor.reading.samples import STATISTICS, sample_statistics
from processor.tables import RunFacts, RunRows, Tables, canonical_json
from tests.golden import make_submission

INFINITE = float("inf")


def measured(add: Any) -> dict[str, list[dict[str, Any]]]:
    tables = Tables(make_submission(), 7)
    add(tables.run(RunFacts(title="one")))
    tables.finish()
    return {name: [row for batch in batches for row in batch.to_pylist()] for name, batches in tables.batches.items()}


def facts(number: int) -> dict[str, Any]:
    samples = [float(number), 2.5 * number] if number % 3 else None
    of_samples = sample_statistics(samples) if samples else {}
    return {
        "benchmark": f"b{number % 5}",
        "metric": "time",
        "value": float(number),
        "unit": "s",
        "better": "lower",
        "params": {"n": number} if number % 2 else None,
        "samples": samples,
        "extra": {"iterations": [number]} if number % 4 else None,
        "benchmark_version": "2",
        "derived": number % 7 == 0,
        **of_samples,
    }


def add_one_by_one(run: RunRows, numbers: range) -> None:
    for number in numbers:
        run.measurement(where="/", **facts(number))


def add_at_once(run: RunRows, numbers: range) -> None:
    rows = [facts(number) for number in numbers]
    for row in rows:
        row["params"] = canonical_json(row["params"]) if row["params"] else ""
        row["extra"] = canonical_json(row["extra"]) if row["extra"] else None
    names = dict.fromkeys(name for row in rows for name in row)
    run.measurement_rows(**{name: [row.get(name) for row in rows] for name in names})


@pytest.mark.parametrize("batch_rows", [processor.rows.BATCH_ROWS, 20])
def test_measurements_one_by_one_or_at_once_are_the_same_rows_with_the_same_digest(
    monkeypatch: pytest.MonkeyPatch, batch_rows: int
) -> None:
    monkeypatch.setattr(processor.tables, "BATCH_ROWS", batch_rows)
    monkeypatch.setattr(processor.tables, "_ROWS_TOGETHER", 10)
    together = measured(lambda run: [add_at_once(run, range(n, n + 10)) for n in range(0, 60, 10)])
    assert measured(lambda run: add_one_by_one(run, range(60))) == together
    assert len(together["measurements"]) == together["runs"][0]["measurements"] == 60


def test_mixed_rows_keep_their_order() -> None:
    def add(run: RunRows) -> None:
        add_one_by_one(run, range(3))
        add_at_once(run, range(3, 6))
        add_one_by_one(run, range(6, 9))

    assert measured(add) == measured(lambda run: add_one_by_one(run, range(9)))


def test_tests_one_by_one_or_at_once_are_the_same_rows_with_the_same_digest() -> None:
    def one_by_one(run: RunRows) -> None:
        run.test(where="/", test="a", status="pass", duration_seconds=INFINITE)
        run.test(where="/", test="b", status="fail", message="no", extra={"k": 1}, known_intermittent=("pass",))

    def at_once(run: RunRows) -> None:
        nothing = [None, None]
        run.test_rows(
            test=["a", "b"],
            subtest=nothing,
            status=["pass", "fail"],
            status_text=nothing,
            expected=nothing,
            known_intermittent=[None, ["pass"]],
            duration_seconds=nothing,
            message=[None, "no"],
            extra=[None, '{"k":1}'],
        )

    rows = measured(one_by_one)
    assert rows == measured(at_once)
    assert (rows["runs"][0]["tests"], rows["runs"][0]["passed"], rows["runs"][0]["failed"]) == (2, 1, 1)


def test_a_statistic_that_is_not_finite_is_left_out_and_others_are_kept() -> None:
    def add(run: RunRows) -> None:
        run.measurement_rows(
            benchmark=["a", "b"], metric=["m"] * 2, value=[1.0, 2.0], unit=["s"] * 2, better=[""] * 2,
            mean=[INFINITE, 1.5], stddev=[float("nan"), None], samples=[None, [1.0, 2.0]],
        )  # fmt: skip

    rows = measured(add)["measurements"]
    assert [(row["mean"], row["stddev"], row["n"]) for row in rows] == [(None, None, None), (1.5, None, 2)]


def test_no_rows_at_once_are_as_no_rows() -> None:
    def add(run: RunRows) -> None:
        run.measurement_rows(benchmark=[], metric=[], value=[], unit=[], better=[])

    assert measured(add) == measured(lambda run: None)


@given(st.lists(st.floats(-1e150, 1e150), min_size=1, max_size=9))
def test_statistics_of_samples_are_those_of_the_standard_library(samples: list[float]) -> None:
    found = sample_statistics(samples)
    assert tuple(found) == STATISTICS
    assert (found["min"], found["max"]) == (min(samples), max(samples))
    assert (found["mean"], found["median"]) == (statistics.fmean(samples), statistics.median(samples))
    expected = statistics.stdev(samples) if len(samples) > 1 else None
    assert found["stddev"] == (None if expected is None else pytest.approx(expected, rel=1e-9, abs=1e-9))
