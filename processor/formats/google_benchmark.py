"""Google Benchmark: the JSON of `--benchmark_out=FILE --benchmark_out_format=json`.

    {"context": {"date": …, "num_cpus": …, "library_version": …, …},
     "benchmarks": [{"name": …, "run_name": …, "run_type": "iteration", "repetition_index": …, "threads": …,
                     "iterations": …, "real_time": …, "cpu_time": …, "time_unit": "ns", <counter>: <number>, …}]}

One file is one run. Rows of one name and time unit are the repetitions of one benchmark: each of its metrics becomes
one measurement whose samples they are; value is their median.

| field | becomes | notes |
|---|---|---|
| run_name, else name | benchmark, params | `key:value` parts at the end (`/n:8/threads:4`) are params |
| real_time, cpu_time | metric | unit is time_unit (`ns` if absent), lower is better |
| any other number | metric | a counter; higher is better for `…_per_second`, lower for memory |
| iterations, repetitions, threads, label, …_index, other text | extra | a list where repetitions differ |
| mean, median, stddev, cv | none | they follow from the samples; in the loss report; see below where there are none |
| cpu_coefficient, real_coefficient | metric | `derived`; params `big_o`: a coefficient of N says nothing of one of N² |
| rms, other aggregates | metric | `derived`, `real_time_<name>`; percentages have no unit |
| error_occurred, skipped | none | a kept problem: the time of such a row is 0 and was never measured |
| context.num_cpus | cores | |
| context.executable, library_version | title (its last part), label `tool` | |
| context, the rest | machine | |
| context.date | started | without an offset (before 1.5.1) it is taken as UTC |

**Aggregates only** (`--benchmark_report_aggregates_only`): mean, median, stddev, min and max of a benchmark are one
`derived` measurement, n its repetitions, value the median or else the mean; cv is in extra.

**Dialects.** context may be missing. Files without run_type: `x_mean` is an aggregate if there is `x`, or another of
its aggregates. Bare NaN and Infinity: such a counter gives no row, a kept problem. A counter may be called like a field
of the tool (`name`): the first of the two is the tool's, the other gives a kept problem. Where another program has
merged the two and only the counter is left, run_name names the benchmark, or the run is refused.

Definition: https://github.com/google/benchmark, `docs/user_guide.md` and `src/json_reporter.cc`.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from processor.formats import Format
from processor.reading.decode import Buffer
from processor.reading.instants import parse_instant
from processor.reading.mended import every_problem, read_mended
from processor.reading.samples import sample_statistics
from processor.reading.shape import Shape
from processor.tables import RunFacts, RunRows, Tables
from schemas.problems import problem_of
from schemas.records import Machine

Counters = dict[str, float]

_CONSTANTS = {"NaN": math.nan, "-NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_TIMES = ("real_time", "cpu_time")
_FOLDED = ("mean", "median", "stddev", "min", "max")
_STANDARD = {"mean", "median", "stddev", "cv"}
_OLD_AGGREGATE = re.compile(r"(.+)_(mean|median|stddev|cv|BigO|RMS)", re.DOTALL)
_NAMED_ARGUMENT = re.compile(r"([A-Za-z_]\w*):([^:].*)", re.DOTALL)
_TIME_TYPES = {"process_time", "real_time", "manual_time"}
_MEMORY = {
    "max_bytes_used": "B",
    "total_allocated_bytes": "B",
    "net_heap_growth": "B",
    "allocs_per_iter": "allocs/iter",
}


class Document(msgspec.Struct, forbid_unknown_fields=True):
    benchmarks: list[msgspec.Raw]
    context: dict[str, Any] | None = None


class Row(msgspec.Struct, gc=False):
    """The tool's own fields of one row; null is the same as absent."""

    name: str = ""
    run_name: str = ""
    run_type: Literal["iteration", "aggregate", ""] = ""
    repetitions: int | None = None
    threads: int | None = None
    aggregate_name: str = ""
    aggregate_unit: str = ""
    iterations: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] | None = None
    real_time: float | None = None
    cpu_time: float | None = None
    time_unit: str = "ns"
    error_occurred: bool = False
    error_message: str = ""
    skipped: bool | str = False
    skip_message: str = ""
    label: Any = None
    family_index: Any = None
    per_family_instance_index: Any = None
    repetition_index: Any = None
    big_o: str = ""
    cpu_coefficient: float | None = None
    real_coefficient: float | None = None
    rms: float | None = None


