"""`runfeed doctor`."""

import os
from collections import Counter

import click
import msgspec
from rich.console import Console

from infra.clock import now
from infra.settings import read_settings
from infra.storage import open_buckets
from processor.doctor import breaches

_SHOWN = 20


@click.command()
@click.option("--data", type=click.Path(file_okay=False), help="Data folder.  [default: data]")
@click.option("--bucket", help="s3://name[/prefix] of the public bucket, if it is not a folder.")
@click.option("--private-bucket", help="s3://name[/prefix] of the private bucket.")
@click.option("--deep", is_flag=True, help="Read every blob and part: digests, rows, tokens. Else sizes must do.")
@click.option("--settled", is_flag=True, help="Nothing is under way, so whatever still waits is a breach.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a breach, on one line; all of them.")
@click.pass_context
def doctor(
    ctx: click.Context,
    *,
    data: str | None,
    bucket: str | None,
    private_bucket: str | None,
    deep: bool,
    settled: bool,
    as_json: bool,
) -> None:
    """Check every invariant over the buckets and name each breach: where, what was expected, what was found.

    Changes nothing, and works while everything runs. Exit status: 0 none, 1 breaches, 2 the storage failed.

    \b
    Examples:
      runfeed doctor
      runfeed doctor --data /srv/runfeed --deep
      runfeed doctor --bucket s3://results --private-bucket s3://results-private --json
    """
    settings = read_settings(os.environ, {"data": data, "bucket": bucket, "private_bucket": private_bucket})
    buckets = open_buckets(settings, os.environ)
    console = Console(stderr=True)
    looked_at: Counter[str] = Counter()
    found: Counter[str] = Counter()
    with console.status("looking") as status:

        def progress(what: str, count: int) -> None:
            looked_at[what] += count
            status.update(f"{looked_at[what]:,} {what}")

        for breach in breaches(buckets, now(), deep=deep, settled=settled, progress=progress):
            found[breach.rule] += 1
            if as_json:
                click.echo(msgspec.json.encode(breach))
            elif found[breach.rule] == 1:
                click.echo(f"{breach.rule}:\n  {breach}")
            elif found[breach.rule] <= _SHOWN:
                click.echo(f"  {breach}")
            elif found[breach.rule] == _SHOWN + 1:
                click.echo("  and more (--json shows all)")
    summary = ", ".join(f"{count:,} {what}" for what, count in looked_at.items())
    click.echo(f"Looked at {summary or 'empty buckets'}: {found.total() or 'no'} breaches.", err=as_json)
    if found:
        ctx.exit(1)
