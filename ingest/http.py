"""`POST /api/v1/submissions`: the upload, streamed to disk while it is hashed, then admitted.

The body is the raw file, described by query parameters, or multipart/form-data with a part `file`, described by query
parameters or by a JSON part `submission`; see `ingest.describe`.
"""

import time
from datetime import UTC, datetime
from typing import Any

import anyio
from litestar import Request, Response, post

from infra.bucket import Buckets
from infra.hints import Hints
from infra.local import Caller, caller_of
from infra.settings import Settings
from ingest.access import check_rules, rules_for, trust_of
from ingest.admit import admit
from ingest.describe import Description, described, parsed_description
from ingest.form import OVERHEAD_BYTES, Form, boundary_of, read_form
from ingest.receive import Received, pieces
from schemas import keys
from schemas.errors import Refused
from schemas.records import Blob, ProjectRules, Receipt, Trust

_RULES_SECONDS = 1.0  # a change of a project's rules holds after this time
_RULES_KEPT = 1000
_ENCODINGS = frozenset({"", "identity", "gzip", "zstd"})

_Request = Request[Any, Any, Any]


class Intake:
    """Takes uploads for one server. `hints` is told of each submission. Alone with `settings.data`."""

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

    async def take(self, request: _Request) -> Response[Receipt]:
        """Receive, check and admit one upload."""
        if self._uploads >= self._settings.max_uploads:
            raise Refused("server", f"at most {self._settings.max_uploads} uploads at once", "one more", status=429)
        self._uploads += 1
        try:
            return await self._take(request)
        finally:
            self._uploads -= 1

    async def _take(self, request: _Request) -> Response[Receipt]:
        caller = caller_of(request)
        encoding = request.headers.get("content-encoding", "").lower()
        if encoding not in _ENCODINGS:
            raise Refused("Content-Encoding", "gzip, zstd or none", repr(encoding[:40]), status=415)
        content_type = request.headers.get("content-type", "")
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type == "multipart/form-data":
            return await self._take_form(request, caller, boundary_of(content_type))
        description = described(request.query_params.dict(), media_type)
        trust, limit = await self._checked(caller, description)
        _check_length(request, limit)
        async with Received(self._spool, limit) as received:
            begun = time.monotonic()
            async for piece in pieces(request.receive):
                await received.add(piece)
            if time.monotonic() - begun > _RULES_SECONDS:  # the token may have been revoked meanwhile
                trust, limit = await self._checked(caller, description)
            return await self._finished(request, received, description, trust, limit)

    async def _take_form(self, request: _Request, caller: Caller, boundary: str) -> Response[Receipt]:
        _check_length(request, self._settings.max_blob_bytes + OVERHEAD_BYTES)
        # The project may stand in the body, but nobody unknown may send one.
        await anyio.to_thread.run_sync(trust_of, caller, None, self._settings, self._buckets, datetime.now(UTC))
        async with Received(self._spool, self._settings.max_blob_bytes) as received:
            form = await read_form(pieces(request.receive), boundary, received)
            description = _described_by(form, request.query_params.dict())
            trust, limit = await self._checked(caller, description)
            return await self._finished(request, received, description, trust, limit)

    async def _finished(
        self, request: _Request, received: Received, description: Description, trust: Trust, limit: int
    ) -> Response[Receipt]:
        received.check_size(limit)
        _check_digest(request, received)
        return await anyio.to_thread.run_sync(self._admitted, received, description, trust, datetime.now(UTC))

    async def _checked(self, caller: Caller, description: Description) -> tuple[Trust, int]:
        """The sender's trust and the size limit, or Refused."""
        now = datetime.now(UTC)
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

    def _admitted(self, received: Received, description: Description, trust: Trust, now: datetime) -> Response[Receipt]:
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


def _check_length(request: _Request, limit: int) -> None:
    """Refuse by the announced length, before a byte of the body is read."""
    text = request.headers.get("content-length", "")
    if text.isdecimal() and int(text) > limit:
        raise Refused("Content-Length", f"at most {limit:,} bytes", f"{int(text):,}", status=413)


def _check_digest(request: _Request, received: Received) -> None:
    said = request.headers.get("runfeed-digest", "")
    if said and said.removeprefix("sha256=").lower() != received.sha256:
        raise Refused("Runfeed-Digest", f"sha256={received.sha256}, that of the bytes received", said[:80], status=422)


def _described_by(form: Form, query: dict[str, Any]) -> Description:
    """The one description that there is; Refused 400 if there are two."""
    if form.submission is None:
        return described(query, form.media_type)
    if query:
        raise Refused("query", "nothing beside the form's part 'submission'", ", ".join(sorted(query))[:80])
    description = parsed_description(form.submission)
    if not description.media_type:
        description.media_type = form.media_type
    return description


def intake_routes(intake: Intake) -> list[Any]:
    """The upload's route handler."""

    @post("/api/v1/submissions", status_code=201, summary="Upload a result file", tags=["submissions"])
    async def submit(request: _Request) -> Response[Receipt]:
        return await intake.take(request)

    return [submit]
