"""A crash at each storage call of the announcer, one at a time, then a restart: what must hold, holds.

`test_announcer_model.py` searches interleavings at random; here every single write and read of a few commits is the
place of a death once: in making the signing key, paging, extending and sealing the index, and in the first commits over
a log of the release before there were chains.
"""

import contextlib
import hashlib
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from feed import index
from feed.announcer import Announcer
from feed.atom import Document, carriable, parse_document, render_document
from feed.chain import START, chained, chained_all
from feed.index import read_part
from feed.log import HeadState, LogReader
from feed.signing import Signer, check_signature
from infra.bucket import Bucket, Buckets
from schemas import keys
from schemas.errors import SwapLost, Unavailable
from schemas.keys import Page
from schemas.records import Entry, IndexedPages
from tests import small_log
from tests.chain import Unreliable
from tests.small_log import LOG, all_entries, buckets_in, id_of, read_index, sha256_of, submit
from tests.test_announcer_model import ModelBucket

COMMITS = 4
PER_COMMIT = 3
WITHDRAWN = 2  # the submission whose withdrawal waits too
OLD = 11
"""Entries that the log of the earlier release has; three pages and a head."""


class Killed(BaseException):
    """The process dies here; nothing of its own may catch this."""


@dataclass(frozen=True)
class Fault:
    """What happens at the fatal call, `when` (before or after it took effect); `verb`: to calls of that kind only."""

    when: str
    error: Callable[[], BaseException]
    verb: str = ""


NONE = Fault("", Killed)
FAULTS: dict[str, Fault] = {
    "killed": Fault("after", Killed),  # which leaves what a death before the next call would
    "failed": Fault("before", lambda: Unavailable("no answer")),
    "told failed": Fault("after", lambda: Unavailable("no answer")),
    # Storage did it, its confirmation got lost, and the client's second try found the first one's result.
    "told exists": Fault("after", FileExistsError, "create"),
    "told lost": Fault("after", lambda: SwapLost("swap"), "swap"),
}


@dataclass
class World:
    """Both buckets behind a counter that lets call number `fatal` fail, and every head that was ever there."""

    buckets: Buckets
    raw: Buckets
    calls: int = 0
    fatal: int = -1
    fault: Fault = NONE
    heads: list[Document] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)

    def before(self, verb: str, key: str) -> None:
        self.calls += 1
        self.trace.append(f"{verb} {key}")
        self._fail(verb, "before")

    def after(self, verb: str, key: str) -> None:
        if verb == "swap" and key == keys.feed_head(LOG):
            self.heads.append(parse_document(self.raw.public.read(key)))
        self._fail(verb, "after")

    def _fail(self, verb: str, when: str) -> None:
        if self.calls == self.fatal and self.fault.when == when and self.fault.verb in ("", verb):
            raise self.fault.error()


def world_in(folder: Path) -> World:
    """Over folders, which never fail by themselves."""
    raw = buckets_in(folder)
    public, private = Unreliable(raw.public), Unreliable(raw.private)  # type: ignore[arg-type]
    world = World(Buckets(public, private), raw)  # type: ignore[arg-type]
    for bucket in (public, private):
        bucket.before, bucket.after = world.before, world.after
    return world


def deadly_world(fatal: int = -1, fault: Fault = NONE) -> World:
    """Over buckets in memory, whose listings come in pieces and whose deletions one by one."""

    def step(operation: str) -> Callable[[], None]:
        verb, key = operation.split()[:2]
        world.before(verb, key)
        return lambda: world.after(verb, key)

    public, private = ModelBucket(step), ModelBucket(step)
    calm = ModelBucket(lambda operation: lambda: None), ModelBucket(lambda operation: lambda: None)
    calm[0].objects, calm[1].objects = public.objects, private.objects
    world = World(Buckets(public, private), Buckets(*calm), fatal=fatal, fault=fault)
    return world


