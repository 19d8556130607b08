"""The queue between dispatcher and workers: dramatiq, in this process. No module-level broker: make one, pass it on.

The queue only hurries: a message may be lost or come twice, and the dispatcher finds the rest in the logs.
"""

import dramatiq
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Retries

from schemas.errors import Unavailable


def embedded_broker() -> StubBroker:
    """A broker in memory. A message that fails because storage failed is tried again, 1 s to 60 s later, for ever."""
    retries = Retries(min_backoff=1_000, max_backoff=60_000, retry_when=lambda _, error: isinstance(error, Unavailable))
    broker = StubBroker(middleware=[retries])
    broker.emit_after("process_boot")
    return broker


def start_worker(broker: dramatiq.Broker, threads: int) -> dramatiq.Worker:
    """Workers in threads of this process; `stop()` lets the messages under way finish."""
    worker = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=100)
    worker.start()
    return worker
