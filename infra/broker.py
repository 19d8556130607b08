"""The queue between dispatcher and workers: dramatiq, in this process or in a Redis that many share.

No module-level broker: make one, pass it on. The queue only hurries: a message may be lost or come twice, and the
dispatcher finds the rest in the logs. So Redis may keep nothing on disk, and may be emptied at any time.
"""

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

import dramatiq
import redis
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.errors import Retry
from dramatiq.middleware import Middleware, Retries
from redis.backoff import NoBackoff
from redis.retry import Retry as RedisRetry

from infra.settings import Settings
from schemas.errors import Refused, Unavailable

RETRIES = 12
"""Within the time in which the dispatcher sends a batch again; more would let messages pile up while storage fails."""

POLL_MILLISECONDS = 50
"""Between two looks of an idle worker at Redis; a batch waits half of it on average."""

_TIMEOUT_SECONDS = 5
_DELIVERED_SECONDS = 3600
_DEAD_MESSAGE_SECONDS = 60


def open_broker(settings: Settings) -> dramatiq.Broker:
    """The queue that the settings name. Raises Unavailable if its Redis cannot be reached."""
    return shared_broker(settings) if settings.redis else embedded_broker()


def embedded_broker() -> StubBroker:
    """A broker in memory."""
    broker = StubBroker(middleware=[_retries()])
    broker.dead_letters_by_queue = defaultdict(_Forgotten)
    broker.emit_after("process_boot")
    return broker


def shared_broker(settings: Settings) -> "SharedBroker":
    """The broker in Redis. Each installation has its own names there, by its private bucket."""
    client = open_redis(settings.redis)
    namespace = namespace_of(settings)
    broker = SharedBroker(  # type: ignore[no-untyped-call]
        client=client,
        namespace=namespace,
        middleware=[_retries(), Redelivered(client, namespace)],
        heartbeat_timeout=settings.heartbeat_seconds * 1000,
        maintenance_chance=1_000_000,  # of a million: whatever anybody asks, look for the messages of the dead first
        dead_message_ttl=_DEAD_MESSAGE_SECONDS * 1000,
    )
    broker.emit_after("process_boot")
    return broker


def namespace_of(settings: Settings) -> str:
    """What all names of this installation in Redis begin with."""
    where = settings.private_bucket or str(settings.data.absolute())
    return f"runfeed-{hashlib.sha256(where.encode()).hexdigest()[:8]}"


def _retries() -> Retries:
    """A message that fails because storage fails is tried again for minutes, 1 s to 60 s later."""

    def again(retries: int, error: BaseException) -> bool:
        return isinstance(error, (Unavailable, Retry)) and retries < RETRIES

    return Retries(min_backoff=1_000, max_backoff=60_000, retry_when=again)


class SharedBroker(RedisBroker):
    """Dramatiq's broker, whose failures to send are Unavailable, and which tells what it holds."""

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        with _redis_errors():
            sent: dramatiq.Message[Any] = super().enqueue(message, delay=delay)
            return sent

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """Called at the start, and again after a lost connection: under a new name, so that what was handed to the old
        one and perhaps never arrived goes back to the queue after a heartbeat."""
        if queue_name not in self.delay_queues:
            self.broker_id = str(uuid4())
        consumer: Consumer = super().consume(queue_name, prefetch, timeout)
        return consumer

    def check(self) -> str:
        """ "" if Redis answers, else Unavailable."""
        with _redis_errors():
            self.client.ping()
        return ""

    def messages(self, queue_name: str) -> list[dramatiq.Message[Any]]:
        """All messages of the queue: those that wait, those put off, those under way."""
        with _redis_errors():
            queues = (queue_name, f"{queue_name}.DQ")
            bodies = [body for name in queues for body in self.client.hvals(f"{self.namespace}:{name}.msgs")]
        return [dramatiq.Message.decode(cast(bytes, body)) for body in bodies]


class Redelivered(Middleware):
    """Tells an actor by its argument `redelivered` that a worker has had this message before, and went silent.

    A first delivery leaves a note in Redis that goes with its end, so the ordinary case costs storage nothing. If Redis
    does not answer, or has lost the note with all else, the message counts as delivered before.
    """

    def __init__(self, client: "redis.Redis", namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    def before_process_message(self, broker: dramatiq.Broker, message: MessageProxy) -> None:
        try:
            first = self._client.set(self._note(message), b"", nx=True, ex=_DELIVERED_SECONDS)
        except redis.RedisError:
            first = False
        if not first:
            message.kwargs["redelivered"] = True

    def after_process_message(
        self, broker: dramatiq.Broker, message: MessageProxy, *, result: Any = None, exception: Any = None
    ) -> None:
        with contextlib.suppress(redis.RedisError):
            self._client.delete(self._note(message))

    def _note(self, message: MessageProxy) -> str:
        return f"{self._namespace}:delivered:{message.options['redis_message_id']}"


class _Forgotten(list[MessageProxy]):
    """Keeps no failed message: each would hold its traceback, and with it a batch's bytes, for ever."""

    def append(self, _: MessageProxy) -> None:
        pass


def start_worker(broker: dramatiq.Broker, threads: int) -> dramatiq.Worker:
    """Workers in threads of this process; `stop()` lets the messages under way finish."""
    worker = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=POLL_MILLISECONDS)
    worker.queue_prefetch = threads  # what nobody works on waits in the queue, where another worker may take it
    worker.start()
    return worker


def open_redis(url: str) -> "redis.Redis":
    """A client of the Redis at `url` that has answered. Errors name the address without its password."""
    client = redis_client(url)
    try:
        client.ping()
    except redis.RedisError as error:
        parts = urlsplit(url)
        address = f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}{parts.path}"
        raise Unavailable(f"{address}: Redis cannot be reached: {error}") from error
    return client


def redis_client(url: str) -> "redis.Redis":
    """A client that does not connect before its first command."""
    try:
        client: redis.Redis = redis.Redis.from_url(
            url,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            # Not behind our back: an answer that got lost may have held messages, see `SharedBroker.consume`.
            retry=RedisRetry(NoBackoff(), 0),
        )
    except ValueError as error:
        raise Refused(
            "redis", "redis://[:password@]host:port[/number] or rediss://…", str(error), status=422
        ) from error
    return client


@contextlib.contextmanager
def _redis_errors() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise Unavailable(f"the queue failed: {error}") from error
