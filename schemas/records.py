"""The records that travel: what is written as JSON into the buckets and over HTTP.

Every record carries `schema_version`. Readers ignore fields they do not know, and nobody rewrites another's record, so
unknown fields stay where they are. Times are UTC, ISO 8601; sizes are bytes; durations are seconds.
"""

import hashlib
from datetime import datetime
from typing import Any, Literal

import msgspec

SCHEMA_VERSION = 1

Verdict = Literal["accepted", "rejected", "quarantined", "withdrawn"]
State = Literal["received", "announced", "accepted", "rejected", "quarantined", "withdrawn"]
Encoding = Literal["identity", "gzip", "zstd"]


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Shared settings of the records: immutable, by keyword, defaults left out of the JSON."""


class Problem(Record, frozen=True, kw_only=True):
    """One thing that is wrong with a file: where, what was expected, what was found.

    `where` is a JSON Pointer, an XPath-like path, or `line N`. `effect` says what it cost: `refused` (the run or file
    that holds it gave no rows) or `kept` (the rows are there, flagged).
    """

    where: str
    expected: str
    found: str
    effect: Literal["refused", "kept"] = "refused"

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, found {self.found}"


class Commit(Record, frozen=True, kw_only=True):
    """What was measured. Only `id` is certain; nothing here names a person."""

    id: str
    parents: list[str] = []
    time: datetime | None = None
    subject: str = ""
    branch: str = ""
    dirty: bool | None = None
    declared: bool = False
    """Named by hand rather than found; then it outranks the commit that the file itself names."""


class Machine(Record, frozen=True, kw_only=True):
    """The parts of an environment that make its identity. Unknown parts are empty or None."""

    cpu: str = ""
    cores: int | None = None
    ram_gib: int | None = None
    os: str = ""
    """Name and major version: `Debian 12`, `macOS 15`, `Windows 11`."""
    runtime: str = ""
    """Language runtime, major.minor: `CPython 3.12`."""


class Chunk(Record, frozen=True, kw_only=True):
    """This file is part `index` (from 1) of `total` of the run that `group` names."""

    group: str
    index: int
    total: int


class Context(Record, frozen=True, kw_only=True):
    """Where a file came from, as its sender says. Part of the submission's identity, so nothing here may change
    between two pushes of the same result: no push time, no attempt, no load."""

    commit: Commit | None = None
    environment: str = ""
    """Declared name; if given, it alone is the environment's identity."""
    machine: Machine | None = None
    labels: dict[str, str] = {}
    ci: dict[str, str] = {}
    """Provider, run URL, job: public facts of a CI run."""
    chunk: Chunk | None = None
    supersedes: str = ""


class Trust(Record, frozen=True, kw_only=True):
    """How we know who sent it. `anonymous`, `local` (same machine), `token` with its public name, `runner`: the name
    of whoever may write to that part of the inbox, or `source`: fetched by us from the feed of that id."""

    kind: Literal["anonymous", "local", "token", "runner", "source"] = "anonymous"
    name: str = ""


class Origin(Record, frozen=True, kw_only=True):
    """Where a fetched file was first published. `feed` is an Atom id, the same by whatever way it came to us."""

    feed: str
    id: str
    """Of its entry there."""
    url: str = ""
    """What we fetched."""


class Blob(Record, frozen=True, kw_only=True):
    """The bytes sent: digest and size of exactly those, and what they are."""

    sha256: str
    size_bytes: int
    media_type: str = "application/octet-stream"
    encoding: Encoding = "identity"


class Submission(Record, frozen=True, kw_only=True):
    """`submissions/<aa>/<id>.json`. `id` covers blob, project, format, context and trust: `submission_id`."""

    id: str
    nonce: str
    project: str
    blob: Blob
    format: str = "auto"
    context: Context = Context()
    trust: Trust = Trust()
    origin: Origin | None = None
    received: datetime
    schema_version: int = SCHEMA_VERSION


def submission_id(*, sha256: str, project: str, format: str, context: Context, trust: Trust) -> str:
    """64 hexadecimal digits, the same for the same result however often and whenever it is sent."""
    covered = {"sha256": sha256, "project": project, "format": format, "context": context, "trust": trust}
    return hashlib.sha256(msgspec.json.encode(covered, order="sorted")).hexdigest()


class Receipt(Record, frozen=True, kw_only=True):
    """The answer to a push: from here on the submission cannot be lost."""

    id: str
    project: str
    sha256: str
    size_bytes: int
    status: Literal["created", "known"]
    url: str
    """Of the submission's state (JSON), relative to the server."""
    page: str
    """Of the submission's page, relative to the server."""
    schema_version: int = SCHEMA_VERSION


class Category(Record, frozen=True, kw_only=True):
    """What an entry is filed under. `scheme` is `project`, `format` or `verdict`."""

    scheme: str
    term: str


