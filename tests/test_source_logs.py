"""Sources that are Runfeed logs: followed exactly, with all that is said of their files, by whoever follows whom."""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from feed.announceable import describe_submission
from feed.announcer import Announcer
from feed.atom import Document
from ingest.source import look as source_look
from ingest.source import progress as source_progress
from ingest.source.feed import parse_feed
from ingest.source.log import log_id
from ingest.source.progress import MAX_TRIES
from ingest.source.store import remove_source
from runfeed import cli
from schemas import keys
from schemas.records import (
    Checkpoint,
    Context,
    Entry,
    Origin,
    Withdrawal,
)
from tests.chain import Chain, measured
from tests.sites import NOW, Site, published, rss, serve_bucket, site_at
from tests.strangers import Stranger, answer, served


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_at(tmp_path / "ours") as one:
        yield one


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Site]:
    with site_at(tmp_path / "theirs") as one:
        yield one


@pytest.fixture
def vendor() -> Iterator[Stranger]:
    with served(Stranger()) as server:
        yield server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks read feeds in this process (another is what some tests are about), and no disk is waited for."""
    monkeypatch.setattr(source_look, "read_feed", parse_feed)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def test_a_runfeed_log_is_followed_with_all_that_is_said_of_its_files(site: Site, other: Site) -> None:
    context = Context(environment="rack-3", labels={"kind": "nightly"})
    other.chain.push(measured(1), context, format="runfeed")
    other.chain.push_batch(measured(2))
    site.add(other.head_url)
    assert site.look() == ""
    first, second = site.submissions()
    theirs = other.submissions()
    assert (first.context, first.format, first.project) == (context, "runfeed", "p")
    assert first.trust.name == other.feed
    assert first.origin == Origin(
        feed=other.feed, id=f"{other.feed}:{theirs[0].id}", url=f"{other.server.url}/{keys.blob(first.blob.sha256)}"
    )
    assert second.blob.sha256 == theirs[1].blob.sha256
    assert site.announce() == 2
    assert (site.state().kind, site.state().seq, site.state().feed) == ("log", 2, other.feed)
    other.server.asked.clear()
    site.look()
    assert other.server.paths == [f"/{keys.feed_head(keys.SUBMISSIONS_LOG)}"], "an unchanged log costs one request"
    other.chain.push_batch(measured(3))
    site.look()
    assert site.words == ["taken"]
    assert site.state().seq == 3


def test_a_long_log_is_read_from_its_pages_and_gone_on_with_after_each_look(
    site: Site, other: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of 211 entries once, although a look may only take a few."""
    for number in range(210):
        other.chain.push(measured(number))
        if number % 70 == 69:
            other.announce()
    other.chain.push_batch(measured(210))
    assert any(keys.parse_page(key) for key in other.chain.public.list("feeds/"))
    monkeypatch.setattr(source_progress, "LOOK_SECONDS", 0.3)
    site.add(other.head_url)
    looks = 0
    while site.state().seq < 211:
        assert site.look() == ""
        looks += 1
    assert looks > 1
    assert len(site.submissions()) == 211
    blobs = [path for path in other.server.paths if path.startswith("/blobs/")]
    assert len(blobs) == len(set(blobs)) == 211


@pytest.mark.parametrize("sites", [2, 3])
def test_runfeeds_that_follow_each_other_stop_after_one_exchange(tmp_path: Path, sites: int) -> None:
    """In a ring, and with two each of the other: everyone has everything once, and then nothing moves any more."""
    with ExitStack() as stack:
        ring = [stack.enter_context(site_at(tmp_path / f"site-{number}")) for number in range(sites)]
        for number, one in enumerate(ring):
            one.chain.push_batch(measured(number))
            one.chain.push_batch(measured(100 + number))
            one.add(ring[number - 1].head_url)
        for _ in range(sites + 3):
            for one in ring:
                assert one.look() == ""
                one.announce()
        everything = sorted(body for one in ring for body in [one.chain.public.read(e.key) for e in one.entries()[:2]])
        for one in ring:
            assert one.bodies() == everything
            assert len(one.entries()) == 2 * sites
        ids = [{s.id for s in one.submissions() if s.origin} for one in ring]
        if sites == 3:
            for number in range(3):
                shared = {s.id for s in ring[number - 2].submissions() if s.origin}
                assert ids[number] & shared, "the same file from the same publisher has one id by any way"


