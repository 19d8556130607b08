"""A rebuild makes the same lake again beside the one that serves, shows what differs, and switches."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from processor import rebuild as rebuild_module
from processor.batch import ATTEMPTS_TOGETHER, DEATHS_ALLOWED
from processor.children import Children
from processor.current import CurrentLake
from processor.dispatcher import read_checkpoint
from processor.formats.registry import FORMATS
from processor.lake import current_lake
from processor.reading.decode import Buffer
from processor.rebuild import Comparison, Rebuild
from processor.rebuild_cli import rebuild as rebuild_command
from processor.tables import RunFacts, Tables
from processor.transform import TRANSFORM_VERSION
from schemas import keys
from schemas.errors import SwapLost, Unavailable
from schemas.records import Machine
from tests.chain import Chain, InThisProcess, failing, load, measured, nothing, passed, rows


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """Three commits, all processed: files of measurements and tests, a history, a file that no format knows."""
    chain = Chain(tmp_path / "data")
    history = (Path(__file__).parent / "formats/github-action-benchmark/history.js").read_bytes()
    chain.done(measured(1), passed("t"), b"nonsense")
    chain.done(history)
    chain.done(b'{"benchmark": "b", "metric": "t", "value": 2, "samples": [1, 3], "params": {"n": 1}}', measured(3))
    return chain


def rebuild_of(chain: Chain) -> Rebuild:
    return Rebuild(chain.buckets, chain.reader_of, chain.processor, clock=chain.clock)


def replay(work: Rebuild) -> int:
    return work.replay(lambda *_: None)


def run_command(chain: Chain, *options: str) -> Result:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Children, "of", lambda _: InThisProcess())
        return CliRunner().invoke(rebuild_command, ["--data", str(chain.data), *options], catch_exceptions=False)


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNFEED_DATA", "RUNFEED_BUCKET"):
        monkeypatch.delenv(name, raising=False)


def seqs(chain: Chain, lake_version: int) -> list[int]:
    """Of all submissions that have an outcome, in order."""
    return [one.seq for outcome in chain.outcomes(lake_version) for one in outcome.submissions]


def change_the_transform(monkeypatch: pytest.MonkeyPatch, version: int | None = None) -> None:
    """From now on Runfeed's own format gives one measurement more."""
    native = FORMATS["runfeed"]

    def read(data: Buffer, out: Tables) -> None:
        native.read(data, out)
        out.run(RunFacts(machine=Machine(cpu="new"))).measurement(
            where="/", benchmark="new", metric="t", value=float(len(data))
        )

    monkeypatch.setitem(FORMATS, "runfeed", replace(native, read=read))
    if version is not None:
        monkeypatch.setattr("processor.batch.TRANSFORM_VERSION", version)
        monkeypatch.setattr("processor.rebuild.TRANSFORM_VERSION", version)


# --- compare ---


def test_a_rebuilt_lake_is_equal_row_for_row_and_has_larger_batches(chain: Chain) -> None:
    work = rebuild_of(chain)
    assert replay(work) == 1
    comparison = work.compare()
    assert comparison.equal
    assert comparison == Comparison(compared=6, rows=dict.fromkeys(comparison.rows, (0, 0)))
    assert seqs(chain, 2) == seqs(chain, 1)
    assert (len(chain.outcomes(1)), len(chain.outcomes(2))) == (3, 1)