def announcer_of(world: World) -> Announcer:
    """A process's start: its signing key, a reader that knows nothing."""
    return small_log.make_announcer(world.buckets, head_keep=2)


def live(world: World) -> None:
    """An announcer for as long as there is something to announce. It dies with `Killed`, and goes on after failures."""
    announcer = None
    while True:
        with contextlib.suppress(Unavailable):
            announcer = announcer or announcer_of(world)
            if announcer.commit() == 0:
                return


def new_log(world: World, numbers: range) -> None:
    """What waits in the beginning: submissions, a withdrawal, and a marker that another attempt has overtaken."""
    small_log.submit_all(world.raw, numbers)
    small_log.withdraw(world.raw, WITHDRAWN)
    overtaken = keys.Marker(LOG, "p", keys.new_nonce(small_log.received(5)), id_of(5))
    world.raw.private.create(overtaken.key, b"")


def old_log(world: World) -> None:
    """Pages and a head just as the release before wrote them, with two more submissions waiting."""
    small_log.submit_all(world.raw, range(1, OLD + 1))
    entries = [_old_entry(number) for number in range(1, OLD + 1)]
    previous = ""
    for first, last in ((1, 4), (5, 6), (7, 9)):
        body = as_before_chains(entries[first - 1 : last], archive=True, previous=previous)
        page = Page(LOG, first, last, hashlib.sha256(body).hexdigest()[:16])
        world.raw.public.create(page.key, body)
        previous = page.key
    head = as_before_chains(entries[9:], archive=False, previous=previous)
    world.raw.public.swap(keys.feed_head(LOG), head, etag=None)
    world.raw.private.delete(*world.raw.private.list("pending/"))


def _old_entry(number: int) -> Entry:
    return carriable(
        Entry(
            seq=number,
            batch=number,
            id=id_of(number),
            title="p: result",
            key=keys.blob(sha256_of(number)),
            sha256=sha256_of(number),
            size_bytes=len(small_log.blob_of(number)),
            media_type="text/plain",
            project="p",
            published=small_log.received(number),
            updated=small_log.received(number),
        )
    )


def as_before_chains(entries: list[Entry], *, archive: bool, previous: str) -> bytes:
    """Byte for byte what the release before rendered: without subtitle, entries' authors, alternates and categories."""
    text = render_document(LOG, entries, archive=archive, previous=previous).decode()
    for added in (
        r"\s*<subtitle>[^<]*</subtitle>",
        r'\s*<link [^>]*rel="alternate"[^>]*>',
        r"(?<=</updated>)\s*<author>\s*<name>[^<]*</name>\s*</author>(?=\s*<content)",
        r"\s*<category [^>]*>",
    ):
        text = re.sub(added, "", text)
    return text.encode()


# --- what must hold ---


def assert_whole(world: World, numbers: range, *, authority: bool = True) -> None:
    """Dense, each once, one chain from 1, pages that name each other's digests, one key, every head extended."""
    public = world.raw.public
    entries = all_entries(public)
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    withdrawals = [keys.withdrawal_id(sha256_of(WITHDRAWN))]
    assert sorted(entry.id for entry in entries) == sorted([*map(id_of, numbers), *withdrawals])
    assert LogReader(public, LOG).entries_after(0, 10_000) == entries
    chains = [START]
    for entry in entries:
        chains.append(chained(chains[-1], entry))
    signer = Signer.of(world.raw.private)
    _assert_documents(public, chains, signer.authority if authority else "")
    head = LogReader(public, LOG).head().document
    assert head.checkpoint
    assert head.chain
    for document in [*world.heads, head]:
        assert document.checkpoint
        check_signature(document.checkpoint)
        assert document.checkpoint.key == signer.public_key
        assert document.checkpoint.seq == document.entries[-1].seq
        assert document.checkpoint.chain == chains[document.checkpoint.seq], "a later head does not extend this one"
        assert list(document.entries) == entries[document.entries[0].seq - 1 : document.entries[-1].seq]
    assert not list(world.raw.private.list("pending/"))


