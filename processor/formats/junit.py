"""JUnit XML: what nearly every test runner can write. Nobody owns it; each tool writes its own dialect.

Closest to a definition: <https://github.com/windyroad/JUnit-Schema> (Ant), and with retries
<https://maven.apache.org/surefire/maven-surefire-plugin/xsd/surefire-test-report.xsd>. The root may be `testsuites`,
`testsuite` or `testcase`; suites nest. A file is one run; its test cases become rows of `tests`.

| element or attribute | becomes | notes |
|---|---|---|
| testsuites@name, else the only top suite's | title | |
| timestamp of testsuites, testsuite | started | the earliest; without an offset it is taken as UTC |
| hostname, properties of suites | machine | as `hostname` and `properties`; different values of one name as a list |
| testsuite@name, testcase@classname, @name | test | see below; without a class name, testcase@file |
| testcase@time | duration_seconds | `1,234.5`, `0,5`, `9.9e-05`; NaN, negative and other text is null, flagged |
| failure, error, skipped | status | fail, error, skip; of several the worst; none of them: pass |
| testcase@status, @result | status | may make it worse, never better; an unknown word alone is `unknown`, flagged |
| flakyFailure, flakyError | known_intermittent | passed in the end: status pass, and fail or error here |
| rerunFailure, rerunError | message | attempts of a test that failed in the end; alone they are a failure |
| type, message, text of all these | message | `type: message`, then the whole text; nothing is said twice |
| failure, error in a suite | a row | named like the suite |
| tests, failures, errors, skipped, disabled | | flagged where they disagree with the test cases; the test cases count |

**Identity.** `suite > class#name`, as Java names a method. Left out are: the name of `testsuites`; default names that
say nothing (`pytest`); the time that some runners append to a suite's name; a suite that the class name begins with,
as it mostly is. In suites and class, `#` is written `%23`, ` > ` is ` %3E ` (and `%` before 23, 25 or 3E `%25`); a name
with a `#` and nothing in front of it gets one in front. So ids never meet by how they are written. Repeated test cases
(retries, parameters that the name hides) are all kept, as rows of their own.

**Refused** is the file: one that is not well-formed, with a document type (so there are no entities, nor files or
addresses to read), or nested deeper than 100 levels. Output (`system-out`, `system-err`), `line`, `assertions` and
properties of test cases stay in the blob.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import parsedate_to_datetime

from lxml import etree

from processor.decode import Buffer, rejected
from processor.formats import Format
from processor.instants import instant_of_number, parse_instant
from processor.shape import Shape
from processor.tables import RunFacts, RunRows, Tables

_ROOTS = ("testsuites", "testsuite", "testcase")
_MAX_DEPTH = 100
_PIECE = 1 << 16

_OUTCOMES = {"failure": "fail", "error": "error", "skipped": "skip", "skip": "skip", "ignored": "skip"}
_RERUNS = {"rerunFailure": "fail", "rerunError": "error"}
_FLAKES = {"flakyFailure": "fail", "flakyError": "error"}
_OUTPUT = ("system-out", "system-err")
_SILENT = {
    *_OUTPUT,
    *_RERUNS,
    *_FLAKES,
    "properties",
    "property",
    "passed",
    "success",
    "output",
    "metadata",
    "tags",
    "",
}
_SILENT |= {"attachments", "attachment", "annotations", "traits", "categories", "description", "steps"}
_WORDS = {
    **dict.fromkeys(("pass", "passed", "ok", "success", "successful", "succeeded", "run", "completed"), "pass"),
    **dict.fromkeys(("skip", "skipped", "disabled", "ignored", "suppressed", "notrun", "pending"), "skip"),
    **dict.fromkeys(("fail", "failed", "failure"), "fail"),
    **dict.fromkeys(("error", "errored", "broken"), "error"),
}
_BADNESS = ("pass", "skip", "fail", "error")

_DEFAULT_NAMES = {"", "pytest", "nosetests", "nose2-junit", "Root Suite"}
_APPENDED_TIME = re.compile(r"-[0-9]{14}$")  # unittest-xml-reporting
_NUMBER = re.compile(r"[+-]?[0-9][0-9.,]*(?:[eE][+-]?[0-9]+)?|[+-]?\.[0-9]+(?:[eE][+-]?[0-9]+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]*)?")
_ZONE_NAME = re.compile(r"\s*(?:GMT|UTC)(?=[+-])")


@dataclass
class _Finding:
    """A failure, error or the like: one child of a test case."""

    kind: str
    message: str
    type: str
    text: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = "".join(self.text).strip()
        lines = [self.message, text] if self.message and self.message not in text else [text]
        if self.type and not any(self.type in line for line in lines):
            lines[0] = f"{self.type}: {lines[0]}" if lines[0] else self.type
        return "\n".join(line for line in lines if line)


@dataclass
class _Case:
    where: str
    depth: int
    attributes: Mapping[str, str]
    findings: list[_Finding] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    of_suite: bool = False


@dataclass
class _Suite:
    """A testsuite or testsuites element; `cases` and `findings` count what lies in it by status, nested suites too."""

    where: str
    name: str
    attributes: Mapping[str, str]
    children: dict[str, int] = field(default_factory=dict)
    cases: dict[str, int] = field(default_factory=dict)
    findings: dict[str, int] = field(default_factory=dict)
    own: int = 0


def claims(shape: Shape) -> bool:
    return shape.kind == "xml" and shape.root in _ROOTS


def read(data: Buffer, out: Tables) -> None:
    run = out.run(RunFacts())
    reader = _Reader(run)
    # huge_tree lifts limits that protect nothing here: entities cannot arise and no tree is built.
    parser = etree.XMLParser(target=reader, resolve_entities=False, no_network=True, load_dtd=False, huge_tree=True)
    try:
        for at in range(0, len(data), _PIECE):
            parser.feed(bytes(data[at : at + _PIECE]))
        parser.close()
    except etree.XMLSyntaxError as error:
        line, column = error.position
        found = str(error.msg).removesuffix(f", line {line}, column {column}")
        raise rejected(f"line {line}, column {column}", "well-formed XML", found) from error
    run.facts = reader.facts()


class _Reader:
    """Receives the parser's events and writes rows as test cases end; nothing of the document is kept."""

    def __init__(self, run: RunRows) -> None:
        self._run = run
        self._depth = 0
        self._namespace = ""
        self._suites: list[_Suite] = []
        self._cases: list[_Case] = []
        self._finding: _Finding | None = None
        self._finding_depth = 0
        self._output_depth = 0
        self._title = ""
        self._top_suites: list[str] = []
        self._started: list[datetime] = []
        self._hostnames: dict[str, None] = {}
        self._properties: dict[str, dict[str, None]] = {}

    def facts(self) -> RunFacts:
        properties = {name: _one_or_list(values) for name, values in self._properties.items()}
        extra = {"hostname": _one_or_list(self._hostnames), "properties": properties}
        only = self._top_suites[0] if len(self._top_suites) == 1 else ""
        return replace(
            self._run.facts,
            title=self._title or only,
            started=min(self._started, default=None),
            machine_extra={name: value for name, value in extra.items() if value},
        )

    # --- events ---

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        found = " ".join(part for part in ("<!DOCTYPE", name, system and repr(system)) if part)
        raise rejected("/", "XML without a document type", found[:200])

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        tag = self._local(tag)
        self._depth += 1
        if self._depth == 1 and tag not in _ROOTS:
            raise rejected(f"/{tag[:80]}", "a root element " + ", ".join(_ROOTS), f"<{tag[:80]}>")
        if self._depth > _MAX_DEPTH:
            raise rejected(self._where(), f"at most {_MAX_DEPTH} nested elements", "more")
        if self._finding:
            if tag in _OUTPUT and not self._output_depth:
                self._output_depth = self._depth
        elif tag == "testcase":
            self._cases.append(_Case(self._child(tag), self._depth, dict(attributes)))
        elif self._cases:
            self._start_in_case(self._cases[-1], tag, attributes)
        elif tag in ("testsuite", "testsuites"):
            self._start_suite(tag, dict(attributes))
        elif tag in ("failure", "error") and self._suites:
            self._cases.append(_Case(f"{self._where()}/{tag}", self._depth, {}, of_suite=True))
            self._start_in_case(self._cases[-1], tag, attributes)
        elif tag == "property" and "name" in attributes:
            self._properties.setdefault(attributes["name"], {})[attributes.get("value", "")] = None

    def end(self, tag: str) -> None:
        tag = self._local(tag)
        if self._finding:
            if self._depth == self._output_depth:
                self._output_depth = 0
            elif self._depth == self._finding_depth:
                self._finding = None
                if self._cases[-1].of_suite:
                    self._end_case(self._cases.pop())
        elif tag == "testcase" and self._cases:
            self._end_case(self._cases.pop())
        elif tag in ("testsuite", "testsuites") and not self._cases:
            self._end_suite(self._suites.pop())
        self._depth -= 1

    def data(self, text: str) -> None:
        if self._finding and not self._output_depth:
            self._finding.text.append(text)

    def close(self) -> None:
        """Part of the parser's protocol."""

    # --- what they mean ---

    def _local(self, tag: str) -> str:
        """The tag in the root's namespace (mostly none); empty for an extension's element."""
        namespace, _, local = tag.rpartition("}")
        if self._depth == 0:
            self._namespace = namespace
        return local if namespace == self._namespace else ""

    def _where(self) -> str:
        return self._suites[-1].where if self._suites else ""

    def _child(self, tag: str) -> str:
        if not self._suites:
            return f"/{tag}"
        children = self._suites[-1].children
        children[tag] = children.get(tag, 0) + 1
        return f"{self._where()}/{tag}[{children[tag]}]"

    def _start_suite(self, tag: str, attributes: dict[str, str]) -> None:
        where, name = self._child(tag), attributes.get("name", "")
        if tag == "testsuites":
            self._title = self._title or name
            name = ""
        elif not any(suite.where.rpartition("/")[2].startswith("testsuite[") for suite in self._suites):
            self._top_suites.append(name)
        self._suites.append(_Suite(where, name, attributes))
        if hostname := attributes.get("hostname"):
            self._hostnames[hostname] = None
        if text := attributes.get("timestamp", "").strip():
            instant = parse_timestamp(text)
            if instant:
                self._started.append(instant)
            else:
                self._run.flag(f"{where}/@timestamp", "a date and time", repr(text)[:80])

    def _start_in_case(self, case: _Case, tag: str, attributes: Mapping[str, str]) -> None:
        if tag in _OUTCOMES or tag in _RERUNS or tag in _FLAKES:
            self._finding = _Finding(tag, attributes.get("message", ""), attributes.get("type", ""))
            self._finding_depth = self._depth
            case.findings.append(self._finding)
        elif tag not in _SILENT and self._depth == case.depth + 1:
            case.unknown.append(tag)

    def _end_case(self, case: _Case) -> None:
        attributes = case.attributes
        status, word = _status(case)
        if status == "unknown":
            known = "failure, error, skipped or a status such as passed, failed, skipped, error"
            self._run.flag(case.where, known, repr(word)[:80])
        name = attributes.get("name", "")
        if not name and not case.of_suite:
            self._run.flag(f"{case.where}/@name", "a name", "nothing")
        flakes = {_FLAKES[finding.kind] for finding in case.findings if finding.kind in _FLAKES}
        class_name = attributes.get("classname") or attributes.get("class") or attributes.get("file", "")
        self._run.test(
            where=case.where,
            test=test_name([suite.name for suite in self._suites], class_name, name),
            status=status,
            status_text=word,
            known_intermittent=sorted(flakes) if status == "pass" else None,
            duration_seconds=self._duration(case),
            message="\n\n".join(text for text in map(str, case.findings) if text) or None,
        )
        if self._suites and not case.of_suite:
            suite = self._suites[-1]
            suite.own += 1
            _add(suite.cases, {status: 1})
            for finding in case.findings:
                _add(suite.findings, {_OUTCOMES.get(finding.kind, ""): 1})

    def _end_suite(self, suite: _Suite) -> None:
        if self._suites:
            _add(self._suites[-1].cases, suite.cases)
            _add(self._suites[-1].findings, suite.findings)
        total = sum(suite.cases.values())
        skipped = _declared(suite, "skipped", "skips", "skip", "ignored")
        disabled = _declared(suite, "disabled")
        for name, declared, counted in (
            ("tests", {_declared(suite, "tests")}, {total, suite.own or total}),
            ("failures", {_declared(suite, "failures")}, _counts(suite, "fail")),
            ("errors", {_declared(suite, "errors")}, _counts(suite, "error")),
            ("skipped", {skipped, (skipped or 0) + (disabled or 0) if disabled else None}, _counts(suite, "skip")),
        ):
            said = declared - {None}
            if said and not said & counted:
                found = " or ".join(str(number) for number in sorted(counted))
                self._run.flag(
                    f"{suite.where}/@{name}", str(min(number for number in said if number is not None)), found
                )

    def _duration(self, case: _Case) -> float | None:
        text = case.attributes.get("time", "").strip()
        seconds = parse_seconds(text)
        if text and seconds is None:
            self._run.flag(f"{case.where}/@time", "seconds", repr(text)[:80])
        return seconds


