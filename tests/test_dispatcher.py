"""Each batch goes to the queue until it has an outcome, and no further."""

from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from processor.current import CurrentLake
from processor.dispatcher import (
    CHECKPOINT_EVERY,
    LOST_AFTER,
    MAX_IN_FLIGHT,
    REDELIVER_AFTER,
    Dispatcher,
    read_checkpoint,
    write_checkpoint,
)
from processor.rebuild import Rebuild
from schemas import keys
from schemas.errors import Unavailable
from tests.chain import Chain, failing, measured, nothing

Message = tuple[int, int, int, bool]


@dataclass
class Queue:
    """Keeps what is sent: (lake version, first, last, redelivered)."""

    sent: list[Message] = field(default_factory=list)
    down: bool = False

    def __call__(self, lake_version: int, first: int, last: int, *, redelivered: bool) -> None:
        if self.down:
            raise Unavailable("queue")
        self.sent.append((lake_version, first, last, redelivered))

    def taken(self) -> list[Message]:
        """What was sent since the last time."""
        taken, self.sent = self.sent, []
        return taken


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path / "data")


@pytest.fixture
def queue() -> Queue:
    return Queue()


def dispatcher_of(chain: Chain, queue: Queue, lake_version: int = 1) -> Dispatcher:
    outcomes = chain.reader_of(keys.outcomes_log(lake_version))
    return Dispatcher(chain.buckets, chain.submissions, outcomes, queue, lake_version, clock=chain.clock)


def push(chain: Chain, *values: float) -> tuple[int, int]:
    return chain.push_batch(*(measured(value) for value in values))


def finish(chain: Chain, batch: tuple[int, int]) -> None:
    assert chain.process(batch)
    assert chain.announce_outcomes() == 1


def checkpoint(chain: Chain, dispatcher: Dispatcher) -> int:
    """After enough time for the next one."""
    chain.pass_time(seconds=CHECKPOINT_EVERY.total_seconds())
    dispatcher.step()
    return read_checkpoint(chain.buckets.private, 1)


def test_each_batch_is_sent_once_whole_and_in_order(chain: Chain, queue: Queue) -> None:
    dispatcher = dispatcher_of(chain, queue)
    assert dispatcher.step() == 0
    batches = [push(chain, 1, 2, 3), push(chain, 4)]
    assert dispatcher.step() == 2
    batches.append(push(chain, 5, 6))
    assert dispatcher.step() == 1
    assert dispatcher.step() == 0
    assert queue.sent == [(1, first, last, False) for first, last in batches]


def test_a_commit_of_a_thousand_entries_is_one_batch(chain: Chain, queue: Queue) -> None:
    dispatcher = dispatcher_of(chain, queue)
    for n in range(1003):
        chain.push(measured(n))
    first, second = chain.announce(), chain.announce()
    assert (first, second) == ((1, 1000), (1001, 1003))
    dispatcher.step()
    assert queue.taken() == [(1, 1, 1000, False), (1, 1001, 1003, False)]
    finish(chain, first)
    assert len(chain.outcome(1).submissions) == 1000


def test_a_batch_without_outcome_is_sent_again_after_a_while_and_marked(chain: Chain, queue: Queue) -> None:
    dispatcher = dispatcher_of(chain, queue)
    done, lost = push(chain, 1), push(chain, 2)
    dispatcher.step()
    finish(chain, done)
    queue.taken()
    chain.now += REDELIVER_AFTER - timedelta(seconds=1)
    assert dispatcher.step() == 0
    chain.pass_time(seconds=1)
    assert dispatcher.step() == 1
    assert queue.taken() == [(1, *lost, True)]
    chain.pass_time(minutes=5)
    assert dispatcher.step() == 0
    chain.pass_time(minutes=5)
    assert dispatcher.step() == 1


def test_a_batch_whose_outcome_is_not_announced_yet_is_not_sent_again(chain: Chain, queue: Queue) -> None:
    dispatcher = dispatcher_of(chain, queue)
    batch = push(chain, 1)
    dispatcher.step()
    chain.process(batch)
    chain.now += REDELIVER_AFTER
    assert dispatcher.step() == 0
    assert checkpoint(chain, dispatcher) == 1


