"""Where the API's requests are answered, and what holds for all of them.

From a request to a response: snapshot, 304 if the client has it, cache, query, representation, headers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

import duckdb
import msgspec
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.response import Stream
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from dashboard_api import answers
from dashboard_api.answers import Answer, AnswerCache, Representation
from dashboard_api.database import Database, Snapshot
from dashboard_api.export import Exported
from dashboard_api.paging import Listing
from infra.bucket import Bucket
from schemas import keys
from schemas.errors import Refused, Unavailable
from schemas.records import Submission, SubmissionStatus

HEADERS = {"Cache-Control": "no-cache", "Vary": "Accept", "X-Content-Type-Options": "nosniff"}

# FatalException: the loader opens the file anew after it.
_CANNOT_ANSWER = (duckdb.ConnectionException, duckdb.IOException, duckdb.OutOfMemoryException, duckdb.FatalException)

T = TypeVar("T")
AnyRequest = Request[Any, Any, Any]
Facts = Mapping[str, str | int | float | bool | None]


class DashboardSource(Protocol):
    """Where answers come from. `database` is asked anew for every request: it may be swapped for another."""

    public: Bucket

    def database(self) -> Database: ...


@dataclass(frozen=True)
class Desk:
    """Where requests are answered: the data, and the answers already made."""

    source: DashboardSource
    cache: AnswerCache
    status_facts: Callable[[], Facts]

    def rows(
        self, request: AnyRequest, make: Callable[[Snapshot], Listing[Any]], *, live: bool = False
    ) -> Response[Any]:
        """A page of rows in the representation that the request asks for. `live`: they show unfinished submissions."""

        def answer(snapshot: Snapshot, representation: Representation) -> Answer:
            listing = make(snapshot)
            if representation is answers.ARROW:
                table, cursor = listing.arrow(snapshot)
                return Answer(answers.encoded_arrow(table), cursor)
            page = listing.page(snapshot)
            if representation is answers.CSV:
                return Answer(answers.encoded_csv(listing.item.__struct_fields__, page.items), page.next)
            return Answer(answers.encoded_json(page), page.next)

        return self._answered(request, _asked_for(request), answer, live)

    def one(self, request: AnyRequest, make: Callable[[Snapshot], Any], *, live: bool = False) -> Response[Any]:
        """One thing as JSON."""

        def answer(snapshot: Snapshot, representation: Representation) -> Answer:
            return Answer(answers.encoded_json(make(snapshot)))

        answers.chosen(request.headers.get("accept"), [answers.JSON])
        return self._answered(request, answers.JSON, answer, live)

    def file(
        self,
        request: AnyRequest,
        representation: Representation,
        filename: str,
        make: Callable[[Snapshot], Exported],
    ) -> Response[Any]:
        """A file, however large, as attachment. The snapshot is let go before the first byte is sent."""

        def respond(snapshot: Snapshot) -> Response[Any]:
            headers = HEADERS | {"ETag": answers.make_etag(snapshot.version, representation)}
            if answers.matches(request.headers.get("if-none-match"), headers["ETag"]):
                return Response(None, status_code=304, headers=headers)
            exported = make(snapshot)
            headers["Content-Length"] = str(exported.size_bytes)
            headers["Content-Disposition"] = f'attachment; filename="{quote(filename)}"'
            told = {"X-Runfeed-Left-Out": exported.left_out, "X-Runfeed-Parts": exported.parts}
            headers |= {name: _in_header(text) for name, text in told.items() if text}
            return Stream(exported, media_type=representation.media_type, headers=headers)

        return self.read(respond)

    def without_etag(self, request: AnyRequest, thing: Any) -> Response[Any]:
        """One thing as JSON, of which no data version tells when it changes."""
        answers.chosen(request.headers.get("accept"), [answers.JSON])
        return Response(answers.encoded_json(thing), media_type=answers.JSON.media_type, headers=HEADERS)

    def _answered(
        self,
        request: AnyRequest,
        representation: Representation,
        answer: Callable[[Snapshot, Representation], Answer],
        live: bool,
    ) -> Response[Any]:
        def respond(snapshot: Snapshot) -> Response[Any]:
            version = snapshot.submissions_version if live else snapshot.version
            headers = HEADERS | {"ETag": answers.make_etag(version, representation)}
            if answers.matches(request.headers.get("if-none-match"), headers["ETag"]):
                return Response(None, status_code=304, headers=headers)
            key = (request.url.path, tuple(sorted(request.query_params.multi_items())), representation.name, version)
            made = self.cache.get(key)
            if made is None:
                made = answer(snapshot, representation)
                self.cache.put(key, made)
            if made.next is not None:
                headers["Link"] = f'<{_next_url(request, made.next)}>; rel="next"'
            if representation is not answers.JSON:
                filename = request.url.path.rsplit("/", 1)[-1].split(".")[0]
                headers["Content-Disposition"] = f'attachment; filename="{quote(filename)}.{representation.name}"'
            return Response(made.body, media_type=representation.media_type, headers=headers)

        return self.read(respond)

    def read(self, work: Callable[[Snapshot], T]) -> T:
        """`work` on a snapshot of the current database; once more if what it reads was replaced meanwhile: the database
        by another, or a part that is read in place by one that needed its room."""
        try:
            try:
                with self.source.database().snapshot() as snapshot:
                    return work(snapshot)
            except (duckdb.ConnectionException, duckdb.IOException):
                with self.source.database().snapshot() as snapshot:
                    return work(snapshot)
        except _CANNOT_ANSWER as error:
            raise Unavailable(f"the database cannot answer now: {error}") from error


def _in_header(text: str, limit: int = 2000) -> str:
    """Text of strangers as a header may hold it: printable ASCII, everything else escaped."""
    escaped = text.encode("unicode_escape").decode()
    return escaped if len(escaped) <= limit else escaped[: limit - 3] + "..."


def _asked_for(request: AnyRequest) -> Representation:
    """By the path's suffix, which only routes of `_LISTS` have, else by the Accept header."""
    for representation in answers.ALL:
        if request.scope["path_template"].endswith("." + representation.name):
            return representation
    return answers.chosen(request.headers.get("accept"), answers.ALL)


