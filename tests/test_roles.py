"""The four roles as processes of their own: what they do together, and what happens when one of them dies."""

import contextlib
import datetime
import hashlib
import ipaddress
import json
import os
import re
import secrets
import signal
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import httpx
import msgspec
import pytest
import redis

from feed import choice
from feed.announceable import describe_submission
from feed.announcer import Announcer
from feed.log import LogReader
from infra.bucket import Bucket, Buckets
from infra.clock import now
from infra.folder import FolderBucket
from infra.lease import LeaseRecord
from infra.s3 import open_s3
from ingest.admit import admit
from processor.batch import ATTEMPTS_TOGETHER, DEATHS_ALLOWED
from schemas import keys
from schemas.records import Blob, Context, Outcome, Trust
from tests.running import RUNFEED, Running
from tests.servers import RedisServer, S3Server, free_ports, valkey

PATIENCE_SECONDS = 30.0
HEARTBEAT_SECONDS = 1
LEASE_SECONDS = 2
HOSTILE = str(Path(__file__).with_name("hostile_formats"))


class Role:
    """One `runfeed <role>`: its own process on a free port of 127.0.0.1, ended by its own id."""

    def __init__(self, name: str, data: Path, log: Path, environ: dict[str, str]) -> None:
        self.name = name
        self._log = log
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                [RUNFEED, name, "--data", str(data), "--port", "0", "--log-level", "info"],
                stdout=subprocess.PIPE,
                stderr=out,
                text=True,
                env=environ | {"PYTHONUNBUFFERED": "1"},
            )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        match = re.fullmatch(rf"Runfeed {name} is up: (https?://\S+)\n", said)
        if not match:
            self.end(signal.SIGKILL)
            raise AssertionError(f"{name} did not start: {said}{self.log()}")
        self.url = match[1]

    def end(self, number: int) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(PATIENCE_SECONDS)

    def log(self) -> str:
        return self._log.read_text()

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=10)


class Topology:
    """Roles that share buckets and a queue; each `start` is one more process."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.folder = folder
        self.environ = environ
        self.roles: list[Role] = []

    def start(self, name: str, **settings: str) -> Role:
        number = len(self.roles)
        with_s3 = "RUNFEED_BUCKET" in self.environ
        data = self.folder / f"{name}-{number}" if with_s3 else self.folder / "data"
        environ = self.environ | {f"RUNFEED_{key.upper()}": value for key, value in settings.items()}
        role = Role(name, data, self.folder / f"{name}-{number}.log", environ)
        self.roles.append(role)
        return role

    @property
    def buckets(self) -> Buckets:
        if "RUNFEED_BUCKET" not in self.environ:
            return Buckets(FolderBucket(self.folder / "data/public"), FolderBucket(self.folder / "data/private"))
        return Buckets(*(open_s3(self.environ[f"RUNFEED_{name}BUCKET"], self.environ) for name in ("", "PRIVATE_")))

    def outcome(self, submission: str) -> str:
        """Its verdict, as soon as there is one."""
        verdict = ""

        def found() -> bool:
            nonlocal verdict
            public = self.buckets.public
            for key in public.list("lake/v1/outcomes/"):
                for one in msgspec.json.decode(public.read(key), type=Outcome).submissions:
                    if one.id == submission:
                        verdict = one.verdict
            return bool(verdict)

        wait_until(found, self)
        return verdict

    def logs(self) -> str:
        return "".join(f"--- {role.name}\n{role.log()[-2000:]}" for role in self.roles)


def wait_until(condition: Callable[[], object], topology: Topology | None = None) -> float:
    """The seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE_SECONDS, f"it did not happen\n{topology.logs() if topology else ''}"
        time.sleep(0.05)
    return time.monotonic() - began


@contextlib.contextmanager
def topology_of(folder: Path, environ: dict[str, str]) -> Iterator[Topology]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RUNFEED_", "AWS_"))}
    own = {
        "RUNFEED_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
        "RUNFEED_LEASE_SECONDS": str(LEASE_SECONDS),
        "RUNFEED_WORKER_PROCESSES": "1",
    }
    topology = Topology(folder, clean | own | environ)
    try:
        yield topology
    finally:
        for role in topology.roles:
            role.end(signal.SIGKILL)


