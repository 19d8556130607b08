"""Large parts of `tests` are read where they are, and nobody can tell from the answers."""

import itertools
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from dashboard_api import in_place, queries, summaries
from dashboard_api.answers import AnswerCache
from dashboard_api.api import api_routes
from dashboard_api.dashboard import Dashboard
from dashboard_api.database import Snapshot
from dashboard_api.desk import Desk
from infra.web import exception_handlers
from schemas.errors import Unavailable
from tests.chain import Chain, failing, load, measured, nothing, rows

STATUSES = ("pass", "fail", "skip")


def many(count: int, name: str = "t") -> bytes:
    """A file of `count` tests of Runfeed's own format."""
    lines = [
        json.dumps({"test": f"{name}{n}", "status": STATUSES[n % 3], "message": f"it's no. {n}"}) for n in range(count)
    ]
    return "\n".join(lines).encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a quote in its name, as a user's folder may have."""
    return tmp_path / "it's here"


def answers(dashboard: Dashboard) -> list[Any]:
    """What pages and the API say of every run's tests, page by page."""
    said: list[Any] = []
    with dashboard.database().snapshot() as snapshot:
        runs = [row["run"] for row in snapshot.rows("SELECT run FROM runs ORDER BY seq, ordinal")]
        for run in runs:
            said.append(summaries.test_counts(snapshot, run))
            for status, text in ((None, None), (["fail"], None), (None, "NO. 1")):
                after = None
                while True:
                    page = queries.run_tests(snapshot, run, 7, after, status=status, text=text)
                    said.append(page.items)
                    after = page.next
                    if not after:
                        break
    return said


def test_answers_are_the_same_in_place_and_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain(folder)
    chain.done(many(40), measured(1), many(3, "few"))
    chain.done(many(25, "other"))
    said = []
    for largest in (1_000, 20, 0):
        monkeypatch.setattr(in_place, "LARGEST_LOADED", largest)
        with chain.dashboard() as dashboard:
            load(dashboard)
            left = rows(dashboard, "SELECT count(*) FROM tests_in_place")[0][0]
            loaded = rows(dashboard, "SELECT count(*) FROM tests")[0][0]
            said.append((left, loaded, answers(dashboard)))
        (folder / "dashboard" / "v1.duckdb").unlink()
    assert [one[:2] for one in said] == [(0, 68), (2, 0), (2, 0)]
    assert said[0][2] == said[1][2] == said[2][2]


def fetched(folder: Path) -> list[Path]:
    return sorted((folder / "dashboard" / "v1.parts").iterdir())


def test_a_part_is_linked_when_somebody_asks_and_goes_with_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_place, "LARGEST_LOADED", 5)
    chain = Chain(folder)
    chain.done(many(10))
    with chain.dashboard() as dashboard:
        load(dashboard)
        assert not (folder / "dashboard" / "v1.parts").exists()
        before = answers(dashboard)
        [kept] = fetched(folder)
        [part] = [key for key in chain.parts() if "/tests/" in key]
        assert os.path.samefile(kept, folder / "public" / part)
        (kept.parent / "left-over.parquet").write_bytes(b"of a load that failed")
        (kept.parent / "0.parquet.abcd.coming").write_bytes(b"of a fetch that failed")
    with chain.dashboard() as dashboard:
        assert fetched(folder) == [kept]
        kept.unlink()
        assert answers(dashboard) == before, "a part that somebody removed is fetched again"


def copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """As from remote storage, or from another file system."""

    def no_link(*_: object) -> None:
        raise OSError("cross-device link")

    monkeypatch.setattr(os, "link", no_link)


