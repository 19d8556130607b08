"""A WebSub subscriber for tests: a real HTTP server on 127.0.0.1 that is asked to agree, and takes deliveries."""

import hmac
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from feed.atom import Document, parse_document


@dataclass
class Delivery:
    """One POST to the callback."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    status: int

    @property
    def document(self) -> Document:
        return parse_document(self.body)

    @property
    def seqs(self) -> list[int]:
        return [entry.seq for entry in self.document.entries]

    def is_signed_with(self, secret: str) -> bool:
        return (
            self.headers.get("x-hub-signature")
            == "sha256=" + hmac.new(secret.encode(), self.body, "sha256").hexdigest()
        )


@dataclass
class Subscriber:
    """What it says when it is asked, and what it has been asked and sent. `callback` is its address."""

    callback: str = ""
    echo: Callable[[str], tuple[int, bytes]] = lambda challenge: (200, challenge.encode())
    """Status and body of the answer to a challenge."""
    location: str = ""
    """A GET is redirected there."""
    status: int = 204
    """Of the answer to a delivery."""
    delay_seconds: float = 0.0
    asked: list[dict[str, str]] = field(default_factory=list)
    """Queries of GETs, in order."""
    deliveries: list[Delivery] = field(default_factory=list)

    @property
    def seqs(self) -> list[int]:
        """Of all entries of all deliveries that it took."""
        return [seq for one in self.deliveries if one.status < 300 for seq in one.seqs]


@contextmanager
def subscriber(port: int = 0) -> Iterator[Subscriber]:
    """A running subscriber; `port` is that of an earlier one which comes back."""
    told = Subscriber()

    class Callback(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()}
            told.asked.append(query)
            status, body = told.echo(query.get("hub.challenge", ""))
            self.send_response(302 if told.location else status)
            if told.location:
                self.send_header("Location", told.location)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(told.delay_seconds)
            headers = {name.lower(): value for name, value in self.headers.items()}
            told.deliveries.append(Delivery(self.path, headers, body, told.status))
            self.send_response(told.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A hub that was killed hangs up."""

    server = Server(("127.0.0.1", port), Callback)
    told.callback = f"http://127.0.0.1:{server.server_port}/callback"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def wait_until(condition: Callable[[], object], timeout_seconds: float = 30.0) -> None:
    """Return as soon as `condition` holds; fails if it does not come to that."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_seconds} s"
        time.sleep(0.01)
