"""Withdrawal: what should never have been published goes, everywhere and for good, and nothing else does."""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feed.announceable import describe_submission
from feed.withdrawals import noted_withdrawals, read_withdrawal
from ingest.withdraw import checked_reason, find
from processor.catalog import catalogs, newest_catalog
from processor.compaction import compact
from processor.lake import current_lake, outcome_of
from processor.part import parquet_bytes, part_without
from processor.rebuild import Rebuild
from processor.retention import looking, restore, sweep
from schemas import keys
from schemas.errors import Refused, Unavailable
from schemas.tables import TABLES
from tests.chain import Chain, failing, load, measured, nothing, passed, rows
from tests.withdrawing import (
    CONTEXT,
    LEAKED,
    QUOTED,
    SECRET,
    digest,
    entries_of,
    leaks,
    new_purge,
    purged,
    settle,
    sick,
    unprocessed,
    withdrawn,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that should not be there, among others of its batch, and once more in a later one; a rejected file that
    quotes it. Compacted in between, so that there are two catalogs."""
    chain = Chain(tmp_path_factory.mktemp("withdraw") / "data")
    chain.push(measured(1, "kept"))
    chain.push(LEAKED, CONTEXT)
    chain.push(passed("kept"))
    chain.push(QUOTED)
    settle(chain)
    compacted(chain)
    chain.push(LEAKED)
    chain.push(measured(2, "kept"))
    settle(chain)
    compacted(chain)
    chain.push(measured(3, "kept"))
    settle(chain)
    return chain.data


@pytest.fixture
def chain(data: Path, tmp_path: Path) -> Chain:
    """A copy of it."""
    return copied(data, tmp_path / "data")


def copied(data: Path, to: Path) -> Chain:
    shutil.copytree(data, to)
    chain = Chain(to)
    chain.pass_time(hours=1)
    return chain


def compacted(chain: Chain, version: int = 1) -> None:
    compact(chain.buckets.public, chain.reader_of(keys.outcomes_log(version)), version)


def both_withdrawn(chain: Chain) -> None:
    for body in (LEAKED, QUOTED):
        withdrawn(chain, digest(body))


def healthy(chain: Chain) -> None:
    assert [f"{one.rule}: {one}" for one in sick(chain)] == []
    assert leaks(chain.data) == []
    assert noted_withdrawals(chain.buckets.private) == {}


def rows_of(chain: Chain, version: int = 1) -> dict[str, list[Any]]:
    """All rows by table, as the newest outcomes name them."""
    found: dict[str, list[Any]] = {table: [] for table in TABLES}
    firsts = {keys.parse_outcome(key)[1] for key in chain.public.list(f"lake/v{version}/outcomes/")}  # type: ignore[index]
    for first in sorted(firsts):
        outcome = outcome_of(chain.buckets.public, version, first)
        assert outcome
        for part in outcome.parts:
            found[part.table] += pq.read_table(chain.data / "public" / part.key, partitioning=None).to_pylist()
    return found


def without_leaked(found: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {table: [row for row in some if row["seq"] not in (2, 4, 5)] for table, some in found.items()}


# --- what goes, and what stays ---


def test_nothing_of_it_is_left_and_all_others_keep_exactly_their_rows(chain: Chain) -> None:
    before = rows_of(chain)
    assert leaks(chain.data), "else this test could not fail"
    both_withdrawn(chain)
    purged(chain)
    healthy(chain)
    assert rows_of(chain) == without_leaked(before)
    assert sum(map(len, without_leaked(before).values())) > 0
    assert purged(chain) == 0


def test_every_submission_of_the_blob_is_withdrawn_whichever_was_named(chain: Chain) -> None:
    named = chain.submissions.entries(5, 5)[0].id
    withdrawal = withdrawn(chain, named)
    assert withdrawal.submissions == [chain.submissions.entries(seq, seq)[0].id for seq in (2, 5)]
    purged(chain)
    assert [one.verdict for one in chain.outcome(1, 1).submissions] == ["accepted", "withdrawn", "accepted", "rejected"]
    assert [one.verdict for one in chain.outcome(5, 1).submissions] == ["withdrawn", "accepted"]
    [problem] = chain.outcome(5, 1).submissions[0].problems
    assert problem.found == "one withdrawn on 2026-05-01: a token leaked"


def test_the_log_stays_dense_and_says_what_is_withdrawn_and_why(chain: Chain) -> None:
    withdrawn(chain, digest(LEAKED))
    purged(chain)
    entries = entries_of(chain)
    assert [entry.seq for entry in entries] == list(range(1, 9))
    assert (entries[-1].withdraws, entries[-1].summary) == (digest(LEAKED), "a token leaked")
    assert set(entries[-1].withdrawn) == {entries[1].id, entries[4].id}
    assert entries[-1].batch == 8
    outcome = chain.outcome(8)
    assert (outcome.submissions, outcome.parts) == ([], [])


def test_a_revision_says_what_it_has_taken_into_account(chain: Chain) -> None:
    withdrawn(chain, digest(LEAKED))
    purged(chain)
    before, after = outcome_of(chain.buckets.public, 1, 7), outcome_of(chain.buckets.public, 1, 1)
    assert before
    assert after
    assert (before.revision, before.through) == (0, 7)
    assert (after.revision, after.through) == (1, 8)
    assert after.transform_version == before.transform_version


def test_parts_without_such_rows_are_named_again(chain: Chain) -> None:
    before = {part.table: part.key for part in chain.outcome(1).parts}
    withdrawn(chain, digest(LEAKED))
    purged(chain)
    after = {part.table: part.key for part in chain.outcome(1, 1).parts}
    assert after["tests"] == before["tests"]
    assert after["measurements"] != before["measurements"]
    assert not (chain.data / "public" / before["measurements"]).exists()


def test_a_dashboard_that_follows_and_one_that_starts_later_have_the_same_rows(chain: Chain) -> None:
    query = "SELECT benchmark, value FROM measurements ORDER BY value"
    with chain.dashboard() as dashboard:
        load(dashboard)
        assert len(rows(dashboard, query)) == 5
        both_withdrawn(chain)
        purged(chain)
        load(dashboard)
        followed = rows(dashboard, query)
    shutil.rmtree(chain.data / "dashboard")
    with chain.dashboard() as dashboard:
        load(dashboard)
        assert rows(dashboard, query) == followed == [("kept", 1.0), ("kept", 2.0), ("kept", 3.0)]


def test_withdrawing_twice_is_fine_and_looks_again(chain: Chain) -> None:
    first = withdrawn(chain, digest(LEAKED))
    purged(chain)
    (chain.data / "public" / keys.blob(digest(LEAKED))).write_bytes(LEAKED)  # as one who should not have been able to
    again = withdrawn(chain, first.submissions[0], "another reason")
    assert again == first, "the first reason holds, and a submission whose record is gone is found in the log"
    assert purged(chain) > 0
    withdrawn(chain, digest(QUOTED))
    purged(chain)
    healthy(chain)


def test_a_blob_that_waits_in_the_private_bucket_and_uploads_go_too(chain: Chain) -> None:
    chain.buckets.private.create(keys.swept_blob(digest(LEAKED)), LEAKED)
    id = chain.submissions.entries(2, 2)[0].id
    chain.buckets.private.create(keys.upload_body(id), LEAKED)
    both_withdrawn(chain)
    purged(chain)
    healthy(chain)


def test_what_is_not_announced_yet_goes_with_its_marker(chain: Chain) -> None:
    body = measured(9, SECRET + "9")
    chain.push(body)
    both_withdrawn(chain)
    withdrawn(chain, digest(body))
    purged_alone(chain)
    assert list(chain.private.list("pending/submissions/")) == []
    purged(chain)
    healthy(chain)


def purged_alone(chain: Chain) -> None:
    """Withdrawals are announced and carried out, as far as that goes without anybody else's work."""
    while chain.announcer_of(chain.submissions, only_withdrawals).commit():
        pass
    purge = new_purge(chain)
    while purge.step():
        pass


def only_withdrawals(bucket: Any, marker: keys.Marker) -> Any:
    """A describe that finds nothing else yet."""
    return describe_submission(bucket, marker) if keys.parse_withdrawal_id(marker.id) else None


# --- who sends it again ---


def test_the_same_bytes_are_refused_for_ever(chain: Chain) -> None:
    before = {*chain.public.list(""), *chain.private.list("")}
    withdrawal = withdrawn(chain, digest(LEAKED))
    with pytest.raises(Refused, match=f"a token leaked .*{keys.withdrawal(digest(LEAKED))}") as refusal:
        chain.push(LEAKED, format="runfeed")
    assert refusal.value.status == 410
    after = {*chain.public.list(""), *chain.private.list("")}
    assert {key.split("/")[0] for key in after - before} == {"withdrawals", "withdrawing", "pending"}
    both_withdrawn(chain)
    purged(chain)
    with pytest.raises(Refused):
        chain.push(LEAKED)
    assert read_withdrawal(chain.buckets.public, withdrawal.sha256) == withdrawal
    healthy(chain)


class Death(BaseException):
    """Of a process: nothing catches it."""


MOMENTS = [("before", "blobs/"), ("before", "pending/"), ("before", "submissions/"), ("after", "submissions/")]


@pytest.mark.parametrize("dies", [False, True], ids=["goes on", "dies"])
@pytest.mark.parametrize(("when", "step"), MOMENTS, ids=[f"{when} {step}" for when, step in MOMENTS])
def test_who_sends_it_in_the_moment_of_its_withdrawal_brings_nothing_back(
    chain: Chain, when: str, step: str, *, dies: bool
) -> None:
    """It is withdrawn and wholly removed around a step of an admission, which then goes on, or dies after that step."""
    both: list[int] = []

    def hook(moment: str, of: Callable[[str, str], None]) -> None:
        for bucket in (chain.public, chain.private):
            bucket.before = bucket.after = nothing
            setattr(bucket, moment, of)

    def meanwhile(verb: str, key: str) -> None:
        if verb == "create" and key.startswith(step):
            hook("before", nothing)
            both_withdrawn(chain)
            both.append(purged(chain))
            if dies:
                hook("after" if when == "before" else "before", failing("create", "", Death()))

    hook(when, meanwhile)
    with pytest.raises(Death if dies else Refused):
        chain.push(LEAKED, format="runfeed")
    hook("before", nothing)
    assert both
    settle(chain)
    chain.pass_time(hours=1)
    purged(chain)
    chain.pass_time(days=9)
    with looking(chain.buckets, chain.reader_of, chain.now) as look:
        list(sweep(look, remove=True))
    healthy(chain)


# --- who processes it meanwhile ---


def test_what_is_processed_in_the_moment_of_its_withdrawal_is_revised(chain: Chain) -> None:
    body = measured(4, SECRET + "4")
    chain.push(body)
    chain.push(measured(5, "kept"))
    batch = chain.announce()

    def meanwhile(verb: str, key: str) -> None:
        if verb == "create" and key.startswith("lake/v1/outcomes/"):
            chain.public.before = nothing
            both_withdrawn(chain)
            withdrawn(chain, digest(body))
            new_purge(chain).step()

    chain.public.before = meanwhile
    assert chain.process(batch)
    assert chain.verdicts(batch[0]) == ["accepted", "accepted"]
    purged(chain)
    assert [one.verdict for one in chain.outcome(batch[0], 1).submissions] == ["withdrawn", "accepted"]
    healthy(chain)


def test_the_purge_waits_for_who_may_be_at_work_on_it(chain: Chain) -> None:
    body = measured(4, SECRET + "4")
    chain.push(body)
    batch = chain.announce()
    withdrawn(chain, digest(body))
    purged_alone(chain)
    assert digest(body) in noted_withdrawals(chain.buckets.private)
    assert chain.process(batch)
    assert chain.verdicts(batch[0]) == ["withdrawn"]
    both_withdrawn(chain)
    purged(chain)
    healthy(chain)


def test_a_worker_that_wakes_up_after_all_is_over_brings_nothing_back(chain: Chain) -> None:
    """Its batch was done by another, revised, and the first outcome removed; its own would have that one's key."""
    body = measured(4, SECRET + "4")
    chain.push(body)
    batch = chain.announce()

    def meanwhile(verb: str, key: str) -> None:
        if verb == "create" and key.startswith("lake/v1/runs/"):
            chain.public.before = nothing
            chain.pass_time(seconds=30)
            assert chain.process(batch, redelivered=True)
            chain.announce_outcomes()
            both_withdrawn(chain)
            withdrawn(chain, digest(body))
            purged(chain)

    chain.public.before = meanwhile
    assert not chain.process(batch)
    assert digest(body) in noted_withdrawals(chain.buckets.private)
    purged(chain)
    healthy(chain)


def test_many_withdrawals_are_found_as_few_are(chain: Chain) -> None:
    bodies = [measured(100 + at, f"{SECRET}{at}") for at in range(12)]
    batch = chain.push_batch(*bodies, measured(7, "kept"))
    for body in bodies:
        withdrawn(chain, digest(body))
    chain.process(batch)
    assert chain.verdicts(batch[0]) == ["withdrawn"] * 12 + ["accepted"]
    both_withdrawn(chain)
    purged(chain)
    healthy(chain)


# --- lake versions ---


def rebuilding(chain: Chain, version: int | None = None) -> Rebuild:
    return Rebuild(chain.buckets, chain.reader_of, chain.processor, clock=chain.clock, version=version)


def replay(work: Rebuild) -> None:
    while work.replay(lambda *_: None):
        pass


def test_a_rebuild_over_withdrawn_entries_gives_the_same_rows(chain: Chain) -> None:
    both_withdrawn(chain)
    purged(chain)
    chain.push(measured(8, "kept"))
    settle(chain)
    work = rebuilding(chain)
    replay(work)
    comparison = work.compare()
    assert (comparison.equal, comparison.compared, comparison.withdrawn, comparison.left_out) == (True, 5, 3, 0)
    work.switch()
    assert rows_of(chain, 2) == rows_of(chain, 1)
    purged(chain)
    healthy(chain)


def test_it_goes_from_the_version_that_served_before_and_from_one_that_is_being_built(chain: Chain) -> None:
    """v1 served before, v2 serves, v3 is half built; and v2 has batches of its own."""
    work = rebuilding(chain)
    replay(work)
    work.switch()
    compacted(chain, 2)
    chain.processor.process(3, 1, 4, redelivered=False)
    before = rows_of(chain, 1)
    both_withdrawn(chain)
    purged_alone(chain)
    assert leaks(chain.data) == []
    assert rows_of(chain, 1) == rows_of(chain, 2) == without_leaked(before)
    assert rows_of(chain, 3) == {
        table: [row for row in some if row["seq"] < 5] for table, some in rows_of(chain).items()
    }
    work = rebuilding(chain)
    replay(work)
    assert work.new_version == 3
    assert work.compare().equal
    work.switch()
    purged(chain)
    healthy(chain)


def test_what_a_rebuild_was_just_reading_is_found_when_it_comes_to_the_withdrawal(chain: Chain) -> None:
    work = rebuilding(chain)

    def meanwhile(verb: str, key: str) -> None:
        if verb == "create" and key.startswith("lake/v2/outcomes/"):
            chain.public.before = nothing
            both_withdrawn(chain)
            purged(chain)

    chain.public.before = meanwhile
    work.replay(lambda *_: None)
    assert leaks(chain.data)
    replay(work)
    assert noted_withdrawals(chain.buckets.private)
    work.switch()
    purged(chain)
    healthy(chain)


def test_a_version_that_is_being_removed_goes_at_once(chain: Chain) -> None:
    for _ in range(2):
        work = rebuilding(chain)
        replay(work)
        work.switch()
    chain.buckets.public.delete(keys.feed_head(keys.outcomes_log(1)))  # a sweep that has died after its first step
    both_withdrawn(chain)
    purged_alone(chain)
    assert list(chain.public.list("lake/v1/")) == []
    assert leaks(chain.data) == []


def interrupted(chain: Chain) -> None:
    """A rebuild that has written the parts of its first batch, and dies before their outcome."""
    chain.public.before = failing("create", "lake/v2/outcomes/", Death())
    with pytest.raises(Death):
        replay(rebuilding(chain))
    chain.public.before = nothing


def leaking_parts(chain: Chain, version: int) -> list[str]:
    return [f"public/{key}" for key in chain.parts(version) if f"public/{key}" in leaks(chain.data)]


def test_parts_of_an_interrupted_rebuild_go_though_it_went_on_with_longer_batches(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "data")
    chain.push(measured(1, "kept"))
    chain.push(LEAKED)
    settle(chain)
    interrupted(chain)
    left = leaking_parts(chain, 2)
    assert left
    chain.push(measured(2, "kept"))
    settle(chain)
    work = rebuilding(chain)
    replay(work)
    work.switch()
    [outcome] = chain.outcomes(2)
    assert (outcome.first, outcome.last) == (1, 3), "of another length than what was left"
    assert set(left) < set(leaking_parts(chain, 2))
    chain.pass_time(hours=1)
    withdrawn(chain, digest(LEAKED))
    purged(chain)
    healthy(chain)


def test_parts_of_an_abandoned_rebuild_are_named_by_the_doctor(tmp_path: Path) -> None:
    """No outcome names them, so no purge looks for them; when the rebuild goes on, they are removed."""
    chain = Chain(tmp_path / "data")
    chain.push(measured(1, "kept"))
    chain.push(LEAKED)
    settle(chain)
    interrupted(chain)
    chain.pass_time(hours=1)
    withdrawn(chain, digest(LEAKED))
    purged(chain)
    assert leaks(chain.data) == leaking_parts(chain, 2) != []
    assert [breach.where for breach in sick(chain)] == [f"{key}, seq 2" for key in sorted(chain.parts(2))]
    work = rebuilding(chain)
    replay(work)
    work.switch()
    purged(chain)
    healthy(chain)


def test_a_damaged_lake_version_keeps_nobody_from_removing_it_from_the_others(chain: Chain) -> None:
    """And it is not silently passed over: the note stays, and each look says what is not there."""
    work = rebuilding(chain)
    replay(work)
    work.switch()
    chain.buckets.public.delete(*list(chain.public.list("lake/v1/measurements/")))
    both_withdrawn(chain)
    settle(chain)
    purge = new_purge(chain)
    for _ in range(4):
        with pytest.raises(Unavailable, match=r"lake/v1/measurements/.* not there"):
            purge.step()
    assert [key for key in leaks(chain.data) if not key.startswith("public/lake/v1/")] == []
    assert rows_of(chain, 2)["measurements"]
    assert set(noted_withdrawals(chain.buckets.private)) == {digest(LEAKED), digest(QUOTED)}


# --- catalogs, snapshots, sweeps ---


def test_the_newest_catalog_has_all_other_rows_and_older_ones_are_gone(chain: Chain) -> None:
    assert catalogs(chain.buckets.public, 1) == [1, 2]
    both_withdrawn(chain)
    purged(chain)
    [generation] = catalogs(chain.buckets.public, 1)
    assert generation > 2
    catalog = newest_catalog(chain.buckets.public, 1)
    held = [
        row
        for file in catalog.tables["measurements"]
        for row in pq.read_table(chain.data / "public" / file.key, partitioning=None).to_pylist()
    ]
    assert sorted(row["value"] for row in held) == [1, 2, 3]


def test_compaction_goes_on_where_outcomes_and_parts_are_gone(chain: Chain) -> None:
    """The catalogs are behind, and what they have not read yet is removed."""
    for key in list(chain.public.list("lake/v1/catalog/")):
        chain.buckets.public.delete(key)
    both_withdrawn(chain)
    purged(chain)
    compacted(chain)
    healthy(chain)
    assert newest_catalog(chain.buckets.public, 1).through == chain.reader_of("outcomes-v1").last_seq()


def test_a_compaction_in_the_moment_of_a_withdrawal_ends_well(chain: Chain) -> None:
    def meanwhile(verb: str, key: str) -> None:
        if verb == "local_path" and key.startswith("lake/v1/measurements/"):
            chain.public.before = nothing
            both_withdrawn(chain)
            purged(chain)

    for key in list(chain.public.list("lake/v1/catalog/")):
        chain.buckets.public.delete(key)
    chain.public.before = meanwhile
    compacted(chain)
    chain.pass_time(hours=1)
    purged(chain)
    healthy(chain)


def test_snapshots_from_before_go_and_later_ones_stay(chain: Chain) -> None:
    old = [keys.snapshot(1, layout, 3, 7, "ab" * 32) for layout in ("3.2", "4.0")]
    for key in old:
        chain.buckets.public.create(key, b"rows and " + SECRET.encode())
        chain.buckets.public.create(keys.snapshot_record(key), b"{}")
    both_withdrawn(chain)
    purged(chain)
    assert list(chain.public.list("snapshots/")) == []
    last = chain.reader_of("outcomes-v1").last_seq()
    new = keys.snapshot(1, "3.2", last, 9, "cd" * 32)
    chain.buckets.public.create(new, b"rows")
    chain.pass_time(hours=1)
    purged(chain)
    assert list(chain.public.list("snapshots/")) == [new]


def test_no_sweep_brings_a_withdrawn_blob_back(chain: Chain) -> None:
    both_withdrawn(chain)
    purged(chain)
    chain.buckets.private.create(keys.swept_blob(digest(LEAKED)), LEAKED)  # by a sweep that was slow
    chain.buckets.public.create(keys.blob(digest(QUOTED)), QUOTED)  # by an admission that died
    old = chain.now.timestamp() - 30 * 86400
    for path in (chain.data / "public/blobs").rglob("*"):
        os.utime(path, (old, old))
    with looking(chain.buckets, chain.reader_of, chain.now) as look:
        assert restore(look, remove=True) == 0
        assert keys.blob(digest(QUOTED)) in {litter.key for litter in sweep(look, remove=True)}
    assert not list(chain.public.list(keys.blob(digest(LEAKED))))
    assert not list(chain.private.list(keys.swept_blob(digest(QUOTED))))
    chain.pass_time(hours=1)
    purged(chain)
    healthy(chain)


# --- deaths ---


def death_at(chain: Chain, count: int, *, after: bool) -> Callable[[], bool]:
    """Have the `count`-th write from now on die, before or after it is made; the function tells whether it did."""
    left = [count]

    def hook(verb: str, key: str) -> None:
        if verb in ("create", "swap", "delete"):
            left[0] -= 1
            if left[0] == 0:
                raise Death

    for bucket in (chain.public, chain.private):
        setattr(bucket, "after" if after else "before", hook)
    return lambda: left[0] <= 0


def deaths() -> list[tuple[int, bool]]:
    every = 1 if os.environ.get("RUNFEED_SOAK") else 6
    return [(count, after) for after in (False, True) for count in range(1 + after, 44, every)]


@pytest.mark.parametrize(("count", "after"), deaths(), ids=[f"{count}-{after}" for count, after in deaths()])
def test_whatever_step_is_the_last_before_a_death_the_next_start_ends_it(chain: Chain, count: int, after: bool) -> None:
    died = death_at(chain, count, after=after)
    try:
        both_withdrawn(chain)
        purged(chain)
    except Death:
        assert died()
    else:
        assert not died()
        pytest.fail(f"there are not so many writes; {count} is beyond")
    for bucket in (chain.public, chain.private):
        bucket.before = bucket.after = nothing
    both_withdrawn(chain)  # the operator's command has failed, so it is given again
    purged(chain)
    healthy(chain)


def test_two_that_remove_at_the_same_time_do_not_harm_each_other(chain: Chain) -> None:
    """One does all of it in the moment in which the other was about to commit the first revision."""
    both_withdrawn(chain)
    settle(chain)

    def meanwhile(verb: str, key: str) -> None:
        if verb == "create" and key == keys.outcome(1, 1, 1):
            chain.public.before = nothing
            purged(chain)

    chain.public.before = meanwhile
    purged(chain)
    assert chain.public.before is nothing
    healthy(chain)


# --- in whatever order ---

SECRETS = [measured(at, f"{SECRET}-{at}") for at in range(3)]
ACTIONS = ["push", "withdraw", "announce", "process", "outcomes", "purge", "compact", "rebuild"]


@given(actions=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 2)), min_size=4, max_size=14))
@settings(max_examples=60 if os.environ.get("RUNFEED_SOAK") else 6, suppress_health_check=[HealthCheck.too_slow])
def test_in_whatever_order_things_happen_what_is_withdrawn_goes_and_all_else_stays(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, int]]
) -> None:
    chain = Chain(tmp_path_factory.mktemp("order") / "data")
    purge, kept, gone = new_purge(chain), 0, set[int]()
    for action, which in actions:
        version, _ = current_lake(chain.buckets.public)
        if action == "push":
            chain.push(measured(10 + kept, "kept"))
            kept += 1
            with contextlib.suppress(Refused):
                chain.push(SECRETS[which], format=["auto", "runfeed"][kept % 2])
        elif action == "withdraw":
            with contextlib.suppress(Refused):  # it is not there
                withdrawn(chain, digest(SECRETS[which]))
                gone.add(which)
        elif action == "announce":
            chain.announcer_of(chain.submissions, describe_submission).commit()
        elif action == "process":
            for batch in unprocessed(chain, version)[which : which + 1]:
                chain.process(batch, lake_version=version)
        elif action == "outcomes":
            chain.announce_outcomes(version)
        elif action == "purge":
            purge.step()
        elif action == "compact":
            compacted(chain, version)
        else:
            work = rebuilding(chain)
            work.replay(lambda *_: None)
            work.switch()
    purged(chain)
    chain.pass_time(hours=1)
    purged(chain)
    assert [f"{one.rule}: {one}" for one in sick(chain)] == []
    for which in gone:
        assert leaks(chain.data, f"{SECRET}-{which}") == []
    version, _ = current_lake(chain.buckets.public)
    found = sorted(row["value"] for row in rows_of(chain, version)["measurements"] if row["benchmark"] == "kept")
    assert found == [10 + at for at in range(kept)]


