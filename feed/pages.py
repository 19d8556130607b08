"""The pages that a log's head leads to, found without listing: by its index, and by links where that lags behind."""

from collections.abc import Iterator

from feed.index import pages_after, parse_index, read_part
from feed.log import HeadState, LogReader
from schemas import keys
from schemas.errors import Refused, Unavailable
from schemas.records import IndexedPages, LogIndex


def linked_pages(reader: LogReader, head: HeadState, *, from_seq: int = 1) -> Iterator[IndexedPages]:
    """The pages from the one that holds `from_seq` to the one before `head`, ascending and without gaps.

    Their digests are the index's word, or their successors'; "" is one that nobody has given. A part of the index is
    read when its pages' turn comes. Raises FileNotFoundError if a page is missing whose link has to be followed.
    """
    if from_seq >= head.first_seq:
        return
    index = _index(reader)
    if any(page.last == head.first_seq - 1 and page.key != head.previous for page in index.pages):
        index = LogIndex(log=reader.log)  # it is of another past than the links, which have the word
    lines = [*index.earlier, *index.pages]
    behind = lines[-1].last if lines and lines[0].first == 1 else 0
    newer = pages_after(reader, head, behind) if behind < head.first_seq - 1 else []
    if newer and newer[0].first != behind + 1:  # there is a gap, or more than the log has
        newer, behind = pages_after(reader, head, 0), 0
    for part in index.earlier if behind else []:
        if part.last >= from_seq and part.first < head.first_seq:
            yield from _within(read_part(reader.bucket, part).pages, from_seq, head)
    yield from _within([*(index.pages if behind else []), *newer], from_seq, head)


def _within(pages: list[IndexedPages], from_seq: int, head: HeadState) -> Iterator[IndexedPages]:
    return (page for page in pages if page.last >= from_seq and page.last < head.first_seq)


def _index(reader: LogReader) -> LogIndex:
    """The newest part of the log's index; an empty one if there is none that can be used."""
    key = keys.feed_index(reader.log)
    try:
        body, _ = reader.bucket.read_versioned(key)
    except (FileNotFoundError, Refused):  # some stores forbid what is absent
        return LogIndex(log=reader.log)
    try:
        return parse_index(key, body)
    except Unavailable:  # damaged: the links lead everywhere too
        return LogIndex(log=reader.log)
