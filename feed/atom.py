"""A log's documents as Atom, written and read. Pure: entries in, bytes out, and back.

A log is an archived feed (RFC 5005) of Atom (RFC 4287) documents that all lie in one folder, `feeds/<log>/`: the head
links the newest page with rel=prev-archive, each page the one before it. Entries stand newest first, as readers expect;
parsing gives them in the order of the log. All links are relative to the document, so a copy of the bucket is a mirror.
What Atom has no word for stands in elements of our namespace: seq, batch, sha256, project, encoding.

The same entries always give the same bytes: `updated` is the last entry's, never the time of rendering. A page is named
by the digest of its bytes and so cannot contain its own name; its rel=self link is the empty reference, which means
"this document".
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from feedgen.feed import FeedGenerator
from lxml import etree

from schemas import keys
from schemas.errors import Refused
from schemas.records import Encoding, Entry

NAMESPACE = "urn:x-runfeed:feed:1"
EMPTY_UPDATED = datetime(1970, 1, 1, tzinfo=UTC)

_ATOM = "{http://www.w3.org/2005/Atom}"
_RF = f"{{{NAMESPACE}}}"
_HISTORY_NAMESPACE = "http://purl.org/syndication/history/1.0"
_HISTORY = f"{{{_HISTORY_NAMESPACE}}}"
_URN = "urn:x-runfeed:"
_TO_ROOT = "../../"  # from feeds/<log>/ to the bucket's root
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ENCODINGS = ("identity", "gzip", "zstd")


@dataclass(frozen=True)
class Document:
    """One document of a log. `entries` ascend; `previous` is the key of the page before it, or ""."""

    log: str
    entries: tuple[Entry, ...]
    archive: bool
    """A page, which never changes; else the head."""
    previous: str


# --- writing ---


def carriable(entry: Entry) -> Entry:
    """`entry` as Atom can carry it: characters that XML forbids become U+FFFD, an empty title becomes the id."""
    title = _ILLEGAL.sub("\ufffd", entry.title) or entry.id
    project = _ILLEGAL.sub("\ufffd", entry.project)
    media_type = _ILLEGAL.sub("\ufffd", entry.media_type)
    if (title, project, media_type) == (entry.title, entry.project, entry.media_type):
        return entry
    return msgspec.structs.replace(entry, title=title, project=project, media_type=media_type)


def rendered_size(entry: Entry) -> int:
    """About how many bytes `entry` takes in a document, for deciding without rendering."""
    return 640 + len(entry.title) + len(entry.project) + 2 * len(entry.media_type) + 2 * len(entry.id) + len(entry.key)


def render_document(log: str, entries: Sequence[Entry], *, archive: bool, previous: str) -> bytes:
    """The document of `entries`, which ascend and are `carriable`; raises ValueError for what XML cannot carry."""
    feed = FeedGenerator()
    feed.register_extension("rf", _FeedElements, _EntryElements)
    feed.rf.archive = archive
    feed.id(_URN + log)
    feed.title(f"Runfeed: {log}")
    feed.author(name="Runfeed")
    feed.generator("Runfeed")
    feed.updated(entries[-1].updated.astimezone(UTC) if entries else EMPTY_UPDATED)
    feed.link(href="" if archive else "current.atom", rel="self", type="application/atom+xml")
    if archive:
        feed.link(href="current.atom", rel="current", type="application/atom+xml")
    if previous:
        feed.link(href=previous.removeprefix(keys.feed_prefix(log)), rel="prev-archive", type="application/atom+xml")
    for entry in reversed(entries):
        _add_entry(feed, log, entry)
    return cast(bytes, feed.atom_str(pretty=True))


def _add_entry(feed: Any, log: str, entry: Entry) -> None:
    element = feed.add_entry(order="append")
    element.id(f"{_URN}{log}:{entry.id}")
    element.title(entry.title)
    element.published(entry.published.astimezone(UTC))
    element.updated(entry.updated.astimezone(UTC))
    encoded = "" if entry.encoding == "identity" else f", {entry.encoding}"
    element.content(f"{entry.size_bytes:,} bytes of {entry.media_type}{encoded}", type="text")
    links = [
        {
            "rel": "enclosure",
            "href": _TO_ROOT + entry.key,
            "type": entry.media_type,
            "length": str(entry.size_bytes),
        }
    ]
    if log == keys.SUBMISSIONS_LOG:
        links.append({"rel": "related", "href": _TO_ROOT + keys.submission(entry.id), "type": "application/json"})
    element.link(links)
    element.rf.values = {
        "seq": str(entry.seq),
        "batch": str(entry.batch),
        "sha256": entry.sha256,
        "project": entry.project,
        "encoding": "" if entry.encoding == "identity" else entry.encoding,
    }


class _FeedElements:
    """feedgen's extension of a feed: our namespaces, and the mark of a page."""

    archive = False

    def extend_ns(self) -> Mapping[str, str]:
        return {"rf": NAMESPACE, "fh": _HISTORY_NAMESPACE}

    def extend_atom(self, feed: Any) -> Any:
        if self.archive:
            etree.SubElement(feed, _HISTORY + "archive")
        return feed


