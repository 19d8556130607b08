"""The subscriber's side of WebSub, against a hub that a test plays, over real HTTP."""

import hashlib
import hmac
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from feed.follow.subscriber import LEASE_SECONDS, Listening, Subscriber, hub_of
from feed.remote.asking import Asker
from infra.again import World
from schemas.errors import Refused

TOPIC = "http://127.0.0.1:1/feeds/submissions/current.atom"


class Hub:
    """Takes requests, and does what its test says."""

    def __init__(self) -> None:
        self.forms: list[dict[str, str]] = []
        self.status = 202
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                hub.forms.append({name: values[0] for name, values in parse_qs(body).items()})
                self.send_response(hub.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hub"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def asks(self, **given: str) -> httpx.Response:
        """Verify what was asked for last; `given` replaces what is asked."""
        form = self.forms[-1]
        query = {
            "hub.mode": form["hub.mode"],
            "hub.topic": form["hub.topic"],
            "hub.challenge": "x1",
            "hub.lease_seconds": form.get("hub.lease_seconds", ""),
        } | {f"hub.{name}": value for name, value in given.items()}
        return httpx.get(form["hub.callback"], params=query, trust_env=False)

    def delivers(self, body: bytes, signature: str, path: str = "") -> int:
        callback = httpx.URL(self.forms[-1]["hub.callback"])
        url = callback.copy_with(path=path) if path else callback
        headers = {"X-Hub-Signature": signature} if signature else {}
        return httpx.post(url, content=body, headers=headers, trust_env=False).status_code

    def signed(self, body: bytes, method: str = "sha256") -> str:
        secret = self.forms[-1]["hub.secret"].encode()
        return f"{method}={hmac.new(secret, body, method).hexdigest()}"


class Subscribed:
    """A subscriber under a test's clock."""

    def __init__(self, hub: Hub) -> None:
        self.now = 1000.0
        self.rings = 0
        self.notes: list[str] = []
        self.asker = Asker(patience_seconds=0, world=World())
        self.subscriber = Subscriber(
            hub.url, TOPIC, None, self.asker, ring=self._ring, on_note=self.notes.append, clock=lambda: self.now
        )

    def _ring(self) -> None:
        self.rings += 1

    def close(self) -> None:
        self.subscriber.close()
        self.asker.close()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with closing(Hub()) as hub:
        yield hub


@pytest.fixture
def subscribed(hub: Hub) -> Iterator[Subscribed]:
    with closing(Subscribed(hub)) as subscribed:
        yield subscribed
        hub.status = 500  # nobody comes to verify the end


def test_a_subscription_holds_once_the_hub_has_verified_it(hub: Hub, subscribed: Subscribed) -> None:
    """The challenge is echoed, and the log is looked at: what came meanwhile is not delivered."""
    assert not subscribed.subscriber.keep_up()
    (form,) = hub.forms
    assert (form["hub.mode"], form["hub.topic"]) == ("subscribe", TOPIC)
    assert int(form["hub.lease_seconds"]) == LEASE_SECONDS
    assert 32 <= len(form["hub.secret"]) < 200
    assert urlsplit(form["hub.callback"]).hostname == "127.0.0.1"
    answer = hub.asks()
    assert (answer.status_code, answer.text) == (200, "x1")
    assert subscribed.rings == 1
    assert subscribed.subscriber.keep_up()
    assert len(hub.forms) == 1


@pytest.mark.parametrize(
    "given",
    [{"topic": "http://127.0.0.1:1/other"}, {"mode": "unsubscribe"}, {"mode": "x"}, {"challenge": ""}],
    ids=["topic", "unsubscribe", "mode", "challenge"],
)
def test_what_was_not_asked_for_is_not_wanted(hub: Hub, subscribed: Subscribed, given: dict[str, str]) -> None:
    """Nobody subscribes us, or ends our subscription, in our name (5.3)."""
    subscribed.subscriber.keep_up()
    assert hub.asks(**given).status_code == 404
    assert not subscribed.subscriber.keep_up()


def test_what_was_verified_is_not_verified_again(hub: Hub, subscribed: Subscribed) -> None:
    subscribed.subscriber.keep_up()
    assert hub.asks().status_code == 200
    assert hub.asks().status_code == 404


@pytest.mark.parametrize("method", ["sha256", "sha384", "sha512"])
def test_a_signed_delivery_rings(hub: Hub, subscribed: Subscribed, method: str) -> None:
    subscribed.subscriber.keep_up()
    assert hub.delivers(b"<feed/>", hub.signed(b"<feed/>", method)) == 204
    _until(lambda: subscribed.rings == 1)


def test_other_deliveries_do_not_ring_and_learn_nothing(hub: Hub, subscribed: Subscribed) -> None:
    """The answer is the same as to a signed one (7.1)."""
    subscribed.subscriber.keep_up()
    right = hub.signed(b"<feed/>")
    sha1 = "sha1=" + hmac.new(hub.forms[-1]["hub.secret"].encode(), b"<feed/>", hashlib.sha1).hexdigest()
    for signature in ("", "sha256=", "sha256=00", right[:-1], right.replace("sha256", "md5"), sha1):
        assert hub.delivers(b"<feed/>", signature) == 204
    assert hub.delivers(b"<other/>", right) == 204
    assert hub.delivers(b"<feed/>", right, path="/guess") == 404
    assert hub.delivers(b"<feed/>", right) == 204
    _until(lambda: subscribed.rings > 0)
    assert subscribed.rings == 1


def test_it_is_renewed_before_it_ends(hub: Hub, subscribed: Subscribed) -> None:
    subscribed.subscriber.keep_up()
    hub.asks(lease_seconds="1000")
    subscribed.now += 799
    assert subscribed.subscriber.keep_up()
    assert len(hub.forms) == 1
    assert subscribed.subscriber.seconds_until_due() == pytest.approx(1)
    subscribed.now += 1
    assert subscribed.subscriber.keep_up()
    assert len(hub.forms) == 2
    assert hub.forms[0]["hub.callback"] == hub.forms[1]["hub.callback"]
    hub.asks(lease_seconds="1000")
    assert subscribed.rings == 1
    subscribed.now += 900
    assert subscribed.subscriber.keep_up()


@pytest.mark.parametrize("lease", ["0", "1"])
def test_a_lease_of_no_time_is_not_renewed_in_a_loop(hub: Hub, subscribed: Subscribed, lease: str) -> None:
    """Whatever the hub says, it is asked about once a minute."""
    subscribed.subscriber.keep_up()
    for asked in (1, 2, 3):
        assert hub.asks(lease_seconds=lease).status_code == 200
        assert subscribed.subscriber.seconds_until_due() == pytest.approx(48)
        for _ in range(5):
            subscribed.now += 9
            assert subscribed.subscriber.keep_up()
        assert len(hub.forms) == asked
        subscribed.now += 9
        assert subscribed.subscriber.keep_up()
        assert len(hub.forms) == asked + 1


def test_it_ends_when_nobody_renews_it(hub: Hub, subscribed: Subscribed) -> None:
    subscribed.subscriber.keep_up()
    hub.asks(lease_seconds="1000")
    hub.status = 503
    subscribed.now += 1001
    assert not subscribed.subscriber.keep_up()
    assert "503" in subscribed.notes[-1]


def test_it_is_asked_for_again_if_nobody_verifies(hub: Hub, subscribed: Subscribed) -> None:
    """After a minute, then two."""
    asked = []
    for _ in range(25):
        subscribed.subscriber.keep_up()
        asked.append(len(hub.forms))
        subscribed.now += 10
    assert [asked.count(number) for number in (1, 2)] == [6, 12]


def test_a_denied_subscription_is_told(hub: Hub, subscribed: Subscribed) -> None:
    subscribed.subscriber.keep_up()
    assert hub.asks(mode="denied", reason="too many").status_code == 200
    assert "too many" in subscribed.notes[-1]
    subscribed.now += 600
    assert not subscribed.subscriber.keep_up()
    assert len(hub.forms) == 1


def test_the_end_is_told_to_the_hub(hub: Hub) -> None:
    ending = Subscribed(hub)
    ending.subscriber.keep_up()
    hub.asks()
    verifying = threading.Thread(target=lambda: (_until(lambda: len(hub.forms) == 2), hub.asks()))
    verifying.start()
    ending.close()
    verifying.join()
    assert hub.forms[1]["hub.mode"] == "unsubscribe"
    assert hub.forms[1]["hub.callback"] == hub.forms[0]["hub.callback"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(hub.forms[0]["hub.callback"], trust_env=False)


def test_the_address_that_others_reach_may_be_another(hub: Hub) -> None:
    """Behind a proxy that passes on what is below that path."""
    asker = Asker()
    listening = Listening("https://me.example/hook/", "127.0.0.1", 0)
    subscriber = Subscriber(hub.url, TOPIC, listening, asker, ring=lambda: None, on_note=pytest.fail)
    subscriber.keep_up()
    subscriber.close()
    asker.close()
    assert hub.forms[0]["hub.callback"].startswith("https://me.example/hook/")


def test_a_port_that_is_taken_is_refused(hub: Hub) -> None:
    port = urlsplit(hub.url).port or 0
    with closing(Asker()) as asker, pytest.raises(Refused, match="an address and a port that are free"):
        Subscriber(
            hub.url, TOPIC, Listening("http://me.example", "127.0.0.1", port), asker, ring=pytest.fail, on_note=print
        )


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ('<http://a/hub>; rel="hub", <http://a/f>; rel="self"', ("http://a/hub", "http://a/f")),
        ("<http://a/f>; rel=self, <http://a/hub>; rel=hub", ("http://a/hub", "http://a/f")),
        ('<http://a/hub>; rel="hub"', None),
        ('<http://a/f>; rel="self"', None),
        ('<file:///hub>; rel="hub", <http://a/f>; rel="self"', None),
        ("", None),
    ],
)
def test_a_head_names_its_hub(link: str, expected: object) -> None:
    assert hub_of({"link": link}) == expected


def _until(holds: Any) -> None:
    for _ in range(500):
        if holds():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never happened")