@pytest.fixture
def on_s3(tmp_path: Path, s3_server: S3Server, redis_server: RedisServer) -> Iterator[Topology]:
    """On SeaweedFS and Valkey."""
    names = [f"{kind}-{secrets.token_hex(4)}" for kind in ("pub", "priv")]
    client = boto3.client(
        "s3",
        endpoint_url=s3_server.endpoint,
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
        region_name="us-east-1",
    )
    for name in names:
        client.create_bucket(Bucket=name)
    client.close()
    where = {"RUNFEED_BUCKET": f"s3://{names[0]}", "RUNFEED_PRIVATE_BUCKET": f"s3://{names[1]}"}
    with topology_of(tmp_path, s3_server.environ | where | {"RUNFEED_REDIS": redis_server.url}) as topology:
        yield topology


@pytest.fixture
def on_a_folder(tmp_path: Path, redis_server: RedisServer) -> Iterator[Topology]:
    """On one machine: a folder, and Valkey."""
    with topology_of(tmp_path, {"RUNFEED_REDIS": redis_server.url}) as topology:
        yield topology


def put(buckets: Buckets, body: bytes, project: str = "p") -> str:
    """Admit `body` as ingest does; the submission's id."""
    blob = Blob(sha256=hashlib.sha256(body).hexdigest(), size_bytes=len(body))
    return admit(buckets, body, blob, project=project, format="auto", context=Context(), trust=Trust(), now=now()).id


def measured(value: float) -> bytes:
    return json.dumps({"benchmark": "b", "metric": "t", "value": value}).encode()


def entries_of(public: Bucket) -> list[Any]:
    log, entries = LogReader(public, keys.SUBMISSIONS_LOG), []
    while more := log.entries_after(len(entries)):
        entries += more
    return entries


def check_announced_once(public: Bucket, submissions: set[str]) -> None:
    entries = entries_of(public)
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert Counter(entry.id for entry in entries) == Counter(submissions)


# --- together ---


def test_a_result_travels_through_four_processes_and_all_of_them_end_cleanly(on_s3: Topology) -> None:
    ingest, announce, work, dashboard = (on_s3.start(name) for name in ("ingest", "announce", "work", "dashboard"))
    for role in on_s3.roles:
        assert role.get("/healthz").status_code == 200
        wait_until(lambda role=role: role.get("/readyz").json() == {"ready": True, "failing": {}}, on_s3)
    answers = [httpx.post(f"{ingest.url}/api/v1/submissions?project=p", content=measured(n)) for n in range(5)]
    submissions = {answer.json()["id"] for answer in answers}
    assert len(submissions) == 5

    def states() -> set[str]:
        return {dashboard.get(f"/api/v1/submissions/{one}").json().get("state", "") for one in submissions}

    took = wait_until(lambda: states() == {"accepted"}, on_s3)
    assert took < 10
    assert {row["project"] for row in dashboard.get("/api/v1/runs").json()["items"]} == {"p"}
    assert dashboard.get("/feeds/submissions/current.atom").status_code == 200
    assert dashboard.get("/").status_code == 200
    assert ingest.get("/api/v1/runs").status_code == 404, "each role serves its own"
    assert work.get("/api/v1/submissions").status_code == 404
    check_announced_once(on_s3.buckets.public, submissions)
    assert not list(on_s3.buckets.private.list("attempts/")), "a first delivery costs storage nothing"
    assert not (on_s3.folder / "announce-1").exists(), "nothing local is kept"
    assert not (on_s3.folder / "work-2").exists()

    for role in on_s3.roles:
        began = time.monotonic()
        assert role.end(signal.SIGTERM) == 0, role.log()
        assert time.monotonic() - began < 10
        for line in role.log().splitlines():
            assert json.loads(line)["event"], "each line is one JSON object, those of libraries too"
    record = msgspec.json.decode(on_s3.buckets.private.read(keys.lease("announce")), type=LeaseRecord)
    assert record.holder == "", "given back"
    assert announce.process.returncode == 0


