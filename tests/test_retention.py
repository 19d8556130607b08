"""The sweep removes all that leads nowhere, and never what somebody needs or may come to need."""

import hashlib
import os
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from feed.announceable import describe_submission, write_marker
from feed.announcer import Announcer
from feed.log import readers
from infra.bucket import Buckets
from infra.s3 import open_s3
from ingest.withdraw import Found, withdraw
from processor.catalog import catalogs
from processor.compaction import compact
from processor.doctor import breaches
from processor.lake import write_part
from processor.part import Part
from processor.rebuild import Rebuild
from processor.retention import RULES, looking, restore, sweep
from processor.sweep_cli import sweep_command
from schemas import keys
from schemas.errors import Refused
from tests.chain import Chain, failing, measured, nothing, passed
from tests.servers import S3Server

WEEK = timedelta(days=7, minutes=5)


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """Two processed batches, now: a folder's objects bear the real time."""
    chain = Chain(tmp_path / "data")
    chain.now = datetime.now(UTC)
    chain.done(measured(1), passed("t"), b"nonsense")
    chain.done(measured(2))
    return chain


def swept(chain: Chain, later: timedelta = WEEK, *, remove: bool = True) -> dict[str, set[str]]:
    """Keys by rule, of a sweep so much later."""
    found: dict[str, set[str]] = {}
    with looking(chain.buckets, readers(chain.buckets.public), chain.now + later) as look:
        restore(look, remove=remove)
        for litter in sweep(look, remove=remove):
            found.setdefault(litter.rule.name, set()).add(litter.key)
    return found


def all_keys(chain: Chain) -> set[str]:
    return {*chain.public.list(""), *chain.private.list("")}


# --- each kind of litter ---


def a_blob(chain: Chain) -> set[str]:
    body = b"its admission died"
    key = keys.blob(hashlib.sha256(body).hexdigest())
    chain.public.create(key, body)
    return {key}


def a_marker(chain: Chain) -> set[str]:
    markers = [
        keys.Marker(log, "lane", keys.new_nonce(chain.now), id)
        for log, id in (("submissions", "ab" * 32), ("outcomes-v1", "000000000099-000000"))
    ]
    for marker in markers:
        write_marker(chain.buckets.private, marker)
    return {marker.key for marker in markers}


def a_page(chain: Chain) -> set[str]:
    for at in range(3):
        chain.push(measured(10 + at))
        submissions = Announcer(
            chain.buckets, chain.submissions, describe_submission, clock=chain.clock, head_keep=1, threads=1
        )
        submissions.commit()
    linked = next(key for key in chain.public.list("feeds/submissions/0"))
    body = chain.public.read(linked).replace(b"p: result", b"p: another")
    named = keys.parse_page(linked)
    assert named
    key = keys.Page(named.log, named.first, named.last, hashlib.sha256(body).hexdigest()[:16]).key
    chain.public.create(key, body)
    return {key}


def a_part(chain: Chain) -> set[str]:
    return {write_part(chain.buckets.public, 1, 1, 3, Part(table="runs", body=b"of a lost commit", rows=1)).key}


def compacted(chain: Chain) -> None:
    compact(chain.buckets.public, chain.reader_of(keys.outcomes_log(1)), 1)


def a_catalog(chain: Chain) -> set[str]:
    """Of four, the newest two stay; and of the merged files those that only the first two name go at the next sweep."""
    for at in range(4):
        chain.done(measured(20 + at))
        compacted(chain)
    assert catalogs(chain.buckets.public, 1) == [1, 2, 3, 4]
    return {keys.catalog(1, 1), keys.catalog(1, 2)}


