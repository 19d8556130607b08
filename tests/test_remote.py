"""Somebody's bucket over HTTP: what `feed.remote.address` reads, asks again, and refuses."""

import gzip
import hashlib
import os
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard

from feed.announceable import describe_submission
from feed.announcer import Announcer
from feed.log import LogReader
from feed.pages import linked_pages
from feed.remote.address import RemoteBucket, from_feed_url
from feed.remote.asking import Asker, Gone, redirected
from feed.signing import Signer
from infra.again import Busy, World
from infra.folder import FolderBucket
from infra.s3 import open_s3
from schemas import keys
from schemas.errors import Refused, Unavailable
from tests.chain import Chain
from tests.origin import Origin
from tests.running import running
from tests.servers import S3Server

HEAD = keys.feed_head("submissions")


class Sleeps:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def world(self) -> World:
        return World(clock=lambda: sum(self.slept), sleep=self.slept.append, chance=lambda: 0.0)


@pytest.fixture
def sleeps() -> Sleeps:
    return Sleeps()


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Origin]:
    (tmp_path / "origin").mkdir()
    with Origin(tmp_path / "origin") as origin:
        yield origin


@pytest.fixture
def remote(origin: Origin, sleeps: Sleeps) -> Iterator[RemoteBucket]:
    bucket = RemoteBucket(origin.url, Asker(world=sleeps.world()))
    yield bucket
    bucket.close()


def put(origin: Origin, key: str, body: bytes) -> bytes:
    path = origin.folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return body


def a_log(chain: Chain, pages: int, head_keep: int = 2) -> LogReader:
    """A submissions log of so many pages, signed and indexed, in the chain's public bucket."""
    signer = Signer.of(chain.buckets.private)
    announcer = Announcer(
        chain.buckets,
        chain.submissions,
        describe_submission,
        clock=chain.clock,
        signer=signer,
        head_keep=head_keep,
        threads=1,
    )
    for number in range((pages + 1) * head_keep + 1):
        chain.push(b'{"n": %d}' % number)
        assert announcer.commit() == 1
    return chain.submissions


# --- objects ---


def test_what_is_read_is_what_is_there(origin: Origin, remote: RemoteBucket) -> None:
    blob = put(origin, "blobs/ab/x", os.urandom(300_000))
    document = put(origin, HEAD, b"<feed>" + b" " * 5000)
    assert remote.read("blobs/ab/x") == blob
    assert remote.read("blobs/ab/x", 10, 5) == blob[10:15]
    assert remote.read("blobs/ab/x", len(blob)) == b""
    assert remote.head("blobs/ab/x").size_bytes == len(blob)
    assert remote.read_versioned(HEAD)[0] == document
    with remote.local_path("blobs/ab/x") as path:
        assert path.read_bytes() == blob
    with pytest.raises(FileNotFoundError):
        remote.read("blobs/ab/absent")


@pytest.mark.parametrize("start", [0, 1 << 20])
def test_a_server_without_ranges_sends_no_more_than_is_wanted(origin: Origin, remote: RemoteBucket, start: int) -> None:
    """It may send all of a large object: what lies behind the wanted bytes is neither read nor kept."""
    body = b"0123456789" * (5 << 20)
    origin.plan.append((200, {}, body))
    tracemalloc.start()
    try:
        assert remote.read("blobs/ab/x", start, 10) == body[start : start + 10]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def test_only_documents_are_asked_for_compressed(origin: Origin, remote: RemoteBucket) -> None:
    """A blob's digest is of the bytes as they are."""
    put(origin, "blobs/ab/x", b"a" * 5000)
    put(origin, HEAD, b"b" * 5000)
    remote.read("blobs/ab/x")
    remote.read_versioned(HEAD)
    assert [one.headers["accept-encoding"] for one in origin.asked] == ["identity", "zstd, gzip"]


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_bomb_ends_at_the_bound(origin: Origin, remote: RemoteBucket, coding: str) -> None:
    """What a document decodes to is counted while it is decoded, a piece at a time."""
    zeros = bytes(100 << 20)
    packed = gzip.compress(zeros, 6) if coding == "gzip" else zstandard.ZstdCompressor().compress(zeros)
    assert len(packed) < 1 << 20
    origin.plan.append((200, {"Content-Encoding": coding}, packed))
    with pytest.raises(Refused, match="at most 67,108,864 bytes"):
        remote.read(HEAD)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_an_encoded_document_is_decoded(origin: Origin, remote: RemoteBucket, coding: str) -> None:
    text = b"<feed>" + b"entry " * 50_000
    packed = gzip.compress(text) if coding == "gzip" else zstandard.ZstdCompressor().compress(text)
    origin.plan.append((200, {"Content-Encoding": coding}, packed))
    assert remote.read(HEAD) == text


