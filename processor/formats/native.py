"""Runfeed's own format: the simplest thing a script can print.

One JSON object, an array of them, or NDJSON (one object a line). Each object is a measurement or a test:

    {"benchmark": "parse", "metric": "time", "value": 1.25, "unit": "ms", "better": "lower",
     "samples": [1.2, 1.3], "params": {"size": 10}, "version": "2"}
    {"test": "test_parse", "subtest": "empty", "status": "pass", "duration": 0.01, "message": ""}

| field | becomes | notes |
|---|---|---|
| benchmark, metric, value | the same | required; value is a finite number |
| unit, better, params | the same | better is `lower` or `higher`; params is a flat object |
| samples | samples, n, min, max, mean, median, stddev | statistics are computed from them |
| version | benchmark_version | measurements of different versions are never compared |
| test, status | the same | required; status as in `schemas.tables.STATUSES`, upper or lower case |
| extra | extra | an object, of whatever else is to be kept beside |
| subtest, duration, message | subtest, duration_seconds, message | duration in seconds |

All objects of a file are one run. Other fields are counted in the loss report (`/*/name` in an array or NDJSON).
"""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from processor.formats import Format
from processor.reading.decode import Buffer, quoted_constants, read_json
from processor.reading.mended import read_fields, refuse_all
from processor.reading.samples import STATISTICS, sample_statistics
from processor.reading.shape import Shape
from processor.tables import RunFacts, RunRows, Tables, canonical_json
from schemas.problems import problem_of

Scalar = str | int | float | bool | None


class Measurement(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    benchmark: str
    metric: str
    value: float
    unit: str = ""
    better: Literal["lower", "higher", ""] = ""
    samples: list[float] | None = None
    params: dict[str, Scalar] | None = None
    version: str = ""
    extra: dict[str, Any] | None = None


class Test(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    test: str
    status: str
    subtest: str | None = None
    duration: float | None = None
    message: str | None = None
    extra: dict[str, Any] | None = None


def claims(shape: Shape) -> bool:
    return shape.kind in ("object", "array", "lines") and (
        {"benchmark", "metric", "value"} <= shape.keys.keys() or {"test", "status"} <= shape.keys.keys()
    )


_ROWS_TOGETHER = 10_000
_MEASUREMENT = msgspec.json.Decoder(Measurement)
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read(data: Buffer, out: Tables) -> None:
    run = out.run(RunFacts())
    measurements: list[Measurement] = []
    for where, item in _items(data):
        try:
            measurement: Measurement | None = _MEASUREMENT.decode(item)
        except _DECODE_ERRORS:
            measurement = _read_other(run, out, where, item)
        if measurement:
            measurements.append(measurement)
            if len(measurements) >= _ROWS_TOGETHER:
                _add_measurements(run, measurements)
                measurements.clear()
    if measurements:
        _add_measurements(run, measurements)


def _read_other(run: RunRows, out: Tables, where: str, item: Buffer | msgspec.Raw) -> Measurement | None:
    """A test, added; or a measurement with fields that are unknown; or neither, and the run is refused."""
    try:
        fields = msgspec.json.decode(item, type=dict[str, msgspec.Raw])
    except _DECODE_ERRORS as error:
        problem = problem_of(error, where)
        bare = not isinstance(error, msgspec.ValidationError) and quoted_constants(bytes(item)) != bytes(item)
        found = "a bare NaN or Infinity, which JSON does not have" if bare else problem.found
        run.refuse(problem.where, problem.expected, found)
        return None
    kind = Measurement if "benchmark" in fields else Test if "test" in fields else None
    if kind is None:
        run.refuse(where or "/", "a field 'benchmark' or 'test'", f"fields {sorted(fields)[:10]}")
        return None
    try:
        read: Measurement | Test = read_fields(item, kind, out, "/*" if where else "")
    except _DECODE_ERRORS as error:
        refuse_all(run, bytes(item), kind, where, error)
        return None
    if isinstance(read, Measurement):
        return read
    _add_test(run, where, read)
    return None


def _items(data: Buffer) -> Iterator[tuple[str, Buffer | msgspec.Raw]]:
    """(where, JSON of one object) for each object of the file."""
    text = bytes(data)
    if text.lstrip()[:1] == b"[":
        elements: list[msgspec.Raw] = read_json(text, list[msgspec.Raw])
        for index, element in enumerate(elements):
            yield f"/{index}", element
        return
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        for number, line in enumerate(text.split(b"\n"), start=1):
            if line.strip():
                yield f"line {number}", line
    else:
        yield "", text


def _add_measurements(run: RunRows, items: list[Measurement]) -> None:
    """JSON has no number that is not finite."""
    statistics: dict[str, Any] = {}
    if any(item.samples for item in items):
        of_items = [sample_statistics(item.samples) if item.samples else {} for item in items]
        statistics = {name: [of_item.get(name) for of_item in of_items] for name in STATISTICS}
        statistics["samples"] = [item.samples or None for item in items]
    run.measurement_rows(
        benchmark=[item.benchmark for item in items],
        metric=[item.metric for item in items],
        value=[item.value for item in items],
        unit=[item.unit for item in items],
        better=[item.better for item in items],
        params=[canonical_json(item.params) if item.params else "" for item in items],
        benchmark_version=[item.version for item in items],
        extra=[canonical_json(item.extra) if item.extra else None for item in items],
        **statistics,
    )


def _add_test(run: RunRows, where: str, item: Test) -> None:
    run.test(
        where=f"{where}/status",
        test=item.test,
        subtest=item.subtest,
        status=item.status.lower(),
        duration_seconds=item.duration,
        message=item.message,
        extra=item.extra,
    )


FORMAT = Format(
    id="runfeed",
    title="Runfeed JSON or NDJSON",
    made_by="any script: print one line per result",
    example='{"benchmark": "parse", "metric": "time", "value": 0.25, "unit": "s", "better": "lower"}',
    claims=claims,
    read=read,
)
