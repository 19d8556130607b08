"""A run as a file of another format: which targets there are, which fit a run, and the way from its rows to a file.

The export of a run that came in chunks holds what has arrived and says how much that is. What each target makes of a
row, and what it cannot carry, stands in the tables of `export_measurements` and `export_tests`.
"""

import contextlib
import tempfile
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from dashboard_api import queries, summaries
from dashboard_api.database import Snapshot
from dashboard_api.export_measurements import BMF_ORDER, write_bmf, write_pytest_benchmark
from dashboard_api.export_source import TABLES, Source, Write, read_batches
from dashboard_api.export_tables import write_csv, write_parquet
from dashboard_api.export_tests import write_ctrf, write_junit
from dashboard_api.resources import Run
from schemas.errors import Refused, Unavailable

AT_ONCE = 2
WAIT_SECONDS = 30.0
"""How long an export waits for others to be written before it gives up."""

WAITING_AT_ONCE = 1
"""More give up at once: each that waits takes a thread, and pages and API answer from few (five on one core)."""

_PIECE = 1 << 20


@dataclass(frozen=True)
class Target:
    """A format to export to. `table` is what it takes; empty: either."""

    id: str
    title: str
    media_type: str
    suffix: str
    table: str
    write: Write
    order: str = ""


_JSON = "application/json"
TARGETS = {
    one.id: one
    for one in (
        Target("pytest-benchmark", "pytest-benchmark", _JSON, "json", "measurements", write_pytest_benchmark),
        Target("bmf", "Bencher (BMF)", _JSON, "json", "measurements", write_bmf, BMF_ORDER),
        Target("junit", "JUnit XML", "application/xml", "xml", "tests", write_junit),
        Target("ctrf", "CTRF", _JSON, "json", "tests", write_ctrf),
        Target("csv", "CSV", "text/csv", "csv", "", write_csv),
        Target("parquet", "Parquet", "application/vnd.apache.parquet", "parquet", "", write_parquet),
    )
}

_turns = threading.BoundedSemaphore(AT_ONCE)
_places_to_wait = threading.BoundedSemaphore(WAITING_AT_ONCE)


class Exported:
    """A finished export, to be read once, piece by piece. Its file is gone when it has been read or is forgotten, as
    when a client hangs up."""

    def __init__(self, file: IO[bytes], source: Source) -> None:
        self.size_bytes = file.tell()
        self.left_out = str(source.left_out)
        self.parts = source.parts
        self._file = file
        self._close = weakref.finalize(self, file.close)
        file.seek(0)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._close.alive:
            raise StopIteration
        piece = self._file.read(_PIECE)
        if self._file.tell() >= self.size_bytes:  # now: who has the last byte may hang up before asking for more
            self._close()
        return piece


def chosen_target(name: str, table: str | None) -> Target:
    """Refused 400 for a name or table that nobody knows."""
    if name not in TARGETS:
        raise Refused("as", "one of " + ", ".join(TARGETS), repr(name[:80]))
    if table is not None and table not in TABLES:
        raise Refused("table", "one of " + ", ".join(TABLES), repr(table[:80]))
    return TARGETS[name]


def held(run: Run) -> list[str]:
    """The tables that the run has rows in."""
    return [table for table in TABLES if getattr(run, table)]


def fitting(run: Run) -> list[Target]:
    """The targets that can carry some of the run's rows."""
    tables = held(run)
    return [target for target in TARGETS.values() if tables and (not target.table or target.table in tables)]


def chosen_table(run: Run, target: Target, table: str = "") -> str:
    """The table to export. Refused 422, naming what would work, where the run has no such rows or it is not clear."""
    tables = held(run)
    names = ", ".join(one.id for one in fitting(run)) or "none: it has no rows"
    found = f"{target.id} of a run with {' and '.join(tables) or 'neither measurements nor tests'}"
    if target.table and table not in ("", target.table):
        raise Refused("table", f"{target.table}, which is what {target.id} holds", repr(table[:80]), status=422)
    wanted = target.table or table
    if (wanted and wanted not in tables) or not tables:
        raise Refused("as", f"a format for what the run has ({names})", found, status=422)
    if not wanted and len(tables) > 1:
        raise Refused("table", "measurements or tests, since the run has both", "neither", status=422)
    return wanted or tables[0]


def export(snapshot: Snapshot, run: Run, target: Target, table: str = "") -> Exported:
    """Write the export into a file without a name. Nothing of it is in memory but a batch of rows, and the snapshot is
    free when this returns, however slowly the file is read.

    Raises Refused 422 where nothing of the run fits, Unavailable while too many others are being written and where the
    disk is full.
    """
    chosen = chosen_table(run, target, table)
    statuses = summaries.test_counts(snapshot, run.run) if chosen == "tests" else {}
    source = Source(run, chosen, read_batches(snapshot, run.run, chosen, target.order), statuses)
    _take_turn()
    try:
        with contextlib.ExitStack() as opened:
            file = opened.enter_context(tempfile.TemporaryFile(prefix="runfeed-export-"))
            for piece in target.write(source):
                file.write(piece)
            if chosen == "measurements" and sum(source.left_out.counts.values()) >= run.measurements:
                others = ", ".join(one.id for one in fitting(run) if one is not target)
                found = f"only {source.left_out}"
                raise Refused("as", f"a format that can carry the run ({others})", found, status=422)
            opened.pop_all()
            return Exported(file, source)
    except OSError as error:
        raise Unavailable(f"no room to write the export: {error.strerror or error}") from error
    finally:
        _turns.release()


def _take_turn() -> None:
    if _turns.acquire(blocking=False):
        return
    if _places_to_wait.acquire(blocking=False):
        try:
            if _turns.acquire(timeout=WAIT_SECONDS):
                return
        finally:
            _places_to_wait.release()
    raise Unavailable("too many exports at once")


def find_run(snapshot: Snapshot, run_id: str) -> Run:
    """Refused 404 if there is none."""
    run = queries.run(snapshot, run_id)
    if run is None:
        raise Refused("run", "a known run", repr(run_id[:80]), status=404)
    return run
