"""Following a log from anywhere: each entry once, in order; what was changed in its past is named."""

import asyncio
import contextlib
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import feed.follow.follow
import runfeed
from feed.announceable import describe_submission, write_marker
from feed.announcer import Announcer
from feed.follow.cli import follow as follow_command
from feed.follow.cursor import Cursor
from feed.follow.follow import Breach, Followed, Withdrawn, follow, follow_async, parse_since
from feed.follow.waiting import failed_seconds, level_seconds
from feed.signing import Signer
from infra.folder import FolderBucket
from infra.s3 import open_s3
from schemas import keys
from schemas.errors import Refused, Unavailable
from schemas.records import Entry, Withdrawal
from tests.chain import Chain
from tests.forged_log import BEGAN, LOG, an_entry, entries, write_log
from tests.logs import forge
from tests.origin import Origin
from tests.own_loop import in_own_loop
from tests.running import RUNFEED, running
from tests.servers import S3Server
from tests.silent_log import forge_silently


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Second looks come at once."""
    for module in ("feed.follow.look", "feed.follow.followed"):
        monkeypatch.setattr(f"{module}.LOOKS_AGAIN", (0.01, 0.01))
    monkeypatch.setattr(feed.follow.follow, "_PATIENCE_SECONDS", 0.05)


@pytest.fixture
def signer() -> Signer:
    return Signer(Ed25519PrivateKey.generate())


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Origin]:
    (tmp_path / "public").mkdir()
    with Origin(tmp_path / "public") as origin:
        yield origin


def seqs(url: str, **options: Any) -> list[int]:
    return [entry.seq for entry in follow(url, once=True, **options)]


class Live:
    """A chain whose announcer a test drives, signed."""

    def __init__(self, data: Path) -> None:
        self.chain = Chain(data)
        self.announcer = Announcer(
            self.chain.buckets,
            self.chain.submissions,
            describe_submission,
            clock=self.chain.clock,
            signer=Signer.of(self.chain.buckets.private),
            head_keep=5,
            threads=1,
        )
        self.pushed = 0

    def grow(self, count: int = 1) -> None:
        """So many submissions more, in one commit."""
        for _ in range(count):
            self.pushed += 1
            self.chain.push(b'{"n": %d}' % self.pushed)
        assert self.announcer.commit() == count


# --- exactly once, in order ---


def test_the_ten_lines_of_the_documentation_are_a_subscriber(origin: Origin, tmp_path: Path) -> None:
    """As they stand in the docstring, but for the address: entries come in order with their bytes, and after an end in
    the middle the one that was not finished comes again."""
    live = Live(tmp_path)
    live.grow(7)
    code = re.search(r"\n\n((?:    .*\n|\n)+)", feed.follow.follow.__doc__ or "")
    assert code
    text = textwrap.dedent(code[1]).replace("https://results.example.org", origin.url)
    text = text.replace('project="demo"', 'project="p"').replace("demo.cursor", str(tmp_path / "demo.cursor"))
    assert 5 <= len(text.strip().splitlines()) <= 10
    used: list[bytes] = []

    class EnoughError(Exception):
        pass

    def use(title: str, body: bytes) -> None:
        used.append(body)
        if len(used) in (3, 8):
            raise EnoughError

    for _ in range(2):
        with pytest.raises(EnoughError):
            exec(text, {"use": use, "forget": pytest.fail})
    bodies = [b'{"n": %d}' % number for number in range(1, 8)]
    assert used == bodies[:3] + bodies[2:]


def test_entries_come_once_and_in_order_while_more_are_announced(origin: Origin, tmp_path: Path) -> None:
    live = Live(tmp_path)
    live.grow(3)
    chance = random.Random(7)

    def announce() -> None:
        while live.pushed < 150:
            live.grow(chance.randrange(1, 13))
            time.sleep(0.002)

    growing = threading.Thread(target=announce)
    growing.start()
    got: list[Followed] = []
    try:
        for entry in follow(origin.url, poll_seconds=0.01):
            got.append(entry)
            if entry.seq >= 150:
                break
    finally:
        growing.join()
    assert [entry.seq for entry in got] == list(range(1, len(got) + 1))
    local = live.chain.submissions.entries_after(0)
    assert [entry.id for entry in got] == [entry.id for entry in local[: len(got)]]
    assert origin.count("current.atom", 200) > 3


def test_cut_connections_cost_no_entry(origin: Origin, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents that break off are asked for again, whole."""
    write_log(origin.folder, entries(60), signer, page_entries=10)
    monkeypatch.setattr(feed.follow.follow, "_PATIENCE_SECONDS", 60.0)
    origin.plan.extend([("cut", 700), None, None, ("cut", 10), ("cut", 700), "drop", None])
    assert seqs(origin.url) == list(range(1, 61))
    assert not origin.plan


def test_a_killed_follower_goes_on_with_what_it_had_not_finished(
    origin: Origin, signer: Signer, tmp_path: Path
) -> None:
    """kill -9 at any moment: no entry is missing, and of each life only the last may come again."""
    write_log(origin.folder, entries(6000), signer, page_entries=500)
    chance = random.Random(3)
    lives = []
    for life in range(6):
        with open(tmp_path / f"life-{life}", "wb") as out:
            command = [RUNFEED, "follow", origin.url, "--json", "--cursor", str(tmp_path / "cursor"), "--once"]
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
            started = time.monotonic()
            while process.poll() is None and time.monotonic() - started < 20:
                if out.tell() or (tmp_path / f"life-{life}").stat().st_size > 0:
                    break
                time.sleep(0.01)
            if life < 5:
                time.sleep(chance.random() * 0.15)
                process.kill()
            assert process.wait(60) == (0 if process.returncode == 0 else -9)
        lines = (tmp_path / f"life-{life}").read_bytes().splitlines()
        complete = [line for line in lines if line.endswith(b"}")]
        lives.append([json.loads(line)["seq"] for line in complete])
    reached = 0
    for life in lives:
        if life:
            assert life[0] in (reached, reached + 1)
            assert life == list(range(life[0], life[0] + len(life)))
            reached = life[-1]
    assert reached == 6000
    assert sum(bool(life) for life in lives) > 2


