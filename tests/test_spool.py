"""The spool keeps what could not be delivered: whole, private, bounded, and in order."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from ingest.pack import Packed, pack
from ingest.spool import Spool, spool_folder
from schemas.errors import Refused, StorageFull
from schemas.records import Commit, Context

NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
TO = "http://127.0.0.1:1"


def packed(folder: Path, text: str = '{"a": 1}', project: str = "p") -> Packed:
    path = folder / "r.json"
    path.write_text(text)
    context = Context(commit=Commit(id="c" * 40, subject="Ünïcode"), labels={"k": "v"})
    return pack(path, name="some/r.json", project=project, format="auto", context=context)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "state" / "spool")


def left_over(spool: Spool) -> list[str]:
    return sorted(name for name in os.listdir(spool.folder) if name.startswith("."))


def test_what_is_kept_comes_back_whole_also_when_the_file_is_gone(spool: Spool, tmp_path: Path) -> None:
    sent = packed(tmp_path)
    spool.keep(sent, TO, NOW)
    sent.path.unlink()
    (item,) = Spool(spool.folder).items()
    assert (item.to, b"".join(item.packed.pieces())) == (TO, b'{"a": 1}')
    assert msgspec.structs.asdict(item.packed.context) == msgspec.structs.asdict(sent.context)
    for field in ("name", "sha256", "size_bytes", "media_type", "encoding", "project", "format"):
        assert getattr(item.packed, field) == getattr(sent, field)
    assert left_over(spool) == []


def test_the_oldest_comes_first(spool: Spool, tmp_path: Path) -> None:
    for number in (3, 1, 2):
        spool.keep(packed(tmp_path, project=f"p{number}"), TO, NOW + timedelta(microseconds=number))
    assert [item.packed.project for item in spool.items()] == ["p1", "p2", "p3"]


def test_the_same_push_is_kept_once_and_another_target_beside_it(spool: Spool, tmp_path: Path) -> None:
    first = spool.keep(packed(tmp_path), TO, NOW)
    assert spool.keep(packed(tmp_path), TO, NOW + timedelta(hours=1)).key == first.key
    spool.keep(packed(tmp_path), "http://127.0.0.1:2", NOW)
    assert len(spool.items()) == 2


def test_only_the_owner_may_look_into_it(spool: Spool, tmp_path: Path) -> None:
    item = spool.keep(packed(tmp_path), TO, NOW)
    for folder in (spool.folder, spool.folder / item.key):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_it_is_bounded(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", max_bytes=1500)
    spool.keep(packed(tmp_path, "1" * 700), TO, NOW)
    with pytest.raises(StorageFull, match="would exceed 1,500 bytes"):
        spool.keep(packed(tmp_path, "2" * 700), TO, NOW)
    assert len(spool.items()) == 1


def test_a_file_that_changed_since_it_was_packed_is_not_kept(spool: Spool, tmp_path: Path) -> None:
    sent = packed(tmp_path)
    sent.path.write_text('{"a": 2}')
    with pytest.raises(Refused, match="as when it was first read"):
        spool.keep(sent, TO, NOW)
    assert spool.items() == []
    assert left_over(spool) == []


def test_a_removed_item_is_gone_and_removing_it_again_is_fine(spool: Spool, tmp_path: Path) -> None:
    item = spool.keep(packed(tmp_path), TO, NOW)
    spool.remove(item.key)
    spool.remove(item.key)
    assert os.listdir(spool.folder) == []


def test_a_refused_item_stays_with_its_reason(spool: Spool, tmp_path: Path) -> None:
    item = spool.keep(packed(tmp_path), TO, NOW)
    place = spool.refuse(item.key, "format: expected a known one, found 'x\udcff'")
    assert place == spool.refused_folder / item.key
    assert (place / "reason.txt").read_text() == "format: expected a known one, found 'x?'\n"
    assert (place / "blob").read_text() == '{"a": 1}'
    assert (spool.items(), spool.refused()) == ([], [item.key])
    assert spool.refuse(item.key, "again") is None


@pytest.mark.parametrize("damage", ["no json", "bad json", "bad utf-8", "no blob", "cut blob"])
def test_a_damaged_item_is_told_put_aside_and_in_nobodys_way(spool: Spool, tmp_path: Path, damage: str) -> None:
    bad = spool.folder / spool.keep(packed(tmp_path), TO, NOW).key
    good = spool.keep(packed(tmp_path, "[]"), TO, NOW + timedelta(seconds=1))
    {
        "no json": (bad / "item.json").unlink,
        "bad json": lambda: (bad / "item.json").write_text('{"to": 1}'),
        "bad utf-8": lambda: (bad / "item.json").write_bytes(b'{"to": "\xff"}'),
        "no blob": (bad / "blob").unlink,
        "cut blob": lambda: (bad / "blob").write_text("{"),
    }[damage]()
    told: list[Path] = []
    items = spool.items(lambda place, reason: told.append(place))
    assert [item.key for item in items] == [good.key]
    assert told == [spool.refused_folder / bad.name]


def test_what_a_dead_push_left_is_swept_after_a_day_and_no_sooner(spool: Spool, tmp_path: Path) -> None:
    spool.keep(packed(tmp_path), TO, NOW)
    for name in ("old", "new"):
        (spool.folder / f".new-{name}").mkdir()
    long_ago = datetime.now(UTC).timestamp() - 25 * 3600
    os.utime(spool.folder / ".new-old", (long_ago, long_ago))
    assert len(spool.items()) == 1
    assert left_over(spool) == [".new-new"]


def test_several_at_once_neither_lose_nor_crash(spool: Spool, tmp_path: Path) -> None:
    """Threads list and remove the same items while others are kept."""
    for number in range(20):
        spool.keep(packed(tmp_path, project=f"p{number}"), TO, NOW + timedelta(seconds=number))

    def drain() -> None:
        for item in spool.items():
            if item.packed.project != "late":
                spool.remove(item.key)

    with ThreadPoolExecutor(4) as pool:
        drained = [pool.submit(drain) for _ in range(4)]
        late = spool.keep(packed(tmp_path, project="late"), TO, NOW + timedelta(days=1))
    assert [future.result() for future in drained] == [None] * 4
    assert [item.key for item in spool.items()] == [late.key]
    assert spool.refused() == []


def test_an_absent_spool_is_an_empty_one(spool: Spool) -> None:
    assert (spool.items(), spool.refused(), spool.size_bytes()) == ([], [], 0)
    assert not spool.folder.exists()


def test_its_place_is_the_users_state_folder_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    assert spool_folder({}) == Path("/home/x/.local/state/runfeed/spool")
    assert spool_folder({"XDG_STATE_HOME": "relative"}) == Path("/home/x/.local/state/runfeed/spool")
    assert spool_folder({"XDG_STATE_HOME": "/var/state"}) == Path("/var/state/runfeed/spool")
    assert spool_folder({"XDG_STATE_HOME": "/var/state", "RUNFEED_SPOOL": "/s"}) == Path("/s")
