"""Points in time as result files write them: ISO 8601 in its many spellings, or a number since 1970. Pure."""

from datetime import UTC, datetime

_MILLISECONDS_FROM = 1e11
"""As seconds this is the year 5138, as milliseconds 1973: no result file means the former."""


def parse_instant(text: str) -> datetime | None:
    """`text` in UTC, or None if it is no time. One without an offset is taken as UTC: most tools mean that."""
    try:
        instant = datetime.fromisoformat(text.strip())
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def instant_of_number(number: float) -> datetime | None:
    """Seconds or milliseconds since 1970, whichever the size suggests, or None if it is no time."""
    try:
        return datetime.fromtimestamp(number / 1000 if number >= _MILLISECONDS_FROM else number, UTC)
    except (ValueError, OverflowError, OSError):
        return None
