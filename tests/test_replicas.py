"""Any number of dashboards: equal data version, equal answers, however each came to it; a new one starts from a
published snapshot, and whatever is wrong with that, it has everything in the end."""

import hashlib
import json
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from dashboard_api import dashboard as dashboard_module
from dashboard_api import database as database_module
from dashboard_api import in_place, snapshots
from dashboard_api import loader as loader_module
from dashboard_api.api import api_routes
from dashboard_api.dashboard import Dashboard
from dashboard_api.database import Database
from dashboard_api.export import TARGETS
from dashboard_api.pages import page_routes
from feed.log import readers
from infra.s3 import open_s3
from infra.web import exception_handlers
from schemas import keys
from schemas.errors import StorageFull, Unavailable
from schemas.records import Chunk, Commit, Context, PublishedSnapshot
from tests.chain import Chain, Unreliable, failing, load, measured, passed, rows
from tests.golden import pairs
from tests.servers import S3Server
from tests.test_loader import history, revise

HOUR = timedelta(hours=1)

SOME_RUNS = """
SELECT run, max(measurements) FROM runs
WHERE run IN (SELECT run FROM run_chunks) OR ordinal > 0 OR seq % 6 = 0 GROUP BY run ORDER BY count(*) DESC, run LIMIT 4
"""
SOME_SERIES = """
SELECT series FROM measurements GROUP BY series
ORDER BY count(*) DESC, count(*) - count(DISTINCT seq) DESC, series LIMIT 3
"""
SOME_SUBMISSIONS = "SELECT id FROM submission_states ORDER BY state <> 'rejected', state <> 'announced', seq LIMIT 4"


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path / "data")


@contextmanager
def replica(chain: Chain, name: str, bucket: Any = None) -> Iterator[Dashboard]:
    """A dashboard with a file and caches of its own."""
    bucket = bucket or chain.public
    dashboard = Dashboard(bucket, readers(bucket), chain.data / name, memory_limit="200MB")
    try:
        yield dashboard
    finally:
        dashboard.close()


def publish(chain: Chain, dashboard: Dashboard, every: timedelta = timedelta(0)) -> None:
    assert dashboard.publish(every, chain.now) == 0


def published(chain: Chain) -> list[str]:
    return sorted(key for key in chain.public.list(keys.SNAPSHOTS) if key.endswith(".duckdb"))


