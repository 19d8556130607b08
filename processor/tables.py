"""Where formats put their rows: a Tables per submission, a RunRows per run in it.

Rows are kept as columns, turned into Arrow record batches as they come. A run that is refused takes its rows with it
and leaves its problems; the others stay.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pyarrow as pa

from processor.decode import DecodeLimits
from processor.rows import BATCH_ROWS, Columns, Rows, empty_columns
from schemas import identity
from schemas.errors import Rejected
from schemas.problems import problem_of
from schemas.records import Benchmark, Chunk, Commit, Machine, Problem, Submission
from schemas.tables import MEASUREMENTS, STATUSES, TABLES, TESTS

MAX_PROBLEMS = 100
"""Problems listed per submission; beyond these they are only counted."""

MAX_PROBLEM_CHARACTERS = 500
"""Of each text in a problem: they quote the file, and a field's name may be as long as the file."""

MAX_UNREAD_NAMES = 200
"""Names in a loss report; what more there are is counted together under `OTHER_NAMES`."""

OTHER_NAMES = "(other names)"

_SAME = ("seq", "run")  # columns that hold one value throughout a run
_PASSED = {"pass", "ok"}
_FAILED = {"assert", "fail", "error", "timeout", "crash"}
_STATUSES = frozenset(STATUSES)


@dataclass(frozen=True)
class RunFacts:
    """What a file says of one run; empty where it is silent.

    `own`: the facts were recorded with the run (one of a history's many), so nothing is filled in from the push.
    """

    title: str = ""
    commit: Commit | None = None
    started: datetime | None = None
    finished: datetime | None = None
    machine: Machine = Machine()  # noqa: RUF009 - immutable
    machine_extra: Mapping[str, Any] | None = None
    """Everything else the file says of its machine; JSON values."""
    labels: Mapping[str, str] | None = None
    own: bool = False