def test_leaving_the_loop_leaves_the_entry_unfinished(origin: Origin, signer: Signer, tmp_path: Path) -> None:
    write_log(origin.folder, entries(9), signer)
    cursor = tmp_path / "cursor"
    with closing(follow(origin.url, cursor=cursor)) as following:
        assert [next(following).seq for _ in range(4)] == [1, 2, 3, 4]
    with closing(follow(origin.url, cursor=cursor)) as following:
        assert next(following).seq == 4
    assert seqs(origin.url, cursor=cursor) == [4, 5, 6, 7, 8, 9]
    assert seqs(origin.url, cursor=cursor) == []


def test_two_followers_cannot_share_a_cursor(origin: Origin, signer: Signer, tmp_path: Path) -> None:
    write_log(origin.folder, entries(3), signer)
    with closing(follow(origin.url, cursor=tmp_path / "cursor")) as first:
        next(first)
        with pytest.raises(Refused, match="another follower"):
            seqs(origin.url, cursor=tmp_path / "cursor")


def test_a_damaged_cursor_is_refused(origin: Origin, signer: Signer, tmp_path: Path) -> None:
    write_log(origin.folder, entries(3), signer)
    (tmp_path / "cursor").write_text("{")
    with pytest.raises(Refused, match="cursor"):
        seqs(origin.url, cursor=tmp_path / "cursor")


def test_a_cursor_is_of_one_feed(origin: Origin, signer: Signer, tmp_path: Path) -> None:
    write_log(origin.folder, entries(3), signer)
    seqs(origin.url, cursor=tmp_path / "cursor")
    write_log(origin.folder, entries(5), Signer(Ed25519PrivateKey.generate()))
    with pytest.raises(Refused, match="at this address"):
        seqs(origin.url, cursor=tmp_path / "cursor")


# --- where to start, and what is wanted ---


def test_a_start_after_any_entry_gives_the_rest(origin: Origin, signer: Signer) -> None:
    write_log(origin.folder, entries(11), signer)
    for since in range(12):
        assert seqs(origin.url, since=since) == list(range(since + 1, 12))
    with pytest.raises(Refused, match="at most 11"):
        seqs(origin.url, since=12)


def test_a_start_at_any_time_gives_what_was_announced_then_or_later(origin: Origin, signer: Signer) -> None:
    """Also where several have the same time, as those of one commit do."""
    log = [an_entry(seq, updated=BEGAN + timedelta(seconds=seq // 4 * 10)) for seq in range(1, 30)]
    write_log(origin.folder, log, signer)
    for seconds in (-5, 0, 5, 10, 25, 30, 61, 70, 75):
        time = BEGAN + timedelta(seconds=seconds)
        assert seqs(origin.url, since=time) == [entry.seq for entry in log if entry.updated >= time]


def test_a_start_at_a_time_reads_few_pages(origin: Origin, signer: Signer) -> None:
    write_log(origin.folder, entries(900), signer)
    assert seqs(origin.url, since=BEGAN + timedelta(seconds=880)) == list(range(880, 901))
    assert origin.count(".atom") < 25


def test_now_is_only_what_comes(tmp_path: Path, origin: Origin) -> None:
    live = Live(tmp_path)
    live.grow(8)
    with closing(follow(origin.url, since="now", poll_seconds=0.01)) as following:
        threading.Timer(0.2, live.grow, (2,)).start()
        assert [next(following).seq, next(following).seq] == [9, 10]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", "now"),
        ("0", 0),
        ("41", 41),
        ("2026-05-01", BEGAN),
        ("2026-05-01T00:00:10Z", BEGAN + timedelta(seconds=10)),
        ("2026-05-01T02:00:00+02:00", BEGAN),
    ],
)
def test_a_start_as_text(text: str, expected: object) -> None:
    assert parse_since(text) == expected


@pytest.mark.parametrize("text", ["", "-1", "yesterday", "1.5", "2026-13-01", "9" * 30])
def test_what_is_no_start_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="since"):
        parse_since(text)


def test_filters_give_fewer_entries_of_the_same_log(origin: Origin, signer: Signer, tmp_path: Path) -> None:
    write_log(origin.folder, entries(12), signer)
    assert seqs(origin.url, project="even") == [2, 4, 6, 8, 10, 12]
    assert seqs(origin.url, format="junit") == [3, 6, 9, 12]
    assert seqs(origin.url, project=["odd", "even"], format="junit") == [3, 6, 9, 12]
    assert seqs(origin.url, project="even", format="junit", cursor=tmp_path / "cursor") == [6, 12]
    assert msgspec.json.decode((tmp_path / "cursor").read_bytes(), type=Cursor).seq == 12


def test_what_is_passed_over_is_checked_all_the_same(origin: Origin, signer: Signer) -> None:
    log = entries(12)
    log[4] = an_entry(5, seq=6)
    write_log(origin.folder, log, signer, index=False)
    with pytest.raises(Breach):
        seqs(origin.url, project="nobody's")


def test_a_withdrawal_comes_whatever_is_wanted(origin: Origin, signer: Signer) -> None:
    gone = an_entry(1).sha256
    withdrawal = an_entry(3, id=keys.withdrawal_id(gone), key=keys.withdrawal(gone), withdraws=gone, project="odd")
    write_log(origin.folder, [an_entry(1), an_entry(2), withdrawal], signer)
    (found,) = follow(origin.url, once=True, project="other")
    assert (found.kind, found.withdraws) == ("withdrawal", gone)


def test_an_empty_server_is_waited_for(origin: Origin, tmp_path: Path) -> None:
    """A log that begins later is followed from its first entry; with `once` there must be one."""
    with pytest.raises(Refused, match="expected a log submissions"):
        seqs(origin.url)
    live = Live(tmp_path)
    notes: list[str] = []
    with closing(follow(origin.url, poll_seconds=0.02, on_note=notes.append)) as following:
        threading.Timer(0.1, live.grow, (1,)).start()
        assert next(following).seq == 1
    assert notes[0] == "there is no log submissions yet"


