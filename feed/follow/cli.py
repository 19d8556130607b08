"""The command `runfeed follow`: options in, entries out as lines, as JSON, or to a program each."""

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

import click

from feed.screen import printable
from schemas.errors import Refused, RunfeedError, Unavailable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from feed.follow.follow import Followed
    from feed.follow.subscriber import Listening

DONE, BREACH, COULD_NOT = 0, 1, 2
"""Exit statuses."""

_LONGEST = 2000


@click.command()
@click.argument("url", envvar="RUNFEED_URL")
@click.option("--since", default="0", show_default=True, metavar="SEQ|TIME|now",
              help="What follows this entry; or was announced then or later; or is new.")  # fmt: skip
@click.option("--project", multiple=True, metavar="NAME", help="Only entries of this project; may be repeated.")
@click.option("--format", "format_", multiple=True, metavar="ID",
              help="Only entries of this declared format (in outcomes: detected); may be repeated.")  # fmt: skip
@click.option("--log", default="", metavar="LOG", help="As in outcomes-v1.  [default: what URL names, or submissions]")
@click.option("--cursor", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="File that remembers how far this has come; if it is there, it says where to go on.")  # fmt: skip
@click.option("--exec", "command", default="", metavar="CMD",
              help="Run this for each entry: its bytes on standard input, the entry in RUNFEED_ENTRY.")  # fmt: skip
@click.option("--keep-going", is_flag=True, help="With --exec: go on with the next entry if CMD fails five times.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON per entry.")
@click.option("--once", is_flag=True, help="End when there is nothing new.")
@click.option("--key", default="", metavar="HEX", help="The public key that must have signed the log.")
@click.option("--poll", default=30.0, show_default=True, metavar="SECONDS", type=click.FloatRange(min=0.05),
              help="Between two looks.")  # fmt: skip
@click.option("--callback", default="", metavar="URL", help="Where the log's hub reaches us; wants --listen.")
@click.option("--listen", default="", metavar="HOST:PORT", help="Where we listen for the hub.")
@click.option("--quiet", is_flag=True, help="Nothing on standard error but what is wrong.")
def follow(
    *,
    url: str,
    since: str,
    project: tuple[str, ...],
    format_: tuple[str, ...],
    log: str,
    cursor: Path | None,
    command: str,
    keep_going: bool,
    as_json: bool,
    once: bool,
    key: str,
    poll: float,
    callback: str,
    listen: str,
    quiet: bool,
) -> None:
    """Follow somebody's results: each entry once, in order, as it comes, checked against its log's chain.

    URL is a server, the address of a log or of any page that names one, s3://BUCKET[/PREFIX], or a data folder. A
    withdrawal is an entry too: it comes whatever --project and --format say, for copies to be removed.

    \b
    Examples:
      runfeed follow https://results.example.org
      runfeed follow https://results.example.org --since now --project numpy --json
      runfeed follow https://results.example.org --since 2026-11-01 --once | wc -l
      runfeed follow https://results.example.org --cursor mine --exec './import.sh --into mine'
      runfeed follow https://results.example.org/feeds/outcomes-v1/current.atom --json
      runfeed follow https://results.example.org --callback https://me.example/hook --listen 0.0.0.0:9000

    With --exec an entry is handled when CMD ends with status 0; until then it is tried five times, and then again the
    next time. CMD runs without a shell; beside RUNFEED_ENTRY (JSON) there are RUNFEED_ENTRY_KIND (submission,
    withdrawal or outcome), _SEQ, _ID, _PROJECT, _FORMAT, _SHA256, _SIZE_BYTES, _MEDIA_TYPE, _ENCODING, _TITLE and _KEY.

    \b
    Exit status:
      0  ended: by Ctrl-C, or with --once there is nothing new
      1  a breach: the log is not what it was, or not what it promises to be
      2  could not follow, or CMD failed
    """
    try:
        arguments = shlex.split(command)
        listening = parse_listening(callback, listen)
    except (ValueError, Refused) as error:
        raise click.UsageError(str(error)) from error
    if keep_going and not arguments:
        raise click.UsageError("--keep-going: wants --exec")
    screen = _Screen(quiet=quiet)
    from feed.breach import Breach
    from feed.follow.follow import follow as follow_log

    try:
        entries = follow_log(
            url,
            since=since,
            cursor=cursor,
            project=project,
            format=format_,
            log=log,
            key=key,
            poll_seconds=poll,
            once=once,
            listening=listening,
            environ=dict(os.environ),
            on_note=screen.note,
            on_progress=screen.progress,
        )
        with closing(entries), screen.lasting(entries_shown=not arguments):
            for entry in entries:
                if arguments:
                    _execute(entry, arguments, screen, keep_going=keep_going, once=once)
                else:
                    screen.show(entry.to_json().decode() if as_json else line_of(entry))
    except KeyboardInterrupt:
        sys.exit(DONE)
    except Breach as error:
        click.echo(f"breach: {plain(error)}", err=True)
        sys.exit(BREACH)
    except RunfeedError as error:
        click.echo(f"runfeed: {plain(error)}", err=True)
        sys.exit(COULD_NOT)


