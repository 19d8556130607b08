"""The whole server on a real S3: `runfeed up --bucket s3://… --private-bucket s3://…`, and the commands beside it."""

import json
import secrets
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import feedparser
import pytest

from feed.log import LogReader
from infra.s3 import open_s3
from schemas import keys
from tests.running import RUNFEED, Running
from tests.servers import S3Server, free_ports


@pytest.fixture
def buckets(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two new buckets, and an environment from which they can be reached."""
    for name, value in s3_server.environ.items():
        monkeypatch.setenv(name, value)
    names = [f"{kind}-{secrets.token_hex(4)}" for kind in ("pub", "priv")]
    client = boto3.client("s3", endpoint_url=s3_server.endpoint)
    for name in names:
        client.create_bucket(Bucket=name)
    client.close()
    return f"s3://{names[0]}", f"s3://{names[1]}"


def test_results_travel_over_s3_and_survive_kill_9(
    tmp_path: Path, buckets: tuple[str, str], s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    public, private = buckets
    server = Running(tmp_path / "data", "--bucket", public, "--private-bucket", private).start()
    try:
        large = _result(-1) + b" " * (9 << 20)  # goes up in pieces
        receipts = {server.push(body)["id"]: body for body in [_result(0), large, *map(_result, range(1, 12))]}
        first = next(iter(receipts))
        server.wait_for(first)
        assert server.push(_result(0))["status"] == "known"

        assert not feedparser.parse(server.client.get("/feeds/submissions/current.atom").content).bozo
        blob_url = server.get(f"/api/v1/submissions/{first}")["blob_url"]
        assert server.client.get(blob_url).content == receipts[first]
        part = server.client.get(blob_url, headers={"Range": "bytes=2-5"})
        assert (part.status_code, part.content) == (206, receipts[first][2:6])
        assert server.client.head(blob_url).headers["content-length"] == str(len(receipts[first]))
        assert server.client.get("/blobs/aa/" + "a" * 64).status_code == 404

        server.kill()
        server.start()
        receipts |= {server.push(body)["id"]: body for body in map(_result, range(12, 20))}
        server.kill()
        server.start()
        for id in receipts:
            assert server.wait_for(id, 60)["state"] == "accepted"

        # The commands beside a running server find the buckets in the environment.
        monkeypatch.setenv("RUNFEED_BUCKET", public)
        monkeypatch.setenv("RUNFEED_PRIVATE_BUCKET", private)
        made = server.runfeed("token", "create", "--name", "ci", "--project", "p", "--data", str(server.data))
        assert made.returncode == 0, made.stderr
        token = made.stdout.strip()
        bearer = {"Authorization": f"Bearer {token}"}
        answer = server.client.post("/api/v1/submissions?project=p", content=_result(50), headers=bearer)
        assert answer.status_code == 201
        assert server.wait_for(answer.json()["id"])["state"] == "accepted"
        listed = server.runfeed("token", "list", "--data", str(server.data)).stdout
        assert server.runfeed("token", "revoke", listed.split()[0], "--data", str(server.data)).returncode == 0
        assert server.client.post("/api/v1/submissions", content=b"x", headers=bearer).status_code == 401

        rebuilt = server.runfeed("rebuild", "--data", str(server.data))
        assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr
        assert "are equal, row for row" in rebuilt.stdout
        deadline = time.monotonic() + 20
        while server.get("/api/v1/status")["lake_version"] != 2:
            assert time.monotonic() < deadline, "the dashboard did not change over"
            time.sleep(0.05)
        assert len(server.get("/api/v1/runs", limit=100)["items"]) == len(receipts) + 1
    finally:
        server.stop()
        server.client.close()
    _check_each_is_there_once(public, s3_server, set(receipts))
    assert not list(server.data.glob("public")), "no folder bucket beside S3"
    assert token not in "".join(open_s3(private, s3_server.environ).list(""))


def _result(number: int) -> bytes:
    return json.dumps({"benchmark": "s3", "metric": "t", "value": number}).encode()


def _check_each_is_there_once(url: str, s3_server: S3Server, receipts: set[str]) -> None:
    public = open_s3(url, s3_server.environ)
    log = LogReader(public, keys.SUBMISSIONS_LOG)
    entries = []
    while more := log.entries_after(len(entries)):
        entries += more
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert Counter(entry.id for entry in entries) == Counter({*receipts, entries[-1].id})
    outcomes: Counter[int] = Counter()
    for key in public.list("lake/v1/outcomes/"):
        outcomes.update(one["seq"] for one in json.loads(public.read(key))["submissions"])
    assert outcomes == Counter(range(1, len(entries) + 1))


# --- settings that do not fit ---


def test_a_public_bucket_alone_is_refused(tmp_path: Path, buckets: tuple[str, str]) -> None:
    assert "private_bucket: expected a second bucket" in _refused(tmp_path, "--bucket", buckets[0])


def test_one_bucket_for_both_is_refused(tmp_path: Path, buckets: tuple[str, str]) -> None:
    """Else the tokens' hashes, the markers and the rules would be public, or swept with what is."""
    for private in (buckets[0], buckets[0] + "/private", buckets[0] + "/"):
        said = _refused(tmp_path, "--bucket", buckets[0], "--private-bucket", private)
        assert "private_bucket: expected another bucket, or a folder beside" in said, private


def test_wrong_keys_are_one_clear_line(
    tmp_path: Path, buckets: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    said = _refused(tmp_path, "--bucket", buckets[0], "--private-bucket", buckets[1])
    assert buckets[0] in said
    assert "SignatureDoesNotMatch" in said


def test_missing_keys_are_one_clear_line(
    tmp_path: Path, buckets: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    said = _refused(tmp_path, "--bucket", buckets[0], "--private-bucket", buckets[1])
    assert "expected AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in said


def test_a_missing_bucket_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a store that answers as AWS does; SeaweedFS would make the bucket."""
    with _store_without_buckets() as endpoint:
        _set_keys(monkeypatch, endpoint)
        said = _refused(tmp_path, "--bucket", "s3://nowhere", "--private-bucket", "s3://nowhere-private")
    assert "s3://nowhere" in said
    assert "no such bucket" in said


def test_a_store_that_nobody_serves_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _set_keys(monkeypatch, f"http://127.0.0.1:{free_ports(1)[0]}")
    assert "s3://nowhere" in _refused(tmp_path, "--bucket", "s3://nowhere", "--private-bucket", "s3://other")


def _set_keys(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    for name, value in S3Server(endpoint, "key", "secret", 0).environ.items():
        monkeypatch.setenv(name, value)


def _refused(tmp_path: Path, *options: str) -> str:
    """What `runfeed up` says when it does not start: one line, exit status 2, soon."""
    command = [RUNFEED, "up", "--data", str(tmp_path / "data"), "--port", "0", *options]
    begun = time.monotonic()
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert time.monotonic() - begun < 45
    (line,) = ended.stderr.splitlines()
    assert line.startswith("runfeed: ")
    return line


@contextmanager
def _store_without_buckets() -> Iterator[str]:
    class NoSuchBucket(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = b"<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>"
            self.send_response(404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = do_PUT

        def log_message(self, format: str, *args: object) -> None:
            """Not into the test's output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), NoSuchBucket) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()
