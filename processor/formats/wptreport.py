"""wptreport: what wptrunner's `--log-wptreport` writes, and what wpt.fyi takes.

Defined by the tool itself:
<https://github.com/web-platform-tests/wpt/blob/master/tools/wptrunner/wptrunner/formatters/wptreport.py>

A file is one run; its results become rows of `tests`.

| field | becomes | notes |
|---|---|---|
| run_info.product, .browser_version | title | `chrome 120.0.6099.5` |
| run_info.revision | commit | as it stands, however short; empty is none |
| run_info.os, .linux_distro, .os_version, .version | os | name and major version: `macOS 14`, `Windows 11` |
| all of run_info but the revision | machine | the processor too: it is an architecture, no CPU model |
| subsuites, screenshots, lsan_leaks, mozleak | machine | under `wptreport`; each of the last three up to 64 KiB |
| results[].asserts, .screenshots | extra | of the row of the test: counts of assertions, URL to hash of the picture |
| time_start, time_end | started, finished | milliseconds since 1970; below 10^11 they are seconds |
| results[].test with .subsuite | test | see below |
| results[].subtests[].name | subtest | null in the row of the test itself |
| status | status | lower case; one that is unknown, empty or missing: `unknown` with its text, flagged |
| expected | expected | lower case; only where it differs from the status |
| known_intermittent | known_intermittent | lower case |
| duration | duration_seconds | sent in milliseconds, of whole tests only |
| message | message | |

**Identity.** A test is named by its id as sent; one of a subsuite by `subsuite:id`, as wptrunner's output writes it.
So that no two ids ever meet, `%`, `:` and `/` in a subsuite's name are percent-encoded, and an id that has a colon
before its first slash gets an empty subsuite in front (`:urn:x`). Names that repeat (a subtest in its test, a test in
the report) are all kept, as rows of their own.

**Refused** is the run, whole, where a result cannot be told apart or read: a missing test id or subtest name, subtests
or results that are no array, text that is no UTF-8. A report with holes would pass for a complete one. **Kept and
flagged** is what costs less than a row: an unknown status, a number or text of the wrong type, half a character (it
becomes U+FFFD). The pictures themselves are in no report.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from processor.formats import Format
from processor.reading.decode import Buffer, mended_surrogates, rejected
from processor.reading.instants import instant_of_number
from processor.reading.mended import read_fields
from processor.reading.shape import Shape
from processor.tables import RunFacts, RunRows, Tables, canonical_json
from schemas.errors import Rejected
from schemas.problems import problem_of
from schemas.records import Commit, Machine
from schemas.tables import STATUSES, TESTS

T = TypeVar("T")

_ABSENT = msgspec.Raw(b"null")
_STATUS = {word.upper(): word for word in STATUSES if word != "unknown"}
_EXPECTED_STATUS = "one of " + ", ".join(_STATUS)
_STATUS |= {word: word for word in _STATUS.values()}
_UNKNOWN = STATUSES.index("unknown")
_WORD = TESTS.field("test").type
_STATUS_CODE = {word: STATUSES.index(status) for word, status in _STATUS.items()}
if TYPE_CHECKING:
    KnownStatus = str
else:
    KnownStatus = Literal[tuple(_STATUS)]
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_HEAD_BYTES = 1 << 16
_MOST_KEPT_BYTES = 1 << 16
"""Of the whole report's screenshots and leaks: more than that stays in the blob."""


