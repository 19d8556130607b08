"""CTRF, the Common Test Report Format: one JSON that reporters for most test runners write.

    {"reportFormat": "CTRF", "specVersion": "1.0.0",
     "results": {"tool": {"name": …}, "summary": {"tests": …, "passed": …, …, "start": …, "stop": …},
                 "tests": [{"name": …, "status": "passed", "duration": <ms>, "suite": […], …}],
                 "environment": {"appName": …, "commit": …, "branchName": …, …}}}

One file is one run; each test is a row of `tests`.

| field | becomes | notes |
|---|---|---|
| tests[].suite, name | test | see below |
| tests[].status | status | passed, failed, skipped; pending is `notrun`; other is `unknown` with its text |
| tests[].duration | duration_seconds | milliseconds in the file; negative or no number is null, flagged |
| tests[].message, trace | message | nothing is said twice |
| tests[].flaky, retryAttempts | known_intermittent | of a test that passed in the end: how attempts ended, else fail |
| tests[].stdout, stderr | extra | of a test that did not pass: the end of each, at most 4,096 characters |
| tests[]: the other fields | extra | under their names, without names of persons and secrets |
| summary.start, stop | started, finished | milliseconds since 1970 (early reporters: seconds); 0 is no time |
| summary.tests, passed, failed, skipped, pending, other, flaky | | flagged where they disagree; the tests count |
| environment.commit, branchName | commit, branch | |
| environment.osPlatform, osRelease, osVersion | os; machine | `darwin` 24 is `macOS 15`, `win32` 10 `Windows 10` |
| environment.appName, else reportName | title | |
| environment: the other text and numbers | labels, under their names | `extra` is in machine |
| tool, generatedBy, specVersion, runId | labels `tool`, `generatedBy`, `specVersion`, `runId` | |

**Identity.** `suite > suite#name`, as JUnit's test cases are named here, so that a project may change from one to the
other; without a suite, `file#name` if the file's path is relative. The suite is left out where the name begins with
all of it (`test_a.py::TestA::test_b`). Tests that differ only in parameters or browser share an id: these are in
extra, and all rows are kept.

**Dialects.** Before 1.0 `suite` is one text, its parts joined by ` > `, and reportFormat and specVersion may be
missing. A test without duration is taken as it is.

**In the blob** stay screenshot, what tests that passed and attempts printed, insights and baseline (of other runs),
`extra` outside tests and environment, reportId and timestamp, and summary's suites and duration.

Definition: https://ctrf.io/docs/specification/overview and https://github.com/ctrf-io/ctrf, `schema/`.
"""

from typing import Any

import msgspec

from processor.formats import Format
from processor.formats.junit import test_name
from processor.reading.decode import Buffer
from processor.reading.finite import finite_number
from processor.reading.instants import instant_of_number
from processor.reading.mended import every_problem, read_fields, read_mended
from processor.reading.platforms import os_of
from processor.reading.shape import Shape
from processor.reading.shown import shown
from processor.reading.withheld import without_private
from processor.tables import RunFacts, RunRows, Tables
from schemas.problems import problem_of
from schemas.records import Commit, Machine

_STATUS = {"passed": "pass", "failed": "fail", "skipped": "skip", "pending": "notrun", "other": "unknown"}
_SEPARATORS = ("::", " > ", " ", ".", "/")
_SYSTEMS = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows", "windows": "Windows"}
_NEW_WINDOWS = 22_000
"""The first build of Windows 11, whose release is 10 as before."""


class Tool(msgspec.Struct, forbid_unknown_fields=True):
    name: str = ""
    version: str | None = None


class Summary(msgspec.Struct, forbid_unknown_fields=True):
    """Values of any type: a wrong one is flagged and costs no rows."""

    tests: Any = None
    passed: Any = None
    failed: Any = None
    skipped: Any = None
    pending: Any = None
    other: Any = None
    flaky: Any = None
    start: Any = None
    stop: Any = None


class Results(msgspec.Struct, forbid_unknown_fields=True):
    tests: list[msgspec.Raw]
    tool: Tool | None = None
    summary: Summary | None = None
    environment: dict[str, Any] | None = None


class Document(msgspec.Struct, forbid_unknown_fields=True):
    results: Results
    reportFormat: str | None = None
    specVersion: str | None = None
    reportId: Any = None
    runId: str | None = None
    timestamp: Any = None
    generatedBy: str | None = None


