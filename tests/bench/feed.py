"""The feed: announcing, appending to long logs, following, mirroring, verifying, and what an idle subscriber moves.

Submissions are admitted here as ingest does it, logs of the past written as the announcer writes them. What is fetched
is served by Runfeed's own handlers in a process of their own.
"""

import functools
import hashlib
import multiprocessing
import os
import shutil
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
from lxml import etree

from feed.announceable import describe_submission
from feed.announcer import HEAD_KEEP, Announcer
from feed.atom import Document, carriable, render_document
from feed.chain import START, chained_all
from feed.follow.follow import follow
from feed.follow.waiting import POLL_SECONDS, PUSHED_POLL_FACTOR
from feed.index import extend_index
from feed.log import MAX_PAGE_ENTRIES, HeadState, LogReader
from feed.serve.http import object_routes
from feed.signing import Signer
from infra.bucket import Buckets
from infra.clock import now
from infra.folder import FolderBucket
from ingest.admit import admit
from schemas import keys
from schemas.records import Blob, Category, Context, Entry, Trust
from tests import small_log
from tests.bench.report import Figure
from tests.bench.small_files import small_file
from tests.running import RUNFEED
from tests.small_log import LOG, buckets_in

APPENDS = HEAD_KEEP
"""So many that the head has had all its sizes and one page was made."""

HISTORIES = (1_000, 10_000, 100_000)
LARGE_HISTORIES = (*HISTORIES, 1_000_000)
_DAY_SECONDS = 86_400
_POLLS = 20
_THREADS = 8


def measure_feed(folder: Path, entries: int, *, large: bool = False) -> list[Figure]:
    folder.mkdir()
    return [
        *_announced(folder / "origin", entries),
        *_copied(folder, entries),
        *_appended(folder / "append", LARGE_HISTORIES if large else HISTORIES),
        *_followed(folder / "follow", 5 * entries),
    ]


# --- announcing ---


def _announced(folder: Path, entries: int) -> list[Figure]:
    """A backlog of submissions in a folder, and the same entries rendered once without anything else."""
    buckets = buckets_in(folder)
    with mock.patch("os.fsync"):
        for number in range(entries):
            _admit(buckets, small_file(number))
    rate = entries / _seconds(functools.partial(_commit_all, _announcer(buckets)))
    some = LogReader(buckets.public, LOG).entries_after(0, MAX_PAGE_ENTRIES)
    rendered = len(some) / _seconds(lambda: render_document(LOG, some, archive=True, previous=""))
    return [
        Figure(
            f"announcing a backlog of {entries:,} submissions in a folder",
            f"{rate:,.0f} entries a second",
            "at least 2,000",
        ),
        Figure(
            "the same entries rendered once by feedgen and nothing else",
            f"{rendered:,.0f} a second; announcing is {rate / rendered:.2f}× of it",
        ),
    ]


def _admit(buckets: Buckets, body: bytes) -> None:
    blob = Blob(sha256=hashlib.sha256(body).hexdigest(), size_bytes=len(body), media_type="application/json")
    facts: dict[str, Any] = {"project": "bench", "format": "auto", "context": Context(), "trust": Trust()}
    admit(buckets, body, blob, now=now(), **facts)


def _announcer(buckets: Buckets) -> Announcer:
    signer, reader = Signer.of(buckets.private), LogReader(buckets.public, LOG)
    return Announcer(buckets, reader, describe_submission, clock=now, signer=signer, threads=1)


def _commit_all(announcer: Announcer) -> None:
    while announcer.commit():
        pass


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


# --- copying and verifying ---


def _copied(folder: Path, entries: int) -> list[Figure]:
    """The announced log with all its objects, by the commands; and the same objects fetched and thrown away."""
    with _served(folder / "origin" / "public") as url:
        fetched = entries / _seconds(functools.partial(_fetch_all, url, folder / "origin" / "public"))
        copied = entries / _seconds(lambda: _runfeed(folder, "mirror", url, str(folder / "mirror"), "--json"))
        checked = entries / _seconds(lambda: _runfeed(folder, "verify", url, "--json"))
    at_rest = entries / _seconds(lambda: _runfeed(folder, "verify", str(folder / "mirror"), "--json"))
    again = _seconds(lambda: _runfeed(folder, "verify", str(folder / "mirror"), "--no-blobs", "--json"))
    shutil.rmtree(folder / "origin")
    shutil.rmtree(folder / "mirror")
    what = f"{entries:,} entries with blob and submission"
    return [
        Figure(
            f"runfeed mirror of {what} over HTTP into a folder",
            f"{copied:,.0f} entries a second, {copied / fetched:.2f}× of bare GETs by {_THREADS} threads",
        ),
        Figure(f"runfeed verify of {what} over HTTP", f"{checked:,.0f} entries a second"),
        Figure("the same of the mirror's folder", f"{at_rest:,.0f} entries a second"),
        Figure("the same with --no-blobs", f"{entries / again:,.0f} entries a second"),
    ]


