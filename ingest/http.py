"""`POST /api/v1/submissions`: the upload, streamed to disk while it is hashed, then admitted.

The body is the raw file, described by query parameters, or multipart/form-data with a part `file` and an optional JSON
part `submission`; see `ingest.describe`.
"""

import hashlib
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import anyio
import msgspec
from litestar import Request, Response, post
from litestar.datastructures import UploadFile

from infra.bucket import Buckets
from infra.hints import Hints
from infra.settings import Settings
from ingest.access import Caller, check_rules, rules_for, trust_of
from ingest.admit import admit
from ingest.describe import MAX_CONTEXT_BYTES, Description, clean_media_type, described, parsed_description
from schemas import keys
from schemas.errors import Refused, StorageFull
from schemas.records import Blob, Encoding, ProjectRules, Receipt, Trust

IN_MEMORY_BYTES = 1 << 20
"""Uploads up to this size never touch the spool."""

_RULES_SECONDS = 1.0  # a change of a project's rules holds after this time
_RULES_KEPT = 1000
_ENCODINGS = frozenset({"", "identity", "gzip", "zstd"})


class Intake:
    """Takes uploads for one server. `hints` is told of each submission."""

    def __init__(self, buckets: Buckets, settings: Settings, hints: Hints) -> None:
        self._buckets = buckets
        self._settings = settings
        self._hints = hints
        self._spool = settings.data / "spool"
        self._spool.mkdir(parents=True, exist_ok=True)
        for left in self._spool.glob("upload-*"):
            left.unlink(missing_ok=True)  # of a process that died while it received
        self._uploads = 0
        self._rules: dict[str, tuple[float, ProjectRules]] = {}

    async def take(self, request: Request[Any, Any, Any]) -> Response[Receipt]:
        """Receive, check and admit one upload."""
        if self._uploads >= self._settings.max_uploads:
            raise Refused("server", f"at most {self._settings.max_uploads} uploads at once", "one more", status=429)
        self._uploads += 1
        try:
            return await self._take(request)
        finally:
            self._uploads -= 1

    async def _take(self, request: Request[Any, Any, Any]) -> Response[Receipt]:
        now = datetime.now(UTC)
        caller = Caller(request.client.host if request.client else "", request.headers)
        encoding = request.headers.get("content-encoding", "").lower()
        if encoding not in _ENCODINGS:
            raise Refused("Content-Encoding", "gzip, zstd or none", repr(encoding[:40]), status=415)
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type == "multipart/form-data":
            return await self._take_form(request, caller, now)
        description = described(request.query_params.dict(), media_type)
        trust, limit = await self._checked(caller, description, now)
        _check_length(request, limit)
        async with _Received(self._spool, limit) as received:
            async for piece in request.stream():
                await received.add(piece)
            _check_digest(request, received)
            return await anyio.to_thread.run_sync(self._admitted, received, description, trust, now)

    async def _take_form(self, request: Request[Any, Any, Any], caller: Caller, now: datetime) -> Response[Receipt]:
        _check_length(request, self._settings.max_blob_bytes + MAX_CONTEXT_BYTES)
        # The project stands in the body, but nobody unknown may send one.
        await anyio.to_thread.run_sync(trust_of, caller, None, self._settings, self._buckets, now)
        form = await request.form()
        file, said = form.get("file"), form.get("submission")
        if not isinstance(file, UploadFile):
            raise Refused("multipart", "a part 'file' with a file name", f"parts {sorted(form)[:10]}", status=400)
        if isinstance(said, UploadFile):
            said = await said.read(MAX_CONTEXT_BYTES + 1)
        description = parsed_description(said if isinstance(said, bytes | str) else msgspec.json.encode(said or {}))
        if not description.media_type:
            description.media_type = clean_media_type(file.content_type.partition(";")[0].strip().lower())
        trust, limit = await self._checked(caller, description, now)
        async with _Received(self._spool, limit) as received:
            while piece := await file.read(IN_MEMORY_BYTES):
                await received.add(piece)
            _check_digest(request, received)
            return await anyio.to_thread.run_sync(self._admitted, received, description, trust, now)

    async def _checked(self, caller: Caller, description: Description, now: datetime) -> tuple[Trust, int]:
        """The sender's trust and the size limit, or Refused; done before the body is read."""
        project = keys.checked_project(description.project)
        known = self._rules.get(project)
        if known is not None and known[0] > time.monotonic() and "authorization" not in caller.headers:
            trust, rules = trust_of(caller, project, self._settings, self._buckets, now), known[1]
        else:
            trust, rules = await anyio.to_thread.run_sync(self._looked_up, caller, project, now)
        check_rules(rules, trust)
        return trust, min(self._settings.max_blob_bytes, rules.max_blob_bytes or self._settings.max_blob_bytes)

    def _looked_up(self, caller: Caller, project: str, now: datetime) -> tuple[Trust, ProjectRules]:
        trust = trust_of(caller, project, self._settings, self._buckets, now)
        rules = rules_for(self._buckets, project, trust, now)
        if len(self._rules) >= _RULES_KEPT:
            self._rules.clear()
        self._rules[project] = time.monotonic() + _RULES_SECONDS, rules
        return trust, rules

    def _admitted(
        self, received: "_Received", description: Description, trust: Trust, now: datetime
    ) -> Response[Receipt]:
        receipt = admit(
            self._buckets,
            received.body(),
            Blob(
                sha256=received.sha256,
                size_bytes=received.size_bytes,
                media_type=description.media_type or "application/octet-stream",
                encoding=received.encoding,
            ),
            project=description.project,
            format=description.format,
            context=description.context,
            trust=trust,
            now=now,
        )
        if receipt.status == "created":
            self._hints.signal("submitted")
        return Response(
            receipt, status_code=201 if receipt.status == "created" else 200, headers={"Location": receipt.url}
        )


