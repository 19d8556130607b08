"""Connections to the HTTP server: what a stranger may send before a request stands, and for how long.

uvicorn itself bounds neither: a header without end would fill the memory, a silent connection stay for ever.
"""

import asyncio

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from schemas.records import ProblemDetails

HEAD_BYTES = 64 << 10
"""Of a request's line and headers, or of whatever else stands between the bytes of a body (extensions, trailers)."""

HEAD_SECONDS = 30.0
"""Until a connection's next request must be complete up to its body."""

_PHRASES = {400: "Bad Request", 431: "Request Header Fields Too Large"}


class BoundedConnection(HttpToolsProtocol):
    """One connection. Ends it with 431 when its head is too large, without a word when its head takes too long."""

    _idle_bytes = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_has_come()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._idle_bytes += len(data)  # the parser's callbacks below set it back when it gets somewhere
        super().data_received(data)
        if self.transport.is_closing():
            return
        answered = self.cycle is None or self.cycle.response_complete
        if self._idle_bytes > HEAD_BYTES and not answered:
            self.transport.close()  # in the middle of a body: its reader sees the end
        elif self._idle_bytes > HEAD_BYTES:
            self._refuse(431, f"at most {HEAD_BYTES:,} bytes of headers")
        elif answered and self._deadline is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        self._idle_bytes = 0
        self._head_has_come()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._idle_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's own answer to what is no HTTP, in our form."""
        self._refuse(400, msg)

    def _refuse(self, status: int, detail: str) -> None:
        body = msgspec.json.encode(ProblemDetails(title=_PHRASES[status], status=status, detail=detail))
        head = (
            f"HTTP/1.1 {status} {_PHRASES[status]}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _await_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _head_has_come(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
