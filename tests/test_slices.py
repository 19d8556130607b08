"""A big document read in slices gives what it gives when it is read whole."""

import errno
import gzip
import json
import random
from concurrent.futures import Future
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processor import batch as batch_module
from processor import task as task_module
from processor.batch import Processor
from processor.children import ChildLost
from processor.reading.decode import DecodeLimits
from processor.slices import cut
from processor.tables import MAX_UNREAD_NAMES
from processor.task import Done, Slices, Survey
from schemas.records import Chunk, Context, Problem, SubmissionOutcome
from tests.bench.make_wptreport import write_wptreport
from tests.chain import Chain, InThisProcess, load, rows

RUN_INFO = {"product": "chrome", "os": "linux", "revision": "abc"}


def report(results: Any, **more: Any) -> dict[str, Any]:
    return {"run_info": RUN_INFO, "results": results, "time_start": 1_700_000_000_000, **more}


def result(n: int, subtests: int = 3, **more: Any) -> dict[str, Any]:
    inner = [{"name": f'{n} "{i}" ]}}, {{', "status": "PASS" if i % 2 else "FAIL"} for i in range(subtests)]
    return {"test": f"/a/{n}.html", "status": "OK", "subtests": inner, **more}


def slices_of(text: bytes, slice_bytes: int) -> list[bytes] | None:
    file = BytesIO(text)
    found = cut(file, len(text), ["results"], slice_bytes)
    return None if found is None else [bytes(found.document(file, n)) for n in range(len(found.bounds))]


LAYOUTS = {
    "as the tool writes it": lambda value: json.dumps(value).encode(),
    "without spaces": lambda value: json.dumps(value, separators=(",", ":")).encode(),
    "indented": lambda value: json.dumps(value, indent=2).encode() + b"\r\n",
    "results last": lambda value: json.dumps({k: value[k] for k in sorted(value, key="results".__eq__)}).encode(),
    "results first": lambda value: json.dumps({k: value[k] for k in sorted(value, key="results".__ne__)}).encode(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_slices_are_documents_that_hold_each_element_once(layout: str) -> None:
    value = report([result(n) for n in range(50)], subsuites={"a": ["x", "y"]}, lsan_leaks=[{"test": "/l"}])
    documents = slices_of(LAYOUTS[layout](value), 500)
    assert documents is not None
    assert len(documents) > 5
    read = [json.loads(document) for document in documents]
    assert [one for document in read for one in document["results"]] == value["results"]
    assert all({**document, "results": 0} == {**value, "results": 0} for document in read)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b'{"results": []}',
        b'{"results": [1, 2, 3]}',
        b'{"results": {"test": 1}}',
        b'{"results": [{"test": 1}], "results": [{"test": 2}]}',
        b'{"a": {"results": [{"test": 1}]}}',
        b'{"a": "\\"results\\": [", "b": {"results": [{"test": 1}, {"test": 2}]}}',
        b'{"results": [{"test": 1}, {"test": 2}]',
        b'{"results": [{"test": 1}, {"test": 2}]} trailing',
    ],
)
def test_what_cannot_be_cut_is_read_whole(text: bytes) -> None:
    assert slices_of(text, 10) is None


TRICKY = st.sampled_from(
    ['"test"', '{"test": 1}', '], "x": 1}', "]}", ', {"test":', "\\", '"', "é", "[", "{", "results"]
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(TRICKY, max_size=4).map("".join), min_size=1, max_size=12), st.integers(1, 300), st.booleans())
def test_text_that_looks_like_structure_does_not_mislead(messages: list[str], slice_bytes: int, sorted_: bool) -> None:
    results = [{"test": message, "message": message, "inner": [{"test": 1, message: []}]} for message in messages]
    value = report(results, note=messages, tail=[{"test": 3}, {"test": 4}])
    documents = slices_of(json.dumps(value, sort_keys=sorted_).encode(), slice_bytes)
    if documents is None:
        return
    try:
        read = [json.loads(document) for document in documents]
    except ValueError:
        return  # the cut was wrong, and shows it
    if all(document.keys() == value.keys() for document in read):
        assert [one for document in read for one in document["results"]] == results


