"""Work on the lake version that serves: dispatch its batches, announce their outcomes; follow a switch to another."""

from collections.abc import Callable
from datetime import datetime

from feed.announceable import describe_outcome
from feed.announcer import Announcer
from feed.log import LogReader
from infra.bucket import Buckets
from processor.dispatcher import Dispatcher, Send
from processor.lake import current_lake
from schemas import keys


class CurrentLake:
    """The steps of two loops. Each of `dispatch` and `announce` is for one thread, not the same for both."""

    def __init__(
        self, buckets: Buckets, reader_of: Callable[[str], LogReader], send: Send, *, clock: Callable[[], datetime]
    ) -> None:
        self._buckets = buckets
        self._reader_of = reader_of
        self._send = send
        self._clock = clock
        self._dispatcher: tuple[int, Dispatcher] | None = None
        self._announcer: tuple[int, Announcer] | None = None

    def dispatch(self) -> int:
        """A step of the dispatcher; the number of batches sent."""
        version, _ = current_lake(self._buckets.public)
        if self._dispatcher is None or self._dispatcher[0] != version:
            submissions = self._reader_of(keys.SUBMISSIONS_LOG)
            outcomes = self._reader_of(keys.outcomes_log(version))
            dispatcher = Dispatcher(self._buckets, submissions, outcomes, self._send, version, clock=self._clock)
            self._dispatcher = version, dispatcher
        return self._dispatcher[1].step()

    def announce(self) -> int:
        """A commit to the outcomes log; the number of outcomes announced."""
        version, _ = current_lake(self._buckets.public)
        if self._announcer is None or self._announcer[0] != version:
            outcomes = self._reader_of(keys.outcomes_log(version))
            self._announcer = version, Announcer(self._buckets, outcomes, describe_outcome, clock=self._clock)
        return self._announcer[1].commit()
