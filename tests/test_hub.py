"""The own WebSub hub: a subscriber that agreed gets every new entry, whoever dies when, and nobody is asked in vain."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from feed.atom import parse_document
from feed.chain import chained_all
from feed.hub import content as hub_content
from feed.hub import delivery as hub_delivery
from feed.hub import intent as hub_intent
from feed.hub.content import content_after
from feed.hub.delivery import Deliveries
from feed.hub.intent import Intents
from feed.hub.ping import Pings
from feed.hub.requests import Wanted
from feed.hub.role import growing_logs
from feed.hub.subscriptions import FIRST_PAUSE_SECONDS, Subscriptions
from feed.signing import check_signature
from infra.fetch import Fetcher
from infra.folder import FolderBucket
from infra.lease import Lease
from schemas import keys
from schemas.errors import Refused, Unavailable
from schemas.records import Subscription
from tests.chain import Chain, failing, measured, nothing
from tests.running import Running, running
from tests.servers import RedisServer
from tests.subscriber import Subscriber, subscriber, wait_until
from tests.test_lease import Time
from tests.test_roles import topology_of

BASE = "https://results.example"
TOPIC = f"{BASE}/feeds/submissions/current.atom"


class Hub:
    """The hub's parts over a chain's buckets, a step at a time, under its clock."""

    def __init__(self, chain: Chain, ending: ExitStack, **how: Any) -> None:
        self.chain = chain
        self.store = Subscriptions(chain.buckets.private)
        self.fetcher = Fetcher(
            **({"private_addresses": True, "user_agent": "test", "timeout_seconds": 5.0, "total_seconds": 10.0} | how)
        )
        ending.callback(self.fetcher.close)
        self.intents = Intents(
            self.store,
            chain.reader_of,
            lambda log: log in growing_logs(chain.buckets.public),
            lambda local: self.fetcher,
            clock=chain.clock,
        )
        ending.callback(self.intents.stop)
        self.deliveries = Deliveries(self.store, chain.reader_of, lambda local: self.fetcher, clock=chain.clock)
        ending.callback(self.deliveries.stop)

    def ask(self, callback: str, mode: Any = "subscribe", **fields: Any) -> None:
        """Ask, and wait until that is seen to."""
        whole = {"topic": TOPIC, "log": "submissions", "lease_seconds": 3600, "secret": "", "local": False}
        self.intents.take(Wanted(**({"mode": mode, "callback": callback} | whole | fields)))
        wait_until(lambda: not self.intents.waiting)

    def subscription(self, callback: str, topic: str = TOPIC) -> Subscription | None:
        return self.store.read(keys.subscription(topic, callback))[0]

    def deliver(self) -> int:
        """A step, and all that it began; the number of hosts that had a turn."""
        turns = self.deliveries.step()
        wait_until(lambda: not self.deliveries.busy)
        return turns


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    chain = Chain(tmp_path / "data")
    chain.push_batch(measured(0))
    return chain


@pytest.fixture
def ending() -> Iterator[ExitStack]:
    with ExitStack() as ending:
        yield ending


@pytest.fixture
def hub(chain: Chain, ending: ExitStack) -> Hub:
    return Hub(chain, ending)


@pytest.fixture
def reader(ending: ExitStack) -> Subscriber:
    return ending.enter_context(subscriber())


# --- what is sent ---


def test_a_delivery_is_a_head_of_just_the_new_entries_which_proves_its_place_in_the_log(chain: Chain) -> None:
    chain.push_batch(measured(1), measured(2))
    content = content_after(chain.submissions, 1, TOPIC, "https://hub.example/")
    assert content is not None
    document = parse_document(content.body)
    assert ([entry.seq for entry in document.entries], content.last, document.archive) == ([2, 3], 3, False)
    head = chain.submissions.head()
    assert document.entries == head.entries[1:]
    assert document.authority == head.document.authority
    checkpoint = document.checkpoint
    assert checkpoint == head.document.checkpoint is not None
    check_signature(checkpoint)
    assert chained_all(document.chain, document.entries) == checkpoint.chain
    links = f'<{TOPIC}>; rel="self", <{BASE}/hub>; rel="hub", <https://hub.example/>; rel="hub"'
    assert content.headers == {"Content-Type": "application/atom+xml", "Link": links}
    assert content_after(chain.submissions, 3, TOPIC, "") is None


def test_what_is_long_is_delivered_in_pieces_that_leave_nothing_out(
    hub: Hub, reader: Subscriber, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what has left the head for a page meanwhile."""
    hub.ask(reader.callback)
    chain.push_batch(*(measured(number) for number in range(1, 230)))
    chain.push_batch(measured(1000))  # now the oldest entries are in a page
    assert chain.submissions.head().first_seq > 2
    monkeypatch.setattr(hub_content, "MOST_ENTRIES", 50)
    hub.deliver()
    assert reader.seqs == list(range(2, 232))
    assert {len(one.seqs) for one in reader.deliveries} == {50, 30}
    monkeypatch.setattr(hub_content, "MOST_BYTES", 1)
    chain.push_batch(measured(2000), measured(2001))
    hub.deliver()
    assert [one.seqs for one in reader.deliveries[-2:]] == [[232], [233]], "one entry goes whatever its size"


