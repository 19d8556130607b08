"""What the standards demand of a feed document, as a table: RFC 4287 (Atom), 5005 (archives), 6721 (tombstones).

Written from the RFCs and for no feed in particular; it shares no code with `feed.atom`. SHOULDs that a stored log keeps
are among the rules, so that they stay kept. `tests/test_feed_readers.py` breaks each rule.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lxml import etree

ATOM = "{http://www.w3.org/2005/Atom}"
HISTORY = "{http://purl.org/syndication/history/1.0}"
TOMBSTONE = "{http://purl.org/atompub/tombstones/1.0}"
_XML = "{http://www.w3.org/XML/1998/namespace}"

_ONE, _AT_MOST_ONE, _ANY = (1, 1), (0, 1), (0, None)
_FEED: dict[str, tuple[int, int | None]] = {
    "id": _ONE, "title": _ONE, "updated": _ONE, "generator": _AT_MOST_ONE, "icon": _AT_MOST_ONE, "logo": _AT_MOST_ONE,
    "rights": _AT_MOST_ONE, "subtitle": _AT_MOST_ONE, "author": _ANY, "category": _ANY, "contributor": _ANY,
    "link": _ANY, "entry": _ANY,
}  # fmt: skip
_ENTRY: dict[str, tuple[int, int | None]] = {
    "id": _ONE, "title": _ONE, "updated": _ONE, "content": _AT_MOST_ONE, "published": _AT_MOST_ONE,
    "rights": _AT_MOST_ONE, "source": _AT_MOST_ONE, "summary": _AT_MOST_ONE, "author": _ANY, "category": _ANY,
    "contributor": _ANY, "link": _ANY,
}  # fmt: skip
_PERSON: dict[str, tuple[int, int | None]] = {"name": _ONE, "uri": _AT_MOST_ONE, "email": _AT_MOST_ONE}
_ATTRIBUTES = {
    "category": {"term", "scheme", "label"},
    "content": {"type", "src"},
    "generator": {"uri", "version"},
    "link": {"href", "rel", "type", "hreflang", "title", "length"},
    **{name: {"type"} for name in ("title", "subtitle", "summary", "rights")},
}
_RELATIONS = {
    "alternate", "related", "self", "enclosure", "via", "current", "prev-archive", "next-archive", "first", "last",
    "next", "previous", "hub",
}  # fmt: skip
"""Of IANA's registry, those that feeds use."""

_DATE = re.compile(
    r"\d{4}-(?:0[1-9]|1[0-2])-(?:[0-2]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?"
    r"(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_IRI_REFERENCE = re.compile(r'[^\s<>"{}|\\^`\x00-\x20]*')
_IRI = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*:[^\s<>"{}|\\^`\x00-\x20]+')
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_MEDIA_TYPE = re.compile(rf'{_TOKEN}/{_TOKEN}(?:\s*;\s*{_TOKEN}=(?:{_TOKEN}|"(?:[^"\\]|\\.)*"))*')


@dataclass(frozen=True)
class Rule:
    """`faults` yields one line for each place in the feed element that breaks it."""

    section: str
    faults: Callable[[Any], Iterator[str]]


