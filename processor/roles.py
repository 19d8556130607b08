"""The roles `announce` and `work`: the feed and the queue, and what is done with a batch."""

import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from feed.announceable import describe_submission
from feed.announcer import Announcer
from feed.atom import NO_LINKS, Links
from feed.lag import Backlogs
from feed.log import LogReader
from feed.signing import Signer
from infra.broker import start_worker
from infra.clock import now
from infra.hints import Hints
from infra.process import Process
from infra.settings import Settings
from processor.actors import QUEUE, batch_sender, batches_on, declare_actors
from processor.batch import Processor
from processor.children import Children
from processor.compaction import compact
from processor.current import CurrentLake
from processor.dispatcher import read_checkpoint
from processor.lake import current_lake
from processor.purge import Purge
from schemas import keys

REQUESTS_AT_ONCE = 8
"""Of an announcer to remote storage, to hide the network's latency; a folder has none."""

PAUSE_SECONDS = 0.4
"""Between two commits to a log under load: long enough to fill a batch, short enough not to be seen."""

SWEEP_EVERY = 24 * 3600.0

NOTES_EVERY = 60.0
"""Seconds between two looks for notes that no entry of the log tells of."""

LAG_EVERY = 10.0
"""Seconds between two looks at what waits, which whoever stands by takes too."""

GRACE_SECONDS = 6.0
"""For the batch under way when a worker is told to end; then it goes back to the queue."""


def announce(process: Process, reader_of: Callable[[str], LogReader]) -> None:
    """Add the announcing of both logs, the dispatching and the daily sweep: what one process is enough for. Of many
    that have this role one does it, the others stand by."""
    settings, buckets = process.settings, process.buckets
    threads = REQUESTS_AT_ONCE if settings.bucket else 1
    submissions = reader_of(keys.SUBMISSIONS_LOG)
    announcer_of = partial(
        Announcer, buckets, clock=now, signer=Signer.of(buckets.private), links=links_of(settings), threads=threads
    )
    announcer = announcer_of(submissions, describe_submission)
    lake = CurrentLake(
        buckets,
        reader_of,
        batch_sender(process.queue),
        clock=now,
        announcer_of=announcer_of,
        redeliver_after=timedelta(seconds=settings.redeliver_seconds),
        held=partial(batches_on, process.queue),
    )
    lease = process.lease("announce", partial(_wake_all, process.hints))
    announcing = partial(process.add_loop, signals="log", pause_seconds=PAUSE_SECONDS)
    announcing("announce submissions", lease.only(announcer.commit), wakes_on="submitted")
    announcing("announce outcomes", lease.only(lake.announce), wakes_on="processed")
    process.add_loop("dispatch", lease.only(lake.dispatch, lake.stand_by), wakes_on="log")
    sweep = lease.only(lambda: announcer.sweep(now()) + lake.sweep())
    process.add_loop("sweep", sweep, wakes_on="lease", idle_seconds=SWEEP_EVERY)

    def compact_lake() -> int:
        version, _ = current_lake(buckets.public)
        outcomes = reader_of(keys.outcomes_log(version))
        return compact(buckets.public, outcomes, version, memory_limit=settings.duckdb_memory)

    purge = Purge(buckets, reader_of, announcer_of, clock=now, memory_limit=settings.duckdb_memory)
    process.add_loop("withdraw", lease.only(purge.step), wakes_on="log", signals="log", idle_seconds=NOTES_EVERY)
    process.add_loop("compact", lease.only(compact_lake), wakes_on="lease", idle_seconds=SWEEP_EVERY)
    backlogs = Backlogs(
        buckets,
        reader_of,
        process.metrics.waiting,
        lake_version=lambda: current_lake(buckets.public)[0],
        checkpoint=partial(read_checkpoint, buckets.private),
        clock=now,
    )
    process.add_loop("lag", backlogs.look, wakes_on="", idle_seconds=LAG_EVERY)
    look_at_queue = partial(process.metrics.look_at_queue, process.queue, QUEUE)
    process.add_loop("queue", look_at_queue, wakes_on="", idle_seconds=LAG_EVERY)


def links_of(settings: Settings) -> Links:
    """What the logs' heads link, where it is known at which address people reach us."""
    base = settings.public_url.rstrip("/")
    return Links(base, (f"{base}/hub", *settings.hubs.split())) if base else NO_LINKS


def _wake_all(hints: Hints) -> None:
    """It is our turn: every loop is to look now."""
    for name in ("submitted", "processed", "log", "lease"):
        hints.signal(name)


def work(process: Process, reader_of: Callable[[str], LogReader]) -> None:
    """Add a worker and its children. Nothing is kept on this machine but temporary files."""
    settings = process.settings
    children = process.ending.enter_context(Children.of(settings, process.metrics.task))
    submissions = reader_of(keys.SUBMISSIONS_LOG)
    processor = Processor.of(settings, process.buckets, submissions, children, now, observe=process.metrics.outcome)
    declare_actors(process.queue, processor, process.hints)
    worker = start_worker(process.queue, settings.worker_threads)
    # Read from below: what children are doing is given up after a while, or at once where only we could go on with it.
    giving_up = threading.Timer(0 if process.alone else GRACE_SECONDS, children.stop)
    process.ending.callback(giving_up.cancel)
    process.ending.callback(worker.stop, timeout=int(2 * GRACE_SECONDS * 1000))
    process.ending.callback(giving_up.start)
