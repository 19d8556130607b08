"""Many small files from the log to Parquet parts and outcomes: the processor by itself, with its real children."""

import time
from pathlib import Path

from processor.batch import Processor
from processor.children import Children
from processor.reading.decode import DecodeLimits
from tests.bench.report import Figure
from tests.bench.small_files import small_file
from tests.chain import Chain

FILES_A_BATCH = 500
"""About what a commit holds while many clients push."""


def measure_transforms(folder: Path, files: int) -> list[Figure]:
    chain = Chain(folder / "data")
    batches = []
    for start in range(0, files, FILES_A_BATCH):
        batches.append(chain.push_batch(*(small_file(n) for n in range(start, min(start + FILES_A_BATCH, files)))))
    children = Children(2, 2 << 30)
    children.start()
    processor = Processor(chain.buckets, chain.submissions, children, DecodeLimits(), chain.clock)
    started = time.perf_counter()
    for batch in batches:
        processor.process(1, *batch, redelivered=False)
    seconds = time.perf_counter() - started
    children.stop()
    rows = sum(part.rows for outcome in chain.outcomes() for part in outcome.parts if part.table == "runs")
    assert rows == files
    what = f"{files:,} small files through transform and Parquet, 2 processes"
    return [Figure(what, f"{files / seconds:,.0f} a second", "at least 1,500 a second")]
