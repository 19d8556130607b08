"""A withdrawal, once loaded, is seen everywhere at once: state, reason, and no row, number or word of the file."""

import itertools
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from lxml import html

from dashboard_api import in_place
from dashboard_api import loader as loader_module
from dashboard_api.api import api_routes, openapi_config
from dashboard_api.dashboard import Dashboard
from dashboard_api.pages import page_routes
from feed.announceable import write_marker
from infra.web import exception_handlers
from processor.lake import publish_outcome, write_part
from processor.part import make_parts
from processor.reading.decode import DecodeLimits
from processor.transform import transform
from schemas import keys
from schemas.errors import Unavailable
from schemas.records import Chunk, Commit, Context, Outcome, Problem, Submission, SubmissionOutcome, Withdrawal
from tests import withdrawing
from tests.chain import Chain, load, measured, passed, rows
from tests.test_loader import history
from tests.test_replicas import addresses, answers, contents, publish, replica
from tests.test_withdraw import rebuilding, replay

VALUES = "SELECT seq, value FROM measurements ORDER BY seq, value"
STATES = "SELECT seq, state FROM submission_states ORDER BY seq"
REASON = "a token <b>leaked</b>"
SECRET = "hunter2-in-a-name"


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path / "data")


@pytest.fixture
def dashboard(chain: Chain) -> Iterator[Dashboard]:
    with chain.dashboard() as dashboard:
        yield dashboard


def record(chain: Chain, seq: int) -> str:
    """Write the withdrawal of what entry `seq` announced, and its marker; its blob's digest."""
    [entry] = chain.submissions.entries(seq, seq)
    nonce = keys.new_nonce(chain.now)
    marker = keys.Marker(keys.SUBMISSIONS_LOG, entry.project, nonce, keys.withdrawal_id(entry.sha256))
    write_marker(chain.buckets.private, marker)
    withdrawal = Withdrawal(
        sha256=entry.sha256,
        reason=REASON,
        submissions=[entry.id],
        project=entry.project,
        nonce=nonce,
        withdrawn=chain.now,
    )
    chain.public.create(keys.withdrawal(entry.sha256), msgspec.json.encode(withdrawal))
    return entry.sha256


def withdraw(chain: Chain, seq: int) -> str:
    chain.pass_time(seconds=1)
    sha256 = record(chain, seq)
    chain.announce()
    return sha256


def held_back(chain: Chain, body: bytes, context: Context) -> tuple[str, str]:
    """Push, but keep the marker away from the announcer: the submission's id and the marker's key."""
    id = chain.push(body, context)
    [marker] = chain.private.list(keys.pending_prefix(keys.SUBMISSIONS_LOG))
    chain.private.delete(marker)
    return id, marker


def revise_without(chain: Chain, first: int, *withdrawn: int) -> None:
    """The next revision of a batch's outcome, announced: it has no rows of the submissions `withdrawn`."""
    before = chain.outcome(first)
    submissions, tables = [], []
    for one in before.submissions:
        if one.seq in withdrawn:
            problem = Problem(where="blob", expected="a file that is not withdrawn", found="one that is")
            submissions.append(
                SubmissionOutcome(seq=one.seq, id=one.id, verdict="withdrawn", problems=[problem], problems_total=1)
            )
            continue
        submission = msgspec.json.decode(chain.public.read(keys.submission(one.id)), type=Submission)
        body = chain.public.read(keys.blob(submission.blob.sha256))
        result = transform(body, submission, one.seq, DecodeLimits())
        submissions.append(result.outcome)
        assert result.tables is not None
        tables.append(result.tables.batches)
    merged: dict[str, list[Any]] = {}
    for batches in tables:
        for name, some in batches.items():
            merged.setdefault(name, []).extend(some)
    outcome = Outcome(
        first=first,
        last=before.last,
        revision=1,
        nonce=keys.new_nonce(chain.now),
        through=chain.submissions.last_seq(),
        transform_version=1,
        submissions=submissions,
        parts=[write_part(chain.buckets.public, 1, first, before.last, part) for part in make_parts(merged)],
        finished=chain.now,
    )
    assert publish_outcome(chain.buckets, 1, outcome)
    assert chain.announce_outcomes() == 1


