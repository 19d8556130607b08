"""LNT, LLVM's performance tracker: reports as `lnt submit` takes them, and the results of llvm-lit they are made from.

    {"format_version": "2",
     "machine": {"name": …, "hardware": …, "os": …},
     "run": {"start_time": …, "end_time": …, "llvm_project_revision": …},
     "tests": [{"name": …, "execution_time": [0.1056, 0.1055], "execution_status": 0, "hash": "49333a…"}]}

One file is one run; each metric of a test is a measurement, whose samples are the list; value is their minimum, for
`score` their maximum, as LNT itself aggregates them. Each status is a test.

| field | becomes | notes |
|---|---|---|
| tests[].name | benchmark; test | |
| `compile_time`, `execution_time`, `user_time`, `sys_time`, `wall_time`, `link_time` | metric | `s`, lower is better |
| `mem_bytes`, `code_size`, `size_bytes`, lit's `size`, `size.…` | metric | `B`, lower is better |
| `score` | metric | no unit, higher is better |
| any other number, also as text | metric | no unit, no direction: only the server's schema knows them |
| `hash` and other text | extra of the test's measurements | counted as lost where there is no measurement |
| `profile` | | in the blob: megabytes |
| `compile_status`, `execution_status`, … | test, subtest `compile`, … | 0 pass, 1 fail, 2 fail as expected |
| machine.name, hardware | cpu, see below | |
| machine: os, os_version; hw.activecpu, hw.ncpu; hw.memsize | os; cores; ram_gib | |
| machine, run | machine, as `machine` and `run` | without names of persons and secrets |
| run.start_time, end_time | started, finished | without an offset taken as UTC |
| run.llvm_project_revision | commit | else git_sha, revision, run_order, inferred_run_order, cc_src_revision |
| schema or tag | title | `nts`, `compile` |

**Identity.** Test and metric under the names of format 2, whatever the dialect. LNT tells machines apart by name
(`localhost__clang_DEV__x86_64`: configurations of one computer are machines of their own), so the name stands with
the hardware where an environment has its CPU.

**Failures.** What was measured although its status is not 0 is no measurement but a kept problem. A failed compilation
takes all values of the test with it, a failed execution all but `compile_time`, `code_size` and `hash`; another status
the values that begin like it. Where status and values are lists of one length, single samples are left out.

**Dialects**
- *Format 0 and 1*: `{"Machine": {"Name", "Info"}, "Run": {"Start Time", "End Time", "Info"}, "Tests": [{"Name":
  "nts.suite/test.exec.status", "Data": […], "Info": {}}]}`. Names are split and renamed as LNT's own upgrade does
  (`nts.foo.exec` is `foo`, `execution_time`); a test's Info, which LNT refuses, is params.
- *The same as a property list* (XML).
- *llvm-lit* `--output`: `{"tests": [{"name": "test-suite :: foo.test", "code": "PASS", "elapsed": 1.0,
  "metrics": {…}}]}`. Renamed as LNT's own import does (`exec_time` is `execution_time`, `link_time` `compile_time` of
  `foo-link`). Each code is a test; values of one that did not pass are a kept problem.

Entries of one name are the samples of one test.

Definition: https://llvm.org/docs/lnt/importing_data.html and https://github.com/llvm/llvm-lnt, `lnt/testing/`.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from lxml import etree

from processor.formats import Format
from processor.reading.decode import Buffer, rejected
from processor.reading.instants import instant_of_number, parse_instant
from processor.reading.mended import pointer_step, read_mended
from processor.reading.platforms import os_of
from processor.reading.samples import sample_statistics
from processor.reading.shape import Shape
from processor.reading.shown import shown
from processor.reading.withheld import without_private
from processor.tables import RunFacts, RunRows, Tables, canonical_json
from schemas.records import Commit, Machine

_TIMES = ("compile_time", "execution_time", "user_time", "sys_time", "wall_time", "link_time")
_BYTES = ("mem_bytes", "code_size", "size_bytes", "size")
_OF_COMPILATION = ("compile_time", "code_size", "hash")
"""What a failed execution leaves valid."""

_OLD_METRICS = {
    "nts": {"compile": "compile_time", "exec": "execution_time", "mem": "mem_bytes"}
    | {"compile.status": "compile_status", "exec.status": "execution_status", "hash.status": "hash_status"},
    "compile": {"mem": "mem_bytes", "size": "size_bytes", "sys": "sys_time", "user": "user_time", "wall": "wall_time"}
    | {f"{name}.status": f"{name}_status" for name in ("mem", "size", "sys", "user", "wall")},
}
"""Suffixes of test names in formats 0 and 1, by the tag of the run."""

_LIT_METRICS = {"exec_time": "execution_time", "size..text": "code_size", "size.__text": "code_size"}
_LIT_LINK_METRICS = {"link_time": "compile_time", "link_mem_bytes": "mem_bytes"}
_LIT_CODES = {
    "PASS": ("pass", None),
    "FLAKYPASS": ("pass", None),
    "XFAIL": ("fail", "fail"),
    "FAIL": ("fail", None),
    "XPASS": ("pass", "fail"),
    "NOEXE": ("fail", None),
    "UNRESOLVED": ("error", None),
    "TIMEOUT": ("timeout", None),
    "UNSUPPORTED": ("skip", None),
    "SKIPPED": ("skip", None),
    "EXCLUDED": ("notrun", None),
}
"""(status, expected status) of lit's codes, and of the one that LLVM's test suite adds."""

_STATUSES = {0: ("pass", None), 1: ("fail", None), 2: ("fail", "fail")}
_BADNESS = (1, 2, 0)
_REVISIONS = ("llvm_project_revision", "git_sha", "revision", "run_order", "inferred_run_order", "cc_src_revision")
_TEXT = ("hash",)
_NOT_FINITE = {"NaN", "Infinity", "-Infinity", "nan", "inf", "-inf"}
_UNREAD = ("profile",)
_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,4})?\s*")
_VERSIONED = re.compile(r"([A-Za-z][A-Za-z /]{0,60}?)\s+([0-9]{1,4})(?:\.[0-9.]*)?(?:\s.*)?", re.DOTALL)
_KEY = re.compile(rb"<key>\s*(?:[Mm]achine|[Rr]un|[Tt]ests)\s*</key>")
_MAX_DEPTH = 100
_PIECE = 1 << 16


@dataclass
class Entry:
    """One test of a report, whatever dialect it was written in: its metrics with their places and undecided values."""

    where: str
    name: str
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, tuple[str, list[Any]]] = field(default_factory=dict)


@dataclass
class Series:
    """The samples of one metric of one test, gathered from all entries of its name."""

    where: str
    name: str
    params: dict[str, Any]
    metric: str
    samples: list[float]
    text: dict[str, Any]


class Report(msgspec.Struct, forbid_unknown_fields=True):
    """Both spellings of the top level: format 2 in lower case, 0 and 1 with capitals. lit's has tests only."""

    tests: list[Any] | None = None
    machine: dict[str, Any] = {}
    run: dict[str, Any] = {}
    format_version: Any = None
    schema: str = ""
    Tests: list[Any] | None = None
    Machine: dict[str, Any] = {}
    Run: dict[str, Any] = {}


