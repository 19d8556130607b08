"""What the newest value of a series says, compared with those before it. Pure.

The yardstick is the median of up to ten values before the newest, so one odd run moves nothing. A change counts as
noise while it lies within three times the usual spread (median absolute deviation) of those values, or below half a
percent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

PREVIOUS = 10
"""How many values before the newest are its yardstick."""

_LEAST_RELATIVE = 0.005
_SPREADS = 3 * 1.4826  # 1.4826 makes a median absolute deviation comparable to a standard deviation

Verdict = Literal["better", "worse", "changed", "steady"]


@dataclass(frozen=True)
class Change:
    """The newest value against the median of those before it; `changed` is real but of no known direction."""

    ratio: float
    """(newest - median) / |median|."""
    verdict: Verdict
    compared: int
    """How many previous values the median covers."""

    @property
    def percent(self) -> str:
        """Signed, with as many digits as matter: `+0.4 %`, `−12 %`, `×3.4`."""
        if self.ratio >= 2:
            return f"×{self.ratio + 1:.3g}"
        percent = abs(self.ratio) * 100
        digits = f"{percent:.1f}" if percent < 9.95 else f"{percent:.0f}"
        sign = "" if float(digits) == 0 else ("+" if self.ratio > 0 else "−")
        return f"{sign}{digits} %"


def change(values: Sequence[float], better: str) -> Change | None:
    """The change that the last of `values` (oldest first) brought; None without a value to compare with."""
    previous = values[-1 - PREVIOUS : -1]
    if not previous:
        return None
    middle = median(previous)
    difference = values[-1] - middle
    if middle == 0:
        return Change(0.0, "steady", len(previous)) if difference == 0 else None
    ratio = difference / abs(middle)
    spread = median(abs(value - middle) for value in previous)
    if abs(ratio) < _LEAST_RELATIVE or abs(difference) <= _SPREADS * spread:
        return Change(ratio, "steady", len(previous))
    if better not in ("lower", "higher"):
        return Change(ratio, "changed", len(previous))
    return Change(ratio, "better" if (difference < 0) == (better == "lower") else "worse", len(previous))
