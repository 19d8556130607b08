"""A submissions log for tests, by the real announcer: submissions and withdrawals in two buckets, small pages."""

import hashlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from feed.announceable import describe_submission, write_marker
from feed.announcer import Announcer
from feed.atom import NO_LINKS, Links
from feed.index import parse_index
from feed.log import LogReader
from feed.signing import Signer
from infra.bucket import Bucket, Buckets
from infra.folder import FolderBucket
from schemas import keys
from schemas.keys import Marker
from schemas.records import Blob, Commit, Context, Entry, LogIndex, Submission, Withdrawal

LOG = keys.SUBMISSIONS_LOG
START = datetime(2026, 1, 1, tzinfo=UTC)


def buckets_in(folder: Path) -> Buckets:
    return Buckets(FolderBucket(folder / "public"), FolderBucket(folder / "private"))


def id_of(number: int) -> str:
    return f"{number:064x}"


def blob_of(number: int) -> bytes:
    return b"result %d" % number


def sha256_of(number: int) -> str:
    """Of the blob of submission `number`."""
    return hashlib.sha256(blob_of(number)).hexdigest()


def received(number: int) -> datetime:
    return START + timedelta(milliseconds=number)


def submit(buckets: Buckets, number: int, project: str = "p", environment: str = "", format: str = "auto") -> Marker:
    """What ingest leaves behind: blob, marker, submission. `number` says when, and makes the id; again is fine."""
    id, body = id_of(number), blob_of(number)
    marker = Marker(LOG, project, keys.new_nonce(received(number)), id)
    blob = Blob(sha256=sha256_of(number), size_bytes=len(body), media_type="text/plain")
    context = Context(commit=Commit(id=id[-40:]), environment=environment)
    submission = Submission(
        id=id, nonce=marker.nonce, project=project, format=format, blob=blob, context=context, received=received(number)
    )
    buckets.public.create(keys.blob(blob.sha256), body)
    write_marker(buckets.private, marker)
    buckets.public.create(keys.submission(id), msgspec.json.encode(submission))
    return marker


def submit_all(buckets: Buckets, numbers: Iterable[int]) -> None:
    for number in numbers:
        submit(buckets, number)


def withdraw(buckets: Buckets, number: int, reason: str = "it held a token", when: datetime | None = None) -> Marker:
    """What `runfeed withdraw` leaves behind for the announcer: marker and record of the blob of submission `number`."""
    when = when or START + timedelta(hours=1)
    marker = Marker(LOG, "p", keys.new_nonce(when), keys.withdrawal_id(sha256_of(number)))
    withdrawal = Withdrawal(
        sha256=sha256_of(number),
        reason=reason,
        submissions=[id_of(number)],
        project="p",
        nonce=marker.nonce,
        withdrawn=when,
    )
    write_marker(buckets.private, marker)
    buckets.public.create(keys.withdrawal(withdrawal.sha256), msgspec.json.encode(withdrawal))
    return marker


class Clock:
    """Goes on by a second at each look."""

    def __init__(self, now: datetime = START + timedelta(hours=2)) -> None:
        self.now = now

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def make_announcer(
    buckets: Buckets,
    *,
    signed: bool = True,
    head_keep: int = 4,
    links: Links = NO_LINKS,
    clock: Callable[[], datetime] | None = None,
    reader: LogReader | None = None,
) -> Announcer:
    """One that pages from `2 * head_keep` entries on."""
    return Announcer(
        buckets,
        reader or LogReader(buckets.public, LOG),
        describe_submission,
        clock=clock or Clock(),
        signer=Signer.of(buckets.private) if signed else None,
        links=links,
        head_keep=head_keep,
        threads=1,
    )


def announced(buckets: Buckets, numbers: Iterable[int], each: int = 3, **made: Any) -> None:
    """Submit `numbers` and announce them, `each` in a commit."""
    announcer = make_announcer(buckets, **made)
    for at, number in enumerate(numbers, start=1):
        submit(buckets, number)
        if at % each == 0:
            announcer.commit()
    while announcer.commit():
        pass


def documents(public: Bucket, log: str = LOG) -> dict[str, bytes]:
    """The head and the pages that it leads to, newest first, by key."""
    reader = LogReader(public, log)
    found = {keys.feed_head(log): public.read(keys.feed_head(log))}
    key = reader.head().previous
    while key:
        found[key] = public.read(key)
        key = reader.page(key).previous
    return found


def all_entries(public: Bucket, log: str = LOG) -> list[Entry]:
    """Along the links, from entry 1."""
    reader = LogReader(public, log)
    head = reader.head()
    entries, key = list(head.entries), head.previous
    while key:
        page = reader.page(key)
        entries[:0] = page.entries
        key = page.previous
    return entries


def read_index(bucket: Bucket, log: str) -> LogIndex:
    """The newest part of a log's index; empty if there is none."""
    key = keys.feed_index(log)
    try:
        return parse_index(key, bucket.read(key))
    except FileNotFoundError:
        return LogIndex(log=log)
