"""github-action-benchmark: the history that the GitHub Action keeps (`dev/bench/data.js`), and its custom input.

    window.BENCHMARK_DATA = {"lastUpdate": …, "repoUrl": …, "entries": {"<suite>": [
        {"commit": {"id": …, "message": …, "timestamp": …, "author": {…}, …}, "date": …, "tool": "cargo",
         "benches": [{"name": …, "value": …, "unit": …, "range": "± 20", "extra": …}]}]}}

with or without the assignment and its semicolon; or the bare array `[{"name", "unit", "value", "range"?, "extra"?}]`
that a script gives to the Action. Every entry of a history is a run of its own, whose facts are never filled in from
the push; a bare array is one run.

| field | becomes | notes |
|---|---|---|
| suite | title; params `suite` | the Action compares within a suite only |
| commit.id, timestamp | commit, commit_time | |
| commit.message | commit_subject | its first line; authors and committers go nowhere |
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

Definition: https://github.com/benchmark-action/github-action-benchmark, `src/extract.ts` and `src/write.ts`.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from processor.decode import Buffer
from processor.formats import Format
from processor.instants import instant_of_number, parse_instant
from processor.mended import every_problem, pointer_step, read_mended
from processor.samples import sample_statistics
from processor.shape import Shape
from processor.tables import RunFacts, RunRows, Tables
from schemas.problems import problem_of
from schemas.records import Commit

_ASSIGNMENT = re.compile(rb"\s*window\.BENCHMARK_DATA\s*=\s*")
_NUMBER = re.compile(r"[-+]?(?:\d+|\d{1,3}(?:,\d{3})+)?(?:\.\d+)?(?:[eE][-+]?\d+)?", re.ASCII)
_RATE = re.compile(r"[^/]+/(?:ns|us|ms|s|sec|min|hr|day)")
_FAILED = {"", "NaN", "nan", "null"}

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


class History(msgspec.Struct):
    entries: dict[str, msgspec.Raw]


class CommitInfo(msgspec.Struct, gc=False):
    id: str | None = None
    message: str | None = None
    timestamp: str | None = None


class Bench(msgspec.Struct, gc=False):
    name: str
    value: float | str | None
    unit: str | None = ""
    range: str | float | None = None
    extra: Any = None


class Entry(msgspec.Struct):
    """An entry of a history; its benches are decoded with it if all are well-formed, else one by one."""

    benches: list[Bench]
    commit: CommitInfo | None = None
    date: float | str | None = None
    tool: str = ""


class RawEntry(msgspec.Struct):
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
        _add_benches(run, "", _decoded_benches(run, "", items), tool="", suite="")
        return
    history: History = read_mended(text, History, out)
    for suite, raw in history.entries.items():
        where = "/entries" + pointer_step(suite)
        try:
            entries = msgspec.json.decode(raw, type=list[msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            problem = problem_of(error, where)
            out.problem(problem.where, problem.expected, problem.found)
            continue
        for index, entry in enumerate(entries):
            _add_entry(out, f"{where}/{index}", suite, entry)


def _add_entry(out: Tables, where: str, suite: str, raw: msgspec.Raw) -> None:
    entry: Entry | RawEntry
    try:
        entry = msgspec.json.decode(raw, type=Entry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            entry = msgspec.json.decode(raw, type=RawEntry)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            run = out.run(RunFacts(title=suite, own=True))
            for problem in every_problem(raw, RawEntry, where) or [problem_of(error, where)]:
                run.refuse(problem.where, problem.expected, problem.found)
            return
    facts = _facts(suite, entry)
    run = out.run(facts)
    if entry.date is not None and facts.started is None:
        run.flag(f"{where}/date", "a time", repr(entry.date)[:80])
    benches = (
        enumerate(entry.benches)
        if isinstance(entry, Entry)
        else _decoded_benches(run, f"{where}/benches", entry.benches)
    )
    _add_benches(run, f"{where}/benches", benches, tool=entry.tool, suite=suite)


def _facts(suite: str, entry: Entry | RawEntry) -> RunFacts:
    commit, date = entry.commit, entry.date
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
        labels={"tool": entry.tool} if entry.tool else None,
        own=True,
    )


def _decoded_benches(run: RunRows, where: str, items: list[msgspec.Raw]) -> list[tuple[int, Bench]]:
    """Each bench with its index; those that are none refuse the run, every one with its reason."""
    benches = []
    for index, item in enumerate(items):
        try:
            benches.append((index, msgspec.json.decode(item, type=Bench)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            for problem in every_problem(item, Bench, f"{where}/{index}") or [problem_of(error, f"{where}/{index}")]:
                run.refuse(problem.where, problem.expected, problem.found)
    return benches


def _add_benches(run: RunRows, where: str, benches: Iterable[tuple[int, Bench]], *, tool: str, suite: str) -> None:
    params = {"suite": suite} if suite else None
    rows = [row for index, bench in benches for row in _rows(run, f"{where}/{index}", bench, tool)]
    if tool == "go":
        rows = _repeats_joined(rows)
    for row in rows:
        run.measurement(metric="value", params=params, better=_better(tool, row["unit"]), **row)


def _rows(run: RunRows, where: str, bench: Bench, tool: str) -> list[dict[str, Any]]:
    """What one bench says, as arguments of `RunRows.measurement`: none if it failed, several if Go's unit is a line."""
    value = _number(bench.value)
    if value is None:
        if bench.value is None or str(bench.value).strip() in _FAILED:
            found = "null" if bench.value is None else repr(bench.value)
            run.flag(f"{where}/value", "a number", f"{found} ({bench.name[:80]!r} failed, no row)")
        else:
            run.refuse(f"{where}/value", "a number", repr(bench.value)[:80])
        return []
    extra = {name: text for name in ("range", "extra") if (text := getattr(bench, name)) not in (None, "")}
    words = (bench.unit or "").split()
    unit = " ".join(words[:1] if tool == "go" else words)
    if tool == "benchmarkluau":
        unit = unit.lstrip("0123456789.,")
    row = {"where": f"{where}/value", "benchmark": bench.name, "value": value, "unit": unit, "extra": extra}
    if tool == "benchmarkdotnet" and isinstance(bench.range, str):
        row["stddev"] = _number(bench.range.removeprefix("±"))
    if tool != "go":
        return [row]
    more = [
        {"where": f"{where}/unit", "benchmark": f"{bench.name} - {unit}", "value": number, "unit": unit, "extra": extra}
        for text, unit in zip(words[1::2], words[2::2], strict=False)
        if (number := _number(text)) is not None
    ]
    return [row, *more]


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