def a_merged_file(chain: Chain) -> set[str]:
    chain.public.before = failing("create", keys.catalog(1, 1), KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        compacted(chain)
    chain.public.before = nothing
    found = {key for key in chain.public.list("lake/v1/catalog/") if keys.parse_merged(key)}
    assert found
    assert not set(swept(chain, remove=False)), "whoever makes them may still commit"
    chain.done(measured(30))
    compacted(chain)
    return found


def rebuild(chain: Chain) -> None:
    work = Rebuild(chain.buckets, chain.reader_of, chain.processor, clock=chain.clock)
    work.replay(lambda *_: None)
    work.switch()


def versions(chain: Chain) -> set[str]:
    """Three of them, of which the first may go."""
    old = {*chain.public.list("lake/v1/"), *chain.public.list("feeds/outcomes-v1/")}
    rebuild(chain)
    rebuild(chain)
    return old


def a_log_of_an_old_version(chain: Chain) -> set[str]:
    versions(chain)
    return {"feeds/outcomes-v1/current.atom"}


def an_old_version(chain: Chain) -> set[str]:
    return versions(chain) - {"feeds/outcomes-v1/current.atom"}


def work_on_an_old_version(chain: Chain) -> set[str]:
    chain.buckets.private.create(keys.attempt(1, 9, 1, 9), b"")
    chain.buckets.private.create(keys.checkpoint("dispatcher-v1"), b'{"seq":4}')
    versions(chain)
    return {keys.attempt(1, 9, 1, 9), keys.checkpoint("dispatcher-v1")}


def an_attempt(chain: Chain) -> set[str]:
    chain.buckets.private.create(keys.attempt(1, 1, 1, 1), b"")
    chain.buckets.private.create(keys.attempt(1, 99, 1, 99), b"")  # of a batch that has no outcome yet
    return {keys.attempt(1, 1, 1, 1)}


def a_probe(chain: Chain) -> set[str]:
    chain.public.create("probe/ab12/x", b"")
    return {"probe/ab12/x"}


def a_swept_blob(chain: Chain) -> set[str]:
    [key] = a_blob(chain)
    assert swept(chain)["blobs"] == {key}
    return {keys.swept_blob(key.rpartition("/")[2])}


def a_withdrawal_that_never_was(chain: Chain) -> set[str]:
    """Who wanted it died after the note. Of another one that is there the note stays."""
    withdraw(chain.buckets, Found("cd" * 32, [], None), "a reason", chain.now)
    key = keys.withdrawing("ab" * 32, keys.new_nonce(chain.now))
    chain.buckets.private.create(key, b"")
    return {key}


LITTER: dict[str, Callable[[Chain], set[str]]] = {
    "blobs": a_blob,
    "swept blobs": a_swept_blob,
    "markers": a_marker,
    "withdrawals": a_withdrawal_that_never_was,
    "pages": a_page,
    "parts": a_part,
    "catalogs": a_catalog,
    "merged files": a_merged_file,
    "logs of old lake versions": a_log_of_an_old_version,
    "old lake versions": an_old_version,
    "work on old lake versions": work_on_an_old_version,
    "attempts": an_attempt,
    "probes": a_probe,
}


def test_every_rule_has_its_litter() -> None:
    assert set(LITTER) == {rule.name for rule in RULES}


@pytest.mark.parametrize("rule", LITTER)
def test_each_kind_of_litter_goes_once_it_is_a_week_old_and_nothing_else_does(chain: Chain, rule: str) -> None:
    litter = LITTER[rule](chain)
    before = all_keys(chain)
    assert swept(chain, timedelta(days=6)) == {}
    assert swept(chain, remove=False)[rule] == litter
    assert all_keys(chain) == before, "a dry run changes nothing"
    gone = swept(chain)
    assert gone[rule] == litter
    left = before - set().union(*gone.values())
    moved = {keys.swept_blob(key.rpartition("/")[2]) for key in gone.get("blobs", ())}
    assert all_keys(chain) == left | moved
    assert [str(one) for one in breaches(chain.buckets, chain.now, deep=True)] == []


def test_a_healthy_bucket_is_left_alone(chain: Chain) -> None:
    chain.push(measured(9))
    chain.push_batch(measured(10))
    compacted(chain)
    assert swept(chain, timedelta(days=3650)) == {}


def test_in_the_end_nothing_is_left_to_sweep(chain: Chain) -> None:
    for make in (a_blob, a_marker, a_page, a_part, an_attempt, a_probe, a_catalog, versions):
        make(chain)
    for _ in range(3):
        swept(chain, timedelta(days=3650))
    assert swept(chain, timedelta(days=3650)) == {}


def test_files_that_only_an_old_catalog_names_go_after_it(chain: Chain) -> None:
    a_catalog(chain)
    swept(chain)
    named = {key for key in chain.public.list("lake/v1/catalog/") if keys.parse_merged(key)}
    swept(chain)
    left = {key for key in chain.public.list("lake/v1/catalog/") if keys.parse_merged(key)}
    assert left <= named
    assert swept(chain) == {}
    assert list(breaches(chain.buckets, chain.now, deep=True, settled=True)) == []


def test_a_sweep_that_dies_while_it_removes_a_version_is_ended_by_the_next(chain: Chain) -> None:
    versions(chain)
    chain.public.before = failing("delete", "lake/v1/", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        swept(chain)
    chain.public.before = nothing
    assert not list(chain.public.list("feeds/outcomes-v1/current.atom"))
    swept(chain)
    assert not list(chain.public.list("lake/v1/"))
    assert list(breaches(chain.buckets, chain.now, deep=True, settled=True)) == []


def test_the_version_before_and_those_after_the_one_that_serves_stay(chain: Chain) -> None:
    rebuild(chain)
    assert swept(chain, timedelta(days=3650)) == {}


# --- blobs that are sent again in the moment in which they go ---


def sweep_old_blobs(chain: Chain) -> dict[str, set[str]]:
    """A sweep now, when all blobs have been there for long."""
    old = (datetime.now(UTC) - WEEK).timestamp()
    for key in chain.public.list("blobs/"):
        os.utime(chain.data / "public" / key, (old, old))
    return swept(chain, timedelta(minutes=1))


def test_a_blob_that_an_admission_found_comes_back_if_it_was_swept_meanwhile(chain: Chain) -> None:
    """The worst moment: the blob of a dead admission is a week old, and is swept between the new one's two writes."""
    body = passed("of a dead admission")
    key = keys.blob(hashlib.sha256(body).hexdigest())
    chain.public.create(key, body)
    moved: list[set[str]] = []

    def meanwhile(verb: str, name: str) -> None:
        if verb == "create" and name.startswith("submissions/"):
            chain.public.before = nothing
            moved.append(sweep_old_blobs(chain)["blobs"])

    chain.public.before = meanwhile
    chain.push(body)
    assert moved == [{key}]
    swept(chain, timedelta(0))
    assert chain.public.read(key) == body
    assert not list(chain.private.list(keys.SWEPT))
    chain.process(chain.announce())
    assert chain.verdicts(5) == ["accepted"]


def test_a_blob_that_is_swept_twice_is_kept_a_week_from_the_second_time(chain: Chain) -> None:
    [key] = a_blob(chain)
    swept(chain)
    a_blob(chain)
    swept(chain)
    assert swept(chain, timedelta(days=6)) == {}
    assert list(chain.private.list(keys.SWEPT)) == [keys.swept_blob(key.rpartition("/")[2])]


def test_a_blob_of_a_submission_that_waits_is_named(chain: Chain) -> None:
    chain.push(measured(9))
    for key in list(chain.private.list("pending/submissions/")):
        chain.private.delete(key)  # not even its marker is there
    assert "blobs" not in swept(chain)


def test_no_blob_goes_while_a_submission_cannot_be_read(chain: Chain) -> None:
    a_blob(chain)
    chain.public.create(keys.submission("ab" * 32), b"{")
    before = all_keys(chain)
    with pytest.raises(Refused, match="ababab"):
        swept(chain)
    assert all_keys(chain) == before


ADMISSIONS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["whole", "dies", "swept"]), st.integers(0, 3)), max_size=6
)


