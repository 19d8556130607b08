"""Asking somebody's server for what it publishes: patient, polite, and bounded in every answer.

Whoever runs this has named the server, so its address is not questioned; who fetches from addresses that strangers
name passes a transport that does (`infra.fetch`). A redirect is followed on the same host only, and never from https
to http: whoever was named is asked, and nobody else.

What may work later (no answer, a cut connection, a timeout, 408, 429, 5xx) is tried again, with growing pauses and
never sooner than Retry-After, and is then Unavailable. 404 is FileNotFoundError, 410 is Gone, any other answer Refused.
"""

import gzip
import io
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import zstandard

from infra.again import Busy, OnRetry, Unreachable, World, is_not_now, persist, retry_after
from schemas.errors import Refused, Unavailable

TEXT_CODINGS = "zstd, gzip"
"""What documents are asked for in; objects are asked for as they are."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5
_POST_SECONDS = 10.0  # for each wait; a hub only has to take the request
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PIECE_BYTES = 64 << 10
_MAX_WINDOW_BYTES = 8 << 20  # of zstd, as RFC 9659 has it for HTTP

T = TypeVar("T")


class Gone(FileNotFoundError):
    """410: it was there and was withdrawn."""


@dataclass(frozen=True)
class Answer:
    """An answer of status 200, 206 or 304, its body still to come, decoded, in pieces of at most 64 KiB."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    pieces: Iterator[bytes]
    url: str


class Asker:
    """A connection pool to servers that were named. Safe to use from many threads.

    `patience_seconds` is for how long a request is tried again. `world` is time and chance; a `sleep` that raises ends
    the waiting. `on_retry` is told of each failure.
    """

    def __init__(
        self,
        *,
        transport: httpx.BaseTransport | None = None,
        user_agent: str = "",
        patience_seconds: float = 60.0,
        timeout_seconds: float = 60.0,
        world: World | None = None,
        on_retry: OnRetry = lambda error, pause: None,
    ) -> None:
        self._transport = transport
        self._user_agent = user_agent or f"Runfeed/{version('runfeed')}"
        self._patience_seconds = patience_seconds
        self._timeout = httpx.Timeout(timeout_seconds, connect=min(10.0, timeout_seconds))
        self._world = world or World()
        self._on_retry = on_retry
        self._clients: dict[tuple[bool, bool], httpx.Client] = {}
        self._lock = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """End the connections; what is asked later has one of its own."""
        with self._lock:
            clients, self._clients, self._closed = list(self._clients.values()), {}, True
        for client in clients:
            client.close()

    def patiently(self, attempt: Callable[[], T]) -> T:
        """What `attempt` returns, tried again while it raises Unavailable and there is patience left."""
        return persist(self._world, self._patience_seconds, lambda deadline: attempt(), self._on_retry)

    @contextmanager
    def asked(
        self, url: str, headers: Mapping[str, str] | None = None, *, method: str = "GET", coding: str = "identity"
    ) -> Iterator[Answer]:
        """The answer to one request, after redirects; what goes wrong while its pieces are read is raised there."""
        target = url
        for _ in range(_MAX_REDIRECTS + 1):
            with _network_errors(target), self._client(target) as client:
                request = client.build_request(method, target, headers={"Accept-Encoding": coding, **(headers or {})})
                answer = client.send(request, stream=True)
                try:
                    if method == "HEAD" or answer.status_code not in (200, 206):
                        _drain(answer)
                    if answer.status_code not in _REDIRECTS:
                        _check_status(url, answer, datetime.now(UTC))
                        plain = {name.lower(): value for name, value in answer.headers.items()}
                        yield Answer(answer.status_code, plain, _decoded(answer), target)
                        return
                finally:
                    answer.close()
            target = redirected(target, answer.headers.get("Location", ""))
        raise Refused(url, f"at most {_MAX_REDIRECTS} redirects", "more")

    def post(self, url: str, form: Mapping[str, str]) -> None:
        """Send a form, once. What is not taken is Unavailable or Refused."""
        with (
            _network_errors(url),
            self._client(url) as client,
            client.stream("POST", url, data=dict(form), timeout=_POST_SECONDS) as answer,
        ):
            pass  # what it says beside its status is not read
        if not answer.is_success:
            _check_status(url, answer, datetime.now(UTC))
            raise Refused(url, "an answer of status 2xx", f"status {answer.status_code}", status=answer.status_code)

    @contextmanager
    def _client(self, url: str) -> Iterator[httpx.Client]:
        """One that is kept; after `close` one that is not, for whoever comes late."""
        key = is_loopback(url), url.startswith("https:")
        with self._lock:
            if not self._closed and key not in self._clients:
                self._clients[key] = self._opened(*key)
            kept = self._clients.get(key)
        if kept:
            yield kept
        else:
            with self._opened(*key) as client:
                yield client

    def _opened(self, near: bool, safe: bool) -> httpx.Client:
        """`near`: this machine's own servers, which a proxy could not reach; `safe`: for https."""
        return httpx.Client(
            transport=self._transport,
            headers={"User-Agent": self._user_agent, "Accept": "*/*"},
            timeout=self._timeout,
            trust_env=not near,
            verify=safe,  # loading certificates takes a while, and http needs none
            limits=httpx.Limits(max_connections=32, max_keepalive_connections=16),
        )