class Entry(Record, frozen=True, kw_only=True):
    """One line of a log, as in the Atom page. `id` is a submission's id, `withdrawal-<sha256>` for a withdrawal, or, in
    an outcomes log, `<first>-<revision>`.

    `seq` is dense from 1. `batch` is the first seq of the commit that announced it. `key` is the enclosure: the blob,
    the withdrawal's or the outcome's JSON; `sha256` and `size_bytes` are the enclosure's.
    """

    seq: int
    batch: int
    id: str
    title: str
    key: str
    sha256: str
    size_bytes: int
    media_type: str
    encoding: Encoding = "identity"
    project: str = ""
    summary: str = ""
    categories: tuple[Category, ...] = ()
    withdraws: str = ""
    """A withdrawal: the digest of the blob. Each submission of it is withdrawn, earlier or later, named or not."""
    withdrawn: tuple[str, ...] = ()
    """Ids of submissions that a withdrawal knows of."""
    published: datetime
    updated: datetime


class Checkpoint(Record, frozen=True, kw_only=True):
    """A signed word on a log: entries 1 to `seq` have this `chain` digest. See feed/README.md."""

    log: str
    seq: int
    chain: str
    time: datetime
    key: str
    """Ed25519 public key, 64 hexadecimal digits."""
    signature: str
    """128 hexadecimal digits."""


class IndexedPages(Record, frozen=True, kw_only=True):
    """One line of a log's index: a page, or a sealed part of the index, and the range that it holds."""

    first: int
    last: int
    key: str
    sha256: str


class LogIndex(Record, frozen=True, kw_only=True):
    """`feeds/<log>/index/….json`: which pages hold which entries, ascending and without gaps."""

    log: str
    earlier: list[IndexedPages] = []
    """Sealed parts of the index, for what lies before `pages`."""
    pages: list[IndexedPages] = []
    schema_version: int = SCHEMA_VERSION


class Withdrawal(Record, frozen=True, kw_only=True):
    """`withdrawals/<aa>/<sha256>.json`: the blob of that digest is withdrawn; sending it again is refused with 410."""

    sha256: str
    reason: str
    submissions: list[str]
    """Ids of all submissions of the blob that there were; later ones are withdrawn too."""
    project: str
    """Of the first of them."""
    nonce: str
    withdrawn: datetime
    schema_version: int = SCHEMA_VERSION


class Subscription(Record, frozen=True, kw_only=True):
    """`hub/<digest32>.json` in the private bucket: a callback that gets a log's new entries (WebSub)."""

    topic: str
    callback: str
    log: str
    secret: str = ""
    local: bool = False
    """Asked for by a program on this machine, so the callback may be there too."""
    expires: datetime
    delivered: int
    """Seq of the last entry that the callback has taken."""
    offered: int = 0
    """Seq of the last entry that it was offered."""
    failures: int = 0
    """Since it last took something."""
    next_try: datetime | None = None
    """After a failure: not before then."""
    schema_version: int = SCHEMA_VERSION


class PartRef(Record, frozen=True, kw_only=True):
    """A part that an outcome names."""

    table: str
    key: str
    sha256: str
    size_bytes: int
    rows: int


class SubmissionOutcome(Record, frozen=True, kw_only=True):
    """What came of one submission. `problems` is capped; `problems_total` is not."""

    seq: int
    id: str
    verdict: Verdict
    format: str = ""
    """Detected or declared format id; empty if none fits."""
    problems: list[Problem] = []
    problems_total: int = 0
    runs: int = 0
    measurements: int = 0
    tests: int = 0
    unread: dict[str, int] = {}
    """The loss report: fields of the file that reached no column, by name, and how often each occurs."""


class Outcome(Record, frozen=True, kw_only=True):
    """`lake/v<N>/outcomes/<first>/<revision>.json`: what came of the batch `first`..`last`. Its creation commits it.

    `through` is the last seq of the submissions log that it has taken into account.
    """

    first: int
    last: int
    revision: int
    nonce: str
    through: int
    transform_version: int
    submissions: list[SubmissionOutcome]
    parts: list[PartRef]
    finished: datetime
    schema_version: int = SCHEMA_VERSION


class LakeVersion(Record, frozen=True, kw_only=True):
    """`lake/current.json`: the lake version that serves."""

    version: int = 1
    previous: int = 0
    """The version that served before; 0 if there was none."""
    schema_version: int = SCHEMA_VERSION


class CatalogFile(Record, frozen=True, kw_only=True):
    """A Parquet file of one table: a part, or rows of many parts merged and sorted."""

    key: str
    sha256: str
    size_bytes: int
    rows: int
    first: int
    """Least `seq` of a row, or less."""
    last: int
    """Greatest `seq` of a row, or more."""
    lowest: dict[str, str] = {}
    """Least value of a column that the rows are sorted by; a column that is not here may hold any."""
    highest: dict[str, str] = {}


