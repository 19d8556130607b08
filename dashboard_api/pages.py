"""The web pages: each reads one snapshot, makes the values of its template, and is cached under the data version.

Come in: requests of people and their browsers. Goes out: HTML that works without JavaScript; the graph's data comes
from the JSON API. Pages hold at most a few hundred rows and page on by cursor.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from litestar import Response, Router, get
from litestar.di import NamedDependency, Provide
from litestar.exceptions import ValidationException
from litestar.params import FromPath, QueryParameter

from dashboard_api import display, drawing, queries, summaries, trends
from dashboard_api.answers import Answer, AnswerCache, matches
from dashboard_api.database import Snapshot
from dashboard_api.desk import AnyRequest, DashboardSource, Desk
from dashboard_api.rendering import Renderer
from dashboard_api.resources import Series
from infra.bucket import Bucket
from schemas import keys
from schemas.errors import Refused, Unavailable
from schemas.records import Project, Submission, SubmissionStatus
from schemas.tables import STATUSES

RUNS_SHOWN = 15
RUNS_LISTED = 100
SERIES_LISTED = 150
ROWS_LISTED = 200
"""Measurements, tests, or values of a series on one page."""
LINES_SHOWN = 30
GRAPH_POINTS = 1000
"""In the drawing without JavaScript."""
OVERLAYS = 12
FAILED = ("crash", "timeout", "error", "fail", "assert")

_CACHE_BYTES = 8 << 20
_DAY = len("2026-01-01")
_Text = Annotated[str, QueryParameter(max_length=200)]
_Cursor = Annotated[str | None, QueryParameter(max_length=2000)]

Values = dict[str, Any]
"""What a template is filled with."""


class Pages:
    """What every page needs; one per app."""

    def __init__(self, source: DashboardSource) -> None:
        self.renderer = Renderer()
        self.cache = AnswerCache(_CACHE_BYTES)
        self.desk = Desk(source, self.cache, dict)

    @property
    def public(self) -> Bucket:
        return self.desk.source.public

    def answer(
        self,
        request: AnyRequest,
        template: str,
        values: Callable[[Snapshot], Values],
        *,
        live: bool = False,
        besides: str = "",
    ) -> Response[bytes]:
        """The page of one data version: 304 if the reader has it, else from the cache, else made.

        `live`: it shows submissions still under way. `besides` is the version of what it shows from elsewhere.
        """

        def respond(snapshot: Snapshot) -> Response[bytes]:
            version = snapshot.submissions_version if live else snapshot.version
            etag = self.renderer.etag(version, *([besides] if besides else []))
            if matches(request.headers.get("if-none-match"), etag):
                return self.renderer.not_modified(etag)
            key = (request.url.path, request.url.query, etag)
            made = self.cache.get(key)
            if made is None:
                made = Answer(self.renderer.render(template, values(snapshot)))
                self.cache.put(key, made)
            return self.renderer.page(made.body, etag=etag)

        return self.desk.read(respond)

    def message(self, title: str, detail: str, status: int) -> Response[bytes]:
        """A page that says why there is no other."""
        body = self.renderer.render("message.html", {"here": "", "title": title, "detail": detail})
        return self.renderer.page(body, status=status)


class Missing(Exception):
    """The address names something that is not here; the text says what."""


# --- overview and projects ---


@get("/", sync_to_thread=True)
def overview(request: AnyRequest, pages: NamedDependency[Pages]) -> Response[bytes]:
    return pages.answer(request, "overview.html", _overview, live=True)


def _overview(snapshot: Snapshot) -> Values:
    days = summaries.activity(snapshot)
    projects = queries.projects(snapshot)
    cards = [
        {
            "name": one.name,
            "runs": one.runs,
            "series": one.series,
            "last": one.last_received,
            "refused": one.rejected + one.quarantined,
            "spark": drawing.sparkline(days.get(one.name, [])),
        }
        for one in sorted(projects, key=lambda one: one.last_received or datetime.min.replace(tzinfo=UTC), reverse=True)
    ]
    return {
        "here": "projects",
        "projects": cards,
        "waiting": sum(one.announced for one in projects),
        "runs": queries.runs(snapshot, queries.RunFilter(), RUNS_SHOWN).items,
        "refusals": summaries.refusals(snapshot, None, 8),
    }


@get("/projects/{project:str}", sync_to_thread=True)
def project_page(
    *,
    request: AnyRequest,
    pages: NamedDependency[Pages],
    project: FromPath[str],
    q: _Text = "",
    environment: _Text = "",
    after: _Cursor = None,
) -> Response[bytes]:
    record, version = _project_record(pages.public, project)
    return pages.answer(
        request,
        "project.html",
        lambda snapshot: _project(snapshot, record, text=q.strip(), environment=environment, after=after),
        live=True,
        besides=version,
    )


def _project_record(public: Bucket, project: str) -> tuple[Project, str]:
    """What the project says of itself, and a version of that; silent if it says nothing."""
    if not keys.PROJECT.fullmatch(project) or ".." in project:
        return _silent(project), ""
    try:
        body, etag = public.read_versioned(keys.project(project))
    except FileNotFoundError:
        return _silent(project), ""
    return msgspec.json.decode(body, type=Project), "".join(letter for letter in etag if letter.isalnum())


def _silent(project: str) -> Project:
    return Project(name=project, created=datetime.fromtimestamp(0, UTC))


def _project(snapshot: Snapshot, record: Project, *, text: str, environment: str, after: str | None) -> Values:
    project = record.name
    if queries.project(snapshot, project) is None and record == _silent(project):
        raise Missing(f"No project is called “{display.cut(project, 64)}”.")
    found = queries.find_series(
        snapshot, project, text=text or None, environment=environment or None, limit=SERIES_LISTED, after=after
    )
    recent = summaries.recent(snapshot, [one.series for one in found.items])
    groups: dict[str, list[Values]] = {}
    for one in sorted(found.items, key=_in_group):
        values = recent[one.series].values if one.series in recent else []
        groups.setdefault(one.benchmark, []).append(
            {
                "series": one,
                "recent": recent.get(one.series),
                "spark": drawing.sparkline(values),
                "change": trends.change(values, one.better),
            }
        )
    suites = summaries.suites(snapshot, project)
    base = f"/projects/{project}"
    listing = _url("/api/v1/series", project=project, text=text, environment=environment)
    return {
        "here": "projects",
        "name": project,
        "record": record,
        "links": _formats(listing, "Series"),
        "q": text,
        "environment": environment,
        "environments": summaries.environments(snapshot, project),
        "filtered": bool(text or environment or after),
        "groups": list(groups.items()),
        "shown": len(found.items),
        "next": found.next and _url(base, q=text, environment=environment, after=found.next),
        "suites": suites,
        "failing": summaries.failing(snapshot, suites, LINES_SHOWN),
        "fixed": summaries.fixed(snapshot, suites, LINES_SHOWN),
        "test_limit": LINES_SHOWN,
        "runs": queries.runs(snapshot, queries.RunFilter(project=project), RUNS_SHOWN).items,
        "refusals": summaries.refusals(snapshot, project, 5),
    }


def _in_group(one: Series) -> tuple[str, ...]:
    return one.benchmark, one.params, one.metric, one.unit, one.environment_title, one.series


# --- runs ---


@get("/runs", sync_to_thread=True)
def runs_page(
    *,
    request: AnyRequest,
    pages: NamedDependency[Pages],
    project: _Text = "",
    commit: _Text = "",
    branch: _Text = "",
    before: _Cursor = None,
) -> Response[bytes]:
    chosen = {"project": project.strip(), "commit": commit.strip(), "branch": branch.strip()}
    filter = queries.RunFilter(**{name: value or None for name, value in chosen.items()})  # type: ignore[arg-type]

    def values(snapshot: Snapshot) -> Values:
        found = queries.runs(snapshot, filter, RUNS_LISTED, before)
        return {
            "here": "runs",
            **chosen,
            "runs": found.items,
            "started": before is not None,
            "first": _url("/runs", **chosen),
            "next": found.next and _url("/runs", **chosen, before=found.next),
            "json": _url("/api/v1/runs", **chosen),
        }

    return pages.answer(request, "runs.html", values)


@get("/runs/{run:str}", sync_to_thread=True)
def run_page(
    *,
    request: AnyRequest,
    pages: NamedDependency[Pages],
    run: FromPath[str],
    status: _Text = "",
    q: _Text = "",
    measurements: _Cursor = None,
    tests: _Cursor = None,
) -> Response[bytes]:
    """`measurements` and `tests` are cursors."""
    after = {"measurements": measurements, "tests": tests}
    return pages.answer(request, "run.html", lambda it: _run(it, run, status=status, text=q.strip(), after=after))


def _run(snapshot: Snapshot, run_id: str, *, status: str, text: str, after: dict[str, str | None]) -> Values:
    pieces = queries.run(snapshot, run_id)
    if not pieces:
        raise Missing(f"No run has the id “{display.cut(run_id, 64)}”.")
    base = f"/runs/{run_id}"
    measurements_total = sum(one.measurements for one in pieces)
    measurements = queries.run_measurements(snapshot, run_id, ROWS_LISTED, after["measurements"])
    counts = summaries.test_counts(snapshot, run_id)
    failed = sum(counts.get(one, 0) for one in FAILED)
    chosen = status or ("failed" if failed and not text else "all")
    wanted = {"failed": list(FAILED), "all": None}.get(chosen, [chosen])
    tests = queries.run_tests(snapshot, run_id, ROWS_LISTED, after["tests"], status=wanted, text=text or None)
    tabs = [("all", "All", sum(counts.values()))]
    if failed:
        tabs.insert(0, ("failed", "Failures", failed))
    tabs += [(one, one, counts[one]) for one in STATUSES if one in counts and len(counts) > 1]
    api = f"/api/v1/runs/{run_id}"
    return {
        "here": "runs",
        "run": pieces[0],
        "duplicates_only": all(one.duplicate_of for one in pieces),
        "submissions": list(dict.fromkeys(one.submission for one in pieces)),
        "chunks": summaries.chunks(snapshot, run_id),
        "measurements": measurements.items,
        "measurements_total": measurements_total,
        "measurements_next": measurements.next
        and _url(base, measurements=measurements.next, status=status, q=text) + "#measurements",
        "counts": counts,
        "tests_total": sum(counts.values()),
        "tabs": [
            {
                "label": label,
                "tests": count,
                "chosen": name == chosen,
                "url": _url(base, status=name, q=text) + "#tests",
            }
            for name, label, count in tabs
        ],
        "status": status,
        "q": text,
        "tests": tests.items,
        "tests_next": tests.next and _url(base, tests=tests.next, status=chosen, q=text) + "#tests",
        "links": {"measurements": _formats(f"{api}/measurements"), "tests": _formats(f"{api}/tests")},
    }


# --- series ---


@get("/series/{series:str}", sync_to_thread=True)
def series_page(
    *,
    request: AnyRequest,
    pages: NamedDependency[Pages],
    series: FromPath[str],
    since: Annotated[str, QueryParameter(name="from", max_length=40)] = "",
    until: Annotated[str, QueryParameter(name="to", max_length=40)] = "",
    branch: _Text = "",
) -> Response[bytes]:
    """`from` and `to` are days or moments, both inclusive; the other parameters in the address are the script's."""
    return pages.answer(request, "series.html", lambda it: _series(it, series, since, until, branch))


