"""A limit to how fast bytes are taken from somebody, over all threads."""

import contextlib
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from feed.remote.bucket import RemoteBucket
from infra.bucket import Bucket
from schemas.errors import Refused

BURST_SECONDS = 1.0
"""Of the rate that may be taken at once after a rest."""

PIECE_BYTES = 4 << 20
"""Of a large object that are read at once, where one cannot read on and on."""

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMG]?)(i?)B?(?:/s)?")
_POWERS = {"": 0, "k": 1, "M": 2, "G": 3}


class Pace:
    """Whoever has read bytes waits here until they were due. Counts them; without a rate nobody waits."""

    def __init__(
        self,
        bytes_per_second: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._due_at = clock()
        self.size_bytes = 0
        """Read so far."""

    def take(self, size_bytes: int) -> None:
        """So many bytes were read."""
        with self._lock:
            self.size_bytes += size_bytes
            if self._rate is None:
                return
            now = self._clock()
            self._due_at = max(self._due_at, now - BURST_SECONDS) + size_bytes / self._rate
            pause = self._due_at - now
        if pause > 0:
            self._sleep(pause)


def parse_rate(text: str) -> float:
    """Bytes per second of `10MB/s`, `500k`, `1.5MiB/s`; Refused for what is no rate."""
    match = _RATE.fullmatch(text.strip())
    rate = float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2]] if match else 0.0
    if rate < 1:
        raise Refused("--limit-rate", "an amount per second, as in 500kB/s or 10MB/s", repr(text[:80]))
    return rate


class Paced:
    """A bucket that is read at a pace."""

    def __init__(self, bucket: Bucket, pace: Pace) -> None:
        self.bucket = bucket
        self.pace = pace

    def __getattr__(self, verb: str) -> Any:
        return getattr(self.bucket, verb)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        body = self.bucket.read(key, start, length)
        self.pace.take(len(body))
        return body

    def fetch_to(self, key: str, path: Path, at_most: int) -> bool:
        """Fetch an object into the file `path`, going on where that ends; little more than `at_most` bytes. True.

        What is in the file already is taken at its word, so its digest is to be compared.
        """
        if isinstance(self.bucket, RemoteBucket):
            with contextlib.suppress(_Enough):
                self.bucket.fetch_to(key, path, lambda piece: self._count(path, piece, at_most))
            return True
        with open(path, "ab") as file:
            while piece := self.read(key, file.tell(), PIECE_BYTES):
                file.write(piece)
                if file.tell() > at_most:
                    break
        return True

    def _count(self, path: Path, piece: bytes, at_most: int) -> None:
        self.pace.take(len(piece))
        if path.stat().st_size > at_most:
            raise _Enough


class _Enough(Exception):
    """There are more bytes than promised; the digest will say so."""