def faults(body: bytes) -> list[str]:
    """What is wrong with a feed document, each with the RFC and section that says so; [] if nothing is."""
    try:
        feed = etree.fromstring(body, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError as error:
        return [f"RFC 4287 2: not well-formed: {error}"]
    if feed.tag != ATOM + "feed":
        return [f"RFC 4287 4.1.1: the document's element is {feed.tag}"]
    return [f"{rule.section}: {fault}" for rule in RULES for fault in rule.faults(feed)]


def _elements(feed: Any, *names: str) -> Iterator[Any]:
    yield from feed.iter(*(ATOM + name for name in names))


def _name(element: Any) -> str:
    return f"{etree.QName(element).localname} at line {element.sourceline}"


# --- RFC 4287 ---


def _one_vocabulary(feed: Any) -> Iterator[str]:
    known = {*_FEED, *_ENTRY, *_PERSON, "feed"}
    for element in feed.iter(ATOM + "*"):
        name = etree.QName(element).localname
        if name not in known:
            yield f"no element of Atom: {_name(element)}"
        allowed = _ATTRIBUTES.get(name, set()) | {_XML + "lang", _XML + "base"}
        for attribute in element.attrib:
            if attribute not in allowed and not attribute.startswith("{"):
                yield f"no attribute of it: {attribute} of {_name(element)}"


def _no_loose_text(feed: Any) -> Iterator[str]:
    for element in _elements(feed, "feed", "entry", "author", "contributor"):
        if any(text and text.strip() for text in [element.text, *(child.tail for child in element)]):
            yield f"text between the elements of {_name(element)}"


def _counted(parent: str, allowed: dict[str, tuple[int, int | None]]) -> Callable[[Any], Iterator[str]]:
    def count(feed: Any) -> Iterator[str]:
        for element in _elements(feed, *parent.split()):
            found = Counter(etree.QName(child).localname for child in element.iterchildren(ATOM + "*"))
            for name, (least, most) in allowed.items():
                if found[name] < least or (most is not None and found[name] > most):
                    yield f"{found[name]} of {name} in {_name(element)}"
            for name in found.keys() - allowed.keys():
                yield f"{name} in {_name(element)}"

    return count


def _everything_has_an_author(feed: Any) -> Iterator[str]:
    if feed.find(ATOM + "author") is None:
        for entry in _elements(feed, "entry"):
            if entry.find(ATOM + "author") is None and entry.find(f"{ATOM}source/{ATOM}author") is None:
                yield f"no author of {_name(entry)}"


def _alternates_differ(feed: Any) -> Iterator[str]:
    for element in _elements(feed, "feed", "entry"):
        alternates = [
            (link.get("type"), link.get("hreflang"))
            for link in element.iterchildren(ATOM + "link")
            if link.get("rel", "alternate") == "alternate"
        ]
        if len(alternates) != len(set(alternates)):
            yield f"alternate links of one type and language in {_name(element)}"


def _feed_names_itself(feed: Any) -> Iterator[str]:
    if sum(link.get("rel") == "self" for link in feed.iterchildren(ATOM + "link")) != 1:
        yield "not exactly one link to itself"


def _entries_come_last(feed: Any) -> Iterator[str]:
    names = [child.tag for child in feed.iterchildren(ATOM + "*")]
    if ATOM + "entry" in names and any(name != ATOM + "entry" for name in names[names.index(ATOM + "entry") :]):
        yield "the feed's own elements behind entries"


def _entries_differ(feed: Any) -> Iterator[str]:
    for id, count in Counter(entry.findtext(ATOM + "id") for entry in _elements(feed, "entry")).items():
        if count > 1:
            yield f"{count} entries of the id {id}"


def _content_or_alternate(feed: Any) -> Iterator[str]:
    for entry in _elements(feed, "entry"):
        rels = [link.get("rel", "alternate") for link in entry.iterchildren(ATOM + "link")]
        if entry.find(ATOM + "content") is None and "alternate" not in rels:
            yield f"neither content nor alternate link in {_name(entry)}"


def _text_constructs(feed: Any) -> Iterator[str]:
    for element in _elements(feed, "title", "subtitle", "summary", "rights"):
        if element.get("type", "text") not in ("text", "html", "xhtml"):
            yield f"type {element.get('type')!r} of {_name(element)}"
        elif element.get("type") != "xhtml" and len(element):
            yield f"elements in {_name(element)}"


def _content(feed: Any) -> Iterator[str]:
    for element in _elements(feed, "content"):
        type = element.get("type", "text")
        if type in ("text", "html") and len(element):
            yield f"elements in {_name(element)}"
        elif type not in ("text", "html", "xhtml") and not _MEDIA_TYPE.fullmatch(type):
            yield f"type {type!r} of {_name(element)}"


def _dates(feed: Any) -> Iterator[str]:
    for element in _elements(feed, "updated", "published"):
        if not _DATE.fullmatch(element.text or ""):
            yield f"{element.text!r} in {_name(element)}"


def _categories(feed: Any) -> Iterator[str]:
    for element in _elements(feed, "category"):
        if not element.get("term"):
            yield f"no term of {_name(element)}"
        if "scheme" in element.attrib and not _IRI.fullmatch(element.get("scheme")):
            yield f"scheme {element.get('scheme')!r} of {_name(element)}"


def _ids(feed: Any) -> Iterator[str]:
    for element in _elements(feed, "id"):
        if not _IRI.fullmatch(element.text or ""):
            yield f"{element.text!r} in {_name(element)}"


def _link_targets(feed: Any) -> Iterator[str]:
    for link in _elements(feed, "link"):
        if link.get("href") is None or not _IRI_REFERENCE.fullmatch(link.get("href")):
            yield f"href {link.get('href')!r} of {_name(link)}"


def _link_relations(feed: Any) -> Iterator[str]:
    for link in _elements(feed, "link"):
        rel = link.get("rel", "alternate")
        if rel not in _RELATIONS and not _IRI.fullmatch(rel):
            yield f"rel {rel!r} of {_name(link)}"


def _link_types(feed: Any) -> Iterator[str]:
    for link in _elements(feed, "link"):
        if "type" in link.attrib and not _MEDIA_TYPE.fullmatch(link.get("type")):
            yield f"type {link.get('type')!r} of {_name(link)}"


def _link_lengths(feed: Any) -> Iterator[str]:
    for link in _elements(feed, "link"):
        enclosure = link.get("rel") == "enclosure"
        if not re.fullmatch(r"\d+", link.get("length", "" if enclosure else "0"), re.ASCII):
            yield f"length {link.get('length')!r} of {_name(link)}"


# --- RFC 5005 ---


def _archived(feed: Any) -> Iterator[str]:
    rels = Counter(link.get("rel") for link in feed.iterchildren(ATOM + "link"))
    archive = feed.find(HISTORY + "archive") is not None
    if rels["prev-archive"] > 1:
        yield f"{rels['prev-archive']} links to the archive before"
    if archive and rels["current"] != 1:
        yield f"{rels['current']} links from an archive to the current document"
    if not archive and (rels["current"] or rels["next-archive"]):
        yield "the current document links as an archive does"


def _not_complete(feed: Any) -> Iterator[str]:
    if feed.find(HISTORY + "complete") is not None and feed.find(HISTORY + "archive") is not None:
        yield "complete and an archive"


# --- RFC 6721 ---


def _tombstones(feed: Any) -> Iterator[str]:
    seen = set()
    for element in feed.iter(TOMBSTONE + "deleted-entry"):
        ref, when = element.get("ref", ""), element.get("when", "")
        if element.getparent() is not feed:
            yield f"{_name(element)} in another element than the feed"
        if not _IRI.fullmatch(ref):
            yield f"ref {ref!r} of {_name(element)}"
        if not _DATE.fullmatch(when):
            yield f"when {when!r} of {_name(element)}"
        if (ref, when) in seen:
            yield f"a second one of the same ref and when: {_name(element)}"
        seen.add((ref, when))
        for name in ("by", "comment"):
            if len(element.findall(TOMBSTONE + name)) > 1:
                yield f"more than one {name} in {_name(element)}"


def _tombstones_delete(feed: Any) -> Iterator[str]:
    """An entry that was updated after the tombstone's `when` counts as not deleted."""
    updated = {entry.findtext(ATOM + "id"): entry.findtext(ATOM + "updated") for entry in _elements(feed, "entry")}
    for element in feed.iter(TOMBSTONE + "deleted-entry"):
        ref, when = element.get("ref", ""), element.get("when", "")
        dated = ref in updated and _DATE.fullmatch(when) and _DATE.fullmatch(updated[ref])
        if dated and datetime.fromisoformat(updated[ref]) > datetime.fromisoformat(when):
            yield f"{_name(element)} is of {when}, but its entry of {updated[ref]}"


RULES = (
    Rule("RFC 4287 6.1", _one_vocabulary),
    Rule("RFC 4287 2", _no_loose_text),
    Rule("RFC 4287 4.1.1", _counted("feed", _FEED)),
    Rule("RFC 4287 4.1.2", _counted("entry", _ENTRY)),
    Rule("RFC 4287 3.2", _counted("author contributor", _PERSON)),
    Rule("RFC 4287 4.2.1", _everything_has_an_author),
    Rule("RFC 4287 4.1.1 (alternate)", _alternates_differ),
    Rule("RFC 4287 4.1.1 (self)", _feed_names_itself),
    Rule("RFC 4287 4.1.1 (order)", _entries_come_last),
    Rule("RFC 4287 4.1.1 (ids)", _entries_differ),
    Rule("RFC 4287 4.1.2 (content)", _content_or_alternate),
    Rule("RFC 4287 3.1", _text_constructs),
    Rule("RFC 4287 4.1.3", _content),
    Rule("RFC 4287 3.3", _dates),
    Rule("RFC 4287 4.2.2", _categories),
    Rule("RFC 4287 4.2.6", _ids),
    Rule("RFC 4287 4.2.7.1", _link_targets),
    Rule("RFC 4287 4.2.7.2", _link_relations),
    Rule("RFC 4287 4.2.7.3", _link_types),
    Rule("RFC 4287 4.2.7.6", _link_lengths),
    Rule("RFC 5005 4", _archived),
    Rule("RFC 5005 2", _not_complete),
    Rule("RFC 6721 3", _tombstones),
    Rule("RFC 6721 3 (when)", _tombstones_delete),
)
