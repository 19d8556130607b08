"""Criterion.rs: the lines of `cargo criterion --message-format=json`, and the folder `target/criterion` as zip or tar.

    {"reason": "benchmark-complete", "id": "fib/recursive/20", "unit": "ns", "iteration_count": [10, 20],
     "measured_values": [250.0, 500.0], "typical": {"estimate": 25.0, "lower_bound": …, "upper_bound": …,
     "unit": "ns"}, "mean": {…}, "median": {…}, "median_abs_dev": {…}, "slope": {…} or null, "throughput": […]}

    target/criterion/fib/recursive/20/new/{benchmark,estimates,sample,tukey}.json, raw.csv

One file or archive is one run; each benchmark is one measurement.

| field | becomes | notes |
|---|---|---|
| id; group_id, function_id, value_str | benchmark, params | see Identity |
| typical; slope, else mean | value | what Criterion.rs prints: the slope, in flat sampling the mean |
| mean, median, std_dev | mean, median, stddev | std_dev is in the folder only, else from the samples |
| measured_values / iteration_count; times / iters | samples, n, min, max | of one iteration each |
| unit | unit; metric | `time` if it is one of time, else `value`; see Units |
| every estimate with its interval, iteration counts, sampling mode, throughput, change, tukey fences | extra | |
| group-complete: benchmarks | extra: group | |
| report_directory | nothing | a path on the runner |
| other lines | nothing | cargo's own messages and other output are counted |

**Identity.** In the folder: benchmark is group and function, joined by `/`; the parameter is `value` in params. In the
lines all is one text that cannot be taken apart again (a function's name may hold a `/`), so benchmark is the id. Two
benchmarks of one name get ` #2` from the tool, which is kept. There is no version.

**Units.** Lines name theirs. In the folder only raw.csv does; without it the numbers are nanoseconds, what the default
measurement gives. A raw.csv that was scaled from the folder's numbers (a measurement of the user's own) leaves the unit
unknown. Lower is better, also for such a measurement: the tool itself calls a decrease an improvement.

**Of the folder only `new/` is read.** After a run `base/` and any named baseline is a copy of it or an earlier run,
which was a result of its own; they are counted as unread, as are reports. `change/` is derived from both: it is kept in
extra. Where estimates.json is missing its numbers are computed from the samples and flagged; where benchmark.json is,
the one in `base/`, raw.csv or, flagged, the folder's path say which benchmark it is. The folder keeps benchmarks that
are no longer run: remove it before the run that you send.

**Dialects.** Estimates in CamelCase (`MedianAbsDev`) and samples as two bare arrays until 0.3; `slope` null or missing
in flat sampling. A number that is none is null. A row of the lines whose numbers are in different units is left out and
flagged.

Definition: https://bheisler.github.io/criterion.rs/book/cargo_criterion/external_tools.html and, for the folder, whose
files the tool calls its own affair, `src/estimate.rs`, `src/report.rs` and `src/connection.rs` of criterion.
"""

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from processor.formats import Format
from processor.reading.archive import Archive, archive_kind, open_archive
from processor.reading.decode import Buffer, rejected
from processor.reading.mended import read_fields, refuse_all
from processor.reading.samples import sample_statistics
from processor.reading.shape import Shape
from processor.tables import RunFacts, RunRows, Tables
from schemas.problems import problem_of

T = TypeVar("T", bound=msgspec.Struct)

_JSON_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_REASONS = ("benchmark-complete", "group-complete")
_LINE = re.compile(rb'^[ \t]*+\{[ \t]*+"reason"[ \t]*+:[ \t]*+"(?:benchmark|group)-complete"', re.MULTILINE)
_NEW_FOLDER = re.compile(r"(?:(.*)/)?new/(benchmark\.json|estimates\.json|sample\.json|tukey\.json|raw\.csv)")
_MEASURED = {"estimates.json", "sample.json", "raw.csv"}
_TIME_UNITS = {"ps", "ns", "us", "µs", "μs", "ms", "s"}
_SECOND_OF_ITS_NAME = re.compile(r" #[0-9]+$")
_STATISTICS = ("mean", "median", "std_dev", "median_abs_dev", "slope")


