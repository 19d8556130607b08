"""The way to the network for `infra.fetch`: resolve, check each address, connect to a checked one; never for ever."""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import httpcore

from infra.addresses import checked_address
from schemas.errors import Refused

Resolve = Callable[[str, int], Sequence[str]]
"""A host's addresses, or OSError."""

MOST_ADDRESSES = 4
"""Of a host that are tried; a stranger's DNS may name any number, each of which lets us wait."""

_WRITE_BYTES = 64 << 10


def resolved(host: str, port: int) -> list[str]:
    """The system's answer, each address once, in its order."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class CheckedBackend(httpcore.NetworkBackend):
    """Opens connections to hosts all of whose addresses may be connected to; the checks are `infra.addresses`.

    An exchange, from the first byte of a request to the last of its answer, may take `total_seconds`, whoever is slow.
    """

    def __init__(self, *, private: bool, total_seconds: float, resolve: Resolve = resolved) -> None:
        self._private = private
        self._total_seconds = total_seconds
        self._resolve = resolve
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            addresses = self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} has no address: {error}") from error
        for address in addresses:
            checked_address(host, address, private=self._private)
        failed: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses[:MOST_ADDRESSES]:
            try:
                stream = self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
            else:
                return _BoundedStream(stream, self._total_seconds)
        raise failed

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        raise Refused("url", "a host", "a socket", status=422)


class _BoundedStream(httpcore.NetworkStream):
    """A connection. What writes after having read begins a new exchange; from then on the time runs."""

    def __init__(self, stream: httpcore.NetworkStream, total_seconds: float) -> None:
        self._stream = stream
        self._total_seconds = total_seconds
        self._until = time.monotonic() + total_seconds
        self._has_read = False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._has_read = True
        return self._stream.read(max_bytes, self._left(httpcore.ReadTimeout, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._has_read:
            self._has_read = False
            self._until = time.monotonic() + self._total_seconds
        for start in range(0, len(buffer), _WRITE_BYTES):
            left = self._left(httpcore.WriteTimeout, timeout)
            self._stream.write(buffer[start : start + _WRITE_BYTES], left)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._left(httpcore.ConnectTimeout, timeout)
        return _BoundedStream(self._stream.start_tls(ssl_context, server_hostname, left), self._total_seconds)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _left(self, late: type[Exception], timeout: float | None) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise late(f"not done after {self._total_seconds:g} s")
        return left if timeout is None else min(timeout, left)
