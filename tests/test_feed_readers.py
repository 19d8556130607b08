"""Stored logs as others see them: three independent readers, the rules of the RFCs, a walker that knows RFC 5005 alone.

feedparser is Python over expat, atoma refuses what lacks an id, a title or a time, feedparser-rs is Rust; none shares
code with `feed.atom` (lxml) or with another.
"""

import functools
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urljoin

import atoma
import feedparser
import feedparser_rs
import httpx
import jsonfeed
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import Litestar
from litestar.testing import TestClient
from lxml import etree

from dashboard_api.api import api_routes, openapi_config
from feed.announceable import describe_outcome, write_marker
from feed.announcer import Announcer
from feed.atom import (
    EMPTY_UPDATED,
    Document,
    Links,
    carriable,
    feed_id,
    parse_document,
    render_document,
)
from feed.chain import START as CHAIN_START
from feed.chain import chained_all
from feed.hub.content import content_after
from feed.log import LogReader
from feed.signing import Signer
from infra.bucket import Bucket, Buckets
from schemas import keys
from schemas.records import Category, Checkpoint, Entry, Outcome, SubmissionOutcome
from tests import sample_dashboard, small_log
from tests.atom_rules import RULES, faults
from tests.small_log import LOG, START, all_entries, documents

AT = "https://results.example/runfeed/"
LINKS = Links(base=AT.rstrip("/"), hubs=("https://results.example/hub",))
HOSTILE = "</title><script>alert('1')</script> &amp; ]]> \u202e é \U0001f600 \u0007 %0d%0a"


@dataclass(frozen=True)
class Seen:
    """An entry as a reader shows it. Times are in UTC, links absolute."""

    id: str
    title: str
    text: str
    published: datetime
    updated: datetime
    alternate: str
    enclosure: tuple[str, str, int]
    terms: tuple[str, ...]


def by_feedparser(body: bytes, at: str) -> list[Seen]:
    feed = feedparser.parse(body, response_headers={"content-location": at, "content-type": "application/atom+xml"})
    assert not feed.bozo, feed.bozo_exception
    assert feed.version == "atom10"
    return [
        Seen(
            entry.id,
            entry.title,
            entry.content[0].value,
            datetime.fromisoformat(entry.published).astimezone(UTC),
            datetime.fromisoformat(entry.updated).astimezone(UTC),
            next((link.href for link in entry.links if link.rel == "alternate"), ""),
            *((one.href, one.type, int(one.length)) for one in entry.enclosures),
            tuple(tag.term for tag in entry.get("tags", [])),
        )
        for entry in feed.entries
    ]


def by_atoma(body: bytes, at: str) -> list[Seen]:
    feed = atoma.parse_atom_bytes(body)
    return [
        Seen(
            entry.id_,
            entry.title.value,
            entry.content.value,
            entry.published.astimezone(UTC),
            entry.updated.astimezone(UTC),
            next((urljoin(at, link.href) for link in entry.links if link.rel == "alternate"), ""),
            *((urljoin(at, one.href), one.type_, one.length) for one in entry.links if one.rel == "enclosure"),
            tuple(category.term for category in entry.categories),
        )
        for entry in feed.entries
    ]


def by_feedparser_rs(body: bytes, at: str) -> list[Seen]:
    feed = feedparser_rs.parse(body, sanitize_html=False)  # else it takes tags out of plain text too
    assert not feed.bozo, feed.bozo_exception
    assert feed.version == "atom10"
    return [
        Seen(
            entry.id,
            entry.title,
            entry.content[0].value,
            datetime.fromisoformat(entry.published).astimezone(UTC),
            datetime.fromisoformat(entry.updated).astimezone(UTC),
            next((urljoin(at, link.href) for link in entry.links if link.rel == "alternate"), ""),
            *((urljoin(at, one.href), one.type, int(one.length)) for one in entry.enclosures),
            tuple(tag.term for tag in entry.tags),
        )
        for entry in feed.entries
    ]


READERS = {"feedparser": by_feedparser, "atoma": by_atoma, "feedparser-rs": by_feedparser_rs}