def test_a_ring_that_has_settled_moves_nothing(tmp_path: Path) -> None:
    with site_at(tmp_path / "a") as first, site_at(tmp_path / "b") as second:
        first.chain.push_batch(measured(1))
        first.add(second.head_url)
        second.add(first.head_url)
        for _ in range(3):
            for one in (first, second):
                one.look()
                one.announce()
        for one in (first, second):
            one.server.asked.clear()
        for one in (first, second):
            one.look()
            assert one.words == []
            assert one.announce() == 0
        assert len(first.server.asked) == len(second.server.asked) == 1


def test_a_file_that_is_not_what_its_entry_says_is_refused_and_the_others_are_taken(site: Site, other: Site) -> None:
    """Another digest, another size, no such object, another submission."""
    for number in range(6):
        other.chain.push(measured(number))
    other.announce()
    entries = other.entries()
    blobs = [f"/{keys.blob(entry.sha256)}" for entry in entries]
    other.server.answers[blobs[0]] = answer(measured(9))
    other.server.answers[blobs[1]] = answer(measured(1) + b" ")
    other.server.answers[blobs[2]] = answer(b"", 404)
    another = other.chain.public.read(keys.submission(entries[4].id))
    other.server.answers[f"/{keys.submission(entries[3].id)}"] = answer(another)
    other.server.answers[f"/{keys.submission(entries[4].id)}"] = answer(b"{nonsense")
    site.add(other.head_url)
    assert site.look() == ""
    assert site.words == ["refused"] * 5 + ["taken"]
    assert site.bodies() == [measured(5)]
    reasons = [str(note.problem) for note in site.state().notes]
    assert f"sha256 {entries[0].sha256}, as its entry says" in reasons[0]
    assert "bytes" in reasons[1]
    assert "status 404" in reasons[2]
    assert "the submission that the entry announces" in reasons[3]
    assert "the JSON of a submission" in reasons[4]


def test_an_entry_that_may_do_later_is_waited_for_but_not_for_ever(site: Site, other: Site) -> None:
    other.chain.push_batch(measured(1), measured(2))
    first = f"/{keys.blob(other.entries()[0].sha256)}"
    other.server.answers[first] = answer(b"", 503, Retry_After="1000")
    site.add(other.head_url)
    assert "status 503" in site.look()
    assert site.state().next_look == site.chain.now + timedelta(seconds=1000)
    assert (site.state().seq, site.submissions()) == (0, [])
    for _ in range(MAX_TRIES - 2):
        site.look()
    assert site.submissions() == []
    assert site.look() == ""
    assert site.words == ["refused", "taken"]
    assert site.state().seq == 2


def test_an_entry_whose_withdrawal_cannot_be_looked_up_is_waited_for_but_not_for_ever(site: Site, other: Site) -> None:
    """Its blob is not there, and whether that is because it was withdrawn the server does not say."""
    other.chain.push_batch(measured(1), measured(2))
    sha256 = other.entries()[0].sha256
    other.server.answers[f"/{keys.blob(sha256)}"] = answer(b"", 404)
    other.server.answers[f"/{keys.withdrawal(sha256)}"] = answer(b"", 503)
    site.add(other.head_url)
    for tries in range(1, MAX_TRIES):
        assert "status 503" in site.look()
        assert (site.words, site.state().tries, site.state().seq) == (["later"], {"1": tries}, 0)
    assert site.look() == ""
    assert site.words == ["refused", "taken"]
    assert (site.state().tries, site.state().seq) == ({}, 2)


