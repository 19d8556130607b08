"""Lists that can be had as feeds: which rows, under which title and id, and the page that shows the same.

A feed's id is made of its filter, not of its address, so that it stays the same wherever it is read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from dashboard_api import answers, display, feed_entries
from dashboard_api.answers import Representation
from dashboard_api.database import Snapshot
from dashboard_api.feeds import Feed, FeedEntry, render_atom, render_json_feed
from dashboard_api.filters import Query, RunFilter, SubmissionFilter
from dashboard_api.rendering import Fragments
from dashboard_api.resources import Page
from feed.atom import feed_id, legal
from infra.bucket import Bucket
from schemas.identity import digest24

API = "/api/v1"
_TITLE_LENGTH = 200

Entries = Callable[[Snapshot, Bucket, Fragments, Sequence[Any], str], list[FeedEntry]]

_MAKE: dict[str, Entries] = {
    "runs": feed_entries.run_entries,
    "submissions": feed_entries.submission_entries,
}
_RENDER = {answers.ATOM: render_atom, answers.JSON_FEED: render_json_feed}


@dataclass(frozen=True)
class View:
    """A filtered list. `kind` is `runs` or `submissions`: the list's name in its addresses."""

    kind: str
    query: Query

    @classmethod
    def of(cls, filter: RunFilter | SubmissionFilter) -> "View":
        return cls("runs" if isinstance(filter, RunFilter) else "submissions", filter.query())

    @property
    def title(self) -> str:
        """`Runs: project fastlib, branch main`."""
        told = ", ".join(_told(name, value) for name, value in self.query)
        return f"{self.kind.capitalize()}: {told}" if told else f"All {self.kind}"

    @property
    def page(self) -> str:
        """The address, below the server's, of the page that shows the same."""
        return address(f"/{self.kind}", self.query)

    def address(self, representation: Representation, *more: tuple[str, str]) -> str:
        """The list's address in a representation, below the server's."""
        return address(f"{API}/{self.kind}.{representation.name}", [*self.query, *more])


@dataclass(frozen=True)
class Place:
    """Where a page of a feed is read. `base` is the server's address, without a slash at its end; `limit` and `before`
    are the parameters of those names, if they were given."""

    base: str
    view: View
    representation: Representation
    limit: Query
    before: Query

    @property
    def here(self) -> str:
        return self.base + self.view.address(self.representation, *self.limit, *self.before)

    @property
    def first(self) -> str:
        return self.base + self.view.address(self.representation, *self.limit)

    def next(self, cursor: str | None) -> str:
        """The address of the page after this one; "" if there is none."""
        if cursor is None:
            return ""
        return self.base + self.view.address(self.representation, *self.limit, ("before", cursor))

    def links(self, cursor: str | None) -> str:
        """The Link header (RFC 8288)."""
        places = [(self.first, "first"), (self.next(cursor), "next")]
        return ", ".join(f'<{place}>; rel="{rel}"' for place, rel in places if place)

    def render(self, snapshot: Snapshot, public: Bucket, fragments: Fragments, page: Page[Any]) -> bytes:
        """The document of the page's rows."""
        kind, query = self.view.kind, self.view.query
        id = feed_id(f"rendered-{kind}", feed_entries.authority(snapshot))
        feed = Feed(
            id=f"{id}:{digest24(query)}" if query else id,
            title=display.cut(legal(f"Runfeed: {self.view.title}"), _TITLE_LENGTH),
            page=self.base + self.view.page,
            address=self.here,
            first=self.first,
            next=self.next(page.next),
            entries=_MAKE[kind](snapshot, public, fragments, page.items, self.base),
        )
        return _RENDER[self.representation](feed)


def _told(name: str, value: str) -> str:
    return "without repeats" if name == "duplicates" else f"{name} {display.cut(value, 60)}"


def address(path: str, query: Query) -> str:
    """`path` with those parameters."""
    return f"{path}?{urlencode(query)}" if query else path
