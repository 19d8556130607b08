"""One batch from the log to its outcome: read, have it transformed, write parts, commit.

Whatever goes wrong with one submission is that one's outcome; whatever goes wrong with storage stops the whole batch,
which is then delivered again. Children do the transforming: a file that costs a child its life is tried once more,
alone, and then quarantined. Deliveries after the first are recorded in the bucket, later ones with how far they come,
so that a submission at which this process itself dies again and again is found and quarantined too.

A submission whose blob is withdrawn has that as its outcome, and nothing of it is read. If it is withdrawn meanwhile,
`processor.purge` finds the outcome and revises it.
"""

import contextlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import msgspec
import structlog

from feed.log import LogReader
from feed.withdrawals import note_withdrawal, read_withdrawal, withdrawals_of
from infra.bucket import Buckets
from infra.settings import Settings
from processor.benchmarks import read_benchmark
from processor.children import ChildLost, Workers
from processor.formats.registry import FORMATS
from processor.joined import joined, refuses_around
from processor.lake import has_outcome, publish_outcome, write_part
from processor.part import Part
from processor.reading.decode import DecodeLimits
from processor.task import TABLES_OF_RUN, Done, File, Slices, Survey, Task, Transform
from processor.transform import TRANSFORM_VERSION, quarantined, rejected_outcome, withdrawn_outcome
from schemas import keys
from schemas.errors import Rejected, Unavailable
from schemas.records import Entry, Outcome, PartRef, Submission, SubmissionOutcome, Withdrawal

ATTEMPTS_TOGETHER = 2
"""Recorded deliveries that take a batch as any other; what dies again goes one by one, to find where."""

DEATHS_ALLOWED = 3
"""Recorded deliveries, one by one, that may die at one submission before it is quarantined."""

LONG = timedelta(seconds=2)
"""After which another may have processed a batch, and a withdrawal may have revised that outcome and removed it."""

SURVEYED_BYTES = 8 << 20
"""A blob from this size on, which is alone in its batch, may be read in slices, and is passed on by its path."""

CPU_SECONDS = 20
"""What any task may compute for, however small; with its size it may take longer."""

CPU_SECONDS_PER_MB = 1.5

_TASK_FILES = 500
_TASK_BYTES = 8 << 20

Clock = Callable[[], datetime]
Write = Callable[[Part], PartRef]
Observe = Callable[[Outcome], None]

_log = structlog.get_logger()


