"""hyperfine: the JSON of `hyperfine --export-json FILE`, of versions 1 and 2.

    {"results": [{"command": …, "mean": …, "stddev": …, "median": …, "user": …, "system": …, "min": …, "max": …,
                  "times": […], "memory_usage_byte": […], "exit_codes": […], "parameters": {…}}]}

    {"schema_version": 2, "metadata": {…}, "primary_metric": …,
     "results": [{"command": …, "name": …, "parameters": {…}, "measurements": [{"time_wall_clock": {"value": …,
                  "unit": "second"}, …, "exit_code": 0}], "summary": {"time_wall_clock": {"unit": …, "mean": …, …}}}]}

One file is one run; each result gives one measurement per quantity, all `lower`.

| version 1 | version 2 | becomes | notes |
|---|---|---|---|
| command | name, else command | benchmark | 1 writes `--command-name` there; of 2, extra keeps the command |
| parameters | parameters | params | |
| mean | summary/time_wall_clock/mean | value of metric `time`, `s` | the number that hyperfine prints |
| times | time_wall_clock of measurements | samples | |
| min, max, median, stddev | summary | the same | stddev is null where the command ran once |
| user, system | time_user, time_system | value of metrics `user`, `system`, `s` | means; 1 keeps no samples of them |
| | time_cpu | metric `cpu`, `s` | user and system together |
| memory_usage_byte | memory_peak_resident | metric `memory`, `B` | the mean of the runs' peaks |
| | cpu_cycles, instructions, … | metrics of the same names | direction unknown for a metric we do not know |
| exit_codes | exit_code of measurements | extra | only where one is not 0 |
| | metadata | label `tool`, started; machine | `platform` only in machine: it has no version |
| | primary_metric | label `primary_metric` | |

**Identity.** Benchmark and params. hyperfine may be given one command twice; their samples are not pooled, since two
measurements were asked for: the second one has `{"[repeat]": 2}` in params, and is flagged.

**Failed commands.** With `--ignore-failure` hyperfine goes on: rows are kept, and exit codes other than 0 (null: killed
by a signal) are flagged. So is a command that ends in ` [ERROR]`, as wrappers mark one that failed; it keeps that name,
and so its numbers stay apart. A result without any number gives no row and is flagged.

Definition: https://github.com/sharkdp/hyperfine, `src/export/json.rs` and `src/benchmark/`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec

from processor.formats import Format
from processor.reading.decode import Buffer
from processor.reading.instants import parse_instant
from processor.reading.mended import pointer_step, read_fields, read_mended, refuse_all
from processor.reading.samples import sample_statistics
from processor.reading.shape import Shape
from processor.tables import RunFacts, RunRows, Tables, canonical_json

_REPEAT = "[repeat]"
_FAILED = " [ERROR]"
_METRICS = {
    "time_wall_clock": "time",
    "time_cpu": "cpu",
    "time_user": "user",
    "time_system": "system",
    "memory_peak_resident": "memory",
}
_COUNTERS = {"cpu_cycles", "instructions", "cache_references", "cache_misses", "branch_misses"}
_UNITS = {"second": "s", "byte": "B"}

_Integer = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_ExitCode = Annotated[int, msgspec.Meta(ge=-(1 << 31), lt=1 << 32)]


class Platform(msgspec.Struct, forbid_unknown_fields=True):
    os: str | None = None
    architecture: str | None = None


class Metadata(msgspec.Struct, forbid_unknown_fields=True):
    hyperfine_version: str | None = None
    start_time: str | None = None
    platform: Platform | None = None


class Document(msgspec.Struct, forbid_unknown_fields=True):
    results: list[msgspec.Raw]
    schema_version: _Integer | None = None
    metadata: Metadata | None = None
    primary_metric: str | None = None


class Parameter(msgspec.Struct, forbid_unknown_fields=True):
    value: str | _Integer | float | bool | None


_Parameters = dict[str, Parameter | str | _Integer | float | bool | None]


class Result(msgspec.Struct, forbid_unknown_fields=True):
    """Of version 1."""

    command: str
    mean: float | None = None
    stddev: float | None = None
    median: float | None = None
    user: float | None = None
    system: float | None = None
    min: float | None = None
    max: float | None = None
    times: list[float] | None = None
    memory_usage_byte: list[float] | float | None = None
    exit_codes: list[_ExitCode | None] | None = None
    parameters: _Parameters | None = None


class Quantity(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    value: float | None = None
    unit: str = ""


class Summary(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    unit: str = ""
    count: _Integer | None = None
    mean: float | None = None
    stddev: float | None = None
    median: float | None = None
    min: float | None = None
    max: float | None = None


class Result2(msgspec.Struct, forbid_unknown_fields=True):
    """Of version 2."""

    command: str
    name: str | None = None
    parameters: _Parameters | None = None
    measurements: list[dict[str, Quantity | _ExitCode | None]] | None = None
    summary: dict[str, Summary | None] | None = None


def claims(shape: Shape) -> bool:
    if shape.kind != "object" or "results" not in shape.keys:
        return False
    try:
        results = msgspec.json.decode(shape.keys["results"], type=list[msgspec.Raw])
        first = msgspec.json.decode(results[0], type=dict[str, msgspec.Raw]).keys() if results else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    if first is None:
        return {"schema_version", "primary_metric"} <= shape.keys.keys()
    return "command" in first and bool({"mean", "times", "measurements"} & first)


def read(data: Buffer, out: Tables) -> None:
    document: Document = read_mended(data, Document, out)
    run = out.run(_facts(document))
    if document.metadata and document.metadata.start_time and run.facts.started is None:
        run.flag("/metadata/start_time", "a time in ISO 8601", repr(document.metadata.start_time[:80]))
    identities = _Identities()
    for index, item in enumerate(document.results):
        where = f"/results/{index}"
        type: Any = Result
        try:
            fields = msgspec.json.decode(item, type=dict[str, msgspec.Raw])
            type = Result2 if {"measurements", "summary"} & fields.keys() else Result
            result = read_fields(item, type, out, "/results/*")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            refuse_all(run, item, type, where, error)
        else:
            _add(run, out, where, result, identities)


def _facts(document: Document) -> RunFacts:
    metadata = document.metadata or Metadata()
    labels = {"tool": f"hyperfine {metadata.hyperfine_version or ''}".strip()}
    if document.primary_metric:
        labels["primary_metric"] = document.primary_metric
    platform = msgspec.structs.asdict(metadata.platform) if metadata.platform else {}
    return RunFacts(
        started=parse_instant(metadata.start_time) if metadata.start_time else None,
        machine_extra={name: value for name, value in platform.items() if value} or None,
        labels=labels,
    )


class _Identities:
    """The benchmarks and params that the run has had."""

    def __init__(self) -> None:
        self._taken: set[tuple[str, str]] = set()
        self._repeats: Counter[tuple[str, str]] = Counter()

    def params_of(self, benchmark: str, params: dict[str, Any]) -> dict[str, Any]:
        """`params`, or more of them where the benchmark has had these already."""
        own = benchmark, canonical_json(params)
        distinct = params
        while (key := (benchmark, canonical_json(distinct))) in self._taken:
            self._repeats[own] += 1
            distinct = params | {_REPEAT: self._repeats[own] + 1}
        self._taken.add(key)
        return distinct


def _add(run: RunRows, out: Tables, where: str, result: Result | Result2, identities: _Identities) -> None:
    given = {
        name: value.value if isinstance(value, Parameter) else value
        for name, value in (result.parameters or {}).items()
    }
    name = (result.name or result.command) if isinstance(result, Result2) else result.command
    params = identities.params_of(name, given)
    if params is not given:
        again = f"one of them, kept as repeat {params[_REPEAT]}"
        run.flag(f"{where}/command", "a command that differs from those before", again)
    if name.endswith(_FAILED):
        run.flag(f"{where}/command", "a command that succeeded", repr(name[-80:]))
    codes = _exit_codes(result)
    extra: dict[str, Any] = {"command": result.command} if name != result.command else {}
    if any(code != 0 for code in codes):
        extra["exit_codes"] = codes
        failed = [str(code) for code in codes if code != 0]
        found = f"{', '.join(sorted(set(failed)))} ({len(failed)} of {len(codes)} runs)"
        run.flag(f"{where}/exit_codes", "0 in all runs", found.replace("None", "killed by a signal"))
    quantities = _quantities(run, out, where, result) if isinstance(result, Result2) else _quantities_1(where, result)
    rows = 0
    for place, metric, unit, better, samples, statistics in quantities:
        value = statistics.pop("value")
        if value is not None:
            rows += 1
            run.measurement(
                where=place,
                benchmark=name,
                params=params,
                metric=metric,
                unit=unit,
                better=better,
                value=value,
                samples=samples,
                extra=extra,
                **statistics,
            )
    if not rows:
        run.flag(where, "a mean or times", "neither")


def _exit_codes(result: Result | Result2) -> list[int | None]:
    if isinstance(result, Result):
        return result.exit_codes or []
    codes = [run["exit_code"] for run in result.measurements or [] if "exit_code" in run]
    return [code if isinstance(code, int) else None for code in codes]


_Row = tuple[str, str, str, str, Sequence[float] | None, dict[str, Any]]
"""Place, metric, unit, better, samples, statistics with `value`."""


def _quantities_1(where: str, result: Result) -> Iterator[_Row]:
    runs = len(result.times or result.exit_codes or ()) or None
    given = Summary("s", runs, result.mean, result.stddev, result.median, result.min, result.max)
    yield f"{where}/mean", "time", "s", "lower", result.times or None, _statistics(result.times or [], given)
    for name, value in (("user", result.user), ("system", result.system)):
        yield f"{where}/{name}", name, "s", "lower", None, {"value": value, "mean": value, "n": runs}
    memory = result.memory_usage_byte
    if memory is not None:
        samples = memory if isinstance(memory, list) else [memory]
        yield f"{where}/memory_usage_byte", "memory", "B", "lower", samples or None, _statistics(samples, Summary())


def _quantities(run: RunRows, out: Tables, where: str, result: Result2) -> Iterator[_Row]:
    found: dict[str, list[float]] = {}
    units: dict[str, set[str]] = {}
    for one in result.measurements or []:
        for name, quantity in one.items():
            if isinstance(quantity, Quantity) and quantity.value is not None:
                found.setdefault(name, []).append(quantity.value)
                units.setdefault(name, set()).add(quantity.unit)
            elif quantity is not None and name != "exit_code":
                out.leave_unread(f"/results/*/measurements/*{pointer_step(name)}")
    for name, summary in (result.summary or {}).items():
        if summary:
            units.setdefault(name, set()).add(summary.unit)
    for name, written in units.items():
        samples = found.get(name, [])
        if len(written) > 1:
            run.flag(f"{where}/measurements", f"one unit of {name}", ", ".join(sorted(map(repr, written)))[:200])
            continue
        if samples and len(samples) < len(result.measurements or []):
            runs = len(result.measurements or [])
            run.flag(f"{where}/measurements", f"{name} in all {runs} runs", f"it in {len(samples)}")
        unit = next(iter(written))
        known = name in _METRICS or name in _COUNTERS or unit in _UNITS
        given = (result.summary or {}).get(name) or Summary()
        yield (
            f"{where}/summary/{name}",
            _METRICS.get(name, name),
            _UNITS.get(unit, unit),
            "lower" if known else "",
            samples or None,
            _statistics(samples, given),
        )


def _statistics(samples: Sequence[float], given: Summary) -> dict[str, Any]:
    """What the file gives, else what its samples give, and the mean as `value`."""
    stats: dict[str, Any] = dict(sample_statistics(samples)) if samples else {}
    for name in ("mean", "stddev", "median", "min", "max"):
        number = getattr(given, name)
        stats[name] = stats.get(name) if number is None else number
    count = given.count if given.count is not None and given.count >= 0 else None
    return {**stats, "value": stats["mean"], "n": len(samples) or count}


FORMAT = Format(
    id="hyperfine",
    title="hyperfine JSON",
    made_by="hyperfine --export-json FILE COMMAND…",
    example='{"results": [{"command": "sleep 0.1", "mean": 0.105, "times": [0.104, 0.105, 0.106], "exit_codes": [0]}]}',
    claims=claims,
    read=read,
)
