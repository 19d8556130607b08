"""Requests to addresses that strangers name: sources, callbacks. The one door out, and bounded in every way.

What is checked is what is connected to: the name is resolved here, every address it has is checked (`infra.addresses`),
and the connection goes to exactly one of these, so a second answer of the DNS changes nothing. URL, `Host` and the name
that a certificate is verified against stay the stranger's. Redirects are followed here, each checked anew. No proxy
from the environment, no cookies, no credentials, and no answer larger or slower than the caller allows.
"""

import ssl
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version

import httpcore
import httpx

from infra.again import Busy, is_not_now, retry_after
from infra.clock import now
from infra.outbound import CheckedBackend, Resolve, resolved
from schemas.errors import Refused, Unavailable

MAX_REDIRECTS = 5
MAX_BODY_BYTES = 8 << 20

_PIECE_BYTES = 64 << 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
"""Statuses below 500 after which the same request may succeed."""


def user_agent(public_url: str) -> str:
    """Who we are to those whom we ask."""
    return f"Runfeed/{version('runfeed')}" + (f" (+{public_url})" if public_url else "")


def checked_url(url: str) -> httpx.URL:
    """`url` if we may ask it: http or https, a host, no credentials; else Refused 422. Its fragment is dropped."""
    try:
        parsed = httpx.URL(url.strip())
        host = parsed.host  # decoded only here
    except (httpx.InvalidURL, UnicodeError) as error:
        raise Refused("url", "an http or https URL", repr(url[:200]), status=422) from error
    if parsed.scheme not in ("http", "https") or not host or "%" in host or (parsed.port or 0) > 65535:
        raise Refused("url", "an http or https URL", repr(url[:200]), status=422)
    if parsed.userinfo:
        raise Refused("url", "no credentials in it", f"some for {host}", status=422)
    return parsed.copy_with(fragment=None)


