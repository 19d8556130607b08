"""The dashboard of one process: the database that answers, and the loader that keeps it level.

When the lake switches to another version, the new version's file is loaded beside the old one, which answers until the
new one is level with its log.
"""

from collections.abc import Callable
from pathlib import Path

import duckdb
import msgspec

from dashboard_api.database import Database, remove_file
from dashboard_api.loader import Loader
from feed.log import LogReader
from infra.bucket import Bucket
from schemas import keys
from schemas.records import LakeVersion


class Dashboard:
    """Answers from `database()`. One thread calls `step`; any number read."""

    def __init__(
        self, public: Bucket, reader_of: Callable[[str], LogReader], folder: Path, *, memory_limit: str
    ) -> None:
        self.public = public
        self._reader_of = reader_of
        self._folder = folder
        self._memory_limit = memory_limit
        version = self._current_version()
        for path in folder.glob("v*.duckdb"):
            if path != self._path(version):  # of a switch that happened while nobody served, or was not finished
                remove_file(path)
        self._serving = self._open(version)
        self._next: tuple[Database, Loader] | None = None

    def database(self) -> Database:
        """The database to answer from now; ask again for the next answer."""
        return self._serving[0]

    def step(self) -> int:
        """Load what is new; when the lake has switched, build the new version's file and change over when level."""
        version = self._current_version()
        if self._next is not None and self._next[0].lake_version != version:
            abandoned, self._next = self._next[0], None
            _discard(abandoned)
        if version == self._serving[0].lake_version:
            return self._load_serving()
        if self._next is None:
            self._next = self._open(version)
        if loaded := self._next[1].load():
            return loaded
        old, self._serving, self._next = self._serving[0], self._next, None
        _discard(old)
        return 1

    def _load_serving(self) -> int:
        database, loader = self._serving
        try:
            return loader.load()
        except (duckdb.FatalException, duckdb.ConnectionException):
            # DuckDB refuses everything from now on, as after a checkpoint on a full disk, though the file is whole.
            # Open it anew, as soon as the last reader has let go of it.
            database.close()
            if database.closed:
                self._serving = self._open(database.lake_version)
            raise

    def close(self) -> None:
        """Close the files; call when nobody steps or reads any more."""
        for opened in (self._serving, self._next):
            if opened is not None:
                opened[0].close()

    def _current_version(self) -> int:
        try:
            return msgspec.json.decode(self.public.read(keys.CURRENT_LAKE), type=LakeVersion).version
        except FileNotFoundError:
            return 1

    def _open(self, version: int) -> tuple[Database, Loader]:
        database = Database(self._path(version), version, memory_limit=self._memory_limit)
        submissions, outcomes = self._reader_of(keys.SUBMISSIONS_LOG), self._reader_of(keys.outcomes_log(version))
        return database, Loader(database, self.public, submissions, outcomes)

    def _path(self, version: int) -> Path:
        return self._folder / f"v{version}.duckdb"


def _discard(database: Database) -> None:
    """Close and remove it; readers that still hold a snapshot finish theirs."""
    database.close()
    remove_file(database.path)
