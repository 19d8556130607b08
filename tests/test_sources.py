"""Other people's feeds: their files become submissions, once each, whatever they and our own process do meanwhile."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from infra.fetch import Fetcher, user_agent
from infra.hints import Hints
from infra.settings import Settings
from ingest.source import look as source_look
from ingest.source import progress as source_progress
from ingest.source.feed import parse_feed, read_feed
from ingest.source.pace import LONGEST_SECONDS, next_look, next_try, update_seconds, wished
from ingest.source.progress import MAX_TRIES, Progress
from ingest.source.store import name_from, read_source, read_state, remove_source, source_names
from ingest.source.watch import SourceWatch
from runfeed import cli
from schemas import keys
from schemas.errors import Refused, SwapLost, Unavailable
from schemas.records import (
    Context,
    Origin,
    Source,
    SourceState,
)
from tests.chain import failing, measured, nothing
from tests.running import running
from tests.sites import NOW, Site, published, rss, site_at
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


# --- a vendor's feed ---


def test_a_vendors_rss_is_on_the_dashboard_by_itself(tmp_path: Path, vendor: Stranger) -> None:
    """From `runfeed source add` to an accepted run, with a real server on either side; and nothing is taken twice."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "runfeed.toml").write_text("private_addresses = true\nsource_seconds = 1\n")
    published(vendor, measured(1), measured(2), ETag='"1"')
    with running(data) as server:
        added = server.runfeed("source", "add", f"{vendor.url}/feed.rss", "--project", "vendor", "--data", str(data))
        assert added.returncode == 0, added.stderr
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            runs = server.get("/api/v1/runs", project="vendor")["items"] if vendor.asked else []
            if len(runs) == 2:
                break
            time.sleep(0.1)
        assert len(runs) == 2, server.log()
        shown = server.runfeed("source", "show", "127.0.0.1", "--json", "--data", str(data))
        state = json.loads(shown.stdout)["state"]
        assert (state["taken"], state["feed"]) == (2, f"{vendor.url}/feed.rss")
        _until(lambda: vendor.paths.count("/feed.rss") >= 3)
    assert vendor.paths.count("/1.json") == vendor.paths.count("/2.json") == 1
    assert [headers.get("if-none-match") for path, headers in vendor.asked if path == "/feed.rss"][:2] == [None, '"1"']


def test_what_is_taken_says_where_it_is_from(site: Site, vendor: Stranger) -> None:
    published(vendor, measured(1))
    url = f"{vendor.url}/feed.rss"
    site.add(url, project="vendor", format="runfeed")
    assert site.look() == ""
    (submission,) = site.submissions()
    assert (submission.project, submission.format) == ("vendor", "runfeed")
    assert (submission.trust.kind, submission.trust.name) == ("source", url)
    assert submission.origin == Origin(feed=url, id="id-1", url=f"{vendor.url}/1.json")
    assert submission.context == Context()
    assert submission.blob.media_type == "application/json"
    assert site.announce() == 1
    assert site.entries()[0].project == "vendor"


def test_an_unchanged_feed_costs_one_conditional_request(site: Site, vendor: Stranger) -> None:
    published(vendor, measured(1), ETag='"7"', Last_Modified="Fri, 01 May 2026 10:00:00 GMT")
    site.add(f"{vendor.url}/feed.rss")
    site.look()
    vendor.asked.clear()
    vendor.answers["/feed.rss"] = answer(b"", 304)
    assert site.look() == ""
    ((path, headers),) = vendor.asked
    assert path == "/feed.rss"
    assert headers["if-none-match"] == '"7"'
    assert headers["if-modified-since"] == "Fri, 01 May 2026 10:00:00 GMT"


def test_only_what_is_new_is_fetched_and_the_same_bytes_are_one_submission(site: Site, vendor: Stranger) -> None:
    published(vendor, measured(1))
    site.add(f"{vendor.url}/feed.rss")
    site.look()
    vendor.asked.clear()
    published(vendor, measured(1), measured(2), measured(1))
    site.look()
    assert sorted(vendor.paths) == ["/2.json", "/3.json", "/feed.rss"]
    assert site.words == ["taken", "known"]
    assert len(site.submissions()) == 2
    remove_source(site.chain.buckets.private, "other")
    site.add(f"{vendor.url}/feed.rss")
    site.look()
    assert site.words == ["known"] * 3, "a state that is lost costs requests, and nothing else"
    assert len(site.submissions()) == 2


