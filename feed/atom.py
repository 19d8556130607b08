"""A log's documents as Atom, written and read. Pure: entries in, bytes out, and back.

A log is an archived feed (RFC 5005) of Atom (RFC 4287) documents that all lie in one folder, `feeds/<log>/`: the head
links the newest page with rel=prev-archive, each page the one before it. Entries stand newest first, as readers expect;
parsing gives them in the order of the log. All links are relative to the document, so a copy of the bucket is a mirror.
What Atom has no word for stands in elements of our namespace: of a document the chain digest before its first entry,
the digest of the page before it and the checkpoint; of an entry seq, batch, sha256, project, encoding and what it
withdraws.

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

from infra.bucket import is_key
from schemas import keys
from schemas.errors import Refused
from schemas.records import Category, Checkpoint, Encoding, Entry

NAMESPACE = "urn:x-runfeed:feed:1"
EMPTY_UPDATED = datetime(1970, 1, 1, tzinfo=UTC)

_ATOM = "{http://www.w3.org/2005/Atom}"
_RF = f"{{{NAMESPACE}}}"
_HISTORY_NAMESPACE = "http://purl.org/syndication/history/1.0"
_HISTORY = f"{{{_HISTORY_NAMESPACE}}}"
_TOMBSTONE_NAMESPACE = "http://purl.org/atompub/tombstones/1.0"
_TOMBSTONE = f"{{{_TOMBSTONE_NAMESPACE}}}"
_URN = "urn:x-runfeed:"
_TO_ROOT = "../../"  # from feeds/<log>/ to the bucket's root
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FEED_ID = re.compile(_URN + "(?:([0-9a-f]{32}):)?([a-z0-9-]+)")
_HEX = {count: re.compile(f"[0-9a-f]{{{count}}}") for count in (64, 128)}
_NUMBER = re.compile(r"[0-9]{1,18}")
_TEXTS = frozenset(
    (
        *(_ATOM + name for name in ("id", "title", "content", "published", "updated")),
        *(_RF + name for name in ("seq", "batch", "sha256", "project", "encoding", "withdraws", "withdrawn")),
    )
)
_ENCODINGS = ("identity", "gzip", "zstd")
_SUBTITLES = {
    keys.SUBMISSIONS_LOG: "Every result file that was submitted here, in order, each once.",
    "": "What came of every batch of submitted result files.",
}


@dataclass(frozen=True)
class Document:
    """One document of a log. `entries` ascend; `previous` is the key of the page before it, or ""."""

    log: str
    entries: tuple[Entry, ...]
    archive: bool
    """A page, which never changes; else the head."""
    previous: str
    previous_sha256: str = ""
    """Of that page's bytes. This and what follows is "" in documents of releases before there were chains."""
    chain: str = ""
    """The chain digest (`feed.chain`) before the first entry."""
    authority: str = ""
    """Tells this log from those of other installations; part of its id."""
    checkpoint: Checkpoint | None = None
    """Of the last entry; the head's only."""


@dataclass(frozen=True)
class Links:
    """What heads link besides the log's own documents: their own address, if it is known where the bucket's objects
    are served, and WebSub hubs."""

    base: str = ""
    hubs: tuple[str, ...] = ()

    def head(self, log: str) -> str:
        """The address of a log's head, as short as may be."""
        return f"{self.base}/{keys.feed_head(log)}" if self.base else "current.atom"


NO_LINKS = Links()


def feed_id(log: str, authority: str) -> str:
    """The Atom id of a log; those of its entries are this, a colon, and the entry's id."""
    return f"{_URN}{authority}:{log}" if authority else _URN + log


# --- writing ---


def legal(text: str) -> str:
    """`text` with U+FFFD for each character that XML forbids."""
    return _ILLEGAL.sub("\ufffd", text)


