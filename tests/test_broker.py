"""The queue in Redis, on a real server: what is lost, what comes again, and what it says about it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import dramatiq
import pytest

import infra.broker as broker_module
from infra.broker import SharedBroker, open_broker, open_redis, shared_broker, start_worker
from infra.hints import Hints
from infra.settings import Settings
from infra.shared_hints import SharedHints
from processor.actors import ACTOR, QUEUE, batch_sender, batches_on, declare_actors
from processor.children import Stopping
from schemas.errors import Refused, Unavailable
from tests.servers import REDIS_PASSWORD, RedisServer, free_ports, valkey

PATIENCE_SECONDS = 15.0
Delivery = tuple[int, bool]


class Processed:
    """In the place of a Processor: keeps each delivery (first, redelivered), then does what the test says."""

    def __init__(self, then: Callable[[int], None] = lambda _: None) -> None:
        self.deliveries: list[Delivery] = []
        self.ended: list[int] = []
        self.then = then

    def process(self, lake_version: int, first: int, last: int, *, redelivered: bool) -> bool:
        self.deliveries.append((first, redelivered))
        self.then(first)
        self.ended.append(first)
        return True


@pytest.fixture
def settings(redis_server: RedisServer, tmp_path: Path) -> Settings:
    """An installation of its own on the shared server."""
    return Settings(data=tmp_path, redis=redis_server.url, heartbeat_seconds=1)


def sender(settings: Settings) -> Callable[[int], None]:
    send = batch_sender(shared_broker(settings))
    return lambda first: send(1, first, first, redelivered=False)


@contextmanager
def worker(settings: Settings, processed: Processed) -> Iterator[SharedBroker]:
    broker = shared_broker(settings)
    declare_actors(broker, processed, Hints())  # type: ignore[arg-type]
    running = start_worker(broker, 1)
    try:
        yield broker
    finally:
        running.stop(timeout=5_000)


def wait_until(condition: Callable[[], object]) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE_SECONDS, "it did not happen"
        time.sleep(0.01)
    return time.monotonic() - began


def test_a_batch_comes_once_as_a_first_delivery_and_leaves_nothing_in_redis(settings: Settings) -> None:
    processed = Processed()
    sender(settings)(7)
    with worker(settings, processed) as broker:
        wait_until(lambda: processed.ended == [7])
        wait_until(lambda: not batches_on(broker))
        left = {key.decode() for key in broker.client.scan_iter(f"{broker.namespace}:*")}
    assert processed.deliveries == [(7, False)]
    assert left == {f"{broker.namespace}:__heartbeats__"}


def test_the_queue_says_what_it_holds_waiting_under_way_or_put_off(settings: Settings) -> None:
    go_on = threading.Event()
    failed = []

    def then(first: int) -> None:
        if first == 1 and not failed:
            failed.append(first)
            raise Unavailable("storage")
        go_on.wait(PATIENCE_SECONDS)

    processed = Processed(then)
    send = sender(settings)
    for first in (1, 2, 3):
        send(first)
    with worker(settings, processed) as broker:
        wait_until(lambda: len(processed.deliveries) == 2)
        assert batches_on(broker) == {(1, 1), (1, 2), (1, 3)}, "put off for a second, under way, waiting"
        go_on.set()
        wait_until(lambda: not batches_on(broker))
    assert sorted(processed.ended) == [1, 2, 3]


def test_a_busy_worker_keeps_no_batch_from_others(settings: Settings) -> None:
    go_on = threading.Event()
    slow, quick = Processed(lambda _: go_on.wait(PATIENCE_SECONDS) and None), Processed()
    send = sender(settings)
    with ExitStack() as stack:
        stack.enter_context(worker(settings, slow))
        send(1)
        wait_until(lambda: slow.deliveries)
        for first in (2, 3, 4):
            send(first)
        time.sleep(0.3)  # time in which it could fetch more
        stack.enter_context(worker(settings, quick))
        wait_until(lambda: quick.ended == [2, 3, 4])
        go_on.set()


def test_a_batch_longer_than_the_heartbeat_stays_with_its_worker(settings: Settings) -> None:
    """Or every long batch would be done twice."""
    settings = replace(settings, heartbeat_seconds=2)
    slow, other = Processed(lambda _: time.sleep(3.5)), Processed()
    sender(settings)(1)
    with worker(settings, slow):
        wait_until(lambda: slow.deliveries)
        with worker(settings, other):
            wait_until(lambda: slow.ended)
    assert not other.deliveries
    assert slow.deliveries == [(1, False)]


def test_a_batch_of_a_worker_gone_silent_comes_to_another_after_the_heartbeat_and_is_marked(settings: Settings) -> None:
    sender(settings)(1)
    silent = shared_broker(settings)
    declare_actors(silent, Processed(), Hints())  # type: ignore[arg-type]
    message = next(silent.consume(QUEUE))
    assert message is not None
    silent.emit_before("process_message", message)  # it has begun, and is never heard of again
    processed = Processed()
    with worker(settings, processed):
        assert wait_until(lambda: processed.ended) < settings.heartbeat_seconds + 5
    assert processed.deliveries == [(1, True)]


def test_what_a_lost_answer_held_comes_again_though_the_worker_lives(settings: Settings) -> None:
    """The connection broke while Redis handed out a batch: it is in nobody's hands."""
    sender(settings)(1)
    broker = shared_broker(settings)
    declare_actors(broker, Processed(), Hints())  # type: ignore[arg-type]
    assert next(broker.consume(QUEUE)) is not None
    consumer = broker.consume(QUEUE)  # as a worker does after an error
    wait_until(lambda: next(consumer) is not None)


