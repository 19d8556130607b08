"""A mirror is complete, verified and valid at every moment, whatever dies or is cut, and no fork gets into it."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from click.testing import CliRunner, Result

from feed.breach import Breach
from feed.log import LogReader
from feed.mirror.cli import mirror as mirror_command
from feed.mirror.mirror import Mirror, Mirrored, Wish
from feed.mirror.pace import BURST_SECONDS, Pace, parse_rate
from feed.remote.address import from_feed_url
from feed.remote.asking import Asker
from feed.signing import Signer
from feed.verify.verify import Wish as VerifyWish
from feed.verify.verify import verify
from feed.withdrawals import noted_withdrawals
from infra.again import World
from infra.bucket import Bucket
from infra.folder import FolderBucket
from infra.s3 import open_s3
from processor.doctor import breaches
from schemas import keys
from schemas.errors import Refused
from schemas.records import Benchmark, Project
from tests.chain import Chain, Unreliable, load, measured, rows
from tests.logs import SmallPages, bulk, copied, forge
from tests.running import RUNFEED, running
from tests.servers import S3Server
from tests.static_server import StaticServer
from tests.withdrawing import CONTEXT, LEAKED, leaks, new_purge, purged, settle, withdrawn

LOG = keys.SUBMISSIONS_LOG
AT_ONCE = Wish(looks_again=(), looks_at_head=())
LAKE = Wish(lake=True, looks_again=(), looks_at_head=())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 entries in pages of three and a head, made once."""
    data = tmp_path_factory.mktemp("made") / "data"
    SmallPages(data).grow(12)
    return data


@pytest.fixture
def origin(made: Path, tmp_path: Path) -> SmallPages:
    return copied(made, tmp_path / "origin")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the mirror is to be: a data folder."""
    return tmp_path / "mirror"


def mirrored(source: Any, place: Any, wish: Wish = AT_ONCE, **given: Any) -> Mirrored:
    """Mirror once, into a data folder or a bucket; what came of it."""
    destination = FolderBucket(place / "public") if isinstance(place, Path) else place
    work = place if isinstance(place, Path) else place.bucket.root.parent
    mirror = Mirror(source, destination, work / "mirror" / "partial", wish, sleep=lambda seconds: None, **given)
    with contextlib.closing(mirror):
        mirror.step()
        return mirror.summary()


def contents(root: Path) -> dict[str, bytes]:
    """All objects below a public bucket's folder."""
    bucket = FolderBucket(root)
    return {key: bucket.read(key) for key in bucket.list("")}


def assert_valid(root: Path, log: str = LOG) -> int:
    """The mirror's log is proved with all that it names; its last seq, 0 if it has no head yet."""
    try:
        found = verify(FolderBucket(root), log, VerifyWish(looks_again=(), parallel=2))
    except FileNotFoundError:
        return 0
    assert [str(breach) for breach in found.breaches] == []
    assert found.remembered
    return found.remembered.seq


@contextlib.contextmanager
def counted(bucket: FolderBucket) -> Iterator[tuple[Bucket, list[str]]]:
    """`bucket`, and the keys of objects read from it."""
    seen = Unreliable(bucket)
    read: list[str] = []
    seen.before = lambda verb, key: read.append(key) if verb in ("read", "read_versioned") else None
    yield cast(Bucket, seen), read


# --- completeness ---


def test_a_mirror_holds_every_object_byte_for_byte(origin: SmallPages, place: Path) -> None:
    """Withdrawal, project and benchmark included; of what was withdrawn the record."""
    public = origin.public.bucket
    public.create(keys.project("p"), msgspec.json.encode(Project(name="p", title="P", created=origin.now)))
    benchmark = Benchmark(name="b", version=1, schema={}, metrics=[], created=origin.now)
    public.create(keys.benchmark("p", "b", 1), msgspec.json.encode(benchmark))
    origin.push(measured(77), format="benchmark:b@1")
    origin.commit()
    origin.purge(origin.withdraw(origin.entries()[3].id))
    origin.grow(4, start=30)
    found = mirrored(public, place)
    assert contents(place / "public") == contents(origin.root)
    assert (found.logs[LOG].seq, found.entries) == (18, 18)
    assert found.logs[LOG].key == origin.signer.public_key
    assert assert_valid(place / "public") == 18


