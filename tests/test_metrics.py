"""Metrics: what is counted, what it is called, and that a running server's figures are right."""

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from litestar import get
from litestar.params import FromPath
from litestar.testing import create_test_client
from prometheus_client.parser import text_string_to_metric_families

from dashboard_api.behind import Replica
from feed.announceable import write_marker
from feed.lag import Backlogs, Unannounced, Waiting, describe_submission
from infra.broker import embedded_broker
from infra.bucket import Buckets
from infra.counted import counted, kind_of
from infra.folder import FolderBucket
from infra.metrics import STAGES, Metrics
from infra.scrape import counted_routes, metrics_routes
from infra.web import exception_handlers
from processor.dispatcher import read_checkpoint, write_checkpoint
from processor.reading.decode import DecodeLimits
from processor.transform import quarantined, transform
from schemas import keys
from schemas.errors import Refused, Unavailable
from schemas.reasons import REASONS, quarantine_reason, reason_of
from schemas.records import Outcome, PartRef, Problem, SubmissionOutcome
from tests.chain import POISON, Chain, at_poison, failing, load, measured, with_bug
from tests.golden import make_submission
from tests.running import running

ROOT = Path(__file__).resolve().parents[1]
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(lambda: NOW)


@pytest.fixture
def buckets(tmp_path: Path, metrics: Metrics) -> Buckets:
    return counted(Buckets(FolderBucket(tmp_path / "public"), FolderBucket(tmp_path / "private")), metrics)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def exercised() -> Metrics:
    """Each metric with at least one sample."""
    metrics = Metrics()
    metrics.step("load", lambda: 1)()
    for stage in STAGES:
        metrics.waiting(stage, 0, None)
    broker = embedded_broker()
    broker.declare_queue("batches")
    metrics.look_at_queue(broker, "batches")
    metrics.outcome(outcome("rejected"))
    metrics.task(0.1, "it takes longer than 5 s")
    metrics.replica(1, 7, {"runs": 3})
    metrics.request("public", "read", "blobs", "ok")
    metrics.response("GET", "/", 200)
    return metrics


def outcome(*verdicts: str) -> Outcome:
    submissions = [
        SubmissionOutcome(
            seq=seq,
            id=f"{seq:064x}",
            verdict=verdict,  # type: ignore[arg-type]
            format="junit" if verdict == "accepted" else "",
            problems=[] if verdict == "accepted" else [Problem(where="/", expected="UTF-8", found="a bug of yours")],
        )
        for seq, verdict in enumerate(verdicts, 1)
    ]
    part = PartRef(table="tests", key="k", sha256="s", size_bytes=1, rows=12)
    return Outcome(
        first=1, last=len(verdicts), revision=0, nonce="n", through=len(verdicts), transform_version=1,
        submissions=submissions, parts=[part], finished=NOW,
    )  # fmt: skip


# --- what is counted ---


def test_an_outcome_counts_by_verdict_format_and_reason(metrics: Metrics) -> None:
    metrics.outcome(outcome("accepted", "rejected", "quarantined", "accepted"))
    processed = "runfeed_processed_submissions_total"
    assert value(metrics, processed, verdict="accepted", format="junit") == 2
    assert value(metrics, processed, verdict="rejected", format="unknown") == 1
    refused = "runfeed_refused_submissions_total"
    assert value(metrics, refused, verdict="rejected", reason="malformed") == 1
    assert value(metrics, refused, verdict="quarantined", reason="bug") == 1
    assert value(metrics, "runfeed_processed_rows_total", table="tests") == 12
    assert value(metrics, "runfeed_batch_submissions_sum") == 4


def test_a_step_counts_what_it_did_and_its_failures_still_fail(metrics: Metrics) -> None:
    def fail() -> int:
        raise Unavailable("storage is away")

    assert metrics.step("load", lambda: 3)() == 3
    failing_step = metrics.step("load", fail)
    for _ in range(2):
        with pytest.raises(Unavailable):
            failing_step()
    assert value(metrics, "runfeed_step_items_total", loop="load") == 3
    assert value(metrics, "runfeed_step_failures_total", loop="load") == 2


