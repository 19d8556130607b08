"""How fast a new dashboard replica comes level: from entry 1, and from a published snapshot.

The lake is made here, without a processor: parts, outcomes and log pages as the rooms would have written them for files
of the size that continuous integration sends.
"""

import contextlib
import hashlib
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pyarrow as pa

from dashboard_api.dashboard import Dashboard
from feed.atom import render_document
from feed.log import readers
from infra.bucket import Bucket
from infra.folder import FolderBucket
from infra.s3 import open_s3
from processor.lake import write_part
from processor.part import make_parts
from schemas import identity, keys
from schemas.records import Entry, Machine, Outcome, SubmissionOutcome
from schemas.tables import MEASUREMENTS, RUNS
from tests.bench.report import Figure
from tests.servers import ServerAbsent, seaweedfs

FILES_A_BATCH = 50
ROWS_A_FILE = 20
_BENCHMARKS = 2000
_ENVIRONMENTS = [Machine(cpu=f"Example CPU {n}", cores=8, ram_gib=32, os="Debian 12") for n in range(3)]
_START = datetime(2026, 1, 1, tzinfo=UTC)
_ENTRIES_A_PAGE = 500


def make_lake(public: Bucket, rows: int) -> None:
    """`rows` measurements, announced, in the public bucket."""
    batches = rows // (FILES_A_BATCH * ROWS_A_FILE)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: _write_batch(public, number), range(batches)))
    _write_log(public, keys.SUBMISSIONS_LOG, [entry for entries, _ in made for entry in entries])
    _write_log(
        public,
        keys.outcomes_log(1),
        [msgspec.structs.replace(entry, seq=seq, batch=seq) for seq, (_, entry) in enumerate(made, start=1)],
    )


def _write_batch(public: Bucket, number: int) -> tuple[list[Entry], Entry]:
    """The entries of the batch's submissions, and its outcome's (whose seq the log gives)."""
    first = number * FILES_A_BATCH + 1
    last = first + FILES_A_BATCH - 1
    chance = random.Random(number)
    at = _START + timedelta(seconds=number)
    runs, measurements, entries, outcomes = [], [], [], []
    for seq in range(first, last + 1):
        id = hashlib.sha256(str(seq).encode()).hexdigest()
        run, machine = identity.run_id(id, 0), chance.choice(_ENVIRONMENTS)
        environment = identity.environment_id("", machine)
        runs.append(
            {
                "seq": seq, "run": run, "submission": id, "ordinal": 0, "project": "bench", "format": "runfeed",
                "digest": identity.digest24(seq), "title": "suite", "commit": id[:40], "commit_time": at,
                "branch": "main", "received": at, "environment": environment,
                "environment_title": identity.environment_title("", machine), "cpu": machine.cpu, "labels": [],
                "trust": "token", "measurements": ROWS_A_FILE, "tests": 0, "passed": 0, "failed": 0,
            }
        )  # fmt: skip
        start = chance.randrange(_BENCHMARKS)
        for n in range(ROWS_A_FILE):
            benchmark = f"bench/test_{(start + n) % _BENCHMARKS}"
            names = {"benchmark": benchmark, "params": "", "metric": "time", "unit": "s", "better": "lower"}
            series = identity.series_id(project="bench", environment=environment, benchmark_version="", **names)
            value = chance.uniform(1e-5, 3e-5)
            measurements.append(
                names
                | {"seq": seq, "run": run, "series": series, "value": value, "n": 10, "min": value * 0.9}
                | {"max": value * 1.2, "mean": value, "benchmark_version": "", "derived": False}
            )
        outcomes.append(
            SubmissionOutcome(seq=seq, id=id, verdict="accepted", format="runfeed", runs=1, measurements=ROWS_A_FILE)
        )
        entries.append(
            Entry(
                seq=seq, batch=first, id=id, title="bench: result", key=keys.blob(id), sha256=id, size_bytes=3000,
                media_type="application/json", project="bench", published=at, updated=at,
            )
        )  # fmt: skip
    tables = {
        "runs": pa.RecordBatch.from_pylist(runs, schema=RUNS),
        "measurements": pa.RecordBatch.from_pylist(measurements, schema=MEASUREMENTS),
    }
    outcome = Outcome(
        first=first,
        last=last,
        revision=0,
        nonce=keys.new_nonce(at),
        through=last,
        transform_version=1,
        submissions=outcomes,
        parts=[write_part(public, 1, first, last, part) for part in make_parts({n: [b] for n, b in tables.items()})],
        finished=at,
    )
    body, key = msgspec.json.encode(outcome), keys.outcome(1, first, 0)
    public.create(key, body)
    entry = Entry(
        seq=0, batch=0, id=keys.outcome_id(first, 0), title=f"batch {first}-{last}", key=key,
        sha256=hashlib.sha256(body).hexdigest(), size_bytes=len(body), media_type="application/json", published=at,
        updated=at,
    )  # fmt: skip
    return entries, entry


