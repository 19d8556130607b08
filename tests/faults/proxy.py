"""An HTTP proxy before the S3 server that misbehaves as it is told: `python -m tests.faults.proxy PORT UPSTREAM_PORT`.

A process of its own. Orders are JSON lines on stdin; each is answered by a line on stdout with the requests counted so
far. What happens to a request is decided by the weather and a seeded generator. The Host header goes through as it
came, since clients sign it. Requests and answers are held whole: the largest are pieces of a multipart upload.
"""

import asyncio
import random
import re
import sys
from asyncio import StreamReader, StreamWriter
from collections import Counter

import msgspec
import uvloop

_HEAD_BYTES = 1 << 20
_CLOSED = (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect: *100-continue", re.IGNORECASE)


class Weather(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of requests, in [0, 1], that meet each trouble; what is left over goes well."""

    seed: int = 0
    busy: float = 0.0
    """503 SlowDown, and nothing was done."""
    failing: float = 0.0
    """500 InternalError, and nothing was done."""
    reset: float = 0.0
    """The connection ends before anything was done."""
    lost: float = 0.0
    """Done, but the connection ends before the answer."""
    denied: float = 0.0
    """Done, but the answer is 500."""
    truncated: float = 0.0
    """Done, but the connection ends in the middle of the answer."""
    slow: float = 0.0
    slow_seconds: float = 0.0
    """How long the slow ones wait, before anything is done."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """How it shall be from now on; None leaves it as it is."""

    weather: Weather | None = None


class Counts(msgspec.Struct, kw_only=True):
    """Requests by verb and kind of object, and those that met trouble, by trouble."""

    requests: dict[str, int]
    troubles: dict[str, int]


TROUBLES = ("busy", "failing", "reset", "lost", "denied", "truncated", "slow")


class Proxy:
    """Serves connections; `order` may be called between any two requests."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._weather = Weather()
        self._chance = random.Random(0)
        self._requests: Counter[str] = Counter()
        self._troubles: Counter[str] = Counter()

    def order(self, order: Order) -> Counts:
        if order.weather is not None:
            self._weather = order.weather
            self._chance = random.Random(order.weather.seed)
        return Counts(requests=dict(self._requests), troubles=dict(self._troubles))

    async def serve(self, client: StreamReader, answers: StreamWriter) -> None:
        upstream: tuple[StreamReader, StreamWriter] | None = None
        try:
            while head := await _head(client):
                if _EXPECT.search(head):
                    answers.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    head = _EXPECT.sub(b"", head)
                request = head + await _body(client, head)
                self._requests[_kind(head)] += 1
                trouble = self._trouble()
                if trouble == "slow":
                    await asyncio.sleep(self._weather.slow_seconds)
                if trouble == "reset":
                    return
                if trouble in ("busy", "failing"):
                    answers.write(_refusal(trouble, head))
                    await answers.drain()
                    continue
                if upstream is None or upstream[0].at_eof():
                    upstream = await asyncio.open_connection("127.0.0.1", self._upstream_port, limit=_HEAD_BYTES)
                upstream[1].write(request)
                answer = await _answer(upstream[0], head)
                if trouble == "lost":
                    return
                if trouble == "denied":
                    answer = _refusal(trouble, head)
                if trouble == "truncated":
                    answers.write(answer[: len(answer) // 2])
                    await answers.drain()
                    return
                answers.write(answer)
                await answers.drain()
        except _CLOSED:
            return
        finally:
            answers.transport.abort()
            if upstream:
                upstream[1].transport.abort()

    def _trouble(self) -> str:
        """What this request meets; "" if nothing."""
        left = self._chance.random()
        for name in TROUBLES:
            left -= getattr(self._weather, name)
            if left < 0:
                self._troubles[name] += 1
                return name
        return ""


def _kind(head: bytes) -> str:
    """`PUT submissions`, `GET list`: a request's verb and the first folder of its key."""
    verb, target = head.split(b" ", 2)[:2]
    path, _, query = target.decode("latin-1").partition("?")
    segments = path.strip("/").split("/")
    what = segments[1] if len(segments) > 1 else "list" if "list-type" in query else "bucket"
    return f"{verb.decode()} {what}"


async def _head(stream: StreamReader) -> bytes:
    """A message up to its empty line; b"" at the stream's end."""
    try:
        return await stream.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return b""


async def _body(stream: StreamReader, head: bytes) -> bytes:
    if length := _LENGTH.search(head):
        return await stream.readexactly(int(length[1]))
    pieces = []
    if _CHUNKED.search(head):
        while not pieces or pieces[-1] != b"0\r\n":
            pieces.append(await stream.readuntil(b"\r\n"))
            if size := int(pieces[-1].split(b";")[0], 16):
                pieces.append(await stream.readexactly(size + 2))
        while pieces[-1] != b"\r\n":
            pieces.append(await stream.readuntil(b"\r\n"))
    return b"".join(pieces)


async def _answer(stream: StreamReader, request: bytes) -> bytes:
    head = await _head(stream)
    if not head:
        raise ConnectionResetError
    status = int(head.split(b" ", 2)[1])
    if status == 100:
        return await _answer(stream, request)
    if request.startswith(b"HEAD ") or status in (204, 304):
        return head
    return head + await _body(stream, head)


def _refusal(trouble: str, request: bytes) -> bytes:
    line, code = ("503 Slow Down", "SlowDown") if trouble == "busy" else ("500 Internal Server Error", "InternalError")
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as told</Message></Error>".encode()
    head = f"HTTP/1.1 {line}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return head if request.startswith(b"HEAD ") else head + body


async def _run(port: int, upstream_port: int) -> None:
    proxy = Proxy(upstream_port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", port, limit=_HEAD_BYTES, backlog=1024)
    orders = StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    async with server:
        print("ready", flush=True)
        while line := await orders.readline():
            print(msgspec.json.encode(proxy.order(msgspec.json.decode(line, type=Order))).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(_run(int(sys.argv[1]), int(sys.argv[2])))
