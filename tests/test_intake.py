"""A hostile stranger against the upload of a running server: nothing half-done stays, nothing grows."""

import asyncio
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from ingest import receive
from ingest.receive import pieces
from schemas.errors import Refused
from tests.own_loop import in_own_loop
from tests.running import Running, running

RESULT = b'{"benchmark": "b", "metric": "t", "value": 1}'
SUBMIT = "/api/v1/submissions"
MAX_UPLOADS = 6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    data = tmp_path_factory.mktemp("intake") / "data"
    (data / "spool").mkdir(parents=True)
    (data / "spool" / "upload-left").write_bytes(b"of a process that died")
    (data / "runfeed.toml").write_text(f"max_uploads = {MAX_UPLOADS}\n")
    with running(data) as server:
        assert spooled(server) == []
        yield server
        assert "Traceback" not in server.log()
        assert "request failed" not in server.log()


def spooled(server: Running) -> list[str]:
    return os.listdir(server.data / "spool")


def connected(server: Running, head: str, body: bytes = b"") -> socket.socket:
    """A connection over which a request has begun."""
    url = httpx.URL(server.url)
    connection = socket.create_connection((url.host, url.port), timeout=10)
    connection.sendall(f"{head}\r\nHost: 127.0.0.1:{url.port}\r\n".encode() + body)
    return connection


