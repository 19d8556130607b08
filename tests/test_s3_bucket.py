"""What only the S3 bucket promises: its address, its refusals, bounded memory, the vendor's errors as ours."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import MemoryStore

from infra.s3 import S3Bucket, open_s3
from schemas.errors import Refused, Unavailable
from tests.servers import S3Server, free_ports

ROOT = Path(__file__).parents[1]
KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}


class CarelessStore(BaseHTTPRequestHandler):
    """A store that takes every write, whatever its conditions."""

    answer = 200

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.answer)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        body = b'<?xml version="1.0"?><DeleteResult><Deleted><Key>x</Key></Deleted></DeleteResult>'
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class HonestStore(CarelessStore):
    """A store that says that it has no conditional writes."""

    answer = 501


class BusyStore(CarelessStore):
    """A store in which another write is always under way, and comes to nothing unless the key ends with `there`."""

    answer = 409

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path.endswith("there") else 404)
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Mon, 02 Mar 2026 10:00:00 GMT")
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_store_with_conditional_writes_passes_and_keeps_no_probe(s3_server: S3Server) -> None:
    bucket = open_s3("s3://checked", s3_server.environ)
    bucket.check_conditional_writes()
    assert list(bucket.list("")) == []


@pytest.mark.parametrize(("handler", "found"), [(CarelessStore, "created one key twice"), (HonestStore, "501")])
def test_a_store_without_conditional_writes_is_refused(handler: type[BaseHTTPRequestHandler], found: str) -> None:
    with serving(handler) as endpoint:
        bucket = open_s3("s3://bucket", {"AWS_ENDPOINT_URL": endpoint, **KEYS})
        with pytest.raises(Refused, match=f"expected a store with conditional writes .*{found}"):
            bucket.check_conditional_writes()


def test_a_conflict_is_no_proof_that_the_object_exists() -> None:
    """A receipt for an object that nobody wrote would be a broken promise."""
    with serving(BusyStore) as endpoint:
        bucket = open_s3("s3://bucket", {"AWS_ENDPOINT_URL": endpoint, **KEYS})
        with pytest.raises(Unavailable, match="came to nothing"):
            bucket.create("absent", b"1")
        with pytest.raises(FileExistsError):
            bucket.create("there", b"1")


def test_a_store_that_cannot_be_reached_is_unavailable_not_refused() -> None:
    bucket = open_s3("s3://bucket", {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_ports(1)[0]}", **KEYS})
    with pytest.raises(Unavailable, match=r"^a: the store failed: .*after 8 retries"):
        bucket.read("a")


def test_a_wrong_secret_is_unavailable_and_says_so(s3_server: S3Server) -> None:
    bucket = open_s3("s3://contract", {**s3_server.environ, "AWS_SECRET_ACCESS_KEY": "wrong"})
    for verb in (lambda: bucket.read("a"), lambda: bucket.create("a", b""), lambda: list(bucket.list("a/"))):
        with pytest.raises(Unavailable, match=r"403 Forbidden \(SignatureDoesNotMatch\)$"):
            verb()


def test_an_absent_bucket_is_not_an_absent_object(s3_server: S3Server) -> None:
    bucket = open_s3("s3://never-made", s3_server.environ)
    with pytest.raises(Unavailable, match="no such bucket"):
        bucket.read("a")
    with pytest.raises(Unavailable, match="NoSuchBucket"):
        list(bucket.list(""))


def test_buckets_with_different_prefixes_do_not_meet(s3_server: S3Server) -> None:
    inner = open_s3("s3://shared/one", s3_server.environ)
    inner.create("a/b", b"1")
    open_s3("s3://shared/one-more", s3_server.environ).create("a/b", b"2")
    assert list(inner.list("")) == ["a/b"]
    assert inner.read("a/b") == b"1"
    assert open_s3("s3://shared", s3_server.environ).read("one/a/b") == b"1"


def test_only_the_given_environment_counts(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the process's own, which obstore would read."""
    for name, value in {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_SESSION_TOKEN": "stale",
        "AWS_ACCESS_KEY_ID": "other",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_CONDITIONAL_PUT": "disabled",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = open_s3("s3://own-environment", s3_server.environ)
    bucket.check_conditional_writes()


def test_a_store_that_lists_in_order_starts_where_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that one flooded lane need not be listed in order to come to the next."""
    bucket = S3Bucket("memory")
    bucket._store = MemoryStore()
    bucket.check_conditional_writes()
    for key in ("pending/log/my-lane/1", "pending/log/my-lane/2", "pending/log/next/1"):
        bucket.create(key, b"")
    starts = []
    real = obstore.list

    def listing(*given: Any, offset: str | None, **named: Any) -> Any:
        starts.append(offset)
        return real(*given, offset=offset, **named)

    monkeypatch.setattr(obstore, "list", listing)
    assert list(bucket.list("pending/log/", "pending/log/my-lane/zz")) == ["pending/log/next/1"]
    assert starts == ["pending/log/my-lane/zz"]


def test_opening_connects_to_nothing() -> None:
    open_s3("s3://bucket/a/b", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", **KEYS})
    assert open_s3("s3://bucket/a/b/", {}).url == "s3://bucket/a/b"


@pytest.mark.parametrize(
    ("url", "environ", "message"),
    [
        ("s3:///x", KEYS, "expected s3://bucket or"),
        ("gs://bucket", KEYS, "expected s3://bucket or"),
        ("s3://Bucket", KEYS, "expected s3://bucket or"),
        ("s3://bucket/../other", KEYS, "expected s3://bucket or"),
        ("s3://bucket/.hidden", KEYS, "expected s3://bucket or"),
        ("s3://bucket", {"AWS_ACCESS_KEY_ID": "id"}, "found only AWS_ACCESS_KEY_ID"),
        ("s3://bucket", {"AWS_SECRET_ACCESS_KEY": "s"}, "found only AWS_SECRET_ACCESS_KEY"),
        ("s3://bucket", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"}, "found neither"),
        ("s3://bucket", {"AWS_ENDPOINT_URL": "127.0.0.1:9000", **KEYS}, "AWS_ENDPOINT_URL: expected http"),
    ],
)
def test_a_wrong_address_is_refused_before_anything_connects(url: str, environ: dict[str, str], message: str) -> None:
    with pytest.raises(Refused, match=message):
        open_s3(url, environ)


LARGE = """
import pathlib, resource, sys
from infra.s3 import S3Bucket

def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

endpoint, access_key, secret_key, folder = sys.argv[1:]
bucket = S3Bucket("large", endpoint=endpoint, access_key=access_key, secret_key=secret_key, allow_http=True)
bucket.create("small", b"1")
body = pathlib.Path(folder, "body")
with open(body, "wb") as file:
    file.truncate(256 << 20)
before = peak_bytes()
bucket.create("large", body)
with bucket.local_path("large") as path:
    assert path.stat().st_size == 256 << 20
print((peak_bytes() - before) >> 20)
"""


def test_a_large_file_goes_up_and_down_in_bounded_memory(s3_server: S3Server, tmp_path: Path) -> None:
    """256 MiB both ways in less than 112 MiB."""
    arguments = [s3_server.endpoint, s3_server.access_key, s3_server.secret_key, str(tmp_path)]
    command = [sys.executable, "-c", LARGE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 112, f"{done.stdout.strip()} MiB"


def test_a_fetched_copy_is_gone_afterwards(s3_server: S3Server) -> None:
    bucket = S3Bucket(
        "copies",
        endpoint=s3_server.endpoint,
        access_key=s3_server.access_key,
        secret_key=s3_server.secret_key,
        allow_http=True,
    )
    bucket.create("a/b.json", b"{}")
    with bucket.local_path("a/b.json") as path:
        assert path.name == "b.json"
    assert not path.parent.exists()
