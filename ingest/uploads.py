"""Upload grants: big files go from the runner to storage, by links that storage honours, and not through ingest.

    POST /api/v1/uploads                 digest, size and description → links for the pieces that are missing
    (the runner PUTs the pieces to storage)
    POST /api/v1/uploads/<id>/complete   → the receipt, once storage has exactly these bytes

A grant is a submission to be, and has its id: asking again is how to resume, on any server, and what a submission is
already is answered with its receipt. Offered to senders who are known, where storage is S3 and `upload_endpoint` says
how runners reach it; elsewhere the answer is 404, and files are sent as always.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from litestar import Request, Response, post
from litestar.params import FromPath

from feed.withdrawals import check_not_withdrawn
from infra.bucket import Buckets, exists
from infra.hints import Hints
from infra.inbox import Arrival, Inbox, inboxes
from infra.local import Caller, caller_of
from infra.settings import Settings
from ingest.access import check_rules, rules_for, trust_of
from ingest.admit import known_receipt
from ingest.benchmarks import resolved_format
from ingest.describe import MAX_CONTEXT_BYTES, Description, checked_description
from ingest.inbox import Admission
from ingest.receive import pieces
from schemas import keys
from schemas.errors import Refused, SwapLost, Unavailable
from schemas.problems import problem_of
from schemas.records import Grant, Piece, Receipt, Upload, submission_id

SECONDS = 3600
"""How long links hold."""

PART_BYTES = 16 << 20
"""Files above this size go up in parts of it."""

MAX_PARTS = 1000
"""Of one file; parts of a larger one are larger."""

KEEP = timedelta(days=7)
"""After which a grant that nobody has completed is swept."""

if TYPE_CHECKING:
    from infra.grants import Links

_MAX_REQUEST_BYTES = MAX_CONTEXT_BYTES + (4 << 10)

_LOOKS, _LOOK_SECONDS = 10, 0.1
_Request = Request[Any, Any, Any]


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/v1/uploads`; `submission` as in a form."""

    sha256: str
    size_bytes: int
    submission: Description = msgspec.field(default_factory=Description)


