"""Where formats put their rows: a Tables per submission, a RunRows per run in it.

Rows are kept as columns, turned into Arrow record batches as they come. A run that is refused takes its rows with it
and leaves its problems; the others stay.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import repeat
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from processor.reading.decode import Buffer, DecodeLimits
from processor.reading.finite import finite_number
from processor.rows import BATCH_ROWS, Columns, Rows
from schemas import identity
from schemas.canonical import canonical_encoder
from schemas.errors import Rejected
from schemas.problems import problem_of
from schemas.records import Benchmark, Chunk, Commit, Machine, Problem, Submission
from schemas.tables import STATUSES, TABLES

MAX_PROBLEMS = 100
"""Problems listed per submission; beyond these they are only counted."""

MAX_PROBLEM_CHARACTERS = 500
"""Of each text in a problem: they quote the file, and a field's name may be as long as the file."""

MAX_UNREAD_NAMES = 200
"""Names in a loss report; what more there are is counted together under `OTHER_NAMES`."""

MAX_SERIES_REMEMBERED = 20_000

OTHER_NAMES = "(other names)"

_SAME = ("seq", "run")  # columns that hold one value throughout a run
_MEASUREMENT = tuple(name for name in TABLES["measurements"].names if name not in _SAME)
_TEST = tuple(name for name in TABLES["tests"].names if name not in _SAME)
_GIVEN = tuple(name for name in _MEASUREMENT if name != "series")
_ROWS_TOGETHER = 1000  # that came one by one; of a batch's rows a whole part
_PASSED = {"pass", "ok"}
_FAILED = {"assert", "fail", "error", "timeout", "crash"}
_STATUSES = frozenset(STATUSES)
_ENCODE = canonical_encoder(ensure_ascii=False)


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
        self._one_by_one: dict[str, list[tuple[Any, ...]]] = {"measurements": [], "tests": []}
        """Rows that are not in columns yet."""
        self._rows: dict[str, Columns] = {"measurements": {}, "tests": {}}
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
        number = finite_number(value)
        if number is None:
            self.refuse(where, "a finite number", repr(value)[:80])
            return
        finite_samples: list[Any] | None = None
        if samples is not None:
            floats = {*map(type, samples)} <= {float} and all(map(math.isfinite, samples))
            finite_samples = list(samples) if floats else [finite_number(sample) for sample in samples]
            if None in finite_samples:
                at = finite_samples.index(None)
                self.refuse(f"{where} sample {at}", "a finite number", repr(samples[at])[:80])
                return
        params_text, extra_text = canonical_json(params) if params else "", canonical_json(extra) if extra else None
        rows = self._one_by_one["measurements"]
        rows.append(
            (
                benchmark, params_text, metric, unit, better, number, n, min, max, mean, median, stddev, q1, q3,
                finite_samples, benchmark_version, derived, extra_text,
            )
        )  # fmt: skip
        if len(rows) >= _ROWS_TOGETHER:
            self._gather("measurements")

    def measurement_rows(
        self,
        *,
        benchmark: Sequence[str],
        metric: Sequence[str],
        value: Sequence[float],
        unit: Sequence[str],
        better: Sequence[str],
        params: Sequence[str] | None = None,
        samples: Sequence[list[float] | None] | None = None,
        n: Sequence[int | None] | None = None,
        min: Sequence[float | None] | None = None,
        max: Sequence[float | None] | None = None,
        mean: Sequence[float | None] | None = None,
        median: Sequence[float | None] | None = None,
        stddev: Sequence[float | None] | None = None,
        q1: Sequence[float | None] | None = None,
        q3: Sequence[float | None] | None = None,
        benchmark_version: Sequence[str] | None = None,
        derived: Sequence[bool] | None = None,
        extra: Sequence[str | None] | None = None,
    ) -> None:
        """Many measurements at once, as columns of one length, for files with very many: what `measurement` says of
        each of them holds, but every value and sample is a finite float already, params and extra are canonical JSON.
        """
        self._gather("measurements")
        count = len(benchmark)
        params, benchmark_version = params or [""] * count, benchmark_version or [""] * count
        if samples is not None:
            known = n or [None] * count
            n = [len(its) if one is None and its else one for one, its in zip(known, samples, strict=True)]
        identities = zip(
            benchmark, params, metric, unit, better, benchmark_version, repeat(self.environment, count), strict=True
        )
        columns: dict[str, Sequence[Any] | None] = {
            "series": self._tables.series(identities),
            "benchmark": benchmark,
            "params": params,
            "metric": metric,
            "unit": unit,
            "better": better,
            "value": value,
            "n": n,
            "samples": samples,
            "benchmark_version": benchmark_version,
            "derived": derived or [False] * count,
            "extra": extra,
        }
        statistics = {"min": min, "max": max, "mean": mean, "median": median, "stddev": stddev, "q1": q1, "q3": q3}
        columns |= {name: _finite_column(values) for name, values in statistics.items() if values}
        self.counts["measurements"] += count
        self._extend("measurements", columns, count)

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
        rows = self._one_by_one["tests"]
        intermittent = list(known_intermittent) if known_intermittent else None
        seconds, extra_text = finite_number(duration_seconds), canonical_json(extra) if extra else None
        rows.append((test, subtest, status, status_text, expected, intermittent, seconds, message, extra_text))
        if len(rows) >= _ROWS_TOGETHER:
            self._gather("tests")

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
        self._gather("tests")
        count = len(test)
        columns: dict[str, Sequence[Any] | None] = {
            "test": test,
            "subtest": subtest,
            "status": status,
            "status_text": status_text,
            "expected": expected,
            "known_intermittent": known_intermittent,
            "duration_seconds": duration_seconds,
            "message": message,
            "extra": extra,
        }
        counts = self.counts
        counts["tests"] += count
        counts["passed"] += sum(map(_PASSED.__contains__, status))
        counts["failed"] += sum(map(_FAILED.__contains__, status))
        self._extend("tests", columns, count)

    def test_arrays(self, count: int, **columns: pa.Array) -> None:
        """`count` tests as Arrow columns of the lake's types, for files with very many; absent columns are null. Every
        status is on the ladder already."""
        self._flush("tests")
        schema = TABLES["tests"]
        columns["seq"] = self._repeat(self._tables.seq, schema.field("seq").type, count)
        columns["run"] = self._repeat(self.id, schema.field("run").type, count)
        arrays = [
            columns[name] if name in columns else self._repeat(None, schema.field(name).type, count)
            for name in schema.names
        ]
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        self._batches["tests"].append(batch)
        if self._tables.text_digest is None:
            for name, column in columns.items():
                if name not in _SAME:
                    self._digest.update(name.encode())
                    for buffer in _buffers(column):
                        self._digest.update(buffer)
        statuses = columns["status"]
        words = statuses.dictionary.to_pylist()
        self.counts["tests"] += count
        for found in pc.value_counts(statuses.indices).to_pylist():
            word = words[found["values"]]
            self.counts["passed"] += found["counts"] * (word in _PASSED)
            self.counts["failed"] += found["counts"] * (word in _FAILED)

    def _gather(self, table: str) -> None:
        """Turn the rows that came one by one into columns."""
        rows = self._one_by_one[table]
        if not rows:
            return
        self._one_by_one[table] = []
        names, add = (_TEST, self.test_rows) if table == "tests" else (_GIVEN, self.measurement_rows)
        add(**dict(zip(names, zip(*rows, strict=True), strict=True)))

    def _extend(self, table: str, columns: Mapping[str, Sequence[Any] | None], count: int) -> None:
        """`count` rows more; absent columns are null."""
        if not count:
            return
        rows, nothing = self._rows[table], [None] * count
        if rows:
            for name, values in rows.items():
                values.extend(columns.get(name) or nothing)
        else:
            names = _TEST if table == "tests" else _MEASUREMENT
            rows = self._rows[table] = {name: [*(columns.get(name) or nothing)] for name in names}
        if len(next(iter(rows.values()))) >= BATCH_ROWS:
            self._flush(table)

    def _flush(self, table: str) -> None:
        """Turn a large run's rows into a record batch, so that few of them are Python objects at a time."""
        self._gather(table)
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
        rows, self._rows[table] = self._rows[table], {}
        if rows and self._tables.text_digest is None:
            self._digest.update(msgspec.msgpack.encode(list(rows.values())))
        return rows

    def _repeat(self, value: Any, type: pa.DataType, count: int) -> pa.Array:
        """`value` `count` times. Batches share the memory of one array per value."""
        made = self._repeated.get((value, type))
        if made is None or len(made) < count:
            if value is not None and pa.types.is_dictionary(type):
                made = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), count), [value])
            else:
                made = pa.nulls(count, type) if value is None else pa.repeat(pa.scalar(value, type), count)
            self._repeated[value, type] = made
        return made.slice(0, count)

    def _close(self) -> None:
        """Hand all rows to the submission."""
        for table in self._rows:
            self._gather(table)
            into = self._tables.rows
            into.add(table, self._batches[table])
            if left := self._taken(table):
                count = len(next(iter(left.values())))
                into.extend(table, {"seq": [self._tables.seq] * count, "run": [self.id] * count, **left})
        tables, facts, commit, machine = self._tables, self.facts, self.commit, self.machine
        submission = tables.submission
        context = submission.context
        if tables.text_digest is not None:
            self._digest.update(tables.text_digest)
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
        self.long_array: Buffer | None = None
        """Of a slice: the elements of the long array that it has; the document's own array is empty then."""
        self.elements = 0
        """Of a slice: how many those are, for the next one's places."""
        self.text_digest: bytes | None = None
        """Of a file read in slices: stands for its rows in the run's digest."""
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
        self._series: dict[tuple[str, ...], str] = {}
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
            Problem(where=clipped(where) or "/", expected=clipped(expected), found=clipped(found), effect=kind)
        )

    def leave_unread(self, name: str, count: int = 1) -> None:
        """Count a field of the file that reaches no column. `name` is its place with `*` for what varies
        (`/benchmarks/*/cprofile`, `testcase/@line`), so that a file has few names however long it is."""
        name = clipped(name)
        self.unread[name if name in self.unread or len(self.unread) < MAX_UNREAD_NAMES else OTHER_NAMES] += count

    def series(self, identities: Iterable[tuple[str, ...]]) -> list[str]:
        """The series of each measurement; the facts are those of `identity.series_id` after the project, in its order.

        Runs of a history have the same series, so the last ones are remembered.
        """
        remembered, project, found = self._series, self.submission.project, []
        for facts in identities:
            series = remembered.get(facts)
            if series is None:
                if len(remembered) >= MAX_SERIES_REMEMBERED:
                    remembered.clear()
                benchmark, params, metric, unit, better, version, environment = facts
                series = remembered[facts] = identity.series_id(
                    project=project,
                    benchmark=benchmark,
                    params=params,
                    metric=metric,
                    unit=unit,
                    better=better,
                    benchmark_version=version,
                    environment=environment,
                )
            found.append(series)
        return found

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


def _buffers(column: pa.Array) -> list[pa.Buffer]:
    """All bytes of a column that nobody has sliced; with a dictionary's, in the order in which its words came."""
    own = [buffer for buffer in column.buffers() if buffer is not None]
    return own + (_buffers(column.dictionary) if pa.types.is_dictionary(column.type) else [])


def clipped(text: str) -> str:
    """`text` as it may stand in an outcome: not too long, and UTF-8 throughout."""
    if len(text) > MAX_PROBLEM_CHARACTERS:
        text = text[: MAX_PROBLEM_CHARACTERS - 1] + "…"
    return text.encode(errors="replace").decode()


def canonical_json(value: Any) -> str:
    """A JSON value as text, always the same. Rejected if it nests too deeply."""
    try:
        return _ENCODE(value)
    except RecursionError as error:
        raise Rejected([problem_of(error)]) from error


def _finite_column(values: Sequence[Any]) -> Sequence[float | None]:
    kinds = {*map(type, values)}
    if kinds == {type(None)} or (kinds == {float} and all(map(math.isfinite, values))):
        return values
    return [*map(finite_number, values)]


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