@given(admissions=ADMISSIONS)
@settings(max_examples=12)
def test_whatever_is_admitted_swept_and_dies_in_whatever_order_every_submission_has_its_blob(
    tmp_path_factory: pytest.TempPathFactory, admissions: list[tuple[int, str, int]]
) -> None:
    chain = Chain(tmp_path_factory.mktemp("blobs") / "data")
    chain.now = datetime.now(UTC)
    receipts: dict[str, bytes] = {}
    for which, fate, at in admissions:
        left = [at]

        def before(verb: str, key: str, fate: str = fate, left: list[int] = left) -> None:
            if verb != "create":
                return
            left[0] -= 1
            if left[0] == -1 and fate == "dies":
                raise KeyboardInterrupt
            if left[0] == -1 and fate == "swept":
                sweep_old_blobs(chain)

        body = measured(which)
        chain.public.before = chain.private.before = before
        try:
            receipts[chain.push(body, format=f"runfeed-{at}")] = body
        except KeyboardInterrupt:
            pass
        finally:
            chain.public.before = chain.private.before = nothing
    swept(chain, timedelta(0))
    for body in receipts.values():
        assert chain.public.read(keys.blob(hashlib.sha256(body).hexdigest())) == body
    if receipts:
        first, last = chain.announce()
        assert {entry.id for entry in chain.submissions.entries(first, last)} >= set(receipts)