def carriable(entry: Entry) -> Entry:
    """`entry` as Atom can carry it: `legal`, with the id for an empty title and words for an empty summary."""
    made = msgspec.structs.replace(
        entry,
        title=legal(entry.title) or entry.id,
        summary=legal(entry.summary or described_bytes(entry.size_bytes, entry.media_type, entry.encoding)),
        project=legal(entry.project),
        media_type=legal(entry.media_type),
        categories=tuple(Category(scheme=one.scheme, term=legal(one.term)) for one in entry.categories),
    )
    return entry if made == entry else made


def described_bytes(size_bytes: int, media_type: str, encoding: Encoding) -> str:
    """`1,234 bytes of application/json, gzip`."""
    return f"{size_bytes:,} bytes of {media_type}" + ("" if encoding == "identity" else f", {encoding}")


def rendered_size(entry: Entry) -> int:
    """About how many bytes `entry` takes in a document, for deciding without rendering."""
    texts = len(entry.title) + len(entry.summary) + 2 * len(entry.project) + 2 * len(entry.media_type)
    categories = sum(60 + len(one.term) for one in entry.categories)
    # A withdrawn id stands in the entry and, with a reason, in a tombstone.
    withdrawn = len(entry.withdrawn) * (320 + len(entry.summary))
    return 740 + texts + 3 * len(entry.id) + len(entry.key) + categories + withdrawn


def render_document(
    log: str,
    entries: Sequence[Entry],
    *,
    archive: bool,
    previous: str,
    previous_sha256: str = "",
    chain: str = "",
    authority: str = "",
    checkpoint: Checkpoint | None = None,
    links: Links = NO_LINKS,
) -> bytes:
    """The document of `entries`, which ascend and are `carriable`; raises ValueError for what XML cannot carry.

    The parameters are those of `Document`.
    """
    feed = FeedGenerator()
    feed.register_extension("rf", _FeedElements, _EntryElements)
    id = feed_id(log, authority)
    feed.id(id)
    feed.title(f"Runfeed: {log}")
    feed.subtitle(_SUBTITLES.get(log, _SUBTITLES[""]))
    feed.author(name="Runfeed")
    feed.generator("Runfeed")
    feed.updated(entries[-1].updated.astimezone(UTC) if entries else EMPTY_UPDATED)
    feed.link(href="" if archive else links.head(log), rel="self", type="application/atom+xml")
    if archive:
        feed.link(href="current.atom", rel="current", type="application/atom+xml")
    for hub in links.hubs:
        feed.link(href=hub, rel="hub")
    if previous:
        feed.link(href=previous.removeprefix(keys.feed_prefix(log)), rel="prev-archive", type="application/atom+xml")
    feed.rf.archive = archive
    feed.rf.previous_sha256 = previous_sha256
    feed.rf.chain = chain
    feed.rf.checkpoint = checkpoint
    feed.rf.tombstones = [(f"{id}:{withdrawn}", entry) for entry in reversed(entries) for withdrawn in entry.withdrawn]
    for entry in reversed(entries):
        _add_entry(feed, log, id, entry)
    return cast(bytes, feed.atom_str(pretty=True))


def _add_entry(feed: Any, log: str, feed_id: str, entry: Entry) -> None:
    element = feed.add_entry(order="append")
    element.id(f"{feed_id}:{entry.id}")
    element.title(entry.title)
    element.published(entry.published.astimezone(UTC))
    element.updated(entry.updated.astimezone(UTC))
    element.content(entry.summary, type="text")
    if entry.project:
        element.author(name=entry.project)
    element.category([{"scheme": _URN + one.scheme, "term": one.term} for one in entry.categories])
    links = [
        {
            "rel": "enclosure",
            "href": _TO_ROOT + entry.key,
            "type": entry.media_type,
            "length": str(entry.size_bytes),
        }
    ]
    for shown in (entry.withdrawn[:1] if entry.withdraws else [entry.id]) if log == keys.SUBMISSIONS_LOG else []:
        links.append({"rel": "alternate", "href": f"{_TO_ROOT}submissions/{shown}", "type": "text/html"})
    if log == keys.SUBMISSIONS_LOG and not entry.withdraws:
        links.append({"rel": "related", "href": _TO_ROOT + keys.submission(entry.id), "type": "application/json"})
    element.link(links)
    element.rf.values = {
        "seq": str(entry.seq),
        "batch": str(entry.batch),
        "sha256": entry.sha256,
        "project": entry.project,
        "encoding": "" if entry.encoding == "identity" else entry.encoding,
        "withdraws": entry.withdraws,
        "withdrawn": " ".join(entry.withdrawn),
    }


