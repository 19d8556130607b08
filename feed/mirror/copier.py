"""Copying what an entry promises from one bucket to another, each byte checked on the way.

What an object stands on is written before it, the blob before its submission, parts before their outcome: whoever finds
the last finds all. What is there already is not asked for again. A large blob that was cut off goes on where it was.
"""

import contextlib
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from feed.breach import Breach
from feed.mirror.pace import Paced
from feed.verify import holdings
from feed.verify.examine import LOOKS_AGAIN, WHOLE_BYTES, Findings, digest_of
from feed.withdrawals import withdrawn_blobs
from infra.bucket import Bucket
from schemas import keys
from schemas.records import Entry

T = TypeVar("T")


class Copier:
    """Copies for one log. Many threads may share it; `partial` is a folder for what is under way, ours alone."""

    def __init__(
        self,
        source: Paced,
        destination: Bucket,
        log: str,
        partial: Path,
        *,
        looks_again: tuple[float, ...] = LOOKS_AGAIN,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._source = source
        self._destination = destination
        self._log = log
        self._partial = partial
        self._looks_again = looks_again
        self._sleep = sleep
        self.withdrawn = set(withdrawn_blobs(destination))
        """Blobs whose withdrawal the destination knows: nothing of them is copied any more."""

    def hold(self, entry: Entry) -> Findings:
        """See to it that the destination has what `entry` promises; what was found of it at the source."""
        found = Findings(breaches=holdings.check_key(self._log, entry))
        if found.breaches:
            return found
        try:
            if holdings.outcomes_of(self._log) is not None:
                self._hold_outcome(entry, found)
            elif entry.withdraws:
                self._hold_withdrawal(entry, found)
            else:
                self._hold_submission(entry, found)
        except Breach as breach:
            found.breaches.append(breach)
        return found

    def _hold_submission(self, entry: Entry, found: Findings) -> None:
        key = keys.submission(entry.id)
        if self._size_held(entry.key) == entry.size_bytes and self._size_held(key) is not None:
            return
        if entry.sha256 in self.withdrawn:
            found.missing = Breach(holdings.named(entry, entry.key), "the withdrawal of its blob in the log", "none")
            return
        if not self._hold_object(entry, entry.key, entry.size_bytes, entry.sha256, found):
            self._excuse_withdrawn(entry, entry.key, found)
            return
        body = self._asked(lambda: self._source.read(key))
        if body is None:
            self._excuse_withdrawn(entry, key, found)
            return
        submission, breaches = holdings.check_submission(entry, body)
        found.breaches += breaches
        if submission is None or breaches:
            return
        benchmark = keys.parse_benchmark_format(submission.format)
        if benchmark and benchmark[1]:
            self._hold_record(keys.benchmark(submission.project, benchmark[0], benchmark[1]), entry, found)
        if self._size_held(key) is None:
            self._write(key, body, found)

    def _excuse_withdrawn(self, entry: Entry, key: str, found: Findings) -> None:
        breach = Breach(holdings.named(entry, key), "the object, or the withdrawal of its blob", "neither")
        if self._asked(lambda: self._source.head(keys.withdrawal(entry.sha256))) is None:
            raise breach
        found.missing = breach

    def _hold_withdrawal(self, entry: Entry, found: Findings) -> None:
        if self._size_held(entry.key) != entry.size_bytes:
            body = self._asked(lambda: self._source.read(entry.key))
            if body is None:
                raise Breach(holdings.named(entry, entry.key), "the record of the withdrawal", "none")
            found.breaches += holdings.check_withdrawal(entry, body)[1]
            if found.breaches:
                return
            self._write(entry.key, body, found)
        self.withdrawn.add(entry.withdraws)

    def _hold_outcome(self, entry: Entry, found: Findings) -> None:
        with contextlib.suppress(FileNotFoundError):
            held = self._destination.read(entry.key)
            if hashlib.sha256(held).hexdigest() != entry.sha256:
                where = holdings.named(entry, entry.key)
                expected = "none here, or that of the origin: a mirror of the lake processes nothing itself"
                raise Breach(where, expected, "another, made here")
            return
        body = self._asked(lambda: self._source.read(entry.key))
        if body is None:
            where = holdings.named(entry, entry.key)
            found.missing = Breach(where, "the outcome, or a later revision of it", "neither")
            return
        outcome, breaches = holdings.check_outcome(entry, body)
        found.breaches += breaches
        if outcome is None or breaches:
            return
        for part in outcome.parts:
            if not self._hold_object(entry, part.key, part.size_bytes, part.sha256, found):
                where = holdings.named(entry, part.key)
                found.missing = Breach(where, "the part, or a later revision of its outcome", "neither")
                return
        self._write(entry.key, body, found)

    def _hold_record(self, key: str, entry: Entry, found: Findings) -> None:
        """A record that never changes and whose content nobody has promised."""
        if keys.is_public(key) and self._size_held(key) is None:
            body = self._asked(lambda: self._source.read(key))
            if body is None:
                found.notes.append(f"{holdings.named(entry, key)} is not there")
            else:
                self._write(key, body, found)

    def _hold_object(self, entry: Entry, key: str, size_bytes: int, sha256: str, found: Findings) -> bool:
        """Whether the object is held now; raises Breach if the source has another under its key."""
        held = self._size_held(key)
        if held == size_bytes:
            return True
        if held is not None:  # damaged here, since its key says what it is
            self._destination.delete(key)
        fetch = self._fetched_whole if size_bytes <= WHOLE_BYTES else self._fetched_file
        for _ in range(1 + len(self._looks_again)):
            fetched = fetch(key, size_bytes, self._partial / f"{sha256}-{entry.seq}")
            if fetched is None:
                return False
            body, found_bytes, digest = fetched
            if digest == sha256:
                self._write(key, body, found)
            if isinstance(body, Path):
                body.unlink()
            if digest == sha256:
                return True
        where = holdings.named(entry, key)
        if found_bytes == size_bytes:
            raise Breach(where, f"SHA-256 {sha256}", digest)
        raise Breach(where, f"{size_bytes:,} bytes", f"{found_bytes:,}" if found_bytes < size_bytes else "more")

    def _fetched_whole(self, key: str, size_bytes: int, _: Path) -> tuple[bytes | Path, int, str] | None:
        """The source's object in memory, its size and digest; None if it has none. One byte too many is enough."""
        body = self._asked(lambda: self._source.read(key, 0, size_bytes + 1))
        return None if body is None else (body, len(body), hashlib.sha256(body).hexdigest())

    def _fetched_file(self, key: str, size_bytes: int, path: Path) -> tuple[bytes | Path, int, str] | None:
        """The same as a file at `path`, where some of it may be already."""
        if not self._asked(lambda: self._source.fetch_to(key, path, size_bytes)):
            path.unlink(missing_ok=True)
            return None
        return path, path.stat().st_size, digest_of(path)

    def _write(self, key: str, body: bytes | Path, found: Findings) -> None:
        found.objects += 1
        found.size_bytes += body.stat().st_size if isinstance(body, Path) else len(body)
        with contextlib.suppress(FileExistsError):  # two entries may name one blob
            self._destination.create(key, body)

    def _size_held(self, key: str) -> int | None:
        try:
            return self._destination.head(key).size_bytes
        except FileNotFoundError:
            return None

    def _asked(self, ask: Callable[[], T]) -> T | None:
        """What `ask` gives; None if the source has not got it, however often one looks."""
        for pause in (0.0, *self._looks_again):
            if pause:
                self._sleep(pause)
            with contextlib.suppress(FileNotFoundError):
                return ask()
        return None
