"""The contract of `infra.bucket.Bucket`, run over every implementation.

`folder` is a directory, `s3` a real SeaweedFS (which lists folder by folder), `memory` the S3 code over a store in
memory that lists in key order, as S3 does, `moto` another reading of S3's own words, which proves nothing about races,
durability or rights.
"""

import hashlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer
from obstore.store import MemoryStore

from infra.aws import client_options
from infra.bucket import Bucket, is_key
from infra.folder import FolderBucket
from infra.s3 import S3Bucket, open_s3
from schemas.errors import SwapLost

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def moto_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["folder", "s3", "memory", "moto"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bucket]:
    """An empty bucket."""
    if request.param == "folder":
        yield FolderBucket(tmp_path / "bucket")
    elif request.param == "s3":
        server = request.getfixturevalue("s3_server")
        on_server = open_s3(f"s3://contract/{next(_numbers)}", server.environ)
        on_server.create("first", b"")  # the first write makes the bucket
        on_server.delete("first")
        yield on_server
    elif request.param == "moto":
        if request.node.get_closest_marker("races"):
            pytest.skip("moto keeps everything in one process and proves nothing about races")
        environ = {
            "AWS_ENDPOINT_URL": request.getfixturevalue("moto_endpoint"),
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
        }
        name = f"contract-{next(_numbers)}"
        boto3.client("s3", **client_options(environ)).create_bucket(Bucket=name)
        yield open_s3(f"s3://{name}", environ)
    else:
        in_memory = S3Bucket("memory")
        in_memory._store = MemoryStore()
        in_memory.check_conditional_writes()
        yield in_memory


def together(count: int, work: Callable[[int], object]) -> list[object]:
    """What `work(0)` … `work(count - 1)` returned, each in a thread of its own, started at once."""
    gate = threading.Barrier(count)

    def run(number: int) -> object:
        gate.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def turns(bucket: Bucket) -> range:
    """How often to run a race: SeaweedFS lets those who wait for one key look again only once a second."""
    return range(1 if isinstance(bucket, S3Bucket) else 10)


# --- create ---


def test_what_was_created_is_read_back(bucket: Bucket) -> None:
    etag = bucket.create("a/b.json", b"{}")
    assert bucket.read("a/b.json") == b"{}"
    assert bucket.read_versioned("a/b.json") == (b"{}", etag)


def test_an_existing_object_is_never_replaced_by_create(bucket: Bucket, tmp_path: Path) -> None:
    bucket.create("a", b"first")
    file = tmp_path / "body"
    file.write_bytes(b"second")
    for body in (b"second", file):
        with pytest.raises(FileExistsError):
            bucket.create("a", body, content_type="text/plain")
    assert bucket.read("a") == b"first"
    assert bucket.head("a").content_type == "application/octet-stream"


@pytest.mark.races
def test_one_of_sixteen_creators_wins(bucket: Bucket) -> None:
    """Half of them name a type of their own: the winner's bytes and type stay together."""
    for turn in turns(bucket):
        key = f"race/{turn}"

        def create(number: int, key: str = key) -> int | None:
            try:
                bucket.create(key, b"%d" % number, content_type=f"text/x-{number}" if number % 2 else None)
            except FileExistsError:
                return None
            return number

        winners = [number for number in together(16, create) if isinstance(number, int)]
        assert len(winners) == 1
        assert bucket.read(key) == b"%d" % winners[0]
        expected = f"text/x-{winners[0]}" if winners[0] % 2 else "application/octet-stream"
        assert bucket.head(key).content_type == expected


