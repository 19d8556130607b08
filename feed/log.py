"""Following a log: its head, its pages, its entries by seq. Anybody who can read the public bucket can do the same.

The newest entries are in the head, all others in pages. Any page, linked from the head or not, holds only entries that
were once committed in the head, so any page that covers a range is right and following needs no walk along the links.
"""

import bisect
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from feed.atom import Document, parse_document
from infra.bucket import Bucket
from schemas import keys
from schemas.errors import Refused, Unavailable
from schemas.records import Entry

MAX_PAGE_ENTRIES = 1000
"""A page never holds more, so whoever looks for an entry need not look further back."""

_CACHED_PAGES = 8
_LOOKS = 3


def readers(bucket: Bucket) -> "Callable[[str], LogReader]":
    """The reader of each log in `bucket`, by name; one per log, so that its caches are shared."""
    return cache(lambda log: LogReader(bucket, log))


@dataclass(frozen=True)
class HeadState:
    """What a log's head holds. `etag` is None for a log that does not exist yet."""

    etag: str | None
    document: Document

    @property
    def entries(self) -> tuple[Entry, ...]:
        return self.document.entries

    @property
    def previous(self) -> str:
        """Key of the newest page, or ""."""
        return self.document.previous

    @property
    def first_seq(self) -> int:
        """Of the head's oldest entry; 1 while the log is empty."""
        return self.entries[0].seq if self.entries else 1

    @property
    def last_seq(self) -> int:
        """Of the newest entry; 0 while the log is empty."""
        return self.entries[-1].seq if self.entries else 0


class LogReader:
    """Reads one log. Any number of threads may share it: what one has read and parsed serves the others.

    Raises Unavailable for documents that are not what their key says.
    """

    def __init__(self, bucket: Bucket, log: str) -> None:
        self.bucket = bucket
        self.log = log
        self._head_key = keys.feed_head(log)
        self._none = HeadState(None, Document(log, (), archive=False, previous=""))
        self._head = self._none
        self._head_lock = threading.Lock()
        self._pages_lock = threading.Lock()
        self._page_keys: list[str] = []  # ascending, as far as they were listed
        self._pages: OrderedDict[str, tuple[Entry, ...]] = OrderedDict()

    def head(self) -> HeadState:
        """The head as of this call or later; it is read and parsed again only when its etag has changed."""
        try:
            etag = self.bucket.head(self._head_key).etag
        except FileNotFoundError:
            return self._none
        with self._head_lock:
            if self._head.etag != etag:
                body, etag = self.bucket.read_versioned(self._head_key)
                self._head = HeadState(etag, _document(self._head_key, self.log, body))
            return self._head

    def remember(self, head: HeadState) -> None:
        """Take `head`, which the caller has just written, so that nobody here has to parse it."""
        with self._head_lock:
            self._head = head

    def last_seq(self) -> int:
        return self.head().last_seq

    def entries_after(self, seq: int, limit: int = 1000) -> list[Entry]:
        """The entries that follow `seq`, ascending and dense, at most `limit`; [] when level with the log."""
        head = self.head()
        found: list[Entry] = []
        while len(found) < limit and seq < head.last_seq:
            entries = head.entries if seq + 1 >= head.first_seq else self._page_covering(seq + 1)
            found += entries[seq + 1 - entries[0].seq :]
            seq = found[-1].seq
        return found[:limit]

    def entries(self, first: int, last: int) -> list[Entry]:
        """Exactly the entries `first`..`last`, else FileNotFoundError."""
        found = self.entries_after(first - 1, last - first + 1) if first >= 1 else []
        if len(found) != last - first + 1:
            raise FileNotFoundError(f"log {self.log}: entries {first} to {last}, found {len(found)} of them")
        return found

    def page(self, key: str) -> Document:
        """The page of that key, checked against the digest and range in its name; not cached."""
        return self.page_and_digest(key)[0]

    def page_and_digest(self, key: str) -> tuple[Document, str]:
        """The page, and the SHA-256 of its bytes."""
        named = keys.parse_page(key)
        body = self.bucket.read(key)
        sha256 = hashlib.sha256(body).hexdigest()
        if named is None or sha256[:16] != named.digest16:
            raise Unavailable(f"{key}: expected a page of the digest that its name says, found digest {sha256[:16]}")
        document = _document(key, self.log, body)
        if not document.entries or (document.entries[0].seq, document.entries[-1].seq) != (named.first, named.last):
            raise Unavailable(f"{key}: expected the entries that its name says, found others")
        return document, sha256

    def _page_covering(self, seq: int) -> tuple[Entry, ...]:
        """The entries of a page that holds `seq`; a page may be swept between listing and reading, so look again."""
        for look in range(_LOOKS):
            key = self._key_covering(seq, relist=look > 0)
            if key is None:
                continue
            with self._pages_lock:
                if key in self._pages:
                    self._pages.move_to_end(key)
                    return self._pages[key]
            try:
                entries = self.page(key).entries
            except FileNotFoundError:
                continue
            with self._pages_lock:
                self._pages[key] = entries
                while len(self._pages) > _CACHED_PAGES:
                    self._pages.popitem(last=False)
            return entries
        raise Unavailable(f"log {self.log}: expected a page that holds entry {seq}, found none")

    def _key_covering(self, seq: int, *, relist: bool) -> str | None:
        """Known pages first, then those listed since, and with `relist` all of them anew.

        Pages do not change and new ones sort last, except where announcers competed; relisting finds those.
        """
        prefix = keys.feed_prefix(self.log)
        with self._pages_lock:
            if not relist and (key := _covering(self._page_keys, prefix, seq)):
                return key
            if relist:
                self._page_keys = []
            last = self._page_keys[-1] if self._page_keys else ""
            self._page_keys += [key for key in self.bucket.list(prefix, after=last) if keys.parse_page(key)]
            return _covering(self._page_keys, prefix, seq)


def _covering(page_keys: list[str], prefix: str, seq: int) -> str | None:
    """The page that begins nearest before `seq` and holds it; of several that begin there, the longest."""
    for at in range(bisect.bisect_left(page_keys, prefix + keys.padded(seq + 1)) - 1, -1, -1):
        page = keys.parse_page(page_keys[at])
        if page and page.last >= seq:
            return page_keys[at]
        if page and page.first + MAX_PAGE_ENTRIES <= seq:
            break
    return None


def _document(key: str, log: str, body: bytes) -> Document:
    try:
        document = parse_document(body)
    except Refused as error:
        raise Unavailable(f"{key}: {error}") from error
    seqs = [entry.seq for entry in document.entries]
    if document.log != log or (seqs and seqs != list(range(seqs[0], seqs[0] + len(seqs)))):
        raise Unavailable(f"{key}: expected dense entries of log {log}, found log {document.log}, not dense")
    return document
