"""What strangers' servers and subscribers send to the feed, as fuzzed: documents, indexes, forms, other feeds."""

import math
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import msgspec

from feed.atom import Document, Links, carriable, parse_document, render_document
from feed.chain import START, chained_all
from feed.hub import requests as hub_requests
from feed.index import parse_index
from infra.bucket import is_key
from ingest.source import feed as source_feed
from schemas import keys
from schemas.errors import Refused, Unavailable
from schemas.keys import SUBMISSIONS_LOG
from schemas.records import Category, Checkpoint, Entry, IndexedPages, LogIndex
from tests import second_log
from tests.small_log import START as WHEN

_BASE = "https://results.example"
_DIGEST = "0123456789abcdef" * 4
_PAGES = [keys.Page(SUBMISSIONS_LOG, first, first + 99, _DIGEST[:16]) for first in (1, 101, 201)]


def _entry(seq: int, **more: object) -> Entry:
    facts: dict[str, object] = {
        "seq": seq,
        "batch": seq,
        "id": _DIGEST,
        "title": "numpy: jmh result",
        "key": keys.blob(_DIGEST),
        "sha256": _DIGEST,
        "size_bytes": 12,
        "media_type": "application/json",
        "encoding": "gzip",
        "project": "numpy",
        "categories": (Category(scheme="project", term="numpy"), Category(scheme="format", term="jmh")),
        "published": WHEN,
        "updated": WHEN,
    }
    return carriable(Entry(**(facts | more)))  # type: ignore[arg-type]


def document_seeds() -> list[bytes]:
    withdrawal = _entry(
        8, id=keys.withdrawal_id(_DIGEST), key=keys.withdrawal(_DIGEST), withdraws=_DIGEST, withdrawn=(_DIGEST,)
    )
    place = {"previous": _PAGES[0].key, "previous_sha256": _DIGEST, "chain": _DIGEST, "authority": _DIGEST[:32]}
    checkpoint = Checkpoint(
        log=SUBMISSIONS_LOG, seq=8, chain=_DIGEST, time=WHEN, key=_DIGEST, signature=_DIGEST + _DIGEST
    )
    links = Links(base=_BASE, hubs=(f"{_BASE}/hub",))
    return [
        render_document(
            SUBMISSIONS_LOG, [_entry(7), withdrawal], archive=False, checkpoint=checkpoint, links=links, **place
        ),
        render_document(SUBMISSIONS_LOG, [_entry(7), _entry(8)], archive=True, **place),
        render_document("outcomes-v1", [_entry(1, id="000000000001-000000")], archive=False, previous=""),
        render_document(SUBMISSIONS_LOG, [], archive=False, previous=""),
    ]


def check_document(data: bytes) -> None:
    """A document or a named refusal; and what was read can be written and is read the same again."""
    try:
        document = parse_document(data)
    except Refused as refusal:
        return _assert_named(refusal.where, "feed")
    assert len(chained_all(START, document.entries)) == 64
    assert all(is_key(entry.key) for entry in document.entries)
    assert second_log.chain_of(data, START) == chained_all(START, document.entries), "others read something else"
    entries = tuple(carriable(entry) for entry in document.entries)
    said = {name: value for name, value in vars(document).items() if name not in ("log", "entries")}
    again = parse_document(render_document(document.log, entries, **said))
    assert again == Document(document.log, entries, **said)


def _assert_named(where: str, beginning: str) -> None:
    """A refusal says where."""
    assert where.startswith(beginning)
    assert where.strip()


def index_seeds() -> list[bytes]:
    lines = [IndexedPages(first=page.first, last=page.last, key=page.key, sha256=_DIGEST) for page in _PAGES]
    sealed = keys.sealed_index(SUBMISSIONS_LOG, 1, 100, _DIGEST[:16])
    part = IndexedPages(first=1, last=100, key=sealed, sha256=_DIGEST)
    return [
        msgspec.json.encode(LogIndex(log=SUBMISSIONS_LOG, earlier=[part], pages=lines[1:])),
        msgspec.json.encode(LogIndex(log=SUBMISSIONS_LOG, pages=lines)),
    ]