WRITES = ("create", "swap", "delete")


@pytest.mark.parametrize("kind", ["feed", "log"])
def test_a_crash_at_any_write_loses_nothing_and_doubles_nothing(
    kind: str, tmp_path: Path, other: Site, vendor: Stranger
) -> None:
    """Before and after each write of a look, and of the look after the crash, which begins once the claim is old."""
    bodies = [measured(1), measured(2), measured(3)]
    if kind == "feed":
        published(vendor, *bodies)
        url = f"{vendor.url}/feed.rss"
    else:
        other.chain.push_batch(*bodies)
        url = other.head_url
    crashes = 0
    for at in range(1, 100):
        for when in ("before", "after"):
            with site_at(tmp_path / f"{kind}-{at}-{when}") as site:
                site.add(url)
                crashed = _crash(site, at, when)
                site.chain.pass_time(seconds=source_progress.CLAIM_SECONDS + 1)
                assert site.look() == ""
                assert site.bodies() == sorted(bodies)
                assert site.announce() == 3
                assert site.announce() == 0
                state = site.state()
                assert state.taken + state.known >= 3 - crashed
                crashes += crashed
        if not crashed:
            break
    assert crashes >= 20


def _crash(site: Site, at: int, when: str) -> bool:
    """Look until the process dies at write `at`; whether it came to that."""
    writes = 0

    def die(verb: str, key: str) -> None:
        nonlocal writes
        if verb in WRITES:
            writes += 1
            if writes == at:
                raise KeyboardInterrupt

    for bucket in (site.chain.public, site.chain.private):
        setattr(bucket, when, die)
    try:
        site.look()
    except KeyboardInterrupt:
        return True
    finally:
        for bucket in (site.chain.public, site.chain.private):
            bucket.before = bucket.after = nothing
    return False


def test_a_bad_enclosure_is_refused_with_its_reason_and_stops_no_other(site: Site, vendor: Stranger) -> None:
    """Too large, gone, at an address that is nobody's to ask, no address at all; between them are good ones."""
    bad = ["/large.json", "/gone.json", "http://169.254.169.254/latest", "file:///etc/passwd", "http://[", "/p.png"]
    items = [("good-1", "/1.json"), *((f"bad-{number}", url) for number, url in enumerate(bad)), ("good-2", "/2.json")]
    published(vendor, measured(1), measured(2))
    vendor.answers["/large.json"] = answer(b"x" * 2000)
    vendor.answers["/gone.json"] = answer(b"", 410)
    vendor.answers["/feed.rss"] = answer(
        rss(*items).replace(b'/p.png" length="0" type="application/json', b'/p.png" length="0" type="image/png')
    )
    site.add(f"{vendor.url}/feed.rss", max_bytes=1000)
    assert site.look() == ""
    assert site.bodies() == sorted([measured(1), measured(2)])
    state = site.state()
    assert (state.taken, state.refused, state.skipped) == (2, 4, 1)
    reasons = {note.entry: str(note.problem) for note in state.notes}
    assert "at most 1,000 bytes" in reasons["bad-0"]
    assert "status 410" in reasons["bad-1"]
    assert "169.254.169.254, which is link-local" in reasons["bad-2"]
    assert "an http or https URL" in reasons["bad-3"]
    vendor.asked.clear()
    site.look()
    assert vendor.paths == ["/feed.rss"], "what was refused is not asked for again"


def test_addresses_that_are_not_public_are_refused_unless_they_are_allowed(site: Site, vendor: Stranger) -> None:
    published(vendor, measured(1))
    site.add(f"{vendor.url}/feed.rss")
    site.fetcher.close()
    site.fetcher = Fetcher(private_addresses=False, user_agent=user_agent(""))
    why = site.look()
    assert why == "host 127.0.0.1: expected a public address, found 127.0.0.1, which is loopback"
    assert site.state().last_error == why
    assert vendor.asked == []


