"""Rights, on a real server with exactly the documents that `runfeed policies` prints.

Proved on SeaweedFS: identity policies, the policy of a bucket (anonymous and per principal, conditions on HTTPS and on
prefixes), CORS, and that it keeps lifecycle rules. Not proved, since no server here does it: that S3 carries lifecycle
rules out, tells the queue (moto shows the event, `tests/test_inbox.py`), blocks public access, or answers 403 for an
absent object to whoever may not list.
"""

import itertools
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner

from dashboard_api.dashboard import Dashboard
from feed.announceable import describe_submission
from feed.announcer import Announcer
from feed.hub.subscriptions import Subscriptions
from feed.log import LogReader
from feed.signing import Signer
from feed.withdrawals import noted_withdrawals
from infra.aws import Place, client_options
from infra.bucket import Buckets
from infra.lease import Lease
from infra.policies import Queue, documents, inbox_notifications, private_policy, queue_policy, seaweedfs_identities
from infra.policies_apply import apply_policies
from infra.rights import ROLES
from infra.s3 import open_s3
from infra.settings import Settings
from infra.storage import open_buckets, open_public
from ingest.admit import admit
from ingest.projects import add_project
from ingest.push import GRANT_BYTES
from ingest.runners import set_runner
from ingest.tokens import create_token, token_for
from ingest.withdraw import find, withdraw
from processor.batch import Processor
from processor.current import CurrentLake
from processor.dispatcher import write_checkpoint
from processor.lake import outcome_of
from processor.purge import Purge
from processor.reading.decode import DecodeLimits
from runfeed import cli
from schemas import keys
from schemas.errors import Refused, Unavailable
from schemas.records import Blob, Context, Subscription, Trust
from tests.chain import InThisProcess, load, measured
from tests.running import RUNFEED
from tests.servers import S3Server, ServerAbsent, seaweedfs, valkey
from tests.test_roles import Topology, topology_of, wait_until

PUBLIC, PRIVATE = Place("results"), Place("results-private")
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
QUEUE = Queue("arn:aws:sqs:eu-west-1:123456789012:inbox", "123456789012")
STRANGER = "arn:aws:iam::000000000000:user/stranger"
"""A principal as SeaweedFS spells it."""

SECRETS = {
    name: (f"{name}-key", f"no-secret-of-{name}-at-all") for name in ("admin", *ROLES, "alice", "alice2", "stranger")
} | {"admin": ("runfeed-test", "no-secret-at-all")}

KEYS = {
    "public": (
        "blobs/aa/x", "submissions/aa/x.json", "feeds/other/current.atom", "lake/v9/runs/x.parquet",
        "lake/v9/outcomes/x/000000.json", "projects/p.json", "benchmarks/p/b/000001.json",
        "withdrawals/aa/x.json", "snapshots/v1/x", "probe/x/y", "elsewhere/x",
    ),
    "private": (
        "pending/submissions/p/x", "pending/outcomes-v9/batches/x", "attempts/v9/x/000001/x", "checkpoints/x.json",
        "leases/announce.json", "leases/hub.json", "hub/x.json", "tokens/x.json", "runners/x.json", "projects/p.json",
        "inbox/alice/x", "inbox-refused/alice/x.json", "uploads/x/body", "swept/x", "withdrawing/x",
        "sources/x.json", "sources/x/state.json", "probe/x/y", "elsewhere/x",
    ),
}  # fmt: skip
"""One key of each kind; none that the rooms' code would take for its own."""


