"""JMH, the Java Microbenchmark Harness: the JSON of `-rf json -rff FILE`, also as build plugins and kotlinx-benchmark
write it.

    [{"jmhVersion": "1.37", "benchmark": "pkg.Class.method", "mode": "avgt", "threads": 1, "forks": 2, "params": {…},
      "jdkVersion": "21.0.2", "vmName": …, "primaryMetric": {"score": …, "scoreError": …, "scoreUnit": "ns/op",
      "rawData": [[…], […]]}, "secondaryMetrics": {"gc.alloc.rate.norm": {…}}}]

One file is one run, or one for each Java virtual machine in it: each is an environment of its own. An element of the
array is a measurement of its primary metric, and one more of each secondary metric.

| field | becomes | notes |
|---|---|---|
| benchmark | benchmark | |
| params, threads, measurementBatchSize | params | see below |
| mode | metric | thrpt `throughput`, avgt `average time`, sample `sample time`, ss `single shot time` |
| primaryMetric.score | value | the tool's own number; for the primary metric the mean |
| scoreUnit | unit | as written: `ops/s`, `ns/op` |
| rawData[fork][iteration] | samples, n, statistics | forks one after the other; sizes in extra `samples_of_forks` |
| rawDataHistogram[fork][iteration][[value, count]] | the same, each value count times | see below |
| scoreError, scoreConfidence, scorePercentiles | extra | `"NaN"` (one sample has no error) is left out |
| forks, warmup…, measurement…, jvmArgs, advanced | extra | of the primary metric's row |
| secondaryMetrics | measurements of their own | metric is the key without the `·` of JMH before 1.37 |
| vmName, jdkVersion | runtime | `OpenJDK 21`, `Java HotSpot 8`: the feature release is what major.minor is elsewhere |
| vmName, vmVersion, jdkVersion, userAgent | machine | |
| jmhVersion | label `tool` | |
| jvm | none | the path of java, which may name a person; in the loss report |

**Identity.** benchmark and params tell benchmarks apart. Settings that change what a score means are params under the
names of JMH's annotations, which no parameter's name can be: `@Threads` unless it is 1, and `@Measurement.batchSize`
unless it is 1. Forks, iterations and their times change how precise a score is, not what it means, and are no
identity; neither is jvmArgs, where build tools put paths that differ each time: give runs with other flags another
`--environment`.

**Direction** follows the unit as JMH defines it: more `ops/…` is better, less `…/op` is. Where mode and unit contradict
each other the unit is right. Any other unit has no direction. A secondary metric of a rate or time may be a counter of
misses (`@AuxCounters`), so only costs normalised per operation (`B/op`, `#/op`) and percentiles have one there.

**Sample mode.** A histogram of at most 10,000 samples becomes samples; a larger one is kept as it is in extra
`rawDataHistogram`, and the statistics are computed from it. Percentiles stand among the secondary metrics
(`method:p0.99`); they follow from the samples and are `derived`.

**Failures.** A score that is not a number gives no row, a kept problem; a sample that is not one is left out, a kept
problem. `-Djmh.json.rawData=false` leaves the samples out: min, median and max are then the percentiles 0, 50 and 100.

**Dialects.** JMH before 1.21 has no jmhVersion, jdkVersion and vmName; kotlinx-benchmark adds `advanced` and has no
threads and forks; benchmarks of Scala.js run in a browser, which userAgent names: their runtime is
`Scala.JS 1.22 in Chrome 149`.

Definition: https://github.com/openjdk/jmh, `org/openjdk/jmh/results/format/JSONResultFormat.java`.
"""

import math
import re
from typing import Annotated, Any, NamedTuple

import msgspec

from processor.formats import Format
from processor.reading.decode import Buffer
from processor.reading.finite import finite
from processor.reading.mended import every_problem, pointer_step, read_fields, read_mended, refuse_all
from processor.reading.samples import sample_statistics
from processor.reading.shape import Shape
from processor.tables import RunFacts, RunRows, Tables
from schemas.problems import problem_of
from schemas.records import Machine

