"""Logs for tests of what others do with them: made by the real announcer, and forged."""

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import msgspec

from feed.announceable import describe_submission
from feed.announcer import Announcer
from feed.atom import carriable, render_document
from feed.chain import START, chained_all
from feed.log import LogReader
from feed.signing import Signer
from feed.withdrawals import LANE
from infra.folder import FolderBucket
from schemas import keys
from schemas.keys import Page
from schemas.records import (
    Blob,
    Context,
    Entry,
    IndexedPages,
    LogIndex,
    Submission,
    Trust,
    Withdrawal,
    submission_id,
)
from tests.chain import Chain, measured

HEAD_KEEP = 3


class SmallPages(Chain):
    """A chain whose log has pages of a few entries."""

    def commit(self) -> int:
        announcer = Announcer(
            self.buckets,
            self.submissions,
            describe_submission,
            clock=self.clock,
            signer=self.signer,
            threads=1,
            head_keep=HEAD_KEEP,
        )
        count = 0
        while came := announcer.commit():
            count += came
        return count

    def grow(self, count: int, start: int = 0) -> list[str]:
        """Push and announce so many more, each in a commit of its own; their ids."""
        ids = []
        for at in range(start, start + count):
            ids.append(self.push(measured(at)))
            self.pass_time(seconds=1)
            self.commit()
        return ids

    def withdraw(self, id: str, *, announced: bool = True) -> str:
        """Withdraw the blob of a submission, as far as its record and its entry; the blob's digest."""
        sha256 = next(entry.sha256 for entry in self.entries() if entry.id == id)
        nonce = keys.new_nonce(self.now)
        ids = [entry.id for entry in self.entries() if entry.sha256 == sha256]
        record = Withdrawal(
            sha256=sha256, reason="a token", submissions=ids, project="p", nonce=nonce, withdrawn=self.now
        )
        marker = keys.Marker(keys.SUBMISSIONS_LOG, LANE, nonce, keys.withdrawal_id(sha256))
        if announced:
            self.private.bucket.create(marker.key, b"")
        self.public.bucket.create(keys.withdrawal(sha256), msgspec.json.encode(record))
        if announced:
            self.commit()
        return sha256

    def purge(self, sha256: str) -> None:
        """Remove what is withdrawn, as the purge does."""
        for entry in self.entries():
            if entry.sha256 == sha256 and not entry.withdraws:
                self.public.bucket.delete(keys.submission(entry.id))
        self.public.bucket.delete(keys.blob(sha256))

    def entries(self) -> list[Entry]:
        return LogReader(self.public.bucket, keys.SUBMISSIONS_LOG).entries_after(0, 100_000)

    @property
    def root(self) -> Path:
        return self.public.bucket.root

    def path(self, key: str) -> Path:
        return self.root / key

    def page_keys(self) -> list[str]:
        prefix = keys.feed_prefix(keys.SUBMISSIONS_LOG)
        return [key for key in self.public.bucket.list(prefix) if keys.parse_page(key)]


def copied(made: Path, data: Path) -> SmallPages:
    """A chain that goes on from a copy of what another made."""
    shutil.copytree(made, data)
    chain = SmallPages(data)
    chain.pass_time(hours=1)
    return chain


def bulk(root: Path, count: int, page: int = 200) -> Path:
    """A public bucket with so many submissions, the last of 9 MiB, made without the durability of real ones."""
    bucket, now = FolderBucket(root), datetime(2026, 5, 1, 12, tzinfo=UTC)
    entries = []
    for seq in range(1, count + 1):
        body = measured(seq) + b" " * ((9 << 20) if seq == count else 0)
        sha256 = hashlib.sha256(body).hexdigest()
        id = submission_id(sha256=sha256, project="p", format="auto", context=Context(), trust=Trust())
        blob = Blob(sha256=sha256, size_bytes=len(body))
        submission = Submission(id=id, nonce=keys.new_nonce(now), project="p", blob=blob, received=now)
        for key, content in ((keys.blob(sha256), body), (keys.submission(id), msgspec.json.encode(submission))):
            path = root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        found = describe_submission(bucket, keys.Marker(keys.SUBMISSIONS_LOG, "p", submission.nonce, id))
        assert found
        batch = seq - (seq - 1) % 100
        entries.append(carriable(msgspec.structs.replace(found.entry, seq=seq, batch=batch)))
    signer = Signer.of(FolderBucket(root.with_name(f"{root.name}-private")))
    forge(bucket, entries, range(page, count - 100, page), signer=signer, authority=signer.authority)
    return root


def forge(
    bucket: FolderBucket,
    entries: Sequence[Entry],
    lasts: Iterable[int],
    *,
    signer: Signer | None = None,
    authority: str = "",
    old: bool = False,
    log: str = keys.SUBMISSIONS_LOG,
) -> None:
    """Replace a log by one of these entries, whose pages end with the seqs `lasts`, everything in it consistent.

    `old`: as a release made it that knew neither chains nor an index.
    """
    bucket.delete(*bucket.list(keys.feed_prefix(log)))
    cuts = [0, *lasts]
    previous, previous_sha256, chain = "", "", START
    lines = []
    for before, last in pairwise(cuts):
        some = [entry for entry in entries if before < entry.seq <= last]
        said = {} if old else {"previous_sha256": previous_sha256, "chain": chain, "authority": authority}
        body = render_document(log, some, archive=True, previous=previous, **said)
        previous_sha256, chain = hashlib.sha256(body).hexdigest(), chained_all(chain, some)
        previous = Page(log, some[0].seq, some[-1].seq, previous_sha256[:16]).key
        bucket.create(previous, body)
        lines.append(IndexedPages(first=some[0].seq, last=some[-1].seq, key=previous, sha256=previous_sha256))
    some = [entry for entry in entries if entry.seq > cuts[-1]]
    said = {} if old else {"previous_sha256": previous_sha256, "chain": chain, "authority": authority}
    checkpoint = None
    if signer and not old:
        checkpoint = signer.sign(log, some[-1].seq, chained_all(chain, some), some[-1].updated)
    body = render_document(log, some, archive=False, previous=previous, checkpoint=checkpoint, **said)
    bucket.create(keys.feed_head(log), body)
    if lines and not old:
        bucket.create(keys.feed_index(log), msgspec.json.encode(LogIndex(log=log, pages=lines)))
