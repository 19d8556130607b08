"""Tests as files of other tools: JUnit XML and CTRF. Pure.

A test's name is taken apart where Runfeed has put it together (`suite > class#name`), so a file of either format that
is sent to Runfeed again names its tests as before. A subtest becomes a test case of its own, in the suite or class that
is its test.

| of a test | JUnit XML | CTRF |
|---|---|---|
| test, subtest | testsuite@name, testcase@classname, @name | suite, name |
| pass, ok | nothing | passed |
| skip | skipped | skipped |
| notrun; precondition_failed | skipped, type says which | pending; skipped, rawStatus says which |
| fail; assert | failure; type says which | failed; rawStatus says which |
| error; timeout, crash | error; type says which | failed, rawStatus says which |
| unknown | error, type `unknown`: never a pass | other, rawStatus has the sender's word |
| duration_seconds | testcase@time | duration in whole milliseconds, the exact one in extra; unknown is 0 |
| message | text, its first line also message | message |
| known_intermittent of a test that passed | flakyFailure, flakyError | flaky |
| expected, other known_intermittent | properties | extra |
| extra | properties | extra; of a run that came as CTRF, the test's own fields |
| the run's facts, and how complete it is | properties of the first suite | environment, results.extra |
| measurements | left out, and said so | left out, and said so |

Characters that XML cannot hold are written as `\\x1b`. Sources: https://github.com/windyroad/JUnit-Schema, with the
flaky elements of Maven Surefire; https://github.com/ctrf-io/ctrf, `schema/`, version 1.0.0.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from dashboard_api.export_source import Source, decoded, encoded, joined
from dashboard_api.resources import Run, Test

_CASES_OF_A_SUITE = 2_000
"""Held in memory to count them; a larger suite is written as several of one name."""

_NOTHING = "Root Suite"  # a suite's name that says nothing, as mocha writes it
_ELEMENTS = {
    **dict.fromkeys(("skip", "notrun", "precondition_failed"), "skipped"),
    **dict.fromkeys(("fail", "assert"), "failure"),
    **dict.fromkeys(("error", "timeout", "crash", "unknown"), "error"),
}
_PLAIN = ("skip", "fail", "error")
"""Statuses that their element says whole."""

_FLAKES = {"fail": "flakyFailure", "error": "flakyError"}
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CTRF_STATUS = {
    **dict.fromkeys(("pass", "ok"), "passed"),
    **dict.fromkeys(("fail", "assert", "error", "timeout", "crash"), "failed"),
    **dict.fromkeys(("skip", "precondition_failed"), "skipped"),
    "notrun": "pending",
    "unknown": "other",
}
_SAID_WHOLE = ("pass", "fail", "skip", "notrun")
_CTRF_FIELDS = {
    *("filePath", "start", "stop", "snippet", "line", "rawStatus", "tags", "labels", "type", "retries", "threadId"),
    *("browser", "device", "attachments", "parameters", "steps", "retryAttempts"),
}


def place(test: Test) -> tuple[list[str], str, str]:
    """(suites, class, name): `class` is empty where the test's name is whole."""
    left, mark, name = test.test.partition("#")
    parts = [_unescaped(part) for part in left.split(" > ")] if mark and left else []
    if not parts and not (mark and "#" in name):  # a name without suite or class
        name = test.test
    if test.subtest is not None:
        parts, name = [*parts, name], test.subtest
    return parts[:-1], parts[-1] if parts else "", name


def _unescaped(part: str) -> str:
    """What `#` and ` > ` within a suite or class are written as, taken back."""
    part = part.replace("%23", "#").replace(" %3E ", " > ")
    return re.sub("%25(?=23|25|3E)", "%", part)


# --- JUnit XML ---


