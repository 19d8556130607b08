"""The lease: one holds it, another follows within its patience, and nobody compares clocks."""

from pathlib import Path

import pytest

from infra.bucket import Bucket
from infra.folder import FolderBucket
from infra.lease import Lease
from schemas import keys
from schemas.errors import Unavailable
from tests.chain import Unreliable, failing, nothing

KEY = keys.lease("announce")
PATIENCE = 6.0


class Time:
    """A machine's own monotonic clock."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def bucket(tmp_path: Path) -> Unreliable:
    return Unreliable(FolderBucket(tmp_path / "private"))


def lease_of(bucket: Bucket | Unreliable, clock: Time, taken: list[str] | None = None) -> Lease:
    taken = [] if taken is None else taken
    return Lease(bucket, KEY, PATIENCE, acquired=lambda: taken.append("taken"), clock=clock)  # type: ignore[arg-type]


def test_of_two_one_holds_it_and_only_its_steps_run(bucket: Unreliable) -> None:
    clock = Time()
    taken: list[str] = []
    first, second = lease_of(bucket, clock, taken), lease_of(bucket, clock, taken)
    first.step()
    second.step()
    assert (first.held, second.held, taken) == (True, False, ["taken"])
    assert (first.only(lambda: 1)(), second.only(lambda: 1)(), second.only(lambda: 1, lambda: 2)()) == (1, 0, 2)


def test_while_it_is_renewed_nobody_else_takes_it(bucket: Unreliable) -> None:
    clock = Time()
    first, second = lease_of(bucket, clock), lease_of(bucket, clock)
    for _ in range(20):
        first.step()
        second.step()
        clock.now += PATIENCE / 3
    assert first.held
    assert not second.held


def test_a_holder_that_died_is_followed_after_the_patience_whatever_its_clock_said(bucket: Unreliable) -> None:
    first, second = lease_of(bucket, Time(1e9)), lease_of(bucket, clock := Time(5.0))
    first.step()
    second.step()
    clock.now += PATIENCE - 0.1
    second.step()
    assert not second.held
    clock.now += 0.1
    second.step()
    assert second.held


def test_a_holder_that_was_stopped_does_not_trust_itself_and_learns_that_it_lost(bucket: Unreliable) -> None:
    clock = Time()
    first, second = lease_of(bucket, clock), lease_of(bucket, clock)
    first.step()
    second.step()
    clock.now += PATIENCE
    assert not first.held, "before it has asked anybody"
    second.step()
    assert second.held
    first.step()
    assert not first.held
    first.step()
    assert not first.held
    assert second.held


def test_given_back_it_is_taken_at_once(bucket: Unreliable) -> None:
    clock = Time()
    first, second = lease_of(bucket, clock), lease_of(bucket, clock)
    first.step()
    second.step()
    first.stop()
    second.step()
    assert not first.held
    assert second.held


def test_storage_that_fails_costs_the_lease_only_after_the_patience(bucket: Unreliable) -> None:
    lease = lease_of(bucket, clock := Time())
    lease.step()
    bucket.before = failing("swap", KEY, Unavailable("storage"))
    with pytest.raises(Unavailable):
        lease.step()
    clock.now += PATIENCE - 0.1
    assert lease.held
    clock.now += 0.1
    assert not lease.held, "by now another may have it"
    bucket.before = nothing
    lease.step()
    assert lease.held


def test_a_renewal_whose_answer_is_lost_does_not_cost_the_lease(bucket: Unreliable) -> None:
    lease = lease_of(bucket, Time())
    lease.step()
    bucket.after = failing("swap", KEY, Unavailable("the connection broke"))
    with pytest.raises(Unavailable):
        lease.step()
    bucket.after = nothing
    lease.step()
    lease.step()
    assert lease.held


def test_a_lease_that_cannot_be_read_is_taken_over(bucket: Unreliable) -> None:
    """A hand that wrote nonsense there must not stop everything for ever."""
    bucket.swap(KEY, b"nonsense", etag=None)
    lease = lease_of(bucket, clock := Time())
    lease.step()
    assert not lease.held
    clock.now += PATIENCE
    lease.step()
    assert lease.held