def check_index(data: bytes) -> None:
    """Pages of that log, ascending without gaps, or Unavailable with the key."""
    key = keys.feed_index(SUBMISSIONS_LOG)
    try:
        index = parse_index(key, data)
    except Unavailable as refusal:
        return _assert_named(str(refusal), key)
    lines = [*index.earlier, *index.pages]
    assert all(line.key.startswith(keys.feed_prefix(SUBMISSIONS_LOG)) and is_key(line.key) for line in lines)
    assert all(one.last + 1 == next.first for one, next in pairwise(lines))
    assert parse_index(key, msgspec.json.encode(index)) == index


def form_seeds() -> list[bytes]:
    topic = f"hub.topic={_BASE}/feeds/submissions/current.atom"
    return [
        f"hub.mode=subscribe&{topic}&hub.callback=https://reader.example/cb%3Fa=b&hub.lease_seconds=864000"
        "&hub.secret=secret".encode(),
        f"hub.mode=unsubscribe&{topic}&hub.callback=https://93.184.216.34:8443/%C3%A9?x".encode(),
        f"hub.mode=publish&hub.url={_BASE}/feeds/outcomes-v1/current.atom".encode(),
        b"hub.mode=subscribe&hub.callback=http://127.0.0.1/&hub.callback=http://[::1]/",
    ]


def check_form(data: bytes) -> None:
    """What a subscriber may ask, or a named refusal; a callback is asked nothing but its own URL and our questions."""
    try:
        wanted = hub_requests.parse_request(
            "application/x-www-form-urlencoded", data, {_BASE}, local=False, private=False
        )
    except Refused as refusal:
        return _assert_named(refusal.where, "")
    if wanted is None:
        return
    assert wanted.topic.startswith(_BASE)
    assert len(wanted.secret.encode()) < 200
    if wanted.mode == "subscribe":
        assert 60 <= wanted.lease_seconds <= 30 * 24 * 3600
    for asked in (hub_requests.intent_url(wanted, "challenge"), hub_requests.denial_url(wanted, "reason")):
        assert asked.startswith(wanted.callback)
        assert urlsplit(asked)[:3] == urlsplit(wanted.callback)[:3]
        assert parse_qs(urlsplit(asked).query)["hub.topic"][-1] == wanted.topic


def source_seeds() -> list[bytes]:
    rss = (
        '<?xml version="1.0"?><rss version="2.0" xmlns:media="http://search.yahoo.com/mrss/" '
        'xmlns:sy="http://purl.org/rss/1.0/modules/syndication/"><channel><title>t</title><ttl>60</ttl>'
        "<sy:updatePeriod>hourly</sy:updatePeriod><sy:updateFrequency>2</sy:updateFrequency>"
        '<item><guid>1</guid><enclosure url="/a.json" type="application/json" length="12"/></item>'
        '<item><link>https://vendor.example/2</link><media:content url="b.xml" medium="image" fileSize="7"/></item>'
        "</channel></rss>"
    )
    return [*document_seeds(), rss.encode()]


def check_source(data: bytes) -> None:
    """A feed within its bounds, or a problem; nothing else, whatever a vendor calls a feed."""
    feed = source_feed.parse_feed(data, url=f"{_BASE}/feed.xml", content_type="application/atom+xml")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(feed), type=source_feed.Feed) == feed
    assert len(feed.enclosures) <= source_feed.MAX_ENCLOSURES
    assert math.isfinite(feed.every_seconds)
    assert feed.every_seconds >= 0
    for one in feed.enclosures:
        assert one.url
        assert max(len(one.url), len(one.entry)) <= 2000
        assert one.size_bytes is None or one.size_bytes >= 0
