"""The bytes of one upload on their way in: within time and size, hashed as they come, on disk once they are many."""

import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import IO, Any

import anyio

from schemas.errors import Refused, StorageFull
from schemas.records import Encoding

IN_MEMORY_BYTES = 1 << 20
"""Uploads up to this size never touch the spool."""

SILENCE_SECONDS = 30.0
"""A sender that sends nothing for so long is told to come back."""

SLOWEST_BYTES_PER_SECOND = 10_000
"""A sender that is slower, after `SILENCE_SECONDS`, keeps others from sending: uploads at once are few."""


async def pieces(
    receive: Callable[[], Awaitable[Any]], clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[bytes]:
    """The body's pieces as ASGI's `receive` gives them; Refused 408 for one that does not come, 400 for one cut off.

    Only the time spent waiting for the sender counts, not what we do with a piece.
    """
    size_bytes, waited = 0, 0.0
    more = True
    while more:
        asked = clock()
        try:
            with anyio.fail_after(SILENCE_SECONDS):
                message = await receive()
        except TimeoutError as error:
            raise _too_slow(f"nothing for {SILENCE_SECONDS:.0f} s after {size_bytes:,} bytes") from error
        waited += clock() - asked
        if message["type"] == "http.disconnect":
            raise Refused("body", "all of it", f"the connection's end after {size_bytes:,} bytes")
        body: bytes = message.get("body", b"")
        size_bytes += len(body)
        more = message.get("more_body", False)
        if more and waited > SILENCE_SECONDS and size_bytes < (waited - SILENCE_SECONDS) * SLOWEST_BYTES_PER_SECOND:
            raise _too_slow(f"{size_bytes:,} bytes in {waited:.0f} s")
        if body:
            yield body


def _too_slow(found: str) -> Refused:
    return Refused("body", f"{SLOWEST_BYTES_PER_SECOND:,} bytes a second", found, status=408)


class Received:
    """What has come of one upload: in memory while little, then in a file of the spool, which goes with the context.

    Without a spool nothing is kept but size, digest and encoding, of bytes that are in storage already.
    """

    def __init__(self, spool: Path | None, limit: int) -> None:
        self.size_bytes = 0
        self._limit = limit
        self._hash = hashlib.sha256()
        self._start = b""
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._spool = spool

    async def __aenter__(self) -> "Received":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            Path(self._file.name).unlink(missing_ok=True)

    async def add(self, piece: bytes) -> None:
        """Take one more piece; Refused 413 if that is too much, StorageFull if the spool cannot take it."""
        self.size_bytes += len(piece)
        self.check_size(self._limit)
        if len(self._start) < 4:
            self._start += piece[:4]
        self._hash.update(piece)
        if self._spool is None:
            return
        self._memory += piece
        if len(self._memory) > IN_MEMORY_BYTES:
            await anyio.to_thread.run_sync(self._write, self._spool)

    def check_size(self, limit: int) -> None:
        """Refused 413 if there is more than `limit`."""
        if self.size_bytes > limit:
            raise Refused("body", f"at most {limit:,} bytes", "more", status=413)

    def _write(self, spool: Path) -> None:
        try:
            if self._file is None:
                path = spool / f"upload-{secrets.token_hex(12)}"
                self._file = open(path, "xb")  # noqa: SIM115 - closed by __aexit__
            self._file.write(self._memory)
        except OSError as error:
            raise StorageFull(f"the spool cannot take the upload: {error}") from error
        self._memory.clear()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    @property
    def encoding(self) -> Encoding:
        """What the bytes are, whatever the sender called them."""
        if self._start[:2] == b"\x1f\x8b":
            return "gzip"
        return "zstd" if self._start[:4] == b"\x28\xb5\x2f\xfd" else "identity"

    def body(self) -> bytes | Path:
        """All bytes, or the file that holds them; nobody writes to it any more."""
        if self._file is None or self._spool is None:
            return bytes(self._memory)
        self._write(self._spool)
        self._file.flush()
        return Path(self._file.name)
