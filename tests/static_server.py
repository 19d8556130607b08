"""A plain web server over a folder, as any stranger may put one over a copy of a public bucket, that cuts connections
when told to. It knows nothing of Runfeed but what ends in `.atom`."""

import random
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class StaticServer:
    """Serves `folder` on 127.0.0.1 while it is entered. `trouble` is the share of requests that meet some."""

    def __init__(self, folder: Path, *, trouble: float = 0.0, seed: int = 0, ranges: bool = True) -> None:
        self.folder = folder
        self.trouble = trouble
        self.ranges = ranges
        self.requests: Counter[str] = Counter()
        """By first folder of the path."""
        self.agents: set[str] = set()
        self.sent_bytes = 0
        self.troubles: Counter[str] = Counter()
        self.at_once = 0
        self.most_at_once = 0
        self._chance = random.Random(seed)
        self._lock = threading.Lock()

    def __enter__(self) -> "StaticServer":
        class Handler(_Handler):
            static = self

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def meets(self) -> str:
        """What the next request meets: "", or busy, reset, truncated."""
        with self._lock:
            if self._chance.random() >= self.trouble:
                return ""
            met = self._chance.choice(["busy", "reset", "truncated", "truncated"])
            self.troubles[met] += 1
            return met


class _Handler(BaseHTTPRequestHandler):
    static: StaticServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        static = self.static
        static.requests[self.path.split("/")[1]] += 1
        static.agents.add(self.headers["User-Agent"])
        with static._lock:
            static.at_once += 1
            static.most_at_once = max(static.most_at_once, static.at_once)
        try:
            self._send(static, with_body=with_body)
        finally:
            with static._lock:
                static.at_once -= 1

    def _send(self, static: StaticServer, *, with_body: bool) -> None:
        trouble = static.meets()
        if trouble == "reset":
            self.close_connection = True
            return
        if trouble == "busy":
            self.send_response(503)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path = static.folder / self.path.strip("/")
        if not path.is_file():
            self.send_error(404)
            return
        body = path.read_bytes()
        etag = f'"{path.stat().st_mtime_ns:x}"'
        if self.headers["If-None-Match"] == etag:
            self.send_response(304)
            self.send_header("ETag", etag)
            self.end_headers()
            return
        asked = _RANGE.fullmatch(self.headers["Range"] or "") if static.ranges else None
        status, size = 200, len(body)
        if asked:
            start, last = int(asked[1]), min(int(asked[2] or size), size - 1)
            if start >= size:
                self.send_error(416)
                return
            status, body = 206, body[start : last + 1]
        self.send_response(status)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{last}/{size}")
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            if trouble == "truncated":
                body, self.close_connection = body[: len(body) // 2], True
            static.sent_bytes += len(body)
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""
