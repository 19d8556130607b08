"""Upload grants against real storage: bytes go there by links, once, and become a submission only if they are right."""

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import httpx
import msgspec
import pytest
import uvicorn
from aiobotocore.session import get_session
from click.testing import CliRunner, Result
from litestar import Litestar
from litestar.openapi import OpenAPIConfig

import ingest.uploads
from infra.bucket import Buckets
from infra.folder import FolderBucket
from infra.hints import Hints
from infra.inbox import inboxes
from infra.s3 import open_s3
from infra.settings import Settings
from infra.web import exception_handlers
from ingest.ci import printable
from ingest.http import Intake, intake_routes
from ingest.pack import Packed, pack
from ingest.projects import add_project
from ingest.push import Server
from ingest.push_again import Busy, Unreachable, World
from ingest.push_cli import push
from ingest.runners import set_runner
from ingest.tokens import create_token
from ingest.uploads import Uploads, upload_routes
from ingest.watcher import Watcher
from ingest.withdraw import Found, withdraw
from schemas import keys
from schemas.records import Context, Submission
from tests.own_loop import in_own_loop
from tests.servers import S3Server, free_ports

NOW = datetime.now(UTC)
SMALL = b'{"measurements": []}'
BIG = bytes(range(256)) * (50 << 10)
"""12.5 MiB."""
PART = 5 << 20
"""The smallest that S3 takes."""