def test_other_addresses_of_the_same_log(origin: Origin, signer: Signer) -> None:
    """A folder, a log's head, a page for people, and another log by name."""
    write_log(origin.folder, entries(4), signer)
    (origin.folder / "feeds" / LOG).rename(origin.folder / "feeds" / "outcomes-v1")
    (origin.folder / "feeds" / "outcomes-v1").rename(origin.folder / "feeds" / LOG)
    assert seqs(str(origin.folder)) == seqs(f"{origin.url}/feeds/submissions/current.atom") == [1, 2, 3, 4]
    with pytest.raises(Refused, match="outcomes-v7"):
        seqs(origin.url, log="outcomes-v7")


def test_object_storage_is_followed_like_a_server(s3_server: S3Server, origin: Origin, signer: Signer) -> None:
    write_log(origin.folder, entries(7), signer)
    storage = open_s3("s3://followed/x", s3_server.environ)
    local = FolderBucket(origin.folder)
    for key in local.list("feeds/"):
        storage.create(key, local.read(key))
    assert seqs("s3://followed/x", environ=dict(s3_server.environ), since=2) == [3, 4, 5, 6, 7]


# --- politeness ---


def test_an_idle_follower_moves_no_documents(origin: Origin, signer: Signer) -> None:
    """It asks conditionally, for the head alone."""
    write_log(origin.folder, entries(7), signer)
    stop = threading.Event()
    following = follow(origin.url, since="now", poll_seconds=0.02, stop=stop)
    threading.Timer(0.6, stop.set).start()
    assert list(following) == []
    assert origin.count("", 304) > 5
    assert [one.status for one in origin.asked].count(200) <= 2
    assert all("runfeed/" in one.headers["user-agent"].lower() for one in origin.asked)


def test_pauses() -> None:
    """Scattered by a tenth, never below what a cache may keep, ten times as long while a hub tells; after failures
    growing, and never below what the server wants."""
    assert level_seconds(30, {}, pushed=False, chance=0.5) == 30
    assert level_seconds(30, {"cache-control": "public, max-age=120"}, pushed=False, chance=0.5) == 120
    assert level_seconds(30, {"cache-control": "no-cache"}, pushed=True, chance=0.5) == 300
    assert level_seconds(30, {}, pushed=False, chance=0) == 27
    assert [failed_seconds(failures, None, 1.0) for failures in (1, 2, 3, 50)] == [0.5, 1.0, 2.0, 60.0]
    assert failed_seconds(1, 100.0, 1.0) == 100.5
    assert failed_seconds(1, 1e9, 1.0) == 3600.5


def test_trouble_is_told_and_survived(origin: Origin, signer: Signer) -> None:
    """A server that is away for a while: followed on when it is back, where it was."""
    write_log(origin.folder, entries(7), signer)
    notes: list[str] = []
    origin.plan.extend([503] * 2)
    with closing(follow(origin.url, on_note=notes.append)) as following:
        assert [next(following).seq for _ in range(7)] == list(range(1, 8))
    assert "503" in notes[0]
    assert "looking again in" in notes[0]
    origin.plan.append(503)
    with pytest.raises(Unavailable, match="503"):
        seqs(origin.url)


def test_a_log_that_is_not_there_for_a_while_is_no_breach(origin: Origin, tmp_path: Path) -> None:
    """What stands before a server may say 404 while that restarts, to the head and to everything else."""
    live = Live(tmp_path)
    live.grow(2)
    notes: list[str] = []
    with closing(follow(origin.url, poll_seconds=0.01, on_note=notes.append)) as following:
        assert [next(following).seq, next(following).seq] == [1, 2]
        origin.plan.extend([404] * 2)
        threading.Timer(0.3, live.grow, (1,)).start()
        entry = next(following)
        assert entry.seq == 3
        assert "the log was there before, and is not now" in notes[0]
        origin.plan.extend([404] * 7)  # three looks for the blob and for its withdrawal, then the head
        with pytest.raises(Unavailable, match="the log was there before"):
            entry.read()
        assert entry.read() == b'{"n": 3}'


def test_what_goes_wrong_is_logged_by_default(origin: Origin, signer: Signer, caplog: pytest.LogCaptureFixture) -> None:
    write_log(origin.folder, entries(1), signer)
    origin.plan.append(503)
    with closing(follow(origin.url)) as following:
        next(following)
    told = [record.getMessage() for record in caplog.records if record.name == "runfeed.follow"]
    assert "503" in told[0]


def test_stop_ends_soon(origin: Origin, signer: Signer) -> None:
    write_log(origin.folder, entries(2), signer)
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    assert len(list(follow(origin.url, stop=stop))) == 2
    assert time.monotonic() - began < 3


# --- what must not be believed ---

Tamper = Callable[[Path, Signer], None]


def _rewritten(folder: Path, signer: Signer) -> None:
    """An entry of a page says something else; every digest after it is computed anew, but nobody signs."""
    log = entries(20)
    log[7] = an_entry(8, title="rewritten")
    write_log(folder, log, None, authority=signer.authority)


def _other_key(folder: Path, signer: Signer) -> None:
    log = entries(20)
    log[7] = an_entry(8, title="rewritten")
    write_log(folder, log, Signer(Ed25519PrivateKey.generate()), authority=signer.authority)


def _stolen_key(folder: Path, signer: Signer) -> None:
    log = entries(20)
    log[7] = an_entry(8, title="rewritten")
    write_log(folder, log, signer)


def _dropped(folder: Path, signer: Signer) -> None:
    """Entry 8 was never there, and all that follow are numbered anew."""
    log = entries(7) + [an_entry(seq + 1, seq=seq) for seq in range(8, 20)]
    write_log(folder, log, signer)


def _gap(folder: Path, signer: Signer) -> None:
    log = entries(20)
    write_log(folder, log[:7] + log[8:], signer, index=False)


def _rolled_back(folder: Path, signer: Signer) -> None:
    write_log(folder, entries(9), signer)