# --- through the processor ---


def outcome_of(chain: Chain, body: bytes, monkeypatch: pytest.MonkeyPatch, *, slices: bool, **push: Any) -> Any:
    monkeypatch.setattr(batch_module, "SURVEYED_BYTES", 100 if slices else 1 << 40)
    chain.push(body, **push)
    first, last = chain.announce()
    assert chain.process((first, last))
    while chain.announce_outcomes():
        pass
    return chain.outcome(first)


def everything(chain: Chain) -> dict[str, list[Any]]:
    with chain.dashboard() as dashboard:
        load(dashboard)
        tests = "SELECT * EXCLUDE (seq, run) FROM tests ORDER BY ALL"
        runs = "SELECT * EXCLUDE (seq, run, submission, digest, digest_number, received) FROM runs"
        return {"tests": rows(dashboard, tests), "runs": rows(dashboard, runs)}


class SmallSlices(InThisProcess):
    """Cuts finely; `read` counts what kinds of task came."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def submit(self, task: Any, cpu_seconds: int) -> Any:
        self.kinds.append(type(task).__name__)
        if isinstance(task, Survey):
            import msgspec

            task = msgspec.structs.replace(task, slice_bytes=600)
        return super().submit(task, cpu_seconds)


def compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes, **push: Any) -> tuple[Any, Any, list[str]]:
    """(outcome whole, outcome sliced, kinds of tasks of the latter), after the rows were found equal."""
    whole, sliced = Chain(tmp_path / "whole"), Chain(tmp_path / "sliced")
    workers = SmallSlices()
    sliced.processor = Processor(sliced.buckets, sliced.submissions, workers, DecodeLimits(), sliced.clock)
    first = outcome_of(whole, body, monkeypatch, slices=False, **push)
    second = outcome_of(sliced, body, monkeypatch, slices=True, **push)
    assert everything(whole) == everything(sliced)
    one, other = first.submissions[0], second.submissions[0]
    assert (one.verdict, one.format, one.runs, one.tests, one.unread, one.problems, one.problems_total) == (
        other.verdict, other.format, other.runs, other.tests, other.unread, other.problems, other.problems_total,
    )  # fmt: skip
    return first, second, workers.kinds


@pytest.mark.parametrize("encode", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_report_in_slices_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encode: Any) -> None:
    path = tmp_path / "report.json"
    tests, subtests = write_wptreport(path, tests=60)
    body = encode(path.read_bytes())
    push = {"context": Context(chunk=Chunk(group="g", index=1, total=2))}
    _, second, kinds = compared(tmp_path, monkeypatch, body, **push)
    assert second.submissions[0].tests == tests + subtests
    assert kinds.count("Slices") > 3
    assert kinds.count("Transform") == 0
    tables = [part.table for part in second.parts]
    assert (tables.count("runs"), tables.count("run_chunks")) == (1, 1)
    assert tables.count("tests") == kinds.count("Slices")


def test_problems_and_losses_of_slices_are_those_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = [result(n, 20, new=1) for n in range(40)]
    results[3]["status"] = "WHAT"
    results[33]["subtests"][7]["status"] = ""
    results[39]["duration"] = -1
    body = json.dumps(report(results, other={"a": 1}, time_end="x")).encode()
    _, second, kinds = compared(tmp_path, monkeypatch, body)
    assert kinds.count("Slices") > 3
    assert second.submissions[0].unread == {"/other": 1, "/results/*/new": 40}
    places = [problem.where for problem in second.submissions[0].problems]
    assert places == ["/time_end", "/results/3/status", "/results/33/subtests/7/status", "/results/39/duration"]


def test_a_report_refused_in_slices_is_refused_with_every_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [result(n, 20) for n in range(40)]
    del results[5]["test"]
    results[35]["subtests"][2]["name"] = None
    _, second, kinds = compared(tmp_path, monkeypatch, json.dumps(report(results)).encode())
    assert kinds.count("Slices") > 3
    assert second.submissions[0].verdict == "rejected"
    assert second.parts == []
    assert [problem.where for problem in second.submissions[0].problems] == [
        "/results/5/test", "/results/35/subtests/2/name",
    ]  # fmt: skip


def test_a_second_array_that_looks_like_the_first_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is not near the end of the file, so the cut goes wrong, which is found."""
    monkeypatch.setattr("processor.slices._TAIL_BYTES", 1_000)
    value = report([result(n) for n in range(30)]) | {"lsan_leaks": [result(n) for n in range(100, 130)]}
    _, second, kinds = compared(tmp_path, monkeypatch, json.dumps(value).encode())
    assert kinds.count("Slices") > 3
    assert kinds.count("Transform") == 1
    assert second.submissions[0].tests == 30 * 4


