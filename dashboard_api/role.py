"""The role `dashboard`: API, pages and the public bucket's objects. Any number of processes may have it."""

from collections.abc import Callable
from datetime import timedelta

from dashboard_api.api import api_routes, openapi_config
from dashboard_api.behind import Replica
from dashboard_api.dashboard import Dashboard
from dashboard_api.message_page import message_page
from dashboard_api.pages import page_routes
from feed.log import LogReader
from feed.serve.http import object_routes
from infra.clock import now
from infra.process import Process
from infra.server import alone_with

REPLICA_EVERY = 5.0
"""Seconds between two looks at how far the database is behind."""

PUBLISH_LOOK_SECONDS = 60.0
"""Between two looks at whether the newest published snapshot is old enough for another."""


def dashboard(process: Process, reader_of: Callable[[str], LogReader]) -> None:
    """Add the dashboard and its loader. Its database is below the data folder, alone."""
    settings = process.settings
    process.ending.enter_context(alone_with(settings.data, "dashboard"))
    served = Dashboard(process.public, reader_of, settings.data / "dashboard", memory_limit=settings.duckdb_memory)
    process.ending.callback(served.close)
    process.add_loop("load", served.step, wakes_on="log")
    if settings.snapshot_seconds:
        every = timedelta(seconds=settings.snapshot_seconds)
        look_seconds = min(PUBLISH_LOOK_SECONDS, settings.snapshot_seconds)
        process.add_loop(
            "publish snapshot", lambda: served.publish(every, now()), wakes_on="", idle_seconds=look_seconds
        )
    replica = Replica(served, reader_of, process.metrics.waiting, process.metrics.replica)
    process.add_loop("replica", replica.look, wakes_on="", idle_seconds=REPLICA_EVERY)
    process.checks["level"] = lambda: "" if served.level else "not yet level with the logs"
    process.routes += [
        *object_routes(process.public, settings),
        *api_routes(
            served,
            lambda: {loop.name: "failing" if loop.last_error else "ok" for loop in process.loops},
            settings.public_url,
        ),
        *page_routes(served),
    ]
    process.openapi, process.message_page = openapi_config(), message_page()
