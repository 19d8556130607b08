"""Numbers of files: which of them a column can hold, and those that spell out what JSON has no number for. Pure."""

import math
from typing import Any

_NOT_FINITE = {"NaN", "-NaN", "Infinity", "-Infinity", "INF", "+INF", "-INF"}


def finite(value: float | str | None) -> float | None:
    """The number, or None where the file says that there is none. Raises ValueError for any other text."""
    if not isinstance(value, str):
        return value
    if value in _NOT_FINITE:
        return None
    raise ValueError(value)


def finite_number(value: Any) -> float | None:
    """`value` as a float if it is a finite number; None for anything else, text and truth values too."""
    if type(value) is float:  # nearly always
        return value if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
