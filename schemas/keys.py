"""Every key of both buckets, built and parsed in one place.

Public bucket:

    blobs/<aa>/<sha256>                               the bytes sent
    submissions/<aa>/<id>.json                        what they are and where they came from
    feeds/<log>/current.atom                          a log's head
    feeds/<log>/<first>-<last>-<digest16>.atom        a log's page, never changed
    feeds/<log>/index/current.json                    which pages hold which entries
    feeds/<log>/index/<first>-<last>-<digest16>.json  the same of older pages, never changed
    withdrawals/<aa>/<sha256>.json                    this blob is withdrawn, and why; nobody may send it again
    lake/current.json                                 which lake version serves
    lake/v<N>/<table>/<first>-<last>-<digest16>.parquet   a part
    lake/v<N>/outcomes/<first>/<revision>.json        what came of a batch
    lake/v<N>/catalog/<generation>.json               which files hold the rows of all outcomes up to some
    lake/v<N>/catalog/current.json                    the newest of these
    lake/v<N>/catalog/<table>/<generation>-<digest16>.parquet   rows of many parts, merged for that generation
    snapshots/v<N>/<layout>/<outcomes seq>-<submissions seq>-<digest16>.duckdb   a dashboard's database, to start from
    snapshots/v<N>/<layout>/<the same>.json           what it holds; written after it
    projects/<project>.json                           a project's public settings
    benchmarks/<project>/<name>/<version>.json        a benchmark with a schema of its own, as registered
    probe/<nonce>/…                                   written and deleted at start: does S3 write conditionally?

Private bucket:

    pending/<log>/<lane>/<nonce>-<id>                 a marker: <id> waits to be announced
    attempts/v<N>/<first>/<k>/<seq>                   delivery k of a batch reached this seq
    keys/signing                                      what checkpoints of the logs are signed with
    withdrawing/<sha256>-<nonce>                      a note: look whether anything of a withdrawn blob is left
    sources/<name>.json                               somebody else's feed whose enclosures are taken
    sources/<name>/…                                  how far that has come
    hub/<digest32>.json                               a subscription to a log by WebSub
    checkpoints/<name>.json                           how far a follower has come
    swept/<sha256>                                    a blob that nobody named, kept for a while longer
    leases/<name>.json                                who of many does what one is enough for
    tokens/<sha256 of the token>.json                 a bearer token, hashed
    projects/<project>.json                           a project's private rules
    runners/<runner>.json                             whose files in the inbox are taken, and for which projects
    inbox/<runner>/<any name>                         dropped there by others than us: the one key of any form
    inbox-refused/<runner>/<digest32>.json            why a version of such an object is not taken
    uploads/<id>/grant.json                           what may be uploaded by links, as the submission <id> to be
    uploads/<id>/body                                 the bytes that came by them

Sequence numbers are zero-padded to 12 digits, so that the order of keys is the order of the log. A nonce starts with
its time, so that the oldest marker of a lane lists first. No key is ever built from unchecked input.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from schemas.errors import Refused

PROJECT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}[a-z0-9]|[a-z0-9]")
SHA256 = re.compile(r"[0-9a-f]{64}")
LAKE_VERSION = re.compile(r"v([1-9][0-9]{0,8})")
BENCHMARK = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
OWN_SCHEMA = "benchmark"
"""The format of results with a schema of their own; a submission names it as `benchmark:<name>@<version>`."""
SUBMISSIONS_LOG = "submissions"
CURRENT_LAKE = "lake/current.json"

_PAGE = re.compile(r"feeds/([a-z0-9-]+)/(\d{12})-(\d{12})-([0-9a-f]{16})\.atom")
_PART = re.compile(r"lake/v(\d+)/([a-z_]+)/(\d{12})-(\d{12})-([0-9a-f]{16})\.parquet")
_OUTCOME = re.compile(r"lake/v(\d+)/outcomes/(\d{12})/(\d{6})\.json")
_CATALOG = re.compile(r"lake/v(\d+)/catalog/(\d{12})\.json")
_MERGED = re.compile(r"lake/v(\d+)/catalog/([a-z_]+)/(\d{12})-([0-9a-f]{16})\.parquet")
_SNAPSHOT = re.compile(r"snapshots/v(\d+)/\d+\.\d+/(\d{12})-\d{12}-[0-9a-f]{16}\.(?:json|duckdb)")
_BENCHMARK = re.compile(rf"benchmarks/({PROJECT.pattern})/({BENCHMARK.pattern})/(\d{{6}})\.json")
_BENCHMARK_FORMAT = re.compile(rf"{OWN_SCHEMA}:({BENCHMARK.pattern})(?:@([1-9]\d{{0,5}}))?", re.ASCII)
_MARKER = re.compile(r"pending/([a-z0-9-]+)/([a-z0-9._-]+)/([0-9a-f]{32})-((?:withdrawal-)?[0-9a-f-]+)")
_INDEX = re.compile(r"feeds/([a-z0-9-]+)/index/(\d{12})-(\d{12})-([0-9a-f]{16})\.json")
_WITHDRAWAL = re.compile(r"withdrawals/([0-9a-f]{2})/(\1[0-9a-f]{62})\.json")

CONTENT_TYPES = {
    ".atom": "application/atom+xml",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
}


def checked_project(name: str, where: str = "project") -> str:
    """`name` if it may name a project (lower-case letters, digits, `.`, `_`, `-`; at most 64), else Refused 422."""
    if not PROJECT.fullmatch(name) or ".." in name:
        raise Refused(
            where,
            "1 to 64 of a-z, 0-9, '.', '_', '-', starting and ending with a letter or digit",
            repr(name[:80]),
            status=422,
        )
    return name


def checked_benchmark(name: str, where: str = "benchmark") -> str:
    """`name` if it may name a benchmark (lower-case letters, digits, `.`, `_`, `-`; at most 64), else Refused 422."""
    if not BENCHMARK.fullmatch(name) or ".." in name:
        expected = "1 to 64 of a-z, 0-9, '.', '_', '-', starting with a letter or digit"
        raise Refused(where, expected, repr(name[:80]), status=422)
    return name


def checked_sha256(text: str, where: str) -> str:
    """`text` if it is 64 lower-case hexadecimal digits, else Refused 422."""
    if not SHA256.fullmatch(text):
        raise Refused(where, "64 lower-case hexadecimal digits", repr(text[:80]), status=422)
    return text


def content_type(key: str) -> str:
    """The content type that a key's ending implies; blobs are plain octets whatever their sender called them."""
    dot = key.rfind(".")
    return (
        CONTENT_TYPES.get(key[dot:], "application/octet-stream") if dot > key.rfind("/") else "application/octet-stream"
    )


