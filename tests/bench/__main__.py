"""`make bench`: latency, small files, one big file, text formats, the feed, in one run; ratios, as machines are noisy.

Each measurement starts a real `runfeed up` on a fresh data folder. Prints a Markdown table for BENCHMARKS.md.
"""

import argparse
import os
import platform
import tempfile
from pathlib import Path

from tests.bench.big_file import measure_big_file
from tests.bench.catch_up import measure_catch_up
from tests.bench.feed import measure_feed
from tests.bench.latency import measure_latency
from tests.bench.report import Figure
from tests.bench.roles import measure_roles
from tests.bench.small_files import measure_small_files
from tests.bench.text_formats import measure_text_formats
from tests.bench.transforms import measure_transforms

PARTS = ["latency", "small", "transforms", "big", "text", "catch-up", "roles", "feed"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--large", action="store_true", help="five times the small files, twice the big one, a log of a million"
    )
    parser.add_argument("--only", choices=PARTS, help="one of them")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    chosen = parser.parse_args()
    scale = (5, 2) if chosen.large else (1, 1)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        if chosen.only in (None, "latency"):
            figures += measure_latency(folder / "latency", pushes=30)
        if chosen.only in (None, "small"):
            figures += measure_small_files(folder / "small", files=20_000 * scale[0], clients=4)
        if chosen.only in (None, "transforms"):
            figures += measure_transforms(folder / "transforms", files=10_000 * scale[0])
        if chosen.only in (None, "big"):
            figures += measure_big_file(folder / "big", tests=33_000 * scale[1])
        if chosen.only in (None, "text"):
            figures += measure_text_formats()
        if chosen.only in (None, "catch-up"):
            figures += measure_catch_up(folder / "catch-up", rows=1_000_000 * scale[0])
        if chosen.only in (None, "roles"):
            figures += measure_roles(folder / "roles", files=4_000 * scale[0])
        if chosen.only in (None, "feed"):
            figures += measure_feed(folder / "feed", entries=20_000, large=chosen.large)
    print(f"\nPython {platform.python_version()}, {len(os.sched_getaffinity(0))} cores, {platform.machine()}\n")
    print("| what | figure | asked for |\n|---|---|---|")
    for figure in figures:
        print(f"| {figure.what} | {figure.found} | {figure.asked} |")


if __name__ == "__main__":
    main()
