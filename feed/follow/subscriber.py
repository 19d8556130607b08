"""The subscriber's side of WebSub (W3C Recommendation), for followers: a hub tells when to look.

A delivery is a hint and nothing else: what it brings is not read, only its signature is, and the log is looked at. So
a delivery that comes twice, late, never or from somebody else does no harm.

The listener is a small HTTP server in a thread. Its path holds a token that only the hub has been told.
"""

import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from feed.remote.asking import Asker
from schemas.errors import Refused, RunfeedError

LEASE_SECONDS = 3600
"""What we ask for: so soon does a hub forget one of us that was killed."""

_RENEW_AT = 0.8
_PATIENCE_SECONDS = 60.0
"""Until a request that nobody came to verify is made again; doubled each time, up to an hour."""
_SHORTEST_SECONDS = 60.0  # of a lease, whatever the hub says: it is not renewed in a tight loop
_END_SECONDS = 2.0
_MOST_BYTES = 16 << 20
_LINK = re.compile(r'<([^<>]{1,2000})>\s*;\s*rel\s*=\s*"?([a-z ]+)"?', re.IGNORECASE)


@dataclass(frozen=True)
class Listening:
    """Where a hub reaches us: the URL that it calls, and the address and port that we listen at for it."""

    callback: str
    host: str = "127.0.0.1"
    port: int = 0


def hub_of(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """(hub, topic) that the Link header of a log's head names (WebSub, 4); None if it names none."""
    links = [(relation.lower().split(), target) for target, relation in _LINK.findall(headers.get("link", ""))]
    hub = next((target for relations, target in links if "hub" in relations), "")
    topic = next((target for relations, target in links if "self" in relations), "")
    web = ("http://", "https://")
    return (hub, topic) if hub.startswith(web) and topic.startswith(web) else None


class Subscriber:
    """A subscription that is renewed by whoever calls `keep_up` now and then, and ended by `close`.

    `ring` is called for each delivery that the hub has signed. Raises nothing: whoever is not told looks by himself,
    and `on_note` says why.
    """

    def __init__(
        self,
        hub: str,
        topic: str,
        listening: Listening | None,
        asker: Asker,
        *,
        ring: Callable[[], None],
        on_note: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hub = hub
        self._topic = topic
        self._asker = asker
        self._ring = ring
        self._on_note = on_note
        self._clock = clock
        self._lock = threading.Lock()
        self._secret = secrets.token_hex(32)
        self._token = secrets.token_urlsafe(24)
        self._wants = ""  # subscribe or unsubscribe, until the hub has come to verify
        self._failures = 0
        self._expires = 0.0
        self._due = 0.0
        self._ended = threading.Event()
        where = listening or Listening("")
        self._server = _listening_server(self, where.host, where.port)
        base = where.callback or f"http://{where.host}:{self._server.server_address[1]}"
        self._callback = f"{base.rstrip('/')}/{self._token}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="listen", daemon=True)
        self._thread.start()

    def keep_up(self) -> bool:
        """Subscribe, or renew, if that is due; whether the hub tells us now."""
        now = self._clock()
        with self._lock:
            active, due = now < self._expires, now >= self._due
            if due:
                self._wants = "subscribe"
                self._due = now + min(_PATIENCE_SECONDS * 2.0 ** min(self._failures, 6), 3600.0)
                self._failures += 1
        if due:
            self._ask("subscribe")
        return active

    def seconds_until_due(self) -> float:
        with self._lock:
            return max(0.0, self._due - self._clock())

    def close(self) -> None:
        """End the subscription, as far as the hub answers soon; then listen no longer."""
        with self._lock:
            active = self._clock() < self._expires
            self._wants = "unsubscribe" if active else ""
        if active and self._ask("unsubscribe"):
            self._ended.wait(_END_SECONDS)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _ask(self, mode: str) -> bool:
        """Whether the hub has taken the request."""
        form = {"hub.mode": mode, "hub.topic": self._topic, "hub.callback": self._callback}
        if mode == "subscribe":
            form |= {"hub.lease_seconds": str(LEASE_SECONDS), "hub.secret": self._secret}
        try:
            self._asker.post(self._hub, form)
        except RunfeedError as error:
            self._on_note(f"the hub does not take our request: {error}")
            return False
        return True

    # --- what the hub says, in threads of the listener ---

    def is_ours(self, path: str) -> bool:
        return hmac.compare_digest(path.rpartition("/")[2].encode(), self._token.encode())

    def verify(self, query: Mapping[str, list[str]]) -> bytes | None:
        """The challenge, if we want what the hub asks about (5.3); None if not."""
        one = {name: values[0] for name, values in query.items()}
        mode, now = one.get("hub.mode", ""), self._clock()
        if one.get("hub.topic") != self._topic:
            return None
        if mode == "denied":
            self._on_note(f"the hub denies the subscription: {one.get('hub.reason', 'no reason given')[:200]}")
            with self._lock:
                self._expires, self._due = 0.0, now + 3600.0
            return b""
        with self._lock:
            if mode != self._wants or not one.get("hub.challenge"):
                return None
            self._wants, self._failures = "", 0
            lease = one.get("hub.lease_seconds", "")
            seconds = min(max(float(lease), _SHORTEST_SECONDS), 1e9) if lease.isdecimal() else float(LEASE_SECONDS)
            new = now >= self._expires
            self._expires = now + seconds if mode == "subscribe" else 0.0
            self._due = now + seconds * _RENEW_AT
        if mode == "unsubscribe":
            self._ended.set()
        elif new:
            self._ring()  # what came between the last look and now is not delivered
        return one["hub.challenge"].encode()

    def signature(self, method: str) -> "hmac.HMAC | None":
        """To be fed the body of a delivery; None for a method that proves nothing."""
        return hmac.new(self._secret.encode(), digestmod=method) if method in ("sha256", "sha384", "sha512") else None

    def delivered(self) -> None:
        """The hub has sent something, and signed it."""
        self._ring()


def _listening_server(subscriber: Subscriber, host: str, port: int) -> ThreadingHTTPServer:
    class Handler(_Handler):
        pass

    Handler.subscriber = subscriber
    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise Refused("listen", "an address and a port that are free", f"{host}:{port}: {error.strerror}") from error
    server.daemon_threads = True
    server.block_on_close = False
    return server


class _Handler(BaseHTTPRequestHandler):
    """One request. All that is not ours is 404."""

    subscriber: Subscriber
    timeout = 10.0
    server_version = "Runfeed"
    sys_version = ""

    def log_message(self, format: str, *args: Any) -> None:
        """The hub's requests are nobody's business."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        answer = None
        if self.subscriber.is_ours(parts.path):
            with suppress(ValueError):
                answer = self.subscriber.verify(parse_qs(parts.query, max_num_fields=50))
        self._answer(404 if answer is None else 200, answer or b"")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not self.subscriber.is_ours(urlsplit(self.path).path):
            self._answer(404, b"")
        elif not length.isdecimal() or int(length) > _MOST_BYTES:
            self._answer(413, b"")
        else:
            method, _, claimed = self.headers.get("X-Hub-Signature", "").partition("=")
            signature = self.subscriber.signature(method)
            left = int(length)
            while left and (piece := self.rfile.read(min(left, 64 << 10))):
                left -= len(piece)
                if signature:
                    signature.update(piece)
            self._answer(204, b"")  # also for what is not signed: nobody shall learn more (7.1)
            if not left and signature and hmac.compare_digest(signature.hexdigest(), claimed):
                self.subscriber.delivered()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if status != 204:  # which has no content, and says no length (RFC 9110, 8.6)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(body)
