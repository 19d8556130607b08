"""A dashboard's database with a believable project in it: commits, two environments, benchmarks, tests, a run in
chunks, a run sent twice, refusals, and a file that is still under way. Rows come from the processor's own Tables.
"""

import hashlib
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pyarrow as pa

from dashboard_api import repeats
from dashboard_api.database import Database
from infra.bucket import Bucket
from infra.folder import FolderBucket
from processor.tables import RunFacts, Tables
from schemas import keys
from schemas.records import (
    Blob,
    Chunk,
    Commit,
    Context,
    Machine,
    Problem,
    Project,
    Submission,
    Trust,
    submission_id,
)

START = datetime(2026, 9, 1, 8, 30, tzinfo=UTC)
MACHINES = (
    Machine(cpu="AMD EPYC 7763", cores=8, ram_gib=32, os="Debian 12", runtime="CPython 3.12"),
    Machine(cpu="Apple M2", cores=8, ram_gib=16, os="macOS 15", runtime="CPython 3.12"),
)
BENCHMARKS = (
    ("parse/small-file", {}, "time", "ns", "lower", 184_000.0),
    ("parse/large-file", {"lines": 100_000}, "time", "ns", "lower", 91_500_000.0),
    ("render/table", {"rows": 1000}, "time", "ns", "lower", 2_310_000.0),
    ("render/table", {"rows": 1000}, "memory", "B", "lower", 14_200_000.0),
    ("query/throughput", {}, "rate", "rows/s", "higher", 41_300.0),
    ("index/size", {}, "entries", "", "", 5120.0),
)
SUBJECTS = (
    "Read headers without copying",
    "Fix off-by-one in the line counter",
    "Cache compiled templates",
    "Upgrade the parser's tables",
    "Drop support for the old index",
    "Batch writes of the journal",
)


@dataclass
class Sample:
    """A database being filled, and what tests want to know of it. Has what pages ask of a DashboardSource."""

    opened: Database
    public: Bucket
    seq: int = 0
    submissions: dict[str, str] = field(default_factory=dict)
    """By name: ids."""

    def database(self) -> Database:
        return self.opened

    def submit(
        self,
        project: str,
        fill: Callable[[Tables], None] | None,
        *,
        received: datetime,
        context: Context | None = None,
        verdict: str = "",
        problems: Iterable[Problem] = (),
        format: str = "runfeed-json",
        name: str = "",
    ) -> Tables:
        """One submission; `fill` None leaves it announced, without an outcome."""
        self.seq += 1
        context = context or Context()
        digest = hashlib.sha256(f"{project} {self.seq}".encode()).hexdigest()
        blob = Blob(sha256=digest, size_bytes=700 + 37 * self.seq, media_type="application/json")
        id = submission_id(sha256=digest, project=project, format=format, context=context, trust=Trust())
        submission = Submission(
            id=id, nonce="0" * 32, project=project, blob=blob, format=format, context=context, received=received
        )
        self.public.create(keys.submission(id), msgspec.json.encode(submission))
        self.submissions[name or str(self.seq)] = id
        self._insert(
            "submissions",
            seq=self.seq, batch=self.seq, id=id, project=project, sha256=digest, size_bytes=blob.size_bytes,
            media_type=blob.media_type, received=received, announced=received + timedelta(seconds=1),
        )  # fmt: skip
        tables = Tables(submission, self.seq)
        tables.format = format
        if fill is None and not verdict:
            return tables
        if fill:
            fill(tables)
        tables.finish()
        for one in problems:
            tables.problem(one.where, one.expected, one.found, effect=one.effect)
        for table, batches in tables.batches.items():
            if batches:
                rows = pa.Table.from_batches(batches)
                if table == "tests":
                    rows = rows.append_column("place", pa.array(range(rows.num_rows), pa.int64()))
                self._insert_rows(table, rows)
        self._insert(
            "outcomes",
            seq=self.seq, verdict=verdict or "accepted", format=format, revision=0, transform_version=1,
            finished=received + timedelta(seconds=2), problems_total=tables.problems_total, runs=tables.runs,
            measurements=tables.measurements, tests=tables.tests,
            problems=[msgspec.to_builtins(one) | {"effect": one.effect} for one in tables.problems],
            unread=dict(tables.unread),
        )  # fmt: skip
        return tables

    def finish(self) -> None:
        """What the loader does after its inserts: duplicates, series, tests in two chunks, cursors."""
        writer = self.opened.writer
        writer.execute("""
            UPDATE runs SET duplicate_of = first.run FROM (
                SELECT project, digest, arg_min(run, seq) AS run, min(seq) AS seq FROM runs GROUP BY ALL
            ) AS first
            WHERE runs.project = first.project AND runs.digest = first.digest AND runs.seq > first.seq
        """)
        writer.execute("""
            DELETE FROM series; INSERT INTO series BY NAME
            SELECT m.series, any_value(r.project) AS project, any_value(benchmark) AS benchmark,
                any_value(params) AS params, any_value(metric) AS metric, any_value(unit) AS unit,
                any_value(better) AS better, any_value(benchmark_version) AS benchmark_version,
                any_value(environment) AS environment, any_value(environment_title) AS environment_title,
                bool_and(derived) AS derived
            FROM measurements m JOIN runs r ON r.seq = m.seq AND r.run = m.run GROUP BY m.series
        """)
        repeats.find(writer, self.opened.parts, first=1, last=self.seq, revised=True)
        writer.execute("DELETE FROM cursors")
        for log in (keys.SUBMISSIONS_LOG, keys.outcomes_log(1)):
            writer.execute("INSERT INTO cursors VALUES (?, ?)", [log, self.seq])

    def one(self, sql: str, *parameters: object) -> str:
        """The first value that `sql` finds."""
        with self.opened.snapshot() as snapshot:
            return str(next(iter(snapshot.rows(sql, parameters)[0].values())))

    def _insert(self, table: str, **values: object) -> None:
        names = ", ".join(f'"{name}"' for name in values)
        marks = ", ".join("?" for _ in values)
        self.opened.writer.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(values.values()))

    def _insert_rows(self, table: str, rows: pa.Table) -> None:
        self.opened.writer.register("incoming", rows)
        self.opened.writer.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")
        self.opened.writer.unregister("incoming")


