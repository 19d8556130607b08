"""asv (airspeed velocity): a result file of `asv run`, or its whole results folder as zip or tar.

    {"version": 2, "commit_hash": …, "env_name": …, "date": 1367127519000, "params": {"machine": …, "cpu": …},
     "python": "3.12", "requirements": {"numpy": "1.8"}, "env_vars": {}, "result_columns": ["result", "params", …],
     "results": {"module.time_sort": [[0.1, null], [["10", "20"]], …]}}

    results/benchmarks.json, results/<machine>/machine.json, results/<machine>/<commit>-<environment>.json

A result file is one run. A folder is one run per result file, each with its own facts and refused alone.

| field | becomes | notes |
|---|---|---|
| name in results | benchmark | |
| params, benchmarks.json: param_names | params | every combination, in asv's order; `param1`, … if names are unknown |
| version | benchmark_version | a hash of the benchmark's code |
| result | value | for times the median; null and NaN: see Failures |
| samples | samples, n, min, max, mean, median, stddev | with `asv run --record-samples` |
| stats_q_25, stats_q_75, stats_repeat | q1, q3, n | |
| stats_ci_99_a and _b, stats_number, started_at, duration | extra | number: iterations in a sample; duration: s |
| commit_hash, date | commit, commit_time | date is the commit's |
| started_at, duration | started, finished | of the first and of the last benchmark |
| env_name | title, label `env_name` | |
| params: cpu, num_cpu, ram, os; python | cpu, cores, ram_gib, os, runtime | see Environment |
| params: machine | label `machine` | |
| params, requirements, env_vars; machine.json | machine | machine.json fills what params leave out |
| profile, durations, what else benchmarks.json says | nothing | counted as unread; code is left where it is |

**Identity and stability.** A folder is sent again with a file more, and benchmarks.json is rewritten by every run.
Rows take no more from it than the names of parameters and the unit of `track_` benchmarks, and take these also where it
describes another version of the benchmark: a run then has the same digest as before, and versions are apart anyway.
Sent alone, without benchmarks.json, a parametrised benchmark is another series than sent in its folder.

**Unit, direction, metric** follow the name, as asv finds benchmarks by it: `time_` and `timeraw_` are metric `time` in
`s` (asv writes `seconds`), `mem_` metric `memory` and `peakmem_` metric `peakmemory` in `bytes`; lower is better.
`track_` is metric `track`, its unit is in benchmarks.json only, and nobody says which direction is better.

**Environment.** asv compares within one machine, Python, set of requirements and environment variables. So the runtime
names requirements and variables behind the Python, `CPython 3.12, numpy 1.8`; with a declared `--environment` all are
one by the sender's word. Where a machine's cpu is unknown its name stands for it, since two unknown machines are not
the same.

**Failures.** null is a benchmark that failed, NaN a skipped one: no row, but a problem that is kept.

**Dialects.** Version 1 has a number, null or `{result, params, stats, samples}` for each benchmark, and the rest in
`benchmark_version`, `started_at`, `duration`, `profiles` beside `results`. Columns may be missing at the end. ram is a
text like `8.2G`, a number of bytes, or in old files of KiB.

Definition: https://asv.readthedocs.io/ and `asv/results.py`.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from processor.formats import Format
from processor.reading.archive import Archive, archive_kind, open_archive
from processor.reading.decode import Buffer, rejected
from processor.reading.instants import instant_of_number
from processor.reading.mended import every_problem, pointer_step, read_fields, read_mended
from processor.reading.platforms import os_of
from processor.reading.samples import sample_statistics
from processor.reading.shape import Shape
from processor.tables import RunFacts, RunRows, Tables
from schemas.errors import Rejected
from schemas.problems import problem_of
from schemas.records import Commit, Machine, Problem

_JSON_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_KEYS = {"commit_hash", "params", "results"}
_DESCRIPTIONS, _MACHINE = "benchmarks.json", "machine.json"
_RESULT_FILE = re.compile(r"(?:.*/)?[0-9a-f]{7,40}-[^/]*\.json")
_KINDS = (
    (re.compile(r"(?:time|timeraw)_|Time(?:raw)?[A-Z_]"), ("time", "s", "lower")),
    (re.compile(r"mem_|Mem[A-Z_]"), ("memory", "bytes", "lower")),
    (re.compile(r"peakmem_|PeakMem[A-Z_]"), ("peakmemory", "bytes", "lower")),
    (re.compile(r"track_|Track[A-Z_]"), ("track", "", "")),
)
"""What a benchmark's own name begins with: (metric, unit, better)."""
_UNITS = {"seconds": "s", "unit": ""}  # `unit` is what asv writes where the author names none
_NO_VALUE = {None: "failed (null)", "NaN": "skipped (NaN)", "Infinity": "infinite", "-Infinity": "infinite"}
_STATS = ("ci_99_a", "ci_99_b", "q_25", "q_75", "number", "repeat")
_MAX_PARAMS = 100
_FREE_CHARACTERS = 16 << 20
_CHARACTERS_PER_BYTE = 50
_RAM = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_OS = re.compile(r"([A-Za-z]+) ([0-9]{1,4})(?:[.-].*)?")
_CORES = re.compile(r"\(([0-9]{1,4}) cores\)")
_PYTHON = re.compile(r"(pypy|PyPy)?([0-9]+\.[0-9]+)(?:[.0-9a-z]*)")

