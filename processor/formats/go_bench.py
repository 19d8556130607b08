"""go-bench: what `go test -bench` prints, and the files of the same format that other Go tools write.

    goos: linux
    goarch: amd64
    pkg: encoding/json
    cpu: AMD EPYC 7763 64-Core Processor
    BenchmarkDecode/size=1kB-8     294    3984523 ns/op    487.00 MB/s    1024 B/op    12 allocs/op

Each unit of a benchmark is one measurement; lines of the same benchmark (`-count`, runs one after the other) are its
samples.

| line or part of it | becomes | notes |
|---|---|---|
| `pkg:`, name | benchmark | `encoding/json.Decode`: without the prefix `Benchmark`, as benchstat shows it |
| `/key=value` in the name | params | other parts stay in the name; so does a key that is there twice |
| `-8` at the end of the name | params, `gomaxprocs` | benchstat's word; absent where it is 1 |
| iterations | extra | a list, one number per sample |
| value and unit | value, samples | value is the median, as in benchstat; units as written, never converted |
| `Unit <unit> better=…` | better | holds for the whole file, wherever it stands |
| `Unit <unit> assume=…`, others | extra | |
| `goos:`, `goarch:` | runtime | `Go linux/amd64`, as `go version` says it; the version is not known |
| `cpu:`, `cpu-count:`, `mem:`, `os:` | cpu, cores, ram_gib, os; machine | |
| `commit:`, `commit-time:` | commit | a hexadecimal one; else like any other key |
| other `key: value` lines | labels, or params | see below |
| `--- FAIL:`, `--- SKIP:`, `FAIL`, `panic:` | | flagged, and so is a benchmark that began and gave no result |
| `PASS`, empty lines, names that `-v` announces | | |

Metrics are `time` (ns/op, sec/op), `throughput` (MB/s, B/s), `allocated` (B/op) and `allocations` (allocs/op); any
other unit is its metric's name too.

**Direction.** What a Unit line says; else lower for durations (`ns`, `sec` with anything in front or below: `p99-ns`,
`build-real-ns/op`), `B/op` and `allocs/op` (also `heap-B/op`), higher for all that is per second; else unknown.

**Identity.** A `key: value` line holds until its key comes again, so a file is cut into configurations. They are one
run unless they differ in what says which commit or machine it was; a configuration that does not say takes what the
others say, if they agree. (Several commits in a file are a history: nothing is filled in from the push.) Within a
run, a key that has one value throughout is a label; one that varies (`note: before`, `note: after`) tells measurements
apart, so it is in params, but for `pkg`. Words that logs begin with (`error:`, `warning:` and such) are no keys. A name
that ends in `-100` by itself looks like one with GOMAXPROCS; benchstat reads it so too.

**Dialects.** Colours, CRLF, UTF-16 (PowerShell), other tools' units, several values of one line, results of many
packages. A line that begins like a result and is none is flagged and costs nothing else. All other lines are counted as
`line: other output`, `ok` lines as `line: time of a package`, persons' names (`by:`, `user:`) as `line: person`.

Definition: https://go.googlesource.com/proposal/+/master/design/14313-benchmark-format.md and
https://pkg.go.dev/golang.org/x/perf/benchfmt.
"""

import math
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from processor.formats import Format
from processor.reading.decode import Buffer, rejected
from processor.reading.instants import parse_instant
from processor.reading.samples import STATISTICS, sample_statistics
from processor.reading.shape import Shape
from processor.reading.text_lines import first_text, line_blocks
from processor.tables import RunFacts, RunRows, Tables, canonical_json
from schemas.records import Commit, Machine

_PREFIX = "Benchmark"
_MAX_KEYS = 64
_MAX_KEY_CHARACTERS = 4000
"""Of all `key: value` lines that hold at a time. What prints more is a program's log."""

_RESULT = re.compile(  # begins with what is literal, so that the search is fast
    rb"Benchmark(?:(?<![^\n\r\x1bm]Benchmark)\S*+[ \t]++(?:\d++[ \t]++[-+.\d]\S*+[ \t]++\S|--- (?:FAIL|SKIP): )"
    rb"|(?<=--- (?:FAIL|SKIP): Benchmark)(?<![^\n\r\x1bm]--- (?:FAIL|SKIP): Benchmark))"
)
_KEY = re.compile(r"([a-z][^\s:A-Z]{0,99}):(?:[ \t]+(.*)|)")
_PROCS = re.compile(r"(.*)-([0-9]{1,9})", re.DOTALL)
_COMMIT = re.compile(r"[0-9a-f]{6,64}")
_MEMORY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([KMGT]?)i?B?", re.IGNORECASE)
_GIB = {"": 2.0**-30, "K": 2.0**-20, "M": 2.0**-10, "G": 1.0, "T": 1024.0}
_SCALED = re.compile(r"(?:(?<=^)|(?<=-))(ns|MB)(?=$|[-/])")