class Store:
    """A server with both buckets, our policies, and a user of each role."""

    def __init__(self, server: S3Server) -> None:
        self.server = server
        self.documents = documents(PUBLIC, PRIVATE, runners={"stranger": STRANGER}, plain_http=True)
        self.applied = apply_policies(self.documents, PUBLIC, PRIVATE, self.environ("admin"))

    def environ(self, name: str) -> dict[str, str]:
        access_key, secret = SECRETS[name]
        return self.server.environ | {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret}

    @cache  # noqa: B019 - lives as long as the session
    def client(self, name: str) -> Any:
        return boto3.client("s3", **client_options(self.environ(name)))

    def buckets(self, name: str) -> Buckets:
        """As a process of that role opens them, with the test writes of `open_buckets`."""
        settings = Settings(bucket=f"s3://{PUBLIC.bucket}", private_bucket=f"s3://{PRIVATE.bucket}")
        return open_buckets(settings, self.environ(name))

    def may(self, name: str, verb: str, bucket: str, key: str) -> bool:
        """Whether the server lets `name` do it: it is done."""
        client = self.client(name)
        try:
            if verb == "list":
                client.list_objects_v2(Bucket=bucket, Prefix=key)
            elif verb == "write":
                client.put_object(Bucket=bucket, Key=key, Body=b"1")
            elif verb == "delete":
                client.delete_object(Bucket=bucket, Key=key)
            else:
                client.get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            return {"AccessDenied": False, "NoSuchKey": True}[error.response["Error"]["Code"]]  # absent: it may look
        return True


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with started(tmp_path_factory.mktemp("policies")) as running:
        yield running


@contextmanager
def started(folder: Path) -> Iterator[Store]:
    folder.mkdir(exist_ok=True)
    known = {name: secret for name, secret in SECRETS.items() if name != "stranger"}
    identities = seaweedfs_identities(documents(PUBLIC, PRIVATE), known)
    access_key, secret_key = SECRETS["stranger"]  # no policy of its own: the bucket's must let it in
    credentials = [{"accessKey": access_key, "secretKey": secret_key}]
    identities["identities"].append({"name": "stranger", "credentials": credentials, "actions": []})
    (folder / "s3.json").write_text(json.dumps(identities))
    try:
        with seaweedfs(folder) as server:
            yield Store(server)
    except ServerAbsent as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


# --- what roles can do ---


def test_each_role_does_its_work_with_the_rights_of_its_policy(store: Store, tmp_path: Path) -> None:
    """Each role's own code goes the whole way, from token to answer, with nothing but its own key."""
    operator, ingest, announce, work = map(store.buckets, ("operator", "ingest", "announce", "work"))
    secret, _ = create_token(operator.private, name="ci", projects=["p"], expires=None, now=NOW)
    assert token_for(ingest.private, secret, NOW).name == "ci"
    for value in (1, 2):
        _admit(ingest, measured(value))

    submissions = LogReader(announce.public, keys.SUBMISSIONS_LOG)
    announcer_of = partial(Announcer, announce, clock=lambda: NOW, signer=Signer.of(announce.private), threads=1)
    assert announcer_of(submissions, describe_submission).commit() == 2
    sent: list[tuple[int, int, int, bool]] = []

    def send(lake_version: int, first: int, last: int, *, redelivered: bool) -> None:
        sent.append((lake_version, first, last, redelivered))

    lake = CurrentLake(
        announce, cache(lambda log: LogReader(announce.public, log)), send, clock=lambda: NOW, announcer_of=announcer_of
    )
    lake.dispatch()
    assert [batch[:3] for batch in sent] == [(1, 1, 2)]

    log = LogReader(work.public, keys.SUBMISSIONS_LOG)
    processor = Processor(work, log, InThisProcess(), DecodeLimits(), lambda: NOW)
    assert processor.process(1, 1, 2, redelivered=True)
    assert list(operator.private.list("attempts/v1/")) == []

    assert lake.announce() == 1
    write_checkpoint(announce.private, 1, 2)
    assert announcer_of(submissions, describe_submission).sweep(NOW) + lake.sweep() == 0
    assert [key for key in operator.private.list("pending/") if keys.parse_marker(key)] == []

    public = open_public(Settings(bucket=f"s3://{PUBLIC.bucket}"), store.environ("dashboard"))
    dashboard = Dashboard(public, cache(lambda log: LogReader(public, log)), tmp_path, memory_limit="400MB")
    try:
        load(dashboard)
        with dashboard.database().snapshot() as snapshot:
            assert [row["value"] for row in snapshot.rows("SELECT value FROM measurements ORDER BY value")] == [1, 2]
    finally:
        dashboard.close()

    withdrawn = sha256(measured(1)).hexdigest()
    operator.private.create(keys.swept_blob(withdrawn), measured(1))
    operator.private.create(keys.upload_grant("ab" * 32), b"{}")
    withdraw(operator, find(operator, withdrawn), "a token leaked", NOW)
    with pytest.raises(Refused, match="withdrawn"):
        _admit(ingest, measured(1))
    assert announcer_of(submissions, describe_submission).commit() == 1
    assert processor.process(1, 3, 3, redelivered=False)
    assert lake.announce() == 1
    reader_of = cache(lambda log: LogReader(announce.public, log))
    purge = Purge(announce, reader_of, announcer_of, clock=lambda: NOW)
    operator.public.create(keys.snapshot(1, "1.1", 1, 2, withdrawn), b"")
    while purge.step():
        pass
    assert noted_withdrawals(operator.private) == {}
    verdicts = {one.verdict for one in outcome_of(operator.public, 1, 1).submissions}
    assert verdicts == {"withdrawn", "accepted"}
    for bucket, key in (
        (operator.public, keys.blob(withdrawn)),
        (operator.private, keys.swept_blob(withdrawn)),
        (operator.public, keys.snapshot(1, "1.1", 1, 2, withdrawn)),
        (operator.public, keys.outcome(1, 1, 0)),
    ):
        with pytest.raises(FileNotFoundError):
            bucket.head(key)
    operator.private.delete(keys.upload_grant("ab" * 32))


