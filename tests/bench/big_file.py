"""One wptreport of a full run's shape: blob to queryable, against the plain steps of the same run."""

import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.bench.make_wptreport import write_wptreport
from tests.bench.report import Figure, peak_memory_mb
from tests.running import running


def measure_big_file(folder: Path, tests: int) -> list[Figure]:
    folder.mkdir(parents=True)
    report = folder / "wptreport.json"
    test_count, subtest_count = write_wptreport(report, tests=tests)
    size_mb = report.stat().st_size / 1e6
    plain = [_plain_steps(report, folder) for _ in range(2)]
    decode, parquet, load = (min(steps) for steps in zip(*plain, strict=True))
    plain_sum = decode + parquet + load
    plain_seconds = f"{decode:.1f} + {parquet:.1f} + {load:.1f} s"
    with running(folder / "data") as server:
        idle_memory = peak_memory_mb(server.pid)
        with open(report, "rb") as file:
            answer = httpx.post(f"{server.url}/api/v1/submissions?project=wpt", content=file, timeout=600)
        received = time.perf_counter()
        assert answer.status_code == 201
        state = server.wait_for(answer.json()["id"], 1800)
        seconds = time.perf_counter() - received
        assert state["state"] == "accepted", state["problems"]
        assert state["tests"] == test_count + subtest_count, (state["tests"], test_count + subtest_count)
        memory = peak_memory_mb(server.pid)
        parts = sum(path.stat().st_size for path in (folder / "data" / "public" / "lake").rglob("*.parquet")) / 1e6
    return [
        Figure(f"wptreport of {size_mb:.0f} MB, {subtest_count:,} subtests: blob to queryable", f"{seconds:.1f} s"),
        Figure("plain steps: msgspec decode, Parquet write, DuckDB load", plain_seconds),
        Figure("blob to queryable, times the sum of the plain steps", f"{seconds / plain_sum:.2f}×", "at most 3×"),
        Figure("peak memory of the server (idle before)", f"{memory:.0f} MB ({idle_memory:.0f} MB)", "under 1,000 MB"),
        Figure("Parquet parts, of the JSON's size", f"{parts / size_mb:.1%}"),
    ]


def _plain_steps(report: Path, folder: Path) -> tuple[float, float, float]:
    """Seconds of each step, in a process of its own."""
    out = subprocess.run(
        [sys.executable, "-m", "tests.bench.plain_steps", str(report), str(folder)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    decode, parquet, load = map(float, out.stdout.split())
    return decode, parquet, load
