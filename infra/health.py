"""`/healthz` and `/readyz`: whether the process lives, and whether it can do its work now.

An orchestrator restarts what is not alive and sends no requests to what is not ready; so a store that is away makes
every process unready, and none dead.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Response, get

Check = Callable[[], str]
"""Says what is wrong, "" while nothing is. May ask storage or the queue; may raise, which is wrong too."""


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """`failing` says of each part that fails what is wrong; the process is ready while it is empty."""

    ready: bool
    failing: dict[str, str]


def health_routes(checks: Mapping[str, Check]) -> list[Any]:
    """The two routes; `checks` may still grow while they serve."""

    @get("/healthz", include_in_schema=False, sync_to_thread=False)
    def healthz() -> Response[bytes]:
        return _plain(HTTPStatus.OK, {"alive": True})

    @get("/readyz", include_in_schema=False, sync_to_thread=True)
    def readyz() -> Response[bytes]:
        failing = {name: said for name, check in list(checks.items()) if (said := _said(check))}
        status = HTTPStatus.SERVICE_UNAVAILABLE if failing else HTTPStatus.OK
        return _plain(status, Readiness(ready=not failing, failing=failing))

    return [healthz, readyz]


def _said(check: Check) -> str:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - whatever it is, the part fails, and the others are still asked
        return f"{type(error).__name__}: {error}"


def _plain(status: HTTPStatus, body: Any) -> Response[bytes]:
    return Response(
        msgspec.json.encode(body),
        status_code=status,
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