class Subtest(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    name: str
    status: str = ""
    message: str | None = None
    expected: str | None = None
    known_intermittent: tuple[str, ...] | None = None


class Result(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    test: str
    status: str = ""
    subsuite: str | None = None
    message: str | None = None
    duration: float | None = None
    expected: str | None = None
    known_intermittent: tuple[str, ...] | None = None
    subtests: list[Subtest] | None = None
    asserts: dict[str, Any] | None = None
    screenshots: dict[str, Any] | None = None


class KnownSubtest(Subtest, gc=False, forbid_unknown_fields=True):
    """With a status that we know: then no text is made of it."""

    status: KnownStatus = ""


class KnownResult(Result, gc=False, forbid_unknown_fields=True):
    status: KnownStatus = ""
    subtests: list[KnownSubtest] | None = None  # type: ignore[assignment]  # never written to


class Frame(msgspec.Struct, kw_only=True, gc=False, forbid_unknown_fields=True):
    """The top level but for the results. Values stay undecoded, so that one bad value does not hide the others."""

    run_info: msgspec.Raw = _ABSENT
    time_start: msgspec.Raw = _ABSENT
    time_end: msgspec.Raw = _ABSENT
    subsuites: msgspec.Raw = _ABSENT
    screenshots: msgspec.Raw = _ABSENT
    lsan_leaks: msgspec.Raw = _ABSENT
    mozleak: msgspec.Raw = _ABSENT


class Report(Frame, gc=False, forbid_unknown_fields=True):
    results: msgspec.Raw = _ABSENT


_RESULTS = msgspec.json.Decoder(list[KnownResult])


def claims(shape: Shape) -> bool:
    """By `run_info`, by `time_start` beside results, or by results that hold subtests. A list of several reports, as
    tools that compare them keep it, is claimed to be refused by name."""
    if shape.kind != "object":
        return shape.kind == "array" and "log-wptreport" in shape.keys
    keys = shape.keys
    if "run_info" in keys or {"results", "time_start"} <= keys.keys():
        return True
    head = bytes(memoryview(keys["results"])[:_HEAD_BYTES]) if "results" in keys else b""
    return head[:1] == b"[" and b'"test"' in head and b'"subtests"' in head


def read(data: Buffer, out: Tables) -> None:
    report = _report(data, out)
    run = _begin(report, out)
    array: Buffer | msgspec.Raw = report.results if out.long_array is None else out.long_array
    try:
        results = _RESULTS.decode(array)
    except _DECODE_ERRORS:
        _add_one_by_one(run, array, out)
        return
    out.elements = len(results)
    _add_all(run, results, range(len(results)))


def _add_one_by_one(run: RunRows, array: Buffer | msgspec.Raw, out: Tables) -> None:
    """Results of which not every one is as it should be."""
    try:
        results = msgspec.json.decode(_mended(memoryview(array), out), type=list[msgspec.Raw])
    except _DECODE_ERRORS as error:
        found = problem_of(error).found
        run.refuse("/results", "an array of results", "nothing" if found == "null" else found)
        return
    out.elements = len(results)
    read = [_result(run, out, f"/results/{index}", raw) for index, raw in enumerate(results)]
    places = [index for index, result in enumerate(read) if result]
    _add_all(run, [result for result in read if result], places)


def _report(data: Buffer, out: Tables) -> Report:
    """The top level; halves of characters anywhere in the report are replaced then, flagged."""
    try:
        return read_fields(data, Report, out)
    except _DECODE_ERRORS:
        pass
    try:
        return read_fields(_mended(data, out), Report, out)
    except _DECODE_ERRORS as error:
        if b'"log-wptreport"' in bytes(data[:_HEAD_BYTES]) and bytes(data[:64]).lstrip()[:1] == b"[":
            found = "an array; each of its log-wptreport is a report and can be sent by itself"
            raise rejected("/", "object", found) from error
        raise Rejected([problem_of(error)]) from error


def _mended(text: Buffer, out: Tables) -> Buffer:
    mended, count = mended_surrogates(text)
    if count:
        found = f"lone surrogates, {count} in all, replaced by U+FFFD"
        out.problem("/", "whole characters", found, effect="kept")
    return mended


def _begin(report: Frame, out: Tables) -> RunRows:
    problems: list[tuple[str, str, str]] = []
    run = out.run(_facts(report, lambda *problem: problems.append(problem), out))
    for problem in problems:
        run.flag(*problem)
    return run


# --- rows ---


def _add_all(run: RunRows, results: Sequence[Result], places: Sequence[int]) -> None:
    """All results as rows, in columns: a full run has more than a million of them. `places` are their indices in the
    report."""
    items: list[Result | Subtest] = []
    first_rows: list[int] = []  # of each test
    subtests: list[str | None] = []
    for result in results:
        inner = result.subtests or ()
        first_rows.append(len(items))
        items.append(result)
        items.extend(inner)
        subtests.append(None)
        subtests.extend(map(attrgetter("name"), inner))
    if not items:
        return
    codes = bytearray(map(_STATUS_CODE.get, map(attrgetter("status"), items), repeat(_UNKNOWN)))
    columns: dict[str, Any] = {}
    if _UNKNOWN in codes:
        texts: list[str | None] = [None] * len(items)
        for row, code in enumerate(codes):
            if code == _UNKNOWN:
                texts[row] = items[row].status
                run.flag(f"{_place(first_rows, places, row)}/status", _EXPECTED_STATUS, repr(texts[row])[:80])
        columns["status_text"] = pa.array(texts, _WORD)
    if any(map(attrgetter("expected"), items)):
        expected = [item.expected.lower() if item.expected and item.expected != item.status else None for item in items]
        columns["expected"] = pa.array(expected, _WORD)
    if any(map(attrgetter("known_intermittent"), items)):
        words = [
            [word.lower() for word in item.known_intermittent] if item.known_intermittent else None for item in items
        ]
        columns["known_intermittent"] = pa.array(words, pa.list_(pa.string()))
    durations, extras = _of_tests(run, results, places)
    run.test_arrays(
        len(items),
        test=_spread([test_name(result.subsuite, result.test) for result in results], first_rows, len(items)),
        subtest=pa.array(subtests, pa.string()),
        status=pa.DictionaryArray.from_arrays(_bytes_array(codes).cast(pa.int32()), list(STATUSES)),
        message=pa.array(map(attrgetter("message"), items), pa.string(), size=len(items)),
        duration_seconds=_placed(durations, first_rows, len(items), pa.float64()),
        extra=_placed(extras, first_rows, len(items), pa.string()),
        **columns,
    )


def _of_tests(
    run: RunRows, results: Sequence[Result], places: Sequence[int]
) -> tuple[list[float | None], list[str | None]]:
    """Seconds and what else is kept, of each test."""
    durations: list[float | None] = []
    extras: list[str | None] = []
    for index, result in zip(places, results, strict=True):
        duration = result.duration
        if duration is not None and duration < 0:
            run.flag(f"/results/{index}/duration", "milliseconds from 0", repr(duration))
            duration = None
        durations.append(None if duration is None else duration / 1000)
        extra = {"asserts": result.asserts, "screenshots": result.screenshots}
        extras.append(canonical_json({k: v for k, v in extra.items() if v}) if any(extra.values()) else None)
    return durations, extras


def _place(first_rows: list[int], places: Sequence[int], row: int) -> str:
    """Where in the report a row comes from."""
    index = bisect_right(first_rows, row) - 1
    part = row - first_rows[index]
    return f"/results/{places[index]}" + (f"/subtests/{part - 1}" if part else "")


def _spread(names: list[str], first_rows: list[int], count: int) -> pa.DictionaryArray:
    """Each test's name in all of its rows."""
    ends = pa.array([*first_rows[1:], count], pa.int32())
    encoded = pa.array(names, _WORD)
    indices = pc.run_end_decode(pa.RunEndEncodedArray.from_arrays(ends, encoded.indices))
    return pa.DictionaryArray.from_arrays(indices, encoded.dictionary)


def _bytes_array(values: bytearray) -> pa.Array:
    return pa.Array.from_buffers(pa.int8(), len(values), [None, pa.py_buffer(values)])


def _placed(values: list[Any], first_rows: list[int], count: int, type: pa.DataType) -> pa.Array:
    """Each test's value in its first row, null in the others."""
    if not any(value is not None for value in values):
        return pa.nulls(count, type)
    column: list[Any] = [None] * count
    for row, value in zip(first_rows, values, strict=True):
        column[row] = value
    return pa.array(column, type)


def test_name(subsuite: str | None, test: str) -> str:
    """The identity of a test; see the module's docstring."""
    if subsuite:
        return f"{subsuite.replace('%', '%25').replace(':', '%3A').replace('/', '%2F')}:{test}"
    if test[:1] != "/" and ":" in test.split("/", 1)[0]:
        return ":" + test
    return test


# --- results that do not fit at first ---


def _result(run: RunRows, out: Tables, where: str, raw: msgspec.Raw) -> Result | None:
    """The result without what is wrong in it, flagged; None (and the run refused) where too little is left."""
    try:
        return read_fields(raw, Result, out, "/results/*")
    except _DECODE_ERRORS:
        pass
    try:
        value = msgspec.json.decode(raw)
    except _DECODE_ERRORS as error:
        problem = problem_of(error, where)
        run.refuse(problem.where, problem.expected, problem.found)
        return None
    if not isinstance(value, dict):
        run.refuse(where, "an object", _found(value))
        return None
    test, subtests = value.get("test"), value.get("subtests")
    if not isinstance(test, str):
        run.refuse(f"{where}/test", "a test id", _found(test))
        return None
    if subtests is not None and not isinstance(subtests, list):
        run.refuse(f"{where}/subtests", "an array", _found(subtests))
        return None
    made = [_mended_subtest(run, f"{where}/subtests/{at}", subtest) for at, subtest in enumerate(subtests or [])]
    return Result(
        test=test,
        subsuite=_text(run, f"{where}/subsuite", value.get("subsuite")),
        duration=_milliseconds(run, f"{where}/duration", value.get("duration")),
        subtests=[subtest for subtest in made if subtest],
        asserts=_object(run, f"{where}/asserts", value.get("asserts")),
        screenshots=_object(run, f"{where}/screenshots", value.get("screenshots")),
        **_verdict(run, where, value),
    )


def _mended_subtest(run: RunRows, where: str, value: Any) -> Subtest | None:
    if not isinstance(value, dict):
        run.refuse(where, "an object", _found(value))
        return None
    name = value.get("name")
    if not isinstance(name, str):
        run.refuse(f"{where}/name", "a subtest's name", _found(name))
        return None
    return Subtest(name=name, **_verdict(run, where, value))


def _verdict(run: RunRows, where: str, value: dict[str, Any]) -> dict[str, Any]:
    """The fields that tests and subtests share."""
    status, intermittent = value.get("status"), value.get("known_intermittent")
    words = isinstance(intermittent, list) and all(isinstance(word, str) for word in intermittent)
    if intermittent is not None and not words:
        run.flag(f"{where}/known_intermittent", "an array of statuses", _found(intermittent))
    expected = value.get("expected")
    if expected is not None and not isinstance(expected, str):
        run.flag(f"{where}/expected", "a status", _found(expected))
        expected = None
    return {
        # What is no text is an unknown status, flagged where the row is made.
        "status": status if isinstance(status, str) else "" if status is None else canonical_json(status),
        "message": _text(run, f"{where}/message", value.get("message")),
        "expected": expected,
        "known_intermittent": tuple(intermittent) if intermittent and words else None,
    }


def _milliseconds(run: RunRows, where: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    except OverflowError:
        pass
    run.flag(where, "milliseconds", _found(value))
    return None


def _text(run: RunRows, where: str, value: Any) -> str | None:
    """Text as it is; another value as JSON, flagged."""
    if value is None or isinstance(value, str):
        return value
    run.flag(where, "text", _found(value))
    return canonical_json(value)


def _object(run: RunRows, where: str, value: Any) -> dict[str, Any] | None:
    if value is None or isinstance(value, dict):
        return value
    run.flag(where, "an object", _found(value))
    return None


def _found(value: Any) -> str:
    if value is None:
        return "nothing"
    return canonical_json(value)[:80]


# --- facts of the run ---


def _facts(report: Frame, flag: Callable[[str, str, str], None], out: Tables) -> RunFacts:
    info: dict[str, Any] = _value(report.run_info, dict[str, Any], "/run_info", "an object", flag) or {}
    revision = info.get("revision")
    if revision is not None and not isinstance(revision, str):
        flag("/run_info/revision", "text", _found(revision))
        revision = None
    extra: dict[str, Any] = {key: value for key, value in info.items() if key != "revision"}
    beside: dict[str, Any] = {"subsuites": _value(report.subsuites, dict[str, Any], "/subsuites", "an object", flag)}
    for name in ("screenshots", "lsan_leaks", "mozleak"):
        raw = getattr(report, name)
        if len(memoryview(raw)) > _MOST_KEPT_BYTES:
            out.leave_unread(f"/{name}")
        else:
            beside[name] = _value(raw, dict[str, Any] | list[Any], f"/{name}", "an array or object", flag)
    if beside := {name: value for name, value in beside.items() if value}:
        extra["wptreport"] = beside
    return RunFacts(
        title=" ".join(part for part in (_plain(info.get("product")), _plain(info.get("browser_version"))) if part),
        commit=Commit(id=revision) if revision else None,
        started=_time(report.time_start, "/time_start", flag),
        finished=_time(report.time_end, "/time_end", flag),
        machine=Machine(os=_os(info)),
        machine_extra=extra,
    )


def _value(
    raw: msgspec.Raw, type: type[T] | Any, where: str, expected: str, flag: Callable[[str, str, str], None]
) -> T | None:
    """`raw` as `type`; None, flagged, where it is none."""
    if bytes(memoryview(raw)[:4]) == b"null":
        return None
    try:
        decoded: T = msgspec.json.decode(raw, type=type)
    except _DECODE_ERRORS as error:
        problem = problem_of(error, where)
        flag(problem.where, expected if problem.where == where else problem.expected, problem.found)
        return None
    return decoded


def _time(raw: msgspec.Raw, where: str, flag: Callable[[str, str, str], None]) -> datetime | None:
    expected = "milliseconds since 1970"
    number: int | float | None = _value(raw, int | float, where, expected, flag)
    if number is None:
        return None
    instant = instant_of_number(number)
    if instant is None:
        flag(where, expected, repr(number)[:80])
    return instant


def _plain(value: Any) -> str:
    """Text or a number as text; anything else is nothing to show."""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _os(info: dict[str, Any]) -> str:
    """Name and major version, as `schemas.records.Machine.os` has them; empty if the report names no system."""
    system, release, version = (_plain(info.get(key)) for key in ("os", "os_version", "version"))
    parts = release.split(".")
    if system == "linux":
        system = _plain(info.get("linux_distro")) or (version.removesuffix(release).strip() if release else "")
        # Ubuntu's releases of one year are as far apart as two majors elsewhere.
        return f"{system or 'Linux'} {release if system == 'Ubuntu' else parts[0]}".strip()
    if system == "mac":
        return "macOS " + ".".join(parts[:2] if parts[0] == "10" else parts[:1]) if release else "macOS"
    if system == "win":
        build = version.split(".")[2:3]
        eleven = parts[0] == "10" and build and build[0].isdecimal() and int(build[0]) >= 22_000
        return f"Windows {'11' if eleven else parts[0]}".strip()
    # A report from an emulator gives the host's version beside the guest's name.
    return system if "linux_distro" in info else f"{system} {parts[0]}".strip()


FORMAT = Format(
    id="wptreport",
    title="Web Platform Tests report",
    made_by="wpt run --log-wptreport=FILE",
    example="""{"run_info": {"product": "chrome"}, "results": [
  {"test": "/dom/parse.html", "status": "OK", "subtests": [{"name": "empty", "status": "PASS"}]}
]}""",
    claims=claims,
    read=read,
    long_array="results",
)
