"""What any address of a running server answers to any method, path and connection, however odd."""

import asyncio
import hashlib
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
import uvicorn

from infra import connections
from infra.connections import BoundedConnection
from infra.server import answering_head, without_gone_clients
from infra.web import exception_handlers_with
from tests.own_loop import in_own_loop
from tests.running import Running, running

RESULT = b'{"benchmark": "b", "metric": "t", "value": 1}'
PAGES = ["/", "/runs", "/submissions", "/projects/p", "/api/v1/docs", "/api/v1/docs.css"]
ADDRESSES = [
    *PAGES,
    "/api/v1/runs",
    "/api/v1/runs.csv",
    "/api/v1/runs.atom",
    "/api/v1/submissions.feed.json",
    "/api/v1/submissions",
    "/api/v1/openapi.json",
    "/api/v1/status",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("web") / "data") as server:
        server.wait_for(server.push(RESULT)["id"])
        yield server
        assert "Traceback" not in server.log()
        assert "request failed" not in server.log()


def raw(server: Running, request: bytes) -> bytes:
    """All that comes back for `request`."""
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


def test_head_is_answered_wherever_get_is_and_without_a_body(server: Running) -> None:
    digest = hashlib.sha256(RESULT).hexdigest()
    objects = ["/feeds/submissions/current.atom", f"/blobs/{digest[:2]}/{digest}"]
    for path in [*ADDRESSES, *objects, "/nowhere", "/blobs/aa/nothing", "/submissions/x", "/api/v1/runs?limit=0"]:
        get, head = server.client.get(path), server.client.head(path)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        for name in ("content-type", "content-length", "etag", "cache-control", "content-security-policy"):
            assert head.headers.get(name) == get.headers.get(name), f"{path} {name}"
        if "etag" in get.headers:
            known = {"If-None-Match": get.headers["etag"]}
            assert server.client.head(path, headers=known).status_code == 304, path
    sent = raw(server, b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert sent.endswith(b"\r\n\r\n"), "not a byte after the headers"


def test_a_head_that_nothing_but_post_handles_stays_refused() -> None:
    async def only_post(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 405, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})

    sent: list[Any] = []

    async def keep(message: Any) -> None:
        sent.append(message)

    in_own_loop(answering_head(only_post)({"type": "http", "method": "HEAD"}, None, keep))  # type: ignore[arg-type]
    assert [message.get("status", message.get("body")) for message in sent] == [405, b""]


def test_a_client_that_hung_up_is_no_error_and_any_other_failure_of_sending_is() -> None:
    async def any_app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    def sending_fails_with(text: str) -> Any:
        async def send(message: Any) -> None:
            raise RuntimeError(text)

        return send

    app = without_gone_clients(any_app)
    in_own_loop(app({"type": "http"}, None, sending_fails_with("unable …; the handler is closed")))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="out of order"):
        in_own_loop(app({"type": "http"}, None, sending_fails_with("out of order")))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "CONNECT", "FOO"])
def test_other_methods_are_refused_everywhere(server: Running, method: str) -> None:
    for path in [*ADDRESSES, "/feeds/submissions/current.atom", "/lake/v1/outcomes"]:
        answer = raw(server, f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        status = 400 if method == "FOO" else 405
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()), f"{path}: {answer[:80]!r}"
        assert b"application/problem+json" in answer, path


