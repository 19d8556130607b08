"""How long a follower waits between two looks, and what cuts its waiting short. Polite: see `feed/README.md`."""

import re
import threading
import time
from collections.abc import Mapping

from schemas.errors import Unavailable

POLL_SECONDS = 30.0
PUSHED_POLL_FACTOR = 10
"""So much slower does a follower look by itself while a hub tells it of what is new."""

_SLICE_SECONDS = 0.2
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 60.0
_LONGEST_ASKED_SECONDS = 3600.0
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age\s*=\s*\"?(\d{1,9})", re.IGNORECASE)


class Stopped(Unavailable):
    """Whoever follows has asked for the end."""

    def __init__(self) -> None:
        super().__init__("stopped")


class Wakening:
    """Waiting that ends early: with a ring, once, or by raising Stopped when `stop` is set."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._rung = threading.Event()

    def ring(self) -> None:
        """There is something new, somebody says."""
        self._rung.set()

    def sleep(self, seconds: float) -> None:
        """Whatever rings, but not when stopped."""
        if self._stop.wait(max(0.0, seconds)):
            raise Stopped

    def wait(self, seconds: float) -> bool:
        """Whether it rang, since the last wait or within so many seconds."""
        ends = time.monotonic() + seconds
        while not self._stop.is_set():
            left = ends - time.monotonic()
            if self._rung.wait(min(max(left, 0.0), _SLICE_SECONDS)):
                self._rung.clear()
                return True
            if left <= 0:
                return False
        raise Stopped


def level_seconds(poll_seconds: float, headers: Mapping[str, str], *, pushed: bool, chance: float) -> float:
    """Until the next look of one who has everything. `headers` are the head's: what a cache may keep is not new
    sooner. `chance` in [0, 1) scatters followers, so that they do not all come at once."""
    match = _MAX_AGE.search(headers.get("cache-control", ""))
    kept = float(match[1]) if match else 0.0
    usual = poll_seconds * (PUSHED_POLL_FACTOR if pushed else 1) * (0.9 + 0.2 * chance)
    return max(usual, min(kept, _LONGEST_ASKED_SECONDS))


def failed_seconds(failures: int, asked: float | None, chance: float) -> float:
    """After so many looks in a row that failed (from 1): doubling, and never less than the server asked for, up to an
    hour."""
    pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10))
    return min(asked or 0.0, _LONGEST_ASKED_SECONDS) + pause * (0.5 + chance / 2)
