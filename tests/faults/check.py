"""The count at the end: what was lost, what is there twice, what differs. Checks return breaches as sentences."""

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import httpx
import msgspec
import pyarrow.parquet as pq

from feed.log import LogReader
from feed.verify.verify import Wish, verify
from infra.bucket import Bucket
from schemas import keys
from schemas.records import Entry, Outcome, SubmissionOutcome
from schemas.tables import TABLES

PRIVATE_FOLDERS = (
    "pending",
    "attempts",
    "checkpoints",
    "tokens",
    "leases",
    "inbox",
    "uploads",
    "runners",
    "inbox-refused",
    "keys",
    "withdrawing",
    "sources",
    "hub",
)
CLOCK_AND_ORDER = {"seq", "batch", "place", "received", "announced", "finished", "duplicate_of"}
"""Columns that say when something happened or in which order things came, which no two runs have in common."""


@dataclass(frozen=True)
class Truth:
    """What the public bucket says in the end."""

    entries: list[Entry]
    outcomes: list[Outcome]
    """The last revision of each."""
    rows: dict[str, dict[str, str]]
    """By table and submission: the digest of its rows, in their order, without `CLOCK_AND_ORDER`."""

    @property
    def verdicts(self) -> dict[int, list[SubmissionOutcome]]:
        """What outcomes say of each seq."""
        found: dict[int, list[SubmissionOutcome]] = defaultdict(list)
        for outcome in self.outcomes:
            for one in outcome.submissions:
                found[one.seq].append(one)
        return found


def read_truth(public: Bucket) -> Truth:
    entries = LogReader(public, keys.SUBMISSIONS_LOG).entries_after(0, 1 << 30)
    last: dict[int, tuple[int, str]] = {}
    for key in public.list("lake/v1/outcomes/"):
        if parsed := keys.parse_outcome(key):
            last[parsed[1]] = max(last.get(parsed[1], (0, "")), (parsed[2], key))
    with ThreadPoolExecutor(8) as pool:
        bodies = list(pool.map(public.read, (key for _, key in last.values())))
        outcomes = [msgspec.json.decode(body, type=Outcome) for body in bodies]
        parts = [part for outcome in outcomes for part in outcome.parts]
        rows: dict[str, dict[str, Any]] = {table: {} for table in TABLES}
        ids = {entry.seq: entry.id for entry in entries}
        for part, body in zip(parts, pool.map(public.read, (part.key for part in parts)), strict=True):
            _add_rows(rows[part.table], body, ids)
    digests = {
        table: {id: digest.hexdigest() for id, digest in by_submission.items()} for table, by_submission in rows.items()
    }
    return Truth(entries, outcomes, digests)


def _add_rows(digests: dict[str, Any], part: bytes, ids: dict[int, str]) -> None:
    table = pq.read_table(io.BytesIO(part))
    seqs = table["seq"].to_pylist()
    kept = table.drop_columns([name for name in table.column_names if name in {"seq", "received"}])
    for seq, row in zip(seqs, kept.to_pylist(), strict=True):
        id = ids.get(seq, f"no submission {seq}")
        if id not in digests:
            digests[id] = hashlib.sha256()
        digests[id].update(repr(row).encode())


# --- one run in itself ---


def lost(truth: Truth, receipts: Iterable[str]) -> list[str]:
    """Receipts without an entry, entries without a verdict."""
    announced = {entry.id for entry in truth.entries}
    verdicts = truth.verdicts
    return [
        *_sentences("has a receipt and no entry", set(receipts) - announced),
        *_sentences("has an entry and no verdict", (entry.id for entry in truth.entries if entry.seq not in verdicts)),
    ]


def doubled(truth: Truth) -> list[str]:
    """Submissions with two entries, entries with two verdicts."""
    announced = Counter(entry.id for entry in truth.entries)
    return [
        *_sentences("has several entries", (id for id, times in announced.items() if times > 1)),
        *_sentences("has several verdicts", (str(seq) for seq, found in truth.verdicts.items() if len(found) > 1)),
    ]


def disordered(truth: Truth, pushed: set[str]) -> list[str]:
    """A log that is not dense, entries that nobody pushed, verdicts of something else."""
    ids = {entry.seq: entry.id for entry in truth.entries}
    mixed_up = (one.id for found in truth.verdicts.values() for one in found if ids.get(one.seq) != one.id)
    return [
        *([] if list(ids) == list(range(1, len(ids) + 1)) else ["the submissions log is not dense"]),
        *_sentences("was announced but never pushed", set(ids.values()) - pushed),
        *_sentences("has the verdict of another entry", mixed_up),
    ]


