"""Follows the submissions log and sends each batch to the workers until it has an outcome.

The queue may lose a message and the process may die: what is sent is only remembered, what is *done* is read from the
outcomes log. A queue that others share can say what it holds: what was sent and is not there is sent again within
seconds, so it may be emptied at any time. What is there all too long is sent again as well. A checkpoint in the private
bucket says up to which seq everything is done, so a restart need not begin at 1.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from feed.log import LogReader
from infra.bucket import Bucket, Buckets
from processor.lake import done_through, has_outcome
from schemas import keys
from schemas.errors import SwapLost

MAX_IN_FLIGHT = 64
"""Batches sent and not yet done; more wait in the log."""

REDELIVER_AFTER = timedelta(minutes=10)
"""Unless the settings say otherwise."""

LOST_AFTER = timedelta(seconds=3)
"""A batch sent so long ago that the queue does not hold is lost, or about to be done. Each time it waits twice as long:
one that fails at once, for a bug of ours, keeps nobody busy."""

CHECKPOINT_EVERY = timedelta(seconds=5)


class Send(Protocol):
    """Puts a batch on the queue."""

    def __call__(self, lake_version: int, first: int, last: int, *, redelivered: bool) -> None: ...


Held = Callable[[], Collection[tuple[int, int]] | None]
"""(lake version, first) of each batch that the queue holds, waiting or under way; None if it cannot say."""


@dataclass
class _Sent:
    last: int
    at: datetime
    losses: int = 0


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Everything through `seq` is done."""

    seq: int
    schema_version: int = 1


class Dispatcher:
    """For one lake version. Only one thread may call `step`."""

    def __init__(
        self,
        buckets: Buckets,
        submissions: LogReader,
        outcomes: LogReader,
        send: Send,
        lake_version: int,
        *,
        clock: Callable[[], datetime],
        redeliver_after: timedelta = REDELIVER_AFTER,
        held: Held = lambda: None,
    ) -> None:
        self._buckets = buckets
        self._submissions = submissions
        self._outcomes = outcomes
        self._send = send
        self._lake_version = lake_version
        self._clock = clock
        self._redeliver_after = redeliver_after
        self._held = held
        self._written = read_checkpoint(buckets.private, lake_version)
        self._written_at = clock()
        self._sent_through = self._written
        # Batches announced before we started may have been sent by somebody before us.
        self._old_through = submissions.last_seq()
        self._in_flight: dict[int, _Sent] = {}
        self._asked_at = clock()
        self._outcomes_seen = outcomes.last_seq()

    def step(self) -> int:
        """Note what is done, send what is new, send again what takes too long; the number of batches sent."""
        now = self._clock()
        self._note_done()
        sent = self._send_again(now) + self._send_new(now)
        self._write_checkpoint(now)
        return sent

    def _note_done(self) -> None:
        while entries := self._outcomes.entries_after(self._outcomes_seen):
            for entry in entries:
                self._in_flight.pop(int(entry.id.partition("-")[0]), None)
            self._outcomes_seen = entries[-1].seq

    def _send_new(self, now: datetime) -> int:
        count = 0
        held: Collection[tuple[int, int]] | None = None
        while len(self._in_flight) < MAX_IN_FLIGHT:
            entries = self._submissions.entries_after(self._sent_through)
            if not entries:
                break
            first = entries[0].batch
            last = max(entry.seq for entry in entries if entry.batch == first)
            old = last <= self._old_through
            if old and (through := done_through(self._buckets.public, self._lake_version, first)):
                self._sent_through = through
                continue
            if old and held is None:
                held = self._held() or ()
            if not old or (self._lake_version, first) not in (held or ()):
                self._send(self._lake_version, first, last, redelivered=old)
                count += 1
            self._in_flight[first] = _Sent(last, now)
            self._sent_through = last
        return count

    def _send_again(self, now: datetime) -> int:
        lost = self._lost(now)
        count = 0
        for first, sent in list(self._in_flight.items()):
            if first not in lost and now - sent.at < self._redeliver_after:
                continue
            if has_outcome(self._buckets.public, self._lake_version, first):
                del self._in_flight[first]
                continue
            self._send(self._lake_version, first, sent.last, redelivered=True)
            sent.at = now
            sent.losses += first in lost
            count += 1
        return count

    def _lost(self, now: datetime) -> set[int]:
        """The batches that should be on the queue and are not. The queue is asked now and then, when it matters."""
        due = {first for first, sent in self._in_flight.items() if now - sent.at >= LOST_AFTER * 2**sent.losses}
        if not due or now - self._asked_at < LOST_AFTER / 2:
            return set()
        self._asked_at = now
        held = self._held()
        return set() if held is None else {first for first in due if (self._lake_version, first) not in held}

    def _write_checkpoint(self, now: datetime) -> None:
        done = min(self._in_flight, default=self._sent_through + 1) - 1
        if done > self._written and now - self._written_at >= CHECKPOINT_EVERY:
            write_checkpoint(self._buckets.private, self._lake_version, done)
            self._written, self._written_at = done, now


def read_checkpoint(private: Bucket, lake_version: int) -> int:
    """The seq through which everything of this lake version is done; 0 if nothing was ever noted."""
    try:
        return msgspec.json.decode(private.read(_checkpoint_key(lake_version)), type=Checkpoint).seq
    except FileNotFoundError:
        return 0


def write_checkpoint(private: Bucket, lake_version: int, seq: int) -> None:
    """Move the checkpoint forward; never back."""
    key = _checkpoint_key(lake_version)
    while True:
        try:
            body, etag = private.read_versioned(key)
            if msgspec.json.decode(body, type=Checkpoint).seq >= seq:
                return
        except FileNotFoundError:
            etag = None
        try:
            private.swap(key, msgspec.json.encode(Checkpoint(seq=seq)), etag=etag)
        except SwapLost:
            continue
        return


def _checkpoint_key(lake_version: int) -> str:
    return keys.checkpoint(f"dispatcher-v{lake_version}")