def test_up_with_a_redis_shares_its_batches_with_other_workers(on_a_folder: Topology) -> None:
    """`up` is all roles in one process; a worker beside it takes what its own worker is too busy for."""
    data = on_a_folder.folder / "data"
    server = Running(data, "--redis", on_a_folder.environ["RUNFEED_REDIS"]).start()
    try:
        assert server.client.get("/readyz").json()["ready"]
        hung = server.push(b'{"hostile": "sleep"}')["id"]  # no such format here: rejected at once
        assert server.wait_for(hung)["state"] == "rejected"
        helper = on_a_folder.start("work")
        assert helper.get("/readyz").json() == {"ready": True, "failing": {}}
        done = {server.push(measured(n))["id"] for n in range(5)}
        for one in done:
            assert server.wait_for(one)["state"] == "accepted"
    finally:
        assert server.stop() == 0
        server.client.close()


# --- one dies ---


def test_a_batch_whose_worker_is_killed_is_done_by_another_within_the_heartbeat(on_a_folder: Topology) -> None:
    on_a_folder.environ |= {"PYTHONPATH": HOSTILE, "TMPDIR": str(on_a_folder.folder)}
    on_a_folder.start("announce")
    first = on_a_folder.start("work")
    submission = put(on_a_folder.buckets, b'{"hostile": "hang once"}')
    wait_until((on_a_folder.folder / "hung-once").exists, on_a_folder)
    on_a_folder.start("work")
    first.end(signal.SIGKILL)
    began = time.monotonic()
    assert on_a_folder.outcome(submission) == "accepted"
    assert time.monotonic() - began < HEARTBEAT_SECONDS + 6
    assert not list(on_a_folder.buckets.private.list("attempts/")), "settled"


def test_a_file_that_kills_every_worker_is_quarantined_and_its_mates_get_through(on_a_folder: Topology) -> None:
    on_a_folder.environ |= {"PYTHONPATH": HOSTILE}
    mates = [put(on_a_folder.buckets, measured(n)) for n in range(2)]
    poison = put(on_a_folder.buckets, b'{"hostile": "kill the worker"}')
    on_a_folder.start("announce")
    deaths = 0
    worker = on_a_folder.start("work")
    deadline = time.monotonic() + 2 * PATIENCE_SECONDS
    while not list(on_a_folder.buckets.public.list("lake/v1/outcomes/")):
        assert time.monotonic() < deadline, on_a_folder.logs()
        if worker.process.poll() is not None:
            deaths += 1
            worker = on_a_folder.start("work")
        time.sleep(0.05)
    assert DEATHS_ALLOWED < deaths <= 1 + ATTEMPTS_TOGETHER + DEATHS_ALLOWED
    assert [on_a_folder.outcome(one) for one in mates] == ["accepted", "accepted"]
    assert on_a_folder.outcome(poison) == "quarantined"
    after = put(on_a_folder.buckets, measured(3))
    assert on_a_folder.outcome(after) == "accepted"
    assert worker.process.poll() is None


def test_a_queue_that_loses_everything_costs_seconds(tmp_path: Path) -> None:
    """Batches wait in the queue, and Redis is emptied, then restarted without anything."""
    port = free_ports(1)[0]
    with ExitStack() as stack:
        first = stack.enter_context(contextlib.ExitStack())
        server = first.enter_context(valkey(tmp_path / "redis", port))
        topology = stack.enter_context(topology_of(tmp_path, {"RUNFEED_REDIS": server.url}))
        announcer = topology.start("announce")
        flushed = put(topology.buckets, measured(1))
        client = redis.Redis.from_url(server.url)
        wait_until(lambda: client.keys("runfeed-*:batches.msgs"), topology)
        client.flushall()
        client.close()
        topology.start("work")
        began = time.monotonic()
        assert topology.outcome(flushed) == "accepted"
        assert time.monotonic() - began < 10
        first.close()
        wait_until(lambda: announcer.get("/readyz").status_code == 503, topology)
        assert announcer.get("/healthz").status_code == 200
        while_away = put(topology.buckets, measured(2))
        stack.enter_context(valkey(tmp_path / "redis", port))
        assert topology.outcome(while_away) == "accepted"
        wait_until(lambda: announcer.get("/readyz").status_code == 200, topology)