def test_lag_grows_until_somebody_looks_again() -> None:
    now = [NOW]
    metrics = Metrics(lambda: now[0])
    metrics.waiting("process", 5, NOW - timedelta(seconds=2))
    now[0] += timedelta(seconds=60)
    assert value(metrics, "runfeed_lag_seconds", stage="process") == 62
    assert value(metrics, "runfeed_backlog", stage="process") == 5
    metrics.waiting("process", 0, None)
    assert value(metrics, "runfeed_lag_seconds", stage="process") == 0
    metrics.waiting("process", 1, NOW + timedelta(hours=1))  # by a clock that is ahead of ours
    assert value(metrics, "runfeed_lag_seconds", stage="process") == 0


def test_a_lake_version_that_serves_no_more_is_not_told_of(metrics: Metrics) -> None:
    metrics.replica(1, 7, {})
    metrics.replica(2, 3, {})
    assert value(metrics, "runfeed_replica_data_version", lake="v1") is None
    assert value(metrics, "runfeed_replica_data_version", lake="v2") == 3


def test_two_processes_metrics_know_nothing_of_each_other() -> None:
    one, other = Metrics(), Metrics()
    one.response("GET", "/", 200)
    assert value(other, "runfeed_http_responses_total", method="GET", route="/", status="200") is None


# --- requests to storage ---


def test_requests_are_counted_by_what_came_of_them(metrics: Metrics, buckets: Buckets) -> None:
    public = buckets.public
    public.create("blobs/aa/x", b"1")
    with pytest.raises(FileExistsError):
        public.create("blobs/aa/x", b"1")
    with pytest.raises(FileNotFoundError):
        public.read("submissions/aa/y.json")
    with public.local_path("blobs/aa/x") as path:
        assert path.read_bytes() == b"1"
    with pytest.raises(ValueError, match="not a key"):
        public.read("../../etc/passwd")
    assert metrics.requests() == {
        ("public", "create", "blobs", "ok"): 1,
        ("public", "create", "blobs", "exists"): 1,
        ("public", "read", "submissions", "absent"): 1,
        ("public", "read", "blobs", "ok"): 1,
    }


def test_a_listing_counts_a_request_per_thousand_keys(metrics: Metrics, buckets: Buckets) -> None:
    wanted = [f"pending/submissions/p/{at:032x}-{'0' * 64}" for at in range(1001)]
    for key in wanted:
        buckets.private.create(key, b"")
    assert list(buckets.private.list("pending/")) == wanted
    assert list(buckets.private.list("attempts/")) == []
    buckets.private.delete(*wanted)
    buckets.private.delete()
    counts = metrics.requests()
    assert counts["private", "list", "pending", "ok"] == 2
    assert counts["private", "list", "attempts", "ok"] == 1
    assert counts["private", "delete", "pending", "ok"] == 2


def test_a_counted_bucket_is_otherwise_the_bucket_it_wraps(buckets: Buckets, tmp_path: Path) -> None:
    assert buckets.public.root == tmp_path / "public"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (keys.blob("ab" * 32), "blobs"),
        (keys.submission("ab" * 32), "submissions"),
        (keys.feed_head("submissions"), "feeds"),
        (keys.CURRENT_LAKE, "lake"),
        (keys.outcome(1, 1, 0), "outcomes"),
        ("lake/v1/outcomes/", "outcomes"),
        (keys.part(1, "tests", 1, 2, "0" * 16), "parts"),
        (keys.checkpoint("x"), "checkpoints"),
        ("what/a/stranger/wrote", "other"),
        ("", "other"),
    ],
)
def test_the_kind_of_an_object_is_one_of_few(key: str, kind: str) -> None:
    assert kind_of(key) == kind


# --- over HTTP ---


def test_answers_are_counted_by_route_never_by_address(metrics: Metrics) -> None:
    @get("/things/{name:str}", sync_to_thread=False)
    def thing(name: FromPath[str]) -> str:
        if name == "none":
            raise Refused("thing", "a known one", repr(name), status=404)
        return name

    routes = [*counted_routes([thing], metrics), *metrics_routes(metrics)]
    with create_test_client(routes, exception_handlers=exception_handlers) as client:
        for name in ("a", "b", "none"):
            client.get(f"/things/{name}")
        client.get("/nowhere")
        scraped = client.get("/metrics")
        assert scraped.headers["content-type"].startswith("text/plain; version=")
        assert client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}).text.endswith(
            "# EOF\n"
        )
    found = {
        (one.labels["route"], one.labels["status"]): one.value
        for one in samples(scraped.text)
        if one.name == "runfeed_http_responses_total"
    }
    assert found == {("/things/{name}", "200"): 2, ("/things/{name}", "404"): 1}


