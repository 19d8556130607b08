"""A fault that the fuzzer must find: its own test."""

from processor.reading.shape import shape_of
from schemas.errors import Rejected

SEED = b'{"a": [1]}'


def check_planted(data: bytes) -> None:
    """Fails where a key that the seed has not is that of an array."""
    try:
        found = shape_of(data).keys.get("planted")
    except Rejected:
        return
    if found is not None and bytes(found).startswith(b"["):
        raise ZeroDivisionError("found what was planted")