def _assert_documents(public: Bucket, chains: list[str], authority: str) -> None:
    """Each document says where it stands. Those of the release before do not; behind them all do."""
    reader = LogReader(public, LOG)
    document, chained_ones = reader.head().document, True
    while document.entries:
        chained_ones = chained_ones and bool(document.chain)
        assert document.chain == (chains[document.entries[0].seq - 1] if chained_ones else "")
        assert document.authority == authority
        if not document.previous:
            assert document.entries[0].seq == 1
            return
        previous, sha256 = reader.page_and_digest(document.previous)
        assert document.previous_sha256 == (sha256 if chained_ones else "")
        document = previous


def linked_pages(public: Bucket) -> list[IndexedPages]:
    reader = LogReader(public, LOG)
    found, key = [], reader.head().previous
    while key:
        document, sha256 = reader.page_and_digest(key)
        found.insert(
            0,
            IndexedPages(first=document.entries[0].seq, last=document.entries[-1].seq, key=key, sha256=sha256),
        )
        key = document.previous
    return found


def indexed_pages(public: Bucket) -> list[IndexedPages]:
    found = read_index(public, LOG)
    return [line for part in found.earlier for line in read_part(public, part).pages] + found.pages


def assert_indexed(public: Bucket) -> None:
    """The index names the linked pages, all but the newest at most, each with its digest."""
    linked, indexed = linked_pages(public), indexed_pages(public)
    assert indexed == linked[: len(indexed)]
    assert len(linked) - len(indexed) <= 1


def assert_index_is_true(public: Bucket) -> None:
    """At any moment what it says is so, though it may lag."""
    assert indexed_pages(public) == linked_pages(public)[: len(indexed_pages(public))]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of the index of one page; and nobody pulls the plug here."""
    monkeypatch.setattr(index, "PAGES_PER_PART", 1)
    monkeypatch.setattr("feed.choice.MAX_COMMIT_ENTRIES", PER_COMMIT)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


NUMBERS = range(1, PER_COMMIT * COMMITS + 1)


def calls_of(begin: Callable[[World], None]) -> World:
    """The same life without a fault."""
    world = deadly_world()
    begin(world)
    world.calls = 0
    live(world)
    return world


def die_everywhere(fault: str, begin: Callable[[World], None], check: Callable[[World], None]) -> int:
    """A world for each storage call of an announcer's life; how many there were."""
    whole = calls_of(begin)
    total = whole.calls
    verbs = [line.split()[0] for line in whole.trace[-total:]]
    for fatal in range(1, total + 1):
        if FAULTS[fault].verb not in ("", verbs[fatal - 1]):
            continue
        world = deadly_world(fatal, FAULTS[fault])
        begin(world)
        world.calls = 0
        with contextlib.suppress(Killed):
            live(world)
        assert_index_is_true(world.raw.public)
        world.fatal = -1
        live(world)
        try:
            check(world)
        except AssertionError as error:
            raise AssertionError(f"{fault} call {fatal}: {world.trace[fatal - 1]}: {error}") from error
    return total


def more(world: World, numbers: range) -> None:
    """Go on with healthy storage until there was another page, and one commit behind it."""
    for number in numbers:
        submit(world.raw, number)
        live(world)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_new_log_is_whole_wherever_the_announcer_dies(fault: str) -> None:
    """From making the key on: a page each commit, parts of the index sealed, a withdrawal among them."""
    last = NUMBERS[-1]

    def check(world: World) -> None:
        assert_whole(world, NUMBERS)
        more(world, range(last + 1, last + 4))
        assert_whole(world, range(1, last + 4))
        assert_indexed(world.raw.public)

    total = die_everywhere(fault, lambda world: new_log(world, NUMBERS), check)
    assert total > 60


