"""How values read on a page: numbers, quantities, sizes, times, commits. Pure; every result is plain text that the
templates escape.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from urllib.parse import urlsplit

_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0}
_SECONDS_SHOWN = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTES = {"B": 1.0, "bytes": 1.0, "KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3}
_BYTES_SHOWN = ((1024.0**4, "TiB"), (1024.0**3, "GiB"), (1024.0**2, "MiB"), (1024.0, "KiB"), (1.0, "B"))
_MAX_URL = 2000


@dataclass(frozen=True)
class Scale:
    """Multiply a stored value by `factor` to show it in `unit`."""

    factor: float
    unit: str


def scale(values: Sequence[float], unit: str) -> Scale:
    """The unit in which `values` read best: seconds and bytes change to a fitting size, others stay."""
    sizes = [abs(value) for value in values if value]
    if not sizes:
        return Scale(1.0, unit)
    for known, shown in ((_SECONDS, _SECONDS_SHOWN), (_BYTES, _BYTES_SHOWN)):
        if unit in known:
            size = median(sizes) * known[unit]
            best, name = next(((best, name) for best, name in shown if size >= best), shown[-1])
            return Scale(known[unit] / best, name)
    return Scale(1.0, unit)


def number(value: float | None, digits: int = 4) -> str:
    """So many significant digits (four), whole numbers whole, thousands apart: `1,234,567`, `0.01235`, `1.2e-09`."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size and not 1e-4 <= size < 1e15:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    if float(value).is_integer():
        text = f"{value:,.0f}"
    else:
        decimals = max(digits - 1 - math.floor(math.log10(size)), 0)
        text = f"{value:,.{decimals}f}"
    return text.replace("-", "−")


def quantity(value: float | None, unit: str = "") -> str:
    """A value in the unit in which it reads best: `12.3 ms`."""
    if value is None:
        return "–"
    best = scale([value], unit)
    return f"{number(value * best.factor)} {best.unit}".rstrip()


def size(size_bytes: int) -> str:
    best = scale([size_bytes], "B")
    return f"{number(size_bytes * best.factor, 3)} {best.unit}"


def count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def when(time: datetime | None) -> str:
    """Minutes, in UTC."""
    return "–" if time is None else time.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def iso(time: datetime | None) -> str:
    return "" if time is None else time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def short(commit: str | None) -> str:
    """A commit as people quote it; names that are no digest are only cut where they are endless."""
    text = commit or ""
    is_digest = len(text) >= 20 and all(digit in "0123456789abcdef" for digit in text)
    return text[:10] if is_digest else cut(text, 40)


def cut(text: str | None, length: int = 160) -> str:
    """`text`, its end left out if it is longer than `length`."""
    whole = text or ""
    return whole if len(whole) <= length else whole[: length - 1] + "…"


def web_url(text: str | None) -> str:
    """`text` if it is an http or https address with a host, else nothing: other schemes never become links."""
    url = (text or "").strip()
    if len(url) > _MAX_URL or any(letter.isspace() or ord(letter) < 32 for letter in url):
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return url if parts.scheme in ("http", "https") and parts.hostname else ""


def params(text: str | None) -> Mapping[str, object]:
    """A measurement's params (canonical JSON) by name; what is no object counts as none."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
