"""What answers are made of: a Struct per kind of row, and the page that carries them.

The fields are the columns of the query that fills them, so JSON, CSV and Arrow of one answer agree, and OpenAPI comes
from here. Times are UTC, durations seconds, sizes bytes; null is "the file does not say".
"""

from datetime import datetime
from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec import Meta

T = TypeVar("T")

Level = Annotated[
    str,
    Meta(
        description="`complete`, or of a run in chunks: `partial` (some are missing) or `conflict` (some contradict "
        "each other; more may be missing). Only a complete run says what is not in it."
    ),
]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Shared settings of the rows: immutable, by keyword, every field always present."""


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """Some of the rows, in order. `next` is the cursor of the rest, null if there is none."""

    items: list[T]
    next: str | None = None


class ProjectSummary(Row, frozen=True, kw_only=True):
    """What a project holds. `runs` counts what was sent again, and the chunks of one run, once."""

    name: str
    runs: int
    series: int
    measurements: int
    tests: Annotated[int, Meta(description="Test results; 0 if the project only measures.")]
    submissions: int
    announced: Annotated[int, Meta(description="Submissions whose processing has not ended.")]
    accepted: int
    rejected: int
    quarantined: int
    withdrawn: int
    last_received: datetime | None


class Run(Row, frozen=True, kw_only=True):
    """One run. If it came in chunks, its counts are those of all chunks that are here, and its facts those of the chunk
    first in the log; `started` is the earliest, `finished` the latest."""

    run: str
    seq: Annotated[int, Meta(description="Of its (first) submission in the submissions log.")]
    ordinal: Annotated[int, Meta(description="Its place in the submission's file, from 0.")]
    submission: str
    project: str
    format: str
    title: str | None
    commit: str | None
    commit_parents: list[str] | None
    commit_time: datetime | None
    commit_subject: str | None
    branch: str | None
    dirty: bool | None
    started: datetime | None
    finished: datetime | None
    received: datetime
    environment: Annotated[str, Meta(description="Fingerprint.")]
    environment_title: str
    cpu: str | None
    cores: int | None
    ram_gib: int | None
    os: str | None
    runtime: str | None
    machine: Annotated[str | None, Meta(description="JSON: everything else the file says of its machine.")]
    labels: dict[str, str]
    trust: str
    measurements: int
    tests: int
    passed: int
    failed: int
    duplicate_of: Annotated[
        str | None,
        Meta(description="Run id of the first run with this content; then counted nowhere."),
    ]
    completeness: Level
    run_group: Annotated[str | None, Meta(description="The key that its chunks share; null if it came in one file.")]
    chunks_present: Annotated[int | None, Meta(description="How many chunk numbers are here.")]
    chunks_expected: Annotated[int | None, Meta(description="The largest total that a chunk names.")]
    chunks_missing: Annotated[list[int] | None, Meta(description="The first 100 numbers that are not here.")]


class ChunkRow(Row, frozen=True, kw_only=True):
    """One submission of one chunk of a run, with what it says itself."""

    run: str
    seq: int
    ordinal: int
    submission: str
    run_group: str
    chunk: Annotated[int, Meta(description="Its number, from 1.")]
    chunks: Annotated[int, Meta(description="How many there are, as this chunk's sender says.")]
    repeats: Annotated[bool, Meta(description="An earlier chunk of the run has the same content; its rows count once.")]
    title: str | None
    commit: str | None
    environment_title: str
    labels: dict[str, str]
    started: datetime | None
    finished: datetime | None
    received: datetime
    measurements: int
    tests: int
    passed: int
    failed: int


class Conflict(Row, frozen=True, kw_only=True):
    """What chunks of one run say that cannot all be true."""

    kind: Annotated[
        str,
        Meta(
            description="`chunk` (one number, different contents), `total`, `title`, `commit`, `branch`, "
            "`environment`, `format`, `label`, or `test` (one test in two chunks)."
        ),
    ]
    name: Annotated[str, Meta(description="The chunk's number, the label's key, the test; else empty.")]
    subtest: str | None
    values: Annotated[
        list[str],
        Meta(description="What is said, at most 10: digests of the contents, totals, texts, or the test's statuses."),
    ]
    submissions: Annotated[list[str], Meta(description="Who says so: a submission per value.")]


class Completeness(Row, frozen=True, kw_only=True):
    """How much of a run is here, and what contradicts what. A run that came in one file is complete."""

    run: str
    completeness: Level
    run_group: str | None = None
    chunks_present: int | None = None
    chunks_expected: int | None = None
    chunks_missing: Annotated[list[int], Meta(description="The first 100 numbers that are not here.")] = []
    conflicts: Annotated[list[Conflict], Meta(description="At most 100, and 50 tests.")] = []
    conflicts_total: int = 0


class Measurement(Row, frozen=True, kw_only=True):
    """One number of a run, with what is known of its samples. All numbers are in `unit`."""

    run: str
    seq: int
    series: str
    benchmark: str
    params: Annotated[str, Meta(description="Canonical JSON object, empty if none.")]
    metric: str
    unit: str
    better: Annotated[str, Meta(description="`lower`, `higher`, or empty where the format does not say.")]
    value: float
    n: int | None
    min: float | None
    max: float | None
    mean: float | None
    median: float | None
    stddev: float | None
    q1: float | None
    q3: float | None
    samples: Annotated[list[float] | None, Meta(description="Only if asked for.")]
    benchmark_version: str
    derived: bool
    extra: Annotated[str | None, Meta(description="JSON: what the format says besides.")]


class Test(Row, frozen=True, kw_only=True):
    """The result of one test, or of one subtest of it."""

    run: str
    seq: int
    test: str
    subtest: str | None
    status: str
    status_text: Annotated[str | None, Meta(description="The sender's word where the status is `unknown`.")]
    expected: str | None
    known_intermittent: list[str] | None
    duration_seconds: float | None
    message: str | None
    extra: Annotated[str | None, Meta(description="JSON: what the format says besides.")]


class Series(Row, frozen=True, kw_only=True):
    """Measurements that may be compared in one line, and where the line stands."""

    series: str
    project: str
    benchmark: str
    params: str
    metric: str
    unit: str
    better: str
    benchmark_version: str
    environment: str
    environment_title: str
    derived: bool
    points: int
    first_time: datetime | None
    last_time: datetime | None
    last_value: float | None
    last_commit: str | None
    last_run: str | None
    last_completeness: Annotated[Level | None, Meta(description="Of the last run; null without one.")]


class Point(Row, frozen=True, kw_only=True):
    """One measurement of a series in time: the commit's time, else when the run started, else when it was received."""

    time: datetime
    value: float
    min: float | None
    max: float | None
    median: float | None
    stddev: float | None
    n: int | None
    commit: str | None
    commit_subject: str | None
    branch: str | None
    run: str
    completeness: Annotated[Level, Meta(description="Of the run.")]
    submission: str
    seq: int
    ordinal: int