def parse_listening(callback: str, listen: str) -> "Listening | None":
    """Where a hub reaches us, if both options say so. Refused if one does, or what they say is no address."""
    if not callback and not listen:
        return None
    host, colon, port = listen.rpartition(":")
    if not callback.startswith(("http://", "https://")) or "#" in callback or "?" in callback:
        raise Refused("--callback", "a URL without ? and #, together with --listen", repr(callback[:200]))
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise Refused("--listen", "HOST:PORT, together with --callback", repr(listen[:200]))
    from feed.follow.subscriber import Listening

    return Listening(callback, host.strip("[]"), int(port))


def line_of(entry: "Followed") -> str:
    """An entry on one line, for people."""
    when = entry.updated.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return plain(f"{entry.seq:>8}  {when}  {entry.title}  {entry.summary}  {entry.page_url or entry.url}")


def plain(text: object) -> str:
    """On one line, not endless, leaving a terminal nothing to obey."""
    return printable(str(text)[:_LONGEST])


def _execute(entry: "Followed", arguments: Sequence[str], screen: "_Screen", *, keep_going: bool, once: bool) -> None:
    """Run the program; an entry whose bytes are withdrawn by now has nothing to be run for. A server that cannot give
    them now is asked again for ever, as it is for what is new."""
    import time
    from itertools import count

    from feed.follow.execute import Failed, run_for
    from feed.follow.follow import Withdrawn
    from feed.follow.waiting import failed_seconds
    from infra.again import Busy

    for failures in count(1):
        try:
            run_for(entry, arguments, os.environ, sleep=time.sleep, on_note=screen.note)
        except Withdrawn as error:
            screen.note(str(error))
        except Failed as error:
            if not keep_going:
                raise
            screen.note(str(error))
        except Unavailable as error:
            if once:
                raise
            asked = error.retry_after_seconds if isinstance(error, Busy) else None
            pause = failed_seconds(failures, asked, 1.0)
            screen.note(f"entry {entry.seq}: {error}; again in {pause:.1f} s")
            time.sleep(pause)
            continue
        return


class _Screen:
    """Entries to standard output, everything else to standard error. Where entries are not seen on the terminal, a bar
    shows how far it is."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._level = False
        self._bar: tuple[Progress, TaskID] | None = None

    def show(self, line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()  # whoever reads a pipe wants it now

    def note(self, note: str) -> None:
        if self._bar:
            self._bar[0].console.print(plain(note), markup=False, highlight=False, soft_wrap=True)
        elif not self._quiet:
            click.echo(plain(note), err=True)

    def progress(self, seq: int, last: int) -> None:
        if self._bar:
            progress, task = self._bar
            progress.update(task, completed=seq, total=last)
        elif seq == last and not self._level and not self._quiet and sys.stderr.isatty():
            self._level = True
            click.echo(f"level with entry {seq:,}; waiting for more (Ctrl-C ends)", err=True)

    @contextmanager
    def lasting(self, *, entries_shown: bool) -> Iterator[None]:
        """Until whoever reads our standard output has had enough (`| head`), which is no error."""
        with ExitStack() as ending:
            if not self._quiet and sys.stderr.isatty() and not (entries_shown and sys.stdout.isatty()):
                self._bar = _bar(ending)
                ending.callback(self._without_bar)
            try:
                yield
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at its end
                sys.exit(DONE)

    def _without_bar(self) -> None:
        self._bar = None


def _bar(ending: ExitStack) -> "tuple[Progress, TaskID]":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("entry"), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False)
    ending.enter_context(bar)
    return bar, bar.add_task("", total=None)
