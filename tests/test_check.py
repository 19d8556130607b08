"""`runfeed check` says what a server would say, and names the real cause; `runfeed formats` shows all formats."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from processor.formats.registry import FORMATS
from processor.reading.decode import DecodeLimits
from processor.tables import RunFacts
from runfeed import cli
from tests.golden import FOLDER, RECORD, benchmark_of, pairs, rows_of, transformed

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus" / "invalid"

ROW = '{"benchmark": "parse", "metric": "time", "value": 0.25, "unit": "s", "better": "lower"}'
KEPT = '{"test": "test_parse", "status": "wobbly"}'
REJECTED = '{"benchmark": "parse", "metric": "time", "value": "fast"}'

IN_ATTRIBUTE = "Unescaped '<' not allowed in attributes values"

REAL_CAUSES = {
    "asv/asv-example_results/cheetah/aaaaaaaa-py2.7-Cython-numpy1.8.json": "object keys must be strings",
    "junit/011__enricomi-junit-xml-non-junit.xml": "root element 'suites'",
    "junit/013__enricomi-junit-xml-pytest-corrupt-xml.xml": (
        "line 11, column 22: expected well-formed XML: </skipped>, the end of <skipped> of line 9, found the end of"
    ),
    "junit/035__enricomi-xml-non-xml.xml": "this is not an xml file",
    "junit/048__mikepenz-junit-web-test-expected.xml": 'time="<<computed>>"',
    "junit/084__kettle-malformed.xml": "line 2, column 6: expected well-formed XML: its declaration at the very",
    "junit/093__allure-junitdata-invalid.xml": "root element 'test-suite'",
    "junit/098__junitviewer-complete-multi-suites.xml": f'{IN_ATTRIBUTE}: <failure message="<b>message</b>"',
    "junit/100__junitviewer-complete-no-suite-multi-cases.xml": f'{IN_ATTRIBUTE}: <failure message="<b>message</b>"',
    "junit/101__junitviewer-complete-no-suite-single-suite.xml": (
        "expected well-formed XML: </skipped>, the end of <skipped> of line 24, found </error>"
    ),
    "junit/102__junitviewer-complete-single-case-only.xml": f'{IN_ATTRIBUTE}: <failure message="<b>message</b>"',
    "junit/103__junitviewer-complete-single-suite.xml": (
        "expected well-formed XML: </skipped>, the end of <skipped> of line 25, found </error>"
    ),
    "junit/107__junitviewer-invalid.xml": "bacon",
    "junit/108__junitviewer-most-complex.xml": f'{IN_ATTRIBUTE}: <error message="<i>WITH HTML</i>"',
    "junit/123__junitviewer-test-muiltiple-suites.xml": "well-formed XML: one root element and nothing after it",
    "junit/126__junitviewer-test-simple.xml": f'{IN_ATTRIBUTE}: <failure message="<b>message</b>"',
    "junit/128__junitviewer-test-test-suites-with-only-test-case.xml": (
        "expected well-formed XML: </testsuites>, the end of <testsuites> of line 2, found </testsuite>"
    ),
    "junit/129__junitviewer-with-html.xml": f'{IN_ATTRIBUTE}: <error message="<b>BOO</b>"',
    "lnt/010__lnt-lnttool-Inputs-error-0.json": "NOT A JSON FILE",
    "wptreport/004__results-collection-extra-missing-complete.json": "log-wptreport",
    "wptreport/007__results-collection-noexpect-complete.json": "log-wptreport",
}
"""What is really wrong with each file that must be refused, in words that the first line about it must hold."""


def record_of(format: str) -> list[str]:
    """The option that a format of registered benchmarks needs."""
    return ["--benchmark", str(FOLDER / format / RECORD)] if benchmark_of(format) else []


def run(*arguments: str, input: str | bytes = "") -> Result:
    return CliRunner().invoke(cli, ["check", *arguments], input=input)


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., str]:
    def write(content: str | bytes, name: str = "result.json") -> str:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return str(tmp_path / name)

    return write


# --- the real cause ---


@pytest.mark.parametrize(("name", "cause"), REAL_CAUSES.items())
def test_an_invalid_file_is_refused_and_its_real_cause_comes_first(name: str, cause: str) -> None:
    if not CORPUS.is_dir():
        pytest.skip(f"no corpus beside the project at {CORPUS}")
    result = run(str(CORPUS / name))
    head, title, first, *_ = result.output.splitlines()
    assert result.exit_code == 1
    assert ": rejected (" in head
    assert title == "  problems"
    assert first.startswith("    refused  ")
    assert cause in first


def test_no_invalid_file_is_forgotten() -> None:
    if not CORPUS.is_dir():
        pytest.skip(f"no corpus beside the project at {CORPUS}")
    assert {str(path.relative_to(CORPUS)) for path in CORPUS.rglob("*") if path.is_file()} == set(REAL_CAUSES)


# --- exit statuses ---


@pytest.mark.parametrize(
    ("content", "status", "strict_status"),
    [
        (ROW, 0, 0),
        (KEPT, 0, 1),
        (REJECTED, 1, 1),
        (ROW + "\n" + REJECTED, 1, 1),
        ("", 1, 1),
        ("\n", 1, 1),
        ("bacon", 1, 1),
    ],
    ids=["fine", "kept problem", "refused", "one of two refused", "empty", "blank", "no format"],
)
def test_the_exit_status_is_the_verdict(
    file: Callable[..., str], content: str, status: int, strict_status: int
) -> None:
    assert run(file(content)).exit_code == status
    assert run("--strict", file(content)).exit_code == strict_status


def test_the_exit_status_of_several_files_is_the_worst(file: Callable[..., str]) -> None:
    fine, refused = file(ROW, "fine.json"), file(REJECTED, "refused.json")
    both = run(fine, refused, fine)
    assert both.exit_code == 1
    assert [line.rpartition("/")[2] for line in both.stdout.splitlines() if line[0] != " "] == [
        "fine.json: accepted (runfeed, 1 run, 1 measurement)",
        "refused.json: rejected (runfeed)",
        "fine.json: accepted (runfeed, 1 run, 1 measurement)",
    ]


def test_what_cannot_be_read_is_named_and_the_other_files_are_checked(file: Callable[..., str], tmp_path: Path) -> None:
    result = run(str(tmp_path / "absent.json"), str(tmp_path), file(ROW))
    assert result.exit_code == 2
    assert "absent.json: cannot be read: No such file or directory" in result.stderr
    assert f"{tmp_path}: cannot be read: it is a folder; name the files in it" in result.stderr
    assert "accepted" in result.stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(file: Callable[..., str]) -> None:
    name = file(ROW)
    Path(name).chmod(0)
    result = run(name)
    assert (result.exit_code, "Permission denied" in result.stderr) == (2, True)


@pytest.mark.parametrize("arguments", [[], ["--format", "nonsense", "-"], ["--rows", "-1", "-"], ["--nonsense", "-"]])
def test_a_wrong_option_is_a_usage_error(arguments: list[str]) -> None:
    assert run(*arguments, input=ROW).exit_code == 2


def test_our_own_bug_is_no_verdict_on_the_file_and_does_not_hide_the_others(
    file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(data: Any, out: Any) -> None:
        out.run(RunFacts())
        raise ZeroDivisionError("a bug")

    monkeypatch.setitem(FORMATS, "runfeed", replace(FORMATS["runfeed"], read=broken))
    result = run(file(ROW), file(FORMATS["junit"].example, "junit.xml"))
    assert result.exit_code == 3
    assert "quarantined" in result.stdout
    assert "ZeroDivisionError: a bug" in result.stdout
    assert "junit.xml: accepted" in result.stdout


# --- what is shown ---


@pytest.mark.parametrize(
    ("source", "format"), [pytest.param(path, id, id=f"{id}/{path.name}") for id, path, _ in pairs()]
)
def test_check_says_exactly_what_the_transform_says(source: Path, format: str) -> None:
    benchmark = benchmark_of(format)
    expected = transformed(source.read_bytes(), benchmark=benchmark, commit=None, machine=None)
    outcome = expected.outcome
    (line,) = run("--json", "--rows", "1000", *record_of(format), str(source)).stdout.splitlines()
    said = json.loads(line)
    for name in ("verdict", "format", "runs", "measurements", "tests", "problems_total", "unread"):
        assert said[name] == getattr(outcome, name), name
    assert {problem["where"] for problem in said["problems"]} == {problem.where for problem in outcome.problems}
    for table in ("measurements", "tests"):
        assert len(said["rows"].get(table, [])) == len(rows_of(expected, table))
    for row, right in zip(said["rows"].get("measurements", []), rows_of(expected, "measurements"), strict=True):
        assert {name: row[name] for name in ("benchmark", "metric", "value")} == {
            name: right[name] for name in ("benchmark", "metric", "value")
        }


def test_problems_fields_that_are_lost_and_first_rows_are_shown_as_aligned_text(file: Callable[..., str]) -> None:
    lines = [ROW, '{"benchmark": "a", "metric": "time", "value": 12, "note": 1}', *[ROW] * 7, KEPT]
    shown = run("--rows", "2", file("\n".join(lines))).stdout.splitlines()
    assert shown[0].endswith("result.json: accepted (runfeed, 1 run, 9 measurements, 1 test)")
    assert shown[1] == "  problems"
    assert shown[2].startswith("    kept     line 10/status: expected one of pass, ")
    assert shown[2].endswith("found 'wobbly'")
    assert shown[3:] == [
        "  in no column (how often)",
        "    1  /*/note",
        "  runs",
        "    measurements  tests",
        "    9             1",
        "  measurements, the first 2 of 9",
        "    benchmark  metric  value  unit  better",
        "    parse      time    0.25   s     lower",
        "    a          time    12",
        "  tests",
        "    test        status   status_text",
        "    test_parse  unknown  wobbly",
    ]


def test_of_a_rejected_file_what_refused_it_comes_first_and_the_format_can_be_looked_up(
    file: Callable[..., str],
) -> None:
    content = '<testsuite tests="5"><testcase name="a"/></testsuite><'
    lines = run(file(content)).stdout.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["refused", "noted"]
    assert lines[4:] == ["  see: runfeed formats junit"]


def test_no_rows_are_shown_if_none_are_wanted(file: Callable[..., str]) -> None:
    assert len(run("--rows", "0", file(ROW)).stdout.splitlines()) == 1
    assert json.loads(run("--json", "--rows", "0", file(ROW)).stdout)["rows"] == {}


@pytest.mark.parametrize("input", [ROW, FORMATS["junit"].example])
def test_standard_input_is_a_file_too(input: str) -> None:
    result = run("-", input=input)
    assert result.exit_code == 0
    assert result.stdout.startswith("-: accepted (")


def test_a_format_can_be_named(file: Callable[..., str]) -> None:
    assert run("--format", "runfeed", file(ROW)).exit_code == 0
    assert run("--format", "junit", file(ROW)).exit_code == 1


def test_a_record_that_is_none_is_a_usage_error(file: Callable[..., str]) -> None:
    result = run("--benchmark", file("{}", "record.json"), file(ROW))
    assert result.exit_code == 2
    assert "record.json" in result.stderr
    assert "name" in result.stderr


def test_a_file_beyond_the_limit_is_refused_without_being_read(tmp_path: Path) -> None:
    path, most = tmp_path / "sparse.json", DecodeLimits().max_decoded_bytes
    with open(path, "wb") as file:
        file.truncate(most * 8)
    result = run(str(path))
    assert result.exit_code == 1
    assert f"expected at most {most:,} bytes, found {most * 8:,} bytes" in result.stdout


def test_what_is_in_a_file_gives_a_terminal_no_commands(file: Callable[..., str]) -> None:
    name = file(json.dumps({"benchmark": "\x1b]0;x\x07\x9b31m\u202e", "metric": "a\nb", "value": 1, "\x1b[2J": 1}))
    for output in (run(name).stdout, run("--json", name).stdout):
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(output)
    assert " a b " in run(name).stdout


def test_on_a_terminal_tables_fit_its_width(file: Callable[..., str]) -> None:
    name = file(json.dumps({"benchmark": "b" * 50, "metric": "m m" * 20, "value": 1, "unit": "[red]unit"}))
    ours, theirs = os.openpty()
    environ = {**os.environ, "COLUMNS": "72", "TERM": "xterm"}
    subprocess.run([sys.executable, "-m", "runfeed", "check", name], stdout=theirs, env=environ, check=True)
    os.close(theirs)
    lines = os.read(ours, 1 << 16).decode().splitlines()
    os.close(ours)
    table = lines[next(at for at, line in enumerate(lines) if line.startswith("  measurements")) + 1 :]
    assert len(table) == 2
    assert all(len(line.replace("\x1b[1m", "").replace("\x1b[0m", "")) <= 72 for line in table)
    assert "…" in table[1]
    assert " 1  " in table[1]
    assert "[r" in table[1]


def test_check_leaves_nothing_behind(file: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = file(ROW)
    monkeypatch.chdir(tmp_path)
    assert run(name).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


# --- formats ---


def test_formats_lists_every_format_with_how_it_is_made() -> None:
    lines = CliRunner().invoke(cli, ["formats"]).stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(FORMATS)
    assert all(
        format.title in line and format.made_by in line for line, format in zip(lines, FORMATS.values(), strict=True)
    )


@pytest.mark.parametrize("id", FORMATS)
def test_a_format_shows_its_page_and_an_example_that_check_accepts(id: str) -> None:
    shown = CliRunner().invoke(cli, ["formats", id]).stdout
    page, _, example = shown.partition("\nExample:\n\n")
    assert "| field |" in page or "|---|" in page
    assert FORMATS[id].made_by in page
    content = "\n".join(line.removeprefix("    ") for line in example.splitlines())
    assert content == FORMATS[id].example.rstrip("\n")
    assert run("--strict", *record_of(id), "-", input=content).exit_code == 0


def test_formats_as_json_has_a_line_each() -> None:
    lines = CliRunner().invoke(cli, ["formats", "--json"]).stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(FORMATS)
    (one,) = CliRunner().invoke(cli, ["formats", "--json", "junit"]).stdout.splitlines()
    assert json.loads(one)["example"] == FORMATS["junit"].example


def test_an_unknown_format_is_a_usage_error_that_names_the_known_ones() -> None:
    result = CliRunner().invoke(cli, ["formats", "nonsense"])
    assert result.exit_code == 2
    assert "junit" in result.stderr


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device here")
def test_a_record_without_an_end_is_a_wrong_option(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text("{}")
    result = CliRunner().invoke(cli, ["check", str(file), "--benchmark", "/dev/zero"])
    assert result.exit_code == 2
    assert "--benchmark" in result.output
