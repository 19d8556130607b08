"""A log followed from one place on: each look gives what is new, checked, and remembers what the next must extend.

What a look gives has been confirmed by what stands behind it in the log: a page by the next document, the last page and
the head by the head's signed checkpoint. What does not fit is looked at again, past the caches on the way, since they
may be older than each other; what still does not fit then is raised as a Breach, and nothing behind it is given.
"""

import bisect
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import msgspec

from feed.atom import Document, feed_id
from feed.breach import Breach
from feed.chain import START, chained
from feed.follow.cursor import Cursor
from feed.log import HeadState, LogReader
from feed.pages import linked_pages
from feed.remote.bucket import RemoteBucket
from feed.verify.examine import LOOKS_AGAIN
from feed.verify.holdings import check_key
from feed.verify.proof import Proof, check_checkpoint, read_head
from feed.verify.walk import Stage, walk
from infra.bucket import Bucket
from schemas import keys
from schemas.errors import Refused, Unavailable
from schemas.records import Entry

Since = int | datetime | Literal["now"]
"""After this seq; or what was announced then or later; or only what comes from now on."""


@dataclass(frozen=True)
class Step:
    """An entry, and where the follower stands when it is handled."""

    entry: Entry
    cursor: Cursor


class Following:
    """Follows `log` in `bucket` from `cursor` on, which whoever handles a Step moves. `pool` reads ahead.

    `key` is the only public key that may sign; "": the cursor's, else the one that the log names, else the first seen.
    `on_note` is told, once, what people should know.
    """

    def __init__(
        self,
        bucket: Bucket,
        log: str,
        cursor: Cursor,
        pool: Executor,
        *,
        key: str = "",
        sleep: Callable[[float], None] = time.sleep,
        on_note: Callable[[str], None] = lambda note: None,
    ) -> None:
        self.bucket = bucket
        self.log = log
        self._pool = pool
        self._key = key
        self._sleep = sleep
        self._on_note = on_note
        self._noted: set[str] = set()
        self._reader = LogReader(bucket, log)
        self._etag = ""  # of the head that all was seen of
        self.cursor = cursor
        self.last_seq = cursor.seq
        """Of the log, at the last look."""

    def exists(self) -> bool:
        """Whether there is such a log."""
        try:
            self.bucket.head(keys.feed_head(self.log))
        except FileNotFoundError:
            return False
        return True

    def start(self, since: Since) -> None:
        """Begin there instead of at the cursor. Refused if the log has not come so far."""
        found = self._new_head(fresh=False)
        head = found[1] if found else None
        last = head.last_seq if head else 0
        if since == "now":
            seq = last
        elif isinstance(since, datetime):
            seq = self._seq_before(since, head) if head else 0
        elif since > last:
            raise Refused("since", f"at most {last}, the log's last entry", str(since))
        else:
            seq = since
        feed = feed_id(self.log, head.document.authority) if head else ""
        self.cursor = Cursor(feed=feed, seq=seq, chain=START if seq == 0 else "")

    def look(self, *, fresh: bool = False) -> Iterator[Step]:
        """What has come since the cursor, in order. `fresh`: past the caches on the way.

        Raises Breach; Unavailable; Refused if this is another feed than the cursor's.
        """
        again = False
        for pause in (*LOOKS_AGAIN, None):
            try:
                yield from self._look(fresh=fresh or again, links=again)
                return
            except Breach:
                if pause is None:
                    raise
            except FileNotFoundError as error:
                if pause is None:
                    raise Breach(str(error), "a document, since the log leads to it", "none") from error
            again, self._etag = True, ""
            self._sleep(pause)

    def _look(self, *, fresh: bool, links: bool) -> Iterator[Step]:
        """`links`: without the index, which may be what does not fit."""
        found = self._new_head(fresh=fresh)
        if found is None:
            return
        body, head = found
        self._check_identity(head)
        self.last_seq = head.last_seq
        yield from self._handed_over(self._confirmed(head, body, links=links, since=self.cursor.seq + 1), head.document)
        self._etag = head.etag or ""

    def _new_head(self, *, fresh: bool) -> tuple[bytes, HeadState] | None:
        """The head and its bytes, if it is there and has changed; Unavailable if it was there before."""
        key = keys.feed_head(self.log)
        try:
            if fresh and isinstance(self.bucket, RemoteBucket):
                body, etag = self.bucket.refreshed(key)
            else:
                if self._etag and self.bucket.head(key).etag == self._etag:
                    return None
                body, etag = self.bucket.read_versioned(key)
        except FileNotFoundError as error:
            if self.cursor.seq or self._etag:  # what stands before a server says this too while it restarts
                raise Unavailable(f"{error}: the log was there before, and is not now") from error
            self._note(f"there is no log {self.log} yet")
            return None
        return None if etag == self._etag else (body, HeadState(etag, read_head(body, self.log)))

    def _check_identity(self, head: HeadState) -> None:
        """That this is the cursor's feed, signed by whom it should be, and no shorter than it was."""
        feed = feed_id(self.log, head.document.authority)
        if self.cursor.feed not in ("", feed):
            raise Refused("cursor", f"feed {self.cursor.feed}", f"{feed} at this address")
        if head.entries:
            at_its_word = Proof(self.log, seq=head.last_seq, chain="")
            breaches, notes = check_checkpoint(at_its_word, head.document, self._key or self.cursor.key)
            _raise_first(breaches)
            for note in notes:
                self._note(note)
        checkpoint = self.cursor.checkpoint
        remembered = max(self.cursor.seq, checkpoint.seq if checkpoint else 0)
        if head.last_seq < remembered:
            raise Breach(f"log {self.log}", f"entries 1 to {remembered}, as before", f"only 1 to {head.last_seq}")

    def _confirmed(self, head: HeadState, body: bytes, *, links: bool, since: int) -> Iterator[Stage]:
        """Documents from the one that holds entry `since` on, each once what is behind it has confirmed it. From the
        first on, if that one does not say its chain: one of an earlier release, or of who has something to hide."""
        begins, stages = walk(self.bucket, body, head.document, since, self._pool, without_index=links)
        if not head.entries:
            return
        if begins > self.cursor.seq + 1:
            raise Breach(f"log {self.log}", f"a document that holds entry {self.cursor.seq + 1}", f"entry {begins}")
        before = START if begins == 1 else self.cursor.chain if begins == self.cursor.seq + 1 else ""
        page, authority = "" if begins == 1 else None, head.document.authority
        proof = Proof(self.log, seq=begins - 1, chain=before, page=page, authority=authority)
        waiting = None
        for stage in stages(proof):
            _raise_first(stage.breaches)
            if begins > 1 and head.document.chain and not stage.proof.chain:
                yield from self._confirmed(head, body, links=links, since=1)
                return
            if stage.document is head.document:
                _raise_first(check_checkpoint(stage.proof, head.document, self._key or self.cursor.key)[0])
            if waiting:
                yield waiting
            waiting = stage
        if waiting:
            yield waiting

    def _handed_over(self, stages: Iterable[Stage], head: Document) -> Iterator[Step]:
        """The entries behind the cursor; their past compared with what is remembered of it."""
        checkpoint, key = self.cursor.checkpoint, self._key or self.cursor.key
        remembered = {checkpoint.seq: checkpoint.chain} if checkpoint else {}
        if self.cursor.chain:
            remembered[self.cursor.seq] = self.cursor.chain
        key = head.checkpoint.key if head.checkpoint else key
        at = msgspec.structs.replace(self.cursor, feed=feed_id(self.log, head.authority), key=key)
        before = ""
        for stage in stages:
            entries, before = list(self._chained(stage, at, before)), stage.proof.chain
            for entry, chain in entries:
                if chain and (expected := remembered.get(entry.seq, chain)) != chain:
                    where = f"log {self.log}, entries 1 to {entry.seq}"
                    raise Breach(where, f"the past as remembered, chain {expected}", f"another, chain {chain}")
                _raise_first(check_key(self.log, entry) if entry.seq > at.seq else ())
            if stage.document is head:
                at = msgspec.structs.replace(at, checkpoint=head.checkpoint)
            for entry, chain in entries:
                if entry.seq > at.seq:
                    at = msgspec.structs.replace(at, seq=entry.seq, chain=chain)
                    yield Step(entry, at)
        self.cursor = at

    def _chained(self, stage: Stage, at: Cursor, before: str) -> Iterator[tuple[Entry, str]]:
        """Each entry of the document with the chain after it; "" where nobody has said what it was before. `before` is
        the chain behind the document before this one, "" for the first."""
        entries = stage.document.entries if stage.document else ()
        chain = (stage.document.chain if stage.document else "") or before
        if entries and not chain:
            chain = START if entries[0].seq == 1 else at.chain if entries[0].seq == at.seq + 1 else ""
        for entry in entries:
            chain = chained(chain, entry) if chain else ""
            yield entry, chain

    def _seq_before(self, time: datetime, head: HeadState) -> int:
        """The last entry that was announced before `time`. A few pages are read, halving what is left of them."""
        if head.entries and head.entries[0].updated < time:
            return head.first_seq - 1 + _count_before(head.entries, time)
        pages = list(linked_pages(self._reader, head))
        at = bisect.bisect_left(pages, time, key=lambda page: self._reader.page(page.key).entries[0].updated)
        return pages[at - 1].first - 1 + _count_before(self._reader.page(pages[at - 1].key).entries, time) if at else 0

    def _note(self, note: str) -> None:
        if note not in self._noted:
            self._noted.add(note)
            self._on_note(note)


def _count_before(entries: tuple[Entry, ...], time: datetime) -> int:
    return bisect.bisect_left(entries, time, key=lambda entry: entry.updated)


def _raise_first(breaches: Iterable[Breach]) -> None:
    for breach in breaches:
        raise breach
