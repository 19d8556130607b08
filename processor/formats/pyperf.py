"""pyperf: the JSON of `pyperf timeit -o FILE`, of scripts that use its Runner, and of pyperformance; gzip or not.

    {"version": "1.0", "metadata": {…},
     "benchmarks": [{"metadata": {"name": …, "loops": …, "unit": "second", …},
                     "runs": [{"metadata": {"date": …, …}, "warmups": [[loops, value], …], "values": […]}, …]}]}

One file is one run, or one for each machine and Python in it; each benchmark is one measurement. What pyperf calls a
run is a process that took some of the samples. Metadata that all have in common stands once: the suite's holds for all
benchmarks, a benchmark's for all its runs.

| field | becomes | notes |
|---|---|---|
| name | benchmark | of the first run, wherever it stands; a benchmark without one refuses its run |
| timeit_stmt, timeit_setup, timeit_teardown, command | params | `pyperf timeit` calls every statement `timeit` |
| unit | metric, unit | second `time` in s, byte `memory` in B, integer `value`; second if it is not given |
| values of all runs | samples, in order | per loop iteration, as pyperf has divided them |
| their mean | value | what pyperf shows and compares; median and the others are computed beside it |
| runs | extra `runs` | of each its count of values, its warmups and its own metadata |
| other metadata of the benchmark | extra | loops, inner_loops, tags, description |
| cpu_model_name or cpu_machine, cpu_count | cpu, cores | |
| platform | os | for Linux the kernel's major version, as in pytest-benchmark |
| python_implementation, python_version | runtime | `CPython 3.12`; of PyPy the Python version |
| cpu_…, python_…, hostname, aslr, timer, boot_time, platform | machine | |
| python_executable, python_config_args | none | paths, which may name a person; in the loss report |
| commit_id, commit_branch, commit_date | commit | pyperformance writes them |
| perf_version, performance_version | labels `tool`, `pyperformance` | |
| date, duration | started, finished | first run's start to last run's end; local time without offset, taken as UTC |

**Direction.** Less is better for seconds and bytes; an integer has no direction. **Identity.** name and params; loops
are calibrated anew each time and are none.

**Calibration runs** have warmups and no values: they are in extra `runs` with 0 values. A benchmark of which only these
are left gives no row, a kept problem.

**Dialects.** Version `"1.0"`; 6 (pyperf 0.9.6), whose warmups are raw and are divided by their loops here, as pyperf
does; 5 (0.8.3), with `common_metadata` and `samples`. pyperf reads no other version and neither do we. A suite's
metadata may hold all that a single benchmark has to say.

Definition: https://github.com/psf/pyperf, `pyperf/_bench.py` and `pyperf/_metadata.py`.
"""

import math
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, NamedTuple

import msgspec

from processor.formats import Format
from processor.reading.decode import Buffer, rejected
from processor.reading.instants import parse_instant
from processor.reading.mended import every_problem, read_fields, read_mended
from processor.reading.platforms import os_of
from processor.reading.samples import sample_statistics
from processor.reading.shape import Shape
from processor.tables import RunFacts, RunRows, Tables
from schemas.errors import Rejected
from schemas.problems import problem_of
from schemas.records import Commit, Machine, Problem

Metadata = dict[str, Any]

VERSIONS = ("1.0", 6, 5)

_METRICS = {"second": ("time", "s", "lower"), "byte": ("memory", "B", "lower"), "integer": ("value", "", "")}
_IDENTITY = ("timeit_stmt", "timeit_setup", "timeit_teardown", "command")
_NOTHING = ("'pass'", "pass")  # what timeit_setup and timeit_teardown are unless given
_MACHINE = {"platform", "hostname", "aslr", "timer", "boot_time"}
_MACHINE_PREFIXES = ("cpu_", "python_")
_NOT_KEPT = {"python_executable", "python_config_args"}
_ELSEWHERE = {
    *("name", "unit", "perf_version", "performance_version", "commit_id", "commit_branch", "commit_date"),
    *_IDENTITY,
    *_NOT_KEPT,
}
_IMPLEMENTATIONS = {"cpython": "CPython", "pypy": "PyPy", "graalpython": "GraalPy", "graalpy": "GraalPy"}
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Document(msgspec.Struct, forbid_unknown_fields=True):
    benchmarks: list[msgspec.Raw]
    version: str | int | None = None
    metadata: Metadata | None = None


class Process(msgspec.Struct, forbid_unknown_fields=True):
    """What the tool calls a run."""

    values: list[float] | None = None
    samples: list[float] | None = None
    """The values of version 5."""
    warmups: list[tuple[Annotated[int, msgspec.Meta(ge=1, le=1 << 53)], float]] | None = None
    metadata: Metadata | None = None