def test_a_files_size_is_bounded_by_settings_project_and_source(site: Site, vendor: Stranger) -> None:
    published(vendor, b"x" * 500)
    site.chain.private.create(keys.project("small"), b'{"name": "small", "max_blob_bytes": 499}')
    site.chain.public.create(keys.project("small"), b'{"name": "small", "created": "2026-05-01T12:00:00Z"}')
    site.add(f"{vendor.url}/feed.rss", project="small")
    site.look()
    assert site.words == ["refused"]
    assert "at most 499 bytes" in str(site.state().notes[0].problem)


def test_a_large_file_goes_over_the_disk_and_leaves_nothing_there(site: Site, vendor: Stranger) -> None:
    body = bytes(range(256)) * (3 << 12)
    published(vendor, body)
    site.add(f"{vendor.url}/feed.rss")
    site.look()
    assert site.bodies() == [body]


def test_what_may_do_later_is_tried_again_at_the_next_looks_and_refused_in_the_end(
    site: Site, vendor: Stranger
) -> None:
    published(vendor, measured(1), measured(2), ETag='"1"')
    vendor.answers["/1.json"] = answer(b"", 503)
    site.add(f"{vendor.url}/feed.rss")
    for number in range(1, MAX_TRIES):
        assert "status 503" in site.look()
        assert site.words == (["later", "taken"] if number == 1 else ["later"])
        assert site.state().failures == number
    assert site.look() == ""
    assert site.words == ["refused"]
    assert site.state().failures == 0
    assert site.state().tries == {}
    vendor.answers["/3.json"] = answer(measured(3))
    published(vendor, measured(1), measured(2), measured(3))
    assert site.look() == ""
    assert site.words == ["taken"]


def test_a_server_that_is_down_costs_three_requests_a_look(site: Site, vendor: Stranger) -> None:
    published(vendor, *(measured(number) for number in range(9)))
    for number in range(1, 10):
        vendor.answers[f"/{number}.json"] = answer(b"", 500)
    site.add(f"{vendor.url}/feed.rss")
    site.look()
    assert len(vendor.asked) == 4


def test_retry_after_is_obeyed_and_failures_are_spaced_out(site: Site, vendor: Stranger) -> None:
    vendor.answers["/feed.rss"] = answer(b"", 429, Retry_After="7000")
    site.add(f"{vendor.url}/feed.rss")
    assert "status 429" in site.look()
    assert site.state().next_look == site.chain.now + timedelta(seconds=7000)
    vendor.answers["/feed.rss"] = answer(b"", 500)
    waits = []
    for _ in range(4):
        site.look()
        waits.append((site.state().next_look or NOW) - site.chain.now)
    assert waits == [timedelta(seconds=300 * factor) for factor in (1, 2, 4, 8)]
    published(vendor, measured(1))
    site.look()
    assert (site.state().failures, site.state().last_error) == (0, "")


def test_an_archive_is_gone_through_once_and_where_the_feed_ran_ahead(site: Site, vendor: Stranger) -> None:
    """RFC 5005: prev-archive, back to the beginning; later on only until something known."""

    def document(numbers: range, older: str) -> bytes:
        link = (
            f'<atom:link xmlns:atom="http://www.w3.org/2005/Atom" rel="prev-archive" href="{older}"/>' if older else ""
        )
        return rss(*((f"id-{number}", f"/{number}.json") for number in numbers), more=link)

    for number in range(1, 13):
        vendor.answers[f"/{number}.json"] = answer(measured(number))
    vendor.answers["/a1.rss"] = answer(document(range(1, 4), ""))
    vendor.answers["/a2.rss"] = answer(document(range(4, 7), "/a1.rss"))
    vendor.answers["/feed.rss"] = answer(document(range(7, 8), "/a2.rss"))
    site.add(f"{vendor.url}/feed.rss")
    assert site.look() == ""
    assert len(site.submissions()) == 7
    vendor.answers["/a3.rss"] = answer(document(range(7, 10), "/a2.rss"))
    vendor.answers["/feed.rss"] = answer(document(range(10, 12), "/a3.rss"))
    vendor.asked.clear()
    assert site.look() == ""
    assert len(site.submissions()) == 11
    assert "/a2.rss" not in vendor.paths
    vendor.answers["/feed.rss"] = answer(document(range(11, 13), "/a3.rss"))
    vendor.asked.clear()
    assert site.look() == ""
    assert vendor.paths == ["/feed.rss", "/12.json"]