@pytest.mark.parametrize("fault", FAULTS)
def test_a_log_of_the_release_before_is_whole_wherever_the_first_announcer_dies(fault: str) -> None:
    """The chain is computed from entry 1, the feed keeps its id, and old pages stay as they are."""

    def begin(world: World) -> None:
        old_log(world)
        small_log.submit_all(world.raw, range(OLD + 1, OLD + 6))
        small_log.withdraw(world.raw, WITHDRAWN)

    def check(world: World) -> None:
        assert_whole(world, range(1, OLD + 6), authority=False)
        more(world, range(OLD + 6, OLD + 10))
        assert_whole(world, range(1, OLD + 10), authority=False)
        assert_indexed(world.raw.public)

    total = die_everywhere(fault, begin, check)
    assert total > 30


# --- broken on purpose ---


class IndexesFirst(Announcer):
    """Names a page in the index before the head leads to it."""

    def _write_page(self, page: Document) -> Document:
        after = super()._write_page(page)
        index.extend_index(self._public, self._reader, HeadState(None, after))
        return after


class ForgetsTheChain(Announcer):
    """Begins each page's chain anew."""

    def _write_page(self, page: Document) -> Document:
        return super()._write_page(replace(page, chain=START))


def another_key(private: Bucket) -> Signer:
    """Of a process that does not keep its key."""
    return Signer(Ed25519PrivateKey.generate())


@pytest.mark.parametrize(
    ("broken", "replacement"),
    [
        ("tests.small_log.Announcer", IndexesFirst),
        ("tests.small_log.Announcer", ForgetsTheChain),
        ("tests.small_log.Signer.of", another_key),
    ],
    ids=["indexes first", "forgets the chain", "forgets its key"],
)
def test_these_deaths_find_a_broken_announcer(
    broken: str, replacement: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broken, replacement)
    with pytest.raises(AssertionError):
        die_everywhere(
            "killed",
            lambda world: new_log(world, NUMBERS),
            lambda world: assert_whole(world, NUMBERS),
        )


def test_the_deaths_are_where_it_matters() -> None:
    """The tests above would prove little if no life made a key, a page, a part of the index."""
    trace = " ".join(calls_of(lambda world: new_log(world, NUMBERS)).trace)
    for verb, key in [
        ("create", "keys/signing"),
        ("swap", r"feeds/submissions/current\.atom"),
        ("create", r"feeds/submissions/\d+-\d+-[0-9a-f]+\.atom"),
        ("swap", r"feeds/submissions/index/current\.json"),
        ("create", r"feeds/submissions/index/\d+-\d+-[0-9a-f]+\.json"),
        ("delete", "pending/"),
    ]:
        assert re.search(f"{verb} {key}", trace), f"no {verb} of {key}"


# --- beside each other ---


def test_two_announcers_that_start_at_once_have_one_key(tmp_path: Path) -> None:
    """The second makes its key just before the first writes its own: both take the one that is there."""
    world = world_in(tmp_path)
    others: list[Signer] = []

    def overtake(verb: str, key: str) -> None:
        if (verb, key) == ("create", keys.SIGNING_KEY) and not others:
            others.append(Signer.of(world.raw.private))

    world.buckets.private.before = overtake  # type: ignore[attr-defined]
    first = Signer.of(world.buckets.private)
    assert others
    assert first.public_key == others[0].public_key
    checkpoint = first.sign(LOG, 1, "a" * 64, small_log.START)
    assert others[0].sign(LOG, 1, "a" * 64, small_log.START) == checkpoint
    check_signature(checkpoint)


@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
def test_announcers_in_a_race_write_one_signed_log(old: bool, tmp_path: Path) -> None:
    """Four at once, each with its own start, over a fresh key; the log new, or of the release before."""
    world = world_in(tmp_path)
    last = OLD if old else 0
    if old:
        old_log(world)
    small_log.submit_all(world.raw, range(last + 1, last + 40))
    small_log.withdraw(world.raw, WITHDRAWN)
    start = threading.Barrier(4)

    def run(_: int) -> None:
        start.wait(10)
        raw = World(world.raw, world.raw)
        live(raw)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    live(world)
    assert_whole(world, range(1, last + 40), authority=not old)
    more(world, range(last + 40, last + 44))
    assert_whole(world, range(1, last + 44), authority=not old)
    assert_indexed(world.raw.public)


