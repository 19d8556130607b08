"""JSON with your own schema: the result of a benchmark that the project has registered.

    runfeed benchmark add demo c-ray --schema c-ray.schema.json --param /arguments \\
        --metric /result/score=score,unit=s,better=lower,samples=/result/all_results
    runfeed push result.json --project demo --benchmark c-ray

    {"arguments": "4K, 16 rays per pixel", "machine": {"cpu": {"brand_raw": "Example CPU", "count": 8}},
     "result": {"score": 54.588, "all_results": "54.623:54.514:54.626"}}

The file is any JSON document (strict: no NaN); it cannot be recognised and has to be declared, as above. It is
validated with the JSON Schema of the benchmark's version that was the newest when it was pushed. One file is one run.

| what the benchmark declares | becomes | notes |
|---|---|---|
| its name | benchmark | |
| its image's tag, else its version | benchmark_version | so results of different tags are never pooled |
| a metric: name, unit, direction | metric, unit, better | as declared, by `--metric` or in the schema |
| the value at the metric's path | value, or samples | a number; or samples, whose median is the value |
| the metric's `samples` | samples, n, min, max, mean, median, stddev | where they stand apart from the value |
| a param: name, path | params | plain values only |
| execution time | started | must be there: ISO 8601, or seconds or milliseconds since 1970 |
| title, image | title, label `image` | and label `benchmark`: its name and version |

**In the schema.** A property may carry `"runfeed": {"metric": "score", "unit": "s", "better": "lower", "samples":
"/result/all_results"}` or `"runfeed": {"param": "arguments"}`; its path follows from where it stands, with `*` for the
elements of lists and maps. `suggestToUser`, EOSC-Perf's word, is shown as a hint and is no metric by itself.

**Samples** are a list of numbers or, as Phoronix and EOSC-Perf write them, text of numbers with `:` between.

**Paths** are JSON Pointers; a step `*` stands for every element. A param's and the samples' `*` are those of the
metric, from the left: with metric `/runs/*/time`, param `/runs/*/name` gives each its own name. An element that no such
param tells apart gets its key or index as a param, named after the step before it.

**Identity.** Declared params and the image's tag; the rest of the document is no identity.

**Machine.** An object with `brand_raw`, as py-cpuinfo writes it, at `/machine/cpu`, `/cpu`, `/machine` or `/specs`:
`brand_raw` is the cpu and `count` the cores. The object at the first step is kept as the run's machine.

**Everything else** of the document is the `extra` of the run's first measurement, if it is at most 64 KiB of JSON; what
is not kept is in the loss report by its path. Names of persons and secrets (`processor.reading.withheld`) are never
kept.

**Problems.** All violations of the schema are listed, each with its place in the file (`processor.validation`). A
metric or param that the schema lets be absent, or null, is flagged and costs nothing else; a value that is no number
refuses the run.

Definition: https://json-schema.org/ and https://github.com/EOSC-synergy/eosc-perf-backend
"""

import math
import re
from collections.abc import Iterator, Set
from datetime import datetime
from typing import Any

from processor.formats import Format
from processor.reading.decode import Buffer, quoted_constants, read_json, rejected
from processor.reading.instants import instant_of_number, parse_instant
from processor.reading.samples import sample_statistics
from processor.reading.shape import Shape
from processor.reading.shown import shown
from processor.reading.withheld import without_private
from processor.tables import RunFacts, RunRows, Tables, canonical_json
from processor.validation import check_valid
from schemas.errors import Rejected
from schemas.pointers import EVERY, Steps, found_at, parse_pointer, render_pointer
from schemas.problems import problem_of
from schemas.records import Benchmark, Machine, Metric, Problem

MAX_DOCUMENT_BYTES = 16 << 20
MAX_EXTRA_BYTES = 64 << 10
MAX_PARAM_CHARACTERS = 4096

_CPU_AT = (("machine", "cpu"), ("cpu",), ("machine",), ("specs",))
_NUMBERS = re.compile(r"\s*+[-+.\deE]++\s*+(?::\s*+[-+.\deE]++\s*+)*+", re.ASCII)
_NO_TIME_BEFORE = 1e8
"""Numbers below are durations rather than times: 1973 as seconds."""


def claims(_: Shape) -> bool:
    return False


def read(data: Buffer, out: Tables) -> None:
    benchmark = out.benchmark
    if benchmark is None:
        raise rejected("format", "a benchmark that the project has registered (push --benchmark NAME)", "no name")
    if len(data) > MAX_DOCUMENT_BYTES:
        raise rejected("blob", f"at most {MAX_DOCUMENT_BYTES:,} bytes for a schema of its own", f"{len(data):,}")
    document = _strict_json(data)
    check_valid(document, len(data), benchmark)
    try:
        _Reading(document, benchmark, out).read()
    except RecursionError as error:
        raise Rejected([problem_of(error)]) from error


