"""Which entries of the submissions log a withdrawal is about."""

from collections.abc import Collection
from dataclasses import dataclass, field

from feed.log import LogReader
from schemas.records import Withdrawal


@dataclass(frozen=True)
class Announced:
    """A submission's place in the log."""

    seq: int
    batch: int
    id: str


@dataclass(frozen=True)
class Withdrawn:
    """A withdrawal that stands in the log at `seq`, and all submissions of its blob that stand there too."""

    withdrawal: Withdrawal
    seq: int
    submissions: tuple[Announced, ...]

    @property
    def sha256(self) -> str:
        return self.withdrawal.sha256

    @property
    def ids(self) -> set[str]:
        """Of all submissions that are known, announced or not."""
        return {*self.withdrawal.submissions, *(one.id for one in self.submissions)}


@dataclass
class _OfBlob:
    seq: int = 0
    submissions: list[Announced] = field(default_factory=list)


class WithdrawnEntries:
    """Looks them up: reads the log from entry 1 for what was not asked before, else only what is new."""

    def __init__(self, log: LogReader) -> None:
        self._log = log
        self._through = 0
        self._known: dict[str, _OfBlob] = {}

    def of(self, withdrawals: Collection[Withdrawal]) -> list[Withdrawn]:
        """Those of these withdrawals that are announced."""
        if unknown := {one.sha256 for one in withdrawals} - self._known.keys():
            self._known = {sha256: _OfBlob() for sha256 in (*self._known, *unknown)}
            self._through = 0
        while entries := self._log.entries_after(self._through):
            for entry in entries:
                if of_blob := self._known.get(entry.withdraws):
                    of_blob.seq = entry.seq
                elif not entry.withdraws and (of_blob := self._known.get(entry.sha256)):
                    of_blob.submissions.append(Announced(entry.seq, entry.batch, entry.id))
            self._through = entries[-1].seq
        found = ((one, self._known[one.sha256]) for one in withdrawals)
        return [Withdrawn(one, known.seq, tuple(known.submissions)) for one, known in found if known.seq]
