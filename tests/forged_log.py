"""Logs made by hand, for readers to doubt: any entries, in any pages, signed by anybody or by nobody."""

import hashlib
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from feed.atom import carriable, render_document
from feed.chain import START, chained_all
from feed.index import extend_index
from feed.log import LogReader
from feed.signing import Signer
from infra.folder import FolderBucket
from schemas import keys
from schemas.keys import Page
from schemas.records import Category, Entry

LOG = keys.SUBMISSIONS_LOG
BEGAN = datetime(2026, 5, 1, tzinfo=UTC)


def an_entry(seq: int, /, **other: object) -> Entry:
    """Entry `seq`, announced `seq` seconds after BEGAN."""
    sha256 = hashlib.sha256(b"blob %d" % seq).hexdigest()
    entry = Entry(
        seq=seq,
        batch=seq,
        id=hashlib.sha256(b"submission %d" % seq).hexdigest(),
        title=f"result {seq}",
        key=keys.blob(sha256),
        sha256=sha256,
        size_bytes=len(b"blob %d" % seq),
        media_type="application/json",
        project="odd" if seq % 2 else "even",
        categories=(Category(scheme="format", term="jmh" if seq % 3 else "junit"),),
        published=BEGAN + timedelta(seconds=seq),
        updated=BEGAN + timedelta(seconds=seq),
    )
    return carriable(msgspec.structs.replace(entry, **other))


def entries(last: int) -> list[Entry]:
    return [an_entry(seq) for seq in range(1, last + 1)]


def write_log(
    folder: Path,
    log: Sequence[Entry],
    signer: Signer | None,
    *,
    page_entries: int = 3,
    authority: str | None = None,
    chained: bool = True,
    index: bool = True,
) -> None:
    """Replace the log in the public bucket at `folder`: pages of so many entries, the last ones in the head.

    `authority` is by default the signer's. Not `chained` is as releases before there were chains did it.
    """
    shutil.rmtree(folder / "feeds" / LOG, ignore_errors=True)
    bucket = FolderBucket(folder)
    if authority is None:
        authority = signer.authority if signer else ""
    previous, previous_sha256, chain = "", "", START
    paged = (len(log) - 1) // page_entries * page_entries
    for start in range(0, paged, page_entries):
        page = log[start : start + page_entries]
        body = render_document(
            LOG,
            page,
            archive=True,
            previous=previous,
            previous_sha256=previous_sha256 if chained else "",
            chain=chain if chained else "",
            authority=authority,
        )
        digest = hashlib.sha256(body).hexdigest()
        previous, previous_sha256 = Page(LOG, page[0].seq, page[-1].seq, digest[:16]).key, digest
        bucket.create(previous, body)
        chain = chained_all(chain, page)
    newest = log[paged:]
    signed = signer.sign(LOG, newest[-1].seq, chained_all(chain, newest), newest[-1].updated) if signer else None
    body = render_document(
        LOG,
        newest,
        archive=False,
        previous=previous,
        previous_sha256=previous_sha256 if chained else "",
        chain=chain if chained else "",
        authority=authority,
        checkpoint=signed,
    )
    bucket.swap(keys.feed_head(LOG), body, etag=None)
    if index:
        reader = LogReader(bucket, LOG)
        extend_index(bucket, reader, reader.head())