@pytest.mark.parametrize("size_bytes", [0, 5, 8 << 20, (20 << 20) + 1])
def test_a_file_becomes_an_object_and_a_local_file_again(bucket: Bucket, tmp_path: Path, size_bytes: int) -> None:
    body = (hashlib.sha256(b"seed").digest() * (size_bytes // 32 + 1))[:size_bytes]
    file = tmp_path / "body"
    file.write_bytes(body)
    etag = bucket.create("parts/x.parquet", file)
    head = bucket.head("parts/x.parquet")
    assert (head.etag, head.size_bytes) == (etag, size_bytes)
    assert head.content_type == "application/vnd.apache.parquet"
    with bucket.local_path("parts/x.parquet") as path:
        assert path.suffix == ".parquet"
        assert path.read_bytes() == body
    with pytest.raises(FileExistsError):
        bucket.create("parts/x.parquet", file)
    assert bucket.read("parts/x.parquet", size_bytes - 3 if size_bytes else 0) == body[-3:]


def test_creating_from_an_absent_file_creates_nothing(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        bucket.create("a", tmp_path / "absent")
    assert list(bucket.list("")) == []


# --- content types ---


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a.json", "application/json"),
        ("a.atom", "application/atom+xml"),
        ("a.parquet", "application/vnd.apache.parquet"),
        ("blobs/00/00", "application/octet-stream"),
        ("a.b/c", "application/octet-stream"),
    ],
)
def test_the_keys_ending_gives_the_type(bucket: Bucket, key: str, expected: str) -> None:
    bucket.create(key, b"<xml>text that invites guessing</xml>")
    assert bucket.head(key).content_type == expected


def test_a_given_type_is_kept_until_the_object_is_replaced(bucket: Bucket) -> None:
    """Swapping without a type goes back to the key's own; a new object after delete does not inherit one."""
    etag = bucket.create("a.json", b"1", content_type="application/schema+json")
    assert bucket.head("a.json").content_type == "application/schema+json"
    etag = bucket.swap("a.json", b"2", etag=etag, content_type="text/plain")
    assert bucket.head("a.json").content_type == "text/plain"
    etag = bucket.swap("a.json", b"3", etag=etag)
    assert bucket.head("a.json").content_type == "application/json"
    bucket.swap("a.json", b"4", etag=etag, content_type="text/plain")
    bucket.delete("a.json")
    bucket.create("a.json", b"4")
    assert bucket.head("a.json").content_type == "application/json"


# --- swap ---


def test_swap_needs_the_etag_of_what_is_there(bucket: Bucket) -> None:
    with pytest.raises(SwapLost):
        bucket.swap("a", b"1", etag='"00000000000000000000000000000000"')
    first = bucket.swap("a", b"1", etag=None)
    with pytest.raises(SwapLost):
        bucket.swap("a", b"2", etag=None)
    second = bucket.swap("a", b"2", etag=first)
    with pytest.raises(SwapLost):
        bucket.swap("a", b"3", etag=first)
    assert bucket.read_versioned("a") == (b"2", second)
    bucket.delete("a")
    with pytest.raises(SwapLost):
        bucket.swap("a", b"3", etag=second)
    assert list(bucket.list("")) == []


@pytest.mark.races
def test_eight_threads_lose_no_increment(bucket: Bucket) -> None:
    bucket.create("counter", b"0")

    def increment(_: int) -> None:
        for _ in range(10):
            while True:
                body, etag = bucket.read_versioned("counter")
                try:
                    bucket.swap("counter", b"%d" % (int(body) + 1), etag=etag)
                    break
                except SwapLost:
                    continue

    together(8, increment)
    assert bucket.read("counter") == b"80"


@pytest.mark.races
def test_one_of_many_first_swaps_and_creates_wins(bucket: Bucket) -> None:
    """A swap that expects nothing never replaces what a create has just made."""
    for turn in turns(bucket):
        key = f"first/{turn}"

        def write(number: int, key: str = key) -> int | None:
            try:
                if number % 2:
                    bucket.swap(key, b"%d" % number, etag=None)
                else:
                    bucket.create(key, b"%d" % number)
            except (SwapLost, FileExistsError):
                return None
            return number

        winners = [number for number in together(8, write) if isinstance(number, int)]
        assert len(winners) == 1
        assert bucket.read(key) == b"%d" % winners[0]


@pytest.mark.races
def test_bytes_and_etag_belong_together_while_others_swap(bucket: Bucket) -> None:
    """Every version that is ever read has the etag that its own swap returned."""
    etag = bucket.create("a", b"0")
    written = {etag: b"0"}
    enough = threading.Event()

    def write(etag: str) -> None:
        for number in itertools.count(1):
            body = b"%d" % number * (number % 50)
            etag = bucket.swap("a", body, etag=etag)
            written[etag] = body
            if enough.is_set():
                return

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write, etag)
        seen: set[tuple[bytes, str]] = set()
        while len(seen) < 8 and not writing.done():
            seen.add(bucket.read_versioned("a"))
        enough.set()
        writing.result()
    assert all(written[etag] == body for body, etag in seen)