def test_an_archive_that_is_cut_off_is_gone_on_with(site: Site, vendor: Stranger) -> None:
    link = '<atom:link xmlns:atom="http://www.w3.org/2005/Atom" rel="prev-archive" href="{}"/>'
    for number in range(1, 5):
        vendor.answers[f"/{number}.json"] = answer(measured(number))
    vendor.answers["/a1.rss"] = answer(rss(("1", "/1.json")))
    vendor.answers["/a2.rss"] = answer(b"", 500)
    vendor.answers["/feed.rss"] = answer(rss(("3", "/3.json"), more=link.format("/a2.rss")), ETag='"1"')
    site.add(f"{vendor.url}/feed.rss")
    assert "status 500" in site.look()
    vendor.answers["/a2.rss"] = answer(rss(("2", "/2.json"), more=link.format("/a1.rss")))
    assert site.look() == ""
    assert len(site.submissions()) == 3


def test_an_archive_without_end_is_left_in_time(site: Site, vendor: Stranger) -> None:
    link = '<atom:link xmlns:atom="http://www.w3.org/2005/Atom" rel="next" href="{}"/>'

    def endless(request: BaseHTTPRequestHandler) -> None:
        answer(rss(more=link.format(f"/more-{len(vendor.asked)}.rss")))(request)

    vendor.otherwise = endless
    site.add(f"{vendor.url}/feed.rss")
    assert site.look() == ""
    assert len(vendor.asked) == 51
    assert site.state().older == ""


def test_feeds_are_read_elsewhere_and_what_they_do_there_is_bounded(tmp_path: Path) -> None:
    """Neither files nor other addresses are read, entities do not grow, what is no feed is refused by name."""
    secret = tmp_path / "secret"
    secret.write_text("<!ENTITY x 'secret'>")
    doctype = f'<!DOCTYPE rss SYSTEM "{secret.as_uri()}" [<!ENTITY a SYSTEM "{secret.as_uri()}">]>'
    body = rss(("&a;", "/1.json")).replace(b'<?xml version="1.0"?>', b'<?xml version="1.0"?>' + doctype.encode())
    feed = read_feed(body, url="http://feeds.example/f/feed.rss", content_type="application/rss+xml")
    assert "secret" not in str(feed)
    bomb = b"".join(b"<!ENTITY %c '%s'>" % (96 + n, b"&%c;" % (95 + n) * 50) for n in range(2, 12))
    body = b"<!DOCTYPE rss [<!ENTITY a 'aaaaaaaa'>" + bomb + b"]>" + rss(("&k;", "/1.json"))
    started = time.monotonic()
    feed = read_feed(body, url="http://feeds.example/feed.rss", content_type="text/xml")
    assert len(str(feed)) < 10_000
    assert time.monotonic() - started < 10
    for junk in (
        b"",
        b"\0\xff",
        b"<html><body>Not here</body></html>",
        b'{"version": "https://jsonfeed.org/version/1.1"}',
    ):
        with pytest.raises(Refused, match="an Atom or RSS feed"):
            read_feed(junk, url="http://feeds.example/", content_type="text/html")


def test_a_feed_that_takes_too_long_to_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern of feedparser's needs time without end for this author; the process that reads it has only so much."""
    monkeypatch.setattr("ingest.source.feed.SECONDS", 1)
    slow = f"<author>{'a.' * 200_000}</author>"
    with pytest.raises(Refused, match="that can be read"):
        read_feed(rss(("1", "/1.json"), more=slow * 20), url="http://feeds.example/", content_type="text/xml")


