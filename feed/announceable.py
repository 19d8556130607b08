"""What can be announced: objects that a marker names. A submission, or the outcome of a batch.

Order for whoever makes one: `write_marker`, then create the object with the marker's nonce in it. The marker is there
before the object is, so no crash can leave an object that nobody announces; a marker whose object never came is swept.
"""

import contextlib
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from infra.bucket import Bucket
from schemas import keys
from schemas.errors import Refused
from schemas.keys import Marker
from schemas.records import Entry, Outcome, Submission

Record = TypeVar("Record", Submission, Outcome)

_OUTCOMES_LOG = re.compile(r"outcomes-v(\d{1,9})")
_OUTCOME_ID = re.compile(r"(\d{12})-(\d{6})")


@dataclass(frozen=True)
class Announceable:
    """An object as its entry will show it (`seq` and `batch` 0 until it is committed), and the nonce it records."""

    nonce: str
    entry: Entry


Describe = Callable[[Bucket, Marker], Announceable | None]
"""Looks up the object that a marker names in the public bucket; None if it does not exist (yet).

Raises Refused for an object that can never be announced; it is passed over.
"""


def write_marker(private: Bucket, marker: Marker) -> None:
    """Note that `marker.id` waits to be announced; doing it again is fine."""
    with contextlib.suppress(FileExistsError):
        private.create(marker.key, b"")


def describe_submission(bucket: Bucket, marker: Marker) -> Announceable | None:
    """A Describe of the submissions log."""
    key = keys.submission(keys.checked_sha256(marker.id, marker.key))
    try:
        submission = _record(key, bucket.read(key), Submission)
    except FileNotFoundError:
        return None
    if submission.id != marker.id:
        raise Refused(f"{key} /id", marker.id, submission.id)
    blob = submission.blob
    return Announceable(
        submission.nonce,
        Entry(
            seq=0,
            batch=0,
            id=submission.id,
            title=submission_title(submission),
            key=keys.blob(blob.sha256),
            sha256=blob.sha256,
            size_bytes=blob.size_bytes,
            media_type=blob.media_type,
            encoding=blob.encoding,
            project=submission.project,
            published=submission.received,
            updated=submission.received,
        ),
    )


def describe_outcome(bucket: Bucket, marker: Marker) -> Announceable | None:
    """A Describe of an outcomes log."""
    log, id = _OUTCOMES_LOG.fullmatch(marker.log), _OUTCOME_ID.fullmatch(marker.id)
    if not log or not id:
        raise Refused(marker.key, "a marker of an outcome", repr(marker.id))
    key = keys.outcome(int(log[1]), int(id[1]), int(id[2]))
    try:
        body = bucket.read(key)
    except FileNotFoundError:
        return None
    outcome = _record(key, body, Outcome)
    return Announceable(
        outcome.nonce,
        Entry(
            seq=0,
            batch=0,
            id=marker.id,
            title=outcome_title(outcome),
            key=key,
            sha256=hashlib.sha256(body).hexdigest(),
            size_bytes=len(body),
            media_type="application/json",
            published=outcome.finished,
            updated=outcome.finished,
        ),
    )


def submission_title(submission: Submission) -> str:
    """`numpy: jmh result of 0123456789ab on ci-linux, chunk 2 of 4`."""
    what = "result" if submission.format == "auto" else f"{submission.format[:80]} result"
    context = submission.context
    of = f" of {context.commit.id[:12]}" if context.commit else ""
    on = f" on {context.environment[:80]}" if context.environment else ""
    chunk = f", chunk {context.chunk.index} of {context.chunk.total}" if context.chunk else ""
    return f"{submission.project}: {what}{of}{on}{chunk}"


def outcome_title(outcome: Outcome) -> str:
    """`batch 12-40: 29 accepted, 1 rejected`."""
    verdicts = [submission.verdict for submission in outcome.submissions]
    counts = [
        f"{verdicts.count(verdict)} {verdict}"
        for verdict in ("accepted", "rejected", "quarantined")
        if verdict in verdicts
    ]
    batch = f"batch {outcome.first}-{outcome.last}" if outcome.last != outcome.first else f"batch {outcome.first}"
    revision = f", revision {outcome.revision}" if outcome.revision else ""
    return f"{batch}{revision}: {', '.join(counts) or 'nothing'}"


def _record(key: str, body: bytes, type: type[Record]) -> Record:
    try:
        return msgspec.json.decode(body, type=type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(key, f"the JSON of {type.__name__}", str(error)) from error
