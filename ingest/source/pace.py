"""When to look at a source again: as often as we like, no oftener than its server does, more seldom while it fails.

Pure. Servers say it by Cache-Control (RFC 9111), by Retry-After, and feeds by RSS's `ttl` or `sy:updatePeriod`.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta

LONGEST_SECONDS = 24 * 3600.0
"""However long a server would like us to stay away, and however often it has failed."""

_MAX_AGE = re.compile(r"(?:^|[,\s])max-age\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_PERIODS = {"hourly": 3600, "daily": 86400, "weekly": 7 * 86400, "monthly": 30 * 86400, "yearly": 365 * 86400}


def next_look(now: datetime, every_seconds: float, wished_seconds: float, chance: float) -> datetime:
    """After a look that went well. `wished_seconds` is the server's wish, `chance` in [0, 1) scatters the looks."""
    seconds = min(LONGEST_SECONDS, max(every_seconds, wished_seconds))
    return now + timedelta(seconds=seconds * (1 + chance / 10))


def next_try(now: datetime, every_seconds: float, failures: int, asked_seconds: float, chance: float) -> datetime:
    """After `failures` looks in a row that went wrong, the last of which asked for `asked_seconds` (Retry-After)."""
    backoff = every_seconds * 2.0 ** min(failures - 1, 20) * (0.5 + chance / 2)
    return now + timedelta(seconds=min(LONGEST_SECONDS, max(backoff, asked_seconds)))


def wished(headers: Mapping[str, str], feed_seconds: float) -> float:
    """How long the document is good for, as its headers (names in lower case) and the feed itself say."""
    match = _MAX_AGE.search(headers.get("cache-control", ""))
    return max(float(match[1]) if match else 0.0, feed_seconds)


def update_seconds(ttl: str, period: str, frequency: str) -> float:
    """What `<ttl>` (minutes) or `sy:updatePeriod` with `sy:updateFrequency` come to; 0 if they say nothing."""
    minutes = int(ttl) if re.fullmatch(r"\d{1,6}", ttl.strip(), re.ASCII) else 0
    times = int(frequency) if re.fullmatch(r"[1-9]\d{0,5}", frequency.strip(), re.ASCII) else 1
    return max(minutes * 60.0, _PERIODS.get(period.strip().lower(), 0) / times)