def test_atom_and_media_rss_and_relative_addresses_are_understood() -> None:
    atom = b"""<feed xmlns="http://www.w3.org/2005/Atom" xml:base="http://files.example/base/">
      <id>urn:feed:1</id><link rel="next" href="?page=2"/>
      <entry><id>urn:e:2</id><link rel="enclosure" href="2.json" type="application/json" length="12"/></entry>
      <entry><id>urn:e:1</id><link rel="alternate" href="1.html"/><link rel="enclosure" href="/1.json"/></entry>
      </feed>"""
    feed = parse_feed(atom, url="http://feeds.example/a/feed.atom", content_type="application/atom+xml")
    assert feed.id == "urn:feed:1"
    assert [(one.entry, one.url) for one in feed.enclosures] == [
        ("urn:e:1", "http://files.example/1.json"),
        ("urn:e:2", "http://files.example/base/2.json"),
    ]
    assert feed.older == "http://files.example/base/?page=2"
    media = b"""<rss version="2.0" xmlns:media="http://search.yahoo.com/mrss/"
      xmlns:sy="http://purl.org/rss/1.0/modules/syndication/"><channel><ttl>5</ttl>
      <sy:updatePeriod>daily</sy:updatePeriod><sy:updateFrequency>4</sy:updateFrequency>
      <item><guid isPermaLink="false">1</guid><enclosure url="1.json"/><media:content url="1.json"/>
      <media:content url="p" medium="image"/></item></channel></rss>"""
    feed = parse_feed(media, url="http://feeds.example/a/feed.rss", content_type="")
    assert [(one.url, one.media_type) for one in feed.enclosures] == [
        ("http://feeds.example/a/1.json", ""),
        ("http://feeds.example/a/p", "image/*"),
    ]
    assert feed.every_seconds == 6 * 3600


# --- when to look again ---


def test_a_server_may_ask_for_fewer_looks_but_not_for_none() -> None:
    assert next_look(NOW, 300, 0, 0.0) == NOW + timedelta(seconds=300)
    assert next_look(NOW, 300, 900, 0.0) == NOW + timedelta(seconds=900)
    assert next_look(NOW, 300, 1e9, 0.0) == NOW + timedelta(seconds=LONGEST_SECONDS)
    assert next_look(NOW, 300, 0, 0.999) < NOW + timedelta(seconds=330), "looks are scattered"
    assert next_try(NOW, 300, 1, 0, 0.0) == NOW + timedelta(seconds=150)
    assert next_try(NOW, 300, 99, 0, 0.5) == NOW + timedelta(seconds=LONGEST_SECONDS)
    assert next_try(NOW, 300, 1, 4000, 0.0) == NOW + timedelta(seconds=4000)
    assert wished({"cache-control": "public, max-age=600"}, 0) == 600
    assert wished({"cache-control": "max-age=60"}, 900) == 900
    assert wished({"cache-control": "no-store"}, 0) == 0
    assert update_seconds("30", "", "") == 1800
    assert update_seconds("", "hourly", "2") == 1800
    assert update_seconds("x", "often", "0") == 0


# --- several processes ---


def test_of_two_that_look_at_a_source_one_stops(site: Site, vendor: Stranger) -> None:
    published(vendor, measured(1), measured(2))
    source = site.add(f"{vendor.url}/feed.rss")
    private = site.chain.buckets.private
    late = Progress(private, source, site.chain.clock, lambda *_: None, lambda: False)
    assert site.look() == ""
    with pytest.raises(SwapLost):
        late.claim()
    assert site.state().taken == 2


def test_a_source_that_is_removed_during_a_look_stays_removed(site: Site, vendor: Stranger) -> None:
    published(vendor, measured(1))
    site.add(f"{vendor.url}/feed.rss")

    def remove(request: BaseHTTPRequestHandler) -> None:
        remove_source(site.chain.buckets.private, "other")
        answer(measured(1))(request)

    vendor.answers["/1.json"] = remove
    with pytest.raises(SwapLost):
        site.look()
    assert list(site.chain.private.list("sources/")) == []