def broken_at(n: int, text: str) -> bytes:
    """A report of 40 results in whose result `n` something stands as `text`."""
    results = [result(i, 20) for i in range(40)]
    results[n]["message"] = "HERE"
    return json.dumps(report(results)).replace('"HERE"', text).encode()


def test_a_slice_that_is_no_json_refuses_the_file_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second, kinds = compared(tmp_path, monkeypatch, broken_at(35, "NaN"))
    assert kinds.count("Slices") > 3
    assert second.submissions[0].verdict == "rejected"
    assert len(second.submissions[0].problems) == 1


def test_what_is_said_of_a_later_slice_as_a_whole_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, second, kinds = compared(tmp_path, monkeypatch, broken_at(35, '"half a \\ud83d"'))
    assert kinds.count("Transform") == 0
    assert ["surrogates" in problem.found for problem in second.submissions[0].problems] == [True]


def test_an_array_that_is_closed_and_opened_again_is_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two arrays of one name JSON readers take the last."""
    monkeypatch.setattr("processor.slices._TAIL_BYTES", 1_000)
    body = json.dumps(report([result(n) for n in range(60)])).encode()
    at = body.index(b', {"test": "/a/30.html"')
    _, second, kinds = compared(tmp_path, monkeypatch, body[:at] + b'], "results": [' + body[at + 2 :])
    assert kinds.count("Slices") > 3
    assert second.submissions[0].tests == 30 * 4


def test_slices_of_equal_rows_are_each_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their parts would be one part, since a part is named by what it holds."""
    _, second, _ = compared(tmp_path, monkeypatch, json.dumps(report([result(1)] * 60)).encode())
    assert second.submissions[0].tests == 60 * 4
    assert len({part.key for part in second.parts}) == len(second.parts)


def test_a_loss_report_of_slices_loses_no_count_and_stays_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [result(n, 20, **{f"new {n} {i}": 1 for i in range(20)}) for n in range(40)]
    chain = Chain(tmp_path / "data")
    chain.processor = Processor(chain.buckets, chain.submissions, SmallSlices(), DecodeLimits(), chain.clock)
    outcome = outcome_of(chain, json.dumps(report(results)).encode(), monkeypatch, slices=True)
    unread = outcome.submissions[0].unread
    assert sum(unread.values()) == 40 * 20
    assert len(unread) <= MAX_UNREAD_NAMES + 1


class Losing(SmallSlices):
    """Loses the child at the first `losses` tries of the first slice."""

    def __init__(self, losses: int) -> None:
        super().__init__()
        self.losses = losses
        self.begun: list[Any] = []

    def submit(self, task: Any, cpu_seconds: int) -> Any:
        future = super().submit(task, cpu_seconds)
        if isinstance(task, Slices):
            self.begun.append(task.bounds)
            if task.bounds == min(self.begun) and self.losses:
                self.losses -= 1
                future = Future()
                future.set_exception(ChildLost("chance"))
        return future


