"""The public bucket over HTTP: bytes, headers, conditional requests, ranges, and nothing else."""

import gzip
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import zstandard
from litestar import Litestar, get
from litestar.params import FromPath
from litestar.testing import TestClient

from feed.serve.answer import answer_to
from feed.serve.http import PIECE_BYTES, object_routes
from infra.bucket import Head
from infra.compression import LEAST_BYTES
from infra.folder import FolderBucket
from infra.settings import Settings
from schemas import keys
from schemas.records import Withdrawal
from tests.own_loop import in_own_loop

SMALL = b"0123456789"
BLOB = keys.blob(hashlib.sha256(SMALL).hexdigest())
LARGE = bytes(range(256)) * (PIECE_BYTES * 5 // 512) + b"end"
LARGE_BLOB = keys.blob(hashlib.sha256(LARGE).hexdigest())
SUBMISSION = keys.submission("ab" * 32)
HEAD = keys.feed_head("submissions")
PAGE = keys.Page("submissions", 1, 100, "0123456789abcdef").key
INDEX = keys.feed_index("submissions")
SEALED = keys.sealed_index("submissions", 1, 100, "0123456789abcdef")
PART = keys.part(1, "runs", 1, 2, "0123456789abcdef")


@pytest.fixture
def bucket(tmp_path: Path) -> FolderBucket:
    bucket = FolderBucket(tmp_path)
    for key, body in [(BLOB, SMALL), (LARGE_BLOB, LARGE), (SUBMISSION, b'{"id": 1}'), (PART, b"PAR1"), (HEAD, b"<a/>")]:
        bucket.create(key, body)
    return bucket


@pytest.fixture
def client(bucket: FolderBucket) -> Iterator[TestClient[Litestar]]:
    @get("/submissions/{id:str}", sync_to_thread=False)
    def page(id: FromPath[str]) -> str:
        return f"page of {id}"

    with TestClient(Litestar([page, *object_routes(bucket)], openapi_config=None)) as client:
        yield client


def test_objects_are_served_under_their_own_keys_with_type_length_and_etag(client: TestClient[Litestar]) -> None:
    for key, body, kind in [
        (BLOB, SMALL, "application/octet-stream"),
        (LARGE_BLOB, LARGE, "application/octet-stream"),
        (SUBMISSION, b'{"id": 1}', "application/json"),
        (PART, b"PAR1", "application/vnd.apache.parquet"),
        (HEAD, b"<a/>", "application/atom+xml"),
    ]:
        answer = client.get(f"/{key}")
        assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, body, kind)
        assert answer.headers["content-length"] == str(len(body))
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["access-control-allow-origin"] == "*"
        head = client.head(f"/{key}")
        assert (head.status_code, head.content, head.headers) == (200, b"", answer.headers)


def test_what_never_changes_may_be_kept_long_heads_for_a_second_and_pointers_not(
    client: TestClient[Litestar], bucket: FolderBucket
) -> None:
    for key in (keys.CURRENT_LAKE, INDEX, SEALED, PAGE):
        bucket.create(key, b"{}")
    for key in (PAGE, SEALED):
        assert client.get(f"/{key}").headers["cache-control"] == "public, max-age=31536000, immutable"
    for key in (BLOB, SUBMISSION, PART):  # a withdrawal has to reach caches too
        assert client.get(f"/{key}").headers["cache-control"] == "public, max-age=86400, immutable"
    for key in (HEAD, INDEX):
        assert client.get(f"/{key}").headers["cache-control"] == "public, max-age=1"
    assert client.get(f"/{keys.CURRENT_LAKE}").headers["cache-control"] == "no-cache"


def test_a_blob_cannot_act_as_a_page_of_this_site(client: TestClient[Litestar]) -> None:
    headers = client.get(f"/{BLOB}").headers
    assert headers["content-disposition"] == "attachment"
    assert headers["content-security-policy"] == "sandbox"