def empty(folder: Path) -> Sample:
    """Nothing in it."""
    bucket = FolderBucket(folder / "public")
    return Sample(Database(folder / "dashboard.duckdb", 1), bucket)


def commit(number: int, *, branch: str = "main") -> Commit:
    return Commit(
        id=_commit_id(number),
        parents=[_commit_id(number - 1)],
        time=START + timedelta(hours=31 * number),
        subject=SUBJECTS[number % len(SUBJECTS)],
        branch=branch,
        dirty=False,
    )


def _commit_id(number: int) -> str:
    return hashlib.sha1(f"commit {number}".encode(), usedforsecurity=False).hexdigest()


def filled(folder: Path, commits: int = 40) -> Sample:
    """The believable project `fastlib`, a smaller one, and every state a submission can be in."""
    sample = empty(folder)
    chance = random.Random(7)
    sample.public.create(
        keys.project("fastlib"),
        msgspec.json.encode(
            Project(
                name="fastlib",
                title="fastlib",
                description="A fast library for parsing and rendering tables.",
                url="https://fastlib.example/",
                created=START,
            )
        ),
    )
    for number in range(commits):
        for machine in MACHINES:
            _measure(sample, number, machine, chance)
        if number % 2 == 0 or number == commits - 1:
            _test(sample, number, commits)
    repeated = commit(commits - 1)
    for day in (1, 2):
        facts = RunFacts(title="nightly", commit=repeated, started=START + timedelta(days=80), own=True)
        sample.submit(
            "small-tool",
            lambda tables, facts=facts: tables.run(facts).measurement(
                where="/0", benchmark="startup", metric="time", unit="ms", better="lower", value=81.0
            ),
            received=START + timedelta(days=80 + day),
            name="first" if day == 1 else "again",
        )
    for index in (1, 2, 4):
        chunk(sample, index, 4)
    conflicting(sample)
    received = START + timedelta(hours=31 * commits + 5)
    refused = Problem(where="/runs/0/measurements/3/value", expected="a finite number", found="'fast'")
    sample.submit("fastlib", None, received=received, verdict="rejected", problems=[refused] * 3, name="rejected")
    sample.submit(
        "small-tool",
        None,
        received=received,
        verdict="quarantined",
        problems=[Problem(where="line 1", expected="less than 512 MiB of memory", found="more")],
        name="quarantined",
    )
    sample.submit("fastlib", None, received=received + timedelta(minutes=3), name="under way")
    sample.finish()
    return sample


