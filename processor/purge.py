"""The purge: removes all that is left of withdrawn blobs, and looks again until a whole look finds nothing.

It begins once the withdrawal stands in the log. What admission keeps goes first: blob, submissions, uploads. Then, in
every lake version, the rows and all that was made of them (`processor.purge_lake`). Every step may be repeated and may
be the last one before a death; what says that there is work is a note, and it goes after all else.

Whoever was at work when a blob was withdrawn may still write something of it. All such writers have ended or started
over after an hour, so each withdrawal is looked at again every hour of its first two days, and when this process
starts.
"""

import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec
import structlog

from feed.announceable import Describe
from feed.announcer import Announcer
from feed.log import LogReader
from feed.withdrawals import noted_withdrawals, read_withdrawal, withdrawn_blobs
from infra.bucket import Buckets, exists
from processor.lake import current_lake, versions_there
from processor.purge_lake import LakePurge
from processor.withdrawn import Withdrawn, WithdrawnEntries
from schemas import keys
from schemas.errors import Unavailable
from schemas.records import Grant, Withdrawal

LOOK_AGAIN_EVERY = timedelta(hours=1)
LOOK_AGAIN_FOR = timedelta(days=2)

_log = structlog.get_logger()


class Purge:
    """For all lake versions. Only one thread may call `step`; another process may do the same at the same time."""

    def __init__(
        self,
        buckets: Buckets,
        reader_of: Callable[[str], LogReader],
        announcer_of: Callable[[LogReader, Describe], Announcer],
        *,
        clock: Callable[[], datetime],
        memory_limit: str = "400MB",
    ) -> None:
        self._buckets = buckets
        self._clock = clock
        self._entries = WithdrawnEntries(reader_of(keys.SUBMISSIONS_LOG))
        self._reader_of = reader_of
        self._announcer_of = announcer_of
        self._memory_limit = memory_limit
        self._lakes: dict[int, LakePurge] = {}
        self._looked_again: datetime | None = None

    def step(self) -> int:
        """One look at what is left of the blobs that a note asks about; how many objects it removed or made."""
        public, private = self._buckets.public, self._buckets.private
        noted = noted_withdrawals(private)  # before looking: a note made meanwhile asks for another look
        asked = [read_withdrawal(public, sha256) for sha256 in noted] + self._recent()
        withdrawals = {one.sha256: one for one in asked if one}
        found = self._entries.of(withdrawals.values()) if withdrawals else []
        if not found:
            return 0
        count = sum(self._remove_received(one) for one in found)
        waiting: set[str] = set()
        failed: FileNotFoundError | None = None
        serving, _ = current_lake(public)
        for version in sorted({serving, *versions_there(public)}):
            try:
                done, unfinished = self._lake(version).look(found, serving=serving)
            except FileNotFoundError as error:  # a damaged version keeps nobody from removing it from the others
                failed = error
                continue
            count += done
            waiting |= unfinished
        if failed:
            raise Unavailable(f"{failed}: named by the newest outcome of its batch, but not there") from failed
        if count:
            _log.info("removing what is withdrawn", blobs=len(found), objects=count)
            return count
        ended = {one.sha256 for one in found} - waiting
        private.delete(*(key for sha256 in ended for key in noted.get(sha256, ())))
        return 0

    def _lake(self, version: int) -> LakePurge:
        if version not in self._lakes:
            self._lakes[version] = LakePurge(
                self._buckets,
                version,
                self._reader_of,
                self._announcer_of,
                clock=self._clock,
                memory_limit=self._memory_limit,
            )
        return self._lakes[version]

    def _recent(self) -> list[Withdrawal]:
        """Every hour, the withdrawals that are not old."""
        now = self._clock()
        if self._looked_again and now - self._looked_again < LOOK_AGAIN_EVERY:
            return []
        self._looked_again = now
        public = self._buckets.public
        withdrawals = [read_withdrawal(public, sha256) for sha256 in withdrawn_blobs(public)]
        return [one for one in withdrawals if one and now - one.withdrawn < LOOK_AGAIN_FOR]

    # --- what admission keeps ---

    def _remove_received(self, withdrawn: "Withdrawn") -> int:
        """Remove blob, submissions and uploads; how many objects those were."""
        public, private = self._buckets.public, self._buckets.private
        received = [
            key for key in (keys.blob(withdrawn.sha256), *map(keys.submission, withdrawn.ids)) if exists(public, key)
        ]
        public.delete(*received)
        swept = keys.swept_blob(withdrawn.sha256)
        kept = ([swept] if exists(private, swept) else []) + self._uploads(withdrawn)
        if unannounced := withdrawn.ids - {one.id for one in withdrawn.submissions}:
            # After the submissions: a marker without its submission is harmless, the other way round it is a lost one.
            markers = map(keys.parse_marker, private.list(keys.pending_prefix(keys.SUBMISSIONS_LOG)))
            kept += [marker.key for marker in markers if marker and marker.id in unannounced]
        private.delete(*kept)
        return len(received) + len(kept)

    def _uploads(self, withdrawn: "Withdrawn") -> list[str]:
        """The keys of uploads of the blob, complete or not."""
        private = self._buckets.private
        found: dict[str, list[str]] = {}
        for key in private.list(keys.UPLOADS):
            found.setdefault(key.split("/")[1], []).append(key)
        ids = set(withdrawn.ids)
        for id in found.keys() - ids:
            with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
                grant = msgspec.json.decode(private.read(keys.upload_grant(id)), type=Grant)
                ids |= {id} if grant.sha256 == withdrawn.sha256 else set()
        return [key for id in sorted(ids & found.keys()) for key in found[id]]