class RunRows:
    """The rows of one run. Not for direct construction: `Tables.run` makes it."""

    def __init__(self, tables: "Tables", ordinal: int, facts: RunFacts) -> None:
        self._tables = tables
        submission = tables.submission
        context = submission.context
        self.facts = facts
        self.ordinal = ordinal
        self.commit = _commit(facts, context.commit)
        self.machine = facts.machine if facts.own else _filled(facts.machine, context.machine)
        name = context.environment
        self.environment = identity.environment_id(name, self.machine)
        self.environment_title = identity.environment_title(name, self.machine)
        chunk = context.chunk
        self.id = (
            identity.chunked_run_id(submission.project, chunk.group, ordinal)
            if chunk
            else identity.run_id(submission.id, ordinal)
        )
        self.refused = False
        self.counts = {"measurements": 0, "tests": 0, "passed": 0, "failed": 0}
        self._rows: dict[str, dict[str, list[Any]]] = {
            "measurements": empty_columns(MEASUREMENTS, without=_SAME),
            "tests": empty_columns(TESTS, without=_SAME),
        }
        self._repeated: dict[Any, pa.Array] = {}
        self._batches: dict[str, list[pa.RecordBatch]] = {"measurements": [], "tests": []}
        self._digest = hashlib.sha256()

    def refuse(self, where: str, expected: str, found: str) -> None:
        """This run gives no rows, for this reason; may be said of several reasons."""
        self.refused = True
        self._tables.problem(where, expected, found)

    def flag(self, where: str, expected: str, found: str) -> None:
        """A problem that costs no rows."""
        self._tables.problem(where, expected, found, effect="kept")

    def measurement(
        self,
        *,
        where: str,
        benchmark: str,
        metric: str,
        value: float,
        unit: str = "",
        better: str = "",
        params: Mapping[str, Any] | None = None,
        samples: Sequence[float] | None = None,
        n: int | None = None,
        min: float | None = None,
        max: float | None = None,
        mean: float | None = None,
        median: float | None = None,
        stddev: float | None = None,
        q1: float | None = None,
        q3: float | None = None,
        benchmark_version: str = "",
        derived: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """One measurement; `where` is its place in the file. A value or sample that is not finite refuses the run;
        statistics that are not finite are left out. All numbers are in `unit`.
        """
        number = _finite(value)
        if number is None:
            self.refuse(where, "a finite number", repr(value)[:80])
            return
        finite_samples = None
        if samples is not None:
            finite_samples = [_finite(sample) for sample in samples]
            if None in finite_samples:
                at = finite_samples.index(None)
                self.refuse(f"{where} sample {at}", "a finite number", repr(samples[at])[:80])
                return
        params_text = canonical_json(params) if params else ""
        series = identity.series_id(
            project=self._tables.submission.project,
            benchmark=benchmark,
            params=params_text,
            metric=metric,
            unit=unit,
            better=better,
            benchmark_version=benchmark_version,
            environment=self.environment,
        )
        rows = self._rows["measurements"]
        rows["series"].append(series)
        rows["benchmark"].append(benchmark)
        rows["params"].append(params_text)
        rows["metric"].append(metric)
        rows["unit"].append(unit)
        rows["better"].append(better)
        rows["value"].append(number)
        rows["n"].append(n if n is not None else (len(finite_samples) if finite_samples else None))
        rows["min"].append(_finite(min))
        rows["max"].append(_finite(max))
        rows["mean"].append(_finite(mean))
        rows["median"].append(_finite(median))
        rows["stddev"].append(_finite(stddev))
        rows["q1"].append(_finite(q1))
        rows["q3"].append(_finite(q3))
        rows["samples"].append(finite_samples)
        rows["benchmark_version"].append(benchmark_version)
        rows["derived"].append(derived)
        rows["extra"].append(canonical_json(extra) if extra else None)
        self.counts["measurements"] += 1
        if len(rows["value"]) >= BATCH_ROWS:
            self._flush("measurements")

    def test(
        self,
        *,
        where: str,
        test: str,
        status: str,
        subtest: str | None = None,
        status_text: str | None = None,
        expected: str | None = None,
        known_intermittent: Sequence[str] | None = None,
        duration_seconds: float | None = None,
        message: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """One test or subtest. `status` is one of `schemas.tables.STATUSES`; anything else is kept as `unknown` with
        its text, flagged."""
        if status not in _STATUSES:
            self.flag(where, "one of " + ", ".join(STATUSES[:-1]), repr(status)[:80])
            status, status_text = "unknown", status
        self.test_rows(
            test=[test],
            subtest=[subtest],
            status=[status],
            status_text=[status_text],
            expected=[expected],
            known_intermittent=[list(known_intermittent) if known_intermittent else None],
            duration_seconds=[_finite(duration_seconds)],
            message=[message],
            extra=[canonical_json(extra) if extra else None],
        )

    def test_rows(
        self,
        *,
        test: Sequence[str],
        subtest: Sequence[str | None],
        status: Sequence[str],
        status_text: Sequence[str | None],
        expected: Sequence[str | None],
        known_intermittent: Sequence[list[str] | None],
        duration_seconds: Sequence[float | None],
        message: Sequence[str | None],
        extra: Sequence[str | None],
    ) -> None:
        """Many tests at once, as columns of one length; every status is on the ladder already, `extra` is JSON."""
        rows = self._rows["tests"]
        count = len(test)
        rows["test"].extend(test)
        rows["subtest"].extend(subtest)
        rows["status"].extend(status)
        rows["status_text"].extend(status_text)
        rows["expected"].extend(expected)
        rows["known_intermittent"].extend(known_intermittent)
        rows["duration_seconds"].extend(duration_seconds)
        rows["message"].extend(message)
        rows["extra"].extend(extra)
        counts = self.counts
        counts["tests"] += count
        counts["passed"] += sum(map(_PASSED.__contains__, status))
        counts["failed"] += sum(map(_FAILED.__contains__, status))
        if len(rows["test"]) >= BATCH_ROWS:
            self._flush("tests")

    def _flush(self, table: str) -> None:
        """Turn a large run's rows into a record batch, so that few of them are Python objects at a time."""
        rows, schema = self._taken(table), TABLES[table]
        if self.refused or not rows:
            return
        count = len(next(iter(rows.values())))
        columns: dict[str, pa.Array] = {
            "seq": self._repeat(self._tables.seq, schema.field("seq").type, count),
            "run": self._repeat(self.id, schema.field("run").type, count),
        }
        for name, values in rows.items():
            column = pa.array(values, type=schema.field(name).type)
            # A column without values costs memory once per run, not once per batch.
            columns[name] = self._repeat(None, column.type, count) if column.null_count == count else column
        self._batches[table].append(pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema))

    def _taken(self, table: str) -> Columns:
        """The rows gathered since the last time, counted into the digest; nothing if there are none."""
        rows = self._rows[table]
        if not next(iter(rows.values())):
            return {}
        self._rows[table] = empty_columns(TABLES[table], without=_SAME)
        self._digest.update(msgspec.msgpack.encode(list(rows.values())))
        return rows

    def _repeat(self, value: Any, type: pa.DataType, count: int) -> pa.Array:
        """`value` `count` times. Batches share the memory of one array per value."""
        made = self._repeated.get((value, type))
        if made is None or len(made) < count:
            made = pa.nulls(count, type) if value is None else pa.repeat(pa.scalar(value, type), count)
            self._repeated[value, type] = made
        return made.slice(0, count)

    def _close(self) -> None:
        """Hand all rows to the submission."""
        for table in self._rows:
            into = self._tables.rows
            into.add(table, self._batches[table])
            if left := self._taken(table):
                count = len(next(iter(left.values())))
                into.extend(table, {"seq": [self._tables.seq] * count, "run": [self.id] * count, **left})
        tables, facts, commit, machine = self._tables, self.facts, self.commit, self.machine
        submission = tables.submission
        context = submission.context
        self._digest.update(
            msgspec.json.encode([commit.id if commit else None, facts.started, self.environment, facts.title])
        )
        labels = {**context.labels, **(facts.labels or {})}
        row = {
            "seq": tables.seq,
            "run": self.id,
            "submission": submission.id,
            "ordinal": self.ordinal,
            "project": submission.project,
            "format": tables.format,
            "digest": self._digest.hexdigest()[:24],
            "title": facts.title,
            "commit": commit.id if commit else None,
            "commit_parents": commit.parents if commit else None,
            "commit_time": _utc(commit.time) if commit else None,
            "commit_subject": commit.subject if commit else None,
            "branch": commit.branch if commit else None,
            "dirty": commit.dirty if commit else None,
            "started": _utc(facts.started),
            "finished": _utc(facts.finished),
            "received": submission.received,
            "environment": self.environment,
            "environment_title": self.environment_title,
            "cpu": machine.cpu or None,
            "cores": machine.cores,
            "ram_gib": machine.ram_gib,
            "os": machine.os or None,
            "runtime": machine.runtime or None,
            "machine": canonical_json(facts.machine_extra) if facts.machine_extra else None,
            "labels": sorted(labels.items()),
            "trust": submission.trust.kind,
            **self.counts,
        }
        tables._take(self, row, context.chunk)


class Tables:
    """All rows and problems of one submission. A format's `read` fills it; `finish` closes it."""

    def __init__(
        self,
        submission: Submission,
        seq: int,
        limits: DecodeLimits = DecodeLimits(),  # noqa: B008 - immutable
        benchmark: Benchmark | None = None,
    ) -> None:
        self.submission = submission
        self.seq = seq
        self.limits = limits
        """For formats that unpack an archive."""
        self.benchmark = benchmark
        """The registered benchmark that the submission names, if it names one that exists."""
        self.format = ""
        self.unread: Counter[str] = Counter()
        """Fields that reached no column: filled by `leave_unread`."""
        self.problems: list[Problem] = []
        self.problems_total = 0
        self._kept_at: list[int] = []  # places of kept problems in `problems`
        self.runs = 0
        self.runs_refused = 0
        self.measurements = 0
        self.tests = 0
        self.decoded_bytes = 0
        """Of the blob: what its rows may weigh while they are Python objects."""
        self.rows = Rows()
        self._open: RunRows | None = None
        self._ordinal = 0

    def problem(self, where: str, expected: str, found: str, *, effect: str = "refused") -> None:
        """List a problem; beyond MAX_PROBLEMS only count it, but let no kept one hide why a run was refused."""
        self.problems_total += 1
        if len(self.problems) >= MAX_PROBLEMS:
            if effect == "kept" or not self._kept_at:
                return
            del self.problems[self._kept_at.pop()]
        if effect == "kept":
            self._kept_at.append(len(self.problems))
        kind: Any = effect
        self.problems.append(
            Problem(where=clipped(where), expected=clipped(expected), found=clipped(found), effect=kind)
        )

    def leave_unread(self, name: str, count: int = 1) -> None:
        """Count a field of the file that reaches no column. `name` is its place with `*` for what varies
        (`/benchmarks/*/cprofile`, `testcase/@line`), so that a file has few names however long it is."""
        name = clipped(name)
        self.unread[name if name in self.unread or len(self.unread) < MAX_UNREAD_NAMES else OTHER_NAMES] += count

    def run(self, facts: RunFacts) -> RunRows:
        """Begin the file's next run; the one before it is closed."""
        self._close_run()
        self._open = RunRows(self, self._ordinal, facts)
        self._ordinal += 1
        return self._open

    @property
    def batches(self) -> dict[str, list[pa.RecordBatch]]:
        """All rows as record batches, per table."""
        return self.rows.batches()

    def finish(self) -> None:
        """Close the last run; afterwards `rows` is complete."""
        self._close_run()

    def _close_run(self) -> None:
        if self._open is not None:
            if self._open.refused:
                self.runs_refused += 1
            else:
                self._open._close()
            self._open = None

    def _take(self, run: RunRows, row: dict[str, Any], chunk: Chunk | None) -> None:
        self.rows.append("runs", row)
        if chunk:
            of_run = {"seq": self.seq, "run": run.id, "submission": self.submission.id}
            of_chunk = {"run_group": chunk.group, "chunk": chunk.index, "chunks": chunk.total}
            self.rows.append("run_chunks", of_run | of_chunk)
        self.runs += 1
        self.measurements += run.counts["measurements"]
        self.tests += run.counts["tests"]


def clipped(text: str) -> str:
    """`text` as it may stand in an outcome: not too long, and UTF-8 throughout."""
    if len(text) > MAX_PROBLEM_CHARACTERS:
        text = text[: MAX_PROBLEM_CHARACTERS - 1] + "…"
    return text.encode(errors="replace").decode()


def canonical_json(value: Any) -> str:
    """The one way we write a JSON value as text: sorted keys, no spaces. Rejected if it nests too deeply."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    except RecursionError as error:
        raise Rejected([problem_of(error)]) from error


def _finite(value: Any) -> float | None:
    if value is None or isinstance(value, bool | str):
        return None
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _utc(time: datetime | None) -> datetime | None:
    """`time` in UTC; None for one that falls out of the calendar there, at its very ends."""
    try:
        return time.astimezone(UTC) if time else None
    except OverflowError:
        return None


def _commit(facts: RunFacts, pushed: Commit | None) -> Commit | None:
    """The file's commit, unless the sender declared another; the push fills gaps only if both mean the same commit."""
    own = facts.commit
    if facts.own or pushed is None:
        return own
    if own is None or pushed.declared:
        return pushed
    short, long = sorted((own.id, pushed.id), key=len)
    if not short or not long.startswith(short):
        return own
    return Commit(
        id=long,
        parents=own.parents or pushed.parents,
        time=own.time or pushed.time,
        subject=own.subject or pushed.subject,
        branch=own.branch or pushed.branch,
        dirty=pushed.dirty if own.dirty is None else own.dirty,
    )


def _filled(own: Machine, pushed: Machine | None) -> Machine:
    """The file's word on its machine; the pusher's where the file is silent."""
    if pushed is None:
        return own
    return Machine(
        cpu=own.cpu or pushed.cpu,
        cores=pushed.cores if own.cores is None else own.cores,
        ram_gib=pushed.ram_gib if own.ram_gib is None else own.ram_gib,
        os=own.os or pushed.os,
        runtime=own.runtime or pushed.runtime,
    )