# --- subscribing ---


def test_a_subscription_is_kept_only_if_the_callback_echoes_the_challenge(hub: Hub, reader: Subscriber) -> None:
    other = f"http://127.0.0.1:{httpx.URL(reader.callback).port}/other"
    for echo in (
        lambda challenge: (200, b"wrong"),
        lambda challenge: (200, b""),
        lambda challenge: (404, challenge.encode()),
        lambda challenge: (500, challenge.encode()),
        lambda challenge: (200, challenge.encode() + b" " * 4096),
    ):
        reader.echo = echo
        hub.ask(reader.callback)
        assert hub.subscription(reader.callback) is None
    reader.echo = lambda challenge: (201, challenge.encode())
    reader.location = other
    hub.ask(reader.callback)
    assert hub.subscription(reader.callback) is None, "a redirect is no consent (5.3.1)"
    reader.location = ""
    hub.ask(reader.callback)
    assert hub.subscription(reader.callback) is not None
    last = reader.asked[-1]
    assert (last["hub.mode"], last["hub.topic"], last["hub.lease_seconds"]) == ("subscribe", TOPIC, "3600")
    challenges = [one["hub.challenge"] for one in reader.asked if "hub.challenge" in one]
    assert len(set(challenges)) >= 7, "each is used once"
    assert all(len(one) >= 32 for one in challenges)


def test_asking_again_renews_with_the_new_secret_and_misses_nothing(hub: Hub, reader: Subscriber, chain: Chain) -> None:
    hub.ask(reader.callback, secret="old")
    chain.push_batch(measured(1))
    chain.pass_time(minutes=50)
    hub.ask(reader.callback, secret="new")
    chain.pass_time(minutes=50)
    hub.deliver()
    [delivery] = reader.deliveries
    assert delivery.seqs == [2]
    assert delivery.is_signed_with("new")
    assert not delivery.is_signed_with("old")
    hub.ask(reader.callback)
    chain.push_batch(measured(2))
    hub.deliver()
    assert "x-hub-signature" not in reader.deliveries[-1].headers


def test_a_renewal_that_fails_leaves_the_subscription_as_it_was(hub: Hub, reader: Subscriber) -> None:
    hub.ask(reader.callback, secret="old")
    before = hub.subscription(reader.callback)
    reader.echo = lambda challenge: (404, b"")
    hub.ask(reader.callback, secret="attacker's")
    hub.ask(reader.callback, "unsubscribe")
    assert hub.subscription(reader.callback) == before is not None