class Catalog(Record, frozen=True, kw_only=True):
    """`lake/v<N>/catalog/<generation>.json`: files that hold each row of the outcomes of the log up to `through` once.

    The lake's rows now are these, minus the ranges of later outcomes of a revision above 0, plus the parts of all later
    outcomes; of several revisions of a batch only the newest counts, also if an older one is announced after it.
    """

    version: int
    generation: int
    """Dense from 1."""
    through: int
    """Last seq of the outcomes log that the files hold."""
    tables: dict[str, list[CatalogFile]]
    revisions: dict[int, int] = {}
    """Of batches, by their first seq, which the files hold in a revision above 0."""
    schema_version: int = SCHEMA_VERSION


class CurrentCatalog(Record, frozen=True, kw_only=True):
    """`lake/v<N>/catalog/current.json`: the key of the newest catalog, or of one a moment older."""

    key: str
    schema_version: int = SCHEMA_VERSION


class Project(Record, frozen=True, kw_only=True):
    """`projects/<project>.json` in the public bucket: what everybody may know."""

    name: str
    title: str = ""
    description: str = ""
    url: str = ""
    default_branch: str = "main"
    created: datetime
    schema_version: int = SCHEMA_VERSION


class ProjectRules(Record, frozen=True, kw_only=True):
    """`projects/<project>.json` in the private bucket: what only the operator sets."""

    name: str
    anonymous: bool = True
    """Whether uploads without a token are taken, where the server takes any."""
    max_blob_bytes: int | None = None
    schema_version: int = SCHEMA_VERSION


class Metric(Record, frozen=True, kw_only=True):
    """Which value of a result is a measurement. `path` is a JSON Pointer in which a step `*` stands for every element.

    The value is a number, or samples: a list of numbers or text such as `54.6:54.5:54.7`. `samples` may point to them
    where they stand apart from the number that sums them up; its steps `*` are those of `path`.
    """

    path: str
    metric: str
    unit: str = ""
    better: Literal["lower", "higher", ""] = ""
    samples: str = ""


class Param(Record, frozen=True, kw_only=True):
    """Which value of a result says what was measured: a parameter of its series. `path` as in Metric."""

    path: str
    name: str


class Benchmark(Record, frozen=True, kw_only=True):
    """`benchmarks/<project>/<name>/<version>.json`: JSON with a schema of its own, as a project has registered it.

    A version never changes; a submission names the one that it was admitted with (`benchmark:<name>@<version>`).
    """

    name: str
    version: int
    title: str = ""
    description: str = ""
    url: str = ""
    image: str = ""
    """Container image, with its tag in `tag`."""
    tag: str = ""
    schema: dict[str, Any]
    metrics: list[Metric]
    params: list[Param] = []
    execution_time: str = ""
    """JSON Pointer of the time at which the benchmark ran, which every result must have; empty if none is required."""
    created: datetime
    schema_version: int = SCHEMA_VERSION


class Token(Record, frozen=True, kw_only=True):
    """`tokens/<sha256>.json` in the private bucket. The token itself is shown once and stored nowhere."""

    name: str
    projects: list[str]
    """Projects it may push to; `*` is all."""
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None
    schema_version: int = SCHEMA_VERSION


class Runner(Record, frozen=True, kw_only=True):
    """`runners/<runner>.json` in the private bucket: files below `inbox/<runner>/` are taken for these projects."""

    name: str
    projects: list[str]
    """`*` is all. A file that names none belongs to the only one, if there is but one."""
    created: datetime
    schema_version: int = SCHEMA_VERSION


class InboxRefusal(Record, frozen=True, kw_only=True):
    """`inbox-refused/<runner>/<digest32>.json` in the private bucket: why this version of an object is not taken.

    Both are removed after a week; until then the object stays as it is.
    """

    key: str
    etag: str
    modified: datetime
    size_bytes: int
    problem: Problem
    refused: datetime
    schema_version: int = SCHEMA_VERSION


class Source(Record, frozen=True, kw_only=True):
    """`sources/<name>.json` in the private bucket: somebody else's feed whose enclosures become submissions."""

    name: str
    url: str
    project: str = ""
    """Where everything of it goes; empty: to `default`, or for a Runfeed log to the projects that it names."""
    only: list[str] = []
    """Of a Runfeed log: the projects that are taken; empty: all."""
    format: str = "auto"
    """Of what comes without one."""
    every_seconds: int | None = None
    """Between two looks; None: as the settings have it."""
    max_bytes: int | None = None
    """Of one enclosure; None: as the settings and the project have it."""
    key: str = ""
    """Of a Runfeed log: the public key that signs it; empty: the one that it was made with."""
    created: datetime
    schema_version: int = SCHEMA_VERSION


