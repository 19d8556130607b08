"""The role `ingest`: what takes results in. Any number of processes may have it."""

import os
from collections.abc import Callable

from feed.log import LogReader
from infra.clock import now
from infra.process import Process
from infra.server import alone_with
from ingest.http import Intake, intake_routes
from ingest.source.watch import SourceWatch
from ingest.uploads import Uploads, upload_routes
from ingest.watcher import Watcher

SWEEP_EVERY = 24 * 3600.0


def ingest(process: Process, _: Callable[[str], LogReader]) -> None:
    """Add the intake, the grants, the watcher of the inbox and what looks at sources. Their spool is below the data
    folder, alone."""
    settings, buckets, hints = process.settings, process.buckets, process.hints
    process.ending.enter_context(alone_with(settings.data, "ingest"))
    uploads = Uploads(buckets, settings, os.environ, hints, now)
    process.routes += [*intake_routes(Intake(buckets, settings, hints)), *upload_routes(uploads)]
    process.add_loop("uploads", uploads.sweep, wakes_on="", idle_seconds=SWEEP_EVERY)
    sources = SourceWatch(buckets, settings, hints, now)
    process.add_loop("sources", sources.step, wakes_on="", idle_seconds=sources.idle_seconds)
    process.ending.callback(sources.stop)
    watcher = Watcher(buckets, settings, os.environ, hints, now)
    process.checks[watcher.name] = lambda: watcher.last_error
    watcher.start()
    process.ending.callback(watcher.stop)