def _flipped(folder: Path, signer: Signer) -> None:
    write_log(folder, entries(20), signer)
    page = sorted((folder / "feeds" / LOG).glob("000000000013-*"))[0]
    page.write_bytes(page.read_bytes().replace(b"result 14", b"result 41"))


def _page_gone(folder: Path, signer: Signer) -> None:
    write_log(folder, entries(20), signer)
    sorted((folder / "feeds" / LOG).glob("000000000013-*"))[0].unlink()


def _other_page(folder: Path, signer: Signer) -> None:
    """A page, named by its digest, listed in the index and linked by the next, that says something else; the chain is
    not as it says."""
    write_log(folder, entries(20), signer)
    pages = sorted(page.name for page in (folder / "feeds" / LOG).glob("0*.atom"))
    at = next(number for number, name in enumerate(pages) if name.startswith("000000000013-"))
    renamed: dict[str, str] = {}
    for name in pages[at:]:
        path = folder / "feeds" / LOG / name
        body = path.read_bytes().replace(b"result 14", b"result 41")
        for old, new in renamed.items():
            body = body.replace(old.encode(), new.encode())
        body = re.sub(rb"<rf:previous>.*?</rf:previous>", b"", body)
        new_name = name[:26] + hashlib.sha256(body).hexdigest()[:16] + ".atom"
        path.unlink()
        (folder / "feeds" / LOG / new_name).write_bytes(body)
        renamed[name] = new_name
    head = folder / keys.feed_head(LOG)
    body = re.sub(rb"<rf:previous>.*?</rf:previous>", b"", head.read_bytes())
    for old, new in renamed.items():
        body = body.replace(old.encode(), new.encode())
    head.write_bytes(body)
    (folder / keys.feed_index(LOG)).unlink()


def _bad_signature(folder: Path, signer: Signer) -> None:
    write_log(folder, entries(20), signer)
    head = folder / keys.feed_head(LOG)
    body = head.read_bytes()
    found = re.search(rb'signature="([0-9a-f]{2})', body)
    assert found
    head.write_bytes(body.replace(found[0], b'signature="' + (b"00" if found[1] != b"00" else b"11")))


def _no_chain(folder: Path, signer: Signer) -> None:
    write_log(folder, entries(20), None, authority=signer.authority, chained=False)


def _signs_less(folder: Path, signer: Signer) -> None:
    """The head has entries behind its checkpoint."""
    write_log(folder, entries(20), signer)
    head = folder / keys.feed_head(LOG)
    old = FolderBucket(folder).read(keys.feed_head(LOG))
    write_log(folder, entries(19), signer)
    signed = re.search(rb"<rf:checkpoint[^>]*/>", head.read_bytes())
    assert signed
    write_log(folder, entries(20), signer)
    head.write_bytes(re.sub(rb"<rf:checkpoint[^>]*/>", signed[0], old))


CAUGHT_BY_MEMORY: dict[str, tuple[Tamper, str]] = {
    "rewritten, unsigned": (_rewritten, "checkpoint: expected one signed by the key"),
    "rewritten, another key": (_other_key, "checkpoint: expected the key"),
    "rewritten, the same key": (_stolen_key, "entries 1 to 10: expected the past as remembered"),
    "dropped, the same key": (_dropped, "entries 1 to 10: expected the past as remembered"),
    "rolled back": (_rolled_back, "log submissions: expected entries 1 to 10, as before, found only 1 to 9"),
    "chain left out": (_no_chain, "checkpoint: expected one signed by the key"),
}
"""What a follower who was at entry 10 sees of it."""

CAUGHT_AT_ONCE: dict[str, tuple[Tamper, str]] = {
    "rewritten, unsigned": (_rewritten, "checkpoint: expected one signed by the key"),
    "rewritten, another key": (_other_key, "checkpoint: expected the key"),
    "gap": (_gap, "000000000007-.*: expected entry 8, found entry 9"),
    "flipped bit": (_flipped, "000000000013-.*: expected bytes of the digest that the page's name says"),
    "page gone": (_page_gone, "000000000013-.*: expected a page, since the log leads to it, found none"),
    "page replaced": (_other_page, "rf:chain: expected the chain after entry 15"),
    "bad signature": (_bad_signature, "checkpoint: expected a signature by the key"),
    "chain left out": (_no_chain, "checkpoint: expected one signed by the key"),
    "signed less": (_signs_less, "checkpoint: expected one of entry 20, the last, found one of entry 19"),
}
"""What anybody sees of it."""


@pytest.mark.parametrize("what", list(CAUGHT_BY_MEMORY))
def test_who_was_here_before_sees_that_the_past_is_another(
    what: str, origin: Origin, signer: Signer, tmp_path: Path
) -> None:
    """The breach is named, no entry is given, and the cursor stays where it was."""
    cursor = tmp_path / "cursor"
    write_log(origin.folder, entries(10), signer)
    assert len(seqs(origin.url, cursor=cursor)) == 10
    before = cursor.read_bytes()
    tamper, message = CAUGHT_BY_MEMORY[what]
    tamper(origin.folder, signer)
    got: list[int] = []
    with pytest.raises(Breach, match=message):
        got.extend(entry.seq for entry in follow(origin.url, once=True, cursor=cursor))
    assert got == []
    assert cursor.read_bytes() == before


@pytest.mark.parametrize("what", list(CAUGHT_AT_ONCE))
def test_anybody_sees_what_does_not_fit(what: str, origin: Origin, signer: Signer) -> None:
    """The breach is named, and no entry is given that says what it should not."""
    tamper, message = CAUGHT_AT_ONCE[what]
    tamper(origin.folder, signer)
    got: list[Entry] = []
    with pytest.raises(Breach, match=message):
        got.extend(follow(origin.url, once=True))  # type: ignore[arg-type]
    true = {entry.id: entry.title for entry in entries(20)}
    assert all(true[entry.id] == entry.title for entry in got)


SILENT = {
    "in the head, what comes": (24, 27, False),
    "in the head, what is known": (24, 22, False),
    "in a page, what comes": (14, 17, False),
    "in a page, what is known": (14, 12, False),
    "in a page of an earlier release, what is known": (14, 12, True),
}
"""The last entry that a follower has handled, the one that is forged under the true checkpoint, and whether no page
says a chain; else only the forged document does not. Pages hold ten entries, and the head 21 to 30."""


