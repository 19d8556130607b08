"""Whether a log announces each id once: what has been seen lies in a file of its own, so memory stays flat."""

import sqlite3
from collections.abc import Iterator
from types import TracebackType

from feed.breach import Breach
from schemas.records import Entry


class Announced:
    """The ids of the entries seen so far. For one thread."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)  # a temporary file, which SQLite removes
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE announced (id TEXT PRIMARY KEY, seq INTEGER) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def __enter__(self) -> "Announced":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._database.close()

    def twice(self, entry: Entry) -> Iterator[Breach]:
        """Take `entry`, and say so if its id was announced before."""
        taken = self._database.execute("INSERT OR IGNORE INTO announced VALUES (?, ?)", (entry.id, entry.seq))
        if taken.rowcount == 0:
            ((first,),) = self._database.execute("SELECT seq FROM announced WHERE id = ?", (entry.id,))
            yield Breach(f"entry {entry.seq}", "an id that was not announced before", f"{entry.id}, as entry {first}")
