"""Withdrawing a blob: taking back, in public and for good, what should never have been published.

    note            private: look what is left of it, until nothing is
    marker          private: <withdrawal-sha256> waits to be announced
    withdrawal      create-only, public; from here on nobody can send these bytes again

The announcer and `processor.purge` do the rest. A death between any two steps leaves at most a note and a marker that
lead nowhere; withdrawing again makes it good. All submissions of the blob are withdrawn, whoever sent them.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

import msgspec

from feed.announceable import write_marker
from feed.log import LogReader
from feed.withdrawals import LANE, note_withdrawal, noted_withdrawals, read_withdrawal
from infra.bucket import Bucket, Buckets, exists
from schemas import keys
from schemas.errors import Refused
from schemas.records import Entry, Submission, Withdrawal

LONGEST_REASON = 500

_REQUESTS_AT_ONCE = 16
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufffe\uffff]")

Progress = Callable[[int], None]
"""Told how many entries of the log have been looked at."""


@dataclass(frozen=True)
class Sent:
    """One submission of a blob; `seq` is None while it is not announced."""

    id: str
    project: str
    received: datetime
    seq: int | None = None


@dataclass(frozen=True)
class Found:
    """A blob, all submissions of it that are known, and what says that it is withdrawn, if it is."""

    sha256: str
    submissions: list[Sent]
    withdrawal: Withdrawal | None


@dataclass(frozen=True)
class Left:
    """How far a withdrawal has come. `notes` are requests to look that have not been answered by finding nothing."""

    announced: bool
    blob: bool
    submissions: int
    notes: int

    @property
    def nothing(self) -> bool:
        return self.announced and not (self.blob or self.submissions or self.notes)

    def __str__(self) -> str:
        if not self.announced:
            return "waits to be announced"
        things = ["the blob"] * self.blob + [f"{self.submissions:,} submissions"] * (self.submissions > 0)
        return f"{', '.join(things)} still there" if things else "rows, catalogs and snapshots are being looked through"


def checked_reason(reason: str) -> str:
    """`reason` without surrounding blanks; Refused 422 if it is empty, too long, or has characters that do not show."""
    reason = reason.strip()
    if not reason or len(reason) > LONGEST_REASON or _UNPRINTABLE.search(reason):
        expected = f"1 to {LONGEST_REASON} printable characters on one line"
        raise Refused("reason", expected, f"{len(reason)} characters, {reason[:40]!r}", status=422)
    return reason


def find(buckets: Buckets, id: str, progress: Progress = lambda count: None) -> Found:
    """The blob that `id` means, a submission's id or the blob's own digest; Refused 404 if there is no such thing.

    Reads the whole log, since a blob may have any number of submissions.
    """
    keys.checked_sha256(id, "ID")
    sha256 = _digest_of(buckets.public, id, progress)
    waiting = list(_waiting(buckets))  # before the log is read: what does not wait any more stands there by then
    sent = [
        Sent(entry.id, entry.project, entry.published, entry.seq)
        for entry in _entries(buckets.public, progress)
        if entry.sha256 == sha256
    ]
    announced = {one.id for one in sent}
    sent += [
        Sent(one.id, one.project, one.received)
        for one in waiting
        if one.blob.sha256 == sha256 and one.id not in announced
    ]
    withdrawal = read_withdrawal(buckets.public, sha256)
    if not sent and not withdrawal and not exists(buckets.public, keys.blob(sha256)):
        raise Refused("ID", "the id of a submission, or the digest of a blob", repr(id), status=404)
    return Found(sha256, sent, withdrawal)


def withdraw(buckets: Buckets, found: Found, reason: str, now: datetime) -> Withdrawal:
    """Withdraw it; the withdrawal that holds, which is an earlier one if there was one. Idempotent."""
    reason = checked_reason(reason)
    nonce = keys.new_nonce(now)
    note_withdrawal(buckets.private, found.sha256, nonce)
    if earlier := read_withdrawal(buckets.public, found.sha256):
        return earlier
    withdrawal = Withdrawal(
        sha256=found.sha256,
        reason=reason,
        submissions=[one.id for one in found.submissions],
        project=found.submissions[0].project if found.submissions else "",
        nonce=nonce,
        withdrawn=now,
    )
    id = keys.withdrawal_id(found.sha256)
    write_marker(buckets.private, keys.Marker(keys.SUBMISSIONS_LOG, LANE, nonce, id))
    try:
        buckets.public.create(keys.withdrawal(found.sha256), msgspec.json.encode(withdrawal))
    except FileExistsError:  # somebody else's, or our own whose confirmation got lost
        return read_withdrawal(buckets.public, found.sha256) or withdrawal
    return withdrawal


def left_of(buckets: Buckets, withdrawal: Withdrawal) -> Left:
    """What can be seen of the blob now, without reading the lake."""
    marker = keys.Marker(keys.SUBMISSIONS_LOG, LANE, withdrawal.nonce, keys.withdrawal_id(withdrawal.sha256))
    return Left(
        announced=not exists(buckets.private, marker.key),
        blob=exists(buckets.public, keys.blob(withdrawal.sha256)),
        submissions=sum(exists(buckets.public, keys.submission(id)) for id in withdrawal.submissions),
        notes=len(noted_withdrawals(buckets.private, withdrawal.sha256).get(withdrawal.sha256, [])),
    )


def _digest_of(public: Bucket, id: str, progress: Progress) -> str:
    """The digest of the blob that is meant; only for a submission whose record is gone the log is read."""
    try:
        return msgspec.json.decode(public.read(keys.submission(id)), type=Submission).blob.sha256
    except FileNotFoundError:
        if read_withdrawal(public, id) or exists(public, keys.blob(id)):
            return id
    return next((entry.sha256 for entry in _entries(public, progress) if entry.id == id), id)


def _waiting(buckets: Buckets) -> Iterator[Submission]:
    """The submissions that wait to be announced."""
    markers = map(keys.parse_marker, buckets.private.list(keys.pending_prefix(keys.SUBMISSIONS_LOG)))
    ids = [marker.id for marker in markers if marker and keys.SHA256.fullmatch(marker.id)]

    def read(id: str) -> Submission | None:
        with contextlib.suppress(FileNotFoundError):
            return msgspec.json.decode(buckets.public.read(keys.submission(id)), type=Submission)
        return None

    with ThreadPoolExecutor(_REQUESTS_AT_ONCE, "withdraw") as pool:
        yield from filter(None, pool.map(read, ids))


def _entries(public: Bucket, progress: Progress) -> Iterator[Entry]:
    """All entries of submissions."""
    log = LogReader(public, keys.SUBMISSIONS_LOG)
    seq = 0
    while entries := log.entries_after(seq):
        yield from (entry for entry in entries if not entry.withdraws)
        seq = entries[-1].seq
        progress(seq)