def test_only_so_many_batches_are_in_flight(chain: Chain, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_IN_FLIGHT >= 3
    monkeypatch.setattr("processor.dispatcher.MAX_IN_FLIGHT", 3)
    dispatcher = dispatcher_of(chain, queue)
    batches = [push(chain, n) for n in range(5)]
    assert dispatcher.step() == 3
    finish(chain, batches[1])
    assert dispatcher.step() == 1
    for batch in (batches[0], batches[2]):
        finish(chain, batch)
    assert dispatcher.step() == 1
    assert [message[1:3] for message in queue.sent] == batches


def test_the_checkpoint_moves_only_over_batches_that_are_done(chain: Chain, queue: Queue) -> None:
    dispatcher = dispatcher_of(chain, queue)
    batches = [push(chain, 1, 2), push(chain, 3), push(chain, 4)]
    assert checkpoint(chain, dispatcher) == 0
    finish(chain, batches[1])
    assert checkpoint(chain, dispatcher) == 0
    finish(chain, batches[0])
    assert checkpoint(chain, dispatcher) == 3
    finish(chain, batches[2])
    assert checkpoint(chain, dispatcher) == 4


def test_the_checkpoint_never_goes_back(chain: Chain) -> None:
    for seq, expected in ((5, 5), (3, 5), (5, 5), (9, 9)):
        write_checkpoint(chain.buckets.private, 1, seq)
        assert read_checkpoint(chain.buckets.private, 1) == expected
    assert read_checkpoint(chain.buckets.private, 2) == 0


def test_of_two_who_write_the_checkpoint_the_further_one_wins(chain: Chain) -> None:
    """Whoever loses the swap reads again."""
    write_checkpoint(chain.buckets.private, 1, 1)

    def overtake(verb: str, _: str) -> None:
        if verb == "swap":
            chain.private.before = nothing
            write_checkpoint(chain.buckets.private, 1, 7)

    chain.private.before = overtake
    write_checkpoint(chain.buckets.private, 1, 5)
    assert read_checkpoint(chain.buckets.private, 1) == 7


def test_a_restart_resumes_at_the_checkpoint_skips_what_is_done_and_marks_what_may_have_been_sent(
    chain: Chain, queue: Queue
) -> None:
    first = dispatcher_of(chain, queue)
    batches = [push(chain, n) for n in range(4)]
    first.step()
    finish(chain, batches[0])
    assert checkpoint(chain, first) == 1
    finish(chain, batches[2])
    queue.taken()
    looked: list[str] = []
    chain.public.before = lambda verb, key: looked.append(key) if "/outcomes/" in key else None
    second = dispatcher_of(chain, queue)
    second.step()
    assert queue.taken() == [(1, *batches[1], True), (1, *batches[3], True)]
    assert keys.outcome(1, 1, 0) not in looked, "below the checkpoint nobody looks"
    new = push(chain, 9)
    second.step()
    assert queue.taken() == [(1, *new, False)]


def test_a_queue_that_fails_loses_no_batch(chain: Chain, queue: Queue) -> None:
    dispatcher = dispatcher_of(chain, queue)
    batch = push(chain, 1)
    queue.down = True
    with pytest.raises(Unavailable):
        dispatcher.step()
    queue.down = False
    assert dispatcher.step() == 1
    assert queue.taken() == [(1, *batch, False)]
    queue.down = True
    chain.now += REDELIVER_AFTER
    with pytest.raises(Unavailable):
        dispatcher.step()
    queue.down = False
    assert dispatcher.step() == 1


def test_storage_that_fails_while_looking_for_outcomes_loses_no_batch(chain: Chain, queue: Queue) -> None:
    batches = [push(chain, 1), push(chain, 2)]
    finish(chain, batches[0])
    dispatcher = dispatcher_of(chain, queue)
    chain.public.before = failing("read", "lake/v1/outcomes/", Unavailable("storage"))
    with pytest.raises(Unavailable):
        dispatcher.step()
    chain.public.before = nothing
    dispatcher.step()
    assert queue.taken() == [(1, *batches[1], True)]


def test_after_a_rebuild_a_lost_checkpoint_sends_nothing_twice(chain: Chain, queue: Queue) -> None:
    """A rebuilt version's batches hold several commits; the checkpoint is only a shortcut."""
    batches = [push(chain, n, n + 0.5) for n in range(3)]
    rebuild = Rebuild(chain.buckets, chain.reader_of, chain.processor, clock=chain.clock)
    rebuild.replay(lambda *_: None)
    assert [(one.first, one.last) for one in chain.outcomes(2)] == [(1, batches[-1][1])]
    rebuild.switch()
    new = push(chain, 9)
    chain.private.delete(keys.checkpoint("dispatcher-v2"))
    dispatcher = dispatcher_of(chain, queue, 2)
    dispatcher.step()
    assert queue.sent == [(2, *new, True)]


def test_the_current_lake_is_followed_when_it_switches(chain: Chain, queue: Queue) -> None:
    lake = CurrentLake(chain.buckets, chain.reader_of, queue, clock=chain.clock, announcer_of=chain.announcer_of)
    batch = push(chain, 1)
    assert lake.dispatch() == 1
    chain.process(batch)
    assert lake.announce() == 1
    rebuild = Rebuild(chain.buckets, chain.reader_of, chain.processor, clock=chain.clock)
    rebuild.replay(lambda *_: None)
    rebuild.switch()
    assert lake.dispatch() == 0, "the rebuild has done everything"
    new = push(chain, 2)
    assert lake.dispatch() == 1
    assert queue.sent[-1] == (2, *new, False)
    chain.process(new, lake_version=2)
    assert lake.announce() == 1
    assert chain.reader_of(keys.outcomes_log(2)).last_seq() == 2
    assert chain.reader_of(keys.outcomes_log(1)).last_seq() == 1


def test_what_a_shared_queue_has_lost_is_sent_again_within_seconds_and_what_it_holds_is_not(
    chain: Chain, queue: Queue
) -> None:
    held: set[tuple[int, int]] = set()
    dispatcher = sharing_dispatcher(chain, queue, held)
    lost, waiting = push(chain, 1), push(chain, 2)
    dispatcher.step()
    held.add((1, waiting[0]))
    queue.taken()
    chain.now += LOST_AFTER - timedelta(seconds=0.1)
    assert dispatcher.step() == 0, "it may be on its way"
    chain.now += timedelta(seconds=0.1)
    assert dispatcher.step() == 1
    assert queue.taken() == [(1, *lost, True)]
    chain.pass_time(minutes=9)
    held.add((1, lost[0]))
    assert dispatcher.step() == 0
    chain.now += REDELIVER_AFTER
    assert dispatcher.step() == 2, "held all too long"


def test_a_batch_that_the_queue_drops_each_time_is_sent_more_and_more_slowly(chain: Chain, queue: Queue) -> None:
    """A bug of ours that fails a batch at once must not keep all workers busy."""
    dispatcher = sharing_dispatcher(chain, queue, set())
    push(chain, 1)
    dispatcher.step()
    queue.taken()
    sent_at = []
    for second in range(3600):
        chain.pass_time(seconds=1)
        sent_at += [second] * dispatcher.step()
    assert sent_at[0] <= LOST_AFTER.total_seconds() + 2
    gaps = [after - before for before, after in pairwise(sent_at)]
    assert gaps == sorted(gaps)
    assert 590 <= gaps[-1] <= 610


def test_a_batch_that_is_done_though_its_outcome_is_not_announced_counts_as_no_loss(chain: Chain, queue: Queue) -> None:
    dispatcher = sharing_dispatcher(chain, queue, set())
    batch = push(chain, 1)
    dispatcher.step()
    chain.process(batch)
    chain.now += LOST_AFTER
    assert dispatcher.step() == 0


def test_a_successor_does_not_send_what_the_queue_still_holds(chain: Chain, queue: Queue) -> None:
    batches = [push(chain, 1), push(chain, 2)]
    held = {(1, batches[0][0])}
    successor = sharing_dispatcher(chain, queue, held)
    assert successor.step() == 1
    assert queue.taken() == [(1, *batches[1], True)]
    held.clear()
    finish(chain, batches[1])
    chain.now += LOST_AFTER
    assert successor.step() == 1
    assert queue.taken() == [(1, *batches[0], True)], "but it watches over it"


def test_who_stands_by_begins_at_the_checkpoint_when_its_turn_comes(chain: Chain, queue: Queue) -> None:
    lake = CurrentLake(chain.buckets, chain.reader_of, queue, clock=chain.clock, announcer_of=chain.announcer_of)
    first = push(chain, 1)
    assert lake.dispatch() == 1
    assert lake.stand_by() == 0
    second = push(chain, 2)
    finish(chain, first)
    finish(chain, second)
    assert lake.dispatch() == 0, "another has done it meanwhile"


def sharing_dispatcher(chain: Chain, queue: Queue, held: set[tuple[int, int]]) -> Dispatcher:
    """Of a queue that can say what it holds."""
    outcomes = chain.reader_of(keys.outcomes_log(1))
    return Dispatcher(
        chain.buckets, chain.submissions, outcomes, queue, 1, clock=chain.clock, held=lambda: frozenset(held)
    )


def test_a_dispatcher_forgets_what_is_done(chain: Chain, queue: Queue) -> None:
    """Its memory is bounded by what is in flight, not by what ever was."""
    dispatcher = dispatcher_of(chain, queue)
    for n in range(5):
        batch = push(chain, n)
        dispatcher.step()
        finish(chain, batch)
    dispatcher.step()
    assert not dispatcher._in_flight