_RUN_KEYS = ("commit", "commit-time", "goos", "goarch", "cpu", "cpu-count", "cpu-physical-count", "mem", "os")
_MACHINE_KEYS = _RUN_KEYS[2:]
_PERSONS = {"by", "user", "username", "author", "committer", "email", "uploader"}
_LOG = {"panic", "fatal", "error", "err", "warning", "warn", "info", "debug", "trace", "testing", "signal", "exit"}

_METRICS = {
    "ns/op": "time",
    "sec/op": "time",
    "MB/s": "throughput",
    "B/s": "throughput",
    "B/op": "allocated",
    "allocs/op": "allocations",
}
_COLUMNS = ("benchmark", "params", "metric", "unit", "better", "extra", "samples", "value", *STATISTICS)
_ROWS_TOGETHER = 10_000
_DURATIONS = {"ns", "us", "µs", "ms", "s", "sec"}


class _Lines(msgspec.Struct, gc=False):
    """The lines of one benchmark in one configuration that give the same units in the same order.

    `numbers` is flat: of each line the iterations and then a value per unit.
    """

    units: list[str]
    width: int
    line: int
    numbers: "array[float]"


class _Column(msgspec.Struct, gc=False):
    """The samples of one unit of one benchmark, each with its iterations; `line` is the first one's."""

    line: int
    samples: list[float]
    iterations: list[float]

    def keep_finite(self) -> bool:
        """Leave out the samples that are not finite. Whether there were none."""
        if all(map(math.isfinite, self.samples)):
            return True
        pairs = [pair for pair in zip(self.samples, self.iterations, strict=True) if math.isfinite(pair[0])]
        self.samples, self.iterations = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        return False


_Benchmarks = dict[Any, _Lines]
"""By the name as written; lines with other units than the first one's by (name, *units)."""


@dataclass
class _Configuration:
    keys: dict[str, str]
    benchmarks: _Benchmarks


@dataclass
class _File:
    """What the lines of a file say, before they are sorted into runs."""

    out: Tables
    configurations: dict[frozenset[tuple[str, str]], _Configuration] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    units: dict[str, dict[str, str]] = field(default_factory=dict)
    """Of Unit lines: the tidy unit's metadata."""
    begun: dict[str, int] = field(default_factory=dict)
    """Benchmarks whose name stood alone on a line, and that line."""
    last_units: list[str] = field(default_factory=list)
    """Of the benchmark before: the next one nearly always has the same, and shares them."""
    is_go: bool = False
    """Something that only go test prints was there, results or not."""

    def flag(self, line: int, expected: str, found: str) -> None:
        self.out.problem(f"line {line}", expected, found, effect="kept")

    def benchmarks(self) -> _Benchmarks:
        """Of the configuration that holds now."""
        identity = frozenset(self.keys.items())
        if identity not in self.configurations:
            self.configurations[identity] = _Configuration(dict(self.keys), {})
        return self.configurations[identity].benchmarks


def claims(shape: Shape) -> bool:
    if shape.kind != "text" or shape.head.startswith(b"TAP version "):
        return False
    if shape.head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return _RESULT.search(first_text(shape.data).encode()) is not None
    return _RESULT.search(shape.data) is not None


def read(data: Buffer, out: Tables) -> None:
    file = _File(out)
    _read_lines(file, data)
    _flag_unfinished(file)
    measured = [one for one in file.configurations.values() if one.benchmarks]
    if not measured and not file.is_go:
        raise rejected("line 1", "a result line: BenchmarkName 100 1234 ns/op", "none in the file")
    for facts, configurations in _runs(measured):
        _add_run(file, out.run(facts), configurations)
    if not measured:
        out.run(_facts(file.keys, own=False, title=file.keys.get("pkg", ""), labels={}))


# --- lines ---


