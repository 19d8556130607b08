"""JUnit XML: what nearly every test runner can write. Nobody owns it; each tool writes its own dialect.

Closest to a definition: <https://github.com/windyroad/JUnit-Schema> (Ant), and with retries
<https://maven.apache.org/surefire/maven-surefire-plugin/xsd/surefire-test-report.xsd>. The root may be `testsuites`,
`testsuite` or `testcase`; suites nest. A file is one run; its test cases become rows of `tests`.

| element or attribute | becomes | notes |
|---|---|---|
| testsuites@name, else the only top suite's | title | |
| timestamp of testsuites, testsuite | started | the earliest; without an offset it is taken as UTC |
| time of the root, or of the only top suite | finished | started and so many seconds |
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
| other attributes of testcase (file, line, …), file of the suite | extra | under their names |
| properties of testcase | extra | as `properties` |
| other attributes of failure, error and the like | extra | as `failure/@line` |
| system-out, system-err in a testcase that did not pass | extra | the end of each, at most 4,096 characters |

**Identity.** `suite > class#name`, as Java names a method. Left out are: the name of `testsuites`; default names that
say nothing (`pytest`); the time that some runners append to a suite's name; a suite that the class name begins with,
as it mostly is. In suites and class, `#` is written `%23`, ` > ` is ` %3E ` (and `%` before 23, 25 or 3E `%25`); a name
with a `#` and nothing in front of it gets one in front. So ids never meet by how they are written. Repeated test cases
(retries, parameters that the name hides) are all kept, as rows of their own.

**Not kept** is what the loss report counts, by name and place (`testsuite/system-out`, `testcase/attachments`):
output of tests that passed and of suites, other attributes of suites, elements of no known meaning. So is what is cut:
the beginning of long output, and attributes and properties beyond 4,096 characters of a test case. What by its name is
a person or a secret (`user.name`, `owner`, `token`) is counted and never kept. Elements with nothing in them are no
loss, nor are addresses of XML Schemas.

**Refused** is the file: one that is not well-formed, with a document type (so there are no entities, nor files or
addresses to read), or nested deeper than 100 levels.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

from lxml import etree

from processor.formats import Format
from processor.reading.decode import Buffer, rejected
from processor.reading.instants import instant_of_number, parse_instant
from processor.reading.shape import Shape
from processor.tables import RunFacts, RunRows, Tables, canonical_json
from schemas.errors import Rejected
from schemas.records import Problem

_ROOTS = ("testsuites", "testsuite", "testcase")
_MAX_DEPTH = 100
_PIECE = 1 << 16
_ROWS_AT_ONCE = 2_000

_OUTCOMES = {"failure": "fail", "error": "error", "skipped": "skip", "skip": "skip", "ignored": "skip"}
_RERUNS = {"rerunFailure": "fail", "rerunError": "error"}
_FLAKES = {"flakyFailure": "fail", "flakyError": "error"}
_FINDINGS = {*_OUTCOMES, *_RERUNS, *_FLAKES}
_OUTPUT = ("system-out", "system-err")
_SILENT = {"properties", "property", "passed", "success", "output", "metadata", "tags", "attachments", "attachment"}
_SILENT |= {"annotations", "traits", "categories", "description", "steps"}
"""Elements that say nothing of a test case's status."""

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

_READ_OF_SUITE = {"name", "tests", "failures", "errors", "skipped", "skips", "skip", "ignored", "disabled"}
_READ_OF_SUITE |= {"timestamp", "hostname", "time", "file"}
_SCHEMA = "{http://www.w3.org/2001/XMLSchema-instance}"
_PRIVATE = re.compile(
    r"user[._-]?(?:name|home|dir)|author|owner|assignee|e-?mail|login|token(?!i[sz])|secret|passw|passphrase"
    r"|credential|(?:api|access|private)[._-]?key",
    re.IGNORECASE,
)
_MOST_OUTPUT = 4096
"""Characters of each output of a test case; and as many of its attributes and properties together."""

_MOST_CLASSES = 10_000
"""Class names whose part of the identity is remembered."""

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_MISMATCH = re.compile(r"tag mismatch: (\S{1,200}) line (\d+) and (\S{1,200})")
_PREMATURE = re.compile(r"end of data in tag (\S{1,200}) line (\d+)")
_EXPECTED = {
    etree.ErrorTypes.ERR_LT_IN_ATTRIBUTE: "well-formed XML: in an attribute < is written &lt;",
    etree.ErrorTypes.ERR_RESERVED_XML_NAME: "well-formed XML: its declaration at the very beginning, or none",
    etree.ErrorTypes.ERR_DOCUMENT_END: "well-formed XML: one root element and nothing after it",
}