@pytest.mark.parametrize(("losses", "whole"), [(1, 0), (2, 1)])
def test_a_slice_that_costs_its_child_is_read_once_more_before_the_file_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, losses: int, whole: int
) -> None:
    chain = Chain(tmp_path / "data")
    workers = Losing(losses)
    chain.processor = Processor(chain.buckets, chain.submissions, workers, DecodeLimits(), chain.clock)
    body = json.dumps(report([result(n) for n in range(40)])).encode()
    outcome = outcome_of(chain, body, monkeypatch, slices=True)
    assert outcome.submissions[0].tests == 40 * 4
    assert workers.kinds.count("Transform") == whole


def test_slices_that_are_not_begun_when_one_fails_are_not_begun_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of a hostile file's many slices could take its whole computing time, and everybody would wait."""

    class Late(SmallSlices):
        def __init__(self) -> None:
            super().__init__()
            self.waiting: list[Any] = []

        def submit(self, task: Any, cpu_seconds: int) -> Any:
            if not isinstance(task, Slices):
                return super().submit(task, cpu_seconds)
            future: Future[Any] = Future()
            self.waiting.append(future)
            if len(self.waiting) == 1:
                refusal = Problem(where="/results", expected="an array", found="none")
                outcome = SubmissionOutcome(seq=1, id="", verdict="rejected", problems=[refusal], problems_total=1)
                future.set_result(Done(outcomes=[outcome], elements=[0]))
            return future

    chain = Chain(tmp_path / "data")
    workers = Late()
    chain.processor = Processor(chain.buckets, chain.submissions, workers, DecodeLimits(), chain.clock)
    body = json.dumps(report([result(n) for n in range(40)])).encode()
    assert outcome_of(chain, body, monkeypatch, slices=True).submissions[0].tests == 40 * 4
    assert len(workers.waiting) > 2
    assert all(future.cancelled() for future in workers.waiting[1:])


def test_without_room_to_decompress_to_a_file_is_read_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    chain = Chain(tmp_path / "data")
    workers = SmallSlices()
    chain.processor = Processor(chain.buckets, chain.submissions, workers, DecodeLimits(), chain.clock)
    monkeypatch.setattr(task_module, "inflate", full)
    body = gzip.compress(json.dumps(report([result(n) for n in range(40)])).encode())
    assert outcome_of(chain, body, monkeypatch, slices=True).submissions[0].tests == 40 * 4
    assert workers.kinds == ["Survey", "Transform"]


def test_equal_reports_have_equal_digests_and_others_have_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain(tmp_path / "data")
    chain.processor = Processor(chain.buckets, chain.submissions, SmallSlices(), DecodeLimits(), chain.clock)
    chance = random.Random(1)
    bodies = [json.dumps(report([result(n, chance.randint(1, 9)) for n in range(40)])).encode() for _ in range(2)]
    for body in (bodies[0], gzip.compress(bodies[0]), bodies[1]):
        outcome_of(chain, body, monkeypatch, slices=True)
    with chain.dashboard() as dashboard:
        load(dashboard)
        digests = [row[0] for row in rows(dashboard, "SELECT digest FROM runs ORDER BY seq")]
    assert digests[0] == digests[1] != digests[2]


def test_slices_are_read_by_real_children_too(tmp_path: Path) -> None:
    """With sizes as they are; the report is as large as three slices."""
    from processor.children import Children

    path = tmp_path / "report.json"
    tests, subtests = write_wptreport(path, tests=4_000)
    assert path.stat().st_size > 2 * task_module.SLICE_BYTES
    chain = Chain(tmp_path / "data")
    children = Children(2, 1 << 30)
    try:
        chain.processor = Processor(chain.buckets, chain.submissions, children, DecodeLimits(), chain.clock)
        first, last = chain.push_batch(path.read_bytes())
        assert chain.process((first, last))
    finally:
        children.stop()
    outcome = chain.outcome(first)
    assert outcome.submissions[0].tests == tests + subtests
    assert sum(part.table == "tests" for part in outcome.parts) >= 2
