"""How fast each text format is read: a synthetic file of 20 MB, blob to rows, on one core.

No server: `transform` alone. A format that is slower than a third of the fastest has its reason beside its figure.
"""

import gc
import json
import random
import time
from collections.abc import Callable, Iterator

from processor.formats.registry import FORMATS
from processor.reading.decode import DecodeLimits
from processor.transform import transform
from tests.bench.report import Figure
from tests.golden import make_submission

SIZE_BYTES = 20_000_000

REASONS = {
    "junit": "a row every 150 bytes, through an XML parser whose bare events make 70 MB/s",
    "go-bench": "a row every 310 bytes, each of ten lines: reading these takes 5 of 14 µs a row, their statistics 2; "
    "the rest is names, params and identities as text, and 19 columns",
    "github-action-benchmark": "a row every 125 bytes, in runs of 60: 2 µs a row, of which JSON takes 0.4",
    "runfeed": "a row every 100 bytes, each of another series: 2.6 µs a row, of which hashing the series takes 1",
}
"""By format id: why it is slower than a third of the fastest, which is wptreport: its long columns are shared."""


def measure_text_formats(size_bytes: int = SIZE_BYTES, repeats: int = 3) -> list[Figure]:
    """A figure for each format of `MAKERS` that is registered."""
    rates = {}
    rows = {}
    for id, make in MAKERS.items():
        if id not in FORMATS:
            continue
        data = make(size_bytes)
        seconds, rows[id] = min(_transform(data, id) for _ in range(repeats))
        rates[id] = len(data) / 1e6 / seconds
    third = max(rates.values()) / 3
    return [
        Figure(
            f"{id}: transform of {size_bytes / 1e6:.0f} MB, {rows[id]:,} rows, one core",
            f"{rate:.0f} MB/s, {rows[id] * rate / (size_bytes / 1e6) / 1000:,.0f},000 rows a second",
            f"a third of the fastest: {third:.0f} MB/s"
            + (f" ({REASONS[id]})" if rate < third and id in REASONS else ""),
        )
        for id, rate in rates.items()
    ]


def _transform(data: bytes, id: str) -> tuple[float, int]:
    """Processor seconds, and how many rows came of them; without the collector of cycles, as in a processor's child."""
    gc.collect()
    gc.disable()
    try:
        started = time.process_time()
        outcome = transform(data, make_submission(), 1, DecodeLimits()).outcome
        seconds = time.process_time() - started
    finally:
        gc.enable()
    assert (outcome.verdict, outcome.format, outcome.problems) == ("accepted", id, []), outcome
    return seconds, outcome.measurements + outcome.tests


# --- files ---


def junit(size_bytes: int) -> bytes:
    """As pytest writes it: nine of ten pass, some skip, some fail with a traceback and output."""
    chance = random.Random(1)

    def cases() -> Iterator[str]:
        for n in range(size_bytes):
            case = (
                f'<testcase classname="tests.test_{n % 211}.TestThing{n % 13}" '
                f'name="test_case_{n}[param-{n % 7}]" time="{chance.uniform(0, 2):.3f}"'
            )
            kind = chance.random()
            if kind < 0.9:
                yield f"{case} />\n"
            elif kind < 0.95:
                yield f'{case}><skipped type="pytest.skip" message="not here">x.py:12: not here</skipped></testcase>\n'
            else:
                lines = "\n".join(f"    line {k} of the test &lt;x&gt; &amp; more" for k in range(15))
                failure = f'<failure message="AssertionError: assert 1 == 2">{lines}\nE  assert 1 == 2</failure>'
                yield f"{case}>{failure}<system-out>{'a line of output' * 10}</system-out></testcase>\n"

    begin = '<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest" hostname="h">\n'
    return "".join([begin, *_until(size_bytes, cases()), "</testsuite></testsuites>"]).encode()


def github_action_benchmark(size_bytes: int) -> bytes:
    """As the Action keeps it: a history of 60 benchmarks, indented."""
    chance = random.Random(2)
    person = {"email": "somebody@example.org", "name": "Somebody", "username": "somebody"}

    def entries() -> Iterator[str]:
        for n in range(size_bytes):
            commit = {
                "author": person,
                "committer": person,
                "distinct": True,
                "id": f"{n:040x}",
                "message": f"Change {n}",
                "timestamp": "2026-01-01T00:00:00+00:00",
                "tree_id": "f" * 40,
                "url": f"https://example.org/r/commit/{n:040x}",
            }
            benches = [
                {"name": f"bench_{k}", "value": chance.randint(100, 99999), "range": "± 12", "unit": "ns/iter"}
                for k in range(60)
            ]
            entry = {"commit": commit, "date": 1_700_000_000_000 + n, "tool": "cargo", "benches": benches}
            yield ("," if n else "") + json.dumps(entry, indent=2)

    begin = (
        'window.BENCHMARK_DATA = {"lastUpdate": 1700000000000, "repoUrl": "https://example.org/r", "entries": {"R": ['
    )
    return "".join([begin, *_until(size_bytes, entries()), "]}}"]).encode()