# --- decisions ---


def test_name(suites: Sequence[str], class_name: str, name: str) -> str:
    """The identity of a test case; see the module's docstring."""
    parts = [_APPENDED_TIME.sub("", suite) for suite in suites]
    dotted = class_name.replace("\\", ".")
    parts = [part for part in parts if part not in _DEFAULT_NAMES and not _begins(dotted, part.replace("\\", "."))]
    if class_name:
        parts.append(class_name)
    left = " > ".join(
        re.sub("%(?=23|25|3E)", "%25", part).replace("#", "%23").replace(" > ", " %3E ") for part in parts
    )
    if not name and left:
        return left
    return f"{left}#{name}" if left or "#" in name else name


def parse_seconds(text: str) -> float | None:
    """Seconds as tools of many countries write them; None where that is no time."""
    if not _NUMBER.fullmatch(text):
        return None
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    elif text.rfind(",") > text.rfind("."):
        text = text.replace(".", "").replace(",", ".")
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def parse_timestamp(text: str) -> datetime | None:
    """A timestamp in UTC: ISO 8601, a number since 1970, or as in mails and C; None where it is none of these."""
    if len(text) > 100:
        return None
    if instant := parse_instant(_ZONE_NAME.sub("", text)):
        return instant
    if _NUMBER.fullmatch(text):
        seconds = parse_seconds(text)
        return None if seconds is None else instant_of_number(seconds)
    try:
        return parse_instant(parsedate_to_datetime(text).isoformat())
    except (ValueError, OverflowError):
        return None


