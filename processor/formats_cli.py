"""`runfeed formats`."""

import importlib
import inspect
from typing import Any

import click
import msgspec

from processor.formats import Format
from processor.formats.registry import FORMATS


@click.command()
@click.argument("id", required=False)
@click.option("--json", "as_lines", is_flag=True, help="One JSON object a format, on one line.")
def formats(id: str | None, as_lines: bool) -> None:
    """List all formats that are read, and how one gets such a file; of one, show its page and an example.

    \b
    Examples:
      runfeed formats
      runfeed formats junit
      runfeed formats --json | jq -r .id
    """
    if id is not None and id not in FORMATS:
        raise click.BadParameter(f"{id!r} is none of {', '.join(FORMATS)}.", param_hint="ID")
    chosen = list(FORMATS.values()) if id is None else [FORMATS[id]]
    if as_lines:
        for format in chosen:
            click.echo(msgspec.json.encode(_described(format)).decode())
    elif id is None:
        widths = [max(len(getattr(format, name)) for format in chosen) for name in ("id", "title")]
        for format in chosen:
            click.echo(f"{format.id:<{widths[0]}}  {format.title:<{widths[1]}}  {format.made_by}")
        click.echo("\nrunfeed formats ID shows what becomes of each field, and an example.", err=True)
    else:
        (format,) = chosen
        click.echo(f"{page(format)}\n\nMade by: {format.made_by}\n\nExample:\n")
        for line in format.example.splitlines():
            click.echo(f"    {line}")


def page(format: Format) -> str:
    """What the format's module says of it."""
    return inspect.cleandoc(importlib.import_module(format.read.__module__).__doc__ or format.title)


def _described(format: Format) -> dict[str, Any]:
    return {
        "id": format.id,
        "title": format.title,
        "made_by": format.made_by,
        "example": format.example,
        "page": page(format),
    }