def _runfeed(folder: Path, *arguments: str) -> None:
    environ = os.environ | {"XDG_STATE_HOME": str(folder / "state")}
    subprocess.run([RUNFEED, *arguments], env=environ, stdout=subprocess.DEVNULL, check=True)


def _fetch_all(url: str, folder: Path) -> None:
    """Every blob and submission, as any client could, and nothing done with them."""
    paths = [path.relative_to(folder) for top in ("blobs", "submissions") for path in (folder / top).rglob("*/*")]
    with httpx.Client(base_url=url) as client, ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(lambda path: client.get(f"/{path}").raise_for_status().content, paths):
            pass


def _serve(public: Path, port: int) -> None:
    import uvicorn
    from litestar import Litestar

    app = Litestar(object_routes(FolderBucket(public)))
    uvicorn.run(app, port=port, log_level="warning", access_log=False)


@contextmanager
def _served(public: Path) -> Iterator[str]:
    """Where a process of its own serves the objects."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(public, port))
    server.start()
    try:
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.join()


# --- appending ---


def write_history(buckets: Buckets, entries: int, page_entries: int) -> None:
    """A log of `entries`, in pages and a head as the announcer makes them, with its index; without the objects."""
    public, signer = buckets.public, Signer.of(buckets.private)
    reader = LogReader(public, LOG)
    at = Document(LOG, (), archive=True, previous="", chain=START, authority=signer.authority)
    for first in range(1, entries - page_entries + 1, page_entries):
        page = [_entry(seq) for seq in range(first, first + page_entries)]
        body = render_document(LOG, page, archive=True, **_place(at))
        sha256 = hashlib.sha256(body).hexdigest()
        key = keys.Page(LOG, first, page[-1].seq, sha256[:16]).key
        public.create(key, body)
        chain = chained_all(at.chain, page)
        at = Document(LOG, (), True, key, sha256, chain, signer.authority)
        extend_index(public, reader, HeadState(None, at))
    last = keys.parse_page(at.previous)
    head = [_entry(seq) for seq in range(last.last + 1 if last else 1, entries + 1)]
    checkpoint = signer.sign(LOG, entries, chained_all(at.chain, head), head[-1].updated)
    body = render_document(LOG, head, archive=False, checkpoint=checkpoint, **_place(at))
    public.swap(keys.feed_head(LOG), body, etag=None)


def _place(at: Document) -> dict[str, str]:
    return {
        "previous": at.previous,
        "previous_sha256": at.previous_sha256,
        "chain": at.chain,
        "authority": at.authority,
    }


def _entry(seq: int) -> Entry:
    digest = hashlib.sha256(b"%d" % seq).hexdigest()
    return carriable(
        Entry(
            seq=seq,
            batch=seq,
            id=digest,
            title=f"numpy: jmh result of {digest[:12]} on ci-linux",
            key=keys.blob(digest),
            sha256=digest,
            size_bytes=3000,
            media_type="application/json",
            project="numpy",
            categories=(Category(scheme="project", term="numpy"), Category(scheme="format", term="jmh")),
            published=small_log.START + timedelta(milliseconds=seq),
            updated=small_log.START + timedelta(milliseconds=seq),
        )
    )


def _appended(folder: Path, histories: tuple[int, ...]) -> list[Figure]:
    """One submission a commit, `APPENDS` times, behind histories in pages of quiet times; the logs take turns."""
    announcers, seconds = {}, {}
    for entries in histories:
        buckets = buckets_in(folder / str(entries))
        with mock.patch("os.fsync"):
            write_history(buckets, entries, HEAD_KEEP)
        announcers[entries] = buckets, _announcer(buckets)
        seconds[entries] = [0.0] * APPENDS
    for number in range(-1, APPENDS):  # before the first an announcer reads what there is
        for entries, (buckets, announcer) in announcers.items():
            _admit(buckets, b"%d" % number)
            spent = _seconds(announcer.commit)
            if number >= 0:
                seconds[entries][number] = spent
    shutil.rmtree(folder)
    means = {entries: statistics.mean(some) * 1000 for entries, some in seconds.items()}
    ratio = means[histories[-1]] / means[histories[0]]
    return [
        Figure(
            f"appending one entry to a log of {', '.join(f'{entries:,}' for entries in histories)}",
            f"{', '.join(f'{mean:.1f}' for mean in means.values())} ms; longest to shortest {ratio:.2f}×",
            "flat",
        )
    ]


# --- following ---


def _followed(folder: Path, entries: int) -> list[Figure]:
    """From archive pages as a storm makes them, over HTTP, each checked; and polls that find nothing new."""
    entries += HEAD_KEEP
    buckets = buckets_in(folder)
    with mock.patch("os.fsync"):
        write_history(buckets, entries, MAX_PAGE_ENTRIES)
    parsed = entries / _seconds(lambda: _parse_all(folder / "public" / "feeds" / LOG))
    with _served(folder / "public") as url:
        rate = entries / _seconds(lambda: _follow_once(url, entries))
        kept = entries / _seconds(lambda: _follow_once(url, entries, folder / "cursor"))
        poll_bytes, head_bytes = _polled(url)
    shutil.rmtree(folder)
    polls = _DAY_SECONDS / POLL_SECONDS
    return [
        Figure(
            f"following {entries:,} entries from archive pages over HTTP, chain and checkpoint checked",
            f"{rate:,.0f} entries a second; {kept:,.0f} with a cursor file",
            "at least 5,000",
        ),
        Figure(
            "lxml's tree of the same bytes and nothing else",
            f"{parsed:,.0f} entries a second; following is {rate / parsed:.2f}× of it",
        ),
        Figure(
            f"an idle subscriber, one conditional look every {POLL_SECONDS:.0f} s (304)",
            f"{poll_bytes:,.0f} bytes a look, {polls * poll_bytes / 1e6:.2f} MB a day",
        ),
        Figure(
            f"the same subscribed to the hub, a look every {PUSHED_POLL_FACTOR * POLL_SECONDS:.0f} s",
            f"{polls / PUSHED_POLL_FACTOR * poll_bytes / 1e6:.3f} MB a day",
        ),
        Figure(
            "the same without conditions, the head each time as it is compressed",
            f"{head_bytes:,.0f} bytes a look, {polls * head_bytes / 1e6:.0f} MB a day",
        ),
    ]


def _parse_all(folder: Path) -> None:
    for path in folder.glob("*.atom"):
        etree.fromstring(path.read_bytes())


def _follow_once(url: str, entries: int, cursor: Path | None = None) -> None:
    seqs = [entry.seq for entry in follow(url, cursor=cursor, once=True)]
    assert seqs == list(range(1, entries + 1))


def _polled(url: str) -> tuple[float, float]:
    """Bytes in both directions of a look that finds nothing new, and of one that reads the head."""
    stop, looks = threading.Event(), []

    def level(seq: int, last: int) -> None:
        looks.append(relay.moved)
        if len(looks) > _POLLS:
            stop.set()

    with Relay(url) as relay:
        for _ in follow(relay.url, since="now", poll_seconds=0.01, stop=stop, on_progress=level):
            raise AssertionError("nothing is new")
    with Relay(url) as whole, httpx.Client() as client:
        client.get(f"{whole.url}/{keys.feed_head(LOG)}").raise_for_status()
        head_bytes = whole.moved
    return (looks[-1] - looks[0]) / (len(looks) - 1), head_bytes


class Relay:
    """Passes connections on to `url`'s server and counts the bytes of both directions, headers included."""

    def __init__(self, url: str) -> None:
        self._to = ("127.0.0.1", httpx.URL(url).port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.moved = 0
        self._ends: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> "Relay":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for end in [self._listener, *self._ends]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._to)
                self._ends += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _copy(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while piece := one.recv(1 << 16):
                self.moved += len(piece)
                other.sendall(piece)
            other.shutdown(socket.SHUT_WR)