def _status(case: _Case) -> tuple[str, str | None]:
    """(status, the sender's word where it is unknown)."""
    found = [_OUTCOMES.get(finding.kind) or _RERUNS.get(finding.kind) for finding in case.findings]
    statuses = [status for status in found if status]
    words = [word for name in ("status", "result") if (word := case.attributes.get(name, "").strip())]
    known = [_WORDS[word.lower()] for word in words if word.lower() in _WORDS]
    strange = [word for word in words if word.lower() not in _WORDS] + case.unknown
    if strange and not statuses and set(known) <= {"pass"}:
        return "unknown", strange[0]
    return max([*statuses, *known], key=_BADNESS.index, default="pass"), None


def _begins(class_name: str, suite: str) -> bool:
    return class_name == suite or (class_name.startswith(suite) and class_name[len(suite)] in ".:/$ ")


def _counts(suite: _Suite, status: str) -> set[int]:
    """How many test cases have a status; some tools count every failure of one test case instead."""
    return {suite.cases.get(status, 0), suite.findings.get(status, 0)}


def _declared(suite: _Suite, *names: str) -> int | None:
    for name in names:
        text = suite.attributes.get(name, "").strip()
        if text.isascii() and text.isdecimal() and len(text) < 19:
            return int(text)
    return None


def _add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for key, number in more.items():
        counts[key] = counts.get(key, 0) + number


def _one_or_list(values: Iterable[str]) -> str | list[str]:
    listed = list(values)
    return listed if len(listed) > 1 else "".join(listed)


FORMAT = Format(
    id="junit",
    title="JUnit XML",
    made_by="pytest --junit-xml=FILE, and most test runners",
    example='<testsuite name="unit"><testcase classname="test_parse" name="test_empty" time="0.25"/></testsuite>',
    claims=claims,
    read=read,
)