@dataclass(slots=True)
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


@dataclass(slots=True)
class _Suite:
    """A testsuite or testsuites element; `cases` and `findings` count what lies in it by status, nested suites too."""

    tag: str
    where: str
    name: str
    attributes: Mapping[str, str]
    file: str
    """Its own, or that of the suite around it."""
    children: dict[str, int] = field(default_factory=dict)
    cases: dict[str, int] = field(default_factory=dict)
    findings: dict[str, int] = field(default_factory=dict)
    own: int = 0
    text: None = None
    said: bool = False


@dataclass(slots=True)
class _Case:
    """A test case; or a suite's own failure, which gives a row of the same kind."""

    suite: _Suite | None
    tag: str
    number: int
    """Which of its suite's test cases, from 1."""
    depth: int
    attributes: dict[str, str]
    findings: list[_Finding] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    beside: dict[str, list[str]] | None = None
    """Attributes of the findings."""
    properties: dict[str, list[str]] | None = None
    output: "dict[str, _Output] | None" = None
    room: int = 4096
    """How many characters of attributes and properties may still be kept."""
    text: None = None
    said: bool = False

    @property
    def of_suite(self) -> bool:
        return self.tag != "testcase"

    @property
    def where(self) -> str:
        if self.suite is None:
            return f"/{self.tag}"
        return f"{self.suite.where}/{self.tag}" + ("" if self.of_suite else f"[{self.number}]")


@dataclass(slots=True)
class _Properties:
    """A `properties` element, which only holds others."""

    text: None = None
    said: bool = False


@dataclass(slots=True)
class _Property:
    name: str
    value: str | None
    text: list[str] = field(default_factory=list)


