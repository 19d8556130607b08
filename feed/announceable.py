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

from feed.atom import described_bytes
from infra.bucket import Bucket
from schemas import keys
from schemas.errors import Refused
from schemas.keys import Marker
from schemas.records import Category, Entry, Outcome, Submission, SubmissionOutcome, Withdrawal

Record = TypeVar("Record", Submission, Outcome, Withdrawal)

MAX_TOMBSTONES = 100
"""Withdrawn submissions that an entry names; the withdrawal's record names all."""

_VERDICTS = ("accepted", "rejected", "quarantined", "withdrawn")
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
    if withdrawn := keys.parse_withdrawal_id(marker.id):
        return _describe_withdrawal(bucket, withdrawn)
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
            summary=described_bytes(blob.size_bytes, blob.media_type, blob.encoding),
            categories=_categories(project=[submission.project], format=[_declared_format(submission)]),
            published=submission.received,
            updated=submission.received,
        ),
    )


def _describe_withdrawal(bucket: Bucket, sha256: str) -> Announceable | None:
    key = keys.withdrawal(sha256)
    try:
        body = bucket.read(key)
    except FileNotFoundError:
        return None
    withdrawal = _record(key, body, Withdrawal)
    of = f"{withdrawal.project}: " if withdrawal.project else ""
    count = len(withdrawal.submissions)
    return Announceable(
        withdrawal.nonce,
        Entry(
            seq=0,
            batch=0,
            id=keys.withdrawal_id(sha256),
            title=f"{of}{_counted(count, 'submission')} withdrawn",
            key=key,
            sha256=hashlib.sha256(body).hexdigest(),
            size_bytes=len(body),
            media_type="application/json",
            project=withdrawal.project,
            summary=withdrawal.reason,
            categories=_categories(project=[withdrawal.project], verdict=["withdrawn"]),
            withdraws=sha256,
            withdrawn=tuple(withdrawal.submissions[:MAX_TOMBSTONES]),
            published=withdrawal.withdrawn,
            updated=withdrawal.withdrawn,
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
            summary=outcome_summary(outcome),
            categories=_categories(
                format=sorted({one.format for one in outcome.submissions}),
                verdict=[verdict for verdict in _VERDICTS if verdict in {one.verdict for one in outcome.submissions}],
            ),
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


def _declared_format(submission: Submission) -> str:
    return "" if submission.format == "auto" else submission.format[:80]


def _categories(**terms: list[str]) -> tuple[Category, ...]:
    """One for each term that is not empty; the parameters' names are the schemes."""
    return tuple(Category(scheme=scheme, term=term) for scheme, some in terms.items() for term in some if term)


def outcome_title(outcome: Outcome) -> str:
    """`batch 12-40: 29 accepted, 1 rejected`."""
    verdicts = [submission.verdict for submission in outcome.submissions]
    counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in _VERDICTS if verdict in verdicts]
    batch = f"batch {outcome.first}-{outcome.last}" if outcome.last != outcome.first else f"batch {outcome.first}"
    revision = f", revision {outcome.revision}" if outcome.revision else ""
    return f"{batch}{revision}: {', '.join(counts) or 'nothing'}"


def outcome_summary(outcome: Outcome) -> str:
    """`jmh: 2 runs, 12 measurements; junit: 1 run, 40 tests; 1 submission without a format`."""
    by_format: dict[str, list[SubmissionOutcome]] = {}
    for one in outcome.submissions:
        by_format.setdefault(one.format, []).append(one)
    unknown = by_format.pop("", [])
    lines = [f"{format}: {_counts(some)}" for format, some in sorted(by_format.items())]
    if unknown:
        lines.append(f"{_counted(len(unknown), 'submission')} without a format")
    return "; ".join(lines) or "nothing"


def _counts(some: list[SubmissionOutcome]) -> str:
    counts = {
        "run": sum(one.runs for one in some),
        "measurement": sum(one.measurements for one in some),
        "test": sum(one.tests for one in some),
    }
    return ", ".join(_counted(count, noun) for noun, count in counts.items() if count) or "no runs"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _record(key: str, body: bytes, type: type[Record]) -> Record:
    try:
        return msgspec.json.decode(body, type=type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(key, f"the JSON of {type.__name__}", str(error)) from error