def samples(text: str) -> Iterator[Any]:
    for family in text_string_to_metric_families(text):
        yield from family.samples


# --- reasons ---


def test_reasons_follow_from_what_the_transform_says() -> None:
    def reason(body: bytes, format: str = "auto", limits: DecodeLimits = DecodeLimits()) -> str:  # noqa: B008
        found = transform(body, make_submission(format=format), 1, limits).outcome
        return reason_of(found.verdict, found.problems[0])

    assert reason(b"hello") == "unknown_format"
    assert reason(b"{}", "nonsense") == "unknown_format"
    assert reason(b'{"benchmark": "a"') == "malformed"
    assert reason(b"\x1f\x8b\x08\x00") == "malformed"
    assert reason(b"<testsuite><testcase></testsuite>") == "malformed"
    assert reason(b"") == "malformed"
    assert reason(b'{"benchmark": "a"}', limits=DecodeLimits(max_decoded_bytes=5)) == "too_large"
    assert reason(b"[" * 100_000 + b"]" * 100_000) == "too_large"
    assert reason(b'{"benchmark": "a", "metric": "t", "value": "fast"}') == "content"


def test_what_went_wrong_with_a_transform_is_one_of_few() -> None:
    """What processor.children says of lost children is seen with real ones in test_children and below."""
    assert quarantine_reason("it needs more memory than 2,048 MiB") == "memory"
    assert quarantine_reason("it takes longer than 80 s") == "time"
    assert quarantine_reason("it computes for longer than 20 s") == "time"
    assert quarantine_reason("the process that read it was ended by SIGSEGV") == "crash"
    assert quarantine_reason("the process ended 3 times while it worked on this file") == "crash"
    assert quarantine_reason("an object is gone: blobs/aa/x") == "gone"
    assert quarantine_reason("KeyError: 'it needs more memory'") == "bug"
    bug = quarantined("id", 1, "TypeError: x").outcome
    assert reason_of("quarantined", bug.problems[0]) == "bug"
    assert (reason_of("rejected", None), reason_of("quarantined", None)) == ("content", "bug")


def test_the_last_rule_of_each_verdict_fits_everything() -> None:
    for verdict in ("rejected", "quarantined"):
        assert [reason.pattern for reason in REASONS if reason.verdict == verdict][-1] == ""


# --- lag ---


class Looking:
    """Backlogs of a chain, and what they last said."""

    def __init__(self, chain: Chain) -> None:
        self.said: dict[str, Waiting] = {}
        self.backlogs = Backlogs(
            chain.buckets,
            chain.reader_of,
            lambda stage, count, oldest: self.said.update({stage: Waiting(count, oldest)}),
            lake_version=lambda: 1,
            checkpoint=lambda version: read_checkpoint(chain.buckets.private, version),
            clock=chain.clock,
        )

    def look(self) -> dict[str, int]:
        assert self.backlogs.look() == 0
        return {stage: waiting.count for stage, waiting in self.said.items() if waiting.count}


def test_a_submission_waits_for_one_stage_after_another(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "data")
    looking = Looking(chain)
    assert looking.look() == {}
    chain.push(measured(1))
    pushed = chain.now
    chain.pass_time(seconds=30)
    chain.push(measured(2))
    assert looking.look() == {"announce_submissions": 2}
    assert looking.said["announce_submissions"].oldest == pushed
    chain.pass_time(seconds=1)
    batch = chain.announce()
    assert looking.look() == {"process": 2}
    assert looking.said["process"].oldest == chain.now
    chain.process(batch)
    assert looking.look() == {"process": 2, "announce_outcomes": 1}  # an outcome counts once it is announced
    chain.announce_outcomes()
    assert looking.look() == {}
    assert set(looking.said) == {"announce_submissions", "process", "announce_outcomes"}


