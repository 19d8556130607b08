"""`runfeed runner`: the operator's commands for the inbox, on the buckets directly."""

import asyncio
import os
from collections.abc import Mapping
from datetime import UTC, datetime

import click

from infra.inbox import PREFIX, inboxes
from infra.settings import Settings, read_settings
from infra.storage import open_buckets
from ingest.ci import printable
from ingest.inbox import is_sidecar
from ingest.runners import checked_runner, read_runner, refusals, remove_runner, runners, set_runner
from schemas.errors import Refused

_DATA = click.option("--data", type=click.Path(file_okay=False), help="Data folder.  [default: data]")


def _settings(data: str | None) -> Settings:
    return read_settings(os.environ, {"data": data})


@click.group()
def runner() -> None:
    """Say whose files in the inbox are taken, and see what waits or was refused there."""


@runner.command()
@click.argument("name")
@click.option("--project", "projects", multiple=True, required=True, help="Takes its files; repeatable; '*' is all.")
@_DATA
def add(name: str, projects: tuple[str, ...], data: str | None) -> None:
    """Take what lies in inbox/NAME/ of the private bucket for these projects.

    Of a runner that is there already the projects are replaced, and what was refused is looked at again. That nobody
    else can write to inbox/NAME/ is the storage's policy.

    \b
    Example:
      runfeed runner add rack-3 --project numpy
      aws s3 cp result.json s3://results-private/inbox/rack-3/2026-11-22.json
    """
    settings = _settings(data)
    set_runner(open_buckets(settings, os.environ).private, name, list(projects), datetime.now(UTC))
    where = f"{settings.private_bucket or settings.data / 'private'}/{PREFIX}{name}/"
    click.echo(f"Runner {name}: {where} is taken for {', '.join(projects)}.")


@runner.command()
@click.argument("name")
@_DATA
def remove(name: str, data: str | None) -> None:
    """Take nothing more from runner NAME; what it drops stays in the inbox."""
    remove_runner(open_buckets(_settings(data), os.environ).private, name)
    click.echo(f"Runner {name} is not known any more.")


@runner.command("list")
@_DATA
def list_runners(data: str | None) -> None:
    """List all runners with what waits of them, unknown ones too."""
    settings = _settings(data)
    private = open_buckets(settings, os.environ).private
    known = {one.name: one for one in runners(private)}
    waiting = asyncio.run(_waiting(settings, os.environ))
    for name in sorted({*known, *waiting}):
        projects = ",".join(known[name].projects) if name in known else "unknown: its files are not taken"
        refused = len(list(refusals(private, name))) if name in known else 0
        click.echo(f"{printable(name)}  {projects}  {waiting.get(name, 0)} in the inbox, {refused} of them refused")


@runner.command("refused")
@click.argument("name")
@_DATA
def list_refused(name: str, data: str | None) -> None:
    """List what of runner NAME was refused in the last week, and why."""
    private = open_buckets(_settings(data), os.environ).private
    if read_runner(private, checked_runner(name)) is None:
        raise Refused("runner", "a runner that is known (see: runfeed runner add)", repr(name), status=404)
    for refusal in refusals(private, name):
        click.echo(f"{refusal.refused:%Y-%m-%d %H:%M}  {refusal.key!r}  {refusal.problem}")


async def _waiting(settings: Settings, environ: Mapping[str, str]) -> dict[str, int]:
    """How many files lie in the inbox, by runner."""
    async with inboxes(settings, environ)() as inbox:
        return {
            name: len([one async for one in inbox.list(f"{PREFIX}{name}/") if not is_sidecar(one.key)])
            for name in await inbox.folders()
        }
