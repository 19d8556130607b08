"""How far one source has come, as the process knows it that looks at it now; and its claim to be the only one."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from infra.bucket import Bucket
from ingest.ci import printable
from ingest.source.store import read_state, write_state
from ingest.source.take import Ending, Unreached
from schemas.errors import Refused
from schemas.records import Problem, Receipt, Source, SourceNote

CLAIM_SECONDS = 120.0
"""For how long others keep away from a source after a sign of who looks at it."""

LOOK_SECONDS = 60.0
"""Of one look; what is left after it waits until other sources have had theirs."""

MAX_TRIES = 8
"""Of a file that may do later, one a look; then it is refused and the others go on."""

MAX_SEEN = 10_000
MAX_NOTES = 50
MAX_TRIED = 1000

_SAVE_ITEMS, _SAVE_SECONDS = 50, 5.0
_LONGEST = 300

Tell = Callable[[str, str, str], None]
"""Is told what became of an entry: taken, known, skipped, refused, later or withdrawn; its id, and why or what."""


class Enough(Exception):
    """The look has had its time, and there is more to do."""


class Progress:
    """The state of `source`. Saving raises SwapLost where another process has it, or the source was removed."""

    def __init__(
        self, private: Bucket, source: Source, clock: Callable[[], datetime], tell: Tell, stopping: Callable[[], bool]
    ) -> None:
        self.source = source
        self.clock = clock
        self._private = private
        self._tell = tell
        self._stopping = stopping
        self._until = time.monotonic() + LOOK_SECONDS
        self._unsaved, self._saved_at = 0, time.monotonic()
        self.state, self._etag = read_state(private, source)

    def claim(self) -> None:
        """Keep others away for a while."""
        self.change(looked=self.clock())
        self.save()

    def change(self, **changes: Any) -> None:
        self.state = msgspec.structs.replace(self.state, **changes)

    def save(self, next_look: datetime | None = None) -> None:
        """Write down how far it is; with `next_look` give the claim back."""
        self.change(next_look=next_look or self.clock() + timedelta(seconds=CLAIM_SECONDS))
        self._etag = write_state(self._private, self.source, self.state, self._etag)
        self._unsaved, self._saved_at = 0, time.monotonic()

    def step(self) -> None:
        """Between two entries: save now and then, and stop when it is time."""
        self._unsaved += 1
        if self._unsaved >= _SAVE_ITEMS or time.monotonic() - self._saved_at > _SAVE_SECONDS:
            self.save()
        if self._stopping():
            raise Ending("this process is being ended")
        if time.monotonic() > self._until:
            raise Enough

    # --- what became of an entry ---

    def took(self, entry: str, receipt: Receipt) -> None:
        if receipt.status == "created":
            self.change(taken=self.state.taken + 1)
            self._tell("taken", entry, receipt.id)
        else:
            self.knew(entry, receipt)

    def knew(self, entry: str, receipt: Receipt) -> None:
        self.change(known=self.state.known + 1)
        self._tell("known", entry, receipt.id)

    def skipped(self, entry: str, reason: str) -> None:
        self.change(skipped=self.state.skipped + 1)
        self._tell("skipped", entry, reason)

    def refused(self, entry: str, url: str, error: Refused) -> None:
        self.change(refused=self.state.refused + 1)
        self.note("refused", entry, url, error)

    def note(self, word: str, entry: str, url: str, error: Refused) -> None:
        """Keep for `runfeed source show` what somebody should know."""
        where, expected, found = (printable(text, _LONGEST) for text in (error.where, error.expected, error.found))
        problem = Problem(where=where, expected=expected, found=found)
        note = SourceNote(
            time=self.clock(), entry=printable(entry, _LONGEST), url=printable(url, 2000), problem=problem
        )
        self.change(notes=[*self.state.notes, note][-MAX_NOTES:])
        self._tell(word, entry, str(problem))

    def may_do_later(self, item: str, entry: str, url: str, error: Unreached) -> bool:
        """Count a try of `item` in vain; False once that were enough, when it is refused."""
        tries = self.state.tries.get(item, 0) + 1
        if tries < MAX_TRIES:
            others = [(name, count) for name, count in self.state.tries.items() if name != item]
            self.change(tries=dict([*others, (item, tries)][-MAX_TRIED:]))
            self._tell("later", entry, str(error))
            return True
        self.change(tries={name: count for name, count in self.state.tries.items() if name != item})
        self.refused(entry, url, Refused(url, f"an answer within {MAX_TRIES} looks", str(error)))
        return False

    def forget_tries(self, item: str) -> None:
        if item in self.state.tries:
            self.change(tries={name: count for name, count in self.state.tries.items() if name != item})