def test_lag_begins_at_the_oldest_batch_without_an_outcome(tmp_path: Path) -> None:
    """Though later ones have theirs; and who starts looking later sees the same."""
    chain = Chain(tmp_path / "data")
    looking = Looking(chain)
    chain.done(measured(1))
    slow = chain.push_batch(measured(2), measured(3))
    began = chain.now
    chain.pass_time(minutes=1)
    chain.done(measured(4))
    for one in (looking, Looking(chain)):
        assert one.look() == {"process": 3}
        assert one.said["process"].oldest == began
    chain.process(slow)
    chain.announce_outcomes()
    assert looking.look() == Looking(chain).look() == {}


def test_looking_begins_at_the_checkpoint(tmp_path: Path) -> None:
    """So a lake version that was rebuilt in other batches is not taken for unprocessed."""
    chain = Chain(tmp_path / "data")
    chain.push_batch(measured(1), measured(2))
    write_checkpoint(chain.buckets.private, 1, 1)
    looking = Looking(chain)
    assert looking.look() == {"process": 1}
    write_checkpoint(chain.buckets.private, 1, 2)
    assert looking.look() == {}


def test_a_marker_that_leads_nowhere_is_no_lag_and_is_soon_looked_at_no_more(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "data")
    nowhere = keys.Marker(keys.SUBMISSIONS_LOG, "p", keys.new_nonce(chain.now), "0" * 64)
    write_marker(chain.buckets.private, nowhere)
    looked: list[str] = []
    chain.public.before = lambda verb, key: looked.append(key) if verb == "read" else None
    unannounced = Unannounced(chain.buckets, keys.SUBMISSIONS_LOG, describe_submission)
    assert unannounced.look(chain.now) == Waiting(0, None)
    chain.pass_time(hours=2)
    assert unannounced.look(chain.now) == Waiting(0, None)
    looked.clear()
    chain.push(measured(1))
    assert unannounced.look(chain.now) == Waiting(1, chain.now)
    assert keys.submission("0" * 64) not in looked


def test_looking_at_a_backlog_reads_one_object_of_it(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "data")
    for number in range(30):
        chain.push(measured(number))
    read: list[str] = []
    chain.public.before = lambda verb, key: read.append(key)
    unannounced = Unannounced(chain.buckets, keys.SUBMISSIONS_LOG, describe_submission)
    assert unannounced.look(chain.now).count == 30
    assert len(read) == 1


def test_a_replica_tells_how_far_it_is_behind_and_how_large(tmp_path: Path, metrics: Metrics) -> None:
    chain = Chain(tmp_path / "data")
    with chain.dashboard() as dashboard:
        replica = Replica(dashboard, chain.reader_of, metrics.waiting, metrics.replica)
        chain.pass_time(seconds=-60)
        chain.done(measured(1), measured(2))
        replica.look()
        assert value(metrics, "runfeed_backlog", stage="load") == 3  # two submissions and the outcome
        assert value(metrics, "runfeed_lag_seconds", stage="load") == pytest.approx(60, abs=0.1)
        load(dashboard)
        replica.look()
        assert value(metrics, "runfeed_backlog", stage="load") == 0
        assert value(metrics, "runfeed_replica_data_version", lake="v1") == 1
        assert value(metrics, "runfeed_replica_rows", table="measurements") == 2


def test_storage_that_fails_fails_the_look(tmp_path: Path) -> None:
    """So that it counts as a failed step, and the last known lag goes on growing."""
    chain = Chain(tmp_path / "data")
    chain.private.before = failing("list", "pending/", Unavailable("away"))
    with pytest.raises(Unavailable):
        Looking(chain).look()


def test_a_processor_observes_its_outcomes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_bug(monkeypatch, at_poison(ValueError("what")))
    chain = Chain(tmp_path / "data")
    seen: list[Outcome] = []
    object.__setattr__(chain.processor, "observe", seen.append)
    batch = chain.push_batch(measured(1), POISON)
    assert chain.process(batch)
    assert not chain.process(batch)
    [found] = seen
    assert found == chain.outcome(1)


# --- names ---


def labels_by_metric() -> dict[str, set[str]]:
    """Of every sample's name, but those that only Prometheus's own bookkeeping needs."""
    found: dict[str, set[str]] = {}
    for family in exercised().registry.collect():
        for one in family.samples:
            if not one.name.endswith("_created"):
                found.setdefault(one.name, set()).update(one.labels)
    return found


