"""Atom documents: exact round trip, deterministic bytes, readable by an ordinary feed reader, safe to parse."""

import re
from datetime import UTC, datetime, timedelta, timezone

import feedparser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed.atom import EMPTY_UPDATED, Document, carriable, parse_document, render_document, rendered_size
from schemas import keys
from schemas.errors import Refused
from schemas.records import Entry

LOG = keys.SUBMISSIONS_LOG
PREVIOUS = keys.Page(LOG, 1, 6, "0123456789abcdef").key
WHEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

illegal = st.characters(max_codepoint=0x1F, exclude_characters="\t\n\r") | st.sampled_from("\ufffe\uffff\ud800\udfff")
legal_text = st.text(
    st.characters(exclude_categories=("Cs",)).filter(lambda c: ord(c) >= 32) | st.sampled_from("\t\n\r")
)
zones = st.just(UTC) | st.just(timezone(timedelta(hours=-7)))
times = st.timedeltas(timedelta(0), timedelta(days=2_900_000)).flatmap(
    lambda passed: zones.map((EMPTY_UPDATED + passed).astimezone)
)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)


def make_entry(seq: int = 7, **changes: object) -> Entry:
    digest = f"{seq:064x}"
    facts: dict[str, object] = {
        "seq": seq,
        "batch": seq,
        "id": digest,
        "title": "numpy: result of 0123456789ab",
        "key": keys.blob(digest),
        "sha256": digest,
        "size_bytes": 12345,
        "media_type": "application/json",
        "encoding": "gzip",
        "project": "numpy",
        "published": WHEN,
        "updated": WHEN + timedelta(seconds=seq % 1000),
    }
    return Entry(**(facts | changes))  # type: ignore[arg-type]


def entries_of(text: st.SearchStrategy[str]) -> st.SearchStrategy[Entry]:
    return st.builds(
        make_entry,
        seq=st.integers(1, 10**12 - 1),
        batch=st.integers(1, 10**12 - 1),
        id=digests,
        title=text,
        media_type=text,
        project=text,
        size_bytes=st.integers(0, 10**15),
        encoding=st.sampled_from(["identity", "gzip", "zstd"]),
        published=times,
        updated=times,
    )


@given(st.lists(entries_of(legal_text).map(carriable), max_size=4), st.booleans(), st.sampled_from(["", PREVIOUS]))
def test_a_document_round_trips_exactly(entries: list[Entry], archive: bool, previous: str) -> None:
    body = render_document(LOG, entries, archive=archive, previous=previous)
    assert parse_document(body) == Document(LOG, tuple(entries), archive, previous)
    assert render_document(LOG, parse_document(body).entries, archive=archive, previous=previous) == body


@given(entries_of(st.text(st.characters() | illegal)))
def test_any_text_can_be_made_carriable(entry: Entry) -> None:
    """What XML cannot carry is replaced, and what it can is left alone."""
    entry = carriable(entry)
    assert carriable(entry) is entry
    assert parse_document(render_document(LOG, [entry], archive=True, previous="")).entries == (entry,)


def test_only_what_xml_cannot_carry_is_replaced() -> None:
    entry = carriable(make_entry(title="a\0b\x1fc\t]]>é\U0001f600\ud800", project=""))
    assert entry.title == "a\ufffdb\ufffdc\t]]>é\U0001f600\ufffd"
    assert carriable(make_entry(title="", id="f" * 64)).title == "f" * 64


def test_the_same_entries_give_the_same_bytes_whatever_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are named by their digest, so nothing of the moment or of the library's version may leak in."""
    entries = [make_entry(7), make_entry(8)]
    body = render_document(LOG, entries, archive=True, previous=PREVIOUS)
    monkeypatch.setattr("feedgen.version.version_str", "9.9.9")
    assert render_document(LOG, entries, archive=True, previous=PREVIOUS) == body
    text = body.decode()
    updated = entries[-1].updated.isoformat()
    assert re.findall("<updated>(.*?)</updated>", text) == [updated, updated, entries[0].updated.isoformat()]
    assert "<generator>Runfeed</generator>" in text


def test_an_empty_log_is_a_valid_document() -> None:
    body = render_document("outcomes-v1", [], archive=False, previous="")
    assert parse_document(body) == Document("outcomes-v1", (), False, "")
    assert EMPTY_UPDATED.isoformat() in body.decode()


def read_as_stranger(body: bytes, at: str) -> feedparser.FeedParserDict:
    return feedparser.parse(body, response_headers={"content-location": at, "content-type": "application/atom+xml"})


