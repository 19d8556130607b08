"""Many small files from several clients, through to DuckDB, each row exactly once."""

import http.client
import json
import multiprocessing
import random
import time
from pathlib import Path
from urllib.parse import urlsplit

import duckdb

from processor.reading.decode import DecodeLimits
from processor.transform import transform
from tests.bench.report import Figure, watched_memory
from tests.golden import make_submission
from tests.running import running

BENCHMARKS_PER_FILE = 4


def small_file(number: int) -> bytes:
    """A pytest-benchmark result of about 3 KB, another for each number."""
    chance = random.Random(number)
    benchmarks = [
        {
            "group": None, "name": f"test_{n}", "fullname": f"test_speed.py::test_{n}", "params": None, "param": None,
            "extra_info": {}, "options": {"min_rounds": 5, "timer": "perf_counter"},
            "stats": {
                "min": 1e-5, "max": 3e-5, "mean": chance.uniform(1e-5, 3e-5), "stddev": 1e-6, "rounds": 10,
                "median": chance.uniform(1e-5, 3e-5), "iqr": 1e-6, "q1": 1e-5, "q3": 2e-5, "iqr_outliers": 0,
                "stddev_outliers": 1, "outliers": "1;0", "ops": 1e5, "total": 1e-3, "iterations": 1,
                "data": [chance.uniform(1e-5, 3e-5) for _ in range(10)],
            },
        }
        for n in range(BENCHMARKS_PER_FILE)
    ]  # fmt: skip
    return json.dumps(
        {
            "machine_info": {
                "machine": "x86_64", "python_implementation": "CPython", "python_version": "3.12.1",
                "system": "Linux", "cpu": {"brand_raw": "Example CPU", "count": 8},
            },
            "commit_info": {
                "id": f"{number:040x}", "time": "2026-01-01T00:00:00+00:00", "branch": "main", "dirty": False,
            },
            "benchmarks": benchmarks, "datetime": "2026-01-01T00:00:00+00:00", "version": "5.2.3",
        }
    ).encode()  # fmt: skip


def measure_small_files(folder: Path, files: int, clients: int) -> list[Figure]:
    folder.mkdir(parents=True)
    size = len(small_file(0))
    plain = _plain_transforms_per_second()
    with running(folder / "data") as server, watched_memory(server.pid) as memory:
        share = files // clients
        context = multiprocessing.get_context("spawn")
        pushing = [context.Process(target=push_files, args=(server.url, n * share, share)) for n in range(clients)]
        started = time.perf_counter()
        for process in pushing:
            process.start()
        for process in pushing:
            process.join()
            assert process.exitcode == 0
        pushed = time.perf_counter() - started
        while server.get("/api/v1/status")["states"]["accepted"] < files:
            assert time.perf_counter() - started < 1800, "the files did not all arrive"
            time.sleep(0.05)
        through = time.perf_counter() - started
        server.stop()
        with duckdb.connect(str(folder / "data" / "dashboard" / "v1.duckdb"), read_only=True) as connection:
            rows = connection.execute("SELECT count(*), count(DISTINCT (run, benchmark)) FROM measurements").fetchone()
    assert rows == (files * BENCHMARKS_PER_FILE, files * BENCHMARKS_PER_FILE), rows
    rate = files / through
    return [
        Figure(f"{files:,} files of {size:,} bytes, {clients} clients: receipts", f"{files / pushed:.0f} a second"),
        Figure("the same, sustained through to DuckDB, rows exact", f"{rate:.0f} a second", "at least 300 a second"),
        Figure("the same, of what the transform alone does on one core", f"{rate / plain:.2f}×"),
        Figure("peak memory of all processes together", f"{memory.peak_mb:.0f} MB"),
    ]


def _plain_transforms_per_second() -> float:
    submission, limits = make_submission(), DecodeLimits()
    bodies = [small_file(n) for n in range(500)]
    started = time.perf_counter()
    for seq, body in enumerate(bodies, start=1):
        transform(body, submission, seq, limits)
    return len(bodies) / (time.perf_counter() - started)


def push_files(url: str, start: int, count: int) -> None:
    """Push one file after the other over one connection, as a client in any language would."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    for number in range(start, start + count):
        body = small_file(number)
        connection.request("POST", "/api/v1/submissions?project=bench", body=body)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 201, answer.status
    connection.close()
