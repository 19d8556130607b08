"""The outermost loops: a step called again and again in a thread of its own, until the program ends.

This is the one place that catches everything: a step that fails is logged and tried again, more and more slowly, and
its last error can be asked for, so that nothing fails silently and nothing fails for ever.
"""

import threading
from collections.abc import Callable

import structlog

from infra.hints import Hints
from schemas.errors import Unavailable

_log = structlog.get_logger()
_MAX_BACKOFF_SECONDS = 30.0


class Loop:
    """Calls `step` at once while it returns a positive number, else when hinted or after `idle_seconds`.

    `wakes_on` is the hint it waits for, `signals` the hint it gives when a step did something. `pause_seconds` is the
    least time between two steps that did something: a little waiting makes batches that are worth their overhead.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], int],
        hints: Hints,
        *,
        wakes_on: str,
        signals: str = "",
        idle_seconds: float = 1.0,
        pause_seconds: float = 0.0,
    ) -> None:
        self.name = name
        self.last_error = ""
        self._step = step
        self._hints = hints
        self._wakes_on = wakes_on
        self._signals = signals
        self._idle_seconds = idle_seconds
        self._pause_seconds = pause_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let the step under way finish, then end."""
        self._stopping.set()
        self._hints.signal(self._wakes_on)
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        structlog.contextvars.bind_contextvars(loop=self.name)
        failures = 0
        while True:
            # Read before we look whether to stop, so that no `stop` is slept through.
            seen = self._hints.seen(self._wakes_on)
            if self._stopping.is_set():
                return
            try:
                done = self._step()
            except BaseException as error:  # noqa: BLE001 - the outermost loop; a panic in a library is no Exception
                failures += 1
                self.last_error = f"{type(error).__name__}: {error}"
                expected = isinstance(error, Unavailable)
                _log.error("step failed", error=self.last_error, failures=failures, exc_info=not expected)
                self._stopping.wait(min(_MAX_BACKOFF_SECONDS, 0.1 * 2 ** min(failures, 10)))
                continue
            failures, self.last_error = 0, ""
            if done:
                if self._signals:
                    self._hints.signal(self._signals)
                if self._pause_seconds:
                    self._stopping.wait(self._pause_seconds)
            else:
                self._hints.wait(self._wakes_on, seen, self._idle_seconds)
