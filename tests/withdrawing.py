"""A chain from which something is withdrawn, and a look at every byte that is left."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from feed.announceable import describe_submission
from feed.withdrawals import noted_withdrawals
from ingest.withdraw import find, withdraw
from processor.doctor import Breach, breaches
from processor.lake import current_lake
from processor.purge import Purge
from schemas import keys
from schemas.records import Commit, Context, Withdrawal
from tests.chain import Chain, measured

SECRET = "ghp-A7secretB8-never-to-be-seen"
LEAKED = measured(1, SECRET)
QUOTED = f'{{"benchmark": "{SECRET}", "metric": "t", "value": "{SECRET}"}}'.encode()
"""A file that is rejected, with problems that quote it."""

CONTEXT = Context(commit=Commit(id="ab" * 20, subject=f"use {SECRET}"))


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def new_purge(chain: Chain) -> Purge:
    return Purge(chain.buckets, chain.reader_of, chain.announcer_of, clock=chain.clock)


def withdrawn(chain: Chain, id: str, reason: str = "a token leaked") -> Withdrawal:
    """As the operator does it."""
    chain.pass_time(milliseconds=1)
    return withdraw(chain.buckets, find(chain.buckets, id), reason, chain.now)


def settle(chain: Chain) -> None:
    """Announce, process, announce, until nothing waits, in the lake version that serves."""
    version, _ = current_lake(chain.buckets.public)
    while any(marker for marker in chain.private.list(keys.pending_prefix(keys.SUBMISSIONS_LOG))):
        if not chain.announcer_of(chain.submissions, describe_submission).commit():
            break
    for batch in unprocessed(chain, version):
        chain.process(batch, lake_version=version)
    while chain.announce_outcomes(version):
        pass


def unprocessed(chain: Chain, version: int) -> list[tuple[int, int]]:
    """Commits of the log that have no outcome in this lake version."""
    done = {seq for outcome in chain.outcomes(version) for seq in range(outcome.first, outcome.last + 1)}
    entries = [entry for entry in entries_of(chain) if entry.seq not in done]
    firsts = sorted({entry.batch for entry in entries})
    return [(first, max(one.seq for one in entries if one.batch == first)) for first in firsts]


def entries_of(chain: Chain) -> list[Any]:
    seq, found = 0, []
    while some := chain.submissions.entries_after(seq):
        found += some
        seq = some[-1].seq
    return found


def purged(chain: Chain) -> int:
    """Everything that the loops do, until a whole look finds nothing; how many objects went or were made."""
    settle(chain)
    purge, count = new_purge(chain), 0
    while done := purge.step():
        count += done
    assert noted_withdrawals(chain.buckets.private) == {}
    return count


def sick(chain: Chain, *, settled: bool = True) -> list[Breach]:
    return list(breaches(chain.buckets, chain.now, deep=True, settled=settled, threads=2))


# --- what is left of a secret ---


def leaks(data: Path, secret: str = SECRET) -> list[str]:
    """Files of both buckets that hold `secret`: as they are, or in what is packed in them."""
    found = []
    for folder in ("public", "private"):
        for path in sorted((data / folder).rglob("*")):
            if path.is_file() and secret in _texts(path):
                found.append(str(path.relative_to(data)))
    return found


def _texts(path: Path) -> str:
    text = path.read_bytes().decode(errors="replace")
    if path.suffix == ".parquet":
        text += "".join(_of_columns(path))
    if path.suffix == ".duckdb":
        text += _of_tables(path)
    return text


def _of_columns(path: Path) -> Iterator[str]:
    """All values, and what a dictionary holds beside them."""
    with pq.ParquetFile(path) as file:
        rows = file.read()
    for chunk in (chunk for column in rows.columns for chunk in column.chunks):
        yield str(chunk.to_pylist())
        if pa.types.is_dictionary(chunk.type):
            yield str(chunk.dictionary.to_pylist())


def _of_tables(path: Path) -> str:
    with duckdb.connect(path, read_only=True) as database:
        tables = [name for (name,) in database.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        return "".join(str(database.execute(f'FROM "{table}"').fetchall()) for table in tables)