def test_a_batch_that_is_given_up_at_the_end_goes_to_another_worker_at_once(settings: Settings) -> None:
    def give_up(_: int) -> None:
        raise Stopping

    settings = replace(settings, heartbeat_seconds=600)
    stopping, other = Processed(give_up), Processed()
    sender(settings)(1)
    with worker(settings, stopping):
        wait_until(lambda: stopping.deliveries)
    with worker(settings, other):
        wait_until(lambda: other.ended)


def test_messages_that_failed_do_not_pile_up(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(_: int) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(broker_module, "_DEAD_MESSAGE_SECONDS", 1)
    processed = Processed(bug)
    sender(settings)(1)
    with worker(settings, processed) as broker:
        dead = f"{broker.namespace}:{QUEUE}.XQ"
        wait_until(lambda: broker.client.exists(dead))
        assert batches_on(broker) == set(), "so the dispatcher notices, and sends it again"
        wait_until(lambda: not broker.client.exists(dead, f"{dead}.msgs"))


def test_two_installations_on_one_redis_do_not_meet(settings: Settings, tmp_path: Path) -> None:
    ours, theirs = Processed(), Processed()
    other = replace(settings, bucket="s3://other", private_bucket="s3://other-private")
    with worker(other, theirs), worker(settings, ours):
        sender(settings)(1)
        wait_until(lambda: ours.ended)
    assert not theirs.deliveries


def test_a_redis_that_is_gone_for_a_while_is_survived(tmp_path: Path) -> None:
    """It comes back empty: sending fails clearly while it is gone, and workers go on without a restart."""
    processed = Processed()
    with ExitStack() as stack:
        with valkey(tmp_path / "redis") as server:
            settings = Settings(data=tmp_path, redis=server.url, heartbeat_seconds=1)
            send = sender(settings)
            stack.enter_context(worker(settings, processed))
            send(1)
            wait_until(lambda: processed.ended == [1])
        with pytest.raises(Unavailable, match="queue"):
            send(2)
        stack.enter_context(valkey(tmp_path / "redis", server.port))
        send(3)
        wait_until(lambda: processed.ended == [1, 3])


def test_a_hint_reaches_other_processes_at_once_and_its_own_only_once(settings: Settings) -> None:
    here, there = SharedHints(settings), SharedHints(settings)
    elsewhere = SharedHints(replace(settings, bucket="s3://other", private_bucket="s3://other-private"))
    try:

        def arrived() -> bool:
            here.signal("log")
            return there.seen("log") > 0

        wait_until(arrived)  # the subscription may take a moment
        sent, seen = here.seen("log"), there.seen("log")
        began = time.monotonic()
        for _ in range(1_000):
            here.signal("log")
        there.wait("log", seen, PATIENCE_SECONDS)
        assert time.monotonic() - began < 5
        time.sleep(0.3)
        assert here.seen("log") == sent + 1_000
        assert there.seen("log") < seen + 20, "a thousand uploads a second wake nobody a thousand times"
        assert elsewhere.seen("log") == 0
    finally:
        for hints in (here, there, elsewhere):
            hints.close()


def test_hints_keep_nobody_waiting_for_a_redis_that_is_away_and_come_again_with_it(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    settings = Settings(data=tmp_path, redis=f"redis://:{REDIS_PASSWORD}@127.0.0.1:{port}")
    here, there = SharedHints(settings), SharedHints(settings)
    try:
        began = time.monotonic()
        here.signal("log")
        assert time.monotonic() - began < 0.1
        assert here.seen("log") == 1, "in one process they need no Redis"
        with valkey(tmp_path / "redis", port):

            def arrived() -> bool:
                here.signal("log")
                return there.seen("log") > 0

            wait_until(arrived)
    finally:
        for hints in (here, there):
            hints.close()


def test_an_unreachable_redis_is_named_without_its_password() -> None:
    with pytest.raises(Unavailable) as failure:
        open_redis("redis://:very-secret@127.0.0.1:1/3")
    assert str(failure.value).startswith("redis://127.0.0.1:1/3: Redis cannot be reached")
    assert "very-secret" not in str(failure.value)


def test_a_wrong_password_is_said_at_the_start(redis_server: RedisServer) -> None:
    with pytest.raises(Unavailable, match=r"cannot be reached.*password"):
        open_redis(f"redis://:wrong@127.0.0.1:{redis_server.port}")


@pytest.mark.parametrize("url", ["http://queue", "queue:6379", "redis://queue:port"])
def test_what_is_no_address_of_a_redis_is_refused(url: str) -> None:
    with pytest.raises(Refused, match="redis: expected redis://"):
        open_redis(url)


def test_without_redis_the_queue_is_in_this_process_and_has_nothing_to_tell(tmp_path: Path) -> None:
    broker = open_broker(Settings(data=tmp_path))
    assert not isinstance(broker, SharedBroker)
    batch_sender(broker)(1, 1, 1, redelivered=False)
    assert batches_on(broker) is None


def test_a_message_carries_numbers_only(settings: Settings) -> None:
    sender(settings)(5)
    [message] = shared_broker(settings).messages(QUEUE)
    assert isinstance(message, dramatiq.Message)
    assert message.actor_name == ACTOR
    assert message.kwargs == {"lake_version": 1, "first": 5, "last": 5, "redelivered": False}
