"""What the outcomes log says is in the dashboard's database exactly once, whatever happens on the way."""

import contextlib
import itertools
import json
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dashboard_api import loader as loader_module
from dashboard_api.answers import AnswerCache
from dashboard_api.dashboard import Dashboard
from dashboard_api.database import Database
from dashboard_api.desk import Desk
from processor.lake import publish_outcome, write_part
from processor.part import make_parts
from processor.reading.decode import DecodeLimits
from processor.rebuild import Rebuild
from processor.transform import transform
from schemas import keys
from schemas.errors import Unavailable
from schemas.records import Commit, Context, Outcome, Submission
from tests.chain import Chain, failing, load, measured, nothing, passed, rows
from tests.golden import make_submission

VALUES = "SELECT seq, value FROM measurements ORDER BY seq, value"
COUNTED = "SELECT seq, commit FROM runs WHERE duplicate_of IS NULL ORDER BY seq, ordinal"


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path / "data")


@pytest.fixture
def dashboard(chain: Chain) -> Iterator[Dashboard]:
    with chain.dashboard() as dashboard:
        yield dashboard


def history(*commits: int) -> bytes:
    """A history file, which is sent again with one more run each time."""
    runs = [
        {
            "commit": {"id": f"{n:040x}", "message": "m", "timestamp": "2026-01-01T00:00:00Z", "url": ""},
            "date": 1_767_225_600_000 + n,
            "tool": "cargo",
            "benches": [{"name": "parse", "unit": "ns/iter", "value": 100 + n, "range": "± 1"}],
        }
        for n in commits
    ]
    return (
        b"window.BENCHMARK_DATA = "
        + json.dumps({"lastUpdate": 0, "repoUrl": "", "entries": {"Benchmark": runs}}).encode()
    )


def revise(
    chain: Chain, first: int, last: int, body: bytes | None, *, revision: int = 1, made_ago_hours: int = 0
) -> None:
    """Write the next outcome of a batch by hand: its first submission now gives the rows of `body`, or none."""
    before = chain.outcome(first)
    parts, submissions = [], []
    for one in before.submissions:
        if one.seq != first:
            submissions.append(one)
            continue
        submission = Submission(
            id=one.id,
            nonce="0" * 32,
            project="p",
            blob=make_submission().blob,
            received=chain.now,
            format="auto",
        )
        result = transform(body or b"nonsense", submission, one.seq, DecodeLimits())
        submissions.append(result.outcome)
        if result.tables is not None:
            made = make_parts(result.tables.batches)
            parts = [write_part(chain.buckets.public, 1, first, last, part) for part in made]
    assert publish_outcome(
        chain.buckets,
        1,
        Outcome(
            first=first,
            last=last,
            revision=revision,
            nonce=keys.new_nonce(chain.now - timedelta(hours=made_ago_hours)),
            through=last,
            transform_version=1,
            submissions=submissions,
            parts=parts,
            finished=chain.now,
        ),
    )


# --- exactly once ---