def test_what_is_no_gzip_is_unavailable(origin: Origin, remote: RemoteBucket) -> None:
    origin.plan.extend([(200, {"Content-Encoding": "gzip"}, b"nonsense" * 9)] * 20)
    with pytest.raises(Unavailable, match="expected a body in gzip"):
        remote.read(HEAD)


def test_withdrawn_is_told_from_absent(origin: Origin, remote: RemoteBucket) -> None:
    origin.plan.append(410)
    with pytest.raises(Gone):
        remote.read("blobs/ab/x")


def test_nothing_is_written(remote: RemoteBucket) -> None:
    for write in (
        lambda: remote.create("a", b""),
        lambda: remote.swap("a", b"", etag=None),
        lambda: remote.delete("a"),
    ):
        with pytest.raises(Refused, match="only read"):
            write()


# --- what changes ---


def test_an_unchanged_head_moves_no_bytes(origin: Origin, remote: RemoteBucket) -> None:
    """It is asked for conditionally, and the copy is given again."""
    put(origin, HEAD, b"b" * 5000)
    etags = {remote.head(HEAD).etag for _ in range(5)}
    assert len(etags) == 1
    assert [one.status for one in origin.asked] == [200, 304, 304, 304, 304]


def test_head_and_bytes_come_with_one_request(origin: Origin, remote: RemoteBucket) -> None:
    """As a LogReader asks: the etag first, then the bytes if it has changed."""
    put(origin, HEAD, b"b" * 5000)
    etag = remote.head(HEAD).etag
    assert remote.read_versioned(HEAD) == (b"b" * 5000, etag)
    assert len(origin.asked) == 1


def test_a_changed_head_is_seen(origin: Origin, remote: RemoteBucket) -> None:
    put(origin, HEAD, b"old")
    before = remote.head(HEAD).etag
    put(origin, HEAD, b"new")
    assert remote.head(HEAD).etag != before
    assert remote.read_versioned(HEAD)[0] == b"new"


def test_a_server_without_etags_will_do(origin: Origin, remote: RemoteBucket) -> None:
    origin.etags = False
    put(origin, HEAD, b"old")
    before = remote.head(HEAD).etag
    assert remote.head(HEAD).etag == before
    put(origin, HEAD, b"new")
    assert remote.head(HEAD).etag != before


# --- trying again ---


@pytest.mark.parametrize("trouble", ["drop", 500, 503, 429, ("cut", 1000)], ids=["drop", "500", "503", "429", "cut"])
def test_trouble_that_passes_is_not_seen(origin: Origin, remote: RemoteBucket, sleeps: Sleeps, trouble: object) -> None:
    blob = put(origin, "blobs/ab/x", os.urandom(5000))
    origin.plan.extend([trouble, trouble])
    assert remote.read("blobs/ab/x") == blob
    assert len(origin.asked) == 3
    assert sleeps.slept == [0.25, 0.5]


def test_trouble_that_stays_is_unavailable(origin: Origin, remote: RemoteBucket, sleeps: Sleeps) -> None:
    origin.plan.extend([503] * 100)
    with pytest.raises(Unavailable, match="503"):
        remote.read("blobs/ab/x")
    assert 30 < sum(sleeps.slept) <= 60


def test_retry_after_is_obeyed(origin: Origin, remote: RemoteBucket, sleeps: Sleeps) -> None:
    put(origin, "blobs/ab/x", b"x")
    origin.plan.append((429, {"Retry-After": "7"}, b""))
    assert remote.read("blobs/ab/x") == b"x"
    assert sleeps.slept == [7.25]


def test_a_wish_beyond_our_patience_is_passed_on(origin: Origin, remote: RemoteBucket, sleeps: Sleeps) -> None:
    origin.plan.append((503, {"Retry-After": "3600"}, b""))
    with pytest.raises(Busy) as raised:
        remote.read("blobs/ab/x")
    assert raised.value.retry_after_seconds == 3600
    assert sleeps.slept == []


def test_a_short_body_is_no_body(origin: Origin, remote: RemoteBucket) -> None:
    """Content-Length says more than comes."""
    put(origin, "blobs/ab/x", b"12345")
    origin.plan.append((200, {"Content-Length": "50", "Connection": "close"}, b"12345"))
    assert remote.read("blobs/ab/x") == b"12345"
    assert len(origin.asked) == 2