class SubmissionRow(Row, frozen=True, kw_only=True):
    """One submission as lists show it; `submissions/{id}` has its problems."""

    seq: int
    id: str
    project: str
    state: str
    format: Annotated[str | None, Meta(description="Null until processing has ended.")]
    sha256: str
    size_bytes: int
    media_type: str
    received: datetime
    announced: datetime
    finished: datetime | None
    revision: int | None
    transform_version: int | None
    problems_total: int
    runs: int
    measurements: int
    tests: int


class Status(Row, frozen=True, kw_only=True):
    """How the system stands, as this dashboard sees it."""

    lake_version: int
    data_version: str
    submissions_seq: Annotated[int, Meta(description="Last entry of the submissions log that is loaded.")]
    outcomes_seq: Annotated[int, Meta(description="Last entry of the outcomes log that is loaded.")]
    states: Annotated[dict[str, int], Meta(description="Submissions by state.")]
    facts: Annotated[
        dict[str, str | int | float | bool | None], Meta(description="What the server's other parts say of themselves.")
    ]


# Pages by name, for OpenAPI, which has no generic types.


class ProjectPage(Page[ProjectSummary], frozen=True, kw_only=True):
    """Projects, by name."""

    items: list[ProjectSummary]


class RunPage(Page[Run], frozen=True, kw_only=True):
    """Runs."""

    items: list[Run]


class ChunkPage(Page[ChunkRow], frozen=True, kw_only=True):
    """What was sent of one run's chunks, by number."""

    items: list[ChunkRow]


class MeasurementPage(Page[Measurement], frozen=True, kw_only=True):
    """Measurements of one run, in the order of its file."""

    items: list[Measurement]


class TestPage(Page[Test], frozen=True, kw_only=True):
    """Tests of one run, in the order of its file."""

    items: list[Test]


class SeriesPage(Page[Series], frozen=True, kw_only=True):
    """Series, by project and benchmark."""

    items: list[Series]


class PointPage(Page[Point], frozen=True, kw_only=True):
    """Points of one series, oldest first; `next` leads to older ones."""

    items: list[Point]


class SubmissionPage(Page[SubmissionRow], frozen=True, kw_only=True):
    """Submissions, the last announced first."""

    items: list[SubmissionRow]
