"""`runfeed push` and `runfeed status` against a real HTTP server that takes, refuses, stalls and breaks."""

import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ingest.pack import Packed, pack
from ingest.push import (
    Server,
    checked_token,
    checked_url,
    deliver,
    flush_spool,
    worst,
)
from ingest.push_again import Busy, Unreachable, World, pause_seconds, retry_after
from ingest.push_cli import push, status
from ingest.push_text import plain, tree_lines
from ingest.spool import Spool
from schemas.errors import Refused
from schemas.records import Commit, Context
from tests.receiver import FakeTime, Receiver
from tests.test_roles import make_certificate

NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
BODY = b'{"measurements": []}'


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def nobody() -> Iterator[str]:
    """The URL of a port where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def result(tmp_path: Path) -> Path:
    path = tmp_path / "results.json"
    path.write_bytes(BODY)
    return path


def packed(path: Path, **context: object) -> Packed:
    return pack(path, name=path.name, project="p", format="auto", context=Context(**context))


def world(time: FakeTime) -> World:
    return World(clock=time.clock, sleep=time.sleep, chance=lambda: 0.0)


# --- decisions ---


def test_pauses_double_are_scattered_bounded_and_never_shorter_than_asked() -> None:
    assert [pause_seconds(attempt, None, 1.0) for attempt in (0, 1, 2, 50)] == [0.5, 1.0, 2.0, 15.0]
    assert pause_seconds(0, None, 0.0) == 0.25
    assert pause_seconds(3, 20.0, 0.0) == 22.0


def test_retry_after_is_seconds_or_a_date_and_nonsense_is_ignored() -> None:
    assert retry_after("7", NOW) == 7.0
    assert retry_after(format_datetime(NOW + timedelta(seconds=9), usegmt=True), NOW) == 9.0
    assert retry_after(format_datetime(NOW - timedelta(seconds=9), usegmt=True), NOW) == 0.0
    assert [retry_after(value, NOW) for value in (None, "", "soon", "-1")] == [None] * 4


def test_of_several_files_not_delivered_is_the_worst() -> None:
    assert [worst(statuses) for statuses in ([], [0, 1], [1, 3, 0], [3, 2, 1])] == [0, 1, 3, 2]


@pytest.mark.parametrize(
    "url",
    ["", "host:8765", "ftp://h", "http://", "http://u:p@h", "http://h/?a", "http://h/#a", "http://h:x", "http://[h"],
)
def test_an_address_that_is_no_server_or_holds_a_password_is_refused(url: str) -> None:
    with pytest.raises(Refused):
        checked_url(url)


def test_a_token_that_cannot_be_a_header_is_refused_without_being_shown() -> None:
    assert checked_token(" abc\n") == "abc"
    for token in ("geheim\r\nX: y", "gehéim", "ge heim"):
        with pytest.raises(Refused) as caught:
            checked_token(token)
        assert "heim" not in str(caught.value)


# --- one file ---


def test_a_file_arrives_as_it_is_and_the_receipt_comes_back(receiver: Receiver, tmp_path: Path) -> None:
    path = tmp_path / "big.json.gz"
    path.write_bytes(b"\x1f\x8b" + os.urandom(3 << 20))
    seen: list[int] = []
    with Server(receiver.url, token="sesame") as server:
        receipt = server.submit(
            packed(path, commit=Commit(id="c" * 40, subject="Ü & ? #")), 5, on_bytes=lambda _, sent: seen.append(sent)
        )
    (upload,) = receiver.uploads
    assert upload.body == path.read_bytes()
    assert upload.query["project"] == "p"
    assert upload.query["format"] == "auto"
    assert upload.context == {"commit": {"id": "c" * 40, "subject": "Ü & ? #"}}
    assert upload.headers["authorization"] == "Bearer sesame"
    assert "content-encoding" not in upload.headers
    assert "transfer-encoding" not in upload.headers
    assert (receipt.status, receipt.size_bytes) == ("created", len(upload.body))
    assert seen[0] == 0
    assert seen[-1] == len(upload.body)


@pytest.mark.parametrize("failures", [[503, 503], ["drop"], [408, 500], [429, "drop", 507]])
def test_passing_failures_are_tried_again_until_it_works(receiver: Receiver, result: Path, failures: list) -> None:
    receiver.plan.extend(failures)
    time = FakeTime()
    with Server(receiver.url, world=world(time)) as server:
        assert server.submit(packed(result), 60).status == "created"
    assert receiver.attempts == len(failures) + 1
    assert time.slept == [0.25 * 2**attempt for attempt in range(len(failures))]


def test_a_connection_lost_in_the_middle_of_a_large_body_is_tried_again(receiver: Receiver, tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(8 << 20))
    receiver.plan.append("drop")
    with Server(receiver.url, world=world(FakeTime())) as server:
        assert server.submit(packed(path), 60).sha256 == packed(path).sha256


def test_retry_after_is_honoured(receiver: Receiver, result: Path) -> None:
    receiver.plan.append((429, {"Retry-After": "3"}, {"title": "Slow down", "status": 429, "detail": "too fast"}))
    time = FakeTime()
    told: list[str] = []
    with Server(receiver.url, world=world(time)) as server:
        server.submit(packed(result), 60, on_retry=lambda error, pause: told.append(f"{error} {pause}"))
    assert time.slept == [3.25]
    assert told == [f"{receiver.url}: too fast (429) 3.25"]


def test_nobody_waits_longer_than_the_timeout(receiver: Receiver, result: Path) -> None:
    receiver.plan.extend([503] * 1000)
    time = FakeTime()
    with Server(receiver.url, world=world(time)) as server:
        with pytest.raises(Busy, match="planned 503"):
            server.submit(packed(result), 60)
        assert sum(time.slept) < 60
        receiver.plan.clear()
        receiver.plan.append((503, {"Retry-After": "3600"}, {"title": "", "status": 503, "detail": ""}))
        time.slept.clear()
        with pytest.raises(Busy):
            server.submit(packed(result), 60)
        assert time.slept == []


def test_a_server_that_never_answers_is_given_up(receiver: Receiver, result: Path) -> None:
    receiver.plan.append("hang")
    with Server(receiver.url) as server, pytest.raises(Unreachable, match="timed out"):
        server.submit(packed(result), 0.5)


def test_nobody_there_is_unreachable(nobody: str, result: Path) -> None:
    time = FakeTime()
    with Server(nobody, world=world(time)) as server, pytest.raises(Unreachable, match="refused"):
        server.submit(packed(result), 10)
    assert time.slept


@pytest.mark.parametrize("status_code", [400, 401, 403, 404, 413, 415, 422, 302])
def test_a_refusal_is_final_at_once(receiver: Receiver, result: Path, status_code: int) -> None:
    receiver.plan.append(status_code)
    with Server(receiver.url) as server, pytest.raises(Refused) as caught:
        server.submit(packed(result), 60)
    assert (caught.value.status, receiver.attempts) == (status_code, 1)


def test_a_refusal_says_where_expected_and_found(receiver: Receiver, result: Path) -> None:
    problem = {
        "title": "",
        "status": 422,
        "detail": "",
        "where": "format",
        "expected": "an id",
        "found": "'x'",
        "new": 1,
    }
    receiver.plan.append((422, {}, problem))
    with Server(receiver.url) as server, pytest.raises(Refused, match="format: expected an id, found 'x'"):
        server.submit(packed(result), 60)


@pytest.mark.parametrize("answer", [b"<html>Welcome</html>", b"{}", b"\xff", b'{"id": 1}'])
def test_a_200_that_is_no_receipt_is_not_believed(receiver: Receiver, result: Path, answer: bytes) -> None:
    receiver.plan.append(answer)
    with Server(receiver.url) as server, pytest.raises(Refused, match="is this a Runfeed server"):
        server.submit(packed(result), 60)


def test_a_receipt_for_other_bytes_is_not_believed(receiver: Receiver, result: Path) -> None:
    receipt = {
        "id": "x",
        "project": "p",
        "sha256": "0" * 64,
        "size_bytes": 1,
        "status": "created",
        "url": "",
        "page": "",
    }
    receiver.plan.append(json.dumps(receipt).encode())
    with Server(receiver.url) as server, pytest.raises(Refused, match="a receipt for sha256"):
        server.submit(packed(result), 60)


def test_a_file_that_changed_after_packing_is_never_delivered(receiver: Receiver, result: Path) -> None:
    """Same size: the server compares the digest. Another size: we notice ourselves."""
    sent = packed(result)
    result.write_bytes(BODY.replace(b"m", b"M"))
    with Server(receiver.url) as server:
        with pytest.raises(Refused, match="Runfeed-Digest"):
            server.submit(sent, 5)
        result.write_bytes(BODY + b" ")
        with pytest.raises(Refused, match="another size"):
            server.submit(sent, 5)
    assert receiver.uploads == []


def test_a_proxy_is_not_asked_for_this_machines_own_server(
    receiver: Receiver, result: Path, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, nobody)
    with Server(receiver.url) as server:
        assert server.submit(packed(result), 0).status == "created"


def test_a_receipts_address_is_relative_to_the_server() -> None:
    with Server("http://h/runfeed") as server:
        assert server.absolute("/submissions/1") == "http://h/runfeed/submissions/1"
        assert server.absolute("https://other/1") == "https://other/1"


# --- many files and the spool ---


def test_what_cannot_be_delivered_is_spooled_and_patience_is_spent_once(nobody: str, tmp_path: Path) -> None:
    files = []
    for name in "abc":
        (tmp_path / name).write_text(name)
        files.append(packed(tmp_path / name))
    spool = Spool(tmp_path / "spool")
    time = FakeTime()
    with Server(nobody, world=world(time)) as server:
        deliveries = list(deliver(server, files, 10, spool=spool, now=lambda: datetime.now(UTC)))
    assert [delivery.spooled is not None for delivery in deliveries] == [True] * 3
    assert sum(time.slept) < 10
    assert [item.packed.name for item in spool.items()] == ["a", "b", "c"]


def test_a_busy_answer_for_one_file_still_gives_the_others_an_attempt(receiver: Receiver, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    receiver.plan.append(507)
    spool = Spool(tmp_path / "spool")
    with Server(receiver.url) as server:
        files = [packed(tmp_path / "a"), packed(tmp_path / "b")]
        first, second = deliver(server, files, 0, spool=spool, now=lambda: NOW)
    assert first.spooled
    assert second.receipt


def test_flushing_sends_the_oldest_first_and_forgets_only_with_a_receipt(receiver: Receiver, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    for number, name in enumerate("cab"):
        (tmp_path / name).write_text(name)
        spool.keep(packed(tmp_path / name), receiver.url, NOW + timedelta(seconds=number))
    spool.keep(packed(tmp_path / "a"), "http://127.0.0.1:1", NOW)
    receiver.plan.extend(["take", 503])
    with Server(receiver.url) as server:
        first, stopped = flush_spool(server, spool, 0)
        assert first.receipt
        assert stopped.spooled
        assert [item.packed.name for item in spool.items() if item.to == receiver.url] == ["a", "b"]
        assert all(delivery.receipt for delivery in flush_spool(server, spool, 0))
    assert [upload.body for upload in receiver.uploads] == [b"c", b"a", b"b"]
    assert [item.to for item in spool.items()] == ["http://127.0.0.1:1"]


@pytest.mark.parametrize("status_code", [400, 413, 415, 422])
def test_an_item_refused_for_good_is_put_aside_and_the_others_go_on(
    receiver: Receiver, tmp_path: Path, status_code: int
) -> None:
    spool = Spool(tmp_path / "spool")
    for number, name in enumerate("ab"):
        (tmp_path / name).write_text(name)
        spool.keep(packed(tmp_path / name), receiver.url, NOW + timedelta(seconds=number))
    receiver.plan.append(status_code)
    with Server(receiver.url) as server:
        bad, good = flush_spool(server, spool, 0)
    assert bad.refused is not None
    assert f"planned {status_code}" in (bad.refused / "reason.txt").read_text()
    assert good.receipt
    assert spool.items() == []


@pytest.mark.parametrize("answer", [401, 403, 404, 302, b"<html>log in to this network</html>"])
def test_a_wrong_token_or_address_costs_no_item(receiver: Receiver, result: Path, tmp_path: Path, answer) -> None:
    spool = Spool(tmp_path / "spool")
    spool.keep(packed(result), receiver.url, NOW)
    receiver.plan.append(answer)
    with Server(receiver.url) as server:
        (delivery,) = flush_spool(server, spool, 0)
    assert isinstance(delivery.error, Refused)
    assert len(spool.items()) == 1


# --- the commands ---


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: Receiver):
    """Runs a command in an empty folder, outside of any CI, towards the receiver."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in list(os.environ):
        if name.startswith(("RUNFEED_", "GITHUB_", "GITLAB_", "CI", "GIT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setenv("RUNFEED_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setenv("RUNFEED_URL", receiver.url)

    def run(*arguments: str, command=push, **more) -> Result:
        return CliRunner().invoke(command, arguments, catch_exceptions=False, **more)

    return run


def test_a_push_prints_the_receipt_with_the_pages_address(run, receiver: Receiver, result: Path) -> None:
    done = run(str(result))
    (submission,) = receiver.known
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        f"{result}: submitted",
        f"  page  {receiver.url}/submissions/{submission}",
        f"  id    {submission}",
    ]


def test_a_second_push_of_the_same_result_says_so(run, receiver: Receiver, result: Path) -> None:
    assert run(str(result)).exit_code == 0
    again = run(str(result))
    assert (again.exit_code, len(receiver.known)) == (0, 1)
    assert "already submitted" in again.stdout


def test_everything_that_is_sent_is_shown_before(run, receiver: Receiver, result: Path) -> None:
    options = ["--commit", "c0ffee", "--branch", "dev", "--environment", "rack-3", "--label", "a=b=c", "--label", "d=e"]
    chunk = ["--chunk", "2/3", "--run-group", "g", "--supersedes", "0f" * 32, "--machine", "runtime=CPython 3.12"]
    options += [*chunk, "--project", "proj", "--format", "wptreport", "--to", receiver.url]
    dry = run(str(result), *options, "--dry-run")
    assert (dry.exit_code, receiver.attempts) == (0, 0)
    done = run(str(result), *options)
    assert done.exit_code == 0
    assert done.stderr == dry.stderr
    (upload,) = receiver.uploads
    assert (upload.query["project"], upload.query["format"]) == ("proj", "wptreport")
    context = upload.context
    assert context.pop("machine")["runtime"] == "CPython 3.12"
    assert context == {
        "commit": {"id": "c0ffee", "branch": "dev", "declared": True},
        "environment": "rack-3",
        "labels": {"a": "b=c", "d": "e"},
        "chunk": {"group": "g", "index": 2, "total": 3},
        "supersedes": "0f" * 32,
    }
    shown = ("c0ffee", "dev", "rack-3", "a=b=c", "d=e", "2 of 3", "0f0f", "CPython 3.12", "proj", "wptreport", "sha256")
    assert [word for word in shown if word not in done.stderr] == []


def test_standard_input_a_folder_and_a_pipe_are_files_too(run, receiver: Receiver, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for name in ("b.xml", "a.xml"):
        (folder / name).write_text(f"<{name[0]}/>")
    reading, writing = os.pipe()
    os.write(writing, b"from a pipe")
    os.close(writing)
    try:
        done = run("-", str(folder), f"/dev/fd/{reading}", input=b"from stdin")
    finally:
        os.close(reading)
    assert done.exit_code == 0
    assert [upload.body for upload in receiver.uploads] == [b"from stdin", b"<a/>", b"<b/>", b"from a pipe"]


def test_a_missing_unreadable_or_empty_thing_is_named_and_the_rest_goes_on(
    run, receiver: Receiver, result: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "nothing.json").touch()
    absent = str(tmp_path / "absent.json")
    done = run(absent, str(tmp_path / "empty"), str(tmp_path / "nothing.json"), str(result))
    assert done.exit_code == 2
    assert f"not delivered: {absent}: No such file or directory" in done.stderr
    assert "empty: expected result files in the folder, found none" in done.stderr
    assert "nothing.json: expected a result file, found 0 bytes" in done.stderr
    assert len(receiver.uploads) == 1


def test_without_a_server_the_file_is_spooled_and_the_next_push_sends_both(
    run, receiver: Receiver, result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNFEED_TOKEN", "sesame-secret")
    receiver.plan.append(503)
    done = run(str(result), "--timeout", "0")
    assert done.exit_code == 2
    assert "planned 503" in done.stderr
    assert "kept in the spool" in done.stderr
    kept = [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
    assert len(kept) == 2
    assert not [path for path in kept if b"sesame-secret" in path.read_bytes()]
    assert "1 not delivered yet" in run(command=status).stdout
    (tmp_path / "second.json").write_text("[2]")
    done = run(str(tmp_path / "second.json"))
    assert done.exit_code == 0
    assert "from the spool: " in done.stderr
    assert [upload.body for upload in receiver.uploads] == [b"[2]", BODY]
    assert Spool(tmp_path / "spool").items() == []


def test_flush_sends_what_waits_and_counts_it(run, receiver: Receiver, result: Path) -> None:
    receiver.plan.append(503)
    assert run(str(result), "--timeout", "0").exit_code == 2
    receiver.plan.append(503)
    assert run("--flush", "--timeout", "0").exit_code == 2
    done = run("--flush")
    assert (done.exit_code, len(receiver.uploads)) == (0, 1)
    assert "submitted" in done.stdout
    empty = run("--flush")
    assert (empty.exit_code, "nothing waits" in empty.stderr) == (0, True)


def test_no_spool_keeps_nothing(run, receiver: Receiver, result: Path, tmp_path: Path) -> None:
    receiver.plan.append(503)
    assert run(str(result), "--timeout", "0", "--no-spool").exit_code == 2
    assert not (tmp_path / "spool").exists()


def test_a_refusal_is_not_delivered_and_not_spooled(run, receiver: Receiver, result: Path, tmp_path: Path) -> None:
    receiver.plan.append(403)
    done = run(str(result))
    assert done.exit_code == 2
    assert "planned 403" in done.stderr
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize(
    ("states", "exit_code"),
    [
        (["received", "announced", "accepted"], 0),
        (["received", "rejected"], 1),
        (["quarantined"], 3),
        (["received"], 3),
    ],
)
def test_wait_ends_with_the_state(run, receiver: Receiver, result: Path, states: list[str], exit_code: int) -> None:
    receiver.states = states
    done = run(str(result), "--wait", "--timeout", "1.5" if states == ["received"] else "30")
    assert done.exit_code == exit_code
    assert f"{result}: {states[-1]}" in done.stdout


def test_wait_prints_every_problem_and_no_terminal_codes(run, receiver: Receiver, result: Path) -> None:
    receiver.states = ["rejected"]
    receiver.problems = [
        {"where": "/runs/0/value", "expected": "a number", "found": '"\x1b[31mfast"'},
        {"where": "/runs/1", "expected": "a known status", "found": "meh", "effect": "kept"},
    ]
    done = run(str(result), "--wait")
    assert done.exit_code == 1
    assert '  /runs/0/value: expected a number, found " [31mfast"' in done.stdout
    assert "  /runs/1: expected a known status, found meh (kept)" in done.stdout


def test_json_is_one_line_per_file_with_receipt_and_state(
    run, receiver: Receiver, result: Path, tmp_path: Path
) -> None:
    receiver.states = ["received", "rejected"]
    receiver.problems = [{"where": "/", "expected": "a", "found": "b"}]
    done = run(str(tmp_path / "absent"), str(result), "--wait", "--json")
    missing, sent = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 2
    assert (missing["status"], missing["exit_status"]) == ("failed", 2)
    assert (sent["status"], sent["exit_status"], sent["submission"]["state"]) == ("created", 1, "rejected")
    assert sent["submission"]["problems"] == receiver.problems
    assert sent["page"] == f"{receiver.url}/submissions/{sent['receipt']['id']}"
    receiver.plan.append(503)
    (spooled,) = [json.loads(line) for line in run(str(result), "--json", "--timeout", "0").stdout.splitlines()]
    assert (spooled["status"], spooled["exit_status"]) == ("spooled", 2)
    assert Path(spooled["kept"]).is_dir()
    (dry,) = [json.loads(line) for line in run(str(result), "--json", "--dry-run").stdout.splitlines()]
    assert (dry["project"], dry["size_bytes"]) == ("default", len(BODY))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["x", "--to", "http://u:p@h"],
        ["x", "--chunk", "1/2"],
        ["x", "--supersedes", "7"],
        ["x", "--label", "novalue"],
        ["x", "--project", "Not A Project"],
        ["x", "--machine", "mhz=1"],
    ],
)
def test_a_wrong_option_is_said_before_anything_is_sent(run, receiver: Receiver, arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.exit_code, receiver.attempts) == (2, 0)
    assert "Error: " in done.stderr


def test_one_chunk_is_one_file(run, result: Path, tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text("[]")
    done = run(str(result), str(tmp_path / "b.json"), "--chunk", "1/2", "--run-group", "g")
    assert done.exit_code == 2
    assert "expected one FILE, found 2" in done.stderr


def test_a_token_comes_from_a_file_and_a_plain_connection_is_warned_of(
    run, receiver: Receiver, result: Path, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("sesame\n")
    done = run(str(result), "--token-file", str(tmp_path / "token"))
    assert receiver.uploads[0].headers["authorization"] == "Bearer sesame"
    assert "unencrypted" not in done.stderr
    far = run(str(result), "--token-file", str(tmp_path / "token"), "--to", "http://runfeed.example", "--dry-run")
    assert "unencrypted" in far.stderr


def test_the_project_is_the_repositorys_name_unless_said(run, receiver: Receiver, result: Path, monkeypatch) -> None:
    subprocess.run(["git", "init", "--quiet", "../My_Repo"], check=True)
    monkeypatch.chdir("../My_Repo")
    assert run(str(result)).exit_code == 0
    monkeypatch.setenv("RUNFEED_PROJECT", "by-env")
    assert run(str(result)).exit_code == 0
    assert run(str(result), "--project", "by-hand").exit_code == 0
    assert [upload.query["project"] for upload in receiver.uploads] == ["my_repo", "by-env", "by-hand"]


def test_status_of_a_submission_is_its_exit_status(run, receiver: Receiver, result: Path) -> None:
    run(str(result))
    (submission,) = receiver.known
    done = run(submission, command=status)
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, "accepted: 3 measurements")
    receiver.states = ["rejected"]
    page = f"{receiver.url}/submissions/{submission}"
    assert run(page, "--to", "http://127.0.0.1:1", command=status).exit_code == 1
    receiver.states = ["announced"]
    as_json = run(submission, "--json", command=status)
    assert (as_json.exit_code, json.loads(as_json.stdout)["state"]) == (3, "announced")
    unknown = run("0" * 64, command=status)
    assert (unknown.exit_code, "no such submission" in unknown.stderr) == (2, True)
    assert run("123", command=status).exit_code == 2


def test_status_of_the_system_is_shown_whatever_it_holds(run, receiver: Receiver, nobody: str) -> None:
    done = run(command=status)
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        receiver.url,
        "  version  7",
        "  queue",
        "    waiting  1,234",
        "  loops",
        "    0  announce",
        "    1  load",
    ]
    assert json.loads(run("--json", command=status).stdout)["version"] == 7
    away = run("--to", nobody, command=status)
    assert (away.exit_code, "refused" in away.stderr) == (2, True)


def test_any_json_is_shown_on_lines() -> None:
    value = {"a": {}, "b": [], "c": [{"d": None}], "e": True, "f": 1.5, "g": "x\ny\x1b"}
    assert list(tree_lines(value)) == ["a  none", "b  none", "c", "  0", "    d  None", "e  True", "f  1.5", "g  x y"]
    assert plain("a\x9b31m\u202e") == "a 31m\u202e"


def test_an_interrupted_push_is_not_delivered(receiver: Receiver, result: Path, tmp_path: Path) -> None:
    """Ctrl-C must not look like exit status 1, which means rejected."""
    receiver.plan.append("hang")
    code = "import signal; signal.signal(2, signal.default_int_handler); from ingest.push_cli import push; push()"
    environ = {**os.environ, "RUNFEED_SPOOL": str(tmp_path / "spool"), "RUNFEED_URL": receiver.url}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(result)],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not receiver.attempts and process.poll() is None:
            receiver.ended.wait(0.02)
        process.send_signal(2)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 2, told
    assert "interrupted" in told


def test_a_terminal_gets_a_bar_and_a_log_gets_lines(receiver: Receiver, result: Path, tmp_path: Path) -> None:
    """Run on a pseudo-terminal, standard error shows a bar while standard output keeps the receipt alone."""
    controller, terminal = os.openpty()
    environ = {**os.environ, "RUNFEED_SPOOL": str(tmp_path / "spool"), "RUNFEED_URL": receiver.url, "TERM": "xterm"}
    code = "from ingest.push_cli import push; push()"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, str(result)],
            env=environ, stdout=subprocess.PIPE, stderr=terminal, stdin=subprocess.DEVNULL, timeout=30, check=False,
        )  # fmt: skip
        shown = os.read(controller, 1 << 16)
    finally:
        os.close(terminal)
        os.close(controller)
    assert done.returncode == 0
    assert done.stdout.decode().splitlines()[0].endswith("submitted")
    assert b"\x1b[" not in done.stdout
    assert "━".encode() in shown