@pytest.mark.parametrize("knows", ["the checkpoint", "the chain", "nothing"])
@pytest.mark.parametrize("what", list(SILENT))
def test_a_chain_that_is_left_out_hides_nothing(
    what: str, knows: str, origin: Origin, signer: Signer, tmp_path: Path
) -> None:
    """Who forges an entry and leaves out what would show it is found: nothing is given, and the cursor stays."""
    seen, forged, silent_pages = SILENT[what]
    cursor = tmp_path / "cursor"
    write_log(origin.folder, entries(seen), signer, page_entries=10)
    assert len(seqs(origin.url, cursor=cursor)) == seen
    if knows == "the chain":
        found = msgspec.json.decode(cursor.read_bytes(), type=Cursor)
        assert (found.seq, bool(found.chain), bool(found.checkpoint)) == (seen, True, True)
        cursor.write_bytes(msgspec.json.encode(msgspec.structs.replace(found, checkpoint=None)))
    where: dict[str, Any] = {"since": seen} if knows == "nothing" else {"cursor": cursor}
    before = cursor.read_bytes()
    write_log(origin.folder, entries(30), signer, page_entries=10)
    forge_silently(origin.folder, forged, silent_pages=silent_pages)
    got: list[str] = []
    with pytest.raises(Breach, match=r"expected (a|the) chain|the past as remembered"):
        got.extend(entry.title for entry in follow(origin.url, once=True, **where))
    assert got == []
    assert cursor.read_bytes() == before


@pytest.mark.parametrize(("seen", "rewritten"), [(5, 3), (14, 12)], ids=["first page", "later page"])
def test_a_past_without_chains_is_compared_all_the_same(
    seen: int, rewritten: int, origin: Origin, signer: Signer, tmp_path: Path
) -> None:
    """Rewritten and signed with the same key, in pages without chains: what is remembered in their middle differs."""
    cursor = tmp_path / "cursor"
    write_log(origin.folder, entries(seen), signer, page_entries=10)
    assert len(seqs(origin.url, cursor=cursor)) == seen
    log = entries(30)
    log[rewritten - 1] = an_entry(rewritten, title="rewritten")
    write_log(origin.folder, log, signer, page_entries=10)
    forge_silently(origin.folder, 0, silent_pages=True)
    got: list[int] = []
    with pytest.raises(Breach, match=f"entries 1 to {seen}: expected the past as remembered"):
        got.extend(entry.seq for entry in follow(origin.url, once=True, cursor=cursor))
    assert got == []


def test_a_follower_that_runs_sees_it_too(origin: Origin, signer: Signer) -> None:
    """Without any file, what was handed over is remembered."""
    write_log(origin.folder, entries(10), signer)
    following = follow(origin.url, poll_seconds=0.01)
    assert [next(following).seq for _ in range(10)] == list(range(1, 11))
    _stolen_key(origin.folder, signer)
    with pytest.raises(Breach, match="the past as remembered"):
        next(following)


def test_who_only_began_to_follow_remembers_what_was_signed(origin: Origin, signer: Signer, tmp_path: Path) -> None:
    """Who has been given no entry yet, too."""
    cursor = tmp_path / "cursor"
    write_log(origin.folder, entries(10), signer)
    assert seqs(origin.url, since="now", cursor=cursor) == []
    _stolen_key(origin.folder, signer)
    with pytest.raises(Breach, match="entries 1 to 10: expected the past as remembered"):
        seqs(origin.url, cursor=cursor)


def test_a_checkpoint_ahead_of_the_cursor_is_remembered(origin: Origin, signer: Signer, tmp_path: Path) -> None:
    """Who had handled 12 of 20 entries, and had seen what was signed, sees that 15 is another now."""
    cursor = tmp_path / "cursor"
    write_log(origin.folder, entries(20), signer, page_entries=4)
    with closing(follow(origin.url, cursor=cursor)) as following:
        assert [next(following).seq for _ in range(19)][-1] == 19
    found = msgspec.json.decode(cursor.read_bytes(), type=Cursor)
    assert found.seq == 18
    assert found.checkpoint is not None
    assert found.checkpoint.seq == 20
    log = entries(25)
    log[18] = an_entry(19, title="rewritten")
    write_log(origin.folder, log, signer)
    with pytest.raises(Breach, match="entries 1 to 20: expected the past as remembered"):
        seqs(origin.url, cursor=cursor)


def test_a_key_that_its_user_names_is_the_only_one(origin: Origin, signer: Signer, tmp_path: Path) -> None:
    """Given by hand it also replaces the one that the cursor remembers: an installation may have had to."""
    write_log(origin.folder, entries(5), signer)
    cursor = tmp_path / "cursor"
    assert seqs(origin.url, key=signer.public_key, cursor=cursor) == [1, 2, 3, 4, 5]
    renewed = Signer(Ed25519PrivateKey.generate())
    with pytest.raises(Breach, match="checkpoint: expected the key"):
        seqs(origin.url, key=renewed.public_key)
    write_log(origin.folder, entries(7), renewed, authority=signer.authority)
    with pytest.raises(Breach, match="checkpoint: expected the key"):
        seqs(origin.url, cursor=cursor)
    assert seqs(origin.url, cursor=cursor, key=renewed.public_key) == [6, 7]
    assert seqs(origin.url, cursor=cursor) == []


def test_an_older_head_from_a_cache_is_no_breach(origin: Origin, signer: Signer, tmp_path: Path) -> None:
    """A cache on the way may lag: the follower asks past it before it says that the log is shorter."""
    cursor = tmp_path / "cursor"
    write_log(origin.folder, entries(10), signer)
    older = (origin.folder / keys.feed_head(LOG)).read_bytes()
    write_log(origin.folder, entries(12), signer)
    assert len(seqs(origin.url, cursor=cursor)) == 12
    origin.plan.append((200, {}, older))
    assert seqs(origin.url, cursor=cursor) == []
    assert origin.asked[-1].headers["cache-control"] == "no-cache"


