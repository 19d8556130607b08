"""What one lake version holds of withdrawn submissions: rows, and all that was made of them.

The order counts, since readers look at the same objects:

    revision        the batch's outcome without them; others keep their rows (`processor.revision`)
    its entry       in the outcomes log, so that everybody takes it into account
    catalog         compaction runs forward; then older catalogs go, then files that no catalog names
    snapshots       that were published before the revision
    older outcomes  of the batch: their problems quote the file
    parts           that hold such rows; by now nothing names them

Whoever meets a gap finds the later revision.
"""

import bisect
import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime

from feed.announceable import Describe, describe_outcome
from feed.announcer import Announcer
from feed.log import LogReader
from infra.bucket import Buckets, exists
from processor.catalog import catalogs, named_files, newest_catalog, point_to, read_catalog
from processor.compaction import compact
from processor.lake import outcome_of, revisions
from processor.part import part_holds
from processor.retention import gone_versions
from processor.revision import publish_revision
from processor.withdrawn import Withdrawn
from schemas import keys
from schemas.records import Catalog, Outcome
from schemas.tables import TABLES


class LakePurge:
    """Of one lake version. It may also have been left, or be under construction."""

    def __init__(
        self,
        buckets: Buckets,
        lake_version: int,
        reader_of: Callable[[str], LogReader],
        announcer_of: Callable[[LogReader, Describe], Announcer],
        *,
        clock: Callable[[], datetime],
        memory_limit: str,
    ) -> None:
        self._buckets = buckets
        self._public = buckets.public
        self._lake_version = lake_version
        self._log = reader_of(keys.outcomes_log(lake_version))
        self._announcer = announcer_of(self._log, describe_outcome)
        self._clock = clock
        self._memory_limit = memory_limit
        self._read_through = 0
        self._seqs: dict[str, int] = {}  # of announced revisions above 0, by id

    def look(self, found: Collection[Withdrawn], *, serving: int) -> tuple[int, set[str]]:
        """Do what there is to do now: how many objects were made or removed, and the digests of blobs for which
        something else has to happen first."""
        by_seq = {one.seq: withdrawn for withdrawn in found for one in withdrawn.submissions}
        if not by_seq:
            return 0, set()
        if self._is_being_removed():
            left = [*self._public.list(f"lake/v{self._lake_version}/")]
            left += self._public.list(f"{keys.SNAPSHOTS}v{self._lake_version}/")
            self._public.delete(*left)
            return len(left), set()
        outcomes, unprocessed = self._outcomes(found)
        # Only of the version that serves it is sure that what has no outcome will get one.
        waiting = {by_seq[seq].sha256 for seq in unprocessed} if serving == self._lake_version else set()
        count = 0
        newest: list[Outcome] = []
        for outcome in outcomes:
            revised, made = self._revised(outcome, by_seq)
            newest.append(revised)
            count += made
        self._announce(newest)
        announced: dict[int, int] = {}
        for outcome in newest:
            if not outcome.revision or keys.outcome_id(outcome.first, outcome.revision) in self._announced():
                announced[outcome.first] = outcome.revision
            else:
                waiting |= {by_seq[one.seq].sha256 for one in outcome.submissions if one.seq in by_seq}
        revised_batches = {first: revision for first, revision in announced.items() if revision}
        if revised_batches:
            count += self._remove_catalogs(revised_batches)
            count += self._remove_snapshots(revised_batches)
        for outcome in newest:
            if outcome.first in announced:
                count += self._remove_older(outcome, by_seq.keys())
        return count, waiting

    def _is_being_removed(self) -> bool:
        """Whether a sweep has begun to remove this version: then nobody takes what is left for a version any more."""
        return self._lake_version in gone_versions(self._public) and not self._log.head().etag

    # --- outcomes ---

    def _outcomes(self, found: Collection[Withdrawn]) -> tuple[list[Outcome], list[int]]:
        """The newest outcomes of the batches that hold these submissions, and the seqs of those without one."""
        by_first: dict[int, Outcome] = {}
        unprocessed: list[int] = []
        firsts: list[int] | None = None
        covered = 0  # batches do not overlap
        for one in sorted((one for withdrawn in found for one in withdrawn.submissions), key=lambda one: one.seq):
            if one.seq <= covered:
                continue
            outcome = outcome_of(self._public, self._lake_version, one.batch)
            if outcome is None or outcome.last < one.seq:  # a rebuilt version has batches of several commits
                firsts = self._firsts() if firsts is None else firsts
                at = bisect.bisect_right(firsts, one.seq) - 1
                outcome = outcome_of(self._public, self._lake_version, firsts[at]) if at >= 0 else None
            if outcome and outcome.last >= one.seq:
                by_first[outcome.first] = outcome
                covered = outcome.last
            else:
                unprocessed.append(one.seq)
        return list(by_first.values()), unprocessed

    def _firsts(self) -> list[int]:
        found = map(keys.parse_outcome, self._public.list(keys.outcomes_prefix(self._lake_version)))
        return sorted({named[1] for named in found if named})

    def _revised(self, outcome: Outcome, by_seq: Mapping[int, Withdrawn]) -> tuple[Outcome, int]:
        """The batch's newest outcome once these submissions are withdrawn in it, and how many were made for that."""
        count = 0
        through = max(withdrawn.seq for withdrawn in by_seq.values())
        while rest := {
            one.seq: by_seq[one.seq].withdrawal
            for one in outcome.submissions
            if one.seq in by_seq and one.verdict != "withdrawn"
        }:
            try:
                now = self._clock()
                count += publish_revision(self._buckets, self._lake_version, outcome, rest, through=through, now=now)
            except FileNotFoundError:
                later = outcome_of(self._public, self._lake_version, outcome.first)
                if later is None or later.revision == outcome.revision:
                    raise
            outcome = outcome_of(self._public, self._lake_version, outcome.first) or outcome
        return outcome, count

    def _announce(self, newest: Iterable[Outcome]) -> None:
        """Announce revisions that still wait for it: nobody else may be announcing in this version."""
        log = keys.outcomes_log(self._lake_version)
        for outcome in newest:
            id = keys.outcome_id(outcome.first, outcome.revision)
            marker = keys.Marker(log, "batches", outcome.nonce, id)
            while outcome.revision and id not in self._announced() and exists(self._buckets.private, marker.key):
                if not self._announcer.commit():
                    break

    def _announced(self) -> Mapping[str, int]:
        """The seqs of all announced revisions above 0, by id."""
        while entries := self._log.entries_after(self._read_through):
            self._seqs.update({entry.id: entry.seq for entry in entries if not entry.id.endswith("-000000")})
            self._read_through = entries[-1].seq
        return self._seqs

    def _remove_older(self, newest: Outcome, seqs: Collection[int]) -> int:
        """Remove the batch's older outcomes, and then parts that hold rows of these submissions."""
        there = revisions(self._public, self._lake_version, newest.first)
        gone = [
            keys.outcome(self._lake_version, newest.first, revision) for revision in there if revision < newest.revision
        ]
        self._public.delete(*gone)
        named = {part.key for part in newest.parts}
        parts = [
            key
            for table in TABLES
            for key in self._public.list(keys.parts_prefix(self._lake_version, table, newest.first))
            if key not in named and self._holds(key, seqs)
        ]
        self._public.delete(*parts)
        return len(gone) + len(parts)

    def _holds(self, key: str, seqs: Collection[int]) -> bool:
        """Whether the part has rows of these submissions. Others may be of one who is just about to name them."""
        try:
            with self._public.local_path(key) as path:
                return part_holds(path, seqs)
        except FileNotFoundError:
            return False

    # --- what was made of them ---

    def _remove_catalogs(self, revised: Mapping[int, int]) -> int:
        """Have a catalog that knows these revisions, by their batches' first seq; remove those that do not, and files
        that no catalog names. Files of a generation to come are left alone."""
        newest = newest_catalog(self._public, self._lake_version)
        if not newest.generation:
            return 0
        count = 0
        if not _knows(newest, revised):
            count += compact(self._public, self._log, self._lake_version, memory_limit=self._memory_limit)
            newest = newest_catalog(self._public, self._lake_version)
        point_to(self._public, self._lake_version, newest.generation)
        kept: list[int] = [newest.generation]
        gone: list[int] = []
        for generation in catalogs(self._public, self._lake_version):
            if generation < newest.generation:
                with contextlib.suppress(FileNotFoundError):
                    known = _knows(read_catalog(self._public, self._lake_version, generation), revised)
                    (kept if known else gone).append(generation)
        self._public.delete(*(keys.catalog(self._lake_version, generation) for generation in gone))
        named = named_files(self._public, self._lake_version, kept)
        files = [
            key
            for table in TABLES
            for key in self._public.list(keys.catalog_prefix(self._lake_version, table))
            if (made := keys.parse_merged(key)) and made[2] <= newest.generation and key not in named
        ]
        self._public.delete(*files)
        return count + len(gone) + len(files)

    def _remove_snapshots(self, revised: Mapping[int, int]) -> int:
        """Remove snapshots that do not know these revisions; their records first, so that none is without its file."""
        announced = self._announced()
        through = max(announced[keys.outcome_id(first, revision)] for first, revision in revised.items())
        before = [
            key
            for key in self._public.list(f"{keys.SNAPSHOTS}v{self._lake_version}/")
            if (held := keys.parse_snapshot(key)) and held[1] < through
        ]
        self._public.delete(*(key for key in before if key.endswith(".json")))
        self._public.delete(*(key for key in before if not key.endswith(".json")))
        return len(before)


def _knows(catalog: Catalog, revised: Mapping[int, int]) -> bool:
    return all(catalog.revisions.get(first, 0) >= revision for first, revision in revised.items())
