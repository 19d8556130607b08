"""A long log followed over HTTP while it grows, by a follower that dies: each entry handled exactly once, in order.

5,000 entries here, 100,000 with `make soak`.
"""

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from feed.announcer import HEAD_KEEP
from feed.follow.follow import Followed, follow
from tests import small_log
from tests.origin import Origin
from tests.small_log import LOG, buckets_in, id_of, sha256_of

_WITHDRAWN = 7  # the submission that is withdrawn on the way


def handled(url: str, cursor: Path, dies_within: int, chance: random.Random, failed: list[str]) -> Iterator[Followed]:
    """What a program handles that is started again whenever it dies: it counts only what it had finished.

    Between two deaths it goes on for up to `dies_within` entries. An entry that it dies at comes again.
    """
    unfinished = 0
    while True:
        lives = chance.randrange(1, dies_within)
        doing: Followed | None = None
        entries = follow(url, cursor=cursor, poll_seconds=0.05, on_note=failed.append)
        for entry in entries:
            if doing:
                yield doing  # it asked for the next one, so this one was handled
            elif unfinished:
                assert entry.seq == unfinished, "what was not finished comes again, and nothing before it"
            doing, lives = entry, lives - 1
            if not lives:
                break
        entries.close()  # type: ignore[attr-defined]
        assert doing
        unfinished = doing.seq


def follow_while_it_grows(folder: Path, before: int, after: int, each: int, dies_within: int) -> None:
    """`before` entries are there when the follower begins, `after` come meanwhile, `each` in a commit."""
    buckets = buckets_in(folder)
    announcer = small_log.make_announcer(buckets, head_keep=HEAD_KEEP)
    small_log.submit_all(buckets, range(1, before + 1))
    while announcer.commit():
        pass
    failures: list[BaseException] = []
    notes: list[str] = []

    def write() -> None:
        try:
            for number in range(before + 1, before + after + 1):
                small_log.submit(buckets, number)
                if number == before + after // 2:
                    small_log.withdraw(buckets, _WITHDRAWN, when=small_log.received(number))
                if number % each == 0:
                    announcer.commit()
            while announcer.commit():
                pass
        except BaseException as error:  # noqa: BLE001 - reported below
            failures.append(error)

    writer = threading.Thread(target=write)
    found: list[Followed] = []
    with Origin(folder / "public") as origin:
        stream = handled(
            f"{origin.url}/feeds/{LOG}/current.atom", folder / "cursor", dies_within, random.Random(before), notes
        )
        writer.start()
        for entry in stream:
            found.append(entry)
            assert not failures, failures
            if len(found) == before + after:  # one is left, which nothing comes behind
                break
        stream.close()  # type: ignore[attr-defined]
    writer.join()
    assert not notes, notes
    assert [entry.seq for entry in found] == list(range(1, before + after + 1))
    submissions = [entry for entry in found if entry.kind == "submission"]
    assert [entry.id for entry in submissions] == [id_of(number) for number in range(1, before + after)]
    assert [entry.withdraws for entry in found if entry.kind == "withdrawal"] == [sha256_of(_WITHDRAWN)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def test_each_entry_is_handled_once_and_in_order_while_the_log_grows_and_the_follower_dies(tmp_path: Path) -> None:
    follow_while_it_grows(tmp_path, before=4_000, after=1_000, each=60, dies_within=900)


@pytest.mark.soak
@pytest.mark.skipif(not os.environ.get("RUNFEED_SOAK"), reason="the long version: make soak")
@pytest.mark.timeout(1800)
def test_each_of_100_000_entries_is_handled_once_and_in_order(tmp_path: Path) -> None:
    follow_while_it_grows(tmp_path, before=90_000, after=10_000, each=250, dies_within=15_000)