def test_announcers_take_over_from_each_other_and_the_log_stays_dense(on_s3: Topology) -> None:
    """One is stopped for longer than the others' patience and wakes up again, one is killed, one ends by itself."""
    submissions = set()

    def announced(value: int) -> float:
        submissions.add(put(on_s3.buckets, measured(value)))
        return wait_until(lambda: len(entries_of(on_s3.buckets.public)) == len(submissions), on_s3)

    first, second = on_s3.start("announce"), on_s3.start("announce")
    announced(1)
    first.process.send_signal(signal.SIGSTOP)
    assert announced(2) < 2 * LEASE_SECONDS + 4
    first.process.send_signal(signal.SIGCONT)
    wait_until(lambda: "lease lost" in first.log(), on_s3)
    announced(3)
    second.end(signal.SIGKILL)
    assert announced(4) < 2 * LEASE_SECONDS + 4
    third = on_s3.start("announce")
    assert first.end(signal.SIGTERM) == 0
    announced(5)
    check_announced_once(on_s3.buckets.public, submissions)
    assert third.process.poll() is None


def test_a_flood_of_one_project_does_not_keep_others_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than fits a commit waits; whoever comes after it is in the next commit all the same."""
    monkeypatch.setattr(choice, "MAX_COMMIT_ENTRIES", 50)
    buckets = Buckets(FolderBucket(tmp_path / "public"), FolderBucket(tmp_path / "private"))
    for n in range(80):
        put(buckets, measured(n), project="flood")
    late = {put(buckets, measured(n), project=f"small-{n}") for n in range(3)}
    log = LogReader(buckets.public, keys.SUBMISSIONS_LOG)
    announcer = Announcer(buckets, log, describe_submission, clock=now, threads=1)
    assert announcer.commit() == 50
    assert late <= {entry.id for entry in log.head().entries}


# --- refusals at the start ---


@pytest.mark.parametrize(
    ("command", "settings", "reason"),
    [
        ("work", {}, "redis: expected redis://host:port of the queue that all share"),
        ("announce", {}, "redis: expected redis://host:port of the queue that all share"),
        ("ingest", {}, "bucket: expected s3://name"),
        ("dashboard", {}, "bucket: expected s3://name"),
        ("announce", {"redis": "redis://:secret-word@127.0.0.1:1"}, "redis://127.0.0.1:1: Redis cannot be reached"),
        ("work", {"bucket": "s3://pub", "redis": "redis://127.0.0.1:1"}, "private_bucket: expected a second bucket"),
        (
            "ingest",
            {"bucket": "s3://pub", "private_bucket": "s3://priv", "aws_endpoint_url": "http://127.0.0.1:1"},
            "expected AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, found neither",
        ),
        ("up", {"tls_certificate": "cert.pem"}, "tls_key: expected a PEM file, as there is a tls_certificate"),
        ("up", {"tls_certificate": "none.pem", "tls_key": "none.pem"}, "none.pem: No such file or directory"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(
    tmp_path: Path, command: str, settings: dict[str, str], reason: str
) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("RUNFEED_", "AWS_"))}
    given = {
        name.upper() if name.startswith("aws_") else f"RUNFEED_{name.upper()}": value
        for name, value in settings.items()
    }
    done = subprocess.run(
        [RUNFEED, command, "--data", str(tmp_path / "data"), "--port", "0"],
        env=environ | given,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("runfeed: "), done.stderr
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "secret-word" not in done.stderr


def test_two_dashboards_need_two_data_folders_and_two_workers_need_none(on_a_folder: Topology) -> None:
    on_a_folder.start("dashboard")
    with pytest.raises(AssertionError, match="in use by another `runfeed up` or `runfeed dashboard`"):
        on_a_folder.start("dashboard")
    on_a_folder.start("work")
    on_a_folder.start("work")


# --- TLS ---


def test_with_certificate_and_key_a_role_speaks_https(on_a_folder: Topology) -> None:
    certificate, key = make_certificate(on_a_folder.folder)
    dashboard = on_a_folder.start("dashboard", tls_certificate=str(certificate), tls_key=str(key))
    assert dashboard.url.startswith("https://127.0.0.1:")
    trusting = ssl.create_default_context(cafile=str(certificate))
    assert httpx.get(f"{dashboard.url}/healthz", verify=trusting).json() == {"alive": True}
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{dashboard.url}/healthz")


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """PEM files of a certificate for 127.0.0.1, signed by itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "runfeed test")])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "cert.pem", folder / "key.pem"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file