def test_unsubscribing_ends_it_once_the_callback_agrees(hub: Hub, reader: Subscriber, chain: Chain) -> None:
    hub.ask(reader.callback)
    hub.ask(reader.callback, "unsubscribe")
    assert reader.asked[-1]["hub.mode"] == "unsubscribe"
    assert hub.subscription(reader.callback) is None
    chain.push_batch(measured(1))
    assert hub.deliver() == 0
    asked = len(reader.asked)
    hub.ask(reader.callback, "unsubscribe")
    assert len(reader.asked) == asked, "nobody is asked about what there is not"


def test_a_lease_ends_and_then_nothing_is_sent_and_nothing_kept(hub: Hub, reader: Subscriber, chain: Chain) -> None:
    hub.ask(reader.callback, lease_seconds=3600)
    chain.push_batch(measured(1))
    chain.pass_time(seconds=3600)
    assert hub.deliver() == 0
    assert reader.deliveries == []
    assert list(chain.buckets.private.list(keys.HUB)) == []


def test_an_expired_subscription_begins_anew_with_what_comes(hub: Hub, reader: Subscriber, chain: Chain) -> None:
    hub.ask(reader.callback)
    chain.pass_time(hours=2)
    chain.push_batch(measured(1))
    hub.ask(reader.callback)
    chain.push_batch(measured(2))
    hub.deliver()
    assert reader.seqs == [3]


def test_what_is_announced_while_the_callback_is_asked_is_not_missed(
    hub: Hub, reader: Subscriber, chain: Chain
) -> None:
    def agree(challenge: str) -> tuple[int, bytes]:
        chain.push_batch(measured(1))
        return 200, challenge.encode()

    reader.echo = agree
    hub.ask(reader.callback)
    hub.deliver()
    assert reader.seqs == [2]