def test_the_hub_keeps_subscriptions_and_its_lease_with_the_rights_of_its_policy(store: Store) -> None:
    private = store.buckets("hub").private
    store.buckets("operator").private.delete(keys.lease("hub"))  # other tests write nonsense there
    lease = Lease(private, keys.lease("hub"), 6.0)
    lease.step()
    assert lease.held
    lease.stop()
    subscriptions, key = Subscriptions(private), keys.subscription("https://a.example/", "https://b.example/")
    made = Subscription(topic="t", callback="https://b.example/", log="submissions", expires=NOW, delivered=0)
    assert subscriptions.change(key, lambda _: made) == made
    assert subscriptions.known() == {key: made}
    assert subscriptions.change(key, lambda _: None) is None
    assert subscriptions.known() == {}


def _admit(buckets: Buckets, body: bytes) -> None:
    admit(
        buckets,
        body,
        Blob(sha256=sha256(body).hexdigest(), size_bytes=len(body)),
        project="p",
        format="auto",
        context=Context(),
        trust=Trust(),
        now=NOW,
    )


def test_processes_with_their_own_keys_take_a_push_an_upload_by_links_and_a_drop(tmp_path: Path) -> None:
    """All four roles as they are deployed; a right that one of them lacks would stop it or leave a step failing."""
    with ExitStack() as stack:
        store = stack.enter_context(started(tmp_path / "s3"))
        queue = stack.enter_context(valkey(tmp_path / "queue"))
        shared = {"RUNFEED_BUCKET": f"s3://{PUBLIC.bucket}", "RUNFEED_PRIVATE_BUCKET": f"s3://{PRIVATE.bucket}"}
        shared |= {"RUNFEED_REDIS": queue.url, "RUNFEED_INBOX_SECONDS": "1"}
        shared |= {"RUNFEED_UPLOAD_ENDPOINT": store.server.endpoint}
        topology = stack.enter_context(topology_of(tmp_path, shared))
        clean = topology.environ

        def push(name: str, *arguments: str, **more: str) -> None:
            environ = clean | store.environ(name) | more
            done = subprocess.run(
                [RUNFEED, "push", *arguments],
                capture_output=True,
                text=True,
                env=environ,
                cwd=tmp_path,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr

        operator = store.buckets("operator")
        add_project(operator, "demo", NOW)
        token, _ = create_token(operator.private, name="ci", projects=["demo"], expires=None, now=NOW)
        set_runner(operator.private, "alice", ["demo"], NOW)
        for role in ("announce", "work", "dashboard", "hub", "ingest"):
            topology.environ = clean | store.environ(role)
            topology.start(role)
        ingest = topology.roles[-1].url
        (tmp_path / "small.json").write_bytes(measured(1))
        (tmp_path / "large.json").write_bytes(measured(2) + b" " * GRANT_BYTES)
        (tmp_path / "dropped.json").write_bytes(measured(3))
        push("alice2", "small.json", "large.json", "--project", "demo", "--to", ingest, RUNFEED_TOKEN=token)
        private = f"s3://{PRIVATE.bucket}"
        push("alice", "dropped.json", "--project", "demo", "--runner", "alice", "--to", private)
        wait_until(lambda: _runs(topology) == 3, topology)
        answers = topology.roles[-1].get("/metrics").text
        assert 'route="/api/v1/uploads' in answers, "the large file went to storage by links"
        for role in topology.roles:
            failures = [line for line in role.log().splitlines() if "AccessDenied" in line or "step failed" in line]
            assert failures == [], role.name


def _runs(topology: Topology) -> int:
    dashboard = next(role for role in topology.roles if role.name == "dashboard")
    return len(dashboard.get("/api/v1/runs?project=demo").json()["items"])


@pytest.mark.parametrize("role", ROLES)
def test_a_role_can_do_what_the_table_says_and_nothing_else(store: Store, role: str) -> None:
    for side, place in (("public", PUBLIC), ("private", PRIVATE)):
        for key, verb in itertools.product(KEYS[side], ("read", "write", "delete")):
            grants = getattr(ROLES[role], side)
            patterns = [] if grants is None else [*getattr(grants, verb), *(grants.write if verb == "read" else ())]
            wanted = any(fnmatchcase(key, pattern) for pattern in patterns)
            assert store.may(role, verb, place.bucket, key) == wanted, (role, verb, side, key)
    assert store.may(role, "list", PRIVATE.bucket, "tokens/") == (ROLES[role].private is not None)


def test_a_dashboard_cannot_open_the_private_bucket(store: Store) -> None:
    private = open_s3(f"s3://{PRIVATE.bucket}", store.environ("dashboard"))
    with pytest.raises(Unavailable, match="AccessDenied"):
        list(private.list("tokens/"))


# --- what runners and strangers can do ---


def test_a_runner_puts_files_into_its_own_folder_and_can_do_nothing_else(store: Store) -> None:
    """Neither read nor list nor delete, not even what it sent; no neighbour whose name begins with its own."""
    admin = store.client("admin")
    admin.put_object(Bucket=PRIVATE.bucket, Key="inbox/alice/sent", Body=b"1")
    admin.put_object(Bucket=PRIVATE.bucket, Key="tokens/x.json", Body=b"1")
    assert store.may("alice", "write", PRIVATE.bucket, "inbox/alice/deep/er/any name")
    assert not store.may("alice", "write", PRIVATE.bucket, "inbox/alice2/f")
    assert not store.may("alice", "write", PRIVATE.bucket, "inbox/alice")
    assert not store.may("alice", "write", PRIVATE.bucket, "inbox/f")
    for verb, key in itertools.product(("read", "delete"), ("inbox/alice/sent", "tokens/x.json", "inbox/alice/none")):
        assert not store.may("alice", verb, PRIVATE.bucket, key), (verb, key)
    for prefix in ("", "inbox/", "inbox/alice/"):
        assert not store.may("alice", "list", PRIVATE.bucket, prefix)
    for key in KEYS["private"]:
        assert store.may("alice", "write", PRIVATE.bucket, key) == key.startswith("inbox/alice/"), key
    for key in KEYS["public"]:
        assert not store.may("alice", "write", PUBLIC.bucket, key)
    copied = {"Bucket": PRIVATE.bucket, "Key": "inbox/alice/stolen", "CopySource": f"{PRIVATE.bucket}/tokens/x.json"}
    assert _code(lambda: store.client("alice").copy_object(**copied)) == "AccessDenied"


def test_a_runner_sends_a_large_file_in_pieces(store: Store) -> None:
    client = store.client("alice")
    where = {"Bucket": PRIVATE.bucket, "Key": "inbox/alice/large"}
    upload = client.create_multipart_upload(**where)["UploadId"]
    etag = client.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"0" * (5 << 20))["ETag"]
    parts = {"Parts": [{"ETag": etag, "PartNumber": 1}]}
    client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)
    assert store.client("ingest").head_object(**where)["ContentLength"] == 5 << 20
    elsewhere = where | {"Key": "inbox/bob/large"}
    assert _code(lambda: client.create_multipart_upload(**elsewhere)) == "AccessDenied"


