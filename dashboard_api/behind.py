"""How far a dashboard's copy is behind the logs."""

from collections.abc import Callable, Mapping

from dashboard_api.answers import AnswerCache
from dashboard_api.database import Snapshot
from dashboard_api.desk import DashboardSource, Desk
from feed.lag import Report, Waiting, unread
from feed.log import LogReader
from schemas import keys
from schemas.tables import TABLES

_OUTCOMES_LOOKED_AT = 200
_TABLES = (*TABLES, "submissions", "outcomes")


class Logs:
    """The heads of both logs, seen from a dashboard. Raises Unavailable if storage does not answer."""

    def __init__(self, reader_of: Callable[[str], LogReader]) -> None:
        self._reader_of = reader_of

    def unloaded(self, snapshot: Snapshot) -> Waiting:
        """Entries of either log that the snapshot does not have."""
        found = [
            unread(self._reader_of(keys.SUBMISSIONS_LOG), snapshot.submissions_seq),
            unread(self._outcomes(snapshot), snapshot.outcomes_seq),
        ]
        return Waiting(sum(one.count for one in found), min((one.oldest for one in found if one.oldest), default=None))

    def batches_with_outcome(self, snapshot: Snapshot) -> list[int] | None:
        """The batches whose outcome is in the log and not in the snapshot; None if there are too many to look."""
        entries = self._outcomes(snapshot).entries_after(snapshot.outcomes_seq, _OUTCOMES_LOOKED_AT)
        return [int(entry.id.partition("-")[0]) for entry in entries] if len(entries) < _OUTCOMES_LOOKED_AT else None

    def _outcomes(self, snapshot: Snapshot) -> LogReader:
        return self._reader_of(keys.outcomes_log(snapshot.lake_version))


class Replica:
    """Tells metrics how far a dashboard's copy is behind, and how large it is; `look` is a loop's step."""

    def __init__(
        self,
        source: DashboardSource,
        reader_of: Callable[[str], LogReader],
        report: Report,
        report_copy: Callable[[int, int, Mapping[str, int]], None],
    ) -> None:
        self._desk = Desk(source, AnswerCache(0), dict)
        self._logs = Logs(reader_of)
        self._report = report
        self._report_copy = report_copy

    def look(self) -> int:
        """Report; 0, so that the loop rests."""
        self._desk.read(self._look)
        return 0

    def _look(self, snapshot: Snapshot) -> None:
        rows = {table: snapshot.rows(f"SELECT count(*) AS rows FROM {table}")[0]["rows"] for table in _TABLES}
        self._report_copy(snapshot.lake_version, snapshot.outcomes_seq, rows)
        unloaded = self._logs.unloaded(snapshot)
        self._report("load", unloaded.count, unloaded.oldest)