def is_loopback(url: str) -> bool:
    """Whether `url` names this machine."""
    return urlsplit(url).hostname in _LOOPBACK


def redirected(url: str, location: str) -> str:
    """Where a redirect from `url` leads; Refused if that is another host, or no longer encrypted."""
    try:
        target = httpx.URL(url).join(location)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise Refused(url, "a redirect to a URL", repr(location[:200])) from error
    old = httpx.URL(url)
    same = (target.scheme, target.host, target.port) == (old.scheme, old.host, old.port)
    upgraded = target.scheme == "https" and old.scheme == "http" and target.host == old.host
    if not location or not (same or upgraded):
        raise Refused(url, "an answer, or a redirect on the same host", f"a redirect to {str(target)[:200]}")
    return str(target.copy_with(fragment=None))


def _drain(answer: httpx.Response) -> None:
    """Read what is not wanted, if it is little: the connection can then serve the next request."""
    read = 0
    for piece in answer.iter_raw():
        read += len(piece)
        if read > _PIECE_BYTES:
            return


def _check_status(url: str, answer: httpx.Response, now: datetime) -> None:
    status = answer.status_code
    if status in (200, 206, 304):
        return
    if is_not_now(status):
        raise Busy(f"{url}: status {status}", retry_after(answer.headers.get("Retry-After"), now))
    if status == 404:
        raise FileNotFoundError(url)
    if status == 410:
        raise Gone(url)
    raise Refused(url, "an answer of status 200", f"status {status}", status=status)


@contextmanager
def _network_errors(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise Refused(url[:200], "an http or https URL", str(error)) from error
    except httpx.HTTPError as error:
        raise Unreachable(f"{url}: {str(error) or type(error).__name__}") from error


def _decoded(answer: httpx.Response) -> Iterator[bytes]:
    """The body without its Content-Encoding. Unavailable if there is less of it than it says."""
    counted = _Counted(answer.iter_raw())
    raw = io.BufferedReader(counted, _PIECE_BYTES)
    coding = answer.headers.get("Content-Encoding", "identity").strip().lower() or "identity"
    try:
        if coding in ("gzip", "x-gzip"):
            with gzip.GzipFile(fileobj=raw, mode="rb") as unzipped:
                yield from iter(lambda: unzipped.read(_PIECE_BYTES), b"")
        elif coding == "zstd":
            decoder = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
            yield from decoder.read_to_iter(raw, read_size=_PIECE_BYTES, write_size=_PIECE_BYTES)
        elif coding == "identity":
            yield from iter(lambda: raw.read1(_PIECE_BYTES), b"")
        else:
            raise Refused(f"{answer.url} Content-Encoding", f"identity, {TEXT_CODINGS}", repr(coding[:80]))
        while raw.read1(_PIECE_BYTES):  # behind the end of what was encoded
            pass
    except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise Unavailable(f"{answer.url}: expected a body in {coding}, found {error}") from error
    declared = answer.headers.get("Content-Length", "")
    if declared.isdecimal() and counted.size_bytes != int(declared):
        raise Unavailable(f"{answer.url}: expected {declared} bytes, found {counted.size_bytes}")


class _Counted(io.RawIOBase):
    """Pieces as something that decoders read from; counts what they take."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")
        self.size_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self.size_bytes += count
        return count
