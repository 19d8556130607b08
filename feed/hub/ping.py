"""Telling the hubs that the operator has configured that there are new entries, so that they fetch the log's head.

WebSub (6) leaves the form open; that of PubSubHubbub 0.4 is what public hubs take. Who was told of what is not stored:
a process that starts tells each hub once, which costs it a conditional request.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from urllib.parse import urlencode

import structlog

from feed.log import LogReader
from feed.serve.topics import topic_of
from infra.fetch import Fetcher
from schemas.errors import RunfeedError

FIRST_PAUSE_SECONDS = 5
LONGEST_PAUSE_SECONDS = 600

_log = structlog.get_logger()


class Pings:
    """The steps of one loop. `base` is our public address, `logs` gives the names of the logs that grow."""

    def __init__(
        self,
        hubs: Iterable[str],
        base: str,
        logs: Callable[[], list[str]],
        reader_of: Callable[[str], LogReader],
        fetcher: Fetcher,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._hubs = list(hubs)
        self._base = base
        self._logs = logs
        self._reader_of = reader_of
        self._fetcher = fetcher
        self._clock = clock
        self._told: dict[tuple[str, str], int] = {}
        self._failures: dict[str, int] = {}
        self._next_try: dict[str, datetime] = {}

    def step(self) -> int:
        """Tell each hub of each log that has grown since it was told, and return how often that was done."""
        last_of = {log: self._reader_of(log).last_seq() for log in self._logs()}
        return sum(self._told_of(hub, log, last) for hub in self._hubs for log, last in last_of.items())

    def _told_of(self, hub: str, log: str, last: int) -> bool:
        now = self._clock()
        if last <= self._told.get((hub, log), 0) or now < self._next_try.get(hub, now):
            return False
        if self._tell(hub, topic_of(self._base, log)):
            self._told[hub, log] = last
            self._failures[hub] = 0
            return True
        failures = self._failures[hub] = self._failures.get(hub, 0) + 1
        pause = min(FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 20), LONGEST_PAUSE_SECONDS)
        self._next_try[hub] = self._clock() + timedelta(seconds=pause)
        return False

    def _tell(self, hub: str, topic: str) -> bool:
        body = urlencode({"hub.mode": "publish", "hub.url": topic, "hub.topic": topic}).encode()
        try:
            status = self._fetcher.post(hub, body, {"Content-Type": "application/x-www-form-urlencoded"})
        except RunfeedError as error:
            _log.warning("a hub was not told", hub=hub, error=str(error))
            return False
        if not 200 <= status < 300:
            _log.warning("a hub was not told", hub=hub, status=status)
        return 200 <= status < 300
