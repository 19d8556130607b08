"""What the quality page shows: a Quality in words, and the last day as a picture. Pure."""

from typing import Any

from dashboard_api import display, drawing
from dashboard_api.quality import SPANS, Quality, Step

CLASSES = {
    "accepted": "accepted",
    "announced": "under way",
    "rejected": "rejected",
    "quarantined": "quarantined",
    "withdrawn": "withdrawn",
}
"""What a column of the picture is stacked of, from the bottom, and what it is called."""

_HOURS_BETWEEN_MARKS = 6
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


def values(quality: Quality) -> dict[str, Any]:
    """For the template."""
    counted = [sum(_stack(step)) for step in quality.steps]
    picture = drawing.bars([_stack(step) for step in quality.steps])
    return {
        "here": "quality",
        "quality": quality,
        "stages": [
            (
                "Processing",
                quality.processing,
                "announced, without an outcome yet",
                "everything announced has an outcome",
            ),
            (
                "Loading",
                quality.loading,
                "in the logs, not yet in this dashboard",
                "this dashboard has all of the logs",
            ),
        ],
        "age": age,
        "durations": [age(seconds) for seconds in (quality.durations.median_seconds, quality.durations.p99_seconds)],
        "spans": [(f"in the last {name}" if name in SPANS else name, counts) for name, counts in quality.spans.items()],
        "classes": CLASSES,
        "picture": picture,
        "columns": list(zip(quality.steps, picture.columns, map(_told, quality.steps), strict=True)),
        "marks": [
            (x, step.since)
            for step, (x, _) in zip(quality.steps, picture.columns, strict=True)
            if step.since.hour % _HOURS_BETWEEN_MARKS == 0 and step.since.minute == 0
        ],
        "day_total": sum(counted),
    }


def age(seconds: float | None) -> str:
    """`0.41 s`, `7 min`, `5.2 h`, `3 days`."""
    if seconds is None:
        return "–"
    if seconds < _MINUTE:
        return display.quantity(seconds, "s")
    for unit, size, until in (("min", _MINUTE, _HOUR), ("h", _HOUR, 2 * _DAY)):
        if seconds < until:
            return f"{display.number(seconds / size, 2)} {unit}"
    return f"{display.number(seconds / _DAY, 2)} days"


def _stack(step: Step) -> tuple[int, ...]:
    return tuple(getattr(step, name) for name in CLASSES)


def _told(step: Step) -> str:
    """`06:30: 12 accepted, 1 rejected`."""
    listed = [f"{display.count(count)} {CLASSES[of]}" for of, count in zip(CLASSES, _stack(step), strict=True) if count]
    return f"{step.since:%H:%M}: " + (", ".join(listed) or "none")