def test_trouble_of_our_own_storage_is_nobodys_fault_out_there(site: Site, vendor: Stranger) -> None:
    published(vendor, measured(1))
    site.add(f"{vendor.url}/feed.rss")
    site.chain.public.before = failing("create", "blobs/", Unavailable("the disk is away"))
    with pytest.raises(Unavailable, match="the disk is away"):
        site.look()
    site.chain.public.before = nothing
    assert (site.state().last_error, site.state().tries) == ("", {})
    assert site.look() == ""
    assert site.words == ["taken"]


def test_the_watch_looks_when_it_is_time_and_at_a_host_once_at_a_time(site: Site, vendor: Stranger) -> None:
    published(vendor, measured(1))
    settings = Settings(data=site.chain.data, private_addresses=True)
    watch = SourceWatch(site.chain.buckets, settings, Hints(), site.chain.clock)
    try:
        assert watch.step() == 0
        site.add(f"{vendor.url}/feed.rss", name="a")
        site.add(f"{vendor.url}/feed.rss?again", name="b")
        vendor.answers["/feed.rss?again"] = vendor.answers["/feed.rss"]
        assert watch.step() == 1, "both are due, but they are at one host"
        _until(lambda: site.state("a").taken == 1 and site.state("a").next_look is not None)
        _until(lambda: watch.step() == 1)
        _until(
            lambda: (
                site.state("b").looked is not None
                and (site.state("b").next_look or NOW) > site.chain.now + timedelta(minutes=4)
            )
        )
        assert watch.step() == 0
        site.chain.pass_time(seconds=400)
        vendor.asked.clear()
        _until(lambda: watch.step() == 1)
        _until(lambda: bool(vendor.asked))
    finally:
        watch.stop()


def test_the_watch_ends_soon_although_a_server_trickles(site: Site, vendor: Stranger) -> None:
    def trickle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000000")
        request.end_headers()
        for _ in range(1000):
            request.wfile.write(b"x")
            time.sleep(0.01)

    published(vendor, b"")
    vendor.answers["/1.json"] = trickle
    site.add(f"{vendor.url}/feed.rss")
    watch = SourceWatch(
        site.chain.buckets, Settings(data=site.chain.data, private_addresses=True), Hints(), site.chain.clock
    )
    watch.step()
    _until(lambda: "/1.json" in vendor.paths)
    before = time.monotonic()
    watch.stop()
    assert time.monotonic() - before < 3
    assert site.state().next_look == site.chain.now, "the claim is given back"


def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


# --- names, and the command ---


def test_names_of_sources(site: Site) -> None:
    assert name_from("https://Feeds.Example.ORG:8443/x") == "feeds.example.org"
    assert name_from("http://[::1]/x") == "1"
    private = site.chain.buckets.private
    site.add("http://a.example/feed", name="a")
    with pytest.raises(Refused, match="a name that no other feed has"):
        site.add("http://b.example/feed", name="a")
    site.add("http://a.example/feed", name="a", every_seconds=60)
    assert read_source(private, "a").every_seconds == 60
    for name in ("x.json", "../x", "A", ""):
        with pytest.raises(Refused):
            site.add("http://a.example/feed", name=name)
    assert source_names(private) == ["a"]
    with pytest.raises(Refused):
        read_source(private, "b")


def test_the_state_of_another_url_of_the_same_name_does_not_count(site: Site) -> None:
    old = Source(name="a", url="http://a.example/feed", created=NOW)
    body = msgspec.json.encode(SourceState(url=old.url, seq=7, seen=["x"]))
    site.chain.private.create(keys.source_state("a"), body)
    new = Source(name="a", url="http://b.example/feed", created=NOW)
    state, etag = read_state(site.chain.buckets.private, new)
    assert (state, etag is not None) == (SourceState(url=new.url), True)


