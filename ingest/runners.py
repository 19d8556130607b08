"""Runners that drop files into the inbox: who may write below `inbox/<runner>/` is storage's to check, what is taken
from there is the operator's to say. Registering is done in the private bucket; the runner's own keys never come here.
"""

import contextlib
from collections.abc import Iterator
from datetime import datetime

import msgspec

from infra.bucket import Bucket
from schemas import keys
from schemas.errors import Refused
from schemas.records import InboxRefusal, Runner, Trust


def checked_runner(name: str) -> str:
    """`name` if it may name a runner, which is as projects are named; else Refused 422."""
    return keys.checked_project(name, "runner")


def set_runner(private: Bucket, name: str, projects: list[str], now: datetime) -> Runner:
    """Take the files of runner `name` for `projects` from now on, and look once more at those that were refused."""
    for project in projects:
        if project != "*":
            keys.checked_project(project)
    key = keys.runner(checked_runner(name))
    runner = Runner(name=name, projects=projects, created=now)
    try:
        private.create(key, msgspec.json.encode(runner))
    except FileExistsError:
        body, etag = private.read_versioned(key)
        runner = msgspec.structs.replace(msgspec.json.decode(body, type=Runner), projects=projects)
        private.swap(key, msgspec.json.encode(runner), etag=etag)
    private.delete(*private.list(keys.inbox_refusals(name)))
    return runner


def remove_runner(private: Bucket, name: str) -> None:
    """Take nothing more of runner `name`; what it drops stays where it is. Fine if there is no such runner."""
    private.delete(keys.runner(checked_runner(name)))


def read_runner(private: Bucket, name: str) -> Runner | None:
    """The registered runner of that name, or None."""
    with contextlib.suppress(FileNotFoundError, Refused):
        return msgspec.json.decode(private.read(keys.runner(checked_runner(name))), type=Runner)
    return None


def runners(private: Bucket) -> Iterator[Runner]:
    """All registered runners, by name."""
    for key in private.list("runners/"):
        with contextlib.suppress(FileNotFoundError):
            yield msgspec.json.decode(private.read(key), type=Runner)


def refusals(private: Bucket, name: str) -> Iterator[InboxRefusal]:
    """What of runner `name` was not taken in the last week, and why."""
    for key in private.list(keys.inbox_refusals(checked_runner(name))):
        with contextlib.suppress(FileNotFoundError):
            yield msgspec.json.decode(private.read(key), type=InboxRefusal)


def trust_in(runner: Runner) -> Trust:
    """How we know who sent a file that lies in this runner's part of the inbox."""
    return Trust(kind="runner", name=runner.name)


def default_project(runner: Runner) -> str:
    """The project of a file that names none."""
    return runner.projects[0] if len(runner.projects) == 1 and runner.projects != ["*"] else "default"


def check_runner_scope(runner: Runner, project: str) -> None:
    """Refused 403 unless files of `runner` are taken for `project`."""
    if "*" not in runner.projects and project not in runner.projects:
        raise Refused("project", "one of the runner's projects: " + ", ".join(runner.projects), project, status=403)
