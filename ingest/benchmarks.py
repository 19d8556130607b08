"""Benchmarks with a schema of their own: registered by a project, found again when a result names one.

A registered benchmark is a file of the public bucket that never changes; adding it again with other content makes the
next version. What is registered has been checked, so that no result can make its validation hang.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from infra.bucket import Bucket
from schemas import keys
from schemas.errors import Refused, SwapLost
from schemas.own_schema import KEYWORD, parse_schema, survey
from schemas.pointers import EVERY, parse_pointer
from schemas.problems import problem_of
from schemas.records import Benchmark, Metric, Param

MAX_METRICS = 200
MAX_PARAMS = 50
MAX_TEXT = 4000

_NO_DAY = datetime(1970, 1, 1, tzinfo=UTC)


class Declaration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The value of the schema's keyword `runfeed`: a metric or a parameter."""

    metric: str = ""
    unit: str = ""
    better: Literal["lower", "higher", ""] = ""
    samples: str = ""
    param: str = ""


def make_benchmark(
    name: str,
    schema: bytes,
    *,
    metrics: Sequence[Metric] = (),
    params: Sequence[Param] = (),
    execution_time: str = "",
    title: str = "",
    description: str = "",
    url: str = "",
    image: str = "",
    tag: str = "",
    now: datetime,
) -> Benchmark:
    """Version 1 of a benchmark, checked in every respect; Refused 422 says what is wrong. Pure.

    `metrics` and `params` are added to those that the schema declares; one for the same path replaces the schema's.
    """
    keys.checked_benchmark(name)
    parsed = parse_schema(schema)
    found = survey(parsed)
    of_schema = [_declared(pointer, value) for pointer, value in found.declared]
    by_metric = {one.path: one for one in [*(one for one in of_schema if isinstance(one, Metric)), *metrics]}
    by_param = {one.path: one for one in [*(one for one in of_schema if isinstance(one, Param)), *params]}
    if not by_metric:
        hint = f"; the schema suggests {', '.join(found.suggested[:20])}" if found.suggested else ""
        expected = f"a metric: --metric POINTER=NAME, or a property with {KEYWORD!r} in the schema"
        raise Refused("metrics", expected, f"none{hint}", status=422)
    texts = {"title": title, "description": description, "url": url, "image": image, "tag": tag}
    for field, text in texts.items():
        if len(text) > MAX_TEXT or not text.isprintable():
            raise Refused(field, f"at most {MAX_TEXT:,} printable characters", repr(text[:80]), status=422)
    if EVERY in parse_pointer(execution_time, "execution time"):
        raise Refused("execution time", "one place in the result", repr(execution_time[:80]), status=422)
    return Benchmark(
        name=name,
        version=1,
        title=title,
        description=description,
        url=url,
        image=image,
        tag=tag,
        schema=parsed,
        metrics=_checked_metrics(list(by_metric.values())),
        params=_checked_params(list(by_param.values())),
        execution_time=execution_time,
        created=now,
    )


def add_benchmark(public: Bucket, project: str, benchmark: Benchmark) -> tuple[Benchmark, bool]:
    """Register `benchmark` as the next version of its name; (as it is registered, whether that is new).

    Nothing is written where the newest version says the same. FileNotFoundError if there is no such project.
    """
    public.head(keys.project(keys.checked_project(project)))
    for _ in range(20):
        version = newest_version(public, project, benchmark.name) or 0
        if version:
            newest = read_registered(public, project, benchmark.name, version)
            if _content(newest) == _content(benchmark):
                return newest, False
        made = msgspec.structs.replace(benchmark, version=version + 1)
        try:
            public.create(keys.benchmark(project, made.name, made.version), msgspec.json.encode(made))
        except FileExistsError:
            continue
        return made, True
    raise SwapLost(f"benchmark {benchmark.name}: added by others 20 times in a row")


def newest_version(public: Bucket, project: str, name: str) -> int | None:
    """The newest version of a benchmark, or None if there is none of this name."""
    found = [keys.parse_benchmark(key) for key in public.list(keys.benchmarks_prefix(project, name))]
    return max((one[2] for one in found if one), default=None)


