"""Everything dies at random and nothing is lost: a short run of the fault harness, and proof that it would notice."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE, Popen

import boto3
import msgspec
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.s3 import open_s3
from schemas import keys
from schemas.errors import Unavailable
from tests.chain import Chain, measured
from tests.faults import check
from tests.faults.chaos import KINDS, plan
from tests.faults.follower import Follower
from tests.faults.mixed_files import push_of
from tests.faults.proxy import TROUBLES, Counts, Order, Weather
from tests.faults.run import run
from tests.faults.topology import lasting_ports, proxy_command
from tests.servers import S3Server, ServerAbsent, seaweedfs_command, valkey_command

SOAK = bool(os.environ.get("RUNFEED_SOAK"))


@pytest.fixture
def servers_are_here(tmp_path: Path) -> None:
    """SeaweedFS and Valkey can be started; where they cannot, tests skip at home and fail in CI."""
    try:
        seaweedfs_command(tmp_path / "unused", list(range(10)))
        valkey_command()
    except ServerAbsent as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.mark.usefixtures("servers_are_here")
@pytest.mark.timeout(3600 if SOAK else 290)
@pytest.mark.parametrize(
    ("submissions", "faults"), [pytest.param(20_000, 200, marks=pytest.mark.soak) if SOAK else (600, len(KINDS))]
)
def test_whatever_dies_nothing_is_lost_and_nothing_is_there_twice(
    tmp_path: Path, submissions: int, faults: int
) -> None:
    """Each kind of fault at least once. `python -m tests.faults --seed` with the seed that is printed does it again."""
    seed = secrets.randbelow(1_000_000)
    print(f"seed {seed}")
    report = run(tmp_path, submissions=submissions, faults=faults, seed=seed)
    print("\n".join(report.lines()))
    assert report.breaches == []
    assert (report.lost, report.doubled) == (0, 0)
    assert sum(report.faults.values()) == faults
    assert report.faults.keys() == KINDS.keys()
    assert report.receipts > 0.9 * submissions
    assert report.requests_harmed


def test_a_seed_decides_faults_and_files() -> None:
    assert plan(7, 60) == plan(7, 60)
    assert plan(7, 60) != plan(8, 60)
    assert {fault.kind for fault in plan(7, len(KINDS))} == KINDS.keys()
    assert [push_of(7, n).id for n in range(200)] == [push_of(7, n).id for n in range(200)]
    assert push_of(7, 1).id != push_of(8, 1).id


# --- the count notices ---


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """Three submissions that have gone all the way."""
    chain = Chain(tmp_path / "data")
    chain.done(measured(1), measured(2))
    chain.done(measured(3))
    return chain


def test_the_count_of_an_undisturbed_run_is_empty(chain: Chain) -> None:
    truth = check.read_truth(chain.buckets.public)
    ids = {entry.id for entry in truth.entries}
    assert len(ids) == 3
    assert [*check.lost(truth, ids), *check.doubled(truth), *check.disordered(truth, ids)] == []
    assert check.different(truth, truth) == []
    assert check.private_in_public(chain.buckets.public, ["a secret"]) == []


def test_the_count_names_what_is_lost(chain: Chain) -> None:
    truth = check.read_truth(chain.buckets.public)
    ids = [entry.id for entry in truth.entries]
    assert check.lost(truth, ["f" * 64]) == [f"{'f' * 64} has a receipt and no entry"]
    assert check.lost(replace(truth, outcomes=truth.outcomes[1:]), ids) == [
        f"{id} has an entry and no verdict" for id in sorted(ids[:2])
    ]


def test_the_count_names_what_is_there_twice(chain: Chain) -> None:
    truth = check.read_truth(chain.buckets.public)
    assert check.doubled(replace(truth, entries=[*truth.entries, truth.entries[0]])) == [
        f"{truth.entries[0].id} has several entries"
    ]
    assert check.doubled(replace(truth, outcomes=[*truth.outcomes, truth.outcomes[1]])) == ["3 has several verdicts"]


def test_the_count_names_what_is_out_of_order(chain: Chain) -> None:
    truth = check.read_truth(chain.buckets.public)
    ids = {entry.id for entry in truth.entries}
    assert "the submissions log is not dense" in check.disordered(replace(truth, entries=truth.entries[1:]), ids)
    assert check.disordered(truth, ids - {truth.entries[0].id}) == [
        f"{truth.entries[0].id} was announced but never pushed"
    ]


def test_the_count_names_rows_that_differ(chain: Chain, tmp_path: Path) -> None:
    """A row more, or another value, in a submission of the same id."""
    truth = check.read_truth(chain.buckets.public)
    other = Chain(tmp_path / "other")
    other.done(measured(1), measured(2), measured(3))
    assert check.different(truth, check.read_truth(other.buckets.public)) == [], "seq, batch and time do not count"
    id = truth.entries[0].id
    doctored = replace(truth, rows={**truth.rows, "measurements": {**truth.rows["measurements"], id: "another"}})
    assert check.different(doctored, truth) == [f"{id} has other rows in measurements"]


def test_the_count_names_what_is_private(chain: Chain) -> None:
    public = chain.buckets.public
    public.create("pending/submissions/p/x", b"")
    public.create("projects/told.json", b'{"title": "a secret"}')
    assert check.private_in_public(public, ["a secret"]) == [
        "pending/submissions/p/x is private and in the public bucket",
        "projects/told.json holds a secret",
    ]


def test_a_follower_notices_a_changed_past(chain: Chain) -> None:
    follower = Follower(chain.buckets.public)
    follower.look()
    follower.look_again()
    assert follower.contradictions == []
    head = chain.data / "public" / keys.feed_head(keys.SUBMISSIONS_LOG)
    head.write_bytes(head.read_bytes().replace(b"p: result", b"p: another"))
    follower.look_again()
    assert len(follower.contradictions) == 3
    chain.data.joinpath("public", "feeds").rename(chain.data / "gone")
    follower.look()
    assert "has 0" in follower.contradictions[-1]


# --- the proxy ---


@contextmanager
def proxied(s3_server: S3Server) -> Iterator[tuple[S3Server, "Popen[str]"]]:
    [port] = lasting_ports(1)
    command = proxy_command(port, int(s3_server.endpoint.rpartition(":")[2]))
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as proxy:
        assert proxy.stdout
        assert proxy.stdout.readline() == "ready\n"
        try:
            yield replace(s3_server, endpoint=f"http://127.0.0.1:{port}"), proxy
        finally:
            proxy.kill()


def order(proxy: "Popen[str]", weather: Weather) -> Counts:
    assert proxy.stdin
    assert proxy.stdout
    proxy.stdin.write(msgspec.json.encode(Order(weather=weather)).decode() + "\n")
    proxy.stdin.flush()
    return msgspec.json.decode(proxy.stdout.readline(), type=Counts)


def test_requests_pass_the_proxy_as_they_were_signed(s3_server: S3Server, tmp_path: Path) -> None:
    """Small ones, empty ones, those in pieces, those that are refused."""
    large = tmp_path / "large"
    large.write_bytes(b"x" * (9 << 20))
    with proxied(s3_server) as (server, proxy):
        bucket = open_s3(f"s3://proxy-{secrets.token_hex(4)}", server.environ)
        bucket.check_conditional_writes()
        bucket.create("a/b", b"")
        bucket.create("a/large", large)
        assert bucket.read("a/b") == b""
        assert bucket.read("a/large") == large.read_bytes()
        assert list(bucket.list("a/")) == ["a/b", "a/large"]
        with pytest.raises(FileExistsError):
            bucket.create("a/b", b"")
        with pytest.raises(FileNotFoundError):
            bucket.read("a/none")
        counts = order(proxy, Weather())
    assert counts.requests["GET a"] >= 3
    assert counts.troubles == {}


def test_a_start_whose_answers_get_lost_is_told_to_try_again(s3_server: S3Server) -> None:
    """A write that was made and not confirmed is found there when the client tries again: no crash, no "no"."""
    with proxied(s3_server) as (server, proxy):
        ends = []
        for seed in range(6):
            order(proxy, Weather(seed=seed, lost=0.3))
            try:
                open_s3(f"s3://proxy-{secrets.token_hex(4)}", server.environ).check_conditional_writes()
                ends.append("started")
            except Unavailable:
                ends.append("told to try again")
    assert "told to try again" in ends


@pytest.mark.parametrize("trouble", [trouble for trouble in TROUBLES if trouble != "slow"])
def test_the_proxy_harms_as_told(s3_server: S3Server, trouble: str) -> None:
    """What is lost, denied or truncated was done all the same; of the rest nothing was."""
    name = f"proxy-{secrets.token_hex(4)}"
    past = open_s3(f"s3://{name}", s3_server.environ)
    past.create("a/b", b"1" * 1000)
    with proxied(s3_server) as (server, proxy):
        once = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            region_name="us-east-1",
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
            config=Config(retries={"total_max_attempts": 1}),
        )
        order(proxy, Weather(seed=1, **{trouble: 1.0}))
        half_a_head = (
            contextlib.nullcontext() if trouble == "truncated" else pytest.raises((ClientError, BotoCoreError))
        )
        with half_a_head:  # is enough for this client, when there is nothing to come after it
            once.put_object(Bucket=name, Key="a/c", Body=b"2")
        with pytest.raises((ClientError, BotoCoreError)):
            once.get_object(Bucket=name, Key="a/b")["Body"].read()
        assert order(proxy, Weather()).troubles == {trouble: 2}
        assert once.get_object(Bucket=name, Key="a/b")["Body"].read() == b"1" * 1000
        once.close()
    assert list(past.list("a/")) == (["a/b", "a/c"] if trouble in ("lost", "denied", "truncated") else ["a/b"])
