"""One wptreport of a full run's shape: blob to queryable, against the plain steps of the same run."""

import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.bench.make_wptreport import write_wptreport
from tests.bench.report import Figure, watched_memory
from tests.running import Running, running


def measure_big_file(folder: Path, tests: int) -> list[Figure]:
    folder.mkdir(parents=True)
    half = folder / "half.json"
    write_wptreport(half, tests=tests // 2)
    report = folder / "wptreport.json"
    rows = sum(write_wptreport(report, tests=tests))
    size_mb = report.stat().st_size / 1e6
    plain, seconds = [], []
    for number in range(4):  # in turns, as the machine may be slower in one minute than in the next
        plain.append(_plain_steps(report, folder))
        with running(folder / f"data{number}") as server:
            seconds.append(_seconds(server, report, rows))
    decode, parquet, load = (min(steps) for steps in zip(*plain, strict=True))
    slowest = max(decode, parquet, load)
    plain_seconds = f"{decode:.2f} + {parquet:.2f} + {load:.2f} s"
    memory = []
    for one in (half, report):
        with running(folder / f"memory-{one.stem}") as server, watched_memory(server.pid) as watched:
            idle = watched.peak_mb
            _seconds(server, one)
            memory.append(watched)
    lake = folder / "data0" / "public" / "lake"
    parts = sum(path.stat().st_size for path in lake.rglob("*.parquet")) / 1e6
    what = f"wptreport of {size_mb:.0f} MB, {rows:,} tests and subtests: blob to queryable, best of 3"
    what = f"wptreport of {size_mb:.0f} MB, {rows:,} tests and subtests: blob to queryable, best of 4"
    return [
        Figure(what, f"{min(seconds):.2f} s ({', '.join(f'{one:.2f}' for one in seconds)})"),
        Figure("plain steps, each the best of 4: msgspec decode, Parquet write, DuckDB load", plain_seconds),
        Figure("blob to queryable, times the slowest plain step", f"{min(seconds) / slowest:.2f}×", "at most 1.5×"),
        Figure("the same, times the sum of the plain steps", f"{min(seconds) / (decode + parquet + load):.2f}×"),
        Figure("the same, JSON a second", f"{size_mb / min(seconds):.0f} MB", "at least 70 MB"),
        Figure(
            "peak memory of all processes together (idle before)",
            f"{memory[1].peak_mb:.0f} MB ({idle:.0f} MB)",
            "at most 600 MB",
        ),
        Figure("the same for a file of half the size", f"{memory[0].peak_mb:.0f} MB", "about the same"),
        Figure("Parquet parts, of the JSON's size", f"{parts / size_mb:.1%}", "at most 8%"),
    ]


def _seconds(server: Running, report: Path, rows: int | None = None) -> float:
    """From the receipt until the run can be queried."""
    with open(report, "rb") as file:
        answer = httpx.post(f"{server.url}/api/v1/submissions?project=wpt", content=file, timeout=600)
    received = time.perf_counter()
    assert answer.status_code == 201
    state = server.wait_for(answer.json()["id"], 1800)
    seconds = time.perf_counter() - received
    assert state["state"] == "accepted", state["problems"]
    assert rows in (None, state["tests"]), (state["tests"], rows)
    page = server.get(f"/api/v1/runs/{state['runs'][0]}/tests", status="fail", limit=1000)
    assert len(page["items"]) == 1000, "what is counted can be read"
    return seconds


def _plain_steps(report: Path, folder: Path) -> tuple[float, float, float]:
    """Seconds of each step, in a process of its own."""
    out = subprocess.run(
        [sys.executable, "-m", "tests.bench.plain_steps", str(report), str(folder)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    decode, parquet, load = map(float, out.stdout.split())
    return decode, parquet, load
