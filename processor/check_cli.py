"""`runfeed check`."""

import contextlib
import mmap
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import click
import msgspec
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from processor.check import (
    Checked,
    as_json,
    cells,
    checked,
    plain,
    report_lines,
    shown_tables,
    table_lines,
    table_title,
    verdict_line,
)
from processor.formats.registry import FORMATS
from processor.reading.decode import Buffer, DecodeLimits
from schemas.own_schema import MAX_SCHEMA_BYTES
from schemas.problems import problem_of
from schemas.records import Benchmark

_MOST_BYTES = DecodeLimits().max_decoded_bytes
_MOST_RECORD_BYTES = 8 * MAX_SCHEMA_BYTES
"""Of a benchmark's record: its schema and as much again, however its characters are written."""

_COLOURS = {"accepted": "green", "rejected": "red", "quarantined": "magenta"}
_NUMBERS = {"value", "n", "duration_seconds", "measurements", "tests", "passed", "failed"}


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--format", default="auto", metavar="ID", help="What the files are.  [default: found from their structure]"
)
@click.option("--benchmark", "record", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="The record of a registered benchmark: the files are results of it.")  # fmt: skip
@click.option("--rows", type=click.IntRange(0), default=5, show_default=True, help="Rows of each table to show.")
@click.option("--strict", is_flag=True, help="Exit status 1 also for problems that cost no rows.")
@click.option("--json", "as_lines", is_flag=True, help="One JSON object a file, on one line.")
@click.pass_context
def check(
    ctx: click.Context,
    *,
    files: tuple[str, ...],
    format: str,
    record: Path | None,
    rows: int,
    strict: bool,
    as_lines: bool,
) -> None:
    """Read result files as a server would, here and without one, and show what comes of them; `-` is standard input.

    Shows verdict and format, every problem with where, expected and found, the fields that reach no column, and the
    first rows. Nothing is sent or stored.

    \b
    Exit status, the highest of all files:
      0  accepted, perhaps with problems that cost no rows ("kept")
      1  rejected; with --strict also accepted with any problem
      2  cannot be read (no such file, a folder, no permission), or a wrong option
      3  Runfeed failed: a bug, please report it

    \b
    Examples:
      runfeed check result.json
      runfeed check --strict --rows 0 build/test-results/*.xml
      go test -bench . | runfeed check -
      runfeed check --json result.json | jq .unread
      runfeed check --benchmark public/benchmarks/demo/c-ray/000001.json result.json
    """
    if format != "auto" and format not in FORMATS:
        raise click.BadParameter(f"{format!r} is no format; runfeed formats lists them.", param_hint="--format")
    benchmark = _benchmark(record) if record else None
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a log in ASCII is no reason to fail
    status = 0
    for name in files:
        try:
            data = _read(name)
        except OSError as error:
            folder = isinstance(error, IsADirectoryError)
            reason = "it is a folder; name the files in it" if folder else plain(error.strerror or error)
            status = max(status, 2)
            if as_lines:
                click.echo(msgspec.json.encode({"file": plain(name), "exit_status": 2, "error": reason}).decode())
            else:
                click.echo(f"{plain(name)}: cannot be read: {reason}", err=True)
            continue
        one = checked(name, data, format=format, rows=rows, now=datetime.now(UTC), benchmark=benchmark)
        own_status = one.exit_status(strict=strict)
        status = max(status, own_status)
        if as_lines:
            click.echo(as_json(one, own_status))
        else:
            _show(one)
    ctx.exit(status)


# --- reading ---


def _read(name: str) -> Buffer:
    """The file's bytes; those of a file beyond the limit stay where they are, since only their number matters."""
    if name == "-":
        return _bounded(sys.stdin.buffer)
    path = Path(name)
    with open(path, "rb") as file:
        if path.is_file() and path.stat().st_size > _MOST_BYTES:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return _bounded(file)


def _benchmark(record: Path) -> Benchmark:
    try:
        with open(record, "rb") as file:
            return msgspec.json.decode(file.read(_MOST_RECORD_BYTES), type=Benchmark)
    except OSError as error:
        raise click.BadParameter(f"{plain(record)}: {error.strerror}", param_hint="--benchmark") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise click.BadParameter(plain(problem_of(error, f"{record} ")), param_hint="--benchmark") from error


def _bounded(file: IO[bytes]) -> bytes:
    """All that a pipe gives, up to just beyond the limit."""
    return file.read(_MOST_BYTES + 1)


# --- showing ---


def _show(one: Checked) -> None:
    verdict = one.outcome.verdict
    head, _, rest = verdict_line(one).rpartition(f": {verdict}")
    click.echo(f"{head}: {click.style(verdict, fg=_COLOURS[verdict])}{rest}")
    _echo(report_lines(one))
    tables = shown_tables(one)
    if sys.stdout.isatty():
        console = Console(highlight=False)
        for table in tables:
            console.print(f"  {table_title(one, table)}", markup=False)
            console.print(Padding(_table(one, table), (0, 0, 0, 4)))
    else:
        for table in tables:
            _echo(table_lines(one, table))


def _echo(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _table(one: Checked, table: str) -> Table:
    """The rows, fitted to the terminal's width."""
    columns, rows = cells(one, table)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        number = name in _NUMBERS
        shown.add_column(name, justify="right" if number else "left", no_wrap=number)  # numbers are never cut
    for row in rows:
        shown.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in row))
    return shown
