"""Which blobs some submission names, in a database in a temporary file, so that memory is bounded.

The log names most of them; the submissions that it does not hold yet are read. One that cannot be read might name any
blob, so then there is no answer. A blob that is withdrawn counts as one that nobody names.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa

from feed.log import LogReader
from feed.withdrawals import withdrawn_blobs
from infra.bucket import Bucket
from schemas import keys
from schemas.errors import Refused
from schemas.records import Entry, Submission

_CHUNK = 10_000
_SCHEMA = """
CREATE TABLE submissions (id VARCHAR);
CREATE TABLE entries (id VARCHAR, sha256 VARCHAR);
CREATE TABLE withdrawn (sha256 VARCHAR);
CREATE TABLE asked (sha256 VARCHAR);
"""


class NamedBlobs:
    """Of the moment in which it was made."""

    def __init__(self, database: duckdb.DuckDBPyConnection, public: Bucket, submissions: LogReader) -> None:
        self._database = database
        database.execute(_SCHEMA)
        found = public.list("submissions/")
        self._insert("submissions", ({"id": key.rpartition("/")[2].removesuffix(".json")} for key in found))
        announced = (one for one in _all_entries(submissions) if not one.withdraws)
        self._insert("entries", ({"id": one.id, "sha256": one.sha256} for one in announced))
        unannounced = self._database.execute(
            "SELECT id FROM submissions WHERE id NOT IN (SELECT id FROM entries)"
        ).fetchall()
        named = ((id, _blob_of(public, id)) for (id,) in unannounced)
        self._insert("entries", ({"id": id, "sha256": sha256} for id, sha256 in named if sha256))
        self._insert("withdrawn", ({"sha256": sha256} for sha256 in withdrawn_blobs(public)))

    def unnamed(self, digests: Iterable[str]) -> Iterator[str]:
        """Those of `digests` that no submission names."""
        self._database.execute("DELETE FROM asked")
        self._insert("asked", ({"sha256": digest} for digest in digests))
        cursor = self._database.cursor()
        cursor.execute(
            """SELECT sha256 FROM asked WHERE sha256 NOT IN (SELECT sha256 FROM entries)
            OR sha256 IN (SELECT sha256 FROM withdrawn) ORDER BY sha256"""
        )
        while rows := cursor.fetchmany(_CHUNK):
            yield from (digest for (digest,) in rows)

    def _insert(self, table: str, rows: Iterable[dict[str, str]]) -> None:
        iterator = iter(rows)
        while chunk := list(islice(iterator, _CHUNK)):
            self._database.register("incoming", pa.Table.from_pylist(chunk))
            self._database.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")
            self._database.unregister("incoming")


@contextmanager
def named_blobs(public: Bucket, reader_of: Callable[[str], LogReader]) -> Iterator[NamedBlobs]:
    """For the time of the context. Raises Refused where a submission cannot be read."""
    with (
        tempfile.TemporaryDirectory(prefix="runfeed-blobs-", ignore_cleanup_errors=True) as folder,
        duckdb.connect(
            Path(folder) / "blobs.duckdb",
            config={"memory_limit": "400MB", "threads": 2, "temp_directory": f"{folder}/overflow"},
        ) as database,
    ):
        yield NamedBlobs(database, public, reader_of(keys.SUBMISSIONS_LOG))


def _all_entries(log: LogReader) -> Iterator[Entry]:
    seq = 0
    while entries := log.entries_after(seq):
        yield from entries
        seq = entries[-1].seq


def _blob_of(public: Bucket, submission_id: str) -> str | None:
    """None if it has been removed meanwhile."""
    key = keys.submission(submission_id)
    try:
        return msgspec.json.decode(public.read(key), type=Submission).blob.sha256
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(key, "a submission, which names its blob", str(error)) from error
