"""One server process: what its roles share, and what they add to it.

A role is a function of a room that takes a `Process` and adds what it serves, its loops and what is to be ended.
`runfeed up` is a process with all roles.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import cached_property
from typing import Any

from dramatiq import Broker
from litestar.openapi import OpenAPIConfig

from infra.broker import SharedBroker, open_broker
from infra.bucket import Bucket, Buckets
from infra.counted import CountedBucket, counted
from infra.health import Check, health_routes
from infra.hints import Hints
from infra.lease import Lease, Undivided
from infra.loops import Loop
from infra.metrics import Metrics
from infra.scrape import counted_routes, metrics_routes
from infra.server import serve
from infra.settings import Settings
from infra.shared_hints import SharedHints
from infra.storage import open_buckets, open_public
from infra.web import MessagePage
from schemas import keys
from schemas.errors import Refused

ALONE_LOOK_SECONDS, TOLD_LOOK_SECONDS, UNTOLD_LOOK_SECONDS = 1.0, 2.0, 0.5
"""Between two looks at what may have changed: alone, or told by others through Redis, only for the sake of a lost hint;
else nothing but looking shows what others do. Looks cost requests, see ARCHITECTURE.md."""


class Process:
    """Buckets and queue are opened when a role wants them, and shared by those that do.

    `alone`: no other process has a part in this installation. `writes`: some role writes to the buckets.
    """

    def __init__(self, settings: Settings, ending: ExitStack, *, alone: bool, writes: bool) -> None:
        self.settings = settings
        self.alone = alone
        self.ending = ending
        """What is to be ended, the last first."""
        self.hints = self._open_hints()
        self.metrics = Metrics()
        self.routes: list[Any] = []
        self.loops: list[Loop] = []
        self.checks: dict[str, Check] = {}
        """What `/readyz` asks."""
        self.openapi: OpenAPIConfig | None = None
        self.message_page: MessagePage | None = None
        self._writes = writes

    def _open_hints(self) -> Hints:
        if not self.settings.redis:
            self._look_seconds = ALONE_LOOK_SECONDS if self.alone else UNTOLD_LOOK_SECONDS
            return Hints()
        self._look_seconds = TOLD_LOOK_SECONDS
        hints = SharedHints(self.settings)
        self.ending.callback(hints.close)
        return hints

    @cached_property
    def buckets(self) -> Buckets:
        return counted(open_buckets(self.settings, os.environ), self.metrics)

    @cached_property
    def public(self) -> Bucket:
        if self._writes:
            return self.buckets.public
        return CountedBucket(open_public(self.settings, os.environ), "public", self.metrics)

    @cached_property
    def queue(self) -> Broker:
        broker = open_broker(self.settings)
        if isinstance(broker, SharedBroker):
            self.checks["queue"] = broker.check
        return broker

    def add_loop(
        self,
        name: str,
        step: Callable[[], int],
        *,
        wakes_on: str,
        signals: str = "",
        idle_seconds: float | None = None,
        pause_seconds: float = 0.0,
    ) -> None:
        """Have `step` called again and again, see `infra.loops`."""
        idle_seconds = idle_seconds or self._look_seconds
        loop = Loop(
            name,
            self.metrics.step(name, step),
            self.hints,
            wakes_on=wakes_on,
            signals=signals,
            idle_seconds=idle_seconds,
            pause_seconds=pause_seconds,
        )
        self.loops.append(loop)
        self.checks[name] = lambda: loop.last_error

    def lease(self, name: str, acquired: Callable[[], None]) -> Lease | Undivided:
        """What one process at a time does, where there may be several; `acquired` is called when it is our turn."""
        if self.alone:
            return Undivided()
        lease = Lease(self.buckets.private, keys.lease(name), self.settings.lease_seconds, acquired=acquired)
        lease.start()
        self.ending.callback(lease.stop)
        self.checks[f"lease to {name}"] = lambda: lease.last_error
        return lease

    def serve(self, announce: Callable[[str], None]) -> None:
        """Run all that was added until interrupted; `announce` gets the base URL."""
        self.checks["storage"] = self._storage
        for loop in self.loops:
            loop.start()
            self.ending.callback(loop.stop)
        routes = [
            *counted_routes(self.routes, self.metrics),
            *health_routes(self.checks),
            *metrics_routes(self.metrics),
        ]
        serve(routes, self.settings, self.openapi, announce, self.message_page)

    def _storage(self) -> str:
        with suppress(FileNotFoundError):
            self.public.head(keys.CURRENT_LAKE)
        return ""


def check_shared(settings: Settings, *, needs_queue: bool) -> None:
    """Refused if what a role does in a process of its own would reach no other one."""
    if needs_queue and not settings.redis:
        expected = "redis://host:port of the queue that all share (--redis or RUNFEED_REDIS)"
        raise Refused("redis", expected, "none", status=422)
    if not settings.bucket and not settings.redis:
        expected = "s3://name[/prefix] (--bucket or RUNFEED_BUCKET), or --redis for roles that share a data folder"
        raise Refused("bucket", expected, "neither", status=422)
