"""How far each stage is behind: what waits, and since when. Read from markers and logs, so any process can tell.

Looking costs a few requests to storage, never one per thing that waits (a listing of markers costs one per thousand).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from feed.announceable import Describe, describe_outcome, describe_submission
from feed.log import LogReader
from infra.bucket import Buckets
from schemas import keys
from schemas.errors import Refused
from schemas.keys import Marker

GIVEN_UP = timedelta(hours=1)
"""A writer that has not committed by then starts over, so its marker leads nowhere."""

_CHECKED = 20
_OUTCOMES_AT_START = 1000


@dataclass(frozen=True)
class Waiting:
    """How many wait, and since when the oldest does."""

    count: int
    oldest: datetime | None


Report = Callable[[str, int, datetime | None], None]
"""Is told of a stage: its name, how many wait for it, since when."""


def unread(reader: LogReader, seq: int) -> Waiting:
    """The entries of a log after `seq`."""
    count = reader.last_seq() - seq
    return Waiting(count, reader.entries_after(seq, 1)[0].updated) if count > 0 else Waiting(0, None)


class Unannounced:
    """What waits to be announced in one log."""

    def __init__(self, buckets: Buckets, log: str, describe: Describe) -> None:
        self._buckets = buckets
        self._log = log
        self._describe = describe
        self._lead_nowhere: set[Marker] = set()

    def look(self, now: datetime) -> Waiting:
        """Markers whose object is there. Of those whose object is not, only the oldest are looked at."""
        found = map(keys.parse_marker, self._buckets.private.list(keys.pending_prefix(self._log)))
        markers = sorted((marker for marker in found if marker), key=lambda marker: marker.nonce)
        self._lead_nowhere.intersection_update(markers)
        markers = [marker for marker in markers if marker not in self._lead_nowhere]
        for at, marker in enumerate(markers[:_CHECKED]):
            if self._waits(marker):
                return Waiting(len(markers) - at, keys.nonce_time(marker.nonce))
            if now - keys.nonce_time(marker.nonce) > GIVEN_UP:
                self._lead_nowhere.add(marker)
        rest = markers[_CHECKED:]
        return Waiting(len(rest), keys.nonce_time(rest[0].nonce)) if rest else Waiting(0, None)

    def _waits(self, marker: Marker) -> bool:
        """Whether the marker's object is there, and this is the marker of it."""
        try:
            found = self._describe(self._buckets.public, marker)
        except Refused:
            return False  # it can never be announced; the announcer has said so
        return found is not None and found.nonce == marker.nonce


class Unprocessed:
    """What has no entry in the outcomes log yet. `checkpoint` tells a seq through which everything has."""

    def __init__(self, submissions: LogReader, outcomes: LogReader, checkpoint: Callable[[], int]) -> None:
        self._submissions = submissions
        self._outcomes = outcomes
        self._checkpoint = checkpoint
        self._through = 0
        self._outcomes_seen = max(outcomes.last_seq() - _OUTCOMES_AT_START, 0)
        self._done: set[int] = set()

    def look(self) -> Waiting:
        """The entries from the oldest without an outcome on, though some of them may have one."""
        while outcomes := self._outcomes.entries_after(self._outcomes_seen):
            self._done.update(int(entry.id.partition("-")[0]) for entry in outcomes)
            self._outcomes_seen = outcomes[-1].seq
        self._through = max(self._through, self._checkpoint())
        while entries := self._submissions.entries_after(self._through):
            done = next((at for at, entry in enumerate(entries) if entry.batch not in self._done), len(entries))
            self._through += done
            if done < len(entries):
                break
        self._done = {first for first in self._done if first > self._through}
        return unread(self._submissions, self._through)


class Backlogs:
    """Looks at all stages that the buckets tell of; `look` is a loop's step.

    `lake_version` tells which lake serves, and `checkpoint` the seq through which everything of a lake is processed.
    """

    def __init__(
        self,
        buckets: Buckets,
        reader_of: Callable[[str], LogReader],
        report: Report,
        *,
        lake_version: Callable[[], int],
        checkpoint: Callable[[int], int],
        clock: Callable[[], datetime],
    ) -> None:
        self._buckets = buckets
        self._reader_of = reader_of
        self._report = report
        self._lake_version = lake_version
        self._checkpoint = checkpoint
        self._clock = clock
        self._submissions = Unannounced(buckets, keys.SUBMISSIONS_LOG, describe_submission)
        self._of_lake: tuple[int, Unannounced, Unprocessed] | None = None

    def look(self) -> int:
        """Report each stage; 0, so that the loop rests."""
        version = self._lake_version()
        if self._of_lake is None or self._of_lake[0] != version:
            self._of_lake = version, *self._looking_at(version)
        _, outcomes, unprocessed = self._of_lake
        for stage, waiting in (
            ("announce_submissions", self._submissions.look(self._clock())),
            ("process", unprocessed.look()),
            ("announce_outcomes", outcomes.look(self._clock())),
        ):
            self._report(stage, waiting.count, waiting.oldest)
        return 0

    def _looking_at(self, version: int) -> tuple[Unannounced, Unprocessed]:
        log = keys.outcomes_log(version)
        submissions, outcomes = self._reader_of(keys.SUBMISSIONS_LOG), self._reader_of(log)
        return (
            Unannounced(self._buckets, log, describe_outcome),
            Unprocessed(submissions, outcomes, lambda: self._checkpoint(version)),
        )
