"""What JUnit XML and wptreport promise about names, times, statuses and facts beyond their golden pairs."""

import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.formats import junit, wptreport
from processor.transform import Transformed
from schemas.records import Commit
from schemas.tables import STATUSES
from tests.bench.make_wptreport import write_wptreport
from tests.golden import rows_of, transformed

TESTS = datetime(2024, 5, 1, 10, 0, tzinfo=UTC)


def made(report: dict[str, Any], **context: Any) -> Transformed:
    return transformed(json.dumps(report).encode(), "wptreport", **context)


def report_of(*results: Any, **info: Any) -> dict[str, Any]:
    return {"run_info": info, "time_start": 1_700_000_000_000, "results": list(results)}


def cases(xml: str) -> list[dict[str, Any]]:
    return rows_of(transformed(xml.encode(), "junit"), "tests")


# --- wptreport ---


@pytest.mark.parametrize("status", [word.upper() for word in STATUSES if word != "unknown"])
def test_a_wpt_status_is_the_ladders_word_and_counts_as_that(status: str) -> None:
    result = made(report_of({"test": "/a", "status": status, "subtests": [{"name": "s", "status": status}]}))
    assert [row["status"] for row in rows_of(result, "tests")] == [status.lower()] * 2
    (run,) = rows_of(result, "runs")
    assert run["passed"] == (2 if status in ("PASS", "OK") else 0)
    assert run["failed"] == (2 if status in ("ASSERT", "FAIL", "ERROR", "TIMEOUT", "CRASH") else 0)
    assert not result.outcome.problems


@pytest.mark.parametrize("status", ["", "Pass!", "UNKNOWN", "unknown", "PASSED", None, 1, ["PASS"]])
def test_an_unknown_wpt_status_is_flagged_and_never_a_pass(status: Any) -> None:
    result = made(report_of({"test": "/a", "status": status}))
    (row,) = rows_of(result, "tests")
    assert row["status"] == "unknown"
    assert row["status_text"] == ("" if status is None else status if isinstance(status, str) else json.dumps(status))
    assert [(problem.where, problem.effect) for problem in result.outcome.problems] == [("/results/0/status", "kept")]
    assert rows_of(result, "runs")[0]["passed"] == 0


