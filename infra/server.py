"""The HTTP server of one process, and the lock that keeps a data folder to one process."""

import contextlib
import fcntl
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from litestar import Litestar, Router
from litestar.openapi import OpenAPIConfig

from infra.settings import Settings
from infra.web import exception_handlers
from schemas.errors import Refused


@contextlib.contextmanager
def alone_with(data: Path) -> Iterator[None]:
    """Hold the data folder for this process; Refused 409 if another one has it. A killed holder leaves no trace."""
    data.mkdir(parents=True, exist_ok=True)
    with open(data / "up.lock", "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            found = f"{data.absolute()} in use by another `runfeed up`"
            raise Refused("data folder", "one that nobody serves", found, status=409) from error
        yield


def make_app(routes: Sequence[Any], openapi: OpenAPIConfig | None) -> Litestar:
    """The application of these route handlers. Upload sizes are limited by the intake, not here."""
    # One router for all: Litestar wraps a handler twice if a later registration adds a method to its path.
    return Litestar(
        [Router("/", route_handlers=list(routes))],
        openapi_config=openapi,
        exception_handlers=exception_handlers,
        request_max_body_size=None,
        logging_config=None,
    )


def serve(
    routes: Sequence[Any], settings: Settings, openapi: OpenAPIConfig | None, announce: Callable[[str], None]
) -> None:
    """Serve until interrupted; `announce` gets the base URL as soon as connections are taken."""
    try:
        listening = _listen(settings.host, settings.port)
    except OSError as error:
        raise Refused(
            f"{settings.host}:{settings.port}", "a free port (see --port)", error.strerror or "", status=409
        ) from error
    with listening:
        host, port = listening.getsockname()[:2]
        config = uvicorn.Config(
            make_app(routes, openapi),
            log_level=settings.log_level,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=10,
            proxy_headers=False,
        )
        announce(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
        # uvicorn shuts down on either signal, then raises it again: both end here, and what comes after may clean up.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
    except OSError:
        listening.close()
        raise
    return listening
