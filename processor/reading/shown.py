"""A JSON value as a problem may quote it. Pure."""

from typing import Any


def shown(value: Any) -> str:
    """Text and numbers as they are, cut; of the others only what they are: they may be huge, nested beyond what can be
    printed, or hold what must not be repeated."""
    if isinstance(value, dict):
        return "an object" if value else "an empty object"
    if isinstance(value, list):
        return "an array" if value else "an empty array"
    if isinstance(value, str):
        return repr(value[:80])
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)[:80]