class _EntryElements:
    """feedgen's extension of an entry: `values` by element name, empty ones left out."""

    values: Mapping[str, str] = {}

    def extend_atom(self, entry: Any) -> Any:
        for name, value in self.values.items():
            if value:
                etree.SubElement(entry, _RF + name).text = value
        return entry


# --- reading ---


def parse_document(body: bytes) -> Document:
    """The document in `body`, which may come from a stranger: no entities, no network, no huge trees.

    Raises Refused for what is no document of a log. Whether `seq` is dense is the caller's question.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False, remove_pis=True)
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        raise Refused("feed", "an Atom document", str(error)) from error
    if root.getroottree().docinfo.doctype:
        raise Refused("feed", "no DOCTYPE", "one")
    log = root.findtext(_ATOM + "id") or ""
    if root.tag != _ATOM + "feed" or not re.fullmatch(_URN + "[a-z0-9-]+", log):
        raise Refused("feed /feed/id", f"{_URN}<log>", repr(log[:80]))
    log = log.removeprefix(_URN)
    entries = tuple(_entry(log, element) for element in root.iterchildren(_ATOM + "entry"))
    return Document(log, entries[::-1], root.find(_HISTORY + "archive") is not None, _previous(log, root))


def _previous(log: str, root: Any) -> str:
    for link in root.iterchildren(_ATOM + "link"):
        if link.get("rel") == "prev-archive":
            page = keys.parse_page(keys.feed_prefix(log) + link.get("href", ""))
            if page is None:
                raise Refused("feed /feed/link[@rel='prev-archive']", "a page's name", repr(link.get("href")))
            return page.key
    return ""


def _entry(log: str, element: Any) -> Entry:
    texts: dict[str, str] = {}
    enclosure = None
    for child in element.iterchildren(tag=etree.Element):
        texts[child.tag] = child.text or ""
        if child.tag == _ATOM + "link" and child.get("rel") == "enclosure":
            enclosure = child
    where = f"feed entry {texts.get(_RF + 'seq', '?')[:20]}"
    id = texts.get(_ATOM + "id", "")
    if not id.startswith(f"{_URN}{log}:"):
        raise Refused(f"{where} /id", f"{_URN}{log}:<id>", repr(id[:80]))
    if enclosure is None or not enclosure.get("href", "").startswith(_TO_ROOT):
        raise Refused(f"{where} /link[@rel='enclosure']", f"a link whose href starts with {_TO_ROOT}", "none")
    encoding = texts.get(_RF + "encoding", "identity")
    if encoding not in _ENCODINGS:
        raise Refused(f"{where} /rf:encoding", " or ".join(_ENCODINGS), repr(encoding[:80]))
    return Entry(
        seq=_number(f"{where} /rf:seq", texts.get(_RF + "seq")),
        batch=_number(f"{where} /rf:batch", texts.get(_RF + "batch")),
        id=id.removeprefix(f"{_URN}{log}:"),
        title=texts.get(_ATOM + "title", ""),
        key=enclosure.get("href").removeprefix(_TO_ROOT),
        sha256=keys.checked_sha256(texts.get(_RF + "sha256", ""), f"{where} /rf:sha256"),
        size_bytes=_number(f"{where} /link/@length", enclosure.get("length")),
        media_type=enclosure.get("type", ""),
        encoding=cast(Encoding, encoding),
        project=texts.get(_RF + "project", ""),
        published=_time(f"{where} /published", texts.get(_ATOM + "published", "")),
        updated=_time(f"{where} /updated", texts.get(_ATOM + "updated", "")),
    )


def _number(where: str, text: str | None) -> int:
    if text is None or not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise Refused(where, "a number", repr(text and text[:80]))
    return int(text)


def _time(where: str, text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise Refused(where, "a time (RFC 3339)", repr(text[:80])) from error
    if time.tzinfo is None:
        raise Refused(where, "a time with its zone", repr(text[:80]))
    return time.astimezone(UTC)
