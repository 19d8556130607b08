"""Hints: "something may have changed, look now". They hurry us and promise nothing; whoever waits also looks by itself.

In one process a hint is a counter under a condition. Across machines nobody signals and the timeout does the work.
"""

import threading
from dataclasses import dataclass, field


@dataclass
class _Hint:
    count: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)


class Hints:
    """Named counters. `signal` wakes those who `wait` on the name; a signal between two waits is not missed."""

    def __init__(self) -> None:
        # A condition per name: every push signals, and waking a thread that need not look costs all others the GIL.
        self._hints: dict[str, _Hint] = {}

    def signal(self, name: str) -> None:
        hint = self._hint(name)
        with hint.changed:
            hint.count += 1
            hint.changed.notify_all()

    def seen(self, name: str) -> int:
        """The count to pass to `wait`; read it *before* looking at the world."""
        return self._hint(name).count

    def wait(self, name: str, seen: int, timeout_seconds: float) -> None:
        """Return when `name` was signalled since `seen` was read, or after `timeout_seconds`."""
        hint = self._hint(name)
        with hint.changed:
            hint.changed.wait_for(lambda: hint.count != seen, timeout_seconds)

    def _hint(self, name: str) -> _Hint:
        # `setdefault` is atomic: two threads that come first get the same one.
        return self._hints.get(name) or self._hints.setdefault(name, _Hint())
