"""How far a log has been proved, and what the next document must be to take the proof further. Pure.

A proof goes through a log's pages from the oldest on, then its head. Each document must begin where the proof ends,
name the page before it by key and digest, and say the chain digest that its past gives; the head's checkpoint must sign
the chain of its last entry. What is wrong comes as breaches in order, and the proof goes on behind them as well as it
can, so that whoever wants all of them gets all.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from feed.atom import Document, feed_id, parse_document
from feed.breach import Breach
from feed.chain import START, chained
from feed.log import MAX_PAGE_ENTRIES
from feed.signing import AUTHORITY_DIGITS, check_signature
from schemas import keys
from schemas.errors import Refused
from schemas.records import Checkpoint, Record


class Remembered(Record, frozen=True, kw_only=True):
    """What was once proved of a log. Its past must stay so, whoever signs another."""

    feed: str
    """The log's Atom id."""
    seq: int
    chain: str
    key: str = ""
    """That signed the checkpoint; "" if the log had none."""
    time: datetime | None = None
    """Of the checkpoint."""


@dataclass(frozen=True)
class Proof:
    """Entries 1 to `seq` are dense, linked and chained."""

    log: str
    seq: int = 0
    chain: str = START
    """After entry `seq`; "" behind a breach, until a document says it."""
    updated: datetime | None = None
    """Of entry `seq`, after which no entry is older; None where that is not known."""
    page: str | None = ""
    """Key of the page that ends with `seq`, "" if there is none; None: not known, since the proof begins here."""
    page_sha256: str = ""
    """"" behind a breach."""
    authority: str | None = None
    """None before the first document."""
    chained: bool = False
    """A document has said its chain, so all that follow must."""
    remembered: Remembered | None = None
    """What the log must still hold; None once it was found there, and if nothing is remembered."""


def read_page(key: str, body: bytes, log: str) -> tuple[Document | None, list[Breach]]:
    """The page in `body`, None if it cannot be read, and in what it is not the page that `key` names."""
    named, sha256 = keys.parse_page(key), hashlib.sha256(body).hexdigest()
    breaches = []
    if named is None or sha256[:16] != named.digest16:
        breaches.append(Breach(key, "bytes of the digest that the page's name says", f"digest {sha256[:16]}"))
    try:
        document = parse_document(body)
    except Refused as error:
        return None, [*breaches, Breach(f"{key}: {error.where}", error.expected, error.found)]
    if document.log != log or not document.archive:
        breaches.append(
            Breach(key, f"a page of log {log}", f"{'a page' if document.archive else 'the head'} of log {document.log}")
        )
    if len(document.entries) > MAX_PAGE_ENTRIES:
        breaches.append(Breach(key, f"at most {MAX_PAGE_ENTRIES:,} entries", f"{len(document.entries):,}"))
    if named and _range(document) != (named.first, named.last):
        breaches.append(Breach(key, f"entries {named.first} to {named.last}", _described(document)))
    return document, breaches


def read_head(body: bytes, log: str) -> Document:
    """The head in `body`; raises Breach if it is none of `log`."""
    key = keys.feed_head(log)
    try:
        document = parse_document(body)
    except Refused as error:
        raise Breach(f"{key}: {error.where}", error.expected, error.found) from error
    if document.log != log or document.archive:
        raise Breach(
            key, f"the head of log {log}", f"{'a page' if document.archive else 'the head'} of log {document.log}"
        )
    return document


def extended(proof: Proof, key: str, document: Document, sha256: str = "") -> tuple[Proof, list[Breach]]:
    """`proof` behind `document`, and in what the document does not follow. `sha256` is a page's."""
    breaches = list(_anchoring(proof, key, document))
    chain, seq, updated = document.chain or proof.chain, proof.seq, proof.updated
    remembered = proof.remembered if proof.remembered and proof.remembered.seq > seq else None
    for entry in document.entries:
        if entry.seq != seq + 1:
            breaches.append(Breach(f"{key} entry {entry.seq}", f"entry {seq + 1}", f"entry {entry.seq}"))
        if updated and entry.updated < updated:
            expected = f"updated at {updated.isoformat()} or later"
            breaches.append(Breach(f"{key} entry {entry.seq}", expected, entry.updated.isoformat()))
        updated = entry.updated
        seq, chain = entry.seq, chained(chain, entry) if chain else ""
        if remembered and seq == remembered.seq:
            if chain and remembered.chain and chain != remembered.chain:
                breaches.append(_other_past(proof.log, remembered, chain))
            remembered = None
    behind = replace(
        proof,
        seq=seq,
        chain=chain,
        updated=updated,
        page=key if document.archive else document.previous,
        page_sha256=sha256 if document.archive else document.previous_sha256,
        authority=document.authority,
        chained=proof.chained or document.chain != "",
        remembered=remembered,
    )
    return behind, breaches


