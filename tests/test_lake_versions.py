"""Lake versions are switched, back and forth, while results arrive: each has its outcome, whichever version serves."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

import pytest
from click.testing import CliRunner, Result

from feed.announceable import describe_submission
from feed.announcer import Announcer
from processor.children import Children
from processor.current import CurrentLake
from processor.dispatcher import read_checkpoint
from processor.doctor import breaches
from processor.lake import current_lake, lake_versions, read_current_lake
from processor.lake_cli import compact, lake
from processor.rebuild import Rebuild
from schemas.errors import Refused, SwapLost
from tests.chain import Chain, InThisProcess, load, measured, rows


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """Three commits, processed in v1."""
    chain = Chain(tmp_path / "data")
    for at in range(3):
        chain.done(measured(at))
    return chain


def switched(chain: Chain, version: int | None = None) -> Rebuild:
    """To another version, or to a new one."""
    work = Rebuild(chain.buckets, chain.reader_of, chain.processor, clock=chain.clock, version=version)
    work.replay(lambda *_: None)
    work.switch()
    return work


def batches(chain: Chain, version: int) -> list[tuple[int, int]]:
    return [(outcome.first, outcome.last) for outcome in chain.outcomes(version)]


def healthy(chain: Chain) -> bool:
    return list(breaches(chain.buckets, chain.now, deep=True, settled=True)) == []


def test_a_version_that_serves_again_first_gets_what_it_lacks(chain: Chain) -> None:
    switched(chain)
    for at in range(3, 6):
        batch = chain.push_batch(measured(at), measured(at + 0.5))
        chain.process(batch, lake_version=2)
    chain.announce_outcomes(2)
    work = switched(chain, 1)
    assert (work.old_version, work.new_version, work.done) == (2, 1, 9)
    assert current_lake(chain.buckets.public)[0] == 1
    assert batches(chain, 1) == [(1, 1), (2, 2), (3, 3), (4, 5), (6, 7), (8, 9)]
    assert read_checkpoint(chain.buckets.private, 1) == 9
    assert healthy(chain)
    with chain.dashboard() as dashboard:
        load(dashboard)
        assert dashboard.database().lake_version == 1
        assert rows(dashboard, "SELECT count(*) FROM measurements") == [(9,)]


def test_batches_that_were_done_out_of_order_leave_gaps_that_are_filled(chain: Chain) -> None:
    """Of four batches that were under way when the lake was switched, the second and fourth had been finished."""
    under_way = [chain.push_batch(measured(10 + at), measured(20 + at)) for at in range(4)]
    for batch in under_way[1::2]:
        chain.process(batch)
    switched(chain)
    switched(chain, 1)
    assert batches(chain, 1) == [(1, 1), (2, 2), (3, 3), *under_way]
    assert healthy(chain)


def test_a_worker_that_still_has_a_batch_of_the_version_and_the_catch_up_make_one_outcome(chain: Chain) -> None:
    """So the catch-up cuts batches as the dispatcher did, though a new version has larger ones."""
    under_way = [chain.push_batch(measured(10 + at)) for at in range(3)]
    switched(chain)
    assert batches(chain, 2) == [(1, 6)]
    work = Rebuild(chain.buckets, chain.reader_of, chain.processor, clock=chain.clock, version=1)

    def worker(verb: str, key: str) -> None:
        if verb == "create" and key.startswith("lake/v1/outcomes/"):
            chain.public.before = lambda *_: None
            chain.process(under_way[0])
            chain.process(under_way[2], redelivered=True)

    chain.public.before = worker
    work.replay(lambda *_: None)
    work.switch()
    assert batches(chain, 1) == [(1, 1), (2, 2), (3, 3), *under_way]
    chain.announce_outcomes()
    assert healthy(chain)


def test_a_new_version_that_has_served_before_is_continued_commit_by_commit(chain: Chain) -> None:
    switched(chain)
    switched(chain, 1)
    late = [chain.push_batch(measured(10 + at)) for at in range(2)]
    switched(chain)  # v2 again, since its transform is ours
    assert batches(chain, 2) == [(1, 3), *late]
    assert healthy(chain)


def test_of_two_who_switch_one_wins(chain: Chain) -> None:
    switched(chain)
    works = [Rebuild(chain.buckets, chain.reader_of, chain.processor, clock=chain.clock, version=1) for _ in range(2)]
    works[0].switch()
    with pytest.raises(SwapLost):
        works[1].switch()


def test_current_json_remembers_which_version_served_before(chain: Chain) -> None:
    assert read_current_lake(chain.buckets.public)[0].previous == 0
    switched(chain)
    assert read_current_lake(chain.buckets.public)[0].previous == 1
    switched(chain, 1)
    assert read_current_lake(chain.buckets.public)[0].previous == 2


# --- under traffic ---


class Traffic:
    """The loops of a running Runfeed, on the chain, and somebody who pushes all the time."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.receipts: list[str] = []
        self.errors: list[BaseException] = []
        self.queue: SimpleQueue[tuple[int, int, int, bool]] = SimpleQueue()
        self.ending = threading.Event()
        self.lake = CurrentLake(
            chain.buckets, chain.reader_of, self._send, clock=chain.clock, announcer_of=chain.announcer_of
        )
        self.announcer = Announcer(
            chain.buckets, chain.submissions, describe_submission, clock=chain.clock, head_keep=10, threads=1
        )
        steps = {
            self._push: 0.02,
            self.announcer.commit: 0.2,  # a pause as the real loops make it
            self.lake.dispatch: 0.05,
            self._work: 0.01,
            self.lake.announce: 0.2,
        }
        self.threads = [threading.Thread(target=self._loop, args=one) for one in steps.items()]

    def __enter__(self) -> "Traffic":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        for thread in self.threads:
            thread.join()

    def _loop(self, step: Callable[[], object], pause: float) -> None:
        while not self.ending.is_set():
            try:
                step()
            except SwapLost:
                continue
            except BaseException as error:
                self.errors.append(error)
                raise
            time.sleep(pause)

    def _push(self) -> None:
        self.receipts.append(self.chain.push(measured(len(self.receipts), "traffic")))

    def _send(self, version: int, first: int, last: int, *, redelivered: bool) -> None:
        self.queue.put((version, first, last, redelivered))

    def _work(self) -> None:
        if not self.queue.empty():
            version, first, last, redelivered = self.queue.get()
            self.chain.processor.process(version, first, last, redelivered=redelivered)

    def drain(self) -> None:
        """Until nothing waits, with the steps that the loops did."""
        while self.announcer.commit() + self.lake.dispatch() + (not self.queue.empty()) + self.lake.announce():
            while not self.queue.empty():
                self._work()