@dataclass(frozen=True)
class Fetched:
    """An answer. `body` is decoded, and empty unless `status` is 2xx; `url` is where it came from in the end."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    url: str


@dataclass(frozen=True)
class Streamed:
    """An answer whose body is still to come, decoded, piece by piece."""

    status: int
    headers: Mapping[str, str]
    pieces: Iterator[bytes]
    url: str


def unwanted(url: str, status: int, headers: Mapping[str, str]) -> Refused | Busy:
    """What an answer of that status, which is not 2xx, comes to: never, or perhaps later."""
    if is_not_now(status):
        return Busy(f"{url}: status {status}", retry_after(headers.get("retry-after"), now()))
    return Refused(url, "an answer of status 2xx", f"status {status}", status=status)


class Fetcher:
    """Asks strangers' servers. Safe to use from many threads; connections are kept for a while.

    `timeout_seconds` bounds each wait, `total_seconds` a request from its first byte to the answer's last; `resolve`
    gives a host's addresses. Raises Refused for what will never do, Unavailable for what may do later.
    """

    def __init__(
        self,
        *,
        private_addresses: bool,
        user_agent: str,
        timeout_seconds: float = 20.0,
        total_seconds: float = 600.0,
        resolve: Resolve = resolved,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.user_agent = user_agent
        self.transport = CheckedTransport(
            private_addresses=private_addresses, total_seconds=total_seconds, resolve=resolve, tls=tls
        )
        self._client = httpx.Client(
            transport=self.transport,
            headers={"User-Agent": user_agent},
            timeout=timeout_seconds,
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    def close(self) -> None:
        self._client.close()

    def get(self, url: str, headers: Mapping[str, str] | None = None, *, max_bytes: int = MAX_BODY_BYTES) -> Fetched:
        """The answer, whatever its status, with a body of at most `max_bytes`; a larger one is Refused 413.

        `headers` go along with redirects to other hosts, so nothing secret may stand in them.
        """
        with self._asked(url, {"Accept-Encoding": "gzip", **(headers or {})}) as answer:
            found = 200 <= answer.status_code < 300
            body = b"".join(_pieces(answer, max_bytes)) if found else b""
            return Fetched(answer.status_code, _plain(answer.headers), body, str(answer.url))

    @contextmanager
    def stream(self, url: str, *, max_bytes: int) -> Iterator[Streamed]:
        """The answer, of status 2xx, as pieces of at most 64 KiB; never all of it in memory."""
        with self._asked(url, {"Accept-Encoding": "identity"}) as answer:
            if not 200 <= answer.status_code < 300:
                raise unwanted(str(answer.url), answer.status_code, answer.headers)
            pieces = _pieces(answer, max_bytes)
            yield Streamed(answer.status_code, _plain(answer.headers), pieces, str(answer.url))

    def post(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> int:
        """Send `body` and return the answer's status; its body is not read and a redirect is not followed."""
        with _outside(url):
            request = self._client.build_request("POST", checked_url(url), content=body, headers=headers)
            answer = self._client.send(request, stream=True)
            answer.close()
            return answer.status_code

    @contextmanager
    def _asked(self, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """The answer to a GET after redirects; closed at the end."""
        target = checked_url(url)
        with _outside(url):
            for _ in range(MAX_REDIRECTS + 1):
                answer = self._client.send(self._client.build_request("GET", target, headers=headers), stream=True)
                try:
                    if answer.status_code not in _REDIRECTS:
                        yield answer
                        return
                finally:
                    answer.close()
                target = checked_url(str(target.join(answer.headers.get("Location", ""))))
        raise Refused(url, f"at most {MAX_REDIRECTS} redirects", "more", status=422)


class CheckedTransport(httpx.HTTPTransport):
    """For any `httpx.Client`: connects only to addresses that were checked, see above.

    It bounds time, not size; a client of it must not follow redirects to URLs that it would not have asked itself.
    """

    def __init__(
        self,
        *,
        private_addresses: bool,
        total_seconds: float = 600.0,
        resolve: Resolve = resolved,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        context = tls or httpx.create_ssl_context()
        super().__init__(verify=context, trust_env=False)
        # httpx has no argument for the way to the network, httpcore has. The old pool is empty; if a later httpx has
        # none, this fails here rather than connect unchecked.
        self._pool.close()
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=64,
            max_keepalive_connections=16,
            keepalive_expiry=15.0,
            network_backend=CheckedBackend(private=private_addresses, total_seconds=total_seconds, resolve=resolve),
        )


@contextmanager
def _outside(url: str) -> Iterator[None]:
    """What fails out there as our errors."""
    try:
        yield
    except httpx.UnsupportedProtocol as error:
        raise Refused("url", "an http or https URL", repr(url[:200]), status=422) from error
    except httpx.InvalidURL as error:
        raise Refused("url", "a URL", repr(url[:200]), status=422) from error
    except httpx.HTTPError as error:
        raise Unavailable(f"{url}: {str(error) or type(error).__name__}") from error


def _plain(headers: httpx.Headers) -> Mapping[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _pieces(answer: httpx.Response, max_bytes: int) -> Iterator[bytes]:
    """The decoded body, Refused 413 as soon as it is known to exceed `max_bytes`."""
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower() or "identity"
    declared = answer.headers.get("Content-Length", "")
    if encoding == "identity" and declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(answer, max_bytes)
    if encoding not in _DECODERS:
        raise Refused(f"{answer.url} Content-Encoding", " or ".join(_DECODERS), repr(encoding[:80]), status=415)
    size_bytes = 0
    for piece in _DECODERS[encoding](answer.iter_raw()):
        size_bytes += len(piece)
        if size_bytes > max_bytes:
            raise _too_large(answer, max_bytes)
        yield piece


def _too_large(answer: httpx.Response, max_bytes: int) -> Refused:
    return Refused(str(answer.url), f"at most {max_bytes:,} bytes", "more", status=413)


def _gunzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """What gzip members decode to, in bounded pieces, however well they were compressed."""
    decoder, begun = zlib.decompressobj(zlib.MAX_WBITS | 16), False
    for piece in pieces:
        rest, begun = piece, True
        while rest:
            if decoder.eof:
                decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)
            try:
                decoded = decoder.decompress(rest, _PIECE_BYTES)
            except zlib.error as error:
                raise Refused("Content-Encoding", "gzip", str(error), status=415) from error
            if decoded:
                yield decoded
            rest = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
    while not decoder.eof and (decoded := decoder.decompress(b"", _PIECE_BYTES)):
        yield decoded
    if begun and not decoder.eof:
        raise Unavailable("the answer ended within its gzip stream")


_DECODERS: dict[str, Callable[[Iterable[bytes]], Iterator[bytes]]] = {
    "identity": iter,
    "gzip": _gunzipped,
    "x-gzip": _gunzipped,
}
