"""Parts and outcomes: how a batch's rows become Parquet files, and how its outcome commits them.

Same rows, same bytes, same key: a batch that is processed twice makes the same parts, and of its outcomes of one
revision only the first is created.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from datetime import datetime

import msgspec

from feed.announceable import write_marker
from feed.announcer import SWEEP_AGE
from infra.bucket import Bucket, Buckets
from processor.part import Part
from schemas import keys
from schemas.records import LakeVersion, Outcome, PartRef
from schemas.tables import TABLES


def write_part(public: Bucket, lake_version: int, first: int, last: int, part: Part) -> PartRef:
    """Write the part; what is there already stays."""
    sha256 = hashlib.sha256(part.body).hexdigest()
    key = keys.part(lake_version, part.table, first, last, sha256[:16])
    with contextlib.suppress(FileExistsError):  # an earlier delivery of this batch came this far
        public.create(key, part.body)
    return PartRef(table=part.table, key=key, sha256=sha256, size_bytes=len(part.body), rows=part.rows)


def publish_outcome(buckets: Buckets, lake_version: int, outcome: Outcome) -> bool:
    """Marker, then outcome: the commit of processing. False if somebody else committed this revision first."""
    log = keys.outcomes_log(lake_version)
    marker = keys.Marker(log, "batches", outcome.nonce, keys.outcome_id(outcome.first, outcome.revision))
    write_marker(buckets.private, marker)
    key = keys.outcome(lake_version, outcome.first, outcome.revision)
    try:
        buckets.public.create(key, msgspec.json.encode(outcome))
    except FileExistsError:
        # Perhaps our own, whose confirmation got lost; the marker stays, the announcer knows whose it is.
        return msgspec.json.decode(buckets.public.read(key), type=Outcome).nonce == outcome.nonce
    return True


def unnamed_parts(public: Bucket, lake_version: int) -> Iterator[str]:
    """Parts that no outcome names: of batches whose commit somebody else won.

    Parts of a batch without any outcome are left out, however old: its next delivery makes the same ones and may find
    them there in the moment in which one would remove them.
    """
    named: set[str] = set()
    committed: set[int] = set()
    for outcome in outcomes(public, lake_version):
        named.update(part.key for part in outcome.parts)
        committed.add(outcome.first)
    for table in TABLES:
        for key in public.list(f"lake/v{lake_version}/{table}/"):
            part = keys.parse_part(key)
            if part is not None and key not in named and part.first in committed:
                yield key


def sweep_parts(public: Bucket, lake_version: int, now: datetime) -> int:
    """Remove parts older than a week that no outcome names."""
    found = []
    for key in unnamed_parts(public, lake_version):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile, for a withdrawal
            if now - public.head(key).modified > SWEEP_AGE:
                found.append(key)
    public.delete(*found)
    return len(found)


def done_through(public: Bucket, lake_version: int, first: int) -> int:
    """The last seq of the batch that begins with `first`; 0 if no such batch has been processed.

    A rebuilt lake version has batches of several commits, so this may be further than the commit of `first` goes.
    """
    outcome = outcome_of(public, lake_version, first)
    return outcome.last if outcome else 0


def revisions(public: Bucket, lake_version: int, first: int) -> list[int]:
    """The revisions of the batch's outcome that are there, ascending; a withdrawal removes the older ones."""
    found = map(keys.parse_outcome, public.list(keys.outcomes_prefix(lake_version, first)))
    return [named[2] for named in found if named]


def has_outcome(public: Bucket, lake_version: int, first: int) -> bool:
    """Whether the batch `first` has been processed."""
    return bool(revisions(public, lake_version, first))


def outcome_of(public: Bucket, lake_version: int, first: int) -> Outcome | None:
    """The batch's outcome in its newest revision, or None."""
    while found := revisions(public, lake_version, first):
        with contextlib.suppress(FileNotFoundError):  # there is a newer one since then
            return msgspec.json.decode(public.read(keys.outcome(lake_version, first, found[-1])), type=Outcome)
    return None


def outcomes(public: Bucket, lake_version: int) -> Iterator[Outcome]:
    """All outcomes in order; of several revisions of a batch the newest comes last."""
    for key in public.list(keys.outcomes_prefix(lake_version)):
        if named := keys.parse_outcome(key):
            try:
                yield msgspec.json.decode(public.read(key), type=Outcome)
            except FileNotFoundError:  # an older revision, which a withdrawal has just removed
                if newest := outcome_of(public, lake_version, named[1]):
                    yield newest


def newest_outcome(public: Bucket, lake_version: int) -> Outcome | None:
    """The outcome of the last batch that has one."""
    newest = keys.parse_outcome(max(public.list(keys.outcomes_prefix(lake_version)), default=""))
    return outcome_of(public, lake_version, newest[1]) if newest else None


def current_lake(public: Bucket) -> tuple[int, str | None]:
    """The lake version that serves, and the etag to swap it by (None: version 1, never switched)."""
    record, etag = read_current_lake(public)
    return record.version, etag


def read_current_lake(public: Bucket) -> tuple[LakeVersion, str | None]:
    """What says which lake version serves, and its etag (None: version 1, never switched)."""
    try:
        body, etag = public.read_versioned(keys.CURRENT_LAKE)
    except FileNotFoundError:
        return LakeVersion(), None
    return msgspec.json.decode(body, type=LakeVersion), etag


def serve_lake(public: Bucket, version: int, served: LakeVersion, etag: str | None) -> None:
    """Let `version` serve instead of the one that `served`; SwapLost if another has been let serve since."""
    record = LakeVersion(version=version, previous=served.version)
    public.swap(keys.CURRENT_LAKE, msgspec.json.encode(record), etag=etag)


def versions_there(public: Bucket) -> Iterator[int]:
    """All of which anything is there."""
    for prefix in ("lake/v", "feeds/outcomes-v"):
        after = prefix
        while key := next(iter(public.list(prefix, after=after)), None):
            folder = key[: key.index("/", len(prefix))]
            yield int(folder.removeprefix(prefix))
            after = folder + "0"  # sorts behind all that begins with the folder and `/`


def lake_versions(public: Bucket) -> list[int]:
    """Those that are there, ascending: that have a log of outcomes, or serve. One that is being removed has none."""
    logs = {key.split("/")[1] for key in public.list("feeds/outcomes-v") if key.endswith("/current.atom")}
    found = {int(log.removeprefix(keys.outcomes_log(0)[:-1])) for log in logs}
    return sorted(found | {current_lake(public)[0]})
