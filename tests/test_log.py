"""The log in a folder bucket: what the announcer commits and what a follower reads."""

import hashlib
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from feed.announceable import Announceable, describe_outcome, describe_submission, write_marker
from feed.announcer import HEAD_KEEP, Announcer
from feed.atom import parse_document, render_document
from feed.choice import LARGE_BYTES, MAX_COMMIT_BYTES, MAX_COMMIT_ENTRIES, MAX_PAGE_BYTES, Choice, entries_to_page
from feed.log import LogReader
from infra.bucket import Bucket, Buckets
from infra.folder import FolderBucket
from schemas import keys
from schemas.errors import SwapLost, Unavailable
from schemas.keys import Marker
from schemas.records import Blob, Category, Chunk, Commit, Context, Entry, Outcome, Submission, SubmissionOutcome

LOG = keys.SUBMISSIONS_LOG
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def buckets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Buckets:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # nobody pulls the plug here; 4 times as fast
    return Buckets(FolderBucket(tmp_path / "public"), FolderBucket(tmp_path / "private"))


def clock() -> datetime:
    return START + timedelta(days=1)


def make_announcer(buckets: Buckets, when: Callable[[], datetime] = clock) -> Announcer:
    return Announcer(buckets, LogReader(buckets.public, LOG), describe_submission, clock=when)


def submit(buckets: Buckets, number: int, project: str = "p", size_bytes: int = 10, nonce: str = "") -> Marker:
    """What ingest leaves behind, blob aside: marker, then submission. `number` says when, and makes the id."""
    id = f"{number:064x}"
    received = START + timedelta(seconds=number)
    marker = Marker(LOG, project, nonce or keys.new_nonce(received), id)
    write_marker(buckets.private, marker)
    blob = Blob(sha256=hashlib.sha256(id.encode()).hexdigest(), size_bytes=size_bytes, media_type="text/plain")
    submission = Submission(id=id, nonce=marker.nonce, project=project, blob=blob, received=received)
    buckets.public.create(keys.submission(id), msgspec.json.encode(submission))
    return marker


def numbers(entries: list[Entry]) -> list[int]:
    return [int(entry.id, 16) for entry in entries]


def pages(buckets: Buckets) -> list[keys.Page]:
    return [page for key in buckets.public.list(keys.feed_prefix(LOG)) if (page := keys.parse_page(key))]


def waiting(buckets: Buckets) -> list[str]:
    return list(buckets.private.list("pending/"))


def test_an_entry_tells_all_of_its_submission(buckets: Buckets) -> None:
    submit(buckets, 1)
    assert make_announcer(buckets).commit() == 1
    (entry,) = LogReader(buckets.public, LOG).entries_after(0)
    sha256 = hashlib.sha256(f"{1:064x}".encode()).hexdigest()
    assert entry == Entry(
        seq=1,
        batch=1,
        id=f"{1:064x}",
        title="p: result",
        key=keys.blob(sha256),
        sha256=sha256,
        size_bytes=10,
        media_type="text/plain",
        project="p",
        summary="10 bytes of text/plain",
        categories=(Category(scheme="project", term="p"),),
        published=START + timedelta(seconds=1),
        updated=clock(),
    )
    assert waiting(buckets) == []


def test_a_title_says_what_was_measured_where(buckets: Buckets) -> None:
    commit, chunk = Commit(id="0123456789abcdef"), Chunk(group="g", index=2, total=4)
    submission = Submission(
        id="a" * 64,
        nonce="0" * 32,
        project="p",
        format="jmh",
        blob=Blob(sha256="b" * 64, size_bytes=1),
        context=Context(commit=commit, environment="ci-linux", chunk=chunk),
        received=START,
    )
    buckets.public.create(keys.submission(submission.id), msgspec.json.encode(submission))
    found = describe_submission(buckets.public, Marker(LOG, "p", submission.nonce, submission.id))
    assert found
    assert found.entry.title == "p: jmh result of 0123456789ab on ci-linux, chunk 2 of 4"


