"""A source that is anybody's Atom or RSS feed: its enclosures, each once, back through its archive when it is new.

A feed promises neither order nor completeness, so what was worked off is remembered by entry and URL. It says nothing
of where a result came from either: the submissions have no context but the feed.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from ingest.describe import Description, checked_description
from ingest.source.feed import Enclosure, Feed
from ingest.source.progress import MAX_SEEN, Progress
from ingest.source.take import Taker, Unreached, Wanted
from schemas.errors import Refused
from schemas.records import Origin, Trust

MAX_ARCHIVES = 50
"""Documents of a feed's archive that are gone back through at a time."""

MAX_FAILURES = 3
"""Files in a row that are not to be had end a look: the server may be down."""

_NOT_RESULTS = ("image/", "audio/", "video/")
_LONGEST_ID = 500
_RUNFEED = "urn:x-runfeed:"


@dataclass(frozen=True)
class FeedSource:
    """A look at a feed. `read` fetches and reads an archive document of it."""

    progress: Progress
    taker: Taker
    read: Callable[[str], Feed]

    def work_off(self, newest: Feed) -> None:
        """Take what is new in `newest`, and in the documents before it where that may be the case."""
        _check_no_view(self.progress.source.url, newest)
        state = self.progress.state
        seen = set(state.seen)
        unknown = all(_item(enclosure) not in seen for enclosure in newest.enclosures)
        if not state.feed:
            id = newest.id if 0 < len(newest.id) <= _LONGEST_ID else self.progress.source.url
            self.progress.change(kind="feed", feed=id, older=newest.older, archives=0)
        elif not state.older and unknown and newest.enclosures:  # it went on faster than we looked
            self.progress.change(older=newest.older, archives=0)
        self._take_all(newest, archive=False)
        self._go_back()

    def _go_back(self) -> None:
        """Through the archive: all of it the first time, later on until a document has something that we have seen."""
        progress = self.progress
        while older := progress.state.older:
            progress.step()
            document = self.read(older)
            seen = set(progress.state.seen)
            met = progress.state.whole and any(_item(enclosure) in seen for enclosure in document.enclosures)
            self._take_all(document, archive=True)
            archives = progress.state.archives + 1
            further = "" if met or archives >= MAX_ARCHIVES else document.older
            progress.change(older=further, archives=archives)
        progress.change(whole=True)

    def _take_all(self, feed: Feed, *, archive: bool) -> None:
        """Each enclosure of a document, whatever becomes of the others; Unreached at the end if some may do later."""
        seen = set(self.progress.state.seen)
        later: Unreached | None = None
        in_a_row = 0
        for enclosure in feed.enclosures:
            item = _item(enclosure)
            if item in seen:
                continue
            try:
                self._take(enclosure)
                in_a_row = 0
            except Refused as error:
                self.progress.refused(enclosure.entry, enclosure.url, error)
            except Unreached as error:
                if self.progress.may_do_later(item, enclosure.entry, enclosure.url, error):
                    later, in_a_row = error, in_a_row + 1
                    if error.seconds or in_a_row >= MAX_FAILURES:
                        break
                    continue
            seen.add(item)
            self.progress.forget_tries(item)
            remembered = [item, *self.progress.state.seen] if archive else [*self.progress.state.seen, item]
            self.progress.change(seen=remembered[-MAX_SEEN:])  # what the newest document has stays
            self.progress.step()
        if later is not None:
            raise later

    def _take(self, enclosure: Enclosure) -> None:
        source, feed = self.progress.source, self.progress.state.feed
        if enclosure.media_type.startswith(_NOT_RESULTS):
            self.progress.skipped(enclosure.entry, f"{enclosure.media_type} is no result")
            return
        wanted = Wanted(
            url=enclosure.url,
            description=checked_description(Description(project=source.project or "default", format=source.format)),
            trust=Trust(kind="source", name=feed),
            origin=Origin(feed=feed, id=enclosure.entry, url=enclosure.url),
            max_bytes=source.max_bytes,
        )
        self.progress.took(enclosure.entry, self.taker.take(wanted))


def _item(enclosure: Enclosure) -> str:
    """What an enclosure is remembered by."""
    return hashlib.sha256(f"{enclosure.entry}\n{enclosure.url}".encode()).hexdigest()[:16]


def _check_no_view(url: str, feed: Feed) -> None:
    """Refused for a view of a Runfeed log: who took its files would lose what was said of them, and where they are
    from, so two that took from each other's views would take their own back."""
    if feed.id.startswith(_RUNFEED) or any(one.entry.startswith(_RUNFEED) for one in feed.enclosures):
        expected = "the log itself, …/feeds/submissions/current.atom (--only PROJECT takes some of it)"
        raise Refused(url, expected, "a view of a Runfeed log", status=422)
