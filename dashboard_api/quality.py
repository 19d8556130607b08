"""How well the pipeline does: how far each stage is behind, what became of what was sent, and why not of some.

Public, so it tells nothing that is not in the public bucket: what waits to be announced, it cannot know. Ages and
counts of the last hour depend on the clock, so these answers have no data version; they are made every few seconds at
most, however often they are asked for. Times are those of announcing, which a rebuild of the lake does not change.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from litestar import Response, get
from msgspec import Meta

from dashboard_api.behind import Logs
from dashboard_api.database import Snapshot
from dashboard_api.desk import AnyRequest, Desk
from dashboard_api.paging import rows_of
from dashboard_api.queries import STATES
from dashboard_api.resources import Row
from dashboard_api.summaries import Refusal, refusals
from feed.lag import Waiting
from feed.log import readers
from infra import clock
from schemas.errors import Unavailable
from schemas.reasons import REASONS
from schemas.records import Problem

MADE_EVERY_SECONDS = 5.0
SPANS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}
GROUPS_LISTED = 50
REFUSALS_LISTED = 12
WAITING_LISTED = 5
STEP = timedelta(minutes=30)
STEPS = 48


class Stage(Row, frozen=True, kw_only=True):
    """How far behind a stage is."""

    waiting: Annotated[int | None, Meta(description="Null if that cannot be known now.")]
    oldest: Annotated[datetime | None, Meta(description="Since when the oldest waits; null if none does.")]
    lag_seconds: Annotated[float | None, Meta(description="The oldest's age; 0 if none waits.")]


class Counts(Row, frozen=True, kw_only=True):
    """Submissions by what became of them."""

    announced: Annotated[int, Meta(description="Still without an outcome.")] = 0
    accepted: int = 0
    rejected: int = 0
    quarantined: int = 0
    withdrawn: int = 0


class Group(Counts, frozen=True, kw_only=True):
    """The submissions of one project or format."""

    name: str


class Cause(Row, frozen=True, kw_only=True):
    """A class of reasons for which submissions gave no rows, with the newest of them."""

    verdict: str
    reason: str
    title: str
    week: Annotated[int, Meta(description="Of the last seven days.")]
    ever: int
    newest: Annotated[str, Meta(description="The id of the newest submission.")]
    problem: Annotated[Problem | None, Meta(description="Its first one.")]


class Overdue(Row, frozen=True, kw_only=True):
    """A submission that waits for its outcome."""

    id: str
    project: str
    announced: datetime


class Step(Counts, frozen=True, kw_only=True):
    """Half an hour of the last day."""

    since: datetime


class Durations(Row, frozen=True, kw_only=True):
    """From being received to an outcome, over the submissions of the last day."""

    median_seconds: float | None
    p99_seconds: float | None


class Quality(Row, frozen=True, kw_only=True):
    """The pipeline's state at one moment, as far as this dashboard has loaded it."""

    at: datetime
    data_version: str
    processing: Annotated[Stage, Meta(description="Announced, without an outcome.")]
    loading: Annotated[Stage, Meta(description="Entries of both logs that this dashboard has not loaded.")]
    durations: Durations
    spans: Annotated[dict[str, Counts], Meta(description="Announced in the last hour, day, week, and ever.")]
    steps: list[Step]
    causes: list[Cause]
    projects: Annotated[list[Group], Meta(description="Those with most refusals first.")]
    formats: Annotated[list[Group], Meta(description="As detected; empty if none was.")]
    oldest_waiting: list[Overdue]
    newest_refused: list[Refusal]


