"""Where the API's requests are answered, and what holds for all of them.

From a request to a response: snapshot, 304 if the client has it, cache, query, representation, headers.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
from dashboard_api.feed_views import Place, View
from dashboard_api.paging import Listing
from dashboard_api.queries import with_urls
from dashboard_api.rendering import Fragments
from feed.withdrawals import read_withdrawal
from infra.bucket import Bucket
from infra.compression import LEAST_BYTES, coding_etag, coding_for, encoded
from schemas import keys
from schemas.errors import Refused, Unavailable
from schemas.records import Submission, SubmissionStatus

HEADERS = {"Cache-Control": "no-cache", "Vary": "Accept", "X-Content-Type-Options": "nosniff"}
FEED_HEADERS = {
    "Cache-Control": "public, max-age=60",
    "Vary": "Accept, Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox",
}
"""Readers ask every few minutes, many of them for the same."""

# FatalException: the loader opens the file anew after it.
_CANNOT_ANSWER = (duckdb.ConnectionException, duckdb.IOException, duckdb.OutOfMemoryException, duckdb.FatalException)

_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")

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
    public_url: str = ""
    """The server's address for people; empty: the one that the request was sent to."""
    fragments: Fragments = field(default_factory=Fragments)

    def rows(
        self,
        request: AnyRequest,
        make: Callable[[Snapshot], Listing[Any]],
        *,
        live: bool = False,
        view: View | None = None,
    ) -> Response[Any]:
        """A page of rows in the representation that the request asks for. `live`: they show unfinished submissions;
        `view`: they can be had as a feed."""
        asked = _asked_for(request, (*answers.ALL, *answers.FEEDS) if view else answers.ALL)
        if view and asked in answers.FEEDS:
            parameters = list(request.query_params.multi_items())
            limit, before = ([pair for pair in parameters if pair[0] == name] for name in ("limit", "before"))
            return self._feed(request, make, Place(self._base(request), view, asked, limit, before), live=live)

        def answer(snapshot: Snapshot, representation: Representation) -> Answer:
            listing = make(snapshot)
            if representation is answers.ARROW:
                table, cursor = listing.arrow(snapshot)
                return Answer(answers.encoded_arrow(table), cursor)
            page = listing.page(snapshot)
            if representation is answers.CSV:
                return Answer(answers.encoded_csv(listing.item.__struct_fields__, page.items), page.next)
            return Answer(answers.encoded_json(page), page.next)

        return self._answered(request, asked, answer, live)

    def _feed(
        self, request: AnyRequest, make: Callable[[Snapshot], Listing[Any]], place: Place, *, live: bool
    ) -> Response[Any]:
        """The same as a feed, compressed where that is wanted: each coding has its own ETag."""
        known, accepted = request.headers.get("if-none-match"), request.headers.get("accept-encoding")

        def respond(snapshot: Snapshot) -> Response[Any]:
            version = snapshot.submissions_version if live else snapshot.version
            plain = answers.make_etag(f"{version}-{self.fragments.digest}", place.representation)
            key = (place.here, plain)
            made = self.cache.get(key)
            usual = coding_etag(plain, coding_for(accepted, LEAST_BYTES))  # but a small body is sent as it is
            if made is None and answers.matches(known, usual):
                return Response(None, status_code=304, headers=FEED_HEADERS | {"ETag": usual})
            if made is None:
                page = make(snapshot).page(snapshot)
                made = Answer(place.render(snapshot, self.source.public, self.fragments, page), page.next)
                self.cache.put(key, made)
            coding = coding_for(accepted, len(made.body))
            headers = FEED_HEADERS | {"ETag": coding_etag(plain, coding), "Link": place.links(made.next)}
            if answers.matches(known, headers["ETag"]):
                return Response(None, status_code=304, headers=headers)
            if coding == "identity":
                return Response(made.body, media_type=place.representation.media_type, headers=headers)
            packed = self.cache.get((*key, coding)) or Answer(encoded(made.body, coding))
            self.cache.put((*key, coding), packed)
            headers["Content-Encoding"] = coding
            return Response(packed.body, media_type=place.representation.media_type, headers=headers)

        return self.read(respond)

    def _base(self, request: AnyRequest) -> str:
        """The server's address, without a slash at its end; Refused 400 if the request names none that can be one."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host = request.headers.get("host", "")
        if not _HOST.fullmatch(host):
            raise Refused("Host", "the name of this server", repr(host[:80]))
        return f"{request.url.scheme}://{host}"

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


def _asked_for(request: AnyRequest, offered: Sequence[Representation]) -> Representation:
    """By the path's suffix, which only lists' routes have, else by the Accept header."""
    path: str = request.scope["path_template"]
    for representation in sorted(offered, key=lambda one: -len(one.name)):  # `feed.json` ends as `json` does
        if path.endswith("." + representation.name):
            return representation
    return answers.chosen(request.headers.get("accept"), offered)


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
    """From the submission itself, which the log has not announced yet; Refused 404 if there is none.

    Its blob may be withdrawn all the same: then nobody gets it, and the submission will be announced as withdrawn.
    """
    try:
        body = public.read(keys.submission(submission_id))
    except FileNotFoundError as error:
        raise Refused("submission", "the id of a submission", repr(submission_id), status=404) from error
    submission = msgspec.json.decode(body, type=Submission)
    withdrawal = read_withdrawal(public, submission.blob.sha256)
    status = SubmissionStatus(
        id=submission.id,
        state="withdrawn" if withdrawal else "received",
        project=submission.project,
        format="" if submission.format == "auto" else submission.format,
        sha256=submission.blob.sha256,
        size_bytes=submission.blob.size_bytes,
        media_type=submission.blob.media_type,
        received=submission.received,
        withdrawn=withdrawal.withdrawn if withdrawal else None,
        reason=withdrawal.reason if withdrawal else "",
    )
    return with_urls(status)