def test_of_copied_parts_only_those_last_used_are_kept_and_others_come_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_place, "LARGEST_LOADED", 5)
    chain = Chain(folder)
    for name in "abc":
        chain.done(many(500, name))
    with chain.dashboard() as dashboard:
        load(dashboard)
        copies(monkeypatch)
        answers(dashboard)
        sizes = [path.stat().st_size for path in fetched(folder)]
        assert len(sizes) == 3
        dashboard.database().parts._kept_bytes = sum(sizes) - 1
        with dashboard.database().snapshot() as snapshot:
            runs = [row["run"] for row in snapshot.rows("SELECT run FROM runs ORDER BY seq")]
            queries.run_tests(snapshot, runs[0], 1)
            assert [path.name[:12] for path in fetched(folder)] == ["000000000001", "000000000003"]
            assert queries.run_tests(snapshot, runs[1], 1).items[0].test == "b0"
            assert [path.name[:12] for path in fetched(folder)] == ["000000000001", "000000000002"]


def test_of_many_who_want_a_part_one_fetches_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_place, "LARGEST_LOADED", 5)
    chain = Chain(folder)
    chain.done(many(10))
    asked: list[str] = []
    with chain.dashboard() as dashboard:
        load(dashboard)
        chain.public.before = lambda verb, key: asked.append(key) if verb == "local_path" else None
        with ThreadPoolExecutor(8) as pool:
            said = list(pool.map(lambda _: answers(dashboard), range(8)))
    assert all(one == said[0] for one in said)
    assert len(asked) == 1


def test_a_part_that_goes_while_it_is_read_is_fetched_once_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others needed its room between the answer where it is and its being read."""
    monkeypatch.setattr(in_place, "LARGEST_LOADED", 5)
    chain = Chain(folder)
    chain.done(many(10))
    with chain.dashboard() as dashboard:
        load(dashboard)
        desk, times = Desk(dashboard, AnswerCache(), dict), itertools.count()

        def read(snapshot: Snapshot) -> int:
            [run] = snapshot.rows("SELECT run, seq FROM runs")
            tests = snapshot.tests_of([run["seq"]])
            if not next(times):
                fetched(folder)[0].unlink()
            return int(snapshot.rows(f"SELECT count(*) AS n FROM {tests}")[0]["n"])

        assert desk.read(read) == 10
        assert next(times) == 2


def test_a_part_that_cannot_be_had_is_503_and_all_else_is_answered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_place, "LARGEST_LOADED", 5)
    chain = Chain(folder)
    chain.done(many(10))
    with chain.dashboard() as dashboard:
        load(dashboard)
        [part] = [key for key in chain.parts() if "/tests/" in key]
        app = Litestar(api_routes(dashboard), exception_handlers=exception_handlers, logging_config=None)
        with TestClient(app) as client:
            [run] = client.get("/api/v1/runs").json()["items"]
            tests = f"/api/v1/runs/{run['run']}/tests"
            chain.public.before = failing("local_path", part, Unavailable("the store is away"))
            assert client.get(tests).status_code == 503
            chain.public.before = nothing
            whole = chain.public.read(part)
            chain.public.delete(part)
            assert client.get(tests).status_code == 503
            assert client.get(f"/api/v1/runs/{run['run']}").status_code == 200
            chain.public.create(part, whole)
            assert len(client.get(tests).json()["items"]) == 10


def test_a_part_is_copied_where_it_cannot_be_linked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_place, "LARGEST_LOADED", 5)
    chain = Chain(folder)
    chain.done(many(10))
    copies(monkeypatch)
    with chain.dashboard() as dashboard:
        load(dashboard)
        assert len(answers(dashboard)[1]) == 7


def test_a_load_that_fails_leaves_nothing_half_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_place, "LARGEST_LOADED", 5)
    chain = Chain(folder)
    with chain.dashboard() as dashboard:
        chain.done(many(10))
        chain.done(many(4, "small"))

        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("the process ended")

        with monkeypatch.context() as patched:
            patched.setattr("dashboard_api.loader.Loader._move_cursor", fail)
            with pytest.raises(RuntimeError):
                dashboard.step()
        assert rows(dashboard, "SELECT count(*) FROM tests_in_place") == [(0,)]
        load(dashboard)
        assert rows(dashboard, "SELECT count(*) FROM tests_in_place") == [(1,)]
        assert rows(dashboard, "SELECT count(*) FROM tests") == [(4,)]
