"""The web pages: addresses, their parameters, and how each page is answered and cached under the data version.

Come in: requests of people and their browsers. Goes out: HTML that works without JavaScript; the graph's data comes
from the JSON API. What a page shows is made in `page_values`, how it looks in `templates/`.
"""

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from litestar import Response, Router, get
from litestar.di import NamedDependency, Provide
from litestar.exceptions import ValidationException
from litestar.params import FromPath, QueryParameter

from dashboard_api import page_values, quality_page, queries
from dashboard_api.answers import Answer, AnswerCache, matches
from dashboard_api.database import Snapshot
from dashboard_api.desk import AnyRequest, DashboardSource, Desk, received
from dashboard_api.filters import RunFilter, SubmissionFilter, parsed_labels, parsed_time
from dashboard_api.quality import Watch
from dashboard_api.rendering import Renderer
from infra.bucket import Bucket
from schemas import keys
from schemas.errors import Refused, Unavailable
from schemas.records import Project

_CACHE_BYTES = 8 << 20
_Text = Annotated[str, QueryParameter(max_length=200)]
_Filter = Annotated[str, QueryParameter(max_length=2000)]
"""As long as any value that rows may have: a feed leads to the page of its filter."""
_Texts = Annotated[list[str] | None, QueryParameter()]
_Cursor = Annotated[str | None, QueryParameter(max_length=2000)]