_FIELDS = frozenset(Row.__struct_fields__)
_INDEXES = ("family_index", "per_family_instance_index", "repetition_index")
_NUMBERS = frozenset(("repetitions", "threads", "iterations", *_TIMES, "cpu_coefficient", "real_coefficient", "rms"))


@dataclass
class Found:
    """A row with its place, its finite numbers by metric, the others, and its text."""

    where: str
    row: Row
    metrics: Counters
    not_finite: Counters
    text: dict[str, Any]


@dataclass
class Group:
    """All rows of one benchmark and time unit."""

    iterations: list[Found] = field(default_factory=list)
    aggregates: dict[str, Found] = field(default_factory=dict)


def claims(shape: Shape) -> bool:
    if shape.kind != "object" or "benchmarks" not in shape.keys or {"machine_info", "commit_info"} & {*shape.keys}:
        return False
    try:
        first = msgspec.json.decode(shape.keys["benchmarks"], type=list[msgspec.Raw])[:1]
        keys = msgspec.json.decode(first[0], type=dict[str, msgspec.Raw]).keys() if first else set()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "context" in shape.keys
    return bool({"real_time", "cpu_time", "run_type", "error_occurred"} & {*keys}) or (
        "context" in shape.keys and (not first or "name" in keys)
    )


def read(data: Buffer, out: Tables) -> None:
    document: Document = read_mended(data, Document, out)
    context = document.context or {}
    run = out.run(_facts(context))
    if "date" in context and run.facts.started is None:
        run.flag("/context/date", "a time in ISO 8601", repr(context["date"])[:80])
    rows = []
    for index, item in enumerate(document.benchmarks):
        where = f"/benchmarks/{index}"
        if (fields := _fields(run, where, item)) is not None and (row := _row(run, where, fields)) is not None:
            rows.append((where, row, fields))
    names = {row.name for _, row, _ in rows}
    groups: dict[tuple[str, str], Group] = {}
    for where, row, fields in rows:
        benchmark, aggregate = _kind(row, names)
        if row.error_occurred or row.skipped:
            told = (
                row.error_message or row.skip_message or (row.skipped if isinstance(row.skipped, str) else "no reason")
            )
            state = "an error" if row.error_occurred else "skipped"
            run.flag(where, "a benchmark that ran", f"{state}: {told[:200]} ({benchmark[:80]!r} gives no value here)")
            continue
        found = _found(run, where, row, fields, aggregate)
        group = groups.setdefault((benchmark, row.time_unit), Group())
        if not aggregate:
            group.iterations.append(found)
        elif aggregate in group.aggregates:
            run.flag(
                where, "each aggregate of a benchmark once", f"{aggregate!r} of {benchmark[:80]!r} again, left out"
            )
        else:
            group.aggregates[aggregate] = found
    for (benchmark, unit), group in groups.items():
        _add(run, benchmark, unit, group)
        if group.iterations:
            for aggregate in group.aggregates.keys() & _STANDARD:
                out.leave_unread(f"/benchmarks/*_{aggregate}")


def _facts(context: dict[str, Any]) -> RunFacts:
    date, cores = context.get("date"), context.get("num_cpus")
    executable, version = context.get("executable"), context.get("library_version")
    cores = cores if isinstance(cores, int) and not isinstance(cores, bool) and 0 < cores < 1 << 31 else None
    told = {"date"} if cores is None else {"date", "num_cpus"}
    rest = {key: value for key, value in context.items() if key not in told}
    return RunFacts(
        title=re.split(r"[\\/]", executable)[-1] if isinstance(executable, str) else "",
        started=parse_instant(date) if isinstance(date, str) else None,
        machine=Machine(cores=cores),
        machine_extra=rest or None,
        labels={"tool": f"google-benchmark {version}" if isinstance(version, str) else "google-benchmark"},
    )