class _FeedElements:
    """feedgen's extension of a feed: our namespaces, the mark of a page, and where it stands in the log."""

    archive = False
    previous_sha256 = ""
    chain = ""
    checkpoint: Checkpoint | None = None
    tombstones: Sequence[tuple[str, Entry]] = ()
    """Atom ids of withdrawn entries (RFC 6721), each with the entry that withdraws it."""

    def extend_ns(self) -> Mapping[str, str]:
        tombstones = {"at": _TOMBSTONE_NAMESPACE} if self.tombstones else {}
        return {"rf": NAMESPACE, "fh": _HISTORY_NAMESPACE, **tombstones}

    def extend_atom(self, feed: Any) -> Any:
        if self.archive:
            etree.SubElement(feed, _HISTORY + "archive")
        if self.previous_sha256:
            etree.SubElement(feed, _RF + "previous").text = self.previous_sha256
        if self.chain:
            etree.SubElement(feed, _RF + "chain").text = self.chain
        if self.checkpoint:
            etree.SubElement(feed, _RF + "checkpoint", _checkpoint_attributes(self.checkpoint))
        for ref, entry in self.tombstones:
            tombstone = etree.SubElement(
                feed, _TOMBSTONE + "deleted-entry", ref=ref, when=entry.updated.astimezone(UTC).isoformat()
            )
            etree.SubElement(tombstone, _TOMBSTONE + "comment").text = entry.summary
        return feed


def _checkpoint_attributes(checkpoint: Checkpoint) -> dict[str, str]:
    return {
        "seq": str(checkpoint.seq),
        "chain": checkpoint.chain,
        "time": checkpoint.time.astimezone(UTC).isoformat(),
        "key": checkpoint.key,
        "signature": checkpoint.signature,
    }


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
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, huge_tree=False, remove_pis=True, remove_comments=True
    )
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        raise Refused("feed", "an Atom document", str(error)) from error
    if root.getroottree().docinfo.doctype:
        raise Refused("feed", "no DOCTYPE", "one")
    id = root.findtext(_ATOM + "id") or ""
    named = _FEED_ID.fullmatch(id)
    if root.tag != _ATOM + "feed" or not named:
        raise Refused("feed /feed/id", f"{_URN}[<authority>:]<log>", repr(id[:80]))
    log = named[2]
    entries = tuple(_entry(id, element) for element in root.iterchildren(_ATOM + "entry"))
    return Document(
        log,
        entries[::-1],
        root.find(_HISTORY + "archive") is not None,
        _previous(log, root),
        previous_sha256=_digest("feed /feed/rf:previous", root.findtext(_RF + "previous")),
        chain=_digest("feed /feed/rf:chain", root.findtext(_RF + "chain")),
        authority=named[1] or "",
        checkpoint=_checkpoint(log, root.find(_RF + "checkpoint")),
    )


def _previous(log: str, root: Any) -> str:
    for link in root.iterchildren(_ATOM + "link"):
        if link.get("rel") == "prev-archive":
            page = keys.parse_page(keys.feed_prefix(log) + link.get("href", ""))
            if page is None:
                raise Refused("feed /feed/link[@rel='prev-archive']", "a page's name", repr(link.get("href")))
            return page.key
    return ""


def _digest(where: str, text: str | None, digits: int = 64) -> str:
    """`text`, which may be missing: then ""."""
    if text is not None and not _HEX[digits].fullmatch(text):
        raise Refused(where, f"{digits} lower-case hexadecimal digits", repr(text[:80]))
    return text or ""


