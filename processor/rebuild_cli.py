"""`runfeed rebuild`."""

import math
import os

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from feed.log import readers
from infra.clock import now
from infra.settings import read_settings
from infra.storage import open_buckets
from processor.batch import Processor
from processor.children import Children
from processor.rebuild import Comparison, Rebuild
from schemas import keys

_SHOWN = 20


@click.command()
@click.option("--data", type=click.Path(file_okay=False), help="Data folder.  [default: data]")
@click.option("--switch-anyway", is_flag=True, help="Switch even if the same transform gave other rows.")
@click.pass_context
def rebuild(ctx: click.Context, data: str | None, switch_anyway: bool) -> None:
    """Replay the whole feed into a new lake version, compare it with the old one, and switch.

    Works while `runfeed up` runs: the old version serves until the new one is complete. A rebuild that was interrupted
    goes on where it stopped. Exit status 1: the same transform version gave other rows, and nothing was switched.

    \b
    Example:
      runfeed rebuild --data /srv/runfeed
    """
    settings = read_settings(os.environ, {"data": data})
    buckets = open_buckets(settings, os.environ)

    reader_of = readers(buckets.public)
    workers = Children.of(settings)
    ctx.call_on_close(workers.stop)
    processor = Processor.of(settings, buckets, reader_of(keys.SUBMISSIONS_LOG), workers, now)
    work = Rebuild(buckets, reader_of, processor, clock=now)
    click.echo(f"Lake v{work.old_version} serves; building v{work.new_version} from entry {work.done + 1}.")
    replay(work)
    comparison = work.compare()
    _show(comparison, work)
    if not comparison.equal and comparison.same_transform and not switch_anyway:
        click.echo("Not switched: equal transform versions must give equal rows (--switch-anyway overrides).", err=True)
        ctx.exit(1)
    replay(work)  # what arrived meanwhile
    work.switch()
    click.echo(f"Lake v{work.new_version} serves. Dashboards change over when their own file is level.")


def replay(work: Rebuild) -> None:
    """Until it is level with the log, or gets no closer since results arrive as fast; with a bar on a terminal."""
    columns = TextColumn("replay"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), disable=not os.isatty(2)) as bar:
        task = bar.add_task("replay", total=None)
        before: float = math.inf
        while 0 < (count := work.replay(lambda done, total: bar.update(task, completed=done, total=total))) < before:
            before = count


def _show(comparison: Comparison, work: Rebuild) -> None:
    versions = f"v{work.old_version} and v{work.new_version}"
    if comparison.equal:
        click.echo(f"{comparison.compared:,} submissions: {versions} are equal, row for row.")
    else:
        same = "equal" if comparison.same_transform else "different"
        click.echo(f"{comparison.compared:,} submissions: {versions} differ ({same} transform versions):")
        for table, (old, new) in comparison.rows.items():
            if old or new:
                click.echo(f"  {table}: {old:,} rows only in v{work.old_version}, {new:,} only in v{work.new_version}")
        for line in comparison.verdicts[:_SHOWN]:
            click.echo(f"  {line}")
        if len(comparison.verdicts) > _SHOWN:
            click.echo(f"  and {len(comparison.verdicts) - _SHOWN:,} more")
    if comparison.withdrawn:
        click.echo(f"  {comparison.withdrawn:,} submissions that are withdrawn were not compared.")
    if comparison.left_out:
        click.echo(f"  {comparison.left_out:,} submissions that v{work.old_version} has not finished were left out.")