def _series(snapshot: Snapshot, series_id: str, since: str, until: str, branch: str) -> Values:
    series = queries.series(snapshot, series_id)
    if series is None:
        raise Missing(f"No series has the id “{display.cut(series_id, 64)}”.")
    first, last = _moment(since, "from"), _moment(until, "to")
    if last is not None:
        last += timedelta(days=1) if len(until) == _DAY else timedelta(microseconds=1)
    points = queries.points(snapshot, series_id, branch=branch or None, since=first, until=last, limit=GRAPH_POINTS)
    values = [point.value for point in points]
    scale = display.scale(values or [series.last_value or 0.0], series.unit)
    return {
        "here": "projects",
        "series": series,
        "scale": scale,
        "from_day": since[:_DAY],
        "to_day": until[:_DAY],
        "branch": branch,
        "branches": summaries.branches(snapshot, series_id, 200),
        "graph": drawing.graph(values),
        "points": points[::-1],
        "row_limit": ROWS_LISTED,
        "elsewhere": summaries.elsewhere(snapshot, series_id, OVERLAYS),
        "links": _formats(_url(f"/api/v1/series/{series_id}/points", branch=branch)),
    }


def _moment(text: str, where: str) -> datetime | None:
    """A day or moment of the address, in UTC unless it says otherwise; Refused 400 if it is none."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Refused(where, "a day or a time, ISO 8601", repr(text)) from error


# --- submissions ---


@get("/submissions", sync_to_thread=True)
def submissions_page(
    *,
    request: AnyRequest,
    pages: NamedDependency[Pages],
    project: _Text = "",
    chosen: Annotated[str, QueryParameter(name="state", max_length=40)] = "",
    before: _Cursor = None,
) -> Response[bytes]:
    def values(snapshot: Snapshot) -> Values:
        found = queries.submissions(snapshot, project or None, chosen or None, RUNS_LISTED, before)
        counts = summaries.state_counts(snapshot, project or None)
        states = [("", "all", sum(counts.values())), *((one, one, counts.get(one, 0)) for one in queries.STATES)]
        return {
            "here": "submissions",
            "project": project,
            "state": chosen,
            "tabs": [
                {
                    "label": label,
                    "submissions": count,
                    "chosen": name == chosen,
                    "url": _url("/submissions", project=project, state=name),
                }
                for name, label, count in states
            ],
            "rows": found.items,
            "started": before is not None,
            "first": _url("/submissions", project=project, state=chosen),
            "next": found.next and _url("/submissions", project=project, state=chosen, before=found.next),
            "json": _url("/api/v1/submissions", project=project, state=chosen),
        }

    return pages.answer(request, "submissions.html", values, live=True)


@get("/submissions/{submission:str}", sync_to_thread=True)
def submission_page(request: AnyRequest, pages: NamedDependency[Pages], submission: FromPath[str]) -> Response[bytes]:
    if not keys.SHA256.fullmatch(submission):
        raise Missing("A submission's id is 64 hexadecimal digits.")
    if pages.desk.read(lambda it: queries.submission(it, submission)) is not None:
        return pages.answer(request, "submission.html", lambda it: _announced(it, submission), live=True)
    # Of what the log has not announced, no data version tells when it changes: no ETag.
    status = _received(pages.public, submission)
    return pages.renderer.page(pages.renderer.render("submission.html", _submission(status, None, [])))


def _received(public: Bucket, submission_id: str) -> SubmissionStatus:
    """A submission that the log has not announced yet, or that has not been loaded from it."""
    try:
        submission = msgspec.json.decode(public.read(keys.submission(submission_id)), type=Submission)
    except FileNotFoundError as error:
        raise Missing(f"No submission has the id {submission_id}.") from error
    return SubmissionStatus(
        id=submission.id,
        state="received",
        project=submission.project,
        format="" if submission.format == "auto" else submission.format,
        sha256=submission.blob.sha256,
        size_bytes=submission.blob.size_bytes,
        media_type=submission.blob.media_type,
        received=submission.received,
    )


def _announced(snapshot: Snapshot, submission_id: str) -> Values:
    status = queries.submission(snapshot, submission_id)
    if status is None or status.seq is None:
        raise Missing(f"No submission has the id {submission_id}.")
    runs = summaries.runs_of_submission(snapshot, status.seq, RUNS_LISTED)
    return _submission(status, summaries.progress(snapshot, status.seq), runs)


def _submission(status: SubmissionStatus, progress: summaries.Progress | None, runs: list[summaries.RunLine]) -> Values:
    return {
        "here": "submissions",
        "one": status,
        "final": status.state in ("accepted", "rejected", "quarantined"),
        "announced": progress and progress.announced,
        "finished": progress and progress.finished,
        "runs": runs,
        "blob": "/" + keys.blob(status.sha256),
        "record": "/" + keys.submission(status.id),
    }


# --- static files, errors, routes ---


@get("/static/{digest:str}/{name:path}", sync_to_thread=False)
def static_file(pages: NamedDependency[Pages], digest: FromPath[str], name: FromPath[str]) -> Response[bytes]:
    found = pages.renderer.asset(digest, name.lstrip("/"))
    if found is None:
        raise Missing("No such file.")
    return found


def page_routes(source: DashboardSource) -> list[Any]:
    """The handlers of all pages and static files, to be mounted at the root."""
    pages = Pages(source)
    return [
        Router(
            path="/",
            route_handlers=[
                overview,
                project_page,
                runs_page,
                run_page,
                series_page,
                submissions_page,
                submission_page,
                static_file,
            ],
            dependencies={"pages": Provide(lambda: pages, sync_to_thread=False)},
            exception_handlers={
                Missing: lambda _, error: pages.message("Not found", str(error), 404),
                Refused: lambda _, error: pages.message("That did not work", str(error), error.status),
                ValidationException: lambda _, error: pages.message("That did not work", _reason(error), 400),
                Unavailable: lambda _, error: pages.message(
                    "Not now", "Something that is needed failed. Please try again in a moment.", 503
                ),
            },
            include_in_schema=False,
        )
    ]


def _url(path: str, **parameters: str) -> str:
    """`path` with those parameters that are not empty."""
    query = urlencode({name: value for name, value in parameters.items() if value})
    return f"{path}?{query}" if query else path


def _formats(url: str, what: str = "") -> list[tuple[str, str]]:
    """Links to the same rows as JSON, CSV and Arrow."""
    path, mark, query = url.partition("?")
    kinds = (("JSON", ""), ("CSV", ".csv"), ("Arrow", ".arrow"))
    return [(f"{what} as {name}" if what else name, f"{path}{suffix}{mark}{query}") for name, suffix in kinds]


def _reason(error: ValidationException) -> str:
    """The first parameter that is wrong."""
    first = next((one for one in error.extra or [] if isinstance(one, dict)), {})
    return f"{first.get('key', 'The address')}: {first.get('message', 'not understood')}"
