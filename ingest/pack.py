"""From a file on the runner to what a push says of it: digest, size, media type, and where it came from.

Stands before `ingest.push`, which sends what is packed, and `ingest.spool`, which keeps it. Packing the same result
twice gives the same context, so that a second push is known as the same submission: nothing here depends on the time,
the attempt or the machine's load.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from ingest.ci import CiRun, ci_run, printable
from ingest.git import Repository
from ingest.machine import read_machine
from ingest.media import HEAD_BYTES, encoding, media_type
from schemas.errors import Refused
from schemas.keys import PROJECT, SHA256
from schemas.records import Chunk, Commit, Context, Encoding, Machine

PARTS = ("commit", "machine", "ci")
"""What is found by looking around, and may be left out."""

_PIECE = 1 << 20
_MAX_EVENT_BYTES = 8 << 20
_CHUNK = re.compile(r"([1-9]\d{0,5})/([1-9]\d{0,5})")
_MACHINE_FIELDS = {"cpu": str, "cores": int, "ram_gib": int, "os": str, "runtime": str}


@dataclass(frozen=True)
class Packed:
    """A file ready to be sent: the bytes at `path` and everything said about them."""

    name: str
    """What to call it in messages; never sent."""
    path: Path
    sha256: str
    size_bytes: int
    media_type: str
    encoding: Encoding
    project: str
    format: str
    context: Context

    def pieces(self, start: int = 0, size_bytes: int | None = None) -> Iterator[bytes]:
        """The bytes from `start`, all or `size_bytes` of them. Refused if the file's size is another by now."""
        left = self.size_bytes - start if size_bytes is None else size_bytes
        with open(self.path, "rb") as file:
            found = os.fstat(file.fileno()).st_size
            file.seek(start)
            while found == self.size_bytes and (piece := file.read(min(_PIECE, left))):
                left -= len(piece)
                yield piece
        if left:
            raise Refused(self.name, f"{self.size_bytes:,} bytes, as when it was first read", "another size")


@dataclass(frozen=True)
class Choices:
    """What the sender says by hand; it outranks what is found."""

    commit: str = ""
    branch: str = ""
    environment: str = ""
    machine: Mapping[str, str] | None = None
    labels: Mapping[str, str] | None = None
    chunk: Chunk | None = None
    supersedes: str = ""
    without: Collection[str] = ()
    """Of `PARTS`: what not to look for."""


@dataclass(frozen=True)
class Origin:
    """What looking around gave: the context, a name for the project, and notes on what could not be found."""

    context: Context
    project: str
    notes: tuple[str, ...] = ()


def pack(path: Path, *, name: str, project: str, format: str, context: Context) -> Packed:
    """The file at `path`, read once. Refused if it is empty; OSError if it cannot be read."""
    digest = hashlib.sha256()
    size_bytes = 0
    head = b""
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            head = head or piece[:HEAD_BYTES]
            digest.update(piece)
            size_bytes += len(piece)
    if not size_bytes:
        raise Refused(name, "a result file", "0 bytes")
    return Packed(
        name=name,
        path=path,
        sha256=digest.hexdigest(),
        size_bytes=size_bytes,
        media_type=media_type(head, name),
        encoding=encoding(head),
        project=project,
        format=format,
        context=context,
    )


def keep_stream(stream: BinaryIO, path: Path) -> Path:
    """Write what `stream` has (a pipe can be read only once) to `path`, from which it is packed and sent."""
    with open(path, "xb") as file:
        while piece := stream.read(_PIECE):
            file.write(piece)
    return path


def files_of(path: Path) -> list[Path]:
    """`path` itself, or the files directly in it by name, without hidden ones and symbolic links, if it is a folder.

    Refused if there are none; OSError if it is absent or unreadable.
    """
    if not path.is_dir():
        path.stat()
        return [path]
    inside = sorted(
        item for item in path.iterdir() if not item.name.startswith(".") and not item.is_symlink() and item.is_file()
    )
    if not inside:
        raise Refused(str(path), "result files in the folder", "none")
    return inside


# --- where it came from ---


def find_origin(folder: Path, environ: Mapping[str, str], choices: Choices) -> Origin:
    """Look around: git in `folder`, the CI service in `environ`, this machine; `choices` outrank what is found."""
    repository = Repository(folder, environ)
    ci = None if "ci" in choices.without else _with_pull_commit(ci_run(environ, read_event(environ)), repository)
    project = project_slug(repository.name())
    notes = []
    commit = None
    if "commit" not in choices.without or choices.commit:
        commit = _find_commit(repository, ci, choices)
        if commit is None or commit.time is None:
            notes.append(repository.note or "the commit is not in the repository here")
    machine = None if "machine" in choices.without else read_machine()
    context = Context(
        commit=commit,
        environment=printable(choices.environment),
        machine=with_machine(machine, choices.machine or {}),
        labels={printable(name): printable(value) for name, value in (choices.labels or {}).items()},
        ci=ci.facts() if ci else {},
        chunk=choices.chunk,
        supersedes=choices.supersedes,
    )
    return Origin(context, project, tuple(notes))