def test_an_index_that_lies_is_walked_around(origin: Origin, signer: Signer) -> None:
    """It names pages that are not the log's; the links have the word."""
    write_log(origin.folder, entries(9), signer)
    wrong = (origin.folder / keys.feed_index(LOG)).read_bytes()
    pages = {page.name: page.read_bytes() for page in (origin.folder / "feeds" / LOG).glob("0*.atom")}
    log = entries(9)
    log[2] = an_entry(3, title="another")
    write_log(origin.folder, log, signer)
    (origin.folder / keys.feed_index(LOG)).write_bytes(wrong)
    for name, body in pages.items():
        (origin.folder / "feeds" / LOG / name).write_bytes(body)
    assert [entry.title for entry in follow(origin.url, once=True)][2] == "another"


def test_logs_of_earlier_releases_are_followed(origin: Origin, tmp_path: Path) -> None:
    """Without chain and checkpoint, and on through the day when they get both: nothing comes twice."""
    write_log(origin.folder, entries(10), None, authority="", chained=False, index=False)
    cursor, notes = tmp_path / "cursor", []
    assert seqs(origin.url, cursor=cursor, on_note=notes.append) == list(range(1, 11))
    assert "earlier release" in notes[0]
    assert seqs(origin.url, since=5) == [6, 7, 8, 9, 10]
    live = Live(tmp_path)
    live.grow(1)
    assert seqs(origin.url, cursor=cursor) == [11]
    assert seqs(origin.url) == list(range(1, 12))
    assert seqs(origin.url, since=4) == list(range(5, 12))
    write_log(origin.folder, [an_entry(1, title="rewritten"), *entries(12)[1:]], None, authority="", chained=False)
    with pytest.raises(Breach, match="checkpoint: expected one signed"):
        seqs(origin.url, cursor=cursor)


@pytest.mark.parametrize("seen", [0, 5, 10, 14, 20, 24])
def test_pages_of_an_earlier_release_are_gone_on_with_anywhere(
    seen: int, origin: Origin, signer: Signer, tmp_path: Path
) -> None:
    """Also in the middle of a page that says no chain: from a cursor, and from a number; from then on the chain is
    known, and signed."""
    write_log(origin.folder, entries(30), signer, page_entries=10)
    forge_silently(origin.folder, 0, silent_pages=True)
    first, second = tmp_path / "first", tmp_path / "second"
    with closing(follow(origin.url, cursor=first)) as following:
        assert [next(following).seq for _ in range(seen + 1)][-1] == seen + 1
    assert seqs(origin.url, cursor=first) == list(range(seen + 1, 31))
    assert seqs(origin.url, since=seen, cursor=second) == list(range(seen + 1, 31))
    for file in (first, second):
        found = msgspec.json.decode(file.read_bytes(), type=Cursor)
        assert found.checkpoint is not None
        assert (found.seq, found.chain) == (30, found.checkpoint.chain)


# --- what entries announce ---