def test_an_outcome_is_announced_with_the_digest_of_its_json(buckets: Buckets) -> None:
    log = keys.outcomes_log(2)
    outcome = Outcome(
        first=12,
        last=13,
        revision=0,
        nonce=keys.new_nonce(START),
        through=13,
        transform_version=1,
        submissions=[
            SubmissionOutcome(seq=12, id="a", verdict="accepted"),
            SubmissionOutcome(seq=13, id="b", verdict="rejected"),
        ],
        parts=[],
        finished=START,
    )
    id = keys.outcome_id(12, 0)
    write_marker(buckets.private, Marker(log, "batches", outcome.nonce, id))
    announcer = Announcer(buckets, LogReader(buckets.public, log), describe_outcome, clock=clock)
    assert announcer.commit() == 0
    body = msgspec.json.encode(outcome)
    buckets.public.create(keys.outcome(2, 12, 0), body)
    assert announcer.commit() == 1
    (entry,) = LogReader(buckets.public, log).entries_after(0)
    assert (entry.id, entry.key, entry.title) == (id, keys.outcome(2, 12, 0), "batch 12-13: 1 accepted, 1 rejected")
    assert (entry.sha256, entry.size_bytes) == (hashlib.sha256(body).hexdigest(), len(body))
    assert (entry.media_type, entry.published) == ("application/json", START)


def test_followers_read_everything_from_one_while_the_head_rolls(buckets: Buckets) -> None:
    """Over many commits, a follower with any step reads the same dense log; batches are the commits."""
    announcer = make_announcer(buckets)
    along = LogReader(buckets.public, LOG)
    followed: list[Entry] = []
    sizes = [1, 30, 99, 1, 150, 7, 80, 3, 40, 120, 1]
    unused = iter(range(1, 1000))
    for size in sizes:
        for _ in range(size):
            submit(buckets, next(unused))
        assert announcer.commit() == size
        while found := along.entries_after(len(followed), 64):
            followed += found
        assert len(along.head().entries) < 2 * HEAD_KEEP + size
    total = sum(sizes)
    assert [entry.seq for entry in followed] == list(range(1, total + 1))
    assert numbers(followed) == list(range(1, total + 1))
    batches = [1 + sum(sizes[:at]) for at in range(len(sizes))]
    assert [entry.batch for entry in followed] == [b for b, n in zip(batches, sizes, strict=True) for _ in range(n)]
    assert len(pages(buckets)) >= 3
    assert LogReader(buckets.public, LOG).entries_after(0) == followed
    fresh = LogReader(buckets.public, LOG)
    for first, last in [(1, 1), (150, 151), (200, 320), (total, total), (1, total)]:
        assert fresh.entries(first, last) == followed[first - 1 : last]
    for first, last in [(0, 3), (total, total + 1), (total + 5, total + 6)]:
        with pytest.raises(FileNotFoundError):
            fresh.entries(first, last)
    assert fresh.entries_after(total) == []


def test_pages_lead_from_the_head_to_entry_one_and_never_change(buckets: Buckets) -> None:
    announcer = make_announcer(buckets)
    seen: dict[str, bytes] = {}
    for start in range(0, 600, 60):
        for number in range(start + 1, start + 61):
            submit(buckets, number)
        announcer.commit()
        for page in pages(buckets):
            body = buckets.public.read(page.key)
            assert seen.setdefault(page.key, body) == body
            assert page.digest16 == hashlib.sha256(body).hexdigest()[:16]
    document = parse_document(buckets.public.read(keys.feed_head(LOG)))
    chain = [document]
    while document.previous:
        document = parse_document(buckets.public.read(document.previous))
        chain.append(document)
    assert [document.archive for document in chain] == [False] + [True] * len(seen)
    assert [entry.seq for document in chain[::-1] for entry in document.entries] == list(range(1, 601))


