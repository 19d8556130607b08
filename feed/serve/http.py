"""The public bucket's objects over HTTP, under their own keys, for whoever has no object storage to point at.

`object_routes` gives handlers for a Litestar application: `/blobs/…`, `/submissions/<aa>/<id>.json`, `/feeds/…`,
`/withdrawals/<aa>/<sha256>.json`, `/lake/…` and `/benchmarks/<project>/<name>/<version>.json`, for GET and HEAD, with
strong ETags, conditional requests and single ranges (RFC 9110). Immutable objects are streamed in pieces; those that
change (a log's head, a pointer) are small and read whole, so that bytes and ETag agree. Text goes out compressed to who
accepts that; blobs and Parquet never, as they are what a digest is of.

The media type is `application/atom+xml` without RFC 5023's `type=feed`: it is the type that the objects have in
storage, which may serve them itself.
"""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import MediaType, Request, route
from litestar.concurrency import sync_to_thread
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import ASGIApp

from feed.serve.answer import COMMON, Answer, answer_to, link_header
from feed.serve.encoded import EncodedObjects
from feed.serve.topics import base_url
from infra.bucket import Bucket, Head, checked_key
from infra.local import caller_of
from infra.settings import Settings
from infra.web import PROBLEM_MEDIA_TYPE
from schemas import keys
from schemas.records import ProblemDetails, Withdrawal

PIECE_BYTES = 1 << 20

_PATHS = (
    "/blobs/{rest:path}",
    "/submissions/{aa:str}/{name:str}",
    "/feeds/{rest:path}",
    "/withdrawals/{rest:path}",
    "/lake/{rest:path}",
    "/benchmarks/{project:str}/{name:str}/{version:str}",
)
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD",
    "Access-Control-Allow-Headers": "If-Modified-Since, If-None-Match, If-Range, Range",
    "Access-Control-Max-Age": "86400",
}


def object_routes(bucket: Bucket, settings: Settings | None = None) -> list[Any]:
    """Handlers that serve `bucket`, which must be the public one. With `settings` a log's head also names its address
    and its hubs in a Link header, where they are known."""
    encoded = EncodedObjects()

    @route(list(_PATHS), http_method=["GET", "HEAD", "OPTIONS"], include_in_schema=False)
    async def serve_object(request: Request[Any, Any, Any]) -> ASGIApp:
        if request.method == "OPTIONS":
            return _app(Answer(204, COMMON | _PREFLIGHT), _pieces_of(b""))
        key = request.scope["path"].strip("/")
        asked = {name.lower(): value for name, value in request.headers.items()}
        if request.method == "HEAD":
            asked.pop("range", None)  # defined for GET alone (RFC 9110, 14.2)
        answer, body = await _answer(bucket, encoded, key, asked)
        if settings and answer.status < 400:
            answer.headers.update(link_header(key, base_url(caller_of(request), settings), settings.hubs))
        return _app(answer, body if answer.sends and request.method == "GET" else _pieces_of(b""))

    return [serve_object]


async def _answer(
    bucket: Bucket, encoded: EncodedObjects, key: str, asked: dict[str, str]
) -> tuple[Answer, AsyncIterator[bytes]]:
    """The answer, and the body that goes with it if one does."""
    whole = None
    try:
        head = await sync_to_thread(bucket.head, checked_key(key))
        if keys.is_mutable(key):
            whole, etag = await sync_to_thread(bucket.read_versioned, key)
            head = Head(len(whole), etag, head.modified, head.content_type)
    except ValueError:
        return _absent(key, None)
    except FileNotFoundError:
        return _absent(key, await sync_to_thread(_withdrawal, bucket, key))
    answer = answer_to(key, asked, head, datetime.now(UTC))
    if answer.status == 200 and answer.coding != "identity":
        whole = await sync_to_thread(encoded.get, bucket, key, head.etag, whole, answer.coding)
        answer = replace(answer, length=len(whole))
    if whole is not None:
        return answer, _pieces_of(whole[answer.start : answer.start + answer.length])
    return answer, _read_pieces(bucket, key, answer.start, answer.length)


def _withdrawal(bucket: Bucket, key: str) -> Withdrawal | None:
    """Why the blob of that key is not there, if it was withdrawn."""
    sha256 = key.rpartition("/")[2]
    if not keys.SHA256.fullmatch(sha256) or key != keys.blob(sha256):
        return None
    with contextlib.suppress(FileNotFoundError):
        return msgspec.json.decode(bucket.read(keys.withdrawal(sha256)), type=Withdrawal)
    return None


def _absent(key: str, withdrawal: Withdrawal | None) -> tuple[Answer, AsyncIterator[bytes]]:
    """Not there yet, perhaps: a follower may ask again, from another site too. Or withdrawn, and gone for good."""
    headers = COMMON | {"Cache-Control": "no-cache", "Content-Type": PROBLEM_MEDIA_TYPE}
    if withdrawal is None:
        problem = ProblemDetails(title="Not Found", status=404, detail=f"/{key[:200]}: there is no such object")
    else:
        problem = ProblemDetails(title="Gone", status=410, detail=f"/{key}: withdrawn: {withdrawal.reason}")
        headers["Link"] = f'<../../{keys.withdrawal(withdrawal.sha256)}>; rel="describedby"; type="application/json"'
    body = msgspec.json.encode(problem)
    return Answer(problem.status, headers, 0, len(body)), _pieces_of(body)


def _app(answer: Answer, body: AsyncIterator[bytes]) -> ASGIApp:
    """Sends `answer`, and stops reading when the client has gone."""
    headers = dict(answer.headers)
    if answer.status not in (204, 304):
        headers["Content-Length"] = str(answer.length)
    return ASGIStreamingResponse(iterator=body, headers=headers, status_code=answer.status, media_type=MediaType.TEXT)


async def _pieces_of(body: bytes) -> AsyncIterator[bytes]:
    if body:
        yield body


async def _read_pieces(bucket: Bucket, key: str, start: int, length: int) -> AsyncIterator[bytes]:
    end = start + length
    while start < end:
        piece = await sync_to_thread(bucket.read, key, start, min(PIECE_BYTES, end - start))
        if not piece:
            raise EOFError(f"{key}: ended {end - start} bytes early")
        yield piece
        start += len(piece)
