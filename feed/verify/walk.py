"""A log's documents one after another, each checked before it is given: what verifying and mirroring have in common."""

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar, cast

from feed.atom import Document
from feed.breach import Breach
from feed.index import parse_index
from feed.log import HeadState, LogReader
from feed.pages import linked_pages
from feed.verify.proof import Proof, extended, passed_over, read_page
from infra.bucket import Bucket
from schemas import keys
from schemas.errors import Unavailable
from schemas.records import IndexedPages

PAGES_AHEAD = 8
"""Read while those before them are worked on; a page is a megabyte or two at most."""

ENTRIES_AHEAD = 64
"""Worked on at once, at most."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Stage:
    """A document, and how far the log is proved behind it."""

    key: str
    body: bytes
    document: Document | None
    """None if it cannot be read."""
    proof: Proof
    breaches: tuple[Breach, ...]


def walk_pages(bucket: Bucket, lines: Iterable[IndexedPages], proof: Proof, pool: Executor) -> Iterator[Stage]:
    """These pages, which ascend, from the one on with which `proof` goes on. Several are read ahead."""
    for line, body in each_ahead(pool, lambda line: (line, _read(bucket, line.key)), lines, PAGES_AHEAD):
        if isinstance(body, Breach):
            proof = passed_over(proof, line.key)
            yield Stage(line.key, b"", None, proof, (body,))
            continue
        sha256 = hashlib.sha256(body).hexdigest()
        document, breaches = read_page(line.key, body, proof.log)
        if not breaches and line.sha256 not in ("", sha256):
            breaches.append(Breach(line.key, f"SHA-256 {line.sha256}, as the index and the next page say", sha256))
        if document is None or breaches:
            proof = passed_over(proof, line.key)
        else:
            proof, breaches = extended(proof, line.key, document, sha256)
        yield Stage(line.key, body, document, proof, tuple(breaches))


def walk(
    bucket: Bucket,
    body: bytes,
    head: Document,
    since: int,
    pool: Executor,
    *,
    without_index: bool = False,
    lead: Bucket | None = None,
) -> tuple[int, Callable[[Proof], Iterator[Stage]]]:
    """Where a walk to `head`, whose bytes are `body`, begins: the first entry of the document that holds `since`. And
    the walk itself: given the proof of what is before that entry, the documents from there on, the head the last.

    `lead` is where the way to the pages is asked for, if that is not `bucket`. Raises Breach where nothing leads any
    further back.
    """
    lines = page_lines(lead or bucket, head, since, without_index=without_index)
    first = next(lines, None)
    of_head = head.entries[0].seq if head.entries else 1

    def stages(proof: Proof) -> Iterator[Stage]:
        listed = chain([first] if first else [], lines)
        for stage in walk_pages(bucket, listed, proof, pool):
            proof = stage.proof
            yield stage
        key = keys.feed_head(proof.log)
        proof, breaches = extended(proof, key, head)
        yield Stage(key, body, head, proof, tuple(breaches))

    return first.first if first else of_head, stages


def each_ahead(pool: Executor, call: Callable[[T], R], items: Iterable[T], ahead: int) -> Generator[R, None, None]:
    """`call` of each item in order, while up to `ahead` more are under way."""
    under_way: deque[Future[R]] = deque()
    remaining = iter(items)
    try:
        for item in remaining:
            under_way.append(pool.submit(call, item))
            if len(under_way) > ahead:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()


def _read(bucket: Bucket, key: str) -> bytes | Breach:
    try:
        return bucket.read(key)
    except FileNotFoundError:
        return Breach(key, "a page, since the log leads to it", "none")


def page_lines(
    bucket: Bucket, head: Document, since: int = 1, *, without_index: bool = False
) -> Iterator[IndexedPages]:
    """The pages that lead to `head`, from the one that holds `since` on."""
    reader = _Readable(cast(Bucket, _WithoutIndex(bucket)) if without_index else bucket, head.log)
    return linked_pages(reader, HeadState("", head), from_seq=since)


def check_index(bucket: Bucket, log: str) -> tuple[list[Breach], int]:
    """What is wrong with the log's index in itself, and the last entry that it leads to; 0 if there is none."""
    key = keys.feed_index(log)
    try:
        body, _ = bucket.read_versioned(key)
    except FileNotFoundError:
        return [], 0
    try:
        index = parse_index(key, body)
    except Unavailable as error:
        return [Breach(key, f"the index of log {log}", str(error))], 0
    if index.log != log:
        return [Breach(key, f"the index of log {log}", f"one of log {index.log}")], 0
    breaches = [breach for part in index.earlier for breach in _part_breaches(bucket, log, part)]
    lines = [*index.earlier, *index.pages]
    return breaches, lines[-1].last if lines else 0


def _part_breaches(bucket: Bucket, log: str, part: IndexedPages) -> list[Breach]:
    """What is wrong with a sealed part of the index."""
    try:
        body = bucket.read(part.key)
    except FileNotFoundError:
        return [Breach(part.key, "a part of the index, since it is named", "none")]
    sha256 = hashlib.sha256(body).hexdigest()
    if sha256 != part.sha256:
        return [Breach(part.key, f"SHA-256 {part.sha256}, as the index says", sha256)]
    try:
        pages = parse_index(part.key, body).pages
    except Unavailable as error:
        return [Breach(part.key, f"a part of the index of log {log}", str(error))]
    if pages and (pages[0].first, pages[-1].last) == (part.first, part.last):
        return []
    return [Breach(part.key, f"pages of entries {part.first} to {part.last}", "others")]


class _Readable(LogReader):
    """Follows the links of pages that are not what their name says, too: the walk forward says what is wrong."""

    def page_and_digest(self, key: str) -> tuple[Document, str]:
        try:
            body = self.bucket.read(key)
        except FileNotFoundError as error:
            raise Breach(key, "a page, since the log leads to it", "none") from error
        document, breaches = read_page(key, body, self.log)
        if document is None:
            raise breaches[-1]
        return document, hashlib.sha256(body).hexdigest()


class _WithoutIndex:
    """A bucket whose log has no index that can be used: all that leads to its pages are links."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._bucket, verb)

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        if key.endswith("/index/current.json"):
            raise FileNotFoundError(key)
        return self._bucket.read_versioned(key)
