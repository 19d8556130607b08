"""Faults at random: which, where, how long and when, decided beforehand by a seed; and how each is done.

Faults overlap as they come. One that meets a target still under an earlier fault ends that one first.
"""

import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.faults.process import Process
from tests.faults.proxy import Weather
from tests.faults.topology import HEARTBEAT_SECONDS, Topology

KINDS = {
    "kill ingest": 2,
    "kill announce": 3,
    "kill work": 4,
    "kill dashboard": 2,
    "lose dashboard": 1,
    "freeze ingest": 1,
    "freeze announce": 2,
    "freeze work": 3,
    "freeze dashboard": 1,
    "flush queue": 2,
    "lose queue": 2,
    "kill S3": 2,
    "S3 busy": 1,
    "S3 fails": 2,
    "S3 resets": 1,
    "S3 loses answers": 3,
    "S3 truncates": 1,
    "S3 is slow": 1,
    "disk full": 2,
}
"""Every kind of fault, and how often it is chosen."""

_FREEZES = (HEARTBEAT_SECONDS + 1.0, HEARTBEAT_SECONDS + 4.0)


@dataclass(frozen=True)
class Fault:
    """One fault: `number` chooses among the processes of a role and seeds what else is chance."""

    kind: str
    number: int
    seconds: float
    pause_seconds: float
    """Before it, from the one before."""
    share: float
    """Of the requests that are harmed, where it harms requests."""


def plan(seed: int, count: int) -> list[Fault]:
    """`count` faults; each kind once before any comes again, in another order each time."""
    chance = random.Random(f"faults {seed}")
    kinds: list[str] = []
    while len(kinds) < count:
        once = list(KINDS)
        more = [kind for kind, weight in KINDS.items() for _ in range(weight - 1)]
        chance.shuffle(once)
        chance.shuffle(more)
        kinds += once + more
    return [
        Fault(
            kind,
            number=chance.randrange(1 << 30),
            seconds=chance.uniform(*_FREEZES) if kind.startswith("freeze") else chance.uniform(0.0, 4.0),
            pause_seconds=chance.uniform(0.5, 4.0),
            share=chance.choice([0.05, 0.2, 0.5]),
        )
        for kind in kinds[:count]
    ]


End = Callable[[], None]


class Chaos:
    """Does faults to a topology, and ends them in time. `begun` counts them by kind."""

    def __init__(self, topology: Topology) -> None:
        self.begun: Counter[str] = Counter()
        self._topology = topology
        self._ends: dict[str, tuple[float, End]] = {}

    def begin(self, fault: Fault) -> None:
        target = self._target(fault)
        self._end(target)
        self.begun[fault.kind] += 1
        if end := self._begin(fault, target):
            self._ends[target] = time.monotonic() + fault.seconds, end

    def step(self) -> None:
        """End what has lasted its time."""
        for target, (due, _) in list(self._ends.items()):
            if due <= time.monotonic():
                self._end(target)

    def end_all(self) -> None:
        for target in list(self._ends):
            self._end(target)

    def _end(self, target: str) -> None:
        if target in self._ends:
            self._ends.pop(target)[1]()

    def _target(self, fault: Fault) -> str:
        if fault.kind.startswith("S3 "):
            return "proxy"
        return {"kill S3": "s3", "flush queue": "queue", "lose queue": "queue"}.get(fault.kind) or self._process(
            fault
        ).name

    def _process(self, fault: Fault) -> Process:
        role = "dashboard" if fault.kind == "disk full" else fault.kind.split()[1]
        processes = self._topology.roles[role]
        return processes[fault.number % len(processes)]

    def _begin(self, fault: Fault, target: str) -> End | None:
        """Do it; how to end it, or None if it is over at once."""
        topology = self._topology
        if target == "proxy":
            topology.order(weather_of(fault))
            return lambda: topology.order(Weather()) and None
        if fault.kind == "flush queue":
            topology.forget_queue()
            return None
        if fault.kind == "disk full":
            process = self._process(fault)
            room = largest_file(process.folder / "data" / "dashboard")
            topology.limit_files(process, room if fault.number % 3 else 4096)
            return partial(topology.limit_files, process, None)
        process = {"s3": topology.s3, "queue": topology.queue}.get(target) or self._process(fault)
        if fault.kind.startswith("freeze"):
            process.send(signal.SIGSTOP)
            return partial(process.send, signal.SIGCONT)
        process.kill()
        if fault.kind == "lose dashboard":  # with its file: what comes up is a new replica
            shutil.rmtree(process.folder / "data", ignore_errors=True)
        return partial(_wanted_again, process)


def _wanted_again(process: Process) -> None:
    process.wanted = True  # the supervisor starts it


def weather_of(fault: Fault) -> Weather:
    """The proxy's behaviour in the time of a fault."""
    share, seed = fault.share, fault.number
    return {
        "S3 busy": Weather(seed=seed, busy=share),
        "S3 fails": Weather(seed=seed, failing=share / 2, denied=share / 2),
        "S3 resets": Weather(seed=seed, reset=share),
        "S3 loses answers": Weather(seed=seed, lost=share),
        "S3 truncates": Weather(seed=seed, truncated=share),
        "S3 is slow": Weather(seed=seed, slow=share, slow_seconds=1.0),
    }[fault.kind]


def largest_file(folder: Path) -> int:
    """Bytes of the largest file of a dashboard: it can be written to, but not grow."""
    return max((path.stat().st_size for path in folder.glob("*.duckdb*") if path.is_file()), default=4096)