def read_registered(public: Bucket, project: str, name: str, version: int) -> Benchmark:
    """A registered benchmark; FileNotFoundError if absent."""
    return msgspec.json.decode(public.read(keys.benchmark(project, name, version)), type=Benchmark)


def benchmark_names(public: Bucket, project: str) -> list[str]:
    """The benchmarks of a project, by name."""
    found = [keys.parse_benchmark(key) for key in public.list(keys.benchmarks_prefix(project))]
    return sorted({one[1] for one in found if one})


def resolved_format(public: Bucket, project: str, format: str) -> str:
    """`format` with the version that it means, where it names a benchmark of the project; Refused 422 if that is none.

    So a submission says for good what it is validated with, however often it is read again.
    """
    if not format.startswith(f"{keys.OWN_SCHEMA}:"):
        return format
    asked = keys.parse_benchmark_format(format)
    if asked is None:
        raise Refused(
            "format", f"{keys.OWN_SCHEMA}:NAME or {keys.OWN_SCHEMA}:NAME@VERSION", repr(format[:90]), status=422
        )
    name, version = asked
    newest = newest_version(public, project, name)
    if newest is None:
        names = benchmark_names(public, project)
        expected = f"a benchmark of {project}: {', '.join(names[:20])}" if names else "a benchmark"
        found = repr(name) if names else f"{name!r}, but {project} has none (see: runfeed benchmark add)"
        raise Refused("benchmark", expected, found, status=422)
    if version is not None and version > newest:
        raise Refused("benchmark", f"version 1 to {newest} of {name}", str(version), status=422)
    return keys.benchmark_format(name, version or newest)


def _declared(pointer: str, value: Any) -> Metric | Param:
    where = f"schema property {pointer} {KEYWORD}"
    try:
        one = msgspec.convert(value, type=Declaration)
    except msgspec.ValidationError as error:
        problem = problem_of(error, where + " ")
        raise Refused(problem.where, problem.expected, problem.found, status=422) from error
    if bool(one.metric) == bool(one.param):
        raise Refused(where, "either a metric or a param", "both" if one.metric else "neither", status=422)
    if one.param:
        return Param(path=pointer, name=one.param)
    return Metric(path=pointer, metric=one.metric, unit=one.unit, better=one.better, samples=one.samples)


def _checked_metrics(metrics: list[Metric]) -> list[Metric]:
    _check_names("metric", [one.metric for one in metrics], MAX_METRICS)
    for one in metrics:
        where = f"metric {one.metric}"
        steps = parse_pointer(one.path, where)
        if parse_pointer(one.samples, f"{where} samples").count(EVERY) > steps.count(EVERY):
            expected = f"no more steps {EVERY} than in {one.path!r}"
            raise Refused(f"{where} samples", expected, repr(one.samples[:80]), status=422)
        if len(one.unit) > 40 or not one.unit.isprintable():
            raise Refused(f"{where} unit", "at most 40 printable characters", repr(one.unit[:80]), status=422)
    return metrics


def _checked_params(params: list[Param]) -> list[Param]:
    _check_names("param", [one.name for one in params], MAX_PARAMS)
    for one in params:
        parse_pointer(one.path, f"param {one.name}")
    return params


def _check_names(kind: str, names: list[str], limit: int) -> None:
    if len(names) > limit:
        raise Refused(f"{kind}s", f"at most {limit}", str(len(names)), status=422)
    for name in names:
        if not 0 < len(name) <= 200 or not name.isprintable():
            raise Refused(kind, "a name of 1 to 200 printable characters", repr(name[:80]), status=422)
        if names.count(name) > 1:
            raise Refused(f"{kind} {name}", "one path per name", "two", status=422)


def _content(benchmark: Benchmark) -> bytes:
    """What makes a version another one: all but its number and its day."""
    return msgspec.json.encode(msgspec.structs.replace(benchmark, version=0, created=_NO_DAY), order="sorted")


def all_newest(public: Bucket, project: str) -> Iterator[Benchmark]:
    """The newest version of each benchmark of a project, by name."""
    for name in benchmark_names(public, project):
        if version := newest_version(public, project, name):
            yield read_registered(public, project, name, version)
