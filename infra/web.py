"""What our HTTP servers answer when something is wrong: RFC 9457 problem details, in one place.

    app = Litestar(..., exception_handlers=exception_handlers)

Nothing internal leaves here: an error that nobody raised on purpose is logged and answered with a bare 500.
"""

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, NotFoundException, ValidationException

from schemas.errors import Refused, StorageFull, Unavailable
from schemas.records import ProblemDetails

PROBLEM_MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5

_log = structlog.get_logger()
_EXPECTED_GOT = re.compile(r"Expected (?P<expected>.*?)(?:, got (?P<found>.*))?", re.DOTALL)

_Request = Request[Any, Any, Any]

MessagePage = Callable[[str, str, int], Response[bytes]]
"""Makes a page for people from a title, a sentence and a status."""


def problem_response(problem: ProblemDetails, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    """The problem as a response that no cache keeps and no browser takes for something else."""
    return Response(
        msgspec.json.encode(problem),
        status_code=problem.status,
        media_type=PROBLEM_MEDIA_TYPE,
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})},
    )


def _refused(request: _Request, error: Refused) -> Response[bytes]:
    headers = {"WWW-Authenticate": "Bearer"} if error.status == HTTPStatus.UNAUTHORIZED else {}
    if error.status == HTTPStatus.TOO_MANY_REQUESTS:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if error.status == HTTPStatus.REQUEST_TIMEOUT:
        headers["Connection"] = "close"  # the rest of the request is not wanted any more
    return problem_response(
        ProblemDetails(
            title=_phrase(error.status),
            status=error.status,
            detail=str(error),
            where=error.where,
            expected=error.expected,
            found=error.found,
        ),
        headers,
    )


def _absent(request: _Request, error: FileNotFoundError) -> Response[bytes]:
    # The exception may name a file of ours, so its text stays here.
    return problem_response(_plain(HTTPStatus.NOT_FOUND, f"{request.url.path}: there is no such object"))


def _storage_full(request: _Request, error: StorageFull) -> Response[bytes]:
    _log.error("storage full", method=request.method, path=request.url.path, error=str(error))
    return problem_response(_plain(HTTPStatus.INSUFFICIENT_STORAGE, "there is no room left; nothing was kept"))


def _unavailable(request: _Request, error: Unavailable) -> Response[bytes]:
    _log.warning("unavailable", method=request.method, path=request.url.path, error=str(error))
    return problem_response(
        _plain(HTTPStatus.SERVICE_UNAVAILABLE, "something that is needed failed; try again"),
        {"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


def _malformed(request: _Request, error: ValidationException) -> Response[bytes]:
    """Litestar's list of what is wrong with the parameters; the first is taken apart, all are told."""
    listed = [one for one in error.extra or [] if isinstance(one, dict)]
    told = [f"{one.get('key', 'request')}: {one.get('message', 'not valid')}".replace("`", "") for one in listed]
    where, expected, found = "", "", ""
    if listed:
        where = str(listed[0].get("key", ""))
        match = _EXPECTED_GOT.fullmatch(str(listed[0].get("message", "")).replace("`", ""))
        if match:
            expected, found = match["expected"], match["found"] or ""
    detail = "; ".join(told) or _own_words(error)
    status = error.status_code
    return problem_response(
        ProblemDetails(title=_phrase(status), status=status, detail=detail, where=where, expected=expected, found=found)
    )


def _http(request: _Request, error: HTTPException) -> Response[bytes]:
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _unexpected(request, error)
    return problem_response(_plain(error.status_code, _own_words(error)), error.headers)


def _unexpected(request: _Request, error: Exception) -> Response[bytes]:
    _log.error("request failed", method=request.method, path=request.url.path, exc_info=error)
    return problem_response(_plain(HTTPStatus.INTERNAL_SERVER_ERROR, "an error of ours, which was logged"))


exception_handlers: dict[int | type[Exception], Any] = {
    Refused: _refused,
    FileNotFoundError: _absent,
    StorageFull: _storage_full,
    Unavailable: _unavailable,
    ValidationException: _malformed,
    HTTPException: _http,
    Exception: _unexpected,
}
"""For Litestar: the nearest class of the exception's own decides."""


def exception_handlers_with(page: MessagePage | None) -> dict[int | type[Exception], Any]:
    """The same, but who asks for HTML at an address where there is nothing gets `page`."""
    if page is None:
        return exception_handlers

    def nowhere(request: _Request, error: HTTPException) -> Response[bytes]:
        if "text/html" not in request.headers.get("accept", "") or request.url.path.startswith("/api/"):
            return _http(request, error)
        return page("Not found", "There is nothing at this address.", HTTPStatus.NOT_FOUND)

    return {**exception_handlers, NotFoundException: nowhere}


def _plain(status: int, detail: str) -> ProblemDetails:
    return ProblemDetails(title=_phrase(status), status=int(status), detail=detail)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _own_words(error: HTTPException) -> str:
    return error.detail or _phrase(error.status_code)