def test_a_mirror_of_a_mirror_is_the_same(origin: SmallPages, place: Path, tmp_path: Path) -> None:
    mirrored(origin.public.bucket, place)
    mirrored(FolderBucket(place / "public"), tmp_path / "second")
    assert contents(tmp_path / "second" / "public") == contents(origin.root)


def test_a_level_mirror_asks_for_the_head_and_nothing_that_it_has(origin: SmallPages, place: Path) -> None:
    mirrored(origin.public.bucket, place)
    with counted(origin.public.bucket) as (source, read):
        found = mirrored(source, place)
    assert found.entries == found.objects == 0
    assert [key for key in read if not key.rpartition("/")[2].startswith("current.")] == [keys.project("p")]


def test_a_mirror_goes_on_with_what_is_new(origin: SmallPages, place: Path) -> None:
    mirrored(origin.public.bucket, place)
    had = contents(place / "public")
    origin.grow(9, start=30)
    with counted(origin.public.bucket) as (source, read):
        found = mirrored(source, place)
    assert (found.entries, found.objects) == (9, 18)
    assert [key for key in read if key in had and not key.endswith((keys.feed_head(LOG), "current.json"))] == []
    assert contents(place / "public") == contents(origin.root)


def test_objects_that_went_missing_or_were_cut_in_a_mirror_are_copied_again(origin: SmallPages, place: Path) -> None:
    mirrored(origin.public.bucket, place)
    entries = origin.entries()
    (place / "public" / entries[2].key).unlink()
    (place / "public" / keys.submission(entries[5].id)).unlink()
    path = place / "public" / entries[7].key
    path.write_bytes(path.read_bytes()[:-1])
    assert mirrored(origin.public.bucket, place).objects == 3
    assert contents(place / "public") == contents(origin.root)


def test_a_page_that_was_changed_in_a_mirror_is_named(origin: SmallPages, place: Path) -> None:
    mirrored(origin.public.bucket, place)
    key = origin.page_keys()[1]
    (place / "public" / key).write_bytes(b"<feed/>")
    with pytest.raises(Breach, match=f"the mirror's {key}"):
        mirrored(origin.public.bucket, place)


def test_a_log_of_an_earlier_release_is_mirrored_and_goes_on_as_one_of_this(origin: SmallPages, place: Path) -> None:
    lasts = [page.last for key in origin.page_keys() if (page := keys.parse_page(key))]
    forge(origin.public.bucket, origin.entries(), lasts, old=True)
    found = mirrored(origin.public.bucket, place)
    assert "earlier release" in found.notes[0]
    origin.grow(8, start=30)
    assert mirrored(origin.public.bucket, place).logs[LOG].seq == 20
    assert contents(place / "public") == contents(origin.root)


# --- death at any moment ---


class Died(Exception):
    """Where a test lets a mirror die."""


def dying_at(writes: int, bucket: Unreliable, when: str, read: list[str]) -> list[str]:
    """Let the mirror die before or after its write of that number, counted from 0; nothing else is written then. What
    it had `read` up to then stands in the list that this returns."""
    lock, left = threading.Lock(), [writes]
    before: list[str] = []

    def hook(verb: str, key: str) -> None:
        if verb in ("create", "swap", "delete"):
            with lock:
                left[0] -= 1
                if left[0] == -1:
                    before.extend(read)
                if left[0] < 0:
                    raise Died

    setattr(bucket, when, hook)
    return before


