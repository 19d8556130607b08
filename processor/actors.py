"""The processor's one queue message: process this batch. It carries numbers, never bodies."""

from typing import Any

import dramatiq
import structlog
from dramatiq.errors import Retry

from infra.broker import SharedBroker
from infra.hints import Hints
from processor.batch import Processor
from processor.children import Stopping
from processor.dispatcher import Send

QUEUE = "batches"
ACTOR = "process_batch"


def batch_sender(broker: dramatiq.Broker) -> Send:
    """The function that puts a batch on the queue, whoever takes it from there."""
    broker.declare_queue(QUEUE)

    def send(lake_version: int, first: int, last: int, *, redelivered: bool) -> None:
        numbers = {"lake_version": lake_version, "first": first, "last": last, "redelivered": redelivered}
        message: dramatiq.Message[Any] = dramatiq.Message(
            queue_name=QUEUE, actor_name=ACTOR, args=(), kwargs=numbers, options={}
        )
        broker.enqueue(message)

    return send


def batches_on(broker: dramatiq.Broker) -> set[tuple[int, int]] | None:
    """(lake version, first) of each batch that the queue knows of; None if it is in this process and loses none."""
    if not isinstance(broker, SharedBroker):
        return None
    return {(message.kwargs["lake_version"], message.kwargs["first"]) for message in broker.messages(QUEUE)}


def declare_actors(broker: dramatiq.Broker, processor: Processor, hints: Hints) -> Send:
    """Declare the actor on `broker`, for workers of this process, and return the function that sends it a batch."""

    def process_batch(lake_version: int, first: int, last: int, redelivered: bool) -> None:
        structlog.contextvars.bind_contextvars(batch=first)
        try:
            if processor.process(lake_version, first, last, redelivered=redelivered):
                hints.signal("processed")
        except Stopping as stopping:
            raise Retry(delay=0) from stopping  # given up, not done: back to the queue, for who still works

    dramatiq.actor(broker=broker, queue_name=QUEUE, actor_name=ACTOR)(process_batch)
    return batch_sender(broker)
