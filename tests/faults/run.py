"""One run of the harness from beginning to report."""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from feed.log import LogReader
from infra.bucket import Bucket, Buckets
from ingest.projects import add_project
from ingest.runners import set_runner
from ingest.tokens import create_token
from processor import doctor
from schemas import keys
from schemas.errors import Unavailable
from tests.faults import check
from tests.faults.chaos import Chaos, Fault, plan
from tests.faults.clients import Ledger, Runners
from tests.faults.follower import Follower
from tests.faults.mixed_files import PROJECTS, RUNNER, Push, push_of
from tests.faults.proxy import Weather
from tests.faults.reference import register_benchmarks, undisturbed
from tests.faults.report import Report
from tests.faults.topology import PRIVATE, Topology

BIG_EVERY = 2_000
STALLED_SECONDS = 120
LEVEL_SECONDS = 150

Say = Callable[[str], None]


def run(folder: Path, *, submissions: int, faults: int, seed: int, say: Say = print) -> Report:
    """Push, harm, wait until all is level, count. A step that does not get anywhere is an AssertionError."""
    big = frozenset(range(submissions // 3, submissions, max(BIG_EVERY, submissions // 3)))
    pushed = cache(partial(push_id, seed, big))
    seconds: dict[str, float] = {}
    begun = time.monotonic()

    def lap(step: str) -> None:
        nonlocal begun
        seconds[step] = time.monotonic() - begun
        begun = time.monotonic()
        say(f"{step}: {seconds[step]:.0f} s")

    with Topology(folder / "topology") as topology:
        lap("start")
        buckets = topology.buckets()
        register_benchmarks(buckets.public)
        now = datetime.now(UTC)
        token, _ = create_token(buckets.private, name=RUNNER, projects=["*"], expires=None, now=now)
        for project in PROJECTS:  # only who is on the server's own machine may make one by pushing
            add_project(buckets, project, now)
        set_runner(buckets.private, RUNNER, ["*"], now)
        outside = topology.client(topology.proxy_url)
        runners = Runners(
            [process.port for process in topology.roles["ingest"]],
            lambda n: push_of(seed, n, big), submissions, token=token, drop=partial(dropped, outside), seed=seed,
        )  # fmt: skip
        follower = Follower(buckets.public)
        chaos = Chaos(topology)
        follower.start()
        runners.start()
        try:
            harm(chaos, plan(seed, faults), runners, submissions, say)
        finally:
            runners.stop()
            follower.stop()
            chaos.end_all()
            counts = topology.order(weather=Weather())
        lap("faults")
        ledger = runners.ledger
        wait_until_level(topology, buckets, ledger, say)
        lap("until level")
        follower.look()
        follower.look_again()
        truth = check.read_truth(buckets.public)
        dashboards = topology.roles["dashboard"]
        breaches = [
            *ledger.refused,
            *(f"push {n}: receipt for {id}" for n, id in ledger.receipts.items() if id != pushed(n)),
            *follower.contradictions,
            *(
                f"{name} ended by itself: {status}"
                for name, found in topology.exits.items()
                for status in found
                if status != 2
            ),
            *check.private_in_public(buckets.public, [token, *topology.secrets]),
            *(f"{one.rule}: {one}" for one in doctor.breaches(buckets, datetime.now(UTC), deep=True, settled=True)),
            *check.unproved(buckets.public),
            *check.different_answers([dashboard.url for dashboard in dashboards]),
        ]
        lap("read")
    lap("end")
    by_id = {pushed(n): n for n in [*ledger.receipts, *ledger.abandoned]}
    pushes: list[Push] = [push_of(seed, by_id[entry.id], big) for entry in truth.entries if entry.id in by_id]
    reference = undisturbed(folder / "undisturbed", pushes)
    lap("undisturbed run")
    lost = check.lost(truth, ledger.receipts.values())
    doubled = check.doubled(truth)
    breaches += [
        *lost,
        *doubled,
        *check.disordered(truth, set(by_id)),
        *check.different(truth, check.read_truth(reference.buckets.public)),
        *check.different_files(
            [dashboard.folder / "data" / "dashboard" / "v1.duckdb" for dashboard in dashboards],
            reference.data / "dashboard" / "v1.duckdb",
        ),
    ]
    lap("compare")
    verdicts: dict[str, int] = {}
    for found in truth.verdicts.values():
        verdicts[found[0].verdict] = verdicts.get(found[0].verdict, 0) + 1
    return Report(
        seed=seed,
        submissions=submissions,
        receipts=len(ledger.receipts),
        distinct=len(set(ledger.receipts.values())),
        abandoned=len(ledger.abandoned),
        retries=ledger.retries,
        faults=dict(chaos.begun),
        requests_harmed=counts.troubles,
        requests=sum(counts.requests.values()),
        verdicts=verdicts,
        restarts=topology.exits,
        lost=len(lost),
        doubled=len(doubled),
        breaches=breaches,
        seconds=seconds,
    )


def dropped(client: Any, key: str, body: bytes, metadata: dict[str, str]) -> None:
    """Drop a file into the inbox, as any S3 client would."""
    try:
        client.put_object(Bucket=PRIVATE, Key=key, Body=body, Metadata=metadata)
    except (ClientError, BotoCoreError) as error:
        raise OSError(str(error)) from error


def push_id(seed: int, big: frozenset[int], n: int) -> str:
    return push_of(seed, n, big).id


def harm(chaos: Chaos, faults: list[Fault], runners: Runners, submissions: int, say: Say) -> None:
    """Let faults and pushes go on together: neither is done long before the other."""
    share = submissions / (len(faults) + 1)
    runners.allowed = int(share)
    for number, fault in enumerate(faults, start=1):
        not_before = time.monotonic() + fault.pause_seconds
        stalled = time.monotonic() + STALLED_SECONDS
        done = runners.done
        while time.monotonic() < not_before or runners.done < int((number - 0.5) * share):
            time.sleep(0.05)
            chaos.step()
            if runners.done > done:
                done, stalled = runners.done, time.monotonic() + STALLED_SECONDS
            assert time.monotonic() < stalled, f"no push got through for {STALLED_SECONDS} s, at {done:,}"
        say(f"{runners.done:,} pushed, fault {number}: {fault.kind}, {fault.seconds:.1f} s")
        chaos.begin(fault)
        runners.allowed = int((number + 1) * share) if number < len(faults) else submissions
    stalled = time.monotonic() + STALLED_SECONDS
    while runners.done < submissions:
        time.sleep(0.05)
        chaos.step()
        assert time.monotonic() < stalled, f"{submissions - runners.done:,} pushes did not end"


def wait_until_level(topology: Topology, buckets: Buckets, ledger: Ledger, say: Say) -> None:
    """Until every receipt is announced, has its verdict, and is loaded in every dashboard."""
    begun = time.monotonic()
    tell = begun + 10
    while missing := missing_yet(topology, buckets, ledger):
        said = "; ".join(missing)
        assert time.monotonic() < begun + LEVEL_SECONDS, f"not level after {LEVEL_SECONDS} s: {said}"
        if time.monotonic() > tell:
            say(f"not yet level: {said}")
            tell += 10
        time.sleep(0.5)


def missing_yet(topology: Topology, buckets: Buckets, ledger: Ledger) -> list[str]:
    """What is not yet as it will be."""
    try:
        waiting = [key for key in buckets.private.list("pending/") if _leads_somewhere(buckets.public, key)]
        waiting += buckets.private.list("inbox/")
        heads = {log: LogReader(buckets.public, log).last_seq() for log in (keys.SUBMISSIONS_LOG, keys.outcomes_log(1))}
    except Unavailable as error:
        return [str(error)]
    missing = [f"{len(waiting):,} that wait, such as {waiting[0]}"] if waiting else []
    if heads[keys.SUBMISSIONS_LOG] < len(set(ledger.receipts.values())):
        missing.append(f"{heads[keys.SUBMISSIONS_LOG]:,} entries of {len(set(ledger.receipts.values())):,} receipts")
    for dashboard in topology.roles["dashboard"]:
        said = {}
        with suppress(httpx.HTTPError, ValueError):
            said = httpx.get(f"{dashboard.url}/api/v1/status", timeout=10).json()
        states = said.get("states", {})
        level = (said.get("submissions_seq"), said.get("outcomes_seq")) == tuple(heads.values())
        if not level or states.get("announced") or states.get("received"):
            missing.append(f"{dashboard.name} at {said.get('submissions_seq')}, {said.get('outcomes_seq')} of "
                           f"{list(heads.values())}, states {states}")  # fmt: skip
    return missing


def _leads_somewhere(public: Bucket, marker_key: str) -> bool:
    """Whether the object is there that the marker speaks of; whoever died between the two left a marker without."""
    marker = keys.parse_marker(marker_key)
    assert marker
    first, _, revision = marker.id.partition("-")
    key = keys.outcome(1, int(first), int(revision)) if revision else keys.submission(marker.id)
    try:
        public.head(key)
    except FileNotFoundError:
        return False
    return True