def test_loading_again_changes_nothing(chain: Chain, dashboard: Dashboard) -> None:
    chain.done(measured(1), measured(2))
    assert dashboard.step() == 3
    for _ in range(3):
        assert dashboard.step() == 0
    chain.done(measured(3))
    assert dashboard.step() == 2
    assert rows(dashboard, VALUES) == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_a_load_that_fails_before_its_commit_leaves_nothing_and_the_next_one_has_everything_once(
    chain: Chain, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.done(measured(1))
    load(dashboard)
    before = _contents(dashboard)
    chain.done(measured(2), passed("t"))
    with monkeypatch.context() as patched:
        calls = itertools.count()

        def fail_at_the_last(*_: object) -> None:
            if next(calls):
                raise KeyboardInterrupt

        patched.setattr(loader_module.Loader, "_move_cursor", fail_at_the_last)
        with pytest.raises(KeyboardInterrupt):
            dashboard.step()
    assert _contents(dashboard) == before
    load(dashboard)
    assert rows(dashboard, VALUES) == [(1, 1.0), (2, 2.0)]
    assert rows(dashboard, "SELECT seq, test FROM tests") == [(3, "t")]
    assert rows(dashboard, "SELECT seq FROM submissions ORDER BY seq") == [(1,), (2,), (3,)]


def test_the_error_of_a_commit_that_fails_is_told_and_the_next_load_works(chain: Chain) -> None:
    """As on a full disk, where DuckDB has rolled back by itself."""
    chain.done(measured(1))
    with chain.dashboard() as dashboard:
        database, loader = dashboard._serving
        writer = database.writer

        class Full:
            def __getattr__(self, name: str) -> Any:
                return getattr(writer, name)

            def commit(self) -> None:
                writer.rollback()
                raise duckdb.TransactionException("Failed to commit: no space left on device")

        database.writer = Full()  # type: ignore[assignment]
        with pytest.raises(duckdb.TransactionException, match="no space left"):
            loader.load()
        database.writer = writer
        assert rows(dashboard, VALUES) == []
        load(dashboard)
        assert rows(dashboard, VALUES) == [(1, 1.0)]


def test_a_database_that_duckdb_has_given_up_is_opened_anew(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a checkpoint on a full disk DuckDB refuses every query, also when there is room again."""
    chain.done(measured(1))
    with chain.dashboard() as dashboard:
        load(dashboard)
        given_up = dashboard.database()
        with monkeypatch.context() as patched:
            patched.setattr(loader_module.Loader, "load", _given_up)
            with pytest.raises(duckdb.FatalException):
                dashboard.step()
        assert dashboard.database() is not given_up
        assert given_up.closed
        chain.done(measured(2))
        load(dashboard)
        assert rows(dashboard, VALUES) == [(1, 1.0), (2, 2.0)]


def test_a_database_given_up_is_opened_anew_only_when_its_last_reader_has_gone(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then DuckDB would hand out the one that it has given up."""
    chain.done(measured(1))
    with chain.dashboard() as dashboard:
        load(dashboard)
        given_up = dashboard.database()
        with monkeypatch.context() as patched, given_up.snapshot() as reading:
            patched.setattr(loader_module.Loader, "load", _given_up)
            with pytest.raises(duckdb.FatalException):
                dashboard.step()
            assert dashboard.database() is given_up
            assert reading.rows("SELECT count(*) AS n FROM runs") == [{"n": 1}]
        assert given_up.closed
        with pytest.raises(duckdb.ConnectionException):
            dashboard.step()
        load(dashboard)
        assert rows(dashboard, VALUES) == [(1, 1.0)]


def _given_up(_: object) -> int:
    raise duckdb.FatalException("database has been invalidated")


def test_many_outcomes_are_loaded_in_several_steps_and_each_once(
    chain: Chain, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_module, "OUTCOMES_PER_LOAD", 2)
    for n in range(1, 6):
        chain.done(measured(n))
    steps = 0
    while dashboard.step():
        steps += 1
    assert steps == 3
    assert rows(dashboard, VALUES) == [(n, float(n)) for n in range(1, 6)]


def test_submissions_are_visible_before_their_outcomes(chain: Chain, dashboard: Dashboard) -> None:
    batch = chain.push_batch(measured(1), b"nonsense")
    load(dashboard)
    states = "SELECT seq, state FROM submission_states ORDER BY seq"
    assert rows(dashboard, states) == [(1, "announced"), (2, "announced")]
    chain.process(batch)
    chain.announce_outcomes()
    load(dashboard)
    assert rows(dashboard, states) == [(1, "accepted"), (2, "rejected")]
    assert rows(dashboard, "SELECT len(problems) FROM outcomes ORDER BY seq") == [(0,), (1,)]


def test_readers_see_one_version_while_loads_commit(chain: Chain, dashboard: Dashboard) -> None:
    chain.done(measured(1))
    load(dashboard)
    with dashboard.database().snapshot() as old:
        assert old.rows("SELECT count(*) AS n FROM measurements") == [{"n": 1}]
        chain.done(measured(2))
        load(dashboard)
        assert old.rows("SELECT count(*) AS n FROM measurements") == [{"n": 1}]
        assert old.rows("SELECT count(*) AS n FROM series") == [{"n": 1}]
        with dashboard.database().snapshot() as new:
            assert new.rows("SELECT count(*) AS n FROM measurements") == [{"n": 2}]
            assert (old.version, new.version) == ("v1-1", "v1-2")


def test_under_load_every_answer_is_one_version(chain: Chain, dashboard: Dashboard) -> None:
    """Each version n has n batches of two rows."""
    ended = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        while not ended.is_set():
            with dashboard.database().snapshot() as snapshot:
                runs = snapshot.rows("SELECT count(*) AS n FROM runs")[0]["n"]
                measurements = snapshot.rows("SELECT count(*) AS n FROM measurements")[0]["n"]
                if not runs == measurements == 2 * snapshot.outcomes_seq:
                    wrong.append((runs, measurements, snapshot.outcomes_seq))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for n in range(10):
            chain.done(measured(n), measured(n + 0.5))
            load(dashboard)
    finally:
        ended.set()
        for reader in readers:
            reader.join()
    assert not wrong
    assert len(rows(dashboard, VALUES)) == 20


def _contents(dashboard: Dashboard) -> dict[str, list[tuple[Any, ...]]]:
    tables = ("runs", "measurements", "tests", "outcomes", "submissions", "series", "cursors")
    return {table: sorted(rows(dashboard, f"SELECT * FROM {table}"), key=str) for table in tables}


# --- storage that fails ---


@pytest.mark.parametrize("verb", ["read", "local_path"])
@pytest.mark.parametrize("error", [Unavailable("the store is away"), FileNotFoundError("gone")])
def test_what_storage_does_not_give_is_told_and_loaded_when_it_does(
    chain: Chain, dashboard: Dashboard, verb: str, error: Exception
) -> None:
    chain.done(measured(1))
    load(dashboard)
    before = _contents(dashboard)
    chain.done(measured(2), passed("t"))
    chain.public.before = failing(verb, "lake/v1/", error)
    for _ in range(2):
        with pytest.raises(Unavailable):
            dashboard.step()
    assert _contents(dashboard) == before
    assert dashboard.level, "it was, and can answer"
    chain.public.before = nothing
    load(dashboard)
    assert rows(dashboard, VALUES) == [(1, 1.0), (2, 2.0)]


@pytest.mark.parametrize("table", ["outcomes", "measurements"])
def test_an_object_that_is_not_what_was_announced_is_not_loaded(chain: Chain, dashboard: Dashboard, table: str) -> None:
    chain.done(measured(1))
    [key] = chain.public.list(f"lake/v1/{table}/")
    whole = chain.public.read(key)
    (chain.data / "public" / key).write_bytes(whole[:-1])
    with pytest.raises(Unavailable, match=f"{key}: expected .*, found"):
        dashboard.step()
    (chain.data / "public" / key).write_bytes(whole)
    load(dashboard)
    assert rows(dashboard, VALUES) == [(1, 1.0)]


def test_a_load_asks_storage_for_several_objects_at_once_and_for_no_more_than_it_may(
    chain: Chain, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(12):
        chain.done(measured(n), passed("t"))
    lock, now, most = threading.Lock(), [0], [0]

    def begin(verb: str, key: str) -> None:
        if verb in ("read", "local_path") and key.startswith("lake/v1/"):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.01)

    def end(verb: str, key: str) -> None:
        if verb in ("read", "local_path") and key.startswith("lake/v1/"):
            with lock:
                now[0] -= 1

    monkeypatch.setattr(loader_module, "REQUESTS_AT_ONCE", 3)
    chain.public.before, chain.public.after = begin, end
    load(dashboard)
    assert most == [3]
    assert len(rows(dashboard, VALUES)) == 12


def test_a_load_takes_no_more_bytes_than_it_may_but_always_one_outcome(
    chain: Chain, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(5):
        chain.done(measured(n))
    one = sum(part.size_bytes for part in chain.outcome(1).parts)
    for bytes_, expected in ((1, [1]), (int(2.5 * one), [2, 2])):
        monkeypatch.setattr(loader_module, "BYTES_PER_LOAD", bytes_)
        for outcomes in expected:
            before = len(rows(dashboard, VALUES))
            dashboard.step()
            assert len(rows(dashboard, VALUES)) == before + outcomes
    assert dashboard.behind == 0
    assert len(rows(dashboard, VALUES)) == 5


def test_a_dashboard_knows_how_far_behind_it_is(
    chain: Chain, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_module, "OUTCOMES_PER_LOAD", 2)
    monkeypatch.setattr("dashboard_api.dashboard.OUTCOMES_PER_LOAD", 2)
    for n in range(5):
        chain.done(measured(n))
    told = [(dashboard.behind, dashboard.level)]
    while dashboard.step():
        told.append((dashboard.behind, dashboard.level))
    assert told == [(None, False), (3, False), (1, True), (0, True)]
    assert dashboard.behind == 0


def test_on_a_full_disk_readers_go_on_and_the_loader_does_when_there_is_room(
    chain: Chain, dashboard: Dashboard
) -> None:
    """The disk is full for files beyond a size, which every process may be told."""
    chain.done(measured(1))
    load(dashboard)
    noise = random.Random(1)
    lines = [{"benchmark": f"b{n}", "metric": "t", "value": noise.random()} for n in range(20_000)]
    chain.done("\n".join(map(json.dumps, lines)).encode())
    chain.done(measured(2))
    desk = Desk(dashboard, AnswerCache(), dict)
    count = "SELECT count(*) AS n FROM measurements"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = sum(path.stat().st_size for path in (chain.data / "dashboard").glob("v1.duckdb*"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4096, hard))
    try:
        for _ in range(3):
            with pytest.raises((duckdb.Error, Unavailable)):
                load(dashboard)
            assert desk.read(lambda snapshot: snapshot.rows(count)) == [{"n": 1}]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    for _ in range(3):
        with contextlib.suppress(duckdb.Error):
            load(dashboard)
    assert desk.read(lambda snapshot: snapshot.rows(count)) == [{"n": 20_002}]


# --- revisions ---


def test_a_revision_replaces_exactly_the_rows_of_its_range(chain: Chain, dashboard: Dashboard) -> None:
    for values in ([1], [2, 3], [4]):
        chain.done(*(measured(value) for value in values))
    load(dashboard)
    revise(chain, 2, 3, measured(20, "new"))
    assert chain.announce_outcomes() == 1
    load(dashboard)
    assert rows(dashboard, VALUES) == [(1, 1.0), (2, 20.0), (4, 4.0)]
    assert rows(dashboard, "SELECT seq, revision FROM outcomes ORDER BY seq") == [(1, 0), (2, 1), (3, 1), (4, 0)]
    assert rows(dashboard, "SELECT benchmark FROM series ORDER BY ALL") == [("b",), ("new",)]
    assert rows(dashboard, "SELECT count(*) FROM submission_states") == [(4,)]


def test_a_series_without_measurements_left_is_gone(chain: Chain, dashboard: Dashboard) -> None:
    chain.done(measured(1, "gone"))
    chain.done(measured(1, "stays"))
    load(dashboard)
    revise(chain, 1, 1, None)
    chain.announce_outcomes()
    load(dashboard)
    assert rows(dashboard, "SELECT benchmark FROM series") == [("stays",)]
    assert rows(dashboard, "SELECT state FROM submission_states ORDER BY seq") == [("rejected",), ("accepted",)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_first_measurement_in_the_submissions_log_speaks_for_its_series(
    chain: Chain, dashboard: Dashboard, order: tuple[int, int]
) -> None:
    """In whatever order outcomes come, and when a revision takes it away."""
    batches = [chain.push_batch(measured(value)) for value in (1, 2)]
    for at in order:
        chain.process(batches[at])
        chain.announce_outcomes()
        load(dashboard)
    assert rows(dashboard, "SELECT benchmark, first_seq FROM series") == [("b", 1)]
    revise(chain, 1, 1, None)
    chain.announce_outcomes()
    load(dashboard)
    assert rows(dashboard, "SELECT benchmark, first_seq FROM series") == [("b", 2)]


@pytest.mark.parametrize("per_load", [1, 200])
def test_revisions_announced_in_the_wrong_order_end_with_the_newest(
    chain: Chain, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch, per_load: int
) -> None:
    """Two writers' clocks differ, so the newer outcome's marker may be the older one."""
    monkeypatch.setattr(loader_module, "OUTCOMES_PER_LOAD", per_load)
    batch = chain.push_batch(measured(1))
    chain.process(batch)
    revise(chain, *batch, measured(10), made_ago_hours=1)
    assert chain.announce_outcomes() == 2
    log = chain.reader_of(keys.outcomes_log(1))
    assert [entry.id[-1] for entry in log.entries(1, 2)] == ["1", "0"]
    load(dashboard)
    assert rows(dashboard, VALUES) == [(1, 10.0)]
    assert rows(dashboard, "SELECT revision FROM outcomes") == [(1,)]


def test_when_the_run_that_counted_is_withdrawn_the_next_of_its_digest_counts(
    chain: Chain, dashboard: Dashboard
) -> None:
    chain.done(history(1, 2))
    chain.done(history(1, 2, 3))
    load(dashboard)
    revise(chain, 1, 1, None)
    chain.announce_outcomes()
    load(dashboard)
    assert rows(dashboard, COUNTED) == [(2, f"{n:040x}") for n in (1, 2, 3)]


# --- the same run sent again ---


def test_of_a_history_sent_again_only_the_new_run_counts(chain: Chain, dashboard: Dashboard) -> None:
    chain.done(history(1, 2))
    chain.done(history(1, 2, 3))
    load(dashboard)
    assert rows(dashboard, COUNTED) == [(1, f"{1:040x}"), (1, f"{2:040x}"), (2, f"{3:040x}")]
    assert rows(dashboard, "SELECT count(*) FROM runs") == [(5,)]
    pointing = """
        SELECT d.seq, d.commit = o.commit, o.seq AS original
        FROM runs d JOIN runs o ON d.duplicate_of = o.run ORDER BY d.ordinal
    """
    assert rows(dashboard, pointing) == [(2, True, 1), (2, True, 1)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_first_sent_run_counts_in_whatever_order_outcomes_are_loaded(
    chain: Chain, dashboard: Dashboard, order: tuple[int, ...]
) -> None:
    batches = [chain.push_batch(history(*range(1, n + 1))) for n in (1, 2, 3)]
    for at in order:
        chain.process(batches[at])
        assert chain.announce_outcomes() == 1
        load(dashboard)
    assert rows(dashboard, COUNTED) == [(n, f"{n:040x}") for n in (1, 2, 3)]
    assert rows(dashboard, "SELECT seq, count(duplicate_of) FROM runs GROUP BY seq ORDER BY seq") == [
        (1, 0),
        (2, 1),
        (3, 2),
    ]


def test_the_same_run_twice_in_one_file_counts_once(chain: Chain, dashboard: Dashboard) -> None:
    chain.done(history(1, 1))
    load(dashboard)
    assert rows(dashboard, "SELECT ordinal FROM runs WHERE duplicate_of IS NULL") == [(0,)]


def test_equal_results_of_different_commits_are_no_duplicates(chain: Chain, dashboard: Dashboard) -> None:
    for commit in ("a", "b"):
        chain.push(measured(1), Context(commit=Commit(id=commit * 40)))
    chain.process(chain.announce())
    chain.announce_outcomes()
    load(dashboard)
    assert len(rows(dashboard, COUNTED)) == 2


def test_a_series_appears_once_however_often_it_is_measured(chain: Chain, dashboard: Dashboard) -> None:
    chain.done(measured(1), measured(2), measured(3, "other"))
    chain.done(measured(4))
    load(dashboard)
    chain.done(measured(5), measured(6, "third"))
    load(dashboard)
    assert rows(dashboard, "SELECT benchmark FROM series ORDER BY benchmark") == [("b",), ("other",), ("third",)]
    assert rows(dashboard, "SELECT count(*) FROM measurements WHERE series NOT IN (SELECT series FROM series)") == [
        (0,)
    ]


# --- the file ---


def test_the_file_is_kept_over_a_restart(chain: Chain) -> None:
    chain.done(measured(1))
    with chain.dashboard() as dashboard:
        load(dashboard)
    with chain.dashboard() as dashboard:
        assert rows(dashboard, VALUES) == [(1, 1.0)]
        assert dashboard.step() == 0


def test_a_file_of_another_layout_is_made_anew(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    chain.done(measured(1))
    with chain.dashboard() as dashboard:
        load(dashboard)
    monkeypatch.setattr("dashboard_api.database.FILE_VERSION", 99)
    with chain.dashboard() as dashboard:
        assert rows(dashboard, VALUES) == []
        load(dashboard)
        assert rows(dashboard, VALUES) == [(1, 1.0)]


def test_a_file_of_another_lake_version_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    first = Database(path, 1)
    first.writer.execute("INSERT INTO cursors VALUES ('submissions', 7)")
    first.close()
    second = Database(path, 2)
    with second.snapshot() as snapshot:
        assert (snapshot.lake_version, snapshot.submissions_seq) == (2, 0)
    second.close()


def _damage_header(whole: bytes) -> bytes:
    return b"\xff" * 4096 + whole[4096:]


def _damage_blocks(whole: bytes) -> bytes:
    """The headers stay; every block's checksum is wrong."""
    return whole[: 3 * 4096] + bytes(byte ^ 0xFF for byte in whole[3 * 4096 :])


@pytest.mark.parametrize(
    "damage",
    [
        _damage_header,
        _damage_blocks,
        lambda whole: whole[:5000],
        lambda whole: whole[:-1],
        lambda whole: b"",
        lambda whole: b"not a database",
        lambda whole: bytes(len(whole)),
    ],
    ids=["header", "blocks", "cut short", "last byte gone", "empty", "text", "zeros"],
)
@pytest.mark.parametrize("folder", ["data", "lock"])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: Any, folder: str) -> None:
    """Whatever DuckDB says of it, also where its words, or the path in them, remind of a lock."""
    chain = Chain(tmp_path / folder)
    chain.done(measured(1))
    with chain.dashboard() as dashboard:
        load(dashboard)
    path = chain.data / "dashboard" / "v1.duckdb"
    path.write_bytes(damage(path.read_bytes()))
    with chain.dashboard() as dashboard:
        load(dashboard)
        assert rows(dashboard, VALUES) == [(1, 1.0)]


def test_a_damaged_log_beside_the_file_does_not_keep_the_dashboard_from_starting(chain: Chain) -> None:
    chain.done(measured(1))
    with chain.dashboard() as dashboard:
        load(dashboard)
    (chain.data / "dashboard" / "v1.duckdb.wal").write_bytes(b"junk" * 1000)
    with chain.dashboard() as dashboard:
        load(dashboard)
        assert rows(dashboard, VALUES) == [(1, 1.0)]


def test_a_file_that_another_process_holds_is_left_alone(chain: Chain) -> None:
    chain.done(measured(1))
    with chain.dashboard() as dashboard:
        load(dashboard)
    path = chain.data / "dashboard" / "v1.duckdb"
    program = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(duckdb.IOException, match="lock"):
            Database(path, 1)
        holder.stdin.close()
    with chain.dashboard() as dashboard:
        assert rows(dashboard, VALUES) == [(1, 1.0)]


# --- another lake version ---


def switch(chain: Chain) -> None:
    rebuild = Rebuild(chain.buckets, chain.reader_of, chain.processor, clock=chain.clock)
    rebuild.replay(lambda *_: None)
    rebuild.switch()


def files(chain: Chain) -> set[str]:
    return {path.name for path in (chain.data / "dashboard").iterdir()}


def test_a_switch_is_followed_when_level_and_open_snapshots_finish(chain: Chain, dashboard: Dashboard) -> None:
    chain.done(measured(1), measured(2))
    load(dashboard)
    old = dashboard.database()
    with old.snapshot() as reading:
        switch(chain)
        assert dashboard.step() > 0
        assert dashboard.database() is old, "the old version answers until the new one is level"
        assert len(rows(dashboard, VALUES)) == 2
        load(dashboard)
        assert dashboard.database().lake_version == 2
        assert reading.rows("SELECT count(*) AS n FROM measurements") == [{"n": 2}]
        assert reading.version == "v1-1"
    assert rows(dashboard, VALUES) == [(1, 1.0), (2, 2.0)]
    assert {name for name in files(chain) if name.startswith("v1")} == set()
    with pytest.raises(duckdb.ConnectionException), old.snapshot():
        pass


def test_a_dashboard_that_was_off_during_a_switch_comes_up_on_the_new_version(chain: Chain) -> None:
    chain.done(measured(1))
    with chain.dashboard() as dashboard:
        load(dashboard)
    switch(chain)
    with chain.dashboard() as dashboard:
        assert dashboard.database().lake_version == 2
        load(dashboard)
        assert rows(dashboard, VALUES) == [(1, 1.0)]
        assert {name for name in files(chain) if name.startswith("v1")} == set(), "old files do not pile up"


def test_a_version_that_is_overtaken_while_it_is_loaded_leaves_no_file(chain: Chain, dashboard: Dashboard) -> None:
    chain.done(measured(1))
    load(dashboard)
    switch(chain)
    assert dashboard.step() > 0
    switch(chain)
    load(dashboard)
    assert dashboard.database().lake_version == 3
    assert rows(dashboard, VALUES) == [(1, 1.0)]
    assert {name.partition(".")[0] for name in files(chain)} == {"v3"}
