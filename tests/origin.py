"""A small real HTTP server over the folder of a bucket, which counts what it is asked and fails on command."""

import hashlib
import threading
import zlib
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Asked:
    """One request as it came in, and the status it was answered with."""

    method: str
    path: str
    headers: dict[str, str]
    status: int


@dataclass
class Origin:
    """Serves the files below `folder`, with ETag, ranges and gzip for who wants it.

    `plan` is consumed by requests: a status, (status, headers, body), "drop" (close without an answer), or ("cut", n):
    close after n bytes of the body. An empty plan serves. `cut_bytes` cuts every body longer than that.
    """

    folder: Path
    plan: deque[Any] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)
    cut_bytes: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    """Of every answer of status 200."""
    etags: bool = True
    url: str = ""

    def __enter__(self) -> "Origin":
        origin = self

        class Handler(_Handler):
            pass

        Handler.origin = origin
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def count(self, part: str, status: int | None = None) -> int:
        """Requests whose path contains `part`, answered with `status`."""
        return sum(part in one.path and status in (None, one.status) for one in list(self.asked))


class _Handler(BaseHTTPRequestHandler):
    origin: Origin
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        step = self.origin.plan.popleft() if self.origin.plan else None
        if step == "drop":
            self._note(0)
            self.close_connection = True
            return
        if isinstance(step, int):
            step = step, {}, b"no"
        if isinstance(step, tuple) and step[0] != "cut":
            self._answer(step[0], step[1], step[2])
            return
        cut = step[1] if step else self.origin.cut_bytes
        try:
            body = (self.origin.folder / urlsplit(self.path).path.lstrip("/")).read_bytes()
        except OSError:
            self._answer(404, {}, b"absent")
            return
        self._serve(body, cut)

    do_HEAD = do_GET

    def _serve(self, body: bytes, cut: int | None) -> None:
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = {**self.origin.headers, "ETag": etag} if self.origin.etags else dict(self.origin.headers)
        if self.origin.etags and self.headers.get("If-None-Match") == etag:
            self._answer(304, headers, b"")
            return
        wanted = self.headers.get("Range", "")
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1 if last else len(body), len(body))
            if start >= len(body):
                self._answer(416, {"Content-Range": f"bytes */{len(body)}"}, b"")
                return
            self._answer(206, headers | {"Content-Range": f"bytes {start}-{end - 1}/{len(body)}"}, body[start:end], cut)
            return
        if "gzip" in self.headers.get("Accept-Encoding", "") and len(body) > 1000:
            packer = zlib.compressobj(wbits=31)
            body = packer.compress(body) + packer.flush()
            headers["Content-Encoding"] = "gzip"
        self._answer(200, headers, body, cut)

    def _answer(self, status: int, headers: dict[str, str], body: bytes, cut: int | None = None) -> None:
        self._note(status)
        self.send_response(status)
        given = {name.lower() for name in headers}
        if status != 304 and "content-length" not in given:
            self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut is not None and len(body) > cut:
            self.wfile.write(body[:cut])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def _note(self, status: int) -> None:
        named = {name.lower(): value for name, value in self.headers.items()}
        self.origin.asked.append(Asked(self.command, self.path, named, status))
