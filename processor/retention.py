"""What leads nowhere, or is kept no longer: one rule for each kind of it, and the sweep that removes it.

Nothing younger than a week goes. A week is as long as nobody works who has not committed yet: a writer that has not
within an hour starts over. Beyond that each rule finds only what can never be needed again, but for blobs: a blob that
nobody names may be named at any time by whoever sends the same bytes and finds them there. Hence a blob is moved to the
private bucket first. Whatever is named after all comes back at the next sweep; only what nobody has named for another
week is removed.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, pairwise

from feed.announcer import SWEEP_AGE
from feed.log import LogReader
from feed.sweep import unlinked_pages
from feed.withdrawals import noted_at, noted_withdrawals, read_withdrawal
from infra.bucket import Bucket, Buckets
from processor.catalog import catalogs, named_files
from processor.lake import lake_versions, read_current_lake, revisions, unnamed_parts, versions_there
from processor.named_blobs import NamedBlobs, named_blobs
from schemas import keys
from schemas.tables import TABLES

_CHUNK = 500
_THREADS = 16


@dataclass(frozen=True)
class Candidate:
    """A key that may go. `since` says when it became so, where that is not when it was written."""

    key: str
    since: datetime | None = None


@dataclass(frozen=True)
class Look:
    """What the rules look at."""

    buckets: Buckets
    reader_of: Callable[[str], LogReader]
    blobs: NamedBlobs
    older_than: timedelta
    now: datetime

    @property
    def public(self) -> Bucket:
        return self.buckets.public

    @property
    def private(self) -> Bucket:
        return self.buckets.private

    def modified(self, bucket: Bucket, key: str) -> datetime:
        """Now, if it has gone meanwhile."""
        try:
            return bucket.head(key).modified
        except FileNotFoundError:
            return self.now


Remove = Callable[[Look, list[str]], None]


def _delete_public(look: Look, found: list[str]) -> None:
    look.public.delete(*found)


def _delete_private(look: Look, found: list[str]) -> None:
    look.private.delete(*found)


@dataclass(frozen=True)
class Rule:
    """One kind of litter: why it may go, what finds it, and how it goes."""

    name: str
    why: str
    find: Callable[[Look], Iterator[Candidate]]
    remove: Remove = _delete_public
    private: bool = False


@dataclass(frozen=True)
class Litter:
    """An object that `rule` lets go."""

    rule: Rule
    key: str
    size_bytes: int


@contextlib.contextmanager
def looking(
    buckets: Buckets, reader_of: Callable[[str], LogReader], now: datetime, older_than: timedelta = SWEEP_AGE
) -> Iterator[Look]:
    """What a sweep needs, for the time of the context. `older_than` is at least a week."""
    with named_blobs(buckets.public, reader_of) as blobs:
        yield Look(buckets, reader_of, blobs, max(older_than, SWEEP_AGE), now)


def sweep(look: Look, *, remove: bool) -> Iterator[Litter]:
    """What each rule lets go; with `remove` it has gone when it is told."""
    with ThreadPoolExecutor(_THREADS, "sweep") as pool:
        for rule in RULES:
            found = iter(rule.find(look))
            while chunk := list(islice(found, _CHUNK)):
                litter = [one for one in pool.map(lambda one, rule=rule: _litter(look, rule, one), chunk) if one]
                if remove and litter:
                    rule.remove(look, [one.key for one in litter])
                yield from litter


def _litter(look: Look, rule: Rule, candidate: Candidate) -> Litter | None:
    """None if it is too young, or gone."""
    try:
        head = (look.private if rule.private else look.public).head(candidate.key)
    except FileNotFoundError:
        return None
    age = look.now - (candidate.since or head.modified)
    return Litter(rule, candidate.key, head.size_bytes) if age > look.older_than else None


def restore(look: Look, *, remove: bool) -> int:
    """Bring swept blobs back that a submission names after all; how many those are. Without `remove` only count them.

    A named blob is never swept, so what has come back need not be kept twice.
    """
    swept = [key.removeprefix(keys.SWEPT) for key in look.private.list(keys.SWEPT)]
    named = sorted(set(swept) - set(look.blobs.unnamed(swept)))
    for sha256 in named if remove else ():
        with look.private.local_path(keys.swept_blob(sha256)) as path, contextlib.suppress(FileExistsError):
            look.public.create(keys.blob(sha256), path)
        look.private.delete(keys.swept_blob(sha256))
    return len(named)


# --- the rules ---


def _blobs(look: Look) -> Iterator[Candidate]:
    for sha256 in look.blobs.unnamed(key.rpartition("/")[2] for key in look.public.list("blobs/")):
        yield Candidate(keys.blob(sha256))


def _move_blobs(look: Look, found: list[str]) -> None:
    for key in found:
        sha256 = key.rpartition("/")[2]
        swept = keys.swept_blob(sha256)
        look.private.delete(swept)  # one from an earlier time would be removed too early
        if read_withdrawal(look.public, sha256):
            look.public.delete(key)
            continue
        with look.public.local_path(key) as path:
            look.private.create(swept, path)
        look.public.delete(key)


def _swept_blobs(look: Look) -> Iterator[Candidate]:
    for sha256 in look.blobs.unnamed(key.removeprefix(keys.SWEPT) for key in look.private.list(keys.SWEPT)):
        yield Candidate(keys.swept_blob(sha256))


def _markers(look: Look) -> Iterator[Candidate]:
    for marker in filter(None, map(keys.parse_marker, look.private.list("pending/"))):
        if key := _object_of(marker):
            with contextlib.suppress(FileNotFoundError):
                look.public.head(key)
                continue
            yield Candidate(marker.key, keys.nonce_time(marker.nonce))


def _object_of(marker: keys.Marker) -> str | None:
    if marker.log == keys.SUBMISSIONS_LOG:
        withdrawn = keys.parse_withdrawal_id(marker.id)
        return keys.withdrawal(withdrawn) if withdrawn else keys.submission(marker.id)
    version = marker.log.removeprefix("outcomes-v")
    first, _, revision = marker.id.partition("-")
    numbers = (version, first, revision)
    return keys.outcome(*map(int, numbers)) if all(number.isdecimal() for number in numbers) else None


def _pages(look: Look) -> Iterator[Candidate]:
    logs = sorted({key.split("/")[1] for key in look.public.list("feeds/") if key.endswith("/current.atom")})
    for log in logs:
        yield from map(Candidate, unlinked_pages(look.reader_of(log)))


def _parts(look: Look) -> Iterator[Candidate]:
    for version in lake_versions(look.public):
        yield from map(Candidate, unnamed_parts(look.public, version))


def _catalogs(look: Look) -> Iterator[Candidate]:
    """Those that have had a successor for long; the newest two stay, and so whichever `current.json` names."""
    for version in lake_versions(look.public):
        generations = catalogs(look.public, version)
        for generation, after in pairwise(generations[:-1]):
            since = look.modified(look.public, keys.catalog(version, after))
            yield Candidate(keys.catalog(version, generation), since)


def _merged_files(look: Look) -> Iterator[Candidate]:
    """A file is made for a generation. While that has no catalog, its compaction may still be under way."""
    for version in lake_versions(look.public):
        generations = catalogs(look.public, version)
        named = named_files(look.public, version, generations)
        for table in TABLES:
            for key in look.public.list(keys.catalog_prefix(version, table)):
                made = keys.parse_merged(key)
                if made and key not in named and generations and made[2] <= generations[-1]:
                    yield Candidate(key)


def gone_versions(public: Bucket) -> set[int]:
    """Lake versions below the one that serves, but for the one that served before it."""
    current, _ = read_current_lake(public)
    below = {version for version in versions_there(public) if version < current.version}
    previous = current.previous or max(below, default=0)
    return below - {previous}


def _logs_of_old_versions(look: Look) -> Iterator[Candidate]:
    """Their heads, before everything else: without it nobody takes what is left for a version any more."""
    since = _switched(look)
    for version in sorted(gone_versions(look.public)):
        yield Candidate(keys.feed_head(keys.outcomes_log(version)), since)


def _old_versions(look: Look) -> Iterator[Candidate]:
    since = _switched(look)
    for version in sorted(gone_versions(look.public)):
        for prefix in (keys.feed_prefix(keys.outcomes_log(version)), f"lake/v{version}/", f"snapshots/v{version}/"):
            yield from (Candidate(key, since) for key in look.public.list(prefix) if not key.endswith("/current.atom"))


def _switched(look: Look) -> datetime:
    return look.modified(look.public, keys.CURRENT_LAKE)


def _work_on_old_versions(look: Look) -> Iterator[Candidate]:
    since = _switched(look)
    for version in sorted(gone_versions(look.public)):
        for prefix in (keys.pending_prefix(keys.outcomes_log(version)), f"attempts/v{version}/"):
            yield from (Candidate(key, since) for key in look.private.list(prefix))
        yield Candidate(keys.checkpoint(f"dispatcher-v{version}"), since)


def _attempts(look: Look) -> Iterator[Candidate]:
    done: dict[tuple[int, int], datetime | None] = {}
    for key in look.private.list("attempts/"):
        _, version, first, *_ = key.split("/")
        batch = int(version.removeprefix("v")), int(first)
        if batch not in done:
            there = revisions(look.public, *batch)
            done[batch] = look.modified(look.public, keys.outcome(*batch, there[0])) if there else None
        if since := done[batch]:
            yield Candidate(key, since)


def _probes(look: Look) -> Iterator[Candidate]:
    yield from map(Candidate, look.public.list("probe/"))


def _withdrawals(look: Look) -> Iterator[Candidate]:
    for sha256, noted in noted_withdrawals(look.private).items():
        if read_withdrawal(look.public, sha256) is None:
            yield from (Candidate(key, noted_at(key)) for key in noted)


RULES = (
    Rule("swept blobs", "no submission has named it since", _swept_blobs, _delete_private, private=True),
    Rule("blobs", "no submission names it; it is moved to the private bucket", _blobs, _move_blobs),
    Rule("markers", "its object never came", _markers, _delete_private, private=True),
    Rule("withdrawals", "nothing was withdrawn after all", _withdrawals, _delete_private, private=True),
    Rule("pages", "no page of its log leads to it", _pages),
    Rule("parts", "the outcome of its batch names others", _parts),
    Rule("catalogs", "a newer one has replaced it", _catalogs),
    Rule("merged files", "no catalog names it", _merged_files),
    Rule("logs of old lake versions", "another version serves, and another served before that", _logs_of_old_versions),
    Rule("work on old lake versions", "the version is no more", _work_on_old_versions, _delete_private, private=True),
    Rule("old lake versions", "the version is no more", _old_versions),
    Rule("attempts", "its batch has its outcome", _attempts, _delete_private, private=True),
    Rule("probes", "the start that wrote it has died", _probes),
)
"""All kinds of litter. Refused files of the inbox, unused grants and old snapshots are swept by those who make them."""
