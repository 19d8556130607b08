"""pytest-benchmark: the JSON of `pytest --benchmark-json=FILE`, and the files that `--benchmark-autosave` keeps.

    {"machine_info": {…}, "commit_info": {…}, "datetime": …, "version": …,
     "benchmarks": [{"fullname": …, "params": …, "param": …, "stats": {…, "data": […]}, …}]}

One file is one run; each benchmark is one measurement with metric `time`, unit `s`, better `lower`.

| field | becomes | notes |
|---|---|---|
| fullname | benchmark | without the `[…]` at its end if params are given |
| params, param | params | see below |
| stats.median | value | else mean, else min: one slow round moves the mean and not the median |
| stats.min, max, mean, median, stddev, q1, q3 | the same | seconds per iteration |
| stats.rounds | n | a round is one sample |
| stats.data | samples | present with `--benchmark-save-data` |
| other stats, group, options, extra_info | extra | |
| machine_info | cpu, cores, os, runtime; machine | node name and the rest only in machine; a user's name nowhere |
| commit_info | commit, branch, dirty, commit_time | `unversioned` and `unknown` are no commit |
| commit_info.message | commit_subject, its first line | if a hook writes it, as the manual shows |
| commit_info.project, version | title, label `tool` | |
| cprofile, other fields of commit_info, what hooks add elsewhere | none | in the loss report |
| datetime | started | UTC where it has no offset |

**Identity.** pytest tells tests apart by the id in brackets (`param`), people by the arguments (`params`). params holds
the arguments that are plain values; if they alone do not spell the id, the id is added under the key `[id]`, which no
argument can have. So two tests never share a series, and an argument that prints its address in memory
(`UNSERIALIZABLE[<function f at 0x7f…>]`) does not start a new one each time: such arguments are in extra.

**Dialects.** 2.5.0 has no param, params, extra_info, ops, total or machine_info.cpu, and a shorter commit_info; its
benchmarks keep their full name. For Linux the tool knows the kernel's version only: the os is `Linux 6`.

Definition: https://pytest-benchmark.readthedocs.io/ and `pytest_benchmark/stats.py`.
"""

from typing import Annotated, Any, Generic, TypeVar

import msgspec

from processor.formats import Format
from processor.reading.decode import Buffer
from processor.reading.instants import parse_instant
from processor.reading.mended import pointer_step, read_fields, read_mended, refuse_all
from processor.reading.platforms import os_of
from processor.reading.shape import Shape
from processor.tables import RunFacts, RunRows, Tables
from schemas.records import Commit, Machine

B = TypeVar("B")

_NO_COMMIT = {"", "unversioned", "unknown"}
_NO_BRANCH = {"(unknown)", "(detached head)"}
_PERSONS = {"user", "username"}
"""Keys that the tool's manual proposes to add to machine_info."""
_OF_COMMIT = {"id", "time", "branch", "dirty", "message", "project"}
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Stats(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    min: float | None = None
    max: float | None = None
    mean: float | None = None
    median: float | None = None
    stddev: float | None = None
    q1: float | None = None
    q3: float | None = None
    rounds: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] | None = None
    data: list[float] | None = None
    iterations: int | None = None
    iqr: float | None = None
    ld15iqr: float | None = None
    hd15iqr: float | None = None
    outliers: str | None = None
    iqr_outliers: int | float | None = None
    stddev_outliers: int | float | None = None
    ops: float | None = None
    total: float | None = None


