"""Announcing, searched for a bad interleaving: the real admission, announcer and follower against a model bucket.

Several runners push, two announcers announce, one follower reads along. Each is a thread that stops before every
operation of the bucket; a seeded scheduler says who goes on, who dies before or after the operation, and who is told
that it failed although it did not. Whoever dies starts again, as a service does. In the end an announcer runs alone,
and then every receipt must be announced, exactly once, in dense order, in pages that lead from the head to entry 1.

The same search finds a fault in each of five variants that break one rule: that shows that it can fail.
"""

import contextlib
import hashlib
import os
import random
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from feed.announceable import Announceable, describe_submission
from feed.announcer import Announcer
from feed.log import HeadState, LogReader
from infra.bucket import Bucket, Buckets, Head
from ingest.admit import admit
from schemas import keys
from schemas.errors import SwapLost, Unavailable
from schemas.keys import Marker
from schemas.records import Blob, Context, Entry, Trust

LOG = keys.SUBMISSIONS_LOG
START = datetime(2026, 1, 1, tzinfo=UTC)
BODIES = [b"one", b"two", b"three", b"four"]
ATTEMPTS = 2  # runners that push the same body at once
COMMITS = 4  # of each announcer before it runs alone
RUNS = 500

Admit = Callable[[Buckets, bytes, datetime], None]


class Killed(BaseException):
    """The process dies here; nothing of its own may catch this."""


class ModelBucket:
    """A bucket in memory. Each operation is atomic, except that a listing comes in pieces, as S3's does."""

    def __init__(self, step: Callable[[str], Callable[[], None]]) -> None:
        self.objects: dict[str, bytes] = {}
        self._step = step

    def create(self, key: str, body: bytes | Path, *, content_type: str | None = None) -> str:
        after = self._step(f"create {key}")
        if key in self.objects:
            raise FileExistsError(key)
        assert isinstance(body, bytes)
        self.objects[key] = body
        after()
        return _etag(body)

    def swap(self, key: str, body: bytes, *, etag: str | None, content_type: str | None = None) -> str:
        assert key in (keys.feed_head(LOG), keys.feed_index(LOG)), f"{key} was to be changed"
        after = self._step(f"swap {key}")
        if etag != (_etag(self.objects[key]) if key in self.objects else None):
            raise SwapLost(key)
        self.objects[key] = body
        after()
        return _etag(body)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        return self.read_versioned(key)[0]

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        self._step(f"read {key}")
        return self._at(key), _etag(self._at(key))

    def head(self, key: str) -> Head:
        self._step(f"head {key}")
        return Head(len(self._at(key)), _etag(self._at(key)), START, "")

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        while True:
            self._step(f"list {prefix} after {after}")
            piece = sorted(key for key in self.objects if key.startswith(prefix) and key > after)[:3]
            yield from piece
            if len(piece) < 3:
                return
            after = piece[-1]

    def delete(self, *keys: str) -> None:
        for key in keys:
            assert key.startswith("pending/"), f"{key} was to be deleted"
            after = self._step(f"delete {key}")
            self.objects.pop(key, None)
            after()

    def local_path(self, key: str) -> contextlib.AbstractContextManager[Path]:
        raise NotImplementedError("announcing needs no local files")

    def _at(self, key: str) -> bytes:
        if key not in self.objects:
            raise FileNotFoundError(key)
        return self.objects[key]


