"""Metrics over HTTP: the page that Prometheus reads, and the count of all answers."""

from collections.abc import Sequence
from typing import Any

from litestar import Request, Response, Router, get
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client.exposition import choose_encoder

from infra.metrics import Metrics


def metrics_routes(metrics: Metrics) -> list[Any]:
    """`GET /metrics` in the text format, or as OpenMetrics where that is asked for."""

    @get("/metrics", sync_to_thread=True, include_in_schema=False)
    def scrape(request: Request[Any, Any, Any]) -> Response[bytes]:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(metrics.registry), headers={"Content-Type": media_type, "Cache-Control": "no-store"})

    return [scrape]


def counted_routes(routes: Sequence[Any], metrics: Metrics) -> list[Any]:
    """`routes`, whose answers are counted by method, route (its template, never the address) and status."""
    return [Router("/", route_handlers=list(routes), middleware=[_CountingAnswers(metrics)])]


class _CountingAnswers(ASGIMiddleware):
    scopes = (ScopeType.HTTP,)

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def __deepcopy__(self, _: object) -> "_CountingAnswers":
        return self  # Litestar copies a route with its middleware; there is one count all the same

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.response(str(scope.get("method")), scope["path_template"], message["status"])
            await send(message)

        await next_app(scope, receive, send_counted)