def _measure(sample: Sample, number: int, machine: Machine, chance: random.Random) -> None:
    at = commit(number)
    apple = machine is MACHINES[1]
    facts = RunFacts(title="benchmarks", commit=at, started=at.time, finished=at.time, machine=machine)

    def fill(tables: Tables) -> None:
        run = tables.run(facts)
        for place, (benchmark, params, metric, unit, better, usual) in enumerate(BENCHMARKS):
            factor = (0.72 if apple else 1.0) * (1 + 0.05 * math.sin(number / 5 + place))
            if benchmark == "parse/large-file" and number >= 28:
                factor *= 1.34
            if benchmark == "render/table" and number >= 36:
                factor *= 0.8
            samples = [usual * factor * chance.gauss(1, 0.012) for _ in range(9)]
            if unit in ("", "B"):
                samples = [float(round(samples[0], -3) if unit else int(usual + number // 9))] * 3
            middle = sorted(samples)[len(samples) // 2]
            run.measurement(
                where=f"/{place}",
                benchmark=benchmark,
                params=params,
                metric=metric,
                unit=unit,
                better=better,
                value=middle,
                samples=samples,
                min=min(samples),
                max=max(samples),
                stddev=usual * 0.012 * factor,
            )

    labels = {"ci": "https://ci.example/jobs/77", "trigger": "push"}
    sample.submit("fastlib", fill, received=_after(at, 9 if apple else 4), context=Context(commit=at, labels=labels))


def _test(sample: Sample, number: int, commits: int) -> None:
    at = commit(number)

    def fill(tables: Tables) -> None:
        run = tables.run(RunFacts(title="unit tests", commit=at, started=at.time, machine=MACHINES[0]))
        for index in range(260):
            test = f"tests/test_{('parser', 'render', 'query', 'index')[index % 4]}.py::test_case_{index:03d}"
            fails = index == 17 or (index == 42 and number == commits - 1) or (index == 63 and number < commits - 1)
            run.test(
                where=f"/{index}",
                test=test,
                status="fail" if fails else "skip" if index % 50 == 3 else "pass",
                duration_seconds=0.002 * (index + 1),
                message=f"AssertionError: expected {index}, got {index + 1}\n  at {test}:88" if fails else None,
            )

    sample.submit("fastlib", fill, received=_after(at, 6), context=Context(commit=at), format="junit-xml")


def chunk(
    sample: Sample, index: int, total: int, *, group: str = "nightly-77", cases: range = range(120), folder: str = ""
) -> None:
    """One part of a run in chunks."""
    at = commit(3)

    def fill(tables: Tables) -> None:
        run = tables.run(RunFacts(title="browser conformance", commit=at, started=at.time, machine=MACHINES[0]))
        for number in cases:
            status = ("pass", "ok", "pass", "timeout", "crash")[number % 5] if number % 11 == 0 else "pass"
            run.test(
                where=f"/{number}",
                test=f"/dom/{folder or index}/case-{number}.html",
                subtest="rendering",
                status=status,
                extra={"asserts": {"count": 3, "min": 0, "max": 2}} if number == 44 else None,
            )
        tables.leave_unread("/results/*/screenshots", len(cases))

    context = Context(commit=at, chunk=Chunk(group=group, index=index, total=total))
    name = f"{group} {index}" if group != "nightly-77" else f"chunk {index}"
    sample.submit("conformance", fill, received=_after(at, 20 + index), context=context, name=name, format="wptreport")


def conflicting(sample: Sample) -> str:
    """A run of two chunks, the first of which was sent with other contents again, with a test of the second in it."""
    chunk(sample, 1, 3, group="nightly-78")
    chunk(sample, 2, 3, group="nightly-78")
    chunk(sample, 1, 3, group="nightly-78", cases=range(44, 46), folder="2")
    return sample.one("SELECT run FROM run_chunks WHERE run_group = 'nightly-78' LIMIT 1")


def _after(at: Commit, minutes: int) -> datetime:
    assert at.time is not None
    return at.time + timedelta(minutes=minutes)
