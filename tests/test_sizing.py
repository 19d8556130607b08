"""The sizing table is calculated from what the code really asks of the storage, counted here call by call."""

from collections import Counter
from pathlib import Path

import pytest

from dashboard_api.behind import Replica
from dashboard_api.role import REPLICA_EVERY
from feed.announceable import describe_submission
from feed.announcer import Announcer
from feed.lag import Backlogs
from infra import sizing
from infra.lease import RENEWALS
from infra.local import Caller
from infra.process import TOLD_LOOK_SECONDS
from infra.settings import Settings
from ingest.access import rules_for, trust_of
from ingest.projects import add_project
from ingest.tokens import create_token
from processor.current import CurrentLake
from processor.dispatcher import read_checkpoint
from processor.lake import current_lake
from processor.purge import Purge
from processor.roles import LAG_EVERY, NOTES_EVERY, PAUSE_SECONDS
from tests.bench.small_files import small_file
from tests.chain import Chain, load

ROOT = Path(__file__).parents[1]
FILES = 20


class Counting:
    """Counts a chain's calls as S3 does: by what they cost."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.counts: Counter[str] = Counter()
        for bucket in (chain.public, chain.private):
            bucket.before = self._count

    def _count(self, verb: str, key: str) -> None:
        kind = {"create": "writes", "swap": "writes", "list": "lists", "delete": "deletes"}.get(verb, "reads")
        if kind != "deletes" or key:  # a delete of nothing asks nobody
            self.counts[kind] += 1

    def of(self, *steps: object) -> Counter[str]:
        """What these steps ask for."""
        self.counts.clear()
        for step in steps:
            step()  # type: ignore[operator]
        return Counter(self.counts)


@pytest.fixture
def counting(tmp_path: Path) -> Counting:
    return Counting(Chain(tmp_path))


def test_a_submission_and_a_batch_cost_what_the_table_assumes(counting: Counting) -> None:
    chain = counting.chain
    add_project(chain.buckets, "p", chain.now)
    secret, _ = create_token(chain.buckets.private, name="ci", projects=["p"], expires=None, now=chain.now)

    def push() -> None:
        caller = Caller("192.0.2.1", {"authorization": f"Bearer {secret}"})
        trust = trust_of(caller, "p", Settings(host="0.0.0.0"), chain.buckets, chain.now)
        rules_for(chain.buckets, "p", trust, chain.now)
        chain.push(small_file(len(pushed)))
        pushed.append(1)

    pushed: list[int] = []
    ingest = counting.of(*[push] * FILES)
    assert ingest["writes"] == sizing.WRITES_PER_SUBMISSION * FILES
    batch: list[tuple[int, int]] = []
    announce = counting.of(lambda: batch.append(chain.announce()))
    assert announce["writes"] + announce["deletes"] == sizing.WRITES_PER_COMMIT
    work = counting.of(lambda: chain.process(batch[0]))
    assert work["writes"] == sizing.WRITES_PER_BATCH
    assert work["lists"] == sizing.LISTS_PER_BATCH
    outcomes = counting.of(chain.announce_outcomes)
    assert outcomes["writes"] + outcomes["deletes"] == sizing.WRITES_PER_COMMIT

    reads = ingest["reads"] + announce["reads"] + work["reads"] + outcomes["reads"]
    looks = 2 + 1  # the announcers' own heads, and that of this test's `announce`, stand among the looks
    assert reads == sizing.READS_PER_SUBMISSION * FILES + sizing.READS_PER_BATCH + looks
    with chain.dashboard() as dashboard:
        idle = counting.of(dashboard.step)
        loaded = counting.of(lambda: load(dashboard))
    assert idle["reads"] > 0
    assert loaded["reads"] <= sizing.READS_PER_BATCH_AND_DASHBOARD + 3 * sizing.READS_PER_DASHBOARD_LOOK


def test_an_idle_look_costs_what_the_table_assumes(counting: Counting) -> None:
    chain = counting.chain
    chain.done(small_file(0))
    lake = CurrentLake(
        chain.buckets, chain.reader_of, lambda *_, **__: None, clock=chain.clock, announcer_of=chain.announcer_of
    )
    announcer = _announcer(chain)
    with chain.dashboard() as dashboard:
        load(dashboard)
        for _ in range(2):  # the first has to find out how far things have come
            announcing = counting.of(announcer, lake.announce, lake.dispatch)
            reading = counting.of(dashboard.step)
    assert announcing == {"reads": sizing.READS_PER_ANNOUNCER_LOOK, "lists": sizing.LISTS_PER_ANNOUNCER_LOOK}
    assert reading == {"reads": sizing.READS_PER_DASHBOARD_LOOK}


def test_looking_at_what_waits_costs_what_the_table_assumes(counting: Counting) -> None:
    chain = counting.chain
    chain.done(small_file(0))
    seen: list[object] = []

    def report(*said: object) -> None:
        seen.append(said)

    backlogs = Backlogs(
        chain.buckets,
        chain.reader_of,
        report,
        lake_version=lambda: current_lake(chain.buckets.public)[0],
        checkpoint=lambda version: read_checkpoint(chain.buckets.private, version),
        clock=chain.clock,
    )
    with chain.dashboard() as dashboard:
        load(dashboard)
        replica = Replica(dashboard, chain.reader_of, report, report)
        for _ in range(2):
            announcer, dashboards = counting.of(backlogs.look), counting.of(replica.look)
    assert seen
    assert announcer["lists"] == sizing.LISTS_PER_LAG_LOOK
    assert announcer["reads"] == sizing.READS_PER_LAG_LOOK
    assert dashboards == {"reads": sizing.READS_PER_REPLICA_LOOK}


def test_a_look_for_withdrawals_is_one_listing(counting: Counting) -> None:
    chain = counting.chain
    chain.done(small_file(0))
    purge = Purge(chain.buckets, chain.reader_of, chain.announcer_of, clock=chain.clock)
    purge.step()  # the first one, and one each hour, asks for all withdrawals too
    assert counting.of(purge.step) == {"lists": 1}


def _announcer(chain: Chain) -> object:
    return Announcer(chain.buckets, chain.submissions, describe_submission, clock=chain.clock, threads=1).commit


def test_it_looks_as_often_as_the_table_assumes() -> None:
    assert sizing.LOOK_SECONDS == TOLD_LOOK_SECONDS
    assert sizing.LAG_SECONDS == LAG_EVERY
    assert sizing.NOTES_SECONDS == NOTES_EVERY
    assert sizing.REPLICA_SECONDS == REPLICA_EVERY
    assert 1 / sizing.COMMITS_PER_SECOND > PAUSE_SECONDS
    assert Settings.lease_seconds / RENEWALS == sizing.LEASE_SECONDS
    assert Settings.inbox_seconds == sizing.INBOX_SECONDS


@pytest.mark.parametrize("files", [1, 50])
def test_a_batch_takes_the_room_that_the_table_assumes(tmp_path: Path, files: int) -> None:
    """Within a quarter, from a batch of one file to a full one."""
    chain = Chain(tmp_path)
    chain.done(*map(small_file, range(files)))
    stored = sum(path.stat().st_size for path in (tmp_path / "public").rglob("*") if path.is_file())
    assumed = files * (sizing.BLOB_BYTES + sizing.BYTES_PER_SUBMISSION) + sizing.BYTES_PER_BATCH
    assert stored == pytest.approx(assumed, rel=0.25)


def test_more_submissions_never_cost_less_and_idling_is_what_little_work_costs() -> None:
    days = [sizing.day(10**power) for power in range(8)]
    assert [one.writes for one in days] == sorted(one.writes for one in days)
    assert [one.stored_bytes for one in days] == sorted(one.stored_bytes for one in days)
    assert days[0].idle_dollars_a_month == pytest.approx(days[0].request_dollars_a_month, rel=0.01)
    assert days[7].request_dollars_a_month > 10 * days[7].idle_dollars_a_month
    more = sizing.day(1000, sizing.Installation(dashboards=5))
    assert more.reads > sizing.day(1000).reads


def test_the_table_stands_in_the_manual() -> None:
    text = (ROOT / "infra/OPERATING.md").read_text()
    assert sizing.table() in text
    assert f"costs ${sizing.day(0).idle_dollars_a_month:.0f} a month" in text
