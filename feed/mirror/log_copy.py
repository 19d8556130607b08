"""The copy of one log in another bucket: what it holds, how it goes on, and where it parts from its origin.

A copy is valid at every moment. Objects are written before the page that names them, pages before the head, and the
head, as the origin's bytes, in one swap once all that it leads to is there. So a copy that has no head yet is an empty
log, and one that has is the log of a while ago. Its head is also what the copy remembers: its past is proved from entry
1 when it is opened, and the origin has to go on from there, whoever signs another past.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import cast

from feed.atom import Document
from feed.breach import Breach
from feed.index import parse_index
from feed.log import LogReader
from feed.mirror.copier import Copier
from feed.sweep import unlinked_pages
from feed.verify import holdings
from feed.verify.examine import Findings
from feed.verify.proof import Proof, check_checkpoint, read_head, remembered_of
from feed.verify.walk import ENTRIES_AHEAD, Stage, check_index, each_ahead, page_lines, walk
from infra.bucket import Bucket
from schemas import keys
from schemas.errors import Unavailable
from schemas.records import Entry

Reached = Callable[[int], None]
"""Told which entry is held."""


@dataclass(frozen=True)
class Held:
    """What the copy's head says, and what is proved by it."""

    etag: str
    body: bytes
    document: Document
    before: Proof
    """Where the head begins."""
    proof: Proof
    """Where it ends."""


@dataclass(frozen=True)
class Look:
    """The origin's log at one moment: its index, read before its head, and so never ahead of it."""

    index: bytes
    """b"" if there is none."""
    body: bytes
    head: Document

    @property
    def last(self) -> int:
        return self.head.entries[-1].seq if self.head.entries else 0


class NotAnnouncedYet(Unavailable):
    """Something is gone from the origin and said to be withdrawn, but the log does not say so as far as it was read."""

    def __init__(self, breach: Breach) -> None:
        super().__init__(str(breach))
        self.breach = breach