@dataclass
class Serving:
    """An ingest role in a thread, over SeaweedFS."""

    url: str
    buckets: Buckets
    uploads: Uploads
    token: str
    bucket: str
    client: Any

    def ask(self, body: bytes, token: str = "", **said: Any) -> httpx.Response:
        wanted = {
            "sha256": hashlib.sha256(body).hexdigest(),
            "size_bytes": len(body),
            "submission": {"project": "demo"},
        }
        return self.post("/api/v1/uploads", json={**wanted, **said}, token=token)

    def post(self, path: str, token: str = "", **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return httpx.post(self.url + path, headers=headers, timeout=30, **more)

    def submissions(self) -> list[Submission]:
        public = self.buckets.public
        return [msgspec.json.decode(public.read(key), type=Submission) for key in public.list("submissions/")]


@contextlib.contextmanager
def serving(handlers: list[Any]) -> Iterator[str]:
    app = Litestar(
        handlers,
        exception_handlers=exception_handlers,
        openapi_config=OpenAPIConfig("t", "1"),
        request_max_body_size=None,
    )
    [port] = free_ports(1)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


_async_session, _session = cache(get_session), cache(boto3.session.Session)


@pytest.fixture(autouse=True)
def one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading S3's description takes botocore longer than most of these tests."""
    monkeypatch.setattr("infra.inbox_s3.get_session", _async_session)
    monkeypatch.setattr("boto3.session.Session", _session)


@pytest.fixture(scope="module")
def storage(s3_server: S3Server) -> Any:
    client = boto3.client(
        "s3",
        endpoint_url=s3_server.endpoint,
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
        region_name="us-east-1",
    )
    for name in ("grants-public", "grants-private"):
        client.create_bucket(Bucket=name)
    return client


@pytest.fixture
def server(
    storage: Any, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any
) -> Iterator[Serving]:
    monkeypatch.setattr(ingest.uploads, "PART_BYTES", PART)
    prefix = hashlib.sha256(request.node.name.encode()).hexdigest()[:8]
    settings = Settings(
        data=tmp_path,
        bucket=f"s3://grants-public/{prefix}",
        private_bucket=f"s3://grants-private/{prefix}",
        upload_endpoint=s3_server.endpoint,
        host="0.0.0.0",  # nothing listens there, but nobody counts as local
    )
    buckets = Buckets(open_s3(settings.bucket, s3_server.environ), open_s3(settings.private_bucket, s3_server.environ))
    add_project(buckets, "demo", NOW)
    secret, _ = create_token(buckets.private, name="ci", projects=["demo"], expires=None, now=NOW)
    uploads = Uploads(buckets, settings, s3_server.environ, Hints(), lambda: NOW)
    routes = [*upload_routes(uploads), *intake_routes(Intake(buckets, settings, Hints()))]
    with serving(routes) as url:
        yield Serving(url, buckets, uploads, secret, f"grants-private/{prefix}", storage)


def put(pieces: list[dict[str, Any]], body: bytes) -> list[int]:
    return [
        httpx.put(
            piece["url"],
            content=body[piece["start"] : piece["start"] + piece["size_bytes"]],
            headers=piece.get("headers", {}),
        ).status_code
        for piece in pieces
    ]


def left(server: Serving) -> list[str]:
    return list(server.buckets.private.list("uploads/"))


def test_a_file_goes_to_storage_by_a_link_and_gets_its_receipt(server: Serving) -> None:
    context = {"environment": "rack", "labels": {"a": "b"}}
    answer = server.ask(SMALL, submission={"project": "demo", "format": "jmh", "context": context})
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    granted = answer.json()
    assert put(granted["pieces"], SMALL) == [200]
    done = server.post(granted["complete"])
    assert (done.status_code, done.json()["status"], done.json()["id"]) == (201, "created", granted["id"])
    [submission] = server.submissions()
    assert (submission.id, submission.format, submission.context.environment) == (granted["id"], "jmh", "rack")
    assert server.buckets.public.read(keys.blob(submission.blob.sha256)) == SMALL
    assert len(list(server.buckets.private.list("pending/"))) == 1
    assert left(server) == []


def test_what_is_withdrawn_gets_no_link_and_no_receipt(server: Serving) -> None:
    """Before, while it is uploaded, and after it has become a submission."""
    done, under_way, later = (b'{"measurements": [], "run": {"title": "%d"}}' % at for at in range(3))
    granted = [server.ask(body).json() for body in (done, under_way)]
    for one, body in zip(granted, (done, under_way), strict=True):
        put(one["pieces"], body)
    assert server.post(granted[0]["complete"]).status_code == 201
    for body in (done, under_way, later):
        found = Found(hashlib.sha256(body).hexdigest(), [], None)
        withdraw(server.buckets, found, "a token leaked", NOW)
        refused = server.ask(body)
        assert (refused.status_code, "a token leaked" in refused.json()["found"]) == (410, True)
    assert server.post(granted[0]["complete"]).status_code == 410
    assert server.post(granted[1]["complete"]).status_code == 410
    assert left(server) == []
    assert [one.id for one in server.submissions()] == [granted[0]["id"]]


def test_a_link_writes_once_exactly_the_granted_size_and_nothing_else(server: Serving) -> None:
    [piece] = server.ask(SMALL).json()["pieces"]
    assert httpx.put(piece["url"], content=SMALL).status_code == 403  # without its condition
    assert httpx.put(piece["url"], content=SMALL + b" ", headers=piece["headers"]).status_code == 403
    elsewhere = piece["url"].replace("/body?", "/else?")
    assert httpx.put(elsewhere, content=SMALL, headers=piece["headers"]).status_code == 403
    assert httpx.get(piece["url"]).status_code == 403
    assert put([piece, piece], SMALL) == [200, 412]


def test_other_bytes_are_refused_with_the_reason_and_can_be_sent_again(server: Serving) -> None:
    granted = server.ask(SMALL).json()
    put(granted["pieces"], SMALL.replace(b"[", b"("))
    refused = server.post(granted["complete"])
    assert refused.status_code == 422
    assert refused.json()["expected"] == f"sha256 {hashlib.sha256(SMALL).hexdigest()}"
    assert (server.submissions(), left(server)) == ([], [])
    assert list(server.buckets.public.list("blobs/")) == []
    again = server.ask(SMALL).json()
    assert put(again["pieces"], SMALL) == [200]
    assert server.post(again["complete"]).status_code == 201


def test_a_big_file_goes_in_parts_and_goes_on_where_it_was_cut_off(server: Serving) -> None:
    granted = server.ask(BIG).json()
    assert [piece["size_bytes"] for piece in granted["pieces"]] == [PART, PART, len(BIG) - 2 * PART]
    put([granted["pieces"][1]], BIG)
    early = server.post(granted["complete"])
    assert (early.status_code, early.json()["found"]) == (409, "2 missing")
    rest = server.ask(BIG).json()
    assert [piece["start"] for piece in rest["pieces"]] == [0, 2 * PART]
    put(rest["pieces"], BIG)
    assert server.ask(BIG).json()["pieces"] == []
    assert server.post(granted["complete"]).status_code == 201
    [submission] = server.submissions()
    assert submission.blob.sha256 == hashlib.sha256(BIG).hexdigest()
    assert server.buckets.public.head(keys.blob(submission.blob.sha256)).size_bytes == len(BIG)
    assert left(server) == []


def test_a_part_that_went_wrong_costs_the_upload_not_the_truth(server: Serving) -> None:
    granted = server.ask(BIG).json()
    put(granted["pieces"], bytes(len(BIG)))
    assert server.post(granted["complete"]).status_code == 422
    again = server.ask(BIG).json()
    assert len(again["pieces"]) == 3
    put(again["pieces"], BIG)
    assert server.post(again["complete"]).status_code == 201


@pytest.mark.parametrize("death", ["join", "submission", "body"])
def test_completing_again_after_a_death_gives_the_same_submission(
    server: Serving, monkeypatch: pytest.MonkeyPatch, death: str
) -> None:
    granted = server.ask(BIG).json()
    put(granted["pieces"], BIG)

    class Died(Exception):
        """Nothing after this happened."""

    def dying(*_: Any, **__: Any) -> Any:
        raise Died

    with monkeypatch.context() as patch:
        if death == "join":
            patch.setattr(server.uploads._admission.__class__, "admit", dying)
        elif death == "submission":
            patch.setattr(Uploads, "_forget", dying)
        else:
            patch.setattr(server.buckets.private, "delete", dying)
        assert server.post(granted["complete"]).status_code == 500
    done = server.post(granted["complete"])
    assert done.status_code == (201 if death == "join" else 200)
    assert [one.id for one in server.submissions()] == [granted["id"]]
    assert server.ask(BIG).json()["receipt"]["status"] == "known"


def test_completing_at_once_on_two_servers_makes_one_submission(server: Serving) -> None:
    granted = server.ask(BIG).json()
    put(granted["pieces"], BIG)
    answers: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda: answers.append(server.post(granted["complete"]))) for _ in range(3)]
    server.uploads._completing = Forgetful()  # as if each were another process
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {200, 201}, [answer.text for answer in answers]
    assert {answer.json()["id"] for answer in answers} == {granted["id"]}
    assert len(server.submissions()) == 1


