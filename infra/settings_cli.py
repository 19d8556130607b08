"""`runfeed settings`: every setting with what it is, where that is from, and what it means.

The table of infra/README.md is made by the same functions (`runfeed settings --markdown`).
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import click
import msgspec

from infra.settings import Settings, settle

STORAGE_VARIABLES = {
    "AWS_ENDPOINT_URL": "address of the object storage; empty: Amazon's",
    "AWS_REGION": "region of the buckets; empty: us-east-1",
    "AWS_ACCESS_KEY_ID": "key of the object storage; empty: the machine's own role",
    "AWS_SECRET_ACCESS_KEY": "its secret",
    "AWS_SESSION_TOKEN": "of temporary keys",
}
"""What `infra.s3` reads beside the settings; obstore and boto know them by these names."""

HIDDEN = "***"
_KINDS = {str: "text", int: "number", bool: "yes or no"}
_SECRET = frozenset({"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"})


@dataclass(frozen=True)
class Setting:
    """One setting as it is shown; secrets are hidden in `value`."""

    name: str
    kind: str
    default: str
    variable: str
    meaning: str
    value: str
    source: str


def settings_shown(environ: Mapping[str, str], given: Mapping[str, Any]) -> list[Setting]:
    """All of them, in the order of `Settings`, then the storage's variables. Raises Refused as `read_settings` does."""
    found = settle(environ, given)
    shown = [
        Setting(
            name=one.name,
            kind=_KINDS.get(type(one.default), "folder"),
            default=str(one.default),
            variable=f"RUNFEED_{one.name.upper()}",
            meaning=one.metadata["help"],
            value=without_password(str(found[one.name][0])),
            source=found[one.name][1],
        )
        for one in fields(Settings)
    ]
    for name, meaning in STORAGE_VARIABLES.items():
        value = environ.get(name, "")
        hidden = HIDDEN if name in _SECRET and value else value
        shown.append(Setting(name, "text", "", name, meaning, hidden, name if value else "default"))
    return shown


def without_password(text: str) -> str:
    """An address without the secret in it; any other text as it is."""
    try:
        parts = urlsplit(text)
        if parts.password is None and not (parts.scheme and parts.username):
            return text
        host = parts.netloc.rpartition("@")[2]
        user = f"{parts.username or ''}:{HIDDEN}" if parts.password is not None else HIDDEN
        return urlunsplit(parts._replace(netloc=f"{user}@{host}"))
    except ValueError:  # brackets that are no address: nothing is known of it
        return HIDDEN


def markdown() -> str:
    """The settings as a Markdown table, without values."""
    rows = [
        f"| {one.name} | {f'`{one.default}`' if one.default else ''} | {one.meaning} |".replace("|  |", "| |")
        for one in settings_shown({}, {})
        if one.variable.startswith("RUNFEED_")
    ]
    return "\n".join(["| name | default | meaning |", "|---|---|---|", *rows])


@click.command()
@click.option("--data", type=click.Path(file_okay=False), help="Data folder whose runfeed.toml counts.")
@click.option("--json", "as_lines", is_flag=True, help="One JSON object a setting, on one line.")
@click.option("--markdown", "as_markdown", is_flag=True, help="As the table in infra/README.md.")
def settings(*, data: str | None, as_lines: bool, as_markdown: bool) -> None:
    """Show every setting: its value here and now, where that is from, and what it means. Secrets are hidden.

    \b
    Examples:
      runfeed settings
      RUNFEED_PORT=9000 runfeed settings --data /srv/runfeed
      runfeed settings --json | jq -r 'select(.source != "default") | .variable'

    A setting is taken from the command line, else from its variable, else from runfeed.toml in the data folder.
    """
    if as_markdown:
        click.echo(markdown())
        return
    shown = settings_shown(os.environ, {"data": data})
    for one in shown:
        if as_lines:
            click.echo(msgspec.json.encode(asdict(one)).decode())
        else:
            origin = "" if one.source == "default" else f"  (from {one.source}; default {one.default or 'empty'})"
            click.echo(f"{one.variable} = {one.value}{origin}\n    {one.meaning} ({one.kind})")