# --- HTTPS ---


@pytest.fixture
def private_receiver(tmp_path: Path) -> Iterator[tuple[str, Path, Receiver]]:
    """A server with a certificate that no machine trusts by itself: its URL, the certificate, and itself."""
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Receiver() as receiver:
        receiver._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who does not trust us hangs up
        receiver._server.socket = context.wrap_socket(receiver._server.socket, server_side=True)
        yield receiver.url.replace("http:", "https:"), certificate, receiver


def test_a_pinned_authority_is_the_only_one_believed(
    private_receiver: tuple[str, Path, Receiver], result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, certificate, receiver = private_receiver
    monkeypatch.setenv("RUNFEED_SPOOL", str(tmp_path / "spool"))
    options = [str(result), "--to", url, "--timeout", "0", "--no-spool"]
    (tmp_path / "other").mkdir()
    other, _ = make_certificate(tmp_path / "other")
    for pinned in ([], ["--ca", str(other)]):
        told = CliRunner().invoke(push, [*options, *pinned])
        assert (told.exit_code, receiver.uploads) == (2, [])
        assert "CERTIFICATE_VERIFY_FAILED" in told.output
    assert CliRunner().invoke(push, [*options, "--ca", str(certificate)]).exit_code == 0
    monkeypatch.setenv("RUNFEED_CA", str(certificate))
    assert CliRunner().invoke(push, options).exit_code == 0
    assert CliRunner().invoke(status, ["--to", url]).exit_code == 0
    assert len(receiver.uploads) == 2


def test_a_ca_file_without_certificates_is_refused_before_anything_is_sent(receiver: Receiver, result: Path) -> None:
    told = CliRunner().invoke(push, [str(result), "--to", receiver.url.replace("http:", "https:"), "--ca", str(result)])
    assert told.exit_code == 2
    assert "--ca: expected a PEM file of certificates" in told.output