class Pages:
    """What every page needs; one per app."""

    def __init__(self, source: DashboardSource) -> None:
        self.renderer = Renderer()
        self.cache = AnswerCache(_CACHE_BYTES)
        self.desk = Desk(source, self.cache, dict)
        self.watch = Watch(self.desk)

    @property
    def public(self) -> Bucket:
        return self.desk.source.public

    def answer(
        self,
        request: AnyRequest,
        template: str,
        values: Callable[[Snapshot], page_values.Values],
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
                made = Answer(self.renderer.render(template, self.common() | values(snapshot)))
                self.cache.put(key, made)
            return self.renderer.page(made.body, etag=etag)

        return self.desk.read(respond)

    def common(self) -> page_values.Values:
        """What the frame of every page that shows data holds."""
        return {"outcomes": "/" + keys.feed_head(keys.outcomes_log(self.desk.source.database().lake_version))}

    def message(self, title: str, detail: str, status: int) -> Response[bytes]:
        """A page that says why there is no other."""
        body = self.renderer.render("message.html", {"here": "", "title": title, "detail": detail})
        return self.renderer.page(body, status=status)


# --- overview and projects ---


@get("/", sync_to_thread=True)
def overview(request: AnyRequest, pages: NamedDependency[Pages]) -> Response[bytes]:
    return pages.answer(request, "overview.html", page_values.overview, live=True)


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
    stored = _stored_record(request, pages.public, project)
    if stored is not None:
        return stored
    record, version = _project_record(pages.public, project)
    return pages.answer(
        request,
        "project.html",
        lambda snapshot: page_values.project(snapshot, record, text=q.strip(), environment=environment, after=after),
        live=True,
        besides=version,
    )


def _stored_record(request: AnyRequest, public: Bucket, name: str) -> Response[bytes] | None:
    """The bucket's object `projects/<project>.json`, for whoever mirrors; a browser gets the page of that name."""
    key = f"projects/{name}"
    if not name.endswith(".json") or not keys.is_public(key) or "text/html" in request.headers.get("accept", ""):
        return None
    try:
        return Response(public.read(key), media_type="application/json", headers={"Cache-Control": "no-cache"})
    except FileNotFoundError:
        return None


def _project_record(public: Bucket, project: str) -> tuple[Project, str]:
    """What the project says of itself, and a version of that; silent if it says nothing."""
    if not keys.PROJECT.fullmatch(project) or ".." in project:
        return page_values.silent(project), ""
    try:
        body, etag = public.read_versioned(keys.project(project))
    except FileNotFoundError:
        return page_values.silent(project), ""
    return msgspec.json.decode(body, type=Project), "".join(letter for letter in etag if letter.isalnum())


# --- runs ---


@get("/runs", sync_to_thread=True)
def runs_page(
    *,
    request: AnyRequest,
    pages: NamedDependency[Pages],
    project: _Filter = "",
    commit: _Filter = "",
    branch: _Filter = "",
    environment: _Filter = "",
    label: _Texts = None,
    since: _Filter = "",
    until: _Filter = "",
    format: _Filter = "",
    series: _Filter = "",
    duplicates: Annotated[bool, QueryParameter()] = True,
    before: _Cursor = None,
) -> Response[bytes]:
    """The parameters of the API's list; an empty field of the form does not matter."""
    filter = RunFilter(
        project=project.strip() or None,
        commit=commit.strip() or None,
        branch=branch.strip() or None,
        environment=environment.strip() or None,
        labels=_labels(label),
        since=parsed_time(since.strip() or None, "since"),
        until=parsed_time(until.strip() or None, "until"),
        format=format.strip() or None,
        series=series.strip() or None,
        duplicates=duplicates,
    )
    return pages.answer(request, "runs.html", lambda it: page_values.runs(it, filter, before))


def _labels(given: list[str] | None) -> dict[str, str]:
    return parsed_labels([label.strip() for label in given or () if label.strip()])


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
    return pages.answer(
        request, "run.html", lambda it: page_values.run(it, run, status=status, text=q.strip(), after=after)
    )


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
    return pages.answer(request, "series.html", lambda it: page_values.series(it, series, since, until, branch))


# --- submissions ---


@get("/submissions", sync_to_thread=True)
def submissions_page(
    *,
    request: AnyRequest,
    pages: NamedDependency[Pages],
    project: _Filter = "",
    states: Annotated[list[str] | None, QueryParameter(name="state")] = None,
    format: _Filter = "",
    label: _Texts = None,
    before: _Cursor = None,
) -> Response[bytes]:
    filter = SubmissionFilter(
        project=project.strip() or None,
        states=[state for state in states or () if state],
        format=format.strip() or None,
        labels=_labels(label),
    )
    return pages.answer(request, "submissions.html", lambda it: page_values.submissions(it, filter, before), live=True)


@get("/submissions/{submission:str}", sync_to_thread=True)
def submission_page(request: AnyRequest, pages: NamedDependency[Pages], submission: FromPath[str]) -> Response[bytes]:
    if not keys.SHA256.fullmatch(submission):
        raise page_values.Missing("A submission's id is 64 hexadecimal digits.")
    if pages.desk.read(lambda it: queries.submission(it, submission)) is not None:
        return pages.answer(request, "submission.html", lambda it: page_values.announced(it, submission), live=True)
    # Of what the log has not announced, no data version tells when it changes: no ETag.
    try:
        status = received(pages.public, submission)
    except Refused as error:
        raise page_values.Missing(f"No submission has the id {submission}.") from error
    values = pages.common() | page_values.submission(status, None, [])
    return pages.renderer.page(pages.renderer.render("submission.html", values))


# --- quality of the pipeline ---


@get("/quality", sync_to_thread=True)
def quality(pages: NamedDependency[Pages]) -> Response[bytes]:
    """It changes with the clock, so it has no ETag."""
    values = pages.common() | quality_page.values(pages.watch.quality())
    return pages.renderer.page(pages.renderer.render("quality.html", values))


# --- static files, errors, routes ---


@get("/static/{digest:str}/{name:path}", sync_to_thread=False)
def static_file(pages: NamedDependency[Pages], digest: FromPath[str], name: FromPath[str]) -> Response[bytes]:
    found = pages.renderer.asset(digest, name.lstrip("/"))
    if found is None:
        raise page_values.Missing("No such file.")
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
                quality,
                static_file,
            ],
            dependencies={"pages": Provide(lambda: pages, sync_to_thread=False)},
            exception_handlers={
                page_values.Missing: lambda _, error: pages.message("Not found", str(error), 404),
                Refused: lambda _, error: pages.message("That did not work", str(error), error.status),
                ValidationException: lambda _, error: pages.message("That did not work", _reason(error), 400),
                Unavailable: lambda _, error: pages.message(
                    "Not now", "Something that is needed failed. Please try again in a moment.", 503
                ),
            },
            include_in_schema=False,
        )
    ]


def _reason(error: ValidationException) -> str:
    """The first parameter that is wrong."""
    first = next((one for one in error.extra or [] if isinstance(one, dict)), {})
    return f"{first.get('key', 'The address')}: {first.get('message', 'not understood')}"