class Watch:
    """Knows the Quality of a desk's source, not much older than MADE_EVERY_SECONDS.

    Of very many submissions it is made more seldom, so that making it takes a tenth of the time, whoever asks.
    """

    def __init__(
        self,
        desk: Desk,
        clock: Callable[[], datetime] = clock.now,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._desk = desk
        self._logs = Logs(readers(desk.source.public))
        self._clock = clock
        self._timer = timer
        self._making = threading.Lock()
        self._made: Quality | None = None
        self._good_until = 0.0

    def quality(self) -> Quality:
        """While it is made again, others get the one before; nobody but the first waits."""
        made = self._made
        if made is not None and self._timer() < self._good_until:
            return made
        if not self._making.acquire(blocking=made is None) and made is not None:
            return made
        try:
            return self._made_now()
        finally:
            self._making.release()

    def _made_now(self) -> Quality:
        began = self._timer()
        if self._made is None or began >= self._good_until:
            self._made = self._desk.read(lambda snapshot: measure(snapshot, self._logs, self._clock()))
            self._good_until = began + max(MADE_EVERY_SECONDS, 10 * (self._timer() - began))
        return self._made


def quality_routes(desk: Desk) -> list[Any]:
    """The API's handler."""
    watch = Watch(desk)

    @get("/quality", sync_to_thread=True, operation_id="get_quality", summary="Get quality")
    def get_quality(request: AnyRequest) -> Response[Quality]:
        """How far behind each stage is, what became of what was sent, and why not of some. At most a few seconds old;
        without an ETag, since it changes with time."""
        return desk.without_etag(request, watch.quality())

    return [get_quality]


# --- questions ---

_GROUPS = f"""
SELECT project, coalesce(format, '') AS format, state, count(*) AS ever,
    {", ".join(f"count(*) FILTER (announced >= ${name}) AS {name}" for name in SPANS)}
FROM submission_states GROUP BY ALL
"""
_STEPS = """
SELECT date_diff('second', $start::TIMESTAMPTZ, announced) // $seconds AS step, state, count(*) AS submissions
FROM submission_states WHERE announced >= $start AND announced < $end GROUP BY ALL
"""
_DURATIONS = """
SELECT quantile_cont(took, 0.5) AS median_seconds, quantile_cont(took, 0.99) AS p99_seconds FROM (
    SELECT greatest(epoch(finished) - epoch(received), 0) AS took FROM submission_states
    WHERE announced >= $day AND finished IS NOT NULL AND revision = 0
)
"""
_WAITING = """
WITH waiting AS MATERIALIZED (SELECT * FROM submissions ANTI JOIN outcomes USING (seq))
SELECT id, project, announced, count(*) OVER () AS waiting, min(announced) OVER () AS oldest
FROM waiting WHERE NOT list_contains($done::BIGINT[], batch) ORDER BY seq LIMIT $limit
"""


def measure(snapshot: Snapshot, logs: Logs, now: datetime) -> Quality:
    """All of it, from one snapshot and the logs' heads."""
    since = {name: now - span for name, span in SPANS.items()}
    groups = snapshot.rows(_GROUPS, since)
    processing, loading, waiting = _behind(snapshot, logs, now)
    return Quality(
        at=now,
        data_version=snapshot.submissions_version,
        processing=processing,
        loading=loading,
        durations=rows_of(snapshot.arrow(_DURATIONS, {"day": since["day"]}), Durations)[0],
        spans={name: _counts(groups, name) for name in (*SPANS, "ever")},
        steps=_steps(snapshot, now),
        causes=_causes(snapshot, since["week"]),
        projects=_by(groups, "project"),
        formats=_by([group for group in groups if group["state"] != "announced"], "format"),
        oldest_waiting=waiting,
        newest_refused=refusals(snapshot, None, REFUSALS_LISTED),
    )


def _behind(snapshot: Snapshot, logs: Logs, now: datetime) -> tuple[Stage, Stage, list[Overdue]]:
    """Processing, loading, and the oldest submissions without an outcome."""
    try:
        unloaded, done = logs.unloaded(snapshot), logs.batches_with_outcome(snapshot)
    except Unavailable:
        unloaded, done = None, None
    loading = _stage(unloaded, now)
    if done is None:
        return _stage(None, now), loading, []
    found: list[dict[str, Any]] = rows_of(snapshot.arrow(_WAITING, {"done": done, "limit": WAITING_LISTED}), dict)
    waiting = Waiting(found[0]["waiting"], found[0]["oldest"]) if found else Waiting(0, None)
    listed = [Overdue(**{name: one[name] for name in Overdue.__struct_fields__}) for one in found]
    return _stage(waiting, now), loading, listed


def _stage(waiting: Waiting | None, now: datetime) -> Stage:
    if waiting is None:
        return Stage(waiting=None, oldest=None, lag_seconds=None)
    lag = max((now - waiting.oldest).total_seconds(), 0.0) if waiting.oldest else 0.0
    return Stage(waiting=waiting.count, oldest=waiting.oldest, lag_seconds=lag)


def _counts(groups: list[dict[str, Any]], span: str) -> Counts:
    return Counts(**{state: sum(one[span] for one in groups if one["state"] == state) for state in STATES})


def _by(groups: list[dict[str, Any]], column: str) -> list[Group]:
    """By project or format, ever; at most GROUPS_LISTED of them, those with most refusals first."""
    counts: dict[str, dict[str, int]] = {}
    for one in groups:
        of = counts.setdefault(one[column], dict.fromkeys(STATES, 0))
        of[one["state"]] += one["ever"]
    found = [Group(name=name, **of) for name, of in counts.items()]
    found.sort(key=lambda one: (-one.quarantined - one.rejected, -one.accepted, one.name))
    return found[:GROUPS_LISTED]


def _steps(snapshot: Snapshot, now: datetime) -> list[Step]:
    """The last STEPS of them, oldest first; the last one is not over yet."""
    end = datetime.fromtimestamp((now.timestamp() // STEP.total_seconds() + 1) * STEP.total_seconds(), UTC)
    start = end - STEPS * STEP
    counts: list[dict[str, int]] = [{} for _ in range(STEPS)]
    for row in snapshot.rows(_STEPS, {"start": start, "end": end, "seconds": int(STEP.total_seconds())}):
        counts[row["step"]][row["state"]] = row["submissions"]
    return [Step(since=start + at * STEP, **of) for at, of in enumerate(counts)]


def _causes(snapshot: Snapshot, week: datetime) -> list[Cause]:
    """The most frequent of the week first."""
    parameters = {f"pattern{at}": f"^({reason.pattern})" for at, reason in enumerate(REASONS)}
    cases = " ".join(
        f"WHEN state = '{reason.verdict}' AND regexp_matches(coalesce(problems[1].{reason.field}, ''), $pattern{at}) "
        f"THEN '{reason.id}'"
        for at, reason in enumerate(REASONS)
    )
    rows = snapshot.rows(
        f"""
        SELECT state AS verdict, CASE {cases} END AS reason, count(*) FILTER (announced >= $week) AS week,
            count(*) AS ever, arg_max(id, seq) AS newest, max_by(problems[1], seq) AS problem
        FROM submission_states WHERE state IN ('rejected', 'quarantined') GROUP BY ALL
        """,
        parameters | {"week": week},
    )
    titles = {(reason.verdict, reason.id): reason.title for reason in REASONS}
    causes = [
        Cause(
            title=titles[row["verdict"], row["reason"]],
            **row | {"problem": msgspec.convert(row["problem"], Problem | None)},
        )
        for row in rows
    ]
    return sorted(causes, key=lambda one: (-one.week, -one.ever, one.verdict, one.reason))
