"""Push to visible, idle: the median time from the first byte of an upload to an answer that holds its rows."""

import statistics
import time
from pathlib import Path

from tests.bench.report import Figure
from tests.bench.small_files import small_file
from tests.running import running


def measure_latency(folder: Path, pushes: int) -> list[Figure]:
    folder.mkdir(parents=True)
    seconds, floor = [], []
    with running(folder / "data") as server:
        for number in range(pushes):
            time.sleep(1)  # idle: everything has gone to sleep
            started = time.perf_counter()
            server.client.get("/api/v1/projects")
            floor.append(time.perf_counter() - started)
            body = small_file(number)
            started = time.perf_counter()
            receipt = server.push(body)
            while server.get(f"/api/v1/submissions/{receipt['id']}")["state"] != "accepted":
                time.sleep(0.002)
            seconds.append(time.perf_counter() - started)
    seconds = sorted(seconds[2:])
    median = statistics.median(seconds)
    return [
        Figure("push to visible, idle: median", f"{median * 1000:.0f} ms", "under 1,000 ms"),
        Figure("push to visible, idle: worst of the run", f"{seconds[-1] * 1000:.0f} ms"),
        Figure("the same, times one plain API request", f"{median / statistics.median(floor):.0f}×"),
    ]