def test_an_unchanged_object_is_not_sent_again(client: TestClient[Litestar], bucket: FolderBucket) -> None:
    for key in (BLOB, HEAD):
        etag = client.get(f"/{key}").headers["etag"]
        for known in (etag, f'"other", W/{etag}', "*"):
            answer = client.get(f"/{key}", headers={"If-None-Match": known})
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
            assert "content-length" not in answer.headers
        assert client.get(f"/{key}", headers={"If-None-Match": '"other"'}).status_code == 200
    modified = client.get(f"/{BLOB}").headers["last-modified"]
    assert client.get(f"/{BLOB}", headers={"If-Modified-Since": modified}).status_code == 304
    old = {"If-Modified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}
    assert client.get(f"/{BLOB}", headers=old).status_code == 200
    assert client.get(f"/{BLOB}", headers={"If-Modified-Since": "yesterday"}).status_code == 200
    both = {"If-None-Match": '"other"', "If-Modified-Since": modified}
    assert client.get(f"/{BLOB}", headers=both).status_code == 200, "the etag outranks the date"
    etag = bucket.head(HEAD).etag
    bucket.swap(HEAD, b"<b/>", etag=etag)
    assert client.get(f"/{HEAD}", headers={"If-None-Match": f'"{etag}"'}).content == b"<b/>"


def test_a_head_gives_no_date_while_its_second_is_not_over() -> None:
    """Else a second change within that second would go unseen by readers that know dates only."""
    written = datetime(2026, 1, 1, 12, 0, 0, 200_000, tzinfo=UTC)
    head = Head(4, "e", written, "application/atom+xml")
    assert "Last-Modified" not in answer_to(HEAD, {}, head, written + timedelta(seconds=0.5)).headers
    later = answer_to(HEAD, {}, head, written + timedelta(seconds=3))
    assert later.headers["Last-Modified"] == "Thu, 01 Jan 2026 12:00:00 GMT"
    assert "Last-Modified" in answer_to(BLOB, {}, head, written).headers


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=2-5", 206, 2, 6),
        ("bytes=7-", 206, 7, 10),
        ("bytes=-3", 206, 7, 10),
        ("bytes=-99", 206, 0, 10),
        ("bytes=5-99", 206, 5, 10),
        ("bytes=10-", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=5-2", 200, 0, 10),
        ("bytes=0-1,4-5", 200, 0, 10),
        ("lines=1-2", 200, 0, 10),
        ("bytes=-", 200, 0, 10),
    ],
)
def test_one_range_is_answered_with_just_that(
    client: TestClient[Litestar], asked: str, status: int, start: int, stop: int
) -> None:
    answer = client.get(f"/{BLOB}", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (status, SMALL[start:stop])
    assert answer.headers["content-length"] == str(stop - start)
    expected = {206: f"bytes {start}-{stop - 1}/10", 416: "bytes */10"}.get(status)
    assert answer.headers.get("content-range") == expected


@pytest.mark.parametrize("asked", ["bytes=2-5", "bytes=10-"])
def test_a_range_is_of_get_alone(client: TestClient[Litestar], asked: str) -> None:
    """HEAD answers as a GET without one (RFC 9110, 14.2)."""
    answer = client.head(f"/{BLOB}", headers={"Range": asked})
    assert (answer.status_code, answer.headers) == (200, client.get(f"/{BLOB}").headers)
    assert "content-range" not in answer.headers


def test_a_range_over_several_pieces_and_of_a_head(client: TestClient[Litestar]) -> None:
    start, stop = PIECE_BYTES - 7, 2 * PIECE_BYTES + 5
    answer = client.get(f"/{LARGE_BLOB}", headers={"Range": f"bytes={start}-{stop - 1}"})
    assert (answer.status_code, answer.content) == (206, LARGE[start:stop])
    assert client.get(f"/{HEAD}", headers={"Range": "bytes=1-2"}).content == b"a/"


def test_a_range_of_another_version_is_answered_with_the_whole(client: TestClient[Litestar]) -> None:
    headers = client.get(f"/{BLOB}").headers
    for validator, status in [
        (headers["etag"], 206),
        (headers["last-modified"], 206),
        ('"other"', 200),
        ("Sat, 01 Jan 2000 00:00:00 GMT", 200),
    ]:
        answer = client.get(f"/{BLOB}", headers={"Range": "bytes=0-1", "If-Range": validator})
        assert answer.status_code == status, validator


def test_a_large_object_is_read_in_pieces(client: TestClient[Litestar], monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []
    read = FolderBucket.read

    def counted(self: FolderBucket, key: str, start: int = 0, length: int | None = None) -> bytes:
        lengths.append(length)
        return read(self, key, start, length)

    monkeypatch.setattr(FolderBucket, "read", counted)
    assert client.get(f"/{LARGE_BLOB}").content == LARGE
    assert lengths == [PIECE_BYTES, PIECE_BYTES, PIECE_BYTES // 2 + 3]


@pytest.mark.parametrize(
    "path",
    [
        f"/{BLOB[:-1]}",
        "/blobs/aa",
        f"/{BLOB}/more",
        "/blobs/%2e%2e/%2e%2e/etc/passwd",
        "/blobs/..%2f..%2fetc%2fpasswd",
        "/feeds/submissions/.tmp/x",
        "/feeds/submissions",
        "/feeds/a%20b/current.atom",
        "/feeds/%00/current.atom",
        "/lake/v1//runs",
        "/pending/submissions/p/x",
        "/projects/p.json",
        "/" + "blobs/" + "a" * 2000,
    ],
)
def test_anything_else_is_not_found(client: TestClient[Litestar], path: str) -> None:
    assert client.get(path).status_code == 404


def test_the_objects_leave_room_for_pages_beside_them(client: TestClient[Litestar]) -> None:
    id = "ab" * 32
    assert client.get(f"/submissions/{id}").text == f"page of {id}"
    assert client.get(f"/submissions/ab/{id}.json").json() == {"id": 1}
    assert client.post(f"/{BLOB}").status_code == 405


def test_other_sites_may_ask_with_conditions_and_ranges(client: TestClient[Litestar]) -> None:
    answer = client.options(f"/{BLOB}", headers={"Origin": "https://other.example"})
    assert answer.status_code == 204
    assert "Range" in answer.headers["access-control-allow-headers"]
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD"


# --- compression ---

TEXT = b"<entry>" * LEAST_BYTES


def plain(client: TestClient[Litestar], key: str, accepts: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and the body as it is on the wire."""
    with client.stream("GET", f"/{key}", headers={"Accept-Encoding": accepts, **headers}) as answer:
        return answer.status_code, dict(answer.headers), b"".join(answer.iter_raw())


def test_text_goes_out_compressed_to_who_accepts_that_each_coding_with_a_strong_etag_of_its_own(
    client: TestClient[Litestar], bucket: FolderBucket
) -> None:
    bucket.create(PAGE, TEXT)
    etags = set()
    for accepts, coding, decode in [
        ("zstd, gzip", "zstd", lambda body: zstandard.ZstdDecompressor().decompress(body)),
        ("gzip, deflate", "gzip", gzip.decompress),
        ("identity", None, bytes),
    ]:
        for _ in range(2):  # the second time it is known
            status, headers, body = plain(client, PAGE, accepts)
            assert (status, headers.get("content-encoding"), decode(body)) == (200, coding, TEXT)
            assert headers["content-length"] == str(len(body))
            assert headers["vary"] == "Accept-Encoding"
        etags.add(headers["etag"])
        assert headers["etag"].startswith('"')
        head = client.head(f"/{PAGE}", headers={"Accept-Encoding": accepts})
        assert (head.status_code, head.content, dict(head.headers)) == (200, b"", headers)
        known = plain(client, PAGE, accepts, **{"If-None-Match": headers["etag"]})
        assert (known[0], known[1]["etag"], known[1]["vary"], known[2]) == (
            304,
            headers["etag"],
            "Accept-Encoding",
            b"",
        )
        assert "content-encoding" not in known[1]
    assert len(etags) == 3
    other = plain(client, PAGE, "gzip", **{"If-None-Match": next(tag for tag in etags if "zstd" in tag)})
    assert other[0] == 200, "what this reader has is another representation"


def test_blobs_parquet_and_small_texts_go_out_as_they_are(client: TestClient[Litestar], bucket: FolderBucket) -> None:
    for key in (LARGE_BLOB, PART, HEAD):
        _, headers, _ = plain(client, key, "zstd, gzip")
        assert "content-encoding" not in headers
    assert "vary" not in plain(client, LARGE_BLOB, "gzip")[1]


def test_a_range_is_of_the_plain_bytes_whatever_is_accepted(client: TestClient[Litestar], bucket: FolderBucket) -> None:
    bucket.create(PAGE, TEXT)
    status, headers, body = plain(client, PAGE, "gzip", Range="bytes=3-9")
    assert (status, body, headers["etag"]) == (206, TEXT[3:10], plain(client, PAGE, "identity")[1]["etag"])
    assert "content-encoding" not in headers
    begun = plain(client, PAGE, "gzip")[1]
    assert begun["accept-ranges"] == "none"
    again = plain(client, PAGE, "gzip", **{"Range": "bytes=3-9", "If-Range": begun["etag"]})
    assert (again[0], again[2]) == (200, TEXT), "a compressed copy cannot be gone on with"


def test_a_head_that_changes_is_never_sent_with_the_compressed_bytes_of_another_version(
    client: TestClient[Litestar], bucket: FolderBucket
) -> None:
    etag = bucket.head(HEAD).etag
    for number in range(3):
        etag = bucket.swap(HEAD, TEXT + str(number).encode(), etag=etag)
        assert gzip.decompress(plain(client, HEAD, "gzip")[2]) == TEXT + str(number).encode()


# --- links, withdrawals ---


def links_of(settings: Settings | None, bucket: FolderBucket, key: str, host: str = "127.0.0.1:8765") -> str | None:
    """The Link header for a program on this machine that asks at `host`."""

    async def ask() -> httpx.Response:
        app: Any = Litestar(object_routes(bucket, settings), openapi_config=None)
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 50000))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return await client.get(f"/{key}")

    return in_own_loop(ask()).headers.get("link")


def test_a_head_names_its_address_and_its_hubs_where_they_are_known(bucket: FolderBucket) -> None:
    public = Settings(public_url="https://results.example/", hubs="https://hub.example/ https://other.example/h")
    assert links_of(public, bucket, HEAD, "attacker.example") == (
        '<https://results.example/feeds/submissions/current.atom>; rel="self", <https://results.example/hub>; rel="hub"'
        ', <https://hub.example/>; rel="hub", <https://other.example/h>; rel="hub"'
    )
    local = '<http://127.0.0.1:8765/feeds/submissions/current.atom>; rel="self", <http://127.0.0.1:8765/hub>; rel="hub"'
    assert links_of(Settings(), bucket, HEAD) == local
    assert links_of(Settings(), bucket, HEAD, "rebound.example") is None, "a Host that anybody may have made up"
    assert links_of(Settings(host="0.0.0.0"), bucket, HEAD) is None
    assert links_of(None, bucket, HEAD) is None
    assert links_of(public, bucket, BLOB) is None
    assert links_of(public, bucket, keys.feed_head("outcomes-v9")) is None, "there is no such log"


def test_a_page_links_the_head_beside_it(bucket: FolderBucket) -> None:
    bucket.create(PAGE, b"<a/>")
    assert links_of(Settings(), bucket, PAGE) == '<current.atom>; rel="current"'


def test_a_withdrawn_blob_is_gone_with_the_reason_and_the_record(
    client: TestClient[Litestar], bucket: FolderBucket
) -> None:
    sha256 = BLOB.rpartition("/")[2]
    record = Withdrawal(
        sha256=sha256,
        reason="a leaked token",
        submissions=[],
        project="p",
        nonce="0" * 32,
        withdrawn=datetime(2026, 5, 1, tzinfo=UTC),
    )
    bucket.delete(BLOB)
    absent = client.get(f"/{BLOB}")
    assert (absent.status_code, absent.headers["cache-control"]) == (404, "no-cache")
    bucket.create(keys.withdrawal(sha256), msgspec.json.encode(record))
    gone = client.get(f"/{BLOB}")
    assert (gone.status_code, gone.headers["content-type"]) == (410, "application/problem+json")
    assert "a leaked token" in gone.json()["detail"]
    assert gone.headers["cache-control"] == "no-cache"
    assert gone.headers["link"] == f'<../../{keys.withdrawal(sha256)}>; rel="describedby"; type="application/json"'
    head = client.head(f"/{BLOB}")
    assert (head.status_code, head.content, head.headers) == (410, b"", gone.headers)
    shown = client.get(f"/{keys.withdrawal(sha256)}")
    assert shown.json()["reason"] == "a leaked token"
    assert shown.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert client.get(f"/{keys.submission('cd' * 32)}").status_code == 404