def claims(shape: Shape) -> bool:
    if shape.kind == "xml":
        return shape.root == "plist" and _KEY.search(shape.head) is not None
    if shape.kind != "object":
        return False
    if {"machine", "run", "tests"} <= {*shape.keys} or {"Machine", "Run", "Tests"} <= {*shape.keys}:
        return True
    if "tests" not in shape.keys:
        return False
    try:
        first = msgspec.json.decode(shape.keys["tests"], type=list[msgspec.Raw])[:1]
        keys = msgspec.json.decode(first[0], type=dict[str, msgspec.Raw]).keys() if first else set()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return {"name", "code"} <= {*keys} and bool({"metrics", "elapsed", "output"} & {*keys})


def read(data: Buffer, out: Tables) -> None:
    report = _report_of_plist(data, out) if bytes(data[:200]).lstrip()[:1] == b"<" else read_mended(data, Report, out)
    if report.Tests is not None:
        facts, info = _old_facts(report, out)
        run = out.run(_facts(*facts, out))
        entries: Iterable[Entry] = _old_entries(run, report.Tests, info)
    elif report.tests is not None:
        run = out.run(_facts(report.machine, report.run, report.schema, out))
        entries = _entries(run, report.tests, out)
    else:
        raise rejected("/", "a field 'tests' or 'Tests'", "none")
    if report.format_version not in (None, 2, "2"):
        run.flag("/format_version", "2", shown(report.format_version))
    _flag_times(run, report)
    _add(run, out, entries)


