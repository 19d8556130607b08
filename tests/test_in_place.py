"""Large parts of `tests` are read where they are, and nobody can tell from the answers."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dashboard_api import in_place, queries, summaries
from dashboard_api.dashboard import Dashboard
from tests.chain import Chain, load, measured, rows

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


def test_parts_lie_beside_the_file_without_a_copy_and_go_with_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_place, "LARGEST_LOADED", 5)
    chain = Chain(folder)
    chain.done(many(10))
    with chain.dashboard() as dashboard:
        load(dashboard)
        [kept] = (folder / "dashboard" / "v1.parts").iterdir()
        [part] = [key for key in chain.parts() if "/tests/" in key]
        assert os.path.samefile(kept, folder / "public" / part)
        (kept.parent / "left-over.parquet").write_bytes(b"of a load that failed")
    with chain.dashboard():
        assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_a_part_that_somebody_removed_is_fetched_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_place, "LARGEST_LOADED", 5)
    chain = Chain(folder)
    chain.done(many(10))
    with chain.dashboard() as dashboard:
        load(dashboard)
        before = answers(dashboard)
    for path in (folder / "dashboard" / "v1.parts").iterdir():
        path.unlink()
    with chain.dashboard() as dashboard:
        load(dashboard)
        assert answers(dashboard) == before


def test_a_part_is_copied_where_it_cannot_be_linked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from remote storage, or from another file system."""

    def no_link(*_: object) -> None:
        raise OSError("cross-device link")

    monkeypatch.setattr(in_place, "LARGEST_LOADED", 5)
    chain = Chain(folder)
    chain.done(many(10))
    monkeypatch.setattr(os, "link", no_link)
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