class _Output:
    """The end of what a test printed; `cut` if that was more."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._held = 0
        self.cut = False

    @property
    def text(self) -> "_Output":
        return self

    def append(self, piece: str) -> None:
        self._pieces.append(piece)
        self._held += len(piece)
        if self._held > 16 * _MOST_OUTPUT:
            text = "".join(self._pieces)
            self.cut = self.cut or not text[: -2 * _MOST_OUTPUT].isspace()
            self._pieces, self._held = [text[-2 * _MOST_OUTPUT :]], 2 * _MOST_OUTPUT

    def __str__(self) -> str:
        text = "".join(self._pieces).strip()
        self.cut = self.cut or len(text) > _MOST_OUTPUT
        return text[-_MOST_OUTPUT:]


@dataclass(slots=True)
class _Unread:
    """An element that reaches no column: counted once there is something in it."""

    name: str
    out: Tables
    counted: bool = False

    @property
    def text(self) -> "_Unread":
        return self

    def append(self, text: str) -> None:
        if not self.counted and not text.isspace():
            self.count()

    def count(self) -> None:
        if not self.counted:
            self.out.leave_unread(self.name)
            self.counted = True


_Open = _Finding | _Suite | _Case | _Properties | _Property | _Output | _Unread


@dataclass(slots=True)
class _Rows:
    """Rows of `tests`, as columns."""

    test: list[str] = field(default_factory=list)
    status: list[str] = field(default_factory=list)
    status_text: list[str | None] = field(default_factory=list)
    known_intermittent: list[list[str] | None] = field(default_factory=list)
    duration_seconds: list[float | None] = field(default_factory=list)
    message: list[str | None] = field(default_factory=list)
    extra: list[str | None] = field(default_factory=list)


def claims(shape: Shape) -> bool:
    return shape.kind == "xml" and shape.root in _ROOTS


def read(data: Buffer, out: Tables) -> None:
    run = out.run(RunFacts())
    reader = _Reader(run, out)
    # huge_tree lifts limits that protect nothing here: no tree is built, and a document type, which alone could declare
    # an entity, ends the reading. Without "internal", attributes would keep &amp; as a character reference.
    parser = etree.XMLParser(
        target=reader, resolve_entities="internal", no_network=True, load_dtd=False, huge_tree=True
    )
    try:
        for at in range(0, len(data), _PIECE):
            parser.feed(bytes(data[at : at + _PIECE]))
        parser.close()
    except etree.XMLSyntaxError as error:
        raise Rejected([_syntax_problem(error, data)]) from error
    run.facts = reader.finish()


class _Reader:
    """Receives the parser's events and writes rows as test cases end; nothing of the document is kept."""

    def __init__(self, run: RunRows, out: Tables) -> None:
        self._run = run
        self._out = out
        self._namespace = ""
        self._names: dict[str, str] = {}
        """Local names by tag."""
        self._open: list[_Open] = []
        """What each open element is read as; one that is read as a part of its parent is the parent once more."""
        self._text: list[str] | _Output | _Unread | None = None
        """Where text goes: that of the last of `_open`."""
        self._suites: list[_Suite] = []
        self._cases: list[_Case] = []
        self._lefts: dict[str, str] = {}
        """What stands before a test case's name, by its class name, in the suites that are open."""
        self._rows = _Rows()
        self._title = ""
        self._root: _Suite | None = None
        self._top_suites: list[_Suite] = []
        self._times: dict[str, int] = {}
        self._started: list[datetime] = []
        self._hostnames: dict[str, None] = {}
        self._properties: dict[str, dict[str, None]] = {}

    # --- events ---

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        found = " ".join(part for part in ("<!DOCTYPE", name, system and repr(system)) if part)
        raise rejected("/", "XML without a document type", found[:200])

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        around = self._open[-1] if self._open else None
        local = self._names.get(tag)
        if local is None:
            local = self._local(tag)
        if len(self._open) >= _MAX_DEPTH:
            where = self._suites[-1].where if self._suites else "/testcase"
            raise rejected(where, f"at most {_MAX_DEPTH} nested elements", "more")
        opened: _Open
        if isinstance(around, _Finding | _Output | _Property):
            opened = self._output(local) if isinstance(around, _Finding) and local in _OUTPUT else around
        elif local == "testcase":
            opened = self._start_case(dict(attributes))
        elif self._cases:
            opened = self._start_in_case(self._cases[-1], around, local or tag, attributes)
        elif local in ("testsuite", "testsuites"):
            opened = self._start_suite(local, dict(attributes))
        elif around is None:
            raise rejected(f"/{local[:80]}", "a root element " + ", ".join(_ROOTS), f"<{local[:80]}>")
        else:
            opened = self._start_in_suite(around, local or tag, attributes)
        self._open.append(opened)
        self._text = opened.text

    def end(self, tag: str) -> None:
        ended = self._open.pop()
        around = self._open[-1] if self._open else None
        self._text = around.text if around else None
        if ended is around:
            return
        if isinstance(ended, _Case):
            self._end_case(self._cases.pop())
        elif isinstance(ended, _Finding):
            if self._cases[-1].of_suite:
                self._end_case(self._cases.pop())
        elif isinstance(ended, _Suite):
            self._end_suite(self._suites.pop())
        elif isinstance(ended, _Property):
            self._end_property(ended)

    def data(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)
        elif not text.isspace():
            around = self._open[-1]
            if isinstance(around, _Suite | _Case | _Properties) and not around.said:
                around.said = True
                self._out.leave_unread("text between elements")

    def close(self) -> None:
        """Part of the parser's protocol."""

    def finish(self) -> RunFacts:
        """After the last event: the rows that are left, and the facts of the run."""
        self._write_rows()
        extra = {
            "hostname": _one_or_list(self._hostnames),
            "properties": {name: _one_or_list(values) for name, values in self._properties.items()},
        }
        only = self._top_suites[0] if len(self._top_suites) == 1 else None
        started = min(self._started, default=None)
        finished, timed = (
            None,
            next((suite for suite in (self._root, only) if suite and suite.attributes.get("time")), None),
        )
        if started and timed and (finished := _later(started, timed.attributes["time"])):
            self._times[timed.tag] -= 1
        for tag, count in self._times.items():
            if count:
                self._out.leave_unread(f"{tag}/@time", count)
        return replace(
            self._run.facts,
            title=self._title or (only.name if only else ""),
            started=started,
            finished=finished,
            machine_extra={name: value for name, value in extra.items() if value},
        )

    # --- elements that begin ---

    def _local(self, tag: str) -> str:
        """The tag in the root's namespace (mostly none); empty for an extension's element."""
        namespace, _, local = tag.rpartition("}")
        if not self._open:
            self._namespace = namespace
        self._names[tag] = local = local if namespace == self._namespace else ""
        return local

    def _start_case(self, attributes: dict[str, str]) -> _Case:
        suite, number = None, 1
        if self._suites:
            suite = self._suites[-1]
            suite.children["testcase"] = number = suite.children.get("testcase", 0) + 1
        case = _Case(suite, "testcase", number, len(self._open) + 1, attributes)
        self._cases.append(case)
        return case

    def _start_suite(self, tag: str, attributes: dict[str, str]) -> _Suite:
        around = self._suites[-1] if self._suites else None
        where, name = f"/{tag}", attributes.get("name", "")
        if around:
            around.children[tag] = number = around.children.get(tag, 0) + 1
            where = f"{around.where}/{tag}[{number}]"
        if tag == "testsuites":
            self._title = self._title or name
            name = ""
        suite = _Suite(tag, where, name, attributes, attributes.get("file") or (around.file if around else ""))
        if around is None:
            self._root = suite
        if tag == "testsuite" and not any(one.tag == tag and one is not self._root for one in self._suites):
            self._top_suites.append(suite)
        self._suites.append(suite)
        self._lefts = {}
        self._read_suite_attributes(suite)
        return suite

    def _read_suite_attributes(self, suite: _Suite) -> None:
        attributes = suite.attributes
        if hostname := attributes.get("hostname"):
            self._hostnames[hostname] = None
        if text := attributes.get("timestamp", "").strip():
            instant = parse_timestamp(text)
            if instant:
                self._started.append(instant)
            else:
                self._run.flag(f"{suite.where}/@timestamp", "a date and time", repr(text)[:80])
        if attributes.get("time"):
            self._times[suite.tag] = self._times.get(suite.tag, 0) + 1
        for name, value in attributes.items():
            if name not in _READ_OF_SUITE and value and not name.startswith(_SCHEMA):
                self._out.leave_unread(f"{suite.tag}/@{name}")

    def _start_in_suite(self, around: _Open, tag: str, attributes: Mapping[str, str]) -> _Open:
        if tag in ("failure", "error"):
            self._cases.append(_Case(self._suites[-1], tag, 0, len(self._open) + 1, {}))
            return self._start_finding(self._cases[-1], tag, attributes)
        if tag == "property" and "name" in attributes:
            return self._start_property(attributes)
        return _Properties() if tag == "properties" else self._start_unread(around, f"testsuite/{tag}", attributes)

    def _start_in_case(self, case: _Case, around: _Open | None, tag: str, attributes: Mapping[str, str]) -> _Open:
        if tag in _FINDINGS:
            return self._start_finding(case, tag, attributes)
        if isinstance(around, _Unread):
            return self._start_unread(around, "", attributes)
        if tag == "property" and "name" in attributes:
            return self._start_property(attributes)
        if len(self._open) == case.depth:
            if tag in _OUTPUT:
                return self._output(tag)
            if tag == "properties":
                return _Properties()
            if tag not in _SILENT and tag[0] != "{":
                case.unknown.append(tag)
        return self._start_unread(around, f"testcase/{tag}", attributes)

    def _start_finding(self, case: _Case, tag: str, attributes: Mapping[str, str]) -> _Finding:
        finding = _Finding(tag, attributes.get("message", ""), attributes.get("type", ""))
        case.findings.append(finding)
        for name, value in attributes.items():
            if name not in ("message", "type") and self._fits(case, f"{tag}/@{name}", name, value):
                case.beside = case.beside or {}
                case.beside.setdefault(f"{tag}/@{name}", []).append(value)
        return finding

    def _start_property(self, attributes: Mapping[str, str]) -> _Property:
        for name in attributes:
            if name not in ("name", "value"):
                self._out.leave_unread(f"property/@{name}")
        return _Property(attributes["name"], attributes.get("value"))

    def _start_unread(self, around: _Open | None, name: str, attributes: Mapping[str, str]) -> _Unread:
        if isinstance(around, _Unread):
            around.count()
            return around
        unread = _Unread(name, self._out)
        if any(attributes.values()):
            unread.count()
        return unread

    def _output(self, tag: str) -> _Output:
        """Where the present test case's output goes; several outputs of one name follow each other."""
        case = self._cases[-1]
        case.output = case.output or {}
        output = case.output.setdefault(tag, _Output())
        output.append("\n")
        return output

    # --- elements that end ---

    def _end_property(self, ended: _Property) -> None:
        text = "".join(ended.text).strip()
        value = text if ended.value is None else ended.value
        if ended.value is not None and text:
            self._out.leave_unread("property/text()")
        if not self._cases:
            if _is_private(ended.name):
                self._out.leave_unread(f"property {ended.name}")
            else:
                self._properties.setdefault(ended.name, {})[value] = None
        elif self._fits(self._cases[-1], f"property {ended.name}", ended.name, value):
            case = self._cases[-1]
            case.properties = case.properties or {}
            case.properties.setdefault(ended.name, []).append(value)

    def _end_case(self, case: _Case) -> None:
        attributes = case.attributes
        name, class_name, time = attributes.pop("name", ""), attributes.pop("classname", ""), attributes.pop("time", "")
        if not name and not case.of_suite:
            self._run.flag(f"{case.where}/@name", "a name", "nothing")
        status, word, message = "pass", None, None
        if case.findings or case.unknown or "status" in attributes or "result" in attributes:
            status, word = self._status(case)
            message = "\n\n".join(text for text in map(str, case.findings) if text) or None
        class_name = class_name or attributes.pop("class", "") or attributes.get("file", "")
        left = self._lefts.get(class_name)
        if left is None:
            if len(self._lefts) >= _MOST_CLASSES:
                self._lefts = {}
            self._lefts[class_name] = left = _left([suite.name for suite in self._suites], class_name)
        seconds = None
        if time:
            seconds = parse_seconds(time.strip())
            if seconds is None and time.strip():
                self._run.flag(f"{case.where}/@time", "seconds", repr(time.strip())[:80])
        suite = case.suite
        plain = not attributes and not case.beside and not case.properties and not case.output
        rows = self._rows
        rows.test.append(_named(left, name))
        rows.status.append(status)
        rows.status_text.append(word)
        rows.known_intermittent.append(_flakes(case) if status == "pass" and case.findings else None)
        rows.duration_seconds.append(seconds)
        rows.message.append(message)
        rows.extra.append(None if plain and not (suite and suite.file) else self._extra(case, status))
        if len(rows.test) >= _ROWS_AT_ONCE:
            self._write_rows()
        if suite and not case.of_suite:
            suite.own += 1
            suite.cases[status] = suite.cases.get(status, 0) + 1
            for finding in case.findings:
                _add(suite.findings, {_OUTCOMES.get(finding.kind, ""): 1})

    def _status(self, case: _Case) -> tuple[str, str | None]:
        """Status and the sender's word where it is unknown; words that say no more are taken from the attributes."""
        status, word = _status(case)
        if status == "unknown":
            known = "failure, error, skipped or a status such as passed, failed, skipped, error"
            self._run.flag(case.where, known, repr(word)[:80])
        for name in ("status", "result"):
            text = case.attributes.get(name, "").strip()
            if text == word or not text or text.lower() in _WORDS:
                case.attributes.pop(name, None)
        return status, word

    def _extra(self, case: _Case, status: str) -> str | None:
        """What else is said of a test case, as JSON; what is not kept of it is counted."""
        extra: dict[str, Any] = {}
        if case.suite and case.suite.file:
            extra["file"] = case.suite.file
        for name, value in case.attributes.items():
            if self._fits(case, f"testcase/@{name}", name, value):
                extra[name] = value
        for name, values in (case.beside or {}).items():
            extra[name] = _one_or_list(values)
        if case.properties:
            extra["properties"] = {name: _one_or_list(values) for name, values in case.properties.items()}
        for name, output in (case.output or {}).items():
            text = str(output)
            if status in ("pass", "skip"):
                if text:
                    self._out.leave_unread(f"testcase/{name}")
                continue
            if text:
                extra[name] = text
            if output.cut:
                self._out.leave_unread(f"testcase/{name} (all but the end)")
        return canonical_json(extra) if extra else None

    def _fits(self, case: _Case, place: str, name: str, value: str) -> bool:
        """Whether an attribute or property is to be kept; counted under `place` if not. Empty ones are no loss."""
        if not value or name.startswith(_SCHEMA):
            return False
        size = len(name) + len(value)
        if _is_private(name) or size > case.room:
            self._out.leave_unread(place)
            return False
        case.room -= size
        return True

    def _end_suite(self, suite: _Suite) -> None:
        self._lefts = {}
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

    def _write_rows(self) -> None:
        rows, self._rows = self._rows, _Rows()
        nothing = [None] * len(rows.test)
        self._run.test_rows(
            test=rows.test,
            subtest=nothing,
            status=rows.status,
            status_text=rows.status_text,
            expected=nothing,
            known_intermittent=rows.known_intermittent,
            duration_seconds=rows.duration_seconds,
            message=rows.message,
            extra=rows.extra,
        )


