"""Numbers of files that spell out what JSON has no number for: `"NaN"`, `"+INF"`, null. Pure."""

_NOT_FINITE = {"NaN", "-NaN", "Infinity", "-Infinity", "INF", "+INF", "-INF"}


def finite(value: float | str | None) -> float | None:
    """The number, or None where the file says that there is none. Raises ValueError for any other text."""
    if not isinstance(value, str):
        return value
    if value in _NOT_FINITE:
        return None
    raise ValueError(value)
