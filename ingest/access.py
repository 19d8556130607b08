"""Who may push what: decided from the request's facts, pure; and the project's documents behind the decision."""

import contextlib
from datetime import datetime

from infra.bucket import Buckets
from infra.local import Caller, is_truly_local
from infra.settings import Settings
from ingest.projects import add_project, read_project
from ingest.tokens import check_scope, token_for
from schemas.errors import Refused
from schemas.records import ProjectRules, Trust


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
