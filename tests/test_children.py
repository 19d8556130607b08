"""Real child processes: what a file does to the one that reads it costs only that file."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.settings import Settings
from processor.batch import Processor
from processor.children import ChildLost, Children
from processor.reading.decode import DecodeLimits
from processor.task import File, Transform
from schemas.errors import Unavailable
from schemas.records import Benchmark
from tests.chain import Chain, load, measured, rows
from tests.golden import make_submission

HOSTILE = Path(__file__).parent / "hostile_formats"
"""A folder with a `sitecustomize` that adds formats which do to their process what a file might."""


@pytest.fixture
def hostile_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HOSTILE))


@pytest.fixture
def children() -> Iterator[Children]:
    """Two children with little memory."""
    made = Children(2, 700 << 20)
    yield made
    made.stop()


def transform_of(body: bytes, format: str = "auto", seq: int = 1) -> Transform:
    return Transform(files=[File(seq=seq, submission=make_submission(format), body=body)], limits=DecodeLimits())


def processes_of(children: Children) -> list[int]:
    """The pids of the children that are idle now."""
    idle = list(children._idle.queue)
    return [child.process.pid for child in idle if child]


def test_a_child_does_one_task_after_the_other(children: Children) -> None:
    for value in range(20):
        done = children.submit(transform_of(measured(value)), 20).result()
        assert [one.verdict for one in done.outcomes] == ["accepted"]
        assert {part.table: part.rows for part in done.parts} == {"runs": 1, "measurements": 1}
    assert len(processes_of(children)) == 1, "an idle child is used again before another is started"


@pytest.mark.usefixtures("hostile_formats")
@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("memory", "memory"),
        ("memory-slowly", "memory"),
        ("loop", "longer than"),
        ("regex", "longer than"),
        ("sleep", "takes longer than 4 s"),
        ("crash", "SIGSEGV"),
        ("kill", "SIGKILL"),
        ("exit", "ended with status 3"),
        ("silence", "ended with status"),
    ],
)
def test_a_file_that_ruins_its_process_costs_only_itself(tmp_path: Path, what: str, reason: str) -> None:
    """Its batch mates get through, and so does the next batch, in fresh children."""
    chain = Chain(tmp_path / "data")
    children = Children(2, 700 << 20)
    try:
        processor = Processor(
            chain.buckets, chain.submissions, children, DecodeLimits(), chain.clock, max_cpu_seconds=1
        )
        chain.push(measured(1))
        chain.push(json.dumps({"hostile": what}).encode())
        chain.push(measured(2))
        chain.push(measured(3))
        batch = chain.announce()
        assert processor.process(1, *batch, redelivered=False)
        assert chain.verdicts(1) == ["accepted", "quarantined", "accepted", "accepted"]
        [problem] = chain.outcome(1).submissions[1].problems
        assert reason in problem.found
        after = chain.push_batch(measured(4))
        assert processor.process(1, *after, redelivered=False)
        assert chain.verdicts(5) == ["accepted"]
    finally:
        children.stop()
    while chain.announce_outcomes():
        pass
    with chain.dashboard() as dashboard:
        load(dashboard)
        assert rows(dashboard, "SELECT value FROM measurements ORDER BY value") == [(1.0,), (2.0,), (3.0,), (4.0,)]


@pytest.mark.usefixtures("hostile_formats")
def test_the_batch_mates_of_a_ruinous_file_still_share_a_part(tmp_path: Path, children: Children) -> None:
    """A part for each of hundreds of small files would be more than a dashboard can load at once."""
    chain = Chain(tmp_path / "data")
    for value in range(8):
        chain.push(measured(value))
    chain.push(json.dumps({"hostile": "kill"}).encode())
    processor = Processor(chain.buckets, chain.submissions, children, DecodeLimits(), chain.clock)
    assert processor.process(1, *chain.announce(), redelivered=False)
    assert sorted(chain.verdicts(1)) == ["accepted"] * 8 + ["quarantined"]
    assert len([part for part in chain.outcome(1).parts if part.table == "measurements"]) <= children.count
    assert sum(part.rows for part in chain.outcome(1).parts if part.table == "measurements") == 8


@pytest.mark.usefixtures("hostile_formats")
def test_a_bug_in_a_format_is_told_without_losing_the_child(children: Children) -> None:
    done = children.submit(transform_of(b'{"hostile": "bug"}'), 20).result()
    assert "ZeroDivisionError" in done.outcomes[0].problems[0].found
    assert len(processes_of(children)) == 1


def test_a_child_has_no_credentials_and_no_terminal(monkeypatch: pytest.MonkeyPatch, children: Children) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    children.submit(transform_of(measured(1)), 20).result()
    [pid] = processes_of(children)
    process = psutil.Process(pid)
    assert "AWS_SECRET_ACCESS_KEY" not in process.environ()
    if sys.platform == "linux":
        assert os.readlink(f"/proc/{pid}/fd/0") == os.devnull
        assert os.getsid(pid) == pid


def test_a_child_that_was_killed_while_idle_is_replaced(children: Children) -> None:
    children.submit(transform_of(measured(1)), 20).result()
    [pid] = processes_of(children)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ChildLost, match="SIGKILL"):
        children.submit(transform_of(measured(2)), 20).result()
    assert children.submit(transform_of(measured(3)), 20).result().outcomes[0].verdict == "accepted"


@pytest.mark.usefixtures("hostile_formats")
def test_children_end_with_their_parent_also_in_the_middle_of_a_task() -> None:
    code = """
