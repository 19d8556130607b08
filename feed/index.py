"""A log's index: which page holds which entries, so that a follower without listing starts anywhere.

    feeds/<log>/index/current.json                       the newest pages, and where the sealed parts are
    feeds/<log>/index/<first>-<last>-<digest16>.json     256 older pages each, never changed

The announcer extends it after a commit that made a page. It is a shortcut: the log is the head and the pages that it
leads to. Where the index lags behind, the links of the pages lead back to its last one.
"""

import contextlib
import hashlib

import msgspec

from feed.log import HeadState, LogReader
from infra.bucket import Bucket
from schemas import keys
from schemas.errors import SwapLost, Unavailable
from schemas.records import IndexedPages, LogIndex

PAGES_PER_PART = 256
"""So that what is written anew for each page stays small however long the log."""


def extend_index(bucket: Bucket, reader: LogReader, head: HeadState) -> None:
    """Bring the index of `reader`'s log up to the newest page that `head` links; a damaged one is made anew. Whoever
    loses a swap leaves it."""
    key = keys.feed_index(reader.log)
    index, etag = LogIndex(log=reader.log), None
    with contextlib.suppress(FileNotFoundError):
        body, etag = bucket.read_versioned(key)
        with contextlib.suppress(Unavailable):
            index = parse_index(key, body)
    added = pages_after(reader, head, _last(index))
    if not added:
        return
    grown = msgspec.structs.replace(index, pages=[*index.pages, *added])
    while len(grown.pages) >= 2 * PAGES_PER_PART:
        grown = _sealed(bucket, grown)
    with contextlib.suppress(SwapLost):
        bucket.swap(key, msgspec.json.encode(grown), etag=etag)


def read_part(bucket: Bucket, part: IndexedPages) -> LogIndex:
    """A sealed part, checked against its digest; Unavailable if it is another."""
    body = bucket.read(part.key)
    if hashlib.sha256(body).hexdigest() != part.sha256:
        raise Unavailable(f"{part.key}: expected the digest that the index names, found another")
    return parse_index(part.key, body)


def parse_index(key: str, body: bytes) -> LogIndex:
    """The index in `body`; Unavailable unless it names pages of the key's log, in order and without gaps."""
    try:
        index = msgspec.json.decode(body, type=LogIndex)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unavailable(f"{key}: expected the JSON of a log's index, found {error}") from error
    if not key.startswith(f"{keys.feed_prefix(index.log)}index/"):
        raise Unavailable(f"{key}: expected the index of that log, found one of {index.log[:80]!r}")
    following = None
    parsed = [(line, keys.parse_sealed_index(line.key)) for line in index.earlier]
    parsed += [(line, keys.parse_page(line.key)) for line in index.pages]
    for line, named in parsed:
        if named is None or (named.log, named.first, named.last) != (index.log, line.first, line.last):
            raise Unavailable(f"{key}: expected pages of log {index.log}, found {line.key[:120]!r}")
        if line.first != (following or line.first) or line.last < line.first:
            raise Unavailable(f"{key}: expected a page that begins with entry {following}, found {line.key}")
        following = line.last + 1
    return index


def _last(index: LogIndex) -> int:
    """The last seq that `index` leads to."""
    lines = index.pages or index.earlier
    return lines[-1].last if lines else 0


def pages_after(reader: LogReader, head: HeadState, last: int) -> list[IndexedPages]:
    """The pages of entries after `last`, ascending, found along the links from the head's back."""
    found: list[IndexedPages] = []
    key, sha256 = head.previous, head.document.previous_sha256
    while (named := keys.parse_page(key)) and named.last > last:
        document = None
        if not sha256 or named.first > last + 1:
            document, sha256 = reader.page_and_digest(key)
        found.append(IndexedPages(first=named.first, last=named.last, key=key, sha256=sha256))
        key, sha256 = (document.previous, document.previous_sha256) if document else ("", "")
    return found[::-1]


def _sealed(bucket: Bucket, index: LogIndex) -> LogIndex:
    """`index` with its oldest pages in a part of their own."""
    oldest = index.pages[:PAGES_PER_PART]
    body = msgspec.json.encode(LogIndex(log=index.log, pages=oldest))
    sha256 = hashlib.sha256(body).hexdigest()
    first, last = oldest[0].first, oldest[-1].last
    key = keys.sealed_index(index.log, first, last, sha256[:16])
    with contextlib.suppress(FileExistsError):
        bucket.create(key, body)
    part = IndexedPages(first=first, last=last, key=key, sha256=sha256)
    return msgspec.structs.replace(index, earlier=[*index.earlier, part], pages=index.pages[PAGES_PER_PART:])
