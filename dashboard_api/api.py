"""The read-only HTTP API under /api/v1: resources, their parameters, and how each answer is made.

Every answer comes from one snapshot and names its data version in the ETag, so "has anything changed?" costs no
query. A parameter nobody declared is refused: a typo must not silently return everything.
"""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from litestar import Response, Router, get
from litestar.di import NamedDependency, Provide
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, QueryParameter

from dashboard_api import answers, chunks, export, queries
from dashboard_api.answers import AnswerCache, Representation
from dashboard_api.database import Snapshot
from dashboard_api.desk import (
    AnyRequest,
    DashboardSource,
    Desk,
    Facts,
    ReadableFromEverywhere,
    received,
    refuse_unknown_parameters,
)
from dashboard_api.feed_views import View
from dashboard_api.filters import RunFilter, SubmissionFilter, parsed_labels, parsed_time
from dashboard_api.paging import Listing
from dashboard_api.quality import quality_routes
from dashboard_api.reference import PATH, openapi_config, reference_routes
from dashboard_api.resources import (
    ChunkPage,
    ChunkRow,
    Completeness,
    Measurement,
    MeasurementPage,
    Point,
    PointPage,
    ProjectPage,
    ProjectSummary,
    Run,
    RunPage,
    Series,
    SeriesPage,
    Status,
    SubmissionPage,
    Test,
    TestPage,
)
from infra.web import PROBLEM_MEDIA_TYPE, exception_handlers
from schemas import keys
from schemas.errors import Refused
from schemas.records import ProblemDetails, SubmissionStatus

__all__ = ["api_routes", "openapi_config"]

MAX_LIMIT = 1000

T = TypeVar("T")


# --- parameters ---

Limit = Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT, description="How many rows at most.")]
After = Annotated[str | None, QueryParameter(description="Cursor: the rows after it. From `next`, or the Link header.")]
Before = Annotated[str | None, QueryParameter(description="Cursor: older rows. From `next`, or the Link header.")]
Time = Annotated[str | None, QueryParameter(description="ISO 8601; UTC if it names no zone. `since` is inclusive.")]
Labels = Annotated[list[str] | None, QueryParameter(description="`key=value`; all that are given must hold.")]
Environment = Annotated[str | None, QueryParameter(description="A fingerprint or a title.")]
Text = Annotated[str | None, QueryParameter()]
TheDesk = NamedDependency[Desk]


def _found(thing: T | None, kind: str, name: str) -> T:
    if not thing:
        raise Refused(kind, f"a known {kind}", repr(name[:80]), status=404)
    return thing


# --- resources ---


def get_projects(
    *, request: AnyRequest, desk: TheDesk, limit: Limit = 100, after: After = None
) -> Response[ProjectPage]:
    """All projects by name, with what each holds."""
    return desk.rows(request, lambda _: queries.list_projects(limit, after), live=True)


def get_project(*, request: AnyRequest, desk: TheDesk, project: FromPath[str]) -> Response[ProjectSummary]:
    """What one project holds."""
    return desk.one(request, lambda it: _found(queries.project(it, project), "project", project), live=True)


def get_runs(
    *,
    request: AnyRequest,
    desk: TheDesk,
    limit: Limit = 100,
    before: Before = None,
    project: Text = None,
    commit: Annotated[
        str | None, QueryParameter(description="The commit id, or at least its first 4 characters.")
    ] = None,
    branch: Text = None,
    environment: Environment = None,
    label: Labels = None,
    since: Time = None,
    until: Time = None,
    format: Text = None,
    series: Annotated[str | None, QueryParameter(description="The id of a series that the run measured.")] = None,
    duplicates: Annotated[bool, QueryParameter(description="Whether to show runs that were sent before.")] = True,
) -> Response[RunPage]:
    """Runs, the last received first; one that came in chunks is one run, placed where its first chunk is in the log.
    `since` and `until` are of the time that was received."""
    filter = RunFilter(
        project=project,
        commit=commit,
        branch=branch,
        environment=environment,
        labels=parsed_labels(label),
        since=parsed_time(since, "since"),
        until=parsed_time(until, "until"),
        format=format,
        series=series,
        duplicates=duplicates,
    )
    return desk.rows(request, lambda _: queries.list_runs(filter, limit, before), view=View.of(filter))


def get_run(*, request: AnyRequest, desk: TheDesk, run: FromPath[str]) -> Response[RunPage]:
    """One run, as the only row. `completeness` says whether all of it is here."""

    def make(snapshot: Snapshot) -> Listing[Run]:
        _known_run(snapshot, run)
        return queries.list_run(run)

    return desk.rows(request, make)


