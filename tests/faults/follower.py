"""A stranger who follows both logs while everything around falls: what was said once must be said for ever."""

import contextlib
import hashlib
import threading

import msgspec

from feed.log import LogReader
from infra.bucket import Bucket
from schemas import keys
from schemas.errors import Unavailable
from schemas.records import Entry

LOGS = (keys.SUBMISSIONS_LOG, keys.outcomes_log(1))


class Follower(threading.Thread):
    """Notes each entry and the digest of each page as first seen; `contradictions` tells what was different later."""

    def __init__(self, public: Bucket) -> None:
        super().__init__(name="follower")
        self.contradictions: list[str] = []
        self.looks = 0
        self._public = public
        self._readers = {log: LogReader(public, log) for log in LOGS}
        self._entries: dict[str, list[bytes]] = {log: [] for log in LOGS}
        self._pages: dict[str, str] = {}
        self._ending = threading.Event()

    def run(self) -> None:
        while not self._ending.wait(0.5):
            with contextlib.suppress(Unavailable):
                self.look()

    def stop(self) -> None:
        self._ending.set()
        self.join()

    def look(self) -> None:
        """Read what is new; and the whole head, which must not say anything else than before."""
        for log, reader in self._readers.items():
            head = reader.head()
            seen = self._entries[log]
            if len(seen) > head.last_seq:
                self.contradictions.append(f"log {log}: had {len(seen)} entries, has {head.last_seq}")
            for entry in [*reader.entries_after(len(seen), 1 << 20), *head.entries]:
                self._note(log, entry)
            self._note_pages(log)
        self.looks += 1

    def look_again(self) -> None:
        """Read both logs from entry 1, and each page ever seen."""
        for log in LOGS:
            reader = LogReader(self._public, log)
            for entry in reader.entries_after(0, 1 << 20):
                self._note(log, entry)
            self._note_pages(log)
        for key, digest in self._pages.items():
            try:
                found = hashlib.sha256(self._public.read(key)).hexdigest()
            except FileNotFoundError:
                found = "nothing"
            if found != digest:
                self.contradictions.append(f"page {key}: was {digest}, is {found}")

    def _note(self, log: str, entry: Entry) -> None:
        seen, said = self._entries[log], msgspec.json.encode(entry)
        if entry.seq == len(seen) + 1:
            seen.append(said)
        elif entry.seq > len(seen) or seen[entry.seq - 1] != said:
            was = seen[entry.seq - 1].decode() if entry.seq <= len(seen) else f"entry {len(seen)} the last"
            self.contradictions.append(f"log {log}: said {was}, says {said.decode()}")

    def _note_pages(self, log: str) -> None:
        for key in self._public.list(keys.feed_prefix(log)):
            if keys.parse_page(key) and key not in self._pages:
                self._pages[key] = hashlib.sha256(self._public.read(key)).hexdigest()