# --- decisions ---


def test_name(suites: Sequence[str], class_name: str, name: str) -> str:
    """The identity of a test case; see the module's docstring."""
    return _named(_left(suites, class_name), name)


def _left(suites: Sequence[str], class_name: str) -> str:
    """What stands before the name."""
    parts = [_APPENDED_TIME.sub("", suite) for suite in suites]
    dotted = class_name.replace("\\", ".")
    parts = [part for part in parts if part not in _DEFAULT_NAMES and not _begins(dotted, part.replace("\\", "."))]
    if class_name:
        parts.append(class_name)
    return " > ".join(
        re.sub("%(?=23|25|3E)", "%25", part).replace("#", "%23").replace(" > ", " %3E ") for part in parts
    )


def _named(left: str, name: str) -> str:
    if not name and left:
        return left
    return f"{left}#{name}" if left or "#" in name else name


def parse_seconds(text: str) -> float | None:
    """Seconds as tools of many countries write them; None where that is no time."""
    if not _NUMBER.fullmatch(text):
        return None
    if "," in text:
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


def _flakes(case: _Case) -> list[str] | None:
    """Statuses of attempts that a test which passed in the end had before."""
    return sorted({_FLAKES[finding.kind] for finding in case.findings if finding.kind in _FLAKES}) or None