class Interval(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    estimate: float | None
    lower_bound: float | None = None
    upper_bound: float | None = None
    unit: str = ""


class Message(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    measured_values: list[float]
    iteration_count: list[float]
    unit: str
    typical: Interval
    mean: Interval | None = None
    median: Interval | None = None
    median_abs_dev: Interval | None = None
    slope: Interval | None = None
    throughput: Any = None
    change: Any = None
    reason: str = ""


class Group(msgspec.Struct, forbid_unknown_fields=True):
    group_name: str
    benchmarks: list[str]
    reason: str = ""


class ConfidenceInterval(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    confidence_level: float | None = None
    lower_bound: float | None = None
    upper_bound: float | None = None


class Estimate(msgspec.Struct, forbid_unknown_fields=True):
    point_estimate: float | None
    confidence_interval: ConfidenceInterval | None = None
    standard_error: float | None = None


class Estimates(msgspec.Struct, forbid_unknown_fields=True):
    mean: Estimate | None = None
    median: Estimate | None = None
    median_abs_dev: Estimate | None = None
    slope: Estimate | None = None
    std_dev: Estimate | None = None


class OldEstimates(msgspec.Struct, forbid_unknown_fields=True, rename="pascal"):
    mean: Estimate | None = None
    median: Estimate | None = None
    median_abs_dev: Estimate | None = None
    slope: Estimate | None = None
    std_dev: Estimate | None = None


class BenchmarkId(msgspec.Struct, forbid_unknown_fields=True):
    group_id: str
    function_id: str | None = None
    value_str: str | None = None
    throughput: Any = None
    full_id: str = ""
    directory_name: str = ""
    title: str = ""


class Sample(msgspec.Struct, forbid_unknown_fields=True):
    iters: list[float]
    times: list[float]
    sampling_mode: Any = None


@dataclass
class Folder:
    """One benchmark's part of an archive: the names of its files in `new/`, and their texts once they are read."""

    path: str
    new: dict[str, str] = field(default_factory=dict)
    old_id: str | None = None
    """benchmark.json in `base/`."""
    change: str | None = None
    texts: dict[str, bytes] = field(default_factory=dict)


def claims(shape: Shape) -> bool:
    if shape.kind == "archive":
        return any(_is_measured(name) for name in shape.names)
    if shape.kind not in ("object", "lines", "text"):
        return False
    try:
        if "reason" in shape.keys and msgspec.json.decode(shape.keys["reason"]) in _REASONS:
            return True
    except _JSON_ERRORS:
        return False
    return shape.kind != "object" and _LINE.search(shape.data) is not None


def read(data: Buffer, out: Tables) -> None:
    run_of = RunFacts(labels={"tool": "Criterion.rs"})
    if archive_kind(data):
        archive = open_archive(data, out.limits)
        folders = _folders(archive, out)
        if not folders:
            raise rejected("archive", "a folder new/ with estimates.json or sample.json", f"{len(archive.names)} files")
        run = out.run(run_of)
        for folder in folders:
            _read_folder(run, archive, folder, out)
    else:
        _read_lines(out.run(run_of), data, out)


# --- lines ---


def _read_lines(run: RunRows, data: Buffer, out: Tables) -> None:
    """Every benchmark-complete of the lines; the groups come after their benchmarks and are read first."""
    messages, groups, known = [], dict[str, str](), False
    for where, text, reason in _messages(data):
        known = known or reason in _REASONS
        if reason == "benchmark-complete":
            messages.append((where, text))
        elif reason == "group-complete":
            try:
                group: Group = read_fields(text, Group, out, "/*")
                groups |= dict.fromkeys(group.benchmarks, group.group_name)
            except _JSON_ERRORS as error:
                refuse_all(run, text, Group, where, error)
        else:
            out.leave_unread("line: other output")
    if not known:
        raise rejected("/", f"a line with reason {' or '.join(_REASONS)}", "none")
    for where, text in messages:
        try:
            message: Message = read_fields(text, Message, out, "/*")
        except _JSON_ERRORS as error:
            refuse_all(run, text, Message, where, error)
        else:
            _add_message(run, where, message, groups.get(message.id))


def _messages(data: Buffer) -> Iterator[tuple[str, bytes, str]]:
    """(where, JSON, reason) of each message; the reason is empty for any other line, and for a broken one of cargo's.

    A line that is cut off in the middle is a message if it starts as one, so that reading it says what is wrong.
    """
    text = bytes(data)
    if (reason := _reason(text)) is not None:
        yield "", text, reason
        return
    for number, line in enumerate(text.split(b"\n"), start=1):
        if line.strip():
            reason = _reason(line)
            if reason is None:
                reason = "benchmark-complete" if _LINE.match(line) else ""
            yield f"line {number}", line, reason


def _reason(text: bytes) -> str | None:
    """None if `text` is no JSON object."""
    try:
        fields = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        reason = msgspec.json.decode(fields.get("reason", b'""'))
    except _JSON_ERRORS:
        return None
    return reason if isinstance(reason, str) else ""


def _add_message(run: RunRows, where: str, message: Message, group: str | None) -> None:
    intervals = {name: interval for name in _STATISTICS if (interval := getattr(message, name, None))}
    if message.typical.estimate is None:
        run.flag(f"{where}/typical/estimate", "a number, to make a row", "null")
        return
    units = {message.unit, *(interval.unit or message.unit for interval in (message.typical, *intervals.values()))}
    if len(units) > 1:
        run.flag(f"{where}/unit", "one unit in a benchmark, to make it a row", ", ".join(sorted(units)))
        return
    samples = _samples(run, where, message.measured_values, message.iteration_count)
    if samples is None:
        return
    estimates = {name: msgspec.to_builtins(interval) for name, interval in intervals.items()}
    extra = {"group": group, "typical": msgspec.to_builtins(message.typical), **estimates}
    extra |= {"iterations": _whole(message.iteration_count), "throughput": message.throughput, "change": message.change}
    _add(
        run,
        where=f"{where}/typical/estimate",
        benchmark=message.id,
        params=None,
        unit=message.unit,
        value=message.typical.estimate,
        samples=samples,
        statistics={name: point for name, interval in intervals.items() if (point := interval.estimate) is not None},
        extra=extra,
    )


# --- the folder ---


def _is_measured(name: str) -> bool:
    match = _NEW_FOLDER.fullmatch(name)
    return match is not None and match[2] in _MEASURED


def _folders(archive: Archive, out: Tables) -> list[Folder]:
    """A Folder per benchmark with something in `new/`; all other paths are counted as unread."""
    folders: dict[str, Folder] = {}
    for name in archive.names:
        if match := _NEW_FOLDER.fullmatch(name):
            path = match[1] or ""
            folders.setdefault(path, Folder(path)).new[match[2]] = name
    for name in archive.names:
        if _NEW_FOLDER.fullmatch(name):
            continue
        path, _, last = name.rpartition("/")
        path, _, inner = path.rpartition("/")
        folder = folders.get(path)
        if folder and inner == "change" and last == "estimates.json":
            folder.change = name
        elif folder and inner == "base":
            folder.old_id = name if last == "benchmark.json" else folder.old_id
            out.leave_unread("*/base/*")
        else:
            out.leave_unread("*/report/*" if inner == "report" else "(other files)")
    return list(folders.values())


def _read_folder(run: RunRows, archive: Archive, folder: Folder, out: Tables) -> None:
    if folder.old_id:
        folder.new.setdefault("benchmark.json", folder.old_id)
    folder.texts = {file: archive.read(name) for file, name in folder.new.items()}
    old = b'"Mean"' in folder.texts.get("estimates.json", b"")
    estimates = _parsed(run, folder, "estimates.json", OldEstimates if old else Estimates, out)
    sample = _sample(run, folder, out)
    table = _raw_csv(run, folder)
    id = _benchmark_id(run, folder, table, out)
    if sample is None and table:
        sample = Sample(iters=[row[1] for row in table.numbers], times=[row[0] for row in table.numbers])
    where = f"{folder.path}/new"
    if sample is None and estimates is None:
        if not _MEASURED & folder.texts.keys():
            run.flag(where, "estimates.json or sample.json, to make a row", ", ".join(sorted(folder.texts)))
        return
    samples = _samples(run, f"{where}/sample.json", sample.times, sample.iters) if sample else []
    if samples is None:
        return
    points, extra = {}, {}
    for name in _STATISTICS:
        if estimates and (estimate := getattr(estimates, name)) and estimate.point_estimate is not None:
            points[name], extra[name] = estimate.point_estimate, msgspec.to_builtins(estimate)
    if sample and "estimates.json" not in folder.texts:
        run.flag(where, "estimates.json", "none; its numbers are computed from the samples")
        points = _computed(sample, samples)
    name = "slope" if "slope" in points else "mean"
    if name not in points:
        run.flag(f"{where}/estimates.json", "slope or mean, to make a row", ", ".join(points) or "neither")
        return
    extra |= {"group": id.group_id, "function": id.function_id, "title": id.title, "throughput": id.throughput}
    extra |= {"iterations": _whole(sample.iters), "sampling_mode": sample.sampling_mode} if sample else {}
    if "tukey.json" in folder.texts:
        extra["tukey"] = _json(run, folder.new["tukey.json"], folder.texts["tukey.json"])
    if folder.change:
        extra["change"] = _json(run, folder.change, archive.read(folder.change))
    benchmark = f"{id.group_id}/{id.function_id}" if id.function_id is not None else id.group_id
    if (suffix := _SECOND_OF_ITS_NAME.search(id.title)) and not id.full_id.endswith(suffix[0]):
        benchmark += suffix[0]
    _add(
        run,
        where=f"{where}/estimates.json {name}",
        benchmark=benchmark,
        params={"value": id.value_str} if id.value_str is not None else None,
        unit=_unit(table, sample),
        value=points[name],
        samples=samples,
        statistics=points,
        extra=extra,
    )


def _parsed(run: RunRows, folder: Folder, file: str, type: type[T], out: Tables) -> T | None:
    """None where there is no such file, and where it refuses the run."""
    if file not in folder.texts:
        return None
    text, where = folder.texts[file], folder.new[file]
    try:
        value: T = read_fields(text, type, out, f"*/{file}")
    except _JSON_ERRORS as error:
        refuse_all(run, text, type, where, error)
        return None
    return value


def _sample(run: RunRows, folder: Folder, out: Tables) -> Sample | None:
    text = folder.texts.get("sample.json", b"")
    if text.lstrip()[:1] != b"[":
        return _parsed(run, folder, "sample.json", Sample, out)
    try:
        iters, times = msgspec.json.decode(text, type=tuple[list[float], list[float]])
    except _JSON_ERRORS as error:
        problem = problem_of(error, folder.new["sample.json"])
        run.refuse(problem.where, problem.expected, problem.found)
        return None
    return Sample(iters=iters, times=times)


@dataclass(frozen=True)
class RawCsv:
    """`numbers` are (measured, iterations); `unit` is empty if the file does not say."""

    group: str
    function: str
    value: str
    unit: str
    numbers: list[tuple[float, float]]


def _raw_csv(run: RunRows, folder: Folder) -> RawCsv | None:
    """None where there is no file or no row in it. Until 0.3 there is no unit: the column's name has it."""
    if "raw.csv" not in folder.texts:
        return None
    where = folder.new["raw.csv"]
    try:
        text = folder.texts["raw.csv"].decode("utf-8")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        numbers = [
            (float(row.get("sample_measured_value") or row["sample_time_nanos"]), float(row["iteration_count"]))
            for row in rows
        ]
    except (csv.Error, ValueError, KeyError, TypeError) as error:
        found = f"no {error} in a row" if isinstance(error, KeyError) else str(error)[:200]
        run.refuse(where, "columns sample_measured_value and iteration_count with numbers", found)
        return None
    if not rows:
        return None
    first = rows[0]
    unit = "ns" if "sample_time_nanos" in first else first.get("unit") or ""
    group, function, value = (first.get(name) or "" for name in ("group", "function", "value"))
    return RawCsv(group, function, value, unit, numbers)


def _benchmark_id(run: RunRows, folder: Folder, table: RawCsv | None, out: Tables) -> BenchmarkId:
    if id := _parsed(run, folder, "benchmark.json", BenchmarkId, out):
        return id
    if table:
        return BenchmarkId(group_id=table.group, function_id=table.function or None, value_str=table.value or None)
    if "benchmark.json" not in folder.texts:
        run.flag(f"{folder.path}/new", "benchmark.json or raw.csv", "neither; the path is taken as the benchmark's id")
    return BenchmarkId(group_id=folder.path)


def _computed(sample: Sample, samples: list[float]) -> dict[str, float]:
    """The point estimates as the tool makes them: least squares through the origin, in flat sampling none."""
    statistics = sample_statistics(samples)
    points = {"mean": statistics["mean"], "median": statistics["median"], "std_dev": statistics["stddev"]}
    if sample.sampling_mode != "Flat":
        try:
            squares = math.fsum(iters * iters for iters in sample.iters)
            products = math.fsum(iters * time for iters, time in zip(sample.iters, sample.times, strict=True))
            points["slope"] = products / squares if squares else None
        except (OverflowError, ValueError):  # beyond the largest float, or infinities of both signs
            pass
    return {name: point for name, point in points.items() if point is not None and math.isfinite(point)}


def _unit(table: RawCsv | None, sample: Sample | None) -> str:
    """raw.csv's unit if its numbers are those of the sample."""
    if table is None or not table.unit:
        return "ns"
    if sample is None or [time for time, _ in table.numbers] == sample.times:
        return table.unit
    return ""


def _json(run: RunRows, where: str, text: bytes) -> Any:
    """Something for extra; flagged where it is no JSON."""
    try:
        return msgspec.json.decode(text)
    except _JSON_ERRORS as error:
        problem = problem_of(error, where)
        run.flag(problem.where, problem.expected, problem.found)
        return None


# --- both ---


def _samples(run: RunRows, where: str, measured: list[float], iterations: list[float]) -> list[float] | None:
    """Measured by iterations, or None and a refusal if they do not go together."""
    if len(measured) != len(iterations):
        found = f"{len(measured)} measured values and {len(iterations)} iteration counts"
        run.refuse(where or "/", "as many measured values as iteration counts", found)
        return None
    samples = []
    for index, (value, count) in enumerate(zip(measured, iterations, strict=True)):
        if not (count > 0 and math.isfinite(value / count)):
            run.refuse(f"{where} sample {index}", "a measured value of some iterations", f"{value!r} of {count!r}")
            return None
        samples.append(value / count)
    return samples


def _whole(counts: list[float]) -> list[float]:
    """Counts as JSON is short: `10` rather than `10.0`."""
    return [int(count) if count.is_integer() else count for count in counts]


def _add(
    run: RunRows,
    *,
    where: str,
    benchmark: str,
    params: Mapping[str, Any] | None,
    unit: str,
    value: float,
    samples: list[float],
    statistics: Mapping[str, float],
    extra: Mapping[str, Any],
) -> None:
    of_samples = sample_statistics(samples) if samples else {}
    run.measurement(
        where=where,
        benchmark=benchmark,
        metric="time" if unit in _TIME_UNITS else "value",
        value=value,
        unit=unit,
        better="lower",
        params=params,
        samples=samples or None,
        min=of_samples.get("min"),
        max=of_samples.get("max"),
        mean=statistics.get("mean", of_samples.get("mean")),
        median=statistics.get("median", of_samples.get("median")),
        stddev=statistics.get("std_dev", of_samples.get("stddev")),
        extra={key: value for key, value in extra.items() if value not in (None, "", [], {})},
    )


FORMAT = Format(
    id="criterion",
    title="Criterion.rs: cargo-criterion lines, or the folder target/criterion",
    made_by="cargo criterion --message-format=json > FILE, or tar -czf FILE target/criterion after cargo bench",
    example="""{"reason": "benchmark-complete", "id": "fib/20", "unit": "ns", "iteration_count": [10, 20],
 "measured_values": [250.0, 500.0], "typical": {"estimate": 25.0, "unit": "ns"}}
""",
    claims=claims,
    read=read,
)
