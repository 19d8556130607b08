"""The queue between dispatcher and workers: dramatiq, in this process. No module-level broker: make one, pass it on.

The queue only hurries: a message may be lost or come twice, and the dispatcher finds the rest in the logs.
"""

from collections import defaultdict

import dramatiq
from dramatiq.broker import MessageProxy
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Retries

from schemas.errors import Unavailable

RETRIES = 12
"""Within the time in which the dispatcher sends a batch again; more would let messages pile up while storage fails."""


def embedded_broker() -> StubBroker:
    """A broker in memory. A message that fails because storage fails is tried again for minutes, 1 s to 60 s later."""

    def again(retries: int, error: BaseException) -> bool:
        return isinstance(error, Unavailable) and retries < RETRIES

    broker = StubBroker(middleware=[Retries(min_backoff=1_000, max_backoff=60_000, retry_when=again)])
    broker.dead_letters_by_queue = defaultdict(_Forgotten)
    broker.emit_after("process_boot")
    return broker


class _Forgotten(list[MessageProxy]):
    """Keeps no failed message: each would hold its traceback, and with it a batch's bytes, for ever."""

    def append(self, _: MessageProxy) -> None:
        pass


def start_worker(broker: dramatiq.Broker, threads: int) -> dramatiq.Worker:
    """Workers in threads of this process; `stop()` lets the messages under way finish."""
    worker = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=100)
    worker.start()
    return worker
