"""The inbox against real storage: whatever dies, comes twice or late or changes, a file becomes one submission."""

import asyncio
import hashlib
import io
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest
from aiobotocore.session import get_session
from click.testing import CliRunner
from moto.server import ThreadedMotoServer

import ingest.inbox
from infra.aws import Place, parse_place
from infra.bucket import Buckets
from infra.events import parse_message
from infra.folder import FolderBucket
from infra.hints import Hints
from infra.inbox import Inbox, inboxes
from infra.inbox_folder import FolderInbox
from infra.inbox_s3 import S3Inbox
from infra.s3 import open_s3
from infra.settings import Settings
from ingest.inbox import runner_of
from ingest.projects import add_project, set_project
from ingest.runner_cli import runner
from ingest.runners import refusals, remove_runner, set_runner
from ingest.watcher import Watcher
from ingest.withdraw import Found, withdraw
from schemas import keys
from schemas.errors import SwapLost, Unavailable
from schemas.records import Context, Submission, Trust, submission_id
from tests.own_loop import in_own_loop
from tests.running import running
from tests.servers import S3Server, free_ports

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
BODY = b'{"measurements": []}'
SHA256 = hashlib.sha256(BODY).hexdigest()


@dataclass
class Storage:
    """The buckets under test and a boto client as a runner has it."""

    buckets: Buckets
    settings: Settings
    environ: dict[str, str]
    client: Any

    def put(self, name: str, body: bytes = BODY, **metadata: str) -> None:
        self.client.put_object(
            Bucket="inbox-private", Key=f"{self.prefix}inbox/{name}", Body=body,
            Metadata={key.replace("_", "-"): value for key, value in metadata.items()},
        )  # fmt: skip

    @property
    def prefix(self) -> str:
        return parse_place(self.settings.private_bucket).prefix

    def left(self) -> list[str]:
        start = f"{self.prefix}inbox/"
        found = self.client.list_objects_v2(Bucket="inbox-private", Prefix=start).get("Contents", [])
        return [one["Key"].removeprefix(start) for one in found]

    def submissions(self) -> list[Submission]:
        public = self.buckets.public
        return [msgspec.json.decode(public.read(key), type=Submission) for key in public.list("submissions/")]

    def watcher(self, now: datetime = NOW) -> Watcher:
        return Watcher(self.buckets, self.settings, self.environ, Hints(), lambda: now)

    def sweep(self, now: datetime = NOW) -> int:
        """One sweep by a process of its own."""

        async def once() -> int:
            async with inboxes(self.settings, self.environ)() as inbox:
                return await self.watcher(now).sweep(inbox)

        return in_own_loop(once())

    def tidy(self, now: datetime) -> None:
        async def once() -> None:
            async with inboxes(self.settings, self.environ)() as inbox:
                await self.watcher(now).tidy(inbox)

        in_own_loop(once())


_numbers = itertools.count()


def client_of(environ: dict[str, str], service: str = "s3") -> Any:
    return boto3.client(
        service,
        endpoint_url=environ["AWS_ENDPOINT_URL"],
        aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )


def storage_on(client: Any, environ: dict[str, str], data: Path, **settings: Any) -> Storage:
    """Two folders of the buckets `inbox-public` and `inbox-private`, nobody else's, with a project and a runner."""
    number = next(_numbers)
    made = Settings(
        data=data,
        bucket=f"s3://inbox-public/of-{number}",
        private_bucket=f"s3://inbox-private/of-{number}",
        **settings,
    )
    buckets = Buckets(open_s3(made.bucket, environ), open_s3(made.private_bucket, environ))
    add_project(buckets, "demo", NOW)
    add_project(buckets, "other", NOW)
    set_runner(buckets.private, "rack-3", ["demo"], NOW)
    return Storage(buckets, made, environ, client)


_session = cache(get_session)


@pytest.fixture(autouse=True)
def one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading S3's description takes botocore longer than most of these tests."""
    monkeypatch.setattr("infra.inbox_s3.get_session", _session)


