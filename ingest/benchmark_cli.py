"""`runfeed benchmark`: register JSON with a schema of its own, on the buckets directly, also while `up` runs."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import click
import msgspec

from infra.bucket import Bucket
from infra.settings import read_settings
from infra.storage import open_buckets
from ingest.benchmarks import add_benchmark, all_newest, make_benchmark, newest_version, read_registered
from schemas import keys
from schemas.errors import Refused
from schemas.own_schema import MAX_SCHEMA_BYTES, survey
from schemas.records import Benchmark, Metric, Param

_Better = Literal["lower", "higher", ""]
_DATA = click.option("--data", type=click.Path(file_okay=False), help="Data folder.  [default: data]")
_FIELDS = ("title", "description", "url", "image", "tag", "execution_time")


def _public(data: str | None) -> Bucket:
    return open_buckets(read_settings(os.environ, {"data": data}), os.environ).public


def parse_metric(text: str) -> Metric:
    """`/result/score=score,unit=s,better=lower,samples=/result/all` as a Metric."""
    path, name, settings = _parsed("--metric", text, ("unit", "better", "samples"))
    better: Any = settings.get("better", "")
    if better not in get_args(_Better):
        raise Refused("--metric better", "lower or higher", repr(better), status=422)
    return Metric(
        path=path, metric=name, unit=settings.get("unit", ""), better=better, samples=settings.get("samples", "")
    )


def parse_param(text: str) -> Param:
    """`/arguments=arguments`, or `/arguments` alone, as a Param."""
    if "=" not in text:
        text = f"{text}={text.rpartition('/')[2]}"
    path, name, _ = _parsed("--param", text, ())
    return Param(path=path, name=name)


def _parsed(option: str, text: str, known: tuple[str, ...]) -> tuple[str, str, dict[str, str]]:
    """(pointer, name, settings) of `POINTER=NAME[,setting=value]...`."""
    path, equals, rest = text.partition("=")
    name, *settings = rest.split(",")
    if not equals or not path.startswith("/") or not name:
        raise Refused(option, "POINTER=NAME, as in /result/score=score", repr(text[:120]), status=422)
    given = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if key not in known or not equals:
            expected = "one of " + ", ".join(f"{one}=…" for one in known) if known else "nothing after the name"
            raise Refused(option, expected, repr(setting[:80]), status=422)
        given[key] = value
    return path, name, given


@click.group()
def benchmark() -> None:
    """Register benchmarks whose results are JSON with a schema of their own."""


@benchmark.command()
@click.argument("project")
@click.argument("name")
@click.option("--schema", "schema_file", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="JSON Schema that every result must fit.")  # fmt: skip
@click.option("--metric", "metrics", multiple=True, metavar="POINTER=METRIC[,unit=U][,better=B][,samples=POINTER]",
              help="A value that is a measurement; repeatable. B is lower or higher; * is every element.")  # fmt: skip
@click.option("--param", "params", multiple=True, metavar="POINTER[=NAME]",
              help="A value that says what was measured; repeatable.")  # fmt: skip
@click.option("--execution-time", default="", metavar="POINTER", help="Every result must say when it ran, there.")
@click.option("--title", default="", help="What people call it.")
@click.option("--description", default="", help="What it measures.")
@click.option("--url", default="", help="Where to read about it.")
@click.option("--image", default="", help="Container image that runs it.")
@click.option("--tag", default="", help="The image's tag: results of different tags are never compared.")
@_DATA
def add(
    *,
    project: str,
    name: str,
    schema_file: Path,
    metrics: tuple[str, ...],
    params: tuple[str, ...],
    data: str | None,
    **texts: str,
) -> None:
    """Register benchmark NAME of PROJECT; again with something changed makes its next version.

    Metrics and params may also stand in the schema, on the property that holds them:
    "runfeed": {"metric": "score", "unit": "s", "better": "lower"} or "runfeed": {"param": "arguments"}.

    \b
    Example:
      runfeed benchmark add demo c-ray --schema c-ray.schema.json --tag 1.2.0 --param /arguments \\
        --metric /result/score=score,unit=s,better=lower,samples=/result/all_results
      runfeed push result.json --project demo --benchmark c-ray
    """
    with open(schema_file, "rb") as file:
        schema = file.read(MAX_SCHEMA_BYTES + 1)  # of what may be a device without an end
    if len(schema) > MAX_SCHEMA_BYTES:
        raise Refused("--schema", f"at most {MAX_SCHEMA_BYTES:,} bytes", "more", status=422)
    made = make_benchmark(
        name,
        schema,
        metrics=[parse_metric(text) for text in metrics],
        params=[parse_param(text) for text in params],
        now=datetime.now(UTC),
        **texts,
    )
    registered, new = _known(project, lambda: add_benchmark(_public(data), project, made))
    _show(registered)
    taken = {metric.path for metric in registered.metrics}
    for pointer in survey(registered.schema).suggested:
        if pointer not in taken:
            click.echo(f"  hint: the schema suggests {pointer}, which is no metric", err=True)
    what = "is there" if new else "was there already; nothing has changed"
    click.echo(f"Version {registered.version} {what}. Next: runfeed push FILE --project {project} --benchmark {name}")


@benchmark.command("list")
@click.argument("project")
@_DATA
def list_benchmarks(project: str, data: str | None) -> None:
    """List the benchmarks of PROJECT: name, newest version, its day, metrics."""
    for one in all_newest(_public(data), keys.checked_project(project)):
        names = ", ".join(metric.metric for metric in one.metrics)
        click.echo(f"{one.name:24} {one.version:4}  {one.created:%Y-%m-%d}  {names}")


@benchmark.command()
@click.argument("project")
@click.argument("name")
@click.option("--version", type=click.IntRange(1), help="[default: the newest]")
@click.option("--json", "as_json", is_flag=True, help="Print the whole record, with its schema.")
@_DATA
def show(project: str, name: str, version: int | None, as_json: bool, data: str | None) -> None:
    """Show benchmark NAME of PROJECT."""
    public = _public(data)
    keys.checked_project(project)
    version = version or newest_version(public, project, keys.checked_benchmark(name))
    try:
        one = read_registered(public, project, name, version or 1)
    except FileNotFoundError as error:
        expected = f"a benchmark of {project} (see: runfeed benchmark list {project})"
        raise Refused("benchmark", expected, repr(name), status=404) from error
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(one), indent=2))
    else:
        _show(one)


def _show(one: Benchmark) -> None:
    click.echo(f"{one.name}, version {one.version}, since {one.created:%Y-%m-%d}")
    for field in _FIELDS:
        if value := getattr(one, field):
            click.echo(f"  {field:16} {value}")
    for metric in one.metrics:
        about = ", ".join(filter(None, [metric.unit, metric.better and f"{metric.better} is better"]))
        samples = f", samples at {metric.samples}" if metric.samples else ""
        click.echo(f"  metric {metric.metric:16} {metric.path}{f' ({about})' if about else ''}{samples}")
    for param in one.params:
        click.echo(f"  param  {param.name:16} {param.path}")


def _known(project: str, act: Callable[[], tuple[Benchmark, bool]]) -> tuple[Benchmark, bool]:
    try:
        return act()
    except FileNotFoundError as error:
        expected = "a project that exists (see: runfeed project add)"
        raise Refused("project", expected, repr(project), status=404) from error
