"""The HTTP server of one process, and the lock that keeps a part of a data folder to one process."""

import contextlib
import fcntl
import signal
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import uvicorn
from litestar import Litestar, Router
from litestar.enums import ScopeType
from litestar.openapi import OpenAPIConfig
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from infra.connections import BoundedConnection
from infra.settings import Settings
from infra.web import MessagePage, exception_handlers_with
from schemas.errors import Refused


@contextlib.contextmanager
def alone_with(data: Path, role: str) -> Iterator[None]:
    """Hold what `role` keeps in the data folder for this process; Refused 409 if another one has it. A killed holder
    leaves no trace."""
    data.mkdir(parents=True, exist_ok=True)
    with open(data / f"{role}.lock", "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            found = f"{data.absolute()} in use by another `runfeed up` or `runfeed {role}`"
            raise Refused("data folder", "one of its own (see --data)", found, status=409) from error
        yield


def make_app(routes: Sequence[Any], openapi: OpenAPIConfig | None, page: MessagePage | None = None) -> Litestar:
    """The application of these route handlers. Upload sizes are limited by the intake, not here.

    `page` makes what a browser gets where there is nothing; programs get problem details.
    """
    # One router for all: Litestar wraps a handler twice if a later registration adds a method to its path.
    return Litestar(
        [Router("/", route_handlers=list(routes))],
        openapi_config=openapi,
        exception_handlers=exception_handlers_with(page),
        request_max_body_size=None,
        logging_config=None,
    )


def answering_head(app: ASGIApp) -> ASGIApp:
    """`app`, with HEAD answered wherever GET is: by what handles it, else as GET whose body stays here."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["method"] != "HEAD":
            await app(scope, receive, send)
            return
        refused = False

        async def send_unless_refused(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                refused = message["status"] == HTTPStatus.METHOD_NOT_ALLOWED
            if not refused:
                await send(message)

        async def send_without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await app(dict(scope), receive, send_unless_refused)  # type: ignore[arg-type]
        if refused:
            await app({**scope, "method": "GET"}, receive, send_without_body)

    return answer


def without_gone_clients(app: ASGIApp) -> ASGIApp:
    """`app`, for which a client that has hung up before its answer is no error: uvloop makes one of it."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_if_there(message: Message) -> None:
            try:
                await send(message)
            except RuntimeError as error:
                if "handler is closed" not in str(error):
                    raise

        await app(scope, receive, send_if_there)

    return answer


def serve(
    routes: Sequence[Any],
    settings: Settings,
    openapi: OpenAPIConfig | None,
    announce: Callable[[str], None],
    page: MessagePage | None = None,
) -> None:
    """Serve until interrupted; `announce` gets the base URL as soon as connections are taken."""
    _check_tls(settings)
    try:
        listening = _listen(settings.host, settings.port)
    except OSError as error:
        raise Refused(
            f"{settings.host}:{settings.port}", "a free port (see --port)", error.strerror or "", status=409
        ) from error
    with listening:
        host, port = listening.getsockname()[:2]
        scheme = "https" if settings.tls_certificate else "http"
        config = uvicorn.Config(
            without_gone_clients(answering_head(make_app(routes, openapi, page))),
            http=BoundedConnection,
            ws="none",
            ssl_certfile=settings.tls_certificate or None,
            ssl_keyfile=settings.tls_key or None,
            log_config=None,
            log_level=settings.log_level,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=10,
            proxy_headers=False,
        )
        announce(f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}")
        # uvicorn shuts down on either signal, then raises it again: both end here, and what comes after may clean up.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def _check_tls(settings: Settings) -> None:
    """Refused unless certificate and key are both there and belong together, or neither is."""
    certificate, key = settings.tls_certificate, settings.tls_key
    if bool(certificate) != bool(key):
        here, missing = ("tls_certificate", "tls_key") if certificate else ("tls_key", "tls_certificate")
        raise Refused(missing, f"a PEM file, as there is a {here}", "none", status=422)
    if not certificate:
        return
    for name, path in (("tls_certificate", certificate), ("tls_key", key)):
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise Refused(name, "a file that can be read", f"{path}: {error.strerror}", status=422) from error
    try:
        # An empty password: a key that wants one must not ask for it on a terminal that nobody looks at.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        expected = "a PEM certificate chain and its key, without a password"
        raise Refused("tls_certificate, tls_key", expected, str(error), status=422) from error


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
