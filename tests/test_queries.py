"""The questions to the dashboard's database: who is counted, in which order, and that pages lose nothing."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dashboard_api import chunks, in_place, queries, repeats, summaries
from dashboard_api.database import Database, Snapshot
from dashboard_api.filters import RunFilter, SubmissionFilter
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

    sent = ask(database, chunks.chunks, "whole", 10)
    assert [(one.seq, one.chunk, one.chunks) for one in sent] == [(2, 1, 2), (4, 2, 2)]
    run = ask(database, queries.run, "whole")
    assert (run.completeness, run.measurements, run.seq) == ("complete", 7, 2)
    assert [one.run for one in ask(database, queries.runs, RunFilter(), 10).items] == ["run-3-0", "whole"]
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
    assert ask(database, queries.run, "run-2-0").duplicate_of == "run-1-0"


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
    rows = walk(database, lambda it, at: queries.submissions(it, SubmissionFilter(), limit=1, before=at))
    assert [(row.seq, row.state) for row in rows] == [(3, "announced"), (2, "rejected"), (1, "accepted")]
    accepted_of_engine = SubmissionFilter("engine", ["accepted"])
    assert [row.seq for row in ask(database, queries.submissions, accepted_of_engine).items] == [1]
    either = SubmissionFilter(states=["accepted", "announced"])
    assert [row.seq for row in ask(database, queries.submissions, either).items] == [3, 1]
    rejected = ask(database, queries.submission, submission_id(2))
    assert [str(one) for one in rejected.problems] == ['/a: expected a number, found "x"']
    assert rejected.received == START + timedelta(minutes=2)
    assert ask(database, queries.submission, submission_id(1)).runs == ["run-1-0", "run-1-1"]
    assert ask(database, queries.submission, submission_id(3)).format == ""
    assert ask(database, queries.submission, submission_id(4)) is None
    counts = {"announced": 1, "accepted": 1, "rejected": 1, "quarantined": 0, "withdrawn": 0}
    assert ask(database, queries.states) == counts
    with pytest.raises(Refused, match="state"):
        ask(database, queries.submissions, SubmissionFilter(states=["received"]))


def test_samples_are_given_only_if_asked_for(database: Database) -> None:
    add_submission(database, 1, [{"values": [{"benchmark": "b", "value": 1.5, "n": 2, "samples": [1.0, 2.0]}]}])
    [without] = ask(database, queries.run_measurements, "run-1-0", 10).items
    [with_them] = ask(database, queries.run_measurements, "run-1-0", 10, samples=True).items
    assert (without.samples, with_them.samples, without.n) == (None, [1.0, 2.0], 2)


# --- runs in chunks ---


def results_of(*names: str, status: str = "pass") -> list[dict[str, Any]]:
    return [{"test": name, "status": status} for name in names]


def levels(database: Database) -> dict[str, str]:
    return {one.run: one.completeness for one in ask(database, queries.runs, RunFilter(), 100).items}


def test_a_run_in_chunks_is_partial_until_each_number_is_here(database: Database) -> None:
    times = [START + timedelta(hours=n) for n in range(6)]
    for seq, number in ((1, 3), (2, 1)):
        one = {"run": "whole", "chunk": (number, 3), "results": results_of(f"a{number}", f"b{number}"), "passed": 2}
        started = times[number]
        add_submission(database, seq, [one | {"started": started, "finished": started + timedelta(minutes=5)}])
    run = ask(database, queries.run, "whole")
    assert (run.completeness, run.chunks_present, run.chunks_expected, run.chunks_missing) == ("partial", 2, 3, [2])
    assert (run.started, run.finished) == (times[1], times[3] + timedelta(minutes=5))
    assert (run.tests, run.passed, run.received) == (4, 4, START + timedelta(minutes=1))
    add_submission(database, 3, [{"run": "whole", "chunk": (2, 3), "results": results_of("a2")}])
    run = ask(database, queries.run, "whole")
    assert (run.completeness, run.chunks_present, run.chunks_missing, run.tests) == ("complete", 3, [], 5)
    assert ask(database, chunks.completeness, "whole").conflicts_total == 0


def test_a_run_that_came_in_one_file_is_complete(database: Database) -> None:
    add_submission(database, 1, [{}])
    run = ask(database, queries.run, "run-1-0")
    assert (run.completeness, run.chunks_present, run.chunks_missing) == ("complete", None, None)
    assert ask(database, chunks.completeness, "run-1-0").completeness == "complete"
    assert ask(database, chunks.chunks, "run-1-0", 10) == []


def test_a_total_of_two_thousand_million_chunks_lists_a_hundred_missing(database: Database) -> None:
    add_submission(database, 1, [{"run": "huge", "chunk": (2_000_000_000, 2_000_000_000)}])
    run = ask(database, queries.run, "huge")
    assert (run.chunks_expected, run.chunks_missing) == (2_000_000_000, list(range(1, 101)))


def test_one_number_with_different_contents_is_a_conflict_and_the_same_content_again_is_none(
    database: Database,
) -> None:
    one = {"run": "r", "chunk": (1, 1), "results": results_of("a", "b"), "failed": 0}
    add_submission(database, 1, [one | {"digest": "first"}])
    add_submission(database, 2, [one | {"digest": "first", "duplicate_of": "r"}])
    assert levels(database) == {"r": "complete"}
    assert ask(database, queries.run, "r").tests == 2, "what was sent again counts once"
    assert len(walk(database, lambda it, at: queries.run_tests(it, "r", 1, at))) == 2
    assert ask(database, summaries.test_counts, "r") == {"pass": 2}
    assert [row.repeats for row in ask(database, chunks.chunks, "r", 9)] == [False, True]
    add_submission(database, 3, [one | {"digest": "second", "results": results_of("a", "b", status="fail")}])
    found = ask(database, chunks.completeness, "r")
    assert levels(database) == {"r": found.completeness} == {"r": "conflict"}
    [conflict] = found.conflicts
    assert (conflict.kind, conflict.name, conflict.values) == ("chunk", "1", ["first", "second"])
    assert conflict.submissions == [submission_id(1), submission_id(3)]
    assert ask(database, queries.run, "r").tests == 4, "nobody can say which is right, so both count"


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ({}, {"chunk": (2, 3)}, "total"),
        ({"title": "a"}, {"title": "b"}, "title"),
        ({"commit": "a"}, {"commit": "b"}, "commit"),
        ({"branch": "a"}, {"branch": "b"}, "branch"),
        ({}, {"environment": "f", "environment_title": "desk"}, "environment"),
        ({}, {"format": "junit"}, "format"),
        ({"labels": {"os": "a"}}, {"labels": {"os": "b"}}, "label"),
        ({"labels": {"os": "a"}}, {"labels": {"cc": "b"}}, None),
        ({"labels": {"build_id": "1", "ci.job-url": "x"}}, {"labels": {"build_id": "2", "ci.job-url": "y"}}, None),
        ({"labels": {"shard": "1"}}, {"labels": {"shard": "2"}}, None),
        ({"title": "a", "commit": "c"}, {"title": None, "commit": None}, None),
    ],
)
def test_chunks_that_contradict_each_other_are_a_conflict_and_silence_is_none(
    database: Database, first: dict[str, Any], second: dict[str, Any], kind: str | None
) -> None:
    add_submission(database, 1, [{"run": "r", "chunk": (1, 2), **first}])
    add_submission(database, 2, [{"run": "r", "chunk": (2, 2), **second}])
    found = ask(database, chunks.completeness, "r")
    assert [one.kind for one in found.conflicts] == ([kind] if kind else [])
    assert levels(database) == {"r": "conflict" if kind else "complete"}


def test_a_test_in_two_chunks_is_a_conflict_named_with_both_submissions(database: Database) -> None:
    twice = [{"test": "t", "subtest": "s", "status": "pass"}]
    add_submission(database, 1, [{"run": "r", "chunk": (1, 3), "results": [*twice, *twice, *results_of("t", "u")]}])
    assert levels(database) == {"r": "partial"}, "one chunk may hold a test several times"
    add_submission(database, 2, [{"run": "r", "chunk": (2, 3), "results": results_of("v")}])
    add_submission(database, 3, [{"run": "other", "chunk": (1, 1), "results": results_of("u")}])
    assert set(levels(database).values()) == {"partial", "complete"}
    add_submission(
        database, 4, [{"run": "r", "chunk": (3, 3), "results": [{**twice[0], "status": "fail"}, *results_of("u")]}]
    )
    found = ask(database, chunks.completeness, "r")
    assert [(one.name, one.subtest, one.values) for one in found.conflicts] == [
        ("t", "s", ["pass", "pass", "fail"]),
        ("u", None, ["pass", "pass"]),
    ]
    assert found.conflicts[1].submissions == [submission_id(1), submission_id(4)]
    assert levels(database) == {"r": "conflict", "other": "complete"}


def test_many_tests_in_two_chunks_are_all_counted_and_few_named(database: Database) -> None:
    names = [f"t{n}" for n in range(300)]
    add_submission(database, 1, [{"run": "r", "chunk": (1, 2), "results": results_of(*names)}])
    add_submission(database, 2, [{"run": "r", "chunk": (2, 2), "results": results_of(*names)}])
    found = ask(database, chunks.completeness, "r")
    assert (found.conflicts_total, len(found.conflicts)) == (300, 50)
    assert [one.name for one in found.conflicts[:3]] == ["t0", "t1", "t2"]


def test_points_and_series_tell_how_complete_their_run_is(database: Database) -> None:
    add_submission(database, 1, [{"values": {"b": 1.0}}])
    add_submission(database, 2, [{"run": "r", "chunk": (1, 2), "values": {"b": 2.0}}])
    [line] = ask(database, queries.find_series).items
    assert line.last_completeness == "partial"
    points = ask(database, queries.points, line.series)
    assert [point.completeness for point in points] == ["complete", "partial"]
    recent = ask(database, summaries.recent, [line.series])[line.series]
    assert recent.completeness == ["complete", "partial"]


def test_failing_tests_are_compared_with_a_complete_run_and_absence_from_a_partial_one_fixes_nothing(
    database: Database,
) -> None:
    day = [START + timedelta(days=n) for n in range(5)]

    def nightly(seq: int, run: str, chunk: tuple[int, int], **of: Any) -> None:
        given = {"run": run, "chunk": chunk, "started": day[seq], "results": of["results"]}
        add_submission(database, seq, [given | {"failed": 1}])

    nightly(1, "whole", (1, 1), results=results_of("kept", "lost", status="fail") + results_of("new", "fine"))
    nightly(2, "part", (2, 2), results=results_of("elsewhere"))
    nightly(3, "newest", (1, 2), results=results_of("kept", "new", status="fail") + results_of("fine"))
    [suite] = ask(database, summaries.suites, "engine")
    assert (suite.run, suite.completeness, suite.previous, suite.previous_completeness) == (
        "newest", "partial", "whole", "complete",
    )  # fmt: skip
    failing = ask(database, summaries.failing, [suite], 10)
    assert [(line.test, line.before) for line in failing] == [("new", "pass"), ("kept", "fail")]
    assert ask(database, summaries.fixed, [suite], 10) == [], "lost may be in the chunk that is missing"
    nightly(4, "newest", (2, 2), results=results_of("fine2"))
    [suite] = ask(database, summaries.suites, "engine")
    assert suite.completeness == "complete"
    assert [line.test for line in ask(database, summaries.fixed, [suite], 10)] == ["lost"]


def test_without_a_complete_run_before_the_comparison_says_so(database: Database) -> None:
    add_submission(database, 1, [{"run": "part", "chunk": (1, 2), "results": results_of("a")}])
    add_submission(database, 2, [{"results": results_of("a")}])
    [suite] = ask(database, summaries.suites, "engine")
    assert (suite.previous, suite.previous_completeness) == ("part", "partial")


def test_paging_lists_a_run_in_chunks_once_where_its_first_chunk_is(database: Database) -> None:
    for seq in range(1, 9):
        chunked = {"run": f"c{seq % 2}", "chunk": (seq, 8)}
        add_submission(database, seq, [chunked, {}])
    shown = walk(database, lambda it, at: queries.runs(it, RunFilter(), 3, at))
    assert [one.run for one in shown] == [f"run-{n}-1" for n in range(8, 2, -1)] + [
        "run-2-1", "c0", "run-1-1", "c1",
    ]  # fmt: skip
    assert [one.chunks_present for one in shown if one.run == "c0"] == [4]


def test_a_run_of_which_one_chunk_repeats_another_run_is_no_duplicate(database: Database) -> None:
    add_submission(database, 1, [{"run": "a", "chunk": (1, 1)}])
    add_submission(database, 2, [{"run": "b", "chunk": (1, 2), "duplicate_of": "a"}])
    assert ask(database, queries.run, "b").duplicate_of == "a"
    add_submission(database, 3, [{"run": "b", "chunk": (2, 2)}])
    assert ask(database, queries.run, "b").duplicate_of is None
    found = ask(database, queries.runs, RunFilter(duplicates=False), 10).items
    assert [one.run for one in found] == ["b", "a"]


def test_what_a_revision_takes_away_conflicts_no_longer(database: Database) -> None:
    add_submission(database, 1, [{"run": "r", "chunk": (1, 2), "results": results_of("t")}])
    add_submission(database, 2, [{"run": "r", "chunk": (2, 2), "results": results_of("t")}])
    assert levels(database) == {"r": "conflict"}
    for table in ("runs", "run_chunks", "tests"):
        database.writer.execute(f"DELETE FROM {table} WHERE seq = 2")
    repeats.find(database.writer, in_place.folder_of(database.path), first=2, last=2, revised=True)
    assert levels(database) == {"r": "partial"}


def test_the_loss_report_is_answered(database: Database) -> None:
    add_submission(database, 1, unread={"/benchmarks/*/cprofile": 3, "<b>": 1})
    add_submission(database, 2)
    assert ask(database, queries.submission, submission_id(1)).unread == {"/benchmarks/*/cprofile": 3, "<b>": 1}
    assert ask(database, queries.submission, submission_id(2)).unread == {}


def test_a_suite_counts_all_of_a_run_of_which_one_chunk_is_as_in_another(database: Database) -> None:
    """Without a time in the file, a chunk in which nothing has changed is the same on two days."""
    add_submission(database, 1, [{"run": "a", "chunk": (1, 2), "results": results_of("t")}])
    add_submission(database, 2, [{"run": "a", "chunk": (2, 2), "results": results_of("u", status="fail")}])
    add_submission(database, 3, [{"run": "b", "chunk": (1, 2), "results": results_of("t"), "duplicate_of": "a"}])
    add_submission(database, 4, [{"run": "b", "chunk": (2, 2), "results": results_of("u")}])
    [suite] = ask(database, summaries.suites, "engine")
    assert (suite.run, suite.tests, suite.completeness, suite.previous) == ("b", 2, "complete", "a")