Scalar = str | int | float | bool | None


class Document(msgspec.Struct, forbid_unknown_fields=True):
    commit_hash: str
    results: dict[str, msgspec.Raw]
    params: dict[str, Any]
    date: float | None = None
    env_name: str | None = None
    python: Any = None
    requirements: dict[str, Any] | None = None
    env_vars: dict[str, Any] | None = None
    version: Scalar = None
    result_columns: list[str] | None = None
    benchmark_version: dict[str, Any] | None = None
    started_at: dict[str, Any] | None = None
    duration: dict[str, Any] | None = None


class OldResult(msgspec.Struct, forbid_unknown_fields=True):
    """A benchmark in version 1, unless it is a bare number or null."""

    result: Any
    params: list[list[Scalar]] | None = None
    stats: Any = None
    samples: Any = None


class Description(msgspec.Struct, forbid_unknown_fields=True):
    """A benchmark in benchmarks.json."""

    name: str = ""
    param_names: list[str] | None = None
    unit: str | None = None
    type: str | None = None


class Result(msgspec.Struct):
    """A benchmark of one result file, whatever the version: lists of a value per combination of parameters."""

    values: list[Any]
    params: list[list[Scalar]]
    version: str = ""
    started_at: Any = None
    duration: Any = None
    stats: list[dict[str, Any]] = []
    samples: list[Any] = []


def claims(shape: Shape) -> bool:
    if shape.kind == "archive":
        return any(_last(name) in (_DESCRIPTIONS, _MACHINE) for name in shape.names)
    return shape.kind == "object" and shape.keys.keys() >= _KEYS


def read(data: Buffer, out: Tables) -> None:
    if not archive_kind(data):
        _read_run(data, out, where="", beside=None)
        return
    archive = open_archive(data, out.limits)
    names = _result_files(archive, out)
    if not names and not any(_last(name) == _DESCRIPTIONS for name in archive.names):
        raise rejected("archive", "a results folder of asv", f"{len(archive.names)} files, no result among them")
    known = frozenset(archive.names)
    machines: dict[str, dict[str, Any]] = {}
    descriptions: dict[str, dict[str, Description]] = {}
    for name in names:
        folder = name.rpartition("/")[0]
        if folder not in machines:
            machines[folder] = _machine_of(archive, known, folder, out)
        described_by = _nearest(known, folder)
        if described_by not in descriptions:
            descriptions[described_by] = _descriptions(archive, described_by, out)
        beside = Beside(machines[folder], descriptions[described_by])
        content = archive.read(name)
        try:
            _read_run(content, out, where=name, beside=beside)
        except Rejected as refusal:
            run = out.run(RunFacts(own=True))
            for problem in refusal.problems:
                run.refuse(f"{name} {problem.where}", problem.expected, problem.found)


# --- the folder ---


