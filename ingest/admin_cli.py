"""`runfeed token` and `runfeed project`: the operator's commands, on the buckets directly, also while `up` runs."""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import msgspec

from infra.bucket import Buckets
from infra.settings import read_settings
from infra.storage import open_buckets
from ingest.projects import PRIVATE_FIELDS, PUBLIC_FIELDS, add_project, read_project, set_project
from ingest.tokens import create_token, revoke_token, tokens
from schemas.errors import Refused

_DATA = click.option("--data", type=click.Path(file_okay=False), help="Data folder.  [default: data]")


def _buckets(data: str | None) -> Buckets:
    return open_buckets(read_settings(os.environ, {"data": data}), os.environ)


@click.group()
def token() -> None:
    """Make, list and revoke the tokens that runners push with."""


@token.command()
@click.option("--name", required=True, help="Public name of the sender, shown with its submissions.")
@click.option("--project", "projects", multiple=True, required=True, help="May push to it; repeatable; '*' is all.")
@click.option("--expires-days", type=click.IntRange(1), help="Days until it expires.  [default: never]")
@_DATA
def create(name: str, projects: tuple[str, ...], expires_days: int | None, data: str | None) -> None:
    """Make a token and show it, once.

    \b
    Example:
      runfeed token create --name ci --project numpy
      RUNFEED_TOKEN=rf_... runfeed push result.json --project numpy --to https://results.example.org
    """
    now = datetime.now(UTC)
    expires = now + timedelta(days=expires_days) if expires_days else None
    secret, record = create_token(_buckets(data).private, name=name, projects=list(projects), expires=expires, now=now)
    click.echo(secret)
    until = f", until {record.expires:%Y-%m-%d}" if record.expires else ""
    click.echo(f"Token {name!r} for {', '.join(projects)}{until}. It is not shown again.", err=True)


@token.command("list")
@_DATA
def list_tokens(data: str | None) -> None:
    """List all tokens: id, name, projects, state. The tokens themselves are kept nowhere."""
    now = datetime.now(UTC)
    for digest, record in tokens(_buckets(data).private):
        expired = record.expires is not None and record.expires <= now
        state = "revoked" if record.revoked else "expired" if expired else "valid"
        click.echo(f"{digest[:12]}  {state:8}  {record.created:%Y-%m-%d}  {record.name}  {','.join(record.projects)}")


@token.command()
@click.argument("id")
@_DATA
def revoke(id: str, data: str | None) -> None:
    """Revoke the token whose id (see list) starts with ID. It is refused from now on."""
    record = revoke_token(_buckets(data).private, id, datetime.now(UTC))
    click.echo(f"Token {record.name!r} is revoked.")


@click.group()
def project() -> None:
    """Add projects, show and change their settings."""


@project.command()
@click.argument("name")
@_DATA
def add(name: str, data: str | None) -> None:
    """Add project NAME, so that others than local senders can push to it."""
    try:
        add_project(_buckets(data), name, datetime.now(UTC))
    except FileExistsError as error:
        raise Refused("project", "a new name", f"{name!r}, which exists", status=409) from error
    click.echo(f"Project {name} is there. Next: runfeed token create --name ci --project {name}")


@project.command("set")
@click.argument("name")
@click.argument("settings", nargs=-1, required=True, metavar="SETTING=VALUE...")
@_DATA
def change(name: str, settings: tuple[str, ...], data: str | None) -> None:
    """Change settings of project NAME.

    \b
    Public:  title, description, url, default_branch
    Private: anonymous (true or false), max_blob_bytes (empty: the server's)

    \b
    Example:
      runfeed project set numpy title="NumPy benchmarks" anonymous=false
    """
    changes = {}
    for setting in settings:
        field, equals, value = setting.partition("=")
        if not equals:
            raise Refused("setting", "NAME=VALUE", repr(setting), status=422)
        changes[field] = value
    buckets = _buckets(data)
    try:
        set_project(buckets, name, changes)
    except FileNotFoundError as error:
        raise _unknown(name) from error
    _show(buckets, name)


@project.command()
@click.argument("name")
@_DATA
def show(name: str, data: str | None) -> None:
    """Show the public settings and private rules of project NAME."""
    try:
        _show(_buckets(data), name)
    except FileNotFoundError as error:
        raise _unknown(name) from error


def _show(buckets: Buckets, name: str) -> None:
    public, rules = read_project(buckets, name)
    click.echo(f"{name}, since {public.created:%Y-%m-%d}")
    for heading, record, fields in (("public", public, PUBLIC_FIELDS), ("private", rules, PRIVATE_FIELDS)):
        values: dict[str, Any] = msgspec.structs.asdict(record)
        for field in fields:
            click.echo(f"  {heading:8} {field:16} {values[field]}")


def _unknown(name: str) -> Refused:
    return Refused("project", "a project that exists (see: runfeed project add)", repr(name), status=404)
