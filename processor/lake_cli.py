"""`runfeed lake` and `runfeed compact`: the lake's versions, and its files."""

import os
from typing import Any

import click

from feed.log import LogReader, readers
from infra.bucket import Buckets
from infra.clock import now
from infra.settings import Settings, read_settings
from infra.storage import open_buckets
from processor.batch import Processor
from processor.catalog import newest_catalog
from processor.children import Children
from processor.compaction import compact as compact_lake
from processor.lake import current_lake, lake_versions, newest_outcome, read_current_lake
from processor.rebuild import Rebuild
from processor.rebuild_cli import replay
from schemas import keys
from schemas.errors import Refused

WHERE = (
    click.option("--data", type=click.Path(file_okay=False), help="Data folder.  [default: data]"),
    click.option("--bucket", help="s3://name[/prefix] of the public bucket, if it is not a folder."),
    click.option("--private-bucket", help="s3://name[/prefix] of the private bucket."),
)


def where(command: Any) -> Any:
    """The options that say which buckets are meant."""
    for option in reversed(WHERE):
        command = option(command)
    return command


def opened(given: dict[str, Any]) -> tuple[Settings, Buckets]:
    """The settings, and the buckets that they and the options of `where` name."""
    settings = read_settings(os.environ, given)
    return settings, open_buckets(settings, os.environ)


@click.command()
@where
def compact(**given: Any) -> None:
    """Merge the small Parquet files of the lake into few large sorted ones, and list them in a new catalog.

    For engines that read the lake as files; dashboards do not need it. Works while everything runs, also twice at once.
    What is merged stays where it is.

    \b
    Examples:
      runfeed compact
      runfeed compact --bucket s3://results --private-bucket s3://results-private
    """
    settings, buckets = opened(given)
    version, _ = current_lake(buckets.public)
    outcomes = LogReader(buckets.public, keys.outcomes_log(version))
    count = compact_lake(buckets.public, outcomes, version, memory_limit=settings.duckdb_memory)
    catalog = newest_catalog(buckets.public, version)
    click.echo(f"Lake v{version}: {count:,} outcomes more; catalog {catalog.generation} holds {catalog.through:,}.")
    for table, files in catalog.tables.items():
        rows, size = sum(file.rows for file in files), sum(file.size_bytes for file in files)
        click.echo(f"  {table}: {rows:,} rows in {len(files):,} files, {size:,} bytes")


@click.group(invoke_without_command=True)
@where
@click.pass_context
def lake(ctx: click.Context, /, **given: Any) -> None:
    """Show the lake's versions: which serves, and how far each has come.

    \b
    Examples:
      runfeed lake
      runfeed lake rollback
      runfeed lake switch 3
    """
    ctx.obj = {name: value for name, value in given.items() if value is not None}
    if ctx.invoked_subcommand:
        return
    _, buckets = opened(given)
    current, _ = read_current_lake(buckets.public)
    reader_of = readers(buckets.public)
    click.echo(f"{reader_of(keys.SUBMISSIONS_LOG).last_seq():,} submissions are announced.")
    for version in lake_versions(buckets.public):
        role = " serves" if version == current.version else ", which served before" * (version == current.previous)
        click.echo(f"v{version}{role}: {reader_of(keys.outcomes_log(version)).last_seq():,} outcomes")
        if newest := newest_outcome(buckets.public, version):
            click.echo(f"  up to submission {newest.last:,}, by transform {newest.transform_version}")
        catalog = newest_catalog(buckets.public, version)
        if catalog.generation:
            click.echo(f"  catalog {catalog.generation} holds {catalog.through:,} outcomes")


@lake.command()
@click.argument("version", type=click.IntRange(1))
@where
@click.pass_context
def switch(ctx: click.Context, /, *, version: int, **given: Any) -> None:
    """Let another version serve, once it has the outcomes that it lacks.

    Works while everything runs: the old one serves until then, and dashboards change over when their file is level.

    \b
    Example:
      runfeed lake switch 3
    """
    settings, buckets = opened(given | ctx.obj)
    _switch(ctx, settings, buckets, version)


@lake.command()
@where
@click.pass_context
def rollback(ctx: click.Context, /, **given: Any) -> None:
    """Let the version serve again that served before, once it has the outcomes that it lacks.

    \b
    Example:
      runfeed lake rollback
    """
    settings, buckets = opened(given | ctx.obj)
    current, _ = read_current_lake(buckets.public)
    version = current.previous or current.version - 1
    if version < 1:
        raise Refused("lake", "a version that served before", f"only v{current.version}")
    _switch(ctx, settings, buckets, version)


def _switch(ctx: click.Context, settings: Settings, buckets: Buckets, version: int) -> None:
    serving, _ = current_lake(buckets.public)
    there = lake_versions(buckets.public)
    if version not in there:
        raise Refused("lake", f"one of the versions {', '.join(f'v{one}' for one in there)}", f"v{version}")
    if version == serving:
        raise Refused("lake", "another version than the one that serves", f"v{version}")
    reader_of = readers(buckets.public)
    workers = Children.of(settings)
    ctx.call_on_close(workers.stop)
    processor = Processor.of(settings, buckets, reader_of(keys.SUBMISSIONS_LOG), workers, now)
    work = Rebuild(buckets, reader_of, processor, clock=now, version=version)
    click.echo(f"Lake v{serving} serves; v{version} catches up from entry {work.done + 1}.")
    replay(work)
    work.switch()
    click.echo(f"Lake v{version} serves. Dashboards change over when their own file is level.")