def purge(chain: Chain, first: int, *what: str) -> None:
    """Remove what a batch's first outcome left behind."""
    old = chain.outcome(first)
    kept = {part.key for part in chain.outcome(first, 1).parts}
    if "parts" in what:
        chain.public.delete(*(part.key for part in old.parts if part.key not in kept))
    if "outcome" in what:
        chain.public.delete(keys.outcome(1, first, 0))


def client_of(dashboard: Dashboard) -> TestClient[Litestar]:
    routes = [*api_routes(dashboard), *page_routes(dashboard)]
    return TestClient(Litestar(routes, openapi_config=openapi_config(), exception_handlers=exception_handlers))


# --- rows and states ---


def test_a_withdrawal_takes_the_rows_as_soon_as_it_is_loaded_and_nobody_elses(
    chain: Chain, dashboard: Dashboard
) -> None:
    chain.done(measured(1, SECRET), measured(2), passed(SECRET))
    load(dashboard)
    withdraw(chain, 1)
    withdraw(chain, 3)
    load(dashboard)
    assert rows(dashboard, STATES) == [(1, "withdrawn"), (2, "accepted"), (3, "withdrawn")]
    assert rows(dashboard, VALUES) == [(2, 2.0)]
    assert rows(dashboard, "SELECT benchmark FROM series") == [("b",)]
    assert rows(dashboard, "SELECT seq FROM runs") == [(2,)]
    assert rows(dashboard, "SELECT count(*) FROM tests") == [(0,)]
    assert SECRET not in str(contents(dashboard))


def test_problems_unread_fields_and_the_title_go_too(chain: Chain, dashboard: Dashboard) -> None:
    """They are the sender's own words."""
    chain.push(b'{"benchmark": "b", "metric": "t", "value": "%s"}' % SECRET.encode())
    lines = [{"benchmark": "b", "metric": "t", "value": 1, SECRET: 1}]
    chain.push("\n".join(map(json.dumps, lines)).encode(), Context(commit=Commit(id="c"), environment=SECRET))
    batch = chain.announce()
    chain.process(batch)
    chain.announce_outcomes()
    load(dashboard)
    assert str(contents(dashboard)).count(SECRET) > 2
    for seq in (1, 2):
        withdraw(chain, seq)
    load(dashboard)
    assert SECRET not in str(contents(dashboard))
    [first, _] = rows(dashboard, "SELECT state, problems_total, title, reason FROM submission_states ORDER BY seq")
    assert first == ("withdrawn", 0, "", REASON)


def test_every_submission_of_the_blob_is_withdrawn_earlier_or_later_named_or_not(
    chain: Chain, dashboard: Dashboard
) -> None:
    chain.done(measured(1))
    chain.push(measured(1), Context(commit=Commit(id="d" * 40)))
    batch = chain.announce()
    chain.process(batch)
    chain.announce_outcomes()
    _, marker = held_back(chain, measured(1), Context(commit=Commit(id="e" * 40)))
    withdraw(chain, 1)
    load(dashboard)
    chain.private.create(marker, b"")
    late = chain.announce()
    load(dashboard)
    assert rows(dashboard, STATES) == [(1, "withdrawn"), (2, "withdrawn"), (4, "withdrawn")]
    assert chain.process(late), "as if it had been under way"
    chain.announce_outcomes()
    load(dashboard)
    assert rows(dashboard, VALUES) == []
    assert rows(dashboard, STATES)[-1] == (4, "withdrawn")
    assert rows(dashboard, "SELECT count(*) FROM submissions WHERE title <> ''") == [(0,)]


