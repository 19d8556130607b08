"""The traps of LNT's reports that golden pairs do not make plain."""

import json
from typing import Any

import pytest

from processor.formats.lnt import FORMAT
from processor.reading.shape import shape_of
from processor.transform import Transformed
from tests.golden import rows_of, transformed


def report(*tests: Any, machine: Any = None, run: Any = None, **more: Any) -> bytes:
    machine = {"name": "m", **(machine or {})}
    return json.dumps({"format_version": "2", "machine": machine, "run": run or {}, "tests": tests, **more}).encode()


def old_report(*tests: tuple[str, list[Any]], tag: str | None = "nts", info: Any = None) -> bytes:
    run = {"Start Time": "2026-01-05 06:00:00", "Info": {"run_order": "7"} | ({"tag": tag} if tag else {})}
    listed = [{"Name": name, "Data": data, "Info": info or {}} for name, data in tests]
    return json.dumps({"Machine": {"Name": "m", "Info": {}}, "Run": run, "Tests": listed}).encode()


def plist(value: Any) -> str:
    if isinstance(value, dict):
        return "<dict>" + "".join(f"<key>{key}</key>{plist(inner)}" for key, inner in value.items()) + "</dict>"
    if isinstance(value, list):
        return "<array>" + "".join(map(plist, value)) + "</array>"
    return f"<real>{value}</real>" if isinstance(value, float) else f"<string>{value}</string>"


def lit_report(*tests: Any) -> bytes:
    return json.dumps({"tests": tests}).encode()


def measured(result: Transformed) -> list[tuple[str, str, float, list[float]]]:
    assert result.outcome.verdict == "accepted", result.outcome.problems
    return [(row["benchmark"], row["metric"], row["value"], row["samples"]) for row in rows_of(result, "measurements")]


def problems(result: Transformed) -> list[str]:
    return [str(problem) for problem in result.outcome.problems]


def test_one_result_is_the_same_series_from_every_dialect() -> None:
    new = report({"name": "a.b", "execution_time": 1.5, "compile_time": 2.5, "code_size": 3})
    old = old_report(("nts.a.b.exec", [1.5]), ("nts.a.b.compile", ["2.5"]), ("nts.a.b.code_size", [3.0]))
    xml = f"<plist>{plist(json.loads(old))}</plist>".encode()
    found = [[row["series"] for row in rows_of(transformed(data), "measurements")] for data in (new, old, xml)]
    assert len(found[0]) == 3
    assert found[0] == found[1] == found[2]


def test_lit_and_the_report_that_LNT_makes_of_it_measure_the_same() -> None:
    lit = {"name": "test-suite :: d/foo.test", "code": "PASS", "metrics": {"exec_time": 1.5, "link_time": 0.5}}
    made = old_report(("nts.d/foo.exec", [1.5]), ("nts.d/foo-link.compile", [0.5]))
    assert measured(transformed(lit_report(lit))) == measured(transformed(made))


def test_the_value_is_the_minimum_but_of_a_score_the_maximum() -> None:
    result = transformed(report({"name": "a", "execution_time": [2, 1, 3], "score": [2, 1, 3]}))
    assert measured(result) == [("a", "execution_time", 1, [2, 1, 3]), ("a", "score", 3, [2, 1, 3])]
    assert [(row["unit"], row["better"]) for row in rows_of(result, "measurements")] == [("s", "lower"), ("", "higher")]


def test_machines_of_different_names_are_different_environments() -> None:
    """LNT's machines are configurations: two of them may be one computer."""
    found = {
        rows_of(transformed(report({"name": "a", "score": 1}, machine={"name": name, "hardware": "x86_64"})), "runs")[
            0
        ]["environment"]
        for name in ("host__clang_O2__x86_64", "host__clang_O3__x86_64")
    }
    assert len(found) == 2


class TestStatus:
    def test_what_failed_is_no_measurement(self) -> None:
        result = transformed(report({"name": "a", "execution_time": 1, "compile_time": 2, "execution_status": 1}))
        assert measured(result) == [("a", "compile_time", 2, [2])]
        assert [(row["test"], row["subtest"], row["status"]) for row in rows_of(result, "tests")] == [
            ("a", "execution", "fail")
        ]
        assert problems(result) == [
            "/tests/0/execution_time: expected values of a test that did not fail, "
            "found execution_status 1: 1 of 1 values left out"
        ]

    def test_what_was_not_compiled_was_not_measured(self) -> None:
        result = transformed(report({"name": "a", "execution_time": 1, "score": 2, "compile_status": 2}))
        assert measured(result) == []
        (row,) = rows_of(result, "tests")
        assert (row["status"], row["expected"]) == ("fail", "fail")

    def test_of_several_runs_only_those_that_failed_are_left_out(self) -> None:
        data = {
            "name": "a",
            "execution_time": [1, 2, 3],
            "execution_status": [0, 1, 0],
            "user_time": [4],
            "user_status": 0,
        }
        result = transformed(report(data))
        assert measured(result) == [("a", "execution_time", 1, [1, 3])]
        assert {row["subtest"]: row["status"] for row in rows_of(result, "tests")} == {
            "execution": "fail",
            "user": "pass",
        }

    def test_statuses_of_another_length_than_the_values_speak_for_all_of_them(self) -> None:
        """The failed execution cannot be told from the others."""
        result = transformed(report({"name": "a", "execution_time": [1, 2, 3], "execution_status": [0, 1]}))
        assert measured(result) == []

    @pytest.mark.parametrize("status", [3, -1, 0.5, "ok", None, True, [[]]])
    def test_a_status_that_is_none_is_unknown_and_trusts_no_value(self, status: Any) -> None:
        result = transformed(report({"name": "a", "execution_time": 1, "execution_status": status}))
        assert measured(result) == []
        assert [row["status"] for row in rows_of(result, "tests")] == ["unknown"]
        assert problems(result)[0].startswith("/tests/0/execution_status: expected a status")


