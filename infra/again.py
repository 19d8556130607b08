"""Trying again: what may go wrong on the way to a server, and how long to be patient with it.

Unavailable    ├── Unreachable   nobody answered
               └── Busy          somebody answered "not now" (408, 429, 5xx), perhaps with Retry-After
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from schemas.errors import Unavailable

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0

T = TypeVar("T")
OnRetry = Callable[[Unavailable, float], None]
"""Told why another attempt is needed, and the pause before it in seconds."""


class Unreachable(Unavailable):
    """Nobody answered at the server's address."""


class Busy(Unavailable):
    """The server answered that it cannot now; `retry_after_seconds` is its wish, if it has one."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True)
class World:
    """Time and chance, as far as patience needs them; tests bring their own."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random


def pause_seconds(attempt: int, asked: float | None, chance: float) -> float:
    """How long to wait after failed attempt number `attempt` (from 0): doubling, scattered by `chance` in [0, 1) so
    that a fleet does not come back at once, and never less than the server asked for."""
    backoff = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(attempt, 10))
    return (asked or 0.0) + backoff * (0.5 + chance / 2)


def persist(world: World, timeout_seconds: float, attempt: Callable[[float], T], on_retry: OnRetry) -> T:
    """What `attempt` returns, called again and again with the deadline while it raises Unavailable.

    No attempt starts later than `timeout_seconds` from now, but one that moves bytes is not cut off. Raises the last
    attempt's Unavailable, and whatever else an attempt raises.
    """
    deadline = world.clock() + timeout_seconds
    number = 0
    while True:
        try:
            return attempt(deadline)
        except Unavailable as error:
            asked = error.retry_after_seconds if isinstance(error, Busy) else None
            pause = pause_seconds(number, asked, world.chance())
            if world.clock() + pause >= deadline:
                raise
            on_retry(error, pause)
            world.sleep(pause)
            number += 1


def is_not_now(status: int) -> bool:
    """Whether an answer of that status says that a later request may do better."""
    return status in (408, 425, 429) or status >= 500


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for: a number or an HTTP date (RFC 9110, 10.2.3)."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())