def _fields(run: RunRows, where: str, item: msgspec.Raw) -> dict[str, Any] | None:
    """One row's JSON, where the first of several equal keys counts, without nulls; None if it is refused."""
    repeated: list[str] = []

    def first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        repeated.clear()  # the row itself comes last, after what is nested in it
        fields: dict[str, Any] = {}
        for key, value in pairs:
            if key in fields:
                repeated.append(key)
            else:
                fields[key] = value
        return fields

    try:
        msgspec.json.decode(item, type=dict[str, Any])  # strict about what the standard library lets pass
        fields: dict[str, Any] = json.loads(bytes(item), object_pairs_hook=first_wins)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        problem = problem_of(error, where)
        run.refuse(problem.where, problem.expected, problem.found)
        return None
    for key in repeated:
        run.flag(f"{where}/{key}", "each key once", f"{key!r} again (a counter of this name), left out")
    for key in (_NUMBERS | fields.keys() - _FIELDS) & fields.keys():
        if isinstance(fields[key], str):
            fields[key] = _CONSTANTS.get(fields[key], fields[key])
    return {key: value for key, value in fields.items() if value is not None}


def _row(run: RunRows, where: str, fields: dict[str, Any]) -> Row | None:
    """The tool's own fields, or None if the row is refused."""
    name, run_name = fields.get("name"), fields.get("run_name")
    if not isinstance(name, str) and isinstance(run_name, str) and run_name:
        run.flag(f"{where}/name", "text", f"{name!r}; run_name {run_name[:80]!r} names the benchmark")
        fields["name"] = run_name
    try:
        row = msgspec.convert(fields, Row)
    except msgspec.ValidationError:
        own = msgspec.json.encode({key: value for key, value in fields.items() if key in _FIELDS})
        for problem in every_problem(own, Row, where):
            run.refuse(problem.where, problem.expected, problem.found)
        return None
    if not row.name and not row.run_name:
        run.refuse(f"{where}/name", "a name", "none")
        return None
    return row


def _kind(row: Row, names: set[str]) -> tuple[str, str]:
    """(benchmark, name of the aggregate or ""). Files of before 1.5 say it in the name only."""
    old = _OLD_AGGREGATE.fullmatch(row.name)
    if row.run_type == "aggregate":
        name = row.aggregate_name or (old[2] if old else "aggregate")
        return row.run_name or row.name.removesuffix(f"_{name}"), name
    if row.big_o or row.rms is not None:
        return row.run_name or (old[1] if old else row.name), "BigO" if row.big_o else "RMS"
    if old and not row.run_type:
        others = {f"{old[1]}_{other}" for other in _STANDARD if other != old[2]}
        if old[1] in names or others & names:
            return old[1], old[2]
    return row.run_name or row.name, ""


def _found(run: RunRows, where: str, row: Row, fields: dict[str, Any], aggregate: str) -> Found:
    """The row's numbers: times, complexity and counters; those that are not finite stand apart."""
    metrics: dict[str, Any] = {}
    text: dict[str, Any] = {}
    for key, value in fields.items():
        if key not in _FIELDS:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            (metrics if is_number else text)[key] = value
    own = ("cpu_coefficient", "real_coefficient", "rms") if aggregate in ("BigO", "RMS") else _TIMES
    metrics = {key: value for key in own if (value := getattr(row, key)) is not None} | metrics
    finite: Counters = {}
    not_finite: Counters = {}
    for key, value in metrics.items():
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        (finite if math.isfinite(number) else not_finite)[key] = number
    if not metrics:
        run.refuse(where, "real_time, cpu_time or a counter", "none of them")
    return Found(where, row, finite, not_finite, text)


def _add(run: RunRows, benchmark: str, unit: str, group: Group) -> None:
    name, params = _name_and_params(benchmark)
    rest = {**group.aggregates}
    if group.iterations:
        _add_samples(run, name, params, unit, group.iterations)
        rest = {aggregate: found for aggregate, found in rest.items() if aggregate not in _STANDARD}
    elif "median" in rest or "mean" in rest:
        folded = {aggregate: rest.pop(aggregate) for aggregate in (*_FOLDED, "cv") if aggregate in rest}
        _add_folded(run, name, params, unit, folded)
    for aggregate, found in rest.items():
        _flag_not_finite(run, found)
        row, suffix = found.row, "" if aggregate in ("BigO", "RMS") else f"_{aggregate}"
        without_unit = row.aggregate_unit == "percentage" or aggregate == "cv"
        for metric, value in found.metrics.items():
            run.measurement(
                where=f"{found.where}/{metric}",
                benchmark=name,
                metric=metric + suffix,
                value=value,
                unit="" if without_unit or metric == "rms" else _unit(metric, unit),
                better="" if suffix else _better(metric),
                params={**params, "big_o": row.big_o} if row.big_o else params,
                derived=True,
                extra=_extra([found]),
            )


