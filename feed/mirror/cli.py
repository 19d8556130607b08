"""`runfeed mirror`."""

import contextlib
import fcntl
import hashlib
import os
import random
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from feed.breach import Breach
from feed.mirror.mirror import Mirror, Mirrored, Wish
from feed.mirror.pace import Pace, parse_rate
from feed.remote.address import from_feed_url
from feed.remote.asking import Asker
from feed.screen import Screen, amount, printable
from feed.verify.cli import address_of
from feed.verify.remembered import memory_file
from feed.withdrawals import note_withdrawal
from infra.again import Busy, World
from infra.bucket import Bucket
from infra.clock import now
from schemas import keys
from schemas.errors import Refused, Unavailable

INTERRUPTED = 130
_LONGEST_PAUSE_SECONDS = 600.0


@dataclass(frozen=True)
class Place:
    """Where a mirror is kept: its bucket, and a folder of this machine for what is under way."""

    bucket: Bucket
    work: Path
    private: Path | None = None
    """Folder of the private bucket of a server over the mirror."""


@click.command()
@click.argument("address", metavar="URL|DIR|s3://…")
@click.argument("destination", metavar="DIR|s3://…")
@click.option("--lake", is_flag=True, help="Copy outcomes and parts too: whoever serves the mirror need not process.")
@click.option("--follow", is_flag=True, help="Go on for ever; else it ends when the mirror is level.")
@click.option("--poll", type=click.FloatRange(min=0.1), default=30.0, show_default=True, metavar="SECONDS",
              help="With --follow: between two looks.")  # fmt: skip
@click.option("--parallel", type=click.IntRange(1, 64), default=8, show_default=True, help="Requests at once.")
@click.option("--limit-rate", default="", metavar="RATE", help="As in 500kB/s or 10MB/s, over all requests.")
@click.option("--check/--no-check", default=None,
              help="Look for each object that should be there already.  [default: in a folder]")  # fmt: skip
@click.option("--key", default="", metavar="HEX", help="The public key that must have signed.")
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object on standard output.")
@click.pass_context
def mirror(
    ctx: click.Context,
    *,
    address: str,
    destination: str,
    lake: bool,
    follow: bool,
    poll: float,
    parallel: int,
    limit_rate: str,
    check: bool | None,
    key: str,
    as_json: bool,
) -> None:
    """Copy a whole Runfeed: every page, submission and blob, each byte verified. Run it again to go on.

    DIR becomes a data folder: `runfeed up --data DIR` serves the same results, and DIR itself can be followed, verified
    and mirrored. It is valid at every moment, whenever this is stopped. What was copied is not asked for again. A
    mirror refuses an origin whose past is another than the one it holds, and says where they part.

    \b
    Examples:
      runfeed mirror https://results.example.org /srv/mirror
      runfeed mirror https://results.example.org /srv/mirror --lake --limit-rate 10MB/s
      runfeed mirror https://results.example.org s3://my-mirror --follow
      runfeed up --data /srv/mirror

    \b
    Exit status:
      0  the mirror holds all entries
      1  the origin broke a promise, or is not the one that is mirrored
      2  it could not be finished now; run it again
      130  stopped by Ctrl-C, as --follow always is; run it again
    """
    if key and not re.fullmatch("[0-9a-f]{64}", key):
        raise click.UsageError("--key: expected 64 lower-case hexadecimal digits")
    screen, ending = Screen(), _Ending()
    pace = Pace(parse_rate(limit_rate) if limit_rate else None, sleep=ending.sleep)
    asker = Asker(
        world=World(sleep=ending.sleep),
        on_retry=screen.retry,
    )
    source, _ = from_feed_url(address, asker=asker, environ=os.environ)
    place = _opened(destination)
    if address_of(source) == address_of(place.bucket):
        raise Refused(destination, "another place than the origin's", "the same")
    wish = Wish(lake=lake, mend=place.private is not None if check is None else check, key=key, parallel=parallel)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(asker))
        stack.enter_context(_alone(place.work))
        mirrors = Mirror(
            source,
            place.bucket,
            place.work / "partial",
            wish,
            pace=pace,
            progress=lambda log, seq, last, size: screen.progress(seq, last, size),
            on_withdrawn=_noting(place, lake=lake),
            sleep=ending.sleep,
        )
        stack.callback(mirrors.close)
        stack.enter_context(screen.shown(f"mirror {address}"))
        stack.callback(ending.end)
        try:
            came = mirrors.step()
            while follow:
                _tell(screen, came, mirrors.summary())
                came = _next_step(mirrors, screen, ending, poll)
        except Breach as breach:
            ending.end()
            if as_json:
                told = {"where": breach.where, "expected": breach.expected, "found": breach.found}
                click.echo(msgspec.json.encode({"breach": told}))
            else:
                screen.note(f"breach: {breach}")
            ctx.exit(1)
        except KeyboardInterrupt:
            screen.note("stopped; what was copied stays, and the next run goes on from there")
            ctx.exit(INTERRUPTED)
    _show(mirrors.summary(), destination, as_json=as_json)