def _write_log(public: Bucket, log: str, entries: Sequence[Entry]) -> None:
    """Pages, and a head with what is left."""
    previous, at = "", 0
    while len(entries) - at > _ENTRIES_A_PAGE:
        some = entries[at : at + _ENTRIES_A_PAGE]
        body = render_document(log, some, archive=True, previous=previous)
        page = keys.Page(log, some[0].seq, some[-1].seq, hashlib.sha256(body).hexdigest()[:16])
        public.create(page.key, body)
        previous, at = page.key, at + _ENTRIES_A_PAGE
    public.create(keys.feed_head(log), render_document(log, entries[at:], archive=False, previous=previous))


def measure_catch_up(folder: Path, rows: int) -> list[Figure]:
    """On SeaweedFS where it is installed, else on a folder."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(seaweedfs(folder / "s3"))
        except ServerAbsent:
            return _measured(FolderBucket(folder / "public"), folder, rows, "a folder")
        bucket = open_s3("s3://catch-up", server.environ)
        return _measured(bucket, folder, rows, "SeaweedFS beside it")


def _measured(bucket: Bucket, folder: Path, rows: int, where: str) -> list[Figure]:
    make_lake(bucket, rows)
    with _replica(bucket, folder / "first") as (first, seconds):
        dashboard_rows = _count(first)
        published = time.perf_counter()
        first.publish(timedelta(0), _START)
        published = time.perf_counter() - published
        file_mb = first.database().path.stat().st_size / 1e6
    with _replica(bucket, folder / "second") as (second, from_snapshot):
        assert _count(second) == dashboard_rows == rows
    what = f"a new replica, {rows:,} measurements in {rows // ROWS_A_FILE // FILES_A_BATCH:,} batches on {where}"
    return [
        Figure(f"{what}: from entry 1", f"{rows / seconds * 60 / 1e6:.1f} M a minute", "at least 3 M a minute"),
        Figure(f"the same, from a snapshot of {file_mb:.0f} MB", f"{rows / from_snapshot * 60 / 1e6:.0f} M a minute"),
        Figure("publishing that snapshot", f"{published:.1f} s"),
    ]


@contextlib.contextmanager
def _replica(bucket: Bucket, folder: Path) -> Iterator[tuple[Dashboard, float]]:
    """A new one, and how many seconds it took to come level."""
    started = time.perf_counter()
    dashboard = Dashboard(bucket, readers(bucket), folder, memory_limit="400MB")
    try:
        while dashboard.step():
            pass
        yield dashboard, time.perf_counter() - started
    finally:
        dashboard.close()


def _count(dashboard: Dashboard) -> int:
    with dashboard.database().snapshot() as snapshot:
        found: int = snapshot.rows("SELECT count(*) AS n FROM measurements")[0]["n"]
        return found