def promised(entry: Entry, feed: str, log: str = LOG) -> Seen:
    """What every reader should see of `entry`."""
    page = ""
    if log == LOG:
        shown = entry.withdrawn[0] if entry.withdraws else entry.id
        page = f"{AT}submissions/{shown}"
    return Seen(
        f"{feed}:{entry.id}",
        entry.title,
        entry.summary,
        entry.published,
        entry.updated,
        page,
        (AT + entry.key, entry.media_type, entry.size_bytes),
        tuple(category.term for category in entry.categories),
    )


@pytest.fixture
def buckets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Buckets:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    return small_log.buckets_in(tmp_path)


@pytest.fixture
def submissions(buckets: Buckets) -> Buckets:
    """Pages and a head with ordinary entries, hostile words and two withdrawals."""
    announcer = small_log.make_announcer(buckets, links=LINKS)
    for number in range(1, 24):
        submitted = {7: {"environment": HOSTILE}, 8: {"format": "jmh"}, 9: {"environment": "ci <linux> & more"}}
        small_log.submit(buckets, number, **submitted.get(number, {}))
        if number % 3 == 0:
            announcer.commit()
        if number in (10, 22):
            small_log.withdraw(buckets, number, reason=f"a token: {HOSTILE}", when=small_log.received(number + 1))
    while announcer.commit():
        pass
    return buckets


@pytest.fixture
def outcomes(buckets: Buckets) -> Buckets:
    log = keys.outcomes_log(1)
    announcer = Announcer(
        buckets,
        LogReader(buckets.public, log),
        describe_outcome,
        clock=small_log.Clock(),
        signer=Signer.of(buckets.private),
        head_keep=4,
        threads=1,
    )
    for first in range(1, 12):
        outcome = Outcome(
            first=first,
            last=first,
            revision=0,
            nonce=keys.new_nonce(START + timedelta(seconds=first)),
            through=first,
            transform_version=1,
            submissions=[
                SubmissionOutcome(seq=first, id="a" * 64, verdict="accepted", format="jmh", runs=1, measurements=12),
                SubmissionOutcome(seq=first, id="b" * 64, verdict="rejected", format=""),
            ],
            parts=[],
            finished=START + timedelta(seconds=first),
        )
        buckets.public.create(keys.outcome(1, first, 0), msgspec.json.encode(outcome))
        write_marker(buckets.private, keys.Marker(log, "p", outcome.nonce, keys.outcome_id(first, 0)))
        assert announcer.commit() == 1
    return buckets


def seen_by(reader: Callable[[bytes, str], list[Seen]], public: Bucket, log: str) -> list[Seen]:
    """The whole log, newest first."""
    return [one for key, body in documents(public, log).items() for one in reader(body, AT + key)]


@pytest.mark.parametrize("name", READERS)
def test_every_reader_sees_the_submissions_log_as_it_was_written(name: str, submissions: Buckets) -> None:
    """Ids, titles, texts, times, links, enclosures with type and length, categories; hostile words and withdrawals."""
    entries = all_entries(submissions.public)
    assert [entry.seq for entry in entries] == list(range(1, 26))
    assert sum(entry.withdraws != "" for entry in entries) == 2
    assert any("<script>" in entry.title for entry in entries)
    feed = parse_document(submissions.public.read(keys.feed_head(LOG)))
    promises = [promised(entry, feed_id(LOG, feed.authority)) for entry in reversed(entries)]
    assert seen_by(READERS[name], submissions.public, LOG) == promises


@pytest.mark.parametrize("name", READERS)
def test_every_reader_sees_the_outcomes_log_as_it_was_written(name: str, outcomes: Buckets) -> None:
    log = keys.outcomes_log(1)
    entries = all_entries(outcomes.public, log)
    assert len(entries) == 11
    head = parse_document(outcomes.public.read(keys.feed_head(log)))
    promises = [promised(entry, feed_id(log, head.authority), log) for entry in reversed(entries)]
    assert seen_by(READERS[name], outcomes.public, log) == promises
    assert promises[0].terms == ("", "jmh", "accepted", "rejected")[1:]
    assert "12 measurements" in promises[0].text