def private_in_public(public: Bucket, secrets: list[str]) -> list[str]:
    """Keys of the private bucket's folders, and secrets inside any object that we wrote."""
    found = []
    keys_of_ours = []
    for key in public.list(""):
        folder = key.partition("/")[0]
        if folder in PRIVATE_FOLDERS:
            found.append(key)
        elif folder != "blobs":
            keys_of_ours.append(key)
    wanted = [secret.encode() for secret in secrets]

    def tells(key: str) -> bool:
        body = public.read(key)
        return any(secret in body for secret in wanted)

    with ThreadPoolExecutor(8) as pool:
        told = [key for key, tells in zip(keys_of_ours, pool.map(tells, keys_of_ours), strict=True) if tells]
    return [*_sentences("is private and in the public bucket", found), *_sentences("holds a secret", told)]


def unproved(public: Bucket) -> list[str]:
    """In what the logs are not what a stranger's `runfeed verify` expects, each byte read."""
    return [
        str(breach)
        for log in (keys.SUBMISSIONS_LOG, keys.outcomes_log(1))
        for breach in verify(public, log, Wish(every=True)).breaches
    ]


# --- one run against another ---


def different(truth: Truth, reference: Truth) -> list[str]:
    """Verdicts and rows that are not those of the undisturbed run."""
    found = _sentences("has another verdict", _differing(_said(truth), _said(reference)))
    for table in TABLES:
        found += _sentences(f"has other rows in {table}", _differing(truth.rows[table], reference.rows[table]))
    return found


def _said(truth: Truth) -> dict[str, Any]:
    """What was said of each submission, without its seq. Why we failed may be told in another way."""
    return {
        one.id: (one.verdict if one.verdict == "quarantined" else msgspec.structs.replace(one, seq=0))
        for outcome in truth.outcomes
        for one in outcome.submissions
    }


def _differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [id for id in one.keys() | other.keys() if one.get(id) != other.get(id)]


# --- dashboards ---


def different_answers(urls: list[str]) -> list[str]:
    """Answers of dashboards that are level and yet do not say the same."""
    return [
        f"{path}: the answers of {urls[0]} and {url} differ"
        for path in ("projects", "runs", "series", "submissions", "status")
        for url in urls[1:]
        if _all_pages(urls[0], path) != _all_pages(url, path)
    ]


def _all_pages(url: str, path: str) -> list[tuple[str, bytes]]:
    """(data version, body) of each page of a listing."""
    pages = []
    with httpx.Client(base_url=url, timeout=60) as client:
        next_page: str | None = f"/api/v1/{path}" + ("" if path == "status" else "?limit=1000")
        while next_page:
            answer = client.get(next_page).raise_for_status()
            said = answer.json()
            said.pop("facts", None)
            pages.append((answer.headers.get("etag", ""), msgspec.json.encode(said)))
            next_page = answer.links.get("next", {}).get("url")
    return pages


def different_files(files: list[Path], reference: Path) -> list[str]:
    """Tables of dashboards' files that differ from each other, or from those of the undisturbed run."""
    first, found = _tables(files[0], set()), []
    for other in files[1:]:
        found += [f"{name}: {files[0]} and {other} differ" for name in _differing(first, _tables(other, set()))]
    left_out = CLOCK_AND_ORDER | {
        "authorities",
        "cursors",
        "meta",
        "repeated_tests",
        "tests_in_place",
        "derived",
        "environment_title",
        "first_seq",
    }
    expected = _tables(reference, left_out)
    for file in files:
        found += [
            f"{name}: {file} has other rows than the undisturbed run"
            for name in _differing(_tables(file, left_out), expected)
        ]
    return found


def _tables(file: Path, left_out: set[str]) -> dict[str, str]:
    """The digest of each table's rows, ordered by what they say; what `left_out` names, tables or columns, is not
    looked at. Where seq is left out, the submission's id stands for it."""
    digests = {}
    with duckdb.connect(str(file), read_only=True) as connection:
        names = [name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        for name in sorted(set(names) - left_out):
            columns = [row[0] for row in connection.execute(f"DESCRIBE {name}").fetchall()]
            chosen = [f"t.{column}" for column in columns if column not in left_out]
            joined = ""
            if "seq" in columns and "seq" in left_out:
                chosen.append("s.id AS of_submission")
                joined = "JOIN submissions s ON s.seq = t.seq"
            if name == "outcomes" and left_out:
                chosen = [column for column in chosen if column != "t.problems"]  # see `_said`; the lake's are compared
            rows = connection.execute(
                f"SELECT r::VARCHAR FROM (SELECT {', '.join(chosen)} FROM {name} t {joined}) r ORDER BY 1"
            )
            digest = hashlib.sha256()
            while batch := rows.fetchmany(10_000):
                for (row,) in batch:
                    digest.update(row.encode())
            digests[name] = digest.hexdigest()
    return digests


def _sentences(what: str, found: Iterable[str]) -> list[str]:
    return [f"{name} {what}" for name in sorted(found)]