def test_parts_that_vanish_while_another_server_joins_them_are_not_called_missing(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    granted = server.ask(BIG).json()
    put(granted["pieces"], BIG)
    links: Any = server.uploads._links
    listed, finish = links.parts, links.finish

    def joined_meanwhile(key: str, upload: str) -> list[Any]:
        there = listed(key, upload)
        finish(key, upload, there)
        return list(there[:1])

    monkeypatch.setattr(links, "parts", joined_meanwhile)
    assert server.post(granted["complete"]).status_code == 201
    assert len(server.submissions()) == 1


class Forgetful(set[str]):
    """Remembers nothing."""

    def add(self, _: str) -> None:
        pass


def test_what_is_a_submission_already_is_not_uploaded_again(server: Serving) -> None:
    pushed = server.post("/api/v1/submissions?project=demo", content=SMALL)
    assert pushed.status_code == 201
    asked = server.ask(SMALL, submission={"project": "demo"})
    assert (asked.status_code, asked.json()["receipt"]["id"]) == (200, pushed.json()["id"])
    assert left(server) == []


@pytest.mark.parametrize(
    ("said", "status", "where"),
    [
        ({"sha256": "x"}, 422, "sha256"),
        ({"size_bytes": 0}, 413, "size_bytes"),
        ({"size_bytes": 1 << 40}, 413, "size_bytes"),
        ({"submission": {"project": "demo", "context": {"supersedes": "x"}}}, 422, "context/supersedes"),
        ({"submission": {"project": "other"}}, 403, "project"),
        ({"more": 1}, 422, "upload"),
        ({"submission": {"project": "demo", "context": {"labels": {"a": "x" * 99_000}}}}, 413, "body"),
    ],
)  # fmt: skip
def test_a_request_out_of_form_is_refused_by_name(server: Serving, said: Any, status: int, where: str) -> None:
    answer = server.ask(SMALL, **said)
    assert (answer.status_code, answer.json()["where"].rstrip("/")) == (status, where)
    assert left(server) == []


def test_only_its_sender_completes_an_upload(server: Serving) -> None:
    granted = server.ask(SMALL).json()
    put(granted["pieces"], SMALL)
    other, _ = create_token(server.buckets.private, name="other", projects=["*"], expires=None, now=NOW)
    assert server.post(granted["complete"], token=other).status_code == 403
    assert httpx.post(server.url + granted["complete"]).status_code == 401
    assert server.post("/api/v1/uploads/..%2f..%2fx/complete").status_code in (404, 422)
    assert server.post(f"/api/v1/uploads/{'0' * 64}/complete").status_code == 404
    assert server.submissions() == []


def test_grants_that_nobody_completed_are_swept_after_a_week_with_their_parts(server: Serving) -> None:
    granted = server.ask(BIG).json()
    put(granted["pieces"][:1], BIG)
    put(server.ask(SMALL).json()["pieces"], SMALL)
    server.uploads._clock = lambda: NOW + timedelta(days=6)
    assert server.uploads.sweep() == 0
    server.uploads._clock = lambda: NOW + timedelta(days=8)
    assert server.uploads.sweep() == 3
    assert left(server) == []
    bucket, _, prefix = server.bucket.partition("/")
    open_ones = server.client.list_multipart_uploads(Bucket=bucket, Prefix=prefix).get("Uploads", [])
    assert open_ones == []


def test_where_storage_is_a_folder_or_out_of_reach_nothing_is_offered(tmp_path: Path) -> None:
    buckets = Buckets(FolderBucket(tmp_path / "public"), FolderBucket(tmp_path / "private"))
    settings = Settings(data=tmp_path)
    for offered in (settings, replace(settings, upload_endpoint="http://127.0.0.1:1")):
        uploads = Uploads(buckets, offered, {}, Hints(), lambda: NOW)
        assert uploads.sweep() == 0
        with serving(upload_routes(uploads)) as url:
            assert httpx.post(f"{url}/api/v1/uploads", json={}).status_code == 404


# --- runfeed push ---


@pytest.fixture
def big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packed:
    path = tmp_path / "big"
    path.write_bytes(BIG)
    return pack(path, name="big", project="demo", format="auto", context=Context(environment="rack"))


def quick() -> World:
    return World(sleep=lambda _: None)


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the bodies that the HTTP intake takes from now on."""
    sizes: list[int] = []
    real = Intake._finished

    async def finished(self: Intake, request: Any, received: Any, *more: Any) -> Any:
        sizes.append(received.size_bytes)
        return await real(self, request, received, *more)

    monkeypatch.setattr(Intake, "_finished", finished)
    return sizes


def test_push_sends_a_big_file_past_ingest_and_shows_how_far_it_is(
    server: Serving, big: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    through = counting(monkeypatch)
    seen: list[int] = []
    with Server(server.url, token=server.token) as target:
        receipt = target.submit(big, 10, on_bytes=lambda _, sent: seen.append(sent))
        again = target.submit(big, 10)
    assert (receipt.status, again.status, receipt.id == again.id) == ("created", "known", True)
    assert through == []
    assert seen == sorted(seen)
    assert seen[-1] == len(BIG)
    [submission] = server.submissions()
    assert submission.context.environment == "rack"


def test_push_goes_on_where_a_cut_connection_left_it(
    server: Serving, big: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, starts = Server._put, []

    def put_once_cut(self: Server, packed: Packed, piece: Any, on_sent: Any) -> None:
        starts.append(piece.start)
        if len(starts) == 2:
            raise Unreachable("cut")
        real(self, packed, piece, on_sent)

    monkeypatch.setattr(Server, "_put", put_once_cut)
    with Server(server.url, token=server.token, world=quick()) as target:
        assert target.submit(big, 10).status == "created"
    assert starts == [0, PART, PART, 2 * PART]


@pytest.mark.parametrize("trouble", ["nobody there", "not let in", "always broken", "other bytes"])
def test_push_goes_through_ingest_where_storage_is_out_of_reach(
    server: Serving, big: Packed, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    through = counting(monkeypatch)
    real = Server._put

    def put_elsewhere(self: Server, packed: Packed, piece: Any, on_sent: Any) -> None:
        if trouble == "always broken":
            raise Busy("storage: HTTP 500")
        if trouble == "other bytes":
            httpx.put(piece.url, content=bytes(piece.size_bytes), headers=piece.headers).raise_for_status()
            return
        url = f"http://127.0.0.1:{free_ports(1)[0]}/" if trouble == "nobody there" else piece.url[:-1]
        real(self, packed, msgspec.structs.replace(piece, url=url), on_sent)

    monkeypatch.setattr(Server, "_put", put_elsewhere)
    with Server(server.url, token=server.token, world=quick()) as target:
        assert target.submit(big, 60).status == "created"
    assert through == [len(BIG)]


def test_push_shows_storage_no_token(server: Serving, big: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[httpx.Request] = []
    real = httpx.Client.put

    def put_watched(self: httpx.Client, url: str, **more: Any) -> httpx.Response:
        response = real(self, url, **more)
        sent.append(response.request)
        return response

    monkeypatch.setattr(httpx.Client, "put", put_watched)
    with Server(server.url, token=server.token) as target:
        target.submit(big, 10)
    assert len(sent) == 3
    assert all("authorization" not in request.headers for request in sent)


# --- runfeed push --to s3:// ---


@pytest.fixture
def dropping(
    server: Serving, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """`runfeed push` with a runner's keys in its environment, into this test's inbox."""
    for name, value in {**s3_server.environ, "RUNFEED_SPOOL": str(tmp_path / "spooled")}.items():
        monkeypatch.setenv(name, value)
    set_runner(server.buckets.private, "rack-3", ["demo"], NOW)
    to = ["--to", f"s3://{server.bucket}", "--project", "demo", "--runner", "rack-3"]
    return lambda *options: CliRunner().invoke(push, [*options, *([] if "--to" in options else to)])


def swept(server: Serving, s3_server: S3Server) -> int:
    settings = server.uploads._settings
    watcher = Watcher(server.buckets, settings, s3_server.environ, Hints(), lambda: NOW)

    async def once() -> int:
        async with inboxes(settings, s3_server.environ)() as inbox:
            return await watcher.sweep(inbox)

    return in_own_loop(once())


@pytest.mark.parametrize("label", ["few", "ü" * 3000])
def test_push_drops_into_the_inbox_and_the_watcher_makes_the_same_submission_of_it(
    server: Serving, dropping: Callable[..., Result], s3_server: S3Server, tmp_path: Path, label: str
) -> None:
    """Whether what is said has room in the metadata or wants a sidecar; dropped twice it is one submission."""
    (tmp_path / "a.json").write_bytes(SMALL)
    for _ in range(2):
        result = dropping(str(tmp_path / "a.json"), "--label", f"name={label}", "--commit", "abc", "--environment", "ü")
        assert result.exit_code == 0, result.output
        assert f"s3://{server.bucket}/inbox/rack-3/" in result.output
    assert swept(server, s3_server) == 2
    [submission] = server.submissions()
    assert submission.context.labels == {"name": printable(label)}
    assert submission.context.environment == "ü"
    assert submission.context.commit is not None
    assert (submission.context.commit.id, submission.context.commit.declared) == ("abc", True)
    assert (submission.trust.kind, submission.trust.name) == ("runner", "rack-3")
    assert submission.blob.media_type == "application/json"
    assert list(server.buckets.private.list("inbox/")) == []


def test_a_drop_that_storage_does_not_take_now_waits_in_the_spool(
    server: Serving, dropping: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_bytes(SMALL)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
        result = dropping(str(tmp_path / "a.json"), "--timeout", "0", "--json")
        assert (result.exit_code, '"status":"spooled"' in result.stdout) == (2, True)
    result = dropping("--flush", "--json")
    assert (result.exit_code, '"status":"dropped"' in result.stdout) == (0, True)
    assert len(list(server.buckets.private.list("inbox/"))) == 1


def test_keys_that_storage_does_not_know_are_refused_at_once(
    dropping: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_bytes(SMALL)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    begun = time.monotonic()
    result = dropping(str(tmp_path / "a.json"))
    assert result.exit_code == 2
    assert "SignatureDoesNotMatch" in result.output
    assert "no-secret" not in result.output
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--to", "s3://results-private"], "--runner: expected the runner's name"),
        (["--to", "s3://results-private", "--runner", "../x"], "--runner: expected 1 to 64"),
        (["--to", "s3://X", "--runner", "x"], "--to: expected s3://bucket"),
        (["--to", "s3://results-private", "--runner", "x", "--wait"], "--wait"),
    ],
)
def test_an_inbox_that_cannot_be_is_a_usage_error(
    dropping: Callable[..., Result], tmp_path: Path, options: list[str], said: str
) -> None:
    (tmp_path / "a.json").write_bytes(SMALL)
    result = dropping(str(tmp_path / "a.json"), *options)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
