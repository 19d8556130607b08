"""`runfeed source`: the operator's commands for feeds that we fetch from, on the buckets directly."""

import os
import sys
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from infra.bucket import Buckets
from infra.clock import now
from infra.settings import Settings, read_settings
from infra.storage import open_buckets
from ingest.ci import printable
from ingest.projects import add_project
from ingest.source.store import name_from, read_source, read_state, remove_source, set_source, sources
from schemas import keys
from schemas.errors import SwapLost, Unavailable
from schemas.records import Source, SourceState

_DATA = click.option("--data", type=click.Path(file_okay=False), help="Data folder.  [default: data]")
_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


def _opened(data: str | None) -> tuple[Settings, Buckets]:
    settings = read_settings(os.environ, {"data": data})
    return settings, open_buckets(settings, os.environ)


@click.group()
def source() -> None:
    """Take what others publish: subscribe to their Runfeed log, Atom or RSS feed and fetch the files that it carries.

    \b
    Examples:
      runfeed source add https://results.example.org/feeds/submissions/current.atom
      runfeed source add https://vendor.example/benchmarks.rss --project vendor --format jmh
      runfeed source look vendor.example
      runfeed source show vendor.example
    """


@source.command()
@click.argument("url")
@click.option("--name", help="What it is called here.  [default: its host]")
@click.option("--project", help="Put all of it there.  [default: a Runfeed log's own projects, else 'default']")
@click.option("--only", multiple=True, help="Of a Runfeed log take this project only; repeatable.")
@click.option("--format", "format_id", default="auto", show_default=True, help="Format of files that come without one.")
@click.option("--every", type=click.IntRange(min=1), help="Seconds between two looks.  [default: source_seconds]")
@click.option("--max-bytes", type=click.IntRange(min=1), help="Of one file.  [default: as for uploads]")
@click.option(
    "--key", default="", help="Public key that signs a Runfeed log.  [default: the one that it was made with]"
)
@_DATA
def add(
    *,
    url: str,
    name: str | None,
    project: str | None,
    only: tuple[str, ...],
    format_id: str,
    every: int | None,
    max_bytes: int | None,
    key: str,
    data: str | None,
) -> None:
    """Look at the feed URL from now on, and take the files that it carries.

    Of a source that is there already everything but the URL is replaced, for what comes from then on; remove it first
    to begin anew. A server may ask to be looked at more seldom than --every. Feeds and files at addresses that are not
    public are refused, unless private_addresses is set.

    \b
    Examples:
      runfeed source add https://results.example.org/feeds/submissions/current.atom --only numpy
      runfeed source add https://vendor.example/benchmarks.rss --name vendor --project vendor --every 3600
    """
    from infra.fetch import checked_url
    from ingest.describe import Description, checked_description

    checked = str(checked_url(url))
    for one in only:
        keys.checked_project(one, "--only")
    checked_description(Description(project=project or "default", format=format_id))
    _, buckets = _opened(data)
    added = Source(
        name=name or name_from(checked),
        url=checked,
        project=project or "",
        only=list(only),
        format=format_id,
        every_seconds=every,
        max_bytes=max_bytes,
        key=keys.checked_sha256(key, "--key") if key else "",
        created=datetime.now(UTC),
    )
    is_new = set_source(buckets.private, added)
    if project:
        with suppress(FileExistsError):
            add_project(buckets, project, datetime.now(UTC))
    click.echo(f"Source {added.name}: {checked} {'is looked at from now on' if is_new else 'is changed'}.")
    click.echo(f"Look now: runfeed source look {added.name}")


@source.command()
@click.argument("name")
@_DATA
def remove(name: str, data: str | None) -> None:
    """Look at source NAME no more; what was taken stays. Added again, it begins anew."""
    remove_source(_opened(data)[1].private, name)
    click.echo(f"Source {name} is not known any more.")


