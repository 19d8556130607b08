"""Projects: a public document with what everybody may know, a private one with the operator's rules."""

from datetime import datetime
from typing import Any, TypeVar

import msgspec

from infra.bucket import Bucket, Buckets
from schemas import keys
from schemas.errors import Refused, SwapLost
from schemas.problems import problem_of
from schemas.records import Project, ProjectRules

PUBLIC_FIELDS = ("title", "description", "url", "default_branch")
PRIVATE_FIELDS = ("anonymous", "max_blob_bytes")

D = TypeVar("D", Project, ProjectRules)


def add_project(buckets: Buckets, name: str, now: datetime) -> Project:
    """A new project with default settings; FileExistsError if there is one of this name."""
    project = Project(name=keys.checked_project(name), created=now)
    buckets.public.create(keys.project(name), msgspec.json.encode(project))
    return project


def read_project(buckets: Buckets, name: str) -> tuple[Project, ProjectRules]:
    """A project's public settings and private rules (the defaults where none were set); FileNotFoundError if absent."""
    public = msgspec.json.decode(buckets.public.read(keys.project(name)), type=Project)
    try:
        rules = msgspec.json.decode(buckets.private.read(keys.project(name)), type=ProjectRules)
    except FileNotFoundError:
        rules = ProjectRules(name=name)
    return public, rules


def set_project(buckets: Buckets, name: str, changes: dict[str, str]) -> tuple[Project, ProjectRules]:
    """Change settings by name; values are text as typed. Refused 422 names an unknown or ill-typed one."""
    read_project(buckets, name)
    for field in changes:
        if field not in PUBLIC_FIELDS + PRIVATE_FIELDS:
            raise Refused(field, "one of " + ", ".join(PUBLIC_FIELDS + PRIVATE_FIELDS), field, status=422)
    public = {field: value for field, value in changes.items() if field in PUBLIC_FIELDS}
    private = {field: value for field, value in changes.items() if field in PRIVATE_FIELDS}
    if public:
        _change(buckets.public, name, Project, public)
    if private:
        _change(buckets.private, name, ProjectRules, private)
    return read_project(buckets, name)


def _change(bucket: Bucket, name: str, kind: type[D], changes: dict[str, str]) -> None:
    """Read, change, swap; again if somebody else was faster. Fields that we do not know stay."""
    key = keys.project(name)
    for _ in range(20):
        document: dict[str, Any]
        try:
            body, etag = bucket.read_versioned(key)
            document = msgspec.json.decode(body)
        except FileNotFoundError:
            document, etag = {"name": name}, None
        document.update(
            {field: value or None if field == "max_blob_bytes" else value for field, value in changes.items()}
        )
        try:
            checked = msgspec.convert(document, type=kind, strict=False)
        except msgspec.ValidationError as error:
            problem = problem_of(error)
            raise Refused(problem.where, problem.expected, problem.found, status=422) from error
        document.update(msgspec.to_builtins(checked))
        try:
            bucket.swap(key, msgspec.json.encode(document), etag=etag)
        except SwapLost:
            continue
        return
    raise SwapLost(f"{key}: changed by others 20 times in a row")