class Benchmark(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    fullname: str
    stats: Stats
    name: str = ""
    group: str | None = None
    param: str | None = None
    params: dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    extra_info: Any = None
    cprofile: msgspec.Raw = msgspec.Raw()


class Document(msgspec.Struct, Generic[B], gc=False, forbid_unknown_fields=True):
    benchmarks: list[B]
    machine_info: dict[str, Any] | None = None
    commit_info: dict[str, Any] | None = None
    datetime: str | None = None
    version: str | None = None


_WHOLE = msgspec.json.Decoder(Document[Benchmark])
_OUTLIERS = ("outliers", "iqr_outliers", "stddev_outliers")
_MORE_STATS = ("iterations", "iqr", "ld15iqr", "hd15iqr", "ops", "total", *_OUTLIERS)


def claims(shape: Shape) -> bool:
    return (
        shape.kind == "object" and "benchmarks" in shape.keys and bool({"machine_info", "commit_info"} & {*shape.keys})
    )


def read(data: Buffer, out: Tables) -> None:
    try:
        whole = _WHOLE.decode(data)  # what nearly every file is: nothing wrong and nothing unknown in it
    except _DECODE_ERRORS:
        _read_one_by_one(data, out)
        return
    run = _run(out, whole)
    for index, item in enumerate(whole.benchmarks):
        _add(run, out, f"/benchmarks/{index}", item)


def _read_one_by_one(data: Buffer, out: Tables) -> None:
    """A file with something wrong or unknown in it, which each benchmark is searched for."""
    document: Document[msgspec.Raw] = read_mended(data, Document[msgspec.Raw], out)
    run = _run(out, document)
    for index, raw in enumerate(document.benchmarks):
        where = f"/benchmarks/{index}"
        try:
            item: Benchmark = read_fields(raw, Benchmark, out, "/benchmarks/*")
        except _DECODE_ERRORS as error:
            refuse_all(run, raw, Benchmark, where, error)
        else:
            _add(run, out, where, item)


def _run(out: Tables, document: Document[Any]) -> RunRows:
    run = out.run(_facts(document))
    if document.datetime and run.facts.started is None:
        run.flag("/datetime", "a time in ISO 8601", repr(document.datetime[:80]))
    if document.machine_info:
        for key in document.machine_info.keys() & _PERSONS:
            out.leave_unread(f"/machine_info/{key}")
    for key, value in (document.commit_info or {}).items():
        if key not in _OF_COMMIT and value not in (None, ""):
            out.leave_unread("/commit_info" + pointer_step(key))
    return run


def _add(run: RunRows, out: Tables, where: str, item: Benchmark) -> None:
    stats = item.stats
    if (value := stats.median) is not None:
        name = "median"
    elif (value := stats.mean) is not None:
        name = "mean"
    elif (value := stats.min) is not None:
        name = "min"
    else:
        run.refuse(f"{where}/stats", "median, mean or min", "none of them")
        return
    benchmark, params, other_params = _identity(item)
    extra = {key: found for key in _MORE_STATS if (found := getattr(stats, key)) is not None}
    if item.group:
        extra["group"] = item.group
    if item.options:
        extra["options"] = item.options
    if item.extra_info not in (None, {}, ""):
        extra["extra_info"] = item.extra_info
    if other_params:
        extra["params"] = other_params
    if bytes(item.cprofile) not in (b"", b"null", b"[]"):
        out.leave_unread("/benchmarks/*/cprofile")
    run.measurement(
        where=f"{where}/stats/{name}",
        benchmark=benchmark,
        metric="time",
        value=value,
        unit="s",
        better="lower",
        params=params,
        samples=stats.data or None,
        n=stats.rounds,
        min=stats.min,
        max=stats.max,
        mean=stats.mean,
        median=stats.median,
        stddev=stats.stddev,
        q1=stats.q1,
        q3=stats.q3,
        extra=extra,
    )


def _identity(item: Benchmark) -> tuple[str, dict[str, Any] | None, dict[str, Any]]:
    """(benchmark, params, arguments that are no part of the identity)."""
    if item.params is None:
        return item.fullname, None, {}
    plain = {name: value for name, value in item.params.items() if _is_plain(value)}
    other = {name: value for name, value in item.params.items() if name not in plain}
    id = item.param if item.param is not None else item.name.partition("[")[2].removesuffix("]")
    benchmark = item.fullname.removesuffix(f"[{id}]")
    if benchmark == item.fullname:  # the id is not where it is spelt: leave the name as it is
        return benchmark, plain, other
    if id != "-".join(map(str, plain.values())):
        plain["[id]"] = id
    return benchmark, plain, other


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return not value.startswith("UNSERIALIZABLE[")
    return value is None or isinstance(value, bool | int | float)


def _facts(document: Document[Any]) -> RunFacts:
    info = document.machine_info or {}
    machine_info = {key: value for key, value in info.items() if key not in _PERSONS}
    commit_info = document.commit_info or {}
    cpu = machine_info.get("cpu")
    cpu = cpu if isinstance(cpu, dict) else {}
    cores = cpu.get("count")
    version = ".".join(_text(machine_info, "python_version").split(".")[:2])
    machine = Machine(
        cpu=_text(cpu, "brand_raw") or _text(cpu, "brand"),
        cores=cores if isinstance(cores, int) and 0 < cores < 1 << 31 else None,
        os=os_of(_text(machine_info, "system"), _text(machine_info, "release")),
        runtime=f"{_text(machine_info, 'python_implementation')} {version}".strip(),
    )
    return RunFacts(
        title=_text(commit_info, "project"),
        commit=_commit(commit_info),
        started=parse_instant(document.datetime) if document.datetime else None,
        machine=machine,
        machine_extra=machine_info or None,
        labels={"tool": f"pytest-benchmark {document.version or ''}".strip()},
    )


def _commit(info: dict[str, Any]) -> Commit | None:
    id, branch, dirty = _text(info, "id"), _text(info, "branch"), info.get("dirty")
    if id in _NO_COMMIT:
        return None
    return Commit(
        id=id,
        time=parse_instant(_text(info, "time")),
        subject=_text(info, "message").partition("\n")[0],
        branch="" if branch in _NO_BRANCH else branch,
        dirty=dirty if isinstance(dirty, bool) else None,
    )


def _text(info: dict[str, Any], key: str) -> str:
    value = info.get(key)
    return value.strip() if isinstance(value, str) else ""


FORMAT = Format(
    id="pytest-benchmark",
    title="pytest-benchmark JSON",
    made_by="pytest --benchmark-json=FILE",
    example="""{"machine_info": {"system": "Linux"}, "benchmarks": [
  {"fullname": "test_speed.py::test_parse", "stats": {"median": 0.25, "rounds": 5}}
]}""",
    claims=claims,
    read=read,
)
