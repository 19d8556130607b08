"""The processor's one queue message: process this batch. It carries numbers, never bodies."""

import contextlib

import dramatiq

from infra.hints import Hints
from processor.batch import Processor
from processor.children import Stopping
from processor.dispatcher import Send


def declare_actors(broker: dramatiq.Broker, processor: Processor, hints: Hints) -> Send:
    """Declare the actor on `broker` and return the function that sends it a batch."""

    def process_batch(lake_version: int, first: int, last: int, redelivered: bool) -> None:
        with contextlib.suppress(Stopping):
            if processor.process(lake_version, first, last, redelivered=redelivered):
                hints.signal("processed")

    actor = dramatiq.actor(broker=broker, queue_name="batches")(process_batch)

    def send(lake_version: int, first: int, last: int, *, redelivered: bool) -> None:
        actor.send(lake_version, first, last, redelivered)

    return send
