"""A batch becomes one outcome, whatever fails on the way and however often it is delivered."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from infra.broker import RETRIES, embedded_broker, start_worker
from infra.hints import Hints
from processor import batch as batch_module
from processor import lake as lake_module
from processor import task as task_module
from processor.actors import declare_actors
from processor.batch import ATTEMPTS_TOGETHER, DEATHS_ALLOWED
from processor.dispatcher import REDELIVER_AFTER
from processor.lake import sweep_parts
from processor.tables import MAX_PROBLEM_CHARACTERS, Tables
from schemas import keys
from schemas.errors import StorageFull, Unavailable
from schemas.records import Chunk, Context, Machine
from tests.chain import POISON, Chain, at_poison, failing, load, measured, nothing, passed, rows, with_bug
from tests.golden import transformed


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path / "data")


# --- delivered more than once ---


def test_a_batch_delivered_again_after_its_outcome_changes_nothing(chain: Chain) -> None:
    batch = chain.push_batch(measured(1), b"nonsense")
    assert chain.process(batch)
    before = list(chain.public.list("lake/"))
    assert not chain.process(batch)
    assert not chain.process(batch, redelivered=True)
    assert list(chain.public.list("lake/")) == before


def test_a_batch_delivered_again_before_its_outcome_makes_the_same_parts(chain: Chain) -> None:
    """Same rows, same bytes, same keys: nothing is left over from the delivery that failed."""
    batch = chain.push_batch(measured(1), measured(2), passed("t"))
    chain.public.before = failing("create", "lake/v1/outcomes/", Unavailable("storage"))
    with pytest.raises(Unavailable):
        chain.process(batch)
    chain.public.before = nothing
    first_parts = chain.parts()
    assert len(first_parts) == 3
    chain.pass_time(hours=1)
    assert chain.process(batch, redelivered=True)
    assert chain.parts() == first_parts == sorted(part.key for part in chain.outcome(1).parts)


def test_two_processors_racing_for_a_batch_make_one_outcome_that_is_announced_once(chain: Chain) -> None:
    batch = chain.push_batch(measured(1), measured(2))
    together = threading.Barrier(2, timeout=30)

    def wait_for_the_other(verb: str, key: str) -> None:
        if verb == "create" and "/outcomes/" in key:
            together.wait()

    chain.public.before = wait_for_the_other
    results: list[bool] = []
    racing = [
        threading.Thread(target=lambda: results.append(chain.new_processor().process(1, *batch, redelivered=False)))
        for _ in range(2)
    ]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join()
    assert sorted(results) == [False, True]
    assert [chain.announce_outcomes(), chain.announce_outcomes()] == [1, 0]
    assert not list(chain.private.list("pending/outcomes-v1/"))
    with chain.dashboard() as dashboard:
        load(dashboard)
        assert rows(dashboard, "SELECT seq, value FROM measurements ORDER BY seq") == [(1, 1.0), (2, 2.0)]


def test_an_outcome_whose_confirmation_got_lost_is_ours_and_is_announced(chain: Chain) -> None:
    batch = chain.push_batch(measured(1))
    chain.public.after = failing("create", "lake/v1/outcomes/", FileExistsError("a second try found the first"))
    assert chain.process(batch)
    chain.public.after = nothing
    assert chain.announce_outcomes() == 1


# --- one file fails ---


@pytest.mark.parametrize("error", [ValueError("a bug"), MemoryError(), RecursionError("too deep")])
def test_a_bug_in_a_format_quarantines_only_the_file_it_fails_at(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with_bug(monkeypatch, at_poison(error))
    batch = chain.push_batch(measured(1), POISON, measured(2))
    assert chain.process(batch)
    assert chain.verdicts(1) == ["accepted", "quarantined", "accepted"]
    problem = chain.outcome(1).submissions[1].problems[0]
    assert ("memory" if isinstance(error, MemoryError) else type(error).__name__) in problem.found
    with chain.dashboard() as dashboard:
        chain.announce_outcomes()
        load(dashboard)
        assert rows(dashboard, "SELECT value FROM measurements ORDER BY value") == [(1.0,), (2.0,)]


@pytest.mark.parametrize(
    "context",
    [Context(machine=Machine(cores=10**12)), Context(chunk=Chunk(group="g", index=1, total=10**12))],
    ids=["cores", "chunk"],
)
def test_a_value_that_no_column_can_hold_costs_only_its_own_submission(chain: Chain, context: Context) -> None:
    """Small files share record batches, so such a value shows only when the whole batch is written."""
    chain.push(measured(1))
    chain.push(measured(2), context)
    chain.push(measured(3))
    assert chain.process(chain.announce(), redelivered=True)
    assert chain.verdicts(1) == ["accepted", "quarantined", "accepted"]
    assert sum(part.rows for part in chain.outcome(1).parts if part.table == "measurements") == 2


@pytest.mark.parametrize("key", ["submissions/", "blobs/"])
def test_a_submission_whose_objects_are_gone_is_quarantined_alone(chain: Chain, key: str) -> None:
    lost = chain.push(measured(1))
    chain.push(measured(2))
    batch = chain.announce()
    entry = chain.submissions.entries(1, 1)[0]
    assert entry.id == lost
    chain.public.delete(keys.submission(lost) if key == "submissions/" else entry.key)
    assert chain.process(batch)
    assert chain.verdicts(1) == ["quarantined", "accepted"]
    assert key in chain.outcome(1).submissions[0].problems[0].found


def test_a_reason_that_is_huge_or_no_unicode_can_still_be_written(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_bug(monkeypatch, at_poison(ValueError("\ud800" + "x" * 2_000)))
    assert chain.process(chain.push_batch(POISON))
    found = chain.outcome(1).submissions[0].problems[0].found
    assert found.startswith("ValueError: ?xx")
    assert len(found) == MAX_PROBLEM_CHARACTERS


def test_a_problem_quotes_a_file_only_in_part() -> None:
    """A field's name may be as long as the file, and an outcome lists a hundred problems of each submission."""
    name = "n" * 1_000_000
    result = transformed(b'{"benchmark": "b", "metric": "t", "value": 1, "params": {"%s": []}}' % name.encode())
    assert result.outcome.verdict == "rejected"
    for problem in result.outcome.problems:
        assert max(map(len, (problem.where, problem.expected, problem.found))) <= MAX_PROBLEM_CHARACTERS


