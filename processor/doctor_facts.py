"""What both buckets hold, gathered into a database in a temporary file, so that rules about it are queries.

Memory stays bounded however much there is. Others may be writing meanwhile, so the order counts: objects before markers
before logs. What a log or a marker names that was not there at first is looked for again.
"""

import bisect
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feed.withdrawals import noted_at, noted_withdrawals, withdrawn_blobs
from infra.bucket import Bucket, Buckets
from processor.doctor_records import Facts, leaks, marker_facts, page_facts, record_facts, snapshot_facts
from processor.lake import current_lake
from schemas import keys
from schemas.records import Grant

Progress = Callable[[str, int], None]
"""Called with what is being looked at, and how many of these have been."""

_TABLES = """
CREATE TABLE asked (now BIGINT, settled BOOLEAN, deep BOOLEAN, serving INTEGER);
CREATE TABLE unknown_keys (key VARCHAR);
CREATE TABLE unreadable (key VARCHAR, expected VARCHAR, found VARCHAR);
CREATE TABLE leaks (key VARCHAR, token VARCHAR);
CREATE TABLE submissions (key VARCHAR, id VARCHAR, id_by_content VARCHAR, nonce VARCHAR, project VARCHAR,
    sha256 VARCHAR, size_bytes BIGINT, media_type VARCHAR, encoding VARCHAR, received BIGINT, benchmark VARCHAR);
CREATE TABLE benchmarks (key VARCHAR);
CREATE TABLE markers (key VARCHAR, log VARCHAR, id VARCHAR, nonce VARCHAR, made BIGINT);
CREATE TABLE checkpoints (key VARCHAR, version INTEGER, seq BIGINT);
CREATE TABLE documents (key VARCHAR, log VARCHAR, first BIGINT, last BIGINT, previous VARCHAR);
CREATE TABLE entries (document VARCHAR, log VARCHAR, seq BIGINT, batch BIGINT, id VARCHAR, title VARCHAR, key VARCHAR,
    sha256 VARCHAR, size_bytes BIGINT, media_type VARCHAR, encoding VARCHAR, project VARCHAR, withdraws VARCHAR,
    published BIGINT, updated BIGINT);
CREATE TABLE outcomes (key VARCHAR, version INTEGER, named_first BIGINT, named_revision INTEGER, id VARCHAR,
    first BIGINT, last BIGINT, revision INTEGER, nonce VARCHAR, through BIGINT, sha256 VARCHAR, size_bytes BIGINT);
CREATE TABLE verdicts (outcome VARCHAR, version INTEGER, seq BIGINT, id VARCHAR, verdict VARCHAR,
    runs BIGINT, measurements BIGINT, tests BIGINT);
CREATE TABLE parts (outcome VARCHAR, version INTEGER, first BIGINT, last BIGINT, "table" VARCHAR, key VARCHAR,
    key_by_content VARCHAR, sha256 VARCHAR, size_bytes BIGINT, rows BIGINT);
CREATE TABLE blobs_found (sha256 VARCHAR, size_bytes BIGINT, sha256_found VARCHAR);
CREATE TABLE parts_found (key VARCHAR, size_bytes BIGINT, sha256_found VARCHAR, rows BIGINT);
CREATE TABLE part_rows (key VARCHAR, seq BIGINT, rows BIGINT);
CREATE TABLE catalogs (key VARCHAR, version INTEGER, generation INTEGER, named_version INTEGER,
    named_generation INTEGER, through BIGINT);
CREATE TABLE catalog_files (catalog VARCHAR, version INTEGER, generation INTEGER, "table" VARCHAR, key VARCHAR,
    digest16_by_key VARCHAR, sha256 VARCHAR, size_bytes BIGINT, rows BIGINT, first BIGINT, last BIGINT);
CREATE TABLE current_catalogs (key VARCHAR, named VARCHAR);
CREATE TABLE catalog_revisions (catalog VARCHAR, first BIGINT, revision INTEGER);
CREATE TABLE withdrawals (key VARCHAR, sha256 VARCHAR, nonce VARCHAR, record_sha256 VARCHAR, size_bytes BIGINT);
CREATE TABLE notes (key VARCHAR, sha256 VARCHAR, made BIGINT);
CREATE TABLE under_way (sha256 VARCHAR);
CREATE TABLE left_over (key VARCHAR, sha256 VARCHAR);
CREATE TABLE left_over_rows (key VARCHAR, version INTEGER, seq BIGINT);
CREATE TABLE snapshots (key VARCHAR, version INTEGER, outcomes_seq BIGINT);
"""
_VIEWS = """
CREATE TABLE announced AS SELECT DISTINCT ON (log, seq) * FROM entries ORDER BY log, seq, document;
CREATE TABLE newest_catalogs AS SELECT * FROM catalogs
    QUALIFY row_number() OVER (PARTITION BY named_version ORDER BY named_generation DESC) = 1;
CREATE TABLE held_outcomes AS SELECT c.key AS catalog, o.key AS outcome
    FROM newest_catalogs c JOIN outcomes o ON o.version = c.named_version
    JOIN announced e ON e.log = 'outcomes-v' || o.version AND e.id = o.id AND e.seq <= c.through
    QUALIFY row_number() OVER (PARTITION BY o.version, named_first ORDER BY named_revision DESC) = 1;
CREATE TABLE newest AS SELECT * FROM outcomes
    QUALIFY row_number() OVER (PARTITION BY version, named_first ORDER BY named_revision DESC) = 1;
CREATE TABLE withdrawn AS SELECT n.version, n.key AS outcome, n.named_first, n.named_revision, n.id AS outcome_id,
        e.seq, e.sha256, v.verdict, NOT settled AND e.sha256 IN (FROM under_way) AS under_way
    FROM asked, announced e JOIN withdrawals w USING (sha256) JOIN newest n ON e.seq BETWEEN n.first AND n.last
    LEFT JOIN verdicts v ON v.outcome = n.key AND v.seq = e.seq
    WHERE e.log = 'submissions' AND e.withdraws = '';
CREATE TABLE replaced AS SELECT DISTINCT o.key AS outcome FROM outcomes o JOIN withdrawn USING (version, named_first)
    WHERE o.key <> outcome OR under_way;
"""
_CHUNK = 512
_PIECE_BYTES = 8 << 20