class Test(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    status: str
    duration: Any = None
    suite: str | list[str] | None = None
    message: str | None = None
    trace: str | None = None
    flaky: bool | None = None
    retryAttempts: list[Any] | None = None
    filePath: str | None = None
    id: Any = None
    start: Any = None
    stop: Any = None
    snippet: Any = None
    line: Any = None
    rawStatus: Any = None
    tags: Any = None
    labels: Any = None
    type: Any = None
    retries: Any = None
    threadId: Any = None
    browser: Any = None
    device: Any = None
    attachments: Any = None
    parameters: Any = None
    steps: Any = None
    extra: Any = None
    stdout: Any = None
    stderr: Any = None
    screenshot: Any = None
    insights: Any = None


_OUTPUT = ("stdout", "stderr")
_UNREAD = ("screenshot", "insights")
_EXTRA = tuple(Test.__struct_fields__[Test.__struct_fields__.index("filePath") : -len(_OUTPUT + _UNREAD)])
_MOST_OUTPUT = 4096
_FREE = ("labels", "parameters", "extra", "steps", "attachments")
"""Fields whose inside the format leaves open."""


def claims(shape: Shape) -> bool:
    if shape.kind != "object" or "results" not in shape.keys:
        return False
    if bytes(shape.keys.get("reportFormat", b"")) == b'"CTRF"':
        return True
    try:
        results = msgspec.json.decode(shape.keys["results"], type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return {"tool", "summary", "tests"} <= {*results}


def read(data: Buffer, out: Tables) -> None:
    document: Document = read_mended(data, Document, out)
    results = document.results
    environment = without_private(results.environment or {}, out, "/results/environment")
    run = out.run(_facts(document, environment, out))
    counted: dict[str, int] = dict.fromkeys(("tests", "flaky", *_STATUS), 0)
    for index, item in enumerate(results.tests):
        where = f"/results/tests/{index}"
        try:
            test: Test = read_fields(item, Test, out, "/results/tests/*")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            problems = [one for one in every_problem(item, Test, where) if "unknown field" not in one.found]
            for problem in problems or [problem_of(error, where)]:
                run.refuse(problem.where, problem.expected, problem.found)
            continue
        counted["tests"] += 1
        counted["flaky"] += test.flaky is True
        if test.status in _STATUS:
            counted[test.status] += 1
        _add(run, out, where, test)
    if results.summary and not run.refused:
        _check(run, results.summary, counted)


def _add(run: RunRows, out: Tables, where: str, test: Test) -> None:
    status = _STATUS.get(test.status)
    if status is None:
        run.flag(f"{where}/status", "one of " + ", ".join(_STATUS), shown(test.status))
    if not test.name:
        run.flag(f"{where}/name", "a name", "nothing")
    extra: dict[str, Any] = {}
    for name in _EXTRA:
        value = getattr(test, name)
        if value not in (None, "", [], {}):
            extra[name] = without_private(value, out, f"/results/tests/*/{name}") if name in _FREE else value
    if test.retryAttempts:
        extra["retryAttempts"] = [_attempt(attempt, out) for attempt in test.retryAttempts]
    for name in _OUTPUT:
        text = _joined(getattr(test, name)).strip()
        if text and status != "pass":
            extra[name] = text[-_MOST_OUTPUT:]
        if text and (status == "pass" or len(text) > _MOST_OUTPUT):
            out.leave_unread(f"/results/tests/*/{name}")
    for name in _UNREAD:
        if getattr(test, name) not in (None, "", [], {}):
            out.leave_unread(f"/results/tests/*/{name}")
    run.test(
        where=f"{where}/status",
        test=_test_name(test),
        status=status or "unknown",
        status_text=test.status if status in (None, "unknown") else None,
        known_intermittent=_other_endings(test) if status == "pass" else None,
        duration_seconds=_seconds(run, f"{where}/duration", test.duration),
        message=_message(test),
        extra=extra or None,
    )


def _test_name(test: Test) -> str:
    suites = test.suite.split(" > ") if isinstance(test.suite, str) else test.suite or []
    suites = [suite for suite in suites if suite]
    if not suites:
        path = test.filePath or ""
        relative = not path.startswith(("/", "\\")) and path[1:2] != ":"
        return test_name([], path if relative else "", test.name)
    if any(test.name.startswith(separator.join(suites) + separator) for separator in _SEPARATORS):
        return test_name([], "", test.name)
    return test_name(suites, "", test.name)


def _attempt(attempt: Any, out: Tables) -> Any:
    """One retry as it stands in extra: all but what it printed."""
    if not isinstance(attempt, dict):
        return attempt
    kept = dict(attempt)
    for name in _OUTPUT:
        if kept.pop(name, None):
            out.leave_unread(f"/results/tests/*/retryAttempts/*/{name}")
    return without_private(kept, out, "/results/tests/*/retryAttempts/*")


def _joined(lines: Any) -> str:
    """Output as the format has it, a list of lines, or as one text."""
    return "\n".join(line for line in lines if isinstance(line, str)) if isinstance(lines, list) else str(lines or "")


def _other_endings(test: Test) -> list[str] | None:
    words = [attempt.get("status") for attempt in test.retryAttempts or () if isinstance(attempt, dict)]
    statuses = {_STATUS[word] for word in words if isinstance(word, str) and word in _STATUS} - {"pass"}
    return sorted(statuses) or (["fail"] if test.flaky else None)


def _message(test: Test) -> str | None:
    message, trace = (test.message or "").strip(), (test.trace or "").strip()
    return trace if message in trace and trace else f"{message}\n{trace}".strip() or None


def _seconds(run: RunRows, where: str, duration: Any) -> float | None:
    if duration is None:
        return None
    milliseconds = finite_number(duration)
    if milliseconds is None or milliseconds < 0:
        run.flag(where, "milliseconds from 0", shown(duration))
        return None
    return milliseconds / 1000


def _check(run: RunRows, summary: Summary, counted: dict[str, int]) -> None:
    """Flag what the summary says otherwise than the tests do, and times that are none."""
    for name, count in counted.items():
        declared = getattr(summary, name)
        if declared is not None and (isinstance(declared, bool) or declared != count):
            run.flag(f"/results/summary/{name}", f"{count}, as the tests say", shown(declared))
    for name, found in (("start", run.facts.started), ("stop", run.facts.finished)):
        declared = getattr(summary, name)
        if declared not in (None, 0) and found is None:
            run.flag(f"/results/summary/{name}", "milliseconds since 1970", shown(declared))


def _facts(document: Document, environment: dict[str, Any], out: Tables) -> RunFacts:
    results = document.results
    summary, tool = results.summary or Summary(), results.tool or Tool()
    title = next((name for name in ("appName", "reportName") if environment.get(name)), "")
    text = {name: str(value).strip() for name, value in environment.items() if isinstance(value, str | int | float)}
    labels = {
        "tool": f"{tool.name} {tool.version or ''}".strip(),
        "generatedBy": document.generatedBy or "",
        "specVersion": document.specVersion or "",
        "runId": document.runId or "",
    }
    machine = {name: environment[name] for name in ("osPlatform", "osRelease", "osVersion") if text.get(name)}
    for name, value in environment.items():
        if name == "extra" or (name not in text and value not in (None, [], {})):
            machine[name] = value
        elif name in text and name not in ("commit", "branchName", title, *machine):
            labels[name] = str(value).lower() if isinstance(value, bool) else text[name]
    for name in ("reportId", "timestamp"):
        if getattr(document, name) not in (None, ""):
            out.leave_unread(f"/{name}")
    commit = text.get("commit", "")
    return RunFacts(
        title=text.get(title, ""),
        commit=Commit(id=commit, branch=text.get("branchName", "")) if commit else None,
        started=_instant(summary.start),
        finished=_instant(summary.stop),
        machine=Machine(os=_os(text.get("osPlatform", ""), text.get("osRelease", ""))),
        machine_extra={name: value for name, value in machine.items() if value not in ("", {}, [])} or None,
        labels={name: value for name, value in labels.items() if value},
    )


def _instant(value: Any) -> Any:
    number = finite_number(value)
    return instant_of_number(number) if number and number > 0 else None


def _os(platform: str, release: str) -> str:
    """Name and major version, from what Node's `os.platform()` and `os.release()` or their like say."""
    system, build = _SYSTEMS.get(platform.lower(), platform), release.split(".")[2:3]
    if system == "Windows" and release.startswith("10.") and build and build[0].isascii() and build[0].isdigit():
        return "Windows 11" if int(build[0][:8]) >= _NEW_WINDOWS else "Windows 10"
    return os_of(system, release)


FORMAT = Format(
    id="ctrf",
    title="CTRF JSON",
    made_by="a reporter of https://ctrf.io for your test runner: pytest --ctrf report.json",
    example="""{"reportFormat": "CTRF", "specVersion": "1.0.0", "results": {
  "tool": {"name": "jest"},
  "summary": {"tests": 1, "passed": 1, "failed": 0, "skipped": 0, "pending": 0, "other": 0, "start": 0, "stop": 0},
  "tests": [{"name": "reads a number", "status": "passed", "duration": 12, "suite": ["parser"]}]
}}""",
    claims=claims,
    read=read,
)