def get_run_chunks(
    *, request: AnyRequest, desk: TheDesk, run: FromPath[str], limit: Limit = 100, after: After = None
) -> Response[ChunkPage]:
    """What was sent of the run's chunks, by number; nothing if it came in one file."""

    def make(snapshot: Snapshot) -> Listing[ChunkRow]:
        _known_run(snapshot, run)
        return chunks.list_chunks(run, limit, after)

    return desk.rows(request, make)


def get_run_completeness(*, request: AnyRequest, desk: TheDesk, run: FromPath[str]) -> Response[Completeness]:
    """Which chunks of the run are missing, and in what those that are here contradict each other."""

    def make(snapshot: Snapshot) -> Completeness:
        _known_run(snapshot, run)
        return chunks.completeness(snapshot, run)

    return desk.one(request, make)


def get_run_export(
    *,
    request: AnyRequest,
    desk: TheDesk,
    run: FromPath[str],
    target: Annotated[str, QueryParameter(name="as", description="One of `" + "`, `".join(export.TARGETS) + "`.")],
    table: Annotated[
        str | None,
        QueryParameter(description="`measurements` or `tests`, for CSV and Parquet of a run that has both."),
    ] = None,
) -> Response[Any]:
    """The whole run as a file of another format. X-Runfeed-Left-Out says what that format cannot carry, and
    X-Runfeed-Parts how much of a run in chunks this is."""
    chosen = export.chosen_target(target, table)
    name = "-".join(part for part in (target, table) if part)
    return desk.file(
        request,
        Representation(name, chosen.media_type),
        f"{run}.{chosen.suffix}",
        lambda it: export.export(it, export.find_run(it, run), chosen, table or ""),
    )


def get_run_measurements(
    *,
    request: AnyRequest,
    desk: TheDesk,
    run: FromPath[str],
    limit: Limit = 100,
    after: After = None,
    samples: Annotated[
        bool, QueryParameter(description="Whether to give every sample, not only their statistics.")
    ] = False,
) -> Response[MeasurementPage]:
    """What the run measured, in the order of its file."""

    def make(snapshot: Snapshot) -> Listing[Measurement]:
        _known_run(snapshot, run)
        return queries.list_run_measurements(snapshot, run, limit, after, samples=samples)

    return desk.rows(request, make)


def get_run_tests(
    *,
    request: AnyRequest,
    desk: TheDesk,
    run: FromPath[str],
    limit: Limit = 100,
    after: After = None,
    status: Annotated[list[str] | None, QueryParameter(description="Any of these statuses.")] = None,
    text: Annotated[
        str | None, QueryParameter(description="Occurs in test, subtest or message, whatever its case.")
    ] = None,
) -> Response[TestPage]:
    """What the run tested, in the order of its file."""

    def make(snapshot: Snapshot) -> Listing[Test]:
        _known_run(snapshot, run)
        return queries.list_run_tests(snapshot, run, limit, after, status=status, text=text)

    return desk.rows(request, make)


def get_all_series(
    *,
    request: AnyRequest,
    desk: TheDesk,
    limit: Limit = 100,
    after: After = None,
    project: Text = None,
    text: Annotated[str | None, QueryParameter(description="Words that all occur in names or environment.")] = None,
    benchmark: Text = None,
    metric: Text = None,
    unit: Text = None,
    environment: Environment = None,
) -> Response[SeriesPage]:
    """Series by project and benchmark, each with its last value."""
    return desk.rows(
        request,
        lambda it: queries.list_series(
            it,
            project=project,
            text=text,
            benchmark=benchmark,
            metric=metric,
            unit=unit,
            environment=environment,
            limit=limit,
            after=after,
        ),
    )


def get_series(*, request: AnyRequest, desk: TheDesk, series: FromPath[str]) -> Response[Series]:
    """One series."""
    return desk.one(request, lambda it: _found(queries.series(it, series), "series", series))


def get_points(
    *,
    request: AnyRequest,
    desk: TheDesk,
    series: FromPath[str],
    limit: Limit = 100,
    before: Before = None,
    branch: Text = None,
    since: Time = None,
    until: Time = None,
) -> Response[PointPage]:
    """The newest points of a series, oldest first; `next` leads to older ones."""
    first, last = parsed_time(since, "since"), parsed_time(until, "until")

    def make(snapshot: Snapshot) -> Listing[Point]:
        known = snapshot.arrow("SELECT series FROM series WHERE series = $series", {"series": series})
        _found(known.num_rows, "series", series)
        return queries.list_points(series, branch=branch, since=first, until=last, limit=limit, before=before)

    return desk.rows(request, make)