Number = float | str | None
Scalar = str | int | float | bool | None
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]

MAX_SAMPLES_OF_HISTOGRAM = 10_000
"""Of a measurement in sample mode; a JMH run easily takes millions."""

_METRICS = {"thrpt": "throughput", "avgt": "average time", "sample": "sample time", "ss": "single shot time"}
_PERCENTILE = re.compile(r"(.*)[·:]p(\d{1,3}\.\d{1,9})", re.DOTALL)
_COSTS = {"B/op", "#/op"}
_NO_IDENTITY_OF_VM = re.compile(r"\((?:TM|R)\)|\b(?:64|32)-Bit\b|\bServer VM\b")
_BROWSERS = (
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Version/", "Safari"),
)
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Metric(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    score: Number
    score_error: Number = None
    score_confidence: list[Number] | None = None
    score_percentiles: dict[str, Number] | None = None
    score_unit: str = ""
    raw_data: list[list[Number]] | None = None
    raw_data_histogram: list[list[list[tuple[float, Count]]]] | None = None


class Entry(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    benchmark: Annotated[str, msgspec.Meta(min_length=1)]
    primary_metric: Metric
    mode: str = ""
    params: dict[str, Scalar] | None = None
    secondary_metrics: dict[str, msgspec.Raw] | None = None
    threads: int | None = None
    measurement_batch_size: int | None = None
    jmh_version: str | None = None
    jdk_version: str | None = None
    vm_name: str | None = None
    vm_version: str | None = None
    user_agent: str | None = None
    forks: Any = None
    warmup_iterations: Any = None
    warmup_time: Any = None
    warmup_batch_size: Any = None
    measurement_iterations: Any = None
    measurement_time: Any = None
    jvm_args: Any = None
    advanced: Any = None


_SETTINGS = (
    ("forks", "forks"),
    ("warmup_iterations", "warmupIterations"),
    ("warmup_time", "warmupTime"),
    ("warmup_batch_size", "warmupBatchSize"),
    ("measurement_iterations", "measurementIterations"),
    ("measurement_time", "measurementTime"),
    ("jvm_args", "jvmArgs"),
    ("advanced", "advanced"),
)


class Vm(NamedTuple):
    """What an element says of its Java virtual machine."""

    name: str = ""
    java: str = ""
    version: str = ""
    user_agent: str = ""


class Samples(NamedTuple):
    """A metric's samples, what `RunRows.measurement` takes of them, and how many each fork has."""

    columns: dict[str, Any]
    of_forks: list[int]


def claims(shape: Shape) -> bool:
    return shape.kind == "array" and {"benchmark", "primaryMetric"} <= shape.keys.keys()


def read(data: Buffer, out: Tables) -> None:
    entries: list[tuple[str, Entry]] = []
    wrong: list[tuple[str, str, str]] = []
    items: list[msgspec.Raw] = read_mended(data, list[msgspec.Raw], out)
    for index, item in enumerate(items):
        where = f"/{index}"
        try:
            entries.append((where, read_fields(item, Entry, out, "/*")))
        except _DECODE_ERRORS as error:
            for problem in every_problem(item, Entry, where) or [problem_of(error, where)]:
                wrong.append((problem.where, problem.expected, problem.found))
    of_vms: dict[Vm, list[tuple[str, Entry]]] = {}
    for where, entry in entries:
        of_vms.setdefault(_vm(entry), []).append((where, entry))
    for vm, group in of_vms.items() or [(Vm(), [])]:
        run = out.run(_facts(vm, group[0][1].jmh_version if group else None))
        for refused in wrong:  # of no machine that we know: the file's first run has lost them
            run.refuse(*refused)
        wrong = []
        for where, entry in group:
            _add(run, out, where, entry)


# --- the machine ---


def _vm(entry: Entry) -> Vm:
    return Vm(
        *((text or "").strip() for text in (entry.vm_name, entry.jdk_version, entry.vm_version, entry.user_agent))
    )


def _facts(vm: Vm, jmh_version: str | None) -> RunFacts:
    told = {"vmName": vm.name, "jdkVersion": vm.java, "vmVersion": vm.version, "userAgent": vm.user_agent}
    return RunFacts(
        machine=Machine(runtime=_runtime(vm)),
        machine_extra={key: text for key, text in told.items() if text} or None,
        labels={"tool": f"jmh {jmh_version or ''}".strip()},
    )


def _runtime(vm: Vm) -> str:
    """`OpenJDK 21`; empty where the file says nothing."""
    name = " ".join(_NO_IDENTITY_OF_VM.sub(" ", vm.name).split()) or vm.name
    if vm.user_agent:
        version = re.match(r"\d{1,6}(?:\.\d{1,6})?", vm.version)
        return " ".join(filter(None, [name, version[0] if version else "", "in", _browser(vm.user_agent)]))
    feature = re.match(r"(?:1\.)?(\d{1,6})", vm.java)
    if not name and not feature:
        return ""
    return f"{name or 'Java'} {feature[1] if feature else vm.java}".strip()


def _browser(user_agent: str) -> str:
    for mark, name in _BROWSERS:
        if version := re.search(re.escape(mark) + r"(\d{1,6})", user_agent):
            return f"{name} {version[1]}"
    return user_agent[:80]


# --- measurements ---


def _add(run: RunRows, out: Tables, where: str, entry: Entry) -> None:
    params = dict(entry.params or {})
    if entry.threads not in (None, 1):
        params["@Threads"] = entry.threads
    if entry.measurement_batch_size not in (None, 1):
        params["@Measurement.batchSize"] = entry.measurement_batch_size
    settings = {name: value for field, name in _SETTINGS if (value := getattr(entry, field)) not in (None, [], {})}
    metric = _METRICS.get(entry.mode, entry.mode or "score")
    unit = entry.primary_metric.score_unit
    better = "higher" if unit.startswith("ops/") else "lower" if unit.endswith("/op") else ""
    facts = {"benchmark": entry.benchmark, "params": params}
    _add_metric(run, f"{where}/primaryMetric", entry.primary_metric, settings, **facts, metric=metric, better=better)
    for key, item in (entry.secondary_metrics or {}).items():
        at = f"{where}/secondaryMetrics{pointer_step(key)}"
        try:
            secondary: Metric = read_fields(item, Metric, out, "/*/secondaryMetrics/*")
        except _DECODE_ERRORS as error:
            refuse_all(run, item, Metric, at, error)
            continue
        _add_metric(run, at, secondary, {}, **facts, **_secondary(entry, key, secondary.score_unit))


def _secondary(entry: Entry, key: str, unit: str) -> dict[str, Any]:
    """Metric, direction and `derived` of a secondary metric."""
    if match := _PERCENTILE.fullmatch(key):
        method = "sample time" if match[1] == entry.benchmark.rpartition(".")[2] else match[1]
        return {"metric": f"{method} p{match[2]}", "better": "lower", "derived": True}
    return {"metric": key.removeprefix("·") or key, "better": "lower" if unit in _COSTS else ""}


def _add_metric(run: RunRows, where: str, result: Metric, settings: dict[str, Any], **facts: Any) -> None:
    score = _number(run, f"{where}/score", result.score)
    error = _number(run, f"{where}/scoreError", result.score_error)
    confidence = [_number(run, f"{where}/scoreConfidence", number) for number in result.score_confidence or []]
    percentiles = {
        key: _number(run, f"{where}/scorePercentiles{pointer_step(key)}", number)
        for key, number in (result.score_percentiles or {}).items()
    }
    samples = _samples(run, where, result)
    if run.refused:
        return
    if score is None:
        run.flag(f"{where}/score", "a finite number", f"{result.score!r}: {facts['metric'][:80]!r} gives no value here")
        return
    extra = {
        **settings,
        "scoreError": error,
        "scoreConfidence": None if None in confidence else confidence,
        "scorePercentiles": {key: number for key, number in percentiles.items() if number is not None},
        "samples_of_forks": samples.of_forks if len(samples.of_forks) > 1 else None,
    }
    columns = samples.columns
    if "n" in columns and "samples" not in columns:
        extra["rawDataHistogram"] = result.raw_data_histogram
    run.measurement(
        where=f"{where}/score",
        value=score,
        unit=result.score_unit,
        extra={key: value for key, value in extra.items() if value not in (None, [], {})},
        **facts,
        **(columns or _of_percentiles(percentiles)),
    )


def _number(run: RunRows, where: str, value: Number) -> float | None:
    """The number if there is one; text that is none refuses the run."""
    try:
        return finite(value)
    except ValueError:
        run.refuse(where, "a number", repr(value)[:80])
        return None


def _samples(run: RunRows, where: str, metric: Metric) -> Samples:
    if metric.raw_data_histogram is not None:
        return _of_histogram(run, f"{where}/rawDataHistogram", metric.raw_data_histogram)
    samples: list[float] = []
    of_forks = []
    left_out = 0
    for fork, iterations in enumerate(metric.raw_data or []):
        before = len(samples)
        for iteration, value in enumerate(iterations):
            number = _number(run, f"{where}/rawData/{fork}/{iteration}", value)
            if number is None:
                left_out += 1
            else:
                samples.append(number)
        of_forks.append(len(samples) - before)
    if left_out and not run.refused:
        run.flag(f"{where}/rawData", "finite samples", f"{left_out} that are not, left out")
    return Samples({"samples": samples, **sample_statistics(samples)} if samples else {}, of_forks)


def _of_histogram(run: RunRows, where: str, forks: list[list[list[tuple[float, int]]]]) -> Samples:
    """Few samples one by one, many by their statistics."""
    of_forks = [sum(count for bins in iterations for _, count in bins) for iterations in forks]
    pairs = [pair for iterations in forks for bins in iterations for pair in bins if pair[1]]
    n = sum(of_forks)
    if n >= 1 << 63:
        run.refuse(where, "fewer than 2^63 samples", str(n))
    if not n or n >= 1 << 63:
        return Samples({}, [])
    if n <= MAX_SAMPLES_OF_HISTOGRAM:
        samples = [value for value, count in pairs for _ in range(count)]
        return Samples({"samples": samples, **sample_statistics(samples)}, of_forks)
    return Samples({"n": n, **_weighted_statistics(sorted(pairs), n)}, of_forks)


def _weighted_statistics(pairs: list[tuple[float, int]], n: int) -> dict[str, float | None]:
    """As `sample_statistics`, of sorted (value, count)."""
    mean = stddev = None
    try:
        mean = math.fsum(value * count for value, count in pairs) / n
        stddev = math.sqrt(math.fsum((value - mean) * (value - mean) * count for value, count in pairs) / (n - 1))
    except (OverflowError, ValueError):  # beyond the largest float
        pass
    return {
        "min": pairs[0][0],
        "max": pairs[-1][0],
        "mean": mean,
        "median": (_nth(pairs, (n - 1) // 2) + _nth(pairs, n // 2)) / 2,
        "stddev": stddev,
    }


def _nth(pairs: list[tuple[float, int]], n: int) -> float:
    """The sample at index `n` of all in order."""
    seen = 0
    for value, count in pairs:
        seen += count
        if seen > n:
            return value
    return pairs[-1][0]


def _of_percentiles(percentiles: dict[str, float | None]) -> dict[str, float | None]:
    columns = {}
    for key, number in percentiles.items():
        try:
            column = {0: "min", 50: "median", 100: "max"}.get(float(key[:40]))  # type: ignore[call-overload]
        except ValueError:
            continue
        if column:
            columns[column] = number
    return columns


FORMAT = Format(
    id="jmh",
    title="JMH JSON",
    made_by="java -jar benchmarks.jar -rf json -rff FILE",
    example="""[
  {"benchmark": "demo.Parse.parse", "mode": "avgt", "threads": 1, "forks": 1,
   "primaryMetric": {"score": 2.5, "scoreUnit": "ns/op", "rawData": [[2.4, 2.6]]}}
]""",
    claims=claims,
    read=read,
)