@settings(deadline=None)
@given(
    st.tuples(st.text("ab:%/3A2F5", max_size=6), st.text("/ab:%3A", max_size=6)),
    st.tuples(st.text("ab:%/3A2F5", max_size=6), st.text("/ab:%3A", max_size=6)),
)
def test_two_tests_of_subsuites_have_one_name_only_if_they_are_one(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    assert (wptreport.test_name(*one) == wptreport.test_name(*other)) == (one == other)


@pytest.mark.parametrize("test", ["/a.html", "a/b.html", "/../../x", "/x:y", "../../../etc/passwd", "", "/\0"])
def test_an_id_without_subsuite_stays_just_an_id(test: str) -> None:
    assert wptreport.test_name("", test) == wptreport.test_name(None, test) == test


@pytest.mark.parametrize(
    ("info", "os"),
    [
        ({}, ""),
        ({"os": ""}, ""),
        ({"os": "linux"}, "Linux"),
        ({"os": "linux", "os_version": "22.04", "version": "Ubuntu 22.04"}, "Ubuntu 22.04"),
        ({"os": "linux", "os_version": "12.5", "linux_distro": "Debian"}, "Debian 12"),
        ({"os": "mac", "os_version": "14.7", "version": "OS X 14.7.1"}, "macOS 14"),
        ({"os": "mac", "os_version": "10.14"}, "macOS 10.14"),
        ({"os": "mac"}, "macOS"),
        ({"os": "win", "os_version": "10.0", "version": "10.0.17134"}, "Windows 10"),
        ({"os": "win", "os_version": "10.0", "version": "10.0.22631"}, "Windows 11"),
        ({"os": "android", "os_version": "16.04", "linux_distro": "Ubuntu"}, "android"),
        ({"os": "android", "os_version": "13"}, "android 13"),
        ({"os": ["linux"], "os_version": {"major": 1}}, ""),
    ],
)
def test_the_system_is_named_with_its_major_version(info: dict[str, Any], os: str) -> None:
    result = made(report_of(product="x", **info), machine=None)
    assert rows_of(result, "runs")[0]["os"] == (os or None)


def test_all_of_run_info_is_kept_but_the_revision_which_is_the_commit() -> None:
    info = {"product": "chrome", "browser_version": "1", "revision": "abc", "processor": "arm", "odd": {"deep": [1]}}
    (run,) = rows_of(made(report_of(**info), commit=None), "runs")
    assert run["commit"] == info.pop("revision")
    assert json.loads(run["machine"]) == info
    assert (run["title"], run["cpu"]) == ("chrome 1", "Example CPU")


def test_a_short_revision_is_filled_up_from_the_push_if_that_means_the_same_commit() -> None:
    pushed = Commit(id="abc" + "0" * 37, branch="main")
    assert rows_of(made(report_of(revision="abc"), commit=pushed), "runs")[0]["commit"] == pushed.id
    assert rows_of(made(report_of(revision="abd"), commit=pushed), "runs")[0]["commit"] == "abd"


@pytest.mark.parametrize(
    ("time", "started"),
    [
        (1_714_557_600_000, TESTS),
        (1_714_557_600, TESTS),
        (1_714_557_600_250.5, TESTS + timedelta(microseconds=250_500)),
        (None, None),
    ],
)
def test_times_are_read_in_milliseconds_and_in_seconds(time: Any, started: datetime | None) -> None:
    result = made({**report_of(), "time_start": time})
    assert rows_of(result, "runs")[0]["started"] == started
    assert not result.outcome.problems


@pytest.mark.parametrize("time", ["1714557600000", "2024-05-01", True, [], {}, 10**30, -(10**30), 1e300])
def test_a_time_that_is_none_is_flagged_and_the_rows_stay(time: Any) -> None:
    result = made({**report_of({"test": "/a", "status": "PASS"}), "time_start": time})
    assert [problem.where for problem in result.outcome.problems] == ["/time_start"]
    assert (result.outcome.verdict, result.outcome.tests) == ("accepted", 1)


@pytest.mark.parametrize(
    ("result", "where"),
    [
        ({"status": "OK"}, "/results/0/test"),
        ({"test": None, "status": "OK"}, "/results/0/test"),
        ({"test": 5, "status": "OK"}, "/results/0/test"),
        ({"test": "/a", "status": "OK", "subtests": {}}, "/results/0/subtests"),
        ({"test": "/a", "status": "OK", "subtests": [{}]}, "/results/0/subtests/0/name"),
        ({"test": "/a", "status": "OK", "subtests": [[]]}, "/results/0/subtests/0"),
        ([], "/results/0"),
        (7, "/results/0"),
    ],
)
def test_a_result_that_cannot_be_told_apart_refuses_the_run(result: Any, where: str) -> None:
    refused = made(report_of(result, {"test": "/fine", "status": "OK"}))
    assert refused.outcome.verdict == "rejected"
    assert [(problem.where, problem.effect) for problem in refused.outcome.problems] == [(where, "refused")]


@pytest.mark.parametrize("results", [None, {}, {"/a": "OK"}, 5, "none", True])
def test_results_that_are_no_array_are_refused_by_name(results: Any) -> None:
    refused = made({"run_info": {"product": "x"}, "results": results})
    assert [problem.where for problem in refused.outcome.problems] == ["/results"]
    assert made({"run_info": {"product": "x"}}).outcome.problems[0].found == "nothing"


@pytest.mark.parametrize("content", [b"5", b'["results"]', b'"results"', b"null", b"[]", b"true"])
def test_a_report_that_is_no_object_is_refused(content: bytes) -> None:
    refused = transformed(content, "wptreport").outcome
    assert (refused.verdict, refused.problems[0].where, refused.problems[0].expected) == ("rejected", "/", "object")


def test_the_generated_report_gives_as_many_rows_as_its_maker_says(tmp_path: Any) -> None:
    tests, subtests = write_wptreport(tmp_path / "a.json", tests=300, seed=3)
    write_wptreport(tmp_path / "b.json", tests=300, seed=3)
    content = (tmp_path / "a.json").read_bytes()
    assert content == (tmp_path / "b.json").read_bytes()
    result = transformed(content)
    assert (result.outcome.format, result.outcome.tests, result.outcome.problems) == (
        "wptreport",
        tests + subtests,
        [],
    )
    rows = rows_of(result, "tests")
    assert sum(row["subtest"] is None for row in rows) == tests
    report = json.loads(content)
    names = [(r["test"], s and s["name"]) for r in report["results"] for s in (None, *r["subtests"])]
    assert [(row["test"], row["subtest"]) for row in rows] == names


def test_rows_of_a_large_report_are_the_files_rows_in_order() -> None:
    """Columns are made of all rows at once; each row must still be its own."""
    results = [
        {"test": f"/{n}", "status": "OK", "subtests": [{"name": str(k), "status": "PASS"} for k in range(30_000 * n)]}
        for n in (1, 3, 2)
    ]
    result = made(report_of(*results))
    assert result.tables is not None
    rows = rows_of(result, "tests")
    assert [row["test"] for row in rows] == [r["test"] for r in results for _ in range(1 + len(r["subtests"]))]
    assert {(row["seq"], row["run"]) for row in rows} == {(7, rows_of(result, "runs")[0]["run"])}
    assert all(batch.validate(full=True) is None for batch in result.tables.batches["tests"])


# --- JUnit XML ---


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1.2", 1.2),
        ("9.9e-05", 9.9e-05),
        ("1,234.5", 1234.5),
        ("1,234", 1234.0),
        ("1,234,567.25", 1234567.25),
        ("0,012", 0.012),
        ("12,5", 12.5),
        ("1.234,5", 1234.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("0", 0.0),
        ("+3", 3.0),
        ("", None),
        ("NaN", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("-1", None),
        ("1_000", None),
        ("1.2.3", None),
        ("1 s", None),
        ("<<computed>>", None),
        ("٣", None),
    ],
)
def test_seconds_are_read_in_the_spellings_of_the_tools(text: str, seconds: float | None) -> None:
    assert junit.parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-01T10:00:00",
        "2024-05-01T10:00:00Z",
        "2024-05-01T10:00:00.000000",
        "2024-05-01T12:00:00+02:00",
        "2024-05-01T12:00:00GMT+02:00",
        "2024-05-01 05:00:00-0500",
        "20240501T100000Z",
        "1714557600",
        "1714557600.0",
        "1714557600000",
        "Wed, 01 May 2024 10:00:00 GMT",
        "Wed, 01 May 2024 12:00:00 +0200",
        "Wed May  1 10:00:00 2024",
    ],
)
def test_timestamps_are_read_in_many_forms(text: str) -> None:
    assert junit.parse_timestamp(text) == TESTS


