"""A list as a feed: an Atom document (RFC 4287) or JSON Feed 1.1, of the same entries. Pure: values in, bytes out.

Both are paged as RFC 5005 (section 3) has it: `first` and `next` lead through all that there is, newest first. These
feeds are made anew for each data version, and an entry's `updated` moves with its state; what never changes is in the
stored logs. All addresses are absolute, since readers keep entries without the document.

Texts must be `legal` (`feed.atom`), which both formats then carry alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from lxml import etree

from feed.atom import EMPTY_UPDATED
from schemas.records import Category

_ATOM_NAMESPACE = "http://www.w3.org/2005/Atom"
_ATOM = f"{{{_ATOM_NAMESPACE}}}"
_SCHEME = "urn:x-runfeed:"
_JSON_FEED_VERSION = "https://jsonfeed.org/version/1.1"


@dataclass(frozen=True)
class File:
    """What an entry is about, to download."""

    url: str
    media_type: str
    size_bytes: int


@dataclass(frozen=True)
class FeedEntry:
    """One row. `page` is for people, `resources` say the same as JSON; `html` is a fragment, `summary` one line of
    text."""

    id: str
    title: str
    published: datetime
    updated: datetime
    authors: tuple[str, ...]
    page: str
    resources: tuple[str, ...]
    summary: str
    html: str
    categories: tuple[Category, ...]
    files: tuple[File, ...]


@dataclass(frozen=True)
class Feed:
    """One page of a list. `first` is the feed's own address, `address` this page's, `next` that of older entries or
    empty."""

    id: str
    title: str
    page: str
    address: str
    first: str
    next: str
    entries: Sequence[FeedEntry]

    @property
    def updated(self) -> datetime:
        return max((entry.updated for entry in self.entries), default=EMPTY_UPDATED)


# --- Atom ---


def render_atom(feed: Feed) -> bytes:
    root = etree.Element(_ATOM + "feed", nsmap={None: _ATOM_NAMESPACE})
    _add(root, "id", feed.id)
    _add(root, "title", feed.title)
    _add(root, "updated", _time(feed.updated))
    _add(_add(root, "author"), "name", "Runfeed")
    _add(root, "generator", "Runfeed")
    _add_link(root, "self", feed.address, "application/atom+xml")
    _add_link(root, "alternate", feed.page, "text/html")
    _add_link(root, "first", feed.first, "application/atom+xml")
    if feed.next:
        _add_link(root, "next", feed.next, "application/atom+xml")
    for entry in feed.entries:
        _add_entry(root, entry)
    body: bytes = etree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return body


def _add_entry(root: Any, entry: FeedEntry) -> None:
    element = _add(root, "entry")
    _add(element, "id", entry.id)
    _add(element, "title", entry.title)
    _add(element, "updated", _time(entry.updated))
    _add(element, "published", _time(entry.published))
    for name in entry.authors:
        _add(_add(element, "author"), "name", name)
    _add_link(element, "alternate", entry.page, "text/html")
    for resource in entry.resources:
        _add_link(element, "related", resource, "application/json")
    for file in entry.files:
        _add_link(element, "enclosure", file.url, file.media_type, length=str(file.size_bytes))
    for one in entry.categories:
        _add(element, "category", scheme=_SCHEME + one.scheme, term=one.term)
    _add(element, "summary", entry.summary)
    _add(element, "content", entry.html, type="html")


def _add(parent: Any, name: str, text: str | None = None, **attributes: str) -> Any:
    element = etree.SubElement(parent, _ATOM + name, attributes)
    element.text = text
    return element


def _add_link(parent: Any, rel: str, href: str, type: str, **more: str) -> None:
    _add(parent, "link", rel=rel, href=href, type=type, **more)


def _time(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


# --- JSON Feed ---


class Author(msgspec.Struct, frozen=True):
    """Who published."""

    name: str


class Attached(msgspec.Struct, frozen=True):
    """A file."""

    url: str
    mime_type: str
    size_in_bytes: int


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """An entry. `_runfeed` is ours: where the same is as JSON."""

    id: str
    url: str
    title: str
    summary: str
    content_html: str
    date_published: datetime
    date_modified: datetime
    authors: list[Author]
    tags: list[str]
    attachments: list[Attached]
    runfeed: dict[str, tuple[str, ...]] = msgspec.field(name="_runfeed")


class JsonFeed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The document. `feed_url` names the feed, so it is that of the first page on all of them."""

    version: str
    title: str
    home_page_url: str
    feed_url: str
    next_url: str = ""
    authors: list[Author]
    items: list[Item]


def render_json_feed(feed: Feed) -> bytes:
    return msgspec.json.encode(
        JsonFeed(
            version=_JSON_FEED_VERSION,
            title=feed.title,
            home_page_url=feed.page,
            feed_url=feed.first,
            next_url=feed.next,
            authors=[Author("Runfeed")],
            items=[_item(entry) for entry in feed.entries],
        )
    )


def _item(entry: FeedEntry) -> Item:
    return Item(
        id=entry.id,
        url=entry.page,
        title=entry.title,
        summary=entry.summary,
        content_html=entry.html,
        date_published=entry.published,
        date_modified=entry.updated,
        authors=[Author(name) for name in entry.authors],
        tags=[f"{one.scheme}: {one.term}" for one in entry.categories],
        attachments=[Attached(file.url, file.media_type, file.size_bytes) for file in entry.files],
        runfeed={"resources": entry.resources},
    )
