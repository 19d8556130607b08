"""Where `runfeed push` writes: results to standard output, everything else to standard error.

A progress bar appears only when standard error is a terminal; elsewhere (CI logs, pipes) there are plain lines.
"""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from ingest.pack import Packed
from ingest.push_text import plain
from schemas.errors import Unavailable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Screen:
    """The two streams, and the progress bar while it is shown."""

    def __init__(self) -> None:
        self._bar: tuple[Progress, TaskID] | None = None
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, ValueError):
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a log in ASCII is no reason to fail

    def note(self, line: str) -> None:
        """A line about what goes on."""
        if self._bar:
            self._bar[0].console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(line, err=True)

    def result(self, lines: Iterable[str]) -> None:
        """Lines that the caller asked for."""
        for line in lines:
            click.echo(line)

    def json(self, line: bytes) -> None:
        click.echo(line.decode())

    def sent(self, packed: Packed, size_bytes: int) -> None:
        """Of the present attempt to send `packed`, `size_bytes` are on their way."""
        if self._bar:
            progress, task = self._bar
            progress.update(task, description=plain(packed.name), total=packed.size_bytes, completed=size_bytes)

    def retry(self, error: Unavailable, pause_seconds: float) -> None:
        self.note(f"{plain(error)}; trying again in {pause_seconds:.1f} s")

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Show a bar, on a terminal, until the present file is done; results are printed when it has gone."""
        if not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        console = Console(stderr=True)
        with Progress(
            *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
        ) as progress:
            self._bar = (progress, progress.add_task("", total=None))
            try:
                yield
            finally:
                self._bar = None