def test_a_reader_finds_what_a_withdrawal_withdraws(submissions: Buckets) -> None:
    """The tombstone's ref is the id of an entry, which a reader then hides; its `when` is not before that entry's."""
    entries = {entry.id: entry for entry in all_entries(submissions.public)}
    refs = []
    for body in documents(submissions.public).values():
        for tombstone in etree.fromstring(body).iter("{http://purl.org/atompub/tombstones/1.0}deleted-entry"):
            refs.append(tombstone.get("ref"))
            deleted = entries[tombstone.get("ref").rpartition(":")[2]]
            assert datetime.fromisoformat(tombstone.get("when")) >= deleted.updated
            assert "a token" in "".join(tombstone.itertext())
    assert [ref.rpartition(":")[2] for ref in refs] == [small_log.id_of(22), small_log.id_of(10)]


@pytest.mark.parametrize("name", READERS)
def test_every_reader_sees_in_a_delivery_what_is_new_and_nothing_else(name: str, submissions: Buckets) -> None:
    """What our hub sends to a subscriber that has come to any entry is a valid feed of those behind it."""
    entries = all_entries(submissions.public)
    reader = LogReader(submissions.public, LOG)
    for seq in (0, 3, len(entries) - 2, len(entries) - 1):
        content = content_after(reader, seq, f"{AT}feeds/{LOG}/current.atom", "")
        assert content
        assert faults(content.body) == []
        seen = READERS[name](content.body, AT + keys.feed_head(LOG))
        assert [one.id.rpartition(":")[2] for one in seen] == [entry.id for entry in reversed(entries[seq:])]
    assert content_after(reader, len(entries), f"{AT}feeds/{LOG}/current.atom", "") is None


# --- rules of the RFCs ---


@pytest.mark.parametrize("log", [LOG, keys.outcomes_log(1)])
def test_every_stored_document_keeps_the_rules(log: str, submissions: Buckets, outcomes: Buckets) -> None:
    found = documents(submissions.public, log)
    assert len(found) >= 2
    for key, body in found.items():
        assert faults(body) == [], key


def test_a_log_without_an_entry_keeps_the_rules() -> None:
    """What a reader gets that subscribes before the first result is there."""
    body = render_document(LOG, [], archive=False, previous="", chain=CHAIN_START, links=LINKS)
    assert faults(body) == []
    for name, reader in READERS.items():
        assert reader(body, AT) == [], name


ENTRY = Entry(
    seq=1,
    batch=1,
    id="a" * 64,
    title="p: result",
    key=keys.blob("b" * 64),
    sha256="b" * 64,
    size_bytes=7,
    media_type="text/plain",
    project="p",
    summary="7 bytes of text/plain",
    categories=(Category(scheme="project", term="p"),),
    published=START,
    updated=START,
)
WITHDRAWAL = msgspec.structs.replace(
    ENTRY, seq=2, batch=2, id=keys.withdrawal_id("b" * 64), withdraws="b" * 64, withdrawn=("a" * 64,)
)
GOOD = render_document(LOG, [ENTRY, WITHDRAWAL], archive=False, previous="", links=LINKS).decode()
PAGE = render_document(LOG, [ENTRY, WITHDRAWAL], archive=True, previous="").decode()