def test_the_command_adds_lists_looks_shows_and_removes(
    tmp_path: Path, vendor: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(vendor, measured(1))
    vendor.answers["/feed.rss"] = answer(rss(("one", "/1.json"), ("two", "/absent.json")))
    monkeypatch.setenv("RUNFEED_PRIVATE_ADDRESSES", "true")
    monkeypatch.setenv("RUNFEED_DATA", str(tmp_path / "data"))

    def run(*arguments: str, status: int = 0) -> str:
        result = CliRunner().invoke(cli, ["source", *arguments])
        assert result.exit_code == status, result.output
        return result.output

    assert "is looked at from now on" in run("add", f"{vendor.url}/feed.rss", "--name", "vendor", "--project", "v")
    assert "not looked at yet" in run("list")
    told = run("look", "vendor")
    assert "taken" in told
    assert "refused   two" in told
    assert "1 taken, 0 known, 0 skipped, 1 refused" in told
    shown = run("show", "vendor")
    assert "status 404" in shown
    assert f"{vendor.url}/absent.json" in shown
    listed = json.loads(run("list", "--json"))
    assert [(one["name"], one["project"], one["state"]["taken"]) for one in listed] == [("vendor", "v", 1)]
    assert "is changed" in run("add", f"{vendor.url}/feed.rss", "--name", "vendor", "--every", "60")
    vendor.answers["/feed.rss"] = answer(b"", 500)
    assert "status 500" in run("look", "vendor", status=2)
    assert "status 500" in run("list")
    run("remove", "vendor")
    assert run("list") == ""
    assert "one that looks" not in run("list", "--json")


def test_tries_in_vain_are_counted_for_so_many_files_at_a_time(
    site: Site, vendor: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_progress, "MAX_TRIED", 2)
    site.add(f"{vendor.url}/feed.rss")
    vendor.otherwise = answer(b"", 500)
    vendor.answers["/feed.rss"] = answer(rss(("1", "/1"), ("2", "/2"), ("3", "/3")))
    site.look()
    assert len(site.state().tries) == 2


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://user:secret@feeds.example/", "feeds.example"])
def test_an_address_that_we_would_not_ask_cannot_be_added(tmp_path: Path, url: str) -> None:
    result = CliRunner().invoke(cli, ["source", "add", url, "--data", str(tmp_path / "data")])
    assert isinstance(result.exception, Refused)
    assert "secret" not in str(result.exception)
    assert not (tmp_path / "data").exists()


def test_what_no_request_and_no_record_can_carry_stops_nothing(site: Site, vendor: Stranger) -> None:
    """An ETag that is no ASCII, addresses that are none."""
    published(vendor, measured(1))
    items = [
        ("1", "/1.json"),
        ("2", "http://xn--a/"),
        ("3", "http://h\u00e9/\u00e9"),
        ("4", "http://a b/"),
        ("5", "x" * 3000),
    ]
    vendor.answers["/feed.rss"] = answer(rss(*items), ETag='"\xe9"')
    site.add(f"{vendor.url}/feed.rss")
    assert site.look() == "" or site.state().tries
    assert site.state().taken == 1
    assert site.look() == "" or site.state().tries


def test_digests_of_what_was_seen_stay_bounded(site: Site, vendor: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the newest document has is kept longest, so nothing of it is fetched again."""
    monkeypatch.setattr("ingest.source.enclosures.MAX_SEEN", 4)
    published(vendor, *(measured(number) for number in range(4)))
    link = '<atom:link xmlns:atom="http://www.w3.org/2005/Atom" rel="prev-archive" href="/a.rss"/>'
    items = [(f"id-{number}", f"/{number}.json") for number in range(1, 5)]
    vendor.answers["/feed.rss"] = answer(rss(*items[2:], more=link))
    vendor.answers["/a.rss"] = answer(rss(*items[:2]))
    site.add(f"{vendor.url}/feed.rss")
    site.look()
    assert len(site.state().seen) == 4
    vendor.answers["/5.json"] = answer(measured(5))
    vendor.answers["/feed.rss"] = answer(rss(*items[2:], ("id-5", "/5.json"), more=link))
    vendor.asked.clear()
    site.look()
    assert vendor.paths == ["/feed.rss", "/5.json"]


def test_what_the_feed_says_of_itself_reaches_the_terminal_harmless(site: Site, vendor: Stranger) -> None:
    vendor.answers["/feed.rss"] = answer(rss(("\u202eevil\x85", "/none.json")))
    site.add(f"{vendor.url}/feed.rss")
    site.look()
    (note,) = site.state().notes
    assert "\x85" not in note.entry
    assert hashlib.sha256(note.entry.encode())