def write_junit(source: Source) -> Iterator[bytes]:
    source_note(source)
    run, counts = source.run, source.statuses
    totals = {name: sum(counts.get(one, 0) for one in _statuses_of(name)) for name in ("failure", "error", "skipped")}
    attributes = {
        "name": run.title or run.format,
        "tests": str(sum(counts.values())),
        "failures": str(totals["failure"]),
        "errors": str(totals["error"]),
        "skipped": str(totals["skipped"]),
        "timestamp": _timestamp(run.started),
        "time": _seconds((run.finished - run.started).total_seconds()) if run.started and run.finished else "",
    }
    yield f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites{_attributes(attributes)}>\n'.encode()
    properties = _properties(_facts(source))
    for suites, cases in _suites(source.rows()):
        yield _suite(suites, cases, properties).encode()
        properties = ""
    yield b"</testsuites>\n"


def _statuses_of(element: str) -> list[str]:
    return [status for status, name in _ELEMENTS.items() if name == element]


def _suites(tests: Iterable[Test]) -> Iterator[tuple[list[str], list[tuple[str, str, Test]]]]:
    """Tests that follow each other in the same suite, together."""
    suites: list[str] = []
    cases: list[tuple[str, str, Test]] = []
    for test in tests:
        found, class_name, name = place(test)
        if cases and (found != suites or len(cases) >= _CASES_OF_A_SUITE):
            yield suites, cases
            cases = []
        suites = found
        cases.append((class_name, name, test))
    if cases:
        yield suites, cases


def _suite(suites: list[str], cases: list[tuple[str, str, Test]], properties: str) -> str:
    elements = [_ELEMENTS.get(test.status) for _, _, test in cases]
    counts = {"tests": len(cases), "failures": elements.count("failure"), "errors": elements.count("error")}
    counts["skipped"] = elements.count("skipped")
    told = {name: str(count) for name, count in counts.items()}
    names = suites or [_NOTHING]
    opening = "".join(f"<testsuite{_attributes({'name': name, **told})}>\n" for name in names)
    return opening + properties + "".join(_case(*case) for case in cases) + "</testsuite>\n" * len(names)


def _case(class_name: str, name: str, test: Test) -> str:
    time = "" if test.duration_seconds is None else _seconds(test.duration_seconds)
    attributes = _attributes({"classname": class_name, "time": time})
    said = {name: _text(value) for name, value in decoded(test.extra).items()}
    if test.expected:
        said["expected"] = test.expected
    flakes = [_FLAKES.get(one) if test.status in ("pass", "ok") else None for one in test.known_intermittent or ()]
    if test.known_intermittent and None in flakes:
        said["known_intermittent"] = ", ".join(test.known_intermittent)
    inner = _properties(said) + "".join(f"<{flake}/>" for flake in flakes if flake) + _outcome(test)
    opening = f"<testcase name={_quoted(name)}{attributes}"
    return f"{opening}>{inner}</testcase>\n" if inner else f"{opening}/>\n"


def _outcome(test: Test) -> str:
    element = _ELEMENTS.get(test.status)
    text = test.message or test.status_text or ""
    if element is None:
        return ""
    attributes = {"message": text.strip().partition("\n")[0][:500]}
    if test.status not in _PLAIN:
        attributes["type"] = test.status
    return (
        f"<{element}{_attributes(attributes)}>{_escaped(text)}</{element}>"
        if text
        else (f"<{element}{_attributes(attributes)}/>")
    )


def _facts(source: Source) -> dict[str, str]:
    run = source.run
    told = {
        "run": run.run,
        "project": run.project,
        "commit": run.commit,
        "branch": run.branch,
        "environment": run.environment_title,
        "completeness": source.parts,
        "left_out": str(source.left_out),
    }
    return {name: value for name, value in told.items() if value}


def _properties(values: dict[str, str]) -> str:
    if not values:
        return ""
    inner = "".join(f"<property name={_quoted(name)} value={_quoted(value)}/>" for name, value in values.items())
    return f"<properties>{inner}</properties>\n"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else encoded(value).decode()


def _attributes(values: dict[str, str]) -> str:
    return "".join(f" {name}={_quoted(value)}" for name, value in values.items() if value)


def _quoted(text: str) -> str:
    return quoteattr(_legal(text))


