"""The traps of CTRF that golden pairs do not make plain."""

import json
from typing import Any

import pytest

from processor.formats.ctrf import FORMAT
from processor.reading.shape import shape_of
from processor.transform import Transformed
from tests.golden import rows_of, transformed


def report(*tests: Any, summary: Any = None, environment: Any = None, **more: Any) -> bytes:
    results = {"tool": {"name": "jest"}, "summary": summary or {}, "tests": tests, "environment": environment or {}}
    return json.dumps({"reportFormat": "CTRF", "specVersion": "1.0.0", "results": results, **more}).encode()


def case(name: str = "adds", **more: Any) -> dict[str, Any]:
    return {"name": name, "status": "passed", "duration": 1, **more}


def cases_of(result: Transformed) -> list[dict[str, Any]]:
    assert result.outcome.verdict == "accepted", result.outcome.problems
    return rows_of(result, "tests")


def ids(*cases: dict[str, Any]) -> list[str]:
    return [row["test"] for row in cases_of(transformed(report(*cases)))]


def problems(result: Transformed) -> list[str]:
    return [str(problem) for problem in result.outcome.problems]


def test_other_is_a_legal_word_that_is_neither_a_pass_nor_a_problem() -> None:
    result = transformed(report(case(status="other")))
    (row,) = cases_of(result)
    assert (row["status"], row["status_text"], problems(result)) == ("unknown", "other", [])


@pytest.mark.parametrize("word", ["pass", "ok", "Passed", "skip", ""])
def test_words_of_other_formats_are_no_statuses_here(word: str) -> None:
    result = transformed(report(case(status=word)))
    (row,) = cases_of(result)
    assert (row["status"], row["status_text"]) == ("unknown", word)
    assert problems(result) == [
        f"/results/tests/0/status: expected one of passed, failed, skipped, pending, other, found {word!r}"
    ]


class TestIdentity:
    def test_a_suite_is_the_same_as_text_and_as_a_list(self) -> None:
        assert ids(case(suite="a > b"), case(suite=["a", "b"])) == ["a > b#adds"] * 2

    def test_suites_and_names_never_meet_by_how_they_are_written(self) -> None:
        found = ids(case(suite=["a > b"]), case(suite=["a", "b"]), case("b#adds", suite=["a"]), case("a > b#adds"))
        assert found == ["a %3E b#adds", "a > b#adds", "a#b#adds", "#a > b#adds"]

    def test_a_suite_that_the_name_begins_with_is_left_out(self) -> None:
        assert ids(
            case("t.py::A::adds", suite=["t.py", "A"]),
            case("math adds", suite=["math"]),
            case("mathadds", suite=["math"]),
        ) == ["t.py::A::adds", "math adds", "math#mathadds"]

    def test_without_a_suite_a_relative_path_tells_tests_apart_and_an_absolute_one_does_not(self) -> None:
        """An absolute path would start a new history on every machine."""
        paths = ["test/a.js", "/home/ci/a.js", "C:\\ci\\a.js"]
        assert ids(*(case(filePath=path) for path in paths)) == ["test/a.js#adds", "adds", "adds"]


def test_attempts_of_a_test_that_passed_in_the_end_say_how_it_is_intermittent() -> None:
    rows = cases_of(
        transformed(
            report(
                case(flaky=True),
                case(
                    flaky=True, retryAttempts=[{"attempt": 1, "status": "skipped"}, {"attempt": 2, "status": "failed"}]
                ),
                case(retryAttempts=[{"attempt": 1, "status": "passed"}, 5]),
                case(status="failed", flaky=True),
            )
        )
    )
    assert [row["known_intermittent"] for row in rows] == [["fail"], ["fail", "skip"], None, None]


def test_a_summary_that_disagrees_with_the_tests_is_flagged_and_the_tests_count() -> None:
    result = transformed(report(case(), summary={"tests": 2, "passed": 1, "failed": True, "flaky": 0, "other": 0.0}))
    assert rows_of(result, "runs")[0]["tests"] == 1
    assert problems(result) == [
        "/results/summary/tests: expected 1, as the tests say, found 2",
        "/results/summary/failed: expected 0, as the tests say, found true",
    ]