@source.command("list")
@_JSON
@_DATA
def list_sources(as_json: bool, data: str | None) -> None:
    """List all sources, and how they are."""
    private = _opened(data)[1].private
    found = [(one, read_state(private, one)[0]) for one in sources(private)]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode([_shown(*one) for one in found])))
        return
    for one, state in found:
        counts = f"{state.taken} taken, {state.known} known, {state.skipped} skipped, {state.refused} refused"
        click.echo(f"{one.name}  {printable(one.url, 2000)}  {counts}  {_health(state)}")


@source.command()
@click.argument("name")
@_JSON
@_DATA
def show(name: str, as_json: bool, data: str | None) -> None:
    """Show how source NAME is: when it was looked at, what went wrong, and what was refused and why."""
    private = _opened(data)[1].private
    one = read_source(private, name)
    state = read_state(private, one)[0]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(_shown(one, state))))
        return
    kind = {"": "not read yet", "log": f"Runfeed log, level with entry {state.seq}", "feed": "feed"}[state.kind]
    lines = {
        "address": one.url,
        "kind": kind,
        "id": state.feed or "-",
        "into": f"{one.project or 'its own projects (of a Runfeed log), else default'}, format {one.format}",
        "only": ", ".join(one.only),
        "last look": _time(state.looked),
        "next look": _time(state.next_look),
        "last error": f"{state.last_error} ({state.failures} in a row)" if state.last_error else "none",
        "taken": str(state.taken),
        "known": f"{state.known} (were submissions here already)",
        "skipped": f"{state.skipped} (not for us)",
        "refused": str(state.refused),
    }
    for label, value in lines.items():
        if value:
            click.echo(f"{label:<11} {printable(value, 2000)}")
    for note in state.notes:
        click.echo(f"  {_time(note.time)}  {note.entry}  {note.url}\n    {note.problem}")


@source.command()
@click.argument("name")
@_DATA
def look(name: str, data: str | None) -> None:
    """Look at source NAME now, whenever it is due, and tell what happens. Status 2 if it cannot be read."""
    from infra.fetch import Fetcher, user_agent
    from ingest.source.look import Look
    from ingest.source.progress import Progress
    from ingest.source.take import Taker

    settings, buckets = _opened(data)
    one = read_source(buckets.private, name)
    before = read_state(buckets.private, one)[0]

    def tell(word: str, entry: str, what: str) -> None:
        click.echo(f"{word:<9} {printable(entry)}  {printable(what)}")

    settings.data.mkdir(parents=True, exist_ok=True)
    fetcher = Fetcher(private_addresses=settings.private_addresses, user_agent=user_agent(settings.public_url))
    every_seconds = float(one.every_seconds or settings.source_seconds)
    try:
        with tempfile.TemporaryDirectory(prefix="look-", dir=settings.data) as folder:
            taker = Taker(buckets, settings, fetcher, Path(folder), now)
            progress = Progress(buckets.private, one, now, tell, lambda: False)
            why = Look(progress, taker, every_seconds).look()
    except SwapLost as error:
        raise Unavailable(f"source {name}: another process looks at it now") from error
    finally:
        fetcher.close()
    state = progress.state
    told = [
        f"{getattr(state, word) - getattr(before, word)} {word}" for word in ("taken", "known", "skipped", "refused")
    ]
    click.echo(f"Source {name}: {', '.join(told)}. Next look: {_time(state.next_look)}.")
    if why:
        click.echo(f"runfeed: {printable(why, 2000)}", err=True)
        sys.exit(2)


def _shown(one: Source, state: SourceState) -> dict[str, Any]:
    """A source for programs: what was said of it, and its state without what only the next look needs."""
    shown: dict[str, Any] = msgspec.to_builtins(state)
    for name in ("url", "seen", "tries", "schema_version"):
        shown.pop(name, None)
    return {**msgspec.to_builtins(one), "state": shown}


def _health(state: SourceState) -> str:
    if state.last_error:
        return f"error: {printable(state.last_error)[:200]}"
    return f"looked at {_time(state.looked)}" if state.looked else "not looked at yet"


def _time(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}Z" if time else "never"