# --- dialects ---


def _entries(run: RunRows, tests: list[Any], out: Tables) -> Iterator[Entry]:
    """The tests of format 2 and of lit, as they come."""
    for index, test in enumerate(tests):
        where = f"/tests/{index}"
        name = test.get("name") if isinstance(test, dict) else None
        if not isinstance(name, str) or not name:
            found = shown(name) if isinstance(test, dict) else shown(test)
            run.refuse(
                f"{where}/name" if isinstance(test, dict) else where,
                "a name" if isinstance(test, dict) else "an object",
                found,
            )
        elif "code" in test and ("metrics" in test or "elapsed" in test or "output" in test):
            yield from _lit_entries(run, where, name, test, out)
        else:
            yield Entry(where, name, {}, _metrics(where, test, skip=("name",)))


def _metrics(where: str, values: Mapping[str, Any], skip: tuple[str, ...] = ()) -> dict[str, tuple[str, list[Any]]]:
    return {
        key: (where + pointer_step(key), value if isinstance(value, list) else [value])
        for key, value in values.items()
        if key not in skip
    }


def _lit_entries(run: RunRows, where: str, name: str, test: dict[str, Any], out: Tables) -> Iterator[Entry]:
    """A test of lit: its row, and what it measured if it passed."""
    name = name.partition(" :: ")[2] or name
    name = name.removesuffix(".test")
    code, output = test["code"], test.get("output")
    status, expected = _LIT_CODES.get(code, ("unknown", None)) if isinstance(code, str) else ("unknown", None)
    if status == "unknown":
        run.flag(f"{where}/code", "one of " + ", ".join(_LIT_CODES), shown(code))
    for key in test.keys() - {"name", "code", "elapsed", "metrics", "output"}:
        if test[key] not in (None, "", [], {}):
            out.leave_unread(f"/tests/*{pointer_step(key)}")
    failed = status not in ("pass", "skip", "notrun")  # as lit counts them, with those that were expected to
    if output and not (failed and isinstance(output, str)):
        out.leave_unread("/tests/*/output")
    message = [code] if failed and code != "FAIL" and isinstance(code, str) else []
    message += [output.strip()] if failed and isinstance(output, str) and output.strip() else []
    run.test(
        where=f"{where}/code",
        test=name,
        status=status,
        status_text=_word(code) if status == "unknown" else None,
        expected=expected,
        known_intermittent=["fail"] if code == "FLAKYPASS" else None,
        duration_seconds=_seconds(run, f"{where}/elapsed", test.get("elapsed")),
        message="\n".join(message) or None,
    )
    metrics = test.get("metrics")
    if metrics is not None and not isinstance(metrics, dict):
        run.flag(f"{where}/metrics", "an object", shown(metrics))
    if not isinstance(metrics, dict) or not metrics:
        return
    if status != "pass":
        run.flag(f"{where}/metrics", "a test that passed", f"{shown(code)}: {len(metrics)} metrics left out")
        return
    found = _metrics(f"{where}/metrics", metrics)
    link = {new: found.pop(old) for old, new in _LIT_LINK_METRICS.items() if old in found}
    yield Entry(where, name, {}, {_LIT_METRICS.get(key, key): values for key, values in found.items()})
    if link:
        yield Entry(where, f"{name}-link", {}, link)


def _seconds(run: RunRows, where: str, value: Any) -> float | None:
    if value is None:
        return None
    seconds = _number(value)
    if seconds is None or seconds < 0:
        run.flag(where, "seconds from 0", shown(value))
        return None
    return seconds


def _old_facts(report: Report, out: Tables) -> tuple[tuple[dict[str, Any], dict[str, Any], str], str]:
    """((machine, run, title) as format 2 has them, tag) of format 0 and 1."""
    machine, run = report.Machine.get("Info"), report.Run.get("Info")
    machine = {**machine} if isinstance(machine, dict) else {}
    run = {**run} if isinstance(run, dict) else {}
    run.pop("__report_version__", None)
    tag = run.pop("tag", None)
    title = tag if isinstance(tag, str) else ""
    if "name" in machine:
        machine["hostname"] = machine.pop("name")
    machine["name"] = report.Machine.get("Name")
    for place, fields, known in (("/Machine", report.Machine, ("Name", "Info")), ("/Run", report.Run, _OLD_RUN)):
        for key in fields.keys() - set(known):
            out.leave_unread(place + pointer_step(key))
    for key, new in (("Start Time", "start_time"), ("End Time", "end_time")):
        if report.Run.get(key) is not None:
            run[new] = report.Run[key]
    return (without_private(machine, out, "/Machine/Info"), without_private(run, out, "/Run/Info"), title), title