def _check_length(request: Request[Any, Any, Any], limit: int) -> None:
    """Refuse by the announced length, before a byte of the body is read."""
    text = request.headers.get("content-length", "")
    if text.isdigit() and int(text) > limit:
        raise Refused("Content-Length", f"at most {limit:,} bytes", f"{int(text):,}", status=413)


def _check_digest(request: Request[Any, Any, Any], received: "_Received") -> None:
    said = request.headers.get("runfeed-digest", "")
    if said and said.removeprefix("sha256=").lower() != received.sha256:
        raise Refused("Runfeed-Digest", f"sha256={received.sha256}, that of the bytes received", said[:80], status=422)


@dataclass
class _Received:
    """The bytes of one upload on their way in: hashed as they come, in memory while few, then in a spool file."""

    spool: Path
    limit: int

    def __post_init__(self) -> None:
        self.size_bytes = 0
        self._hash = hashlib.sha256()
        self._start = b""
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._path = self.spool / f"upload-{secrets.token_hex(12)}"

    async def __aenter__(self) -> "_Received":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)

    async def add(self, piece: bytes) -> None:
        self.size_bytes += len(piece)
        if self.size_bytes > self.limit:
            raise Refused("body", f"at most {self.limit:,} bytes", "more", status=413)
        if len(self._start) < 4:
            self._start += piece[:4]
        self._hash.update(piece)
        self._memory += piece
        if len(self._memory) > IN_MEMORY_BYTES:
            await anyio.to_thread.run_sync(self._write)

    def _write(self) -> None:
        try:
            if self._file is None:
                self._file = open(self._path, "xb")  # noqa: SIM115 - closed by __aexit__
            self._file.write(self._memory)
        except OSError as error:
            raise StorageFull(f"the spool cannot take the upload: {error}") from error
        self._memory.clear()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    @property
    def encoding(self) -> Encoding:
        """What the bytes are, whatever the sender called them."""
        if self._start[:2] == b"\x1f\x8b":
            return "gzip"
        return "zstd" if self._start[:4] == b"\x28\xb5\x2f\xfd" else "identity"

    def body(self) -> bytes | Path:
        if self._file is None:
            return bytes(self._memory)
        self._write()
        self._file.flush()
        return self._path


def intake_routes(intake: Intake) -> list[Any]:
    """The upload's route handler."""

    @post("/api/v1/submissions", status_code=201, summary="Upload a result file", tags=["submissions"])
    async def submit(request: Request[Any, Any, Any]) -> Response[Receipt]:
        return await intake.take(request)

    return [submit]