def padded(seq: int) -> str:
    return f"{seq:012d}"


def blob(sha256: str) -> str:
    return f"blobs/{sha256[:2]}/{sha256}"


SWEPT = "swept/"


def swept_blob(sha256: str) -> str:
    return f"{SWEPT}{sha256}"


def submission(submission_id: str) -> str:
    return f"submissions/{submission_id[:2]}/{submission_id}.json"


def project(name: str) -> str:
    return f"projects/{name}.json"


def token(token_sha256: str) -> str:
    return f"tokens/{token_sha256}.json"


def runner(name: str) -> str:
    return f"runners/{name}.json"


def inbox_refusals(runner: str) -> str:
    """What the refusals of a runner's objects begin with."""
    return f"inbox-refused/{runner}/"


def inbox_refusal(runner: str, version: str) -> str:
    """Of one version of an object, whatever its name; `version` tells it from all others."""
    return f"{inbox_refusals(runner)}{hashlib.sha256(version.encode()).hexdigest()[:32]}.json"


UPLOADS = "uploads/"


def upload_grant(submission_id: str) -> str:
    return f"{UPLOADS}{submission_id}/grant.json"


def upload_body(submission_id: str) -> str:
    return f"uploads/{submission_id}/body"


def checkpoint(name: str) -> str:
    return f"checkpoints/{name}.json"


# --- benchmarks with a schema of their own ---


def benchmark(project: str, name: str, version: int) -> str:
    return f"benchmarks/{project}/{name}/{version:06d}.json"


def benchmarks_prefix(project: str, name: str = "") -> str:
    """Of all versions of benchmark `name`, or of all benchmarks of `project`."""
    return f"benchmarks/{project}/{name}/" if name else f"benchmarks/{project}/"


def parse_benchmark(key: str) -> tuple[str, str, int] | None:
    """(project, name, version) of a registered benchmark's key, or None."""
    match = _BENCHMARK.fullmatch(key)
    return (match[1], match[2], int(match[3])) if match else None


def benchmark_format(name: str, version: int) -> str:
    """What a submission names as its format."""
    return f"{OWN_SCHEMA}:{name}@{version}"


def parse_benchmark_format(format: str) -> tuple[str, int | None] | None:
    """(name, version) of a declared format `benchmark:<name>[@<version>]`, or None if it is not one."""
    match = _BENCHMARK_FORMAT.fullmatch(format)
    return (match[1], int(match[2]) if match[2] else None) if match and ".." not in match[1] else None


# --- logs ---


def outcomes_log(lake_version: int) -> str:
    return f"outcomes-v{lake_version}"


def feed_head(log: str) -> str:
    return f"feeds/{log}/current.atom"


def feed_prefix(log: str) -> str:
    return f"feeds/{log}/"


@dataclass(frozen=True)
class Page:
    """A page's key, taken apart."""

    log: str
    first: int
    last: int
    digest16: str

    @property
    def key(self) -> str:
        return f"feeds/{self.log}/{padded(self.first)}-{padded(self.last)}-{self.digest16}.atom"


