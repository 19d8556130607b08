"""The public bucket's objects over HTTP, under their own keys, for whoever has no object storage to point at.

`object_routes` gives handlers for a Litestar application: `/blobs/…`, `/submissions/<aa>/<id>.json`, `/feeds/…`,
`/lake/…` and `/benchmarks/<project>/<name>/<version>.json`, for GET and HEAD, with strong ETags, conditional requests
and single ranges (RFC 9110). Immutable objects are streamed in pieces; those that change (a log's head, a pointer) are
small and read whole, so that bytes and ETag agree.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

import msgspec
from litestar import MediaType, Request, route
from litestar.concurrency import sync_to_thread
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import ASGIApp

from infra.bucket import Bucket, Head, checked_key
from infra.web import PROBLEM_MEDIA_TYPE
from schemas.records import ProblemDetails

PIECE_BYTES = 1 << 20

_PATHS = (
    "/blobs/{rest:path}",
    "/submissions/{aa:str}/{name:str}",
    "/feeds/{rest:path}",
    "/lake/{rest:path}",
    "/benchmarks/{project:str}/{name:str}/{version:str}",
)
_MUTABLE = re.compile(r".*/current\.[a-z]+")  # what changes is called current, everywhere in the bucket
_RANGE = re.compile(r"bytes\s*=\s*(?:(\d{1,18})\s*-\s*(\d{1,18})?|-\s*(\d{1,18}))\s*")
_COMMON = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Accept-Ranges, Content-Length, Content-Range, ETag",
    "X-Content-Type-Options": "nosniff",
}
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD",
    "Access-Control-Allow-Headers": "If-Modified-Since, If-None-Match, If-Range, Range",
    "Access-Control-Max-Age": "86400",
}
_BLOB = {"Content-Disposition": "attachment", "Content-Security-Policy": "sandbox"}


@dataclass(frozen=True)
class Answer:
    """What to send: status, headers, and which bytes (`length` of them from `start`)."""

    status: int
    headers: dict[str, str]
    start: int = 0
    length: int = 0

    @property
    def sends(self) -> bool:
        return self.status in (200, 206)


def object_routes(bucket: Bucket) -> list[Any]:
    """Handlers that serve `bucket`, which must be the public one."""

    @route(list(_PATHS), http_method=["GET", "HEAD", "OPTIONS"], include_in_schema=False)
    async def serve_object(request: Request[Any, Any, Any]) -> ASGIApp:
        asked = {name.lower(): value for name, value in request.headers.items()}
        return await _answer(bucket, request.method, request.scope["path"].strip("/"), asked)

    return [serve_object]


async def _answer(bucket: Bucket, method: str, key: str, asked: dict[str, str]) -> ASGIApp:
    if method == "OPTIONS":
        return _app(Answer(204, _COMMON | _PREFLIGHT), _pieces_of(b""))
    whole = None
    try:
        head = await sync_to_thread(bucket.head, checked_key(key))
        if _MUTABLE.fullmatch(key):
            whole, etag = await sync_to_thread(bucket.read_versioned, key)
            head = Head(len(whole), etag, head.modified, head.content_type)
    except (ValueError, FileNotFoundError):
        return _absent(key, method)
    answer = answer_to(key, asked, head, datetime.now(UTC))
    if method == "HEAD" or not answer.sends:
        return _app(answer, _pieces_of(b""))
    if whole is not None:
        return _app(answer, _pieces_of(whole[answer.start : answer.start + answer.length]))
    return _app(answer, _read_pieces(bucket, key, answer.start, answer.length))


def _absent(key: str, method: str) -> ASGIApp:
    """Not there yet, perhaps: a follower may ask again, from another site too."""
    body = msgspec.json.encode(
        ProblemDetails(title="Not Found", status=404, detail=f"/{key[:200]}: there is no such object")
    )
    headers = _COMMON | {"Cache-Control": "no-cache", "Content-Type": PROBLEM_MEDIA_TYPE}
    return _app(Answer(404, headers, 0, len(body)), _pieces_of(b"" if method == "HEAD" else body))


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


# --- decisions ---


def answer_to(key: str, asked: dict[str, str], head: Head, now: datetime) -> Answer:
    """The answer to a GET of an object that exists; `asked` are the request's headers, by lower-case name."""
    mutable = _MUTABLE.fullmatch(key) is not None
    etag = '"' + head.etag.strip('"') + '"'
    # A date tells versions of one second apart only once that second is over (RFC 9110, 8.8.2.2).
    modified = None if mutable and now - head.modified < timedelta(seconds=2) else head.modified.replace(microsecond=0)
    headers = _COMMON | {
        "Cache-Control": "no-cache" if mutable else "public, max-age=31536000, immutable",
        "ETag": etag,
        "Accept-Ranges": "bytes",
    }
    if modified:
        headers["Last-Modified"] = format_datetime(modified.astimezone(UTC), usegmt=True)
    if _not_modified(asked, etag, modified):
        return Answer(304, headers)
    if key.startswith("blobs/"):
        headers |= _BLOB | {"Content-Type": "application/octet-stream"}
    else:
        headers["Content-Type"] = head.content_type
    if "range" not in asked or not _range_holds(asked.get("if-range"), etag, modified):
        return Answer(200, headers, 0, head.size_bytes)
    match = _RANGE.fullmatch(asked["range"])
    if not match or (match[2] and int(match[2]) < int(match[1])):
        return Answer(200, headers, 0, head.size_bytes)  # several ranges, or none that we know: the whole is allowed
    start = int(match[1]) if match[1] else max(0, head.size_bytes - int(match[3]))
    last = min(int(match[2]), head.size_bytes - 1) if match[2] else head.size_bytes - 1
    if start > last:
        return Answer(416, headers | {"Content-Range": f"bytes */{head.size_bytes}"})
    headers["Content-Range"] = f"bytes {start}-{last}/{head.size_bytes}"
    return Answer(206, headers, start, last - start + 1)


def _not_modified(asked: dict[str, str], etag: str, modified: datetime | None) -> bool:
    if "if-none-match" in asked:
        known = [tag.strip().removeprefix("W/") for tag in asked["if-none-match"].split(",")]
        return etag in known or "*" in known
    since = _date(asked.get("if-modified-since"))
    return since is not None and modified is not None and modified <= since


def _range_holds(if_range: str | None, etag: str, modified: datetime | None) -> bool:
    return if_range is None or if_range == etag or (modified is not None and _date(if_range) == modified)


def _date(text: str | None) -> datetime | None:
    try:
        date = parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
    return date if date is None or date.tzinfo else date.replace(tzinfo=UTC)