# --- storage fails ---


@pytest.mark.parametrize(
    ("verb", "beginning"),
    [
        ("read", "blobs/"),
        ("read", "submissions/"),
        ("create", "lake/v1/runs/"),
        ("create", "lake/v1/outcomes/"),
        ("create", "pending/outcomes-v1/"),
    ],
)
@pytest.mark.parametrize("error", [Unavailable("network"), StorageFull("disk")])
def test_failing_storage_is_raised_leaves_nothing_behind_and_later_succeeds(
    chain: Chain, verb: str, beginning: str, error: Unavailable
) -> None:
    batch = chain.push_batch(measured(1), measured(2))
    chain.public.before = chain.private.before = failing(verb, beginning, error)
    for redelivered in (False, True, True, True, True):
        with pytest.raises(type(error)):
            chain.process(batch, redelivered=redelivered)
        assert not list(chain.public.list("lake/v1/outcomes/"))
        assert not chain.attempts()
    chain.public.before = chain.private.before = nothing
    assert chain.process(batch, redelivered=True)
    assert chain.verdicts(1) == ["accepted", "accepted"]


# --- the process dies ---


def test_a_file_at_which_the_process_dies_again_and_again_is_quarantined(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first delivery records nothing, two more take the batch as it is, three go file by file: then it is not tried
    again."""
    tries = []

    def die(data: bytes, _: Tables) -> None:
        if data == POISON:
            tries.append(1)
            raise SystemExit(1)

    with_bug(monkeypatch, die)
    batch = chain.push_batch(measured(1), POISON, measured(2))
    for redelivered in (False, *[True] * (ATTEMPTS_TOGETHER + DEATHS_ALLOWED)):
        with pytest.raises(SystemExit):
            chain.process(batch, redelivered=redelivered)
        assert not list(chain.public.list("lake/v1/outcomes/"))
    assert chain.process(batch, redelivered=True)
    assert len(tries) == 1 + ATTEMPTS_TOGETHER + DEATHS_ALLOWED
    assert chain.verdicts(1) == ["accepted", "quarantined", "accepted"]
    assert "the process ended 3 times" in chain.outcome(1).submissions[1].problems[0].found
    assert not chain.attempts(), "what an outcome has settled is not kept"


def process_and_die_at_poison(data: Path, batch: tuple[int, int]) -> None:
    """In a process of its own: ends by SIGKILL, as the kernel does when memory runs out."""

    def die(body: bytes, _: Tables) -> None:
        if body == POISON:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.MonkeyPatch.context() as monkeypatch:
        with_bug(monkeypatch, die)
        Chain(data).process(batch, redelivered=True)


def test_a_file_at_which_real_processes_are_killed_is_quarantined(chain: Chain) -> None:
    batch = chain.push_batch(measured(1), POISON, measured(2))
    spawn = multiprocessing.get_context("spawn")
    statuses = []
    while not list(chain.public.list("lake/v1/outcomes/")):
        child = spawn.Process(target=process_and_die_at_poison, args=(chain.data, batch))
        child.start()
        child.join(60)
        statuses.append(child.exitcode)
        child.close()
    assert statuses == [-signal.SIGKILL] * (ATTEMPTS_TOGETHER + DEATHS_ALLOWED) + [0]
    assert chain.verdicts(1) == ["accepted", "quarantined", "accepted"]


def test_deaths_at_different_files_condemn_none_of_them(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = chain.push_batch(*(measured(value) for value in range(ATTEMPTS_TOGETHER + DEATHS_ALLOWED + 1)))
    dies_at = b""

    def die(data: bytes, _: Tables) -> None:
        if data == dies_at:
            raise KeyboardInterrupt

    with_bug(monkeypatch, die)
    for value in range(ATTEMPTS_TOGETHER + DEATHS_ALLOWED + 1):
        dies_at = measured(value)
        with pytest.raises(KeyboardInterrupt):
            chain.process(batch, redelivered=True)
    dies_at = b""
    assert chain.process(batch, redelivered=True)
    assert set(chain.verdicts(1)) == {"accepted"}


@pytest.mark.parametrize("error", [Unavailable("storage"), RuntimeError("a bug of ours")])
def test_a_delivery_that_fails_with_an_error_counts_against_no_file(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    batch = chain.push_batch(measured(1))

    def fail(*_: object) -> bool:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(batch_module, "publish_outcome", fail)
        for _ in range(ATTEMPTS_TOGETHER + DEATHS_ALLOWED + 1):
            with pytest.raises(type(error)):
                chain.process(batch, redelivered=True)
            assert not chain.attempts()
    assert chain.process(batch, redelivered=True)
    assert chain.verdicts(1) == ["accepted"]


# --- parts ---


@pytest.mark.parametrize("body", [measured, lambda n: passed(f"t{n}")], ids=["measurements", "tests"])
def test_a_large_batch_is_written_in_several_parts_per_table_and_all_are_loaded(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, body: Callable[[int], bytes]
) -> None:
    """Also where its rows are few and long, so that they would wait as Python objects for a record batch."""
    monkeypatch.setattr(task_module, "PART_BYTES", 100)
    count = 10
    chain.done(*(body(n) for n in range(count)))
    parts = chain.outcome(1).parts
    per_table = {part.table: sum(one.table == part.table for one in parts) for part in parts}
    assert min(per_table.values()) > 1
    with chain.dashboard() as dashboard:
        load(dashboard)
        found = rows(dashboard, "SELECT seq FROM measurements UNION ALL SELECT seq FROM tests ORDER BY seq")
    assert found == [(n,) for n in range(1, count + 1)]


def test_a_part_holds_what_its_reference_says(chain: Chain) -> None:
    chain.done(measured(1), measured(2))
    for part in chain.outcome(1).parts:
        body = chain.public.read(part.key)
        assert len(body) == part.size_bytes
        assert pq.read_table(chain.data / "public" / part.key).num_rows == part.rows
        parsed = keys.parse_part(part.key)
        assert parsed is not None
        assert (parsed.first, parsed.last, parsed.digest16) == (1, 2, part.sha256[:16])


def test_the_sweep_removes_only_old_parts_that_lost_to_another_commit(chain: Chain) -> None:
    committed = chain.done(measured(1))
    uncommitted = chain.push_batch(measured(2))
    kept = [*chain.parts(), keys.part(1, "runs", *uncommitted, "0" * 16)]
    lost = keys.part(1, "runs", *committed, "f" * 16)
    for key in (kept[-1], lost):
        chain.public.create(key, b"rows")
    written = chain.public.head(lost).modified
    assert sweep_parts(chain.buckets.public, 1, written + timedelta(days=6)) == 0
    assert sweep_parts(chain.buckets.public, 1, written + timedelta(days=8)) == 1
    assert sorted(chain.parts()) == sorted(kept)


def test_an_old_part_is_not_swept_from_under_the_delivery_that_finds_it(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process died with its parts written, and starts again a week later, when the sweep is due too."""
    batch = chain.push_batch(measured(1))
    chain.public.before = failing("create", "lake/v1/outcomes/", Unavailable("storage"))
    with pytest.raises(Unavailable):
        chain.process(batch)
    in_eight_days = chain.public.head(chain.parts()[0]).modified + timedelta(days=8)

    def sweep_before_commit(verb: str, key: str) -> None:
        if verb == "create" and "/outcomes/" in key:
            sweep_parts(chain.buckets.public, 1, in_eight_days)

    chain.public.before = sweep_before_commit
    assert chain.process(batch, redelivered=True)
    chain.public.before = nothing
    assert [part.key for part in chain.outcome(1).parts] == sorted(chain.parts(), key=_by_table)


def _by_table(key: str) -> int:
    part = keys.parse_part(key)
    assert part is not None
    return list(lake_module.TABLES).index(part.table)


# --- the queue ---


def test_the_queue_tries_again_when_storage_failed_and_keeps_nothing_of_what_failed_otherwise(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = chain.push_batch(measured(1))
    broker, hints = embedded_broker(), Hints()
    calls: list[str] = []
    ended = threading.Event()
    process = type(chain.processor).process

    def counted(self: object, lake_version: int, *bounds: int, redelivered: bool) -> bool:
        calls.append("redelivered" if redelivered else "first")
        if redelivered:
            ended.set()
            raise RuntimeError("a bug of ours")
        if len(calls) == 1:
            raise Unavailable("storage")
        return process(chain.processor, lake_version, *bounds, redelivered=redelivered)

    monkeypatch.setattr(type(chain.processor), "process", counted)
    send = declare_actors(broker, chain.processor, hints)
    worker = start_worker(broker, 1)
    try:
        seen = hints.seen("processed")
        send(1, *batch, redelivered=False)
        hints.wait("processed", seen, 20)
        assert hints.seen("processed") == seen + 1
        send(1, *batch, redelivered=True)
        assert ended.wait(20)
        broker.join("batches", fail_fast=False)
    finally:
        worker.stop()
    assert calls == ["first", "first", "redelivered"]
    assert not broker.dead_letters


def test_the_queue_gives_a_message_up_before_the_dispatcher_sends_its_batch_again() -> None:
    """Else messages pile up as long as storage fails."""
    longest_seconds = sum(min(60, 2 * 2**retry) for retry in range(RETRIES))
    assert timedelta(seconds=longest_seconds) < REDELIVER_AFTER