def _result_files(archive: Archive, out: Tables) -> list[str]:
    """asv's own rule: JSON beside a machine.json; without one, what is named as it names results."""
    folders = {name.rpartition("/")[0] for name in archive.names if _last(name) == _MACHINE}
    found = []
    for name in archive.names:
        last = _last(name)
        if last in (_MACHINE, _DESCRIPTIONS):
            continue
        beside = name.rpartition("/")[0] in folders and last.endswith(".json") and not last.startswith(".")
        if beside or _RESULT_FILE.fullmatch(name):
            found.append(name)
        else:
            out.leave_unread("(other files)")
    return found


def _machine_of(archive: Archive, known: frozenset[str], folder: str, out: Tables) -> dict[str, Any]:
    name = f"{folder}/{_MACHINE}".removeprefix("/")
    if name not in known:
        return {}
    machine: dict[str, Any] = _flagged_json(archive, name, dict[str, Any], out) or {}
    machine.pop("version", None)
    return _plain(machine, f"{_MACHINE}/*", out)


def _nearest(known: frozenset[str], folder: str) -> str:
    """benchmarks.json in the nearest folder above, or empty."""
    while folder:
        folder = folder.rpartition("/")[0]
        name = f"{folder}/{_DESCRIPTIONS}".removeprefix("/")
        if name in known:
            return name
    return ""


def _descriptions(archive: Archive, name: str, out: Tables) -> dict[str, Description]:
    if not name:
        return {}
    items: dict[str, msgspec.Raw] = _flagged_json(archive, name, dict[str, msgspec.Raw], out) or {}
    descriptions: dict[str, Description] = {}
    for benchmark, item in items.items():
        if benchmark == "version":  # of the file
            continue
        try:
            descriptions[benchmark] = read_fields(item, Description, out, f"{_DESCRIPTIONS}/*")
        except _JSON_ERRORS as error:
            problem = problem_of(error, f"{name} {pointer_step(benchmark)}")
            out.problem(problem.where, problem.expected, problem.found, effect="kept")
    return descriptions


def _flagged_json(archive: Archive, name: str, type: Any, out: Tables) -> Any:
    """None, flagged, if it is no JSON of `type`: the results are there without it."""
    try:
        return read_mended(archive.read(name), type, out)
    except Rejected as refusal:
        for problem in refusal.problems:
            out.problem(f"{name} {problem.where}", problem.expected, problem.found, effect="kept")
        return None


# --- one result file ---


@dataclass(frozen=True)
class Beside:
    """What an archive holds beside a result file."""

    machine: Mapping[str, Any]
    descriptions: Mapping[str, Description]


def _read_run(data: Buffer, out: Tables, *, where: str, beside: Beside | None) -> None:
    """One run. Raises Rejected, and begins none, if the file as a whole cannot be read.

    `where` is the file's path in the archive, empty for a file sent alone, which has nothing beside it.
    """
    document: Document = read_mended(data, Document, out)
    document.params = _plain(document.params, "/params/*", out)
    document.requirements = _plain(document.requirements or {}, "/requirements/*", out)
    document.env_vars = _plain(document.env_vars or {}, "/env_vars/*", out)
    before = f"{where} " if where else ""
    machine = beside.machine if beside else {}
    results: dict[str, Result] = {}
    problems: list[Problem] = []
    for name, item in document.results.items():
        try:
            results[name] = _result(document, name, item, out)
        except Rejected as refusal:
            at = f"{before}/results{pointer_step(name)}"
            problems += [
                msgspec.structs.replace(problem, where=(at + problem.where).rstrip("/")) for problem in refusal.problems
            ]
    allowed = _FREE_CHARACTERS + _CHARACTERS_PER_BYTE * len(data)
    spelt = sum(_spelt_characters(name, result) for name, result in results.items())
    if spelt > allowed:
        raise rejected("/results", f"names and params that make at most {allowed:,} characters", f"{spelt:,}")
    facts = _facts(document, machine, list(results.values()), own=beside is not None)
    run = out.run(facts)
    for problem in problems:
        run.refuse(problem.where, problem.expected, problem.found)
    if document.version not in (None, 1, 2):
        run.flag(f"{before}/version", "1 or 2", repr(document.version)[:80])
    if document.date is not None and instant_of_number(document.date) is None:
        run.flag(f"{before}/date", "a time in milliseconds", repr(document.date))
    names = {_text(machine.get("machine")), _text(document.params.get("machine"))} - {""}
    if len(names) > 1:
        found = " and ".join(sorted(repr(name)[:80] for name in names))
        run.flag(f"{before}/params/machine", "the machine of machine.json", found)
    for name, result in results.items():
        description = beside.descriptions.get(name) if beside else None
        _add(run, f"{before}/results{pointer_step(name)}", name, result, description)