def get_submissions(
    *,
    request: AnyRequest,
    desk: TheDesk,
    limit: Limit = 100,
    before: Before = None,
    project: Text = None,
    states: Annotated[list[str] | None, QueryParameter(name="state", description="Any of these states.")] = None,
    format: Text = None,
    label: Annotated[
        list[str] | None, QueryParameter(description="`key=value`; one of its runs has all that are given.")
    ] = None,
) -> Response[SubmissionPage]:
    """Announced submissions, the last first."""
    filter = SubmissionFilter(project=project, states=states or (), format=format, labels=parsed_labels(label))
    return desk.rows(
        request,
        lambda _: queries.list_submissions(filter, limit=limit, before=before),
        live=True,
        view=View.of(filter),
    )


def get_submission(*, request: AnyRequest, desk: TheDesk, submission: FromPath[str]) -> Response[SubmissionStatus]:
    """Where a submission stands, and every reason. `received`: stored for good, but not yet announced or loaded."""
    if not keys.SHA256.fullmatch(submission):
        _found(None, "submission", submission)

    def make(snapshot: Snapshot) -> SubmissionStatus:
        found = queries.submission(snapshot, submission)
        if found is None:
            raise FileNotFoundError(submission)
        return found

    try:
        return desk.one(request, make, live=True)
    except FileNotFoundError:
        return desk.without_etag(request, received(desk.source.public, submission))


def get_status(*, request: AnyRequest, desk: TheDesk) -> Response[Status]:
    """How the system stands: how far the logs are loaded, and submissions by state."""

    def make(snapshot: Snapshot) -> Status:
        return Status(
            lake_version=snapshot.lake_version,
            data_version=snapshot.version,
            submissions_seq=snapshot.submissions_seq,
            outcomes_seq=snapshot.outcomes_seq,
            states=queries.states(snapshot),
            facts=dict(desk.status_facts()),
        )

    return desk.without_etag(request, desk.read(make))


def _known_run(snapshot: Snapshot, run_id: str) -> None:
    known = snapshot.arrow("SELECT 1 FROM runs WHERE run = $run LIMIT 1", {"run": run_id})
    _found(known.num_rows, "run", run_id)


# --- routes ---

_LISTS: list[tuple[str, Callable[..., Response[Any]]]] = [
    ("/projects", get_projects),
    ("/runs", get_runs),
    ("/runs/{run:str}/chunks", get_run_chunks),
    ("/runs/{run:str}/measurements", get_run_measurements),
    ("/runs/{run:str}/tests", get_run_tests),
    ("/series", get_all_series),
    ("/series/{series:str}/points", get_points),
    ("/submissions", get_submissions),
]
_FEEDS = (get_runs, get_submissions)
_ONES: list[tuple[str, Callable[..., Response[Any]]]] = [
    ("/projects/{project:str}", get_project),
    ("/runs/{run:str}", get_run),
    ("/runs/{run:str}/completeness", get_run_completeness),
    ("/runs/{run:str}/export", get_run_export),
    ("/series/{series:str}", get_series),
    ("/submissions/{submission:str}", get_submission),
    ("/status", get_status),
]


def api_routes(source: DashboardSource, status_facts: Callable[[], Facts] = dict, public_url: str = "") -> list[Any]:
    """The routes for Litestar. `status_facts` adds what other parts of the server know to /api/v1/status; `public_url`
    is the server's address in feeds."""
    desk = Desk(source, AnswerCache(), status_facts, public_url)
    routes: list[Any] = [_route(path, answer) for path, answer in [*_LISTS, *_ONES]]
    for path, answer in _LISTS:
        written = (*answers.ALL, *answers.FEEDS) if answer in _FEEDS else answers.ALL
        routes += [_route(f"{path}.{one.name}", answer, include_in_schema=False) for one in written]
    router = Router(
        PATH,
        route_handlers=[*routes, *quality_routes(desk), *reference_routes()],
        dependencies={"desk": Provide(lambda: desk, sync_to_thread=False)},
        guards=[refuse_unknown_parameters],
        middleware=[ReadableFromEverywhere()],
        exception_handlers=exception_handlers,
        signature_types=[Desk],
    )
    return [router]


def _route(path: str, answer: Callable[..., Response[Any]], *, include_in_schema: bool = True) -> Any:
    name = answer.__name__
    problems = {400: "The request is wrong.", 406: "No such representation."}
    if "{" in path:
        problems[404] = "There is no such thing."
    if answer is get_run_export:
        problems[422] = "The run has nothing that the format can carry; `expected` names formats that can."
        del problems[406]
    described = {
        status: ResponseSpec(ProblemDetails, description=why, media_type=PROBLEM_MEDIA_TYPE, generate_examples=False)
        for status, why in problems.items()
    }
    return get(
        path,
        sync_to_thread=True,
        name=None,
        operation_id=name,
        summary=name.removeprefix("get_").replace("_", " ").capitalize(),
        description=answer.__doc__,
        responses=described,
        include_in_schema=include_in_schema,
    )(answer)