@pytest.mark.parametrize("order", list(itertools.permutations(("outcome", "withdrawal", "revision"))), ids="-".join)
def test_the_end_is_the_same_in_whatever_order_it_comes(chain: Chain, order: tuple[str, ...]) -> None:
    """One replica loads after each step, the other all at the end; a revision is never announced before its outcome
    is made, so where it comes first, the outcome is announced late."""
    chain.push_batch(measured(1), measured(2))
    with replica(chain, "step by step") as follower, replica(chain, "at once") as late:
        load(follower)
        steps = {
            "outcome": lambda: (chain.process((1, 2)), chain.announce_outcomes()),
            "withdrawal": lambda: withdraw(chain, 1),
            "revision": lambda: revise_without(chain, 1, 1),
        }
        if order.index("revision") < order.index("outcome"):
            chain.process((1, 2))
            for key in list(chain.private.list("pending/outcomes-v1/")):
                chain.private.delete(key)
            [outcome] = chain.outcomes()
            marker = keys.Marker("outcomes-v1", "-", outcome.nonce, keys.outcome_id(1, 0))
            steps["outcome"] = lambda: (write_marker(chain.buckets.private, marker), chain.announce_outcomes())
        for step in order:
            chain.pass_time(seconds=1)
            steps[step]()
            load(follower)
        load(late)
        assert rows(follower, VALUES) == [(2, 2.0)]
        assert rows(follower, STATES) == [(1, "withdrawn"), (2, "accepted")]
        assert contents(late) == contents(follower)


def test_the_next_run_of_a_digest_counts_when_the_first_is_withdrawn(chain: Chain, dashboard: Dashboard) -> None:
    twice = [b"%s\n" % measured(1), b"\n%s" % measured(1)]
    for body in twice:
        chain.done(body)
    load(dashboard)
    counted = "SELECT seq FROM runs WHERE duplicate_of IS NULL"
    assert rows(dashboard, counted) == [(1,)]
    withdraw(chain, 1)
    load(dashboard)
    assert rows(dashboard, counted) == [(2,)]
    assert rows(dashboard, "SELECT first_seq FROM series") == [(2,)]


def test_a_withdrawn_chunk_is_missing_and_repeats_no_test(chain: Chain, dashboard: Dashboard) -> None:
    for chunk in (1, 2):
        chain.push(passed("same"), Context(chunk=Chunk(group="g", index=chunk, total=2)))
        chain.push(b"\n" * chunk + passed(f"other {chunk}"), Context(chunk=Chunk(group="h", index=chunk, total=2)))
    chain.process(chain.announce())
    chain.announce_outcomes()
    load(dashboard)
    with client_of(dashboard) as client:
        [group] = [one for one in client.get("/api/v1/runs").json()["items"] if one["run_group"] == "h"]
        assert group["completeness"] == "complete"
        seq = group["seq"] if group["seq"] != 1 else 2
        withdraw(chain, seq)
        load(dashboard)
        shown = client.get(f"/api/v1/runs/{group['run']}/completeness").json()
        assert (shown["completeness"], shown["chunks_present"]) == ("partial", 1)


def test_a_part_that_is_read_in_place_is_let_go_of(
    chain: Chain, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_place, "LARGEST_LOADED", 3)
    chain.done(b"\n".join(passed(f"t{n}") for n in range(9)))
    load(dashboard)
    assert rows(dashboard, "SELECT count(*) FROM tests_in_place") == [(1,)]
    withdraw(chain, 1)
    load(dashboard)
    assert rows(dashboard, "SELECT count(*) FROM tests_in_place") == [(0,)]
    assert rows(dashboard, "SELECT count(*) FROM runs") == [(0,)]


# --- versions ---


def test_an_answer_without_the_rows_has_another_etag(chain: Chain, dashboard: Dashboard) -> None:
    chain.done(measured(1), measured(2))
    load(dashboard)
    with client_of(dashboard) as client:
        addresses = ["/api/v1/runs", "/api/v1/series", "/api/v1/runs.csv", "/runs", "/", "/api/v1/submissions"]
        before = {address: client.get(address) for address in addresses}
        withdraw(chain, 1)
        load(dashboard)
        for address in addresses:
            known = {"If-None-Match": before[address].headers["etag"]}
            after = client.get(address, headers=known)
            assert after.status_code == 200, address
            assert after.content != before[address].content, address