class LogCopy:
    """One thread calls it; `pool` is for requests.

    `key` is the public key that must have signed; "": the one that did before, or with which the log was made.
    """

    def __init__(
        self, source: Bucket, destination: Bucket, log: str, copier: Copier, pool: Executor, *, key: str
    ) -> None:
        self.log = log
        self.held: Held | None = None
        self.withdrawals: set[str] = set()
        """Blobs that the copy's log withdraws, as far as it was read by this object."""
        self.revised: set[int] = set()
        """Batches with more than one outcome in the copy's log, as far as it was read by this object."""
        self.projects: set[str] = set()
        """That entries named which this object has read."""
        self.notes: list[str] = []
        self.objects = 0
        """That were copied."""
        self._source = source
        self._destination = destination
        self._copier = copier
        self._pool = pool
        self._key = key
        self._excused = holdings.Excused()

    @property
    def seq(self) -> int:
        """The last entry that is held."""
        return self.held.proof.seq if self.held else 0

    # --- what is held ---

    def open(self, reached: Reached, *, mend: bool) -> None:
        """Prove what is held from entry 1 on; raises Breach where it is not what it was.

        With `mend` each object is looked for, and copied again if it is not there.
        """
        self.held, self._excused = None, holdings.Excused()
        try:
            body, etag = self._destination.read_versioned(keys.feed_head(self.log))
        except FileNotFoundError:
            return
        try:
            document = read_head(body, self.log)
            _, stages = walk(self._destination, body, document, 1, self._pool, without_index=True)
            before = proof = Proof(self.log)
            for stage in stages(proof):
                before, proof = proof, stage.proof
                for breach in stage.breaches:
                    raise breach
                self._take(stage, 0 if mend else proof.seq, reached)
            for breach in check_checkpoint(proof, document)[0]:
                raise breach
        except Breach as breach:
            raise Breach(f"the mirror's {breach.where}", breach.expected, breach.found) from breach
        self.held = Held(etag, body, document, before, proof)
        self._sweep()

    def entries(self) -> Iterator[Entry]:
        """All that is held, read from the copy."""
        if self.held:
            yield from self._entries(self._destination, self.held.body, self.held.document, 1)

    # --- how it goes on ---

    def look(self) -> Look | None:
        """The origin's log now; None if it has none."""
        try:
            index = self._source.read_versioned(keys.feed_index(self.log))[0]
        except FileNotFoundError:
            index = b""
        try:
            self._source.head(keys.feed_head(self.log))  # asks, where reading might give what was known a moment ago
            body, _ = self._source.read_versioned(keys.feed_head(self.log))
        except FileNotFoundError:
            return None
        return Look(index, body, read_head(body, self.log))

    def advance(self, look: Look, reached: Reached) -> int:
        """Take the copy as far as `look`; the number of entries that came.

        Raises Breach where the origin is not what it should be, or not what it was; NotAnnouncedYet if a later look may
        explain what is missing; SwapLost if somebody else writes here.
        """
        held, had = self.held, self.seq
        if held and held.body == look.body and not self._excused.waiting:
            self._copy_index(look)  # a mirror that died before it came to that does it now
            return 0
        if look.last < had:
            raise self._parted(look) or Breach(f"log {self.log}", f"at least {had} entries", f"{look.last}")
        before = proof = self._start()
        damaged, _ = ([], 0) if held else check_index(self._source, self.log)
        self.notes += [f"the origin's index is of no use: {breach}" for breach in damaged]
        near = cast(Bucket, _Near(self._destination, self._source))
        begins, stages = walk(
            near, look.body, look.head, proof.seq + 1, self._pool, without_index=bool(damaged), lead=self._source
        )
        if begins != proof.seq + 1:
            raise self._parted(look) or Breach(f"log {self.log}", f"a page from entry {proof.seq + 1}", f"{begins}")
        pages: list[Stage] = []
        for stage in stages(proof):
            before, proof = proof, stage.proof
            for breach in stage.breaches:
                raise (held and self._parted(look)) or breach
            self._take(stage, had, reached)
            pages += [stage] if stage.document and stage.document.archive else []
            if proof.remembered is None:  # so they go on from what is held; of a fork nothing is written
                for page in pages:
                    with contextlib.suppress(FileExistsError):
                        self._destination.create(page.key, page.body)
                pages.clear()
        self._check_signed(proof, look)
        for breach in self._excused.waiting.values():
            raise NotAnnouncedYet(breach)
        etag = self._destination.swap(keys.feed_head(self.log), look.body, etag=held.etag if held else None)
        self.held = Held(etag, look.body, look.head, before, proof)
        if not held or before.seq > held.before.seq:
            self._sweep()
        if not damaged:
            self._copy_index(look)
        return proof.seq - had

    def _sweep(self) -> None:
        """Remove pages of a past that was refused when its head came, or was another by the next look: whoever lists
        pages takes each for one of this log."""
        self._destination.delete(*unlinked_pages(LogReader(self._destination, self.log)))

    def _start(self) -> Proof:
        """Where the origin has to go on: where the copy's head begins, since its entries stand in pages by now."""
        if self.held is None:
            return Proof(self.log)
        return replace(self.held.before, remembered=remembered_of(self.held.proof, self.held.document))

    def _take(self, stage: Stage, held: int, reached: Reached) -> None:
        """Hold what the document promises from entry `held` + 1 on, and note what it withdraws and revises."""
        entries = stage.document.entries if stage.document else ()
        for entry in entries:
            self.projects.add(entry.project)
            if entry.withdraws:
                self.withdrawals.add(entry.withdraws)
            first, _, revision = entry.id.partition("-")
            if holdings.outcomes_of(self.log) is not None and revision > "000000":
                self.revised.add(int(first))
            if entry.seq <= held:
                self._excused.announced(entry)
        new = [entry for entry in entries if entry.seq > held]
        for entry, found in each_ahead(self._pool, self._hold, new, ENTRIES_AHEAD):
            self._excused.announced(entry)
            for breach in found.breaches:
                raise breach
            if found.missing:
                self._excused.missing(self.log, entry, found.missing)
            self.notes += found.notes
            self.objects += found.objects
            reached(entry.seq)
        reached(stage.proof.seq)

    def _hold(self, entry: Entry) -> tuple[Entry, Findings]:
        return entry, self._copier.hold(entry)

    def _check_signed(self, proof: Proof, look: Look) -> None:
        known = self.held.document.checkpoint if self.held else None
        breaches, notes = check_checkpoint(proof, look.head, self._key or (known.key if known else ""))
        for breach in breaches:
            raise breach
        self.notes += notes if not self.held else []

    def _parted(self, look: Look) -> Breach | None:
        """Where the origin parts from the copy; None if it holds all that the copy does, or cannot be read."""
        if self.held is None:
            return None
        since = 1
        with contextlib.suppress(Unavailable, FileNotFoundError, Breach):
            here = page_lines(self._destination, self.held.document, without_index=True)
            for mine, theirs in zip(here, page_lines(self._source, look.head), strict=False):
                if mine.key != theirs.key:
                    break
                since = mine.last + 1
            origin = self._entries(self._source, look.body, look.head, since)
            for entry in self._entries(self._destination, self.held.body, self.held.document, since):
                other = next((one for one in origin if one.seq >= entry.seq), None)
                if entry != other:
                    held = f"{entry.id} (SHA-256 {entry.sha256}), as this mirror holds it"
                    found = f"{other.id} (SHA-256 {other.sha256})" if other else f"none: the origin has {look.last}"
                    if other and (other.id, other.sha256) == (entry.id, entry.sha256):
                        found = "the same with other words or times"
                    return Breach(f"log {self.log} entry {entry.seq}", held, found)
        return None

    def _entries(self, bucket: Bucket, body: bytes, head: Document, since: int) -> Iterator[Entry]:
        begins, stages = walk(bucket, body, head, since, self._pool)
        for stage in stages(Proof(self.log, seq=begins - 1)):
            yield from stage.document.entries if stage.document else ()

    def _copy_index(self, look: Look) -> None:
        """The origin's index, if the copy has all that it leads to. A shortcut: one that is of no use stays away."""
        try:
            index = parse_index(keys.feed_index(self.log), look.index or b"{}")
        except Unavailable:
            return
        lines = [*index.earlier, *index.pages]
        if not lines or index.log != self.log or lines[-1].last > look.last - len(look.head.entries):
            return
        for part in index.earlier:
            try:
                self._destination.head(part.key)
            except FileNotFoundError:
                body = self._source.read(part.key)
                if hashlib.sha256(body).hexdigest() != part.sha256:
                    return
                with contextlib.suppress(FileExistsError):
                    self._destination.create(part.key, body)
        replace_object(self._destination, keys.feed_index(self.log), look.index)


def replace_object(bucket: Bucket, key: str, body: bytes) -> bool:
    """Let the object be `body`; whether it was another. Raises SwapLost if somebody else writes it."""
    try:
        held, etag = bucket.read_versioned(key)
    except FileNotFoundError:
        bucket.swap(key, body, etag=None)
        return True
    if held == body:
        return False
    bucket.swap(key, body, etag=etag)
    return True


class _Near:
    """Pages from where they are already, else from the origin."""

    def __init__(self, destination: Bucket, source: Bucket) -> None:
        self._destination = destination
        self._source = source

    def read(self, key: str) -> bytes:
        page = keys.parse_page(key)
        with contextlib.suppress(FileNotFoundError):
            body = self._destination.read(key)
            if page and hashlib.sha256(body).hexdigest()[:16] == page.digest16:
                return body
        return self._source.read(key)
