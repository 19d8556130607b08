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
| subtest, duration, message | subtest, duration_seconds, message | duration in seconds |

All objects of a file are one run. Other fields are ignored.
"""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from processor.decode import Buffer, quoted_constants, read_json
from processor.formats import Format
from processor.samples import sample_statistics
from processor.shape import Shape
from processor.tables import RunFacts, RunRows, Tables
from schemas.problems import problem_of

Scalar = str | int | float | bool | None


class Measurement(msgspec.Struct, gc=False):
    benchmark: str
    metric: str
    value: float
    unit: str = ""
    better: Literal["lower", "higher", ""] = ""
    samples: list[float] | None = None
    params: dict[str, Scalar] | None = None
    version: str = ""


class Test(msgspec.Struct, gc=False):
    test: str
    status: str
    subtest: str | None = None
    duration: float | None = None
    message: str | None = None


def claims(shape: Shape) -> bool:
    return shape.kind in ("object", "array", "lines") and (
        {"benchmark", "metric", "value"} <= shape.keys.keys() or {"test", "status"} <= shape.keys.keys()
    )


def read(data: Buffer, out: Tables) -> None:
    run = out.run(RunFacts())
    for where, item in _items(data):
        try:
            fields = msgspec.json.decode(item, type=dict[str, msgspec.Raw])
            if "benchmark" in fields:
                _add_measurement(run, where, msgspec.json.decode(item, type=Measurement))
            elif "test" in fields:
                _add_test(run, where, msgspec.json.decode(item, type=Test))
            else:
                run.refuse(where or "/", "a field 'benchmark' or 'test'", f"fields {sorted(fields)[:10]}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            problem = problem_of(error, where)
            bare = not isinstance(error, msgspec.ValidationError) and quoted_constants(bytes(item)) != bytes(item)
            found = "a bare NaN or Infinity, which JSON does not have" if bare else problem.found
            run.refuse(problem.where, problem.expected, found)


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


def _add_measurement(run: RunRows, where: str, item: Measurement) -> None:
    samples = item.samples or None
    stats: dict[str, Any] = dict(sample_statistics(samples)) if samples else {}
    run.measurement(
        where=f"{where}/value",
        benchmark=item.benchmark,
        metric=item.metric,
        value=item.value,
        unit=item.unit,
        better=item.better,
        params=item.params,
        samples=samples,
        benchmark_version=item.version,
        **stats,
    )


def _add_test(run: RunRows, where: str, item: Test) -> None:
    run.test(
        where=f"{where}/status",
        test=item.test,
        subtest=item.subtest,
        status=item.status.lower(),
        duration_seconds=item.duration,
        message=item.message,
    )


FORMAT = Format(
    id="runfeed",
    title="Runfeed JSON or NDJSON",
    made_by="any script: print one line per result",
    example='{"benchmark": "parse", "metric": "time", "value": 0.25, "unit": "s", "better": "lower"}',
    claims=claims,
    read=read,
)
