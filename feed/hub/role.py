"""The role `hub`: takes subscriptions to the logs, delivers new entries, tells other hubs. WebSub, so that push works
out of the box. Any number of processes take requests; one of them delivers.

Nothing here is in the way of announcing: it follows the logs as any stranger could, and says nothing to the announcer.
"""

from collections.abc import Callable
from functools import partial

import msgspec

from feed.hub.delivery import Deliveries
from feed.hub.door import hub_routes
from feed.hub.intent import Intents
from feed.hub.ping import Pings
from feed.hub.subscriptions import Subscriptions
from feed.log import LogReader
from feed.serve.topics import public_base
from infra.bucket import Bucket
from infra.clock import now
from infra.fetch import Fetcher, user_agent
from infra.process import Process
from schemas import keys
from schemas.records import LakeVersion

CALLBACK_SECONDS = 5.0
"""For each wait for a callback; twice as long for all of an exchange, so that a process ends soon enough."""

PAUSE_SECONDS = 1.0
"""Between two rounds of deliveries under load: a storm of commits reaches a subscriber as one delivery a second."""


def hub(process: Process, reader_of: Callable[[str], LogReader]) -> None:
    """Add the hub's door, its deliveries and its pings."""
    settings, buckets = process.settings, process.buckets
    public_only = _fetcher(process, private=settings.private_addresses)
    anywhere = _fetcher(process, private=True)

    def fetcher_for(local: bool) -> Fetcher:
        return anywhere if local and settings.on_loopback else public_only

    subscriptions = Subscriptions(buckets.private)
    logs = partial(growing_logs, buckets.public)
    intents = Intents(subscriptions, reader_of, lambda log: log in logs(), fetcher_for, clock=now)
    process.ending.callback(intents.stop)
    deliveries = Deliveries(subscriptions, reader_of, fetcher_for, clock=now, hubs=settings.hubs)
    process.ending.callback(deliveries.stop)
    process.ending.callback(intents.cancel)  # read from below: what is under way here and there ends in the same time
    lease = process.lease("hub", partial(process.hints.signal, "log"))
    deliver = lease.only(deliveries.step, deliveries.stand_by)
    process.add_loop("deliver", deliver, wakes_on="log", pause_seconds=PAUSE_SECONDS)
    base = public_base(settings)
    if base and settings.hubs:
        # The operator has named these hubs, so they may be anywhere.
        pings = Pings(settings.hubs.split(), base, logs, reader_of, anywhere, clock=now)
        process.add_loop("ping", lease.only(pings.step), wakes_on="log", pause_seconds=PAUSE_SECONDS)
    process.routes += hub_routes(intents, settings)


def growing_logs(public: Bucket) -> list[str]:
    """The logs that are topics: submissions, and the outcomes of the lake version that serves."""
    try:
        version = msgspec.json.decode(public.read(keys.CURRENT_LAKE), type=LakeVersion).version
    except FileNotFoundError:
        version = 1
    return [keys.SUBMISSIONS_LOG, keys.outcomes_log(version)]


def _fetcher(process: Process, *, private: bool) -> Fetcher:
    made = Fetcher(
        private_addresses=private,
        user_agent=user_agent(process.settings.public_url),
        timeout_seconds=CALLBACK_SECONDS,
        total_seconds=2 * CALLBACK_SECONDS,
    )
    process.ending.callback(made.close)
    return made