@pytest.mark.parametrize(
    "path",
    [
        "/blobs/../../etc/passwd",
        "/blobs/%2e%2e/%2e%2e/etc/passwd",
        "/blobs/..%2f..%2fetc/passwd",
        "/blobs/%252e%252e%252fetc",
        "/blobs/..%5c..%5cetc",
        "/blobs/%c0%ae%c0%ae/etc",
        "/blobs//etc/passwd",
        "/blobs/%00",
        "/lake/v1/outcomes",
        "/lake/v1/outcomes/",
        "/private/",
        "/tokens/x.json",
        "/pending/submissions/",
        "/../private/tokens",
        "/feeds/../../private/tokens/x",
        "/static/x/../../../pages.py",
        "/static/x/%2e%2e%2f%2e%2e%2fpages.py",
        "/static/x//etc/passwd",
        "/static/x/%00",
        "/%ff",
        "/%",
        "//evil.example/",
        "/submissions/%00",
        "/projects/%0d%0aSet-Cookie:1",
        "/projects/..",
        "/runs/%00",
        "/series/%ff",
        "/api/v1/runs/%00",
        "/api/v1/projects/%00%0d%0a.csv",
        "/" + "a" * 50_000,
        "*",
    ],
)
def test_nothing_is_found_where_nothing_is(server: Running, path: str) -> None:
    answer = raw(server, f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 "), answer[:200]
    assert b"set-cookie" not in answer.lower().partition(b"\r\n\r\n")[0]
    for inside in (str(server.data).encode(), b"root:", b"import ", b"Traceback"):
        assert inside not in answer


@pytest.mark.parametrize(
    "query",
    [
        "/runs?project=%00",
        "/runs?before=%00",
        "/submissions?before=zz",
        "/?" + "a" * 50_000,
        "/api/v1/runs?label=%00=%00",
        "/api/v1/runs?before=zz",
        "/api/v1/runs?limit=99999999999999999999999",
        "/api/v1/series?text=%00%ff",
        "/api/v1/runs?since=9999-12-31T23:59:59-23:00",
    ],
)
def test_odd_parameters_are_understood_or_refused(server: Running, query: str) -> None:
    answer = raw(server, f"GET {query} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 ")), answer[:300]


def test_a_browser_gets_a_page_where_there_is_nothing_and_a_program_a_problem(server: Running) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    page = server.client.get("/nowhere", headers=browser)
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "There is nothing at this address" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path, accept in (("/nowhere", {}), ("/api/v1/nowhere", browser), ("/blobs/aa/nothing", browser)):
        answer = server.client.get(path, headers=accept)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), path
        assert answer.json()["status"] == 404


def test_without_a_page_everybody_gets_the_problem() -> None:
    assert exception_handlers_with(None) is not None
    assert exception_handlers_with(None).keys() < exception_handlers_with(lambda *_: None).keys()  # type: ignore[arg-type, return-value]


# --- connections ---


def exchanged(*pieces: bytes, wait_seconds: float = 0) -> tuple[bytes, float]:
    """What a bare server answers to `pieces` on one connection, and how many seconds until it ended it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def exchange() -> tuple[bytes, float]:
        loop = asyncio.get_running_loop()
        config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_keep_alive=20)
        state = uvicorn.server.ServerState()
        server = await loop.create_server(lambda: BoundedConnection(config, state, {}), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            begun = loop.time()
            for piece in pieces:
                if not reader.at_eof():
                    writer.write(piece)
                    await asyncio.sleep(wait_seconds)
            answer = await asyncio.wait_for(reader.read(), 10)
            seconds = loop.time() - begun
            writer.close()
        return answer, seconds

    return in_own_loop(exchange())


HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"


def test_headers_without_end_are_refused() -> None:
    for endless in (b"X: " + b"x" * 20_000, b"X: 1\r\n" * 3400):
        answer, _ = exchanged(HEAD, *[endless] * 4, wait_seconds=0.01)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"application/problem+json" in answer


def test_a_long_address_and_long_headers_within_the_limit_are_fine() -> None:
    answer, _ = exchanged(HEAD + b"Connection: close\r\nX: " + b"x" * 50_000 + b"\r\n", b"\r\n", wait_seconds=0.01)
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "pieces",
    [
        [b""],
        [HEAD],
        [HEAD + b"\r\n", b"GET "],
        [HEAD + b"\r\n", b"\r\n", b"\r\n", b"\r\n"],
        [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", b"x", b"x", b"x"],
    ],
)
def test_a_connection_without_a_request_ends(monkeypatch: pytest.MonkeyPatch, pieces: list[bytes]) -> None:
    """Silent from the start, in the middle of headers, after an answer, or sending what nobody wants any more."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    _, seconds = exchanged(*pieces, wait_seconds=0.02)
    assert 0.25 < seconds < 20


def test_what_is_no_http_is_a_problem_too() -> None:
    answer, _ = exchanged(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer
    assert answer.count(b"HTTP/1.1") == 1


def test_an_upgrade_that_nobody_offers_is_ignored(server: Running) -> None:
    upgrade = b"Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"
    assert raw(server, HEAD + upgrade).startswith(b"HTTP/1.1 200 ")


def test_a_slow_reader_holds_nobody_up(server: Running) -> None:
    url = httpx.URL(server.url)
    with closing(socket.create_connection((url.host, url.port))) as slow:
        slow.sendall(b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 50)
        assert server.client.get("/api/v1/status").status_code == 200
