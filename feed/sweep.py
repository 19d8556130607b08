"""What in a log's folder leads nowhere: pages that an announcer wrote before it lost the swap, or died."""

from feed.log import LogReader
from schemas import keys
from schemas.errors import Unavailable
from schemas.keys import Page


def unlinked_pages(reader: LogReader) -> list[str]:
    """Keys of pages that the head does not lead to and never will.

    Only pages of a range that other pages already hold are meant. One that starts where the head does may be written
    again at any time with the same bytes, so under the same key, and be linked then.
    """
    pages = [page for key in reader.bucket.list(keys.feed_prefix(reader.log)) if (page := keys.parse_page(key))]
    head = reader.head()
    linked = _linked(reader, head.previous, pages)
    return [page.key for page in pages if page.key not in linked and page.first < head.first_seq]


def _linked(reader: LogReader, newest: str, pages: list[Page]) -> set[str]:
    """Keys from `newest` back to the first. A page is read for its link only where two candidates end alike."""
    by_last: dict[int, list[Page]] = {}
    for page in pages:
        by_last.setdefault(page.last, []).append(page)
    linked: set[str] = set()
    key = newest
    while key:
        linked.add(key)
        at = keys.parse_page(key)
        if at is None or at.first == 1:
            return linked
        before = by_last.get(at.first - 1, [])
        if not before:
            raise Unavailable(f"{key}: expected a page before it that ends with entry {at.first - 1}, found none")
        key = before[0].key if len(before) == 1 else reader.page(key).previous
    return linked