def test_other_rows_are_counted_per_table_and_named_per_submission(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_the_transform(monkeypatch)
    work = rebuild_of(chain)
    replay(work)
    comparison = work.compare()
    assert not comparison.equal
    assert comparison.same_transform
    assert comparison.rows["measurements"] == (0, 4)
    assert comparison.rows["runs"] == (0, 4)
    assert [line.partition(":")[0] for line in comparison.verdicts] == ["1", "2", "5", "6"]
    assert "(1 runs, 1 measurements" in comparison.verdicts[0]


def test_a_changed_value_is_found_though_all_counts_are_equal(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    native = FORMATS["runfeed"]
    monkeypatch.setitem(
        FORMATS,
        "runfeed",
        replace(native, read=lambda data, out: native.read(bytes(data).replace(b'"value": 3', b'"value": 4'), out)),
    )
    work = rebuild_of(chain)
    replay(work)
    comparison = work.compare()
    assert not comparison.verdicts
    assert comparison.rows["measurements"] == (1, 1)
    assert not comparison.equal


def test_what_the_old_version_has_not_processed_is_left_out(chain: Chain) -> None:
    chain.push_batch(measured(7))
    work = rebuild_of(chain)
    replay(work)
    comparison = work.compare()
    assert comparison.equal
    assert (comparison.compared, comparison.left_out) == (6, 1)


def test_a_lake_of_an_earlier_release_that_lacks_a_column_can_be_compared(chain: Chain) -> None:
    for key in chain.parts():
        if "/runs/" in key:
            path = chain.data / "public" / key
            table = pq.read_table(path).drop_columns(["trust"])
            path.unlink()
            pq.write_table(table, path)
    work = rebuild_of(chain)
    replay(work)
    assert work.compare().rows["runs"] == (len(work_runs(chain)), len(work_runs(chain)))


def work_runs(chain: Chain) -> list[str]:
    return [
        run
        for key in chain.parts()
        if "/runs/" in key
        for run in pq.read_table(chain.data / "public" / key)["run"].to_pylist()
    ]


def test_comparing_leaves_no_file_where_it_was_started(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    work = rebuild_of(chain)
    replay(work)
    work.compare()
    assert not list(empty.iterdir())


# --- going on ---


def test_an_interrupted_rebuild_goes_on_where_it_was(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild_module, "BATCH_BYTES", 1)
    chain.public.before = failing("create", "lake/v2/outcomes/000000000004", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        replay(rebuild_of(chain))
    chain.public.before = nothing
    assert seqs(chain, 2) == [1, 2, 3]
    work = rebuild_of(chain)
    assert (work.new_version, work.done) == (2, 3)
    assert replay(work) == 2
    assert seqs(chain, 2) == [1, 2, 3, 4, 5, 6]
    assert work.compare().equal
    assert chain.reader_of(keys.outcomes_log(2)).last_seq() == 3


def test_a_rebuild_that_dies_at_a_file_quarantines_it_in_the_end(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    native = FORMATS["runfeed"]

    def die(data: Buffer, out: Tables) -> None:
        if bytes(data) == measured(3):
            raise SystemExit
        native.read(data, out)

    monkeypatch.setitem(FORMATS, "runfeed", replace(native, read=die))
    for _ in range(ATTEMPTS_TOGETHER + DEATHS_ALLOWED):
        with pytest.raises(SystemExit):
            replay(rebuild_of(chain))
    work = rebuild_of(chain)
    replay(work)
    assert work.compare().verdicts == [
        "6: accepted runfeed (1 runs, 1 measurements, 0 tests, 0 problems) -> "
        "quarantined - (0 runs, 0 measurements, 0 tests, 1 problems)"
    ]


def test_a_rebuild_notes_attempts_only_where_an_earlier_one_may_have_died(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A durable write per submission would cost more than the work itself."""
    monkeypatch.setattr(rebuild_module, "BATCH_BYTES", 1)
    noted: list[str] = []
    chain.private.before = lambda verb, key: noted.append(key) if verb == "create" and "attempts/" in key else None
    replay(rebuild_of(chain))
    assert [key.split("/")[-1] for key in noted] == [keys.padded(1)]
    assert not chain.attempts()


def test_storage_that_fails_stops_the_rebuild_and_loses_nothing(chain: Chain) -> None:
    chain.public.before = failing("create", "lake/v2/measurements/", Unavailable("storage"))
    work = rebuild_of(chain)
    with pytest.raises(Unavailable):
        replay(work)
    assert work.done == 0
    chain.public.before = nothing
    assert replay(work) == 1
    assert work.compare().equal


def test_an_unfinished_version_of_another_transform_is_left_alone(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay(rebuild_of(chain))
    change_the_transform(monkeypatch, version=TRANSFORM_VERSION + 1)
    work = rebuild_of(chain)
    assert (work.new_version, work.done) == (3, 0)


# --- batches ---


@pytest.mark.parametrize("bounds", [{"BATCH_ENTRIES": 4}, {"BATCH_BYTES": 150}, {}], ids=["entries", "bytes", "own"])
def test_a_batch_holds_whole_commits_within_its_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bounds: dict[str, int]
) -> None:
    chain = Chain(tmp_path / "data")
    commits = [
        chain.push_batch(*(measured(at + n / 10) for n in range(size))) for at, size in enumerate([1, 3, 2, 2, 1, 4, 1])
    ]
    for name, value in bounds.items():
        monkeypatch.setattr(rebuild_module, name, value)
    replay(rebuild_of(chain))
    batches = [(outcome.first, outcome.last) for outcome in chain.outcomes(2)]
    assert {first for first, _ in batches} <= {first for first, _ in commits}
    assert {last for _, last in batches} <= {last for _, last in commits}
    assert seqs(chain, 2) == list(range(1, 15))
    if "BATCH_ENTRIES" in bounds:
        assert all(last - first < 4 for first, last in batches)
    if "BATCH_BYTES" in bounds:
        sizes = [sum(entry.size_bytes for entry in chain.submissions.entries(*batch)) for batch in batches]
        assert all(size <= 150 or batch in commits for size, batch in zip(sizes, batches, strict=True))
    assert len(batches) < len(commits)
    assert bounds or batches == [(1, 14)]


# --- switch ---


def test_entries_that_arrive_during_and_after_a_rebuild_are_in_the_new_version_once(chain: Chain) -> None:
    work = rebuild_of(chain)
    replay(work)
    during = chain.push_batch(measured(10, "late"), measured(11, "late"))
    chain.process(during)
    assert replay(work) == 1
    work.switch()
    assert current_lake(chain.buckets.public)[0] == 2
    assert read_checkpoint(chain.buckets.private, 2) == during[1]
    sent: list[tuple[int, ...]] = []
    lake = CurrentLake(
        chain.buckets,
        chain.reader_of,
        lambda version, first, last, *, redelivered: sent.append((version, first, last)),
        clock=chain.clock,
        announcer_of=chain.announcer_of,
    )
    after = chain.push_batch(measured(12, "late"))
    lake.dispatch()
    assert sent == [(2, *after)]
    chain.process(after, lake_version=2)
    assert seqs(chain, 2) == list(range(1, 10))
    while chain.announce_outcomes(2):
        pass
    with chain.dashboard() as dashboard:
        load(dashboard)
        assert dashboard.database().lake_version == 2
        assert rows(dashboard, "SELECT seq FROM submissions ORDER BY seq") == [(n,) for n in range(1, 10)]
        found = rows(dashboard, "SELECT value FROM measurements WHERE benchmark = 'late' ORDER BY value")
        assert found == [(10.0,), (11.0,), (12.0,)]


def test_two_rebuilds_beside_each_other_make_one_chain_and_one_switch(chain: Chain) -> None:
    """They see the log at different moments, so they would cut it differently."""
    slow, fast = rebuild_of(chain), rebuild_of(chain)
    replay(slow)
    chain.push_batch(measured(10))
    chain.push_batch(measured(11))
    replay(fast)
    replay(slow)
    assert slow.done == fast.done == 8
    assert seqs(chain, 2) == list(range(1, 9))
    fast.switch()
    with pytest.raises(SwapLost):
        slow.switch()
    chain.push_batch(measured(12))
    with pytest.raises(SwapLost):
        replay(slow)
    assert seqs(chain, 2) == list(range(1, 9)), "from the switch on the dispatcher cuts the batches"


# --- the command ---


def test_the_command_switches_to_an_equal_version_and_says_so(chain: Chain) -> None:
    result = run_command(chain)
    assert result.exit_code == 0, result.output
    assert "6 submissions: v1 and v2 are equal, row for row." in result.output
    assert current_lake(chain.buckets.public)[0] == 2
    again = run_command(chain)
    assert "Lake v3 serves." in again.output


def test_other_rows_of_the_same_transform_version_are_reported_and_not_switched_to(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_the_transform(monkeypatch)
    result = run_command(chain)
    assert result.exit_code == 1
    assert "measurements: 0 rows only in v1, 4 only in v2" in result.output
    assert "Not switched" in result.output
    assert current_lake(chain.buckets.public)[0] == 1
    forced = run_command(chain, "--switch-anyway")
    assert forced.exit_code == 0
    assert current_lake(chain.buckets.public)[0] == 2


def test_other_rows_of_another_transform_version_are_shown_and_switched_to(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_the_transform(monkeypatch, version=TRANSFORM_VERSION + 1)
    result = run_command(chain)
    assert result.exit_code == 0
    assert "v1 and v2 differ (different transform versions)" in result.output
    assert "measurements: 0 rows only in v1, 4 only in v2" in result.output
    assert current_lake(chain.buckets.public)[0] == 2
