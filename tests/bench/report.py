"""What a measurement gives."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Figure:
    """One line of the table: what was measured, what was found, what was asked for (empty: for comparison)."""

    what: str
    found: str
    asked: str = ""


class Memory:
    """Peak memory of a process and all its children together: the sum of their proportional sets, sampled.

    `peak_mb` counts memory that processes share once.
    """

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self.peak_mb = self.now_mb()

    def now_mb(self) -> float:
        total = 0
        for process in [self._process, *self._process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
                total += _pss_bytes(process.pid)
        return total / 1e6

    def _sample(self) -> None:
        while not self._ended.wait(0.05):
            self.peak_mb = max(self.peak_mb, self.now_mb())


@contextlib.contextmanager
def watched_memory(pid: int) -> Iterator[Memory]:
    """Samples for the time of the context."""
    memory = Memory(pid)
    thread = threading.Thread(target=memory._sample)
    thread.start()
    try:
        yield memory
    finally:
        memory._ended.set()
        thread.join()


def _pss_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except ProcessLookupError:  # it is ending
        return 0
    return int(text.split("Pss:")[1].split()[0]) * 1024