def _strict_json(data: Buffer) -> Any:
    try:
        return read_json(data)
    except Rejected as refusal:
        if quoted_constants(data) is data:
            raise
        found = "a bare NaN or Infinity, which JSON does not have"
        where, expected = refusal.problems[0].where, "well-formed JSON"
        raise rejected(where, expected, found) from refusal


class _Reading:
    """One valid result on its way into rows. `taken` are the places that have reached a column."""

    def __init__(self, document: Any, benchmark: Benchmark, out: Tables) -> None:
        self._document = document
        self._benchmark = benchmark
        self._out = out
        self._taken: set[Steps] = set()
        self._params = [(parse_pointer(one.path, one.name), one) for one in benchmark.params]
        self._shared: dict[str, Any] = {}
        """The params that are the same for all measurements."""

    def read(self) -> None:
        benchmark = self._benchmark
        machine, machine_extra = self._machine()
        started, missing = self._started()
        run = self._out.run(
            RunFacts(
                title=benchmark.title or benchmark.name,
                started=started,
                machine=machine,
                machine_extra=machine_extra,
                labels=_labels(benchmark),
            )
        )
        if missing:
            run.refuse(missing.where, missing.expected, missing.found)
        for steps, param in self._params:
            if EVERY not in steps:
                self._add_param(run, param.name, steps, (), self._shared)
        rows = [row for metric in benchmark.metrics for row in self._rows(run, metric)]
        extra = self._rest()
        for row in rows:
            run.measurement(**row, extra=extra)
            extra = None
        if extra:
            self._leave_unread(extra, ())

    def _rows(self, run: RunRows, metric: Metric) -> Iterator[dict[str, Any]]:
        """The measurements of one metric, as `RunRows.measurement` takes them."""
        steps = parse_pointer(metric.path, metric.metric)
        found = False
        for place, value in found_at(self._document, steps):
            if value is None:
                continue
            found = True
            self._taken.add(place)
            where = render_pointer(place)
            every = tuple(key for key, step in zip(place, steps, strict=True) if step == EVERY)
            alone = isinstance(value, int | float) and not isinstance(value, bool)
            samples = self._samples(run, metric, every) if alone else _numbers(value)
            if not (alone or samples):
                run.refuse(where or "/", "a number, a list of numbers, or numbers with : between", shown(value))
                continue
            statistics: dict[str, Any] = dict(sample_statistics(samples)) if samples else {}
            yield {
                "where": where,
                "benchmark": self._benchmark.name,
                "metric": metric.metric,
                "value": value if alone else statistics["median"],
                "unit": metric.unit,
                "better": metric.better,
                "params": self._params_of(run, steps, every),
                "samples": samples,
                "benchmark_version": self._benchmark.tag or str(self._benchmark.version),
                **statistics,
            }
        if not found:
            run.flag(metric.path or "/", f"a value of metric {metric.metric}", "none")

    def _samples(self, run: RunRows, metric: Metric, every: Steps) -> list[float] | None:
        """The metric's samples that stand apart from its value."""
        if not metric.samples:
            return None
        for place, value in found_at(self._document, parse_pointer(metric.samples, metric.metric), every):
            if value is not None:
                self._taken.add(place)
                samples = _numbers(value)
                if samples is None:
                    run.refuse(
                        render_pointer(place) or "/", "a list of numbers, or numbers with : between", shown(value)
                    )
                return samples
        run.flag(metric.samples, f"samples of metric {metric.metric}", "none")
        return None

    def _params_of(self, run: RunRows, steps: Steps, every: Steps) -> dict[str, Any]:
        """What tells the element `every` of a metric at `steps` apart from others."""
        params = dict(self._shared)
        told = set()
        ends = [index + 1 for index, step in enumerate(steps) if step == EVERY]
        for path, param in self._params:
            count = path.count(EVERY)
            if 0 < count <= len(ends) and path[: ends[count - 1]] == steps[: ends[count - 1]]:
                self._add_param(run, param.name, path, every, params)
                told.add(count)
        for count, end in enumerate(ends, start=1):
            if count not in told:
                name = next((step for step in reversed(steps[:end]) if step != EVERY), EVERY)
                params[name if name not in params else render_pointer(steps[:end])] = every[count - 1]
        return params

    def _add_param(self, run: RunRows, name: str, path: Steps, every: Steps, params: dict[str, Any]) -> None:
        place, value = next(found_at(self._document, path, every), ((), None))
        if value is None:
            run.flag(render_pointer(path) or "/", f"a value of param {name}", "none")
            return
        self._taken.add(place)
        text = canonical_json(value)
        if len(text) > MAX_PARAM_CHARACTERS:
            run.refuse(
                render_pointer(place) or "/",
                f"a param of at most {MAX_PARAM_CHARACTERS:,} characters",
                f"{len(text):,}",
            )
            return
        params[name] = text if isinstance(value, dict | list) else value

    def _started(self) -> tuple[datetime | None, Problem | None]:
        path = self._benchmark.execution_time
        if not path:
            return None, None
        place, value = next(found_at(self._document, parse_pointer(path, "execution time")), ((), None))
        started = None
        if isinstance(value, str):
            started = parse_instant(value)
        elif isinstance(value, int | float) and value >= _NO_TIME_BEFORE:
            started = instant_of_number(value)
        if started is None:
            found = "none" if value is None else shown(value)
            return None, Problem(where=path, expected="the time at which it ran, in ISO 8601", found=found)
        self._taken.add(place)
        return started, None

    def _machine(self) -> tuple[Machine, dict[str, Any] | None]:
        """What the document says of its machine, and the object that says it."""
        top, machine = "machine", Machine()
        for path in _CPU_AT:
            about = next((value for _, value in found_at(self._document, path)), None)
            if isinstance(about, dict) and isinstance(about.get("brand_raw"), str):
                cores = about.get("count")
                known = isinstance(cores, int) and not isinstance(cores, bool) and 0 < cores < 1 << 31
                top, machine = path[0], Machine(cpu=about["brand_raw"].strip(), cores=cores if known else None)
                break
        whole = self._document.get(top) if isinstance(self._document, dict) else None
        if not isinstance(whole, dict) or len(canonical_json(whole)) > MAX_EXTRA_BYTES:
            return machine, None
        self._taken.add((top,))
        return machine, without_private(_kept(whole, (top,), frozenset()), self._out, render_pointer((top,)))

    def _rest(self) -> dict[str, Any] | None:
        """What of the document has reached no column, to be kept; None if there is nothing, or too much of it."""
        rest = without_private(_kept(self._document, (), self._taken), self._out, "")
        if rest in (None, {}, []):
            return None
        if len(canonical_json(rest)) <= MAX_EXTRA_BYTES:
            return rest if isinstance(rest, dict) else {"": rest}
        self._leave_unread(rest, ())
        return None

    def _leave_unread(self, value: Any, place: Steps) -> None:
        """Count the leaves of `value`; places in lists are `*`."""
        left = [(value, place)]
        while left:
            value, place = left.pop()
            if isinstance(value, dict):
                left += [(inner, (*place, name)) for name, inner in value.items()]
            elif isinstance(value, list):
                left += [(inner, (*place, EVERY)) for inner in value]
            elif value is not None and value != "":
                self._out.leave_unread(render_pointer(place))


