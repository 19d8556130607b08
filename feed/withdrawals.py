"""Withdrawn blobs: what says so, for whoever takes, processes or removes them.

`withdrawals/<aa>/<sha256>.json` says in public that the blob is withdrawn, every submission of it with it, whether made
before or after. A *note*, `withdrawing/<sha256>-<nonce>` in the private bucket, asks for a look whether anything of it
is left (`processor.purge`); it goes after a look that found nothing. Each request has a note of its own, so that none
goes that was made while somebody looked.
"""

import contextlib
from collections.abc import Collection, Iterator
from datetime import datetime

import msgspec

from infra.bucket import Bucket
from schemas import keys
from schemas.errors import Refused, Unavailable
from schemas.records import Withdrawal

LANE = "-withdrawals"
"""Of the markers of withdrawals; no project has such a name, so none is kept waiting by a project's flood."""

_ASKED_ONE_BY_ONE = 8


def read_withdrawal(public: Bucket, sha256: str) -> Withdrawal | None:
    """What says that the blob is withdrawn, and why; None if it is not."""
    key = keys.withdrawal(sha256)
    try:
        return msgspec.json.decode(public.read(key), type=Withdrawal)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unavailable(f"{key}: expected the JSON of a withdrawal, found {error}") from error


def withdrawn_blobs(public: Bucket) -> Iterator[str]:
    """The digests of all blobs that are withdrawn."""
    return filter(None, map(keys.parse_withdrawal, public.list("withdrawals/")))


def withdrawals_of(public: Bucket, digests: Collection[str]) -> dict[str, Withdrawal]:
    """The withdrawals of those blobs that are withdrawn. Few are asked for one by one, of many withdrawals are listed.

    A withdrawal that comes while this looks may be missing.
    """
    asked = set(digests)
    if len(asked) > _ASKED_ONE_BY_ONE:
        asked.intersection_update(withdrawn_blobs(public))
    found = {sha256: read_withdrawal(public, sha256) for sha256 in asked}
    return {sha256: withdrawal for sha256, withdrawal in found.items() if withdrawal}


def check_not_withdrawn(public: Bucket, sha256: str) -> None:
    """Refused 410 if the blob of that digest is withdrawn."""
    if withdrawal := read_withdrawal(public, sha256):
        raise Refused(
            "blob",
            "bytes that are not withdrawn",
            f"sha256 {sha256}, withdrawn on {withdrawal.withdrawn:%Y-%m-%d}: {withdrawal.reason} "
            f"(/{keys.withdrawal(sha256)})",
            status=410,
        )


def note_withdrawal(private: Bucket, sha256: str, nonce: str) -> None:
    """Ask for a look at what is left of the blob; doing it again is fine."""
    with contextlib.suppress(FileExistsError):
        private.create(keys.withdrawing(sha256, nonce), b"")


def noted_withdrawals(private: Bucket, sha256: str = "") -> dict[str, list[str]]:
    """The keys of all notes that are there, by digest; of one blob alone where `sha256` is given."""
    noted: dict[str, list[str]] = {}
    for key in private.list(f"{keys.WITHDRAWING}{sha256}"):
        if named := keys.parse_withdrawing(key):
            noted.setdefault(named[0], []).append(key)
    return noted


def noted_at(key: str) -> datetime:
    """When that note was made."""
    named = keys.parse_withdrawing(key)
    if named is None:
        raise Refused(key, "a note's key", "another")
    return keys.nonce_time(named[1])