T = TypeVar("T")


@contextmanager
def gathered(
    buckets: Buckets, now: datetime, *, deep: bool, settled: bool, progress: Progress, threads: int
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database of the facts, for the time of the context. Raises Unavailable when storage fails."""
    with (
        tempfile.TemporaryDirectory(prefix="runfeed-doctor-", ignore_cleanup_errors=True) as folder,
        ThreadPoolExecutor(threads, "doctor") as pool,
        duckdb.connect(
            Path(folder) / "facts.duckdb",
            config={"memory_limit": "400MB", "threads": 2, "temp_directory": f"{folder}/overflow"},
        ) as database,
    ):
        database.execute(_TABLES)
        serving, _ = current_lake(buckets.public)
        database.execute("INSERT INTO asked VALUES (?, ?, ?, ?)", [int(now.timestamp()), settled, deep, serving])
        _Gathering(buckets, database, pool, deep, progress).gather()
        database.execute(_VIEWS)
        yield database


class _Gathering:
    """Reads in a pool of threads, writes into the database from one."""

    def __init__(
        self,
        buckets: Buckets,
        database: duckdb.DuckDBPyConnection,
        pool: ThreadPoolExecutor,
        deep: bool,
        progress: Progress,
    ) -> None:
        self._public = buckets.public
        self._private = buckets.private
        self._database = database
        self._pool = pool
        self._deep = deep
        self._progress = progress
        self._tokens = frozenset(
            key.removeprefix("tokens/").removesuffix(".json") for key in buckets.private.list("tokens/") if deep
        )

    def gather(self) -> None:
        # What is withdrawn goes while we look: it was noted before we began, or is withdrawn since.
        noted = noted_withdrawals(self._private).keys()
        earlier = set(withdrawn_blobs(self._public))
        self._records("submissions", self._public.list("submissions/"))
        there = [key for key in self._public.list("lake/") if "/catalog/" in key]
        self._records("current catalogs", [key for key in there if key.endswith("/current.json")])
        # After those: what they name is there by now.
        self._records("catalogs", filter(keys.parse_catalog, self._public.list("lake/")))
        self._records("outcomes", filter(keys.parse_outcome, self._public.list("lake/")))
        self._each("markers", self._private.list("pending/"), marker_facts)
        self._records("checkpoints", self._private.list("checkpoints/"), self._private)
        self._each("benchmarks", self._public.list("benchmarks/"), lambda key: [("benchmarks", {"key": key})])
        self._logs()
        self._records("submissions", self._selected(_SUBMISSIONS_NOT_READ))
        self._records("outcomes", self._selected(_OUTCOMES_NOT_READ))
        self._each("blobs", self._selected("SELECT DISTINCT sha256 FROM submissions"), self._blob)
        self._each("files", self._selected(_FILES), self._part)
        self._records("withdrawals", map(keys.withdrawal, withdrawn_blobs(self._public)))
        self._withdrawn(noted, earlier)
        self._each("keys", self._public.list(""), _key_facts)

    # --- what is withdrawn ---

    def _withdrawn(self, noted: Set[str], earlier: Set[str | None]) -> None:
        """What is left of what is withdrawn. `noted` were under way when we began, `earlier` withdrawn."""
        digests = sorted(self._selected("SELECT sha256 FROM withdrawals"))
        notes = noted_withdrawals(self._private)
        under_way = noted | notes.keys() | (set(digests) - earlier)
        self._insert(("under_way", {"sha256": sha256}) for sha256 in sorted(under_way))
        self._insert(
            ("notes", {"key": key, "sha256": sha256, "made": int(noted_at(key).timestamp())})
            for sha256, of_blob in notes.items()
            for key in of_blob
        )
        if not digests:
            return
        self._each("withdrawn blobs", digests, self._left_over)
        self._each("uploads", self._private.list(keys.UPLOADS), lambda key: self._upload(key, frozenset(digests)))
        self._each("withdrawn submissions", self._selected(_WITHDRAWN_IDS), self._submission_left_over)
        self._each("snapshots", self._public.list(keys.SNAPSHOTS), snapshot_facts)
        seqs = frozenset(map(int, self._selected(_WITHDRAWN_SEQS)))
        self._each("files that nothing names", self._unnamed_files(), lambda key: self._rows_left_over(key, seqs))

    def _left_over(self, sha256: str) -> Facts:
        found = Facts()
        for bucket, key in ((self._public, keys.blob(sha256)), (self._private, keys.swept_blob(sha256))):
            with suppress(FileNotFoundError):
                bucket.head(key)
                found.append(("left_over", {"key": key, "sha256": sha256}))
        return found

    def _submission_left_over(self, id_and_sha256: str) -> Facts:
        id, _, sha256 = id_and_sha256.partition(" ")
        with suppress(FileNotFoundError):
            self._public.head(keys.submission(id))
            return [("left_over", {"key": keys.submission(id), "sha256": sha256})]
        return []

    def _upload(self, key: str, digests: frozenset[str]) -> Facts:
        """Of an upload's grant, which says of what digest the upload is."""
        with suppress(FileNotFoundError, msgspec.DecodeError):
            if key.endswith("/grant.json"):
                sha256 = msgspec.json.decode(self._private.read(key), type=Grant).sha256
                return [("left_over", {"key": key, "sha256": sha256})] if sha256 in digests else []
        return []

    def _unnamed_files(self) -> Iterator[str]:
        """Parts over something withdrawn that no newest outcome names, and merged files that no catalog names."""
        named = frozenset(self._selected(_NAMED_FILES))
        seqs = sorted(map(int, self._selected(_WITHDRAWN_SEQS)))
        for key in self._public.list("lake/"):
            part = keys.parse_part(key)
            covers = part is not None and bisect.bisect_left(seqs, part.first) < bisect.bisect_right(seqs, part.last)
            if (covers or keys.parse_merged(key)) and key not in named:
                yield key

    def _rows_left_over(self, key: str, seqs: frozenset[int]) -> Facts:
        try:
            with self._public.local_path(key) as path:
                found = _rows_by_seq(path).keys() & seqs
        except FileNotFoundError:
            return []
        except (pa.ArrowException, OSError) as error:
            return [_unreadable(key, "a Parquet file with a column seq", str(error))]
        version = int(key.split("/")[1].removeprefix("v"))
        return [("left_over_rows", {"key": key, "version": version, "seq": seq}) for seq in sorted(found)]

    # --- logs and objects ---

    def _logs(self) -> None:
        for log in sorted({key.split("/")[1] for key in self._public.list("feeds/") if key.count("/") == 2}):
            # The head first: whatever it links is there by then and stays.
            self._each("pages", [keys.feed_head(log)], lambda key: self._read(self._public, key, page_facts))
            pages = filter(keys.parse_page, self._public.list(keys.feed_prefix(log)))
            self._each("pages", pages, lambda key: self._read(self._public, key, page_facts))

    def _records(self, what: str, found: Iterable[str], bucket: Bucket | None = None) -> None:
        """JSON records of the public bucket, or of another."""
        source = bucket or self._public
        self._each(what, found, lambda key: self._read(source, key, record_facts))

    def _read(self, bucket: Bucket, key: str, facts_of: Callable[[str, bytes], Facts]) -> Facts:
        try:
            body = bucket.read(key)
        except FileNotFoundError:
            return []  # whoever names it finds it missing
        facts = facts_of(key, body)
        if self._deep and bucket is self._public:
            facts += [("leaks", {"key": key, "token": token}) for token in leaks(body, self._tokens)]
        return facts

    def _blob(self, sha256: str) -> Facts:
        key = keys.blob(sha256)
        try:
            size = self._public.head(key).size_bytes
        except FileNotFoundError:
            return []
        if not self._deep:
            return [("blobs_found", {"sha256": sha256, "size_bytes": size, "sha256_found": None})]
        digest, facts, before = hashlib.sha256(), Facts(), b""
        for start in range(0, size, _PIECE_BYTES):
            piece = self._public.read(key, start, _PIECE_BYTES)
            digest.update(piece)
            facts += [("leaks", {"key": key, "token": token}) for token in leaks(before + piece, self._tokens)]
            before = piece[-64:]
        return [*facts, ("blobs_found", {"sha256": sha256, "size_bytes": size, "sha256_found": digest.hexdigest()})]

    def _part(self, key: str) -> Facts:
        found: dict[str, Any] = {"key": key, "sha256_found": None, "rows": None}
        try:
            found["size_bytes"] = self._public.head(key).size_bytes
            if not self._deep:
                return [("parts_found", found)]
            with self._public.local_path(key) as path:
                with open(path, "rb") as file:
                    found["sha256_found"] = hashlib.file_digest(file, "sha256").hexdigest()
                try:
                    rows = _rows_by_seq(path)
                except (pa.ArrowException, OSError) as error:
                    return [_unreadable(key, "a Parquet file with a column seq", str(error)), ("parts_found", found)]
        except FileNotFoundError:
            return []
        found["rows"] = sum(rows.values())
        return [("parts_found", found)] + [
            ("part_rows", {"key": key, "seq": seq, "rows": count}) for seq, count in rows.items()
        ]

    def _selected(self, query: str) -> Iterator[str]:
        """A query's one column of text."""
        cursor = self._database.cursor()
        try:
            cursor.execute(query)
            while rows := cursor.fetchmany(_CHUNK):
                yield from (text for (text,) in rows)
        finally:
            cursor.close()

    def _each(self, what: str, found: Iterable[T], facts_of: Callable[[T], Facts]) -> None:
        iterator, done = iter(found), 0
        while chunk := list(islice(iterator, _CHUNK)):
            self._insert(fact for facts in self._pool.map(facts_of, chunk) for fact in facts)
            done += len(chunk)
            self._progress(what, len(chunk))

    def _insert(self, facts: Iterable[tuple[str, dict[str, Any]]]) -> None:
        by_table: dict[str, list[dict[str, Any]]] = {}
        for table, row in facts:
            by_table.setdefault(table, []).append(row)
        for table, rows in by_table.items():
            self._database.register("incoming", pa.Table.from_pylist(rows))
            self._database.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")
            self._database.unregister("incoming")


_FILES = """
SELECT key FROM parts UNION
SELECT f.key FROM catalog_files f JOIN
    (SELECT key FROM catalogs QUALIFY row_number() OVER (PARTITION BY version ORDER BY generation DESC) = 1) c
    ON f.catalog = c.key
"""
_SUBMISSIONS_NOT_READ = """
SELECT DISTINCT 'submissions/' || id[:2] || '/' || id || '.json' FROM entries
WHERE log = 'submissions' AND regexp_full_match(id, '[0-9a-f]{64}') AND id NOT IN (SELECT id FROM submissions)
"""
_WITHDRAWN_IDS = """
SELECT DISTINCT id || ' ' || sha256 FROM (SELECT id, sha256 FROM submissions UNION ALL
    SELECT id, sha256 FROM entries WHERE log = 'submissions' AND withdraws = '') JOIN withdrawals USING (sha256)
"""
_WITHDRAWN_SEQS = """
SELECT DISTINCT seq::VARCHAR FROM entries JOIN withdrawals USING (sha256) WHERE log = 'submissions' AND withdraws = ''
"""
_NAMED_FILES = f"""
SELECT p.key FROM parts p JOIN ({_WITHDRAWN_SEQS}) AS w(seq) ON w.seq::BIGINT BETWEEN p.first AND p.last
WHERE p.outcome IN (
    SELECT key FROM outcomes QUALIFY row_number() OVER (PARTITION BY version, named_first ORDER BY revision DESC) = 1)
UNION SELECT key FROM catalog_files
"""
_OUTCOMES_NOT_READ = """
SELECT DISTINCT format('lake/v{}/outcomes/{}/{}.json', log[11:], id[:12], id[14:])
FROM (SELECT log, id FROM entries UNION ALL SELECT log, id FROM markers)
WHERE regexp_full_match(log, 'outcomes-v[1-9][0-9]{0,8}') AND regexp_full_match(id, '[0-9]{12}-[0-9]{6}')
    AND (log, id) NOT IN (SELECT ('outcomes-v' || version, id) FROM outcomes)
"""


def _unreadable(key: str, expected: str, found: str) -> tuple[str, dict[str, Any]]:
    return "unreadable", {"key": key, "expected": expected, "found": found}


def _key_facts(key: str) -> Facts:
    return [] if keys.is_public(key) else [("unknown_keys", {"key": key})]


def _rows_by_seq(path: Path) -> dict[int, int]:
    rows: dict[int, int] = {}
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["seq"]):
            for count in pc.value_counts(batch["seq"]).to_pylist():
                rows[count["values"]] = rows.get(count["values"], 0) + count["counts"]
    return rows
