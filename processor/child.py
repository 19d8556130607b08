"""A child process that does tasks, one after the other: `python -m processor.child FD MEMORY_BYTES`.

What it reads may exhaust memory, never end, or crash the interpreter; so it has nothing that could be harmed: no
credentials, no bucket, only the tasks that come over the socket FD and the answers that go back. It ends when the other
side does, in the middle of a task too.
"""

import gc
import os
import resource
import select
import signal
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import pyarrow as pa

from infra.absent import stop_looking_for
from processor.task import Done, Task, do

_COLLECTED_FROM = 20_000
"""Containers that a child's tasks have left since the last time; looking for cycles among fewer is not worth it."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A task and how long it may compute."""

    task: Task
    cpu_seconds: int


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """`done`, or why not: storage failed (`unavailable`), or memory ran out (`exhausted`)."""

    done: Done | None = None
    unavailable: str = ""
    exhausted: bool = False
    peak_bytes: int = 0
    """The most memory that this process ever had."""


def serve(connection: Connection, memory_bytes: int) -> None:
    """Do what comes until the other side hangs up. SIGTERM, which a service manager sends to all processes of a
    service, is for that side: a child that died of it would look as if its file had killed it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit(resource.RLIMIT_DATA, memory_bytes)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    stop_looking_for("pandas", "polars")
    gc.disable()  # a task's rows are freed by their counts; what cycles it leaves are collected after it
    gc.freeze()
    threading.Thread(target=_end_with, args=(connection.fileno(),), daemon=True).start()
    orders = msgspec.msgpack.Decoder(Order)
    while True:
        try:
            order = orders.decode(connection.recv_bytes())
        except EOFError:
            return
        _limit(resource.RLIMIT_CPU, int(sum(os.times()[:2])) + order.cpu_seconds + 1)
        connection.send_bytes(msgspec.msgpack.encode(_answer(order.task)))
        if gc.get_count()[0] > _COLLECTED_FROM:
            gc.collect()


def _answer(task: Task) -> Answer:
    try:
        return Answer(done=do(task), peak_bytes=_peak_bytes())
    except MemoryError:
        return Answer(exhausted=True)
    except OSError as error:
        return Answer(unavailable=str(error))


def _limit(which: int, soft: int) -> None:
    hard = resource.getrlimit(which)[1]
    resource.setrlimit(which, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _peak_bytes() -> int:
    """Of this program: what getrusage says on Linux, the process had already when it was still its parent's copy."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _end_with(fd: int) -> None:
    """End this process when the other side of the socket is gone, whatever the process is doing."""
    poll = select.poll()
    poll.register(fd, 0)  # hanging up is always told
    poll.poll()
    os._exit(0)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
