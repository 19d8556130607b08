"""The chain digest, checkpoints and the index: what a stranger needs to tell whether a log is what it was."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed import index
from feed.announceable import describe_submission
from feed.announcer import Announcer
from feed.atom import Links, feed_id, parse_document, render_document
from feed.chain import START, chained, chained_all
from feed.index import read_part
from feed.log import LogReader
from feed.signing import Signer, check_signature, signed_text
from infra.folder import FolderBucket
from schemas import keys
from schemas.errors import Refused, Unavailable
from schemas.records import Category, Entry
from tests.chain import Chain, failing, measured, nothing
from tests.small_log import read_index

LOG = keys.SUBMISSIONS_LOG
WHEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ENTRY = Entry(
    seq=1,
    batch=1,
    id="ab" * 32,
    title="numpy: jmh result",
    summary="12 bytes of application/json",
    key="blobs/cd/" + "cd" * 32,
    sha256="cd" * 32,
    size_bytes=12,
    media_type="application/json",
    project="numpy",
    categories=(Category(scheme="project", term="numpy"), Category(scheme="format", term="jmh")),
    published=WHEN,
    updated=WHEN + timedelta(seconds=1),
)


# --- the chain ---


def test_the_chain_is_what_the_specification_says() -> None:
    """The example that feed/README.md gives, computed here by hand."""
    facts = [
        "0" * 64,
        "1",
        "1",
        "ab" * 32,
        "numpy: jmh result",
        "12 bytes of application/json",
        "blobs/cd/" + "cd" * 32,
        "cd" * 32,
        "12",
        "application/json",
        "identity",
        "numpy",
        "1767323045678901",
        "1767323046678901",
        "",
        "",
        "project",
        "numpy",
        "format",
        "jmh",
    ]
    text = "".join(f"{len(fact)}:{fact}" for fact in facts)
    assert chained(START, ENTRY) == hashlib.sha256(text.encode()).hexdigest()
    assert chained(START, ENTRY) in Path("feed/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in Entry.__struct_fields__ if name != "schema_version"])
def test_every_fact_of_an_entry_changes_the_chain(name: str) -> None:
    others = {
        int: lambda value: value + 1,
        str: lambda value: value + "x",
        tuple: lambda value: (*value, value[0] if value else "ef" * 32),
        datetime: lambda value: value + timedelta(microseconds=1),
    }
    value = getattr(ENTRY, name)
    changed = msgspec.structs.replace(ENTRY, **{name: others[type(value)](value)})
    assert chained(START, changed) != chained(START, ENTRY)


@given(st.text(max_size=5), st.text(max_size=5))
def test_no_fact_can_pass_for_part_of_another(title: str, summary: str) -> None:
    one = msgspec.structs.replace(ENTRY, title=title, summary=summary)
    moved = msgspec.structs.replace(ENTRY, title=title + summary, summary="")
    assert (chained(START, one) == chained(START, moved)) == (one == moved)


# --- checkpoints ---


def test_a_checkpoint_is_signed_over_the_text_of_the_specification(tmp_path: Path) -> None:
    signer = Signer.of(FolderBucket(tmp_path))
    checkpoint = signer.sign(LOG, 7, "12" * 32, WHEN)
    assert signed_text(checkpoint).decode() == (
        f"runfeed checkpoint 1\nsubmissions\n7\n{'12' * 32}\n2026-01-02T03:04:05.678901Z\n"
    )
    check_signature(checkpoint)


@pytest.mark.parametrize("change", [{"seq": 8}, {"chain": "13" * 32}, {"log": "outcomes-v1"}, {"key": "ab" * 32}])
def test_a_changed_checkpoint_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    checkpoint = Signer.of(FolderBucket(tmp_path)).sign(LOG, 7, "12" * 32, WHEN)
    with pytest.raises(Refused, match="a signature by the key"):
        check_signature(msgspec.structs.replace(checkpoint, **change))


def test_all_announcers_of_an_installation_sign_with_one_key(tmp_path: Path) -> None:
    private = FolderBucket(tmp_path)
    assert Signer.of(private).public_key == Signer.of(private).public_key
    assert Signer.of(private).authority == Signer.of(private).public_key[:32]
    assert Signer.of(FolderBucket(tmp_path / "other")).public_key != Signer.of(private).public_key


# --- what the announcer writes ---


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path)


def announcer(chain: Chain, **named: object) -> Announcer:
    made: Callable[..., Announcer] = partial(Announcer, chain.buckets, chain.submissions, describe_submission)
    return made(**{"clock": chain.clock, "signer": chain.signer, "head_keep": 2, "threads": 1, **named})


def announced(chain: Chain, count: int, **named: object) -> list[Entry]:
    """`count` more submissions, each with a commit of its own."""
    announcing = announcer(chain, **named)
    start = chain.submissions.last_seq()
    for number in range(start, start + count):
        chain.push(measured(number))
        assert announcing.commit() == 1
    assert announcing.commit() == 0
    return LogReader(chain.public, LOG).entries_after(0)  # type: ignore[arg-type]


def check_whole(chain: Chain) -> None:
    """Every document's chain and digest are right, and the checkpoint is of the last entry."""
    reader = LogReader(chain.public, LOG)  # type: ignore[arg-type]
    head = reader.head()
    entries = reader.entries_after(0)
    document, key, sha256 = head.document, head.previous, head.document.previous_sha256
    while True:
        first = document.entries[0].seq
        assert document.chain == chained_all(START, entries[: first - 1])
        if not key:
            break
        document, found = reader.page_and_digest(key)
        assert found == sha256
        key, sha256 = document.previous, document.previous_sha256
    assert head.document.checkpoint is not None
    check_signature(head.document.checkpoint)
    assert (head.document.checkpoint.seq, head.document.checkpoint.chain) == (
        len(entries),
        chained_all(START, entries),
    )