def _read_lines(file: _File, data: Buffer) -> None:
    number, other = 0, 0
    benchmarks: _Benchmarks | None = None
    for block in line_blocks(data):
        for line in block:
            number += 1
            if line.startswith(_PREFIX):
                fields = line.split()
                if benchmarks is None:
                    benchmarks = file.benchmarks()
                known = benchmarks.get(fields[0])
                if (
                    known is not None
                    and len(fields) == known.width
                    and fields[3::2] == known.units
                    and fields[1].isdecimal()
                ):
                    try:
                        known.numbers.extend([float(fields[1]), *map(float, fields[2::2])])
                        continue
                    except ValueError:
                        pass  # said below
                other += _read_result(file, number, fields, benchmarks)
            elif line and not line.isspace():
                kind = _read_line(file, number, line)
                if kind == "key":
                    benchmarks = None
                elif kind == "other":
                    other += 1
    if other:
        file.out.leave_unread("line: other output", other)


def _read_result(file: _File, number: int, fields: list[str], benchmarks: _Benchmarks) -> int:
    """A line that begins like a result and is not the next one of a benchmark; 1 if it is something else."""
    name = fields[0]
    if fields[1:3] in (["---", "FAIL:"], ["---", "SKIP:"]):
        _flag_failure(file, number, fields[1:])
        return 0
    if len(fields) == 1 or not fields[1].isdecimal():  # announced by -v, or followed by its own output
        if name[len(_PREFIX) :][:1].islower():
            return 1  # Benchmarking something
        file.begun.setdefault(name, number)
        return int(len(fields) > 1)
    units = fields[3::2]
    try:
        numbers = [float(fields[1]), *map(float, fields[2::2])]
    except ValueError:
        numbers = []
    if not numbers or not units or len(fields) % 2:
        file.flag(number, "a name, iterations, and pairs of value and unit", repr(" ".join(fields)[:200]))
        return 0
    if len(set(units)) < len(units):
        file.flag(number, "each unit once", repr(" ".join(units)[:200]))
    key = name if name not in benchmarks or benchmarks[name].units == units else (name, *units)
    if key in benchmarks:
        benchmarks[key].numbers.extend(numbers)
    else:
        file.last_units = units = file.last_units if file.last_units == units else units
        benchmarks[key] = _Lines(units, len(fields), number, array("d", numbers))
    return 0


def _read_line(file: _File, number: int, line: str) -> str:
    """What a line is that does not begin with `Benchmark`: `key`, `other`, or something known."""
    match = _KEY.fullmatch(line.rstrip())
    if match and match[1] not in _LOG:
        return _read_key(file, number, match[1], match[2] or "")
    if line.startswith(("--- FAIL: ", "--- SKIP: ")):
        _flag_failure(file, number, line.split())
        return "known"
    if line.startswith(("FAIL\t", "panic: ", "fatal error: ")):
        file.is_go = True
        file.flag(number, "benchmarks that end", repr(line.strip()[:200]))
        return "known"
    if line.startswith("ok  \t"):
        file.is_go = True
        file.out.leave_unread("line: time of a package")
        return "known"
    if line.strip() in ("PASS", "FAIL"):
        file.is_go = True
        return "known"
    fields = line.split()
    if fields[0] == "Unit" and len(fields) > 2:
        _read_unit(file, number, fields[1], fields[2:])
        return "known"
    if line.startswith("=== "):  # what -v announces
        return "known"
    return "other"


def _read_key(file: _File, number: int, key: str, value: str) -> str:
    if key in _PERSONS:
        file.out.leave_unread("line: person")
        return "known"
    if not value:
        file.keys.pop(key, None)
    elif key not in file.keys and len(file.keys) >= _MAX_KEYS:
        file.flag(number, f"at most {_MAX_KEYS} keys at a time", repr(f"{key}: {value}"[:200]))
        return "other"
    elif len(value) + sum(len(held) for other, held in file.keys.items() if other != key) > _MAX_KEY_CHARACTERS:
        file.flag(number, f"values of {_MAX_KEY_CHARACTERS:,} characters together", repr(f"{key}: {value}"[:200]))
        return "other"
    else:
        file.keys[key] = value
    return "key"


def _read_unit(file: _File, number: int, unit: str, pairs: Iterable[str]) -> None:
    metadata = file.units.setdefault(_tidy(unit), {})
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            file.flag(number, "key=value", repr(pair[:80]))
        elif key == "better" and value not in ("lower", "higher"):
            file.flag(number, "better=lower or better=higher", repr(pair[:80]))
        elif metadata.setdefault(key, value) != value:
            file.flag(number, f"{key}={metadata[key]} as before", repr(pair[:80]))


