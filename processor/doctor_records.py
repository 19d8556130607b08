"""What one object says, as rows for the doctor's tables. Pure: key and bytes in, facts out.

An object that is not what its key promises gives a row of `unreadable`, never an exception.
"""

import hashlib
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from feed.atom import Document, parse_document
from processor.dispatcher import Checkpoint
from schemas import keys
from schemas.errors import Refused
from schemas.records import Catalog, CurrentCatalog, Entry, Outcome, Submission, Withdrawal, submission_id

Facts = list[tuple[str, dict[str, Any]]]
"""Rows, each with the name of its table."""

_TOKEN = re.compile(rb"(?=(rf_[A-Za-z0-9_-]{43}))")  # as ingest makes them; overlapping ones too
_HASH = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_CURRENT_CATALOG = re.compile(r"lake/v\d+/catalog/current\.json")
_CHECKPOINT = re.compile(r"checkpoints/dispatcher-v([1-9][0-9]{0,8})\.json")


def record_facts(key: str, body: bytes) -> Facts:
    """Of a submission, an outcome, a catalog, a withdrawal or a checkpoint, by its key; of any other key nothing."""
    try:
        if key.startswith("submissions/"):
            return _submission_facts(key, msgspec.json.decode(body, type=Submission))
        if named := keys.parse_outcome(key):
            return _outcome_facts(key, *named, body)
        if catalog := keys.parse_catalog(key):
            return _catalog_facts(key, *catalog, msgspec.json.decode(body, type=Catalog))
        if sha256 := keys.parse_withdrawal(key):
            return _withdrawal_facts(key, sha256, body)
        if _CURRENT_CATALOG.fullmatch(key):
            named_key = msgspec.json.decode(body, type=CurrentCatalog).key
            return [("current_catalogs", {"key": key, "named": named_key})]
        if match := _CHECKPOINT.fullmatch(key):
            seq = msgspec.json.decode(body, type=Checkpoint).seq
            return [("checkpoints", {"key": key, "version": int(match[1]), "seq": seq})]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return [_unreadable(key, "a JSON record of its kind", str(error))]
    return []


def _submission_facts(key: str, submission: Submission) -> Facts:
    blob = submission.blob
    benchmark = keys.parse_benchmark_format(submission.format)
    content = {"sha256": blob.sha256, "project": submission.project, "format": submission.format}
    row = {
        "key": key,
        "id": submission.id,
        "id_by_content": submission_id(**content, context=submission.context, trust=submission.trust),
        "nonce": submission.nonce,
        "project": submission.project,
        "sha256": blob.sha256,
        "size_bytes": blob.size_bytes,
        "media_type": blob.media_type,
        "encoding": blob.encoding,
        "received": _seconds(submission.received),
        "benchmark": keys.benchmark(submission.project, benchmark[0], benchmark[1] or 0) if benchmark else None,
    }
    return [("submissions", row)]


def _outcome_facts(key: str, version: int, first: int, revision: int, body: bytes) -> Facts:
    outcome = msgspec.json.decode(body, type=Outcome)
    facts: Facts = [
        (
            "outcomes",
            {
                "key": key,
                "version": version,
                "named_first": first,
                "named_revision": revision,
                "id": keys.outcome_id(first, revision),
                "first": outcome.first,
                "last": outcome.last,
                "revision": outcome.revision,
                "nonce": outcome.nonce,
                "through": outcome.through,
                "sha256": hashlib.sha256(body).hexdigest(),
                "size_bytes": len(body),
            },
        )
    ]
    for one in outcome.submissions:
        row = {name: getattr(one, name) for name in ("seq", "id", "verdict", "runs", "measurements", "tests")}
        facts.append(("verdicts", {"outcome": key, "version": version, **row}))
    for part in outcome.parts:
        by_content = keys.part(version, part.table, outcome.first, outcome.last, part.sha256[:16])
        row = {"outcome": key, "version": version, "first": outcome.first, "last": outcome.last, "table": part.table}
        row |= {"key": part.key, "key_by_content": by_content, "sha256": part.sha256}
        facts.append(("parts", {**row, "size_bytes": part.size_bytes, "rows": part.rows}))
    return facts