def test_an_entry_gives_its_bytes(origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole or as a file, small or large, from a server, a folder, and after following has ended."""
    live = Live(tmp_path)
    live.grow(1)
    for url in (origin.url, str(tmp_path)):
        (entry,) = follow(url, once=True)
        for most in (8 << 20, 1):
            monkeypatch.setattr("feed.follow.followed._IN_MEMORY_BYTES", most)
            assert entry.read() == b'{"n": 1}'
            with entry.open() as file:
                assert file.read() == b'{"n": 1}'
    assert json.loads(entry.to_json())["seq"] == 1


def _blob(origin: Origin) -> Path:
    (path,) = (path for path in (origin.folder / "blobs").rglob("*") if path.is_file())
    return path


@pytest.mark.parametrize("most", [8 << 20, 1], ids=["small", "large"])
@pytest.mark.parametrize("body", [b'{"n": 2}', b'{"n":', b'{"n": 1}!'], ids=["swapped", "short", "long"])
def test_bytes_of_another_digest_are_a_breach(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes, most: int
) -> None:
    monkeypatch.setattr("feed.follow.followed._IN_MEMORY_BYTES", most)
    Live(tmp_path).grow(1)
    _blob(origin).write_bytes(body)
    (entry,) = follow(origin.url, once=True)
    with pytest.raises(Breach, match=f"entry 1: {entry.key}: expected"):
        entry.read()


def test_missing_bytes_are_a_breach_unless_they_are_withdrawn(origin: Origin, tmp_path: Path) -> None:
    live = Live(tmp_path)
    live.grow(1)
    _blob(origin).unlink()
    (entry,) = follow(origin.url, once=True)
    with pytest.raises(Breach, match="expected the object, or the withdrawal of its blob, found neither"):
        entry.read()
    withdrawal = Withdrawal(
        sha256=entry.sha256,
        reason="a token was in it",
        submissions=[entry.id],
        project="p",
        nonce=keys.new_nonce(BEGAN),
        withdrawn=BEGAN,
    )
    live.chain.buckets.public.create(keys.withdrawal(entry.sha256), msgspec.json.encode(withdrawal))
    with pytest.raises(Withdrawn, match="a token was in it"):
        entry.read()
    marker = keys.Marker(LOG, "p", withdrawal.nonce, keys.withdrawal_id(entry.sha256))
    write_marker(live.chain.buckets.private, marker)
    assert live.announcer.commit() == 1
    first, second = follow(origin.url, once=True)
    assert (first.kind, second.kind, second.withdrawn) == ("submission", "withdrawal", (entry.id,))
    assert msgspec.json.decode(second.read(), type=Withdrawal) == withdrawal


def test_an_outcome_is_replaced_only_if_the_log_is_there(origin: Origin) -> None:
    """What stands before a server may say 404 to everything: then nobody knows, and no outcome is passed over."""
    outcome = an_entry(1, id="000000000001-000000", key=keys.outcome(1, 1, 0), project="")
    forge(FolderBucket(origin.folder), [outcome], [], log=keys.outcomes_log(1))
    (entry,) = follow(origin.url, log=keys.outcomes_log(1), once=True)
    assert entry.kind == "outcome"
    origin.plan.extend([404] * 7)  # three looks for the outcome and for a withdrawal, then the head
    with pytest.raises(Unavailable, match="the log was there before"):
        entry.read()
    assert not origin.plan
    with pytest.raises(Withdrawn, match="as when a later revision replaces it"):
        entry.read()


# --- async ---


def test_async_gives_the_same(origin: Origin, signer: Signer) -> None:
    write_log(origin.folder, entries(9), signer)

    async def collected() -> list[int]:
        return [entry.seq async for entry in follow_async(origin.url, once=True)]

    assert in_own_loop(collected()) == list(range(1, 10))


def test_async_ends_when_it_is_cancelled(origin: Origin, signer: Signer, tmp_path: Path) -> None:
    """Soon, and the entry that was being handled comes again."""
    write_log(origin.folder, entries(9), signer)
    cursor = tmp_path / "cursor"
    got: list[int] = []

    async def handling() -> None:
        async for entry in follow_async(origin.url, cursor=cursor):
            got.append(entry.seq)
            if entry.seq == 4:
                await asyncio.sleep(60)

    async def cancelled() -> None:
        task = asyncio.create_task(handling())
        while len(got) < 4:
            await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    began = time.monotonic()
    in_own_loop(cancelled())
    assert time.monotonic() - began < 10
    _until_free(cursor)
    assert seqs(origin.url, cursor=cursor) == [4, 5, 6, 7, 8, 9]


def test_async_ends_while_it_waits(origin: Origin, signer: Signer) -> None:
    write_log(origin.folder, entries(1), signer)

    async def waiting() -> list[int]:
        got: list[int] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                async for entry in follow_async(origin.url):
                    got.append(entry.seq)
        return got

    assert in_own_loop(waiting()) == [1]


def _until_free(cursor: Path) -> None:
    """The thread of a cancelled follower gives its cursor back a moment later."""
    from feed.follow.cursor import CursorFile

    for _ in range(500):
        with contextlib.suppress(Refused), CursorFile(cursor):
            return
        time.sleep(0.01)


# --- the command ---


def _followed(url: str, *options: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RUNFEED, "follow", url, *options], capture_output=True, text=True, timeout=60, check=False, **more
    )


def test_the_command_shows_entries_as_lines_and_as_json(origin: Origin, tmp_path: Path) -> None:
    Live(tmp_path).grow(3)
    lines = _followed(origin.url, "--once")
    assert (lines.returncode, lines.stderr) == (0, "")
    assert [line.split()[0] for line in lines.stdout.splitlines()] == ["1", "2", "3"]
    as_json = _followed(origin.url, "--once", "--json", "--since", "1")
    found = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert [one["seq"] for one in found] == [2, 3]
    assert found[0]["url"].startswith(origin.url)


def test_the_command_gives_each_entry_to_a_program(origin: Origin, tmp_path: Path) -> None:
    """The bytes on its standard input, the entry in its environment."""
    Live(tmp_path).grow(3)
    script = tmp_path / "take.py"
    script.write_text(
        "import hashlib, json, os, sys\n"
        "entry = json.loads(os.environ['RUNFEED_ENTRY'])\n"
        "assert hashlib.sha256(sys.stdin.buffer.read()).hexdigest() == entry['sha256']\n"
        "assert os.environ['RUNFEED_ENTRY_SEQ'] == str(entry['seq'])\n"
        "assert os.environ['RUNFEED_ENTRY_KIND'] == 'submission'\n"
        f"open({str(tmp_path / 'taken')!r}, 'a').write(os.environ['RUNFEED_ENTRY_SEQ'] + ' ')\n"
    )
    done = _followed(origin.url, "--once", "--exec", f"{sys.executable} '{script}'")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "taken").read_text() == "1 2 3 "


def test_a_program_that_fails_is_tried_again_and_then_stops_it(origin: Origin, tmp_path: Path) -> None:
    """It fails twice at entry 2 and is tried on; at 3 always: the cursor stays before 3, and another day goes on."""
    Live(tmp_path).grow(4)
    script = tmp_path / "take.sh"
    script.write_text(
        f'cd "{tmp_path}"; echo "$RUNFEED_ENTRY_SEQ" >> tried\n'
        'if [ "$RUNFEED_ENTRY_SEQ" = 2 ] && [ "$(grep -c "^2$" tried)" -lt 3 ]; then exit 9; fi\n'
        'if [ "$RUNFEED_ENTRY_SEQ" = 3 ] && [ ! -e repaired ]; then exit 7; fi\n'
        "exit 0\n"
    )
    follow_it = ("--once", "--cursor", str(tmp_path / "cursor"), "--exec", f"sh {script}")
    environ = os.environ | {"PYTHONPATH": str(_without_pauses(tmp_path))}
    failed = _followed(origin.url, *follow_it, env=environ)
    assert failed.returncode == 2
    assert "entry 3: sh ended with status 7, 5 times" in failed.stderr
    assert (tmp_path / "tried").read_text().split() == ["1", "2", "2", "2", "3", "3", "3", "3", "3"]
    (tmp_path / "repaired").touch()
    assert _followed(origin.url, *follow_it, env=environ).returncode == 0
    assert (tmp_path / "tried").read_text().split()[-2:] == ["3", "4"]


def test_bytes_that_cannot_be_had_for_a_moment_are_waited_for(origin: Origin, tmp_path: Path) -> None:
    """The server is away when entry 2 is to be handled: the program comes to it later. Only `--once` ends with 2."""
    Live(tmp_path).grow(2)
    script = tmp_path / "take.sh"
    script.write_text(
        f'cd "{tmp_path}"; echo "$RUNFEED_ENTRY_SEQ" >> taken\n'
        'if [ "$RUNFEED_ENTRY_SEQ" = 1 ] && [ ! -e away ]; then mv public away; fi\n'
    )
    environ = os.environ | {"PYTHONPATH": str(_without_pauses(tmp_path))}
    once = _followed(origin.url, "--once", "--exec", f"sh {script}", env=environ)
    assert once.returncode == 2
    assert "the log was there before, and is not now" in once.stderr
    (tmp_path / "away").rename(tmp_path / "public")
    (tmp_path / "taken").unlink()
    command = [RUNFEED, "follow", origin.url, "--exec", f"sh {script}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ) as process:
        try:
            assert process.stderr is not None
            note = process.stderr.readline()
            (tmp_path / "away").rename(tmp_path / "public")
            for _ in range(1000):
                if (tmp_path / "taken").read_text() == "1\n2\n" or process.poll() is not None:
                    break
                time.sleep(0.01)
            assert process.poll() is None
        finally:
            process.kill()
    assert re.fullmatch(r"entry 2: .*the log was there before, and is not now; again in .* s\n", note)
    assert (tmp_path / "taken").read_text() == "1\n2\n"


def test_keep_going_goes_on_behind_a_failure(origin: Origin, tmp_path: Path) -> None:
    Live(tmp_path).grow(3)
    environ = os.environ | {"PYTHONPATH": str(_without_pauses(tmp_path))}
    command = """sh -c 'test "$RUNFEED_ENTRY_SEQ" != 2'"""
    done = _followed(origin.url, "--once", "--keep-going", "--exec", command, env=environ)
    assert done.returncode == 0
    assert "entry 2: sh ended with status 1, 5 times" in done.stderr


def _without_pauses(folder: Path) -> Path:
    """A folder that makes a program's sleeps and waits short when it is on its path."""
    (folder / "path").mkdir(exist_ok=True)
    (folder / "path" / "sitecustomize.py").write_text(
        "import threading, time\nslept, waited = time.sleep, threading.Event.wait\n"
        "time.sleep = lambda seconds: slept(seconds / 100)\n"
        "threading.Event.wait = lambda event, seconds=None: waited(event, seconds and seconds / 100)\n"
    )
    return folder / "path"


def test_a_program_that_is_not_there_is_told(origin: Origin, tmp_path: Path) -> None:
    Live(tmp_path).grow(1)
    done = _followed(origin.url, "--once", "--exec", "/no/such/program")
    assert (done.returncode, done.stderr) == (
        2,
        "runfeed: --exec: expected a program that can be run, found /no/such/program: No such file or directory\n",
    )


def test_a_breach_has_a_status_of_its_own(origin: Origin, signer: Signer, tmp_path: Path) -> None:
    write_log(origin.folder, entries(5), Signer(Ed25519PrivateKey.generate()), authority=signer.authority)
    done = _followed(origin.url, "--once", env=os.environ | {"PYTHONPATH": str(_without_pauses(tmp_path))})
    assert done.returncode == 1
    assert done.stderr.startswith("breach: feeds/submissions/current.atom checkpoint: expected the key")
    assert done.stdout == ""


def test_who_cannot_follow_says_why_in_a_line() -> None:
    done = CliRunner().invoke(follow_command, ["http://127.0.0.1:1", "--once"])
    assert done.exit_code == 2
    assert re.fullmatch(r"runfeed: http://127.0.0.1:1/feeds/submissions/current.atom: .*refused.*\n", done.stderr)


@pytest.mark.parametrize(
    "options",
    [
        ("--keep-going",),
        ("--callback", "http://me.example/hook"),
        ("--listen", "127.0.0.1:0"),
        ("--exec", "'"),
    ],
    ids=["keep going with nothing", "callback alone", "listen alone", "quote"],
)
def test_options_that_do_not_fit_are_refused(options: tuple[str, ...]) -> None:
    assert _followed("http://127.0.0.1:1", *options).returncode == 2


def test_head_ends_it_quietly(origin: Origin, signer: Signer) -> None:
    """`runfeed follow URL | head -1`."""
    write_log(origin.folder, entries(2000), signer, page_entries=200)
    piped = f"'{RUNFEED}' follow {origin.url} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", piped], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["1", "0"]