class _Ending:
    """Lets every pause be cut short when the command ends."""

    def __init__(self) -> None:
        self._ended = threading.Event()

    def sleep(self, seconds: float) -> None:
        """Unavailable if the command ends meanwhile, or has ended."""
        if self._ended.wait(seconds):
            raise Unavailable("stopped")

    def end(self) -> None:
        self._ended.set()


def _next_step(mirrors: Mirror, screen: Screen, ending: _Ending, poll: float) -> int:
    """The next step that works; the number of entries that came."""
    pause = poll
    while True:
        ending.sleep(pause * (0.9 + random.random() / 5))  # noqa: S311 - scattered, so that mirrors do not ask at once
        try:
            return mirrors.step()
        except Unavailable as error:
            asked = min(error.retry_after_seconds or 0.0, 3600.0) if isinstance(error, Busy) else 0.0
            pause = max(min(_LONGEST_PAUSE_SECONDS, pause * 2), asked)
            screen.note(f"{error}; looking again in {pause:.0f} s")


def _opened(destination: str) -> Place:
    if destination.startswith("s3://"):
        from infra.s3 import open_s3

        bucket = open_s3(destination, os.environ)
        bucket.check_conditional_writes()
        name = hashlib.sha256(destination.rstrip("/").encode()).hexdigest()[:16]
        return Place(bucket, memory_file(os.environ).parent / "mirror" / name)
    if re.match(r"[a-z0-9+.-]+://", destination):
        raise Refused("destination", "a folder or s3://bucket[/prefix]", repr(destination[:200]))
    from infra.folder import FolderBucket

    folder = Path(destination)
    return Place(FolderBucket(folder / "public"), folder / "mirror", folder / "private")


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Refused while another mirror works with the same folder."""
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Refused(str(work), "one mirror at work", "another `runfeed mirror` that has not ended") from error
        yield


def _noting(place: Place, *, lake: bool) -> Callable[[str], None]:
    """What is done about a withdrawn blob beside removing it: a server over the mirror that has processed it itself has
    rows of it, and is asked to remove them."""

    def note(sha256: str) -> None:
        if place.private and place.private.is_dir() and not lake:
            from infra.folder import FolderBucket

            note_withdrawal(FolderBucket(place.private), sha256, keys.new_nonce(now()))

    return note


def _tell(screen: Screen, came: int, held: Mirrored) -> None:
    if came:
        last = ", ".join(f"{log} 1 to {proved.seq:,}" for log, proved in held.logs.items())
        screen.note(f"{came:,} entries came; holds {last}")


def _show(held: Mirrored, destination: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(as_record(held, destination)))
        return
    for note in held.notes:
        click.echo(printable(f"note: {note}"))
    for log, proved in held.logs.items():
        signed = f", signed {proved.time:%Y-%m-%d %H:%M:%S} UTC by {proved.key}" if proved.key and proved.time else ""
        click.echo(printable(f"{destination} holds {log} 1 to {proved.seq:,}, chain {proved.chain}{signed}"))
    came = f"{held.entries:,} entries and {held.objects:,} objects came, {amount(held.size_bytes)} in all"
    click.echo(came + (f"; {held.removed:,} withdrawn objects went" if held.removed else ""))


def as_record(held: Mirrored, destination: str) -> dict[str, Any]:
    """`held` for programs."""
    return {
        "destination": destination,
        "logs": {
            log: {"feed": one.feed, "seq": one.seq, "chain": one.chain, "key": one.key, "checkpoint_time": one.time}
            for log, one in held.logs.items()
        },
        "entries": held.entries,
        "objects": held.objects,
        "size_bytes": held.size_bytes,
        "removed": held.removed,
        "notes": held.notes,
    }