def test_start_in_seconds_is_read_and_0_is_no_time() -> None:
    for start, expected in [(1706828654, 2024), (1706828654000, 2024), (0, None)]:
        (run,) = rows_of(transformed(report(case(), summary={"start": start})), "runs")
        assert (run["started"] and run["started"].year) == expected


@pytest.mark.parametrize("duration", ["12", -1, True, [[[]]], 10**400])
def test_a_duration_that_is_none_is_flagged_and_costs_only_itself(duration: Any) -> None:
    result = transformed(report(case(duration=duration)))
    (row,) = cases_of(result)
    assert row["duration_seconds"] is None
    assert [problem.where for problem in result.outcome.problems] == ["/results/tests/0/duration"]


def test_names_of_persons_and_secrets_are_counted_and_kept_nowhere() -> None:
    data = report(
        case(labels={"owner": "Ada L", "team": "core"}, parameters={"apiKey": "k-123", "max_tokens": 5}),
        case(extra={"deep": [{"author_email": "ada@example.org"}], "page": "https://ada:pw-1@example.org/x"}),
        environment={"extra": {"user": "ada"}, "buildUrl": "https://ci:pw-2@example.org/"},
    )
    result = transformed(data)
    everything = json.dumps([rows_of(result, table) for table in ("runs", "tests")], default=str)
    assert not [word for word in ("Ada", "ada@", "k-123", "pw-1", "pw-2", '"ada"') if word in everything]
    assert [word for word in ("core", "max_tokens") if word in everything] == ["core", "max_tokens"]
    assert result.outcome.unread == {
        "/results/environment/buildUrl": 1,
        "/results/environment/extra/user": 1,
        "/results/tests/*/extra/deep/*/author_email": 1,
        "/results/tests/*/extra/page": 1,
        "/results/tests/*/labels/owner": 1,
        "/results/tests/*/parameters/apiKey": 1,
    }


def test_output_is_kept_of_tests_that_did_not_pass_and_cut_at_its_beginning() -> None:
    result = transformed(
        report(case(stdout=["fine"]), case(status="failed", stdout=["a" * 5000, "end"], stderr="one text"))
    )
    passed, failed = cases_of(result)
    assert passed["extra"] is None
    extra = json.loads(failed["extra"])
    assert (len(extra["stdout"]), extra["stdout"][-4:], extra["stderr"]) == (4096, "\nend", "one text")
    assert result.outcome.unread == {"/results/tests/*/stdout": 2}


def test_fields_that_nobody_knows_are_counted_and_the_rest_is_read() -> None:
    result = transformed(report(case(colour="red", tags=["x"]), case(colour="", ai="says so"), report=1))
    assert [json.loads(row["extra"] or "{}") for row in cases_of(result)] == [{"tags": ["x"]}, {}]
    assert result.outcome.unread == {"/report": 1, "/results/tests/*/ai": 1, "/results/tests/*/colour": 1}


@pytest.mark.parametrize(
    ("platform", "release", "expected"),
    [
        ("linux", "6.12.3-arch1", "Linux 6"),
        ("darwin", "24.1.0", "macOS 15"),
        ("win32", "10.0.22631", "Windows 11"),
        ("win32", "10.0.19045", "Windows 10"),
        ("win32", "10.0.²", "Windows 10"),
        ("plan9", "", "plan9"),
    ],
)
def test_the_os_has_a_name_and_a_major_version(platform: str, release: str, expected: str) -> None:
    result = transformed(report(case(), environment={"osPlatform": platform, "osRelease": release}))
    assert rows_of(result, "runs")[0]["os"] == expected


def test_results_of_other_tools_are_not_claimed() -> None:
    for data in (b'{"results": []}', b'{"results": {"tests": []}}', b'{"reportFormat": "CTRF"}', b'{"results": 1}'):
        assert not FORMAT.claims(shape_of(data))


def test_what_nests_too_deep_is_a_named_problem_wherever_it_stands() -> None:
    for field in ("labels", "duration", "stdout", "retryAttempts", "unknown"):
        for levels in (200, 700, 950, 5_000, 50_000):
            deep = b"[" * levels + b"]" * levels
            data = report(case()).replace(b'"duration": 1', b'"duration": 1, "%s": %s' % (field.encode(), deep))
            outcome = transformed(data).outcome
            assert outcome.verdict == "accepted" or "nesting" in outcome.problems[0].expected, outcome.problems[0]