class TestValues:
    def test_numbers_may_be_text_and_a_hash_never_is_a_number(self) -> None:
        result = transformed(
            report({"name": "a", "execution_time": ["1.5", 2], "hash": "12345678", "size_bytes": " 7 "})
        )
        assert measured(result) == [("a", "execution_time", 1.5, [1.5, 2]), ("a", "size_bytes", 7, [7])]
        assert [json.loads(row["extra"]) for row in rows_of(result, "measurements")] == [{"hash": "12345678"}] * 2

    def test_a_hash_beside_no_measurement_is_counted_as_lost(self) -> None:
        result = transformed(report({"name": "a", "hash": "x"}))
        assert (measured(result), result.outcome.unread) == ([], {"/tests/*/hash": 1})

    def test_values_that_are_none_are_flagged_and_the_others_kept(self) -> None:
        data = report({"name": "a", "execution_time": [None, 1, "NaN", {}, True]}).replace(b'"NaN"', b"NaN")
        result = transformed(data)
        assert measured(result) == [("a", "execution_time", 1, [1])]
        assert [problem.where for problem in result.outcome.problems] == [
            f"/tests/0/execution_time/{index}" for index in (0, 2, 3, 4)
        ]

    def test_entries_of_one_name_are_samples_of_one_test(self) -> None:
        first, second = {"name": "a", "score": 1, "hash": "x"}, {"name": "a", "score": [2, 3], "hash": "y"}
        result = transformed(report(first, second))
        assert measured(result) == [("a", "score", 3, [1, 2, 3])]
        assert result.outcome.unread == {"/tests/*/hash": 1}


class TestOldNames:
    @pytest.mark.parametrize(
        ("tag", "name", "expected"),
        [
            ("nts", "nts.a.b.exec", ("a.b", "execution_time")),
            ("nts", "nts.a.b.memory", ("a.b", "memory")),
            ("compile", "compile.a.user", ("a", "user_time")),
            ("compile", "compile.a.exec", ("a", "exec")),
            ("mine", "mine.a.exec", ("a", "exec")),
            (None, "nts.a.exec", ("a", "execution_time")),
            (None, "mine.a.exec", ("mine.a", "exec")),
        ],
    )
    def test_a_name_is_split_as_the_tools_own_upgrade_does(
        self, tag: str | None, name: str, expected: tuple[str, str]
    ) -> None:
        assert measured(transformed(old_report((name, [1]), tag=tag)))[0][:2] == expected

    def test_a_name_without_a_metric_is_refused(self) -> None:
        result = transformed(old_report(("nts.exec", [1]), ("x", [1])))
        assert problems(result) == [
            "/Tests/0/Name: expected a name like nts.test.metric, found 'nts.exec'",
            "/Tests/1/Name: expected a name like nts.test.metric, found 'x'",
        ]

    def test_the_info_of_a_test_is_params(self) -> None:
        (row,) = rows_of(transformed(old_report(("nts.a.exec", [1]), info={"flags": "-O3"})), "measurements")
        assert row["params"] == '{"flags":"-O3"}'


def test_names_of_persons_are_kept_nowhere() -> None:
    result = transformed(
        report({"name": "a", "score": 1}, machine={"user": "Ada"}, run={"author": "Ada", "cc": "clang"})
    )
    (run,) = rows_of(result, "runs")
    assert json.loads(run["machine"]) == {"machine": {"name": "m"}, "run": {"cc": "clang"}}
    assert result.outcome.unread == {"/machine/user": 1, "/run/author": 1}


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        ('<!DOCTYPE plist [<!ENTITY a "b">]><plist><dict/></plist>', "a property list without entities"),
        ("<plist>" + "<array>" * 101 + "</array>" * 101 + "</plist>", "at most 100 nested elements"),
        ("<html><key>Run</key></html>", "a root element plist"),
        ("<plist><dict></plist>", "well-formed XML"),
        ("<plist></plist>", "object"),
        ("<plist><dict><key>Run</key><dict/></dict></plist>", "a field 'tests' or 'Tests'"),
    ],
)
def test_a_hostile_property_list_is_refused_by_name(xml: str, expected: str) -> None:
    outcome = transformed(xml.encode(), "lnt").outcome
    assert (outcome.verdict, outcome.problems[0].expected) == ("rejected", expected)


def test_an_entity_cannot_hide_in_another_encoding() -> None:
    xml = b'<?xml version="1.0" encoding="UTF-7"?><+ACE-DOCTYPE plist [<+ACE-ENTITY a "b">]><plist/>'
    assert transformed(xml, "lnt").outcome.verdict == "rejected"


@pytest.mark.parametrize(
    "data",
    [
        b'{"tests": []}',
        b'{"tests": [{"name": "a"}]}',
        b'{"tests": [{"title": "a", "code": 1}], "stats": {}}',
        b"<plist><dict><key>CFBundleName</key><string>x</string></dict></plist>",
    ],
)
def test_what_only_looks_like_a_report_is_not_claimed(data: bytes) -> None:
    assert not FORMAT.claims(shape_of(data))