def test_a_page_of_one_who_lost_the_swap_changes_nothing(tmp_path: Path) -> None:
    """Another commits between our page and our head: one chain, and in the index only pages that the head leads to."""
    world = world_in(tmp_path)
    small_log.submit_all(world.raw, range(1, 9))
    live(world)
    other = World(world.raw, world.raw)
    raced: list[str] = []

    def overtake(verb: str, key: str) -> None:
        world.before(verb, key)
        if (verb, key) == ("swap", keys.feed_head(LOG)) and len(raced) < 3:
            raced.append(key)
            submit(world.raw, 100 + len(raced))
            assert announcer_of(other).commit() == PER_COMMIT

    world.buckets.public.before = overtake  # type: ignore[attr-defined]
    small_log.submit_all(world.raw, range(9, 30))
    small_log.withdraw(world.raw, WITHDRAWN)
    live(world)
    assert len(raced) == 3
    entries = all_entries(world.raw.public)
    assert sorted(int(entry.id, 16) for entry in entries if not entry.withdraws) == [*range(1, 30), 101, 102, 103]
    head = LogReader(world.raw.public, LOG).head().document
    assert head.checkpoint
    assert head.checkpoint.chain == chained_all(START, entries)
    assert_index_is_true(world.raw.public)


# --- an index that is not as it was left ---


@pytest.mark.parametrize(
    "damage",
    [b"", b'{"log": "submissions"', b'{"log":"outcomes-v1","earlier":[],"pages":[]}', b"null"],
    ids=["empty", "cut", "of another log", "null"],
)
def test_a_damaged_index_is_in_nobodys_way_and_is_made_anew(damage: bytes, tmp_path: Path) -> None:
    """It is a shortcut, made from the log: announcing goes on, and the index is right again with the next page."""
    world = world_in(tmp_path)
    new_log(world, NUMBERS)
    live(world)
    _, etag = world.raw.public.read_versioned(keys.feed_index(LOG))
    world.raw.public.swap(keys.feed_index(LOG), damage, etag=etag)
    announcer = announcer_of(world)
    for number in range(101, 107):
        submit(world.raw, number)
        assert announcer.commit() == 1
    assert announcer.commit() == 0
    assert_indexed(world.raw.public)


def test_an_index_that_was_lost_is_made_anew(tmp_path: Path) -> None:
    world = world_in(tmp_path)
    new_log(world, NUMBERS)
    live(world)
    world.raw.public.delete(*world.raw.public.list(f"{keys.feed_prefix(LOG)}index/"))
    more(world, range(101, 104))
    assert_indexed(world.raw.public)


def test_an_index_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    """What a stranger wrote there is refused by whoever reads it, whatever it is."""
    world = world_in(tmp_path)
    new_log(world, NUMBERS)
    live(world)
    found = read_index(world.raw.public, LOG)
    assert len(found.earlier) > 1
    for wrong in (
        msgspec.structs.replace(found, earlier=found.earlier[1:] + found.earlier[:1]),
        msgspec.structs.replace(found, pages=found.pages[::-1] + found.pages),
        msgspec.structs.replace(found, pages=[msgspec.structs.replace(found.pages[0], last=10**6)]),
        msgspec.structs.replace(found, log="outcomes-v1"),
    ):
        with pytest.raises(Unavailable):
            index.parse_index(keys.feed_index(LOG), msgspec.json.encode(wrong))
    part: Any = msgspec.structs.replace(found.earlier[0], sha256="0" * 64)
    with pytest.raises(Unavailable, match="digest"):
        read_part(world.raw.public, part)