def dying(now: bool) -> None:
    if now:
        raise Died


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_mirror_that_dies_at_any_write_is_valid_and_goes_on_from_there(
    origin: SmallPages, tmp_path: Path, when: str
) -> None:
    """No blob is read twice, but those that were under way."""
    first = contents(origin.root)
    steps, at = 0, 0
    while True:
        place = tmp_path / f"{when}-{at}"
        destination = Unreliable(FolderBucket(place / "public"))
        with counted(origin.public.bucket) as (source, read):
            before = dying_at(at, destination, when, read)
            try:
                mirrored(source, destination, Wish(looks_again=(), looks_at_head=(), parallel=2))
                break
            except Died:
                steps += 1
            assert assert_valid(place / "public") in (0, 12)
            read.clear()
            mirrored(source, place, Wish(looks_again=(), looks_at_head=(), parallel=2))
        assert contents(place / "public") == first
        blobs = [key for key in before + read if key.startswith("blobs/")]
        assert len(blobs) <= len(set(blobs)) + 2
        at += 1 if steps < 8 else 3
        shutil.rmtree(place)
    assert steps > 12


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_mirror_that_dies_at_any_write_of_an_update_is_valid_and_goes_on_from_there(
    origin: SmallPages, tmp_path: Path, when: str
) -> None:
    """A withdrawal of what it holds among what is new: whatever was left then goes."""
    base = tmp_path / "base"
    mirrored(origin.public.bucket, base)
    origin.purge(origin.withdraw(origin.entries()[3].id))
    origin.grow(3, start=30)
    steps = 0
    while True:
        place = tmp_path / f"{when}-{steps}"
        shutil.copytree(base, place)
        destination = Unreliable(FolderBucket(place / "public"))
        dying_at(steps, destination, when, [])
        try:
            mirrored(origin.public.bucket, destination, Wish(looks_again=(), looks_at_head=(), parallel=2))
            break
        except Died:
            steps += 1
        assert assert_valid(place / "public") in (12, 16)
        mirrored(origin.public.bucket, place)
        assert contents(place / "public") == contents(origin.root)
        shutil.rmtree(place)
    assert steps >= 3 * 2 + 1 + 2 + 2


# --- withdrawals ---


def test_what_is_withdrawn_goes_from_the_mirror_and_is_not_asked_for_again(origin: SmallPages, place: Path) -> None:
    """Also a submission of the same blob that came later and that the withdrawal does not name."""
    mirrored(origin.public.bucket, place)
    entry = origin.entries()[3]
    body = origin.public.bucket.read(entry.key)
    noted: list[str] = []
    sha256 = origin.withdraw(entry.id)
    found = mirrored(origin.public.bucket, place, on_withdrawn=noted.append)
    assert (found.removed, noted) == (2, [sha256])
    assert not (place / "public" / entry.key).exists()
    assert not (place / "public" / keys.submission(entry.id)).exists()
    assert (place / "public" / keys.withdrawal(sha256)).exists()
    record = origin.path(keys.withdrawal(sha256))
    record.rename(place / "record")  # a push that was under way when it came
    late = origin.push(body, format="runfeed")
    (place / "record").rename(record)
    origin.commit()
    mirrored(origin.public.bucket, place)
    assert not (place / "public" / keys.submission(late)).exists()
    assert not (place / "public" / entry.key).exists()
    origin.purge(sha256)
    assert contents(place / "public") == contents(origin.root)
    assert assert_valid(place / "public") == 14


def test_what_is_withdrawn_while_one_mirrors_is_no_breach(origin: SmallPages, place: Path) -> None:
    """The head that is being copied does not say so; a later one does, and that is what gets published."""
    entry = origin.entries()[3]
    source = Unreliable(origin.public.bucket)

    def withdraw_meanwhile(verb: str, key: str) -> None:
        if (verb, key) == ("read", entry.key):
            source.before = lambda *_: None
            origin.purge(origin.withdraw(entry.id))

    source.before = withdraw_meanwhile
    found = mirrored(source, place, Wish(looks_again=(), looks_at_head=(0.0,)))
    assert found.logs[LOG].seq == 13
    assert contents(place / "public") == contents(origin.root)


def test_a_record_of_withdrawal_that_is_never_announced_is_a_breach(origin: SmallPages, place: Path) -> None:
    entry = origin.entries()[3]
    origin.purge(origin.withdraw(entry.id, announced=False))
    with pytest.raises(Breach, match="entry 4: "):
        mirrored(origin.public.bucket, place, Wish(looks_again=(), looks_at_head=(0.0, 0.0)))
    assert assert_valid(place / "public") == 0


# --- origins that break their promises ---


def test_a_missing_blob_is_looked_for_again_and_then_named(origin: SmallPages, place: Path) -> None:
    entry = origin.entries()[3]
    origin.path(entry.key).unlink()
    with counted(origin.public.bucket) as (source, read), pytest.raises(Breach, match=f"entry 4: {entry.key}"):
        mirrored(source, place, Wish(looks_again=(0.5, 2.0)))
    assert read.count(entry.key) == 3
    assert assert_valid(place / "public") == 0


def test_a_blob_of_other_bytes_never_gets_into_a_mirror(origin: SmallPages, place: Path) -> None:
    entry = origin.entries()[3]
    origin.path(entry.key).write_bytes(origin.path(entry.key).read_bytes()[::-1])
    with pytest.raises(Breach, match=f"entry 4: {entry.key}: expected SHA-256 {entry.sha256}"):
        mirrored(origin.public.bucket, place)
    assert not (place / "public" / entry.key).exists()