def _add_samples(run: RunRows, name: str, params: dict[str, Any], unit: str, iterations: Sequence[Found]) -> None:
    extra = _extra(iterations)
    for found in iterations:
        _flag_not_finite(run, found)
    for metric in dict.fromkeys(metric for found in iterations for metric in found.metrics):
        places = [found for found in iterations if metric in found.metrics]
        samples = [found.metrics[metric] for found in places]
        several: dict[str, Any] = {"samples": samples, **sample_statistics(samples)} if len(samples) > 1 else {}
        run.measurement(
            where=f"{places[0].where}/{metric}",
            benchmark=name,
            metric=metric,
            value=several.get("median", samples[0]),
            unit=_unit(metric, unit),
            better=_better(metric),
            params=params,
            n=len(samples),
            extra=extra,
            **several,
        )


def _add_folded(run: RunRows, name: str, params: dict[str, Any], unit: str, folded: dict[str, Found]) -> None:
    """Aggregates without their samples, as one derived measurement for each metric."""
    base = folded.get("median") or folded["mean"]
    _flag_not_finite(run, base)
    for metric, value in base.metrics.items():
        numbers: dict[str, Any] = {key: folded[key].metrics.get(metric) for key in _FOLDED if key in folded}
        extra = _extra([base])
        if "cv" in folded:
            extra["cv"] = folded["cv"].metrics.get(metric)
        run.measurement(
            where=f"{base.where}/{metric}",
            benchmark=name,
            metric=metric,
            value=value,
            unit=_unit(metric, unit),
            better=_better(metric),
            params=params,
            n=base.row.iterations,
            derived=True,
            extra=extra,
            **numbers,
        )


def _flag_not_finite(run: RunRows, found: Found) -> None:
    for metric, number in found.not_finite.items():
        run.flag(f"{found.where}/{metric}", "a finite number", f"{number!r}, left out")


def _name_and_params(benchmark: str) -> tuple[str, dict[str, Any]]:
    """`BM_sort/1024/real_time/threads:4` as (`BM_sort/1024/real_time`, {threads: 4})."""
    first, *parts = benchmark.split("/")
    kept: list[str] = []
    params: dict[str, Any] = {}
    while parts:
        part = parts.pop()
        argument = _NAMED_ARGUMENT.fullmatch(part)
        if argument and argument[1] not in params:
            params[argument[1]] = _plain(argument[2])
        else:
            kept.append(part)
            if part not in _TIME_TYPES:
                break
    return "/".join([first, *parts, *reversed(kept)]), dict(reversed(params.items()))


def _plain(text: str) -> int | float | str:
    """The number that `text` spells in its one usual way, else `text`: `4` and `04` stay different."""
    for kind in (int, float):
        try:
            number = kind(text[:40])
        except ValueError:
            continue
        if str(number) == text and math.isfinite(number):
            return number
    return text


def _unit(metric: str, time_unit: str) -> str:
    if metric in _TIMES or metric.endswith("_coefficient"):
        return time_unit
    if metric.endswith("_per_second"):
        counted = metric.removesuffix("_per_second")
        return "B/s" if counted == "bytes" else f"{counted}/s"
    return _MEMORY.get(metric, "")


def _better(metric: str) -> str:
    if metric.endswith("_per_second"):
        return "higher"
    cost = metric in _TIMES or metric in _MEMORY or metric in ("cpu_coefficient", "real_coefficient", "rms")
    return "lower" if cost else ""


def _extra(found: Sequence[Found]) -> dict[str, Any]:
    """What the rows say besides; one value where they agree."""
    extra = {}
    columns = {
        name: [getattr(each.row, name) for each in found]
        for name in ("iterations", "repetitions", "threads", "label", *_INDEXES)
    }
    columns |= {
        name: [each.text.get(name) for each in found]
        for name in dict.fromkeys(name for each in found for name in each.text)
    }
    for name, values in columns.items():
        value = values[0] if all(value == values[0] for value in values) else values
        if value is not None:
            extra[name] = value
    return extra


FORMAT = Format(
    id="google-benchmark",
    title="Google Benchmark JSON",
    made_by="BENCHMARK --benchmark_out=FILE --benchmark_out_format=json",
    example="""{"context": {"num_cpus": 8}, "benchmarks": [
  {"name": "BM_parse", "iterations": 10, "real_time": 250.0, "cpu_time": 240.0, "time_unit": "ms"}
]}""",
    claims=claims,
    read=read,
)
