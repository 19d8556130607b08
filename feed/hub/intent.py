"""Whether a callback wants what was asked in its name (WebSub, 5.3), found out after the request was answered.

Until the callback has said so nothing is stored: a flood of requests in other people's names leaves no trace. What is
under way when the process dies is lost, and asked for again by the subscriber, who knows that nobody came to verify.
A callback's address is all that it takes to write to it, so it is logged nowhere, only its host.
"""

import secrets
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import msgspec
import structlog

from feed.hub.requests import Wanted, callback_host, denial_url, intent_url
from feed.hub.subscriptions import Subscriptions, has_expired
from feed.log import LogReader
from infra.fetch import Fetcher, checked_url
from schemas import keys
from schemas.errors import Refused, RunfeedError
from schemas.records import Subscription

MOST_SUBSCRIPTIONS = 10_000
MOST_OF_A_HOST = 100
MOST_WAITING = 64
MOST_WAITING_OF_A_HOST = 4
"""Callbacks to be asked, so that nobody is flooded by us in somebody else's name."""

_THREADS = 8
_ANSWER_BYTES = 1024

_log = structlog.get_logger()


class Intents:
    """Asks callbacks, a few at a time, and keeps or ends subscriptions as they say.

    `is_topic` says whether there is a log of that name; `fetcher_for` gives the way to a callback, by whether it may be
    on this machine.
    """

    def __init__(
        self,
        subscriptions: Subscriptions,
        reader_of: Callable[[str], LogReader],
        is_topic: Callable[[str], bool],
        fetcher_for: Callable[[bool], Fetcher],
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._subscriptions = subscriptions
        self._reader_of = reader_of
        self._is_topic = is_topic
        self._fetcher_for = fetcher_for
        self._clock = clock
        self._waiting: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(_THREADS, "intents")

    def take(self, wanted: Wanted) -> None:
        """See to it soon. Refused 429 if too much waits already."""
        with self._lock:
            if self._waiting.total() >= MOST_WAITING or self._waiting[wanted.host] >= MOST_WAITING_OF_A_HOST:
                raise Refused("hub", "less that waits to be verified", "too much; try again later", status=429)
            self._waiting[wanted.host] += 1
        self._pool.submit(self._see_to, wanted)

    @property
    def waiting(self) -> int:
        """Callbacks that are being asked, or are to be."""
        with self._lock:
            return self._waiting.total()

    def cancel(self) -> None:
        """Forget what waits."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """Forget what waits, and let what is under way finish."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _see_to(self, wanted: Wanted) -> None:
        try:
            self._verify(wanted)
        except RunfeedError as error:
            _log.info("not verified", mode=wanted.mode, host=wanted.host, reason=type(error).__name__)
        except Exception:  # noqa: BLE001 - the outermost loop of this thread
            _log.exception("not verified", mode=wanted.mode, host=wanted.host)
        finally:
            with self._lock:
                self._waiting[wanted.host] -= 1
                self._waiting += Counter()  # forgets hosts of which nothing waits

    def _verify(self, wanted: Wanted) -> None:
        key = keys.subscription(wanted.topic, wanted.callback)
        found, _ = self._subscriptions.read(key)
        if wanted.mode == "unsubscribe":
            if found is not None and self._agrees(wanted):
                self._subscriptions.change(key, lambda _: None)
            return
        reason = "" if found else self._why_not(wanted)
        if reason:
            self._fetcher_for(wanted.local).get(denial_url(wanted, reason), max_bytes=_ANSWER_BYTES)
            _log.info("denied", host=wanted.host, reason=reason)
            return
        # Read before the callback is asked: what comes after its answer is not missed.
        last = self._reader_of(wanted.log).last_seq()
        now = self._clock()
        if self._agrees(wanted):
            self._subscriptions.change(key, lambda found: subscribed(found, wanted, last, now))

    def _why_not(self, wanted: Wanted) -> str:
        """Why there is no new subscription to be had, or ""."""
        if not self._is_topic(wanted.log):
            return "there is no such log"
        known = self._subscriptions.known()
        if len(known) >= MOST_SUBSCRIPTIONS:
            return "there are too many subscriptions"
        of_host = sum(callback_host(one.callback) == wanted.host for one in known.values())
        return "this host has too many subscriptions" if of_host >= MOST_OF_A_HOST else ""

    def _agrees(self, wanted: Wanted) -> bool:
        challenge = secrets.token_urlsafe(32)
        url = intent_url(wanted, challenge)
        answer = self._fetcher_for(wanted.local).get(url, max_bytes=_ANSWER_BYTES)
        direct = answer.url == str(checked_url(url))  # a redirect is no consent
        agrees = direct and 200 <= answer.status < 300 and answer.body == challenge.encode()
        if not agrees:
            _log.info("the callback does not agree", host=wanted.host, status=answer.status)
        return agrees


def subscribed(found: Subscription | None, wanted: Wanted, last: int, now: datetime) -> Subscription:
    """The subscription that was `found`, renewed as `wanted`, or a new one of what comes after `last`."""
    expires = now + timedelta(seconds=wanted.lease_seconds)
    if found is None or has_expired(found, now):
        return Subscription(
            topic=wanted.topic,
            callback=wanted.callback,
            log=wanted.log,
            secret=wanted.secret,
            local=wanted.local,
            expires=expires,
            delivered=last,
        )
    return msgspec.structs.replace(
        found, secret=wanted.secret, local=wanted.local, expires=expires, failures=0, next_try=None
    )