def _escaped(text: str) -> str:
    return escape(_legal(text), {"\r": "&#13;"})


def _legal(text: str) -> str:
    """`text` without the characters that XML cannot hold, not even escaped."""
    return _ILLEGAL.sub(
        lambda match: f"\\x{ord(match[0]):02x}" if match[0] < "\x7f" else f"\\u{ord(match[0]):04x}", text
    )


def _seconds(value: float) -> str:
    """Without an exponent, which some readers do not know, and exactly."""
    return format(Decimal(repr(value)), "f")


def _timestamp(time: datetime | None) -> str:
    return "" if time is None else time.isoformat().replace("+00:00", "Z")


# --- CTRF ---


def write_ctrf(source: Source) -> Iterator[bytes]:
    source_note(source)
    run, counts = source.run, source.statuses
    by_status = dict.fromkeys(("passed", "failed", "skipped", "pending", "other"), 0)
    for status, count in counts.items():
        by_status[_CTRF_STATUS[status]] += count
    tool, _, version = run.labels.get("tool", "").partition(" ")
    head = {
        "reportFormat": "CTRF",
        "specVersion": "1.0.0",
        "runId": run.run,
        "generatedBy": "Runfeed",
        "results": {
            "tool": {"name": tool or run.format or "unknown", **({"version": version} if version else {})},
            "summary": {
                "tests": sum(counts.values()),
                **by_status,
                "start": _milliseconds(run.started),
                "stop": _milliseconds(run.finished or run.started),
            },
            "environment": _environment(run),
            "extra": {
                name: value for name, value in _facts(source).items() if name not in ("commit", "branch", "environment")
            },
        },
    }
    return joined(
        encoded(head)[:-2] + b',"tests":[\n', (encoded(_ctrf_test(run, row)) for row in source.rows()), b"\n]}}\n"
    )


def _environment(run: Run) -> dict[str, Any]:
    told = {
        "appName": run.title,
        "commit": run.commit,
        "branchName": run.branch,
        "osVersion": run.os,
        "testEnvironment": run.environment_title,
        "extra": run.labels,
    }
    return {name: value for name, value in told.items() if value}


def _ctrf_test(run: Run, test: Test) -> dict[str, Any]:
    suites, class_name, name = place(test)
    extra = decoded(test.extra)
    own = {key: extra.pop(key) for key in _CTRF_FIELDS & extra.keys()} if run.format == "ctrf" else {}
    if not class_name and "filePath" in own:  # beside a name without suite it would become a part of the test's id
        extra["filePath"] = own.pop("filePath")
    if run.format == "ctrf" and isinstance(nested := extra.pop("extra", {}), dict):
        extra = nested | extra
    milliseconds = round(test.duration_seconds * 1000) if test.duration_seconds is not None else 0
    if test.duration_seconds is not None and milliseconds / 1000 != test.duration_seconds:
        extra["duration_seconds"] = test.duration_seconds
    if test.expected:
        extra["expected"] = test.expected
    flaky = bool(test.known_intermittent) and test.status in ("pass", "ok")
    if test.known_intermittent and (not flaky or test.known_intermittent != ["fail"]):
        extra["known_intermittent"] = test.known_intermittent
    raw = test.status_text or test.status
    more = {
        "suite": [*suites, class_name] if class_name else [],
        "message": test.message,
        "rawStatus": "" if test.status in _SAID_WHOLE else raw,
        "flaky": flaky,
        **own,
        "extra": extra,
    }
    return {
        "name": name,
        "status": _CTRF_STATUS[test.status],
        "duration": milliseconds,
        **{key: value for key, value in more.items() if value not in (None, "", [], {}, False)},
    }


def _milliseconds(time: datetime | None) -> int:
    """Since 1970; 0 where nobody knows, as the format wants a number."""
    return 0 if time is None else round(time.timestamp() * 1000)


def source_note(source: Source) -> None:
    """Say what of the run no format of tests has a place for."""
    if source.run.measurements:
        source.left_out.add("measurements", count=source.run.measurements)
