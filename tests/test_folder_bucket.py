"""What only the folder bucket promises: several processes, power loss, full disks, killed writers."""

import hashlib
import itertools
import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.folder import FolderBucket
from schemas.errors import SwapLost, Unavailable

ROOT = Path(__file__).parents[1]
spawn = multiprocessing.get_context("spawn")


# --- several processes ---


def increment_many(root: Path) -> None:
    bucket = FolderBucket(root)
    for _ in range(40):
        while True:
            body, etag = bucket.read_versioned("counter")
            try:
                bucket.swap("counter", b"%d" % (int(body) + 1), etag=etag)
                break
            except SwapLost:
                continue


def create_all(root: Path, name: str) -> list[int]:
    bucket = FolderBucket(root)
    won = []
    for number in range(100):
        try:
            bucket.create(f"race/{number}", name.encode(), content_type=f"text/x-{name}")
            won.append(number)
        except FileExistsError:
            continue
    return won


def test_processes_lose_no_increment(tmp_path: Path) -> None:
    FolderBucket(tmp_path).create("counter", b"0")
    with spawn.Pool(4) as pool:
        pool.map(increment_many, [tmp_path] * 4)
    assert FolderBucket(tmp_path).read("counter") == b"160"


def test_one_of_the_processes_creates_each_key(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d"]
    with spawn.Pool(4) as pool:
        won = dict(zip(names, pool.starmap(create_all, [(tmp_path, name) for name in names]), strict=True))
    assert sorted(itertools.chain(*won.values())) == list(range(100))
    bucket = FolderBucket(tmp_path)
    for name, numbers in won.items():
        for number in numbers:
            assert bucket.read(f"race/{number}") == name.encode()
            assert bucket.head(f"race/{number}").content_type == f"text/x-{name}"
    assert len(list((tmp_path / ".types").iterdir())) == 100, "losers left their types behind"


# --- etags ---


def test_no_two_versions_share_an_etag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same size, one right after the other, and with a clock that stands still or goes back."""
    clock = time.time_ns
    bucket = FolderBucket(tmp_path)
    etags = [bucket.create("a", b"0")]
    for ticks in (clock, lambda: 1_700_000_000_000_000_000, lambda: 1_600_000_000_000_000_000):
        monkeypatch.setattr(time, "time_ns", ticks)
        for _ in range(50):
            etags.append(bucket.swap("a", b"1", etag=etags[-1]))
    assert len(set(etags)) == len(etags)


def test_coarse_times_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that keeps whole seconds cannot tell two versions apart, so a swap fails rather than lies."""
    real = os.utime
    monkeypatch.setattr(os, "utime", lambda file, ns: real(file, ns=(ns[0], ns[1] // 10**12 * 10**12)))
    bucket = FolderBucket(tmp_path)
    etag = bucket.create("a", b"0")
    with pytest.raises(Unavailable, match="too coarsely"):
        bucket.swap("a", b"1", etag=etag)
    assert bucket.read_versioned("a") == (b"0", etag)


def test_a_copied_folder_keeps_types_and_etags(tmp_path: Path) -> None:
    bucket = FolderBucket(tmp_path / "one")
    bucket.create("a", b"1", content_type="text/plain")
    subprocess.run(["cp", "-pR", tmp_path / "one", tmp_path / "two"], check=True)
    assert FolderBucket(tmp_path / "two").head("a") == bucket.head("a")


# --- power loss ---


class Disk:
    """Notes what becomes visible and what is synced, in order, while the real calls are made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, int]] = []
        for name in ("fsync", "link", "replace", "unlink", "mkdir"):
            monkeypatch.setattr(os, name, self._noting(name, getattr(os, name)))

    def _noting(self, name, real):
        def call(first, *rest, **named):
            inode = os.fstat(first).st_ino if name == "fsync" else 0
            if name in ("link", "replace", "unlink"):
                inode = os.stat(first, follow_symlinks=False).st_ino
            result = real(first, *rest, **named)
            if name == "mkdir":
                inode = os.stat(first).st_ino
            self.events.append((name, inode))
            return result

        return call


@pytest.mark.skipif(sys.platform == "darwin", reason="syncs by fcntl there")
class TestPowerLoss:
    def test_an_object_is_on_the_disk_before_it_is_seen_and_its_folders_before_it_is_confirmed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for create in ("bytes", "file", "swap"):
            root = tmp_path / create
            bucket = FolderBucket(root)
            etag = bucket.create("x/y/z", b"0") if create == "swap" else None
            with monkeypatch.context() as patch:
                disk = Disk(patch)
                if create == "bytes":
                    bucket.create("x/y/z", b"1")
                elif create == "file":
                    (tmp_path / "body").write_bytes(b"1")
                    bucket.create("x/y/z", tmp_path / "body")
                else:
                    bucket.swap("x/y/z", b"1", etag=etag)
            inode = (root / "x/y/z").stat().st_ino
            shown = max(index for index, event in enumerate(disk.events) if event[0] in ("link", "replace"))
            assert disk.events[shown][1] == inode
            assert ("fsync", inode) in disk.events[:shown]
            assert ("fsync", (root / "x/y").stat().st_ino) in disk.events[shown:]
            if create != "swap":
                assert ("fsync", (root / "x").stat().st_ino) in disk.events
                assert ("fsync", root.stat().st_ino) in disk.events

    def test_a_folder_that_another_process_made_is_synced_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It may not have come to its own fsync yet."""
        bucket = FolderBucket(tmp_path)
        (tmp_path / "x" / "y").mkdir(parents=True)
        disk = Disk(monkeypatch)
        bucket.create("x/y/z", b"1")
        assert ("fsync", (tmp_path / "x").stat().st_ino) in disk.events
        assert ("fsync", tmp_path.stat().st_ino) in disk.events

    def test_a_loser_syncs_the_winners_entry(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        bucket = FolderBucket(tmp_path)
        bucket.create("x/y", b"1")
        disk = Disk(monkeypatch)
        with pytest.raises(FileExistsError):
            bucket.create("x/y", b"1")
        assert ("fsync", (tmp_path / "x").stat().st_ino) in disk.events

    def test_a_deleted_object_stays_deleted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A marker that came back after a power loss would be announced twice."""
        bucket = FolderBucket(tmp_path)
        bucket.create("x/y", b"1")
        for _ in range(2):  # the second time for a process that died between unlink and fsync
            with monkeypatch.context() as patch:
                disk = Disk(patch)
                bucket.delete("x/y")
            assert ("fsync", (tmp_path / "x").stat().st_ino) in disk.events


# --- full disks ---

FILL = """
import pathlib, sys
from infra.folder import FolderBucket
from schemas.errors import StorageFull

bucket = FolderBucket(pathlib.Path(sys.argv[1]))
etag = bucket.create("small", b"1")
body = b"x" * (4 << 20)
for write in (
    lambda: bucket.create("new/large", body),
    lambda: bucket.create("new/file", pathlib.Path(sys.argv[2])),
    lambda: bucket.swap("small", body, etag=etag),
):
    try:
        write()
    except StorageFull:
        continue
    sys.exit("no StorageFull")
assert list(bucket.list("")) == ["small"], list(bucket.list(""))
assert bucket.read_versioned("small") == (b"1", etag)
assert list((bucket.root / ".tmp").iterdir()) == []
bucket.swap("small", b"2", etag=etag)
"""
LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"


@pytest.mark.parametrize("kind", ["a limit", "a small disk"])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "body").write_bytes(b"x" * (4 << 20))
    command = [sys.executable, "-c", FILL, str(tmp_path / "disk" / "bucket"), str(tmp_path / "body")]
    if kind == "a limit":
        command[2] = LIMIT + FILL
        # A linked file is not written, so it would not be refused: the body lies under two names.
        os.link(tmp_path / "body", tmp_path / "body-again")
    else:
        mount = f'mount -t tmpfs -o size=1m none "{tmp_path}/disk"'
        if (
            shutil.which("unshare") is None
            or subprocess.run(["unshare", "-rm", "sh", "-c", mount], check=False).returncode
        ):
            pytest.skip("may not mount a small disk here")
        command = ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


# --- killed writers ---

WRITE = """
import hashlib, pathlib, sys
from infra.folder import FolderBucket

bucket, etag = FolderBucket(pathlib.Path(sys.argv[1])), None
for number in range(10_000):
    body = hashlib.sha256(b"%d" % number).digest() * 50_000
    bucket.create(f"objects/{number:05d}", body)
    etag = bucket.swap("head", body, etag=etag)
    print(number, flush=True)
"""


def is_whole(body: bytes) -> bool:
    return len(body) == 1_600_000 and body == body[:32] * 50_000


@pytest.mark.parametrize("after", [1, 2, 5])
def test_a_killed_writer_leaves_no_half_object_and_loses_no_confirmed_one(tmp_path: Path, after: int) -> None:
    command = [sys.executable, "-c", WRITE, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as writer:
        assert writer.stdout is not None
        confirmed = [int(writer.stdout.readline()) for _ in range(after)]
        time.sleep(after * 0.001)
        os.kill(writer.pid, signal.SIGKILL)
        confirmed += [int(line) for line in writer.stdout]
    bucket = FolderBucket(tmp_path)
    found = list(bucket.list("objects/"))
    assert [f"objects/{number:05d}" for number in confirmed] == found[: len(confirmed)]
    assert len(found) - len(confirmed) in (0, 1)
    assert all(is_whole(bucket.read(key)) for key in [*found, "head"])
    assert bucket.read("head", 0, 32) in {hashlib.sha256(b"%d" % number).digest() for number in range(len(found))}


def test_leftovers_are_neither_listed_nor_read_and_go_after_a_week(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = FolderBucket(tmp_path)
    bucket.create("a", b"1")
    leftover = tmp_path / ".tmp" / "0123"
    leftover.write_bytes(b"half")
    os.utime(leftover, (0, 0))  # a linked file's own time says nothing of when it came here
    assert list(bucket.list("")) == ["a"]
    FolderBucket(tmp_path)
    assert leftover.exists()
    later = time.time() + 8 * 24 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    FolderBucket(tmp_path)
    assert not leftover.exists()
    assert bucket.read("a") == b"1"


# --- files that come in, and things that stand in the way ---


def test_a_file_is_linked_with_the_buckets_own_mode(tmp_path: Path) -> None:
    """Not with the 0600 of a temporary file, which a server under another user could not read."""
    bucket = FolderBucket(tmp_path / "bucket")
    file = tmp_path / "body"
    file.touch(mode=0o600)
    file.write_bytes(b"1")
    bucket.create("a", file)
    assert (tmp_path / "bucket/a").stat().st_ino == file.stat().st_ino
    bucket.create("b", b"1")
    modes = {stat.S_IMODE((tmp_path / "bucket" / key).stat().st_mode) for key in "ab"}
    assert modes == {stat.S_IMODE((tmp_path / "bucket").stat().st_mode) & 0o666}


def test_an_object_of_another_bucket_is_copied_not_linked_twice(tmp_path: Path) -> None:
    """Its etag there stays what it was, and a symbolic link comes in as the file that it points to."""
    public, private = FolderBucket(tmp_path / "public"), FolderBucket(tmp_path / "private")
    file = tmp_path / "body"
    file.write_bytes(b"1")
    etag = private.create("held", file)
    with private.local_path("held") as path:
        public.create("released", path)
    assert private.head("held").etag == etag
    (tmp_path / "name").symlink_to(file)
    public.create("named", tmp_path / "name")
    assert not (tmp_path / "public/named").is_symlink()
    assert public.read("released") == public.read("named") == b"1"


def test_no_key_is_the_folder_of_another(tmp_path: Path) -> None:
    bucket = FolderBucket(tmp_path)
    bucket.create("a", b"1")
    with pytest.raises(ValueError, match="a is an object"):
        bucket.create("a/b/c", b"2")
    bucket.create("c/d", b"1")
    with pytest.raises(ValueError, match="c is a folder"):
        bucket.create("c", b"2")


def test_a_removed_folder_comes_back(tmp_path: Path) -> None:
    """Whoever deletes the lake to rebuild it need not stop the writers first."""
    bucket = FolderBucket(tmp_path)
    bucket.create("lake/v1/a", b"1")
    (tmp_path / "lake/v1/a").unlink()
    (tmp_path / "lake/v1").rmdir()
    (tmp_path / "lake").rmdir()
    bucket.create("lake/v1/a", b"2")
    assert bucket.read("lake/v1/a") == b"2"


def test_foreign_names_are_not_listed(tmp_path: Path) -> None:
    bucket = FolderBucket(tmp_path)
    bucket.create("a", b"1")
    (tmp_path / "a copy").write_bytes(b"")
    (tmp_path / ".DS_Store").write_bytes(b"")
    assert list(bucket.list("")) == ["a"]