_OLD_RUN = ("Start Time", "End Time", "Info")


def _old_entries(run: RunRows, tests: list[Any], tag: str) -> list[Entry]:
    """The tests of format 0 and 1, whose metrics stand apart, put together by name and Info."""
    entries: dict[tuple[str, str], Entry] = {}
    for index, test in enumerate(tests):
        where = f"/Tests/{index}"
        name = test.get("Name") if isinstance(test, dict) else None
        values = test.get("Data") if isinstance(test, dict) else None
        if not isinstance(name, str) or not isinstance(values, list):
            run.refuse(where, "an object with Name, text, and Data, a list", shown(test))
            continue
        name, metric = _old_name(name, tag)
        if not name or not metric:
            run.refuse(f"{where}/Name", "a name like nts.test.metric", shown(test["Name"]))
            continue
        info = test.get("Info")
        params = info if isinstance(info, dict) else {}
        entry = entries.setdefault((name, canonical_json(params)), Entry(where, name, params))
        entry.metrics.setdefault(metric, (f"{where}/Data", []))[1].extend(values)
    return list(entries.values())


def _old_name(name: str, tag: str) -> tuple[str, str]:
    """`nts.foo.exec.status` as (`foo`, `execution_status`)."""
    if tag:
        name = name.removeprefix(f"{tag}.")
    else:
        first, _, rest = name.partition(".")
        tag, name = (first, rest) if first in _OLD_METRICS else ("", name)
    for old, new in _OLD_METRICS.get(tag, {}).items():
        if name.endswith(f".{old}"):
            return name[: -len(old) - 1], new
    test, _, metric = name.rpartition(".")
    return test, metric


# --- facts ---


def _facts(machine: dict[str, Any], run: dict[str, Any], title: str, out: Tables) -> RunFacts:
    machine = without_private(machine, out, "/machine")
    run = without_private(run, out, "/run")
    name, hardware = _text(machine, "name"), _text(machine, "hardware") or _text(machine, "hw.model")
    memory = _number(machine.get("hw.memsize"))
    cores = next((cores for key in ("hw.activecpu", "hw.ncpu") if (cores := _number(machine.get(key)))), None)
    revision = next((text for key in _REVISIONS if (text := _text(run, key))), "")
    extra = {"machine": machine, "run": {key: value for key, value in run.items() if key not in _RUN_TIMES}}
    return RunFacts(
        title=title,
        commit=Commit(id=revision) if revision else None,
        started=_instant(run.get("start_time")),
        finished=_instant(run.get("end_time")),
        machine=Machine(
            cpu=f"{hardware} ({name})" if hardware and name else hardware or name,
            cores=int(cores) if cores and 1 <= cores < 1 << 31 else None,
            ram_gib=max(1, round(memory / (1 << 30))) if memory and 0 < memory < 1 << 60 else None,
            os=_os(_text(machine, "os") or _text(machine, "os_version") or _text(machine, "kern.version")),
        ),
        machine_extra={key: value for key, value in extra.items() if value} or None,
        labels={"tool": "LNT"},
    )


_RUN_TIMES = ("start_time", "end_time")


def _flag_times(run: RunRows, report: Report) -> None:
    for fields, place, start, end in (
        (report.run, "/run", *_RUN_TIMES),
        (report.Run, "/Run", "Start Time", "End Time"),
    ):
        for key, instant in ((start, run.facts.started), (end, run.facts.finished)):
            if fields.get(key) not in (None, "") and instant is None:
                run.flag(f"{place}/{key}", "a time in ISO 8601", shown(fields[key]))


def _os(text: str) -> str:
    """Name and major version, of `Linux 6.12.3` or `Darwin Kernel Version 24.0.0: Thu May 29 …`."""
    text = text.partition(":")[0].strip()[:200]
    match = _VERSIONED.fullmatch(text)
    return os_of(match[1].removesuffix(" Kernel Version"), match[2]) if match else text


