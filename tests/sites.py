"""A Runfeed in one process that publishes over HTTP and follows others, for tests; nothing happens by itself."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import msgspec

from feed.announceable import describe_submission
from feed.atom import feed_id
from infra.fetch import Fetcher, user_agent
from infra.settings import Settings
from ingest.source.look import Look
from ingest.source.progress import Progress
from ingest.source.store import read_source, read_state, set_source
from ingest.source.take import Taker
from schemas import keys
from schemas.records import (
    Entry,
    Source,
    SourceState,
    Submission,
)
from tests.chain import Chain
from tests.strangers import Stranger, answer, served

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@dataclass
class Site:
    """A Runfeed in this process, and a server of its public bucket."""

    chain: Chain
    server: Stranger
    fetcher: Fetcher
    told: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def head_url(self) -> str:
        return f"{self.server.url}/{keys.feed_head(keys.SUBMISSIONS_LOG)}"

    @property
    def feed(self) -> str:
        return feed_id(keys.SUBMISSIONS_LOG, self.chain.signer.authority)

    def add(self, url: str, name: str = "other", **given: Any) -> Source:
        source = Source(name=name, url=url, created=NOW, **given)
        set_source(self.chain.buckets.private, source)
        return source

    def look(self, name: str = "other") -> str:
        """Look at a source now; why it came to nothing."""
        self.told.clear()
        settings = Settings(data=self.chain.data, private_addresses=True)
        chain = self.chain
        folder = chain.data / "spool"
        taker = Taker(chain.buckets, settings, self.fetcher, folder, self._tick)
        source = read_source(chain.buckets.private, name)
        progress = Progress(chain.buckets.private, source, chain.clock, self._tell, lambda: False)
        why = Look(progress, taker, 300.0, chance=lambda: 0.0).look()
        assert list(folder.glob("*") if folder.is_dir() else []) == [], "nothing is left in the spool"
        return why

    def _tick(self) -> datetime:
        self.chain.pass_time(milliseconds=1)
        return self.chain.now

    def _tell(self, word: str, entry: str, what: str) -> None:
        self.told.append((word, entry, what))

    @property
    def words(self) -> list[str]:
        return [word for word, _, _ in self.told]

    def state(self, name: str = "other") -> SourceState:
        return read_state(self.chain.buckets.private, read_source(self.chain.buckets.private, name))[0]

    def announce(self) -> int:
        return self.chain.announcer_of(self.chain.submissions, describe_submission).commit()

    def submissions(self) -> list[Submission]:
        public = self.chain.public
        found = [msgspec.json.decode(public.read(key), type=Submission) for key in public.list("submissions/")]
        return sorted(found, key=lambda one: one.received)

    def entries(self) -> list[Entry]:
        return self.chain.submissions.entries_after(0, 10_000)

    def bodies(self) -> list[bytes]:
        return sorted(self.chain.public.read(keys.blob(one.blob.sha256)) for one in self.submissions())


def serve_bucket(public: Any) -> Callable[[BaseHTTPRequestHandler], None]:
    """Any web server over the public bucket's files."""

    def send(request: BaseHTTPRequestHandler) -> None:
        try:
            body, etag = public.read_versioned(request.path.lstrip("/"))
        except (FileNotFoundError, ValueError):
            answer(b"", 404)(request)
            return
        if request.headers.get("If-None-Match") == f'"{etag}"':
            answer(b"", 304, ETag=f'"{etag}"')(request)
            return
        answer(body, ETag=f'"{etag}"')(request)

    return send


@contextmanager
def site_at(data: Path) -> Iterator[Site]:
    server = Stranger()
    fetcher = Fetcher(private_addresses=True, user_agent=user_agent(""), timeout_seconds=2)
    chain = Chain(data)
    server.otherwise = serve_bucket(chain.public.bucket)
    try:
        with served(server):
            yield Site(chain, server, fetcher)
    finally:
        fetcher.close()


def rss(*items: tuple[str, str], more: str = "") -> bytes:
    """RSS of these (guid, enclosure URL), oldest first, so that the newest stands at the top."""
    texts = [
        f'<item><guid isPermaLink="false">{guid}</guid>'
        f'<enclosure url="{url}" length="0" type="application/json"/></item>'
        for guid, url in reversed(items)
    ]
    channel = f"<channel><title>v</title>{more}{''.join(texts)}</channel>"
    return f'<?xml version="1.0"?><rss version="2.0">{channel}</rss>'.encode()


def published(vendor: Stranger, *bodies: bytes, **headers: str) -> None:
    """Let `vendor` publish these files as /1.json, … in its /feed.rss."""
    for number, body in enumerate(bodies, 1):
        vendor.answers[f"/{number}.json"] = answer(body)
    items = [(f"id-{number}", f"/{number}.json") for number in range(1, len(bodies) + 1)]
    vendor.answers["/feed.rss"] = answer(rss(*items), Content_Type="application/rss+xml", **headers)
