"""The roles as processes of their own over SeaweedFS and Valkey: rate, scaling, latency, fail-over, requests to S3.

Everything shares this machine's cores, the stores and the clients included; so this shows what the roles cost beside
each other rather than what many machines would do.
"""

import bisect
import json
import multiprocessing
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from feed.log import LogReader, readers
from infra.bucket import Buckets
from schemas import keys
from schemas.errors import Unavailable
from tests.bench.report import Figure
from tests.bench.small_files import push_files, small_file
from tests.faults.process import Process
from tests.faults.topology import Topology

WORKERS = (1, 2, 4)
OWN_WRITES = ("PUT blobs", "PUT submissions", "PUT pending")
"""What each submission writes for itself; all else is shared by a batch or by time."""

_CLIENTS = 2
_LATENCY_SECONDS = 20.0
_FAIL_OVERS = 5
_IDLE_SECONDS = 10.0


def measure_roles(folder: Path, files: int) -> list[Figure]:
    rates = {workers: _rate(folder / f"workers-{workers}", workers, files) for workers in WORKERS}
    best = max(rates.values())
    return [
        *(
            Figure(
                f"roles over S3 and Redis: {files:,} files of {len(small_file(0)):,} bytes, {workers} workers",
                f"{rate:.0f} a second, {rate / rates[WORKERS[0]]:.2f}× of one worker",
            )
            for workers, rate in rates.items()
        ),
        *_latency(folder / "latency", best / 2),
        *_fail_over(folder / "fail-over"),
        *_requests(folder / "requests", files // 2),
    ]


@contextmanager
def _roles(folder: Path, *, work: int = 1, announce: int = 1, proxied: bool = False) -> Iterator[Topology]:
    """One of each role unless said otherwise, with the settings that everybody has."""
    roles = {"ingest": 1, "announce": announce, "work": work, "dashboard": 1}
    settings = {"RUNFEED_WORKER_PROCESSES": "1"}
    with Topology(folder, roles, settings=settings, proxied=proxied) as topology:
        yield topology


def _rate(folder: Path, workers: int, files: int) -> float:
    """Files a second, from the first push to all rows in the dashboard."""
    with _roles(folder, work=workers) as topology:
        started = time.perf_counter()
        _push_all(topology, files)
        return files / (time.perf_counter() - started)


def _push_all(topology: Topology, files: int) -> None:
    """From several clients; until all are accepted."""
    [ingest], [dashboard] = topology.roles["ingest"], topology.roles["dashboard"]
    share = files // _CLIENTS
    context = multiprocessing.get_context("spawn")
    pushing = [context.Process(target=push_files, args=(ingest.url, n * share, share)) for n in range(_CLIENTS)]
    deadline = time.monotonic() + 1800
    for process in pushing:
        process.start()
    for process in pushing:
        process.join()
        assert process.exitcode == 0
    with httpx.Client(base_url=dashboard.url, timeout=30) as client:
        while client.get("/api/v1/status").json()["states"].get("accepted", 0) < share * _CLIENTS:
            assert time.monotonic() < deadline, "the files did not all arrive"
            time.sleep(0.05)


# --- latency ---


def _latency(folder: Path, rate: float) -> list[Figure]:
    """From the first byte of an upload to a dashboard that answers with its rows, of all pushes at `rate`."""
    with _roles(folder, work=2) as topology:
        [ingest], [dashboard] = topology.roles["ingest"], topology.roles["dashboard"]
        levels: list[tuple[float, int]] = []
        ending = threading.Event()
        watching = threading.Thread(target=_watch, args=(dashboard, levels, ending))
        watching.start()
        try:
            began = _pushed_steadily(ingest, rate)
            reader_of = readers(topology.buckets().public)
            deadline = time.monotonic() + 60
            while not (needed := _needed(reader_of)).keys() >= began.keys() or levels[-1][1] < max(needed.values()):
                assert time.monotonic() < deadline, "not level"
                time.sleep(0.1)
        finally:
            ending.set()
            watching.join()
    times, seqs = zip(*levels, strict=True)
    ended = {id: times[bisect.bisect_left(seqs, needed[id])] for id in began}
    seconds = sorted(ended[id] - begun for id, begun in began.items())
    p99 = seconds[int(len(seconds) * 0.99)]
    what = f"the same at half of the best rate ({rate:.0f} a second): push to visible"
    return [Figure(what, f"p50 {statistics.median(seconds) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms")]


def _watch(dashboard: Process, levels: list[tuple[float, int]], ending: threading.Event) -> None:
    """Note when the dashboard answers from which entry of the outcomes log."""
    with httpx.Client(base_url=dashboard.url, timeout=30) as client:
        while not ending.wait(0.02):
            seq = client.get("/api/v1/status").json()["outcomes_seq"]
            levels.append((time.perf_counter(), seq))


def _pushed_steadily(ingest: Process, rate: float) -> dict[str, float]:
    """When the push of each submission began. Nothing waits for answers, as many independent runners do not."""
    began: dict[str, float] = {}

    def push(client: httpx.Client, number: int) -> None:
        started = time.perf_counter()
        answer = client.post("/api/v1/submissions?project=bench", content=small_file(number)).raise_for_status()
        began[answer.json()["id"]] = started

    start = time.monotonic()
    with httpx.Client(base_url=ingest.url, timeout=30) as client, ThreadPoolExecutor(8) as pool:
        pushes = []
        for number in range(int(_LATENCY_SECONDS * rate)):
            time.sleep(max(0.0, start + number / rate - time.monotonic()))
            pushes.append(pool.submit(push, client, number))
        for one in pushes:
            one.result()
    return began


def _needed(reader_of: Callable[[str], LogReader]) -> dict[str, int]:
    """The entry of the outcomes log with which each submission is visible, of those that are so far."""
    seqs = {
        int(entry.id.partition("-")[0]): entry.seq
        for entry in reader_of(keys.outcomes_log(1)).entries_after(0, 1 << 20)
    }
    submissions = reader_of(keys.SUBMISSIONS_LOG).entries_after(0, 1 << 20)
    return {entry.id: seqs[entry.batch] for entry in submissions if entry.batch in seqs}


# --- fail-over ---


def _fail_over(folder: Path) -> list[Figure]:
    """From SIGKILL of the announcer that holds the lease to the next entry of the log, while pushes wait for it."""
    seconds = []
    with _roles(folder, announce=2) as topology:
        buckets = topology.buckets()
        [ingest] = topology.roles["ingest"]
        with httpx.Client(base_url=ingest.url, timeout=30) as client:
            for number in range(_FAIL_OVERS):
                _push_until_announced(client, buckets, 2 * number)
                holder = _holder(topology, buckets)
                started = time.perf_counter()
                os.kill(holder.pid, signal.SIGKILL)
                _push_until_announced(client, buckets, 2 * number + 1)
                seconds.append(time.perf_counter() - started)
    return [
        Figure(
            "announcer killed with SIGKILL: until another has announced the next entry",
            f"median {statistics.median(seconds):.1f} s, longest {max(seconds):.1f} s of {len(seconds)}",
            "seconds",
        )
    ]


def _push_until_announced(client: httpx.Client, buckets: Buckets, number: int) -> None:
    id = client.post("/api/v1/submissions?project=bench", content=small_file(number)).raise_for_status().json()["id"]
    log = LogReader(buckets.public, keys.SUBMISSIONS_LOG)
    deadline = time.monotonic() + 120
    while id not in {entry.id for entry in log.head().entries}:
        assert time.monotonic() < deadline, "nobody announces"
        time.sleep(0.02)


def _holder(topology: Topology, buckets: Buckets) -> Process:
    """The announcer that holds the lease."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError, Unavailable):
            holder = json.loads(buckets.private.read(keys.lease("announce")))["holder"]
            for process in topology.roles["announce"]:
                if process.running and f"/{process.pid}/" in holder:
                    return process
        time.sleep(0.05)
    raise AssertionError("nobody holds the lease")


# --- requests ---


def _requests(folder: Path, files: int) -> list[Figure]:
    """What storage is asked for each submission, counted by the proxy."""
    with _roles(folder, work=2, proxied=True) as topology:
        idle = _counted(topology, lambda: time.sleep(_IDLE_SECONDS))
        found = _counted(topology, lambda: _push_all(topology, files))
    own = sum(found.get(name, 0) for name in OWN_WRITES) / files
    verbs: dict[str, float] = {}
    for name, count in found.items():
        if name not in OWN_WRITES:
            verb = name.split()[0]
            verbs[verb] = verbs.get(verb, 0.0) + count / files
    others = ", ".join(f"{verb} {count:.2f}" for verb, count in sorted(verbs.items()))
    return [
        Figure("requests to S3 per submission in a storm: writes of its own", f"{own:.2f}", "3"),
        Figure("the same: all else (a batch's share, reading, polling)", f"{sum(verbs.values()):.2f}: {others}"),
        Figure("requests to S3 of four idle roles", f"{sum(idle.values()) / _IDLE_SECONDS:.0f} a second"),
    ]


def _counted(topology: Topology, act: Callable[[], None]) -> dict[str, int]:
    """Requests by verb and kind of object in the time of `act`."""
    before = topology.order().requests
    act()
    after = topology.order().requests
    return {name: count - before.get(name, 0) for name, count in after.items()}
