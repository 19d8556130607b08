"""What a day's submissions ask of the object storage, and what that costs at list prices. Pure.

`python -m infra.sizing` prints the table of OPERATING.md. The counts are those of the code: `tests/test_sizing.py`
counts the calls that a batch and an idle look make, and compares. Submissions are taken to come evenly through the day,
which makes the most batches; when they come in bursts there are fewer, and fewer requests.
"""

from dataclasses import dataclass

SECONDS_A_DAY = 86_400
DAYS_A_MONTH = 365 / 12

# Amazon S3 Standard, us-east-1, list prices in US dollars, November 2026; traffic out of the region comes on top.
DOLLARS_PER_WRITE = 0.005 / 1000
"""Of PUT, COPY, POST and LIST; DELETE costs nothing."""
DOLLARS_PER_READ = 0.0004 / 1000
"""Of GET and HEAD."""
DOLLARS_PER_GB_MONTH = 0.023

# One submission, uploaded over HTTP with a token.
WRITES_PER_SUBMISSION = 3
"""Blob, marker, submission."""
READS_PER_SUBMISSION = 8
"""Token, project and its rules; whether it is withdrawn, before and after; the submission when it is announced,
submission and blob when it is processed."""

# One batch of files with measurements.
WRITES_PER_BATCH = 4
"""Two parts, marker, outcome."""
LISTS_PER_BATCH = 2
"""Whether it has an outcome, and what is withdrawn (of eight files or fewer that is a read for each)."""
READS_PER_BATCH = 2
"""The log's head, and the outcome when it is announced."""
READS_PER_BATCH_AND_DASHBOARD = 3
"""Outcome and two parts."""

# One commit to a log, beyond the look that found something.
WRITES_PER_COMMIT = 2
"""The head, and one request that deletes all its markers."""
READS_PER_COMMIT_AND_FOLLOWER = 1
"""The head, for each process that follows the log."""
COMMITS_PER_SECOND = 2
"""To one log at most: a pause of 0.4 s, and the commit itself."""
ENTRIES_PER_PAGE = 100

# Looking, whether there is something or not. Redis carries hints to those who should look; else it is for lost ones.
LOOK_SECONDS = 2.0
LISTS_PER_ANNOUNCER_LOOK = 2
READS_PER_ANNOUNCER_LOOK = 6
READS_PER_DASHBOARD_LOOK = 3
LOOKS_PER_BATCH = 4
"""Two commits wake everybody, and whoever found something looks again."""
LAG_SECONDS = 10.0
"""Between two looks of each announcer at what waits, for its metrics."""
LISTS_PER_LAG_LOOK = 2
READS_PER_LAG_LOOK = 5
REPLICA_SECONDS = 5.0
"""The same of each dashboard."""
READS_PER_REPLICA_LOOK = 2
NOTES_SECONDS = 60.0
"""Between two listings of what is to be withdrawn; after each commit comes one more."""
LEASE_SECONDS = 2.0
"""Between two renewals by the announcer that works; one that stands by reads as often."""
INBOX_SECONDS = 10
"""Between two listings of the inbox, by each ingest."""

# Bytes of a file of 3.2 KB with nine measurements, in the folder that `tests/bench/small_files.py` makes.
BLOB_BYTES = 3213
BYTES_PER_SUBMISSION = 1800
"""Submission 300, its entry 830, its share of the outcome 160 and of the parts 500."""
BYTES_PER_BATCH = 14_500
"""Parquet's own for two parts 12,700, outcome 600, its entry 1,200."""

PER_CORE_AND_SECOND = 197
"""Small files through to DuckDB: 394 on two cores (BENCHMARKS.md), a data folder, clients on the same cores."""
PEAK = 5
"""Of the day's average, which the machines should bear."""


@dataclass(frozen=True)
class Installation:
    """How many processes of each role."""

    ingest: int = 2
    announce: int = 2
    dashboards: int = 2


