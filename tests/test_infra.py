"""Settings, loops and hints: what starts everything and keeps it going."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.absent import stop_looking_for
from infra.hints import Hints
from infra.loops import Loop
from infra.settings import Settings, read_settings
from schemas.errors import Refused, Unavailable

PATIENCE_SECONDS = 20.0


# --- settings ---


def test_without_anything_given_the_defaults_hold() -> None:
    assert read_settings({}, {"port": None}) == Settings()


def test_the_command_line_outranks_the_environment_which_outranks_the_file(tmp_path: Path) -> None:
    (tmp_path / "runfeed.toml").write_text('port = 1\nmax_uploads = 1\nhost = "file"\nallow_anonymous = true\n')
    environ = {"RUNFEED_DATA": str(tmp_path), "RUNFEED_PORT": "2", "RUNFEED_MAX_UPLOADS": "2", "OTHER": "x"}
    settings = read_settings(environ, {"port": 3, "host": None})
    assert settings == Settings(data=tmp_path, port=3, max_uploads=2, host="file", allow_anonymous=True)


def test_the_data_folder_comes_from_the_command_line_then_the_environment(tmp_path: Path) -> None:
    environ = {"RUNFEED_DATA": "from-environment"}
    assert read_settings(environ, {"data": str(tmp_path)}).data == tmp_path
    assert read_settings(environ, {}).data == Path("from-environment")
    assert read_settings({"RUNFEED_DATA": ""}, {}).data == Settings.data


@pytest.mark.parametrize("name", ["prot", "data", "RUNFEED_PORT"])
def test_an_unknown_name_in_the_file_is_refused_and_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "runfeed.toml").write_text(f'{name} = "x"\n')
    with pytest.raises(Refused, match=rf"runfeed.toml {name}: expected one of allow_anonymous, .*port"):
        read_settings({}, {"data": tmp_path})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('port = "8765x"', "port: expected a whole number, found '8765x'"),
        ("port = 1.5", "port: expected int, found 1.5"),
        ("port = true", "port: expected int, found True"),
        ("port = 65536", "port: expected 0 to 65535, found 65536"),
        ("port = -1", "port: expected 0 to 65535, found -1"),
        ("host = 1", "host: expected str, found 1"),
        ('allow_anonymous = "maybe"', "allow_anonymous: expected true or false, found 'maybe'"),
        ("worker_threads = 0", "worker_threads: expected at least 1, found 0"),
        ("worker_processes = 1000", "worker_processes: expected 0 to 256, found 1000"),
        ("transform_memory_mib = 1", "transform_memory_mib: expected 256 to 16777216, found 1"),
        ("max_uploads = 0", "max_uploads: expected at least 1, found 0"),
        ("max_blob_bytes = -5", "max_blob_bytes: expected at least 1, found -5"),
        ('log_level = "loud"', "log_level: expected one of debug, info, warning, error, found 'loud'"),
        ('duckdb_memory = "lots"', "duckdb_memory: expected an amount of memory, as in 400MB or 2GiB, found 'lots'"),
    ],
)
def test_a_bad_value_is_refused_and_says_where(tmp_path: Path, line: str, reason: str) -> None:
    """Above all those with which everything would start and nothing would happen."""
    (tmp_path / "runfeed.toml").write_text(line)
    with pytest.raises(Refused) as refusal:
        read_settings({}, {"data": tmp_path})
    assert str(refusal.value) == f"{tmp_path / 'runfeed.toml'} {reason}"


def test_a_bad_value_in_the_environment_or_on_the_command_line_is_refused_and_says_where() -> None:
    with pytest.raises(Refused, match=r"^RUNFEED_PORT: expected a whole number, found 'x'$"):
        read_settings({"RUNFEED_PORT": "x"}, {})
    with pytest.raises(Refused, match=r"^command line port: expected 0 to 65535, found 70000$"):
        read_settings({}, {"port": 70000})


@pytest.mark.parametrize("body", [b"port = ", b"port = 1\nport = 2\n", b'host = "\xff"\n'])
def test_a_file_that_is_no_toml_is_refused_and_named(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "runfeed.toml").write_bytes(body)
    with pytest.raises(Refused, match=r"runfeed\.toml: expected TOML in UTF-8, found"):
        read_settings({}, {"data": tmp_path})


@pytest.mark.parametrize(("text", "value"), [("1", True), ("Yes", True), ("on", True), ("0", False), ("", False)])
def test_truth_in_the_environment(text: str, value: bool) -> None:
    assert read_settings({"RUNFEED_ALLOW_ANONYMOUS": text}, {}).allow_anonymous is value


@pytest.mark.parametrize("memory", ["400MB", "2GiB", "1.5 gb", "900KB"])
def test_amounts_of_memory_that_duckdb_takes(memory: str) -> None:
    assert read_settings({"RUNFEED_DUCKDB_MEMORY": memory}, {}).duckdb_memory == memory


# --- hints ---


def test_a_signal_between_looking_and_waiting_is_not_missed() -> None:
    hints = Hints()
    seen = hints.seen("log")
    hints.signal("log")
    started = time.monotonic()
    hints.wait("log", seen, PATIENCE_SECONDS)
    assert time.monotonic() - started < PATIENCE_SECONDS / 2


def test_a_signal_wakes_all_who_wait_on_its_name_and_nobody_else() -> None:
    hints = Hints()
    woken: list[str] = []

    def wait(name: str, seen: int) -> None:
        hints.wait(name, seen, PATIENCE_SECONDS)
        woken.append(name)

    waiting = [threading.Thread(target=wait, args=(name, hints.seen(name))) for name in ("log", "log", "other")]
    for thread in waiting:
        thread.start()
    hints.signal("log")
    for thread in waiting[:2]:
        thread.join(PATIENCE_SECONDS)
    assert woken == ["log", "log"]
    hints.signal("other")
    waiting[2].join(PATIENCE_SECONDS)
    assert woken == ["log", "log", "other"]


def test_without_a_signal_waiting_ends_by_itself() -> None:
    hints = Hints()
    hints.signal("log")
    started = time.monotonic()
    hints.wait("log", hints.seen("log"), 0.05)
    assert time.monotonic() - started >= 0.05


def test_threads_that_use_a_new_name_at_once_share_it() -> None:
    """Else one of them would wait on a hint that nobody signals."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(200):
            hints = Hints()
            together = threading.Barrier(4)

            def signal(hints: Hints = hints, together: threading.Barrier = together) -> None:
                together.wait()
                hints.signal("new")

            threads = [threading.Thread(target=signal) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert hints.seen("new") == 4
    finally:
        sys.setswitchinterval(interval)


# --- loops ---


class Steps:
    """A step whose results a test writes down; exceptions are raised. Counts, and tells when it was called."""

    def __init__(self, *results: int | BaseException) -> None:
        self.results = list(results)
        self.times: list[float] = []
        self._called = threading.Condition()

    def __call__(self) -> int:
        with self._called:
            self.times.append(time.monotonic())
            result = self.results.pop(0) if self.results else 0
            self._called.notify_all()
        if isinstance(result, BaseException):
            raise result
        return result

    def wait_for(self, count: int) -> None:
        with self._called:
            assert self._called.wait_for(lambda: len(self.times) >= count, PATIENCE_SECONDS)


Start = Callable[..., Loop]


@pytest.fixture
def hints() -> Hints:
    return Hints()


@pytest.fixture
def start(hints: Hints) -> Iterator[Start]:
    """Starts a loop that is stopped when the test ends."""
    loops: list[Loop] = []

    def started(step: Callable[[], int], **options: object) -> Loop:
        loop = Loop("tested", step, hints, wakes_on="in", **options)  # type: ignore[arg-type]
        loops.append(loop)
        loop.start()
        return loop

    yield started
    for loop in loops:
        loop.stop()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_loop_goes_on_at_once_while_there_is_something_to_do(start: Start) -> None:
    steps = Steps(1, 1, 1, 0)
    start(steps, idle_seconds=PATIENCE_SECONDS)
    steps.wait_for(4)
    assert steps.times[-1] - steps.times[0] < PATIENCE_SECONDS / 2


def test_an_idle_loop_wakes_on_its_hint_and_tells_when_it_did_something(start: Start, hints: Hints) -> None:
    steps = Steps(0, 1, 0)
    told = hints.seen("out")
    start(steps, idle_seconds=PATIENCE_SECONDS * 2, signals="out")
    steps.wait_for(1)
    hints.signal("in")
    steps.wait_for(3)
    assert hints.seen("out") == told + 1


def test_an_idle_loop_looks_by_itself_when_a_hint_is_lost(start: Start) -> None:
    steps = Steps()
    start(steps, idle_seconds=0.02)
    steps.wait_for(3)


def test_a_loop_pauses_between_two_steps_that_did_something(start: Start) -> None:
    steps = Steps(1, 1, 0)
    start(steps, pause_seconds=0.1)
    steps.wait_for(3)
    assert steps.times[2] - steps.times[0] >= 0.2


@pytest.mark.parametrize("error", [Unavailable("storage"), ValueError("a bug"), SystemExit("a library's panic")])
def test_a_failing_step_is_visible_is_tried_again_ever_more_slowly_and_recovers(
    start: Start, error: BaseException
) -> None:
    steps = Steps(error, error, error, 1)
    loop = start(steps, idle_seconds=PATIENCE_SECONDS)
    steps.wait_for(2)
    assert loop.last_error == f"{type(error).__name__}: {error}"
    steps.wait_for(5)
    until(lambda: not loop.last_error)
    waits = [later - earlier for earlier, later in zip(steps.times, steps.times[1:], strict=False)]
    assert waits[0] >= 0.2
    assert waits[1] >= 0.4
    assert waits[2] >= 0.8


def test_stop_lets_the_step_under_way_finish(start: Start) -> None:
    under_way, finish = threading.Event(), threading.Event()
    finished: list[bool] = []

    def step() -> int:
        under_way.set()
        assert finish.wait(PATIENCE_SECONDS)
        finished.append(True)
        return 0

    loop = start(step, idle_seconds=PATIENCE_SECONDS * 2)
    assert under_way.wait(PATIENCE_SECONDS)
    stopping = threading.Thread(target=loop.stop)
    stopping.start()
    stopping.join(0.05)
    assert stopping.is_alive()
    finish.set()
    stopping.join(PATIENCE_SECONDS)
    assert not stopping.is_alive()
    assert finished == [True]


@pytest.mark.parametrize("result", [0, 1, Unavailable("storage")], ids=["idle", "pausing", "backing off"])
def test_stop_does_not_wait_for_a_loop_that_waits(start: Start, result: int | BaseException) -> None:
    steps = Steps(*[result] * 4)
    loop = start(steps, idle_seconds=3600, pause_seconds=3600)
    steps.wait_for(1)
    started = time.monotonic()
    loop.stop()
    assert time.monotonic() - started < PATIENCE_SECONDS / 2


def test_a_stop_that_comes_just_before_a_loop_looks_is_not_slept_through(start: Start, hints: Hints) -> None:
    """The signal of `stop` is already counted when the loop reads its hint: then it must look whether to stop."""
    steps = Steps()
    seen = hints.seen
    loops: list[Loop] = []
    stopping: list[threading.Thread] = []

    def stop_first(name: str) -> int:
        if loops and not stopping:
            stopping.append(threading.Thread(target=loops[0].stop))
            stopping[0].start()
            while seen(name) == 1:  # the signal that woke the loop; then that of `stop`
                time.sleep(0.001)
        return seen(name)

    hints.seen = stop_first  # type: ignore[method-assign]
    loops.append(start(steps, idle_seconds=3600))
    steps.wait_for(1)
    hints.signal("in")
    until(lambda: bool(stopping))
    stopping[0].join(5)
    ended = not stopping[0].is_alive()
    hints.signal("in")
    assert ended


# --- absent packages ---


def test_a_package_that_is_not_there_is_not_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "no_such_package", raising=False)
    stop_looking_for("no_such_package", "json")
    with pytest.raises(ModuleNotFoundError):
        __import__("no_such_package")
    assert sys.modules["no_such_package"] is None
    assert __import__("json").loads("1") == 1
    del sys.modules["no_such_package"]