def test_a_runner_of_another_account_is_let_in_by_the_bucket(store: Store) -> None:
    assert store.may("stranger", "write", PRIVATE.bucket, "inbox/stranger/f")
    assert not store.may("stranger", "write", PRIVATE.bucket, "inbox/alice/f")
    for verb in ("read", "delete"):
        assert not store.may("stranger", verb, PRIVATE.bucket, "inbox/stranger/f")
    assert not store.may("stranger", "list", PRIVATE.bucket, "inbox/stranger/")


def test_everybody_reads_the_public_bucket_and_nothing_of_the_private_one(store: Store) -> None:
    for side, place in (("public", PUBLIC), ("private", PRIVATE)):
        for key in KEYS[side]:
            store.client("admin").put_object(Bucket=place.bucket, Key=key, Body=b"1")
    with httpx.Client(base_url=store.server.endpoint) as anybody:
        for key in KEYS["public"]:
            wanted = 403 if key.startswith(("probe/", "elsewhere/")) else 200
            assert anybody.get(f"/{PUBLIC.bucket}/{key}").status_code == wanted, key
            assert anybody.put(f"/{PUBLIC.bucket}/{key}", content=b"2").status_code == 403, key
            assert anybody.delete(f"/{PUBLIC.bucket}/{key}").status_code == 403, key
        assert anybody.get(f"/{PUBLIC.bucket}/lake/v1/absent").status_code == 404
        assert anybody.get(f"/{PUBLIC.bucket}?list-type=2&prefix=feeds/").status_code == 200
        for path in ("?list-type=2", "?list-type=2&prefix=inbox/", "?uploads", "?policy"):
            assert anybody.get(f"/{PRIVATE.bucket}{path}").status_code == 403, path
        for key in KEYS["private"]:
            for method in ("GET", "HEAD", "PUT", "DELETE"):
                assert anybody.request(method, f"/{PRIVATE.bucket}/{key}").status_code == 403, (method, key)
        for path in ("?policy", "?cors", "?lifecycle"):
            assert anybody.put(f"/{PUBLIC.bucket}{path}", content=b"{}").status_code == 403, path