def contents(dashboard: Dashboard) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, in no order."""
    names = [name for (name,) in rows(dashboard, "SELECT table_name FROM duckdb_tables() WHERE NOT temporary")]
    return {name: sorted(rows(dashboard, f"SELECT * FROM {name}"), key=str) for name in names}


# --- equal answers ---


def chunk_of_tests(chunk: int) -> bytes:
    """A chunk's tests: retries that end differently, and one that every chunk has."""
    names = [f"/dom/{chunk}/{n % 30}" for n in range(40)]
    lines = [{"test": name, "status": ("pass", "fail")[(n + n // 30) % 2]} for n, name in enumerate(names)]
    return "\n".join(map(json.dumps, [*lines, {"test": "in all", "status": "fail", "message": "m" * chunk}])).encode()


def twice(number: int) -> bytes:
    """One series twice in one run."""
    lines = [{"benchmark": "twice", "metric": "t", "value": number + n} for n in range(2)]
    return "\n".join(map(json.dumps, lines)).encode()


class Story:
    """Batches of everything that Runfeed reads, with outcomes out of order, revisions, and one that never ends."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.steps = iter(self._steps())

    def _steps(self) -> Iterator[None]:
        chain, chance = self.chain, random.Random(4)
        files = [path.read_bytes() for _, path, _ in pairs()][::3]
        waiting = []
        for number, some in enumerate(_by(files, 2)):
            for body in (*some, twice(number), history(*range(1, number % 5 + 2))):
                chain.push(body, Context(commit=Commit(id=f"{number:040x}", branch="main")))
            if number < 5:
                chain.push(chunk_of_tests(number % 4), Context(chunk=Chunk(group="g", index=number % 4 + 1, total=4)))
            waiting.append(chain.announce())
            if len(waiting) == 3:
                chance.shuffle(waiting)
                for batch in waiting:
                    assert chain.process(batch)
                    chain.pass_time(milliseconds=1)
                chain.announce_outcomes()
                waiting = []
                yield
        revise(chain, 1, chain.outcome(1).last, twice(1))
        chain.announce_outcomes()
        yield
        third = chain.outcomes()[2]
        revise(chain, third.first, third.last, None)
        chain.announce_outcomes()
        yield
        chain.done(chunk_of_tests(5), passed("last"))
        chain.push_batch(measured(1, "still under way"))
        yield


def _by(items: list[bytes], count: int) -> Iterator[list[bytes]]:
    return (items[at : at + count] for at in range(0, len(items), count))


def addresses(dashboard: Dashboard) -> list[str]:
    """Every resource and page, of some of everything that is there."""
    lists, ones = ["/api/v1/projects", "/api/v1/submissions?limit=25", "/api/v1/series?limit=30"], []
    lists += [
        "/api/v1/runs?limit=40",
        "/api/v1/runs?duplicates=false&limit=40",
        "/api/v1/series?text=t&project=p&limit=40",
    ]
    pages = ["/", "/runs", "/projects/p", "/submissions", "/submissions?state=rejected", "/api/v1/projects/p"]
    for run, measurements in rows(dashboard, SOME_RUNS):
        at = f"/api/v1/runs/{run}"
        lists += [at, f"{at}/chunks", f"{at}/measurements?limit=50&samples=true", f"{at}/tests?limit=40"]
        table = "measurements" if measurements else "tests"
        ones += [f"{at}/export?as={target}&table={table}" for target in TARGETS]
        ones += [f"{at}/completeness", f"/runs/{run}"]
    for (series,) in rows(dashboard, SOME_SERIES):
        lists.append(f"/api/v1/series/{series}/points?limit=5")
        ones += [f"/api/v1/series/{series}", f"/series/{series}"]
    for (submission,) in rows(dashboard, SOME_SUBMISSIONS):
        ones += [f"/api/v1/submissions/{submission}", f"/submissions/{submission}"]
    tables = [(address, kind) for address in lists for kind in ("json", "csv", "arrow")]
    feeds = [
        "/api/v1/runs.atom?limit=40",
        "/api/v1/runs.feed.json?duplicates=false",
        "/api/v1/submissions.atom?limit=25",
        "/api/v1/submissions.feed.json?state=rejected&state=withdrawn",
    ]
    some = [_as(*one) for number, one in enumerate(tables) if number < 18 or number % 3 != 1]
    return [*some, *feeds, *ones, *pages]


def _as(address: str, kind: str) -> str:
    path, mark, query = address.partition("?")
    in_path = kind != "json" and path.split("/")[-2] != "runs"
    return f"{path}.{kind}{mark}{query}" if in_path else address


def answers(dashboard: Dashboard, asked: list[str]) -> dict[str, tuple[int, str | None, bytes]]:
    """Status, ETag and bytes by address; lists as far as their links lead."""
    app = Litestar(
        [*api_routes(dashboard), *page_routes(dashboard)], exception_handlers=exception_handlers, logging_config=None
    )
    said = {}
    with TestClient(app, raise_server_exceptions=True) as client:
        for address in asked:
            following: str | None = address
            while following and following not in said:
                answer = client.get(following)
                assert answer.status_code in (200, 422), (following, answer.text)
                said[following] = (answer.status_code, answer.headers.get("etag"), answer.content)
                following = answer.links.get("next", {}).get("url")
    return said


def test_equal_data_version_means_equal_answers_however_a_replica_came_to_it(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte, over every resource, representation and page: one replica that follows outcome by outcome, one
    that starts from its snapshot, one that loads all in one go. (And one in pieces of five has the same rows.)"""
    monkeypatch.setattr(in_place, "LARGEST_LOADED", 35)
    with ExitStack() as stack:
        follower, late = stack.enter_context(replica(chain, "follower")), None
        story = Story(chain)
        for number, _ in enumerate(story.steps):
            monkeypatch.setattr(loader_module, "OUTCOMES_PER_LOAD", 1)
            load(follower)
            if number == 1:
                publish(chain, follower)
                late = stack.enter_context(replica(chain, "from snapshot"))
                assert contents(late) == contents(follower), "a snapshot is the whole of its data version"
            monkeypatch.setattr(loader_module, "OUTCOMES_PER_LOAD", 200)
            if late is not None:
                load(late)
        assert late is not None
        assert number > 4
        [snapshot] = published(chain)
        chain.public.delete(snapshot, keys.snapshot_record(snapshot))
        at_once = stack.enter_context(replica(chain, "at once"))
        assert at_once.step() > 50, "all of it is one load"
        load(at_once)
        monkeypatch.setattr(loader_module, "OUTCOMES_PER_LOAD", 5)
        in_pieces = stack.enter_context(replica(chain, "in pieces"))
        load(in_pieces)

        asked = addresses(follower)
        expected = answers(follower, asked)
        assert len(expected) > 100
        assert rows(follower, "SELECT count(*) > 0 FROM tests_in_place") == [(True,)]
        assert rows(follower, "SELECT count(*) > 0 FROM repeated_tests") == [(True,)]
        assert contents(in_pieces) == contents(follower)
        for other in (late, at_once):
            assert contents(other) == contents(follower)
            said = answers(other, asked)
            assert [address for address in expected if said.get(address) != expected[address]] == []


# --- starting from a snapshot ---


def test_a_new_replica_takes_the_newest_snapshot_and_follows_from_there(chain: Chain) -> None:
    """It reads no part and no outcome that the snapshot holds."""
    with replica(chain, "first") as first:
        for value in (1, 2):
            chain.done(measured(value))
            load(first)
            publish(chain, first)
        chain.done(measured(3))
        load(first)
        old = {key for one in (1, 2) for key in chain.public.list(f"lake/v1/outcomes/{keys.padded(one)}/")}
        read: list[str] = []
        chain.public.after = lambda verb, key: read.append(key) if verb in ("read", "local_path") else None
        with replica(chain, "second") as second:
            assert second.behind is None
            assert not second.level
            assert second.step() == 2
            load(second)
            assert (second.behind, second.level) == (0, True)
            assert contents(second) == contents(first)
        assert published(chain)[-1] in read
        assert published(chain)[0] not in read
        assert old
        assert not old & set(read)


def test_a_snapshot_is_one_data_version_while_readers_and_the_loader_work(chain: Chain) -> None:
    """Each version n has n batches of two rows, in every snapshot."""
    ended = threading.Event()
    with replica(chain, "first") as first:
        chain.done(measured(0), measured(0.5))
        load(first)

        def read() -> None:
            while not ended.is_set():
                rows(first, "SELECT sum(value) FROM measurements")

        def publish_on() -> None:
            while not ended.is_set():
                publish(chain, first)

        threads = [threading.Thread(target=target) for target in (read, publish_on)]
        for thread in threads:
            thread.start()
        try:
            with first.database().snapshot() as held:
                for n in range(1, 7):
                    chain.done(measured(n), measured(n + 0.5))
                    load(first)
                assert held.rows("SELECT count(*) AS n FROM runs") == [{"n": 2}]
        finally:
            ended.set()
            for thread in threads:
                thread.join()
    assert len(published(chain)) > 1
    for number, key in enumerate(published(chain)):
        path = chain.data / f"{number}.duckdb"
        path.write_bytes(chain.public.read(key))
        with duckdb.connect(str(path)) as connection:
            told = dict(connection.execute("SELECT log, seq FROM cursors").fetchall())
            found = connection.execute("SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM measurements)")
            assert found.fetchall() == [(2 * told["outcomes-v1"],) * 2]
        record = msgspec.json.decode(chain.public.read(keys.snapshot_record(key)), type=PublishedSnapshot)
        assert record.outcomes_seq == told["outcomes-v1"]
        assert record.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def _damaged(chain: Chain, key: str) -> None:
    path = chain.data / "public" / key
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.unlink()
    path.write_bytes(body)


def _cut_short(chain: Chain, key: str) -> None:
    path = chain.data / "public" / key
    body = path.read_bytes()
    path.unlink()
    path.write_bytes(body[:-100])


def _gone(chain: Chain, key: str) -> None:
    chain.public.delete(key)


def _no_record(chain: Chain, key: str) -> None:
    (chain.data / "public" / keys.snapshot_record(key)).write_bytes(b"{}")


def _no_database(chain: Chain, key: str) -> None:
    """As DuckDB of a later version may write it: the digest is right, and the file unreadable."""
    record = msgspec.json.decode(chain.public.read(keys.snapshot_record(key)), type=PublishedSnapshot)
    body = b"another format" * 1000
    path = chain.data / "public" / key
    path.unlink()
    path.write_bytes(body)
    said = msgspec.structs.replace(record, sha256=hashlib.sha256(body).hexdigest(), size_bytes=len(body))
    (chain.data / "public" / keys.snapshot_record(key)).write_bytes(msgspec.json.encode(said))


@pytest.mark.parametrize("spoil", [_damaged, _cut_short, _gone, _no_record, _no_database])
@pytest.mark.parametrize("older", [False, True], ids=["the only one", "an older one is whole"])
def test_a_snapshot_that_cannot_be_used_is_passed_over(chain: Chain, spoil: Any, older: bool) -> None:
    with replica(chain, "first") as first:
        chain.done(measured(1))
        load(first)
        if older:
            publish(chain, first)
        chain.done(measured(2))
        load(first)
        publish(chain, first)
        spoil(chain, published(chain)[-1])
        with replica(chain, "second") as second:
            assert rows(second, "SELECT count(*) FROM runs") == [(int(older),)]
            load(second)
            assert contents(second) == contents(first)
            assert not list((chain.data / "second").glob("*.coming*"))


def test_a_snapshot_of_other_tables_or_another_lake_version_is_not_even_read(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    with replica(chain, "first") as first:
        chain.done(measured(1))
        load(first)
        publish(chain, first)
        monkeypatch.setattr(database_module, "FILE_VERSION", 99)
        assert list(snapshots.newest_first(chain.buckets.public, 1)) == []
        monkeypatch.undo()
        assert list(snapshots.newest_first(chain.buckets.public, 2)) == []
        assert len(list(snapshots.newest_first(chain.buckets.public, 1))) == 1


def test_a_snapshot_that_is_ahead_of_its_log_is_of_another_past(chain: Chain) -> None:
    """As when the bucket was put back from a copy: seqs that were given once are given again."""
    with replica(chain, "first") as first:
        chain.done(measured(1))
        load(first)
        head = chain.public.read(keys.feed_head(keys.outcomes_log(1)))
        chain.done(measured(2))
        load(first)
        publish(chain, first)
    (chain.data / "public" / keys.feed_head(keys.outcomes_log(1))).write_bytes(head)
    with replica(chain, "second") as second:
        load(second)
        assert rows(second, "SELECT value FROM measurements") == [(1.0,)]


def test_a_file_far_behind_is_given_up_for_a_snapshot_and_one_that_is_near_is_not(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    with replica(chain, "first") as first, ExitStack() as stack:
        chain.done(measured(1))
        load(first)
        for name in ("near", "far"):
            with replica(chain, name) as old:
                load(old)
        for value in (2, 3):
            chain.done(measured(value))
        load(first)
        publish(chain, first)
        monkeypatch.setattr(dashboard_module, "FAR_BEHIND", 3)
        near = stack.enter_context(replica(chain, "near"))
        assert rows(near, "SELECT count(*) FROM runs") == [(1,)]
        monkeypatch.setattr(dashboard_module, "FAR_BEHIND", 2)
        far = stack.enter_context(replica(chain, "far"))
        assert rows(far, "SELECT count(*) FROM runs") == [(3,)]
        load(near)
        load(far)
        assert contents(near) == contents(far) == contents(first)


def test_a_store_that_fails_under_a_download_is_told_and_the_next_start_works(chain: Chain) -> None:
    with replica(chain, "first") as first:
        chain.done(measured(1))
        load(first)
        publish(chain, first)
        chain.public.before = failing("read", published(chain)[0], Unavailable("the store is away"))
        with pytest.raises(Unavailable), replica(chain, "second"):
            pass
        chain.public.before = lambda verb, key: None
        with replica(chain, "second") as second:
            assert contents(second) == contents(first)


def test_parts_read_in_place_are_fetched_from_the_lake_by_a_replica_from_a_snapshot(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_place, "LARGEST_LOADED", 5)
    with replica(chain, "first") as first:
        chain.done(chunk_of_tests(1))
        load(first)
        publish(chain, first)
        [run] = rows(first, "SELECT run FROM runs")
        asked = [f"/api/v1/runs/{run[0]}/tests", f"/runs/{run[0]}"]
        with replica(chain, "second") as second:
            assert not (chain.data / "second" / "v1.parts").exists()
            assert answers(second, asked) == answers(first, asked)
            assert len(list((chain.data / "second" / "v1.parts").iterdir())) == 1


def test_nothing_in_a_snapshot_comes_from_the_private_bucket(chain: Chain) -> None:
    """No object there is even asked for."""
    with replica(chain, "first") as first:
        chain.done(measured(1))
        asked: list[str] = []
        chain.private.before = lambda verb, key: asked.append(key)
        load(first)
        publish(chain, first)
        assert published(chain)
        assert asked == []


def test_a_snapshot_passes_through_a_real_store(
    chain: Chain, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces, several at once."""
    monkeypatch.setattr(snapshots, "_PIECE_BYTES", 100_000)
    bucket: Any = Unreliable(open_s3("s3://replicas/here", s3_server.environ))  # type: ignore[arg-type]
    chain.done(measured(1), passed("t"))
    for key in chain.public.list(""):
        if key.startswith(("feeds/", "lake/")):
            bucket.create(key, chain.public.read(key))
    with replica(chain, "first", bucket) as first:
        load(first)
        first.publish(timedelta(0), chain.now)
        fetched: list[str] = []
        bucket.before = lambda verb, key: fetched.append(verb)
        with replica(chain, "second", bucket) as second:
            assert "local_path" not in fetched
            load(second)
            assert contents(second) == contents(first)
            assert rows(second, "SELECT count(*) FROM runs") == [(2,)]


# --- publishing ---


def test_nobody_publishes_what_is_published_or_too_early_or_not_level(chain: Chain) -> None:
    with replica(chain, "first") as first, replica(chain, "second") as second:
        publish(chain, first)
        assert published(chain) == [], "there is nothing yet"
        chain.done(measured(1))
        publish(chain, first)
        assert published(chain) == [], "it has not looked at the log"
        load(first)
        load(second)
        publish(chain, first)
        for _ in range(2):
            publish(chain, first)
            publish(chain, second)
        assert len(published(chain)) == 1
        chain.done(measured(2))
        load(second)
        publish(chain, second, every=HOUR)
        assert len(published(chain)) == 1
        chain.pass_time(minutes=61)
        publish(chain, second, every=HOUR)
        assert len(published(chain)) == 2


def test_two_that_publish_at_once_harm_nobody(chain: Chain) -> None:
    chain.done(measured(1))
    with replica(chain, "first") as first, replica(chain, "second") as second:
        both = [first, second]
        for dashboard in both:
            load(dashboard)
        barrier = threading.Barrier(2)
        chain.public.after = lambda verb, key: barrier.wait(10) if (verb, key) == ("list", prefix) else None
        prefix = keys.snapshots_prefix(1, database_module.layout())
        threads = [threading.Thread(target=publish, args=(chain, dashboard)) for dashboard in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        chain.public.after = lambda verb, key: None
        assert published(chain)
        with replica(chain, "third") as third:
            load(third)
            assert contents(third) == contents(first)


def test_old_snapshots_go_but_not_from_under_a_replica_that_reads_one(chain: Chain) -> None:
    """The newest two stay, and any for an hour after it was replaced. What another release published stays a week."""
    other = keys.snapshot(1, "2.1", 5, 5, "a" * 64)
    chain.public.create(other, b"of an earlier release")
    chain.public.create(
        keys.snapshot_record(other),
        msgspec.json.encode(
            PublishedSnapshot(
                key=other, sha256="a" * 64, size_bytes=21, lake_version=1, outcomes_seq=5, submissions_seq=5,
                layout="2.1", duckdb="1", published=chain.now,
            )
        ),
    )  # fmt: skip
    counts = []
    with replica(chain, "first") as first:
        for value in range(5):
            chain.done(measured(value))
            load(first)
            publish(chain, first)
            counts.append(len(published(chain)) - 1)
            chain.pass_time(minutes=40)
        assert counts == [1, 2, 3, 3, 3]
        assert other in published(chain)
        chain.pass_time(days=8)
        chain.done(measured(9))
        load(first)
        publish(chain, first)
        assert len(published(chain)) == 2
        assert [key for key in chain.public.list(keys.SNAPSHOTS) if key.endswith(".json")] == [
            keys.snapshot_record(key) for key in published(chain)
        ]


def test_what_a_publisher_that_died_left_behind_goes(chain: Chain) -> None:
    chain.done(measured(1))
    half = keys.snapshot(1, database_module.layout(), 1, 1, "b" * 64)
    chain.public.create(half, b"its record was never written")
    working = chain.data / "first" / f"{snapshots.WORKING}x"
    working.mkdir(parents=True)
    (working / "snapshot.duckdb").write_bytes(b"half")
    with replica(chain, "first") as first:
        assert not working.exists()
        load(first)
        now = chain.now
        publish(chain, first)
        assert half in published(chain), "its publisher may be about to write the record"
        modified = chain.public.head(half).modified
        assert snapshots.sweep(chain.buckets.public, 1, modified + timedelta(days=6)) == 0
        assert snapshots.sweep(chain.buckets.public, 1, modified + timedelta(days=8)) == 1
        assert half not in published(chain)
        assert len(published(chain)) == 1
        assert now == chain.now


def test_a_file_that_a_full_disk_keeps_from_opening_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is whole: made anew, everything would have to be loaded again; and the start says what is wrong."""
    path = tmp_path / "v1.duckdb"
    Database(path, 1).close()

    def full(*_: Any, **__: Any) -> None:
        raise duckdb.IOException(f'IO Error: Could not write file "{path}": No space left on device')

    with monkeypatch.context() as patched:
        patched.setattr(duckdb, "connect", full)
        with pytest.raises(StorageFull, match="no room"):
            Database(path, 1)
    assert path.exists()
    Database(path, 1).close()
