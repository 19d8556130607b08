"""Work on the lake version that serves: dispatch its batches, announce their outcomes; follow a switch to another."""

from collections.abc import Callable
from datetime import datetime, timedelta

from feed.announceable import Describe, describe_outcome
from feed.announcer import Announcer
from feed.log import LogReader
from infra.bucket import Buckets
from processor.dispatcher import REDELIVER_AFTER, Dispatcher, Held, Send
from processor.lake import current_lake, sweep_parts
from schemas import keys


class CurrentLake:
    """The steps of loops, each for one thread."""

    def __init__(
        self,
        buckets: Buckets,
        reader_of: Callable[[str], LogReader],
        send: Send,
        *,
        clock: Callable[[], datetime],
        announcer_of: Callable[[LogReader, Describe], Announcer],
        redeliver_after: timedelta = REDELIVER_AFTER,
        held: Held = lambda: None,
    ) -> None:
        self._buckets = buckets
        self._reader_of = reader_of
        self._send = send
        self._clock = clock
        self._announcer_of = announcer_of
        self._redeliver_after = redeliver_after
        self._held = held
        self._dispatcher: tuple[int, Dispatcher] | None = None
        self._announcer: tuple[int, Announcer] | None = None

    def dispatch(self) -> int:
        """A step of the dispatcher; the number of batches sent."""
        version, _ = current_lake(self._buckets.public)
        if self._dispatcher is None or self._dispatcher[0] != version:
            submissions = self._reader_of(keys.SUBMISSIONS_LOG)
            outcomes = self._reader_of(keys.outcomes_log(version))
            dispatcher = Dispatcher(
                self._buckets,
                submissions,
                outcomes,
                self._send,
                version,
                clock=self._clock,
                redeliver_after=self._redeliver_after,
                held=self._held,
            )
            self._dispatcher = version, dispatcher
        return self._dispatcher[1].step()

    def stand_by(self) -> int:
        """Another dispatches: forget what we sent, and begin at the checkpoint when it is our turn again. 0."""
        self._dispatcher = None
        return 0

    def announce(self) -> int:
        """A commit to the outcomes log; the number of outcomes announced."""
        version, _ = current_lake(self._buckets.public)
        if self._announcer is None or self._announcer[0] != version:
            self._announcer = version, self._new_announcer(version)
        return self._announcer[1].commit()

    def sweep(self) -> int:
        """Remove what leads nowhere and is older than a week; the number of objects removed."""
        version, _ = current_lake(self._buckets.public)
        now = self._clock()
        return self._new_announcer(version).sweep(now) + sweep_parts(self._buckets.public, version, now)

    def _new_announcer(self, version: int) -> Announcer:
        return self._announcer_of(self._reader_of(keys.outcomes_log(version)), describe_outcome)