def test_interrupting_it_is_the_normal_end(origin: Origin, signer: Signer) -> None:
    write_log(origin.folder, entries(1), signer)
    command = [RUNFEED, "follow", origin.url]
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # which jobs in the background inherit as ignored
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, ours)
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().split()[0] == "1"
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, said) == (0, "")


def test_following_loads_no_server_and_no_database() -> None:
    """Whoever only follows need not wait for them, nor have them."""
    heavy = "{'duckdb', 'pyarrow', 'litestar', 'uvicorn', 'obstore', 'dramatiq', 'boto3', 'botocore'}"
    code = f"import sys, feed.follow.follow, feed.follow.cli, feed.follow.execute; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    code = "import sys, feed.follow.cli; print({'httpx', 'lxml', 'feedgen', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_programs_find_it_where_the_readme_says() -> None:
    assert runfeed.follow is follow
    assert runfeed.follow_async is follow_async
    assert runfeed.Breach is Breach


# --- push ---


def test_a_hub_on_this_machine_tells_when_to_look(tmp_path: Path) -> None:
    """A real server, without whose word the follower would look much later. Its end is the subscription's too."""
    with running(tmp_path / "data") as server:
        server.wait_for(server.push(b'{"benchmark": "b", "metric": "t", "value": 1}')["id"])
        subscribed = threading.Event()
        private = tmp_path / "data" / "private" / "hub"

        def await_subscription() -> None:
            for _ in range(2000):
                if private.is_dir() and any(private.iterdir()):
                    subscribed.set()
                    return
                time.sleep(0.01)

        waiting = threading.Thread(target=await_subscription)
        with closing(follow(server.url, poll_seconds=30)) as following:
            assert next(following).seq == 1
            waiting.start()
            threading.Thread(
                target=lambda: subscribed.wait(30) and server.push(b'{"benchmark": "b", "metric": "t", "value": 2}')
            ).start()
            began = time.monotonic()
            assert next(following).seq == 2
            assert time.monotonic() - began < 20
        waiting.join()
        for _ in range(1000):
            if not any(private.iterdir()):
                break
            time.sleep(0.01)
        assert not any(private.iterdir())
