"""Processes die at the worst moment, disks fill up: no receipt is lost, nothing is there twice."""

import contextlib
import json
import os
import random
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import duckdb
import httpx
import pytest

from feed.log import LogReader
from infra.folder import FolderBucket
from schemas import keys
from tests.running import Running, running

SOAK = bool(os.environ.get("RUNFEED_SOAK"))


class Pusher(threading.Thread):
    """Pushes one new result after another and keeps the receipts; a dead server is only a reason to try again."""

    def __init__(self, server: Running, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.server = server
        self.receipts: dict[str, float] = {}
        self.ending = threading.Event()

    def run(self) -> None:
        number = 0
        with httpx.Client(timeout=10) as client:
            while not self.ending.is_set():
                value = float(number) + hash(self.name) % 1000 / 1000
                body = json.dumps({"benchmark": self.name, "metric": "t", "value": value}).encode()
                try:
                    answer = client.post(f"{self.server.url}/api/v1/submissions?project=faults", content=body)
                except httpx.HTTPError:
                    time.sleep(0.02)
                    continue
                if answer.status_code in (200, 201):
                    self.receipts[answer.json()["id"]] = value
                    number += 1


@pytest.mark.parametrize("kills", [pytest.param(25, marks=pytest.mark.soak) if SOAK else 4])
def test_kill_9_at_any_moment_loses_no_receipt_and_doubles_nothing(tmp_path: Path, kills: int) -> None:
    server = Running(tmp_path / "data").start()
    pushers = [Pusher(server, f"pusher-{n}") for n in range(3)]
    for pusher in pushers:
        pusher.start()
    for _ in range(kills):
        time.sleep(random.uniform(0.05, 1.5))
        server.kill()
        server.start()
    time.sleep(0.5)
    for pusher in pushers:
        pusher.ending.set()
        pusher.join()
    receipts = {id: value for pusher in pushers for id, value in pusher.receipts.items()}
    assert len(receipts) > 20
    for id in receipts:
        assert server.wait_for(id, 60)["state"] == "accepted"
    assert server.stop() == 0
    server.client.close()
    _check_each_is_there_once(server.data, receipts)


def _check_each_is_there_once(data: Path, receipts: dict[str, float]) -> None:
    public = FolderBucket(data / "public")
    log = LogReader(public, keys.SUBMISSIONS_LOG)
    entries = []
    while more := log.entries_after(len(entries)):
        entries += more
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    announced = Counter(entry.id for entry in entries)
    assert max(announced.values()) == 1
    assert receipts.keys() <= announced.keys()

    outcomes: Counter[int] = Counter()
    for key in public.list("lake/v1/outcomes/"):
        assert key.endswith("/000000.json")
        outcomes.update(one["seq"] for one in json.loads(public.read(key))["submissions"])
    assert outcomes == Counter(range(1, len(entries) + 1))

    with duckdb.connect(str(data / "dashboard" / "v1.duckdb"), read_only=True) as connection:
        rows = connection.execute(
            "SELECT s.id, m.value FROM submissions s LEFT JOIN measurements m USING (seq) ORDER BY s.seq"
        ).fetchall()
    assert [id for id, _ in rows] == [entry.id for entry in entries]
    found = dict(rows)
    assert {id: found[id] for id in receipts} == receipts


def test_hostile_files_get_their_reason_and_the_process_goes_on(tmp_path: Path) -> None:
    """The worst files of the format tests, through the whole server."""
    bad = {
        "empty": b"",
        "not JSON": b"{",
        "0xFF": b'{"benchmark": "\xff", "metric": "t", "value": 1}',
        "deep": b"[" * 100_000,
        "digits": b'{"benchmark": "b", "metric": "t", "value": ' + b"1" * 5000 + b"}",
        "NaN": b'{"benchmark": "b", "metric": "t", "value": NaN}',
        "truncated gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
        "unknown": b"hello",
    }
    with running(tmp_path / "data") as server:
        for name, body in bad.items():
            state = server.wait_for(server.push(body)["id"])
            assert state["state"] == "rejected", name
            assert all(problem["expected"] and problem["found"] for problem in state["problems"]), name
        good = server.push(b'{"benchmark": "b", "metric": "t", "value": 1}')
        assert server.wait_for(good["id"])["state"] == "accepted"


def test_a_full_disk_gives_507_and_no_receipt_and_later_everything_goes_on(tmp_path: Path) -> None:
    """A real full file system, where we may mount one; the server says 507, and recovers when there is room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk here")
    try:
        with running(disk / "data") as server:
            first = server.push(b'{"benchmark": "b", "metric": "t", "value": 1}')
            server.wait_for(first["id"])
            ballast = disk / "ballast"
            with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(b"\0" * 4096):
                    pass
            answer = server.client.post("/api/v1/submissions?project=p", content=b"x" * 500_000)
            assert answer.status_code == 507
            assert answer.headers["content-type"] == "application/problem+json"
            assert server.get("/api/v1/status")
            ballast.unlink()
            second = server.push(b'{"benchmark": "b", "metric": "t", "value": 2}')
            assert server.wait_for(second["id"], 90)["state"] == "accepted"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
