"""Verifying a log: that nothing in its past was changed, dropped or put in, and that all that it names is there.

From entry 1 to the head: each page's digest against its name and its successor's word, links, density, the chain, the
checkpoint's signature, and each object that an entry names. A verified log is also compared with what was remembered
of it: a past that was rewritten as a whole is consistent, and only whoever remembers another can tell.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain

from feed.atom import Document, feed_id
from feed.breach import Breach
from feed.log import LogReader
from feed.verify import holdings
from feed.verify.examine import LOOKS_AGAIN, Depth, Examiner, Findings
from feed.verify.once import Announced
from feed.verify.proof import Proof, Remembered, check_checkpoint, check_remembered, read_head, remembered_of
from feed.verify.walk import ENTRIES_AHEAD, Stage, check_index, each_ahead, walk
from infra.bucket import Bucket
from schemas import keys
from schemas.records import Entry

Progress = Callable[[int, int, int], None]
"""Told how far a log is proved, how far it goes, and how many bytes were looked at."""


@dataclass
class Verified:
    """What was proved of a log, or what was found instead."""

    log: str
    feed: str = ""
    breaches: list[Breach] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    entries: int = 0
    pages: int = 0
    objects: int = 0
    size_bytes: int = 0
    """Of objects whose bytes were compared with their digests."""
    remembered: Remembered | None = None
    """What to remember of it; None if there was a breach."""
    compared: bool = True
    """With all that was remembered. Else that is not to be forgotten for this."""


@dataclass(frozen=True)
class Wish:
    """What of a log is to be verified, and against what."""

    depth: Depth = "bytes"
    since: int = 1
    key: str = ""
    """Public key that must have signed; "": the one remembered, else the one that the log was made with."""
    remembered: Remembered | None = None
    every: bool = False
    """Go on behind a breach and list them all."""
    parallel: int = 8
    looks_again: tuple[float, ...] = LOOKS_AGAIN


def verify(bucket: Bucket, log: str, wish: Wish, progress: Progress = lambda done, last, size: None) -> Verified:
    """Verify `log` in `bucket`. Breaches come in the order of the log; without `wish.every` there is at most one.

    Raises FileNotFoundError if there is no such log, and Unavailable if it cannot be read now.
    """
    found = Verified(log)
    of_index, indexed = check_index(bucket, log)
    bucket.head(keys.feed_head(log))  # asks, where reading might give what was known a moment ago
    body, _ = bucket.read_versioned(keys.feed_head(log))
    try:
        head = read_head(body, log)
    except Breach as breach:
        found.breaches.append(breach)
        return found
    paged = head.entries[0].seq - 1 if head.entries else 0
    if indexed > paged:
        of_index.append(
            Breach(keys.feed_index(log), f"pages up to entry {paged}, where the head begins", f"up to {indexed}")
        )
    found.feed = feed_id(log, head.authority)
    with ThreadPoolExecutor(wish.parallel, "verify") as pool, Announced() as announced:
        _Verification(bucket, found, wish, progress, pool, announced=announced).run(body, head, of_index)
    if not wish.every:
        del found.breaches[1:]
    return found


class _Verification:
    def __init__(
        self,
        bucket: Bucket,
        found: Verified,
        wish: Wish,
        progress: Progress,
        pool: ThreadPoolExecutor,
        *,
        announced: Announced,
    ) -> None:
        self._bucket = bucket
        self._found = found
        self._wish = wish
        self._progress = progress
        self._pool = pool
        self._announced = announced
        self._examiner = Examiner(bucket, found.log, wish.depth, looks_again=wish.looks_again)
        self._excused = holdings.Excused()

    def run(self, body: bytes, head: Document, of_index: list[Breach]) -> None:
        found, wish = self._found, self._wish
        last = head.entries[-1].seq if head.entries else 0
        proof = Proof(found.log, remembered=wish.remembered)
        try:
            for stage in self._begin(body, head, without_index=bool(of_index)):
                found.pages += stage.key != keys.feed_head(found.log)
                self._take(stage, last)
                proof = stage.proof
                if found.breaches and not wish.every:
                    return
        except Breach as breach:  # behind it nothing can be found
            found.breaches.append(breach)
            return
        key = wish.key or (wish.remembered.key if wish.remembered else "")
        breaches, notes = check_checkpoint(proof, head, key)
        found.breaches += breaches + check_remembered(proof)
        found.notes += notes
        if self._excused.waiting:  # perhaps the log says so by now
            for entry in LogReader(self._bucket, found.log).entries_after(last):
                self._excused.announced(entry)
        found.breaches += self._excused.waiting.values()
        found.breaches += of_index
        if not found.breaches:
            found.remembered = remembered_of(proof, head)

    def _begin(self, body: bytes, head: Document, *, without_index: bool) -> Iterator[Stage]:
        """The log's documents, from the one that holds `since` on."""
        found, since, remembered = self._found, self._wish.since, self._wish.remembered
        begins, stages = walk(self._bucket, body, head, since, self._pool, without_index=without_index)
        if begins == 1:
            return stages(Proof(found.log, remembered=remembered))
        before = remembered is not None and remembered.seq < begins
        some = stages(Proof(found.log, seq=begins - 1, chain="", page=None, remembered=None if before else remembered))
        first = next(some)
        if head.chain and first.document and not first.document.chain:
            found.notes.append(f"{first.key} says no chain, so only a walk from entry 1 on proves it")
            _, stages = walk(self._bucket, body, head, 1, self._pool, without_index=without_index)
            return stages(Proof(found.log, remembered=remembered))
        found.notes.append(f"entries 1 to {begins - 1} were not looked at")
        if remembered and before:
            found.notes.append(f"entry {remembered.seq}, up to which it is remembered, is before that")
            found.compared = False
        return chain([first], some)

    def _take(self, stage: Stage, last: int) -> None:
        found = self._found
        found.breaches += stage.breaches
        if stage.document is None or (found.breaches and not self._wish.every):
            return
        entries = stage.document.entries
        examined = each_ahead(self._pool, self._examined, entries, ENTRIES_AHEAD)
        for entry, findings in examined:
            self._excused.announced(entry)
            if findings.missing:
                self._excused.missing(found.log, entry, findings.missing)
            found.entries += 1
            found.breaches += [*self._announced.twice(entry), *findings.breaches]
            found.notes += findings.notes
            found.objects += findings.objects
            found.size_bytes += findings.size_bytes
            if found.breaches and not self._wish.every:
                examined.close()
                return
            if found.entries % 100 == 0:
                self._progress(entry.seq, last, found.size_bytes)
        self._progress(stage.proof.seq, last, found.size_bytes)

    def _examined(self, entry: Entry) -> tuple[Entry, Findings]:
        return entry, self._examiner.examine(entry)