def _with_pull_commit(ci: CiRun | None, repository: Repository) -> CiRun | None:
    """`ci` with the author's commit of a pull request, if it has to be read from the service's merge of it."""
    if ci is None or not ci.is_merge or ci.pull_commit:
        return ci
    merge = repository.commit(ci.commit)
    return replace(ci, pull_commit=merge.parents[1]) if merge and len(merge.parents) == 2 else ci


def _find_commit(repository: Repository, ci: CiRun | None, choices: Choices) -> Commit | None:
    """The commit that was measured.

    By hand it may be anything that git resolves, or else any id. Otherwise HEAD, unless HEAD is the merge commit that
    a CI service made for a pull request: then the author's commit. Without git it is what the CI service says.
    """
    head = repository.commit("HEAD")
    branch = printable(choices.branch)
    if choices.commit:
        named = repository.commit(choices.commit) or Commit(id=printable(choices.commit))
        if head is not None and named.id == head.id:
            named = _replace(named, branch=_branch(repository, head, ci), dirty=repository.dirty())
        return _replace(named, declared=True, branch=branch or named.branch)
    if head is None:
        found = ci.pull_commit or ci.commit if ci else ""
        return Commit(id=found, branch=branch or (ci.branch if ci else "")) if found else None
    measured = head
    if ci and ci.pull_commit and head.id == ci.commit != ci.pull_commit:
        measured = repository.commit(ci.pull_commit) or Commit(id=ci.pull_commit)
    return _replace(measured, branch=branch or _branch(repository, head, ci), dirty=repository.dirty())


def _branch(repository: Repository, head: Commit, ci: CiRun | None) -> str:
    """The branch of HEAD. CI services check out a bare commit, so theirs is taken if it is their commit; a pull
    request's outranks what git says, since it must not pass for one of our branches."""
    theirs = ci.branch if ci and head.id in (ci.commit, ci.pull_commit) else ""
    if ci and ci.pull_request and theirs:
        return theirs
    return repository.branch() or theirs


def _replace(commit: Commit, **changes: Any) -> Commit:
    return msgspec.structs.replace(commit, **changes)


def read_event(environ: Mapping[str, str]) -> Any:
    """The decoded event file of GitHub and its relatives, or None."""
    path = environ.get("GITHUB_EVENT_PATH", "")
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if path and Path(path).stat().st_size <= _MAX_EVENT_BYTES:
            return json.loads(Path(path).read_bytes())
    return None


def with_machine(machine: Machine | None, given: Mapping[str, str]) -> Machine | None:
    """`machine` with the fields that are `given` by hand (empty: left out)."""
    changes: dict[str, Any] = {}
    for name, text in given.items():
        if name not in _MACHINE_FIELDS:
            raise Refused("--machine", " or ".join(_MACHINE_FIELDS), repr(name))
        if _MACHINE_FIELDS[name] is str:
            changes[name] = printable(text)
        elif not text or (text.isascii() and text.isdecimal() and 0 < int(text) < 1 << 31):
            changes[name] = int(text) if text else None
        else:
            raise Refused(f"--machine {name}", "a whole number", repr(text))
    return msgspec.structs.replace(machine or Machine(), **changes) if changes else machine


def parse_chunk(text: str, group: str) -> Chunk | None:
    """`2/5` and the run's key as a Chunk; None if neither is given."""
    if not text and not group:
        return None
    match = _CHUNK.fullmatch(text)
    if match is None or int(match[1]) > int(match[2]):
        raise Refused("--chunk", "i/n with 1 <= i <= n", repr(text))
    if not group:
        raise Refused("--run-group", "a key that all chunks of the run share", "none")
    return Chunk(group=group, index=int(match[1]), total=int(match[2]))


def parse_submission_id(text: str) -> str:
    """The submission id in `text`: itself, or a receipt's address that ends with it."""
    found = text.rstrip("/").rpartition("/")[2].partition("?")[0]
    if not SHA256.fullmatch(found):
        raise Refused("ID", "a submission's 64 hexadecimal digits, or its address", repr(text[:120]))
    return found


def project_slug(name: str) -> str:
    """`name` as a project may be called, or empty if nothing of it can stay."""
    slug = re.sub(r"[^a-z0-9._-]+", "-", name.lower())
    slug = re.sub(r"\.{2,}", ".", slug).strip("._-")[:64].strip("._-")
    return slug if PROJECT.fullmatch(slug) else ""