def _instant(value: Any) -> Any:
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return parse_instant(value)
    number = _number(value)
    return instant_of_number(number) if number and number > 0 else None


def _text(fields: Mapping[str, Any], key: str) -> str:
    value = fields.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63:
        return str(value)
    return value.strip() if isinstance(value, str) else ""


# --- rows ---


def _add(run: RunRows, out: Tables, entries: Iterable[Entry]) -> None:
    series: dict[tuple[str, str, str], Series] = {}
    for entry in entries:
        statuses = {
            metric: [_status(value) for value in values]
            for metric, (_, values) in entry.metrics.items()
            if _is_status(metric)
        }
        for metric, codes in statuses.items():
            _add_test(run, entry, metric, codes)
        params = canonical_json(entry.params) if entry.params else ""
        text = {
            metric: _one_or_list(values) for metric, (_, values) in entry.metrics.items() if _is_text(metric, values)
        }
        measured = False
        for metric, (where, values) in entry.metrics.items():
            if metric in statuses or metric in text:
                continue
            if metric in _UNREAD:
                out.leave_unread(f"/tests/*/{metric}")
            elif samples := _measured(run, where, metric, _numbers(run, where, values), statuses):
                one = Series(where, entry.name, entry.params, metric, [], text)
                one = series.setdefault((entry.name, params, metric), one)
                one.samples.extend(samples)
                measured = measured or one.text == text
        if not measured:
            for metric in text:
                out.leave_unread(f"/tests/*{pointer_step(metric)}")
    for one in series.values():
        higher = one.metric == "score"
        run.measurement(
            where=one.where,
            benchmark=one.name,
            metric=one.metric,
            value=max(one.samples) if higher else min(one.samples),
            unit="s" if one.metric in _TIMES else "B" if _is_size(one.metric) else "",
            better="higher" if higher else "lower" if one.metric in _TIMES or _is_size(one.metric) else "",
            params=one.params,
            samples=one.samples,
            extra=one.text or None,
            **sample_statistics(one.samples),  # type: ignore[arg-type]  # its keys are the statistics' names
        )


def _is_size(metric: str) -> bool:
    return metric in _BYTES or metric.startswith("size.")


def _is_status(metric: str) -> bool:
    return metric.endswith("_status") and metric != "_status"


def _is_text(metric: str, values: list[Any]) -> bool:
    """Whether a metric is none: a hash, or words. A number that is none (`"NaN"`) is a number."""
    if metric in _TEXT:
        return True
    if {*map(type, values)} <= {float, int}:
        return False
    words = [value for value in values if isinstance(value, str) and value not in _NOT_FINITE]
    return metric not in _UNREAD and bool(words) and all(_number(word) is None for word in words)


