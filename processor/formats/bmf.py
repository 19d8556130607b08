"""Bencher Metric Format: the JSON that Bencher's `json` adapter reads and that many scripts print for it.

    {"tests::parse": {"latency": {"value": 88.0, "lower_value": 87.42, "upper_value": 88.88},
                      "throughput": {"value": 5.55}}}

One file is one run, about whose commit and machine it says nothing; each measure of each benchmark is a measurement.

| field | becomes | notes |
|---|---|---|
| key of the file | benchmark | without the suffix that silences Bencher's alerts, see below |
| key of a benchmark | metric | a measure, as written: its slug, name or UUID |
| value | value | |
| lower_value, upper_value | extra | bounds that the format does not define: a deviation, a quartile, an extreme |
| parameters | params | version 1 only |

**Identity.** benchmark, params and measure. `-bencher-ignore`, `_bencher_ignore` and `BencherIgnore` at the end of a
benchmark's name tell Bencher to raise no alert and are no part of the name there, so neither are they here; extra then
has `ignore`.

**Unit and direction** are not in the file. A measure that Bencher defines (by slug or name) has the unit of its
definition; less is better of latency, build-time and file-size, more of throughput. All others have no direction, and
a project's own measures no unit. Definitions: `lib/bencher_json/src/project/measure/built_in.rs` for units; the pages
"Thresholds & Alerts" (latency, throughput), "Track Build Time" and "Track File Size" for directions.

**Version 1** has a list of entries per benchmark, one for each set of parameters, and measures of any named numbers:

    {"tests::parse": [{"parameters": {"size": 16}, "measures": {"latency": {"value": 42.0, "p99": 97.0}}}]}

`value` with its bounds is as above; every other name is a measurement of its own, metric `latency p99`.

A value of null, NaN or Infinity gives no row, a kept problem. There are no samples.

Definition: https://bencher.dev/docs/reference/bencher-metric-format and `lib/bencher_adapter/src/adapters/json/`.
"""

from typing import Any

import msgspec

from processor.formats import Format
from processor.reading.decode import Buffer
from processor.reading.finite import finite
from processor.reading.mended import pointer_step, read_fields, read_mended, refuse_all
from processor.reading.shape import Shape
from processor.tables import RunFacts, RunRows, Tables
from schemas.problems import problem_of

Number = float | str | None
Scalar = str | int | float | bool