def test_every_name_and_label_of_the_grafana_dashboard_is_a_metric() -> None:
    known = labels_by_metric()
    dashboard = json.loads((ROOT / "infra/grafana/runfeed.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"]) > 10
    used: set[str] = set()
    for expression in expressions:
        names = set(re.findall(r"\b(?:runfeed|process)_\w+", expression))
        assert names, expression
        assert names <= known.keys(), expression
        labels = set().union(*(known[name] for name in names)) | {"instance"}
        for group in re.findall(r"by \(([^)]*)\)", expression):
            assert set(group.split(", ")) <= labels, expression
        for name, chosen in re.findall(r"(\w+)\{([^}]*)\}", expression):
            assert {one.partition("=")[0] for one in chosen.split(",")} <= known[name], expression
        used |= names
    ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known if name.startswith("runfeed_")}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in used} >= ours


def test_the_table_of_metrics_is_the_registry() -> None:
    rows = re.findall(
        r"^\| `(runfeed_\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$", (ROOT / "infra/README.md").read_text(), re.M
    )
    written = {name: (type, set(filter(None, labels.split(", "))), help) for name, type, labels, help in rows}
    real = {}
    for family in exercised().registry.collect():
        if family.name.startswith("runfeed_"):
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = {label for one in family.samples for label in one.labels} - {"le"}
            real[name] = (family.type, labels, family.documentation)
    assert written == real


def test_names_follow_the_conventions() -> None:
    """Base units, totals of counters; https://prometheus.io/docs/practices/naming/."""
    for family in exercised().registry.collect():
        assert re.fullmatch(r"[a-z_]+", family.name)
        assert not re.search(r"_(ms|minutes|kb|mb)$", family.name)
        assert family.documentation.endswith(".")
        assert (family.type == "counter") == any(one.name.endswith("_total") for one in family.samples)


# --- a whole server ---


def test_a_running_server_tells_what_became_of_good_bad_and_crashing_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "hostile_formats"))
    with running(tmp_path / "data") as server:
        bodies = [measured(1), measured(2), b'{"benchmark": ', b'{"hostile": "crash"}', b'{"hostile": "bug"}']
        for body in bodies:
            server.wait_for(server.push(body)["id"])
        server.push(measured(1))  # known

        def figures() -> dict[tuple[str, ...], float]:
            text = server.client.get("/metrics").text
            return {
                (one.name, *(f"{k}={v}" for k, v in sorted(one.labels.items()))): one.value for one in samples(text)
            }

        deadline = time.monotonic() + 30
        while (found := figures()).get(("runfeed_replica_rows", "table=outcomes")) != len(bodies):
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        quality = server.get("/api/v1/quality")

    def figure(name: str, **labels: str) -> float:
        return found.get((f"runfeed_{name}", *(f"{k}={v}" for k, v in sorted(labels.items()))), 0)

    upload = {"method": "POST", "route": "/api/v1/submissions"}
    assert figure("http_responses_total", **upload, status="201") == len(bodies)
    assert figure("http_responses_total", **upload, status="200") == 1
    admitted = {"bucket": "public", "verb": "create", "kind": "submissions"}
    assert figure("bucket_requests_total", **admitted, result="ok") == len(bodies)
    assert figure("bucket_requests_total", **admitted, result="exists") == 1
    assert figure("processed_submissions_total", verdict="accepted", format="runfeed") == 2
    assert figure("refused_submissions_total", verdict="rejected", reason="malformed") == 1
    assert figure("refused_submissions_total", verdict="quarantined", reason="crash") == 1
    assert figure("refused_submissions_total", verdict="quarantined", reason="bug") == 1
    assert figure("child_losses_total", reason="crash") == 2  # it is tried a second time, alone
    assert figure("step_items_total", loop="announce submissions") == len(bodies)
    assert figure("step_failures_total", loop="load") == 0
    assert figure("batch_submissions_sum") == len(bodies)
    assert figure("transform_seconds_count") == len(bodies) + 1
    assert figure("replica_rows", table="measurements") == figure("processed_rows_total", table="measurements") == 2
    assert figure("replica_data_version", lake="v1") >= 1
    for stage in STAGES:
        assert ("runfeed_lag_seconds", f"stage={stage}") in found
    causes = {(one["verdict"], one["reason"]): one["ever"] for one in quality["causes"]}
    assert causes == {("rejected", "malformed"): 1, ("quarantined", "crash"): 1, ("quarantined", "bug"): 1}