def _next_url(request: AnyRequest, cursor: str) -> str:
    """The same request with the cursor in the place of the one it had."""
    name = "before" if "before" in request.route_handler.parsed_fn_signature.parameters else "after"
    query = [pair for pair in request.query_params.multi_items() if pair[0] != name]
    return f"{quote(request.url.path)}?{urlencode([*query, (name, cursor)])}"


def refuse_unknown_parameters(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A guard: every query parameter is one that the handler declares, and only lists come more than once."""
    declared = {
        getattr(parameter.kwarg_definition, "name", None) or name: parameter
        for name, parameter in handler.parsed_fn_signature.parameters.items()
        if name not in ("request", "desk") and name not in connection.path_params
    }
    for name, values in connection.query_params.dict().items():
        if name not in declared:
            known = ", ".join(sorted(declared)) or "no parameters"
            raise Refused(f"parameter {name[:80]!r}", f"one of {known}" if declared else known, "an unknown parameter")
        parameter = declared[name]
        is_list = any(one.is_non_string_collection for one in (parameter, *parameter.inner_types))
        if len(values) > 1 and not is_list:
            raise Refused(f"parameter {name!r}", "one value", str(len(values)))


class ReadableFromEverywhere(ASGIMiddleware):
    """CORS: any web page may read the API, errors too, since everybody may and no cookie matters."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        async def send_allowed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableScopeHeaders.from_message(message)
                headers["Access-Control-Allow-Origin"] = "*"
                headers["Access-Control-Expose-Headers"] = (
                    "ETag, Link, Retry-After, X-Runfeed-Left-Out, X-Runfeed-Parts"
                )
                if scope.get("method") == "OPTIONS":
                    headers["Access-Control-Allow-Methods"] = "GET"
                    headers["Access-Control-Allow-Headers"] = "Accept, If-None-Match"
                    headers["Access-Control-Max-Age"] = "86400"
            await send(message)

        await next_app(scope, receive, send_allowed)


def received(public: Bucket, submission_id: str) -> SubmissionStatus:
    """From the submission itself, which the log has not announced yet; Refused 404 if there is none."""
    try:
        body = public.read(keys.submission(submission_id))
    except FileNotFoundError as error:
        raise Refused("submission", "the id of a submission", repr(submission_id), status=404) from error
    submission = msgspec.json.decode(body, type=Submission)
    return SubmissionStatus(
        id=submission.id,
        state="received",
        project=submission.project,
        format="" if submission.format == "auto" else submission.format,
        sha256=submission.blob.sha256,
        size_bytes=submission.blob.size_bytes,
        media_type=submission.blob.media_type,
        received=submission.received,
        blob_url="/" + keys.blob(submission.blob.sha256),
    )