def test_an_unchanged_head_is_parsed_once_and_an_announcers_own_never(
    buckets: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    read_versioned = buckets.public.read_versioned
    monkeypatch.setattr(buckets.public, "read_versioned", lambda key: (reads.append(key), read_versioned(key))[1])
    announcer = make_announcer(buckets)
    for number in range(1, 4):
        submit(buckets, number)
        announcer.commit()
    assert reads == []
    reader = LogReader(buckets.public, LOG)
    assert reader.last_seq() == reader.last_seq() == 3
    assert len(reads) == 1
    submit(buckets, 4)
    announcer.commit()
    assert (reader.last_seq(), len(reads)) == (4, 2)


def test_an_empty_log_has_nothing_to_read(buckets: Buckets) -> None:
    reader = LogReader(buckets.public, LOG)
    assert (reader.head().etag, reader.last_seq(), reader.entries_after(0)) == (None, 0, [])
    assert make_announcer(buckets).commit() == 0
    assert list(buckets.public.list("feeds/")) == []


def test_lanes_take_turns_so_a_flood_starves_nobody(buckets: Buckets) -> None:
    """1,100 submissions of one project wait when two others push; a commit is bounded and everybody is in the next."""
    for number in range(1, 1101):
        submit(buckets, number, "flood")
    submit(buckets, 2001, "quiet")
    submit(buckets, 2002, "small")
    submit(buckets, 2003, "small")
    announcer = make_announcer(buckets)
    first = announcer.commit()
    found = LogReader(buckets.public, LOG).entries_after(0)
    assert [entry.project for entry in found[:6]] == ["flood", "quiet", "small", "flood", "small", "flood"]
    assert first == len(found) <= MAX_COMMIT_ENTRIES
    head = buckets.public.read(keys.feed_head(LOG))
    assert len(head) < MAX_COMMIT_BYTES
    flood = [number for number in numbers(found) if number < 2000]
    assert flood == list(range(1, len(flood) + 1)), "within a lane the oldest go first"
    while announcer.commit():
        pass
    reader = LogReader(buckets.public, LOG)
    assert sorted(numbers(reader.entries_after(0, 2000))) == [*range(1, 1101), 2001, 2002, 2003]
    assert len({entry.batch for entry in reader.entries_after(0, 2000)}) == 2


def test_a_large_blob_commits_alone_and_holds_up_nobody_and_is_not_starved(buckets: Buckets) -> None:
    submit(buckets, 1, "a")
    submit(buckets, 2, "b", size_bytes=LARGE_BYTES + 1)
    submit(buckets, 3, "b")
    submit(buckets, 4, "a")
    submit(buckets, 5, "c", size_bytes=LARGE_BYTES - 100)
    announcer = make_announcer(buckets)
    commits = []
    while announcer.commit():
        reader = LogReader(buckets.public, LOG)
        commits.append(numbers(reader.entries_after(sum(map(len, commits)))))
        if len(commits) < 3:
            submit(buckets, 100 + len(commits), "a")
    assert commits[:2] == [[1, 5, 4], [2]]
    assert sorted(number for commit in commits[2:] for number in commit) == [3, 101, 102]


def test_a_restarted_announcer_goes_on_where_the_last_one_stopped(buckets: Buckets) -> None:
    for number in range(1, 260):
        submit(buckets, number)
        if number % 20 == 0:
            make_announcer(buckets).commit()
    make_announcer(buckets).commit()
    assert numbers(LogReader(buckets.public, LOG).entries_after(0)) == list(range(1, 260))


def test_markers_that_lead_to_no_new_entry_are_dropped_and_those_that_may_are_kept(buckets: Buckets) -> None:
    announcer = make_announcer(buckets)
    real = submit(buckets, 1)
    announcer.commit()
    write_marker(buckets.private, real)  # its deletion was lost
    overtaken = Marker(LOG, "p", keys.new_nonce(START), f"{2:064x}")
    write_marker(buckets.private, overtaken)
    submit(buckets, 2)
    early = Marker(LOG, "p", keys.new_nonce(START), f"{3:064x}")
    write_marker(buckets.private, early)
    buckets.private.create("pending/submissions/not-a-marker", b"")
    assert announcer.commit() == 1
    assert waiting(buckets) == sorted([early.key, "pending/submissions/not-a-marker"])
    submit(buckets, 3, nonce=early.nonce)
    assert announcer.commit() == 1
    assert numbers(LogReader(buckets.public, LOG).entries_after(0)) == [1, 2, 3]
    assert waiting(buckets) == ["pending/submissions/not-a-marker"]


def test_an_entry_stays_in_the_head_while_its_marker_is_there(buckets: Buckets) -> None:
    """And so do those behind it, since pages are contiguous."""
    announcer = make_announcer(buckets)
    markers = [submit(buckets, number) for number in range(1, 2 * HEAD_KEEP + 1)]
    announcer.commit()
    write_marker(buckets.private, markers[4])
    submit(buckets, 1001)
    announcer.commit()
    assert [(page.first, page.last) for page in pages(buckets)] == [(1, 4)]
    submit(buckets, 1002)
    announcer.commit()
    assert [(page.first, page.last) for page in pages(buckets)] == [(1, 4)], "197 entries are too few for a page"
    for number in range(1003, 1007):
        submit(buckets, number)
        announcer.commit()
    assert [(page.first, page.last) for page in pages(buckets)] == [(1, 4), (5, 104)]


def test_a_damaged_submission_is_in_nobodys_way(buckets: Buckets) -> None:
    """It stays unannounced, its marker stays, and is not swept either: a person has to look."""
    id = "e" * 64
    marker = Marker(LOG, "p", keys.new_nonce(START), id)
    write_marker(buckets.private, marker)
    buckets.public.create(keys.submission(id), b'{"id": "half a subm')
    submit(buckets, 1)
    announcer = make_announcer(buckets)
    assert (announcer.commit(), announcer.commit()) == (1, 0)
    assert announcer.sweep(START + timedelta(days=400)) == 0
    assert waiting(buckets) == [marker.key]


def test_a_submission_that_does_not_come_is_looked_for_ever_more_seldom_and_still_found(
    buckets: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer died after the marker: a look costs a request, and the marker may wait for a week."""
    time, looks = clock(), 0

    def describe(public: Bucket, marker: Marker) -> Announceable | None:
        nonlocal looks
        looks += 1
        return describe_submission(public, marker)

    announcer = Announcer(buckets, LogReader(buckets.public, LOG), describe, clock=lambda: time)
    marker = submit(buckets, 1)
    key = keys.submission(marker.id)
    body = buckets.public.read(key)
    buckets.public.delete(key)
    for _ in range(600):
        assert announcer.commit() == 0
        time += timedelta(seconds=1)
    assert looks <= 62 + 10
    buckets.public.create(key, body)
    for _ in range(61):
        announcer.commit()
        time += timedelta(seconds=1)
    assert announcer.commit() == 0
    assert [entry.id for entry in LogReader(buckets.public, LOG).entries_after(0)] == [marker.id]


def test_a_lost_swap_starts_again_at_reading_the_head(buckets: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another announcer commits between our listing and our swap: its entry is not announced again."""
    ours, theirs = make_announcer(buckets), make_announcer(buckets)
    submit(buckets, 1)
    swap = buckets.public.swap
    swaps = []

    def late_swap(key: str, body: bytes, *, etag: str | None) -> str:
        swaps.append(key)
        if len(swaps) == 1:
            assert theirs.commit() == 1
            submit(buckets, 2)
        return swap(key, body, etag=etag)

    monkeypatch.setattr(buckets.public, "swap", late_swap)
    assert ours.commit() == 1
    assert numbers(LogReader(buckets.public, LOG).entries_after(0)) == [1, 2]


def test_an_announcer_that_loses_every_swap_gives_up_for_now(buckets: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(key: str, body: bytes, *, etag: str | None) -> str:
        raise SwapLost(key)

    marker = submit(buckets, 1)
    monkeypatch.setattr(buckets.public, "swap", lost)
    assert make_announcer(buckets).commit() == 0
    assert waiting(buckets) == [marker.key]


def test_times_in_the_log_do_not_go_back(buckets: Buckets) -> None:
    """A second announcer's clock may be behind the first's."""
    submit(buckets, 1)
    make_announcer(buckets, lambda: START + timedelta(hours=2)).commit()
    submit(buckets, 2)
    make_announcer(buckets, lambda: START + timedelta(hours=1)).commit()
    updated = [entry.updated for entry in LogReader(buckets.public, LOG).entries_after(0)]
    assert updated == [START + timedelta(hours=2)] * 2


def test_a_sweep_removes_old_markers_without_object_and_nothing_else(buckets: Buckets) -> None:
    now = START + timedelta(days=30)
    old = Marker(LOG, "p", keys.new_nonce(now - timedelta(days=7, seconds=1)), "a" * 64)
    young = Marker(LOG, "p", keys.new_nonce(now - timedelta(days=6)), "b" * 64)
    for marker in (old, young):
        write_marker(buckets.private, marker)
    late = submit(buckets, 1)
    announcer = make_announcer(buckets)
    assert (announcer.sweep(now), announcer.sweep(now)) == (1, 0)
    assert waiting(buckets) == sorted([young.key, late.key])


def test_a_sweep_removes_old_pages_that_were_never_linked(buckets: Buckets) -> None:
    """Not young ones, not linked ones, and none that may still be linked: that starts where the head does."""
    announcer = make_announcer(buckets)
    for number in range(1, 202):
        submit(buckets, number)
        if number >= 200:
            announcer.commit()
    linked = pages(buckets)
    assert [(page.first, page.last) for page in linked] == [(1, 100)]
    lost = [keys.Page(LOG, 1, 50, "0" * 16), keys.Page(LOG, 51, 100, "1" * 16), keys.Page(LOG, 101, 150, "2" * 16)]
    for page in lost:
        buckets.public.create(page.key, b"written before a swap was lost")
    now = datetime.now(UTC)
    assert announcer.sweep(now) == 0
    assert announcer.sweep(now + timedelta(days=8)) == 2
    assert pages(buckets) == [linked[0], lost[2]]


def test_a_sweep_keeps_a_long_chain_and_tells_two_pages_of_one_range_apart(buckets: Buckets) -> None:
    announcer = make_announcer(buckets)
    for start in range(0, 500, 100):
        for number in range(start + 1, start + 101):
            submit(buckets, number)
        announcer.commit()
    linked = pages(buckets)
    assert len(linked) == 3
    twin = keys.Page(LOG, linked[1].first, linked[1].last, "0" * 16)
    buckets.public.create(twin.key, b"")
    assert announcer.sweep(datetime.now(UTC) + timedelta(days=8)) == 1
    assert pages(buckets) == linked


def test_a_reader_looks_again_when_a_page_was_swept(buckets: Buckets) -> None:
    """A follower may know a longer page that was never linked; when it is gone the linked ones serve."""
    announcer = make_announcer(buckets)
    for number in range(1, 302):
        submit(buckets, number)
        if number in (200, 300):
            announcer.commit()
    announcer.commit()
    reader = LogReader(buckets.public, LOG)
    assert len(reader.entries_after(0)) == 301
    ghost = keys.Page(LOG, 1, 150, "0" * 16)
    buckets.public.create(ghost.key, b"")
    fresh = LogReader(buckets.public, LOG)
    with pytest.raises(Unavailable, match="digest"):
        fresh.entries_after(0)
    buckets.public.delete(ghost.key)
    assert numbers(fresh.entries_after(0)) == list(range(1, 302))


def test_a_damaged_page_or_head_is_never_taken_for_the_log(buckets: Buckets) -> None:
    announcer = make_announcer(buckets)
    for number in range(1, 201):
        submit(buckets, number)
    announcer.commit()
    submit(buckets, 201)
    announcer.commit()
    (page,) = pages(buckets)
    body = buckets.public.read(page.key)
    buckets.public.delete(page.key)
    buckets.public.create(page.key, body.replace(b"text/plain", b"text/plane"))
    with pytest.raises(Unavailable, match=f"{page.key}: .*digest"):
        LogReader(buckets.public, LOG).entries_after(0)
    buckets.public.delete(page.key)
    with pytest.raises(Unavailable, match="entry 1, found none"):
        LogReader(buckets.public, LOG).entries_after(0)
    head, etag = buckets.public.read_versioned(keys.feed_head(LOG))
    buckets.public.swap(keys.feed_head(LOG), head.replace(b"<rf:seq>150</rf:seq>", b"<rf:seq>15</rf:seq>"), etag=etag)
    with pytest.raises(Unavailable, match="dense"):
        LogReader(buckets.public, LOG).head()


def test_many_announcers_pushers_and_followers_at_once(buckets: Buckets) -> None:
    """Real threads on the folder bucket: one dense log, each submission once, one reader shared by the followers."""
    reader = LogReader(buckets.public, LOG)
    total, failures = 160, []

    def guarded(run: Callable[[], None]) -> threading.Thread:
        def body() -> None:
            try:
                run()
            except BaseException as error:  # noqa: BLE001 - reported below
                failures.append(error)

        return threading.Thread(target=body)

    def push(worker: int) -> None:
        for number in range(worker, total, 4):
            submit(buckets, number + 1, f"project-{worker}")

    def announce() -> None:
        announcer = Announcer(buckets, reader, describe_submission, clock=clock, head_keep=5)
        while reader.last_seq() < total and not failures:
            announcer.commit()

    followed: list[list[Entry]] = [[], []]

    def follow(mine: list[Entry]) -> None:
        while len(mine) < total and not failures:
            mine += reader.entries_after(len(mine), 7)

    threads = [guarded(lambda worker=worker: push(worker)) for worker in range(4)]
    threads += [guarded(announce) for _ in range(2)]
    threads += [guarded(lambda mine=mine: follow(mine)) for mine in followed]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert [entry.seq for entry in followed[0]] == list(range(1, total + 1))
    assert sorted(numbers(followed[0])) == list(range(1, total + 1))
    assert followed[0] == followed[1]


def test_commits_and_pages_are_bounded_in_bytes_too() -> None:
    """However long the texts of entries are."""
    choice = Choice()
    for number in range(1000):
        marker = keys.Marker(LOG, "p", keys.new_nonce(START), f"{number:064x}")
        choice.offer(marker, Announceable(marker.nonce, long_entry(number)))
    assert choice.full
    assert 0.7 * MAX_COMMIT_BYTES < len(rendered(tuple(choice.entries))) < 1.05 * MAX_COMMIT_BYTES
    paged = entries_to_page(tuple(long_entry(number) for number in range(1000)), set(), keep=100)
    assert 0.7 * MAX_PAGE_BYTES < len(rendered(paged)) < 1.05 * MAX_PAGE_BYTES
    huge = entries_to_page((long_entry(0, 2 * MAX_PAGE_BYTES), *map(long_entry, range(1, 9))), set(), keep=1)
    assert len(huge) == 1


def long_entry(number: int, length: int = 4000) -> Entry:
    id = f"{number:064x}"
    return Entry(
        seq=number + 1,
        batch=1,
        id=id,
        title="t" * length,
        key=keys.blob(id),
        sha256=id,
        size_bytes=1,
        media_type="text/plain",
        published=START,
        updated=START,
    )


def rendered(entries: tuple[Entry, ...]) -> bytes:
    return render_document(LOG, entries, archive=True, previous="")