BREAKS = {
    "no element": (GOOD, "<entry>", "<entry><colour>red</colour>", "RFC 4287 6.1"),
    "no attribute": (GOOD, '<category term="p"', '<category colour="red" term="p"', "RFC 4287 6.1"),
    "loose text": (GOOD, "<entry>", "<entry>red", "RFC 4287 2"),
    "two titles": (GOOD, "<subtitle>", "<title>red</title><subtitle>", "RFC 4287 4.1.1"),
    "no title of an entry": (GOOD, "<title>p: result</title>", "", "RFC 4287 4.1.2"),
    "an unnamed author": (GOOD, "<name>p</name>", "", "RFC 4287 3.2"),
    "no author": (GOOD, r"<author>\s*<name>\w+</name>\s*</author>", "", "RFC 4287 4.2.1"),
    "alternates": (GOOD, '(<link href="[^"]*" rel="alternate"[^>]*>)', r"\1\1", "RFC 4287 4.1.1 (alternate)"),
    "no self": (GOOD, 'rel="self"', 'rel="via"', "RFC 4287 4.1.1 (self)"),
    "order": (GOOD, "</feed>", '<link href="x" rel="via"/></feed>', "RFC 4287 4.1.1 (order)"),
    "ids": (GOOD, "withdrawal-" + "b" * 64 + "</id>", "a" * 64 + "</id>", "RFC 4287 4.1.1 (ids)"),
    "no content": (
        GOOD.replace('rel="alternate"', 'rel="via"'),
        "<content[^>]*>[^<]*</content>",
        "",
        "RFC 4287 4.1.2 (content)",
    ),
    "text": (GOOD, "<title>Runfeed:", '<title type="text/plain">Runfeed:', "RFC 4287 3.1"),
    "content": (GOOD, '<content type="text">', '<content type="text"><rf:b/>', "RFC 4287 4.1.3"),
    "date": (GOOD, "<published>2026-01-01T", "<published>2026-01-01 ", "RFC 4287 3.3"),
    "term": (GOOD, 'term="p"', "", "RFC 4287 4.2.2"),
    "id": (GOOD, "<id>urn:x-", "<id>/x-", "RFC 4287 4.2.6"),
    "href": (GOOD, 'href="../../blobs/', 'href="<red> '.replace("<", "&lt;"), "RFC 4287 4.2.7.1"),
    "rel": (GOOD, 'rel="related"', 'rel="reddish"', "RFC 4287 4.2.7.2"),
    "type": (GOOD, 'type="text/plain"', 'type="plain"', "RFC 4287 4.2.7.3"),
    "length": (GOOD, ' length="7"', "", "RFC 4287 4.2.7.6"),
    "archive": (PAGE, 'rel="current"', 'rel="via"', "RFC 5005 4"),
    "head as an archive": (GOOD, 'rel="self"', 'rel="current"', "RFC 5005 4"),
    "complete": (PAGE, "<fh:archive/>", "<fh:archive/><fh:complete/>", "RFC 5005 2"),
    "ref": (GOOD, ' ref="urn:', ' ref="/urn', "RFC 6721 3"),
    "twice": (GOOD, "(<at:deleted-entry .*?</at:deleted-entry>)", r"\1\1", "RFC 6721 3"),
    "when": (GOOD, ' when="2026', ' when="2025', "RFC 6721 3 (when)"),
    "a page's when": (PAGE, ' when="2026', ' when="yesterday', "RFC 6721 3"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_the_rules_find_what_is_wrong(name: str) -> None:
    body, old, new, section = BREAKS[name]
    assert faults(body.encode()) == []
    broken = re.sub(old, new, body, flags=re.DOTALL)
    assert broken != body
    assert section in {fault.partition(": ")[0] for fault in faults(broken.encode())}


def test_every_rule_is_broken_by_one_of_these() -> None:
    assert {section for *_, section in BREAKS.values()} == {rule.section for rule in RULES}


def test_what_is_no_feed_is_no_valid_one() -> None:
    assert faults(b"<feed")
    assert faults(b"<rss/>")


# --- any text ---

digests = st.text("0123456789abcdef", min_size=64, max_size=64)
seqs = st.integers(1, 10**12 - 1)
times = st.timedeltas(timedelta(0), timedelta(days=2_900_000)).flatmap(
    lambda passed: st.sampled_from([UTC, timezone(timedelta(hours=-7))]).map((EMPTY_UPDATED + passed).astimezone)
)
hostile = st.one_of(
    st.text(st.characters() | st.sampled_from("\0\x1b\t\n\r\u2028\ufffe\ud800<>&\"']")),
    st.sampled_from(["]]>", "<![CDATA[", "&#0;", "&lt;", "<?xml?>", "<!-- -->", " ", "\r\n", "http://", "{", "\u202e"]),
)
projects = st.from_regex(keys.PROJECT, fullmatch=True)
entries_of_any_text = st.builds(
    Entry,
    seq=seqs,
    batch=seqs,
    id=digests,
    title=hostile,
    key=digests.map(keys.blob),
    sha256=digests,
    size_bytes=st.integers(0, 10**15),
    media_type=hostile,
    encoding=st.sampled_from(["identity", "gzip", "zstd"]),
    project=projects,
    summary=hostile,
    categories=st.lists(
        st.builds(Category, scheme=st.sampled_from(["project", "format", "verdict"]), term=hostile.filter(bool)),
        max_size=3,
    ).map(tuple),
    withdraws=digests | st.just(""),
    withdrawn=st.lists(digests, max_size=3, unique=True).map(tuple),
    published=times,
    updated=times,
).map(carriable)
checkpoints = st.builds(
    Checkpoint,
    log=st.just(LOG),
    seq=seqs,
    chain=digests,
    time=times,
    key=digests,
    signature=st.text("0123456789abcdef", min_size=128, max_size=128),
)


documents_of_any_text = st.builds(
    Document,
    log=st.just(LOG),
    entries=st.lists(entries_of_any_text, max_size=3, unique_by=lambda entry: entry.id).map(tuple),
    archive=st.booleans(),
    previous=st.sampled_from(["", keys.Page(LOG, 1, 6, "0123456789abcdef").key]),
    previous_sha256=digests | st.just(""),
    chain=digests | st.just(""),
    authority=digests.map(lambda digest: digest[:32]) | st.just(""),
    checkpoint=checkpoints | st.none(),
)


def rendered(document: Document) -> bytes:
    said = dict(vars(document))
    return render_document(said.pop("log"), said.pop("entries"), **said)


@given(documents_of_any_text)
def test_any_document_comes_back_exactly_and_can_be_written_again(document: Document) -> None:
    """All fields, hostile text; what was read gives the same bytes and the same chain, so a mirror can make its own."""
    body = rendered(document)
    found = parse_document(body)
    assert found == document
    assert rendered(found) == body
    assert chained_all(CHAIN_START, found.entries) == chained_all(CHAIN_START, document.entries)


@given(entries_of_any_text.map(lambda entry: msgspec.structs.replace(entry, media_type="text/plain", withdrawn=())))
def test_any_text_makes_a_valid_feed(entry: Entry) -> None:
    """No title, reason or category that somebody thinks of breaks a rule."""
    assert faults(render_document(LOG, [entry], archive=True, previous="", links=LINKS)) == []


# --- a walker that knows only RFC 5005 ---


class Quiet(SimpleHTTPRequestHandler):
    """Any static server: a mirror needs no more."""

    extensions_map = {".atom": "application/atom+xml"}  # noqa: RUF012 - so it is in the parent
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""


@pytest.fixture
def static(tmp_path: Path, buckets: Buckets) -> Iterator[str]:
    """The public bucket's folder, served by Python's own static server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path / "public"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


class Walker:
    """Reconstructs a logical feed as RFC 5005 section 4.2 says, with feedparser and nothing that it knows of us.

    Archives that it has it does not fetch again; of entries of one id the one updated last counts.
    """

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.archives: dict[str, feedparser.FeedParserDict] = {}

    def walk(self, subscription: str) -> dict[str, feedparser.FeedParserDict]:
        feed = self._read(subscription)
        assert "fh_archive" not in feed.feed
        feeds = [feed]
        while link := self._link(feeds[-1], "prev-archive"):
            if link not in self.archives:
                self.archives[link] = self._read(link)
            feeds.append(self.archives[link])
            assert "fh_archive" in feeds[-1].feed
            assert self._link(feeds[-1], "current") == subscription
        found: dict[str, feedparser.FeedParserDict] = {}
        for entry in [entry for feed in feeds for entry in feed.entries]:
            if entry.id not in found or entry.updated_parsed > found[entry.id].updated_parsed:
                found[entry.id] = entry
        return found

    def _read(self, url: str) -> feedparser.FeedParserDict:
        answer = self.client.get(url).raise_for_status()
        assert answer.headers["content-type"].startswith("application/atom+xml")
        feed = feedparser.parse(answer.content, response_headers={"content-location": url, **answer.headers})
        assert not feed.bozo
        return feed

    @staticmethod
    def _link(feed: feedparser.FeedParserDict, rel: str) -> str:
        return next((link.href for link in feed.feed.links if link.rel == rel), "")


def test_a_walker_of_archives_finds_exactly_all_entries_while_more_are_written(static: str, buckets: Buckets) -> None:
    """Every walk, begun at any moment, reconstructs 1..n for some n that never falls; the last one all of them."""
    total, failures = 240, []
    announcer = small_log.make_announcer(buckets, head_keep=8)
    small_log.submit(buckets, 1)
    announcer.commit()

    def write() -> None:
        try:
            for number in range(2, total + 1):
                small_log.submit(buckets, number)
                if number % 7 == 0 or number == total:
                    announcer.commit()
        except BaseException as error:  # noqa: BLE001 - reported below
            failures.append(error)

    writer = threading.Thread(target=write)
    counts = []
    with httpx.Client() as client:
        walker = Walker(client)
        writer.start()
        while not counts or counts[-1] < total:
            found = walker.walk(f"{static}/feeds/{LOG}/current.atom")
            seqs = sorted(int(entry.rf_seq) for entry in found.values())
            assert seqs == list(range(1, len(seqs) + 1))
            counts.append(len(seqs))
            assert not failures, failures
        fresh = Walker(client).walk(f"{static}/feeds/{LOG}/current.atom")
    writer.join()
    assert counts == sorted(counts)
    assert len(set(counts)) > 2, "the walks saw no log in the making"
    assert sorted(fresh) == sorted(found)
    enclosures = {urljoin(static, one.href) for entry in fresh.values() for one in entry.enclosures}
    with httpx.Client() as client:
        blobs = {client.get(url).raise_for_status().content for url in enclosures}
    assert blobs == {small_log.blob_of(number) for number in range(1, total + 1)}


# --- rendered feeds ---

RENDERED = ["runs", "submissions"]


@pytest.fixture(scope="module")
def rendered_feeds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient[Litestar]]:
    made = sample_dashboard.filled(tmp_path_factory.mktemp("dashboard"), commits=6)
    app = Litestar(api_routes(made), openapi_config=openapi_config(), logging_config=None)
    with TestClient(app) as client:
        yield client
    made.opened.close()


def pages_of(client: TestClient[Litestar], url: str) -> Iterator[bytes]:
    """Along rel=next, as RFC 5005 section 3 has it."""
    while url:
        body = client.get(url).raise_for_status().content
        yield body
        links = etree.fromstring(body).findall("{http://www.w3.org/2005/Atom}link")
        url = next((link.get("href") for link in links if link.get("rel") == "next"), "")


@pytest.mark.parametrize("kind", RENDERED)
def test_every_page_of_a_rendered_feed_keeps_the_rules(kind: str, rendered_feeds: TestClient[Litestar]) -> None:
    pages = list(pages_of(rendered_feeds, f"/api/v1/{kind}.atom?limit=5"))
    assert len(pages) > 1
    for body in pages:
        assert faults(body) == []


@pytest.mark.parametrize("kind", RENDERED)
def test_readers_of_a_rendered_feed_see_what_readers_of_its_json_feed_see(
    kind: str, rendered_feeds: TestClient[Litestar]
) -> None:
    """Atom by three readers, JSON Feed by three: the same entries in the same order."""
    atom = rendered_feeds.get(f"/api/v1/{kind}.atom").content
    json_feed = rendered_feeds.get(f"/api/v1/{kind}.feed.json").content
    titles = {
        "feedparser": [(one.id, one.title) for one in feedparser.parse(atom).entries],
        "atoma": [(one.id_, one.title.value) for one in atoma.parse_atom_bytes(atom).entries],
        "feedparser-rs": [(one.id, one.title) for one in feedparser_rs.parse(atom, sanitize_html=False).entries],
        "jsonfeed-util": [(one.id, one.title) for one in jsonfeed.Feed.parse_string(json_feed.decode()).items],
        "atoma, JSON": [(one.id_, one.title) for one in atoma.parse_json_feed_bytes(json_feed).items],
        "feedparser-rs, JSON": [
            (one.id, one.title) for one in feedparser_rs.parse(json_feed, sanitize_html=False).entries
        ],
    }
    assert len(titles["feedparser"]) > 5
    for name, seen in titles.items():
        assert seen == titles["feedparser"], name
