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
"""Bytes, of Arrow or of decoded files, that are gathered before their rows are written as parts of their own."""

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
        attempts = keys.attempts_prefix(lake_version, first)
        attempt, suspects = self._earlier_attempts(attempts)
        try:
            created = self._process(lake_version, first, last, attempt, suspects)
        except Exception:
            # What can still be told is no death, so it counts against no file.
            self._forget(f"{attempts}{attempt:06d}/")
            raise
        self._forget(attempts)
        return created

    def _process(self, lake_version: int, first: int, last: int, attempt: int, suspects: frozenset[int]) -> bool:
        written = None
        try:
            written = self._written(lake_version, first, last, attempt, suspects, apart=False)
        except (Unavailable, FileNotFoundError):
            raise
        except Exception as error:  # noqa: BLE001 - somebody's rows do not fit into a part: find out whose
            _log.warning("batch again, each submission apart", lake=lake_version, first=first, error=str(error))
        outcomes, parts = written or self._written(lake_version, first, last, attempt, suspects, apart=True)
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

    def _written(
        self, lake_version: int, first: int, last: int, attempt: int, suspects: frozenset[int], *, apart: bool
    ) -> tuple[list[SubmissionOutcome], list[PartRef]]:
        """What came of each submission, and the parts written of their rows.

        Small files share record batches, so a value that no column can hold fails for all of them. `apart` gives each
        submission its own, so that it fails alone.
        """
        outcomes: list[SubmissionOutcome] = []
        parts: list[PartRef] = []
        rows, decoded_bytes = Rows(), 0
        for entry in self.submissions.entries(first, last):
            if attempt:
                self._record_attempt(lake_version, first, attempt, entry.seq)
            result = self._transformed(entry, suspect=entry.seq in suspects, apart=apart)
            outcomes.append(result.outcome)
            if result.tables is not None:
                rows.take(result.tables.rows)
                decoded_bytes += result.tables.decoded_bytes
            if max(rows.size_bytes, decoded_bytes) > PART_BYTES:
                parts += write_parts(self.buckets.public, lake_version, first, last, rows.batches())
                rows, decoded_bytes = Rows(), 0
        parts += write_parts(self.buckets.public, lake_version, first, last, rows.batches())
        return outcomes, parts

    def _transformed(self, entry: Entry, *, suspect: bool, apart: bool) -> Transformed:
        if suspect:
            reason = f"the process ended {DEATHS_ALLOWED} times while it worked on this file"
            return quarantined(entry.id, entry.seq, reason)
        public = self.buckets.public
        try:
            submission = msgspec.json.decode(public.read(keys.submission(entry.id)), type=Submission)
            result = transform(public.read(entry.key), submission, entry.seq, self.limits)
            if apart and result.tables is not None:
                result.tables.rows.batches()
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - our bug or our memory: must not stand in the others' way
            _log.error("quarantined", seq=entry.seq, submission=entry.id, exc_info=True)
            return quarantined(entry.id, entry.seq, f"{type(error).__name__}: {error}")
        return result

    def _earlier_attempts(self, prefix: str) -> tuple[int, frozenset[int]]:
        """The number of the attempt to make now, and the submissions at which too many earlier ones ended."""
        reached: dict[int, int] = {}
        for key in self.buckets.private.list(prefix):
            k, _, seq = key.removeprefix(prefix).partition("/")
            reached[int(k)] = max(reached.get(int(k), 0), int(seq))
        deaths = Counter(reached.values())
        return max(reached, default=0) + 1, frozenset(seq for seq, n in deaths.items() if n >= DEATHS_ALLOWED)

    def _record_attempt(self, lake_version: int, first: int, attempt: int, seq: int) -> None:
        with contextlib.suppress(FileExistsError):  # another delivery of the same batch counts the same
            self.buckets.private.create(keys.attempt(lake_version, first, attempt, seq), b"")

    def _forget(self, attempts: str) -> None:
        self.buckets.private.delete(*self.buckets.private.list(attempts))