def _kept(value: Any, place: Steps, taken: Set[Steps]) -> Any:
    """`value` without what is taken and what is empty; None if nothing is left."""
    if place in taken:
        return None
    if isinstance(value, dict):
        inside = {name: _kept(inner, (*place, name), taken) for name, inner in value.items()}
        return {name: inner for name, inner in inside.items() if inner is not None} or None
    if isinstance(value, list):
        each = [_kept(inner, (*place, str(index)), taken) for index, inner in enumerate(value)]
        return each if any(inner is not None for inner in each) else None
    return None if value == "" else value


def _labels(benchmark: Benchmark) -> dict[str, str]:
    labels = {"benchmark": f"{benchmark.name}@{benchmark.version}"}
    if benchmark.image:
        labels["image"] = f"{benchmark.image}:{benchmark.tag}".rstrip(":")
    return labels


def _numbers(value: Any) -> list[float] | None:
    """The samples in a list of numbers or in text of numbers with `:` between; None if it is neither, empty, or not
    finite."""
    if isinstance(value, str):
        value = value.split(":") if _NUMBERS.fullmatch(value) else []
    elif not isinstance(value, list) or any(isinstance(one, bool) or not isinstance(one, int | float) for one in value):
        return None
    try:
        numbers = [float(one) for one in value]
    except (ValueError, OverflowError):
        return None
    return numbers if numbers and all(map(math.isfinite, numbers)) else None


FORMAT = Format(
    id="benchmark",
    title="JSON with your own schema",
    made_by="runfeed benchmark add PROJECT NAME --schema FILE; runfeed push FILE --benchmark NAME",
    example="""{"arguments": "4K, 16 rays per pixel", "machine": {"cpu": {"brand_raw": "Example CPU", "count": 8}},
 "result": {"score": 54.588, "all_results": "54.623:54.514:54.626"}}""",
    claims=claims,
    read=read,
)