def test_an_answer_that_drips_ends(origin: Origin, remote: RemoteBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slowly a server answers, an attempt to read into memory has an end."""
    put(origin, "blobs/ab/x", b"x" * 100)
    monkeypatch.setattr("feed.remote.bucket._MOST_SECONDS", -1.0)
    with pytest.raises(Unavailable, match="one that drips"):
        remote.read("blobs/ab/x")


def test_a_fetch_goes_on_where_it_was_cut(origin: Origin, remote: RemoteBucket, tmp_path: Path) -> None:
    """Of a large blob over a connection that keeps breaking, every byte is moved about once."""
    blob = put(origin, "blobs/ab/x", os.urandom(1_000_000))
    origin.cut_bytes = 300_000
    moved: list[bytes] = []
    remote.fetch_to("blobs/ab/x", tmp_path / "blob", moved.append)
    assert (tmp_path / "blob").read_bytes() == blob
    assert b"".join(moved) == blob
    assert [one.headers.get("range") for one in origin.asked] == [
        None,
        "bytes=300000-",
        "bytes=600000-",
        "bytes=900000-",
    ]


def test_a_fetch_goes_on_where_another_process_ended(origin: Origin, remote: RemoteBucket, tmp_path: Path) -> None:
    blob = put(origin, "blobs/ab/x", os.urandom(10_000))
    (tmp_path / "blob").write_bytes(blob[:4000])
    remote.fetch_to("blobs/ab/x", tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == blob
    remote.fetch_to("blobs/ab/x", tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == blob
    assert [one.status for one in origin.asked] == [206, 416]


def test_a_fetch_from_a_server_without_ranges_starts_over(origin: Origin, remote: RemoteBucket, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"1234")
    origin.plan.append((200, {}, b"123456"))
    remote.fetch_to("blobs/ab/x", tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == b"123456"


# --- redirects ---


@pytest.mark.parametrize(
    ("url", "location", "target"),
    [
        ("http://a.example/x", "/y", "http://a.example/y"),
        ("http://a.example/x", "https://a.example/x", "https://a.example/x"),
        ("https://a.example:8443/x", "https://a.example:8443/y#z", "https://a.example:8443/y"),
    ],
    ids=["path", "upgrade", "port"],
)
def test_a_redirect_on_the_same_host_is_followed(url: str, location: str, target: str) -> None:
    assert redirected(url, location) == target


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("https://a.example/x", "http://a.example/x"),
        ("https://a.example/x", "https://b.example/x"),
        ("http://a.example/x", "http://169.254.169.254/latest"),
        ("http://a.example/x", "http://a.example:22/x"),
        ("http://a.example/x", "file:///etc/passwd"),
        ("http://a.example/x", ""),
    ],
    ids=["downgrade", "host", "metadata", "port", "file", "nowhere"],
)
def test_a_redirect_to_somebody_else_is_refused(url: str, location: str) -> None:
    with pytest.raises(Refused, match="redirect"):
        redirected(url, location)


def test_redirects_end(origin: Origin, remote: RemoteBucket) -> None:
    put(origin, "blobs/ab/x", b"x")
    origin.plan.append((302, {"Location": "/blobs/ab/x"}, b""))
    assert remote.read("blobs/ab/x") == b"x"
    origin.plan.extend([(302, {"Location": "/blobs/ab/x"}, b"")] * 9)
    with pytest.raises(Refused, match="5 redirects"):
        remote.read("blobs/ab/x")


# --- a log over it ---


@pytest.fixture
def log(origin: Origin, tmp_path: Path) -> Chain:
    """A chain of its own whose public bucket the origin serves."""
    chain = Chain(tmp_path / "data")
    origin.folder = tmp_path / "data" / "public"
    return chain


def test_a_log_reads_as_from_a_folder(log: Chain, remote: RemoteBucket) -> None:
    """`list`, and so LogReader, work over what the index and the links say."""
    local = a_log(log, pages=5)
    reader = LogReader(remote, "submissions")
    assert reader.entries_after(0) == local.entries_after(0)
    assert reader.entries(3, 5) == local.entries(3, 5)
    pages = [key for key in local.bucket.list("feeds/submissions/") if keys.parse_page(key)]
    assert len(pages) == 5
    assert list(remote.list("feeds/submissions/")) == pages
    assert list(remote.list("feeds/submissions/", after=pages[2])) == pages[3:]


@pytest.mark.parametrize("index", ["none", "damaged", "other log's"])
def test_without_an_index_the_links_lead_everywhere(log: Chain, remote: RemoteBucket, index: str) -> None:
    local = a_log(log, pages=4)
    path = log.data / "public" / keys.feed_index("submissions")
    bodies = {"damaged": b'{"log": 3', "other log's": b'{"log": "outcomes-v1", "pages": []}'}
    path.unlink()
    if index in bodies:
        path.write_bytes(bodies[index])
    assert LogReader(remote, "submissions").entries_after(0) == local.entries_after(0)


def test_a_late_start_reads_neither_early_pages_nor_early_parts(
    log: Chain, remote: RemoteBucket, origin: Origin
) -> None:
    local = a_log(log, pages=530, head_keep=1)
    reader = LogReader(remote, "submissions")
    pages = list(linked_pages(reader, reader.head(), from_seq=529))
    assert [page.first for page in pages] == [529, 530]
    assert local.last_seq() == 532
    assert origin.count(".atom") <= 2  # the head, and at most the newest page for its link
    assert origin.count("/index/") == 1  # of two parts, the newest


def test_other_folders_cannot_be_listed(remote: RemoteBucket) -> None:
    with pytest.raises(Refused, match="a log's folder to list"):
        list(remote.list("blobs/"))


# --- addresses ---


@contextmanager
def opened(url: str) -> Iterator[tuple[RemoteBucket, str]]:
    bucket, log = from_feed_url(url)
    assert isinstance(bucket, RemoteBucket)
    with closing(bucket):
        yield bucket, log


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("", "submissions"),
        ("/", "submissions"),
        ("/feeds/submissions/current.atom", "submissions"),
        ("/feeds/outcomes-v1/current.atom", "outcomes-v1"),
        ("/feeds/outcomes-v1/current.atom?x=1#y", "outcomes-v1"),
        ("/feeds/submissions/000000000001-000000000002-0123456789abcdef.atom", "submissions"),
    ],
)
def test_what_an_address_means_is_seen_without_asking(origin: Origin, path: str, named: str) -> None:
    with opened(origin.url + path) as (bucket, log):
        assert (bucket.base_url, log) == (origin.url, named)
    assert origin.asked == []


def test_a_copy_below_a_path_is_found(origin: Origin) -> None:
    put(origin, f"archive/2026/{HEAD}", b"<feed/>")
    with opened(f"{origin.url}/archive/2026/") as (bucket, log):
        assert (bucket.base_url, log) == (f"{origin.url}/archive/2026", "submissions")


@pytest.mark.parametrize("by", ["page", "header"])
def test_a_page_names_its_feed(origin: Origin, by: str) -> None:
    page = b'<!doctype html><html><head><link rel="alternate" type="application/atom+xml"'
    page += b' href="/feeds/outcomes-v2/current.atom"></head><body>Runs</body></html>'
    origin.plan.append(404)
    if by == "page":
        origin.plan.append((200, {}, page))
    else:
        origin.plan.append((200, {"Link": '</feeds/outcomes-v2/current.atom>; rel="alternate"'}, b""))
    with opened(f"{origin.url}/runs?project=p") as (bucket, log):
        assert (bucket.base_url, log) == (origin.url, "outcomes-v2")


def test_a_page_of_something_else_is_refused(origin: Origin) -> None:
    put(origin, "page", b"<p>Hello</p>")
    with closing(Asker()) as asker, pytest.raises(Refused, match="a page that links its feed"):
        from_feed_url(f"{origin.url}/page", asker=asker)


@pytest.mark.parametrize("where", ["data", "public", "head"])
def test_a_folder_is_an_address_too(log: Chain, where: str) -> None:
    local = a_log(log, pages=1)
    at = {"data": log.data, "public": log.data / "public", "head": log.data / "public" / HEAD}[where]
    bucket, name = from_feed_url(str(at))
    assert LogReader(bucket, name).entries_after(0) == local.entries_after(0)


def test_object_storage_is_an_address_too(s3_server: S3Server) -> None:
    bucket = open_s3("s3://remote/x", s3_server.environ)
    bucket.create(HEAD, b"<feed/>")
    for url in ("s3://remote/x", f"s3://remote/x/{HEAD}"):
        opened, log = from_feed_url(url, environ=s3_server.environ)
        assert (opened.read(HEAD), log) == (b"<feed/>", "submissions")


@pytest.mark.parametrize(
    "url",
    ["ftp://host/feed", "http://user:secret@host/", "http://", "/nowhere/at/all"],
    ids=["scheme", "password", "host", "folder"],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(Refused) as raised:
        from_feed_url(url)
    assert "secret" not in str(raised.value)


def test_a_real_server_is_read_like_its_folder(tmp_path: Path) -> None:
    """`runfeed up` with its own compression, ETags and ranges."""
    with running(tmp_path / "data") as server, ExitStack() as stack:
        body = b'{"benchmark": "b", "metric": "t", "value": 1}' * 1000
        receipt = server.push(body)
        server.wait_for(receipt["id"])
        bucket, log = stack.enter_context(opened(server.url))
        local = LogReader(FolderBucket(tmp_path / "data" / "public"), log)
        assert LogReader(bucket, log).entries_after(0) == local.entries_after(0)
        entry = local.entries_after(0)[0]
        assert hashlib.sha256(bucket.read(entry.key)).hexdigest() == entry.sha256
        assert bucket.read(entry.key, 10, 20) == body[10:30]
        with bucket.local_path(entry.key) as path:
            assert path.read_bytes() == body
        modified = bucket.head(entry.key).modified
        assert abs((datetime.now(UTC) - modified).total_seconds()) < 60
