"""Follows the submissions log and sends each batch to the workers until it has an outcome.

The queue may lose a message and the process may die: what is sent is only remembered, what is *done* is read from the
outcomes log. A checkpoint in the private bucket says up to which seq everything is done, so a restart need not
begin at 1.
"""

from collections.abc import Callable
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
CHECKPOINT_EVERY = timedelta(seconds=5)


class Send(Protocol):
    """Puts a batch on the queue."""

    def __call__(self, lake_version: int, first: int, last: int, *, redelivered: bool) -> None: ...


@dataclass
class _Sent:
    last: int
    at: datetime


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
    ) -> None:
        self._buckets = buckets
        self._submissions = submissions
        self._outcomes = outcomes
        self._send = send
        self._lake_version = lake_version
        self._clock = clock
        self._written = read_checkpoint(buckets.private, lake_version)
        self._written_at = clock()
        self._sent_through = self._written
        # Batches announced before we started may have been sent by somebody before us.
        self._old_through = submissions.last_seq()
        self._in_flight: dict[int, _Sent] = {}
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
            self._send(self._lake_version, first, last, redelivered=old)
            self._in_flight[first] = _Sent(last, now)
            self._sent_through = last
            count += 1
        return count

    def _send_again(self, now: datetime) -> int:
        count = 0
        for first, sent in list(self._in_flight.items()):
            if now - sent.at < REDELIVER_AFTER:
                continue
            if has_outcome(self._buckets.public, self._lake_version, first):
                del self._in_flight[first]
                continue
            self._send(self._lake_version, first, sent.last, redelivered=True)
            sent.at = now
            count += 1
        return count

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