def _catalog_facts(key: str, version: int, generation: int, catalog: Catalog) -> Facts:
    named = {"named_version": version, "named_generation": generation, "through": catalog.through}
    facts: Facts = [("catalogs", {"key": key, "version": catalog.version, "generation": catalog.generation, **named})]
    for table, files in catalog.tables.items():
        for file in files:
            merged, part = keys.parse_merged(file.key), keys.parse_part(file.key)
            digest16 = merged[3] if merged else part.digest16 if part else ""
            row = {"catalog": key, "version": version, "generation": generation, "table": table, "key": file.key}
            row |= {"digest16_by_key": digest16, "sha256": file.sha256, "size_bytes": file.size_bytes}
            row |= {"rows": file.rows, "first": file.first, "last": file.last}
            facts.append(("catalog_files", row))
    for first, revision in catalog.revisions.items():
        facts.append(("catalog_revisions", {"catalog": key, "first": first, "revision": revision}))
    return facts


def _withdrawal_facts(key: str, sha256: str, body: bytes) -> Facts:
    withdrawal = msgspec.json.decode(body, type=Withdrawal)
    if withdrawal.sha256 != sha256:
        return [_unreadable(key, "the digest that its name says", withdrawal.sha256)]
    row = {"key": key, "sha256": sha256, "nonce": withdrawal.nonce, "size_bytes": len(body)}
    return [("withdrawals", row | {"record_sha256": hashlib.sha256(body).hexdigest()})]


def snapshot_facts(key: str) -> Facts:
    """Of a dashboard's snapshot, or its record; its key says it all."""
    if held := keys.parse_snapshot(key):
        return [("snapshots", {"key": key, "version": held[0], "outcomes_seq": held[1]})]
    return []


def page_facts(key: str, body: bytes) -> Facts:
    """Of a log's page or head."""
    page = keys.parse_page(key)
    digest16 = hashlib.sha256(body).hexdigest()[:16]
    if page and digest16 != page.digest16:
        return [_unreadable(key, "the digest that its name says", digest16)]
    try:
        document = parse_document(body)
    except Refused as error:
        return [_unreadable(key, error.expected, f"{error.found} ({error.where})")]
    seqs = [entry.seq for entry in document.entries]
    first = seqs[0] if seqs else 1
    last = seqs[-1] if seqs else 0
    if seqs != list(range(first, last + 1)):
        return [_unreadable(key, "dense entries", f"entries {seqs[:20]}")]
    if page and (page.log, page.first, page.last) != (document.log, first, last):
        return [_unreadable(key, "the entries that its name says", f"{document.log} {first} to {last}")]
    if not page and key != keys.feed_head(document.log):
        return [_unreadable(key, "the log that its name says", document.log)]
    row = {"key": key, "log": document.log, "first": first, "last": last, "previous": document.previous}
    return [("documents", row), *(("entries", row) for row in _entry_rows(key, document))]


_NOT_COMPARED = frozenset({"summary", "categories", "withdrawn"})
"""Of an entry: they follow from the rest."""


def _entry_rows(key: str, document: Document) -> Iterator[dict[str, Any]]:
    for entry in document.entries:
        row = {name: getattr(entry, name) for name in Entry.__struct_fields__ if name not in _NOT_COMPARED}
        row |= {"published": _seconds(entry.published), "updated": _seconds(entry.updated)}
        yield {"document": key, "log": document.log, **row}


def marker_facts(key: str) -> Facts:
    """Of a marker; its key says it all."""
    marker = keys.parse_marker(key)
    if marker is None:
        return [_unreadable(key, "a marker's key", "another")]
    made = _seconds(keys.nonce_time(marker.nonce))
    return [("markers", {"key": key, "log": marker.log, "id": marker.id, "nonce": marker.nonce, "made": made})]


def leaks(body: bytes, token_hashes: frozenset[str]) -> list[str]:
    """The hashes of the tokens that stand in `body`, themselves or as their hash."""
    if not token_hashes:
        return []
    found = {match[0].decode() for match in _HASH.finditer(body)}
    found |= {hashlib.sha256(match[1]).hexdigest() for match in _TOKEN.finditer(body)}
    return sorted(found & token_hashes)


def _unreadable(key: str, expected: str, found: str) -> tuple[str, dict[str, Any]]:
    return "unreadable", {"key": key, "expected": expected, "found": found[:500]}


def _seconds(time: datetime) -> int:
    return int(time.timestamp())
