"""A second implementation of the log, of both sides, from nothing but the specification in feed/README.md.

It imports nothing of Runfeed, and no library that Runfeed reads or writes Atom with. What it does not do is look good:
its documents have another layout, other prefixes, other page sizes and elements of its own.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

START = "0" * 64
_NAMESPACES = {
    "a": "http://www.w3.org/2005/Atom",
    "rf": "urn:x-runfeed:feed:1",
    "fh": "http://purl.org/syndication/history/1.0",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Get = Callable[[str], bytes]
"""The object of that key; KeyError if there is none."""


class Broken(Exception):
    """The log does not keep what the specification promises."""


@dataclass
class Fact:
    """An entry: the texts that its chain digest covers, by the specification's names, in its order."""

    seq: int
    batch: int
    id: str
    title: str
    content: str
    key: str
    sha256: str
    length: int
    type: str
    encoding: str
    project: str
    published: datetime
    updated: datetime
    withdraws: str = ""
    withdrawn: str = ""
    categories: list[tuple[str, str]] = field(default_factory=list)

    def chained(self, chain: str) -> str:
        texts = [
            chain, str(self.seq), str(self.batch), self.id, self.title, self.content, self.key, self.sha256,
            str(self.length), self.type, self.encoding, self.project, _microseconds(self.published),
            _microseconds(self.updated), self.withdraws, self.withdrawn,
            *(text for category in self.categories for text in category),
        ]  # fmt: skip
        return digest_of(b"".join(b"%d:%b" % (len(text.encode()), text.encode()) for text in texts))


def _microseconds(time: datetime) -> str:
    return str((time - _EPOCH) // timedelta(microseconds=1))


def digest_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _holds(it: bool, what: str) -> None:
    if not it:
        raise Broken(what)


# --- reading ---


@dataclass
class _Document:
    feed: str
    facts: list[Fact]  # ascending
    chain: str
    previous: str
    previous_sha256: str
    checkpoint: dict[str, str]


def _read(body: bytes) -> _Document:
    root = ElementTree.fromstring(body)
    feed = _text(root, "a:id")
    checkpoint = root.find("rf:checkpoint", _NAMESPACES)
    previous = [one.get("href", "") for one in root.findall("a:link", _NAMESPACES) if one.get("rel") == "prev-archive"]
    return _Document(
        feed=feed,
        facts=[_fact(feed, element) for element in root.findall("a:entry", _NAMESPACES)][::-1],
        chain=_text(root, "rf:chain"),
        previous=previous[0] if previous else "",
        previous_sha256=_text(root, "rf:previous"),
        checkpoint=dict(checkpoint.attrib) if checkpoint is not None else {},
    )


def _text(element: ElementTree.Element, path: str) -> str:
    return element.findtext(path, "", _NAMESPACES)


def _fact(feed: str, element: ElementTree.Element) -> Fact:
    [enclosure] = [one for one in element.findall("a:link", _NAMESPACES) if one.get("rel") == "enclosure"]
    scheme = "urn:x-runfeed:"
    return Fact(
        seq=int(_text(element, "rf:seq")),
        batch=int(_text(element, "rf:batch")),
        id=_text(element, "a:id").removeprefix(f"{feed}:"),
        title=_text(element, "a:title"),
        content=_text(element, "a:content"),
        key=enclosure.get("href", "").removeprefix("../../"),
        sha256=_text(element, "rf:sha256"),
        length=int(enclosure.get("length", "")),
        type=enclosure.get("type", ""),
        encoding=_text(element, "rf:encoding") or "identity",
        project=_text(element, "rf:project"),
        published=datetime.fromisoformat(_text(element, "a:published")),
        updated=datetime.fromisoformat(_text(element, "a:updated")),
        withdraws=_text(element, "rf:withdraws"),
        withdrawn=_text(element, "rf:withdrawn"),
        categories=[
            (one.get("scheme", "").removeprefix(scheme), one.get("term", ""))
            for one in element.findall("a:category", _NAMESPACES)
            if one.get("scheme", "").startswith(scheme)
        ],
    )


def chain_of(body: bytes, chain: str) -> str:
    """The chain after the last entry of a document, if it was `chain` before the first."""
    for fact in _read(body).facts:
        chain = fact.chained(chain)
    return chain


def read_log(get: Get, log: str) -> list[Fact]:
    """The whole log from entry 1, everything checked that the specification lets a stranger check; raises Broken."""
    head = _read(get(f"feeds/{log}/current.atom"))
    chained, facts, sha256 = START, [], ""
    for name in [*_pages(get, log, head), ""]:
        body = get(f"feeds/{log}/{name}") if name else b""
        document = _read(body) if name else head
        _holds(document.feed == head.feed, f"{name}: of another feed")
        _holds(document.chain == chained, f"{name}: chain of its past")
        _holds(document.previous_sha256 == sha256, f"{name}: digest of the page before it")
        for fact in document.facts:
            _holds(fact.seq == len(facts) + 1, f"{name}: dense at {fact.seq}")
            _holds(not facts or fact.updated >= facts[-1].updated, f"{name}: time goes back at {fact.seq}")
            chained = fact.chained(chained)
            facts.append(fact)
        if name:
            sha256 = digest_of(body)
            first, last = document.facts[0].seq, document.facts[-1].seq
            _holds(name == f"{first:012d}-{last:012d}-{sha256[:16]}.atom", f"{name}: named by what is in it")
    _check_checkpoint(head, log, chained)
    for fact in facts:
        _check_object(get, fact, facts)
    return facts


def _pages(get: Get, log: str, head: _Document) -> list[str]:
    """Names of all pages, oldest first: what the index has, then along the links; both where they overlap."""
    names: list[str] = []
    link = head.previous
    indexed = list(_indexed(get, log))
    while link and link not in indexed:
        names.insert(0, link)
        link = _read(get(f"feeds/{log}/{link}")).previous
    return [*indexed[: indexed.index(link) + 1 if link else 0], *names]


def _indexed(get: Get, log: str) -> Iterator[str]:
    try:
        parts = [json.loads(get(f"feeds/{log}/index/current.json"))]
    except KeyError:
        return
    for part in parts[0].get("earlier", []):
        body = get(part["key"])
        _holds(digest_of(body) == part["sha256"], f"{part['key']}: digest")
        parts.insert(-1, json.loads(body))
    for part in parts:
        for page in part["pages"]:
            _holds(digest_of(get(page["key"])) == page["sha256"], f"{page['key']}: digest in the index")
            yield page["key"].rpartition("/")[2]


def _check_checkpoint(head: _Document, log: str, chain: str) -> None:
    said = head.checkpoint
    _holds(said["chain"] == chain, "the checkpoint's chain")
    _holds(int(said["seq"]) == head.facts[-1].seq, "the checkpoint's seq")
    authority = re.fullmatch(rf"urn:x-runfeed:([0-9a-f]{{32}}):{log}", head.feed)
    _holds(authority is not None and said["key"].startswith(authority[1]), "the key that made the log")
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(said["key"]))
    signed = _signed(log, said["seq"], chain, datetime.fromisoformat(said["time"]))
    try:
        key.verify(bytes.fromhex(said["signature"]), signed)
    except InvalidSignature as error:
        raise Broken("the checkpoint's signature") from error


