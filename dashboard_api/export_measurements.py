"""Measurements as files of other tools: pytest-benchmark and Bencher Metric Format. Pure.

**pytest-benchmark** (https://pytest-benchmark.readthedocs.io/) knows times of Python tests, in seconds.

| of a measurement | becomes | notes |
|---|---|---|
| benchmark, params | fullname, name, param, params | `parse[small-3]`, as pytest writes ids |
| metric other than `time` | end of the name | `parse cpu_time` |
| value and statistics, samples | stats, stats.data | in seconds: units of time are converted |
| value where neither median nor mean tells it | stats.median | pytest-benchmark has no headline number |
| statistics that nobody stored | stats | from the samples, or of the one value; else null, and the tool can compare |
| | | only the columns that are there (`--columns=median --sort=median`) |
| unit, value, benchmark_version, derived, extra | extra_info | where they say more than the above |
| what is no time, or better when higher | | left out, and said so |

**Bencher Metric Format** (https://bencher.dev/docs/reference/bencher-metric-format/) knows names and numbers only.

| of a measurement | becomes | notes |
|---|---|---|
| benchmark, params, version | benchmark | `parse[n=3] v2` |
| metric `time` in a unit of time | measure `latency` | in nanoseconds, as Bencher defines it |
| metric | measure | with its unit behind it where Bencher's measure of that name has another |
| value | value | |
| min, max | lower_value, upper_value | of a run that came as BMF, its own bounds |
| samples, other statistics, direction, extra | | there is no place for them |
| a second value of one benchmark and measure | | left out, and said so |
"""

import contextlib
import json
import statistics
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from dashboard_api.export_source import Source, decoded, encoded, joined
from dashboard_api.resources import Measurement, Run

_PER_SECOND = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e3),
    **dict.fromkeys(("us", "µs", "μs", "usec", "microsecond", "microseconds"), 1e6),
    **dict.fromkeys(("ns", "nsec", "nanosecond", "nanoseconds"), 1e9),
    **dict.fromkeys(("ps", "picosecond", "picoseconds"), 1e12),
}
_SECONDS = {**dict.fromkeys(("m", "min", "minute", "minutes"), 60.0), **dict.fromkeys(("h", "hour", "hours"), 3600.0)}
_PER_ITERATION = ("/iter", "/op", "/iteration")
_STATISTICS = ("min", "max", "mean", "median", "stddev", "q1", "q3")
_OWN_STATISTICS = ("iterations", "iqr", "ld15iqr", "hd15iqr", "outliers", "ops", "total")
_LAYOUT = "5.0.0"  # the version of pytest-benchmark whose files look like this


def seconds(value: float, unit: str) -> float | None:
    """`value` in seconds (of one iteration, if the unit says so); None if `unit` is no unit of time."""
    for suffix in _PER_ITERATION:
        unit = unit.removesuffix(suffix)
    if unit in _PER_SECOND:
        return value / _PER_SECOND[unit]  # by a power of ten: rounded once, correctly
    return value * _SECONDS[unit] if unit in _SECONDS else None


# --- pytest-benchmark ---


def write_pytest_benchmark(source: Source) -> Iterator[bytes]:
    run = source.run
    head = {"machine_info": _machine_info(run), "commit_info": _commit_info(run)}
    started = run.started or run.commit_time or run.received
    tool, _, version = run.labels.get("tool", "").partition(" ")
    tail = {"datetime": started, "version": version if tool == "pytest-benchmark" and version else _LAYOUT}
    return joined(
        encoded(head)[:-1] + b',"benchmarks":[\n',
        (encoded(item) for row in source.rows() if (item := _benchmark(source, row)) is not None),
        b"\n]," + encoded(tail)[1:],
    )


def _benchmark(source: Source, row: Measurement) -> dict[str, Any] | None:
    """An element of `benchmarks`; None, noted, for what is no time."""
    name = f"{row.benchmark} {row.metric} in {row.unit or 'no unit'}"
    value = seconds(row.value, row.unit)
    if value is None or row.better == "higher":
        source.left_out.add("measurements that are no times", name)
        return None
    stats = {key: number if number is None else seconds(number, row.unit) for key, number in _statistics(row).items()}
    if stats["median"] is None and stats["mean"] != value:
        stats["median"] = value
    extra = decoded(row.extra)
    own = {}
    if source.run.format == "pytest-benchmark":
        own = {key: extra.pop(key) for key in ("group", "options", "extra_info", *_OWN_STATISTICS) if key in extra}
    info = own.get("extra_info")
    said = info if isinstance(info, dict) else ({"extra_info": info} if info else {})
    params = decoded(row.params)
    params |= extra.pop("params", {}) if own else {}
    more = {
        "unit": row.unit if row.unit != "s" else "",
        "value": value if stats["median"] != value else None,
        "benchmark_version": row.benchmark_version,
        "derived": row.derived,
        "extra": extra,
    }
    stem, param = _stem(row), None
    if row.params:
        param = params.pop("[id]", None) or "-".join(map(_plain, decoded(row.params).values()))
    fullname = stem if param is None else f"{stem}[{param}]"
    rounds = row.n if row.n is not None else len(row.samples or ()) or 1
    return {
        "group": own.get("group"),
        "name": fullname.rpartition("::")[2],
        "fullname": fullname,
        "params": params or None,
        "param": param,
        "extra_info": said | {key: one for key, one in more.items() if one not in (None, "", False, {})},
        "options": own.get("options", {}),
        "stats": stats
        | _derived_statistics(stats, rounds)
        | {key: own[key] for key in _OWN_STATISTICS if key in own}
        | {"rounds": rounds}
        | ({"data": [seconds(one, row.unit) for one in row.samples]} if row.samples else {}),
    }