def answer_on(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Status, headers and problem of the answer, once the server has ended the connection or the body is whole."""
    text = b""
    while piece := connection.recv(65536):
        text += piece
        head, _, body = text.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        length = int(headers.get("content-length", "1000000"))
        if len(body) >= length:
            break
    return int(lines[0].split()[1]), headers, json.loads(body[:length])


def until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def admitted(server: Running) -> list[Path]:
    """The submissions in the bucket, announced or not."""
    return sorted((server.data / "public" / "submissions").rglob("*.json"))


# --- uploads that never end, or end early ---


def test_an_upload_cut_off_leaves_nothing_and_gives_its_place_back(server: Running) -> None:
    before = admitted(server)
    for _ in range(2):
        half = [
            connected(server, f"POST {SUBMIT} HTTP/1.1", b"Content-Length: 3000000\r\n\r\n" + b"x" * 1_500_000)
            for _ in range(MAX_UPLOADS)
        ]
        until(lambda: len(spooled(server)) == MAX_UPLOADS, "the uploads are on disk")
        with closing(connected(server, f"POST {SUBMIT} HTTP/1.1", b"Content-Length: 1\r\n\r\nx")) as one_more:
            status, headers, problem = answer_on(one_more)
        assert (status, problem["where"]) == (429, "server")
        assert int(headers["retry-after"]) > 0
        for connection in half:
            connection.close()
        until(lambda: spooled(server) == [], "the spool is empty again")
    assert admitted(server) == before
    assert server.push(RESULT)["id"]


def test_a_second_server_that_is_refused_leaves_the_first_ones_uploads_alone(server: Running) -> None:
    body = RESULT + b" " * 2_000_000
    head = f"Content-Length: {len(body)}\r\n\r\n".encode()
    with closing(connected(server, f"POST {SUBMIT} HTTP/1.1", head + body[:1_500_000])) as upload:
        until(lambda: len(spooled(server)) == 1, "the upload is on disk")
        assert server.runfeed("up", "--data", str(server.data), "--port", "0").returncode == 2
        assert len(spooled(server)) == 1
        upload.sendall(body[1_500_000:])
        assert answer_on(upload)[0] == 201


def test_a_token_revoked_while_its_upload_was_on_the_way_is_refused(server: Running) -> None:
    server.push(RESULT)
    made = server.runfeed("token", "create", "--name", "ci", "--project", "p", "--data", str(server.data))
    head = f"Authorization: Bearer {made.stdout.strip()}\r\nContent-Length: 3\r\n\r\n".encode()
    with closing(connected(server, f"POST {SUBMIT}?project=p HTTP/1.1", head + b"a")) as upload:
        time.sleep(1.1)
        (token,) = server.runfeed("token", "list", "--data", str(server.data)).stdout.splitlines()
        assert server.runfeed("token", "revoke", token.split()[0], "--data", str(server.data)).returncode == 0
        upload.sendall(b"bc")
        status, headers, problem = answer_on(upload)
    assert (status, problem["where"], headers["www-authenticate"]) == (401, "Authorization", "Bearer")
    assert "revoked" in problem["found"]


def received(messages: list[dict[str, Any]], clock: Iterator[float]) -> bytes:
    """What `pieces` makes of ASGI messages; after the last one, silence."""

    async def gathered() -> bytes:
        waiting = iter(messages)

        async def next_message() -> dict[str, Any]:
            for message in waiting:
                return message
            await asyncio.sleep(60)
            raise AssertionError

        return b"".join([piece async for piece in pieces(next_message, lambda: next(clock))])

    return in_own_loop(gathered())


def body(content: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": content, "more_body": more}


def test_a_silent_sender_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receive, "SILENCE_SECONDS", 0.05)
    with pytest.raises(Refused) as refused:
        received([body(b"a")], iter(range(100)))
    assert refused.value.status == 408


def test_a_trickling_sender_is_told_to_come_back_and_our_own_slowness_does_not_count() -> None:
    trickle = [body(b"a" * 1000) for _ in range(100)]
    with pytest.raises(Refused) as refused:
        received(trickle, iter(range(1000)))  # a second for each
    assert refused.value.status == 408
    steps = (tick for second in range(1000) for tick in (second * 100.0, second * 100.0))  # slow between the pieces
    assert len(received([*trickle, body(b"", more=False)], steps)) == 100_000


def test_a_cut_off_body_is_refused() -> None:
    with pytest.raises(Refused, match="connection's end after 1 bytes"):
        received([body(b"a"), {"type": "http.disconnect"}], iter(range(100)))


# --- what is announced and what comes ---


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Content-Length: -1\r\n\r\n", 400),
        (b"Content-Length: 99999999999999999999999\r\n\r\n", 400),
        (b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx", 400),
        (b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx", 400),
        (b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc", 400),
        (b"Content-Type: text/html\x0b\r\nContent-Length: 1\r\n\r\nx", 400),
        (b"Content-Length: 2147483648\r\n\r\n", 413),
        (b"Expect: 100-continue\r\nContent-Length: 2147483648\r\n\r\n", 413),
        (b"Expect: 100-continue\r\nAuthorization: Bearer x\r\nContent-Length: 9\r\n\r\n", 401),
        (b'Expect: 100-continue\r\nContent-Length: 9\r\n\r\n{"a": 1}\n', 201),
        (b"Origin: http://[\r\nContent-Length: 1\r\n\r\nx", 401),
        (b"Content-Encoding: gzip, gzip\r\nContent-Length: 1\r\n\r\nx", 415),
        (b"Runfeed-Digest: \xff\r\nContent-Length: 1\r\n\r\nx", 422),
    ],
)
def test_an_odd_head_is_answered_before_its_body(server: Running, head: bytes, status: int) -> None:
    with closing(connected(server, f"POST {SUBMIT}?environment=head HTTP/1.1", head)) as connection:
        found, headers, answer = answer_on(connection)
    assert found == status
    if status >= 400:
        assert headers["content-type"] == "application/problem+json"
        assert answer["status"] == status


def test_a_content_encoding_that_the_bytes_deny_does_not_count(server: Running) -> None:
    """The bytes are kept as sent; what they are is found in them."""
    answer = server.client.post(SUBMIT, content=RESULT, headers={"Content-Encoding": "gzip"})
    assert server.wait_for(answer.json()["id"])["state"] == "accepted"


def test_the_same_bytes_from_elsewhere_are_another_submission_of_one_blob(server: Running) -> None:
    one, two = (server.push(RESULT, environment=name) for name in ("here", "there"))
    assert (one["status"], two["status"]) == ("created", "created")
    assert one["id"] != two["id"]
    assert one["sha256"] == two["sha256"]


# --- descriptions ---

_HUGE = 10**22


@pytest.mark.parametrize(
    ("status", "query", "where"),
    [
        (400, "project=p&project=q", "query project"),
        (400, "%00=1", "query \0"),
        (400, "a=1&" * 15_000, "query a"),
        (422, "project=%00", "project"),
        (422, "project=p%0a", "project"),
        (422, "format=%00", "format"),
        (422, "media_type=text/html%0d%0aX:1", "media_type"),
        (422, "label=a", "query label"),
        (422, "chunk=%D9%A1/%D9%A2&run_group=g", "query chunk"),
        (422, "chunk=1/0", "context/chunk"),
        (422, "supersedes=x", "query supersedes"),
        (422, "context=", "context"),
        (422, "context=" + "[" * 20_000, "context"),
        (422, "context=" + "%7b%22labels%22:" * 2000, "context/labels/..."),
        (422, 'context={"environment":"%5cud800"}', "context"),
        (422, f'context={{"environment":"{"a" * 33_000}"}}', "query context"),
        (422, f'context={{"machine":{{"cores":{_HUGE}}}}}', "context/machine/cores"),
        (422, 'context={"machine":{"ram_gib":-1}}', "context/machine/ram_gib"),
        (422, f'context={{"chunk":{{"group":"g","index":1,"total":{_HUGE}}}}}', "context/chunk"),
        (422, 'context={"commit":{"id":"c","time":"0001-01-01T00:00:00%2b23:00"}}', "context/commit/time"),
        (422, 'context={"commit":{"id":"c","time":"9999-12-31T23:59:59-23:00"}}', "context/commit/time"),
    ],
)
def test_a_description_out_of_form_is_refused_by_name(server: Running, status: int, query: str, where: str) -> None:
    with closing(connected(server, f"POST {SUBMIT}?{query} HTTP/1.1", b"Content-Length: 1\r\n\r\nx")) as connection:
        found, headers, problem = answer_on(connection)
    assert (found, problem["where"]) == (status, where)
    assert headers["content-type"] == "application/problem+json"
    assert problem["expected"]
    assert problem["found"]


def test_odd_text_in_a_context_travels_as_it_is(server: Running) -> None:
    """NUL, control and bidirectional characters: kept, shown, and in nobody's way."""
    contexts: list[dict[str, Any]] = [
        {"environment": "a\0b\x1b[31m\u202e\ufffe"},
        {"commit": {"id": "a\0b", "branch": "\0", "subject": "\r\nX: 1", "parents": ["\0"] * 100}},
        {"labels": {"\0": "\0", "": "x", "k" * 20_000: "v"}, "ci": {"run_url": "javascript:alert(1)"}},
        {"chunk": {"group": "\0", "index": 1, "total": 2}},
    ]
    for context in contexts:
        described = json.dumps({"project": "odd", "context": context}).encode()
        answer = server.client.post(SUBMIT, files={"file": ("r.json", RESULT), "submission": (None, described)})
        assert answer.status_code == 201, answer.text
        state = server.wait_for(answer.json()["id"])
        assert (state["state"], state["problems"]) == ("accepted", [])
        for page in (f"/submissions/{state['id']}", f"/runs/{state['runs'][0]}"):
            assert server.client.get(page).status_code == 200


# --- forms ---


def part(name: str, content: bytes, *, more: str = "") -> bytes:
    return f'--B\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


END = b"--B--\r\n"
FILE = part("file", RESULT, more='; filename="r.json"\r\nContent-Type: application/json')
SAID = part("submission", b'{"project": "form"}')


def post_form(server: Running, content: bytes, query: str = "", kind: str = "boundary=B") -> httpx.Response:
    headers = {"Content-Type": f"multipart/form-data; {kind}"}
    return server.client.post(SUBMIT + query, content=content, headers=headers)


def test_the_parts_may_come_in_any_order_and_dress(server: Running) -> None:
    id = server.push(RESULT, project="form")["id"]
    for content, query in [
        (FILE + SAID + END, ""),
        (SAID + FILE + END, ""),
        (SAID + part("file", RESULT) + END, ""),
        (part("submission", b'{"project": "form"}', more='; filename="s.json"') + FILE + END, ""),
        (
            part("submission", b'{"project": "form"}', more="\r\nContent-Type: text/plain; charset=nope") + FILE + END,
            "",
        ),
        (FILE + END, "?project=form"),
    ]:
        answer = post_form(server, content, query)
        assert (answer.status_code, answer.json().get("id")) == (200, id), answer.text


@pytest.mark.parametrize(
    ("status", "where", "content"),
    [
        (400, "multipart", b""),
        (400, "multipart", END),
        (400, "multipart", SAID + END),
        (400, "multipart", FILE + FILE + END),
        (400, "multipart", SAID + SAID + FILE + END),
        (400, "multipart", FILE + part("x", b"") + END),
        (400, "multipart", SAID * 30_000 + END),
        (400, "multipart", FILE),
        (400, "multipart", FILE + END[:-4]),
        (400, "multipart", b"--B\r\nX: y\r\n\r\nx\r\n" + END),
        (400, "multipart", part("file", RESULT, more="\r\nX: " + "x" * 100_000) + END),
        (413, "submission", part("submission", b"a" * 40_000) + FILE + END),
        (422, "submission", FILE + part("submission", b"\xff") + END),
        (422, "submission", FILE + part("submission", b"") + END),
        (422, "submission", FILE + part("submission", b"null") + END),
        (422, "media_type", FILE + part("submission", b'{"media_type": "text/\\u0000html"}') + END),
    ],
)
def test_a_form_out_of_form_is_refused_by_name(server: Running, status: int, where: str, content: bytes) -> None:
    answer = post_form(server, content)
    assert (answer.status_code, answer.json()["where"]) == (status, where), answer.text
    assert spooled(server) == []


def test_a_form_without_boundary_or_with_two_descriptions_is_refused(server: Running) -> None:
    for kind in ("charset=x", 'boundary=""', "boundary=" + "B" * 300):
        assert post_form(server, FILE + END, kind=kind).json()["where"] == "Content-Type"
    assert post_form(server, SAID + FILE + END, "?project=q").json()["where"] == "query"


# --- size ---


def test_large_uploads_in_any_form_take_no_memory(server: Running) -> None:
    """100 MB each: a raw file, a form's file, a form's field, a header, a chunk's extension, a trailer."""
    process = psutil.Process(server.pid)
    before = process.memory_info().rss
    wrong = b"Runfeed-Digest: sha256=0\r\n"
    form = b"Content-Type: multipart/form-data; boundary=B\r\n"
    chunked = b"Transfer-Encoding: chunked\r\n\r\n"
    length = b"Content-Length: 100100000\r\n\r\n"
    attacks = {
        "raw": (wrong + length, 422),
        "file": (wrong + form + length + part("file", b"")[:-2], 400),
        "field": (form + length + part("submission", b"")[:-2], 413),
        "header": (b"X: ", None),
        "extension": (chunked + b"5;", None),
        "trailer": (chunked + b"0\r\nT: ", None),
    }
    for name, (head, expected) in attacks.items():
        with closing(connected(server, f"POST {SUBMIT} HTTP/1.1", head)) as connection:
            sent = 0
            try:
                while sent < 100:
                    connection.sendall(b"x" * 1_000_000)
                    sent += 1
                connection.sendall(b"x" * 100_000)
            except OSError:
                assert expected is None, f"{name}: cut after {sent} MB"
            else:
                assert expected is not None, f"{name}: endless"
                if name != "file":
                    assert answer_on(connection)[0] == expected
        grown = (process.memory_info().rss - before) >> 20
        assert grown < 60, f"{name}: {grown} MiB"
    until(lambda: spooled(server) == [], "the spool is empty again")


def test_others_are_answered_while_a_large_upload_comes(server: Running) -> None:
    """Hashing and writing never hold the server up for long."""
    head = b"Runfeed-Digest: sha256=0\r\nContent-Length: 100000000\r\n\r\n"
    slowest = 0.0
    with closing(connected(server, f"POST {SUBMIT} HTTP/1.1", head)) as upload:
        for _ in range(20):
            upload.sendall(b"x" * 5_000_000)
            begun = time.monotonic()
            assert server.client.get("/api/v1/docs.css").status_code == 200
            slowest = max(slowest, time.monotonic() - begun)
        assert answer_on(upload)[0] == 422
    assert slowest < 5


def test_a_projects_own_limit_holds_for_forms_too(server: Running, tmp_path: Path) -> None:
    server.push(RESULT, project="small")
    assert server.runfeed("project", "set", "small", "max_blob_bytes=10", "--data", str(server.data)).returncode == 0
    time.sleep(1.1)
    answer = post_form(server, FILE + part("submission", b'{"project": "small"}') + END)
    assert (answer.status_code, answer.json()["where"]) == (413, "body")