def parse_page(key: str) -> Page | None:
    """The page that `key` names, or None if it is not a page's key."""
    match = _PAGE.fullmatch(key)
    return Page(match[1], int(match[2]), int(match[3]), match[4]) if match else None


def feed_index(log: str) -> str:
    """Of the newest part of a log's index."""
    return f"feeds/{log}/index/current.json"


def sealed_index(log: str, first: int, last: int, digest16: str) -> str:
    """Of a part of a log's index that never changes, for the pages that hold `first`..`last`."""
    return f"feeds/{log}/index/{padded(first)}-{padded(last)}-{digest16}.json"


def parse_sealed_index(key: str) -> Page | None:
    """Log, range and digest of a sealed part of an index, or None."""
    match = _INDEX.fullmatch(key)
    return Page(match[1], int(match[2]), int(match[3]), match[4]) if match else None


SIGNING_KEY = "keys/signing"

# --- withdrawals ---

_WITHDRAWAL_ID = "withdrawal-"


def withdrawal(sha256: str) -> str:
    """Of what says that the blob of that digest is withdrawn."""
    return f"withdrawals/{sha256[:2]}/{sha256}.json"


def parse_withdrawal(key: str) -> str | None:
    """The digest of the blob that a withdrawal's key names, or None."""
    match = _WITHDRAWAL.fullmatch(key)
    return match[2] if match else None


def withdrawal_id(sha256: str) -> str:
    """The id under which a withdrawal is announced."""
    return _WITHDRAWAL_ID + sha256


def parse_withdrawal_id(id: str) -> str | None:
    """The digest of the blob that an entry of that id withdraws, or None if it withdraws nothing."""
    sha256 = id.removeprefix(_WITHDRAWAL_ID)
    return sha256 if sha256 != id and SHA256.fullmatch(sha256) else None


WITHDRAWING = "withdrawing/"
_WITHDRAWING = re.compile(rf"{WITHDRAWING}([0-9a-f]{{64}})-([0-9a-f]{{32}})")


def withdrawing(sha256: str, nonce: str) -> str:
    return f"{WITHDRAWING}{sha256}-{nonce}"


def parse_withdrawing(key: str) -> tuple[str, str] | None:
    """(digest of the blob, nonce) of a note that asks for its removal, or None."""
    match = _WITHDRAWING.fullmatch(key)
    return (match[1], match[2]) if match else None


# --- sources and subscribers ---

SOURCES = "sources/"
HUB = "hub/"


def source(name: str) -> str:
    return f"{SOURCES}{name}.json"


def source_state(name: str) -> str:
    return f"{SOURCES}{name}/state.json"


def subscription(topic: str, callback: str) -> str:
    """Of the one subscription that there may be of a callback to a topic."""
    digest = hashlib.sha256(f"{topic}\n{callback}".encode()).hexdigest()
    return f"{HUB}{digest[:32]}.json"


# --- markers ---


def new_nonce(now: datetime) -> str:
    """32 hexadecimal digits: 12 of milliseconds since 1970, then 20 of chance. Sorts by time."""
    return f"{int(now.timestamp() * 1000):012x}{secrets.token_hex(10)}"


def nonce_time(nonce: str) -> datetime:
    return datetime.fromtimestamp(int(nonce[:12], 16) / 1000, UTC)


@dataclass(frozen=True)
class Marker:
    """Something waits to be announced in `log`; `lane` (a project) takes turns with the other lanes."""

    log: str
    lane: str
    nonce: str
    id: str

    @property
    def key(self) -> str:
        return f"pending/{self.log}/{self.lane}/{self.nonce}-{self.id}"


def pending_prefix(log: str) -> str:
    return f"pending/{log}/"


def parse_marker(key: str) -> Marker | None:
    match = _MARKER.fullmatch(key)
    return Marker(match[1], match[2], match[3], match[4]) if match else None


# --- lake ---


def part(lake_version: int, table: str, first: int, last: int, digest16: str) -> str:
    return f"{parts_prefix(lake_version, table, first)}{padded(last)}-{digest16}.parquet"


def parts_prefix(lake_version: int, table: str, first: int) -> str:
    """Of all parts of `table` that a batch may have, also those of attempts that would have ended elsewhere."""
    return f"lake/v{lake_version}/{table}/{padded(first)}-"


@dataclass(frozen=True)
class Part:
    """A part's key, taken apart."""

    lake_version: int
    table: str
    first: int
    last: int
    digest16: str


def parse_part(key: str) -> Part | None:
    match = _PART.fullmatch(key)
    return Part(int(match[1]), match[2], int(match[3]), int(match[4]), match[5]) if match else None


