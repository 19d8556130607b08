"""A lease: of many processes that could do the same, one does. For economy only; nothing may break if two do.

The lease is an object that its holder writes again and again, by compare-and-swap. Another takes it when it has seen
the same etag for `patience_seconds` of its own monotonic clock, so no clocks are compared. A holder that was silent for
as long, perhaps because it was stopped, does not trust itself any more until it has looked.
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable

import msgspec
import structlog

from infra.bucket import Bucket
from schemas.errors import SwapLost, Unavailable

RENEWALS = 3
"""Within the patience of others, so that one that fails or is late costs nothing."""

_log = structlog.get_logger()


class LeaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What lies in the bucket. `beat` changes each time, and the etag with it. No holder: it was given back."""

    holder: str
    beat: int
    schema_version: int = 1


class Lease:
    """Holds the lease `key` whenever nobody else does; a thread of its own renews it however long a step takes.

    `acquired` is called, in that thread, each time it has become ours.
    """

    def __init__(
        self,
        bucket: Bucket,
        key: str,
        patience_seconds: float,
        *,
        acquired: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.holder = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self.last_error = ""
        self._bucket = bucket
        self._key = key
        self._patience_seconds = patience_seconds
        self._acquired = acquired
        self._clock = clock
        self._beat = 0
        self._etag: str | None = None  # as last written by us, while we hold it
        self._renewed_at = 0.0
        self._seen: tuple[str | None, float] = (None, 0.0)  # another's etag, and since when we have seen it
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    @property
    def held(self) -> bool:
        """Whether it is ours, as far as we can know without asking."""
        return self._etag is not None and self._clock() - self._renewed_at < self._patience_seconds

    def only(self, step: Callable[[], int], otherwise: Callable[[], int] = lambda: 0) -> Callable[[], int]:
        """A step that is `step` while we hold the lease, else `otherwise`."""
        return lambda: step() if self.held else otherwise()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop renewing, and give the lease back, so that another takes it at once."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._etag is not None:
            try:
                self._write("", self._etag)
            except Unavailable:  # then the others wait as if we had died
                _log.warning("lease not given back", key=self._key)
            self._etag = None

    def step(self) -> None:
        """Renew it if it is ours, else take it if it is free; the thread does this all the time."""
        if self._etag is not None:
            self._renew(self._etag)
        else:
            self._try_to_take()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.step()
                self.last_error = ""
            except Unavailable as error:
                self.last_error = str(error)
                _log.warning("lease cannot be renewed", key=self._key, error=str(error))
            interval = self._patience_seconds / RENEWALS
            self._stopping.wait(interval if self._etag else interval / 2)  # what is given back is taken sooner

    def _renew(self, etag: str) -> None:
        try:
            self._write(self.holder, etag)
        except SwapLost:
            self._etag = None
            record, found = self._read()
            if record is not None and record.holder == self.holder:
                self._etag = found  # only the answer to our own last write got lost
            else:
                _log.warning("lease lost", key=self._key, to=record.holder if record else "")

    def _try_to_take(self) -> None:
        record, etag = self._read()
        if record is not None and record.holder not in ("", self.holder):
            if self._seen[0] != etag:
                self._seen = etag, self._clock()
            if self._clock() - self._seen[1] < self._patience_seconds:
                return
        try:
            self._write(self.holder, etag)
        except SwapLost:
            return  # somebody was quicker
        _log.info("lease taken", key=self._key, holder=self.holder)
        self._acquired()

    def _read(self) -> tuple[LeaseRecord | None, str | None]:
        try:
            body, etag = self._bucket.read_versioned(self._key)
        except FileNotFoundError:
            return None, None
        try:
            return msgspec.json.decode(body, type=LeaseRecord), etag
        except msgspec.DecodeError:
            return LeaseRecord(holder="unreadable", beat=0), etag

    def _write(self, holder: str, etag: str | None) -> None:
        """Swap it in. The time that counts is that before the request: others may have seen it since."""
        now = self._clock()
        self._beat += 1
        self._etag = self._bucket.swap(
            self._key, msgspec.json.encode(LeaseRecord(holder=holder, beat=self._beat)), etag=etag
        )
        self._renewed_at = now


class Undivided:
    """In the place of a lease where there is nobody to share with."""

    def only(self, step: Callable[[], int], otherwise: Callable[[], int] = lambda: 0) -> Callable[[], int]:
        return step
