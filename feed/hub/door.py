"""`POST /hub`: the own WebSub hub's door. What is asked is checked and answered here, and seen to later.

Errors are plain text, as the Recommendation has it (5.1.2), not problem details.
"""

from http import HTTPStatus
from typing import Any

import anyio
from litestar import Request, Response, post

from feed.hub.intent import Intents
from feed.hub.limits import Allowances
from feed.hub.requests import MOST_BYTES, parse_request
from feed.serve.topics import HUB_PATH, public_base
from infra.local import caller_of, is_truly_local, own_origin
from infra.settings import Settings
from infra.web import RETRY_AFTER_SECONDS
from schemas.errors import Refused

BODY_SECONDS = 30.0

_Request = Request[Any, Any, Any]


def hub_routes(intents: Intents, settings: Settings) -> list[Any]:
    """The route handler."""
    allowances = Allowances()

    @post(HUB_PATH, include_in_schema=False)
    async def hub(request: _Request) -> Response[str]:
        try:
            allowances.take(caller_of(request))
            await _take(request, intents, settings)
        except Refused as error:
            headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if error.status == HTTPStatus.TOO_MANY_REQUESTS else {}
            return _answer(error.status, f"{error}\n", headers)
        return _answer(HTTPStatus.ACCEPTED, "", {})

    return [hub]


async def _take(request: _Request, intents: Intents, settings: Settings) -> None:
    caller = caller_of(request)
    body = await _body(request)
    asked = parse_request(
        request.headers.get("content-type", ""),
        body,
        {public_base(settings), own_origin(caller, settings)},
        local=is_truly_local(caller, settings),
        private=settings.private_addresses,
    )
    if asked is not None:
        intents.take(asked)


async def _body(request: _Request) -> bytes:
    body = b""
    with anyio.move_on_after(BODY_SECONDS) as bounded:
        async for piece in request.stream():
            body += piece
            if len(body) > MOST_BYTES:
                raise Refused("request", f"at most {MOST_BYTES:,} bytes", "more", status=413)
    if bounded.cancelled_caught:
        raise Refused("request", f"all of it within {BODY_SECONDS:.0f} s", "less", status=408)
    return body


def _answer(status: int, text: str, headers: dict[str, str]) -> Response[str]:
    return Response(
        text,
        status_code=status,
        media_type="text/plain",
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **headers},
    )
