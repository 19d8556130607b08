"""The child processes that transform: started when they are needed, used again and again, replaced when they are lost.

A file that exhausts memory, never ends or crashes the interpreter costs the child that reads it, and nobody else.
"""

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Protocol, Self

import msgspec

from infra.settings import Settings
from processor.child import Answer, Order
from processor.task import Done, Task
from schemas.errors import RunfeedError, Unavailable

_MOST = 8
"""Of children where the settings name no number: beyond that, storage and the loader are what is waited for."""

_GROWN_BYTES = 400 << 20
"""A child that ever had more is replaced: memory once taken is seldom given back."""

_LARGEST_ANSWER = (1 << 31) - 1
_PASSED_ON = ("PATH", "LANG", "TMPDIR")
"""Of the environment; the rest may hold credentials."""

_WALL_FACTOR = 4
"""How much longer than its own computing a task may take: others want the cores too."""

Observe = Callable[[float, str], None]
"""Is told of each task: how many seconds a child had it, and why that cost the child its life, or nothing."""


class ChildLost(RunfeedError):
    """The child could not end its task; says why: a crash, a limit on memory or time, or words it could not be told."""


class Stopping(Unavailable):
    """This process is being ended: whoever waits for the task may give it up, the next start finds it in the log."""

    def __init__(self) -> None:
        super().__init__("the processes that transform are being ended")


class Workers(Protocol):
    """Who does tasks. `count` is how many at a time."""

    count: int

    def submit(self, task: Task, cpu_seconds: int) -> "Future[Done]":
        """Raises ChildLost or Unavailable from the future."""
        ...


@dataclass(eq=False)
class _Child:
    process: subprocess.Popen[bytes]
    connection: Connection


class Children:
    """Implements Workers with `count` processes, each limited to `memory_bytes`."""

    def __init__(self, count: int, memory_bytes: int, observe: Observe = lambda _seconds, _lost: None) -> None:
        self.count = count
        self._memory_bytes = memory_bytes
        self._observe = observe
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="child")
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(count):
            self._idle.put(None)
        self._lock = threading.Lock()
        self._busy: set[_Child] = set()
        self._stopping = False
        self._answers = msgspec.msgpack.Decoder(Answer)

    @classmethod
    def of(cls, settings: Settings, observe: Observe = lambda _seconds, _lost: None) -> "Children":
        """As many and as large as the settings say."""
        count = settings.worker_processes or min(os.cpu_count() or 1, _MOST)
        return cls(count, settings.transform_memory_mib << 20, observe)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all children now rather than at their first task."""
        places = [self._idle.get() for _ in range(self.count)]
        for child in self._threads.map(lambda child: child or self._start(), places):
            self._idle.put(child)

    def submit(self, task: Task, cpu_seconds: int) -> Future[Done]:
        if self._stopping:
            raise Stopping
        return self._threads.submit(self._run, task, cpu_seconds)

    def stop(self) -> None:
        """End all children; what they are doing is given up, and is Unavailable to whom it was for."""
        with self._lock:
            self._stopping = True
            for busy in self._busy:
                busy.process.kill()  # whoever waits for it sees it end
        self._threads.shutdown(wait=False)
        while True:
            try:
                child = self._idle.get_nowait()
            except queue.Empty:
                return
            if child:
                _end(child)

    def _run(self, task: Task, cpu_seconds: int) -> Done:
        child = self._idle.get()
        try:
            child = child or self._start()
            began = time.monotonic()
            with self._doing(child):
                answer = self._ask(child, Order(task=task, cpu_seconds=cpu_seconds))
            if answer.exhausted or answer.peak_bytes > _GROWN_BYTES:
                _end(child)
                child = None
        except ChildLost as lost:
            child = None
            if self._stopping:
                raise Stopping from lost
            self._observe(time.monotonic() - began, str(lost))
            raise
        finally:
            self._idle.put(child)
        if answer.unavailable:
            raise Unavailable(answer.unavailable)
        exhausted = f"it needs more memory than {self._memory_bytes >> 20:,} MiB"
        self._observe(time.monotonic() - began, exhausted if answer.exhausted else "")
        if answer.exhausted or answer.done is None:
            raise ChildLost(exhausted)
        return answer.done

    @contextlib.contextmanager
    def _doing(self, child: _Child) -> Iterator[None]:
        """The child is at work, and `stop` ends it. Unavailable if that has begun."""
        with self._lock:
            if self._stopping:
                raise Stopping
            self._busy.add(child)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(child)

    def _ask(self, child: _Child, order: Order) -> Answer:
        seconds = order.cpu_seconds * _WALL_FACTOR
        try:
            said = msgspec.msgpack.encode(order)
        except (OverflowError, ValueError) as error:  # a number or a text that no message holds
            _end(child)
            raise ChildLost(f"it cannot be handed to the process that would read it: {error}") from error
        try:
            child.connection.send_bytes(said)
            if not child.connection.poll(seconds):
                _end(child)
                raise ChildLost(f"it takes longer than {seconds} s")
            return self._answers.decode(child.connection.recv_bytes(_LARGEST_ANSWER))
        except (EOFError, OSError, msgspec.DecodeError) as error:
            status = _end(child)
            raise ChildLost(_why(status, order.cpu_seconds, error)) from error

    def _start(self) -> _Child:
        """Raises Unavailable if this machine has no process or file descriptor left for it."""
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise Unavailable(f"no socket to a process to transform with: {error}") from error
        with theirs:
            command = [sys.executable, "-P", "-X", "faulthandler", "-m", "processor.child"]
            environ = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
            try:
                process = subprocess.Popen(  # noqa: S603 - our own module, by numbers
                    [*command, str(theirs.fileno()), str(self._memory_bytes)],
                    env=environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the parent, which ends its children itself
                )
            except OSError as error:  # no more processes or memory for now
                ours.close()
                raise Unavailable(f"no process to transform with: {error}") from error
        return _Child(process, Connection(ours.detach()))


def _end(child: _Child) -> int:
    """End the child at once; its exit status, as of `subprocess`."""
    child.connection.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        return child.process.wait(0.5)  # it may be ending by itself, and its own status says more
    child.process.kill()
    return child.process.wait()


def _why(status: int, cpu_seconds: int, error: Exception) -> str:
    if status == -signal.SIGXCPU:
        return f"it computes for longer than {cpu_seconds} s"
    if status < 0:
        name = {one.value: one.name for one in signal.Signals}.get(-status, f"signal {-status}")
        return f"the process that read it was ended by {name}"
    return f"the process that read it ended with status {status} ({type(error).__name__})"
