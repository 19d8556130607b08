"""`runfeed sweep`."""

from collections import Counter
from datetime import timedelta
from typing import Any

import click

from feed.log import readers
from infra.clock import now
from processor.lake_cli import opened, where
from processor.retention import RULES, looking, restore, sweep


@click.command("sweep")
@where
@click.option("--delete", is_flag=True, help="Remove it; else it is only shown.")
@click.option("--older-than", type=click.IntRange(7), default=7, show_default=True, metavar="DAYS", help="At least 7.")
@click.option("--keys", "show_keys", is_flag=True, help="Name every object.")
def sweep_command(*, delete: bool, older_than: int, show_keys: bool, **given: Any) -> None:
    """Show what leads nowhere or is kept no longer, how much that is and why; with --delete remove it.

    Nothing younger than a week goes. A blob that no submission names is moved to the private bucket first, and removed
    a week later. Works while everything runs.

    \b
    Examples:
      runfeed sweep
      runfeed sweep --delete --older-than 30
    """
    _, buckets = opened(given)
    count: Counter[str] = Counter()
    size: Counter[str] = Counter()
    with looking(buckets, readers(buckets.public), now(), timedelta(days=older_than)) as look:
        restored = restore(look, remove=delete)
        for litter in sweep(look, remove=delete):
            count[litter.rule.name] += 1
            size[litter.rule.name] += litter.size_bytes
            if show_keys:
                click.echo(f"{litter.rule.name}: {'private ' if litter.rule.private else ''}{litter.key}")
    for rule in RULES:
        if count[rule.name]:
            click.echo(f"{rule.name}: {count[rule.name]:,}, {size[rule.name]:,} bytes: {rule.why}")
    if restored:
        click.echo(f"{restored:,} swept blobs are named after all and {'are back' if delete else 'would come back'}.")
    what = "Removed" if delete else "Would remove"
    click.echo(f"{what} {count.total():,} objects, {size.total():,} bytes.")
    if count and not delete:
        click.echo("Nothing has been changed; --delete removes them.")
