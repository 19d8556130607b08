"""Following a log from anywhere with nothing but its address: each entry once, in order, checked.

    from runfeed import follow

    for entry in follow("https://results.example.org", project="demo", cursor="demo.cursor"):
        if entry.kind == "withdrawal":
            forget(entry.withdraws)
        else:
            use(entry.title, entry.read())

An entry counts as handled when the next one is asked for. With a `cursor` file that is what the file says, so a program
that dies, or leaves the loop, gets the entry again that it had not finished, and no other: each is handled to its end
exactly once, and begun at least once. `follow_async` is the same for `async for`.

Whoever follows checks: digests, density, the chain, signatures; see feed/README.md. What does not hold raises Breach,
and following ends there.
"""

import asyncio
import logging
import random
import re
import threading
from collections.abc import AsyncIterator, Callable, Collection, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from feed.breach import Breach
from feed.follow.cursor import Cursor, CursorFile
from feed.follow.followed import Followed, Withdrawn, followed
from feed.follow.look import Following, Since
from feed.follow.subscriber import Listening, Subscriber, hub_of
from feed.follow.waiting import POLL_SECONDS, Stopped, Wakening, failed_seconds, level_seconds
from feed.remote.address import from_feed_url
from feed.remote.asking import Asker, is_loopback
from feed.remote.bucket import RemoteBucket
from infra.again import Busy, World
from schemas import keys
from schemas.errors import Refused, Unavailable
from schemas.records import Entry

__all__ = ["Breach", "Followed", "Listening", "Withdrawn", "follow", "follow_async"]

_log = logging.getLogger("runfeed.follow")  # Python's own: whoever uses this has chosen where its lines go

_PATIENCE_SECONDS = 10.0
_AHEAD = 4
_PLACES = "a seq, a time as in 2026-11-22T08:05:00Z, or now"
_SEQ = re.compile(r"\d{1,18}", re.ASCII)
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class _Wish:
    url: str
    since: Since
    cursor: Path | None
    projects: frozenset[str]
    formats: frozenset[str]
    log: str
    key: str
    poll_seconds: float
    once: bool
    listening: Listening | None
    environ: dict[str, str]
    stop: threading.Event
    on_note: Callable[[str], None]
    on_progress: Callable[[int, int], None]


def follow(
    url: str,
    *,
    since: int | str | datetime = 0,
    cursor: str | Path | None = None,
    project: str | Collection[str] = (),
    format: str | Collection[str] = (),
    log: str = "",
    key: str = "",
    poll_seconds: float = POLL_SECONDS,
    once: bool = False,
    listening: Listening | None = None,
    environ: dict[str, str] | None = None,
    stop: threading.Event | None = None,
    on_note: Callable[[str], None] = _log.warning,
    on_progress: Callable[[int, int], None] = lambda seq, last: None,
) -> Generator[Followed, None, None]:
    """The entries of a log as they come, without end: `url` is a server's, a log's, a folder's or an s3:// one.

    `since` is a seq (what follows it; 0: all), a time (what was announced then or later) or "now". `cursor` is a file
    that says where to go on; if it is there, `since` is not asked. Withdrawals come whatever `project` and `format`
    are wanted, as bytes of any other project may be meant; the format is the declared one, of outcomes the detected.
    `log` is by default what `url` names, else `submissions`. `key` is the public key that must have signed; by default
    the one that the cursor, the log's id or else the first look names.

    Looks every `poll_seconds`, conditionally; a hub on this machine, or one that reaches `listening`, is subscribed to,
    tells when to look, and makes it look seldom by itself. What fails and may work later is tried again for ever and
    told to `on_note`, by default the logger `runfeed.follow`. `once` ends when there is nothing new, and `stop` (set it
    from anywhere) within a moment. `on_progress` is told how far it is, and how far the log, after each entry and
    whenever there is nothing new. `environ` is where keys for s3:// are.

    Raises Breach; Refused if nothing can come of this, at once or at the first look; with `once`, Unavailable.
    """
    if key and not _KEY.fullmatch(key):
        raise Refused("key", "a public key, 64 lower-case hexadecimal digits", repr(key[:80]))
    if not poll_seconds > 0:
        raise Refused("poll_seconds", "more than 0", str(poll_seconds))
    return _followed(
        _Wish(
            url=url,
            since=parse_since(since),
            cursor=Path(cursor) if cursor else None,
            projects=_some(project),
            formats=_some(format),
            log=log,
            key=key,
            poll_seconds=poll_seconds,
            once=once,
            listening=listening,
            environ=environ or {},
            stop=stop or threading.Event(),
            on_note=on_note,
            on_progress=on_progress,
        )
    )


async def follow_async(url: str, **options: Any) -> AsyncIterator[Followed]:
    """`follow` with the same options except `stop`, in a thread of its own; cancelling the task ends it.

    `read` and `open` of an entry wait for the network: call them in `asyncio.to_thread`.
    """
    stop = threading.Event()
    entries = follow(url, stop=stop, **options)
    thread = ThreadPoolExecutor(1, "follow")
    loop = asyncio.get_running_loop()
    try:
        while (entry := await loop.run_in_executor(thread, next, entries, None)) is not None:
            yield entry
    finally:
        stop.set()
        thread.submit(entries.close)  # behind whatever is under way there
        thread.shutdown(wait=False)


