"""The way of a withdrawal in a real `runfeed up`, from the operator's command to the sender's next push."""

import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import feedparser
import httpx
import pytest
from click.testing import CliRunner, Result

from infra.bucket import Buckets
from infra.folder import FolderBucket
from ingest.withdraw_cli import withdraw_command
from processor.doctor import breaches
from schemas import keys
from tests.chain import Chain, measured
from tests.running import Running, running
from tests.withdrawing import LEAKED, QUOTED, SECRET, digest, leaks, new_purge, settle


def healthy(server: Running) -> list[Any]:
    from infra.clock import now

    buckets = Buckets(FolderBucket(server.data / "public"), FolderBucket(server.data / "private"))
    return list(breaches(buckets, now(), deep=True))


def test_an_operator_takes_a_leaked_file_back_while_everything_runs(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        kept = [server.push(measured(at, "kept"), project="demo")["id"] for at in range(5)]
        leaked = server.push(LEAKED, project="demo")["id"]
        again = server.push(LEAKED, project="other")["id"]
        quoted = server.push(QUOTED, project="demo")["id"]
        for one in (*kept, leaked, again, quoted):
            server.wait_for(one)
        assert leaks(server.data)
        command = ("withdraw", leaked, "--data", str(server.data), "--reason", "a token leaked", "--yes", "--wait")
        done = server.runfeed(*command)
        assert done.returncode == 0, done.stderr
        assert "2 submissions" in done.stderr
        assert "Nothing of it is left." in done.stdout
        assert server.runfeed("withdraw", quoted, *command[2:]).returncode == 0
        assert leaks(server.data) == []
        assert healthy(server) == []

        refused = server.client.post("/api/v1/submissions", content=LEAKED, params={"project": "p"})
        assert (refused.status_code, refused.json()["status"]) == (410, 410)
        assert "a token leaked" in refused.json()["detail"]
        path = tmp_path / "leaked.json"
        path.write_bytes(LEAKED)
        pushed = server.runfeed("push", str(path), "--project", "demo")
        assert pushed.returncode == 2
        assert "withdrawn on" in pushed.stdout + pushed.stderr
        assert keys.withdrawal(digest(LEAKED)) in pushed.stdout + pushed.stderr
        assert server.client.get(f"/{keys.withdrawal(digest(LEAKED))}").json()["reason"] == "a token leaked"

        feed = feedparser.parse(server.client.get("/feeds/submissions/current.atom").content)
        assert len(feed.entries) == 10
        state = until_withdrawn(server, leaked)
        assert (state["state"], state["measurements"]) == ("withdrawn", 0)
        assert until_withdrawn(server, again)["state"] == "withdrawn"
        shown = server.runfeed("status", leaked)
        assert shown.returncode == 1
        assert "withdrawn\n  a token leaked\n" in shown.stdout
        assert {run["id"] for run in server.get("/api/v1/submissions", state="accepted")["items"]} == set(kept)


def until_withdrawn(server: Running, id: str) -> dict[str, Any]:
    """Its state, as soon as the dashboard has loaded that."""
    deadline = time.monotonic() + 20
    while (state := server.get(f"/api/v1/submissions/{id}"))["state"] != "withdrawn":
        assert time.monotonic() < deadline, state
        time.sleep(0.05)
    return state


def test_a_withdrawal_while_nothing_runs_is_carried_out_at_the_next_start(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        leaked = server.push(LEAKED)["id"]
        server.wait_for(leaked)
        server.kill()
        arguments = ("withdraw", leaked, "--data", str(server.data), "--reason", "a token leaked", "--yes")
        assert server.runfeed(*arguments).returncode == 0
        server.start()
        with ThreadPoolExecutor(1) as pool:
            again = pool.submit(server.runfeed, *arguments, "--wait", "--json")
            for number in (
                itertools.count()
            ):  # what is announced meanwhile wakes the purge; else it looks by itself after a while
                if again.done():
                    break
                server.push(measured(number))
                time.sleep(0.5)
        answer = json.loads(again.result().stdout)
        assert (answer["status"], answer["nothing_left"], answer["reason"]) == ("known", True, "a token leaked")
        assert [one["id"] for one in answer["submissions"]] == [leaked]
        assert leaks(server.data) == []
        with pytest.raises(httpx.HTTPStatusError):
            server.client.get(f"/{keys.blob(digest(LEAKED))}").raise_for_status()


# --- the command ---


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNFEED_DATA", "RUNFEED_BUCKET"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    chain = Chain(tmp_path / "data")
    chain.done(LEAKED, measured(1))
    return chain


def run(chain: Chain, *arguments: str, said: str = "", reason: str = "a token leaked") -> Result:
    command = [*arguments, "--data", str(chain.data), "--reason", reason]
    return CliRunner().invoke(withdraw_command, command, input=said)


def test_it_shows_what_goes_and_asks_and_no_is_no(chain: Chain) -> None:
    id = chain.submissions.entries(1, 1)[0].id
    refused = run(chain, id, said="n\n")
    assert refused.exit_code == 1
    assert f"{id}  p  2026-05-01 12:00  entry 1" in refused.output
    assert "Nothing has been changed." in refused.output
    assert list(chain.public.list("withdrawals/")) == []
    assert run(chain, id, said="y\n").exit_code == 0
    assert list(chain.public.list("withdrawals/")) == [keys.withdrawal(digest(LEAKED))]
    known = run(chain, id, reason="another")
    assert (known.exit_code, "a token leaked" in known.output) == (0, True)


def test_it_says_what_is_still_there_when_nobody_removes_it(chain: Chain) -> None:
    id = chain.submissions.entries(1, 1)[0].id
    waiting = run(chain, id, "--yes", "--wait", "--timeout", "0.1")
    assert "waits to be announced. Does `runfeed announce` or `up` run?" in str(waiting.exception)
    settle(chain)
    assert "the blob, 1 submissions still there" in str(run(chain, id, "--yes", "--wait", "--timeout", "0").exception)
    purge = new_purge(chain)
    while purge.step():
        pass
    assert run(chain, digest(LEAKED), "--yes", "--wait", "--timeout", "0").exit_code != 0, "it has asked for a new look"
    while purge.step():
        pass
    done = json.loads(run(chain, digest(LEAKED), "--yes", "--json").stdout)
    assert (done["sha256"], done["status"], done["nothing_left"]) == (digest(LEAKED), "known", None)


@pytest.mark.parametrize("id", ["ab" * 32, "../../etc/passwd", ""], ids=["unknown", "path", "empty"])
def test_what_it_does_not_know_it_refuses(chain: Chain, id: str) -> None:
    refused = run(chain, id, "--yes")
    assert refused.exit_code != 0
    assert "ID" in str(refused.exception)
    assert SECRET not in refused.output