def passed_over(proof: Proof, key: str) -> Proof:
    """`proof` behind a page that is not there, or is not what its name says."""
    named = keys.parse_page(key)
    last = named.last if named else proof.seq
    remembered = proof.remembered if proof.remembered and proof.remembered.seq > last else None
    return replace(proof, seq=last, chain="", page=key, page_sha256="", remembered=remembered)


def check_checkpoint(proof: Proof, head: Document, key: str = "") -> tuple[list[Breach], list[str]]:
    """In what the checkpoint of `head`, with which `proof` ends, breaks its promise, and what should be known of it.

    `key` is the public key that must have signed it; "": the one that the log was made with.
    """
    where, checkpoint = f"{keys.feed_head(proof.log)} checkpoint", head.checkpoint
    expected_key = key or head.authority
    if checkpoint is None:
        if expected_key:
            return [Breach(where, f"one signed by the key {_short(expected_key)}", "none")], []
        if not head.chain:
            return [], [f"log {proof.log} was kept by an earlier release: it has no chain and no checkpoint"]
        return [], [f"log {proof.log} has no checkpoint: nobody vouches for it"]
    breaches = []
    if head.entries and not head.chain:  # without it nothing ties the entries to what is signed
        breaches.append(Breach(f"{keys.feed_head(proof.log)} rf:chain", "a chain, since a checkpoint signs it", "none"))
    try:
        check_signature(checkpoint)
    except Refused as error:
        breaches.append(Breach(where, error.expected, f"{error.found} (signature)"))
    if not checkpoint.key.startswith(expected_key):
        breaches.append(Breach(where, f"the key {_short(expected_key)}", _short(checkpoint.key)))
    if checkpoint.seq != proof.seq:
        breaches.append(Breach(where, f"one of entry {proof.seq}, the last", f"one of entry {checkpoint.seq}"))
    elif proof.chain and checkpoint.chain != proof.chain:
        breaches.append(Breach(where, f"the chain of the log's entries, {proof.chain}", checkpoint.chain))
    notes = [] if expected_key else [f"log {proof.log} names no key: {_short(checkpoint.key)} is taken at its word"]
    return breaches, notes


def check_remembered(proof: Proof) -> list[Breach]:
    """What of the past is gone at the log's end: a log never gets shorter."""
    remembered = proof.remembered
    if remembered is None:
        return []
    since = f" as remembered{_of(remembered)}"
    return [Breach(f"log {proof.log}", f"entries 1 to {remembered.seq}{since}", f"only 1 to {proof.seq}")]


def remembered_of(proof: Proof, head: Document) -> Remembered:
    """What to remember of a log that is proved through `head`."""
    checkpoint: Checkpoint | None = head.checkpoint
    return Remembered(
        feed=feed_id(proof.log, head.authority),
        seq=proof.seq,
        chain=proof.chain,
        key=checkpoint.key if checkpoint else "",
        time=checkpoint.time if checkpoint else None,
    )


def _anchoring(proof: Proof, key: str, document: Document) -> Iterator[Breach]:
    """In what `document` says something else of what is before it."""
    if proof.authority is not None and document.authority != proof.authority:
        yield Breach(key, f"feed {feed_id(proof.log, proof.authority)}", feed_id(document.log, document.authority))
    found = feed_id(document.log, document.authority)
    if proof.remembered and found != proof.remembered.feed and proof.authority is None:
        yield Breach(key, f"feed {proof.remembered.feed}, as remembered", found)
    if proof.page is not None and document.previous != proof.page:
        yield Breach(key, f"a link to {proof.page or 'no page before it'}", document.previous or "none")
    elif document.previous_sha256 and proof.page_sha256 and document.previous_sha256 != proof.page_sha256:
        yield Breach(f"{key} rf:previous", f"the digest of {proof.page}, {proof.page_sha256}", document.previous_sha256)
    if document.chain and proof.chain and document.chain != proof.chain:
        yield Breach(f"{key} rf:chain", f"the chain after entry {proof.seq}, {proof.chain}", document.chain)
    elif not document.chain and proof.chained:
        yield Breach(f"{key} rf:chain", "a chain, as in the pages before it", "none")


def _other_past(log: str, remembered: Remembered, chain: str) -> Breach:
    where = f"log {log}, entries 1 to {remembered.seq}"
    return Breach(
        where, f"the past as remembered{_of(remembered)}, chain {remembered.chain}", f"another, chain {chain}"
    )


def _of(remembered: Remembered) -> str:
    return f" of {remembered.time:%Y-%m-%d %H:%M:%S} UTC" if remembered.time else ""


def _short(key: str) -> str:
    return f"{key[:AUTHORITY_DIGITS]}…"


def _range(document: Document) -> tuple[int, int] | None:
    return (document.entries[0].seq, document.entries[-1].seq) if document.entries else None


def _described(document: Document) -> str:
    found = _range(document)
    return f"entries {found[0]} to {found[1]}" if found else "none"