def _flag_failure(file: _File, number: int, fields: list[str]) -> None:
    """Of `--- FAIL: BenchmarkName-8`."""
    file.is_go = True
    file.flag(number, "a benchmark that ends with a result", repr(" ".join(fields)[:200]))
    for name in fields[2:3]:
        file.begun.pop(name, None)
        file.begun.pop(_without_procs(name), None)


def _flag_unfinished(file: _File) -> None:
    """Benchmarks that were announced and gave nothing, nor did any below them."""
    if not file.begun:
        return
    ended = set()
    for configuration in file.configurations.values():
        for key in configuration.benchmarks:
            name = key if isinstance(key, str) else key[0]
            ended |= {name, _without_procs(name)}
    ordered = sorted(ended)
    for name, number in file.begun.items():
        if name in ended or _without_procs(name) in ended:
            continue
        at = bisect_left(ordered, f"{name}/")
        if at == len(ordered) or not ordered[at].startswith(f"{name}/"):
            file.flag(number, f"a result of {name[:200]}", "none")


def _without_procs(name: str) -> str:
    match = _PROCS.fullmatch(name)
    return match[1] if match else name


# --- runs ---


def _runs(configurations: list[_Configuration]) -> Iterator[tuple[RunFacts, list[_Configuration]]]:
    """The configurations by commit and machine, in the file's order."""
    values = {key: {one.keys[key] for one in configurations if key in one.keys} for key in _RUN_KEYS}
    agreed = {key: next(iter(found)) for key, found in values.items() if len(found) == 1}
    runs: dict[tuple[str | None, ...], list[_Configuration]] = {}
    for one in configurations:
        one.keys = agreed | one.keys
        runs.setdefault(tuple(one.keys.get(key) for key in _RUN_KEYS), []).append(one)
    for members in runs.values():
        varying = _varying(members)
        keys = members[0].keys
        labels = {key: value for key, value in keys.items() if key not in (*varying, *_RUN_KEYS, "pkg")}
        if not _commit(keys) and "commit" in keys:
            labels["commit"] = keys["commit"]
        title = "" if "pkg" in varying else keys.get("pkg", "")
        yield _facts(keys, own=len(values["commit"]) > 1, title=title, labels=labels), members


def _varying(configurations: list[_Configuration]) -> set[str]:
    """The keys that not all of a run's configurations have with the same value."""
    first = configurations[0].keys
    different: set[str] = set()
    for one in configurations[1:]:
        different.update(key for key, _ in first.items() ^ one.keys.items())
    return different


def _facts(keys: Mapping[str, str], *, own: bool, title: str, labels: Mapping[str, str]) -> RunFacts:
    cores = keys.get("cpu-count", "")
    platform = f"{keys.get('goos', '')}/{keys.get('goarch', '')}".strip("/")
    machine = Machine(
        cpu=keys.get("cpu", ""),
        cores=int(cores) if cores.isdecimal() and 0 < len(cores) <= 6 else None,
        ram_gib=_gib(keys.get("mem", "")),
        os=keys.get("os", ""),
        runtime=f"Go {platform}".strip(),
    )
    return RunFacts(
        title=title,
        commit=_commit(keys),
        machine=machine,
        machine_extra={key: keys[key] for key in _MACHINE_KEYS if key in keys} or None,
        labels=labels,
        own=own,
    )


def _commit(keys: Mapping[str, str]) -> Commit | None:
    id = keys.get("commit", "")
    return Commit(id=id, time=parse_instant(keys.get("commit-time", ""))) if _COMMIT.fullmatch(id) else None


def _gib(text: str) -> int | None:
    match = _MEMORY.fullmatch(text)
    gib = round(float(match[1]) * _GIB[match[2].upper()]) if match else 0
    return gib if 0 < gib < 1 << 31 else None


# --- rows ---


