"""Admission: from received bytes to a receipt. The order of the writes is the promise.

    blob            create-only; the same bytes are kept once
    marker          private: <id> waits to be announced, under this nonce
    submission      create-only; the first of several writers wins and its nonce counts
    receipt         from here on nothing loses the submission

A death between any two steps leaves at most a blob nobody names or a marker without a submission, both harmless.
Bytes that are withdrawn are refused before the first step. If they were withdrawn since then, they are refused after
the last one, with a note that has all of it removed again.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from feed.announceable import write_marker
from feed.withdrawals import check_not_withdrawn, note_withdrawal
from infra.bucket import Bucket, Buckets
from ingest.benchmarks import resolved_format
from schemas import keys
from schemas.errors import Refused
from schemas.records import Blob, Context, Origin, Receipt, Submission, Trust, submission_id

Body = bytes | Path | Callable[[str], None]
"""The bytes, a file of them, or what makes the public object of a given key out of bytes that storage has already."""


def admit(
    buckets: Buckets,
    body: Body,
    blob: Blob,
    *,
    project: str,
    format: str,
    context: Context,
    trust: Trust,
    now: datetime,
    origin: Origin | None = None,
) -> Receipt:
    """Keep `body` and return its receipt; `status` says whether it was new. Idempotent.

    A `format` that names a benchmark gets the version that it means now; Refused 422 if the project has no such one,
    and 410 if the bytes are withdrawn.
    `body` is the bytes that `blob.sha256` was computed over, or a file of them that nobody writes to any more. Raises
    StorageFull or Unavailable, and then gives no receipt; of a function as `body` also what that raises.
    """
    check_not_withdrawn(buckets.public, blob.sha256)
    format = resolved_format(buckets.public, project, format)
    identity = submission_id(sha256=blob.sha256, project=project, format=format, context=context, trust=trust)
    nonce = keys.new_nonce(now)
    submission = Submission(
        id=identity,
        nonce=nonce,
        project=project,
        format=format,
        blob=blob,
        context=context,
        trust=trust,
        origin=origin,
        received=now,
    )
    new = _keep(buckets, keys.blob(blob.sha256), body)
    marker = keys.Marker(keys.SUBMISSIONS_LOG, project, nonce, identity)
    write_marker(buckets.private, marker)
    # The marker stays even if somebody else's submission is there: that may be our own, whose confirmation got lost on
    # the way and whose second try found it. The announcer drops a marker whose nonce is not the submission's.
    created = _create_once(buckets, keys.submission(identity), msgspec.json.encode(submission))
    if not new:  # perhaps nobody had named it so far: then a sweep may have taken it before the submission was there
        _keep(buckets, keys.blob(blob.sha256), body)
    try:
        check_not_withdrawn(buckets.public, blob.sha256)
    except Refused:  # whoever removes what is left may have looked before we wrote
        note_withdrawal(buckets.private, blob.sha256, nonce)
        raise
    return _receipt(submission, "created" if created else "known")


def known_receipt(public: Bucket, identity: str) -> Receipt | None:
    """The receipt of a submission that there is already, or None."""
    try:
        return _receipt(msgspec.json.decode(public.read(keys.submission(identity)), type=Submission), "known")
    except FileNotFoundError:
        return None


def _receipt(submission: Submission, status: Literal["created", "known"]) -> Receipt:
    return Receipt(
        id=submission.id,
        project=submission.project,
        sha256=submission.blob.sha256,
        size_bytes=submission.blob.size_bytes,
        status=status,
        url=f"/api/v1/submissions/{submission.id}",
        page=f"/submissions/{submission.id}",
    )


def _keep(buckets: Buckets, key: str, body: Body) -> bool:
    """Have `body` as the public object `key`; whether it was certainly not there before."""
    if isinstance(body, bytes | Path):
        return _create_once(buckets, key, body)
    body(key)
    return False


def _create_once(buckets: Buckets, key: str, body: bytes | Path) -> bool:
    try:
        buckets.public.create(key, body)
    except FileExistsError:
        return False
    return True
