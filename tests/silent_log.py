"""A log as somebody without its key may serve it: other words under the true checkpoint, and left out what shows it."""

import hashlib
from pathlib import Path

import msgspec

from feed.atom import parse_document, render_document
from infra.folder import FolderBucket
from schemas import keys
from schemas.keys import Page

LOG = keys.SUBMISSIONS_LOG


def forge_silently(folder: Path, seq: int, *, silent_pages: bool = False) -> None:
    """Let entry `seq` of the log in the public bucket at `folder` say something else, and its page, or the head, no
    rf:chain. Nothing says rf:previous, there is no index, and pages are named and linked anew.

    `silent_pages`: no page says its chain. With `seq` 0 that is a log that an earlier release began.
    """
    bucket = FolderBucket(folder)
    listed = sorted(key for key in bucket.list(keys.feed_prefix(LOG)) if keys.parse_page(key))
    previous = ""
    for key in (*listed, keys.feed_head(LOG)):
        document = parse_document(bucket.read(key))
        said = list(document.entries)
        forged = [msgspec.structs.replace(one, title="forged") if one.seq == seq else one for one in said]
        body = render_document(
            LOG,
            forged,
            archive=document.archive,
            previous=previous,
            chain="" if forged != said or (silent_pages and document.archive) else document.chain,
            authority=document.authority,
            checkpoint=document.checkpoint,
        )
        bucket.delete(key)
        if document.archive:
            digest = hashlib.sha256(body).hexdigest()
            previous = Page(LOG, said[0].seq, said[-1].seq, digest[:16]).key
        bucket.create(previous if document.archive else key, body)
    bucket.delete(keys.feed_index(LOG))
