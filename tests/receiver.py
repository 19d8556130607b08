"""A small real HTTP server that speaks ingest's contract and fails on command, for the tests of the push client."""

import hashlib
import json
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Upload:
    """One POST as it came in."""

    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def context(self) -> dict[str, Any]:
        return json.loads(self.query["context"])


@dataclass
class Receiver:
    """What the server has seen, and what it shall do next.

    `plan` is consumed by uploads: an HTTP status, (status, headers, problem), "drop" (close after the first bytes),
    "hang" (never answer), or bytes to answer 200 with. An empty plan takes the file. `states` gives each submission's
    states, one per question, the last for ever; `problems` go with them.
    """

    plan: deque[Any] = field(default_factory=deque)
    states: list[str] = field(default_factory=lambda: ["accepted"])
    problems: list[dict[str, str]] = field(default_factory=list)
    uploads: list[Upload] = field(default_factory=list)
    polls: int = 0
    known: dict[str, Upload] = field(default_factory=dict)
    attempts: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def __enter__(self) -> "Receiver":
        receiver = self

        class Handler(_Handler):
            pass

        Handler.receiver = receiver
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True

    def do_POST(self) -> None:
        receiver = self.receiver
        if urlsplit(self.path).path != "/api/v1/submissions":  # it grants no uploads
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(404)
            return
        receiver.attempts += 1
        step = receiver.plan.popleft() if receiver.plan else "take"
        if step == "drop":
            self.rfile.read(10)
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if step == "hang":
            receiver.ended.wait(20)
            self.close_connection = True
        elif isinstance(step, bytes):
            self._answer(200, step)
        elif isinstance(step, int):
            self._answer(step, {"title": "No", "status": step, "detail": f"planned {step}"})
        elif isinstance(step, tuple):
            self._answer(step[0], step[2], step[1])
        else:
            self._take(body)

    def _take(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        upload = Upload(
            {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()},
            {name.lower(): value for name, value in self.headers.items()},
            body,
        )
        digest = hashlib.sha256(body).hexdigest()
        if self.headers["Runfeed-Digest"] != f"sha256={digest}":
            problem = {"title": "No", "status": 422, "detail": "", "where": "Runfeed-Digest", "expected": digest}
            self._answer(422, {**problem, "found": self.headers["Runfeed-Digest"]})
            return
        submission = hashlib.sha256(json.dumps([digest, upload.query], sort_keys=True).encode()).hexdigest()
        created = submission not in self.receiver.known
        self.receiver.known[submission] = upload
        self.receiver.uploads.append(upload)
        receipt = {
            "id": submission,
            "project": upload.query["project"],
            "sha256": digest,
            "size_bytes": len(body),
            "status": "created" if created else "known",
            "url": f"/api/v1/submissions/{submission}",
            "page": f"/submissions/{submission}",
        }
        self._answer(201 if created else 200, receipt)

    def do_GET(self) -> None:
        receiver = self.receiver
        submission = self.path.rpartition("/")[2]
        if self.path == "/api/v1/status":
            self._answer(200, {"version": 7, "queue": {"waiting": 1234}, "loops": ["announce", "load"]})
        elif submission in receiver.known:
            state = receiver.states[min(receiver.polls, len(receiver.states) - 1)]
            receiver.polls += 1
            upload = receiver.known[submission]
            final = state in ("accepted", "rejected", "quarantined")
            self._answer(
                200,
                {
                    "id": submission,
                    "state": state,
                    "project": upload.query["project"],
                    "format": "runfeed",
                    "sha256": hashlib.sha256(upload.body).hexdigest(),
                    "size_bytes": len(upload.body),
                    "media_type": upload.query["media_type"],
                    "received": "2026-11-20T10:00:00Z",
                    "problems": receiver.problems if final else [],
                    "problems_total": len(receiver.problems) if final else 0,
                    "measurements": 3 if state == "accepted" else 0,
                },
            )
        else:
            self._answer(404, {"title": "Not found", "status": 404, "detail": "no such submission"})


@dataclass
class FakeTime:
    """A clock that only sleeping moves, and real time a little."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def clock(self) -> float:
        return self.now + (time.monotonic() - self.started)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