def parse_since(since: int | str | datetime) -> Since:
    """A seq, a time (one without its zone is UTC), or "now"; from their texts too. Refused for anything else."""
    if since == "now":
        return "now"
    try:
        place = _parsed(since) if isinstance(since, str) else since
    except ValueError as error:
        raise Refused("since", _PLACES, repr(since)[:80]) from error
    if isinstance(place, datetime):
        return place if place.tzinfo else place.replace(tzinfo=UTC)
    if place < 0:
        raise Refused("since", _PLACES, str(place))
    return place


def _parsed(text: str) -> int | datetime:
    return int(text) if _SEQ.fullmatch(text) else datetime.fromisoformat(text)


def _some(wanted: str | Collection[str]) -> frozenset[str]:
    return frozenset([wanted] if isinstance(wanted, str) else wanted) - {""}


def _wanted(wish: _Wish, entry: Entry) -> bool:
    formats = {one.term for one in entry.categories if one.scheme == "format"}
    return bool(entry.withdraws) or (
        (not wish.projects or entry.project in wish.projects) and (not wish.formats or bool(formats & wish.formats))
    )


def _followed(wish: _Wish) -> Generator[Followed, None, None]:
    with ExitStack() as ending, suppress(Stopped):
        yield from _Follower(wish, ending).entries()


class _Follower:
    """One run of `follow`: what it has open until `ending`, and how often it failed."""

    def __init__(self, wish: _Wish, ending: ExitStack) -> None:
        self._wish = wish
        self._wakening = Wakening(wish.stop)
        self._file = ending.enter_context(CursorFile(wish.cursor)) if wish.cursor else None
        self._found = self._file.read() if self._file else None
        self._asker = Asker(patience_seconds=_PATIENCE_SECONDS, world=World(sleep=self._wakening.sleep))
        ending.callback(self._asker.close)
        self._pool = ThreadPoolExecutor(_AHEAD, "follow ahead")
        ending.callback(self._pool.shutdown, wait=False, cancel_futures=True)
        self._failures = 0
        self._following: Following | None = None
        self._subscriber: Subscriber | None = None
        ending.callback(self._close)

    def _close(self) -> None:
        if self._subscriber:
            self._subscriber.close()
        if self._file:
            self._file.settle()

    def entries(self) -> Iterator[Followed]:
        """For ever, or until nothing is new if that is wished. Raises Stopped when it is to end."""
        fresh = False
        while True:
            try:
                following = self._following or self._opened()
                yield from self._look(following, fresh=fresh)
            except Stopped:
                raise
            except Unavailable as error:
                if self._wish.once:
                    raise
                self._failures += 1
                asked = error.retry_after_seconds if isinstance(error, Busy) else None
                pause = failed_seconds(self._failures, asked, random.random())  # noqa: S311  scatters followers
                self._wish.on_note(f"{error}; looking again in {pause:.1f} s")
                self._settle()
                fresh = self._wakening.wait(pause)
                continue
            if self._failures:
                self._wish.on_note("going on")
            self._failures = 0
            self._settle()
            if self._wish.once:
                return
            fresh = self._wait(following)

    def _look(self, following: Following, *, fresh: bool) -> Iterator[Followed]:
        """What is new, each handled when the next is asked for."""
        bucket, log = following.bucket, following.log
        for step in following.look(fresh=fresh):
            wanted = _wanted(self._wish, step.entry)
            if wanted:
                yield followed(log, step.entry, bucket, self._wakening.sleep)
            following.cursor = step.cursor
            if self._file and wanted:
                self._file.write(step.cursor)
            self._wish.on_progress(step.cursor.seq, following.last_seq)

    def _opened(self) -> Following:
        wish = self._wish
        bucket, log = from_feed_url(wish.url, asker=self._asker, environ=wish.environ)
        log = wish.log or log
        following = Following(
            bucket,
            log,
            self._found or Cursor(feed="", seq=0),
            self._pool,
            key=wish.key,
            sleep=self._wakening.sleep,
            on_note=wish.on_note,
        )
        if self._found is None:
            following.start(wish.since)
        if wish.once and not following.cursor.feed and not following.exists():
            raise Refused(wish.url, f"a log {log}", "none")
        self._following = following
        return following

    def _settle(self) -> None:
        """What was passed over need not be read again, and what was handled survives a power cut."""
        if self._file and self._following and self._following.cursor.feed:
            self._file.write(self._following.cursor)
            self._file.settle()

    def _wait(self, following: Following) -> bool:
        """Until there may be something new; whether somebody has said that there is."""
        self._wish.on_progress(following.last_seq, following.last_seq)
        headers: Mapping[str, str] = {}
        if isinstance(following.bucket, RemoteBucket):
            headers = following.bucket.headers(keys.feed_head(following.log))
            self._subscribe(following.bucket, headers)
        pushed = self._subscriber is not None and self._subscriber.keep_up()
        seconds = level_seconds(self._wish.poll_seconds, headers, pushed=pushed, chance=random.random())  # noqa: S311
        if self._subscriber:
            seconds = min(seconds, self._subscriber.seconds_until_due())
        return self._wakening.wait(seconds)

    def _subscribe(self, bucket: RemoteBucket, headers: Mapping[str, str]) -> None:
        """Once: to a hub that can reach us."""
        named = hub_of(headers)
        if self._subscriber or not named:
            return
        hub, topic = named
        near = is_loopback(bucket.base_url) and is_loopback(hub)
        if near or self._wish.listening:
            self._subscriber = Subscriber(
                hub,
                topic,
                self._wish.listening,
                self._asker,
                ring=self._wakening.ring,
                on_note=self._wish.on_note,
            )
