"""Every invariant of the project, checked over a bucket; each breach is named with where, expected and found.

Facts are gathered first (`doctor_facts`), then each rule (`doctor_rules`) is asked. Reads only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from infra.bucket import Buckets
from processor.doctor_facts import Progress, gathered
from processor.doctor_rules import RULES


@dataclass(frozen=True)
class Breach:
    """One place where an invariant does not hold."""

    rule: str
    where: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, found {self.found}"


def breaches(
    buckets: Buckets,
    now: datetime,
    *,
    deep: bool = False,
    settled: bool = False,
    progress: Progress = lambda what, count: None,
    threads: int = 16,
) -> Iterator[Breach]:
    """Each breach, rule by rule. Others may work on the bucket meanwhile, unless `settled` says that nothing waits.

    `deep` reads every blob and part and compares digests and rows; else sizes must do. Raises Unavailable when storage
    fails.
    """
    with gathered(buckets, now, deep=deep, settled=settled, progress=progress, threads=threads) as facts:
        for rule in RULES:
            facts.execute(rule.query)
            while rows := facts.fetchmany(1000):
                yield from (Breach(rule.name, *row) for row in rows)
