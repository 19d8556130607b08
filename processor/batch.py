"""One batch from the log to its outcome: read, transform, write parts, commit.

Whatever goes wrong with one submission is that one's outcome; whatever goes wrong with storage stops the whole batch,
which is then delivered again. A delivery that is not the first records in the bucket how far it comes, so that a
submission at which the process dies again and again is found and quarantined.
"""

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import msgspec
import structlog

from feed.log import LogReader
from infra.bucket import Buckets
from processor.decode import DecodeLimits
from processor.lake import has_outcome, publish_outcome, write_parts
from processor.rows import Rows
from processor.transform import TRANSFORM_VERSION, Transformed, quarantined, transform
from schemas import keys
from schemas.errors import Unavailable
from schemas.records import Entry, Outcome, PartRef, Submission, SubmissionOutcome

DEATHS_ALLOWED = 3
"""Recorded deliveries that may die at one submission before it is quarantined."""

PART_BYTES = 128 << 20
"""Arrow bytes that are gathered before they are written as parts of their own."""

_log = structlog.get_logger()


@dataclass(frozen=True)
class Processor:
    """What processing needs. `clock` tells the time, `process` may be called from many threads."""

    buckets: Buckets
    submissions: LogReader
    limits: DecodeLimits
    clock: Callable[[], datetime]

    def process(self, lake_version: int, first: int, last: int, *, redelivered: bool) -> bool:
        """Bring the batch to its outcome of revision 0; False if it had one. Idempotent.

        Raises Unavailable when storage fails; then call again.
        """
        if has_outcome(self.buckets.public, lake_version, first):
            return False
        if not redelivered:
            return self._process(lake_version, first, last, 0, frozenset())
        attempt, suspects = self._earlier_attempts(lake_version, first)
        try:
            return self._process(lake_version, first, last, attempt, suspects)
        except Unavailable:
            self._forget_attempt(lake_version, first, attempt)  # storage failed, not the file
            raise

    def _process(self, lake_version: int, first: int, last: int, attempt: int, suspects: frozenset[int]) -> bool:
        outcomes: list[SubmissionOutcome] = []
        parts: list[PartRef] = []
        rows = Rows()
        for entry in self.submissions.entries(first, last):
            if attempt:
                self._record_attempt(lake_version, first, attempt, entry.seq)
            result = self._transformed(entry, suspect=entry.seq in suspects)
            outcomes.append(result.outcome)
            if result.tables is not None:
                rows.take(result.tables.rows)
            if rows.size_bytes > PART_BYTES:
                parts += write_parts(self.buckets.public, lake_version, first, last, rows.batches())
                rows = Rows()
        parts += write_parts(self.buckets.public, lake_version, first, last, rows.batches())
        now = self.clock()
        outcome = Outcome(
            first=first,
            last=last,
            revision=0,
            nonce=keys.new_nonce(now),
            through=last,
            transform_version=TRANSFORM_VERSION,
            submissions=outcomes,
            parts=parts,
            finished=now,
        )
        return publish_outcome(self.buckets, lake_version, outcome)

    def _transformed(self, entry: Entry, *, suspect: bool) -> Transformed:
        public = self.buckets.public
        submission = msgspec.json.decode(public.read(keys.submission(entry.id)), type=Submission)
        if suspect:
            reason = f"the process ended {DEATHS_ALLOWED} times while it worked on this file"
            return quarantined(submission, entry.seq, reason)
        try:
            return transform(public.read(entry.key), submission, entry.seq, self.limits)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - our bug or our memory: must not stand in the others' way
            _log.error("quarantined", seq=entry.seq, submission=entry.id, exc_info=True)
            return quarantined(submission, entry.seq, f"{type(error).__name__}: {error}"[:500])

    def _earlier_attempts(self, lake_version: int, first: int) -> tuple[int, frozenset[int]]:
        """The number of the attempt to make now, and the submissions at which too many earlier ones ended."""
        reached: dict[int, int] = {}
        prefix = keys.attempts_prefix(lake_version, first)
        for key in self.buckets.private.list(prefix):
            k, _, seq = key.removeprefix(prefix).partition("/")
            reached[int(k)] = max(reached.get(int(k), 0), int(seq))
        deaths = Counter(reached.values())
        return max(reached, default=0) + 1, frozenset(seq for seq, n in deaths.items() if n >= DEATHS_ALLOWED)

    def _record_attempt(self, lake_version: int, first: int, attempt: int, seq: int) -> None:
        with contextlib.suppress(FileExistsError):  # another delivery of the same batch counts the same
            self.buckets.private.create(keys.attempt(lake_version, first, attempt, seq), b"")

    def _forget_attempt(self, lake_version: int, first: int, attempt: int) -> None:
        for key in list(self.buckets.private.list(f"{keys.attempts_prefix(lake_version, first)}{attempt:06d}/")):
            self.buckets.private.delete(key)
