"""The announcer: turns markers into entries, each object once, whatever dies when.

A commit reads the head, *then* lists the markers, then swaps the head. The order matters: what is listed and not in
the head as read was not announced before; if it was since, the head has changed and the swap fails. For this an entry
leaves the head for a page only when a listing made after reading the head shows no marker of it.
`tests/test_announcer_model.py` tries interleavings and crashes.

Any number of announcers may work on a log; the losers of a swap start again.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar

import msgspec
import structlog

from feed.announceable import Announceable, Describe
from feed.atom import NO_LINKS, Document, Links, carriable, render_document
from feed.chain import START, chained_all
from feed.choice import Choice, by_lane, entries_to_page, turns
from feed.index import extend_index
from feed.log import MAX_PAGE_ENTRIES, HeadState, LogReader
from feed.signing import Signer
from feed.sweep import unlinked_pages
from infra.bucket import Buckets
from schemas import keys
from schemas.errors import Refused, SwapLost
from schemas.keys import Marker, Page
from schemas.records import Checkpoint, Entry

HEAD_KEEP = 100
"""Entries that stay in the head when the older ones move to a page, which happens from twice as many on."""

SWEEP_AGE = timedelta(days=7)
"""Sweeps touch nothing younger; a writer that has not committed within an hour starts over."""

_log = structlog.get_logger()
_LATE = timedelta(minutes=1)
_ATTEMPTS = 8
_AHEAD = 64

T = TypeVar("T")
R = TypeVar("R")


class Announcer:
    """Announces what waits for `reader`'s log. One thread calls it; `threads` of its own hide the storage's latency.

    Without a `signer` the log has no checkpoints. `links` stand in each head.
    """

    def __init__(
        self,
        buckets: Buckets,
        reader: LogReader,
        describe: Describe,
        *,
        clock: Callable[[], datetime],
        signer: Signer | None = None,
        links: Links = NO_LINKS,
        head_keep: int = HEAD_KEEP,
        threads: int = 8,
    ) -> None:
        self._public = buckets.public
        self._private = buckets.private
        self._reader = reader
        self._describe = describe
        self._clock = clock
        self._signer = signer
        self._links = links
        self._indexed = ""  # the newest page that the index is known to hold
        self._head_keep = head_keep
        self._pool = ThreadPoolExecutor(threads, "announcer") if threads > 1 else None
        self._start_lane = ""
        self._damaged: set[Marker] = set()
        self._missed: dict[Marker, tuple[datetime, datetime]] = {}  # first and last looks that found no object

    def commit(self) -> int:
        """Announce what waits, as far as one commit may go, and return the number of entries.

        0 says that there was nothing to announce now, or that other announcers won every swap.
        """
        for _ in range(_ATTEMPTS):
            head, waiting = self._look()
            try:
                announced = self._announce(head, waiting)
            except SwapLost:
                continue
            self._index(head)
            return announced
        return 0

    def sweep(self, now: datetime) -> int:
        """Remove what is older than a week and leads nowhere, and return how many objects went.

        That is: markers whose object never came, and pages that were never linked.
        """
        orphans = [
            marker
            for marker in self._waiting()
            if now - keys.nonce_time(marker.nonce) > SWEEP_AGE
            and self._found(marker) is None
            and marker not in self._damaged
        ]
        self._delete(orphans)
        swept = len(orphans)
        for key in unlinked_pages(self._reader):
            with contextlib.suppress(FileNotFoundError):
                if now - self._public.head(key).modified > SWEEP_AGE:
                    self._public.delete(key)
                    swept += 1
        return swept

    def _look(self) -> tuple[HeadState, list[Marker]]:
        """The head, and the markers listed after it was read: never the other way round."""
        head = self._reader.head()
        return head, self._waiting()

    def _waiting(self) -> list[Marker]:
        found = map(keys.parse_marker, self._private.list(keys.pending_prefix(self._reader.log)))
        return [marker for marker in found if marker]

    def _announce(self, head: HeadState, waiting: list[Marker]) -> int:
        announced = {entry.id for entry in head.entries}
        self._delete(marker for marker in waiting if marker.id in announced)
        choice = self._choose([marker for marker in waiting if marker.id not in announced])
        self._delete(choice.stale)
        if choice.entries:
            self._append(head, choice.entries, {marker.id for marker in waiting})
            self._delete(choice.markers)
        self._start_lane = choice.next_lane
        return len(choice.entries)

    def _choose(self, waiting: list[Marker]) -> Choice:
        """What to announce now. Objects are read no further than the commit can take them."""
        self._damaged.intersection_update(waiting)
        self._missed = {marker: self._missed[marker] for marker in waiting if marker in self._missed}
        now = self._clock()
        late = {marker for marker, (first, last) in self._missed.items() if now - first > _LATE > now - last}
        choice = Choice()
        passed_over = self._damaged | late
        lanes = by_lane((marker for marker in waiting if marker not in passed_over), self._start_lane)
        offered = turns(lanes, choice.held)
        while not choice.full and (ahead := list(islice(offered, _AHEAD))):
            for marker, found in zip(ahead, self._each(self._found, ahead), strict=True):
                choice.offer(marker, found)
        return choice

    def _found(self, marker: Marker) -> Announceable | None:
        """The marker's object. A damaged one is reported, passed over, and in nobody's way. One that does not come,
        since its writer died between the two, is after a minute looked for once a minute."""
        try:
            found = self._describe(self._public, marker)
        except Refused as error:
            _log.warning("this object cannot be announced", marker=marker.key, reason=str(error))
            self._damaged.add(marker)
            return None
        if found is None:
            now = self._clock()
            self._missed[marker] = self._missed.get(marker, (now, now))[0], now
        return found

    def _append(self, head: HeadState, chosen: list[Entry], marked: set[str]) -> None:
        """Swap in a head with `chosen`; SwapLost if it has changed since. Entries that leave it go to a page first."""
        first = head.last_seq + 1
        now = max([self._clock(), *(entry.updated for entry in head.entries[-1:])])
        before = self._anchored(head)
        added = [
            carriable(msgspec.structs.replace(entry, seq=first + at, batch=first, updated=now))
            for at, entry in enumerate(chosen)
        ]
        paged = entries_to_page(head.entries, marked, self._head_keep)
        if paged:
            before = self._write_page(replace(before, entries=paged, archive=True))
        entries = (*head.entries[len(paged) :], *added)
        document = replace(before, entries=entries, checkpoint=self._checkpoint(before.chain, entries))
        etag = self._public.swap(keys.feed_head(self._reader.log), _rendered(document, self._links), etag=head.etag)
        self._reader.remember(HeadState(etag, document))

    def _anchored(self, head: HeadState) -> Document:
        """Where the head's first entry stands in the log. For the head of a release before there were chains the whole
        log is read, once."""
        document = replace(head.document, checkpoint=None)
        if document.chain:
            return document
        if not document.previous:
            new = not document.entries and self._signer
            return replace(document, chain=START, authority=self._signer.authority if new and self._signer else "")
        _, sha256 = self._reader.page_and_digest(document.previous)
        chain, seq = START, 0
        while seq < head.first_seq - 1:
            some = self._reader.entries_after(seq, min(MAX_PAGE_ENTRIES, head.first_seq - 1 - seq))
            chain, seq = chained_all(chain, some), some[-1].seq
        return replace(document, previous_sha256=sha256, chain=chain)

    def _checkpoint(self, chain: str, entries: tuple[Entry, ...]) -> Checkpoint | None:
        if self._signer is None:
            return None
        last = entries[-1]
        return self._signer.sign(self._reader.log, last.seq, chained_all(chain, entries), last.updated)

    def _write_page(self, page: Document) -> Document:
        """Write it, and return where the entries after it stand. The same page may be there already, left by one who
        lost or died."""
        body = _rendered(page)
        sha256 = hashlib.sha256(body).hexdigest()
        key = Page(page.log, page.entries[0].seq, page.entries[-1].seq, sha256[:16]).key
        with contextlib.suppress(FileExistsError):
            self._public.create(key, body)
        chain = chained_all(page.chain, page.entries)
        return replace(page, entries=(), archive=False, previous=key, previous_sha256=sha256, chain=chain)

    def _index(self, head: HeadState) -> None:
        """Bring the log's index up to the newest page that `head` links; one that was just made waits for the next."""
        if head.previous != self._indexed:
            extend_index(self._public, self._reader, head)
            self._indexed = head.previous

    def _delete(self, markers: Iterable[Marker]) -> None:
        self._private.delete(*(marker.key for marker in markers))

    def _each(self, call: Callable[[T], R], items: list[T]) -> list[R]:
        """`call` of each item, in order; several at a time where that pays."""
        if self._pool is None or len(items) < 4:
            return [call(item) for item in items]
        return list(self._pool.map(call, items))


def _rendered(document: Document, links: Links = NO_LINKS) -> bytes:
    return render_document(
        document.log,
        document.entries,
        archive=document.archive,
        previous=document.previous,
        previous_sha256=document.previous_sha256,
        chain=document.chain,
        authority=document.authority,
        checkpoint=document.checkpoint,
        links=links,
    )