class Benchmark(msgspec.Struct, forbid_unknown_fields=True):
    runs: list[msgspec.Raw]
    metadata: Metadata | None = None
    common_metadata: Metadata | None = None
    """The metadata of version 5."""


class Suite(NamedTuple):
    version: str | int
    metadata: Metadata


class Measured(NamedTuple):
    """A benchmark with its place, its processes, what holds for all of them, and what holds for its first one."""

    where: str
    processes: list[Process]
    common: Metadata
    first: Metadata


def claims(shape: Shape) -> bool:
    if shape.kind != "object" or "benchmarks" not in shape.keys:
        return False
    if {"context", "machine_info", "commit_info"} & shape.keys.keys():
        return False
    try:
        first = msgspec.json.decode(shape.keys["benchmarks"], type=list[msgspec.Raw])[:1]
        keys = msgspec.json.decode(first[0], type=dict[str, msgspec.Raw]) if first else {}
    except _DECODE_ERRORS:
        return False
    return "runs" in keys and not {"name", "real_time", "stats"} & keys.keys()


def read(data: Buffer, out: Tables) -> None:
    document: Document = read_mended(data, Document, out)
    if document.version not in VERSIONS:
        expected = f"one of {', '.join(map(repr, VERSIONS))}"
        raise rejected("/version", expected, repr(document.version)[:80])
    suite = Suite(document.version, document.metadata or {})
    of_machines: dict[Machine, list[Measured]] = {}
    wrong: list[Problem] = []
    for index, item in enumerate(document.benchmarks):
        try:
            measured = _measured(item, f"/benchmarks/{index}", suite, out)
        except Rejected as refusal:
            wrong += refusal.problems
        else:
            of_machines.setdefault(_machine(measured.first), []).append(measured)
    for machine, group in of_machines.items() or [(_machine(suite.metadata), [])]:
        run = out.run(_facts(machine, group, suite.metadata))
        for problem in wrong:  # of no machine that we know: the file's first run has lost them
            run.refuse(problem.where, problem.expected, problem.found)
        wrong = []
        for measured in group:
            _add(run, measured)
    places = [suite.metadata, *(measured.common for group in of_machines.values() for measured in group)]
    for name in _NOT_KEPT:
        if any(name in metadata for metadata in places):
            out.leave_unread(f"metadata/{name}")


def _measured(item: msgspec.Raw, where: str, suite: Suite, out: Tables) -> Measured:
    """A benchmark with what it inherits; raises Rejected with all that is wrong in it."""
    try:
        benchmark: Benchmark = read_fields(item, Benchmark, out, "/benchmarks/*")
    except _DECODE_ERRORS as error:
        raise Rejected(every_problem(item, Benchmark, where) or [problem_of(error, where)]) from error
    common = {**suite.metadata, **((benchmark.common_metadata if suite.version == 5 else benchmark.metadata) or {})}
    processes = []
    wrong: list[Problem] = []
    for index, raw in enumerate(benchmark.runs):
        at = f"{where}/runs/{index}"
        try:
            process: Process = read_fields(raw, Process, out, "/benchmarks/*/runs/*")
        except _DECODE_ERRORS as error:
            wrong += every_problem(raw, Process, at) or [problem_of(error, at)]
            continue
        if suite.version == 5:
            process.values = process.samples
        if suite.version != "1.0" and process.warmups:
            inner = {**common, **(process.metadata or {})}.get("inner_loops", 1)
            inner = inner if isinstance(inner, int) and 0 < inner < 1 << 53 else 1
            process.warmups = [(loops, value / (loops * inner)) for loops, value in process.warmups]
        processes.append(process)
    if wrong:
        raise Rejected(wrong)
    first = {**common, **((processes[0].metadata if processes else None) or {})}
    return Measured(where, processes, common, first)


# --- the run ---


def _machine(metadata: Mapping[str, Any]) -> Machine:
    cores = metadata.get("cpu_count")
    system, _, release = _text(metadata, "platform").partition("-")
    implementation = _text(metadata, "python_implementation")
    text = _text(metadata, "python_version")[:200]
    version = re.search(r"\(Python (\d{1,4}\.\d{1,4})", text) or re.match(r"(\d{1,4}\.\d{1,4})", text)
    name = _IMPLEMENTATIONS.get(implementation.lower(), implementation)
    return Machine(
        cpu=_text(metadata, "cpu_model_name") or _text(metadata, "cpu_machine"),
        cores=cores if isinstance(cores, int) and not isinstance(cores, bool) and 0 < cores < 1 << 31 else None,
        os=os_of(system, release.partition("-")[0]),
        runtime=f"{name} {version[1]}" if version else name,
    )