@pytest.mark.parametrize("text", ["", "yesterday", "-", "99999999999999999999", "0000-01-01T00:00:00", "9" * 10_000])
def test_a_timestamp_that_is_none_is_no_error(text: str) -> None:
    assert junit.parse_timestamp(text) is None


PARTS = st.text("ab#% >235E", min_size=1, max_size=7)


@settings(deadline=None)
@given(
    st.tuples(st.lists(PARTS, max_size=2), PARTS, PARTS),
    st.tuples(st.lists(PARTS, max_size=2), PARTS, PARTS),
)
def test_test_cases_have_one_name_only_if_suites_class_and_name_are_one(
    one: tuple[list[str], str, str], other: tuple[list[str], str, str]
) -> None:
    def told_apart(suites: list[str], class_name: str, name: str) -> tuple[list[str], str]:
        """What the name is made of once repeated suites are left out; a suite and a class in one place are one."""
        kept = [suite for suite in suites if not re.match(re.escape(suite) + r"([ .:/$]|$)", class_name)]
        return [*kept, class_name], name

    assert (junit.test_name(*one) == junit.test_name(*other)) == (told_apart(*one) == told_apart(*other))


@pytest.mark.parametrize(
    ("suites", "class_name", "name", "test"),
    [
        (["", "pytest"], "tests.test_x.TestY", "test_a[1]", "tests.test_x.TestY#test_a[1]"),
        (["com.example.FooTest"], "com.example.FooTest", "bar", "com.example.FooTest#bar"),
        (["crate::module"], "crate::module", "mod::test", "crate::module#mod::test"),
        (["all", r"App\Tests\FooTest"], "App.Tests.FooTest", "bar", "all > App.Tests.FooTest#bar"),
        (["test_x.T-20121115010229"], "test_x.T", "test_a", "test_x.T#test_a"),
        (["suite"], "", "case", "suite#case"),
        ([], "", "case", "case"),
        ([], "", "C# case", "#C# case"),
        (["a > b"], "C#", "d", "a %3E b > C%23#d"),
    ],
)
def test_a_test_case_is_named_like_a_java_method(suites: list[str], class_name: str, name: str, test: str) -> None:
    assert junit.test_name(suites, class_name, name) == test