def _add_run(file: _File, run: RunRows, configurations: list[_Configuration]) -> None:
    varying = _varying(configurations) - {"pkg"}
    together: dict[tuple[str, frozenset[tuple[str, str]]], dict[str, list[_Lines]]] = {}
    for one in configurations:
        config = frozenset((key, value) for key, value in one.keys.items() if key in varying)
        benchmarks = together.setdefault((one.keys.get("pkg", ""), config), {})
        for key, lines in one.benchmarks.items():
            benchmarks.setdefault(key if isinstance(key, str) else key[0], []).append(lines)
    rows: list[tuple[Any, ...]] = []
    kinds: dict[str, tuple[str, str, dict[str, str]]] = {}
    for (pkg, config), benchmarks in together.items():
        config_params = sorted(config)
        for written, same in benchmarks.items():
            name, params = _identity(written)
            params |= {f"{key}:" if key in params else key: value for key, value in config_params}
            identity = (f"{pkg}.{name}" if pkg else name, canonical_json(params) if params else "")
            extra, iterations = "", None
            for unit, column in _by_unit(same).items():
                if unit not in kinds:
                    kinds[unit] = (_METRICS.get(unit, unit), *_direction(unit, file.units))
                metric, better, metadata = kinds[unit]
                if not column.keep_finite():
                    others = f"others, left out ({written[:200]})"
                    run.flag(f"line {column.line}", f"finite values of {unit[:80]}", others)
                    if not column.samples:
                        continue
                if metadata or iterations != column.iterations:  # nearly always those of the unit before
                    extra = canonical_json({"iterations": _whole(column.iterations), **metadata})
                    iterations = None if metadata else column.iterations
                statistics = sample_statistics(column.samples)
                value = statistics["median"]
                if value is None or not math.isfinite(value):
                    run.refuse(f"line {column.line}", "a finite number", repr(value)[:80])
                    continue
                rows.append((*identity, metric, unit, better, extra, column.samples, value, *statistics.values()))
                if len(rows) >= _ROWS_TOGETHER:
                    _add_rows(run, rows)
    _add_rows(run, rows)


def _add_rows(run: RunRows, rows: list[tuple[Any, ...]]) -> None:
    """Hand over what has been gathered."""
    if rows:
        run.measurement_rows(**dict(zip(_COLUMNS, zip(*rows, strict=True), strict=True)))
        rows.clear()


def _by_unit(all_lines: Iterable[_Lines]) -> dict[str, _Column]:
    """The samples of each unit. A unit that a line has twice counts where it is first."""
    found: dict[str, _Column] = {}
    for lines in all_lines:
        step = len(lines.units) + 1
        iterations = lines.numbers[::step].tolist()
        here: set[str] = set()
        for index, unit in enumerate(lines.units, start=1):
            if unit in here:
                continue
            here.add(unit)
            samples = lines.numbers[index::step].tolist()
            if unit in found:
                found[unit].samples.extend(samples)
                found[unit].iterations.extend(iterations)
            else:
                found[unit] = _Column(lines.line, samples, iterations.copy())
    return found


def _whole(iterations: Sequence[float]) -> list[int | None]:
    if max(iterations) < 1 << 63:
        return [*map(int, iterations)]
    return [int(number) if number < 1 << 63 else None for number in iterations]


def _identity(written: str) -> tuple[str, dict[str, Any]]:
    """(benchmark without its package, params) of a name such as `BenchmarkDecode/stream/size=1kB-8`.

    A part `/key=value` leaves `/key` in the name where other text follows, so that different names stay different.
    """
    name, params = written[len(_PREFIX) :], dict[str, Any]()
    match = _PROCS.fullmatch(name)
    if match:
        name, params["gomaxprocs"] = match[1], int(match[2])
    base, *parts = name.split("/")
    kept, dropped = [base or _PREFIX], list[str]()
    for part in parts:
        key, equals, value = part.partition("=")
        if key and equals and key not in params:
            params[key] = value
            dropped.append(key)
        else:
            kept += [*dropped, part]
            dropped = []
    return "/".join(kept), params


def _direction(unit: str, units: Mapping[str, Mapping[str, str]]) -> tuple[str, dict[str, str]]:
    """(better, what else Unit lines say of it)."""
    metadata = dict(units.get(_tidy(unit), {}))
    better = metadata.pop("better", None)
    if better is not None:
        return better, metadata
    above, _, below = unit.partition("/")
    kind = above.rpartition("-")[2]
    if kind in _DURATIONS or (kind in ("B", "allocs") and below == "op"):
        return "lower", metadata
    return ("higher" if below in ("s", "sec") else ""), metadata


def _tidy(unit: str) -> str:
    """`unit` as benchstat names it after conversion: what is said of sec/op holds for ns/op."""
    above, slash, below = unit.partition("/")
    return _SCALED.sub(lambda match: "sec" if match[1] == "ns" else "B", above) + slash + below


FORMAT = Format(
    id="go-bench",
    title="go test -bench",
    made_by="go test -run '^$' -bench . -count 10 ./... > FILE",
    example="""goos: linux
goarch: amd64
pkg: encoding/json
BenchmarkDecode/size=1kB-8   294   3984523 ns/op   1024 B/op   12 allocs/op
PASS
""",
    claims=claims,
    read=read,
)
