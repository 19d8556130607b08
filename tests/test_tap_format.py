"""TAP: directives, numbers and plans, subtests, diagnostics, dialects, what is claimed, and hostile text."""

import time
from typing import Any

import pytest

from tests.golden import rows_of, transformed


def rows(text: str) -> list[dict[str, Any]]:
    return rows_of(transformed(text.encode(), "tap"), "tests")


def names(text: str) -> list[str]:
    """`test`, or `test > subtest`, and the status of each row."""
    return [
        f"{row['test']}{' > ' + row['subtest'] if row['subtest'] is not None else ''}: {row['status']}"
        for row in rows(text)
    ]


def point(line: str) -> dict[str, Any]:
    (row,) = rows(f"1..1\n{line}\n")
    return row


# --- test points ---


@pytest.mark.parametrize(
    ("line", "name", "status", "expected", "message"),
    [
        ("ok", "#1", "pass", None, None),
        ("not ok 1", "#1", "fail", None, None),
        ("ok 1 - a b", "a b", "pass", None, None),
        ("ok 1 a b", "a b", "pass", None, None),
        ("ok - 42 is it", "42 is it", "pass", None, None),
        ("ok 1 -", "#1", "pass", None, None),
        ("ok 1 - -x", "-x", "pass", None, None),
        ("ok 1 - x # SKIP", "x", "skip", None, None),
        ("not ok 1 - x # skip it is late", "x", "skip", None, "it is late"),
        ("ok 1 # Skipped: only on windows", "#1", "skip", None, "only on windows"),
        ("ok 1 - #SkIp without a space", "#1", "skip", None, "without a space"),
        ("not ok 1 - x # TODO not \\# yet", "x", "fail", "fail", "not # yet"),
        ("ok 1 - x # todo", "x", "pass", "fail", None),
        ("ok 1 - x \\# SKIP y", "x # SKIP y", "pass", None, None),
        ("ok 1 - x \\\\# SKIP y", "x \\", "skip", None, "y"),
        ("ok 1 - x \\\\\\\\\\\\\\# todo", "x \\\\\\# todo", "pass", None, None),
        ("ok 1 - x\\y", "x\\y", "pass", None, None),
        ("ok 1 - x # description # todo", "x # description", "pass", "fail", None),
        ("ok 1 - see /page.html#skip", "see /page.html#skip", "pass", None, None),
        ("ok 1 - x {", "x {", "pass", None, None),
    ],
)
def test_a_point_is_read_as_the_specification_says(
    line: str, name: str, status: str, expected: str | None, message: str | None
) -> None:
    row = point(line)
    assert (row["test"], row["status"], row["expected"], row["message"]) == (name, status, expected, message)


@pytest.mark.parametrize("line", ["okay", "ok, then", "OK 1", "not  ok 1", "Ok 1", "  ok 1", "\tok 1", "not ok?"])
def test_what_only_resembles_a_point_is_other_output(line: str) -> None:
    result = transformed(f"1..1\nok 1\n{line}\n".encode(), "tap")
    assert (result.outcome.tests, result.outcome.unread) == (1, {"line: other output": 1})


@pytest.mark.parametrize(("text", "seconds"), [("12.5ms", 0.0125), ("2s", 2.0), ("1.5.5s", None), ("-1s", None)])
def test_the_time_that_node_tap_writes_is_the_duration(text: str, seconds: float | None) -> None:
    assert point(f"ok 1 - x # time={text}")["duration_seconds"] == seconds


# --- plans ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ok 1 - a\nok 2 - b\n1..2\n", ["a: pass", "b: pass"]),
        ("1..2\nok 2 - b\nok 1 - a\n", ["b: pass", "a: pass"]),
        ("1..3\nok 1 - a\n", ["a: pass", "(plan): error"]),
        ("1..1\nok 1 - a\nok 2 - b\n", ["a: pass", "b: pass", "(plan): error"]),
        ("ok 1 - a\n", ["a: pass", "(plan): error"]),
        ("1..2\nok 1 - a\nok 3 - b\n", ["a: pass", "b: pass", "(plan): error"]),
        ("1..2\nok 1 - a\nok 1 - b\n", ["a: pass", "b: pass", "(plan): error"]),
        ("1..1\nok 0 - a\n", ["a: pass", "(plan): error"]),
        ("1..999999999\nok 999999999 - a\n", ["a: pass", "(plan): error"]),
        ("1..0\nok 1 - a\n", ["a: pass", "(plan): error"]),
        ("1..2\nok 1 - a\nBail out! no disk\n", ["a: pass", "(bail out): error"]),
        ("1..2\n    bail out!\n", ["(bail out): error"]),
    ],
)
def test_a_partial_run_never_passes_for_a_complete_one(text: str, expected: list[str]) -> None:
    assert names(text) == expected


