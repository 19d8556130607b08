"""What a process tells Prometheus: its metrics, each with its name, labels and help in one place.

One `Metrics` per process, made at its composition and passed on. The rooms above call its methods and know no
Prometheus. Every label has few values that are known beforehand: nothing that a stranger sent becomes one.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from infra import clock
from schemas.reasons import quarantine_reason, reason_of
from schemas.records import Outcome

if TYPE_CHECKING:
    from dramatiq import Broker

STAGES = ("announce_submissions", "process", "announce_outcomes", "load")
"""What things wait for, in the order of their way."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_SUBMISSIONS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Metrics:
    """All metrics of one process. Safe to call from any thread; `clock` gives the ages of what waits."""

    def __init__(self, clock: Callable[[], datetime] = clock.now) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        ProcessCollector(registry=self.registry)
        self._lag = self._gauge("lag_seconds", "Age of the oldest thing that waits for a stage; 0: nothing.", "stage")
        self._backlog = self._gauge("backlog", "Things that wait for a stage: markers, entries, outcomes.", "stage")
        self._queued = self._gauge("queue_messages", "Batches on the queue, those under way too.", "queue")
        self._replica_version = self._gauge("replica_data_version", "Seq of the last outcome loaded.", "lake")
        self._replica_rows = self._gauge("replica_rows", "Rows in the dashboard's tables.", "table")
        self._items = self._counter("step_items_total", "What steps of loops did: entries, batches, objects.", "loop")
        self._failures = self._counter("step_failures_total", "Steps of loops that failed; they run again.", "loop")
        self._requests = self._counter(
            "bucket_requests_total",
            "Requests to storage, by verb and kind of object. A listing or deletion counts as one per thousand keys, "
            "an object that goes up in pieces as one.",
            "bucket", "verb", "kind", "result",
        )  # fmt: skip
        self._responses = self._counter("http_responses_total", "HTTP answers.", "method", "route", "status")
        self._processed = self._counter(
            "processed_submissions_total", "Submissions with an outcome, by verdict and format.", "verdict", "format"
        )
        self._refused = self._counter(
            "refused_submissions_total", "Submissions that gave no rows, by the class of why.", "verdict", "reason"
        )
        self._rows = self._counter("processed_rows_total", "Rows in the parts of outcomes.", "table")
        self._lost = self._counter("child_losses_total", "Child processes that a file cost, by what it did.", "reason")
        self._task_seconds = self._histogram("transform_seconds", "Time of a child's task, without waiting.", _SECONDS)
        self._batch = self._histogram("batch_submissions", "Submissions of a batch.", _SUBMISSIONS)

    # --- loops and queue ---

    def step(self, loop: str, step: Callable[[], int]) -> Callable[[], int]:
        """`step` of the loop of that name, counted."""
        items, failures = self._items.labels(loop), self._failures.labels(loop)

        def counted() -> int:
            try:
                done = step()
            except BaseException:
                failures.inc()
                raise
            items.inc(done)
            return done

        return counted

    def waiting(self, stage: str, count: int, oldest: datetime | None) -> None:
        """What waits for one of STAGES now. Its age grows until the next call says otherwise."""

        def age() -> float:
            return max((self._clock() - oldest).total_seconds(), 0.0) if oldest else 0.0

        self._backlog.labels(stage).set(count)
        self._lag.labels(stage).set_function(age)

    def look_at_queue(self, broker: "Broker", queue: str) -> int:
        """A loop's step. Raises Unavailable if the queue does not answer."""
        from infra.broker import SharedBroker

        if isinstance(broker, SharedBroker):
            messages = len(broker.messages(queue))
        else:
            messages = broker.queues[queue].unfinished_tasks
        self._queued.labels(queue).set(messages)
        return 0

    # --- processing ---

    def outcome(self, outcome: Outcome) -> None:
        """A batch was processed here."""
        self._batch.observe(len(outcome.submissions))
        for one in outcome.submissions:
            self._processed.labels(one.verdict, one.format or "unknown").inc()
            if one.verdict in ("rejected", "quarantined"):
                reason = reason_of(one.verdict, one.problems[0] if one.problems else None)
                self._refused.labels(one.verdict, reason).inc()
        for part in outcome.parts:
            self._rows.labels(part.table).inc(part.rows)

    def task(self, seconds: float, lost: str) -> None:
        """A child was busy for so long; `lost` says why that cost its life, or is empty."""
        self._task_seconds.observe(seconds)
        if lost:
            self._lost.labels(quarantine_reason(lost)).inc()

    # --- the dashboard's copy ---

    def replica(self, lake_version: int, data_version: int, rows: Mapping[str, int]) -> None:
        """How far a dashboard's database is, and how large."""
        self._replica_version.clear()  # of the lake version before
        self._replica_version.labels(f"v{lake_version}").set(data_version)
        for table, count in rows.items():
            self._replica_rows.labels(table).set(count)

    # --- storage and HTTP ---

    def request(self, bucket: str, verb: str, kind: str, result: str, requests: int = 1) -> None:
        self._requests.labels(bucket, verb, kind, result).inc(requests)

    def requests(self) -> dict[tuple[str, str, str, str], int]:
        """All requests so far by bucket, verb, kind and result: for benchmarks."""
        [family] = self._requests.collect()
        return {
            (one.labels["bucket"], one.labels["verb"], one.labels["kind"], one.labels["result"]): int(one.value)
            for one in family.samples
            if one.name.endswith("_total")
        }

    def response(self, method: str, route: str, status: int) -> None:
        self._responses.labels(method, route, str(status)).inc()

    # --- making them ---

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(f"runfeed_{name}", help, labels, registry=self.registry)

    def _gauge(self, name: str, help: str, *labels: str) -> Gauge:
        return Gauge(f"runfeed_{name}", help, labels, registry=self.registry)

    def _histogram(self, name: str, help: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"runfeed_{name}", help, buckets=buckets, registry=self.registry)