def _signed(log: str, seq: int | str, chain: str, time: datetime) -> bytes:
    at = time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return f"runfeed checkpoint 1\n{log}\n{seq}\n{chain}\n{at}\n".encode()


def _check_object(get: Get, fact: Fact, facts: list[Fact]) -> None:
    try:
        body = get(fact.key)
    except KeyError:
        _holds(any(one.withdraws == fact.sha256 for one in facts), f"entry {fact.seq}: gone in silence")
        get(f"withdrawals/{fact.sha256[:2]}/{fact.sha256}.json")
        return
    _holds((len(body), digest_of(body)) == (fact.length, fact.sha256), f"entry {fact.seq}: other bytes")


# --- writing ---


def write_log(put: Callable[[str, bytes], None], log: str, facts: list[Fact], page_sizes: list[int]) -> None:
    """`facts` as pages of these sizes and a head with the rest, and no index; signed with a key of its own."""
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw().hex()
    feed, chain, name, sha256 = f"urn:x-runfeed:{public[:32]}:{log}", START, "", ""
    for size in page_sizes:
        page, facts = facts[:size], facts[size:]
        body = _written(feed, page, chain, (name, sha256), "<h:archive/><link rel='current' href='current.atom'/>")
        sha256 = digest_of(body)
        name = f"{page[0].seq:012d}-{page[-1].seq:012d}-{sha256[:16]}.atom"
        put(f"feeds/{log}/{name}", body)
        for fact in page:
            chain = fact.chained(chain)
    after = chain
    for fact in facts:
        after = fact.chained(after)
    last = facts[-1]
    signature = private.sign(_signed(log, last.seq, after, last.updated)).hex()
    signed = (
        f"<r:checkpoint signature='{signature}' key='{public}' time='{last.updated.isoformat()}' chain='{after}' "
        f"seq='{last.seq}'/>"
    )
    put(f"feeds/{log}/current.atom", _written(feed, facts, chain, (name, sha256), signed))


def _written(feed: str, facts: list[Fact], chain: str, previous: tuple[str, str], more: str) -> bytes:
    name, sha256 = previous
    link = f"<link href='{name}' rel='prev-archive'/><r:previous>{sha256}</r:previous>" if name else ""
    entries = "".join(_entry(feed, fact) for fact in reversed(facts))
    return (
        "<feed xmlns='http://www.w3.org/2005/Atom' xmlns:r='urn:x-runfeed:feed:1' "
        "xmlns:h='http://purl.org/syndication/history/1.0' xmlns:x='urn:example:other'>"
        f"<x:other>elements that nobody knows</x:other><id>{feed}</id><title>another writer's</title>"
        f"<updated>{facts[-1].updated.isoformat()}</updated><author><name>others</name></author>"
        f"{link}<r:chain>{chain}</r:chain>{more}{entries}</feed>"
    ).encode()


def _entry(feed: str, fact: Fact) -> str:
    categories = "".join(
        f"<category scheme='urn:x-runfeed:{scheme}' term={quoteattr(term)}/>" for scheme, term in fact.categories
    )
    optional = "".join(
        f"<r:{name}>{value}</r:{name}>"
        for name, value in [
            ("encoding", fact.encoding if fact.encoding != "identity" else ""),
            ("withdraws", fact.withdraws),
            ("withdrawn", fact.withdrawn),
        ]
        if value
    )
    return (
        f"<entry><x:other/><r:seq>{fact.seq}</r:seq><r:batch>{fact.batch}</r:batch><r:project>{fact.project}</r:project>"
        f"<r:sha256>{fact.sha256}</r:sha256>{optional}{categories}<id>{feed}:{fact.id}</id>"
        f"<title>{escape(fact.title)}</title><published>{_zulu(fact.published)}</published>"
        f"<updated>{_zulu(fact.updated)}</updated><content>{escape(fact.content)}</content>"
        f"<link length='{fact.length}' type={quoteattr(fact.type)} href='../../{fact.key}' rel='enclosure'/></entry>"
    )


def _zulu(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
