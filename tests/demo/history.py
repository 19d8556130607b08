"""The sample library's past: forty commits that make it do more, slower, faster, wrong and right again. Pure."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from tests.demo.beginning import BEGINNING
from tests.demo.change import Change, Tree, apply
from tests.demo.middle import MIDDLE
from tests.demo.recent import RECENT

CHANGES: tuple[Change, ...] = (*BEGINNING, *MIDDLE, *RECENT)

SLOWED = "benchmarks/bench_words.py::test_unique_words[2000]"
"""Far slower from the change marked `slower` up to the one before `fixed`."""

SPED_UP = "benchmarks/bench_words.py::test_count_words[2000]"
"""Far faster from the change marked `faster` on."""

UNTOUCHED = "benchmarks/bench_slug.py::test_slugify"
"""Its code never changes, so that all it shows is noise."""

BROKEN = "tests.test_stats::test_percentile[45-35]"
"""Fails from the change marked `broken` up to the one before `repaired`."""


@dataclass(frozen=True)
class Step:
    """A change, the whole tree after it, and when it was committed."""

    change: Change
    tree: Tree
    committed: datetime


def make_history(today: date) -> list[Step]:
    """All steps, oldest first: one a day, at changing working hours, up to the Sunday before `today`'s week.

    The dates depend on the week alone, so a second demo in the same week meets the same commits again.
    """
    monday = today - timedelta(days=today.weekday())
    first_day = datetime.combine(monday - timedelta(days=len(CHANGES)), time(tzinfo=UTC))
    steps: list[Step] = []
    tree: Tree = {}
    for number, change in enumerate(CHANGES):
        tree = apply(tree, change)
        clock = timedelta(hours=8 + number * 5 % 9, minutes=number * 13 % 60)
        steps.append(Step(change, tree, first_day + timedelta(days=number) + clock))
    return steps