def test_switching_and_rolling_back_under_traffic_loses_and_doubles_nothing(chain: Chain) -> None:
    with Traffic(chain) as traffic, chain.dashboard() as dashboard:
        for version in (None, 1, None, 2, None):
            before = len(traffic.receipts)
            work = switched(chain, version)
            while dashboard.database().lake_version != work.new_version:
                dashboard.step()
            while len(traffic.receipts) < before + 8 and not traffic.errors:
                time.sleep(0.01)
        assert traffic.errors == []
        traffic.__exit__()
        traffic.drain()
        serving, _ = current_lake(chain.buckets.public)
        assert (serving, lake_versions(chain.buckets.public)) == (3, [1, 2, 3])
        assert healthy(chain)
        load(dashboard)
        found = rows(dashboard, "SELECT value FROM measurements WHERE benchmark = 'traffic' ORDER BY value")
        assert found == [(float(at),) for at in range(len(traffic.receipts))]
        assert rows(dashboard, "SELECT count(*) FROM outcomes") == [(len(traffic.receipts) + 3,)]


# --- the commands ---


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNFEED_DATA", "RUNFEED_BUCKET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Children, "of", lambda _: InThisProcess())


def run(chain: Chain, *command: str) -> Result:
    return CliRunner().invoke(lake, [*command, "--data", str(chain.data)], catch_exceptions=False)


def test_the_commands_show_switch_and_roll_back(chain: Chain) -> None:
    assert (
        run(chain).output
        == ("3 submissions are announced.\nv1 serves: 3 outcomes\n  up to submission 3, by transform 2\n")
        or "v1 serves: 3 outcomes" in run(chain).output
    )
    switched(chain)
    chain.push_batch(measured(9))
    rolled_back = run(chain, "rollback")
    assert "Lake v2 serves; v1 catches up from entry 4." in rolled_back.output
    assert "Lake v1 serves." in rolled_back.output
    assert batches(chain, 1)[-1] == (4, 4)
    assert "v2, which served before: 1 outcomes" in run(chain).output
    assert "Lake v2 serves." in run(chain, "switch", "2").output
    assert "Lake v1 serves." in run(chain, "rollback").output
    assert healthy(chain)


@pytest.mark.parametrize(("command", "why"), [("9", "expected one of the versions v1, found v9"), ("1", "serves")])
def test_there_is_nothing_to_switch_to(chain: Chain, command: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        run(chain, "switch", command)


def test_there_is_nothing_to_roll_back_to(chain: Chain) -> None:
    with pytest.raises(Refused, match="served before"):
        run(chain, "rollback")


def test_compact_says_what_there_is_now(chain: Chain) -> None:
    result = CliRunner().invoke(compact, ["--data", str(chain.data)], catch_exceptions=False)
    assert "Lake v1: 3 outcomes more; catalog 1 holds 3." in result.output
    assert "measurements: 3 rows in 1 files" in result.output
    assert "catalog 1 holds 3 outcomes" in run(chain).output
    again = CliRunner().invoke(compact, ["--data", str(chain.data)], catch_exceptions=False)
    assert "Lake v1: 0 outcomes more; catalog 1 holds 3." in again.output