# --- read, head, delete ---


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        (0, None, b"0123456789"),
        (3, None, b"3456789"),
        (0, 4, b"0123"),
        (3, 4, b"3456"),
        (8, 100, b"89"),
        (9, 1, b"9"),
        (10, None, b""),
        (10, 5, b""),
        (1000, None, b""),
        (1000, 5, b""),
        (0, 0, b""),
        (5, 0, b""),
    ],
)
def test_a_range_is_cut_at_the_end(bucket: Bucket, start: int, length: int | None, expected: bytes) -> None:
    bucket.create("a", b"0123456789")
    assert bucket.read("a", start, length) == expected


@pytest.mark.parametrize(("start", "length"), [(0, None), (0, 5), (0, 0), (3, None), (3, 5)])
def test_an_empty_object_has_only_empty_ranges(bucket: Bucket, start: int, length: int | None) -> None:
    bucket.create("a", b"")
    assert bucket.read("a", start, length) == b""
    assert bucket.head("a").size_bytes == 0


@pytest.mark.parametrize(("start", "length"), [(-1, None), (0, -1), (-5, 3)])
def test_a_negative_range_is_refused(bucket: Bucket, start: int, length: int | None) -> None:
    bucket.create("a", b"0123456789")
    with pytest.raises(ValueError, match="not a range"):
        bucket.read("a", start, length)


def test_an_absent_object_is_not_found(bucket: Bucket) -> None:
    """By any reading verb, also where only a folder or an object of a shorter name stands."""
    bucket.create("folder/a", b"1")
    for key in ("absent", "folder", "folder/a/b", "folder/absent"):
        for read in (
            bucket.read,
            lambda key: bucket.read(key, 3, 5),
            lambda key: bucket.read(key, 0, 0),
            bucket.read_versioned,
            bucket.head,
            lambda key: bucket.local_path(key).__enter__(),
        ):
            with pytest.raises(FileNotFoundError, match=f"^{key}$"):
                read(key)


def test_head_knows_size_etag_and_utc_time(bucket: Bucket) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)  # S3 keeps whole seconds
    etag = bucket.create("a", b"12345")
    head = bucket.head("a")
    assert (head.size_bytes, head.etag) == (5, etag)
    assert head.modified.utcoffset() == timedelta(0)
    assert before <= head.modified <= datetime.now(UTC) + timedelta(seconds=2)


def test_an_old_file_makes_a_new_object(bucket: Bucket, tmp_path: Path) -> None:
    """A sweep goes by `modified`; it must not take an object for old because its file was."""
    file = tmp_path / "old"
    file.write_bytes(b"1")
    os.utime(file, (0, 0))
    bucket.create("a", file)
    assert datetime.now(UTC) - bucket.head("a").modified < timedelta(minutes=1)


def test_delete_may_be_repeated(bucket: Bucket) -> None:
    bucket.create("a/b", b"1")
    for _ in range(2):
        bucket.delete("a/b")
    bucket.delete("never/there")
    bucket.delete("a")
    assert list(bucket.list("")) == []
    bucket.create("a/b", b"2")
    assert bucket.read("a/b") == b"2"


# --- list ---

EDGE_KEYS = ["s/a-b", "s/a.b", "s/a/b", "s/a/b-", "s/a/b0/x", "s/a/b1", "s/a/c-d/e", "s/a0", "s/aB", "s/a_", "s/b", "t"]