def test_a_number_that_comes_twice_is_flagged() -> None:
    result = transformed(b"1..2\nok 2 - a\nok 2 - b\n", "tap")
    assert ("line 3", "2") in [(problem.where, problem.found) for problem in result.outcome.problems]


def test_a_file_in_which_all_is_skipped_is_accepted_and_says_so() -> None:
    result = transformed(b"1..0 # SKIP no database\n")
    assert (result.outcome.verdict, result.outcome.tests) == ("accepted", 0)
    assert [problem.found for problem in result.outcome.problems] == ["all skipped: no database"]


@pytest.mark.parametrize(
    "text",
    [
        "TAP version 13\n1..1\nok 1 - a\nTAP version 13\n1..2\nok 1 - b\nok 2 - c\n",
        "1..1\nok 1 - a\n1..2\nok 1 - b\nok 2 - c\n",
        "ok 1 - a\n1..1\nok 1 - b\nok 2 - c\n1..2\n",
    ],
)
def test_several_documents_in_a_file_keep_their_own_plans(text: str) -> None:
    assert names(text) == ["a: pass", "b: pass", "c: pass"]
    assert transformed(text.encode()).outcome.problems == []


# --- subtests ---


def test_points_of_subtests_are_named_by_the_path_of_the_points_that_end_them() -> None:
    text = "1..1\n        ok 1 - x\n        1..1\n    ok 1 - b > c\n    1..1\nnot ok 1 - a\n"
    assert names(text) == ["a: fail", "a > b %3E c: pass", "a > b %3E c > x: pass"]


def test_subtests_in_braces_belong_to_the_point_before_them() -> None:
    text = "1..2\nok 1 - a {\n    1..1\n    ok 1 - x {\n        1..1\n        not ok 1 - y\n    }\n}\nok 2 - b\n"
    assert names(text) == ["a: pass", "a > x: pass", "a > x > y: fail", "b: pass"]


def test_a_subtest_without_its_point_is_an_error_and_its_points_stay() -> None:
    text = "1..1\nok 1 - a\n# Subtest: b\n    1..1\n    ok 1 - x\n"
    assert names(text) == ["a: pass", "b: error", "b > x: pass"]


def test_a_plan_of_a_subtest_that_is_not_kept_is_an_error_in_it() -> None:
    text = "1..1\n    1..2\n    ok 1 - x\nok 1 - a\n"
    assert names(text) == ["a: pass", "a > x: pass", "a > (plan): error"]


def test_names_longer_than_any_name_stay_apart() -> None:
    text = f"1..2\nok 1 - {'x' * 5000}1\nok 2 - {'x' * 5000}2\n"
    one, two = (row["test"] for row in rows(text))
    assert len(one) == len(two) == 1000
    assert one != two


# --- diagnostics ---


def test_a_block_that_says_no_more_than_duration_and_message_leaves_nothing_else() -> None:
    row = point("not ok 1 - x\n  ---\n  duration_ms: 1500\n  message: 'it''s'\n  ...")
    assert (row["duration_seconds"], row["message"], row["extra"]) == (1.5, "it's", None)


@pytest.mark.parametrize("indent", ["  ", " ", "   "])
def test_a_block_is_kept_as_text_and_never_interpreted(indent: str) -> None:
    block = ["message: &a", "  b: 1", "found: *a", "", "tag: !!python/object/apply:os.system [x]", "ok 2 - no point"]
    text = "\n".join(f"{indent}{line}" for line in ["---", *block, "..."])
    row = point(f"not ok 1 - x\n{text}")
    assert row["extra"] == '{"diagnostic":"' + "\\n".join(block) + '"}'
    assert row["message"] == "&a"


def test_a_block_scalar_is_the_message() -> None:
    row = point("not ok 1 - x\n  ---\n  error: |-\n    a\n      b\n\n    c\n  code: 7\n  ...")
    assert row["message"] == "a\n  b\n\nc"


