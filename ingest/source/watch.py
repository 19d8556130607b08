"""What looks at all sources when they are due: a few at a time, never two at one host, for as long as ingest runs.

Which are due stands in their states, so any number of processes may run this; each look is claimed first.
"""

import threading
import time
from collections.abc import Callable
from datetime import datetime
from urllib.parse import urlsplit

import structlog

from infra.bucket import Buckets
from infra.fetch import Fetcher, user_agent
from infra.hints import Hints
from infra.settings import Settings
from ingest.source.look import Look
from ingest.source.progress import Progress
from ingest.source.store import read_source, read_state, source_names
from ingest.source.take import Ending, Taker
from schemas.errors import Refused, SwapLost, Unavailable
from schemas.records import Source

AT_ONCE = 4
"""Looks under way in this process."""

LIST_SECONDS = 10.0
"""Between two listings of the sources: how soon a new one is seen."""

_AGAIN_SECONDS = 30.0
"""After a look that failed on our side."""

_STOP_SECONDS = 5.0

_log = structlog.get_logger()


class SourceWatch:
    """Looks at the sources from the first `step` to `stop`; `hints` is told of new submissions."""

    def __init__(self, buckets: Buckets, settings: Settings, hints: Hints, clock: Callable[[], datetime]) -> None:
        self.idle_seconds = min(LIST_SECONDS, float(settings.source_seconds))
        self._buckets = buckets
        self._settings = settings
        self._hints = hints
        self._clock = clock
        self._stopping = threading.Event()
        self._fetcher = Fetcher(
            private_addresses=settings.private_addresses, user_agent=user_agent(settings.public_url)
        )
        folder = settings.data / "spool"
        self._taker = Taker(buckets, settings, self._fetcher, folder, clock, stopping=self._stopping.is_set)
        self._under_way: dict[str, threading.Thread] = {}  # by the feed's host
        self._due: dict[str, datetime] = {}  # when there may be something to do, as far as we know

    def step(self) -> int:
        """Begin the looks that are due, the longest due first, and return how many, without waiting for them."""
        private = self._buckets.private
        names = source_names(private)
        self._due = {name: self._due[name] for name in names if name in self._due}
        self._under_way = {host: thread for host, thread in self._under_way.items() if thread.is_alive()}
        due: list[tuple[datetime, str, Source]] = []
        for name in names:
            if name in self._due and self._due[name] > self._clock():
                continue
            try:
                source = read_source(private, name)
            except Refused:  # removed meanwhile
                continue
            if _host(source) in self._under_way:  # if by this source, its state says until when it is claimed
                continue
            self._due[name] = read_state(private, source)[0].next_look or source.created
            if self._due[name] <= self._clock():
                due.append((self._due[name], name, source))
        return sum(self._begin(source) for _, _, source in sorted(due, key=lambda one: one[:2]))

    def stop(self) -> None:
        """Give up what is under way: whoever looks next goes on from there."""
        self._stopping.set()
        until = time.monotonic() + _STOP_SECONDS
        for thread in list(self._under_way.values()):
            thread.join(max(0.0, until - time.monotonic()))
        self._fetcher.close()

    def _begin(self, source: Source) -> bool:
        host = _host(source)
        if host in self._under_way or len(self._under_way) >= AT_ONCE or self._stopping.is_set():
            return False
        # A daemon: a server that is silent for as long as it may be must not keep this process from ending.
        thread = threading.Thread(target=self._look, args=(source,), name=f"source {source.name}", daemon=True)
        self._under_way[host] = thread
        thread.start()
        return True

    def _look(self, source: Source) -> None:
        """One look; an outermost loop's body, as those of `infra.loops`: nothing that fails ends it."""
        every_seconds = float(source.every_seconds or self._settings.source_seconds)
        try:
            progress = Progress(self._buckets.private, source, self._clock, self._told, self._stopping.is_set)
            why = Look(progress, self._taker, every_seconds).look()
            if why:
                _log.warning("source not read", source=source.name, error=why)
        except (SwapLost, Ending):
            return  # another process looks at it, it was removed, or we are to end
        except BaseException as error:  # noqa: BLE001 - the outermost loop; a panic in a library is no Exception
            expected = isinstance(error, Unavailable)
            _log.error("source failed", source=source.name, error=str(error), exc_info=not expected)
            self._stopping.wait(_AGAIN_SECONDS)  # its host's turn lasts until then

    def _told(self, word: str, entry: str, what: str) -> None:
        if word == "taken":
            self._hints.signal("submitted")


def _host(source: Source) -> str:
    return urlsplit(source.url).hostname or ""
