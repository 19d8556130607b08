"""JSON Pointers (RFC 6901) in which a step `*` stands for every element. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

from schemas.errors import Refused

EVERY = "*"
MAX_CHARACTERS = 1000
MAX_STEPS = 32

Steps = tuple[str, ...]
"""A pointer taken apart; empty means the whole document."""


def parse_pointer(text: str, where: str) -> Steps:
    """The steps of a pointer, or Refused 422 if it is malformed or very long."""
    if text and not text.startswith("/"):
        raise Refused(where, "a JSON Pointer like /result/score", repr(text[:80]), status=422)
    steps = tuple(step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:])
    if len(text) > MAX_CHARACTERS or len(steps) > MAX_STEPS:
        raise Refused(where, f"at most {MAX_STEPS} steps and {MAX_CHARACTERS} characters", repr(text[:80]), status=422)
    if "~" in text.replace("~0", "").replace("~1", ""):
        raise Refused(where, "a JSON Pointer, in which ~ is written ~0", repr(text[:80]), status=422)
    return steps


def render_pointer(steps: Sequence[str | int]) -> str:
    """The pointer of these steps; `/` for the whole document, so that it can be shown."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in steps) or "/"


def found_at(document: Any, steps: Sequence[str], every: Sequence[str] = ()) -> Iterator[tuple[Steps, Any]]:
    """(steps without `*`, value) of each value at `steps`, in the document's order.

    `every` is what the first steps `*` stand for; further ones stand for each element of a list or object.
    """
    level: list[tuple[Steps, Any]] = [((), document)]
    left = list(every)
    for step in steps:
        chosen = left.pop(0) if step == EVERY and left else step
        level = [((*place, key), value) for place, container in level for key, value in _elements(container, chosen)]
    yield from level


def _elements(container: Any, step: str) -> Iterator[tuple[str, Any]]:
    if isinstance(container, dict):
        if step == EVERY:
            yield from container.items()
        elif step in container:
            yield step, container[step]
    elif isinstance(container, list):
        if step == EVERY:
            yield from ((str(index), value) for index, value in enumerate(container))
        elif (index := index_of(step)) is not None and index < len(container):
            yield step, container[index]


def index_of(step: str) -> int | None:
    """The place in a list that a step means, or None if it means none."""
    if not (step.isascii() and step.isdecimal() and len(step) < 10):
        return None
    return int(step) if step == str(int(step)) else None