class Uploads:
    """Grants uploads and completes them, for one server; `hints` is told of each new submission."""

    def __init__(
        self,
        buckets: Buckets,
        settings: Settings,
        environ: Mapping[str, str],
        hints: Hints,
        clock: Callable[[], datetime],
    ) -> None:
        self._buckets = buckets
        self._settings = settings
        self._open = inboxes(settings, environ)
        self._hints = hints
        self._clock = clock
        spool = settings.data / "spool"
        spool.mkdir(parents=True, exist_ok=True)
        self._admission = Admission(buckets, settings, spool, clock)
        self._completing: set[str] = set()
        self._links = _links(settings, environ)

    # --- grant ---

    async def grant(self, request: _Request) -> Response[Upload]:
        """Links for what is missing of the file that the request describes."""
        self._offered()
        body = b""
        async for piece in pieces(request.receive):
            body += piece
            if len(body) > _MAX_REQUEST_BYTES:
                raise Refused("body", f"at most {_MAX_REQUEST_BYTES:,} bytes", "more", status=413)
        upload = await anyio.to_thread.run_sync(self._granted, caller_of(request), _wanted(body))
        return Response(upload, status_code=200 if upload.receipt else 201, headers={"Cache-Control": "no-store"})

    def _granted(self, caller: Caller, wanted: Wanted) -> Upload:
        now = self._clock()
        description = wanted.submission
        trust = trust_of(caller, description.project, self._settings, self._buckets, now)
        if trust.kind == "anonymous":
            raise Refused("uploads", "a sender with a token", "none", status=404)
        rules = rules_for(self._buckets, description.project, trust, now)
        check_rules(rules, trust)
        limit = min(self._settings.max_blob_bytes, rules.max_blob_bytes or self._settings.max_blob_bytes)
        if not 0 < wanted.size_bytes <= limit:
            raise Refused("size_bytes", f"1 to {limit:,}", f"{wanted.size_bytes:,}", status=413)
        check_not_withdrawn(self._buckets.public, wanted.sha256)
        format = resolved_format(self._buckets.public, description.project, description.format)
        identity = submission_id(
            sha256=wanted.sha256,
            project=description.project,
            format=format,
            context=description.context,
            trust=trust,
        )
        if known := known_receipt(self._buckets.public, identity):
            return Upload(id=identity, receipt=known)
        grant = self._kept(
            Grant(
                id=identity,
                project=description.project,
                format=format,
                media_type=description.media_type,
                context=description.context,
                trust=trust,
                sha256=wanted.sha256,
                size_bytes=wanted.size_bytes,
                part_bytes=max(PART_BYTES, -(-wanted.size_bytes // MAX_PARTS)),
                created=now,
            )
        )
        complete = f"/api/v1/uploads/{identity}/complete"
        return Upload(id=identity, pieces=self._missing(grant), complete=complete, seconds=SECONDS)

    def _kept(self, grant: Grant) -> Grant:
        """The grant as it is in the bucket: this one, or the one that is there, whose upload goes on."""
        links = self._offered()
        key, body_key = keys.upload_grant(grant.id), keys.upload_body(grant.id)
        with contextlib.suppress(FileNotFoundError):
            return msgspec.json.decode(self._buckets.private.read(key), type=Grant)
        if grant.size_bytes > grant.part_bytes:
            grant = msgspec.structs.replace(grant, upload=links.begin(body_key))
        try:
            self._buckets.private.create(key, msgspec.json.encode(grant))
        except FileExistsError:  # somebody else asked at the same moment, or our own answer got lost
            there = msgspec.json.decode(self._buckets.private.read(key), type=Grant)
            if grant.upload and grant.upload != there.upload:
                links.abort(body_key, grant.upload)
            return there
        return grant

    def _missing(self, grant: Grant) -> list[Piece]:
        links, key = self._offered(), keys.upload_body(grant.id)
        if exists(self._buckets.private, key):
            return []
        if not grant.upload:
            url = links.whole(key, grant.size_bytes, SECONDS)
            return [Piece(start=0, size_bytes=grant.size_bytes, url=url, headers={"If-None-Match": "*"})]
        try:
            there = {part.number: part.size_bytes for part in links.parts(key, grant.upload)}
        except FileNotFoundError as error:  # storage has swept it, or somebody is just completing it
            self._buckets.private.delete(keys.upload_grant(grant.id))
            raise Unavailable(f"upload {grant.id} is no more; ask again") from error
        return [
            Piece(start=start, size_bytes=size, url=links.part(key, grant.upload, number, size, SECONDS))
            for number, start, size in _parts(grant)
            if there.get(number) != size
        ]

    # --- complete ---

    async def complete(self, request: _Request, identity: str) -> Response[Receipt]:
        """The receipt for what has been uploaded. Refused 409 if some is missing, 422 if it is something else."""
        self._offered()
        keys.checked_sha256(identity, "upload")
        grant = await anyio.to_thread.run_sync(self._read, caller_of(request), identity)
        if isinstance(grant, Receipt):
            return _answer(grant)
        if identity in self._completing:
            raise Unavailable(f"upload {identity} is just being completed")
        self._completing.add(identity)
        try:
            async with self._open() as inbox:
                receipt = await self._completed(inbox, grant)
        finally:
            self._completing.discard(identity)
        if receipt.status == "created":
            self._hints.signal("submitted")
        return _answer(receipt)

    def _read(self, caller: Caller, identity: str) -> Grant | Receipt:
        """The grant, or the receipt if it has been completed already; Refused 403 to others than its sender."""
        try:
            grant = msgspec.json.decode(self._buckets.private.read(keys.upload_grant(identity)), type=Grant)
        except FileNotFoundError as error:
            if receipt := known_receipt(self._buckets.public, identity):
                check_not_withdrawn(self._buckets.public, receipt.sha256)
                trust_of(caller, receipt.project, self._settings, self._buckets, self._clock())
                return receipt
            raise Refused("upload", "one that was granted", repr(identity), status=404) from error
        trust = trust_of(caller, grant.project, self._settings, self._buckets, self._clock())
        if trust != grant.trust:
            raise Refused("Authorization", "the token that the upload was granted to", "another", status=403)
        return grant

    async def _completed(self, inbox: Inbox, grant: Grant) -> Receipt:
        await anyio.to_thread.run_sync(self._join, grant)
        key = keys.upload_body(grant.id)
        try:
            async with inbox.open(key) as (arrival, bytes_there):
                try:
                    if arrival.size_bytes != grant.size_bytes:
                        found = f"{arrival.size_bytes:,}"
                        raise Refused("file", f"{grant.size_bytes:,} bytes", found, status=422)
                    receipt = await self._admission.admit(
                        inbox,
                        arrival,
                        bytes_there,
                        description=Description(
                            project=grant.project,
                            format=grant.format,
                            media_type=grant.media_type,
                            context=grant.context,
                        ),
                        trust=grant.trust,
                        sha256=grant.sha256,
                    )
                except Refused:
                    await self._forget(inbox, grant, arrival)  # so that it can be sent once more
                    raise
        except (FileNotFoundError, SwapLost) as error:
            if receipt_now := await self._completed_elsewhere(grant.id):
                return receipt_now
            raise Refused("file", "the file, uploaded", "nothing", status=409) from error
        await self._forget(inbox, grant, arrival)
        return receipt

    async def _completed_elsewhere(self, identity: str) -> Receipt | None:
        """The receipt, if another server gives it within a second: what it joins is another version for a moment."""
        for _ in range(_LOOKS):
            if receipt := await anyio.to_thread.run_sync(known_receipt, self._buckets.public, identity):
                return receipt
            await anyio.sleep(_LOOK_SECONDS)
        return None

    def _join(self, grant: Grant) -> None:
        """One object of the parts, if they are all there; Refused 409 if not."""
        if not grant.upload:
            return
        links, key = self._offered(), keys.upload_body(grant.id)
        with contextlib.suppress(FileNotFoundError):  # it is joined already
            there = links.parts(key, grant.upload)
            sizes = {part.number: part.size_bytes for part in there}
            missing = [number for number, _, size in _parts(grant) if sizes.get(number) != size]
            if not missing:
                links.finish(key, grant.upload, there)
            elif not exists(self._buckets.private, key):
                # Else another server has just joined it, and its parts are on their way out.
                raise Refused("file", "all parts", f"{len(missing)} missing", status=409)

    async def _forget(self, inbox: Inbox, grant: Grant, arrival: Arrival) -> None:
        await inbox.remove(arrival)
        await anyio.to_thread.run_sync(self._buckets.private.delete, keys.upload_grant(grant.id))

    # --- both ---

    def _offered(self) -> "Links":
        """Refused 404 if this server grants no uploads."""
        if self._links is None:
            raise Refused("uploads", "a server that grants them", "one that takes files itself", status=404)
        return self._links

    def sweep(self) -> int:
        """Remove grants, bytes and parts that nobody has completed; how many objects that was."""
        if self._links is None:
            return 0
        private, oldest, removed = self._buckets.private, self._clock() - KEEP, 0
        for key in private.list("uploads/"):
            with contextlib.suppress(FileNotFoundError):
                if private.head(key).modified >= oldest:
                    continue
                if key.endswith("/grant.json"):
                    grant = msgspec.json.decode(private.read(key), type=Grant)
                    if grant.upload:
                        self._links.abort(keys.upload_body(grant.id), grant.upload)
                private.delete(key)
                removed += 1
        return removed


def upload_routes(uploads: Uploads) -> list[Any]:
    """The route handlers of grants."""

    @post("/api/v1/uploads", summary="Get links for uploading a big file to storage", tags=["submissions"])
    async def grant(request: _Request) -> Response[Upload]:
        return await uploads.grant(request)

    @post("/api/v1/uploads/{upload_id:str}/complete", summary="Say that an upload is complete", tags=["submissions"])
    async def complete(request: _Request, upload_id: FromPath[str]) -> Response[Receipt]:
        return await uploads.complete(request, upload_id)

    return [grant, complete]


def _links(settings: Settings, environ: Mapping[str, str]) -> "Links | None":
    """None if there is no storage that runners could be sent to."""
    if not (settings.bucket and settings.upload_endpoint):
        return None
    from infra.grants import Links

    return Links(settings.private_bucket, settings.upload_endpoint, environ)


def _parts(grant: Grant) -> Iterator[tuple[int, int, int]]:
    """(number, start, size) of each part of the file. Pure."""
    for number, start in enumerate(range(0, grant.size_bytes, grant.part_bytes), 1):
        yield number, start, min(grant.part_bytes, grant.size_bytes - start)


def _wanted(body: bytes) -> Wanted:
    """The request's body; Refused 422 names the field that is wrong. Pure."""
    try:
        wanted = msgspec.json.decode(body, type=Wanted)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        problem = problem_of(error, "upload")
        raise Refused(problem.where, problem.expected, problem.found, status=422) from error
    keys.checked_sha256(wanted.sha256, "sha256")
    wanted.submission.project = wanted.submission.project or "default"
    checked_description(wanted.submission)
    return wanted


def _answer(receipt: Receipt) -> Response[Receipt]:
    status = 201 if receipt.status == "created" else 200
    return Response(receipt, status_code=status, headers={"Location": receipt.url})
