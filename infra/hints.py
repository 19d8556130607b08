"""Hints: "something may have changed, look now". They hurry us and promise nothing; whoever waits also looks by itself.

In one process a hint is a counter under a condition. Across machines nobody signals and the timeout does the work.
"""

import threading


class Hints:
    """Named counters. `signal` wakes all who `wait` on the name; a signal between two waits is not missed."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._condition = threading.Condition()

    def signal(self, name: str) -> None:
        with self._condition:
            self._counts[name] = self._counts.get(name, 0) + 1
            self._condition.notify_all()

    def seen(self, name: str) -> int:
        """The count to pass to `wait`; read it *before* looking at the world."""
        with self._condition:
            return self._counts.get(name, 0)

    def wait(self, name: str, seen: int, timeout_seconds: float) -> None:
        """Return when `name` was signalled since `seen` was read, or after `timeout_seconds`."""
        with self._condition:
            self._condition.wait_for(lambda: self._counts.get(name, 0) != seen, timeout_seconds)