_UNITS = {
    "latency": "ns",
    "throughput": "ops/s",
    "build-time": "s",
    "file-size": "B",
    "allocated": "B",
    "total-bytes": "B",
    "at-t-gmax-bytes": "B",
    "at-t-end-bytes": "B",
    "reads-bytes": "B",
    "writes-bytes": "B",
    "total-blocks": "blocks",
    "at-t-gmax-blocks": "blocks",
    "at-t-end-blocks": "blocks",
    "instructions": "instructions",
    "estimated-cycles": "cycles",
    "l1-accesses": "accesses",
    "l2-accesses": "accesses",
    "ram-accesses": "accesses",
    "l1-hits": "hits",
    "l2-hits": "hits",
    "ll-hits": "hits",
    "ram-hits": "hits",
    "total-read-write": "reads/writes",
    "gen0-collects": "collects",
    "gen1-collects": "collects",
    "gen2-collects": "collects",
}
_BETTER = {"latency": "lower", "build-time": "lower", "file-size": "lower", "throughput": "higher"}
_IGNORE = ("-bencher-ignore", "_bencher_ignore", "BencherIgnore")
_BOUNDS = ("lower_value", "upper_value")
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Metric(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    value: Number
    lower_value: Number = None
    upper_value: Number = None


class Entry(msgspec.Struct, forbid_unknown_fields=True):
    """What version 1 says of one set of parameters."""

    measures: dict[str, msgspec.Raw]
    parameters: dict[str, Scalar] | None = None


class NumbersEntry(msgspec.Struct, forbid_unknown_fields=True):
    """An entry as it is recognised."""

    measures: dict[str, dict[str, Number]]
    parameters: dict[str, Scalar] | None = None


def claims(shape: Shape) -> bool:
    """All benchmarks are objects, or all are arrays, and the first that is not empty has nothing but measures."""
    if shape.kind != "object" or not shape.keys:
        return False
    values = [memoryview(value) for value in shape.keys.values()]
    if {bytes(value[:1]) for value in values} not in ({b"{"}, {b"["}):
        return False
    first = next((value for value in values if bytes(value[1:64]).strip() not in (b"}", b"]")), b"null")
    try:
        if first[:1] == b"[":
            entries = msgspec.json.decode(first, type=list[NumbersEntry])
            measures = [numbers for entry in entries for numbers in entry.measures.values()]
            return bool(measures) and all(numbers and all(map(_is_number, numbers.values())) for numbers in measures)
        metrics = msgspec.json.decode(first, type=dict[str, Metric])
        return bool(metrics) and all(_is_number(metric.value) for metric in metrics.values())
    except _DECODE_ERRORS:
        return False


def _is_number(value: Number) -> bool:
    return not isinstance(value, str) and value is not None


def read(data: Buffer, out: Tables) -> None:
    benchmarks: dict[str, msgspec.Raw] = read_mended(data, dict[str, msgspec.Raw], out)
    run = out.run(RunFacts())
    for benchmark, item in benchmarks.items():
        where = pointer_step(benchmark)
        try:
            if bytes(memoryview(item)[:1]) == b"[":
                entries = msgspec.json.decode(item, type=list[msgspec.Raw])
                for index, entry in enumerate(entries):
                    _add_entry(run, out, f"{where}/{index}", benchmark, entry)
            else:
                measures = msgspec.json.decode(item, type=dict[str, msgspec.Raw])
                for measure, metric in measures.items():
                    _add_metric(run, out, where + pointer_step(measure), (benchmark, measure), metric)
        except _DECODE_ERRORS as error:
            problem = problem_of(error, where)
            run.refuse(problem.where, problem.expected, problem.found)


def _add_metric(run: RunRows, out: Tables, where: str, names: tuple[str, str], item: msgspec.Raw) -> None:
    """A measure of version 0."""
    try:
        metric: Metric = read_fields(item, Metric, out, "/*/*")
    except _DECODE_ERRORS as error:
        refuse_all(run, item, Metric, where, error)
        return
    told = {"value": metric.value, "lower_value": metric.lower_value, "upper_value": metric.upper_value}
    numbers = {name: number for name, number in told.items() if name == "value" or number is not None}
    _add_numbers(run, where, names, None, numbers)


def _add_entry(run: RunRows, out: Tables, where: str, benchmark: str, item: msgspec.Raw) -> None:
    """One set of parameters of version 1."""
    try:
        entry: Entry = read_fields(item, Entry, out, "/*/*")
    except _DECODE_ERRORS as error:
        refuse_all(run, item, Entry, where, error)
        return
    for measure, raw in entry.measures.items():
        at = f"{where}/measures{pointer_step(measure)}"
        try:
            numbers = msgspec.json.decode(raw, type=dict[str, Number])
        except _DECODE_ERRORS as error:
            problem = problem_of(error, at)
            run.refuse(problem.where, problem.expected, problem.found)
            continue
        _add_numbers(run, at, (benchmark, measure), entry.parameters, numbers)


def _add_numbers(
    run: RunRows, where: str, names: tuple[str, str], params: dict[str, Any] | None, numbers: dict[str, Number]
) -> None:
    """The numbers of one measure: `value` with its bounds, every other name for itself."""
    benchmark, measure = names
    finite_numbers: dict[str, float] = {}
    for name, number in numbers.items():
        at = where + pointer_step(name)
        try:
            known = finite(number)
        except ValueError:
            run.refuse(at, "a number", repr(number)[:80])
            continue
        if known is None:
            run.flag(at, "a finite number", f"{'null' if number is None else number}, left out")
        else:
            finite_numbers[name] = known
    extra: dict[str, Any] = {}
    for suffix in _IGNORE:
        if benchmark.endswith(suffix) and benchmark != suffix:
            benchmark, extra["ignore"] = benchmark.removesuffix(suffix), True
            break
    if "value" in numbers:
        bounds = {name: finite_numbers.pop(name) for name in _BOUNDS if name in finite_numbers}
    else:
        bounds = {}
    slug = measure.strip().lower().replace(" ", "-").replace("+", "-")
    for name, number in finite_numbers.items():
        run.measurement(
            where=where + pointer_step(name),
            benchmark=benchmark,
            params=params,
            metric=measure if name == "value" else f"{measure} {name}",
            value=number,
            unit=_UNITS.get(slug, ""),
            better=_BETTER.get(slug, ""),
            extra=extra | (bounds if name == "value" else {}),
        )


FORMAT = Format(
    id="bmf",
    title="Bencher Metric Format",
    made_by="bencher mock > FILE, or any script",
    example='{"tests::parse": {"latency": {"value": 88.0, "lower_value": 87.5, "upper_value": 88.5}}}',
    claims=claims,
    read=read,
)
