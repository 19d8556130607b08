"""The dashboard of one process: the database that answers, and the loader that keeps it level.

Any number of replicas answer alike, each from a file of its own. One that has no file, or one that has fallen far
behind, starts from a published snapshot if there is one (`snapshots`), and follows the logs from there.

When the lake switches to another version, the new version's file is loaded beside the old one, which answers until the
new one is level with its log.
"""

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import msgspec
import structlog

from dashboard_api import snapshots
from dashboard_api.database import Database, remove_file, replace_file
from dashboard_api.loader import OUTCOMES_PER_LOAD, Loader
from feed.log import LogReader
from infra.bucket import Bucket
from schemas import keys
from schemas.records import LakeVersion

FAR_BEHIND = 20 * OUTCOMES_PER_LOAD
"""Outcomes that a snapshot must be ahead of a file for the file to be given up: fewer are loaded as quickly."""

_log = structlog.get_logger()


class Dashboard:
    """Answers from `database()`. One thread calls `step`, another may call `publish`; any number read.

    Making one may take as long as reading a snapshot does. Raises Unavailable while storage fails.
    """

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
        for path in folder.glob(f"{snapshots.WORKING}*"):  # of a process that died while it published
            shutil.rmtree(path, ignore_errors=True)
        for path in folder.glob("*.coming*"):  # of one that died while it fetched
            path.unlink(missing_ok=True)
        self._serving = self._open(version)
        self._next: tuple[Database, Loader] | None = None

    def database(self) -> Database:
        """The database to answer from now; ask again for the next answer."""
        return self._serving[0]

    @property
    def behind(self) -> int | None:
        """How many announced outcomes were not loaded yet when the loader last looked; None before it has looked."""
        return self._serving[1].behind

    @property
    def level(self) -> bool:
        """Whether it is fit to answer: no more than a load behind its log. Stays so while storage fails."""
        return self.behind is not None and self.behind <= OUTCOMES_PER_LOAD

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

    def publish(self, every: timedelta, now: datetime) -> int:
        """Publish a snapshot if the last one is older than `every`, and remove those that it replaces.

        Only a dashboard that is level does. Returns 0, as there is never more to do at once.
        """
        database = self.database()
        if self.level and snapshots.publish(database, self.public, self._folder, every=every, now=now):
            snapshots.sweep(self.public, database.lake_version, now)
        return 0

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
        submissions, outcomes = self._reader_of(keys.SUBMISSIONS_LOG), self._reader_of(keys.outcomes_log(version))
        database = self._open_file(version)
        try:
            with database.snapshot() as snapshot:
                loaded = snapshot.outcomes_seq
            fetched = self._fetch_snapshot(version, loaded, outcomes)
        except BaseException:
            database.close()
            raise
        if fetched:
            database.close()
            replace_file(self._path(version), self._coming(version))
            database = self._open_file(version)
        return database, Loader(database, self.public, submissions, outcomes)

    def _fetch_snapshot(self, version: int, loaded: int, outcomes: LogReader) -> bool:
        """Have a published snapshot as a file beside ours, which holds `loaded` outcomes; False if ours will do."""
        for record in snapshots.newest_first(self.public, version):
            if record.outcomes_seq <= loaded or (loaded and record.outcomes_seq - loaded < FAR_BEHIND):
                return False
            # One that is ahead of its log is of another past, as when the bucket was restored from a copy.
            if record.outcomes_seq <= outcomes.last_seq() and snapshots.fetch(
                self.public, record, self._coming(version)
            ):
                _log.info("starting from a published snapshot", snapshot=record.key, size_bytes=record.size_bytes)
                return True
        return False

    def _open_file(self, version: int) -> Database:
        return Database(self._path(version), version, memory_limit=self._memory_limit, bucket=self.public)

    def _path(self, version: int) -> Path:
        return self._folder / f"v{version}.duckdb"

    def _coming(self, version: int) -> Path:
        return self._folder / f"v{version}.duckdb.coming"


def _discard(database: Database) -> None:
    """Close and remove it; readers that still hold a snapshot finish theirs."""
    database.close()
    remove_file(database.path)