def test_head_and_pages_carry_chain_digests_and_a_signed_checkpoint(chain: Chain) -> None:
    entries = announced(chain, 12)
    assert [entry.seq for entry in entries] == list(range(1, 13))
    assert len([key for key in chain.public.list("feeds/submissions/") if keys.parse_page(key)]) >= 4
    check_whole(chain)
    head = chain.submissions.head().document
    assert head.authority == chain.signer.authority
    body = chain.public.read(keys.feed_head(LOG)).decode()
    assert f"<id>{feed_id(LOG, chain.signer.authority)}</id>" in body


def test_a_log_of_a_release_without_chains_gets_them_and_keeps_its_id(chain: Chain) -> None:
    """Its pages stay as they are; from the next commit on everything is there, over the whole past."""
    old = announced(chain, 9, signer=None)
    as_before(chain)
    again = Chain(chain.data)
    assert announced(again, 6)[:9] == old
    head = again.submissions.head().document
    assert head.authority == ""
    assert head.checkpoint is not None
    assert head.checkpoint.chain == chained_all(START, LogReader(again.public, LOG).entries_after(0))  # type: ignore[arg-type]
    assert not parse_document(again.public.read(first_page(again))).chain


def as_before(chain: Chain) -> None:
    """Write the log's documents as a release without chains did."""
    reader = LogReader(chain.public, LOG)  # type: ignore[arg-type]
    head = reader.head()
    documents = [head.document]
    while documents[-1].previous:
        documents.append(reader.page(documents[-1].previous))
    for key in list(chain.public.list("feeds/submissions/")):
        chain.public.delete(key)
    previous = ""
    for document in documents[:0:-1]:
        body = render_document(LOG, document.entries, archive=True, previous=previous)
        span = document.entries[0].seq, document.entries[-1].seq
        previous = keys.Page(LOG, *span, hashlib.sha256(body).hexdigest()[:16]).key
        chain.public.create(previous, body)
    body = render_document(LOG, head.entries, archive=False, previous=previous)
    chain.public.create(keys.feed_head(LOG), body)


def first_page(chain: Chain) -> str:
    return next(key for key in chain.public.list("feeds/submissions/0") if keys.parse_page(key))


def test_heads_name_their_address_and_hubs_only_where_these_are_known(chain: Chain) -> None:
    announced(chain, 1)
    assert b'href="current.atom" rel="self"' in chain.public.read(keys.feed_head(LOG))
    announced(chain, 4, links=Links("https://runs.example", ("https://runs.example/hub", "https://hub.example/")))
    head = chain.public.read(keys.feed_head(LOG)).decode()
    assert 'href="https://runs.example/feeds/submissions/current.atom" rel="self"' in head
    assert 'href="https://runs.example/hub" rel="hub"' in head
    assert 'href="https://hub.example/" rel="hub"' in head
    assert "runs.example" not in chain.public.read(first_page(chain)).decode()


# --- the index ---


def test_the_index_leads_to_every_page_however_many_there_are(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "PAGES_PER_PART", 2)
    announced(chain, 25)
    newest = read_index(chain.public, LOG)  # type: ignore[arg-type]
    assert len(newest.earlier) >= 2
    assert len(newest.pages) < 4
    sealed = [page for part in newest.earlier for page in read_part(chain.public, part).pages]  # type: ignore[arg-type]
    lines = sealed + newest.pages
    assert lines[0].first == 1
    assert [line.first for line in lines[1:]] == [line.last + 1 for line in lines[:-1]]
    for line in lines:
        assert hashlib.sha256(chain.public.read(line.key)).hexdigest() == line.sha256
    assert lines[-1].key == chain.submissions.head().previous


def test_an_index_that_fell_behind_is_brought_up_by_the_next_announcer(chain: Chain) -> None:
    chain.public.before = failing("swap", keys.feed_index(LOG), Unavailable("the store is away"))
    with pytest.raises(Unavailable):
        announced(chain, 12)
    chain.public.before = nothing
    announced(chain, 3)
    newest = read_index(chain.public, LOG)  # type: ignore[arg-type]
    assert newest.pages[0].first == 1
    assert newest.pages[-1].key == chain.submissions.head().previous
    check_whole(chain)


@pytest.mark.parametrize(
    "damage",
    [
        b"{",
        b'{"log": "submissions", "pages": [{"first": 1, "last": 2, "key": "x", "sha256": ""}]}',
        msgspec.json.encode({"log": "outcomes-v1", "pages": []}),
    ],
    ids=["no JSON", "no page", "another log"],
)
def test_a_damaged_index_is_named_and_made_anew(chain: Chain, damage: bytes) -> None:
    announced(chain, 8)
    bucket: FolderBucket = chain.public.bucket
    bucket.swap(keys.feed_index(LOG), damage, etag=bucket.head(keys.feed_index(LOG)).etag)
    with pytest.raises(Unavailable, match=r"feeds/submissions/index/current\.json"):
        read_index(bucket, LOG)
    announced(Chain(chain.data), 3)
    repaired = read_index(bucket, LOG)
    assert (repaired.pages[0].first, repaired.pages[-1].key) == (1, chain.submissions.head().previous)
