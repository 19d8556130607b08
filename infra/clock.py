"""The clock that a running process passes to whoever decides by time; tests pass their own."""

from datetime import UTC, datetime


def now() -> datetime:
    """In UTC."""
    return datetime.now(UTC)
