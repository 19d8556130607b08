"""A batch's outcome anew, without submissions that have been withdrawn since: all others keep exactly their rows.

The rows are taken from the parts that the outcome names, and not from the blobs: what another transform would make of
them today is no business of a withdrawal. A part that holds no row of what goes is named again.
"""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from infra.bucket import Bucket, Buckets
from processor.lake import publish_outcome, write_part
from processor.part import part_without
from processor.transform import withdrawn_outcome
from schemas import keys
from schemas.records import Outcome, PartRef, Withdrawal


def publish_revision(
    buckets: Buckets,
    lake_version: int,
    outcome: Outcome,
    withdrawn: Mapping[int, Withdrawal],
    *,
    through: int,
    now: datetime,
) -> bool:
    """Commit the revision after `outcome` in which the submissions of these seqs are withdrawn; False if somebody else
    has committed one meanwhile. `through` is the last entry of the log that it takes into account.

    Raises FileNotFoundError if a part is gone, which also means that there is a later outcome.
    """
    submissions = [
        withdrawn_outcome(one.id, one.seq, withdrawn[one.seq]) if one.seq in withdrawn else one
        for one in outcome.submissions
    ]
    revised = msgspec.structs.replace(
        outcome,
        revision=outcome.revision + 1,
        nonce=keys.new_nonce(now),
        through=max(outcome.through, through),
        submissions=submissions,
        parts=_parts_without(buckets.public, lake_version, outcome, withdrawn),
        finished=now,
    )
    return publish_outcome(buckets, lake_version, revised)


def _parts_without(
    public: Bucket, lake_version: int, outcome: Outcome, withdrawn: Mapping[int, Withdrawal]
) -> list[PartRef]:
    if not any(one.verdict == "accepted" and one.seq not in withdrawn for one in outcome.submissions):
        return []
    parts: list[PartRef] = []
    for ref in outcome.parts:
        with public.local_path(ref.key) as path:
            part = part_without(ref.table, path, withdrawn)
        if part is None:
            parts.append(ref)
        elif part.rows:
            parts.append(write_part(public, lake_version, outcome.first, outcome.last, part))
    return parts