# --- on S3 ---


def test_compaction_sweep_and_doctor_work_on_s3(chain: Chain, s3_server: S3Server) -> None:
    a_part(chain)
    a_blob(chain)
    a_probe(chain)
    versions(chain)
    names = [f"sweep-{secrets.token_hex(4)}-{kind}" for kind in ("public", "private")]
    public, private = (open_s3(f"s3://{name}", s3_server.environ) for name in names)
    for source, target in ((chain.public, public), (chain.private, private)):
        for key in source.list(""):
            target.create(key, source.read(key))
    buckets = Buckets(public, private)
    reader_of = readers(public)
    assert compact(public, reader_of(keys.outcomes_log(3)), 3) == 1
    with looking(buckets, reader_of, datetime.now(UTC) + WEEK) as look:
        gone = {litter.key for litter in sweep(look, remove=True)}
    assert {key.split("/")[0] for key in gone} == {"blobs", "probe", "lake", "feeds"}
    assert not list(public.list("lake/v1/"))
    assert list(public.list("lake/v2/"))
    assert list(breaches(buckets, datetime.now(UTC), deep=True, settled=True)) == []


# --- the command ---


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNFEED_DATA", "RUNFEED_BUCKET"):
        monkeypatch.delenv(name, raising=False)


def run(chain: Chain, monkeypatch: pytest.MonkeyPatch, *options: str) -> Result:
    monkeypatch.setattr("processor.sweep_cli.now", lambda: chain.now + WEEK)
    return CliRunner().invoke(sweep_command, ["--data", str(chain.data), *options], catch_exceptions=False)


def test_the_command_shows_first_and_removes_when_told(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    [key] = a_blob(chain)
    shown = run(chain, monkeypatch, "--keys")
    assert shown.exit_code == 0
    assert f"blobs: {key}\n" in shown.output
    assert "blobs: 1, 18 bytes: no submission names it" in shown.output
    assert "Would remove 1 objects, 18 bytes." in shown.output
    assert chain.public.head(key).size_bytes == 18
    assert "Removed 1 objects, 18 bytes." in run(chain, monkeypatch, "--delete").output
    assert key not in all_keys(chain)


def test_the_command_refuses_to_look_at_younger_things(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = CliRunner().invoke(sweep_command, ["--data", str(chain.data), "--older-than", "6"])
    assert refused.exit_code == 2
    a_blob(chain)
    assert "Would remove 0 objects" in run(chain, monkeypatch, "--older-than", "30").output
