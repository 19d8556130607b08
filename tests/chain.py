"""The whole chain from push to dashboard in one process without a server, a step at a time, under a test's clock."""

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dashboard_api.dashboard import Dashboard
from feed.announceable import Describe, describe_outcome, describe_submission
from feed.announcer import Announcer
from feed.log import LogReader
from feed.signing import Signer
from infra.bucket import Buckets
from infra.folder import FolderBucket
from ingest.admit import admit
from processor.batch import Processor
from processor.formats.registry import FORMATS
from processor.reading.decode import Buffer, DecodeLimits
from processor.tables import Tables
from processor.task import Done, Task, do
from schemas import keys
from schemas.records import Blob, Context, Outcome, Trust

Hook = Callable[[str, str], None]


def nothing(verb: str, key: str) -> None:
    """A hook that lets everything pass."""


class Unreliable:
    """A bucket that a test may let fail: hooks before and after each call get its verb and key, and may raise."""

    def __init__(self, bucket: FolderBucket) -> None:
        self.bucket = bucket
        self.before: Hook = nothing
        self.after: Hook = nothing

    def __getattr__(self, verb: str) -> Any:
        method = getattr(self.bucket, verb)

        def call(*arguments: Any, **named: Any) -> Any:
            key = arguments[0] if arguments else ""
            self.before(verb, key)
            result = method(*arguments, **named)
            self.after(verb, key)
            return result

        return call


def failing(verb: str, beginning: str, error: BaseException) -> Hook:
    """A hook that raises `error` for calls of `verb` on keys with that beginning."""

    def hook(called: str, key: str) -> None:
        if called == verb and key.startswith(beginning):
            raise error

    return hook


class InThisProcess:
    """Workers that do a task at once, so that a test may change what a format does."""

    count = 1

    def submit(self, task: Task, cpu_seconds: int) -> Future[Done]:
        future: Future[Done] = Future()
        try:
            future.set_result(do(task))
        except Exception as error:  # noqa: BLE001 - what a future carries
            future.set_exception(error)
        return future

    def stop(self) -> None:
        """Nothing to end."""


class Chain:
    """Everything of one data folder. Nothing happens by itself."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.now = datetime(2026, 5, 1, 12, tzinfo=UTC)
        self.public = Unreliable(FolderBucket(data / "public"))
        self.private = Unreliable(FolderBucket(data / "private"))
        self.buckets = Buckets(self.public, self.private)  # type: ignore[arg-type]
        self.reader_of = cache(lambda log: LogReader(self.public, log))  # type: ignore[arg-type]
        self.submissions = self.reader_of(keys.SUBMISSIONS_LOG)
        self.signer = Signer.of(self.private)  # type: ignore[arg-type]
        self.processor = self.new_processor()

    def clock(self) -> datetime:
        return self.now

    def announcer_of(self, log: LogReader, describe: Describe) -> Announcer:
        return Announcer(self.buckets, log, describe, clock=self.clock, signer=self.signer, threads=1)

    def pass_time(self, **of: float) -> None:
        self.now += timedelta(**of)

    def new_processor(self) -> Processor:
        return Processor(self.buckets, self.submissions, InThisProcess(), DecodeLimits(), self.clock)

    def push(self, body: bytes, context: Context | None = None, format: str = "auto") -> str:
        """The submission's id."""
        blob = Blob(sha256=hashlib.sha256(body).hexdigest(), size_bytes=len(body))
        self.pass_time(milliseconds=1)
        return admit(
            self.buckets,
            body,
            blob,
            project="p",
            format=format,
            context=context or Context(),
            trust=Trust(),
            now=self.now,
        ).id

    def announce(self) -> tuple[int, int]:
        """Announce what waits in one commit: the batch's first and last seq."""
        assert self.announcer_of(self.submissions, describe_submission).commit() > 0
        last = self.submissions.head().entries[-1]
        return last.batch, last.seq

    def push_batch(self, *bodies: bytes) -> tuple[int, int]:
        """Push and announce in one commit: the batch's first and last seq."""
        for body in bodies:
            self.push(body)
        return self.announce()

    def process(self, batch: tuple[int, int], *, redelivered: bool = False, lake_version: int = 1) -> bool:
        return self.processor.process(lake_version, *batch, redelivered=redelivered)

    def announce_outcomes(self, lake_version: int = 1) -> int:
        """The number of outcomes announced, in one commit."""
        log = self.reader_of(keys.outcomes_log(lake_version))
        return self.announcer_of(log, describe_outcome).commit()

    def done(self, *bodies: bytes) -> tuple[int, int]:
        """A batch all the way to its announced outcome."""
        batch = self.push_batch(*bodies)
        assert self.process(batch)
        assert self.announce_outcomes() == 1
        return batch

    def outcome(self, first: int, revision: int = 0, lake_version: int = 1) -> Outcome:
        return msgspec.json.decode(self.public.read(keys.outcome(lake_version, first, revision)), type=Outcome)

    def outcomes(self, lake_version: int = 1) -> list[Outcome]:
        found = self.public.list(f"lake/v{lake_version}/outcomes/")
        return [msgspec.json.decode(self.public.read(key), type=Outcome) for key in found]

    def verdicts(self, first: int) -> list[str]:
        return [one.verdict for one in self.outcome(first).submissions]

    def parts(self, lake_version: int = 1) -> list[str]:
        return [key for key in self.public.list(f"lake/v{lake_version}/") if keys.parse_part(key)]

    def attempts(self) -> list[str]:
        return list(self.private.list("attempts/"))

    @contextmanager
    def dashboard(self) -> Iterator[Dashboard]:
        public: Any = self.public
        dashboard = Dashboard(public, self.reader_of, self.data / "dashboard", memory_limit="400MB")
        try:
            yield dashboard
        finally:
            dashboard.close()


def load(dashboard: Dashboard) -> None:
    """Step until level."""
    while dashboard.step():
        pass


def rows(dashboard: Dashboard, sql: str) -> list[tuple[Any, ...]]:
    with dashboard.database().snapshot() as snapshot:
        return [tuple(row.values()) for row in snapshot.rows(sql)]


def measured(value: float, benchmark: str = "b") -> bytes:
    """A file of one measurement."""
    return json.dumps({"benchmark": benchmark, "metric": "t", "value": value}).encode()


def passed(name: str) -> bytes:
    """A file of one test."""
    return json.dumps({"test": name, "status": "pass"}).encode()


def with_bug(monkeypatch: pytest.MonkeyPatch, bug: Callable[[bytes, Tables], None]) -> None:
    """Let `bug` run before Runfeed's own format reads a file."""
    native = FORMATS["runfeed"]

    def read(data: Buffer, out: Tables) -> None:
        bug(bytes(data), out)
        native.read(data, out)

    monkeypatch.setitem(FORMATS, "runfeed", replace(native, read=read))


POISON = b'{"benchmark": "poison", "metric": "t", "value": 1}'


def at_poison(error: BaseException) -> Callable[[bytes, Tables], None]:
    """A bug that raises at the file POISON only."""

    def bug(data: bytes, _: Tables) -> None:
        if data == POISON:
            raise error

    return bug