def test_a_submission_that_was_changed_never_gets_into_a_mirror(origin: SmallPages, place: Path) -> None:
    key = keys.submission(origin.entries()[3].id)
    origin.path(key).write_text(origin.path(key).read_text().replace('"project":"p"', '"project":"q"'))
    with pytest.raises(Breach, match=f"entry 4: {key}"):
        mirrored(origin.public.bucket, place)
    assert not (place / "public" / key).exists()


def test_a_fork_is_refused_and_named_where_it_parts(origin: SmallPages, place: Path, tmp_path: Path) -> None:
    """Both went on from the same past with the same key; the mirror follows the one that it knows."""
    shutil.copytree(origin.data, tmp_path / "fork")
    mirrored(origin.public.bucket, place)
    origin.grow(4, start=30)
    mirrored(origin.public.bucket, place)
    fork = SmallPages(tmp_path / "fork")
    fork.pass_time(hours=2)
    fork.grow(9, start=60)
    before = contents(place / "public")
    with pytest.raises(Breach, match=r"log submissions entry 13: expected .* as this mirror holds it"):
        mirrored(fork.public.bucket, place)
    assert contents(place / "public") == before


def test_a_past_rewritten_with_the_stolen_key_is_refused(origin: SmallPages, place: Path) -> None:
    mirrored(origin.public.bucket, place)
    before = contents(place / "public")
    origin.grow(6, start=30)
    lasts = [page.last for key in origin.page_keys() if (page := keys.parse_page(key))]
    entries = [msgspec.structs.replace(one, title="forged") if one.seq == 2 else one for one in origin.entries()]
    forge(origin.public.bucket, entries, lasts, signer=origin.signer, authority=origin.signer.authority)
    with pytest.raises(Breach, match=r"entry 2: expected .*, found the same with other words or times"):
        mirrored(origin.public.bucket, place)
    assert contents(place / "public") == before


@pytest.mark.parametrize("dies", [False, True], ids=["at once", "after a death"])
def test_pages_that_were_refused_do_not_stay(origin: SmallPages, place: Path, tmp_path: Path, dies: bool) -> None:
    """Somebody on the way forges what is new, in other pages, under the true checkpoint. They were written before their
    head came; behind the next good look nobody who lists the mirror's pages finds them. If the mirror dies before it
    has removed them, it does so when it is next started."""
    mirrored(origin.public.bucket, place)
    known = [page.last for key in origin.page_keys() if (page := keys.parse_page(key))]
    origin.grow(12, start=30)
    shutil.copytree(origin.data, tmp_path / "forged")
    forged = FolderBucket(tmp_path / "forged" / "public")
    entries = [msgspec.structs.replace(one, title="forged") if one.seq > 12 else one for one in origin.entries()]
    forge(forged, entries, [*known, 20], signer=origin.signer, authority=origin.signer.authority)
    true = re.search(rb"<rf:checkpoint[^>]*>", origin.path(keys.feed_head(LOG)).read_bytes())
    assert true
    head = forged.root / keys.feed_head(LOG)
    head.write_bytes(re.sub(rb"<rf:checkpoint[^>]*>", true[0], head.read_bytes()))
    with pytest.raises(Breach, match="checkpoint"):
        mirrored(forged, place)
    left = [key for key in contents(place / "public") if keys.parse_page(key) and key not in origin.page_keys()]
    assert len(left) == 1  # as this test wants it: written before the checkpoint was seen
    if dies:
        destination = Unreliable(FolderBucket(place / "public"))
        destination.before = lambda verb, key: dying(verb == "delete")
        with pytest.raises(Died):
            mirrored(origin.public.bucket, destination)
        assert (place / "public" / left[0]).exists()
    mirrored(origin.public.bucket, place)
    read = LogReader(FolderBucket(place / "public"), LOG).entries_after(0)
    assert [entry.title for entry in read] == [entry.title for entry in origin.entries()]
    assert contents(place / "public") == contents(origin.root)


def test_an_origin_with_less_than_the_mirror_is_refused(origin: SmallPages, place: Path, tmp_path: Path) -> None:
    shutil.copytree(origin.data, tmp_path / "past")
    origin.grow(6, start=30)
    mirrored(origin.public.bucket, place)
    with pytest.raises(Breach, match=r"entry 13: .* found none: the origin has 12"):
        mirrored(FolderBucket(tmp_path / "past" / "public"), place)