def outcomes_prefix(lake_version: int, first: int | None = None) -> str:
    """Of the revisions of the batch `first`, or of all outcomes."""
    prefix = f"lake/v{lake_version}/outcomes/"
    return prefix if first is None else f"{prefix}{padded(first)}/"


def outcome(lake_version: int, first: int, revision: int) -> str:
    return f"{outcomes_prefix(lake_version, first)}{revision:06d}.json"


def outcome_id(first: int, revision: int) -> str:
    """The id under which an outcome is announced."""
    return f"{padded(first)}-{revision:06d}"


def parse_outcome(key: str) -> tuple[int, int, int] | None:
    """(lake version, first seq, revision) of an outcome's key, or None."""
    match = _OUTCOME.fullmatch(key)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def catalog_prefix(lake_version: int, table: str = "") -> str:
    """Of a lake version's catalogs, or of the files of `table` that were merged for them."""
    return f"lake/v{lake_version}/catalog/{table}/" if table else f"lake/v{lake_version}/catalog/"


def catalog(lake_version: int, generation: int) -> str:
    return f"{catalog_prefix(lake_version)}{padded(generation)}.json"


def current_catalog(lake_version: int) -> str:
    return f"{catalog_prefix(lake_version)}current.json"


def parse_catalog(key: str) -> tuple[int, int] | None:
    """(lake version, generation) of a catalog's key, or None."""
    match = _CATALOG.fullmatch(key)
    return (int(match[1]), int(match[2])) if match else None


def merged(lake_version: int, table: str, generation: int, digest16: str) -> str:
    return f"{catalog_prefix(lake_version, table)}{padded(generation)}-{digest16}.parquet"


def parse_merged(key: str) -> tuple[int, str, int, str] | None:
    """(lake version, table, generation, digest16) of a merged file's key, or None."""
    match = _MERGED.fullmatch(key)
    return (int(match[1]), match[2], int(match[3]), match[4]) if match else None


def lease(name: str) -> str:
    return f"leases/{name}.json"


SNAPSHOTS = "snapshots/"


def snapshots_prefix(lake_version: int, layout: str) -> str:
    return f"{SNAPSHOTS}v{lake_version}/{layout}/"


def snapshot(lake_version: int, layout: str, outcomes_seq: int, submissions_seq: int, sha256: str) -> str:
    """Of a dashboard's database; `layout` says which releases can read it. Later data sorts later."""
    name = f"{padded(outcomes_seq)}-{padded(submissions_seq)}-{sha256[:16]}"
    return f"{snapshots_prefix(lake_version, layout)}{name}.duckdb"


def snapshot_record(key: str) -> str:
    """Of the record that says what the snapshot `key` holds."""
    return key.removesuffix(".duckdb") + ".json"


def is_snapshot(key: str) -> bool:
    """Whether `key` is one of a snapshot or of its record."""
    return _SNAPSHOT.fullmatch(key) is not None


def parse_snapshot(key: str) -> tuple[int, int] | None:
    """(lake version, last seq of its outcomes log) that a snapshot or its record holds, or None."""
    match = _SNAPSHOT.fullmatch(key)
    return (int(match[1]), int(match[2])) if match else None


def attempts_prefix(lake_version: int, first: int) -> str:
    return f"attempts/v{lake_version}/{padded(first)}/"


def attempt(lake_version: int, first: int, k: int, seq: int) -> str:
    """Delivery `k` of the batch `first` has begun with `seq`."""
    return f"attempts/v{lake_version}/{padded(first)}/{k:06d}/{padded(seq)}"


# --- what may lie in the public bucket ---

_PUBLIC = (
    re.compile(r"blobs/([0-9a-f]{2})/\1[0-9a-f]{62}"),
    re.compile(r"submissions/([0-9a-f]{2})/\1[0-9a-f]{62}\.json"),
    re.compile(r"feeds/[a-z0-9-]+/current\.atom"),
    _PAGE,
    re.compile(r"feeds/[a-z0-9-]+/index/current\.json"),
    _INDEX,
    _WITHDRAWAL,
    re.compile(r"lake/current\.json"),
    _PART,
    _OUTCOME,
    _CATALOG,
    re.compile(r"lake/v\d+/catalog/current\.json"),
    _MERGED,
    re.compile(rf"projects/(?:{PROJECT.pattern})\.json"),
    _BENCHMARK,
    _SNAPSHOT,
    re.compile(r"probe/[0-9a-f]+/.+"),
)


_MUTABLE = re.compile(r".*/current\.[a-z]+")


def is_mutable(key: str) -> bool:
    """Whether the public object of that key is a pointer that changes: each of those is called current."""
    return _MUTABLE.fullmatch(key) is not None


def is_public(key: str) -> bool:
    """Whether an object of that key may lie in the public bucket: whether it is one of those listed above."""
    return any(pattern.fullmatch(key) for pattern in _PUBLIC)
