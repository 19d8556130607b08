"""Who may push what: decided from the request's facts, pure; and the project's documents behind the decision."""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from infra.bucket import Buckets
from infra.settings import LOOPBACK, Settings
from ingest.projects import add_project, read_project
from ingest.tokens import check_scope, token_for
from schemas.errors import Refused
from schemas.records import ProjectRules, Trust

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


def trust_of(caller: Caller, project: str | None, settings: Settings, buckets: Buckets, now: datetime) -> Trust:
    """How far the sender is known; Refused 401 or 403 if not far enough to push to `project` (None: to any).

    Reads storage only for a caller with an Authorization header.
    """
    authorization = caller.headers.get("authorization")
    if authorization is not None:
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            # What stands there may be a token without its scheme, so it is not told.
            raise Refused("Authorization", "Bearer <token>", "another form", status=401)
        token = token_for(buckets.private, secret.strip(), now)
        if project is not None:
            check_scope(token, project)
        return Trust(kind="token", name=token.name)
    if is_truly_local(caller, settings):
        return Trust(kind="local")
    if not settings.allow_anonymous:
        raise Refused("Authorization", "Bearer <token>", "no token, from a sender that is not local", status=401)
    return Trust(kind="anonymous")


def rules_for(buckets: Buckets, project: str, trust: Trust, now: datetime) -> ProjectRules:
    """The rules of `project`; a local sender's first push creates it, others need one that exists."""
    try:
        return read_project(buckets, project)[1]
    except FileNotFoundError as error:
        if trust.kind != "local":
            raise Refused("project", "a project that exists", repr(project), status=403) from error
    with contextlib.suppress(FileExistsError):  # somebody else's first push was faster
        add_project(buckets, project, now)
    return ProjectRules(name=project)


def check_rules(rules: ProjectRules, trust: Trust) -> None:
    """Refused 401 if the project takes no uploads from a sender of this trust."""
    if trust.kind == "anonymous" and not rules.anonymous:
        expected = f"a token: {rules.name} takes no anonymous uploads"
        raise Refused("Authorization", expected, "none", status=401)