def test_who_cannot_be_served_is_told_so(hub: Hub, reader: Subscriber, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.ask(reader.callback, topic=f"{BASE}/feeds/outcomes-v7/current.atom", log="outcomes-v7")
    assert reader.asked[-1] == {
        "hub.mode": "denied",
        "hub.topic": f"{BASE}/feeds/outcomes-v7/current.atom",
        "hub.reason": "there is no such log",
    }
    hub.ask(reader.callback)
    monkeypatch.setattr(hub_intent, "MOST_OF_A_HOST", 1)
    hub.ask(reader.callback + "2")
    assert reader.asked[-1]["hub.reason"] == "this host has too many subscriptions"
    monkeypatch.setattr(hub_intent, "MOST_SUBSCRIPTIONS", 1)
    hub.ask(reader.callback + "2")
    assert reader.asked[-1]["hub.reason"] == "there are too many subscriptions"
    assert hub.subscription(reader.callback + "2") is None
    hub.ask(reader.callback, lease_seconds=7200)
    assert reader.asked[-1]["hub.mode"] == "subscribe", "who has one may renew it all the same"


def test_few_callbacks_of_a_host_wait_to_be_asked_and_not_many_at_all(
    hub: Hub, reader: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a flood of requests does not become a flood of ours."""
    going_on = threading.Event()

    def agree(challenge: str) -> tuple[int, bytes]:
        going_on.wait(10)
        return 200, challenge.encode()

    reader.echo = agree

    def wanted(callback: str) -> Wanted:
        return Wanted("subscribe", TOPIC, "submissions", callback, 60, "", local=False)

    for number in range(hub_intent.MOST_WAITING_OF_A_HOST):
        hub.intents.take(wanted(f"{reader.callback}{number}"))
    with pytest.raises(Refused) as refusal:
        hub.intents.take(wanted(f"{reader.callback}x"))
    assert refusal.value.status == 429
    monkeypatch.setattr(hub_intent, "MOST_WAITING", hub_intent.MOST_WAITING_OF_A_HOST)
    with pytest.raises(Refused):
        hub.intents.take(wanted("http://127.0.0.2:1/"))
    going_on.set()
    wait_until(lambda: not hub.intents.waiting)
    assert len(reader.asked) == hub_intent.MOST_WAITING_OF_A_HOST


# --- strangers' addresses ---


def test_a_name_that_leads_inside_is_never_connected_to(chain: Chain, ending: ExitStack, reader: Subscriber) -> None:
    """Neither when it does so at once (a metadata service, loopback), nor when it is rebound after it was verified."""
    port = httpx.URL(reader.callback).port
    answers = {"inside.example": ["127.0.0.1"], "metadata.example": ["169.254.169.254"]}
    answers |= {"both.example": ["192.0.2.1", "127.0.0.1"]}
    hub = Hub(chain, ending, private_addresses=False, resolve=lambda host, port: answers[host])
    for host in answers:
        hub.ask(f"http://{host}:{port}/callback")
    assert reader.asked == []
    rebound = f"http://reader.example:{port}/callback"
    hub.store.change(
        keys.subscription(TOPIC, rebound),
        lambda _: Subscription(
            topic=TOPIC,
            callback=rebound,
            log="submissions",
            expires=chain.now + timedelta(days=1),
            delivered=0,
        ),
    )
    answers["reader.example"] = ["127.0.0.1"]
    assert hub.deliver() == 1
    assert reader.deliveries == []
    found = hub.subscription(rebound)
    assert found is not None
    assert (found.failures, found.delivered) == (1, 0)
    assert list(hub.store.known()) == [keys.subscription(TOPIC, rebound)]


# --- delivering ---


def test_each_subscriber_gets_each_new_entry_once_and_in_order(
    hub: Hub, chain: Chain, ending: ExitStack, reader: Subscriber
) -> None:
    late = ending.enter_context(subscriber())
    hub.ask(reader.callback + "?user=7", secret="s3cret")
    chain.push_batch(measured(1))
    hub.deliver()
    hub.ask(late.callback)
    chain.push_batch(measured(2), measured(3))
    hub.deliver()
    hub.deliver()
    assert reader.seqs == [2, 3, 4]
    assert late.seqs == [3, 4]
    assert all(one.is_signed_with("s3cret") for one in reader.deliveries)
    assert {one.path for one in reader.deliveries} == {"/callback?user=7"}
    assert {one.headers["content-type"] for one in reader.deliveries} == {"application/atom+xml"}


def test_both_logs_are_topics(hub: Hub, reader: Subscriber, chain: Chain) -> None:
    hub.ask(reader.callback, topic=f"{BASE}/feeds/outcomes-v1/current.atom", log="outcomes-v1")
    chain.process(chain.push_batch(measured(1)))
    chain.announce_outcomes()
    hub.deliver()
    [delivery] = reader.deliveries
    assert (delivery.document.log, delivery.seqs) == ("outcomes-v1", [1])


@pytest.mark.parametrize("status", [500, 404, 301, 429])
def test_what_was_not_taken_comes_again_with_what_is_new(
    hub: Hub, reader: Subscriber, chain: Chain, status: int
) -> None:
    hub.ask(reader.callback)
    chain.push_batch(measured(1))
    reader.status = status
    assert hub.deliver() == 1
    assert hub.deliver() == 0, "not at once"
    chain.push_batch(measured(2))
    reader.status = 200
    chain.pass_time(seconds=FIRST_PAUSE_SECONDS)
    assert hub.deliver() == 1
    assert [one.seqs for one in reader.deliveries] == [[2], [2, 3]]
    assert (subscription := hub.subscription(reader.callback))
    assert (subscription.failures, subscription.delivered) == (0, 3)


def test_a_callback_that_was_down_gets_what_it_missed(hub: Hub, chain: Chain) -> None:
    with subscriber() as reader:
        hub.ask(reader.callback)
    chain.push_batch(measured(1))
    assert hub.deliver() == 1
    chain.push_batch(measured(2))
    port = httpx.URL(reader.callback).port
    assert port
    with subscriber(port) as reader:
        assert hub.deliver() == 0
        chain.pass_time(seconds=FIRST_PAUSE_SECONDS)
        assert hub.deliver() == 1
        assert [one.seqs for one in reader.deliveries] == [[2, 3]]


def test_410_ends_the_subscription(hub: Hub, reader: Subscriber, chain: Chain) -> None:
    hub.ask(reader.callback)
    chain.push_batch(measured(1))
    reader.status = 410
    hub.deliver()
    assert hub.subscription(reader.callback) is None


def test_a_storm_of_commits_is_one_delivery(hub: Hub, reader: Subscriber, chain: Chain) -> None:
    hub.ask(reader.callback)
    for number in range(1, 21):
        chain.push_batch(measured(number))
    hub.deliver()
    assert [one.seqs for one in reader.deliveries] == [list(range(2, 22))]


def test_a_slow_callback_keeps_nobody_else_waiting(
    hub: Hub, chain: Chain, ending: ExitStack, reader: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host has one thread, gives up its turn, and waits from then on among its like."""
    monkeypatch.setattr(hub_delivery, "SLOW_SECONDS", 0.2)
    slow = ending.enter_context(subscriber())
    slow.delay_seconds = 1.0
    slow_host = slow.callback.replace("127.0.0.1", "localhost")
    for number in range(3):
        hub.ask(f"{slow_host}/{number}")
    hub.ask(reader.callback)
    chain.push_batch(measured(1))
    begun = time.monotonic()
    assert hub.deliveries.step() == 2
    wait_until(lambda: reader.seqs == [2])
    assert time.monotonic() - begun < 0.9
    wait_until(lambda: not hub.deliveries.busy)
    assert len(slow.deliveries) == 1, "the turn ends after the first that took long"
    chain.push_batch(measured(2))
    hub.deliver()
    hub.deliver()
    hub.deliver()
    assert len({one.path for one in slow.deliveries[:3]}) == 3, "whoever is furthest behind comes first"
    assert reader.seqs == [2, 3]
    for number in range(3):
        found = hub.subscription(f"{slow_host}/{number}")
        assert found is not None
        assert found.delivered == 3, "slow, but served"


def test_a_renewal_during_a_delivery_loses_neither(hub: Hub, reader: Subscriber, chain: Chain) -> None:
    hub.ask(reader.callback)
    chain.push_batch(measured(1))
    chain.pass_time(minutes=30)
    raced = False

    def renew(verb: str, key: str) -> None:
        nonlocal raced
        if verb == "swap" and key.startswith(keys.HUB) and not raced:
            raced = True
            Hub.ask(hub, reader.callback, secret="new")

    chain.private.before = renew
    hub.deliver()
    chain.private.before = nothing
    found = hub.subscription(reader.callback)
    assert found is not None
    assert (found.delivered, found.secret, found.expires) == (2, "new", chain.now + timedelta(hours=1))
    assert len(reader.deliveries) == 1


def test_an_end_during_a_delivery_stays_the_end(hub: Hub, reader: Subscriber, chain: Chain) -> None:
    hub.ask(reader.callback)
    chain.push_batch(measured(1))
    key = keys.subscription(TOPIC, reader.callback)

    def end(verb: str, called: str) -> None:
        if verb == "swap" and called == key:
            chain.private.bucket.delete(key)

    chain.private.before = end
    hub.deliver()
    chain.private.before = nothing
    assert hub.subscription(reader.callback) is None


def test_storage_that_fails_after_a_delivery_costs_a_pause_and_perhaps_a_repetition(
    hub: Hub, reader: Subscriber, chain: Chain
) -> None:
    """At least once; and a callback is not flooded because we cannot write down what it has taken."""
    hub.ask(reader.callback)
    chain.push_batch(measured(1))
    chain.private.before = failing("swap", keys.HUB, Unavailable("storage"))
    assert hub.deliver() == 1
    chain.private.before = nothing
    assert hub.deliver() == 0
    chain.pass_time(seconds=30)
    hub.deliver()
    hub.deliver()
    assert [one.seqs for one in reader.deliveries] == [[2], [2]]


def test_a_hub_that_takes_over_goes_on_where_the_other_was(
    hub: Hub, chain: Chain, ending: ExitStack, reader: Subscriber
) -> None:
    """Of two, one delivers, under a lease; the other has old ideas of the subscriptions and is not misled by them."""
    clock = Time()
    private: Any = chain.private
    leases = [Lease(private, keys.lease("hub"), 6.0, clock=clock) for _ in range(2)]
    hubs = [hub, Hub(chain, ending)]

    def deliver() -> int:
        turns = 0
        for lease, one in zip(leases, hubs, strict=True):
            lease.step()
            turns += lease.only(one.deliver, one.deliveries.stand_by)()
        return turns

    hub.ask(reader.callback)
    hubs[1].store.known()
    chain.push_batch(measured(1))
    assert deliver() == 1
    chain.push_batch(measured(2))
    assert deliver() == 1
    leases[0].stop()
    clock.now += 6.0
    chain.push_batch(measured(3))
    assert leases[1].step() is None
    assert leases[1].only(hubs[1].deliver)() == 1
    assert reader.seqs == [2, 3, 4]


def test_a_record_that_cannot_be_read_is_in_nobodys_way(hub: Hub, reader: Subscriber, chain: Chain) -> None:
    key = keys.subscription(TOPIC, reader.callback)
    chain.buckets.private.create(key, b"nonsense")
    chain.push_batch(measured(1))
    assert hub.deliver() == 0
    hub.ask(reader.callback)
    chain.push_batch(measured(2))
    hub.deliver()
    assert reader.seqs == [3]


# --- telling other hubs ---


def test_other_hubs_are_told_of_each_log_once_it_has_grown_and_again_after_they_failed(
    hub: Hub, chain: Chain, reader: Subscriber
) -> None:
    down = "http://127.0.0.1:9/"
    pings = Pings(
        [reader.callback, down],
        BASE,
        lambda: growing_logs(chain.buckets.public),
        chain.reader_of,
        hub.fetcher,
        clock=chain.clock,
    )
    topic = f"hub.mode=publish&hub.url={TOPIC.replace(':', '%3A').replace('/', '%2F')}"
    assert pings.step() == 1
    assert pings.step() == 0
    for number in range(1, 4):
        chain.push_batch(measured(number))
    assert pings.step() == 1, "once for all of it"
    assert [one.body.decode().startswith(topic) for one in reader.deliveries] == [True, True]
    assert reader.deliveries[0].headers["content-type"] == "application/x-www-form-urlencoded"
    reader.status = 503
    chain.push_batch(measured(9))
    assert (pings.step(), pings.step(), len(reader.deliveries)) == (0, 0, 3), "not again at once"
    reader.status = 202
    chain.pass_time(seconds=5)
    assert (pings.step(), len(reader.deliveries)) == (1, 4)


# --- a whole server ---


def subscribed(server: Running, reader: Subscriber, **fields: str) -> None:
    """Subscribe as a stranger would: by what the head says of itself and its hub."""
    head = server.client.head("/feeds/submissions/current.atom")
    links = {rel: link["url"] for rel, link in head.links.items()}
    asked = {"hub.mode": "subscribe", "hub.topic": links["self"], "hub.callback": reader.callback}
    before = len(reader.asked)
    answer = httpx.post(links["hub"], data=asked | {f"hub.{name}": value for name, value in fields.items()})
    assert (answer.status_code, answer.text) == (202, "")
    wait_until(lambda: len(reader.asked) > before)


def test_a_whole_exchange_with_a_server_that_is_killed_in_between(tmp_path: Path) -> None:
    """Found by its links, agreed to, signed, each new entry at least once and in order; then ended."""
    with subscriber() as reader, running(tmp_path / "data", "--log-level", "info") as server:
        server.push(measured(1))
        wait_until(lambda: server.client.get("/feeds/submissions/current.atom").status_code == 200)
        subscribed(server, reader, secret="s3cret", lease_seconds="600")
        assert reader.asked[0]["hub.lease_seconds"] == "600"
        private = FolderBucket(tmp_path / "data/private")
        wait_until(lambda: list(private.list(keys.HUB)))
        server.push(measured(2))
        wait_until(lambda: reader.seqs == [2])
        assert reader.deliveries[0].is_signed_with("s3cret")
        assert reader.deliveries[0].headers["link"].endswith(f'<{server.url}/hub>; rel="hub"')
        reader.delay_seconds = 0.5
        server.push(measured(3))
        time.sleep(0.2)  # perhaps in the middle of it
        server.kill()
        reader.delay_seconds = 0.0
        server.start()
        server.push(measured(4))
        wait_until(lambda: reader.seqs and reader.seqs[-1] == 4)
        assert list(dict.fromkeys(reader.seqs)) == [2, 3, 4]
        topic = reader.asked[0]["hub.topic"]
        ended = {"hub.mode": "unsubscribe", "hub.callback": reader.callback}
        assert server.client.post("/hub", data=ended | {"hub.topic": topic}).status_code == 404, "another port now"
        ended["hub.topic"] = topic.replace(topic.split("/feeds")[0], server.url)
        assert server.client.post("/hub", data=ended).status_code == 202
        assert reader.callback not in server.log(), "whoever knows it can write to it"


def test_the_hub_refuses_in_plain_words(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        topic = f"{server.url}/feeds/submissions/current.atom"
        whole = {"hub.mode": "subscribe", "hub.topic": topic, "hub.callback": "http://127.0.0.1:9/x"}

        def answer(changed: dict[str, str], **headers: str) -> tuple[int, str]:
            got = server.client.post("/hub", data=whole | changed, headers=headers)
            assert got.headers["content-type"] == "text/plain; charset=utf-8"
            return got.status_code, got.text

        assert answer({}) == (202, "")
        assert answer({"hub.mode": "publish"}) == (202, "")
        assert answer({"hub.topic": "http://other.example/feeds/submissions/current.atom"})[0] == 404
        assert answer({"hub.callback": "http://169.254.169.254/"})[0] == 403
        assert answer({"hub.secret": "s" * 200})[0] == 400
        status, text = answer({}, Origin="http://evil.example")
        assert (status, "public_url" in text) == (404, True), "a web page cannot make this server ask its own machine"
        assert answer({}, Host="rebound.example")[0] == 404
        got = server.client.post("/hub", json=whole)
        assert (got.status_code, "application/x-www-form-urlencoded" in got.text) == (415, True)
        assert server.client.post("/hub", content=b"x" * 20_000).status_code in (413, 415)
        assert server.client.get("/hub").status_code in (404, 405)


def test_two_hubs_of_their_own_take_requests_and_one_delivers(tmp_path: Path, redis_server: RedisServer) -> None:
    """What one has taken the other delivers, also after one is killed; with a hint that reaches both."""
    environ = {"RUNFEED_REDIS": redis_server.url, "RUNFEED_LEASE_SECONDS": "3", "RUNFEED_PRIVATE_ADDRESSES": "true"}
    environ["RUNFEED_PUBLIC_URL"] = BASE
    with ExitStack() as stack:
        topology = stack.enter_context(topology_of(tmp_path, environ))
        chain = Chain(tmp_path / "data")
        chain.push_batch(measured(0))
        hubs = [topology.start("hub"), topology.start("hub")]
        readers = [stack.enter_context(subscriber()) for _ in hubs]
        for one, reader in zip(hubs, readers, strict=True):
            asked = {"hub.mode": "subscribe", "hub.topic": TOPIC, "hub.callback": reader.callback}
            assert httpx.post(f"{one.url}/hub", data=asked).status_code == 202
        wait_until(lambda: len(list(chain.buckets.private.list(keys.HUB))) == 2)
        chain.push_batch(measured(1))
        store = Subscriptions(chain.buckets.private)

        def written() -> set[int]:
            store.forget()
            return {one.delivered for one in store.known().values()}

        wait_until(lambda: written() == {2})  # else it would come once more after the kill, and rightly so
        assert [reader.seqs for reader in readers] == [[2], [2]]
        hubs[0].end(signal.SIGKILL)
        chain.push_batch(measured(2))
        wait_until(lambda: written() == {3})
        assert [reader.seqs for reader in readers] == [[2, 3], [2, 3]]