@pytest.mark.parametrize(
    ("inside", "attributes", "status"),
    [
        ("", "", "pass"),
        ("<failure/>", "", "fail"),
        ("<error/>", "", "error"),
        ("<skipped/>", "", "skip"),
        ("<skipped/><failure/>", "", "fail"),
        ("<failure/><error/>", "", "error"),
        ("<failure/>", 'status="passed"', "fail"),
        ("", 'status="failed"', "fail"),
        ("", 'status="run" result="completed"', "pass"),
        ("", 'status="notrun" result="suppressed"', "skip"),
        ("", 'status="disabled"', "skip"),
        ("", 'status="odd"', "unknown"),
        ("<odd/>", "", "unknown"),
        ("<odd/>", 'status="passed"', "unknown"),
        ("<odd/><failure/>", "", "fail"),
        ("<flakyFailure/>", "", "pass"),
        ("<flakyFailure/><failure/>", "", "fail"),
        ("<rerunFailure/>", "", "fail"),
        ("<system-out>&lt;failure/></system-out>", "", "pass"),
    ],
)
def test_a_test_case_has_the_worst_status_that_is_said_of_it(inside: str, attributes: str, status: str) -> None:
    (row,) = cases(f'<testsuite><testcase name="a" {attributes}>{inside}</testcase></testsuite>')
    assert row["status"] == status


def test_a_message_is_whole_whatever_its_size_and_output_is_no_part_of_it() -> None:
    text = "x" * 3_000_000
    (row,) = cases(
        f'<testcase name="a"><failure type="T" message="m">{text}<system-err>no</system-err></failure>'
        f"<system-out>{text}</system-out></testcase>"
    )
    assert row["message"] == f"T: m\n{text}"


@pytest.mark.parametrize("attribute", ["tests", "failures", "errors", "skipped"])
def test_counts_that_disagree_are_flagged_and_the_test_cases_count(attribute: str) -> None:
    result = transformed(f'<testsuite name="s" {attribute}="3"><testcase name="a"/></testsuite>'.encode())
    (problem,) = result.outcome.problems
    assert (problem.where, problem.expected, problem.effect) == (f"/testsuite/@{attribute}", "3", "kept")
    assert result.outcome.tests == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1", "windows-1252", "gb18030"])
def test_the_declared_encoding_is_read(encoding: str) -> None:
    named = encoding.removesuffix("-sig")
    content = f'<?xml version="1.0" encoding="{named}"?><testsuite><testcase name="größe"/></testsuite>'
    result = transformed(content.encode(encoding))
    assert [row["test"] for row in rows_of(result, "tests")] == ["größe"]


def extra_of(inside: str, attributes: str = "") -> dict[str, Any]:
    """What is kept beside of one test case."""
    (row,) = cases(f'<testsuite><testcase name="a" {attributes}>{inside}</testcase></testsuite>')
    return json.loads(row["extra"] or "{}")


def unread_of(xml: str) -> dict[str, int]:
    return transformed(xml.encode(), "junit").outcome.unread


@pytest.mark.parametrize(
    ("inside", "attributes", "extra"),
    [
        ("", "", {}),
        ("", 'classname="c" time="1" status="passed" line=""', {}),
        ("", 'file="a.py" line="3" classname="c"', {"file": "a.py", "line": "3"}),
        ("", 'classname="a.B" class="a\\B"', {"class": "a\\B"}),
        ("", 'class="a.B"', {}),
        ("<failure/>", 'status="odd"', {"status": "odd"}),
        ('<failure line="3"/><failure line="4"/>', "", {"failure/@line": ["3", "4"]}),
        ('<properties><property name="a" value="1"/></properties>', "", {"properties": {"a": "1"}}),
        ('<properties><property name="a"> text </property></properties>', "", {"properties": {"a": "text"}}),
        ("<error/><system-err> last words\n</system-err>", "", {"system-err": "last words"}),
        ("<system-out>first words</system-out><odd/>", "", {"system-out": "first words"}),
        ("<failure>x<system-out>inside</system-out></failure>", "", {"system-out": "inside"}),
        ("<system-out>of a pass</system-out>", "", {}),
        ("<skipped/><system-out>of a skip</system-out>", "", {}),
    ],
)
def test_what_else_is_said_of_a_test_case_is_kept_beside(inside: str, attributes: str, extra: dict[str, Any]) -> None:
    assert extra_of(inside, attributes) == extra


