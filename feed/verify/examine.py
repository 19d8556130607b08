"""Looking at what an entry promises, in a bucket: whether all of it is there, and is what it should be."""

import contextlib
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from feed.breach import Breach
from feed.verify import holdings
from infra.bucket import Bucket
from schemas import keys
from schemas.records import Entry

Depth = Literal["pages", "sizes", "bytes"]
"""How far to look: at the log's documents alone, at whether each object is there in its size, or at each byte."""

WHOLE_BYTES = 8 << 20
"""Objects up to this are read at once, larger ones as files."""

LOOKS_AGAIN = (0.5, 2.0)
"""Pauses before something missing is looked for again: caches on the way may lag behind."""

_PIECE_BYTES = 1 << 20

T = TypeVar("T")


@dataclass
class Findings:
    """What was found of one entry's objects."""

    breaches: list[Breach] = field(default_factory=list)
    missing: Breach | None = None
    """What is missing though a record says that it had to go: fine if the log says so too."""
    notes: list[str] = field(default_factory=list)
    objects: int = 0
    size_bytes: int = 0


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


class Examiner:
    """Examines the entries of one log in `bucket`. Many threads may share it."""

    def __init__(
        self,
        bucket: Bucket,
        log: str,
        depth: Depth,
        *,
        looks_again: tuple[float, ...] = LOOKS_AGAIN,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bucket = bucket
        self._log = log
        self._depth = depth
        self._looks_again = looks_again
        self._sleep = sleep

    def examine(self, entry: Entry) -> Findings:
        """What there is of `entry`."""
        found = Findings(breaches=holdings.check_key(self._log, entry))
        if self._depth == "pages" or found.breaches:
            return found
        if holdings.outcomes_of(self._log) is not None:
            self._outcome(entry, found)
        elif entry.withdraws:
            self._withdrawal(entry, found)
        else:
            self._submission(entry, found)
        return found

    def _submission(self, entry: Entry, found: Findings) -> None:
        key = keys.submission(entry.id)
        if self._depth == "bytes":
            body = self._looked_for(lambda: self._bucket.read(key))
            there = body is not None
            if body is not None:
                found.size_bytes += len(body)
                found.breaches += holdings.check_submission(entry, body)[1]
        else:
            there = self._looked_for(lambda: self._bucket.head(key)) is not None
        found.objects += there
        if not there:
            self._excuse_withdrawn(entry, key, found)
        if not self._promised(entry, entry.key, entry.size_bytes, entry.sha256, found):
            self._excuse_withdrawn(entry, entry.key, found)

    def _excuse_withdrawn(self, entry: Entry, key: str, found: Findings) -> None:
        breach = Breach(holdings.named(entry, key), "the object, or the withdrawal of its blob", "neither")
        if self._looked_for(lambda: self._bucket.head(keys.withdrawal(entry.sha256))) is None:
            found.breaches.append(breach)
        else:
            found.missing = breach

    def _withdrawal(self, entry: Entry, found: Findings) -> None:
        body = self._looked_for(lambda: self._bucket.read(entry.key))
        if body is None:
            found.breaches.append(Breach(holdings.named(entry, entry.key), "the record of the withdrawal", "none"))
            return
        found.objects, found.size_bytes = 1, len(body)
        found.breaches += holdings.check_withdrawal(entry, body)[1]
        with contextlib.suppress(FileNotFoundError):
            self._bucket.head(keys.blob(entry.withdraws))
            found.notes.append(f"entry {entry.seq} withdraws blob {entry.withdraws}, which is still there")

    def _outcome(self, entry: Entry, found: Findings) -> None:
        body = self._looked_for(lambda: self._bucket.read(entry.key))
        if body is None:
            where = holdings.named(entry, entry.key)
            found.missing = Breach(where, "the outcome, or a later revision of it", "neither")
            return
        found.objects, found.size_bytes = 1, len(body)
        outcome, breaches = holdings.check_outcome(entry, body)
        found.breaches += breaches
        for part in outcome.parts if outcome else []:
            if not self._promised(entry, part.key, part.size_bytes, part.sha256, found):
                where = holdings.named(entry, part.key)
                found.missing = Breach(where, "the part, or a later revision of its outcome", "neither")
                return

    def _promised(self, entry: Entry, key: str, size_bytes: int, sha256: str, found: Findings) -> bool:
        """Whether the object is there; what is wrong with it is noted in `found`."""
        if self._depth == "bytes" and size_bytes <= WHOLE_BYTES:
            # One byte more than there should be: enough to see that there are more, and never all of too many.
            body = self._looked_for(lambda: self._bucket.read(key, 0, size_bytes + 1))
            there = None if body is None else len(body)
        else:
            body, head = None, self._looked_for(lambda: self._bucket.head(key))
            there = head.size_bytes if head else None
        if there is None:
            return False
        found.objects += 1
        if there != size_bytes:
            more = "more" if body is not None and there > size_bytes else f"{there:,}"
            found.breaches.append(Breach(holdings.named(entry, key), f"{size_bytes:,} bytes", more))
        elif self._depth == "bytes":
            found.size_bytes += there
            if body is not None:
                digest = hashlib.sha256(body).hexdigest()
            else:
                with self._bucket.local_path(key) as path:
                    digest = digest_of(path)
            if digest != sha256:
                found.breaches.append(Breach(holdings.named(entry, key), f"SHA-256 {sha256}", digest))
        return True

    def _looked_for(self, look: Callable[[], T]) -> T | None:
        """What `look` gives; None if it finds nothing, however often one looks."""
        for pause in (0.0, *self._looks_again):
            if pause:
                self._sleep(pause)
            with contextlib.suppress(FileNotFoundError):
                return look()
        return None
