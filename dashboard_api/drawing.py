"""Lines and bars as inline SVG: sparklines, and graphs that need no JavaScript. Pure.

Coordinates only: the templates hold the markup and the style sheet the colours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

SPARK_WIDTH, SPARK_HEIGHT = 120, 28
GRAPH_WIDTH, GRAPH_HEIGHT = 960, 280
_GRAPH_LEFT, _GRAPH_BOTTOM = 70, 24
BARS_WIDTH, BARS_HEIGHT = 960, 220
_BARS_LEFT, _BARS_TOP, _BARS_BOTTOM = 46, 14.0, 34
_PAD = 3.0
_GAP = 2.0


@dataclass(frozen=True)
class Line:
    """A polyline's `points` attribute and its last point, in a box of `width` x `height`."""

    points: str
    last_x: float
    last_y: float
    width: int
    height: int


@dataclass(frozen=True)
class Graph:
    """A line with its horizontal rules: (y, value) each."""

    line: Line
    dots: list[tuple[float, float]]
    rules: list[tuple[float, float]]
    left: int


@dataclass(frozen=True)
class Bars:
    """Columns of stacked pieces, the lowest first: (y, height) each, in a box of `width` x `height`."""

    columns: list[tuple[float, list[tuple[float, float]]]]
    """(x, pieces) each."""
    column_width: float
    top: float
    bottom: float
    left: int
    highest: float
    width: int = BARS_WIDTH
    height: int = BARS_HEIGHT


def sparkline(values: Sequence[float]) -> Line | None:
    """`values`, oldest first, evenly spaced; None where there is nothing to draw a line through."""
    if len(values) < 2:
        return None
    return _line(_placed(values, _PAD, SPARK_WIDTH - _PAD, _PAD, SPARK_HEIGHT - _PAD), SPARK_WIDTH, SPARK_HEIGHT)


def graph(values: Sequence[float]) -> Graph | None:
    """The same with rules at the lowest, middle and highest value, and a dot per value."""
    if not values:
        return None
    top, bottom = 10.0, float(GRAPH_HEIGHT - _GRAPH_BOTTOM)
    placed = _placed(values, _GRAPH_LEFT + 8.0, GRAPH_WIDTH - 8.0, top, bottom)
    low, high = min(values), max(values)
    middle = (top + bottom) / 2
    rules = [(middle, low)] if low == high else [(bottom, low), (middle, (low + high) / 2), (top, high)]
    return Graph(_line(placed, GRAPH_WIDTH, GRAPH_HEIGHT), placed, rules, _GRAPH_LEFT)


def bars(stacks: Sequence[Sequence[float]]) -> Bars:
    """A column per stack, oldest first, evenly spaced; the highest reaches the top."""
    left, top, bottom = _BARS_LEFT, _BARS_TOP, float(BARS_HEIGHT - _BARS_BOTTOM)
    step = (BARS_WIDTH - left) / max(len(stacks), 1)
    highest = max((sum(stack) for stack in stacks), default=0.0)
    columns = []
    for at, stack in enumerate(stacks):
        pieces, y = [], bottom
        for value in stack:
            size = value / highest * (bottom - top) if highest else 0.0
            size = max(size, 1.5) if value else 0.0  # however few, they are seen
            y -= size
            pieces.append((round(y, 1), round(size, 1)))
        columns.append((round(left + at * step + _GAP / 2, 1), pieces))
    return Bars(columns, round(step - _GAP, 1), top, bottom, left, highest)


def _placed(values: Sequence[float], left: float, right: float, top: float, bottom: float) -> list[tuple[float, float]]:
    """Each value's place in the box; values all equal lie on the middle, a single one at the right."""
    low, high = min(values), max(values)
    step = (right - left) / max(len(values) - 1, 1)
    first = left if len(values) > 1 else right
    return [
        (
            round(first + index * step, 1),
            round((top + bottom) / 2 if high == low else bottom - (value - low) / (high - low) * (bottom - top), 1),
        )
        for index, value in enumerate(values)
    ]


def _line(placed: Sequence[tuple[float, float]], width: int, height: int) -> Line:
    return Line(" ".join(f"{x},{y}" for x, y in placed), *placed[-1], width, height)