def _spelt_characters(name: str, result: Result) -> int:
    """At most as many characters as the names and params of its rows have: a small file can spell a lot of them."""
    longest = sum(max((len(str(value)) for value in values), default=0) for values in result.params)
    return len(result.values) * (len(name) + longest)


def _add(run: RunRows, where: str, name: str, result: Result, description: Description | None) -> None:
    """A row per value that is a number; the others are flagged together."""
    if all(value is None for value in result.values):
        run.flag(where, "a number", "null: it failed")
        return
    combinations = math.prod(map(len, result.params))
    if len(result.values) != combinations:
        run.flag(where, f"{combinations} results, one per combination of params", f"{len(result.values)}")
    metric, unit, better = _kind(name)
    if not unit and description and description.unit:
        unit = _UNITS.get(description.unit, description.unit)
    names = _param_names(description, len(result.params))
    others: Counter[str] = Counter()
    for index, (value, params) in enumerate(zip(result.values, itertools.product(*result.params), strict=False)):
        if value is None or (isinstance(value, str) and value in _NO_VALUE):
            others[_NO_VALUE[value]] += 1
            continue
        stats = result.stats[index] if index < len(result.stats) else {}
        samples = result.samples[index] if index < len(result.samples) else None
        of_samples = sample_statistics(samples) if samples else {}
        interval = [stats.get("ci_99_a"), stats.get("ci_99_b")]
        extra = {"ci_99": interval if interval != [None, None] else None, "number": stats.get("number")}
        extra |= {"started_at": result.started_at, "duration": result.duration, **stats.get("other", {})}
        run.measurement(
            where=f"{where} result {index}",
            benchmark=name,
            metric=metric,
            value=value,
            unit=unit,
            better=better,
            params=dict(zip(names, params, strict=True)),
            samples=samples or None,
            n=len(samples) if samples else _count(stats.get("repeat")),
            min=of_samples.get("min", stats.get("min")),
            max=of_samples.get("max", stats.get("max")),
            mean=of_samples.get("mean", stats.get("mean")),
            median=of_samples.get("median"),
            stddev=of_samples.get("stddev", stats.get("std")),
            q1=stats.get("q_25"),
            q3=stats.get("q_75"),
            benchmark_version=result.version,
            extra={key: value for key, value in extra.items() if value is not None},
        )
    if others:
        run.flag(where, "a number", ", ".join(f"{count} {kind}" for kind, count in others.items()))


def _kind(name: str) -> tuple[str, str, str]:
    own_name = name.rpartition(".")[2]
    return next((kind for pattern, kind in _KINDS if pattern.match(own_name)), ("value", "", ""))


def _param_names(description: Description | None, count: int) -> list[str]:
    names = (description.param_names if description else None) or []
    if len(names) == count and len(set(names)) == count:
        return names
    return [f"param{number}" for number in range(1, count + 1)]


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 < value < 1 << 62 else None


# --- one benchmark of either version ---


def _result(document: Document, name: str, item: msgspec.Raw, out: Tables) -> Result:
    """Raises Rejected with every problem, its path below the benchmark."""
    if document.result_columns is None:
        return _old_result(document, name, item, out)
    fields: dict[str, Any] = {}
    stats: dict[str, Any] = {}
    cells = _decoded(item, list[msgspec.Raw])
    for place, (column, cell) in enumerate(itertools.zip_longest(document.result_columns, cells)):
        if cell is None or bytes(cell) == b"null":
            continue
        if column in ("result", "samples"):
            fields[column] = _decoded(cell, Any, f"/{place}")
        elif column == "params":
            fields[column] = _decoded(cell, list[list[Scalar]], f"/{place}")
        elif column in ("version", "started_at", "duration"):
            fields[column] = _decoded(cell, str | int | float, f"/{place}")
        elif column is not None and column.removeprefix("stats_") in _STATS:
            stats[column.removeprefix("stats_")] = _decoded(cell, list[str | int | float | None], f"/{place}")
        else:
            out.leave_unread(f"/results/*/{column or 'more than result_columns'}")
    length = max(map(len, stats.values()), default=0)
    per_value = [
        {key: values[index] for key, values in stats.items() if index < len(values)} for index in range(length)
    ]
    return _made(fields, per_value)