def test_another_feed_is_refused(origin: SmallPages, place: Path, tmp_path: Path) -> None:
    mirrored(origin.public.bucket, place)
    other = SmallPages(tmp_path / "other")
    other.grow(15, start=100)
    with pytest.raises(Breach, match="entry 1: "):
        mirrored(other.public.bucket, place)


def test_a_log_of_another_key_than_the_one_given_is_refused(origin: SmallPages, place: Path, tmp_path: Path) -> None:
    key = Signer.of(FolderBucket(tmp_path / "other")).public_key
    with pytest.raises(Breach, match=f"expected the key {key[:32]}"):
        mirrored(origin.public.bucket, place, Wish(looks_again=(), key=key))
    assert assert_valid(place / "public") == 0


def test_a_damaged_index_keeps_nobody_from_mirroring(origin: SmallPages, place: Path) -> None:
    origin.path(keys.feed_index(LOG)).write_text("{")
    found = mirrored(origin.public.bucket, place)
    assert found.logs[LOG].seq == 12
    assert "the origin's index is of no use" in found.notes[0]
    assert assert_valid(place / "public") == 12


# --- over the network ---


@contextlib.contextmanager
def over_http(server: StaticServer, **given: Any) -> Iterator[Bucket]:
    """A bucket over HTTP whose pauses take no time."""
    asker = Asker(world=World(sleep=lambda seconds: None), **given)
    with contextlib.closing(asker):
        yield from_feed_url(server.url, asker=asker)[0]


def cut_connections(tmp_path: Path, count: int, trouble: float) -> StaticServer:
    """Mirror `count` submissions over connections that are cut, and look at what came."""
    root = bulk(tmp_path / "origin", count)
    with StaticServer(root, trouble=trouble, seed=7) as server, over_http(server, patience_seconds=3600) as source:
        found = mirrored(source, tmp_path / "mirror")
    assert found.logs[LOG].seq == count
    assert contents(tmp_path / "mirror" / "public") == contents(root)
    assert list((tmp_path / "mirror" / "mirror" / "partial").iterdir()) == []
    return server


def test_connections_that_are_cut_all_the_time_cost_time_and_nothing_else(tmp_path: Path) -> None:
    """500 submissions, every third request cut, reset or refused; the large blob goes on where it was."""
    server = cut_connections(tmp_path, 500, 0.3)
    assert server.troubles.total() > 200
    assert server.most_at_once <= 8
    total = sum(path.stat().st_size for path in (tmp_path / "origin").rglob("*") if path.is_file())
    assert server.sent_bytes < 1.5 * total
    assert all(agent.startswith("Runfeed/") for agent in server.agents)


@pytest.mark.soak
@pytest.mark.skipif(not os.environ.get("RUNFEED_SOAK"), reason="the long version: make soak")
@pytest.mark.timeout(1800)
def test_20000_submissions_come_over_connections_that_are_cut_all_the_time(tmp_path: Path) -> None:
    cut_connections(tmp_path, 20_000, 0.2)