def _one_or_list(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _numbers(run: RunRows, where: str, values: list[Any]) -> list[float]:
    """The finite numbers among `values`; the others are flagged."""
    if {*map(type, values)} == {float} and all(map(math.isfinite, values)):
        return values
    found = []
    for index, value in enumerate(values):
        number = _number(value)
        if number is None:
            run.flag(where if len(values) == 1 else f"{where}/{index}", "a finite number", shown(value))
        else:
            found.append(number)
    return found


def _measured(
    run: RunRows, where: str, metric: str, samples: list[float], statuses: dict[str, list[int | None]]
) -> list[float]:
    """The samples that count: those whose status says that nothing failed. What is left out is flagged."""
    failed = {status: codes for status, codes in statuses.items() if codes.count(0) < len(codes)}
    if not failed:
        return samples
    kept = list(enumerate(samples))
    for status, codes in failed.items():
        if not _governs(status, metric):
            continue
        before = len(kept)
        each = len(codes) == len(samples)
        kept = [(index, sample) for index, sample in kept if each and codes[index] == 0]
        if len(kept) < before:
            found = (
                f"{status} {codes[0] if len(codes) == 1 else codes}: {before - len(kept)} of {before} values left out"
            )
            run.flag(where, "values of a test that did not fail", found)
    return [sample for _, sample in kept]


def _governs(status: str, metric: str) -> bool:
    """Whether a failure that `status` tells of makes `metric` meaningless."""
    about = status.removesuffix("_status")
    if about == "compile":
        return True
    return metric not in _OF_COMPILATION if about == "execution" else metric.startswith(f"{about}_")


def _status(value: Any) -> int | None:
    """A status as a whole number, None if it is none."""
    if value == 0 and type(value) is int:  # nearly always
        return 0
    number = _number(value)
    return int(number) if number is not None and number == math.floor(number) and abs(number) < 1 << 31 else None


def _add_test(run: RunRows, entry: Entry, metric: str, codes: list[int | None]) -> None:
    where, values = entry.metrics[metric]
    if not codes:
        return
    strange = [value for value, code in zip(values, codes, strict=True) if code not in _STATUSES]
    worst = next((code for code in _BADNESS if code in codes), None)
    status, expected = ("unknown", None) if strange or worst is None else _STATUSES[worst]
    if strange:
        run.flag(where, "a status, 0 (pass), 1 (fail) or 2 (expected to fail)", shown(strange[0]))
    run.test(
        where=where,
        test=entry.name,
        subtest=metric.removesuffix("_status"),
        status=status,
        status_text=_word(strange[0]) if strange else None,
        expected=expected,
        extra={"statuses": codes} | ({"params": entry.params} if entry.params else {}) if len(codes) > 1 else None,
    )


def _word(value: Any) -> str:
    return value[:80] if isinstance(value, str) else shown(value)


def _number(value: Any) -> float | None:
    """`value` if it is a finite number, or text that spells one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None
    return number if math.isfinite(number) else None


# --- property lists ---


def _report_of_plist(data: Buffer, out: Tables) -> Report:
    reader = _PropertyList()
    # The encoding is fixed so that no other one, named in the file, can hide an entity from the search below.
    parser = etree.XMLParser(target=reader, resolve_entities=False, no_network=True, load_dtd=False, encoding="utf-8")
    if re.search(rb"<!ENTITY", data):
        raise rejected("/", "a property list without entities", "<!ENTITY")
    try:
        for at in range(0, len(data), _PIECE):
            parser.feed(bytes(data[at : at + _PIECE]))
        parser.close()
    except etree.XMLSyntaxError as error:
        line, column = error.position
        raise rejected(f"line {line}, column {column}", "well-formed XML", str(error.msg)[:200]) from error
    return read_mended(msgspec.json.encode(reader.value), Report, out)


class _PropertyList:
    """Receives the parser's events and builds the JSON value that the list spells."""

    def __init__(self) -> None:
        self.value: Any = None
        self._open: list[dict[str, Any] | list[Any]] = []
        self._keys: list[str] = []
        self._text: list[str] = []
        self._depth = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise rejected("/plist", f"at most {_MAX_DEPTH} nested elements", "more")
        if self._depth == 1 and tag != "plist":
            raise rejected(f"/{tag[:80]}", "a root element plist", f"<{tag[:80]}>")
        self._text = []
        if tag in ("dict", "array"):
            made: dict[str, Any] | list[Any] = {} if tag == "dict" else []
            self._put(made)
            self._open.append(made)
            self._keys.append("")

    def end(self, tag: str) -> None:
        self._depth -= 1
        text, self._text = "".join(self._text), []
        if tag in ("dict", "array"):
            self._open.pop()
            self._keys.pop()
        elif tag == "key" and self._keys:
            self._keys[-1] = text
        elif tag in ("true", "false"):
            self._put(tag == "true")
        elif tag != "plist":
            number = _number(text) if tag in ("integer", "real") else None
            self._put(text if number is None else number)

    def data(self, text: str) -> None:
        self._text.append(text)

    def close(self) -> None:
        """Part of the parser's protocol."""

    def _put(self, value: Any) -> None:
        if not self._open:
            self.value = value
        elif isinstance(self._open[-1], dict):
            self._open[-1][self._keys[-1]] = value
        else:
            self._open[-1].append(value)


FORMAT = Format(
    id="lnt",
    title="LNT reports",
    made_by="lnt runtest test-suite …, or lnt importreport; or llvm-lit --output FILE",
    example="""{"format_version": "2", "machine": {"name": "builder", "hardware": "x86_64"},
 "run": {"start_time": "2026-01-05T06:00:00", "llvm_project_revision": "642040"},
 "tests": [{"name": "parse", "execution_time": [0.1056, 0.1055], "execution_status": [0, 0]}]}""",
    claims=claims,
    read=read,
)