def _old_result(document: Document, name: str, item: msgspec.Raw, out: Tables) -> Result:
    fields: dict[str, Any] = {"result": _decoded(item, Any)}
    stats: list[Any] = []
    if isinstance(fields["result"], dict):
        try:
            old: OldResult = read_fields(item, OldResult, out, "/results/*")
        except _JSON_ERRORS as error:
            raise Rejected(every_problem(item, OldResult, "") or [problem_of(error)]) from error
        fields = {"result": old.result, "params": old.params, "samples": old.samples}
        stats = old.stats if isinstance(old.stats, list) else [old.stats]
    fields["version"] = (document.benchmark_version or {}).get(name)
    fields["started_at"] = (document.started_at or {}).get(name)
    fields["duration"] = (document.duration or {}).get(name)
    return _made(fields, [_old_stats(one) for one in stats])


def _old_stats(stats: Any) -> dict[str, Any]:
    if not isinstance(stats, dict):
        return {}
    known = {key: _scalar(stats.get(key)) for key in (*_STATS, "min", "max", "mean", "std") if key in stats}
    interval = stats.get("ci_99")
    if isinstance(interval, list) and len(interval) == 2:
        known |= {"ci_99_a": _scalar(interval[0]), "ci_99_b": _scalar(interval[1])}
    known.setdefault("repeat", _scalar(stats.get("n")))
    other = {key: _scalar(value) for key, value in stats.items() if key not in known and key not in ("ci_99", "n")}
    return {**known, "other": other}


def _scalar(value: Any) -> Scalar:
    """`value` if it is one of usual size: nothing nests or overflows in what a row keeps besides."""
    if isinstance(value, int) and abs(value) > 1 << 63:
        return None
    return value if isinstance(value, str | int | float | bool) else None


def _made(fields: Mapping[str, Any], stats: list[dict[str, Any]]) -> Result:
    params, values, samples = fields.get("params") or [], fields.get("result"), fields.get("samples")
    if len(params) > _MAX_PARAMS:
        raise rejected("", f"at most {_MAX_PARAMS} params", f"{len(params):,}")
    values = values if isinstance(values, list) else [values]
    nested = next((index for index, value in enumerate(values) if isinstance(value, dict | list)), None)
    if nested is not None:
        raise rejected(f" result {nested}", "a number", "an array or object")
    samples = samples if isinstance(samples, list) else []
    if samples and not any(one is None or isinstance(one, list) for one in samples):
        samples = [samples]  # of a benchmark without params
    version = fields.get("version")
    return Result(
        values=values,
        params=params,
        version="" if version is None else str(version),
        started_at=_scalar(fields.get("started_at")),
        duration=_scalar(fields.get("duration")),
        stats=stats,
        samples=[one if one is None else _numbers(one, f"/samples/{index}") for index, one in enumerate(samples)],
    )


def _numbers(values: Any, where: str) -> list[float]:
    try:
        return msgspec.convert(values, list[float])
    except msgspec.ValidationError as error:
        raise Rejected([problem_of(error, where)]) from error


def _decoded(item: msgspec.Raw, type: Any, where: str = "") -> Any:
    try:
        return msgspec.json.decode(item, type=type)
    except _JSON_ERRORS as error:
        raise Rejected([problem_of(error, where)]) from error


# --- facts ---