def _facts(machine: Machine, group: list[Measured], suite: Metadata) -> RunFacts:
    metadata = group[0].first if group else suite
    started, finished = _times(group)
    commit = _text(metadata, "commit_id")
    tools = {"pyperformance": _text(metadata, "performance_version")}
    return RunFacts(
        commit=Commit(
            id=commit,
            time=parse_instant(_text(metadata, "commit_date")),
            branch=_text(metadata, "commit_branch"),
        )
        if commit
        else None,
        started=started,
        finished=finished,
        machine=machine,
        machine_extra=_of_machine(metadata) or None,
        labels={"tool": f"pyperf {_text(metadata, 'perf_version')}".strip()}
        | {name: version for name, version in tools.items() if version},
    )


def _of_machine(metadata: Metadata) -> Metadata:
    return {
        name: value
        for name, value in metadata.items()
        if (name in _MACHINE or name.startswith(_MACHINE_PREFIXES))
        and name not in _NOT_KEPT
        and name not in ("cpu_freq", "cpu_temp")  # a process's own
    }


def _times(group: list[Measured]) -> tuple[datetime | None, datetime | None]:
    """When the first process began and the last one ended, as far as they say so."""
    starts, ends = [], []
    for measured in group:
        for process in measured.processes:
            metadata = {**measured.common, **(process.metadata or {})}
            start, duration = parse_instant(_text(metadata, "date")), metadata.get("duration")
            if start is None:
                continue
            starts.append(start)
            try:
                ends.append(start + timedelta(seconds=duration if isinstance(duration, int | float) else 0))
            except (OverflowError, ValueError):
                ends.append(start)
    return min(starts, default=None), max(ends, default=None)


# --- measurements ---


def _add(run: RunRows, measured: Measured) -> None:
    where, first = measured.where, measured.first
    name, unit = first.get("name"), first.get("unit", "second")
    if not isinstance(name, str) or not name.strip():
        run.refuse(f"{where}/metadata/name", "a name", repr(name)[:80] if name is not None else "none")
    if not isinstance(unit, str):
        run.refuse(f"{where}/metadata/unit", "text", repr(unit)[:80])
    samples: list[float] = []
    for index, process in enumerate(measured.processes):
        own = process.metadata or {}
        for key in ("name", "unit"):
            if (found := own.get(key, measured.common.get(key))) != first.get(key):
                run.refuse(f"{where}/runs/{index}/metadata/{key}", repr(first.get(key))[:80], repr(found)[:80])
        samples += process.values or []
    if run.refused or not isinstance(name, str) or not isinstance(unit, str):
        return
    if not samples:
        run.flag(f"{where}/runs", "a run with values", f"calibration only: {name[:80]!r} gives no value")
        return
    metric, symbol, better = _METRICS.get(unit, ("value", unit, ""))
    statistics: dict[str, Any] = dict(sample_statistics(samples))
    mean = statistics["mean"]
    run.measurement(
        where=f"{where}/runs",
        benchmark=name.strip(),
        metric=metric,
        value=math.inf if mean is None else mean,
        unit=symbol,
        better=better,
        params=_params(first),
        samples=samples,
        extra=_extra(run, measured),
        **statistics,
    )


def _params(metadata: Metadata) -> dict[str, Any]:
    return {
        name: value
        for name in _IDENTITY
        if isinstance(value := metadata.get(name), str | int | float)
        and not (name in ("timeit_setup", "timeit_teardown") and value in _NOTHING)
    }


def _extra(run: RunRows, measured: Measured) -> dict[str, Any]:
    """What the benchmark says besides; what the run says already is left out."""
    told = run.facts.machine_extra or {}
    nothing = object()

    def rest(metadata: Metadata) -> Metadata:
        return {
            key: value
            for key, value in metadata.items()
            if key not in _ELSEWHERE and told.get(key, nothing) != value and value is not None
        }

    processes = []
    for process in measured.processes:
        facts: Metadata = {"values": len(process.values or [])}
        if process.warmups:
            facts["warmups"] = process.warmups
        if own := rest(process.metadata or {}):
            facts["metadata"] = own
        processes.append(facts)
    return {**rest(measured.common), "runs": processes}


def _text(metadata: Mapping[str, Any], key: str) -> str:
    value = metadata.get(key)
    return value.strip() if isinstance(value, str) else ""


FORMAT = Format(
    id="pyperf",
    title="pyperf JSON",
    made_by="python -m pyperf timeit STATEMENT -o FILE",
    example="""{"version": "1.0", "metadata": {"name": "parse", "unit": "second"}, "benchmarks": [
  {"runs": [{"values": [0.25, 0.26]}]}
]}""",
    claims=claims,
    read=read,
)