def test_keys_come_in_the_order_of_strings(bucket: Bucket) -> None:
    """Also where folders and files share the beginning of a name, for every prefix and start."""
    for key in reversed(EDGE_KEYS):
        bucket.create(key, b"")
    expected = sorted(EDGE_KEYS)
    beginnings = sorted({key[:length] for key in EDGE_KEYS for length in range(len(key) + 1)})
    for prefix, after in itertools.product(beginnings, [*beginnings, "s/a/z", "s/z", "z", "A"]):
        found = list(bucket.list(prefix, after))
        assert found == [key for key in expected if key.startswith(prefix) and key > after], (prefix, after)


segments = st.text("ab0-._A", min_size=1, max_size=3).filter(is_key)
some_keys = st.lists(segments, min_size=1, max_size=3).map("/".join)


def no_folders(found: set[str]) -> set[str]:
    return {key for key in found if not any(other.startswith(f"{key}/") for other in found)}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(some_keys, max_size=8).map(no_folders), st.just("") | some_keys, st.just("") | some_keys)
def test_list_is_a_sorted_set(bucket: Bucket, names: set[str], prefix: str, after: str) -> None:
    case = f"case{next(_numbers)}/"
    for name in names:
        bucket.create(case + name, b"")
    expected = [case + name for name in sorted(names) if name.startswith(prefix) and name > after]
    assert list(bucket.list(case + prefix, case + after)) == expected


def test_more_keys_than_one_answer_holds_are_all_listed(bucket: Bucket) -> None:
    expected = [f"many/{number:05d}" for number in range(1203)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: bucket.create(key, b""), expected))
    assert list(bucket.list("many/")) == expected
    assert list(bucket.list("many/", "many/01100")) == expected[1101:]
    assert list(bucket.list("many/01")) == expected[1000:]


def test_an_empty_bucket_lists_nothing(bucket: Bucket) -> None:
    for prefix in ("", "a", "a/", "a/b"):
        assert list(bucket.list(prefix)) == []


# --- keys ---

BAD_KEYS = ["", "/x", "../x", "a/../x", "a//b", "a/", ".tmp/x", "a/.b", "a\0b", "a b", "a\n", "ä", "a\\b", "%2e%2e/x"]


@pytest.mark.parametrize("key", [*BAD_KEYS, "a" * 256, "a/" * 450 + "a"])
def test_what_is_no_key_is_refused_by_every_verb(bucket: Bucket, tmp_path: Path, key: str) -> None:
    file = tmp_path / "body"
    file.write_bytes(b"1")
    for verb in (
        lambda: bucket.create(key, b"1"),
        lambda: bucket.create(key, file),
        lambda: bucket.swap(key, b"1", etag=None),
        lambda: bucket.swap(key, b"1", etag="x"),
        lambda: bucket.read(key),
        lambda: bucket.read(key, 1, 2),
        lambda: bucket.read(key, 1, 0),
        lambda: bucket.read_versioned(key),
        lambda: bucket.head(key),
        lambda: bucket.delete(key),
        lambda: bucket.local_path(key).__enter__(),
    ):
        with pytest.raises(ValueError, match="not a key"):
            verb()


@pytest.mark.parametrize("text", ["/", "../", "a/../", ".tmp", ".tmp/", "a//", "a\0", "é", "a" * 901])
def test_what_begins_no_key_is_not_listed(bucket: Bucket, text: str) -> None:
    """Refused when called, not only when the first key is asked for."""
    with pytest.raises(ValueError, match="not the beginning of a key"):
        bucket.list(text)
    with pytest.raises(ValueError, match="not the beginning of a key"):
        bucket.list("", text)


def test_the_longest_key_works(bucket: Bucket) -> None:
    key = "/".join(["k" * 255, "l" * 255, "m" * 255])
    bucket.create(key, b"1")
    assert bucket.read(key) == b"1"
    assert list(bucket.list("k")) == [key]