class SourceNote(Record, frozen=True, kw_only=True):
    """Something of a source that was not taken, or that needs somebody's eye, and why."""

    time: datetime
    entry: str
    """Its Atom id."""
    url: str
    problem: Problem


class SourceState(Record, frozen=True, kw_only=True):
    """`sources/<name>/state.json` in the private bucket: how far a source has come, swapped by whoever looks at it."""

    url: str
    """Of the source that this is the state of; that of another URL does not count."""
    kind: Literal["", "log", "feed"] = ""
    """A Runfeed log or any other feed; empty until it was first read."""
    feed: str = ""
    """Its Atom id, or the URL of one that has none; once known it must stay the same."""
    etag: str = ""
    modified: str = ""
    """Validators (ETag, Last-Modified) of the document that has been worked off completely."""
    seq: int = 0
    """Of a log: entries 1 to `seq` have been worked off."""
    chain: str = ""
    """Of a log: its chain digest there."""
    key: str = ""
    """Of a log: what its checkpoints are signed with."""
    seen: list[str] = []
    """Of a feed: digests of the enclosures that were worked off, bounded."""
    older: str = ""
    """Of a feed: the archive document to go on with, further back."""
    archives: int = 0
    """Of a feed: how many documents of its archive have been gone through since the newest; bounded."""
    whole: bool = False
    """Of a feed: whether its archive has been gone through once."""
    tries: dict[str, int] = {}
    """How often those were tried in vain that may do later."""
    taken: int = 0
    known: int = 0
    """Which were submissions here already."""
    skipped: int = 0
    """Which are not for us: our own, of other projects, pictures and sound, withdrawals."""
    refused: int = 0
    notes: list[SourceNote] = []
    """The last of these, bounded."""
    looked: datetime | None = None
    next_look: datetime | None = None
    failures: int = 0
    """Looks in a row that came to nothing."""
    last_error: str = ""
    schema_version: int = SCHEMA_VERSION


class PublishedSnapshot(Record, frozen=True, kw_only=True):
    """`snapshots/v<N>/…/….json`: a dashboard's database of one data version, for others to start from."""

    key: str
    sha256: str
    size_bytes: int
    lake_version: int
    outcomes_seq: int
    submissions_seq: int
    layout: str
    """Versions of the dashboard's own tables and of the lake's: `3.2`."""
    duckdb: str
    """The version that wrote it; older ones may be unable to read it."""
    published: datetime
    schema_version: int = SCHEMA_VERSION


class Grant(Record, frozen=True, kw_only=True):
    """`uploads/<id>/grant.json` in the private bucket: a submission to be, whose bytes come by presigned links.

    `id` is the submission's. All that is said of the file is fixed here; bytes of another digest are refused.
    """

    id: str
    project: str
    format: str
    media_type: str
    context: Context
    trust: Trust
    sha256: str
    size_bytes: int
    upload: str = ""
    """Storage's id of the upload in parts; empty if it comes whole."""
    part_bytes: int
    created: datetime
    schema_version: int = SCHEMA_VERSION


class Piece(Record, frozen=True, kw_only=True):
    """Bytes `start` to `start + size_bytes` of a file are to be PUT to `url` with these headers."""

    start: int
    size_bytes: int
    url: str
    headers: dict[str, str] = {}


class Upload(Record, frozen=True, kw_only=True, omit_defaults=False):
    """The answer to `POST /api/v1/uploads`: what is still to be sent, and where to say that it is.

    Asking again gives the pieces that are still missing, with fresh links. `receipt` is given at once for what is a
    submission already.
    """

    id: str
    pieces: list[Piece] = []
    complete: str = ""
    """Where to POST when all pieces are sent, relative to the server; the answer is the receipt."""
    seconds: int = 0
    """How long the links hold."""
    receipt: Receipt | None = None
    schema_version: int = SCHEMA_VERSION


class ProblemDetails(Record, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457: why a request failed. `where`, `expected`, `found` are ours."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    where: str = ""
    expected: str = ""
    found: str = ""


class SubmissionStatus(Record, frozen=True, kw_only=True, omit_defaults=False):
    """`GET /api/v1/submissions/<id>`: where a submission stands, and why."""

    id: str
    state: State
    project: str
    format: str
    sha256: str
    size_bytes: int
    media_type: str
    received: datetime
    seq: int | None = None
    problems: list[Problem] = []
    problems_total: int = 0
    runs: list[str] = []
    """The first 1,000 run ids, in the file's order."""
    measurements: int = 0
    tests: int = 0
    unread: dict[str, int] = {}
    """Fields of the file that reached no column, by name, and how often each occurs."""
    blob_url: str = ""
    """Empty once it is withdrawn."""
    withdrawn: datetime | None = None
    reason: str = ""
    """Why it was withdrawn."""
    withdrawal_url: str = ""
    """Of the record that says so."""
