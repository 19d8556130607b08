"""One look at a source: ask for its feed unless nothing has changed, tell what it is, work off what is new."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from feed.atom import Document, parse_document
from infra.fetch import Fetched, unwanted
from ingest.source.enclosures import FeedSource
from ingest.source.feed import Feed, read_feed
from ingest.source.log import LogSource
from ingest.source.pace import next_look, next_try, wished
from ingest.source.progress import Enough, Progress
from ingest.source.take import Ending, Taker, Unreached
from schemas.errors import Refused, Unavailable

_LONGEST_ERROR = 1000
_LONGEST_VALIDATOR = 1000


@dataclass(frozen=True)
class Look:
    """A look at the source of `progress`, whoever asks for it."""

    progress: Progress
    taker: Taker
    every_seconds: float
    chance: Callable[[], float] = random.random

    def look(self) -> str:
        """Look once, and write down how far it came and when to look again. Why it came to nothing, or "".

        SwapLost if another process looks at this source, or it was removed. What fails on our side is raised; what
        fails out there is the source's error.
        """
        progress = self.progress
        progress.claim()
        try:
            wished_seconds = self._worked_off()
        except Enough:
            progress.change(failures=0, last_error="")
            progress.save(next_look=progress.clock())
            return ""
        except Ending:
            progress.save(next_look=progress.clock())
            raise
        except (Refused, Unreached) as error:
            failures, why = progress.state.failures + 1, str(error)[:_LONGEST_ERROR]
            asked = error.seconds if isinstance(error, Unreached) else 0.0
            progress.change(failures=failures, last_error=why)
            progress.save(next_look=next_try(progress.clock(), self.every_seconds, failures, asked, self.chance()))
            return why
        progress.change(failures=0, last_error="")
        progress.save(next_look=next_look(progress.clock(), self.every_seconds, wished_seconds, self.chance()))
        return ""

    def _worked_off(self) -> float:
        """After how many seconds the server would like to be asked again, once all that is new has been worked off."""
        state, url = self.progress.state, self.progress.source.url
        conditions = {"If-None-Match": state.etag, "If-Modified-Since": state.modified}
        answer = self._asked(url, {name: value for name, value in conditions.items() if value})
        if answer.status == 304:
            return wished(answer.headers, 0.0)
        document = _log_document(answer)
        if state.kind and state.kind != ("log" if document else "feed"):
            expected = {"log": "a Runfeed log", "feed": "a feed that is no Runfeed log"}[state.kind]
            raise Refused(url, f"{expected}, as it was", "another feed", status=422)
        feed_seconds = 0.0
        # What the last document had is not worked off until this one is.
        self.progress.change(etag="", modified="")
        if document:
            LogSource(self.progress, self.taker, document, answer.url).work_off()
        else:
            feed = _feed(answer)
            feed_seconds = feed.every_seconds
            FeedSource(self.progress, self.taker, lambda older: _feed(self._asked(older, {}))).work_off(feed)
        self.progress.change(etag=_validator(answer, "etag"), modified=_validator(answer, "last-modified"))
        return wished(answer.headers, feed_seconds)

    def _asked(self, url: str, conditions: dict[str, str]) -> Fetched:
        headers = {
            "Accept": "application/atom+xml, application/rss+xml, application/xml;q=0.9, */*;q=0.5",
            **conditions,
        }
        try:
            answer = self.taker.fetcher.get(url, headers)
        except Unavailable as error:
            raise Unreached(error) from error
        if answer.status != 200 and not (answer.status == 304 and conditions):
            unusable = unwanted(answer.url, answer.status, answer.headers)
            raise unusable if isinstance(unusable, Refused) else Unreached(unusable)
        return answer


def _log_document(answer: Fetched) -> Document | None:
    """The answer as a document of a Runfeed log, or None if it is something else."""
    try:
        return parse_document(answer.body)
    except Refused:
        return None


def _validator(answer: Fetched, name: str) -> str:
    """What may be sent back as it came; "" for what no request can carry."""
    value = answer.headers.get(name, "")
    return value if value.isascii() and value.isprintable() and len(value) <= _LONGEST_VALIDATOR else ""


def _feed(answer: Fetched) -> Feed:
    return read_feed(answer.body, url=answer.url, content_type=answer.headers.get("content-type", ""))