def go_bench(size_bytes: int) -> bytes:
    """As `go test -bench . -benchmem -count 10` prints it."""
    chance = random.Random(3)

    def lines() -> Iterator[str]:
        for n in range(size_bytes):
            nanoseconds, size = chance.uniform(1e3, 1e6), chance.randint(0, 5000)
            yield (
                f"BenchmarkThing{n // 10}/size={n // 10 % 16}-8 \t{chance.randint(1000, 99999):8}\t"
                f"{nanoseconds:14.1f} ns/op\t{size:8} B/op\t{size // 100:8} allocs/op\n"
            )

    begin = "goos: linux\ngoarch: amd64\npkg: example.org/thing\ncpu: Example CPU\n"
    return "".join([begin, *_until(size_bytes, lines()), "PASS\nok  \texample.org/thing\t12.345s\n"]).encode()


def pytest_benchmark(size_bytes: int) -> bytes:
    """As `--benchmark-json` writes it, with 50 rounds saved."""
    chance = random.Random(4)

    def benchmarks() -> Iterator[str]:
        for n in range(size_bytes):
            name = f"test_{n}[{n % 5}]"
            stats = {
                "min": 1e-5, "max": 3e-5, "mean": 2e-5, "stddev": 1e-6, "rounds": 50, "median": 2e-5, "iqr": 1e-6,
                "q1": 1e-5, "q3": 2e-5, "iqr_outliers": 0, "stddev_outliers": 1, "outliers": "1;0", "ld15iqr": 1e-5,
                "hd15iqr": 3e-5, "ops": 1e5, "total": 1e-3, "iterations": 1,
                "data": [chance.uniform(1e-5, 3e-5) for _ in range(50)],
            }  # fmt: skip
            one = {
                "group": None, "name": name, "fullname": f"test_speed.py::{name}", "params": {"n": n % 5},
                "param": str(n % 5), "extra_info": {}, "options": {"min_rounds": 5}, "stats": stats,
            }  # fmt: skip
            yield ("," if n else "") + json.dumps(one, indent=4)

    return "".join(['{"machine_info": {}, "benchmarks": [', *_until(size_bytes, benchmarks()), "]}"]).encode()


def wptreport(size_bytes: int) -> bytes:
    """As wptrunner writes it: tests of 50 subtests."""

    def results() -> Iterator[str]:
        for n in range(size_bytes):
            subtests = [
                {"name": f"case {n} checks part {k} of the interface", "status": "PASS", "message": None}
                for k in range(50)
            ]
            yield ("," if n else "") + json.dumps({"test": f"/dom/{n}.html", "status": "OK", "subtests": subtests})

    return "".join(['{"run_info": {}, "results": [', *_until(size_bytes, results()), "]}"]).encode()


def runfeed(size_bytes: int) -> bytes:
    """As a script prints it: a measurement a line."""
    chance = random.Random(5)

    def lines() -> Iterator[str]:
        for n in range(size_bytes):
            one = {"benchmark": f"b{n}", "metric": "time", "value": chance.random(), "unit": "s", "better": "lower"}
            yield json.dumps(one) + "\n"

    return "".join(_until(size_bytes, lines())).encode()


def _until(size_bytes: int, pieces: Iterator[str]) -> Iterator[str]:
    """Pieces up to a size; each is whole."""
    size = 0
    for piece in pieces:
        yield piece
        size += len(piece)
        if size >= size_bytes:
            return


MAKERS: dict[str, Callable[[int], bytes]] = {
    "junit": junit,
    "go-bench": go_bench,
    "github-action-benchmark": github_action_benchmark,
    "pytest-benchmark": pytest_benchmark,
    "wptreport": wptreport,
    "runfeed": runfeed,
}


def main() -> None:
    for figure in measure_text_formats():
        print(f"| {figure.what} | {figure.found} | {figure.asked} |")


if __name__ == "__main__":
    main()
