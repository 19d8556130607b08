"""What a subscriber may ask of the hub, and what it is told when it may not."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed.hub.limits import Allowances, client_of
from feed.hub.requests import (
    LEASE_SECONDS,
    LONGEST_LEASE_SECONDS,
    MOST_BYTES,
    SHORTEST_LEASE_SECONDS,
    Wanted,
    denial_url,
    intent_url,
    parse_request,
)
from feed.hub.subscriptions import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    TRIES,
    is_due,
    not_taken,
    taken,
)
from feed.serve.topics import base_url, hubs_of, log_of
from infra.local import Caller
from infra.settings import Settings
from schemas.errors import Refused
from schemas.records import Subscription

BASE = "https://results.example"
TOPIC = f"{BASE}/feeds/submissions/current.atom"
CALLBACK = "https://reader.example/cb?user=7"
FORM = "application/x-www-form-urlencoded"
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def form(**fields: str) -> bytes:
    """A whole request to subscribe, with `fields` changed; empty ones are left out."""
    asked = {"mode": "subscribe", "topic": TOPIC, "callback": CALLBACK} | fields
    return urlencode({f"hub.{name}": value for name, value in asked.items() if value}).encode()


def parsed(body: bytes, media_type: str = FORM, **how: Any) -> Wanted:
    wanted = parse_request(media_type, body, {BASE}, **({"local": False, "private": False} | how))
    assert wanted is not None
    return wanted


def test_a_whole_request_is_read_as_it_stands() -> None:
    wanted = parsed(form(lease_seconds="3600", secret="s3cret"), f"{FORM}; charset=UTF-8")
    assert wanted == Wanted("subscribe", TOPIC, "submissions", CALLBACK, 3600, "s3cret", local=False)
    assert wanted.host == "reader.example"
    ended = parsed(form(mode="unsubscribe", lease_seconds="nonsense"))
    assert (ended.mode, ended.lease_seconds) == ("unsubscribe", 0), "it must be ignored (5.1)"


def test_what_the_hub_does_not_know_is_ignored() -> None:
    assert parsed(form() + b"&hub.verify=sync&hub.verify=async&x=%26&y") == parsed(form())


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ("", LEASE_SECONDS),
        ("86400", 86400),
        ("1", SHORTEST_LEASE_SECONDS),
        ("99999999999999999999", LONGEST_LEASE_SECONDS),
    ],
)
def test_a_lease_is_what_was_asked_for_within_bounds(asked: str, granted: int) -> None:
    assert parsed(form(lease_seconds=asked)).lease_seconds == granted


@pytest.mark.parametrize(
    ("body", "where", "status"),
    [
        (b"", "hub.mode", 400),
        (form(mode="renew"), "hub.mode", 400),
        (form(topic=""), "hub.topic", 404),
        (form(topic="https://other.example/feeds/submissions/current.atom"), "hub.topic", 404),
        (form(topic=f"{BASE}.evil.example/feeds/submissions/current.atom"), "hub.topic", 404),
        (form(topic=f"{BASE}/feeds/submissions/current.atom?x"), "hub.topic", 404),
        (form(topic=f"{BASE}/feeds/../blobs/current.atom"), "hub.topic", 404),
        (form(topic=f"{BASE}/feeds/submissions/000000000001-000000000002-0123456789abcdef.atom"), "hub.topic", 404),
        (form(topic=f"{BASE}//feeds/submissions/current.atom"), "hub.topic", 404),
        (form(callback=""), "hub.callback", 400),
        (form(callback="reader.example/cb"), "hub.callback", 400),
        (form(callback="file:///etc/passwd"), "hub.callback", 400),
        (form(callback="gopher://reader.example/x"), "hub.callback", 400),
        (form(callback="https://user:word@reader.example/"), "hub.callback", 400),
        (form(callback="https://reader.example/#part"), "hub.callback", 400),
        (form(callback="https://reader.example/" + "a" * 2000), "hub.callback", 400),
        (form(callback="http://[::1"), "hub.callback", 400),
        (form(callback="http://reader.example]/"), "hub.callback", 400),
        (form(callback="http://bücher.example/"), "hub.callback", 400),
        (form(callback="http://reader.example\\@evil.example/"), "hub.callback", 400),
        (form(callback="http://reader.example\n.evil.example/"), "hub.callback", 400),
        (form(callback="http://127.0.0.1:9/"), "host 127.0.0.1", 403),
        (form(callback="http://[::1]:9/"), "host ::1", 403),
        (form(callback="http://10.1.2.3/"), "host 10.1.2.3", 403),
        (form(callback="http://169.254.169.254/latest/meta-data/"), "host 169.254.169.254", 403),
        (form(callback="http://[::ffff:169.254.169.254]/"), "host", 403),
        (form(lease_seconds="-1"), "hub.lease_seconds", 400),
        (form(lease_seconds="0"), "hub.lease_seconds", 400),
        (form(lease_seconds="ten"), "hub.lease_seconds", 400),
        (form(lease_seconds="٣"), "hub.lease_seconds", 400),
        (form(secret="ä" * 100), "hub.secret", 400),
        (form() + b"&hub.topic=" + TOPIC.encode(), "hub.topic", 400),
        (form() + b"&hub.callback=https%3A%2F%2Fother.example", "hub.callback", 400),
        (b"hub.mode=%ff", "request", 400),
        (b"&".join(b"x%d=" % number for number in range(200)), "request", 400),
        (form(mode="publish", topic="https://other.example/x"), "hub.topic", 404),
        (b"hub.mode=publish", "hub.topic", 404),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(body: bytes, where: str, status: int) -> None:
    with pytest.raises(Refused) as refusal:
        parsed(body)
    assert refusal.value.where.startswith(where)
    assert refusal.value.status == status


def test_a_secret_of_199_bytes_is_the_longest() -> None:
    assert parsed(form(secret="s" * 199)).secret == "s" * 199
    with pytest.raises(Refused, match="200 bytes"):
        parsed(form(secret="s" * 200))


def test_only_a_form_is_a_request() -> None:
    for media_type in ("", "application/json", "multipart/form-data; boundary=x", "text/plain"):
        with pytest.raises(Refused) as refusal:
            parsed(form(), media_type)
        assert refusal.value.status == 415


def test_callbacks_at_private_addresses_are_for_local_programs_and_for_who_allows_them() -> None:
    body = form(callback="http://127.0.0.1:9000/cb")
    assert parsed(body, local=True).local
    assert not parsed(body, private=True).local
    for how in ("local", "private"):
        with pytest.raises(Refused):
            parsed(form(callback="http://169.254.169.254/"), **{how: True})


def test_a_publishers_word_about_our_topics_is_taken_and_needs_nothing() -> None:
    """We see by ourselves what is new."""
    body = urlencode(
        [("hub.mode", "publish"), ("hub.url", TOPIC), ("hub.url", f"{BASE}/feeds/outcomes-v1/current.atom")]
    )
    assert parse_request(FORM, body.encode(), {BASE}, local=False, private=False) is None


@pytest.mark.parametrize(
    "callback",
    [
        "HTTPS://Reader.Example:8443/x",
        "http://xn--bcher-kva.example/",
        "http://reader.example./",
        "http://[2606:4700::1]/",
    ],
)
def test_odd_but_proper_callbacks_are_taken_as_they_are(callback: str) -> None:
    assert parsed(form(callback=callback)).callback == callback


@given(st.binary(max_size=200), st.text(max_size=40))
def test_any_bytes_are_a_request_or_refused(body: bytes, media_type: str) -> None:
    for kind in (media_type, FORM):
        for whole in (body, b"hub.mode=subscribe&hub.topic=" + body, form()[:-20] + body):
            try:
                wanted = parse_request(kind, whole, {BASE}, local=False, private=False)
            except Refused:
                continue
            assert wanted is None or wanted.topic.startswith(BASE)
            assert wanted is None or wanted.host


@pytest.mark.parametrize(
    ("callback", "begins"),
    [
        ("https://reader.example/cb", "https://reader.example/cb?hub.mode="),
        ("https://reader.example/cb?", "https://reader.example/cb?hub.mode="),
        ("https://reader.example/cb?a=%20b&hub.mode=x", "https://reader.example/cb?a=%20b&hub.mode=x&hub.mode="),
    ],
)
def test_the_callbacks_own_query_stays_in_front_as_it_was(callback: str, begins: str) -> None:
    wanted = Wanted("subscribe", TOPIC, "submissions", callback, 60, "", local=False)
    asked, denied = intent_url(wanted, "c&=ä"), denial_url(wanted, "full & done")
    assert asked.startswith(begins + "subscribe")
    assert denied.startswith(begins + "denied")
    query = parse_qs(urlsplit(asked).query)
    assert (query["hub.topic"], query["hub.challenge"], query["hub.lease_seconds"]) == ([TOPIC], ["c&=ä"], ["60"])
    query = parse_qs(urlsplit(denied).query)
    assert (query["hub.topic"], query["hub.reason"]) == ([TOPIC], ["full & done"])


def test_a_topic_is_below_the_public_address_or_for_a_local_program_where_it_has_found_us() -> None:
    public = Settings(public_url=f"{BASE}/results/", hubs="https://hub.example")
    stranger, local = Caller("203.0.113.7", {"host": "evil.example"}), Caller("127.0.0.1", {"host": "localhost:8765"})
    assert base_url(stranger, public) == base_url(local, public) == f"{BASE}/results"
    assert base_url(local, Settings()) == "http://localhost:8765"
    assert base_url(stranger, Settings()) == ""
    assert log_of(f"{BASE}/results/feeds/outcomes-v2/current.atom", {f"{BASE}/results", ""}) == "outcomes-v2"
    assert hubs_of(f"{BASE}/results", "https://hub.example") == [f"{BASE}/results/hub", "https://hub.example"]
    with pytest.raises(Refused, match="public_url"):
        log_of("http://evil.example/feeds/submissions/current.atom", {""})


def test_the_form_is_bounded() -> None:
    assert len(form(secret="s" * 199, callback=CALLBACK + "a" * 1900)) < MOST_BYTES


# --- when something is due ---


def subscription(**fields: Any) -> Subscription:
    whole = {"topic": TOPIC, "callback": CALLBACK, "log": "submissions", "delivered": 5}
    return Subscription(**({"expires": NOW + timedelta(days=1)} | whole | fields))


def test_a_subscription_is_due_while_there_is_something_new_and_it_has_not_expired() -> None:
    assert is_due(subscription(), 6, NOW)
    assert not is_due(subscription(), 5, NOW)
    assert not is_due(subscription(), 6, NOW + timedelta(days=1))


def test_after_a_failure_it_waits_longer_each_time_and_at_last_for_new_content() -> None:
    """WebSub, 7: up to self-imposed limits; a new update must be tried again."""
    now, failed, pauses = NOW, subscription(expires=NOW + timedelta(days=30)), []
    while is_due(failed, 6, now):
        failed = not_taken(failed, 6, now)
        assert failed.next_try is not None
        assert not is_due(failed, 6, failed.next_try - timedelta(seconds=1))
        pauses.append((failed.next_try - now).total_seconds())
        now = failed.next_try
    assert len(pauses) == TRIES
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
    assert is_due(failed, 7, now), "something new"
    again = not_taken(failed, 7, now)
    assert again.next_try == now + timedelta(seconds=LONGEST_PAUSE_SECONDS)
    assert (again.delivered, again.failures) == (5, TRIES + 1), "what was missed comes along with what is new"
    done = taken(again, 9)
    assert (done.delivered, done.failures, done.next_try) == (9, 0, None)


def test_what_was_delivered_is_never_taken_back() -> None:
    assert taken(subscription(), 3).delivered == 5


# --- how often one may ask ---


def caller(address: str, **headers: str) -> Caller:
    return Caller(address, {name.replace("_", "-"): value for name, value in headers.items()})


def test_a_client_may_ask_some_times_at_once_and_then_as_fast_as_its_allowance_grows() -> None:
    time = 0.0
    allowances = Allowances(per_second=1, at_once=3, clock=lambda: time)
    for _ in range(3):
        allowances.take(caller("192.0.2.1"))
    for _ in range(2):
        with pytest.raises(Refused) as refusal:
            allowances.take(caller("192.0.2.1"))
        assert refusal.value.status == 429
    allowances.take(caller("192.0.2.2"))
    time = 1.0
    allowances.take(caller("192.0.2.1"))
    with pytest.raises(Refused):
        allowances.take(caller("192.0.2.1"))


@pytest.mark.parametrize(
    ("one", "client"),
    [
        (caller("203.0.113.7"), "203.0.113.7"),
        (caller("2001:db8::1"), "2001:db8::/64"),
        (caller("2001:db8::ffff:1"), "2001:db8::/64"),
        (caller("2001:db8:0:1::1"), "2001:db8:0:1::/64"),
        (caller("10.0.0.2", x_forwarded_for="198.51.100.1, 203.0.113.7"), "203.0.113.7"),
        (caller("203.0.113.7", x_forwarded_for="198.51.100.1"), "203.0.113.7"),
        (caller("10.0.0.2", x_forwarded_for="made up"), "10.0.0.2"),
        (caller("10.0.0.2"), "10.0.0.2"),
        (caller(""), ""),
    ],
    ids=str,
)
def test_a_client_is_an_address_or_a_network_and_not_what_a_stranger_says_it_is(one: Caller, client: str) -> None:
    """Only a proxy in our own network is believed, and only what it has added itself: the last."""
    assert client_of(one) == client