def test_a_block_that_does_not_end_is_flagged_and_what_follows_is_read() -> None:
    result = transformed(b"1..2\nok 1 - x\n  ---\n  a: 1\nok 2 - y\n", "tap")
    assert [row["test"] for row in rows_of(result, "tests")] == ["x", "y"]
    assert [problem.where for problem in result.outcome.problems] == ["line 3"]


def test_comments_after_a_failure_are_its_message_and_others_are_counted() -> None:
    result = transformed(
        b"# before\n1..2\nnot ok 1 - x\n#   Failed test\n#   at x.t line 5.\nok 2 - y\n# after\n", "tap"
    )
    assert [row["message"] for row in rows_of(result, "tests")] == ["Failed test\nat x.t line 5.", None]
    assert result.outcome.unread == {"line: comment": 2}


def test_lines_that_are_no_tap_are_flagged_only_where_a_pragma_asks_for_it() -> None:
    text = b"1..1\nnoise\npragma +strict\nnoise\npragma -strict\nnoise\nok 1\n"
    result = transformed(text, "tap")
    assert [problem.where for problem in result.outcome.problems] == ["line 4"]
    assert result.outcome.unread == {"line: other output": 3}


# --- claims ---


@pytest.mark.parametrize(
    "text",
    [
        "TAP version 14\n1..1\nok 1\n",
        "> project test\n\nTAP version 13\r\nok 1\r\n1..1\r\n",
        "1..1\nok\n",
        "noise\nok 1 - a\n" + "ok - b\n" * 20_000 + "1..20001\n",
        "not ok - a\n1..1\n",
        "1..0 # SKIP nothing\n",
        "\x1b[32mok 1 - a\x1b[0m\n1..1\n",
    ],
)
def test_tap_is_known_by_its_structure(text: str) -> None:
    assert transformed(text.encode()).outcome.format == "tap"


def test_what_powershell_redirected_is_known_too() -> None:
    result = transformed("TAP version 14\r\n1..1\r\nok 1 - ä\r\n".encode("utf-16"))
    assert [row["test"] for row in rows_of(result, "tests")] == ["ä"]


@pytest.mark.parametrize(
    "text",
    [
        "goos: linux\nBenchmarkA 1 5 ns/op\nPASS\nok  \texample.com/p\t0.1s\n",
        "ok  \texample.com/p\t0.1s\n1..2\n",
        "ok 1 - a\nok 2 - b\n",
        "1..2\nnothing\n",
        "This TAP version 14 is good\n",
        "ok\n",
    ],
)
def test_other_text_is_not_claimed(text: str) -> None:
    assert transformed(text.encode()).outcome.format != "tap"


# --- hostile text ---


@pytest.mark.parametrize(
    "text",
    [
        "1..1\n" + "".join(f"{'    ' * n}ok 1 - x\n" for n in range(2_000)),
        "1..1\n" + "".join(f"{'    ' * n}ok 1 - x\n" for n in reversed(range(500))),
        "1..1\n" + "".join(f"{'    ' * n}ok 1 - x {{\n" for n in range(300)),
        "1..1\nok 1 - " + " #" * 300_000,
        "1..1\nok 1 - " + "\\" * 300_001 + "# skip",
        "1..1\nok 1 - " + "# time=1" * 100_000,
        "1..1\nok" + " " * 500_000 + "x",
        "ok 1 - {\n}\n" * 50_000,
        "1..2\n" + "".join(f"ok {n}\n" for n in range(50_000, 0, -1)),
        "1..1\nok 1\n" * 50_000,
        f"1..1\n# Subtest: {'y' * 500_000}\n" + "    ok\n" * 50_000 + f"ok 1 - {'y' * 500_000}\n",
        "1..1\nok 1\n  ---\n" + "  x: |\n" * 100_000,
        "TAP version 14\n" * 50_000,
        "Bail out!\n" * 50_000,
        "# Subtest: a\n    ok 1\nBail out!\n" * 20_000,
    ],
)
def test_the_time_for_hostile_text_grows_with_its_size_only(text: str) -> None:
    """Each of these takes minutes with a quadratic step."""
    start = time.process_time()
    assert transformed(text.encode(), "tap").outcome.verdict in ("accepted", "rejected")
    assert time.process_time() - start < 20
