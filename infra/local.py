"""Who calls: what the connection tells of a caller, and whether it is a program on this very machine. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from litestar import Request

from infra.settings import LOOPBACK, Settings

_FORWARDED = re.compile(
    r"forwarded|x-forwarded.*|x-real-ip|via|(?:cf|fly|true)-.*ip|x-client(?:-ip)?|x-cluster-client-ip"
)
_LOCAL_HOST = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)


@dataclass(frozen=True)
class Caller:
    """What the connection tells of the sender. Header names are lower-case."""

    address: str
    headers: Mapping[str, str]
    http_version: str = "1.1"


def caller_of(request: Request[Any, Any, Any]) -> Caller:
    """What the connection tells of the sender."""
    host = request.client.host if request.client else ""
    return Caller(host, request.headers, request.scope.get("http_version", ""))


def is_truly_local(caller: Caller, settings: Settings) -> bool:
    """Whether a program on this machine calls, and not a web page or a proxy on somebody's behalf.

    The server is bound to loopback, the peer is loopback, the Host names loopback (a rebound DNS name does not), no
    foreign Origin asks (a web page elsewhere), and nothing was forwarded. A proxy that says nothing of forwarding may
    still speak HTTP/1.0, as nginx does unless told otherwise; programs on this machine do not.
    """
    headers = caller.headers
    if not settings.on_loopback or caller.address not in LOOPBACK or caller.http_version == "1.0":
        return False
    if any(_FORWARDED.fullmatch(name) for name in headers):
        return False
    host = headers.get("host", "")
    if not _LOCAL_HOST.fullmatch(host):
        return False
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return False
    return headers.get("origin") in (None, f"http://{host}", f"https://{host}")


def own_origin(caller: Caller, settings: Settings) -> str:
    """`http://127.0.0.1:8765`: the origin at which a caller on this machine has reached us; "" for all others, whose
    Host may name anything."""
    if not is_truly_local(caller, settings):
        return ""
    return f"{'https' if settings.tls_certificate else 'http'}://{caller.headers['host'].lower()}"