@pytest.fixture(scope="module")
def client(s3_server: S3Server) -> Any:
    made = client_of(s3_server.environ)
    for name in ("inbox-public", "inbox-private"):
        made.create_bucket(Bucket=name)
    return made


@pytest.fixture
def place(client: Any, s3_server: S3Server, tmp_path: Path) -> Storage:
    return storage_on(client, s3_server.environ, tmp_path)


# --- one file ---


def test_a_dropped_file_becomes_a_submission_of_exactly_its_bytes_and_leaves_the_inbox(place: Storage) -> None:
    place.put("rack-3/results of Tuesday, ünï + co.json", commit="abc123", branch="main", label_os="linux")
    assert place.sweep() == 1
    [submission] = place.submissions()
    assert place.buckets.public.read(keys.blob(SHA256)) == BODY
    assert (submission.project, submission.trust) == ("demo", Trust(kind="runner", name="rack-3"))
    assert (submission.blob.sha256, submission.blob.size_bytes) == (SHA256, len(BODY))
    assert submission.context.commit is not None
    assert submission.context.commit.id == "abc123"
    assert submission.context.labels == {"os": "linux"}
    [marker] = place.buckets.private.list("pending/")
    assert marker.endswith(f"{submission.nonce}-{submission.id}")
    assert place.left() == []
    assert place.sweep() == 0


def test_nothing_that_the_runner_said_goes_into_the_public_blob(place: Storage) -> None:
    place.put("rack-3/a.json", project="demo", context='{"environment": "secret rack"}')
    place.sweep()
    public = parse_place(place.settings.bucket)
    head = place.client.head_object(Bucket=public.bucket, Key=public.full(keys.blob(SHA256)))
    assert (head["Metadata"], head["ContentType"]) == ({}, "application/octet-stream")


def test_a_sidecar_says_what_a_form_would_and_goes_with_its_file(place: Storage) -> None:
    said = {"project": "demo", "format": "jmh", "context": {"environment": "rack 3", "commit": {"id": "c0ffee"}}}
    place.put("rack-3/deep/er/a.json.context.json", json.dumps(said).encode())
    place.put("rack-3/deep/er/a.json")
    assert place.sweep() == 1
    [submission] = place.submissions()
    assert (submission.format, submission.context.environment) == ("jmh", "rack 3")
    assert place.left() == []


def test_a_sidecar_waits_for_its_file_and_is_removed_after_a_week(place: Storage) -> None:
    place.put("rack-3/a.json.context.json", b"{}")
    assert place.sweep() == 0
    place.tidy(datetime.now(UTC) + timedelta(days=6))
    assert place.left() == ["rack-3/a.json.context.json"]
    place.tidy(datetime.now(UTC) + timedelta(days=8))
    assert place.left() == []


def test_the_same_file_dropped_again_is_the_same_submission(place: Storage) -> None:
    for name in ("a.json", "a.json", "b.json"):
        place.put(f"rack-3/{name}")
        assert place.sweep() == 1
    assert len(place.submissions()) == 1
    assert place.left() == []


def test_an_upload_over_http_and_a_drop_of_the_same_bytes_share_a_blob(place: Storage) -> None:
    """The copy is create-only: what is in the bucket stays as it was."""
    etag = place.buckets.public.create(keys.blob(SHA256), BODY)
    modified = place.buckets.public.head(keys.blob(SHA256)).modified
    time.sleep(1.1)
    place.put("rack-3/a.json")
    assert place.sweep() == 1
    head = place.buckets.public.head(keys.blob(SHA256))
    assert (head.etag, head.modified) == (etag, modified)


def test_files_of_an_unknown_runner_wait_until_it_is_registered(place: Storage) -> None:
    place.put("new-rack/a.json")
    assert place.sweep() == 0
    assert place.left() == ["new-rack/a.json"]
    set_runner(place.buckets.private, "new-rack", ["demo"], NOW)
    assert place.sweep() == 1
    remove_runner(place.buckets.private, "new-rack")
    place.put("new-rack/b.json")
    assert place.sweep() == 0


