"""Snapshots: a dashboard's database of one data version in the public bucket, for new replicas to start from.

A snapshot is a whole DuckDB file; its record, written after it, says what it holds. Both keys name the data, so the
newest is found by listing, and two dashboards that publish at once write two snapshots, of which either will do. Parts
that are read in place are not in it: they are fetched from the lake when somebody asks. It is not compressed, since
DuckDB compresses its columns itself (zstd takes off another fifth).

A snapshot is only a shortcut. Whoever finds none that fits loads the logs from entry 1.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from pathlib import Path

import duckdb
import msgspec
import structlog

from dashboard_api.database import Database, fits, layout
from infra.bucket import Bucket
from infra.folder import storage_errors
from schemas import keys
from schemas.records import PublishedSnapshot

KEPT = 2
"""Snapshots of one lake version and layout; older ones go, but not from under a replica that reads one."""

READ_FOR = timedelta(hours=1)
"""How long a replica may take to read a snapshot after a newer one has been published."""

ABANDONED = timedelta(weeks=1)
"""After which go snapshots of a lake version or layout of which nobody publishes any more, and files without record."""

WORKING = "publishing-"
"""What folders begin with in which a snapshot is made; one that is left over belongs to nobody."""

_PIECE_BYTES = 8 << 20
_PIECES_AT_ONCE = 4

_log = structlog.get_logger()


# --- publishing ---


def publish(
    database: Database, bucket: Bucket, folder: Path, *, every: timedelta, now: datetime
) -> PublishedSnapshot | None:
    """Publish what `database` holds, made in `folder`; None if another has published the same or less than `every` ago.

    Clocks are compared, but only to save work.
    """
    newest = next(newest_first(bucket, database.lake_version), None)
    with database.snapshot() as snapshot:
        news = snapshot.outcomes_seq - (newest.outcomes_seq if newest else 0)
    if news <= 0 or (newest and timedelta(0) <= now - newest.published < every):
        return None
    with storage_errors(str(folder)), tempfile.TemporaryDirectory(dir=folder, prefix=WORKING) as working:
        path = Path(working) / "snapshot.duckdb"
        cursors = database.copy(path)
        record = _describe(path, database.lake_version, cursors, now)
        with contextlib.suppress(FileExistsError):
            bucket.create(record.key, path)
    with contextlib.suppress(FileExistsError):
        bucket.create(keys.snapshot_record(record.key), msgspec.json.encode(record))
    return record


def _describe(path: Path, lake_version: int, cursors: dict[str, int], now: datetime) -> PublishedSnapshot:
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    outcomes_seq = cursors.get(keys.outcomes_log(lake_version), 0)
    submissions_seq = cursors.get(keys.SUBMISSIONS_LOG, 0)
    return PublishedSnapshot(
        key=keys.snapshot(lake_version, layout(), outcomes_seq, submissions_seq, sha256),
        sha256=sha256,
        size_bytes=path.stat().st_size,
        lake_version=lake_version,
        outcomes_seq=outcomes_seq,
        submissions_seq=submissions_seq,
        layout=layout(),
        duckdb=duckdb.__version__,
        published=now,
    )


def sweep(bucket: Bucket, lake_version: int, now: datetime) -> int:
    """Remove snapshots that newer ones replace, and what nobody can use; returns how many objects went."""
    own = keys.snapshots_prefix(lake_version, layout())
    gone: list[str] = []
    for folder, found in groupby(bucket.list(keys.SNAPSHOTS), lambda key: key[: key.rfind("/") + 1]):
        of_folder = list(found)
        records = [record for key in _records_newest_first(of_folder) if (record := _read(bucket, key))]
        if folder == own:
            replaced = [old for new, old in pairwise(records[KEPT - 1 :]) if now - new.published > READ_FOR]
        else:
            replaced = records if records and now - records[0].published > ABANDONED else []
        gone += [key for record in replaced for key in (keys.snapshot_record(record.key), record.key)]
        known = {key for record in records for key in (keys.snapshot_record(record.key), record.key)}
        gone += [key for key in of_folder if key not in known and _is_abandoned(bucket, key, now)]
    bucket.delete(*(key for key in gone if key.endswith(".json")))  # first, so that no record is without its file
    bucket.delete(*(key for key in gone if not key.endswith(".json")))
    return len(gone)


def _is_abandoned(bucket: Bucket, key: str, now: datetime) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return now - bucket.head(key).modified > ABANDONED
    return False


# --- starting from one ---


def newest_first(bucket: Bucket, lake_version: int) -> Iterator[PublishedSnapshot]:
    """The records of published snapshots of this lake version that this release can use."""
    for key in _records_newest_first(list(bucket.list(keys.snapshots_prefix(lake_version, layout())))):
        record = _read(bucket, key)
        if record is not None and (record.lake_version, record.layout) == (lake_version, layout()):
            yield record


def fetch(bucket: Bucket, record: PublishedSnapshot, target: Path) -> bool:
    """Have the snapshot as the file `target`, on the disk; False, and no file, if it cannot be used, which is logged.

    Raises Unavailable when trying again may help.
    """
    reason = ""
    try:
        with storage_errors(record.key), open(target, "wb") as file:
            if _download(bucket, record, file.fileno()) != record.sha256:
                reason = "its bytes are not those that were published"
            os.fsync(file.fileno())
        if not reason and not fits(target, record.lake_version):
            reason = f"DuckDB {duckdb.__version__} cannot use it, DuckDB {record.duckdb} wrote it"
    except FileNotFoundError:
        reason = "it is gone"
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    if reason:
        _log.warning("a published snapshot is of no use", snapshot=record.key, reason=reason)
        target.unlink(missing_ok=True)
    return not reason


def _download(bucket: Bucket, record: PublishedSnapshot, descriptor: int) -> str:
    """Write it there, some pieces at a time; returns the digest of what came."""
    digest = hashlib.sha256()
    starts = range(0, record.size_bytes, _PIECE_BYTES)
    with ThreadPoolExecutor(_PIECES_AT_ONCE, "snapshot") as pool:
        for at in range(0, len(starts), _PIECES_AT_ONCE):
            some = starts[at : at + _PIECES_AT_ONCE]
            for piece in pool.map(lambda start: bucket.read(record.key, start, _PIECE_BYTES), some):
                digest.update(piece)
                view = memoryview(piece)
                while view:
                    view = view[os.write(descriptor, view) :]
    return digest.hexdigest()


def _records_newest_first(found: list[str]) -> list[str]:
    return sorted((key for key in found if keys.is_snapshot(key) and key.endswith(".json")), reverse=True)


def _read(bucket: Bucket, key: str) -> PublishedSnapshot | None:
    """The record; None if it is gone, or none."""
    try:
        record = msgspec.json.decode(bucket.read(key), type=PublishedSnapshot)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        _log.warning("this is no record of a snapshot", key=key, reason=str(error))
        return None
    return record if keys.snapshot_record(record.key) == key else None
