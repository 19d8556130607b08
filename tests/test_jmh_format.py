"""The traps of JMH's JSON that golden pairs do not make plain."""

import json
from typing import Any

import pytest

from processor.formats.jmh import MAX_SAMPLES_OF_HISTOGRAM
from processor.transform import Transformed
from tests.golden import rows_of, transformed


def metric(score: Any = 1.0, unit: str = "ns/op", **more: Any) -> dict[str, Any]:
    return {"score": score, "scoreUnit": unit, **more}


def entry(primary: Any = None, **more: Any) -> dict[str, Any]:
    return {"benchmark": "a.B.c", "mode": "avgt", "primaryMetric": metric() if primary is None else primary, **more}


def read(*entries: Any) -> Transformed:
    return transformed(json.dumps(entries).encode())


def measured(*entries: Any) -> list[dict[str, Any]]:
    result = read(*entries)
    assert result.outcome.verdict == "accepted", result.outcome.problems
    return rows_of(result, "measurements")


def problems(result: Transformed) -> list[str]:
    return [str(problem) for problem in result.outcome.problems]


class TestIdentity:
    @pytest.mark.parametrize(
        "other",
        [
            {"mode": "ss"},
            {"threads": 4},
            {"measurementBatchSize": 10},
            {"params": {"n": "2"}},
            {"primaryMetric": metric(unit="us/op")},
        ],
    )
    def test_what_changes_the_meaning_of_a_score_is_another_series(self, other: dict[str, Any]) -> None:
        rows = measured(entry(threads=1, measurementBatchSize=1), entry(**other))
        assert rows[0]["series"] != rows[1]["series"]

    @pytest.mark.parametrize("other", [{"forks": 5}, {"warmupTime": "10 s"}, {"threads": 1}, {"jvmArgs": ["-Dtmp=/x"]}])
    def test_what_changes_its_precision_only_is_the_same_series(self, other: dict[str, Any]) -> None:
        rows = measured(entry(), entry(**other))
        assert rows[0]["series"] == rows[1]["series"]

    def test_a_parameter_called_threads_is_not_the_number_of_threads(self) -> None:
        (row,) = measured(entry(threads=2, params={"threads": "8"}))
        assert json.loads(row["params"]) == {"@Threads": 2, "threads": "8"}

    def test_metrics_of_profilers_keep_their_series_when_jmh_drops_its_mark(self) -> None:
        rows = measured(*(entry(secondaryMetrics={name: metric(unit="B/op")}) for name in ("·gc.norm", "gc.norm")))
        assert rows[1]["series"] == rows[3]["series"]

    def test_each_virtual_machine_is_a_run_and_an_environment_of_its_own(self) -> None:
        old = {"vmName": "OpenJDK 64-Bit Server VM", "jdkVersion": "17.0.9"}
        new = {"vmName": "OpenJDK 64-Bit Server VM", "jdkVersion": "21.0.2"}
        result = read(entry(**old), entry(**new), entry(**old))
        runs = rows_of(result, "runs")
        assert [(run["runtime"], run["measurements"]) for run in runs] == [("OpenJDK 17", 2), ("OpenJDK 21", 1)]
        assert len({row["series"] for row in rows_of(result, "measurements")}) == 2

    @pytest.mark.parametrize(
        ("vm", "runtime"),
        [
            ({"vmName": "Java HotSpot(TM) 64-Bit Server VM", "jdkVersion": "1.8.0_202"}, "Java HotSpot 8"),
            ({"vmName": "OpenJDK 64-Bit GraalVM EE", "jdkVersion": "22-ea"}, "OpenJDK GraalVM EE 22"),
            ({"vmName": "Eclipse OpenJ9 VM", "jdkVersion": "11.0.20"}, "Eclipse OpenJ9 VM 11"),
            ({"vmName": "Substrate VM", "jdkVersion": None}, "Substrate VM"),
            ({"jdkVersion": "17.0.1"}, "Java 17"),
            (
                {"vmName": "Scala.JS", "vmVersion": "1.16.0", "userAgent": "Mozilla/5.0 Chrome/1.2 Safari/3 Edg/9.8"},
                "Scala.JS 1.16 in Edge 9",
            ),
        ],
    )
    def test_the_runtime_is_the_machine_and_its_feature_release(self, vm: dict[str, Any], runtime: str) -> None:
        assert rows_of(read(entry(**vm)), "runs")[0]["runtime"] == runtime

    def test_a_file_that_names_no_virtual_machine_leaves_the_pushed_runtime(self) -> None:
        assert rows_of(read(entry()), "runs")[0]["runtime"] == "CPython 3.12"