def test_a_log_that_is_shorter_when_asked_again_ends_the_look(site: Site, other: Site) -> None:
    """As behind servers of which one is late. Our reader asks for the head a second time on the way to the pages."""
    head = f"/{keys.feed_head(keys.SUBMISSIONS_LOG)}"
    other.chain.push_batch(measured(1))
    short = other.chain.public.read(head[1:])
    chain = other.chain
    for number in (2, 3, 4):
        chain.push(measured(number))
        assert Announcer(
            chain.buckets, chain.submissions, describe_submission, clock=chain.clock, signer=chain.signer, head_keep=1
        ).commit()
    long = other.chain.public.read(head[1:])
    assert chain.submissions.head().first_seq == 3, "else no page would be asked for"
    answers = iter([answer(long), *[answer(short)] * 20])

    def shrinking(request: BaseHTTPRequestHandler) -> None:
        next(answers, answer(b"", 500))(request)

    other.server.answers[head] = shrinking
    site.add(other.head_url)
    assert "expected entry 2, found a shorter log than a moment ago" in site.look()
    assert (site.words, site.state().seq) == (["taken"], 1)
    del other.server.answers[head]
    assert site.look() == ""
    assert site.state().seq == 4


def test_what_the_source_has_withdrawn_is_passed_over_and_what_we_have_of_it_is_noted(site: Site, other: Site) -> None:
    other.chain.push_batch(measured(1), measured(2))
    first = other.entries()[0]
    site.add(other.head_url)
    site.look()
    _withdraw(other, first)
    other.announce()
    assert site.look() == ""
    (note,) = site.state().notes
    assert "a leaked token" in str(note.problem)
    assert first.sha256 in str(note.problem)
    assert len(site.submissions()) == 2, "a withdrawal there withdraws nothing here"
    other.chain.public.delete(keys.blob(first.sha256), keys.submission(first.id))
    remove_source(site.chain.buckets.private, "other")
    with_nothing = site.add(other.head_url, name="again", project="q")
    site.look(with_nothing.name)
    assert site.words == ["skipped", "taken", "withdrawn"]


def _withdraw(site: Site, entry: Entry) -> None:
    """What makes an entry of a withdrawal."""
    nonce = keys.new_nonce(site.chain.now)
    withdrawal = Withdrawal(
        sha256=entry.sha256,
        reason="a leaked token",
        submissions=[entry.id],
        project="p",
        nonce=nonce,
        withdrawn=site.chain.now,
    )
    marker = keys.Marker(keys.SUBMISSIONS_LOG, "p", nonce, keys.withdrawal_id(entry.sha256))
    site.chain.private.create(marker.key, b"")
    site.chain.public.create(keys.withdrawal(entry.sha256), msgspec.json.encode(withdrawal))


def test_bytes_that_are_withdrawn_here_are_not_taken_from_anywhere(site: Site, other: Site, vendor: Stranger) -> None:
    other.chain.push_batch(measured(1))
    published(vendor, measured(1))
    _withdraw(site, other.entries()[0])
    site.add(other.head_url)
    site.add(f"{vendor.url}/feed.rss", name="vendor")
    for name in ("other", "vendor"):
        assert site.look(name) == ""
        assert site.words == ["refused"]
        assert "withdrawn" in str(site.state(name).notes[0].problem)
    assert site.submissions() == []
    assert not any(path.startswith("/blobs/") for path in other.server.paths), "known before it was fetched"


def test_only_some_projects_of_a_log_may_be_wanted_and_all_may_go_into_one(site: Site, other: Site) -> None:
    other.chain.push_batch(measured(1))
    site.add(other.head_url, only=["q"])
    assert site.look() == ""
    assert (site.words, site.submissions()) == (["skipped"], [])
    site.add(other.head_url, name="all", project="mine")
    site.look("all")
    assert [one.project for one in site.submissions()] == ["mine"]
    assert keys.project("mine") in list(site.chain.public.list("projects/"))