import os, sys, threading
from processor.children import Children
from tests.test_children import transform_of, processes_of
from tests.chain import measured
children = Children(1, 1 << 30)
children.start()
print(*processes_of(children), flush=True)
children.submit(transform_of(b'{"hostile": "sleep"}'), 1000)
sys.stdin.read()
"""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(HOSTILE), *filter(None, sys.path)])}
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
    )
    assert parent.stdout
    child = psutil.Process(int(parent.stdout.readline()))
    time.sleep(0.3)
    parent.kill()
    parent.communicate()
    child.wait(10)


def test_two_children_work_at_the_same_time(children: Children) -> None:
    children.start()
    assert len(set(processes_of(children))) == 2


def test_the_number_of_children_follows_the_cores_unless_a_setting_names_it() -> None:
    assert Children.of(Settings(worker_processes=3)).count == 3
    assert 1 <= Children.of(Settings()).count <= 8


def test_tasks_travel_whole() -> None:
    """Also what only some submissions have."""
    import msgspec

    from processor.child import Order

    schema = {"maximum": 10**30}  # beyond what a message's numbers hold
    benchmark = Benchmark(name="b", version=1, schema=schema, metrics=[], created=make_submission().received)
    file = File(seq=1, submission=make_submission(), body=b"\x00\xff", record=msgspec.json.encode(benchmark))
    order = Order(task=Transform(files=[file], limits=DecodeLimits(max_ratio=7)), cpu_seconds=5)
    arrived = msgspec.msgpack.decode(msgspec.msgpack.encode(order), type=Order)
    assert arrived == order
    assert arrived.task.files[0].benchmark == benchmark  # type: ignore[union-attr]


def test_a_task_that_no_message_holds_costs_only_itself(children: Children) -> None:
    task = Transform(files=transform_of(measured(1)).files, limits=DecodeLimits(max_ratio=1 << 70))
    with pytest.raises(ChildLost, match="cannot be handed"):
        children.submit(task, 20).result()
    assert children.submit(transform_of(measured(2)), 20).result().outcomes[0].verdict == "accepted"


@pytest.mark.usefixtures("hostile_formats")
def test_stopping_gives_up_what_children_do_at_once_and_blames_no_file(tmp_path: Path) -> None:
    """The batch has no outcome then, and is processed again by whoever comes next."""
    chain = Chain(tmp_path / "data")
    children = Children(1, 1 << 30)
    processor = Processor(chain.buckets, chain.submissions, children, DecodeLimits(), chain.clock)
    batch = chain.push_batch(b'{"hostile": "sleep"}', measured(1))
    raised: list[BaseException] = []

    def process() -> None:
        try:
            processor.process(1, *batch, redelivered=False)
        except Unavailable as error:
            raised.append(error)

    children.start()
    [pid] = processes_of(children)
    thread = threading.Thread(target=process)
    thread.start()
    time.sleep(0.5)
    began = time.monotonic()
    children.stop()
    thread.join()
    assert time.monotonic() - began < 5
    assert len(raised) == 1
    assert chain.outcomes() == []
    assert not psutil.pid_exists(pid)
    with pytest.raises(Unavailable):
        children.submit(transform_of(measured(1)), 20)


def test_a_child_leaves_sigterm_to_its_parent(children: Children) -> None:
    """A service manager sends it to all processes of a service at once; no file is to blame for that."""
    children.submit(transform_of(measured(1)), 20).result()
    [pid] = processes_of(children)
    os.kill(pid, signal.SIGTERM)
    assert children.submit(transform_of(measured(2)), 20).result().outcomes[0].verdict == "accepted"
    assert processes_of(children) == [pid]


def test_a_machine_without_processes_is_no_fault_of_a_file(monkeypatch: pytest.MonkeyPatch, children: Children) -> None:
    def no_process(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patched:
        patched.setattr("processor.children.subprocess.Popen", no_process)
        with pytest.raises(Unavailable):
            children.submit(transform_of(measured(1)), 20).result()
    assert children.submit(transform_of(measured(2)), 20).result().outcomes[0].verdict == "accepted"


def test_a_child_of_a_large_parent_is_not_taken_for_grown(children: Children) -> None:
    """A process is its parent's copy for a moment, and the kernel remembers how large that was."""
    held = bytearray(500 << 20)
    held[::4096] = b"x" * len(held[::4096])
    children.submit(transform_of(measured(1)), 20).result()
    assert len(processes_of(children)) == 1


def test_many_threads_may_submit(children: Children) -> None:
    verdicts: list[str] = []

    def push(n: int) -> None:
        verdicts.append(children.submit(transform_of(measured(n)), 20).result().outcomes[0].verdict)

    threads = [threading.Thread(target=push, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == ["accepted"] * 12