def _checkpoint(log: str, element: Any) -> Checkpoint | None:
    if element is None:
        return None
    where = "feed /feed/rf:checkpoint"
    return Checkpoint(
        log=log,
        seq=_number(f"{where}/@seq", element.get("seq")),
        chain=_digest(f"{where}/@chain", element.get("chain", "none")),
        time=_time(f"{where}/@time", element.get("time", "")),
        key=_digest(f"{where}/@key", element.get("key", "none")),
        signature=_digest(f"{where}/@signature", element.get("signature", "none"), 128),
    )


def _entry(feed_id: str, element: Any) -> Entry:
    texts: dict[str, str] = {}
    enclosure = None
    categories = []
    ambiguous = ""
    for child in element.iterchildren(tag=etree.Element):
        if child.tag in _TEXTS:
            if child.tag in texts or len(child):
                ambiguous = child.tag
            texts[child.tag] = child.text or ""
        elif child.tag == _ATOM + "link" and child.get("rel") == "enclosure":
            if enclosure is not None:
                ambiguous = child.tag
            enclosure = child
        elif child.tag == _ATOM + "category" and child.get("scheme", "").startswith(_URN):
            categories.append(Category(scheme=child.get("scheme").removeprefix(_URN), term=child.get("term", "")))
    where = f"feed entry {texts.get(_RF + 'seq', '?')[:20]}"
    if ambiguous:  # others might read the other one, and none would notice
        raise Refused(f"{where} /{etree.QName(ambiguous).localname}", "one, of nothing but text", "more")
    id = texts.get(_ATOM + "id", "")
    if not id.startswith(f"{feed_id}:"):
        raise Refused(f"{where} /id", f"{feed_id}:<id>", repr(id[:80]))
    if enclosure is None or not enclosure.get("href", "").startswith(_TO_ROOT):
        raise Refused(f"{where} /link[@rel='enclosure']", f"a link whose href starts with {_TO_ROOT}", "none")
    key = enclosure.get("href").removeprefix(_TO_ROOT)
    if not is_key(key):
        raise Refused(f"{where} /link[@rel='enclosure']", "an object of the bucket", repr(key[:80]))
    encoding = texts.get(_RF + "encoding", "identity")
    if encoding not in _ENCODINGS:
        raise Refused(f"{where} /rf:encoding", " or ".join(_ENCODINGS), repr(encoding[:80]))
    return Entry(
        seq=_number(f"{where} /rf:seq", texts.get(_RF + "seq")),
        batch=_number(f"{where} /rf:batch", texts.get(_RF + "batch")),
        id=id.removeprefix(f"{feed_id}:"),
        title=texts.get(_ATOM + "title", ""),
        key=key,
        sha256=keys.checked_sha256(texts.get(_RF + "sha256", ""), f"{where} /rf:sha256"),
        size_bytes=_number(f"{where} /link/@length", enclosure.get("length")),
        media_type=enclosure.get("type", ""),
        encoding=cast(Encoding, encoding),
        project=texts.get(_RF + "project", ""),
        summary=texts.get(_ATOM + "content", ""),
        categories=tuple(categories),
        withdraws=_digest(f"{where} /rf:withdraws", texts.get(_RF + "withdraws")),
        withdrawn=tuple(
            keys.checked_sha256(one, f"{where} /rf:withdrawn") for one in texts.get(_RF + "withdrawn", "").split()
        ),
        published=_time(f"{where} /published", texts.get(_ATOM + "published", "")),
        updated=_time(f"{where} /updated", texts.get(_ATOM + "updated", "")),
    )


def _number(where: str, text: str | None) -> int:
    if text is None or not _NUMBER.fullmatch(text):
        raise Refused(where, "a number", repr(text and text[:80]))
    return int(text)


def _time(where: str, text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise Refused(where, "a time with its zone", repr(text[:80]))
        return time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Refused(where, "a time (RFC 3339)", repr(text[:80])) from error