def test_a_log_whose_past_is_rewritten_is_read_no_further(site: Site, other: Site, tmp_path: Path) -> None:
    """Entries that we have seen are others now; a log of another key; a shorter one; another log altogether."""
    other.chain.push_batch(measured(1))
    other.chain.push_batch(measured(2))
    site.add(other.head_url)
    site.look()
    seen = site.state()
    with site_at(tmp_path / "forged") as forged:
        forged.chain.private.swap(keys.SIGNING_KEY, other.chain.private.read(keys.SIGNING_KEY), etag=_etag(forged))
        forged.chain = Chain(tmp_path / "forged")
        forged.chain.push_batch(measured(1))
        assert (
            _looked_at(site, other, forged)
            == f"{other.head_url}: expected a log of at least 2 entries, as there were, found 1"
        )
        forged.chain.push_batch(measured(3))
        assert "another past" in _looked_at(site, other, forged)
        forged.chain.push_batch(measured(4))
        assert "another past" in _looked_at(site, other, forged)
        assert (site.state().seq, len(site.submissions())) == (2, 2), "nothing is taken of it"
    with site_at(tmp_path / "stranger") as stranger:
        for number in range(3):
            stranger.chain.push_batch(measured(number))
        assert f"expected the log {seen.feed}" in _looked_at(site, other, stranger)


def _etag(site: Site) -> str:
    return site.chain.private.head(keys.SIGNING_KEY).etag


def _looked_at(site: Site, other: Site, forged: Site) -> str:
    """Why the site takes nothing when `forged` answers at the other's address."""
    other.server.otherwise = serve_bucket(forged.chain.public.bucket)
    return site.look()


def test_a_log_that_is_not_what_its_own_head_signs_is_not_read_at_all(site: Site, other: Site) -> None:
    """An entry changed, the checkpoint of another seq, none, one of a key that is not the log's."""
    other.chain.push_batch(measured(1), measured(2))
    head = f"/{keys.feed_head(keys.SUBMISSIONS_LOG)}"
    body = other.chain.public.read(head[1:])
    key = other.chain.signer.public_key.encode()
    forgeries = {
        "the entries that its checkpoint signs": body.replace(b"p: result</title>", b"p: other</title>", 1),
        "a signature by the key": re.sub(rb'(<rf:checkpoint [^>]*)seq="2"', rb'\1seq="3"', body),
        "found none": re.sub(rb"<rf:checkpoint [^>]*/>", b"", body),
        "found 00": body.replace(key, b"00" * 32),
    }
    site.add(other.head_url)
    for reason, forged in forgeries.items():
        assert forged != body
        other.server.answers[head] = answer(forged)
        assert reason in site.look()
        assert site.submissions() == []
    other.server.answers[head] = answer(body)
    assert site.look() == ""
    assert len(site.submissions()) == 2


def test_a_head_that_does_not_say_where_its_chain_begins_is_not_what_its_checkpoint_signs(
    site: Site, other: Site
) -> None:
    """Leaving `rf:chain` out spares no forger the comparison, neither at first nor when we know the past."""
    head = f"/{keys.feed_head(keys.SUBMISSIONS_LOG)}"
    site.add(other.head_url)
    for number in (1, 2):
        other.chain.push_batch(measured(number))
        body = other.chain.public.read(head[1:])
        forged = re.sub(rb"\s*<rf:chain>[^<]*</rf:chain>", b"", body)
        assert forged != body
        forged = forged.replace(b"p: result</title>", b"p: other</title>")
        other.server.answers[head] = answer(forged)
        assert "the entries that its checkpoint signs" in site.look()
        assert len(site.submissions()) == number - 1
        other.server.answers[head] = answer(body)
        assert site.look() == ""
        assert len(site.submissions()) == number