@dataclass(frozen=True)
class Day:
    """What one day comes to. `idle_writes` and `idle_reads` are the part that would be there without any work."""

    submissions: int
    batches: int
    writes: int
    reads: int
    idle_writes: int
    idle_reads: int
    stored_bytes: int

    @property
    def request_dollars_a_month(self) -> float:
        return DAYS_A_MONTH * (self.writes * DOLLARS_PER_WRITE + self.reads * DOLLARS_PER_READ)

    @property
    def idle_dollars_a_month(self) -> float:
        return DAYS_A_MONTH * (self.idle_writes * DOLLARS_PER_WRITE + self.idle_reads * DOLLARS_PER_READ)

    @property
    def storage_dollars_a_month(self) -> float:
        """For all that a year has brought."""
        return 365 * self.stored_bytes / 1e9 * DOLLARS_PER_GB_MONTH

    @property
    def cores(self) -> float:
        """Busy ones, all roles together, at the day's peak."""
        return PEAK * self.submissions / SECONDS_A_DAY / PER_CORE_AND_SECOND


def day(submissions: int, of: Installation | None = None) -> Day:
    """A day of `submissions`, spread evenly: each commit makes a batch of what came since the last one."""
    of = of or Installation()
    looks = SECONDS_A_DAY / LOOK_SECONDS
    batches = min(submissions, SECONDS_A_DAY * COMMITS_PER_SECOND)
    woken = batches * LOOKS_PER_BATCH
    commits = 2 * batches
    followers = of.dashboards + 1
    idle_writes = (
        looks * LISTS_PER_ANNOUNCER_LOOK
        + SECONDS_A_DAY / LEASE_SECONDS
        + SECONDS_A_DAY / NOTES_SECONDS
        + of.announce * SECONDS_A_DAY / LAG_SECONDS * LISTS_PER_LAG_LOOK
        + of.ingest * SECONDS_A_DAY / INBOX_SECONDS
    )
    idle_reads = (
        looks * (READS_PER_ANNOUNCER_LOOK + of.dashboards * READS_PER_DASHBOARD_LOOK)
        + (of.announce - 1) * SECONDS_A_DAY / LEASE_SECONDS
        + of.announce * SECONDS_A_DAY / LAG_SECONDS * READS_PER_LAG_LOOK
        + of.dashboards * SECONDS_A_DAY / REPLICA_SECONDS * READS_PER_REPLICA_LOOK
    )
    writes = (
        submissions * WRITES_PER_SUBMISSION
        + batches * (WRITES_PER_BATCH + LISTS_PER_BATCH)
        + commits * (WRITES_PER_COMMIT + 1)
        + woken * LISTS_PER_ANNOUNCER_LOOK
        + (submissions + batches) / ENTRIES_PER_PAGE
    )
    reads = (
        submissions * READS_PER_SUBMISSION
        + batches * (READS_PER_BATCH + of.dashboards * READS_PER_BATCH_AND_DASHBOARD)
        + commits * followers * READS_PER_COMMIT_AND_FOLLOWER
        + woken * (READS_PER_ANNOUNCER_LOOK + of.dashboards * READS_PER_DASHBOARD_LOOK)
    )
    return Day(
        submissions=submissions,
        batches=batches,
        writes=round(writes + idle_writes),
        reads=round(reads + idle_reads),
        idle_writes=round(idle_writes),
        idle_reads=round(idle_reads),
        stored_bytes=submissions * (BLOB_BYTES + BYTES_PER_SUBMISSION) + batches * BYTES_PER_BATCH,
    )


def table() -> str:
    """From 10 to 10 million submissions a day, in Markdown."""
    lines = [
        "| submissions a day | batches | writes and listings | reads | requests, $ a month | stored in a year |"
        " its storage, $ a month | cores at the peak |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for power in range(1, 8):
        one = day(10**power)
        lines.append(
            f"| {one.submissions:,} | {one.batches:,} | {one.writes:,} | {one.reads:,}"
            f" | {one.request_dollars_a_month:,.0f} | {_size(365 * one.stored_bytes)}"
            f" | {one.storage_dollars_a_month:,.2f} | {max(one.cores, 0.1):,.1f} |"
        )
    return "\n".join(lines)


def _size(size_bytes: int) -> str:
    for unit, factor in (("TB", 1e12), ("GB", 1e9)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.1f} {unit}"
    return f"{size_bytes / 1e6:,.0f} MB"


if __name__ == "__main__":
    import click

    click.echo(table())