def _etag(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class Process:
    """A thread that stops before each operation of a bucket until the scheduler lets it go on."""

    def __init__(self, run: Callable[[], None], back: threading.Semaphore) -> None:
        self.alive = True
        self.fault = ""
        self._go = threading.Semaphore(0)
        self._back = back
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(run,), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def go_on(self, fault: str) -> None:
        self.fault = fault
        self._go.release()

    def stop_here(self) -> None:
        self._back.release()
        self._go.acquire()

    def _run(self, run: Callable[[], None]) -> None:
        _here.process = self
        self._go.acquire()
        try:
            run()
        except BaseException as error:  # noqa: BLE001 - handed to the scheduler, which raises it
            self.error = error
        self.alive = False
        self._back.release()


_here = threading.local()
"""Which process this thread is, if any."""


class World:
    """Both buckets, what was promised and seen, and the scheduler."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.public = ModelBucket(self._step)
        self.private = ModelBucket(self._step)
        self.receipts: set[str] = set()
        self.followed: list[Entry] = []
        self._now = START
        self.trace: list[str] = []

    @property
    def buckets(self) -> Buckets:
        return Buckets(self.public, self.private)

    def now(self) -> datetime:
        self._now += timedelta(seconds=1)
        return self._now

    def _step(self, operation: str) -> Callable[[], None]:
        """Called before an operation; what it returns is called after it."""
        process: Process | None = getattr(_here, "process", None)
        if process is None:
            return lambda: None
        process.stop_here()
        fault = process.fault
        self.trace.append(f"{id(process) % 997} {operation} {fault}")
        if fault == "killed before":
            raise Killed
        if fault == "failed":
            raise Unavailable(operation)

        def after() -> None:
            if fault == "told exists" and operation.startswith("create"):
                raise FileExistsError  # created, confirmation lost, tried again inside the storage's client
            if fault == "killed after":
                raise Killed
            if fault == "told failed":
                raise Unavailable(operation)

        return after

    def run(self, steps: list[Callable[[], None]]) -> None:
        """Run all to their end: mostly the first of a list goes on, now and then it loses its place."""
        back = threading.Semaphore(0)
        waiting = [Process(run, back) for run in steps]
        self.random.shuffle(waiting)
        for process in waiting:
            process.start()
        restless = self.random.choice([0.05, 0.2, 0.6])
        faulty = self.random.choice([0.0, 0.05, 0.15])
        while waiting:
            if self.random.random() < restless:
                waiting.insert(self.random.randrange(len(waiting) + 1), waiting.pop(0))
            process = waiting[0]
            faults = ["killed before", "killed after", "failed", "told failed", "told exists"]
            process.go_on(self.random.choice(faults) if self.random.random() < faulty else "")
            back.acquire()
            if not process.alive:
                waiting.pop(0)
                if process.error:
                    raise process.error


# --- who takes part ---


def push(world: World, body: bytes, admit_body: Admit) -> None:
    """A runner: pushes until it dies or has a receipt."""
    with contextlib.suppress(Killed):
        for _ in range(2):
            with contextlib.suppress(Unavailable):
                admit_body(world.buckets, body, world.now())
                world.receipts.add(_submission_id(body))
                return


def announce(world: World, make: Callable[[World], Announcer]) -> None:
    """An announcer: starts again when it dies, goes on when the storage fails."""
    announcer = make(world)
    for _ in range(COMMITS):
        try:
            announcer.commit()
        except Unavailable:
            continue
        except Killed:
            announcer = make(world)


def follow(world: World) -> None:
    """A follower: always goes on after the last entry that it has seen."""
    reader = LogReader(world.public, LOG)
    for _ in range(3 * COMMITS):
        with contextlib.suppress(Unavailable, Killed):
            world.followed += reader.entries_after(len(world.followed), 2)


def admit_real(buckets: Buckets, body: bytes, now: datetime) -> None:
    blob = Blob(sha256=hashlib.sha256(body).hexdigest(), size_bytes=len(body))
    facts = {"project": "p", "format": "auto", "context": Context(), "trust": Trust()}
    admit(buckets, body, blob, **facts, now=now)  # type: ignore[arg-type]


def make_announcer(world: World, kind: type[Announcer] = Announcer) -> Announcer:
    """One that pages as soon as it may, so that few entries suffice to go wrong."""
    reader = LogReader(world.public, LOG)
    return kind(world.buckets, reader, describe_submission, clock=world.now, head_keep=1, threads=1)


def _submission_id(body: bytes) -> str:
    bucket = ModelBucket(lambda operation: lambda: None)
    admit_real(Buckets(bucket, ModelBucket(lambda operation: lambda: None)), body, START)
    return next(key for key in bucket.objects if key.startswith("submissions/"))[-69:-5]


# --- what must hold ---


def whole_log(bucket: Bucket) -> list[Entry]:
    """Every entry, along the links from the head to the first page; pages must meet without gap or overlap."""
    reader = LogReader(bucket, LOG)
    head = reader.head()
    entries, previous = list(head.entries), head.previous
    while previous:
        page = reader.page(previous)
        assert page.archive
        entries[:0] = page.entries
        previous = page.previous
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1)), "seq is not dense"
    return entries


def play(seed: int, make: Callable[[World], Announcer] = make_announcer, admit_body: Admit = admit_real) -> None:
    """One run of the world, and its end."""
    world = World(seed)
    runners = [lambda body=body: push(world, body, admit_body) for body in BODIES for _ in range(ATTEMPTS)]
    announcers = [lambda: announce(world, make)] * 2
    world.run([*runners, *announcers, lambda: follow(world)])
    last = make(world)
    while last.commit():
        pass
    entries = whole_log(world.public)
    ids = [entry.id for entry in entries]
    assert len(ids) == len(set(ids)), f"seed {seed}: announced twice: {sorted(ids)}"
    assert world.receipts <= set(ids), f"seed {seed}: lost {world.receipts - set(ids)}"
    assert LogReader(world.public, LOG).entries_after(0) == entries, f"seed {seed}: a follower reads another log"
    assert world.followed == entries[: len(world.followed)], f"seed {seed}: the follower read along another log"
    left = [keys.parse_marker(key) for key in world.private.objects]
    assert not {marker.id for marker in left if marker} & set(ids), f"seed {seed}: markers of announced entries stay"


def search(runs: int, make: Callable[[World], Announcer] = make_announcer, admit_body: Admit = admit_real) -> None:
    for seed in range(runs):
        play(seed, make, admit_body)


def test_every_receipt_is_announced_exactly_once_whoever_dies_when() -> None:
    search(RUNS)


@pytest.mark.soak
@pytest.mark.skipif(not os.environ.get("RUNFEED_SOAK"), reason="the long version: make soak")
@pytest.mark.timeout(3600)
def test_every_receipt_is_announced_exactly_once_in_a_long_search() -> None:
    search(100 * RUNS)


def test_the_runs_reach_what_can_go_wrong() -> None:
    """The search would prove nothing if no page were written, no swap lost and nobody killed."""
    seen = {"page": 0, "unlinked page": 0, "killed": 0, "followed a page": 0}
    for seed in range(60):
        world = World(seed)
        runners = [lambda w=world, body=body: push(w, body, admit_real) for body in BODIES]
        world.run([*runners, *[lambda w=world: announce(w, make_announcer)] * 2, lambda w=world: follow(w)])
        reader = LogReader(world.public, LOG)
        pages = [key for key in world.public.objects if keys.parse_page(key)]
        linked, previous = set(), reader.head().previous
        while previous:
            linked.add(previous)
            previous = reader.page(previous).previous
        seen["page"] += bool(pages)
        seen["unlinked page"] += bool(set(pages) - linked)
        seen["killed"] += any("killed" in line for line in world.trace)
        seen["followed a page"] += any("read feeds/submissions/0" in line for line in world.trace)
    assert min(seen.values()) > 0, seen


# --- broken on purpose ---


class ListsFirst(Announcer):
    """Lists the markers before it reads the head."""

    def _look(self) -> tuple[HeadState, list[Marker]]:
        waiting = self._waiting()
        return self._reader.head(), waiting


class DeletesFirst(Announcer):
    """Deletes the markers before their entries are committed."""

    def _append(self, head: HeadState, chosen: list[Entry], marked: set[str]) -> None:
        ids = {entry.id for entry in chosen}
        self._delete(marker for marker in self._waiting() if marker.id in ids)
        super()._append(head, chosen, marked)


class IgnoresNonce(Announcer):
    """Takes any marker for the object's own."""

    def _found(self, marker: Marker) -> Announceable | None:
        found = super()._found(marker)
        return found and Announceable(marker.nonce, found.entry)


class PagesMarked(Announcer):
    """Moves entries to a page while their markers are there, and deletes those in the end."""

    def _announce(self, head: HeadState, waiting: list[Marker]) -> int:
        announced = {entry.id for entry in head.entries}
        choice = self._choose([marker for marker in waiting if marker.id not in announced])
        if choice.entries:
            self._append(head, choice.entries, set())
        self._delete([marker for marker in waiting if marker.id in announced] + choice.stale + choice.markers)
        return len(choice.entries)


def submission_first(buckets: Buckets, body: bytes, now: datetime) -> None:
    """Admission that writes the marker after the submission."""
    private = ModelBucket(lambda operation: lambda: None)
    admit_real(Buckets(buckets.public, private), body, now)
    for key in private.objects:
        with contextlib.suppress(FileExistsError):
            buckets.private.create(key, b"")


@pytest.mark.parametrize("broken", [ListsFirst, DeletesFirst, IgnoresNonce, PagesMarked])
def test_the_search_finds_a_broken_announcer(broken: type[Announcer]) -> None:
    with pytest.raises(AssertionError, match=r"announced twice|lost"):
        search(10 * RUNS, lambda world: make_announcer(world, broken))


def test_the_search_finds_an_admission_that_writes_the_marker_last() -> None:
    with pytest.raises(AssertionError, match="lost"):
        search(10 * RUNS, admit_body=submission_first)