def test_a_replaced_signing_key_is_taken_once_it_is_given(
    site: Site, other: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By who has followed the log before, and by who adds the source anew; and another key than that never is."""
    monkeypatch.setenv("RUNFEED_DATA", str(site.chain.data))

    def add(name: str, key: str) -> int:
        return CliRunner().invoke(cli, ["source", "add", other.head_url, "--name", name, "--key", key]).exit_code

    other.chain.push_batch(measured(1))
    site.add(other.head_url)
    assert site.look() == ""
    first = other.chain.signer.public_key
    other.chain.private.swap(keys.SIGNING_KEY, os.urandom(32), etag=_etag(other))
    other.chain = Chain(tmp_path / "theirs")
    other.chain.push_batch(measured(2))
    second = other.chain.signer.public_key
    refused = "expected a checkpoint signed with the key"
    assert refused in site.look()
    assert add("other", first) == 0
    assert refused in site.look()
    assert add("other", second[:32]) == 1
    site.add(other.head_url, name="new")
    assert refused in site.look("new")
    assert len(site.submissions()) == 1
    for name, words in (("other", ["taken"]), ("new", ["known", "known"])):
        assert add(name, second) == 0
        assert site.look(name) == ""
        assert (site.words, site.state(name).key) == (words, second)


def test_a_log_that_becomes_a_plain_feed_or_the_other_way_round_is_refused(
    site: Site, other: Site, vendor: Stranger
) -> None:
    other.chain.push_batch(measured(1))
    site.add(other.head_url)
    site.look()
    head = f"/{keys.feed_head(keys.SUBMISSIONS_LOG)}"
    other.server.answers[head] = answer(rss(("1", "/1.json")))
    assert "expected a Runfeed log, as it was" in site.look()
    published(vendor, measured(2))
    site.add(f"{vendor.url}/feed.rss", name="vendor")
    site.look("vendor")
    vendor.answers["/feed.rss"] = answer(other.chain.public.read(head[1:]))
    assert "expected a feed that is no Runfeed log" in site.look("vendor")


def test_a_view_of_a_log_is_refused_in_favour_of_the_log(site: Site, other: Site, vendor: Stranger) -> None:
    """Who took from views would lose each file's context, and two would take their own back from each other."""
    other.chain.push_batch(measured(1))
    view = other.chain.public.read(keys.feed_head(keys.SUBMISSIONS_LOG)).replace(
        f"<id>{other.feed}</id>".encode(), b"<id>urn:view</id>"
    )
    vendor.answers["/feed.rss"] = answer(view, Content_Type="application/atom+xml")
    site.add(f"{vendor.url}/feed.rss")
    assert "a view of a Runfeed log" in site.look()
    assert site.submissions() == []


def test_a_log_of_an_earlier_release_has_an_identity_of_its_own() -> None:
    """All of them share one Atom id, so it is made of the key that signs, or of the address."""
    old = Document("submissions", (), archive=False, previous="")
    signed = Checkpoint(log="submissions", seq=0, chain="0" * 64, time=NOW, key="ab" * 32, signature="00" * 64)
    assert log_id(old, "http://a.example/f") == "http://a.example/f"
    upgraded = Document("submissions", (), archive=False, previous="", checkpoint=signed)
    assert log_id(upgraded, "http://a.example/f") == f"urn:x-runfeed:{'ab' * 16}:submissions"


def test_a_log_of_an_earlier_release_may_be_upgraded_under_our_eyes(site: Site, other: Site) -> None:
    """Its documents had no chain, no checkpoint and no authority; then its head is signed, over all of the past."""
    other.chain.push_batch(measured(1))
    head = f"/{keys.feed_head(keys.SUBMISSIONS_LOG)}"
    signed = other.chain.public.read(head[1:]).replace(f"{other.chain.signer.authority}:".encode(), b"")
    unsigned = re.sub(rb"\s*<rf:(checkpoint [^>]*/|chain>[^<]*</rf:chain)>", b"", signed)
    assert b"checkpoint" not in unsigned
    other.server.answers[head] = answer(unsigned)
    site.add(other.head_url)
    assert site.look() == ""
    assert site.submissions()[0].trust.name == site.state().feed == other.head_url
    other.server.answers[head] = answer(signed)
    assert site.look() == ""
    assert site.state().feed == other.feed
    other.server.answers[head] = answer(unsigned)
    assert "expected the log" in site.look()