def _later(started: datetime, seconds_text: str) -> datetime | None:
    seconds = parse_seconds(seconds_text.strip())
    try:
        return None if seconds is None else started + timedelta(seconds=seconds)
    except OverflowError:
        return None


@lru_cache(maxsize=1024)
def _is_private(name: str) -> bool:
    """Whether an attribute or property of this name may hold a person or a secret."""
    return _PRIVATE.search(name) is not None


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


# --- XML that is none ---


def _syntax_problem(error: etree.XMLSyntaxError, data: Buffer) -> Problem:
    """The parser's error in words that tell the file's sender what to mend."""
    line, column = error.position
    found = str(error.msg).removesuffix(f", line {line}, column {column}").strip()
    around, after = _around(data, line, column)
    where, expected = f"line {line}, column {column}", "well-formed XML"
    if match := _MISMATCH.search(found):
        expected, found = (
            f"well-formed XML: </{match[1]}>, the end of <{match[1]}> of line {match[2]}",
            f"</{match[3]}>",
        )
    elif not after:
        if match := _PREMATURE.search(found):
            expected = f"well-formed XML: </{match[1]}>, the end of <{match[1]}> of line {match[2]}"
        found = f"the end of the file, which is cut off ({found})"
    else:
        expected = _EXPECTED.get(error.code, expected)
        found = f"{found}: {around}" if around else found
    return Problem(where=where, expected=expected, found=found)


def _around(data: Buffer, line: int, column: int) -> tuple[str, str]:
    """What stands around a place and what follows it there; the latter is empty at the end of the file.

    Of UTF-16, whose lines cannot be told by their bytes, both are as good as unknown.
    """
    if data[:2] in _UTF_16:
        return "", "…"
    start = 0
    while line > 1 and start < len(data):
        piece = bytes(data[start : start + _PIECE])
        newlines = piece.count(b"\n")
        if newlines < line - 1:
            line, start = line - newlines, start + len(piece)
            continue
        end = -1
        for _ in range(line - 1):
            end = piece.index(b"\n", end + 1)
        start += end + 1
        break
    at = start + column - 1
    around, after = (
        bytes(data[begin : at + 40]).decode(errors="replace").strip() for begin in (max(start, at - 30), at)
    )
    return " ".join(around.split()), after if len(data) <= at + 40 else after or "…"


FORMAT = Format(
    id="junit",
    title="JUnit XML",
    made_by="pytest --junit-xml=FILE, and most test runners",
    example='<testsuite name="unit"><testcase classname="test_parse" name="test_empty" time="0.25"/></testsuite>',
    claims=claims,
    read=read,
)
