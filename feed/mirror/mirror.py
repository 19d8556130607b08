"""A complete copy of somebody's public bucket: logs, all that their entries name, and what is needed to serve it again.

Everything stands under its own key, so what serves the origin serves the copy, and a mirror can be mirrored. With
`lake`, outcomes and parts come too, and whoever serves the copy need not process a thing again. What a log withdraws
is held as its record alone: our own copies of the blob and its submissions go as soon as the log here says so.
"""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import msgspec

from feed.breach import Breach
from feed.mirror.copier import Copier
from feed.mirror.log_copy import LogCopy, Look, NotAnnouncedYet, replace_object
from feed.mirror.pace import Pace, Paced
from feed.verify.examine import LOOKS_AGAIN
from feed.verify.proof import Remembered, remembered_of
from infra.bucket import Bucket, exists
from schemas import keys
from schemas.errors import Refused, SwapLost
from schemas.records import LakeVersion, Outcome, Project

Progress = Callable[[str, int, int, int], None]
"""Told of a log, which of its entries is held, the last that there is, and how many bytes have come."""

_ATTEMPTS = 8
_LOOKS_AT_HEAD = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Pauses between looks at a head that does not announce a withdrawal yet."""


@dataclass(frozen=True)
class Wish:
    """How to mirror."""

    lake: bool = False
    mend: bool = True
    """Look for each object that should be held already, and copy again what is missing."""
    key: str = ""
    """Public key that must have signed the logs."""
    parallel: int = 8
    looks_again: tuple[float, ...] = LOOKS_AGAIN
    looks_at_head: tuple[float, ...] = _LOOKS_AT_HEAD


@dataclass
class Mirrored:
    """What a mirror holds, and what came."""

    logs: dict[str, Remembered] = field(default_factory=dict)
    """Of each log what is held and proved."""
    entries: int = 0
    objects: int = 0
    size_bytes: int = 0
    """Read from the origin."""
    removed: int = 0
    """Objects of withdrawn blobs."""
    notes: list[str] = field(default_factory=list)


class Mirror:
    """Mirrors `source` into `destination`; `partial` is a folder of ours for large blobs under way.

    `on_withdrawn` is told of each blob that the mirror's log has come to withdraw. Ends with `close`.
    """

    def __init__(
        self,
        source: Bucket,
        destination: Bucket,
        partial: Path,
        wish: Wish,
        *,
        pace: Pace | None = None,
        progress: Progress = lambda log, seq, last, size: None,
        on_withdrawn: Callable[[str], None] = lambda sha256: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._pace = pace or Pace()
        self._source = cast(Bucket, Paced(source, self._pace))
        self._destination = destination
        self._partial = partial
        self._wish = wish
        self._progress = progress
        self._on_withdrawn = on_withdrawn
        self._sleep = sleep
        self._pool = ThreadPoolExecutor(wish.parallel, "mirror")
        self._copies: dict[str, LogCopy] = {}
        self._entries = 0
        self._removed = 0
        self._notes: list[str] = []
        self._purged: set[str] = set()
        self._partial.mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def step(self) -> int:
        """Bring the mirror level with the origin as it is now; the number of entries that came.

        Raises Breach where the origin breaks a promise, or has another past than the mirror, Refused if it has no log,
        and Unavailable for what may work later.
        """
        serving = self._serving_lake() if self._wish.lake else None
        # Outcomes are looked at first: whatever they speak of is in the submissions log by then, here as there.
        outcomes = self._opened(keys.outcomes_log(serving.version)) if serving else None
        look = outcomes.look() if outcomes else None
        submissions = self._opened(keys.SUBMISSIONS_LOG)
        came = self._level(submissions, None)
        if outcomes and look and serving:
            came += self._level(outcomes, look)
            if serving != LakeVersion():
                replace_object(self._destination, keys.CURRENT_LAKE, msgspec.json.encode(serving))
        self._copy_projects(submissions)
        self._entries += came
        return came

    def summary(self) -> Mirrored:
        """What is held now, and what came since the beginning."""
        copies = self._copies.values()
        return Mirrored(
            logs={copy.log: remembered_of(copy.held.proof, copy.held.document) for copy in copies if copy.held},
            entries=self._entries,
            objects=sum(copy.objects for copy in copies),
            size_bytes=self._pace.size_bytes,
            removed=self._removed,
            notes=[*dict.fromkeys([*self._notes, *(note for copy in copies for note in copy.notes)])],
        )

    # --- logs ---

    def _opened(self, log: str) -> LogCopy:
        """The copy of `log`, its past proved once."""
        if log not in self._copies:
            source = cast(Paced, self._source)
            copier = Copier(
                source, self._destination, log, self._partial, looks_again=self._wish.looks_again, sleep=self._sleep
            )
            copy = LogCopy(self._source, self._destination, log, copier, self._pool, key=self._wish.key)
            copy.open(self._reached(log, 0), mend=self._wish.mend)
            self._copies[log] = copy
            self._remove_what_is_gone(copy)
        return self._copies[log]

    def _level(self, copy: LogCopy, look: Look | None) -> int:
        """Take `copy` as far as `look`, or as the origin is now; the number of entries that came.

        Somebody else may be writing here, another mirror or a server; then it is opened again.
        """
        pauses = iter(self._wish.looks_at_head)
        for _ in range(_ATTEMPTS):
            now = look or copy.look()
            if now is None:
                raise Refused(f"log {copy.log}", "a log at the origin", "none", status=404)
            try:
                came = copy.advance(now, self._reached(copy.log, now.last))
            except NotAnnouncedYet as waiting:
                pause = next(pauses, None)
                if pause is None:
                    raise waiting.breach from waiting
                self._sleep(pause)
                look = None
                continue
            except SwapLost:
                copy.open(self._reached(copy.log, now.last), mend=False)
                continue
            self._remove_what_is_gone(copy)
            return came
        raise SwapLost(f"log {copy.log}: somebody else writes to this mirror all the time")

    def _reached(self, log: str, last: int) -> Callable[[int], None]:
        return lambda seq: self._progress(log, seq, max(seq, last), self._pace.size_bytes)

    # --- what has to go ---

    def _remove_what_is_gone(self, copy: LogCopy) -> None:
        """Our copies of what the log here withdraws, and outcomes that were revised since they spoke of it."""
        new = {sha256 for sha256 in copy.withdrawals - self._purged if copy.held}
        if copy.log != keys.SUBMISSIONS_LOG:
            for first in copy.revised:
                self._remove_revised(copy.log, first)
            copy.revised.clear()
            return
        there = {sha256 for sha256 in new if exists(self._destination, keys.blob(sha256))}
        for entry in copy.entries() if there else ():
            if entry.sha256 in there and not entry.withdraws:
                self._remove(keys.submission(entry.id))
        for sha256 in sorted(there):
            self._on_withdrawn(sha256)
            self._remove(keys.blob(sha256))  # last: as long as it is there, something may be left
        self._purged |= new

    def _remove_revised(self, log: str, first: int) -> None:
        """Of a batch in which something was withdrawn all outcomes but the newest, and parts that it does not name."""
        version = int(log.removeprefix(keys.outcomes_log(0)[:-1]))
        revisions = sorted(self._destination.list(f"lake/v{version}/outcomes/{keys.padded(first)}/"))
        if len(revisions) < 2:
            return
        newest = msgspec.json.decode(self._destination.read(revisions[-1]), type=Outcome)
        if not any(one.verdict == "withdrawn" for one in newest.submissions):
            return
        kept = {part.key for part in newest.parts}
        for key in revisions[:-1]:
            older = msgspec.json.decode(self._destination.read(key), type=Outcome)
            for part in older.parts:
                if part.key not in kept:
                    self._remove(part.key)
            self._remove(key)

    def _remove(self, key: str) -> None:
        if exists(self._destination, key):
            self._destination.delete(key)
            self._removed += 1

    # --- what no log promises ---

    def _serving_lake(self) -> LakeVersion:
        """Which lake version serves at the origin."""
        try:
            body, _ = self._source.read_versioned(keys.CURRENT_LAKE)
        except FileNotFoundError:
            return LakeVersion()
        try:
            return msgspec.json.decode(body, type=LakeVersion)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Breach(keys.CURRENT_LAKE, "the JSON of a lake version", str(error)) from error

    def _copy_projects(self, copy: LogCopy) -> None:
        """What is public of the projects that the log named since. It may change at any time, and nobody signs it."""
        for name in sorted(copy.projects):
            if not keys.PROJECT.fullmatch(name) or ".." in name:
                continue
            key = keys.project(name)
            with contextlib.suppress(FileNotFoundError, Refused, msgspec.DecodeError, SwapLost):
                body = self._source.read(key)
                if msgspec.json.decode(body, type=Project).name == name:
                    replace_object(self._destination, key, body)
        copy.projects.clear()
