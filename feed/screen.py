"""Where `runfeed verify` and `runfeed mirror` say how far they are: on standard error, a bar where that is a terminal,
else a line now and then."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from schemas.errors import Unavailable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_SECONDS = 10.0
"""Between two lines where there is no terminal."""

SILENT_SECONDS = 1.5
"""Of a pause before another try that nobody needs to know of: connections are cut all the time."""

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


class Screen:
    """Told from one thread how far things are; `note` may come from any."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._bar: tuple[Progress, TaskID] | None = None
        self._clock = clock
        self._said_at = clock()
        self._title = ""
        with contextlib.suppress(AttributeError, ValueError):
            sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a log in ASCII is no reason to fail

    def note(self, line: str) -> None:
        """A line about what goes on."""
        line = printable(line)
        if self._bar:
            self._bar[0].console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(line, err=True)

    def retry(self, error: Unavailable, pause_seconds: float) -> None:
        """Something failed and is tried again; said if that takes a while."""
        if pause_seconds >= SILENT_SECONDS:
            self.note(f"{error}; trying again in {pause_seconds:.0f} s")

    def progress(self, done: int, last: int, size_bytes: int) -> None:
        """Entry `done` of `last` is reached, and so many bytes have been read."""
        if self._bar:
            progress, task = self._bar
            progress.update(task, completed=done, total=last, size=amount(size_bytes))
        elif self._clock() - self._said_at >= LINE_SECONDS:
            self._said_at = self._clock()
            click.echo(f"{self._title}: entry {done:,} of {last:,}, {amount(size_bytes)}", err=True)

    @contextlib.contextmanager
    def shown(self, title: str) -> Iterator[None]:
        """While this lasts, `title` is what is being done."""
        self._title, self._said_at = title, self._clock()
        if not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("entries, {task.fields[size]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
            self._bar = progress, progress.add_task(title, total=None, size="0 bytes")
            try:
                yield
            finally:
                self._bar = None


def printable(text: str) -> str:
    """`text` on one line, without what steers a terminal: much of it is a stranger's."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def amount(size_bytes: int) -> str:
    """`12.3 MB`."""
    power = min(max(len(str(size_bytes)) - 1, 0) // 3, len(_UNITS) - 1)
    return f"{size_bytes:,} bytes" if power == 0 else f"{size_bytes / 1000**power:,.1f} {_UNITS[power]}"
