"""Runners of the harness: they push over plain HTTP through both ingests, or drop into the inbox, and try again as
`runfeed push` does.

A receipt counts when it has come whole; of a file in the inbox the storage's word is the receipt. A runner that loses
its patience gives up: then the submission may be there or not, but not twice.
"""

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

import msgspec

from tests.faults.mixed_files import RUNNER, Push

THREADS = 4
GIVES_UP = 0.03
"""Of the pushes that fail: how many are not tried again."""

_TIMEOUT_SECONDS = 15


@dataclass
class Ledger:
    """What was pushed, and what was said to that. Shared by all runners."""

    receipts: dict[int, str] = field(default_factory=dict)
    """Submission ids by number of the push."""
    abandoned: set[int] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    """Answers that mean that no other try helps: there must be none."""
    retries: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


Drop = Callable[[str, bytes, dict[str, str]], None]
"""Puts an object with its metadata into the private bucket, in one try; OSError if that failed."""


class Runners:
    """Threads that push numbers `0..count-1`, none further than `allowed` says."""

    def __init__(
        self, ports: Sequence[int], push_of: Callable[[int], Push], count: int, *, token: str, drop: Drop, seed: int
    ) -> None:
        self.ledger = Ledger()
        self.allowed = count
        self._ports = ports
        self._push_of = push_of
        self._count = count
        self._token = token
        self._drop = drop
        self._next = 0
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(f"{seed} {n}"),)) for n in range(THREADS)
        ]
        self._ending = threading.Event()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let each end the push that it has begun."""
        self._ending.set()
        for thread in self._threads:
            thread.join()

    @property
    def done(self) -> int:
        """Pushes that have ended one way or the other."""
        ledger = self.ledger
        return len(ledger.receipts) + len(ledger.abandoned) + len(ledger.refused)

    def _take(self) -> int | None:
        """The next number, when it is allowed; None when there is none left."""
        while not self._ending.is_set():
            with self.ledger.lock:
                if self._next >= self._count:
                    return None
                if self._next < self.allowed:
                    self._next += 1
                    return self._next - 1
            time.sleep(0.02)
        return None

    def _run(self, chance: random.Random) -> None:
        connection = self._connection(chance)
        while (n := self._take()) is not None:
            push = self._push_of(n)
            while not self._ended(n, *self._tried(n, push, connection)):
                connection.close()
                with self.ledger.lock:
                    self.ledger.retries += 1
                    if self._ending.is_set() or chance.random() < GIVES_UP:
                        self.ledger.abandoned.add(n)
                        break
                time.sleep(chance.uniform(0.05, 0.5))
                connection = self._connection(chance)
        connection.close()

    def _connection(self, chance: random.Random) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", chance.choice(self._ports), timeout=_TIMEOUT_SECONDS)

    def _tried(self, n: int, push: Push, connection: http.client.HTTPConnection) -> tuple[int, bytes]:
        """Status and body of the answer; status 0 if there was none."""
        try:
            if push.way != "inbox":
                return _sent(connection, push, self._token)
            self._drop(f"inbox/{RUNNER}/{n // 100}/{n}", push.body, _as_metadata(said_of(push)))
        except (OSError, http.client.HTTPException):
            return 0, b""
        return 201, json.dumps({"id": push.id}).encode()

    def _ended(self, n: int, status: int, body: bytes) -> bool:
        """Note a receipt, or a refusal that no other try would change; else there is to be another."""
        with self.ledger.lock:
            if status in (200, 201):
                self.ledger.receipts[n] = json.loads(body)["id"]
            elif 400 <= status < 500 and status not in (408, 429):
                self.ledger.refused.append(f"push {n}: {status} {body[:300]!r}")
            else:
                return False
        return True


def said_of(push: Push) -> dict[str, str]:
    """What goes with the file, as names and texts."""
    context = msgspec.json.encode(push.context).decode()
    said = {"project": push.project, "format": push.format, "context": context}
    return said | {"media_type": "application/octet-stream"}  # which storage would guess


def _as_metadata(said: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in said.items()}


def _sent(connection: http.client.HTTPConnection, push: Push, token: str) -> tuple[int, bytes]:
    headers = {"Content-Type": "application/octet-stream", "Runfeed-Digest": f"sha256={push.sha256}"}
    if push.way == "token":
        headers["Authorization"] = f"Bearer {token}"
    connection.request("POST", f"/api/v1/submissions?{urlencode(said_of(push))}", body=push.body, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read()