def _facts(document: Document, machine: Mapping[str, Any], results: Sequence[Result], *, own: bool) -> RunFacts:
    params = {**machine, **{key: value for key, value in document.params.items() if value not in (None, "")}}
    python = _text(document.python) or _text(params.get("python"))
    matrix = _matrix(document)
    env_name = document.env_name or "-".join([f"py{python}", *(step.replace(" ", "") for step in matrix)])
    name = _text(params.get("machine"))
    started, finished = _times(results)
    extra = {
        "params": params,
        "python": python,
        "requirements": document.requirements,
        "env_vars": document.env_vars,
        "env_name": env_name,
    }
    date = instant_of_number(document.date) if document.date is not None else None
    return RunFacts(
        title=env_name,
        commit=Commit(id=document.commit_hash, time=date) if document.commit_hash else None,
        started=started,
        finished=finished,
        machine=Machine(
            cpu=_text(params.get("cpu")) or name,
            cores=_cores(params),
            ram_gib=_ram_gib(_text(params.get("ram"))),
            os=_os(_text(params.get("os"))),
            runtime=", ".join(step for step in (_runtime(python), *matrix) if step),
        ),
        machine_extra={key: value for key, value in extra.items() if value},
        labels={"tool": "asv", "env_name": env_name} | ({"machine": name} if name else {}),
        own=own,
    )


def _plain(fields: dict[str, Any], name: str, out: Tables) -> dict[str, Any]:
    """`fields` without what nests, which asv does not write: it is counted, and cannot nest too deeply to be kept."""
    plain = {key: value for key, value in fields.items() if not isinstance(value, dict | list)}
    if len(plain) < len(fields):
        out.leave_unread(name, len(fields) - len(plain))
    return plain


def _matrix(document: Document) -> list[str]:
    """What asv lets vary besides the machine and Python: `numpy 1.8`, `OMP_NUM_THREADS=1`; sorted."""
    requirements = [f"{name} {_text(version)}".strip() for name, version in (document.requirements or {}).items()]
    variables = [f"{name}={_text(value)}" for name, value in (document.env_vars or {}).items()]
    return sorted(requirements) + sorted(variables)


def _times(results: Sequence[Result]) -> tuple[datetime | None, datetime | None]:
    """When the first benchmark began and the last one ended."""
    begins, ends = [], []
    for result in results:
        if isinstance(result.started_at, int | float) and instant_of_number(result.started_at):
            seconds = result.duration if isinstance(result.duration, int | float) else 0
            begins.append(result.started_at)
            ends.append(result.started_at + 1000.0 * seconds)
    return (instant_of_number(min(begins)), instant_of_number(max(ends))) if begins else (None, None)


def _runtime(python: str) -> str:
    match = _PYTHON.fullmatch(python)
    return f"{'PyPy' if match[1] else 'CPython'} {match[2]}" if match else python


def _cores(params: Mapping[str, Any]) -> int | None:
    match = re.fullmatch(r"[0-9]{1,9}", _text(params.get("num_cpu"))) or _CORES.search(_text(params.get("cpu")))
    return (int(match[match.lastindex or 0]) or None) if match else None


def _ram_gib(text: str) -> int | None:
    match = _RAM.fullmatch(text)
    if match is None:
        return None
    size = float(match[1])
    if match[2]:
        size *= 1024.0 ** (" KMGT".index(match[2].upper()))
    elif size < 1 << 30:  # as bytes less than any machine has, as KiB up to 1 TiB
        size *= 1024
    gib = round(size / (1 << 30))
    return gib if 0 < gib < 1 << 31 else None


def _os(text: str) -> str:
    """Name and major version of what `platform` says: `Linux 5.15.0-91-generic` is `Linux 5`."""
    match = _OS.fullmatch(text)
    if match is None:
        return text
    return os_of(match[1], str(int(match[2])))


def _text(value: Any) -> str:
    """Text or a number as text; empty for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return value.strip() if isinstance(value, str) else repr(value)


def _last(name: str) -> str:
    return name.rpartition("/")[2]


FORMAT = Format(
    id="asv",
    title="asv (airspeed velocity): a result file, or the results folder",
    made_by="asv run --record-samples, then tar -czf FILE .asv/results",
    example="""{"version": 2, "commit_hash": "8d3c1d0c8a6a9f2b6d0c5e3f4a1b2c3d4e5f6a7b",
 "params": {"machine": "example"}, "result_columns": ["result", "params"],
 "results": {"speed.time_parse": [[0.25], []]}}""",
    claims=claims,
    read=read,
)