def test_a_command_that_is_killed_goes_on_in_the_middle_of_a_large_blob(tmp_path: Path) -> None:
    """Killed as soon as some of its 9 MiB have come, and once more; what had come is not sent again."""
    root, place = bulk(tmp_path / "origin", 30), tmp_path / "mirror"
    with StaticServer(root) as server:
        command = [RUNFEED, "mirror", server.url, str(place), "--limit-rate"]
        had = 0
        for _ in range(2):
            process = subprocess.Popen([*command, "3MB/s"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            while process.poll() is None and (size := partial_bytes(place)) <= had + (1 << 20):
                time.sleep(0.01)
            process.kill()
            process.communicate()
            had = size
            assert assert_valid(place / "public") == 0
        assert (2 << 20) < had < (9 << 20)
        sent = server.sent_bytes
        done = subprocess.run([*command, "1GB/s"], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        assert server.sent_bytes - sent < (9 << 20) - had + (1 << 20)
    assert contents(place / "public") == contents(root)


def partial_bytes(place: Path) -> int:
    return sum(path.stat().st_size for path in (place / "mirror" / "partial").glob("*"))


def test_a_server_without_ranges_will_do(tmp_path: Path) -> None:
    root = bulk(tmp_path / "origin", 5)
    with StaticServer(root, ranges=False) as server, over_http(server) as source:
        assert mirrored(source, tmp_path / "mirror").entries == 5
    assert contents(tmp_path / "mirror" / "public") == contents(root)


def test_verify_finds_the_same_over_http_as_in_the_folder(origin: SmallPages) -> None:
    with StaticServer(origin.root) as server, over_http(server) as remote:
        over = verify(remote, LOG, VerifyWish(looks_again=()))
        here = verify(origin.public.bucket, LOG, VerifyWish(looks_again=()))
        assert over == here
        (origin.root / origin.entries()[6].key).unlink()
        [breach] = verify(remote, LOG, VerifyWish(looks_again=())).breaches
    assert breach.where.startswith("entry 7: blobs/")


def test_a_mirror_in_object_storage_is_complete_and_goes_on(
    origin: SmallPages, s3_server: S3Server, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    bucket = open_s3(f"s3://mirrors/{request.node.name.replace('_', '-')[:40]}", s3_server.environ)
    bucket.check_conditional_writes()
    for more in (0, 5):
        origin.grow(more, start=30)
        if more:
            origin.purge(origin.withdraw(origin.entries()[3].id))
        mirror = Mirror(origin.public.bucket, bucket, tmp_path / "partial", Wish(looks_again=(), mend=False))
        with contextlib.closing(mirror):
            mirror.step()
        assert {key: bucket.read(key) for key in bucket.list("")} == contents(origin.root)
    found = verify(bucket, LOG, VerifyWish(looks_again=()))
    assert (found.breaches, found.entries) == ([], 18)


# --- pace ---


def test_bytes_over_all_threads_keep_to_the_rate() -> None:
    """Counted under a clock of the test: what was let through at any moment is no more than rate and burst allow."""
    now = [0.0]
    waited: list[float] = []
    pace = Pace(1000, clock=lambda: now[0], sleep=waited.append)
    for at in range(1, 51):
        pace.take(100)
        assert waited[-1] == pytest.approx(100 * at / 1000)
    now[0] = 100.0
    waited.clear()
    pace.take(int(1000 * BURST_SECONDS))
    assert waited == []  # a rest is made good for by a burst, and by no more
    pace.take(1000)
    assert waited == [pytest.approx(1.0)]


def test_what_a_mirror_reads_is_paced_as_a_whole(origin: SmallPages, place: Path) -> None:
    waited: list[float] = []
    pace = Pace(1000, clock=lambda: 0.0, sleep=waited.append)
    found = mirrored(origin.public.bucket, place, pace=pace)
    assert found.size_bytes > 12 * 300
    assert max(waited) == pytest.approx(found.size_bytes / 1000)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("10MB/s", 10e6), ("500kB/s", 500e3), ("1.5MiB/s", 1.5 * (1 << 20)), ("2M", 2e6), ("100", 100.0)],
    ids=["MB", "kB", "MiB", "M", "bytes"],
)
def test_rates_are_read(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "-1MB/s", "0", "1TB/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="--limit-rate"):
        parse_rate(text)


# --- the command, and serving a mirror ---


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(mirror_command, [str(one) for one in arguments])


def test_the_command_tells_what_is_held_and_what_breaks(origin: SmallPages, place: Path) -> None:
    result = run(origin.data, place, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["logs"][LOG]["seq"], told["entries"], told["objects"]) == (12, 12, 24)
    assert "holds submissions 1 to 12" in run(origin.data, place).stdout
    origin.grow(2, start=30)
    origin.path(origin.entries()[13].key).write_bytes(b"{}")
    result = run(origin.data, place, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["breach"]["where"].startswith("entry 14: ")
    assert isinstance(run(origin.data, origin.data).exception, Refused)


def test_of_two_mirrors_at_one_place_the_second_is_refused(origin: SmallPages, place: Path) -> None:
    inside = threading.Event()
    ended = threading.Event()
    refused: list[object] = []

    def second(verb: str, key: str) -> None:
        if not inside.is_set():
            inside.set()
            refused.append(run(origin.data, place).exception)
            ended.set()

    with StaticServer(origin.root) as server:
        meets = server.meets
        server.meets = lambda: (second("", ""), meets())[1]  # type: ignore[method-assign,func-returns-value]
        assert run(server.url, place).exit_code == 0
    assert ended.wait(10)
    assert isinstance(refused[0], Refused)


def test_following_goes_on_until_the_origin_breaks(origin: SmallPages, place: Path) -> None:
    """Three steps in which something comes, then a fork ends it."""
    grown = iter(range(3))

    def grow_or_break(pause: float) -> None:
        at = next(grown, None)
        if at is not None:
            origin.grow(1, start=30 + at)
        else:
            forged = [msgspec.structs.replace(one, title="forged") for one in origin.entries()]
            forge(origin.public.bucket, forged, [], signer=origin.signer, authority=origin.signer.authority)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("feed.mirror.cli._Ending.sleep", lambda self, pause: grow_or_break(pause))
        result = run(origin.data, place, "--follow")
    assert result.exit_code == 1
    assert [line for line in result.stderr.splitlines() if "entries came" in line] == [
        "12 entries came; holds submissions 1 to 12",
        "1 entries came; holds submissions 1 to 13",
        "1 entries came; holds submissions 1 to 14",
        "1 entries came; holds submissions 1 to 15",
    ]
    assert "breach: log submissions entry 1: " in result.stderr


ANSWERS = ("/api/v1/runs", "/api/v1/projects", "/api/v1/projects/p", "/api/v1/submissions", "/api/v1/series")


def answers(get: Callable[[str], Any]) -> dict[str, Any]:
    """What a server says of everything, each run's rows among it."""
    runs = [
        f"/api/v1/runs/{run['run']}/{rows}" for run in get(ANSWERS[0])["items"] for rows in ("measurements", "tests")
    ]
    return {path: get(path) for path in (*ANSWERS, *runs)}


def test_a_server_over_a_mirror_gives_the_same_answers_and_processes_nothing(tmp_path: Path) -> None:
    """A stranger's whole journey, with the address alone: mirror, verify, serve."""
    place = tmp_path / "mirror"
    with running(tmp_path / "data") as origin:
        ids = [origin.push(measured(at))["id"] for at in range(6)]
        ids.append(origin.push(b'{"test": "t", "status": "pass"}')["id"])
        ids.append(origin.push(b"nonsense")["id"])
        for id in ids:
            origin.wait_for(id)
        told = answers(origin.get)
        result = origin.runfeed("mirror", origin.url, str(place), "--lake")
        assert result.returncode == 0, result.stderr
        for log in (LOG, "outcomes-v1"):
            result = origin.runfeed("verify", str(place), "--log", log, "--state", str(tmp_path / "state"))
            assert result.returncode == 0, result.stdout + result.stderr
    held = contents(place / "public")
    with running(place) as server:
        for id in ids:
            server.wait_for(id)
        assert answers(server.get) == told
        assert server.client.get("/feeds/submissions/current.atom").content == held[keys.feed_head(LOG)]
    assert {key: body for key, body in contents(place / "public").items() if key in held} == held
    assert list(FolderBucket(place / "private").list("pending/")) == []


def test_a_mirror_without_the_lake_is_processed_anew_to_the_same_rows(tmp_path: Path) -> None:
    origin = Chain(tmp_path / "data")
    for at in range(3):
        origin.done(measured(at))
    mirrored(origin.public.bucket, tmp_path / "mirror")
    served = Chain(tmp_path / "mirror")
    for seq in range(1, 4):
        served.process((seq, seq))
    served.announce_outcomes()
    query = "SELECT seq, run, benchmark, value FROM measurements ORDER BY ALL"
    found = []
    for chain in (origin, served):
        with chain.dashboard() as dashboard:
            load(dashboard)
            found.append(rows(dashboard, query))
    assert found[0] == found[1]
    assert list(breaches(served.buckets, served.now, deep=True, settled=True)) == []


def test_a_mirror_of_the_lake_that_processed_by_itself_is_refused(tmp_path: Path) -> None:
    """Its outcomes are others than the origin's, though they say the same."""
    origin = Chain(tmp_path / "data")
    origin.done(measured(1))
    mirrored(origin.public.bucket, tmp_path / "mirror")
    served = Chain(tmp_path / "mirror")
    served.pass_time(hours=1)
    served.process((1, 1))
    with pytest.raises(Breach, match="a mirror of the lake processes nothing itself"):
        mirrored(origin.public.bucket, tmp_path / "mirror", Wish(lake=True, looks_again=()))


def copied_keys(root: Path) -> dict[str, bytes]:
    """What a mirror of the lake is to hold: all but what is made anew of it."""
    made_anew = ("lake/v1/catalog/", "snapshots/")
    return {key: body for key, body in contents(root).items() if not key.startswith(made_anew)}


def test_what_a_withdrawal_took_from_the_lake_goes_from_a_mirror_of_it_too(tmp_path: Path) -> None:
    """Outcomes are revised, and those before them and their parts go; others of the batch keep their rows."""
    origin = Chain(tmp_path / "data")
    origin.push(measured(1, "kept"))
    leaked = origin.push(LEAKED, CONTEXT)
    settle(origin)
    origin.done(measured(2, "kept"))
    mirrored(origin.public.bucket, tmp_path / "mirror", LAKE)
    assert leaks(tmp_path / "mirror") != []
    withdrawn(origin, leaked)
    settle(origin)
    new_purge(origin).step()  # revised, and perhaps not yet announced
    mirrored(origin.public.bucket, tmp_path / "mirror", LAKE)
    for log in (LOG, "outcomes-v1"):
        assert_valid(tmp_path / "mirror" / "public", log)
    purged(origin)
    found = mirrored(origin.public.bucket, tmp_path / "mirror", LAKE)
    assert copied_keys(tmp_path / "mirror" / "public") == copied_keys(tmp_path / "data" / "public")
    assert leaks(tmp_path / "mirror") == []
    assert found.logs["outcomes-v1"].seq == origin.reader_of("outcomes-v1").last_seq()
    for root in (tmp_path / "mirror" / "public", tmp_path / "data" / "public"):
        for log in (LOG, "outcomes-v1"):
            assert assert_valid(root, log) > 0
    with Chain(tmp_path / "mirror").dashboard() as dashboard:
        load(dashboard)
        assert rows(dashboard, "SELECT value FROM measurements ORDER BY ALL") == [(1.0,), (2.0,)]
    mirrored(FolderBucket(tmp_path / "mirror" / "public"), tmp_path / "second", LAKE)
    assert copied_keys(tmp_path / "second" / "public") == copied_keys(tmp_path / "mirror" / "public")


def test_a_server_over_a_mirror_is_asked_to_remove_what_is_withdrawn(origin: SmallPages, place: Path) -> None:
    """It has processed it itself, so it has rows of it that no mirror knows."""
    assert run(origin.data, place).exit_code == 0
    assert not (place / "private").exists()
    private = FolderBucket(place / "private")
    sha256 = origin.withdraw(origin.entries()[3].id)
    assert run(origin.data, place).exit_code == 0
    assert list(noted_withdrawals(private)) == [sha256]


@pytest.mark.parametrize(
    "key",
    [
        "feeds/submissions/current.atom",
        "../../outside",
        "lake/v2/runs/000000000001-000000000001-0000000000000000.parquet",
    ],
    ids=["the-head", "outside", "another-lake"],
)
def test_an_outcome_that_names_anything_but_its_parts_moves_nothing(tmp_path: Path, key: str) -> None:
    """Else whoever keeps the origin could let a mirror remove or write what they like."""
    origin = Chain(tmp_path / "data")
    origin.done(measured(1))
    mirrored(origin.public.bucket, tmp_path / "mirror", LAKE)
    before = contents(tmp_path / "mirror" / "public")
    origin.done(measured(2))
    outcome = origin.outcome(2)
    forged = msgspec.structs.replace(outcome, parts=[msgspec.structs.replace(outcome.parts[0], key=key)])
    body = msgspec.json.encode(forged)
    (tmp_path / "data" / "public" / keys.outcome(1, 2, 0)).write_bytes(body)
    entries = origin.reader_of("outcomes-v1").entries_after(0)
    sha256 = hashlib.sha256(body).hexdigest()
    entries[1] = msgspec.structs.replace(entries[1], sha256=sha256, size_bytes=len(body))
    signer = origin.signer
    bucket = cast(FolderBucket, origin.public.bucket)
    forge(bucket, entries, [], signer=signer, authority=signer.authority, log="outcomes-v1")
    with pytest.raises(Breach, match="expected parts of its lake"):
        mirrored(bucket, tmp_path / "mirror", LAKE)
    after = contents(tmp_path / "mirror" / "public")
    assert {key for key in after if key.startswith("lake/")} == {key for key in before if key.startswith("lake/")}
    assert after["feeds/outcomes-v1/current.atom"] == before["feeds/outcomes-v1/current.atom"]