# --- its parts ---


def test_a_part_keeps_nothing_of_the_rows_that_go(tmp_path: Path) -> None:
    """Not even in the dictionary of a column."""
    given = [{"seq": seq, "benchmark": f"of {seq}", "metric": "t", "value": float(seq)} for seq in (1, 2, 3, 2)]
    table = pa.Table.from_pylist(given, TABLES["measurements"])
    path = tmp_path / "part.parquet"
    path.write_bytes(parquet_bytes("measurements", table.to_batches()))
    made = part_without("measurements", path, {2})
    assert made
    assert made.rows == 2
    path.write_bytes(made.body)
    left = pq.read_table(path, partitioning=None)
    assert left.schema.equals(TABLES["measurements"])
    assert left.to_pylist() == [row for row in table.to_pylist() if row["seq"] != 2]
    [chunk] = left["benchmark"].chunks
    assert chunk.dictionary.to_pylist() == ["of 1", "of 3"]
    assert part_without("measurements", path, {2}) is None
    emptied = part_without("measurements", path, {1, 3})
    assert emptied
    assert emptied.rows == 0


def test_a_part_of_an_earlier_release_keeps_its_columns(tmp_path: Path) -> None:
    schema = TABLES["tests"].remove(TABLES["tests"].get_field_index("known_intermittent"))
    path = tmp_path / "part.parquet"
    pq.write_table(pa.Table.from_pylist([{"seq": 1, "test": "a"}, {"seq": 2, "test": "b"}], schema), path)
    made = part_without("tests", path, [1])
    assert made
    path.write_bytes(made.body)
    assert [(row["seq"], row["test"]) for row in pq.read_table(path, partitioning=None).to_pylist()] == [(2, "b")]
    assert pq.read_schema(path).names == schema.names


@pytest.mark.parametrize(
    "reason", ["", "  ", "two\nlines", "x" * 501, "a\u202ebc"], ids=["none", "blank", "lines", "long", "bidi"]
)
def test_a_reason_is_one_line_that_can_be_read(reason: str) -> None:
    with pytest.raises(Refused, match="reason"):
        checked_reason(reason)


def test_what_is_not_there_cannot_be_withdrawn(chain: Chain) -> None:
    with pytest.raises(Refused, match="the id of a submission"):
        find(chain.buckets, "ab" * 32)
    with pytest.raises(Refused, match="64"):
        find(chain.buckets, "../x")