@dataclass(frozen=True)
class Processor:
    """What processing needs. `clock` tells the time, `process` may be called from many threads."""

    buckets: Buckets
    submissions: LogReader
    workers: Workers
    limits: DecodeLimits
    clock: Clock
    max_cpu_seconds: int = 300
    """What a task may compute for, however large."""
    observe: Observe = lambda _: None
    """Is told of each outcome that was committed here."""

    @classmethod
    def of(
        cls,
        settings: Settings,
        buckets: Buckets,
        submissions: LogReader,
        workers: Workers,
        clock: Clock,
        *,
        observe: Observe = lambda _: None,
    ) -> "Processor":
        """With the limits of the settings."""
        limits = DecodeLimits(max_decoded_bytes=settings.max_decoded_bytes)
        return cls(buckets, submissions, workers, limits, clock, settings.transform_seconds, observe)

    def process(self, lake_version: int, first: int, last: int, *, redelivered: bool) -> bool:
        """Bring the batch to its outcome of revision 0; False if it had one, of whatever revision. Idempotent.

        Raises Unavailable when storage fails; then call again.
        """
        if has_outcome(self.buckets.public, lake_version, first):
            return False
        if not redelivered:
            return self._process(_Delivery(lake_version, first, last))
        attempts = keys.attempts_prefix(lake_version, first)
        attempt, suspects = self._earlier_attempts(attempts)
        try:
            created = self._process(_Delivery(lake_version, first, last, attempt, suspects))
        except Exception:
            # What can still be told is no death, so it counts against no file.
            self._forget(f"{attempts}{attempt:06d}/")
            raise
        self._forget(attempts)
        return created

    def _process(self, batch: "_Delivery") -> bool:
        outcomes: list[SubmissionOutcome] = []
        parts: list[PartRef] = []
        begun = self.clock()
        for done in self._done(batch):
            outcomes += done.outcomes
            parts += done.parts
        now = self.clock()
        late = now - begun > LONG and has_outcome(self.buckets.public, batch.lake_version, batch.first)
        outcome = Outcome(
            first=batch.first,
            last=batch.last,
            revision=0,
            nonce=keys.new_nonce(now),
            through=batch.last,
            transform_version=TRANSFORM_VERSION,
            submissions=sorted(outcomes, key=lambda one: one.seq),
            parts=parts,
            finished=now,
        )
        created = not late and publish_outcome(self.buckets, batch.lake_version, outcome)
        if created:
            self.observe(outcome)
        else:  # the parts that we have written may hold what was withdrawn meanwhile
            self._withdrawn(self.submissions.entries(batch.first, batch.last))
        return created

    def _done(self, batch: "_Delivery") -> Iterator["_Written"]:
        """What came of the batch's submissions."""
        write = partial(write_part, self.buckets.public, batch.lake_version, batch.first, batch.last)
        entries = list(self.submissions.entries(batch.first, batch.last))
        withdrawn = self._withdrawn(entries)
        one_by_one = batch.attempt > ATTEMPTS_TOGETHER
        group_files = 1 if one_by_one else min(_TASK_FILES, -(-len(entries) // self.workers.count))
        group: list[File] = []
        group_bytes = 0
        running: list[_Running] = []
        for entry in entries:
            if one_by_one or (batch.attempt and entry is entries[0]):
                self._record_attempt(batch, entry.seq)
            if entry.withdraws:
                continue
            if withdrawal := withdrawn.get(entry.sha256):
                yield _Written([withdrawn_outcome(entry.id, entry.seq, withdrawal)])
                continue
            if entry.seq in batch.suspects:
                reason = f"the process ended {DEATHS_ALLOWED} times while it worked on this file"
                yield self._quarantined(entry.id, entry.seq, reason)
                continue
            try:
                file = self._file(entry)
            except Rejected as refusal:
                yield _Written([rejected_outcome(entry.id, entry.seq, refusal)])
                continue
            except FileNotFoundError as error:
                if withdrawal := read_withdrawal(self.buckets.public, entry.sha256):
                    yield _Written([withdrawn_outcome(entry.id, entry.seq, withdrawal)])
                else:
                    yield self._quarantined(entry.id, entry.seq, f"an object is gone: {error}")
                continue
            if entry.size_bytes >= SURVEYED_BYTES:
                yield from self._big(entry, file, write)
                continue
            group.append(file)
            group_bytes += entry.size_bytes
            if len(group) >= group_files or group_bytes >= _TASK_BYTES:
                running.append(self._running(group))
                group, group_bytes = [], 0
            if one_by_one:
                yield from self._collected(running, write)
                running = []
        if group:
            running.append(self._running(group))
        yield from self._collected(running, write)

    def _withdrawn(self, entries: Sequence[Entry]) -> dict[str, Withdrawal]:
        """The withdrawals of blobs of these entries. A look is asked for at what is left of them: what was sent in the
        moment of a withdrawal is announced later, and an earlier batch may have been done by one who did not know."""
        found = withdrawals_of(self.buckets.public, [entry.sha256 for entry in entries if not entry.withdraws])
        for sha256 in {*found, *(entry.withdraws for entry in entries if entry.withdraws)}:
            note_withdrawal(self.buckets.private, sha256, keys.new_nonce(self.clock()))
        return found

    def _file(self, entry: Entry) -> File:
        """What a child needs to know of the submission. Small bodies travel with the task. Rejected if it names a
        benchmark that its project does not have."""
        public = self.buckets.public
        submission = msgspec.json.decode(public.read(keys.submission(entry.id)), type=Submission)
        benchmark = read_benchmark(public, submission.project, submission.format)
        body = b""
        if entry.size_bytes < SURVEYED_BYTES:
            body = public.read(entry.key)
        else:
            public.head(entry.key)  # so that a blob that is gone is found here, large or small
        record = msgspec.json.encode(benchmark) if benchmark else b""
        return File(seq=entry.seq, submission=submission, body=body, record=record)

    # --- small files, together ---

    def _running(self, group: list[File]) -> "_Running":
        size = sum(len(file.body) for file in group)
        return _Running(group, self._submit(Transform(files=group, limits=self.limits), size))

    def _submit(self, task: Task, size_bytes: int) -> Future[Done]:
        seconds = CPU_SECONDS + int(size_bytes / 1e6 * CPU_SECONDS_PER_MB)
        return self.workers.submit(task, min(seconds, self.max_cpu_seconds))

    def _collected(self, running: Sequence["_Running"], write: Write) -> Iterator["_Written"]:
        """What came of the groups. Of a group that cost its child's life each file is done again, alone; those that
        have shown to be harmless then once more together, so that they share parts as if nothing had been."""
        again: list[File] = []
        for group in running:
            try:
                done = group.future.result()
            except ChildLost as lost:
                first = group.files[0]
                seq, submission = first.seq, first.submission.id
                _log.warning(
                    "a child was lost", files=len(group.files), seq=seq, submission=submission, reason=str(lost)
                )
                again += group.files
                continue
            yield _Written(done.outcomes, [write(part) for part in done.parts])
            again += [file for file in group.files if file.seq in done.exhausted]
        harmless: list[tuple[File, Done]] = []
        for alone in [self._running([file]) for file in again]:
            file = alone.files[0]
            try:
                done = alone.future.result()
            except ChildLost as lost:
                yield self._quarantined(file.submission.id, file.seq, str(lost))
                continue
            if done.exhausted:
                yield self._quarantined(file.submission.id, file.seq, "it needs more memory than a transform may have")
            else:
                harmless.append((file, done))
        for done in self._together(harmless):
            yield _Written(done.outcomes, [write(part) for part in done.parts])

    def _together(self, harmless: Sequence[tuple[File, Done]]) -> list[Done]:
        """What came of files one by one, as it comes of them together: a part for each of hundreds of small files would
        cost every reader more than their rows. As it is, where together they are too much."""
        apart = [done for _, done in harmless]
        if len(apart) < 2:
            return apart
        try:
            together = self._running([file for file, _ in harmless]).future.result()
        except ChildLost as lost:
            _log.warning("a child was lost", files=len(apart), seq=harmless[0][0].seq, reason=str(lost))
            return apart
        return apart if together.exhausted else [together]

    def _quarantined(self, submission: str, seq: int, reason: str) -> "_Written":
        _log.error("quarantined", seq=seq, submission=submission, reason=reason)
        return _Written([quarantined(submission, seq, reason).outcome])

    # --- one big file, in slices ---

    def _big(self, entry: Entry, file: File, write: Write) -> Iterator["_Written"]:
        with self.buckets.public.local_path(entry.key) as path, _scratch_folder() as scratch:
            file = msgspec.structs.replace(file, path=str(path))
            survey = Survey(file=file, limits=self.limits, scratch=scratch)
            try:
                slices = self._submit(survey, entry.size_bytes).result().slices
                written = self._in_slices(slices, write) if slices else None
            except ChildLost as lost:
                _log.warning("a child was lost", seq=file.seq, submission=entry.id, reason=str(lost))
                written = None
            if written:
                yield written
                return
            whole = Transform(files=[file], limits=self.limits)
            yield from self._collected([_Running([file], self._submit(whole, entry.size_bytes))], write)

    def _in_slices(self, slices: list[Slices], write: Write) -> "_Written | None":
        """None if the cut was wrong, or cannot tell what the file does. Parts are written as they come; those that no
        outcome names are swept."""
        array = FORMATS[slices[0].format].long_array
        refs: list[PartRef] = []
        whole: list[Done] = []
        futures = [self._submit(one, one.size_bytes) for one in slices]
        try:
            for one, future in zip(slices, futures, strict=True):
                done = self._done_slices(one, future)
                if refuses_around(done, array):
                    return None
                refs += [write(part) for part in done.parts if part.table not in TABLES_OF_RUN]
                done.parts = [part for part in done.parts if part.table in TABLES_OF_RUN]
                whole.append(done)
            if len({ref.key for ref in refs}) < len(refs):
                return None  # slices of equal rows are one part, and a part is read once
        finally:
            for future in futures:
                future.cancel()  # those not begun: what comes next need not wait for them
        of_run = joined(whole, array)
        accepted = of_run.outcomes[0].verdict == "accepted"
        return _Written(of_run.outcomes, [write(part) for part in of_run.parts] + refs if accepted else [])

    def _done_slices(self, one: Slices, future: Future[Done]) -> Done:
        """What costs its child is tried once more: the file as a whole may be too large for one child."""
        try:
            return future.result()
        except ChildLost as lost:
            seq, submission = one.file.seq, one.file.submission.id
            _log.warning("a child was lost", seq=seq, submission=submission, byte=one.bounds[0][0], reason=str(lost))
            return self._submit(one, one.size_bytes).result()

    # --- attempts ---

    def _earlier_attempts(self, prefix: str) -> tuple[int, frozenset[int]]:
        """The number of the attempt to make now, and the submissions at which too many earlier ones ended."""
        reached: dict[int, int] = {}
        for key in self.buckets.private.list(prefix):
            k, _, seq = key.removeprefix(prefix).partition("/")
            reached[int(k)] = max(reached.get(int(k), 0), int(seq))
        deaths = Counter(seq for k, seq in reached.items() if k > ATTEMPTS_TOGETHER)
        return max(reached, default=0) + 1, frozenset(seq for seq, n in deaths.items() if n >= DEATHS_ALLOWED)

    def _record_attempt(self, batch: "_Delivery", seq: int) -> None:
        with contextlib.suppress(FileExistsError):  # another delivery of the same batch counts the same
            self.buckets.private.create(keys.attempt(batch.lake_version, batch.first, batch.attempt, seq), b"")

    def _forget(self, attempts: str) -> None:
        self.buckets.private.delete(*self.buckets.private.list(attempts))


@contextlib.contextmanager
def _scratch_folder() -> Iterator[str]:
    """Where children may write; Unavailable where there is no such place."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="runfeed-slices-", ignore_cleanup_errors=True)
    except OSError as error:
        raise Unavailable(f"no place for temporary files: {error}") from error
    with folder as path:
        yield path


@dataclass(frozen=True)
class _Delivery:
    """A batch that is to be processed; `attempt` counts from 1 where deliveries are recorded, else it is 0."""

    lake_version: int
    first: int
    last: int
    attempt: int = 0
    suspects: frozenset[int] = frozenset()


@dataclass(frozen=True)
class _Running:
    """Files that a child has."""

    files: list[File]
    future: Future[Done]


@dataclass(frozen=True)
class _Written:
    """Outcomes, and the parts in the bucket that hold their rows."""

    outcomes: list[SubmissionOutcome]
    parts: list[PartRef] = field(default_factory=list)
