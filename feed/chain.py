"""The chain digest of a log: one number that fixes every entry from 1 on. Pure.

The chain after entry n is SHA-256 of the chain after entry n - 1 followed by what entry n says. So whoever remembers a
seq and its chain can tell whether the log still has the same past, and whoever signs a chain has signed all of it.

It covers facts, not bytes: an entry has the same chain in the head, in a page and in a copy of another make. Each fact
is its length in bytes, a colon, and its UTF-8; see `_facts` for their order. Numbers are decimal; times are
microseconds since 1970.
"""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from schemas.records import Entry

START = "0" * 64
"""The chain before entry 1."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def chained(chain: str, entry: Entry) -> str:
    """The chain after `entry`, if it was `chain` before it. Both are 64 hexadecimal digits."""
    encoded = [fact.encode() for fact in (chain, *_facts(entry))]
    return hashlib.sha256(b"".join([b"%d:%b" % (len(fact), fact) for fact in encoded])).hexdigest()


def chained_all(chain: str, entries: Iterable[Entry]) -> str:
    """The chain after the last of `entries`, which ascend."""
    for entry in entries:
        chain = chained(chain, entry)
    return chain


def _facts(entry: Entry) -> Iterator[str]:
    yield str(entry.seq)
    yield str(entry.batch)
    yield entry.id
    yield entry.title
    yield entry.summary
    yield entry.key
    yield entry.sha256
    yield str(entry.size_bytes)
    yield entry.media_type
    yield entry.encoding
    yield entry.project
    yield _microseconds(entry.published)
    yield _microseconds(entry.updated)
    yield entry.withdraws
    yield " ".join(entry.withdrawn)
    for category in entry.categories:
        yield category.scheme
        yield category.term


def _microseconds(time: datetime) -> str:
    return str((time - _EPOCH) // _MICROSECOND)