def _statistics(row: Measurement) -> dict[str, float | None]:
    """As stored; what is not, from the samples, or of a single value what they are."""
    stored: dict[str, float | None] = {name: getattr(row, name) for name in _STATISTICS}
    samples = row.samples or ([row.value] if row.n in (None, 1) else [])
    if not samples:
        return stored
    computed: dict[str, float] = {"min": min(samples), "max": max(samples), "median": statistics.median(samples)}
    with contextlib.suppress(OverflowError):
        computed["mean"] = statistics.fmean(samples)
        computed["stddev"] = statistics.stdev(samples) if len(samples) > 1 else 0.0
        quartiles = statistics.quantiles(samples, method="inclusive") if len(samples) > 1 else samples * 3
        computed |= {"q1": quartiles[0], "q3": quartiles[2]}
    return {name: computed.get(name) if value is None else value for name, value in stored.items()}


def _derived_statistics(stats: dict[str, float | None], rounds: int) -> dict[str, Any]:
    """What the tool's own tables want besides, as far as it follows from the rest."""
    mean, q1, q3 = stats["mean"], stats["q1"], stats["q3"]
    return {
        "iterations": 1,
        "iqr": q3 - q1 if q1 is not None and q3 is not None else None,
        "outliers": "",
        "ops": 1 / mean if mean else None,
        "total": mean * rounds if mean is not None else None,
    }


def _stem(row: Measurement) -> str:
    return row.benchmark if row.metric == "time" else f"{row.benchmark} {row.metric}".rstrip()


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _machine_info(run: Run) -> dict[str, Any]:
    machine = decoded(run.machine)
    info = machine if run.format == "pytest-benchmark" else ({"extra": machine} if machine else {})
    system, _, release = (run.os or "").rpartition(" ")
    implementation, _, version = (run.runtime or "").rpartition(" ")
    told = {
        "system": system or release,
        "release": release if system else "",
        "python_implementation": implementation or version,
        "python_version": version if implementation else "",
    }
    cpu = {"brand_raw": run.cpu, "count": run.cores}
    cpu = {name: value for name, value in cpu.items() if value is not None}
    return {**told, **({"cpu": cpu} if cpu else {}), **info}


def _commit_info(run: Run) -> dict[str, Any]:
    return {
        "id": run.commit or "unversioned",
        "time": run.commit_time,
        "dirty": bool(run.dirty),
        "project": run.title or run.project,
        "branch": run.branch or "(unknown)",
    }


# --- Bencher Metric Format ---

BMF_ORDER = "benchmark, params, benchmark_version, metric, unit"
"""Benchmarks are keys of one object, so all rows of one must come together."""

_BUILT_IN = {"latency": ("ns",), "build-time": ("s",), "throughput": ("ops/s",), "file-size": ("B", "bytes")}


def write_bmf(source: Source) -> Iterator[bytes]:
    """`source` must come in `BMF_ORDER`."""

    def benchmarks() -> Iterator[bytes]:
        for name, rows in groupby(source.rows(), _bmf_name):
            measures: dict[str, Any] = {}
            for row in rows:
                measure, factor = _measure(row)
                if measure in measures:
                    source.left_out.add("more values of one benchmark and measure", f"{name} {measure}")
                else:
                    measures[measure] = _metric(source.run, row, factor)
            yield encoded(name) + b":" + encoded(measures)

    return joined(b"{\n", benchmarks(), b"\n}\n")


def _bmf_name(row: Measurement) -> str:
    params = ",".join(f"{name}={_plain(value)}" for name, value in decoded(row.params).items())
    version = f" v{row.benchmark_version}" if row.benchmark_version else ""
    ignored = "-bencher-ignore" if decoded(row.extra).get("ignore") is True else ""
    return row.benchmark + (f"[{params}]" if params else "") + version + ignored


def _measure(row: Measurement) -> tuple[str, float]:
    """The measure's name, and by what to multiply."""
    slug = row.metric.strip().lower().replace(" ", "-")
    in_seconds = seconds(1.0, row.unit)
    if slug in ("time", "latency") and in_seconds is not None:
        return ("latency" if slug == "time" else row.metric), 1.0 if row.unit == "ns" else in_seconds * 1e9
    if slug in _BUILT_IN and row.unit and row.unit not in _BUILT_IN[slug]:
        return f"{row.metric} ({row.unit})", 1.0
    return row.metric or "value", 1.0


def _metric(run: Run, row: Measurement, factor: float) -> dict[str, float]:
    bounds: dict[str, Any] = {"lower_value": row.min, "upper_value": row.max}
    if run.format == "bmf":
        extra = decoded(row.extra)
        bounds = {name: extra.get(name) for name in bounds}
    known = {name: value for name, value in bounds.items() if isinstance(value, int | float)}
    return {name: value * factor for name, value in {"value": row.value, **known}.items()}
