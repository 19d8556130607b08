"""What an entry promises beside itself: the objects that it names, and what they must say. Pure.

An entry of the submissions log promises its blob and its submission, whose id follows from what it says; a withdrawal
its record; an entry of an outcomes log the outcome and its parts. What is not there is *held* all the same if the log
says that it had to go: a withdrawal of that blob, or a later revision of that outcome.
"""

import hashlib
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from feed.breach import Breach
from schemas import keys
from schemas.records import Entry, Outcome, PartRef, Record, Submission, Withdrawal, submission_id

_Record = TypeVar("_Record", bound=Record)


def outcomes_of(log: str) -> int | None:
    """The lake version whose outcomes `log` announces; None for the submissions log."""
    version = keys.LAKE_VERSION.fullmatch(log.removeprefix("outcomes-"))
    return int(version[1]) if version and log == keys.outcomes_log(int(version[1])) else None


def named(entry: Entry, key: str) -> str:
    """How a breach at one of an entry's objects says where it is."""
    return f"entry {entry.seq}: {key}"


def check_key(log: str, entry: Entry) -> list[Breach]:
    """Whether the enclosure is what an entry of that id must have."""
    version = outcomes_of(log)
    if version is not None:
        found = keys.parse_outcome(entry.key)
        right = found is not None and found[0] == version and keys.outcome_id(found[1], found[2]) == entry.id
        expected = "the outcome that its id says"
    elif entry.withdraws:
        right = entry.key == keys.withdrawal(entry.withdraws) and entry.id == keys.withdrawal_id(entry.withdraws)
        expected = f"the enclosure {keys.withdrawal(entry.withdraws)}"
    else:
        right = entry.key == keys.blob(entry.sha256) and keys.SHA256.fullmatch(entry.id) is not None
        expected = f"the enclosure {keys.blob(entry.sha256)}, and a submission's id"
    return [] if right else [Breach(f"entry {entry.seq}", expected, f"{entry.key[:120]!r}, id {entry.id[:80]!r}")]


def check_bytes(entry: Entry, body: bytes) -> list[Breach]:
    """Whether these are the bytes that the entry's enclosure must have."""
    where, sha256 = named(entry, entry.key), hashlib.sha256(body).hexdigest()
    if len(body) != entry.size_bytes:
        return [Breach(where, f"{entry.size_bytes:,} bytes", f"{len(body):,}")]
    return [] if sha256 == entry.sha256 else [Breach(where, f"SHA-256 {entry.sha256}", sha256)]


def check_submission(entry: Entry, body: bytes) -> tuple[Submission | None, list[Breach]]:
    """The submission that `entry` announces, and in what it is another. `nonce` and `received` are nobody's promise."""
    where = named(entry, keys.submission(entry.id))
    found = _decoded(where, body, Submission)
    if isinstance(found, Breach):
        return None, [found]
    covered = submission_id(
        sha256=found.blob.sha256,
        project=found.project,
        format=found.format,
        context=found.context,
        trust=found.trust,
    )
    if covered != entry.id or found.id != entry.id:
        return found, [Breach(where, f"a submission whose content gives the id {entry.id}", covered)]
    said = (found.blob.sha256, found.blob.size_bytes, found.project)
    promised = (entry.sha256, entry.size_bytes, entry.project)
    return found, [] if said == promised else [Breach(where, f"blob, size and project {promised}", f"{said}")]


def check_withdrawal(entry: Entry, body: bytes) -> tuple[Withdrawal | None, list[Breach]]:
    """The record of the withdrawal that `entry` announces, and in what it is another."""
    where = named(entry, entry.key)
    if breaches := check_bytes(entry, body):
        return None, breaches
    found = _decoded(where, body, Withdrawal)
    if isinstance(found, Breach):
        return None, [found]
    return found, [] if found.sha256 == entry.withdraws else [Breach(where, f"blob {entry.withdraws}", found.sha256)]


def check_outcome(entry: Entry, body: bytes) -> tuple[Outcome | None, list[Breach]]:
    """The outcome that `entry` announces, and in what it is another."""
    where = named(entry, entry.key)
    if breaches := check_bytes(entry, body):
        return None, breaches
    found = _decoded(where, body, Outcome)
    if isinstance(found, Breach):
        return None, [found]
    id = keys.outcome_id(found.first, found.revision)
    if id != entry.id:
        return found, [Breach(where, f"outcome {entry.id}", id)]
    named_by = keys.parse_outcome(entry.key)
    parts = [part for part in found.parts if not named_by or not _is_part_of(named_by[0], part)]
    return found, [Breach(where, "parts of its lake, named by their digests", f"{part.key[:120]!r}") for part in parts]


def _is_part_of(version: int, part: PartRef) -> bool:
    key = keys.parse_part(part.key)
    return (
        key is not None and (key.lake_version, key.table) == (version, part.table) and part.sha256[:16] == key.digest16
    )


@dataclass
class Excused:
    """What is missing and may be, if the log says so in time: each by what must be announced, with the breach that it
    is otherwise. Entries are told of in the order of the log, with what is missing of each."""

    waiting: dict[str, Breach] = field(default_factory=dict)
    _withdrawn: set[str] = field(default_factory=set)
    _revised: dict[str, str] = field(default_factory=dict)

    def announced(self, entry: Entry) -> None:
        """Note what `entry` excuses."""
        if entry.withdraws:
            self._withdrawn.add(entry.withdraws)
            self.waiting.pop(entry.withdraws, None)
        first, _, revision = entry.id.partition("-")
        if len(first) == 12 and revision > self._revised.get(first, "000000"):
            self._revised[first] = revision
            if revision > _revision(self.waiting.get(first)):
                self.waiting.pop(first, None)

    def withdrawn(self, sha256: str) -> bool:
        return sha256 in self._withdrawn

    def missing(self, log: str, entry: Entry, breach: Breach) -> None:
        """Something that `entry` of `log` names is missing."""
        if outcomes_of(log) is None:
            self._missing_blob(entry, breach)
        else:
            self._missing_outcome(entry, breach)

    def _missing_blob(self, entry: Entry, breach: Breach) -> None:
        """The blob or submission of `entry` is missing, though a record says that it is withdrawn."""
        if entry.sha256 not in self._withdrawn:
            self.waiting.setdefault(entry.sha256, breach)

    def _missing_outcome(self, entry: Entry, breach: Breach) -> None:
        """The outcome of `entry`, or a part of it, is missing."""
        first, _, revision = entry.id.partition("-")
        if self._revised.get(first, "000000") <= revision:
            waiting = self.waiting.get(first)
            if waiting is None or _revision(waiting) < revision:
                self.waiting[first] = _OfRevision(breach, revision)


class _OfRevision(Breach):
    """A breach that a later revision than this one heals."""

    def __init__(self, breach: Breach, revision: str) -> None:
        super().__init__(breach.where, breach.expected, breach.found)
        self.revision = revision


def _revision(breach: Breach | None) -> str:
    return breach.revision if isinstance(breach, _OfRevision) else ""


def _decoded(where: str, body: bytes, type: type[_Record]) -> _Record | Breach:
    try:
        return msgspec.json.decode(body, type=type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Breach(where, f"the JSON of a {type.__name__.lower()}", str(error)[:200])
