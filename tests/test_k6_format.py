"""The traps of k6's summaries and points that golden pairs do not make plain."""

import json
from typing import Any

import pytest

from processor.formats.k6 import FORMAT
from processor.reading.shape import shape_of
from processor.transform import Transformed
from tests.golden import rows_of, transformed


def summary(metrics: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"metrics": metrics, "root_group": {"name": ""}, **more}).encode()


def metric(type: str, values: dict[str, Any], contains: str = "default", **more: Any) -> dict[str, Any]:
    return {"type": type, "contains": contains, "values": values, **more}


def point(name: str, value: Any, **tags: str) -> dict[str, Any]:
    return {"type": "Point", "metric": name, "data": {"time": "2026-01-05T11:46:24Z", "value": value, "tags": tags}}


def declared(name: str, type: str, contains: str = "default", submetrics: Any = None) -> dict[str, Any]:
    data = {"name": name, "type": type, "contains": contains, "thresholds": [], "submetrics": submetrics}
    return {"type": "Metric", "metric": name, "data": data}


def lines(*items: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def measured(result: Transformed) -> dict[tuple[str, str, str], dict[str, Any]]:
    assert result.outcome.verdict == "accepted", result.outcome.problems
    return {(row["benchmark"], row["params"], row["metric"]): row for row in rows_of(result, "measurements")}


def problems(result: Transformed) -> list[str]:
    return [str(problem) for problem in result.outcome.problems]


BOTH = {
    "http_req_duration": ({"avg": 1.5, "med": 1, "p(95)": 3}, "trend", "time"),
    "http_req_failed": ({"rate": 0.25, "passes": 1, "fails": 3}, "rate", "default"),
    "http_reqs": ({"count": 4, "rate": 2.5}, "counter", "default"),
    "data_sent": ({"count": 400, "rate": 250}, "counter", "data"),
    "vus": ({"value": 2, "min": 1, "max": 3}, "gauge", "default"),
}


def test_a_metric_is_the_same_series_from_every_dialect() -> None:
    """Of built-in metrics: what the export does not say follows from their names."""
    flat = {
        name: {("value" if type == "rate" and key == "rate" else key): value for key, value in values.items()}
        for name, (values, type, _) in BOTH.items()
    }
    nested = {name: metric(type, values, contains) for name, (values, type, contains) in BOTH.items()}
    listed = [{"name": name, **item} for name, item in nested.items()]
    machine_readable = {
        "version": "1.0.0",
        "metadata": {"k6Version": "1.5.0"},
        "config": {},
        "results": {"metrics": listed},
    }
    found = [
        [(row["series"], row["value"], row["n"]) for row in measured(transformed(data)).values()]
        for data in (summary(flat), summary(nested), json.dumps(machine_readable).encode())
    ]
    assert len(found[0]) == 9
    assert found[0] == found[1] == found[2]


def test_directions_follow_from_what_is_measured() -> None:
    result = transformed(
        summary(
            {
                "http_req_waiting": metric("trend", {"max": 1}, "time"),
                "ws_session_duration": metric("trend", {"max": 1}, "time"),
                "my_time": metric("trend", {"max": 1}, "time"),
                "my_size": metric("trend", {"max": 1}, "data"),
                "my_rate": metric("rate", {"rate": 1}),
                "checks": metric("rate", {"rate": 1}),
                "http_req_failed": metric("rate", {"rate": 1}),
                "iterations": metric("counter", {"count": 1, "rate": 1}),
                "dropped_iterations": metric("counter", {"count": 1}),
            }
        )
    )
    assert {(key[0], key[2]): (row["unit"], row["better"]) for key, row in measured(result).items()} == {
        ("http_req_waiting", "max"): ("ms", "lower"),
        ("ws_session_duration", "max"): ("ms", ""),
        ("my_time", "max"): ("ms", "lower"),
        ("my_size", "max"): ("B", ""),
        ("my_rate", "rate"): ("1", ""),
        ("checks", "rate"): ("1", "higher"),
        ("http_req_failed", "rate"): ("1", "lower"),
        ("iterations", "count"): ("iterations", ""),
        ("iterations", "rate"): ("iterations/s", "higher"),
        ("dropped_iterations", "count"): ("iterations", "lower"),
    }


def test_true_means_held_in_one_dialect_and_failed_in_the_other() -> None:
    nested = metric("trend", {"avg": 1}, thresholds={"avg<2": {"ok": True}})
    flat = {"avg": 1, "thresholds": {"avg<2": True}}
    rows = rows_of(transformed(summary({"a": nested, "b": flat})), "tests")
    assert [(row["test"], row["status"]) for row in rows] == [
        ("threshold a: avg<2", "pass"),
        ("threshold b: avg<2", "fail"),
    ]


@pytest.mark.parametrize(
    ("name", "base", "params"),
    [
        ("a{b:c}", "a", {"b": "c"}),
        ("a{name:http://x/,status:200}", "a", {"name": "http://x/", "status": "200"}),
        ("a{ 'b' : \"c\" }", "a", {"b": "c"}),
        ("a{b:1,b:2}", "a{b:1,b:2}", {}),
        ("a{b}", "a{b}", {}),
        ("a{}", "a{}", {}),
        ("a", "a", {}),
    ],
)
def test_tags_of_a_sub_metric_are_params_and_what_is_no_tag_stays_in_the_name(
    name: str, base: str, params: dict[str, str]
) -> None:
    ((key, _),) = measured(transformed(summary({name: metric("gauge", {"value": 1})}))).items()
    assert key[:2] == (base, json.dumps(params, separators=(",", ":")) if params else "")


def test_what_setup_returned_is_kept_nowhere() -> None:
    result = transformed(
        summary({"vus": metric("gauge", {"value": 1})}, setup_data={"token": "live-secret"}, options={"a": 1})
    )
    tables = [rows_of(result, table) for table in ("runs", "measurements", "tests")]
    assert "live-secret" not in json.dumps([tables, problems(result)], default=str)
    assert result.outcome.unread == {"/options": 1, "/setup_data": 1}


def test_checks_tell_their_counts_whatever_they_are() -> None:
    checks = [{"name": str(n), "passes": passes, "fails": fails} for n, (passes, fails) in enumerate(COUNTS)]
    result = transformed(summary({"iterations": {"count": 1, "rate": 1}}, root_group={"name": "", "checks": checks}))
    assert [(row["status"], row["message"]) for row in rows_of(result, "tests")] == [
        ("pass", None),
        ("fail", "1 of 3 failed"),
        ("notrun", None),
        ("unknown", None),
        ("unknown", None),
    ]
    assert [problem.where for problem in result.outcome.problems] == ["/root_group/checks/3", "/root_group/checks/4"]


COUNTS = [(3, 0), (2, 1), (0, 0), (None, 0), (1.5, True)]


def test_groups_in_groups_without_end_are_flagged() -> None:
    group: dict[str, Any] = {"name": "last", "checks": [{"name": "c", "passes": 1, "fails": 0}]}
    for _ in range(300):
        group = {"name": "g", "groups": {"x": group}}
    result = transformed(summary({"iterations": {"count": 1, "rate": 1}}, root_group=group))
    assert rows_of(result, "tests") == []
    (problem,) = problems(result)
    assert "expected a group, at most 200 deep" in problem


class TestPoints:
    def test_all_points_are_samples_and_statistics_are_those_of_k6(self) -> None:
        values = [5.0, 1.0, 4.0, 2.0]
        result = transformed(lines(declared("t", "trend", "time"), *(point("t", value) for value in values)))
        rows = measured(result)
        assert {key[2]: row["value"] for key, row in rows.items()} == {
            "avg": 3.0,
            "min": 1.0,
            "med": 3.0,
            "max": 5.0,
            "p(90)": pytest.approx(4.7),
            "p(95)": pytest.approx(4.85),
        }
        assert [row["samples"] for row in rows.values()] == [values, *[None] * 5]
        assert {row["n"] for row in rows.values()} == {4}

    def test_declared_sub_metrics_take_the_points_with_their_tags(self) -> None:
        sub = [{"name": "t{ok:true}", "suffix": "ok:true", "tags": {"ok": "true"}}, {"name": "t{a:b}", "tags": None}]
        points = [point("t", 1, ok="true"), point("t", 2, ok="false"), point("t", 3, ok="true", a="b")]
        rows = measured(transformed(lines(declared("t", "counter", submetrics=sub), *points)))
        assert {key: (row["value"], row["n"]) for key, row in rows.items()} == {
            ("t", "", "count"): (6, 3),
            ("t", '{"ok":"true"}', "count"): (4, None),
            ("t", '{"a":"b"}', "count"): (3, None),
        }

    def test_sub_metrics_are_bounded(self) -> None:
        sub = [{"name": f"t{{n:{n}}}", "tags": {"n": str(n)}} for n in range(60)]
        result = transformed(
            lines(declared("t", "gauge", submetrics=sub), *(point("t", n, n=str(n)) for n in range(60)))
        )
        assert len(measured(result)) == 51
        assert problems(result) == ["line 1: expected at most 50 sub-metrics of a metric, found more, left out"]

    def test_the_run_lasts_from_the_first_to_the_last_point_whatever_their_offsets(self) -> None:
        items = [point("t", 1), point("t", 1), point("t", 1)]
        for item, time in zip(
            items, ("2026-01-05T12:00:00+02:00", "2026-01-05T09:30:00Z", "2026-01-05T05:00:00-05:00"), strict=True
        ):
            item["data"]["time"] = time
        (run,) = rows_of(transformed(lines(*items)), "runs")
        assert (run["started"].isoformat(), run["finished"].isoformat()) == (
            "2026-01-05T09:30:00+00:00",
            "2026-01-05T10:00:00+00:00",
        )

    def test_one_line_is_enough(self) -> None:
        assert len(measured(transformed(lines(point("t", 1)).strip()))) == 6

    def test_every_wrong_line_is_named_and_others_of_no_known_type_are_counted(self) -> None:
        data = lines(point("t", 1), point("t", "x"), {"type": "Note", "metric": "t", "data": {}}) + b"5\n\n{\n"
        result = transformed(data)
        assert problems(result) == [
            "line 2 /data/value: expected float, found str",
            "line 4: expected object, found int",
            "line 6: expected well-formed JSON, found the end inside a value: it is cut off",
        ]

    def test_a_last_line_that_was_cut_costs_only_itself(self) -> None:
        result = transformed(lines(point("t", 1)) + b'{"type":"Poi')
        assert len(measured(result)) == 6
        assert problems(result) == ["line 2: expected a whole line, found one that ends after 12 bytes"]

    def test_lines_longer_than_a_piece_and_across_pieces_are_whole(self) -> None:
        items = [point("t", n, pad="x" * 700_000) for n in range(5)]
        rows = measured(transformed(lines(*items)))
        assert rows["t", "", "avg"]["samples"] == [0, 1, 2, 3, 4]

    def test_numbers_too_large_to_add_up_leave_flagged_what_has_no_value(self) -> None:
        result = transformed(lines(point("t", 1e308), point("t", 1e308), point("t", -1e308)))
        assert measured(result)["t", "", "max"]["value"] == 1e308
        assert all(problem.expected == "a finite number" for problem in result.outcome.problems)


@pytest.mark.parametrize(
    "data",
    [
        b'{"metrics": {"accuracy": 0.5}}',
        b'{"metrics": [1], "root_group": {}}',
        b'{"metrics": {"iterations": 5}}',
        b'{"metrics": {"a": {"type": "histogram", "values": {}}}}',
        b'{"type": "Feature", "data": 1, "metric": "x"}',
        b'{"metadata": {}, "config": {}, "results": {}}',
    ],
)
def test_what_only_looks_like_k6_is_not_claimed(data: bytes) -> None:
    assert not FORMAT.claims(shape_of(data))


def test_a_summary_that_a_script_has_shortened_is_claimed() -> None:
    for metrics in ({"mine": metric("trend", {"avg": 1})}, {"iterations": {"count": 1, "rate": 1}}):
        assert FORMAT.claims(shape_of(json.dumps({"metrics": metrics}).encode()))