def test_one_runners_flood_leaves_others_their_share(place: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.watcher.SWEEP_OBJECTS", 4)
    set_runner(place.buckets.private, "small", ["demo"], NOW)
    for number in range(6):
        place.put(f"rack-3/{number}.json", b"%d" % number)
    place.put("small/a.json", b"small")
    assert place.sweep() == 3
    assert [name for name in place.left() if name.startswith("small")] == []


# --- refusals ---


def test_a_withdrawn_file_is_refused_on_record_and_does_not_stay(place: Storage) -> None:
    withdraw(place.buckets, Found(SHA256, [], None), "a token leaked", NOW)
    place.put("rack-3/a.json")
    assert place.sweep() == 0
    [refusal] = refusals(place.buckets.private, "rack-3")
    assert "a token leaked" in refusal.problem.found
    assert (place.left(), place.submissions(), list(place.buckets.public.list("blobs/"))) == ([], [], [])
    place.tidy(datetime.now(UTC) + timedelta(days=8))
    assert list(refusals(place.buckets.private, "rack-3")) == []


@pytest.mark.parametrize(
    ("metadata", "sidecar", "where", "found"),
    [
        ({"project": "other"}, None, "project", "other"),
        ({"project": "Not A Project"}, None, "project", "'Not A Project'"),
        ({"chunk": "3/2", "run-group": "g"}, None, "context/chunk", "3/2 of 'g'"),
        ({}, b'{"project": 7}', "sidecar/project", "int"),
        ({}, b"no JSON", "sidecar", None),
        ({}, b'{"context": {"labels": {"a": "%s"}}}' % (b"x" * 40_000), "sidecar", "more"),
        ({"format": "benchmark:none"}, None, "benchmark", None),
    ],
)
def test_a_refusal_is_on_record_with_its_reason_and_is_not_looked_at_again(
    place: Storage, metadata: dict[str, str], sidecar: bytes | None, where: str, found: str | None
) -> None:
    if sidecar is not None:
        place.put("rack-3/a.json.context.json", sidecar)
    place.put("rack-3/a.json", **metadata)
    assert place.sweep() == 0
    [refusal] = refusals(place.buckets.private, "rack-3")
    assert (refusal.key, refusal.size_bytes) == ("inbox/rack-3/a.json", len(BODY))
    assert refusal.problem.where == where
    assert found is None or refusal.problem.found == found
    assert place.submissions() == []
    assert "rack-3/a.json" in place.left()


def test_a_refused_object_is_read_once_and_removed_after_a_week(
    place: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_project(place.buckets, "demo", {"max_blob_bytes": "10"})
    place.put("rack-3/a.json")
    assert place.sweep() == 0
    opened: list[str] = []
    real = S3Inbox.open
    monkeypatch.setattr(S3Inbox, "open", lambda self, key: (opened.append(key), real(self, key))[1])
    for _ in range(3):
        place.sweep()
    assert opened == []
    place.tidy(NOW + timedelta(days=8))
    assert place.left() == []
    assert list(refusals(place.buckets.private, "rack-3")) == []


def test_registering_the_runner_again_looks_again_at_what_was_refused(place: Storage) -> None:
    place.put("rack-3/a.json", project="other")
    assert place.sweep() == 0
    set_runner(place.buckets.private, "rack-3", ["demo", "other"], NOW)
    assert place.sweep() == 1
    assert [submission.project for submission in place.submissions()] == ["other"]


def test_a_refused_name_takes_the_next_version(place: Storage) -> None:
    set_project(place.buckets, "demo", {"max_blob_bytes": "10"})
    place.put("rack-3/a.json")
    assert place.sweep() == 0
    place.put("rack-3/a.json", b"short")
    assert place.sweep() == 1


# --- deaths and races ---


class Died(BaseException):
    """The process was killed here."""


def dying(real: Callable[..., Any], times: int = 1) -> Callable[..., Any]:
    """`real`, but the process dies instead of its first calls."""
    left = [times]

    def call(*args: Any, **kwargs: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise Died
        return real(*args, **kwargs)

    return call


def late(real: Callable[..., Any]) -> Callable[..., Any]:
    """`real`, but the process dies right after its first call."""
    first = [True]

    def call(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        if first[0]:
            first[0] = False
            raise Died
        return result

    return call


@pytest.mark.parametrize(
    "death", ["before copy", "before marker", "before submission", "after submission", "before sidecar"]
)
def test_a_death_between_any_two_steps_leaves_one_submission_in_the_end(
    place: Storage, monkeypatch: pytest.MonkeyPatch, death: str
) -> None:
    place.put("rack-3/a.json.context.json", b'{"context": {"environment": "rack"}}')
    place.put("rack-3/a.json")
    with monkeypatch.context() as patch:
        if death == "before copy":
            patch.setattr(S3Inbox, "copy", dying(S3Inbox.copy))
        elif death == "before marker":
            patch.setattr("ingest.admit.write_marker", dying(ingest.admit.write_marker))
        elif death == "before submission":
            patch.setattr("ingest.admit.write_marker", late(ingest.admit.write_marker))
        elif death == "after submission":
            patch.setattr(S3Inbox, "remove", dying(S3Inbox.remove))
        else:
            removed = S3Inbox.remove

            async def only_files(self: S3Inbox, arrival: Any) -> None:
                if arrival.key.endswith(".context.json"):
                    raise Died
                await removed(self, arrival)

            patch.setattr(S3Inbox, "remove", only_files)
        try:
            place.sweep()
        except* Died:
            pass
        else:
            pytest.fail("nobody died")
    place.sweep()
    [submission] = place.submissions()
    assert submission.context.environment == "rack"
    nonces = [keys.parse_marker(key).nonce for key in place.buckets.private.list("pending/")]  # type: ignore[union-attr]
    assert submission.nonce in nonces
    assert [name for name in place.left() if not name.endswith(".context.json")] == []


def test_two_processes_at_one_object_make_one_submission(place: Storage) -> None:
    for number in range(20):
        place.put(f"rack-3/{number}.json", b"%d" % number)
        place.put(f"rack-3/{number}.json.context.json", b'{"context": {"environment": "rack"}}')

    async def both() -> None:
        async with inboxes(place.settings, place.environ)() as one, inboxes(place.settings, place.environ)() as two:
            await asyncio.gather(place.watcher().sweep(one), place.watcher().sweep(two))

    in_own_loop(both())
    submissions = place.submissions()
    assert len(submissions) == 20
    assert {submission.context.environment for submission in submissions} == {"rack"}
    assert place.left() == []


def replaced_before(place: Storage, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner drops another file under the same name right before `verb` is asked of storage."""
    real = getattr(S3Inbox, verb)
    first = [True]

    async def verb_after_replacement(self: S3Inbox, *args: Any) -> Any:
        if first[0]:
            first[0] = False
            place.put("rack-3/a.json", b"another")
        return await real(self, *args)

    monkeypatch.setattr(S3Inbox, verb, verb_after_replacement)


@pytest.mark.parametrize(("verb", "taken"), [("copy", 0), ("remove", 1)])
def test_a_version_that_comes_meanwhile_is_neither_mixed_up_nor_lost(
    place: Storage, monkeypatch: pytest.MonkeyPatch, verb: str, taken: int
) -> None:
    place.put("rack-3/a.json")
    replaced_before(place, verb, monkeypatch)
    assert place.sweep() == taken
    assert place.left() == ["rack-3/a.json"]
    assert place.sweep() == 1
    bodies = {place.buckets.public.read(keys.blob(one.blob.sha256)) for one in place.submissions()}
    assert bodies == ({BODY, b"another"} if taken else {b"another"})
    for key in place.buckets.public.list("blobs/"):
        assert hashlib.sha256(place.buckets.public.read(key)).hexdigest() == key.rpartition("/")[2]


def test_storage_that_fails_keeps_the_object_and_others_go_on(place: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    place.put("rack-3/a.json")
    place.put("rack-3/b.json", b"b")
    real = S3Inbox.copy

    async def failing(self: S3Inbox, arrival: Any, key: str) -> None:
        if arrival.key.endswith("a.json"):
            raise Unavailable("storage is away")
        await real(self, arrival, key)

    with monkeypatch.context() as patch:
        patch.setattr(S3Inbox, "copy", failing)
        assert place.sweep() == 1
    assert place.left() == ["rack-3/a.json"]
    assert place.sweep() == 1


def test_a_big_file_is_hashed_in_little_memory_and_copied_by_storage(place: Storage) -> None:
    body = bytes(range(256)) * (24 << 12)
    place.client.upload_fileobj(io.BytesIO(body), "inbox-private", f"{place.prefix}inbox/rack-3/big")  # in parts
    assert place.sweep() == 1
    [submission] = place.submissions()
    assert submission.blob.sha256 == hashlib.sha256(body).hexdigest()
    assert submission.blob.size_bytes == len(body)
    assert list((place.settings.data / "spool").rglob("upload-*")) == []


@pytest.mark.parametrize(
    "key", ["inbox/r/../../tokens/x", "inbox/r/./a", "inbox/../r/a", "inbox/r/", "inbox/r", "x/r/a"]
)
def test_no_key_leads_out_of_a_runners_folder(key: str) -> None:
    assert runner_of(key) == ""


# --- events ---


def event(key: str, bucket: str = "b", name: str = "ObjectCreated:Put") -> str:
    return json.dumps({"Records": [{"eventName": name, "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}]})


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (event("p/inbox/r/a%2Bb+c%C3%BC.json"), ["inbox/r/a+b cü.json"]),
        (event("p/inbox/r/a", bucket="elsewhere"), []),
        (event("other/inbox/r/a"), []),
        (event("p/inbox/r/a", name="ObjectRemoved:Delete"), []),
        ('{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}', []),
        (json.dumps({"Type": "Notification", "Message": event("p/inbox/r/a")}), ["inbox/r/a"]),
        ('{"detail": {"bucket": {"name": "b"}, "object": {"key": "p/inbox/r/a+b"}}}', ["inbox/r/a+b"]),
    ],
)
def test_a_message_tells_the_keys_below_our_place_and_nothing_else(body: str, found: list[str]) -> None:
    assert parse_message(body, Place("b", "p/")) == found


@pytest.mark.parametrize("body", ["", "no JSON", "[1]", "[" * 100_000, '{"Records": 1}', '{"Message": "x"}', "\ud800"])
def test_a_message_that_nobody_can_read_is_a_value_error(body: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words are the decoder's
        parse_message(body, Place("b"))


@dataclass
class Aws:
    """moto: S3 that tells an SQS queue. It proves that events work, not that anything is kept or checked."""

    environ: dict[str, str]
    s3: Any
    sqs: Any
    queue: str

    def waiting(self) -> int:
        """Messages in the queue, those under way too."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environ = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    s3, sqs = client_of(environ), client_of(environ, "sqs")
    try:
        for name in ("inbox-public", "inbox-private"):
            s3.create_bucket(Bucket=name)
        yield Aws(environ, s3, sqs, "")
    finally:
        server.stop()


@pytest.fixture
def telling(aws: Aws, tmp_path: Path) -> Iterator[tuple[Aws, Storage]]:
    """Storage that tells a queue of its own, and a watcher for which sweeps come too late."""
    name = f"queue-{next(_numbers)}"
    aws.queue = aws.sqs.create_queue(QueueName=name)["QueueUrl"]
    place = storage_on(aws.s3, aws.environ, tmp_path, inbox_queue=aws.queue, inbox_seconds=3600)
    wanted = {"QueueArn": f"arn:aws:sqs:us-east-1:123456789012:{name}", "Events": ["s3:ObjectCreated:*"]}
    aws.s3.put_bucket_notification_configuration(
        Bucket="inbox-private", NotificationConfiguration={"QueueConfigurations": [wanted]}
    )
    watcher = place.watcher()
    watcher.start()
    try:
        place.put("rack-3/first.json", b"first")  # by sweep or event
        eventually(lambda: place.left() == [])
        yield aws, place
        assert watcher.last_error == ""
    finally:
        watcher.stop()
    assert not watcher._thread.is_alive()


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> float:
    """Wait until `condition` holds; how long that took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() < begun + seconds, "it did not come to that"
        time.sleep(0.02)
    return time.monotonic() - begun


def test_an_event_brings_a_file_in_at_once_and_is_deleted(telling: tuple[Aws, Storage]) -> None:
    aws, place = telling
    place.put("rack-3/ünï + co.json")
    assert eventually(lambda: len(place.submissions()) == 2 and place.left() == []) < 5.0
    eventually(lambda: aws.waiting() == 0)


def test_many_events_are_under_way_at_once(telling: tuple[Aws, Storage]) -> None:
    aws, place = telling
    for number in range(40):
        place.put(f"rack-3/{number}.json", b"%d" % number)
    eventually(lambda: len(place.submissions()) == 41 and place.left() == [])
    eventually(lambda: aws.waiting() == 0)


def test_twofold_late_and_poisonous_messages_change_nothing_and_go_away(telling: tuple[Aws, Storage]) -> None:
    aws, place = telling
    real = event(f"{place.prefix}inbox/rack-3/first.json", "inbox-private")
    other = event(f"{place.prefix}inbox/rack-3", "inbox-private")
    climbing = event(f"{place.prefix}inbox/rack-3/../../tokens/x", "inbox-private")
    stranger = event(f"{place.prefix}inbox/nobody/first.json", "inbox-private")
    for body in (real, real, other, climbing, stranger, "poison", "[" * 5000, '{"Event": "s3:TestEvent"}'):
        aws.sqs.send_message(QueueUrl=aws.queue, MessageBody=body)
    eventually(lambda: aws.waiting() == 0)
    place.put("rack-3/first.json", b"first")
    place.put("rack-3/after.json")
    eventually(lambda: place.left() == [])
    assert len(place.submissions()) == 2


def test_a_message_whose_object_cannot_be_taken_goes_too_and_the_sweep_finds_the_object(
    telling: tuple[Aws, Storage], monkeypatch: pytest.MonkeyPatch
) -> None:
    aws, place = telling

    def failing(*_: object, **__: object) -> None:
        raise Unavailable("storage is away")

    with monkeypatch.context() as patch:
        patch.setattr("ingest.inbox.admit", failing)
        place.put("rack-3/a.json")
        eventually(lambda: aws.waiting() == 0)
    assert place.left() == ["rack-3/a.json"]
    assert place.sweep() == 1


def test_storage_that_cannot_copy_by_version_is_found_out_and_gets_the_bytes_from_us(aws: Aws, tmp_path: Path) -> None:
    """moto ignores the condition of a copy; a blob made by such a copy could hold other bytes than were hashed."""
    place = storage_on(aws.s3, aws.environ, tmp_path)

    async def asked() -> bool:
        async with inboxes(place.settings, place.environ)() as inbox:
            return inbox.copies

    assert in_own_loop(asked()) is False
    place.put("rack-3/a.json", b"z" * (3 << 20), environment="rack")
    assert place.sweep() == 1
    [submission] = place.submissions()
    assert place.buckets.public.head(keys.blob(submission.blob.sha256)).size_bytes == 3 << 20
    assert place.left() == []


# --- a data folder ---


@pytest.fixture
def folder(tmp_path: Path) -> tuple[Path, Buckets, Watcher]:
    buckets = Buckets(FolderBucket(tmp_path / "public"), FolderBucket(tmp_path / "private"))
    add_project(buckets, "demo", NOW)
    set_runner(buckets.private, "rack-3", ["demo"], NOW)
    (tmp_path / "private/inbox/rack-3").mkdir(parents=True)
    return (
        tmp_path / "private/inbox/rack-3",
        buckets,
        Watcher(buckets, Settings(data=tmp_path), {}, Hints(), lambda: NOW),
    )


def settled(path: Path, body: bytes = BODY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    os.utime(path, (time.time() - 10, time.time() - 10))
    return path


def swept(watcher: Watcher, root: Path) -> int:
    return in_own_loop(watcher.sweep(FolderInbox(root)))


def test_a_file_put_into_a_data_folders_inbox_is_taken_with_its_sidecar(
    folder: tuple[Path, Buckets, Watcher],
) -> None:
    inbox, buckets, watcher = folder
    settled(inbox / "Tuesday, ü.json.context.json", b'{"format": "jmh"}')
    settled(inbox / "Tuesday, ü.json")
    settled(inbox / "big", bytes(3 << 20))
    assert swept(watcher, inbox.parents[1]) == 2
    submissions = [msgspec.json.decode(buckets.public.read(k), type=Submission) for k in buckets.public.list("sub")]
    assert {(one.format, one.blob.size_bytes) for one in submissions} == {("jmh", len(BODY)), ("auto", 3 << 20)}
    assert list(inbox.iterdir()) == []


def test_files_that_are_written_to_hidden_linked_or_no_files_are_left_alone(
    folder: tuple[Path, Buckets, Watcher], tmp_path: Path
) -> None:
    inbox, buckets, watcher = folder
    (inbox / "being-written.json").write_bytes(b"{")
    settled(inbox / ".hidden")
    (inbox / "linked").symlink_to(settled(tmp_path / "secret"))
    os.mkfifo(inbox / "pipe")
    assert swept(watcher, inbox.parents[1]) == 0
    assert list(buckets.public.list("submissions/")) == []


def test_a_file_that_changes_while_it_is_read_waits(folder: tuple[Path, Buckets, Watcher]) -> None:
    inbox, _, _ = folder
    path = settled(inbox / "a.json")

    async def read() -> None:
        async with FolderInbox(inbox.parents[1]).open("inbox/rack-3/a.json") as (_, pieces):
            async for _ in pieces:
                with open(path, "ab") as file:
                    file.write(b"more")
                break
            async for _ in pieces:
                pass

    with pytest.raises(SwapLost):
        in_own_loop(read())


def test_a_file_that_replaced_the_one_we_took_is_not_removed(folder: tuple[Path, Buckets, Watcher]) -> None:
    inbox, _, _ = folder
    path = settled(inbox / "a.json")
    store: Inbox = FolderInbox(inbox.parents[1])

    async def remove() -> None:
        async with store.open("inbox/rack-3/a.json") as (arrival, _):
            settled(inbox / "new", b"new").rename(path)
            await store.remove(arrival)

    in_own_loop(remove())
    assert path.read_bytes() == b"new"
    assert list(inbox.iterdir()) == [path]


def test_a_watcher_takes_what_is_dropped_while_it_runs_and_ends_at_once(
    folder: tuple[Path, Buckets, Watcher], tmp_path: Path
) -> None:
    inbox, buckets, _ = folder
    watcher = Watcher(buckets, Settings(data=tmp_path, inbox_seconds=1), {}, Hints(), lambda: NOW)
    watcher.start()
    settled(inbox / "a.json")
    eventually(lambda: len(list(buckets.public.list("submissions/"))) == 1)
    begun = time.monotonic()
    watcher.stop()
    assert time.monotonic() - begun < 1.0
    assert watcher.last_error == ""


def test_a_watcher_that_is_stopped_in_the_middle_ends_at_once_and_loses_nothing(
    place: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy under way is given up; its thread must not hold up the end of the process."""
    copying = threading.Event()

    async def endless(self: S3Inbox, arrival: Any, key: str) -> None:
        copying.set()
        await asyncio.sleep(60)

    place.put("rack-3/a.json")
    before = set(threading.enumerate())
    with monkeypatch.context() as patch:
        patch.setattr(S3Inbox, "copy", endless)
        watcher = place.watcher()
        watcher.start()
        assert copying.wait(20)
        begun = time.monotonic()
        watcher.stop()
        assert time.monotonic() - begun < 5.0
        eventually(lambda: set(threading.enumerate()) <= before)
    assert place.left() == ["rack-3/a.json"]
    assert place.sweep() == 1


def test_a_queue_that_is_away_is_told_and_sweeps_go_on(place: Storage, tmp_path: Path) -> None:
    queue = f"http://127.0.0.1:{free_ports(1)[0]}/123456789012/q"
    place.settings = replace(place.settings, inbox_queue=queue, inbox_seconds=1)
    watcher = place.watcher()
    watcher.start()
    place.put("rack-3/a.json")
    eventually(lambda: place.left() == [])
    eventually(lambda: "Unavailable: inbox_queue" in watcher.last_error)
    watcher.stop()


def test_names_that_no_record_could_hold_are_left_alone(folder: tuple[Path, Buckets, Watcher]) -> None:
    inbox, _, watcher = folder
    settled(inbox / ("n" * 250))  # its sidecar's name would be too long
    descriptor = os.open(os.fsencode(inbox) + b"/\xff\xfe", os.O_CREAT | os.O_WRONLY)
    os.close(descriptor)
    os.utime(os.fsencode(inbox) + b"/\xff\xfe", (1, 1))
    assert swept(watcher, inbox.parents[1]) == 1
    assert os.listdir(os.fsencode(inbox)) == [b"\xff\xfe"]


def test_storage_that_is_away_is_told_and_waited_for(tmp_path: Path, s3_server: S3Server) -> None:
    buckets = Buckets(FolderBucket(tmp_path / "public"), FolderBucket(tmp_path / "private"))
    settings = Settings(data=tmp_path, bucket="s3://inbox-public", private_bucket="s3://inbox-private")
    watcher = Watcher(buckets, settings, {**s3_server.environ, "AWS_SECRET_ACCESS_KEY": "wrong"}, Hints(), lambda: NOW)
    watcher.start()
    eventually(lambda: "SignatureDoesNotMatch" in watcher.last_error)
    watcher.stop()


# --- the operator, and a whole server ---


def test_the_operator_sees_who_waits_and_what_was_refused(
    folder: tuple[Path, Buckets, Watcher], tmp_path: Path
) -> None:
    inbox, buckets, watcher = folder
    settled(inbox / "a.json")
    settled(inbox / "b.json", b"b")
    settled(inbox / "b.json.context.json", b'{"project": "other"}')
    settled(inbox.with_name("rack-\x1b[31m") / "c.json")
    swept(watcher, inbox.parents[1])

    def said(*arguments: str) -> str:
        with ThreadPoolExecutor(1) as thread:  # in this one the browser's tests may have left an event loop running
            result = thread.submit(CliRunner().invoke, runner, [*arguments, "--data", str(tmp_path)]).result()
        assert result.exit_code == 0, result.exception
        return result.output

    listed = said("list")
    assert "rack-3  demo  1 in the inbox, 1 of them refused" in listed
    assert "unknown: its files are not taken  1 in the inbox" in listed
    assert "\x1b" not in listed
    assert "'inbox/rack-3/b.json'  project: expected one of the runner's projects: demo, found other" in said(
        "refused", "rack-3"
    )
    add_project(buckets, "other", NOW)
    assert "is taken for demo, other" in said("add", "rack-3", "--project", "demo", "--project", "other")
    afresh = Watcher(buckets, Settings(data=tmp_path), {}, Hints(), lambda: NOW)
    assert swept(afresh, inbox.parents[1]) == 1
    assert said("refused", "rack-3") == ""
    said("remove", "rack-3")
    assert "rack-3  demo" not in said("list")


def test_a_file_dropped_into_a_running_servers_folder_comes_to_its_end(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "runfeed.toml").write_text("inbox_seconds = 1\n")
    with running(data) as server:
        server.push(b'{"benchmark": "b", "metric": "t", "value": 1}')  # which makes the project p
        assert server.runfeed("runner", "add", "rack-3", "--project", "p", "--data", str(data)).returncode == 0
        body = b'{"benchmark": "b", "metric": "t", "value": 2}'
        settled(data / "private/inbox/rack-3/result.json", body)
        id = submission_id(
            sha256=hashlib.sha256(body).hexdigest(),
            project="p",
            format="auto",
            context=Context(),
            trust=Trust(kind="runner", name="rack-3"),
        )
        eventually(lambda: server.client.get(f"/api/v1/submissions/{id}").status_code == 200, 30)
        assert server.wait_for(id)["state"] == "accepted"
        assert server.client.get("/readyz").status_code == 200