def test_a_web_page_elsewhere_reads_ranges(store: Store) -> None:
    store.client("admin").put_object(Bucket=PUBLIC.bucket, Key="lake/v1/runs/cors.parquet", Body=b"0123456789")
    url = f"{store.server.endpoint}/{PUBLIC.bucket}/lake/v1/runs/cors.parquet"
    page = {"Origin": "https://elsewhere.example"}
    asked = page | {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range,if-none-match"}
    allowed = httpx.options(url, headers=asked)
    assert allowed.status_code == 200
    assert "range" in allowed.headers["access-control-allow-headers"].lower()
    got = httpx.get(url, headers=page | {"Range": "bytes=2-3"})
    assert (got.status_code, got.content) == (206, b"23")
    assert got.headers["access-control-allow-origin"] in ("*", "https://elsewhere.example")
    assert "Content-Range" in got.headers["access-control-expose-headers"]
    asked["Access-Control-Request-Method"] = "PUT"
    assert "PUT" not in httpx.options(url, headers=asked).headers.get("access-control-allow-methods", "")


# --- documents ---


def test_applying_again_changes_nothing_and_says_what_the_store_cannot_do(store: Store) -> None:
    admin = store.client("admin")
    before = admin.get_bucket_policy(Bucket=PUBLIC.bucket)["Policy"]
    found = apply_policies(store.documents, PUBLIC, PRIVATE, store.environ("admin"))
    assert found == store.applied
    assert {name for name, said in found.items() if said == "not supported"} == {
        "public-access-block",
        "private-access-block",
    }
    assert json.loads(admin.get_bucket_policy(Bucket=PUBLIC.bucket)["Policy"]) == json.loads(before)
    rules = admin.get_bucket_lifecycle_configuration(Bucket=PRIVATE.bucket)["Rules"]
    assert {rule["ID"] for rule in rules} == {"abort-incomplete-uploads", "expire-probe", "expire-inbox-refused"}


def test_nobody_without_the_right_applies_policies(store: Store) -> None:
    with pytest.raises(Unavailable, match="AccessDenied"):
        apply_policies(store.documents, PUBLIC, PRIVATE, store.environ("ingest"))


def test_plain_http_is_refused_by_the_rule_that_demands_https(store: Store) -> None:
    admin = store.client("admin")
    place = Place("encrypted-only")
    admin.create_bucket(Bucket=place.bucket)
    admin.put_object(Bucket=place.bucket, Key="x", Body=b"1")
    admin.put_bucket_policy(Bucket=place.bucket, Policy=json.dumps(private_policy(place, {})))
    assert not store.may("admin", "read", place.bucket, "x")


def test_no_document_lets_a_runner_read_or_anybody_write_to_the_public_bucket() -> None:
    found = documents(PUBLIC, PRIVATE, queue=QUEUE, runners={"bob": STRANGER})
    [runner] = found["runner"]["Statement"]
    assert runner["Action"] == ["s3:PutObject"]
    assert runner["Resource"] == ["arn:aws:s3:::results-private/inbox/${aws:username}/*"]
    for statement in found["public-policy"]["Statement"]:
        assert set(statement["Action"]) <= {"s3:GetObject", "s3:ListBucket"}
    for statement in found["private-policy"]["Statement"]:
        assert statement["Effect"] == "Deny" or statement["Action"] == ["s3:PutObject"]


def test_a_document_fits_where_it_goes() -> None:
    """6,144 characters without spaces for a managed policy, 20,480 for that of a bucket."""
    for name, document in documents(PUBLIC, PRIVATE, queue=QUEUE).items():
        if name.startswith("role-") or name == "runner":
            assert len(json.dumps(document, separators=(",", ":"))) < 6144, name


def test_documents_name_our_folder_only_where_a_bucket_is_shared() -> None:
    """With `s3://bucket/folder` nothing outside the folder is named, be it keys, listings or events."""
    found = documents(Place("shared", "pub/"), Place("shared", "priv/"), queue=QUEUE)
    for name, document in found.items():
        for statement in document.get("Statement", []):
            if statement["Sid"] == "OnlyHttps" or "Inbox" in statement["Sid"]:
                continue
            if "s3:ListBucket" in statement["Action"]:
                [prefix] = statement["Condition"]["StringLike"]["s3:prefix"]
                assert prefix in ("pub/*", "priv/*"), name
            else:
                for resource in statement["Resource"]:
                    assert resource.startswith(("arn:aws:s3:::shared/pub/", "arn:aws:s3:::shared/priv/")), name
    rule = found["private-notifications"]["QueueConfigurations"][0]["Filter"]["Key"]["FilterRules"]
    assert rule == [{"Name": "prefix", "Value": "priv/inbox/"}]


def test_only_our_buckets_events_reach_the_queue() -> None:
    [statement] = queue_policy(PRIVATE, QUEUE)["Statement"]
    assert statement["Principal"] == {"Service": "s3.amazonaws.com"}
    assert statement["Condition"] == {
        "ArnLike": {"aws:SourceArn": "arn:aws:s3:::results-private"},
        "StringEquals": {"aws:SourceAccount": "123456789012"},
    }
    [notification] = inbox_notifications(PRIVATE, QUEUE)["QueueConfigurations"]
    [rule] = notification["Filter"]["Key"]["FilterRules"]
    assert not "inbox-refused/alice/x.json".startswith(rule["Value"])


# --- the command ---

NAMED = {"RUNFEED_BUCKET": "s3://results", "RUNFEED_PRIVATE_BUCKET": "s3://results-private"}


def run(*arguments: str, environ: Mapping[str, str] = NAMED) -> Any:
    result = CliRunner().invoke(cli, ["policies", *arguments], env=dict(environ))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return json.loads(result.output)


def test_the_command_prints_the_documents_and_each_alone() -> None:
    everything = documents(PUBLIC, PRIVATE, queue=QUEUE, runners={"bob": STRANGER})
    arguments = ("--queue-arn", QUEUE.arn, "--runner", f"bob={STRANGER}")
    assert run(*arguments) == everything
    for name, document in everything.items():
        assert run(name, *arguments) == document
    assert run("--bucket", "s3://other")["public-policy"] != everything["public-policy"]


def test_the_command_makes_seaweedfs_identities_of_the_environment() -> None:
    keys = {"S3_ADMIN_ACCESS_KEY": "a", "S3_ADMIN_SECRET_KEY": "s" * 20}
    keys |= {"S3_WORK_ACCESS_KEY": "w", "S3_WORK_SECRET_KEY": "t" * 20}
    keys |= {"S3_ALICE_1_ACCESS_KEY": "r", "S3_ALICE_1_SECRET_KEY": "u" * 20}
    made = run("seaweedfs", environ=NAMED | keys)
    rights = {one["name"]: one.get("policyNames", one.get("actions")) for one in made["identities"]}
    assert rights == {"admin": ["Admin"], "work": ["role-work"], "alice-1": ["runner"]}
    policies = {one["name"]: json.loads(one["content"]) for one in made["policies"]}
    assert policies == {name: documents(PUBLIC, PRIVATE)[name] for name in ("role-work", "runner")}


@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        (("--bucket", "s3://*"), NAMED, "bucket"),
        (("--bucket", "s3://results/*"), NAMED, "bucket"),
        (("--private-bucket", "s3://results-private/${aws:username}"), NAMED, "private_bucket"),
        ((), {}, "bucket"),
        (("role-nobody",), NAMED, "role-nobody"),
        (("--runner", f"*={STRANGER}"), NAMED, "runner"),
        (("--runner", f"a/*={STRANGER}"), NAMED, "runner"),
        (("--runner", "alice=*"), NAMED, "--runner"),
        (("--queue-arn", "*"), NAMED, "--queue-arn"),
        (("seaweedfs",), NAMED, "S3_<NAME>_ACCESS_KEY"),
        (("seaweedfs",), NAMED | {"S3_WORK_ACCESS_KEY": "w", "S3_WORK_SECRET_KEY": "short"}, "S3_WORK_SECRET_KEY"),
    ],
)
def test_wildcards_unknown_names_and_short_secrets_are_refused(
    arguments: tuple[str, ...], environ: dict[str, str], said: str
) -> None:
    with pytest.raises(Refused) as refusal:
        run(*arguments, environ=environ)
    assert said in str(refusal.value)


def _code(call: Callable[[], object]) -> str:
    with pytest.raises(ClientError) as error:
        call()
    return str(error.value.response["Error"]["Code"])
