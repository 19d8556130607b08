"""The questions to the dashboard's database: who is counted, in which order, and that pages lose nothing."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dashboard_api import queries
from dashboard_api.database import Database, Snapshot
from dashboard_api.queries import RunFilter
from dashboard_api.resources import Page
from schemas.errors import Refused
from tests.loaded import START, add_submission, submission_id


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "v1.duckdb", 1)
    yield made
    made.close()


def ask(database: Database, question: Callable[..., Any], *given: Any, **named: Any) -> Any:
    with database.snapshot() as snapshot:
        return question(snapshot, *given, **named)


def walk(database: Database, page: Callable[[Snapshot, str | None], Page[Any]], between: Any = None) -> list[Any]:
    """All items, each page from a snapshot of its own; `between` is called after the first."""
    items: list[Any] = []
    cursor = None
    for number in range(1000):
        with database.snapshot() as snapshot:
            found = page(snapshot, cursor)
        items += found.items
        if found.next is None:
            return items
        cursor = found.next
        if number == 0 and between:
            between()
    raise AssertionError("the pages never end")


def test_paging_runs_shows_each_once_though_others_arrive(database: Database) -> None:
    for seq in range(1, 8):
        add_submission(database, seq, [{}, {}])
    before = {run.run for run in ask(database, queries.runs, RunFilter(), 1000).items}

    def others_arrive() -> None:
        add_submission(database, 8, [{}, {}, {}])
        add_submission(database, 9, [{}], received=START - timedelta(days=1))  # announced late
        add_submission(database, 10, [{}], received=START + timedelta(minutes=4))  # same time as another

    shown = walk(database, lambda snapshot, at: queries.runs(snapshot, RunFilter(), 3, at), others_arrive)
    names = [run.run for run in shown]
    assert len(names) == len(set(names))
    assert before <= set(names)
    assert [run.received for run in shown] == sorted((run.received for run in shown), reverse=True)


def test_a_chunked_run_is_one_run_whose_rows_are_listed_once_each(database: Database) -> None:
    """Identical rows stay apart, chunks follow the log, and joining on the run id alone would double everything."""
    same = [{"benchmark": "b", "value": 1.0}] * 3
    add_submission(database, 4, [{"run": "whole", "chunk": (2, 2), "values": same}])
    add_submission(
        database, 2, [{"run": "whole", "chunk": (1, 2), "values": [{"benchmark": "a", "value": 2.0}, *same]}]
    )
    add_submission(database, 3, [{"values": {"b": 9.0}}])

    chunks = ask(database, queries.run, "whole")
    assert [(one.seq, one.chunk, one.chunks) for one in chunks] == [(2, 1, 2), (4, 2, 2)]
    rows = walk(database, lambda snapshot, at: queries.run_measurements(snapshot, "whole", 2, at))
    assert [(row.seq, row.benchmark, row.value) for row in rows] == [(2, "a", 2.0), *[(2, "b", 1.0)] * 3] + [
        (4, "b", 1.0)
    ] * 3
    [line] = ask(database, queries.find_series, benchmark="b").items
    points = ask(database, queries.points, line.series)
    assert [point.value for point in points] == [1.0] * 3 + [9.0] + [1.0] * 3
    assert line.points == len(points)
    assert ask(database, queries.project, "engine").runs == 2


def test_a_cursor_outlives_the_file_it_came_from(tmp_path: Path) -> None:
    """The same submissions loaded in another order, as after a rebuild, continue the list where it was."""
    values = [{"benchmark": f"b{i}", "value": float(i)} for i in range(5)]
    first, second = Database(tmp_path / "a.duckdb", 1), Database(tmp_path / "b.duckdb", 1)
    add_submission(first, 1, [{}])
    add_submission(first, 2, [{"values": values}])
    add_submission(second, 2, [{"values": values}])
    add_submission(second, 3, [{"values": values}])
    page = ask(first, queries.run_measurements, "run-2-0", 2)
    rest = ask(second, queries.run_measurements, "run-2-0", 10, page.next)
    assert [row.benchmark for row in page.items + rest.items] == ["b0", "b1", "b2", "b3", "b4"]


def test_run_filters_each_narrow_the_list(database: Database) -> None:
    plain = {"commit": "abcdef0", "branch": "main", "environment": "f1", "environment_title": "lab"}
    add_submission(database, 1, [plain | {"labels": {"os": "linux", "cc": "gcc"}}])
    add_submission(database, 2, [plain | {"branch": "topic", "commit": "abcdff0", "labels": {"os": "linux"}}])
    add_submission(database, 3, [plain | {"environment": "f2", "environment_title": "desk", "format": "junit"}])
    add_submission(database, 4, [{"duplicate_of": "run-1-0"}], project="other")

    def seqs(**filter: Any) -> list[int]:
        return [run.seq for run in ask(database, queries.runs, RunFilter(**filter), 100).items]

    assert seqs() == [4, 3, 2, 1]
    assert seqs(project="other") == [4]
    assert seqs(duplicates=False) == [3, 2, 1]
    assert seqs(commit="abcd") == [3, 2, 1]
    assert seqs(commit="abcdef0") == [3, 1]
    assert seqs(commit="%bcd") == []
    assert seqs(branch="topic") == [2]
    assert seqs(environment="f2") == seqs(environment="desk") == [3]
    assert seqs(format="junit") == [3]
    assert seqs(labels={"os": "linux"}) == [2, 1]
    assert seqs(labels={"os": "linux", "cc": "gcc"}) == [1]
    assert seqs(labels={"os' OR 1=1 --": "x"}) == []
    assert seqs(since=START + timedelta(minutes=2), until=START + timedelta(minutes=4)) == [3, 2]
    with pytest.raises(Refused, match="at least 4"):
        seqs(commit="abc")


def test_a_run_sent_again_counts_once(database: Database) -> None:
    add_submission(database, 1, [{"values": {"b": 1.0}, "results": [{"test": "t", "status": "pass"}]}])
    add_submission(database, 2, [{"values": {"b": 1.0}, "duplicate_of": "run-1-0"}, {"values": {"b": 2.0}}])
    [line] = ask(database, queries.find_series).items
    assert (line.points, line.last_value, line.last_run) == (2, 2.0, "run-2-1")
    assert [point.run for point in ask(database, queries.points, line.series)] == ["run-1-0", "run-2-1"]
    [project] = ask(database, queries.projects)
    assert (project.runs, project.measurements, project.tests, project.series) == (2, 2, 1, 1)
    assert ask(database, queries.run, "run-2-0")[0].duplicate_of == "run-1-0"


def test_points_are_in_the_order_of_commits_then_starts_then_receipts(database: Database) -> None:
    day = [datetime(2025, 1, n, tzinfo=UTC) for n in range(1, 10)]
    add_submission(database, 1, [{"values": {"b": 3.0}, "commit_time": day[3], "started": day[0]}])
    add_submission(database, 2, [{"values": {"b": 2.0}, "started": day[2], "branch": "topic"}])
    add_submission(database, 3, [{"values": {"b": 1.0}}], received=day[1])
    add_submission(database, 4, [{"values": {"b": 4.0}, "commit_time": day[3], "started": day[0]}])
    [line] = ask(database, queries.find_series).items
    assert (line.first_time, line.last_time, line.last_value) == (day[1], day[3], 4.0)

    def values(**narrowed: Any) -> list[float]:
        return [point.value for point in ask(database, queries.points, line.series, **narrowed)]

    assert values() == [1.0, 2.0, 3.0, 4.0]
    assert values(limit=2) == [3.0, 4.0], "the newest, oldest of them first"
    assert values(branch="topic") == [2.0]
    assert values(since=day[2], until=day[3]) == [2.0]
    older = walk(database, lambda it, at: queries.list_points(line.series, limit=3, before=at).page(it))
    assert [point.value for point in older] == [2.0, 3.0, 4.0, 1.0]


def test_tests_are_found_by_status_and_text_and_paged_by_place(database: Database) -> None:
    results = [
        {"test": f"dom/Case-{i}", "status": ("pass", "fail")[i % 2], "message": f"100%_ {i}" if i % 3 else None}
        for i in range(20)
    ]
    add_submission(database, 1, [{"results": results[:5]}, {"results": results}])

    def names(**wanted: Any) -> list[str]:
        return [test.test for test in walk(database, lambda it, at: queries.run_tests(it, "run-1-1", 3, at, **wanted))]

    assert names() == [f"dom/Case-{i}" for i in range(20)]
    assert names(status=["fail"]) == [f"dom/Case-{i}" for i in range(1, 20, 2)]
    assert names(text="CASE-1") == [f"dom/Case-{i}" for i in (1, *range(10, 20))]
    assert names(text="100%_ 1", status=["pass", "skip"]) == [f"dom/Case-{i}" for i in (10, 14, 16)]
    assert names(text="%") == [name for i, name in enumerate(names()) if i % 3], "a percent sign is only itself"
    with pytest.raises(Refused, match="status"):
        names(status=["passed"])


def test_series_are_found_by_all_words_and_paged_in_order(database: Database) -> None:
    many = [{"benchmark": f"sort/{n}", "params": f'{{"n":{i}}}', "value": 1.0} for n in "ab" for i in range(4)]
    add_submission(database, 1, [{"values": [*many, {"benchmark": "x" * 5000, "value": 1.0}]}])
    add_submission(database, 2, [{"values": {"sort/a": 1.0}}], project="other")

    def names(**wanted: Any) -> list[tuple[str, str]]:
        found = walk(database, lambda it, at: queries.find_series(it, after=at, limit=2, **wanted))
        return [(line.benchmark[:6], line.params) for line in found]

    assert len(names()) == 10
    assert names(project="engine", text="/B SORT") == [("sort/b", f'{{"n":{i}}}') for i in range(4)]
    assert names(text='"n":2') == [("sort/a", '{"n":2}'), ("sort/b", '{"n":2}')]
    assert names(benchmark="sort/a", project="other") == [("sort/a", "")]
    assert names(unit="ms") == names(environment="nowhere") == names(text="sort nowhere") == []
    with pytest.raises(Refused, match="cursor"):
        ask(database, queries.find_series, after="WyJ4Il0")


def test_submissions_tell_their_state_and_every_reason(database: Database) -> None:
    problem = {"where": "/a", "expected": "a number", "found": '"x"', "effect": "refused"}
    add_submission(database, 1, [{}, {}])
    add_submission(database, 2, verdict="rejected", problems=[problem])
    add_submission(database, 3, verdict=None, project="other")
    rows = walk(database, lambda it, at: queries.submissions(it, limit=1, before=at))
    assert [(row.seq, row.state) for row in rows] == [(3, "announced"), (2, "rejected"), (1, "accepted")]
    assert [row.seq for row in ask(database, queries.submissions, "engine", "accepted").items] == [1]
    assert [row.seq for row in ask(database, queries.submissions, None, ["accepted", "announced"]).items] == [3, 1]
    rejected = ask(database, queries.submission, submission_id(2))
    assert [str(one) for one in rejected.problems] == ['/a: expected a number, found "x"']
    assert rejected.received == START + timedelta(minutes=2)
    assert ask(database, queries.submission, submission_id(1)).runs == ["run-1-0", "run-1-1"]
    assert ask(database, queries.submission, submission_id(3)).format == ""
    assert ask(database, queries.submission, submission_id(4)) is None
    assert ask(database, queries.states) == {"announced": 1, "accepted": 1, "rejected": 1, "quarantined": 0}
    with pytest.raises(Refused, match="state"):
        ask(database, queries.submissions, None, "received")


def test_samples_are_given_only_if_asked_for(database: Database) -> None:
    add_submission(database, 1, [{"values": [{"benchmark": "b", "value": 1.5, "n": 2, "samples": [1.0, 2.0]}]}])
    [without] = ask(database, queries.run_measurements, "run-1-0", 10).items
    [with_them] = ask(database, queries.run_measurements, "run-1-0", 10, samples=True).items
    assert (without.samples, with_them.samples, without.n) == (None, [1.0, 2.0], 2)