def test_an_ordinary_reader_sees_entries_and_enclosures() -> None:
    """feedparser finds the newest first, with type and length of each enclosure and links resolved on any mirror."""
    at = "https://mirror.example/copy/feeds/submissions/current.atom"
    entries = [carriable(make_entry(7)), carriable(make_entry(8))]
    body = render_document(LOG, entries, archive=False, previous=PREVIOUS)
    feed = read_as_stranger(body, at)
    assert not feed.bozo
    assert feed.version == "atom10"
    assert feed.feed.id == "urn:x-runfeed:submissions"
    assert [int(entry.rf_seq) for entry in feed.entries] == [8, 7]
    entry = feed.entries[1]
    digest = f"{7:064x}"
    assert entry.id == f"urn:x-runfeed:submissions:{digest}"
    assert entry.title == "numpy: result of 0123456789ab"
    assert entry.content[0].value == "12,345 bytes of application/json, gzip"
    assert entry.published == WHEN.isoformat()
    assert feed.feed.author == "Runfeed"
    assert (entry.rf_sha256, entry.rf_project, entry.rf_batch, entry.rf_encoding) == (digest, "numpy", "7", "gzip")
    assert [(link.href, link.type, link.length) for link in entry.enclosures] == [
        (f"https://mirror.example/copy/blobs/00/{digest}", "application/json", "12345")
    ]
    related = [link.href for link in entry.links if link.rel == "related"]
    assert related == [f"https://mirror.example/copy/submissions/00/{digest}.json"]
    links = {link.rel: link.href for link in feed.feed.links}
    assert links == {"self": at, "prev-archive": "https://mirror.example/copy/" + PREVIOUS}


def test_a_page_is_marked_and_leads_back_to_the_head_and_to_itself() -> None:
    at = "https://mirror.example/feeds/submissions/000000000007-000000000007-fedcba9876543210.atom"
    body = render_document(LOG, [make_entry(7)], archive=True, previous=PREVIOUS)
    feed = read_as_stranger(body, at)
    assert {link.rel: link.href for link in feed.feed.links} == {
        "self": at,
        "current": "https://mirror.example/feeds/submissions/current.atom",
        "prev-archive": "https://mirror.example/" + PREVIOUS,
    }
    assert b'xmlns:fh="http://purl.org/syndication/history/1.0"' in body
    assert b"<fh:archive/>" in body
    assert b"<fh:archive/>" not in render_document(LOG, [make_entry(7)], archive=False, previous=PREVIOUS)


def test_an_outcome_links_its_json_and_no_submission() -> None:
    key = keys.outcome(1, 12, 1)
    entry = make_entry(3, id=keys.outcome_id(12, 1), key=key, encoding="identity", project="")
    body = render_document("outcomes-v1", [entry], archive=False, previous="")
    assert parse_document(body).entries == (entry,)
    feed = read_as_stranger(body, "https://mirror.example/feeds/outcomes-v1/current.atom")
    assert [(link.rel, link.href) for link in feed.entries[0].links] == [("enclosure", f"https://mirror.example/{key}")]


def test_the_estimated_size_is_near_the_truth() -> None:
    entries = [make_entry(seq) for seq in range(1, 101)]
    truth = len(render_document(LOG, entries, archive=True, previous=PREVIOUS))
    assert 0.9 * truth < sum(map(rendered_size, entries)) < 1.3 * truth


GOOD = render_document(LOG, [make_entry(7)], archive=False, previous=PREVIOUS).decode()


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("<rf:seq>7", "<rf:seq>seven", "rf:seq"),
        ("<rf:seq>7", "<rf:seq>٧", "rf:seq"),
        ("<rf:batch>7</rf:batch>", "", "rf:batch"),
        ("<rf:sha256>00", "<rf:sha256>XX", "rf:sha256"),
        ("<rf:encoding>gzip", "<rf:encoding>rar", "rf:encoding"),
        ('length="12345"', 'length="-1"', "length"),
        ('href="../../blobs', 'href="https://elsewhere.example/blobs', "enclosure"),
        ("<published>2026", "<published>last year", "published"),
        ("05.678901+00:00</published>", "05.678901</published>", "published"),
        ("<id>urn:x-runfeed:submissions:0", "<id>urn:x-runfeed:others:0", "entry 7 /id"),
        ("<id>urn:x-runfeed:submissions<", "<id>urn:uuid:1<", "/feed/id"),
        ('href="000000000001-', 'href="../../', "prev-archive"),
        ("</feed>", "", "feed"),
        ("<feed ", '<!DOCTYPE feed [<!ENTITY a SYSTEM "file:///etc/hostname">]><feed ', "DOCTYPE|feed"),
        ("<title>numpy", "<title>&undefined;numpy", "feed"),
    ],
)
def test_a_document_that_is_none_of_ours_is_refused_with_the_place(old: str, new: str, where: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(Refused, match=where):
        parse_document(GOOD.replace(old, new).encode())


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_document_or_refused(body: bytes) -> None:
    with pytest.raises(Refused):
        parse_document(body)


def test_elements_and_links_that_we_do_not_know_are_ignored() -> None:
    """A later release may say more; today's reader goes on."""
    more = GOOD.replace("<rf:seq>", '<rf:colour>red</rf:colour><link rel="via" href="/x"/><!-- note --><rf:seq>')
    assert parse_document(more.encode()) == parse_document(GOOD.encode())