class TestMeaning:
    @pytest.mark.parametrize(
        ("mode", "unit", "name", "better"),
        [
            ("thrpt", "ops/s", "throughput", "higher"),
            ("thrpt", "ops/min", "throughput", "higher"),
            ("avgt", "ns/op", "average time", "lower"),
            ("sample", "s/op", "sample time", "lower"),
            ("ss", "ms/op", "single shot time", "lower"),
            ("thrpt", "s/op", "throughput", "lower"),
            ("ss", "B/entity", "single shot time", ""),
            ("mode of tomorrow", "ops/s", "mode of tomorrow", "higher"),
            ("", "", "score", ""),
        ],
    )
    def test_the_metric_is_the_mode_and_direction_the_units(self, mode: str, unit: str, name: str, better: str) -> None:
        (row,) = measured(entry(metric(unit=unit), mode=mode))
        assert (row["metric"], row["unit"], row["better"]) == (name, unit, better)

    @pytest.mark.parametrize(
        ("key", "unit", "name", "better", "derived"),
        [
            ("gc.alloc.rate.norm", "B/op", "gc.alloc.rate.norm", "lower", False),
            ("cycles", "#/op", "cycles", "lower", False),
            ("gc.alloc.rate", "MB/sec", "gc.alloc.rate", "", False),
            ("gc.count", "counts", "gc.count", "", False),
            ("misses", "ops/s", "misses", "", False),
            ("c·p0.999", "ns/op", "sample time p0.999", "lower", True),
            ("c:p0.50", "ns/op", "sample time p0.50", "lower", True),
            ("reader:p1.00", "ns/op", "reader p1.00", "lower", True),
        ],
    )
    def test_a_secondary_metric_has_the_direction_that_jmh_defines(
        self, key: str, unit: str, name: str, better: str, derived: bool
    ) -> None:
        row = measured(entry(secondaryMetrics={key: metric(unit=unit)}))[1]
        assert (row["metric"], row["better"], row["derived"]) == (name, better, derived)

    def test_samples_are_those_of_all_forks_in_order_and_their_sizes_are_kept(self) -> None:
        (row,) = measured(entry(metric(2.0, rawData=[[3.0, 1.0], [2.0]])))
        assert (row["samples"], row["n"], row["value"], row["mean"]) == ([3, 1, 2], 3, 2, 2)
        assert json.loads(row["extra"])["samples_of_forks"] == [2, 1]

    @pytest.mark.parametrize("scale", [1, MAX_SAMPLES_OF_HISTOGRAM])
    def test_a_histogram_gives_the_statistics_of_its_samples_also_when_it_is_not_spelt_out(self, scale: int) -> None:
        histogram = [[[[4.0, scale], [1.0, 2 * scale]]], [[[7.0, scale]]]]
        (row,) = measured(entry(metric(3.25, rawDataHistogram=histogram), mode="sample"))
        assert (row["n"], row["min"], row["max"], row["mean"], row["median"]) == (4 * scale, 1, 7, 3.25, 2.5)
        assert row["stddev"] == pytest.approx((24.75 * scale / (4 * scale - 1)) ** 0.5)
        extra = json.loads(row["extra"])
        assert extra["samples_of_forks"] == [3 * scale, scale]
        assert row["samples"] == ([4, 1, 1, 7] if scale == 1 else None)
        assert extra.get("rawDataHistogram") == (None if scale == 1 else histogram)

    def test_without_samples_the_percentiles_give_minimum_median_and_maximum(self) -> None:
        percentiles = {"0.0": 1, "50.00": 2, "100.0": 3, "99.0": 2.5, "x": 9}
        (row,) = measured(entry(metric(scorePercentiles=percentiles, rawData=[])))
        assert (row["n"], row["min"], row["median"], row["max"], row["mean"]) == (None, 1, 2, 3, None)


class TestFailures:
    @pytest.mark.parametrize("score", ["NaN", "+INF", "-INF", None])
    def test_a_score_that_is_not_a_number_gives_no_row_and_leaves_the_others(self, score: Any) -> None:
        result = read(entry(metric(score)), entry())
        assert len(rows_of(result, "measurements")) == 1
        assert [(problem.where, problem.effect) for problem in result.outcome.problems] == [
            ("/0/primaryMetric/score", "kept")
        ]

    def test_a_sample_that_is_not_a_number_is_never_averaged_in(self) -> None:
        result = read(entry(metric(rawData=[[1.0, "NaN", 3.0]])))
        assert rows_of(result, "measurements")[0]["samples"] == [1, 3]
        assert problems(result) == ["/0/primaryMetric/rawData: expected finite samples, found 1 that are not, left out"]

    def test_every_text_that_is_no_number_is_named_with_its_place(self) -> None:
        broken = metric("fast", rawData=[[1.0, "a"], ["b"]])
        result = read(entry(broken, secondaryMetrics={"x/y": metric([])}), {"benchmark": ""})
        assert result.outcome.verdict == "rejected"
        assert problems(result) == [
            "/1/benchmark: expected a valid value, found Expected str of length >= 1",
            "/1: expected a field 'primaryMetric', found none",
            "/0/primaryMetric/score: expected a number, found 'fast'",
            "/0/primaryMetric/rawData/0/1: expected a number, found 'a'",
            "/0/primaryMetric/rawData/1/0: expected a number, found 'b'",
            "/0/secondaryMetrics/x~1y/score: expected float | str | null, found array",
        ]

    def test_counts_that_no_memory_could_hold_are_never_spelt_out(self) -> None:
        histogram = [[[[1.0, 1 << 53], [3.0, 1 << 53]]]]
        (row,) = measured(entry(metric(rawDataHistogram=histogram)))
        assert (row["n"], row["median"], row["samples"]) == (1 << 54, 2, None)
        too_many = read(entry(metric(rawDataHistogram=[[[[1.0, 1 << 53]] * 1024]])))
        assert problems(too_many) == [
            f"/0/primaryMetric/rawDataHistogram: expected fewer than 2^63 samples, found {1 << 63}"
        ]


def test_what_reaches_no_column_is_in_the_loss_report_and_a_path_into_a_home_is_nowhere() -> None:
    secondary = {"gc.count": metric(more=1), "gc.time": metric(more=[])}
    jvm = "/home/jo/jdk/bin/java"
    result = read(entry(jvm=jvm, note=1, secondaryMetrics=secondary), entry(jvm=jvm, empty={}))
    assert result.outcome.unread == {"/*/jvm": 2, "/*/note": 1, "/*/secondaryMetrics/*/more": 1}
    assert "home" not in str([rows_of(result, table) for table in ("runs", "measurements")])


def test_a_run_without_results_is_accepted_empty_where_the_format_is_declared() -> None:
    outcome = transformed(b"[\n]\n", "jmh").outcome
    assert (outcome.verdict, outcome.runs, outcome.measurements) == ("accepted", 1, 0)