def test_a_revision_is_loaded_with_the_withdrawal_that_it_is_for(
    chain: Chain, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far behind the submissions log is: state and reason never differ."""
    chain.done(measured(1), measured(2))
    withdraw(chain, 1)
    revise_without(chain, 1, 1)
    real = dashboard._serving[1]._submissions.entries_after
    monkeypatch.setattr(dashboard._serving[1]._submissions, "entries_after", lambda seq: real(seq, 1))
    assert dashboard.step() == 5, "three entries and two outcomes"
    told = "SELECT state, reason, problems_total FROM submission_states ORDER BY seq"
    assert rows(dashboard, told) == [("withdrawn", REASON, 0), ("accepted", None, 0)]
    assert rows(dashboard, VALUES) == [(2, 2.0)]


def test_versions_without_any_withdrawal_stay_what_they_were(chain: Chain, dashboard: Dashboard) -> None:
    chain.done(measured(1))
    load(dashboard)
    with dashboard.database().snapshot() as snapshot:
        assert (snapshot.version, snapshot.submissions_version) == ("v1-1", "v1-1-1")
    withdraw(chain, 1)
    load(dashboard)
    with dashboard.database().snapshot() as snapshot:
        assert (snapshot.version, snapshot.submissions_version) == ("v1-1-w2", "v1-1-w2-2")


def test_replicas_answer_alike_byte_for_byte_after_withdrawals(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has followed step by step, one that starts from its snapshot, and one that loads all at once."""
    with replica(chain, "follower") as follower:
        for n in range(4):
            for body in (measured(n, "same"), history(*range(1, n + 2)), b"nonsense %d" % n, passed(f"t{n}")):
                chain.push(body, Context(commit=Commit(id=f"{n:040x}")))
            chain.process(chain.announce())
            chain.announce_outcomes()
            load(follower)
        for seq in (1, 3, 10):
            withdraw(chain, seq)
            load(follower)
        publish(chain, follower)
        with replica(chain, "from snapshot") as late:
            assert contents(late) == contents(follower)
            revise_without(chain, 1, 1, 3)
            chain.done(measured(5))
            load(follower)
            load(late)
            for key in [key for key in chain.public.list(keys.SNAPSHOTS) if key.endswith(".json")]:
                chain.public.delete(key)
            with replica(chain, "at once") as at_once:
                load(at_once)
                asked = addresses(follower)
                expected = answers(follower, asked)
                assert len(expected) > 50
                for other in (late, at_once):
                    assert contents(other) == contents(follower)
                    said = answers(other, asked)
                    assert [address for address in expected if said.get(address) != expected[address]] == []


# --- what is gone ---


@pytest.mark.parametrize("what", [("outcome",), ("parts",), ("outcome", "parts")], ids="+".join)
@pytest.mark.parametrize("per_load", [1, 200], ids=str)
def test_an_outcome_that_was_purged_is_passed_over_for_its_revision(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, what: tuple[str, ...], per_load: int
) -> None:
    monkeypatch.setattr(loader_module, "OUTCOMES_PER_LOAD", per_load)
    chain.done(measured(1), measured(2))
    chain.done(measured(3))
    with replica(chain, "before") as before:
        load(before)
        withdraw(chain, 1)
        revise_without(chain, 1, 1)
        purge(chain, 1, *what)
        load(before)
        with replica(chain, "after") as after:
            versions = set()
            while after.step():
                with after.database().snapshot() as snapshot:
                    versions.add(snapshot.version)
            assert rows(after, VALUES) == [(2, 2.0), (3, 3.0)]
            assert contents(after) == contents(before)
            assert rows(after, "SELECT * FROM gone_outcomes") == []
            if per_load == 1:
                assert {version.partition("-g")[0] for version in versions if "-g" in version} == {"v1-1-w4", "v1-2-w4"}


def test_an_outcome_that_is_gone_without_a_later_one_is_waited_for(chain: Chain, dashboard: Dashboard) -> None:
    chain.done(measured(1))
    chain.public.delete(keys.outcome(1, 1, 0))
    with pytest.raises(Unavailable, match="announced, but not there"):
        dashboard.step()


def test_a_part_in_place_that_was_purged_keeps_no_loader_from_going_on(
    chain: Chain, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunked run's tests are compared on loading: with what is there, until the revision comes."""
    monkeypatch.setattr(in_place, "LARGEST_LOADED", 3)
    monkeypatch.setattr(loader_module, "OUTCOMES_PER_LOAD", 1)
    for chunk in (1, 2, 3):
        body = b"\n".join(passed(f"{chunk}/{n}") for n in range(4))
        chain.push(body, Context(chunk=Chunk(group="g", index=chunk, total=4)))
    chain.process(chain.announce())
    chain.announce_outcomes()
    load(dashboard)
    chain.push(b"\n".join(passed(f"4/{n}") for n in range(2)), Context(chunk=Chunk(group="g", index=4, total=4)))
    chain.process(chain.announce())
    chain.announce_outcomes()
    withdraw(chain, 1)
    revise_without(chain, 1, 1)
    purge(chain, 1, "outcome", "parts")
    shutil_parts = chain.data / "dashboard" / "v1.parts"
    for path in shutil_parts.glob("*"):
        path.unlink()
    load(dashboard)
    with client_of(dashboard) as client:
        [run] = client.get("/api/v1/runs").json()["items"]
        assert (run["tests"], run["chunks_missing"], run["completeness"]) == (10, [1], "partial")
        assert len(client.get(f"/api/v1/runs/{run['run']}/tests").json()["items"]) == 10


def test_a_snapshot_holds_no_byte_of_what_was_withdrawn(chain: Chain) -> None:
    """DuckDB leaves deleted rows in its file for a while; the snapshot is for everybody."""
    chain.done(measured(1, SECRET), measured(2))
    with replica(chain, "one") as one:
        load(one)
        publish(chain, one)
        [before] = [key for key in chain.public.list(keys.SNAPSHOTS) if key.endswith(".duckdb")]
        assert SECRET.encode() in chain.public.read(before)
        withdraw(chain, 1)
        chain.done(measured(3))
        load(one)
        chain.pass_time(hours=1)
        publish(chain, one, timedelta(0))
        [after] = [key for key in chain.public.list(keys.SNAPSHOTS) if key.endswith(".duckdb") and key != before]
        assert SECRET.encode() not in chain.public.read(after)
        with replica(chain, "other") as other:
            assert contents(other) == contents(one)
            load(other)
            assert rows(other, VALUES) == [(2, 2.0), (4, 3.0)]


def test_after_a_real_withdrawal_and_its_purge_a_new_replica_equals_one_that_followed(chain: Chain) -> None:
    id = chain.push(withdrawing.LEAKED, withdrawing.CONTEXT)
    chain.push(measured(2))
    chain.process(chain.announce())
    chain.announce_outcomes()
    with replica(chain, "follower") as follower:
        load(follower)
        withdrawing.withdrawn(chain, id)
        withdrawing.settle(chain)
        load(follower)
        assert withdrawing.SECRET not in str(contents(follower))
        assert withdrawing.purged(chain) > 0
        chain.done(measured(3))
        load(follower)
        with replica(chain, "new") as new:
            load(new)
            assert withdrawing.SECRET not in str(contents(new))
            assert contents(new) == contents(follower)
            asked = addresses(new)
            assert answers(new, asked) == answers(follower, asked)


def test_a_rebuilt_batch_that_begins_with_a_withdrawal_is_revised_like_any_other(chain: Chain) -> None:
    """A rebuild may begin a batch with such an entry; it has no outcome, by which the batch would be known."""
    first_leak = measured(7)
    for body in (measured(1), first_leak):
        chain.push(body)
        withdrawing.settle(chain)
    work = rebuilding(chain)
    replay(work)
    withdrawing.withdrawn(chain, withdrawing.digest(first_leak))
    withdrawing.settle(chain)
    chain.push(withdrawing.LEAKED)
    chain.push(measured(2))
    withdrawing.settle(chain)
    replay(work)
    work.switch()
    batch = chain.outcomes(2)[-1]
    assert (batch.first, batch.last, [one.seq for one in batch.submissions]) == (3, 5, [4, 5])
    with replica(chain, "follower") as follower:
        load(follower)
        assert rows(follower, VALUES) == [(1, 1.0), (4, 1.0), (5, 2.0)]
        withdrawing.withdrawn(chain, withdrawing.digest(withdrawing.LEAKED))
        assert withdrawing.purged(chain) > 0
        load(follower)
        assert rows(follower, VALUES) == [(1, 1.0), (5, 2.0)]
        assert rows(follower, "SELECT seq FROM outcomes ORDER BY seq") == [(1,), (2,), (4,), (5,)]
        with replica(chain, "new") as new:
            load(new)
            assert contents(new) == contents(follower)


# --- pages and API ---


def test_pages_and_api_tell_why_and_lead_to_the_record(chain: Chain, dashboard: Dashboard) -> None:
    chain.done(measured(1, SECRET), measured(2))
    id = chain.outcome(1).submissions[0].id
    sha256 = withdraw(chain, 1)
    load(dashboard)
    with client_of(dashboard) as client:
        status = client.get(f"/api/v1/submissions/{id}").json()
        assert (status["state"], status["reason"], status["blob_url"]) == ("withdrawn", REASON, "")
        assert status["withdrawal_url"] == "/" + keys.withdrawal(sha256)
        assert (status["runs"], status["measurements"], status["problems"]) == ([], 0, [])
        text = client.get(f"/submissions/{id}").text
        page = html.document_fromstring(text)
        assert page.get_element_by_id("state").get("data-state") == "withdrawn"
        assert REASON in page.text_content(), "escaped"
        hrefs = page.xpath("//main//@href")
        assert "/" + keys.withdrawal(sha256) in hrefs
        assert not [href for href in hrefs if href.startswith("/blobs/") or href.endswith(f"{id}.json")]
        assert "submission.js" not in text, "nothing more is to come"
        listed = client.get("/api/v1/submissions?state=withdrawn").json()["items"]
        assert [one["id"] for one in listed] == [id]
        assert f"/submissions/{id}" in client.get("/submissions?state=withdrawn").text
        assert client.get("/api/v1/status").json()["states"]["withdrawn"] == 1
        [project] = client.get("/api/v1/projects").json()["items"]
        assert (project["withdrawn"], project["accepted"]) == (1, 1)
        quality = client.get("/api/v1/quality").json()
        assert quality["spans"]["ever"]["withdrawn"] == 1
        assert sum(step["withdrawn"] for step in quality["steps"]) in (0, 1)
        assert client.get("/quality").status_code == 200
        assert [client.get("/api/v1/runs").text, client.get("/").text].count(SECRET) == 0


def test_a_submission_that_is_denied_before_it_is_announced_says_so(chain: Chain, dashboard: Dashboard) -> None:
    chain.done(measured(1))
    id, _ = held_back(chain, measured(1), Context(commit=Commit(id="f" * 40)))
    withdraw(chain, 1)
    load(dashboard)
    with client_of(dashboard) as client:
        status = client.get(f"/api/v1/submissions/{id}").json()
        assert (status["state"], status["reason"], status["blob_url"], status["seq"]) == ("withdrawn", REASON, "", None)
        assert "leaked" in client.get(f"/submissions/{id}").text
