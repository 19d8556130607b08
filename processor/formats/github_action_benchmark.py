"""github-action-benchmark: the history that the GitHub Action keeps (`dev/bench/data.js`), and its custom input.

    window.BENCHMARK_DATA = {"lastUpdate": …, "repoUrl": …, "entries": {"<suite>": [
        {"commit": {"id": …, "message": …, "timestamp": …, "author": {…}, …}, "date": …, "tool": "cargo",
         "benches": [{"name": …, "value": …, "unit": …, "range": "± 20", "extra": …}]}]}}

with or without the assignment and its semicolon; or the bare array `[{"name", "unit", "value", "range"?, "extra"?}]`
that a script gives to the Action. Every entry of a history is a run of its own, whose facts are never filled in from
the push; a bare array is one run.

| field | becomes | notes |
|---|---|---|
| repoUrl | label `repository` | |
| suite | title; params `suite` | the Action compares within a suite only |
| commit.id, timestamp | commit, commit_time | |
| commit.message | commit_subject | its first line |
| date | started | milliseconds or seconds since 1970, also mixed in one array, or ISO 8601 |
| tool | better; label `tool` | see below |
| name | benchmark | |
| value | value; metric `value` | a number, or a string that spells one (`"1,234.5"`) |
| unit | unit | trimmed; see Go and Luau below |
| range, extra | extra | a range means what its tool likes; only BenchmarkDotNet's is surely the stddev |

**Values.** A bench whose value is null (or `"NaN"`, or empty) has failed: no row, a kept problem. Any other value
that is no number refuses its run, alone.

**Direction.** The custom tools say it in their name, the others have one by definition, except where the unit is a
rate (JMH's `ops/s`, Go's `MB/s`): there higher is better, whatever the Action's own alerts think. Unknown tools, Go's
custom units and the bare array say nothing.

**Go** before the Action's 1.18 has the rest of the output line in the unit (`ns/op\\t 120 B/op\\t 2 allocs/op`): these
become measurements under the names that 1.18 gives them (`BenchmarkFib - B/op`), unless the entry has those as well.
A Go name that repeats with the same unit (`-count`) is one measurement with samples; value is the median. **Luau**'s
unit can start with digits of the value; they are cut off.

**Not kept** and counted in the loss report are authors and committers (persons), tree_id, distinct, lastUpdate, what a
commit's message says beyond its first line, and fields that the Action does not define. commit.url is only counted
where repoUrl and the id do not spell it.

Definition: https://github.com/benchmark-action/github-action-benchmark, `src/extract.ts` and `src/write.ts`.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from json.encoder import encode_basestring
from math import isfinite
from typing import Any

import msgspec

from processor.formats import Format
from processor.reading.decode import Buffer
from processor.reading.instants import instant_of_number, parse_instant
from processor.reading.mended import pointer_step, read_fields, read_mended, refuse_all
from processor.reading.samples import sample_statistics
from processor.reading.shape import Shape
from processor.tables import RunFacts, RunRows, Tables, canonical_json
from schemas.problems import problem_of
from schemas.records import Commit

_ASSIGNMENT = re.compile(rb"\s*window\.BENCHMARK_DATA\s*=\s*")
_NUMBER = re.compile(r"[-+]?(?:\d+|\d{1,3}(?:,\d{3})+)?(?:\.\d+)?(?:[eE][-+]?\d+)?", re.ASCII)
_RATE = re.compile(r"[^/]+/(?:ns|us|ms|s|sec|min|hr|day)")
_FAILED = {"", "NaN", "nan", "null"}
_EMPTY = {b"null", b'""', b"[]", b"{}"}
_ABSENT = msgspec.Raw(b"null")
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_ENTRY = "/entries/*/*"
"""Where an entry stands, in the names of the loss report."""

_DECLARED = {"customBiggerIsBetter": "higher", "customSmallerIsBetter": "lower"}
_BETTER = {
    "cargo": "lower",
    "cargo-criterion": "lower",
    "go": "lower",
    "benchmarkjs": "higher",
    "benchmarkluau": "lower",
    "pytest": "higher",
    "googlecpp": "lower",
    "catch2": "lower",
    "julia": "lower",
    "jmh": "lower",
    "benchmarkdotnet": "lower",
}
_GO_COSTS = {"ns/op", "B/op", "allocs/op"}


class History(msgspec.Struct, forbid_unknown_fields=True):
    entries: dict[str, msgspec.Raw]
    repoUrl: Any = None
    lastUpdate: Any = None


class CommitInfo(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    id: str | None = None
    message: str | None = None
    timestamp: str | None = None
    url: msgspec.Raw = _ABSENT
    author: msgspec.Raw = _ABSENT
    committer: msgspec.Raw = _ABSENT
    distinct: msgspec.Raw = _ABSENT
    tree_id: msgspec.Raw = _ABSENT


class Bench(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    name: str
    value: float | str | None
    unit: str | None = ""
    range: str | float | None = None
    extra: Any = None


class Entry(msgspec.Struct, forbid_unknown_fields=True):
    """An entry of a history; its benches are decoded with it if all are well-formed, else one by one."""

    benches: list[Bench]
    commit: CommitInfo | None = None
    date: float | str | None = None
    tool: str = ""


class RawEntry(msgspec.Struct, forbid_unknown_fields=True):
    benches: list[msgspec.Raw]
    commit: CommitInfo | None = None
    date: float | str | None = None
    tool: str = ""


def claims(shape: Shape) -> bool:
    if shape.kind == "text":
        return _ASSIGNMENT.match(shape.head) is not None
    if shape.kind == "array":
        return {"name", "unit", "value"} <= shape.keys.keys()
    return shape.kind == "object" and "entries" in shape.keys and bool({"lastUpdate", "repoUrl"} & {*shape.keys})


def read(data: Buffer, out: Tables) -> None:
    text = bytes(data)
    if assignment := _ASSIGNMENT.match(text):
        text = text[assignment.end() :].rstrip().removesuffix(b";")
    if text.lstrip()[:1] == b"[":
        run = out.run(RunFacts())
        items: list[msgspec.Raw] = read_mended(text, list[msgspec.Raw], out)
        _add_benches(run, "", _decoded_benches(run, out, "", "/*", items), tool="", suite="")
        return
    history: History = read_mended(text, History, out)
    repository = history.repoUrl if isinstance(history.repoUrl, str) else ""
    for name, value in (("/repoUrl", history.repoUrl if not repository else None), ("/lastUpdate", history.lastUpdate)):
        if value not in (None, "", [], {}):
            out.leave_unread(name)
    for suite, raw in history.entries.items():
        where = "/entries" + pointer_step(suite)
        try:
            entries = msgspec.json.decode(raw, type=list[msgspec.Raw])
        except _DECODE_ERRORS as error:
            problem = problem_of(error, where)
            out.problem(problem.where, problem.expected, problem.found)
            continue
        for index, entry in enumerate(entries):
            _add_entry(out, f"{where}/{index}", suite, repository, entry)


def _add_entry(out: Tables, where: str, suite: str, repository: str, raw: msgspec.Raw) -> None:
    entry: Entry | RawEntry
    try:
        entry = read_fields(raw, Entry, out, _ENTRY)
    except _DECODE_ERRORS:
        try:
            entry = read_fields(raw, RawEntry, out, _ENTRY)
        except _DECODE_ERRORS as error:
            run = out.run(RunFacts(title=suite, own=True))
            refuse_all(run, raw, RawEntry, where, error)
            return
    if entry.commit:
        _count_unread(out, entry.commit, repository)
    facts = _facts(suite, repository, entry)
    run = out.run(facts)
    if entry.date is not None and facts.started is None:
        run.flag(f"{where}/date", "a time", repr(entry.date)[:80])
    benches = (
        enumerate(entry.benches)
        if isinstance(entry, Entry)
        else _decoded_benches(run, out, f"{where}/benches", f"{_ENTRY}/benches/*", entry.benches)
    )
    _add_benches(run, f"{where}/benches", benches, tool=entry.tool, suite=suite)


def _count_unread(out: Tables, commit: CommitInfo, repository: str) -> None:
    """The fields of a commit that are known and not kept."""
    for name in ("author", "committer", "distinct", "tree_id", "url"):
        value = getattr(commit, name)
        if value is not _ABSENT and bytes(value) not in _EMPTY:
            if name == "url" and bytes(value) == msgspec.json.encode(f"{repository}/commit/{commit.id}"):
                continue
            out.leave_unread(f"{_ENTRY}/commit/{name}")
    if len((commit.message or "").strip().splitlines()) > 1:
        out.leave_unread(f"{_ENTRY}/commit/message (beyond its first line)")


def _facts(suite: str, repository: str, entry: Entry | RawEntry) -> RunFacts:
    commit, date = entry.commit, entry.date
    labels = {"tool": entry.tool, "repository": repository}
    return RunFacts(
        title=suite,
        commit=Commit(
            id=commit.id,
            time=parse_instant(commit.timestamp or ""),
            subject=next(iter((commit.message or "").strip().splitlines()), ""),
        )
        if commit and commit.id
        else None,
        started=None if date is None else parse_instant(date) if isinstance(date, str) else instant_of_number(date),
        labels={name: text for name, text in labels.items() if text},
        own=True,
    )


def _decoded_benches(
    run: RunRows, out: Tables, where: str, path: str, items: list[msgspec.Raw]
) -> list[tuple[int, Bench]]:
    """Each bench with its index; those that are none refuse the run, every one with its reason."""
    benches: list[tuple[int, Bench]] = []
    for index, item in enumerate(items):
        try:
            benches.append((index, read_fields(item, Bench, out, path)))
        except _DECODE_ERRORS as error:
            refuse_all(run, item, Bench, f"{where}/{index}", error)
    return benches


def _add_benches(run: RunRows, where: str, benches: Iterable[tuple[int, Bench]], *, tool: str, suite: str) -> None:
    params = {"suite": suite} if suite else None
    if tool == "go":
        for row in _repeats_joined(
            [row for index, bench in benches for row in _go_rows(run, f"{where}/{index}", bench)]
        ):
            run.measurement(metric="value", params=params, better=_better(tool, row["unit"]), **row)
        return
    measured: list[Bench] = []
    values: list[float] = []
    for index, bench in benches:
        value = bench.value
        if not isinstance(value, float):
            value = _value(run, f"{where}/{index}/value", bench)
            if value is None:
                continue
        if not isfinite(value):
            run.refuse(f"{where}/{index}/value", "a finite number", repr(value)[:80])
            continue
        measured.append(bench)
        values.append(value)
    kinds = [_unit_and_better(tool, bench.unit) for bench in measured]
    run.measurement_rows(
        benchmark=[bench.name for bench in measured],
        metric=["value"] * len(measured),
        value=values,
        unit=[unit for unit, _ in kinds],
        better=[better for _, better in kinds],
        params=[canonical_json(params) if params else ""] * len(measured),
        stddev=[_deviation(bench) for bench in measured] if tool == "benchmarkdotnet" else None,
        extra=[_extra_text(bench) for bench in measured],
    )


def _value(run: RunRows, where: str, bench: Bench) -> float | None:
    """The value as a number; None, flagged, if the bench failed; None, and the run refused, if it is something else."""
    value = _number(bench.value)
    if value is None:
        if bench.value is None or str(bench.value).strip() in _FAILED:
            found = "null" if bench.value is None else repr(bench.value)
            run.flag(where, "a number", f"{found} ({bench.name[:80]!r} failed, no row)")
        else:
            run.refuse(where, "a number", repr(bench.value)[:80])
    return value


def _extra(bench: Bench) -> dict[str, Any]:
    extra = {} if bench.range is None or bench.range == "" else {"range": bench.range}
    if bench.extra not in (None, ""):
        extra["extra"] = bench.extra
    return extra


def _extra_text(bench: Bench) -> str | None:
    if isinstance(bench.range, str) and bench.range and bench.extra is None:  # nearly always
        return f'{{"range":{encode_basestring(bench.range)}}}'
    extra = _extra(bench)
    return canonical_json(extra) if extra else None


def _deviation(bench: Bench) -> float | None:
    return _number(bench.range.removeprefix("±")) if isinstance(bench.range, str) else None


def _go_rows(run: RunRows, where: str, bench: Bench) -> list[dict[str, Any]]:
    """What one bench of Go says, as arguments of `RunRows.measurement`: several if its unit is a line."""
    value = _value(run, f"{where}/value", bench)
    if value is None:
        return []
    extra, words = _extra(bench), (bench.unit or "").split()
    unit = " ".join(words[:1])
    row = {"where": f"{where}/value", "benchmark": bench.name, "value": value, "unit": unit, "extra": extra}
    more = [
        {"where": f"{where}/unit", "benchmark": f"{bench.name} - {unit}", "value": number, "unit": unit, "extra": extra}
        for text, unit in zip(words[1::2], words[2::2], strict=False)
        if (number := _number(text)) is not None
    ]
    return [row, *more]


@lru_cache(maxsize=1024)
def _unit_and_better(tool: str, text: str | None) -> tuple[str, str]:
    """The unit without what does not belong to it, and which direction is better."""
    unit = " ".join((text or "").split())
    if tool == "benchmarkluau":
        unit = unit.lstrip("0123456789.,")
    return unit, _better(tool, unit)


def _number(value: float | str | None) -> float | None:
    if not isinstance(value, str):
        return value
    text = value.strip()
    return float(text.replace(",", "")) if text and _NUMBER.fullmatch(text) and text[-1].isdigit() else None


def _repeats_joined(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of one benchmark and unit as one row with samples; a name made from Go's unit yields to the file's own."""
    own = {row["benchmark"] for row in rows if row["where"].endswith("/value")}
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["where"].endswith("/value") or row["benchmark"] not in own:
            groups.setdefault((row["benchmark"], row["unit"]), []).append(row)
    return [_joined(group) for group in groups.values()]


def _joined(group: list[dict[str, Any]]) -> dict[str, Any]:
    if len(group) == 1:
        return group[0]
    samples = [row["value"] for row in group]
    statistics = sample_statistics(samples)
    return {**group[0], **statistics, "value": statistics["median"], "samples": samples}


def _better(tool: str, unit: str) -> str:
    if tool in _DECLARED:
        return _DECLARED[tool]
    if tool in _BETTER and _RATE.fullmatch(unit):
        return "higher"
    if tool == "go" and unit not in _GO_COSTS:
        return ""
    return _BETTER.get(tool, "")


FORMAT = Format(
    id="github-action-benchmark",
    title="github-action-benchmark history or array",
    made_by="the action's dev/bench/data.js, or a script's custom array",
    example='[{"name": "parse", "unit": "ms", "value": 250}]',
    claims=claims,
    read=read,
)