def test_a_test_case_without_a_file_has_its_suites() -> None:
    rows = cases(
        '<testsuites><testsuite file="a.js"><testsuite><testcase name="a"/></testsuite>'
        '<testcase name="b" file="c.js"/></testsuite><testsuite><testcase name="d"/></testsuite></testsuites>'
    )
    assert [row["extra"] for row in rows] == ['{"file":"a.js"}', '{"file":"c.js"}', None]


@pytest.mark.parametrize("size", [100, 4_096, 4_097, 70_000, 3_000_000])
def test_of_long_output_the_end_is_kept_and_the_cut_is_counted(size: int) -> None:
    text = "".join(f"{n:05}\n" for n in range(size // 6 + 1))[-size:].strip()
    xml = f'<testcase name="a"><failure/><system-out>\n{text}\n\n</system-out></testcase>'
    (row,) = cases(xml)
    assert json.loads(row["extra"]) == {"system-out": text[-4_096:]}
    assert unread_of(xml) == ({"testcase/system-out (all but the end)": 1} if len(text) > 4_096 else {})


def test_attributes_and_properties_beyond_the_bound_are_counted_and_the_rest_is_kept() -> None:
    xml = (
        f'<testcase name="a" file="a.py" huge="{"x" * 4_096}"><properties><property name="b" value="{"y" * 4_000}"/>'
        f'<property name="c" value="{"z" * 4_000}"/></properties></testcase>'
    )
    (row,) = cases(xml)
    assert json.loads(row["extra"]) == {"file": "a.py", "properties": {"b": "y" * 4_000}}
    assert unread_of(xml) == {"property c": 1, "testcase/@huge": 1}


@pytest.mark.parametrize(
    "name", ["user.name", "USERNAME", "owner", "author", "e-mail", "GITHUB_TOKEN", "db.password", "apiKey"]
)
def test_persons_and_secrets_are_counted_and_never_kept(name: str) -> None:
    properties = f'<properties><property name="{name}" value="hidden"/></properties>'
    xml = f'<testsuite>{properties}<testcase name="a" {name}="hidden">{properties}</testcase></testsuite>'
    result = transformed(xml.encode(), "junit")
    assert "hidden" not in str([rows_of(result, table) for table in ("runs", "tests")])
    assert result.outcome.unread == {f"property {name}": 2, f"testcase/@{name}": 1}


@pytest.mark.parametrize(
    ("xml", "unread"),
    [
        ('<testsuite name="s" tests="1" timestamp="2024-05-01T10:00:00" time="1"><testcase name="a"/></testsuite>', {}),
        ('<testsuite time="1"><testcase name="a"/></testsuite>', {"testsuite/@time": 1}),
        ('<testsuite id="0" package=""><testcase name="a"/></testsuite>', {"testsuite/@id": 1}),
        ("<testsuite><system-out> \n </system-out><system-err/></testsuite>", {}),
        ("<testsuite><system-out>a</system-out></testsuite>", {"testsuite/system-out": 1}),
        ("<testcase name='a'><tags/><attachments><a b=''/></attachments></testcase>", {"testcase/attachments": 1}),
        ("<testcase name='a'><steps><x/><x>y</x><x><z/></x></steps></testcase>", {"testcase/steps": 1}),
        ("<testcase name='a'>one<tags/>two</testcase>", {"text between elements": 1}),
        ("<testcase name='a' xmlns:x='urn:x'><x:y z='1'/></testcase>", {"testcase/{urn:x}y": 1}),
        ("<testsuite><properties><property value='1'/></properties></testsuite>", {"testsuite/property": 1}),
        ("<testcase name='a'><failure>text</failure><system-out>kept</system-out></testcase>", {}),
    ],
)
def test_the_loss_report_counts_what_reaches_no_column(xml: str, unread: dict[str, int]) -> None:
    assert unread_of(xml) == unread


@pytest.mark.parametrize(
    ("root", "suites", "seconds"),
    [
        ('time="5" timestamp="2024-05-01T10:00:00"', ['time="1"', 'time="2"'], 5),
        ("", ['time="1.5" timestamp="2024-05-01T10:00:00"'], 1.5),
        ("", ['time="1" timestamp="2024-05-01T10:00:00"', 'time="2"'], None),
        ('time="5"', ["", ""], None),
        ("", ['time="1e300" timestamp="2024-05-01T10:00:00"'], None),
        ("", ['time="soon" timestamp="2024-05-01T10:00:00"'], None),
    ],
)
def test_the_run_has_finished_when_the_time_of_the_whole_has_passed(
    root: str, suites: list[str], seconds: float | None
) -> None:
    inside = "".join(f"<testsuite {attributes}/>" for attributes in suites)
    (run,) = rows_of(transformed(f"<testsuites {root}>{inside}</testsuites>".encode()), "runs")
    assert run["finished"] == (None if seconds is None else TESTS + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("xml", "where", "expected", "found"),
    [
        ("<testsuite>\n<testcase name='a' tim", "line 2", "well-formed XML", "the end of the file, which is cut off"),
        ("<testsuite>\n  <testcase>\n", "line 3", "</testcase>, the end of <testcase> of line 2", "cut off"),
        ("<testsuite>\n<testcase></testsuite>", "line 2", "</testcase>, the end of <testcase>", "</testsuite>"),
        ('<testsuite>\n<testcase name="a<b"/>', "line 2", "&lt;", 'name="a<b"/>'),
        ("<testsuite/>\n<testsuite/>", "line 2", "one root element", ": <testsuite/>"),
        ("<!-- --><?xml version='1.0'?><testsuite/>", "line 1", "at the very beginning", "<?xml version='1.0'?>"),
        ("<testsuite>a &nbsp; b</testsuite>", "line 1", "well-formed XML", "'nbsp' not defined"),
        ("<testsuite>\n" * 101, "", "at most 100 nested elements", "more"),
        ("<testsuite>" + "\n" * 100_000 + "<a></b>" + "\n" * 100_000, "line 100001", "</a>", "</b>"),
    ],
)
def test_xml_that_is_none_is_refused_with_what_to_mend(xml: str, where: str, expected: str, found: str) -> None:
    problem = transformed(xml.encode(), "junit").outcome.problems[-1]
    assert where in problem.where
    assert expected in problem.expected
    assert found in problem.found


def test_a_broken_file_in_utf_16_is_refused_in_words() -> None:
    (problem,) = transformed("<testsuite>\n<testcase></testsuite>".encode("utf-16")).outcome.problems
    assert (problem.expected, problem.found) == (
        "well-formed XML: </testcase>, the end of <testcase> of line 2",
        "</testsuite>",
    )


@pytest.mark.parametrize(
    ("opening", "inside", "closing"),
    [
        ("<testcase>", "<failure/>", "</testcase>"),
        ("<testcase>", "<odd/>", "</testcase>"),
        ("<testcase>", "<system-out>a</system-out>", "</testcase>"),
        ("<testcase>", "<properties><property name='a'/></properties>", "</testcase>"),
        ("<testsuite>", "<testcase classname='c'/>", "</testsuite>"),
        ("<testsuite>", "<testsuite id='a'/>", "</testsuite>"),
        ("<testsuite>", "\n", "<"),
    ],
)
def test_a_hundred_thousand_of_anything_take_no_time(opening: str, inside: str, closing: str) -> None:
    """None of the reader's steps costs more the more there were before it."""
    began = time.process_time()
    transformed((opening + inside * 100_000 + closing).encode(), "junit")
    assert time.process_time() - began < 10


def test_rows_keep_their_order_however_many_are_written_at_once() -> None:
    xml = "<testsuite>" + "".join(f'<testcase name="{n}" time="{n}"/>' for n in range(4_321)) + "</testsuite>"
    assert [(row["test"], row["duration_seconds"]) for row in cases(xml)] == [(str(n), n) for n in range(4_321)]
