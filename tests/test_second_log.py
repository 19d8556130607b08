"""The specification in feed/README.md suffices: what one implementation writes, the other reads, both ways round."""

import re
from pathlib import Path

import pytest

from feed.follow.follow import follow
from feed.mirror.mirror import Mirror
from feed.mirror.mirror import Wish as MirrorWish
from feed.verify.verify import Wish, verify
from infra.bucket import Bucket, Buckets
from infra.folder import FolderBucket
from schemas import keys
from tests import second_log, small_log
from tests.chain import Chain, measured
from tests.second_log import Broken, Fact, read_log, write_log
from tests.small_log import LOG, all_entries, buckets_in, submit

HOSTILE = "ünï <b>&amp;</b> ]]> \U0001f600 %s"


@pytest.fixture
def buckets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Buckets:
    """Seven pages, two of the index's parts, a withdrawal that is carried out, and a head."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    monkeypatch.setattr("feed.index.PAGES_PER_PART", 2)
    buckets = buckets_in(tmp_path)
    announcer = small_log.make_announcer(buckets, head_keep=4)
    for number in range(1, 38):
        submit(buckets, number, environment=HOSTILE if number % 5 == 0 else "", format="jmh" if number % 2 else "auto")
        if number == 20:
            small_log.withdraw(buckets, 3, reason=HOSTILE)
        if number % 2 == 0:
            announcer.commit()
    while announcer.commit():
        pass
    sha256 = small_log.sha256_of(3)
    buckets.public.delete(keys.blob(sha256), keys.submission(small_log.id_of(3)))
    return buckets


def getter(public: Bucket) -> second_log.Get:
    def get(key: str) -> bytes:
        try:
            return public.read(key)
        except FileNotFoundError as error:
            raise KeyError(key) from error

    return get


def test_the_second_implementation_reads_what_the_announcer_writes(buckets: Buckets) -> None:
    facts = read_log(getter(buckets.public), LOG)
    assert [(fact.seq, fact.id, fact.title) for fact in facts] == [
        (entry.seq, entry.id, entry.title) for entry in all_entries(buckets.public)
    ]
    assert len(facts) == 38
    assert any(fact.withdraws for fact in facts)
    assert len(list(buckets.public.list(f"feeds/{LOG}/index/"))) > 2


def test_it_reads_the_log_without_the_index_too(buckets: Buckets) -> None:
    buckets.public.delete(*buckets.public.list(f"feeds/{LOG}/index/"))
    assert len(read_log(getter(buckets.public), LOG)) == 38


CHANGES: dict[str, tuple[str, bytes, bytes]] = {
    "a word in the head": ("current.atom", b"result of", b"result 0f"),
    "a word in a page": (".atom", b"result of", b"result 0f"),
    "a signature": ("current.atom", b'signature="', b'signature="00'),
    "the chain of a page": (".atom", b"<rf:chain>0", b"<rf:chain>1"),
    "a digest in the index": ("current.json", b'"sha256":"', b'"sha256":"0'),
    "a blob": ("blobs/", b"result", b"resu1t"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_it_finds_every_change(name: str, buckets: Buckets) -> None:
    """Of each object of that kind, one at a time."""
    part, old, new = CHANGES[name]
    get, tampered = getter(buckets.public), 0
    keys_of_kind = [key for top in ("feeds/", "blobs/") for key in buckets.public.list(top) if part in key]
    for changed in [key for key in keys_of_kind if old in buckets.public.read(key)][:4]:

        def changed_get(key: str, changed: str = changed) -> bytes:
            return get(key).replace(old, new, 1) if key == changed else get(key)

        with pytest.raises((Broken, ValueError)):
            read_log(changed_get, LOG)
        tampered += 1
    assert tampered


def facts_of_another(count: int) -> tuple[list[Fact], dict[str, bytes]]:
    """Entries that only another writer would make, and their objects."""
    facts, objects = [], {}
    for seq in range(1, count + 1):
        body = b"%d" % seq
        sha256 = second_log.digest_of(body)
        objects[keys.blob(sha256)] = body
        facts.append(
            Fact(
                seq=seq,
                batch=seq,
                id=small_log.id_of(seq),
                title=f"{HOSTILE} {seq}",
                content=f"{seq}\n\tlines & <more>",
                key=keys.blob(sha256),
                sha256=sha256,
                length=len(body),
                type="application/vnd.other+json",
                encoding=["identity", "gzip", "zstd"][seq % 3],
                project="other.project-1",
                published=small_log.received(seq),
                updated=small_log.received(seq),
                categories=[("format", f"f{seq % 2}"), ("project", "other.project-1"), ("format", 'a "quoted" <term>')],
            )
        )
    return facts, objects


def test_runfeed_follows_and_verifies_what_the_second_implementation_writes(tmp_path: Path) -> None:
    """Other layout, prefixes, page sizes, unknown elements, no index: the same facts, in order, proved."""
    facts, objects = facts_of_another(30)
    public = FolderBucket(tmp_path / "public")
    for key, body in objects.items():
        public.create(key, body)
    write_log(public.create, LOG, facts, page_sizes=[1, 7, 2, 12])  # type: ignore[arg-type]
    assert read_log(getter(public), LOG) == facts
    found = list(follow(str(tmp_path / "public"), once=True))
    assert [(one.seq, one.id, one.title, one.summary, one.encoding) for one in found] == [
        (fact.seq, fact.id, fact.title, fact.content, fact.encoding) for fact in facts
    ]
    assert [one.read() for one in found] == list(objects.values())
    verified = verify(public, LOG, Wish(depth="pages"))
    assert verified.breaches == []
    assert verified.entries == 30


def test_the_second_implementation_reads_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `runfeed mirror` leaves is as good as the original to whoever knows the specification alone."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    chain = Chain(tmp_path / "data")
    for first in range(0, 240, 80):
        chain.push_batch(*(measured(number) for number in range(first, first + 80)))
    copy = FolderBucket(tmp_path / "mirror")
    mirror = Mirror(chain.public.bucket, copy, tmp_path / "partial", MirrorWish())
    assert mirror.step() == 240
    mirror.close()
    facts = read_log(getter(copy), LOG)
    assert facts == read_log(getter(chain.public.bucket), LOG)
    assert len(facts) == 240


def test_the_specification_s_example_of_a_chain_is_right() -> None:
    """The digest in feed/README.md is that of its example, computed by what the page says."""
    text = (Path(__file__).parents[1] / "feed" / "README.md").read_text()
    match = re.search(r"the chain after it is\s+`([0-9a-f]{64})`", text)
    assert match
    published = second_log.datetime.fromisoformat("2026-01-02T03:04:05.678901+00:00")
    fact = Fact(
        seq=1,
        batch=1,
        id="ab" * 32,
        title="numpy: jmh result",
        content="12 bytes of application/json",
        key=f"blobs/cd/{'cd' * 32}",
        sha256="cd" * 32,
        length=12,
        type="application/json",
        encoding="identity",
        project="numpy",
        published=published,
        updated=published + second_log.timedelta(seconds=1),
        categories=[("project", "numpy"), ("format", "jmh")],
    )
    assert fact.chained(second_log.START) == match[1]
