"""The public bucket over HTTP: bytes, headers, conditional requests, ranges, and nothing else."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from litestar import Litestar, get
from litestar.params import FromPath
from litestar.testing import TestClient

from feed.http import PIECE_BYTES, answer_to, object_routes
from infra.bucket import Head
from infra.folder import FolderBucket
from schemas import keys

SMALL = b"0123456789"
BLOB = keys.blob(hashlib.sha256(SMALL).hexdigest())
LARGE = bytes(range(256)) * (PIECE_BYTES * 5 // 512) + b"end"
LARGE_BLOB = keys.blob(hashlib.sha256(LARGE).hexdigest())
SUBMISSION = keys.submission("ab" * 32)
HEAD = keys.feed_head("submissions")
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


def test_what_never_changes_may_be_kept_for_ever_and_heads_are_asked_for_again(client: TestClient[Litestar]) -> None:
    for key in (BLOB, SUBMISSION, PART):
        assert client.get(f"/{key}").headers["cache-control"] == "public, max-age=31536000, immutable"
    assert client.get(f"/{HEAD}").headers["cache-control"] == "no-cache"


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
